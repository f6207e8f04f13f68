/* SPDX-License-Identifier: MIT */
/* Operations that were handed over: a thread does them, where they are due. */
#ifndef OPENCL_PENDING_H
#define OPENCL_PENDING_H

#include <stdbool.h>

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

struct pending;

/*
 * in_queue: operations are commands of the program's queue; else only their events order them.
 * NULL: out of memory.
 */
struct pending *pending_create(struct umm_opencl *ocl, bool in_queue);

/* Nothing is pending, and nobody submits any more. NULL is ignored. */
void pending_destroy(struct pending *pending);

/*
 * Hand op over; event completes after it, and is the caller's to release. The caller is inside
 * the device (device_enter()) and holds no lock. 0 or an error, reported.
 */
int pending_submit(struct pending *pending, const struct pending_op *op, cl_event *event);

/* Nothing that was handed over is left. */
bool pending_is_idle(struct pending *pending);
/* Wait until what was handed over before has run, whether its event says so yet or not. */
void pending_wait(struct pending *pending);

#endif
