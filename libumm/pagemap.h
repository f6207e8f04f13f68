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

/* Open it, if it is not open, and keep it. 0, or why not: -EACCES, -EOPNOTSUPP without /proc. */
int pagemap_open(void);

/* Does this kernel have PAGEMAP_SCAN? */
bool pagemap_has_scan(void);

#endif
