/* SPDX-License-Identifier: MIT */
/*
 * Pieces: which are in flight and where their pages are, their copies, and giving back what is
 * left. See piece.h for the life of a piece, collect.c for its beginning.
 *
 * Locks: pieces_lock, for the list; none else.
 */
#include "piece.h"

#include <string.h>

#include "fence.h"
#include "heed.h"
#include "hook.h"
#include "log.h"
#include "signals.h"
#include "util.h"

static void piece_link(struct piece *piece)
{
	struct umm_ctx *ctx = piece->ctx;

	lock_take(&ctx->pieces_lock);
	piece->next_in_flight = ctx->pieces;
	piece->link_in_flight = &ctx->pieces;
	if (ctx->pieces)
		ctx->pieces->link_in_flight = &piece->next_in_flight;
	ctx->pieces = piece;
	lock_drop(&ctx->pieces_lock);
}

void piece_free(struct piece *piece)
{
	struct umm_ctx *ctx = piece->ctx;

	lock_take(&ctx->pieces_lock);
	*piece->link_in_flight = piece->next_in_flight;
	if (piece->next_in_flight)
		piece->next_in_flight->link_in_flight = piece->link_in_flight;
	lock_drop(&ctx->pieces_lock);
	pool_free(&ctx->piece_pool, piece);
}

/* Does the piece have the MIGRATING page that is now at addr? As which of its pages? */
static bool piece_has(const struct piece *piece, uintptr_t addr, unsigned *i)
{
	*i = page_index(addr);
	if (piece->va == align_down(addr, UMM_BLOCK_SIZE) && bit_test(piece->all, *i) &&
	    !bit_test(piece->left, *i) && !bit_test(piece->settled, *i))
		return true;
	for (*i = bit_next(piece->left, 0); *i < UMM_BLOCK_PAGES;
	     *i = bit_next(piece->left, *i + 1))
		if (piece->where[*i] == addr && !bit_test(piece->settled, *i))
			return true;
	return false;
}

/* The piece that has it, and which of its pages it is. */
static struct piece *piece_find(struct umm_ctx *ctx, uintptr_t addr, unsigned *i)
{
	struct piece *piece;

	lock_take(&ctx->pieces_lock);
	for (piece = ctx->pieces; !piece_has(piece, addr, i); piece = piece->next_in_flight)
		;
	lock_drop(&ctx->pieces_lock);
	return piece;
}

void piece_redirect(struct umm_ctx *ctx, uintptr_t from, uintptr_t to, struct frame *source)
{
	unsigned i;
	struct piece *piece = piece_find(ctx, from, &i);

	piece->where[i] = to;
	if (!bit_test(piece->left, i))
		bit_set(piece->left, i);
	*source = (struct frame){ 0 };
	if (piece_has_origin(piece, i))
		*source = (struct frame){ piece->src, piece->origin[i] };
}

bool piece_expects_mapped(struct umm_ctx *ctx, uintptr_t addr)
{
	unsigned i;
	struct piece *piece = piece_find(ctx, addr, &i);

	return (bit_test(piece->system, i) || bit_test(piece->coherent, i)) &&
	       !piece_host(piece, i);
}

uintptr_t piece_any_in_flight(struct umm_ctx *ctx)
{
	uintptr_t va;

	lock_take(&ctx->pieces_lock);
	va = ctx->pieces ? ctx->pieces->va : 0;
	lock_drop(&ctx->pieces_lock);
	return va;
}

struct piece *piece_new(struct umm_ctx *ctx, const struct piece_want *want)
{
	struct piece *piece = pool_alloc(&ctx->piece_pool);

	if (!piece)
		return NULL;
	memset(piece, 0, offsetof(struct piece, where));
	piece->slot = 0;
	piece->scratch = 0;
	piece->ctx = ctx;
	piece->va = want->va;
	piece->dst = want->dst;
	piece->cause = want->cause;
	piece->duplicate = want->duplicate;
	piece->blockable = want->blockable;
	piece->failed = want->failed;
	piece->last_try = want->last_try;
	piece->may_stay = want->may_stay;
	piece->by_driver = want->by_driver;
	piece->nfreed = 0;
	piece->retrying = false;
	piece->deferred = false;
	piece->refused = 0;
	piece->lost_error = -EIO;
	piece->moved = 0;
	piece->let_write = 0;
	piece->trims = false;
	piece->ncopies = 0;
	piece->fence = NULL;
	piece_link(piece);
	return piece;
}

int piece_stage(struct piece *piece, const uint64_t *map)
{
	uintptr_t pages[UMM_BLOCK_PAGES];
	unsigned n = bit_count(map), recycled, k = 0, first, last;
	int ret;

	if (!n)
		return 0;
	ret = staging_take_pages(&piece->ctx->staging, n, pages, &recycled);
	if (ret)
		return ret;
	for_each_run(map, first, last)
	{
		memcpy(&piece->host[first], &pages[k], (last - first) * sizeof(*pages));
		k += last - first;
	}
	for (unsigned w = 0; w < BITMAP_WORDS; w++)
		piece->staged[w] |= map[w];
	stats_add(&piece->ctx->stats, UMM_COUNT_FRAMES_RECYCLED, recycled);
	stats_add(&piece->ctx->stats, UMM_COUNT_FRAMES_FRESH, n - recycled);
	return 0;
}

void piece_drop_copies(struct piece *piece, const uint64_t *pages)
{
	struct resident *list = NULL;
	uint64_t here[BITMAP_WORDS];
	struct block *block = block_find(piece->ctx, piece->va);

	for (unsigned w = 0; w < BITMAP_WORDS; w++)
		here[w] = pages[w] & ~piece->left[w];
	residents_detach(piece->ctx, block, here, &list);
	lock_drop(&block->lock);
	residents_release(piece->ctx, list);
}

/* What a copy of first .. last - 1 moves, in frames and host memory that follow each other. */
struct stretch {
	enum umm_copy_dir dir;
	struct umm_devmem *mem;
	const uint32_t *frames;
	unsigned first, last;
	uintptr_t host; /* of the first; 0: none */
};

/* Add it to the list of copies: the last one becomes longer, or a new one. */
static void copy_add(struct piece *piece, const struct stretch *stretch)
{
	struct umm_copy *last = piece->ncopies ? &piece->copies[piece->ncopies - 1] : NULL;
	uint32_t frame = stretch->frames[stretch->first], n = stretch->last - stretch->first;
	bool from_device = stretch->dir == UMM_COPY_FROM_DEVICE;
	void *host = (void *)stretch->host;

	if (last && last->frame + last->npages == frame &&
	    (host ? (char *)last->host + ((size_t)last->npages << UMM_PAGE_SHIFT) == host :
		    !last->host)) {
		last->npages += n;
		return;
	}
	piece->copies[piece->ncopies++] = (struct umm_copy){
		.dir = stretch->dir,
		.npages = n,
		.mem = stretch->mem,
		.frame = frame,
		.flags = from_device && piece->may_stay ? UMM_COPY_MAY_STAY : 0,
		.host = host,
	};
}

/* The stretch from page i on, which ends before `last` at most; its host pages are where given. */
static unsigned stretch_end(const uint32_t *frames, const uintptr_t *host, unsigned i,
			    unsigned last)
{
	while (++i < last && frames[i] == frames[i - 1] + 1 &&
	       (!host || host[i] == host[i - 1] + UMM_PAGE_SIZE))
		;
	return i;
}

static bool comes_in(const struct piece *piece, unsigned i)
{
	return (bit_test(piece->device, i) || bit_test(piece->coherent, i)) &&
	       !bit_test(piece->stay, i) && !bit_test(piece->undo, i);
}

/* Pages that come from src, of first .. last. */
static void list_copies_in(struct piece *piece, unsigned first, unsigned last)
{
	struct stretch stretch = { UMM_COPY_FROM_DEVICE, piece->src, piece->origin, 0, 0, 0 };
	uint64_t in[BITMAP_WORDS];
	unsigned i, end;

	for (unsigned w = 0; w < BITMAP_WORDS; w++)
		in[w] = (piece->device[w] | piece->coherent[w]) & ~piece->stay[w] & ~piece->undo[w];
	piece->ncopies = 0;
	for (i = bit_next(in, first); i < last; i = bit_next(in, end)) {
		end = stretch_end(piece->origin, piece->host, i, bits_alike(in, i, last));
		stretch.first = i;
		stretch.last = end;
		stretch.host = piece->host[i];
		copy_add(piece, &stretch);
	}
}

/* It was read straight into its frame. */
static bool is_there(const struct piece *piece, unsigned i)
{
	return piece->duplicate && bit_test(piece->placed, i);
}

static void list_copies_out(struct piece *piece)
{
	struct stretch stretch = { UMM_COPY_TO_DEVICE, piece->dst, piece->frames, 0, 0, 0 };
	unsigned cleared = 0, there = 0, i, end;
	uint64_t out[BITMAP_WORDS];

	for (unsigned w = 0; w < BITMAP_WORDS; w++)
		out[w] = piece->all[w] & ~(piece->stay[w] | piece->lost[w] | piece->undo[w]);
	piece->ncopies = 0;
	for (i = bit_next(out, 0); i < UMM_BLOCK_PAGES; i = bit_next(out, end)) {
		end = i + 1;
		if (is_there(piece, i)) {
			there++;
			continue;
		}
		cleared += !piece_host(piece, i);
		if (bit_test(piece->slotted, i))
			end = stretch_end(piece->frames, NULL, i,
					  bits_alike(piece->slotted, i,
						     bits_alike(out, i, UMM_BLOCK_PAGES)));
		stretch.first = i;
		stretch.last = end;
		stretch.host = piece_host(piece, i);
		copy_add(piece, &stretch);
	}
	if (cleared)
		ctx_count(piece->ctx, piece->dst->dev, piece_start(piece), UMM_COUNT_CLEARED,
			  cleared);
	if (there)
		ctx_count(piece->ctx, piece->dst->dev, piece_start(piece),
			  UMM_COUNT_BYTES_OUT + (unsigned)piece->cause,
			  (uint64_t)there << UMM_PAGE_SHIFT);
}

static void copies_done(void *priv, int status);

static void count_copies(struct piece *piece, struct umm_device *dev)
{
	unsigned counter = (piece->copying_in ? UMM_COUNT_BYTES_IN : UMM_COUNT_BYTES_OUT) +
			   (unsigned)piece->cause;
	uint64_t bytes = 0;

	for (unsigned c = 0; c < piece->ncopies; c++)
		if (piece->copies[c].host)
			bytes += (uint64_t)piece->copies[c].npages << UMM_PAGE_SHIFT;
	ctx_count(piece->ctx, dev, piece_start(piece), counter, bytes);
	ctx_count(piece->ctx, dev, piece_start(piece), UMM_COUNT_COPIES, piece->ncopies);
}

/* Nothing was begun for want of host memory: all pages stay where they are. */
static void no_memory(struct piece *piece)
{
	/* Who needs them asks again. */
	if (!piece->may_stay)
		ctx_starve(piece->ctx, piece_start(piece));
	memcpy(piece->undo, piece->all, sizeof(piece->undo));
	memset(piece->lost, 0, sizeof(piece->lost));
	piece->refused = -ENOMEM;
	piece_commit(piece);
	piece_finish(piece);
}

/* Hand the list over; copies_done() runs when they are complete. */
static void submit(struct piece *piece, struct umm_device *dev)
{
	struct umm_fence *fence;
	int ret;

	piece->copy_began = now_ns();
	ret = umm_fence_create(&fence);
	if (ret) {
		no_memory(piece);
		return;
	}
	piece->fence = fence;
	ret = dev->ops.copy(dev->priv, piece->copies, piece->ncopies, fence);
	if (ret == -ENOMEM && !piece->last_try) {
		umm_fence_put(fence);
		piece->fence = NULL;
		no_memory(piece);
		return;
	}
	count_copies(piece, dev);
	if (ret)
		umm_fence_signal(fence, ret, 0);
	/* The piece may be gone when this returns. */
	fence_on_signal(fence, copies_done, piece);
}

static void copy_out(struct piece *piece)
{
	piece->copying_in = false;
	piece->ncopies = 0;
	/* What is in its place is there already. */
	if (!piece->dst->places)
		list_copies_out(piece);
	if (piece->ncopies)
		submit(piece, piece->dst->dev);
	else
		copies_done(piece, 0);
}

static void or_pages(uint64_t *map, const uint64_t *a, const uint64_t *b)
{
	for (unsigned w = 0; w < BITMAP_WORDS; w++)
		map[w] |= a[w] | b[w];
}

/*
 * The source device failed some copy: ask for every page by itself, so that only
 * those are lost that it really cannot give. Returns false after the last.
 */
static bool retry_in(struct piece *piece, int status)
{
	unsigned i = piece->retrying ? piece->retry + 1 : 0;

	if (!piece->retrying && piece->ncopies == 1 && piece->copies[0].npages == 1) {
		/* It was asked for by itself. */
		piece->retrying = true;
		while (!comes_in(piece, i))
			i++;
		piece->retry = i++;
	}
	if (piece->retrying && status) {
		if (!piece->ctx->failed)
			log_error("%s failed to give back the page at %#lx: %s",
				  piece->src->dev->ops.name,
				  (unsigned long)(piece->va +
						  ((uintptr_t)piece->retry << UMM_PAGE_SHIFT)),
				  umm_strerror(status));
		bit_set(piece->lost, piece->retry);
		piece->lost_error = status;
	}
	piece->retrying = true;
	while (i < UMM_BLOCK_PAGES && !comes_in(piece, i))
		i++;
	if (i == UMM_BLOCK_PAGES)
		return false;
	piece->retry = i;
	list_copies_in(piece, i, i + 1);
	submit(piece, piece->src->dev);
	return true;
}

/* One direction is complete: go on with the other, or commit. */
static void piece_go_on(struct piece *piece, int status)
{
	/* The device needed it until now. */
	umm_fence_put(piece->fence);
	piece->fence = NULL;
	if (piece->ncopies)
		stats_add(&piece->ctx->stats, UMM_COUNT_COPY_NS, now_ns() - piece->copy_began);
	if (piece->copying_in && (status || piece->retrying)) {
		if (retry_in(piece, status))
			return;
	} else if (status) {
		if (!ctx_tell_failed(piece->ctx, piece->dst, status, 0))
			log_warning("%s refused pages at %#lx: %s", piece->dst->dev->ops.name,
				    (unsigned long)piece_start(piece), umm_strerror(status));
		piece->refused = status;
		or_pages(piece->undo, piece->all, piece->all);
	}
	if (piece->copying_in && piece->dst) {
		copy_out(piece);
		return;
	}
	hook_run(HOOK_COPIED, piece->va);
	piece_commit(piece);
	piece_finish(piece);
}

/* On the thread that signals the fence: the device's, or ours. */
static void copies_done(void *priv, int status)
{
	signals_hold();
	piece_go_on(priv, status);
	signals_let();
}

void piece_copy(struct piece *piece)
{
	uint64_t in[BITMAP_WORDS] = { 0 };

	or_pages(in, piece->device, piece->coherent);
	for (unsigned w = 0; w < BITMAP_WORDS; w++)
		in[w] &= ~piece->stay[w];
	piece->copying_in = true;
	piece->ncopies = 0;
	if (bit_any(in)) {
		if (piece_stage(piece, in))
			or_pages(piece->undo, in, in);
		else
			list_copies_in(piece, 0, UMM_BLOCK_PAGES);
	}
	if (piece->ncopies) {
		submit(piece, piece->src->dev);
		return;
	}
	copies_done(piece, 0);
}

static void count_moves(struct piece *piece)
{
	struct umm_device *dev = piece->dst ? piece->dst->dev : piece->src ? piece->src->dev : NULL;
	unsigned base = piece->dst ? UMM_COUNT_TO_DEVICE : UMM_COUNT_TO_SYSTEM;
	unsigned busy = bit_count(piece->stay);
	/* Exclusive pages are the system's, lent to a device. */
	bool lent = piece->dst ? piece->dst->places : piece->src && piece->src->places;

	if (piece->moved && piece->duplicate)
		ctx_count(piece->ctx, dev, piece_start(piece), UMM_COUNT_DUPLICATED, piece->moved);
	else if (piece->moved && !lent)
		ctx_count(piece->ctx, dev, piece_start(piece), base + piece->cause, piece->moved);
	if (busy && piece->dst && !piece->deferred)
		ctx_count(piece->ctx, dev, piece_start(piece), UMM_COUNT_BUSY, busy);
}

void piece_finish(struct piece *piece)
{
	struct staging *staging = &piece->ctx->staging;
	struct batch *batch = piece->batch;
	struct umm_devmem *src = piece->src;
	struct piece_outcome outcome = {
		.moved = piece->moved,
		.refused = piece->refused,
		.lost = bit_any(piece->lost),
	};
	uintptr_t va = piece->va;
	unsigned first;

	for (first = bit_next(piece->staged, 0); first < UMM_BLOCK_PAGES;
	     first = bit_next(piece->staged, first + 1))
		staging_returned(staging, piece->host[first], 1);
	if (piece->trims)
		staging_trim(staging);
	if (piece->slot)
		staging_give_slot(staging, piece->slot, piece->slotted);
	if (piece->scratch)
		arena_unmap((void *)piece->scratch, UMM_BLOCK_SIZE);
	count_moves(piece);
	if (hints_any(&piece->ctx->hints))
		heed_moved(piece);
	piece_free(piece);
	/* On the device's own thread; of a fault's piece this is the last touch of the context. */
	if (src)
		devmem_unuse(src);
	if (batch)
		batch_piece_done(batch, &outcome);
	else
		hook_run(HOOK_FINISHED, va);
}
