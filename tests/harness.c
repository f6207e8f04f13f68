/* SPDX-License-Identifier: MIT */
/*
 * The tests' common ground: cases by variants, environments, data, threads, children.
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

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <fnmatch.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define EXIT_SKIPPED	77
#define CHILD_SECONDS	40
#define SLEEPING_CHECKS 30
#define SETTLED_CHECKS	5
#define SETTLE_MS	1000

struct run {
	const struct test_case *test;
	struct env env;
	int refused; /* why there is no context, as -errno */
	char name[160];
};

static const struct {
	uint64_t off;
	const char *name;
} kernels[] = {
	{ 0, "all" },
	{ UMM_KERNEL_MOVE, "no-move" },
	{ UMM_KERNEL_POISON, "no-poison" },
	{ UMM_KERNEL_PAGEMAP_SCAN | UMM_KERNEL_PROCMAP_QUERY, "no-scan" },
	{ UMM_KERNEL_SYSCALL_FAULTS, "user-mode" },
};

#define NKERNELS (sizeof(kernels) / sizeof(kernels[0]))

static unsigned nskipped;
static void (*cleanup)(void);

/* ---- signals of a touch ------------------------------------------------------------- */

static _Thread_local sigjmp_buf *volatile touch_escape;
static struct sigaction touch_before_bus, touch_before_segv;

static void touch_signal(int number, siginfo_t *info, void *context)
{
	(void)info;
	(void)context;
	if (touch_escape)
		siglongjmp(*touch_escape, number);
	/* Not ours: the access is repeated, and whoever was there before us hears of it. */
	sigaction(number, number == SIGBUS ? &touch_before_bus : &touch_before_segv, NULL);
}

static void touch_signals_take(void)
{
	struct sigaction action = { .sa_sigaction = touch_signal, .sa_flags = SA_SIGINFO };

	sigemptyset(&action.sa_mask);
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

/* ---- environments ------------------------------------------------------------------- */

/* A test may hold one server and needs another one then, also where there is one CPU. */
static unsigned fault_servers(void)
{
	cpu_set_t cpus;

	return sched_getaffinity(0, sizeof(cpus), &cpus) || CPU_COUNT(&cpus) > 1 ? 0 : 2;
}

static int case_setup(void **state)
{
	struct run *run = *state;
	struct umm_ctx_options options = {
		.size = sizeof(options),
		.kernel_features_off = run->env.variant.features_off,
		.fault_servers = fault_servers(),
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
	bool user_mode = v->features_off & UMM_KERNEL_SYSCALL_FAULTS;

	switch (matrix) {
	case MATRIX_ONCE:
		return first && !v->features_off;
	case MATRIX_KERNEL:
		return first;
	case MATRIX_PRIVATE:
		return v->type == UMM_DEVMEM_PRIVATE;
	case MATRIX_COHERENT:
		return v->type == UMM_DEVMEM_COHERENT;
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

/* Variant number n of all there are; false past the end. */
static bool variant_of(size_t n, struct variant *v, const char **kernel)
{
	if (n >= 4 * NKERNELS)
		return false;
	v->type = n / NKERNELS % 2 ? UMM_DEVMEM_COHERENT : UMM_DEVMEM_PRIVATE;
	v->inline_copy = n / NKERNELS / 2 == 0;
	v->features_off = kernels[n % NKERNELS].off;
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
	const char *kernel, *only = getenv("UMM_TEST_KERNEL");
	size_t i, n, nruns = 0;

	for (i = 0; i < ncases; i++) {
		struct run *run = &runs[nruns];

		for (n = 0; variant_of(n, &run->env.variant, &kernel); n++) {
			run->test = &cases[i];
			if (!matrix_has(cases[i].matrix, &run->env.variant) ||
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

/* What the environment asks for: a real backend below the reference device. */
static bool backend_use(void)
{
#ifdef HARNESS_NUMA
	return ref_numa_use();
#else
	return false;
#endif
}

int harness_main(const char *group, const struct test_case *cases, size_t ncases, int argc,
		 char **argv)
{
	size_t most = ncases * 4 * NKERNELS + 1, nruns, i;
	struct run *runs = calloc(most, sizeof(*runs));
	struct CMUnitTest *tests = calloc(most, sizeof(*tests));
	int failed = 1;
	bool list;

	setvbuf(stdout, NULL, _IOLBF, 0);
	if (getenv("UMM_TEST_BACKEND") && !backend_use()) {
		fprintf(stderr, "%s: there is no backend %s\n", group, getenv("UMM_TEST_BACKEND"));
		goto out;
	}
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

struct ref_device *env_device_with(struct env *env, struct ref_options options)
{
	struct ref_device *ref;

	assert_in_range(env->ndevices, 0, MAX_DEVICES - 1);
	options.type = env->variant.type;
	options.inline_copy = env->variant.inline_copy;
	if (env->variant.features_off & UMM_KERNEL_SYSCALL_FAULTS)
		options.touch = touch_read;
	assert_int_equal(ref_create(env->ctx, &options, &ref), 0);
	env->devices[env->ndevices++] = ref;
	return ref;
}

struct ref_device *env_device(struct env *env, uint32_t nframes)
{
	return env_device_with(env, (struct ref_options){ .nframes = nframes });
}

void env_device_gone(struct env *env, struct ref_device *ref)
{
	unsigned i;

	for (i = 0; i < env->ndevices; i++)
		if (env->devices[i] == ref)
			env->devices[i] = NULL;
	assert_true(ref_destroy(ref));
}

void env_close(struct env *env)
{
	struct umm_ctx *ctx = env->ctx;

	env->ctx = NULL;
	umm_ctx_put(ctx);
}

/* What fits into one block lies in one: so one device access concerns all of it. */
static char *alloc_in_block(struct env *env, size_t len, uint64_t flags)
{
	void *addr, *next, *crossing = NULL;

	assert_int_equal(umm_alloc(env->ctx, len, flags, &addr), 0);
	/* Those that do not are kept, in a list through their first words, or they come again. */
	while (len <= BLOCK && (uintptr_t)addr / BLOCK != ((uintptr_t)addr + len - 1) / BLOCK) {
		*(void **)addr = crossing;
		crossing = addr;
		assert_int_equal(umm_alloc(env->ctx, len, flags, &addr), 0);
	}
	for (; crossing; crossing = next) {
		next = *(void **)crossing;
		umm_free(env->ctx, crossing);
	}
	return addr;
}

char *env_alloc(struct env *env, size_t len)
{
	return alloc_in_block(env, len, 0);
}

char *env_alloc_small(struct env *env, size_t len)
{
	return alloc_in_block(env, len, UMM_ALLOC_SMALL_PAGES);
}

/* Remember it; somebody else may get these addresses once they are unmapped. */
static void mapping_add(struct env *env, char *addr, size_t len)
{
	assert_in_range(env->nmappings, 0, MAX_MAPPINGS - 1);
	env->mappings[env->nmappings].addr = addr;
	env->mappings[env->nmappings].len = len;
	env->nmappings++;
}

char *env_map(struct env *env, size_t len)
{
	size_t all = len + BLOCK;
	char *map, *start;

	map = mmap(NULL, all, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	assert_ptr_not_equal(map, MAP_FAILED);
	start = map + (BLOCK - (uintptr_t)map % BLOCK) % BLOCK;
	/* Alone: what comes before and after must not merge with it. */
	if (start > map)
		munmap(map, (size_t)(start - map));
	if (map + all > start + len)
		munmap(start + len, (size_t)(map + all - (start + len)));
	madvise(start, len, MADV_NOHUGEPAGE);
	mapping_add(env, start, len);
	return start;
}

void env_forget(struct env *env, void *addr, size_t len)
{
	char *from = addr, *to = from + len;
	unsigned i, n = env->nmappings;

	for (i = 0; i < n; i++) {
		struct mapping m = env->mappings[i];

		if (m.addr >= to || m.addr + m.len <= from)
			continue;
		env->mappings[i].len = 0;
		if (m.addr < from)
			mapping_add(env, m.addr, (size_t)(from - m.addr));
		if (m.addr + m.len > to)
			mapping_add(env, to, (size_t)(m.addr + m.len - to));
	}
}

void env_unmap(struct env *env, void *addr, size_t len)
{
	assert_int_equal(munmap(addr, len), 0);
	env_forget(env, addr, len);
}

char *env_attach(struct env *env, size_t len)
{
	char *addr = env_map(env, len);

	assert_int_equal(umm_attach(env->ctx, addr, len), 0);
	return addr;
}

void env_mark(struct env *env)
{
	env->mark.size = sizeof(env->mark);
	assert_int_equal(umm_ctx_stats(env->ctx, &env->mark), 0);
}

uint64_t env_delta(struct env *env, unsigned counter)
{
	struct umm_stats now = { .size = sizeof(now) };

	assert_int_equal(umm_ctx_stats(env->ctx, &now), 0);
	return now.counter[counter] - env->mark.counter[counter];
}

uint64_t env_delta_causes(struct env *env, unsigned first)
{
	uint64_t sum = 0;
	unsigned i;

	for (i = 0; i < UMM_NR_CAUSES; i++)
		sum += env_delta(env, first + i);
	return sum;
}

void assert_delta(struct env *env, unsigned counter, uint64_t n)
{
	uint64_t until = harness_now_ms() + PATIENCE_MS, delta;

	while ((delta = env_delta(env, counter)) < n && harness_now_ms() < until)
		harness_yield();
	if (delta != n)
		fail_msg("%s grew by %llu, not by %llu", umm_counter_name(counter),
			 (unsigned long long)delta, (unsigned long long)n);
}

void assert_free_frames(struct ref_device *ref, uint32_t n)
{
	uint64_t until = harness_now_ms() + PATIENCE_MS;

	while (umm_devmem_nfree(ref->mem) < n && harness_now_ms() < until)
		harness_yield();
	assert_int_equal(umm_devmem_nfree(ref->mem), n);
}

enum umm_page_state env_home(const struct env *env)
{
	return env->variant.type == UMM_DEVMEM_PRIVATE ? UMM_PAGE_DEVICE : UMM_PAGE_COHERENT;
}

size_t count_state(struct env *env, const void *addr, size_t npages, enum umm_page_state state)
{
	struct umm_page_info info[64];
	size_t i, n, count = 0;

	for (i = 0; i < npages; i += n) {
		n = npages - i < 64 ? npages - i : 64;
		assert_int_equal(umm_query(env->ctx, (uintptr_t)addr + i * PAGE, n, info), 0);
		for (size_t j = 0; j < n; j++)
			count += info[j].state == state;
	}
	return count;
}

enum umm_page_state state_of(struct env *env, const void *addr)
{
	struct umm_page_info info;

	assert_int_equal(umm_query(env->ctx, (uintptr_t)addr, 1, &info), 0);
	return info.state;
}

void assert_state(struct env *env, const void *addr, size_t npages, enum umm_page_state state)
{
	enum umm_page_state is;
	size_t i;

	if (count_state(env, addr, npages, state) == npages)
		return;
	for (i = 0; i < npages; i++) {
		is = state_of(env, (const char *)addr + i * PAGE);
		if (is != state)
			fail_msg("page %zu of %zu is in state %d, not %d", i, npages, (int)is,
				 (int)state);
	}
}

/* ---- data --------------------------------------------------------------------------- */

static uint64_t fill_word(size_t page, size_t word, unsigned seed)
{
	return (seed + UINT64_C(1)) * UINT64_C(0x9e3779b97f4a7c15) ^
	       (page * 512 + word + 1) * UINT64_C(0xc2b2ae3d27d4eb4f);
}

void page_fill(void *page, size_t i, unsigned seed)
{
	uint64_t *words = page;

	for (size_t w = 0; w < PAGE / sizeof(*words); w++)
		words[w] = fill_word(i, w, seed);
}

bool page_filled(const void *page, size_t i, unsigned seed)
{
	const uint64_t *words = page;

	for (size_t w = 0; w < PAGE / sizeof(*words); w++)
		if (words[w] != fill_word(i, w, seed))
			return false;
	return true;
}

bool page_zero(const void *page)
{
	const uint64_t *words = page;

	for (size_t w = 0; w < PAGE / sizeof(*words); w++)
		if (words[w])
			return false;
	return true;
}

bool filled_at(const void *base, size_t i, unsigned seed)
{
	return page_filled((const char *)base + i * PAGE, i, seed);
}

void fill(void *addr, size_t npages, unsigned seed)
{
	for (size_t i = 0; i < npages; i++)
		page_fill((char *)addr + i * PAGE, i, seed);
}

void assert_filled_part(const void *base, size_t first, size_t npages, unsigned seed)
{
	for (size_t i = first; i < first + npages; i++)
		if (!filled_at(base, i, seed))
			fail_msg("page %zu has lost its data; it starts with %#llx", i,
				 *(const unsigned long long *)((const char *)base + i * PAGE));
}

void assert_filled(const void *addr, size_t npages, unsigned seed)
{
	assert_filled_part(addr, 0, npages, seed);
}

void assert_zero(const void *addr, size_t npages)
{
	for (size_t i = 0; i < npages; i++)
		if (!page_zero((const char *)addr + i * PAGE))
			fail_msg("page %zu is not zero; it starts with %#llx", i,
				 *(const unsigned long long *)((const char *)addr + i * PAGE));
}

void device_fill(struct ref_device *ref, void *addr, size_t npages, unsigned seed)
{
	uint64_t page[PAGE / sizeof(uint64_t)];

	for (size_t i = 0; i < npages; i++) {
		page_fill(page, i, seed);
		assert_int_equal(ref_write(ref, (uintptr_t)addr + i * PAGE, page, PAGE), 0);
	}
}

void assert_device_sees(struct ref_device *ref, const void *addr, size_t npages, unsigned seed)
{
	uint64_t page[PAGE / sizeof(uint64_t)];

	for (size_t i = 0; i < npages; i++) {
		assert_int_equal(ref_read(ref, (uintptr_t)addr + i * PAGE, page, PAGE), 0);
		if (!page_filled(page, i, seed))
			fail_msg("the device reads something else in page %zu", i);
	}
}

void assert_device_sees_zero(struct ref_device *ref, const void *addr, size_t npages)
{
	uint64_t page[PAGE / sizeof(uint64_t)];

	for (size_t i = 0; i < npages; i++) {
		assert_int_equal(ref_read(ref, (uintptr_t)addr + i * PAGE, page, PAGE), 0);
		if (!page_zero(page))
			fail_msg("the device reads no zeroes in page %zu", i);
	}
}

void to_device(struct env *env, struct ref_device *ref, void *addr, size_t npages, long moved)
{
	assert_int_equal(umm_migrate_to_device(env->ctx, ref->mem, addr, npages * PAGE), moved);
}

void to_system(struct env *env, void *addr, size_t npages, long moved)
{
	assert_int_equal(umm_migrate_to_system(env->ctx, addr, npages * PAGE), moved);
}

long migrate(struct env *env, struct ref_device *ref, void *addr, size_t npages, uint64_t flags)
{
	struct umm_span span = { .start = (uintptr_t)addr, .len = npages * PAGE };
	struct umm_migrate_request req = {
		.size = sizeof(req),
		.flags = flags,
		.spans = &span,
		.nspans = 1,
		.dst = ref ? ref->mem : NULL,
	};

	return umm_migrate_spans(env->ctx, &req, NULL);
}

struct umm_fence *migrate_start(struct env *env, struct ref_device *ref, void *addr, size_t npages)
{
	struct umm_span span = { .start = (uintptr_t)addr, .len = npages * PAGE };
	struct umm_migrate_request req = {
		.size = sizeof(req),
		.spans = &span,
		.nspans = 1,
		.dst = ref ? ref->mem : NULL,
	};
	struct umm_fence *fence = NULL;

	assert_int_equal(umm_migrate_spans(env->ctx, &req, &fence), 0);
	assert_non_null(fence);
	return fence;
}

bool cpu_maps(const void *addr)
{
	int fd = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
	uint64_t entry = 0;
	ssize_t n = -1;

	if (fd >= 0) {
		n = pread(fd, &entry, sizeof(entry), (off_t)((uintptr_t)addr / PAGE * 8));
		close(fd);
	}
	return n == (ssize_t)sizeof(entry) && entry >> 63;
}

/* ---- threads ------------------------------------------------------------------------ */

uint64_t harness_now_ms(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000 + (uint64_t)ts.tv_nsec / 1000000;
}

void harness_yield(void)
{
	struct timespec ts = { .tv_nsec = 200000 };

	nanosleep(&ts, NULL);
}

static void *actor_main(void *arg)
{
	struct actor *actor = arg;

	atomic_store(&actor->tid, (int)syscall(SYS_gettid));
	actor->fn(actor->arg);
	atomic_store(&actor->done, true);
	return NULL;
}

void actor_start(struct actor *actor, void (*fn)(void *arg), void *arg)
{
	actor->fn = fn;
	actor->arg = arg;
	atomic_store(&actor->tid, 0);
	atomic_store(&actor->done, false);
	assert_int_equal(pthread_create(&actor->thread, NULL, actor_main, actor), 0);
}

static bool thread_sleeps(int tid)
{
	char path[64], line[512], *end;
	ssize_t n;
	int fd;

	snprintf(path, sizeof(path), "/proc/self/task/%d/stat", tid);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return false;
	n = read(fd, line, sizeof(line) - 1);
	close(fd);
	line[n > 0 ? n : 0] = '\0';
	end = strrchr(line, ')');
	return end && (end[2] == 'S' || end[2] == 'D');
}

/* Does every thread of the process sleep, but this one? */
static bool others_sleep(void)
{
	DIR *dir = opendir("/proc/self/task");
	int me = (int)syscall(SYS_gettid), tid;
	struct dirent *entry;
	bool all = dir;

	while (all && (entry = readdir(dir))) {
		tid = atoi(entry->d_name);
		all = tid <= 0 || tid == me || thread_sleeps(tid);
	}
	if (dir)
		closedir(dir);
	return all;
}

bool actor_blocks(struct actor *actor)
{
	uint64_t patient = harness_now_ms() + SETTLE_MS;
	unsigned seen = 0;

	/*
	 * Asleep many times in a row: a lock that is taken for a moment does not count. Nor does
	 * one whose holder waits for a CPU: then not everybody sleeps. Some tests have threads
	 * that are always busy, so patience ends.
	 */
	while (!atomic_load(&actor->done) && seen < SLEEPING_CHECKS) {
		if (!thread_sleeps(atomic_load(&actor->tid)))
			seen = 0;
		else if (others_sleep() || harness_now_ms() > patient)
			seen++;
		harness_yield();
	}
	return !atomic_load(&actor->done);
}

void actor_join(struct actor *actor)
{
	pthread_join(actor->thread, NULL);
}

void stop_init(struct stop *stop)
{
	pthread_condattr_t attr;

	memset(stop, 0, sizeof(*stop));
	pthread_mutex_init(&stop->lock, NULL);
	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(&stop->cond, &attr);
	pthread_condattr_destroy(&attr);
}

void stop_here(struct stop *stop)
{
	pthread_mutex_lock(&stop->lock);
	stop->arrived = true;
	pthread_cond_broadcast(&stop->cond);
	while (!stop->go)
		pthread_cond_wait(&stop->cond, &stop->lock);
	pthread_mutex_unlock(&stop->lock);
}

bool stop_arrived(struct stop *stop)
{
	struct timespec until;
	bool arrived;
	int ret = 0;

	clock_gettime(CLOCK_MONOTONIC, &until);
	until.tv_sec += PATIENCE_MS / 1000;
	pthread_mutex_lock(&stop->lock);
	while (!stop->arrived && ret == 0)
		ret = pthread_cond_timedwait(&stop->cond, &stop->lock, &until);
	arrived = stop->arrived;
	pthread_mutex_unlock(&stop->lock);
	return arrived;
}

void stop_go(struct stop *stop)
{
	pthread_mutex_lock(&stop->lock);
	stop->go = true;
	pthread_cond_broadcast(&stop->cond);
	pthread_mutex_unlock(&stop->lock);
}

/* ---- children ----------------------------------------------------------------------- */

void child_fail(const char *file, int line, const char *what)
{
	char text[512];
	int n = snprintf(text, sizeof(text), "in a child, %s:%d: not so: %s\n", file, line, what);

	if (write(STDERR_FILENO, text, (size_t)n) < 0)
		_exit(2);
	_exit(1);
}

/* What the threads hold that a fork left behind looks like leaks in the child. */
static bool is_child;

/* LeakSanitizer asks. */
__attribute__((visibility("default"))) int __lsan_is_turned_off(void);
int __lsan_is_turned_off(void)
{
	return is_child;
}

/*
 * AddressSanitizer's malloc() does not survive a fork() in the middle of another thread's: the
 * lock stays taken in the child, for ever. Threads call it when they start, also those that
 * libumm started for a context a moment ago. So let them start first; those of a test that are
 * busy by intention are waited for in vain, and their tests call no malloc() in the child.
 */
static void let_threads_start(void)
{
	uint64_t until = harness_now_ms() + SETTLE_MS;
	unsigned seen = 0;

	while (seen < SETTLED_CHECKS && harness_now_ms() < until) {
		seen = others_sleep() ? seen + 1 : 0;
		harness_yield();
	}
}

int child_fork(void (*fn)(void *arg), void *arg)
{
	int pid;

	if (HARNESS_ASAN)
		let_threads_start();
	fflush(stdout);
	fflush(stderr);
	pid = fork();
	if (pid == 0) {
		is_child = true;
		alarm(CHILD_SECONDS);
		fn(arg);
		_exit(0);
	}
	return pid;
}

bool child_wait(int pid)
{
	int status;

	if (pid < 0 || waitpid(pid, &status, 0) != pid) {
		fprintf(stderr, "no child: %s\n", strerror(errno));
		return false;
	}
	if (WIFSIGNALED(status))
		fprintf(stderr, "the child was ended by signal %d%s\n", WTERMSIG(status),
			WTERMSIG(status) == SIGALRM ? ": it hung" : "");
	else if (WEXITSTATUS(status))
		fprintf(stderr, "the child exited with %d\n", WEXITSTATUS(status));
	return WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

bool in_child(void (*fn)(void *arg), void *arg)
{
	return child_wait(child_fork(fn, arg));
}
