/* SPDX-License-Identifier: MIT */
/* Who allocated large memory: the last few thousand allocations, for "umm map". */
#ifndef SITES_H
#define SITES_H

#include <stddef.h>
#include <stdint.h>

#include "sheet.h"

/* Code at @caller got this memory. Any thread, any lock held. */
void sites_note(const void *start, size_t len, const void *caller);

/* Copy them, the oldest first. How many there are. */
uint32_t sites_copy(struct sheet_site out[SHEET_SITES]);

#endif
