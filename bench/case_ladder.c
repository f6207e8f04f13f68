/* SPDX-License-Identifier: MIT */
/*
 * The lower rungs of the kernel's features, as older kernels have them: libumm without a feature
 * against libumm with all of them, in two contexts that do the same. There is no goal.
 */
#include <errno.h>
#include <stdlib.h>

#include "bench.h"
#include "ours.h"
#include "touches.h"

enum ladder_variant {
	LADDER_FAULT,
	LADDER_OUT,
	LADDER_BACK,
};

struct rung {
	struct ours_trip trip;
	struct ref_device *device;
};

struct ladder_state {
	struct bench_env *env;
	int variant;
	struct touches touches;
	struct rung lower, top;
};

static int rung_open(struct ladder_state *s, struct rung *rung, uint64_t features_off)
{
	struct umm_ctx_options options = { .size = sizeof(options),
					   .kernel_features_off = features_off };
	size_t len = s->touches.npages * UMM_PAGE_SIZE;
	int ret = umm_ctx_create(&options, &rung->trip.ctx);

	if (ret == -EPERM || ret == -EOPNOTSUPP)
		return bench_note(s->env, BENCH_SKIP, "no userfaultfd here: umm info says more");
	if (ret)
		return bench_note(s->env, ret, "umm_ctx_create");
	ret = ours_device(s->env, rung->trip.ctx, len, true, &rung->device);
	if (ret)
		return ret;
	rung->trip.mem = rung->device->mem;
	rung->trip.len = len;
	rung->trip.back = s->variant == LADDER_BACK;
	return ours_memory(s->env, rung->trip.ctx, len, &rung->trip.memory);
}

static int ladder_setup(struct bench_env *env, const struct bench_case *bcase, void **state)
{
	struct ladder_state *s = calloc(1, sizeof(*s));
	int ret;

	*state = s;
	if (!s)
		return -ENOMEM;
	s->env = env;
	s->variant = bcase->variant;
	s->touches = (struct touches){ .npages = env->fault_pages,
				       .stride = UMM_PAGE_SIZE,
				       .cpu = machine_first_cpu(env->machine) };
	ret = touches_init(&s->touches);
	if (!ret)
		ret = rung_open(s, &s->lower, UMM_KERNEL_MOVE);
	return ret ? ret : rung_open(s, &s->top, 0);
}

static int rung_run(struct ladder_state *s, struct rung *rung, struct series *out)
{
	struct ours_trip *trip = &rung->trip;

	if (s->variant != LADDER_FAULT)
		return ours_trip(s->env, trip, out);
	if (umm_migrate_to_device(trip->ctx, trip->mem, trip->memory, trip->len) !=
	    (long)s->touches.npages)
		return bench_note(s->env, -EIO, "the pages did not go to the device");
	return touches_run(s->env, &s->touches, trip->memory, out);
}

static int ladder_ours(void *state, struct series *out)
{
	struct ladder_state *s = state;

	return rung_run(s, &s->lower, out);
}

static int ladder_theirs(void *state, struct series *out)
{
	struct ladder_state *s = state;

	return rung_run(s, &s->top, out);
}

static void ladder_teardown(void *state)
{
	struct ladder_state *s = state;

	if (!s)
		return;
	ref_destroy(s->lower.device);
	ref_destroy(s->top.device);
	umm_ctx_put(s->lower.trip.ctx);
	umm_ctx_put(s->top.trip.ctx);
	touches_fini(&s->touches);
	free(s);
}

#define LADDER_CASE(case_name, text, measure, sort, which)                           \
	{                                                                            \
		.name = (case_name), .summary = (text), .against = "all features",   \
		.unit = (measure), .kind = (sort), .pairs = 5, .variant = (which),   \
		.setup = ladder_setup, .ours = ladder_ours, .theirs = ladder_theirs, \
		.teardown = ladder_teardown,                                         \
	}

const struct bench_case case_ladder[] = {
	LADDER_CASE("ladder/no-move-fault", "CPU read fault without UFFDIO_MOVE", "us", BENCH_COST,
		    LADDER_FAULT),
	LADDER_CASE("ladder/no-move-out", "migration to the reference device without it", "GiB/s",
		    BENCH_SPEED, LADDER_OUT),
	LADDER_CASE("ladder/no-move-back", "and home", "GiB/s", BENCH_SPEED, LADDER_BACK),
	{ 0 },
};
