/* SPDX-License-Identifier: MIT */
/*
 * What the kernel says of this process's mappings: PROCMAP_QUERY where it exists,
 * else /proc/self/maps.
 */
#ifndef MAPS_H
#define MAPS_H

#include <stdbool.h>
#include <stdint.h>

struct maps_vma {
	uintptr_t start;
	uintptr_t end;
	bool read;
	bool write;
	bool exec;
	bool shared;
	bool anon;    /* no file behind it (heap and stack included), and not special like [vdso] */
	bool special; /* not memory of the usual kind: [vdso] and the like, device I/O */
	bool huge;    /* of hugetlb pages, */
	uint8_t order; /* of so many pages each, as a power of 2; 0: not looked for (see below) */
};

/*
 * Find the mapping that covers addr, or else the next above it. allow_ioctl false
 * forces the text file. 0; -ENOENT nothing at or above ([vsyscall] does not count); or
 * -errno (-EOPNOTSUPP without /proc). Uses no malloc.
 */
int maps_find(uintptr_t addr, bool allow_ioctl, struct maps_vma *vma);

/*
 * The order of the pages of a hugetlb mapping; where PROCMAP_QUERY has not told it, smaps does, at
 * the cost of a walk through all mappings before it. The commonest, 9, where nobody tells.
 */
unsigned maps_huge_order(const struct maps_vma *vma);

/* Open what is needed, if it is not open, and keep it. 0, or why not. */
int maps_open(void);

/* Does this kernel have PROCMAP_QUERY? */
bool maps_has_query(void);

#endif
