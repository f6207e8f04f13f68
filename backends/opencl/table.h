/* SPDX-License-Identifier: MIT */
/*
 * The host's copy of the device page table: the same two arrays that umm_device.cl
 * walks, and notes on what the device's copy lacks. Pure data: no OpenCL, no locks.
 */
#ifndef OPENCL_TABLE_H
#define OPENCL_TABLE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define TABLE_VALID	   UINT32_C(1)
#define TABLE_WRITE	   UINT32_C(2)
#define TABLE_POOL_SHIFT   2
#define TABLE_FRAME_SHIFT  4
#define TABLE_LEAF_ENTRIES 512
#define TABLE_LEAF_BYTES   (TABLE_LEAF_ENTRIES * sizeof(uint32_t))
#define TABLE_ADDRESS_BITS 47
#define TABLE_NONE	   UINT32_MAX
#define TABLE_CHUNK_SLOTS  512 /* the directory is uploaded in such chunks */

/* As the device reads it: an empty slot has key 0. */
struct table_slot {
	uint32_t key; /* block number + 1 */
	uint32_t leaf;
};

struct table_leaf {
	uint32_t block;	 /* TABLE_NONE: the leaf is free, */
	uint32_t nvalid; /* and this is the next free one, outside the window */
};

struct table {
	uint32_t first;	  /* a window of blocks: the leaf of block first + i is i, */
	uint32_t nwindow; /* for i below this */
	uint32_t nwindow_live;
	uint32_t max_window;
	struct table_slot *directory; /* 1 << directory_bits slots, at most half of them in use */
	uint32_t *leaves;	      /* TABLE_LEAF_ENTRIES each */
	struct table_leaf *info;
	uint8_t *dirty;	       /* leaves that the device's copy lacks, */
	uint8_t *dirty_chunks; /* and chunks of the directory */
	unsigned directory_bits;
	uint32_t max_live;
	uint32_t nleaves; /* leaves in use have lower numbers than this */
	uint32_t nlive;	  /* leaves in use */
	uint32_t free;	  /* first free leaf of those from max_window on, or TABLE_NONE */
};

/* For device memory of nframes pages. 0 or -ENOMEM. */
int table_init(struct table *table, uint32_t nframes);
void table_fini(struct table *table);

static inline uint32_t table_nchunks(const struct table *table)
{
	return (UINT32_C(1) << table->directory_bits) / TABLE_CHUNK_SLOTS;
}

/* The entry of an address below 1 << TABLE_ADDRESS_BITS; 0: none. */
uint32_t table_get(const struct table *table, uintptr_t addr);

/* entry 0 removes. 0, or -ENOMEM: there are more blocks than frames. */
int table_set(struct table *table, uintptr_t addr, uint32_t entry);

/* The same for `count` pages from addr on, of one block. */
int table_set_pages(struct table *table, uintptr_t addr, const uint32_t *entries, uint32_t count);

/*
 * Could an entry be set at an address where there is none, so that all others stay where they are,
 * in the window, the directory and the leaves, and its leaf has a lower number than nleaves?
 */
bool table_has_room(const struct table *table, uintptr_t addr, uint32_t nleaves);

/* Where an entry is: the slot of its block in the directory, and its index in leaves. */
struct table_place {
	uint32_t slot;
	size_t entry;
};

/* Of an address that has an entry. */
struct table_place table_place(const struct table *table, uintptr_t addr);

/* Set the bits of a block's pages that have an entry: bits[TABLE_LEAF_ENTRIES / 64]. */
void table_pages(const struct table *table, uintptr_t addr, uint64_t *bits);

/* Is there any entry in the range? */
bool table_any(const struct table *table, uintptr_t start, uintptr_t end);

void table_clear(struct table *table, uintptr_t start, uintptr_t end);

#endif
