/* SPDX-License-Identifier: MIT */
/* Pages that are lent to pipes and sockets. */
#ifndef LENT_H
#define LENT_H

/* By the constructor, before it may have to be remembered. */
void lent_start(void);

/* Data is about to be sent with these flags. */
void lent_send(int flags, const void *caller);
/* vmsplice(2) and setsockopt(2) with these arguments, for whoever called. */
long lent_vmsplice(const long arg[4], const void *caller);
long lent_setsockopt(const long arg[5], const void *caller);

#endif
