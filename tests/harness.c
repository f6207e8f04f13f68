/* SPDX-License-Identifier: MIT */
/*
 * The tests' common ground: cases by variants, and touches that may raise signals.
 *
 * Every case becomes one cmocka test for each variant. Its setup opens a context, its
 * teardown destroys what the test left, and fails the test where the core broke its
 * contract with a device on the way. Where userfaultfd is refused every test is skipped,
 * and the program exits with 77.
 *
 * Assertions jump out of the test function, so only the test's own thread makes them.
 * Other threads and forked children report by return values.
 *
 * SIGBUS and SIGSEGV belong to touch_read() and touch_write() while they run in the
 * thread concerned, else to cmocka, which fails the test.
 */
#include "harness.h"
#include "watchdog.h"
#ifdef HARNESS_NUMA
#include "ref_numa.h"
#endif
#ifdef HARNESS_OPENCL
#include "ref_opencl.h"
#endif

#include <errno.h>
#include <fnmatch.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define EXIT_SKIPPED 77

struct run {
	const struct test_case *test;
	struct env env;
	int refused; /* why there is no context, as -errno */
	char name[160];
};

static const struct {
	uint64_t off;
	uint64_t ctx_flags;
	const char *name;
} kernels[] = {
	{ 0, 0, "all" },
	{ UMM_KERNEL_MOVE, 0, "no-move" },
	{ UMM_KERNEL_POISON, 0, "no-poison" },
	{ UMM_KERNEL_PAGEMAP_SCAN | UMM_KERNEL_PROCMAP_QUERY, 0, "no-scan" },
	{ UMM_KERNEL_SYSCALL_FAULTS, 0, "user-mode" },
	{ 0, UMM_CTX_FAULTS_IN_THREAD, "in-thread" },
};

#define NKERNELS (sizeof(kernels) / sizeof(kernels[0]))

static unsigned nskipped;
static bool private_only; /* the backend has no coherent memory */
static void (*cleanup)(void);

/* ---- signals of a touch ------------------------------------------------------------- */

static _Thread_local sigjmp_buf *volatile touch_escape;
static struct sigaction touch_before_bus, touch_before_segv;

static void touch_signal(int number, siginfo_t *info, void *context)
{
	if (number == SIGBUS && umm_handle_sigbus(info, context))
		return;
	if (touch_escape)
		siglongjmp(*touch_escape, number);
	/* Not ours: the access is repeated, and whoever was there before us hears of it. */
	sigaction(number, number == SIGBUS ? &touch_before_bus : &touch_before_segv, NULL);
}

static void touch_signals_take(void)
{
	struct sigaction action = { .sa_sigaction = touch_signal, .sa_flags = SA_SIGINFO };

	/* The handler of another signal, which may touch managed memory, has to wait. */
	sigfillset(&action.sa_mask);
	sigdelset(&action.sa_mask, SIGBUS);
	sigdelset(&action.sa_mask, SIGSEGV);
	sigaction(SIGBUS, &action, &touch_before_bus);
	sigaction(SIGSEGV, &action, &touch_before_segv);
}

static int touch(volatile char *addr, bool write)
{
	static volatile char nothing; /* what the compiler does not know to be 0 */
	sigjmp_buf escape;
	int number = sigsetjmp(escape, 1);

	if (number == 0) {
		touch_escape = &escape;
		if (write) /* in one access: a store fault, not a load fault and then one */
			__atomic_fetch_add(addr, nothing, __ATOMIC_RELAXED);
		else
			(void)*addr;
	}
	touch_escape = NULL;
	return number;
}

int touch_read(const void *addr)
{
	return touch((volatile char *)(uintptr_t)addr, false);
}

int touch_write(void *addr)
{
	return touch(addr, true);
}

/* ---- cases -------------------------------------------------------------------------- */

/* A test may hold one server and needs another one then, also where there is one CPU. */
static unsigned fault_servers(void)
{
	cpu_set_t cpus;

	return sched_getaffinity(0, sizeof(cpus), &cpus) || CPU_COUNT(&cpus) > 1 ? 0 : 2;
}

/* Tests count faults, page by page: nothing comes that they did not touch, unless asked for. */
static enum umm_readahead readahead(void)
{
	return getenv("UMM_TEST_READAHEAD") ? UMM_READAHEAD_STREAM : UMM_READAHEAD_OFF;
}

/* Nor does anything stay that a device missed, or wait. */
static enum umm_thrash thrash(void)
{
	return getenv("UMM_TEST_THRASH") ? UMM_THRASH_THROTTLE : UMM_THRASH_OFF;
}

static int case_setup(void **state)
{
	struct run *run = *state;
	struct umm_ctx_options options = {
		.size = sizeof(options),
		.flags = run->env.variant.ctx_flags,
		.kernel_features_off = run->env.variant.features_off,
		.fault_servers = fault_servers(),
		.readahead = readahead(),
		.thrash = thrash(),
	};
	int ret;

	watchdog_arm(run->name);
	ret = umm_ctx_create(&options, &run->env.ctx);
	run->refused = ret == -EPERM || ret == -EOPNOTSUPP ? ret : 0;
	if (ret && !run->refused)
		print_error("umm_ctx_create: %s\n", umm_strerror(ret));
	return ret && !run->refused ? -1 : 0;
}

static int case_teardown(void **state)
{
	struct run *run = *state;
	struct env *env = &run->env;
	bool good = true;
	unsigned i;

	if (cleanup)
		cleanup();
	for (i = 0; i < env->ndevices; i++)
		good &= ref_destroy(env->devices[i]);
	umm_ctx_put(env->ctx);
	for (i = 0; i < env->nmappings; i++)
		if (env->mappings[i].len)
			munmap(env->mappings[i].addr, env->mappings[i].len);
	watchdog_disarm();
	return good ? 0 : -1;
}

static void case_run(void **state)
{
	struct run *run = *state;
	struct umm_probe_info info = { .size = sizeof(info) };

	if (run->refused) {
		umm_probe(&info);
		env_skip("userfaultfd: %s: %s", umm_strerror(run->refused), info.advice);
	}
	touch_signals_take();
	run->test->fn(&run->env);
}

void harness_cleanup(void (*fn)(void))
{
	cleanup = fn;
}

void harness_skip_note(const char *format, ...)
{
	va_list args;

	nskipped++;
	printf("SKIP ");
	va_start(args, format);
	vprintf(format, args);
	va_end(args);
	printf("\n");
	fflush(stdout);
}

static bool matrix_has(enum matrix matrix, const struct variant *v)
{
	bool first = v->type == UMM_DEVMEM_PRIVATE && v->inline_copy;
	bool user_mode = !variant_has_syscalls(v);

	switch (matrix) {
	case MATRIX_ONCE:
		return first && !v->features_off && !v->ctx_flags;
	case MATRIX_KERNEL:
		return first;
	case MATRIX_PRIVATE:
		return v->type == UMM_DEVMEM_PRIVATE;
	case MATRIX_COHERENT:
		return v->type == UMM_DEVMEM_COHERENT;
	case MATRIX_COHERENT_ONCE:
		return v->type == UMM_DEVMEM_COHERENT && v->inline_copy && !v->features_off &&
		       !v->ctx_flags;
	case MATRIX_ASYNC:
		return !v->inline_copy;
	case MATRIX_ASYNC_PRIVATE:
		return !v->inline_copy && v->type == UMM_DEVMEM_PRIVATE;
	case MATRIX_SYSCALLS:
		return !user_mode;
	case MATRIX_USER_MODE:
		return user_mode && v->type == UMM_DEVMEM_PRIVATE;
	case MATRIX_ALL:
		return true;
	}
	return false;
}

/*
 * Sets of features that change less than how pages move: with each memory and each way of copying
 * once, not with every pair of these.
 */
static bool is_pair_enough(const struct variant *v)
{
	return v->features_off && v->features_off != UMM_KERNEL_MOVE &&
	       (v->type == UMM_DEVMEM_PRIVATE) != v->inline_copy;
}

/* Variant number n of all there are; false past the end. */
static bool variant_of(size_t n, struct variant *v, const char **kernel)
{
	if (n >= 4 * NKERNELS)
		return false;
	v->type = n / NKERNELS % 2 ? UMM_DEVMEM_COHERENT : UMM_DEVMEM_PRIVATE;
	v->inline_copy = n / NKERNELS / 2 == 0;
	v->features_off = kernels[n % NKERNELS].off;
	v->ctx_flags = kernels[n % NKERNELS].ctx_flags;
	*kernel = kernels[n % NKERNELS].name;
	return true;
}

static void run_name(struct run *run, const char *kernel)
{
	const char *memory = run->env.variant.type == UMM_DEVMEM_PRIVATE ? "private" : "coherent";
	const char *copies = run->env.variant.inline_copy ? "inline" : "async";

	if (run->test->matrix == MATRIX_ONCE)
		snprintf(run->name, sizeof(run->name), "%s", run->test->name);
	else if (run->test->matrix == MATRIX_KERNEL)
		snprintf(run->name, sizeof(run->name), "%s/%s", run->test->name, kernel);
	else
		snprintf(run->name, sizeof(run->name), "%s/%s/%s/%s", run->test->name, memory,
			 copies, kernel);
}

/* Is the name in the list, whose entries commas part? */
static bool listed(const char *list, const char *name)
{
	size_t len = strlen(name);

	while (list) {
		if (strncmp(list, name, len) == 0 && (list[len] == ',' || !list[len]))
			return true;
		list = strchr(list, ',');
		if (list)
			list++;
	}
	return false;
}

/* Fill in the runs of the cases that match the pattern; returns how many. */
static size_t runs_make(const struct test_case *cases, size_t ncases, const char *pattern,
			struct run *runs, struct CMUnitTest *tests)
{
	const char *kernel, *only = getenv("UMM_TEST_KERNEL"), *copies = getenv("UMM_TEST_COPIES");
	bool async_only = copies && strcmp(copies, "async") == 0;
	size_t i, n, nruns = 0;

	for (i = 0; i < ncases; i++) {
		struct run *run = &runs[nruns];
		enum matrix matrix = cases[i].matrix;
		bool any = matrix == MATRIX_ALL || matrix == MATRIX_PRIVATE;

		for (n = 0; variant_of(n, &run->env.variant, &kernel); n++) {
			run->test = &cases[i];
			if (!matrix_has(matrix, &run->env.variant) ||
			    (any && is_pair_enough(&run->env.variant)) ||
			    (private_only && run->env.variant.type != UMM_DEVMEM_PRIVATE) ||
			    (any && async_only && run->env.variant.inline_copy) ||
			    (only && !listed(only, kernel)))
				continue;
			run_name(run, kernel);
			if (pattern && fnmatch(pattern, run->name, 0) != 0)
				continue;
			tests[nruns] = (struct CMUnitTest){
				.name = run->name,
				.test_func = case_run,
				.setup_func = case_setup,
				.teardown_func = case_teardown,
				.initial_state = run,
			};
			run = &runs[++nruns];
		}
	}
	return nruns;
}

static bool backend_use(void)
{
#ifdef HARNESS_NUMA
	if (ref_numa_use())
		return true;
#endif
#ifdef HARNESS_OPENCL
	private_only = ref_opencl_use();
#endif
	return private_only;
}

int harness_backend(const char *group)
{
	const char *name = getenv("UMM_TEST_BACKEND");

	if (name && !backend_use()) {
		fprintf(stderr, "%s: there is no backend %s\n", group, name);
		return 1;
	}
#ifdef HARNESS_OPENCL
	if (private_only && ref_opencl_missing()) {
		printf("SKIP there is no OpenCL device named %s\n", getenv("UMM_TEST_OPENCL"));
		return EXIT_SKIPPED;
	}
#endif
	return 0;
}

bool harness_is_llvmpipe(void)
{
	const char *name = getenv("UMM_TEST_OPENCL");

	return private_only && name && strcmp(name, "llvmpipe") == 0;
}

int harness_main(const char *group, const struct test_case *cases, size_t ncases, int argc,
		 char **argv)
{
	size_t most = ncases * 4 * NKERNELS + 1, nruns, i;
	struct run *runs = calloc(most, sizeof(*runs));
	struct CMUnitTest *tests = calloc(most, sizeof(*tests));
	int failed;
	bool list;

	setvbuf(stdout, NULL, _IOLBF, 0);
	failed = harness_backend(group);
	if (failed)
		goto out;
	failed = 1;
	if (!runs || !tests || watchdog_start()) {
		fprintf(stderr, "%s: no memory or no thread for the tests\n", group);
		goto out;
	}
	list = argc > 1 && strcmp(argv[1], "--list") == 0;
	nruns = runs_make(cases, ncases, argc > 1 && !list ? argv[1] : NULL, runs, tests);
	if (list) {
		for (i = 0; i < nruns; i++)
			printf("%s\n", runs[i].name);
		failed = 0;
		goto out;
	}
	if (nruns == 0) {
		fprintf(stderr, "%s: no test is named like %s\n", group, argv[1]);
		goto out;
	}
	failed = _cmocka_run_group_tests(group, tests, nruns, NULL, NULL);
	if (!failed && nskipped == nruns)
		failed = EXIT_SKIPPED;
out:
	free(runs);
	free(tests);
	return failed;
}
