/* SPDX-License-Identifier: MIT */
/*
 * Managed memory that somebody is about to do something irrevocable with: its end waits.
 *
 * Invariant: a hold is in the list, on its holder's stack, from region_hold() to region_let().
 * Locks: regions.lock; none while anybody waits.
 */
#include "ctx.h"
#include "region.h"
#include "util.h"

/* Who waits for memory to be let go looks again after so long. */
#define HELD_NS UINT64_C(100000000)

bool region_hold(struct umm_ctx *ctx, const struct umm_span *span, uint64_t born,
		 struct region_hold *hold)
{
	struct regions *regions = &ctx->regions;
	struct umm_span piece;
	bool found;

	lock_take(&regions->lock);
	found = region_elder(regions, span, born, &piece);
	if (found) {
		hold->start = max(piece.start, span->start);
		hold->end = min(piece.start + piece.len, span->start + span->len);
		hold->end =
			min(hold->end, align_down(hold->start, UMM_BLOCK_SIZE) + UMM_BLOCK_SIZE);
		hold->next = regions->holds;
		regions->holds = hold;
	}
	lock_drop(&regions->lock);
	return found;
}

void region_let(struct umm_ctx *ctx, struct region_hold *hold)
{
	struct region_hold **link;

	lock_take(&ctx->regions.lock);
	for (link = &ctx->regions.holds; *link && *link != hold; link = &(*link)->next)
		;
	/* A child that was forked meanwhile, by a handler, has none. */
	if (*link)
		*link = hold->next;
	lock_drop(&ctx->regions.lock);
	ctx_settled(ctx);
}

static bool is_held(struct umm_ctx *ctx, const struct umm_span *piece)
{
	const struct region_hold *hold;

	lock_take(&ctx->regions.lock);
	for (hold = ctx->regions.holds; hold; hold = hold->next)
		if (hold->start < piece->start + piece->len && piece->start < hold->end)
			break;
	lock_drop(&ctx->regions.lock);
	return hold;
}

void region_await(struct umm_ctx *ctx, const struct umm_span *piece)
{
	uint32_t seen;

	while (seen = ctx_settle_count(ctx), is_held(ctx, piece))
		ctx_settle_wait(ctx, seen, now_ns() + HELD_NS);
}
