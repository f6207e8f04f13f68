/* SPDX-License-Identifier: MIT */
/*
 * Kernels on managed memory against the same kernels on a buffer, on the same device and in
 * the same context: what translation costs while data is resident, what a window costs, and
 * what demand paging costs or saves against copying everything first, or against double
 * buffering where the device has a quarter of the memory. And what a fault costs by itself.
 */
#include "bench.h"

#ifdef BENCH_OPENCL

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "floor_opencl.h"
#include "ours.h"
#include "ours_opencl.h"

#define CHUNK  ((size_t)16384) /* bytes for each work-item of the streaming kernels */
#define NLOADS 512	       /* of each work-item of the random ones */
#define NITEMS ((size_t)4096)  /* of those */
#define SPARSE 10	       /* every so many pages are touched */
#define OVER   4	       /* so many times the device's memory */
#define PARTS  8	       /* of the device's memory, in which the competitor copies */

enum variant {
	KERNEL_STREAM, /* spans, resident */
	KERNEL_RANDOM, /* single loads, resident */
	KERNEL_WINDOW, /* the competitor's own kernel, through a window */
	KERNEL_REREAD, /* the same, where the window was held for writing before */
	KERNEL_SPARSE, /* one page in ten, from cold */
	KERNEL_COLD,   /* all, from cold */
	KERNEL_OVER,   /* all, from cold, with memory for a quarter */
	KERNEL_FAULT,  /* every other page, from cold, nothing is read ahead */
};

static const char source[] =
	"#define CHUNK 16384ul\n"
	"__kernel void ours_stream(UMM_KERNEL_ARGS, ulong in, __global uint *out)\n"
	"{\n"
	"	ulong addr = in + CHUNK * get_global_id(0), left, n;\n"
	"	__global const uint4 *p;\n"
	"	struct umm u;\n"
	"	uint4 sum = 0;\n"
	"	if (!umm_begin(&u, UMM_ARGS))\n"
	"		return;\n"
	"	for (left = CHUNK; left; addr += n, left -= n) {\n"
	"		p = (__global const uint4 *)umm_span_load(&u, addr, left, &n);\n"
	"		if (!n)\n"
	"			return;\n"
	"		for (uint i = 0; i < n / 16; i++)\n"
	"			sum += p[i];\n"
	"	}\n"
	"	out[get_global_id(0)] = sum.x + sum.y + sum.z + sum.w;\n"
	"}\n"
	"__kernel void plain_stream(__global const uint4 *in, __global uint *out)\n"
	"{\n"
	"	__global const uint4 *p = in +\n"
	"		CHUNK / 16 * (get_global_id(0) - get_global_offset(0));\n"
	"	uint4 sum = 0;\n"
	"	for (uint i = 0; i < CHUNK / 16; i++)\n"
	"		sum += p[i];\n"
	"	out[get_global_id(0)] = sum.x + sum.y + sum.z + sum.w;\n"
	"}\n"
	"__kernel void ours_random(UMM_KERNEL_ARGS, ulong in, __global uint *out, uint n)\n"
	"{\n"
	"	uint at = get_global_id(0) * 2654435761u, sum = 0;\n"
	"	struct umm u;\n"
	"	if (!umm_begin(&u, UMM_ARGS))\n"
	"		return;\n"
	"	for (uint i = 0; i < 512; i++) {\n"
	"		at = at * 1664525u + 1013904223u;\n"
	"		sum += umm_load_uint(&u, in + 4 * (((ulong)at * n) >> 32));\n"
	"	}\n"
	"	out[get_global_id(0)] = sum;\n"
	"}\n"
	"__kernel void plain_random(__global const uint *in, __global uint *out, uint n)\n"
	"{\n"
	"	uint at = get_global_id(0) * 2654435761u, sum = 0;\n"
	"	for (uint i = 0; i < 512; i++) {\n"
	"		at = at * 1664525u + 1013904223u;\n"
	"		sum += in[((ulong)at * n) >> 32];\n"
	"	}\n"
	"	out[get_global_id(0)] = sum;\n"
	"}\n"
	"__kernel void ours_sparse(UMM_KERNEL_ARGS, ulong in, __global uint *out)\n"
	"{\n"
	"	struct umm u;\n"
	"	uint sum;\n"
	"	if (!umm_begin(&u, UMM_ARGS))\n"
	"		return;\n"
	"	sum = umm_load_uint(&u, in + 40960 * get_global_id(0));\n"
	"	if (!umm_faulted(&u))\n"
	"		out[get_global_id(0)] = sum;\n"
	"}\n"
	"__kernel void ours_fault(UMM_KERNEL_ARGS, ulong in, __global uint *out)\n"
	"{\n"
	"	struct umm u;\n"
	"	uint sum;\n"
	"	if (!umm_begin(&u, UMM_ARGS))\n"
	"		return;\n"
	"	sum = umm_load_uint(&u, in + 8192 * get_global_id(0));\n"
	"	if (!umm_faulted(&u))\n"
	"		out[get_global_id(0)] = sum;\n"
	"}\n"
	"__kernel void plain_fault(__global const uint *in, __global uint *out)\n"
	"{\n"
	"	out[get_global_id(0)] = in[2048 * get_global_id(0)];\n"
	"}\n"
	"__kernel void plain_sparse(__global const uint *in, __global uint *out)\n"
	"{\n"
	"	out[get_global_id(0)] = in[10240 * get_global_id(0)];\n"
	"}\n";

struct kernel_state {
	struct bench_env *env;
	enum variant variant;
	struct umm_ctx *ctx;
	struct umm_opencl *device;
	struct umm_opencl_window *window;
	cl_program program;
	cl_kernel ours, plain;
	cl_mem buffer, out;
	struct floor_stream *stream;
	char *memory;
	size_t len;
	size_t items;
	bool checked;
};

static const char *const names[] = { "stream", "random", "stream", "stream",
				     "sparse", "stream", "stream", "fault" };

static bool is_cold(const struct kernel_state *s)
{
	return s->variant >= KERNEL_SPARSE;
}

static size_t device_bytes(const struct kernel_state *s)
{
	if (s->variant == KERNEL_SPARSE || s->variant == KERNEL_OVER)
		return s->len / OVER;
	return s->len;
}

static int failed(struct kernel_state *s, const char *what)
{
	return bench_note(s->env, -EIO, "%s failed", what);
}

static int open_device(struct kernel_state *s)
{
	struct umm_opencl_options options = { .device_bytes = device_bytes(s),
					      .window_bytes = s->len };
	int ret;

	if (s->variant == KERNEL_FAULT)
		options.readahead = 1; /* less than a page: none */
	ret = ours_opencl(s->env, s->ctx, &options, &s->device);
	if (ret)
		return ret;
	ret = umm_opencl_build(s->device, source,
			       s->variant == KERNEL_RANDOM ? "-DUMM_CACHED_PAGES=1" : NULL,
			       &s->program, NULL);
	return ret ? bench_note(s->env, ret, "compiling the kernels") : 0;
}

static int open_kernels(struct kernel_state *s)
{
	char ours[32], plain[32];
	cl_context context = umm_opencl_cl_context(s->device);
	cl_ulong addr = (uintptr_t)s->memory;
	cl_uint words = (cl_uint)(s->len / 4);

	snprintf(ours, sizeof(ours), "ours_%s", names[s->variant]);
	snprintf(plain, sizeof(plain), "plain_%s", names[s->variant]);
	s->ours = clCreateKernel(s->program, ours, NULL);
	s->plain = clCreateKernel(s->program, plain, NULL);
	s->buffer = clCreateBuffer(context, CL_MEM_READ_WRITE, s->len, NULL, NULL);
	s->out = clCreateBuffer(context, CL_MEM_READ_WRITE, 4 * s->items, NULL, NULL);
	if (!s->ours || !s->plain || !s->buffer || !s->out ||
	    clSetKernelArg(s->ours, UMM_OPENCL_ARGS, sizeof(addr), &addr) ||
	    clSetKernelArg(s->ours, UMM_OPENCL_ARGS + 1, sizeof(s->out), &s->out) ||
	    clSetKernelArg(s->plain, 1, sizeof(s->out), &s->out))
		return failed(s, "preparing the kernels");
	if (s->variant == KERNEL_RANDOM &&
	    (clSetKernelArg(s->ours, UMM_OPENCL_ARGS + 2, sizeof(words), &words) ||
	     clSetKernelArg(s->plain, 2, sizeof(words), &words)))
		return failed(s, "preparing the kernels");
	return 0;
}

static void choose_size(struct kernel_state *s)
{
	s->len = 64 * BENCH_MIB;
	if (s->variant == KERNEL_SPARSE)
		s->len = 1024 * BENCH_MIB;
	if (s->variant == KERNEL_OVER)
		s->len = 256 * BENCH_MIB;
	if (s->env->quick)
		s->len = 8 * BENCH_MIB;
	s->items = s->len / CHUNK;
	if (s->variant == KERNEL_RANDOM)
		s->items = NITEMS;
	if (s->variant == KERNEL_SPARSE)
		s->items = s->len / UMM_PAGE_SIZE / SPARSE;
	if (s->variant == KERNEL_FAULT)
		s->items = s->len / UMM_PAGE_SIZE / 2;
}

/* What only some of the cases need. */
static int open_more(struct kernel_state *s)
{
	if (s->variant == KERNEL_WINDOW || s->variant == KERNEL_REREAD)
		return umm_opencl_window_create(s->device, s->memory, s->len, 0, &s->window);
	if (s->variant != KERNEL_OVER)
		return 0;
	return floor_stream_open(umm_opencl_cl_context(s->device), umm_opencl_cl_device(s->device),
				 device_bytes(s) / PARTS, &s->stream);
}

static int kernel_setup(struct bench_env *env, const struct bench_case *bcase, void **state)
{
	struct kernel_state *s = calloc(1, sizeof(*s));
	int ret;

	*state = s;
	if (!s)
		return -ENOMEM;
	s->env = env;
	s->variant = (enum variant)bcase->variant;
	choose_size(s);
	ret = ours_ctx(env, &s->ctx);
	if (!ret)
		ret = open_device(s);
	if (!ret)
		ret = ours_memory(env, s->ctx, s->len, &s->memory);
	if (!ret)
		ret = open_kernels(s);
	return ret ? ret : open_more(s);
}

/* The competitor's kernel on a buffer. */
static int run_plain(struct kernel_state *s, cl_mem in)
{
	cl_command_queue queue = umm_opencl_cl_queue(s->device);

	if (clSetKernelArg(s->plain, 0, sizeof(in), &in) ||
	    clEnqueueNDRangeKernel(queue, s->plain, 1, NULL, &s->items, NULL, 0, NULL, NULL) ||
	    clFinish(queue))
		return failed(s, "a kernel on a buffer");
	return 0;
}

/* What the last kernel said. */
static int read_out(struct kernel_state *s, uint64_t *sum)
{
	cl_uint *words = calloc(s->items, sizeof(*words));
	int ret = words ? 0 : -ENOMEM;

	*sum = 0;
	if (!ret && clEnqueueReadBuffer(umm_opencl_cl_queue(s->device), s->out, CL_TRUE, 0,
					4 * s->items, words, 0, NULL, NULL))
		ret = failed(s, "reading the result");
	for (size_t i = 0; !ret && i < s->items; i++)
		*sum += words[i];
	free(words);
	return ret;
}

/* The first time: both sides say the same. */
static int check_out(struct kernel_state *s)
{
	uint64_t mine, theirs;
	int ret;

	if (s->checked)
		return 0;
	s->checked = true;
	ret = read_out(s, &mine);
	if (!ret && clEnqueueWriteBuffer(umm_opencl_cl_queue(s->device), s->buffer, CL_TRUE, 0,
					 s->len, s->memory, 0, NULL, NULL))
		ret = failed(s, "a copy");
	if (!ret)
		ret = run_plain(s, s->buffer);
	if (!ret)
		ret = read_out(s, &theirs);
	if (!ret && mine != theirs)
		ret = failed(s, "comparing the results: they differ, so something");
	return ret;
}

static int run_window(struct kernel_state *s, unsigned access)
{
	cl_mem mem;
	int ret = umm_opencl_window_acquire(s->window, access, &mem);

	if (ret)
		return ret;
	ret = run_plain(s, mem);
	umm_opencl_window_release(s->window, 0, NULL);
	return ret;
}

static int run_launch(struct kernel_state *s)
{
	struct umm_opencl_work work = {
		.size = sizeof(work), .kernel = s->ours, .dims = 1, .global = &s->items
	};

	return umm_opencl_launch(s->device, &work, NULL);
}

static int run_ours(struct kernel_state *s)
{
	return s->window ? run_window(s, UMM_OPENCL_READ) : run_launch(s);
}

/* What comes before the run that counts. */
static int prepare(struct kernel_state *s)
{
	if (is_cold(s))
		umm_bring_home(s->ctx);
	else if (s->variant == KERNEL_REREAD)
		return run_window(s, UMM_OPENCL_READ | UMM_OPENCL_WRITE);
	else
		return run_ours(s); /* now it is resident */
	return 0;
}

static int kernel_ours(void *state, struct series *out)
{
	struct kernel_state *s = state;
	uint64_t begin;
	int ret = prepare(s);

	begin = machine_now();
	if (!ret)
		ret = run_ours(s);
	series_push(out, s->variant == KERNEL_FAULT ?
				 (double)(machine_now() - begin) / 1e3 / (double)s->items :
				 (double)(machine_now() - begin) / 1e6);
	return ret ? ret : check_out(s);
}

static int kernel_theirs(void *state, struct series *out)
{
	struct kernel_state *s = state;
	cl_command_queue queue = umm_opencl_cl_queue(s->device);
	uint64_t begin = machine_now();
	int ret;

	if (s->stream) {
		ret = floor_stream_run(s->stream, s->plain, s->memory, s->len, CHUNK);
		series_push(out, (double)(machine_now() - begin) / 1e6);
		return ret;
	}
	if (is_cold(s) &&
	    clEnqueueWriteBuffer(queue, s->buffer, CL_FALSE, 0, s->len, s->memory, 0, NULL, NULL))
		return failed(s, "a copy");
	ret = run_plain(s, s->buffer);
	series_push(out, (double)(machine_now() - begin) / 1e6);
	return ret;
}

static void release_kernels(struct kernel_state *s)
{
	if (s->ours)
		clReleaseKernel(s->ours);
	if (s->plain)
		clReleaseKernel(s->plain);
	if (s->buffer)
		clReleaseMemObject(s->buffer);
	if (s->out)
		clReleaseMemObject(s->out);
	if (s->program)
		clReleaseProgram(s->program);
}

static void kernel_teardown(void *state)
{
	struct kernel_state *s = state;

	if (!s)
		return;
	release_kernels(s);
	floor_stream_close(s->stream);
	umm_opencl_destroy(s->device);
	umm_ctx_put(s->ctx);
	free(s);
}

#define KERNEL_CASE(NAME, SUMMARY, AGAINST, KIND, GOAL, VARIANT)                                  \
	{                                                                                         \
		.name = NAME, .summary = SUMMARY, .against = AGAINST, .unit = "ms", .kind = KIND, \
		.goal = GOAL, .pairs = 10, .variant = VARIANT, .setup = kernel_setup,             \
		.ours = kernel_ours, .theirs = kernel_theirs, .teardown = kernel_teardown,        \
	}

#endif

const struct bench_case case_kernel[] = {
#ifdef BENCH_OPENCL
	KERNEL_CASE("kernel/stream", "a kernel reads resident memory by spans", "plain buffer",
		    BENCH_COST, 1.2, KERNEL_STREAM),
	KERNEL_CASE("kernel/random", "a kernel reads resident memory in no order", "plain buffer",
		    BENCH_COST, 2, KERNEL_RANDOM),
	KERNEL_CASE("kernel/window", "an unchanged kernel on a window", "plain buffer", BENCH_COST,
		    1.02, KERNEL_WINDOW),
	KERNEL_CASE("kernel/window-reread", "a window that was held for writing, now for reading",
		    "plain buffer", BENCH_COST, 0, KERNEL_REREAD),
	KERNEL_CASE("kernel/sparse", "a kernel touches one page in ten, from cold",
		    "copy all first", BENCH_SPEEDUP, 3, KERNEL_SPARSE),
	KERNEL_CASE("kernel/cold", "a kernel reads all of it, from cold", "copy all first",
		    BENCH_COST, 1.15, KERNEL_COLD),
	KERNEL_CASE("kernel/over", "the same with device memory for a quarter of it",
		    "double buffering", BENCH_COST, 1.3, KERNEL_OVER),
	{
		.name = "kernel/fault",
		.summary = "a page that a kernel misses, alone, served",
		.unit = "us",
		.kind = BENCH_LIMIT,
		.goal = 10,
		.pairs = 10,
		.variant = KERNEL_FAULT,
		.setup = kernel_setup,
		.ours = kernel_ours,
		.teardown = kernel_teardown,
	},
#endif
	{ 0 },
};
