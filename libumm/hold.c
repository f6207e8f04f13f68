/* SPDX-License-Identifier: MIT */
/*
 * Managed memory that somebody is about to do something irrevocable with: its end waits, and so do
 * pins and exclusive access, which promise that it is not done to them.
 *
 * Invariant: a hold is in the list from region_hold() to region_let(). It is not on its holder's
 * stack: others read it under the lock, and a stack may be managed, and be on a device.
 * Locks: regions.lock; none while anybody waits.
 */
#include <errno.h>

#include "ctx.h"
#include "region.h"
#include "util.h"

/* Who waits for memory to be let go looks again after so long. */
#define HELD_NS UINT64_C(100000000)
/* Bytes that are looked at in one go, with the regions locked, for hints. */
#define BARE_MOST ((uintptr_t)1 << 30)

/* The regions are locked. */
static struct region_hold *hold_new(struct regions *regions, uintptr_t start, uintptr_t end)
{
	struct region_hold *hold = pool_alloc(&regions->hold_pool);

	if (!hold)
		return NULL;
	*hold = (struct region_hold){
		.next = regions->holds,
		.number = ++regions->held,
		.start = start,
		.end = end,
	};
	regions->holds = hold;
	return hold;
}

int region_hold(struct umm_ctx *ctx, const struct umm_span *span, uint64_t born,
		struct region_hold **out)
{
	struct regions *regions = &ctx->regions;
	struct region_hold *hold = NULL;
	struct umm_span piece;
	uintptr_t start, end;
	bool found;

	lock_take(&regions->lock);
	found = region_elder(regions, span, born, &piece);
	if (found) {
		start = max(piece.start, span->start);
		end = min(piece.start + piece.len, span->start + span->len);
		end = min(end, align_down(start, UMM_BLOCK_SIZE) + UMM_BLOCK_SIZE);
		hold = hold_new(regions, start, end);
	}
	lock_drop(&regions->lock);
	if (!hold)
		return found ? -ENOMEM : -ENOENT;
	*out = hold;
	return 0;
}

/* The first hold of some of it, from this one of the list on; NULL: none. Under regions.lock. */
static struct region_hold *hold_of(struct region_hold *hold, uintptr_t start, uintptr_t end)
{
	while (hold && (hold->start >= end || hold->end <= start))
		hold = hold->next;
	return hold;
}

/* The regions are locked. -EAGAIN: marks are being ended. */
static int hold_all(struct regions *regions, uintptr_t start, uintptr_t end,
		    struct region_hold **out)
{
	struct region_hold *hold;

	if (!regions_cover(regions, start, end))
		return -EFAULT;
	for (hold = regions->holds; (hold = hold_of(hold, start, end)); hold = hold->next)
		if (hold->ends_marks)
			return -EAGAIN;
	hold = hold_new(regions, start, end);
	if (!hold)
		return -ENOMEM;
	*out = hold;
	return 0;
}

int region_hold_all(struct umm_ctx *ctx, const struct umm_span *span, struct region_hold **out)
{
	uint32_t seen;
	int ret;

	do {
		seen = ctx_settle_count(ctx);
		lock_take(&ctx->regions.lock);
		ret = hold_all(&ctx->regions, span->start, span->start + span->len, out);
		lock_drop(&ctx->regions.lock);
		if (ret == -EAGAIN)
			ctx_settle_wait(ctx, seen, now_ns() + HELD_NS);
	} while (ret == -EAGAIN);
	return ret;
}

static bool is_bare(struct umm_ctx *ctx, uintptr_t va)
{
	return !hold_of(ctx->regions.holds, va, va + UMM_BLOCK_SIZE) &&
	       !hints_within(&ctx->hints, va, va + UMM_BLOCK_SIZE);
}

uintptr_t region_hold_bare(struct umm_ctx *ctx, uintptr_t start, uintptr_t end,
			   struct region_hold **out)
{
	uintptr_t at = start + UMM_BLOCK_SIZE;
	bool bare;

	end = min(end, start + BARE_MOST);
	lock_take(&ctx->regions.lock);
	bare = is_bare(ctx, start);
	while (at < end && is_bare(ctx, at) == bare)
		at += UMM_BLOCK_SIZE;
	*out = bare ? hold_new(&ctx->regions, start, at) : NULL;
	if (*out)
		(*out)->ends_marks = true;
	lock_drop(&ctx->regions.lock);
	return at;
}

void region_let(struct umm_ctx *ctx, struct region_hold *hold)
{
	struct region_hold **link;

	lock_take(&ctx->regions.lock);
	for (link = &ctx->regions.holds; *link && *link != hold; link = &(*link)->next)
		;
	/* A child that was forked meanwhile, by a handler, has none. */
	if (*link) {
		*link = hold->next;
		pool_free(&ctx->regions.hold_pool, hold);
	}
	lock_drop(&ctx->regions.lock);
	ctx_settled(ctx);
}

/* One of the first `upto` holds. Under regions.lock. */
static bool is_held_by(const struct regions *regions, uintptr_t start, uintptr_t end, uint64_t upto)
{
	struct region_hold *hold = hold_of(regions->holds, start, end);

	while (hold && hold->number > upto)
		hold = hold_of(hold->next, start, end);
	return hold;
}

/* By one of the first so many holds, of which *upto is 0: all that there have been? */
static bool is_held(struct umm_ctx *ctx, const struct umm_span *piece, uint64_t *upto)
{
	bool held;

	lock_take(&ctx->regions.lock);
	if (!*upto)
		*upto = ctx->regions.held;
	held = is_held_by(&ctx->regions, piece->start, piece->start + piece->len, *upto);
	lock_drop(&ctx->regions.lock);
	return held;
}

bool region_await(struct umm_ctx *ctx, const struct umm_span *piece)
{
	bool waited = false;
	uint64_t upto = 0;
	uint32_t seen;

	while (seen = ctx_settle_count(ctx), is_held(ctx, piece, &upto)) {
		ctx_settle_wait(ctx, seen, now_ns() + HELD_NS);
		waited = true;
	}
	return waited;
}
