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

	if (!device_valid(dev) || !ops || !out)
		return -EINVAL;
	ret = struct_in(&mine, sizeof(mine), ops);
	if (ret)
		return ret;
	if (!mine.invalidate || !mine.release)
		return -EINVAL;
	if (ctx_is_forked(dev->ctx))
		return -ENODEV;
	if (notifier_in_callback())
		return -EDEADLK;
	mirror = handle_new(HANDLE_MIRROR);
	if (!mirror)
		return -ENOMEM;
	mirror->dev = dev;
	mirror->ops = mine;
	mirror->priv = priv;
	mirror->notifier.node.start = 0;
	mirror->notifier.node.end = UINTPTR_MAX;
	mirror->notifier.invalidate = mine.invalidate;
	mirror->notifier.priv = priv;
	mirror->notifier.of_mirror = true;
	mirror->notifier.dev = dev;
	handle_publish(mirror, HANDLE_MIRROR);
	notifier_add(dev->ctx, &mirror->notifier);
	lock_take(&dev->ctx->lock);
	mirror->next = dev->mirrors;
	dev->mirrors = mirror;
	lock_drop(&dev->ctx->lock);
	*out = mirror;
	return 0;
}

static void mirror_destroy(struct umm_mirror *mirror)
{
	struct umm_ctx *ctx = mirror->dev->ctx;
	struct umm_mirror **link;

	notifier_del(&mirror->notifier);
	lock_take(&ctx->lock);
	for (link = &mirror->dev->mirrors; *link != mirror; link = &(*link)->next)
		;
	*link = mirror->next;
	lock_drop(&ctx->lock);
	/* In a forked child the device is the parent's, and so is its driver. */
	if (!ctx_is_forked(ctx))
		mirror->ops.release(mirror->priv);
	handle_free(mirror, HANDLE_MIRROR);
}

int umm_mirror_unregister(struct umm_mirror *mirror)
{
	if (!mirror)
		return 0;
	if (!mirror_valid(mirror))
		return -EINVAL;
	if (notifier_in_callback())
		return -EDEADLK;
	if (!handle_close(mirror, HANDLE_MIRROR))
		return -EINVAL;
	mirror_destroy(mirror);
	return 0;
}

struct umm_notifier *umm_mirror_notifier(struct umm_mirror *mirror)
{
	return mirror_valid(mirror) ? &mirror->notifier : NULL;
}
