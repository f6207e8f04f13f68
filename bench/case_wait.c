/* SPDX-License-Identifier: MIT */
/*
 * Work-items that wait for their pages against the same ones run again: lists through pages in
 * no order, from cold, nothing read ahead. What is chosen where nobody says is beside it.
 */
#include "bench.h"

#ifdef BENCH_OPENCL

#include <errno.h>
#include <stdlib.h>

#include "ours.h"
#include "ours_opencl.h"

#define LIST	   512 /* nodes of a list, each in a page of its own */
#define LIST_FEW   64  /* of a quick run */
#define STRIDE	   331 /* from node to node; no divisor of either */
#define MOST_LISTS 8

/* Lists, and what they are followed with. */
enum variant {
	WAIT_ONE,     /* one list, waiting */
	WAIT_SEVERAL, /* as many as there may be, waiting */
	WAIT_CHOSEN,  /* one, whatever is chosen */
};

static const char source[] =
	"__kernel void follow(UMM_KERNEL_ARGS, ulong lists, ulong bytes, __global ulong *out)\n"
	"{\n"
	"	ulong at = lists + bytes * get_global_id(0), sum = 0;\n"
	"	struct umm u;\n"
	"	if (!umm_begin(&u, UMM_ARGS))\n"
	"		return;\n"
	"	for (; at; at = umm_load_ptr(&u, at))\n"
	"		sum += umm_load_ulong(&u, at + 8);\n"
	"	if (!umm_faulted(&u))\n"
	"		out[get_global_id(0)] = sum;\n"
	"}\n";

struct node {
	struct node *next;
	uint64_t value;
};

struct wait_state {
	struct bench_env *env;
	enum variant variant;
	struct umm_ctx *ctx;
	struct umm_opencl *device;
	cl_program program;
	cl_kernel kernel;
	cl_mem out;
	char *memory;
	size_t nlists, length;
};

static int find_waiting(void *priv, const struct umm_opencl_info *info)
{
	struct wait_state *s = priv;

	if (info->device == umm_opencl_cl_device(s->device))
		return info->capabilities & UMM_OPENCL_SVM_ATOMICS ? 2 : 1;
	return 0;
}

static int open_device(struct wait_state *s)
{
	struct umm_opencl_options options = {
		.device_bytes = 4 * s->nlists * s->length * UMM_PAGE_SIZE,
		.readahead = 1, /* less than a page: none */
	};
	int ret;

	ret = ours_opencl(s->env, s->ctx, &options, &s->device);
	if (!ret && umm_opencl_list(find_waiting, s) != 2)
		return bench_note(s->env, BENCH_SKIP,
				  "the device has no shared memory with atomics: it cannot wait");
	return ret;
}

static int open_kernel(struct wait_state *s)
{
	cl_context context = umm_opencl_cl_context(s->device);
	cl_ulong lists = (uintptr_t)s->memory, bytes = s->length * UMM_PAGE_SIZE;
	int ret = umm_opencl_build(s->device, source, NULL, &s->program, NULL);

	if (ret)
		return bench_note(s->env, ret, "compiling the kernel");
	s->kernel = clCreateKernel(s->program, "follow", NULL);
	s->out = clCreateBuffer(context, CL_MEM_READ_WRITE, 8 * s->nlists, NULL, NULL);
	if (!s->kernel || !s->out ||
	    clSetKernelArg(s->kernel, UMM_OPENCL_ARGS, sizeof(lists), &lists) ||
	    clSetKernelArg(s->kernel, UMM_OPENCL_ARGS + 1, sizeof(bytes), &bytes) ||
	    clSetKernelArg(s->kernel, UMM_OPENCL_ARGS + 2, sizeof(s->out), &s->out))
		return bench_note(s->env, -EIO, "preparing the kernel failed");
	return 0;
}

static struct node *node_at(const struct wait_state *s, size_t list, size_t i)
{
	size_t page = list * s->length + i * STRIDE % s->length;

	return (struct node *)(void *)(s->memory + page * UMM_PAGE_SIZE);
}

static void write_lists(struct wait_state *s)
{
	for (size_t list = 0; list < s->nlists; list++)
		for (size_t i = 0; i < s->length; i++)
			*node_at(s, list, i) = (struct node){
				.next = i + 1 < s->length ? node_at(s, list, i + 1) : NULL,
				.value = i + list,
			};
}

static int wait_setup(struct bench_env *env, const struct bench_case *bcase, void **state)
{
	struct wait_state *s = calloc(1, sizeof(*s));
	int ret;

	*state = s;
	if (!s)
		return -ENOMEM;
	s->env = env;
	s->variant = (enum variant)bcase->variant;
	s->nlists = s->variant == WAIT_SEVERAL ? MOST_LISTS : 1;
	s->length = env->quick ? LIST_FEW : LIST;
	ret = ours_ctx(env, &s->ctx);
	if (!ret)
		ret = open_device(s);
	if (!ret)
		ret = ours_memory(env, s->ctx, s->nlists * s->length * UMM_PAGE_SIZE, &s->memory);
	if (ret)
		return ret;
	write_lists(s);
	return open_kernel(s);
}

static int check(struct wait_state *s)
{
	cl_ulong sums[MOST_LISTS] = { 0 };

	if (clEnqueueReadBuffer(umm_opencl_cl_queue(s->device), s->out, CL_TRUE, 0, 8 * s->nlists,
				sums, 0, NULL, NULL))
		return bench_note(s->env, -EIO, "reading the sums failed");
	for (size_t list = 0; list < s->nlists; list++)
		if (sums[list] != s->length * (s->length - 1) / 2 + list * s->length)
			return bench_note(s->env, -EIO, "list %zu has the sum %llu", list,
					  (unsigned long long)sums[list]);
	return 0;
}

static int run(struct wait_state *s, uint64_t flags, struct series *out)
{
	struct umm_opencl_work work = { .size = sizeof(work),
					.flags = flags,
					.kernel = s->kernel,
					.dims = 1,
					.global = &s->nlists };
	uint64_t begin;
	int ret;

	umm_bring_home(s->ctx);
	begin = machine_now();
	ret = umm_opencl_launch(s->device, &work, NULL);
	series_push(out, (double)(machine_now() - begin) / 1e3 / (double)(s->nlists * s->length));
	return ret ? bench_note(s->env, ret, "a launch") : check(s);
}

static int wait_ours(void *state, struct series *out)
{
	struct wait_state *s = state;

	return run(s, s->variant == WAIT_CHOSEN ? 0 : UMM_OPENCL_WAIT, out);
}

static int wait_theirs(void *state, struct series *out)
{
	return run(state, UMM_OPENCL_REPLAY, out);
}

static void wait_teardown(void *state)
{
	struct wait_state *s = state;

	if (!s)
		return;
	if (s->kernel)
		clReleaseKernel(s->kernel);
	if (s->out)
		clReleaseMemObject(s->out);
	if (s->program)
		clReleaseProgram(s->program);
	umm_opencl_destroy(s->device);
	umm_ctx_put(s->ctx);
	free(s);
}

#define WAIT_CASE(NAME, SUMMARY, VARIANT)                                             \
	{                                                                             \
		.name = NAME, .summary = SUMMARY, .against = "replays", .unit = "us", \
		.kind = BENCH_SPEEDUP, .goal = 0, .pairs = 10, .variant = VARIANT,    \
		.setup = wait_setup, .ours = wait_ours, .theirs = wait_theirs,        \
		.teardown = wait_teardown,                                            \
	}

#endif

const struct bench_case case_wait[] = {
#ifdef BENCH_OPENCL
	WAIT_CASE("wait/one", "a page of a list, which one work-item waits for", WAIT_ONE),
	WAIT_CASE("wait/several", "the same of eight work-items with a list each", WAIT_SEVERAL),
	WAIT_CASE("wait/chosen", "one work-item, waiting or not as the library chooses",
		  WAIT_CHOSEN),
#endif
	{ 0 },
};
