/* SPDX-License-Identifier: MIT */
/*
 * Moving much memory at once to an OpenCL device, and back, against what a program would
 * write by hand. Both sides use the same device and context. As in the other
 * bulk cases a run goes there and back again and times one direction.
 */
#include "bench.h"

#ifdef BENCH_OPENCL

#include <errno.h>
#include <stdlib.h>

#include "floor_opencl.h"
#include "ours.h"
#include "ours_opencl.h"

struct opencl_state {
	struct bench_env *env;
	struct ours_trip trip;
	struct umm_opencl *device;
	struct floor_opencl *floor;
};

static int opencl_open_device(struct opencl_state *s)
{
	struct umm_opencl_options options = { .device_bytes = s->trip.len };

	return ours_opencl(s->env, s->trip.ctx, &options, &s->device);
}

static int opencl_setup(struct bench_env *env, const struct bench_case *bcase, void **state)
{
	struct opencl_state *s = calloc(1, sizeof(*s));
	int ret;

	*state = s;
	if (!s)
		return -ENOMEM;
	s->env = env;
	s->trip.back = bcase->variant != 0;
	s->trip.len = env->bulk_bytes;
	ret = ours_warm_bulk(env, s->trip.len);
	if (ret)
		return ret;
	ret = ours_ctx(env, &s->trip.ctx);
	if (ret)
		return ret;
	ret = opencl_open_device(s);
	if (ret)
		return ret;
	s->trip.mem = umm_opencl_devmem(s->device);
	ret = ours_memory(env, s->trip.ctx, s->trip.len, &s->trip.memory);
	if (ret)
		return ret;
	ret = floor_opencl_open(umm_opencl_cl_context(s->device), umm_opencl_cl_device(s->device),
				s->trip.len, &s->floor);
	return ret ? bench_note(env, ret, "buffers of the device for the competitor") : 0;
}

static int opencl_ours(void *state, struct series *out)
{
	struct opencl_state *s = state;

	return ours_trip(s->env, &s->trip, out);
}

static int opencl_theirs(void *state, struct series *out)
{
	struct opencl_state *s = state;
	uint64_t begin = machine_now();
	int ret;

	ret = floor_opencl_run(s->floor, s->trip.back);
	series_push(out, ours_gib_per_s(s->trip.len, machine_now() - begin));
	return ret ? bench_note(s->env, ret, "the bare OpenCL transfer") : 0;
}

static void opencl_teardown(void *state)
{
	struct opencl_state *s = state;

	if (!s)
		return;
	floor_opencl_close(s->floor);
	umm_opencl_destroy(s->device);
	umm_ctx_put(s->trip.ctx);
	free(s);
}

#endif

const struct bench_case case_opencl[] = {
#ifdef BENCH_OPENCL
	{
		.name = "bulk/opencl-out",
		.summary = "migration of huge pages to an OpenCL device",
		.against = "WriteBuffer of 2 MiB",
		.unit = "GiB/s",
		.kind = BENCH_SPEED,
		.goal = 0.9,
		.pairs = 10,
		.variant = 0,
		.setup = opencl_setup,
		.ours = opencl_ours,
		.theirs = opencl_theirs,
		.teardown = opencl_teardown,
	},
	{
		.name = "bulk/opencl-back",
		.summary = "the same memory brought home",
		.against = "ReadBuffer of 2 MiB",
		.unit = "GiB/s",
		.kind = BENCH_SPEED,
		.goal = 0.9,
		.pairs = 10,
		.variant = 1,
		.setup = opencl_setup,
		.ours = opencl_ours,
		.theirs = opencl_theirs,
		.teardown = opencl_teardown,
	},
#endif
	{ 0 },
};
