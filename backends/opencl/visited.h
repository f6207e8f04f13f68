/* SPDX-License-Identifier: MIT */
/* A set of addresses: where a work-item has missed pages. */
#ifndef OPENCL_VISITED_H
#define OPENCL_VISITED_H

#include <stdbool.h>
#include <stdint.h>

/* All zero: empty. No locks: its owner's. */
struct visited {
	uint64_t *keys; /* an open hash table, at most half full; 0: empty */
	uint32_t size;	/* a power of two, or 0 */
	uint32_t count;
};

/* true: it was not there. Where memory runs out it counts as known. */
bool visited_add(struct visited *visited, uint64_t addr);

/* Empty again; frees its memory. */
void visited_clear(struct visited *visited);

#endif
