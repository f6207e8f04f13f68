/* SPDX-License-Identifier: MIT */
/*
 * Marks: how the library learns that hinted memory is unmapped or moved while no device uses it.
 */
#ifndef MARK_H
#define MARK_H

#include "ctx.h"

/* Hints of start .. end are about to be kept: have the kernel tell of its end. Nothing locked. */
void mark_range(struct umm_ctx *ctx, uintptr_t start, uintptr_t end);

/* As uffd_register(), for a part of one mapping that may be marked: that is over then. */
int mark_register(struct umm_ctx *ctx, uintptr_t start, size_t len);

/* Memory that is managed no longer: nothing of the library has it registered any more. */
void mark_unregister(struct umm_ctx *ctx, const struct umm_span *piece);

#endif
