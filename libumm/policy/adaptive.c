/* SPDX-License-Identifier: MIT */
/*
 * By last use, or LIRS: whichever would have missed less lately. Both run all the time over
 * shadows, memories of the same size that hold nothing but keys; a miss of one where the other
 * has the block moves a balance, and when that leans far enough, the blocks that are really
 * there change over to the better order. So a loop or a scan costs what it costs LIRS, and a
 * change of phase what it costs the order by last use, but for what is lost until then.
 *
 * Invariant: a shadow's order has exactly the entries whose keys are in its table, which has room
 * for what fits into the memory.
 */
#include "policy/parts.h"

/*
 * The balance leans when it is 1/LEAN of what fits, and FEW, off its middle, and goes no further
 * than twice that: a few misses of a memory of a few blocks say nothing.
 */
#define LEAN 16
#define FEW  16

static bool shadow_use(struct shadow *shadow, uintptr_t key, uint32_t room)
{
	struct order *table = shadow->table, *order = shadow->order;
	struct order_want want = { .before = UINT64_MAX, .except = key };
	struct order_entry *record = ghost_find(table, key), *victim;

	if (record) {
		order_touch(order, &shadow->entry[record - table->ghosts.pool]);
		return true;
	}
	room = room < table->ghosts.most ? room : table->ghosts.most;
	while (order->nentries && order->nentries >= room) {
		want.ticket = order_ticket(order);
		victim = order_victim(order, &want);
		order_remove(order, victim);
		ghost_forget(table, &table->ghosts.pool[victim - shadow->entry]);
	}
	record = ghost_add(table, key);
	order_insert(order, &shadow->entry[record - table->ghosts.pool], key);
	return false;
}

/* All entries change over, in the order in which they would have gone. */
static void change_over(struct order *order, const struct order_ops *ops)
{
	struct order_want all = { .before = UINT64_MAX,
				  .ticket = order_ticket(order),
				  .except = 1 };
	struct order_list gone = { 0 };
	struct order_entry *entry;

	while ((entry = order->now->victim(order, &all))) {
		order->now->remove(order, entry);
		list_push(&gone, entry);
	}
	while (order->ghosts.list.tail)
		ghost_forget(order, order->ghosts.list.tail);
	order->top = order->bottom = NULL;
	order->now = ops;
	while ((entry = gone.tail)) {
		list_remove(&gone, entry);
		order->now->insert(order, entry);
	}
}

static void adaptive_use(struct order *order, uintptr_t key)
{
	int64_t lean = order->full / LEAN + FEW;
	bool lru = shadow_use(&order->shadow[0], key, order->full);
	bool lirs = shadow_use(&order->shadow[1], key, order->full);

	order->balance += lirs - lru;
	if (order->balance > 2 * lean)
		order->balance = 2 * lean;
	if (order->balance < -2 * lean)
		order->balance = -2 * lean;
	if (order->balance >= lean && order->now != &order_lirs)
		change_over(order, &order_lirs);
	if (order->balance <= -lean && order->now != &order_lru)
		change_over(order, &order_lru);
}

static void adaptive_insert(struct order *order, struct order_entry *entry)
{
	adaptive_use(order, entry->key);
	order->now->insert(order, entry);
}

static void adaptive_touch(struct order *order, struct order_entry *entry)
{
	adaptive_use(order, entry->key);
	order->now->touch(order, entry);
}

static void adaptive_remove(struct order *order, struct order_entry *entry)
{
	order->now->remove(order, entry);
}

static struct order_entry *adaptive_victim(struct order *order, const struct order_want *want)
{
	return order->now->victim(order, want);
}

const struct order_ops order_adaptive = {
	.name = "adaptive",
	.ghosts = 8,
	.shadows = true,
	.insert = adaptive_insert,
	.touch = adaptive_touch,
	.remove = adaptive_remove,
	.victim = adaptive_victim,
};
