/* SPDX-License-Identifier: MIT */
/* The stack of the calling thread, as far as it is in use. */
#ifndef STACK_H
#define STACK_H

#include <stdbool.h>
#include <stdint.h>

/*
 * Does start .. end hold what this thread has on its stack, or needs in this call? All frames
 * count, as far as the C library knows where the stack begins. No lock held; may use malloc.
 */
bool stack_in_use(uintptr_t start, uintptr_t end);

#endif
