/* SPDX-License-Identifier: MIT */
/*
 * Pieces: collecting pages, starting their copies, giving back what is left. See
 * piece.h for the life of a piece.
 *
 * Invariants: every page in `all` is MIGRATING from the collect to the commit, and
 * no other piece has it. A piece holds frames of dst for all of its pages, and the
 * source frames stay recorded in the block until the commit, so that a piece that
 * fails can always put back what it took.
 * Locks: the block's while collecting; none afterwards.
 */
#include "piece.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>

#include "claim.h"
#include "fence.h"
#include "hook.h"
#include "log.h"
#include "pin.h"
#include "signals.h"
#include "uffd.h"
#include "util.h"

/* How long to wait for frames that are about to be given back: a mirror may be slow to be told. */
#define RETURNING_NS UINT64_C(1000000000)

/* Pages are to become exclusive: system pages do, others come home first. */
static bool to_places(const struct piece_want *want)
{
	return want->dst && want->dst->places;
}

static bool source_wanted(const struct piece_want *want, const struct resident *resident)
{
	const struct umm_devmem *mem = resident->mem;
	uint64_t flag = mem->type == UMM_DEVMEM_PRIVATE ? UMM_MIGRATE_SELECT_PRIVATE :
							  UMM_MIGRATE_SELECT_COHERENT;

	if (mem == want->dst || mem == want->leave || (want->src && mem != want->src))
		return false;
	if (to_places(want))
		return false;
	/* To all but its device an EXCLUSIVE page is a system page; a driver brings none home. */
	if (mem->places)
		return want->dst ? want->select & UMM_MIGRATE_SELECT_SYSTEM : !want->by_driver;
	return want->select & flag && (!want->src_dev || mem->dev == want->src_dev);
}

/* It qualifies, unless it is pinned. Ending a duplication moves nothing. */
static uint64_t *unless_pinned(uint64_t *map, const struct piece_want *want,
			       const struct block *block, unsigned i, struct piece_found *found)
{
	if (!page_pinned(block, i) || (page_state(block, i) == PG_DUPLICATED && !want->dst))
		return map;
	bit_set(found->pinned, i);
	return NULL;
}

static bool has_copy(struct block *block, const struct umm_devmem *mem, unsigned i)
{
	struct resident *resident = mem ? resident_find(block, mem) : NULL;

	return resident && bit_test(resident->bitmap, i);
}

/* A duplicated page goes to a device, or loses its copies: where one memory is emptied, its own. */
static bool duplicated_wanted(struct block *block, const struct piece_want *want, unsigned i)
{
	if (!want->dst)
		return !want->src || has_copy(block, want->src, i);
	if (!(want->select & UMM_MIGRATE_SELECT_SYSTEM))
		return false;
	return !want->duplicate || !has_copy(block, want->dst, i);
}

/* The bitmap of a page that is in a frame. */
static uint64_t *classify_frame(struct piece *piece, const struct piece_want *want,
				struct block *block, unsigned i, struct piece_found *found)
{
	struct resident *resident = resident_of(block, i);

	if (want->duplicate || !source_wanted(want, resident))
		return NULL;
	if (page_state(block, i) == PG_COHERENT &&
	    !unless_pinned(piece->coherent, want, block, i, found))
		return NULL;
	if (piece->src && piece->src != resident->mem) {
		found->more = true;
		return NULL;
	}
	piece->src = resident->mem;
	if (page_state(block, i) == PG_EXCLUSIVE)
		return piece->exclusive;
	return page_state(block, i) == PG_DEVICE ? piece->device : piece->coherent;
}

/* The bitmap of a page that is of a file, or was. Only what migrates whole can be claimed. */
static uint64_t *classify_mirrored(struct piece *piece, const struct piece_want *want,
				   struct block *block, unsigned i, struct piece_found *found)
{
	if (want->duplicate || to_places(want))
		return NULL;
	if (bit_test(piece->claimable, i))
		return unless_pinned(piece->claimed, want, block, i, found);
	found->mirrored = true;
	return NULL;
}

/* Which bitmap of the piece page i belongs in; NULL: it does not qualify. */
static uint64_t *classify(struct piece *piece, const struct piece_want *want, struct block *block,
			  unsigned i, struct piece_found *found)
{
	bool system = want->dst && want->select & UMM_MIGRATE_SELECT_SYSTEM;

	if (want->dst && !devmem_has_place(want->dst, page_addr(block, i)))
		return NULL;
	if (block->page[i] & PG_HELD) {
		found->busy = true;
		return NULL;
	}
	if (block->page[i] & PG_DROPPING && !page_drop_is_over(piece->ctx, block, i))
		return NULL;
	switch (page_state(block, i)) {
	case PG_SYSTEM:
		return system ? unless_pinned(piece->system, want, block, i, found) : NULL;
	case PG_EMPTY:
		return system ? unless_pinned(piece->empty, want, block, i, found) : NULL;
	case PG_DUPLICATED:
		if (to_places(want) || !duplicated_wanted(block, want, i))
			return NULL;
		return unless_pinned(piece->duplicated, want, block, i, found);
	case PG_MIRRORED:
		return system ? classify_mirrored(piece, want, block, i, found) : NULL;
	case PG_DEVICE:
	case PG_COHERENT:
	case PG_EXCLUSIVE:
		return classify_frame(piece, want, block, i, found);
	case PG_MIGRATING:
		found->busy = true;
		return NULL;
	default:
		return NULL;
	}
}

static unsigned count_candidates(struct piece *piece, const struct piece_want *want,
				 struct block *block, struct piece_found *found)
{
	unsigned n = 0;

	for (unsigned i = bit_next(want->pages, 0); i < UMM_BLOCK_PAGES;
	     i = bit_next(want->pages, i + 1))
		n += classify(piece, want, block, i, found) != NULL;
	piece->src = NULL;
	return n;
}

static bool takes_places(const struct piece_want *want)
{
	return want->dst && want->dst->placed && !want->by_driver;
}

/*
 * The frame of a page of PLACED memory. False: the page has only just left it, and waits until
 * the frame is given back; or the frame's page was moved to another address, and this one stays.
 */
static bool take_place(struct piece *piece, unsigned i, struct piece_found *found)
{
	uintptr_t addr = piece->va + ((uintptr_t)i << UMM_PAGE_SHIFT);

	if (devmem_take_place(piece->dst, addr, &piece->frames[i]))
		return true;
	found->busy |= atomic_load(&piece->dst->returning) != 0;
	return false;
}

/* Mark up to `limit` pages, and give each its frame. */
static unsigned mark(struct piece *piece, const struct piece_want *want, struct block *block,
		     struct piece_found *found, unsigned limit, const uint32_t *frames)
{
	uint64_t *map;
	unsigned n = 0;

	for (unsigned i = bit_next(want->pages, 0); i < UMM_BLOCK_PAGES;
	     i = bit_next(want->pages, i + 1)) {
		map = classify(piece, want, block, i, found);
		if (!map)
			continue;
		if (n == limit) {
			found->more = true;
			break;
		}
		if (takes_places(want) && !take_place(piece, i, found))
			continue;
		bit_set(map, i);
		bit_set(piece->all, i);
		if (piece_has_origin(piece, i))
			piece->origin[i] = resident_frame(resident_of(block, i), i);
		page_set(block, i, PG_MIGRATING);
		if (map != piece->empty && map != piece->device && map != piece->exclusive)
			block->page[i] |= PG_COLLECT;
		if (frames)
			piece->frames[i] = frames[n];
		n++;
	}
	block->npieces += n != 0;
	return n;
}

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

static void piece_free(struct piece *piece)
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

static struct piece *piece_new(struct umm_ctx *ctx, const struct piece_want *want)
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
	piece->by_driver = want->by_driver;
	piece->nfreed = 0;
	piece->retrying = false;
	piece->deferred = false;
	piece->refused = 0;
	piece->moved = 0;
	piece->ncopies = 0;
	piece->fence = NULL;
	piece_link(piece);
	return piece;
}

/* Frames for n pages; evicts as allowed. How many there were, or -errno. */
static int take_frames(const struct piece_want *want, unsigned n, uint32_t *frames)
{
	struct umm_ctx *ctx = want->dst->ctx;
	uint64_t deadline = now_ns() + RETURNING_NS;
	uint32_t seen;
	int got;

	/* Frames of pages that have just gone home, or were dropped, count as free. */
	while (seen = ctx_settle_count(ctx), umm_devmem_nfree(want->dst) < n &&
						     atomic_load(&want->dst->returning) &&
						     now_ns() < deadline)
		ctx_settle_wait(ctx, seen, now_ns() + UINT64_C(10000000));
	if (!want->no_evict && umm_devmem_nfree(want->dst) < n)
		evict(want->dst, n, want->clock, want->va);
	got = devmem_take(want->dst, n, frames);
	/* There were fewer than was thought: the device had no memory for them. */
	if (got || want->no_evict)
		return got;
	evict(want->dst, n, want->clock, want->va);
	return devmem_take(want->dst, n, frames);
}

/* Tell mirrors of what lies between the first and the last of these pages. */
static bool notify_pages(struct piece *piece, const uint64_t *pages, enum umm_event event,
			 struct umm_device *owner)
{
	unsigned first = bit_next(pages, 0), last = first;
	struct umm_notifier_range range = {
		.event = event,
		.owner = owner,
		.blockable = piece->blockable,
	};

	for (unsigned i = first; i < UMM_BLOCK_PAGES; i = bit_next(pages, i + 1))
		last = i;
	range.start = piece->va + ((uintptr_t)first << UMM_PAGE_SHIFT);
	range.end = piece->va + ((uintptr_t)(last + 1) << UMM_PAGE_SHIFT);
	/* Who asked for exclusive access hears when it ends, not when it begins. */
	if (piece->dst && piece->dst->places)
		return notifier_invalidate_others(piece->ctx, &range, owner) == 0;
	return notifier_invalidate(piece->ctx, &range) == 0;
}

static enum umm_event event_of(const struct piece *piece)
{
	if (piece->failed)
		return UMM_EVENT_CLEAR;
	return piece->duplicate ? UMM_EVENT_PROTECTION_PAGE : UMM_EVENT_MIGRATE;
}

static bool notify(struct piece *piece)
{
	struct umm_device *dev = piece->dst ? piece->dst->dev : NULL;

	if (piece->dst && piece->dst->places)
		return notify_pages(piece, piece->all, UMM_EVENT_EXCLUSIVE, dev);
	if (bit_next(piece->exclusive, 0) < UMM_BLOCK_PAGES) {
		if (!notify_pages(piece, piece->exclusive, UMM_EVENT_EXCLUSIVE, piece->src->dev))
			return false;
		if (!memcmp(piece->all, piece->exclusive, sizeof(piece->all)))
			return true;
	}
	return notify_pages(piece, piece->all, event_of(piece), dev);
}

/*
 * Until mirrors have been told, pages that should be mapped but are not (the program dropped them)
 * are filled when touched: a device that uses them in place may be what touches them, and
 * what its invalidation waits for. From here on who touches one waits.
 */
static void collected(struct piece *piece)
{
	struct block *block = block_find(piece->ctx, piece->va);

	for (unsigned i = bit_next(piece->all, 0); i < UMM_BLOCK_PAGES;
	     i = bit_next(piece->all, i + 1)) {
		if (bit_test(piece->left, i))
			continue;
		block->page[i] &= (uint16_t)~PG_COLLECT;
		if (block->page[i] & PG_REFILLED)
			bit_set(piece->stay, i);
	}
	lock_drop(&block->lock);
}

/* The source memory must stay until the piece has given its frames back. */
static void hold_source(struct piece *piece)
{
	if (piece->src)
		devmem_hold(piece->src);
}

/* The second half of collecting, once frames are at hand. Returns pages marked. */
static unsigned collect_marked(struct piece *piece, const struct piece_want *want,
			       struct piece_found *found, unsigned limit, const uint32_t *frames)
{
	struct block *block = block_find(piece->ctx, want->va);
	unsigned n = 0;

	if (!block)
		return 0;
	found->busy = false;
	found->more = false;
	memset(found->pinned, 0, sizeof(found->pinned));
	n = mark(piece, want, block, found, limit, frames);
	found->settled = ctx_settle_count(piece->ctx);
	hold_source(piece);
	block_put(piece->ctx, block);
	return n;
}

/* How many pages qualify, or -errno. */
static int count_for_device(struct piece *piece, const struct piece_want *want,
			    struct piece_found *found)
{
	struct umm_ctx *ctx = piece->ctx;
	struct block *block;
	unsigned n = 0;
	int ret = 0;

	rwlock_take_shared(&ctx->gate);
	block = block_get(ctx, want->va, &ret);
	if (block) {
		ret = block_register(ctx, block);
		n = ret ? 0 : count_candidates(piece, want, block, found);
		if (found->mirrored && claim_choose(ctx, block, want->pages, piece->claimable))
			n = count_candidates(piece, want, block, found);
		found->settled = ctx_settle_count(ctx);
		block_put(ctx, block);
	}
	rwlock_drop_shared(&ctx->gate);
	return ret ? ret : (int)n;
}

/* Mark pages, and give them frames of dst: how many, or -errno. */
static int collect_for_device(struct piece *piece, const struct piece_want *want,
			      struct piece_found *found)
{
	uint32_t *frames = piece->freed; /* not in use yet */
	int n = count_for_device(piece, want, found), got;

	if (n <= 0)
		return n;
	if (want->by_driver || takes_places(want))
		return (int)collect_marked(piece, want, found, UMM_BLOCK_PAGES, NULL);
	got = take_frames(want, (unsigned)n, frames);
	if (got <= 0) {
		found->full = true;
		return got;
	}
	n = (int)collect_marked(piece, want, found, (unsigned)got, frames);
	for (int i = n; i < got; i++)
		devmem_give_quietly(want->dst, frames[i], 1);
	return n;
}

/* Mark pages that are to come home: how many. */
static int collect_for_system(struct piece *piece, const struct piece_want *want,
			      struct piece_found *found)
{
	struct block *block = block_find(piece->ctx, want->va);
	unsigned n;

	if (!block)
		return 0;
	n = mark(piece, want, block, found, UMM_BLOCK_PAGES, NULL);
	found->settled = ctx_settle_count(piece->ctx);
	hold_source(piece);
	block_put(piece->ctx, block);
	return (int)n;
}

static void count_pinned(struct umm_ctx *ctx, const struct piece_want *want,
			 const struct piece_found *found)
{
	unsigned n = bit_count(found->pinned);

	/* A memory that is removed asks again and again. */
	if (n && want->cause != UMM_CAUSE_REMOVE)
		ctx_count(ctx, want->dst ? want->dst->dev : NULL, want->va, UMM_COUNT_BUSY, n);
}

struct piece *piece_collect(struct umm_ctx *ctx, const struct piece_want *want,
			    struct piece_found *found, int *ret)
{
	struct piece *piece = piece_new(ctx, want);
	int n;

	memset(found, 0, sizeof(*found));
	*ret = -ENOMEM;
	if (!piece)
		return NULL;
	n = want->dst ? collect_for_device(piece, want, found) :
			collect_for_system(piece, want, found);
	*ret = 0;
	count_pinned(ctx, want, found);
	if (n <= 0) {
		*ret = n;
		piece_free(piece);
		return NULL;
	}
	if (!notify(piece)) {
		*ret = -EAGAIN;
		memcpy(piece->stay, piece->all, sizeof(piece->stay));
		piece->deferred = !want->blockable;
		piece_commit(piece);
		piece_finish(piece);
		return NULL;
	}
	collected(piece);
	hook_run(HOOK_COLLECTED, piece->va);
	return piece;
}

int piece_stage(struct piece *piece, const uint64_t *map)
{
	uintptr_t pages[UMM_BLOCK_PAGES];
	unsigned n = bit_count(map), recycled, k = 0;
	int ret;

	if (!n)
		return 0;
	ret = staging_take_pages(&piece->ctx->staging, n, pages, &recycled);
	if (ret)
		return ret;
	for (unsigned i = bit_next(map, 0); i < UMM_BLOCK_PAGES; i = bit_next(map, i + 1)) {
		piece->host[i] = pages[k++];
		bit_set(piece->staged, i);
	}
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

/* Add page i to the list of copies: longer by one page, or a new one. */
static void copy_add(struct piece *piece, enum umm_copy_dir dir, struct umm_devmem *mem,
		     uint32_t frame, void *host)
{
	struct umm_copy *last = piece->ncopies ? &piece->copies[piece->ncopies - 1] : NULL;

	if (last && last->frame + last->npages == frame &&
	    (host ? (char *)last->host + ((size_t)last->npages << UMM_PAGE_SHIFT) == host :
		    !last->host)) {
		last->npages++;
		return;
	}
	piece->copies[piece->ncopies++] = (struct umm_copy){
		.dir = dir,
		.npages = 1,
		.mem = mem,
		.frame = frame,
		.host = host,
	};
}

static bool comes_in(const struct piece *piece, unsigned i)
{
	return (bit_test(piece->device, i) || bit_test(piece->coherent, i)) &&
	       !bit_test(piece->stay, i) && !bit_test(piece->undo, i);
}

/* Pages that come from src, of first .. last. */
static void list_copies_in(struct piece *piece, unsigned first, unsigned last)
{
	piece->ncopies = 0;
	for (unsigned i = bit_next(piece->all, first); i < last; i = bit_next(piece->all, i + 1))
		if (comes_in(piece, i))
			copy_add(piece, UMM_COPY_FROM_DEVICE, piece->src, piece->origin[i],
				 (void *)piece->host[i]);
}

static void list_copies_out(struct piece *piece)
{
	unsigned cleared = 0;

	piece->ncopies = 0;
	for (unsigned i = bit_next(piece->all, 0); i < UMM_BLOCK_PAGES;
	     i = bit_next(piece->all, i + 1)) {
		if (bit_test(piece->stay, i) || bit_test(piece->lost, i) ||
		    bit_test(piece->undo, i))
			continue;
		cleared += !piece_host(piece, i);
		copy_add(piece, UMM_COPY_TO_DEVICE, piece->dst, piece->frames[i],
			 (void *)piece_host(piece, i));
	}
	if (cleared)
		ctx_count(piece->ctx, piece->dst->dev, piece_start(piece), UMM_COUNT_CLEARED,
			  cleared);
}

static void copies_done(void *priv, int status);

static void count_copies(struct piece *piece, struct umm_device *dev)
{
	unsigned counter =
		piece->copying_in ? UMM_COUNT_BYTES_FROM_DEVICE : UMM_COUNT_BYTES_TO_DEVICE;
	uint64_t bytes = 0;

	for (unsigned c = 0; c < piece->ncopies; c++)
		if (piece->copies[c].host)
			bytes += (uint64_t)piece->copies[c].npages << UMM_PAGE_SHIFT;
	ctx_count(piece->ctx, dev, piece_start(piece), counter, bytes);
	ctx_count(piece->ctx, dev, piece_start(piece), UMM_COUNT_COPIES, piece->ncopies);
}

/* Hand the list over; copies_done() runs when they are complete. */
static void submit(struct piece *piece, struct umm_device *dev)
{
	struct umm_fence *fence;
	int ret;

	piece->copy_began = now_ns();
	ret = umm_fence_create(&fence);
	if (ret) {
		copies_done(piece, ret);
		return;
	}
	piece->fence = fence;
	count_copies(piece, dev);
	ret = dev->ops.copy(dev->priv, piece->copies, piece->ncopies, fence);
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
		log_error("%s failed to give back the page at %#lx: %s", piece->src->dev->ops.name,
			  (unsigned long)(piece->va + ((uintptr_t)piece->retry << UMM_PAGE_SHIFT)),
			  umm_strerror(status));
		bit_set(piece->lost, piece->retry);
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
	if (bit_next(in, 0) < UMM_BLOCK_PAGES) {
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
	if (busy && piece->dst)
		ctx_count(piece->ctx, dev, piece_start(piece), UMM_COUNT_BUSY, busy);
}

void piece_finish(struct piece *piece)
{
	struct staging *staging = &piece->ctx->staging;
	struct batch *batch = piece->batch;
	struct umm_devmem *src = piece->src;
	unsigned first, moved = piece->moved;
	uintptr_t va = piece->va;
	bool lost = bit_next(piece->lost, 0) < UMM_BLOCK_PAGES;
	int refused = piece->refused;

	for (first = bit_next(piece->staged, 0); first < UMM_BLOCK_PAGES;
	     first = bit_next(piece->staged, first + 1))
		staging_returned(staging, piece->host[first], 1);
	if (piece->slot)
		staging_give_slot(staging, piece->slot, piece->slotted);
	if (piece->scratch)
		munmap((void *)piece->scratch, UMM_BLOCK_SIZE);
	count_moves(piece);
	piece_free(piece);
	/* On the device's own thread; of a fault's piece this is the last touch of the context. */
	if (src)
		devmem_unuse(src);
	if (batch)
		batch_piece_done(batch, moved, refused, lost);
	else
		hook_run(HOOK_FINISHED, va);
}
