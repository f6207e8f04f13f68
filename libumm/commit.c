/* SPDX-License-Identifier: MIT */
/*
 * Committing a piece: every page of it gets its home, or goes back to where it was.
 *
 * What the program did to a page meanwhile is in the page's flags, set by the event
 * readers: its contents were dropped, it was filled afresh. Where its mapping moved, or whether
 * it is gone, the piece has been told (piece_redirect()). Pages
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
 * Invariant: a page leaves MIGRATING here and nowhere else.
 * Locks: gate (shared), then a block's, one after the other; frames go back after both are dropped.
 */
#include <errno.h>
#include <string.h>
#include <sys/mman.h>

#include "change.h"
#include "event.h"
#include "hook.h"
#include "log.h"
#include "mlocked.h"
#include "pagemap.h"
#include "piece.h"
#include "poison.h"
#include "settle.h"
#include "uffd.h"
#include "util.h"

/* Where the page to install at i is. */
static uintptr_t run_source(const struct run *run, unsigned i)
{
	return run->source + ((uintptr_t)(i - run->first) << UMM_PAGE_SHIFT);
}

static enum action action_for_stay(const struct run *run, unsigned i)
{
	if (bit_test(run->piece->empty, i))
		return ACT_EMPTY;
	/* Also a duplicated page whose copies are all still there. */
	return resident_of(run->block, in_block(run, i)) ? ACT_KEEP : ACT_SYSTEM;
}

/* Only its source frame has it: no host page of the program's or of staging does. */
static bool has_frame_only(const struct piece *piece, unsigned i)
{
	return bit_test(piece->device, i) || bit_test(piece->exclusive, i);
}

static enum action action_for_undo(const struct run *run, unsigned i)
{
	const struct piece *piece = run->piece;

	if (bit_test(piece->empty, i))
		return ACT_EMPTY;
	if (has_frame_only(piece, i))
		return ACT_KEEP;
	if (bit_test(piece->coherent, i))
		return ACT_RECOHERE;
	if (!piece->duplicate)
		return ACT_HOME;
	/* The copies of an earlier duplication are all still there. */
	return resident_of(run->block, in_block(run, i)) ? ACT_KEEP : ACT_SYSTEM;
}

static enum action action_of(const struct run *run, unsigned i)
{
	uint16_t flags = run->block->page[in_block(run, i)];
	const struct piece *piece = run->piece;

	if (bit_test(piece->claimed, i) && bit_test(piece->stay, i))
		return ACT_MIRRORED;
	if (flags & PG_REFILLED)
		return ACT_SYSTEM;
	/* MADV_FREE leaves a page that is mapped where it is, for the time being. */
	if (flags & PG_DISCARD && bit_test(piece->stay, i) && !has_frame_only(piece, i))
		return ACT_SYSTEM;
	if (flags & PG_DISCARD)
		return ACT_EMPTY;
	if (bit_test(piece->stay, i))
		return action_for_stay(run, i);
	if (bit_test(piece->lost, i))
		return ACT_POISON;
	if (bit_test(piece->undo, i))
		return action_for_undo(run, i);
	if (!piece->dst)
		return ACT_HOME;
	if (piece->duplicate)
		return ACT_COPIED;
	if (piece->dst->places)
		return ACT_EXCLUSIVE;
	return piece->dst->type == UMM_DEVMEM_COHERENT ? ACT_COHERENT : ACT_DEVICE;
}

/* Where the page to install is now. */
static uintptr_t install_source(const struct piece *piece, enum action action, unsigned i)
{
	if (action == ACT_COHERENT)
		return devmem_host(piece->dst, piece->frames[i]);
	if (action == ACT_RECOHERE)
		return devmem_host(piece->src, piece->origin[i]);
	return piece_host(piece, i);
}

static bool is_install(enum action action)
{
	return action == ACT_HOME || action == ACT_COHERENT || action == ACT_RECOHERE;
}

/* Pages before `done`, staged or slotted, went home from there. */
static void sources_moved(const struct run *run, unsigned done)
{
	struct piece *piece = run->piece;

	if (bit_test(piece->slotted, run->first))
		bits_clear(piece->slotted, run->first, done);
	else if (!bit_test(piece->apart, run->first))
		bits_clear(piece->staged, run->first, done);
}

/* Page i was only copied home; or it is of a coherent frame. */
static void source_copied(const struct run *run, unsigned i, uintptr_t source)
{
	struct piece *piece = run->piece;

	if (run->action != ACT_HOME) {
		/* The frame's place must be empty while the frame is mapped elsewhere. */
		if (!run->moved && piece->ctx->staging.uffd >= 0)
			mlocked_drop(source, UMM_PAGE_SIZE);
	} else if (bit_test(piece->staged, i)) {
		piece->trims |= staging_copied(&piece->ctx->staging, source);
	}
}

/* The memory whose frame is to be installed; NULL: none, the page goes home. */
static struct umm_devmem *run_memory(const struct run *run)
{
	if (run->action == ACT_COHERENT)
		return run->piece->dst;
	return run->action == ACT_RECOHERE ? run->piece->src : NULL;
}

/* The lower rung: the kernel makes a page, where the device says, and copies. */
static int copy_at(const struct run *run, uintptr_t to, size_t len, size_t *bytes)
{
	struct umm_devmem *mem = run_memory(run);
	const struct umm_device *dev = mem ? mem->dev : NULL;
	int ret;

	if (dev && dev->ops.place)
		dev->ops.place(dev->priv, mem, true);
	ret = uffd_copy(run->piece->ctx->uffd, to, (const void *)run->source, len, true, bytes);
	if (dev && dev->ops.place)
		dev->ops.place(dev->priv, mem, false);
	return ret;
}

static int install_by_move(struct umm_ctx *ctx, uintptr_t to, uintptr_t source, size_t len,
			   size_t *bytes)
{
	int ret = uffd_move(ctx->uffd, to, source, len, true, bytes);
	size_t more;

	if (ret != -EEXIST)
		return ret;
	more = pagemap_moved(to + *bytes, source + *bytes, (len - *bytes) >> UMM_PAGE_SHIFT,
			     ctx->features & UMM_KERNEL_PAGEMAP_SCAN)
	       << UMM_PAGE_SHIFT;
	if (!more)
		return ret;
	uffd_wake(ctx->uffd, to + *bytes, more);
	*bytes += more;
	return 0;
}

/*
 * A page that a CPU missed and that comes by itself comes as a copy, and so does one ahead of need
 * that lies apart: a move flushes the TLBs of all CPUs that run the process, which takes longer
 * than to copy once more what is still in the cache.
 */
static bool is_copied(const struct run *run, size_t len)
{
	const struct piece *piece = run->piece;

	return len == UMM_PAGE_SIZE && run->action == ACT_HOME &&
	       bit_test(piece->staged, run->first) &&
	       (piece->cause == UMM_CAUSE_READAHEAD ||
		(piece->cause == UMM_CAUSE_CPU_FAULT && bit_count(piece->all) == 1));
}

/* Install what is at run->source; *bytes say how far it went. */
static int install_at(struct run *run, uintptr_t to, size_t len, size_t *bytes)
{
	struct umm_ctx *ctx = run->piece->ctx;
	int ret = -EINVAL;

	*bytes = 0;
	run->moved = false;
	if (is_copied(run, len)) {
		ret = copy_at(run, to, len, bytes);
		/* Else the page moves that is there already. */
		if (ret != -ENOMEM)
			return ret;
	}
	run->moved = ctx->features & UMM_KERNEL_MOVE;
	if (run->moved)
		ret = install_by_move(ctx, to, run->source, len, bytes);
	if (ret == -EINVAL && run->moved && !*bytes && mlocked_end_ours(run->source))
		ret = install_by_move(ctx, to, run->source, len, bytes);
	/* Read-only and locked mappings, and pages that DMA still pins, refuse a move. */
	if (!*bytes && (ret == -EINVAL || ret == -EBUSY || ret == -ENOENT)) {
		run->moved = false;
		ret = copy_at(run, to, len, bytes);
	}
	return ret;
}

/* Install the pages before `last`, as far as it goes: *done is the first that is not. */
static int install_to(struct run *run, unsigned last, unsigned *done)
{
	size_t len = (size_t)(last - run->first) << UMM_PAGE_SHIFT, bytes;
	int ret = install_at(run, page_addr(run->block, in_block(run, run->first)), len, &bytes);

	*done = run->first + (unsigned)(bytes >> UMM_PAGE_SHIFT);
	return ret;
}

static int install(struct run *run, unsigned *done)
{
	int ret = install_to(run, run->last, done);

	/* A run over several mappings is refused as a whole: begin with its first page. */
	if (*done == run->first && run->last - run->first > 1 && (ret == -EINVAL || ret == -ENOENT))
		ret = install_to(run, run->first + 1, done);
	return ret;
}

/* Where page i is now; 0: nowhere. */
static uintptr_t address_of(const struct piece *piece, unsigned i)
{
	return bit_test(piece->left, i) ? piece->where[i] :
					  piece->va + ((uintptr_t)i << UMM_PAGE_SHIFT);
}

/* The page cannot be installed: what becomes of it? */
static enum action action_for_refusal(struct piece *piece, enum action action, unsigned i, int why)
{
	if (why == -EEXIST)
		return ACT_SYSTEM;
	if (why == -ENOENT) {
		log_warning("the mapping at %#lx went away unseen",
			    (unsigned long)address_of(piece, i));
		return ACT_NATIVE;
	}
	if (has_frame_only(piece, i))
		return ACT_KEEP;
	if (bit_test(piece->coherent, i) && action == ACT_RECOHERE)
		return ACT_KEEP;
	log_error("page at %#lx is lost: %s", (unsigned long)address_of(piece, i),
		  umm_strerror(why));
	return ACT_POISON;
}

/* Returns -EAGAIN when an event has to be read first, else 0. */
static int install_run(struct run *run)
{
	struct piece *piece = run->piece;
	unsigned done;
	int ret;

	ret = install(run, &done);
	if (run->moved && run->action == ACT_HOME && done > run->first &&
	    bit_test(piece->staged, run->first))
		staging_consumed(&piece->ctx->staging, run->source, done - run->first);
	if (run->action == ACT_HOME && run->moved)
		sources_moved(run, done);
	else
		for (unsigned i = run->first; i < done; i++)
			source_copied(run, i, run_source(run, i));
	settle_pages(run, run->action, run->first, done);
	if (ret == -EAGAIN)
		return ret;
	/* After some went in, the next is tried by itself, and in another way if it has to be. */
	if (ret && done == run->first)
		settle_pages(run, action_for_refusal(piece, run->action, done, ret), done,
			     done + 1);
	return 0;
}

/* The first page behind the run's first that differs in something that decides how it fares. */
static unsigned alike_end(const struct run *run)
{
	const struct piece *piece = run->piece;
	const uint64_t *const maps[] = { run->todo,	 piece->left,	  piece->claimed,
					 piece->stay,	 piece->lost,	  piece->undo,
					 piece->empty,	 piece->device,	  piece->exclusive,
					 piece->guarded, piece->coherent, piece->slotted,
					 piece->apart,	 piece->staged };
	unsigned end = UMM_BLOCK_PAGES;

	if (bit_test(piece->left, run->first))
		return run->first + 1;
	for (size_t m = 0; m < ARRAY_SIZE(maps) && end > run->first + 1; m++)
		end = bits_alike(maps[m], run->first, end);
	return pages_alike(run->block, run->first, end);
}

/* Does page i, which differs in nothing of that, fare like the run before it? */
static bool run_goes_on(const struct run *run, unsigned i)
{
	uintptr_t source;

	/* Copies in other memories decide, too. */
	if ((run->action == ACT_KEEP || run->action == ACT_SYSTEM) &&
	    action_of(run, i) != run->action)
		return false;
	if (!run->source)
		return true;
	/* It lies behind the page before, in the same huge page. */
	source = install_source(run->piece, run->action, i);
	return source == run_source(run, i) && page_index(source);
}

/* Where the run ends that begins with its first page. */
static unsigned run_end(const struct run *run)
{
	unsigned end = alike_end(run), i = run->first + 1;

	/* In a slot each has its place. */
	if (run->action == ACT_DEVICE ||
	    (run->action == ACT_HOME && bit_test(run->piece->slotted, run->first)))
		return end;
	while (i < end && run_goes_on(run, i))
		i++;
	return i;
}

/* Stores to the pages of the run may go on; who waited to store is woken. 0 or -EAGAIN. */
static int let_write(struct run *run)
{
	struct piece *piece = run->piece;
	uintptr_t at = page_addr(run->block, in_block(run, run->first));
	size_t len = (size_t)(run->last - run->first) << UMM_PAGE_SHIFT;
	int ret = uffd_writeprotect(piece->ctx->uffd, at, len, false, true);

	/* Several mappings: older kernels (6.1) do the first, and others perhaps none. */
	if (ret == -ENOENT && len > UMM_PAGE_SIZE) {
		run->last = run->first + 1;
		ret = uffd_writeprotect(piece->ctx->uffd, at, UMM_PAGE_SIZE, false, true);
	}
	if (!ret)
		piece->let_write += run->last - run->first;
	return ret == -EAGAIN ? ret : 0;
}

static int commit_run(struct run *run)
{
	int ret;

	if (is_install(run->action))
		return install_run(run);
	ret = bit_test(run->piece->guarded, run->first) ? let_write(run) : 0;
	if (ret)
		return ret;
	settle_pages(run, run->action, run->first, run->last);
	return 0;
}

/* The stretch of pages from `first` on that fare alike. */
static int commit_here(struct piece *piece, struct block *block, unsigned first, uint64_t *todo)
{
	struct run run = {
		.piece = piece,
		.block = block,
		.todo = todo,
		.first = first,
		.last = first + 1,
	};

	run.action = action_of(&run, first);
	if (is_install(run.action))
		run.source = install_source(piece, run.action, first);
	run.last = run_end(&run);
	return commit_run(&run);
}

/* The mapping of page i is gone, and what it held with it. */
static void commit_gone(struct piece *piece, unsigned i, uint64_t *todo)
{
	if (piece_has_origin(piece, i)) {
		settle_free_origin(piece, i);
		settle_count_freed(piece, 1);
	}
	if (piece->dst && !piece->by_driver)
		devmem_give_quietly(piece->dst, piece->frames[i], 1);
	bit_clear(todo, i);
	bit_set(piece->settled, i);
}

/* Page i, whose mapping has moved. */
static int commit_there(struct piece *piece, unsigned i, uint64_t *todo)
{
	struct block *block = block_find(piece->ctx, piece->where[i]);
	struct run run = {
		.piece = piece,
		.block = block,
		.shift = page_index(piece->where[i]) - i,
		.todo = todo,
		.first = i,
		.last = i + 1,
	};
	uintptr_t va = block->va;
	bool wake;
	int ret;

	run.action = action_of(&run, i);
	if (is_install(run.action))
		run.source = install_source(piece, run.action, i);
	ret = commit_run(&run);
	/* All who wait in the block, also for pages before this one: `waiters` speaks of them. */
	wake = !ret && block->waiters;
	block->waiters &= !wake;
	block_put(piece->ctx, block);
	if (wake)
		ctx_wake_block(piece->ctx, va);
	return ret;
}

/* Pages that have left. -EAGAIN: an event has to be read first. */
static int commit_left(struct piece *piece, uint64_t *todo)
{
	int ret = 0;

	for (unsigned i = bit_next(piece->left, 0); i < UMM_BLOCK_PAGES;
	     i = bit_next(piece->left, i + 1)) {
		if (!piece->where[i] && bit_test(todo, i))
			commit_gone(piece, i, todo);
		while (!ret && bit_test(todo, i))
			ret = commit_there(piece, i, todo);
	}
	return ret;
}

/* Was page i dropped while copies of an earlier duplication exist? */
static bool has_stale_copies(const struct piece *piece, struct block *block, unsigned i)
{
	return !bit_test(piece->left, i) && block->page[i] & (PG_DISCARD | PG_REFILLED) &&
	       resident_of(block, i);
}

/*
 * Such copies go, as those of any page that is dropped: their frames are given back when mirrors
 * know. Looked for with the gate held, so that no page is dropped between this and its
 * settling. The change to announce; NULL: there are none.
 */
static struct change *loosen_stale_copies(struct piece *piece, struct block *block,
					  struct change *what)
{
	uint64_t stale[BITMAP_WORDS] = { 0 };
	struct change *change;

	for (unsigned i = bit_next(piece->duplicated, 0); i < UMM_BLOCK_PAGES;
	     i = bit_next(piece->duplicated, i + 1)) {
		if (!has_stale_copies(piece, block, i))
			continue;
		bit_set(stale, i);
		what->end = page_addr(block, i + 1);
	}
	if (!what->end)
		return NULL;
	what->start = page_addr(block, bit_next(stale, 0));
	change = change_begin(piece->ctx, what);
	change_loosen(piece->ctx, change, block, stale);
	return change;
}

/*
 * Installing wakes by itself, and so does letting write; a fault that ended otherwise has to be
 * woken, and one at an address that its page has left.
 */
static bool has_to_wake(const struct piece *piece, const struct block *block)
{
	if (block->waiters)
		return true;
	return piece->cause == UMM_CAUSE_CPU_FAULT && !piece->deferred &&
	       (piece->moved + piece->let_write < bit_count(piece->all) || bit_any(piece->left));
}

/* One attempt with the locks held; true when nothing is left to do. */
static bool commit_some(struct piece *piece, uint64_t *todo)
{
	struct umm_ctx *ctx = piece->ctx;
	struct change what = { 0 }, *stale;
	struct block *block;
	unsigned i;
	int ret;
	bool wake;

	rwlock_take_shared(&ctx->gate);
	ret = commit_left(piece, todo);
	block = block_find(ctx, piece->va);
	stale = loosen_stale_copies(piece, block, &what);
	while (!ret && (i = bit_next(todo, 0)) < UMM_BLOCK_PAGES)
		ret = commit_here(piece, block, i, todo);
	wake = !ret && has_to_wake(piece, block);
	block->waiters &= !wake;
	block->npieces -= !ret;
	block_put(ctx, block);
	if (stale)
		change_announce(ctx, stale);
	rwlock_drop_shared(&ctx->gate);
	hook_run(HOOK_COMMITTED, piece->va);
	if (wake)
		ctx_wake_block(ctx, piece->va);
	return !ret;
}

/* Has the program dropped the page, filled it afresh or unmapped it? The gate is held. */
static bool is_given_up(const struct piece *piece, unsigned i)
{
	uintptr_t addr = address_of(piece, i);
	struct block *block = addr ? block_find(piece->ctx, addr) : NULL;
	bool dropped;

	if (!block)
		return true;
	dropped = block->page[page_index(addr)] & (PG_DISCARD | PG_REFILLED);
	lock_drop(&block->lock);
	return dropped;
}

/* What nobody wants any more is not lost. */
static void keep_lost(struct piece *piece)
{
	rwlock_take_shared(&piece->ctx->gate);
	for (unsigned i = bit_next(piece->lost, 0); i < UMM_BLOCK_PAGES;
	     i = bit_next(piece->lost, i + 1))
		if (is_given_up(piece, i))
			bit_clear(piece->lost, i);
	rwlock_drop_shared(&piece->ctx->gate);
}

/* Before anybody can be told by SIGBUS, or take it from the list. */
static void count_lost(struct piece *piece)
{
	struct umm_device *dev = piece->src ? piece->src->dev : NULL;
	unsigned n;

	if (!bit_any(piece->lost))
		return;
	keep_lost(piece);
	n = bit_count(piece->lost);
	if (!n)
		return;
	ctx_count(piece->ctx, dev, piece_start(piece), UMM_COUNT_POISONED, n);
	if (piece->cause == UMM_CAUSE_CPU_FAULT)
		ctx_count(piece->ctx, dev, piece_start(piece), UMM_COUNT_FAULT_ERROR, n);
	ctx_tell_failed(piece->ctx, piece->src, piece->lost_error, n);
}

/* Touching a lost page is an error from now on, not only where we are asked. */
static void poison_lost(struct piece *piece)
{
	uintptr_t addr;

	for (unsigned i = bit_next(piece->lost, 0); i < UMM_BLOCK_PAGES;
	     i = bit_next(piece->lost, i + 1)) {
		addr = address_of(piece, i);
		if (addr)
			poison_page(piece->ctx, addr, piece->blockable);
	}
}

void piece_commit(struct piece *piece)
{
	uint64_t todo[BITMAP_WORDS];

	count_lost(piece);
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
