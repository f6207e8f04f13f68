/* SPDX-License-Identifier: MIT */
/*
 * What an order that chooses among others may miss more than the one by last use alone (LRU), so
 * that it is never much worse, however few blocks there are.
 *
 * A table has the keys that LRU would have there. Who evicts one of these pays a miss, for it may
 * be wanted while LRU has it; when LRU evicts it, too, and nobody has wanted it, that is paid back.
 * What is there and LRU has not is spare: to evict it costs nothing, and a use of it is a miss that
 * LRU has and we have not, which is earned. One in SHARE of LRU's misses is earned besides. So
 * who never spends what has not been earned has not missed more than 1 + 1/SHARE times as much as
 * LRU, at any time.
 *
 *	            LRU has it           LRU has it not
 *	came        paid for before      LRU missed, too
 *	there       nothing              earned, if it is spare
 *	goes        pays                 nothing
 *
 * What leaves otherwise (a CPU wants it, it is freed) would leave LRU's memory, too: it is
 * struck from the table. So would as many pages when frames are to be free for nobody's sake.
 * Whoever has to pay although he cannot owes as many blocks as the table has room for at most,
 * which is what he can have evicted and LRU has: more would never end. Of a memory of a few
 * blocks there may be many, a few pages of each.
 *
 * A loop earns too slowly that way. What counts as earned, too, is by how much the shadow of the
 * order that is followed leads LRU: one for each miss, less a quarter of LRU's misses, for less
 * may be luck; the first few (DOUBT) do not count, and none in a memory of a handful of blocks. And
 * what is twice as large as what costs nothing frees as much as two misses would, on TRUST.
 *
 * Who cannot pay evicts what is spare, or what LRU evicts next, if that is not what comes: of the
 * oldest of these what is worth least by the order that is followed, so that what was paid for is
 * kept while it may pay.
 *
 * Where the shadows hear of one block in so many there is no bound, for it would be of these alone,
 * which would go for all others; there, many blocks are there, and nobody pays. So nothing that
 * was earned there is left when they hear of more or fewer. What they had not heard of may be
 * there and in no table: it is not spare, and its use says nothing of LRU.
 *
 * Invariant: a record's `real` is the entry that is there, if its key is; an entry that was heard
 * of is either some record's or spare, as long as the shadows hear of its key.
 */
#include "policy/allowance.h"

#define SHARE INT64_C(20) /* what a miss costs; a miss of LRU's is one of these */
#define SMALL 16	  /* a memory that holds fewer blocks */
#define DOUBT 4
#define LEAK  4
#define TRUST 2

#define LOOK 64 /* so many are looked at */

static void spare_push(struct order *order, struct order_entry *entry)
{
	entry->newer = NULL;
	entry->older = order->newest;
	if (order->newest)
		order->newest->newer = entry;
	else
		order->oldest = entry;
	order->newest = entry;
	entry->spare = true;
}

static void spare_remove(struct order *order, struct order_entry *entry)
{
	if (!entry->spare)
		return;
	if (entry->newer)
		entry->newer->older = entry->older;
	else
		order->newest = entry->older;
	if (entry->older)
		entry->older->newer = entry->newer;
	else
		order->oldest = entry->newer;
	entry->spare = false;
}

static void plain_forget(struct order *order, struct order_entry *record)
{
	order->plain_pages -= order_pages(record);
	ghost_forget(order->plain, record);
}

/* It has as many pages as what is there by now. */
static void plain_refresh(struct order *order, struct order_entry *record)
{
	if (!record->real)
		return;
	order->plain_pages -= order_pages(record);
	atomic_store_explicit(&record->npages, order_pages(record->real), memory_order_relaxed);
	order->plain_pages += order_pages(record);
}

/* Of LRU's table, the list of which is by last use. */
static void plain_evict(struct order *order, struct order_entry *record)
{
	if (record->owed)
		order->credit += SHARE;
	if (record->real)
		spare_push(order, record->real);
	plain_forget(order, record);
}

/* LRU makes so much room, too: not a page more, and the rest when that is a block; or all. */
static void plain_empty(struct order *order, uint16_t npages)
{
	struct order_entry *record;

	order->plain_excess += npages;
	while ((record = ghost_oldest(order->plain))) {
		plain_refresh(order, record);
		if (order_pages(record) > order->plain_excess)
			return;
		order->plain_excess -= order_pages(record);
		plain_evict(order, record);
	}
	order->plain_excess = 0;
}

/* Now it is what was used last. */
static struct order_entry *plain_use(struct order *order, struct order_entry *record, uintptr_t key,
				     uint16_t npages)
{
	struct order *plain = order->plain;
	uint64_t room = order->room / order->sample;

	if (record) {
		order->plain_pages -= order_pages(record);
		list_remove(&plain->ghosts.list, record);
		list_push(&plain->ghosts.list, record);
	}
	while (order->plain_pages + npages > room && ghost_oldest(plain) != record)
		plain_evict(order, ghost_oldest(plain));
	if (!record && ghosts_full(plain))
		plain_evict(order, ghost_oldest(plain));
	if (!record)
		record = ghost_add(plain, key);
	atomic_store_explicit(&record->npages, npages, memory_order_relaxed);
	order->plain_pages += npages;
	return record;
}

bool allowance_use(struct order *order, struct order_entry *entry, bool missed)
{
	struct order_entry *record = ghost_find(order->plain, entry->key);
	bool had = record;

	if (had && record->owed) {
		record->owed = false;
		order->credit += missed ? 0 : SHARE;
	}
	if (!had)
		order->credit += missed ? 1 : entry->spare ? SHARE + 1 : 0;
	record = plain_use(order, record, entry->key, order_pages(entry));
	record->real = entry;
	/* What asked for it before is over. */
	entry->asked = 0;
	spare_remove(order, entry);
	return had;
}

void allowance_remove(struct order *order, struct order_entry *entry)
{
	struct order_entry *record = ghost_find(order->plain, entry->key);

	spare_remove(order, entry);
	if (record && entry->asked)
		record->real = NULL;
	else if (record)
		plain_forget(order, record);
}

void allowance_compare(struct order *order, unsigned shadow, bool there, bool had)
{
	int64_t *lead = &order->lead[shadow];

	*lead += LEAK * (there - had) - !had;
	if (*lead < 0)
		*lead = 0;
}

void allowance_resample(struct order *order)
{
	struct order_entry *record, *entry, *next;

	for (record = order->plain->ghosts.list.head; record; record = next) {
		next = record->next;
		if (order_samples(order, record->key))
			continue;
		record->real = NULL;
		plain_evict(order, record);
	}
	for (entry = order->oldest; entry; entry = next) {
		next = entry->newer;
		if (!order_samples(order, entry->key))
			spare_remove(order, entry);
	}
	if (order->credit > 0)
		order->credit = 0;
}

/* What may be spent. */
static int64_t may_spend(const struct order *order)
{
	int64_t lead = order->lead[order->now] / LEAK - DOUBT;

	if (order->full < SMALL || lead < 0)
		return order->credit;
	return order->credit + lead * SHARE;
}

/* What LRU evicts next, of what is there and not asked for yet. */
static struct order_entry *plain_next(const struct order *order, const struct order_want *want)
{
	struct order_entry *record = ghost_oldest(order->plain);

	if (ghost_find(order->plain, want->except))
		return NULL;
	for (unsigned n = 0; record && n < LOOK; record = record->prev, n++)
		if (record->real && record->real->asked != want->ticket)
			return order_may(record->real, want) ? record->real : NULL;
	return NULL;
}

static struct order_entry *costs_nothing(const struct order *order, const struct order_ops *by,
					 const struct order_want *want)
{
	struct order_entry *entry = order->oldest, *best = NULL, *next = plain_next(order, want);

	for (unsigned n = 0; entry && n < LOOK; entry = entry->newer, n++)
		if (order_may(entry, want) &&
		    (!best || by->worth(order, entry) < by->worth(order, best)))
			best = entry;
	if (!best || (next && by->worth(order, next) < by->worth(order, best)))
		return next;
	return best;
}

/* The one that was chosen, or what costs nothing. */
static struct order_entry *affordable(struct order *order, const struct order_ops *by,
				      struct order_entry *entry, const struct order_want *want)
{
	struct order_entry *record = ghost_find(order->plain, entry->key), *other;
	int64_t most = may_spend(order);

	if (!record || record->owed || most >= SHARE)
		return entry;
	other = costs_nothing(order, by, want);
	if (!other)
		return entry;
	return most + TRUST * SHARE < SHARE || order_pages(entry) < 2 * order_pages(other) ? other :
											     entry;
}

static void pay(struct order *order, const struct order_entry *entry)
{
	struct order_entry *record = ghost_find(order->plain, entry->key);

	if (!record || record->owed || order->credit <= -SHARE * order->plain->ghosts.most)
		return;
	order->credit -= SHARE;
	record->owed = true;
}

struct order_entry *allowance_choose(struct order *order, const struct order_ops *by,
				     struct order_entry *entry, const struct order_want *want)
{
	struct order_entry *record;

	if (order->sample > 1)
		return entry;
	entry = affordable(order, by, entry, want);
	record = ghost_find(order->plain, entry->key);
	if (record)
		plain_refresh(order, record);
	if (!want->except)
		plain_empty(order, order_pages(entry));
	pay(order, entry);
	return entry;
}
