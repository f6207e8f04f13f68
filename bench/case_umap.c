/* SPDX-License-Identifier: MIT */
/*
 * LLNL's UMap, a library that pages memory by userfaultfd: pages that are missed in random order,
 * and a walk over memory from its first page to its last. UMap's come from a store in RAM, ours
 * from the reference device.
 *
 * UMap runs in a child, a new one for each run, since its page size is the process's: 4 KiB for
 * single faults, 2 MiB for the walk. For single faults the thread that faults, and with it UMap's
 * threads, are bound to the first CPU; a walk goes where the scheduler has it.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include "bench.h"
#include "ours.h"
#include "peer_umap.h"
#include "touches.h"

enum umap_variant {
	UMAP_FAULT,
	UMAP_WALK,
};

#define BLOCK ((size_t)2 << 20)

struct umap_state {
	struct bench_env *env;
	int variant;
	size_t len;
	struct touches touches;
	struct umm_ctx *ctx;
	struct ref_device *device;
	char *memory;
};

/* Touch all pages: what each took, or, of a walk, GiB/s. */
static int touch_all(struct umap_state *s, char *memory, struct series *out)
{
	struct series took = { 0 };
	double us = 0;
	int ret;

	if (s->variant == UMAP_FAULT)
		return touches_run(s->env, &s->touches, memory, out);
	ret = touches_run(s->env, &s->touches, memory, &took);
	for (size_t i = 0; i < took.count; i++)
		us += took.value[i];
	if (!ret)
		series_push(out, ours_gib_per_s(s->len, (uint64_t)(us * 1000)));
	series_fini(&took);
	return ret;
}

#ifdef BENCH_UMAP

/* In the child: never returns. Its figures go out, one a line. */
static void child_main(struct umap_state *s, int out)
{
	size_t page_bytes = s->variant == UMAP_WALK ? BLOCK : UMM_PAGE_SIZE;
	struct series figures = { 0 };
	char *memory;

	machine_bind(s->env->machine, s->touches.cpu);
	memory = peer_umap_map(s->len, page_bytes);
	if (!memory || touch_all(s, memory, &figures))
		_exit(1);
	for (size_t i = 0; i < figures.count; i++)
		dprintf(out, "%.3f\n", figures.value[i]);
	peer_umap_unmap(memory, s->len);
	_exit(0);
}

static int umap_theirs(void *state, struct series *out)
{
	struct umap_state *s = state;
	int fds[2], status = 0;
	double figure;
	FILE *figures;
	pid_t pid;

	if (pipe2(fds, O_CLOEXEC))
		return bench_note(s->env, -errno, "pipe2");
	pid = fork();
	if (!pid)
		child_main(s, fds[1]);
	close(fds[1]);
	figures = fdopen(fds[0], "r");
	if (pid < 0 || !figures)
		return bench_note(s->env, -ENOMEM, "no process");
	while (fscanf(figures, "%lf", &figure) == 1)
		series_push(out, figure);
	fclose(figures);
	while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
		;
	return status ? bench_note(s->env, -EIO, "UMap mapped nothing, or lost data") : 0;
}

#define BUILT_WITH_UMAP true

#else

static int umap_theirs(void *state, struct series *out)
{
	(void)state;
	(void)out;
	return BENCH_SKIP;
}

#define BUILT_WITH_UMAP false

#endif

static int umap_setup(struct bench_env *env, const struct bench_case *bcase, void **state)
{
	struct umap_state *s = calloc(1, sizeof(*s));
	bool walk = bcase->variant == UMAP_WALK;
	int ret;

	*state = s;
	if (!s)
		return -ENOMEM;
	if (!BUILT_WITH_UMAP)
		return bench_note(env, BENCH_SKIP,
				  "built without UMap: install it, and build with "
				  "cmake -DCMAKE_PREFIX_PATH=where-it-is");
	s->env = env;
	s->variant = bcase->variant;
	s->len = walk ? env->bulk_bytes / 2 : env->fault_pages * UMM_PAGE_SIZE;
	s->touches = (struct touches){ .npages = s->len / UMM_PAGE_SIZE,
				       .stride = UMM_PAGE_SIZE,
				       .cpu = walk ? -1 : machine_first_cpu(env->machine) };
	ret = touches_init(&s->touches);
	for (size_t i = 0; !ret && walk && i < s->touches.npages; i++)
		s->touches.order[i] = (uint32_t)i;
	if (!ret)
		ret = ours_ctx(env, &s->ctx);
	if (!ret)
		ret = ours_device(env, s->ctx, s->len, true, &s->device);
	return ret ? ret : ours_memory(env, s->ctx, s->len, &s->memory);
}

static int umap_ours(void *state, struct series *out)
{
	struct umap_state *s = state;
	long moved = umm_migrate_to_device(s->ctx, s->device->mem, s->memory, s->len);

	if (moved < 0)
		return bench_note(s->env, (int)moved, "nothing went to the device");
	return touch_all(s, s->memory, out);
}

static void umap_teardown(void *state)
{
	struct umap_state *s = state;

	if (!s)
		return;
	ref_destroy(s->device);
	umm_ctx_put(s->ctx);
	touches_fini(&s->touches);
	free(s);
}

const struct bench_case case_umap[] = {
	{
		.name = "umap/fault",
		.summary = "CPU read fault, 4 KiB, random order, first CPU (ratio: times faster)",
		.against = "UMap, one filler",
		.unit = "us",
		.kind = BENCH_SPEEDUP,
		.goal = 1,
		.pairs = 9,
		.variant = UMAP_FAULT,
		.setup = umap_setup,
		.ours = umap_ours,
		.theirs = umap_theirs,
		.teardown = umap_teardown,
	},
	{
		.name = "umap/walk",
		.summary = "a CPU reads one word of every page, in order",
		.against = "UMap, pages of 2 MiB",
		.unit = "GiB/s",
		.kind = BENCH_SPEED,
		.goal = 1,
		.pairs = 9,
		.variant = UMAP_WALK,
		.setup = umap_setup,
		.ours = umap_ours,
		.theirs = umap_theirs,
		.teardown = umap_teardown,
	},
	{ 0 },
};
