/* SPDX-License-Identifier: MIT */
/*
 * Teams and copy threads: which CPUs they have when affinities, cpusets and machines are not what
 * one thinks, and how the threads of a team may end. sched_getaffinity() is this
 * program's own, so that a test can have the kernel of another machine.
 */
#include "rig.h"

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "device.h"

#define NPAGES 1024

/* Kernels of machines with more CPUs refuse sets that are smaller; sandboxes all of them. */
static _Atomic size_t least_len;

int sched_getaffinity(pid_t pid, size_t len, cpu_set_t *set)
{
	long ret;

	if (len < atomic_load(&least_len)) {
		errno = EINVAL;
		return -1;
	}
	ret = syscall(SYS_sched_getaffinity, pid, len, set);
	if (ret < 0)
		return -1;
	memset((char *)set + ret, 0, len - (size_t)ret);
	return 0;
}

static struct umm_numa *create(struct rig *rig)
{
	struct umm_numa_options options = {
		.size = sizeof(options),
		.node = umm_numa_node(rig->numa),
		.bytes = 4 * BLOCK,
	};
	struct umm_numa *numa;

	assert_int_equal(umm_numa_create(rig->ctx, &options, &numa), 0);
	return numa;
}

/* A whole migration there and back, by copy threads. */
static void assert_copies(struct rig *rig, struct umm_numa *numa)
{
	void *p;

	assert_int_equal(umm_alloc(rig->ctx, NPAGES * PAGE, 0, &p), 0);
	fill(p, NPAGES, 1);
	assert_int_equal(umm_migrate_to_device(rig->ctx, umm_numa_devmem(numa), p, NPAGES * PAGE),
			 NPAGES);
	assert_filled(p, NPAGES, 1);
	assert_int_equal(umm_migrate_to_system(rig->ctx, p, NPAGES * PAGE), NPAGES);
	assert_filled(p, NPAGES, 1);
	assert_true(rig_counts(numa).copies_threaded > 0);
	umm_free(rig->ctx, p);
}

struct seen {
	atomic_uint calls;
	struct cpus cpus;
};

static void note_affinity(void *arg, unsigned thread)
{
	struct seen *seen = arg;

	if (!thread)
		syscall(SYS_sched_getaffinity, 0, sizeof(seen->cpus), &seen->cpus);
	atomic_fetch_add(&seen->calls, 1);
}

static void machine_with_more_cpus_than_a_cpu_set_has_copies_and_runs(void **state)
{
	struct rig *rig = *state;
	struct seen seen = { 0 };
	struct umm_numa *numa;

	atomic_store(&least_len, sizeof(cpu_set_t) + 1);
	numa = create(rig);
	assert_int_equal(numa->copier.nthreads, rig->numa->copier.nthreads);
	assert_copies(rig, numa);
	assert_int_equal(umm_numa_run(numa, note_affinity, &seen, 0, NULL), 0);
	assert_int_equal(seen.calls, cpus_count(&numa->near));
	umm_numa_destroy(numa);
	atomic_store(&least_len, 0);
}

static void unknown_affinity_leaves_copy_threads_and_teams(void **state)
{
	struct rig *rig = *state;
	struct seen seen = { 0 };
	struct umm_numa *numa;

	atomic_store(&least_len, SIZE_MAX);
	numa = create(rig);
	assert_true(numa->copier.nthreads > 0);
	assert_copies(rig, numa);
	assert_int_equal(umm_numa_run(numa, note_affinity, &seen, 0, NULL), 0);
	assert_true(seen.calls > 0);
	umm_numa_destroy(numa);
	atomic_store(&least_len, 0);
}

/* A thread that binds itself says nothing of where the process may run. */
static void bound_creator_does_not_bind_copies_and_teams(void **state)
{
	struct rig *rig = *state;
	struct cpus all, one = { 0 };
	struct seen seen = { 0 };
	struct umm_numa *numa;
	unsigned cpu = 0;

	assert_int_equal(sched_getaffinity(0, sizeof(all), all.set), 0);
	if (cpus_count(&all) < 2)
		rig_skip("it takes two CPUs");
	while (!cpus_have(&all, cpu))
		cpu++;
	cpus_add(&one, cpu);
	assert_int_equal(sched_setaffinity(0, sizeof(one), one.set), 0);
	numa = create(rig);
	assert_int_equal(umm_numa_run(numa, note_affinity, &seen, 0, NULL), 0);
	assert_int_equal(sched_setaffinity(0, sizeof(all), all.set), 0);
	assert_memory_equal(&numa->near, &rig->numa->near, sizeof(numa->near));
	assert_memory_equal(&seen.cpus, &rig->numa->near, sizeof(seen.cpus));
	umm_numa_destroy(numa);
}

/* As when the cpuset was changed: none of the CPUs that were near may be used any more. */
static void team_looks_for_cpus_again_when_its_own_are_gone(void **state)
{
	struct rig *rig = *state;
	struct seen seen = { 0 };
	struct cpus near = rig->numa->near;

	rig->numa->near = (struct cpus){ 0 };
	cpus_add(&rig->numa->near, CPUS_MAX - 1);
	assert_int_equal(umm_numa_run(rig->numa, note_affinity, &seen, 0, NULL), 0);
	assert_int_equal(seen.calls, cpus_count(&near));
	assert_memory_equal(&seen.cpus, &near, sizeof(near));
	assert_memory_equal(&rig->numa->near, &near, sizeof(near));
}

static void never(void *arg, unsigned thread)
{
	(void)arg;
	(void)thread;
	fail_msg("a team that was not started ran");
}

static void team_that_cannot_start_says_why(void **state)
{
	struct rig *rig = *state;
	struct rlimit old, none;
	int ret;

	if (RIG_SANITIZED)
		rig_skip("sanitizers end the program where a thread cannot be made");
	rig_log_clear();
	assert_int_equal(getrlimit(RLIMIT_AS, &old), 0);
	none = (struct rlimit){ .rlim_cur = 0, .rlim_max = old.rlim_max };
	/* There are no addresses for stacks, but for a few that were used before. */
	assert_int_equal(setrlimit(RLIMIT_AS, &none), 0);
	ret = umm_numa_run(rig->numa, never, NULL, 100, NULL);
	assert_int_equal(setrlimit(RLIMIT_AS, &old), 0);
	assert_int_equal(ret, -EAGAIN);
	assert_logged("could not be started");
	assert_logged("ulimit -u");
}

static void exit_in_one(void *arg, unsigned thread)
{
	atomic_fetch_add((atomic_uint *)arg, 1);
	if (thread == 1)
		pthread_exit(NULL);
}

static void thread_that_exits_leaves_its_team(void **state)
{
	struct rig *rig = *state;
	struct umm_fence *fence;
	atomic_uint calls = 0;

	assert_int_equal(umm_numa_run(rig->numa, exit_in_one, &calls, 3, &fence), 0);
	assert_int_equal(umm_fence_wait(fence, PATIENCE_MS), 0);
	umm_fence_put(fence);
	assert_int_equal(calls, 3);
}

static _Atomic pthread_t sleeper;

static void sleep_for_ever(void *arg, unsigned thread)
{
	(void)arg;
	(void)thread;
	atomic_store(&sleeper, pthread_self());
	/* Not in a call that ThreadSanitizer wraps: it loses sight of what follows. */
	for (;;) {
		pthread_testcancel();
		sched_yield();
	}
}

static void thread_that_is_cancelled_leaves_its_team(void **state)
{
	struct rig *rig = *state;
	struct umm_fence *fence;

	assert_int_equal(umm_numa_run(rig->numa, sleep_for_ever, NULL, 1, &fence), 0);
	wait_until(atomic_load(&sleeper));
	assert_int_equal(pthread_cancel(atomic_load(&sleeper)), 0);
	assert_int_equal(umm_fence_wait(fence, PATIENCE_MS), 0);
	umm_fence_put(fence);
	/* Destroying waits for teams. */
	umm_numa_destroy(rig->numa);
	rig->numa = NULL;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		RIG_TEST(machine_with_more_cpus_than_a_cpu_set_has_copies_and_runs),
		RIG_TEST(unknown_affinity_leaves_copy_threads_and_teams),
		RIG_TEST(bound_creator_does_not_bind_copies_and_teams),
		RIG_TEST(team_looks_for_cpus_again_when_its_own_are_gone),
		RIG_TEST(team_that_cannot_start_says_why),
		RIG_TEST(thread_that_exits_leaves_its_team),
		RIG_TEST(thread_that_is_cancelled_leaves_its_team),
	};

	return cmocka_run_group_tests_name("numa_team", tests, NULL, NULL);
}
