/* SPDX-License-Identifier: MIT */
/*
 * Launches in steps or not: copies and kernel go on at once then, but fewer work-items run at
 * once, over more rounds. Which is faster depends on the kernel, on how many work-items its device
 * runs at once, and on whether the host has a processor for the copies. So both are measured:
 * the first launch of a kernel that may go in steps goes the way that looks better, the second the
 * other way, the third as the first, which may have been the first use of the device's memory too.
 * Later ones do what took less time for a page. Now and then the other way is tried again.
 *
 * How many work-items run at once without taking each other's pages is found out by evictions, and
 * so by pages that come twice. So that is known from one launch to the next, but found out anew
 * now and then: there may be more memory.
 *
 * Locks: the caller holds umm_opencl.launch.
 */
#include "steps.h"

#include <stdlib.h>
#include <string.h>

#include "report.h"

#define TRY_AGAIN 16 /* launches */

static struct step_cost *cost_of(struct umm_opencl *ocl, const struct umm_opencl_work *work,
				 uint32_t nitems)
{
	struct step_cost *cost = ocl->step_costs, *oldest = cost;

	while (cost < ocl->step_costs + DEVICE_STEP_COSTS &&
	       (cost->kernel != work->kernel || cost->nitems != nitems)) {
		if (cost->used < oldest->used)
			oldest = cost;
		cost++;
	}
	if (cost == ocl->step_costs + DEVICE_STEP_COSTS) {
		cost = oldest;
		*cost = (struct step_cost){ .kernel = work->kernel, .nitems = nitems };
	}
	cost->used = ++ocl->step_costs_used;
	return cost;
}

void steps_decide(struct umm_opencl *ocl)
{
	const char *wanted = getenv("UMM_OPENCL_STEPS");

	ocl->steps = STEPS_AUTO;
	if (!wanted || !*wanted || !strcmp(wanted, "auto"))
		return;
	if (!strcmp(wanted, "never"))
		ocl->steps = STEPS_NEVER;
	else if (!strcmp(wanted, "always"))
		ocl->steps = STEPS_ALWAYS;
	else
		report(UMM_LOG_WARNING,
		       "UMM_OPENCL_STEPS=%s says nothing: it is auto; known are auto, always and "
		       "never",
		       wanted);
}

bool steps_pay(struct umm_opencl *ocl, const struct umm_opencl_work *work, uint32_t nitems,
	       bool likely)
{
	struct step_cost *cost;

	if (ocl->steps != STEPS_AUTO)
		return ocl->steps == STEPS_ALWAYS;
	cost = cost_of(ocl, work, nitems);
	if (!cost->nmeasured[likely])
		return likely;
	if (!cost->nmeasured[!likely])
		return !likely;
	if (cost->nmeasured[likely] < 2)
		return likely;
	return (cost->ns[true] < cost->ns[false]) == (++cost->nlaunches % TRY_AGAIN != 0);
}

void steps_learn(struct umm_opencl *ocl, const struct umm_opencl_work *work, uint32_t nitems,
		 bool in_steps, uint64_t ns_per_page)
{
	struct step_cost *cost = cost_of(ocl, work, nitems);
	uint64_t *known = &cost->ns[in_steps];
	uint32_t *n = &cost->nmeasured[in_steps];

	if (*n >= 2)
		*known = (3 * *known + ns_per_page) / 4;
	else if (!*n || ns_per_page < *known)
		*known = ns_per_page;
	*n += *n < 2;
}

uint32_t steps_fit(struct umm_opencl *ocl, const struct umm_opencl_work *work, uint32_t nitems)
{
	struct step_cost *cost = cost_of(ocl, work, nitems);

	return ++cost->nasked % TRY_AGAIN ? cost->fit : 0;
}

void steps_learn_fit(struct umm_opencl *ocl, const struct umm_opencl_work *work, uint32_t nitems,
		     uint32_t fit)
{
	cost_of(ocl, work, nitems)->fit = fit;
}
