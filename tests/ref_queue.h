/* SPDX-License-Identifier: MIT */
/*
 * The copy engine's queue of the reference device: one worker thread that runs jobs in
 * order, and gates at which a test stops it.
 *
 * Lock: queue.lock protects everything in the queue; it is not held while a job runs.
 */
#ifndef REF_QUEUE_H
#define REF_QUEUE_H

#include <pthread.h>
#include <stdbool.h>
#include <time.h>

#include "ref_device.h"

struct job {
	struct job *next;
	struct umm_fence *done;
	int error; /* decided when the job was queued, or how its copying ended */
	unsigned ncopies;
	struct umm_copy copies[];
};

struct queue {
	pthread_mutex_t lock;
	pthread_cond_t cond;
	struct job *head;
	struct job **tail;
	bool closed[REF_NR_GATES];
	unsigned held[REF_NR_GATES]; /* jobs that wait at the gate */
	bool stop;

	void (*run)(void *priv, struct job *job); /* the copying */
	void *priv;
	pthread_t worker;
};

/* An error where there is no memory for the job: nothing is signalled then. */
int queue_push(struct queue *queue, const struct umm_copy *copies, unsigned ncopies,
	       struct umm_fence *done, int error);
/* Wait until a job stops at the gate; false: none came. */
bool gate_wait(struct queue *queue, enum ref_gate gate, unsigned timeout_ms);
void gate_set(struct queue *queue, enum ref_gate gate, bool closed);
int queue_start(struct queue *queue, void (*run)(void *priv, struct job *job), void *priv);
void queue_stop(struct queue *queue);

/* Conditions by the monotonic clock, which the queue's are. */
void ref_cond_init(pthread_cond_t *cond);
void ref_deadline(struct timespec *ts, unsigned timeout_ms);

#endif
