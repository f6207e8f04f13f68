/* SPDX-License-Identifier: MIT */
/* What the files of regions (region.c, region_fork.c, region_stats.c) share; under regions.lock. */
#ifndef REGION_PARTS_H
#define REGION_PARTS_H

#include "region.h"

static inline struct region *region_of(struct itree_node *node)
{
	return node ? container_of(node, struct region, node) : NULL;
}

static inline struct region *region_first(struct regions *regions, uintptr_t start, uintptr_t end)
{
	return region_of(itree_first(&regions->tree, start, end));
}

/* Into the tree, and counted as managed. */
void region_insert(struct regions *regions, struct region *region, uintptr_t start, uintptr_t end);
/* The allocation of that base that is not in a lot; NULL: none. */
struct alloc *alloc_find(struct regions *regions, uintptr_t base);
/* From its lot to objects of its own; NULL: no memory for them, it stays. */
struct region *small_promote(struct regions *regions, const struct small *small);

/* Its counters, made with the first thing to count; NULL: no memory for them. */
struct stats *alloc_counters(struct regions *regions, struct alloc *alloc);

#endif
