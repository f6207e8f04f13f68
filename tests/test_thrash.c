/* SPDX-License-Identifier: MIT */
/* Policies of thrashing by themselves: small cases, worked out by hand, by a clock of their own. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "policy/thrash.h"
#include "sim.h"

#define CPU 1
#define GPU 2

#define US UINT64_C(1000)
#define MS UINT64_C(1000000)

/* A page that a CPU and a device share. */
struct shared {
	struct thrash thrash;
	const struct thrash_ops *ops;
	uint64_t now_ns, until_ns;
	bool in_place; /* the device can use it at home */
	bool may_wait;
	bool home;
};

static struct shared shared;

static void begin(const struct thrash_ops *ops, bool in_place)
{
	memset(&shared, 0, sizeof(shared));
	thrash_init(&shared.thrash, &(struct thrash_limits){ 0 });
	shared.ops = ops;
	shared.in_place = in_place;
	shared.may_wait = true;
	shared.now_ns = 5000 * MS;
}

/* It is missed, a moment after whatever was before. */
static enum thrash_verdict miss(uint64_t page, uint32_t who, uint64_t after_ns)
{
	struct thrash_miss what = {
		.page = page,
		.now_ns = shared.now_ns += after_ns,
		.who = who,
		.may_wait = who == GPU && shared.may_wait,
		.here = who == GPU && shared.in_place && shared.home,
		.shared = shared.in_place,
	};
	enum thrash_verdict verdict = shared.ops->miss(&shared.thrash, &what, &shared.until_ns);

	if (verdict == THRASH_MOVE)
		shared.home = who == CPU;
	return verdict;
}

/* They take it from each other until it thrashes: the CPU has it then. */
static void until_it_thrashes(uint64_t page)
{
	assert_int_equal(miss(page, CPU, 10 * US), THRASH_MOVE);
	assert_int_equal(miss(page, GPU, 10 * US), THRASH_MOVE);
	assert_int_equal(miss(page, CPU, 10 * US), THRASH_MOVE);
	assert_false(thrash_is(&shared.thrash, page, shared.now_ns));
}

static void names_are_found(void **state)
{
	(void)state;
	for (unsigned i = 0; i < NR_THRASH; i++)
		assert_ptr_equal(thrash_by_name(thrash_policies[i]->name), thrash_policies[i]);
	assert_null(thrash_by_name("Pin"));
	assert_null(thrash_by_name(""));
}

static void off_damps_nothing(void **state)
{
	(void)state;
	begin(&thrash_off, true);
	for (unsigned i = 0; i < 100; i++) {
		assert_int_equal(miss(7, CPU, 1), THRASH_MOVE);
		assert_int_equal(miss(7, GPU, 1), THRASH_MOVE);
	}
	assert_false(thrash_is(&shared.thrash, 7, shared.now_ns));
}

/* Losses that are more than a lapse apart are none. */
static void slow_exchange_is_no_thrashing(void **state)
{
	(void)state;
	begin(&thrash_throttle, true);
	for (unsigned i = 0; i < 100; i++) {
		assert_int_equal(miss(7, CPU, THRASH_LAPSE_NS + 1), THRASH_MOVE);
		assert_int_equal(miss(7, GPU, THRASH_LAPSE_NS + 1), THRASH_MOVE);
	}
	/* Nor are two close ones, with a pause before the third. */
	for (unsigned i = 0; i < 100; i++) {
		assert_int_equal(miss(7, CPU, 10), THRASH_MOVE);
		assert_int_equal(miss(7, GPU, 10), THRASH_MOVE);
		shared.now_ns += THRASH_LAPSE_NS + 1;
	}
}

/* One who misses it again and again loses nothing to anybody. */
static void one_alone_does_not_thrash(void **state)
{
	(void)state;
	begin(&thrash_throttle, true);
	for (unsigned i = 0; i < 100; i++)
		assert_int_equal(miss(7, GPU, 10), THRASH_MOVE);
	assert_false(thrash_is(&shared.thrash, 7, shared.now_ns));
}

/* Whoever took it has it for a lapse; then it goes to who has waited. */
static void who_misses_it_waits(void **state)
{
	uint64_t came_ns;

	(void)state;
	begin(&thrash_throttle, false);
	until_it_thrashes(7);
	came_ns = shared.now_ns;
	assert_int_equal(miss(7, GPU, 10 * US), THRASH_WAIT);
	assert_true(thrash_is(&shared.thrash, 7, shared.now_ns));
	assert_int_equal(shared.until_ns, came_ns + THRASH_LAPSE_NS);
	/* He asks too early. */
	assert_int_equal(miss(7, GPU, 10 * US), THRASH_WAIT);
	assert_int_equal(shared.until_ns, came_ns + THRASH_LAPSE_NS);
	shared.now_ns = shared.until_ns;
	assert_int_equal(miss(7, GPU, 0), THRASH_MOVE);
	/* The CPU may not be made to wait; it is never pinned, for they cannot share it. */
	for (unsigned i = 0; i < 1000; i++) {
		assert_int_equal(miss(7, CPU, 10 * US), THRASH_MOVE);
		assert_int_equal(miss(7, GPU, 10 * US), THRASH_WAIT);
		shared.now_ns = shared.until_ns;
		assert_int_equal(miss(7, GPU, 0), THRASH_MOVE);
	}
}

/* Misses until it is pinned, of who is not the first to have it. */
static unsigned waits_until_pinned(uint64_t page)
{
	enum thrash_verdict verdict;
	unsigned waits = 0;

	while ((verdict = miss(page, GPU, 10 * US)) != THRASH_STAY) {
		assert_int_equal(verdict, THRASH_WAIT);
		waits++;
		shared.now_ns = shared.until_ns;
		assert_int_equal(miss(page, GPU, 0), THRASH_MOVE);
		/* The next one is lost by the CPU again, not by the device. */
		assert_int_equal(miss(page, CPU, THRASH_LAPSE_NS), THRASH_MOVE);
	}
	return waits;
}

static void after_ten_waits_it_is_pinned(void **state)
{
	(void)state;
	for (unsigned i = 0; i < 2; i++) {
		begin(i ? &thrash_throttle : &thrash_pin, true);
		until_it_thrashes(7);
		assert_int_equal(waits_until_pinned(7), THRASH_WAITS);
		assert_int_equal(shared.until_ns, shared.now_ns + THRASH_PIN_NS);
		assert_int_equal(miss(7, GPU, THRASH_PIN_NS - 1), THRASH_STAY);
		/* As any other again. */
		assert_int_equal(miss(7, GPU, 1), THRASH_MOVE);
		assert_int_equal(miss(7, CPU, 1), THRASH_MOVE);
	}
}

/* Losses of both count, where nobody may be made to wait. */
static void it_is_pinned_without_waits(void **state)
{
	unsigned losses = 0;

	(void)state;
	begin(&thrash_pin, true);
	shared.may_wait = false;
	until_it_thrashes(7);
	while (miss(7, GPU, 10 * US) == THRASH_MOVE) {
		assert_int_equal(miss(7, CPU, 10 * US), THRASH_MOVE);
		losses++;
	}
	assert_int_equal(losses, THRASH_WAITS / 2);
}

/* The CPU cannot use it on the device: it comes home, and is still pinned. */
static void what_is_pinned_comes_home(void **state)
{
	(void)state;
	begin(&thrash_pin, true);
	until_it_thrashes(7);
	waits_until_pinned(7);
	shared.home = false;
	assert_int_equal(miss(7, CPU, US), THRASH_MOVE);
	assert_int_equal(miss(7, GPU, US), THRASH_STAY);
}

/* After the fourth time it is not forgotten any more. */
static void it_is_forgotten_four_times(void **state)
{
	(void)state;
	begin(&thrash_pin, true);
	for (unsigned i = 0; i <= THRASH_RESETS; i++) {
		until_it_thrashes(7);
		assert_int_equal(waits_until_pinned(7), THRASH_WAITS);
		shared.now_ns = shared.until_ns;
	}
	assert_int_equal(miss(7, GPU, 0), THRASH_MOVE);
	assert_int_equal(miss(7, CPU, THRASH_LAPSE_NS), THRASH_MOVE);
	assert_int_equal(miss(7, GPU, US), THRASH_STAY);
	/* A pause helps no more than the end of a pin. */
	assert_int_equal(miss(7, GPU, 2 * THRASH_PIN_NS), THRASH_MOVE);
	assert_int_equal(miss(7, CPU, 2 * THRASH_PIN_NS), THRASH_MOVE);
	assert_int_equal(miss(7, GPU, US), THRASH_STAY);
}

static void pin_leaves_alone_what_cannot_be_pinned(void **state)
{
	(void)state;
	begin(&thrash_pin, false);
	for (unsigned i = 0; i < 1000; i++) {
		assert_int_equal(miss(7, CPU, US), THRASH_MOVE);
		assert_int_equal(miss(7, GPU, US), THRASH_MOVE);
	}
}

/* Pages are told apart; two of the same place forget each other. */
static void pages_have_histories_of_their_own(void **state)
{
	(void)state;
	begin(&thrash_throttle, false);
	until_it_thrashes(7);
	until_it_thrashes(8);
	assert_int_equal(miss(7, GPU, US), THRASH_WAIT);
	assert_int_equal(miss(8, GPU, US), THRASH_WAIT);
	assert_int_equal(miss(9, GPU, US), THRASH_MOVE);
	assert_int_equal(miss(7 + THRASH_PAGES, GPU, US), THRASH_MOVE);
	assert_false(thrash_is(&shared.thrash, 7, shared.now_ns));
	assert_int_equal(miss(7, GPU, US), THRASH_MOVE);
	assert_int_equal(miss(8, GPU, US), THRASH_WAIT);
}

static void limits_are_kept(void **state)
{
	struct thrash_limits limits = { .lapse_ns = MS, .wait_ns = 2 * US, .waits = 1 };

	(void)state;
	begin(&thrash_throttle, true);
	limits.pin_ns = 1000 * MS;
	thrash_init(&shared.thrash, &limits);
	assert_int_equal(miss(7, CPU, MS), THRASH_MOVE);
	assert_int_equal(miss(7, GPU, MS), THRASH_MOVE);
	assert_int_equal(miss(7, CPU, MS), THRASH_MOVE);
	assert_int_equal(miss(7, GPU, MS), THRASH_MOVE); /* it thrashes, but was not wanted early */
	assert_int_equal(miss(7, CPU, 2 * US), THRASH_MOVE);
	assert_int_equal(miss(7, GPU, US), THRASH_WAIT);
	assert_int_equal(miss(7, GPU, US), THRASH_MOVE);
	assert_int_equal(miss(7, CPU, 2 * US), THRASH_MOVE);
	assert_int_equal(miss(7, GPU, US), THRASH_STAY);
}

/*
 * Five times what comes without it, and others lose a twentieth at most. Over a slow link it takes
 * longer than a lapse to get through sixteen pages: then nothing changes.
 */
static void damping_pays(void **state)
{
	struct sim_pingpong off, pin;

	(void)state;
	for (unsigned d = 0; d < NR_DEVICES; d++)
		for (unsigned npages = 1; npages <= SIM_SHARED; npages *= 4) {
			struct sim_shared what = { &sim_devices[d], npages, true };

			assert_int_equal(sim_pingpong(&thrash_off, &what, &off), 0);
			assert_int_equal(sim_pingpong(&thrash_pin, &what, &pin), 0);
			assert_true(pin.cpu + pin.device >=
				    (npages > 4 ? 1 : 5) * (off.cpu + off.device));
			assert_true(pin.device >= off.device);
			assert_true(100 * pin.stream >= 95 * off.stream);
			/* What cannot be shared is left as it is. */
			what.in_place = false;
			assert_int_equal(sim_pingpong(&thrash_off, &what, &off), 0);
			assert_int_equal(sim_pingpong(&thrash_pin, &what, &pin), 0);
			assert_int_equal(pin.moves, off.moves);
			assert_int_equal(pin.waits, 0);
		}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(names_are_found),
		cmocka_unit_test(off_damps_nothing),
		cmocka_unit_test(slow_exchange_is_no_thrashing),
		cmocka_unit_test(one_alone_does_not_thrash),
		cmocka_unit_test(who_misses_it_waits),
		cmocka_unit_test(after_ten_waits_it_is_pinned),
		cmocka_unit_test(it_is_pinned_without_waits),
		cmocka_unit_test(what_is_pinned_comes_home),
		cmocka_unit_test(it_is_forgotten_four_times),
		cmocka_unit_test(pin_leaves_alone_what_cannot_be_pinned),
		cmocka_unit_test(pages_have_histories_of_their_own),
		cmocka_unit_test(limits_are_kept),
		cmocka_unit_test(damping_pays),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
