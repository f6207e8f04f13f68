/* SPDX-License-Identifier: MIT */
/*
 * Bandwidth of one migration by its size, 4 KiB to 1 GiB, to the reference device and home, beside
 * memcpy() of the same size between two buffers: the limit in the picture. Small sizes are moved
 * many times in a run, always the same memory, so that both sides have it in the caches. There is
 * no goal: what a call costs, and not the bytes, is what small sizes show.
 */
#include <errno.h>
#include <stdlib.h>

#include "bench.h"
#include "floor.h"
#include "ours.h"

#define SIZE_BACK  1
#define SIZE_SHIFT 1 /* of KiB, in the variant */
#define RUN_BYTES  (16 * BENCH_MIB)
#define MAX_TRIPS  256

struct size_state {
	struct bench_env *env;
	struct ours_trip trip;
	struct ref_device *device;
	struct floor_copy *floor;
	unsigned ntrips; /* of a run */
};

static int size_setup(struct bench_env *env, const struct bench_case *bcase, void **state)
{
	struct size_state *s = calloc(1, sizeof(*s));
	size_t len = (size_t)(bcase->variant >> SIZE_SHIFT) * 1024;
	int ret;

	*state = s;
	if (!s)
		return -ENOMEM;
	if (len > env->bulk_bytes)
		return bench_note(env, BENCH_SKIP, "more than --size");
	s->env = env;
	s->trip.back = bcase->variant & SIZE_BACK;
	s->trip.len = len;
	s->ntrips = len < RUN_BYTES ? (unsigned)(RUN_BYTES / len) : 1;
	if (s->ntrips > MAX_TRIPS)
		s->ntrips = MAX_TRIPS;
	ret = ours_warm_bulk(env, len);
	if (!ret && floor_copy_open(len, &s->floor))
		ret = bench_note(env, -ENOMEM, "buffers for memcpy");
	if (!ret)
		ret = ours_ctx(env, &s->trip.ctx);
	if (!ret)
		ret = ours_device(env, s->trip.ctx, len, true, &s->device);
	if (ret)
		return ret;
	s->trip.mem = s->device->mem;
	return ours_memory(env, s->trip.ctx, len, &s->trip.memory);
}

static int size_ours(void *state, struct series *out)
{
	struct size_state *s = state;
	int ret = 0;

	for (unsigned i = 0; i < s->ntrips && !ret; i++)
		ret = ours_trip(s->env, &s->trip, out);
	return ret;
}

static int size_theirs(void *state, struct series *out)
{
	struct size_state *s = state;

	for (unsigned i = 0; i < s->ntrips; i++) {
		uint64_t begin = machine_now();

		floor_copy_run(s->floor);
		series_push(out, ours_gib_per_s(s->trip.len, machine_now() - begin));
	}
	return 0;
}

static void size_teardown(void *state)
{
	struct size_state *s = state;

	if (!s)
		return;
	floor_copy_close(s->floor);
	ref_destroy(s->device);
	umm_ctx_put(s->trip.ctx);
	free(s);
}

#define SIZE_CASE(kib, suffix, text, back)                                                       \
	{                                                                                        \
		.name = "size/" #kib "k-" suffix, .summary = "migration of " #kib " KiB " text,  \
		.against = "memcpy", .unit = "GiB/s", .kind = BENCH_SPEED, .pairs = 3,           \
		.variant = (kib) << SIZE_SHIFT | (back), .setup = size_setup, .ours = size_ours, \
		.theirs = size_theirs, .teardown = size_teardown,                                \
	}
#define SIZE_CASES(kib)                                      \
	SIZE_CASE(kib, "out", "to the reference device", 0), \
		SIZE_CASE(kib, "back", "home", SIZE_BACK)

const struct bench_case case_size[] = {
	SIZE_CASES(4),
	SIZE_CASES(16),
	SIZE_CASES(64),
	SIZE_CASES(256),
	SIZE_CASES(1024),
	SIZE_CASES(2048),
	SIZE_CASES(8192),
	SIZE_CASES(32768),
	SIZE_CASES(262144),
	SIZE_CASES(1048576),
	{ 0 },
};
