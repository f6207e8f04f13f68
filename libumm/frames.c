/* SPDX-License-Identifier: MIT */
/*
 * Requests about frames, not addresses: emptying a part of a device memory, and frames that are
 * gone for good. Which page has a frame is not recorded; the blocks that have pages in the memory
 * are looked through, which is slow enough for what is rare.
 *
 * A frame that failed is marked first, so that no page gets it any more (commit.c looks), and its
 * page is found afterwards: either the page is there, or it never arrives. The page
 * leaves as a piece that goes home, only that nothing is copied and all of it counts as lost.
 *
 * Locks: the block's, to look; none while pages move or mirrors are told.
 */
#include <errno.h>
#include <string.h>

#include "batch.h"
#include "log.h"
#include "pin.h"
#include "piece.h"
#include "signals.h"
#include "util.h"

/* How long a page is waited for that somebody has in flight, before looking again. */
#define SETTLE_NS UINT64_C(100000000)
/* What others hold in the kernel (direct I/O) is tried so often. */
#define HELD_TRIES 50

struct frames {
	struct umm_devmem *mem;
	uint32_t first, end;
};

/* The pages of the block at va that are in these frames. False: none. */
static bool frames_find(const struct frames *frames, uintptr_t va, uint64_t *pages)
{
	struct block *block = block_find(frames->mem->ctx, va);
	struct resident *resident = block ? resident_find(block, frames->mem) : NULL;
	uint32_t frame;

	memset(pages, 0, BITMAP_WORDS * sizeof(*pages));
	for (unsigned i = 0; resident && i < UMM_BLOCK_PAGES; i++) {
		frame = resident_frame(resident, i);
		if (bit_test(resident->bitmap, i) && frame >= frames->first && frame < frames->end)
			bit_set(pages, i);
	}
	if (block)
		lock_drop(&block->lock);
	return bit_any(pages);
}

static int frames_check(struct umm_devmem *mem, uint32_t frame, uint32_t nframes)
{
	if (!devmem_valid(mem) || !nframes || frame >= mem->nframes ||
	    nframes > mem->nframes - frame)
		return -EINVAL;
	if (ctx_is_forked(mem->ctx))
		return -ENODEV;
	if (notifier_in_callback())
		return -EDEADLK;
	ctx_pass_gate(mem->ctx);
	return devmem_use(mem);
}

/* What is done with pages of one block: how many it was, or -errno to be told in the end. */
typedef long (*frames_fn)(const struct frames *frames, uintptr_t va, const uint64_t *pages);

/* Each block that has pages in these frames once, also if it has some afterwards: no block is
 * asked for twice, unless an eviction asks for it meanwhile. */
static long frames_each(const struct frames *frames, frames_fn fn)
{
	uint64_t pages[BITMAP_WORDS];
	struct order_want want = devmem_evict_want(frames->mem, UINT64_MAX, 0);
	uintptr_t va;
	long n = 0, ret;
	int error = 0;

	while (devmem_victim(frames->mem, &want, &va)) {
		if (!frames_find(frames, va, pages))
			continue;
		ret = fn(frames, va, pages);
		n += max(ret, 0L);
		error = ret < 0 ? (int)ret : error;
	}
	return error ? error : n;
}

/* ------------------------------------------------------------------------
 * Going home
 */

static long bring_home(const struct frames *frames, uintptr_t va, const uint64_t *pages)
{
	struct batch_want want = {
		.src = frames->mem,
		.cause = UMM_CAUSE_EXPLICIT,
		.may_stay = true,
	};
	struct umm_span spans[UMM_BLOCK_PAGES / 2];
	unsigned first, last;
	size_t nspans = 0;

	for_each_run(pages, first, last) spans[nspans++] = (struct umm_span){
		.start = va + ((uintptr_t)first << UMM_PAGE_SHIFT),
		.len = (size_t)(last - first) << UMM_PAGE_SHIFT,
	};
	return batch_move(frames->mem->ctx, spans, nspans, &want);
}

long umm_migrate_device_range(struct umm_devmem *mem, uint32_t frame, uint32_t nframes)
{
	struct frames frames = { .mem = mem, .first = frame, .end = frame + nframes };
	long ret = frames_check(mem, frame, nframes);

	if (ret)
		return ret;
	ret = frames_each(&frames, bring_home);
	devmem_unuse(mem);
	return ret;
}

/* ------------------------------------------------------------------------
 * Gone for good
 */

/* The piece loses what it has of the memory. Copies of duplicated pages just end. */
static unsigned lose(struct piece *piece)
{
	unsigned n;

	piece_unmap(piece);
	for (unsigned w = 0; w < BITMAP_WORDS; w++)
		piece->lost[w] = (piece->device[w] | piece->coherent[w]) & ~piece->stay[w];
	n = bit_count(piece->lost);
	piece_commit(piece);
	piece_finish(piece);
	return n;
}

/* Collect them, as far as nobody has them in flight. How many were lost, or -EAGAIN. */
static long lose_some(const struct frames *frames, uintptr_t va, const uint64_t *pages)
{
	struct umm_ctx *ctx = frames->mem->ctx;
	struct piece_want want = {
		.va = va,
		.pages = pages,
		.src = frames->mem,
		.select = UMM_MIGRATE_SELECT_PRIVATE | UMM_MIGRATE_SELECT_COHERENT,
		.cause = UMM_CAUSE_EXPLICIT,
		.blockable = true,
		.failed = true,
	};
	struct piece_found found;
	struct piece *piece;
	unsigned first, last;
	int ret;
	long n;

	/* Pinned or not. */
	for_each_run(pages, first, last) pins_forget(ctx, va + ((uintptr_t)first << UMM_PAGE_SHIFT),
						     va + ((uintptr_t)last << UMM_PAGE_SHIFT));
	signals_hold();
	piece = piece_collect(ctx, &want, &found, &ret);
	n = piece ? (long)lose(piece) : ret;
	signals_let();
	if (!piece && found.busy)
		ctx_settle_wait(ctx, found.settled, now_ns() + SETTLE_NS);
	return n;
}

static long lose_pages(const struct frames *frames, uintptr_t va, const uint64_t *pages)
{
	uint64_t left[BITMAP_WORDS];
	struct patience patience = { 0 };
	unsigned tries = 0;
	long n = 0, ret;

	memcpy(left, pages, sizeof(left));
	do {
		ctx_still_waiting(&patience, va);
		ret = lose_some(frames, va, left);
		n += max(ret, 0L);
		tries += ret == 0;
	} while (frames_find(frames, va, left) && tries < HELD_TRIES && ret >= 0);
	if (bit_any(left))
		log_error("pages at %#lx are held in the kernel, and stay in frames that failed",
			  (unsigned long)va);
	return ret < 0 ? ret : n;
}

/* Mark them, and tell the device of those that nobody has told of before. */
static void fail_frames(const struct frames *frames)
{
	struct umm_devmem *mem = frames->mem;
	struct umm_device *dev = mem->dev;

	for (uint32_t f = frames->first; f < frames->end; f++)
		if (devmem_fail(mem, f) && dev->ops.memory_failure)
			dev->ops.memory_failure(dev->priv, mem, f);
}

long umm_memory_failure(struct umm_devmem *mem, uint32_t frame, uint32_t nframes)
{
	struct frames frames = { .mem = mem, .first = frame, .end = frame + nframes };
	long ret = frames_check(mem, frame, nframes);

	if (ret)
		return ret;
	fail_frames(&frames);
	ret = frames_each(&frames, lose_pages);
	devmem_unuse(mem);
	return ret;
}
