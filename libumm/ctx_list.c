/* SPDX-License-Identifier: MIT */
/*
 * The list of this process's contexts, and what they tell each other: what is managed by another,
 * or is the pool of a memory, is nobody else's to manage.
 *
 * Locks: that of the list (outermost), which fork() holds while it goes on; inside of it that of
 * attaching, which it does not. Either to walk the list, both to change it.
 */
#include "ctx.h"

#include "device.h"
#include "region.h"

static struct lock list_lock = { PTHREAD_MUTEX_INITIALIZER, RANK_GLOBAL };
static struct lock attach_lock = { PTHREAD_MUTEX_INITIALIZER, RANK_ATTACH };
static struct umm_ctx *list;

void ctx_list_lock(void)
{
	lock_take(&list_lock);
}

void ctx_list_unlock(void)
{
	lock_drop(&list_lock);
}

void ctx_list_reset(void)
{
	lock_init(&list_lock, RANK_GLOBAL);
	lock_init(&attach_lock, RANK_ATTACH);
}

void ctx_attach_lock(void)
{
	lock_take(&attach_lock);
}

void ctx_attach_unlock(void)
{
	lock_drop(&attach_lock);
}

struct umm_ctx *ctx_list_first(void)
{
	return list;
}

void ctx_list_add(struct umm_ctx *ctx)
{
	ctx_list_lock();
	ctx_attach_lock();
	ctx->next = list;
	list = ctx;
	ctx_attach_unlock();
	ctx_list_unlock();
}

void ctx_list_remove(struct umm_ctx *ctx)
{
	struct umm_ctx **link;

	ctx_list_lock();
	ctx_attach_lock();
	for (link = &list; *link != ctx; link = &(*link)->next)
		;
	*link = ctx->next;
	ctx_attach_unlock();
	ctx_list_unlock();
}

bool ctx_others_manage(const struct umm_ctx *ctx, uintptr_t start, uintptr_t end)
{
	struct umm_span span;

	for (struct umm_ctx *other = list; other; other = other->next)
		if (other != ctx && !ctx_is_forked(other) && region_next(other, start, end, &span))
			return true;
	return false;
}

bool ctx_any_pool(uintptr_t start, uintptr_t end)
{
	for (struct umm_ctx *ctx = list; ctx; ctx = ctx->next)
		if (!ctx_is_forked(ctx) && devices_have_pool(ctx, start, end))
			return true;
	return false;
}
