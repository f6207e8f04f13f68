/* SPDX-License-Identifier: MIT */
/* Launches: the loop of rounds. */
#ifndef OPENCL_LAUNCH_H
#define OPENCL_LAUNCH_H

#include "umm_opencl.h"

/*
 * Run work, which is sound and whose events are complete, to its end; the caller is inside the
 * device. 0 or an error, reported; result is filled in.
 */
int launch_run(struct umm_opencl *ocl, const struct umm_opencl_work *work,
	       struct umm_opencl_result *result);

#endif
