/* SPDX-License-Identifier: MIT */
/* Fences inside the core: what umm.h says, plus a completion that runs at the signal. */
#ifndef FENCE_H
#define FENCE_H

#include <stdatomic.h>
#include <stdbool.h>

#include "handle.h"
#include "umm.h"

/* Part of whatever comes after a fence. */
struct fence_after {
	struct fence_after *next;
	void (*fn)(struct fence_after *after, int status);
};

struct umm_fence {
	struct handle handle;
	_Atomic unsigned refs;
	_Atomic uint32_t state;
	int status;
	long value;
	void (*fn)(void *priv, int status);
	void *priv;
	_Atomic int eventfd; /* -1: none asked for yet */
	_Atomic(struct fence_after *) afters;
};

/*
 * Run fn(priv, status) once the fence is signalled: on the signalling thread, or
 * here and now when it already was. One completion per fence.
 */
void fence_on_signal(struct umm_fence *fence, void (*fn)(void *priv, int status), void *priv);

/*
 * Likewise after->fn(after, status), any number of them. The caller has a reference until then.
 */
void fence_after(struct umm_fence *fence, struct fence_after *after);

#endif
