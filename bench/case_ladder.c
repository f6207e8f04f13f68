/* SPDX-License-Identifier: MIT */
/*
 * The lower rungs of the kernel's features, as older kernels have them: libumm without a feature
 * against libumm with all of them, in two contexts that do the same. There is no goal.
 *
 * The kernel is asked what is mapped and what is there when memory first goes to a device, so the
 * rungs that concern this are measured with fresh memory.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "bench.h"
#include "ours.h"
#include "touches.h"

enum ladder_variant {
	LADDER_FAULT,
	LADDER_OUT,
	LADDER_BACK,
	LADDER_FIRST,
	LADDER_NO_SCAN = 4, /* or'ed in: what the lower one lacks; neither: UFFDIO_MOVE */
	LADDER_NO_QUERY = 8,
	LADDER_LACKS = LADDER_NO_SCAN | LADDER_NO_QUERY,
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
	uint64_t *entries;
};

static uint64_t rung_lacks(int variant)
{
	if (variant & LADDER_NO_SCAN)
		return UMM_KERNEL_PAGEMAP_SCAN;
	return variant & LADDER_NO_QUERY ? UMM_KERNEL_PROCMAP_QUERY : UMM_KERNEL_MOVE;
}

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
	s->variant = bcase->variant & ~LADDER_LACKS;
	s->touches = (struct touches){ .npages = env->fault_pages,
				       .stride = UMM_PAGE_SIZE,
				       .cpu = machine_first_cpu(env->machine) };
	s->entries = calloc(s->touches.npages, sizeof(*s->entries));
	ret = s->entries ? touches_init(&s->touches) : -ENOMEM;
	if (!ret)
		ret = rung_open(s, &s->lower, rung_lacks(bcase->variant));
	return ret ? ret : rung_open(s, &s->top, 0);
}

/* A device asks for memory that none has asked for: it is registered, and looked at. */
static int rung_first(struct ladder_state *s, struct rung *rung, struct series *out)
{
	struct ours_trip *trip = &rung->trip;
	struct umm_range range = { .size = sizeof(range),
				   .notifier = umm_mirror_notifier(rung->device->mirror),
				   .entries = s->entries };
	long npages = (long)s->touches.npages, valid;
	uint64_t begin, end;
	void *memory;
	int ret = umm_alloc(trip->ctx, trip->len, UMM_ALLOC_SMALL_PAGES, &memory);

	if (ret)
		return bench_note(s->env, ret, "umm_alloc");
	memset(memory, 1, trip->len);
	range.start = (uintptr_t)memory;
	range.end = range.start + trip->len;
	begin = machine_now();
	range.seq = umm_notifier_read_begin(range.notifier);
	valid = umm_range_snapshot(&range);
	end = machine_now();
	series_push(out, (double)(end - begin) / 1000);
	umm_free(trip->ctx, memory);
	return valid == npages ? 0 :
				 bench_note(s->env, -EIO, "%ld of %ld are there", valid, npages);
}

static int rung_run(struct ladder_state *s, struct rung *rung, struct series *out)
{
	struct ours_trip *trip = &rung->trip;

	if (s->variant == LADDER_FIRST)
		return rung_first(s, rung, out);
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
	free(s->entries);
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
	LADDER_CASE("ladder/no-scan-first", "first snapshot of memory without PAGEMAP_SCAN", "us",
		    BENCH_COST, LADDER_FIRST | LADDER_NO_SCAN),
	LADDER_CASE("ladder/no-query-first", "the same without PROCMAP_QUERY", "us", BENCH_COST,
		    LADDER_FIRST | LADDER_NO_QUERY),
	{ 0 },
};
