/* SPDX-License-Identifier: MIT */
/* An OpenCL device in a context: what the backend's files share. */
#ifndef OPENCL_DEVICE_H
#define OPENCL_DEVICE_H

#include <pthread.h>
#include <sys/types.h>

#include "pools.h"
#include "table.h"
#include "transfer.h"

/* A buffer that grows when asked to; its contents do not survive that. */
struct buffer {
	cl_mem mem;
	size_t len;
	void *host; /* the same memory, where the host may use it while a kernel runs */
};

/* What kernels get as their first arguments, in this order, from 0 on. */
enum kernel_arg {
	ARG_POOL0,
	ARG_DIRECTORY = ARG_POOL0 + PLATFORM_MAX_POOLS,
	ARG_LEAVES,
	ARG_USED,
	ARG_CONTROL,
	ARG_STATE,
	ARG_ROUND,
	ARG_NR,
};

_Static_assert(ARG_NR == UMM_OPENCL_ARGS, "UMM_KERNEL_ARGS and the header agree");

/* Do launches that miss much at first go in steps? (steps.h) */
enum device_steps {
	STEPS_AUTO,
	STEPS_ALWAYS,
	STEPS_NEVER,
};

/* What launches of a kernel took: without steps [0], and in steps [1]. */
struct step_cost {
	cl_kernel kernel; /* only a number: it may be gone */
	uint32_t nitems;
	uint32_t nlaunches;    /* since both are known */
	uint32_t nmeasured[2]; /* launches */
	uint64_t ns[2];	       /* for a page that they missed at first */
	uint32_t fit;	       /* work-items for which memory was enough; 0: it was for all */
	uint32_t nasked;       /* launches */
	uint64_t used;	       /* when, counted in uses */
};

#define DEVICE_STEP_COSTS 64

struct umm_opencl {
	struct umm_ctx *ctx; /* lives as long as dev; whoever is inside takes a reference */
	struct umm_device *dev;
	struct umm_devmem *mem;
	struct umm_mirror *mirror;
	pid_t owner; /* OpenCL does not survive fork() */
	bool opened; /* all that follows down to launch exists */

	cl_context context;
	cl_device_id device;
	cl_command_queue queue; /* the program's: umm_opencl_cl_queue() */
	bool foreign_queue;	/* it came from there, with work in it perhaps */
	bool out_of_order;
	bool profiled;
	struct pending *pending; /* launches */
	struct pending *prefetches;

	bool can_wait;	     /* host and kernels see each other's stores: a work-item may wait, */
	uint32_t most_items; /* and does where no more than so many have something to do */
	enum device_steps steps;
	uint32_t fault_entries;
	uint32_t readahead; /* pages */
	struct pools pools;
	struct transfer transfer;
	struct windows *windows;

	/*
	 * Protects: launching, that is everything down to update; held for the length of a
	 * launch, while libumm is called too; no callback takes it. Inside: nothing.
	 */
	pthread_mutex_t launch;

	cl_command_queue rounds; /* where kernels run: queue, or one of our own */
	bool rounds_out_of_order;
	struct buffer directory;
	struct buffer leaves;
	struct buffer used;    /* a word for each leaf: the last round that used it; */
	uint32_t nused;	       /* so many are read after a round */
	struct buffer state;   /* a word for each work-item */
	struct buffer control; /* counters, faults, pages seen */
	uint32_t epoch;	       /* number of the last round */
	uint32_t *control_host;
	uint32_t *used_host;
	struct service *service;
	struct share *share;
	struct attendant *attendant;			/* NULL: nobody can wait */
	struct step_cost step_costs[DEVICE_STEP_COSTS]; /* of the kernels that were launched last */
	uint64_t step_costs_used;

	/* Protects: what follows. Never held while libumm is called. Inside: launch. */
	pthread_mutex_t update;
	pthread_cond_t changed;

	struct table table;    /* while a round runs nothing in it moves, changes or goes */
	bool running;	       /* a round is under way: the device reads the table */
	unsigned invalidators; /* callbacks that wait for its end */
	unsigned inside;       /* between device_enter() and device_leave(), operations included */
	bool gone;	       /* being destroyed */
};

/*
 * Begin and end what uses the device: its destruction waits, and the context lives as long.
 * 0; -ENODEV it is being destroyed, or this is a forked child; -EDEADLK from a callback. ctx: for
 * device_leave().
 */
int device_enter(struct umm_opencl *ocl, struct umm_ctx **ctx);
void device_leave(struct umm_opencl *ocl, struct umm_ctx *ctx);

/* By one who is inside: count one more, which keeps no context; device_leave() it with NULL. */
void device_stay(struct umm_opencl *ocl);

/* What an operation that ended with err ended with: -ENODEV where the device goes away. */
int device_verdict(struct umm_opencl *ocl, int err);

/* It is being destroyed: what has not begun yet does not begin. */
bool device_is_going(struct umm_opencl *ocl);

/* Take part in the context's mirroring: the callbacks. */
extern const struct umm_mirror_ops mirror_ops;

/*
 * Begin and end a round, during which entries come to the table at most (attend.h), and none
 * changes. mirror_round_begin() lets invalidations that wait go first. 0, or -ENODEV being
 * destroyed.
 */
int mirror_round_begin(struct umm_opencl *ocl);
void mirror_round_end(struct umm_opencl *ocl);

/*
 * Put what the core says about these pages, at most one block's, into the table; while a round
 * runs only where there was nothing, and where nothing has to move for it, and into the device's
 * copy as well. 0; -EAGAIN it changed too often to tell; or an error.
 */
int mirror_program(struct umm_opencl *ocl, uintptr_t start, uintptr_t end);

/* Ask the core for a page as a CPU would: 0, or what is wrong with it: -EFAULT, -EPERM. */
int mirror_probe(struct umm_opencl *ocl, uintptr_t page, bool write);

#endif
