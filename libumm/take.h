/* SPDX-License-Identifier: MIT */
/*
 * Taking mapped pages of a piece from the CPU, mapping by mapping: what unmap.c chooses from. All
 * of it concerns pages first .. last - 1 of the piece, and sets `stay` for what cannot be taken.
 * Nothing is locked when they are called.
 */
#ifndef TAKE_H
#define TAKE_H

#include "piece.h"

static inline uintptr_t piece_at(const struct piece *piece, unsigned i)
{
	return piece->va + ((uintptr_t)i << UMM_PAGE_SHIFT);
}

static inline size_t run_bytes(unsigned npages)
{
	return (size_t)npages << UMM_PAGE_SHIFT;
}

/* From first on, the next run of pages that do not stay: where it begins, and ends. */
static inline unsigned next_run(const struct piece *piece, unsigned first, unsigned last,
				unsigned *end)
{
	while (first < last && bit_test(piece->stay, first))
		first++;
	*end = first;
	while (*end < last && !bit_test(piece->stay, *end))
		(*end)++;
	return first;
}

/* From page i on, the next one of the map that does not stay. */
static inline unsigned next_going(const struct piece *piece, const uint64_t *map, unsigned i)
{
	i = bit_next(map, i);
	while (i < UMM_BLOCK_PAGES && bit_test(piece->stay, i))
		i = bit_next(map, i + 1);
	return i;
}

#define for_each_going(piece, first, last, from, to)                            \
	for ((from) = next_run((piece), (first), (last), &(to)); (from) < (to); \
	     (from) = next_run((piece), (to), (last), &(to)))

/* Where the mapping of page first ends, at most at last. */
unsigned take_mapping_end(const struct piece *piece, unsigned first, unsigned last);

/*
 * Taking pages works on addresses, and nothing keeps the program from unmapping or moving them, and
 * its next mmap() from getting the same ones. While an event is unread the kernel says so; so ask,
 * read what there is, and leave out pages that went away. True: there are some. What happens after
 * this look and before the pages are moved is the program's race: see docs/design.md.
 */
bool take_leave_left(struct piece *piece, unsigned first, unsigned last);

/*
 * Mark pages that are about to be write-protected or touched in place (COLLECT). At the address of
 * one that has left there may be another piece's by now: it stays out of what follows.
 */
void take_begin_touching(struct piece *piece, const uint64_t *map);
/* From here on a missing fault waits again. Pages refilled meanwhile stay with the CPU. */
void take_end_touching(struct piece *piece, const uint64_t *map);

/*
 * Write-protect, or no longer, the pages that are still where they were. Nobody is woken: the
 * commit does it, when the page is where it belongs. 0; -ENOENT: there is no such mapping.
 */
int take_protect(struct piece *piece, unsigned first, unsigned last, bool on);
/*
 * The same of all pages of a map, where runs that lie close together take one call: what lies
 * between them is protected too (GUARDED), or no longer. What cannot be protected stays.
 */
void take_protect_map(struct piece *piece, const uint64_t *map, bool on);
/*
 * Write-protect whole blocks, from the first on, before pieces take the pages of these maps from
 * them: those that a piece would protect as a whole. A hint: pieces protect them again.
 */
void take_protect_blocks(struct umm_ctx *ctx, uintptr_t va, const uint64_t (*maps)[BITMAP_WORDS],
			 unsigned nblocks);
/* Let pages that stay be written again, unless other copies of them exist. */
void take_unprotect_stayed(struct piece *piece, const uint64_t *map);

/* Pages shared since a fork become ours alone; harmless to others. */
void take_unshare(struct piece *piece, unsigned first, unsigned last);

/*
 * Is the page not here because its mapping moved, or is gone? Asking anything of the userfaultfd
 * makes sure that what the program has done is known.
 */
bool take_moved_away(struct piece *piece, unsigned i);

/*
 * The program may have dropped pages of the map since they were collected. If by MADV_FREE, they
 * are still mapped, and what it stores there counts: such pages stay. With the gate held, whether
 * a page was dropped before or after it is moved is certain. True: some stay.
 */
bool take_leave_dropped(struct piece *piece, const uint64_t *map, unsigned first, unsigned last);

/*
 * The top rung: move pages of the map to their places (NULL: to theirs in the piece's slot), a few
 * stretches of them in one go. Returns the page to go on with, and in *ret why, if it did not go.
 */
unsigned take_by_move(struct piece *piece, const uintptr_t *place, const uint64_t *map,
		      unsigned first, unsigned last, int *ret);
/*
 * The kernel moves no page between locked mappings (mlock(), mlockall()) and others. Ends the lock
 * of page i's mapping in this block, and of where it was to be moved. False: there was none.
 */
bool take_unlock(struct piece *piece, uintptr_t target, unsigned i);
/* Where the top rung moves page i to. */
uintptr_t take_target(const struct piece *piece, const uintptr_t *place, unsigned i);
/* The lower rung: into the piece's `scratch`, with their mapping (`apart`). */
void take_by_remap(struct piece *piece, unsigned first, unsigned last);

#endif
