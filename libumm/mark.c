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
 * Invariant: what is registered with the mark is in no block, or NATIVE there.
 * Locks: regions.lock, for what is hinted.
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

int mark_hint(struct umm_ctx *ctx, struct hint_map *map, const struct umm_span *span,
	      struct hint_change *change)
{
	struct region_hold *hold;
	int ret;

	if (!change->set.set && !change->set.refused)
		return apply(ctx, map, span, change);
	/* What is being detached already would stay marked. */
	ret = region_hold_all(ctx, span, &hold);
	if (ret)
		return ret;
	mark_range(ctx, span->start, span->start + span->len);
	ret = apply(ctx, map, span, change);
	region_let(ctx, hold);
	return ret;
}

int mark_register(struct umm_ctx *ctx, uintptr_t start, size_t len)
{
	int ret = uffd_register(ctx->uffd, start, len);

	/* The mark's, if it may have it: what another one has is refused to it, too. */
	while (ret == -EBUSY && ctx->mark >= 0 && !uffd_watch(ctx->mark, start, len)) {
		uffd_unregister(ctx->mark, start, len);
		ret = uffd_register(ctx->uffd, start, len);
	}
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
