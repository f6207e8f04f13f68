/* SPDX-License-Identifier: MIT */
/*
 * Misses that no order can do without, of a recorded trace. Its blocks are not of one size, so what
 * the least is takes too long to find out (it is NP-hard); this is a bound below it.
 *
 * A use that follows another of its block hits only if pages of the block stayed in between: a
 * span. After each step what stays, and what the step itself had come, fit together: of the
 * spans that last over a step, those that do not fit are broken, and the use at their end is
 * a miss. Two bounds follow, of which the greater counts.
 *
 * By number: so many have to be broken over a step as if the largest of them were. The least number
 * of spans by which that can be is found in the order of time, breaking those that end
 * last: among blocks of one size this is Belady's rule.
 *
 * By size: if spans may be broken in part, that is a linear program; and whatever price one puts on
 * a page of each step, the sum over all spans of what 1 exceeds the span's price by, if it does,
 * and over all steps of the price times the pages that fit, is not less than the spans that can
 * stay. Prices are raised where too much stayed, and lowered where too little did; the least sum of
 * all rounds counts.
 *
 * A span is as large as the pages that the use at its beginning surely had come and that
 * did not leave for another reason than lack of room; one page, where that is not sure: what came
 * because there was room, or what may have found none. None may where all that the step
 * must not evict, as large as it can be, is there beside it.
 */
#include <errno.h>
#include <math.h>
#include <stdlib.h>

#include "sim.h"

#define ROUNDS	300
#define NOWHERE SIZE_MAX
#define MOST	512 /* pages of a block */

struct span {
	size_t from, to; /* moments strictly between which it lasts */
	uint32_t size;
};

struct held {
	uint64_t might[SIM_WORDS]; /* pages that can be there */
	uint64_t sure[SIM_WORDS];  /* that are, unless it was evicted since */
	size_t since;		   /* the moment that it was used last, or NOWHERE */
	size_t mark;
};

struct bound {
	const struct trace *trace;
	uint64_t room;
	struct held *held; /* of each block */
	struct span *span;
	size_t nspans;
	uint64_t uses;
	/* At each moment: */
	size_t nmoments;
	uint64_t *fits;	       /* pages of other blocks */
	size_t *begins, *ends; /* a span, or NOWHERE */
	size_t *broken;	       /* broken ones end there */
	double *price, *sum;   /* sum: of what comes before */
	double *over;	       /* pages that stay, by differences */
	struct heap heap;
};

static uint32_t together(const uint64_t *a, const uint64_t *b)
{
	uint64_t both[SIM_WORDS];

	for (unsigned w = 0; w < SIM_WORDS; w++)
		both[w] = a[w] | b[w];
	return sim_count(both);
}

/* Does all that a step wants find room, whatever was done before? */
static bool surely_fits(struct bound *b, size_t i)
{
	const struct trace_step *step = &b->trace->step[i];
	uint32_t block = b->trace->block[i], other;
	uint64_t most = together(b->held[block].might, step->pages);

	if (step->kind == STEP_SPARE)
		return false;
	b->held[block].mark = i;
	for (size_t k = step->kind == STEP_BRING ? step->after : i; k < i && most <= b->room; k++) {
		other = b->trace->block[k];
		if (b->trace->step[k].kind > STEP_SPARE || b->held[other].mark == i)
			continue;
		b->held[other].mark = i;
		most += sim_count(b->held[other].might);
	}
	return most <= b->room;
}

static void span_add(struct bound *b, const struct held *held)
{
	uint32_t size = sim_count(held->sure);

	b->begins[held->since] = b->ends[b->nmoments] = b->nspans;
	b->span[b->nspans++] =
		(struct span){ .from = held->since, .to = b->nmoments, .size = size ? size : 1 };
}

static void take_pages(struct bound *b, size_t i)
{
	const struct trace_step *step = &b->trace->step[i];
	struct held *held = &b->held[b->trace->block[i]];
	bool sure = surely_fits(b, i);

	if (step->own) {
		b->uses++;
		if (held->since != NOWHERE)
			span_add(b, held);
	}
	for (unsigned w = 0; w < SIM_WORDS; w++) {
		held->might[w] |= step->pages[w];
		held->sure[w] = sure ? step->pages[w] : 0;
	}
	held->since = b->nmoments;
	b->fits[b->nmoments++] = b->room - (sure ? sim_count(step->pages) : 0);
}

static void lose_pages(struct held *held, const uint64_t *pages)
{
	for (unsigned w = 0; w < SIM_WORDS; w++) {
		held->might[w] &= ~pages[w];
		held->sure[w] &= ~pages[w];
	}
	if (!sim_count(held->might))
		held->since = NOWHERE;
}

static void take_step(struct bound *b, size_t i)
{
	const struct trace_step *step = &b->trace->step[i];

	switch (step->kind) {
	case STEP_USE:
	case STEP_BRING:
	case STEP_SPARE:
		if (sim_count(step->pages))
			take_pages(b, i);
		break;
	case STEP_GONE:
		lose_pages(&b->held[b->trace->block[i]], step->pages);
		break;
	case STEP_EMPTY:
		b->fits[b->nmoments++] = b->room > step->after ? b->room - step->after : 0;
		break;
	default:
		break;
	}
}

/* What hits are no more than at these prices; over: what was chosen for them, at each moment. */
static double value(struct bound *b)
{
	double hits = 0, price, over = 0;

	for (size_t t = 0; t < b->nmoments; t++) {
		b->sum[t + 1] = b->sum[t] + b->price[t];
		b->over[t] = 0;
		hits += b->price[t] * (double)b->fits[t];
	}
	for (size_t k = 0; k < b->nspans; k++) {
		const struct span *span = &b->span[k];

		price = span->size * (b->sum[span->to] - b->sum[span->from + 1]);
		if (price >= 1)
			continue;
		hits += 1 - price;
		b->over[span->from + 1] += span->size;
		b->over[span->to] -= span->size;
	}
	for (size_t t = 0; t < b->nmoments; t++) {
		over += b->over[t];
		b->over[t] = over;
	}
	return hits;
}

/* A step towards what would be worth so much. */
static void reprice(struct bound *b, double gain)
{
	double length = 0, step, over;

	for (size_t t = 0; t < b->nmoments; t++) {
		over = b->over[t] - (double)b->fits[t];
		length += over > 0 || b->price[t] > 0 ? over * over : 0;
	}
	step = length > 0 ? gain / length : 0;
	for (size_t t = 0; t < b->nmoments; t++)
		b->price[t] = fmax(0, b->price[t] + step * (b->over[t] - (double)b->fits[t]));
}

static double most_stay(struct bound *b)
{
	double best = (double)b->nspans, hits, part = 0.1;
	unsigned idle = 0;

	for (unsigned round = 0; round < ROUNDS; round++) {
		hits = value(b);
		idle = hits < best ? 0 : idle + 1;
		best = fmin(best, hits);
		if (idle == 10) {
			idle = 0;
			part /= 2;
		}
		reprice(b, hits - best + part * (best + 1));
	}
	return best;
}

/* How many of the spans that last have to be broken so that the rest fit: the largest. */
static uint64_t too_many(const size_t *of_size, uint64_t pages, uint64_t fits)
{
	uint64_t n = 0, some;

	for (uint32_t size = MOST; pages > fits; size--) {
		some = (pages - fits + size - 1) / size;
		some = some < of_size[size] ? some : of_size[size];
		n += some;
		pages -= some * size;
	}
	return n;
}

static uint64_t least_broken(struct bound *b)
{
	size_t of_size[MOST + 1] = { 0 };
	uint64_t pages = 0, total = 0, now = 0, least;
	const struct span *span;

	for (size_t t = 0; t < b->nmoments; t++) {
		if (b->ends[t] != NOWHERE) {
			span = &b->span[b->ends[t]];
			of_size[span->size]--;
			pages -= span->size;
		}
		now -= b->broken[t];
		for (least = too_many(of_size, pages, b->fits[t]); now < least; now++, total++)
			b->broken[heap_pop(&b->heap).next]++;
		if (b->begins[t] == NOWHERE)
			continue;
		span = &b->span[b->begins[t]];
		of_size[span->size]++;
		pages += span->size;
		heap_push(&b->heap, (struct use){ .next = span->to });
	}
	return total;
}

static int bound_init(struct bound *b, const struct trace *trace, uint64_t room)
{
	size_t n = trace->n + 2;

	*b = (struct bound){ .trace = trace,
			     .room = room,
			     .held = calloc(trace->nblocks + 1, sizeof(*b->held)),
			     .span = calloc(n, sizeof(*b->span)),
			     .fits = calloc(n, sizeof(*b->fits)),
			     .begins = calloc(n, sizeof(*b->begins)),
			     .ends = calloc(n, sizeof(*b->ends)),
			     .broken = calloc(n, sizeof(*b->broken)),
			     .price = calloc(n, sizeof(*b->price)),
			     .sum = calloc(n, sizeof(*b->sum)),
			     .over = calloc(n, sizeof(*b->over)),
			     .heap = { .use = calloc(n, sizeof(*b->heap.use)) } };
	if (!b->held || !b->span || !b->fits || !b->begins || !b->ends || !b->broken || !b->price ||
	    !b->sum || !b->over || !b->heap.use)
		return -ENOMEM;
	for (uint32_t k = 0; k < trace->nblocks; k++)
		b->held[k] = (struct held){ .since = NOWHERE, .mark = NOWHERE };
	for (size_t t = 0; t < n; t++)
		b->begins[t] = b->ends[t] = NOWHERE;
	return 0;
}

static void bound_fini(struct bound *b)
{
	free(b->held);
	free(b->span);
	free(b->fits);
	free(b->begins);
	free(b->ends);
	free(b->broken);
	free(b->price);
	free(b->sum);
	free(b->over);
	free(b->heap.use);
}

int sim_bound(const struct trace *trace, uint64_t room, struct sim_result *out)
{
	uint64_t stay, broken;
	struct bound b;
	int ret = bound_init(&b, trace, room);

	*out = (struct sim_result){ 0 };
	if (!ret) {
		for (size_t i = 0; i < trace->n; i++)
			take_step(&b, i);
		stay = (uint64_t)(most_stay(&b) + 1e-6);
		broken = least_broken(&b);
		stay = stay < b.nspans - broken ? stay : b.nspans - broken;
		out->uses = b.uses;
		out->hits = stay;
		out->misses = b.uses - stay;
	}
	bound_fini(&b);
	return ret;
}
