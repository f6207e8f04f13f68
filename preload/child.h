/* SPDX-License-Identifier: MIT */
/* Processes that a program makes past fork(). */
#ifndef CHILD_H
#define CHILD_H

#include "shim.h"

/* By the constructor. */
void child_start(void);

/*
 * By syscall.c: this call is going to be made. 0: it may; an error that it is to have instead.
 * Async-signal-safe but where it interrupts the start of the engine.
 */
int child_expect_syscall(long number, long first, long second) SHIM_HIDDEN;

#endif
