/* SPDX-License-Identifier: MIT */
/* A memory node in a context: what the backend's files share. */
#ifndef NUMA_DEVICE_H
#define NUMA_DEVICE_H

#include <pthread.h>
#include <stdatomic.h>

#include "copy.h"
#include "nodes.h"
#include "frames.h"
#include "umm_numa.h"

struct umm_numa {
	struct umm_ctx *ctx;
	struct umm_device *dev;
	struct umm_devmem *mem;
	const struct library *library;
	int node;
	pid_t owner; /* threads do not survive fork() */
	struct frames frames;
	struct copier copier;
	_Atomic uint64_t teams; /* started, ever */

	pthread_mutex_t lock; /* Protects: what follows; inside: nothing */
	pthread_cond_t ended; /* a team has */
	struct cpus near;     /* CPUs that teams and copies run on */
	unsigned running;     /* teams */
	bool gone;	      /* being destroyed: no new ones */
};

#endif
