/* SPDX-License-Identifier: MIT */
/* A program that becomes another user's keeps what it needs to stay within its limit. */
#ifndef RIGHTS_H
#define RIGHTS_H

/* Before the program runs, and in a forked child. */
void rights_start(void);
void rights_fork_child(void);

#endif
