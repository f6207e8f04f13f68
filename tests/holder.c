/* SPDX-License-Identifier: MIT */
#include "holder.h"

#include <errno.h>

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t changed = PTHREAD_COND_INITIALIZER;

static int held_invalidate(void *priv, const struct umm_notifier_range *range)
{
	struct holder *holder = priv;

	if (!range->blockable)
		return -EAGAIN;
	if (!holder)
		return 0;
	pthread_mutex_lock(&lock);
	holder->waiting++;
	while (!holder->let)
		pthread_cond_wait(&changed, &lock);
	holder->waiting--;
	pthread_mutex_unlock(&lock);
	return 0;
}

static const struct umm_notifier_ops held_ops = {
	.size = sizeof(struct umm_notifier_ops),
	.invalidate = held_invalidate,
};

struct umm_notifier *holder_watch_span(struct env *e, const struct umm_span *span,
				       struct holder *holder)
{
	struct umm_notifier *notifier = NULL;

	assert_int_equal(umm_notifier_insert(e->ctx, span, &held_ops, holder, &notifier), 0);
	return notifier;
}

struct umm_notifier *holder_watch(struct env *e, void *addr, size_t npages, struct holder *holder)
{
	struct umm_span span = { .start = (uintptr_t)addr, .len = npages * PAGE };

	return holder_watch_span(e, &span, holder);
}

struct umm_notifier *holder_hold(struct env *e, void *addr, size_t npages, struct holder *holder)
{
	holder->let = false;
	return holder_watch(e, addr, npages, holder);
}

void holder_let_go(struct holder *holder)
{
	pthread_mutex_lock(&lock);
	holder->let = true;
	pthread_cond_broadcast(&changed);
	pthread_mutex_unlock(&lock);
}
