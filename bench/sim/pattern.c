/* SPDX-License-Identifier: MIT */
/*
 * The classic patterns of use. Each comes out the same at every call: random numbers have a seed,
 * which is fixed unless it is asked for. A pattern is `nblocks` large, except for a loop that is
 * made to the measure of a memory: it is a tenth larger. The hot set that a scan passes is half of
 * the memory.
 */
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "sim.h"

#define SEED UINT64_C(88172645463)

struct pattern {
	struct trace *trace;
	uint32_t nblocks, room;
	uint64_t seed;
	uint32_t rounds; /* enough that the first miss of each is little */
};

int trace_push(struct trace *trace, uint32_t block)
{
	size_t room = trace->room ? 2 * trace->room : 1024;
	uint32_t *more;

	if (trace->n == trace->room) {
		more = realloc(trace->block, room * sizeof(*more));
		if (!more)
			return -ENOMEM;
		trace->block = more;
		trace->room = room;
	}
	trace->block[trace->n++] = block;
	if (block >= trace->nblocks)
		trace->nblocks = block + 1;
	return 0;
}

int trace_add(struct trace *trace, uint32_t block)
{
	if (trace->n && trace->block[trace->n - 1] == block)
		return 0;
	return trace_push(trace, block);
}

uint64_t trace_size(const struct trace *trace)
{
	return trace->step ? trace->npages : trace->nblocks;
}

void trace_fini(struct trace *trace)
{
	free(trace->block);
	free(trace->number);
	free(trace->step);
	free(trace->anew);
	free(trace->miss);
	free(trace->move);
	*trace = (struct trace){ 0 };
}

/* xorshift64*: below n. */
static uint32_t below(struct pattern *p, uint32_t n)
{
	p->seed ^= p->seed >> 12;
	p->seed ^= p->seed << 25;
	p->seed ^= p->seed >> 27;
	return (uint32_t)(((p->seed * UINT64_C(0x2545f4914f6cdd1d)) >> 33) % n);
}

/* A use of the distribution 1/rank over n blocks, which lie in no order of rank. */
static uint32_t zipf(struct pattern *p, uint32_t n)
{
	double u = (double)below(p, 1u << 30) / (1u << 30);
	uint32_t rank = (uint32_t)(pow((double)n + 1, u) - 1);

	return (uint32_t)((uint64_t)(rank >= n ? n - 1 : rank) * 2654435761u % n);
}

static int sequential(struct pattern *p)
{
	int ret = 0;

	for (uint32_t i = 0; i < p->nblocks && !ret; i++)
		ret = trace_add(p->trace, i);
	return ret;
}

/* Every seventh block, until all were used. */
static int strided(struct pattern *p)
{
	int ret = 0;

	for (uint32_t first = 0; first < 7 && !ret; first++)
		for (uint32_t i = first; i < p->nblocks && !ret; i += 7)
			ret = trace_add(p->trace, i);
	return ret;
}

static int random_order(struct pattern *p)
{
	int ret = 0;

	for (uint32_t i = 0; i < p->rounds * p->nblocks && !ret; i++)
		ret = trace_add(p->trace, below(p, p->nblocks));
	return ret;
}

static int zipfian(struct pattern *p)
{
	int ret = 0;

	for (uint32_t i = 0; i < p->rounds * p->nblocks && !ret; i++)
		ret = trace_add(p->trace, zipf(p, p->nblocks));
	return ret;
}

static int loop(struct pattern *p)
{
	uint32_t n = p->room ? p->room + p->room / 10 + 1 : p->nblocks;
	int ret = 0;

	for (uint32_t i = 0; i < p->rounds * n && !ret; i++)
		ret = trace_add(p->trace, i % n);
	return ret;
}

/* A hot set that half of the memory holds, and with every fourth use one step of a scan. */
static int scan_over_hot_set(struct pattern *p)
{
	uint32_t most = p->nblocks > 1 ? p->nblocks - 1 : 1, hot = p->room / 2;
	uint32_t scanned, at = 0;
	int ret = 0;

	hot = !hot ? 1 : hot < most ? hot : most;
	scanned = p->nblocks > hot ? p->nblocks - hot : 1;
	for (uint32_t i = 0; i < p->rounds * p->nblocks && !ret; i++) {
		if (i % 4)
			ret = trace_add(p->trace, below(p, hot));
		else
			ret = trace_add(p->trace, (hot + at++ % scanned) % p->nblocks);
	}
	return ret;
}

/* Four phases, each zipfian over a half: from the first block to the last in even steps. */
static int phase_change(struct pattern *p)
{
	uint32_t half = p->nblocks / 2 ? p->nblocks / 2 : 1;
	int ret = 0;

	for (uint32_t phase = 0; phase < 4; phase++)
		for (uint32_t i = 0; i < p->rounds / 4 * p->nblocks && !ret; i++)
			ret = trace_add(p->trace, phase * (p->nblocks - half) / 3 + zipf(p, half));
	return ret;
}

const char *const pattern_names[NR_PATTERNS] = {
	"sequential", "strided", "random", "zipf", "loop", "scan", "phase",
};

int pattern_drawn(const char *name, uint32_t nblocks, uint32_t room, struct pattern_draw draw,
		  struct trace *out)
{
	static int (*const make[NR_PATTERNS])(struct pattern *) = {
		sequential, strided, random_order, zipfian, loop, scan_over_hot_set, phase_change,
	};
	struct pattern p = { .trace = out,
			     .nblocks = nblocks,
			     .room = room,
			     .seed = draw.seed,
			     .rounds = draw.rounds };
	int ret = -ENOENT;

	*out = (struct trace){ 0 };
	for (unsigned i = 0; i < NR_PATTERNS; i++) {
		if (strcmp(pattern_names[i], name))
			continue;
		memcpy(out->name, name, strlen(name) + 1);
		ret = make[i](&p);
	}
	if (ret)
		trace_fini(out);
	return ret;
}

int pattern_make(const char *name, uint32_t nblocks, uint32_t room, struct trace *out)
{
	struct pattern_draw draw = { .seed = SEED, .rounds = PATTERN_ROUNDS };

	return pattern_drawn(name, nblocks, room, draw, out);
}
