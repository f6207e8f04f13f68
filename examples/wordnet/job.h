/* SPDX-License-Identifier: MIT */
/* One run: all rounds of questions and changes, and the check of the answers. */
#ifndef WORDNET_JOB_H
#define WORDNET_JOB_H

#include "device.h"
#include "edit.h"
#include "picture.h"
#include "wordnet.h"

struct job {
	struct umm_ctx *ctx;
	struct wordnet *w;
	struct device_choice choice;
	unsigned nrounds;
	size_t nqueries;       /* in each round */
	struct query *queries; /* of all rounds, in managed memory */
	struct journal journal;
	size_t *marks; /* length of the journal when each round was asked */
};

/** What a run took. */
struct tally {
	uint64_t device_bytes; /* its memory for pages */
	uint64_t answers;
	uint64_t wrong;
	uint64_t kernel_rounds;
	uint64_t device_faults;
	uint64_t cpu_faults;
	uint64_t bytes_in;     /* to the device */
	uint64_t bytes_copied; /* of these, duplicated: nothing has to come home of them */
	uint64_t bytes_out;    /* home */
	uint64_t evictions;
	uint64_t edits;
	double seconds;
	bool uncounted; /* more pages went there than fit, but none was evicted */
	bool damaged;	/* undoing all changes did not restore the structure */
};

/** Flags of job_run(). */
enum {
	JOB_COPY_FIRST = 1 << 0, /* before each round, move everything to the device */
	JOB_PROGRESS = 1 << 1,	 /* a line for each round */
};

/**
 * job_init() - write down all questions
 *
 * Return: 0, or a negative errno. It said why.
 */
int job_init(struct job *job, struct umm_ctx *ctx, struct wordnet *w, unsigned nrounds,
	     size_t nqueries);

/** job_fini() - give the memory back */
void job_fini(struct job *job);

/** job_bytes() - size of everything that the device can ask for */
uint64_t job_bytes(const struct job *job);

/** job_named() - how many named pairs each round begins with: two questions each */
size_t job_named(const struct job *job);

/**
 * job_run() - run all rounds on a device, check all answers, undo all changes
 * @device_bytes: device memory for pages
 * @flags:        JOB_COPY_FIRST, JOB_PROGRESS
 * @picture:      look at the memory after each step; or NULL
 * @tally:        filled in
 *
 * Return: 0, or a negative errno. It said why. Wrong answers are no error.
 */
int job_run(struct job *job, uint64_t device_bytes, unsigned flags, struct picture *picture,
	    struct tally *tally);

#endif /* WORDNET_JOB_H */
