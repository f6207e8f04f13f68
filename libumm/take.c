/* SPDX-License-Identifier: MIT */
/*
 * Taking mapped pages, rung by rung.
 *
 * The top rung is UFFDIO_MOVE: one atomic step that unmaps a page, keeps its data in
 * a staging slot, and refuses one that others hold pinned (EBUSY) or share after
 * a fork; MADV_POPULATE_WRITE makes the latter ours, then it moves too.
 *
 * A lock of the mapping ends first (mlocked.c).
 *
 * The lower rung serves kernels without MOVE, and pages whose mapping refuses it
 * (read-only): write-protect, then mremap(MREMAP_DONTUNMAP) into address space of our
 * own, which takes the pages and leaves the mapping. Its message says where the pages went, and
 * so is known for ours, whatever the program does to its mappings meanwhile.
 *
 * While pages are write-protected or touched in place they are marked COLLECT: if the program drops
 * one meanwhile and touches it again, its fault is filled with zeroes at once (this thread itself
 * may be what waits for it), and the page stays with the CPU. The mark moves with the mapping.
 *
 * Invariant: what was taken cannot be changed by the CPU any more.
 * Locks: the gate, where it must be certain that no event is applied in between; the block's, for
 * marks only.
 */
#include "take.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>

#include "event.h"
#include "hook.h"
#include "log.h"
#include "maps.h"
#include "mlocked.h"
#include "pagemap.h"
#include "pin.h"
#include "taken.h"
#include "uapi.h"
#include "uffd.h"
#include "util.h"

/*
 * Moves that follow each other with the gate closed: their share of closing it, and of asking the
 * kernel, is small then, and a fault that waits for it waits about as long as one takes to serve.
 */
#define STEPS_AT_ONCE 16

/*
 * Pages between two runs that are protected with them: a call costs more than their entries do. A
 * CPU that stores to one ends the protection of all of them with one fault.
 */
#define MOST_BETWEEN 16

static const uint64_t empty_map[BITMAP_WORDS];

void take_begin_touching(struct piece *piece, const uint64_t *map)
{
	struct block *block = block_find(piece->ctx, piece->va);

	for (unsigned i = bit_next(map, 0); i < UMM_BLOCK_PAGES; i = bit_next(map, i + 1)) {
		if (bit_test(piece->left, i))
			bit_set(piece->stay, i);
		else
			block->page[i] |= PG_COLLECT;
	}
	lock_drop(&block->lock);
}

void take_end_touching(struct piece *piece, const uint64_t *map)
{
	struct block *block = block_find(piece->ctx, piece->va);

	for (unsigned i = bit_next(map, 0); i < UMM_BLOCK_PAGES; i = bit_next(map, i + 1)) {
		if (!bit_test(piece->left, i))
			block->page[i] &= (uint16_t)~PG_COLLECT;
		/* Dropped before it was write-protected, perhaps: what is there now counts. */
		if (piece_lost_sight(piece, block, i) || block->page[i] & PG_REFILLED)
			bit_set(piece->stay, i);
	}
	lock_drop(&block->lock);
}

/* Protect those of first .. last that are still where they were; *next is where it stopped. */
static int protect_some(struct piece *piece, unsigned first, unsigned last, bool on, unsigned *next)
{
	struct umm_ctx *ctx = piece->ctx;
	int ret = 0;

	rwlock_take_shared(&ctx->gate);
	while (first < last && bit_test(piece->left, first))
		first++;
	for (*next = first; *next < last && !bit_test(piece->left, *next);)
		(*next)++;
	/* Nobody is woken here: the commit does it, when the page is where it belongs. */
	if (first < *next)
		ret = uffd_writeprotect(ctx->uffd, piece_at(piece, first), run_bytes(*next - first),
					on, false);
	rwlock_drop_shared(&ctx->gate);
	return ret;
}

int take_protect(struct piece *piece, unsigned first, unsigned last, bool on)
{
	unsigned until = last, next, end;
	int ret = 0;

	while (first < last && !ret) {
		ret = protect_some(piece, first, until, on, &next);
		end = ret == -ENOENT ? take_mapping_end(piece, first, until) : until;
		if (ret == -EAGAIN) {
			event_pump(piece->ctx);
			ret = 0;
		} else if (end < until) {
			/* Older kernels (6.1) protect what is of one mapping, and nothing else. */
			until = end;
			ret = 0;
		} else {
			first = next;
			until = last;
		}
	}
	return ret;
}

/*
 * May page i, between two runs of a piece, be protected along with them, or let go? Not what is
 * another piece's, nor pinned. A device that stores to it in place does so as a CPU does.
 */
static bool may_go_along(const struct block *block, unsigned i, bool on)
{
	switch (page_state(block, i)) {
	case PG_SYSTEM:
		return !on || !(block->page[i] & PG_DROPPING || page_pinned(block, i));
	case PG_EMPTY:
	case PG_DEVICE:
		return true;
	case PG_DUPLICATED:
		return on;
	default:
		return false;
	}
}

/* Few pages, all of which may go along? */
static bool may_all_go_along(const struct block *block, unsigned first, unsigned end, bool on)
{
	if (end - first > MOST_BETWEEN)
		return false;
	while (first < end && may_go_along(block, first, on))
		first++;
	return first == end;
}

/*
 * From page *first on: the end of the runs that may go in one call; *first where there is none.
 * Where next to nothing of the block is left, that goes along too: a huge page stays whole then.
 */
static unsigned stretch_end(const struct piece *piece, const struct block *block,
			    const uint64_t *map, unsigned *first, bool on)
{
	unsigned end = bit_next_clear(map, *first), next;

	while ((next = bit_next(map, end)) < UMM_BLOCK_PAGES &&
	       may_all_go_along(block, end, next, on))
		end = bit_next_clear(map, next);
	if (bit_next(piece->left, *first) < end)
		return *first;
	if (may_all_go_along(block, 0, *first, on) &&
	    may_all_go_along(block, end, UMM_BLOCK_PAGES, on)) {
		*first = 0;
		end = UMM_BLOCK_PAGES;
	}
	return end;
}

/* What lies between runs that were protected, or let go, with them. */
static void mark_between(struct block *block, const uint64_t *map, unsigned first, unsigned end,
			 bool on)
{
	for (unsigned i = first; i < end; i++) {
		if (bit_test(map, i) || page_state(block, i) != PG_SYSTEM)
			continue;
		if (on)
			block->page[i] |= PG_GUARDED;
		else
			block->page[i] &= (uint16_t)~PG_GUARDED;
	}
}

/* Runs that lie close together, in one call. Where it ends; first: nothing was done. */
static unsigned protect_stretch(struct piece *piece, const uint64_t *map, unsigned first, bool on)
{
	struct umm_ctx *ctx = piece->ctx;
	unsigned begin = first, end;
	struct block *block;
	int ret;

	rwlock_take_shared(&ctx->gate);
	block = block_find(ctx, piece->va);
	end = stretch_end(piece, block, map, &begin, on);
	ret = end == begin ? -EAGAIN :
			     uffd_writeprotect(ctx->uffd, piece_at(piece, begin),
					       run_bytes(end - begin), on, false);
	/* What failed may have protected some. */
	if (on || !ret)
		mark_between(block, map, begin, end, on);
	lock_drop(&block->lock);
	rwlock_drop_shared(&ctx->gate);
	return ret ? first : end;
}

/* A system call that stores to a page of these would fail where its faults are not served. */
static bool may_protect_more(const struct umm_ctx *ctx)
{
	return ctx->features & UMM_KERNEL_SYSCALL_FAULTS && !ctx->in_thread;
}

/* Would a piece of these pages protect all of the block? Then mark what it finds there. */
static bool mark_whole(struct umm_ctx *ctx, uintptr_t va, const uint64_t *map)
{
	struct block *block = block_find(ctx, va);
	unsigned between = 0, i = 0;

	if (!block)
		return false;
	for (; i < UMM_BLOCK_PAGES && may_go_along(block, i, true); i++) {
		between = bit_test(map, i) ? 0 : between + 1;
		if (between > MOST_BETWEEN)
			break;
	}
	if (i == UMM_BLOCK_PAGES)
		mark_between(block, empty_map, 0, UMM_BLOCK_PAGES, true);
	lock_drop(&block->lock);
	return i == UMM_BLOCK_PAGES;
}

void take_protect_blocks(struct umm_ctx *ctx, uintptr_t va, const uint64_t (*maps)[BITMAP_WORDS],
			 unsigned nblocks)
{
	unsigned n = 0;

	if (!may_protect_more(ctx))
		return;
	rwlock_take_shared(&ctx->gate);
	while (n < nblocks && mark_whole(ctx, va + n * UMM_BLOCK_SIZE, maps[n]))
		n++;
	if (n > 1)
		uffd_writeprotect(ctx->uffd, va, n * UMM_BLOCK_SIZE, true, false);
	rwlock_drop_shared(&ctx->gate);
}

void take_protect_map(struct piece *piece, const uint64_t *map, bool on)
{
	unsigned first, next;

	for (first = bit_next(map, 0); first < UMM_BLOCK_PAGES; first = bit_next(map, next)) {
		next = first;
		if (!on || may_protect_more(piece->ctx))
			next = protect_stretch(piece, map, first, on);
		if (next > first)
			continue;
		next = bit_next_clear(map, first);
		if (take_protect(piece, first, next, on) && on)
			bits_set(piece->stay, first, next);
	}
}

/* Has nothing happened to any of these pages, whosever they are? Then none is looked at. */
static bool all_in_sight(const struct piece *piece, const struct block *block, unsigned first,
			 unsigned last, uint16_t flags)
{
	return !bit_any(piece->left) && !pages_any(block, first, last, flags);
}

static bool leave_lost(struct piece *piece, const struct block *block, unsigned first,
		       unsigned last)
{
	bool any = false;

	for (unsigned i = first; i < last; i = bit_next(piece->all, i + 1)) {
		if (!piece_lost_sight(piece, block, i))
			continue;
		bit_set(piece->stay, i);
		any = true;
	}
	return any;
}

bool take_leave_left(struct piece *piece, unsigned first, unsigned last)
{
	struct block *block;
	bool any = false;

	while (uffd_is_changing(piece->ctx->uffd))
		event_pump(piece->ctx);
	block = block_find(piece->ctx, piece->va);
	if (!all_in_sight(piece, block, first, last, PG_DISCARD))
		any = leave_lost(piece, block, first, last);
	lock_drop(&block->lock);
	return any;
}

unsigned take_mapping_end(const struct piece *piece, unsigned first, unsigned last)
{
	bool query = piece->ctx->features & UMM_KERNEL_PROCMAP_QUERY;
	struct maps_vma vma;

	if (maps_find(piece_at(piece, first), query, &vma) || vma.end >= piece_at(piece, last))
		return last;
	return first + (unsigned)((vma.end - piece_at(piece, first)) >> UMM_PAGE_SHIFT);
}

void take_unprotect_stayed(struct piece *piece, const uint64_t *map)
{
	uint64_t stayed[BITMAP_WORDS];

	for (unsigned w = 0; w < BITMAP_WORDS; w++)
		stayed[w] = map[w] & piece->stay[w] & ~piece->duplicated[w];
	take_protect_map(piece, stayed, false);
}

/* Address space for pages that are taken with their mapping. */
static uintptr_t scratch_get(struct piece *piece)
{
	uintptr_t base;
	void *map;

	if (piece->scratch)
		return piece->scratch;
	map = mmap(NULL, 2 * UMM_BLOCK_SIZE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE,
		   -1, 0);
	if (map == MAP_FAILED)
		return 0;
	/* Aligned, so that huge pages move whole. */
	base = align_up((uintptr_t)map, UMM_BLOCK_SIZE);
	if (base > (uintptr_t)map)
		arena_unmap(map, base - (uintptr_t)map);
	if (base - (uintptr_t)map < UMM_BLOCK_SIZE)
		arena_unmap((void *)(base + UMM_BLOCK_SIZE),
			    UMM_BLOCK_SIZE - (base - (uintptr_t)map));
	piece->scratch = base;
	return base;
}

/* Only while its mapping is still here: another one's lock is not ours to end. */
static bool unlock_here(struct piece *piece, unsigned i)
{
	struct umm_ctx *ctx = piece->ctx;
	bool ended = false;

	rwlock_take_shared(&ctx->gate);
	if (!bit_test(piece->left, i))
		ended = mlocked_end(piece_at(piece, i), piece->va, piece->va + UMM_BLOCK_SIZE,
				    ctx->features & UMM_KERNEL_PROCMAP_QUERY);
	rwlock_drop_shared(&ctx->gate);
	return ended;
}

bool take_unlock(struct piece *piece, uintptr_t target, unsigned i)
{
	bool ours = mlocked_end_ours(target);

	return unlock_here(piece, i) || ours;
}

/* Take pages of one mapping, and leave the mapping: one step, and one message, for all of them. */
static int remap_pages(struct piece *piece, unsigned first, unsigned last)
{
	uintptr_t scratch = scratch_get(piece);
	struct expect expect = {
		.start = piece_at(piece, first),
		.end = piece_at(piece, last),
		.to = scratch + run_bytes(first),
	};
	uint64_t present[BITMAP_WORDS];
	void *map;

	if (!scratch)
		return -ENOMEM;
	/* Else `scratch` is locked, and a mapping stays that does not join its neighbours. */
	unlock_here(piece, first);
	event_expect(piece->ctx, &expect);
	map = mremap((void *)piece_at(piece, first), run_bytes(last - first),
		     run_bytes(last - first), MREMAP_MAYMOVE | MREMAP_FIXED | MREMAP_DONTUNMAP,
		     (void *)expect.to);
	event_expect_end(piece->ctx, &expect, map != MAP_FAILED);
	if (map == MAP_FAILED)
		return -errno;
	/* Both are inherited from the program's mapping. */
	uffd_unregister(piece->ctx->uffd, expect.to, run_bytes(last - first));
	mprotect(map, run_bytes(last - first), PROT_READ | PROT_WRITE);
	/* The program may have dropped pages, or moved them away, a moment before. */
	if (pagemap_populated(expect.to, last - first,
			      piece->ctx->features & UMM_KERNEL_PAGEMAP_SCAN, present))
		memset(present, 0xff, sizeof(present));
	for (unsigned i = first; i < last; i++)
		bit_set(bit_test(present, i - first) ? piece->apart : piece->stay, i);
	return 0;
}

/* The same for pages of several mappings. What cannot be taken stays. */
static void take_apart(struct piece *piece, unsigned first, unsigned last)
{
	unsigned end;

	for (; (first = next_run(piece, first, last, &end)) < last; first = end) {
		end = take_mapping_end(piece, first, end);
		if (take_leave_left(piece, first, end))
			end = first;
		else if (remap_pages(piece, first, end))
			bits_set(piece->stay, first, end);
	}
}

/* There is no such mapping any more, and nobody has told: whatever the books say ends here. */
static void forget_untold(struct piece *piece, unsigned i)
{
	struct umm_ctx *ctx = piece->ctx;

	rwlock_take(&ctx->gate);
	if (!bit_test(piece->left, i)) {
		log_warning("the mapping at %#lx went away unseen",
			    (unsigned long)piece_at(piece, i));
		event_clear(ctx, piece_at(piece, i), piece_at(piece, i + 1), true);
	}
	rwlock_drop(&ctx->gate);
}

bool take_moved_away(struct piece *piece, unsigned i)
{
	bool gone = take_protect(piece, i, i + 1, false) == -ENOENT, left;
	struct block *block;

	/* What was read is also applied. */
	ctx_pass_gate(piece->ctx);
	block = block_find(piece->ctx, piece->va);
	left = bit_test(piece->left, i);
	lock_drop(&block->lock);
	if (gone && !left)
		forget_untold(piece, i);
	return gone || left;
}

/* Write-protect a run; what was dropped, unmapped or filled afresh meanwhile stays. */
static void protect_run(struct piece *piece, const uint64_t *run, unsigned first, unsigned last)
{
	int ret;

	take_begin_touching(piece, run);
	ret = take_protect(piece, first, last, true);
	take_end_touching(piece, run);
	for (unsigned i = first; i < last && ret == -ENOENT; i++)
		take_moved_away(piece, i);
	if (ret)
		bits_set(piece->stay, first, last);
}

void take_by_remap(struct piece *piece, unsigned first, unsigned last)
{
	uint64_t run[BITMAP_WORDS] = { 0 };

	bits_set(run, first, last);
	protect_run(piece, run, first, last);
	take_apart(piece, first, last);
	take_unprotect_stayed(piece, run);
}

void take_unshare(struct piece *piece, unsigned first, unsigned last)
{
	uint64_t run[BITMAP_WORDS] = { 0 };
	unsigned from, to;

	bits_set(run, first, last);
	take_begin_touching(piece, run);
	/* A protection that outlived its reason would make this thread wait for itself. */
	take_protect(piece, first, last, false);
	for_each_going(piece, first, last, from, to)
		madvise((void *)piece_at(piece, from), run_bytes(to - from), MADV_POPULATE_WRITE);
	take_end_touching(piece, run);
}

bool take_leave_dropped(struct piece *piece, const uint64_t *map, unsigned first, unsigned last)
{
	struct block *block = block_find(piece->ctx, piece->va);
	bool any = false, all_here;

	/* Refilled: what is there is not what was collected, and counts. */
	all_here = all_in_sight(piece, block, first, last, PG_DISCARD | PG_REFILLED) &&
		   !bit_any(piece->stay);
	for (unsigned i = bit_next(map, first); i < last && !all_here; i = bit_next(map, i + 1)) {
		if (piece_lost_sight(piece, block, i) || block->page[i] & PG_REFILLED)
			bit_set(piece->stay, i);
		any |= bit_test(piece->stay, i);
	}
	lock_drop(&block->lock);
	return any;
}

uintptr_t take_target(const struct piece *piece, const uintptr_t *place, unsigned i)
{
	return place ? place[i] : piece->slot + run_bytes(i);
}

/* The end of the pages from `first` on that go in one step: neighbours, here and there. */
static unsigned step_end(const struct piece *piece, const uintptr_t *place, const uint64_t *map,
			 unsigned first, unsigned last)
{
	unsigned end = first + 1;

	last = bits_alike(piece->stay, first, bits_alike(map, first, last));
	if (!place)
		return last;
	while (end < last && place[end] == place[end - 1] + UMM_PAGE_SIZE)
		end++;
	return end;
}

/* One step. How many pages went. */
static unsigned move_step(const struct piece *piece, const uintptr_t *place, unsigned first,
			  unsigned end, int *ret)
{
	bool scan = piece->ctx->features & UMM_KERNEL_PAGEMAP_SCAN;
	uintptr_t to = take_target(piece, place, first), from = piece_at(piece, first);
	size_t done, len = run_bytes(end - first);

	*ret = uffd_move(piece->ctx->staging.uffd, to, from, len, false, &done);
	if (*ret == -EEXIST)
		done += run_bytes((unsigned)pagemap_moved(to + done, from + done,
							  (len - done) >> UMM_PAGE_SHIFT, scan));
	if (done == len)
		*ret = 0;
	return (unsigned)(done >> UMM_PAGE_SHIFT);
}

/* A few steps. Returns where to go on, and in *ret why, if the page there did not go. */
static unsigned move_some(struct piece *piece, const uintptr_t *place, const uint64_t *map,
			  unsigned first, unsigned last, int *ret)
{
	unsigned end;

	first = next_going(piece, map, first);
	for (unsigned n = 0; n < STEPS_AT_ONCE && first < last && !*ret; n++) {
		end = step_end(piece, place, map, first, last);
		first += move_step(piece, place, first, end, ret);
		hook_run(HOOK_TAKEN, piece->va);
		if (!*ret)
			first = next_going(piece, map, first);
	}
	return min(first, last);
}

/* Pages were moved while the program changed its mappings. */
static void sort_out(struct piece *piece, const uintptr_t *place, const uint64_t *map,
		     unsigned first, unsigned last)
{
	struct taken taken = {
		.piece = piece,
		.map = map,
		.place = place,
		.first = first,
		.last = last,
	};

	taken_sort_out(&taken);
}

/*
 * The kernel knows nothing of books: that these are still the pages that were collected is made
 * sure by reading no message meanwhile, and by asking whether there is one, before and after.
 */
unsigned take_by_move(struct piece *piece, const uintptr_t *place, const uint64_t *map,
		      unsigned first, unsigned last, int *ret)
{
	struct umm_ctx *ctx = piece->ctx;
	unsigned next;

	*ret = 0;
	rwlock_take(&ctx->gate);
	while (uffd_is_changing(ctx->uffd))
		event_read_ahead(ctx);
	take_leave_dropped(piece, map, first, last);
	next = move_some(piece, place, map, first, last, ret);
	if (uffd_is_changing(ctx->uffd))
		sort_out(piece, place, map, first, next);
	rwlock_drop(&ctx->gate);
	return next;
}
