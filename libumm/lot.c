/* SPDX-License-Identifier: MIT */
/*
 * Lots. A program of very many small allocations has most of them side by side, and does not know
 * how many more of them there are than of its blocks: an allocation is to take bits, not nodes of
 * trees. Of a page a lot knows whether an allocation has it, and whether one begins there; an
 * allocation goes on to where the next begins, or to a page that none has.
 *
 * Invariants: a lot has pages; one that begins is a page that it has; of the pages that it has,
 * each that follows one which it does not have, or nothing, begins an allocation.
 * Locks: the caller's.
 */
#include "lot.h"

#include "util.h"

void lots_init(struct lots *lots)
{
	lots->tree.root = NULL;
	pool_init(&lots->pool, sizeof(struct lot), NULL);
	pool_pack(&lots->pool);
}

void lots_fini(struct lots *lots)
{
	pool_fini(&lots->pool);
}

static struct lot *lot_of(struct itree_node *node)
{
	return node ? container_of(node, struct lot, node) : NULL;
}

static struct lot *lot_find(const struct lots *lots, uintptr_t addr)
{
	return lot_of(itree_first(&lots->tree, addr, addr + 1));
}

static void lot_insert(struct lots *lots, struct lot *lot, uintptr_t va)
{
	lot->node.start = va;
	lot->node.end = va + UMM_BLOCK_SIZE;
	itree_insert(&lots->tree, &lot->node);
}

/* The first page behind page i that is not of its allocation. */
static unsigned lot_end(const struct lot *lot, unsigned i)
{
	return min(bit_search(lot->begins, i + 1), bit_next_clear(lot->has, i));
}

static bool is_small(const struct small *small)
{
	uintptr_t len = small->end - small->start;

	return len < UMM_BLOCK_SIZE && (small->start & BLOCK_MASK) + len <= UMM_BLOCK_SIZE;
}

bool lots_add(struct lots *lots, const struct small *small)
{
	struct lot *lot = lot_find(lots, small->start);
	unsigned first = page_index(small->start), last = page_index(small->end - 1) + 1;

	if (!is_small(small) || (lot && lot->attached != small->attached))
		return false;
	if (!lot) {
		lot = pool_alloc(&lots->pool);
		if (!lot)
			return false;
		*lot = (struct lot){ .attached = small->attached };
		lot_insert(lots, lot, small->start & ~BLOCK_MASK);
	}
	/* In this order: a child that is born in between does not take it for a neighbour's. */
	bit_set(lot->begins, first);
	bits_set(lot->has, first, last);
	return true;
}

void lots_del(struct lots *lots, const struct small *small)
{
	struct lot *lot = lot_find(lots, small->start);
	unsigned first = page_index(small->start), last = page_index(small->end - 1) + 1;

	for (unsigned i = last; i-- > first;)
		bit_clear(lot->has, i);
	bit_clear(lot->begins, first);
	if (bit_any(lot->has))
		return;
	itree_remove(&lots->tree, &lot->node);
	pool_free(&lots->pool, lot);
}

/* The last page that begins an allocation, up to page i; there is one. */
static unsigned lot_begin(const struct lot *lot, unsigned i)
{
	while (!bit_test(lot->begins, i))
		i--;
	return i;
}

bool lots_first(const struct lots *lots, uintptr_t start, uintptr_t end, struct small *out)
{
	for (struct itree_node *node = itree_first(&lots->tree, start, end); node;
	     node = itree_next(node, start, end)) {
		const struct lot *lot = lot_of(node);
		uintptr_t va = node->start;
		unsigned i = bit_next(lot->has, start > va ? page_index(start) : 0);

		if (i == UMM_BLOCK_PAGES)
			continue;
		if (va + ((uintptr_t)i << UMM_PAGE_SHIFT) >= end)
			return false;
		out->start = va + ((uintptr_t)lot_begin(lot, i) << UMM_PAGE_SHIFT);
		out->end = va + ((uintptr_t)lot_end(lot, i) << UMM_PAGE_SHIFT);
		out->attached = lot->attached;
		return true;
	}
	return false;
}

bool lots_at(const struct lots *lots, uintptr_t base, struct small *out)
{
	return lots_first(lots, base, base + 1, out) && out->start == base;
}

const uint64_t *lots_pages(const struct lots *lots, uintptr_t va)
{
	const struct lot *lot = lot_find(lots, va);

	return lot ? lot->has : NULL;
}

/* Was it in the tree, or about to be? Then what it says of pages is made consistent. */
static void replant(void *obj, void *priv)
{
	struct lots *lots = priv;
	struct lot *lot = obj;
	bool before = false, has;

	if (!lot->node.height)
		return;
	for (unsigned i = 0; i < UMM_BLOCK_PAGES; i++, before = has) {
		has = bit_test(lot->has, i);
		if (!has)
			bit_clear(lot->begins, i);
		else if (!before)
			bit_set(lot->begins, i);
	}
	if (bit_any(lot->has))
		lot_insert(lots, lot, lot->node.start);
}

void lots_replant(struct lots *lots)
{
	lots->tree.root = NULL;
	pool_each(&lots->pool, replant, lots);
}
