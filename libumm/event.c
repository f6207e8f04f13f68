/* SPDX-License-Identifier: MIT */
/*
 * Address-space events. The kernel tells of munmap, mremap and madvise on registered
 * memory, and holds the caller until the message is read; after that the
 * program goes on at once. So the states of pages change before the gate opens,
 * by the reader; telling mirrors and giving frames back is a change's affair (change.h).
 *
 *	page was			REMOVE makes it		UNMAP makes it
 *	SYSTEM				SYSTEM, DROPPING	UNMANAGED
 *	DEVICE, EXCLUSIVE, frame loose	EMPTY, HELD		UNMANAGED
 *	COHERENT, DUPLICATED, likewise	SYSTEM, DROPPING	UNMANAGED
 *	MIGRATING			+ DISCARD		UNMANAGED; it leaves its piece
 *	EMPTY, POISONED			EMPTY			UNMANAGED
 *	POISONED by a mapping		+ DISCARD		UNMANAGED
 *	MIRRORED			MIRRORED		UNMANAGED
 *	REMAP	see remap.c
 *
 * Invariant: the reader never waits for anything but the block locks, whose holders
 * do not wait for events.
 * Locks: gate, exclusive, around read and apply; then regions.lock or a block's.
 */
#include "event.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>

#include "change.h"
#include "ctx.h"
#include "hook.h"
#include "log.h"
#include "mark.h"
#include "piece.h"
#include "pin.h"
#include "poison.h"
#include "remap.h"
#include "taken.h"
#include "uapi.h"
#include "uffd.h"
#include "util.h"

/* How long a worker waits for a page in flight before it looks again. */
#define SETTLE_NS UINT64_C(100000000)

/* Bytes that stop being managed in one go, with the regions locked. */
#define UNMANAGE_MOST ((uintptr_t)128 << 20)

/*
 * Who waits for a message looks up so often: that no more are on their way wakes nobody. To sleep
 * matters: a server has priority over the threads whose messages it waits for.
 */
#define MESSAGE_NS 50000

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

/*
 * Another thread expects the same message (two poison one page), and it was taken for the wrong
 * one's: `happened` is whether this one's message has come.
 */
static void settle_with_other(struct umm_ctx *ctx, const struct expect *expect, bool happened)
{
	struct expect *other = ctx->expected;

	while (other && (other->start != expect->start || other->end != expect->end ||
			 other->to != expect->to || other->met != happened))
		other = other->next;
	if (other)
		other->met = expect->met;
}

void event_expect_end(struct umm_ctx *ctx, struct expect *expect, bool happened)
{
	struct expect **link;

	/* The message has been read, but perhaps not looked at: its reader has the gate. */
	ctx_pass_gate(ctx);
	lock_take(&ctx->expect_lock);
	for (link = &ctx->expected; *link != expect; link = &(*link)->next)
		;
	*link = expect->next;
	if (expect->met != happened)
		settle_with_other(ctx, expect, happened);
	lock_drop(&ctx->expect_lock);
}

/* The page goes away from its address, or (unmap false) only its contents do. */
static void clear_page(struct block *block, unsigned i, const struct change *change)
{
	uint16_t guarded = block->page[i] & PG_GUARDED;

	if (change->unmap) {
		page_set(block, i, PG_UNMANAGED);
		return;
	}
	if (page_state(block, i) == PG_DUPLICATED)
		guarded = PG_GUARDED;
	switch (page_state(block, i)) {
	case PG_MIGRATING:
		block->page[i] &= (uint16_t)~PG_REFILLED;
		block->page[i] |= PG_DISCARD;
		break;
	case PG_DEVICE:
	case PG_EXCLUSIVE:
		page_set(block, i, PG_EMPTY);
		change_hold(change, block, i);
		break;
	case PG_SYSTEM:
	case PG_COHERENT:
	case PG_DUPLICATED:
		/* MADV_FREE drops nothing at once: only the kernel knows what is there. */
		page_drop(block, i);
		block->page[i] |= guarded;
		break;
	case PG_POISONED:
		if (!(block->page[i] & PG_DISCARD))
			page_set(block, i, PG_EMPTY);
		break;
	default:
		break;
	}
}

/* A page in flight is unmapped: its piece has it, and the frame that it came from, to itself. */
static void leave_to_piece(struct umm_ctx *ctx, struct block *block, unsigned i)
{
	struct frame source;

	piece_redirect(ctx, page_addr(block, i), 0, &source);
	if (source.mem)
		resident_clear(ctx, block, resident_find(block, source.mem), i);
}

/* Does the page leave frames, or copies in frames, to the change? */
static bool page_leaves_frames(struct umm_ctx *ctx, struct block *block, unsigned i, bool unmap)
{
	enum page_state state = page_state(block, i);
	struct resident *resident;

	/* Copies of a page in flight are its piece's affair, as long as it is. */
	if (state == PG_MIGRATING && !unmap)
		return false;
	if (state == PG_MIGRATING)
		leave_to_piece(ctx, block, i);
	resident = resident_of(block, i);
	if (state == PG_DEVICE || state == PG_COHERENT)
		atomic_fetch_sub(&resident->mem->pages, 1);
	return resident;
}

static void clear_pages(struct umm_ctx *ctx, struct block *block, unsigned first, unsigned last,
			struct change *change)
{
	uint64_t loose[BITMAP_WORDS] = { 0 };

	if (!change->unmap)
		poison_drop(ctx, block, first, last);
	for (unsigned i = first; i < last; i++) {
		if (page_leaves_frames(ctx, block, i, change->unmap))
			bit_set(loose, i);
		clear_page(block, i, change);
	}
	change_loosen(ctx, change, block, loose);
}

static void clear_blocks(struct umm_ctx *ctx, struct change *change)
{
	uintptr_t at = change->start, va;
	struct block *block;
	unsigned first, last;
	bool wake;

	while (at < change->end && (block = block_next(ctx, at, change->end))) {
		va = block->va;
		at = va + UMM_BLOCK_SIZE;
		if (block_clip(block, change->start, change->end, &first, &last))
			clear_pages(ctx, block, first, last, change);
		/* The kernel does not wake who waits for a page that is unmapped. */
		wake = change->unmap && block->waiters;
		if (wake)
			block->waiters = false;
		block_put(ctx, block);
		if (wake)
			ctx_wake_block(ctx, va);
	}
}

void event_clear(struct umm_ctx *ctx, uintptr_t start, uintptr_t end, bool unmap)
{
	struct change what = { .start = start, .end = end, .unmap = unmap };
	struct change *change;

	pool_urgent_begin();
	change = change_begin(ctx, &what);
	if (unmap)
		region_del(ctx, start, end);
	hook_run(HOOK_CLEARING, start);
	clear_blocks(ctx, change);
	if (unmap)
		region_renew(ctx, start, end);
	taken_drop(ctx, start, end);
	change_announce(ctx, change);
	pool_urgent_end();
}

struct umm_notifier_range event_range(uintptr_t start, uintptr_t end, bool unmap)
{
	return (struct umm_notifier_range){
		.start = start,
		.end = end,
		.event = unmap ? UMM_EVENT_UNMAP : UMM_EVENT_CLEAR,
		.blockable = true,
	};
}

void event_dispatch(struct umm_ctx *ctx, const struct uffd_msg_info *info)
{
	switch (info->kind) {
	case UFFD_UNMAP:
		if (!expected(ctx, info) && !remap_is_echo(ctx, info) && !remap_postpone(ctx, info))
			remap_unmapped(ctx, info);
		break;
	case UFFD_REMOVE:
		if (!remap_postpone(ctx, info))
			event_clear(ctx, info->addr, info->end, false);
		break;
	case UFFD_REMAP:
		if (!expected(ctx, info) && !remap_postpone(ctx, info))
			remap_apply(ctx, info);
		break;
	default:
		log_warning("unknown userfaultfd message");
		break;
	}
}

static void event_apply(struct umm_ctx *ctx, const struct uffd_msg_info *info)
{
	hook_run(HOOK_EVENT_READ, info->addr);
	stats_add(&ctx->stats, UMM_COUNT_EVENTS, 1);
	event_dispatch(ctx, info);
	hook_run(HOOK_EVENT, info->addr);
}

/* One message of this userfaultfd, the gate closed. False: there is none. */
static bool read_ahead_of(struct umm_ctx *ctx, int uffd)
{
	struct uffd_msg_info info;

	if (uffd < 0 || uffd_read(uffd, &info) != 1)
		return false;
	if (info.kind == UFFD_FAULT)
		uffd_wake(uffd, info.addr, UMM_PAGE_SIZE);
	else
		event_apply(ctx, &info);
	return true;
}

/*
 * A call that unmaps memory of several kinds sends its messages one after the other: the one that
 * is waited for may come only when that of the watch, or of the mark, has been read. So it is for
 * event_pump().
 */
void event_read_ahead(struct umm_ctx *ctx)
{
	if (!read_ahead_of(ctx, ctx->uffd) && !read_ahead_of(ctx, ctx->watch) &&
	    !read_ahead_of(ctx, ctx->mark))
		uffd_await(ctx->uffd, MESSAGE_NS);
}

bool event_read_watches(struct umm_ctx *ctx)
{
	bool again, any = false;

	do {
		rwlock_take(&ctx->gate);
		again = read_ahead_of(ctx, ctx->watch) || read_ahead_of(ctx, ctx->mark);
		rwlock_drop(&ctx->gate);
		any |= again;
	} while (again);
	return any;
}

bool event_is_changing(const struct umm_ctx *ctx)
{
	return uffd_is_changing(ctx->uffd) || uffd_is_changing(ctx->watch) ||
	       uffd_is_changing(ctx->mark);
}

int event_read(struct umm_ctx *ctx, struct uffd_msg_info *info, bool *again)
{
	int ret;

	rwlock_take(&ctx->gate);
	ret = uffd_read(ctx->uffd, info);
	*again = ret > 0 && info->kind != UFFD_FAULT;
	if (*again)
		event_apply(ctx, info);
	else if (ctx->arrivals.any && !event_is_changing(ctx))
		remap_forget_arrivals(ctx);
	rwlock_drop(&ctx->gate);
	return *again ? 0 : ret;
}

void event_pump(struct umm_ctx *ctx)
{
	struct uffd_msg_info info;
	bool again;

	if (event_read(ctx, &info, &again) == 1)
		fault_take(ctx, &info);
	else if (!again && !event_read_watches(ctx))
		uffd_await(ctx->uffd, MESSAGE_NS);
}

void event_await_quiet(struct umm_ctx *ctx)
{
	while (event_is_changing(ctx))
		event_pump(ctx);
	/* What was read is applied, too, once its reader has let go of the gate. */
	rwlock_take(&ctx->gate);
	if (!event_is_changing(ctx))
		remap_forget_arrivals(ctx);
	rwlock_drop(&ctx->gate);
}

bool event_any_in_flight(struct umm_ctx *ctx, uintptr_t start, uintptr_t end)
{
	struct block *block;
	unsigned first, last;
	uintptr_t at = start;
	bool busy = false;

	while (at < end && !busy && (block = block_next(ctx, at, end))) {
		at = block->va + UMM_BLOCK_SIZE;
		if (block_clip(block, start, end, &first, &last))
			for (unsigned i = first; i < last && !busy; i++)
				busy = page_state(block, i) == PG_MIGRATING;
		lock_drop(&block->lock);
	}
	return busy;
}

static void wait_for_flights(struct umm_ctx *ctx, uintptr_t start, uintptr_t end)
{
	struct patience patience = { 0 };
	uint32_t seen;

	while (seen = ctx_settle_count(ctx), event_any_in_flight(ctx, start, end)) {
		ctx_still_waiting(&patience, start);
		ctx_settle_wait(ctx, seen, now_ns() + SETTLE_NS);
	}
}

/*
 * The page of a coherent frame goes back to its place, while the mapping is still there. Where that
 * fails the place gets a fresh page, when the frame is given back.
 */
static void recover_place(struct umm_ctx *ctx, struct block *block, unsigned i)
{
	struct resident *resident = resident_of(block, i);

	if (ctx->features & UMM_KERNEL_MOVE)
		uffd_move(ctx->staging.uffd,
			  devmem_host(resident->mem, resident_frame(resident, i)),
			  page_addr(block, i), UMM_PAGE_SIZE, false, NULL);
}

/* What is not in flight stops being managed. Returns true when something is in flight. */
static bool free_try(struct umm_ctx *ctx, struct change *change)
{
	uintptr_t at = change->start;
	unsigned first, last, next;
	struct block *block;
	bool busy = false;

	while (at < change->end && (block = block_next(ctx, at, change->end))) {
		at = block->va + UMM_BLOCK_SIZE;
		if (!block_clip(block, change->start, change->end, &first, &last))
			first = last = 0;
		for (; first < last; first = next + 1) {
			for (next = first; next < last; next++) {
				if (page_state(block, next) == PG_MIGRATING)
					break;
				if (page_state(block, next) == PG_COHERENT)
					recover_place(ctx, block, next);
			}
			clear_pages(ctx, block, first, next, change);
			busy |= next < last;
		}
		block_put(ctx, block);
	}
	return busy;
}

void event_free(struct umm_ctx *ctx, const struct umm_span *span)
{
	struct change what = {
		.start = span->start,
		.end = span->start + span->len,
		.unmap = true,
	};
	struct change *change;
	bool busy;

	do {
		wait_for_flights(ctx, what.start, what.end);
		pool_urgent_begin();
		change = change_begin(ctx, &what);
		busy = free_try(ctx, change);
		pool_urgent_end();
		change_tell(ctx, change);
	} while (busy);
}

/* The first stretch of start .. end that is in no region. Under regions.lock. */
static bool gap_first(struct regions *regions, uintptr_t start, uintptr_t end, struct umm_span *out)
{
	struct umm_span piece;

	while (start < end && regions_first(regions, start, end, &piece) && piece.start <= start)
		start = piece.start + piece.len;
	if (start >= end)
		return false;
	if (regions_first(regions, start, end, &piece))
		end = piece.start;
	*out = (struct umm_span){ start, end - start };
	return true;
}

static bool page_is_settled(struct block *block, unsigned i)
{
	return page_state(block, i) != PG_MIGRATING && !(block->page[i] & PG_HELD) &&
	       !resident_of(block, i);
}

/* Pages of a block stop being managed, if the CPU has all of them. */
static bool unmanage_pages(struct block *block, unsigned first, unsigned last)
{
	for (unsigned i = first; i < last; i++)
		if (!page_is_settled(block, i))
			return false;
	for (unsigned i = first; i < last; i++)
		page_set(block, i, PG_UNMANAGED);
	return true;
}

/* Block after block. Returns where it ends: there is a page that the CPU has not. */
static uintptr_t unmanage_gap(struct umm_ctx *ctx, const struct umm_span *gap)
{
	uintptr_t at = gap->start, end = gap->start + gap->len, va;
	unsigned first, last;
	struct block *block;
	bool done = true;

	while (done && at < end && (block = block_next(ctx, at, end))) {
		va = block->va;
		if (block_clip(block, at, end, &first, &last))
			done = unmanage_pages(block, first, last);
		at = max(at, done ? va + UMM_BLOCK_SIZE : va);
		block_put(ctx, block);
	}
	return done ? end : at;
}

/* What is in no region of start .. end. False: something is not settled. */
static bool unmanage_locked(struct umm_ctx *ctx, uintptr_t start, uintptr_t end)
{
	struct umm_span gap;
	uintptr_t stop;

	for (; gap_first(&ctx->regions, start, end, &gap); start = stop) {
		stop = unmanage_gap(ctx, &gap);
		if (stop > gap.start)
			mark_unregister(ctx, &(struct umm_span){ gap.start, stop - gap.start });
		if (stop < gap.start + gap.len)
			return false;
	}
	return true;
}

/*
 * Who attaches it meanwhile gets it as it is, registered with all its pages, or when none of it
 * is any more; what he does with it is not undone:
 *
 *	event_unmanage()		umm_attach(), umm_migrate(), umm_advise()
 *	lock regions			lock regions
 *	  no region: UNMANAGED,		  a region; UNMANAGED pages: NATIVE
 *	  unregister			unlock
 *	unlock				register
 *					lock regions
 *					  a region: leave it
 *					unlock
 */
bool event_unmanage(struct umm_ctx *ctx, uintptr_t start, uintptr_t end)
{
	uint32_t seen = ctx_settle_count(ctx);
	struct umm_notifier_range range = event_range(start, end, true);
	uintptr_t next;
	bool done = true;

	for (uintptr_t at = start; done && at < end; at = next) {
		next = min(end, align_down(at, UMM_BLOCK_SIZE) + UNMANAGE_MOST);
		lock_take(&ctx->regions.lock);
		done = unmanage_locked(ctx, at, next);
		lock_drop(&ctx->regions.lock);
	}
	if (done)
		notifier_invalidate(ctx, &range);
	else
		ctx_settle_wait(ctx, seen, now_ns() + SETTLE_NS);
	return done;
}

void event_unpin(struct umm_ctx *ctx, uintptr_t start, uintptr_t end)
{
	struct umm_span gap;

	lock_take(&ctx->regions.lock);
	for (; gap_first(&ctx->regions, start, end, &gap); start = gap.start + gap.len)
		pins_forget(ctx, gap.start, gap.start + gap.len);
	lock_drop(&ctx->regions.lock);
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
