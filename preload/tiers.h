/* SPDX-License-Identifier: MIT */
/* The devices that pages are put on. */
#ifndef TIERS_H
#define TIERS_H

#include <stdbool.h>
#include <stdint.h>

#include <umm.h>

#include "settings.h"

/* Open them all. One that cannot be opened is told of and left out. How many there are. */
unsigned tiers_open(struct umm_ctx *ctx, const struct settings *settings);

/* Who says which of them is asked first, from the next batch on, instead of the default. */
void tiers_placement(const struct place_ops *ops);

/* Pages that they have room for now, all together. */
uint64_t tiers_free(void);

/*
 * Put pages on devices that have room; what they refuse stays. Returns how many pages
 * moved; -ENOSPC all devices are full; -ENODEV all are gone; or what the last one answered.
 */
long tiers_take(struct umm_ctx *ctx, const struct umm_span *spans, unsigned nspans);
/* A thread of libumm's begins what tiers_take() of the same spans, which has to follow, ends. */
void tiers_take_begin(struct umm_ctx *ctx, const struct umm_span *spans, unsigned nspans);

/*
 * This memory has lost so many pages, or refused some with @error: if that is for good nothing goes
 * there any more, and one line says so. Which device it is of, or -ENOENT. Any thread.
 */
int tiers_failed(const struct umm_devmem *mem, int error, size_t nlost);

/* For people and for channels: what is on each. False: there is no @i. */
struct tier_use {
	char name[SETTINGS_NAME_LEN + 40];
	uint64_t pages, used;
	bool is_broken;
};
bool tiers_use(unsigned i, struct tier_use *out);

#endif
