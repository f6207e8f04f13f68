/* SPDX-License-Identifier: MIT */
/* How much of the program's managed memory is in host frames. The engine's thread only. */
#ifndef RESIDENCY_H
#define RESIDENCY_H

#include <stddef.h>
#include <stdint.h>

#include <umm.h>

/*
 * Count, and tell the policy of blocks that have pages. Returns a bound, in pages: what is native
 * counts whole, for it may be filled at any time; of what libumm manages, the pages that are there.
 */
uint64_t residency_count(struct umm_ctx *ctx);

/* The same bound without counting: what libumm brought home since is added. Cheap. */
uint64_t residency_bound(struct umm_ctx *ctx);

/* Pages that the bound may be too high by: what was freed since they were counted. */
uint64_t residency_stale(void);

/*
 * So many pages that are in host frames become managed, and were native until now; so many managed
 * ones left.
 */
void residency_managed(uint64_t npages);
void residency_left(uint64_t npages);

/* Bytes 1 of @present for the pages of the block at @base that are in host frames and used. */
unsigned residency_block(uintptr_t base, unsigned char *present);

/* How many of start..end, which is within a block, are in host frames. */
unsigned residency_part(uintptr_t start, uintptr_t end);

/* In a forked child: nothing is managed. */
void residency_reset(void);

#endif
