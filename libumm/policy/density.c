/* SPDX-License-Identifier: MIT */
/*
 * Density: the pages of a block are the leaves of a binary tree. The largest subtree around the
 * page that was missed of which more than so many percent are there, or about to be, is filled up:
 * what is used densely comes, in whatever order it is used. Subtrees of fewer than SMALLEST pages
 * say nothing: of random accesses, many of them are dense by chance.
 */
#include "policy/ahead.h"

#define SMALLEST 16

/* How many of n pages from first on; n is a power of two and divides first. */
static uint32_t count(const uint64_t *there, uint32_t first, uint32_t n)
{
	uint32_t sum = 0;

	if (n < 64)
		return (uint32_t)__builtin_popcountll(there[first / 64] >> first % 64 &
						      ((UINT64_C(1) << n) - 1));
	for (uint32_t w = first / 64; w < (first + n) / 64; w++)
		sum += (uint32_t)__builtin_popcountll(there[w]);
	return sum;
}

/* Pages of the largest dense subtree around page i; 1: there is none. */
static uint32_t dense(const struct ahead *ahead, const uint64_t *there, uint32_t i)
{
	uint32_t best = 1;

	for (uint32_t n = SMALLEST; n <= AHEAD_BLOCK && n <= ahead->most; n *= 2)
		if (count(there, i & ~(n - 1), n) * 100 > n * ahead->percent)
			best = n;
	return best;
}

static void density_miss(struct ahead *ahead, const struct ahead_miss *miss,
			 struct ahead_plan *plan)
{
	uint32_t i = (uint32_t)(miss->page % AHEAD_BLOCK);
	uint32_t n = dense(ahead, miss->there, i);

	if (n == 1)
		return;
	plan->with = (struct ahead_pages){ miss->page - i % SMALLEST, 1, SMALLEST };
	if (n > SMALLEST)
		plan->after = (struct ahead_pages){ miss->page - i % n, 1, n };
}

const struct ahead_ops ahead_density = {
	.name = "density",
	.looks = true,
	.miss = density_miss,
};
