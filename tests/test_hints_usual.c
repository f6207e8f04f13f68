/* SPDX-License-Identifier: MIT */
/* Hints that are usual, since the environment says so, and what the program says instead. */
#include "hinted.h"

#include <stdlib.h>
#include <string.h>

static char *filled(struct env *e, size_t npages)
{
	char *p = env_alloc_small(e, npages * PAGE);

	fill(p, npages, 1);
	return p;
}

static unsigned nwarned;

static void warned(void *priv, enum umm_log_level level, const char *line)
{
	(void)priv;
	(void)level;
	nwarned += !strncmp(line, "UMM_HINTS: ", 11) && !strpbrk(line, "\n\033");
}

/* The environment of the test, with another context, whose UMM_HINTS this is. */
static void with_hints(struct env *e, const char *hints)
{
	nwarned = 0;
	umm_log_set(warned, NULL, UMM_LOG_WARNING);
	setenv("UMM_HINTS", hints, 1);
	env_reopen(e, (struct umm_ctx_options){ .readahead = UMM_READAHEAD_OFF });
	unsetenv("UMM_HINTS");
	umm_log_set(NULL, NULL, UMM_LOG_WARNING);
}

/* One page is touched of 64 on a device: how many come home. */
static size_t come_home(struct env *e, struct ref_device *ref, char *p)
{
	to_system(e, p, 64, (long)count_state(e, p, 64, UMM_PAGE_DEVICE));
	to_device(e, ref, p, 64, 64);
	assert_true(filled_at(p, 37, 1));
	return count_state(e, p, 64, UMM_PAGE_SYSTEM);
}

static void environment_says_what_the_program_does_not(struct env *e)
{
	struct ref_device *ref;
	char *p, *plain = env_map(e, 4 * PAGE);

	with_hints(e, "granularity=4,read-mostly,,readahead=density,thrash=off");
	assert_int_equal(nwarned, 0);
	ref = env_device(e, 64);
	p = filled(e, 64);
	assert_int_equal(query(e, p, 64).hints,
			 1 << UMM_HINT_GRANULARITY | 1 << UMM_HINT_READ_MOSTLY |
				 1 << UMM_HINT_READAHEAD | 1 << UMM_HINT_THRASH);
	assert_int_equal(query(e, p, 64).order, 4);
	assert_int_equal(query(e, p, 64).readahead, UMM_READAHEAD_DENSITY);
	assert_int_equal(query(e, p, 64).thrash, UMM_THRASH_OFF);
	assert_int_equal(come_home(e, ref, p), 16);
	/* What is not managed has nothing to do with it. */
	assert_int_equal(query(e, plain, 4).hints, 0);
	assert_int_equal(query(e, plain, 4).mixed, 0);
	assert_int_equal(umm_attach(e->ctx, plain + 2 * PAGE, PAGE), 0);
	assert_int_equal(query(e, plain + 2 * PAGE, 1).order, 4);
	assert_int_equal(query(e, plain, 4).hints, 0);
	assert_int_equal(query(e, plain, 4).mixed, query(e, p, 64).hints);
	/* What is said of a range counts more. */
	ADVISE(e, p, 64, .hint = UMM_HINT_GRANULARITY, .order = 2);
	assert_int_equal(come_home(e, ref, p), 4);
	assert_filled(p, 64, 1);
}

#define USUAL                                                                                 \
	(1 << UMM_HINT_GRANULARITY | 1 << UMM_HINT_READ_MOSTLY | 1 << UMM_HINT_NO_MIGRATE |   \
	 1 << UMM_HINT_LATENCY_CRITICAL | 1 << UMM_HINT_PREFERRED | 1 << UMM_HINT_READAHEAD | \
	 1 << UMM_HINT_THRASH)

static void program_ends_each_hint_of_the_environment(struct env *e)
{
	uint64_t left = USUAL;
	char *p;

	with_hints(e, "granularity=4,read-mostly,no-migrate,latency-critical,prefer-system,"
		      "readahead=density,thrash=off");
	p = filled(e, 64);
	for (int hint = 0; hint < UMM_NR_HINTS; hint++) {
		ADVISE(e, p + 16 * PAGE, 16, .hint = (enum umm_hint)hint,
		       .flags = UMM_ADVICE_UNSET);
		left &= ~(UINT64_C(1) << hint);
		assert_int_equal(query(e, p + 16 * PAGE, 16).hints, left);
		assert_int_equal(query(e, p, 64).hints, left);
		assert_int_equal(query(e, p, 64).mixed, USUAL & ~left);
	}
	assert_int_equal(query(e, p + 16 * PAGE, 16).order, 0);
	assert_int_equal(query(e, p, 16).hints, USUAL);
	assert_int_equal(query(e, p + 32 * PAGE, 32).hints, USUAL);
	/* What it says afterwards counts, and whoever has the addresses next begins as usual. */
	ADVISE(e, p + 16 * PAGE, 8, .hint = UMM_HINT_NO_MIGRATE);
	assert_int_equal(query(e, p + 16 * PAGE, 8).hints, 1 << UMM_HINT_NO_MIGRATE);
	assert_int_equal(query(e, p + 24 * PAGE, 8).hints, 0);
	umm_free(e->ctx, p);
	p = filled(e, 64);
	assert_int_equal(query(e, p, 64).hints, USUAL);
}

static void order_of_no_unit_ends_that_of_the_environment(struct env *e)
{
	struct ref_device *ref;
	char *p;

	with_hints(e, "granularity=4,prefer-system");
	ref = env_device(e, 64);
	p = filled(e, 64);
	assert_int_equal(come_home(e, ref, p), 16);
	ADVISE(e, p, 64, .hint = UMM_HINT_GRANULARITY, .order = 0);
	assert_int_equal(query(e, p, 64).order, 0);
	assert_int_equal(query(e, p, 64).hints, 1 << UMM_HINT_PREFERRED);
	assert_int_equal(come_home(e, ref, p), 1);
	ADVISE(e, p, 64, .hint = UMM_HINT_GRANULARITY, .order = 2);
	assert_int_equal(come_home(e, ref, p), 4);
	ADVISE(e, p, 64, .hint = UMM_HINT_GRANULARITY, .flags = UMM_ADVICE_UNSET);
	assert_int_equal(come_home(e, ref, p), 1);
	assert_filled(p, 64, 1);
	/* A memory that goes away is no word of the program's. */
	ADVISE(e, p, 64, .hint = UMM_HINT_PREFERRED, .mem = ref->mem);
	assert_ptr_equal(query(e, p, 64).preferred, ref->mem);
	env_device_gone(e, ref);
	assert_int_equal(query(e, p, 64).hints, 1 << UMM_HINT_PREFERRED);
	assert_null(query(e, p, 64).preferred);
}

/* As of everything else the last word counts, also that there is no unit. */
static void last_word_of_the_environment_counts(struct env *e)
{
	struct ref_device *ref;
	char *p;

	with_hints(e, "granularity=3,granularity=0,thrash=off,thrash=pin");
	assert_int_equal(nwarned, 0);
	ref = env_device(e, 64);
	p = filled(e, 64);
	assert_int_equal(query(e, p, 64).hints, 1 << UMM_HINT_THRASH);
	assert_int_equal(query(e, p, 64).order, 0);
	assert_int_equal(query(e, p, 64).thrash, UMM_THRASH_PIN);
	assert_int_equal(come_home(e, ref, p), 1);
	with_hints(e, "granularity=0,granularity=3");
	p = filled(e, 64);
	assert_int_equal(query(e, p, 64).hints, 1 << UMM_HINT_GRANULARITY);
	assert_int_equal(query(e, p, 64).order, 3);
}

/* In place since it is usual: once that ends, mirrors are told, and the next store takes it. */
static void comes_once_the_program_says(struct env *e, struct ref_device *ref, char *p,
					struct umm_advice advice)
{
	uint64_t before;

	device_fill(ref, p, 8, 2);
	assert_state(e, p, 8, UMM_PAGE_SYSTEM);
	before = ref_counts(ref).events[UMM_EVENT_ADVICE];
	env_mark(e);
	assert_int_equal(advise(e, p, 8, advice), 0);
	assert_int_equal(ref_counts(ref).events[UMM_EVENT_ADVICE], before + 1);
	assert_delta(e, UMM_COUNT_UNHINTED, 8);
	device_fill(ref, p, 8, 3);
	assert_state(e, p, 8, env_home(e));
	assert_filled(p, 8, 3);
}

static void device_takes_what_is_usual_no_longer(struct env *e)
{
	struct umm_advice unset = { .hint = UMM_HINT_NO_MIGRATE, .flags = UMM_ADVICE_UNSET };
	struct umm_advice prefer = { .hint = UMM_HINT_PREFERRED };
	struct ref_device *ref;
	char *p;

	with_hints(e, "no-migrate");
	ref = env_device(e, 64);
	comes_once_the_program_says(e, ref, filled(e, 8), unset);
	/* Also where something else was said. */
	p = filled(e, 8);
	ADVISE(e, p, 8, .hint = UMM_HINT_READ_MOSTLY);
	comes_once_the_program_says(e, ref, p, unset);
	with_hints(e, "prefer-system");
	ref = env_device(e, 64);
	prefer.mem = ref->mem;
	comes_once_the_program_says(e, ref, filled(e, 8), prefer);
}

static void hints_of_the_environment_that_make_no_sense_do_nothing(struct env *e)
{
	char *p;

	with_hints(e, "nonsense,granularity=10,granularity=,readahead=Stream,thrash=,no-migrate=1,"
		      "latency-critical-latency-critical-latency-critical,no\033[2J\nway,"
		      "prefer-system");
	assert_int_equal(nwarned, 8);
	p = filled(e, 4);
	assert_int_equal(query(e, p, 4).hints, 1 << UMM_HINT_PREFERRED);
	assert_null(query(e, p, 4).preferred);
	with_hints(e, "");
	assert_int_equal(nwarned, 0);
	p = filled(e, 4);
	assert_int_equal(query(e, p, 4).hints, 0);
}

static const struct test_case cases[] = {
	TEST(ONCE, environment_says_what_the_program_does_not),
	TEST(ONCE, program_ends_each_hint_of_the_environment),
	TEST(ONCE, order_of_no_unit_ends_that_of_the_environment),
	TEST(ONCE, last_word_of_the_environment_counts),
	TEST(ONCE, device_takes_what_is_usual_no_longer),
	TEST(ONCE, hints_of_the_environment_that_make_no_sense_do_nothing),
};

int main(int argc, char **argv)
{
	return harness_main("hints_usual", cases, sizeof(cases) / sizeof(cases[0]), argc, argv);
}
