/* SPDX-License-Identifier: MIT */
/* Filters of system calls that the program sets for itself. */
#ifndef FILTER_H
#define FILTER_H

/* In the constructor, and in a forked child: whose process it is. */
void filter_start(void);

/* The arguments are seccomp(2)'s: before it is called. */
void filter_expect(unsigned op, unsigned flags, const void *args);
/* Likewise prctl(2)'s. */
void filter_expect_prctl(int option, unsigned long mode, const void *args);

#endif
