/* SPDX-License-Identifier: MIT */
/*
 * Changes. The program goes on as soon as its event is read, so the states of pages change at
 * once, under the gate; mirrors, which may take time, are told by a worker. In between
 *
 *	- frames whose pages have left are loose: in no block, and not given back, since a mirror
 *	  may still translate to them;
 *	- pages that such a frame came to, or that lost one, are HELD: who touches them waits.
 *
 * Workers tell of several changes at once, but those of a page end in the order in which they were
 * made: a frame that moved twice is given back when mirrors know of both moves. Others do not wait
 * for each other: a callback may wait for somebody who waits for the end of a later one.
 *
 *	reader of events		worker
 *	change_begin()
 *	states, HELD, loose frames
 *	change_announce()
 *	the program goes on
 *					mirrors are told, each waited for until it is
 *					all before it of these pages are told, too:
 *					HELD ends, frames are given back, waiters wake
 *
 * Invariant: a HELD page belongs to a change that is in the list, of a number up to its block's
 * `held`, or to one that is just letting go of it.
 * Locks: changes.lock, also below a block's. None where mirrors are told.
 */
#include "change.h"

#include "ctx.h"
#include "event.h"
#include "log.h"
#include "signals.h"
#include "uffd.h"
#include "util.h"

/* How long to wait for pages in flight before looking again. */
#define SETTLE_NS UINT64_C(100000000)

void changes_init(struct changes *changes)
{
	lock_init(&changes->lock, RANK_LEAF);
	changes->head = NULL;
	changes->tail = &changes->head;
	changes->number = 0;
	pool_init(&changes->pool, sizeof(struct change), NULL);
	pool_keep(&changes->pool);
}

void changes_fini(struct changes *changes)
{
	pool_fini(&changes->pool);
	lock_fini(&changes->lock);
}

struct change *change_begin(struct umm_ctx *ctx, struct change *change)
{
	struct changes *changes = &ctx->changes;
	struct change *noted = pool_alloc(&changes->pool);

	if (!noted) {
		log_error("no memory to note a change at %#lx", (unsigned long)change->start);
		return change;
	}
	*noted = *change;
	lock_take(&changes->lock);
	noted->number = ++changes->number;
	*changes->tail = noted;
	changes->tail = &noted->next;
	lock_drop(&changes->lock);
	return noted;
}

void change_loosen(struct umm_ctx *ctx, struct change *change, struct block *block,
		   const uint64_t *pages)
{
	residents_detach(ctx, block, pages, change->number ? &change->loose : NULL);
}

void change_hold(const struct change *change, struct block *block, unsigned i)
{
	if (!change->number)
		return;
	block->page[i] |= PG_HELD;
	block->held = change->number;
}

/* Does it concern any of these pages, or did some of them come to there? */
static bool concerns(const struct change *change, uintptr_t start, uintptr_t end)
{
	uintptr_t len = change->end - change->start;

	return (change->start < end && start < change->end) ||
	       (change->to && change->to < end && start < change->to + len);
}

/* Does a change concern these addresses of which mirrors have not been told? */
static bool any_change(struct umm_ctx *ctx, uintptr_t start, uintptr_t end)
{
	struct changes *changes = &ctx->changes;
	const struct change *change;

	lock_take(&changes->lock);
	for (change = changes->head; change && !concerns(change, start, end); change = change->next)
		;
	lock_drop(&changes->lock);
	return change;
}

/*
 * The change concerns pages of start .. end no longer: they are not HELD, unless others, before it
 * or later, hold some.
 */
static void let_go(struct umm_ctx *ctx, const struct change *change, uintptr_t start, uintptr_t end)
{
	bool others = any_change(ctx, start, end), wake;
	struct block *block;
	uintptr_t at = start, va;

	while (at < end && (block = block_next(ctx, at, end))) {
		for (va = max(at, block->va); va < min(end, block->va + UMM_BLOCK_SIZE);
		     va += UMM_PAGE_SIZE)
			if ((!others && block->held <= change->number) ||
			    !any_change(ctx, va, va + UMM_PAGE_SIZE))
				block->page[page_index(va)] &= (uint16_t)~PG_HELD;
		va = block->va;
		wake = block->waiters;
		block->waiters = false;
		lock_drop(&block->lock);
		if (wake)
			ctx_wake_block(ctx, va);
		at = va + UMM_BLOCK_SIZE;
	}
}

/* One that is not in the list any more. */
static void change_end(struct umm_ctx *ctx, struct change *change)
{
	let_go(ctx, change, change->start, change->end);
	if (change->to)
		let_go(ctx, change, change->to, change->to + (change->end - change->start));
	residents_release(ctx, change->loose);
	pool_free(&ctx->changes.pool, change);
	ctx_settled(ctx);
}

static bool have_page_in_common(const struct change *a, const struct change *b)
{
	return concerns(a, b->start, b->end) ||
	       (b->to && concerns(a, b->to, b->to + (b->end - b->start)));
}

/* Do mirrors know of it, and is none before it left of a page of its? */
static bool may_end(const struct changes *changes, const struct change *change)
	UMM_REQUIRES(&changes->lock)
{
	const struct change *before = changes->head;

	if (!change->told)
		return false;
	while (before != change && !have_page_in_common(before, change))
		before = before->next;
	return before == change;
}

static void change_unlink(struct changes *changes, struct change **link)
	UMM_REQUIRES(&changes->lock)
{
	if (changes->tail == &(*link)->next)
		changes->tail = link;
	*link = (*link)->next;
}

/* The first change that may end, taken off the list. */
static struct change *change_pop(struct changes *changes)
{
	struct change **link = &changes->head, *change;

	lock_take(&changes->lock);
	while (*link && !may_end(changes, *link))
		link = &(*link)->next;
	change = *link;
	if (change)
		change_unlink(changes, link);
	lock_drop(&changes->lock);
	return change;
}

static void changes_end(struct umm_ctx *ctx)
{
	struct change *change;

	while ((change = change_pop(&ctx->changes)))
		change_end(ctx, change);
}

/* Frames that pages outside of start .. end have left are given back. Returns the rest. */
static struct resident *give_known(struct umm_ctx *ctx, struct resident *list, uintptr_t start,
				   uintptr_t end)
{
	struct resident *resident, *rest = NULL;

	while ((resident = list)) {
		uint64_t known[BITMAP_WORDS] = { 0 };

		list = resident->next;
		for (unsigned i = 0; i < UMM_BLOCK_PAGES; i++) {
			uintptr_t at = resident->va + ((uintptr_t)i << UMM_PAGE_SHIFT);

			if (bit_test(resident->bitmap, i) && (at < start || at >= end))
				bit_set(known, i);
		}
		if (!resident_release(ctx, resident, known)) {
			resident->next = rest;
			rest = resident;
		}
	}
	return rest;
}

/* Frames of pages that the change is not about any more are given back. */
static void give_back_known(struct umm_ctx *ctx, struct change *change)
{
	struct changes *changes = &ctx->changes;
	struct resident *list, **last;
	uintptr_t start, end;
	bool again;

	do {
		lock_take(&changes->lock);
		list = change->loose;
		change->loose = NULL;
		start = change->start;
		end = change->end;
		lock_drop(&changes->lock);
		list = give_known(ctx, list, start, end);
		lock_take(&changes->lock);
		for (last = &list; *last; last = &(*last)->next)
			;
		*last = change->loose;
		change->loose = list;
		/* Who shrank it further meanwhile did not find these. */
		again = start != change->start || end != change->end;
		lock_drop(&changes->lock);
	} while (again);
}

/* Did mremap() bring pages there before, of which others do not know yet? */
static bool follows_move(const struct changes *changes, const struct change *change)
	UMM_REQUIRES(&changes->lock)
{
	const struct change *before = changes->head;

	while (before != change && !(before->to && have_page_in_common(before, change)))
		before = before->next;
	return before != change;
}

/*
 * It is about less from now on: *was is what it was about. False: it stays as it is. Where pages
 * moved who watches one address need not be who watched the other, and frames may be known there.
 */
static bool shrink(struct changes *changes, struct change *change, uintptr_t low, uintptr_t high,
		   struct umm_span *was)
{
	bool shrinks;

	lock_take(&changes->lock);
	*was = (struct umm_span){ change->start, change->end - change->start };
	if (!change->to && !follows_move(changes, change)) {
		change->start = max(change->start, align_down(low, UMM_PAGE_SIZE));
		change->end = align_up(min(change->end, high), UMM_PAGE_SIZE);
	}
	shrinks = change->end - change->start < was->len;
	lock_drop(&changes->lock);
	return shrinks;
}

/*
 * Who has yet to be told may sleep for long. What lies before and behind all that those watch is
 * no part of the change any more: pages are let go of, later changes of theirs may end, and frames
 * are given back.
 */
static void change_some_told(struct umm_ctx *ctx, void *priv)
{
	struct change *change = priv;
	struct umm_span was;
	uintptr_t low, high;

	if (!notifier_untold(ctx, &change->telling, &low, &high) ||
	    !shrink(&ctx->changes, change, low, high, &was))
		return;
	signals_hold();
	let_go(ctx, change, was.start, max(was.start, align_down(low, UMM_PAGE_SIZE)));
	let_go(ctx, change, align_up(min(was.start + was.len, high), UMM_PAGE_SIZE),
	       was.start + was.len);
	give_back_known(ctx, change);
	changes_end(ctx);
	ctx_settled(ctx);
	signals_let();
}

static void change_all_told(struct umm_ctx *ctx, void *priv)
{
	struct change *change = priv;

	signals_hold();
	lock_take(&ctx->changes.lock);
	change->told = true;
	lock_drop(&ctx->changes.lock);
	changes_end(ctx);
	signals_let();
}

void change_tell(struct umm_ctx *ctx, struct change *change)
{
	struct umm_notifier_range range = event_range(change->start, change->end, change->unmap);

	notifier_invalidate(ctx, &range);
	if (change->number)
		change_all_told(ctx, change);
}

static void change_work(struct umm_ctx *ctx, const struct work *work)
{
	struct change *change = work->priv;
	struct umm_notifier_range range = event_range(change->start, change->end, change->unmap);

	change->telling = (struct notifier_telling){
		.some_told = change_some_told,
		.all_told = change_all_told,
		.priv = change,
		.left = 1,
	};
	notifier_tell(ctx, &range, &change->telling);
	/* Who does not know of it yet is waited for all the same. */
	notifier_end(ctx, change->active);
	notifier_asked(ctx, &change->telling);
}

/* End a change of which nobody has to be told, and which left no frames. No op is called. */
static void change_end_quietly(struct umm_ctx *ctx, struct change *change)
{
	struct changes *changes = &ctx->changes;
	struct change **link = &changes->head;
	bool ends;

	lock_take(&changes->lock);
	change->told = true;
	/* Else whoever ends the one before goes on with this one. */
	ends = may_end(changes, change);
	if (ends) {
		while (*link != change)
			link = &(*link)->next;
		change_unlink(changes, link);
	}
	lock_drop(&changes->lock);
	if (ends)
		change_end(ctx, change);
}

void change_announce(struct umm_ctx *ctx, struct change *change)
{
	struct work work = { .fn = change_work, .addr = change->start, .priv = change };

	if (!change->number)
		return;
	if (!change->loose && !atomic_load(&ctx->notifiers.count)) {
		change_end_quietly(ctx, change);
		return;
	}
	change->active = notifier_begin(ctx, change->start, change->end);
	if (!workers_queue(&ctx->workers, &work))
		return;
	log_error("no memory to tell devices of a change at %#lx: frames are lost to them",
		  (unsigned long)change->start);
	notifier_end(ctx, change->active);
	change->loose = NULL;
	change_end_quietly(ctx, change);
}

void change_wait(struct umm_ctx *ctx, uintptr_t start, uintptr_t end)
{
	struct patience patience = { 0 };
	uint32_t seen;

	event_await_quiet(ctx);
	while (seen = ctx_settle_count(ctx),
	       any_change(ctx, start, end) || event_any_in_flight(ctx, start, end)) {
		ctx_still_waiting(&patience, start);
		ctx_settle_wait(ctx, seen, now_ns() + SETTLE_NS);
	}
}
