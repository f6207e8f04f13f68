/* SPDX-License-Identifier: MIT */
/*
 * LIRS: what matters is how long ago a block was used the time before last. Most of the memory is
 * for blocks that come back soon (low); the rest is a queue that all others pass through (high).
 * A stack holds blocks in the order of their last use, from the low one used longest ago
 * upwards, ghosts included: a high block or a ghost that is used while it is in the stack came
 * back sooner than that low block, and changes places with it. A loop over more than fits keeps
 * what it has in the low part, where an order by last use alone would miss always.
 *
 * Invariants: every low entry is in the stack, the bottom of which is low; every high entry is in
 * the queue; every ghost is in the stack.
 */
#include "policy/parts.h"

#define SHARE 128 /* the queue's share: one in so many */

enum { HIGH, LOW, GHOST };

/* How many entries may be low. */
static uint32_t low_most(const struct order *order)
{
	uint32_t share = order->full / SHARE;

	return order->full - (share ? share : order->full != 0);
}

static void forget(struct order *order, struct order_entry *ghost)
{
	stack_remove(order, ghost);
	ghost_forget(order, ghost);
}

/* The bottom of the stack is to be low. */
static void prune(struct order *order)
{
	while (order->bottom && order->bottom->where != LOW) {
		if (order->bottom->where == GHOST)
			forget(order, order->bottom);
		else
			stack_remove(order, order->bottom);
	}
}

/* While there are too many low ones, the one at the bottom becomes high. */
static void demote(struct order *order)
{
	struct order_entry *entry;

	while (order->nlow > low_most(order)) {
		prune(order);
		entry = order->bottom;
		stack_remove(order, entry);
		entry->where = HIGH;
		order->nlow--;
		list_push(&order->list[0], entry);
	}
	prune(order);
}

static void make_low(struct order *order, struct order_entry *entry)
{
	entry->where = LOW;
	order->nlow++;
	stack_push(order, entry);
	demote(order);
}

static void lirs_insert(struct order *order, struct order_entry *entry)
{
	struct order_entry *ghost = ghost_find(order, entry->key);

	if (ghost || order->nlow < low_most(order)) {
		if (ghost)
			forget(order, ghost);
		make_low(order, entry);
		return;
	}
	entry->where = HIGH;
	stack_push(order, entry);
	list_push(&order->list[0], entry);
	/* Where none is low, nothing is in the stack. */
	prune(order);
}

static void lirs_touch(struct order *order, struct order_entry *entry)
{
	bool counts = order_counts(order, entry), known = entry->stacked;

	if (known)
		stack_remove(order, entry);
	if (entry->where == LOW) {
		stack_push(order, entry);
		prune(order);
		return;
	}
	list_remove(&order->list[0], entry);
	if (known && counts) {
		make_low(order, entry);
		return;
	}
	stack_push(order, entry);
	list_push(&order->list[0], entry);
	/* Where none is low, nothing is in the stack. */
	prune(order);
}

static void lirs_remove(struct order *order, struct order_entry *entry)
{
	struct order_entry *ghost;

	if (entry->where == LOW) {
		stack_remove(order, entry);
		order->nlow--;
		prune(order);
		return;
	}
	list_remove(&order->list[0], entry);
	if (!entry->stacked)
		return;
	if (ghosts_full(order))
		forget(order, ghost_oldest(order));
	ghost = ghost_add(order, entry->key);
	ghost->where = GHOST;
	stack_replace(order, entry, ghost);
}

static struct order_entry *lirs_victim(struct order *order, const struct order_want *want)
{
	struct order_entry *entry;

	demote(order);
	for (entry = order->list[0].tail; entry; entry = entry->prev)
		if (order_may(entry, want))
			return entry;
	for (entry = order->bottom; entry; entry = entry->above)
		if (entry->where == LOW && order_may(entry, want))
			return entry;
	return NULL;
}

static uint64_t lirs_worth(const struct order *order, const struct order_entry *entry)
{
	(void)order;
	return entry->where == LOW;
}

const struct order_ops order_lirs = {
	.name = "lirs",
	.ghosts = 8,
	.insert = lirs_insert,
	.touch = lirs_touch,
	.remove = lirs_remove,
	.victim = lirs_victim,
	.worth = lirs_worth,
};
