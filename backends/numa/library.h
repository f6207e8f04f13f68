/* SPDX-License-Identifier: MIT */
/* libnuma, loaded when it is first needed. */
#ifndef NUMA_LIBRARY_H
#define NUMA_LIBRARY_H

#include <numa.h>
#include <numaif.h>
#include <stdint.h>

/* The functions of libnuma that are used, as numa.h and numaif.h declare them. */
struct library {
	int (*available)(void);
	struct bitmask *(*mems_allowed)(void);
	struct bitmask *(*nodemask)(void);
	struct bitmask *(*set_bit)(struct bitmask *mask, unsigned bit);
	int (*test_bit)(const struct bitmask *mask, unsigned bit);
	void (*free_mask)(struct bitmask *mask);
	long (*mbind)(void *start, unsigned long len, int mode, const unsigned long *mask,
		      unsigned long nbits, unsigned flags);
	long (*get_mempolicy)(int *mode, unsigned long *mask, unsigned long nbits, void *addr,
			      unsigned flags);
	long (*set_mempolicy)(int mode, const unsigned long *mask, unsigned long nbits);
	long (*move_pages)(int pid, unsigned long npages, void **pages, const int *nodes,
			   int *status, int flags);
};

/*
 * The library, or NULL: it is not there, or the kernel knows no nodes; *ret says why not, and the
 * log what to do about it. The node is named there, unless it is one of enum umm_numa_choice.
 */
const struct library *library_get(int node, int *ret);

/* What to tell people then. */
const char *library_advice(void);

#endif
