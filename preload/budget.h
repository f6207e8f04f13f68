/* SPDX-License-Identifier: MIT */
/*
 * A share of one CPU. Who uses it says how much each time, and then rests for as long as
 * makes it the share; what was not used may be made up for, but no more than BUDGET_SAVED_NS of it.
 * Knows no clock but what it is told.
 */
#ifndef BUDGET_H
#define BUDGET_H

#include <stdbool.h>
#include <stdint.h>

#define BUDGET_SAVED_NS UINT64_C(100000000)

struct budget {
	uint64_t rests_until_ns; /* 0 at first */
};

static inline bool budget_is_left(const struct budget *budget, uint64_t now_ns)
{
	return now_ns >= budget->rests_until_ns;
}

/* So much CPU time was used; @permille of one CPU may be. */
static inline void budget_use(struct budget *budget, uint64_t now_ns, uint64_t cpu_ns,
			      unsigned permille)
{
	uint64_t saved_from = now_ns < BUDGET_SAVED_NS ? 0 : now_ns - BUDGET_SAVED_NS;

	if (budget->rests_until_ns < saved_from)
		budget->rests_until_ns = saved_from;
	budget->rests_until_ns += cpu_ns * 1000 / (permille ? permille : 1);
}

#endif
