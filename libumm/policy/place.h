/* SPDX-License-Identifier: MIT */
/*
 * Placement: on which of several devices pages go that leave the host. Each policy is a file of its
 * own behind struct place_ops, and knows nothing of devices but what struct place_tier says: no
 * locks, no system calls, no allocation.
 */
#ifndef PLACE_H
#define PLACE_H

#include <stdbool.h>
#include <stdint.h>

#define PLACE_TIERS 8

struct place_tier {
	uint64_t nframes, nfree;
	bool usable; /* else it is not to be named */
};

struct place {
	unsigned turn; /* whose it is */
};

struct place_ops {
	const char *name;
	/*
	 * Which of n devices, at most PLACE_TIERS and in the user's order of preference, are asked
	 * for room, and in which order: the usable ones with free frames. Returns how many.
	 */
	unsigned (*order)(struct place *place, const struct place_tier *tiers, unsigned n,
			  unsigned order[PLACE_TIERS]);
};

extern const struct place_ops place_first;
extern const struct place_ops place_roomiest;
extern const struct place_ops place_interleave;

/* All of them, the default first; the number of one; by name, or NULL. */
#define NR_PLACE 3
extern const struct place_ops *const place_policies[NR_PLACE];
unsigned place_number(const struct place_ops *ops);
const struct place_ops *place_by_name(const char *name);

/* Has it room? */
static inline bool place_takes(const struct place_tier *tier)
{
	return tier->usable && tier->nfree;
}

#endif
