/* SPDX-License-Identifier: MIT */
/* Words of ours in a program's output, which are not worth its life. */
#ifndef CAREFUL_H
#define CAREFUL_H

#include <stddef.h>

/*
 * In one write, where that neither waits nor ends this process: a pipe that nobody reads, or that
 * has no room, is left as it is. A cancelled thread goes on. No malloc; errno survives.
 */
void careful_write(int fd, const char *text, size_t len);

#endif
