/* SPDX-License-Identifier: MIT */
/*
 * Several threads fault at a time, each in memory of its own that lives on a device: how many
 * faults all of them have in a second.
 *
 * Thread i is bound to the i-th CPU, and after the last CPU comes the first again. libumm has one
 * context, as a program would. The competitor has as many servers as there are threads, each on
 * its thread's CPU with a userfaultfd of its own: with one for all of them, the kernel wakes
 * every server that sleeps in read() for each fault. The servers run at normal or at high
 * priority, whichever is faster here.
 */
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/mman.h>

#include "bench.h"
#include "floor.h"
#include "ours.h"
#include "touches.h"

#define MAX_THREADS 8

struct threads_state;

struct faulter {
	struct threads_state *state;
	pthread_t thread;
	unsigned number;
	char *memory;
	uint64_t begin, end;
	size_t wrong;
};

struct threads_state {
	struct bench_env *env;
	unsigned nthreads;
	struct touches touches; /* of each */
	pthread_barrier_t start;
	struct faulter faulters[MAX_THREADS];
	struct umm_ctx *ctx;
	struct ref_device *device;
	char *memory;
	struct floor_uffd *floors[MAX_THREADS];
};

static size_t threads_bytes(const struct threads_state *s)
{
	return s->touches.npages * UMM_PAGE_SIZE;
}

static void *faulter_main(void *arg)
{
	struct faulter *f = arg;
	struct threads_state *s = f->state;

	machine_bind(s->env->machine, machine_nth_cpu(s->env->machine, f->number));
	pthread_barrier_wait(&s->start);
	f->begin = machine_now();
	f->wrong = touches_walk(&s->touches, f->memory);
	f->end = machine_now();
	return NULL;
}

/* Thousands of faults a second, from the first thread's beginning to the last one's end. */
static int threads_run(struct threads_state *s, struct series *out)
{
	uint64_t begin = UINT64_MAX, end = 0;
	size_t wrong = 0;

	for (unsigned i = 0; i < s->nthreads; i++) {
		struct faulter *f = &s->faulters[i];

		f->state = s;
		f->number = i;
		if (pthread_create(&f->thread, NULL, faulter_main, f))
			abort(); /* those that were started wait for it */
	}
	for (unsigned i = 0; i < s->nthreads; i++) {
		struct faulter *f = &s->faulters[i];

		pthread_join(f->thread, NULL);
		begin = f->begin < begin ? f->begin : begin;
		end = f->end > end ? f->end : end;
		wrong += f->wrong;
	}
	if (wrong)
		return bench_note(s->env, -EIO, "%zu pages came back with wrong data", wrong);
	series_push(out, (double)(s->nthreads * s->touches.npages) * 1e6 / (double)(end - begin));
	return 0;
}

static void floors_close(struct floor_uffd **floors)
{
	for (unsigned i = 0; i < MAX_THREADS; i++) {
		floor_uffd_close(floors[i]);
		floors[i] = NULL;
	}
}

static int floors_run(struct threads_state *s, struct floor_uffd **floors, struct series *out)
{
	for (unsigned i = 0; i < s->nthreads; i++) {
		int ret = floor_uffd_reset(floors[i]);

		if (ret)
			return bench_note(s->env, ret, "the bare userfaultfd program");
		s->faulters[i].memory = floor_uffd_memory(floors[i]);
	}
	return threads_run(s, out);
}

/* As many servers as there are threads, and how fast they are. */
static int floors_open(struct threads_state *s, bool raise, struct floor_uffd **floors,
		       double *speed)
{
	struct floor_uffd_options options = { .npages = s->touches.npages, .raise = raise };
	struct series speeds = { 0 };
	int ret = 0;

	for (unsigned i = 0; i < s->nthreads && !ret; i++) {
		options.cpu = machine_nth_cpu(s->env->machine, i);
		ret = floor_uffd_open(&options, &floors[i]);
	}
	for (unsigned i = 0; i < 2 && !ret; i++)
		ret = floors_run(s, floors, &speeds);
	*speed = series_quantile(&speeds, 1);
	series_fini(&speeds);
	return ret;
}

static int floors_choose(struct threads_state *s)
{
	struct floor_uffd *raised[MAX_THREADS] = { NULL };
	double normal_speed, raised_speed;
	int ret = floors_open(s, false, s->floors, &normal_speed);

	if (ret)
		return ret;
	ret = floors_open(s, true, raised, &raised_speed);
	if (!ret && raised_speed > normal_speed) {
		floors_close(s->floors);
		for (unsigned i = 0; i < s->nthreads; i++)
			s->floors[i] = raised[i];
	} else {
		floors_close(raised);
	}
	return ret;
}

static int threads_setup(struct bench_env *env, const struct bench_case *bcase, void **state)
{
	struct threads_state *s = calloc(1, sizeof(*s));
	size_t len;
	int ret;

	*state = s;
	if (!s)
		return -ENOMEM;
	s->env = env;
	s->nthreads = (unsigned)bcase->variant;
	s->touches = (struct touches){ .npages = env->fault_pages, .stride = UMM_PAGE_SIZE };
	pthread_barrier_init(&s->start, NULL, s->nthreads);
	len = s->nthreads * threads_bytes(s);
	machine_warm(8 * len, MADV_NOHUGEPAGE);
	ret = touches_init(&s->touches);
	if (ret)
		return ret;
	ret = floors_choose(s);
	if (ret == -EOPNOTSUPP || ret == -EPERM)
		return bench_note(env, BENCH_SKIP, "the competitor needs UFFDIO_MOVE (Linux 6.8)");
	if (ret)
		return ret;
	ret = ours_ctx(env, &s->ctx);
	if (ret)
		return ret;
	ret = ours_device(env, s->ctx, len, true, &s->device);
	if (ret)
		return ret;
	ret = ours_memory(env, s->ctx, len, &s->memory);
	for (unsigned i = 0; i < s->nthreads && !ret; i++)
		touches_stamp(&s->touches, s->memory + i * threads_bytes(s));
	return ret;
}

static int threads_ours(void *state, struct series *out)
{
	struct threads_state *s = state;
	size_t npages = s->nthreads * s->touches.npages;
	long moved =
		umm_migrate_to_device(s->ctx, s->device->mem, s->memory, npages * UMM_PAGE_SIZE);

	if (moved != (long)npages)
		return bench_note(s->env, moved < 0 ? (int)moved : -EIO,
				  "%ld of %zu pages went to the device", moved, npages);
	for (unsigned i = 0; i < s->nthreads; i++)
		s->faulters[i].memory = s->memory + i * threads_bytes(s);
	return threads_run(s, out);
}

static int threads_theirs(void *state, struct series *out)
{
	struct threads_state *s = state;

	return floors_run(s, s->floors, out);
}

static void threads_teardown(void *state)
{
	struct threads_state *s = state;

	if (!s)
		return;
	floors_close(s->floors);
	ref_destroy(s->device);
	umm_ctx_put(s->ctx);
	pthread_barrier_destroy(&s->start);
	touches_fini(&s->touches);
	free(s);
}

#define THREADS_CASE(case_name, text, number)                                                      \
	{                                                                                          \
		.name = (case_name), .summary = (text), .against = "bare, as many servers",        \
		.unit = "k/s", .kind = BENCH_SPEED, .goal = 0.85, .pairs = 8, .variant = (number), \
		.setup = threads_setup, .ours = threads_ours, .theirs = threads_theirs,            \
		.teardown = threads_teardown,                                                      \
	}

const struct bench_case case_threads[] = {
	THREADS_CASE("threads/1", "one thread faults: thousands of faults a second", 1),
	THREADS_CASE("threads/2", "two threads", 2),
	THREADS_CASE("threads/4", "four threads", 4),
	THREADS_CASE("threads/8", "eight threads", 8),
	{ 0 },
};
