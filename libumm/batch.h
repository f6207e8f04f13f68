/* SPDX-License-Identifier: MIT */
/* Batches: one request for many pages, as a number of pieces in flight. */
#ifndef BATCH_H
#define BATCH_H

#include "piece.h"

/* What to move; as struct umm_migrate_request, plus what only the core asks for. */
struct batch_want {
	struct umm_devmem *dst;
	const struct umm_devmem *src;	/* only pages of it; NULL: of any */
	const struct umm_devmem *leave; /* but not those of it; NULL: none */
	enum umm_cause cause;
	bool duplicate;
	bool no_evict;
	bool reads;	      /* the device only reads: what is READ_MOSTLY is duplicated */
	bool ahead;	      /* nobody has missed them yet */
	bool unasked;	      /* nor asked for them: nobody's callback sleeps for them */
	bool last_try;	      /* a device that lacks memory for the copies has lost the pages */
	bool may_stay;	      /* nobody waits for what comes home */
	bool may_sleep;	      /* while somebody else keeps a page that thrashes */
	bool heedless;	      /* hints count for nothing */
	uint64_t clock;	      /* evict only what was used before; see devmem_evict_want() */
	unsigned long *ended; /* duplications that ended are counted here; NULL: nobody asks */
};

/*
 * Move the pages of start .. end and wait for all of it. Returns the number
 * of pages moved, or -EFAULT nothing managed, -ENOSPC nothing fitted, -EIO pages lost,
 * -ENODEV, -ENOMEM.
 */
long batch_move(struct umm_ctx *ctx, const struct umm_span *spans, size_t nspans,
		const struct batch_want *want);

/*
 * Likewise all pages of a span that are on devices, by another thread where this one's stack is in
 * it; the context is not a forked child's.
 */
long migrate_home(struct umm_ctx *ctx, const struct umm_span *span, bool last_try);

#endif
