/* SPDX-License-Identifier: MIT */
/* Serving the faults of a round: bring the pages, program the table. */
#ifndef OPENCL_SERVICE_H
#define OPENCL_SERVICE_H

#include "round.h"

/* How a round is to be served. */
struct service_want {
	uint32_t most; /* pages to bring at most */
	bool thorough; /* find out why pages do not come */
	bool hold; /* into free memory only, and nothing beside them: all that is there is needed */
	bool step; /* nothing beside them, and what was cut off is kept: it follows */
	bool running; /* into free memory only: a kernel waits for them, and uses what is there */
};

struct service_outcome {
	uint32_t npages;    /* distinct pages asked for */
	uint32_t nserved;   /* of those, now in the table */
	uint64_t nmigrated; /* pages that moved, those read ahead included */
	uint64_t nreadahead;
	bool full;	    /* they did not fit into what was free */
	bool cut;	    /* there were more than wanted: only those of work-items */
	uint32_t last_item; /* up to this one, perhaps not all of its, were brought */
	struct fault blame; /* with an error: the fault that it is about, */
	bool blame_valid;   /* if there is one */
};

int service_create(struct umm_opencl *ocl);
void service_destroy(struct umm_opencl *ocl);

/*
 * Serve a round's faults; reorders them. 0, also where not all were served; -EFAULT, -EPERM,
 * -EINVAL a work-item's mistake; other errors of umm_migrate_spans().
 */
int service_run(struct umm_opencl *ocl, const struct round_outcome *round,
		const struct service_want *want, struct service_outcome *outcome);

/*
 * Serve faults of a kernel that runs: pages that it does not have come into free memory, or into
 * the table if they are there already. Reorders the faults; *count are left, with those that did
 * not come, *nleft, among them: others have an entry that does not suffice. 0 or an error.
 */
int service_attend(struct umm_opencl *ocl, struct fault *faults, uint32_t *count, uint32_t *nleft,
		   struct service_outcome *outcome);

/*
 * Bring what was cut off when a round was served last, as if a round had missed it again, but
 * without looking what is wrong with pages that do not come. 0, also where there is nothing, or
 * an error.
 */
int service_rest(struct umm_opencl *ocl, const struct service_want *want,
		 struct service_outcome *outcome);

/*
 * Begin to bring what service_rest() brings next, of most pages at most, while a round runs: the
 * caller calls this before the round, since room is made by eviction, and the other one after it,
 * which waits until they are there. The number of pages that moved.
 */
void service_ahead_begin(struct umm_opencl *ocl, uint32_t most);
uint64_t service_ahead_end(struct umm_opencl *ocl);

/* Forget what was cut off. */
void service_drop_rest(struct umm_opencl *ocl);

/* Tell the core which blocks the last round used. */
void service_touch(struct umm_opencl *ocl);

/* Put into the table what the core says about these pages; the caller holds umm_opencl.launch. */
int service_program(struct umm_opencl *ocl, const struct umm_span *spans, size_t nspans);

#endif
