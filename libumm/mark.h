/* SPDX-License-Identifier: MIT */
/*
 * Marks: how the library learns that hinted memory is unmapped or moved while no device uses it.
 */
#ifndef MARK_H
#define MARK_H

#include "ctx.h"

/*
 * As region_hint(), of hints that come: the kernel tells of the end of the span from now on. Who
 * frees or detaches some of it waits meanwhile. Nothing locked. Also -ENOMEM.
 */
int mark_hint(struct umm_ctx *ctx, struct hint_map *map, const struct umm_span *span,
	      struct hint_change *change);

/* As uffd_register(), for a part of one mapping that may be marked: that is over then. */
int mark_register(struct umm_ctx *ctx, uintptr_t start, size_t len);

/* Memory that is managed no longer: nothing of the library has it registered any more. */
void mark_unregister(struct umm_ctx *ctx, const struct umm_span *piece);

#endif
