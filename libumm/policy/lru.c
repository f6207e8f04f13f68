/* SPDX-License-Identifier: MIT */
/* The block that was used least recently goes. */
#include "policy/parts.h"

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

const struct order_ops order_lru = {
	.name = "lru",
	.insert = lru_insert,
	.touch = lru_touch,
	.remove = lru_remove,
	.victim = lru_victim,
};
