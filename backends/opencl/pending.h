/* SPDX-License-Identifier: MIT */
/* Operations that were handed over: they stand in the caller's queue, and a thread does them. */
#ifndef OPENCL_PENDING_H
#define OPENCL_PENDING_H

#include "umm_opencl.h"

struct pending_op {
	/*
	 * ret: what waiting for its turn gave; where that is an error there is nothing to do
	 * but to note it. What it returns becomes the event's status.
	 */
	int (*run)(struct umm_opencl *ocl, void *priv, int ret);
	void (*drop)(void *priv); /* once, whatever happens */
	void *priv;
	cl_uint nwait;
	const cl_event *wait;
};

/* 0 or -ENOMEM. */
int pending_create(struct umm_opencl *ocl);

/* Nothing is pending, and nobody submits any more. */
void pending_destroy(struct umm_opencl *ocl);

/*
 * Hand op over; event completes after it, and is the caller's to release. The caller is inside
 * the device (device_enter()) and holds no lock. 0 or an error, reported.
 */
int pending_submit(struct umm_opencl *ocl, const struct pending_op *op, cl_event *event);

#endif
