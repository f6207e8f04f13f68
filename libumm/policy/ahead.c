/* SPDX-License-Identifier: MIT */
/* What policies of prefetch share: their names, their beginning, and arithmetic on pages. */
#include "policy/ahead.h"

#include <string.h>

static void off_miss(struct ahead *ahead, const struct ahead_miss *miss, struct ahead_plan *plan)
{
	(void)ahead;
	(void)miss;
	(void)plan;
}

const struct ahead_ops ahead_off = {
	.name = "off",
	.miss = off_miss,
};

const struct ahead_ops *const ahead_policies[NR_AHEAD] = {
	&ahead_off,
	&ahead_density,
	&ahead_stream,
};

const struct ahead_ops *ahead_by_name(const char *name)
{
	for (unsigned i = 0; i < NR_AHEAD; i++)
		if (!strcmp(ahead_policies[i]->name, name))
			return ahead_policies[i];
	return NULL;
}

void ahead_init(struct ahead *ahead, unsigned percent, uint32_t most)
{
	*ahead = (struct ahead){
		.percent = percent ? percent : AHEAD_PERCENT,
		.most = most ? most : AHEAD_MOST,
	};
}

/* Leave out the first n. */
static void skip(struct ahead_pages *pages, uint64_t n)
{
	if (n > pages->n)
		n = pages->n;
	pages->first += (uint64_t)(pages->stride * (int64_t)n);
	pages->n -= (uint32_t)n;
}

void ahead_clip(struct ahead_pages *pages, uint64_t from, uint64_t to)
{
	bool up = pages->stride > 0;
	uint64_t step = up ? (uint64_t)pages->stride : (uint64_t)-pages->stride, n;

	if (up && pages->first < from)
		skip(pages, (from - pages->first + step - 1) / step);
	else if (!up && pages->first >= to)
		skip(pages, (pages->first - to) / step + 1);
	if (!pages->n || pages->first < from || pages->first >= to) {
		pages->n = 0;
		return;
	}
	n = (up ? to - 1 - pages->first : pages->first - from) / step + 1;
	if (n < pages->n)
		pages->n = (uint32_t)n;
}
