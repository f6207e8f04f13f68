/* SPDX-License-Identifier: MIT */
/* fork(): what happens to managed memory, on both sides. */
#ifndef FORK_H
#define FORK_H

#include <stdbool.h>

/* Once per process. 0 or -ENOMEM. */
int fork_handlers_install(void);
/* Is this thread in fork(), and calls handlers of others before it, perhaps? */
bool fork_is_here(void);

#endif
