/* SPDX-License-Identifier: MIT */
/*
 * Frames of a device memory. They are kept in chunks of 512, so that a block can
 * have one aligned piece; single frames come from chunks that are broken already.
 * Each memory keeps its blocks in an order of eviction (devmem_policy.c).
 *
 * In a PLACED memory every frame is for one page, and is taken for that page only.
 *
 * Frames of COHERENT memory are host pages at mem->base that are moved into the
 * program's mapping and back. A chunk is populated and registered for moving
 * when its first frame is taken. Where the device has no memory for it, its frames are
 * left out for a while, as if there were fewer.
 *
 * Frames of a memory of places are addresses of a window of the core's, where pages that a
 * device has exclusively are meanwhile. Giving such a frame back drops what is there.
 *
 * Invariants: a chunk is on `whole` when all its frames are free, on `partial` when some are, on
 * no list when none is or it is absent. nfree is the sum of those on a list. A frame is free, the
 * driver's (umm_devmem_alloc()), or the core's: a page's or on its way. A free COHERENT frame of a
 * backed chunk is present at its place in the pool; a free place is empty. A frame that failed is
 * not free, and stays so.
 * Locks: mem->lock; nothing is called under it. Chunks are backed under ctx->lock.
 */
#include "devmem.h"

#include <errno.h>
#include <sys/mman.h>

#include "ctx.h"
#include "device.h"
#include "log.h"
#include "prefetch.h"
#include "uapi.h"
#include "uffd.h"
#include "tracefile.h"
#include "util.h"

/* Slots of the window of places that a device gets: address space, and 152 bytes of books each. */
#define PLACE_SLOTS 512
/* Frames that are freed at a time: what the caller names is copied first. */
#define FREE_BATCH 128
/* How long to do without frames that had no memory. */
#define ABSENT_NS UINT64_C(1000000000)

static uint32_t *chunk_list(struct umm_devmem *mem, const struct chunk *chunk)
{
	if (chunk->nfree == 0 || chunk->absent)
		return NULL;
	return chunk->nfree == UMM_BLOCK_PAGES ? &mem->whole : &mem->partial;
}

static void chunk_link(struct umm_devmem *mem, struct chunk *chunk)
{
	uint32_t *list = chunk_list(mem, chunk), me = (uint32_t)(chunk - mem->chunks);

	if (!list)
		return;
	chunk->prev = CHUNK_NONE;
	chunk->next = *list;
	if (*list != CHUNK_NONE)
		mem->chunks[*list].prev = me;
	*list = me;
}

static void chunk_unlink(struct umm_devmem *mem, struct chunk *chunk)
{
	uint32_t *list = chunk_list(mem, chunk);

	if (!list)
		return;
	if (chunk->prev != CHUNK_NONE)
		mem->chunks[chunk->prev].next = chunk->next;
	else
		*list = chunk->next;
	if (chunk->next != CHUNK_NONE)
		mem->chunks[chunk->next].prev = chunk->prev;
}

static int chunks_init(struct umm_devmem *mem)
{
	mem->nchunks = (mem->nframes + UMM_BLOCK_PAGES - 1) / UMM_BLOCK_PAGES;
	mem->chunks = arena_map(mem->nchunks * sizeof(*mem->chunks));
	if (!mem->chunks)
		return -ENOMEM;
	mem->whole = CHUNK_NONE;
	mem->partial = CHUNK_NONE;
	for (uint32_t c = mem->nchunks; c-- > 0;) {
		struct chunk *chunk = &mem->chunks[c];

		chunk->nframes = (uint16_t)min(mem->nframes - c * UMM_BLOCK_PAGES,
					       (uint32_t)UMM_BLOCK_PAGES);
		chunk->nfree = chunk->nframes;
		for (unsigned i = 0; i < chunk->nframes; i++)
			bit_set(chunk->free, i);
		chunk_link(mem, chunk);
	}
	mem->nfree = mem->nframes;
	return 0;
}

static bool places_check(const struct umm_devmem_options *options)
{
	uintptr_t end = options->start + ((uintptr_t)options->nframes << UMM_PAGE_SHIFT);

	if (!(options->flags & UMM_DEVMEM_PLACED))
		return !options->start;
	return options->type == UMM_DEVMEM_PRIVATE && is_aligned(options->start, UMM_PAGE_SIZE) &&
	       options->start && options->start < end && end <= (uintptr_t)1 << 47;
}

static int options_check(const struct umm_devmem_options *options)
{
	if (options->flags & ~(uint64_t)UMM_DEVMEM_PLACED || !options->nframes)
		return -EINVAL;
	if (!places_check(options))
		return -EINVAL;
	if (options->type == UMM_DEVMEM_PRIVATE)
		return options->base ? -EINVAL : 0;
	if (options->type != UMM_DEVMEM_COHERENT)
		return -EINVAL;
	return options->base && !((uintptr_t)options->base & BLOCK_MASK) ? 0 : -EINVAL;
}

/* The pool of a COHERENT memory is nobody else's. */
static int pool_check_locked(struct umm_devmem *mem)
{
	uintptr_t end = devmem_host(mem, mem->nframes);

	if (mem->type != UMM_DEVMEM_COHERENT)
		return 0;
	return ctx_any_pool(mem->base, end) || ctx_others_manage(NULL, mem->base, end) ? -EINVAL :
											 0;
}

/* From here on the device has it. */
static int devmem_insert(struct umm_devmem *mem)
{
	struct umm_device *dev = mem->dev;
	int ret;

	ctx_attach_lock();
	ret = pool_check_locked(mem);
	if (!ret) {
		lock_take(&mem->ctx->lock);
		mem->next = dev->mems;
		dev->mems = mem;
		lock_drop(&mem->ctx->lock);
	}
	ctx_attach_unlock();
	return ret;
}

static size_t pool_bytes(const struct umm_devmem *mem)
{
	return (size_t)mem->nframes << UMM_PAGE_SHIFT;
}

static void devmem_destroy(struct umm_devmem *mem)
{
	/* A forked child has no such window: the address may be another mapping's. */
	if (mem->places && !ctx_is_forked(mem->ctx))
		staging_window_close(mem->base, pool_bytes(mem));
	lock_fini(&mem->lock);
	devmem_order_fini(mem);
	arena_unmap(mem->chunks, mem->nchunks * sizeof(*mem->chunks));
	handle_free(mem, HANDLE_DEVMEM);
}

static int devmem_create(struct umm_device *dev, const struct umm_devmem_options *options,
			 struct umm_devmem **out)
{
	static _Atomic uint32_t numbers;
	struct umm_devmem *mem = handle_new(HANDLE_DEVMEM);
	int ret;

	if (!mem)
		return -ENOMEM;
	mem->number = atomic_fetch_add(&numbers, 1) % RECORD_MEMORIES;
	mem->ctx = dev->ctx;
	mem->dev = dev;
	mem->type = options->type;
	mem->nframes = options->nframes;
	mem->base = (uintptr_t)options->base;
	mem->placed = options->flags & UMM_DEVMEM_PLACED;
	mem->start = options->start;
	ret = chunks_init(mem);
	if (ret)
		goto err_free;
	ret = devmem_order_init(mem);
	if (ret)
		goto err_chunks;
	lock_init(&mem->lock, RANK_DEVMEM);
	*out = mem;
	return 0;

err_chunks:
	arena_unmap(mem->chunks, mem->nchunks * sizeof(*mem->chunks));
err_free:
	handle_free(mem, HANDLE_DEVMEM);
	return ret;
}

int umm_devmem_add(struct umm_device *dev, const struct umm_devmem_options *options,
		   struct umm_devmem **out)
{
	struct umm_devmem_options mine;
	struct umm_devmem *mem;
	uintptr_t base;
	int ret;

	if (!device_valid(dev) || !options || !out)
		return -EINVAL;
	ret = struct_in(&mine, sizeof(mine), options);
	if (!ret)
		ret = options_check(&mine);
	if (ret)
		return ret;
	if (ctx_is_forked(dev->ctx))
		return -ENODEV;
	base = (uintptr_t)mine.base;
	/* Who makes frames real may make them accessible as well. */
	if (base)
		ret = ctx_check_mappings(dev->ctx, base,
					 base + ((uintptr_t)mine.nframes << UMM_PAGE_SHIFT),
					 !dev->ops.populate);
	if (!ret)
		ret = devmem_create(dev, &mine, &mem);
	if (ret)
		return ret;
	handle_publish(mem, HANDLE_DEVMEM);
	ret = devmem_insert(mem);
	if (ret) {
		devmem_destroy(mem);
		return ret;
	}
	*out = mem;
	return 0;
}

/* The first who asks wins: what another thread has made meanwhile is what counts. */
static struct umm_devmem *places_insert(struct umm_device *dev, struct umm_devmem *mem)
{
	struct umm_devmem *places;

	lock_take(&dev->ctx->lock);
	if (!dev->places) {
		dev->places = mem;
		mem->next = dev->mems;
		dev->mems = mem;
	}
	places = dev->places;
	lock_drop(&dev->ctx->lock);
	return places;
}

static int places_create(struct umm_device *dev, struct umm_devmem **out)
{
	struct umm_devmem_options options = { .type = UMM_DEVMEM_PRIVATE };
	uint32_t nslots = PLACE_SLOTS;
	uintptr_t base;
	int ret;

	ret = staging_window_open(&dev->ctx->staging, &nslots, &base);
	if (ret)
		return ret;
	options.nframes = nslots * UMM_BLOCK_PAGES;
	options.base = (void *)base;
	ret = devmem_create(dev, &options, out);
	if (ret) {
		staging_window_close(base, nslots * UMM_BLOCK_SIZE);
		return ret;
	}
	(*out)->places = true;
	handle_publish(*out, HANDLE_DEVMEM);
	return 0;
}

int devmem_places(struct umm_device *dev, struct umm_devmem **out)
{
	struct umm_devmem *mem;
	int ret;

	lock_take(&dev->ctx->lock);
	*out = dev->places;
	lock_drop(&dev->ctx->lock);
	if (*out)
		return 0;
	ret = places_create(dev, &mem);
	if (ret)
		return ret;
	*out = places_insert(dev, mem);
	if (*out != mem)
		devmem_destroy(mem);
	return 0;
}

/* Give the pool of a COHERENT memory back to its owner as plain memory. */
static void coherent_release(struct umm_devmem *mem)
{
	if (mem->type != UMM_DEVMEM_COHERENT)
		return;
	for (uint32_t c = 0; c < mem->nchunks; c++)
		if (mem->chunks[c].backed && mem->ctx->features & UMM_KERNEL_MOVE)
			uffd_unregister(mem->ctx->staging.uffd,
					devmem_host(mem, c * UMM_BLOCK_PAGES),
					(size_t)mem->chunks[c].nframes << UMM_PAGE_SHIFT);
}

void umm_devmem_remove(struct umm_devmem *mem)
{
	struct umm_devmem **link;
	struct umm_ctx *ctx;

	if (notifier_refuses("umm_devmem_remove") || !handle_close(mem, HANDLE_DEVMEM))
		return;
	ctx = mem->ctx;
	lock_take(&mem->lock);
	mem->removing = true;
	lock_drop(&mem->lock);
	hints_forget_mem(&ctx->hints, mem);
	if (!ctx_is_forked(ctx)) {
		prefetch_cancel(ctx, mem);
		evict_all(mem);
		coherent_release(mem);
	}
	lock_take(&ctx->lock);
	for (link = &mem->dev->mems; *link != mem; link = &(*link)->next)
		;
	*link = mem->next;
	if (mem->dev->places == mem)
		mem->dev->places = NULL;
	lock_drop(&ctx->lock);
	devmem_destroy(mem);
}

int devmem_use(struct umm_devmem *mem)
{
	int ret = 0;

	lock_take(&mem->lock);
	if (mem->removing)
		ret = -ENODEV;
	else
		mem->users++;
	lock_drop(&mem->lock);
	return ret;
}

void devmem_hold(struct umm_devmem *mem)
{
	/* It cannot be idle yet: the block's lock keeps a page of it in the order of eviction. */
	atomic_fetch_add(&mem->users, 1);
}

void devmem_unuse(struct umm_devmem *mem)
{
	struct umm_ctx *ctx = mem->ctx;

	lock_take(&mem->lock);
	mem->users--;
	/* Inside: whoever waits for the last user may free the memory and the context then. */
	ctx_settled(ctx);
	lock_drop(&mem->lock);
}

/* Take up to n frames of one chunk. */
static unsigned chunk_take(struct umm_devmem *mem, struct chunk *chunk, unsigned n,
			   uint32_t *frames)
{
	uint32_t base = (uint32_t)(chunk - mem->chunks) * UMM_BLOCK_PAGES;
	unsigned taken = 0, first, last;

	chunk_unlink(mem, chunk);
	while (taken < n && (first = bit_next(chunk->free, 0)) < UMM_BLOCK_PAGES) {
		last = min(bit_next_clear(chunk->free, first), first + (n - taken));
		bits_clear(chunk->free, first, last);
		for (unsigned i = first; i < last; i++)
			frames[taken++] = base + i;
	}
	chunk->nfree -= taken;
	mem->nfree -= taken;
	chunk_link(mem, chunk);
	return taken;
}

static unsigned take_locked(struct umm_devmem *mem, unsigned n, uint32_t *frames)
{
	unsigned taken = 0;
	uint32_t c;

	if (n == UMM_BLOCK_PAGES && mem->whole != CHUNK_NONE)
		return chunk_take(mem, &mem->chunks[mem->whole], n, frames);
	while (taken < n) {
		c = mem->partial != CHUNK_NONE ? mem->partial : mem->whole;
		if (c == CHUNK_NONE)
			break;
		taken += chunk_take(mem, &mem->chunks[c], n - taken, frames + taken);
	}
	return taken;
}

bool devmem_has_place(const struct umm_devmem *mem, uintptr_t addr)
{
	return !mem->placed ||
	       (addr >= mem->start && (addr - mem->start) >> UMM_PAGE_SHIFT < mem->nframes);
}

/* Make a chunk's pages real, and a place that pages can be moved back to. Under ctx->lock. */
static int chunk_populate(struct umm_devmem *mem, uint32_t c)
{
	const struct umm_device *dev = mem->dev;
	uintptr_t base = devmem_host(mem, c * UMM_BLOCK_PAGES);
	uint32_t nframes = mem->chunks[c].nframes;
	size_t len = (size_t)nframes << UMM_PAGE_SHIFT;
	int ret = 0;

	if (dev->ops.populate)
		ret = dev->ops.populate(dev->priv, mem, c * UMM_BLOCK_PAGES, nframes);
	else if (madvise((void *)base, len, MADV_POPULATE_WRITE))
		ret = -ENOMEM;
	if (!ret && mem->type == UMM_DEVMEM_COHERENT && mem->ctx->features & UMM_KERNEL_MOVE)
		ret = uffd_register_missing(mem->ctx->staging.uffd, base, len);
	return ret;
}

/* Once for each chunk; several threads may have taken frames of it. */
static int chunk_back(struct umm_devmem *mem, uint32_t c)
{
	struct chunk *chunk = &mem->chunks[c];
	int ret = 0;

	if (atomic_load(&chunk->backed))
		return 0;
	lock_take(&mem->ctx->lock);
	if (!atomic_load(&chunk->backed)) {
		ret = chunk_populate(mem, c);
		atomic_store(&chunk->backed, !ret);
	}
	lock_drop(&mem->ctx->lock);
	return ret;
}

static bool has_to_be_backed(const struct umm_devmem *mem)
{
	return !mem->places && (mem->type == UMM_DEVMEM_COHERENT || mem->dev->ops.populate);
}

/* Frames that were just taken get their memory. Where they do not, *missing is the chunk. */
static int frames_back(struct umm_devmem *mem, unsigned n, const uint32_t *frames,
		       uint32_t *missing)
{
	int ret = 0;

	if (!has_to_be_backed(mem))
		return 0;
	for (unsigned i = 0; i < n && !ret; i++) {
		*missing = frames[i] / UMM_BLOCK_PAGES;
		if (!i || *missing != frames[i - 1] / UMM_BLOCK_PAGES)
			ret = chunk_back(mem, *missing);
	}
	return ret;
}

int devmem_back_places(struct umm_devmem *mem, uintptr_t first, uintptr_t last)
{
	bool absent = false;
	int ret;

	if (!has_to_be_backed(mem))
		return 0;
	/* From here on of the memory. */
	first = max(first, mem->start) - mem->start;
	last = min(max(last, mem->start) - mem->start, pool_bytes(mem));
	for (uintptr_t at = first; at < last;
	     at = align_down(at, UMM_BLOCK_SIZE) + UMM_BLOCK_SIZE) {
		ret = chunk_back(mem, (uint32_t)(at / UMM_BLOCK_SIZE));
		if (ret && ret != -ENOSPC)
			return ret;
		absent |= ret;
	}
	return absent ? -ENOSPC : 0;
}

bool devmem_take_place(struct umm_devmem *mem, uintptr_t addr, uint32_t *frame)
{
	uint32_t at = (uint32_t)((addr - mem->start) >> UMM_PAGE_SHIFT);
	struct chunk *chunk = &mem->chunks[at / UMM_BLOCK_PAGES];
	bool is_free;

	lock_take(&mem->lock);
	is_free = bit_test(chunk->free, at % UMM_BLOCK_PAGES) &&
		  (!has_to_be_backed(mem) || atomic_load(&chunk->backed));
	if (is_free) {
		chunk_unlink(mem, chunk);
		bit_clear(chunk->free, at % UMM_BLOCK_PAGES);
		chunk->nfree--;
		mem->nfree--;
		chunk_link(mem, chunk);
	}
	lock_drop(&mem->lock);
	*frame = at;
	return is_free;
}

/* There is no memory for this chunk: do without its frames. */
static void chunk_leave_out(struct umm_devmem *mem, uint32_t c)
{
	struct chunk *chunk = &mem->chunks[c];

	lock_take(&mem->lock);
	mem->absent_since = now_ns();
	if (!chunk->absent && !atomic_load(&chunk->backed)) {
		chunk_unlink(mem, chunk);
		chunk->absent = true;
		mem->nfree -= chunk->nfree;
		mem->nabsent++;
	}
	lock_drop(&mem->lock);
}

/* After a while there may be. */
static void chunks_restore_locked(struct umm_devmem *mem)
{
	if (!mem->nabsent || now_ns() - mem->absent_since < ABSENT_NS)
		return;
	for (uint32_t c = 0; c < mem->nchunks; c++) {
		if (!mem->chunks[c].absent)
			continue;
		mem->chunks[c].absent = false;
		mem->nfree += mem->chunks[c].nfree;
		chunk_link(mem, &mem->chunks[c]);
	}
	mem->nabsent = 0;
}

/* n frames of one chunk; those that failed are not to be had again. */
static void chunk_give(struct umm_devmem *mem, uint32_t frame, uint32_t n)
{
	struct chunk *chunk = &mem->chunks[frame / UMM_BLOCK_PAGES];
	unsigned first = frame % UMM_BLOCK_PAGES, last = first + n;

	chunk_unlink(mem, chunk);
	bits_set(chunk->free, first, last);
	for (unsigned i = bit_next(chunk->bad, first); i < last; i = bit_next(chunk->bad, i + 1)) {
		bit_clear(chunk->free, i);
		n--;
	}
	chunk->nfree += n;
	chunk_link(mem, chunk);
	if (!chunk->absent)
		mem->nfree += n;
}

static void give_locked(struct umm_devmem *mem, uint32_t frame, uint32_t n)
{
	uint32_t some;

	for (; n; frame += some, n -= some) {
		some = min(n, UMM_BLOCK_PAGES - frame % UMM_BLOCK_PAGES);
		chunk_give(mem, frame, some);
	}
}

/* As devmem_take(), without another try where *missing has no memory: -ENOSPC. */
static int take_once(struct umm_devmem *mem, unsigned n, uint32_t *frames, uint32_t *missing)
{
	unsigned taken;
	int ret;

	lock_take(&mem->lock);
	chunks_restore_locked(mem);
	taken = take_locked(mem, n, frames);
	lock_drop(&mem->lock);
	ret = frames_back(mem, taken, frames, missing);
	if (!ret)
		return (int)taken;
	lock_take(&mem->lock);
	for (unsigned i = 0; i < taken; i++)
		give_locked(mem, frames[i], 1);
	lock_drop(&mem->lock);
	return ret;
}

int devmem_take(struct umm_devmem *mem, unsigned n, uint32_t *frames)
{
	uint32_t missing = 0;
	int ret = take_once(mem, n, frames, &missing);

	/* Memory that comes and goes is the host's, of which staging has some. */
	if (ret == -ENOSPC && mem->dev->ops.unpopulate && staging_drop(&mem->ctx->staging))
		ret = take_once(mem, n, frames, &missing);
	for (; ret == -ENOSPC; ret = take_once(mem, n, frames, &missing))
		chunk_leave_out(mem, missing);
	return ret;
}

void devmem_give_quietly(struct umm_devmem *mem, uint32_t frame, uint32_t n)
{
	if (mem->places)
		madvise((void *)devmem_host(mem, frame), (size_t)n << UMM_PAGE_SHIFT,
			MADV_DONTNEED);
	lock_take(&mem->lock);
	give_locked(mem, frame, n);
	lock_drop(&mem->lock);
}

void devmem_give(struct umm_devmem *mem, uint32_t frame, uint32_t n)
{
	if (mem->dev->ops.page_free && !mem->places)
		mem->dev->ops.page_free(mem->dev->priv, mem, frame, n);
	devmem_give_quietly(mem, frame, n);
}

void devmem_give_list(struct umm_devmem *mem, unsigned n, const uint32_t *frames)
{
	unsigned first, next;

	for (first = 0; first < n; first = next) {
		next = first + 1;
		while (next < n && frames[next] == frames[first] + (next - first))
			next++;
		devmem_give(mem, frames[first], next - first);
	}
}

static bool is_drivers(const struct umm_devmem *mem, uint64_t frame)
{
	return frame < mem->nframes &&
	       bit_test(mem->chunks[frame / UMM_BLOCK_PAGES].driver, frame % UMM_BLOCK_PAGES);
}

bool devmem_driver_take(struct umm_devmem *mem, uint64_t frame)
{
	bool taken;

	lock_take(&mem->lock);
	taken = is_drivers(mem, frame) &&
		!bit_test(mem->chunks[frame / UMM_BLOCK_PAGES].bad, frame % UMM_BLOCK_PAGES);
	if (taken)
		bit_clear(mem->chunks[frame / UMM_BLOCK_PAGES].driver, frame % UMM_BLOCK_PAGES);
	lock_drop(&mem->lock);
	return taken;
}

void devmem_driver_return(struct umm_devmem *mem, uint32_t frame)
{
	lock_take(&mem->lock);
	bit_set(mem->chunks[frame / UMM_BLOCK_PAGES].driver, frame % UMM_BLOCK_PAGES);
	lock_drop(&mem->lock);
}

/* All of them or none. */
static int driver_alloc(struct umm_devmem *mem, uint32_t nframes, uint32_t *frames)
{
	int ret = -ENOSPC;

	lock_take(&mem->lock);
	if (mem->nfree >= nframes) {
		take_locked(mem, nframes, frames);
		for (uint32_t i = 0; i < nframes; i++)
			bit_set(mem->chunks[frames[i] / UMM_BLOCK_PAGES].driver,
				frames[i] % UMM_BLOCK_PAGES);
		ret = 0;
	}
	lock_drop(&mem->lock);
	return ret;
}

/* Returns how many are not the driver's: left alone. */
static uint32_t driver_free(struct umm_devmem *mem, uint32_t nframes, const uint32_t *frames)
{
	uint32_t ignored = 0;

	lock_take(&mem->lock);
	for (uint32_t i = 0; i < nframes; i++) {
		if (!is_drivers(mem, frames[i])) {
			ignored++;
			continue;
		}
		bit_clear(mem->chunks[frames[i] / UMM_BLOCK_PAGES].driver,
			  frames[i] % UMM_BLOCK_PAGES);
		give_locked(mem, frames[i], 1);
	}
	lock_drop(&mem->lock);
	return ignored;
}

int umm_devmem_alloc(struct umm_devmem *mem, uint32_t nframes, uint32_t *frames)
{
	uint32_t missing = 0, *mine;
	int ret;

	if (!devmem_valid(mem) || mem->placed || !nframes || !frames)
		return -EINVAL;
	if (ctx_is_forked(mem->ctx))
		return -ENODEV;
	ret = devmem_use(mem);
	if (ret)
		return ret;
	/* The caller's array may be managed memory: it is not touched while anything is locked. */
	mine = arena_map(nframes * sizeof(*mine));
	ret = mine ? driver_alloc(mem, nframes, mine) : -ENOMEM;
	if (!ret) {
		ret = frames_back(mem, nframes, mine, &missing);
		if (ret)
			driver_free(mem, nframes, mine);
		else
			memcpy(frames, mine, nframes * sizeof(*mine));
		if (ret == -ENOSPC)
			chunk_leave_out(mem, missing);
	}
	arena_unmap(mine, nframes * sizeof(*mine));
	devmem_unuse(mem);
	return ret;
}

void umm_devmem_free(struct umm_devmem *mem, uint32_t nframes, const uint32_t *frames)
{
	uint32_t some[FREE_BATCH], n, ignored = 0;

	if (!devmem_valid(mem) || !frames)
		return;
	for (uint32_t done = 0; done < nframes; done += n) {
		n = min(nframes - done, (uint32_t)FREE_BATCH);
		memcpy(some, frames + done, n * sizeof(*some));
		ignored += driver_free(mem, n, some);
	}
	if (ignored)
		log_warning("umm_devmem_free: %u of %u frames are not the driver's: left alone",
			    ignored, nframes);
}

bool devmem_fail(struct umm_devmem *mem, uint32_t frame)
{
	struct chunk *chunk = &mem->chunks[frame / UMM_BLOCK_PAGES];
	unsigned i = frame % UMM_BLOCK_PAGES;
	bool first;

	lock_take(&mem->lock);
	first = !bit_test(chunk->bad, i);
	bit_set(chunk->bad, i);
	if (first && bit_test(chunk->free, i)) {
		chunk_unlink(mem, chunk);
		bit_clear(chunk->free, i);
		chunk->nfree--;
		chunk_link(mem, chunk);
		if (!chunk->absent)
			mem->nfree--;
	}
	/* Before the caller looks for the page in it: see adopt() in commit.c. */
	if (first)
		atomic_fetch_add(&mem->nbad, 1);
	lock_drop(&mem->lock);
	return first;
}

bool devmem_failed(struct umm_devmem *mem, uint32_t frame)
{
	bool bad;

	if (!atomic_load(&mem->nbad))
		return false;
	lock_take(&mem->lock);
	bad = bit_test(mem->chunks[frame / UMM_BLOCK_PAGES].bad, frame % UMM_BLOCK_PAGES);
	lock_drop(&mem->lock);
	return bad;
}

struct umm_device *umm_devmem_device(struct umm_devmem *mem)
{
	return devmem_valid(mem) ? mem->dev : NULL;
}

void umm_devmem_priv_set(struct umm_devmem *mem, void *priv)
{
	if (devmem_valid(mem))
		mem->priv = priv;
}

void *umm_devmem_priv(struct umm_devmem *mem)
{
	return devmem_valid(mem) ? mem->priv : NULL;
}

uint32_t umm_devmem_nframes(struct umm_devmem *mem)
{
	return devmem_valid(mem) ? mem->nframes : 0;
}

uint32_t umm_devmem_nfree(struct umm_devmem *mem)
{
	uint32_t nfree = 0;

	if (devmem_valid(mem)) {
		lock_take(&mem->lock);
		nfree = mem->nfree;
		lock_drop(&mem->lock);
	}
	return nfree;
}
