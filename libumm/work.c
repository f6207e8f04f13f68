/* SPDX-License-Identifier: MIT */
/*
 * The workers' queue. Items are copied into a pool of their own, so queueing
 * needs no malloc and may happen on a fault server.
 *
 * The keeper alone starts threads, under no lock: that takes malloc's. It is called by who queues
 * what nobody is idle for, and then looks every few milliseconds while work is queued. A worker
 * ends as soon as enough others are awake.
 *
 * Invariant: an item that was queued runs exactly once, also while stopping.
 * Locks: workers->lock, with nothing else.
 */
#include "work.h"

#include <errno.h>
#include <signal.h>
#include <stddef.h>

#include "ctx.h"
#include "futex.h"
#include "hook.h"
#include "log.h"
#include "signals.h"
#include "util.h"

/* Address space, not memory. Ops of devices run on it. */
#define THREAD_STACK ((size_t)1 << 20)

/* Who waits for others for longer is replaced. */
#define MOMENT_NS UINT64_C(5000000)

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

/* The worker that this thread is; NULL: it is none. */
static _Thread_local __attribute__((tls_model("initial-exec"))) struct worker *self;

bool worker_sleeps(uint64_t since_ns)
{
	if (!self || atomic_load_explicit(&self->asleep_ns, memory_order_relaxed))
		return false;
	atomic_store_explicit(&self->asleep_ns, since_ns, memory_order_relaxed);
	return true;
}

void worker_wakes(void)
{
	atomic_store_explicit(&self->asleep_ns, 0, memory_order_relaxed);
}

static void keeper_call(struct keeper *keeper)
{
	atomic_fetch_add(&keeper->calls, 1);
	futex_wake_all(&keeper->calls);
}

/* Workers that are not known to sleep. */
static unsigned awake_locked(struct workers *workers)
{
	uint64_t now = now_ns(), since;
	unsigned n = 0;

	for (struct worker *at = workers->worker; at < workers->worker + MAX_WORKERS; at++) {
		since = atomic_load_explicit(&at->asleep_ns, memory_order_relaxed);
		n += at->used && !at->ended && (!since || now < since + MOMENT_NS);
	}
	return n;
}

/* False: this worker ends, as there is nothing more to do, or enough others are awake. */
static bool workers_next(struct workers *workers, struct work *out)
{
	struct work *work = NULL;

	lock_take(&workers->lock);
	/* While stopping all end, when nothing is queued: what they do may queue more. */
	self->ended = !workers->stop && awake_locked(workers) > workers->wanted;
	workers->nidle++;
	while (!self->ended && !workers->head && !workers->stop)
		lock_wait(&workers->lock, &workers->more);
	workers->nidle--;
	if (!self->ended)
		work = workers->head;
	if (work) {
		*out = *work;
		workers->head = work->next;
		workers->nqueued--;
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
	struct workers *workers;
	struct work work;

	self = arg;
	workers = self->workers;
	/* They are blocked already (thread_start()): saves every lock the system calls. */
	signals_hold();
	while (workers_next(workers, &work)) {
		hook_run(HOOK_WORK, work.addr);
		work.fn(workers->ctx, &work);
	}
	/* To be joined. */
	keeper_call(&workers->ctx->keeper);
	return NULL;
}

/* Room for one more. NULL: there is none. */
static struct worker *take_room(struct workers *workers)
{
	struct worker *found = NULL;

	lock_take(&workers->lock);
	for (struct worker *at = workers->worker; at < workers->worker + MAX_WORKERS; at++)
		if (!at->used)
			found = at;
	if (found)
		*found = (struct worker){ .workers = workers, .used = true };
	lock_drop(&workers->lock);
	return found;
}

static void give_room(struct worker *worker)
{
	lock_take(&worker->workers->lock);
	worker->used = false;
	lock_drop(&worker->workers->lock);
}

/* 0 or -EAGAIN. */
static int worker_start(struct workers *workers)
{
	struct worker *worker = take_room(workers);
	int ret = -EAGAIN;

	if (worker)
		ret = thread_start(&worker->thread, workers_main, worker, workers->name);
	if (worker && ret)
		give_room(worker);
	return ret;
}

int workers_start(struct workers *workers, struct umm_ctx *ctx, unsigned wanted, const char *name)
{
	int ret;

	workers->ctx = ctx;
	workers->name = name;
	workers->wanted = wanted;
	lock_init(&workers->lock, RANK_WORK);
	lock_cond_init(&workers->more);
	workers->head = NULL;
	workers->tail = &workers->head;
	workers->stop = false;
	pool_init(&workers->pool, sizeof(struct work), NULL);
	pool_keep(&workers->pool);
	if (!pool_reserve(&workers->pool)) {
		workers_stop(workers);
		return -ENOMEM;
	}
	for (unsigned i = 0; i < wanted; i++) {
		ret = worker_start(workers);
		if (ret) {
			workers_stop(workers);
			return ret;
		}
	}
	return 0;
}

void workers_stop(struct workers *workers)
{
	lock_take(&workers->lock);
	workers->stop = true;
	pthread_cond_broadcast(&workers->more);
	lock_drop(&workers->lock);
	for (struct worker *at = workers->worker; at < workers->worker + MAX_WORKERS; at++)
		if (at->used)
			pthread_join(at->thread, NULL);
	pthread_cond_destroy(&workers->more);
	pool_fini(&workers->pool);
	lock_fini(&workers->lock);
}

/* One that has ended, and is not joined; NULL: none. */
static struct worker *any_ended(struct workers *workers)
{
	struct worker *found = NULL;

	lock_take(&workers->lock);
	for (struct worker *at = workers->worker; at < workers->worker + MAX_WORKERS; at++)
		if (at->used && at->ended)
			found = at;
	lock_drop(&workers->lock);
	return found;
}

static void say_too_few(struct workers *workers)
{
	if (workers->said)
		return;
	workers->said = true;
	log_error("all threads %s sleep in callbacks of notifiers, and no other can be started: "
		  "faults wait until a callback returns; raise 'ulimit -u', or let go earlier of "
		  "what callbacks wait for",
		  workers->name);
}

/* Replace who sleeps while work is queued. True: it is to be looked at again in a moment. */
static bool keep_awake(struct workers *workers)
{
	struct worker *ended;
	bool again, too_few;

	if (!workers->wanted)
		return false;
	while ((ended = any_ended(workers))) {
		pthread_join(ended->thread, NULL);
		give_room(ended);
	}
	lock_take(&workers->lock);
	again = workers->head;
	workers->watched = again;
	too_few = workers->nqueued > workers->nidle && awake_locked(workers) < workers->wanted;
	lock_drop(&workers->lock);
	if (too_few && worker_start(workers))
		say_too_few(workers);
	return again;
}

static void *keeper_main(void *arg)
{
	struct umm_ctx *ctx = arg;
	struct keeper *keeper = &ctx->keeper;
	uint32_t seen;
	bool again;

	signals_hold();
	while (seen = atomic_load(&keeper->calls), !atomic_load(&keeper->stop)) {
		again = keep_awake(&ctx->workers);
		again |= keep_awake(&ctx->movers);
		again |= keep_awake(&ctx->admit.waiting);
		futex_wait_until(&keeper->calls, seen, again ? now_ns() + MOMENT_NS : UINT64_MAX);
	}
	return NULL;
}

int keeper_start(struct umm_ctx *ctx)
{
	return thread_start(&ctx->keeper.thread, keeper_main, ctx, "umm-keeper");
}

void keeper_stop(struct umm_ctx *ctx)
{
	atomic_store(&ctx->keeper.stop, true);
	keeper_call(&ctx->keeper);
	pthread_join(ctx->keeper.thread, NULL);
}

int workers_queue(struct workers *workers, const struct work *work)
{
	struct work *copy = pool_alloc(&workers->pool);
	bool call;

	if (!copy)
		return -ENOMEM;
	*copy = *work;
	copy->next = NULL;
	lock_take(&workers->lock);
	*workers->tail = copy;
	workers->tail = &copy->next;
	workers->nqueued++;
	call = workers->nqueued > workers->nidle && !workers->watched;
	workers->watched |= call;
	pthread_cond_signal(&workers->more);
	lock_drop(&workers->lock);
	if (call)
		keeper_call(&workers->ctx->keeper);
	return 0;
}
