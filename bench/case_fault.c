/* SPDX-License-Identifier: MIT */
/*
 * A CPU reads pages that live on a device, one fault each, in random order.
 *
 * libumm's side is what a program gets by default: umm_alloc(), one migration out, then
 * loads. The device copies inline, like the competitor's server. What is timed is
 * the one load that faults; what it read is checked.
 *
 * The faulting thread is bound to a CPU, or to none (fault/unpinned), for both sides
 * alike; libumm's own threads are where libumm puts them. The competitor's pinned server
 * runs at normal or at high priority, whichever gives the shorter faults on this
 * machine; the unpinned one is left to the scheduler altogether, as paging libraries leave theirs.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "bench.h"
#include "floor.h"
#include "ours.h"

enum fault_variant {
	FAULT_FIRST_CPU,
	FAULT_LAST_CPU,
	FAULT_UNPINNED,
};

struct fault_state {
	struct bench_env *env;
	size_t npages;
	int cpu; /* of the faulting thread; -1: any */
	uint32_t *order;
	uint32_t *took_ns;
	struct umm_ctx *ctx;
	struct ref_device *device;
	char *memory;
	struct floor_uffd *floor;
};

/* A shuffle that is the same in every run of the program. */
static uint32_t *make_order(size_t npages)
{
	uint32_t *order = malloc(npages * sizeof(*order));
	uint64_t x = UINT64_C(0x9e3779b97f4a7c15);
	size_t i;

	if (!order)
		return NULL;
	for (i = 0; i < npages; i++) {
		size_t j;

		x ^= x << 13;
		x ^= x >> 7;
		x ^= x << 17;
		j = x % (i + 1);
		order[i] = order[j];
		order[j] = (uint32_t)i;
	}
	return order;
}

/* The measuring loop, the same for both sides. */
static int touch_all(struct fault_state *s, const char *memory, struct series *out)
{
	size_t i, wrong = 0;
	int ret;

	ret = machine_bind(s->env->machine, s->cpu);
	if (ret)
		return bench_note(s->env, ret, "binding to CPU %d", s->cpu);
	for (i = 0; i < s->npages; i++) {
		size_t page = s->order[i];
		uint64_t begin = machine_now();
		size_t word = *(const volatile size_t *)(memory + page * UMM_PAGE_SIZE);

		s->took_ns[i] = (uint32_t)(machine_now() - begin);
		wrong += word != page * UMM_PAGE_SIZE;
	}
	machine_bind(s->env->machine, -1);
	if (wrong)
		return bench_note(s->env, -EIO, "%zu pages came back with wrong data", wrong);
	for (i = 0; i < s->npages; i++)
		series_push(out, s->took_ns[i] / 1000.0);
	return 0;
}

/* The median of one run, in microseconds, or a negative errno. */
static double floor_trial(struct fault_state *s, struct floor_uffd *floor)
{
	struct series took = { 0 };
	double median;
	int i, ret = 0;

	for (i = 0; i < 2 && ret == 0; i++) {
		took.count = 0;
		ret = floor_uffd_reset(floor);
		if (ret == 0)
			ret = touch_all(s, floor_uffd_memory(floor), &took);
	}
	median = ret ? ret : series_quantile(&took, 0.5);
	series_fini(&took);
	return median;
}

static int open_floor(struct fault_state *s)
{
	struct floor_uffd *raised = NULL;
	double normal_us, raised_us;
	int ret;

	ret = floor_uffd_open(s->npages, s->cpu, false, &s->floor);
	if (ret || s->cpu < 0)
		return ret;
	ret = floor_uffd_open(s->npages, s->cpu, true, &raised);
	if (ret)
		return ret;
	normal_us = floor_trial(s, s->floor);
	raised_us = floor_trial(s, raised);
	if (raised_us > 0 && raised_us < normal_us) {
		floor_uffd_close(s->floor);
		s->floor = raised;
	} else {
		floor_uffd_close(raised);
	}
	return normal_us < 0 ? (int)normal_us : 0;
}

static int fault_setup(struct bench_env *env, const struct bench_case *bcase, void **state)
{
	struct fault_state *s = calloc(1, sizeof(*s));
	size_t len;
	int ret;

	*state = s;
	if (!s)
		return -ENOMEM;
	if (bcase->variant == FAULT_LAST_CPU && env->machine->ncpus < 2)
		return bench_note(env, BENCH_SKIP, "the process may use one CPU only");
	s->env = env;
	s->npages = env->fault_pages;
	s->cpu = -1;
	if (bcase->variant == FAULT_FIRST_CPU)
		s->cpu = machine_first_cpu(env->machine);
	if (bcase->variant == FAULT_LAST_CPU)
		s->cpu = machine_last_cpu(env->machine);
	machine_warm(8 * s->npages * UMM_PAGE_SIZE, MADV_NOHUGEPAGE);
	s->order = make_order(s->npages);
	s->took_ns = calloc(s->npages, sizeof(*s->took_ns));
	if (!s->order || !s->took_ns)
		return -ENOMEM;
	ret = open_floor(s);
	if (ret == -EOPNOTSUPP || ret == -EPERM)
		return bench_note(env, BENCH_SKIP,
				  "the competitor needs UFFDIO_MOVE (Linux 6.8) and the right to "
				  "use userfaultfd: umm info says more");
	if (ret)
		return bench_note(env, ret, "the bare userfaultfd program");
	ret = ours_ctx(env, &s->ctx);
	if (ret)
		return ret;
	len = s->npages * UMM_PAGE_SIZE;
	ret = ours_device(env, s->ctx, len, true, &s->device);
	return ret ? ret : ours_memory(env, s->ctx, len, &s->memory);
}

static int fault_ours(void *state, struct series *out)
{
	struct fault_state *s = state;
	size_t len = s->npages * UMM_PAGE_SIZE;
	long moved = umm_migrate_to_device(s->ctx, s->device->mem, s->memory, len);

	if (moved != (long)s->npages)
		return bench_note(s->env, moved < 0 ? (int)moved : -EIO,
				  "%ld of %zu pages went to the device", moved, s->npages);
	return touch_all(s, s->memory, out);
}

static int fault_theirs(void *state, struct series *out)
{
	struct fault_state *s = state;
	int ret = floor_uffd_reset(s->floor);

	if (ret)
		return bench_note(s->env, ret, "the bare userfaultfd program");
	return touch_all(s, floor_uffd_memory(s->floor), out);
}

static void fault_teardown(void *state)
{
	struct fault_state *s = state;

	if (!s)
		return;
	floor_uffd_close(s->floor);
	ref_destroy(s->device);
	umm_ctx_put(s->ctx);
	free(s->order);
	free(s->took_ns);
	free(s);
}

const struct bench_case case_fault[] = {
	{
		.name = "fault/pinned",
		.summary = "CPU read fault on a 4 KiB device page, random order, first CPU",
		.against = "bare, server on that CPU",
		.unit = "us",
		.kind = BENCH_COST,
		.goal = 1.5,
		.pairs = 15,
		.variant = FAULT_FIRST_CPU,
		.setup = fault_setup,
		.ours = fault_ours,
		.theirs = fault_theirs,
		.teardown = fault_teardown,
	},
	{
		.name = "fault/pinned-other",
		.summary = "the same, faulting thread and bare server on the last CPU",
		.against = "bare, server on that CPU",
		.unit = "us",
		.kind = BENCH_COST,
		.goal = 1.5,
		.pairs = 15,
		.variant = FAULT_LAST_CPU,
		.setup = fault_setup,
		.ours = fault_ours,
		.theirs = fault_theirs,
		.teardown = fault_teardown,
	},
	{
		.name = "fault/unpinned",
		.summary = "the same, no thread pinned but by libumm (ratio: times faster)",
		.against = "bare, server unpinned",
		.unit = "us",
		.kind = BENCH_SPEEDUP,
		.goal = 3,
		.pairs = 15,
		.variant = FAULT_UNPINNED,
		.setup = fault_setup,
		.ours = fault_ours,
		.theirs = fault_theirs,
		.teardown = fault_teardown,
	},
	{ 0 },
};
