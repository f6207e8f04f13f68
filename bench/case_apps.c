/* SPDX-License-Identifier: MIT */
/*
 * Programs that nobody here wrote, under the malloc shim without a limit: against the same program
 * with the same allocator, Debian's jemalloc, in time and in memory. Each is a line of shell; what
 * it works on is made once, in a directory of its own. The shell is loaded with the library as
 * well, and becomes the program where that is one.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bench.h"
#include "load.h"

#ifdef BENCH_SHIM

enum { MEMORY = 1 }; /* added to an app's variant: its memory counts, not its time */

#define QUICK_SCALE  1
#define NORMAL_SCALE 20

/* N is the scale. */
struct app {
	const char *needs; /* a program */
	const char *make;
	const char *run;
};

#define LINES                                                                   \
	"awk -v n=$((N * 50000)) 'BEGIN { x = 1; for (i = 0; i < n; i++) {"     \
	" x = (x * 1103515245 + 12345) % 2147483648; printf \"%010d %08d\\n\"," \
	" x, i } }' >in"

enum {
	APP_SORT,
	APP_XZ,
	APP_SQLITE,
	APP_REDIS,
	APP_NUMPY,
	APP_GCC,
	APP_STRESS,
	APP_NODE,
	APP_GIT,
};

static const struct app apps[] = {
	[APP_SORT] = { "sort", LINES, "exec sort --parallel=2 -S 400M in" },
	[APP_XZ] = { "xz", LINES "; truncate -s $((N * 150000)) in", "exec xz -9 -T1 -c in" },
	[APP_SQLITE] = { "sqlite3",
			 "echo 'PRAGMA temp_store=MEMORY; PRAGMA cache_size=-4000000;"
			 " CREATE TABLE a(id INTEGER PRIMARY KEY, k INTEGER, t TEXT);"
			 " WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM n WHERE"
			 " i < '$((N * 20000))') INSERT INTO a SELECT i, (i * 7919) % 100003,"
			 " hex(i * 104729) FROM n; CREATE INDEX a_k ON a(k, t);"
			 " SELECT count(*), max(x.t) FROM a x JOIN a y ON x.k = y.id;' >in",
			 "exec sqlite3 :memory: <in" },
	[APP_REDIS] = { "redis-benchmark", ":",
			"redis-server --port 0 --unixsocket \"$PWD/sock\" --save '' & "
			"until [ -S sock ]; do sleep 0.01; done; "
			"redis-benchmark -s sock -n $((N * 5000)) -r 1000000 -d 100 -t set,get,lpush -q; "
			"redis-cli -s sock shutdown nosave; wait" },
	[APP_NUMPY] = { "/usr/bin/python3",
			"echo 'import numpy as np\n"
			"a = np.arange('$((N * 250000))', dtype=np.float64)\n"
			"for i in range(3):\n"
			"    a = np.cumsum(np.sort(np.sin(a + i)))\n' >in.py; "
			"/usr/bin/python3 -c 'import numpy'",
			"export OPENBLAS_NUM_THREADS=1; exec /usr/bin/python3 in.py" },
	[APP_GCC] = { "gcc",
		      "awk -v n=$((N * 40)) 'BEGIN { for (i = 0; i < n; i++)"
		      " printf \"int f%d(int *a, int n) { int s = %d; for (int i = 0; i < n; i++)"
		      " s += a[i] * (s ^ %d); return s; }\\n\", i, i, i * 7 }' >in.c",
		      "exec gcc -O2 -c in.c -o out.o" },
	[APP_STRESS] = { "stress-ng", ":",
			 "exec stress-ng --vm 1 --vm-bytes 64M --vm-ops $((N * 4000)) --vm-method incdec"
			 " --verify" },
	[APP_NODE] = { "node", ":",
		       "exec node -e 'const m = new Map(); let s = 0;"
		       " for (let i = 0; i < '$((N * 50000))'; i++) m.set(\"k\" + i * 7919, [i, { i }]);"
		       " for (const [k, v] of m) s += k.length + v[1].i; console.log(s)'" },
	[APP_GIT] = { "git",
		      "git init -q --bare repo; awk -v n=$((N * 500)) 'BEGIN { for (i = 0; i < n; i++) {"
		      " t = \"\"; for (k = 0; k < 100; k++) t = t sprintf(\"line %d of %d\\n\","
		      " k * k + i % 97, i % 31); printf \"blob\\nmark :%d\\ndata %d\\n%s\\n\", i + 1,"
		      " length(t), t } print \"commit refs/heads/main\"; print \"committer a <a@b> 0 +0000\";"
		      " print \"data 1\"; print \"x\"; for (i = 1; i <= n; i++)"
		      " printf \"M 100644 :%d d%d/f%d\\n\", i, i % 50, i }' |"
		      " git -C repo fast-import --quiet",
		      "exec git -C repo -c pack.threads=1 -c pack.window=20 repack -adfq" },
};

struct apps_state {
	struct bench_env *env;
	bool memory;
	unsigned scale;
	char dir[64], script[2048];
};

/* A shell that runs the script. */
static int run_script(struct apps_state *s, const char *preload, struct load_result *result)
{
	const struct load load = { .program = "/bin/sh",
				   .argv = { "-c", s->script },
				   .preload = preload };

	return load_run(s->env, &load, result);
}

static int in_directory(struct apps_state *s, const char *preload, const char *script,
			struct load_result *result)
{
	snprintf(s->script, sizeof(s->script), "cd '%s' || exit; N=%u; %s", s->dir, s->scale,
		 script);
	return run_script(s, preload, result);
}

static int apps_setup(struct bench_env *env, const struct bench_case *bcase, void **state)
{
	const struct app *app = &apps[bcase->variant / 2];
	struct apps_state *s = calloc(1, sizeof(*s));
	struct load_result result;
	char dir[] = "/tmp/umm-bench-XXXXXX";
	int ret;

	*state = s;
	if (!s)
		return -ENOMEM;
	s->env = env;
	s->memory = bcase->variant & MEMORY;
	s->scale = env->quick ? QUICK_SCALE : NORMAL_SCALE;
	if (!mkdtemp(dir))
		return bench_note(env, -errno, "no directory in /tmp: %s", strerror(errno));
	snprintf(s->dir, sizeof(s->dir), "%s", dir);
	snprintf(s->script, sizeof(s->script), "command -v %s", app->needs);
	ret = run_script(s, NULL, &result);
	if (ret)
		return bench_note(env, BENCH_SKIP,
				  "there is no %s: ./dev test --apps installs such programs",
				  app->needs);
	ret = in_directory(s, NULL, app->make, &result);
	if (ret)
		return bench_note(env, BENCH_SKIP, "nothing could be made for it to work on");
	/* The first run reads the program's files: it does not count. */
	return in_directory(s, NULL, app->run, &result);
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

	if (s && s->dir[0])
		in_directory(s, NULL, "cd / && rm -rf \"$OLDPWD\"", &result);
	free(s);
}

#define APP_CASE(case_name, text, measure, target, npairs, which)                                 \
	{                                                                                         \
		.name = (case_name), .summary = (text), .against = "jemalloc", .unit = (measure), \
		.kind = BENCH_COST, .goal = (target), .pairs = (npairs), .variant = (which),      \
		.setup = apps_setup, .ours = apps_ours, .theirs = apps_theirs,                    \
		.teardown = apps_teardown,                                                        \
	}
#define APP_CASES(name, text, which)                                                          \
	APP_CASE("app/" name, text ", the shim without a limit", "ms", 1.02, 7, 2 * (which)), \
		APP_CASE("app/" name "-memory", "its host memory", "MiB", 1.03, 3,            \
			 2 * (which) + MEMORY)

#endif

const struct bench_case case_apps[] = {
#ifdef BENCH_SHIM
	APP_CASES("sort", "sort of lines", APP_SORT),
	APP_CASES("xz", "xz -9", APP_XZ),
	APP_CASES("sqlite", "an index and a join in SQLite", APP_SQLITE),
	APP_CASES("redis", "a Redis server and its benchmark", APP_REDIS),
	APP_CASES("numpy", "sorts and sums in NumPy", APP_NUMPY),
	APP_CASES("gcc", "many functions in one unit, gcc -O2", APP_GCC),
	APP_CASES("stress", "stress-ng's memory test", APP_STRESS),
	APP_CASES("node", "a map of objects in Node", APP_NODE),
	APP_CASES("git", "git repack of a repository", APP_GIT),
#endif
	{ 0 },
};
