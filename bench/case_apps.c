/* SPDX-License-Identifier: MIT */
/*
 * Programs that nobody here wrote, under the malloc shim without a limit: against the same program
 * with the same allocator, Debian's jemalloc, in time and in memory. apps.sh has what they do; it
 * is loaded with the library as well, and becomes the program.
 */
#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bench.h"
#include "load.h"

#ifdef BENCH_SHIM

enum { TIME, MEMORY }; /* what counts */

#define QUICK_SCALE  "1"
#define NORMAL_SCALE "20"

struct apps_state {
	struct bench_env *env;
	struct load load; /* a run */
	bool memory;
	char app[16]; /* a case of the script, from the name of ours: app/sort-memory */
	char dir[32];
};

/* The script, in the directory. */
static int run_script(struct apps_state *s, const char *preload, struct load_result *result)
{
	s->load.preload = preload;
	return load_run(s->env, &s->load, result);
}

static int apps_setup(struct bench_env *env, const struct bench_case *bcase, void **state)
{
	struct apps_state *s = calloc(1, sizeof(*s));
	struct load_result result;
	char dir[] = "/tmp/umm-bench-XXXXXX";

	*state = s;
	if (!s)
		return -ENOMEM;
	s->env = env;
	s->memory = bcase->variant == MEMORY;
	sscanf(bcase->name, "app/%15[a-z]", s->app);
	if (!mkdtemp(dir))
		return bench_note(env, -errno, "no directory in /tmp: %s", strerror(errno));
	snprintf(s->dir, sizeof(s->dir), "%s", dir);
	s->load = (struct load){
		.program = BENCH_APPS,
		.dir = s->dir,
		.argv = { "have", s->app, env->quick ? QUICK_SCALE : NORMAL_SCALE },
	};
	if (run_script(s, NULL, &result))
		return bench_note(env, BENCH_SKIP,
				  "%s is not there: ./dev test --apps installs such programs",
				  s->app);
	s->load.argv[0] = "make";
	if (run_script(s, NULL, &result))
		return bench_note(env, -EIO, "nothing could be made in %s for %s to work on", dir,
				  s->app);
	s->load.argv[0] = "run";
	/* The first run reads the program's files: it does not count. */
	return env->quick ? 0 : run_script(s, NULL, &result);
}

static int apps_run(struct apps_state *s, const char *preload, struct series *out)
{
	struct load_result result;
	int ret = run_script(s, preload, &result);

	if (!ret)
		series_push(out, s->memory ? result.most_kib / 1024 : result.figure);
	return ret;
}

static int apps_ours(void *state, struct series *out)
{
	return apps_run(state, BENCH_SHIM, out);
}

static int apps_theirs(void *state, struct series *out)
{
	return apps_run(state, BENCH_JEMALLOC, out);
}

static void apps_teardown(void *state)
{
	struct apps_state *s = state;
	struct load_result result;

	if (s && s->dir[0]) {
		s->load = (struct load){ .program = "rm", .argv = { "-rf", s->dir } };
		run_script(s, NULL, &result);
	}
	free(s);
}

#define APP_CASE(case_name, text, measure, target, npairs, which)                                 \
	{                                                                                         \
		.name = (case_name), .summary = (text), .against = "jemalloc", .unit = (measure), \
		.kind = BENCH_COST, .goal = (target), .pairs = (npairs), .variant = (which),      \
		.setup = apps_setup, .ours = apps_ours, .theirs = apps_theirs,                    \
		.teardown = apps_teardown,                                                        \
	}
#define APP_CASES(name, text)                                                          \
	APP_CASE("app/" name, text ", the shim without a limit", "ms", 1.02, 7, TIME), \
		APP_CASE("app/" name "-memory", "its host memory", "MiB", 1.03, 3, MEMORY)

#endif

const struct bench_case case_apps[] = {
#ifdef BENCH_SHIM
	APP_CASES("sort", "sort of lines"),
	APP_CASES("xz", "xz -9"),
	APP_CASES("sqlite", "an index and a join in SQLite"),
	APP_CASES("redis", "a Redis server and its benchmark"),
	APP_CASES("numpy", "sorts and sums in NumPy"),
	APP_CASES("gcc", "many functions in one unit, gcc -O2"),
	APP_CASES("stress", "stress-ng's memory test"),
	APP_CASES("node", "a map of objects in Node"),
	APP_CASES("git", "git repack of a repository"),
#endif
	{ 0 },
};
