/* SPDX-License-Identifier: MIT */
/* Fences inside the core: what umm.h says, plus a completion that runs at the signal. */
#ifndef FENCE_H
#define FENCE_H

#include <stdbool.h>

#include "umm.h"

/*
 * Run fn(priv, status) once the fence is signalled: on the signalling thread, or
 * here and now when it already was. One completion per fence.
 */
void fence_on_signal(struct umm_fence *fence, void (*fn)(void *priv, int status), void *priv);

/* Fork handlers: hold the fence pool over the fork; the child starts with a fresh lock. */
void fence_fork_prepare(void);
void fence_fork_parent(void);
void fence_fork_child(void);

#endif
