/* SPDX-License-Identifier: MIT */
/* Changes: what the program did to its address space, until mirrors have been told. */
#ifndef CHANGE_H
#define CHANGE_H

#include <stdbool.h>
#include <stdint.h>

#include "arena.h"
#include "lock.h"
#include "notifier.h"

struct block;
struct resident;
struct umm_ctx;

struct change {
	struct change *next;  /* after it, in the order in which they were made */
	uint64_t number;      /* of changes up to it; 0: it could not be noted */
	uintptr_t start, end; /* without what all who watch it know, while others are told */
	uintptr_t to;	      /* where mremap() moved it; 0: it did not */
	bool unmap;	      /* not only its contents went away */
	bool told;
	struct resident *loose; /* frames whose pages have left */
	struct notifier_active *active;
	struct notifier_telling telling;
};

struct changes {
	struct lock lock; /* RANK_LEAF. Protects: everything below, and the links of changes */
	struct change *head, **tail;
	uint64_t number;

	struct pool pool;
};

void changes_init(struct changes *changes);
void changes_fini(struct changes *changes);

/*
 * Note one more change (start, end, to and unmap are filled in); the caller then changes the
 * states of pages, marks those HELD that must not be used before mirrors know, and collects
 * the frames that they leave. Without memory to note it *change itself is returned: its frames are
 * lost, and nothing is HELD.
 */
struct change *change_begin(struct umm_ctx *ctx, struct change *change);
/* Frames that hold these pages, or copies, are the change's from now on. The block is locked. */
void change_loosen(struct umm_ctx *ctx, struct change *change, struct block *block,
		   const uint64_t *pages);
/* The page, in its new state, waits for mirrors to know. Under the block's lock. */
void change_hold(const struct change *change, struct block *block, unsigned i);
/*
 * The states are changed. A worker tells mirrors; umm_notifier_read_begin() of each waits until it
 * knows: so a device that begins after the program's call does not miss it. Does not sleep.
 */
void change_announce(struct umm_ctx *ctx, struct change *change);
/* Tell mirrors here and now. No lock held. */
void change_tell(struct umm_ctx *ctx, struct change *change);

/*
 * These addresses are about to begin a new life: wait until the events of the old one are read,
 * its pages no longer in flight, and mirrors told. No lock held; not on a fault server or worker.
 */
void change_wait(struct umm_ctx *ctx, uintptr_t start, uintptr_t end);

#endif
