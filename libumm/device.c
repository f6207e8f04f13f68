/* SPDX-License-Identifier: MIT */
/*
 * Devices: an umbrella over memories and mirrors, and a table of operations that is
 * the only thing the core knows of a backend.
 *
 * Locks: ctx->lock for the lists. No op runs under a lock, but for those that umm.h names.
 */
#include "device.h"

#include <errno.h>

#include "ctx.h"
#include "mirror.h"
#include "util.h"

int umm_device_create(struct umm_ctx *ctx, const struct umm_device_ops *ops, void *priv,
		      uint64_t flags, struct umm_device **out)
{
	struct umm_device_ops mine;
	struct umm_device *dev;
	int ret;

	if (!ctx_valid(ctx) || !ops || !out ||
	    flags & ~(uint64_t)(UMM_DEVICE_INLINE_COPY | UMM_DEVICE_IN_PLACE))
		return -EINVAL;
	ret = struct_in(&mine, sizeof(mine), ops);
	if (ret)
		return ret;
	if (mine.api != UMM_DEVICE_API || !mine.name || !mine.copy)
		return -EINVAL;
	if (ctx_is_forked(ctx))
		return -ENODEV;
	dev = handle_new(HANDLE_DEVICE);
	if (!dev)
		return -ENOMEM;
	dev->ctx = ctx;
	dev->ops = mine;
	dev->priv = priv;
	dev->inline_copy = flags & UMM_DEVICE_INLINE_COPY;
	dev->in_place = flags & UMM_DEVICE_IN_PLACE;
	handle_publish(dev, HANDLE_DEVICE);
	lock_take(&ctx->lock);
	dev->next = ctx->devices;
	ctx->devices = dev;
	lock_drop(&ctx->lock);
	*out = dev;
	return 0;
}

void umm_device_destroy(struct umm_device *dev)
{
	struct umm_device **link;
	struct umm_ctx *ctx;

	if (notifier_refuses("umm_device_destroy") || !handle_close(dev, HANDLE_DEVICE))
		return;
	ctx = dev->ctx;
	if (ctx_is_lost(ctx, "umm_device_destroy")) {
		handle_abandon(dev);
		return;
	}
	hints_forget_device(&ctx->hints, dev);
	if (dev->ops.quiesce && !ctx_is_forked(ctx))
		dev->ops.quiesce(dev->priv);
	while (dev->mems)
		umm_devmem_remove(dev->mems);
	while (dev->mirrors)
		umm_mirror_unregister(dev->mirrors);
	lock_take(&ctx->lock);
	for (link = &ctx->devices; *link != dev; link = &(*link)->next)
		;
	*link = dev->next;
	lock_drop(&ctx->lock);
	/* In a forked child the device is the parent's: only our books are closed. */
	if (dev->ops.destroy && !ctx_is_forked(ctx))
		dev->ops.destroy(dev->priv);
	handle_free(dev, HANDLE_DEVICE);
}

void *umm_device_priv(struct umm_device *dev)
{
	return device_valid(dev) ? dev->priv : NULL;
}

const char *umm_device_name(struct umm_device *dev)
{
	return device_valid(dev) ? dev->ops.name : NULL;
}

uint64_t device_pages(struct umm_device *dev)
{
	uint64_t n = 0;

	lock_take(&dev->ctx->lock);
	for (struct umm_devmem *mem = dev->mems; mem; mem = mem->next)
		n += mem->places ? 0 : atomic_load(&mem->pages);
	lock_drop(&dev->ctx->lock);
	return n;
}

uint64_t device_pages_of_ctx(struct umm_ctx *ctx)
{
	uint64_t n = 0;

	lock_take(&ctx->lock);
	for (struct umm_device *dev = ctx->devices; dev; dev = dev->next)
		for (struct umm_devmem *mem = dev->mems; mem; mem = mem->next)
			n += mem->places ? 0 : atomic_load(&mem->pages);
	lock_drop(&ctx->lock);
	return n;
}

void device_fork_child(struct umm_ctx *ctx)
{
	lock_init(&ctx->lock, RANK_CTX);
	/* What another thread of the parent was just closing is for the child to close. */
	for (struct umm_device *dev = ctx->devices; dev; dev = dev->next) {
		handle_publish(dev, HANDLE_DEVICE);
		for (struct umm_devmem *mem = dev->mems; mem; mem = mem->next) {
			handle_publish(mem, HANDLE_DEVMEM);
			lock_init(&mem->lock, RANK_DEVMEM);
		}
		for (struct umm_mirror *mirror = dev->mirrors; mirror; mirror = mirror->next)
			handle_publish(mirror, HANDLE_MIRROR);
	}
}

size_t devices_bytes(struct umm_ctx *ctx)
{
	size_t n = 0;

	lock_take(&ctx->lock);
	for (struct umm_device *dev = ctx->devices; dev; dev = dev->next)
		for (struct umm_devmem *mem = dev->mems; mem; mem = mem->next)
			n += mem->nchunks * sizeof(struct chunk);
	lock_drop(&ctx->lock);
	return n;
}

bool devices_have_pool(struct umm_ctx *ctx, uintptr_t start, uintptr_t end)
{
	bool found = false;

	lock_take(&ctx->lock);
	for (struct umm_device *dev = ctx->devices; dev; dev = dev->next)
		for (struct umm_devmem *mem = dev->mems; mem; mem = mem->next)
			found |= mem->type == UMM_DEVMEM_COHERENT && mem->base < end &&
				 start < devmem_host(mem, mem->nframes);
	lock_drop(&ctx->lock);
	return found;
}
