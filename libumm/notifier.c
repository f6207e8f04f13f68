/* SPDX-License-Identifier: MIT */
/*
 * Interval notifiers: who wants to hear of changes, and the sequence count by which a
 * reader knows that its snapshot grew stale.
 *
 *	reader					changer
 *	seq = read_begin()			page state := MIGRATING
 *	  (waits while seq is odd)		notifier_invalidate():
 *	reads page states			  of each: seq becomes odd
 *	takes its update lock			  callback takes the update lock,
 *	read_retry(seq)?			    forgets translations
 *	  changed: drop, start over		  seq becomes even
 *	programs its table			the page changes
 *
 * Either the reader takes its update lock first: it programs the old
 * translation and the callback, which comes after, removes it before the page
 * changes. Or the callback does: then seq differs and the reader starts over. A reader
 * that begins after the callback finds the page MIGRATING and reports none.
 *
 * Of what has changed already (its states, too) each notifier is told by itself: who would have to
 * sleep, by a worker.
 *
 * Invariants: a notifier is in the tree exactly while it may be called; it is not
 * removed while calls > 0, so the walk over the tree may drop the lock around a
 * callback. seq is odd exactly while active > 0. What a notifier is owed counts as calls, and a
 * worker is queued or at work while there is any.
 * Locks: notifiers.lock. Callbacks run without any.
 */
#include "notifier.h"

#include <errno.h>

#include "ctx.h"
#include "event.h"
#include "hook.h"
#include "log.h"
#include "prot.h"
#include "signals.h"
#include "util.h"

/* The notifier whose callback this thread is in: removing it would wait for itself. */
static _Thread_local __attribute__((tls_model("initial-exec"))) struct umm_notifier *running;

/* What a notifier is told by a worker, since it would have to sleep. */
struct late {
	struct late *next; /* of the notifier */
	struct umm_notifier *notifier;
	struct umm_notifier_range range;
	struct notifier_telling *telling; /* or NULL */
	struct late *sibling, **link;	  /* of those */
};

void notifiers_init(struct notifiers *notifiers)
{
	lock_init(&notifiers->lock, RANK_NOTIFIER);
	lock_cond_init(&notifiers->quiet);
	pool_init(&notifiers->active_pool, sizeof(struct notifier_active), NULL);
	pool_keep(&notifiers->active_pool);
	pool_init(&notifiers->late_pool, sizeof(struct late), NULL);
	pool_keep(&notifiers->late_pool);
	notifiers->tree.root = NULL;
	notifiers->active = NULL;
	notifiers->announced = NULL;
	atomic_store(&notifiers->count, 0);
}

static struct umm_notifier *notifier_of(struct itree_node *node)
{
	return container_of(node, struct umm_notifier, node);
}

void notifiers_fini(struct notifiers *notifiers)
{
	struct itree_node *node;

	/* Those that nobody removed end with their context. */
	while ((node = itree_first(&notifiers->tree, 0, UINTPTR_MAX))) {
		itree_remove(&notifiers->tree, node);
		handle_free(notifier_of(node), HANDLE_NOTIFIER);
	}
	pthread_cond_destroy(&notifiers->quiet);
	pool_fini(&notifiers->active_pool);
	pool_fini(&notifiers->late_pool);
	lock_fini(&notifiers->lock);
}

bool notifier_valid(const struct umm_notifier *notifier)
{
	return handle_is(notifier, HANDLE_NOTIFIER) && ctx_valid(notifier->ctx);
}

bool notifier_in_callback(void)
{
	return running;
}

bool umm_in_callback(void)
{
	return running;
}

bool notifier_refuses(const char *function)
{
	if (running)
		log_error("%s from a callback, which it would wait for: nothing is done", function);
	return running;
}

static void activate(struct umm_notifier *notifier)
{
	if (notifier->active++ == 0)
		atomic_fetch_add(&notifier->seq, 1);
}

static void deactivate(struct notifiers *notifiers, struct umm_notifier *notifier)
{
	if (--notifier->active == 0) {
		atomic_fetch_add(&notifier->seq, 1);
		pthread_cond_broadcast(&notifiers->quiet);
	}
}

static void invalidation_begin(struct notifiers *notifiers, struct notifier_active *active)
{
	struct itree_node *node;

	lock_take(&notifiers->lock);
	active->next = notifiers->active;
	active->link = &notifiers->active;
	if (active->next)
		active->next->link = &active->next;
	notifiers->active = active;
	for (node = itree_first(&notifiers->tree, active->start, active->end); node;
	     node = itree_next(node, active->start, active->end))
		activate(notifier_of(node));
	lock_drop(&notifiers->lock);
}

static void invalidation_end(struct notifiers *notifiers, struct notifier_active *active)
{
	struct itree_node *node;

	lock_take(&notifiers->lock);
	*active->link = active->next;
	if (active->next)
		active->next->link = active->link;
	for (node = itree_first(&notifiers->tree, active->start, active->end); node;
	     node = itree_next(node, active->start, active->end))
		deactivate(notifiers, notifier_of(node));
	lock_drop(&notifiers->lock);
}

struct notifier_active *notifier_begin(struct umm_ctx *ctx, uintptr_t start, uintptr_t end)
{
	struct notifier_active *active;

	if (!atomic_load(&ctx->notifiers.count))
		return NULL;
	active = pool_alloc(&ctx->notifiers.active_pool);
	if (!active)
		return NULL;
	*active = (struct notifier_active){ .start = start, .end = end };
	invalidation_begin(&ctx->notifiers, active);
	return active;
}

void notifier_end(struct umm_ctx *ctx, struct notifier_active *active)
{
	if (!active)
		return;
	invalidation_end(&ctx->notifiers, active);
	pool_free(&ctx->notifiers.active_pool, active);
}

static int call(struct umm_ctx *ctx, struct umm_notifier *notifier,
		const struct umm_notifier_range *range)
{
	struct umm_notifier *outer = running;
	bool sleeps;
	int ret;

	hook_run(HOOK_INVALIDATE, range->start);
	stats_add(&ctx->stats, UMM_COUNT_INVALIDATIONS, 1);
	running = notifier;
	sleeps = range->blockable && worker_sleeps(now_ns());
	ret = notifier->invalidate(notifier->priv, range);
	if (sleeps)
		worker_wakes();
	running = outer;
	return ret == -EAGAIN && !range->blockable ? -EAGAIN : 0;
}

/* It is in the tree, and stays there, until call_end(). */
static int call_begin(struct umm_ctx *ctx, struct umm_notifier *notifier,
		      const struct umm_notifier_range *range) UMM_REQUIRES(&ctx->notifiers.lock)
{
	int ret;

	activate(notifier);
	notifier->calls++;
	lock_drop(&ctx->notifiers.lock);
	ret = call(ctx, notifier, range);
	lock_take(&ctx->notifiers.lock);
	return ret;
}

static void call_end(struct notifiers *notifiers, struct umm_notifier *notifier)
	UMM_REQUIRES(&notifiers->lock)
{
	deactivate(notifiers, notifier);
	if (--notifier->calls == 0)
		pthread_cond_broadcast(&notifiers->quiet);
}

/* May it sleep? It watches the pages that its interval is a part of. */
static bool may_sleep(const struct umm_notifier *notifier, const struct umm_notifier_range *range,
		      const struct umm_span *watched)
{
	return range->blockable &&
	       (!watched->len ||
		(align_down(notifier->node.start, UMM_PAGE_SIZE) <= watched->start &&
		 watched->start + watched->len - UMM_PAGE_SIZE < notifier->node.end));
}

/* Call those who may sleep, or those who may not. 0 or -EAGAIN. */
static int invalidate_some(struct umm_ctx *ctx, const struct umm_notifier_range *range,
			   struct notifier_limits *limits, bool sleep)
	UMM_REQUIRES(&ctx->notifiers.lock)
{
	struct umm_notifier_range mine = *range;
	struct umm_notifier *notifier;
	struct itree_node *node;
	int ret = 0;

	mine.blockable = sleep;
	for (node = itree_first(&ctx->notifiers.tree, range->start, range->end); node && !ret;
	     node = itree_next(node, range->start, range->end)) {
		notifier = notifier_of(node);
		if (may_sleep(notifier, range, &limits->watched) != sleep)
			continue;
		if (limits->but && notifier->dev == limits->but) {
			activate(notifier);
			deactivate(&ctx->notifiers, notifier);
			continue;
		}
		/* While another's callback sleeps, this one's readers go on. */
		ret = call_begin(ctx, notifier, &mine);
		call_end(&ctx->notifiers, notifier);
		if (ret)
			limits->refused = (struct umm_span){ node->start, node->end - node->start };
	}
	return ret;
}

int notifier_invalidate_within(struct umm_ctx *ctx, const struct umm_notifier_range *range,
			       struct notifier_limits *limits)
{
	int ret = 0;

	/* Whoever is inserted after this load reads page states after it, too. */
	if (!atomic_load(&ctx->notifiers.count))
		return 0;
	/* A handler may touch a page that cannot come home before the callback has returned. */
	signals_hold();
	lock_take(&ctx->notifiers.lock);
	/* Nobody is waited for in vain. */
	if (!range->blockable || limits->watched.len)
		ret = invalidate_some(ctx, range, limits, false);
	if (!ret && range->blockable)
		ret = invalidate_some(ctx, range, limits, true);
	lock_drop(&ctx->notifiers.lock);
	signals_let();
	return ret;
}

int notifier_invalidate(struct umm_ctx *ctx, const struct umm_notifier_range *range)
{
	return notifier_invalidate_within(ctx, range, &(struct notifier_limits){ 0 });
}

/* One more has been told, or (asked by the caller) all that could be at once. */
static void telling_put(struct umm_ctx *ctx, struct notifier_telling *telling)
{
	if (atomic_load(&telling->asked) && atomic_load(&telling->left) > 1)
		telling->some_told(ctx, telling->priv);
	if (atomic_fetch_sub(&telling->left, 1) == 1)
		telling->all_told(ctx, telling->priv);
}

void notifier_asked(struct umm_ctx *ctx, struct notifier_telling *telling)
{
	atomic_store(&telling->asked, true);
	telling_put(ctx, telling);
}

bool notifier_untold(struct umm_ctx *ctx, const struct notifier_telling *telling, uintptr_t *start,
		     uintptr_t *end)
{
	*start = UINTPTR_MAX;
	*end = 0;
	lock_take(&ctx->notifiers.lock);
	for (struct late *late = telling->late; late; late = late->sibling) {
		*start = min(*start, late->notifier->node.start);
		*end = max(*end, late->notifier->node.end);
	}
	lock_drop(&ctx->notifiers.lock);
	return *end;
}

static void late_link(struct late *late) UMM_REQUIRES(&late->notifier->ctx->notifiers.lock)
{
	struct umm_notifier *notifier = late->notifier;
	struct notifier_telling *telling = late->telling;

	activate(notifier);
	notifier->calls++;
	*(notifier->owed ? notifier->owed_tail : &notifier->owed) = late;
	notifier->owed_tail = &late->next;
	if (!telling)
		return;
	atomic_fetch_add(&telling->left, 1);
	late->sibling = telling->late;
	late->link = &telling->late;
	if (late->sibling)
		late->sibling->link = &late->sibling;
	telling->late = late;
}

/* The first of its notifier's. */
static void late_unlink(struct late *late) UMM_REQUIRES(&late->notifier->ctx->notifiers.lock)
{
	late->notifier->owed = late->next;
	if (!late->telling)
		return;
	*late->link = late->sibling;
	if (late->sibling)
		late->sibling->link = late->link;
}

/* Tell a notifier all that it is owed, and end the calls: with the last it may be gone. */
static void tell_owed(struct umm_ctx *ctx, const struct work *work)
{
	struct umm_notifier *notifier = work->priv;
	struct notifiers *notifiers = &ctx->notifiers;
	struct notifier_telling *telling;
	struct late *late;
	bool more = true;

	while (more) {
		lock_take(&notifiers->lock);
		late = notifier->owed;
		lock_drop(&notifiers->lock);
		call(ctx, notifier, &late->range);
		lock_take(&notifiers->lock);
		late_unlink(late);
		more = notifier->owed;
		call_end(notifiers, notifier);
		lock_drop(&notifiers->lock);
		telling = late->telling;
		pool_free(&notifiers->late_pool, late);
		if (telling)
			telling_put(ctx, telling);
	}
}

/* Have a worker tell it. 0 or -ENOMEM: it is to be told here and now. */
static int tell_later(struct umm_ctx *ctx, struct umm_notifier *notifier,
		      const struct umm_notifier_range *range, struct notifier_telling *telling)
{
	struct work work = { .fn = tell_owed, .addr = range->start, .priv = notifier };
	struct late *late;
	bool first = false;
	int ret = 0;

	pool_urgent_begin();
	late = pool_alloc(&ctx->notifiers.late_pool);
	if (late) {
		*late = (struct late){ .notifier = notifier, .range = *range, .telling = telling };
		lock_take(&ctx->notifiers.lock);
		first = !notifier->owed;
		late_link(late);
		lock_drop(&ctx->notifiers.lock);
	}
	if (first)
		ret = workers_queue(&ctx->workers, &work);
	pool_urgent_end();
	if (ret)
		tell_owed(ctx, &work);
	return late ? 0 : -ENOMEM;
}

/* At once or by a worker. */
static void tell_one(struct umm_ctx *ctx, struct umm_notifier *notifier,
		     const struct umm_notifier_range *range, struct notifier_telling *telling)
	UMM_REQUIRES(&ctx->notifiers.lock)
{
	struct umm_notifier_range now = *range, later = *range;

	now.blockable = false;
	later.blockable = true;
	if (call_begin(ctx, notifier, &now)) {
		lock_drop(&ctx->notifiers.lock);
		if (tell_later(ctx, notifier, &later, telling))
			call(ctx, notifier, &later);
		lock_take(&ctx->notifiers.lock);
	}
	call_end(&ctx->notifiers, notifier);
}

void notifier_tell(struct umm_ctx *ctx, const struct umm_notifier_range *range,
		   struct notifier_telling *telling)
{
	struct notifiers *notifiers = &ctx->notifiers;
	struct itree_node *node;

	if (!atomic_load(&notifiers->count))
		return;
	signals_hold();
	lock_take(&notifiers->lock);
	for (node = itree_first(&notifiers->tree, range->start, range->end); node;
	     node = itree_next(node, range->start, range->end))
		tell_one(ctx, notifier_of(node), range, telling);
	lock_drop(&notifiers->lock);
	signals_let();
}

void notifier_tell_pages(struct umm_ctx *ctx, uintptr_t va, const uint64_t *pages,
			 enum umm_event event)
{
	struct umm_notifier_range range = { .event = event };
	unsigned first, last;

	for_each_run(pages, first, last)
	{
		range.start = va + ((uintptr_t)first << UMM_PAGE_SHIFT);
		range.end = va + ((uintptr_t)last << UMM_PAGE_SHIFT);
		notifier_tell(ctx, &range, NULL);
	}
}

void notifier_add(struct umm_ctx *ctx, struct umm_notifier *notifier)
{
	struct notifiers *notifiers = &ctx->notifiers;

	notifier->ctx = ctx;
	handle_publish(notifier, HANDLE_NOTIFIER);
	lock_take(&notifiers->lock);
	for (struct notifier_active *a = notifiers->active; a; a = a->next)
		if (a->start < notifier->node.end && notifier->node.start < a->end)
			activate(notifier);
	itree_insert(&notifiers->tree, &notifier->node);
	atomic_fetch_add(&notifiers->count, 1);
	lock_drop(&notifiers->lock);
}

void notifier_del(struct umm_notifier *notifier)
{
	struct notifiers *notifiers = &notifier->ctx->notifiers;

	/* Nobody walks the tree there, and a thread of the parent may have held the lock. */
	if (ctx_is_forked(notifier->ctx))
		return;
	lock_take(&notifiers->lock);
	/* Not for what else is under way: that may wait for this very thread. */
	while (notifier->calls)
		lock_wait(&notifiers->lock, &notifiers->quiet);
	itree_remove(&notifiers->tree, &notifier->node);
	atomic_fetch_sub(&notifiers->count, 1);
	/* What is under way ends without it. */
	if (notifier->active) {
		notifier->active = 1;
		deactivate(notifiers, notifier);
	}
	lock_drop(&notifiers->lock);
}

int umm_notifier_insert(struct umm_ctx *ctx, const struct umm_span *span,
			const struct umm_notifier_ops *ops, void *priv, struct umm_notifier **out)
{
	struct umm_notifier_ops mine;
	struct umm_notifier *notifier;
	int ret;

	if (!ctx_valid(ctx) || !span || !span->len || span->start + span->len < span->start ||
	    !ops || !out)
		return -EINVAL;
	ret = struct_in(&mine, sizeof(mine), ops);
	if (ret)
		return ret;
	if (!mine.invalidate)
		return -EINVAL;
	if (ctx_is_forked(ctx))
		return -ENODEV;
	notifier = handle_new(HANDLE_NOTIFIER);
	if (!notifier)
		return -ENOMEM;
	notifier->node.start = span->start;
	notifier->node.end = span->start + span->len;
	notifier->invalidate = mine.invalidate;
	notifier->priv = priv;
	notifier_add(ctx, notifier);
	*out = notifier;
	return 0;
}

int umm_notifier_remove(struct umm_notifier *notifier)
{
	if (!notifier)
		return 0;
	if (!notifier_valid(notifier) || notifier->of_mirror)
		return -EINVAL;
	if (notifier_in_callback())
		return -EDEADLK;
	if (!handle_close(notifier, HANDLE_NOTIFIER))
		return -EINVAL;
	notifier_del(notifier);
	handle_free(notifier, HANDLE_NOTIFIER);
	return 0;
}

static void invalidation_publish(struct umm_invalidation *invalidation)
{
	struct notifiers *notifiers = &invalidation->ctx->notifiers;

	handle_publish(invalidation, HANDLE_INVALIDATION);
	lock_take(&notifiers->lock);
	invalidation->next = notifiers->announced;
	invalidation->link = &notifiers->announced;
	if (invalidation->next)
		invalidation->next->link = &invalidation->next;
	notifiers->announced = invalidation;
	lock_drop(&notifiers->lock);
}

static void invalidation_unlist(struct umm_invalidation *invalidation)
{
	struct notifiers *notifiers = &invalidation->ctx->notifiers;

	lock_take(&notifiers->lock);
	*invalidation->link = invalidation->next;
	if (invalidation->next)
		invalidation->next->link = invalidation->link;
	lock_drop(&notifiers->lock);
}

static void invalidation_finish(struct umm_invalidation *invalidation)
{
	invalidation_end(&invalidation->ctx->notifiers, &invalidation->active);
	handle_free(invalidation, HANDLE_INVALIDATION);
}

int umm_invalidate_range_start(struct umm_ctx *ctx, const struct umm_notifier_range *range,
			       struct umm_invalidation **out)
{
	struct umm_invalidation *invalidation;

	if (!ctx_valid(ctx) || !range || !out || range->start >= range->end || !range->blockable ||
	    !is_aligned(range->start | range->end, UMM_PAGE_SIZE) ||
	    (unsigned)range->event >= UMM_EVENT_RELEASE)
		return -EINVAL;
	if (ctx_is_forked(ctx))
		return -ENODEV;
	if (notifier_in_callback())
		return -EDEADLK;
	invalidation = handle_new(HANDLE_INVALIDATION);
	if (!invalidation)
		return -ENOMEM;
	invalidation->ctx = ctx;
	invalidation->active.start = range->start;
	invalidation->active.end = range->end;
	invalidation->event = range->event;
	invalidation_begin(&ctx->notifiers, &invalidation->active);
	notifier_invalidate(ctx, range);
	invalidation_publish(invalidation);
	*out = invalidation;
	return 0;
}

void umm_invalidate_range_end(struct umm_ctx *ctx, struct umm_invalidation *invalidation)
{
	if (!ctx_valid(ctx) || !handle_is(invalidation, HANDLE_INVALIDATION) ||
	    invalidation->ctx != ctx || !handle_close(invalidation, HANDLE_INVALIDATION))
		return;
	/* A forked child has the handle, and its parent the change. */
	if (ctx_is_forked(ctx)) {
		handle_free(invalidation, HANDLE_INVALIDATION);
		return;
	}
	if (invalidation->event == UMM_EVENT_UNMAP)
		event_forget(ctx, invalidation->active.start, invalidation->active.end);
	if (invalidation->event == UMM_EVENT_PROTECTION_VMA)
		prot_forget(ctx, invalidation->active.start, invalidation->active.end);
	invalidation_unlist(invalidation);
	invalidation_finish(invalidation);
}

void notifiers_close(struct umm_ctx *ctx)
{
	struct umm_invalidation *invalidation;

	while ((invalidation = ctx->notifiers.announced)) {
		invalidation_unlist(invalidation);
		if (handle_close(invalidation, HANDLE_INVALIDATION))
			invalidation_finish(invalidation);
	}
}

void notifiers_release(struct umm_ctx *ctx)
{
	struct umm_notifier_range range = {
		.end = UINTPTR_MAX,
		.event = UMM_EVENT_RELEASE,
		.blockable = true,
	};

	notifier_invalidate(ctx, &range);
}

int notifier_wait_quiet(struct umm_notifier *notifier, uint64_t deadline_ns)
{
	struct notifiers *notifiers = &notifier->ctx->notifiers;
	int ret = 0;

	lock_take(&notifiers->lock);
	while (notifier->active && !ret)
		ret = lock_wait_until(&notifiers->lock, &notifiers->quiet, deadline_ns);
	lock_drop(&notifiers->lock);
	return ret;
}

uint64_t umm_notifier_read_begin(struct umm_notifier *notifier)
{
	struct notifiers *notifiers;
	uint64_t seq;
	bool sleeps;

	if (!notifier_valid(notifier))
		return 0;
	notifiers = &notifier->ctx->notifiers;
	seq = atomic_load(&notifier->seq);
	/* The end of what this thread announces would be waited for in vain: one that is stale. */
	if (notifier_in_callback())
		return seq & 1 ? seq - 1 : seq;
	ctx_pass_gate(notifier->ctx);
	seq = atomic_load(&notifier->seq);
	if (!(seq & 1))
		return seq;
	sleeps = worker_sleeps(now_ns());
	lock_take(&notifiers->lock);
	while (notifier->active)
		lock_wait(&notifiers->lock, &notifiers->quiet);
	seq = atomic_load(&notifier->seq);
	lock_drop(&notifiers->lock);
	if (sleeps)
		worker_wakes();
	return seq;
}

bool umm_notifier_read_retry(struct umm_notifier *notifier, uint64_t seq)
{
	if (!notifier_valid(notifier) || atomic_load(&notifier->seq) != seq)
		return true;
	/* A call that has returned may have been read of, and not been looked at. */
	ctx_pass_gate(notifier->ctx);
	return atomic_load(&notifier->seq) != seq;
}
