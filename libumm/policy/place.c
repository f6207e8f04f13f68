/* SPDX-License-Identifier: MIT */
/*
 * Placement by preference: a device is filled before the next one is asked. What policies of
 * placement share is here, too: their names.
 */
#include "policy/place.h"

#include <string.h>

const struct place_ops *const place_policies[NR_PLACE] = {
	&place_first,
	&place_roomiest,
	&place_interleave,
};

unsigned place_number(const struct place_ops *ops)
{
	unsigned i = 0;

	while (place_policies[i] != ops)
		i++;
	return i;
}

const struct place_ops *place_by_name(const char *name)
{
	for (unsigned i = 0; i < NR_PLACE; i++)
		if (!strcmp(place_policies[i]->name, name))
			return place_policies[i];
	return NULL;
}

static unsigned first_order(struct place *place, const struct place_tier *tiers, unsigned n,
			    unsigned order[PLACE_TIERS])
{
	unsigned count = 0;

	(void)place;
	for (unsigned i = 0; i < n; i++)
		if (place_takes(&tiers[i]))
			order[count++] = i;
	return count;
}

const struct place_ops place_first = {
	.name = "first",
	.order = first_order,
};
