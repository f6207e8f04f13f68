/* SPDX-License-Identifier: MIT */
/* The order of eviction that docs/policy.md shows how to write: taken from there as it is. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "sim.h"

extern const struct order_ops order_mru;

static void replay(const char *name, uint32_t room, struct sim_result *mru, struct sim_result *best)
{
	struct trace trace;

	assert_int_equal(pattern_make(name, 64, room, &trace), 0);
	assert_int_equal(sim_replay(&trace, &order_mru, room, mru), 0);
	assert_int_equal(sim_optimum(&trace, room, best), 0);
	trace_fini(&trace);
}

static void the_example_is_the_optimum_for_a_loop(void **state)
{
	struct sim_result mru, best;

	(void)state;
	for (uint32_t room = 16; room <= 48; room += 16) {
		replay("loop", room, &mru, &best);
		assert_int_equal(mru.misses, best.misses);
	}
}

static void the_example_is_poor_for_all_else(void **state)
{
	struct sim_result mru, best;

	(void)state;
	replay("phase", 32, &mru, &best);
	assert_true(mru.misses > 3 * best.misses);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_example_is_the_optimum_for_a_loop),
		cmocka_unit_test(the_example_is_poor_for_all_else),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
