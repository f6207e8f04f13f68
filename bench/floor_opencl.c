/* SPDX-License-Identifier: MIT */
/*
 * Transfers by hand, through a queue of their own in the same context and on the same
 * device that libumm uses. One large buffer need not be possible, so there are several. The
 * blocks are independent of each other: the queue may run them out of order where it can.
 */
#include "floor_opencl.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "machine.h"

#define BLOCK	 ((size_t)1 << 21)
#define BUFFER	 ((size_t)256 << 20)
#define NBUFFERS 64

struct floor_opencl {
	cl_command_queue queue;
	cl_mem buffer[NBUFFERS];
	size_t len;
	char *host;
};

static cl_command_queue open_queue(cl_context context, cl_device_id device)
{
	cl_command_queue_properties can = 0;

	clGetDeviceInfo(device, CL_DEVICE_QUEUE_PROPERTIES, sizeof(can), &can, NULL);
	can &= CL_QUEUE_OUT_OF_ORDER_EXEC_MODE_ENABLE;
	return clCreateCommandQueue(context, device, can, NULL);
}

int floor_opencl_open(cl_context context, cl_device_id device, size_t len,
		      struct floor_opencl **out)
{
	struct floor_opencl *f = calloc(1, sizeof(*f));
	size_t at, room;
	int ret = -ENOMEM;

	if (!f)
		return -ENOMEM;
	f->len = len;
	if (len > BUFFER * NBUFFERS)
		goto err_close;
	f->host = machine_map(len, MADV_HUGEPAGE, true);
	f->queue = open_queue(context, device);
	if (!f->host || !f->queue)
		goto err_close;
	for (at = 0; at < len; at += BUFFER) {
		room = len - at < BUFFER ? len - at : BUFFER;
		f->buffer[at / BUFFER] =
			clCreateBuffer(context, CL_MEM_READ_WRITE, room, NULL, NULL);
		if (!f->buffer[at / BUFFER])
			goto err_close;
	}
	ret = floor_opencl_run(f, false); /* now the device has the memory for real */
	if (ret)
		goto err_close;
	*out = f;
	return 0;

err_close:
	floor_opencl_close(f);
	return ret;
}

int floor_opencl_run(struct floor_opencl *f, bool back)
{
	cl_int err = CL_SUCCESS;
	size_t at;

	for (at = 0; at < f->len && err == CL_SUCCESS; at += BLOCK) {
		cl_mem buffer = f->buffer[at / BUFFER];
		size_t len = f->len - at < BLOCK ? f->len - at : BLOCK;

		if (back)
			err = clEnqueueReadBuffer(f->queue, buffer, CL_FALSE, at % BUFFER, len,
						  f->host + at, 0, NULL, NULL);
		else
			err = clEnqueueWriteBuffer(f->queue, buffer, CL_FALSE, at % BUFFER, len,
						   f->host + at, 0, NULL, NULL);
	}
	if (clFinish(f->queue) != CL_SUCCESS || err != CL_SUCCESS)
		return -EIO;
	return 0;
}

void floor_opencl_close(struct floor_opencl *f)
{
	int i;

	if (!f)
		return;
	for (i = 0; i < NBUFFERS; i++)
		if (f->buffer[i])
			clReleaseMemObject(f->buffer[i]);
	if (f->queue)
		clReleaseCommandQueue(f->queue);
	machine_unmap(f->host, f->len);
	free(f);
}

struct floor_stream {
	cl_command_queue copies, kernels;
	cl_mem buffer[2];
	cl_event read[2]; /* the kernel that reads it */
	size_t part;
};

int floor_stream_open(cl_context context, cl_device_id device, size_t part,
		      struct floor_stream **out)
{
	struct floor_stream *f = calloc(1, sizeof(*f));

	if (!f)
		return -ENOMEM;
	f->part = part;
	f->copies = clCreateCommandQueue(context, device, 0, NULL);
	f->kernels = clCreateCommandQueue(context, device, 0, NULL);
	for (int i = 0; i < 2; i++)
		f->buffer[i] = clCreateBuffer(context, CL_MEM_READ_ONLY, part, NULL, NULL);
	if (f->copies && f->kernels && f->buffer[0] && f->buffer[1]) {
		*out = f;
		return 0;
	}
	floor_stream_close(f);
	return -ENOMEM;
}

static void forget(cl_event *event)
{
	if (*event)
		clReleaseEvent(*event);
	*event = NULL;
}

/* The last kernel on each buffer: clFinish() of rusticl does not wait for what was flushed. */
static cl_int wait_for(cl_event *event)
{
	cl_int err = *event ? clWaitForEvents(1, event) : CL_SUCCESS;

	forget(event);
	return err;
}

/* One part, which goes where the part before the last was. */
static cl_int stream_part(struct floor_stream *f, cl_kernel kernel, const char *host, size_t at,
			  size_t len, size_t step)
{
	int i = (int)(at / f->part % 2);
	size_t offset = at / step, items = len / step;
	cl_event copied;
	cl_int err;

	err = clEnqueueWriteBuffer(f->copies, f->buffer[i], CL_FALSE, 0, len, host + at,
				   f->read[i] ? 1 : 0, f->read[i] ? &f->read[i] : NULL, &copied);
	if (err != CL_SUCCESS)
		return err;
	forget(&f->read[i]);
	clFlush(f->copies);
	err = clSetKernelArg(kernel, 0, sizeof(cl_mem), &f->buffer[i]);
	if (err == CL_SUCCESS)
		err = clEnqueueNDRangeKernel(f->kernels, kernel, 1, &offset, &items, NULL, 1,
					     &copied, &f->read[i]);
	clFlush(f->kernels);
	clReleaseEvent(copied);
	return err;
}

int floor_stream_run(struct floor_stream *f, cl_kernel kernel, const char *host, size_t len,
		     size_t step)
{
	cl_int err = CL_SUCCESS, first, second;

	for (size_t at = 0; at < len && err == CL_SUCCESS; at += f->part)
		err = stream_part(f, kernel, host, at, len - at < f->part ? len - at : f->part,
				  step);
	first = wait_for(&f->read[0]);
	second = wait_for(&f->read[1]);
	return err == CL_SUCCESS && first == CL_SUCCESS && second == CL_SUCCESS ? 0 : -EIO;
}

void floor_stream_close(struct floor_stream *f)
{
	if (!f)
		return;
	for (int i = 0; i < 2; i++)
		if (f->buffer[i])
			clReleaseMemObject(f->buffer[i]);
	if (f->copies)
		clReleaseCommandQueue(f->copies);
	if (f->kernels)
		clReleaseCommandQueue(f->kernels);
	free(f);
}
