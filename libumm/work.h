/* SPDX-License-Identifier: MIT */
/*
 * Workers: threads for what a fault server must not do because it may sleep or
 * call into a device runtime. Items run in order of arrival, several at once.
 */
#ifndef WORK_H
#define WORK_H

#include <stdint.h>

#include "arena.h"
#include "lock.h"

struct notifier_active;
struct umm_ctx;

struct work {
	struct work *next;
	void (*fn)(struct umm_ctx *ctx, const struct work *work);
	uintptr_t addr, end, to;
	bool write, wp, again, admitted, whole; /* of a fault */
	uint32_t thread;			/* likewise */
	bool unmap;				/* of an event: not only its contents went away */
	struct notifier_active *active;		/* of an event: announced until the work is done */
	uint64_t clock;				/* of an eviction: see evict_ahead() */
	void *priv;
};

#define WORK_THREADS 2

struct workers {
	struct umm_ctx *ctx;

	struct lock lock; /* RANK_WORK. Protects: everything below */
	pthread_cond_t more;
	struct work *head, **tail;
	unsigned nthreads;
	bool stop;

	struct pool pool;
	pthread_t threads[WORK_THREADS];
};

int workers_start(struct workers *workers, struct umm_ctx *ctx, unsigned nthreads,
		  const char *name);
void workers_stop(struct workers *workers);			     /* finishes what is queued */
int workers_queue(struct workers *workers, const struct work *work); /* copied; 0 or -ENOMEM */

/* Start a thread of the library: all signals blocked, a name for people. 0 or -EAGAIN. */
int thread_start(pthread_t *thread, void *(*fn)(void *), void *arg, const char *name);

#endif
