/* SPDX-License-Identifier: MIT */
/* Policies of sampling, by cases that were worked out by hand: 80 pages, so 10 are an epoch. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "policy/sample.h"

#define ROOM 80

static struct sample_page page;
static struct sample sample;

static int start(void **state)
{
	(void)state;
	page = (struct sample_page){ 0 };
	sample = (struct sample){ .room = ROOM };
	return 0;
}

/* It is moved aside, then so many others, then it is touched. */
static enum sample_return away_for(const struct sample_ops *ops, unsigned others)
{
	sample_leave(&sample, &page);
	assert_true(page.away);
	sample.left += others;
	return ops->touched(&sample, &page);
}

static void soon_is_while_the_host_is_filled_once(void **state)
{
	(void)state;
	for (unsigned i = 0; i < NR_SAMPLE; i++) {
		start(state);
		assert_int_equal(away_for(sample_policies[i], ROOM + 10), SAMPLE_LATE);
		assert_false(page.away);
		assert_int_equal(away_for(sample_policies[i], ROOM), SAMPLE_SOON);
		assert_int_equal(away_for(sample_policies[i], 0),
				 sample_policies[i] == &sample_off ? SAMPLE_SOON : SAMPLE_AGAIN);
	}
}

/* In fillings of the host. */
static void check_stays(unsigned fillings)
{
	for (unsigned i = 0; i < fillings; i++) {
		assert_false(sample_refault.may_go(&sample, &page));
		sample.left += ROOM;
	}
	assert_true(sample_refault.may_go(&sample, &page));
}

static void refault_stays_twice_as_long_each_time(void **state)
{
	(void)state;
	assert_true(sample_refault.may_go(&sample, &page));
	away_for(&sample_refault, 1);
	check_stays(1);
	away_for(&sample_refault, 1);
	check_stays(3);
	away_for(&sample_refault, 1);
	check_stays(7);
	away_for(&sample_refault, 1);
	check_stays(15);
	away_for(&sample_refault, 1);
	check_stays(15);
	/* Back late, it is as any other. */
	away_for(&sample_refault, 2 * ROOM);
	assert_true(sample_refault.may_go(&sample, &page));
}

static void refault_takes_hurry_and_guesses_into_account(void **state)
{
	(void)state;
	away_for(&sample_refault, 1);
	away_for(&sample_refault, 1);
	sample.hurry += 2 * SAMPLE_EPOCHS;
	check_stays(1);
	/* Unasked, it has less credit than before. */
	sample.hurry = 0;
	sample_leave(&sample, &page);
	sample_refault.came(&sample, &page);
	assert_false(page.away);
	check_stays(1);
}

static void second_passes_over_once(void **state)
{
	(void)state;
	assert_true(sample_second.may_go(&sample, &page));
	away_for(&sample_second, 1);
	assert_false(sample_second.may_go(&sample, &page));
	assert_true(sample_second.may_go(&sample, &page));
	assert_int_equal(away_for(&sample_second, 1), SAMPLE_AGAIN);
	assert_false(sample_second.may_go(&sample, &page));
	assert_int_equal(away_for(&sample_second, 2 * ROOM), SAMPLE_LATE);
	assert_true(sample_second.may_go(&sample, &page));
}

static void off_keeps_nothing(void **state)
{
	(void)state;
	away_for(&sample_off, 1);
	away_for(&sample_off, 1);
	assert_true(sample_off.may_go(&sample, &page));
	sample_leave(&sample, &page);
	sample_off.came(&sample, &page);
	assert_false(page.away);
}

/* Only what shows that a block is in use has its turn pass. */
static void probe_lets_what_was_touched_pass(void **state)
{
	(void)state;
	for (unsigned i = 0; i < NR_SAMPLE; i++)
		assert_int_equal(sample_policies[i]->passes != NULL,
				 sample_policies[i] == &sample_probe);
	assert_true(sample_probe.passes(&sample, true));
	assert_false(sample_probe.passes(&sample, false));
}

/* Of the last 32. */
static void nothing_passes_where_most_probes_are_touched(void **state)
{
	(void)state;
	for (unsigned i = 0; i < 16; i++)
		assert_true(sample_probe.passes(&sample, true));
	assert_false(sample_probe.passes(&sample, true));
	for (unsigned i = 0; i < 16; i++)
		assert_false(sample_probe.passes(&sample, false));
	assert_false(sample_probe.passes(&sample, false));
	assert_true(sample_probe.passes(&sample, true));
}

static void policies_have_names(void **state)
{
	(void)state;
	for (unsigned i = 0; i < NR_SAMPLE; i++)
		assert_ptr_equal(sample_by_name(sample_policies[i]->name), sample_policies[i]);
	assert_null(sample_by_name("always"));
	assert_int_equal(sizeof(struct sample_page), 2);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(soon_is_while_the_host_is_filled_once, start),
		cmocka_unit_test_setup(refault_stays_twice_as_long_each_time, start),
		cmocka_unit_test_setup(refault_takes_hurry_and_guesses_into_account, start),
		cmocka_unit_test_setup(second_passes_over_once, start),
		cmocka_unit_test_setup(off_keeps_nothing, start),
		cmocka_unit_test_setup(probe_lets_what_was_touched_pass, start),
		cmocka_unit_test_setup(nothing_passes_where_most_probes_are_touched, start),
		cmocka_unit_test_setup(policies_have_names, start),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
