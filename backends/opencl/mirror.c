/* SPDX-License-Identifier: MIT */
/*
 * Keeps the page table right. Entries come in here, between rounds, by the protocol
 * of umm.h (read_begin, snapshot, lock, read_retry); they go in the invalidate
 * callback. The device's copy is brought up to date when a round begins.
 *
 *	launching thread			a thread that changes pages
 *
 *	running = true
 *	upload, run the kernel			invalidate(): entries in the range?
 *	.					wait for the end of the round
 *	running = false				.
 *	serve faults, or wait for it		clear the entries
 *						(the core goes on)
 *	running = true
 *
 * An invalidation that finds no entry in its range does not wait: pages on their way
 * to this device are not in its table, so that the launching thread never waits for
 * itself when it migrates them; and when it evicts others to make room, no round
 * runs. A round waits for nothing but the device, so waiting for its end is safe
 * wherever blocking is allowed. A kernel whose work-items wait for pages may wait for
 * this very change; so that is stopped first (attend.h). Owners are not looked at: whatever is in
 * the table and changes is forgotten.
 *
 * Invariant: while running, entries come at most, for pages that had none, and the table equals the
 * device's copy.
 *
 * Locks: umm_opencl.update, never held while libumm is called.
 */
#include <errno.h>

#include "attend.h"

#define PROGRAM_TRIES 64
#define PROBE_MS      100

static int mirror_invalidate(void *priv, const struct umm_notifier_range *range)
{
	struct umm_opencl *ocl = priv;
	int ret = 0;

	pthread_mutex_lock(&ocl->update);
	if (!table_any(&ocl->table, range->start, range->end))
		goto out;
	if (ocl->running && !range->blockable) {
		ret = -EAGAIN;
		goto out;
	}
	ocl->invalidators++;
	if (ocl->running)
		attend_stop_locked(ocl);
	while (ocl->running)
		pthread_cond_wait(&ocl->changed, &ocl->update);
	table_clear(&ocl->table, range->start, range->end);
	if (!--ocl->invalidators)
		pthread_cond_broadcast(&ocl->changed);
out:
	pthread_mutex_unlock(&ocl->update);
	return ret;
}

/* Nothing is left to forget: launches have ended, and the table goes with the device. */
static void mirror_release(void *priv)
{
	(void)priv;
}

int mirror_round_begin(struct umm_opencl *ocl)
{
	int ret = 0;

	pthread_mutex_lock(&ocl->update);
	while (ocl->invalidators)
		pthread_cond_wait(&ocl->changed, &ocl->update);
	if (ocl->gone)
		ret = -ENODEV;
	else
		ocl->running = true;
	pthread_mutex_unlock(&ocl->update);
	return ret;
}

void mirror_round_end(struct umm_opencl *ocl)
{
	pthread_mutex_lock(&ocl->update);
	ocl->running = false;
	pthread_cond_broadcast(&ocl->changed);
	pthread_mutex_unlock(&ocl->update);
}

static uint32_t entry_of(const struct umm_opencl *ocl, uint64_t entry)
{
	uint32_t bits = TABLE_VALID;

	if (!(entry & UMM_ENTRY_VALID) || !(entry & UMM_ENTRY_DEVICE))
		return 0;
	if (entry & UMM_ENTRY_WRITE)
		bits |= TABLE_WRITE;
	return bits | pools_entry(&ocl->pools, UMM_ENTRY_FRAME(entry));
}

/* A round runs: entries come, if nothing moves for them, and neither change nor go. */
static int set_running_locked(struct umm_opencl *ocl, uintptr_t addr, uint32_t entry)
{
	int ret;

	if (!entry || !attend_may_set_locked(ocl, addr))
		return 0;
	ret = table_set(&ocl->table, addr, entry);
	if (!ret)
		attend_publish_locked(ocl, addr);
	return ret;
}

/* Entries from addr on, of one block. */
static int set_locked(struct umm_opencl *ocl, uintptr_t addr, const uint32_t *entries,
		      uint32_t count)
{
	int ret = 0;

	if (!ocl->running)
		return table_set_pages(&ocl->table, addr, entries, count);
	for (uint32_t i = 0; i < count && !ret; i++)
		ret = set_running_locked(ocl, addr + ((uintptr_t)i << UMM_PAGE_SHIFT), entries[i]);
	return ret;
}

/* -EAGAIN: the answer grew stale. */
static int program_locked(struct umm_opencl *ocl, const struct umm_range *range)
{
	uint32_t npages = (uint32_t)((range->end - range->start) >> UMM_PAGE_SHIFT);
	uint32_t entries[UMM_BLOCK_PAGES];

	if (umm_notifier_read_retry(range->notifier, range->seq))
		return -EAGAIN;
	for (uint32_t i = 0; i < npages; i++)
		entries[i] = entry_of(ocl, range->entries[i]);
	return set_locked(ocl, range->start, entries, npages);
}

int mirror_program(struct umm_opencl *ocl, uintptr_t start, uintptr_t end)
{
	uint64_t entries[UMM_BLOCK_PAGES] = { 0 };
	struct umm_range range = {
		.size = sizeof(range),
		.notifier = umm_mirror_notifier(ocl->mirror),
		.start = start,
		.end = end,
		.entries = entries,
		.owner = ocl->dev,
		.mem = ocl->mem,
	};
	int ret = -EAGAIN;
	long count;

	for (int try = 0; try < PROGRAM_TRIES && ret == -EAGAIN; try++) {
		range.seq = umm_notifier_read_begin(range.notifier);
		count = umm_range_snapshot(&range);
		if (count == -EBUSY)
			continue;
		if (count < 0)
			return (int)count;
		pthread_mutex_lock(&ocl->update);
		ret = program_locked(ocl, &range);
		pthread_mutex_unlock(&ocl->update);
	}
	return ret;
}

int mirror_probe(struct umm_opencl *ocl, uintptr_t page, bool write)
{
	struct umm_page_info info = { .state = UMM_PAGE_UNMANAGED };
	uint64_t entry = 0;
	struct umm_range range = {
		.size = sizeof(range),
		.notifier = umm_mirror_notifier(ocl->mirror),
		.start = page,
		.end = page + UMM_PAGE_SIZE,
		.entries = &entry,
		.default_flags = UMM_ENTRY_REQ_FAULT | (write ? UMM_ENTRY_REQ_WRITE : 0),
		.owner = ocl->dev,
		.mem = ocl->mem,
	};
	long ret;

	if (umm_query(ocl->ctx, page, 1, &info) || info.state == UMM_PAGE_UNMANAGED ||
	    info.state == UMM_PAGE_POISONED)
		return -EFAULT;
	range.seq = umm_notifier_read_begin(range.notifier);
	ret = umm_range_fault(&range, PROBE_MS);
	return ret == -EFAULT || ret == -EPERM ? (int)ret : 0;
}

const struct umm_mirror_ops mirror_ops = {
	.size = sizeof(struct umm_mirror_ops),
	.invalidate = mirror_invalidate,
	.release = mirror_release,
};
