/* SPDX-License-Identifier: MIT */
/*
 * The books of a piece that commits: what a page of it becomes (commit.c decides), and the frames
 * that are its home, or no longer (settle.c).
 */
#ifndef SETTLE_H
#define SETTLE_H

#include "piece.h"

enum action {
	ACT_SYSTEM, /* is mapped: host frame */
	ACT_EMPTY,
	ACT_MIRRORED, /* is mapped, of a file */
	ACT_NATIVE,   /* the mapping is gone, nobody knows where: what is there now */
	ACT_POISON,
	ACT_KEEP,      /* the source frame is still its home */
	ACT_DEVICE,    /* the destination frame is its home */
	ACT_EXCLUSIVE, /* likewise, and the frame is a place that holds it already */
	ACT_COPIED,    /* duplicated: host frame and destination frame */
	ACT_HOME,      /* install a staged host page */
	ACT_COHERENT,  /* install the destination frame */
	ACT_RECOHERE,  /* install the source frame again */
};

/* Pages first .. last - 1, which fare alike; gate and block are locked. */
struct run {
	struct piece *piece;
	struct block *block; /* where their mapping is */
	unsigned shift;	     /* from the piece's number of a page to the block's, modulo 2^32 */
	uint64_t *todo;	     /* pages of the piece that are not settled */
	enum action action;
	unsigned first, last;
	uintptr_t source; /* of `first`, where they are to be installed; the others follow */
	bool moved;	  /* installed by moving, not by copying */
};

/* The number that page i of the piece has in the block. */
static inline unsigned in_block(const struct run *run, unsigned i)
{
	return i + run->shift;
}

/*
 * The books of pages first .. last - 1 of the run, once they are where the action says. What could
 * not be settled is not taken off the run's list, and goes back. Gate and block are locked.
 */
void settle_pages(const struct run *run, enum action action, unsigned first, unsigned last);

/* The frame that the page came from is no longer its home, and its block has forgotten it. */
void settle_free_origin(struct piece *piece, unsigned i);
/* So many were put on `freed`: their memory's counts. */
void settle_count_freed(struct piece *piece, unsigned n);

#endif
