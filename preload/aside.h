/* SPDX-License-Identifier: MIT */
/*
 * Moving a page aside, within the host, to see whether its block is in use. The engine's thread
 * only.
 */
#ifndef ASIDE_H
#define ASIDE_H

#include <stdbool.h>
#include <stdint.h>

#include <umm.h>

#include "policy.h"

struct aside_counts {
	uint64_t probes; /* pages that were moved aside, */
	uint64_t back;	 /* those that had been touched when their block's turn came, */
	uint64_t cpu_ns; /* and the CPU time of both */
};

/* 0, also where it is open; or a negative errno: nothing is moved aside. */
int aside_open(struct umm_ctx *ctx);

/* Probes of the blocks whose turn is next, for as long as @permille of one CPU allow. */
void aside_look(struct umm_ctx *ctx, unsigned permille);

/*
 * It is the block's turn: add to those @present what is aside. True: it is in use, and its turn
 * passes.
 */
bool aside_end(struct umm_ctx *ctx, uintptr_t base, unsigned char present[POLICY_PAGES]);

struct aside_counts aside_counts(void);

/* In a forked child: nothing is aside. */
void aside_reset(void);

#endif
