/* SPDX-License-Identifier: MIT */
/* Faults one by one: pages touched in random order, each timed and its data checked. */
#ifndef TOUCHES_H
#define TOUCHES_H

#include "bench.h"

/*
 * Pages that lie stride bytes apart; the first word of each says how far it is from the first
 * page. A write goes to the second word. The functions return 0 or a negative errno.
 */
struct touches {
	size_t npages;
	size_t stride;
	int cpu; /* of the touching thread; -1: any */
	bool write;
	uint32_t *order;
	uint32_t *took_ns;
};

/* The caller sets what is above order. touches_fini() is called in any case. */
int touches_init(struct touches *t);
void touches_fini(struct touches *t);

/* Stamp the pages. */
void touches_stamp(const struct touches *t, char *memory);

/* Touch all of them by the calling thread; pushes microseconds, one figure for each page. */
int touches_run(struct bench_env *env, const struct touches *t, char *memory, struct series *out);

/* The same for one of several threads: nothing is bound, timed or noted. Pages that were wrong. */
size_t touches_walk(const struct touches *t, char *memory);

#endif
