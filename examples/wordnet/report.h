/* SPDX-License-Identifier: MIT */
/* What people get to read at the end. */
#ifndef WORDNET_REPORT_H
#define WORDNET_REPORT_H

#include "job.h"

/** report_structure() - what was built, and which device has how much room for it */
void report_structure(const struct job *job, uint64_t device_bytes);

/** report_pairs() - the answers for the named pairs, round by round; after job_run() */
void report_pairs(const struct job *job);

/** report_tallies() - both runs side by side; @copied may be NULL */
void report_tallies(const struct tally *paged, const struct tally *copied);

#endif /* WORDNET_REPORT_H */
