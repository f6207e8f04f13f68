/* SPDX-License-Identifier: MIT */
/*
 * The device of which the largest share is free comes first, of equals the preferred one: all fill
 * up alike, whatever their size, and what comes home is spread over all of their links.
 */
#include "policy/place.h"

/* Is a larger share of a free than of b? Frames are fewer than 2^32. */
static bool roomier(const struct place_tier *a, const struct place_tier *b)
{
	return a->nfree * b->nframes > b->nfree * a->nframes;
}

static unsigned roomiest_order(struct place *place, const struct place_tier *tiers, unsigned n,
			       unsigned order[PLACE_TIERS])
{
	unsigned count = 0, at;

	(void)place;
	for (unsigned i = 0; i < n; i++) {
		if (!place_takes(&tiers[i]))
			continue;
		for (at = count++; at && roomier(&tiers[i], &tiers[order[at - 1]]); at--)
			order[at] = order[at - 1];
		order[at] = i;
	}
	return count;
}

const struct place_ops place_roomiest = {
	.name = "roomiest",
	.order = roomiest_order,
};
