/* SPDX-License-Identifier: MIT */
/*
 * mremap(). The states of pages go to the new address at once; frames, and pages that are in
 * flight at the old one, are carried there by a worker. Until then the page is
 *
 *	old address		in flight: + AWAY	on a device: + GONE
 *	new address		ARRIVING: a CPU that touches it waits
 *
 * AWAY tells the piece that has the page that the mapping is elsewhere: its commit settles the
 * books at the old address, as ever, but what it installs goes to the new one
 * (remap_target()). With MREMAP_DONTUNMAP the old mapping stays: what the program does to it from
 * here on is no concern of the page, and a touch of it is filled with zeroes.
 *
 * Locks: moves are added and removed with the gate held exclusively, read with it held; then
 * regions.lock or a block's.
 */
#include "remap.h"

#include "ctx.h"
#include "device.h"
#include "event.h"
#include "log.h"
#include "uffd.h"
#include "util.h"

/* How long the worker waits for a page in flight before it looks again. */
#define SETTLE_NS UINT64_C(100000000)

/* The page's state at its new address, as far as it is known at once. */
static enum page_state remapped_state(enum page_state state)
{
	switch (state) {
	case PG_UNMANAGED:
	case PG_NATIVE:
	case PG_MIRRORED:
	case PG_EMPTY:
	case PG_SYSTEM:
	case PG_POISONED:
		return state;
	default:
		return PG_ARRIVING;
	}
}

/* Take the state from the old address. NATIVE where no block knows it. */
static enum page_state remap_from(struct umm_ctx *ctx, uintptr_t addr)
{
	struct block *block = block_find(ctx, addr);
	enum page_state state = PG_NATIVE;
	unsigned i = page_index(addr);

	if (!block)
		return state;
	state = page_state(block, i);
	if (page_is_away(block, i))
		/* An earlier move took it; what moves now the program has put here since. */
		state = PG_SYSTEM;
	else if (state == PG_MIGRATING || state == PG_ARRIVING)
		block->page[i] |= PG_AWAY;
	else if (remapped_state(state) == PG_ARRIVING)
		block->page[i] |= PG_GONE;
	else
		page_set(block, i, PG_UNMANAGED);
	block_put(ctx, block);
	return state;
}

static void remap_to(struct umm_ctx *ctx, uintptr_t addr, enum page_state state)
{
	unsigned i = page_index(addr);
	struct block *block;
	int ret;

	block = block_get(ctx, addr, &ret);
	if (!block)
		return;
	if (page_state(block, i) != PG_REAPING)
		page_set(block, i, state);
	else if (state != PG_UNMANAGED)
		block->page[i] |= state == PG_ARRIVING ? PG_NEXT_ARRIVING : PG_NEXT_SYSTEM;
	block_put(ctx, block);
}

struct carried {
	enum page_state state;
	struct umm_devmem *mem;
	uint32_t frame;
};

/* The copies of a duplicated page end here, all of them; its host page went with the mapping. */
static struct block *end_copies(struct umm_ctx *ctx, struct block *block, unsigned i)
{
	uint64_t page[BITMAP_WORDS] = { 0 };
	uintptr_t va = block->va;

	bit_set(page, i);
	lock_drop(&block->lock);
	blocks_drop_copies(ctx, va, page);
	return block_find(ctx, va);
}

/* Wait until the page is settled at its old address, and take it from there. */
static void carry_from(struct umm_ctx *ctx, uintptr_t addr, struct carried *page)
{
	unsigned i = page_index(addr);
	struct resident *resident;
	struct block *block;
	uint32_t seen;

	while ((block = block_find(ctx, addr)) &&
	       (page_state(block, i) == PG_MIGRATING || page_state(block, i) == PG_ARRIVING)) {
		seen = ctx_settle_count(ctx);
		lock_drop(&block->lock);
		ctx_settle_wait(ctx, seen, now_ns() + SETTLE_NS);
	}
	*page = (struct carried){ .state = PG_EMPTY };
	if (!block)
		return;
	if (page_state(block, i) == PG_REAPING) {
		/* Dropped before it was moved: it ends UNMANAGED here and EMPTY there. */
		block->page[i] |= PG_GONE;
		lock_drop(&block->lock);
		return;
	}
	page->state = page_state(block, i);
	if (page->state == PG_DUPLICATED) {
		page->state = PG_SYSTEM;
		block = end_copies(ctx, block, i);
	}
	resident = resident_of(block, i);
	if (resident) {
		page->mem = resident->mem;
		page->frame = resident_frame(resident, i);
		devmem_hold(page->mem);
		resident_clear(ctx, block, resident, i);
	}
	page_set(block, i, PG_UNMANAGED);
	block_put(ctx, block);
}

/* Settle the page at its new address; false: it was dropped there meanwhile. */
static bool arrive(struct umm_ctx *ctx, struct block *block, unsigned i, const struct carried *page)
{
	uint16_t flags = block->page[i];

	if (page_state(block, i) != PG_ARRIVING)
		return false;
	if (flags & (PG_GONE | PG_DISCARD)) {
		page_settle(block, i, flags & PG_GONE ? PG_UNMANAGED : PG_SYSTEM);
		return false;
	}
	if (page->mem && resident_set(ctx, block, page->mem, i, page->frame)) {
		page_settle(block, i, PG_POISONED);
		return false;
	}
	page_settle(block, i, page->state);
	return true;
}

static bool carry_to(struct umm_ctx *ctx, uintptr_t addr, const struct carried *page)
{
	struct block *block = block_find(ctx, addr);
	bool arrived;

	if (!block)
		return false;
	arrived = arrive(ctx, block, page_index(addr), page);
	block_put(ctx, block);
	return arrived;
}

/* Give back the frame of a page that arrived nowhere. */
static void drop_carried(struct umm_ctx *ctx, const struct carried *page)
{
	atomic_fetch_sub(&page->mem->pages, 1);
	/* Its page went with the mapping, and was dropped there: the frame needs one. */
	if (page->state == PG_COHERENT && ctx->features & UMM_KERNEL_MOVE)
		uffd_zeropage(ctx->staging.uffd, devmem_host(page->mem, page->frame), UMM_PAGE_SIZE,
			      false, NULL);
	devmem_give(page->mem, page->frame, 1);
}

/* Is the page expected at its new address? Waits for the end of what was there before. */
static bool is_arriving(struct umm_ctx *ctx, uintptr_t addr)
{
	unsigned i = page_index(addr);
	struct block *block;
	bool arriving;
	uint32_t seen;

	while ((block = block_find(ctx, addr)) && page_state(block, i) == PG_REAPING &&
	       block->page[i] & PG_NEXT_ARRIVING) {
		seen = ctx_settle_count(ctx);
		lock_drop(&block->lock);
		ctx_settle_wait(ctx, seen, now_ns() + SETTLE_NS);
	}
	arriving = block && page_state(block, i) == PG_ARRIVING;
	if (block)
		lock_drop(&block->lock);
	return arriving;
}

/* A page that mremap() took away is still at its old address, though nobody expects it. */
static bool source_waits(struct umm_ctx *ctx, uintptr_t addr)
{
	struct block *block = block_find(ctx, addr);
	bool waits = block && page_is_away(block, page_index(addr));

	if (block)
		lock_drop(&block->lock);
	return waits;
}

static void carry(struct umm_ctx *ctx, uintptr_t from, uintptr_t to)
{
	bool arriving = is_arriving(ctx, to), arrived;
	struct carried page;

	if (!arriving && !source_waits(ctx, from))
		return;
	carry_from(ctx, from, &page);
	if (page.state == PG_UNMANAGED)
		page.state = PG_EMPTY;
	arrived = carry_to(ctx, to, &page);
	if (!page.mem)
		return;
	if (!arrived)
		drop_carried(ctx, &page);
	devmem_unuse(page.mem);
}

static void wake_blocks(struct umm_ctx *ctx, uintptr_t start, uintptr_t end)
{
	for (uintptr_t va = align_down(start, UMM_BLOCK_SIZE); va < end; va += UMM_BLOCK_SIZE)
		ctx_wake_block(ctx, va);
}

static void move_add(struct umm_ctx *ctx, struct move *move)
{
	struct move **link = &ctx->moves;

	while (*link)
		link = &(*link)->next;
	move->next = NULL;
	*link = move;
}

static void move_remove(struct umm_ctx *ctx, struct move *move)
{
	struct move **link;

	for (link = &ctx->moves; *link != move; link = &(*link)->next)
		;
	*link = move->next;
	pool_free(&ctx->move_pool, move);
}

uintptr_t remap_target(const struct umm_ctx *ctx, uintptr_t addr, unsigned since)
{
	uintptr_t to = addr;

	for (const struct move *move = ctx->moves; move; move = move->next)
		if (move->number >= since && to >= move->start && to < move->end)
			to = move->to + (to - move->start);
	return to == addr ? 0 : to;
}

static void remap_work(struct umm_ctx *ctx, const struct work *work)
{
	size_t len = work->end - work->addr;

	event_notify(ctx, work->addr, work->end, true);
	notifier_end(ctx, work->active);
	for (size_t at = 0; at < len; at += UMM_PAGE_SIZE)
		carry(ctx, work->addr + at, work->to + at);
	rwlock_take(&ctx->gate);
	move_remove(ctx, work->priv);
	rwlock_drop(&ctx->gate);
	ctx_settled(ctx);
	wake_blocks(ctx, work->addr, work->end);
	wake_blocks(ctx, work->to, work->to + len);
}

/* Pages at their new address, as far as that is known at once. True: some are carried there. */
static bool remap_states(struct umm_ctx *ctx, const struct uffd_msg_info *info)
{
	size_t len = info->end - info->addr;
	enum page_state state;
	bool carried = false;

	for (size_t at = 0; at < len; at += UMM_PAGE_SIZE) {
		state = remapped_state(remap_from(ctx, info->addr + at));
		carried |= state == PG_ARRIVING;
		remap_to(ctx, info->to + at, state);
	}
	return carried;
}

void remap_apply(struct umm_ctx *ctx, const struct uffd_msg_info *info)
{
	struct move *move = pool_alloc(&ctx->move_pool);
	struct work work = {
		.fn = remap_work,
		.addr = info->addr,
		.end = info->end,
		.to = info->to,
		.priv = move,
	};
	size_t len = info->end - info->addr;

	if (!move) {
		log_error("no memory to follow a mapping that moved from %#lx to %#lx",
			  (unsigned long)info->addr, (unsigned long)info->to);
		return;
	}
	*move = (struct move){ .start = info->addr, .end = info->end, .to = info->to };
	move->number = atomic_load(&ctx->nmoves);
	move_add(ctx, move);
	event_clear_blocks(ctx, info->to, info->to + len, true);
	region_move(ctx, info->addr, info->to, len, false);
	if (remap_states(ctx, info) || atomic_load(&ctx->notifiers.count)) {
		event_announce(ctx, &work);
	} else {
		move_remove(ctx, move);
	}
	/* Whoever collects pages from here on is not concerned. */
	atomic_fetch_add(&ctx->nmoves, 1);
}
