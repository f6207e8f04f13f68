/* SPDX-License-Identifier: MIT */
/* Copies between host memory and a pool: at once where they are small, else by threads. */
#ifndef NUMA_COPY_H
#define NUMA_COPY_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>

#include "cpus.h"
#include "frames.h"

#define COPY_THREADS_MAX 32

struct copy_job;

struct copier {
	struct frames *frames;
	unsigned nthreads;
	pthread_t threads[COPY_THREADS_MAX];
	struct copy_job *jobs; /* all there are */
	_Atomic uint64_t inlined, threaded, streamed;

	pthread_mutex_t lock; /* Protects: what follows; inside: nothing */
	pthread_cond_t more;
	struct copy_job *unused;
	struct copy_job *head, **tail; /* those of which something is not begun */
	bool stop;
};

/* Start threads on these CPUs. 0, -ENOMEM, or -EAGAIN, said in the log. */
int copier_start(struct copier *copier, struct frames *frames, const struct cpus *cpus,
		 unsigned nthreads);
/* Ends what is queued first. */
void copier_stop(struct copier *copier);

/*
 * As umm_device_ops.copy. Up to 16 pages are copied before it returns, without a lock. Uses no
 * malloc.
 */
void copier_copy(struct copier *copier, const struct umm_copy *copies, unsigned ncopies,
		 struct umm_fence *done);

/* frames_check(), soon; or not at all where there is too much to do. */
void copier_check(struct copier *copier, uint32_t frame, uint32_t nframes);

#endif
