/* SPDX-License-Identifier: MIT */
/*
 * Marks. The kernel tells only of registered memory, and memory that no device has used yet is not
 * registered, so that it costs nothing. A hint is what the books say of it nevertheless, and has to
 * go when it goes. So private anonymous memory that gets one is registered for write-protection, of
 * which there is none, with a userfaultfd of its own, the mark. That one tells of munmap() and
 * mremap(), and of nothing else: no fault, no madvise() waits for anybody. Once a device uses it,
 * the block is registered with the context's userfaultfd instead. Other kinds of memory are the
 * watch's from the start, where there is one.
 *
 * Between the mark and the block's registration nobody is told, as before the hint. Memory that
 * another userfaultfd of the program has, and files where there is no watch, cannot be marked.
 *
 * Whole blocks are marked, as far as what is managed goes on, and the mark of a block goes with
 * what the program unsets of it last: so marks split mappings where blocks begin at most, however
 * many pages are hinted one by one. Where a hint ends with its memory or device the mark stays.
 *
 * Invariant: what is registered with the mark is in no block, or NATIVE there.
 * Locks: regions.lock, for what is hinted; mark_lock: from a look at whose memory is until it is
 * no longer the mark's nobody else makes it his. Nothing is registered under the former, and what
 * is detached stops being (event_unmanage()).
 */
#include "mark.h"

#include <errno.h>

#include "hook.h"
#include "maps.h"
#include "uffd.h"
#include "util.h"

static bool find(const struct umm_ctx *ctx, uintptr_t at, uintptr_t end, struct maps_vma *vma)
{
	return at < end && !maps_find(at, ctx->features & UMM_KERNEL_PROCMAP_QUERY, vma) &&
	       vma->start < end;
}

/* Hints of start .. end are about to be kept: have the kernel tell of its end. */
static void mark_range(struct umm_ctx *ctx, uintptr_t start, uintptr_t end)
{
	struct maps_vma vma, now;
	int uffd, ret;

	hook_run(HOOK_MARKING, start);
	for (uintptr_t at = start; find(ctx, at, end, &vma); at = vma.end) {
		at = max(at, vma.start);
		uffd = vma.anon && !vma.shared ? ctx->mark : ctx->watch;
		/* What devices use tells already. */
		if (uffd < 0 || vma.special)
			continue;
		ret = uffd_watch(uffd, at, min(vma.end, end) - at);
		/* A block in its midst was registered since, which made several of it. */
		if (ret == -EBUSY && find(ctx, at, end, &now) && now.end < vma.end)
			vma.end = at;
	}
}

static int apply(struct umm_ctx *ctx, struct hint_map *map, const struct umm_span *span,
		 struct hint_change *change)
{
	int ret = -EFAULT;

	hook_run(HOOK_HINTING, span->start);
	lock_take(&ctx->regions.lock);
	if (regions_cover(&ctx->regions, span->start, span->start + span->len))
		ret = hint_apply(&ctx->hints, map, span, change);
	lock_drop(&ctx->regions.lock);
	return ret;
}

/*
 * The blocks that the span has a part of, as far as what is managed goes on. To mark no less keeps
 * the kernel's mappings from being split at each page that is hinted.
 */
static struct umm_span blocks_around(struct umm_ctx *ctx, const struct umm_span *span)
{
	uintptr_t start = span->start, end = start + span->len;
	uintptr_t at = align_down(start, UMM_BLOCK_SIZE), last = align_up(end, UMM_BLOCK_SIZE);
	struct umm_span run;

	for (; at < span->start && region_next_run(ctx, at, span->start, &run);
	     at = run.start + run.len)
		if (run.start + run.len == span->start)
			start = run.start;
	if (end < last && region_next_run(ctx, end, last, &run) && run.start == end)
		end += run.len;
	return (struct umm_span){ start, end - start };
}

/* Of memory that is managed, or was just now: what has come there since may be hinted. */
static void unmark(struct umm_ctx *ctx, uintptr_t start, uintptr_t end)
{
	struct maps_vma vma;
	size_t len;

	for (uintptr_t at = start; find(ctx, at, end, &vma); at = vma.end) {
		at = max(at, vma.start);
		len = min(vma.end, end) - at;
		if (!vma.anon || vma.shared || vma.special)
			continue;
		lock_take(&ctx->mark_lock);
		/* Not what another one has: before 6.17 that could be ended, too. */
		if (!hints_within(&ctx->hints, at, at + len) && !uffd_watch(ctx->mark, at, len))
			uffd_unregister(ctx->mark, at, len);
		lock_drop(&ctx->mark_lock);
	}
}

/*
 * Nothing is said any more of some of these blocks: where nothing is said of the rest of one
 * either, nor about to be, its mark goes. Who ends marks, and who is about to hint, hold the
 * blocks, so that one of them is first:
 *
 *	unmark_range()			mark_hint()
 *					lock; hold; unlock
 *	lock; held: leave; unlock	mark
 *					lock; hint; let; unlock
 *	lock; hinted: leave; unlock
 *
 *	lock; bare: hold; unlock
 *	unmark				lock; held: wait; unlock
 *	lock; let; unlock
 *					lock; hold; unlock
 */
static void unmark_range(struct umm_ctx *ctx, uintptr_t start, uintptr_t end)
{
	uintptr_t at = align_down(start, UMM_BLOCK_SIZE), stop = align_up(end, UMM_BLOCK_SIZE);
	struct region_hold *hold;
	struct umm_span run;
	uintptr_t next;

	for (; ctx->mark >= 0 && at < stop; at = next) {
		next = region_hold_bare(ctx, at, stop, &hold);
		if (!hold)
			continue;
		hook_run(HOOK_UNMARKING, at);
		for (; region_next_run(ctx, at, next, &run); at = run.start + run.len)
			unmark(ctx, run.start, run.start + run.len);
		region_let(ctx, hold);
	}
}

int mark_hint(struct umm_ctx *ctx, struct hint_map *map, const struct umm_span *span,
	      struct hint_change *change)
{
	struct umm_span whole = blocks_around(ctx, span);
	struct region_hold *hold;
	int ret;

	if (!change->set.set && !change->set.refused) {
		ret = apply(ctx, map, span, change);
		unmark_range(ctx, change->bare_start, change->bare_end);
		return ret;
	}
	/* What is being detached already would stay marked. */
	ret = region_hold_all(ctx, &whole, &hold);
	if (ret == -EFAULT) {
		whole = *span;
		ret = region_hold_all(ctx, &whole, &hold);
	}
	if (ret)
		return ret;
	mark_range(ctx, whole.start, whole.start + whole.len);
	ret = apply(ctx, map, span, change);
	region_let(ctx, hold);
	if (ret)
		unmark_range(ctx, whole.start, whole.start + whole.len);
	return ret;
}

int mark_register(struct umm_ctx *ctx, uintptr_t start, size_t len)
{
	int ret = uffd_register(ctx->uffd, start, len);

	if (ret != -EBUSY || ctx->mark < 0)
		return ret;
	lock_take(&ctx->mark_lock);
	/* The mark's, if it may have it: what another one has is refused to it, too. */
	while (ret == -EBUSY && !uffd_watch(ctx->mark, start, len)) {
		uffd_unregister(ctx->mark, start, len);
		ret = uffd_register(ctx->uffd, start, len);
	}
	lock_drop(&ctx->mark_lock);
	return ret;
}

void mark_unregister(struct umm_ctx *ctx, const struct umm_span *piece)
{
	uintptr_t end = piece->start + piece->len;
	struct maps_vma vma;

	if (ctx_is_forked(ctx))
		return;
	/* From 6.17 on refused where some of it is another descriptor's. */
	if (!uffd_unregister(ctx->uffd, piece->start, piece->len))
		return;
	for (uintptr_t at = piece->start; find(ctx, at, end, &vma); at = vma.end) {
		at = max(at, vma.start);
		uffd_unregister(ctx->uffd, at, min(vma.end, end) - at);
		if (ctx->watch >= 0)
			uffd_unregister(ctx->watch, at, min(vma.end, end) - at);
		if (ctx->mark >= 0)
			uffd_unregister(ctx->mark, at, min(vma.end, end) - at);
	}
}
