/* SPDX-License-Identifier: MIT */
/* Devices by turns: each time the next one comes first, and the others follow. */
#include "policy/place.h"

static unsigned interleave_order(struct place *place, const struct place_tier *tiers, unsigned n,
				 unsigned order[PLACE_TIERS])
{
	unsigned count = 0, i;

	for (unsigned k = 0; k < n; k++) {
		i = (place->turn + k) % n;
		if (place_takes(&tiers[i]))
			order[count++] = i;
	}
	if (count)
		place->turn = (order[0] + 1) % n;
	return count;
}

const struct place_ops place_interleave = {
	.name = "interleave",
	.order = interleave_order,
};
