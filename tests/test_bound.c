/* SPDX-License-Identifier: MIT */
/* What the simulator compares orders of eviction with, and over what: bounds, and patterns. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "sim.h"

/* A use of the first n pages of a block, as a recording has it. */
static void record_use_of(struct trace *trace, uint32_t block, uint32_t n)
{
	struct trace_step *step;

	assert_int_equal(trace_push(trace, block), 0);
	trace->step = realloc(trace->step, trace->n * sizeof(*trace->step));
	assert_non_null(trace->step);
	step = &trace->step[trace->n - 1];
	*step = (struct trace_step){ .kind = STEP_USE, .own = true };
	for (uint32_t k = 0; k < n; k++)
		step->pages[k / 64] |= UINT64_C(1) << k % 64;
}

#define UNEQUAL 6 /* blocks */

/* Misses at least: for each set of blocks that can be there after a use, the least so far. */
static uint64_t least(const struct trace *trace, const uint32_t *size, uint32_t room)
{
	uint64_t now[1 << UNEQUAL], then[1 << UNEQUAL], best = UINT64_MAX;

	memset(now, 0xff, sizeof(now));
	now[0] = 0;
	for (size_t i = 0; i < trace->n; i++) {
		unsigned used = 1u << trace->block[i];

		memset(then, 0xff, sizeof(then));
		for (unsigned from = 0; from < 1 << UNEQUAL; from++)
			for (unsigned to = 0; to < 1 << UNEQUAL; to++) {
				uint32_t pages = 0;
				uint64_t misses = now[from] + !(from & used);

				for (unsigned k = 0; k < UNEQUAL; k++)
					pages += to >> k & 1 ? size[k] : 0;
				if (now[from] == UINT64_MAX || !(to & used) || pages > room ||
				    (to & ~(from | used)))
					continue;
				then[to] = misses < then[to] ? misses : then[to];
			}
		memcpy(now, then, sizeof(now));
	}
	for (unsigned k = 0; k < 1 << UNEQUAL; k++)
		best = now[k] < best ? now[k] : best;
	return best;
}

/* Of blocks of unequal sizes, no more than what trying out all that can be done comes to. */
static void bound_of_unequal_blocks_is_one(void **state)
{
	uint64_t bounds = 0, all = 0, best;
	struct sim_result bound, other;
	uint32_t size[UNEQUAL], seed = 7, room;

	(void)state;
	for (unsigned round = 0; round < 60; round++) {
		struct trace trace = { 0 };

		for (unsigned k = 0; k < UNEQUAL; k++) {
			seed = seed * 1664525 + 1013904223;
			size[k] = 1 + (seed >> 16) % (round % 2 ? 512 : 8);
		}
		room = (round % 2 ? 512 : 8) * (1 + round % 3);
		for (unsigned i = 0; i < 40; i++) {
			seed = seed * 1664525 + 1013904223;
			record_use_of(&trace, (seed >> 16) % UNEQUAL, size[(seed >> 16) % UNEQUAL]);
		}
		best = least(&trace, size, room);
		assert_int_equal(sim_optimum(&trace, room, &bound), 0);
		assert_true(bound.misses <= best);
		bounds += bound.misses;
		all += best;
		for (unsigned o = 0; o < NR_ORDERS; o++) {
			assert_int_equal(sim_replay(&trace, orders[o], room, &other), 0);
			assert_true(other.misses >= best);
		}
		trace_fini(&trace);
	}
	/* And not far below it. */
	assert_true(100 * bounds >= 90 * all);
}

/* Of blocks of one size, recorded or not, it is Belady's optimum. */
static void bound_of_equal_blocks_is_the_optimum(void **state)
{
	struct sim_result bound, best;
	struct trace trace, blocks;

	(void)state;
	for (unsigned p = 0; p < NR_PATTERNS; p++)
		for (unsigned s = 0; s < NR_SHARES; s++) {
			uint32_t room = 48 * sim_shares[s] / 100;

			assert_int_equal(pattern_make(pattern_names[p], 48, room, &blocks), 0);
			trace = (struct trace){ 0 };
			for (size_t i = 0; i < blocks.n; i++)
				record_use_of(&trace, blocks.block[i], 512);
			assert_int_equal(sim_optimum(&blocks, room, &best), 0);
			assert_int_equal(sim_optimum(&trace, room * 512, &bound), 0);
			assert_int_equal(bound.misses, best.misses);
			assert_int_equal(bound.uses, best.uses);
			trace_fini(&trace);
			trace_fini(&blocks);
		}
}

/* By hand: blocks of 3, 1 and 1 pages in a memory of 4 are used by turns, four times. */
static void bound_is_what_it_is_by_hand(void **state)
{
	struct trace trace = { 0 };
	struct sim_result bound;

	(void)state;
	for (unsigned i = 0; i < 12; i++)
		record_use_of(&trace, i % 3, i % 3 ? 1 : 3);
	/* The first three; then, over the third to the tenth, one of two spans has to break each
	 * time, and each breaks for two uses. */
	assert_int_equal(sim_optimum(&trace, 4, &bound), 0);
	assert_int_equal(bound.uses, 12);
	assert_int_equal(bound.misses, 7);
	assert_int_equal(sim_optimum(&trace, 5, &bound), 0);
	assert_int_equal(bound.misses, 3);
	trace_fini(&trace);
}

/* Patterns are as large as they are told to be; but a loop made to a memory's measure. */
static void patterns_are_as_large_as_they_are_told(void **state)
{
	static const uint32_t sizes[] = { 8, 100, 256, 301 };
	struct trace trace;

	(void)state;
	for (unsigned run = 0; run < 4 * NR_PATTERNS; run++) {
		uint32_t nblocks = sizes[run / NR_PATTERNS];
		const char *name = pattern_names[run % NR_PATTERNS];
		bool loop = !strcmp(name, "loop");

		assert_int_equal(pattern_make(name, nblocks, loop ? 0 : nblocks / 2, &trace), 0);
		assert_int_equal(trace.nblocks, nblocks);
		trace_fini(&trace);
	}
	assert_int_equal(pattern_make("loop", 256, 100, &trace), 0);
	assert_int_equal(trace.nblocks, 111);
	trace_fini(&trace);
}

/* Each phase is over a half, and the last one ends where the blocks do. */
static void phases_are_over_halves(void **state)
{
	struct trace trace;
	size_t quarter;

	(void)state;
	assert_int_equal(pattern_make("phase", 60, 30, &trace), 0);
	quarter = trace.n / 4;
	/* Uses that repeat the one before are left out, of one phase more than of another. */
	for (size_t phase = 0; phase < 4; phase++)
		for (size_t i = phase * quarter + 60; i + 60 < (phase + 1) * quarter; i++)
			assert_in_range(trace.block[i], phase * 10, phase * 10 + 29);
	trace_fini(&trace);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(bound_of_unequal_blocks_is_one),
		cmocka_unit_test(bound_of_equal_blocks_is_the_optimum),
		cmocka_unit_test(bound_is_what_it_is_by_hand),
		cmocka_unit_test(patterns_are_as_large_as_they_are_told),
		cmocka_unit_test(phases_are_over_halves),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
