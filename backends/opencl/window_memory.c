/* SPDX-License-Identifier: MIT */
/*
 * Device memory of windows. Each window that has some is a PLACED memory of its own, whose
 * frames are one buffer: page i of the range is page i of the buffer. All windows together
 * have windows.bytes; where that is used up, or the device gives no more, those that were
 * acquired longest ago and are not held lose theirs: their pages go home as if evicted. None does
 * for a window that would have no room all the same, because of those that are held.
 *
 * With tracking a second buffer has the pages as they were before a kernel ran, and a kernel
 * of ours compares the two: exact, and it needs nothing of the kernel that wrote.
 *
 * Locks: the caller holds windows.residency.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "report.h"
#include "window.h"

/* Each work-item compares 64 bytes: 64 of them a page. */
static const char compare_source[] =
	"__kernel void compare(__global const ulong8 *now, __global const ulong8 *then,\n"
	"		       __global uint *bits)\n"
	"{\n"
	"	uint i = get_global_id(0);\n"
	"	ulong8 d = now[i] ^ then[i];\n"
	"	if (d.s0 | d.s1 | d.s2 | d.s3 | d.s4 | d.s5 | d.s6 | d.s7)\n"
	"		atomic_or(&bits[i >> 11], 1u << (i >> 6 & 31));\n"
	"}\n";

static uint64_t bytes_of(const struct umm_opencl_window *window)
{
	return ((uint64_t)window->npages << UMM_PAGE_SHIFT) << window->track;
}

void window_release_buffers(struct umm_opencl_window *window)
{
	pools_destroy(&window->pools);
	if (window->shadow)
		clReleaseMemObject(window->shadow);
	window->shadow = NULL;
}

void window_unback(struct umm_opencl_window *window)
{
	if (!window->mem)
		return;
	window_drain(window);
	umm_devmem_remove(window->mem);
	window->mem = NULL;
	window_release_buffers(window);
	window->ocl->windows->used -= bytes_of(window);
}

/* The window acquired longest ago that has memory and is not held; NULL: none. */
static struct umm_opencl_window *find_victim(struct windows *windows)
{
	struct umm_opencl_window *victim = NULL;

	for (struct umm_opencl_window *w = windows->first; w; w = w->next) {
		pthread_mutex_lock(&w->lock);
		if (w->mem && !w->held)
			victim = w;
		pthread_mutex_unlock(&w->lock);
	}
	return victim;
}

static int create_shadow(struct umm_opencl_window *window)
{
	cl_int err;

	if (!window->track)
		return 0;
	window->shadow = clCreateBuffer(window->ocl->context, CL_MEM_READ_WRITE,
					(size_t)window->npages << UMM_PAGE_SHIFT, NULL, &err);
	return report_cl(err, "clCreateBuffer() to compare a window with");
}

static int create_buffers(struct umm_opencl_window *window)
{
	struct umm_opencl *ocl = window->ocl;
	int ret = pools_create_one(&window->pools, ocl->context, ocl->device, window->npages);

	if (!ret)
		ret = create_shadow(window);
	if (ret)
		window_release_buffers(window);
	return ret;
}

static int add_memory(struct umm_opencl_window *window)
{
	struct umm_devmem_options options = {
		.size = sizeof(options),
		.flags = UMM_DEVMEM_PLACED,
		.type = UMM_DEVMEM_PRIVATE,
		.nframes = window->npages,
		.start = window->start,
	};
	int ret = umm_devmem_add(window->ocl->dev, &options, &window->mem);

	if (ret) {
		window->mem = NULL;
		window_release_buffers(window);
		return ret;
	}
	umm_devmem_priv_set(window->mem, &window->pools);
	window->ocl->windows->used += bytes_of(window);
	return 0;
}

/* What windows that are held keep. */
static uint64_t held_bytes(struct windows *windows)
{
	uint64_t bytes = 0;

	for (struct umm_opencl_window *w = windows->first; w; w = w->next) {
		pthread_mutex_lock(&w->lock);
		if (w->held)
			bytes += bytes_of(w);
		pthread_mutex_unlock(&w->lock);
	}
	return bytes;
}

/* Let others that are not held go until there is room within windows.bytes. 0 or -ENOSPC. */
static int make_room(struct umm_opencl_window *window)
{
	struct windows *windows = window->ocl->windows;
	uint64_t held = held_bytes(windows);

	if (held + bytes_of(window) > windows->bytes) {
		report(UMM_LOG_ERROR,
		       "a window of %u pages has no room: of window_bytes (%" PRIu64
		       ") windows that are held keep %" PRIu64,
		       window->npages, windows->bytes, held);
		return -ENOSPC;
	}
	/* What is used beyond what is held can go: there is a victim. */
	while (windows->used + bytes_of(window) > windows->bytes)
		window_unback(find_victim(windows));
	return 0;
}

int window_back(struct umm_opencl_window *window)
{
	struct umm_opencl_window *victim;
	int ret;

	if (window->mem)
		return 0;
	ret = make_room(window);
	if (ret)
		return ret;
	/* The device may give less. */
	while ((ret = create_buffers(window)) == -ENOMEM) {
		victim = find_victim(window->ocl->windows);
		if (!victim)
			return ret;
		window_unback(victim);
	}
	return ret ? ret : add_memory(window);
}

int window_remember(struct umm_opencl_window *window)
{
	struct umm_opencl *ocl = window->ocl;
	size_t len = (size_t)window->npages << UMM_PAGE_SHIFT;
	cl_event copied;
	int ret = report_cl(clEnqueueCopyBuffer(ocl->transfer.queue, window->pools.mem[0],
						window->shadow, 0, 0, len, 0, NULL, &copied),
			    "clEnqueueCopyBuffer() of a window");

	if (ret)
		return ret;
	/* Not clFinish(): others may flush the queue, and what was flushed rusticl forgets. */
	ret = report_cl(clWaitForEvents(1, &copied), "clWaitForEvents() of a window's copy");
	clReleaseEvent(copied);
	return ret;
}

static int build_compare(struct umm_opencl *ocl)
{
	struct windows *windows = ocl->windows;
	const char *source = compare_source;
	cl_program program;
	cl_int err;
	char *log;
	int ret;

	if (windows->compare)
		return 0;
	program = clCreateProgramWithSource(ocl->context, 1, &source, NULL, &err);
	ret = report_cl(err, "clCreateProgramWithSource() of the kernel that compares");
	if (ret)
		return ret;
	ret = report_cl(clBuildProgram(program, 1, &ocl->device, "", NULL, NULL),
			"clBuildProgram() of the kernel that compares");
	if (!ret) {
		windows->compare = clCreateKernel(program, "compare", &err);
		ret = report_cl(err, "clCreateKernel() of the kernel that compares");
	} else if ((log = report_build_log(program, ocl->device))) {
		report_lines(log);
		free(log);
	}
	if (ret)
		clReleaseProgram(program);
	else
		windows->program = program;
	return ret;
}

/* In a queue of its own, so that other work is not waited for. */
static int run_compare(struct umm_opencl_window *window, cl_command_queue queue, cl_mem found,
		       uint64_t *bits)
{
	cl_kernel kernel = window->ocl->windows->compare;
	size_t items = (size_t)window->npages * (UMM_PAGE_SIZE / 64);
	size_t len = window_words(window) * sizeof(*bits);
	cl_int err = clSetKernelArg(kernel, 0, sizeof(cl_mem), &window->pools.mem[0]);
	int ret;

	if (err == CL_SUCCESS)
		err = clSetKernelArg(kernel, 1, sizeof(cl_mem), &window->shadow);
	if (err == CL_SUCCESS)
		err = clSetKernelArg(kernel, 2, sizeof(cl_mem), &found);
	ret = report_cl(err, "clSetKernelArg() of the kernel that compares");
	if (!ret)
		ret = report_cl(clEnqueueWriteBuffer(queue, found, CL_TRUE, 0, len, bits, 0, NULL,
						     NULL),
				"clEnqueueWriteBuffer() for the kernel that compares");
	if (!ret)
		ret = report_cl(clEnqueueNDRangeKernel(queue, kernel, 1, NULL, &items, NULL, 0,
						       NULL, NULL),
				"clEnqueueNDRangeKernel() of the kernel that compares");
	if (!ret)
		ret = report_cl(clEnqueueReadBuffer(queue, found, CL_TRUE, 0, len, bits, 0, NULL,
						    NULL),
				"clEnqueueReadBuffer() of what the kernel that compares found");
	return ret;
}

int window_compare(struct umm_opencl_window *window, uint64_t *bits)
{
	struct umm_opencl *ocl = window->ocl;
	size_t len = window_words(window) * sizeof(*bits);
	cl_command_queue queue;
	cl_mem found = NULL;
	cl_int err;
	int ret = build_compare(ocl);

	if (ret)
		return ret;
	memset(bits, 0, len);
	queue = clCreateCommandQueue(ocl->context, ocl->device, 0, &err);
	if (err != CL_SUCCESS)
		return report_cl(err, "clCreateCommandQueue() to compare a window in");
	found = clCreateBuffer(ocl->context, CL_MEM_READ_WRITE, len, NULL, &err);
	ret = report_cl(err, "clCreateBuffer() to compare a window with");
	if (!ret) {
		ret = run_compare(window, queue, found, bits);
		clReleaseMemObject(found);
	}
	clReleaseCommandQueue(queue);
	return ret;
}
