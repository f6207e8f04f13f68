/* SPDX-License-Identifier: MIT */
/*
 * What hints save: two devices and the CPU use the same pages round by round, with the hint and, in
 * memory of its own, without. A run's figure is the pages that somebody missed, counted, not timed.
 * Nothing is damped and nothing comes ahead, so that every difference is the hint's.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "bench.h"
#include "ours.h"

#define PAGES  64
#define REPEAT 8

/* Who uses all the pages, a letter a round: c, a, b: the CPU or a device reads; C, A: it writes. */
struct hints_program {
	const char *rounds;
	enum umm_hint hint;
	bool of_device; /* prefers the memory of device a; else the system's */
};

enum hints_variant {
	HINTS_READ_MOSTLY,
	HINTS_PREFER_SYSTEM,
	HINTS_PREFER_DEVICE,
};

static const struct hints_program programs[] = {
	[HINTS_READ_MOSTLY] = { "abababababababababaC", UMM_HINT_READ_MOSTLY, false },
	[HINTS_PREFER_SYSTEM] = { "CcCcaCcCcC", UMM_HINT_PREFERRED, false },
	[HINTS_PREFER_DEVICE] = { "AaAaAcaAaA", UMM_HINT_PREFERRED, true },
};

struct hints_state {
	struct bench_env *env;
	const struct hints_program *program;
	struct umm_ctx *ctx;
	struct ref_device *a, *b;
	char *hinted, *plain;
};

static int advise(struct hints_state *s, char *memory, struct umm_advice advice)
{
	struct umm_span span = { (uintptr_t)memory, PAGES * UMM_PAGE_SIZE };
	int ret;

	advice.size = sizeof(advice);
	advice.spans = &span;
	advice.nspans = 1;
	ret = umm_advise(s->ctx, &advice);
	return ret ? bench_note(s->env, ret, "umm_advise: %s", umm_strerror(ret)) : 0;
}

static int hints_memory(struct hints_state *s, char **out)
{
	size_t len = PAGES * UMM_PAGE_SIZE;
	void *memory;
	int ret = umm_alloc(s->ctx, len, UMM_ALLOC_SMALL_PAGES, &memory);

	if (ret)
		return bench_note(s->env, ret, "umm_alloc: %s", umm_strerror(ret));
	memset(memory, 1, len);
	*out = memory;
	ret = advise(s, memory,
		     (struct umm_advice){ .hint = UMM_HINT_THRASH, .thrash = UMM_THRASH_OFF });
	if (ret)
		return ret;
	return advise(s, memory,
		      (struct umm_advice){ .hint = UMM_HINT_READAHEAD,
					   .readahead = UMM_READAHEAD_OFF });
}

static int hints_setup(struct bench_env *env, const struct bench_case *bcase, void **state)
{
	struct hints_state *s = calloc(1, sizeof(*s));
	struct umm_advice advice = { 0 };
	int ret;

	*state = s;
	if (!s)
		return -ENOMEM;
	s->env = env;
	s->program = &programs[bcase->variant];
	ret = ours_ctx(env, &s->ctx);
	if (!ret)
		ret = ours_device(env, s->ctx, 4 * PAGES * UMM_PAGE_SIZE, true, &s->a);
	if (!ret)
		ret = ours_device(env, s->ctx, 4 * PAGES * UMM_PAGE_SIZE, true, &s->b);
	if (!ret)
		ret = hints_memory(s, &s->plain);
	if (!ret)
		ret = hints_memory(s, &s->hinted);
	if (ret)
		return ret;
	advice.hint = s->program->hint;
	advice.mem = s->program->of_device ? s->a->mem : NULL;
	return advise(s, s->hinted, advice);
}

static bool use(struct hints_state *s, char *at, char who)
{
	struct ref_device *device = who == 'b' ? s->b : s->a;
	unsigned char byte = 1;

	if (who == 'c')
		return *(volatile char *)at == 1;
	if (who == 'C') {
		*(volatile char *)at = 1;
		return true;
	}
	return !(who == 'A' ? ref_write(device, (uintptr_t)at, &byte, 1) :
			      ref_read(device, (uintptr_t)at, &byte, 1)) &&
	       byte == 1;
}

/* Pages that have moved to a device, have been duplicated, or were missed by the CPU, so far. */
static uint64_t missed(struct hints_state *s)
{
	struct umm_stats stats = { .size = sizeof(stats) };
	uint64_t sum;

	umm_ctx_stats(s->ctx, &stats);
	sum = stats.counter[UMM_COUNT_DUPLICATED] + stats.counter[UMM_COUNT_FAULT_DEVICE] +
	      stats.counter[UMM_COUNT_FAULT_WRITE];
	for (unsigned cause = 0; cause < UMM_NR_CAUSES; cause++)
		sum += stats.counter[UMM_COUNT_TO_DEVICE + cause];
	return sum;
}

static int hints_run(struct hints_state *s, char *memory, struct series *out)
{
	uint64_t before = missed(s);

	for (unsigned i = 0; i < REPEAT; i++)
		for (const char *who = s->program->rounds; *who; who++)
			for (unsigned page = 0; page < PAGES; page++)
				if (!use(s, memory + page * UMM_PAGE_SIZE, *who))
					return bench_note(s->env, -EIO,
							  "a user sees wrong data, or none");
	series_push(out, (double)(missed(s) - before));
	return 0;
}

static int hints_ours(void *state, struct series *out)
{
	struct hints_state *s = state;

	return hints_run(s, s->hinted, out);
}

static int hints_theirs(void *state, struct series *out)
{
	struct hints_state *s = state;

	return hints_run(s, s->plain, out);
}

static void hints_teardown(void *state)
{
	struct hints_state *s = state;

	if (!s)
		return;
	ref_destroy(s->a);
	ref_destroy(s->b);
	umm_ctx_put(s->ctx);
	free(s);
}

#define HINTS_CASE(case_name, text, case_kind, case_goal, which)                            \
	{                                                                                   \
		.name = case_name, .summary = text, .against = "no hint", .unit = "misses", \
		.kind = case_kind, .goal = case_goal, .pairs = 3, .variant = which,         \
		.setup = hints_setup, .ours = hints_ours, .theirs = hints_theirs,           \
		.teardown = hints_teardown,                                                 \
	}

const struct bench_case case_hints[] = {
	HINTS_CASE("hints/read-mostly", "two readers, a write in twenty rounds, read-mostly",
		   BENCH_SPEEDUP, 2, HINTS_READ_MOSTLY),
	HINTS_CASE("hints/prefer-system", "mostly the CPU's, preferred location the system",
		   BENCH_COST, 1, HINTS_PREFER_SYSTEM),
	HINTS_CASE("hints/prefer-device", "mostly a device's, preferred location its memory",
		   BENCH_COST, 1, HINTS_PREFER_DEVICE),
	{ 0 },
};
