/* SPDX-License-Identifier: MIT */
/*
 * Orders of eviction: tiny traces that were worked out by hand, Belady's optimum against brute
 * force, and the figures by which orders are compared.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "sim.h"

#define LETTERS 26

struct play {
	struct order *order;
	struct order_entry entry[LETTERS];
	bool there[LETTERS];
	char victims[64];
	size_t n;
};

static void play_begin(struct play *play, const struct order_ops *ops, uint32_t room)
{
	void *memory = calloc(1, order_bytes(ops, room));

	assert_non_null(memory);
	*play = (struct play){ .order = order_init(memory, ops, room) };
}

static void play_use(struct play *play, char letter, uint32_t room)
{
	struct order_want want = { .before = UINT64_MAX, .except = 1 };
	struct order_entry *victim;
	int i = letter - 'a';

	if (play->there[i]) {
		order_touch(play->order, &play->entry[i]);
		return;
	}
	if (play->order->nentries == room) {
		want.ticket = order_ticket(play->order);
		victim = order_victim(play->order, &want);
		assert_non_null(victim);
		play->there[victim - play->entry] = false;
		play->victims[play->n++] = (char)('a' + (victim - play->entry));
		order_remove(play->order, victim);
	}
	order_insert(play->order, &play->entry[i], (uintptr_t)(i + 1) << 21);
	play->there[i] = true;
}

static void check_victims(const struct order_ops *ops, uint32_t room, const char *uses,
			  const char *victims)
{
	struct play play;

	play_begin(&play, ops, room);
	for (; *uses; uses++)
		play_use(&play, *uses, room);
	assert_string_equal(play.victims, victims);
	free(play.order);
}

static void last_use_decides_in_lru(void **state)
{
	(void)state;
	check_victims(&order_lru, 3, "abcade", "bc");
	check_victims(&order_lru, 3, "abcbade", "cb");
	check_victims(&order_lru, 4, "abcdeabcde", "abcdea");
}

static void clock_gives_what_was_used_a_second_chance(void **state)
{
	(void)state;
	check_victims(&order_clock, 3, "abcade", "bc");
	check_victims(&order_clock, 3, "abcbade", "ca");
}

/* a comes back while it is remembered, and from then on a scan passes it. */
static void s3fifo_keeps_what_came_back_from_a_scan(void **state)
{
	(void)state;
	check_victims(&order_s3fifo, 4, "abcdeafghi", "abcdef");
	check_victims(&order_lru, 4, "abcdeafghi", "abcdea");
}

/* a, b, c are low; d and e take turns in the one place that is left. */
static void lirs_keeps_most_of_a_loop(void **state)
{
	(void)state;
	check_victims(&order_lirs, 4, "abcdeabcdeabcde", "deded");
}

/* Last use, until LIRS has missed less: then the loop is kept. */
static void adaptive_begins_as_lru_and_follows_the_better(void **state)
{
	struct play play;
	size_t after;

	(void)state;
	check_victims(&order_adaptive, 3, "abcade", "bc");
	play_begin(&play, &order_adaptive, 4);
	for (unsigned i = 0; i < 20; i++)
		play_use(&play, (char)('a' + i % 5), 4);
	assert_ptr_equal(play.order->now, &order_lru);
	for (unsigned i = 0; i < 20; i++)
		play_use(&play, (char)('a' + i % 5), 4);
	assert_ptr_equal(play.order->now, &order_lirs);
	after = play.n;
	for (unsigned i = 0; i < 20; i++)
		play_use(&play, (char)('a' + i % 5), 4);
	assert_in_range(play.n - after, 4, 8);
	free(play.order);
}

static void orders_take_only_what_they_may_and_nothing_twice(void **state)
{
	struct order_want want;
	struct order_entry *victim;
	unsigned seen;

	(void)state;
	for (unsigned o = 0; o < NR_ORDERS; o++) {
		struct play play;

		play_begin(&play, orders[o], 8);
		for (char c = 'a'; c < 'e'; c++)
			play_use(&play, c, 8);
		want = (struct order_want){ .before = play.order->clock,
					    .ticket = order_ticket(play.order),
					    .except = play.entry[1].key };
		play_use(&play, 'f', 8);
		play_use(&play, 'd', 8);
		for (seen = 0; (victim = order_victim(play.order, &want));
		     seen |= 1u << (victim - play.entry))
			assert_false(seen >> (victim - play.entry) & 1);
		assert_int_equal(seen, 1u << 0 | 1u << 2);
		free(play.order);
	}
}

static void entries_move_from_every_order_to_every_other(void **state)
{
	(void)state;
	for (unsigned i = 0; i < NR_ORDERS * NR_ORDERS; i++) {
		struct play from, to;

		play_begin(&from, orders[i / NR_ORDERS], 8);
		for (const char *c = "abcdabefgh"; *c; c++)
			play_use(&from, *c, 8);
		play_begin(&to, orders[i % NR_ORDERS], 8);
		order_move(from.order, to.order);
		assert_int_equal(from.order->nentries, 0);
		assert_int_equal(to.order->nentries, 8);
		assert_true(to.order->clock >= from.order->clock);
		for (unsigned k = 0; k < 8; k++)
			order_remove(to.order, &from.entry[k]);
		assert_int_equal(to.order->nentries, 0);
		free(from.order);
		free(to.order);
	}
}

/* The least misses from use i on, with `there` as a set of blocks: every choice is tried. */
static unsigned brute(const struct trace *trace, size_t i, unsigned there, unsigned room)
{
	unsigned best = UINT32_MAX, block, misses;

	if (i == trace->n)
		return 0;
	block = 1u << trace->block[i];
	if (there & block)
		return brute(trace, i + 1, there, room);
	if ((unsigned)__builtin_popcount(there) < room)
		return 1 + brute(trace, i + 1, there | block, room);
	for (unsigned b = 1; b <= there; b <<= 1) {
		if (!(there & b))
			continue;
		misses = 1 + brute(trace, i + 1, (there & ~b) | block, room);
		best = misses < best ? misses : best;
	}
	return best;
}

static void belady_is_what_brute_force_finds(void **state)
{
	struct sim_result result, other;
	uint32_t seed = 1;

	(void)state;
	for (unsigned round = 0; round < 200; round++) {
		uint32_t room = 2 + round % 3;
		struct trace trace = { 0 };

		for (unsigned i = 0; i < 14; i++) {
			seed = seed * 1664525 + 1013904223;
			assert_int_equal(trace_add(&trace, (seed >> 16) % 6), 0);
		}
		assert_int_equal(sim_optimum(&trace, room, &result), 0);
		assert_int_equal(result.misses, brute(&trace, 0, 0, room));
		for (unsigned o = 0; o < NR_ORDERS; o++) {
			assert_int_equal(sim_replay(&trace, orders[o], room, &other), 0);
			assert_true(other.misses >= result.misses);
		}
		trace_fini(&trace);
	}
}

/* Nobody can foresee independent draws: each block is as likely to come next. */
static void check_random(const struct sim_figures *figures)
{
	const struct sim_result *result;
	double wanted;

	for (unsigned s = 0; s < NR_SHARES; s++) {
		result = &figures->result[2][s][0];
		wanted = (double)result->uses * (100 - sim_shares[s]) / 100;
		assert_true((double)result->misses > 0.95 * wanted);
		assert_true((double)result->misses < 1.05 * wanted);
	}
}

static void adaptive_is_near_the_optimum_and_never_worse_than_lru(void **state)
{
	static struct sim_figures figures;

	(void)state;
	assert_int_equal(sim_figures(&figures), 0);
	assert_string_equal(pattern_names[2], "random");
	check_random(&figures);
	assert_true(sim_worst(&figures, 0, &order_lru) <= 1.05);
	assert_true(sim_mean(&figures, 0) <= 1.33);
	for (unsigned o = 1; o < NR_ORDERS; o++)
		assert_true(sim_mean(&figures, 0) < sim_mean(&figures, o));
}

/* Blocks come, are used and go in no order, in memories of hardly any block. */
static void any_order_of_calls_keeps_the_books(void **state)
{
	struct order_entry entries[40];
	struct order_want want = { .before = UINT64_MAX };
	uint32_t seed = 1;

	(void)state;
	for (unsigned run = 0; run < 60 * NR_ORDERS; run++) {
		const struct order_ops *ops = orders[run % NR_ORDERS];
		uint32_t nblocks = 1 + run / NR_ORDERS % 6;
		struct order *order =
			order_init(calloc(1, order_bytes(ops, nblocks)), ops, nblocks);
		bool there[40] = { false };
		unsigned n = 0;

		for (unsigned i = 0; i < 2000; i++) {
			unsigned k = (seed = seed * 1103515245 + 12345) >> 16 & 31;

			want.ticket = order_ticket(order);
			if (!there[k])
				order_insert(order, &entries[k], ((uintptr_t)k + 1) << 21);
			else if (seed >> 28 < 8)
				order_touch(order, &entries[k]);
			else
				order_remove(order, &entries[k]);
			n += !there[k] ? 1 : seed >> 28 < 8 ? 0 : -1;
			there[k] = !there[k] || seed >> 28 < 8;
			assert_int_equal(order->nentries, n);
			assert_int_equal(order_victim(order, &want) != NULL, n > 0);
		}
		free(order);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(last_use_decides_in_lru),
		cmocka_unit_test(clock_gives_what_was_used_a_second_chance),
		cmocka_unit_test(s3fifo_keeps_what_came_back_from_a_scan),
		cmocka_unit_test(lirs_keeps_most_of_a_loop),
		cmocka_unit_test(adaptive_begins_as_lru_and_follows_the_better),
		cmocka_unit_test(orders_take_only_what_they_may_and_nothing_twice),
		cmocka_unit_test(entries_move_from_every_order_to_every_other),
		cmocka_unit_test(belady_is_what_brute_force_finds),
		cmocka_unit_test(any_order_of_calls_keeps_the_books),
		cmocka_unit_test(adaptive_is_near_the_optimum_and_never_worse_than_lru),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
