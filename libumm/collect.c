/* SPDX-License-Identifier: MIT */
/*
 * Collecting: which pages of a block a migration takes, and the frames for them; then mirrors are
 * told. See piece.h for the life of a piece.
 *
 * Pages are counted, frames are taken (which may evict, and wait), and then pages are marked, as
 * far as they still qualify and frames go.
 *
 * Invariants: every page in `all` is MIGRATING from here to the commit, and no other piece has
 * it. A piece holds frames of dst for all of its pages, and the source frames stay recorded in the
 * block until the commit, so that a piece that fails can always put back what it took.
 * Locks: the gate, shared, while pages are registered; the block's; none where frames are taken or
 * mirrors are told.
 */
#include <errno.h>
#include <string.h>

#include "claim.h"
#include "heed.h"
#include "hook.h"
#include "pin.h"
#include "piece.h"
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

#define REFUSED_NS UINT64_C(100000000)

/*
 * Was it not to be had a moment ago, when it was to become exclusive? To try again would be
 * announced, and that makes stale what the driver has asked for: it would ask again, for ever.
 */
static bool refused_lately(const struct piece_want *want, const struct block *block, unsigned i)
{
	return to_places(want) && block->history[i] & HISTORY_REFUSED &&
	       now_ns() - atomic_load(&want->dst->refused_ns) < REFUSED_NS;
}

/* It qualifies, unless it is pinned. Ending a duplication moves nothing. */
static uint64_t *unless_pinned(uint64_t *map, const struct piece_want *want,
			       const struct block *block, unsigned i, struct piece_found *found)
{
	if (!refused_lately(want, block, i) &&
	    (!page_pinned(block, i) || (page_state(block, i) == PG_DUPLICATED && !want->dst)))
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
	/* What a CPU can reach, or what is coming, is not waited for. */
	if (!want->dst && want->cause == UMM_CAUSE_READAHEAD && page_state(block, i) != PG_DEVICE)
		return NULL;
	if (block->page[i] & PG_HELD) {
		found->busy = true;
		return NULL;
	}
	if (block->page[i] & PG_DROPPING && !(want->dst && page_drop_is_over(piece->ctx, block, i)))
		return NULL;
	if (want->hints && heed_keeps(want, block, i))
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

/* Page i qualifies: so do those from it to the end, for the same reason, without a look at each. */
static unsigned classified_end(const struct piece_want *want, struct block *block, unsigned i)
{
	unsigned end = bit_next_clear(want->pages, i);

	if (want->hints || block->pins || to_places(want) || (want->dst && want->dst->placed))
		return i + 1;
	switch (page_state(block, i)) {
	case PG_SYSTEM:
	case PG_EMPTY:
		return pages_alike(block, i, end);
	case PG_DEVICE:
		return bits_alike(resident_of(block, i)->bitmap, i, pages_alike(block, i, end));
	default:
		return i + 1;
	}
}

static unsigned count_candidates(struct piece *piece, const struct piece_want *want,
				 struct block *block, struct piece_found *found)
{
	unsigned n = 0, end;

	for (unsigned i = bit_next(want->pages, 0); i < UMM_BLOCK_PAGES;
	     i = bit_next(want->pages, end)) {
		end = i + 1;
		if (!classify(piece, want, block, i, found))
			continue;
		end = classified_end(want, block, i);
		n += end - i;
	}
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

/* Pages first .. last - 1, which are alike, belong in this bitmap. */
static void mark_alike(struct piece *piece, struct block *block, uint64_t *map, unsigned first,
		       unsigned last)
{
	bool mapped = map != piece->empty && map != piece->device && map != piece->exclusive;
	const struct resident *resident;

	bits_set(map, first, last);
	bits_set(piece->all, first, last);
	resident = piece_has_origin(piece, first) ? resident_of(block, first) : NULL;
	for (unsigned i = first; resident && i < last; i++)
		piece->origin[i] = resident_frame(resident, i);
	pages_set(block, first, last, mapped ? PG_MIGRATING | PG_COLLECT : PG_MIGRATING);
}

/* Mark up to `limit` pages, and give each its frame. */
static unsigned mark(struct piece *piece, const struct piece_want *want, struct block *block,
		     struct piece_found *found, unsigned limit, const uint32_t *frames)
{
	unsigned n = 0, end;
	uint64_t *map;

	for (unsigned i = bit_next(want->pages, 0); i < UMM_BLOCK_PAGES;
	     i = bit_next(want->pages, end)) {
		end = i + 1;
		map = classify(piece, want, block, i, found);
		if (!map)
			continue;
		if (n == limit) {
			found->more = true;
			break;
		}
		if (takes_places(want) && !take_place(piece, i, found))
			continue;
		end = min(classified_end(want, block, i), i + (limit - n));
		mark_alike(piece, block, map, i, end);
		if (frames)
			memcpy(&piece->frames[i], &frames[n], (end - i) * sizeof(*frames));
		n += end - i;
	}
	block->npieces += n != 0;
	return n;
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
	devmem_trace_room(want->dst, !want->no_evict, n, want->clock, want->va);
	if (!want->no_evict && umm_devmem_nfree(want->dst) < n)
		heed_evict(want->dst, n, want->clock, want->va, !want->unasked);
	got = devmem_take(want->dst, n, frames);
	evict_ahead(want->dst, want->clock);
	/* There were fewer than was thought: the device had no memory for them. */
	if (got || want->no_evict)
		return got;
	heed_evict(want->dst, n, want->clock, want->va, !want->unasked);
	return devmem_take(want->dst, n, frames);
}

/* What mirrors are told, and what the one watches who would have to sleep. */
struct message {
	enum umm_event event;
	struct umm_device *owner;
	bool blockable;
	struct umm_span watched; /* who sleeps watches all of it; len 0: or not */
	struct umm_span *refused;
};

/* Tell them of what lies between the first and the last of these pages, from low to high - 1. */
static bool notify_between(struct piece *piece, const uint64_t *pages, unsigned low, unsigned high,
			   const struct message *message)
{
	unsigned first = bit_next(pages, low), last = first;
	struct umm_notifier_range range = {
		.event = message->event,
		.owner = message->owner,
		.blockable = message->blockable,
	};
	/* Who asked for exclusive access hears when it ends, not when it begins. */
	bool begins = piece->dst && piece->dst->places, told;
	struct notifier_limits limits = {
		.but = begins ? range.owner : NULL,
		.watched = message->watched,
	};

	if (first >= high)
		return true;
	for (unsigned i = first; i < high; i = bit_next(pages, i + 1))
		last = i;
	range.start = piece->va + ((uintptr_t)first << UMM_PAGE_SHIFT);
	range.end = piece->va + ((uintptr_t)(last + 1) << UMM_PAGE_SHIFT);
	told = !notifier_invalidate_within(piece->ctx, &range, &limits);
	if (!told)
		*message->refused = limits.refused;
	return told;
}

/* Once for each stretch that was asked for: pages in between are nobody's business. */
static bool notify_pages(struct piece *piece, const uint64_t *wanted, const uint64_t *pages,
			 struct message message)
{
	unsigned first, last;
	bool told = true;

	for_each_run(wanted, first, last) told =
		told && notify_between(piece, pages, first, last, &message);
	return told;
}

static enum umm_event event_of(const struct piece *piece)
{
	if (piece->failed)
		return UMM_EVENT_CLEAR;
	return piece->duplicate ? UMM_EVENT_PROTECTION_PAGE : UMM_EVENT_MIGRATE;
}

/* From its first page to its last. */
static struct umm_span piece_span(const struct piece *piece)
{
	unsigned first = bit_next(piece->all, 0), last = first;

	for (unsigned i = first; i < UMM_BLOCK_PAGES; i = bit_next(piece->all, i + 1))
		last = i;
	return (struct umm_span){ piece->va + ((uintptr_t)first << UMM_PAGE_SHIFT),
				  (size_t)(last + 1 - first) << UMM_PAGE_SHIFT };
}

/* False: somebody who watches *refused would have to sleep. */
static bool notify(struct piece *piece, const struct piece_want *want, struct umm_span *refused)
{
	struct message message = {
		.event = UMM_EVENT_EXCLUSIVE,
		.owner = piece->dst ? piece->dst->dev : NULL,
		.blockable = want->blockable && !want->no_wait,
		.refused = refused,
	};
	struct message ends;

	if (want->watched)
		message.watched = piece_span(piece);
	ends = message;
	if (piece->dst && piece->dst->places)
		return notify_pages(piece, want->pages, piece->all, message);
	if (bit_any(piece->exclusive)) {
		ends.owner = piece->src->dev;
		if (!notify_pages(piece, want->pages, piece->exclusive, ends))
			return false;
		if (!memcmp(piece->all, piece->exclusive, sizeof(piece->all)))
			return true;
	}
	message.event = event_of(piece);
	return notify_pages(piece, want->pages, piece->all, message);
}

/* All pages of the piece stay. Which of the block are watched by who refused them. */
static void give_up(struct piece *piece, const struct umm_span *refused, uint64_t *pages)
{
	uintptr_t start = max(refused->start, piece->va);
	uintptr_t end = min(refused->start + refused->len, piece->va + UMM_BLOCK_SIZE);

	bits_set(pages, page_index(start), page_index(end - 1) + 1);
	memcpy(piece->stay, piece->all, sizeof(piece->stay));
	piece->deferred = true;
	piece_commit(piece);
	piece_finish(piece);
}

static void collected_run(struct piece *piece, struct block *block, unsigned first, unsigned last)
{
	for (unsigned i = first; i < last; i++)
		block->page[i] &= (uint16_t)~PG_COLLECT;
	if (!pages_any(block, first, last, PG_REFILLED))
		return;
	for (unsigned i = first; i < last; i++)
		if (block->page[i] & PG_REFILLED)
			bit_set(piece->stay, i);
}

/* Was any of its pages marked as mapped? */
static bool any_mapped(const struct piece *piece)
{
	uint64_t any = 0;

	for (unsigned w = 0; w < BITMAP_WORDS; w++)
		any |= piece->all[w] & ~(piece->empty[w] | piece->device[w] | piece->exclusive[w]);
	return any;
}

/*
 * Until mirrors have been told, pages that should be mapped but are not (the program dropped them)
 * are filled when touched: a device that uses them in place may be what touches them, and
 * what its invalidation waits for. From here on who touches one waits.
 */
static void collected(struct piece *piece)
{
	uint64_t here[BITMAP_WORDS];
	struct block *block;
	unsigned first, last;

	if (!any_mapped(piece))
		return;
	block = block_find(piece->ctx, piece->va);
	for (unsigned w = 0; w < BITMAP_WORDS; w++)
		here[w] = piece->all[w] & ~piece->left[w];
	for_each_run(here, first, last) collected_run(piece, block, first, last);
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
	struct umm_ctx *ctx = piece->ctx;
	struct block *block;
	unsigned n = 0;

	/* For page_drop_is_over(). */
	rwlock_take_shared(&ctx->gate);
	block = block_find(ctx, want->va);
	if (!block)
		goto out;
	found->busy = false;
	found->more = false;
	memset(found->pinned, 0, sizeof(found->pinned));
	n = mark(piece, want, block, found, limit, frames);
	found->settled = ctx_settle_count(ctx);
	hold_source(piece);
	block_put(ctx, block);
out:
	rwlock_drop_shared(&ctx->gate);
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

/* Mark pages of PLACED memory, those that have a frame there with memory: how many, or -errno. */
static int collect_for_places(struct piece *piece, const struct piece_want *want,
			      struct piece_found *found)
{
	unsigned first, last;
	int ret;

	for_each_run(want->pages, first, last)
	{
		ret = devmem_back_places(want->dst, want->va + ((uintptr_t)first << UMM_PAGE_SHIFT),
					 want->va + ((uintptr_t)last << UMM_PAGE_SHIFT));
		if (ret && ret != -ENOSPC)
			return ret;
		found->full |= ret;
	}
	return (int)collect_marked(piece, want, found, UMM_BLOCK_PAGES, NULL);
}

/* Mark pages, and give them frames of dst: how many, or -errno. */
static int collect_for_device(struct piece *piece, const struct piece_want *want,
			      struct piece_found *found)
{
	uint32_t *frames = piece->freed; /* not in use yet */
	int n = count_for_device(piece, want, found), got;

	if (n <= 0)
		return n;
	if (takes_places(want))
		return collect_for_places(piece, want, found);
	if (want->by_driver)
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

/*
 * What a CPU touches, or is about to, waits for no fork: who touches it may have a lock that the
 * fork waits for. No COHERENT page is missed.
 */
static int collect_beside_fork(struct piece *piece, const struct piece_want *want,
			       struct piece_found *found)
{
	bool waits = want->cause != UMM_CAUSE_CPU_FAULT && want->cause != UMM_CAUSE_READAHEAD;
	int n;

	if (waits)
		ctx_collect_home_begin(piece->ctx);
	n = collect_for_system(piece, want, found);
	if (waits)
		ctx_collect_home_end(piece->ctx);
	return n;
}

struct piece *piece_collect(struct umm_ctx *ctx, const struct piece_want *want,
			    struct piece_found *found, int *ret)
{
	struct piece *piece = piece_new(ctx, want);
	struct umm_span refused;
	int n;

	memset(found, 0, sizeof(*found));
	*ret = -ENOMEM;
	if (!piece)
		return NULL;
	n = want->dst ? collect_for_device(piece, want, found) :
			collect_beside_fork(piece, want, found);
	*ret = 0;
	count_pinned(ctx, want, found);
	if (n <= 0) {
		*ret = n;
		piece_free(piece);
		return NULL;
	}
	if (!notify(piece, want, &refused)) {
		*ret = -EAGAIN;
		give_up(piece, &refused, found->refused);
		return NULL;
	}
	collected(piece);
	hook_run(HOOK_COLLECTED, piece->va);
	return piece;
}
