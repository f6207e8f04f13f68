/* SPDX-License-Identifier: MIT */
/* Prefetch on CPU faults: what comes home beside a page that was missed. */
#ifndef READAHEAD_H
#define READAHEAD_H

#include <pthread.h>

#include "lock.h"
#include "policy/ahead.h"
#include "umm.h"

struct block;
struct uffd_msg_info;

#define READAHEAD_REQUESTS 16
#define READAHEAD_THREADS  2 /* at most: two copy faster than whoever goes through memory reads */

struct readahead {
	const struct ahead_ops *ops; /* where no hint says otherwise */
	pthread_t threads[READAHEAD_THREADS];
	unsigned nthreads;

	struct lock lock; /* RANK_WORK. Protects: everything below */
	struct ahead ahead;
	pthread_cond_t more;
	struct ahead_pages requests[READAHEAD_REQUESTS];
	unsigned first, n; /* of them: a ring */
	bool stop;
};

int readahead_check(const struct umm_ctx_options *options);
int readahead_start(struct umm_ctx *ctx, const struct umm_ctx_options *options);
void readahead_stop(struct umm_ctx *ctx); /* what waits is dropped */
void readahead_fini(struct umm_ctx *ctx); /* once no fault is served any more */

/*
 * A private device page was missed, and comes home: adds to `pages`, of its block, what comes with
 * it; more than AHEAD_WITH is for a worker to bring, which is told so and asks again, with
 * info->whole. *after is for readahead_queue(), when the page is home. Nothing locked.
 */
void readahead_miss(struct umm_ctx *ctx, const struct uffd_msg_info *info, uint64_t *pages,
		    struct ahead_pages *after);
void readahead_queue(struct umm_ctx *ctx, uintptr_t addr, const struct ahead_pages *after);
/* A page was touched that is just coming home. */
void readahead_wait(struct umm_ctx *ctx, const struct uffd_msg_info *info);

#endif
