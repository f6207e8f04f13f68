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

#endif
