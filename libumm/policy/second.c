/* SPDX-License-Identifier: MIT */
/* Second chance: a page that came back soon is passed over once when it is its turn. */
#include "policy/sample.h"

enum { HAD_NONE, HAS_ONE, HAD_ONE };

static enum sample_return second_touched(struct sample *sample, struct sample_page *page)
{
	bool soon = sample_is_soon(sample, page), again = soon && page->heat != HAD_NONE;

	page->away = false;
	page->heat = soon ? HAS_ONE : HAD_NONE;
	return again ? SAMPLE_AGAIN : soon ? SAMPLE_SOON : SAMPLE_LATE;
}

static void second_came(struct sample *sample, struct sample_page *page)
{
	(void)sample;
	page->away = false;
}

static bool second_may_go(struct sample *sample, struct sample_page *page)
{
	bool may = page->heat != HAS_ONE;

	(void)sample;
	if (!may)
		page->heat = HAD_ONE;
	return may;
}

static void second_leaves(struct sample *sample, const struct sample_page *page)
{
	(void)sample;
	(void)page;
}

const struct sample_ops sample_second = {
	.name = "second",
	.touched = second_touched,
	.came = second_came,
	.may_go = second_may_go,
	.leaves = second_leaves,
};
