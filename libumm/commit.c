/* SPDX-License-Identifier: MIT */
/*
 * Committing a piece: every page of it gets its home, or goes back to where it was.
 *
 * What the program did to a page meanwhile is in the page's flags, set by the event
 * readers: its contents were dropped, it was unmapped, it was filled afresh. Pages
 * are installed with the gate held shared, so that no event can be read between
 * looking at the flags and installing: an event that the kernel has not
 * delivered makes the installation fail with EAGAIN, and one that was delivered
 * has set its flag.
 *
 *	program			event reader		committer
 *	madvise(DONTNEED)
 *	  waits			gate exclusive
 *	  goes on, drops	read: REMOVE
 *				page |= DISCARD
 *				gate open		gate shared
 *							DISCARD: no install
 *
 * Invariants: a page leaves MIGRATING here and nowhere else. A frame is in a
 * resident exactly if the page's new state says so.
 * Locks: gate (shared), then the block's; frames go back after both are dropped.
 */
#include <errno.h>
#include <string.h>
#include <sys/mman.h>

#include "event.h"
#include "hook.h"
#include "log.h"
#include "piece.h"
#include "poison.h"
#include "uffd.h"
#include "util.h"

enum action {
	ACT_SYSTEM, /* is mapped: host frame */
	ACT_EMPTY,
	ACT_UNMANAGED,
	ACT_POISON,
	ACT_KEEP,     /* the source frame is still its home */
	ACT_DEVICE,   /* the destination frame is its home */
	ACT_COPIED,   /* duplicated: host frame and destination frame */
	ACT_HOME,     /* install a staged host page */
	ACT_COHERENT, /* install the destination frame */
	ACT_RECOHERE, /* install the source frame again */
};

static enum action action_for_stay(struct piece *piece, struct block *block, unsigned i)
{
	if (bit_test(piece->empty, i))
		return ACT_EMPTY;
	/* Also a duplicated page whose copies are all still there. */
	return resident_of(block, i) ? ACT_KEEP : ACT_SYSTEM;
}

static enum action action_for_undo(struct piece *piece, unsigned i)
{
	if (bit_test(piece->empty, i))
		return ACT_EMPTY;
	if (bit_test(piece->device, i))
		return ACT_KEEP;
	if (bit_test(piece->coherent, i))
		return ACT_RECOHERE;
	return piece->duplicate ? ACT_SYSTEM : ACT_HOME;
}

static enum action action_of(struct piece *piece, struct block *block, unsigned i)
{
	uint16_t flags = block->page[i];

	if (flags & PG_GONE)
		return ACT_UNMANAGED;
	if (flags & PG_REFILLED)
		return ACT_SYSTEM;
	/* MADV_FREE leaves a page that is mapped where it is, for the time being. */
	if (flags & PG_DISCARD && bit_test(piece->stay, i) && !bit_test(piece->device, i))
		return ACT_SYSTEM;
	if (flags & PG_DISCARD)
		return ACT_EMPTY;
	if (bit_test(piece->stay, i))
		return action_for_stay(piece, block, i);
	if (bit_test(piece->lost, i))
		return ACT_POISON;
	if (bit_test(piece->undo, i))
		return action_for_undo(piece, i);
	if (!piece->dst)
		return ACT_HOME;
	if (piece->duplicate)
		return ACT_COPIED;
	return piece->dst->type == UMM_DEVMEM_COHERENT ? ACT_COHERENT : ACT_DEVICE;
}

/* Where the page to install is now. */
static uintptr_t install_source(struct piece *piece, struct block *block, enum action action,
				unsigned i)
{
	if (action == ACT_COHERENT)
		return devmem_host(piece->dst, piece->frames[i]);
	if (action == ACT_RECOHERE)
		return devmem_host(piece->src, resident_frame(resident_of(block, i), i));
	if (bit_test(piece->slotted, i))
		return piece->slot + ((uintptr_t)i << UMM_PAGE_SHIFT);
	return piece->host[i];
}

static bool is_install(enum action action)
{
	return action == ACT_HOME || action == ACT_COHERENT || action == ACT_RECOHERE;
}

/* The source frame is no longer the page's home. */
static void release_source(struct piece *piece, struct block *block, unsigned i)
{
	struct resident *resident = piece->src ? resident_find(block, piece->src) : NULL;

	if (!resident || !bit_test(resident->bitmap, i))
		return;
	/* A coherent page that the CPU keeps leaves its place empty. */
	if (bit_test(piece->coherent, i) && bit_test(piece->stay, i) &&
	    piece->ctx->features & UMM_KERNEL_MOVE)
		uffd_zeropage(piece->ctx->staging.uffd,
			      devmem_host(piece->src, resident_frame(resident, i)), UMM_PAGE_SIZE,
			      false, NULL);
	piece->freed[piece->nfreed++] = resident_frame(resident, i);
	atomic_fetch_add(&piece->src->returning, 1);
	resident_clear(piece->ctx, block, resident, i);
	atomic_fetch_sub(&piece->src->pages, 1);
}

/* The destination frame becomes the home, or a copy, of page i. */
static bool adopt(struct piece *piece, struct block *block, unsigned i, enum page_state state)
{
	if (resident_set(piece->ctx, block, piece->dst, i, piece->frames[i]))
		return false;
	if (state != PG_DUPLICATED)
		atomic_fetch_add(&piece->dst->pages, 1);
	page_set(block, i, state);
	piece->moved++;
	bit_set(piece->done, i);
	return true;
}

static enum page_state kept_state(struct piece *piece, struct block *block, unsigned i)
{
	if (bit_test(piece->device, i))
		return PG_DEVICE;
	if (bit_test(piece->coherent, i))
		return PG_COHERENT;
	return resident_of(block, i) ? PG_DUPLICATED : PG_SYSTEM;
}

/* The books of one page, once it is where the action says. False: could not, undo. */
static bool settle_page(struct piece *piece, struct block *block, enum action action, unsigned i)
{
	bool used = false, kept = action == ACT_KEEP || action == ACT_RECOHERE;

	if (action == ACT_DEVICE || action == ACT_COPIED || action == ACT_COHERENT) {
		used = adopt(piece, block, i,
			     action == ACT_DEVICE ? PG_DEVICE :
			     action == ACT_COPIED ? PG_DUPLICATED :
						    PG_COHERENT);
		if (!used)
			return false;
	}
	if (!kept)
		release_source(piece, block, i);
	if (piece->dst && !used && !piece->by_driver)
		devmem_give_quietly(piece->dst, piece->frames[i], 1);
	if (used)
		return true;
	if (kept) {
		page_set(block, i, kept_state(piece, block, i));
	} else if (action == ACT_HOME || action == ACT_SYSTEM) {
		if (!piece->dst && action == ACT_HOME) {
			piece->moved++;
			bit_set(piece->done, i);
		}
		page_set(block, i, PG_SYSTEM);
	} else {
		page_set(block, i,
			 action == ACT_POISON ? PG_POISONED :
			 action == ACT_EMPTY  ? PG_EMPTY :
						PG_UNMANAGED);
	}
	return true;
}

/* A staged or slotted page went to the program, or was only copied there. */
static void source_installed(struct piece *piece, enum action action, unsigned i, uintptr_t source,
			     bool moved)
{
	struct staging *staging = &piece->ctx->staging;

	if (action != ACT_HOME) {
		/* The frame's place must be empty while the frame is mapped elsewhere. */
		if (!moved && staging->uffd >= 0)
			madvise((void *)source, UMM_PAGE_SIZE, MADV_DONTNEED);
	} else if (moved && bit_test(piece->slotted, i)) {
		bit_clear(piece->slotted, i);
	} else if (moved) {
		bit_clear(piece->staged, i);
	}
}

/*
 * Install pages first .. last from consecutive host pages. Sets *done to the first page
 * that is not installed, and returns why, or 0.
 */
static int install(struct piece *piece, uintptr_t source, unsigned first, unsigned last,
		   bool *moved, unsigned *done)
{
	uintptr_t to = piece->va + ((uintptr_t)first << UMM_PAGE_SHIFT);
	size_t len = (size_t)(last - first) << UMM_PAGE_SHIFT, bytes = 0;
	int ret = -EINVAL;

	*moved = piece->ctx->features & UMM_KERNEL_MOVE;
	if (*moved)
		ret = uffd_move(piece->ctx->uffd, to, source, len, true, &bytes);
	/* Read-only and locked mappings, and pages that DMA still pins, refuse a move. */
	if (!bytes && (ret == -EINVAL || ret == -EBUSY || ret == -ENOENT)) {
		*moved = false;
		ret = uffd_copy(piece->ctx->uffd, to, (const void *)source, len, true, &bytes);
	}
	/* A run over several mappings is refused as a whole: begin with its first page. */
	if (!bytes && last - first > 1 && (ret == -EINVAL || ret == -ENOENT))
		return install(piece, source, first, first + 1, moved, done);
	*done = first + (unsigned)(bytes >> UMM_PAGE_SHIFT);
	return ret;
}

/* The page cannot be installed: what becomes of it? */
static enum action action_for_refusal(struct piece *piece, enum action action, unsigned i, int why)
{
	if (why == -EEXIST)
		return ACT_SYSTEM;
	if (bit_test(piece->device, i))
		return ACT_KEEP;
	/* The mapping moved away: event.c carries the page there, and installs it. */
	if (why == -ENOENT && action == ACT_COHERENT)
		return ACT_COHERENT;
	if (why == -ENOENT && bit_test(piece->coherent, i))
		return ACT_KEEP;
	log_error("page at %#lx is lost: %s",
		  (unsigned long)(piece->va + ((uintptr_t)i << UMM_PAGE_SHIFT)), umm_strerror(why));
	return ACT_POISON;
}

static void settle_run(struct piece *piece, struct block *block, enum action action, unsigned first,
		       unsigned last, uint64_t *todo)
{
	for (unsigned i = first; i < last; i++) {
		if (settle_page(piece, block, action, i))
			bit_clear(todo, i);
		else
			bit_set(piece->undo, i);
	}
}

/* Returns -EAGAIN when an event has to be read first, else 0. */
static int install_run(struct piece *piece, struct block *block, enum action action, unsigned first,
		       unsigned last, uint64_t *todo)
{
	uintptr_t source = install_source(piece, block, action, first);
	bool moved;
	unsigned done;
	int ret;

	ret = install(piece, source, first, last, &moved, &done);
	if (moved && action == ACT_HOME && done > first && !bit_test(piece->slotted, first))
		staging_consumed(&piece->ctx->staging, source, done - first);
	for (unsigned i = first; i < done; i++)
		source_installed(piece, action, i,
				 source + ((uintptr_t)(i - first) << UMM_PAGE_SHIFT), moved);
	settle_run(piece, block, action, first, done, todo);
	if (ret == -EAGAIN)
		return ret;
	if (ret && done < last)
		settle_run(piece, block, action_for_refusal(piece, action, done, ret), done,
			   done + 1, todo);
	return 0;
}

/* One stretch of pages that fare alike. */
static int commit_run(struct piece *piece, struct block *block, unsigned first, uint64_t *todo)
{
	enum action action = action_of(piece, block, first);
	uintptr_t source = is_install(action) ? install_source(piece, block, action, first) : 0;
	unsigned last = first + 1;

	while (last < UMM_BLOCK_PAGES && bit_test(todo, last) &&
	       action_of(piece, block, last) == action &&
	       (!source || (install_source(piece, block, action, last) ==
				    source + ((uintptr_t)(last - first) << UMM_PAGE_SHIFT) &&
			    bit_test(piece->slotted, last) == bit_test(piece->slotted, first) &&
			    page_index(install_source(piece, block, action, last)))))
		last++;
	if (source)
		return install_run(piece, block, action, first, last, todo);
	settle_run(piece, block, action, first, last, todo);
	return 0;
}

/* Pages that are dropped while copies of an earlier duplication exist: those go too. */
static void drop_stale_copies(struct piece *piece)
{
	uint64_t stale[BITMAP_WORDS] = { 0 };
	struct block *block;

	if (!piece->duplicate || bit_next(piece->duplicated, 0) == UMM_BLOCK_PAGES)
		return;
	block = block_find(piece->ctx, piece->va);
	for (unsigned i = bit_next(piece->duplicated, 0); i < UMM_BLOCK_PAGES;
	     i = bit_next(piece->duplicated, i + 1))
		if (block->page[i] & (PG_DISCARD | PG_GONE | PG_REFILLED))
			bit_set(stale, i);
	lock_drop(&block->lock);
	if (bit_next(stale, 0) < UMM_BLOCK_PAGES)
		blocks_drop_copies(piece->ctx, piece->va, stale);
}

/* One attempt with the locks held; true when nothing is left to do. */
static bool commit_some(struct piece *piece, uint64_t *todo)
{
	struct umm_ctx *ctx = piece->ctx;
	struct block *block;
	unsigned i;
	int ret = 0;
	bool wake = false;

	drop_stale_copies(piece);
	rwlock_take_shared(&ctx->gate);
	block = block_find(ctx, piece->va);
	while (!ret && (i = bit_next(todo, 0)) < UMM_BLOCK_PAGES)
		ret = commit_run(piece, block, i, todo);
	if (!ret) {
		/* Installing wakes by itself; a fault that ended otherwise has to be woken. */
		wake = block->waiters ||
		       (piece->cause == UMM_CAUSE_CPU_FAULT && !piece->moved && !piece->deferred);
		block->waiters = false;
	}
	block_put(ctx, block);
	rwlock_drop_shared(&ctx->gate);
	hook_run(HOOK_COMMITTED, piece->va);
	if (wake)
		ctx_wake_block(ctx, piece->va);
	return !ret;
}

/* Touching a lost page is an error from now on, not only where we are asked. */
static void poison_lost(struct piece *piece)
{
	unsigned n = bit_count(piece->lost);

	if (!n)
		return;
	for (unsigned i = bit_next(piece->lost, 0); i < UMM_BLOCK_PAGES;
	     i = bit_next(piece->lost, i + 1))
		poison_page(piece->ctx, piece->va + ((uintptr_t)i << UMM_PAGE_SHIFT),
			    piece->blockable);
	ctx_count(piece->ctx, piece->src->dev, piece_start(piece), UMM_COUNT_POISONED, n);
	if (piece->cause == UMM_CAUSE_CPU_FAULT)
		ctx_count(piece->ctx, piece->src->dev, piece_start(piece), UMM_COUNT_FAULT_ERROR,
			  n);
}

void piece_commit(struct piece *piece)
{
	uint64_t todo[BITMAP_WORDS];

	memcpy(todo, piece->all, sizeof(todo));
	while (!commit_some(piece, todo)) {
		stats_add(&piece->ctx->stats, UMM_COUNT_RETRIES, 1);
		event_pump(piece->ctx);
	}
	if (piece->nfreed) {
		devmem_give_list(piece->src, piece->nfreed, piece->freed);
		atomic_fetch_sub(&piece->src->returning, piece->nfreed);
	}
	poison_lost(piece);
	ctx_settled(piece->ctx);
}
