/* SPDX-License-Identifier: MIT */
/*
 * Marks: how the library learns that hinted memory is unmapped or moved while no device uses it.
 */
#ifndef MARK_H
#define MARK_H

#include "ctx.h"

/*
 * Change what is hinted of a span, or of a prefetch, where all of it is managed: what is unmapped
 * meanwhile has gone from the books already, or takes that with it. The kernel tells of the end of
 * what gets a hint from now on; who frees or detaches some of it waits meanwhile. -EFAULT; -ENOMEM;
 * else as hint_apply(). Nothing locked.
 */
int mark_hint(struct umm_ctx *ctx, struct hint_map *map, const struct umm_span *span,
	      struct hint_change *change);

/* As uffd_register(), for a part of one mapping that may be marked: that is over then. */
int mark_register(struct umm_ctx *ctx, uintptr_t start, size_t len);

/* Memory that is managed no longer: nothing of the library has it registered any more. */
void mark_unregister(struct umm_ctx *ctx, const struct umm_span *piece);

#endif
