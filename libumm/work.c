/* SPDX-License-Identifier: MIT */
/*
 * The workers' queue. Items are copied into a pool of their own, so queueing
 * needs no malloc and may happen on a fault server.
 *
 * Invariant: an item that was queued runs exactly once, also while stopping.
 */
#include "work.h"

#include <errno.h>
#include <signal.h>
#include <stddef.h>

#include "hook.h"
#include "signals.h"
#include "util.h"

/* Address space, not memory. Ops of devices run on it. */
#define THREAD_STACK ((size_t)1 << 20)

int thread_start(pthread_t *thread, void *(*fn)(void *), void *arg, const char *name)
{
	pthread_attr_t attr;
	sigset_t all, old;
	int ret;

	if (pthread_attr_init(&attr))
		return -EAGAIN;
	pthread_attr_setstacksize(&attr, THREAD_STACK);
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	ret = pthread_create(thread, &attr, fn, arg);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	pthread_attr_destroy(&attr);
	if (ret)
		return -EAGAIN;
	pthread_setname_np(*thread, name);
	return 0;
}

static bool workers_next(struct workers *workers, struct work *out)
{
	struct work *work;

	lock_take(&workers->lock);
	while (!workers->head && !workers->stop)
		lock_wait(&workers->lock, &workers->more);
	work = workers->head;
	if (work) {
		*out = *work;
		workers->head = work->next;
		if (!workers->head)
			workers->tail = &workers->head;
	}
	lock_drop(&workers->lock);
	if (!work)
		return false;
	pool_free(&workers->pool, work);
	return true;
}

static void *workers_main(void *arg)
{
	struct workers *workers = arg;
	struct work work;

	/* They are blocked already (thread_start()): saves every lock the system calls. */
	signals_hold();
	while (workers_next(workers, &work)) {
		hook_run(HOOK_WORK, work.addr);
		work.fn(workers->ctx, &work);
	}
	return NULL;
}

int workers_start(struct workers *workers, struct umm_ctx *ctx, unsigned nthreads, const char *name)
{
	int ret;

	workers->ctx = ctx;
	lock_init(&workers->lock, RANK_WORK);
	lock_cond_init(&workers->more);
	workers->head = NULL;
	workers->tail = &workers->head;
	workers->nthreads = 0;
	workers->stop = false;
	pool_init(&workers->pool, sizeof(struct work), NULL);
	pool_keep(&workers->pool);
	if (!pool_reserve(&workers->pool)) {
		workers_stop(workers);
		return -ENOMEM;
	}
	for (unsigned i = 0; i < nthreads; i++) {
		ret = thread_start(&workers->threads[i], workers_main, workers, name);
		if (ret) {
			workers_stop(workers);
			return ret;
		}
		workers->nthreads++;
	}
	return 0;
}

void workers_stop(struct workers *workers)
{
	lock_take(&workers->lock);
	workers->stop = true;
	pthread_cond_broadcast(&workers->more);
	lock_drop(&workers->lock);
	for (unsigned i = 0; i < workers->nthreads; i++)
		pthread_join(workers->threads[i], NULL);
	pthread_cond_destroy(&workers->more);
	pool_fini(&workers->pool);
	lock_fini(&workers->lock);
}

int workers_queue(struct workers *workers, const struct work *work)
{
	struct work *copy = pool_alloc(&workers->pool);

	if (!copy)
		return -ENOMEM;
	*copy = *work;
	copy->next = NULL;
	lock_take(&workers->lock);
	*workers->tail = copy;
	workers->tail = &copy->next;
	pthread_cond_signal(&workers->more);
	lock_drop(&workers->lock);
	return 0;
}
