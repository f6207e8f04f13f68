/* SPDX-License-Identifier: MIT */
/* What the engine is up to, and who waits for that to change. */
#ifndef STATE_H
#define STATE_H

#include <stdbool.h>

/*
 * STARTING: it may have to wait for the dynamic loader; OPENING: not any more. RESTING: a thread
 * ends it. OFF: for good.
 */
enum state {
	STATE_IDLE,
	STATE_STARTING,
	STATE_OPENING,
	STATE_RUNNING,
	STATE_RESTING,
	STATE_OFF,
};

enum state state_now(void);
/* Of this process. */
bool state_is_on_its_way(void);

/*
 * Where it is IDLE, @create makes a thread for it, or says why not. Then wait until it is there, or
 * takes too long.
 */
void state_start(bool (*create)(void));

/* By that thread. False: nobody wants it any more. @begin: what comes with it, at once. */
bool state_open(void);
bool state_run(void (*begin)(void));
void state_fail(void);

/*
 * It is to end: waits while it is on its way, or while others end it. True: it is RESTING, and the
 * caller ends it. False: there is none, and never will be.
 */
bool state_rest(void);
/* It has ended, or could not be. */
void state_rested(bool is_over);
/* Wait until others have ended it, but not for ever; what it is then. */
enum state state_wait_for_rest(void);

/* In a forked child: nobody holds the lock. Later, where the parent's engine ran: there is none. */
void state_fork_child(void);
void state_anew(void);

#endif
