/* SPDX-License-Identifier: MIT */
/* Device memory that only commands reach, mapped between rounds, for the host to copy into. */
#ifndef OPENCL_MAPPING_H
#define OPENCL_MAPPING_H

#include "device.h"

/* See whether the device's memory can be mapped. */
void mapping_open(struct umm_opencl *ocl);

/*
 * By who holds umm_opencl.launch, while no round runs: have the memory mapped, if that is possible;
 * may be so already. From then to mapping_end() copies are made by the host, and frame_host finds
 * frames for this thread and for those between mapping_join() and mapping_leave().
 */
void mapping_begin(struct umm_opencl *ocl);
void mapping_end(struct umm_opencl *ocl);

/* By who was handed work by a thread that has mapped it, or not, and that waits for the work. */
void mapping_join(struct umm_opencl *ocl);
void mapping_leave(void);

/* Is it mapped? Asked by who may call mapping_end(), or has joined. */
bool mapping_is(const struct umm_opencl *ocl);

/* Where this thread finds a frame of these pools in the mapping; NULL: it does not. */
void *mapping_host(const struct pools *pools, uint32_t frame);

#endif
