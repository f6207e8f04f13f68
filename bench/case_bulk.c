/* SPDX-License-Identifier: MIT */
/*
 * Moving much memory at once to the reference device, and back, against memcpy().
 *
 * A run of either direction moves there and back again; only its own direction is
 * timed, and what came back is checked, a word a page. "ref" copies inline: one thread, like
 * memcpy(). "async" has the device's worker copy while the calling thread unmaps and maps.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "bench.h"
#include "floor.h"
#include "ref_device.h"
#include "umm.h"

enum bulk_variant {
	BULK_OUT = 0,
	BULK_BACK = 1,
	BULK_ASYNC = 2, /* or'ed in */
};

struct bulk_state {
	struct bench_env *env;
	bool back;
	size_t len;
	struct umm_ctx *ctx;
	struct ref_device *device;
	char *memory;
	struct floor_copy *floor;
};

static int bulk_open_umm(struct bulk_state *s, bool inline_copy)
{
	struct ref_options options = { .type = UMM_DEVMEM_PRIVATE,
				       .nframes = (uint32_t)(s->len / UMM_PAGE_SIZE),
				       .inline_copy = inline_copy,
				       .keep_freed = true };
	void *memory;
	size_t i;
	int ret;

	ret = umm_ctx_create(NULL, &s->ctx);
	if (ret)
		return bench_fail(s->env, ret, "umm_ctx_create");
	ret = ref_create(s->ctx, &options, &s->device);
	if (ret)
		return bench_fail(s->env, ret, "reference device");
	ret = umm_alloc(s->ctx, s->len, 0, &memory);
	if (ret)
		return bench_fail(s->env, ret, "umm_alloc");
	s->memory = memory;
	for (i = 0; i < s->len; i += UMM_PAGE_SIZE)
		memcpy(s->memory + i, &i, sizeof(i));
	return 0;
}

static int bulk_setup(struct bench_env *env, const struct bench_case *bcase, void **state)
{
	struct bulk_state *s = calloc(1, sizeof(*s));
	size_t needed = 6 * env->bulk_bytes;
	int ret;

	*state = s;
	if (!s)
		return -ENOMEM;
	s->env = env;
	s->back = bcase->variant & BULK_BACK;
	s->len = env->bulk_bytes;
	if (needed / BENCH_MIB > env->machine->available_mib)
		return bench_fail(env, BENCH_SKIP,
				  "needs %zu MiB of memory, %lu are available: try --size",
				  needed / BENCH_MIB, env->machine->available_mib);
	machine_warm(needed);
	ret = floor_copy_open(s->len, &s->floor);
	if (ret)
		return bench_fail(env, ret, "buffers for memcpy");
	return bulk_open_umm(s, !(bcase->variant & BULK_ASYNC));
}

static int bulk_check(struct bulk_state *s)
{
	size_t i, word, wrong = 0;

	for (i = 0; i < s->len; i += UMM_PAGE_SIZE) {
		memcpy(&word, s->memory + i, sizeof(word));
		wrong += word != i;
	}
	if (wrong)
		return bench_fail(s->env, -EIO, "%zu pages came back with wrong data", wrong);
	return 0;
}

static double gib_per_s(size_t len, uint64_t ns)
{
	return (double)len / (1024.0 * 1024 * 1024) / ((double)ns / 1e9);
}

static int bulk_ours(void *state, struct series *out)
{
	struct bulk_state *s = state;
	long npages = (long)(s->len / UMM_PAGE_SIZE);
	uint64_t begin, between, end;
	long moved, came;

	begin = machine_now();
	moved = umm_migrate_to_device(s->ctx, s->device->mem, s->memory, s->len);
	between = machine_now();
	came = umm_migrate_to_system(s->ctx, s->memory, s->len);
	end = machine_now();
	if (moved != npages || came != npages)
		return bench_fail(s->env,
				  moved < 0 ? (int)moved :
				  came < 0  ? (int)came :
					      -EIO,
				  "of %ld pages %ld went out and %ld came back", npages, moved,
				  came);
	series_push(out, gib_per_s(s->len, s->back ? end - between : between - begin));
	return bulk_check(s);
}

static int bulk_theirs(void *state, struct series *out)
{
	struct bulk_state *s = state;
	uint64_t begin = machine_now();

	floor_copy_run(s->floor);
	series_push(out, gib_per_s(s->len, machine_now() - begin));
	return 0;
}

static void bulk_teardown(void *state)
{
	struct bulk_state *s = state;

	if (!s)
		return;
	floor_copy_close(s->floor);
	ref_destroy(s->device);
	umm_ctx_put(s->ctx);
	free(s);
}

#define BULK_CASE(case_name, text, limit, which)                                              \
	{                                                                                     \
		.name = (case_name), .summary = (text), .against = "memcpy", .unit = "GiB/s", \
		.kind = BENCH_SPEED, .goal = (limit), .pairs = 10, .variant = (which),        \
		.setup = bulk_setup, .ours = bulk_ours, .theirs = bulk_theirs,                \
		.teardown = bulk_teardown,                                                    \
	}

const struct bench_case case_bulk[] = {
	BULK_CASE("bulk/ref-out", "migration of huge pages to the reference device", 0.7, BULK_OUT),
	BULK_CASE("bulk/ref-back", "the same memory brought home", 0.7, BULK_BACK),
	BULK_CASE("bulk/async-out", "the same as ref-out, the device copies in a thread of its own",
		  0.7, BULK_OUT | BULK_ASYNC),
	BULK_CASE("bulk/async-back", "and home", 0.7, BULK_BACK | BULK_ASYNC),
	{ 0 },
};
