/* SPDX-License-Identifier: MIT */
/* Device memories: frames, who owns them, and in what order to evict. */
#ifndef DEVMEM_H
#define DEVMEM_H

#include "block.h"
#include "handle.h"
#include "lock.h"
#include "policy/policy.h"
#include "policy/record.h"
#include "umm.h"

#define CHUNK_NONE UINT32_MAX

/* 512 frames, aligned: what one block needs to live in one piece. */
struct chunk {
	uint64_t free[BITMAP_WORDS];
	uint64_t driver[BITMAP_WORDS]; /* of umm_devmem_alloc(), and not yet a page's */
	uint64_t bad[BITMAP_WORDS];    /* gone for good: never free again */
	uint16_t nfree;
	uint16_t nframes; /* 512, or fewer in the last chunk */
	bool absent;	  /* its free frames have no memory behind them now, and are not counted */
	/* Populated; COHERENT: registered for moving. Set under ctx->lock, cleared under both. */
	_Atomic bool backed;
	uint32_t prev, next; /* of the list that its nfree puts it on */
};

struct umm_devmem {
	struct handle handle;
	struct umm_ctx *ctx;
	struct umm_device *dev;
	enum umm_devmem_type type;
	uint32_t nframes;
	uint32_t nchunks;
	uint32_t number; /* in traces */
	uintptr_t base;	 /* COHERENT, places */
	bool places; /* the core's own: frames are the places of EXCLUSIVE pages (exclusive.c) */
	_Atomic uint64_t refused_ns; /* of places: when a page was last not to be had */
	bool placed; /* frame i is for the page at start + i pages, and for no other */
	uintptr_t start;
	void *priv;
	struct umm_devmem *next;    /* of the device; under ctx->lock */
	_Atomic uint32_t returning; /* frames whose pages have left, about to be given back */
	_Atomic uint32_t pages;	    /* pages whose home this is */
	_Atomic uint32_t nbad;	    /* frames that are gone for good */
	_Atomic uint32_t pressed;   /* evictions that found nothing but what hints keep (heed.h) */

	struct lock lock; /* RANK_DEVMEM. Protects: everything below */
	struct chunk *chunks;
	uint32_t whole, partial; /* lists of chunks: all free, some free */
	uint32_t nfree;
	struct order *order;	      /* in which its blocks go; never NULL */
	uint32_t low_free, high_free; /* evict ahead below low, until high are free; 0: never */
	struct record {
		uintptr_t *block; /* NULL: nothing is recorded */
		size_t n, room;
	} record;
	uint32_t traced;	/* tracefile_on when a trace last heard of this memory */
	bool ahead;		/* somebody does */
	uint64_t ahead_clock;	/* of the latest request that took frames */
	uint32_t nabsent;	/* chunks */
	uint64_t absent_since;	/* when the last of them became so */
	_Atomic uint32_t users; /* migrations to here, and whoever gives frames back */
	bool removing;
};

/* As handle_is(). */
static inline bool devmem_valid(const struct umm_devmem *mem)
{
	return handle_is(mem, HANDLE_DEVMEM);
}

/* A migration to mem begins/ends; -ENODEV once it is being removed. */
int devmem_use(struct umm_devmem *mem);
/* So it does for a call of the program's: also -EINVAL, -ENODEV forked, -EDEADLK in a callback. */
int devmem_ask(struct umm_devmem *mem);
/* Frames of mem will be given back: it must not go before that. Under the lock of a block of it. */
void devmem_hold(struct umm_devmem *mem);
void devmem_unuse(struct umm_devmem *mem);

/*
 * Up to n frames, as many as there are, a whole chunk when n is 512 and one is
 * free. Returns how many (0: full), or -errno.
 */
int devmem_take(struct umm_devmem *mem, unsigned n, uint32_t *frames);
/*
 * PLACED memory: has this page a place there, and where? Any page has one in other memories.
 * devmem_take_place() takes its frame; false: it is not free, or has no memory. What may be taken
 * of first .. last - 1 gets its memory before, with no lock held: 0; -ENOSPC some has none; or
 * -errno.
 */
bool devmem_has_place(const struct umm_devmem *mem, uintptr_t addr);
int devmem_back_places(struct umm_devmem *mem, uintptr_t first, uintptr_t last);
bool devmem_take_place(struct umm_devmem *mem, uintptr_t addr, uint32_t *frame);
/* Give frames back and tell the device. No lock held. */
void devmem_give(struct umm_devmem *mem, uint32_t frame, uint32_t n);
/* Likewise a list of frames. */
void devmem_give_list(struct umm_devmem *mem, unsigned n, const uint32_t *frames);
/* As devmem_give() without telling: the device never saw them in use. */
void devmem_give_quietly(struct umm_devmem *mem, uint32_t frame, uint32_t n);

/*
 * A frame that the driver got from umm_devmem_alloc() is about to become a page's. False: the
 * driver has no such frame. And the other way round: it has not become one after all.
 */
bool devmem_driver_take(struct umm_devmem *mem, uint64_t frame);
void devmem_driver_return(struct umm_devmem *mem, uint32_t frame);

/* The frame is gone for good: it becomes nobody's any more. True once. */
bool devmem_fail(struct umm_devmem *mem, uint32_t frame);
bool devmem_failed(struct umm_devmem *mem, uint32_t frame);

static inline uintptr_t devmem_host(const struct umm_devmem *mem, uint32_t frame)
{
	return mem->base + ((uintptr_t)frame << UMM_PAGE_SHIFT);
}

/*
 * The memory whose frames are places: host pages for what the device has exclusively. Made when
 * first asked for, and gone with the device. A free place is empty. 0 or -errno.
 */
int devmem_places(struct umm_device *dev, struct umm_devmem **out);

bool devmem_order_is_known(enum umm_evict_order which);
int devmem_order_init(struct umm_devmem *mem);
void devmem_order_fini(struct umm_devmem *mem);
/*
 * Traces: n frames are about to be taken for a block, by a request that began when the clock of the
 * order said so; a driver wants so many to be free; what became of pages of a block, any lock
 * held.
 */
void devmem_trace_room(struct umm_devmem *mem, bool evicts, uint32_t n, uint64_t clock,
		       uintptr_t va);
void devmem_trace_empty(struct umm_devmem *mem, uint32_t nframes);
void devmem_trace_pages(const struct umm_devmem *mem, enum record_kind kind, uintptr_t va,
			const uint64_t *pages);
/* A block of it comes, and is gone. */
void devmem_order_insert(struct umm_devmem *mem, struct resident *resident);
void devmem_order_remove(struct umm_devmem *mem, struct resident *resident);
/* What an eviction takes: blocks that were last used before `clock`, but the one at va. */
struct order_want devmem_evict_want(struct umm_devmem *mem, uint64_t clock, uintptr_t va);
/* The block that goes next, once for each want; false: none. */
bool devmem_victim(struct umm_devmem *mem, const struct order_want *want, uintptr_t *va);
uint64_t devmem_clock(struct umm_devmem *mem);

#endif
