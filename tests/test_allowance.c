/* SPDX-License-Identifier: MIT */
/*
 * What the default order may miss more than the one by last use alone (LRU): what is earned, who
 * pays, and what leaves both memories alike.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "policy/allowance.h"

#define ROOM   8
#define BLOCKS 24
#define MISS   20 /* what one costs; a miss of LRU's earns one of these */

enum { LRU, LIRS };

struct memory {
	struct order *order;
	struct order_entry entry[BLOCKS];
};

/* In a memory of so few blocks no lead of a shadow counts. */
static void memory_begin(struct memory *m, unsigned follow)
{
	void *memory = calloc(1, order_bytes(&order_adaptive, ROOM));

	assert_non_null(memory);
	*m = (struct memory){ .order = order_init(memory, &order_adaptive, ROOM, ROOM) };
	m->order->now = follow;
}

static void come(struct memory *m, unsigned block)
{
	order_insert(m->order, &m->entry[block], (uintptr_t)(block + 1) << 21);
	m->entry[block].npages = 1;
}

static void come_all(struct memory *m, unsigned from, unsigned to)
{
	for (unsigned i = from; i < to; i++)
		come(m, i);
}

static struct order_want want_for(struct memory *m, unsigned block)
{
	return (struct order_want){ .before = UINT64_MAX,
				    .ticket = order_ticket(m->order),
				    .except = (uintptr_t)(block + 1) << 21 };
}

static struct order_want want_for_nobody(struct memory *m)
{
	return (struct order_want){ .before = UINT64_MAX, .ticket = order_ticket(m->order) };
}

/* All go, in one eviction. */
static void evict_all(struct memory *m, struct order_want want)
{
	struct order_entry *victim;

	while ((victim = order_victim(m->order, &want)))
		order_remove(m->order, victim);
	assert_int_equal(m->order->nentries, 0);
}

/* Half of the blocks go home, and others come: both memories have the same. */
static void what_leaves_without_an_eviction_leaves_lru_too(void **state)
{
	struct memory m;

	(void)state;
	memory_begin(&m, LRU);
	come_all(&m, 0, ROOM);
	for (unsigned i = ROOM / 2; i < ROOM; i++)
		order_remove(m.order, &m.entry[i]);
	assert_int_equal(m.order->plain->ghosts.list.n, ROOM / 2);
	come_all(&m, ROOM, ROOM + ROOM / 2);
	/* None of these uses is one that LRU would miss. */
	for (unsigned i = 0; i < ROOM / 2; i++)
		order_touch(m.order, &m.entry[i]);
	assert_int_equal(m.order->plain->ghosts.list.n, ROOM);
	assert_int_equal(m.order->credit, ROOM + ROOM / 2);
	free(m.order);
}

static void evictions_for_nobodys_sake_cost_nothing(void **state)
{
	struct memory m;

	(void)state;
	memory_begin(&m, LRU);
	for (unsigned round = 0; round < 100; round++) {
		come_all(&m, 0, ROOM);
		evict_all(&m, want_for_nobody(&m));
		assert_int_equal(m.order->plain->ghosts.list.n, 0);
		/* LRU would have missed each of them, too. */
		assert_int_equal(m.order->credit, (round + 1) * ROOM);
	}
	free(m.order);
}

/* Blocks of one page and of three go: LRU makes as much room, to the page, not more. */
static void lru_makes_no_more_room_than_was_asked_for(void **state)
{
	struct order_want want;
	struct memory m;

	(void)state;
	memory_begin(&m, LIRS);
	come_all(&m, 0, 4);
	m.entry[0].npages = 3;
	for (unsigned i = 0; i < 4; i++)
		order_touch(m.order, &m.entry[i]);
	assert_int_equal(m.order->plain_pages, 6);
	/* Whoever goes first, the three pages are LRU's oldest. */
	want = want_for_nobody(&m);
	for (uint64_t left = 6; m.order->nentries; left -= 1) {
		struct order_entry *victim = order_victim(m.order, &want);

		left -= victim == &m.entry[0] ? 2 : 0;
		order_remove(m.order, victim);
		assert_in_range(m.order->plain_pages, left - 1, left + 2);
	}
	assert_int_equal(m.order->plain_pages, 0);
	free(m.order);
}

/* They came with a page each, and have filled up since, of which nobody has told. */
static void lru_gives_up_one_block_for_one_that_has_filled_up(void **state)
{
	struct order_want want;
	struct memory m;

	(void)state;
	for (unsigned follow = LRU; follow <= LIRS; follow++) {
		memory_begin(&m, follow);
		come_all(&m, 0, ROOM);
		order_touch(m.order, &m.entry[ROOM - 1]);
		for (unsigned i = 0; i < ROOM; i++)
			m.entry[i].npages = 512;
		want = want_for_nobody(&m);
		for (unsigned left = ROOM; left; left--) {
			assert_int_equal(m.order->plain->ghosts.list.n, left);
			order_remove(m.order, order_victim(m.order, &want));
		}
		assert_int_equal(m.order->plain_pages, 0);
		free(m.order);
	}
}

/* What LRU had not got when more went than it had says nothing of what comes later. */
static void lru_owes_no_room_once_it_is_empty(void **state)
{
	struct order_want want;
	struct memory m;

	(void)state;
	memory_begin(&m, LRU);
	come_all(&m, 0, ROOM);
	order_touch(m.order, &m.entry[ROOM - 1]);
	/* The other half is spare: LRU would have lost it before. */
	while (m.order->plain->ghosts.list.n > ROOM / 2)
		ghost_forget(m.order->plain, ghost_oldest(m.order->plain));
	m.order->plain_pages = ROOM / 2;
	evict_all(&m, want_for_nobody(&m));
	come_all(&m, 0, ROOM);
	order_touch(m.order, &m.entry[ROOM - 1]);
	want = want_for_nobody(&m);
	order_remove(m.order, order_victim(m.order, &want));
	assert_int_equal(m.order->plain->ghosts.list.n, ROOM - 1);
	free(m.order);
}

/* It was pinned, say, when it was asked for, and goes home long after. */
static void what_was_used_since_it_was_asked_for_leaves_as_if_unasked(void **state)
{
	struct order_entry *victim;
	struct order_want want;
	struct memory m;

	(void)state;
	for (int used = 0; used < 2; used++) {
		memory_begin(&m, LRU);
		come_all(&m, 0, ROOM);
		want = want_for(&m, ROOM);
		victim = order_victim(m.order, &want);
		if (used)
			order_touch(m.order, victim);
		order_remove(m.order, victim);
		assert_int_equal(!ghost_find(m.order->plain, victim->key), used);
		free(m.order);
	}
}

/* All go for the sake of blocks that do not come, and are wanted back: each is a miss more. */
static void a_debt_has_an_end(void **state)
{
	struct memory m;

	(void)state;
	memory_begin(&m, LRU);
	for (unsigned round = 0; round < 100; round++) {
		come_all(&m, 0, ROOM);
		evict_all(&m, want_for(&m, BLOCKS));
		assert_true(m.order->credit > -MISS * ((int64_t)m.order->plain->ghosts.most + 1));
	}
	free(m.order);
}

/* LIRS gives up h, then c and d; LRU c, d and e. None of them has left when the next is chosen. */
static void two_victims_of_one_eviction_are_the_two_that_lru_has_next(void **state)
{
	struct order_want want;
	struct memory m;

	(void)state;
	for (int broke = 0; broke < 2; broke++) {
		memory_begin(&m, LIRS);
		come_all(&m, 0, ROOM);
		order_touch(m.order, &m.entry[1]);
		order_touch(m.order, &m.entry[0]);
		m.order->credit = broke ? -MISS * 2 : MISS * 4;
		want = want_for(&m, ROOM);
		assert_ptr_equal(order_victim(m.order, &want), &m.entry[broke ? 2 : ROOM - 1]);
		assert_ptr_equal(order_victim(m.order, &want), &m.entry[broke ? 3 : 2]);
		assert_ptr_equal(order_victim(m.order, &want), &m.entry[broke ? 4 : 3]);
		free(m.order);
	}
}

#define MANY 640

/* A loop over so many of `npages` each, in room for 64 blocks that are whole. */
static void loop_over(struct order *order, struct order_entry *entry, unsigned n, uint16_t npages)
{
	struct order_want want = { .before = UINT64_MAX, .except = 1 };
	struct order_entry *next, *victim;
	uint32_t sample;

	for (unsigned i = 0; i < 4 * n; i++) {
		next = &entry[i % n];
		sample = order->sample;
		want.ticket = order_ticket(order);
		if (!next->key && (order->nentries + 1) * npages > 64 * 512) {
			victim = order_victim(order, &want);
			order_remove(order, victim);
			victim->key = 0;
		}
		if (next->key)
			order_touch(order, next);
		else
			order_insert(order, next, (uintptr_t)(i % n + 1) << 21);
		next->npages = npages;
		if (order->sample != sample)
			assert_true(order->credit <= 0);
	}
}

static void remove_all(struct order *order, struct order_entry *entry, unsigned n)
{
	for (unsigned i = 0; i < n; i++) {
		if (entry[i].key)
			order_remove(order, &entry[i]);
		entry[i].key = 0;
	}
}

/* Small blocks, of which the shadows hear of a part, then large ones, of which they hear all. */
static void nothing_is_earned_by_hearing_of_more_blocks(void **state)
{
	static struct order_entry entry[MANY];
	struct order *order = order_init(calloc(1, order_bytes(&order_adaptive, 64)),
					 &order_adaptive, 64, 64 * 512);
	int64_t credit;
	unsigned unheard = 0;

	(void)state;
	loop_over(order, entry, MANY, 64);
	assert_true(order->sample >= 8);
	remove_all(order, entry, MANY);
	loop_over(order, entry, 80, 512);
	assert_in_range(order->sample, 1, 4);
	/* What they had not heard of says nothing of LRU when it is used. */
	order->sample = 1;
	for (unsigned i = 0; i < 80; i++) {
		if (!entry[i].key || entry[i].spare || ghost_find(order->plain, entry[i].key) ||
		    order->came == &entry[i])
			continue;
		credit = order->credit;
		order->now = LRU;
		order_touch(order, &entry[i]);
		assert_true(order->credit <= credit + 1);
		unheard++;
	}
	assert_true(unheard > 0);
	free(order);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_leaves_without_an_eviction_leaves_lru_too),
		cmocka_unit_test(evictions_for_nobodys_sake_cost_nothing),
		cmocka_unit_test(lru_makes_no_more_room_than_was_asked_for),
		cmocka_unit_test(lru_gives_up_one_block_for_one_that_has_filled_up),
		cmocka_unit_test(lru_owes_no_room_once_it_is_empty),
		cmocka_unit_test(what_was_used_since_it_was_asked_for_leaves_as_if_unasked),
		cmocka_unit_test(a_debt_has_an_end),
		cmocka_unit_test(two_victims_of_one_eviction_are_the_two_that_lru_has_next),
		cmocka_unit_test(nothing_is_earned_by_hearing_of_more_blocks),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
