/* SPDX-License-Identifier: MIT */
/*
 * Address-space events. The kernel tells of munmap, mremap and madvise on registered
 * memory, and holds the caller until the message is read; after that the
 * program goes on at once. So the states of pages change before the gate opens,
 * by the reader; what may take time (mirrors, frames) is left to the workers, with
 * the pages concerned in state REAPING until it is done: a CPU that touches one waits.
 *
 *	event	page was			page becomes	worker
 *	REMOVE	SYSTEM				SYSTEM		notify
 *		EMPTY, POISONED			EMPTY		notify
 *		MIGRATING			+ DISCARD	(its piece drops it)
 *		DEVICE, EXCLUSIVE		REAPING		notify, free frames, EMPTY
 *		COHERENT, DUPLICATED		REAPING		the same, SYSTEM
 *	UNMAP	the same, with GONE and UNMANAGED
 *	REMAP	see remap.c
 *
 * Invariants: the reader never waits for anything but the block locks, whose holders
 * do not wait for events. A REAPING page leaves that state by the worker that was queued for it.
 * Locks: gate, exclusive, around read and apply; then regions.lock or a block's.
 */
#include "event.h"

#include <errno.h>
#include <sched.h>
#include <string.h>
#include <sys/mman.h>

#include "ctx.h"
#include "device.h"
#include "hook.h"
#include "log.h"
#include "pin.h"
#include "remap.h"
#include "signals.h"
#include "uapi.h"
#include "uffd.h"
#include "util.h"

/* How long a worker waits for a page in flight before it looks again. */
#define SETTLE_NS UINT64_C(100000000)

/* Is this the message of what the core itself is doing? It is expected once. */
static bool expected(struct umm_ctx *ctx, const struct uffd_msg_info *info)
{
	struct expect *expect;

	lock_take(&ctx->expect_lock);
	for (expect = ctx->expected; expect; expect = expect->next)
		if (expect->start == info->addr && expect->end == info->end &&
		    expect->to == info->to && !expect->met)
			break;
	if (expect)
		expect->met = true;
	lock_drop(&ctx->expect_lock);
	return expect;
}

void event_expect(struct umm_ctx *ctx, struct expect *expect)
{
	expect->met = false;
	lock_take(&ctx->expect_lock);
	expect->next = ctx->expected;
	ctx->expected = expect;
	lock_drop(&ctx->expect_lock);
}

void event_expect_end(struct umm_ctx *ctx, struct expect *expect)
{
	struct expect **link;

	/* The message has been read, but perhaps not looked at: its reader has the gate. */
	ctx_pass_gate(ctx);
	lock_take(&ctx->expect_lock);
	for (link = &ctx->expected; *link != expect; link = &(*link)->next)
		;
	*link = expect->next;
	lock_drop(&ctx->expect_lock);
}

/* A page that was dropped before, and by now is something else: that is dropped. */
static void clear_next(uint16_t *page, bool unmap)
{
	bool next = *page & (PG_NEXT_ARRIVING | PG_NEXT_SYSTEM);

	*page &= (uint16_t) ~(PG_NEXT_ARRIVING | PG_NEXT_SYSTEM);
	if (unmap)
		*page |= PG_GONE;
	else if (next)
		*page |= PG_NEXT_SYSTEM;
}

/* Returns true when a worker has to follow. */
static bool clear_page(struct block *block, unsigned i, bool unmap)
{
	/* The kernel also tells that the old address of a moved range is unmapped. */
	if (page_is_away(block, i))
		return false;
	if (unmap)
		page_forget_pins(block, i);
	switch (page_state(block, i)) {
	case PG_MIGRATING:
	case PG_ARRIVING:
		block->page[i] &= (uint16_t)~PG_REFILLED;
		block->page[i] |= unmap ? PG_GONE : PG_DISCARD;
		return false;
	case PG_DUPLICATED:
		page_set(block, i, PG_REAPING);
		block->page[i] |= PG_MAPPED | PG_COPIES | (unmap ? PG_GONE : 0);
		return true;
	case PG_COHERENT:
		page_set(block, i, PG_REAPING);
		block->page[i] |= PG_MAPPED | (unmap ? PG_GONE : 0);
		return true;
	case PG_DEVICE:
	case PG_EXCLUSIVE:
		page_set(block, i, PG_REAPING);
		block->page[i] |= unmap ? PG_GONE : 0;
		return true;
	case PG_REAPING:
		clear_next(&block->page[i], unmap);
		return true;
	case PG_UNMANAGED:
		return false;
	case PG_NATIVE:
	case PG_MIRRORED:
	case PG_SYSTEM:
		/* MADV_FREE drops nothing at once: only the kernel knows what is there. */
		if (unmap)
			page_set(block, i, PG_UNMANAGED);
		else if (page_state(block, i) == PG_SYSTEM)
			page_drop(block, i);
		return false;
	default:
		page_set(block, i, unmap ? PG_UNMANAGED : PG_EMPTY);
		return false;
	}
}

bool event_clear_blocks(struct umm_ctx *ctx, uintptr_t start, uintptr_t end, bool unmap)
{
	struct block *block;
	unsigned first, last;
	uintptr_t at = start, va;
	bool follow = false, wake;

	while (at < end && (block = block_next(ctx, at, end))) {
		va = block->va;
		at = va + UMM_BLOCK_SIZE;
		if (block_clip(block, start, end, &first, &last))
			for (unsigned i = first; i < last; i++)
				follow |= clear_page(block, i, unmap);
		/* The kernel does not wake who waits for a page that is unmapped. */
		wake = unmap && block->waiters;
		if (wake)
			block->waiters = false;
		block_put(ctx, block);
		if (wake)
			ctx_wake_block(ctx, va);
	}
	return follow;
}

/*
 * Coherent frames are pages of the program's mapping. Where that is still ours (mapped)
 * they are moved back to their place. After an event of the program's the
 * address may be somebody else's already: there the place gets a fresh page.
 */
static void recover_places(struct umm_ctx *ctx, struct block *block, const uint64_t *pages,
			   bool mapped)
{
	struct resident *resident;
	uintptr_t place;

	if (!(ctx->features & UMM_KERNEL_MOVE))
		return;
	for (unsigned i = bit_next(pages, 0); i < UMM_BLOCK_PAGES; i = bit_next(pages, i + 1)) {
		resident = resident_of(block, i);
		/* Of a duplicated page the copy is in its place. */
		if (!resident || resident->mem->type != UMM_DEVMEM_COHERENT ||
		    block->page[i] & PG_COPIES)
			continue;
		place = devmem_host(resident->mem, resident_frame(resident, i));
		if (!mapped || uffd_move(ctx->staging.uffd, place, page_addr(block, i),
					 UMM_PAGE_SIZE, false, NULL))
			uffd_zeropage(ctx->staging.uffd, place, UMM_PAGE_SIZE, false, NULL);
	}
}

static bool being_reaped(const struct block *block, unsigned i)
{
	return page_state(block, i) == PG_REAPING && block->page[i] & PG_CLAIMED;
}

/* Choose the pages that this reaper takes care of. */
static void reap_claim(struct block *block, unsigned first, unsigned last, uint64_t *pages)
{
	struct resident *resident;

	for (unsigned i = first; i < last; i++) {
		if (page_state(block, i) != PG_REAPING || being_reaped(block, i))
			continue;
		bit_set(pages, i);
		block->page[i] |= PG_CLAIMED;
		resident = resident_of(block, i);
		if (resident && !(block->page[i] & PG_COPIES))
			atomic_fetch_sub(&resident->mem->pages, 1);
	}
}

static void reap_settle(struct block *block, unsigned i)
{
	bool mapped = (block->page[i] & (PG_MAPPED | PG_REFILLED)) == PG_MAPPED;
	enum page_state state = page_settles(block, i);

	if (state == PG_SYSTEM && mapped)
		page_drop(block, i);
	else
		page_set(block, i, state);
}

/* Give the frames of REAPING pages back and settle the pages. */
static void reap_block(struct umm_ctx *ctx, uintptr_t va, const struct umm_span *span, bool mapped)
{
	uint64_t pages[BITMAP_WORDS] = { 0 };
	struct block *block = block_find(ctx, va);
	unsigned first, last;
	bool wake;

	if (!block)
		return;
	if (!block_clip(block, span->start, span->start + span->len, &first, &last))
		first = last = 0;
	reap_claim(block, first, last, pages);
	recover_places(ctx, block, pages, mapped);
	lock_drop(&block->lock);

	blocks_drop_copies(ctx, va, pages);

	block = block_find(ctx, va);
	if (!block)
		return;
	for (unsigned i = first; i < last; i++)
		if (bit_test(pages, i) && being_reaped(block, i))
			reap_settle(block, i);
	wake = block->waiters;
	block->waiters = false;
	block_put(ctx, block);
	ctx_settled(ctx);
	if (wake)
		ctx_wake_block(ctx, va);
}

void event_notify(struct umm_ctx *ctx, uintptr_t start, uintptr_t end, bool unmap)
{
	struct umm_notifier_range range = {
		.start = start,
		.end = end,
		.event = unmap ? UMM_EVENT_UNMAP : UMM_EVENT_CLEAR,
		.blockable = true,
	};

	notifier_invalidate(ctx, &range);
}

void event_announce(struct umm_ctx *ctx, struct work *work)
{
	work->active = notifier_begin(ctx, work->addr, work->end);
	if (!workers_queue(&ctx->workers, work))
		return;
	log_error("no memory to release device pages at %#lx", (unsigned long)work->addr);
	notifier_end(ctx, work->active);
}

/* mapped: the program's mapping is still there, and will be until this returns. */
static void reap(struct umm_ctx *ctx, uintptr_t start, uintptr_t end, bool unmap, bool mapped)
{
	struct umm_span span = { .start = start, .len = end - start };
	struct block *block;
	uintptr_t at = start, va;

	event_notify(ctx, start, end, unmap);
	while (at < end && (block = block_next(ctx, at, end))) {
		va = block->va;
		lock_drop(&block->lock);
		signals_hold();
		reap_block(ctx, va, &span, mapped);
		signals_let();
		at = va + UMM_BLOCK_SIZE;
	}
}

static void reap_work(struct umm_ctx *ctx, const struct work *work)
{
	reap(ctx, work->addr, work->end, work->unmap, false);
	notifier_end(ctx, work->active);
}

static void apply_clear(struct umm_ctx *ctx, const struct uffd_msg_info *info, bool unmap)
{
	struct work work = {
		.fn = reap_work,
		.addr = info->addr,
		.end = info->end,
		.unmap = unmap,
	};
	bool follow;

	if (unmap)
		region_del(ctx, info->addr, info->end);
	follow = event_clear_blocks(ctx, info->addr, info->end, unmap);
	if (!follow && !atomic_load(&ctx->notifiers.count))
		return;
	event_announce(ctx, &work);
}

static void event_apply(struct umm_ctx *ctx, const struct uffd_msg_info *info)
{
	stats_add(&ctx->stats, UMM_COUNT_EVENTS, 1);
	switch (info->kind) {
	case UFFD_UNMAP:
		if (!expected(ctx, info))
			apply_clear(ctx, info, true);
		break;
	case UFFD_REMOVE:
		apply_clear(ctx, info, false);
		break;
	case UFFD_REMAP:
		if (!expected(ctx, info))
			remap_apply(ctx, info);
		break;
	default:
		log_warning("unknown userfaultfd message");
		break;
	}
	hook_run(HOOK_EVENT, info->addr);
}

void event_read_watch(struct umm_ctx *ctx)
{
	struct uffd_msg_info info;
	bool again;

	do {
		rwlock_take(&ctx->gate);
		again = uffd_read(ctx->watch, &info) == 1;
		if (again)
			event_apply(ctx, &info);
		rwlock_drop(&ctx->gate);
	} while (again);
}

int event_read(struct umm_ctx *ctx, struct uffd_msg_info *info, bool *again)
{
	int ret;

	rwlock_take(&ctx->gate);
	ret = uffd_read(ctx->uffd, info);
	*again = ret > 0 && info->kind != UFFD_FAULT;
	if (*again)
		event_apply(ctx, info);
	rwlock_drop(&ctx->gate);
	return *again ? 0 : ret;
}

void event_pump(struct umm_ctx *ctx)
{
	struct uffd_msg_info info;
	bool again;

	if (event_read(ctx, &info, &again) == 1)
		fault_take(ctx, &info);
	else if (!again)
		sched_yield();
}

static bool in_flight(const struct block *block, unsigned i)
{
	return page_state(block, i) == PG_MIGRATING || page_state(block, i) == PG_ARRIVING ||
	       being_reaped(block, i) || page_is_away(block, i);
}

/*
 * Settle what can be settled at once. Returns true when something is in flight still;
 * *marked: some pages are left for reap().
 */
static bool clear_try(struct umm_ctx *ctx, uintptr_t start, uintptr_t end, bool unmap, bool *marked)
{
	struct block *block;
	unsigned first, last;
	uintptr_t at = start;
	bool busy = false;

	*marked = false;
	while (at < end && (block = block_next(ctx, at, end))) {
		at = block->va + UMM_BLOCK_SIZE;
		if (!block_clip(block, start, end, &first, &last))
			first = last = 0;
		for (unsigned i = first; i < last; i++) {
			if (in_flight(block, i))
				busy = true;
			else
				*marked |= clear_page(block, i, unmap);
		}
		block_put(ctx, block);
	}
	return busy;
}

void event_clear(struct umm_ctx *ctx, uintptr_t start, uintptr_t end, bool unmap)
{
	bool busy = true, marked, first = true;
	struct patience patience = { 0 };
	uint32_t seen;

	while (busy) {
		ctx_still_waiting(&patience, start);
		seen = ctx_settle_count(ctx);
		busy = clear_try(ctx, start, end, unmap, &marked);
		if (first || marked)
			reap(ctx, start, end, unmap, true);
		else if (busy)
			ctx_settle_wait(ctx, seen, now_ns() + SETTLE_NS);
		first = false;
	}
}

/* Settle what the CPU has. Returns true when there is more. */
static bool unmanage_try(struct umm_ctx *ctx, uintptr_t start, uintptr_t end)
{
	struct block *block;
	unsigned first, last;
	uintptr_t at = start;
	bool more = false;

	while (at < end && (block = block_next(ctx, at, end))) {
		at = block->va + UMM_BLOCK_SIZE;
		if (!block_clip(block, start, end, &first, &last))
			first = last = 0;
		for (unsigned i = first; i < last; i++) {
			if (in_flight(block, i) || page_state(block, i) == PG_REAPING ||
			    resident_of(block, i))
				more = true;
			else
				clear_page(block, i, true);
		}
		block_put(ctx, block);
	}
	return more;
}

bool event_unmanage(struct umm_ctx *ctx, uintptr_t start, uintptr_t end)
{
	uint32_t seen = ctx_settle_count(ctx);

	if (unmanage_try(ctx, start, end)) {
		ctx_settle_wait(ctx, seen, now_ns() + SETTLE_NS);
		return false;
	}
	event_notify(ctx, start, end, true);
	return true;
}

void event_forget(struct umm_ctx *ctx, uintptr_t start, uintptr_t end)
{
	uint64_t pages[BITMAP_WORDS];
	struct block *block;
	unsigned first, last;
	uintptr_t at = start, va;

	while (at < end && (block = block_next(ctx, at, end))) {
		memset(pages, 0, sizeof(pages));
		va = block->va;
		at = va + UMM_BLOCK_SIZE;
		if (!block_clip(block, start, end, &first, &last))
			first = last = 0;
		for (unsigned i = first; i < last; i++) {
			if (page_state(block, i) != PG_MIRRORED)
				continue;
			bit_set(pages, i);
			page_set(block, i, PG_UNMANAGED);
		}
		block_put(ctx, block);
		for_each_run(pages, first, last)
			region_del(ctx, va + ((uintptr_t)first << UMM_PAGE_SHIFT),
				   va + ((uintptr_t)last << UMM_PAGE_SHIFT));
	}
}

static bool any_in_flight(struct umm_ctx *ctx, uintptr_t start, uintptr_t end)
{
	struct block *block;
	unsigned first, last;
	uintptr_t at = start;
	bool busy = false;

	while (at < end && !busy && (block = block_next(ctx, at, end))) {
		at = block->va + UMM_BLOCK_SIZE;
		if (block_clip(block, start, end, &first, &last))
			for (unsigned i = first; i < last && !busy; i++)
				busy = in_flight(block, i) || page_state(block, i) == PG_REAPING;
		lock_drop(&block->lock);
	}
	return busy;
}

void event_wait(struct umm_ctx *ctx, uintptr_t start, uintptr_t end)
{
	struct patience patience = { 0 };
	uint32_t seen;

	ctx_pass_gate(ctx);
	while (seen = ctx_settle_count(ctx), any_in_flight(ctx, start, end)) {
		ctx_still_waiting(&patience, start);
		ctx_settle_wait(ctx, seen, now_ns() + SETTLE_NS);
	}
}
