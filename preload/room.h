/* SPDX-License-Identifier: MIT */
/* How much room there is in the host, for whoever brings pages there between two counts. */
#ifndef ROOM_H
#define ROOM_H

#include <stdbool.h>
#include <stdint.h>

/* Most pages in the host; and most while mappings get memory that nobody is asked for. */
void room_limit(uint64_t most, uint64_t most_unasked);

/* Pages of libumm's that were let in so far. */
uint64_t room_taken(void);
/* When @taken had been let in, no more than so many were there. Wakes who waits. */
void room_counted(uint64_t managed, uint64_t taken);

/* So many more are there, which were counted as native until now. */
void room_more(uint64_t npages);
/* The engine itself brings so many, whether there is room or not. */
void room_take(uint64_t npages);

/* None can be made: nobody is to wait, until it is said that some can. */
void room_give_up(bool yes);
bool room_is_given_up(void);

/*
 * Nobody is to wait, for the engine is held by a thread that may have to wait for those whose
 * faults would.
 */
void room_hold(bool yes);

/*
 * Pages that were let in without room since nobody had counted for long: so many at a time, or so
 * many for each thread of the process where that is more,
 */
#define ROOM_LATE_MOST 1024
#define ROOM_LATE_EACH 16
/* and so many ever. */
uint64_t room_late(void);

/* umm_ctx_options.admit: the page at @addr wants to come. */
int room_admit(void *priv, uintptr_t addr, bool may_sleep);

/* May @len new bytes be had unasked? */
bool room_unasked(uint64_t len);

/* In a forked child, which has no engine yet. */
void room_reset(void);

#endif
