/* SPDX-License-Identifier: MIT */
/*
 * Mirrors: a device's interest in the whole address space. A mirror is a
 * notifier over all addresses; unregistering it waits for callbacks and then makes the
 * last call, release.
 *
 * Locks: ctx->lock for the device's list.
 */
#include "mirror.h"

#include <errno.h>

#include "ctx.h"
#include "device.h"
#include "util.h"

int umm_mirror_register(struct umm_device *dev, const struct umm_mirror_ops *ops, void *priv,
			struct umm_mirror **out)
{
	struct umm_mirror *mirror;
	struct umm_mirror_ops mine;
	int ret;

	if (!dev || !ops || !out)
		return -EINVAL;
	ret = struct_in(&mine, sizeof(mine), ops);
	if (ret)
		return ret;
	if (!mine.invalidate || !mine.release)
		return -EINVAL;
	if (ctx_is_forked(dev->ctx))
		return -ENODEV;
	mirror = pool_alloc(&dev->ctx->notifiers.mirror_pool);
	if (!mirror)
		return -ENOMEM;
	mirror->dev = dev;
	mirror->ops = mine;
	mirror->priv = priv;
	mirror->notifier.node.start = 0;
	mirror->notifier.node.end = UINTPTR_MAX;
	mirror->notifier.invalidate = mine.invalidate;
	mirror->notifier.priv = priv;
	notifier_add(dev->ctx, &mirror->notifier);
	lock_take(&dev->ctx->lock);
	mirror->next = dev->mirrors;
	dev->mirrors = mirror;
	lock_drop(&dev->ctx->lock);
	*out = mirror;
	return 0;
}

int umm_mirror_unregister(struct umm_mirror *mirror)
{
	struct umm_mirror **link;
	struct umm_ctx *ctx;
	int ret;

	if (!mirror)
		return 0;
	ret = notifier_del(&mirror->notifier);
	if (ret)
		return ret;
	ctx = mirror->dev->ctx;
	lock_take(&ctx->lock);
	for (link = &mirror->dev->mirrors; *link != mirror; link = &(*link)->next)
		;
	*link = mirror->next;
	lock_drop(&ctx->lock);
	mirror->ops.release(mirror->priv);
	pool_free(&ctx->notifiers.mirror_pool, mirror);
	return 0;
}

struct umm_notifier *umm_mirror_notifier(struct umm_mirror *mirror)
{
	return &mirror->notifier;
}
