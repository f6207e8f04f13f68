/* SPDX-License-Identifier: MIT */
/* See ref_queue.h. */
#include "ref_queue.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

void ref_deadline(struct timespec *ts, unsigned timeout_ms)
{
	clock_gettime(CLOCK_MONOTONIC, ts);
	ts->tv_sec += timeout_ms / 1000;
	ts->tv_nsec += (long)(timeout_ms % 1000) * 1000000;
	if (ts->tv_nsec >= 1000000000) {
		ts->tv_sec++;
		ts->tv_nsec -= 1000000000;
	}
}

void ref_cond_init(pthread_cond_t *cond)
{
	pthread_condattr_t attr;

	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(cond, &attr);
	pthread_condattr_destroy(&attr);
}

int queue_push(struct queue *queue, const struct umm_copy *copies, unsigned ncopies,
	       struct umm_fence *done, int error)
{
	struct job *job = malloc(sizeof(*job) + ncopies * sizeof(*copies));

	if (!job)
		return -ENOMEM;
	job->next = NULL;
	job->done = done;
	job->error = error;
	job->ncopies = ncopies;
	memcpy(job->copies, copies, ncopies * sizeof(*copies));
	pthread_mutex_lock(&queue->lock);
	*queue->tail = job;
	queue->tail = &job->next;
	pthread_cond_broadcast(&queue->cond);
	pthread_mutex_unlock(&queue->lock);
	return 0;
}

/* Stop here while the gate is closed. */
static void gate_pass_locked(struct queue *queue, enum ref_gate gate)
{
	queue->held[gate]++;
	pthread_cond_broadcast(&queue->cond);
	while (queue->closed[gate])
		pthread_cond_wait(&queue->cond, &queue->lock);
	queue->held[gate]--;
}

bool gate_wait(struct queue *queue, enum ref_gate gate, unsigned timeout_ms)
{
	struct timespec until;
	bool held;
	int ret = 0;

	ref_deadline(&until, timeout_ms);
	pthread_mutex_lock(&queue->lock);
	while (!queue->held[gate] && ret == 0)
		ret = pthread_cond_timedwait(&queue->cond, &queue->lock, &until);
	held = queue->held[gate] != 0;
	pthread_mutex_unlock(&queue->lock);
	return held;
}

void gate_set(struct queue *queue, enum ref_gate gate, bool closed)
{
	pthread_mutex_lock(&queue->lock);
	queue->closed[gate] = closed;
	pthread_cond_broadcast(&queue->cond);
	pthread_mutex_unlock(&queue->lock);
}

static void queue_job_locked(struct queue *queue, struct job *job)
{
	gate_pass_locked(queue, REF_GATE_COPY);
	pthread_mutex_unlock(&queue->lock);
	queue->run(queue->priv, job);
	pthread_mutex_lock(&queue->lock);
	gate_pass_locked(queue, REF_GATE_SIGNAL);
	pthread_mutex_unlock(&queue->lock);
	umm_fence_signal(job->done, job->error, 0);
	free(job);
	pthread_mutex_lock(&queue->lock);
}

static void *queue_main(void *arg)
{
	struct queue *queue = arg;
	struct job *job;

	pthread_mutex_lock(&queue->lock);
	while (!queue->stop) {
		job = queue->head;
		if (!job) {
			pthread_cond_wait(&queue->cond, &queue->lock);
			continue;
		}
		queue->head = job->next;
		if (!queue->head)
			queue->tail = &queue->head;
		queue_job_locked(queue, job);
	}
	pthread_mutex_unlock(&queue->lock);
	return NULL;
}

int queue_start(struct queue *queue, void (*run)(void *priv, struct job *job), void *priv)
{
	sigset_t all, before;
	int ret;

	queue->run = run;
	queue->priv = priv;
	queue->tail = &queue->head;
	pthread_mutex_init(&queue->lock, NULL);
	ref_cond_init(&queue->cond);
	/* A handler that touches a page of this device would wait for this very thread. */
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	ret = -pthread_create(&queue->worker, NULL, queue_main, queue);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	return ret;
}

void queue_stop(struct queue *queue)
{
	pthread_mutex_lock(&queue->lock);
	queue->stop = true;
	pthread_cond_broadcast(&queue->cond);
	pthread_mutex_unlock(&queue->lock);
	pthread_join(queue->worker, NULL);
	pthread_mutex_destroy(&queue->lock);
	pthread_cond_destroy(&queue->cond);
}
