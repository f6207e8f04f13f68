/* SPDX-License-Identifier: MIT */
/* Serving the faults of a round: bring the pages, program the table. */
#ifndef OPENCL_SERVICE_H
#define OPENCL_SERVICE_H

#include "round.h"

struct service_outcome {
	uint32_t npages;    /* distinct pages asked for */
	uint32_t nserved;   /* of those, now in the table */
	uint64_t nmigrated; /* pages that moved, those read ahead included */
	uint64_t nreadahead;
	bool full;	    /* they did not fit into what was free */
	struct fault blame; /* with an error: the fault that it is about, */
	bool blame_valid;   /* if there is one */
};

int service_create(struct umm_opencl *ocl);
void service_destroy(struct umm_opencl *ocl);

/*
 * Serve a round's faults, of most pages; reorders them. thorough: find out why pages do not come.
 * 0, also where not all were served; -EFAULT, -EPERM, -EINVAL a work-item's mistake;
 * other errors of umm_migrate_spans().
 */
int service_run(struct umm_opencl *ocl, const struct round_outcome *round, uint32_t most,
		bool thorough, struct service_outcome *outcome);

/* Tell the core which blocks the last round used. */
void service_touch(struct umm_opencl *ocl);

/* Put into the table what the core says about these pages; the caller holds umm_opencl.launch. */
int service_program(struct umm_opencl *ocl, const struct umm_span *spans, size_t nspans);

#endif
