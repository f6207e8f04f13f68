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
 * userfaultfd. nmanaged counts pages that are not UNMANAGED; a block with nmanaged == 0
 * has no residents, and is free when no piece refers to it.
 * A page of state DEVICE, COHERENT or EXCLUSIVE is in exactly one resident, DUPLICATED in
 * one or more, EMPTY, SYSTEM and NATIVE in none.
 * Locks: regions.lock to make a block (its first states come from the region
 * tree), block.lock for everything in it, mem->lock for the order of eviction.
 */
#include "block.h"

#include <errno.h>
#include <string.h>

#include "ctx.h"
#include "hook.h"
#include "log.h"
#include "maps.h"
#include "mark.h"
#include "pagemap.h"
#include "pin.h"
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
	pool_init(&blocks->leaf_pool, sizeof(struct block_leaf), NULL);
	pool_init(&blocks->pool, sizeof(struct block), block_construct);
	pool_init(&blocks->resident_pool, sizeof(struct resident), NULL);
	pool_init(&blocks->frames_pool, UMM_BLOCK_PAGES * sizeof(uint32_t), NULL);
	pool_init(&blocks->few_pool, FEW_FRAMES * sizeof(uint32_t), NULL);
	pool_init(&blocks->pins_pool, sizeof(struct block_pins), NULL);
	/* Mappings move, and parts of them go: books are needed, and the kernel does not ask. */
	pool_keep(&blocks->leaf_pool);
	pool_keep(&blocks->pool);
	pool_keep(&blocks->resident_pool);
	pool_keep(&blocks->frames_pool);
	pool_keep(&blocks->few_pool);
	atomic_store(&blocks->leaf_bytes, 0);
	return 0;
}

void blocks_fini(struct blocks *blocks)
{
	arena_unmap(blocks->dir, DIR_SLOTS * sizeof(*blocks->dir));
	pool_fini(&blocks->pins_pool);
	pool_fini(&blocks->few_pool);
	pool_fini(&blocks->frames_pool);
	pool_fini(&blocks->resident_pool);
	pool_fini(&blocks->pool);
	pool_fini(&blocks->leaf_pool);
}

size_t blocks_bytes(const struct blocks *blocks)
{
	return atomic_load(&blocks->pool.mapped) + atomic_load(&blocks->resident_pool.mapped) +
	       atomic_load(&blocks->frames_pool.mapped) + atomic_load(&blocks->few_pool.mapped) +
	       atomic_load(&blocks->pins_pool.mapped) + atomic_load(&blocks->leaf_bytes);
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
		leaf = pool_alloc(&ctx->blocks.leaf_pool);
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

/* What a later event needs in any case is there, or there is no memory for this block, either. */
static bool events_reserve(struct umm_ctx *ctx)
{
	return pool_reserve(&ctx->blocks.leaf_pool) && pool_reserve(&ctx->blocks.pool) &&
	       pool_reserve(&ctx->blocks.resident_pool) && pool_reserve(&ctx->blocks.frames_pool) &&
	       pool_reserve(&ctx->blocks.few_pool) && pool_reserve(&ctx->regions.region_pool) &&
	       pool_reserve(&ctx->regions.alloc_pool) && pool_reserve(&ctx->changes.pool) &&
	       pool_reserve(&ctx->notifiers.active_pool) &&
	       pool_reserve(&ctx->notifiers.late_pool) && pool_reserve(&ctx->workers.pool);
}

/* The caller holds regions.lock: nothing appears or goes away while we look. */
static struct block *block_make(struct umm_ctx *ctx, uintptr_t va, int *ret)
{
	struct regions *regions = &ctx->regions;
	struct itree_node *node = itree_first(&regions->tree, va, va + UMM_BLOCK_SIZE);
	const uint64_t *small = lots_pages(&regions->lots, va);
	_Atomic(struct block *) *slot;
	struct block *block;

	*ret = -EFAULT;
	if (!node && !small)
		return NULL;
	*ret = -ENOMEM;
	slot = block_slot_make(ctx, va);
	block = slot ? pool_alloc(&ctx->blocks.pool) : NULL;
	if (!block)
		return NULL;
	lock_take(&block->lock);
	block->va = va;
	block->nmanaged = 0;
	block->npieces = 0;
	block->held = 0;
	block->waiters = false;
	block->residents = NULL;
	block->pins = NULL;
	memset(block->page, PG_UNMANAGED, sizeof(block->page));
	memset(block->history, 0, sizeof(block->history));
	for (; node; node = itree_next(node, va, va + UMM_BLOCK_SIZE))
		block_set_native(block, node->start, node->end);
	for (unsigned i = 0; small && i < UMM_BLOCK_PAGES; i++)
		if (bit_test(small, i))
			page_set(block, i, PG_NATIVE);
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
	if (!block && !pool_is_urgent() && !events_reserve(ctx))
		*ret = -ENOMEM;
	else if (!block)
		block = block_make(ctx, addr & ~BLOCK_MASK, ret);
	lock_drop(&ctx->regions.lock);
	return block;
}

void block_put(struct umm_ctx *ctx, struct block *block)
{
	bool unused = block->nmanaged == 0 && block->npieces == 0;

	if (unused) {
		UMM_ASSERT(!block->residents);
		block_forget_pins(ctx, block);
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

void page_set(struct block *block, unsigned i, enum page_state state)
{
	enum page_state old = page_state(block, i);

	block->nmanaged += (state != PG_UNMANAGED) - (old != PG_UNMANAGED);
	block->page[i] = (uint16_t)state;
	if (state == PG_UNMANAGED) {
		page_forget_pins(block, i);
		block->history[i] = 0;
		bit_clear(block->readable, i);
		bit_clear(block->writable, i);
	}
}

void pages_set(struct block *block, unsigned first, unsigned last, uint16_t word)
{
	for (unsigned i = first; i < last; i++) {
		UMM_ASSERT(page_state(block, i) != PG_UNMANAGED);
		block->page[i] = word;
	}
}

bool pages_any(const struct block *block, unsigned first, unsigned last, uint16_t flags)
{
	uint16_t all = 0;

	for (unsigned i = first; i < last; i++)
		all |= block->page[i];
	return all & flags;
}

void page_drop(struct block *block, unsigned i)
{
	page_set(block, i, PG_SYSTEM);
	block->page[i] |= PG_DROPPING;
	block->dropped_ns = now_ns();
}

bool page_drop_is_over(struct umm_ctx *ctx, struct block *block, unsigned i)
{
	uint64_t populated = 1;

	/* What is not there may have moved away: its message will find it where it was. */
	if (!pagemap_populated(page_addr(block, i), 1, ctx->features & UMM_KERNEL_PAGEMAP_SCAN,
			       &populated) &&
	    !populated) {
		if (!uffd_is_changing(ctx->uffd))
			page_set(block, i, PG_EMPTY);
	} else if (now_ns() - block->dropped_ns > DROPPING_NS) {
		block->page[i] &= (uint16_t)~PG_DROPPING;
	}
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
	ret = mark_register(ctx, start, len);
	if (ret)
		return ret;
	hook_run(HOOK_REGISTERED, start);
	ret = pagemap_populated(start, last - first, ctx->features & UMM_KERNEL_PAGEMAP_SCAN,
				populated);
	if (ret) {
		uffd_unregister(ctx->uffd, start, len);
		return ret;
	}
	/* What is not there may have moved away: its message will find it where it was. */
	if (uffd_is_changing(ctx->uffd))
		memset(populated, 0xff, sizeof(populated));
	for (unsigned i = first; i < last; i++)
		page_set(block, i, bit_test(populated, i - first) ? PG_SYSTEM : PG_EMPTY);
	return 0;
}

/* Memory that does not migrate. That it is unmapped or moved is told by the watch, if by anyone. */
static void mirror_run(struct umm_ctx *ctx, struct block *block, unsigned first, unsigned last)
{
	if (ctx->watch >= 0)
		uffd_watch(ctx->watch, page_addr(block, first),
			   (size_t)(last - first) << UMM_PAGE_SHIFT);
	for (unsigned i = first; i < last; i++)
		page_set(block, i, PG_MIRRORED);
}

/*
 * Nothing is there that can be managed, and nobody told that it went. Nor will anybody tell of what
 * comes there: that is managed as it would be if no device had looked meanwhile.
 */
static void renew_run(struct block *block, unsigned first, unsigned last)
{
	for (unsigned i = first; i < last; i++) {
		page_set(block, i, PG_UNMANAGED);
		page_set(block, i, PG_NATIVE);
	}
}

/* Pages first .. last of one mapping, which are all of the state given. */
static int register_mapping(struct umm_ctx *ctx, struct block *block, unsigned first, unsigned last,
			    const struct maps_vma *vma)
{
	bool mirrored = !vma->anon || vma->shared;
	int ret = 0;

	if (vma->special) {
		renew_run(block, first, last);
		return 0;
	}
	if (!mirrored)
		ret = register_run(ctx, block, first, last);
	/* Of another userfaultfd: that one's owner fills it. */
	if (ret == -EBUSY)
		mirrored = true;
	if (mirrored && page_state(block, first) != PG_MIRRORED)
		mirror_run(ctx, block, first, last);
	return ret == -EBUSY ? 0 : ret;
}

/* Pages first .. last, all NATIVE or all MIRRORED, mapping by mapping; holes become NATIVE. */
static int register_alike(struct umm_ctx *ctx, struct block *block, unsigned first, unsigned last)
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
		renew_run(block, first, from);
		ret = from < to ? register_mapping(ctx, block, from, to, &vma) : 0;
		if (ret)
			return ret;
		first = to;
	}
	return 0;
}

unsigned pages_alike(const struct block *block, unsigned first, unsigned last)
{
	const uint16_t *page = &block->page[first];
	unsigned i = first + 1;

	if (!memcmp(page, page + 1, (last - first - 1) * sizeof(*page)))
		return last;
	while (block->page[i] == *page)
		i++;
	return i;
}

int block_register(struct umm_ctx *ctx, struct block *block)
{
	unsigned first, last;
	int ret;

	for (first = 0; first < UMM_BLOCK_PAGES; first = last) {
		enum page_state state = page_state(block, first);

		last = pages_alike(block, first, UMM_BLOCK_PAGES);
		if (state != PG_NATIVE && state != PG_MIRRORED)
			continue;
		while (last < UMM_BLOCK_PAGES && page_state(block, last) == state)
			last++;
		ret = register_alike(ctx, block, first, last);
		if (ret) {
			log_warning("cannot manage %#lx: %s",
				    (unsigned long)page_addr(block, first), umm_strerror(ret));
			return ret;
		}
	}
	return 0;
}

/* The bits of word w that are in first .. last - 1, which begins and ends not before w. */
static uint64_t word_mask(unsigned w, unsigned first, unsigned last)
{
	uint64_t bits = UINT64_MAX;

	if (first > w * 64)
		bits <<= first % 64;
	if (last < (w + 1) * 64)
		bits &= ~(UINT64_MAX << last % 64);
	return bits;
}

void bits_set(uint64_t *map, unsigned first, unsigned last)
{
	for (unsigned w = first / 64; w * 64 < last; w++)
		map[w] |= word_mask(w, first, last);
}

void bits_clear(uint64_t *map, unsigned first, unsigned last)
{
	for (unsigned w = first / 64; w * 64 < last; w++)
		map[w] &= ~word_mask(w, first, last);
}

unsigned bit_search(const uint64_t *map, unsigned from)
{
	unsigned w = from / 64;
	uint64_t word;

	if (from >= UMM_BLOCK_PAGES)
		return UMM_BLOCK_PAGES;
	word = map[w] & ~UINT64_C(0) << (from % 64);
	while (!word) {
		if (++w == BITMAP_WORDS)
			return UMM_BLOCK_PAGES;
		word = map[w];
	}
	return w * 64 + (unsigned)__builtin_ctzll(word);
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

/* How many bits are set: without an instruction for it, which not every processor has. */
static unsigned word_count(uint64_t word)
{
	word -= word >> 1 & UINT64_C(0x5555555555555555);
	word = (word & UINT64_C(0x3333333333333333)) + (word >> 2 & UINT64_C(0x3333333333333333));
	word = (word + (word >> 4)) & UINT64_C(0x0f0f0f0f0f0f0f0f);
	return (unsigned)(word * UINT64_C(0x0101010101010101) >> 56);
}

unsigned bits_below(const uint64_t *map, unsigned i)
{
	unsigned n = 0;

	for (unsigned w = 0; w < i / 64; w++)
		n += word_count(map[w]);
	return n + word_count(map[i / 64] & ~(UINT64_MAX << i % 64));
}

unsigned bit_count(const uint64_t *map)
{
	unsigned n = 0;

	/* Most words of most bitmaps are empty. */
	for (unsigned w = 0; w < BITMAP_WORDS; w++)
		if (map[w])
			n += word_count(map[w]);
	return n;
}
