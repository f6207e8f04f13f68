/* SPDX-License-Identifier: MIT */
/* Written pages of private file mappings: they are the process's own, and migrate. */
#ifndef CLAIM_H
#define CLAIM_H

#include "block.h"

struct piece;
struct umm_ctx;

/*
 * Which MIRRORED ones of these pages are such; false: none. The block is locked, and its pages
 * were looked at just now (block_register()).
 */
bool claim_choose(struct umm_ctx *ctx, struct block *block, const uint64_t *pages,
		  uint64_t *chosen);

/*
 * Take a piece's `claimed` pages from the CPU: what they held is in staging afterwards, and their
 * mapping is anonymous. Those that could not be taken stay.
 */
void claim_pages(struct piece *piece);

#endif
