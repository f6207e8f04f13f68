/* SPDX-License-Identifier: MIT */
/* One hook point at which threads of the library stop, so that a test can force an order. */
#ifndef HOOKED_H
#define HOOKED_H

#include <stdbool.h>
#include <stddef.h>

#include "hook.h"

/* Call it before harness_main(): a test that fails meanwhile lets everybody go on. */
void hook_init(void);
/* The next thread that gets to the point, for a page of this memory or its block, stops. */
void hook_arm(enum hook_point point, const void *addr, size_t npages);
/* Likewise every thread. */
void hook_arm_all(enum hook_point point, const void *addr, size_t npages);
/* Wait for the first; false: nobody came. */
bool hook_stopped(void);
/* Let them go on. */
void hook_go(enum hook_point point);
/* Let it go on, and stop the next thread that gets to another point, for the same memory. */
void hook_go_to(enum hook_point point, enum hook_point next);

#endif
