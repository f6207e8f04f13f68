/* SPDX-License-Identifier: MIT */
/*
 * A fault while another thread migrates the rest of the same range to the device and back, without
 * end, against a fault while nothing else happens. A run counts by the fault that 99 of
 * 100 are no slower than. The two threads are on different CPUs.
 */
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>

#include "bench.h"
#include "ours.h"
#include "touches.h"

struct busy_state {
	struct bench_env *env;
	struct touches touches;
	struct umm_ctx *ctx;
	struct ref_device *device;
	char *memory;
	char *rest; /* behind the pages that are touched */
	atomic_bool stop;
	atomic_uint trips; /* of the rest, out or back, that are complete */
	_Atomic long error;
};

static int busy_setup(struct bench_env *env, const struct bench_case *bcase, void **state)
{
	struct busy_state *s = calloc(1, sizeof(*s));
	size_t len;
	int ret;

	(void)bcase;
	*state = s;
	if (!s)
		return -ENOMEM;
	if (env->machine->ncpus < 2)
		return bench_note(env, BENCH_SKIP, "the process may use one CPU only");
	s->env = env;
	s->touches = (struct touches){ .npages = env->fault_pages,
				       .stride = UMM_PAGE_SIZE,
				       .cpu = machine_first_cpu(env->machine) };
	len = s->touches.npages * UMM_PAGE_SIZE;
	ret = touches_init(&s->touches);
	if (!ret)
		ret = ours_warm_bulk(env, env->bulk_bytes);
	if (!ret)
		ret = ours_ctx(env, &s->ctx);
	if (!ret)
		ret = ours_device(env, s->ctx, len + env->bulk_bytes, true, &s->device);
	if (!ret)
		ret = ours_memory(env, s->ctx, len + env->bulk_bytes, &s->memory);
	s->rest = s->memory + len;
	return ret;
}

static void *migrate_main(void *arg)
{
	struct busy_state *s = arg;
	size_t len = s->env->bulk_bytes;
	long moved = (long)(len / UMM_PAGE_SIZE);
	bool back = false;

	machine_bind(s->env->machine, machine_last_cpu(s->env->machine));
	while (!atomic_load(&s->stop) && moved == (long)(len / UMM_PAGE_SIZE)) {
		moved = back ? umm_migrate_to_system(s->ctx, s->rest, len) :
			       umm_migrate_to_device(s->ctx, s->device->mem, s->rest, len);
		back = !back;
		atomic_fetch_add(&s->trips, 1);
	}
	if (back)
		umm_migrate_to_system(s->ctx, s->rest, len);
	atomic_store(&s->error, moved < 0 ? moved : 0);
	return NULL;
}

static int busy_faults(struct busy_state *s, struct series *out)
{
	struct series took = { 0 };
	size_t npages = s->touches.npages;
	int ret = 0;

	if (umm_migrate_to_device(s->ctx, s->device->mem, s->memory, npages * UMM_PAGE_SIZE) !=
	    (long)npages)
		ret = bench_note(s->env, -EIO, "the pages did not go to the device");
	if (!ret)
		ret = touches_run(s->env, &s->touches, s->memory, &took);
	if (!ret)
		series_push(out, series_quantile(&took, 0.99));
	series_fini(&took);
	return ret;
}

static int busy_ours(void *state, struct series *out)
{
	struct busy_state *s = state;
	pthread_t thread;
	int ret;

	atomic_store(&s->stop, false);
	atomic_store(&s->trips, 0);
	if (pthread_create(&thread, NULL, migrate_main, s))
		return bench_note(s->env, -EAGAIN, "no thread to migrate");
	while (!atomic_load(&s->trips)) /* the first one is under way, or done */
		sched_yield();
	ret = busy_faults(s, out);
	atomic_store(&s->stop, true);
	pthread_join(thread, NULL);
	if (!ret && atomic_load(&s->error))
		ret = bench_note(s->env, (int)atomic_load(&s->error), "migration meanwhile");
	return ret;
}

static int busy_theirs(void *state, struct series *out)
{
	struct busy_state *s = state;

	return busy_faults(s, out);
}

static void busy_teardown(void *state)
{
	struct busy_state *s = state;

	if (!s)
		return;
	ref_destroy(s->device);
	umm_ctx_put(s->ctx);
	touches_fini(&s->touches);
	free(s);
}

const struct bench_case case_busy[] = {
	{
		.name = "fault/migrating",
		.summary = "CPU read fault, 99 %, while the same range migrates elsewhere",
		.against = "nothing migrates",
		.unit = "us",
		.kind = BENCH_COST,
		.goal = 3,
		.pairs = 8,
		.setup = busy_setup,
		.ours = busy_ours,
		.theirs = busy_theirs,
		.teardown = busy_teardown,
	},
	{ 0 },
};
