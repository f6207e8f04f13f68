/* SPDX-License-Identifier: MIT */
/*
 * S3-FIFO: three queues, first in, first out. What comes waits in a small one (a tenth) whether it
 * is used again; if so, it goes on to the main queue, where it goes round once for every use, up
 * to three; if not, it is evicted, and remembered as a ghost. What comes back while it is
 * remembered goes to the main queue at once. So a scan passes through the small queue
 * alone.
 */
#include "policy/parts.h"

#define SMALL 10 /* the small queue's share: one in so many */
#define MOST  3	 /* uses that count */

enum { IN_SMALL, IN_MAIN };

static void s3fifo_move(struct order *order, struct order_entry *entry, uint8_t where)
{
	list_remove(&order->list[entry->where], entry);
	entry->where = where;
	list_push(&order->list[where], entry);
}

static void s3fifo_insert(struct order *order, struct order_entry *entry)
{
	struct order_entry *ghost = ghost_find(order, entry->key);

	entry->where = ghost ? IN_MAIN : IN_SMALL;
	if (ghost)
		ghost_forget(order, ghost);
	list_push(&order->list[entry->where], entry);
}

static void s3fifo_touch(struct order *order, struct order_entry *entry)
{
	if (order_counts(order, entry) && entry->uses < MOST)
		entry->uses++;
}

static void s3fifo_remove(struct order *order, struct order_entry *entry)
{
	list_remove(&order->list[entry->where], entry);
	if (entry->where != IN_SMALL)
		return;
	if (ghosts_full(order))
		ghost_forget(order, ghost_oldest(order));
	ghost_add(order, entry->key);
}

/* Whose turn it is: the small queue's while it is larger than its share. */
static struct order_entry *s3fifo_next(struct order *order)
{
	if (order->list[IN_SMALL].n &&
	    (order->list[IN_SMALL].n > order->full / SMALL || !order->list[IN_MAIN].n))
		return order->list[IN_SMALL].tail;
	return order->list[IN_MAIN].tail;
}

/* Somebody whom nothing speaks for, wherever: where those whose turn it is may not go. */
static struct order_entry *s3fifo_any(struct order *order, const struct order_want *want)
{
	struct order_entry *entry;

	for (unsigned i = 0; i < 2; i++)
		for (entry = order->list[i].tail; entry; entry = entry->prev)
			if (order_may(entry, want))
				return entry;
	return NULL;
}

static struct order_entry *s3fifo_victim(struct order *order, const struct order_want *want)
{
	struct order_entry *entry;

	for (uint64_t left = (MOST + 2) * (uint64_t)order->nentries; left; left--) {
		entry = s3fifo_next(order);
		if (!entry->uses && !order_may(entry, want))
			break;
		if (!entry->uses)
			return entry;
		entry->uses = entry->where == IN_SMALL ? 0 : entry->uses - 1;
		s3fifo_move(order, entry, IN_MAIN);
	}
	return s3fifo_any(order, want);
}

const struct order_ops order_s3fifo = {
	.name = "s3fifo",
	.ghosts = 4,
	.insert = s3fifo_insert,
	.touch = s3fifo_touch,
	.remove = s3fifo_remove,
	.victim = s3fifo_victim,
};
