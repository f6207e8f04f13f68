/* SPDX-License-Identifier: MIT */
/*
 * What is kept only to be faster goes back to the kernel: recycled host frames, and frames that
 * nobody uses of memories whose device gives them theirs and takes it again (populate, unpopulate).
 *
 * Frames go by whole chunks. A chunk whose frames are all free is marked as not backed while that
 * is so for certain; who takes a frame of it from then on waits for ctx->lock to back it again.
 *
 * Locks: ctx->lock for one chunk at a time, mem->lock inside.
 */
#include "reclaim.h"

#include <errno.h>

#include "ctx.h"
#include "device.h"
#include "devmem.h"
#include "notifier.h"
#include "uffd.h"

static bool can_be_trimmed(const struct umm_devmem *mem)
{
	return mem->dev->ops.populate && mem->dev->ops.unpopulate && !mem->places;
}

/* Nobody has a frame of it, nor takes one that has its memory. */
static bool chunk_unback(struct umm_devmem *mem, struct chunk *chunk)
{
	bool idle;

	lock_take(&mem->lock);
	idle = chunk->nfree == chunk->nframes && atomic_load(&chunk->backed);
	if (idle)
		atomic_store(&chunk->backed, false);
	lock_drop(&mem->lock);
	return idle;
}

static uint32_t chunk_trim(struct umm_devmem *mem, uint32_t c)
{
	struct chunk *chunk = &mem->chunks[c];
	uint32_t frame = c * UMM_BLOCK_PAGES, n = 0;

	if (!atomic_load(&chunk->backed))
		return 0;
	lock_take(&mem->ctx->lock);
	if (chunk_unback(mem, chunk)) {
		n = chunk->nframes;
		if (mem->type == UMM_DEVMEM_COHERENT && mem->ctx->features & UMM_KERNEL_MOVE)
			uffd_unregister(mem->ctx->staging.uffd, devmem_host(mem, frame),
					(size_t)n << UMM_PAGE_SHIFT);
		mem->dev->ops.unpopulate(mem->dev->priv, mem, frame, n);
	}
	lock_drop(&mem->ctx->lock);
	return n;
}

uint32_t devmem_trim(struct umm_devmem *mem)
{
	uint32_t n = 0;

	for (uint32_t c = 0; can_be_trimmed(mem) && c < mem->nchunks; c++)
		n += chunk_trim(mem, c);
	return n;
}

/* The context's nth memory that can be trimmed; NULL: no such. *used: to be unused afterwards. */
static struct umm_devmem *devmem_nth(struct umm_ctx *ctx, unsigned nth, bool *used)
{
	struct umm_devmem *found = NULL;

	lock_take(&ctx->lock);
	for (struct umm_device *dev = ctx->devices; dev; dev = dev->next)
		for (struct umm_devmem *mem = dev->mems; mem; mem = mem->next)
			if (can_be_trimmed(mem) && !nth--)
				found = mem;
	/* One that is being removed gives back all it has by itself. */
	*used = found && !devmem_use(found);
	lock_drop(&ctx->lock);
	return found;
}

bool ctx_reclaim(struct umm_ctx *ctx)
{
	size_t npages = staging_drop(&ctx->staging);
	struct umm_devmem *mem;
	bool used;

	for (unsigned nth = 0; (mem = devmem_nth(ctx, nth, &used)); nth++) {
		if (!used)
			continue;
		npages += devmem_trim(mem);
		devmem_unuse(mem);
	}
	return npages;
}

long umm_devmem_trim(struct umm_devmem *mem)
{
	int ret = devmem_ask(mem);
	long n;

	if (ret)
		return ret;
	n = devmem_trim(mem);
	devmem_unuse(mem);
	return n;
}

long umm_ctx_trim(struct umm_ctx *ctx, size_t frame_cache)
{
	if (!ctx_valid(ctx))
		return -EINVAL;
	return ctx_is_forked(ctx) ? -ENODEV : (long)staging_limit(&ctx->staging, frame_cache);
}
