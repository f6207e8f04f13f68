/* SPDX-License-Identifier: MIT */
/* The end of a hint ends what it did: the next access decides anew, without help. */
#include "harness.h"

#include <stdio.h>
#include <sys/mman.h>

#include "hooked.h"
#include "uffd.h"

static void advise(struct env *e, const char *p, size_t npages, struct umm_advice advice)
{
	struct umm_span span = { (uintptr_t)p, npages * PAGE };

	advice.size = sizeof(advice);
	advice.spans = &span;
	advice.nspans = 1;
	assert_int_equal(umm_advise(e->ctx, &advice), 0);
}

#define ADVISE(e, p, npages, ...) advise(e, p, npages, (struct umm_advice){ __VA_ARGS__ })
#define UNSET(e, p, npages, ...)  ADVISE(e, p, npages, __VA_ARGS__, .flags = UMM_ADVICE_UNSET)

static unsigned told(struct ref_device *ref)
{
	return (unsigned)ref_counts(ref).events[UMM_EVENT_ADVICE];
}

/* Eight pages at home that the device has written to in place since they were hinted. */
static char *used_in_place(struct env *e, struct ref_device *ref, struct umm_advice advice)
{
	char *p = env_alloc_small(e, 8 * PAGE);

	fill(p, 8, 1);
	advise(e, p, 8, advice);
	/* What it maps on another thread would be there already. */
	if (advice.dev)
		wait_until(ref_counts(ref).accessed >= 1);
	device_fill(ref, p, 8, 2);
	assert_state(e, p, 8, UMM_PAGE_SYSTEM);
	env_mark(e);
	assert_int_equal(told(ref), 0);
	return p;
}

/* Nothing keeps them any more: the device's next store takes them. */
static void assert_come(struct env *e, struct ref_device *ref, char *p)
{
	assert_int_equal(told(ref), 1);
	assert_delta(e, UMM_COUNT_UNHINTED, 8);
	assert_state(e, p, 8, UMM_PAGE_SYSTEM);
	device_fill(ref, p, 8, 3);
	assert_state(e, p, 8, env_home(e));
	assert_delta(e, UMM_COUNT_TO_DEVICE + UMM_CAUSE_DEVICE_FAULT, 8);
	assert_filled(p, 8, 3);
}

static void comes_once_it_is_unset(struct env *e, struct umm_advice advice, struct ref_device *ref)
{
	char *p = used_in_place(e, ref, advice);

	advice.flags = UMM_ADVICE_UNSET;
	advise(e, p, 8, advice);
	assert_come(e, ref, p);
}

static void device_takes_what_is_no_longer_preferred_at_home(struct env *e)
{
	comes_once_it_is_unset(e, (struct umm_advice){ .hint = UMM_HINT_PREFERRED },
			       env_device(e, 64));
}

static void device_takes_what_may_migrate_again(struct env *e)
{
	comes_once_it_is_unset(e, (struct umm_advice){ .hint = UMM_HINT_NO_MIGRATE },
			       env_device(e, 64));
}

static void device_takes_what_it_no_longer_accesses_in_place(struct env *e)
{
	struct ref_device *ref = env_device(e, 64);

	comes_once_it_is_unset(
		e, (struct umm_advice){ .hint = UMM_HINT_ACCESSED_BY, .dev = ref->dev }, ref);
}

static void access_of_all_devices_ends_at_once(struct env *e)
{
	struct ref_device *ref = env_device(e, 64);
	char *p = used_in_place(
		e, ref, (struct umm_advice){ .hint = UMM_HINT_ACCESSED_BY, .dev = ref->dev });

	UNSET(e, p, 8, .hint = UMM_HINT_ACCESSED_BY);
	assert_come(e, ref, p);
}

static void device_takes_what_is_preferred_in_its_memory_from_now_on(struct env *e)
{
	struct ref_device *ref = env_device(e, 64);
	char *p = used_in_place(e, ref, (struct umm_advice){ .hint = UMM_HINT_PREFERRED });

	ADVISE(e, p, 8, .hint = UMM_HINT_PREFERRED, .mem = ref->mem);
	assert_come(e, ref, p);
}

static void device_takes_what_another_is_no_longer_to_keep(struct env *e)
{
	struct ref_device *a = env_device(e, 64), *b = env_device(e, 64);
	char *p = env_alloc_small(e, 8 * PAGE);

	fill(p, 8, 1);
	ADVISE(e, p, 8, .hint = UMM_HINT_PREFERRED, .mem = a->mem);
	to_device(e, a, p, 8, 8);
	device_fill(b, p, 8, 2);
	assert_free_frames(a, 56);
	env_mark(e);
	UNSET(e, p, 8, .hint = UMM_HINT_PREFERRED);
	assert_delta(e, UMM_COUNT_UNHINTED, 8);
	device_fill(b, p, 8, 3);
	assert_free_frames(a, 64);
	assert_free_frames(b, 56);
	assert_filled(p, 8, 3);
}

static void reader_takes_what_is_no_longer_read_mostly(struct env *e)
{
	struct ref_device *a = env_device(e, 64), *b = env_device(e, 64);
	char *p = env_alloc_small(e, 8 * PAGE);

	fill(p, 8, 1);
	ADVISE(e, p, 8, .hint = UMM_HINT_READ_MOSTLY);
	assert_device_sees(a, p, 8, 1);
	assert_state(e, p, 8, UMM_PAGE_DUPLICATED);
	UNSET(e, p, 8, .hint = UMM_HINT_READ_MOSTLY);
	assert_device_sees(b, p, 8, 1);
	assert_state(e, p, 8, env_home(e));
	assert_free_frames(a, 64);
	assert_free_frames(b, 56);
}

/* Also where a device has them in place for another reason, or has them not at all. */
static void who_is_not_concerned_hears_nothing(struct env *e)
{
	struct ref_device *ref = env_device(e, 64);
	char *p = env_alloc_small(e, 24 * PAGE);

	fill(p, 24, 1);
	/* Pages 0 to 7 are hinted and used, then 8 to 15 used, 16 to 23 hinted. */
	ADVISE(e, p, 8, .hint = UMM_HINT_NO_MIGRATE);
	ADVISE(e, p, 8, .hint = UMM_HINT_PREFERRED);
	ADVISE(e, p + 16 * PAGE, 8, .hint = UMM_HINT_PREFERRED);
	ref_policy_set(ref, REF_IN_PLACE);
	assert_device_sees(ref, p, 16, 1);
	ref_policy_set(ref, REF_MIGRATE);
	env_mark(e);
	/* NO_MIGRATE keeps them still. */
	UNSET(e, p, 24, .hint = UMM_HINT_PREFERRED);
	assert_int_equal(told(ref), 0);
	UNSET(e, p, 24, .hint = UMM_HINT_NO_MIGRATE);
	assert_int_equal(told(ref), 1);
	assert_delta(e, UMM_COUNT_UNHINTED, 8);
	UNSET(e, p, 24, .hint = UMM_HINT_NO_MIGRATE);
	assert_int_equal(told(ref), 1);
	assert_device_sees(ref, p, 16, 1);
	assert_state(e, p, 8, env_home(e));
	assert_state(e, p + 8 * PAGE, 16, UMM_PAGE_SYSTEM);
}

static void who_still_accesses_need_not_fault(struct env *e)
{
	struct ref_device *a = env_device(e, 64), *b = env_device(e, 64);
	struct ref_counts before;
	char *p;

	p = used_in_place(e, a, (struct umm_advice){ .hint = UMM_HINT_ACCESSED_BY, .dev = a->dev });
	ADVISE(e, p, 8, .hint = UMM_HINT_ACCESSED_BY, .dev = b->dev);
	wait_until(ref_counts(b).accessed >= 1);
	assert_device_sees(b, p, 8, 2);
	before = ref_counts(b);
	UNSET(e, p, 8, .hint = UMM_HINT_ACCESSED_BY, .dev = a->dev);
	wait_until(ref_counts(b).accessed > before.accessed);
	assert_device_sees(b, p, 8, 2);
	assert_int_equal(ref_counts(b).faults, before.faults);
	assert_state(e, p, 8, UMM_PAGE_SYSTEM);
	device_fill(a, p, 8, 3);
	assert_state(e, p, 8, env_home(e));
}

/* The kernel's mappings that some of start .. end is in. */
static unsigned mappings(const char *start, const char *end)
{
	FILE *maps = fopen("/proc/self/maps", "r");
	char line[512], *from, *to;
	unsigned n = 0;

	assert_non_null(maps);
	while (fgets(line, sizeof(line), maps)) {
		if (sscanf(line, "%p-%p ", (void **)&from, (void **)&to) == 2)
			n += from < end && start < to;
	}
	fclose(maps);
	return n;
}

/* Does the kernel tell the library what becomes of the page? */
static bool is_told_of(const char *page)
{
	return uffd_is_registered((uintptr_t)page, PAGE);
}

#define MANY 8 /* blocks */

static char *many_blocks(struct env *e)
{
	char *p;

	assert_int_equal(umm_alloc(e->ctx, MANY * BLOCK, 0, (void **)&p), 0);
	fill(p, 8, 1);
	return p;
}

static void hints_of_single_pages_do_not_split_mappings(struct env *e)
{
	char *p = many_blocks(e), *end = p + MANY * BLOCK;
	unsigned before = mappings(p, end);

	for (char *page = p; page < end; page += 2 * PAGE)
		ADVISE(e, page, 1, .hint = UMM_HINT_READ_MOSTLY);
	/* What lies on either side may have become a mapping of its own. */
	assert_in_range(mappings(p, end), before, before + 2);
	UNSET(e, p, MANY * BLOCK / PAGE, .hint = UMM_HINT_READ_MOSTLY);
	assert_int_equal(mappings(p, end), before);
}

static void hints_of_every_second_block_split_mappings_at_blocks(struct env *e)
{
	char *p = many_blocks(e), *end = p + MANY * BLOCK;
	unsigned before = mappings(p, end);

	for (char *at = p; at < end; at += 2 * BLOCK)
		for (unsigned i = 1; i < 64; i += 2)
			ADVISE(e, at + i * PAGE, 1, .hint = UMM_HINT_NO_MIGRATE);
	assert_in_range(mappings(p, end), before, before + MANY + 1);
	/* The last hint of a block takes its mark along, and no other's. */
	UNSET(e, p + 2 * BLOCK, 64, .hint = UMM_HINT_NO_MIGRATE);
	assert_true(is_told_of(p));
	assert_false(is_told_of(p + 2 * BLOCK));
	UNSET(e, p, 62, .hint = UMM_HINT_NO_MIGRATE);
	assert_true(is_told_of(p));
	UNSET(e, p, MANY * BLOCK / PAGE, .hint = UMM_HINT_NO_MIGRATE);
	assert_false(is_told_of(p));
	assert_int_equal(mappings(p, end), before);
}

static void prefetches_of_single_pages_do_not_split_mappings(struct env *e)
{
	char *p = many_blocks(e), *end = p + MANY * BLOCK;
	unsigned before = mappings(p, end);
	struct umm_span span = { .len = PAGE };
	struct umm_prefetch req = { .size = sizeof(req), .spans = &span, .nspans = 1 };

	for (char *page = p; page < end; page += 2 * PAGE) {
		span.start = (uintptr_t)page;
		assert_true(umm_prefetch(e->ctx, &req, NULL) >= 0);
	}
	assert_in_range(mappings(p, end), before, before + 2);
}

/* A device has registered the block by itself: that stays. */
static void end_of_hints_leaves_what_devices_use_registered(struct env *e)
{
	struct ref_device *ref = env_device(e, 64);
	char *p = many_blocks(e);

	ADVISE(e, p, 8, .hint = UMM_HINT_READAHEAD, .readahead = UMM_READAHEAD_OFF);
	to_device(e, ref, p, 8, 8);
	UNSET(e, p, 8, .hint = UMM_HINT_READAHEAD);
	assert_true(is_told_of(p));
	assert_state(e, p, 8, env_home(e));
	assert_filled(p, 8, 1);
}

/* A call of another thread's. */
struct hinting {
	struct env *env;
	char *p;
	int ret;
};

static void act_hint(void *arg)
{
	struct hinting *hinting = arg;
	struct umm_span span = { (uintptr_t)hinting->p, PAGE };
	struct umm_advice advice = {
		.size = sizeof(advice), .spans = &span, .nspans = 1, .hint = UMM_HINT_NO_MIGRATE
	};

	hinting->ret = umm_advise(hinting->env->ctx, &advice);
}

/* Marked, and not yet in the books. */
static void end_of_a_hint_leaves_the_mark_to_one_that_is_about_to_come(struct env *e)
{
	char *p = many_blocks(e);
	struct hinting hinting = { .env = e, .p = p + 4 * PAGE };
	struct actor actor;

	ADVISE(e, p, 1, .hint = UMM_HINT_READ_MOSTLY);
	hook_arm(HOOK_HINTING, hinting.p, 1);
	actor_start(&actor, act_hint, &hinting);
	assert_true(hook_stopped());
	UNSET(e, p, 1, .hint = UMM_HINT_READ_MOSTLY);
	assert_true(is_told_of(p));
	hook_go(HOOK_HINTING);
	actor_join(&actor);
	assert_int_equal(hinting.ret, 0);
	assert_true(is_told_of(p));
	UNSET(e, hinting.p, 1, .hint = UMM_HINT_NO_MIGRATE);
	assert_false(is_told_of(p));
}

static void act_unset(void *arg)
{
	struct hinting *hinting = arg;

	UNSET(hinting->env, hinting->p, 1, .hint = UMM_HINT_READ_MOSTLY);
}

/* Only who hints the same blocks waits until their marks are gone. */
static void end_of_marks_holds_up_nobody_else(struct env *e)
{
	struct ref_device *ref = env_device(e, 64);
	char *p = many_blocks(e), *other = many_blocks(e);
	struct hinting unset = { .env = e, .p = p };
	struct hinting hinting = { .env = e, .p = p + 4 * PAGE };
	struct actor ender, asker;

	ADVISE(e, p, 1, .hint = UMM_HINT_READ_MOSTLY);
	hook_arm(HOOK_UNMARKING, p, 1);
	actor_start(&ender, act_unset, &unset);
	assert_true(hook_stopped());
	ADVISE(e, other, 8, .hint = UMM_HINT_READ_MOSTLY);
	assert_int_equal(munmap(other, BLOCK), 0);
	assert_state(e, other, 8, UMM_PAGE_UNMANAGED);
	/* Nor a device, which has the block registered from now on. */
	to_device(e, ref, p, 8, 8);
	actor_start(&asker, act_hint, &hinting);
	assert_true(actor_blocks(&asker));
	hook_go(HOOK_UNMARKING);
	actor_join(&ender);
	actor_join(&asker);
	assert_int_equal(hinting.ret, 0);
	assert_true(is_told_of(p));
	assert_state(e, p, 8, env_home(e));
	assert_filled(p, 8, 1);
}

static void hint_that_comes_as_marks_end_is_marked(struct env *e)
{
	char *p = many_blocks(e);
	struct hinting unset = { .env = e, .p = p };
	struct hinting hinting = { .env = e, .p = p + 4 * PAGE };
	struct actor ender, asker;

	ADVISE(e, p, 1, .hint = UMM_HINT_READ_MOSTLY);
	hook_arm(HOOK_UNMARKING, p, 1);
	actor_start(&ender, act_unset, &unset);
	assert_true(hook_stopped());
	actor_start(&asker, act_hint, &hinting);
	assert_true(actor_blocks(&asker));
	hook_go(HOOK_UNMARKING);
	actor_join(&ender);
	actor_join(&asker);
	assert_int_equal(hinting.ret, 0);
	assert_true(is_told_of(p));
}

/* The mover comes to it only after that. */
static void device_is_not_told_of_accesses_that_have_ended(struct env *e)
{
	struct ref_device *ref = env_device(e, 64);
	char *p = env_alloc_small(e, 8 * PAGE);

	fill(p, 8, 1);
	hook_arm(HOOK_WORK, p, 8);
	ADVISE(e, p, 8, .hint = UMM_HINT_ACCESSED_BY, .dev = ref->dev);
	assert_true(hook_stopped());
	UNSET(e, p, 8, .hint = UMM_HINT_ACCESSED_BY, .dev = ref->dev);
	ADVISE(e, p + 6 * PAGE, 2, .hint = UMM_HINT_ACCESSED_BY, .dev = ref->dev);
	hook_go(HOOK_WORK);
	wait_until(ref_counts(ref).accessed >= 2);
	device_fill(ref, p, 6, 2);
	assert_state(e, p, 6, env_home(e));
	assert_state(e, p + 6 * PAGE, 2, UMM_PAGE_SYSTEM);
}

static const struct test_case cases[] = {
	TEST(ALL, device_takes_what_is_no_longer_preferred_at_home),
	TEST(ALL, device_takes_what_may_migrate_again),
	TEST(ALL, device_takes_what_it_no_longer_accesses_in_place),
	TEST(ALL, access_of_all_devices_ends_at_once),
	TEST(ALL, device_takes_what_is_preferred_in_its_memory_from_now_on),
	TEST(COHERENT, device_takes_what_another_is_no_longer_to_keep),
	TEST(ALL, reader_takes_what_is_no_longer_read_mostly),
	TEST(ALL, who_is_not_concerned_hears_nothing),
	TEST(ALL, who_still_accesses_need_not_fault),
	TEST(KERNEL, hints_of_single_pages_do_not_split_mappings),
	TEST(KERNEL, hints_of_every_second_block_split_mappings_at_blocks),
	TEST(KERNEL, prefetches_of_single_pages_do_not_split_mappings),
	TEST(ALL, end_of_hints_leaves_what_devices_use_registered),
	TEST(ONCE, end_of_a_hint_leaves_the_mark_to_one_that_is_about_to_come),
	TEST(ALL, end_of_marks_holds_up_nobody_else),
	TEST(ONCE, hint_that_comes_as_marks_end_is_marked),
	TEST(ONCE, device_is_not_told_of_accesses_that_have_ended),
};

int main(int argc, char **argv)
{
	hook_init();
	return harness_main("hints_undo", cases, sizeof(cases) / sizeof(cases[0]), argc, argv);
}
