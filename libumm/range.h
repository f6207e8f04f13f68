/* SPDX-License-Identifier: MIT */
/* Ranges, for the rest of the core. */
#ifndef RANGE_H
#define RANGE_H

#include "ctx.h"

/*
 * Make the pages of the span (whole pages) readable or writable where the CPU finds them, as
 * umm_range_fault() for nobody: private and exclusive ones come home. Waits for others
 * until the deadline. 0; -EFAULT, -EPERM, -EBUSY, -ENOMEM.
 */
int range_populate(struct umm_ctx *ctx, const struct umm_span *span, bool write, uint64_t deadline);

/* Is it a range of whole pages inside its notifier's? 0 or -EINVAL. */
int range_bounds_check(const struct umm_range *range);

#endif
