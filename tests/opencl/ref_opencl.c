/* SPDX-License-Identifier: MIT */
/*
 * An OpenCL device below the reference device, so that all that the core's tests know of
 * devices is tried on the backend as it is: its copies, its buffers, its threads.
 *
 * This file compiles the backend's device.c once more, with its calls into the core coming out
 * here: the reference device's operations are put before the backend's, and its mirror is the
 * only one. Frames are reached by commands alone, as on a device of its own.
 *
 * All devices share one OpenCL context. No locks: what a creation in progress has is its thread's.
 */
#include "ref_opencl.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "ref_device.h"
#include "umm_opencl.h"

static _Thread_local struct {
	struct ref_device *ref;
	ref_join *join;
} making;

static cl_context shared;
static pthread_once_t context_once = PTHREAD_ONCE_INIT;

static int copy_op(void *priv, const struct umm_copy *copies, unsigned ncopies,
		   struct umm_fence *done);

static int device_create(struct umm_ctx *ctx, const struct umm_device_ops *ops, void *priv,
			 uint64_t flags, struct umm_device **out)
{
	struct umm_device_ops mine = *ops;

	(void)ctx;
	(void)flags;
	mine.copy = copy_op;
	return making.join(making.ref, &mine, priv, out);
}

static int mirror_register(struct umm_device *dev, const struct umm_mirror_ops *ops, void *priv,
			   struct umm_mirror **out)
{
	(void)dev;
	(void)ops;
	(void)priv;
	*out = NULL;
	return 0;
}

#define umm_device_create   device_create
#define umm_mirror_register mirror_register
#include "backends/opencl/device.c"
#undef umm_device_create
#undef umm_mirror_register

/* The memory's word is the reference device's, so its pools are not found by it. */
static int copy_op(void *priv, const struct umm_copy *copies, unsigned ncopies,
		   struct umm_fence *done)
{
	struct umm_opencl *ocl = priv;

	return transfer_start(&ocl->transfer, &ocl->pools, copies, ncopies, done);
}

static void access_frame(void *priv, uint32_t frame, size_t offset, void *buf, size_t len,
			 bool write)
{
	struct umm_opencl *ocl = priv;
	cl_mem mem = ocl->pools.mem[pools_index(&ocl->pools, frame)];
	cl_int err;

	offset += pools_offset(&ocl->pools, frame);
	if (write)
		err = clEnqueueWriteBuffer(ocl->queue, mem, CL_TRUE, offset, len, buf, 0, NULL,
					   NULL);
	else
		err = clEnqueueReadBuffer(ocl->queue, mem, CL_TRUE, offset, len, buf, 0, NULL,
					  NULL);
	if (err != CL_SUCCESS)
		fprintf(stderr, "reference device: frame %u: %s\n", frame, report_cl_name(err));
}

static int find_device(void *priv, const struct umm_opencl_info *info)
{
	const char *name = getenv("UMM_TEST_OPENCL");

	if (!info->device || info->usable || (name && !strstr(info->device_name, name)))
		return 0;
	*(cl_device_id *)priv = info->device;
	return 1;
}

static cl_device_id device_find(void)
{
	cl_device_id device;

	return umm_opencl_list(find_device, &device) == 1 ? device : NULL;
}

static void context_open(void)
{
	cl_device_id device = device_find();

	if (device)
		shared = clCreateContext(NULL, 1, &device, NULL, NULL, NULL);
}

/* A child looks: children of tests may use OpenCL only where this process has not yet. */
_Bool ref_opencl_missing(void)
{
	pid_t child = fork();
	int status;

	if (!child)
		_exit(!device_find());
	return child > 0 && waitpid(child, &status, 0) == child && WIFEXITED(status) &&
	       WEXITSTATUS(status) == 1;
}

static int make(struct ref_device *ref, const struct ref_options *options, ref_join *join,
		struct ref_real *out)
{
	struct umm_opencl_options opencl_options = {
		.size = sizeof(opencl_options),
		.device_bytes = (uint64_t)options->nframes << UMM_PAGE_SHIFT,
		.fault_entries = 64,
		.window_bytes = UMM_PAGE_SIZE,
	};
	struct umm_opencl *ocl;
	int ret;

	/* There is no such memory: the reference device's own stands beside the backend's. */
	if (options->type == UMM_DEVMEM_COHERENT)
		return -EOPNOTSUPP;
	pthread_once(&context_once, context_open);
	if (!shared)
		return -ENODEV;
	opencl_options.context = shared;
	making.ref = ref;
	making.join = join;
	ret = umm_opencl_create(ref->ctx, &opencl_options, &ocl);
	if (ret)
		return ret;
	out->mem = umm_opencl_devmem(ocl);
	out->access = access_frame;
	return 0;
}

_Bool ref_opencl_use(void)
{
	const char *name = getenv("UMM_TEST_BACKEND");

	if (!name || strcmp(name, "opencl") != 0)
		return 0;
	ref_backend_use(make);
	return 1;
}
