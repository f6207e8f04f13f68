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
