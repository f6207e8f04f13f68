/* SPDX-License-Identifier: MIT */
/*
 * Everything at once: movers carry pages among the nodes and home while writers store whole
 * pages and readers check them, while allocations come and go and the process forks. Every
 * page knows its contents by one number, kept outside of managed memory.
 *
 * A page's number and contents change under its lock, and under one that the forker takes for
 * itself, so that its child sees whole pages. It ends when everybody has done enough, and
 * UMM_STRESS_SECONDS have passed if that is set; a bound on time only catches what hangs.
 * UMM_STRESS_SEED makes other choices.
 */
#include "rig.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define NPAGES	    1536
#define PASSING	    64 /* pages of an allocation that comes and goes */
#define MAX_DEVICES 4
#define ENOUGH	    30 /* rounds of everybody */
#define MOST_MS	    120000

enum { MOVER_A, MOVER_B, WRITER, READER, PASSER, FORKER, NACTORS };

static struct {
	struct umm_ctx *ctx;
	struct umm_numa *numa[MAX_DEVICES];
	unsigned ndevices;
	char *base;
	_Atomic(char *) passing; /* what comes and goes, for movers to find */
	pthread_rwlock_t world;	 /* shared by who uses pages; the forker has it alone */
	pthread_mutex_t lock[NPAGES];
	unsigned seed[NPAGES]; /* under the page's lock */
	atomic_uint rounds[NACTORS], wrong, moved, unmapped;
	atomic_bool stop;
} soak;

static void wrong(const char *what, long value)
{
	atomic_fetch_add(&soak.wrong, 1);
	fprintf(stderr, "%s: %ld\n", what, value);
}

static unsigned next_random(unsigned *state)
{
	*state = *state * 1664525u + 1013904223u;
	return *state >> 8;
}

static void move_some(unsigned *random)
{
	unsigned first = next_random(random) % NPAGES, n = next_random(random) % 256 + 1;
	unsigned to = next_random(random) % (soak.ndevices + 1);
	char *at = soak.base + first * PAGE, *passing = atomic_load(&soak.passing);
	long ret;

	if (n > NPAGES - first)
		n = NPAGES - first;
	if (passing && next_random(random) % 4 == 0) {
		at = passing;
		n = PASSING;
	}
	if (to == soak.ndevices)
		ret = umm_migrate_to_system(soak.ctx, at, n * PAGE);
	else
		ret = umm_migrate_to_device(soak.ctx, umm_numa_devmem(soak.numa[to]), at, n * PAGE);
	if (ret > 0)
		atomic_fetch_add(&soak.moved, (unsigned)ret);
	/* What passes may be gone, or the memory full. */
	else if (ret != 0 && ret != -EFAULT && ret != -ENOSPC)
		wrong("a migration", ret);
}

static void write_one(unsigned *random)
{
	unsigned i = next_random(random) % NPAGES;

	pthread_rwlock_rdlock(&soak.world);
	pthread_mutex_lock(&soak.lock[i]);
	soak.seed[i] = next_random(random) & 0xffff;
	fill(soak.base + i * PAGE, 1, soak.seed[i]);
	pthread_mutex_unlock(&soak.lock[i]);
	pthread_rwlock_unlock(&soak.world);
}

static void read_one(unsigned *random)
{
	unsigned i = next_random(random) % NPAGES;

	pthread_rwlock_rdlock(&soak.world);
	pthread_mutex_lock(&soak.lock[i]);
	if (!page_is_filled(soak.base + i * PAGE, 0, soak.seed[i]))
		wrong("the data of page", (long)i);
	pthread_mutex_unlock(&soak.lock[i]);
	pthread_rwlock_unlock(&soak.world);
}

/*
 * The middle of an allocation that has been on a device goes before the rest. (Of memory that no
 * device has used the kernel would tell nobody.)
 */
static void unmap_middle(char *memory, unsigned seed)
{
	struct umm_devmem *mem = umm_numa_devmem(soak.numa[seed % soak.ndevices]);

	if (umm_migrate_to_device(soak.ctx, mem, memory, PASSING * PAGE) != PASSING)
		return;
	if (munmap(memory + PASSING / 4 * PAGE, PASSING / 2 * PAGE))
		wrong("unmapping", -errno);
	atomic_fetch_add(&soak.unmapped, 1);
	for (unsigned i = PASSING - PASSING / 4; i < PASSING; i++)
		if (!page_is_filled(memory + i * PAGE, i, seed))
			wrong("the data of a page whose neighbours are gone", (long)i);
}

static void pass(unsigned *random)
{
	unsigned seed = next_random(random) & 0xffff;
	void *memory;

	long ret = umm_alloc(soak.ctx, PASSING * PAGE, 0, &memory);

	if (ret) {
		wrong("an allocation", ret);
		return;
	}
	fill(memory, PASSING, seed);
	atomic_store(&soak.passing, memory);
	for (unsigned k = 0; k < 20; k++)
		for (unsigned i = 0; i < PASSING; i++)
			if (!page_is_filled((char *)memory + i * PAGE, i, seed))
				wrong("the data of a passing page", (long)i);
	if (seed % 2)
		unmap_middle(memory, seed);
	atomic_store(&soak.passing, NULL);
	ret = umm_free(soak.ctx, memory);
	if (ret)
		wrong("freeing", ret);
}

static void fork_one(unsigned *random)
{
	int status = -1;
	pid_t pid;

	(void)random;
	pthread_rwlock_wrlock(&soak.world);
	pid = fork();
	if (!pid) {
		for (unsigned i = 0; i < NPAGES; i++) {
			if (!page_is_filled(soak.base + i * PAGE, 0, soak.seed[i]))
				_exit(1);
			memset(soak.base + i * PAGE, 0xff, PAGE);
		}
		_exit(0);
	}
	pthread_rwlock_unlock(&soak.world);
	if (pid < 0 || waitpid(pid, &status, 0) != pid || status)
		wrong("a child", status);
}

static void (*const rounds[NACTORS])(unsigned *random) = {
	[MOVER_A] = move_some, [MOVER_B] = move_some, [WRITER] = write_one,
	[READER] = read_one,   [PASSER] = pass,	      [FORKER] = fork_one,
};

static unsigned long wanted(const char *name)
{
	const char *text = getenv(name);

	return text ? strtoul(text, NULL, 10) : 0;
}

static time_t now_s(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec;
}

static void *actor_main(void *arg)
{
	size_t actor = (size_t)arg;
	unsigned random = (unsigned)actor * 7919 + 1 + (unsigned)wanted("UMM_STRESS_SEED");

	while (!atomic_load(&soak.stop)) {
		rounds[actor](&random);
		atomic_fetch_add(&soak.rounds[actor], 1);
	}
	return NULL;
}

static bool everybody_has_done(unsigned n)
{
	for (unsigned i = 0; i < NACTORS; i++)
		if (atomic_load(&soak.rounds[i]) < n)
			return false;
	return true;
}

/* COHERENT and PRIVATE devices in turn, on all nodes but the fastest; two where there is one. */
static void devices_create(const struct rig_nodes *nodes, bool private)
{
	struct umm_numa_options options = { .size = sizeof(options), .bytes = 2 * BLOCK };
	unsigned n = nodes->count > 1 ? nodes->count : 2;

	for (unsigned i = 0; i < n && soak.ndevices < MAX_DEVICES; i++) {
		options.node = nodes->info[(nodes->count - 1 + i) % nodes->count].node;
		options.flags = private && i % 2 ? UMM_NUMA_PRIVATE : 0;
		assert_int_equal(umm_numa_create(soak.ctx, &options, &soak.numa[soak.ndevices]), 0);
		soak.ndevices++;
	}
}

/* The forker must get its turn. */
static void world_init(void)
{
	pthread_rwlockattr_t attr;

	pthread_rwlockattr_init(&attr);
	pthread_rwlockattr_setkind_np(&attr, PTHREAD_RWLOCK_PREFER_WRITER_NONRECURSIVE_NP);
	pthread_rwlock_init(&soak.world, &attr);
	pthread_rwlockattr_destroy(&attr);
}

static void soak_run(bool private)
{
	time_t until = now_s() + (time_t)wanted("UMM_STRESS_SECONDS");
	struct umm_stats stats = { .size = sizeof(stats) };
	struct rig_nodes nodes = rig_nodes();
	pthread_t threads[NACTORS];
	void *memory;

	memset(&soak, 0, sizeof(soak));
	world_init();
	rig_log_clear();
	assert_int_equal(umm_ctx_create(NULL, &soak.ctx), 0);
	devices_create(&nodes, private);
	assert_int_equal(umm_alloc(soak.ctx, NPAGES * PAGE, 0, &memory), 0);
	soak.base = memory;
	for (unsigned i = 0; i < NPAGES; i++) {
		pthread_mutex_init(&soak.lock[i], NULL);
		fill(soak.base + i * PAGE, 1, 0);
	}
	for (size_t i = 0; i < NACTORS; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, actor_main, (void *)i), 0);
	for (unsigned ms = 0; now_s() < until || (ms < MOST_MS && !everybody_has_done(ENOUGH));
	     ms++)
		rig_sleep_ms();
	atomic_store(&soak.stop, true);
	for (unsigned i = 0; i < NACTORS; i++)
		pthread_join(threads[i], NULL);
	for (unsigned i = 0; i < NPAGES; i++)
		assert_true(page_is_filled(soak.base + i * PAGE, 0, soak.seed[i]));
	assert_int_equal(soak.wrong, 0);
	for (unsigned i = 0; i < NACTORS; i++)
		assert_true(soak.rounds[i] > 0);
	assert_true(soak.moved > 0);
	assert_int_equal(umm_ctx_stats(soak.ctx, &stats), 0);
	assert_int_equal(stats.counter[UMM_COUNT_POISONED], 0);
	if (!private)
		assert_int_equal(stats.counter[UMM_COUNT_FAULT_DEVICE], 0);
	printf("moved %u pages in %u and %u requests; %u stores, %u loads, %u allocations, "
	       "%u of them unmapped in part, %u forks\n",
	       soak.moved, soak.rounds[MOVER_A], soak.rounds[MOVER_B], soak.rounds[WRITER],
	       soak.rounds[READER], soak.rounds[PASSER], soak.unmapped, soak.rounds[FORKER]);
	umm_ctx_put(soak.ctx);
}

static void coherent_pages_survive_everything(void **state)
{
	(void)state;
	soak_run(false);
}

static void coherent_and_private_pages_survive_everything(void **state)
{
	(void)state;
	soak_run(true);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(coherent_pages_survive_everything),
		cmocka_unit_test(coherent_and_private_pages_survive_everything),
	};

	setvbuf(stdout, NULL, _IOLBF, 0);
	return cmocka_run_group_tests_name("numa_soak", tests, NULL, NULL);
}
