/* SPDX-License-Identifier: MIT */
/*
 * Migration in three steps, for drivers that copy by themselves: pieces as in
 * piece.h, with the copies and the frames of the destination left to the driver.
 *
 * umm_migrate_vma() is the same with the driver's part as callbacks.
 *
 * Invariant: every piece of a setup is committed exactly once, by umm_migrate_pages() or,
 * untouched, by umm_migrate_finalize(), or by the watchdog where the driver takes too long. What
 * was asked for is copied at the setup: whatever the driver writes into its structure afterwards,
 * the core works on that. A step that was undone keeps the host pages that its driver may still
 * write to.
 * Locks: none held. A step is one thread's at a time: the watchdog hands it out.
 */
#include <errno.h>
#include <string.h>

#include "hook.h"
#include "log.h"
#include "maps.h"
#include "piece.h"
#include "prot.h"
#include "signals.h"
#include "util.h"
#include "watchdog.h"

struct step {
	struct watched watched;	  /* the head */
	struct umm_migrate asked; /* npages and cpages are what was answered */
	struct piece *pieces;
	struct maps_vma vma; /* the mapping looked at last */
	bool committed;
	bool undone;	   /* by the watchdog */
	bool by_callbacks; /* umm_migrate_vma() */
};

#define SELECT_ALL \
	(UMM_MIGRATE_SELECT_SYSTEM | UMM_MIGRATE_SELECT_PRIVATE | UMM_MIGRATE_SELECT_COHERENT)

/* Is part of this memory, which the steps use, among the pages that are to move? */
static bool overlaps(const struct umm_migrate *migrate, const void *memory, size_t len)
{
	uintptr_t start = (uintptr_t)memory;

	return start < migrate->end && start + len > migrate->start;
}

static bool needs_own_pages(const struct umm_migrate *migrate)
{
	size_t len = ((migrate->end - migrate->start) >> UMM_PAGE_SHIFT) * sizeof(*migrate->src);

	return overlaps(migrate, migrate->src, len) || overlaps(migrate, migrate->dst, len) ||
	       overlaps(migrate, migrate, sizeof(*migrate)) ||
	       own_stack_in(migrate->start, migrate->end);
}

static int setup_check(const struct umm_migrate *migrate)
{
	size_t zero_from = offsetof(struct umm_migrate, core) + sizeof(migrate->core);

	if (!migrate)
		return -EINVAL;
	if (struct_check(migrate, zero_from))
		return struct_check(migrate, zero_from);
	if (migrate->size < zero_from || !ctx_valid(migrate->ctx) || !migrate->src ||
	    !migrate->dst || migrate->core)
		return -EINVAL;
	if (!(migrate->flags & SELECT_ALL) || migrate->flags & ~(uint64_t)SELECT_ALL)
		return -EINVAL;
	if (migrate->start >= migrate->end || !is_aligned(migrate->start, UMM_PAGE_SIZE) ||
	    !is_aligned(migrate->end, UMM_PAGE_SIZE) || migrate->end > (uintptr_t)1 << 47)
		return -EINVAL;
	if ((unsigned)migrate->cause >= UMM_NR_CAUSES)
		return -EINVAL;
	if (migrate->dst_mem &&
	    (!devmem_valid(migrate->dst_mem) || migrate->dst_mem->ctx != migrate->ctx))
		return -EINVAL;
	if (migrate->owner && !device_valid(migrate->owner))
		return -EINVAL;
	if (needs_own_pages(migrate) || notifier_in_callback())
		return -EDEADLK;
	return ctx_is_forked(migrate->ctx) ? -ENODEV : 0;
}

static bool all_managed(const struct umm_migrate *migrate)
{
	uintptr_t at = migrate->start;
	struct umm_span piece;

	while (at < migrate->end) {
		if (!region_next(migrate->ctx, at, migrate->end, &piece) || piece.start != at)
			return false;
		at = piece.start + piece.len;
	}
	return true;
}

/* Is all of it mapped, and readable? */
static int mappings_check(const struct umm_migrate *migrate)
{
	bool query = migrate->ctx->features & UMM_KERNEL_PROCMAP_QUERY;
	struct maps_vma vma;
	int ret;

	for (uintptr_t at = migrate->start; at < migrate->end; at = vma.end) {
		ret = maps_find(at, query, &vma);
		if (ret && ret != -ENOENT)
			return ret;
		if (ret || vma.start > at || !vma.read || vma.special)
			return -EINVAL;
	}
	return 0;
}

static unsigned long index_of(const struct umm_migrate *migrate, const struct piece *piece,
			      unsigned i)
{
	return (piece->va + ((uintptr_t)i << UMM_PAGE_SHIFT) - migrate->start) >> UMM_PAGE_SHIFT;
}

static bool is_writable(struct step *step, uintptr_t addr)
{
	bool query = step->asked.ctx->features & UMM_KERNEL_PROCMAP_QUERY;

	if ((addr < step->vma.start || addr >= step->vma.end) && maps_find(addr, query, &step->vma))
		step->vma = (struct maps_vma){ 0 };
	return addr >= step->vma.start && addr < step->vma.end && step->vma.write;
}

/* The driver may enter pages into its table as it was told, without a look at them. */
static void give(struct step *step, const struct piece *piece)
{
	struct block *block = block_find(step->asked.ctx, piece->va);

	for (unsigned i = bit_next(piece->all, 0); i < UMM_BLOCK_PAGES;
	     i = bit_next(piece->all, i + 1))
		prot_give(block, i,
			  UMM_ENTRY_VALID |
				  (is_writable(step, page_addr(block, i)) ? UMM_ENTRY_WRITE : 0));
	lock_drop(&block->lock);
}

/* Tell the driver where the data of one piece is. */
static unsigned describe(struct step *step, struct piece *piece)
{
	unsigned n = 0;
	uint64_t entry;

	for (unsigned i = bit_next(piece->all, 0); i < UMM_BLOCK_PAGES;
	     i = bit_next(piece->all, i + 1)) {
		if (bit_test(piece->stay, i))
			continue;
		entry = UMM_MPFN_VALID | UMM_MPFN_MIGRATE;
		if (is_writable(step, piece->va + ((uintptr_t)i << UMM_PAGE_SHIFT)))
			entry |= UMM_MPFN_WRITE;
		if (bit_test(piece->empty, i))
			entry |= UMM_MPFN_EMPTY;
		else if (piece_host(piece, i))
			entry |= piece_host(piece, i);
		else
			entry |= UMM_MPFN_DEVICE | (uint64_t)piece->origin[i] << UMM_PAGE_SHIFT;
		step->asked.src[index_of(&step->asked, piece, i)] = entry;
		n++;
	}
	return n;
}

static int setup_block(struct step *step, uintptr_t va)
{
	struct umm_migrate *migrate = &step->asked;
	uint64_t pages[BITMAP_WORDS] = { 0 };
	uintptr_t low = max(migrate->start, va), high = min(migrate->end, va + UMM_BLOCK_SIZE);
	struct piece_want want = {
		.va = va,
		.pages = pages,
		.dst = migrate->dst_mem,
		.src_dev = migrate->owner,
		.select = migrate->flags,
		.cause = migrate->cause,
		.blockable = true,
		.by_driver = true,
	};
	struct piece_found found;
	struct piece *piece;
	int ret;

	for (uintptr_t at = low; at < high; at += UMM_PAGE_SIZE)
		bit_set(pages, page_index(at));
	piece = piece_collect(migrate->ctx, &want, &found, &ret);
	if (!piece)
		return ret == -EFAULT ? 0 : ret;
	piece->next = step->pieces;
	step->pieces = piece;
	piece_unmap(piece);
	give(step, piece);
	migrate->cpages += describe(step, piece);
	return 0;
}

/*
 * For this thread alone until step_let(). False: no pages can be asked of it, as its context is
 * closed, or the parent's of this process.
 */
static bool step_hold(struct step *step)
{
	if (!step || !step->asked.ctx || ctx_is_forked(step->asked.ctx))
		return false;
	watchdog_hold(&step->asked.ctx->watchdog, &step->watched);
	return true;
}

static void step_let(struct step *step)
{
	watchdog_let(&step->asked.ctx->watchdog, &step->watched);
}

static struct step *step_of(const struct umm_migrate *migrate)
{
	return migrate ? migrate->core : NULL;
}

static struct piece *piece_at(struct step *step, unsigned long i, unsigned *page)
{
	struct piece *piece;
	uintptr_t addr;

	if (!step || i >= step->asked.npages)
		return NULL;
	addr = step->asked.start + (i << UMM_PAGE_SHIFT);
	*page = page_index(addr);
	for (piece = step->pieces; piece; piece = piece->next)
		if (piece->va == align_down(addr, UMM_BLOCK_SIZE))
			break;
	return piece && bit_test(piece->all, *page) ? piece : NULL;
}

struct umm_devmem *umm_migrate_src_mem(struct umm_migrate *migrate, unsigned long i)
{
	struct step *step = step_of(migrate);
	struct umm_devmem *mem = NULL;
	struct piece *piece;
	unsigned page;

	if (!step_hold(step))
		return NULL;
	piece = piece_at(step, i, &page);
	if (piece && step->asked.src[i] & UMM_MPFN_DEVICE)
		mem = piece->src;
	step_let(step);
	return mem;
}

/* Where the driver is to write page `page` of the piece; NULL: nowhere. */
static void *host_page(struct piece *piece, unsigned page)
{
	uint64_t map[BITMAP_WORDS] = { 0 };

	if (piece->dst || bit_test(piece->stay, page))
		return NULL;
	bit_set(map, page);
	if (!bit_test(piece->staged, page) && piece_stage(piece, map))
		return NULL;
	return (void *)piece->host[page];
}

void *umm_migrate_host(struct umm_migrate *migrate, unsigned long i)
{
	struct step *step = step_of(migrate);
	struct piece *piece;
	void *host = NULL;
	unsigned page;

	if (!step_hold(step))
		return NULL;
	piece = step->undone ? NULL : piece_at(step, i, &page);
	if (piece)
		host = host_page(piece, page);
	step_let(step);
	return host;
}

/* May page i of the piece go where the driver says? Then that is where it goes. */
static bool take_dst(const struct umm_migrate *migrate, struct piece *piece, unsigned i)
{
	uint64_t dst = migrate->dst[index_of(migrate, piece, i)];

	if (!(dst & UMM_MPFN_VALID) || !piece->dst != !(dst & UMM_MPFN_DEVICE))
		return false;
	if (!piece->dst)
		return bit_test(piece->staged, i);
	if (!devmem_driver_take(piece->dst, dst >> UMM_PAGE_SHIFT))
		return false;
	piece->frames[i] = (uint32_t)(dst >> UMM_PAGE_SHIFT);
	return true;
}

static void commit_piece(struct umm_migrate *migrate, struct piece *piece)
{
	uint64_t taken[BITMAP_WORDS] = { 0 };
	unsigned i;

	for (i = bit_next(piece->all, 0); i < UMM_BLOCK_PAGES; i = bit_next(piece->all, i + 1))
		bit_set(take_dst(migrate, piece, i) ? taken : piece->undo, i);
	hook_run(HOOK_COPIED, piece->va);
	piece_commit(piece);
	for (i = bit_next(piece->all, 0); i < UMM_BLOCK_PAGES; i = bit_next(piece->all, i + 1)) {
		if (bit_test(piece->done, i))
			continue;
		migrate->src[index_of(migrate, piece, i)] &= ~UMM_MPFN_MIGRATE;
		if (piece->dst && bit_test(taken, i))
			devmem_driver_return(piece->dst, piece->frames[i]);
	}
	migrate->cpages += piece->moved;
}

static void commit(struct step *step)
{
	if (step->committed)
		return;
	step->committed = true;
	step->asked.cpages = 0;
	signals_hold();
	for (struct piece *piece = step->pieces; piece; piece = piece->next)
		commit_piece(&step->asked, piece);
	signals_let();
}

static void nothing_moves(struct step *step)
{
	memset(step->asked.dst, 0, step->asked.npages * sizeof(*step->asked.dst));
}

/* What the watchdog has undone, the driver is told where it asks. */
static void tell_undone(const struct step *step)
{
	for (unsigned long i = 0; i < step->asked.npages; i++)
		step->asked.src[i] &= ~UMM_MPFN_MIGRATE;
}

/* Returns how many pages have moved. */
static unsigned long pages(struct step *step)
{
	unsigned long moved;

	if (!step_hold(step))
		return 0;
	if (step->undone)
		tell_undone(step);
	else
		commit(step);
	moved = step->asked.cpages;
	step_let(step);
	return moved;
}

/* The step, if it is for this function to go on with. */
static struct step *step_to_go_on(const struct umm_migrate *migrate, const char *function)
{
	struct step *step = step_of(migrate);

	if (!step || !step->by_callbacks)
		return step;
	log_error("%s is for umm_migrate_vma() to call, not for its callbacks", function);
	return NULL;
}

void umm_migrate_pages(struct umm_migrate *migrate)
{
	struct step *step = step_to_go_on(migrate, "umm_migrate_pages");

	if (step)
		migrate->cpages = pages(step);
}

static void finish_pieces(struct step *step)
{
	struct piece *piece;

	while ((piece = step->pieces)) {
		step->pieces = piece->next;
		piece_finish(piece);
	}
}

/* Forks may begin again, and the destination may go. */
static void leave_destination(struct step *step)
{
	if (!step->asked.dst_mem)
		return;
	ctx_move_out_end(step->asked.ctx);
	devmem_unuse(step->asked.dst_mem);
	step->asked.dst_mem = NULL;
}

/* The step is gone. Returns how many pages have moved. */
static unsigned long end(struct step *step)
{
	unsigned long moved;

	if (!step->committed)
		nothing_moves(step);
	commit(step);
	finish_pieces(step);
	leave_destination(step);
	moved = step->asked.cpages;
	arena_unmap(step, sizeof(*step));
	return moved;
}

int umm_migrate_setup(struct umm_migrate *migrate)
{
	struct step *step;
	int ret;

	ret = setup_check(migrate);
	if (ret)
		return ret;
	ctx_pass_gate(migrate->ctx);
	ret = ctx_attach_asked(migrate->ctx, migrate->start, migrate->end);
	prot_refresh(migrate->ctx, migrate->start, migrate->end);
	if (!ret)
		ret = mappings_check(migrate);
	if (ret)
		return ret;
	if (!all_managed(migrate))
		return -EFAULT;
	ret = migrate->dst_mem ? devmem_use(migrate->dst_mem) : 0;
	if (ret)
		return ret;
	step = arena_map(sizeof(*step));
	if (!step) {
		if (migrate->dst_mem)
			devmem_unuse(migrate->dst_mem);
		return -ENOMEM;
	}
	signals_hold();
	/* Once for all blocks: a fork would wait for the first, and the second for the fork. */
	if (migrate->dst_mem)
		ctx_move_out_begin(migrate->ctx);
	migrate->core = step;
	migrate->npages = (migrate->end - migrate->start) >> UMM_PAGE_SHIFT;
	migrate->cpages = 0;
	step->asked = *migrate;
	memset(migrate->src, 0, migrate->npages * sizeof(*migrate->src));
	memset(migrate->dst, 0, migrate->npages * sizeof(*migrate->dst));
	for (uintptr_t va = align_down(step->asked.start, UMM_BLOCK_SIZE);
	     va < step->asked.end && !ret; va += UMM_BLOCK_SIZE)
		ret = setup_block(step, va);
	migrate->cpages = step->asked.cpages;
	if (!ret && !migrate->cpages)
		ret = -ENOENT;
	if (ret) {
		end(step);
		migrate->core = NULL;
	} else {
		watchdog_watch(&migrate->ctx->watchdog, &step->watched);
	}
	signals_let();
	return ret;
}

/* As end(), for a step that is watched. */
static unsigned long finalize(struct step *step)
{
	if (step_hold(step)) {
		watchdog_forget(&step->asked.ctx->watchdog, &step->watched);
		return end(step);
	}
	arena_unmap(step, sizeof(*step));
	return 0;
}

void umm_migrate_finalize(struct umm_migrate *migrate)
{
	struct step *step = step_to_go_on(migrate, "umm_migrate_finalize");

	if (!step)
		return;
	migrate->cpages = finalize(step);
	migrate->core = NULL;
}

/* Back to where it was, whatever the driver has written; its arrays may be gone. */
static void undo_piece(struct piece *piece)
{
	for (unsigned w = 0; w < BITMAP_WORDS; w++)
		piece->undo[w] |= piece->all[w];
	piece_commit(piece);
	if (piece->src)
		devmem_unuse(piece->src);
	piece->src = NULL;
}

void step_undo(struct watched *watched)
{
	struct step *step = (struct step *)watched;
	const struct umm_migrate *asked = &step->asked;

	log_error("the driver has not finalized its migration of %#lx .. %#lx in time: %s",
		  (unsigned long)asked->start, (unsigned long)asked->end,
		  step->committed ? "it is finalized without it" : "it is undone");
	if (!step->committed)
		for (struct piece *piece = step->pieces; piece; piece = piece->next)
			undo_piece(piece);
	step->undone = !step->committed;
	step->committed = true;
	if (step->undone)
		step->asked.cpages = 0;
	/* Without a destination they have host pages that the driver may be writing to. */
	if (step->asked.dst_mem || !step->undone)
		finish_pieces(step);
	leave_destination(step);
}

void step_abandon(struct watched *watched)
{
	struct step *step = (struct step *)watched;

	finish_pieces(step);
	step->asked.ctx = NULL;
}

long umm_migrate_vma(struct umm_migrate *migrate, const struct umm_migrate_ops *ops, void *priv)
{
	struct umm_migrate_ops mine;
	struct step *step;
	int ret;

	ret = struct_in(&mine, sizeof(mine), ops);
	if (!ret && !mine.alloc_and_copy)
		ret = -EINVAL;
	if (!ret)
		ret = umm_migrate_setup(migrate);
	if (ret)
		return ret;
	step = step_of(migrate);
	step->by_callbacks = true;
	ret = log_bad_answer("alloc_and_copy", mine.alloc_and_copy(priv, migrate));
	if (ret)
		nothing_moves(step);
	migrate->cpages = pages(step);
	if (mine.finalize_and_map)
		mine.finalize_and_map(priv, migrate);
	migrate->cpages = finalize(step);
	migrate->core = NULL;
	return ret ? ret : (long)migrate->cpages;
}
