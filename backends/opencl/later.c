/* SPDX-License-Identifier: MIT */
/*
 * A launch that the caller does not wait for is a copy of the work, done by pending.c.
 *
 * A kernel object's arguments may be set anew once a command was enqueued. So the launch has a
 * clone of it, where the device's OpenCL has such; else the kernel object is the launch's until it
 * is done, as umm_opencl.h says.
 *
 * No locks of its own.
 */
#define CL_TARGET_OPENCL_VERSION 210 /* clCloneKernel(), where there is one */

#include "later.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "device.h"
#include "launch.h"
#include "pending.h"
#include "platform.h"
#include "report.h"
#include "size.h"

#pragma weak clCloneKernel

struct later {
	struct umm_opencl_work work;
	struct umm_opencl_result *result; /* the caller's, or NULL */
	size_t offset[3];
	size_t global[3];
	size_t local[3];
};

/* The kernel with its arguments as they are now; released later. */
static int take_kernel(struct umm_opencl *ocl, cl_kernel kernel, cl_kernel *out)
{
	cl_kernel clone;
	cl_int err;

	if (!clCloneKernel || !platform_at_least(ocl->device, 2, 1)) {
		err = clRetainKernel(kernel);
		*out = err == CL_SUCCESS ? kernel : NULL;
		return report_cl_given(err, "clRetainKernel()");
	}
	clone = clCloneKernel(kernel, &err);
	*out = err == CL_SUCCESS ? clone : NULL;
	return report_cl_given(err, "clCloneKernel()");
}

static const size_t *take_sizes(size_t *to, const size_t *from, cl_uint dims)
{
	if (!from)
		return NULL;
	memcpy(to, from, dims * sizeof(*to));
	return to;
}

static int later_run(struct umm_opencl *ocl, void *priv, int ret)
{
	struct umm_opencl_result result = { .size = sizeof(result) };
	struct later *later = priv;

	if (!ret)
		ret = launch_run(ocl, &later->work, &result);
	ret = device_verdict(ocl, ret);
	result.status = ret;
	if (later->result)
		size_out(later->result, &result, sizeof(result));
	return ret;
}

static void later_drop(void *priv)
{
	struct later *later = priv;

	if (later->work.kernel)
		clReleaseKernel(later->work.kernel);
	free(later);
}

int later_launch(struct umm_opencl *ocl, const struct umm_opencl_work *work,
		 struct umm_opencl_result *result)
{
	struct later *later = calloc(1, sizeof(*later));
	struct pending_op op = {
		.run = later_run,
		.drop = later_drop,
		.priv = later,
		.nwait = work->nwait,
		.wait = work->wait,
	};
	int ret;

	if (!later)
		return -ENOMEM;
	later->work = *work;
	later->result = result;
	later->work.offset = take_sizes(later->offset, work->offset, work->dims);
	later->work.global = take_sizes(later->global, work->global, work->dims);
	later->work.local = take_sizes(later->local, work->local, work->dims);
	ret = take_kernel(ocl, work->kernel, &later->work.kernel);
	if (ret) {
		later_drop(later);
		return ret;
	}
	return pending_submit(ocl->pending, &op, work->event);
}
