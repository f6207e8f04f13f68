/* SPDX-License-Identifier: MIT */
/*
 * Migrating spans: cuts them into blocks, puts those of one block together, keeps several
 * pieces in flight, and waits for pages that others have in flight. Asynchronous requests run on
 * the movers.
 *
 * Invariant: a batch ends when its pieces have; it lives on the stack of whoever
 * waits for that.
 * Locks: none of its own; sleeps on the count of pieces in flight.
 */
#include <errno.h>
#include <string.h>

#include "batch.h"
#include "damp.h"
#include "futex.h"
#include "heed.h"
#include "hook.h"
#include "log.h"
#include "prot.h"
#include "reclaim.h"
#include "signals.h"
#include "take.h"
#include "util.h"

/* Enough to overlap unmapping, copying and mapping of neighbours; few enough to stay in caches. */
#define MAX_IN_FLIGHT 8

/* Blocks that are write-protected in one call. */
#define PROTECTED_BLOCKS 16

/* Waits look up so often. */
#define WAIT_NS UINT64_C(1000000000)

struct batch {
	struct umm_ctx *ctx;
	const struct batch_want *want;
	_Atomic uint32_t in_flight;
	_Atomic long moved;
	_Atomic int status; /* of what did not move */
	_Atomic bool lost;
	bool full;
	bool managed;
	uint64_t left_out[BITMAP_WORDS]; /* of the block: for which a callback would sleep, */
	uint64_t refused[BITMAP_WORDS];	 /* those of them that the last such callback watches */
	uintptr_t at;			 /* the block begun last */
	const struct umm_span *rest;	 /* spans, from its first on */
	size_t nrest;
	uintptr_t protected; /* blocks up to here, if more than one at a time could be */
	struct damp_request damp;
	struct patience patience; /* with pages that others have in flight */
};

void batch_piece_done(struct batch *batch, const struct piece_outcome *outcome)
{
	atomic_fetch_add(&batch->moved, outcome->moved);
	if (outcome->refused)
		atomic_store(&batch->status, outcome->refused);
	if (outcome->lost)
		atomic_store(&batch->lost, true);
	if (batch->want->dst)
		ctx_move_out_end(batch->ctx);
	/* The last touch: the batch may be gone as soon as this is seen. */
	if (atomic_fetch_sub(&batch->in_flight, 1) <= MAX_IN_FLIGHT)
		futex_wake_all(&batch->in_flight);
}

static void batch_wait(struct batch *batch, uint32_t at_most)
{
	struct patience patience = { 0 };
	uint32_t n;

	signals_pause();
	while ((n = atomic_load(&batch->in_flight)) > at_most) {
		ctx_still_waiting(&patience, batch->at);
		futex_wait_until(&batch->in_flight, n, now_ns() + WAIT_NS);
	}
	signals_resume();
}

/*
 * True: a piece is on its way, which goes on without us, and its pages are no longer in `pages`:
 * they are not tried again where they were refused. False: see *found and *ret.
 */
static bool piece_start_copy(struct batch *batch, const struct piece_want *want, uint64_t *pages,
			     struct piece_found *found, int *ret)
{
	struct umm_ctx *ctx = batch->ctx;
	struct piece *piece;

	signals_hold();
	if (want->dst)
		ctx_move_out_begin(ctx);
	piece = piece_collect(ctx, want, found, ret);
	if (piece) {
		piece->batch = batch;
		for (unsigned w = 0; w < BITMAP_WORDS; w++)
			pages[w] &= ~piece->all[w];
		atomic_fetch_add(&batch->in_flight, 1);
		piece_unmap(piece);
		piece_copy(piece);
	} else if (want->dst) {
		ctx_move_out_end(ctx);
	}
	signals_let();
	return piece;
}

/* A callback would have to sleep: its pages are left out. */
static void leave_out(struct batch *batch, uint64_t *pages, const uint64_t *refused)
{
	for (unsigned w = 0; w < BITMAP_WORDS; w++) {
		batch->refused[w] = pages[w] & refused[w];
		batch->left_out[w] |= batch->refused[w];
		pages[w] &= ~refused[w];
	}
}

/*
 * Start one piece of a block. Returns false when this block needs no more. Pages that turn out to
 * be pinned are taken out of `pages`: they are counted once.
 */
static bool batch_start(struct batch *batch, const struct piece_want *want, uint64_t *pages)
{
	struct umm_ctx *ctx = batch->ctx;
	struct piece_found found;
	bool started, sleeps;
	int ret;

	batch_wait(batch, MAX_IN_FLIGHT - 1);
	hook_run(HOOK_CHOSEN, want->va);
	started = piece_start_copy(batch, want, pages, &found, &ret);
	for (unsigned w = 0; w < BITMAP_WORDS; w++)
		pages[w] &= ~found.pinned[w];
	/* Nor is anybody waited for who has them in flight, and may be waiting himself. */
	found.busy &= !batch->want->unasked;
	if (started) {
		batch->managed = true;
		return found.more || found.busy;
	}
	if (bit_any(found.refused)) {
		leave_out(batch, pages, found.refused);
		batch->managed = true;
		return bit_any(pages);
	}
	batch->full |= found.full;
	if (ret && ret != -EFAULT)
		atomic_store(&batch->status, ret);
	if (ret || found.full)
		return false;
	batch->managed = true;
	if (found.busy) {
		ctx_still_waiting(&batch->patience, want->va);
		sleeps = worker_sleeps(batch->patience.began_ns);
		ctx_settle_wait(ctx, found.settled, now_ns() + WAIT_NS);
		if (sleeps)
			worker_wakes();
	}
	return found.busy;
}

/* Start pieces until no more of these pages are to be had, but those that are left out. */
static void batch_all(struct batch *batch, const struct piece_want *want, uint64_t *pages)
{
	memset(batch->left_out, 0, sizeof(batch->left_out));
	memset(batch->refused, 0, sizeof(batch->refused));
	while (batch_start(batch, want, pages))
		;
}

/*
 * Move pages of a block. Whoever waits in a callback has others wait for the pages of its piece,
 * and the callback may be waiting for them: a piece that waits has no pages but those which the
 * callback is about, and they have been asked for. All others go before; where several callbacks
 * refuse, each is waited for with its own, so what one of them is not about goes on with the rest.
 */
static void batch_pages(struct batch *batch, const struct piece_want *want, uint64_t *pages,
			const uint64_t *asked)
{
	struct piece_want now = *want, patient = *want;
	uint64_t waits[BITMAP_WORDS];

	now.pages = pages;
	now.no_wait = true;
	patient.pages = waits;
	patient.watched = true;
	do {
		batch_all(batch, &now, pages);
		if (batch->want->unasked || batch->full)
			return;
		for (unsigned w = 0; w < BITMAP_WORDS; w++) {
			waits[w] = batch->refused[w] & asked[w];
			pages[w] = batch->left_out[w] & ~batch->refused[w] & asked[w];
		}
		if (bit_any(waits))
			batch_all(batch, &patient, waits);
		else
			memset(batch->left_out, 0, sizeof(batch->left_out));
		for (unsigned w = 0; w < BITMAP_WORDS; w++)
			pages[w] |= batch->left_out[w];
	} while (bit_any(pages) && !batch->full);
}

/*
 * What is READ_MOSTLY of the wanted pages is copied, from home: what only other memories have comes
 * home first. The rest is left in `pages`.
 */
static void batch_copies(struct batch *batch, const struct piece_want *want, uint64_t *pages,
			 const uint64_t *asked)
{
	struct batch_want home = { .leave = want->dst,
				   .cause = want->cause,
				   .unasked = batch->want->unasked };
	struct piece_want copy = *want;
	struct heed_copies copies;
	unsigned first, last;

	if (!heed_read_mostly(batch->ctx, want, &copies))
		return;
	for_each_run(copies.elsewhere, first, last)
	{
		struct umm_span span = { want->va + ((uintptr_t)first << UMM_PAGE_SHIFT),
					 (size_t)(last - first) << UMM_PAGE_SHIFT };

		batch_move(batch->ctx, &span, 1, &home);
	}
	for (unsigned w = 0; w < BITMAP_WORDS; w++)
		pages[w] &= ~copies.pages[w];
	copy.duplicate = true;
	batch_pages(batch, &copy, copies.pages, asked);
}

/* Has a device missed these pages, and wants them for itself? */
static bool is_missed(const struct batch_want *want)
{
	return want->cause == UMM_CAUSE_DEVICE_FAULT && want->dst && !want->dst->places &&
	       !want->duplicate && !want->ahead;
}

/* What is wanted of the blocks from va on. How many of them, one behind the other. */
static unsigned wanted_blocks(const struct batch *batch, uintptr_t va,
			      uint64_t (*maps)[BITMAP_WORDS])
{
	uintptr_t end = va + PROTECTED_BLOCKS * UMM_BLOCK_SIZE, at, next;
	unsigned n = 0, k;
	struct umm_span span;

	for (size_t i = 0; i < batch->nrest; i++) {
		span = span_pages(&batch->rest[i]);
		for (at = max(span.start, va); at < span.start + span.len; at = next) {
			k = (unsigned)((at - va) >> UMM_BLOCK_SHIFT);
			if (span.start >= end || k > n || k == PROTECTED_BLOCKS)
				return n;
			next = min(align_down(at, UMM_BLOCK_SIZE) + UMM_BLOCK_SIZE,
				   span.start + span.len);
			bits_set(maps[k], page_index(at),
				 page_index(at) + (unsigned)((next - at) >> UMM_PAGE_SHIFT));
			n = max(n, k + 1);
		}
	}
	return n;
}

/*
 * Pages that are duplicated are write-protected, which interrupts every CPU of the process. So
 * that is done for many blocks at once, as far as their pieces would protect all of them. They
 * still do it themselves: what is protected already costs next to nothing.
 */
static void protect_blocks(struct batch *batch, uintptr_t va)
{
	uint64_t maps[PROTECTED_BLOCKS][BITMAP_WORDS] = { 0 };
	unsigned n;

	if (!batch->want->duplicate || va < batch->protected)
		return;
	n = wanted_blocks(batch, va, maps);
	if (n > 1)
		take_protect_blocks(batch->ctx, va, maps, n);
	batch->protected = va + n * UMM_BLOCK_SIZE;
}

static void batch_block(struct batch *batch, uintptr_t va, uint64_t *pages)
{
	const struct batch_want *want = batch->want;
	struct piece_want piece_want = {
		.va = va,
		.pages = pages,
		.dst = want->dst,
		.src = want->src,
		.leave = want->leave,
		.select = UMM_MIGRATE_SELECT_SYSTEM | UMM_MIGRATE_SELECT_PRIVATE |
			  UMM_MIGRATE_SELECT_COHERENT,
		.cause = want->cause,
		.duplicate = want->duplicate,
		.no_evict = want->no_evict,
		.ahead = want->ahead,
		.unasked = want->unasked,
		.last_try = want->last_try,
		.may_stay = want->may_stay,
		.blockable = true,
		.clock = want->clock,
	};
	struct hint_cursor cursor;
	uint64_t asked[BITMAP_WORDS];

	batch->at = va;
	batch->patience = (struct patience){ 0 };
	protect_blocks(batch, va);
	memcpy(asked, pages, sizeof(asked));
	if (hints_any(&batch->ctx->hints) && !want->heedless)
		heed_request(batch->ctx, &piece_want, pages, &cursor);
	if (is_missed(want))
		damp_device(batch->ctx, &piece_want, pages, &batch->damp);
	if (piece_want.hints && want->dst && want->reads)
		batch_copies(batch, &piece_want, pages, asked);
	batch_pages(batch, &piece_want, pages, asked);
}

/* Pages can only come home from blocks that exist: skip what no device ever saw. */
static bool next_block(struct batch *batch, uintptr_t *at, uintptr_t end)
{
	struct umm_span piece;
	struct block *block;

	if (batch->want->dst) {
		if (!region_next(batch->ctx, *at, end, &piece))
			return false;
		*at = piece.start;
		return true;
	}
	block = block_next(batch->ctx, *at, end);
	if (!block)
		return false;
	*at = max(*at, block->va);
	lock_drop(&block->lock);
	return true;
}

static void set_pages(uint64_t *pages, uintptr_t start, uintptr_t end)
{
	for (uintptr_t at = start; at < end; at += UMM_PAGE_SIZE)
		bit_set(pages, page_index(at));
}

static void note_managed(struct batch *batch, uintptr_t start, uintptr_t end)
{
	if (!batch->managed)
		batch->managed = region_next(batch->ctx, start, end, &(struct umm_span){ 0 });
}

static void batch_span(struct batch *batch, struct umm_span span)
{
	uintptr_t end = span.start + span.len, at = span.start, va;
	uint64_t pages[BITMAP_WORDS];

	while (at < end && !batch->full && next_block(batch, &at, end)) {
		va = align_down(at, UMM_BLOCK_SIZE);
		memset(pages, 0, sizeof(pages));
		set_pages(pages, at, min(end, va + UMM_BLOCK_SIZE));
		batch_block(batch, va, pages);
		at = va + UMM_BLOCK_SIZE;
	}
	note_managed(batch, span.start, end);
}

/* How many spans, from the first on, lie in the block where that begins. */
static size_t count_in_block(const struct umm_span *spans, size_t nspans)
{
	uintptr_t va = align_down(spans[0].start, UMM_BLOCK_SIZE);
	size_t n = 0;

	while (n < nspans && spans[n].start >= va &&
	       spans[n].start + spans[n].len <= va + UMM_BLOCK_SIZE)
		n++;
	return n;
}

/*
 * Where the part of a span begins that is managed; false: there is none. Looks the region up where
 * *region, the one found last, does not say.
 */
static bool span_begins(const struct batch *batch, const struct umm_span *span,
			struct umm_span *region, uintptr_t *at)
{
	uintptr_t end = span->start + span->len;

	*at = span->start;
	if (*at - region->start >= region->len &&
	    !region_next(batch->ctx, *at, align_up(end, UMM_BLOCK_SIZE), region))
		return false;
	*at = max(*at, region->start);
	return *at < end;
}

/* Several spans of one block: their pages move together, however they are scattered in it. */
static void batch_scattered(struct batch *batch, const struct umm_span *spans, size_t nspans)
{
	uintptr_t va = align_down(spans[0].start, UMM_BLOCK_SIZE), at = va;
	bool home = !batch->want->dst;
	bool any = !home || next_block(batch, &at, va + UMM_BLOCK_SIZE);
	uint64_t pages[BITMAP_WORDS] = { 0 };
	struct umm_span span, region = { 0 };

	for (size_t i = 0; i < nspans && any; i++) {
		span = span_pages(&spans[i]);
		at = span.start;
		if (home || span_begins(batch, &span, &region, &at))
			set_pages(pages, at, span.start + span.len);
	}
	if (bit_any(pages))
		batch_block(batch, va, pages);
	for (size_t i = 0; i < nspans; i++) {
		span = span_pages(&spans[i]);
		note_managed(batch, span.start, span.start + span.len);
	}
}

static void batch_spans(struct batch *batch, const struct umm_span *spans, size_t nspans)
{
	size_t n;

	for (size_t i = 0; i < nspans && !batch->full; i += n) {
		batch->rest = spans + i;
		batch->nrest = nspans - i;
		n = count_in_block(spans + i, nspans - i);
		if (n > 1) {
			batch_scattered(batch, spans + i, n);
			continue;
		}
		batch_span(batch, span_pages(&spans[i]));
		n = 1;
	}
}

/* Before pages of spans go to a device; those of one block are asked about at once. 0 or -errno. */
static int spans_prepare(struct umm_ctx *ctx, const struct umm_span *spans, size_t nspans)
{
	uintptr_t start, end;
	struct umm_span span;
	size_t n;
	int ret = 0;

	for (size_t i = 0; i < nspans && !ret; i += n) {
		n = max(count_in_block(spans + i, nspans - i), (size_t)1);
		start = UINTPTR_MAX;
		end = 0;
		for (size_t k = i; k < i + n && !ret; k++) {
			span = span_pages(&spans[k]);
			start = min(start, span.start);
			end = max(end, span.start + span.len);
			ret = ctx_attach_asked(ctx, span.start, span.start + span.len);
		}
		prot_refresh(ctx, start, end);
	}
	return ret;
}

/* -EINVAL: a special mapping, which is nobody's to manage; else -EFAULT. */
static int why_unmanaged(struct umm_ctx *ctx, const struct umm_span *span)
{
	struct prot prot = { .ctx = ctx };

	return prot_find(&prot, span->start) && prot.vma.special ? -EINVAL : -EFAULT;
}

static void batch_run(struct batch *batch, const struct umm_span *spans, size_t nspans)
{
	batch_spans(batch, spans, nspans);
	batch_wait(batch, 0);
	if (damp_sleep(&batch->damp)) {
		batch_spans(batch, spans, nspans);
		batch_wait(batch, 0);
	}
}

/* Host memory is short. What is kept to be faster may do: again, as long as pages come home. */
static void batch_reclaim(struct batch *batch, const struct umm_span *spans, size_t nspans)
{
	long moved;

	do {
		if (atomic_load(&batch->status) != -ENOMEM || !ctx_reclaim(batch->ctx))
			return;
		atomic_store(&batch->status, 0);
		moved = atomic_load(&batch->moved);
		batch_run(batch, spans, nspans);
	} while (atomic_load(&batch->moved) > moved);
}

long batch_move(struct umm_ctx *ctx, const struct umm_span *spans, size_t nspans,
		const struct batch_want *want)
{
	struct batch batch = { .ctx = ctx, .want = want, .damp.may_sleep = want->may_sleep };
	long moved;
	int ret = 0;

	ctx_pass_gate(ctx);
	if (want->dst)
		ret = spans_prepare(ctx, spans, nspans);
	if (want->dst && !ret)
		ret = devmem_use(want->dst);
	if (ret)
		return ret;
	batch_run(&batch, spans, nspans);
	if (want->may_stay && !want->dst)
		batch_reclaim(&batch, spans, nspans);
	if (want->dst)
		devmem_unuse(want->dst);
	moved = atomic_load(&batch.moved);
	ret = atomic_load(&batch.status);
	if (atomic_load(&batch.lost))
		return -EIO;
	if (moved || ret)
		return moved ? moved : ret;
	if (!batch.managed && !batch.full)
		return why_unmanaged(ctx, spans);
	return batch.full ? -ENOSPC : 0;
}

static int request_check(struct umm_ctx *ctx, const struct umm_migrate_request *req)
{
	if (req->flags & ~(uint64_t)(UMM_MIGRATE_DUPLICATE | UMM_MIGRATE_NO_EVICT |
				     UMM_MIGRATE_READ | UMM_MIGRATE_AHEAD))
		return -EINVAL;
	if ((unsigned)req->cause >= UMM_NR_CAUSES || !req->nspans || !req->spans)
		return -EINVAL;
	if (req->flags & UMM_MIGRATE_DUPLICATE && !req->dst)
		return -EINVAL;
	if (req->dst && (!devmem_valid(req->dst) || req->dst->ctx != ctx))
		return -EINVAL;
	for (size_t i = 0; i < req->nspans; i++)
		if (!req->spans[i].len || req->spans[i].start >= ADDRESS_END ||
		    req->spans[i].len > ADDRESS_END - req->spans[i].start)
			return -EINVAL;
	if (ctx_is_forked(ctx))
		return -ENODEV;
	return notifier_in_callback() ? -EDEADLK : 0;
}

static struct batch_want want_of(const struct umm_migrate_request *req)
{
	return (struct batch_want){
		.dst = req->dst,
		.cause = req->cause,
		.duplicate = req->flags & UMM_MIGRATE_DUPLICATE,
		.no_evict = req->flags & UMM_MIGRATE_NO_EVICT,
		.reads = req->flags & UMM_MIGRATE_READ,
		.ahead = req->flags & UMM_MIGRATE_AHEAD,
		.unasked = req->flags & UMM_MIGRATE_AHEAD,
		.may_stay = true,
		.clock = req->dst ? devmem_clock(req->dst) : UINT64_MAX,
	};
}

/* An asynchronous request: a copy of everything the caller had. */
struct later {
	size_t bytes;
	struct umm_fence *fence;
	struct batch_want want;
	size_t nspans;
	struct umm_span spans[];
};

static void later_run(struct umm_ctx *ctx, const struct work *work)
{
	struct later *later = work->priv;
	long ret = batch_move(ctx, later->spans, later->nspans, &later->want);

	if (later->want.dst)
		devmem_unuse(later->want.dst);
	umm_fence_signal(later->fence, ret < 0 ? (int)ret : 0, ret < 0 ? 0 : ret);
	umm_fence_put(later->fence);
	arena_unmap(later, later->bytes);
}

static long migrate_later(struct umm_ctx *ctx, const struct umm_migrate_request *req,
			  const struct batch_want *want, struct umm_fence **fence)
{
	size_t bytes = sizeof(struct later) + req->nspans * sizeof(struct umm_span);
	struct later *later = arena_map(bytes);
	struct work work = { .fn = later_run, .priv = later };
	int ret;

	if (!later)
		return -ENOMEM;
	later->bytes = bytes;
	later->want = *want;
	later->nspans = req->nspans;
	memcpy(later->spans, req->spans, req->nspans * sizeof(struct umm_span));
	/* Its removal waits for what is queued, too. */
	ret = req->dst ? devmem_use(req->dst) : 0;
	if (ret)
		goto err_unmap;
	ret = umm_fence_create(&later->fence);
	if (ret)
		goto err_unuse;
	*fence = umm_fence_get(later->fence);
	ret = workers_queue(&ctx->movers, &work);
	if (ret)
		goto err_put;
	return 0;

err_put:
	umm_fence_put(later->fence);
	umm_fence_put(later->fence);
	*fence = NULL;
err_unuse:
	if (req->dst)
		devmem_unuse(req->dst);
err_unmap:
	arena_unmap(later, bytes);
	return ret;
}

/* Is what this thread uses meanwhile, its stack or the list, among what is to move? */
static bool needs_another_thread(const struct umm_migrate_request *req)
{
	uintptr_t list = (uintptr_t)req->spans, list_end = (uintptr_t)(req->spans + req->nspans);

	for (size_t i = 0; i < req->nspans; i++) {
		uintptr_t start = align_down(req->spans[i].start, UMM_PAGE_SIZE);
		uintptr_t end = align_up(req->spans[i].start + req->spans[i].len, UMM_PAGE_SIZE);

		if (own_stack_in(start, end) || (start < list_end && end > list))
			return true;
	}
	return false;
}

static long migrate_elsewhere(struct umm_ctx *ctx, const struct umm_migrate_request *req,
			      const struct batch_want *want)
{
	struct umm_fence *fence;
	long ret = migrate_later(ctx, req, want, &fence);

	if (ret)
		return ret;
	ret = umm_fence_wait(fence, -1);
	if (!ret)
		ret = umm_fence_value(fence);
	umm_fence_put(fence);
	return ret;
}

long umm_migrate_spans(struct umm_ctx *ctx, const struct umm_migrate_request *req,
		       struct umm_fence **fence)
{
	struct umm_migrate_request mine;
	struct batch_want want;
	int ret;

	if (!ctx_valid(ctx) || !req)
		return -EINVAL;
	ret = struct_in(&mine, sizeof(mine), req);
	if (!ret)
		ret = request_check(ctx, &mine);
	if (ret)
		return ret;
	want = want_of(&mine);
	if (fence)
		return migrate_later(ctx, &mine, &want, fence);
	if (needs_another_thread(&mine))
		return migrate_elsewhere(ctx, &mine, &want);
	want.may_sleep = true;
	return batch_move(ctx, mine.spans, mine.nspans, &want);
}

long migrate_home(struct umm_ctx *ctx, const struct umm_span *span, bool last_try)
{
	struct umm_migrate_request req = { .spans = span, .nspans = 1 };
	struct batch_want want = {
		.cause = UMM_CAUSE_EXPLICIT,
		.last_try = last_try,
		.clock = UINT64_MAX,
	};

	if (needs_another_thread(&req))
		return migrate_elsewhere(ctx, &req, &want);
	return batch_move(ctx, span, 1, &want);
}

static long migrate_one(struct umm_ctx *ctx, struct umm_devmem *dst, void *addr, size_t len)
{
	struct umm_span span = { .start = (uintptr_t)addr, .len = len };
	struct umm_migrate_request req = {
		.size = sizeof(req),
		.spans = &span,
		.nspans = 1,
		.dst = dst,
		.cause = UMM_CAUSE_EXPLICIT,
	};

	return umm_migrate_spans(ctx, &req, NULL);
}

long umm_migrate_to_device(struct umm_ctx *ctx, struct umm_devmem *dst, void *addr, size_t len)
{
	return dst ? migrate_one(ctx, dst, addr, len) : -EINVAL;
}

long umm_migrate_to_system(struct umm_ctx *ctx, void *addr, size_t len)
{
	return migrate_one(ctx, NULL, addr, len);
}

/* This thread's stack may be on coherent memory, where the thread goes on using it. */
static bool stack_is_managed(struct umm_ctx *ctx)
{
	uintptr_t here = (uintptr_t)__builtin_frame_address(0);
	struct umm_span piece;

	return region_next(ctx, here - STACK_NEED, here, &piece);
}

long umm_bring_home(struct umm_ctx *ctx)
{
	static const struct umm_span all = { .start = 0, .len = ADDRESS_END };
	struct umm_migrate_request req = { .spans = &all,
					   .nspans = 1,
					   .cause = UMM_CAUSE_EXPLICIT };
	struct batch_want want = want_of(&req);
	long ret;

	if (!ctx_valid(ctx))
		return -EINVAL;
	if (ctx_is_forked(ctx))
		return -ENODEV;
	if (notifier_in_callback())
		return -EDEADLK;
	if (stack_is_managed(ctx))
		ret = migrate_elsewhere(ctx, &req, &want);
	else
		ret = batch_move(ctx, &all, 1, &want);
	return ret == -EFAULT ? 0 : ret;
}
