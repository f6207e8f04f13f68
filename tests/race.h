/* SPDX-License-Identifier: MIT */
/*
 * A race, forced: one thread of the library is stopped at a hook point while another thread
 * does what must not go wrong there; then both go on.
 */
#ifndef RACE_H
#define RACE_H

#include "harness.h"
#include "hooked.h"

#define RACE_PAGES 16

/* What a thread does with some pages. */
struct act {
	struct env *env;
	struct ref_device *ref; /* NULL: home */
	char *p;
	size_t npages;
	long ret;
	bool wrong; /* pages that should have had the fill with seed 1 had not */
};

void act_migrate(void *arg);
void act_duplicate(void *arg);
void act_exclusive(void *arg);
void act_drop(void *arg);
/* Maps something else there: with munmap() somebody else could get the address meanwhile. */
void act_unmap(void *arg);
void act_free(void *arg);
void act_read(void *arg);
/* Fills with seed 2. */
void act_write(void *arg);
void act_destroy(void *arg);
/* The child reads, and then writes its own. */
void act_fork(void *arg);

struct race {
	struct ref_device *ref;
	char *p;
	struct act mover, other;
	struct actor mover_actor, other_actor;
	bool other_runs;
};

/* Start the mover; returns when it is stopped at the point. */
void race_start(struct race *r, enum hook_point point, void (*fn)(void *), struct act mover);
/* Fill RACE_PAGES pages with seed 1, on the device or at home, and migrate them the other way. */
void race_begin(struct env *env, struct race *r, bool home, enum hook_point point);
/* Start a second thread on some of the pages. */
void race_other(struct env *env, struct race *r, void (*fn)(void *), size_t first, size_t npages);
/* Wait for it while the mover stays where it is. */
void race_other_join(struct race *r);
/* Let everybody go on, and wait for them. */
void race_go(struct race *r, enum hook_point point);
/* And the migration has not failed. */
void race_end(struct race *r, enum hook_point point);

#endif
