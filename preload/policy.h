/* SPDX-License-Identifier: MIT */
/*
 * Which pages leave the host, and which come back with their neighbours. Pure bookkeeping: no
 * system calls but for memory of its own, no locks; the engine's thread is the only caller. It
 * learns of three things: a block has pages in the host, a page was put on a device, a page was
 * touched there.
 */
#ifndef POLICY_H
#define POLICY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "policy/sample.h"

enum {
	POLICY_PAGES = 512,	    /* of a block */
	POLICY_READAHEAD = 1024,    /* most pages from one mark to the next */
	POLICY_READAHEAD_FIRST = 8, /* so many at first */
};

/* What happened so far. */
struct policy_counts {
	uint64_t touched;   /* pages that came back because they were touched, */
	uint64_t returned;  /* those of them that had been away for a short time only, */
	uint64_t thrashed;  /* and those that had been found hot before */
	uint64_t readahead; /* pages that came along */
};

/* How many pages the host may keep; before anything else, and when that changes. */
void policy_resize(uint64_t host_pages);

/*
 * Who says from now on which pages of a block may go, instead of the default. What another one has
 * learned is forgotten; which pages are away, and since when, is not.
 */
void policy_sampling(const struct sample_ops *ops);

/* Forget all blocks, and what was seen. */
void policy_reset(void);

/* The block at @base (2 MiB aligned) has pages in the host. -ENOMEM: it is not looked after. */
int policy_see(uintptr_t base);

/* The block whose turn it is to give pages; it is last in line then. False: there is none. */
bool policy_turn(uintptr_t *base);

/* How many turns a full round is. */
size_t policy_blocks(void);

/*
 * The next block of which a page should be moved aside for a look, before its turn comes. False:
 * there is none; the same one not again before its turn.
 */
bool policy_probe_next(uintptr_t *base);

/* Which page: one of those that are @present; POLICY_PAGES: there is none. */
unsigned policy_probe_choose(const unsigned char present[POLICY_PAGES]);

/* The page at @addr was moved aside. */
void policy_probed(uintptr_t addr);

/* How many were, and have neither left since, nor was it their block's turn. */
uint64_t policy_probes(void);

/* It is the block's turn: which page of it was; 0: none. */
uintptr_t policy_probe_of(uintptr_t base);

/* What became of it. */
enum policy_probe {
	POLICY_PROBE_ASIDE, /* nobody touched it */
	POLICY_PROBE_BACK,
	POLICY_PROBE_GONE, /* the program gave it back */
};

/* True: the block's turn passes. */
bool policy_probe_end(uintptr_t base, enum policy_probe what);

/*
 * Of the pages that are @present, leave those set that may go, at most @want. Returns how many.
 */
unsigned policy_choose(uintptr_t base, unsigned char present[POLICY_PAGES], unsigned want);

/* These pages are on a device now. */
void policy_demoted(uintptr_t start, size_t npages);

/* The block is gone. */
void policy_forget(uintptr_t base);

/* Pages that should come home before they are touched. */
struct policy_fetch {
	uintptr_t start;
	unsigned npages; /* 0: no order is to be seen in what is touched */
	uintptr_t mark;	 /* one of them that should stay: its touch asks for the next ones */
};

/* The page at @addr was touched on a device and is back. */
struct policy_fetch policy_touched(uintptr_t addr);

/* How many pages of the block were touched on a device since the last call. */
unsigned policy_touches_take(uintptr_t base);

/*
 * Most of what leaves is wanted again soon: the limit is too small for the program, and putting
 * pages away ahead of need only makes it worse.
 */
bool policy_is_thrashing(void);

/* Most of what comes home was touched itself: a page at a time. */
bool policy_is_scattered(void);

const struct policy_counts *policy_counts(void);

#endif
