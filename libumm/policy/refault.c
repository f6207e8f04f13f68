/* SPDX-License-Identifier: MIT */
/*
 * Refault distance, as the kernel calls it: a page that is wanted back before the host has been
 * filled once more has shown that it is hot. Each time that it does, it may stay twice as long as
 * before: for 1, 3, 7, 15 such fillings. A page that comes back late, as in a scan over more
 * than the host holds, gets no such credit: a scan pushes out what it brought itself, not the hot
 * pages, which keep their time.
 *
 * No more than seven eighths of the host are for pages that may stay. Where more is hot than that,
 * the rest passes through the last eighth: whoever thrashes so finds most of what the host can
 * keep.
 */
#include "policy/sample.h"

#define LOOSE_PART 8 /* of the host, that pages may not stay in */
#define HEAT_MAX   4 /* 15 fillings of the host, less than half of 256 epochs */

/* Until when a page of this heat may stay that is here from now on. */
static uint8_t stay(const struct sample *sample, uint8_t heat)
{
	return (uint8_t)(sample_epoch(sample) + sample->hurry + SAMPLE_EPOCHS * ((1 << heat) - 1));
}

static bool may_stay(const struct sample *sample, const struct sample_page *page)
{
	return page->heat && !page->away &&
	       (int8_t)(uint8_t)(page->epoch - sample_epoch(sample) - sample->hurry) > 0;
}

static void stays_expire(struct sample *sample)
{
	uint8_t now = (uint8_t)(sample_epoch(sample) + sample->hurry);

	while (sample->clock != now) {
		sample->staying -= sample->ends[++sample->clock];
		sample->ends[sample->clock] = 0;
	}
}

/*
 * A page that was hot has come home. If everything is hot, not everything can stay: whoever is here
 * does, and the rest passes through what is left of the host. Else all would have equal rights,
 * and what goes round and round would find nothing. Each one that is sent away counts against the
 * stays of the others, so that those that have cooled down make place.
 */
static void stay_begin(struct sample *sample, struct sample_page *page)
{
	stays_expire(sample);
	if (!page->heat)
		return;
	if (sample->staying < sample->room - sample->room / LOOSE_PART) {
		page->epoch = stay(sample, page->heat);
		sample->ends[page->epoch]++;
		sample->staying++;
		return;
	}
	page->epoch = sample->clock;
	if (++sample->denied < sample->room / SAMPLE_EPOCHS)
		return;
	sample->denied = 0;
	sample->hurry++;
}

/* It leaves before its time. One that has been here for 128 epochs looks as if it did. */
static void refault_leaves(struct sample *sample, const struct sample_page *page)
{
	stays_expire(sample);
	if (!may_stay(sample, page) || !sample->ends[page->epoch])
		return;
	sample->ends[page->epoch]--;
	sample->staying--;
}

static enum sample_return refault_touched(struct sample *sample, struct sample_page *page)
{
	bool again = page->heat != 0;

	page->away = false;
	if (!sample_is_soon(sample, page)) {
		page->heat = 0;
		return SAMPLE_LATE;
	}
	if (page->heat < HEAT_MAX)
		page->heat++;
	stay_begin(sample, page);
	return again ? SAMPLE_AGAIN : SAMPLE_SOON;
}

/* Nobody knows whether it is wanted: a page that was hot has its time on credit. */
static void refault_came(struct sample *sample, struct sample_page *page)
{
	page->away = false;
	page->heat -= page->heat > 0;
	stay_begin(sample, page);
}

static bool refault_may_go(struct sample *sample, struct sample_page *page)
{
	return !may_stay(sample, page);
}

const struct sample_ops sample_refault = {
	.name = "refault",
	.touched = refault_touched,
	.came = refault_came,
	.may_go = refault_may_go,
	.leaves = refault_leaves,
};
