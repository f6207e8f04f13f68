/* SPDX-License-Identifier: MIT */
/*
 * The frames of a memory node are one reservation of address space whose policy prefers
 * the node. A COHERENT memory lends them to the core, which moves them into the program's
 * mappings and back.
 *
 * The policy prefers and does not bind, because a process that touches bound memory of a
 * full node is killed. So frames are populated explicitly, and looked at: what the kernel had to
 * take from elsewhere is given back, and the node counts as full.
 *
 * While a frame is in the program's mapping others may move it: automatic NUMA balancing,
 * migratepages(8), the kernel when it removes memory, or fork(), after which the side that writes
 * first gets a copy. So frames that come back are looked at too, and strays moved back.
 *
 * Invariants: a frame that was populated is on the node until it is lent. A place whose frame
 * is lent stays empty: nothing here touches places, it only asks the kernel about them.
 * Locks: none.
 */
#include "frames.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "nodes.h"

#define BATCH	       UMM_BLOCK_PAGES
#define POLICY_NODES   1024
#define POLICY_WORDS   (POLICY_NODES / (8 * sizeof(unsigned long)))
#define POLICY_UNTAKEN (-1)

/* What the thread's policy was. Not to be allocated when first used: that may be on a fault. */
static _Thread_local struct {
	int mode;
	unsigned long mask[POLICY_WORDS];
} before __attribute__((tls_model("initial-exec")));

static int frames_map(struct frames *frames, size_t len)
{
	uintptr_t base;

	frames->mapped_len = len + UMM_BLOCK_SIZE;
	frames->mapped = mmap(NULL, frames->mapped_len, PROT_READ | PROT_WRITE,
			      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (frames->mapped == MAP_FAILED)
		return -ENOMEM;
	base = ((uintptr_t)frames->mapped + UMM_BLOCK_SIZE - 1) & ~(UMM_BLOCK_SIZE - 1);
	frames->base = (char *)frames->mapped + (base - (uintptr_t)frames->mapped);
	madvise(frames->base, len, MADV_HUGEPAGE);
	/* A forked process has no business with it, and would make the frames shared. */
	madvise(frames->mapped, frames->mapped_len, MADV_DONTFORK);
	return 0;
}

int frames_init(struct frames *frames, const struct library *library, int node, bool alone,
		uint32_t nframes)
{
	size_t len = (size_t)nframes << UMM_PAGE_SHIFT;
	int ret;

	memset(frames, 0, sizeof(*frames));
	frames->library = library;
	frames->node = node;
	frames->alone = alone;
	frames->nframes = nframes;
	frames->mask = library->nodemask();
	if (!frames->mask)
		return -ENOMEM;
	library->set_bit(frames->mask, (unsigned)node);
	ret = frames_map(frames, len);
	if (ret)
		goto err_mask;
	if (library->mbind(frames->base, len, MPOL_PREFERRED, frames->mask->maskp,
			   frames->mask->size + 1, 0)) {
		ret = -errno;
		umm_log(UMM_LOG_ERROR, "node %d: mbind: %s", node, strerror(-ret));
		ret = ret == -EINVAL || ret == -EPERM ? -ENODEV : ret;
		goto err_map;
	}
	return 0;

err_map:
	munmap(frames->mapped, frames->mapped_len);
err_mask:
	library->free_mask(frames->mask);
	return ret;
}

void frames_fini(struct frames *frames)
{
	munmap(frames->mapped, frames->mapped_len);
	frames->library->free_mask(frames->mask);
}

/* The pages of a run; at most BATCH. */
static void run_pages(const struct frames *frames, uint32_t frame, uint32_t n, void **pages)
{
	for (uint32_t i = 0; i < n; i++)
		pages[i] = frames_at(frames, frame + i);
}

/* How many of them are on other nodes: those pages come first in pages[]. */
static uint32_t strays(const struct frames *frames, uint32_t n, void **pages)
{
	int status[BATCH];
	uint32_t nstrays = 0;

	if (frames->library->move_pages(0, n, pages, NULL, status, 0))
		return 0;
	for (uint32_t i = 0; i < n; i++)
		if (status[i] >= 0 && status[i] != frames->node)
			pages[nstrays++] = pages[i];
	return nstrays;
}

static void tell_full(struct frames *frames)
{
	if (!atomic_exchange(&frames->told_full, true))
		umm_log(UMM_LOG_WARNING,
			"node %d is full after %llu MiB: pages stay where they are, or others are "
			"evicted. Free memory there ('numactl -H'), or ask for a smaller pool",
			frames->node, (unsigned long long)atomic_load(&frames->taken) >> 8);
}

static int refuse(struct frames *frames, uint32_t nframes)
{
	atomic_fetch_add(&frames->refused, nframes);
	if (!atomic_load(&frames->offline))
		tell_full(frames);
	return -ENOSPC;
}

int frames_populate(struct frames *frames, uint32_t frame, uint32_t nframes)
{
	size_t len = (size_t)nframes << UMM_PAGE_SHIFT;
	void *at = frames_at(frames, frame), *pages[BATCH];

	/* Rather than to let the kernel clear pages of another node, only to give them back. */
	if (atomic_load(&frames->offline) ||
	    (!frames->alone && node_free_bytes(frames->node) < len))
		return refuse(frames, nframes);
	if (madvise(at, len, MADV_POPULATE_WRITE))
		return errno == ENOMEM || errno == EFAULT ? refuse(frames, nframes) : -ENOMEM;
	run_pages(frames, frame, nframes, pages);
	if (strays(frames, nframes, pages)) {
		madvise(at, len, MADV_DONTNEED);
		return refuse(frames, nframes);
	}
	atomic_fetch_add(&frames->taken, nframes);
	atomic_store(&frames->told_full, false);
	return 0;
}

static void check_batch(struct frames *frames, uint32_t frame, uint32_t n)
{
	int nodes[BATCH], status[BATCH];
	void *pages[BATCH];
	uint32_t nstrays, returned = 0;

	run_pages(frames, frame, n, pages);
	nstrays = atomic_load(&frames->offline) ? 0 : strays(frames, n, pages);
	atomic_fetch_add(&frames->checked, n);
	if (!nstrays)
		return;
	atomic_fetch_add(&frames->strayed, nstrays);
	for (uint32_t i = 0; i < nstrays; i++)
		nodes[i] = frames->node;
	if (frames->library->move_pages(0, nstrays, pages, nodes, status, MPOL_MF_MOVE) < 0)
		return;
	for (uint32_t i = 0; i < nstrays; i++)
		returned += status[i] == frames->node;
	atomic_fetch_add(&frames->returned, returned);
}

void frames_check(struct frames *frames, uint32_t frame, uint32_t nframes)
{
	uint32_t n;

	for (; nframes; nframes -= n, frame += n) {
		n = nframes < BATCH ? nframes : BATCH;
		check_batch(frames, frame, n);
	}
}

uint32_t frames_move(struct frames *frames, uint32_t n, const uint32_t *list, int node)
{
	int nodes[BATCH], status[BATCH];
	uint32_t moved = 0, part;
	void *pages[BATCH];

	for (; n; n -= part, list += part) {
		part = n < BATCH ? n : BATCH;
		for (uint32_t i = 0; i < part; i++) {
			pages[i] = frames_at(frames, list[i]);
			nodes[i] = node;
		}
		if (frames->library->move_pages(0, part, pages, nodes, status, MPOL_MF_MOVE) < 0)
			continue;
		for (uint32_t i = 0; i < part; i++)
			moved += status[i] == node;
	}
	return moved;
}

void frames_place_begin(const struct frames *frames)
{
	before.mode = POLICY_UNTAKEN;
	if (frames->alone ||
	    frames->library->get_mempolicy(&before.mode, before.mask, POLICY_NODES + 1, NULL, 0)) {
		before.mode = POLICY_UNTAKEN;
		return;
	}
	if (frames->library->set_mempolicy(MPOL_PREFERRED, frames->mask->maskp,
					   frames->mask->size + 1))
		before.mode = POLICY_UNTAKEN;
}

void frames_place_end(const struct frames *frames)
{
	if (before.mode != POLICY_UNTAKEN)
		frames->library->set_mempolicy(before.mode, before.mask, POLICY_NODES + 1);
}
