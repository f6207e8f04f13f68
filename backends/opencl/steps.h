/* SPDX-License-Identifier: MIT */
/* What is known of a kernel's launches: do they go in steps, how many work-items fit (launch.c). */
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

/*
 * How many work-items do not take each other's pages, as earlier launches found out? 0: nothing is
 * known, or all; to be asked once for each launch. And what this one has found out.
 */
uint32_t steps_fit(struct umm_opencl *ocl, const struct umm_opencl_work *work, uint32_t nitems);
void steps_learn_fit(struct umm_opencl *ocl, const struct umm_opencl_work *work, uint32_t nitems,
		     uint32_t fit);

#endif
