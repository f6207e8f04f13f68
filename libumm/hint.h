/* SPDX-License-Identifier: MIT */
/*
 * Hints: what the program has said about ranges of its memory, as a map from addresses to
 * attributes. It knows nothing of where pages are.
 */
#ifndef HINT_H
#define HINT_H

#include <stdatomic.h>

#include "arena.h"
#include "itree.h"
#include "lock.h"
#include "umm.h"

#define HINT_DEVICES 64
#define ORDER_MOST   (UMM_BLOCK_SHIFT - UMM_PAGE_SHIFT) /* a unit is a block at most */
#define HINT_ENDED   16

/* Of one address. */
struct hint_attrs {
	uint32_t set;		/* bits: 1 << enum umm_hint */
	uint8_t refused;	/* likewise: the program has said no, whatever is usual */
	uint8_t order;		/* of GRANULARITY; else 0 */
	uint8_t readahead;	/* of READAHEAD: enum umm_readahead; else 0 */
	uint8_t thrash;		/* of THRASH: enum umm_thrash; else 0 */
	uint64_t devices;	/* of ACCESSED_BY: numbers of devices */
	struct umm_devmem *mem; /* of PREFERRED: NULL is the system; of a target likewise */
};

_Static_assert(UMM_NR_HINTS <= 8, "each hint has a bit of refused");

static inline bool hint_has(const struct hint_attrs *attrs, enum umm_hint hint)
{
	return attrs->set >> hint & 1;
}

/* Addresses without a node have no attributes. Nodes do not overlap, and none is empty. */
struct hint_map {
	struct itree tree;
	_Atomic size_t nnodes;
};

/* A device that hints name. */
struct hint_device {
	struct umm_device *dev; /* NULL: the number is free */
	unsigned calls;		/* of its accessed op that run */
};

struct hints {
	struct hint_attrs usual; /* where the program says nothing else of the kind; fixed */

	struct lock lock; /* RANK_HINT. Protects: everything below */
	struct hint_map advice;
	struct hint_map targets; /* of prefetches: `set` is 1 where there was one */
	struct hint_device devices[HINT_DEVICES];
	struct pool pool;
};

void hints_init(struct hints *hints);
void hints_fini(struct hints *hints);
/* What UMM_HINTS says (hint_env.c): once, before anything else is asked. */
void hints_from_environment(struct hints *hints);

/* Is anything hinted at all? What does not need hints pays for this look and no more. */
static inline bool hints_any(const struct hints *hints)
{
	return hints->usual.set ||
	       atomic_load_explicit(&hints->advice.nnodes, memory_order_relaxed);
}

/* What changes: attributes of `set` come, and so does what it refuses; those of `unset` go. */
struct hint_change {
	struct hint_attrs set, unset;
	struct umm_device *come, *go; /* whose ACCESSED_BY comes, ends; NULL: nobody's */
	/* Out: where something ended that keeps pages. The last may have others in its midst. */
	struct umm_span ended[HINT_ENDED];
	unsigned nended;
	uintptr_t bare_start, bare_end; /* where (else) nothing is said any more; end 0: nowhere */
};
/*
 * 0; -ENODEV what it names goes away; -ENOSPC too many devices; or -ENOMEM: part of it may have
 * changed. The devices of `set` are those whose ACCESSED_BY has come.
 */
int hint_apply(struct hints *hints, struct hint_map *map, const struct umm_span *span,
	       struct hint_change *change);

/* Is anything said of an address there, or was there a prefetch? */
bool hints_within(struct hints *hints, uintptr_t start, uintptr_t end);

/* The addresses are no longer managed, or (move) their mapping is elsewhere from now on. */
void hints_forget(struct hints *hints, uintptr_t start, uintptr_t end);
void hints_move(struct hints *hints, uintptr_t from, uintptr_t to, size_t len);

/*
 * A memory, or a device, whose handle is closed goes away: nothing names it any more, nor will
 * anything. Waits for the op that runs.
 */
void hints_forget_mem(struct hints *hints, const struct umm_devmem *mem);
void hints_forget_device(struct hints *hints, const struct umm_device *dev);
/* In a forked child no op runs, and hints that were just being changed are none. */
void hints_fork_child(struct hints *hints);

/* The number of a device that hints name; or -ENOENT. */
int hint_device_number(struct hints *hints, const struct umm_device *dev);
/* Its op is about to be called: the device, which stays until hint_device_end(); NULL: gone. */
struct umm_device *hint_device_begin(struct hints *hints, unsigned number);
void hint_device_end(struct hints *hints, unsigned number);

/* Reads attributes, address after address: looks them up once for all that have the same. */
struct hint_cursor {
	struct hints *hints;
	const struct hint_map *map;
	uintptr_t start, end; /* what is known */
	struct hint_attrs attrs;
};
const struct hint_attrs *hint_at(struct hint_cursor *cursor, uintptr_t addr);

#endif
