/* SPDX-License-Identifier: MIT */
/* Pages taken from the CPU while the program changed its mappings: whose they are. */
#ifndef TAKEN_H
#define TAKEN_H

#include <stdbool.h>

#include "block.h"
#include "uffd.h"

struct piece;

/* Pages first .. last - 1 of a map that a piece has just moved out. */
struct taken {
	struct piece *piece;
	const uint64_t *map;
	const uintptr_t *place; /* where each is now; NULL: at its place in the piece's slot */
	unsigned first, last;
	/*
	 * Where the page is now that has arrived where page i was taken, and which may be what was
	 * taken; 0: there is none, or what it held was dropped since.
	 */
	uintptr_t other[UMM_BLOCK_PAGES];
};

/*
 * Give back what turns out to be another page's; page i of the piece, whose mapping had moved away
 * before, stays. Under the gate, held exclusively.
 */
void taken_sort_out(struct taken *taken);

/* A mapping has moved, and is in the books; likewise. */
void taken_follow(struct umm_ctx *ctx, const struct uffd_msg_info *info);

/* What start .. end held was dropped, or is unmapped; likewise. */
void taken_drop(struct umm_ctx *ctx, uintptr_t start, uintptr_t end);

#endif
