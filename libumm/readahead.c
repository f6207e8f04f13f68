/* SPDX-License-Identifier: MIT */
/*
 * Prefetch on CPU faults. A policy (policy/ahead.h) is told which private device pages were missed,
 * and says what comes home besides: a few pages of the same block together with the one that was
 * missed, in the same piece; others behind it, by threads of their own, while whoever faulted goes
 * on. These take requests from a ring, so that a fault allocates nothing, and of each what lies in
 * one block, so that neighbouring blocks are copied at the same time; where the ring is full, a
 * request is dropped, and its pages are missed one day.
 *
 * Nothing but private pages comes: what a CPU can reach where it is, is not missed. Nor does what
 * hints keep from requests made ahead. What comes behind stays in the managed range of the miss.
 *
 * Whoever goes through memory faster than it comes has each block that he then misses brought
 * whole, by a worker: it is a huge page, and would not be one again if it came in two pieces.
 *
 * Invariant: a fault server asks a device for AHEAD_WITH pages more than the missed one, at most.
 * Locks: readahead.lock, under which policies run; a block's, to look at its pages, before it.
 */
#include "readahead.h"

#include <sched.h>
#include <stdlib.h>

#include "batch.h"
#include "hook.h"
#include "log.h"
#include "signals.h"
#include "uffd.h"
#include "util.h"

/* Spans that are asked for at a time. */
#define SPANS 64

static const struct ahead_ops *ops_of(enum umm_readahead which, const struct ahead_ops *usual)
{
	switch (which) {
	case UMM_READAHEAD_OFF:
		return &ahead_off;
	case UMM_READAHEAD_DENSITY:
		return &ahead_density;
	case UMM_READAHEAD_STREAM:
		return &ahead_stream;
	default:
		return usual;
	}
}

static const struct ahead_ops *ops_default(void)
{
	const char *name = getenv("UMM_READAHEAD");
	const struct ahead_ops *ops = name && *name ? ahead_by_name(name) : &ahead_stream;

	if (ops)
		return ops;
	log_warning(
		"UMM_READAHEAD=%s names no way to prefetch: it is %s; known are off, density and "
		"stream",
		name, ahead_stream.name);
	return &ahead_stream;
}

/* What counts for this address. */
static const struct ahead_ops *ops_at(struct umm_ctx *ctx, uintptr_t addr)
{
	struct hint_cursor cursor = { .hints = &ctx->hints, .map = &ctx->hints.advice };

	if (!hints_any(&ctx->hints))
		return ctx->readahead.ops;
	return ops_of((enum umm_readahead)hint_at(&cursor, addr)->readahead, ctx->readahead.ops);
}

/* Of the block: pages that a CPU has, or is about to have. */
static void pages_there(struct block *block, uint64_t *there)
{
	enum page_state state;

	for (unsigned i = 0; i < UMM_BLOCK_PAGES; i++) {
		state = page_state(block, i);
		if (state == PG_SYSTEM || state == PG_COHERENT || state == PG_DUPLICATED ||
		    state == PG_MIGRATING)
			bit_set(there, i);
	}
}

static bool may_come(const struct block *block, unsigned i)
{
	return page_state(block, i) == PG_DEVICE && !(block->page[i] & PG_HELD);
}

/* Ask the policy. The block is locked where it looks at what is there. */
static void ask(struct umm_ctx *ctx, const struct ahead_ops *ops, const struct ahead_miss *miss,
		struct ahead_plan *plan)
{
	lock_take(&ctx->readahead.lock);
	ops->miss(&ctx->readahead.ahead, miss, plan);
	lock_drop(&ctx->readahead.lock);
}

/* The pages of `with` that can come in the piece of the one that was missed. */
static void add_with(struct umm_ctx *ctx, struct block *block, const struct ahead_pages *with,
		     uint64_t *pages)
{
	struct hint_cursor cursor = { .hints = &ctx->hints, .map = &ctx->hints.advice };
	const struct hint_attrs *attrs;
	uint64_t page = with->first;
	unsigned i;

	for (unsigned k = 0; k < with->n; k++, page += (uint64_t)with->stride) {
		i = (unsigned)(page % UMM_BLOCK_PAGES);
		if (page / UMM_BLOCK_PAGES != block->va >> UMM_BLOCK_SHIFT || !may_come(block, i))
			continue;
		if (hints_any(&ctx->hints)) {
			attrs = hint_at(&cursor, page_addr(block, i));
			if (hint_has(attrs, UMM_HINT_NO_MIGRATE) ||
			    hint_has(attrs, UMM_HINT_LATENCY_CRITICAL) ||
			    attrs->readahead == UMM_READAHEAD_OFF)
				continue;
		}
		bit_set(pages, i);
	}
}

/* What comes already need not come behind it. */
static void trim(const struct block *block, const uint64_t *pages, struct ahead_pages *after)
{
	while (after->n && after->first / UMM_BLOCK_PAGES == block->va >> UMM_BLOCK_SHIFT &&
	       bit_test(pages, (unsigned)(after->first % UMM_BLOCK_PAGES))) {
		after->first += (uint64_t)after->stride;
		after->n--;
	}
}

void readahead_miss(struct umm_ctx *ctx, const struct uffd_msg_info *info, uint64_t *pages,
		    struct ahead_pages *after)
{
	const struct ahead_ops *ops = ops_at(ctx, info->addr);
	uint64_t there[BITMAP_WORDS] = { 0 };
	struct ahead_miss miss = { .page = info->addr >> UMM_PAGE_SHIFT,
				   .thread = info->thread,
				   .there = there };
	struct ahead_plan plan = { 0 };
	struct block *block;

	after->n = 0;
	if (ops == &ahead_off)
		return;
	block = block_find(ctx, info->addr);
	if (!block)
		return;
	if (info->whole) {
		plan.with = (struct ahead_pages){ block->va >> UMM_PAGE_SHIFT, 1, UMM_BLOCK_PAGES };
		add_with(ctx, block, &plan.with, pages);
	} else if (may_come(block, page_index(info->addr))) {
		if (ops->looks)
			pages_there(block, there);
		bit_set(there, page_index(info->addr));
		ask(ctx, ops, &miss, &plan);
		add_with(ctx, block, &plan.with, pages);
		trim(block, pages, &plan.after);
		*after = plan.after;
	}
	lock_drop(&block->lock);
}

void readahead_wait(struct umm_ctx *ctx, const struct uffd_msg_info *info)
{
	const struct ahead_ops *ops = ops_at(ctx, info->addr);
	struct ahead_miss miss = { .page = info->addr >> UMM_PAGE_SHIFT, .thread = info->thread };
	struct ahead_plan plan = { 0 };

	/* Of what is dense it is part already. */
	if (ops == &ahead_off || ops->looks)
		return;
	ask(ctx, ops, &miss, &plan);
	readahead_queue(ctx, info->addr, &plan.after);
}

/* Only what is managed as the page at addr is. */
static void clip(struct umm_ctx *ctx, uintptr_t addr, struct ahead_pages *pages)
{
	struct umm_span piece;

	if (!region_around(ctx, addr, &piece))
		pages->n = 0;
	else
		ahead_clip(pages, piece.start >> UMM_PAGE_SHIFT,
			   (piece.start + piece.len) >> UMM_PAGE_SHIFT);
}

/* Does it go on where the last request ends? */
static bool merge(struct readahead *readahead, const struct ahead_pages *pages)
{
	struct ahead_pages *last;

	if (!readahead->n)
		return false;
	last = &readahead->requests[(readahead->first + readahead->n - 1) % READAHEAD_REQUESTS];
	if (last->stride != pages->stride ||
	    last->first + (uint64_t)(last->stride * (int64_t)last->n) != pages->first)
		return false;
	last->n += pages->n;
	return true;
}

static void add(struct readahead *readahead, const struct ahead_pages *pages)
{
	if (merge(readahead, pages) || readahead->n == READAHEAD_REQUESTS)
		return;
	readahead->requests[(readahead->first + readahead->n++) % READAHEAD_REQUESTS] = *pages;
}

void readahead_queue(struct umm_ctx *ctx, uintptr_t addr, const struct ahead_pages *after)
{
	struct readahead *readahead = &ctx->readahead;
	struct ahead_pages pages = *after;

	if (!pages.n)
		return;
	clip(ctx, addr, &pages);
	if (!pages.n)
		return;
	lock_take(&readahead->lock);
	add(readahead, &pages);
	pthread_cond_signal(&readahead->more);
	lock_drop(&readahead->lock);
}

/* Bring pages home that lie next to each other. */
static void fetch_run(struct umm_ctx *ctx, const struct ahead_pages *pages,
		      const struct batch_want *want)
{
	uint64_t first = pages->first, n = pages->n;
	struct umm_span span;

	if (pages->stride < 0)
		first -= n - 1;
	span = (struct umm_span){ first << UMM_PAGE_SHIFT, n << UMM_PAGE_SHIFT };
	batch_move(ctx, &span, 1, want);
}

static void fetch_scattered(struct umm_ctx *ctx, const struct ahead_pages *pages,
			    const struct batch_want *want)
{
	uint64_t page = pages->first;
	struct umm_span spans[SPANS];
	size_t n = 0;

	for (uint32_t i = 0; i < pages->n; i++, page += (uint64_t)pages->stride) {
		spans[n++] = (struct umm_span){ page << UMM_PAGE_SHIFT, UMM_PAGE_SIZE };
		if (n < SPANS && i + 1 < pages->n)
			continue;
		batch_move(ctx, spans, n, want);
		n = 0;
	}
}

static void fetch(struct umm_ctx *ctx, const struct ahead_pages *pages)
{
	static const struct batch_want want = {
		.cause = UMM_CAUSE_READAHEAD,
		.ahead = true,
		.unasked = true,
		.clock = UINT64_MAX,
	};

	hook_run(HOOK_READAHEAD, pages->first << UMM_PAGE_SHIFT);
	if (pages->stride == 1 || pages->stride == -1)
		fetch_run(ctx, pages, &want);
	else
		fetch_scattered(ctx, pages, &want);
}

/* How many pages from the first on lie in one block; of those that lie apart, all. */
static uint32_t pages_of_block(const struct ahead_pages *pages)
{
	uint32_t i = (uint32_t)(pages->first % AHEAD_BLOCK);

	if (pages->stride == 1)
		return min(pages->n, AHEAD_BLOCK - i);
	return pages->stride == -1 ? min(pages->n, i + 1) : pages->n;
}

static struct ahead_pages take_first(struct readahead *readahead)
{
	struct ahead_pages *request = &readahead->requests[readahead->first];
	struct ahead_pages taken = *request;

	taken.n = pages_of_block(request);
	request->first += (uint64_t)(request->stride * (int64_t)taken.n);
	request->n -= taken.n;
	if (!request->n) {
		readahead->first = (readahead->first + 1) % READAHEAD_REQUESTS;
		readahead->n--;
	}
	/* There is something for the others. */
	if (readahead->n)
		pthread_cond_signal(&readahead->more);
	return taken;
}

static bool next(struct readahead *readahead, struct ahead_pages *out)
{
	bool any;

	lock_take(&readahead->lock);
	while (!readahead->n && !readahead->stop)
		lock_wait(&readahead->lock, &readahead->more);
	any = !readahead->stop;
	if (any)
		*out = take_first(readahead);
	lock_drop(&readahead->lock);
	return any;
}

static void *readahead_main(void *arg)
{
	struct umm_ctx *ctx = arg;
	struct ahead_pages pages;

	signals_hold();
	while (next(&ctx->readahead, &pages))
		fetch(ctx, &pages);
	return NULL;
}

int readahead_check(const struct umm_ctx_options *options)
{
	if ((unsigned)options->readahead > UMM_READAHEAD_STREAM || options->readahead_percent > 100)
		return -EINVAL;
	return options->readahead_most > (size_t)UMM_READAHEAD_MOST ? -EINVAL : 0;
}

static unsigned threads_wanted(void)
{
	cpu_set_t allowed;

	if (sched_getaffinity(0, sizeof(allowed), &allowed))
		return READAHEAD_THREADS;
	return min((unsigned)CPU_COUNT(&allowed), (unsigned)READAHEAD_THREADS);
}

int readahead_start(struct umm_ctx *ctx, const struct umm_ctx_options *options)
{
	struct readahead *readahead = &ctx->readahead;
	int ret = 0;

	ahead_init(&readahead->ahead, options->readahead_percent,
		   (uint32_t)(align_up(options->readahead_most, UMM_PAGE_SIZE) >> UMM_PAGE_SHIFT));
	readahead->ops = options->readahead ? ops_of(options->readahead, NULL) : ops_default();
	lock_init(&readahead->lock, RANK_WORK);
	lock_cond_init(&readahead->more);
	while (readahead->nthreads < threads_wanted() && !ret) {
		ret = thread_start(&readahead->threads[readahead->nthreads], readahead_main, ctx,
				   "umm-ahead");
		readahead->nthreads += !ret;
	}
	if (ret)
		readahead_stop(ctx);
	return ret;
}

void readahead_stop(struct umm_ctx *ctx)
{
	struct readahead *readahead = &ctx->readahead;

	lock_take(&readahead->lock);
	readahead->stop = true;
	pthread_cond_broadcast(&readahead->more);
	lock_drop(&readahead->lock);
	for (unsigned i = 0; i < readahead->nthreads; i++)
		pthread_join(readahead->threads[i], NULL);
}

void readahead_fini(struct umm_ctx *ctx)
{
	pthread_cond_destroy(&ctx->readahead.more);
	lock_fini(&ctx->readahead.lock);
}
