/* SPDX-License-Identifier: MIT */
/*
 * Migration in three steps, by a driver that copies itself: setup collects the pages and
 * unmaps them from the CPU; the driver copies; umm_migrate_pages() commits what dst[] says.
 * From setup to finalize nothing else may be asked of the core that could wait for these
 * pages, so device frames are taken before. A migration works on one batch: the pages of
 * one block, at most.
 */
#include "migrate.h"

#include <errno.h>
#include <string.h>

#include "mirror.h"

/* A migration with its arrays. */
struct batch_migration {
	struct umm_migrate migrate;
	uint64_t src[BATCH_PAGES];
	uint64_t dst[BATCH_PAGES];
	uint32_t frames[BATCH_PAGES]; /* taken for it; [i] is for page i */
};

static void batch_migration_init(struct batch_migration *b, struct device *device, uintptr_t start,
				 uintptr_t end)
{
	memset(b, 0, sizeof(*b));
	b->migrate.size = sizeof(b->migrate);
	b->migrate.ctx = device->ctx;
	b->migrate.start = start;
	b->migrate.end = end;
	b->migrate.src = b->src;
	b->migrate.dst = b->dst;
	b->migrate.cause = UMM_CAUSE_EXPLICIT;
}

static void *mpfn_address(uint64_t mpfn)
{
	return (void *)(uintptr_t)(mpfn & ~(uint64_t)(UMM_PAGE_SIZE - 1));
}

/* ---- to the device ---------------------------------------------------------------- */

static int frames_take(struct umm_devmem *mem, uint32_t n, uint32_t *frames)
{
	int ret = umm_devmem_alloc(mem, n, frames);

	if (ret == -ENOSPC && umm_devmem_evict(mem, n) == 0)
		ret = umm_devmem_alloc(mem, n, frames);
	return ret;
}

static void copy_in(struct batch_migration *b, unsigned long i)
{
	void *frame = device_frame(b->migrate.dst_mem, b->frames[i]);

	if (!(b->src[i] & UMM_MPFN_MIGRATE))
		return;
	if (b->src[i] & UMM_MPFN_EMPTY)
		memset(frame, 0, UMM_PAGE_SIZE);
	else
		memcpy(frame, mpfn_address(b->src[i]), UMM_PAGE_SIZE);
	b->dst[i] = UMM_MPFN_VALID | UMM_MPFN_DEVICE | (uint64_t)b->frames[i] << UMM_PAGE_SHIFT;
}

static int batch_to_device(struct device *device, uintptr_t start, uintptr_t end)
{
	struct batch_migration b;
	size_t npages = batch_npages(start, end);
	int ret;

	batch_migration_init(&b, device, start, end);
	b.migrate.dst_mem = device->mem;
	b.migrate.flags = UMM_MIGRATE_SELECT_SYSTEM;
	ret = frames_take(device->mem, (uint32_t)npages, b.frames);
	if (ret)
		return ret;
	ret = umm_migrate_setup(&b.migrate);
	if (ret) {
		umm_devmem_free(device->mem, (uint32_t)npages, b.frames);
		return ret == -ENOENT ? 0 : ret;
	}
	for (size_t i = 0; i < npages; i++)
		copy_in(&b, i);
	umm_migrate_pages(&b.migrate);
	umm_migrate_finalize(&b.migrate);
	/* Frames that no page has moved to are still the driver's. */
	for (size_t i = 0; i < npages; i++)
		if (!(b.src[i] & UMM_MPFN_MIGRATE))
			umm_devmem_free(device->mem, 1, &b.frames[i]);
	return 0;
}

int migrate_to_device(struct device *device, uintptr_t start, uintptr_t end)
{
	int ret;

	pthread_mutex_lock(&device->lock);
	ret = device_memory_locked(device);
	for (uintptr_t at = start, next; at < end && !ret; at = next) {
		next = batch_end(at, end);
		ret = batch_to_device(device, at, next);
	}
	pthread_mutex_unlock(&device->lock);
	return ret;
}

/* ---- and home --------------------------------------------------------------------- */

static void copy_out(struct batch_migration *b, unsigned long i)
{
	struct umm_devmem *mem = umm_migrate_src_mem(&b->migrate, i);
	void *host;

	if (!(b->src[i] & UMM_MPFN_MIGRATE))
		return;
	host = umm_migrate_host(&b->migrate, i);
	if (!host)
		return;
	memcpy(host, device_frame(mem, (uint32_t)(b->src[i] >> UMM_PAGE_SHIFT)), UMM_PAGE_SIZE);
	b->dst[i] = UMM_MPFN_VALID;
}

static long batch_to_system(struct device *device, uintptr_t start, uintptr_t end)
{
	struct batch_migration b;
	int ret;

	batch_migration_init(&b, device, start, end);
	b.migrate.owner = device->dev;
	b.migrate.flags = device->type == UMM_DEVMEM_PRIVATE ? UMM_MIGRATE_SELECT_PRIVATE :
							       UMM_MIGRATE_SELECT_COHERENT;
	ret = umm_migrate_setup(&b.migrate);
	if (ret)
		return ret == -ENOENT ? 0 : ret;
	for (size_t i = 0; i < batch_npages(start, end); i++)
		copy_out(&b, i);
	umm_migrate_pages(&b.migrate);
	umm_migrate_finalize(&b.migrate);
	return (long)b.migrate.cpages;
}

long migrate_to_system(struct device *device, uintptr_t start, uintptr_t end)
{
	long n, moved = 0;

	for (uintptr_t at = start, next; at < end; at = next) {
		next = batch_end(at, end);
		n = batch_to_system(device, at, next);
		if (n < 0)
			return n;
		moved += n;
	}
	return moved;
}
