/* SPDX-License-Identifier: MIT */
/*
 * Blocks. A block is made when a page of its 2 MiB first concerns a device;
 * before that its pages are NATIVE and the library knows nothing of them.
 *
 * The directory has two levels and is read without a lock. A block's memory is
 * never used for anything but blocks (pool.c), so whoever found a block locks it
 * and then looks whether it still is the one: `va` says so.
 *
 * Invariants: a page that is neither UNMANAGED nor NATIVE is registered with the
 * userfaultfd. nmanaged counts pages that are not UNMANAGED, nmigrating those
 * that are MIGRATING; a block with nmanaged == 0 has no residents and is free.
 * A page of state DEVICE or COHERENT is in exactly one resident, DUPLICATED in
 * one or more, EMPTY, SYSTEM and NATIVE in none.
 * Locks: regions.lock to make a block (its first states come from the region
 * tree), block.lock for everything in it, mem->lock for LRU links.
 */
#include "block.h"

#include <errno.h>
#include <string.h>

#include "ctx.h"
#include "devmem.h"
#include "log.h"
#include "maps.h"
#include "pagemap.h"
#include "uffd.h"
#include "util.h"

/* Longer than any thread takes from its wake-up to the end of its madvise(). */
#define DROPPING_NS UINT64_C(1000000000)

static void block_construct(void *obj)
{
	struct block *block = obj;

	lock_init(&block->lock, RANK_BLOCK);
	block->va = 0;
}

int blocks_init(struct blocks *blocks)
{
	blocks->dir = arena_map(DIR_SLOTS * sizeof(*blocks->dir));
	if (!blocks->dir)
		return -ENOMEM;
	pool_init(&blocks->pool, sizeof(struct block), block_construct);
	pool_init(&blocks->resident_pool, sizeof(struct resident), NULL);
	pool_init(&blocks->frames_pool, UMM_BLOCK_PAGES * sizeof(uint32_t), NULL);
	atomic_store(&blocks->leaf_bytes, 0);
	return 0;
}

void blocks_fini(struct blocks *blocks)
{
	for (size_t i = 0; i < DIR_SLOTS; i++)
		arena_unmap(atomic_load(&blocks->dir[i]), sizeof(struct block_leaf));
	arena_unmap(blocks->dir, DIR_SLOTS * sizeof(*blocks->dir));
	pool_fini(&blocks->frames_pool);
	pool_fini(&blocks->resident_pool);
	pool_fini(&blocks->pool);
}

size_t blocks_bytes(const struct blocks *blocks)
{
	return atomic_load(&blocks->pool.mapped) + atomic_load(&blocks->resident_pool.mapped) +
	       atomic_load(&blocks->frames_pool.mapped) + atomic_load(&blocks->leaf_bytes);
}

static _Atomic(struct block *) *block_slot(struct umm_ctx *ctx, uintptr_t addr)
{
	uintptr_t number = addr >> UMM_BLOCK_SHIFT;
	struct block_leaf *leaf;

	if (number >= (uintptr_t)DIR_SLOTS * DIR_SLOTS)
		return NULL;
	leaf = atomic_load(&ctx->blocks.dir[number / DIR_SLOTS]);
	return leaf ? &leaf->block[number % DIR_SLOTS] : NULL;
}

struct block *block_find(struct umm_ctx *ctx, uintptr_t addr)
{
	_Atomic(struct block *) *slot = block_slot(ctx, addr);
	struct block *block;

	while (slot && (block = atomic_load(slot))) {
		lock_take(&block->lock);
		if (block->va == (addr & ~BLOCK_MASK))
			return block;
		lock_drop(&block->lock);
	}
	return NULL;
}

static _Atomic(struct block *) *block_slot_make(struct umm_ctx *ctx, uintptr_t addr)
{
	uintptr_t number = addr >> UMM_BLOCK_SHIFT;
	struct block_leaf *leaf;

	if (number >= (uintptr_t)DIR_SLOTS * DIR_SLOTS)
		return NULL;
	if (!atomic_load(&ctx->blocks.dir[number / DIR_SLOTS])) {
		leaf = arena_map(sizeof(*leaf));
		if (!leaf)
			return NULL;
		atomic_fetch_add(&ctx->blocks.leaf_bytes, UMM_PAGE_SIZE);
		atomic_store(&ctx->blocks.dir[number / DIR_SLOTS], leaf);
	}
	return block_slot(ctx, addr);
}

static void block_set_native(struct block *block, uintptr_t start, uintptr_t end)
{
	unsigned first, last;

	if (!block_clip(block, start, end, &first, &last))
		return;
	for (unsigned i = first; i < last; i++)
		if (page_state(block, i) == PG_UNMANAGED)
			page_set(block, i, PG_NATIVE);
}

/* The caller holds regions.lock: nothing appears or goes away while we look. */
static struct block *block_make(struct umm_ctx *ctx, uintptr_t va, int *ret)
{
	struct regions *regions = &ctx->regions;
	struct itree_node *node = itree_first(&regions->tree, va, va + UMM_BLOCK_SIZE);
	_Atomic(struct block *) *slot;
	struct block *block;

	*ret = -EFAULT;
	if (!node)
		return NULL;
	*ret = -ENOMEM;
	slot = block_slot_make(ctx, va);
	block = slot ? pool_alloc(&ctx->blocks.pool) : NULL;
	if (!block)
		return NULL;
	lock_take(&block->lock);
	block->va = va;
	block->nmanaged = 0;
	block->nmigrating = 0;
	block->waiters = false;
	block->residents = NULL;
	memset(block->page, PG_UNMANAGED, sizeof(block->page));
	memset(block->history, 0, sizeof(block->history));
	for (; node; node = itree_next(node, va, va + UMM_BLOCK_SIZE))
		block_set_native(block, node->start, node->end);
	atomic_store(slot, block);
	*ret = 0;
	return block;
}

struct block *block_get(struct umm_ctx *ctx, uintptr_t addr, int *ret)
{
	struct block *block = block_find(ctx, addr);

	*ret = 0;
	if (block)
		return block;
	lock_take(&ctx->regions.lock);
	block = block_find(ctx, addr);
	if (!block)
		block = block_make(ctx, addr & ~BLOCK_MASK, ret);
	lock_drop(&ctx->regions.lock);
	return block;
}

void block_put(struct umm_ctx *ctx, struct block *block)
{
	bool unused = block->nmanaged == 0;

	if (unused) {
		atomic_store(block_slot(ctx, block->va), NULL);
		block->va = 0;
	}
	lock_drop(&block->lock);
	if (unused)
		pool_free(&ctx->blocks.pool, block);
}

struct block *block_next(struct umm_ctx *ctx, uintptr_t start, uintptr_t end)
{
	uintptr_t number = start >> UMM_BLOCK_SHIFT;
	uintptr_t stop =
		min((end + BLOCK_MASK) >> UMM_BLOCK_SHIFT, (uintptr_t)DIR_SLOTS * DIR_SLOTS);
	struct block_leaf *leaf;
	struct block *block;

	while (number < stop) {
		leaf = atomic_load(&ctx->blocks.dir[number / DIR_SLOTS]);
		if (!leaf) {
			number = (number / DIR_SLOTS + 1) * DIR_SLOTS;
			continue;
		}
		if (atomic_load(&leaf->block[number % DIR_SLOTS])) {
			block = block_find(ctx, number << UMM_BLOCK_SHIFT);
			if (block)
				return block;
		}
		number++;
	}
	return NULL;
}

void blocks_set_native(struct umm_ctx *ctx, uintptr_t start, uintptr_t end)
{
	struct block *block;
	uintptr_t at = start;

	while (at < end && (block = block_next(ctx, at, end))) {
		at = block->va + UMM_BLOCK_SIZE;
		block_set_native(block, start, end);
		lock_drop(&block->lock);
	}
}

uint64_t blocks_device_pages(struct umm_ctx *ctx, uintptr_t start, uintptr_t end)
{
	struct block *block;
	uintptr_t at = start;
	unsigned first, last;
	uint64_t n = 0;

	while (at < end && (block = block_next(ctx, at, end))) {
		at = block->va + UMM_BLOCK_SIZE;
		if (block_clip(block, start, end, &first, &last))
			for (unsigned i = first; i < last; i++)
				n += page_state(block, i) == PG_DEVICE ||
				     page_state(block, i) == PG_COHERENT;
		lock_drop(&block->lock);
	}
	return n;
}

bool block_clip(const struct block *block, uintptr_t start, uintptr_t end, unsigned *first,
		unsigned *last)
{
	uintptr_t low = max(start, block->va);
	uintptr_t high = min(end, block->va + UMM_BLOCK_SIZE);

	if (low >= high)
		return false;
	*first = (low - block->va) >> UMM_PAGE_SHIFT;
	*last = (high - block->va + UMM_PAGE_SIZE - 1) >> UMM_PAGE_SHIFT;
	return true;
}

enum page_state page_settles(const struct block *block, unsigned i)
{
	enum page_state state = page_state(block, i);
	uint16_t flags = block->page[i];

	if (flags & PG_NEXT_ARRIVING)
		return PG_ARRIVING;
	if (flags & PG_NEXT_SYSTEM)
		return PG_SYSTEM;
	if (flags & PG_GONE)
		return PG_UNMANAGED;
	if (state != PG_REAPING)
		return state;
	return flags & PG_MAPPED ? PG_SYSTEM : PG_EMPTY;
}

void page_set(struct block *block, unsigned i, enum page_state state)
{
	enum page_state old = page_state(block, i);

	block->nmanaged += (state != PG_UNMANAGED) - (old != PG_UNMANAGED);
	block->nmigrating += (state == PG_MIGRATING) - (old == PG_MIGRATING);
	block->page[i] = (uint16_t)state;
}

void page_settle(struct block *block, unsigned i, enum page_state state)
{
	bool away = page_is_away(block, i);

	page_set(block, i, state);
	if (away && state != PG_UNMANAGED)
		block->page[i] |= PG_GONE;
}

void page_drop(struct block *block, unsigned i)
{
	page_settle(block, i, PG_SYSTEM);
	block->page[i] |= PG_DROPPING;
	block->dropped_ns = now_ns();
}

bool page_drop_is_over(struct umm_ctx *ctx, struct block *block, unsigned i)
{
	uint64_t populated = 1;

	if (now_ns() - block->dropped_ns > DROPPING_NS)
		block->page[i] &= (uint16_t)~PG_DROPPING;
	else if (!pagemap_populated(page_addr(block, i), 1, ctx->features & UMM_KERNEL_PAGEMAP_SCAN,
				    &populated) &&
		 !populated)
		page_set(block, i, PG_EMPTY);
	return !(block->page[i] & PG_DROPPING);
}

/* One run of NATIVE pages inside one mapping that can be managed. */
static int register_run(struct umm_ctx *ctx, struct block *block, unsigned first, unsigned last)
{
	uint64_t populated[BITMAP_WORDS];
	uintptr_t start = page_addr(block, first);
	size_t len = (size_t)(last - first) << UMM_PAGE_SHIFT;
	int ret;

	/* Register first: afterwards nothing is populated without us. */
	ret = uffd_register(ctx->uffd, start, len);
	if (ret)
		return ret;
	ret = pagemap_populated(start, last - first, ctx->features & UMM_KERNEL_PAGEMAP_SCAN,
				populated);
	if (ret) {
		uffd_unregister(ctx->uffd, start, len);
		return ret;
	}
	for (unsigned i = first; i < last; i++)
		page_set(block, i, bit_test(populated, i - first) ? PG_SYSTEM : PG_EMPTY);
	return 0;
}

/* NATIVE pages first .. last, mapping by mapping; what cannot be managed becomes UNMANAGED. */
static int register_native(struct umm_ctx *ctx, struct block *block, unsigned first, unsigned last)
{
	struct maps_vma vma;
	unsigned from, to;
	int ret;

	while (first < last) {
		ret = maps_find(page_addr(block, first), ctx->features & UMM_KERNEL_PROCMAP_QUERY,
				&vma);
		if (ret && ret != -ENOENT)
			return ret;
		if (ret || !block_clip(block, vma.start, vma.end, &from, &to) || from >= last)
			from = to = last;
		from = max(from, first);
		to = min(to, last);
		for (; first < from; first++)
			page_set(block, first, PG_UNMANAGED);
		if (from < to && (!vma.anon || vma.shared)) {
			for (; first < to; first++)
				page_set(block, first, PG_UNMANAGED);
			continue;
		}
		if (from < to) {
			ret = register_run(ctx, block, from, to);
			if (ret)
				return ret;
		}
		first = to;
	}
	return 0;
}

int block_register(struct umm_ctx *ctx, struct block *block)
{
	unsigned first, last;
	int ret;

	for (first = 0; first < UMM_BLOCK_PAGES; first = last) {
		last = first + 1;
		if (page_state(block, first) != PG_NATIVE)
			continue;
		while (last < UMM_BLOCK_PAGES && page_state(block, last) == PG_NATIVE)
			last++;
		ret = register_native(ctx, block, first, last);
		if (ret) {
			log_warning("cannot manage %#lx: %s",
				    (unsigned long)page_addr(block, first), umm_strerror(ret));
			return ret;
		}
	}
	return 0;
}

struct resident *resident_find(struct block *block, const struct umm_devmem *mem)
{
	struct resident *resident = block->residents;

	while (resident && resident->mem != mem)
		resident = resident->next;
	return resident;
}

struct resident *resident_of(struct block *block, unsigned i)
{
	struct resident *resident = block->residents;

	while (resident && !bit_test(resident->bitmap, i))
		resident = resident->next;
	return resident;
}

uint32_t resident_frame(const struct resident *resident, unsigned i)
{
	return resident->frames ? resident->frames[i] : resident->base + i;
}

static struct resident *resident_make(struct umm_ctx *ctx, struct block *block,
				      struct umm_devmem *mem)
{
	struct resident *resident = pool_alloc(&ctx->blocks.resident_pool);

	if (!resident)
		return NULL;
	*resident = (struct resident){
		.next = block->residents,
		.mem = mem,
		.ctx = ctx,
		.va = block->va,
	};
	block->residents = resident;
	devmem_lru_add(mem, resident);
	return resident;
}

/* Frames stop being consecutive: give every page a word of its own. */
static int resident_explode(struct umm_ctx *ctx, struct resident *resident)
{
	uint32_t *frames = pool_alloc(&ctx->blocks.frames_pool);

	if (!frames)
		return -ENOMEM;
	for (unsigned i = 0; i < UMM_BLOCK_PAGES; i++)
		frames[i] = resident->base + i;
	resident->frames = frames;
	return 0;
}

static void resident_drop(struct umm_ctx *ctx, struct block *block, struct resident *resident)
{
	struct resident **link = &block->residents;

	while (*link != resident)
		link = &(*link)->next;
	*link = resident->next;
	devmem_lru_del(resident->mem, resident);
	if (resident->frames)
		pool_free(&ctx->blocks.frames_pool, resident->frames);
	pool_free(&ctx->blocks.resident_pool, resident);
}

int resident_set(struct umm_ctx *ctx, struct block *block, struct umm_devmem *mem, unsigned i,
		 uint32_t frame)
{
	struct resident *resident = resident_find(block, mem);

	if (!resident) {
		resident = resident_make(ctx, block, mem);
		if (!resident)
			return -ENOMEM;
	}
	if (resident->npages == 0 && !resident->frames)
		resident->base = frame - i;
	if (!resident->frames && resident->base + i != frame && resident_explode(ctx, resident)) {
		if (resident->npages == 0)
			resident_drop(ctx, block, resident);
		return -ENOMEM;
	}
	if (resident->frames)
		resident->frames[i] = frame;
	bit_set(resident->bitmap, i);
	resident->npages++;
	return 0;
}

void resident_clear(struct umm_ctx *ctx, struct block *block, struct resident *resident, unsigned i)
{
	bit_clear(resident->bitmap, i);
	if (--resident->npages == 0)
		resident_drop(ctx, block, resident);
}

/* Take the frames of one memory that hold any of these pages; returns how many. */
static unsigned extract_frames(struct umm_ctx *ctx, struct block *block, const uint64_t *pages,
			       struct umm_devmem **mem, uint32_t *frames)
{
	struct resident *resident, *next;
	unsigned n = 0;

	for (resident = block->residents; resident && !n; resident = next) {
		next = resident->next;
		*mem = resident->mem;
		for (unsigned i = bit_next(pages, 0); i < UMM_BLOCK_PAGES;
		     i = bit_next(pages, i + 1)) {
			bool last = resident->npages == 1;

			if (!bit_test(resident->bitmap, i))
				continue;
			frames[n++] = resident_frame(resident, i);
			resident_clear(ctx, block, resident, i);
			if (last)
				break;
		}
	}
	return n;
}

void blocks_drop_copies(struct umm_ctx *ctx, uintptr_t va, const uint64_t *pages)
{
	uint32_t frames[UMM_BLOCK_PAGES];
	struct umm_devmem *mem;
	struct block *block;
	unsigned n;

	while ((block = block_find(ctx, va))) {
		n = extract_frames(ctx, block, pages, &mem, frames);
		if (n)
			devmem_hold(mem);
		lock_drop(&block->lock);
		if (!n)
			return;
		devmem_give_list(mem, n, frames);
		devmem_unuse(mem);
	}
}

unsigned bit_next(const uint64_t *map, unsigned from)
{
	uint64_t word;

	for (unsigned w = from / 64; w < BITMAP_WORDS; w++) {
		word = map[w];
		if (w == from / 64)
			word &= ~UINT64_C(0) << (from % 64);
		if (word)
			return w * 64 + (unsigned)__builtin_ctzll(word);
	}
	return UMM_BLOCK_PAGES;
}

unsigned bit_next_clear(const uint64_t *map, unsigned from)
{
	uint64_t word;

	for (unsigned w = from / 64; w < BITMAP_WORDS; w++) {
		word = ~map[w];
		if (w == from / 64)
			word &= ~UINT64_C(0) << (from % 64);
		if (word)
			return w * 64 + (unsigned)__builtin_ctzll(word);
	}
	return UMM_BLOCK_PAGES;
}

unsigned bit_count(const uint64_t *map)
{
	unsigned n = 0;

	for (unsigned w = 0; w < BITMAP_WORDS; w++)
		n += (unsigned)__builtin_popcountll(map[w]);
	return n;
}
