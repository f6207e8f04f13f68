/* SPDX-License-Identifier: MIT */
/* fork(): what happens to managed memory, on both sides. */
#ifndef FORK_H
#define FORK_H

/* Once per process. 0 or -ENOMEM. */
int fork_handlers_install(void);

#endif
