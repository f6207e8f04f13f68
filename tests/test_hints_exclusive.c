/* SPDX-License-Identifier: MIT */
/* Exclusive access to hinted pages: no hint keeps them from it, none makes it take more. */
#include "hinted.h"

#include "exclusive_pages.h"

#define UNIT 64 /* pages */
#define AT   20 /* of the unit: pages that are asked for */
#define N    3

struct scene {
	struct env *e;
	struct ref_device *dev, *other;
	struct umm_advice advice;
	char *p; /* a unit, all of it hinted */
	enum umm_page_state state[UNIT];
};

/* What the hint says where it says the most against the device. */
static struct umm_advice advice_of(const struct scene *scene, enum umm_hint hint,
				   struct umm_devmem *where)
{
	switch (hint) {
	case UMM_HINT_PREFERRED:
		return (struct umm_advice){ .hint = hint, .mem = where };
	case UMM_HINT_ACCESSED_BY:
		return (struct umm_advice){ .hint = hint, .dev = scene->dev->dev };
	case UMM_HINT_GRANULARITY:
		return (struct umm_advice){ .hint = hint, .order = 6 };
	case UMM_HINT_READAHEAD:
		return (struct umm_advice){ .hint = hint, .readahead = UMM_READAHEAD_OFF };
	case UMM_HINT_THRASH:
		return (struct umm_advice){ .hint = hint, .thrash = UMM_THRASH_PIN };
	default:
		return (struct umm_advice){ .hint = hint };
	}
}

/* A unit whose pages are where `where` says; `touched` says whether there is anything in them. */
static void scene_begin(struct scene *scene, enum umm_hint hint, struct ref_device *where,
			bool touched)
{
	struct env *e = scene->e;

	scene->p = env_attach(e, BLOCK);
	if (touched)
		fill(scene->p, UNIT, 1);
	if (where)
		to_device(e, where, scene->p, UNIT, UNIT);
	scene->advice = advice_of(scene, hint, where ? where->mem : NULL);
	assert_int_equal(advise(e, scene->p, UNIT, scene->advice), 0);
	for (size_t i = 0; i < UNIT; i++)
		scene->state[i] = state_of(e, scene->p + i * PAGE);
}

/* What was asked for is exclusive, and nothing else has moved. */
static void assert_taken(const struct scene *scene)
{
	assert_exclusive(scene->e, scene->dev, scene->p + AT * PAGE, N);
	for (size_t i = 0; i < UNIT; i++)
		if (i < AT || i >= AT + N)
			assert_int_equal(state_of(scene->e, scene->p + i * PAGE), scene->state[i]);
}

static void hinted_pages_become_exclusive(struct scene *scene, enum umm_hint hint)
{
	struct ref_device *const wheres[] = { NULL, scene->dev, scene->other };
	uintptr_t at;

	for (size_t i = 0; i < sizeof(wheres) / sizeof(*wheres); i++) {
		scene_begin(scene, hint, wheres[i], true);
		at = (uintptr_t)scene->p + AT * PAGE;
		assert_int_equal(ref_make_exclusive(scene->dev, at, N), N);
		assert_taken(scene);
		assert_filled(scene->p, UNIT, 1);
	}
	scene_begin(scene, hint, NULL, false);
	at = (uintptr_t)scene->p + AT * PAGE;
	assert_int_equal(ref_make_exclusive(scene->dev, at, N), N);
	assert_taken(scene);
	assert_zero(scene->p, UNIT);
}

static void each_hint_leaves_pages_to_exclusive_access(struct env *e)
{
	struct scene scene = { .e = e, .dev = env_device(e, 256), .other = env_device(e, 256) };

	for (int hint = 0; hint < UMM_NR_HINTS; hint++)
		hinted_pages_become_exclusive(&scene, (enum umm_hint)hint);
}

/* Nor does it matter that the device can use nothing in place. */
static void each_hint_leaves_pages_to_exclusive_access_of_a_device_apart(struct env *e)
{
	struct ref_options apart = { .nframes = 256, .apart = true };
	struct scene scene = {
		.e = e,
		.dev = env_device_with(e, apart),
		.other = env_device(e, 256),
	};

	for (int hint = 0; hint < UMM_NR_HINTS; hint++)
		if (hint != UMM_HINT_ACCESSED_BY)
			hinted_pages_become_exclusive(&scene, (enum umm_hint)hint);
}

static void all_hints_at_once_leave_pages_to_exclusive_access(struct env *e)
{
	struct scene scene = { .e = e, .dev = env_device(e, 256), .other = env_device(e, 256) };

	scene_begin(&scene, UMM_HINT_PREFERRED, scene.other, true);
	for (int hint = 0; hint < UMM_NR_HINTS; hint++)
		assert_int_equal(advise(e, scene.p, UNIT,
					advice_of(&scene, (enum umm_hint)hint, scene.other->mem)),
				 0);
	assert_int_equal(ref_make_exclusive(scene.dev, (uintptr_t)scene.p + AT * PAGE, N), N);
	assert_taken(&scene);
	assert_filled(scene.p, UNIT, 1);
}

/* By turns with another device and a CPU, which have it meanwhile. */
static void atomics_count_on_pages_of_each_hint(struct env *e)
{
	struct scene scene = { .e = e, .dev = env_device(e, 256), .other = env_device(e, 256) };
	struct ref_device *turn;
	uint64_t old, *word;

	for (int hint = 0; hint < UMM_NR_HINTS; hint++) {
		scene_begin(&scene, (enum umm_hint)hint, scene.other, true);
		word = (uint64_t *)(void *)(scene.p + AT * PAGE);
		*word = 0;
		for (uint64_t n = 0; n < 12; n += 3) {
			turn = n % 2 ? scene.dev : scene.other;
			assert_int_equal(ref_atomic_add(turn, (uintptr_t)word, 1, &old), 0);
			assert_int_equal(old, n);
			turn = n % 2 ? scene.other : scene.dev;
			assert_int_equal(ref_atomic_add(turn, (uintptr_t)word, 1, &old), 0);
			assert_int_equal(old, n + 1);
			assert_int_equal(++*word, n + 3);
		}
	}
}

/* Of a unit all is asked for: by a CPU, too. */
static void fault_on_a_unit_ends_the_access_to_all_of_it(struct env *e)
{
	struct ref_device *ref = env_device(e, 64);
	char *p = exclusive_pages(e, ref, 16);

	ADVISE(e, p, 12, .hint = UMM_HINT_GRANULARITY, .order = 3);
	assert_true(filled_at(p, 2, 1));
	assert_state(e, p, 8, UMM_PAGE_SYSTEM);
	assert_exclusive(e, ref, p + 8 * PAGE, 8);
	assert_filled(p, 16, 1);
}

static const struct test_case cases[] = {
	TEST(ALL, each_hint_leaves_pages_to_exclusive_access),
	TEST(ALL, each_hint_leaves_pages_to_exclusive_access_of_a_device_apart),
	TEST(ALL, all_hints_at_once_leave_pages_to_exclusive_access),
	TEST(ALL, atomics_count_on_pages_of_each_hint),
	TEST(ALL, fault_on_a_unit_ends_the_access_to_all_of_it),
};

int main(int argc, char **argv)
{
	return harness_main("hints_exclusive", cases, sizeof(cases) / sizeof(cases[0]), argc, argv);
}
