/* SPDX-License-Identifier: MIT */
/*
 * By last use and size, LIRS, by frequency (LRFU) or by when blocks are due: whichever would have
 * missed least lately. All run all the time over shadows, memories of the same size that hold
 * nothing but keys, and how many pages each block had when it was used last; what one has missed
 * more than the best is counted, and when the one that is followed is too far behind, the blocks
 * that are really there change over to the best, which recalls what its shadow knows, of what is
 * not there, too. So a loop or a scan costs what it costs LIRS or `due`, draws by a distribution
 * what they cost LRFU, and a change of phase what it costs the order by last use, but for what is
 * lost until then, which has a bound (allowance.c).
 *
 * A block comes before its pages do: the shadows hear of it with what happens next. Where more
 * blocks are there than keys find room, because they are small, they hear of one in two, four or
 * more, and are as much smaller.
 *
 * Invariant: a shadow's order has exactly the entries whose keys are in its table, which has room
 * for as many blocks as fit into the memory.
 */
#include "policy/allowance.h"

/*
 * Too far behind is 1/LEAN of what fits, and FEW: a few misses of a memory of a few blocks say
 * nothing. Nobody is taken to be more than twice as far behind, and all others are when one is
 * chosen: it costs something to change over. Where the shadows hear of a part
 * of the blocks, nothing else bounds what is lost, and FEW are twice as many.
 */
#define LEAN 96
#define FEW  2

#define SAMPLE_MOST (1u << 20)

const struct order_ops *const order_shadows[NR_SHADOWS] = {
	&order_weighed,
	&order_lirs,
	&order_lrfu,
	&order_due,
};

static void shadow_evict(struct shadow *shadow, uintptr_t except)
{
	struct order *table = shadow->table, *order = shadow->order;
	struct order_want want = { .before = UINT64_MAX,
				   .ticket = order_ticket(order),
				   .except = except };
	struct order_entry *victim = order_victim(order, &want);

	shadow->npages -= order_pages(victim);
	order_remove(order, victim);
	ghost_forget(table, &table->ghosts.pool[victim - shadow->entry]);
}

static struct order_entry *shadow_insert(struct shadow *shadow, uintptr_t key)
{
	struct order_entry *record, *entry;

	shadow->crowded = ghosts_full(shadow->table);
	if (shadow->crowded)
		shadow_evict(shadow, key);
	record = ghost_add(shadow->table, key);
	entry = &shadow->entry[record - shadow->table->ghosts.pool];
	order_insert(shadow->order, entry, key);
	return entry;
}

/* Was it there? */
static bool shadow_use(struct shadow *shadow, uintptr_t key, uint16_t npages, uint64_t room)
{
	struct order_entry *record = ghost_find(shadow->table, key), *entry = NULL;

	if (record) {
		entry = &shadow->entry[record - shadow->table->ghosts.pool];
		shadow->npages -= order_pages(entry);
	}
	while (shadow->npages + npages > room && shadow->order->nentries > (record ? 1 : 0))
		shadow_evict(shadow, key);
	if (record)
		order_touch(shadow->order, entry);
	else
		entry = shadow_insert(shadow, key);
	atomic_store_explicit(&entry->npages, npages, memory_order_relaxed);
	shadow->npages += npages;
	return record;
}

/* It forgets all others. */
static void shadow_thin(const struct order *order, struct shadow *shadow)
{
	struct ghosts *keys = &shadow->table->ghosts;
	struct order_entry *record, *next, *entry;

	shadow->crowded = false;
	for (record = keys->list.head; record; record = next) {
		next = record->next;
		if (order_samples(order, record->key))
			continue;
		entry = &shadow->entry[record - keys->pool];
		shadow->npages -= order_pages(entry);
		order_remove(shadow->order, entry);
		ghost_forget(shadow->table, record);
	}
}

/* A table is full before its memory is: half of the blocks will do. Or the other way round. */
static void resample(struct order *order)
{
	struct shadow *shadow = order->shadow;
	uint64_t full = order->room / order->sample;
	uint32_t before = order->sample;
	bool crowded = false;

	for (unsigned i = 0; i < NR_SHADOWS; i++)
		crowded |= shadow[i].crowded;
	if (crowded && order->sample < SAMPLE_MOST) {
		order->sample *= 2;
		for (unsigned i = 0; i < NR_SHADOWS; i++)
			shadow_thin(order, &shadow[i]);
	} else if (order->sample > 1 && shadow[0].npages > full - full / 8 &&
		   shadow[0].table->ghosts.list.n < shadow[0].table->ghosts.most / 3) {
		order->sample /= 2;
	}
	if (order->sample != before)
		allowance_resample(order);
}

static const struct order_ops *followed(const struct order *order)
{
	return order_shadows[order->now];
}

/* What a shadow knows of a block, remembered as if it had left. */
static void recall(struct order *order, const struct order *shadow, uintptr_t key,
		   const struct order_entry *known)
{
	uint64_t ago = shadow->clock - known->used;
	struct order_entry *ghost;

	if (ghosts_full(order))
		ghost_forget(order, ghost_oldest(order));
	ghost = ghost_add(order, key);
	ghost->count = known->count;
	ghost->epoch = known->epoch;
	ghost->used = order->clock > ago ? order->clock - ago : 0;
}

static void recall_all(struct order *order, const struct shadow *shadow)
{
	const struct order_entry *record;

	order->epoch = shadow->order->epoch;
	order->turned = order->clock;
	order->gap = shadow->order->gap;
	order->deviation = shadow->order->deviation;
	if (!shadow->order->ops->recalls)
		return;
	for (record = shadow->order->ghosts.list.tail; record; record = record->prev)
		recall(order, shadow->order, record->key, record);
	for (record = shadow->table->ghosts.list.tail; record; record = record->prev)
		recall(order, shadow->order, record->key,
		       &shadow->entry[record - shadow->table->ghosts.pool]);
}

/* It has not left. */
static void come_back(struct order *order, struct order_entry *entry)
{
	struct order_entry *ghost = ghost_find(order, entry->key);

	/* What the order before knew means something else. */
	entry->count = ghost ? ghost->count : 0;
	entry->epoch = ghost ? ghost->epoch : 0;
	if (ghost)
		ghost_forget(order, ghost);
	followed(order)->insert(order, entry);
}

/* All entries change over. */
static void change_over(struct order *order, unsigned to)
{
	struct order_entry *entry;

	for (entry = order->first; entry; entry = entry->after)
		followed(order)->remove(order, entry);
	while (order->ghosts.list.tail)
		ghost_forget(order, order->ghosts.list.tail);
	order->top = order->bottom = NULL;
	order->now = to;
	recall_all(order, &order->shadow[to]);
	for (entry = order->first; entry; entry = entry->after)
		come_back(order, entry);
}

/* The shadows use a block. Returns the one that has missed least. */
static unsigned shadows_use(struct order *order, struct order_entry *entry, bool missed,
			    int64_t most)
{
	uint64_t room = order->room / order->sample;
	uint16_t npages = order_pages(entry);
	bool had = allowance_use(order, entry, missed), there;
	unsigned best = order->now;
	int64_t least;

	for (unsigned i = 0; i < NR_SHADOWS; i++) {
		if (order_shadows[i]->waits)
			order->shadow[i].order->clock += order->sample - 1;
		there = shadow_use(&order->shadow[i], entry->key, npages, room);
		order->behind[i] += !there;
		allowance_compare(order, i, there, had);
	}
	for (unsigned i = 0; i < NR_SHADOWS; i++)
		if (order->behind[i] < order->behind[best])
			best = i;
	least = order->behind[best];
	for (unsigned i = 0; i < NR_SHADOWS; i++) {
		order->behind[i] -= least;
		if (order->behind[i] > most)
			order->behind[i] = most;
	}
	return best;
}

static void adaptive_use(struct order *order, struct order_entry *entry, bool missed)
{
	int64_t lean = order->full / LEAN / order->sample + (order->sample > 1 ? 2 * FEW : FEW);
	unsigned best;

	if (!order_samples(order, entry->key))
		return;
	best = shadows_use(order, entry, missed, 2 * lean);
	resample(order);
	if (order->behind[order->now] < lean)
		return;
	change_over(order, best);
	for (unsigned i = 0; i < NR_SHADOWS; i++)
		order->behind[i] = i == best ? 0 : 2 * lean;
}

/* What came last has its pages by now. */
static void settle(struct order *order)
{
	struct order_entry *entry = order->came;

	order->came = NULL;
	if (entry)
		adaptive_use(order, entry, true);
}

static void adaptive_insert(struct order *order, struct order_entry *entry)
{
	settle(order);
	followed(order)->insert(order, entry);
	order->came = entry;
}

static void adaptive_touch(struct order *order, struct order_entry *entry)
{
	settle(order);
	followed(order)->touch(order, entry);
	adaptive_use(order, entry, false);
}

static void adaptive_remove(struct order *order, struct order_entry *entry)
{
	settle(order);
	allowance_remove(order, entry);
	followed(order)->remove(order, entry);
}

static struct order_entry *adaptive_victim(struct order *order, const struct order_want *want)
{
	struct order_entry *entry;

	settle(order);
	entry = followed(order)->victim(order, want);
	return entry ? allowance_choose(order, followed(order), entry, want) : NULL;
}

const struct order_ops order_adaptive = {
	.name = "adaptive",
	.ghosts = 8,
	.ring = true,
	.shadows = true,
	.insert = adaptive_insert,
	.touch = adaptive_touch,
	.remove = adaptive_remove,
	.victim = adaptive_victim,
};
