/* SPDX-License-Identifier: MIT */
/* Counters of allocations. Lock: regions.lock. */
#include <errno.h>

#include "ctx.h"
#include "region_parts.h"

struct stats *alloc_counters(struct regions *regions, struct alloc *alloc)
{
	if (!alloc->stats) {
		alloc->stats = pool_alloc(&regions->stats_pool);
		if (alloc->stats)
			*alloc->stats = (struct stats){ 0 };
	}
	return alloc->stats;
}

/* Counters of the allocation that holds addr, and where it is; -EFAULT: none does. */
static int region_stats_locked(struct regions *regions, uintptr_t addr, struct umm_stats *out,
			       struct umm_span *span)
{
	static const struct stats nothing;
	struct region *region = region_first(regions, addr, addr + 1);
	const struct stats *stats = NULL;

	if (region) {
		stats = region->alloc->stats;
		*span = (struct umm_span){ region->alloc->node.start, region->alloc->len };
	} else if (!regions_first(regions, addr, addr + 1, span)) {
		return -EFAULT;
	}
	stats_read(stats ? stats : &nothing, out);
	return 0;
}

int region_stats(struct umm_ctx *ctx, uintptr_t addr, struct umm_stats *out)
{
	struct umm_span span;
	int ret;

	lock_take(&ctx->regions.lock);
	ret = region_stats_locked(&ctx->regions, addr, out, &span);
	lock_drop(&ctx->regions.lock);
	if (ret)
		return ret;
	out->managed_bytes = span.len;
	out->device_pages = blocks_device_pages(ctx, span.start, span.start + span.len);
	return 0;
}

void region_sum(struct umm_ctx *ctx, uintptr_t start, uintptr_t end, uint64_t *counter)
{
	struct regions *regions = &ctx->regions;
	struct umm_stats stats;
	struct alloc *alloc;

	lock_take(&regions->lock);
	regions->sums++;
	for (struct itree_node *node = itree_first(&regions->tree, start, end); node;
	     node = itree_next(node, start, end)) {
		alloc = region_of(node)->alloc;
		if (alloc->asked == regions->sums)
			continue;
		alloc->asked = regions->sums;
		if (!alloc->stats)
			continue;
		stats_read(alloc->stats, &stats);
		for (unsigned i = 0; i < UMM_NR_COUNTERS; i++)
			counter[i] += stats.counter[i];
	}
	lock_drop(&regions->lock);
}

void region_count(struct umm_ctx *ctx, uintptr_t addr, unsigned counter, uint64_t n)
{
	struct regions *regions = &ctx->regions;
	struct region *region;
	struct stats *stats;
	struct small small;

	lock_take(&regions->lock);
	region = region_first(regions, addr, addr + 1);
	if (!region && lots_first(&regions->lots, addr, addr + 1, &small))
		region = small_promote(regions, &small);
	stats = region ? alloc_counters(regions, region->alloc) : NULL;
	if (stats)
		stats_add(stats, counter, n);
	lock_drop(&regions->lock);
}
