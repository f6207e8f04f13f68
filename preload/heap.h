/* SPDX-License-Identifier: MIT */
/* The arenas behind malloc(): whose memory an allocation is made of. */
#ifndef HEAP_H
#define HEAP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "shim.h"

/* From here on allocations of @threshold bytes and more are managed; 0: all of them. */
void heap_arm(uint64_t threshold);

/*
 * From here on memory that is freed goes back to the kernel at once, device pages and all, so that
 * its next owner does not pay for where it was.
 */
void heap_free_at_once(void);

/* The flags for mallocx() of an allocation that is not the thread's ordinary one; 0: it is. */
int heap_flags(size_t len);

/* The calling thread's first allocation. */
void heap_thread_start(void);

/* Allocations of so many bytes and more need heap_flags(). */
extern _Atomic size_t heap_plain_below SHIM_HIDDEN;

/*
 * Extents were mapped, and maybe the engine has to start, which must not happen inside of
 * jemalloc: true once, for the first allocation after that.
 */
bool heap_has_grown(void);

#endif
