/* SPDX-License-Identifier: MIT */
/*
 * Orders of eviction: tiny traces that were worked out by hand, Belady's optimum against brute
 * force, and the figures by which orders are compared.
 */
#include <inttypes.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "policy/parts.h"
#include "sim.h"

#define LETTERS 26

struct play {
	struct order *order;
	struct order_entry entry[LETTERS];
	bool there[LETTERS];
	char victims[8192];
	size_t n;
};

static void play_begin(struct play *play, const struct order_ops *ops, uint32_t room)
{
	void *memory = calloc(1, order_bytes(ops, room));

	assert_non_null(memory);
	*play = (struct play){ .order = order_init(memory, ops, room, room) };
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

/* c, then d: used once. d and e are remembered, and as good as b when they come back. */
static void lrfu_keeps_what_is_used_often(void **state)
{
	(void)state;
	check_victims(&order_lrfu, 3, "abcaabdede", "cdeb");
	check_victims(&order_lru, 3, "abcaabdede", "ca");
}

/* a, eight times, and b so often; c; d needs room. */
static char who_goes_after(unsigned uses)
{
	struct play play;
	char victim;

	play_begin(&play, &order_lrfu, 3);
	for (unsigned i = 0; i < 8; i++)
		play_use(&play, 'a', 3);
	for (unsigned i = 0; i < uses; i++)
		play_use(&play, 'b', 3);
	play_use(&play, 'c', 3);
	play_use(&play, 'd', 3);
	assert_int_equal(play.n, 1);
	victim = play.victims[0];
	free(play.order);
	return victim;
}

static void lrfu_forgets_what_was_used_often_long_ago(void **state)
{
	(void)state;
	assert_int_equal(who_goes_after(8), 'c');
	assert_int_equal(who_goes_after(200), 'c');
	assert_int_equal(who_goes_after(400), 'a');
	assert_int_equal(who_goes_after(40000), 'a');
}

static uint64_t misses_of(const struct trace *trace, const struct order_ops *ops, uint32_t room)
{
	struct sim_result result;

	assert_int_equal(sim_replay(trace, ops, room, &result), 0);
	return result.misses;
}

/* A loop is regular: what was used last is due last. Draws are not: what is rare is due last. */
static void due_keeps_what_a_loop_comes_to_next_and_what_is_drawn_often(void **state)
{
	struct sim_result best;
	struct trace trace;

	(void)state;
	assert_int_equal(pattern_make("loop", 256, 128, &trace), 0);
	assert_int_equal(sim_optimum(&trace, 128, &best), 0);
	assert_true(100 * misses_of(&trace, &order_due, 128) < 105 * best.misses);
	assert_true(misses_of(&trace, &order_due, 128) < misses_of(&trace, &order_lirs, 128));
	trace_fini(&trace);
	assert_int_equal(pattern_make("zipf", 256, 64, &trace), 0);
	assert_true(100 * misses_of(&trace, &order_due, 64) <
		    90 * misses_of(&trace, &order_lru, 64));
	trace_fini(&trace);
}

static void due_gives_up_the_larger_of_two_that_are_due_alike(void **state)
{
	struct order_want want = { .before = UINT64_MAX, .except = 1 };
	struct play play;

	(void)state;
	play_begin(&play, &order_due, 4);
	for (const char *c = "abcdabcdabcdabcd"; *c; c++)
		play_use(&play, *c, 4);
	for (unsigned i = 0; i < 4; i++)
		play.entry[i].npages = i == 2 ? 512 : 32;
	want.ticket = order_ticket(play.order);
	assert_ptr_equal(order_victim(play.order, &want), &play.entry[2]);
	/* Of equals, the one that was used last: a loop comes to it last. */
	assert_ptr_equal(order_victim(play.order, &want), &play.entry[3]);
	free(play.order);
}

/* What is there comes to be followed by LRFU with the counts that its shadow has. */
static void draws_cost_adaptive_hardly_more_than_lrfu(void **state)
{
	struct sim_result adaptive, lrfu, lirs;
	struct trace trace;

	(void)state;
	for (uint32_t room = 64; room <= 192; room += 64) {
		assert_int_equal(pattern_make("zipf", 256, room, &trace), 0);
		assert_int_equal(sim_replay(&trace, &order_adaptive, room, &adaptive), 0);
		assert_int_equal(sim_replay(&trace, &order_lrfu, room, &lrfu), 0);
		assert_int_equal(sim_replay(&trace, &order_lirs, room, &lirs), 0);
		assert_true((double)adaptive.misses < 1.05 * (double)lrfu.misses);
		assert_true(adaptive.misses < lirs.misses);
		trace_fini(&trace);
	}
}

/* Last use, until one that is made for loops has missed less: then the loop is kept. */
static void adaptive_begins_as_lru_and_follows_the_better(void **state)
{
	struct play play;
	size_t after;

	(void)state;
	check_victims(&order_adaptive, 3, "abcade", "bc");
	play_begin(&play, &order_adaptive, 4);
	for (unsigned i = 0; i < 6; i++)
		play_use(&play, (char)('a' + i % 5), 4);
	assert_ptr_equal(order_shadows[play.order->now], &order_weighed);
	for (unsigned i = 0; i < 60; i++)
		play_use(&play, (char)('a' + i % 5), 4);
	assert_true(order_shadows[play.order->now] == &order_due ||
		    order_shadows[play.order->now] == &order_lirs);
	after = play.n;
	for (unsigned i = 0; i < 20; i++)
		play_use(&play, (char)('a' + i % 5), 4);
	assert_in_range(play.n - after, 4, 8);
	free(play.order);
}

static const struct order_entry *known_by(const struct shadow *shadow, uintptr_t key)
{
	const struct order_entry *record = ghost_find(shadow->table, key);

	return record ? &shadow->entry[record - shadow->table->ghosts.pool] :
			ghost_find(shadow->order, key);
}

/* A loop, until what is due latest goes: gaps are known of all, whether they are there or not. */
static void what_comes_to_be_followed_recalls_what_its_shadow_knows(void **state)
{
	const struct order_entry *known, *own;
	struct play play;
	uint64_t clock;
	unsigned n = 0;

	(void)state;
	play_begin(&play, &order_adaptive, 20);
	for (unsigned i = 0; order_shadows[play.order->now] != &order_due; i++) {
		assert_in_range(i, 0, 1000);
		play_use(&play, (char)('a' + i % 24), 20);
	}
	clock = play.order->shadow[play.order->now].order->clock;
	for (unsigned i = 0; i < 24; i++) {
		known = known_by(&play.order->shadow[play.order->now], play.entry[i].key);
		own = play.there[i] ? &play.entry[i] : ghost_find(play.order, play.entry[i].key);
		/* What is used just now comes to be known a second time. */
		if (!known || !known->count || known->used + 1 == clock)
			continue;
		assert_non_null(own);
		assert_int_equal(own->count, known->count);
		assert_int_equal(own->epoch, known->epoch);
		n++;
	}
	assert_true(n > 20);
	free(play.order);
}

/* In the order of their last use: how large they are, and who goes first. */
static void check_sizes(const uint16_t *npages, const char *victims)
{
	struct order_want want = { .before = UINT64_MAX, .except = 1 };
	struct order_entry *victim;
	struct play play;

	play_begin(&play, &order_weighed, LETTERS);
	for (unsigned i = 0; npages[i]; i++) {
		play_use(&play, (char)('a' + i), LETTERS);
		play.entry[i].npages = npages[i];
	}
	want.ticket = order_ticket(play.order);
	while ((victim = order_victim(play.order, &want))) {
		play.victims[play.n++] = (char)('a' + (victim - play.entry));
		order_remove(play.order, victim);
	}
	assert_string_equal(play.victims, victims);
	free(play.order);
}

/* By age * npages / (npages + 64), of the eight oldest. */
static void large_blocks_go_before_small_ones_that_are_a_little_older(void **state)
{
	(void)state;
	check_sizes((uint16_t[]){ 512, 512, 512, 0 }, "abc");
	check_sizes((uint16_t[]){ 7, 7, 7, 0 }, "abc");
	/* 3 * 0.2, 2 * 0.89, 1 * 0.89 */
	check_sizes((uint16_t[]){ 16, 512, 512, 0 }, "bca");
	/* 3 * 0.8, 2 * 0.89, 1 * 0.89 */
	check_sizes((uint16_t[]){ 256, 512, 512, 0 }, "abc");
	/* 10 * 0.06; and once that is gone, 2 * 0.89 is among the eight, and then 1 * 0.89 */
	check_sizes((uint16_t[]){ 4, 4, 4, 4, 4, 4, 4, 4, 512, 512, 0 }, "aijbcdefgh");
}

/* So many pages of it; who has to go for them by the order goes. */
static void play_pages(struct play *play, unsigned i, uint16_t npages, unsigned room)
{
	struct order_want want = { .before = UINT64_MAX, .except = (uintptr_t)(i + 1) << 21 };
	struct order_entry *entry = &play->entry[i], *victim;
	unsigned used = npages;

	want.ticket = order_ticket(play->order);
	for (unsigned k = 0; k < LETTERS; k++)
		used += play->there[k] && k != i ? play->entry[k].npages : 0;
	for (; used > room; used -= victim->npages) {
		victim = order_victim(play->order, &want);
		assert_non_null(victim);
		play->there[victim - play->entry] = false;
		order_remove(play->order, victim);
	}
	if (!play->there[i]) {
		entry->npages = 0;
		order_insert(play->order, entry, want.except);
	}
	entry->npages = npages;
	if (play->there[i])
		order_touch(play->order, entry);
	play->there[i] = true;
}

/* Blocks of 1 to 512 pages, which change, in room for 2048: by last use, and never otherwise. */
static void shadows_hold_what_a_memory_of_unequal_blocks_would(void **state)
{
	uint16_t npages[LETTERS];
	uint32_t seed = 7;
	struct play play;
	unsigned at = 0;

	(void)state;
	play_begin(&play, &order_adaptive, 4);
	play.order->room = 2048;
	for (unsigned i = 0; i < LETTERS; i++)
		npages[i] = (uint16_t)(1 + i * i * 511 / (LETTERS - 1) / (LETTERS - 1));
	for (unsigned n = 0; n < 5000; n++) {
		seed = seed * 1664525 + 1013904223;
		/* Somebody near, mostly. */
		at = (seed >> 16) % 8 ? at ^ (seed >> 20) % 4 : (seed >> 20) % LETTERS;
		at %= LETTERS;
		npages[at] =
			npages[at] < 500 && (seed >> 12) % 4 == 0 ? npages[at] + 1 : npages[at];
		play_pages(&play, at, npages[at], 2048);
		memset(play.order->behind, 0, sizeof(play.order->behind));
		play.order->credit = INT32_MAX;
		assert_ptr_equal(order_shadows[play.order->now], &order_weighed);
		for (unsigned i = 0; i < LETTERS && !play.order->came; i++)
			assert_int_equal(play.there[i], ghost_find(play.order->shadow[0].table,
								   play.entry[i].key) != NULL);
	}
	free(play.order);
}

#define MANY 1024

/* A loop over so many of `npages` each, in room for 64 blocks that are whole. */
static void loop_over(struct order *order, struct order_entry *entry, unsigned n, uint16_t npages)
{
	struct order_want want = { .before = UINT64_MAX, .except = 1 };
	struct order_entry *victim;

	for (unsigned i = 0; i < 4 * n; i++) {
		struct order_entry *next = &entry[i % n];

		if (next->key) {
			order_touch(order, next);
			continue;
		}
		want.ticket = order_ticket(order);
		if ((order->nentries + 1) * npages > 64 * 512) {
			victim = order_victim(order, &want);
			order_remove(order, victim);
			victim->key = 0;
		}
		order_insert(order, next, (uintptr_t)(i % n + 1) << 21);
		next->npages = npages;
	}
	assert_true(order_shadows[order->now] == &order_due ||
		    order_shadows[order->now] == &order_lirs);
	for (unsigned i = 0; i < n; i++) {
		if (entry[i].key)
			order_remove(order, &entry[i]);
		entry[i].key = 0;
	}
}

/* Eight times as many blocks as there is room for keys, and then as many. */
static void shadows_hear_of_a_part_of_small_blocks(void **state)
{
	static struct order_entry entry[MANY];
	struct order *order = order_init(calloc(1, order_bytes(&order_adaptive, 64)),
					 &order_adaptive, 64, 64 * 512);

	(void)state;
	loop_over(order, entry, 80, 512);
	assert_int_equal(order->sample, 1);
	loop_over(order, entry, 640, 64);
	assert_in_range(order->sample, 8, 16);
	loop_over(order, entry, 80, 512);
	assert_in_range(order->sample, 1, 4);
	free(order);
}

/* A loop, then whatever else: the order that is followed changes in the middle of requests. */
static void whoever_may_go_is_found(void **state)
{
	uint32_t seed = 3;

	(void)state;
	for (unsigned run = 0; run < 20 * NR_ORDERS; run++) {
		struct order_want want;
		struct play play;
		unsigned may;

		play_begin(&play, orders[run % NR_ORDERS], 16);
		for (unsigned i = 0; i < 2000; i++) {
			seed = seed * 1664525 + 1013904223;
			want = (struct order_want){ .before = play.order->clock, .except = 1 };
			for (unsigned k = 0; k < (seed >> 28) % 8; k++)
				play_use(&play,
					 (char)('a' + (i / 100 % 2 ? 14 + (seed >> (8 + k)) % 12 :
								     (i * 8 + k) % 18)),
					 16);
			may = 0;
			for (unsigned k = 0; k < LETTERS; k++)
				may += play.there[k] && play.entry[k].used < want.before;
			want.ticket = order_ticket(play.order);
			assert_int_equal(order_victim(play.order, &want) != NULL, may > 0);
		}
		free(play.order);
	}
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

static unsigned asked;

static struct order_entry *count_victim(struct order *order, const struct order_want *want)
{
	asked++;
	return order_due.victim(order, want);
}

/* A request larger than the memory asks for each block that it brings. */
static void no_order_looks_for_what_is_not_there_or_whom_to_hand_over(void **state)
{
	struct order_ops ops = order_due;
	struct order_want want;
	struct play from, to;

	(void)state;
	ops.victim = count_victim;
	play_begin(&from, &ops, 8);
	play_begin(&to, &order_lru, 8);
	play_use(&from, 'a', 8);
	want = (struct order_want){ from.order->clock, order_ticket(from.order),
				    from.entry[0].key };
	for (char c = 'b'; c < 'i'; c++)
		play_use(&from, c, 8);
	assert_null(order_victim(from.order, &want));
	want.except = from.entry[1].key;
	assert_ptr_equal(order_victim(from.order, &want), &from.entry[0]);
	assert_null(order_victim(from.order, &want));
	order_move(from.order, to.order);
	assert_int_equal(asked, 1);
	assert_int_equal(to.order->nentries, 8);
	free(from.order);
	free(to.order);
}

static void entries_move_from_every_order_to_every_other(void **state)
{
	(void)state;
	for (unsigned i = 0; i < NR_ORDERS * NR_ORDERS; i++) {
		struct order_want want;
		struct play from, to;

		play_begin(&from, orders[i / NR_ORDERS], 8);
		for (const char *c = "abcdabefgh"; *c; c++)
			play_use(&from, *c, 8);
		play_begin(&to, orders[i % NR_ORDERS], 8);
		order_move(from.order, to.order);
		assert_int_equal(from.order->nentries, 0);
		assert_int_equal(to.order->nentries, 8);
		assert_true(to.order->clock >= from.order->clock);
		/* A request that began before the last use goes on. */
		want = (struct order_want){ .before = from.entry['h' - 'a'].used,
					    .ticket = order_ticket(to.order),
					    .except = 1 };
		for (unsigned k = 0; k < 7; k++)
			assert_non_null(order_victim(to.order, &want));
		assert_null(order_victim(to.order, &want));
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

static void trace_of(struct trace *trace, uint32_t nblocks)
{
	*trace = (struct trace){ 0 };
	for (uint32_t block = 0; block < nblocks; block++)
		assert_int_equal(trace_add(trace, block), 0);
}

/* Three blocks are missed one behind the other, then one is there, then another is missed. */
static void faults_between_hits_share_the_cost_of_a_batch(void **state)
{
	const struct sim_device *pcie4 = &sim_devices[0], *cxl = &sim_devices[2];
	struct sim_result result;
	struct trace trace;

	(void)state;
	trace_of(&trace, 3);
	assert_int_equal(trace_add(&trace, 1), 0);
	assert_int_equal(trace_add(&trace, 3), 0);
	assert_int_equal(sim_replay(&trace, &order_lru, 4, &result), 0);
	trace_fini(&trace);
	assert_int_equal(result.faults, 4);
	assert_int_equal(result.batches, 2);
	/* Two batches of 20 us, four faults of 10, 8 MiB at 24 GiB/s; or faults of 4 us. */
	assert_float_equal(1e6 * sim_stall_s(&result, pcie4), 80 + 325.52, 0.01);
	assert_float_equal(1e6 * sim_stall_s(&result, cxl), 16 + 279.02, 0.01);
}

static void batch_of_faults_ends_when_it_is_full(void **state)
{
	struct sim_result result;
	struct trace trace;

	(void)state;
	trace_of(&trace, 2 * SIM_BATCH + 1);
	assert_int_equal(sim_replay(&trace, &order_lru, 4, &result), 0);
	trace_fini(&trace);
	assert_int_equal(result.faults, 2 * SIM_BATCH + 1);
	assert_int_equal(result.batches, 3);
}

/* Nobody can foresee independent draws: each is as likely to come next. Filling misses more. */
static void check_random(const struct sim_figures *figures)
{
	const struct sim_result *result;
	double wanted;

	for (unsigned s = 0; s < NR_SHARES; s++) {
		result = &figures->result[2][s][0];
		wanted = (double)result->uses * (100 - sim_shares[s]) / 100;
		assert_true((double)result->misses > 0.95 * wanted);
		assert_true((double)result->misses < 1.07 * wanted);
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
	assert_true(sim_mean(&figures, 0) <= 1.29);
	for (unsigned o = 1; o < NR_ORDERS; o++)
		assert_true(sim_mean(&figures, 0) < sim_mean(&figures, o));
}

/* Every pattern, of two blocks and of many, by several seeds: in each, and not in the mean. */
static void adaptive_is_never_worse_than_lru_however_few_blocks_there_are(void **state)
{
	static const uint32_t sizes[] = {
		2, 3, 4, 5, 6, 8, 11, 16, 20, 24, 32, 40, 56, 80, 160, 320
	};
	static const uint64_t seeds[] = { 88172645463, 1234567, 987654321987, 424242424242 };
	struct sim_result adaptive, lru;
	struct trace trace;

	(void)state;
	for (unsigned run = 0; run < 16 * 4 * NR_PATTERNS * NR_SHARES; run++) {
		unsigned row = run / NR_SHARES, size = row / NR_PATTERNS;
		struct pattern_draw draw = { seeds[size / 16], PATTERN_ROUNDS };
		uint32_t nblocks = sizes[size % 16];
		uint32_t room = nblocks * sim_shares[run % NR_SHARES] / 100;

		room = room ? room : 1;
		assert_int_equal(pattern_drawn(pattern_names[row % NR_PATTERNS], nblocks, room,
					       draw, &trace),
				 0);
		assert_int_equal(sim_replay(&trace, &order_adaptive, room, &adaptive), 0);
		assert_int_equal(sim_replay(&trace, &order_lru, room, &lru), 0);
		if (100 * adaptive.misses > 105 * lru.misses)
			fail_msg("%s of %u blocks in %u, run %u: %" PRIu64 " misses, lru %" PRIu64,
				 trace.name, nblocks, room, run, adaptive.misses, lru.misses);
		trace_fini(&trace);
	}
}

/* Not by the end alone: in a small memory what may be missed more was earned before. */
static void a_small_memory_never_owes_lru_more_than_a_twentieth(void **state)
{
	struct sim_result adaptive, lru;
	struct trace trace;
	size_t n;

	(void)state;
	for (unsigned run = 0; run < 12 * NR_PATTERNS; run++) {
		uint32_t room = 2 + run / NR_PATTERNS;

		assert_int_equal(
			pattern_make(pattern_names[run % NR_PATTERNS], room + 8, room, &trace), 0);
		n = trace.n;
		for (trace.n = 1; trace.n <= n; trace.n += 17) {
			assert_int_equal(sim_replay(&trace, &order_adaptive, room, &adaptive), 0);
			assert_int_equal(sim_replay(&trace, &order_lru, room, &lru), 0);
			assert_true(100 * adaptive.misses <= 105 * lru.misses);
		}
		trace_fini(&trace);
	}
}

static void resize(struct trace *trace, uint32_t seed)
{
	uint16_t *npages = calloc(trace->nblocks + 1, sizeof(*npages));

	trace->step = calloc(trace->n + 1, sizeof(*trace->step));
	assert_non_null(npages);
	assert_non_null(trace->step);
	for (uint32_t b = 0; b < trace->nblocks; b++) {
		seed = seed * 1664525 + 1013904223;
		npages[b] = (uint16_t)(1 + (seed >> 16) % 512);
		trace->npages += npages[b];
	}
	for (size_t i = 0; i < trace->n; i++)
		for (unsigned k = 0; k < npages[trace->block[i]]; k++)
			trace->step[i].pages[k / 64] |= UINT64_C(1) << k % 64;
	free(npages);
}

/* All patterns, of few blocks and many; one block is no more than chance. */
static void adaptive_is_never_worse_than_lru_over_unequal_blocks(void **state)
{
	struct sim_result adaptive, lru;
	struct trace trace;
	uint32_t room, nblocks;

	(void)state;
	for (unsigned run = 0; run < 2 * 3 * NR_PATTERNS * NR_SHARES; run++) {
		unsigned share = sim_shares[run % NR_SHARES];
		const char *name = pattern_names[run / NR_SHARES % NR_PATTERNS];

		nblocks = 16u << 2 * (run / (NR_SHARES * NR_PATTERNS) % 3);
		assert_int_equal(pattern_make(name, nblocks, nblocks * share / 100, &trace), 0);
		resize(&trace, 1 + run);
		room = (uint32_t)((uint64_t)trace.npages * share / 100);
		room = room < 512 ? 512 : room;
		assert_int_equal(sim_replay(&trace, &order_adaptive, room, &adaptive), 0);
		assert_int_equal(sim_replay(&trace, &order_lru, room, &lru), 0);
		assert_true((double)adaptive.misses <= 1.05 * (double)lru.misses + 1);
		trace_fini(&trace);
	}
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
			order_init(calloc(1, order_bytes(ops, nblocks)), ops, nblocks, nblocks);
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
			entries[k].npages = seed >> 8 & 511;
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
		cmocka_unit_test(lrfu_keeps_what_is_used_often),
		cmocka_unit_test(lrfu_forgets_what_was_used_often_long_ago),
		cmocka_unit_test(due_keeps_what_a_loop_comes_to_next_and_what_is_drawn_often),
		cmocka_unit_test(due_gives_up_the_larger_of_two_that_are_due_alike),
		cmocka_unit_test(what_comes_to_be_followed_recalls_what_its_shadow_knows),
		cmocka_unit_test(draws_cost_adaptive_hardly_more_than_lrfu),
		cmocka_unit_test(adaptive_begins_as_lru_and_follows_the_better),
		cmocka_unit_test(large_blocks_go_before_small_ones_that_are_a_little_older),
		cmocka_unit_test(shadows_hold_what_a_memory_of_unequal_blocks_would),
		cmocka_unit_test(shadows_hear_of_a_part_of_small_blocks),
		cmocka_unit_test(whoever_may_go_is_found),
		cmocka_unit_test(orders_take_only_what_they_may_and_nothing_twice),
		cmocka_unit_test(no_order_looks_for_what_is_not_there_or_whom_to_hand_over),
		cmocka_unit_test(entries_move_from_every_order_to_every_other),
		cmocka_unit_test(belady_is_what_brute_force_finds),
		cmocka_unit_test(faults_between_hits_share_the_cost_of_a_batch),
		cmocka_unit_test(batch_of_faults_ends_when_it_is_full),
		cmocka_unit_test(any_order_of_calls_keeps_the_books),
		cmocka_unit_test(adaptive_is_never_worse_than_lru_over_unequal_blocks),
		cmocka_unit_test(adaptive_is_near_the_optimum_and_never_worse_than_lru),
		cmocka_unit_test(a_small_memory_never_owes_lru_more_than_a_twentieth),
		cmocka_unit_test(adaptive_is_never_worse_than_lru_however_few_blocks_there_are),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
