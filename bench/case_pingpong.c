/* SPDX-License-Identifier: MIT */
/*
 * A CPU and a device that insists on migrating use the same pages by turns: the device stores a
 * number in one, the CPU reads it, and so on with the next. A run's figure is the turns in a fixed
 * time, with the default damping and, by a context of its own, without any. A second case is what
 * another thread gets meanwhile, which sends pages of its own to the device and back: damping must
 * not slow it. There the turns come at a steady pace, as many on either side: else those that are
 * damped, which are many more, would take a CPU from the other thread, and say nothing of damping.
 */
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "bench.h"
#include "ours.h"

enum pingpong_variant {
	PINGPONG_SHARED,
	PINGPONG_OTHERS,
};

#define SHARED_PAGES 4
#define OTHER_PAGES  512 /* each is long back before it is wanted again: it does not thrash */
#define RUN_NS	     UINT64_C(300000000)
#define OTHERS_NS    UINT64_C(100000000)
#define QUICK_NS     UINT64_C(30000000)
#define PACE_NS	     400000 /* between turns that are paced: an undamped one takes less */

struct pingpong_side {
	struct umm_ctx *ctx;
	struct ref_device *device;
	char *shared, *others;
};

struct pingpong_state {
	struct bench_env *env;
	bool others;
	struct pingpong_side ours, theirs;
	/* Of a run. */
	const struct pingpong_side *side;
	atomic_bool stop;
	_Atomic int error;
	_Atomic uint64_t turns, by_others;
};

static int side_open(struct pingpong_state *s, enum umm_thrash thrash, struct pingpong_side *side)
{
	struct umm_ctx_options options = { .size = sizeof(options), .thrash = thrash };
	size_t len = (SHARED_PAGES + OTHER_PAGES) * UMM_PAGE_SIZE;
	void *memory;
	int ret = ours_ctx_with(s->env, &options, &side->ctx);

	if (!ret)
		ret = ours_device(s->env, side->ctx, 2 * len, true, &side->device);
	if (ret)
		return ret;
	ret = umm_alloc(side->ctx, len, UMM_ALLOC_SMALL_PAGES, &memory);
	if (ret)
		return bench_note(s->env, ret, "umm_alloc: %s", umm_strerror(ret));
	memset(memory, 0, len);
	side->shared = memory;
	side->others = side->shared + SHARED_PAGES * UMM_PAGE_SIZE;
	return 0;
}

static int pingpong_setup(struct bench_env *env, const struct bench_case *bcase, void **state)
{
	struct pingpong_state *s = calloc(1, sizeof(*s));
	int ret;

	*state = s;
	if (!s)
		return -ENOMEM;
	s->env = env;
	s->others = bcase->variant == PINGPONG_OTHERS;
	ret = side_open(s, UMM_THRASH_DEFAULT, &s->ours);
	return ret ? ret : side_open(s, UMM_THRASH_OFF, &s->theirs);
}

/* Until it is that time, and then on to the next one. */
static void pace(struct timespec *next)
{
	clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, next, NULL);
	next->tv_nsec += PACE_NS;
	if (next->tv_nsec >= 1000000000) {
		next->tv_nsec -= 1000000000;
		next->tv_sec++;
	}
}

static void *turns_main(void *arg)
{
	struct pingpong_state *s = arg;
	uint64_t number, read;
	struct timespec next;

	clock_gettime(CLOCK_MONOTONIC, &next);
	for (number = 1; !atomic_load(&s->stop); number++) {
		char *at = s->side->shared + number % SHARED_PAGES * UMM_PAGE_SIZE;

		if (s->others)
			pace(&next);
		if (ref_write(s->side->device, (uintptr_t)at, &number, sizeof(number)))
			atomic_store(&s->error, -EIO);
		memcpy(&read, at, sizeof(read));
		if (read != number)
			atomic_store(&s->error, -EIO);
		atomic_fetch_add_explicit(&s->turns, 1, memory_order_relaxed);
	}
	return NULL;
}

/* One page of the other range is used by the device, or by the CPU. */
static void others_use(struct pingpong_state *s, unsigned i, bool device, char byte)
{
	char *at = s->side->others + i * UMM_PAGE_SIZE;

	if (device ? ref_write(s->side->device, (uintptr_t)at, &byte, 1) != 0 :
		     *(volatile char *)at != byte)
		atomic_store(&s->error, -EIO);
	atomic_fetch_add_explicit(&s->by_others, 1, memory_order_relaxed);
}

/* All to the device, and all back: nobody else wants them. */
static void *others_main(void *arg)
{
	struct pingpong_state *s = arg;

	for (char byte = 1; !atomic_load(&s->stop); byte ^= 3) {
		for (unsigned i = 0; i < OTHER_PAGES && !atomic_load(&s->stop); i++)
			others_use(s, i, true, byte);
		for (unsigned i = 0; i < OTHER_PAGES && !atomic_load(&s->stop); i++)
			others_use(s, i, false, byte);
	}
	return NULL;
}

static void count_reset(struct pingpong_state *s)
{
	atomic_store(&s->stop, false);
	atomic_store(&s->error, 0);
	atomic_store(&s->turns, 0);
	atomic_store(&s->by_others, 0);
}

static int side_run(struct pingpong_state *s, const struct pingpong_side *side, struct series *out)
{
	void *(*const mains[])(void *) = { turns_main, others_main };
	uint64_t run_ns = s->env->quick ? QUICK_NS : s->others ? OTHERS_NS : RUN_NS;
	struct timespec wait = { 0, (long)run_ns };
	unsigned wanted = s->others ? 2 : 1, n = 0;
	pthread_t thread[2];
	uint64_t done;

	s->side = side;
	count_reset(s);
	while (n < wanted && !pthread_create(&thread[n], NULL, mains[n], s))
		n++;
	if (n == wanted)
		nanosleep(&wait, NULL);
	atomic_store(&s->stop, true);
	for (unsigned i = 0; i < n; i++)
		pthread_join(thread[i], NULL);
	if (n < wanted)
		return bench_note(s->env, -EAGAIN, "no thread to use the pages");
	if (atomic_load(&s->error))
		return bench_note(s->env, -EIO, "the device and the CPU see different data");
	done = s->others ? s->by_others : s->turns;
	series_push(out, (double)done / ((double)run_ns / 1e6));
	return 0;
}

static int pingpong_ours(void *state, struct series *out)
{
	struct pingpong_state *s = state;

	return side_run(s, &s->ours, out);
}

static int pingpong_theirs(void *state, struct series *out)
{
	struct pingpong_state *s = state;

	return side_run(s, &s->theirs, out);
}

static void pingpong_teardown(void *state)
{
	struct pingpong_state *s = state;

	if (!s)
		return;
	ref_destroy(s->ours.device);
	umm_ctx_put(s->ours.ctx);
	ref_destroy(s->theirs.device);
	umm_ctx_put(s->theirs.ctx);
	free(s);
}

const struct bench_case case_pingpong[] = {
	{
		.name = "pingpong/shared",
		.summary = "turns of a CPU and a device on the same pages, damped",
		.against = "not damped",
		.unit = "1/ms",
		.kind = BENCH_SPEED,
		.goal = 5,
		.pairs = 8,
		.variant = PINGPONG_SHARED,
		.setup = pingpong_setup,
		.ours = pingpong_ours,
		.theirs = pingpong_theirs,
		.teardown = pingpong_teardown,
	},
	{
		.name = "pingpong/others",
		.summary = "uses of another range, by the device and the CPU, meanwhile",
		.against = "not damped",
		.unit = "1/ms",
		.kind = BENCH_SPEED,
		.goal = 0.95,
		.pairs = 40,
		.variant = PINGPONG_OTHERS,
		.setup = pingpong_setup,
		.ours = pingpong_ours,
		.theirs = pingpong_theirs,
		.teardown = pingpong_teardown,
	},
	{ 0 },
};
