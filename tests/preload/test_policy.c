/* SPDX-License-Identifier: MIT */
/*
 * Which pages leave and which come along, in a simulation: a host of so many pages, a set of those
 * that are in it, and a program that touches pages in some order. The policy sees what it would
 * see of a real one.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "policy.h"

#define PAGE ((uintptr_t)4096)

enum {
	BLOCKS = 72,
	PAGES = BLOCKS * POLICY_PAGES,
	HOST = PAGES / 3,
	SLACK = POLICY_PAGES, /* demoted at a time */
};

static const uintptr_t base = (uintptr_t)1 << 40;
static bool in_host[PAGES], aside[PAGES]; /* aside: in the host, and not touched since */
static unsigned nhost;
static uint64_t misses, came;

/* The turn of a block, of which pages from @first on. True: it passes. */
static bool probe_ends(uintptr_t block, unsigned first)
{
	uintptr_t probe = policy_probe_of(block);

	if (!probe)
		return false;
	return policy_probe_end(block, aside[first + (probe - block) / PAGE] ? POLICY_PROBE_ASIDE :
									       POLICY_PROBE_BACK);
}

static void demote(unsigned want)
{
	unsigned char present[POLICY_PAGES];
	uintptr_t block;

	for (unsigned turns = 0; want && turns < 16 * BLOCKS; turns++) {
		unsigned first, n;

		assert_true(policy_turn(&block));
		first = (unsigned)((block - base) / PAGE);
		if (probe_ends(block, first))
			continue;
		for (unsigned i = 0; i < POLICY_PAGES; i++)
			present[i] = in_host[first + i];
		n = policy_choose(block, present, want);
		assert_true(n <= want);
		for (unsigned i = 0; i < POLICY_PAGES; i++) {
			if (!present[i])
				continue;
			assert_true(in_host[first + i]);
			in_host[first + i] = aside[first + i] = false;
			policy_demoted(block + i * PAGE, 1);
		}
		nhost -= n;
		want -= n;
	}
	assert_int_equal(want, 0);
}

static void bring(unsigned page)
{
	if (page < PAGES && !in_host[page]) {
		in_host[page] = true;
		nhost++;
		came++;
	}
}

static void touch(unsigned page)
{
	struct policy_fetch fetch;

	aside[page] = false;
	if (in_host[page])
		return;
	misses++;
	fetch = policy_touched(base + page * PAGE);
	bring(page);
	for (unsigned i = 0; i < fetch.npages; i++)
		if (fetch.start + i * PAGE != fetch.mark)
			bring((unsigned)((fetch.start - base) / PAGE) + i);
	if (nhost > HOST)
		demote(nhost - HOST + SLACK);
}

/* Everything was touched once, in order, before: the last third is in the host. */
static int start(void **state)
{
	(void)state;
	for (unsigned i = 0; i < BLOCKS; i++)
		policy_forget(base + i * POLICY_PAGES * PAGE);
	policy_resize(HOST);
	memset(in_host, true, sizeof(in_host));
	memset(aside, false, sizeof(aside));
	nhost = PAGES;
	for (unsigned i = 0; i < BLOCKS; i++)
		assert_int_equal(policy_see(base + i * POLICY_PAGES * PAGE), 0);
	assert_int_equal(policy_blocks(), BLOCKS);
	demote(PAGES - HOST);
	misses = 0;
	return 0;
}

static unsigned next_random(void)
{
	static uint64_t seed = 1;

	seed = seed * 6364136223846793005u + 1442695040888963407u;
	return (unsigned)(seed >> 33);
}

/* One page in ten, scattered over all blocks. */
static unsigned hot_page(void)
{
	return (next_random() % (PAGES / 10)) * 10 + 3;
}

static void what_was_first_seen_leaves_first(void **state)
{
	(void)state;
	for (unsigned i = 0; i < PAGES; i++)
		assert_int_equal(in_host[i], i >= PAGES - HOST);
}

static void a_scan_comes_with_its_neighbours(void **state)
{
	(void)state;
	for (unsigned i = 0; i < PAGES; i++)
		touch(i);
	/* 1, 1 + 8, 1 + 16, ... */
	assert_in_range(misses, PAGES / POLICY_READAHEAD / 2, PAGES / 64);
}

/* The host holds a third: no less than a third of that is found there each time. */
static void passes_find_what_the_host_can_keep(void **state)
{
	(void)state;
	for (unsigned pass = 0; pass < 6; pass++) {
		came = 0;
		for (unsigned i = 0; i < PAGES; i++)
			touch(i);
	}
	assert_in_range(came, PAGES - HOST, PAGES - HOST / 3);
}

/* From the first page of a block that was fetched to that of another one. */
static void long_streams_fetch_whole_blocks(void **state)
{
	struct policy_fetch fetch = { .npages = 0 };
	unsigned whole = 0;
	uintptr_t next;

	(void)state;
	policy_reset();
	policy_resize(64 * (uint64_t)POLICY_PAGES);
	for (unsigned i = 0; i < PAGES; i++) {
		uintptr_t addr = base + i * PAGE;

		if (fetch.npages && addr != fetch.mark)
			continue;
		next = fetch.start + fetch.npages * PAGE;
		fetch = policy_touched(addr);
		if (fetch.npages < POLICY_PAGES || !whole++)
			continue;
		assert_int_equal(fetch.start, next);
		assert_int_equal(fetch.start % (POLICY_PAGES * PAGE), 0);
		assert_int_equal(fetch.mark % (POLICY_PAGES * PAGE), 0);
		assert_int_equal(fetch.npages % POLICY_PAGES, 0);
	}
	assert_true(whole > 2);
}

static void touches_without_order_come_alone(void **state)
{
	uint64_t before;

	(void)state;
	/* Streams have seen better days. */
	for (unsigned i = 0; i < PAGES; i++)
		touch(i);
	before = policy_counts()->readahead;
	misses = 0;
	for (unsigned i = 0; i < 10000; i++) {
		unsigned page = next_random() % (PAGES - 1);

		/* As an object does that lies across the border between two. */
		touch(page);
		touch(page + 1);
	}
	assert_true(policy_counts()->readahead - before < misses / 8);
}

/* A scan over everything, between touches of hot pages: how many of these are missed? */
static uint64_t hot_misses_in_a_scan(void)
{
	uint64_t hot_misses = 0, before;

	for (unsigned i = 0; i < 200 * PAGES; i++)
		touch(i % 20 ? hot_page() : (i / 20) % PAGES);
	for (unsigned i = 0; i < PAGES; i++) {
		touch(i);
		before = misses;
		touch(hot_page());
		hot_misses += misses - before;
	}
	return hot_misses;
}

static void a_scan_does_not_flush_what_is_hot(void **state)
{
	(void)state;
	assert_true(hot_misses_in_a_scan() < PAGES / 20);
}

/* Without samples, hot pages leave with what lies around them. */
static void samples_are_what_keeps_hot_pages(void **state)
{
	uint64_t with = hot_misses_in_a_scan(), second, without;

	start(state);
	policy_sampling(&sample_second);
	second = hot_misses_in_a_scan();
	start(state);
	policy_sampling(&sample_off);
	without = hot_misses_in_a_scan();
	policy_sampling(&sample_refault);
	print_message("hot pages missed in a scan of %d: refault %llu, second %llu, off %llu\n",
		      PAGES, (unsigned long long)with, (unsigned long long)second,
		      (unsigned long long)without);
	assert_true(4 * with < without);
	assert_true(4 * second < 3 * without);
}

/* Of the pages in the host, those that may not go. */
static unsigned refused(void)
{
	unsigned char present[POLICY_PAGES];
	unsigned n = 0;

	for (unsigned first = 0; first < PAGES; first += POLICY_PAGES) {
		for (unsigned i = 0; i < POLICY_PAGES; i++)
			n += present[i] = in_host[first + i];
		n -= policy_choose(base + first * PAGE, present, POLICY_PAGES);
	}
	return n;
}

/* But what is away is known to be, and to have left not long ago. */
static void what_another_policy_has_learned_is_forgotten(void **state)
{
	uint64_t returned;
	unsigned page = 0;

	(void)state;
	hot_misses_in_a_scan();
	assert_true(refused() > PAGES / 20);
	policy_sampling(&sample_refault);
	assert_true(refused() > PAGES / 20);
	policy_sampling(&sample_second);
	assert_int_equal(refused(), 0);
	policy_sampling(&sample_refault);
	assert_int_equal(refused(), 0);
	/* The one that left last. */
	demote(1);
	while (in_host[page])
		page++;
	policy_demoted(base + page * PAGE, 1);
	policy_sampling(&sample_second);
	returned = policy_counts()->returned;
	touch(page);
	assert_int_equal(policy_counts()->returned, returned + 1);
	policy_sampling(&sample_refault);
}

/* Move aside what the policy asks for. */
static void look(void)
{
	unsigned char present[POLICY_PAGES];
	unsigned first, page;
	uintptr_t block;

	while (policy_probe_next(&block)) {
		first = (unsigned)((block - base) / PAGE);
		for (unsigned i = 0; i < POLICY_PAGES; i++)
			present[i] = in_host[first + i] && !aside[first + i];
		page = policy_probe_choose(present);
		if (page == POLICY_PAGES)
			continue;
		assert_true(present[page]);
		aside[first + page] = true;
		policy_probed(block + page * PAGE);
	}
}

/* The first blocks are in use while the rest is filled: how many touches find them gone? */
static uint64_t misses_of_blocks_in_use(const struct sample_ops *ops)
{
	const unsigned nhot = HOST / 8;

	for (unsigned i = 0; i < BLOCKS; i++)
		policy_forget(base + i * POLICY_PAGES * PAGE);
	policy_sampling(ops);
	memset(in_host, false, sizeof(in_host));
	memset(aside, false, sizeof(aside));
	nhost = 0;
	misses = 0;
	for (unsigned page = 0; page < PAGES; page++) {
		if (page % POLICY_PAGES == 0)
			assert_int_equal(policy_see(base + page * PAGE), 0);
		in_host[page] = true;
		nhost++;
		for (unsigned i = 0; page >= nhot && i < 4; i++)
			touch(next_random() % nhot);
		if (page % 64 == 0)
			look();
		if (nhost > HOST)
			demote(nhost - HOST + SLACK);
	}
	policy_sampling(&sample_refault);
	return misses;
}

static void probes_keep_blocks_that_are_in_use(void **state)
{
	uint64_t refault = misses_of_blocks_in_use(&sample_refault);
	uint64_t probe = misses_of_blocks_in_use(&sample_probe);

	(void)state;
	print_message("touches of %d pages in use that found them gone: refault %llu, probe %llu\n",
		      HOST / 8, (unsigned long long)refault, (unsigned long long)probe);
	assert_true(refault >= HOST / 8);
	assert_true(20 * probe <= refault);
}

static void a_probe_that_left_or_is_gone_is_forgotten(void **state)
{
	unsigned char present[POLICY_PAGES] = { [7] = 1 }, none[POLICY_PAGES] = { 0 };
	uintptr_t block;

	(void)state;
	policy_sampling(&sample_probe);
	assert_true(policy_probe_next(&block));
	assert_int_equal(policy_probe_choose(none), POLICY_PAGES);
	assert_int_equal(policy_probe_choose(present), 7);
	policy_probed(block + 7 * PAGE);
	assert_int_equal(policy_probes(), 1);
	/* Another page leaves, then it. */
	policy_demoted(block + 6 * PAGE, 1);
	assert_int_equal(policy_probes(), 1);
	policy_demoted(block + 7 * PAGE, 1);
	assert_int_equal(policy_probes(), 0);
	/* It comes home with its neighbours. */
	policy_probed(block + 7 * PAGE);
	for (unsigned i = 0; i < 4; i++)
		policy_touched(block + i * PAGE);
	assert_int_equal(policy_probes(), 0);
	policy_probed(block + 7 * PAGE);
	policy_forget(block);
	assert_int_equal(policy_probes(), 0);
	assert_int_equal(policy_probe_of(block), 0);
	assert_false(policy_probe_end(block, POLICY_PROBE_BACK));
	policy_sampling(&sample_refault);
	assert_false(policy_probe_next(&block));
}

static void thrash_is_seen_and_ends(void **state)
{
	(void)state;
	/* Half as much again as the host holds, at random: what left is wanted again. */
	for (unsigned i = 0; i < 20 * PAGES; i++)
		touch(next_random() % (HOST + HOST / 2));
	assert_true(policy_is_thrashing());
	assert_true(policy_counts()->thrashed > 0);
	for (unsigned round = 0; round < 200; round++)
		for (unsigned i = 0; i < PAGES; i++)
			touch(i);
	assert_false(policy_is_thrashing());
}

static void pages_that_come_one_by_one_are_told_from_streams(void **state)
{
	(void)state;
	policy_reset();
	assert_int_equal(start(NULL), 0);
	assert_false(policy_is_scattered());
	for (unsigned i = 0; i < 20 * PAGES; i++)
		touch(next_random() % (HOST + HOST / 2));
	assert_true(policy_is_scattered());
	for (unsigned round = 0; round < 200; round++)
		for (unsigned i = 0; i < PAGES; i++)
			touch(i);
	assert_false(policy_is_scattered());
	policy_reset();
	assert_false(policy_is_scattered());
	assert_int_equal(start(NULL), 0);
}

/* Half as much again as the host holds, in an order that no stream sees. */
static void rounds_without_order_find_what_the_host_can_keep(void **state)
{
	static unsigned order[HOST + HOST / 2];
	const unsigned n = sizeof(order) / sizeof(order[0]);

	(void)state;
	for (unsigned i = 0; i < n; i++) {
		unsigned j = next_random() % (i + 1);

		order[i] = order[j];
		order[j] = i;
	}
	for (unsigned pass = 0; pass < 60; pass++) {
		misses = 0;
		for (unsigned i = 0; i < n; i++)
			touch(order[i]);
		/* A third is missed by who knows the future. */
		if (pass >= 20)
			assert_in_range(misses, n / 3, n * 6 / 10);
	}
}

/* What was hot has cooled down, and something else is hot: it has its place soon. */
static void what_was_hot_makes_place(void **state)
{
	(void)state;
	for (unsigned i = 0; i < 60 * HOST; i++)
		touch(next_random() % (HOST + HOST / 8));
	misses = 0;
	for (unsigned i = 0; i < 60 * HOST; i++) {
		if (i == 30 * HOST)
			misses = 0;
		touch(PAGES - 1 - next_random() % (HOST * 3 / 4));
	}
	assert_true(misses < 30 * HOST / 20);
}

static void touches_are_counted_by_block(void **state)
{
	(void)state;
	policy_touches_take(base);
	touch(3);
	touch(200);
	touch(3); /* it is there */
	touch(POLICY_PAGES);
	assert_int_equal(policy_touches_take(base), 2);
	assert_int_equal(policy_touches_take(base), 0);
	assert_int_equal(policy_touches_take(base + POLICY_PAGES * PAGE), 1);
	assert_int_equal(policy_touches_take(0), 0);
}

/* Let the block whose turn it is give what it may. */
static unsigned take_turn(void)
{
	unsigned char present[POLICY_PAGES];
	uintptr_t block;
	unsigned first, n;

	assert_true(policy_turn(&block));
	first = (unsigned)((block - base) / PAGE);
	bring(first + POLICY_PAGES - 1); /* there is always one that was never hot */
	for (unsigned i = 0; i < POLICY_PAGES; i++)
		present[i] = in_host[first + i];
	n = policy_choose(block, present, POLICY_PAGES);
	for (unsigned i = 0; i < POLICY_PAGES; i++)
		if (present[i]) {
			in_host[first + i] = false;
			policy_demoted(block + i * PAGE, 1);
		}
	nhost -= n;
	return n;
}

/*
 * Everything is wanted again soon, but for a page of each block: room is made all the same, and
 * soon, or the program would exceed its limit.
 */
static void room_is_made_where_nearly_all_is_hot(void **state)
{
	unsigned left = 0;

	(void)state;
	for (unsigned i = 0; i < 30 * PAGES; i++) {
		unsigned page = next_random() % (HOST + HOST / 4);

		touch(page % POLICY_PAGES == POLICY_PAGES - 1 ? page - 1 : page);
	}
	for (unsigned i = 0; i < 16 * BLOCKS; i++)
		left += take_turn();
	assert_true(left >= 16 * BLOCKS + HOST / 2);
}

static void a_block_that_is_gone_has_no_turn(void **state)
{
	uintptr_t block;

	(void)state;
	for (unsigned i = 0; i < BLOCKS; i++)
		policy_forget(base + i * POLICY_PAGES * PAGE);
	assert_int_equal(policy_blocks(), 0);
	assert_false(policy_turn(&block));
	assert_int_equal(policy_see(base), 0);
	assert_true(policy_turn(&block) && block == base);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(what_was_first_seen_leaves_first, start),
		cmocka_unit_test_setup(a_scan_comes_with_its_neighbours, start),
		cmocka_unit_test_setup(passes_find_what_the_host_can_keep, start),
		cmocka_unit_test_setup(long_streams_fetch_whole_blocks, start),
		cmocka_unit_test_setup(touches_without_order_come_alone, start),
		cmocka_unit_test_setup(a_scan_does_not_flush_what_is_hot, start),
		cmocka_unit_test_setup(samples_are_what_keeps_hot_pages, start),
		cmocka_unit_test_setup(what_another_policy_has_learned_is_forgotten, start),
		cmocka_unit_test_setup(probes_keep_blocks_that_are_in_use, start),
		cmocka_unit_test_setup(a_probe_that_left_or_is_gone_is_forgotten, start),
		cmocka_unit_test_setup(thrash_is_seen_and_ends, start),
		cmocka_unit_test_setup(pages_that_come_one_by_one_are_told_from_streams, start),
		cmocka_unit_test_setup(rounds_without_order_find_what_the_host_can_keep, start),
		cmocka_unit_test_setup(what_was_hot_makes_place, start),
		cmocka_unit_test_setup(touches_are_counted_by_block, start),
		cmocka_unit_test_setup(room_is_made_where_nearly_all_is_hot, start),
		cmocka_unit_test_setup(a_block_that_is_gone_has_no_turn, start),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
