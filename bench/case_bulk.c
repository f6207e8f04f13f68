/* SPDX-License-Identifier: MIT */
/*
 * Moving much memory at once to the reference device, and back, against memcpy().
 *
 * A run of either direction moves there and back again; only its own direction is
 * timed. "ref" copies inline: one thread, like memcpy(). "async" has the device's worker
 * copy while the calling thread unmaps and maps.
 */
#include <errno.h>
#include <stdlib.h>

#include "bench.h"
#include "floor.h"
#include "ours.h"

enum bulk_variant {
	BULK_OUT = 0,
	BULK_BACK = 1,
	BULK_ASYNC = 2, /* or'ed in */
};

struct bulk_state {
	struct bench_env *env;
	struct ours_trip trip;
	struct ref_device *device;
	struct floor_copy *floor;
};

static int bulk_setup(struct bench_env *env, const struct bench_case *bcase, void **state)
{
	struct bulk_state *s = calloc(1, sizeof(*s));
	size_t len = env->bulk_bytes;
	int ret;

	*state = s;
	if (!s)
		return -ENOMEM;
	s->env = env;
	s->trip.back = bcase->variant & BULK_BACK;
	s->trip.len = len;
	ret = ours_warm_bulk(env, len);
	if (ret)
		return ret;
	ret = floor_copy_open(len, &s->floor);
	if (ret)
		return bench_note(env, ret, "buffers for memcpy");
	ret = ours_ctx(env, &s->trip.ctx);
	if (ret)
		return ret;
	ret = ours_device(env, s->trip.ctx, len, !(bcase->variant & BULK_ASYNC), &s->device);
	if (ret)
		return ret;
	s->trip.mem = s->device->mem;
	return ours_memory(env, s->trip.ctx, len, &s->trip.memory);
}

static int bulk_ours(void *state, struct series *out)
{
	struct bulk_state *s = state;

	return ours_trip(s->env, &s->trip, out);
}

static int bulk_theirs(void *state, struct series *out)
{
	struct bulk_state *s = state;
	uint64_t begin = machine_now();

	floor_copy_run(s->floor);
	series_push(out, ours_gib_per_s(s->trip.len, machine_now() - begin));
	return 0;
}

/* Memory that lost its huge pages on the way is slow ever after, on either side. */
static void bulk_remark(const struct bulk_state *s)
{
	int pct = machine_huge_pct(s->trip.memory, s->trip.len);

	if (pct >= 0 && !s->env->note[0])
		bench_note(s->env, 0, "%d %% in huge pages afterwards", pct);
}

static void bulk_teardown(void *state)
{
	struct bulk_state *s = state;

	if (!s)
		return;
	if (s->trip.memory)
		bulk_remark(s);
	floor_copy_close(s->floor);
	ref_destroy(s->device);
	umm_ctx_put(s->trip.ctx);
	free(s);
}

#define BULK_CASE(case_name, text, which)                                                     \
	{                                                                                     \
		.name = (case_name), .summary = (text), .against = "memcpy", .unit = "GiB/s", \
		.kind = BENCH_SPEED, .goal = 0.9, .pairs = 10, .variant = (which),            \
		.setup = bulk_setup, .ours = bulk_ours, .theirs = bulk_theirs,                \
		.teardown = bulk_teardown,                                                    \
	}

const struct bench_case case_bulk[] = {
	BULK_CASE("bulk/ref-out", "migration of huge pages to the reference device", BULK_OUT),
	BULK_CASE("bulk/ref-back", "the same memory brought home", BULK_BACK),
	BULK_CASE("bulk/async-out", "as ref-out, the device copies in a thread of its own",
		  BULK_OUT | BULK_ASYNC),
	BULK_CASE("bulk/async-back", "and home", BULK_BACK | BULK_ASYNC),
	{ 0 },
};
