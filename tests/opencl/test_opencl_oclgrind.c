/* SPDX-License-Identifier: MIT */
/*
 * The parts of umm_device.cl that all kernels need, on little data: run under Oclgrind, which
 * watches each access of the kernels to memory, and races between them. The results are checked
 * as well. What else there is, test_opencl_types has, which runs there too.
 */
#include "rig.h"

#define WORDS (PAGE / 4)
#define ITEMS 48

/* A kernel's launch in work-groups of 4. */
static struct umm_opencl_result launch_in_groups(struct rig *rig, cl_kernel kernel, size_t items)
{
	struct umm_opencl_result result = { .size = sizeof(result) };
	const size_t local = 4;
	struct umm_opencl_work work = {
		.size = sizeof(work),
		.kernel = kernel,
		.dims = 1,
		.global = &items,
		.local = &local,
	};

	assert_int_equal(umm_opencl_launch(rig->ocl, &work, &result), 0);
	return result;
}

/* Items lie around the border of two pages. */
#define COPY(rig, name, T, WIDE)                                                 \
	do {                                                                     \
		cl_kernel kernel_ = rig_kernel(rig, "copy_" #name);              \
		T *in_ = (T *)rig_alloc(rig, 2 * PAGE) + PAGE / sizeof(T) - 20;  \
		T *out_ = (T *)rig_alloc(rig, 2 * PAGE) + PAGE / sizeof(T) - 30; \
		WIDE *wide_ = rig_alloc(rig, PAGE);                              \
                                                                                 \
		for (int i = 0; i < ITEMS; i++)                                  \
			in_[i] = (T)(3 * i + 1);                                 \
		rig_ulong(kernel_, 0, (uintptr_t)in_);                           \
		rig_ulong(kernel_, 1, (uintptr_t)out_);                          \
		rig_ulong(kernel_, 2, (uintptr_t)wide_);                         \
		launch_in_groups(rig, kernel_, ITEMS);                           \
		for (int i = 0; i < ITEMS; i++)                                  \
			assert_true(out_[i] == (T)(3 * i + 2) &&                 \
				    wide_[i] == (WIDE)(T)(3 * i + 1));           \
	} while (0)

static void every_type_is_loaded_and_stored(void **state)
{
	struct rig *rig = *state;

	rig_open(rig, MIB, &rig_exact);
	rig_build(rig);
	COPY(rig, char, int8_t, int64_t);
	COPY(rig, uchar, uint8_t, int64_t);
	COPY(rig, short, int16_t, int64_t);
	COPY(rig, ushort, uint16_t, int64_t);
	COPY(rig, int, int32_t, int64_t);
	COPY(rig, uint, uint32_t, int64_t);
	COPY(rig, long, int64_t, int64_t);
	COPY(rig, ulong, uint64_t, int64_t);
	COPY(rig, float, float, int64_t);
	COPY(rig, double, double, int64_t);
}

struct node {
	struct node *next;
	uint64_t value;
};

/* A work-item finds its next page in the one before; another kernel keeps its place. */
static void pointers_are_followed_from_page_to_page(void **state)
{
	struct rig *rig = *state;
	char *memory = rig_alloc(rig, 6 * PAGE);
	uint64_t *heads = rig_alloc(rig, PAGE), *out = rig_alloc(rig, PAGE), sum = 0;
	struct node *head = NULL, *node;
	uint64_t kept[8] = { 0 };
	cl_kernel kernel;
	cl_mem buffer;
	cl_int err;

	rig_open(rig, MIB, &rig_exact);
	rig_build(rig);
	for (size_t i = 0; i < 12; i++) {
		node = (struct node *)(void *)(memory + i * 5 % 6 * PAGE + i * 16);
		*node = (struct node){ head, i * i };
		sum += i * i * (12 - i);
		head = node;
	}
	kernel = rig_kernel(rig, "sum_list");
	rig_ulong(kernel, 0, (uintptr_t)head);
	rig_ulong(kernel, 1, (uintptr_t)out);
	assert_true(rig_launch(rig, kernel, 1).rounds >= 6);
	assert_int_equal(out[0], sum);

	heads[0] = heads[1] = (uintptr_t)head;
	kernel = rig_kernel(rig, "sum_list_on");
	buffer = clCreateBuffer(umm_opencl_cl_context(rig->ocl), CL_MEM_COPY_HOST_PTR, sizeof(kept),
				kept, &err);
	assert_int_equal(err, CL_SUCCESS);
	rig_ulong(kernel, 0, (uintptr_t)heads);
	rig_ulong(kernel, 1, (uintptr_t)out);
	assert_int_equal(clSetKernelArg(kernel, UMM_OPENCL_ARGS + 2, sizeof(buffer), &buffer),
			 CL_SUCCESS);
	rig_launch(rig, kernel, 2);
	assert_int_equal(out[0], sum);
	assert_int_equal(out[1], sum);
	clReleaseMemObject(buffer);
}

static void check_map(struct rig *rig, size_t npages)
{
	uint32_t *in = rig_alloc(rig, npages * PAGE), *out = rig_alloc(rig, npages * PAGE);
	size_t step = 64, items = npages * WORDS / step;
	cl_kernel kernel = rig_kernel(rig, "sum");

	for (size_t i = 0; i < npages * WORDS; i++)
		in[i] = (uint32_t)i;
	rig_ulong(kernel, 0, (uintptr_t)in);
	rig_ulong(kernel, 1, 2);
	rig_ulong(kernel, 2, 4);
	rig_ulong(kernel, 3, 4 * step);
	rig_ulong(kernel, 4, (uintptr_t)out);
	launch_in_groups(rig, kernel, items);
	for (size_t i = 0; i < items; i++)
		assert_int_equal(out[i], 2 * i * step + 1);
}

#define NBLOCKS 4096
#define NFAR	40

/* Blocks that no window reaches together, with home slots so near that they collide. */
static void find_far(struct rig *rig, uint32_t **far)
{
	char *memory = rig_alloc(rig, NBLOCKS * BLOCK);
	size_t n = 0;

	for (uint32_t i = 0; i < NBLOCKS && n < NFAR; i++) {
		uint32_t block = (uint32_t)((uintptr_t)memory >> UMM_BLOCK_SHIFT) + i;

		if (block * UINT32_C(0x9e3779b1) >> 22 < 16)
			far[n++] = (uint32_t *)(void *)(memory + i * BLOCK);
	}
	assert_int_equal(n, NFAR);
	assert_true((uintptr_t)far[n - 1] - (uintptr_t)far[0] > 1024 * BLOCK);
}

/* Pages in all of four pools; and blocks that have to be looked for. */
static void several_pools_and_many_blocks(void **state)
{
	struct umm_opencl_options options = rig_exact;
	struct rig *rig = *state;
	uint32_t *far[NFAR];
	cl_kernel kernel;

	options.pool_bytes = 16 * PAGE;
	rig_open(rig, 64 * PAGE, &options);
	rig_build(rig);
	check_map(rig, 20);
	kernel = rig_kernel(rig, "store");
	find_far(rig, far);
	for (size_t i = 0; i < NFAR; i++) {
		rig_ulong(kernel, 0, (uintptr_t)far[i]);
		rig_ulong(kernel, 1, 1024);
		rig_uint(kernel, 2, (uint32_t)i + 1);
		launch_in_groups(rig, kernel, 8);
	}
	for (size_t i = 0; i < NFAR; i++)
		assert_int_equal(far[i][7 * 256], i + 1);
}

/* The fault buffer is small, and so is the device: pages come and go within a launch. */
static void faults_are_dropped_and_pages_evicted(void **state)
{
	struct umm_opencl_options options = rig_exact;
	struct rig *rig = *state;

	options.fault_entries = 3;
	rig_open(rig, 12 * PAGE, &options);
	rig_build(rig);
	check_map(rig, 24);
	assert_true(rig_count(rig, UMM_COUNT_TO_SYSTEM + UMM_CAUSE_EVICT) > 0);
}

static void work_items_in_three_dimensions_are_told_apart(void **state)
{
	const size_t global[3] = { 6, 4, 2 }, local[3] = { 3, 2, 1 };
	struct umm_opencl_work work = { .size = sizeof(work), .dims = 3 };
	struct rig *rig = *state;
	uint32_t *out = (uint32_t *)rig_alloc(rig, 2 * PAGE) + WORDS - 20;

	rig_open(rig, MIB, &rig_exact);
	rig_build(rig);
	work.kernel = rig_kernel(rig, "grid");
	work.global = global;
	work.local = local;
	rig_ulong(work.kernel, 0, (uintptr_t)out);
	rig_uint(work.kernel, 1, 6);
	rig_uint(work.kernel, 2, 4);
	assert_int_equal(umm_opencl_launch(rig->ocl, &work, NULL), 0);
	for (uint32_t i = 0; i < 48; i++)
		assert_int_equal(out[i], i % 6 + 100 * (i / 6 % 4) + 10000 * (i / 24));
}

/* What a kernel does wrong to managed memory is an error, and no access of the device. */
static void wrong_addresses_are_not_touched(void **state)
{
	struct umm_opencl_result result;
	struct rig *rig = *state;
	uint32_t *words = rig_alloc(rig, PAGE);
	cl_kernel kernel;

	rig_open(rig, MIB, &rig_exact);
	rig_build(rig);
	words[0] = 5;
	kernel = rig_kernel(rig, "store");
	rig_ulong(kernel, 1, 4);
	rig_uint(kernel, 2, 6);
	rig_ulong(kernel, 0, (uintptr_t)words + 2);
	assert_int_equal(rig_try(rig, kernel, 4, &result), -EINVAL);
	rig_ulong(kernel, 0, 64 * PAGE);
	assert_int_equal(rig_try(rig, kernel, 4, &result), -EFAULT);
	assert_int_equal(words[0], 5);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		rig_test(every_type_is_loaded_and_stored),
		rig_test(pointers_are_followed_from_page_to_page),
		rig_test(several_pools_and_many_blocks),
		rig_test(faults_are_dropped_and_pages_evicted),
		rig_test(work_items_in_three_dimensions_are_told_apart),
		rig_test(wrong_addresses_are_not_touched),
	};

	return rig_main("opencl oclgrind", tests, argc, argv);
}
