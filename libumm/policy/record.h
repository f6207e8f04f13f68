/* SPDX-License-Identifier: MIT */
/*
 * Trace files: what a process with libumm recorded of its pages and blocks, for umm-sim to replay.
 * A head, then events of 8 bytes in the order in which they happened, in the byte order of the
 * machine. The file may be longer than what is in it.
 */
#ifndef RECORD_H
#define RECORD_H

#include <stdint.h>

#define RECORD_MAGIC   "umm-rec" /* with its zero */
#define RECORD_VERSION 2

struct record_head {
	char magic[8];
	uint32_t version;
	uint32_t event_bytes;
	uint64_t room; /* for so many events */
	uint64_t n;    /* so many happened: what is beyond room was not recorded */
};

/* None is 0: that is an event which was never finished. */
enum record_kind {
	RECORD_MEMORY = 1, /* page: how many frames it has; before all else of that memory */
	RECORD_ARRIVE,	   /* a memory gets its first page of this block */
	RECORD_USE,	   /* its device used so many pages of a block, from this one on */
	RECORD_LEAVE,	   /* it has none of this block any more */
	RECORD_EVICT,	   /* because room was needed: after RECORD_LEAVE, if it left whole */
	RECORD_MISS,	   /* a CPU missed this page, which a device has; who: its thread */
	RECORD_OUT,	   /* so many pages, from this one on, came to a memory, */
	RECORD_HOME,	   /* went home from one, for they were wanted there, */
	RECORD_OFF,	   /* or because room was needed, */
	RECORD_GONE,	   /* or were dropped; where none is left, RECORD_LEAVE says it alone */
	RECORD_ROOM,	   /* before RECORD_OUT of this block: so many frames of it were needed, */
	RECORD_SPARE,	   /* or wanted if they were free; record_began() */
	RECORD_EMPTY,	   /* page: a driver wanted so many frames to be free */
	NR_RECORD_KINDS,
};

#define RECORD_PAGE_BITS 36
#define RECORD_WHO_BITS	 24
#define RECORD_MEMORIES	 1024 /* are told apart */

static inline uint64_t record_pack(enum record_kind kind, uint32_t who, uint64_t page)
{
	return (uint64_t)kind << (RECORD_PAGE_BITS + RECORD_WHO_BITS) |
	       (who & ((UINT64_C(1) << RECORD_WHO_BITS) - 1)) << RECORD_PAGE_BITS |
	       (page & ((UINT64_C(1) << RECORD_PAGE_BITS) - 1));
}

static inline unsigned record_kind(uint64_t event)
{
	return (unsigned)(event >> (RECORD_PAGE_BITS + RECORD_WHO_BITS));
}

/* Of all but misses: pages, 4095 at most, and a memory. */
static inline uint32_t record_who(uint32_t npages, uint32_t memory)
{
	return npages | memory << 12;
}

static inline uint32_t record_npages(uint64_t event)
{
	return (uint32_t)(event >> RECORD_PAGE_BITS & 0xfff);
}

static inline uint32_t record_memory(uint64_t event)
{
	return (uint32_t)(event >> (RECORD_PAGE_BITS + 12) & (RECORD_MEMORIES - 1));
}

/*
 * Of RECORD_ROOM and RECORD_SPARE: the page says how many blocks came and were used since the
 * request began, which does not evict what was used since; RECORD_BEGAN_MOST: as many, or more.
 */
#define RECORD_BEGAN_MOST 511

static inline uint32_t record_began(uint64_t event)
{
	return (uint32_t)(event & RECORD_BEGAN_MOST);
}

/* Of a miss. */
static inline uint32_t record_thread(uint64_t event)
{
	return (uint32_t)(event >> RECORD_PAGE_BITS & ((UINT64_C(1) << RECORD_WHO_BITS) - 1));
}

static inline uint64_t record_page(uint64_t event)
{
	return event & ((UINT64_C(1) << RECORD_PAGE_BITS) - 1);
}

#endif
