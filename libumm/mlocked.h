/* SPDX-License-Identifier: MIT */
/*
 * Locked memory: what the program locked with mlock(), and what mlockall() locked with all
 * else, the library's own included.
 */
#ifndef MLOCKED_H
#define MLOCKED_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Is the mapping at this page locked? */
bool mlocked_is(uintptr_t page);
/* If it is, it is no more, as far as it lies in low .. high. query: as for maps_find(). */
bool mlocked_end(uintptr_t page, uintptr_t low, uintptr_t high, bool query);

/* For the library's own memory: the whole mapping at this page. False: it was not locked. */
bool mlocked_end_ours(uintptr_t page);
/* Drop what is there of the library's own memory, locked or not. */
void mlocked_drop(uintptr_t start, size_t len);

/*
 * Addresses for the library's own use, of which mlockall() gets no memory before they are opened;
 * and, unlocked, is then asked for no more than is used. NULL: there are none.
 */
void *mlocked_reserve(size_t len);
/* 0 or -ENOMEM. */
int mlocked_open(uintptr_t start, size_t len);

#endif
