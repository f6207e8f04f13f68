/* SPDX-License-Identifier: MIT */
/*
 * What hints mean for pages that are to move. Nothing here is called while nothing is hinted
 * (hints_any()).
 */
#ifndef HEED_H
#define HEED_H

#include "piece.h"

/*
 * A request for these pages of a block begins: collecting reads hints by the cursor, and what a
 * device's fault asks for grows to whole units.
 */
void heed_request(struct umm_ctx *ctx, struct piece_want *want, uint64_t *pages,
		  struct hint_cursor *cursor);
/* Likewise a CPU's fault, for one page. True: it is for more now. */
bool heed_fault(struct umm_ctx *ctx, struct piece_want *want, uint64_t *page,
		struct hint_cursor *cursor);

/* Pages that are READ_MOSTLY, and those of them that only memories other than dst have. */
struct heed_copies {
	uint64_t pages[BITMAP_WORDS];
	uint64_t elsewhere[BITMAP_WORDS];
};
/* Which of the wanted pages are; false: none is. */
bool heed_read_mostly(struct umm_ctx *ctx, const struct piece_want *want,
		      struct heed_copies *copies);

/* Do hints keep page i, of a block that is locked, where it is? */
bool heed_keeps(const struct piece_want *want, struct block *block, unsigned i);

/* As evict(): what hints keep goes, too, when nothing else is left. */
int heed_evict(struct umm_devmem *mem, uint32_t nfree, uint64_t clock, uintptr_t va, bool waits);

/* The piece is committed: devices that access its pages are called. No lock is held. */
void heed_moved(struct piece *piece);
/*
 * Hints that kept pages of the span have ended: mirrors forget what may be used in place because
 * of them. No lock is held.
 */
void heed_ended(struct umm_ctx *ctx, const struct umm_span *span);
/* Pages of start .. end are to be mapped by these devices. */
void heed_accessed(struct umm_ctx *ctx, uintptr_t start, uintptr_t end, uint64_t devices);

#endif
