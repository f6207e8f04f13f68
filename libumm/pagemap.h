/* SPDX-License-Identifier: MIT */
/*
 * Which pages of this process are populated: PAGEMAP_SCAN where it exists, else
 * /proc/self/pagemap.
 */
#ifndef PAGEMAP_H
#define PAGEMAP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/*
 * Set bit i of bitmap (npages bits, cleared first) where page i from start is present
 * or swapped out. The huge or small zero page counts as present, a poisoned page as
 * swapped out. allow_scan false forces the file. npages is at most 512. Where the file cannot
 * be opened, all are set. 0 or -errno. Uses no malloc.
 */
int pagemap_populated(uintptr_t start, size_t npages, bool allow_scan, uint64_t *bitmap);

/*
 * UFFDIO_MOVE sometimes (6.18) moves pages and then finds them in its own way: -EEXIST. How many of
 * npages, from the first on, are at dst and no longer at src? Otherwise likewise.
 */
size_t pagemap_moved(uintptr_t dst, uintptr_t src, size_t npages, bool allow_scan);

/* What the page map knows of npages (at most 512) pages; bit i of each is page i. */
struct pagemap_pages {
	uint64_t present[8]; /* mapped, not swapped out */
	uint64_t zero[8];    /* the zero page; on the lower rung, only with CAP_SYS_ADMIN */
	uint64_t file[8];    /* of a file or shared memory: not private to the process (yet) */
	uint64_t huge[8]; /* part of a huge page that is mapped whole; unknown on the lower rung */
};
int pagemap_look(uintptr_t start, size_t npages, bool allow_scan, struct pagemap_pages *pages);
/* Open it, if it is not open, and keep it. 0, or why not: -EACCES, -EOPNOTSUPP without /proc. */
int pagemap_open(void);

/* Does this kernel have PAGEMAP_SCAN? */
bool pagemap_has_scan(void);

#endif
