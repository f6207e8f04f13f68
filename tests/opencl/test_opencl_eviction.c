/* SPDX-License-Identifier: MIT */
/*
 * Who goes when the device is full: what kernels used least recently, by block; nothing
 * that they use again, and nothing that the same batch of faults brings.
 */
#include "rig.h"

#define UNIT ((size_t)64) /* pages that a test uses of a block */

static char *blocks_new(struct rig *rig, size_t nblocks)
{
	char *blocks = rig_alloc(rig, nblocks * BLOCK);

	assert_int_equal((uintptr_t)blocks % BLOCK, 0);
	for (size_t i = 0; i < nblocks * BLOCK; i += PAGE)
		memcpy(blocks + i, &i, sizeof(i));
	return blocks;
}

static void assert_intact(const char *blocks, size_t nblocks)
{
	size_t value;

	for (size_t i = 0; i < nblocks * BLOCK; i += PAGE) {
		memcpy(&value, blocks + i, sizeof(value));
		assert_int_equal(value, i);
	}
}

/* A work-item for each page loads from it. */
static struct umm_opencl_result load(struct rig *rig, cl_kernel kernel, const char *start,
				     size_t npages, size_t step)
{
	rig_ulong(kernel, 0, (uintptr_t)start);
	rig_ulong(kernel, 1, step);
	return rig_launch(rig, kernel, npages);
}

static size_t resident(struct rig *rig, const char *start)
{
	return rig_pages_in(rig, start, UNIT * PAGE, UMM_PAGE_DUPLICATED);
}

static void a_block_that_is_used_again_outlives_those_that_are_not(void **state)
{
	struct rig *rig = *state;
	cl_kernel kernel;
	char *blocks;

	rig_open(rig, 4 * UNIT * PAGE, &rig_exact);
	rig_build(rig);
	kernel = rig_kernel(rig, "load");
	blocks = blocks_new(rig, 6);
	for (size_t i = 0; i < 4; i++)
		assert_int_equal(load(rig, kernel, blocks + i * BLOCK, UNIT, PAGE).pages_migrated,
				 UNIT);
	/* The first in is used again, and so the second has to go. */
	assert_int_equal(load(rig, kernel, blocks, UNIT, PAGE).rounds, 1);
	assert_int_equal(load(rig, kernel, blocks + 4 * BLOCK, UNIT, PAGE).pages_migrated, UNIT);
	assert_int_equal(resident(rig, blocks), UNIT);
	assert_int_equal(resident(rig, blocks + BLOCK), 0);
	assert_int_equal(resident(rig, blocks + 2 * BLOCK), UNIT);
	/* Used again and again, it stays for good; the others take turns. */
	for (size_t i = 0; i < 20; i++) {
		assert_int_equal(load(rig, kernel, blocks, UNIT, PAGE).faults, 0);
		load(rig, kernel, blocks + (1 + i % 5) * BLOCK, UNIT, PAGE);
	}
	assert_int_equal(resident(rig, blocks), UNIT);
	assert_intact(blocks, 6);
}

static void one_that_a_single_work_item_used_counts_as_used(void **state)
{
	struct rig *rig = *state;
	cl_kernel kernel;
	char *blocks;

	rig_open(rig, 3 * UNIT * PAGE, &rig_exact);
	rig_build(rig);
	kernel = rig_kernel(rig, "load");
	blocks = blocks_new(rig, 4);
	for (size_t i = 0; i < 3; i++)
		load(rig, kernel, blocks + i * BLOCK, UNIT, PAGE);
	assert_int_equal(load(rig, kernel, blocks + 7 * PAGE, 1, PAGE).faults, 0);
	load(rig, kernel, blocks + 3 * BLOCK, UNIT, PAGE);
	assert_int_equal(resident(rig, blocks), UNIT);
	assert_int_equal(resident(rig, blocks + BLOCK), 0);
}

static void a_batch_brings_each_of_its_pages_once(void **state)
{
	struct rig *rig = *state;
	struct umm_opencl_result result;
	size_t npages = 2 * UNIT;
	cl_kernel kernel;
	char *blocks;

	/* Full of others, and pages of sixteen blocks, which one batch can hold half of. */
	rig_open(rig, npages * PAGE, &rig_exact);
	rig_build(rig);
	kernel = rig_kernel(rig, "load");
	blocks = blocks_new(rig, 18);
	load(rig, kernel, blocks + 16 * BLOCK, UNIT, PAGE);
	load(rig, kernel, blocks + 17 * BLOCK, UNIT, PAGE);
	assert_int_equal(umm_devmem_nfree(umm_opencl_devmem(rig->ocl)), 0);
	result = load(rig, kernel, blocks, npages, 16 * BLOCK / npages);
	assert_int_equal(result.pages_migrated, npages);
	assert_int_equal(result.rounds, 3);
	assert_int_equal(result.items_replayed, npages); /* the second half misses nothing again */
	/* Only the two blocks of others went. */
	assert_int_equal(resident(rig, blocks + 16 * BLOCK), 0);
	assert_int_equal(resident(rig, blocks + 17 * BLOCK), 0);
	assert_int_equal(load(rig, kernel, blocks, npages, 16 * BLOCK / npages).faults, 0);
	assert_intact(blocks, 18);
}

static void a_stream_through_a_small_device_brings_each_page_once(void **state)
{
	struct rig *rig = *state;
	struct umm_opencl_result result;
	cl_kernel kernel;
	char *blocks;

	rig_open(rig, 2 * UNIT * PAGE, &rig_exact);
	rig_build(rig);
	kernel = rig_kernel(rig, "load");
	blocks = blocks_new(rig, 1);
	/*
	 * A block is four times the device: each work-item needs one page, and none again. What one
	 * has waited for may go before it has loaded it, where the waiting ends then.
	 */
	rig->flags = UMM_OPENCL_REPLAY;
	result = load(rig, kernel, blocks, BLOCK / PAGE, PAGE);
	assert_int_equal(result.pages_migrated, BLOCK / PAGE);
	assert_intact(blocks, 1);
}

static void frames_in_small_pages_become_one_large_frame_again(void **state)
{
	struct rig *rig = *state;
	struct umm_page_place place = { 0 };
	cl_kernel kernel;
	char *scattered;
	void *large;

	rig_open(rig, BLOCK, &rig_exact);
	rig_build(rig);
	kernel = rig_kernel(rig, "load");
	scattered = blocks_new(rig, 8);
	assert_int_equal(umm_alloc(rig->ctx, BLOCK, 0, &large), 0);
	memset(large, 3, BLOCK);
	/* Every sixth page of eight blocks: all frames, in an order that is no order. */
	assert_int_equal(load(rig, kernel, scattered, 512, 8 * PAGE).pages_migrated, 512);
	assert_int_equal(umm_devmem_nfree(umm_opencl_devmem(rig->ocl)), 0);
	assert_int_equal(umm_migrate_to_device(rig->ctx, umm_opencl_devmem(rig->ocl), large, BLOCK),
			 512);
	assert_int_equal(umm_locate(rig->ctx, (uintptr_t)large, 1, &place), 0);
	assert_int_equal(place.order, 9);
	for (size_t i = 0; i < BLOCK; i++)
		assert_int_equal(((char *)large)[i], 3);
	assert_intact(scattered, 8);
}

/* Smallest memories, each page of another block: nobody takes what a work-item has gathered. */
static void whatever_the_order_a_work_item_gathers_what_it_needs(void **state)
{
	static const enum umm_evict_order orders[] = { UMM_EVICT_LRU,	 UMM_EVICT_CLOCK,
						       UMM_EVICT_S3FIFO, UMM_EVICT_LIRS,
						       UMM_EVICT_LRFU,	 UMM_EVICT_ADAPTIVE };
	struct rig *rig = *state;
	struct umm_opencl_result result;
	uint32_t *memory = rig_alloc(rig, 12 * BLOCK), *out = rig_alloc(rig, PAGE);
	cl_kernel kernel;

	for (size_t o = 0; o < sizeof(orders) / sizeof(orders[0]); o++)
		for (uint32_t nframes = 2; nframes <= 8; nframes += 3) {
			struct umm_devmem_policy policy = { .size = sizeof(policy),
							    .order = orders[o] };

			rig_open(rig, nframes * PAGE, NULL);
			rig_build(rig);
			assert_int_equal(
				umm_devmem_policy_set(umm_opencl_devmem(rig->ocl), &policy), 0);
			kernel = rig_kernel(rig, "sum");
			for (size_t i = 0; i < 12; i++)
				memory[i * BLOCK / 4] = (uint32_t)(i + 1);
			/* Each needs all frames at once: its pages, and the result's. */
			rig_ulong(kernel, 0, (uintptr_t)memory);
			rig_ulong(kernel, 1, nframes - 1);
			rig_ulong(kernel, 2, BLOCK);
			rig_ulong(kernel, 3, BLOCK);
			rig_ulong(kernel, 4, (uintptr_t)out);
			result = rig_launch(rig, kernel, 4);
			for (uint32_t i = 0; i < 4; i++)
				assert_int_equal(out[i], (nframes - 1) * (i + 1) +
								 (nframes - 1) * (nframes - 2) / 2);
			assert_in_range(result.rounds, 2, 8 * nframes);
			rig_close(rig);
		}
}

/* As many frames as a test's block has pages are kept free. */
static void keep_free(struct rig *rig)
{
	struct umm_devmem_policy policy = {
		.size = sizeof(policy), .order = UMM_EVICT_LRU, .low_free = UNIT, .high_free = UNIT
	};

	assert_int_equal(umm_devmem_policy_set(umm_opencl_devmem(rig->ocl), &policy), 0);
}

static void water_marks_make_room_between_launches(void **state)
{
	struct rig *rig = *state;
	struct umm_devmem *mem;
	uint64_t before;
	cl_kernel kernel;
	char *blocks;

	rig_open(rig, 4 * UNIT * PAGE, &rig_exact);
	rig_build(rig);
	mem = umm_opencl_devmem(rig->ocl);
	keep_free(rig);
	kernel = rig_kernel(rig, "load");
	blocks = blocks_new(rig, 6);
	before = rig_count(rig, UMM_COUNT_EVICTIONS);
	for (size_t i = 0; i < 3; i++)
		load(rig, kernel, blocks + i * BLOCK, UNIT, PAGE);
	assert_int_equal(load(rig, kernel, blocks, UNIT, PAGE).faults, 0);
	assert_int_equal(rig_count(rig, UMM_COUNT_EVICTIONS), before);
	/* The last free frames are taken: what was used least recently goes. */
	load(rig, kernel, blocks + 3 * BLOCK, UNIT, PAGE);
	rig_eventually(umm_devmem_nfree(mem) == UNIT);
	assert_int_equal(resident(rig, blocks + BLOCK), 0);
	assert_int_equal(resident(rig, blocks), UNIT);
	assert_int_equal(resident(rig, blocks + 2 * BLOCK), UNIT);
	assert_int_equal(resident(rig, blocks + 3 * BLOCK), UNIT);
	rig_eventually(rig_count(rig, UMM_COUNT_EVICTIONS) == before + 1);
	/* So the next finds room; its mirror forgot what went, and nothing else. */
	assert_int_equal(load(rig, kernel, blocks + 4 * BLOCK, UNIT, PAGE).pages_migrated, UNIT);
	assert_int_equal(resident(rig, blocks + 4 * BLOCK), UNIT);
	rig_eventually(umm_devmem_nfree(mem) == UNIT);
	assert_int_equal(load(rig, kernel, blocks + 4 * BLOCK, UNIT, PAGE).faults, 0);
	assert_int_equal(load(rig, kernel, blocks + BLOCK, UNIT, PAGE).pages_migrated, UNIT);
	assert_intact(blocks, 6);
}

static void with_water_marks_a_stream_brings_each_page_once(void **state)
{
	struct rig *rig = *state;
	struct umm_opencl_result result;
	cl_kernel kernel;
	char *blocks;

	rig_open_counting(rig, 4 * UNIT * PAGE);
	keep_free(rig);
	kernel = rig_kernel(rig, "load");
	blocks = blocks_new(rig, 16);
	/* Four times the device, of sixteen blocks. */
	result = load(rig, kernel, blocks, 16 * UNIT, BLOCK / UNIT);
	assert_int_equal(result.pages_migrated, 16 * UNIT);
	rig_eventually(umm_devmem_nfree(umm_opencl_devmem(rig->ocl)) >= UNIT);
	assert_intact(blocks, 16);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		rig_test(a_block_that_is_used_again_outlives_those_that_are_not),
		rig_test(one_that_a_single_work_item_used_counts_as_used),
		rig_test(a_batch_brings_each_of_its_pages_once),
		rig_test(a_stream_through_a_small_device_brings_each_page_once),
		rig_test(water_marks_make_room_between_launches),
		rig_test(with_water_marks_a_stream_brings_each_page_once),
		rig_test(frames_in_small_pages_become_one_large_frame_again),
		rig_test(whatever_the_order_a_work_item_gathers_what_it_needs),
	};

	return rig_main("opencl-eviction", tests, argc, argv);
}
