/* SPDX-License-Identifier: MIT */
/*
 * Lots: the small allocations of one block, two bits a page. For those that are as they were made:
 * one piece, of which nothing was counted. Pure bookkeeping: no locks, no system calls but for
 * memory.
 */
#ifndef LOT_H
#define LOT_H

#include "arena.h"
#include "block.h"
#include "itree.h"

struct lot {
	struct itree_node node; /* its block */
	bool attached;		/* all of it */
	/* Pages at which an allocation begins, and all pages of allocations. */
	uint64_t begins[BITMAP_WORDS], has[BITMAP_WORDS];
};

struct lots {
	struct itree tree;
	struct pool pool;
};

/* An allocation that is in a lot. */
struct small {
	uintptr_t start, end;
	bool attached;
};

void lots_init(struct lots *lots);
void lots_fini(struct lots *lots);

/*
 * Nothing in start .. end is in a lot yet. False: this one cannot be, since it is not small, or its
 * block has those of the other kind, or there is no memory.
 */
bool lots_add(struct lots *lots, const struct small *small);
/* One that lots_first() or lots_at() found. */
void lots_del(struct lots *lots, const struct small *small);
/* The first that overlaps start .. end; false: none. */
bool lots_first(const struct lots *lots, uintptr_t start, uintptr_t end, struct small *out);
/* The one that begins at base. */
bool lots_at(const struct lots *lots, uintptr_t base, struct small *out);
/* The pages of a block that are in a lot; NULL: none. */
const uint64_t *lots_pages(const struct lots *lots, uintptr_t va);

/* In a forked child: lots that were caught in a change are made whole. */
void lots_replant(struct lots *lots);

#endif
