/* SPDX-License-Identifier: MIT */
/* See beside.h. One thread, no locks. */
#include "beside.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#define SKIP 77

void beside_need(int what, const char *why)
{
	if (what)
		return;
	fprintf(stderr, "%s\n", why);
	exit(1);
}

static void need_cl(cl_int err, const char *what)
{
	if (err == CL_SUCCESS)
		return;
	fprintf(stderr, "%s failed: OpenCL error %d\n", what, err);
	exit(1);
}

double beside_seconds(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

void beside_start(struct beside *b)
{
	int ret = umm_ctx_create(NULL, &b->ctx);

	if (ret)
		exit(ret == -EPERM || ret == -EOPNOTSUPP ? SKIP : 1); /* the library has said why */
}

void *beside_alloc(struct beside *b, size_t bytes)
{
	void *memory;

	if (umm_alloc(b->ctx, bytes, UMM_ALLOC_SMALL_PAGES, &memory))
		exit(1);
	return memory;
}

void beside_open(struct beside *b, const char *source, size_t device_bytes)
{
	struct umm_opencl_options options = {
		.size = sizeof(options),
		.device_bytes = device_bytes,
		.device_name = getenv("UMM_EXAMPLE_DEVICE"),
	};
	int ret = umm_opencl_create(b->ctx, &options, &b->ocl);
	cl_int err;

	if (ret == -ENODEV)
		exit(SKIP);
	if (ret || umm_opencl_build(b->ocl, source, NULL, &b->program, NULL))
		exit(1);
	b->device_bytes = device_bytes;
	b->context = umm_opencl_cl_context(b->ocl);
	b->queue = clCreateCommandQueue(b->context, umm_opencl_cl_device(b->ocl), 0, &err);
	need_cl(err, "clCreateCommandQueue");
}

void beside_close(struct beside *b)
{
	clReleaseCommandQueue(b->queue);
	clReleaseProgram(b->program);
	umm_ctx_put(b->ctx);
}

struct umm_opencl_result beside_launch(struct beside *b, const char *kernel, size_t items,
				       unsigned nargs, const cl_ulong *args)
{
	struct umm_opencl_result result = { .size = sizeof(result) };
	struct umm_opencl_work work = { .size = sizeof(work), .dims = 1, .global = &items };
	cl_int err;

	work.kernel = clCreateKernel(b->program, kernel, &err);
	need_cl(err, kernel);
	for (unsigned i = 0; i < nargs; i++)
		clSetKernelArg(work.kernel, UMM_OPENCL_ARGS + i, sizeof(args[i]), &args[i]);
	if (umm_opencl_launch(b->ocl, &work, &result))
		exit(1);
	clReleaseKernel(work.kernel);
	return result;
}

cl_mem beside_buffer(struct beside *b, size_t bytes, const void *from)
{
	static const cl_uint zero;
	cl_int err;
	cl_mem buffer = clCreateBuffer(b->context, CL_MEM_READ_WRITE, bytes, NULL, &err);

	need_cl(err, "clCreateBuffer");
	if (from)
		err = clEnqueueWriteBuffer(b->queue, buffer, CL_TRUE, 0, bytes, from, 0, NULL,
					   NULL);
	else
		err = clEnqueueFillBuffer(b->queue, buffer, &zero, sizeof(zero), 0, bytes, 0, NULL,
					  NULL);
	need_cl(err, "filling a buffer");
	return buffer;
}

void beside_run(struct beside *b, const char *kernel, size_t items, unsigned nbuffers,
		const cl_mem *buffers, cl_uint last)
{
	cl_int err;
	cl_kernel k = clCreateKernel(b->program, kernel, &err);

	need_cl(err, kernel);
	for (unsigned i = 0; i < nbuffers; i++)
		clSetKernelArg(k, i, sizeof(cl_mem), &buffers[i]);
	clSetKernelArg(k, nbuffers, sizeof(last), &last);
	need_cl(clEnqueueNDRangeKernel(b->queue, k, 1, NULL, &items, NULL, 0, NULL, NULL), kernel);
	need_cl(clFinish(b->queue), kernel);
	clReleaseKernel(k);
}

void beside_read(struct beside *b, cl_mem buffer, size_t bytes, void *to)
{
	need_cl(clEnqueueReadBuffer(b->queue, buffer, CL_TRUE, 0, bytes, to, 0, NULL, NULL),
		"clEnqueueReadBuffer");
}

void beside_report(struct beside *b, double on_demand_s, double copied_s, size_t copied_bytes)
{
	struct umm_stats stats = { .size = sizeof(stats) };
	const double mib = 1 << 20;

	umm_device_stats(umm_opencl_device(b->ocl), &stats);
	printf("%30s %18s\n", "pages on demand", "all copied first");
	printf("%-12s %13.1f MiB %14.1f MiB\n", "memory", (double)b->device_bytes / mib,
	       (double)copied_bytes / mib);
	printf("%-12s %13.1f MiB %14.1f MiB\n", "copied",
	       (double)stats.counter[UMM_COUNT_BYTES_TO_DEVICE] / mib, (double)copied_bytes / mib);
	printf("%-12s %15.3f s %16.3f s (with compiling)\n", "time", on_demand_s, copied_s);
}
