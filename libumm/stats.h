/* SPDX-License-Identifier: MIT */
/* Counters: relaxed atomics, one set per context, device and allocation. */
#ifndef STATS_H
#define STATS_H

#include <stdatomic.h>

#include "umm.h"

struct stats {
	_Atomic uint64_t counter[UMM_NR_COUNTERS];
};

static inline void stats_add(struct stats *stats, unsigned counter, uint64_t n)
{
	atomic_fetch_add_explicit(&stats->counter[counter], n, memory_order_relaxed);
}

void stats_read(const struct stats *stats, struct umm_stats *out);

#endif
