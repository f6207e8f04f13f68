/* SPDX-License-Identifier: MIT */
/*
 * A page table, for the devices of the tests: a radix tree of four levels, nine bits each, from
 * page address to entry. Plain data: the device locks it. Nodes are never freed before the
 * table ends, so a slot stays valid while the lock is held. Included by the one file of a device
 * that has the table: ref_device.c, dmirror/mirror.c.
 */
#ifndef REF_TABLE_H
#define REF_TABLE_H

#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>

#include "umm.h"

/* Table: level 3 is the root, level 0 holds entries. */
#define LEVEL_BITS 9
#define LEVEL_SIZE (1u << LEVEL_BITS)
#define TOP_LEVEL  3

/* Whose heap the nodes are in: the one who includes this may say. */
#ifndef TABLE_ALLOC
#define TABLE_ALLOC(size)   calloc(1, size)
#define TABLE_FREE(p, size) free(p)
#endif

struct table {
	union {
		struct table *child[LEVEL_SIZE];
		uint64_t entry[LEVEL_SIZE];
	};
};

static inline unsigned level_index(uintptr_t addr, int level)
{
	return (unsigned)(addr >> (UMM_PAGE_SHIFT + LEVEL_BITS * level)) & (LEVEL_SIZE - 1);
}

/* The slot of a page; NULL where there is none, and none is to be created or can be. */
static inline uint64_t *table_slot(struct table **root, uintptr_t addr, bool create)
{
	struct table **node = root;
	int level;

	for (level = TOP_LEVEL;; level--) {
		if (!*node && create)
			*node = TABLE_ALLOC(sizeof(**node));
		if (!*node)
			return NULL;
		if (level == 0)
			return &(*node)->entry[level_index(addr, 0)];
		node = &(*node)->child[level_index(addr, level)];
	}
}

/* Clear start..end below a node that covers the addresses from base. */
static inline void table_clear(struct table *node, int level, uintptr_t base, uintptr_t start,
			       uintptr_t end)
{
	uintptr_t step = (uintptr_t)1 << (UMM_PAGE_SHIFT + LEVEL_BITS * level);
	unsigned i;

	if (!node)
		return;
	for (i = 0; i < LEVEL_SIZE; i++) {
		uintptr_t from = base + i * step;

		if (from >= end || from + step <= start)
			continue;
		if (level == 0)
			node->entry[i] = 0;
		else
			table_clear(node->child[i], level - 1, from, start, end);
	}
}

static inline void table_free(struct table *node, int level)
{
	unsigned i;

	if (!node)
		return;
	for (i = 0; level > 0 && i < LEVEL_SIZE; i++)
		table_free(node->child[i], level - 1);
	TABLE_FREE(node, sizeof(*node));
}

#endif
