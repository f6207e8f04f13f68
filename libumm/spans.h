/* SPDX-License-Identifier: MIT */
/* Lists of spans, of which some may overlap. */
#ifndef SPANS_H
#define SPANS_H

#include <stddef.h>

#include "umm.h"

/* In order of address, what overlaps or touches as one. Returns how many are left. */
size_t spans_join(struct umm_span *spans, size_t nspans);

#endif
