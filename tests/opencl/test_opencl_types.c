/* SPDX-License-Identifier: MIT */
/*
 * What kernels can do beside scalar loads and stores: vectors, aligned and packed, pointers,
 * spans, atomics, and the pattern by which a kernel changes things exactly once.
 */
#include "rig.h"

static void open_types(struct rig *rig, size_t device_bytes)
{
	rig_open(rig, device_bytes, NULL);
	rig_build_file(rig, RIG_TYPES);
}

static void fill_bytes(unsigned char *at, size_t len)
{
	for (size_t i = 0; i < len; i++)
		at[i] = (unsigned char)(1 + i % 120); /* no NaN among the floats */
}

struct vector_type {
	const char *name;
	size_t bytes;
};

static const struct vector_type vector_types[] = {
	{ "float", 4 }, { "short", 2 }, { "char", 1 }, { "uchar", 1 }, { "ushort", 2 },
	{ "int", 4 },	{ "uint", 4 },	{ "long", 8 }, { "ulong", 8 }, { "double", 8 },
};

static bool has_double(struct rig *rig)
{
	cl_device_fp_config config = 0;

	clGetDeviceInfo(umm_opencl_cl_device(rig->ocl), CL_DEVICE_DOUBLE_FP_CONFIG, sizeof(config),
			&config, NULL);
	return config;
}

/* llvmpipe compiles such kernels for many seconds each: there, one type stands for all. */
static size_t ntypes(struct rig *rig)
{
	size_t n = sizeof(vector_types) / sizeof(vector_types[0]);

	if (!strcmp(rig_device_name(), "llvmpipe"))
		return 1;
	return has_double(rig) ? n : n - 1;
}

/* Run it from in to out, which is cleared first. */
static void run_vectors(struct rig *rig, const char *prefix, const char *type,
			const unsigned char *in, unsigned char *out, size_t len)
{
	char name[32];
	cl_kernel kernel;

	snprintf(name, sizeof(name), "%s_%s", prefix, type);
	kernel = rig_kernel(rig, name);
	memset(out, 0, len);
	rig_ulong(kernel, 0, (uintptr_t)in);
	rig_ulong(kernel, 1, (uintptr_t)out);
	rig_launch(rig, kernel, 1);
	rig_close_kernels(rig);
}

/* Slot i has n[i] elements of in, and else nothing; a vector of 3 may be written as one of 4. */
static void check_slots(const unsigned char *in, const unsigned char *out, size_t slot_bytes,
			size_t bytes, const size_t *n, size_t nslots, bool wide3)
{
	for (size_t i = 0; i < nslots; i++) {
		const size_t at = slot_bytes * i, len = n[i] * bytes;

		assert_memory_equal(out + at, in + at, len);
		for (size_t j = wide3 && n[i] == 3 ? 4 * bytes : len; j < slot_bytes; j++)
			assert_int_equal(out[at + j], 0);
	}
}

static void aligned_vectors_of_every_type(void **state)
{
	const size_t n[] = { 2, 3, 4, 8, 16, 1 };
	struct rig *rig = *state;
	unsigned char *in, *out;

	open_types(rig, MIB);
	in = rig_alloc(rig, PAGE);
	out = rig_alloc(rig, PAGE);
	fill_bytes(in, PAGE);
	for (size_t t = 0; t < ntypes(rig); t++) {
		run_vectors(rig, "aligned", vector_types[t].name, in, out, PAGE);
		check_slots(in, out, 128, vector_types[t].bytes, n, 6, true);
	}
}

static void packed_vectors_of_every_type_over_page_borders(void **state)
{
	const size_t n[] = { 2, 3, 4, 8, 16 };
	struct rig *rig = *state;
	unsigned char *in, *out;

	open_types(rig, MIB);
	in = rig_alloc(rig, 4 * PAGE);
	out = rig_alloc(rig, 4 * PAGE);
	fill_bytes(in, 4 * PAGE);
	for (size_t t = 0; t < ntypes(rig); t++) {
		/* The 4th vector lies over the border of a page, the others do not. */
		size_t bytes = vector_types[t].bytes, at = 2 * PAGE - (3 * 16 + 3) * bytes;

		run_vectors(rig, "packed", vector_types[t].name, in + at, out + at, PAGE);
		check_slots(in + at, out + at, 16 * bytes, bytes, n, 5, false);
	}
}

#define HALF_STEP 0x400 /* adding this to a half doubles it */

/* Once for each of the vectors, which is the one that lies over the border of a page. */
static void halves_of_every_width_over_page_borders(void **state)
{
	const size_t n[] = { 2, 3, 4, 8, 16, 1 };
	struct rig *rig = *state;
	uint16_t *in, *out;
	cl_kernel kernel;

	open_types(rig, MIB);
	in = rig_alloc(rig, 2 * PAGE);
	out = rig_alloc(rig, 2 * PAGE);
	kernel = rig_kernel(rig, "halves");
	for (size_t i = 0; i < PAGE; i++)
		in[i] = (uint16_t)(0x3c00 + i % 2048); /* from 1 on, none too large to double */
	for (size_t over = 0; over < 5; over++) {
		size_t at = PAGE / 2 - 16 * over - 1;

		memset(out, 0, 2 * PAGE);
		rig_ulong(kernel, 0, (uintptr_t)(in + at));
		rig_ulong(kernel, 1, (uintptr_t)(out + at));
		rig_launch(rig, kernel, 1);
		for (size_t i = 0; i < 6 * 16; i++)
			assert_int_equal(out[at + i],
					 i % 16 < n[i / 16] ? in[at + i] + HALF_STEP : 0);
	}
}

static void a_half_at_an_odd_address_is_einval(void **state)
{
	struct rig *rig = *state;
	struct umm_opencl_result result;
	char *memory;
	cl_kernel kernel;

	open_types(rig, MIB);
	memory = rig_alloc(rig, PAGE);
	kernel = rig_kernel(rig, "halves");
	rig_ulong(kernel, 0, (uintptr_t)memory + 1);
	rig_ulong(kernel, 1, (uintptr_t)memory + 2048);
	assert_int_equal(rig_try(rig, kernel, 1, &result), -EINVAL);
	assert_int_equal(result.fault_addr, (uintptr_t)memory + 1);
}

static void a_misaligned_vector_is_einval(void **state)
{
	struct rig *rig = *state;
	struct umm_opencl_result result;
	cl_kernel kernel;
	char *memory;

	open_types(rig, MIB);
	memory = rig_alloc(rig, PAGE);
	kernel = rig_kernel(rig, "misaligned");
	rig_ulong(kernel, 0, (uintptr_t)memory + 4);
	assert_int_equal(rig_try(rig, kernel, 1, &result), -EINVAL);
	assert_int_equal(result.fault_addr, (uintptr_t)memory + 4);
	rig_ulong(kernel, 0, (uintptr_t)memory + 16);
	rig_launch(rig, kernel, 1);
}

struct node {
	struct node *next;
	uint64_t value;
};

static void pointers_read_like_pointers(void **state)
{
	struct rig *rig = *state;
	struct node *nodes;
	uint64_t *out, sum = 0;
	size_t n = 200, stride = PAGE / sizeof(struct node) - 1;
	cl_kernel kernel;

	open_types(rig, MIB);
	nodes = rig_alloc(rig, n * PAGE);
	out = rig_alloc(rig, PAGE);
	for (size_t i = 0; i < n; i++) {
		nodes[i * stride].next = i + 1 < n ? &nodes[(i + 1) * stride] : NULL;
		nodes[i * stride].value = i * i;
		sum += i * i;
	}
	kernel = rig_kernel(rig, "sum_pointers");
	rig_ulong(kernel, 0, (uintptr_t)nodes);
	rig_ulong(kernel, 1, (uintptr_t)out);
	rig_launch(rig, kernel, 1);
	assert_int_equal(*out, sum);
}

#define NKEYS 40

/* Oclgrind takes a hundred times as long as others. */
static size_t nitems(void)
{
	return strcmp(rig_device_name(), "Oclgrind") ? 6000 : 300;
}

/* With memory for a part only, so that work-items run more than once. */
static void work_that_is_prepared_happens_exactly_once(void **state)
{
	struct rig *rig = *state;
	struct umm_opencl_result result;
	uint32_t *in, *counts, *total, expected[NKEYS] = { 0 };
	size_t n = nitems();
	cl_kernel kernel;

	open_types(rig, 24 * PAGE);
	in = rig_alloc(rig, n * 4);
	counts = rig_alloc(rig, NKEYS * PAGE);
	total = rig_alloc(rig, PAGE);
	for (size_t i = 0; i < n; i++) {
		in[i] = (uint32_t)(i * 7 % NKEYS);
		expected[in[i]]++;
	}
	kernel = rig_kernel(rig, "count");
	rig_ulong(kernel, 0, (uintptr_t)in);
	rig_ulong(kernel, 1, (uintptr_t)counts);
	rig_ulong(kernel, 2, (uintptr_t)total);
	result = rig_launch(rig, kernel, n);
	assert_true(result.items_replayed >= n);
	assert_int_equal(*total, n);
	for (size_t i = 0; i < NKEYS; i++)
		assert_int_equal(counts[i * PAGE / 4], expected[i]);
}

static void two_changes_happen_both_or_not(void **state)
{
	struct rig *rig = *state;
	uint32_t *a, *b;
	cl_kernel kernel;

	open_types(rig, 32 * PAGE);
	a = rig_alloc(rig, 100 * PAGE);
	b = rig_alloc(rig, 100 * PAGE);
	kernel = rig_kernel(rig, "twice");
	rig_ulong(kernel, 0, (uintptr_t)a);
	rig_ulong(kernel, 1, (uintptr_t)b);
	for (uint32_t turn = 1; turn <= 3; turn++) {
		rig_launch(rig, kernel, 100);
		for (size_t i = 0; i < 100; i++)
			assert_true(a[i * PAGE / 4] == turn && b[i * PAGE / 4] == turn);
	}
}

static int by_value(const void *a, const void *b)
{
	return *(const int *)a - *(const int *)b;
}

static void atomics_of_all_work_items_add_up(void **state)
{
	struct rig *rig = *state;
	union {
		int i;
		uint32_t u;
		float f;
	} * at;
	int *saw, n = 5000, all = 0;
	cl_kernel kernel;

	open_types(rig, MIB);
	at = rig_alloc(rig, PAGE);
	saw = rig_alloc(rig, (size_t)n * sizeof(*saw));
	at[5].u = UINT32_MAX;
	kernel = rig_kernel(rig, "atomics");
	rig_ulong(kernel, 0, (uintptr_t)at);
	rig_ulong(kernel, 1, (uintptr_t)saw);
	rig_launch(rig, kernel, (size_t)n);
	assert_int_equal(at[0].i, n);
	assert_int_equal(at[1].u, 0u - 2 * (uint32_t)n);
	assert_int_equal(at[2].i, 1 - n);
	assert_int_equal(at[3].u, n - 1);
	assert_int_equal(at[4].u, UINT32_MAX);
	assert_int_equal(at[5].u, 0);
	for (int i = 0; i < n; i++)
		all ^= i;
	assert_int_equal(at[6].i, all);
	assert_true(at[7].i >= 1 && at[7].i <= n);
	assert_true(at[8].i >= 0 && at[8].i < n);
	assert_true(at[9].f == 0.5F);
	/* Each old value was seen once. */
	qsort(saw, (size_t)n, sizeof(*saw), by_value);
	for (int i = 0; i < n; i++)
		assert_int_equal(saw[i], i);
}

static void atomics_of_64_bits_where_the_device_has_them(void **state)
{
	struct rig *rig = *state;
	char extensions[4096] = "";
	uint64_t *at;
	cl_kernel kernel;

	open_types(rig, MIB);
	clGetDeviceInfo(umm_opencl_cl_device(rig->ocl), CL_DEVICE_EXTENSIONS,
			sizeof(extensions) - 1, extensions, NULL);
	if (!strstr(extensions, "cl_khr_int64_base_atomics"))
		rig_skip("the device has no 64-bit atomics");
	at = rig_alloc(rig, PAGE);
	kernel = rig_kernel(rig, "atomics64");
	rig_ulong(kernel, 0, (uintptr_t)at);
	rig_launch(rig, kernel, 1000);
	assert_int_equal(*at, 1000 * UINT64_C(0x100000001));
}

static uint32_t sum_of_every_17th(const uint32_t *at, size_t n)
{
	uint32_t sum = 0;

	for (size_t i = 0; i < n; i += 17)
		sum += at[i];
	return sum;
}

/* in, of n work-items, len bytes each; returns the launch and the pieces of the first. */
static struct umm_opencl_result sum_spans(struct rig *rig, const uint32_t *in, size_t n, size_t len,
					  uint32_t *pieces)
{
	uint32_t *out = rig_alloc(rig, n * 8);
	cl_kernel kernel = rig_kernel(rig, "sum_spans");
	struct umm_opencl_result result;

	rig_ulong(kernel, 0, (uintptr_t)in);
	rig_ulong(kernel, 1, len);
	rig_ulong(kernel, 2, (uintptr_t)out);
	result = rig_launch(rig, kernel, n);
	for (size_t i = 0; i < n; i++)
		assert_int_equal(out[2 * i], sum_of_every_17th(in + i * len / 4, len / 4));
	*pieces = out[1];
	return result;
}

static uint32_t *words(struct rig *rig, size_t npages)
{
	uint32_t *at = rig_alloc(rig, npages * PAGE);

	for (size_t i = 0; i < npages * PAGE / 4; i++)
		at[i] = (uint32_t)i * 2654435761u;
	return at;
}

static void spans_are_as_long_as_frames_follow_each_other(void **state)
{
	struct rig *rig = *state;
	uint32_t *in, pieces;

	/* Who waits may get on before all of the block is in the table. */
	rig->flags = UMM_OPENCL_REPLAY;
	open_types(rig, 8 * MIB);
	in = words(rig, 2 * UMM_BLOCK_PAGES);
	assert_true(umm_migrate_to_device(rig->ctx, umm_opencl_devmem(rig->ocl), in, 2 * BLOCK) >
		    0);
	sum_spans(rig, in, 1, 2 * BLOCK, &pieces);
	assert_int_equal(pieces, 2);
	sum_spans(rig, in + 5, 3, PAGE + 12, &pieces);
	assert_int_equal(pieces, 1);
}

/* Alternate pages went home and came back the other way round: no two frames are neighbours. */
static void spans_of_scattered_frames_are_right(void **state)
{
	struct rig *rig = *state;
	uint32_t *in, pieces;

	open_types(rig, MIB);
	in = words(rig, 64);
	for (size_t i = 64; i--;)
		assert_int_equal(umm_migrate_to_device(rig->ctx, umm_opencl_devmem(rig->ocl),
						       in + i * PAGE / 4, PAGE),
				 1);
	sum_spans(rig, in, 1, 64 * PAGE, &pieces);
	assert_int_equal(pieces, 64);
}

static void a_span_asks_for_what_follows_the_first_page_that_is_missing(void **state)
{
	struct rig *rig = *state;
	struct umm_opencl_result result;
	uint32_t *in, pieces;

	open_types(rig, 4 * MIB);
	in = words(rig, 256);
	result = sum_spans(rig, in, 1, 256 * PAGE, &pieces);
	/* 64 at a time, what is read ahead included, and one for the result. */
	assert_true(result.rounds <= 6);
	assert_true(result.pages_migrated >= 257);
}

static void spans_are_written(void **state)
{
	struct rig *rig = *state;
	uint32_t *out;
	cl_kernel kernel;

	open_types(rig, 40 * PAGE);
	out = rig_alloc(rig, 120 * PAGE);
	kernel = rig_kernel(rig, "fill_spans");
	rig_ulong(kernel, 0, (uintptr_t)out);
	rig_ulong(kernel, 1, 12 * PAGE - 40);
	rig_uint(kernel, 2, 77);
	rig_launch(rig, kernel, 10);
	for (size_t i = 0; i < 120 * PAGE / 4; i++)
		assert_int_equal(out[i], i < 10 * (12 * PAGE - 40) / 4 ? 77 : 0);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		rig_test(aligned_vectors_of_every_type),
		rig_test(packed_vectors_of_every_type_over_page_borders),
		rig_test(halves_of_every_width_over_page_borders),
		rig_test(a_half_at_an_odd_address_is_einval),
		rig_test(a_misaligned_vector_is_einval),
		rig_test(pointers_read_like_pointers),
		rig_test(work_that_is_prepared_happens_exactly_once),
		rig_test(two_changes_happen_both_or_not),
		rig_test(atomics_of_all_work_items_add_up),
		rig_test(atomics_of_64_bits_where_the_device_has_them),
		rig_test(spans_are_as_long_as_frames_follow_each_other),
		rig_test(spans_of_scattered_frames_are_right),
		rig_test(a_span_asks_for_what_follows_the_first_page_that_is_missing),
		rig_test(spans_are_written),
	};

	return rig_main("opencl types", tests, argc, argv);
}
