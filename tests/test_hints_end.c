/* SPDX-License-Identifier: MIT */
/* Hints, and prefetches, at the ends of what they name and of the memory that has them. */
#include "harness.h"

#include <errno.h>

#include "hooked.h"

static struct umm_span_info query(struct env *e, const void *addr, size_t npages)
{
	struct umm_span span = { (uintptr_t)addr, npages * PAGE };
	struct umm_span_info info = { .size = sizeof(info) };

	assert_int_equal(umm_query_spans(e->ctx, &span, 1, &info), 0);
	return info;
}

/* ---- what they name goes away meanwhile --------------------------------------------- */

/* A call of another thread's, about 8 pages. */
struct asking {
	struct env *env;
	char *p;
	struct umm_advice advice;
	struct umm_prefetch req;
	long ret;
};

static void act_advise(void *arg)
{
	struct asking *asking = arg;
	struct umm_span span = { (uintptr_t)asking->p, 8 * PAGE };

	asking->advice.size = sizeof(asking->advice);
	asking->advice.spans = &span;
	asking->advice.nspans = 1;
	asking->ret = umm_advise(asking->env->ctx, &asking->advice);
}

static void act_prefetch(void *arg)
{
	struct asking *asking = arg;
	struct umm_span span = { (uintptr_t)asking->p, 8 * PAGE };

	asking->req.size = sizeof(asking->req);
	asking->req.spans = &span;
	asking->req.nspans = 1;
	asking->ret = umm_prefetch(asking->env->ctx, &asking->req, NULL);
}

/* It is stopped at the point while the device goes, and then another one comes. */
static struct ref_device *device_goes_during(struct env *e, struct ref_device *ref,
					     enum hook_point point, void (*fn)(void *),
					     struct asking *asking)
{
	struct ref_device *next;
	struct actor actor;

	hook_arm(point, asking->p, 8);
	actor_start(&actor, fn, asking);
	assert_true(hook_stopped());
	env_device_gone(e, ref);
	next = env_device(e, 16);
	hook_go(point);
	actor_join(&actor);
	return next;
}

static void preference_for_a_memory_that_is_being_removed_is_none(struct env *e)
{
	struct ref_device *ref = env_device(e, 16);
	struct asking asking = { .env = e,
				 .p = env_alloc_small(e, 8 * PAGE),
				 .advice = { .hint = UMM_HINT_PREFERRED, .mem = ref->mem } };

	device_goes_during(e, ref, HOOK_HINTING, act_advise, &asking);
	assert_int_equal(asking.ret, -ENODEV);
	assert_int_equal(query(e, asking.p, 8).hints, 0);
	assert_int_equal(query(e, asking.p, 8).mixed, 0);
}

/* The next device, which takes its number, has nothing to do with it. */
static void access_of_a_device_that_is_being_destroyed_is_nobodys(struct env *e)
{
	struct ref_device *ref = env_device(e, 16), *next;
	struct asking asking = { .env = e,
				 .p = env_alloc_small(e, 8 * PAGE),
				 .advice = { .hint = UMM_HINT_ACCESSED_BY, .dev = ref->dev } };
	struct asking other = asking;

	/* It has a number already, from other memory. */
	other.p = env_alloc_small(e, 8 * PAGE);
	act_advise(&other);
	assert_int_equal(other.ret, 0);
	next = device_goes_during(e, ref, HOOK_HINTING, act_advise, &asking);
	assert_int_equal(asking.ret, -ENODEV);
	assert_int_equal(query(e, asking.p, 8).hints, 0);
	other.advice.dev = next->dev;
	act_advise(&other);
	assert_int_equal(other.ret, 0);
	assert_ptr_equal(query(e, other.p, 8).devices[0], next->dev);
	assert_int_equal(query(e, asking.p, 8).mixed, 0);
}

static void prefetch_to_a_removed_memory_does(struct env *e, enum hook_point point)
{
	struct ref_device *ref = env_device(e, 16), *next;
	struct asking asking = { .env = e,
				 .p = env_alloc_small(e, 8 * PAGE),
				 .req = { .dst = ref->mem } };

	fill(asking.p, 8, 1);
	next = device_goes_during(e, ref, point, act_prefetch, &asking);
	assert_int_equal(asking.ret, -ENODEV);
	assert_int_equal(query(e, asking.p, 8).prefetched, 0);
	assert_state(e, asking.p, 8, UMM_PAGE_SYSTEM);
	assert_free_frames(next, 16);
	assert_filled(asking.p, 8, 1);
}

static void target_that_is_being_removed_is_not_kept(struct env *e)
{
	prefetch_to_a_removed_memory_does(e, HOOK_HINTING);
}

static void prefetch_to_a_memory_that_is_being_removed_ends(struct env *e)
{
	prefetch_to_a_removed_memory_does(e, HOOK_PREFETCHING);
}

static const struct test_case cases[] = {
	TEST(ALL, preference_for_a_memory_that_is_being_removed_is_none),
	TEST(ONCE, access_of_a_device_that_is_being_destroyed_is_nobodys),
	TEST(ALL, target_that_is_being_removed_is_not_kept),
	TEST(ALL, prefetch_to_a_memory_that_is_being_removed_ends),
};

int main(int argc, char **argv)
{
	hook_init();
	return harness_main("hints_end", cases, sizeof(cases) / sizeof(cases[0]), argc, argv);
}
