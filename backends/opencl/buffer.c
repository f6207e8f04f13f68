/* SPDX-License-Identifier: MIT */
/*
 * Buffers that grow. Those that the host is to reach while a kernel runs are fine-grained shared
 * memory, for which clSVMAlloc() of OpenCL 2.0 is needed; a loader may lack it.
 *
 * Locks: the caller holds umm_opencl.launch, and no round runs.
 */
#define CL_TARGET_OPENCL_VERSION 200 /* clSVMAlloc(), where there is one */

#include "buffer.h"

#include <string.h>

#include "report.h"

#pragma weak clSVMAlloc
#pragma weak clSVMFree

#define SHARED (CL_MEM_READ_WRITE | CL_MEM_SVM_FINE_GRAIN_BUFFER | CL_MEM_SVM_ATOMICS)

void buffer_release(struct umm_opencl *ocl, struct buffer *buffer)
{
	if (buffer->mem)
		clReleaseMemObject(buffer->mem);
	if (buffer->host)
		clSVMFree(ocl->context, buffer->host);
	memset(buffer, 0, sizeof(*buffer));
}

int buffer_zero(struct umm_opencl *ocl, struct buffer *buffer)
{
	static const cl_uint zero;

	return report_cl(clEnqueueFillBuffer(ocl->rounds, buffer->mem, &zero, sizeof(zero), 0,
					     buffer->len, 0, NULL, NULL),
			 "clEnqueueFillBuffer()");
}

static int buffer_create(struct umm_opencl *ocl, struct buffer *buffer, bool shared)
{
	cl_mem_flags flags = CL_MEM_READ_WRITE;
	cl_int err;

	if (shared && ocl->can_wait && clSVMAlloc)
		buffer->host = clSVMAlloc(ocl->context, SHARED, buffer->len, 0);
	if (buffer->host)
		flags |= CL_MEM_USE_HOST_PTR;
	buffer->mem = clCreateBuffer(ocl->context, flags, buffer->len, buffer->host, &err);
	return report_cl(err, "clCreateBuffer() for the page table");
}

static int grow(struct umm_opencl *ocl, struct buffer *buffer, size_t len, bool shared)
{
	struct buffer grown = { .len = buffer->len ? buffer->len : len };
	int ret;

	if (buffer->len >= len)
		return 0;
	while (grown.len < len)
		grown.len *= 2;
	ret = buffer_create(ocl, &grown, shared);
	if (!ret)
		ret = buffer_zero(ocl, &grown);
	if (ret) {
		buffer_release(ocl, &grown);
		return ret;
	}
	buffer_release(ocl, buffer);
	*buffer = grown;
	return 1;
}

int buffer_grow(struct umm_opencl *ocl, struct buffer *buffer, size_t len)
{
	return grow(ocl, buffer, len, false);
}

int buffer_grow_shared(struct umm_opencl *ocl, struct buffer *buffer, size_t len)
{
	return grow(ocl, buffer, len, true);
}
