/* SPDX-License-Identifier: MIT */
/*
 * Staging: host frames between two homes. Three windows of 2 MiB slots:
 *
 *	RECYCLED	filled by UFFDIO_MOVE out of the program's mapping; what a
 *			migration out leaves behind serves the next one in
 *	HUGE, SMALL	never registered: the kernel backs them when they are written, with
 *			huge pages or without
 *
 * Nobody but the owner of a taken page touches it.
 */
#ifndef STAGING_H
#define STAGING_H

#include <stdatomic.h>
#include <stdint.h>

#include "block.h"
#include "lock.h"

enum staging_kind {
	STAGING_RECYCLED,
	STAGING_HUGE,
	STAGING_SMALL,
	STAGING_KINDS,
};

enum slot_list {
	SLOT_EMPTY,   /* no page present, none taken */
	SLOT_PARTIAL, /* some pages available */
	SLOT_FULL,    /* all pages available */
	SLOT_LISTS,
	SLOT_NONE = SLOT_LISTS, /* all that it has is taken */
};

struct slot {
	uint64_t avail[BITMAP_WORDS];
	uint16_t navail;
	uint16_t nbusy; /* taken and neither consumed nor returned */
	bool table;	/* small pages were here: a page table may be left; not RECYCLED: used */
	uint8_t list;	/* enum slot_list */
	uint32_t prev, next;
};

struct staging {
	int uffd;    /* for moving into RECYCLED and COHERENT pools; has no events. -1: no MOVE */
	size_t most; /* pages that RECYCLED is made for */
	uintptr_t base[STAGING_KINDS];
	uint32_t nslots[STAGING_KINDS];
	_Atomic unsigned
		copied; /* pages that are still in RECYCLED; until it was trimmed by so many */
	atomic_bool said_gone;

	struct lock lock; /* RANK_STAGING. Protects: everything below */
	struct slot *slots[STAGING_KINDS];
	uint32_t head[STAGING_KINDS][SLOT_LISTS];
	uint32_t nopen[STAGING_KINDS]; /* slots, from the first, that may be used as they are */
	size_t cached;		       /* pages available in RECYCLED */
	size_t limit;		       /* that may stay there, at most `most` */
};

/* features: those of the context. 0, -ENOMEM, or what opening a userfaultfd gave. */
int staging_init(struct staging *staging, uint64_t features, size_t cache_bytes);
void staging_fini(struct staging *staging);
/*
 * Keep no more than that, nor more than at the start. How many pages went back for it; a slot that
 * is on its way goes when it comes, single pages stay until they are used again, or trimmed.
 */
size_t staging_limit(struct staging *staging, size_t cache_bytes);
size_t staging_cached_bytes(struct staging *staging);
size_t staging_bookkeeping(struct staging *staging);

/*
 * A window of *nslots empty slots (or fewer, where address space is short) for pages that stay
 * longer. Pages can be moved into it, where there is MOVE. 0, -ENOMEM, or -errno.
 */
int staging_window_open(struct staging *staging, uint32_t *nslots, uintptr_t *base);
void staging_window_close(uintptr_t base, size_t len);

/*
 * An empty slot of RECYCLED to move pages of a block into, each at its own place. Returns
 * its address, 0: none.
 */
uintptr_t staging_take_slot(struct staging *staging);
/* Done with it; these pages are in it, and available from now on. */
void staging_give_slot(struct staging *staging, uintptr_t slot, const uint64_t *present);

/* n pages to be written and moved (or copied) to the program. 512: one piece. 0 or -ENOMEM. */
int staging_take_pages(struct staging *staging, unsigned n, uintptr_t *pages, unsigned *recycled);
/* They were moved away (their place is empty) or not (available again). */
void staging_consumed(struct staging *staging, uintptr_t page, unsigned n);
void staging_returned(struct staging *staging, uintptr_t page, unsigned n);

/*
 * The program got a copy of this page, which will be returned: what RECYCLED has grows too many by
 * one. True: it is time for staging_trim(), which gives such pages back to the kernel. Whoever
 * copied them does so, on the CPU that has just taken as many from it: there they are the next to
 * be taken. Nothing locked.
 */
bool staging_copied(struct staging *staging, uintptr_t page);
void staging_trim(struct staging *staging);

/*
 * Give back what is not on its way, of RECYCLED as far as it is found soon. How many pages that
 * were; of the other windows as many as may have been.
 */
size_t staging_drop(struct staging *staging);

#endif
