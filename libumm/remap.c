/* SPDX-License-Identifier: MIT */
/*
 * mremap(). What the books know of a page goes to its new address at once: state, frame, and for
 * a page in flight its piece, which from then on looks for it there. The old address is free for
 * whatever comes next; with MREMAP_DONTUNMAP the old mapping stays, as memory that is not managed.
 *
 *	page was	is at its new address
 *	DEVICE		DEVICE, HELD: a mirror may still write to its frame by the old address
 *	COHERENT	COHERENT, HELD
 *	EXCLUSIVE	EXCLUSIVE, HELD
 *	DUPLICATED	SYSTEM; the copies end
 *	MIGRATING	MIGRATING, of the same piece
 *	else		what it was
 *
 * Locks: the gate, exclusive; then regions.lock, or one block's after the other.
 */
#include "remap.h"

#include <string.h>

#include "ctx.h"
#include "device.h"
#include "event.h"
#include "hook.h"
#include "log.h"
#include "maps.h"
#include "piece.h"
#include "taken.h"
#include "uffd.h"
#include "util.h"

/* A page on its way from one address to another. */
struct lifted {
	uint16_t word;
	struct frame frame; /* that holds it */
};

/* Longer than any thread takes from letting go of its mappings to sending its message. */
#define DEPARTURE_NS UINT64_C(10000000000)

/* So many at a time. */
#define LIFT_PAGES 64

/* A mapping that moves. */
struct move {
	struct umm_ctx *ctx;
	struct change *change;
	struct lifted pages[LIFT_PAGES];
};

static uintptr_t new_address(const struct move *move, uintptr_t addr)
{
	return move->change->to + (addr - move->change->start);
}

/* Its home, or the frame that it comes from, moves with it. */
static void lift_frame(struct move *move, struct block *block, unsigned i, struct frame *frame)
{
	struct resident *resident =
		frame->mem ? resident_find(block, frame->mem) : resident_of(block, i);

	*frame = (struct frame){ resident->mem, resident_frame(resident, i) };
	devmem_hold(resident->mem);
	resident_clear(move->ctx, block, resident, i);
}

/* Take page i off its block. True: it leaves copies behind. */
static bool lift_page(struct move *move, struct block *block, unsigned i, struct lifted *page)
{
	bool copies = false;

	*page = (struct lifted){ .word = block->page[i] };
	switch (page_state(block, i)) {
	case PG_DEVICE:
	case PG_COHERENT:
	case PG_EXCLUSIVE:
		page->word = (uint16_t)page_state(block, i) | PG_HELD;
		lift_frame(move, block, i, &page->frame);
		break;
	case PG_DUPLICATED:
		page->word = PG_SYSTEM | PG_GUARDED;
		copies = true;
		break;
	case PG_MIGRATING:
		piece_redirect(move->ctx, page_addr(block, i),
			       new_address(move, page_addr(block, i)), &page->frame);
		if (page->frame.mem)
			lift_frame(move, block, i, &page->frame);
		copies = resident_of(block, i);
		break;
	case PG_POISONED:
		page->word = PG_POISONED;
		break;
	default:
		break;
	}
	page_set(block, i, PG_UNMANAGED);
	return copies;
}

/* Pages from addr on, at most to end. How many. */
static unsigned lift_pages(struct move *move, struct block *block, uintptr_t addr, uintptr_t end)
{
	uint64_t copies[BITMAP_WORDS] = { 0 };
	unsigned first = page_index(addr), n;

	for (n = 0;
	     n < LIFT_PAGES && first + n < UMM_BLOCK_PAGES && page_addr(block, first + n) < end;
	     n++)
		if (lift_page(move, block, first + n, &move->pages[n]))
			bit_set(copies, first + n);
	change_loosen(move->ctx, move->change, block, copies);
	return n;
}

/* There is no memory to note where the page is. */
static void lose_page(struct move *move, uintptr_t to, const struct lifted *page)
{
	struct frame source;

	log_error("no memory to follow the page at %#lx, which moved: it is lost",
		  (unsigned long)to);
	if ((page->word & PG_STATE_MASK) == PG_MIGRATING)
		piece_redirect(move->ctx, to, 0, &source);
	else if (page->frame.mem)
		atomic_fetch_sub(&page->frame.mem->pages, 1);
}

static void set_page(struct move *move, struct block *block, unsigned i, const struct lifted *page)
{
	page_set(block, i, page->word & PG_STATE_MASK);
	block->page[i] = page->word & (uint16_t)~PG_HELD;
	if (page->word & PG_HELD)
		change_hold(move->change, block, i);
	if (page->word & PG_DROPPING)
		block->dropped_ns = now_ns();
	if (!page->frame.mem ||
	    !resident_set(move->ctx, block, page->frame.mem, i, page->frame.number))
		return;
	lose_page(move, page_addr(block, i), page);
	page_set(block, i, PG_POISONED);
}

static void land_page(struct move *move, uintptr_t to, const struct lifted *page)
{
	struct block *block;
	int ret;

	if ((page->word & PG_STATE_MASK) == PG_UNMANAGED)
		return;
	block = block_get(move->ctx, to, &ret);
	if (block) {
		set_page(move, block, page_index(to), page);
		block_put(move->ctx, block);
	} else {
		lose_page(move, to, page);
	}
	if (page->frame.mem)
		devmem_unuse(page->frame.mem);
}

/* Pages of the block from addr on, at most to end. Returns how far it went. */
static uintptr_t move_pages(struct move *move, struct block *block, uintptr_t addr, uintptr_t end)
{
	unsigned n = lift_pages(move, block, addr, end);
	uintptr_t va = block->va;
	bool wake = block->waiters;

	/* Who waits here looks again. */
	block->waiters = false;
	block_put(move->ctx, block);
	if (wake)
		ctx_wake_block(move->ctx, va);
	for (unsigned i = 0; i < n; i++)
		land_page(move, new_address(move, addr + ((uintptr_t)i << UMM_PAGE_SHIFT)),
			  &move->pages[i]);
	return addr + ((uintptr_t)n << UMM_PAGE_SHIFT);
}

void remap_forget_arrivals(struct umm_ctx *ctx)
{
	if (ctx->arrivals.any)
		ctx->arrivals = (struct arrivals){ 0 };
}

static void arrival_note(struct umm_ctx *ctx, uintptr_t start, size_t len)
{
	struct arrivals *arrivals = &ctx->arrivals;

	arrivals->list[arrivals->next++ % NR_ARRIVALS] = (struct umm_span){ start, len };
	arrivals->any = true;
}

/*
 * Where the first part of at .. end ends that fares alike: a mapping has arrived lately in all of
 * it (true), or in none.
 */
static bool arrival_clip(const struct arrivals *arrivals, uintptr_t at, uintptr_t *end)
{
	const struct umm_span *span, *stop = &arrivals->list[NR_ARRIVALS];

	for (span = arrivals->list; span < stop; span++) {
		if (span->start <= at && at < span->start + span->len) {
			*end = min(*end, span->start + span->len);
			return true;
		}
	}
	for (span = arrivals->list; span < stop; span++)
		if (span->len && span->start > at)
			*end = min(*end, span->start);
	return false;
}

/*
 * The first mapping of at .. end that is registered, and so not a new one; of no length: none. Each
 * mapping is registered as a whole.
 */
static struct umm_span registered_next(struct umm_ctx *ctx, uintptr_t at, uintptr_t end)
{
	bool query = ctx->features & UMM_KERNEL_PROCMAP_QUERY;
	struct maps_vma vma;
	uintptr_t stop;

	while (at < end && !maps_find(at, query, &vma) && vma.start < end) {
		at = max(at, vma.start);
		stop = min(vma.end, end);
		if (uffd_is_registered(at, stop - at))
			return (struct umm_span){ at, stop - at };
		at = stop;
	}
	return (struct umm_span){ end, 0 };
}

static bool is_managed(struct umm_ctx *ctx, uintptr_t start, uintptr_t end)
{
	struct umm_span managed;

	return region_next(ctx, start, end, &managed);
}

/* Clear what is not mapped any more, with nothing on its way that would say where it went. */
static void clear_unmapped(struct umm_ctx *ctx, uintptr_t start, uintptr_t end)
{
	struct umm_span there;

	for (uintptr_t at = start; at < end; at = there.start + there.len) {
		there = registered_next(ctx, at, end);
		if (is_managed(ctx, at, there.start))
			event_clear(ctx, at, there.start, true);
	}
}

/* Somebody who was waited for has not come: what happens now is a guess. */
static void say_late(uintptr_t start, uintptr_t end)
{
	log_warning("threads have changed mappings for %u s without an end: pages at %#lx .. %#lx "
		    "may be taken for those of another mapping; let one thread at a time unmap "
		    "and move what others move to the same addresses",
		    (unsigned)(DEPARTURE_NS / 1000000000u), (unsigned long)start,
		    (unsigned long)end);
}

/*
 * A message says that start .. end was unmapped, where a mapping has arrived before it was read. It
 * may speak of that one, or of what was there before. Read on until it is known:
 *
 *	another mapping arrives		it spoke of the one that the books know of
 *	that one moved away		it spoke of one before
 *	nothing is on its way		what is mapped, and registered, stays
 */
static void unmap_arrived(struct umm_ctx *ctx, uintptr_t start, uintptr_t end)
{
	uint64_t deadline = now_ns() + DEPARTURE_NS;
	struct doubt doubt = { .next = ctx->doubts, .start = start, .end = end };

	ctx->doubts = &doubt;
	while (!doubt.over && is_managed(ctx, start, end) && event_is_changing(ctx) &&
	       now_ns() < deadline)
		event_read_ahead(ctx);
	ctx->doubts = doubt.next;
	if (now_ns() >= deadline)
		say_late(start, end);
	if (!doubt.over)
		clear_unmapped(ctx, start, end);
}

/* A mapping arrives: what was unmapped where it is now was what the books know of. */
static void doubts_resolve(struct umm_ctx *ctx, uintptr_t start, uintptr_t end)
{
	for (struct doubt *doubt = ctx->doubts; doubt; doubt = doubt->next) {
		if (doubt->over || doubt->start >= end || start >= doubt->end)
			continue;
		doubt->over = true;
		event_clear(ctx, doubt->start, doubt->end, true);
	}
}

void remap_unmapped(struct umm_ctx *ctx, const struct uffd_msg_info *info)
{
	bool arrived = false;
	uintptr_t end;

	for (uintptr_t at = info->addr; at < info->end; at = end) {
		end = info->end;
		if (arrival_clip(&ctx->arrivals, at, &end))
			arrived = true;
		else if (is_managed(ctx, at, end))
			event_clear(ctx, at, end, true);
		else
			taken_drop(ctx, at, end);
	}
	if (arrived)
		unmap_arrived(ctx, info->addr, info->end);
}

/*
 * Where a mapping moved to there is no other one any more; but the message of the one that was
 * there, which another thread moved away or unmapped, may be behind this one.
 */
static void await_departure(struct umm_ctx *ctx, const struct uffd_msg_info *info)
{
	struct departure mine = {
		.next = ctx->departures,
		.start = info->addr,
		.end = info->end,
	};
	uintptr_t end = info->to + (info->end - info->addr);
	uint64_t deadline = now_ns() + DEPARTURE_NS;

	/* Its sender has gone on: what is read may also be the second message of this move. */
	ctx->departures = &mine;
	while (is_managed(ctx, info->to, end) && event_is_changing(ctx) && now_ns() < deadline)
		event_read_ahead(ctx);
	ctx->departures = mine.next;
	if (now_ns() >= deadline)
		say_late(info->to, end);
}

bool remap_is_echo(struct umm_ctx *ctx, const struct uffd_msg_info *info)
{
	struct departure *departure = ctx->departures;

	while (departure &&
	       (departure->start != info->addr || departure->end != info->end || departure->echoed))
		departure = departure->next;
	if (departure)
		departure->echoed = true;
	return departure;
}

/* Do they speak of the same addresses? */
static bool concerns(const struct uffd_msg_info *info, uintptr_t start, uintptr_t end)
{
	uintptr_t to_end = info->to + (info->end - info->addr);

	if (info->addr < end && start < info->end)
		return true;
	return info->kind == UFFD_REMAP && info->to < end && start < to_end;
}

static bool concerns_same(const struct uffd_msg_info *info, const struct uffd_msg_info *other)
{
	uintptr_t to_end = other->to + (other->end - other->addr);

	return concerns(info, other->addr, other->end) ||
	       (other->kind == UFFD_REMAP && concerns(info, other->to, to_end));
}

bool remap_postpone(struct umm_ctx *ctx, const struct uffd_msg_info *info)
{
	bool wait = false;

	for (const struct departure *d = ctx->departures; d && !wait; d = d->next)
		wait = concerns(info, d->start, d->end);
	for (unsigned k = 0; k < ctx->npostponed && !wait; k++)
		wait = concerns_same(info, &ctx->postponed[k]);
	if (!wait || ctx->npostponed == NR_POSTPONED)
		return false;
	ctx->postponed[ctx->npostponed++] = *info;
	return true;
}

/* A move is in the books: what had to wait for it goes on, or waits for another one. */
static void resume_postponed(struct umm_ctx *ctx)
{
	struct uffd_msg_info list[NR_POSTPONED];
	unsigned n = ctx->npostponed;

	memcpy(list, ctx->postponed, n * sizeof(*list));
	ctx->npostponed = 0;
	for (unsigned k = 0; k < n; k++)
		event_dispatch(ctx, &list[k]);
}

void remap_apply(struct umm_ctx *ctx, const struct uffd_msg_info *info)
{
	size_t len = info->end - info->addr;
	struct change what = {
		.start = info->addr,
		.end = info->end,
		.to = info->to,
		.unmap = true,
	};
	struct move move = { .ctx = ctx };
	uintptr_t at = info->addr;
	struct block *block;

	doubts_resolve(ctx, info->to, info->to + len);
	await_departure(ctx, info);
	if (is_managed(ctx, info->to, info->to + len))
		event_clear(ctx, info->to, info->to + len, true);
	pool_urgent_begin();
	region_move(ctx, info->addr, info->to, len);
	hook_run(HOOK_CLEARING, info->addr);
	move.change = change_begin(ctx, &what);
	while (at < info->end && (block = block_next(ctx, at, info->end)))
		at = move_pages(&move, block, max(at, block->va), info->end);
	region_renew(ctx, info->addr, info->end);
	taken_follow(ctx, info);
	change_announce(ctx, move.change);
	pool_urgent_end();
	arrival_note(ctx, info->to, len);
	resume_postponed(ctx);
}
