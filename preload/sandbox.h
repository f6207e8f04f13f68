/* SPDX-License-Identifier: MIT */
/* Filters of system calls that a program has from those who started it. */
#ifndef SANDBOX_H
#define SANDBOX_H

#include <stdbool.h>

/* For "umm run": tell the program how many there are. 0 or a negative errno. */
int sandbox_note(void);

/* For the program: there are more by now. False where nobody told it. */
bool sandbox_is_tighter(void);

#endif
