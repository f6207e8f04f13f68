/* SPDX-License-Identifier: MIT */
/* Migrations in steps that are not finalized yet, and a thread that undoes those that never are. */
#ifndef WATCHDOG_H
#define WATCHDOG_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "lock.h"

/* The head of a struct step. */
struct watched {
	struct watched *next;
	uint64_t deadline_ns; /* when to undo it; UINT64_MAX: never, or it is done */
	bool held;	      /* a thread works on it */
};

struct watchdog {
	uint64_t limit_ns; /* what a driver has; UINT64_MAX: as long as it takes */

	struct lock lock; /* RANK_WORK. Protects: everything below, and the watched */
	pthread_cond_t changed;
	struct watched *list;
	uint64_t sleeps_until; /* the thread; 0: it is awake, UINT64_MAX: until it is woken */
	unsigned waiters;      /* for a watched that is held */
	bool running, stop;
	pthread_t thread;
};

void watchdog_init(struct watchdog *dog, uint64_t limit_ns);
/* No device and no memory of the context is left. What was never finalized is abandoned. */
void watchdog_fini(struct watchdog *dog);

/* A driver has this long from now on. */
void watchdog_watch(struct watchdog *dog, struct watched *watched);
/* Have it for this thread alone; meanwhile it is not undone. */
void watchdog_hold(struct watchdog *dog, struct watched *watched);
void watchdog_let(struct watchdog *dog, struct watched *watched);
/* It is held, and over. */
void watchdog_forget(struct watchdog *dog, struct watched *watched);

/*
 * For the watchdog, by step.c. Undo: nothing moves, and what the driver's memory says is not looked
 * at. Abandon: its driver has undone it, or the watchdog, and its context goes.
 */
void step_undo(struct watched *watched);
void step_abandon(struct watched *watched);

#endif
