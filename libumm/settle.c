/* SPDX-License-Identifier: MIT */
/*
 * The books of a piece that commits: page states, residents and frames, page by page, or at once
 * for a run of pages that all go to a device, or all come home from one. Much memory moves as such
 * runs, of a whole block each.
 *
 * Invariant: a frame is in a resident exactly if the page's new state says so.
 * Locks: the caller's, gate (shared) and the block's.
 */
#include "settle.h"

#include <string.h>

#include "tracefile.h"
#include "uffd.h"
#include "util.h"

void settle_free_origin(struct piece *piece, unsigned i)
{
	/* A coherent page that did not come back to its place leaves it empty. */
	if (bit_test(piece->coherent, i) &&
	    (bit_test(piece->stay, i) || bit_test(piece->left, i)) &&
	    piece->ctx->features & UMM_KERNEL_MOVE)
		uffd_zeropage(piece->ctx->staging.uffd, devmem_host(piece->src, piece->origin[i]),
			      UMM_PAGE_SIZE, false, NULL);
	piece->freed[piece->nfreed++] = piece->origin[i];
}

void settle_count_freed(struct piece *piece, unsigned n)
{
	if (!n)
		return;
	atomic_fetch_add(&piece->src->returning, n);
	atomic_fetch_sub(&piece->src->pages, n);
}

static void release_source(const struct run *run, unsigned i)
{
	struct piece *piece = run->piece;

	if (!piece_has_origin(piece, i))
		return;
	resident_clear(piece->ctx, run->block, resident_find(run->block, piece->src),
		       in_block(run, i));
	settle_free_origin(piece, i);
}

/* The destination frame becomes the home, or a copy, of page i. */
static bool adopt(const struct run *run, unsigned i, enum page_state state)
{
	struct piece *piece = run->piece;

	if (devmem_failed(piece->dst, piece->frames[i]) ||
	    resident_set(piece->ctx, run->block, piece->dst, in_block(run, i), piece->frames[i]))
		return false;
	page_set(run->block, in_block(run, i), state);
	piece->moved++;
	bit_set(piece->done, i);
	return true;
}

static enum page_state adopted_state(enum action action)
{
	switch (action) {
	case ACT_DEVICE:
		return PG_DEVICE;
	case ACT_EXCLUSIVE:
		return PG_EXCLUSIVE;
	case ACT_COPIED:
		return PG_DUPLICATED;
	default:
		return PG_COHERENT;
	}
}

static enum page_state kept_state(const struct run *run, unsigned i)
{
	if (bit_test(run->piece->device, i))
		return PG_DEVICE;
	if (bit_test(run->piece->exclusive, i))
		return PG_EXCLUSIVE;
	if (bit_test(run->piece->coherent, i))
		return PG_COHERENT;
	return resident_of(run->block, in_block(run, i)) ? PG_DUPLICATED : PG_SYSTEM;
}

/* What a page is that does not go to the destination. */
static enum page_state settled_state(const struct run *run, enum action action, unsigned i)
{
	switch (action) {
	case ACT_KEEP:
	case ACT_RECOHERE:
		return kept_state(run, i);
	case ACT_HOME:
	case ACT_SYSTEM:
		return PG_SYSTEM;
	case ACT_EMPTY:
		return PG_EMPTY;
	case ACT_MIRRORED:
		return PG_MIRRORED;
	case ACT_NATIVE:
		return PG_NATIVE;
	default:
		return PG_POISONED;
	}
}

/*
 * For umm_locate(): why it moved, or that others held it. A page that was not to be had
 * exclusively: whoever asks for it again in a moment need not announce that.
 */
static void history_note(const struct run *run, enum action action, unsigned i, bool dropped)
{
	struct piece *piece = run->piece;
	uint8_t *history = &run->block->history[in_block(run, i)];

	if (bit_test(piece->done, i)) {
		*history = (uint8_t)(piece->cause + 1);
	} else if (action == ACT_EMPTY) {
		*history = 0;
	} else if (bit_test(piece->stay, i) && !dropped && !piece->deferred) {
		*history |= HISTORY_HELD;
	}
	if (piece->dst && piece->dst->places && !dropped && !piece->deferred &&
	    !bit_test(piece->done, i) && !bit_test(piece->left, i)) {
		*history |= HISTORY_REFUSED;
		atomic_store(&piece->dst->refused_ns, now_ns());
	}
}

/* The books of one page, once it is where the action says. False: could not, undo. */
static bool settle_page(const struct run *run, enum action action, unsigned i)
{
	bool adopts = action == ACT_DEVICE || action == ACT_EXCLUSIVE || action == ACT_COPIED ||
		      action == ACT_COHERENT;
	struct piece *piece = run->piece;

	if (adopts && !adopt(run, i, adopted_state(action)))
		return false;
	if (action != ACT_KEEP && action != ACT_RECOHERE)
		release_source(run, i);
	if (adopts)
		return true;
	if (piece->dst && !piece->by_driver)
		devmem_give_quietly(piece->dst, piece->frames[i], 1);
	if (!piece->dst && action == ACT_HOME) {
		piece->moved++;
		bit_set(piece->done, i);
	}
	/* What was given out of the mapping that is gone, and where its page was, goes with it. */
	if (action == ACT_NATIVE)
		page_set(run->block, in_block(run, i), PG_UNMANAGED);
	/* Dropped, but still mapped when it was looked at. */
	if (action == ACT_SYSTEM && run->block->page[in_block(run, i)] & PG_DISCARD)
		page_drop(run->block, in_block(run, i));
	else
		page_set(run->block, in_block(run, i), settled_state(run, action, i));
	if (action == ACT_SYSTEM && piece->duplicate)
		run->block->page[in_block(run, i)] |= PG_GUARDED;
	return true;
}

/* For a trace, while the block is locked: nothing else becomes of its pages before. */
static void trace_settled(const struct run *run, unsigned first, unsigned last)
{
	const struct piece *piece = run->piece;
	const struct umm_devmem *mem = piece->dst ? piece->dst : piece->src;
	enum record_kind kind = piece->dst			? RECORD_OUT :
				piece->cause == UMM_CAUSE_EVICT ? RECORD_OFF :
								  RECORD_HOME;
	uint64_t pages[BITMAP_WORDS] = { 0 };

	/* Exclusive pages are the system's, lent to a device. */
	if (!mem || mem->places || !atomic_load_explicit(&tracefile_on, memory_order_relaxed))
		return;
	for (unsigned i = first; i < last; i++)
		if (bit_test(piece->done, i))
			bit_set(pages, in_block(run, i));
	devmem_trace_pages(mem, kind, run->block->va, pages);
}

/* Frames that follow each other become the homes of these pages. False: nothing was done. */
static bool adopt_alike(const struct run *run, unsigned first, unsigned last)
{
	struct piece *piece = run->piece;
	const uint32_t *frames = piece->frames;
	unsigned i = first + 1;

	if (piece->src || atomic_load(&piece->dst->nbad))
		return false;
	while (i < last && frames[i] == frames[i - 1] + 1)
		i++;
	if (i < last || !resident_set_run(piece->ctx, run->block, piece->dst, in_block(run, first),
					  in_block(run, last), frames[first]))
		return false;
	pages_set(run->block, in_block(run, first), in_block(run, last), PG_DEVICE);
	return true;
}

/* These pages have come home from PRIVATE frames. False: nothing was done. */
static bool release_alike(const struct run *run, unsigned first, unsigned last)
{
	struct piece *piece = run->piece;
	unsigned n = last - first;

	if (piece->dst || !bit_test(piece->device, first) ||
	    bits_alike(piece->device, first, last) < last ||
	    !resident_clear_run(piece->ctx, run->block, resident_find(run->block, piece->src),
				in_block(run, first), in_block(run, last)))
		return false;
	memcpy(&piece->freed[piece->nfreed], &piece->origin[first], n * sizeof(*piece->freed));
	piece->nfreed += n;
	pages_set(run->block, in_block(run, first), in_block(run, last), PG_SYSTEM);
	return true;
}

/* What settle_page() does, at once for pages that all move. False: nothing was done. */
static bool settle_alike(const struct run *run, enum action action, unsigned first, unsigned last)
{
	struct piece *piece = run->piece;
	unsigned n = last - first;

	if (n < 2 || !((action == ACT_DEVICE && adopt_alike(run, first, last)) ||
		       (action == ACT_HOME && release_alike(run, first, last))))
		return false;
	piece->moved += n;
	bits_set(piece->done, first, last);
	bits_set(piece->settled, first, last);
	bits_clear(run->todo, first, last);
	memset(&run->block->history[in_block(run, first)], piece->cause + 1, n);
	return true;
}

static void settle_each(const struct run *run, enum action action, unsigned first, unsigned last)
{
	struct piece *piece = run->piece;

	for (unsigned i = first; i < last; i++) {
		bool dropped = run->block->page[in_block(run, i)] & (PG_DISCARD | PG_REFILLED);

		if (!settle_page(run, action, i)) {
			bit_set(piece->undo, i);
			continue;
		}
		bit_clear(run->todo, i);
		bit_set(piece->settled, i);
		history_note(run, action, i, dropped);
	}
}

void settle_pages(const struct run *run, enum action action, unsigned first, unsigned last)
{
	struct piece *piece = run->piece;
	unsigned nfreed = piece->nfreed, moved = piece->moved;

	if (!settle_alike(run, action, first, last))
		settle_each(run, action, first, last);
	trace_settled(run, first, last);
	settle_count_freed(piece, piece->nfreed - nfreed);
	if (piece->dst && action != ACT_COPIED && piece->moved > moved)
		atomic_fetch_add(&piece->dst->pages, piece->moved - moved);
}
