/* SPDX-License-Identifier: MIT */
/*
 * A page table, for the devices of the tests: a radix tree of four levels, nine bits each, from
 * page address to entry. Level 3 is the root, level 0 holds entries.
 *
 * Plain data: the device locks it. Nodes are not freed before the table is emptied, so a slot
 * stays valid until then.
 */
#include "ref_table.h"

#include <stdlib.h>

#include "umm.h"

#define LEVEL_BITS 9
#define LEVEL_SIZE (1u << LEVEL_BITS)
#define TOP_LEVEL  3

struct ref_table_node {
	union {
		struct ref_table_node *child[LEVEL_SIZE];
		uint64_t entry[LEVEL_SIZE];
	};
};

static struct ref_table_node *node_create(const struct ref_table *table)
{
	size_t len = sizeof(struct ref_table_node);

	return table->heap ? table->heap->alloc(len) : calloc(1, len);
}

static void node_destroy(const struct ref_table *table, struct ref_table_node *node, int level)
{
	if (!node)
		return;
	for (unsigned i = 0; level > 0 && i < LEVEL_SIZE; i++)
		node_destroy(table, node->child[i], level - 1);
	if (table->heap)
		table->heap->free(node, sizeof(*node));
	else
		free(node);
}

/* How much one item of a node of this level covers. */
static uintptr_t level_step(int level)
{
	return (uintptr_t)1 << (UMM_PAGE_SHIFT + LEVEL_BITS * level);
}

static unsigned level_index(uintptr_t addr, int level)
{
	return (unsigned)(addr / level_step(level)) & (LEVEL_SIZE - 1);
}

uint64_t *ref_table_slot(struct ref_table *table, uintptr_t addr, bool create)
{
	struct ref_table_node **node = &table->root;

	for (int level = TOP_LEVEL;; level--) {
		if (!*node && create)
			*node = node_create(table);
		if (!*node)
			return NULL;
		if (level == 0)
			return &(*node)->entry[level_index(addr, 0)];
		node = &(*node)->child[level_index(addr, level)];
	}
}

uint64_t ref_table_entry(struct ref_table *table, uintptr_t addr)
{
	const uint64_t *slot = ref_table_slot(table, addr, false);

	return slot ? *slot : 0;
}

/* Clear start..end below a node that covers the addresses from base. */
static void node_clear(struct ref_table_node *node, int level, uintptr_t base, uintptr_t start,
		       uintptr_t end)
{
	uintptr_t step = level_step(level);

	if (!node)
		return;
	for (unsigned i = 0; i < LEVEL_SIZE; i++) {
		uintptr_t from = base + i * step;

		if (from >= end || from + step <= start)
			continue;
		if (level == 0)
			node->entry[i] = 0;
		else
			node_clear(node->child[i], level - 1, from, start, end);
	}
}

void ref_table_clear(struct ref_table *table, uintptr_t start, uintptr_t end)
{
	node_clear(table->root, TOP_LEVEL, 0, start, end);
}

void ref_table_empty(struct ref_table *table)
{
	node_destroy(table, table->root, TOP_LEVEL);
	table->root = NULL;
}
