/* SPDX-License-Identifier: MIT */
/*
 * Sampling of accesses. User space does not see which pages of its memory a program uses, but it
 * does see the first touch of a page that it has moved aside. What has to go onto a device is moved
 * aside in any case; a policy may also ask for *probes*: a page of a block, moved within the host
 * some time before it is the block's turn to give pages. What comes of either says what may
 * go: each policy is a file of its own behind struct sample_ops, and remembers two bytes of a
 * page. No locks, no system calls, no allocation.
 *
 * Time is counted in pages moved aside: an epoch is an eighth of the host's pages. A page remembers
 * an epoch in 8 bits; what is 256 epochs ago looks like now.
 */
#ifndef SAMPLE_H
#define SAMPLE_H

#include <stdbool.h>
#include <stdint.h>

#define SAMPLE_EPOCHS 8 /* in which as many pages are moved aside as the host holds */

struct sample_page {
	uint8_t heat : 3; /* the policy's own, but 0 at first */
	uint8_t away : 1; /* on a device */
	uint8_t epoch;	  /* away: in which it left; else the policy's own */
};

struct sample {
	uint64_t room; /* pages that the host holds */
	uint64_t left; /* moved aside so far */
	uint8_t hurry; /* epochs that what may stay goes sooner: hardly anything else is left */

	/* The policy's own, 0 at first: which pages may stay. */
	uint8_t clock;	    /* stays up to this epoch have ended */
	uint32_t ends[256]; /* pages by the epoch in which their stay ends */
	uint64_t staying, denied;
	uint32_t last_probes; /* a bit each, the newest last: it was touched */
};

enum sample_return {
	SAMPLE_LATE,  /* it was away for longer than the host takes to be filled once more */
	SAMPLE_SOON,  /* it was not */
	SAMPLE_AGAIN, /* nor was it the time before */
};

struct sample_ops {
	const char *name;
	/* A page that was away was touched and is back. */
	enum sample_return (*touched)(struct sample *sample, struct sample_page *page);
	/* It is back because others were touched. */
	void (*came)(struct sample *sample, struct sample_page *page);
	/* It is the turn of a page in the host: may it be moved aside? */
	bool (*may_go)(struct sample *sample, struct sample_page *page);
	/* It is moved aside, or its memory is given back, also while it is away. */
	void (*leaves)(struct sample *sample, const struct sample_page *page);
	/* NULL: it wants no probes. It is the turn of a block that had one: does the turn pass? */
	bool (*passes)(struct sample *sample, bool was_touched);
};

extern const struct sample_ops sample_refault;
extern const struct sample_ops sample_probe;
extern const struct sample_ops sample_second;
extern const struct sample_ops sample_off;

/* All of them, the default first; the number of one; by name, or NULL. */
#define NR_SAMPLE 4
extern const struct sample_ops *const sample_policies[NR_SAMPLE];
unsigned sample_number(const struct sample_ops *ops);
const struct sample_ops *sample_by_name(const char *name);

uint8_t sample_epoch(const struct sample *sample);
/* It is moved aside. */
void sample_leave(struct sample *sample, struct sample_page *page);
/* Is it back within the time in which the host is filled once more? */
bool sample_is_soon(const struct sample *sample, const struct sample_page *page);

#endif
