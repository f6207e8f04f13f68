/* SPDX-License-Identifier: MIT */
/* The job in four places: what is measured, and what is said of it. */
#ifndef TIERS_H
#define TIERS_H

#include <stdbool.h>

#include "job.h"
#include "place.h"

struct options {
	const char *file;
	unsigned copies, rounds;
	bool quick;
};

struct tiers {
	struct options options;
	struct place_nodes nodes;
	struct archive archive;
	struct umm_ctx *ctx;
	struct umm_numa *near, *far;
	uint32_t *touches; /* of each page, by one run of the job */
	struct place {
		struct job_data data;
		struct job_result result;
		double seconds; /* the best round */
		long faults;	/* that the kernel served meanwhile */
		size_t near_pages, other_pages;
		double other_pct; /* of the job's accesses */
	} place[NPLACES];
};

/** tiers_now() - seconds */
double tiers_now(void);

/**
 * report() - print it all, and have the texts read next to their memory
 *
 * Return: 0 or a negative errno.
 */
int report(struct tiers *tiers);

#endif
