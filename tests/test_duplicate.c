/* SPDX-License-Identifier: MIT */
/* Duplicates: a page that both sides may read, until one of them writes. */
#include "harness.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/mman.h>

static void duplicates_serve_both_sides_without_faults(struct env *e)
{
	struct ref_device *ref = env_device(e, 64);
	char *p = env_alloc_small(e, 16 * PAGE);

	ref_policy_set(ref, REF_IN_PLACE);
	fill(p, 16, 1);
	env_mark(e);
	assert_int_equal(migrate(e, ref, p, 16, UMM_MIGRATE_DUPLICATE), 16);
	assert_state(e, p, 16, UMM_PAGE_DUPLICATED);
	assert_delta(e, UMM_COUNT_DUPLICATED, 16);
	assert_int_equal(env_delta_causes(e, UMM_COUNT_TO_DEVICE), 0);
	assert_free_frames(ref, 48);
	assert_filled(p, 16, 1);
	assert_device_sees(ref, p, 16, 1);
	assert_filled(p, 16, 1);
	assert_state(e, p, 16, UMM_PAGE_DUPLICATED);
	assert_delta(e, UMM_COUNT_FAULT_DEVICE, 0);
	assert_delta(e, UMM_COUNT_FAULT_WRITE, 0);
	assert_delta(e, UMM_COUNT_BYTES_FROM_DEVICE, 0);
	assert_true(ref_entry(ref, (uintptr_t)p) & UMM_ENTRY_DUPLICATE);
	assert_false(ref_entry(ref, (uintptr_t)p) & UMM_ENTRY_WRITE);
}

static void store_ends_a_duplication_with_one_write_fault(struct env *e)
{
	struct ref_device *ref = env_device(e, 64);
	char *p = env_alloc_small(e, 16 * PAGE);

	ref_policy_set(ref, REF_IN_PLACE);
	fill(p, 16, 1);
	assert_int_equal(migrate(e, ref, p, 16, UMM_MIGRATE_DUPLICATE), 16);
	assert_device_sees(ref, p, 16, 1);
	env_mark(e);
	page_fill(p + 5 * PAGE, 5, 2);
	assert_delta(e, UMM_COUNT_FAULT_WRITE, 1);
	assert_delta(e, UMM_COUNT_FAULT_DEVICE, 0);
	assert_delta(e, UMM_COUNT_COPIES, 0);
	assert_state(e, p + 5 * PAGE, 1, UMM_PAGE_SYSTEM);
	assert_state(e, p, 5, UMM_PAGE_DUPLICATED);
	assert_state(e, p + 6 * PAGE, 10, UMM_PAGE_DUPLICATED);
	assert_free_frames(ref, 49);
	assert_int_equal(ref_entry(ref, (uintptr_t)p + 5 * PAGE), 0);
	page_fill(p + 5 * PAGE, 5, 3);
	assert_delta(e, UMM_COUNT_FAULT_WRITE, 1);
	assert_true(filled_at(p, 5, 3));
	/* The device has no stale copy. */
	page_fill(p + 5 * PAGE, 5, 1);
	assert_device_sees(ref, p, 16, 1);
}

static void device_store_ends_a_duplication(struct env *e)
{
	struct ref_device *ref = env_device(e, 64);
	char *p = env_alloc_small(e, 8 * PAGE);

	fill(p, 8, 1);
	ref_policy_set(ref, REF_IN_PLACE);
	assert_int_equal(migrate(e, ref, p, 8, UMM_MIGRATE_DUPLICATE), 8);
	assert_device_sees(ref, p, 8, 1);
	ref_policy_set(ref, REF_MIGRATE);
	device_fill(ref, p, 4, 2);
	assert_int_equal(count_state(e, p, 4, UMM_PAGE_DUPLICATED), 0);
	assert_state(e, p + 4 * PAGE, 4, UMM_PAGE_DUPLICATED);
	assert_filled(p, 4, 2);
	assert_filled_part(p, 4, 4, 1);
	ref_policy_set(ref, REF_IN_PLACE);
	assert_int_equal(ref_write(ref, (uintptr_t)p + 6 * PAGE, "x", 1), 0);
	assert_int_equal(p[6 * PAGE], 'x');
	assert_int_not_equal(state_of(e, p + 6 * PAGE), UMM_PAGE_DUPLICATED);
}

static void two_devices_hold_copies_of_the_same_pages(struct env *e)
{
	struct ref_device *a = env_device(e, 64), *b = env_device(e, 64);
	char *p = env_alloc_small(e, 8 * PAGE);

	ref_policy_set(a, REF_IN_PLACE);
	ref_policy_set(b, REF_IN_PLACE);
	fill(p, 8, 1);
	assert_int_equal(migrate(e, a, p, 8, UMM_MIGRATE_DUPLICATE), 8);
	assert_int_equal(migrate(e, b, p, 8, UMM_MIGRATE_DUPLICATE), 8);
	assert_state(e, p, 8, UMM_PAGE_DUPLICATED);
	assert_device_sees(a, p, 8, 1);
	assert_device_sees(b, p, 8, 1);
	env_mark(e);
	fill(p, 4, 2);
	assert_delta(e, UMM_COUNT_FAULT_WRITE, 4);
	assert_free_frames(a, 60);
	assert_free_frames(b, 60);
	assert_device_sees(a, p, 4, 2);
	assert_device_sees(b, p, 4, 2);
	/* One of them gets the rest for itself; the other still reads right. */
	to_device(e, a, p + 4 * PAGE, 4, 4);
	assert_state(e, p + 4 * PAGE, 4, env_home(e));
	assert_free_frames(b, 64);
	fill(p, 8, 3);
	assert_device_sees(b, p, 8, 3);
	assert_device_sees(a, p, 8, 3);
}

static void duplicates_of_untouched_pages_read_zero(struct env *e)
{
	struct ref_device *ref = env_device(e, 64);
	char *p = env_alloc_small(e, 8 * PAGE);

	assert_true(migrate(e, ref, p, 8, UMM_MIGRATE_DUPLICATE) >= 0);
	assert_device_sees_zero(ref, p, 8);
	assert_zero(p, 8);
	fill(p, 8, 1);
	assert_device_sees(ref, p, 8, 1);
}

static void duplicates_are_evicted_and_freed(struct env *e)
{
	struct ref_device *ref = env_device(e, 16);
	char *p = env_alloc_small(e, 48 * PAGE);

	fill(p, 48, 1);
	assert_int_equal(migrate(e, ref, p, 16, UMM_MIGRATE_DUPLICATE), 16);
	assert_int_equal(umm_devmem_evict(ref->mem, 16), 0);
	assert_state(e, p, 16, UMM_PAGE_SYSTEM);
	assert_int_equal(migrate(e, ref, p, 16, UMM_MIGRATE_DUPLICATE), 16);
	assert_int_equal(umm_free(e->ctx, p), 0);
	assert_free_frames(ref, 16);
}

/* Many stretches of one block, and one page among them that nobody may read. */
static void scattered_pages_are_duplicated_together(struct env *e)
{
	enum { N = 170, CLOSED = 100 };
	struct ref_device *ref = env_device(e, 256);
	char *p = env_alloc_small(e, 3 * N * PAGE);
	struct umm_span spans[N];
	struct umm_migrate_request req = { .size = sizeof(req),
					   .flags = UMM_MIGRATE_DUPLICATE,
					   .spans = spans,
					   .nspans = N,
					   .dst = ref->mem };

	for (unsigned i = 0; i < N; i++) {
		spans[i] = (struct umm_span){ (uintptr_t)p + 3 * i * PAGE, PAGE };
		fill((void *)spans[i].start, 1, i);
	}
	assert_int_equal(mprotect((void *)spans[CLOSED].start, PAGE, PROT_NONE), 0);
	env_mark(e);
	assert_int_equal(umm_migrate_spans(e->ctx, &req, NULL), N - 1);
	assert_delta(e, UMM_COUNT_DUPLICATED, N - 1);
	assert_int_equal(mprotect((void *)spans[CLOSED].start, PAGE, PROT_READ | PROT_WRITE), 0);
	assert_free_frames(ref, 256 - (N - 1));
	ref_policy_set(ref, REF_IN_PLACE);
	for (unsigned i = 0; i < N; i++) {
		assert_filled((void *)spans[i].start, 1, i);
		assert_device_sees(ref, (void *)spans[i].start, 1, i);
		assert_int_equal(state_of(e, (void *)spans[i].start),
				 i == CLOSED ? UMM_PAGE_SYSTEM : UMM_PAGE_DUPLICATED);
	}
	for (unsigned i = 0; i < N; i++)
		page_fill((void *)spans[i].start, 0, i + 1);
	for (unsigned i = 0; i < N; i++)
		assert_device_sees(ref, (void *)spans[i].start, 1, i + 1);
}

static const struct test_case cases[] = {
	TEST(ALL, duplicates_serve_both_sides_without_faults),
	TEST(ALL, store_ends_a_duplication_with_one_write_fault),
	TEST(ALL, device_store_ends_a_duplication),
	TEST(ALL, two_devices_hold_copies_of_the_same_pages),
	TEST(ALL, duplicates_of_untouched_pages_read_zero),
	TEST(ALL, duplicates_are_evicted_and_freed),
	TEST(ALL, scattered_pages_are_duplicated_together),
};

int main(int argc, char **argv)
{
	return harness_main("duplicate", cases, sizeof(cases) / sizeof(cases[0]), argc, argv);
}
