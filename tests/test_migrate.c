/* SPDX-License-Identifier: MIT */
/*
 * Migration in one call: round trips, what is copied and what is cleared, partial success,
 * fences.
 */
#include "harness.h"
#include "ctx.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <linux/io_uring.h>

#define BLOCK_PAGES UMM_BLOCK_PAGES

/* ---- round trips -------------------------------------------------------------------- */

static void round_trip_keeps_data_and_counts_pages(struct env *e)
{
	struct ref_device *ref = env_device(e, 1024);
	char *p = env_alloc(e, BLOCK);
	struct ref_counts counts;

	fill(p, BLOCK_PAGES, 1);
	env_mark(e);
	to_device(e, ref, p, BLOCK_PAGES, BLOCK_PAGES);
	assert_state(e, p, BLOCK_PAGES, env_home(e));
	assert_free_frames(ref, 1024 - BLOCK_PAGES);
	to_system(e, p, BLOCK_PAGES, BLOCK_PAGES);
	assert_state(e, p, BLOCK_PAGES, UMM_PAGE_SYSTEM);
	assert_free_frames(ref, 1024);
	assert_filled(p, BLOCK_PAGES, 1);

	counts = ref_counts(ref);
	assert_int_equal(counts.pages_in, BLOCK_PAGES);
	assert_int_equal(counts.pages_out, BLOCK_PAGES);
	assert_int_equal(counts.pages_freed, BLOCK_PAGES);
	assert_int_equal(counts.pages_cleared, 0);
	assert_delta(e, UMM_COUNT_COPIES, counts.copies);
	assert_delta(e, UMM_COUNT_BYTES_TO_DEVICE, BLOCK);
	assert_delta(e, UMM_COUNT_BYTES_FROM_DEVICE, BLOCK);
	assert_delta(e, UMM_COUNT_BYTES_OUT + UMM_CAUSE_EXPLICIT, BLOCK);
	assert_delta(e, UMM_COUNT_BYTES_IN + UMM_CAUSE_EXPLICIT, BLOCK);
	assert_delta(e, UMM_COUNT_TO_DEVICE + UMM_CAUSE_EXPLICIT, BLOCK_PAGES);
	assert_delta(e, UMM_COUNT_TO_SYSTEM + UMM_CAUSE_EXPLICIT, BLOCK_PAGES);
	assert_int_equal(env_delta_causes(e, UMM_COUNT_TO_DEVICE), BLOCK_PAGES);
	assert_int_equal(env_delta_causes(e, UMM_COUNT_TO_SYSTEM), BLOCK_PAGES);
	assert_delta(e, UMM_COUNT_FAULT_DEVICE, 0);
}

static void ten_round_trips_with_stores_from_both_sides(struct env *e)
{
	struct ref_device *ref = env_device(e, 1024);
	char *p = env_alloc(e, BLOCK + 9 * PAGE);
	const size_t npages = BLOCK_PAGES + 9;
	unsigned i;

	for (i = 0; i < 10; i++) {
		fill(p, npages, 2 * i);
		to_device(e, ref, p, npages, (long)npages);
		assert_device_sees(ref, p, npages, 2 * i);
		device_fill(ref, p, npages, 2 * i + 1);
		to_system(e, p, npages, (long)npages);
		assert_filled(p, npages, 2 * i + 1);
	}
	assert_free_frames(ref, 1024);
}

static void what_the_device_wrote_is_seen_by_cpu_touches(struct env *e)
{
	struct ref_device *ref = env_device(e, 1024);
	char *p = env_alloc(e, 64 * PAGE);
	unsigned i;

	for (i = 0; i < 10; i++) {
		device_fill(ref, p, 64, i);
		assert_filled(p, 64, i);
	}
}

static void half_brought_back_by_the_cpu_migrates_again(struct env *e)
{
	struct ref_device *ref = env_device(e, 1024);
	char *p = env_alloc(e, BLOCK);
	const size_t half = BLOCK_PAGES / 2;
	long moved = e->variant.type == UMM_DEVMEM_PRIVATE ? (long)half : 0;

	fill(p, BLOCK_PAGES, 1);
	to_device(e, ref, p, BLOCK_PAGES, BLOCK_PAGES);
	assert_filled(p, half, 1);
	assert_state(e, p + half * PAGE, half, env_home(e));
	to_device(e, ref, p, BLOCK_PAGES, moved);
	assert_state(e, p, BLOCK_PAGES, env_home(e));
	assert_device_sees(ref, p, BLOCK_PAGES, 1);
	assert_filled(p, BLOCK_PAGES, 1);
}

static void pages_that_are_there_stay_there(struct env *e)
{
	struct ref_device *ref = env_device(e, 64);
	char *p = env_alloc(e, 16 * PAGE);

	fill(p, 16, 1);
	to_system(e, p, 16, 0);
	to_device(e, ref, p, 16, 16);
	env_mark(e);
	to_device(e, ref, p, 16, 0);
	assert_delta(e, UMM_COUNT_COPIES, 0);
	assert_filled(p, 16, 1);
}

/* ---- what is copied and what is not ------------------------------------------------- */

static void empty_pages_are_cleared_not_copied(struct env *e)
{
	struct ref_device *ref = env_device(e, 64);
	char *p = env_alloc_small(e, 32 * PAGE);

	/* Frames with a past. */
	fill(p, 32, 1);
	to_device(e, ref, p, 32, 32);
	assert_int_equal(umm_free(e->ctx, p), 0);
	p = env_alloc_small(e, 32 * PAGE);
	env_mark(e);
	to_device(e, ref, p, 32, 32);
	assert_state(e, p, 32, env_home(e));
	assert_delta(e, UMM_COUNT_CLEARED, 32);
	assert_delta(e, UMM_COUNT_BYTES_TO_DEVICE, 0);
	assert_int_equal(ref_counts(ref).pages_cleared, 32);
	assert_device_sees_zero(ref, p, 32);
	assert_zero(p, 32);
}

static void empty_and_used_pages_mixed(struct env *e)
{
	struct ref_device *ref = env_device(e, 512);
	char *p = env_alloc_small(e, BLOCK);
	size_t i;

	for (i = 0; i < BLOCK_PAGES; i += 3)
		page_fill(p + i * PAGE, i, 1);
	env_mark(e);
	to_device(e, ref, p, BLOCK_PAGES, BLOCK_PAGES);
	assert_delta(e, UMM_COUNT_CLEARED, BLOCK_PAGES - (BLOCK_PAGES + 2) / 3);
	assert_delta(e, UMM_COUNT_BYTES_TO_DEVICE, (BLOCK_PAGES + 2) / 3 * PAGE);
	for (i = 0; i < BLOCK_PAGES; i++)
		assert_true(i % 3 ? page_zero(p + i * PAGE) : filled_at(p, i, 1));
}

/* Huge pages of the mapping that holds addr, by /proc/self/smaps. */
static bool is_huge(const void *addr)
{
	FILE *file = fopen("/proc/self/smaps", "re");
	char line[256];
	bool inside = false, huge = false;
	unsigned long start, end, kib;

	while (file && fgets(line, sizeof(line), file)) {
		if (sscanf(line, "%lx-%lx ", &start, &end) == 2)
			inside = start <= (uintptr_t)addr && (uintptr_t)addr < end;
		else if (inside && sscanf(line, "AnonHugePages: %lu kB", &kib) == 1)
			huge = kib > 0;
	}
	if (file)
		fclose(file);
	return huge;
}

static void huge_page_moves_as_one_copy(struct env *e)
{
	struct ref_device *ref = env_device(e, 1024);
	char *p = env_alloc(e, BLOCK);

	fill(p, BLOCK_PAGES, 1);
	if (!is_huge(p))
		env_skip("the kernel gave no huge page");
	env_mark(e);
	to_device(e, ref, p, BLOCK_PAGES, BLOCK_PAGES);
	assert_delta(e, UMM_COUNT_COPIES, 1);
	assert_int_equal(ref_counts(ref).copies, 1);
	to_system(e, p, BLOCK_PAGES, BLOCK_PAGES);
	assert_delta(e, UMM_COUNT_COPIES, 2);
	if (e->ctx->features & UMM_KERNEL_MOVE)
		assert_true(is_huge(p));
	assert_filled(p, BLOCK_PAGES, 1);
}

static void where_the_host_gives_no_huge_page_small_ones_come_home(struct env *e)
{
	struct ref_device *ref = env_device(e, 3 * BLOCK_PAGES);
	char *p = env_alloc(e, BLOCK), *other = env_alloc(e, 2 * BLOCK);
	bool huge;

	fill(p, BLOCK_PAGES, 1);
	if (!is_huge(p))
		env_skip("the kernel gave no huge page");
	/* What never was on the host takes the huge page that is free as soon as p has left. */
	device_fill(ref, other, 2 * BLOCK_PAGES, 2);
	to_device(e, ref, p, BLOCK_PAGES, BLOCK_PAGES);
	assert_int_equal(prctl(PR_SET_THP_DISABLE, 1, 0, 0, 0), 0);
	to_system(e, other, 2 * BLOCK_PAGES, 2 * (long)BLOCK_PAGES);
	to_system(e, p, BLOCK_PAGES, BLOCK_PAGES);
	huge = is_huge(p);
	assert_int_equal(prctl(PR_SET_THP_DISABLE, 0, 0, 0, 0), 0);
	assert_false(huge);
	assert_filled(p, BLOCK_PAGES, 1);
	assert_filled(other, 2 * BLOCK_PAGES, 2);
}

static void empty_block_is_cleared_in_one_piece(struct env *e)
{
	struct ref_device *ref = env_device(e, 1024);
	char *p = env_alloc(e, BLOCK);

	to_device(e, ref, p, BLOCK_PAGES, BLOCK_PAGES);
	assert_int_equal(ref_counts(ref).calls, 1);
	assert_int_equal(ref_counts(ref).pages_cleared, BLOCK_PAGES);
	assert_zero(p, BLOCK_PAGES);
}

static void scattered_pages_move_alone(struct env *e)
{
	enum { N = 3 * BLOCK_PAGES / 3 };
	struct ref_device *ref = env_device(e, 1024);
	char *p = env_alloc_small(e, 3 * BLOCK);
	struct umm_span *spans = calloc(N, sizeof(*spans));
	struct umm_migrate_request req = {
		.size = sizeof(req), .spans = spans, .nspans = N, .dst = ref->mem
	};
	size_t i;

	fill(p, 3 * BLOCK_PAGES, 1);
	for (i = 0; i < N; i++) {
		spans[i].start = (uintptr_t)p + 3 * i * PAGE;
		spans[i].len = PAGE;
	}
	assert_int_equal(umm_migrate_spans(e->ctx, &req, NULL), N);
	for (i = 0; i < 3 * BLOCK_PAGES; i++)
		assert_int_equal(state_of(e, p + i * PAGE), i % 3 ? UMM_PAGE_SYSTEM : env_home(e));
	assert_filled(p, 3 * BLOCK_PAGES, 1);
	free(spans);
}

static void spans_grow_to_whole_pages(struct env *e)
{
	struct ref_device *ref = env_device(e, 64);
	char *p = env_alloc_small(e, 8 * PAGE);

	fill(p, 8, 1);
	assert_int_equal(umm_migrate_to_device(e->ctx, ref->mem, p + 2 * PAGE - 1, 2), 2);
	assert_state(e, p + PAGE, 2, env_home(e));
	assert_state(e, p, 1, UMM_PAGE_SYSTEM);
	assert_state(e, p + 3 * PAGE, 5, UMM_PAGE_SYSTEM);
	assert_int_equal(umm_migrate_to_system(e->ctx, p + PAGE + 100, 1), 1);
	assert_state(e, p + PAGE, 1, UMM_PAGE_SYSTEM);
	assert_filled(p, 8, 1);
}

static void overlapping_spans_move_each_page_once(struct env *e)
{
	struct ref_device *ref = env_device(e, 64);
	char *p = env_alloc_small(e, 8 * PAGE);
	struct umm_span spans[] = { { (uintptr_t)p, 5 * PAGE },
				    { (uintptr_t)p + 3 * PAGE, PAGE },
				    { (uintptr_t)p + 4 * PAGE, 4 * PAGE } };
	struct umm_migrate_request req = {
		.size = sizeof(req), .spans = spans, .nspans = 3, .dst = ref->mem
	};

	fill(p, 8, 1);
	assert_int_equal(umm_migrate_spans(e->ctx, &req, NULL), 8);
	assert_free_frames(ref, 64 - 8);
	assert_filled(p, 8, 1);
}

static void holes_and_foreign_memory_are_passed_over(struct env *e)
{
	struct ref_device *ref = env_device(e, 64);
	char *p = env_map(e, 12 * PAGE);

	fill(p, 12, 1);
	assert_int_equal(umm_attach(e->ctx, p, 4 * PAGE), 0);
	assert_int_equal(umm_attach(e->ctx, p + 8 * PAGE, 4 * PAGE), 0);
	env_unmap(e, p + 2 * PAGE, PAGE);
	env_unmap(e, p + 5 * PAGE, PAGE);
	assert_int_equal(migrate(e, ref, p, 12, 0), 7);
	assert_filled_part(p, 0, 2, 1);
	assert_filled_part(p, 3, 2, 1);
	assert_filled_part(p, 6, 6, 1);
	assert_int_equal(migrate(e, ref, p + 4 * PAGE, 4, 0), -EFAULT);
	assert_int_equal(migrate(e, ref, p + 5 * PAGE, 1, 0), -EFAULT);
}

static void requests_with_bad_arguments_are_refused(struct env *e)
{
	struct {
		struct umm_migrate_request req;
		uint64_t newer;
	} big = { .newer = 1 };
	struct ref_device *ref = env_device(e, 64);
	char *p = env_alloc(e, PAGE);
	struct umm_span span = { .start = (uintptr_t)p, .len = PAGE };
	struct umm_migrate_request good = {
		.size = sizeof(good), .spans = &span, .nspans = 1, .dst = ref->mem
	};
	struct umm_migrate_request req = good;

	assert_int_equal(umm_migrate_spans(e->ctx, NULL, NULL), -EINVAL);
	req.size = 0;
	assert_int_equal(umm_migrate_spans(e->ctx, &req, NULL), -EINVAL);
	req = good;
	req.flags = UMM_MIGRATE_SELECT_PRIVATE;
	assert_int_equal(umm_migrate_spans(e->ctx, &req, NULL), -EINVAL);
	req.flags = UINT64_C(1) << 60;
	assert_int_equal(umm_migrate_spans(e->ctx, &req, NULL), -EINVAL);
	req = good;
	req.nspans = 0;
	assert_int_equal(umm_migrate_spans(e->ctx, &req, NULL), -EINVAL);
	req = good;
	req.spans = NULL;
	assert_int_equal(umm_migrate_spans(e->ctx, &req, NULL), -EINVAL);
	req = good;
	req.cause = UMM_NR_CAUSES;
	assert_int_equal(umm_migrate_spans(e->ctx, &req, NULL), -EINVAL);
	span.len = 0;
	assert_int_equal(umm_migrate_spans(e->ctx, &good, NULL), -EINVAL);
	span.len = SIZE_MAX - (uintptr_t)p + 2;
	assert_int_equal(umm_migrate_spans(e->ctx, &good, NULL), -EINVAL);
	span.len = PAGE;
	big.req = good;
	big.req.size = sizeof(big);
	assert_int_equal(umm_migrate_spans(e->ctx, &big.req, NULL), -E2BIG);
	big.newer = 0;
	assert_int_equal(umm_migrate_spans(e->ctx, &big.req, NULL), 1);
	assert_int_equal(umm_migrate_to_device(e->ctx, ref->mem, p, 0), -EINVAL);
	assert_int_equal(umm_migrate_to_device(e->ctx, NULL, p, PAGE), -EINVAL);
	assert_int_equal(umm_migrate_to_system(e->ctx, &p, 1), -EFAULT);
}

static void spans_beyond_the_address_space_are_einval(struct env *e)
{
	static const size_t lens[] = { (size_t)1 << 63, (size_t)1 << 47, SIZE_MAX, SIZE_MAX / 2 };
	struct ref_device *ref = env_device(e, 64);
	const uintptr_t end = (uintptr_t)1 << 47;
	char *p = env_alloc(e, PAGE);
	size_t i;

	fill(p, 1, 1);
	to_device(e, ref, p, 1, 1);
	for (i = 0; i < sizeof(lens) / sizeof(lens[0]); i++) {
		assert_int_equal(umm_migrate_to_system(e->ctx, p, lens[i]), -EINVAL);
		assert_int_equal(umm_migrate_to_device(e->ctx, ref->mem, p, lens[i]), -EINVAL);
	}
	assert_int_equal(umm_migrate_to_system(e->ctx, (void *)end, PAGE), -EINVAL);
	assert_int_equal(umm_migrate_to_system(e->ctx, (void *)(end - PAGE), PAGE + 1), -EINVAL);
	assert_state(e, p, 1, env_home(e));
	/* All of it, and no more. */
	assert_int_equal(umm_migrate_to_system(e->ctx, p, end - (uintptr_t)p), 1);
	assert_filled(p, 1, 1);
}

static void several_homes_gather_on_one_device(struct env *e)
{
	struct ref_device *a = env_device(e, 64), *b = env_device(e, 64);
	char *p = env_alloc_small(e, 40 * PAGE);

	fill(p, 30, 1);
	to_device(e, a, p, 10, 10);
	to_device(e, b, p + 10 * PAGE, 10, 10);
	env_mark(e);
	to_device(e, a, p, 40, 30);
	assert_state(e, p, 40, env_home(e));
	assert_delta(e, UMM_COUNT_CLEARED, 10);
	assert_free_frames(a, 24);
	assert_free_frames(b, 64);
	assert_device_sees(a, p, 30, 1);
	assert_device_sees_zero(a, p + 30 * PAGE, 10);
	assert_filled(p, 30, 1);
	assert_zero(p + 30 * PAGE, 10);
}

static void page_of_one_device_is_asked_for_by_another(struct env *e)
{
	struct ref_device *a = env_device(e, 64), *b = env_device(e, 64);
	char *p = env_alloc(e, 8 * PAGE);
	unsigned i;

	fill(p, 8, 100);
	for (i = 0; i < 6; i++) {
		assert_device_sees(a, p, 8, 100 + 2 * i);
		device_fill(a, p, 8, 101 + 2 * i);
		assert_device_sees(b, p, 8, 101 + 2 * i);
		device_fill(b, p, 8, 102 + 2 * i);
	}
	assert_filled(p, 8, 112);
}

static void memory_of_two_kinds_on_one_device(struct env *e)
{
	struct ref_device *ref = env_device(e, 64);
	char *p = env_alloc(e, 16 * PAGE);
	struct umm_devmem *other;

	assert_int_equal(ref_memory_add(ref,
					e->variant.type == UMM_DEVMEM_PRIVATE ?
						UMM_DEVMEM_COHERENT :
						UMM_DEVMEM_PRIVATE,
					64, &other),
			 0);
	assert_ptr_equal(umm_devmem_device(other), ref->dev);
	fill(p, 16, 1);
	to_device(e, ref, p, 8, 8);
	assert_int_equal(umm_migrate_to_device(e->ctx, other, p + 4 * PAGE, 12 * PAGE), 12);
	assert_free_frames(ref, 60);
	assert_int_equal(umm_devmem_nfree(other), 52);
	assert_device_sees(ref, p, 16, 1);
	assert_filled(p, 16, 1);
	umm_devmem_remove(other);
	assert_filled(p, 16, 1);
}

static void bring_home_brings_everything_home(struct env *e)
{
	struct ref_device *a = env_device(e, 64), *b = env_device(e, 64);
	char *p = env_alloc(e, 32 * PAGE), *q = env_attach(e, 8 * PAGE);

	fill(p, 32, 1);
	fill(q, 8, 2);
	to_device(e, a, p, 20, 20);
	to_device(e, b, p + 20 * PAGE, 10, 10);
	to_device(e, b, q, 8, 8);
	assert_int_equal(umm_bring_home(e->ctx), 38);
	assert_int_equal(umm_bring_home(e->ctx), 0);
	assert_state(e, p, 32, UMM_PAGE_SYSTEM);
	assert_state(e, q, 8, UMM_PAGE_SYSTEM);
	assert_filled(p, 32, 1);
	assert_filled(q, 8, 2);
}

/* ---- fences ------------------------------------------------------------------------- */

static void fence_of_a_migration_tells_the_number_of_pages(struct env *e)
{
	struct ref_device *ref = env_device(e, 1024);
	char *p = env_alloc(e, BLOCK + 10 * PAGE);
	struct umm_fence *fence;

	fill(p, BLOCK_PAGES + 10, 1);
	fence = migrate_start(e, ref, p, BLOCK_PAGES + 10);
	assert_int_equal(umm_fence_wait(fence, PATIENCE_MS), 0);
	assert_int_equal(umm_fence_poll(fence), 0);
	assert_int_equal(umm_fence_value(fence), BLOCK_PAGES + 10);
	umm_fence_put(fence);
	assert_state(e, p, BLOCK_PAGES + 10, env_home(e));
	fence = migrate_start(e, NULL, p, BLOCK_PAGES + 10);
	assert_int_equal(umm_fence_wait(fence, -1), 0);
	assert_int_equal(umm_fence_value(fence), BLOCK_PAGES + 10);
	umm_fence_put(fence);
	assert_filled(p, BLOCK_PAGES + 10, 1);
}

static void fence_waits_for_the_copies(struct env *e)
{
	struct ref_device *ref = env_device(e, 64);
	char *p = env_alloc_small(e, 16 * PAGE);
	struct umm_fence *fence;
	struct pollfd ready;

	fill(p, 16, 1);
	ref_gate_close(ref, REF_GATE_SIGNAL);
	fence = migrate_start(e, ref, p, 16);
	ready.fd = umm_fence_eventfd(fence);
	ready.events = POLLIN;
	assert_true(ready.fd >= 0);
	assert_true(ref_gate_wait(ref, REF_GATE_SIGNAL, PATIENCE_MS));
	assert_int_equal(umm_fence_poll(fence), -EAGAIN);
	assert_int_equal(umm_fence_wait(fence, 0), -ETIME);
	assert_int_equal(umm_fence_wait(fence, 20), -ETIME);
	assert_int_equal(umm_fence_value(fence), 0);
	assert_int_equal(poll(&ready, 1, 0), 0);
	assert_state(e, p, 16, UMM_PAGE_MIGRATING);
	ref_gate_open(ref, REF_GATE_SIGNAL);
	assert_int_equal(poll(&ready, 1, PATIENCE_MS), 1);
	assert_int_equal(umm_fence_poll(fence), 0);
	assert_int_equal(umm_fence_value(fence), 16);
	close(ready.fd);
	umm_fence_put(fence);
	assert_state(e, p, 16, env_home(e));
	assert_filled(p, 16, 1);
}

static void fence_may_be_dropped_before_the_end(struct env *e)
{
	struct ref_device *ref = env_device(e, 64);
	char *p = env_alloc_small(e, 16 * PAGE);

	fill(p, 16, 1);
	ref_gate_close(ref, REF_GATE_COPY);
	umm_fence_put(migrate_start(e, ref, p, 16));
	ref_gate_open(ref, REF_GATE_COPY);
	wait_until(count_state(e, p, 16, env_home(e)) == 16);
	assert_filled(p, 16, 1);
}

static void several_blocks_are_in_flight_at_a_time(struct env *e)
{
	struct ref_device *ref = env_device(e, 4 * BLOCK_PAGES);
	char *p = env_alloc(e, 4 * BLOCK);
	struct umm_fence *fence;

	fill(p, 4 * BLOCK_PAGES, 1);
	ref_gate_close(ref, REF_GATE_COPY);
	fence = migrate_start(e, ref, p, 4 * BLOCK_PAGES);
	wait_until(count_state(e, p, 4 * BLOCK_PAGES, UMM_PAGE_MIGRATING) >= 2 * BLOCK_PAGES);
	ref_gate_open(ref, REF_GATE_COPY);
	assert_int_equal(umm_fence_wait(fence, -1), 0);
	assert_int_equal(umm_fence_value(fence), 4 * BLOCK_PAGES);
	umm_fence_put(fence);
	assert_filled(p, 4 * BLOCK_PAGES, 1);
}

/* ---- trouble ------------------------------------------------------------------------ */

static void device_that_takes_nothing_leaves_pages_where_they_are(struct env *e)
{
	struct ref_device *ref = env_device(e, 64);
	char *p = env_alloc_small(e, 16 * PAGE);
	bool refuse;

	fill(p, 16, 1);
	for (refuse = false;; refuse = true) {
		ref_fail(ref, &(struct ref_failure){
				      .error = -EIO, .to_device = true, .refuse = refuse });
		assert_int_equal(migrate(e, ref, p, 16, 0), -EIO);
		assert_state(e, p, 16, UMM_PAGE_SYSTEM);
		assert_free_frames(ref, 64);
		assert_filled(p, 16, 1);
		if (refuse)
			break;
	}
	ref_fail(ref, NULL);
	to_device(e, ref, p, 16, 16);
	assert_filled(p, 16, 1);
}

static void frame_that_takes_nothing_costs_no_data(struct env *e)
{
	struct ref_device *ref = env_device(e, 64);
	char *p = env_alloc_small(e, 64 * PAGE);
	long moved;

	fill(p, 64, 1);
	ref_fail(ref, &(struct ref_failure){
			      .error = -EIO, .to_device = true, .frame = 20, .nframes = 1 });
	moved = migrate(e, ref, p, 64, 0);
	assert_true(moved == -EIO || (moved >= 0 && moved <= 63));
	assert_int_equal(count_state(e, p, 64, env_home(e)), moved < 0 ? 0 : moved);
	ref_fail(ref, NULL);
	assert_filled(p, 64, 1);
}

#define RING_BUFFERS 0 /* IORING_REGISTER_BUFFERS */

static void pages_pinned_by_others_stay(struct env *e)
{
	struct ref_device *ref = env_device(e, 64);
	struct io_uring_params params = { 0 };
	char *p = env_alloc_small(e, 16 * PAGE);
	struct {
		void *base;
		size_t len;
	} buffer = { p + 6 * PAGE, PAGE };
	int ring;

	if (!(e->ctx->features & UMM_KERNEL_MOVE))
		env_skip("only UFFDIO_MOVE tells that a page is pinned");
	fill(p, 16, 1);
	ring = (int)syscall(SYS_io_uring_setup, 1, &params);
	if (ring < 0 || syscall(SYS_io_uring_register, ring, RING_BUFFERS, &buffer, 1))
		env_skip("io_uring cannot pin a page here: %s", strerror(errno));
	env_mark(e);
	to_device(e, ref, p, 16, 15);
	assert_state(e, p + 6 * PAGE, 1, UMM_PAGE_SYSTEM);
	assert_true(env_delta(e, UMM_COUNT_BUSY) >= 1);
	assert_filled(p, 16, 1);
	close(ring);
	/* The ring goes away in its own time. */
	wait_until(migrate(e, ref, p + 6 * PAGE, 1, 0) == 1);
	assert_filled(p, 16, 1);
}

/* Not for ever again, where there is more than fits in at a time. */
static void a_destination_that_refuses_ends_the_request(struct env *e)
{
	const struct ref_failure broken = { .error = -EIO, .to_device = true };
	struct ref_device *ref = env_device(e, 8);
	char *p = env_alloc_small(e, 32 * PAGE);

	fill(p, 32, 1);
	assert_int_equal(ref_fail(ref, &broken), 0);
	assert_int_equal(migrate(e, ref, p, 32, 0), -EIO);
	assert_true(ref_counts(ref).calls <= 4);
	assert_state(e, p, 32, UMM_PAGE_SYSTEM);
	assert_free_frames(ref, 8);
	assert_filled(p, 32, 1);
}

static void a_destination_refuses_the_pages_of_each_source_once(struct env *e)
{
	const struct ref_failure broken = { .error = -EIO, .to_device = true };
	struct ref_device *a = env_device(e, 16), *b = env_device(e, 16), *c = env_device(e, 64);
	char *p = env_alloc_small(e, 32 * PAGE);

	fill(p, 32, 1);
	to_device(e, a, p, 16, 16);
	to_device(e, b, p + 16 * PAGE, 16, 16);
	assert_int_equal(ref_fail(c, &broken), 0);
	assert_int_equal(migrate(e, c, p, 32, 0), -EIO);
	assert_int_equal(ref_counts(c).failures, 2);
	assert_state(e, p, 32, env_home(e));
	assert_free_frames(c, 64);
	assert_filled(p, 32, 1);
}

static const struct test_case cases[] = {
	TEST(ALL, a_destination_that_refuses_ends_the_request),
	TEST(ALL, a_destination_refuses_the_pages_of_each_source_once),
	TEST(ALL, round_trip_keeps_data_and_counts_pages),
	TEST(ALL, ten_round_trips_with_stores_from_both_sides),
	TEST(ALL, what_the_device_wrote_is_seen_by_cpu_touches),
	TEST(ALL, half_brought_back_by_the_cpu_migrates_again),
	TEST(ALL, pages_that_are_there_stay_there),
	TEST(ALL, empty_pages_are_cleared_not_copied),
	TEST(ALL, empty_and_used_pages_mixed),
	TEST(ALL, huge_page_moves_as_one_copy),
	TEST(ALL, where_the_host_gives_no_huge_page_small_ones_come_home),
	TEST(ALL, empty_block_is_cleared_in_one_piece),
	TEST(ALL, scattered_pages_move_alone),
	TEST(ALL, spans_grow_to_whole_pages),
	TEST(ALL, overlapping_spans_move_each_page_once),
	TEST(ALL, holes_and_foreign_memory_are_passed_over),
	TEST(ONCE, requests_with_bad_arguments_are_refused),
	TEST(ONCE, spans_beyond_the_address_space_are_einval),
	TEST(ALL, several_homes_gather_on_one_device),
	TEST(ALL, page_of_one_device_is_asked_for_by_another),
	TEST(ALL, memory_of_two_kinds_on_one_device),
	TEST(ALL, bring_home_brings_everything_home),
	TEST(ALL, fence_of_a_migration_tells_the_number_of_pages),
	TEST(ASYNC, fence_waits_for_the_copies),
	TEST(ASYNC, fence_may_be_dropped_before_the_end),
	TEST(ASYNC, several_blocks_are_in_flight_at_a_time),
	TEST(ALL, device_that_takes_nothing_leaves_pages_where_they_are),
	TEST(ALL, frame_that_takes_nothing_costs_no_data),
	TEST(ALL, pages_pinned_by_others_stay),
};

int main(int argc, char **argv)
{
	return harness_main("test_migrate", cases, sizeof(cases) / sizeof(cases[0]), argc, argv);
}
