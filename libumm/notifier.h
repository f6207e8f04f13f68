/* SPDX-License-Identifier: MIT */
/* Interval notifiers: insert/remove, announcing a change, read_begin/read_retry. */
#ifndef NOTIFIER_H
#define NOTIFIER_H

#include <stdatomic.h>

#include "arena.h"
#include "handle.h"
#include "itree.h"
#include "lock.h"
#include "umm.h"

struct umm_notifier {
	struct handle handle;
	struct itree_node node;
	struct umm_ctx *ctx;
	int (*invalidate)(void *priv, const struct umm_notifier_range *range);
	void *priv;
	bool of_mirror;		      /* part of a struct umm_mirror */
	const struct umm_device *dev; /* its device; NULL: not of a mirror */
	/* Odd while an invalidation is under way; a snapshot is good while it is the same. */
	_Atomic uint64_t seq;
	/* Under notifiers.lock: */
	unsigned active; /* invalidations under way */
	unsigned calls;	 /* callbacks that run, or that a worker is to run: it is not removed */
	struct late *owed, **owed_tail; /* those, which one worker runs in their order */
};

/* An invalidation under way, so that a notifier inserted meanwhile counts it. */
struct notifier_active {
	uintptr_t start, end;
	struct notifier_active *next, **link;
};

/* The same, announced by an interposer. */
struct umm_invalidation {
	struct handle handle;
	struct umm_ctx *ctx;
	struct notifier_active active;
	enum umm_event event;
	struct umm_invalidation *next, **link; /* of the context's; under notifiers.lock */
};

struct notifiers {
	struct lock lock; /* RANK_NOTIFIER. Protects: everything below */
	struct itree tree;
	struct notifier_active *active;
	struct umm_invalidation *announced;
	pthread_cond_t quiet; /* some notifier's active or calls reached 0 */

	struct pool active_pool, late_pool;
	_Atomic unsigned count; /* also read without the lock: nobody listens */
};

void notifiers_init(struct notifiers *notifiers);
void notifiers_fini(struct notifiers *notifiers);
/* The context closes: changes that were announced and never happened hold up nobody. */
void notifiers_close(struct umm_ctx *ctx);
/* It has closed, and nothing changes any more: the last call. */
void notifiers_release(struct umm_ctx *ctx);

/*
 * Announce a change that has yet to be made: make snapshots stale, run the callbacks of every
 * overlapping notifier, make snapshots stale again. Nothing locked. 0, or -EAGAIN where
 * range->blockable is false and somebody would have to sleep: then some
 * callbacks have run, which does no harm.
 */
int notifier_invalidate(struct umm_ctx *ctx, const struct umm_notifier_range *range);

/* Who is to hear of it, and may sleep. */
struct notifier_limits {
	const struct umm_device
		*but; /* its mirrors are not called: only their snapshots grow stale */
	struct umm_span
		watched; /* who does not watch all of it must not sleep; len 0: who may does */
	struct umm_span refused; /* after -EAGAIN: what the one watches who would have to sleep */
};
int notifier_invalidate_within(struct umm_ctx *ctx, const struct umm_notifier_range *range,
			       struct notifier_limits *limits);

/*
 * Tell of what has changed already: range->blockable does not matter. Who would have to sleep is
 * told by a worker, and is waited for by umm_notifier_read_begin() until it has been; nobody else
 * is, nor does the caller wait. Nothing locked.
 */
struct notifier_telling {
	/* Everybody has been asked, and one more has been told, but not all. */
	void (*some_told)(struct umm_ctx *ctx, void *priv);
	void (*all_told)(struct umm_ctx *ctx, void *priv); /* the last call */
	void *priv;
	_Atomic unsigned left; /* 1, which is the caller's, and one for each who is told later */
	_Atomic bool asked;
	struct late *late; /* under notifiers.lock */
};
void notifier_tell(struct umm_ctx *ctx, const struct umm_notifier_range *range,
		   struct notifier_telling *telling); /* NULL: nobody wants to know when */
/* The caller has done what he does between telling and the calls of *telling. */
void notifier_asked(struct umm_ctx *ctx, struct notifier_telling *telling);
/* For some_told: from where to where those watch who have yet to be told. False: none has. */
bool notifier_untold(struct umm_ctx *ctx, const struct notifier_telling *telling, uintptr_t *start,
		     uintptr_t *end);
/* As notifier_tell(), of these pages of a block. */
void notifier_tell_pages(struct umm_ctx *ctx, uintptr_t va, const uint64_t *pages,
			 enum umm_event event);

/*
 * Make snapshots of start .. end stale, and have umm_notifier_read_begin() wait, from now until
 * notifier_end(): somebody will call notifier_tell() in between. Does not sleep. NULL:
 * nobody listens.
 */
struct notifier_active *notifier_begin(struct umm_ctx *ctx, uintptr_t start, uintptr_t end);
void notifier_end(struct umm_ctx *ctx, struct notifier_active *active);

/* Wait while an invalidation of it is under way. 0 or -ETIME. */
int notifier_wait_quiet(struct umm_notifier *notifier, uint64_t deadline_ns);

/* Is it live, and its context too? In a forked child the context may go before it. */
bool notifier_valid(const struct umm_notifier *notifier);
/*
 * Is this thread inside a callback of some notifier? What waits for pages or for callbacks would
 * wait for this very thread then. The second one logs what was called, for functions that have no
 * error to return: they do nothing.
 */
bool notifier_in_callback(void);
bool notifier_refuses(const char *function);

/* Put it into the tree, make it live; take it out, waiting for its own callbacks. */
void notifier_add(struct umm_ctx *ctx, struct umm_notifier *notifier);
void notifier_del(struct umm_notifier *notifier);

#endif
