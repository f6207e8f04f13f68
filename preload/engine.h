/* SPDX-License-Identifier: MIT */
/* Keeps the program's managed memory within its limit; starts when that first matters. */
#ifndef ENGINE_H
#define ENGINE_H

#include <stdbool.h>
#include <stdint.h>

/*
 * Managed memory has grown: start the engine if it could now exceed what the host may keep. Then
 * this waits until devices are there, a second at most. Not with a lock held that malloc() takes.
 */
void engine_consider(void);

/* The program ends. Prints the summary on standard error if that is asked for. */
void engine_end(void);
/* The same without a word, and without waiting for anybody. Async-signal-safe. */
void engine_exit(void);

#endif
