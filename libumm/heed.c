/* SPDX-License-Identifier: MIT */
/*
 * Heeding hints. Each decision is about one page, by its hints, by where it is, and by who asks:
 *
 *	who asks			stays if hinted
 *	a device that faults		NO_MIGRATE, ACCESSED_BY it, PREFERRED where it is; as far
 *					as the device can use it there
 *	a request made ahead		NO_MIGRATE, LATENCY_CRITICAL
 *	an eviction			likewise, in the first of two passes
 *	all others, exclusive access	never
 *
 * ACCESSED_BY also has a second half: when pages have moved, or the hint is new, the mover calls
 * the device's op, so that it maps them. The device is found by its number then: it may have gone.
 *
 * When a hint ends that kept pages, devices go on using them in place, without a fault that could
 * ask again. So mirrors are told to forget entries of pages that are not kept for everybody now.
 *
 * Locks: a block's in heed_keeps() and heed_ended(), hints.lock inside of it; else none.
 */
#include "heed.h"

#include <errno.h>
#include <string.h>

#include "log.h"
#include "util.h"

static void cursor_begin(struct umm_ctx *ctx, struct hint_cursor *cursor)
{
	*cursor = (struct hint_cursor){ .hints = &ctx->hints, .map = &ctx->hints.advice };
}

static unsigned order_at(struct hint_cursor *cursor, uintptr_t addr)
{
	return hint_at(cursor, addr)->order;
}

/* The unit of 2^order pages that page i is in, as far as it has this granularity. Its end. */
static unsigned widen_unit(struct hint_cursor *cursor, uintptr_t va, unsigned i, unsigned order,
			   uint64_t *pages)
{
	unsigned first = i & ~((1u << order) - 1), last = first + (1u << order);

	for (unsigned k = first; k < last; k++)
		if (order_at(cursor, va + ((uintptr_t)k << UMM_PAGE_SHIFT)) >= order)
			bit_set(pages, k);
	return last;
}

static void widen(struct hint_cursor *cursor, uintptr_t va, uint64_t *pages)
{
	unsigned done[ORDER_MOST + 1] = { 0 }; /* by order: units before are widened */
	uint64_t asked[BITMAP_WORDS];

	memcpy(asked, pages, sizeof(asked));
	for (unsigned i = bit_next(asked, 0); i < UMM_BLOCK_PAGES; i = bit_next(asked, i + 1)) {
		unsigned order = order_at(cursor, va + ((uintptr_t)i << UMM_PAGE_SHIFT));

		if (order && i >= done[order])
			done[order] = widen_unit(cursor, va, i, order, pages);
	}
}

void heed_request(struct umm_ctx *ctx, struct piece_want *want, uint64_t *pages,
		  struct hint_cursor *cursor)
{
	cursor_begin(ctx, cursor);
	want->hints = cursor;
	if (want->cause == UMM_CAUSE_DEVICE_FAULT)
		widen(cursor, want->va, pages);
}

bool heed_fault(struct umm_ctx *ctx, struct piece_want *want, uint64_t *page,
		struct hint_cursor *cursor)
{
	cursor_begin(ctx, cursor);
	widen(cursor, want->va, page);
	want->hints = cursor;
	return bit_count(page) > 1;
}

static bool only_elsewhere(struct block *block, const struct piece_want *want, unsigned i)
{
	enum page_state state = block ? page_state(block, i) : PG_NATIVE;

	return (state == PG_DEVICE || state == PG_COHERENT) &&
	       resident_of(block, i)->mem != want->dst;
}

bool heed_read_mostly(struct umm_ctx *ctx, const struct piece_want *want,
		      struct heed_copies *copies)
{
	struct block *block = block_find(ctx, want->va);
	const struct hint_attrs *attrs;
	bool any = false;

	*copies = (struct heed_copies){ 0 };
	for (unsigned i = bit_next(want->pages, 0); i < UMM_BLOCK_PAGES;
	     i = bit_next(want->pages, i + 1)) {
		attrs = hint_at(want->hints, want->va + ((uintptr_t)i << UMM_PAGE_SHIFT));
		if (!hint_has(attrs, UMM_HINT_READ_MOSTLY))
			continue;
		any = true;
		bit_set(copies->pages, i);
		if (only_elsewhere(block, want, i))
			bit_set(copies->elsewhere, i);
	}
	if (block)
		lock_drop(&block->lock);
	return any;
}

/* Can every device with UMM_DEVICE_IN_PLACE use it where it is? */
static bool usable_in_place(enum page_state state)
{
	return state == PG_SYSTEM || state == PG_DUPLICATED || state == PG_COHERENT;
}

static bool is_where_preferred(const struct hint_attrs *attrs, struct block *block, unsigned i)
{
	if (!attrs->mem)
		return page_state(block, i) != PG_COHERENT;
	return page_state(block, i) == PG_COHERENT && resident_of(block, i)->mem == attrs->mem;
}

/* Whichever device faults on it. */
static bool is_kept_for_all(const struct hint_attrs *attrs, struct block *block, unsigned i)
{
	return hint_has(attrs, UMM_HINT_NO_MIGRATE) ||
	       (hint_has(attrs, UMM_HINT_PREFERRED) && is_where_preferred(attrs, block, i));
}

/* The device could use it in place: should it? */
static bool keeps_from_device(struct hint_cursor *cursor, const struct umm_device *dev,
			      struct block *block, unsigned i)
{
	const struct hint_attrs *attrs = hint_at(cursor, page_addr(block, i));
	int number;

	/* An untouched page is created where it is preferred. */
	if (page_state(block, i) == PG_EMPTY)
		return hint_has(attrs, UMM_HINT_PREFERRED) && !attrs->mem;
	if (!usable_in_place(page_state(block, i)))
		return false;
	if (is_kept_for_all(attrs, block, i))
		return true;
	if (!hint_has(attrs, UMM_HINT_ACCESSED_BY))
		return false;
	number = hint_device_number(cursor->hints, dev);
	return number >= 0 && attrs->devices >> number & 1;
}

static bool is_kept(struct hint_cursor *cursor, uintptr_t addr)
{
	const struct hint_attrs *attrs = hint_at(cursor, addr);

	return hint_has(attrs, UMM_HINT_NO_MIGRATE) || hint_has(attrs, UMM_HINT_LATENCY_CRITICAL);
}

bool heed_keeps(const struct piece_want *want, struct block *block, unsigned i)
{
	if (want->ahead && is_kept(want->hints, page_addr(block, i)))
		return true;
	if (want->cause == UMM_CAUSE_READAHEAD)
		return hint_at(want->hints, page_addr(block, i))->readahead == UMM_READAHEAD_OFF;
	if (want->cause == UMM_CAUSE_EVICT && want->src && !atomic_load(&want->src->pressed))
		return is_kept(want->hints, page_addr(block, i));
	if (want->cause != UMM_CAUSE_DEVICE_FAULT || !want->dst || want->duplicate)
		return false;
	return want->dst->dev->in_place && keeps_from_device(want->hints, want->dst->dev, block, i);
}

int heed_evict(struct umm_devmem *mem, uint32_t nfree, uint64_t clock, uintptr_t va, bool waits)
{
	int ret = evict(mem, nfree, clock, va, waits);

	if (ret != -ENOSPC || !hints_any(&mem->ctx->hints))
		return ret;
	atomic_fetch_add(&mem->pressed, 1);
	ret = evict(mem, nfree, clock, va, waits);
	atomic_fetch_sub(&mem->pressed, 1);
	return ret;
}

/* The end of the stretch from `at` on of which ACCESSED_BY names the number; `at`: none. */
static uintptr_t named_until(struct hint_cursor *cursor, uintptr_t at, uintptr_t end,
			     unsigned number)
{
	while (at < end && hint_at(cursor, at)->devices >> number & 1)
		at = min(cursor->end, end);
	return at;
}

/*
 * On the mover, which nothing that the op may wait for needs. The hint may have ended meanwhile, or
 * the number be another device's: but what names it now means the device that has it now, until
 * the end of the call.
 */
static void accessed_work(struct umm_ctx *ctx, const struct work *work)
{
	unsigned number = (unsigned)work->to;
	struct umm_device *dev = hint_device_begin(&ctx->hints, number);
	struct hint_cursor cursor;

	if (!dev)
		return;
	cursor_begin(ctx, &cursor);
	for (uintptr_t at = work->addr, to; dev->ops.accessed && at < work->end; at = to) {
		to = named_until(&cursor, at, work->end, number);
		if (to > at)
			dev->ops.accessed(dev->priv, at, to);
		else
			to = cursor.end;
	}
	hint_device_end(&ctx->hints, number);
}

void heed_accessed(struct umm_ctx *ctx, uintptr_t start, uintptr_t end, uint64_t devices)
{
	struct work work = { .fn = accessed_work, .addr = start, .end = end };

	for (; devices; devices &= devices - 1) {
		work.to = (uintptr_t)__builtin_ctzll(devices);
		if (workers_queue(&ctx->movers, &work))
			log_warning("no memory to have pages at %#lx mapped: the device will miss "
				    "them",
				    (unsigned long)start);
	}
}

void heed_moved(struct piece *piece)
{
	struct hint_cursor cursor;
	uint64_t devices = 0;
	unsigned i, last = 0, first = bit_next(piece->done, 0);

	cursor_begin(piece->ctx, &cursor);
	for (i = first; i < UMM_BLOCK_PAGES; i = bit_next(piece->done, i + 1)) {
		devices |= hint_at(&cursor, piece->va + ((uintptr_t)i << UMM_PAGE_SHIFT))->devices;
		last = i;
	}
	if (devices)
		heed_accessed(piece->ctx, piece->va + ((uintptr_t)first << UMM_PAGE_SHIFT),
			      piece->va + ((uintptr_t)(last + 1) << UMM_PAGE_SHIFT), devices);
}

/* Of a block that is locked: pages that devices may use in place, and may fault on from now on. */
static unsigned find_ended(struct hint_cursor *cursor, struct block *block,
			   const struct umm_span *span, uint64_t *pages, uint64_t *devices)
{
	const struct hint_attrs *attrs;
	unsigned first, last, n = 0;

	if (!block_clip(block, span->start, span->start + span->len, &first, &last))
		return 0;
	for (unsigned i = bit_next(block->readable, first); i < last;
	     i = bit_next(block->readable, i + 1)) {
		attrs = hint_at(cursor, page_addr(block, i));
		if (!usable_in_place(page_state(block, i)) || is_kept_for_all(attrs, block, i))
			continue;
		*devices |= attrs->devices;
		bit_set(pages, i);
		bit_clear(block->readable, i);
		bit_clear(block->writable, i);
		n++;
	}
	return n;
}

/* Likewise: mirrors are told; the block is unlocked. */
static void block_ended(struct umm_ctx *ctx, struct hint_cursor *cursor, struct block *block,
			const struct umm_span *span)
{
	uint64_t pages[BITMAP_WORDS] = { 0 }, devices = 0;
	unsigned n = find_ended(cursor, block, span, pages, &devices);
	struct notifier_active *active = NULL;
	uintptr_t va = block->va;

	if (n)
		active = notifier_begin(ctx, va, va + UMM_BLOCK_SIZE);
	lock_drop(&block->lock);
	if (!n)
		return;
	ctx_count(ctx, NULL, max(va, span->start), UMM_COUNT_UNHINTED, n);
	notifier_tell_pages(ctx, va, pages, UMM_EVENT_ADVICE);
	notifier_end(ctx, active);
	/* Who still accesses them need not fault. */
	heed_accessed(ctx, max(va, span->start), min(va + UMM_BLOCK_SIZE, span->start + span->len),
		      devices);
}

void heed_ended(struct umm_ctx *ctx, const struct umm_span *span)
{
	uintptr_t at = span->start, end = span->start + span->len;
	struct hint_cursor cursor;
	struct block *block;

	if (!atomic_load(&ctx->notifiers.count))
		return;
	cursor_begin(ctx, &cursor);
	while (at < end && (block = block_next(ctx, at, end))) {
		at = block->va + UMM_BLOCK_SIZE;
		block_ended(ctx, &cursor, block, span);
	}
}
