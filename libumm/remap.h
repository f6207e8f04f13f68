/* SPDX-License-Identifier: MIT */
/* mremap() of managed memory: pages follow their mapping. */
#ifndef REMAP_H
#define REMAP_H

#include <stdbool.h>
#include <stdint.h>

struct umm_ctx;
struct uffd_msg_info;

/*
 * Ranges that mremap() moved last. A second message says of each that it was unmapped; until that
 * one comes another mapping may have moved there.
 */
#define NR_ECHOES 16

struct echo {
	uintptr_t start, end; /* end is 0: none */
	uint64_t until_ns;    /* a later one is another's */
};

struct echoes {
	struct echo list[NR_ECHOES];
	unsigned next;
};

/* Apply the message. Under the gate, held exclusively. */
void remap_apply(struct umm_ctx *ctx, const struct uffd_msg_info *info);

/*
 * Does the message, that a range was unmapped, only repeat that it moved? True once. Under the
 * gate, held exclusively.
 */
bool remap_is_echo(struct umm_ctx *ctx, const struct uffd_msg_info *info);

#endif
