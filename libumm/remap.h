/* SPDX-License-Identifier: MIT */
/* mremap() of managed memory: pages follow their mapping. */
#ifndef REMAP_H
#define REMAP_H

#include <stdbool.h>
#include <stdint.h>

#include "uffd.h"

struct umm_ctx;

/*
 * Where mappings have moved to lately. Each thread sends its message when it has let go of its
 * mapping already: so one that says that this range was unmapped may be older than the arrival.
 */
#define NR_ARRIVALS 64

struct arrivals {
	struct umm_span list[NR_ARRIVALS]; /* len is 0: none */
	unsigned next;
	bool any;
};

/* A mapping on its way: its move is being applied up the stack. */
struct departure {
	struct departure *next;
	uintptr_t start, end;
	bool echoed; /* the message that it was unmapped here, too, has been read already */
};

/*
 * Messages that were read while a move waits, of addresses that it has left, but not yet in the
 * books. They are applied behind it, in order.
 */
#define NR_POSTPONED 64

/* Whether start .. end was unmapped is being found out up the stack. */
struct doubt {
	struct doubt *next;
	uintptr_t start, end;
	bool over;
};

/* Apply the message. Under the gate, held exclusively. */
void remap_apply(struct umm_ctx *ctx, const struct uffd_msg_info *info);

/* Apply the message that a range was unmapped, likewise. */
void remap_unmapped(struct umm_ctx *ctx, const struct uffd_msg_info *info);

/*
 * Does the message, that a range was unmapped, come from a move that is being applied? True once.
 * Under the gate, held exclusively.
 */
bool remap_is_echo(struct umm_ctx *ctx, const struct uffd_msg_info *info);

/*
 * Does the message have to wait for a move that is being applied up the stack? If so it is noted,
 * and applied (event_dispatch()) in its time. Under the gate, held exclusively.
 */
bool remap_postpone(struct umm_ctx *ctx, const struct uffd_msg_info *info);

/* No message is on its way: what comes is younger than all arrivals. Under the gate, exclusive. */
void remap_forget_arrivals(struct umm_ctx *ctx);

#endif
