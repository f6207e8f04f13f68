/* SPDX-License-Identifier: MIT */
/*
 * Pages that kernels only read are duplicated, and those they write are moved: what that
 * saves, on one device and on two, and what is brought along with what was missed.
 */
#include "rig.h"

#include <string.h>
#include <sys/auxv.h>
#include <sys/mman.h>

#define WORDS (PAGE / 4)

static uint32_t *filled(struct rig *rig, size_t npages)
{
	uint32_t *words = rig_alloc(rig, npages * PAGE);

	for (size_t i = 0; i < npages * WORDS; i++)
		words[i] = (uint32_t)i * 2654435761u;
	return words;
}

static struct rig *opened_with(void **state, size_t device_bytes,
			       const struct umm_opencl_options *options)
{
	struct rig *rig = *state;

	rig_open(rig, device_bytes, options);
	rig_build(rig);
	return rig;
}

/* Nothing comes along with what was missed: where that would, depends on addresses. */
static struct rig *opened(void **state, size_t device_bytes)
{
	return opened_with(state, device_bytes, &rig_exact);
}

/* One work-item for each page adds it up; out has the sums. */
static struct umm_opencl_result sum_pages(struct rig *rig, const uint32_t *words, size_t npages)
{
	cl_kernel kernel = rig_kernel(rig, "sum");
	uint32_t *out = rig_alloc(rig, npages * 4);
	struct umm_opencl_result result;

	rig_ulong(kernel, 0, (uintptr_t)words);
	rig_ulong(kernel, 1, WORDS);
	rig_ulong(kernel, 2, 4);
	rig_ulong(kernel, 3, PAGE);
	rig_ulong(kernel, 4, (uintptr_t)out);
	result = rig_launch(rig, kernel, npages);
	for (size_t i = 0; i < npages; i++)
		assert_int_equal(out[i], (uint32_t)rig_sum(words + i * WORDS, WORDS));
	assert_int_equal(umm_free(rig->ctx, out), 0);
	rig_close_kernels(rig);
	return result;
}

/* out[i] = 3 * in[i] + 1, for whole pages. */
static void map_pages(struct rig *rig, const void *in, const void *out, size_t npages)
{
	cl_kernel kernel = rig_kernel(rig, "map");

	rig_ulong(kernel, 0, (uintptr_t)in);
	rig_ulong(kernel, 1, (uintptr_t)out);
	rig_launch(rig, kernel, npages * WORDS);
	rig_close_kernels(rig);
}

static void what_is_only_read_stays_with_the_cpu(void **state)
{
	struct rig *rig = opened(state, MIB);
	uint32_t *words = filled(rig, 100);
	uint64_t faults, back;

	sum_pages(rig, words, 100);
	assert_int_equal(rig_pages_in(rig, words, 100 * PAGE, UMM_PAGE_DUPLICATED), 100);
	faults = rig_count(rig, UMM_COUNT_FAULT_DEVICE);
	back = rig_count(rig, UMM_COUNT_BYTES_FROM_DEVICE);
	for (size_t i = 0; i < 100 * WORDS; i++)
		assert_int_equal(words[i], (uint32_t)i * 2654435761u);
	assert_int_equal(rig_count(rig, UMM_COUNT_FAULT_DEVICE), faults);
	assert_int_equal(rig_count(rig, UMM_COUNT_BYTES_FROM_DEVICE), back);
	/* The copies are still good; one that the CPU writes is copied again, and no other. */
	assert_int_equal(sum_pages(rig, words, 100).pages_migrated, 1); /* for the sums */
	words[50 * WORDS]++;
	assert_int_equal(sum_pages(rig, words, 100).pages_migrated, 2);
}

/* PoCL's devices have fine-grained buffers, llvmpipe has not. */
static bool host_reaches_frames(void)
{
	return strcmp(rig_device_name(), "llvmpipe") != 0;
}

static void where_the_host_reaches_frames_pages_are_read_straight_into_them(void **state)
{
	struct rig *rig = opened(state, MIB);
	uint32_t *words = filled(rig, 100);
	struct umm_span span = { (uintptr_t)words, 100 * PAGE };
	struct umm_opencl_prefetch what = {
		.size = sizeof(what), .spans = &span, .nspans = 1, .access = UMM_OPENCL_READ
	};

	assert_int_equal(umm_opencl_prefetch(rig->ocl, &what), 0);
	assert_int_equal(rig_pages_in(rig, words, 100 * PAGE, UMM_PAGE_DUPLICATED), 100);
	assert_int_equal(rig_count(rig, UMM_COUNT_COPIES) == 0, host_reaches_frames());
	assert_int_equal(rig_count(rig, UMM_COUNT_BYTES_OUT + UMM_CAUSE_EXPLICIT), 100 * PAGE);
	assert_int_equal(sum_pages(rig, words, 100).pages_migrated, 1); /* for the sums */
}

static void pages_that_were_only_read_go_without_a_copy(void **state)
{
	struct rig *rig = opened(state, 64 * PAGE);
	uint32_t *words = filled(rig, 1000);

	sum_pages(rig, words, 1000);
	assert_true(rig_count(rig, UMM_COUNT_EVICTIONS) > 0);
	assert_true(rig_count(rig, UMM_COUNT_BYTES_FROM_DEVICE) <= 64 * PAGE);
}

static void a_store_takes_the_page(void **state)
{
	struct rig *rig = opened(state, MIB);
	uint32_t *words = filled(rig, 40);

	sum_pages(rig, words, 40);
	map_pages(rig, words, words + 20 * WORDS, 10);
	assert_int_equal(rig_pages_in(rig, words, 40 * PAGE, UMM_PAGE_DEVICE), 10);
	assert_int_equal(rig_pages_in(rig, words, 40 * PAGE, UMM_PAGE_DUPLICATED), 30);
	for (size_t i = 0; i < 10 * WORDS; i++)
		assert_int_equal(words[20 * WORDS + i], 3 * (uint32_t)i * 2654435761u + 1);
}

static void where_copies_are_written_pages_are_moved_the_next_time(void **state)
{
	struct rig *rig = opened(state, MIB);
	uint32_t *words = filled(rig, 1024);
	size_t skipped = (BLOCK - (uintptr_t)words % BLOCK) % BLOCK / sizeof(*words);
	uint64_t copied;

	/* What is known of one block says nothing of the next. */
	words += skipped;
	map_pages(rig, words, words, 10);
	copied = rig_count(rig, UMM_COUNT_DUPLICATED);
	assert_true(copied >= 10);
	map_pages(rig, words + 50 * WORDS, words + 50 * WORDS, 20);
	assert_int_equal(rig_count(rig, UMM_COUNT_DUPLICATED), copied);
	for (size_t i = 50 * WORDS; i < 70 * WORDS; i++)
		assert_int_equal(words[i], 3 * (uint32_t)(i + skipped) * 2654435761u + 1);
}

/* A second device of the same kind in the context, as a rig of its own. */
static struct rig second(struct rig *rig)
{
	struct rig other = { .ctx = rig->ctx };

	rig_open(&other, MIB, &rig_exact);
	rig_build(&other);
	return other;
}

static void two_devices_and_the_cpu_read_the_same_pages(void **state)
{
	struct rig *rig = opened(state, MIB), other = second(rig);
	uint32_t *words = filled(rig, 60);

	/* A page that is loaded first and then stored to comes once, for both. */
	rig->flags = other.flags = UMM_OPENCL_REPLAY;
	for (int turn = 0; turn < 3; turn++) {
		assert_int_equal(sum_pages(rig, words, 60).pages_migrated, turn ? 1 : 61);
		assert_int_equal(sum_pages(&other, words, 60).pages_migrated, turn ? 1 : 61);
	}
	assert_int_equal(rig_count(rig, UMM_COUNT_DUPLICATED), 60);
	assert_int_equal(rig_count(&other, UMM_COUNT_DUPLICATED), 60);
	/* One of them writes: the other hears of it, and reads what was written. */
	map_pages(rig, words, words, 5);
	assert_int_equal(rig_pages_in(rig, words, 60 * PAGE, UMM_PAGE_DEVICE), 5);
	sum_pages(&other, words, 60);
	for (size_t i = 0; i < 5 * WORDS; i++)
		assert_int_equal(words[i], 3 * (uint32_t)i * 2654435761u + 1);
	rig_close(&other);
}

static void what_one_device_wrote_both_read_afterwards(void **state)
{
	struct rig *rig = opened(state, MIB), other = second(rig);
	uint32_t *words = filled(rig, 60), *out = rig_alloc(rig, 60 * PAGE);

	map_pages(rig, words, out, 60);
	sum_pages(&other, out, 60);
	assert_int_equal(rig_pages_in(rig, out, 60 * PAGE, UMM_PAGE_DUPLICATED), 60);
	sum_pages(rig, out, 60);
	assert_int_equal(rig_pages_in(rig, out, 60 * PAGE, UMM_PAGE_DUPLICATED), 60);
	assert_int_equal(sum_pages(&other, out, 60).pages_migrated, 1);
	rig_close(&other);
}

/* A list over a block's pages in no order: each round misses one page. */
static void dense_use_in_no_order_is_found_out(void **state)
{
	struct rig *rig = opened_with(state, 4 * MIB, NULL);
	char *memory = rig_alloc(rig, 2 * BLOCK);
	char *block = (char *)(((uintptr_t)memory + BLOCK - 1) & ~(BLOCK - 1));
	uint64_t *out = rig_alloc(rig, PAGE), sum = 0;
	cl_kernel kernel = rig_kernel(rig, "sum_list");
	struct umm_opencl_result result;
	uint64_t *node = NULL, *next = NULL;

	for (size_t i = 0; i < 500; i++, next = node) {
		node = (uint64_t *)(void *)(block + i * 211 % 509 * PAGE);
		node[0] = (uintptr_t)next;
		node[1] = i;
		sum += i * (500 - i);
	}
	rig_ulong(kernel, 0, (uintptr_t)node);
	rig_ulong(kernel, 1, (uintptr_t)out);
	result = rig_launch(rig, kernel, 1);
	assert_int_equal(*out, sum);
	assert_true(result.pages_readahead > 100);
	assert_true(result.rounds < 420);
}

static void sparse_use_brings_nothing_along(void **state)
{
	struct rig *rig = opened_with(state, 4 * MIB, NULL);
	uint32_t *words = filled(rig, 1000);
	cl_kernel kernel = rig_kernel(rig, "load");

	rig_ulong(kernel, 0, (uintptr_t)words);
	rig_ulong(kernel, 1, 3 * PAGE);
	assert_int_equal(rig_launch(rig, kernel, 300).pages_readahead, 0);
}

/* Memory in the block of the [vdso], or NULL. */
static uint32_t *map_beside_vdso(size_t len)
{
	uintptr_t va = getauxval(AT_SYSINFO_EHDR) & ~(BLOCK - 1);
	void *map = MAP_FAILED;

	for (size_t at = 0; va && map == MAP_FAILED && at + len <= BLOCK; at += len)
		map = mmap((void *)(va + at), len, PROT_READ | PROT_WRITE,
			   MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
	return map == MAP_FAILED ? NULL : map;
}

/* That no device may use the one is nothing to the other. */
static void memory_beside_a_special_mapping_is_loaded(void **state)
{
	struct rig *rig = *state;
	uint32_t *memory = map_beside_vdso(4 * PAGE);
	cl_kernel kernel;

	if (!memory) {
		print_message("SKIP no room in the block of the [vdso]\n");
		skip();
	}
	rig_open(rig, 4 * PAGE * 256, NULL);
	rig_build(rig);
	kernel = rig_kernel(rig, "load");
	memset(memory, 7, 4 * PAGE);
	assert_int_equal(umm_attach(rig->ctx, memory, 4 * PAGE), 0);
	assert_int_equal(
		umm_migrate_to_device(rig->ctx, umm_opencl_devmem(rig->ocl), memory, 4 * PAGE), 4);
	rig_ulong(kernel, 0, (uintptr_t)memory);
	rig_ulong(kernel, 1, PAGE);
	rig_launch(rig, kernel, 4);
	assert_int_equal(memory[3 * WORDS], 0x07070707);
	assert_int_equal(umm_detach(rig->ctx, memory), 0);
	munmap(memory, 4 * PAGE);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		rig_test(what_is_only_read_stays_with_the_cpu),
		rig_test(where_the_host_reaches_frames_pages_are_read_straight_into_them),
		rig_test(pages_that_were_only_read_go_without_a_copy),
		rig_test(a_store_takes_the_page),
		rig_test(where_copies_are_written_pages_are_moved_the_next_time),
		rig_test(two_devices_and_the_cpu_read_the_same_pages),
		rig_test(what_one_device_wrote_both_read_afterwards),
		rig_test(dense_use_in_no_order_is_found_out),
		rig_test(sparse_use_brings_nothing_along),
		rig_test(memory_beside_a_special_mapping_is_loaded),
	};

	return rig_main("opencl reading", tests, argc, argv);
}
