/* SPDX-License-Identifier: MIT */
/* Recording what happens to pages and blocks in a file, while somebody asked for it. */
#ifndef TRACEFILE_H
#define TRACEFILE_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "policy/record.h"
#include "umm.h"

/* Which recording it is: 0 there is none. */
extern _Atomic uint32_t tracefile_on;

/* Any lock held; waits for nobody. */
void tracefile_put(enum record_kind kind, uint32_t who, uintptr_t addr);

static inline void tracefile_event(enum record_kind kind, uint32_t who, uintptr_t addr)
{
	if (atomic_load_explicit(&tracefile_on, memory_order_relaxed))
		tracefile_put(kind, who, addr);
}

/* When the first context is created: what UMM_TRACE asks for. */
void tracefile_from_environment(void);
/* A forked child records nothing: the file is its parent's. */
void tracefile_fork_child(void);

#endif
