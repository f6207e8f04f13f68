/* SPDX-License-Identifier: MIT */
/*
 * Managed address ranges. An allocation is what the program asked for; its regions are the pieces
 * of it that are still there. munmap() shrinks and splits regions, mremap() moves them; an
 * allocation ends with its last region. It has counters once there is something to count: of many
 * small ranges, most never see a device. So small ones begin in a lot, as bits, and leave it for
 * an allocation and a region of their own when they are counted for, cut or moved.
 *
 * Invariants: regions do not overlap, nor what is in lots; every region belongs to an allocation,
 * which counts its pieces; allocations have distinct bases, those in lots included.
 * Locks: regions.lock. Nothing here touches managed memory or enters the kernel.
 */
#include <errno.h>

#include "ctx.h"
#include "hook.h"
#include "region_parts.h"
#include "util.h"

void regions_init(struct regions *regions)
{
	lock_init(&regions->lock, RANK_REGION);
	regions->tree.root = NULL;
	regions->allocs.root = NULL;
	regions->managed = 0;
	regions->births = 0;
	regions->said = 0;
	regions->holds = NULL;
	pool_init(&regions->region_pool, sizeof(struct region), NULL);
	pool_pack(&regions->region_pool);
	pool_keep(&regions->region_pool);
	pool_init(&regions->alloc_pool, sizeof(struct alloc), NULL);
	pool_pack(&regions->alloc_pool);
	pool_keep(&regions->alloc_pool);
	lots_init(&regions->lots);
	pool_init(&regions->stats_pool, sizeof(struct stats), NULL);
	pool_init(&regions->hold_pool, sizeof(struct region_hold), NULL);
}

void regions_fini(struct regions *regions)
{
	lots_fini(&regions->lots);
	pool_fini(&regions->hold_pool);
	pool_fini(&regions->stats_pool);
	pool_fini(&regions->alloc_pool);
	pool_fini(&regions->region_pool);
	lock_fini(&regions->lock);
}

size_t regions_bytes(const struct regions *regions)
{
	return atomic_load(&regions->region_pool.mapped) +
	       atomic_load(&regions->alloc_pool.mapped) + atomic_load(&regions->stats_pool.mapped) +
	       atomic_load(&regions->hold_pool.mapped) + atomic_load(&regions->lots.pool.mapped);
}

bool regions_first(struct regions *regions, uintptr_t start, uintptr_t end, struct umm_span *out)
{
	struct region *region = region_first(regions, start, end);
	struct small small;

	if (region)
		*out = (struct umm_span){ region->node.start,
					  region->node.end - region->node.start };
	/* As a rule what a device uses is a region, and nothing is before it. */
	if (region && region->node.start <= start)
		return true;
	if (!lots_first(&regions->lots, start, region ? min(end, region->node.start) : end, &small))
		return region;
	*out = (struct umm_span){ small.start, small.end - small.start };
	return true;
}

struct alloc *alloc_find(struct regions *regions, uintptr_t base)
{
	struct itree_node *node = itree_first(&regions->allocs, base, base + 1);

	return node ? container_of(node, struct alloc, node) : NULL;
}

static void alloc_drop(struct regions *regions, struct alloc *alloc)
{
	if (alloc->stats)
		pool_free(&regions->stats_pool, alloc->stats);
	pool_free(&regions->alloc_pool, alloc);
}

static void alloc_insert(struct regions *regions, struct alloc *alloc, uintptr_t base, size_t len,
			 bool attached)
{
	*alloc = (struct alloc){
		.node = { .start = base, .end = base + 1 },
		.len = len,
		.attached = attached,
	};
	itree_insert(&regions->allocs, &alloc->node);
}

void region_insert(struct regions *regions, struct region *region, uintptr_t start, uintptr_t end)
{
	region->node.start = start;
	region->node.end = end;
	itree_insert(&regions->tree, &region->node);
	regions->managed += end - start;
}

static void region_take_out(struct regions *regions, struct region *region)
{
	itree_remove(&regions->tree, &region->node);
	regions->managed -= region->node.end - region->node.start;
	hook_run(HOOK_REGION_OUT, region->node.start);
}

static void region_drop(struct regions *regions, struct region *region)
{
	struct alloc *alloc = region->alloc;

	region_take_out(regions, region);
	pool_free(&regions->region_pool, region);
	if (--alloc->npieces == 0) {
		if (!alloc->released)
			itree_remove(&regions->allocs, &alloc->node);
		alloc_drop(regions, alloc);
	}
}

/* Cut start .. end out of one region. A split that finds no memory gives up its upper part. */
static void region_cut(struct regions *regions, struct region *region, uintptr_t start,
		       uintptr_t end)
{
	uintptr_t low = region->node.start, high = region->node.end;
	struct region *upper;

	if (start <= low && end >= high) {
		region_drop(regions, region);
		return;
	}
	region_take_out(regions, region);
	if (start > low && end < high) {
		upper = pool_alloc(&regions->region_pool);
		if (upper) {
			upper->alloc = region->alloc;
			upper->born = region->born;
			upper->alloc->npieces++;
			region_insert(regions, upper, end, high);
		}
	}
	if (start > low)
		region_insert(regions, region, low, start);
	else
		region_insert(regions, region, end, high);
}

static void small_take_out(struct regions *regions, const struct small *small)
{
	hook_run(HOOK_REGION_OUT, small->start);
	lots_del(&regions->lots, small);
	regions->managed -= small->end - small->start;
}

struct region *small_promote(struct regions *regions, const struct small *small)
{
	struct region *region = pool_alloc(&regions->region_pool);
	struct alloc *alloc = pool_alloc(&regions->alloc_pool);

	if (!region || !alloc) {
		pool_free(&regions->region_pool, region);
		pool_free(&regions->alloc_pool, alloc);
		return NULL;
	}
	alloc_insert(regions, alloc, small->start, small->end - small->start, small->attached);
	alloc->npieces = 1;
	region->alloc = alloc;
	/* What was said of it before would have made it a region. */
	region->born = ++regions->births;
	region_insert(regions, region, small->start, small->end);
	small_take_out(regions, small);
	return region;
}

/* It is to be cut or moved, which its lot cannot. Without memory it is no longer managed. */
static void small_leave(struct regions *regions, const struct small *small)
{
	if (!small_promote(regions, small))
		small_take_out(regions, small);
}

static void region_del_locked(struct regions *regions, uintptr_t start, uintptr_t end)
{
	struct region *region;
	struct small small;

	while (lots_first(&regions->lots, start, end, &small)) {
		if (small.start >= start && small.end <= end)
			small_take_out(regions, &small);
		else
			small_leave(regions, &small);
	}
	while ((region = region_first(regions, start, end)))
		region_cut(regions, region, start, end);
}

static void alloc_set_base(struct regions *regions, struct alloc *alloc, uintptr_t base)
{
	itree_remove(&regions->allocs, &alloc->node);
	alloc->node.start = base;
	alloc->node.end = base + 1;
	itree_insert(&regions->allocs, &alloc->node);
}

/* The first region of the allocation. */
static struct region *alloc_first(struct regions *regions, const struct alloc *alloc)
{
	uintptr_t start = alloc->node.start, end = start + alloc->len;
	struct itree_node *node = itree_first(&regions->tree, start, end);

	while (region_of(node)->alloc != alloc)
		node = itree_next(node, start, end);
	return region_of(node);
}

/*
 * An allocation whose first part was unmapped owns its base until another one begins there. From
 * then on it answers to the address of what is left of it.
 */
static void base_vacate(struct regions *regions, uintptr_t base)
{
	struct alloc *alloc = alloc_find(regions, base);
	uintptr_t first;

	if (!alloc)
		return;
	first = alloc_first(regions, alloc)->node.start;
	base_vacate(regions, first);
	alloc->len -= first - base;
	alloc_set_base(regions, alloc, first);
}

static struct alloc *alloc_new(struct regions *regions, uintptr_t base, size_t len, bool attached)
{
	struct alloc *alloc = pool_alloc(&regions->alloc_pool);

	if (!alloc)
		return NULL;
	base_vacate(regions, base);
	alloc_insert(regions, alloc, base, len, attached);
	return alloc;
}

static int region_add_locked(struct regions *regions, uintptr_t start, uintptr_t end, bool attached)
{
	struct region *region = pool_alloc(&regions->region_pool);
	struct alloc *alloc;

	if (!region)
		return -ENOMEM;
	alloc = alloc_new(regions, start, end - start, attached);
	if (!alloc) {
		pool_free(&regions->region_pool, region);
		return -ENOMEM;
	}
	region->alloc = alloc;
	region->born = ++regions->births;
	alloc->npieces = 1;
	region_insert(regions, region, start, end);
	return 0;
}

static bool small_add(struct regions *regions, uintptr_t start, uintptr_t end, bool attached)
{
	struct small small = { .start = start, .end = end, .attached = attached };

	if (!lots_add(&regions->lots, &small))
		return false;
	base_vacate(regions, start);
	regions->managed += end - start;
	return true;
}

int region_add(struct umm_ctx *ctx, uintptr_t start, uintptr_t end, bool attached, bool replace)
{
	struct regions *regions = &ctx->regions;
	struct umm_span piece;
	int ret = -EEXIST;

	lock_take(&regions->lock);
	if (replace)
		region_del_locked(regions, start, end);
	if (!regions_first(regions, start, end, &piece))
		ret = small_add(regions, start, end, attached) ?
			      0 :
			      region_add_locked(regions, start, end, attached);
	if (!ret) {
		hints_forget(&ctx->hints, start, end);
		blocks_set_native(ctx, start, end);
	}
	lock_drop(&regions->lock);
	return ret;
}

/* A gap becomes managed: what is below, of the same allocation, grows, if nobody spoke of it. */
static int gap_fill(struct regions *regions, struct alloc *alloc, uintptr_t start, uintptr_t end)
{
	struct region *region = start ? region_first(regions, start - 1, start) : NULL;

	if (region && region->alloc == alloc && region->born > regions->said) {
		start = region->node.start;
		region_take_out(regions, region);
	} else {
		region = pool_alloc(&regions->region_pool);
		if (!region)
			return -ENOMEM;
		region->alloc = alloc;
		alloc->npieces++;
	}
	region->born = ++regions->births;
	region_insert(regions, region, start, end);
	return 0;
}

static int region_fill_locked(struct regions *regions, uintptr_t start, uintptr_t end)
{
	struct alloc *alloc = alloc_find(regions, 0);
	struct umm_span piece;
	uintptr_t next;
	bool found;
	int ret = 0;

	if (!alloc)
		alloc = alloc_new(regions, 0, ADDRESS_END, true);
	if (!alloc)
		return -ENOMEM;
	for (uintptr_t at = start; at < end && !ret; at = next) {
		found = regions_first(regions, at, end, &piece);
		next = found ? max(piece.start, at) : end;
		if (next > at)
			ret = gap_fill(regions, alloc, at, next);
		if (found)
			next = piece.start + piece.len;
	}
	if (!alloc->npieces) {
		itree_remove(&regions->allocs, &alloc->node);
		alloc_drop(regions, alloc);
	}
	return ret;
}

int region_fill(struct umm_ctx *ctx, uintptr_t start, uintptr_t end)
{
	int ret;

	lock_take(&ctx->regions.lock);
	ret = region_fill_locked(&ctx->regions, start, end);
	blocks_set_native(ctx, start, end);
	lock_drop(&ctx->regions.lock);
	return ret;
}

bool regions_cover(struct regions *regions, uintptr_t start, uintptr_t end)
{
	struct umm_span piece;

	while (start < end && regions_first(regions, start, start + 1, &piece))
		start = piece.start + piece.len;
	return start >= end;
}

bool region_refresh(struct umm_ctx *ctx, uintptr_t start, uintptr_t end)
{
	bool all;

	lock_take(&ctx->regions.lock);
	all = regions_cover(&ctx->regions, start, end);
	if (all)
		blocks_set_native(ctx, start, end);
	lock_drop(&ctx->regions.lock);
	return all;
}

void region_del(struct umm_ctx *ctx, uintptr_t start, uintptr_t end)
{
	lock_take(&ctx->regions.lock);
	region_del_locked(&ctx->regions, start, end);
	hints_forget(&ctx->hints, start, end);
	lock_drop(&ctx->regions.lock);
}

void region_renew(struct umm_ctx *ctx, uintptr_t start, uintptr_t end)
{
	struct umm_span piece;

	lock_take(&ctx->regions.lock);
	for (uintptr_t at = start; at < end && regions_first(&ctx->regions, at, end, &piece);
	     at = piece.start + piece.len)
		blocks_set_native(ctx, max(piece.start, at), min(piece.start + piece.len, end));
	lock_drop(&ctx->regions.lock);
}

static bool region_is_whole_alloc(const struct region *region, uintptr_t start, uintptr_t end)
{
	return !region->alloc->released && region->alloc->npieces == 1 &&
	       start == region->alloc->node.start && end - start == region->alloc->len;
}

/* One region, of which start .. end moved to `to`. */
static void region_follow(struct regions *regions, struct region *region, struct umm_span *moved,
			  uintptr_t to)
{
	uintptr_t start = moved->start, end = moved->start + moved->len;

	if (region_is_whole_alloc(region, start, end)) {
		/* It answers to its new address from now on. */
		region_take_out(regions, region);
		base_vacate(regions, to);
		alloc_set_base(regions, region->alloc, to);
		region->born = ++regions->births;
		region_insert(regions, region, to, to + moved->len);
		return;
	}
	/*
	 * Without memory for it the part that moved is no longer managed. Its pages may be on a
	 * device, and the fault that brings one home is not to make the counters.
	 */
	if (!region_add_locked(regions, to, to + moved->len, region->alloc->attached) &&
	    region->alloc->stats)
		alloc_counters(regions, alloc_find(regions, to));
	region_cut(regions, region, start, end);
}

void region_move(struct umm_ctx *ctx, uintptr_t from, uintptr_t to, size_t len)
{
	struct regions *regions = &ctx->regions;
	struct region *region;
	struct umm_span moved;
	struct small small;
	uintptr_t at = from;

	lock_take(&regions->lock);
	region_del_locked(regions, to, to + len);
	hints_move(&ctx->hints, from, to, len);
	while (lots_first(&regions->lots, from, from + len, &small))
		small_leave(regions, &small);
	while (at < from + len && (region = region_first(regions, at, from + len))) {
		moved.start = max(region->node.start, from);
		at = min(region->node.end, from + len);
		moved.len = at - moved.start;
		region_follow(regions, region, &moved, to + (moved.start - from));
		blocks_set_native(ctx, to + (moved.start - from), to + (at - from));
	}
	lock_drop(&regions->lock);
}

/*
 * Take the first piece out of the books. *rest: what is left of its allocation, NULL: nothing.
 * False: others have unmapped what was left.
 */
static bool piece_pop(struct umm_ctx *ctx, struct alloc **rest, struct umm_span *piece)
{
	struct alloc *alloc = *rest;
	struct region *region;
	bool found = alloc->npieces > 1; /* one is the releaser's */

	if (found) {
		region = alloc_first(&ctx->regions, alloc);
		*piece = (struct umm_span){ region->node.start,
					    region->node.end - region->node.start };
		region_drop(&ctx->regions, region);
		hints_forget(&ctx->hints, piece->start, piece->start + piece->len);
	}
	if (alloc->npieces == 1) {
		alloc_drop(&ctx->regions, alloc);
		*rest = NULL;
	}
	return found;
}

static bool small_pop(struct umm_ctx *ctx, uintptr_t base, bool attached, struct umm_span *piece)
{
	struct small small;

	if (!lots_at(&ctx->regions.lots, base, &small) || small.attached != attached)
		return false;
	*piece = (struct umm_span){ small.start, small.end - small.start };
	small_take_out(&ctx->regions, &small);
	hints_forget(&ctx->hints, small.start, small.end);
	return true;
}

bool region_release(struct umm_ctx *ctx, uintptr_t base, bool attached, struct umm_span *piece,
		    struct alloc **rest)
{
	struct regions *regions = &ctx->regions;
	struct alloc *alloc;
	bool found = true;

	lock_take(&regions->lock);
	alloc = alloc_find(regions, base);
	if (alloc && alloc->attached == attached) {
		itree_remove(&regions->allocs, &alloc->node);
		alloc->released = true;
		alloc->npieces++;
		*rest = alloc;
		found = piece_pop(ctx, rest, piece);
	} else {
		*rest = NULL;
		found = small_pop(ctx, base, attached, piece);
	}
	lock_drop(&regions->lock);
	return found;
}

bool region_pop(struct umm_ctx *ctx, struct umm_span *piece, struct alloc **rest)
{
	bool found;

	if (!*rest)
		return false;
	lock_take(&ctx->regions.lock);
	found = piece_pop(ctx, rest, piece);
	lock_drop(&ctx->regions.lock);
	return found;
}

bool region_first_alloc(struct umm_ctx *ctx, uintptr_t *base, bool *attached)
{
	struct itree_node *node;
	struct small small;
	bool found = true;

	lock_take(&ctx->regions.lock);
	node = itree_first(&ctx->regions.allocs, 0, UINTPTR_MAX);
	if (node) {
		*base = node->start;
		*attached = container_of(node, struct alloc, node)->attached;
	} else if (lots_first(&ctx->regions.lots, 0, ADDRESS_END, &small)) {
		*base = small.start;
		*attached = small.attached;
	} else {
		found = false;
	}
	lock_drop(&ctx->regions.lock);
	return found;
}

bool region_next(struct umm_ctx *ctx, uintptr_t start, uintptr_t end, struct umm_span *out)
{
	struct umm_span piece;
	bool found;

	lock_take(&ctx->regions.lock);
	found = regions_first(&ctx->regions, start, end, &piece);
	lock_drop(&ctx->regions.lock);
	if (found) {
		out->start = max(piece.start, start);
		out->len = min(piece.start + piece.len, end) - out->start;
	}
	return found;
}

bool region_next_run(struct umm_ctx *ctx, uintptr_t start, uintptr_t end, struct umm_span *out)
{
	struct umm_span piece;
	uintptr_t at;

	if (!region_next(ctx, start, end, out))
		return false;
	while ((at = out->start + out->len) < end && region_next(ctx, at, end, &piece) &&
	       piece.start == at)
		out->len += piece.len;
	return true;
}

uint64_t region_births(struct umm_ctx *ctx, const struct umm_span *spans, size_t nspans)
{
	struct regions *regions = &ctx->regions;
	struct small small;
	uint64_t births;
	uintptr_t at, end;

	lock_take(&regions->lock);
	for (size_t i = 0; i < nspans; i++) {
		end = spans[i].start + spans[i].len;
		for (at = spans[i].start; lots_first(&regions->lots, at, end, &small);
		     at = small.end)
			small_promote(regions, &small);
	}
	births = regions->births;
	regions->said = births;
	lock_drop(&regions->lock);
	return births;
}

/* What is in a lot has no age. */
bool region_elder(struct regions *regions, const struct umm_span *span, uint64_t born,
		  struct umm_span *out)
{
	uintptr_t end = span->start + span->len;
	struct itree_node *node;

	if (born == REGION_ANY_AGE)
		return regions_first(regions, span->start, end, out);
	node = itree_first(&regions->tree, span->start, end);
	while (node && region_of(node)->born > born)
		node = itree_next(node, span->start, end);
	if (node)
		*out = (struct umm_span){ node->start, node->end - node->start };
	return node;
}

bool region_around(struct umm_ctx *ctx, uintptr_t addr, struct umm_span *out)
{
	bool found;

	lock_take(&ctx->regions.lock);
	found = regions_first(&ctx->regions, addr, addr + 1, out);
	lock_drop(&ctx->regions.lock);
	return found;
}

size_t region_managed_bytes(struct umm_ctx *ctx)
{
	size_t managed;

	lock_take(&ctx->regions.lock);
	managed = ctx->regions.managed;
	lock_drop(&ctx->regions.lock);
	return managed;
}
