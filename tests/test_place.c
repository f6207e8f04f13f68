/* SPDX-License-Identifier: MIT */
/* Policies of placement, by cases that were worked out by hand. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "policy/place.h"

/* Digits: the devices in the order in which they are asked. */
static void check_order(const struct place_ops *ops, struct place *place,
			const struct place_tier *tiers, unsigned n, const char *wanted)
{
	unsigned order[PLACE_TIERS], count = ops->order(place, tiers, n, order), i;

	for (i = 0; wanted[i]; i++) {
		assert_true(i < count);
		assert_int_equal(order[i], wanted[i] - '0');
	}
	assert_int_equal(count, i);
}

static const struct place_tier tiers[] = {
	{ 100, 10, true }, { 1000, 500, true }, { 50, 50, false }, { 10, 5, true }, { 10, 0, true },
};

static void first_asks_by_preference(void **state)
{
	struct place place = { 0 };

	(void)state;
	check_order(&place_first, &place, tiers, 5, "013");
	check_order(&place_first, &place, tiers, 5, "013");
	check_order(&place_first, &place, tiers + 4, 1, "");
}

static void roomiest_asks_by_free_share(void **state)
{
	const struct place_tier large[] = { { UINT32_MAX, UINT32_MAX - 1, true },
					    { UINT32_MAX, UINT32_MAX, true } };
	struct place place = { 0 };

	(void)state;
	check_order(&place_roomiest, &place, tiers, 5, "130");
	check_order(&place_roomiest, &place, large, 2, "10");
	check_order(&place_roomiest, &place, tiers + 2, 1, "");
}

static void interleave_asks_by_turns(void **state)
{
	struct place place = { 0 };

	(void)state;
	check_order(&place_interleave, &place, tiers, 5, "013");
	check_order(&place_interleave, &place, tiers, 5, "130");
	check_order(&place_interleave, &place, tiers, 5, "301");
	check_order(&place_interleave, &place, tiers, 5, "013");
	check_order(&place_interleave, &place, tiers + 4, 1, "");
}

/* Of batches of 10 pages: as many are where each policy says. */
static void what_fills_up(const struct place_ops *ops, unsigned batches, uint64_t a, uint64_t b)
{
	struct place_tier two[] = { { 100, 100, true }, { 300, 300, true } };
	struct place place = { 0 };
	unsigned order[PLACE_TIERS];

	for (unsigned i = 0; i < batches; i++) {
		assert_true(ops->order(&place, two, 2, order) > 0);
		two[order[0]].nfree -= 10;
	}
	assert_int_equal(100 - two[0].nfree, a);
	assert_int_equal(300 - two[1].nfree, b);
}

static void devices_fill_up_as_each_says(void **state)
{
	(void)state;
	what_fills_up(&place_first, 12, 100, 20);
	what_fills_up(&place_roomiest, 12, 30, 90);
	what_fills_up(&place_interleave, 12, 60, 60);
	what_fills_up(&place_interleave, 30, 100, 200);
}

static void policies_have_names(void **state)
{
	(void)state;
	for (unsigned i = 0; i < NR_PLACE; i++)
		assert_ptr_equal(place_by_name(place_policies[i]->name), place_policies[i]);
	assert_null(place_by_name("nearest"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(first_asks_by_preference),
		cmocka_unit_test(roomiest_asks_by_free_share),
		cmocka_unit_test(interleave_asks_by_turns),
		cmocka_unit_test(devices_fill_up_as_each_says),
		cmocka_unit_test(policies_have_names),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
