/* SPDX-License-Identifier: MIT */
/*
 * Pins: pages that do not migrate. A pin has a part for each block it is about; a block whose
 * pages are pinned counts how often each is, and lists the parts.
 */
#ifndef PIN_H
#define PIN_H

#include "block.h"
#include "handle.h"

/* Under the lock of the block at va while it is in its list. */
struct pin_part {
	uintptr_t va;
	struct pin_part *next, **link; /* NULL: in no list, the block has forgotten it */
	uint64_t pages[BITMAP_WORDS];
};

/* Made with the first part, gone with the last. */
struct block_pins {
	struct pin_part *parts;
	uint32_t count[UMM_BLOCK_PAGES];
};

struct umm_pin {
	struct handle handle;
	struct umm_ctx *ctx; /* NULL: it was closed meanwhile */
	size_t nparts;
	struct pin_part *parts;
	struct pin_part own[2]; /* where parts is, if they are enough */

	/* Under ctx->lock. */
	struct umm_pin *next, **link;
};

static inline bool page_pinned(const struct block *block, unsigned i)
{
	return block->pins && block->pins->count[i];
}

/* The program has unmapped page i: pins are about what was there. Under the block's lock. */
void page_forget_pins(struct block *block, unsigned i);
/* The block is about to go, locked. */
void block_forget_pins(struct umm_ctx *ctx, struct block *block);
/* The same for what start .. end holds. No block locked. */
void pins_forget(struct umm_ctx *ctx, uintptr_t start, uintptr_t end);
/* The context closes: pins that nobody dropped hold nothing any more. */
void pins_close(struct umm_ctx *ctx);

#endif
