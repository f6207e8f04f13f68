/* SPDX-License-Identifier: MIT */
/* Pages that are lent to pipes and sockets. */
#ifndef LENT_H
#define LENT_H

/* vmsplice(2) and setsockopt(2) with these arguments, for whoever called. */
long lent_vmsplice(const long arg[4], const void *caller);
long lent_setsockopt(const long arg[5], const void *caller);

#endif
