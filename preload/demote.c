/* SPDX-License-Identifier: MIT */
/*
 * Moving cold pages to devices and wanted ones home.
 *
 * Pages leave in batches of a few blocks, so that taking them from the CPU, copying, and the
 * next block overlap. While a batch is chosen and moved its address range is held (space.h): the
 * program cannot unmap it between the look and the move. A block becomes libumm's the moment
 * before its first page leaves, and not earlier: until then it costs nothing, and from then on
 * the kernel tells libumm of every change. In the books it is native, and counts whole, until
 * that has happened: before, the kernel fills it.
 *
 * Static buffers, for nothing here may call malloc; the engine's thread is the only caller.
 */
#include "demote.h"

#include <errno.h>
#include <stdbool.h>

#include "aside.h"
#include "grant.h"
#include "policy.h"
#include "residency.h"
#include "room.h"
#include "space.h"
#include "tiers.h"
#include "touches.h"
#include "trace.h"

#define PAGE  ((uintptr_t)4096)
#define BLOCK ((uintptr_t)2 << 20)

enum {
	BATCH_BLOCKS = 16,
	BATCH_SPANS = BATCH_BLOCKS * POLICY_PAGES / 2,
	BATCH_PAGES = 4 * POLICY_PAGES,
};

static struct batch {
	uintptr_t base[BATCH_BLOCKS];
	unsigned nblocks, nspans;
	uint64_t npages;
	struct umm_span span[BATCH_SPANS];
	uintptr_t start, end; /* of all its blocks */
	struct trace_event event;
} batch;

static void span_add(uintptr_t addr)
{
	struct umm_span *last = batch.nspans ? &batch.span[batch.nspans - 1] : NULL;

	batch.npages++;
	if (last && last->start + last->len == addr)
		last->len += PAGE;
	else
		batch.span[batch.nspans++] = (struct umm_span){ .start = addr, .len = PAGE };
}

/* Choose from the block whose turn it is. */
static void batch_add_block(struct umm_ctx *ctx, uintptr_t base, unsigned want)
{
	static unsigned char present[POLICY_PAGES];
	bool empty = !residency_block(base, present);

	if (aside_end(ctx, base, present))
		return;
	if (empty) {
		struct space_range range;

		grant_withhold_untouched(base, base + BLOCK);
		if (!space_next(base, SPACE_USED, &range) || range.start >= base + BLOCK)
			policy_forget(base);
		return;
	}
	if (!policy_choose(base, present, want))
		return;
	batch.base[batch.nblocks++] = base;
	for (unsigned i = 0; i < POLICY_PAGES; i++)
		if (present[i])
			span_add(base + i * PAGE);
}

/* Fill the batch, in at most so many turns; the turns that were taken. */
static size_t batch_fill(struct umm_ctx *ctx, uint64_t want, size_t turns)
{
	size_t taken = 0;
	uintptr_t base;

	batch.nblocks = batch.nspans = 0;
	batch.npages = 0;
	want = want < BATCH_PAGES ? want : BATCH_PAGES;
	while (taken < turns && batch.npages < want && batch.nblocks < BATCH_BLOCKS &&
	       policy_turn(&base)) {
		taken++;
		batch_add_block(ctx, base, (unsigned)(want - batch.npages));
	}
	return taken;
}

/* What of start..end is not libumm's yet: a mapping that moved took along what it was. */
static int attach_rest(struct umm_ctx *ctx, uintptr_t start, uintptr_t end)
{
	static struct umm_page_info info[POLICY_PAGES];
	size_t npages = (end - start) / PAGE, next;
	int ret = umm_query(ctx, start, npages, info);

	for (size_t i = 0; i < npages && !ret; i = next) {
		bool foreign = info[i].state == UMM_PAGE_UNMANAGED;

		for (next = i + 1; next < npages; next++)
			if ((info[next].state == UMM_PAGE_UNMANAGED) != foreign)
				break;
		if (foreign)
			ret = umm_attach(ctx, (void *)(start + i * PAGE), (next - i) * PAGE);
	}
	return ret;
}

/* What cannot be managed stays what it is. What has grown counts by its pages already. */
static void attach(struct umm_ctx *ctx, const struct space_range *range)
{
	size_t len = range->end - range->start;
	struct space_change change;
	int ret = umm_attach(ctx, (void *)range->start, len);

	if (ret == -EEXIST)
		ret = attach_rest(ctx, range->start, range->end);
	if (ret || range->kind != SPACE_GROWN)
		return;
	space_enter(&change);
	space_turn_locked(range->start, len, SPACE_GROWN, SPACE_MANAGED);
	space_leave(&change);
}

/* The next range of these kinds (bits) of the block at @base from @at on. */
static bool next_of(uintptr_t base, uintptr_t at, unsigned kinds, struct space_range *out)
{
	if (!space_next(at, kinds, out) || out->start >= base + BLOCK)
		return false;
	out->end = out->end < base + BLOCK ? out->end : base + BLOCK;
	return true;
}

void demote_attach(struct umm_ctx *ctx, uintptr_t base)
{
	struct space_range range;

	for (uintptr_t at = base; next_of(base, at, 1 << SPACE_NATIVE | 1 << SPACE_GROWN, &range);
	     at = range.end)
		attach(ctx, &range);
}

/* How many pages of a native range libumm has taken from the CPU: it is managed then. */
static uint64_t settle(struct umm_ctx *ctx, const struct space_range *range)
{
	static struct umm_page_info info[POLICY_PAGES];
	size_t npages = (range->end - range->start) / PAGE;
	uint64_t gone = 0, aside = 0;
	struct space_change change;

	if (umm_query(ctx, range->start, npages, info))
		return 0;
	for (size_t i = 0; i < npages; i++) {
		gone += info[i].state == UMM_PAGE_DEVICE;
		aside += info[i].state == UMM_PAGE_EXCLUSIVE;
	}
	if (!gone && !aside)
		return 0;
	residency_managed(residency_part(range->start, range->end) + aside);
	space_enter(&change);
	space_turn_locked(range->start, range->end - range->start, SPACE_NATIVE, SPACE_MANAGED);
	space_leave(&change);
	return gone;
}

uint64_t demote_settle(struct umm_ctx *ctx, uintptr_t base)
{
	struct space_range range;
	uint64_t gone = 0;

	for (uintptr_t at = base; next_of(base, at, 1 << SPACE_NATIVE, &range); at = range.end)
		gone += settle(ctx, &range);
	return gone;
}

/* Only what is chosen is held from here on, and libumm's. */
static void batch_prepare(struct umm_ctx *ctx)
{
	batch.event = (struct trace_event){ .kind = TRACE_EVICT, .start_ns = trace_begin() };
	batch.start = UINTPTR_MAX;
	batch.end = 0;
	for (unsigned i = 0; i < batch.nblocks; i++) {
		uintptr_t base = batch.base[i];

		batch.start = base < batch.start ? base : batch.start;
		batch.end = base + BLOCK > batch.end ? base + BLOCK : batch.end;
	}
	space_hold(batch.start, batch.end);
	for (unsigned i = 0; i < batch.nblocks; i++)
		demote_attach(ctx, batch.base[i]);
}

static long batch_move(struct umm_ctx *ctx)
{
	uint64_t were_native = 0;
	long moved;

	touches_own(true);
	moved = tiers_take(ctx, batch.span, batch.nspans);
	touches_own(false);
	for (unsigned i = 0; i < batch.nblocks; i++)
		were_native += demote_settle(ctx, batch.base[i]);
	if (moved <= 0)
		return moved;
	/* What was native has ceased to count whole. */
	if ((uint64_t)moved > were_native)
		residency_left((uint64_t)moved - were_native);
	for (unsigned i = 0; i < batch.nspans; i++)
		policy_demoted(batch.span[i].start, batch.span[i].len / PAGE);
	batch.event.addr = batch.start;
	batch.event.len = batch.end - batch.start;
	batch.event.npages = (uint32_t)moved;
	trace_put(batch.event);
	return moved;
}

/* Errors of one batch that the next one need not share. */
static bool is_passing(long ret)
{
	return ret >= 0 || ret == -EFAULT || ret == -EBUSY || ret == -ENOENT;
}

int demote_until(struct umm_ctx *ctx, uint64_t target, uint64_t enough)
{
	/* A hot page may stay 15 rounds: then all have had their chance. */
	size_t turns = 16 * policy_blocks(), taken;
	uint64_t bound;

	while ((bound = residency_bound(ctx)) > target && turns) {
		long moved = 0;

		if (bound <= enough && touches_are_urgent())
			return 0;
		space_hold(0, UINTPTR_MAX);
		taken = batch_fill(ctx, bound - target, turns);
		if (batch.nspans) {
			batch_prepare(ctx);
			moved = batch_move(ctx);
		}
		space_release();
		if (!is_passing(moved))
			return (int)moved;
		if (!taken)
			return -EBUSY;
		turns -= taken;
	}
	return bound > target ? -EBUSY : 0;
}

void demote_begin(struct umm_ctx *ctx, uint64_t npages)
{
	uint64_t nfree = tiers_free();

	space_hold(0, UINTPTR_MAX);
	/* No block's turn is taken, and none becomes libumm's, for pages that cannot leave. */
	batch_fill(ctx, npages < nfree ? npages : nfree, policy_blocks());
	if (!batch.nspans) {
		space_release();
		return;
	}
	batch_prepare(ctx);
	tiers_take_begin(ctx, batch.span, batch.nspans);
}

void demote_end(struct umm_ctx *ctx)
{
	if (!batch.nspans)
		return;
	batch_move(ctx);
	space_release();
}

void promote_pages(struct umm_ctx *ctx, const struct policy_fetch *fetch)
{
	uintptr_t end = fetch->start + fetch->npages * PAGE;
	bool starts_with_mark = fetch->mark == fetch->start;
	struct umm_span spans[] = {
		{ .start = fetch->start, .len = fetch->mark - fetch->start },
		{ .start = fetch->mark + PAGE, .len = end - fetch->mark - PAGE },
	};
	struct umm_migrate_request request = {
		.size = sizeof(request),
		.spans = spans + starts_with_mark,
		.nspans = 2 - starts_with_mark,
		.cause = UMM_CAUSE_CPU_FAULT,
	};
	struct trace_event event = {
		.kind = TRACE_BRING_ALONG,
		.start_ns = trace_begin(),
		.addr = fetch->start,
		.len = end - fetch->start,
	};
	long moved;

	room_take(fetch->npages);
	touches_own(true);
	moved = umm_migrate_spans(ctx, &request, NULL);
	touches_own(false);
	if (moved <= 0)
		return;
	event.npages = (uint32_t)moved;
	trace_put(event);
}
