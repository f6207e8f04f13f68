/* SPDX-License-Identifier: MIT */
/* What policies of thrashing share: their names and their beginning. */
#include "policy/thrash.h"

#include <string.h>

static enum thrash_verdict off_miss(struct thrash *thrash, const struct thrash_miss *miss,
				    uint64_t *until_ns)
{
	(void)thrash;
	(void)miss;
	(void)until_ns;
	return THRASH_MOVE;
}

const struct thrash_ops thrash_off = {
	.name = "off",
	.miss = off_miss,
};

const struct thrash_ops *const thrash_policies[NR_THRASH] = {
	&thrash_off,
	&thrash_pin,
	&thrash_throttle,
};

const struct thrash_ops *thrash_by_name(const char *name)
{
	for (unsigned i = 0; i < NR_THRASH; i++)
		if (!strcmp(thrash_policies[i]->name, name))
			return thrash_policies[i];
	return NULL;
}

void thrash_init(struct thrash *thrash, const struct thrash_limits *limits)
{
	thrash->lapse_ns = limits->lapse_ns ? limits->lapse_ns : THRASH_LAPSE_NS;
	thrash->wait_ns = limits->wait_ns ? limits->wait_ns : THRASH_LAPSE_NS;
	thrash->pin_ns = limits->pin_ns ? limits->pin_ns : THRASH_PIN_NS;
	thrash->waits = limits->waits ? limits->waits : THRASH_WAITS;
}

bool thrash_is(const struct thrash *thrash, uint64_t page, uint64_t now_ns)
{
	const struct thrash_entry *entry = &thrash->entries[page % THRASH_PAGES];

	return entry->page == page && entry->events >= THRASH_EVENTS &&
	       now_ns - entry->came_ns <= thrash->pin_ns;
}
