/* SPDX-License-Identifier: MIT */
/* Finding OpenCL devices and what they can do. */
#ifndef OPENCL_PLATFORM_H
#define OPENCL_PLATFORM_H

#include "umm_opencl.h"

#define PLATFORM_MAX_POOLS 4

/*
 * Is this a child of the process that first asked this, which has what OpenCL's locks and threads
 * left behind there? Then it is reported.
 */
bool platform_is_parents(void);

/*
 * The first device that fits the names and the type in options and is usable. 0;
 * -ENODEV none fits; -EOPNOTSUPP one fits, but is not usable. Both are reported.
 */
int platform_choose(const struct umm_opencl_options *options, cl_device_id *out);

/*
 * Can the backend work with this device? 0 or -EOPNOTSUPP; reason, if not NULL, is
 * then a static string.
 */
int platform_check(cl_device_id device, const char **reason);

/* Is the device's OpenCL of this version or later? */
bool platform_at_least(cl_device_id device, int major, int minor);

/* Does completing a user event do the commands that wait for it, in the same thread? */
bool platform_completes_in_caller(cl_device_id device);

struct platform_limits {
	uint64_t global_bytes;
	uint64_t max_alloc_bytes;
	uint64_t max_device_bytes;
	uint64_t default_device_bytes;
	bool fine_grain; /* has buffers that host and device may use at once, */
	bool atomics;	 /* and in which they see what the other stores */
	bool unified;	 /* its memory is the host's: mapping a buffer copies nothing */
	uint32_t units;	 /* that run work-groups */
};

void platform_limits(cl_device_id device, struct platform_limits *limits);

#endif
