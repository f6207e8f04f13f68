/* SPDX-License-Identifier: MIT */
/*
 * LRFU: what was used least often goes, where a use counts half as much with each epoch since. What
 * has left is remembered with its count. Where uses are drawn independently, by whatever
 * distribution, that comes near the best that can be had; what it takes for a use is
 * any use, however close to the last, for how often is what it asks. Of the few that are worth
 * least, as in order_weighed, the one goes that is worth least by its share of what it costs to
 * have it back.
 *
 * All counts halve at once when an epoch ends, so nobody need do it: what compares is the logarithm
 * of a count plus the epoch that it is of. By quarters of octaves of that, blocks are in a ring of
 * lists; what is below the least of them, and would not be told apart, is in that one.
 *
 * Invariant: an entry is in the list of its worth, or in the least if it is worth less.
 */
#include "policy/parts.h"

#define HALF	  24	     /* an epoch, in uses of all that fits */
#define ONE	  16u	     /* what a use counts */
#define COUNT_MAX (1u << 24) /* less than a ring above the least */
#define OCTAVE	  4u	     /* lists */
#define DEEP	  8u	     /* a single use is told apart for so many epochs */
#define LOOK	  8	     /* so many are looked at */

/* In quarters of octaves; n is ONE at least. */
static uint64_t logarithm(uint32_t n)
{
	unsigned octave = 31 - (unsigned)__builtin_clz(n);

	return octave * OCTAVE + (n >> (octave - 2)) % OCTAVE;
}

static uint64_t least(const struct order *order)
{
	return logarithm(ONE) + (uint64_t)order->epoch * OCTAVE;
}

static struct order_list *list_at(const struct order *order, uint64_t worth)
{
	return &order->ring[worth % ORDER_RING];
}

static struct order_list *list_of(const struct order *order, const struct order_entry *entry)
{
	uint64_t worth = logarithm(entry->count) + ((uint64_t)entry->epoch + DEEP) * OCTAVE;

	return list_at(order, worth < least(order) ? least(order) : worth);
}

/* All of one list is behind all of another: it is used first. */
static void list_append(struct order_list *to, struct order_list *from)
{
	if (!from->head)
		return;
	from->head->prev = to->tail;
	if (to->tail)
		to->tail->next = from->head;
	else
		to->head = from->head;
	to->tail = from->tail;
	to->n += from->n;
	*from = (struct order_list){ 0 };
}

/* Has an epoch ended? Then the least list is an octave further on. */
static void epoch_turn(struct order *order)
{
	uint64_t low = least(order);

	if (order->clock - order->turned < (uint64_t)(order->full + 1) * HALF)
		return;
	for (unsigned i = 0; i < OCTAVE; i++)
		list_append(list_at(order, low + i + 1), list_at(order, low + i));
	order->turned = order->clock;
	order->epoch++;
}

static void count_use(const struct order *order, struct order_entry *entry)
{
	uint32_t age = order->epoch - entry->epoch;

	entry->count = (age > 31 ? 0 : entry->count >> age) + ONE;
	if (entry->count > COUNT_MAX)
		entry->count = COUNT_MAX;
	entry->epoch = order->epoch;
}

static void lrfu_insert(struct order *order, struct order_entry *entry)
{
	struct order_entry *ghost = ghost_find(order, entry->key);

	epoch_turn(order);
	if (ghost) {
		entry->count = ghost->count;
		entry->epoch = ghost->epoch;
		ghost_forget(order, ghost);
	}
	count_use(order, entry);
	list_push(list_of(order, entry), entry);
}

static void lrfu_touch(struct order *order, struct order_entry *entry)
{
	epoch_turn(order);
	list_remove(list_of(order, entry), entry);
	count_use(order, entry);
	list_push(list_of(order, entry), entry);
}

static void lrfu_remove(struct order *order, struct order_entry *entry)
{
	struct order_entry *ghost;

	list_remove(list_of(order, entry), entry);
	if (ghosts_full(order))
		ghost_forget(order, ghost_oldest(order));
	ghost = ghost_add(order, entry->key);
	ghost->count = entry->count;
	ghost->epoch = entry->epoch;
}

/* What it counts now, for each share of what it costs to have it back. */
static uint64_t worth(const struct order *order, const struct order_entry *entry)
{
	uint64_t npages = order_pages(entry);
	uint32_t age = order->epoch - entry->epoch;

	return ((uint64_t)entry->count << 24 >> (age > 63 ? 63 : age)) * (npages + ORDER_MISS) /
	       npages;
}

static struct order_entry *lrfu_victim(struct order *order, const struct order_want *want)
{
	struct order_entry *entry, *best = NULL;
	unsigned looked = 0;

	for (uint64_t i = 0; i < ORDER_RING && looked < LOOK; i++) {
		entry = list_at(order, least(order) + i)->tail;
		for (; entry && looked < LOOK; entry = entry->prev) {
			if (!order_may(entry, want))
				continue;
			looked++;
			if (!best || worth(order, entry) < worth(order, best))
				best = entry;
		}
	}
	return best;
}

const struct order_ops order_lrfu = {
	.name = "lrfu",
	.ghosts = 8,
	.ring = true,
	.recalls = true,
	.insert = lrfu_insert,
	.touch = lrfu_touch,
	.remove = lrfu_remove,
	.victim = lrfu_victim,
	.worth = worth,
};
