/* SPDX-License-Identifier: MIT */
/* The job: what else is installed with each package of the archive, and how large that is. */
#ifndef JOB_H
#define JOB_H

#include <stddef.h>
#include <stdint.h>

#include "archive.h"

/**
 * Copies of an archive in one piece of memory. The hot part, which the graph's traversal walks
 * through, comes first; the cold part is the texts, of which only those of the results are read.
 */
struct job_data {
	char *base;
	unsigned ncopies;
	uint32_t npackages, ndepends;
	size_t hot_len, cold_len; /* whole blocks of 2 MiB */
	size_t one_hot, one_cold; /* of one copy */
};

/** What was found: the same wherever the memory is. */
struct job_result {
	uint64_t visited; /* packages, all together */
	uint64_t kib;	  /* likewise */
	uint32_t largest; /* the package that brings the most with it, */
	uint32_t brings;  /* how many, */
	uint64_t largest_kib;
	char title[160]; /* and what it says of itself */
};

/** job_layout() - sizes for so many copies of an archive; base is left alone */
void job_layout(struct job_data *data, const struct archive *archive, unsigned ncopies);

/** job_fill() - copy the archive there */
void job_fill(const struct job_data *data, const struct archive *archive);

/**
 * job_run() - do it for every package of each copy
 * @touches: counts for each page of memory how often it is used; or NULL
 *
 * Return: 0 or -ENOMEM.
 */
int job_run(const struct job_data *data, uint32_t *touches, struct job_result *result);

/** job_search() - how many packages of copy @copy have a line that begins with @start */
uint32_t job_search(const struct job_data *data, unsigned copy, const char *start);

#endif
