/* SPDX-License-Identifier: MIT */
/*
 * Pages between the CPU and an OpenCL device: who sees whose writes, how many pages
 * move for it, more data than device memory, and both sides at once.
 */
#include "rig.h"

#include <pthread.h>
#include <stdatomic.h>
#include <sys/mman.h>

#define WORDS (PAGE / 4)

static void set_map(cl_kernel kernel, const void *in, const void *out)
{
	rig_ulong(kernel, 0, (uintptr_t)in);
	rig_ulong(kernel, 1, (uintptr_t)out);
}

static void set_store(cl_kernel kernel, const void *addr, size_t step, uint32_t value)
{
	rig_ulong(kernel, 0, (uintptr_t)addr);
	rig_ulong(kernel, 1, step);
	rig_uint(kernel, 2, value);
}

static void set_sum(cl_kernel kernel, const void *in, size_t n, size_t step, size_t stride,
		    const void *out)
{
	rig_ulong(kernel, 0, (uintptr_t)in);
	rig_ulong(kernel, 1, n);
	rig_ulong(kernel, 2, step);
	rig_ulong(kernel, 3, stride);
	rig_ulong(kernel, 4, (uintptr_t)out);
}

static uint32_t word(size_t i, uint32_t seed)
{
	return (uint32_t)i * 2654435761u + seed;
}

static void fill(uint32_t *words, size_t n, uint32_t seed)
{
	for (size_t i = 0; i < n; i++)
		words[i] = word(i, seed);
}

static void only_pages_that_are_touched_move(void **state)
{
	struct rig *rig = *state;
	struct umm_opencl_result result;
	cl_kernel kernel;
	uint32_t *memory;

	rig_open_counting(rig, 8 * MIB);
	kernel = rig_kernel(rig, "store");
	memory = rig_alloc(rig, 1000 * PAGE);
	fill(memory, 1000 * WORDS, 1);
	/* Every tenth page of 1000. */
	set_store(kernel, memory, 10 * PAGE, 7);
	result = rig_launch(rig, kernel, 100);
	assert_int_equal(result.rounds, 2);
	assert_int_equal(result.faults, 100);
	assert_int_equal(result.pages_migrated, 100);
	assert_int_equal(result.items_replayed, 100);
	assert_int_equal(rig_device_pages(rig), 100);
	assert_int_equal(rig_pages_in(rig, memory, 1000 * PAGE, UMM_PAGE_DEVICE), 100);
	assert_int_equal(rig_count(rig, UMM_COUNT_TO_DEVICE + UMM_CAUSE_DEVICE_FAULT), 100);
	assert_int_equal(rig_count(rig, UMM_COUNT_BYTES_TO_DEVICE), 100 * PAGE);
	/* Resident: one round, nothing moves. */
	result = rig_launch(rig, kernel, 100);
	assert_int_equal(result.rounds, 1);
	assert_int_equal(result.faults, 0);
	assert_int_equal(rig_count(rig, UMM_COUNT_TO_DEVICE + UMM_CAUSE_DEVICE_FAULT), 100);
}

static void device_writes_come_home_page_by_page(void **state)
{
	struct rig *rig = *state;
	cl_kernel kernel;
	uint32_t *memory;

	rig_open(rig, 8 * MIB, &rig_exact);
	rig_build(rig);
	kernel = rig_kernel(rig, "store");
	memory = rig_alloc(rig, 64 * PAGE);
	fill(memory, 64 * WORDS, 1);
	set_store(kernel, memory, PAGE, 1234);
	rig_launch(rig, kernel, 64);
	for (uint32_t i = 0; i < 64; i++) {
		assert_int_equal(memory[i * WORDS], 1234);
		assert_int_equal(memory[i * WORDS + 1], word(i * WORDS + 1, 1));
		rig_eventually(rig_count(rig, UMM_COUNT_TO_SYSTEM + UMM_CAUSE_CPU_FAULT) == i + 1);
		rig_eventually(rig_device_pages(rig) == 63 - i);
	}
	assert_int_equal(rig_count(rig, UMM_COUNT_BYTES_FROM_DEVICE), 64 * PAGE);
	assert_int_equal(rig_pages_in(rig, memory, 64 * PAGE, UMM_PAGE_SYSTEM), 64);
}

static void cpu_writes_between_launches_are_seen(void **state)
{
	struct rig *rig = *state;
	struct umm_opencl_result result;
	uint32_t *in, *out;
	size_t n = 40 * WORDS;
	cl_kernel kernel;

	rig->flags = UMM_OPENCL_REPLAY;
	rig_open(rig, 8 * MIB, NULL);
	rig_build(rig);
	kernel = rig_kernel(rig, "map");
	in = rig_alloc(rig, n * 4);
	out = rig_alloc(rig, n * 4);
	set_map(kernel, in, out);
	for (uint32_t turn = 0; turn < 10; turn++) {
		fill(in, n, turn);
		rig_launch(rig, kernel, n);
		for (size_t i = 0; i < n; i++)
			assert_int_equal(out[i], 3 * in[i] + 1);
		/* One word changes: one page comes home, and goes back. */
		in[turn * 4000] = turn;
		result = rig_launch(rig, kernel, n);
		assert_int_equal(out[turn * 4000], 3 * turn + 1);
		assert_in_range(result.rounds, 2, 4);
	}
}

static void untouched_memory_reads_zero_and_is_cleared_on_the_device(void **state)
{
	struct rig *rig = *state;
	uint32_t *in, *out;
	cl_kernel kernel;

	rig_open(rig, 4 * MIB, &rig_exact);
	rig_build(rig);
	kernel = rig_kernel(rig, "map");
	in = rig_alloc(rig, 16 * PAGE);
	out = rig_alloc(rig, 16 * PAGE);
	/* Frames that were used before must not show through. */
	fill(in, 16 * WORDS, 3);
	set_map(kernel, in, out);
	rig_launch(rig, kernel, 16 * WORDS);
	assert_int_equal(umm_free(rig->ctx, in), 0);
	assert_int_equal(umm_free(rig->ctx, out), 0);
	assert_int_equal(rig_device_pages(rig), 0);
	in = rig_alloc(rig, 16 * PAGE);
	out = rig_alloc(rig, 16 * PAGE);
	set_map(kernel, in, out);
	rig_launch(rig, kernel, 16 * WORDS);
	assert_in_range(rig_count(rig, UMM_COUNT_CLEARED), 32, 64);
	for (size_t i = 0; i < 16 * WORDS; i++)
		assert_int_equal(out[i], 1);
	assert_int_equal(rig_sum(in, 16 * WORDS), 0);
}

static void what_was_prefetched_costs_no_migration(void **state)
{
	struct rig *rig = *state;
	struct umm_opencl_result result;
	size_t npages = 1200; /* less than half of the memory: one round serves them all */
	uint32_t *memory;
	cl_kernel kernel;

	rig_open_counting(rig, 16 * MIB);
	kernel = rig_kernel(rig, "store");
	memory = rig_alloc(rig, npages * PAGE);
	fill(memory, npages * WORDS, 5);
	assert_int_equal(umm_migrate_to_device(rig->ctx, umm_opencl_devmem(rig->ocl), memory,
					       npages * PAGE),
			 npages);
	set_store(kernel, memory, PAGE, 6);
	result = rig_launch(rig, kernel, npages);
	assert_int_equal(result.pages_migrated, 0);
	assert_int_equal(result.rounds, 2);
	for (size_t i = 0; i < npages; i++)
		assert_int_equal(memory[i * WORDS], 6);
}

static void a_sequential_reader_is_read_ahead_of(void **state)
{
	struct rig *rig = *state;
	struct umm_opencl_result result;
	size_t npages = 512;
	uint32_t *memory, *out, sum = 0;
	cl_kernel kernel;

	rig->flags = UMM_OPENCL_REPLAY;
	rig_open(rig, 8 * MIB, NULL);
	rig_build(rig);
	kernel = rig_kernel(rig, "sum");
	memory = rig_alloc(rig, npages * PAGE);
	out = rig_alloc(rig, PAGE);
	fill(memory, npages * WORDS, 9);
	/* Eight words of each page: llvmpipe ends a loop after 65535 turns. */
	set_sum(kernel, memory, npages * 8, PAGE / 8, 0, out);
	result = rig_launch(rig, kernel, 1);
	for (size_t i = 0; i < npages * 8; i++)
		sum += memory[i * WORDS / 8];
	assert_int_equal(*out, sum);
	/* Doubling up to 64 pages, then 64 at a time; not one round for each page. */
	assert_in_range(result.rounds, 8, 24);
	assert_in_range(result.pages_readahead, 400, 512);
	/* The last of it ends with the memory. */
	assert_true(result.pages_migrated <= npages + 1);
}

static void more_faults_than_the_buffer_holds_take_more_rounds(void **state)
{
	struct rig *rig = *state;
	struct umm_opencl_options options = rig_exact;
	struct umm_opencl_result result;
	uint32_t *memory;
	cl_kernel kernel;

	options.fault_entries = 16;
	rig->flags = UMM_OPENCL_REPLAY;
	rig_open(rig, 8 * MIB, &options);
	rig_build(rig);
	kernel = rig_kernel(rig, "store");
	memory = rig_alloc(rig, 500 * PAGE);
	set_store(kernel, memory, PAGE, 31);
	result = rig_launch(rig, kernel, 500);
	assert_int_equal(result.faults, 500);
	assert_int_equal(result.pages_migrated, 500);
	assert_in_range(result.rounds, 33, 40);
	for (size_t i = 0; i < 500; i++)
		assert_int_equal(memory[i * WORDS], 31);
}

static void duplicated_pages_are_read_by_both_and_written_by_either(void **state)
{
	struct rig *rig = *state;
	uint32_t *in, *out;
	struct umm_span span;
	struct umm_migrate_request request = { .size = sizeof(request), .nspans = 1 };
	size_t n = 20 * WORDS;
	cl_kernel kernel;

	rig_open(rig, 4 * MIB, &rig_exact);
	rig_build(rig);
	kernel = rig_kernel(rig, "map");
	in = rig_alloc(rig, n * 4);
	out = rig_alloc(rig, n * 4);
	fill(in, n, 33);
	span = (struct umm_span){ .start = (uintptr_t)in, .len = n * 4 };
	request.flags = UMM_MIGRATE_DUPLICATE;
	request.spans = &span;
	request.dst = umm_opencl_devmem(rig->ocl);
	assert_int_equal(umm_migrate_spans(rig->ctx, &request, NULL), 20);
	assert_int_equal(rig_pages_in(rig, in, n * 4, UMM_PAGE_DUPLICATED), 20);
	set_map(kernel, in, out);
	rig_launch(rig, kernel, n);
	for (size_t i = 0; i < n; i++)
		assert_true(in[i] == word(i, 33) && out[i] == 3 * in[i] + 1);
	assert_int_equal(rig_pages_in(rig, in, n * 4, UMM_PAGE_DUPLICATED), 20);
	/* The CPU writes one: the device's copy of it must not be used again. */
	in[5 * WORDS] = 1000;
	rig_launch(rig, kernel, n);
	assert_int_equal(out[5 * WORDS], 3001);
	assert_int_equal(out[6 * WORDS], 3 * word(6 * WORDS, 33) + 1);
	/* The device writes them all. */
	set_map(kernel, in, in);
	rig_launch(rig, kernel, n);
	assert_int_equal(rig_pages_in(rig, in, n * 4, UMM_PAGE_DUPLICATED), 0);
	assert_int_equal(in[5 * WORDS], 3001);
	assert_int_equal(in[6 * WORDS], 3 * word(6 * WORDS, 33) + 1);
}

static void four_times_the_device_memory_is_right_and_evicts(void **state)
{
	struct rig *rig = *state;
	size_t n = 8 * MIB / 4; /* twice */
	struct umm_opencl_result result;
	uint32_t *in, *out;
	cl_kernel kernel;

	rig_open(rig, 4 * MIB, NULL);
	rig_build(rig);
	kernel = rig_kernel(rig, "map");
	in = rig_alloc(rig, n * 4);
	out = rig_alloc(rig, n * 4);
	fill(in, n, 11);
	set_map(kernel, in, out);
	result = rig_launch(rig, kernel, n);
	assert_true(rig_count(rig, UMM_COUNT_EVICTIONS) > 0);
	assert_true(rig_device_pages(rig) <= 4 * MIB / PAGE);
	assert_true(result.pages_migrated >= 2 * n / WORDS);
	for (size_t i = 0; i < n; i++)
		assert_true(in[i] == word(i, 11) && out[i] == 3 * in[i] + 1);
}

static void a_device_of_less_than_a_block_works(void **state)
{
	struct rig *rig = *state;
	size_t n = 256 * WORDS;
	uint32_t *in, *out;
	cl_kernel kernel;

	rig_open(rig, 64 * PAGE, NULL);
	rig_build(rig);
	kernel = rig_kernel(rig, "map");
	in = rig_alloc(rig, n * 4);
	out = rig_alloc(rig, n * 4);
	fill(in, n, 13);
	set_map(kernel, in, out);
	rig_launch(rig, kernel, n);
	assert_true(rig_count(rig, UMM_COUNT_EVICTIONS) > 0);
	for (size_t i = 0; i < n; i++)
		assert_true(out[i] == 3 * in[i] + 1);
}

static void work_items_that_need_most_of_the_device_each_take_turns(void **state)
{
	struct rig *rig = *state;
	size_t items = 24, npages = 40; /* of 64 */
	uint32_t *memory, *out;
	cl_kernel kernel;

	rig_open(rig, 64 * PAGE, &rig_exact);
	rig_build(rig);
	kernel = rig_kernel(rig, "sum");
	memory = rig_alloc(rig, items * npages * PAGE);
	out = rig_alloc(rig, PAGE);
	fill(memory, items * npages * WORDS, 15);
	set_sum(kernel, memory, npages, PAGE, npages * PAGE, out);
	rig_launch(rig, kernel, items);
	for (size_t k = 0; k < items; k++) {
		uint32_t sum = 0;

		for (size_t i = 0; i < npages; i++)
			sum += memory[(k * npages + i) * WORDS];
		assert_int_equal(out[k], sum);
	}
}

static void one_work_item_that_needs_too_much_is_enospc(void **state)
{
	struct rig *rig = *state;
	struct umm_opencl_result result;
	uint32_t *memory, *out;
	cl_kernel kernel;

	rig_open(rig, 64 * PAGE, NULL);
	rig_build(rig);
	kernel = rig_kernel(rig, "sum");
	memory = rig_alloc(rig, 100 * PAGE);
	out = rig_alloc(rig, PAGE);
	fill(memory, 100 * WORDS, 17);
	/* 65 pages at once, 64 is all there is; several work-items, too. */
	set_sum(kernel, memory, 65, PAGE, 0, out);
	for (size_t items = 1; items <= 9; items += 8) {
		rig_logged("");
		assert_int_equal(rig_try(rig, kernel, items, &result), -ENOSPC);
		assert_true(result.fault_valid);
		assert_true(rig_logged("needs more pages at once than the device's 64"));
	}
	/* 63 and the result's page are possible. */
	set_sum(kernel, memory, 63, PAGE, 0, out);
	rig_launch(rig, kernel, 1);
	assert_int_equal(rig_pages_in(rig, memory, 100 * PAGE, UMM_PAGE_POISONED), 0);
	assert_int_equal(memory[99 * WORDS], word(99 * WORDS, 17));
}

static uint32_t first_words(const char *start, size_t npages)
{
	uint32_t sum = 0, word;

	for (size_t i = 0; i < npages; i++) {
		memcpy(&word, start + i * PAGE, sizeof(word));
		sum += word;
	}
	return sum;
}

/* Pages of two blocks, and the result's in a third: what goes, goes by whole blocks. */
static void what_lies_across_blocks_is_gathered_after_it_was_too_much(void **state)
{
	struct rig *rig = *state;
	struct umm_opencl_result result;
	char *memory = rig_alloc(rig, 3 * BLOCK), *middle, *start;
	uint32_t *out = (uint32_t *)rig_alloc(rig, 2 * BLOCK) + BLOCK / 4;
	cl_kernel kernel;

	middle = memory + BLOCK - (uintptr_t)memory % BLOCK + BLOCK;
	rig_open(rig, 64 * PAGE, NULL);
	rig_build(rig);
	kernel = rig_kernel(rig, "sum");
	for (size_t before = 1; before < 64; before += 10) {
		start = middle - before * PAGE;
		fill((uint32_t *)(void *)start, 65 * WORDS, 17);
		set_sum(kernel, start, 65, PAGE, 0, out);
		rig_logged("");
		assert_int_equal(rig_try(rig, kernel, 1, &result), -ENOSPC);
		assert_true(rig_logged("needs more pages at once than the device's 64"));
		set_sum(kernel, start, 63, PAGE, 0, out);
		result = rig_launch(rig, kernel, 1);
		/* What stayed where it is not needed did not stay for long. */
		assert_in_range(result.rounds, 2, 7);
		assert_int_equal(*out, first_words(start, 63));
	}
}

struct node {
	struct node *next;
	uint64_t value;
};

/* A list with a node in each of n pages, in no order, and what sum_list_on makes of it. */
static struct node *scattered_list(char *memory, size_t n, uint64_t seed, uint64_t *sum)
{
	struct node *head = NULL, *node;

	*sum = 0;
	for (size_t i = 0; i < n; i++) {
		node = (struct node *)(void *)(memory + i * 1009 % n * PAGE);
		node->next = head;
		node->value = seed + i;
		*sum += node->value * (n - i);
		head = node;
	}
	return head;
}

/* A plain buffer, where work-items keep how far they got. */
static cl_mem zeroes(struct rig *rig, size_t len)
{
	static const cl_ulong zero;
	cl_int err;
	cl_mem mem =
		clCreateBuffer(umm_opencl_cl_context(rig->ocl), CL_MEM_READ_WRITE, len, NULL, &err);

	assert_int_equal(err, CL_SUCCESS);
	assert_int_equal(clEnqueueFillBuffer(umm_opencl_cl_queue(rig->ocl), mem, &zero,
					     sizeof(zero), 0, len, 0, NULL, NULL),
			 CL_SUCCESS);
	return mem;
}

#define NLISTS	  3
#define LIST_LONG 900 /* pages, of which the device has next to none */

/* Work-items that keep how far they got need few pages at a time, and all in the end. */
static void follow_lists_with(struct rig *rig, size_t nframes)
{
	uint64_t *heads, *out, sums[NLISTS];
	struct umm_opencl_result result;
	cl_kernel kernel;
	cl_mem kept;
	char *lists;

	rig_open(rig, nframes * PAGE, &rig_exact);
	rig_build(rig);
	kernel = rig_kernel(rig, "sum_list_on");
	heads = rig_alloc(rig, PAGE);
	out = rig_alloc(rig, PAGE);
	lists = rig_alloc(rig, NLISTS * LIST_LONG * PAGE);
	for (size_t i = 0; i < NLISTS; i++)
		heads[i] = (uintptr_t)scattered_list(lists + i * LIST_LONG * PAGE, LIST_LONG,
						     i * 77, &sums[i]);
	kept = zeroes(rig, NLISTS * 32);
	rig_ulong(kernel, 0, (uintptr_t)heads);
	rig_ulong(kernel, 1, (uintptr_t)out);
	assert_int_equal(clSetKernelArg(kernel, UMM_OPENCL_ARGS + 2, sizeof(kept), &kept), 0);
	result = rig_launch(rig, kernel, NLISTS);
	clReleaseMemObject(kept);
	assert_true(result.pages_migrated >= NLISTS * LIST_LONG);
	for (size_t i = 0; i < NLISTS; i++)
		assert_int_equal(out[i], sums[i]);
}

static void one_frame_is_enough_for_work_items_that_go_on(void **state)
{
	follow_lists_with(*state, 1);
}

static void two_frames_are_enough_for_work_items_that_go_on(void **state)
{
	follow_lists_with(*state, 2);
}

static void what_a_work_item_asks_for_ahead_does_not_take_what_it_needs(void **state)
{
	struct rig *rig = *state;
	size_t npairs = 60;
	uint32_t *memory, *out, sum = 0;
	cl_kernel kernel;
	cl_mem kept;

	for (size_t nframes = 2; nframes <= 16; nframes += 7) {
		rig_open(rig, nframes * PAGE, &rig_exact);
		rig_build(rig);
		kernel = rig_kernel(rig, "sum_pairs_on");
		memory = rig_alloc(rig, 2 * npairs * PAGE);
		out = rig_alloc(rig, PAGE);
		fill(memory, 2 * npairs * WORDS, 37);
		kept = zeroes(rig, 8);
		rig_ulong(kernel, 0, (uintptr_t)memory);
		rig_uint(kernel, 1, (uint32_t)npairs);
		rig_ulong(kernel, 2, (uintptr_t)out);
		assert_int_equal(clSetKernelArg(kernel, UMM_OPENCL_ARGS + 3, sizeof(kept), &kept),
				 CL_SUCCESS);
		rig_launch(rig, kernel, 1);
		clReleaseMemObject(kept);
		for (size_t i = sum = 0; i < 2 * npairs; i++)
			sum += memory[i * WORDS];
		assert_int_equal(*out, sum);
		rig_close(rig);
	}
}

static void a_work_item_is_counted_once_however_many_pages_it_misses(void **state)
{
	struct rig *rig = *state;
	struct umm_opencl_result result;
	size_t items = 5, npages = 20;
	uint32_t *memory, *out;
	cl_kernel kernel;

	rig_open_counting(rig, 8 * MIB);
	kernel = rig_kernel(rig, "probe");
	memory = rig_alloc(rig, items * npages * PAGE);
	out = rig_alloc(rig, PAGE);
	fill(memory, items * npages * WORDS, 29);
	rig_ulong(kernel, 0, (uintptr_t)memory);
	rig_uint(kernel, 1, (uint32_t)npages);
	rig_ulong(kernel, 2, (uintptr_t)out);
	result = rig_launch(rig, kernel, items);
	/* All that is loaded comes in one round, what is stored to in another. */
	assert_int_equal(result.rounds, 3);
	assert_int_equal(result.faults, items * npages + 1);
	assert_int_equal(result.items_replayed, 2 * items);
	for (size_t k = 0; k < items; k++) {
		uint32_t sum = 0;

		for (size_t i = 0; i < npages; i++)
			sum += memory[(k * npages + i) * WORDS];
		assert_int_equal(out[k], sum);
	}
}

struct toucher {
	uint32_t *memory;
	size_t npages;
	atomic_bool stop;
	uint32_t writes;
};

/* Adds one to a word of its own in every page, over and over. */
static void *touch_all(void *priv)
{
	struct toucher *toucher = priv;

	while (!atomic_load(&toucher->stop)) {
		for (size_t i = 0; i < toucher->npages; i++)
			toucher->memory[i * WORDS + 1]++;
		toucher->writes++;
	}
	return NULL;
}

static void a_cpu_thread_and_launches_share_every_page(void **state)
{
	struct rig *rig = *state;
	struct umm_stats stats = { .size = sizeof(stats) };
	struct toucher toucher = { .npages = 48 };
	cl_kernel kernel;
	pthread_t thread;
	int ret = 0;

	rig_open(rig, 4 * MIB, NULL);
	rig_build(rig);
	kernel = rig_kernel(rig, "store");
	toucher.memory = rig_alloc(rig, toucher.npages * PAGE);
	assert_int_equal(pthread_create(&thread, NULL, touch_all, &toucher), 0);
	for (uint32_t turn = 1; turn <= 60 && !ret; turn++) {
		struct umm_opencl_result result;

		/* The device's word is the first of each page. */
		set_store(kernel, toucher.memory, PAGE, turn);
		ret = rig_try(rig, kernel, toucher.npages, &result);
		for (size_t i = 0; i < toucher.npages && !ret; i++)
			if (toucher.memory[i * WORDS] != turn)
				ret = -1;
	}
	atomic_store(&toucher.stop, true);
	pthread_join(thread, NULL);
	assert_int_equal(ret, 0);
	for (size_t i = 0; i < toucher.npages; i++)
		assert_int_equal(toucher.memory[i * WORDS + 1], toucher.writes);
	assert_int_equal(umm_ctx_stats(rig->ctx, &stats), 0);
	assert_true(stats.counter[UMM_COUNT_INVALIDATIONS] > 0);
}

struct launcher {
	struct rig *rig;
	cl_kernel kernel;
	int ret;
};

static void *launch_often(void *priv)
{
	struct launcher *launcher = priv;
	struct umm_opencl_result result;

	for (int turn = 0; turn < 40 && !launcher->ret; turn++)
		launcher->ret = rig_try(launcher->rig, launcher->kernel, 32 * WORDS, &result);
	return NULL;
}

static void launches_of_several_threads_take_turns(void **state)
{
	struct rig *rig = *state;
	struct launcher launchers[3];
	pthread_t threads[3];
	uint32_t *in, *out;
	size_t n = 32 * WORDS;

	rig_open(rig, 64 * PAGE, NULL);
	rig_build(rig);
	in = rig_alloc(rig, n * 4);
	out = rig_alloc(rig, 3 * n * 4);
	fill(in, n, 19);
	for (int i = 0; i < 3; i++) {
		launchers[i] = (struct launcher){ .rig = rig, .kernel = rig_kernel(rig, "map") };
		set_map(launchers[i].kernel, in, out + i * n);
		assert_int_equal(pthread_create(&threads[i], NULL, launch_often, &launchers[i]), 0);
	}
	for (int i = 0; i < 3; i++)
		pthread_join(threads[i], NULL);
	for (int i = 0; i < 3; i++) {
		assert_int_equal(launchers[i].ret, 0);
		for (size_t k = 0; k < n; k++)
			assert_true(out[i * n + k] == 3 * in[k] + 1);
	}
}

static void memory_is_freed_and_taken_anew_while_the_device_is_idle(void **state)
{
	struct rig *rig = *state;
	cl_kernel kernel;
	uint32_t *memory;

	rig_open(rig, 4 * MIB, NULL);
	rig_build(rig);
	kernel = rig_kernel(rig, "store");
	for (uint32_t turn = 1; turn <= 20; turn++) {
		memory = rig_alloc(rig, 600 * PAGE);
		set_store(kernel, memory, PAGE, turn);
		rig_launch(rig, kernel, 600);
		assert_int_equal(memory[5 * WORDS], turn);
		assert_int_equal(umm_free(rig->ctx, memory), 0);
		rig_eventually(rig_device_pages(rig) == 0);
		rig_eventually(umm_devmem_nfree(umm_opencl_devmem(rig->ocl)) == 4 * MIB / PAGE);
	}
}

static void dropped_memory_reads_zero_on_the_device_too(void **state)
{
	struct rig *rig = *state;
	uint32_t *in, *out;
	size_t n = 32 * WORDS;
	cl_kernel kernel;

	rig_open(rig, 4 * MIB, NULL);
	rig_build(rig);
	kernel = rig_kernel(rig, "map");
	in = mmap(NULL, n * 4, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	assert_true(in != MAP_FAILED);
	assert_int_equal(umm_attach(rig->ctx, in, n * 4), 0);
	out = rig_alloc(rig, n * 4);
	set_map(kernel, in, out);
	for (uint32_t turn = 0; turn < 10; turn++) {
		fill(in, n, turn);
		rig_launch(rig, kernel, n);
		assert_int_equal(madvise(in + 4 * WORDS, 4 * PAGE, MADV_DONTNEED), 0);
		rig_launch(rig, kernel, n);
		for (size_t i = 0; i < n; i++)
			assert_int_equal(out[i], i / WORDS / 4 == 1 ? 1 : 3 * word(i, turn) + 1);
		assert_int_equal(in[4 * WORDS], 0);
	}
	assert_int_equal(umm_detach(rig->ctx, in), 0);
	munmap(in, n * 4);
}

static void unmapped_memory_is_efault_and_the_rest_stays(void **state)
{
	struct rig *rig = *state;
	struct umm_opencl_result result;
	uint32_t *memory;
	cl_kernel kernel;

	rig_open(rig, 4 * MIB, NULL);
	rig_build(rig);
	kernel = rig_kernel(rig, "load");
	memory = mmap(NULL, 32 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	assert_true(memory != MAP_FAILED);
	fill(memory, 32 * WORDS, 21);
	assert_int_equal(umm_attach(rig->ctx, memory, 32 * PAGE), 0);
	rig_ulong(kernel, 0, (uintptr_t)memory);
	rig_ulong(kernel, 1, PAGE);
	rig_launch(rig, kernel, 32);
	assert_int_equal(munmap(memory + 16 * WORDS, 16 * PAGE), 0);
	assert_int_equal(rig_try(rig, kernel, 32, &result), -EFAULT);
	assert_in_range(result.fault_item, 16, 31);
	rig_launch(rig, kernel, 16);
	assert_int_equal(memory[15 * WORDS], word(15 * WORDS, 21));
	munmap(memory, 16 * PAGE);
}

static void moved_memory_is_found_where_it_is_now(void **state)
{
	struct rig *rig = *state;
	struct umm_opencl_result result;
	uint32_t *memory, *moved, *out;
	size_t n = 32 * WORDS;
	cl_kernel kernel;

	rig_open(rig, 4 * MIB, NULL);
	rig_build(rig);
	kernel = rig_kernel(rig, "map");
	memory = mmap(NULL, n * 4, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	assert_true(memory != MAP_FAILED);
	fill(memory, n, 23);
	assert_int_equal(umm_attach(rig->ctx, memory, n * 4), 0);
	out = rig_alloc(rig, n * 4);
	set_map(kernel, memory, out);
	rig_launch(rig, kernel, n);
	moved = mremap(memory, n * 4, 2 * n * 4, MREMAP_MAYMOVE | MREMAP_FIXED,
		       mmap(NULL, 2 * n * 4, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
	assert_true(moved != MAP_FAILED);
	assert_int_equal(rig_try(rig, kernel, n, &result), -EFAULT);
	set_map(kernel, moved, out);
	rig_launch(rig, kernel, n);
	for (size_t i = 0; i < n; i++)
		assert_true(moved[i] == word(i, 23) && out[i] == 3 * word(i, 23) + 1);
	munmap(moved, 2 * n * 4);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		rig_test(only_pages_that_are_touched_move),
		rig_test(device_writes_come_home_page_by_page),
		rig_test(cpu_writes_between_launches_are_seen),
		rig_test(untouched_memory_reads_zero_and_is_cleared_on_the_device),
		rig_test(what_was_prefetched_costs_no_migration),
		rig_test(a_sequential_reader_is_read_ahead_of),
		rig_test(more_faults_than_the_buffer_holds_take_more_rounds),
		rig_test(duplicated_pages_are_read_by_both_and_written_by_either),
		rig_test(four_times_the_device_memory_is_right_and_evicts),
		rig_test(a_device_of_less_than_a_block_works),
		rig_test(work_items_that_need_most_of_the_device_each_take_turns),
		rig_test(one_work_item_that_needs_too_much_is_enospc),
		rig_test(what_lies_across_blocks_is_gathered_after_it_was_too_much),
		rig_test(one_frame_is_enough_for_work_items_that_go_on),
		rig_test(two_frames_are_enough_for_work_items_that_go_on),
		rig_test(what_a_work_item_asks_for_ahead_does_not_take_what_it_needs),
		rig_test(a_work_item_is_counted_once_however_many_pages_it_misses),
		rig_test(a_cpu_thread_and_launches_share_every_page),
		rig_test(launches_of_several_threads_take_turns),
		rig_test(memory_is_freed_and_taken_anew_while_the_device_is_idle),
		rig_test(dropped_memory_reads_zero_on_the_device_too),
		rig_test(unmapped_memory_is_efault_and_the_rest_stays),
		rig_test(moved_memory_is_found_where_it_is_now),
	};

	return rig_main("opencl paging", tests, argc, argv);
}
