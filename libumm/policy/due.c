/* SPDX-License-Identifier: MIT */
/*
 * What is due latest goes: each block is taken to be used again as long after its last use as it
 * was before, in the mean, and what has left is remembered. Where that is regular (a loop), the
 * wait has an end, and what was used last is due last; where it is as irregular as chance, the
 * wait is as long as ever, and the order is one by frequency. In between, so much of the wait is
 * over as it is regular. What is overdue is taken to be used now, and late. By the share of what
 * it costs to have it back, as in order_weighed.
 *
 * Of a block that was used once there is no mean. If all blocks that were used twice lately took
 * as long for it, it is due by theirs; if not, it is due later than all that are.
 *
 * Who is due latest changes with every use, so it is looked for in a pool. What comes joins it
 * while it has room, or else the queue of the rest, and what is longest in that joins it before
 * each look, after which those stay that are due later than the mean. Where nobody in the pool may
 * go, who was used least recently goes.
 *
 * Invariant: an entry is in the pool, which has LOOK at most, or in the rest.
 */
#include "policy/parts.h"

#define WEIGHT	3u  /* of means: the last counts one in so many */
#define REGULAR 4u  /* all blocks are: what they deviate is less than one in so many of chance's */
#define LOOK	64u /* so many are looked at */

enum { REST, POOL };

/* Shares of the wait are of so many. */
#define WHOLE UINT64_C(256)

static uint32_t mean(uint32_t old, uint32_t new)
{
	return (uint32_t)(((uint64_t)old * (WEIGHT - 1) + new) / WEIGHT);
}

/* Its gap, and what gaps deviate from that. */
static void learn(uint32_t *gap, uint32_t *deviation, uint32_t now)
{
	if (!*gap) {
		*gap = now;
		*deviation = now / 2;
		return;
	}
	*deviation = mean(*deviation, now > *gap ? now - *gap : *gap - now);
	*gap = mean(*gap, now);
}

static void learn_use(struct order *order, struct order_entry *entry, uint64_t before)
{
	uint64_t gap = entry->used - before;
	uint32_t now = gap > UINT32_MAX / 2 ? UINT32_MAX / 2 : gap ? (uint32_t)gap : 1;

	if (!entry->count)
		learn(&order->gap, &order->deviation, now);
	learn(&entry->count, &entry->epoch, now);
}

static void due_insert(struct order *order, struct order_entry *entry)
{
	struct order_entry *ghost = ghost_find(order, entry->key);

	if (ghost) {
		entry->count = ghost->count;
		entry->epoch = ghost->epoch;
		learn_use(order, entry, ghost->used);
		ghost_forget(order, ghost);
	}
	entry->where = order->list[POOL].n < LOOK ? POOL : REST;
	list_push(&order->list[entry->where], entry);
}

static void due_touch(struct order *order, struct order_entry *entry)
{
	learn_use(order, entry, order->before);
}

static void due_remove(struct order *order, struct order_entry *entry)
{
	struct order_entry *ghost;

	list_remove(&order->list[entry->where], entry);
	if (ghosts_full(order))
		ghost_forget(order, ghost_oldest(order));
	ghost = ghost_add(order, entry->key);
	ghost->count = entry->count;
	ghost->epoch = entry->epoch;
	ghost->used = entry->used;
}

/* How much of the gap is left to chance: if all is, they deviate by 3/5 of it at least. */
static uint64_t chance(uint32_t gap, uint32_t deviation)
{
	uint64_t share = deviation * WHOLE * 5 / 3 / gap;

	return share > WHOLE ? WHOLE : share;
}

/* Until it is used, in uses. */
static uint64_t due_in(const struct order *order, const struct order_entry *entry)
{
	uint64_t age = order->clock - entry->used, share;
	uint32_t gap = entry->count;

	if (gap && age > gap)
		return mean(gap, age > UINT32_MAX / 2 ? UINT32_MAX / 2 : (uint32_t)age);
	if (gap)
		return gap - age * (WHOLE - chance(gap, entry->epoch)) / WHOLE;
	share = order->gap ? chance(order->gap, order->deviation) : WHOLE;
	if (share < WHOLE / REGULAR && age <= order->gap)
		return order->gap - age * (WHOLE - share) / WHOLE;
	return 2 * age + order->full;
}

static uint64_t cost(const struct order *order, const struct order_entry *entry)
{
	uint64_t npages = order_pages(entry);

	return due_in(order, entry) * (npages * 65536 / (npages + ORDER_MISS));
}

static uint64_t due_worth(const struct order *order, const struct order_entry *entry)
{
	return UINT64_MAX - cost(order, entry);
}

static void move(struct order *order, struct order_entry *entry, uint8_t to)
{
	list_remove(&order->list[entry->where], entry);
	entry->where = to;
	list_push(&order->list[to], entry);
}

/* The one of the pool that is due latest; besides it, those stay that are later than the mean. */
static struct order_entry *look(struct order *order, const struct order_want *want)
{
	struct order_entry *entry, *best = NULL, *next;
	uint64_t costs[LOOK] = { 0 }, most = 0, sum = 0, middle;
	unsigned i = 0;

	while (order->list[POOL].n < LOOK && order->list[REST].tail)
		move(order, order->list[REST].tail, POOL);
	for (entry = order->list[POOL].tail; entry; entry = entry->prev, i++) {
		costs[i] = cost(order, entry);
		sum += costs[i];
		if (!order_may(entry, want) || (best && costs[i] <= most))
			continue;
		most = costs[i];
		best = entry;
	}
	middle = i ? sum / i : 0;
	for (i = 0, entry = order->list[POOL].tail; entry; entry = next, i++) {
		next = entry->prev;
		if (costs[i] <= middle && entry != best)
			move(order, entry, REST);
	}
	return best;
}

static struct order_entry *due_victim(struct order *order, const struct order_want *want)
{
	struct order_entry *entry = look(order, want);

	return entry ? entry : order_first(order, want);
}

const struct order_ops order_due = {
	.name = "due",
	.ghosts = 8,
	.recalls = true,
	.waits = true,
	.insert = due_insert,
	.touch = due_touch,
	.remove = due_remove,
	.victim = due_victim,
	.worth = due_worth,
};
