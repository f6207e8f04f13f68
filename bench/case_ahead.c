/* SPDX-License-Identifier: MIT */
/*
 * What prefetch on faults costs where it cannot help, and gives where it can: all pages of a
 * memory on the reference device are touched in a random order, or every eighth in order, with the
 * default policy and, by a context of its own, without any. Small pages: what comes by itself comes
 * page by page.
 */
#include <errno.h>
#include <stdlib.h>

#include "bench.h"
#include "ours.h"
#include "touches.h"

enum ahead_variant {
	AHEAD_RANDOM,
	AHEAD_STRIDED,
};

#define STRIDE 8 /* pages */

struct ahead_side {
	struct umm_ctx *ctx;
	struct ref_device *device;
	char *memory;
};

struct ahead_state {
	struct bench_env *env;
	struct touches touches;
	size_t len;
	struct ahead_side ours, theirs;
};

static int side_open(struct ahead_state *s, enum umm_readahead readahead, struct ahead_side *side)
{
	struct umm_ctx_options options = { .size = sizeof(options), .readahead = readahead };
	void *memory;
	int ret = ours_ctx_with(s->env, &options, &side->ctx);

	if (!ret)
		ret = ours_device(s->env, side->ctx, s->len, true, &side->device);
	if (ret)
		return ret;
	ret = umm_alloc(side->ctx, s->len, UMM_ALLOC_SMALL_PAGES, &memory);
	if (ret)
		return bench_note(s->env, ret, "umm_alloc: %s", umm_strerror(ret));
	side->memory = memory;
	touches_stamp(&s->touches, side->memory);
	return 0;
}

static int ahead_setup(struct bench_env *env, const struct bench_case *bcase, void **state)
{
	struct ahead_state *s = calloc(1, sizeof(*s));
	bool strided = bcase->variant == AHEAD_STRIDED;
	int ret;

	*state = s;
	if (!s)
		return -ENOMEM;
	s->env = env;
	s->touches = (struct touches){ .npages = env->fault_pages,
				       .stride = (strided ? STRIDE : 1) * UMM_PAGE_SIZE,
				       .cpu = machine_first_cpu(env->machine) };
	s->len = s->touches.npages * s->touches.stride;
	ret = touches_init(&s->touches);
	for (size_t i = 0; !ret && strided && i < s->touches.npages; i++)
		s->touches.order[i] = (uint32_t)i;
	if (!ret)
		ret = side_open(s, UMM_READAHEAD_STREAM, &s->ours);
	return ret ? ret : side_open(s, UMM_READAHEAD_OFF, &s->theirs);
}

/* Out, and touched; what is pushed is the mean of a touch. */
static int side_run(struct ahead_state *s, const struct ahead_side *side, struct series *out)
{
	struct series took = { 0 };
	double sum = 0;
	long moved = umm_migrate_to_device(side->ctx, side->device->mem, side->memory, s->len);
	int ret;

	if (moved < 0)
		return bench_note(s->env, (int)moved, "nothing went to the device");
	ret = touches_run(s->env, &s->touches, side->memory, &took);
	for (size_t i = 0; i < took.count; i++)
		sum += took.value[i];
	if (!ret)
		series_push(out, sum / (double)took.count);
	series_fini(&took);
	/* What was not touched went nowhere, and would not move again. */
	umm_migrate_to_system(side->ctx, side->memory, s->len);
	return ret;
}

static int ahead_ours(void *state, struct series *out)
{
	struct ahead_state *s = state;

	return side_run(s, &s->ours, out);
}

static int ahead_theirs(void *state, struct series *out)
{
	struct ahead_state *s = state;

	return side_run(s, &s->theirs, out);
}

static void ahead_teardown(void *state)
{
	struct ahead_state *s = state;

	if (!s)
		return;
	ref_destroy(s->ours.device);
	umm_ctx_put(s->ours.ctx);
	ref_destroy(s->theirs.device);
	umm_ctx_put(s->theirs.ctx);
	touches_fini(&s->touches);
	free(s);
}

const struct bench_case case_ahead[] = {
	{
		.name = "ahead/random",
		.summary = "mean CPU read of a device page, random order, with prefetch on faults",
		.against = "without prefetch",
		.unit = "us",
		.kind = BENCH_COST,
		.goal = 1.1,
		.pairs = 15,
		.variant = AHEAD_RANDOM,
		.setup = ahead_setup,
		.ours = ahead_ours,
		.theirs = ahead_theirs,
		.teardown = ahead_teardown,
	},
	{
		.name = "ahead/strided",
		.summary = "the same, every eighth page in order (ratio: times faster)",
		.against = "without prefetch",
		.unit = "us",
		.kind = BENCH_SPEEDUP,
		.pairs = 15,
		.variant = AHEAD_STRIDED,
		.setup = ahead_setup,
		.ours = ahead_ours,
		.theirs = ahead_theirs,
		.teardown = ahead_teardown,
	},
	{ 0 },
};
