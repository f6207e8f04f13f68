/* SPDX-License-Identifier: MIT */
/*
 * A CPU reads pages that live on a device, one fault each, in random order.
 *
 * libumm's side is what a program gets by default: umm_alloc(), one migration out, then
 * loads. The device copies inline, like the competitor's server. Or the pages are duplicated, and
 * the CPU writes to them. Or the thread that faults serves itself (fault/in-thread), on both sides.
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
#include "touches.h"

enum fault_variant {
	FAULT_FIRST_CPU,
	FAULT_LAST_CPU,
	FAULT_UNPINNED,
	FAULT_PROTECT,
	FAULT_IN_THREAD,
};

struct fault_state {
	struct bench_env *env;
	struct touches touches;
	bool protect; /* pages are duplicated, and written */
	bool in_thread;
	struct umm_ctx *ctx;
	struct ref_device *device;
	char *memory;
	struct floor_uffd *floor;
};

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
			ret = touches_run(s->env, &s->touches, floor_uffd_memory(floor), &took);
	}
	median = ret ? ret : series_quantile(&took, 0.5);
	series_fini(&took);
	return median;
}

static int open_floor(struct fault_state *s)
{
	struct floor_uffd_options options = { .npages = s->touches.npages,
					      .cpu = s->touches.cpu,
					      .protect = s->protect,
					      .in_thread = s->in_thread };
	struct floor_uffd *raised = NULL;
	double normal_us, raised_us;
	int ret;

	ret = floor_uffd_open(&options, &s->floor);
	if (ret || options.cpu < 0 || s->in_thread)
		return ret;
	options.raise = true;
	ret = floor_uffd_open(&options, &raised);
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

static int fault_cpu(const struct bench_env *env, int variant)
{
	switch (variant) {
	case FAULT_UNPINNED:
		return -1;
	case FAULT_LAST_CPU:
		return machine_last_cpu(env->machine);
	default:
		return machine_first_cpu(env->machine);
	}
}

static int fault_setup(struct bench_env *env, const struct bench_case *bcase, void **state)
{
	struct umm_ctx_options options = { .size = sizeof(options) };
	struct fault_state *s = calloc(1, sizeof(*s));
	size_t len;
	int ret;

	*state = s;
	if (!s)
		return -ENOMEM;
	if (bcase->variant == FAULT_LAST_CPU && env->machine->ncpus < 2)
		return bench_note(env, BENCH_SKIP, "the process may use one CPU only");
	s->env = env;
	s->protect = bcase->variant == FAULT_PROTECT;
	s->in_thread = bcase->variant == FAULT_IN_THREAD;
	s->touches = (struct touches){ .npages = env->fault_pages,
				       .stride = UMM_PAGE_SIZE,
				       .cpu = fault_cpu(env, bcase->variant),
				       .write = s->protect };
	len = s->touches.npages * UMM_PAGE_SIZE;
	machine_warm(8 * len, MADV_NOHUGEPAGE);
	ret = touches_init(&s->touches);
	if (ret)
		return ret;
	ret = open_floor(s);
	if (ret == -EOPNOTSUPP || ret == -EPERM)
		return bench_note(env, BENCH_SKIP,
				  "the competitor needs UFFDIO_MOVE (Linux 6.8) and the right to "
				  "use userfaultfd: umm info says more");
	if (ret)
		return bench_note(env, ret, "the bare userfaultfd program");
	options.flags = s->in_thread ? UMM_CTX_FAULTS_IN_THREAD : 0;
	ret = ours_ctx_with(env, &options, &s->ctx);
	if (ret)
		return ret;
	ret = ours_device(env, s->ctx, len, true, &s->device);
	return ret ? ret : ours_memory(env, s->ctx, len, &s->memory);
}

static int fault_ours(void *state, struct series *out)
{
	struct fault_state *s = state;
	size_t npages = s->touches.npages;
	struct umm_span span = { (uintptr_t)s->memory, npages * UMM_PAGE_SIZE };
	struct umm_migrate_request request = { .size = sizeof(request),
					       .flags = s->protect ? UMM_MIGRATE_DUPLICATE : 0,
					       .spans = &span,
					       .nspans = 1,
					       .dst = s->device->mem };
	long moved = umm_migrate_spans(s->ctx, &request, NULL);

	if (moved != (long)npages)
		return bench_note(s->env, moved < 0 ? (int)moved : -EIO,
				  "%ld of %zu pages went to the device", moved, npages);
	return touches_run(s->env, &s->touches, s->memory, out);
}

static int fault_theirs(void *state, struct series *out)
{
	struct fault_state *s = state;
	int ret = floor_uffd_reset(s->floor);

	if (ret)
		return bench_note(s->env, ret, "the bare userfaultfd program");
	ret = touches_run(s->env, &s->touches, floor_uffd_memory(s->floor), out);
	floor_uffd_stop(s->floor);
	return ret;
}

static void fault_teardown(void *state)
{
	struct fault_state *s = state;

	if (!s)
		return;
	floor_uffd_close(s->floor);
	ref_destroy(s->device);
	umm_ctx_put(s->ctx);
	touches_fini(&s->touches);
	free(s);
}

const struct bench_case case_fault[] = {
	{
		.name = "fault/pinned",
		.summary = "CPU read fault on a 4 KiB device page, random order, first CPU",
		.against = "bare, server on that CPU",
		.unit = "us",
		.kind = BENCH_COST,
		.goal = 1.25,
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
		.goal = 1.25,
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
		.goal = 4,
		.pairs = 15,
		.variant = FAULT_UNPINNED,
		.setup = fault_setup,
		.ours = fault_ours,
		.theirs = fault_theirs,
		.teardown = fault_teardown,
	},
	{
		.name = "fault/write-protect",
		.summary = "CPU write to a page that is duplicated on a device, first CPU",
		.against = "bare, server on that CPU",
		.unit = "us",
		.kind = BENCH_COST,
		.goal = 1.3,
		.pairs = 15,
		.variant = FAULT_PROTECT,
		.setup = fault_setup,
		.ours = fault_ours,
		.theirs = fault_theirs,
		.teardown = fault_teardown,
	},
	{
		.name = "fault/in-thread",
		.summary = "the same, the faulting thread serves itself: SIGBUS",
		.against = "bare, SIGBUS and UFFDIO_MOVE",
		.unit = "us",
		.kind = BENCH_COST,
		.goal = 1.3,
		.pairs = 15,
		.variant = FAULT_IN_THREAD,
		.setup = fault_setup,
		.ours = fault_ours,
		.theirs = fault_theirs,
		.teardown = fault_teardown,
	},
	{ 0 },
};
