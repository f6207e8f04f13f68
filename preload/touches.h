/* SPDX-License-Identifier: MIT */
/* Which pages came home because the program touched them: from fault servers to the engine. */
#ifndef TOUCHES_H
#define TOUCHES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <umm.h>

/* Hear of them in @ctx. 0 or a negative errno. */
int touches_watch(struct umm_ctx *ctx);

/* In a forked child: forget what was heard of, and who wanted to hear. */
void touches_reset(void);

/* The next one that was heard of. False: there is none. The engine's thread only. */
bool touches_next(uintptr_t *addr);

/* How many pages were touched that were aside for a look (aside.h). */
uint64_t touches_of_probes(void);

/* What the calling thread itself moves or brings home is not a touch, until it says otherwise. */
void touches_own(bool own);

/* A touch of this page is a reason to look at once. The engine's thread only. */
void touches_expect(uintptr_t addr);
/* One was touched that nobody has looked at. */
bool touches_are_urgent(void);

/* Sleep until there is reason to look, or @also_fd is readable, @timeout_ns at most. */
void touches_wait(uint64_t timeout_ns, int also_fd);
/* Give reason to look, also to who is about to sleep. Any thread. */
void touches_call(void);

#endif
