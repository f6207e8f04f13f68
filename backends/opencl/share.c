/* SPDX-License-Identifier: MIT */
/*
 * A request is cut into parts, of blocks that follow each other, which two threads take in turns:
 * one of ours, and whoever waits for the request. Copying goes twice as fast so where the host
 * does it, and neither waits longer than for the other's last part. While a kernel runs our
 * thread is alone with it.
 *
 * Where only commands reach the device's memory, which is not mapped (mapping.h), they take the
 * time, and the core keeps several of them going. Two threads are worth it there where pages are
 * scattered: then gathering them takes longer.
 *
 * Parts are requests of their own, so that later ones might evict what earlier ones brought.
 * So a request is only shared where there is room for all of it.
 *
 * Invariant: every span of a request is in exactly one part.
 * Locks: share.lock, never held while libumm is called. Requests are those of who holds
 * umm_opencl.launch.
 */
#include "share.h"

#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <unistd.h>

#include "mapping.h"
#include "report.h"

#define MOST_BLOCKS 16	/* of a part */
#define LEAST_PAGES 512 /* that are worth waking a thread */
#define SCATTERED   16	/* at most so many pages a span, on average */

struct share {
	struct umm_opencl *ocl;
	bool reachable; /* the device's memory, by the host */
	bool two_cpus;

	pthread_mutex_t lock; /* Protects: what follows. Inside: nothing */
	pthread_cond_t changed;
	pthread_t thread;
	bool started;
	bool quit;
	bool busy; /* our thread has a part */
	struct umm_migrate_request requests[SHARE_REQUESTS];
	unsigned nrequests;
	unsigned request; /* what comes next: of this one */
	size_t span;	  /* this span, */
	uintptr_t from;	  /* from here on */
	long moved;
	int err;
};

struct part {
	struct umm_migrate_request request;
	struct umm_span span; /* of a span that was cut */
};

/* Where a part ends that begins at start: half of what is left, in whole blocks. */
static uintptr_t part_end(const struct umm_migrate_request *request, uintptr_t start)
{
	const struct umm_span *last = &request->spans[request->nspans - 1];
	uintptr_t blocks = (last->start + last->len - start) >> UMM_BLOCK_SHIFT;

	blocks = blocks / 2 < MOST_BLOCKS ? blocks / 2 : MOST_BLOCKS;
	return ((start >> UMM_BLOCK_SHIFT) + (blocks ? blocks : 1)) << UMM_BLOCK_SHIFT;
}

/* The next part of a request that has spans left. */
static void cut_locked(struct share *share, const struct umm_migrate_request *request,
		       struct part *part)
{
	const struct umm_span *spans = request->spans + share->span;
	size_t nspans = request->nspans - share->span, n = 0;
	uintptr_t start = spans->start > share->from ? spans->start : share->from;
	uintptr_t end = part_end(request, start);

	while (start == spans->start && n < nspans && spans[n].start + spans[n].len <= end)
		n++;
	part->request = *request;
	part->request.spans = spans;
	part->request.nspans = n;
	share->span += n;
	if (n)
		return;
	if (end >= spans->start + spans->len) {
		end = spans->start + spans->len;
		share->span++;
	}
	share->from = end;
	part->span = (struct umm_span){ .start = start, .len = end - start };
	part->request.spans = &part->span;
	part->request.nspans = 1;
}

static bool take_locked(struct share *share, struct part *part)
{
	const struct umm_migrate_request *request;

	for (; share->request < share->nrequests; share->request++) {
		request = &share->requests[share->request];
		if (share->span < request->nspans) {
			cut_locked(share, request, part);
			return true;
		}
		share->span = 0;
		share->from = 0;
	}
	return false;
}

static void add_locked(struct share *share, long moved)
{
	if (moved >= 0)
		share->moved += moved;
	else if (moved != -EFAULT && moved != -ENOSPC && moved != -ENOENT && share->err != -EIO)
		share->err = (int)moved;
}

/* Take parts until there are no more. */
static void work_locked(struct share *share)
{
	struct part part;
	long moved;

	while (take_locked(share, &part)) {
		pthread_mutex_unlock(&share->lock);
		moved = umm_migrate_spans(share->ocl->ctx, &part.request, NULL);
		pthread_mutex_lock(&share->lock);
		add_locked(share, moved);
	}
}

static void *share_main(void *priv)
{
	struct share *share = priv;

	pthread_mutex_lock(&share->lock);
	while (!share->quit) {
		share->busy = true;
		if (share->nrequests)
			mapping_join(share->ocl);
		work_locked(share);
		mapping_leave();
		share->busy = false;
		pthread_cond_broadcast(&share->changed);
		pthread_cond_wait(&share->changed, &share->lock);
	}
	pthread_mutex_unlock(&share->lock);
	return NULL;
}

static bool is_reachable(const struct pools *pools)
{
	for (unsigned i = 0; i < pools->npools; i++)
		if (!pools->host[i])
			return false;
	return true;
}

/* CPUs that this process may use. */
static int count_cpus(void)
{
	cpu_set_t cpus;

	/* A machine with more than the set has room for has more than one. */
	return sched_getaffinity(0, sizeof(cpus), &cpus) ? 2 : CPU_COUNT(&cpus);
}

int share_create(struct umm_opencl *ocl)
{
	struct share *share = calloc(1, sizeof(*share));

	if (!share)
		return -ENOMEM;
	share->ocl = ocl;
	share->reachable = is_reachable(&ocl->pools);
	share->two_cpus = count_cpus() > 1;
	pthread_mutex_init(&share->lock, NULL);
	pthread_cond_init(&share->changed, NULL);
	ocl->share = share;
	return 0;
}

static void quit(struct share *share)
{
	if (!share->started)
		return;
	pthread_mutex_lock(&share->lock);
	share->quit = true;
	pthread_cond_broadcast(&share->changed);
	pthread_mutex_unlock(&share->lock);
	pthread_join(share->thread, NULL);
}

void share_destroy(struct umm_opencl *ocl)
{
	struct share *share = ocl->share;

	if (!share)
		return;
	/* In a forked child there is no thread, and its lock may be held. */
	if (ocl->owner == getpid()) {
		quit(share);
		pthread_cond_destroy(&share->changed);
		pthread_mutex_destroy(&share->lock);
	}
	free(share);
	ocl->share = NULL;
}

bool share_pays(const struct umm_opencl *ocl, const struct umm_span *spans, size_t nspans)
{
	size_t npages = 0;

	for (size_t i = 0; i < nspans; i++)
		npages += spans[i].len >> UMM_PAGE_SHIFT;
	return ocl->share->two_cpus && npages >= LEAST_PAGES &&
	       (ocl->share->reachable || mapping_is(ocl) || npages <= SCATTERED * nspans);
}

/* With signals blocked: a handler that touches a page of the device would wait for this thread. */
static void start(struct share *share)
{
	sigset_t all, before;
	int err;

	if (share->started)
		return;
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	err = pthread_create(&share->thread, NULL, share_main, share);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	if (err)
		report(UMM_LOG_WARNING, "no thread could be started that helps to bring pages: %s",
		       umm_strerror(-err));
	share->started = !err;
}

void share_begin(struct umm_opencl *ocl, const struct umm_migrate_request *request)
{
	struct share *share = ocl->share;

	start(share);
	pthread_mutex_lock(&share->lock);
	share->requests[share->nrequests++] = *request;
	pthread_cond_broadcast(&share->changed);
	pthread_mutex_unlock(&share->lock);
}

long share_finish(struct umm_opencl *ocl)
{
	struct share *share = ocl->share;
	long ret;

	pthread_mutex_lock(&share->lock);
	work_locked(share);
	while (share->busy)
		pthread_cond_wait(&share->changed, &share->lock);
	ret = share->err && (share->err == -EIO || !share->moved) ? share->err : share->moved;
	share->nrequests = share->request = 0;
	share->span = 0;
	share->from = 0;
	share->moved = 0;
	share->err = 0;
	pthread_mutex_unlock(&share->lock);
	return ret;
}
