/* SPDX-License-Identifier: MIT */
/* A program that a verb starts and waits for: signals go to it, and the verb ends as it did. */
#ifndef CHILD_H
#define CHILD_H

#include <sys/types.h>

/*
 * Start what @run becomes, in a child with the signals that this process had; from here on
 * signals to this process go to the child. -1: errno.
 */
pid_t child_start(int (*run)(void *arg), void *arg);

/* End as the program did, whose wait status is @status: by the same signal, or with the result. */
int child_end_as(int status);

#endif
