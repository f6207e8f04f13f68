/* SPDX-License-Identifier: MIT */
/*
 * The block that was used least recently goes. Or, weighed: of the few that were used least
 * recently, the one whose age, by its share of what it costs to have it back, is the greatest. A
 * block that is large frees more at the price of one miss; among equals the oldest goes.
 *
 * Invariant: the list is sorted by last use.
 */
#include "policy/parts.h"

/* So many are looked at. */
#define LOOK 8

static void lru_insert(struct order *order, struct order_entry *entry)
{
	list_push(&order->list[0], entry);
}

static void lru_touch(struct order *order, struct order_entry *entry)
{
	list_remove(&order->list[0], entry);
	list_push(&order->list[0], entry);
}

static void lru_remove(struct order *order, struct order_entry *entry)
{
	list_remove(&order->list[0], entry);
}

static struct order_entry *lru_victim(struct order *order, const struct order_want *want)
{
	struct order_entry *entry = order->list[0].tail;

	/* What follows one that was used since was used later still. */
	while (entry && entry->used < want->before && !order_may(entry, want))
		entry = entry->prev;
	return entry && entry->used < want->before ? entry : NULL;
}

static uint64_t worth(const struct order *order, const struct order_entry *entry)
{
	uint64_t npages = order_pages(entry);

	return (order->clock - entry->used) * (npages * 65536 / (npages + ORDER_MISS));
}

static uint64_t weighed_worth(const struct order *order, const struct order_entry *entry)
{
	return UINT64_MAX - worth(order, entry);
}

static struct order_entry *weighed_victim(struct order *order, const struct order_want *want)
{
	struct order_entry *entry = order->list[0].tail, *best = NULL;

	for (unsigned n = 0; entry && entry->used < want->before && n < LOOK; entry = entry->prev) {
		if (!order_may(entry, want))
			continue;
		n++;
		if (!best || worth(order, entry) > worth(order, best))
			best = entry;
	}
	return best;
}

const struct order_ops order_lru = {
	.name = "lru",
	.insert = lru_insert,
	.touch = lru_touch,
	.remove = lru_remove,
	.victim = lru_victim,
};

const struct order_ops order_weighed = {
	.name = "weighed",
	.insert = lru_insert,
	.touch = lru_touch,
	.remove = lru_remove,
	.victim = weighed_victim,
	.worth = weighed_worth,
};
