/* SPDX-License-Identifier: MIT */
/*
 * Moving much memory at once to an OpenCL device, and back, against what a program would
 * write by hand. Both sides use the same device and context. As in the other
 * bulk cases a run goes there and back again and times one direction.
 */
#include "bench.h"

#ifdef BENCH_OPENCL

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "floor_opencl.h"

struct opencl_state {
	struct bench_env *env;
	bool back;
	size_t len;
	struct umm_ctx *ctx;
	struct umm_opencl *device;
	char *memory;
	struct floor_opencl *floor;
};

static int opencl_open_device(struct opencl_state *s)
{
	struct umm_opencl_options options = { .size = sizeof(options),
					      .device_name = s->env->device,
					      .device_bytes = s->len };
	char name[128] = "";
	int ret;

	ret = umm_opencl_create(s->ctx, &options, &s->device);
	if (ret == -ENODEV)
		return bench_fail(s->env, BENCH_SKIP, "%.190s", umm_opencl_advice());
	if (ret)
		return bench_fail(s->env, ret, "umm_opencl_create with %zu MiB",
				  s->len / BENCH_MIB);
	clGetDeviceInfo(umm_opencl_cl_device(s->device), CL_DEVICE_NAME, sizeof(name) - 1, name,
			NULL);
	bench_fail(s->env, 0, "on %.100s", name);
	return 0;
}

static int opencl_open_umm(struct opencl_state *s)
{
	void *memory;
	size_t i;
	int ret;

	ret = umm_ctx_create(NULL, &s->ctx);
	if (ret)
		return bench_fail(s->env, ret, "umm_ctx_create");
	ret = opencl_open_device(s);
	if (ret)
		return ret;
	ret = umm_alloc(s->ctx, s->len, 0, &memory);
	if (ret)
		return bench_fail(s->env, ret, "umm_alloc");
	s->memory = memory;
	for (i = 0; i < s->len; i += UMM_PAGE_SIZE)
		memcpy(s->memory + i, &i, sizeof(i));
	return 0;
}

static int opencl_setup(struct bench_env *env, const struct bench_case *bcase, void **state)
{
	struct opencl_state *s = calloc(1, sizeof(*s));
	size_t needed = 6 * env->bulk_bytes;
	int ret;

	*state = s;
	if (!s)
		return -ENOMEM;
	s->env = env;
	s->back = bcase->variant != 0;
	s->len = env->bulk_bytes;
	if (needed / BENCH_MIB > env->machine->available_mib)
		return bench_fail(env, BENCH_SKIP,
				  "needs %zu MiB of memory, %lu are available: try --size",
				  needed / BENCH_MIB, env->machine->available_mib);
	machine_warm(needed);
	ret = opencl_open_umm(s);
	if (ret)
		return ret;
	ret = floor_opencl_open(umm_opencl_cl_context(s->device), umm_opencl_cl_device(s->device),
				s->len, &s->floor);
	return ret ? bench_fail(env, ret, "buffers of the device for the competitor") : 0;
}

static int opencl_check(struct opencl_state *s)
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

static int opencl_ours(void *state, struct series *out)
{
	struct opencl_state *s = state;
	struct umm_devmem *mem = umm_opencl_devmem(s->device);
	long npages = (long)(s->len / UMM_PAGE_SIZE);
	uint64_t begin, between, end;
	long moved, came;

	begin = machine_now();
	moved = umm_migrate_to_device(s->ctx, mem, s->memory, s->len);
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
	return opencl_check(s);
}

static int opencl_theirs(void *state, struct series *out)
{
	struct opencl_state *s = state;
	uint64_t begin = machine_now();
	int ret;

	ret = floor_opencl_run(s->floor, s->back);
	series_push(out, gib_per_s(s->len, machine_now() - begin));
	return ret ? bench_fail(s->env, ret, "the bare OpenCL transfer") : 0;
}

static void opencl_teardown(void *state)
{
	struct opencl_state *s = state;

	if (!s)
		return;
	floor_opencl_close(s->floor);
	umm_opencl_destroy(s->device);
	umm_ctx_put(s->ctx);
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
