/* SPDX-License-Identifier: MIT */
/*
 * Prefetch on faults: what comes beside a page that was missed. Each policy is a file of its own
 * behind struct ahead_ops, and knows nothing of the library: no locks, no system calls, no
 * allocation. The library calls it under a lock of its own, the simulator without any.
 */
#ifndef AHEAD_H
#define AHEAD_H

#include <stdbool.h>
#include <stdint.h>

#define AHEAD_BLOCK 512 /* pages of a block */
#define AHEAD_WITH \
	15 /* pages that come at once with the one that was missed: who missed it waits for them */
#define AHEAD_STREAMS 16
#define AHEAD_LANES   8
#define AHEAD_MISSES  13

/* Pages first, first + stride, ... : n of them. Pages are numbers: address / page size. */
struct ahead_pages {
	uint64_t first;
	int64_t stride;
	uint32_t n;
};

/* Somebody who goes through memory in equal steps. */
struct ahead_stream {
	uint64_t at;	 /* where he was last seen */
	uint64_t end;	 /* the last page that was planned for him */
	int64_t stride;	 /* 0: nobody */
	uint32_t window; /* pages that are to be ahead of him */
	uint64_t seen;	 /* ahead->clock */
};

/* What a thread missed last, latest first, and belongs to no stream. */
struct ahead_lane {
	uint64_t page[AHEAD_MISSES];
};

struct ahead {
	unsigned percent; /* density: more of a subtree than this has to be there */
	uint32_t most;	  /* pages that are ahead of somebody, or come because of one miss */
	uint64_t clock;
	struct ahead_stream streams[AHEAD_STREAMS];
	struct ahead_lane lanes[AHEAD_LANES];
};

/* A page was missed. */
struct ahead_miss {
	uint64_t page;
	uint32_t thread;       /* any number that is the same for the same thread */
	const uint64_t *there; /* pages of its block that are where it is wanted, itself included */
};

struct ahead_plan {
	/*
	 * Come with it: of its block, AHEAD_WITH at most; or so many of it that it had better come
	 * whole.
	 */
	struct ahead_pages with;
	struct ahead_pages after; /* come behind it, while whoever missed it goes on */
};

struct ahead_ops {
	const char *name;
	bool looks; /* at what is there; else `there` may be NULL */
	/* A page was missed, or waited for because it is just coming. *plan is empty. */
	void (*miss)(struct ahead *ahead, const struct ahead_miss *miss, struct ahead_plan *plan);
};

extern const struct ahead_ops ahead_off;
extern const struct ahead_ops ahead_density;
extern const struct ahead_ops ahead_stream;

/* All of them; by name, or NULL. */
#define NR_AHEAD 3
extern const struct ahead_ops *const ahead_policies[NR_AHEAD];
const struct ahead_ops *ahead_by_name(const char *name);

#define AHEAD_PERCENT 51
#define AHEAD_MOST    4096 /* 16 MiB */

/* percent, most: 0 for the usual. */
void ahead_init(struct ahead *ahead, unsigned percent, uint32_t most);

/* Keep those in from .. to (half open). */
void ahead_clip(struct ahead_pages *pages, uint64_t from, uint64_t to);

#endif
