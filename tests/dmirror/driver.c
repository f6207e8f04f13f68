/* SPDX-License-Identifier: MIT */
/*
 * The ioctls: what a program may ask of the device.
 *
 * As in the kernel, memory of the program is reached by functions that answer EFAULT, and
 * data goes through a bounce buffer: the program sees all of an answer or nothing.
 */
#include "driver.h"

#include <errno.h>
#include <string.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#include "abi.h"
#include "device.h"
#include "migrate.h"
#include "mirror.h"
#include "pages.h"
#include "umm.h"

static int copy_from_user(void *to, uint64_t from, size_t len)
{
	struct iovec local = { .iov_base = to, .iov_len = len };
	struct iovec remote = { .iov_base = (void *)(uintptr_t)from, .iov_len = len };

	return process_vm_readv(getpid(), &local, 1, &remote, 1, 0) == (ssize_t)len ? 0 : -EFAULT;
}

static int copy_to_user(uint64_t to, const void *from, size_t len)
{
	struct iovec local = { .iov_base = (void *)(uintptr_t)from, .iov_len = len };
	struct iovec remote = { .iov_base = (void *)(uintptr_t)to, .iov_len = len };

	return process_vm_writev(getpid(), &local, 1, &remote, 1, 0) == (ssize_t)len ? 0 : -EFAULT;
}

static uintptr_t cmd_end(const struct dmirror_cmd *cmd)
{
	return cmd->addr + (cmd->npages << UMM_PAGE_SHIFT);
}

/* ---- the device reads and writes -------------------------------------------------- */

typedef size_t copy_fn(struct mirror *mirror, uintptr_t addr, char *buf, size_t npages);

/* Copy, and fault in all of the rest wherever a page is missing. */
static int copy_faulting(struct mirror *mirror, struct dmirror_cmd *cmd, char *buf, copy_fn *copy)
{
	uintptr_t at = cmd->addr;
	size_t n;
	int ret;

	mirror_settle(mirror);
	for (;;) {
		n = copy(mirror, at, buf, cmd->npages - cmd->cpages);
		cmd->cpages += n;
		buf += n << UMM_PAGE_SHIFT;
		at += n << UMM_PAGE_SHIFT;
		if (cmd->cpages == cmd->npages)
			return 0;
		ret = mirror_fault(mirror, at, cmd_end(cmd), copy == mirror_write);
		if (ret)
			return ret;
		cmd->faults++;
	}
}

static int do_read(struct mirror *mirror, struct dmirror_cmd *cmd)
{
	char *bounce = pages_alloc(cmd->npages << UMM_PAGE_SHIFT);
	int ret;

	if (!bounce)
		return -ENOMEM;
	ret = copy_faulting(mirror, cmd, bounce, mirror_read);
	if (ret == 0)
		ret = copy_to_user(cmd->ptr, bounce, cmd->npages << UMM_PAGE_SHIFT);
	pages_free(bounce, cmd->npages << UMM_PAGE_SHIFT);
	return ret;
}

static int do_write(struct mirror *mirror, struct dmirror_cmd *cmd)
{
	char *bounce = pages_alloc(cmd->npages << UMM_PAGE_SHIFT);
	int ret;

	if (!bounce)
		return -ENOMEM;
	ret = copy_from_user(bounce, cmd->ptr, cmd->npages << UMM_PAGE_SHIFT);
	if (ret == 0)
		ret = copy_faulting(mirror, cmd, bounce, mirror_write);
	pages_free(bounce, cmd->npages << UMM_PAGE_SHIFT);
	return ret;
}

/* Show the program what the device sees, without faulting anything in. */
static int read_back(struct mirror *mirror, struct dmirror_cmd *cmd)
{
	char *bounce = pages_alloc(cmd->npages << UMM_PAGE_SHIFT);
	int ret;

	if (!bounce)
		return -ENOMEM;
	cmd->cpages = mirror_read(mirror, cmd->addr, bounce, cmd->npages);
	ret = cmd->cpages == cmd->npages ?
		      copy_to_user(cmd->ptr, bounce, cmd->npages << UMM_PAGE_SHIFT) :
		      -ENOENT;
	pages_free(bounce, cmd->npages << UMM_PAGE_SHIFT);
	return ret;
}

/* ---- migration, exclusive access -------------------------------------------------- */

static int do_migrate_to_device(struct mirror *mirror, struct dmirror_cmd *cmd)
{
	int ret;

	ret = migrate_to_device(mirror->device, cmd->addr, cmd_end(cmd));
	if (ret == 0)
		ret = mirror_map_own(mirror, cmd->addr, cmd_end(cmd));
	return ret ? ret : read_back(mirror, cmd);
}

static int do_migrate_to_system(struct mirror *mirror, struct dmirror_cmd *cmd)
{
	long ret = migrate_to_system(mirror->device, cmd->addr, cmd_end(cmd));

	if (ret < 0)
		return (int)ret;
	cmd->cpages = (uint64_t)ret;
	return 0;
}

static int do_exclusive(struct mirror *mirror, struct dmirror_cmd *cmd)
{
	int ret = mirror_make_exclusive(mirror, cmd->addr, cmd_end(cmd));

	return ret ? ret : read_back(mirror, cmd);
}

static int do_check_exclusive(struct mirror *mirror, struct dmirror_cmd *cmd)
{
	return mirror_has_exclusive(mirror, cmd->addr, cmd_end(cmd)) ? -EPERM : 0;
}

/* ---- snapshots -------------------------------------------------------------------- */

static unsigned char page_home(const struct mirror *mirror, const struct batch *batch, size_t i)
{
	uint64_t entry = batch->entries[i];
	bool own = mirror_is_own(mirror, batch, i);

	if (entry & UMM_ENTRY_DEVICE)
		return own ? PROT_PRIVATE_LOCAL : PROT_PRIVATE_REMOTE;
	if (entry & UMM_ENTRY_COHERENT)
		return own ? PROT_COHERENT_LOCAL : PROT_COHERENT_REMOTE;
	return entry & UMM_ENTRY_ZERO ? PROT_ZERO_PAGE : PROT_NOTHING;
}

/* How large the mapping is that the page is of. */
static unsigned char page_order(uint64_t entry)
{
	switch (UMM_ENTRY_ORDER(entry) + UMM_PAGE_SHIFT) {
	case 21:
		return PROT_HUGE_2M;
	case 30:
		return PROT_HUGE_1G;
	default:
		return PROT_NOTHING;
	}
}

static unsigned char page_prot(const struct mirror *mirror, const struct batch *batch, size_t i)
{
	uint64_t entry = batch->entries[i];
	unsigned char prot;

	if (entry & UMM_ENTRY_ERROR)
		return PROT_BAD;
	if (!(entry & UMM_ENTRY_VALID))
		return PROT_NOTHING;
	prot = page_home(mirror, batch, i);
	prot |= entry & UMM_ENTRY_WRITE ? PROT_WRITABLE : PROT_READABLE;
	return prot | page_order(entry);
}

/* A snapshot has no table to clear: the core counts the invalidation, and that is all. */
static int snapshot_invalidate(void *priv, const struct umm_notifier_range *range)
{
	(void)priv;
	(void)range;
	return 0;
}

static const struct umm_notifier_ops snapshot_ops = {
	.size = sizeof(struct umm_notifier_ops),
	.invalidate = snapshot_invalidate,
};

/* One batch, by a notifier of its own: what happens elsewhere does not make it start over. */
static int snapshot_batch(struct mirror *mirror, struct batch *batch, unsigned char *prot)
{
	struct umm_range *range = &batch->range;
	struct umm_span span = { .start = range->start, .len = range->end - range->start };
	int ret;

	ret = umm_notifier_insert(mirror->device->ctx, &span, &snapshot_ops, NULL,
				  &range->notifier);
	if (ret)
		return ret;
	ret = mirror_look_and_lock(mirror, batch);
	if (ret == 0) {
		for (size_t i = 0; i < batch_npages(range->start, range->end); i++)
			prot[i] = page_prot(mirror, batch, i);
		quiet_unlock(&mirror->lock);
	}
	umm_notifier_remove(range->notifier);
	return ret;
}

static int do_snapshot(struct mirror *mirror, struct dmirror_cmd *cmd)
{
	struct batch batch = { .range.flags = UMM_RANGE_PAGEMAP };
	unsigned char prot[BATCH_PAGES];
	uintptr_t end = cmd_end(cmd);
	size_t n;
	int ret;

	for (uintptr_t at = cmd->addr; at < end; at = batch.range.end) {
		batch.range.start = at;
		batch.range.end = batch_end(at, end);
		n = batch_npages(at, batch.range.end);
		ret = snapshot_batch(mirror, &batch, prot);
		if (ret == 0)
			ret = copy_to_user(cmd->ptr + cmd->cpages, prot, n);
		if (ret)
			return ret;
		cmd->cpages += n;
	}
	return 0;
}

static int do_release(struct mirror *mirror, struct dmirror_cmd *cmd)
{
	(void)cmd;
	device_memory_release(mirror->device);
	return 0;
}

/* ---- dispatch --------------------------------------------------------------------- */

static int driver_do(struct mirror *mirror, uint32_t request, struct dmirror_cmd *cmd)
{
	switch (request) {
	case DMIRROR_READ:
		return do_read(mirror, cmd);
	case DMIRROR_WRITE:
		return do_write(mirror, cmd);
	case DMIRROR_MIGRATE_TO_DEV:
		return do_migrate_to_device(mirror, cmd);
	case DMIRROR_MIGRATE_TO_SYS:
		return do_migrate_to_system(mirror, cmd);
	case DMIRROR_SNAPSHOT:
		return do_snapshot(mirror, cmd);
	case DMIRROR_EXCLUSIVE:
		return do_exclusive(mirror, cmd);
	case DMIRROR_CHECK_EXCLUSIVE:
		return do_check_exclusive(mirror, cmd);
	case DMIRROR_RELEASE:
		return do_release(mirror, cmd);
	default:
		return -EINVAL;
	}
}

int driver_ioctl(struct mirror *mirror, uint32_t request, void *arg)
{
	struct dmirror_cmd cmd;
	int ret;

	ret = copy_from_user(&cmd, (uintptr_t)arg, sizeof(cmd));
	if (ret)
		return ret;
	if (cmd.addr % UMM_PAGE_SIZE || cmd.npages > UINT64_MAX >> UMM_PAGE_SHIFT ||
	    cmd_end(&cmd) <= cmd.addr)
		return -EINVAL;
	cmd.cpages = 0;
	cmd.faults = 0;
	ret = driver_do(mirror, request, &cmd);
	return ret ? ret : copy_to_user((uintptr_t)arg, &cmd, sizeof(cmd));
}

/* ---- gup_test --------------------------------------------------------------------- */

static uint64_t now_usec(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000 + (uint64_t)ts.tv_nsec / 1000;
}

/* Pin all of it, let it go again. */
static int gup_do(struct umm_ctx *ctx, struct gup_cmd *cmd, uint64_t flags)
{
	uint64_t begin = now_usec(), pinned;
	struct umm_pin *pin;
	int ret;

	ret = umm_pin(ctx, cmd->addr, cmd->size >> UMM_PAGE_SHIFT, flags, &pin);
	if (ret)
		return ret;
	pinned = now_usec();
	umm_unpin(pin);
	cmd->get_usec = pinned - begin;
	cmd->put_usec = now_usec() - pinned;
	return 0;
}

int driver_gup_ioctl(struct umm_ctx *ctx, uint32_t request, void *arg)
{
	struct gup_cmd cmd;
	uint64_t flags = 0;
	int ret;

	if (request != GUP_BASIC && request != GUP_FAST && request != PIN_BASIC &&
	    request != PIN_FAST && request != PIN_LONGTERM)
		return -EINVAL;
	ret = copy_from_user(&cmd, (uintptr_t)arg, sizeof(cmd));
	if (ret)
		return ret;
	if (cmd.gup_flags & GUP_WRITE)
		flags |= UMM_PIN_WRITE;
	if (cmd.gup_flags & GUP_LONGTERM || request == PIN_LONGTERM)
		flags |= UMM_PIN_LONGTERM;
	ret = gup_do(ctx, &cmd, flags);
	return ret ? ret : copy_to_user((uintptr_t)arg, &cmd, sizeof(cmd));
}
