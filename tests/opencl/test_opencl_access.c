/* SPDX-License-Identifier: MIT */
/*
 * What kernels can say: loads and stores of every scalar type, pointers found in
 * data, and mistakes: addresses that are not managed, not aligned or read-only, and
 * programs that do not compile.
 */
#include "rig.h"

#include <sys/mman.h>

#define ITEMS 3000 /* a few pages of every type */

#define VALUE(first, step) ((first) + (__typeof__(first))i * (step))

/* Item i of in is VALUE; out[i] must be in[i] + 1, and wide[i] must be in[i]. */
#define DEFINE_TYPE_TEST(name, T, WIDE, first, step)                           \
	static void name##_is_loaded_and_stored(void **state)                  \
	{                                                                      \
		struct rig *rig = *state;                                      \
		T *in, *out;                                                   \
		WIDE *wide;                                                    \
		cl_kernel kernel;                                              \
                                                                               \
		rig_open(rig, 4 * MIB, NULL);                                  \
		rig_build(rig);                                                \
		kernel = rig_kernel(rig, "copy_" #name);                       \
		in = rig_alloc(rig, ITEMS * sizeof(T));                        \
		out = rig_alloc(rig, ITEMS * sizeof(T));                       \
		wide = rig_alloc(rig, ITEMS * sizeof(WIDE));                   \
		for (int i = 0; i < ITEMS; i++)                                \
			in[i] = (T)VALUE(first, step);                         \
		rig_ulong(kernel, 0, (uintptr_t)in);                           \
		rig_ulong(kernel, 1, (uintptr_t)out);                          \
		rig_ulong(kernel, 2, (uintptr_t)wide);                         \
		rig_launch(rig, kernel, ITEMS);                                \
		for (int i = 0; i < ITEMS; i++) {                              \
			assert_true(out[i] == (T)((T)VALUE(first, step) + 1)); \
			assert_true(wide[i] == (WIDE)(T)VALUE(first, step));   \
		}                                                              \
	}

DEFINE_TYPE_TEST(char, int8_t, int64_t, -100, 1)
DEFINE_TYPE_TEST(uchar, uint8_t, uint64_t, 7, 3)
DEFINE_TYPE_TEST(short, int16_t, int64_t, -20000, 13)
DEFINE_TYPE_TEST(ushort, uint16_t, uint64_t, 11, 21)
DEFINE_TYPE_TEST(int, int32_t, int64_t, INT64_C(-2000000000), 1000003)
DEFINE_TYPE_TEST(uint, uint32_t, uint64_t, 17u, 1400000u)
DEFINE_TYPE_TEST(long, int64_t, int64_t, -INT64_C(0x7ffffffffffffff0), INT64_C(0x10000000f0001))
DEFINE_TYPE_TEST(ulong, uint64_t, uint64_t, UINT64_C(3), UINT64_C(0x16000000000001))
DEFINE_TYPE_TEST(float, float, int64_t, -1024.0f, 2.5f)

static bool has_double(struct rig *rig)
{
	char extensions[4096] = "";

	clGetDeviceInfo(umm_opencl_cl_device(rig->ocl), CL_DEVICE_EXTENSIONS,
			sizeof(extensions) - 1, extensions, NULL);
	return strstr(extensions, "cl_khr_fp64") != NULL;
}

DEFINE_TYPE_TEST(double, double, int64_t, -1e12, 12345678.5)

static void double_where_the_device_has_it(void **state)
{
	struct rig *rig = *state;

	rig_open(rig, 4 * MIB, NULL);
	if (!has_double(rig))
		rig_skip("%s has no double", rig_device_name());
	umm_opencl_destroy(rig->ocl);
	rig->ocl = NULL;
	double_is_loaded_and_stored(state);
}

struct node {
	struct node *next;
	uint64_t value;
};

static void a_list_of_c_pointers_is_followed_over_many_pages(void **state)
{
	struct rig *rig = *state;
	size_t npages = 700, nnodes = 300;
	struct umm_opencl_result result;
	struct node *head = NULL, *node;
	uint64_t *out, sum = 0;
	cl_kernel kernel;
	char *memory;

	rig_open(rig, 8 * MIB, NULL);
	rig_build(rig);
	kernel = rig_kernel(rig, "sum_list");
	memory = rig_alloc(rig, npages * PAGE);
	out = rig_alloc(rig, PAGE);
	/* Each node in a page of its own, in no order. */
	for (size_t i = 0; i < nnodes; i++) {
		node = (struct node *)(void *)(memory + i * 331 % npages * PAGE + i % 200 * 16);
		node->next = head;
		node->value = i * i;
		sum += i * i * (nnodes - i);
		head = node;
	}
	rig_ulong(kernel, 0, (uintptr_t)head);
	rig_ulong(kernel, 1, (uintptr_t)out);
	rig->flags = UMM_OPENCL_REPLAY;
	result = rig_launch(rig, kernel, 1);
	assert_int_equal(*out, sum);
	/* Each page was found by the pointer in the page before it. */
	assert_true(result.rounds > nnodes / 4);
	assert_true(result.pages_migrated >= nnodes + 1);
	/* Now that all is there, it takes one round, and one more for what the CPU looked at. */
	result = rig_launch(rig, kernel, 1);
	assert_int_equal(result.rounds, 2);
	assert_int_equal(result.pages_migrated, 1);
}

/* Arguments of the kernels load and store. */
static void set_touch(cl_kernel kernel, uintptr_t addr, size_t step)
{
	cl_uint nargs;

	rig_ulong(kernel, 0, addr);
	rig_ulong(kernel, 1, step);
	assert_int_equal(clGetKernelInfo(kernel, CL_KERNEL_NUM_ARGS, sizeof(nargs), &nargs, NULL),
			 CL_SUCCESS);
	if (nargs > UMM_OPENCL_ARGS + 2)
		rig_uint(kernel, 2, 99);
}

/* Launch `name` on this address, which must go wrong as expected. */
static void expect_error(struct rig *rig, const char *name, uintptr_t addr, int error)
{
	struct umm_opencl_result result;
	cl_kernel kernel = rig_kernel(rig, name);

	set_touch(kernel, addr, 0);
	assert_int_equal(rig_try(rig, kernel, 1, &result), error);
	assert_true(result.fault_valid);
	assert_int_equal(result.fault_addr, addr);
	assert_int_equal(result.fault_item, 0);
	assert_int_equal(result.fault_write, !strcmp(name, "store"));
	assert_true(rig_logged(error == -EPERM ? "the memory is read-only" : "work-item 0"));
}

static void memory_that_is_not_managed_is_efault(void **state)
{
	static uint32_t global = 5;
	struct rig *rig = *state;
	char *memory;

	rig_open(rig, 4 * MIB, NULL);
	rig_build(rig);
	memory = rig_alloc(rig, 4 * PAGE);
	expect_error(rig, "load", 0, -EFAULT);
	expect_error(rig, "load", 24, -EFAULT);
	expect_error(rig, "load", (uintptr_t)&global, -EFAULT);
	expect_error(rig, "store", (uintptr_t)&global, -EFAULT);
	expect_error(rig, "load", (uintptr_t)1 << 47, -EFAULT);
	expect_error(rig, "load", UINT64_MAX - 3, -EFAULT);
	assert_int_equal(global, 5);
	assert_int_equal(umm_free(rig->ctx, memory), 0);
	expect_error(rig, "store", (uintptr_t)memory, -EFAULT);
}

static void a_bad_pointer_of_one_item_is_named_among_many(void **state)
{
	struct rig *rig = *state;
	struct umm_opencl_result result;
	cl_kernel kernel;
	char *memory;

	rig_open(rig, 4 * MIB, NULL);
	rig_build(rig);
	kernel = rig_kernel(rig, "store");
	/* The last item's address lies past the end. */
	memory = rig_alloc(rig, 64 * PAGE);
	set_touch(kernel, (uintptr_t)memory, PAGE);
	assert_int_equal(rig_try(rig, kernel, 65, &result), -EFAULT);
	assert_true(result.fault_valid);
	assert_int_equal(result.fault_addr, (uintptr_t)memory + 64 * PAGE);
	assert_int_equal(result.fault_item, 64);
	/* The device still works. */
	rig_launch(rig, kernel, 64);
	for (int i = 0; i < 64; i++)
		assert_int_equal(*(uint32_t *)(void *)(memory + i * PAGE), 99);
}

static void a_misaligned_address_is_einval(void **state)
{
	struct rig *rig = *state;
	char *memory;

	rig_open(rig, 4 * MIB, NULL);
	rig_build(rig);
	memory = rig_alloc(rig, 4 * PAGE);
	expect_error(rig, "load", (uintptr_t)memory + 2, -EINVAL);
	expect_error(rig, "store", (uintptr_t)memory + PAGE - 2, -EINVAL);
	assert_int_equal(memory[PAGE - 2], 0);
}

static void a_store_to_read_only_memory_is_eperm(void **state)
{
	struct rig *rig = *state;
	uint32_t *memory;
	cl_kernel kernel;

	rig_open(rig, 4 * MIB, NULL);
	rig_build(rig);
	memory = mmap(NULL, 4 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	assert_true(memory != MAP_FAILED);
	memory[0] = 17;
	assert_int_equal(umm_attach(rig->ctx, memory, 4 * PAGE), 0);
	assert_int_equal(mprotect(memory, 4 * PAGE, PROT_READ), 0);
	kernel = rig_kernel(rig, "load");
	set_touch(kernel, (uintptr_t)memory, 0);
	rig_launch(rig, kernel, 1);
	expect_error(rig, "store", (uintptr_t)memory, -EPERM);
	assert_int_equal(memory[0], 17);
	assert_int_equal(mprotect(memory, 4 * PAGE, PROT_READ | PROT_WRITE), 0);
	kernel = rig_kernel(rig, "store");
	set_touch(kernel, (uintptr_t)memory, 0);
	rig_launch(rig, kernel, 1);
	assert_int_equal(memory[0], 99);
	assert_int_equal(umm_detach(rig->ctx, memory), 0);
	munmap(memory, 4 * PAGE);
}

static void memory_without_access_is_efault(void **state)
{
	struct rig *rig = *state;
	uint32_t *memory;

	rig_open(rig, 4 * MIB, NULL);
	rig_build(rig);
	memory = mmap(NULL, 4 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	assert_true(memory != MAP_FAILED);
	memory[0] = 17;
	assert_int_equal(umm_attach(rig->ctx, memory, 4 * PAGE), 0);
	assert_int_equal(mprotect(memory, 4 * PAGE, PROT_NONE), 0);
	expect_error(rig, "load", (uintptr_t)memory, -EFAULT);
	expect_error(rig, "store", (uintptr_t)memory, -EFAULT);
	assert_int_equal(mprotect(memory, 4 * PAGE, PROT_READ), 0);
	assert_int_equal(memory[0], 17);
	assert_int_equal(umm_detach(rig->ctx, memory), 0);
	munmap(memory, 4 * PAGE);
}

static void memory_that_does_not_migrate_is_efault(void **state)
{
	struct rig *rig = *state;
	uint32_t *memory;

	rig_open(rig, 4 * MIB, NULL);
	rig_build(rig);
	memory = mmap(NULL, 4 * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	assert_true(memory != MAP_FAILED);
	memory[0] = 17;
	assert_int_equal(umm_attach(rig->ctx, memory, 4 * PAGE), 0);
	expect_error(rig, "load", (uintptr_t)memory, -EFAULT);
	expect_error(rig, "store", (uintptr_t)memory, -EFAULT);
	assert_int_equal(memory[0], 17);
	assert_int_equal(umm_detach(rig->ctx, memory), 0);
	munmap(memory, 4 * PAGE);
}

static void a_program_that_does_not_compile_is_einval_with_the_compilers_words(void **state)
{
	static const char good[] = "__kernel void f(UMM_KERNEL_ARGS)\n{\n\tint a = NAME;\n}\n";
	static const char bad[] = "__kernel void f(UMM_KERNEL_ARGS)\n{\n\tno_such_name = 1;\n}\n";
	struct rig *rig = *state;
	cl_program program = NULL;
	char *log = NULL;

	rig_open(rig, 4 * MIB, NULL);
	assert_int_equal(umm_opencl_build(rig->ocl, bad, NULL, &program, &log), -EINVAL);
	assert_null(program);
	assert_non_null(log);
	/* The line is that of the program's own source. */
	assert_non_null(strstr(log, "no_such_name"));
	assert_non_null(strstr(log, ":3:"));
	free(log);
	assert_true(rig_logged("no_such_name"));
	assert_int_equal(umm_opencl_build(rig->ocl, bad, NULL, &program, NULL), -EINVAL);
	assert_int_equal(umm_opencl_build(rig->ocl, NULL, NULL, &program, NULL), -EINVAL);
	assert_int_equal(umm_opencl_build(rig->ocl, bad, NULL, NULL, NULL), -EINVAL);
	assert_int_equal(umm_opencl_build(NULL, bad, NULL, &program, NULL), -EINVAL);
	assert_int_equal(umm_opencl_build(rig->ocl, good, "-DNAME=3", &rig->program, &log), 0);
	free(log);
}

static void what_a_faulted_item_loads_is_zero_at_every_size(void **state)
{
	static const char source[] =
		"__kernel void after(UMM_KERNEL_ARGS, ulong bad, ulong good, __global ulong *out)\n"
		"{\n"
		"	struct umm u;\n"
		"	ulong16 a;\n"
		"	if (!umm_begin(&u, UMM_ARGS))\n"
		"		return;\n"
		"	out[0] = umm_load_ulong(&u, good);\n"
		"	out[1] = umm_load_uint(&u, bad);\n"
		"	out[2] = umm_load_ulong(&u, good) | umm_load_uchar(&u, good + 4095);\n"
		"	a = umm_load_ulong16(&u, good + 128) | umm_vload_ulong16(&u, good + 8);\n"
		"	a.s01234567 |= a.s89abcdef;\n"
		"	a.s0123 |= a.s4567;\n"
		"	out[3] = a.s0 | a.s1 | a.s2 | a.s3;\n"
		"	out[4] = umm_load_half(&u, good) != 0;\n"
		"}\n";
	const cl_ulong good = UINT64_C(0x0101010101010101);
	cl_ulong out[] = { 9, 9, 9, 9, 9 };
	struct umm_opencl_result result;
	struct rig *rig = *state;
	cl_kernel kernel;
	char *memory;
	cl_mem mem;

	rig_open(rig, 4 * MIB, NULL);
	assert_int_equal(umm_opencl_build(rig->ocl, source, NULL, &rig->program, NULL), 0);
	kernel = rig_kernel(rig, "after");
	memory = rig_alloc(rig, 4 * PAGE);
	memset(memory, 1, 4 * PAGE);
	assert_int_equal(
		umm_migrate_to_device(rig->ctx, umm_opencl_devmem(rig->ocl), memory, 4 * PAGE), 4);
	mem = clCreateBuffer(umm_opencl_cl_context(rig->ocl),
			     CL_MEM_READ_WRITE | CL_MEM_COPY_HOST_PTR, sizeof(out), out, NULL);
	assert_non_null(mem);
	rig_ulong(kernel, 0, 24);
	rig_ulong(kernel, 1, (uintptr_t)memory);
	assert_int_equal(clSetKernelArg(kernel, UMM_OPENCL_ARGS + 2, sizeof(mem), &mem), 0);
	assert_int_equal(rig_try(rig, kernel, 1, &result), -EFAULT);
	assert_int_equal(result.fault_addr, 24);
	assert_int_equal(clEnqueueReadBuffer(umm_opencl_cl_queue(rig->ocl), mem, CL_TRUE, 0,
					     sizeof(out), out, 0, NULL, NULL),
			 0);
	clReleaseMemObject(mem);
	assert_true(out[0] == good || out[0] == 0); /* the first round may miss it */
	for (int i = 1; i < 5; i++)
		assert_int_equal(out[i], 0);
}

/* What every device of OpenCL 3.0 knows, and all others. */
static bool knows_version(struct rig *rig, const char *version)
{
	char text[512] = "";

	assert_int_equal(clGetDeviceInfo(umm_opencl_cl_device(rig->ocl), CL_DEVICE_VERSION,
					 sizeof(text) - 1, text, NULL),
			 CL_SUCCESS);
	return !strcmp(version, "1.2") || strncmp(text, "OpenCL 3.", 9) >= 0;
}

/* The prelude is OpenCL C 1.2, and means the same in newer languages. */
static void versions_of_the_language_do_the_same(void **state)
{
	static const char source[] =
		"#if __OPENCL_C_VERSION__ != WANTED\n"
		"#error another version\n"
		"#endif\n"
		"__kernel void sum(UMM_KERNEL_ARGS, ulong in, ulong out)\n"
		"{\n"
		"	struct umm u;\n"
		"	ulong n = 0;\n"
		"	__global const uint *p;\n"
		"	uint4 four;\n"
		"	if (!umm_begin(&u, UMM_ARGS))\n"
		"		return;\n"
		"	p = (__global const uint *)umm_span_load(&u, in, 8, &n);\n"
		"	four = umm_vload_uint4(&u, in + 4);\n"
		"	four.x += umm_load(&u, UMM_POINTER(uint, in));\n"
		"	if (!umm_prepare_store(&u, out, 8))\n"
		"		return;\n"
		"	umm_atomic_add_uint(&u, out, four.x + four.w + (n == 8 ? p[1] : 0));\n"
		"	umm_store_uint(&u, out + 4, WANTED);\n"
		"}\n";
	static const struct {
		const char *name, *options;
		uint32_t number;
	} versions[] = {
		{ "1.2", "-cl-std=CL1.2 -DWANTED=120", 120 },
		{ "3.0", "-cl-std=CL3.0 -DWANTED=300", 300 },
	};
	struct rig *rig = *state;
	uint32_t *words, *out;
	cl_kernel kernel;

	rig_open(rig, 4 * MIB, NULL);
	words = rig_numbered(rig, 2);
	out = &words[PAGE / 4];
	for (size_t i = 0; i < 2 && knows_version(rig, versions[i].name); i++) {
		out[0] = 0;
		assert_int_equal(umm_opencl_build(rig->ocl, source, versions[i].options,
						  &rig->program, NULL),
				 0);
		kernel = rig_kernel(rig, "sum");
		rig_ulong(kernel, 0, (uintptr_t)words);
		rig_ulong(kernel, 1, (uintptr_t)out);
		rig_launch(rig, kernel, 5);
		assert_int_equal(out[0], 5 * (1 + 0 + 4 + 1));
		assert_int_equal(out[1], versions[i].number);
		rig_close_kernels(rig);
		clReleaseProgram(rig->program);
		rig->program = NULL;
	}
}

/* One work-item adds up some words of 99 pages and a half, from the middle of a page on. */
static struct umm_opencl_result add_up(struct rig *rig, uint32_t fault_entries)
{
	/* Not all: loops of llvmpipe have 65535 turns at most. */
	static const char source[] =
		"__kernel void add_up(UMM_KERNEL_ARGS, ulong in, ulong len, ulong out)\n"
		"{\n"
		"	ulong end = in + len, got;\n"
		"	__global const uint *p;\n"
		"	struct umm u;\n"
		"	uint sum = 0;\n"
		"	if (!umm_begin(&u, UMM_ARGS))\n"
		"		return;\n"
		"	for (; in < end; in += got) {\n"
		"		p = (__global const uint *)umm_span_load(&u, in, end - in, &got);\n"
		"		if (!got)\n"
		"			return;\n"
		"		for (uint i = 0; i < got / 4; i += 64)\n"
		"			sum += p[i];\n"
		"	}\n"
		"	umm_store_uint(&u, out, sum);\n"
		"}\n";
	struct umm_opencl_options options = rig_exact;
	struct umm_opencl_result result;
	size_t n = 99 * (PAGE / 4) + PAGE / 8;
	uint32_t *words, *out, sum = 0;
	cl_kernel kernel;

	options.fault_entries = fault_entries;
	rig->flags = UMM_OPENCL_REPLAY;
	rig_open(rig, 4 * MIB, &options);
	assert_int_equal(umm_opencl_build(rig->ocl, source, NULL, &rig->program, NULL), 0);
	words = rig_numbered(rig, 100) + PAGE / 8;
	out = rig_alloc(rig, PAGE);
	for (size_t i = 0; i < n; i += 64)
		sum += words[i];
	kernel = rig_kernel(rig, "add_up");
	rig_ulong(kernel, 0, (uintptr_t)words);
	rig_ulong(kernel, 1, 4 * n);
	rig_ulong(kernel, 2, (uintptr_t)out);
	result = rig_launch(rig, kernel, 1);
	assert_int_equal(*out, sum);
	/* Each page once, and that of the result. */
	assert_int_equal(result.faults, 101);
	assert_int_equal(result.pages_migrated, 101);
	return result;
}

static void a_span_tells_of_64_pages_at_once(void **state)
{
	/* Then of the rest; then the result is missing. */
	assert_int_equal(add_up(*state, 0).rounds, 4);
}

static void a_span_that_misses_more_than_the_buffer_holds_takes_more_rounds(void **state)
{
	assert_int_equal(add_up(*state, 16).rounds, 9);
}

/* Two streams of words, one of them backwards, with jumps between their pages. */
static void one_page_kept_is_as_right_as_two(void **state)
{
	static const char source[] =
		"__kernel void both(UMM_KERNEL_ARGS, ulong in, ulong out)\n"
		"{\n"
		"	struct umm u;\n"
		"	uint sum = 0;\n"
		"	if (!umm_begin(&u, UMM_ARGS))\n"
		"		return;\n"
		"	for (uint i = 0; i < 4096; i++)\n"
		"		sum = sum * 3 + umm_load_uint(&u, in + 4 * i) -\n"
		"		      umm_load_uint(&u, in + 32764 - 4 * i) * (i & 7);\n"
		"	umm_store_uint(&u, out, sum);\n"
		"}\n";
	static const char *const options[] = { NULL, "-DUMM_CACHED_PAGES=1" };
	struct rig *rig = *state;
	struct umm_opencl_result result;
	uint32_t *words, sum = 0;
	cl_kernel kernel;

	rig_open(rig, 4 * MIB, NULL);
	words = rig_numbered(rig, 9);
	for (uint32_t i = 0; i < 4096; i++)
		sum = sum * 3 + i - (8191 - i) * (i & 7);
	for (size_t i = 0; i < 2; i++) {
		words[8 * PAGE / 4] = 0;
		assert_int_equal(
			umm_opencl_build(rig->ocl, source, options[i], &rig->program, NULL), 0);
		kernel = rig_kernel(rig, "both");
		rig_ulong(kernel, 0, (uintptr_t)words);
		rig_ulong(kernel, 1, (uintptr_t)&words[8 * PAGE / 4]);
		result = rig_launch(rig, kernel, 1);
		assert_int_equal(words[8 * PAGE / 4], sum);
		if (i)
			assert_int_equal(result.faults, 1); /* the page that was written here */
		rig_close_kernels(rig);
		clReleaseProgram(rig->program);
		rig->program = NULL;
	}
}

static void launches_that_make_no_sense_are_einval(void **state)
{
	struct rig *rig = *state;
	size_t one = 1, none = 0, many[2] = { (size_t)1 << 20, (size_t)1 << 20 };
	struct umm_opencl_work work = { .size = sizeof(work), .dims = 1, .global = &one };
	struct umm_opencl_work good, bad;
	struct umm_opencl_result result = { .size = 3 };

	rig_open(rig, 4 * MIB, NULL);
	rig_build(rig);
	work.kernel = rig_kernel(rig, "load");
	rig_ulong(work.kernel, 0, (uintptr_t)rig_alloc(rig, PAGE));
	rig_ulong(work.kernel, 1, 0);
	good = work;
	assert_int_equal(umm_opencl_launch(rig->ocl, &good, NULL), 0);
	assert_int_equal(umm_opencl_launch(NULL, &good, NULL), -EINVAL);
	assert_int_equal(umm_opencl_launch(rig->ocl, NULL, NULL), -EINVAL);
	assert_int_equal(umm_opencl_launch(rig->ocl, &good, &result), -EINVAL);
#define REFUSED(field, value) \
	bad = good;           \
	bad.field = (value);  \
	assert_int_equal(umm_opencl_launch(rig->ocl, &bad, NULL), -EINVAL)
	REFUSED(size, 0);
	REFUSED(flags, 4);
	REFUSED(flags, UMM_OPENCL_WAIT | UMM_OPENCL_REPLAY);
	REFUSED(kernel, NULL);
	REFUSED(dims, 0);
	REFUSED(dims, 4);
	REFUSED(global, NULL);
	REFUSED(global, &none);
	REFUSED(nwait, 1);
	bad = good;
	bad.dims = 2;
	bad.global = many;
	assert_int_equal(umm_opencl_launch(rig->ocl, &bad, NULL), -EINVAL);
	rig_logged("");
	REFUSED(kernel, rig_kernel(rig, "dry"));
	assert_true(rig_logged("UMM_KERNEL_ARGS"));
}

static void a_message_is_not_left_out_since_others_came_often(void **state)
{
	struct rig *rig = *state;
	const char bad[] = "__kernel void bad(void) { no_such_name(); }\n";
	size_t one = 1;
	struct umm_opencl_work work = { .size = sizeof(work), .dims = 1, .global = &one };
	cl_program program = NULL;

	rig_open(rig, 4 * MIB, NULL);
	rig_build(rig);
	work.kernel = rig_kernel(rig, "dry");
	for (int i = 0; i < 50; i++)
		assert_int_equal(umm_opencl_launch(rig->ocl, &work, NULL), -EINVAL);
	assert_true(rig_logged("more of these are left out"));
	assert_int_equal(umm_opencl_build(rig->ocl, bad, NULL, &program, NULL), -EINVAL);
	assert_true(rig_logged("clBuildProgram() failed"));
}

static void a_newer_callers_structure_is_e2big_only_if_it_says_more(void **state)
{
	struct rig *rig = *state;
	size_t one = 1;
	struct {
		struct umm_opencl_work work;
		uint64_t unknown;
	} newer = { .work = { .size = sizeof(newer), .dims = 1, .global = &one } };

	rig_open(rig, 4 * MIB, NULL);
	rig_build(rig);
	newer.work.kernel = rig_kernel(rig, "load");
	rig_ulong(newer.work.kernel, 0, (uintptr_t)rig_alloc(rig, PAGE));
	rig_ulong(newer.work.kernel, 1, 0);
	assert_int_equal(umm_opencl_launch(rig->ocl, &newer.work, NULL), 0);
	newer.unknown = 1;
	assert_int_equal(umm_opencl_launch(rig->ocl, &newer.work, NULL), -E2BIG);
}

static void three_dimensions_with_offset_and_groups_run_every_item(void **state)
{
	struct rig *rig = *state;
	size_t global[3] = { 40, 30, 8 }, local[3] = { 8, 5, 1 }, offset[3] = { 2, 3, 1 };
	struct umm_opencl_work work = {
		.size = sizeof(work),
		.dims = 3,
		.global = global,
		.local = local,
		.offset = offset,
	};
	uint32_t *out, want;

	rig_open(rig, 4 * MIB, NULL);
	rig_build(rig);
	work.kernel = rig_kernel(rig, "grid");
	out = rig_alloc(rig, (size_t)50 * 40 * 10 * 4);
	rig_ulong(work.kernel, 0, (uintptr_t)out);
	rig_uint(work.kernel, 1, 50);
	rig_uint(work.kernel, 2, 40);
	assert_int_equal(umm_opencl_launch(rig->ocl, &work, NULL), 0);
	for (uint32_t z = 0; z < 10; z++)
		for (uint32_t y = 0; y < 40; y++)
			for (uint32_t x = 0; x < 50; x++) {
				want = x >= 2 && x < 42 && y >= 3 && y < 33 && z >= 1 && z < 9 ?
					       x + 100 * y + 10000 * z :
					       0;
				assert_int_equal(out[(z * 40 + y) * 50 + x], want);
			}
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		rig_test(char_is_loaded_and_stored),
		rig_test(uchar_is_loaded_and_stored),
		rig_test(short_is_loaded_and_stored),
		rig_test(ushort_is_loaded_and_stored),
		rig_test(int_is_loaded_and_stored),
		rig_test(uint_is_loaded_and_stored),
		rig_test(long_is_loaded_and_stored),
		rig_test(ulong_is_loaded_and_stored),
		rig_test(float_is_loaded_and_stored),
		rig_test(double_where_the_device_has_it),
		rig_test(a_list_of_c_pointers_is_followed_over_many_pages),
		rig_test(memory_that_is_not_managed_is_efault),
		rig_test(a_bad_pointer_of_one_item_is_named_among_many),
		rig_test(a_misaligned_address_is_einval),
		rig_test(a_store_to_read_only_memory_is_eperm),
		rig_test(memory_without_access_is_efault),
		rig_test(memory_that_does_not_migrate_is_efault),
		rig_test(a_program_that_does_not_compile_is_einval_with_the_compilers_words),
		rig_test(what_a_faulted_item_loads_is_zero_at_every_size),
		rig_test(a_span_tells_of_64_pages_at_once),
		rig_test(a_span_that_misses_more_than_the_buffer_holds_takes_more_rounds),
		rig_test(one_page_kept_is_as_right_as_two),
		rig_test(versions_of_the_language_do_the_same),
		rig_test(launches_that_make_no_sense_are_einval),
		rig_test(a_message_is_not_left_out_since_others_came_often),
		rig_test(a_newer_callers_structure_is_e2big_only_if_it_says_more),
		rig_test(three_dimensions_with_offset_and_groups_run_every_item),
	};

	return rig_main("opencl access", tests, argc, argv);
}
