/* SPDX-License-Identifier: MIT */
/*
 * Transfers by hand: clEnqueueWriteBuffer() and clEnqueueReadBuffer() in blocks of 2 MiB
 * between warm host memory of huge pages and buffers of the device, all in flight at
 * once. As floor.h otherwise.
 */
#ifndef FLOOR_OPENCL_H
#define FLOOR_OPENCL_H

#include <stdbool.h>
#include <stddef.h>

#include "umm_opencl.h"

struct floor_opencl;
int floor_opencl_open(cl_context context, cl_device_id device, size_t len,
		      struct floor_opencl **out);
int floor_opencl_run(struct floor_opencl *f, bool back);
void floor_opencl_close(struct floor_opencl *f);

/*
 * More memory than the device is to hold, streamed through a kernel by hand: while it reads one
 * buffer the next part is copied into the other. The kernel's argument 0 is the buffer, and its
 * work-items read `step` bytes each; their numbers go on from part to part.
 */
struct floor_stream;
int floor_stream_open(cl_context context, cl_device_id device, size_t part,
		      struct floor_stream **out);
int floor_stream_run(struct floor_stream *f, cl_kernel kernel, const char *host, size_t len,
		     size_t step);
void floor_stream_close(struct floor_stream *f);

#endif
