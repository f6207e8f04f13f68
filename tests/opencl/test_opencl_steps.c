/* SPDX-License-Identifier: MIT */
/*
 * Launches that miss much at first: a part of it comes, and the next part while the work-items
 * run whose pages are there.
 */
#include "rig.h"

#define ITEM_PAGES ((size_t)4)
#define ITEM_WORDS (ITEM_PAGES * PAGE / 4)
#define STEPS	   8
#define NITEMS	   (STEPS * 1024 / ITEM_PAGES) /* the fewest that go in steps */

/* One for all launches of a test: how the next one goes is chosen by what is known of a kernel. */
static cl_kernel sums;

static void open_rig(struct rig *rig, size_t device_bytes, const char *steps)
{
	setenv("UMM_OPENCL_STEPS", steps, 1);
	rig_open_counting(rig, device_bytes);
	sums = rig_kernel(rig, "sum_spans");
}

static struct umm_opencl_result sum(struct rig *rig, const uint32_t *in, const uint32_t *then,
				    const uint32_t *out, size_t nitems)
{
	rig_ulong(sums, 0, (uintptr_t)in);
	rig_ulong(sums, 1, (uintptr_t)then);
	rig_ulong(sums, 2, ITEM_WORDS);
	rig_ulong(sums, 3, (uintptr_t)out);
	return rig_launch(rig, sums, nitems);
}

/* Of numbered words, `times` over. */
static void assert_sums(const uint32_t *out, size_t nitems, uint32_t times)
{
	for (size_t i = 0; i < nitems; i++) {
		uint64_t first = i * ITEM_WORDS, last = first + ITEM_WORDS - 1;

		assert_int_equal(out[i], (uint32_t)((first + last) * ITEM_WORDS / 2) * times);
	}
}

/* So that storing the results misses nothing. */
static void bring_results(struct rig *rig, const uint32_t *out, size_t nitems)
{
	cl_kernel kernel = rig_kernel(rig, "store");

	rig_ulong(kernel, 0, (uintptr_t)out);
	rig_ulong(kernel, 1, PAGE);
	rig_uint(kernel, 2, 0);
	rig_launch(rig, kernel, (4 * nitems + PAGE - 1) / PAGE);
}

static void what_is_missed_at_first_comes_in_steps(void **state)
{
	struct rig *rig = *state;
	struct umm_opencl_result result;
	uint32_t *in, *out;

	open_rig(rig, 64 * MIB, "always");
	in = rig_numbered(rig, NITEMS * ITEM_PAGES);
	out = rig_alloc(rig, 4 * NITEMS);
	bring_results(rig, out, NITEMS);
	result = sum(rig, in, NULL, out, NITEMS);
	assert_int_equal(result.rounds, 1 + STEPS);
	assert_int_equal(result.faults, NITEMS * ITEM_PAGES);
	assert_int_equal(result.pages_migrated, NITEMS * ITEM_PAGES);
	assert_int_equal(result.pages_readahead, 0);
	assert_int_equal(result.items_replayed, NITEMS);
	assert_sums(out, NITEMS, 1);
	/* All of it is in the table. */
	result = sum(rig, in, NULL, out, NITEMS / 2);
	assert_int_equal(result.faults, (4 * NITEMS / 2 + PAGE - 1) / PAGE);
}

static void results_that_are_missed_besides_do_not_end_the_steps(void **state)
{
	struct rig *rig = *state;
	struct umm_opencl_result result;
	uint32_t *in, *out;

	open_rig(rig, 64 * MIB, "always");
	in = rig_numbered(rig, NITEMS * ITEM_PAGES);
	out = rig_alloc(rig, 4 * NITEMS);
	result = sum(rig, in, NULL, out, NITEMS);
	assert_in_range(result.rounds, 1 + STEPS + 1, 1 + 2 * STEPS);
	assert_int_equal(result.pages_migrated,
			 NITEMS * ITEM_PAGES + (4 * NITEMS + PAGE - 1) / PAGE);
	assert_sums(out, NITEMS, 1);
}

static void work_items_that_miss_more_later_go_on_together(void **state)
{
	struct rig *rig = *state;
	struct umm_opencl_result result;
	uint32_t *in, *then, *out;

	open_rig(rig, 96 * MIB, "always");
	in = rig_numbered(rig, NITEMS * ITEM_PAGES);
	then = rig_numbered(rig, NITEMS * ITEM_PAGES);
	out = rig_alloc(rig, 4 * NITEMS);
	bring_results(rig, out, NITEMS);
	result = sum(rig, in, then, out, NITEMS);
	/* All; the first step; all of them; those that were not in the first step. */
	assert_int_equal(result.rounds, 4);
	assert_int_equal(result.pages_migrated, 2 * NITEMS * ITEM_PAGES);
	assert_sums(out, NITEMS, 2);
}

static void steps_go_through_less_memory_than_they_need_together(void **state)
{
	struct rig *rig = *state;
	struct umm_opencl_result result;
	size_t nitems = 2 * NITEMS;
	uint32_t *words;
	cl_kernel kernel;

	open_rig(rig, 32 * MIB, "always");
	words = rig_numbered(rig, nitems * ITEM_PAGES);
	kernel = rig_kernel(rig, "fill_spans");
	rig_ulong(kernel, 0, (uintptr_t)words);
	rig_ulong(kernel, 1, ITEM_WORDS);
	for (uint32_t value = 0; value < 2; value++) {
		rig_uint(kernel, 2, value);
		result = rig_launch(rig, kernel, nitems);
		assert_in_range(result.rounds, STEPS, 4 * STEPS);
		assert_in_range(result.pages_migrated, nitems * ITEM_PAGES / 2,
				nitems * ITEM_PAGES);
	}
	for (size_t i = 0; i < nitems * ITEM_WORDS; i++)
		assert_int_equal(words[i], i / ITEM_WORDS + 1);
}

static void launches_of_many_work_items_do_not_go_in_steps(void **state)
{
	struct rig *rig = *state;
	size_t npages = STEPS * 1024;
	struct umm_opencl_result result;
	cl_kernel kernel;
	uint32_t *in;

	open_rig(rig, 64 * MIB, "always");
	in = rig_numbered(rig, npages);
	kernel = rig_kernel(rig, "load");
	rig_ulong(kernel, 0, (uintptr_t)in);
	rig_ulong(kernel, 1, PAGE);
	result = rig_launch(rig, kernel, npages);
	assert_int_equal(result.rounds, 2);
	assert_int_equal(result.pages_migrated, npages);
}

/* Each kernel, and each size of its launches, is measured by itself. */
static void launches_of_two_sizes_do_not_forget_each_other(void **state)
{
	static const size_t sizes[] = { NITEMS, NITEMS + 64 };
	struct rig *rig = *state;
	uint32_t *in, *out;

	open_rig(rig, 64 * MIB, "auto");
	in = rig_numbered(rig, sizes[1] * ITEM_PAGES);
	out = rig_alloc(rig, 4 * sizes[1]);
	for (unsigned turn = 0; turn < 2; turn++)
		for (unsigned i = 0; i < 2; i++) {
			bring_results(rig, out, sizes[1]);
			assert_int_equal(sum(rig, in, NULL, out, sizes[i]).rounds,
					 turn ? 1 + STEPS : 2);
			assert_int_equal(umm_migrate_to_system(rig->ctx, in,
							       sizes[i] * ITEM_PAGES * PAGE),
					 0);
		}
}

/* The first launch of a kernel goes as ever, the second in steps, the third as the first. */
static void both_ways_are_tried(void **state)
{
	struct rig *rig = *state;
	struct umm_opencl_result result;
	uint32_t *in, *out;

	open_rig(rig, 64 * MIB, "auto");
	in = rig_numbered(rig, NITEMS * ITEM_PAGES);
	out = rig_alloc(rig, 4 * NITEMS);
	for (unsigned i = 0; i < 5; i++) {
		bring_results(rig, out, NITEMS);
		result = sum(rig, in, NULL, out, NITEMS);
		if (i < 3)
			assert_int_equal(result.rounds, i == 1 ? 1 + STEPS : 2);
		else
			assert_true(result.rounds == 2 || result.rounds == 1 + STEPS);
		assert_int_equal(result.pages_migrated, NITEMS * ITEM_PAGES);
		assert_sums(out, NITEMS, 1);
		assert_int_equal(umm_migrate_to_system(rig->ctx, in, NITEMS * ITEM_PAGES * PAGE),
				 0);
	}
}

/* There is no room for it: steps come first. */
static void what_misses_more_than_there_is_room_for_goes_in_steps_at_once(void **state)
{
	struct rig *rig = *state;
	struct umm_opencl_result result;
	size_t nitems = 2 * NITEMS;
	uint32_t *in, *out;

	open_rig(rig, 32 * MIB, "auto");
	in = rig_numbered(rig, nitems * ITEM_PAGES);
	out = rig_alloc(rig, 4 * nitems);
	for (unsigned i = 0; i < 3; i++) {
		result = sum(rig, in, NULL, out, nitems);
		if (i == 1)
			assert_in_range(result.rounds, 2, 2 * STEPS);
		else
			assert_in_range(result.rounds, 1 + 2 * STEPS, 5 * STEPS);
		assert_sums(out, nitems, 1);
		umm_migrate_to_system(rig->ctx, in, nitems * ITEM_PAGES * PAGE);
	}
}

/* Pages that a work-item asks for one at a time, and those of all of them together. */
#define GATHERED  ((size_t)8)
#define GATHERERS ((size_t)2048)

/* A launch in which each page is asked for once. */
static struct umm_opencl_result gather(struct rig *rig, cl_kernel kernel, const uint32_t *in,
				       const uint32_t *out)
{
	struct umm_opencl_result result;

	rig_ulong(kernel, 0, (uintptr_t)in);
	rig_ulong(kernel, 1, GATHERED);
	rig_ulong(kernel, 2, PAGE);
	rig_ulong(kernel, 3, GATHERED * PAGE);
	rig_ulong(kernel, 4, (uintptr_t)out);
	result = rig_launch(rig, kernel, GATHERERS);
	for (size_t i = 0; i < GATHERERS; i++) {
		size_t first = i * GATHERED * PAGE / 4;
		size_t sum = GATHERED * first + GATHERED * (GATHERED - 1) / 2 * (PAGE / 4);

		assert_int_equal(out[i], (uint32_t)sum);
	}
	return result;
}

/* By evictions, in the first launch; others begin where that ended. */
static void how_many_work_items_memory_is_enough_for_is_remembered(void **state)
{
	struct rig *rig = *state;
	size_t npages = GATHERERS * GATHERED;
	struct umm_opencl_result first, result;
	uint32_t *in, *out;
	cl_kernel kernel;

	open_rig(rig, npages / 4 * PAGE, "auto");
	in = rig_numbered(rig, npages);
	out = rig_alloc(rig, 4 * GATHERERS);
	kernel = rig_kernel(rig, "sum");
	first = gather(rig, kernel, in, out);
	assert_true(first.pages_migrated > npages + npages / 2);
	for (unsigned i = 0; i < 3; i++) {
		result = gather(rig, kernel, in, out);
		assert_in_range(result.pages_migrated, npages / 2, npages + npages / 8);
	}
}

/* Then windows would only cost rounds. */
static void what_is_remembered_is_forgotten_where_nothing_is_missing(void **state)
{
	struct rig *rig = *state;
	size_t npages = GATHERERS * GATHERED;
	struct umm_opencl_result result;
	uint32_t *in, *out, *one;
	cl_kernel kernel;

	open_rig(rig, npages / 4 * PAGE, "auto");
	in = rig_numbered(rig, npages);
	out = rig_alloc(rig, 4 * GATHERERS);
	one = rig_numbered(rig, GATHERED);
	kernel = rig_kernel(rig, "sum");
	gather(rig, kernel, in, out);
	/* All of them the same pages. */
	rig_ulong(kernel, 0, (uintptr_t)one);
	rig_ulong(kernel, 3, 0);
	rig_launch(rig, kernel, GATHERERS);
	result = rig_launch(rig, kernel, GATHERERS);
	assert_int_equal(result.faults, 0);
	assert_int_equal(result.rounds, 1);
}

static void steps_can_be_ruled_out(void **state)
{
	struct rig *rig = *state;
	uint32_t *in, *out;

	open_rig(rig, 64 * MIB, "never");
	in = rig_numbered(rig, NITEMS * ITEM_PAGES);
	out = rig_alloc(rig, 4 * NITEMS);
	bring_results(rig, out, NITEMS);
	for (unsigned i = 0; i < 3; i++) {
		assert_int_equal(sum(rig, in, NULL, out, NITEMS).rounds, 2);
		assert_int_equal(umm_migrate_to_system(rig->ctx, in, NITEMS * ITEM_PAGES * PAGE),
				 0);
	}
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		rig_test(what_is_missed_at_first_comes_in_steps),
		rig_test(results_that_are_missed_besides_do_not_end_the_steps),
		rig_test(work_items_that_miss_more_later_go_on_together),
		rig_test(steps_go_through_less_memory_than_they_need_together),
		rig_test(launches_of_many_work_items_do_not_go_in_steps),
		rig_test(launches_of_two_sizes_do_not_forget_each_other),
		rig_test(both_ways_are_tried),
		rig_test(what_misses_more_than_there_is_room_for_goes_in_steps_at_once),
		rig_test(how_many_work_items_memory_is_enough_for_is_remembered),
		rig_test(what_is_remembered_is_forgotten_where_nothing_is_missing),
		rig_test(steps_can_be_ruled_out),
	};

	return rig_main("opencl-steps", tests, argc, argv);
}
