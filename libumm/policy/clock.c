/* SPDX-License-Identifier: MIT */
/*
 * Second chance: first in, first out, except that a block which was used since it was last
 * looked at goes round once more. The hand of the clock is the tail of the list.
 */
#include "policy/parts.h"

static void clock_insert(struct order *order, struct order_entry *entry)
{
	list_push(&order->list[0], entry);
}

static void clock_touch(struct order *order, struct order_entry *entry)
{
	(void)order;
	entry->uses = 1;
}

static void clock_remove(struct order *order, struct order_entry *entry)
{
	list_remove(&order->list[0], entry);
}

static struct order_entry *clock_victim(struct order *order, const struct order_want *want)
{
	struct order_list *list = &order->list[0];
	struct order_entry *entry;

	for (uint64_t left = 2 * (uint64_t)list->n; left; left--) {
		entry = list->tail;
		if (!entry->uses && order_may(entry, want))
			return entry;
		entry->uses = 0;
		list_remove(list, entry);
		list_push(list, entry);
	}
	return NULL;
}

const struct order_ops order_clock = {
	.name = "clock",
	.insert = clock_insert,
	.touch = clock_touch,
	.remove = clock_remove,
	.victim = clock_victim,
};
