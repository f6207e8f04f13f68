/* SPDX-License-Identifier: MIT */
/* Managed address ranges: what was allocated or attached, and what is left of it. */
#ifndef REGION_H
#define REGION_H

#include "arena.h"
#include "hint.h"
#include "itree.h"
#include "lot.h"
#include "stats.h"
#include "umm.h"
#include "util.h"

#define ADDRESS_END ((uintptr_t)1 << 47)

/* The whole pages that a span of a request has a part of. */
static inline struct umm_span span_pages(const struct umm_span *span)
{
	uintptr_t start = align_down(span->start, UMM_PAGE_SIZE);

	return (struct umm_span){ start, align_up(span->start + span->len, UMM_PAGE_SIZE) - start };
}

/* Has it a length, and user addresses only? */
static inline bool span_is_good(const struct umm_span *span)
{
	return span->len && span->start < ADDRESS_END && span->len <= ADDRESS_END - span->start;
}

/*
 * What umm_alloc() or umm_attach() was asked for; identity and counters of its pieces. A small
 * allocation is in a lot (lot.h), and gets one of these with the first thing that a lot cannot say.
 */
struct alloc {
	struct itree_node node; /* begins at its base, has length 1; in regions.allocs */
	size_t len;
	unsigned npieces : 30;
	bool attached : 1;
	bool released : 1;   /* being freed: no longer in regions.allocs */
	uint32_t asked;	     /* number of the last sum that has its counters */
	struct stats *stats; /* NULL: nothing was counted yet */
};

/* One contiguous piece of an allocation that is still managed. */
struct region {
	struct itree_node node;
	struct alloc *alloc;
	uint64_t born; /* when it was allocated, attached, or last moved: see regions.births */
};

/* Memory that somebody is about to do something irrevocable with. */
struct region_hold {
	struct region_hold *next;
	uint64_t number;
	uintptr_t start, end;
	bool ends_marks; /* who is about to hint some of it waits */
};

struct regions {
	struct lock lock; /* RANK_REGION. Protects: everything below */
	struct itree tree;
	struct itree allocs;
	struct lots lots;
	size_t managed;	 /* bytes */
	uint32_t sums;	 /* made so far */
	uint64_t births; /* of regions; what is said of memory later has a higher number */
	uint64_t said;	 /* births there had been when something was said of memory last */
	uint64_t held;	 /* how many holds there have been */
	struct region_hold *holds;

	struct pool region_pool; /* used only under the lock */
	struct pool alloc_pool;
	struct pool stats_pool;
	struct pool hold_pool;
};

void regions_init(struct regions *regions);
void regions_fini(struct regions *regions);
void region_fork_child(struct umm_ctx *ctx);

/*
 * Make start .. end managed as one new allocation. replace: drop whatever was managed there
 * (the kernel has just handed these addresses out, so it is gone). -EEXIST, -ENOMEM.
 */
int region_add(struct umm_ctx *ctx, uintptr_t start, uintptr_t end, bool attached, bool replace);

/*
 * Manage what of start .. end nobody manages yet, as pieces of one allocation of the
 * process (attached, base 0). 0 or -ENOMEM.
 */
int region_fill(struct umm_ctx *ctx, uintptr_t start, uintptr_t end);
/*
 * Is all of start .. end managed? Then pages that went away unnoticed, and are mapped again, count
 * as managed again.
 */
bool region_refresh(struct umm_ctx *ctx, uintptr_t start, uintptr_t end);

/* Stop managing start .. end: pieces are shrunk, split, dropped. Page states stay. */
void region_del(struct umm_ctx *ctx, uintptr_t start, uintptr_t end);
/* Pages that have left their blocks: what others attached since they left the regions is NATIVE. */
void region_renew(struct umm_ctx *ctx, uintptr_t start, uintptr_t end);

/* Pieces of from .. from + len become pieces at to: of their allocation if it moved whole. */
void region_move(struct umm_ctx *ctx, uintptr_t from, uintptr_t to, size_t len);

/*
 * Free the allocation that starts at base, piece by piece: its base may be used again at once, a
 * second release finds nothing, and is false. Then pop the pieces behind its first one, until
 * region_pop() says that there are no more; the allocation is gone with the last.
 */
bool region_release(struct umm_ctx *ctx, uintptr_t base, bool attached, struct umm_span *piece,
		    struct alloc **rest);
bool region_pop(struct umm_ctx *ctx, struct umm_span *piece, struct alloc **rest);
/* Any allocation that is left; false: none. */
bool region_first_alloc(struct umm_ctx *ctx, uintptr_t *base, bool *attached);

/* First managed piece that overlaps start .. end, clipped to it; false: none. */
bool region_next(struct umm_ctx *ctx, uintptr_t start, uintptr_t end, struct umm_span *out);
/* Likewise with all pieces that follow without a gap. */
bool region_next_run(struct umm_ctx *ctx, uintptr_t start, uintptr_t end, struct umm_span *out);
/* The first managed piece that overlaps start .. end, all of it. Under regions.lock. */
bool regions_first(struct regions *regions, uintptr_t start, uintptr_t end, struct umm_span *out);
/* Is all of start .. end managed? Under regions.lock. */
bool regions_cover(struct regions *regions, uintptr_t start, uintptr_t end);

/*
 * How many regions there have been: those of today have at most this as their number. What lies in
 * the spans has one from now on; a small range for which there is no memory has none.
 */
uint64_t region_births(struct umm_ctx *ctx, const struct umm_span *spans, size_t nspans);

#define REGION_ANY_AGE UINT64_MAX
/* The first managed piece of the span that was born by then; false: none. Under regions.lock. */
bool region_elder(struct regions *regions, const struct umm_span *span, uint64_t born,
		  struct umm_span *out);

/*
 * That piece, as far as it lies in one block, stays until it is let go: who frees or detaches it
 * waits, and so does who pins pages of it, or takes them exclusively. 0; -ENOENT: there is none;
 * -ENOMEM. hold.c
 */
int region_hold(struct umm_ctx *ctx, const struct umm_span *span, uint64_t born,
		struct region_hold **out);
/* Likewise a span of which all is managed, once no marks of it are being ended; -EFAULT. */
int region_hold_all(struct umm_ctx *ctx, const struct umm_span *span, struct region_hold **out);
void region_let(struct umm_ctx *ctx, struct region_hold *hold);
/* Whoever holds pages of the piece now has let them go. Did that take a wait? No lock held. */
bool region_await(struct umm_ctx *ctx, const struct umm_span *piece);
/*
 * Blocks from the first on, that either all have, or all have not, a hint or a holder. If not, they
 * are held, to end their marks; else, and without memory for it, *out is NULL. Where they end.
 */
uintptr_t region_hold_bare(struct umm_ctx *ctx, uintptr_t start, uintptr_t end,
			   struct region_hold **out);

/* The whole managed piece that addr is in; false: none. */
bool region_around(struct umm_ctx *ctx, uintptr_t addr, struct umm_span *out);

size_t regions_bytes(const struct regions *regions);
size_t region_managed_bytes(struct umm_ctx *ctx);
int region_stats(struct umm_ctx *ctx, uintptr_t addr, struct umm_stats *out);
/* Counters of all allocations with pieces in start .. end, added up. */
void region_sum(struct umm_ctx *ctx, uintptr_t start, uintptr_t end, uint64_t *counter);
/* Count for the allocation that holds addr; without memory for its counters, nothing. */
void region_count(struct umm_ctx *ctx, uintptr_t addr, unsigned counter, uint64_t n);

#endif
