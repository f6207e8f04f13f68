/* SPDX-License-Identifier: MIT */
/*
 * What a policy of prefetch would have made of the pages that a CPU missed in a recorded trace. A
 * page that was missed was on a device just then, whatever it had been before: if the policy had it
 * come since it was missed last, it is not missed. What it has come and nobody missed was for
 * nothing; it may have been at home already, and would not have come: so that is the most.
 */
#include <errno.h>
#include <stdlib.h>

#include "sim.h"

struct part {
	uint64_t block;			  /* its number */
	uint64_t home[AHEAD_BLOCK / 64];  /* pages that a CPU has used, or that came */
	uint64_t fresh[AHEAD_BLOCK / 64]; /* came, and were not used since */
};

struct missed {
	const struct ahead_ops *ops;
	struct ahead ahead;
	bool thread;
	struct part *parts; /* sorted */
	size_t n;
	struct sim_coverage *out;
};

static int by_block(const void *a, const void *b)
{
	uint64_t x = ((const struct part *)a)->block, y = ((const struct part *)b)->block;

	return (x > y) - (x < y);
}

static struct part *part_of(const struct missed *m, uint64_t page)
{
	struct part key = { .block = page / AHEAD_BLOCK };

	return bsearch(&key, m->parts, m->n, sizeof(key), by_block);
}

static void bit_put(uint64_t *map, uint64_t page, bool value)
{
	uint64_t bit = UINT64_C(1) << page % 64, *word = &map[page % AHEAD_BLOCK / 64];

	*word = value ? *word | bit : *word & ~bit;
}

static bool bit_get(const uint64_t *map, uint64_t page)
{
	return map[page % AHEAD_BLOCK / 64] >> page % 64 & 1;
}

/* Only of blocks that somebody missed anything of. */
static void bring(struct missed *m, const struct ahead_pages *pages)
{
	for (uint32_t k = 0; k < pages->n; k++) {
		uint64_t page = pages->first + (uint64_t)(pages->stride * (int64_t)k);
		struct part *part = part_of(m, page);

		if (!part || bit_get(part->home, page))
			continue;
		m->out->came++;
		bit_put(part->home, page, true);
		bit_put(part->fresh, page, true);
	}
}

static void touch(struct missed *m, const struct sim_miss *what)
{
	struct part *part = part_of(m, what->page);
	struct ahead_miss miss = { .page = what->page,
				   .thread = what->thread,
				   .there = part->home };
	struct ahead_plan plan = { 0 };
	uint64_t block = what->page / AHEAD_BLOCK * AHEAD_BLOCK;

	m->out->touched++;
	if (bit_get(part->fresh, what->page)) {
		bit_put(part->fresh, what->page, false);
		return;
	}
	m->out->faults++;
	bit_put(part->home, what->page, true);
	m->ops->miss(&m->ahead, &miss, &plan);
	/* The library looks no further. */
	if (plan.with.n)
		ahead_clip(&plan.with, block, block + AHEAD_BLOCK);
	bring(m, &plan.with);
	if (m->thread)
		bring(m, &plan.after);
}

static void parts_find(struct missed *m, const struct trace *trace)
{
	size_t kept = 0;

	for (size_t i = 0; i < trace->cpu_misses; i++)
		m->parts[i].block = trace->miss[i].page / AHEAD_BLOCK;
	qsort(m->parts, trace->cpu_misses, sizeof(*m->parts), by_block);
	for (size_t i = 0; i < trace->cpu_misses; i++)
		if (!i || m->parts[i].block != m->parts[kept - 1].block)
			m->parts[kept++].block = m->parts[i].block;
	m->n = kept;
}

int sim_coverage_of(const struct ahead_ops *ops, const struct trace *trace, bool thread,
		    struct sim_coverage *out)
{
	struct missed m = { .ops = ops, .thread = thread, .out = out };

	*out = (struct sim_coverage){ 0 };
	if (!trace->cpu_misses)
		return -ENOENT;
	m.parts = calloc(trace->cpu_misses, sizeof(*m.parts));
	if (!m.parts)
		return -ENOMEM;
	parts_find(&m, trace);
	ahead_init(&m.ahead, 0, 0);
	for (size_t i = 0; i < trace->cpu_misses; i++)
		touch(&m, &trace->miss[i]);
	for (size_t i = 0; i < m.n; i++)
		for (unsigned k = 0; k < AHEAD_BLOCK; k++)
			out->wasted += bit_get(m.parts[i].fresh, k);
	free(m.parts);
	return 0;
}
