/* SPDX-License-Identifier: MIT */
/* One run of a kernel over what is left to do, and the faults that it reports. */
#ifndef OPENCL_ROUND_H
#define OPENCL_ROUND_H

#include "device.h"

/* As umm_device.cl writes them into the control buffer. */
#define FAULT_WRITE UINT32_C(1)
#define FAULT_ALIGN UINT32_C(2)
#define FAULT_POOLS UINT32_C(4)
#define FAULT_BITS  3 /* so many; those above are the host's */

struct fault {
	uint64_t addr;
	uint32_t flags;
	uint32_t item;
};

/* umm_round in umm_device.cl: a uint8. */
struct round_args {
	cl_uint epoch;
	cl_uint first; /* epoch of the launch's first round, which runs every work-item */
	cl_uint lo;    /* later ones run unfinished work-items from here */
	cl_uint hi;    /* to here */
	cl_uint directory_shift;
	cl_uint capacity;
	cl_uint pools_window; /* npools | nwindow << 3 */
	cl_uint window_first; /* of struct table */
};

struct round_outcome {
	struct fault *faults; /* in any order; the round's until the next */
	uint32_t nfaults;
	uint32_t nitems; /* work-items that faulted */
	uint64_t kernel_ns;
	uint64_t device_start; /* by the device's clock; 0: the queue is not profiled */
	uint64_t device_end;
};

/* The buffers that every round needs. 0 or an error, reported. */
int round_init(struct umm_opencl *ocl);
void round_fini(struct umm_opencl *ocl);

/* Room for the states of so many work-items. 0 or an error, reported. */
int round_prepare(struct umm_opencl *ocl, uint32_t nitems);

/*
 * Run work's kernel once. args: lo, hi and first are the caller's, 0 for first
 * makes this the first round. 0 or an error, reported; -ENODEV the device goes away.
 */
int round_run(struct umm_opencl *ocl, const struct umm_opencl_work *work, struct round_args *args,
	      struct round_outcome *outcome);

#endif
