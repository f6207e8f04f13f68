/* SPDX-License-Identifier: MIT */
/* mremap() of managed memory: pages follow their mapping. */
#ifndef REMAP_H
#define REMAP_H

#include <stdint.h>

struct umm_ctx;
struct uffd_msg_info;

/* A mapping that moved; known until all of its pages have arrived. In order of time. */
struct move {
	uintptr_t start, end, to;
	unsigned number; /* of moves before it */
	struct move *next;
};

/* Apply the message. Under the gate, held exclusively. */
void remap_apply(struct umm_ctx *ctx, const struct uffd_msg_info *info);

/*
 * Where the page is now that was collected at addr when ctx->nmoves was `since`; 0: it did not
 * move. Under the gate.
 */
uintptr_t remap_target(const struct umm_ctx *ctx, uintptr_t addr, unsigned since);

#endif
