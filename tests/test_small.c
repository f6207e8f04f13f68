/* SPDX-License-Identifier: MIT */
/*
 * Many small ranges side by side: each is attached, used, hinted, counted for, cut, moved and
 * detached by itself, though the books know most of them only by their block.
 */
#include "harness.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "hooked.h"

#define NRANGES 8
#define LARGE	4 /* pages */
#define ALL	((size_t)NRANGES * LARGE)

static char *at(char *p, size_t range)
{
	return p + range * LARGE * PAGE;
}

/* All in one block, filled as one. */
static char *ranges(struct env *e)
{
	char *p = env_map(e, BLOCK);

	for (size_t i = 0; i < NRANGES; i++)
		assert_int_equal(umm_attach(e->ctx, at(p, i), LARGE * PAGE), 0);
	fill(p, ALL, 1);
	return p;
}

static bool manages(struct env *e, size_t npages)
{
	struct umm_stats stats = { .size = sizeof(stats) };

	assert_int_equal(umm_ctx_stats(e->ctx, &stats), 0);
	return stats.managed_bytes == npages * PAGE;
}

/* The program goes on when its event is read, which may be before the books are changed. */
static void assert_managed(struct env *e, size_t npages)
{
	wait_until(manages(e, npages));
}

static struct umm_stats stats_of(struct env *e, const char *addr)
{
	struct umm_stats stats = { .size = sizeof(stats) };

	assert_int_equal(umm_alloc_stats(e->ctx, addr, &stats), 0);
	return stats;
}

static void one_in_the_midst_is_detached(struct env *e)
{
	char *p = ranges(e);

	assert_managed(e, ALL);
	assert_int_equal(umm_detach(e->ctx, at(p, 3) + PAGE), -EFAULT);
	assert_int_equal(umm_free(e->ctx, at(p, 3)), -EFAULT);
	assert_int_equal(umm_detach(e->ctx, at(p, 3)), 0);
	assert_int_equal(umm_detach(e->ctx, at(p, 3)), -EFAULT);
	assert_managed(e, ALL - LARGE);
	assert_state(e, at(p, 3), LARGE, UMM_PAGE_UNMANAGED);
	assert_int_equal(count_state(e, p, ALL, UMM_PAGE_UNMANAGED), LARGE);
	assert_int_equal(umm_attach(e->ctx, at(p, 2) + 3 * PAGE, LARGE * PAGE), -EEXIST);
	assert_int_equal(umm_attach(e->ctx, at(p, 3), 1 * PAGE), 0);
	assert_int_equal(umm_attach(e->ctx, at(p, 3) + PAGE, 3 * PAGE), 0);
	assert_managed(e, ALL);
	assert_int_equal(stats_of(e, at(p, 3)).managed_bytes, PAGE);
	assert_int_equal(stats_of(e, at(p, 3) + 2 * PAGE).managed_bytes, 3 * PAGE);
	assert_filled(p, ALL, 1);
}

static void one_on_a_device_is_detached(struct env *e)
{
	struct ref_device *ref = env_device(e, 64);
	char *p = ranges(e);

	to_device(e, ref, p, ALL, ALL);
	assert_int_equal(umm_detach(e->ctx, at(p, 5)), 0);
	assert_free_frames(ref, 64 - ALL + LARGE);
	assert_int_equal(count_state(e, p, ALL, env_home(e)), ALL - LARGE);
	assert_state(e, at(p, 5), LARGE, UMM_PAGE_UNMANAGED);
	assert_filled(p, ALL, 1);
}

static void each_is_counted_for_by_itself(struct env *e)
{
	struct ref_device *ref = env_device(e, 64);
	char *p = ranges(e);
	struct umm_stats one, two, none;

	to_device(e, ref, at(p, 1), LARGE, LARGE);
	to_device(e, ref, at(p, 2) + PAGE, 2, 2);
	to_system(e, at(p, 2) + PAGE, 1, 1);
	one = stats_of(e, at(p, 1) + PAGE);
	two = stats_of(e, at(p, 2));
	none = stats_of(e, at(p, 3));
	assert_int_equal(one.counter[UMM_COUNT_TO_DEVICE + UMM_CAUSE_EXPLICIT], LARGE);
	assert_int_equal(one.counter[UMM_COUNT_TO_SYSTEM + UMM_CAUSE_EXPLICIT], 0);
	assert_int_equal(one.device_pages, LARGE);
	assert_int_equal(two.counter[UMM_COUNT_TO_DEVICE + UMM_CAUSE_EXPLICIT], 2);
	assert_int_equal(two.counter[UMM_COUNT_TO_SYSTEM + UMM_CAUSE_EXPLICIT], 1);
	assert_int_equal(two.device_pages, 1);
	assert_int_equal(none.counter[UMM_COUNT_TO_DEVICE + UMM_CAUSE_EXPLICIT], 0);
	assert_int_equal(none.managed_bytes, LARGE * PAGE);
}

/* Of the others of its block, which nobody has asked for, a device sees all the same. */
static void device_sees_each_when_it_asks(struct env *e)
{
	struct ref_device *ref = env_device(e, 64);
	char *p = ranges(e);

	to_device(e, ref, at(p, 4), 1, 1);
	assert_state(e, p, LARGE, UMM_PAGE_SYSTEM);
	assert_device_sees(ref, p, ALL, 1);
	assert_int_equal(count_state(e, p, UMM_BLOCK_PAGES, UMM_PAGE_UNMANAGED),
			 UMM_BLOCK_PAGES - ALL);
}

static void munmap_in_the_midst_of_one_splits_it(struct env *e)
{
	struct ref_device *ref = env_device(e, 64);
	char *p = ranges(e);

	/* So that it is heard of. */
	to_device(e, ref, p, 1, 1);
	env_unmap(e, at(p, 2) + PAGE, 2 * PAGE);
	assert_managed(e, ALL - 2);
	assert_int_equal(count_state(e, p, ALL, UMM_PAGE_UNMANAGED), 2);
	assert_int_equal(umm_detach(e->ctx, at(p, 2)), 0);
	assert_managed(e, ALL - LARGE);
	assert_filled_part(p, 0, 2 * LARGE + 1, 1);
	assert_filled_part(p, 3 * LARGE - 1, ALL - 3 * LARGE + 1, 1);
}

static void munmap_over_several_cuts_the_outer_ones(struct env *e)
{
	struct ref_device *ref = env_device(e, 64);
	char *p = ranges(e);

	to_device(e, ref, p, ALL, ALL);
	env_unmap(e, at(p, 1) + 3 * PAGE, (2 * LARGE + 2) * PAGE);
	assert_free_frames(ref, 64 - ALL + 2 * LARGE + 2);
	assert_managed(e, ALL - 2 * LARGE - 2);
	assert_int_equal(stats_of(e, at(p, 1)).device_pages, 3);
	assert_int_equal(stats_of(e, at(p, 4) + PAGE).device_pages, 3);
	assert_int_equal(umm_detach(e->ctx, at(p, 2)), -EFAULT);
	assert_int_equal(umm_detach(e->ctx, at(p, 3)), -EFAULT);
	assert_int_equal(umm_detach(e->ctx, at(p, 1)), 0);
	assert_int_equal(umm_detach(e->ctx, at(p, 4)), 0);
	assert_managed(e, ALL - 4 * LARGE);
}

static void mapping_over_some_forgets_them(struct env *e)
{
	struct ref_device *ref = env_device(e, 64);
	char *p = ranges(e);

	to_device(e, ref, p, ALL, ALL);
	assert_ptr_equal(mmap(at(p, 3), 2 * LARGE * PAGE, PROT_READ | PROT_WRITE,
			      MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0),
			 at(p, 3));
	assert_free_frames(ref, 64 - ALL + 2 * LARGE);
	assert_zero(at(p, 3), 2 * LARGE);
	assert_int_equal(umm_attach(e->ctx, at(p, 3), 2 * LARGE * PAGE), 0);
	assert_managed(e, ALL);
	to_device(e, ref, at(p, 3), 2 * LARGE, 2 * LARGE);
	assert_zero(at(p, 3), 2 * LARGE);
	assert_filled_part(p, 0, 3 * LARGE, 1);
}

static void one_that_moves_answers_to_its_new_address(struct env *e)
{
	struct ref_device *ref = env_device(e, 64);
	char *p = ranges(e), *q = env_map(e, BLOCK);

	to_device(e, ref, at(p, 2), 2, 2);
	assert_ptr_equal(
		mremap(at(p, 2), LARGE * PAGE, LARGE * PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, q), q);
	env_forget(e, at(p, 2), LARGE * PAGE);
	assert_managed(e, ALL);
	assert_int_equal(umm_detach(e->ctx, at(p, 2)), -EFAULT);
	assert_state(e, q, 2, env_home(e));
	assert_int_equal(stats_of(e, q).managed_bytes, LARGE * PAGE);
	for (size_t i = 0; i < LARGE; i++)
		assert_true(page_filled(q + i * PAGE, 2 * LARGE + i, 1));
	assert_int_equal(umm_detach(e->ctx, q), 0);
	assert_managed(e, ALL - LARGE);
}

static void several_move_with_their_mapping(struct env *e)
{
	struct ref_device *ref = env_device(e, 64);
	char *p = ranges(e), *q = env_map(e, BLOCK);

	to_device(e, ref, p, 1, 1);
	to_system(e, p, 1, 1);
	assert_ptr_equal(mremap(at(p, 1), 6 * LARGE * PAGE, 6 * LARGE * PAGE,
				MREMAP_MAYMOVE | MREMAP_FIXED, at(q, 1)),
			 at(q, 1));
	env_forget(e, at(p, 1), 6 * LARGE * PAGE);
	assert_filled_part(q, LARGE, 6 * LARGE, 1);
	to_device(e, ref, at(q, 1), 6 * LARGE, 6 * LARGE);
	assert_filled_part(q, LARGE, 6 * LARGE, 1);
	for (size_t i = 0; i < NRANGES; i++)
		assert_int_equal(umm_detach(e->ctx, at(i == 0 || i == 7 ? p : q, i)), 0);
	assert_managed(e, 0);
}

static int unmovable(struct env *e, char *addr, size_t npages)
{
	struct umm_span span = { (uintptr_t)addr, npages * PAGE };
	struct umm_advice advice = {
		.size = sizeof(advice), .spans = &span, .nspans = 1, .hint = UMM_HINT_NO_MIGRATE
	};

	return umm_advise(e->ctx, &advice);
}

static bool is_unmovable(struct env *e, char *addr, size_t npages)
{
	struct umm_span span = { (uintptr_t)addr, npages * PAGE };
	struct umm_span_info info = { .size = sizeof(info) };

	assert_int_equal(umm_query_spans(e->ctx, &span, 1, &info), 0);
	return info.hints >> UMM_HINT_NO_MIGRATE & 1;
}

static void hints_of_one_end_with_it(struct env *e)
{
	char *p = ranges(e);

	assert_int_equal(unmovable(e, at(p, 2), 2 * LARGE), 0);
	assert_int_equal(umm_detach(e->ctx, at(p, 2)), 0);
	assert_int_equal(umm_attach(e->ctx, at(p, 2), LARGE * PAGE), 0);
	assert_false(is_unmovable(e, at(p, 1), LARGE));
	assert_false(is_unmovable(e, at(p, 2), LARGE));
	assert_true(is_unmovable(e, at(p, 3), LARGE));
	assert_false(is_unmovable(e, at(p, 4), LARGE));
}

struct scene {
	struct env *env;
	char *p;
};

static void child_detaches(void *arg)
{
	struct scene *s = arg;

	for (size_t i = 0; i < ALL; i++)
		child_check(filled_at(s->p, i, 1));
	for (size_t i = 0; i < NRANGES; i++) {
		child_check(umm_detach(s->env->ctx, at(s->p, i)) == 0);
		child_check(umm_detach(s->env->ctx, at(s->p, i)) == -EFAULT);
	}
}

static void forked_child_has_books_of_its_own(struct env *e)
{
	struct ref_device *ref = env_device(e, 64);
	struct scene s = { e, ranges(e) };

	to_device(e, ref, at(s.p, 3), 2, 2);
	assert_true(in_child(child_detaches, &s));
	assert_managed(e, ALL);
	assert_filled(s.p, ALL, 1);
	for (size_t i = 0; i < NRANGES; i++)
		assert_int_equal(umm_detach(e->ctx, at(s.p, i)), 0);
	assert_managed(e, 0);
}

static void context_that_ends_lets_go_of_all(struct env *e)
{
	char *p = ranges(e), *q[NRANGES];

	for (size_t i = 0; i < NRANGES; i++) {
		q[i] = env_alloc(e, LARGE * PAGE);
		fill(q[i], LARGE, (unsigned)i);
	}
	for (size_t i = 0; i < NRANGES; i++)
		assert_filled(q[i], LARGE, (unsigned)i);
	env_close(e);
	assert_filled(p, ALL, 1);
	for (size_t i = 0; i < NRANGES; i++)
		assert_false(cpu_maps(q[i]));
}

static void contents_of_several_are_dropped_at_once(struct env *e)
{
	char *p = ranges(e);
	struct umm_span span = { (uintptr_t)at(p, 1), 3 * LARGE * PAGE };

	assert_int_equal(umm_discard(e->ctx, &span, 1), 3 * LARGE);
	assert_managed(e, ALL);
	assert_filled(p, LARGE, 1);
	assert_zero(at(p, 1), 3 * LARGE);
	for (size_t i = 4 * LARGE; i < ALL; i++)
		assert_true(filled_at(p, i, 1));
}

/* Nobody attached what lies between them: a device that asks for it gets that, too. */
static void process_manages_what_lies_between(struct env *e)
{
	struct ref_device *ref;
	char *p = env_map(e, BLOCK);

	env_reopen(e, (struct umm_ctx_options){ .flags = UMM_CTX_WHOLE_PROCESS });
	ref = env_device(e, 64);
	for (size_t i = 0; i < NRANGES; i += 2)
		assert_int_equal(umm_attach(e->ctx, at(p, i), LARGE * PAGE), 0);
	fill(p, ALL, 1);
	to_device(e, ref, p, ALL, ALL);
	assert_managed(e, ALL);
	assert_int_equal(umm_detach(e->ctx, at(p, 2)), 0);
	assert_int_equal(umm_detach(e->ctx, at(p, 3)), -EFAULT);
	assert_managed(e, ALL - LARGE);
	assert_filled(p, ALL, 1);
}

static const struct test_case cases[] = {
	TEST(ONCE, one_in_the_midst_is_detached),
	TEST(ALL, one_on_a_device_is_detached),
	TEST(ONCE, each_is_counted_for_by_itself),
	TEST(ALL, device_sees_each_when_it_asks),
	TEST(ALL, munmap_in_the_midst_of_one_splits_it),
	TEST(ALL, munmap_over_several_cuts_the_outer_ones),
	TEST(ALL, mapping_over_some_forgets_them),
	TEST(ALL, one_that_moves_answers_to_its_new_address),
	TEST(ALL, several_move_with_their_mapping),
	TEST(ONCE, hints_of_one_end_with_it),
	TEST(ALL, contents_of_several_are_dropped_at_once),
	TEST(ALL, forked_child_has_books_of_its_own),
	TEST(ONCE, context_that_ends_lets_go_of_all),
	TEST(KERNEL, process_manages_what_lies_between),
};

int main(int argc, char **argv)
{
	hook_init();
	return harness_main("small", cases, sizeof(cases) / sizeof(cases[0]), argc, argv);
}
