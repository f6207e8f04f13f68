/* SPDX-License-Identifier: MIT */
/*
 * Lots: small allocations as bits of their blocks. By hand where an answer can be seen at a glance,
 * and at random, with a fixed seed, against an array with one entry a page.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "lot.h"
#include "util.h"

#define PAGE	 UMM_PAGE_SIZE
#define BASE	 ((uintptr_t)7 << 30)
#define NBLOCKS	 3
#define NPAGES	 (NBLOCKS * UMM_BLOCK_PAGES)
#define NR_STEPS 60000
#define SEED	 0x756d6d31u

static struct lots lots;

static int setup(void **state)
{
	(void)state;
	lots_init(&lots);
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	lots_fini(&lots);
	return 0;
}

static uintptr_t page_at(size_t i)
{
	return BASE + i * PAGE;
}

static struct small small_at(size_t first, size_t npages, bool attached)
{
	return (struct small){ page_at(first), page_at(first + npages), attached };
}

static bool add(size_t first, size_t npages, bool attached)
{
	struct small small = small_at(first, npages, attached);

	return lots_add(&lots, &small);
}

static void assert_first(size_t from, size_t to, size_t first, size_t npages)
{
	struct small small = { 0 };

	assert_true(lots_first(&lots, page_at(from), page_at(to), &small));
	assert_int_equal(small.start, page_at(first));
	assert_int_equal(small.end, page_at(first + npages));
}

static void assert_none(size_t from, size_t to)
{
	struct small small;

	assert_false(lots_first(&lots, page_at(from), page_at(to), &small));
}

static void neighbours_are_told_apart(void **state)
{
	struct small small;

	(void)state;
	assert_true(add(10, 4, true));
	assert_true(add(14, 4, true));
	assert_true(add(6, 4, true));
	assert_first(0, NPAGES, 6, 4);
	assert_first(10, 11, 10, 4);
	assert_first(13, 20, 10, 4);
	assert_first(17, NPAGES, 14, 4);
	assert_none(18, NPAGES);
	assert_none(0, 6);
	assert_true(lots_at(&lots, page_at(14), &small));
	assert_true(small.attached);
	assert_false(lots_at(&lots, page_at(15), &small));
	assert_false(lots_at(&lots, page_at(18), &small));
}

static void one_in_the_midst_goes_and_others_stay(void **state)
{
	struct small middle = small_at(4, 4, false);

	(void)state;
	for (size_t i = 0; i < 3; i++)
		assert_true(add(4 * i, 4, false));
	lots_del(&lots, &middle);
	assert_none(4, 8);
	assert_first(0, 8, 0, 4);
	assert_first(4, NPAGES, 8, 4);
}

static void what_is_not_small_is_refused(void **state)
{
	(void)state;
	assert_false(add(0, UMM_BLOCK_PAGES, true));
	assert_false(add(5, UMM_BLOCK_PAGES + 1, true));
	assert_true(add(1, UMM_BLOCK_PAGES - 1, true));
	assert_first(0, NPAGES, 1, UMM_BLOCK_PAGES - 1);
}

static void what_crosses_into_another_block_is_refused(void **state)
{
	(void)state;
	assert_false(add(UMM_BLOCK_PAGES - 1, 2, true));
	assert_true(add(UMM_BLOCK_PAGES - 1, 1, true));
	assert_true(add(UMM_BLOCK_PAGES, 1, true));
	assert_first(0, NPAGES, UMM_BLOCK_PAGES - 1, 1);
	assert_first(UMM_BLOCK_PAGES, NPAGES, UMM_BLOCK_PAGES, 1);
}

static void a_block_has_one_kind(void **state)
{
	struct small small = small_at(0, 1, true);

	(void)state;
	assert_true(add(0, 1, true));
	assert_false(add(1, 1, false));
	assert_true(add(UMM_BLOCK_PAGES, 1, false));
	lots_del(&lots, &small);
	assert_true(add(1, 1, false));
}

static void memory_of_empty_lots_is_used_again(void **state)
{
	struct small small = small_at(0, 1, true);

	(void)state;
	for (size_t i = 0; i < 1000; i++) {
		assert_true(add(0, 1, true));
		lots_del(&lots, &small);
		assert_null(lots.tree.root);
	}
	assert_int_equal(lots.pool.mapped, sizeof(struct lot));
}

/* As a child finds it that was born amid a change. */
static void half_changed_lot_is_made_whole(void **state)
{
	struct lot *lot;

	(void)state;
	assert_true(add(0, 4, true));
	assert_true(add(4, 4, true));
	assert_true(add(20, 4, true));
	assert_true(add(UMM_BLOCK_PAGES, 4, true));
	lot = container_of(itree_first(&lots.tree, BASE, BASE + 1), struct lot, node);
	/* One is being added, one has lost its beginning, a third only has one. */
	bit_set(lot->begins, 8);
	bits_set(lot->has, 8, 10);
	bit_clear(lot->has, 20);
	bit_set(lot->begins, 30);
	lots_replant(&lots);
	assert_first(0, 1, 0, 4);
	assert_first(4, 5, 4, 4);
	assert_first(8, 9, 8, 2);
	assert_first(10, UMM_BLOCK_PAGES, 21, 3);
	assert_false(bit_test(lot->begins, 20));
	assert_false(bit_test(lot->begins, 30));
	assert_none(24, UMM_BLOCK_PAGES);
	assert_first(24, NPAGES, UMM_BLOCK_PAGES, 4);
}

static uint32_t random_next(uint32_t *state)
{
	*state ^= *state << 13;
	*state ^= *state >> 17;
	*state ^= *state << 5;
	return *state;
}

/* Of each page: where its allocation begins and ends; end 0: it has none. */
static struct span {
	size_t first, end;
} model[NPAGES];

static void check_first(size_t from, size_t to)
{
	size_t i = from;

	while (i < to && !model[i].end)
		i++;
	if (i == to)
		assert_none(from, to);
	else
		assert_first(from, to, model[i].first, model[i].end - model[i].first);
}

static bool is_free(size_t first, size_t end)
{
	for (size_t i = first; i < end; i++)
		if (model[i].end)
			return false;
	return true;
}

static void set_model(size_t first, size_t end, struct span span)
{
	for (size_t i = first; i < end; i++)
		model[i] = span;
}

static void random_change(uint32_t *seed)
{
	size_t i = random_next(seed) % NPAGES, npages = 1 + random_next(seed) % 12;
	struct span was = model[i];
	struct small small;

	if (was.end) {
		small = small_at(was.first, was.end - was.first, true);
		lots_del(&lots, &small);
		set_model(was.first, was.end, (struct span){ 0 });
	} else if (i + npages <= NPAGES && is_free(i, i + npages)) {
		if (i / UMM_BLOCK_PAGES == (i + npages - 1) / UMM_BLOCK_PAGES) {
			assert_true(add(i, npages, true));
			set_model(i, i + npages, (struct span){ i, i + npages });
		} else {
			assert_false(add(i, npages, true));
		}
	}
}

static void random_changes_match_brute_force(void **state)
{
	uint32_t seed = SEED;
	size_t from;

	(void)state;
	memset(model, 0, sizeof(model));
	for (unsigned step = 0; step < NR_STEPS; step++) {
		random_change(&seed);
		from = random_next(&seed) % NPAGES;
		check_first(from, from + 1 + random_next(&seed) % (NPAGES - from));
		if (step % 1024 == 0)
			lots_replant(&lots);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(neighbours_are_told_apart, setup, teardown),
		cmocka_unit_test_setup_teardown(one_in_the_midst_goes_and_others_stay, setup,
						teardown),
		cmocka_unit_test_setup_teardown(what_is_not_small_is_refused, setup, teardown),
		cmocka_unit_test_setup_teardown(what_crosses_into_another_block_is_refused, setup,
						teardown),
		cmocka_unit_test_setup_teardown(a_block_has_one_kind, setup, teardown),
		cmocka_unit_test_setup_teardown(memory_of_empty_lots_is_used_again, setup,
						teardown),
		cmocka_unit_test_setup_teardown(half_changed_lot_is_made_whole, setup, teardown),
		cmocka_unit_test_setup_teardown(random_changes_match_brute_force, setup, teardown),
	};

	return cmocka_run_group_tests_name("lot", tests, NULL, NULL);
}
