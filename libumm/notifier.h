/* SPDX-License-Identifier: MIT */
/* Interval notifiers: insert/remove, announcing a change, read_begin/read_retry. */
#ifndef NOTIFIER_H
#define NOTIFIER_H

#include <stdatomic.h>

#include "arena.h"
#include "itree.h"
#include "lock.h"
#include "umm.h"

struct umm_notifier {
	struct itree_node node;
	struct umm_ctx *ctx;
	int (*invalidate)(void *priv, const struct umm_notifier_range *range);
	void *priv;
	/* Odd while an invalidation is under way; a snapshot is good while it is the same. */
	_Atomic uint64_t seq;
	unsigned active; /* invalidations under way; under notifiers.lock */
};

/* An invalidation under way, so that a notifier inserted meanwhile counts it. */
struct notifier_active {
	uintptr_t start, end;
	struct notifier_active *next, **link;
};

struct notifiers {
	struct lock lock; /* RANK_NOTIFIER. Protects: everything below */
	struct itree tree;
	struct notifier_active *active;
	pthread_cond_t quiet; /* some notifier's active reached 0 */

	struct pool pool;
	struct pool mirror_pool;
	struct pool active_pool;
	_Atomic unsigned count; /* also read without the lock: nobody listens */
};

void notifiers_init(struct notifiers *notifiers);
void notifiers_fini(struct notifiers *notifiers);

/*
 * Announce a change: make snapshots stale, run the callbacks of every overlapping
 * notifier, make snapshots stale again. Nothing locked. 0, or -EAGAIN where
 * range->blockable is false and somebody would have to sleep: then some
 * callbacks have run, which does no harm.
 */
int notifier_invalidate(struct umm_ctx *ctx, const struct umm_notifier_range *range);

/*
 * Make snapshots of start .. end stale, and have umm_notifier_read_begin() wait, from now until
 * notifier_end(): somebody will call notifier_invalidate() in between. Does not sleep. NULL:
 * nobody listens.
 */
struct notifier_active *notifier_begin(struct umm_ctx *ctx, uintptr_t start, uintptr_t end);
void notifier_end(struct umm_ctx *ctx, struct notifier_active *active);

/* With storage of the caller's (mirrors); otherwise as the public functions. */
void notifier_add(struct umm_ctx *ctx, struct umm_notifier *notifier);
int notifier_del(struct umm_notifier *notifier);

#endif
