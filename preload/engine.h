/* SPDX-License-Identifier: MIT */
/* Keeps the program's managed memory within its limit; starts when that first matters. */
#ifndef ENGINE_H
#define ENGINE_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

/*
 * Managed memory has grown: start the engine if it could now exceed what the host may keep. Then
 * this waits until devices are there, a second at most. Not with a lock held that malloc() takes.
 */
void engine_consider(void);

/* Would so much more bring the program's memory near its limit, or is it there? */
bool engine_is_near(size_t len);

/* However little memory there is: later it could not. Waits as the above. */
void engine_start(void);
/* Between these it stands still. */
void engine_hold(void);
void engine_release(void);
/*
 * Frames of the program are not used for other pages any more. For good; there may be no engine
 * yet. Not with a lock held that malloc() takes.
 */
void engine_recycle_nothing(void);
/* While it is held: whose file it is that others look into. */
void engine_give(uid_t from, uid_t to);

/*
 * Everything comes home, and nothing of the engine is left: the program is about to do what does
 * not go with it. One line says so, and @why. For good. False: it is stuck, and nothing
 * has changed, as the line says.
 */
bool engine_rest(const char *why);

/* The program ends. Prints the summary on standard error if that is asked for. */
void engine_end(void);
/* The same without a word, and without waiting for anybody. Async-signal-safe. */
void engine_exit(void);

#endif
