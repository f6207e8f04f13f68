/* SPDX-License-Identifier: MIT */
/*
 * Workers: threads for what a fault server must not do because it may sleep or
 * call into a device runtime. Items begin in order of arrival, several at once.
 *
 * Callbacks of notifiers may wait for the program, and that for a fault which is queued. So for
 * each worker that sleeps in one for a moment, while work is queued, the keeper starts another.
 */
#ifndef WORK_H
#define WORK_H

#include <stdatomic.h>
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
#define MAX_WORKERS  64 /* of one queue, those that sleep included */

/* One thread of a queue, or the room for one. */
struct worker {
	struct workers *workers;
	pthread_t thread;
	/* Under workers->lock: */
	bool used;  /* it was started, and not joined */
	bool ended; /* it takes nothing any more */

	_Atomic uint64_t asleep_ns; /* since then it waits for others; 0: it does not */
};

struct workers {
	struct umm_ctx *ctx;
	const char *name;
	unsigned wanted; /* so many are to be awake; 0: this queue was never started */

	struct lock lock; /* RANK_WORK. Protects: everything below */
	pthread_cond_t more;
	struct work *head, **tail;
	unsigned nqueued;
	unsigned nidle;
	bool watched; /* the keeper looks again by itself */
	bool said;    /* that there are not enough of them */
	bool stop;
	struct worker worker[MAX_WORKERS];

	struct pool pool;
};

/* The thread that sees to it that workers of a context's queues are awake. */
struct keeper {
	pthread_t thread;
	_Atomic uint32_t calls; /* it sleeps on it */
	_Atomic bool stop;
};

/* wanted: so many threads. 0 or -errno. */
int workers_start(struct workers *workers, struct umm_ctx *ctx, unsigned wanted, const char *name);
void workers_stop(struct workers *workers);			     /* finishes what is queued */
int workers_queue(struct workers *workers, const struct work *work); /* copied; 0 or -ENOMEM */

/* After the queues of the context have started, and before they stop. 0 or -EAGAIN. */
int keeper_start(struct umm_ctx *ctx);
void keeper_stop(struct umm_ctx *ctx);

/*
 * Around what may wait for the program: if this is a worker, it is one that sleeps, since then.
 * True: it was not before; then, and only then, the end is to be told.
 */
bool worker_sleeps(uint64_t since_ns);
void worker_wakes(void);

/* Start a thread of the library: all signals blocked, a name for people. 0 or -EAGAIN. */
int thread_start(pthread_t *thread, void *(*fn)(void *), void *arg, const char *name);

#endif
