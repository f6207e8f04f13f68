/* SPDX-License-Identifier: MIT */
/* What to bring beside the pages that were missed. */
#ifndef OPENCL_PREFETCH_H
#define OPENCL_PREFETCH_H

#include "device.h"

/*
 * The pages of sorted spans are about to come: say what else should, in most spans or fewer,
 * sorted but for overlaps. The number of spans.
 */
size_t prefetch_plan(struct umm_opencl *ocl, const struct umm_span *spans, size_t nspans,
		     struct umm_span *ahead, size_t most);

#endif
