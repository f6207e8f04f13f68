/* SPDX-License-Identifier: MIT */
/*
 * What a policy of prefetch would have made of the pages that a CPU missed in a recorded trace. A
 * page that was missed was on a device just then. The trace says when pages came to a device, and
 * left it: if the policy had a page come since it was last sent there, it is not missed. What it
 * has come and nobody missed before it went again, or ever, was for nothing.
 *
 * A page that the trace says nothing of before the CPU misses it, or ever, is taken to be on a
 * device from the beginning; it may have been at home already, and would not have come: so what
 * came for nothing is the most.
 */
#include <errno.h>
#include <stdlib.h>

#include "sim.h"

struct part {
	uint64_t block;			  /* its number */
	uint64_t home[AHEAD_BLOCK / 64];  /* pages that are not on a device, or that came */
	uint64_t fresh[AHEAD_BLOCK / 64]; /* came, and were not used since */
	uint16_t where[AHEAD_BLOCK];	  /* in the recording: 0 at home, or 1 + a memory */
};

struct missed {
	const struct ahead_ops *ops;
	struct ahead ahead;
	bool thread;
	struct part *parts; /* sorted */
	size_t n;
	struct sim_coverage *out;
};

static int by_number(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return (x > y) - (x < y);
}

static int by_block(const void *a, const void *b)
{
	return by_number(&((const struct part *)a)->block, &((const struct part *)b)->block);
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
	part->where[what->page % AHEAD_BLOCK] = 0;
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

static void page_moves(struct missed *m, struct part *part, uint64_t page,
		       const struct sim_move *move)
{
	uint16_t *where = &part->where[page % AHEAD_BLOCK];
	uint16_t memory = (uint16_t)(1 + move->memory);

	if (move->comes) {
		*where = memory;
		m->out->wasted += bit_get(part->fresh, page);
		bit_put(part->fresh, page, false);
		bit_put(part->home, page, false);
	} else if (!*where || *where == memory) {
		*where = 0;
		bit_put(part->home, page, true);
	}
}

static void pages_move(struct missed *m, const struct sim_move *move)
{
	struct part *part = part_of(m, move->page);

	for (uint32_t k = 0; part && k < move->npages; k++)
		page_moves(m, part, move->page + k, move);
}

/* What is first heard of when it goes to a device was at home before. */
static void start_at_home(struct missed *m, const struct trace *trace)
{
	const struct sim_move *move = trace->move + trace->nmoves;
	struct part *part;

	for (uint64_t i = trace->cpu_misses + 1; i-- > 0;) {
		if (i < trace->cpu_misses)
			bit_put(part_of(m, trace->miss[i].page)->home, trace->miss[i].page, false);
		for (; move > trace->move && move[-1].after == i; move--) {
			part = part_of(m, move[-1].page);
			for (uint32_t k = 0; part && k < move[-1].npages; k++)
				bit_put(part->home, move[-1].page + k, move[-1].comes);
		}
	}
}

static int parts_find(struct missed *m, const struct trace *trace)
{
	uint64_t *block = calloc(trace->cpu_misses, sizeof(*block));
	size_t kept = 0;

	if (!block)
		return -ENOMEM;
	for (size_t i = 0; i < trace->cpu_misses; i++)
		block[i] = trace->miss[i].page / AHEAD_BLOCK;
	qsort(block, trace->cpu_misses, sizeof(*block), by_number);
	for (size_t i = 0; i < trace->cpu_misses; i++)
		if (!i || block[i] != block[kept - 1])
			block[kept++] = block[i];
	m->n = kept;
	m->parts = calloc(kept, sizeof(*m->parts));
	for (size_t i = 0; m->parts && i < kept; i++)
		m->parts[i].block = block[i];
	free(block);
	return m->parts ? 0 : -ENOMEM;
}

int sim_coverage_of(const struct ahead_ops *ops, const struct trace *trace, bool thread,
		    struct sim_coverage *out)
{
	struct missed m = { .ops = ops, .thread = thread, .out = out };
	const struct sim_move *move = trace->move, *end = move + trace->nmoves;

	*out = (struct sim_coverage){ 0 };
	if (!trace->cpu_misses)
		return -ENOENT;
	if (parts_find(&m, trace))
		return -ENOMEM;
	ahead_init(&m.ahead, 0, 0);
	start_at_home(&m, trace);
	for (size_t i = 0; i < trace->cpu_misses; i++) {
		for (; move < end && move->after <= i; move++)
			pages_move(&m, move);
		touch(&m, &trace->miss[i]);
	}
	for (size_t i = 0; i < m.n; i++)
		for (unsigned k = 0; k < AHEAD_BLOCK; k++)
			out->wasted += bit_get(m.parts[i].fresh, k);
	free(m.parts);
	return 0;
}
