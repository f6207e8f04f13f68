/* SPDX-License-Identifier: MIT */
/* Userfaultfds that live as long as the process, whatever it closes. */
#ifndef KEEPER_H
#define KEEPER_H

/*
 * Keep these descriptors' files open, by a thread of its own, from the return on: where the kernel
 * lets it have a table of descriptors. On an internal thread.
 */
void keeper_start(const int *fds, unsigned nfds);
/* Close them. */
void keeper_end(void);

#endif
