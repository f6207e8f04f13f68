/* SPDX-License-Identifier: MIT */
/* Whether a launch that misses much at first goes in steps (launch.c). */
#ifndef OPENCL_STEPS_H
#define OPENCL_STEPS_H

#include "device.h"

/* Decide how it is decided: as UMM_OPENCL_STEPS says. */
void steps_decide(struct umm_opencl *ocl);

/*
 * Is it to go in steps? To be asked once for each launch that may. likely: that is the better way,
 * as long as nothing is known.
 */
bool steps_pay(struct umm_opencl *ocl, const struct umm_opencl_work *work, uint32_t nitems,
	       bool likely);

/* It is over, and has taken so long for so many pages. */
void steps_learn(struct umm_opencl *ocl, const struct umm_opencl_work *work, uint32_t nitems,
		 bool in_steps, uint64_t ns_per_page);

#endif
