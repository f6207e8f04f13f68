/* SPDX-License-Identifier: MIT */
/*
 * What all orders of eviction share: the clock that stamps uses, tickets, the lists and the ghosts
 * that they are made of.
 *
 * A use stamps its entry, so that an eviction takes nothing that came after it began; an
 * eviction stamps what it chose with its ticket, so that it asks for nothing twice, though
 * what it asked for may be pinned and stay.
 *
 * Whether anybody may go at all is seen by last use, before an order is asked: what it has may all
 * have come since a request began that is larger than the memory.
 *
 * Invariant: an entry is in the order from order_insert() to order_remove(), and its memory the
 * caller's all the time; ghosts are the order's.
 */
#include <string.h>

#include "policy/parts.h"

/* A burst of uses ends when a 1/BURST of what fits has come since, and two blocks at least. */
#define BURST 32

/* So many are remembered at least: a small memory may hold a few pages each of many blocks. */
#define GHOSTS_LEAST 64

const struct order_ops *const orders[NR_ORDERS] = {
	&order_adaptive, &order_lru, &order_clock, &order_s3fifo, &order_lirs, &order_lrfu,
};

const struct order_ops *order_by_name(const char *name)
{
	for (unsigned i = 0; i < NR_ORDERS; i++)
		if (!strcmp(orders[i]->name, name))
			return orders[i];
	return NULL;
}

void list_push(struct order_list *list, struct order_entry *entry)
{
	entry->prev = NULL;
	entry->next = list->head;
	if (list->head)
		list->head->prev = entry;
	else
		list->tail = entry;
	list->head = entry;
	list->n++;
}

void list_remove(struct order_list *list, struct order_entry *entry)
{
	if (entry->prev)
		entry->prev->next = entry->next;
	else
		list->head = entry->next;
	if (entry->next)
		entry->next->prev = entry->prev;
	else
		list->tail = entry->prev;
	list->n--;
}

void stack_push(struct order *order, struct order_entry *entry)
{
	entry->above = NULL;
	entry->below = order->top;
	if (order->top)
		order->top->above = entry;
	else
		order->bottom = entry;
	order->top = entry;
	entry->stacked = true;
}

void stack_remove(struct order *order, struct order_entry *entry)
{
	if (entry->above)
		entry->above->below = entry->below;
	else
		order->top = entry->below;
	if (entry->below)
		entry->below->above = entry->above;
	else
		order->bottom = entry->above;
	entry->stacked = false;
}

void stack_replace(struct order *order, struct order_entry *from, struct order_entry *to)
{
	to->above = from->above;
	to->below = from->below;
	if (to->above)
		to->above->below = to;
	else
		order->top = to;
	if (to->below)
		to->below->above = to;
	else
		order->bottom = to;
	from->stacked = false;
	to->stacked = true;
}

static struct order_entry **ghost_bucket(struct order *order, uintptr_t key)
{
	uint64_t hash = (uint64_t)(key >> 12) * UINT64_C(0x9e3779b97f4a7c15);

	return &order->ghosts.bucket[(hash >> 32) & (order->ghosts.nbuckets - 1)];
}

struct order_entry *ghost_find(struct order *order, uintptr_t key)
{
	struct order_entry *ghost;

	if (!order->ghosts.most)
		return NULL;
	for (ghost = *ghost_bucket(order, key); ghost && ghost->key != key; ghost = ghost->chain)
		;
	return ghost;
}

bool ghosts_full(const struct order *order)
{
	return !order->ghosts.unused && order->ghosts.fresh == order->ghosts.most;
}

struct order_entry *ghost_add(struct order *order, uintptr_t key)
{
	struct ghosts *ghosts = &order->ghosts;
	struct order_entry *ghost = ghosts->unused, **bucket;

	if (ghosts_full(order))
		return NULL;
	if (ghost)
		ghosts->unused = ghost->next;
	else
		ghost = &ghosts->pool[ghosts->fresh++];
	bucket = ghost_bucket(order, key);
	*ghost = (struct order_entry){ .key = key, .chain = *bucket };
	*bucket = ghost;
	list_push(&order->ghosts.list, ghost);
	return ghost;
}

struct order_entry *ghost_oldest(struct order *order)
{
	return order->ghosts.list.tail;
}

void ghost_forget(struct order *order, struct order_entry *ghost)
{
	struct order_entry **link = ghost_bucket(order, ghost->key);

	while (*link != ghost)
		link = &(*link)->chain;
	*link = ghost->chain;
	list_remove(&order->ghosts.list, ghost);
	ghost->next = order->ghosts.unused;
	order->ghosts.unused = ghost;
}

bool order_may(const struct order_entry *entry, const struct order_want *want)
{
	return entry->used < want->before && entry->asked != want->ticket &&
	       entry->key != want->except;
}

bool order_counts(struct order *order, struct order_entry *entry)
{
	uint64_t burst = order->full / BURST < 2 ? 2 : order->full / BURST;

	if (order->arrivals - entry->counted < burst)
		return false;
	entry->counted = order->arrivals;
	return true;
}

struct order_entry *order_first(const struct order *order, const struct order_want *want)
{
	struct order_entry *entry = order->first;

	/* What follows one that was used since was used later still. */
	while (entry && entry->used < want->before && !order_may(entry, want))
		entry = entry->after;
	return entry && entry->used < want->before ? entry : NULL;
}

static void used_push(struct order *order, struct order_entry *entry)
{
	entry->after = NULL;
	entry->prior = order->last;
	if (order->last)
		order->last->after = entry;
	else
		order->first = entry;
	order->last = entry;
}

static void used_remove(struct order *order, struct order_entry *entry)
{
	if (entry->after)
		entry->after->prior = entry->prior;
	else
		order->last = entry->prior;
	if (entry->prior)
		entry->prior->after = entry->after;
	else
		order->first = entry->after;
}

static uint32_t ghosts_most(const struct order_ops *ops, uint32_t nblocks)
{
	uint64_t most = (uint64_t)nblocks * ops->ghosts / 4;

	if (!ops->ghosts)
		return 0;
	return most > UINT32_MAX / 4 ? UINT32_MAX / 4 :
	       most < GHOSTS_LEAST   ? GHOSTS_LEAST :
				       (uint32_t)most;
}

static uint32_t ghosts_buckets(uint32_t most)
{
	uint32_t n = 1;

	while (n < most)
		n *= 2;
	return n;
}

/* The table of a shadow, or of what LRU would have: all it does is to know keys. */
static const struct order_ops order_table = { .name = "table", .ghosts = 4 };

static size_t own_bytes(const struct order_ops *ops, uint32_t nblocks)
{
	size_t most = ghosts_most(ops, nblocks);

	return sizeof(struct order) + most * sizeof(struct order_entry) +
	       ghosts_buckets((uint32_t)most) * sizeof(struct order_entry *) +
	       (ops->ring ? ORDER_RING * sizeof(struct order_list) : 0);
}

static size_t shadow_bytes(const struct order_ops *ops, uint32_t nblocks)
{
	return own_bytes(ops, nblocks) + own_bytes(&order_table, nblocks) +
	       ghosts_most(&order_table, nblocks) * sizeof(struct order_entry);
}

size_t order_bytes(const struct order_ops *ops, uint32_t nblocks)
{
	size_t bytes = own_bytes(ops, nblocks);

	for (unsigned i = 0; ops->shadows && i < NR_SHADOWS; i++)
		bytes += shadow_bytes(order_shadows[i], nblocks);
	return bytes + (ops->shadows ? own_bytes(&order_table, nblocks) : 0);
}

static char *shadow_init(struct shadow *shadow, char *memory, const struct order_ops *ops,
			 uint32_t nblocks)
{
	shadow->order = order_init(memory, ops, nblocks, nblocks);
	memory += own_bytes(ops, nblocks);
	shadow->table = order_init(memory, &order_table, nblocks, nblocks);
	memory += own_bytes(&order_table, nblocks);
	shadow->entry = (struct order_entry *)memory;
	return memory + ghosts_most(&order_table, nblocks) * sizeof(struct order_entry);
}

struct order *order_init(void *memory, const struct order_ops *ops, uint32_t nblocks,
			 uint64_t npages)
{
	struct order *order = memory;
	struct ghosts *ghosts = &order->ghosts;
	char *rest = (char *)memory + own_bytes(ops, nblocks);

	*order = (struct order){ .ops = ops, .full = nblocks, .room = npages, .sample = 1 };
	ghosts->most = ghosts_most(ops, nblocks);
	ghosts->nbuckets = ghosts_buckets(ghosts->most);
	ghosts->pool = (struct order_entry *)(order + 1);
	ghosts->bucket = (struct order_entry **)(ghosts->pool + ghosts->most);
	if (ops->ring)
		order->ring = (struct order_list *)(ghosts->bucket + ghosts->nbuckets);
	for (unsigned i = 0; ops->shadows && i < NR_SHADOWS; i++)
		rest = shadow_init(&order->shadow[i], rest, order_shadows[i], nblocks);
	if (ops->shadows)
		order->plain = order_init(rest, &order_table, nblocks, nblocks);
	return order;
}

void order_insert(struct order *order, struct order_entry *entry, uintptr_t key)
{
	/* All but npages, which is the caller's. */
	entry->key = key;
	entry->used = order->clock++;
	entry->asked = 0;
	entry->counted = ++order->arrivals;
	entry->where = entry->uses = 0;
	entry->count = entry->epoch = 0;
	entry->stacked = entry->spare = false;
	order->nentries++;
	/* What settles before it is in the order does not see it. */
	order->ops->insert(order, entry);
	used_push(order, entry);
}

void order_touch(struct order *order, struct order_entry *entry)
{
	order->before = entry->used;
	entry->used = order->clock++;
	used_remove(order, entry);
	used_push(order, entry);
	order->ops->touch(order, entry);
}

void order_remove(struct order *order, struct order_entry *entry)
{
	order->ops->remove(order, entry);
	used_remove(order, entry);
	order->nentries--;
}

uint64_t order_ticket(struct order *order)
{
	return ++order->tickets;
}

struct order_entry *order_victim(struct order *order, const struct order_want *want)
{
	struct order_entry *entry;

	order->full = order->nentries;
	entry = order_first(order, want) ? order->ops->victim(order, want) : NULL;
	if (entry)
		entry->asked = want->ticket;
	return entry;
}

void order_move(struct order *from, struct order *to)
{
	struct order_entry *entry, *next;
	uint64_t used;

	to->tickets = from->tickets;
	for (entry = from->first; entry; entry = next) {
		next = entry->after;
		used = entry->used;
		order_remove(from, entry);
		order_insert(to, entry, entry->key);
		entry->used = used;
	}
	to->clock = from->clock > to->clock ? from->clock : to->clock;
}
