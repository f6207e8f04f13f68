/* SPDX-License-Identifier: MIT */
/*
 * Programs under the malloc shim. Without a limit, and with one that is far away: against the same
 * program with the same allocator, Debian's jemalloc, in time and in memory. With a limit of half
 * of what it uses: against itself without one, against a memory cgroup of that size which
 * swaps to RAM, and against paging that is written into the program (shim_paging.c).
 *
 * One run is one program (shim_load.c), its own measure of the time included, so the programs'
 * start is in "start" only.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <umm.h>

#include "bench.h"
#include "load.h"

#ifdef BENCH_SHIM

enum shim_variant {
	SHIM_MALLOC = 1 << 0,
	SHIM_START = 1 << 1,
	SHIM_PASSES = 1 << 2,
	SHIM_ZIPF = 1 << 3,
	SHIM_THREADS_4 = 1 << 4,
	SHIM_MEMORY = 1 << 5, /* its memory is measured, not its time */
	SHIM_ARMED = 1 << 6,  /* a device and a limit that is far away */
	SHIM_PAGED = 1 << 7,  /* with SHIM_ZIPF: against paging by hand */
	SHIM_IDLE = 1 << 8,
	SHIM_HOT = 1 << 9,   /* with probes */
	SHIM_NODE = 1 << 10, /* on a memory node */
};

enum { FAR_AWAY_MIB = 1 << 20 };

struct shim_state {
	struct bench_env *env;
	int variant;
	struct load ours, theirs;
	char size[16], amount[16], buffer[16], cgroup[128];
};

static void shim_loads(struct shim_state *s)
{
	bool quick = s->env->quick;
	/* So that what is hot is known: each page of the buffer comes and goes several times. */
	bool is_long = s->variant & SHIM_PAGED && !quick;
	unsigned mib = quick ? 64 : is_long || s->variant & SHIM_HOT ? 128 : 512;
	struct load *ours = &s->ours;

	ours->preload = BENCH_SHIM;
	if (s->variant & (SHIM_ARMED | SHIM_PASSES | SHIM_ZIPF | SHIM_IDLE | SHIM_HOT))
		ours->device = s->variant & SHIM_NODE ? "numa=4G" : "ref=4G";
	ours->leaves = s->variant & (SHIM_PASSES | SHIM_ZIPF | SHIM_IDLE | SHIM_HOT);
	ours->limit_mib = s->variant & SHIM_ARMED ? (size_t)FAR_AWAY_MIB : mib / 2;
	if (s->variant & SHIM_MALLOC) {
		ours->argv[0] = "malloc";
		snprintf(s->size, sizeof(s->size), "%d", s->variant & SHIM_THREADS_4 ? 4 : 1);
		snprintf(s->amount, sizeof(s->amount), "%d", quick ? 50 : 4000);
	} else {
		ours->argv[0] = s->variant & SHIM_PASSES ? "passes" :
				s->variant & SHIM_ZIPF	 ? "zipf" :
				s->variant & SHIM_IDLE	 ? "idle" :
				s->variant & SHIM_HOT	 ? "hot" :
							   "start";
		snprintf(s->size, sizeof(s->size), "%u", mib);
		snprintf(s->amount, sizeof(s->amount), "%d",
			 s->variant & SHIM_PASSES ? (quick ? 1 : 6) :
			 s->variant & SHIM_IDLE	  ? (quick ? 1 : 3) :
			 s->variant & SHIM_HOT	  ? 1 :
			 quick			  ? 20 :
			 is_long		  ? 300 :
						    100);
	}
	ours->argv[1] = s->size;
	ours->argv[2] = s->amount;
	if (s->variant & SHIM_HOT)
		ours->sampling = "probe";
	s->theirs = *ours;
	if (s->variant & SHIM_HOT) {
		s->theirs.sampling = "refault";
		return;
	}
	s->theirs.preload = BENCH_JEMALLOC;
	s->theirs.device = NULL;
	s->theirs.leaves = false;
	if (!(s->variant & SHIM_PAGED))
		return;
	s->theirs.preload = NULL;
	s->theirs.argv[0] = "zipf-paged";
	snprintf(s->buffer, sizeof(s->buffer), "%u", mib / 2);
	s->theirs.argv[3] = s->buffer;
}

static int shim_setup(struct bench_env *env, const struct bench_case *bcase, void **state)
{
	struct umm_probe_info info = { .size = sizeof(info) };
	struct shim_state *s = calloc(1, sizeof(*s));
	int ret;

	*state = s;
	if (!s)
		return -ENOMEM;
	s->env = env;
	s->variant = bcase->variant;
	shim_loads(s);
	if (umm_probe(&info) || info.uffd_access == UMM_UFFD_NONE ||
	    info.uffd_access == UMM_UFFD_USER_MODE_ONLY)
		return bench_note(env, BENCH_SKIP, "no userfaultfd here: %.150s", info.advice);
	if (!(s->variant & SHIM_ZIPF) || s->variant & SHIM_PAGED)
		return 0;
	ret = load_cgroup_make(env, s->ours.limit_mib, s->cgroup, sizeof(s->cgroup));
	if (ret)
		s->cgroup[0] = '\0';
	s->theirs.cgroup = s->cgroup;
	return ret;
}

static int shim_run(struct shim_state *s, const struct load *load, struct series *out)
{
	struct load_result result;
	int ret = load_run(s->env, load, &result);

	if (!ret)
		series_push(out, s->variant & SHIM_MEMORY ? result.most_kib / 1024 : result.figure);
	return ret;
}

static int shim_ours(void *state, struct series *out)
{
	struct shim_state *s = state;

	return shim_run(s, &s->ours, out);
}

static int shim_theirs(void *state, struct series *out)
{
	struct shim_state *s = state;

	return shim_run(s, &s->theirs, out);
}

/* How much longer it takes to begin and end, ms: from outside, a pair for each figure. */
static int shim_start(void *state, struct series *out)
{
	struct shim_state *s = state;

	for (unsigned i = 0; i < 10; i++) {
		struct load_result result;
		uint64_t begin = machine_now(), middle;
		int ret = load_run(s->env, &s->ours, &result);

		middle = machine_now();
		if (!ret)
			ret = load_run(s->env, &s->theirs, &result);
		if (ret)
			return ret;
		series_push(out,
			    ((double)(middle - begin) - (double)(machine_now() - middle)) / 1e6);
	}
	return 0;
}

/* Percent of a CPU that probes take, by the shim's own measure, over all of the run. */
static int shim_probes(void *state, struct series *out)
{
	struct shim_state *s = state;
	struct load_result result;
	uint64_t begin = machine_now();
	int ret = load_run(s->env, &s->ours, &result);

	if (!ret)
		series_push(out, 100 * result.probes_ms * 1e6 / (double)(machine_now() - begin));
	return ret;
}

static void shim_teardown(void *state)
{
	struct shim_state *s = state;

	if (s && s->cgroup[0])
		load_cgroup_remove(s->cgroup);
	free(s);
}

#define SHIM_CASE(case_name, text, whom, measure, sort, target, which)                        \
	{                                                                                     \
		.name = (case_name), .summary = (text), .against = (whom), .unit = (measure), \
		.kind = (sort), .goal = (target), .pairs = 10, .variant = (which),            \
		.setup = shim_setup, .ours = shim_ours, .theirs = shim_theirs,                \
		.teardown = shim_teardown,                                                    \
	}

#endif

const struct bench_case case_shim[] = {
#ifdef BENCH_SHIM
	SHIM_CASE("shim/malloc-1", "malloc and free, the shim without a limit", "jemalloc", "ms",
		  BENCH_COST, 1.02, SHIM_MALLOC),
	SHIM_CASE("shim/malloc-4", "the same, four threads", "jemalloc", "ms", BENCH_COST, 1.02,
		  SHIM_MALLOC | SHIM_THREADS_4),
	SHIM_CASE("shim/malloc-far", "the same, with a limit that is far away", "jemalloc", "ms",
		  BENCH_COST, 1.02, SHIM_MALLOC | SHIM_THREADS_4 | SHIM_ARMED),
	SHIM_CASE("shim/memory", "host memory of malloc-4", "jemalloc", "MiB", BENCH_COST, 1.03,
		  SHIM_MALLOC | SHIM_THREADS_4 | SHIM_MEMORY),
	SHIM_CASE("shim/memory-far", "host memory of malloc-far", "jemalloc", "MiB", BENCH_COST,
		  1.03, SHIM_MALLOC | SHIM_THREADS_4 | SHIM_MEMORY | SHIM_ARMED),
	{
		.name = "shim/start",
		.summary = "a program's start and end: how much longer with the shim",
		.unit = "ms",
		.kind = BENCH_LIMIT,
		.goal = 5,
		.pairs = 5,
		.variant = SHIM_START | SHIM_ARMED,
		.setup = shim_setup,
		.ours = shim_start,
		.teardown = shim_teardown,
	},
	SHIM_CASE("shim/passes", "passes over memory, a limit of half of it", "no limit", "GiB/s",
		  BENCH_SPEED, 0.5, SHIM_PASSES),
#ifdef BENCH_NUMA
	SHIM_CASE("shim/passes-numa", "the same passes, on a memory node", "no limit", "GiB/s",
		  BENCH_SPEED, 0.5, SHIM_PASSES | SHIM_NODE),
#endif
	SHIM_CASE("shim/zipf", "zipfian reads of 4 KiB, a limit of half of it",
		  "cgroup, swap on RAM", "us", BENCH_SPEEDUP, 2.0, SHIM_ZIPF),
	SHIM_CASE("shim/zipf-paged", "the same reads, paging by hand with a buffer as large",
		  "userfaultfd", "us", BENCH_SPEEDUP, 1.5, SHIM_ZIPF | SHIM_PAGED),
	{
		.name = "shim/idle",
		.summary = "CPU that the shim takes while a program waits that is over its limit",
		.unit = "%",
		.kind = BENCH_LIMIT,
		.goal = 1,
		.pairs = 3,
		.variant = SHIM_IDLE,
		.setup = shim_setup,
		.ours = shim_ours,
		.teardown = shim_teardown,
	},
	{
		.name = "shim/probes",
		.summary = "CPU that probes take while memory is filled and read at random",
		.unit = "%",
		.kind = BENCH_LIMIT,
		.goal = 2,
		.pairs = 5,
		.variant = SHIM_HOT,
		.setup = shim_setup,
		.ours = shim_probes,
		.teardown = shim_teardown,
	},
	SHIM_CASE("shim/hot", "touches of blocks in use that find them gone, with probes",
		  "--sampling refault", "per mill", BENCH_COST, 0.5, SHIM_HOT),
#endif
	{ 0 },
};
