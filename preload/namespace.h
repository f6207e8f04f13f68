/* SPDX-License-Identifier: MIT */
/* unshare(2) and setns(2), by syscall.c, too. */
#ifndef NAMESPACE_H
#define NAMESPACE_H

int namespace_leave(int flags);
int namespace_enter(int fd, int types);

#endif
