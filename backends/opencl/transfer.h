/* SPDX-License-Identifier: MIT */
/* The copy op: copies between host memory and the pools, in a queue of their own. */
#ifndef OPENCL_TRANSFER_H
#define OPENCL_TRANSFER_H

#include <pthread.h>
#include <stdatomic.h>

#include "loss.h"
#include "pools.h"

#define TRANSFER_EVENTS 32
#define TRANSFER_SLOTS	128

/* Part of a batch that was handed to OpenCL. */
struct transfer_slot {
	cl_event events[TRANSFER_EVENTS];
	cl_uint nevents;
	int status;		/* what handing it over gave */
	struct umm_fence *done; /* NULL: the next slot goes on with the same batch */
};

struct transfer {
	cl_command_queue queue;
	struct loss loss;
	atomic_bool busy; /* a kernel runs that may wait for pages: no commands */
	pthread_t thread;

	pthread_mutex_t lock; /* Protects: the order in queue, and what follows; inside: nothing */
	pthread_cond_t filled;
	struct transfer_slot slots[TRANSFER_SLOTS]; /* a ring */
	unsigned head;				    /* next to complete */
	unsigned count;
	bool stop;
	unsigned nmapped;      /* copies by a mapping, which lasts as long as there are any; */
	pthread_cond_t copied; /* the last one is done */
};

/* 0, -ENOMEM, -EAGAIN no thread could be started, or another error; reported. */
int transfer_init(struct transfer *transfer, cl_context context, cl_device_id device);

/* Completes what is under way first. */
void transfer_fini(struct transfer *transfer);

/* As umm_device_ops.copy, for frames of these pools. */
int transfer_start(struct transfer *transfer, const struct pools *pools,
		   const struct umm_copy *copies, unsigned ncopies, struct umm_fence *done);

#endif
