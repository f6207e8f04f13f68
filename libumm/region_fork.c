/* SPDX-License-Identifier: MIT */
/*
 * Regions of a forked child, which may have been born while another thread of its parent changed
 * them. Lock: regions.lock; nobody else is there.
 */
#include "ctx.h"
#include "region_parts.h"

static bool region_is_there(const struct region *region)
{
	return region->node.height;
}

static void recount_begin(void *obj, void *priv)
{
	struct region *region = obj;

	(void)priv;
	if (region_is_there(region))
		region->alloc->npieces = 0;
}

/* A region that was in the tree, and its allocation. */
static void plant(void *obj, void *priv)
{
	struct regions *regions = priv;
	struct region *region = obj;
	struct alloc *alloc = region->alloc;

	/* Of one that is being split both halves and the whole may be there. */
	if (!region_is_there(region) || region_first(regions, region->node.start, region->node.end))
		return;
	region_insert(regions, region, region->node.start, region->node.end);
	alloc->len = max(alloc->len, region->node.end - alloc->node.start);
	if (alloc->npieces++ || alloc->released)
		return;
	/* Nobody can name an allocation whose base another one is just taking. */
	alloc->released = alloc_find(regions, alloc->node.start);
	if (!alloc->released)
		itree_insert(&regions->allocs, &alloc->node);
}

/*
 * Trees that were caught in a change are made anew from the regions that were in one. What the
 * change was about may be lost to the books: it was going, moving or only coming.
 */
static void replant(struct regions *regions)
{
	struct small small;

	pool_each(&regions->region_pool, recount_begin, NULL);
	regions->tree.root = NULL;
	regions->allocs.root = NULL;
	regions->managed = 0;
	pool_each(&regions->region_pool, plant, regions);
	lots_replant(&regions->lots);
	for (uintptr_t at = 0; lots_first(&regions->lots, at, ADDRESS_END, &small);
	     at = small.end) {
		/* One that was leaving its lot is in both. */
		if (region_first(regions, small.start, small.end))
			lots_del(&regions->lots, &small);
		else
			regions->managed += small.end - small.start;
	}
}

void region_fork_child(struct umm_ctx *ctx)
{
	struct regions *regions = &ctx->regions;

	pool_fork_child(&regions->region_pool);
	pool_fork_child(&regions->alloc_pool);
	pool_fork_child(&regions->stats_pool);
	pool_fork_child(&regions->hold_pool);
	pool_fork_child(&regions->lots.pool);
	if (lock_fork_child(&regions->lock))
		replant(regions);
	/* Of threads that the child has not. */
	regions->holds = NULL;
}
