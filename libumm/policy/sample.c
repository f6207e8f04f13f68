/* SPDX-License-Identifier: MIT */
/* What policies of sampling share: their names, their time, and having none. */
#include "policy/sample.h"

#include <string.h>

uint8_t sample_epoch(const struct sample *sample)
{
	uint64_t len = sample->room / SAMPLE_EPOCHS;

	return (uint8_t)(sample->left / (len ? len : 1));
}

void sample_leave(struct sample *sample, struct sample_page *page)
{
	page->away = true;
	page->epoch = sample_epoch(sample);
}

bool sample_is_soon(const struct sample *sample, const struct sample_page *page)
{
	return (uint8_t)(sample_epoch(sample) - page->epoch) <= SAMPLE_EPOCHS;
}

static enum sample_return off_touched(struct sample *sample, struct sample_page *page)
{
	page->away = false;
	return sample_is_soon(sample, page) ? SAMPLE_SOON : SAMPLE_LATE;
}

static void off_came(struct sample *sample, struct sample_page *page)
{
	(void)sample;
	page->away = false;
}

static bool off_may_go(struct sample *sample, struct sample_page *page)
{
	(void)sample;
	(void)page;
	return true;
}

static void off_leaves(struct sample *sample, const struct sample_page *page)
{
	(void)sample;
	(void)page;
}

/* Blocks give pages in turn, whatever comes back. */
const struct sample_ops sample_off = {
	.name = "off",
	.touched = off_touched,
	.came = off_came,
	.may_go = off_may_go,
	.leaves = off_leaves,
};

const struct sample_ops *const sample_policies[NR_SAMPLE] = {
	&sample_refault,
	&sample_probe,
	&sample_second,
	&sample_off,
};

unsigned sample_number(const struct sample_ops *ops)
{
	unsigned i = 0;

	while (sample_policies[i] != ops)
		i++;
	return i;
}

const struct sample_ops *sample_by_name(const char *name)
{
	for (unsigned i = 0; i < NR_SAMPLE; i++)
		if (!strcmp(sample_policies[i]->name, name))
			return sample_policies[i];
	return NULL;
}
