/* SPDX-License-Identifier: MIT */
/*
 * The file descriptors of the shim, of libumm and of devices, in a program that closes what it has
 * not opened: they are out of its way, and stay open.
 */
#ifndef DESCRIPTORS_H
#define DESCRIPTORS_H

#include <stdbool.h>

/* In the constructor: find the C library's calls. */
void descriptors_start(void);

/*
 * What is opened between the two is ours, and has numbers that programs do not choose. On an
 * internal thread.
 */
void descriptors_open_begin(void);
void descriptors_open_end(void);

/* Those of userfaultfds, just opened: what they guard is never taken for empty, come what may. */
void descriptors_keep(void);
/* False: the program has closed one all the same. The engine's thread only. */
bool descriptors_are_whole(void);

/* From here on closing one means what it always does. */
void descriptors_keep_no_more(void);
/* And it is the program's to do: there is nothing any more that they guard. */
void descriptors_let_go(void);

/*
 * The code at @caller wants what closes @fd. True: that is one of ours; errno is @error. Both end
 * in the kernel, never in a function that others may have put before ours.
 */
bool descriptors_refuse(int fd, int error, const void *caller);
int descriptors_close_range(unsigned first, unsigned last, int flags, const void *caller);

/* In a forked child: it may close all of its copies. */
void descriptors_fork_child(void);

#endif
