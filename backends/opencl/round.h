/* SPDX-License-Identifier: MIT */
/* One run of a kernel over what is left to do, and the faults that it reports. */
#ifndef OPENCL_ROUND_H
#define OPENCL_ROUND_H

#include "device.h"

/* As umm_device.cl writes them into the control buffer. */
#define FAULT_WRITE UINT32_C(1)
#define FAULT_ALIGN UINT32_C(2)
#define FAULT_POOLS UINT32_C(4)
#define FAULT_READY UINT32_C(8) /* the other words are written */
#define FAULT_BITS  4		/* so many; those above are the host's */

/* Words of the control buffer. */
#define CONTROL_FAULTS 0
#define CONTROL_ITEMS  1
#define CONTROL_WAIT   2 /* looks at an entry of one who waits; 0: nobody does */
#define CONTROL_BEAT   3
#define CONTROL_LOG    64
#define FAULT_WORDS    4

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

#define ROUND_WAIT UINT32_MAX

struct round_outcome {
	struct fault *faults; /* in any order; the round's until the next */
	uint32_t nfaults;
	uint32_t nitems; /* work-items that faulted */
	uint64_t kernel_ns;
	uint64_t device_start; /* by the device's clock; 0: the queue is not profiled */
	uint64_t device_end;

	uint32_t nwaited;   /* pages that came while work-items waited for them, */
	uint64_t nmigrated; /* so many moved for that, */
	uint64_t nreadahead;
	uint64_t service_ns; /* in this time */
	int err;	     /* what went wrong meanwhile, or 0 */
	bool gave_up;	     /* a work-item waited for long, in vain */
};

/* The buffers that every round needs. 0 or an error, reported. */
int round_init(struct umm_opencl *ocl);
void round_fini(struct umm_opencl *ocl);

/* Room for the states of so many work-items. 0 or an error, reported. */
int round_prepare(struct umm_opencl *ocl, uint32_t nitems);

/*
 * Run work's kernel once. args: lo, hi and first are the caller's, 0 for first
 * makes this the first round. wait: so many work-items have something to do, and may wait for
 * pages where that is faster; ROUND_WAIT: where it is not, too; 0: they do not wait.
 * 0 or an error, reported; -ENODEV the device goes away.
 */
int round_run(struct umm_opencl *ocl, const struct umm_opencl_work *work, struct round_args *args,
	      uint32_t wait, struct round_outcome *outcome);

#endif
