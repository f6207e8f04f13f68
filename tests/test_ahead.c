/* SPDX-License-Identifier: MIT */
/* Policies of prefetch by themselves: small cases, worked out by hand. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "policy/ahead.h"
#include "sim.h"

#define BASE UINT64_C(0x7f0000000) /* the first page of a block */

static struct ahead_plan miss(struct ahead *ahead, const struct ahead_ops *ops, uint64_t page,
			      const uint64_t *there)
{
	struct ahead_miss what = { .page = page, .thread = 7, .there = there };
	struct ahead_plan plan = { 0 };

	ops->miss(ahead, &what, &plan);
	return plan;
}

static void assert_pages(const struct ahead_pages *pages, uint64_t first, int64_t stride,
			 uint32_t n)
{
	assert_int_equal(pages->n, n);
	if (!n)
		return;
	assert_int_equal(pages->first, first);
	assert_int_equal(pages->stride, stride);
}

/* Pages first .. last are there. */
static void there_set(uint64_t *there, unsigned first, unsigned last)
{
	for (unsigned i = first; i <= last; i++)
		there[i / 64] |= UINT64_C(1) << i % 64;
}

static void names_are_found(void **state)
{
	(void)state;
	for (unsigned i = 0; i < NR_AHEAD; i++)
		assert_ptr_equal(ahead_by_name(ahead_policies[i]->name), ahead_policies[i]);
	assert_null(ahead_by_name("Stream"));
	assert_null(ahead_by_name(""));
}

static void clip_keeps_what_is_within(void **state)
{
	static const struct {
		struct ahead_pages pages;
		uint64_t first;
		uint32_t n;
	} cases[] = {
		/* of 100 .. 200 */
		{ { 100, 1, 100 }, 100, 100 },	{ { 90, 1, 20 }, 100, 10 },
		{ { 91, 3, 10 }, 100, 7 },	{ { 195, 3, 10 }, 195, 2 },
		{ { 199, -1, 500 }, 199, 100 }, { { 210, -4, 5 }, 198, 2 },
		{ { 105, -4, 5 }, 105, 2 },	{ { 200, 1, 5 }, 0, 0 },
		{ { 99, -1, 5 }, 0, 0 },	{ { 90, 1, 10 }, 0, 0 },
		{ { 0, 300, 9 }, 0, 0 },	{ { 150, 1, 0 }, 0, 0 },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct ahead_pages pages = cases[i].pages;

		ahead_clip(&pages, 100, 200);
		assert_pages(&pages, cases[i].first, cases[i].pages.stride, cases[i].n);
	}
}

static void density_fills_the_largest_dense_subtree(void **state)
{
	uint64_t there[AHEAD_BLOCK / 64] = { 0 };
	struct ahead_plan plan;
	struct ahead ahead;

	(void)state;
	ahead_init(&ahead, 0, 0);
	/* Half of 16 pages are not more than 51 percent, nine are; but not of 32. */
	there_set(there, 8, 15);
	plan = miss(&ahead, &ahead_density, BASE + 8, there);
	assert_pages(&plan.with, 0, 0, 0);
	there_set(there, 3, 3);
	plan = miss(&ahead, &ahead_density, BASE + 3, there);
	assert_pages(&plan.with, BASE, 1, 16);
	assert_pages(&plan.after, 0, 0, 0);
	/* 17 of 32: what surrounds the page comes with it, all of it behind. */
	there_set(there, 0, 16);
	plan = miss(&ahead, &ahead_density, BASE + 16, there);
	assert_pages(&plan.with, BASE + 16, 1, 16);
	assert_pages(&plan.after, BASE, 1, 32);
	there_set(there, 0, 300);
	plan = miss(&ahead, &ahead_density, BASE + 300, there);
	assert_pages(&plan.after, BASE, 1, 512);
}

static void density_goes_by_its_share_and_bound(void **state)
{
	uint64_t there[AHEAD_BLOCK / 64] = { 0 };
	struct ahead_plan plan;
	struct ahead ahead;

	(void)state;
	there_set(there, 0, 23);
	ahead_init(&ahead, 75, 0);
	plan = miss(&ahead, &ahead_density, BASE + 11, there);
	assert_pages(&plan.with, BASE, 1, 16);
	assert_pages(&plan.after, 0, 0, 0); /* 24 of 32 are not more than 75 % */
	ahead_init(&ahead, 74, 0);
	plan = miss(&ahead, &ahead_density, BASE + 11, there);
	assert_pages(&plan.after, BASE, 1, 32);
	ahead_init(&ahead, 51, 16);
	plan = miss(&ahead, &ahead_density, BASE + 11, there);
	assert_pages(&plan.with, BASE, 1, 16);
	assert_pages(&plan.after, 0, 0, 0);
}

/* Four in equal steps; then what is ahead doubles as he arrives where he was expected. */
static void stream_follows(int64_t stride)
{
	uint64_t at = BASE + 256;
	struct ahead_plan plan;
	struct ahead ahead;

	ahead_init(&ahead, 0, 0);
	for (unsigned i = 0; i < 3; i++, at += (uint64_t)stride) {
		plan = miss(&ahead, &ahead_stream, at, NULL);
		assert_pages(&plan.with, 0, 0, 0);
		assert_pages(&plan.after, 0, 0, 0);
	}
	plan = miss(&ahead, &ahead_stream, at, NULL);
	assert_pages(&plan.after, at + (uint64_t)stride, stride, 4);
	assert_pages(&plan.with, at + (uint64_t)stride, stride, 4);
	/* Again, or the same page: nothing new. */
	plan = miss(&ahead, &ahead_stream, at, NULL);
	assert_pages(&plan.after, 0, 0, 0);
	/* The first that is missing: 8 ahead of it, none of which was planned. */
	at += (uint64_t)(5 * stride);
	plan = miss(&ahead, &ahead_stream, at, NULL);
	assert_pages(&plan.after, at + (uint64_t)stride, stride, 8);
	/* On the way: less than half is left, and what is ahead becomes 16. */
	at += (uint64_t)(6 * stride);
	plan = miss(&ahead, &ahead_stream, at, NULL);
	assert_pages(&plan.after, at + (uint64_t)(3 * stride), stride, 14);
	assert_pages(&plan.with, at + (uint64_t)stride, stride, AHEAD_WITH);
}

static void stream_follows_who_takes_every_page(void **state)
{
	(void)state;
	stream_follows(1);
	stream_follows(-1);
}

static void stream_follows_equal_steps(void **state)
{
	(void)state;
	stream_follows(3);
	stream_follows(-7);
	stream_follows(1000);
}

/* Who walks far gets whole blocks, and never more than `most` and the rest of a block. */
static void stream_fills_blocks_and_is_bounded(void **state)
{
	uint64_t planned = BASE, misses = 0;
	struct ahead_plan plan;
	struct ahead ahead;

	(void)state;
	ahead_init(&ahead, 0, 2048);
	for (uint64_t at = BASE; at < BASE + 65536; at++) {
		if (at < planned)
			continue;
		misses++;
		plan = miss(&ahead, &ahead_stream, at, NULL);
		planned = at + 1;
		if (plan.after.n)
			planned = plan.after.first + plan.after.n;
		assert_in_range(planned - at, 1, 2048 + AHEAD_BLOCK);
		if (planned > BASE + 1024)
			assert_int_equal(planned % AHEAD_BLOCK, 0);
	}
	assert_in_range(misses, 4, 50);
}

/* Two arrays, and a walk of pages and a half: one, two, one, two. */
static void stream_tells_interleaved_ways_apart(void **state)
{
	uint64_t other = BASE + 700000;
	struct ahead_plan plan;
	struct ahead ahead;

	(void)state;
	ahead_init(&ahead, 0, 0);
	for (unsigned i = 0; i < 3; i++) {
		miss(&ahead, &ahead_stream, BASE + i, NULL);
		miss(&ahead, &ahead_stream, other - 2 * i, NULL);
	}
	plan = miss(&ahead, &ahead_stream, BASE + 3, NULL);
	assert_pages(&plan.after, BASE + 4, 1, 4);
	plan = miss(&ahead, &ahead_stream, other - 6, NULL);
	ahead_init(&ahead, 0, 0);
	for (unsigned i = 0; i < 6; i++) {
		plan = miss(&ahead, &ahead_stream, BASE + i * 3 / 2, NULL);
		assert_pages(&plan.after, 0, 0, 0);
	}
	plan = miss(&ahead, &ahead_stream, BASE + 9, NULL);
	assert_pages(&plan.after, BASE + 12, 3, 4);
}

/* Nothing comes for random accesses, but what chance brings: of 20,000, less than one in 20. */
static void stream_leaves_random_accesses_alone(void **state)
{
	uint64_t x = 88172645463325252u, planned = 0;
	struct ahead_plan plan;
	struct ahead ahead;

	(void)state;
	ahead_init(&ahead, 0, 0);
	for (unsigned i = 0; i < 20000; i++) {
		x ^= x << 13;
		x ^= x >> 7;
		x ^= x << 17;
		plan = miss(&ahead, &ahead_stream, BASE + x % 4096, NULL);
		planned += plan.after.n;
	}
	assert_in_range(planned, 0, 1000);
}

static void off_plans_nothing(void **state)
{
	struct ahead_plan plan;
	struct ahead ahead;

	(void)state;
	ahead_init(&ahead, 0, 0);
	for (unsigned i = 0; i < 100; i++) {
		plan = miss(&ahead, &ahead_off, BASE + i, NULL);
		assert_int_equal(plan.with.n + plan.after.n, 0);
	}
}

/*
 * The goals of docs/policy.md, with nobody but faults to bring pages; by nothing but a fault, of
 * every 64th page less is removed, and of one in each block nothing.
 */
static void faults_go_where_there_is_order(void **state)
{
	static const bool ordered[NR_WALKS] = { true, true, true, true };
	struct sim_coverage least, most;

	(void)state;
	for (unsigned w = 0; w < NR_WALKS; w++) {
		assert_int_equal(sim_coverage(&ahead_stream, w, false, &least), 0);
		assert_int_equal(sim_coverage(&ahead_stream, w, true, &most), 0);
		assert_true(most.faults <= least.faults);
		assert_true(20 * most.wasted <= most.touched);
		assert_true(!ordered[w] || 10 * least.faults <= least.touched);
		assert_int_equal(sim_coverage(&ahead_off, w, true, &most), 0);
		assert_int_equal(most.faults, most.touched);
		assert_int_equal(most.came, 0);
	}
	assert_int_equal(sim_coverage(&ahead_stream, 6, false, &least), 0);
	assert_true(5 * least.faults <= least.touched && 10 * least.faults > least.touched);
	assert_int_equal(sim_coverage(&ahead_stream, 7, false, &least), 0);
	assert_int_equal(least.faults, least.touched);
	assert_int_equal(sim_coverage(&ahead_stream, 7, true, &most), 0);
	assert_true(8 * most.faults <= most.touched);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(names_are_found),
		cmocka_unit_test(clip_keeps_what_is_within),
		cmocka_unit_test(density_fills_the_largest_dense_subtree),
		cmocka_unit_test(density_goes_by_its_share_and_bound),
		cmocka_unit_test(stream_follows_who_takes_every_page),
		cmocka_unit_test(stream_follows_equal_steps),
		cmocka_unit_test(stream_fills_blocks_and_is_bounded),
		cmocka_unit_test(stream_tells_interleaved_ways_apart),
		cmocka_unit_test(stream_leaves_random_accesses_alone),
		cmocka_unit_test(off_plans_nothing),
		cmocka_unit_test(faults_go_where_there_is_order),
	};

	return cmocka_run_group_tests_name("test_ahead", tests, NULL, NULL);
}
