/* SPDX-License-Identifier: MIT */
/*
 * Hints pay: the same accesses with a hint and without, counted. Nothing is damped and nothing
 * comes ahead, so that every difference is the hint's.
 */
#include "harness.h"

#include <string.h>

#define PAGES 16

/* Who uses all the pages, a letter a round: c, a, b: a CPU or a device reads; C, A: it writes. */
struct program {
	const char *rounds;
	unsigned repeat;
};

static const struct program two_readers = { "abababababababababaC", 8 };
static const struct program cpu_mostly = { "CcCcaCcCcC", 8 };
static const struct program device_mostly = { "AaAaAcaAaA", 8 };
static const struct program device_only = { "AaaaAaA", 8 };
static const struct program by_turns = { "AcCa", 8 };

static void use(struct ref_device *a, struct ref_device *b, char *p, char who)
{
	unsigned char byte = 1;

	for (unsigned i = 0; i < PAGES; i++) {
		char *at = p + i * PAGE;

		if (who == 'c')
			assert_int_equal(*(volatile char *)at, 1);
		else if (who == 'C')
			*(volatile char *)at = 1;
		else if (who == 'A')
			assert_int_equal(ref_write(a, (uintptr_t)at, &byte, 1), 0);
		else
			assert_int_equal(ref_read(who == 'a' ? a : b, (uintptr_t)at, &byte, 1), 0);
		assert_int_equal(byte, 1);
	}
}

static void hint(struct env *e, char *p, struct umm_advice advice)
{
	struct umm_span span = { (uintptr_t)p, PAGES * PAGE };

	advice.size = sizeof(advice);
	advice.spans = &span;
	advice.nspans = 1;
	assert_int_equal(umm_advise(e->ctx, &advice), 0);
}

static uint64_t faults(struct env *e)
{
	return env_delta_causes(e, UMM_COUNT_TO_DEVICE) + env_delta(e, UMM_COUNT_DUPLICATED) +
	       env_delta(e, UMM_COUNT_FAULT_DEVICE) + env_delta(e, UMM_COUNT_FAULT_WRITE);
}

/* Pages that somebody missed, by both devices and the CPU. */
static uint64_t run(struct env *e, const struct program *program, struct umm_advice *advice,
		    bool prefers_device)
{
	bool two = strchr(program->rounds, 'b');
	struct ref_device *a = env_device(e, 2 * PAGES), *b = two ? env_device(e, 2 * PAGES) : NULL;
	char *p = env_alloc_small(e, PAGES * PAGE);
	uint64_t missed;

	memset(p, 1, PAGES * PAGE);
	hint(e, p, (struct umm_advice){ .hint = UMM_HINT_THRASH, .thrash = UMM_THRASH_OFF });
	hint(e, p,
	     (struct umm_advice){ .hint = UMM_HINT_READAHEAD, .readahead = UMM_READAHEAD_OFF });
	if (advice) {
		advice->mem = prefers_device ? a->mem : NULL;
		hint(e, p, *advice);
	}
	env_mark(e);
	for (unsigned i = 0; i < program->repeat; i++)
		for (const char *who = program->rounds; *who; who++)
			use(a, b, p, *who);
	missed = faults(e);
	env_device_gone(e, a);
	if (b)
		env_device_gone(e, b);
	assert_int_equal(umm_free(e->ctx, p), 0);
	return missed;
}

static void read_mostly_halves_the_faults_of_two_readers(struct env *e)
{
	struct umm_advice advice = { .hint = UMM_HINT_READ_MOSTLY };
	uint64_t without = run(e, &two_readers, NULL, false);
	uint64_t with = run(e, &two_readers, &advice, false);

	print_message(
		"two readers, a write in twenty rounds: %llu pages missed, %llu read-mostly\n",
		(unsigned long long)without, (unsigned long long)with);
	assert_true(2 * with <= without);
}

static void compare_preferred(struct env *e, const char *what, const struct program *program,
			      bool prefers_device)
{
	struct umm_advice advice = { .hint = UMM_HINT_PREFERRED };
	uint64_t without = run(e, program, NULL, false);
	uint64_t with = run(e, program, &advice, prefers_device);

	print_message("%s: %llu pages missed, %llu with the right preferred location\n", what,
		      (unsigned long long)without, (unsigned long long)with);
	assert_true(with <= without);
}

static void right_preferred_location_of_one_user_is_never_worse(struct env *e)
{
	compare_preferred(e, "mostly a CPU", &cpu_mostly, false);
	compare_preferred(e, "mostly a device", &device_mostly, true);
	compare_preferred(e, "a device alone", &device_only, true);
}

static void right_preferred_location_of_two_users_is_never_worse(struct env *e)
{
	compare_preferred(e, "by turns", &by_turns, false);
	compare_preferred(e, "by turns, device", &by_turns, true);
	compare_preferred(e, "two devices read", &two_readers, true);
}

static const struct test_case cases[] = {
	TEST(ALL, read_mostly_halves_the_faults_of_two_readers),
	TEST(ALL, right_preferred_location_of_one_user_is_never_worse),
	TEST(ALL, right_preferred_location_of_two_users_is_never_worse),
};

int main(int argc, char **argv)
{
	return harness_main("hints_pay", cases, sizeof(cases) / sizeof(cases[0]), argc, argv);
}
