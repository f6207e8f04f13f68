/* SPDX-License-Identifier: MIT */
/*
 * What a policy of prefetch removes of a CPU's faults on pages that are on a device: patterns of
 * single pages go through the one file that the library runs. What comes with a page is there at
 * once; what comes after it is there before the next access, or (nobody brings it) never: the
 * library's thread is somewhere in between.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "sim.h"

#define FIRST UINT64_C(0x7f0000000) /* the first page of a block */
#define SEED  UINT64_C(88172645463325252)

struct walk {
	const struct ahead_ops *ops;
	struct ahead ahead;
	bool thread;
	uint64_t *there, *used; /* bitmaps of the pages */
	struct sim_coverage *out;
};

static bool test(const uint64_t *map, uint64_t i)
{
	return map[i / 64] >> i % 64 & 1;
}

static void set(uint64_t *map, uint64_t i)
{
	map[i / 64] |= UINT64_C(1) << i % 64;
}

/* Those of pages from .. to (half open) come. */
static void bring(struct walk *walk, const struct ahead_pages *pages, uint64_t from, uint64_t to)
{
	struct ahead_pages inside = *pages;
	uint64_t i;

	if (inside.n)
		ahead_clip(&inside, FIRST + from, FIRST + to);
	for (uint32_t k = 0; k < inside.n; k++) {
		i = inside.first + (uint64_t)(inside.stride * (int64_t)k) - FIRST;
		walk->out->came += !test(walk->there, i);
		set(walk->there, i);
	}
}

static void touch(struct walk *walk, uint64_t i)
{
	struct ahead_miss miss = { .page = FIRST + i,
				   .thread = 1,
				   .there = &walk->there[i / AHEAD_BLOCK * (AHEAD_BLOCK / 64)] };
	struct ahead_plan plan = { 0 };
	uint64_t block = i / AHEAD_BLOCK * AHEAD_BLOCK;

	walk->out->touched += !test(walk->used, i);
	set(walk->used, i);
	if (test(walk->there, i))
		return;
	walk->out->faults++;
	set(walk->there, i);
	walk->ops->miss(&walk->ahead, &miss, &plan);
	/* The library looks no further. */
	bring(walk, &plan.with, block, block + AHEAD_BLOCK);
	if (walk->thread)
		bring(walk, &plan.after, 0, WALK_PAGES);
}

static void forwards(struct walk *walk)
{
	for (uint64_t i = 0; i < WALK_PAGES; i++)
		touch(walk, i);
}

static void backwards(struct walk *walk)
{
	for (uint64_t i = WALK_PAGES; i-- > 0;)
		touch(walk, i);
}

static void every(struct walk *walk, uint64_t stride)
{
	for (uint64_t i = 0; i < WALK_PAGES; i += stride)
		touch(walk, i);
}

static void strided(struct walk *walk)
{
	every(walk, WALK_STRIDE);
}

/* Few of them are in one block, and a fault brings nothing of others. */
static void every_64(struct walk *walk)
{
	every(walk, 64);
}

static void every_512(struct walk *walk)
{
	every(walk, 512);
}

static void two_arrays(struct walk *walk)
{
	for (uint64_t i = 0; i < WALK_PAGES / 2; i++) {
		touch(walk, i);
		touch(walk, WALK_PAGES / 2 + i);
	}
}

/* A quarter of the pages, in no order. */
static void scattered(struct walk *walk)
{
	uint64_t x = SEED;

	while (walk->out->touched < WALK_PAGES / 4) {
		x ^= x << 13;
		x ^= x >> 7;
		x ^= x << 17;
		touch(walk, x % WALK_PAGES);
	}
}

/* Each block from its middle outwards: dense, and in no stride. */
static void outwards(struct walk *walk)
{
	for (uint64_t block = 0; block < WALK_PAGES; block += AHEAD_BLOCK)
		for (uint64_t i = 0; i < AHEAD_BLOCK / 2; i++) {
			touch(walk, block + AHEAD_BLOCK / 2 + i);
			touch(walk, block + AHEAD_BLOCK / 2 - 1 - i);
		}
}

const char *const walk_names[NR_WALKS] = {
	"forwards", "backwards", "strided",  "two-arrays",
	"outwards", "random",	 "every-64", "every-512",
};

int sim_coverage(const struct ahead_ops *ops, unsigned walk, bool thread, struct sim_coverage *out)
{
	static void (*const walks[NR_WALKS])(struct walk *) = {
		forwards, backwards, strided, two_arrays, outwards, scattered, every_64, every_512,
	};
	struct walk w = { .ops = ops,
			  .thread = thread,
			  .there = calloc(WALK_PAGES / 64, sizeof(uint64_t)),
			  .used = calloc(WALK_PAGES / 64, sizeof(uint64_t)),
			  .out = out };
	int ret = w.there && w.used ? 0 : -ENOMEM;

	*out = (struct sim_coverage){ 0 };
	if (!ret) {
		ahead_init(&w.ahead, 0, 0);
		walks[walk](&w);
		for (uint64_t i = 0; i < WALK_PAGES; i++)
			out->wasted += test(w.there, i) && !test(w.used, i);
	}
	free(w.there);
	free(w.used);
	return ret;
}
