/* SPDX-License-Identifier: MIT */
/*
 * Locks: they exclude, waiters wake, deadlines pass, and a debug build stops a thread
 * that takes them in the wrong order. What must stop a process is tried in a child.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <fcntl.h>
#include <unistd.h>

#include <cmocka.h>

#include "lock.h"
#include "util.h"

#define NR_THREADS 4
#define NR_ROUNDS  20000

struct shared {
	struct lock lock;
	struct rwlock rwlock;
	pthread_cond_t cond;
	unsigned count;
	unsigned turn;
};

/* Run fn in a child; returns the signal that ended it, or 0. */
static int child_signal(void (*fn)(void))
{
	int status;
	pid_t pid = fork();

	assert_true(pid >= 0);
	if (!pid) {
		const struct rlimit no_core = { 0, 0 };
		int null = open("/dev/null", O_WRONLY | O_CLOEXEC);

		/* cmocka and sanitizers catch signals, and the message is expected. */
		signal(SIGABRT, SIG_DFL);
		setrlimit(RLIMIT_CORE, &no_core);
		dup2(null, STDERR_FILENO);
		fn();
		_exit(0);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	return WIFSIGNALED(status) ? WTERMSIG(status) : 0;
}

static void require_debug_build(void)
{
#ifndef UMM_DEBUG
	print_message("skipped: lock order is checked in debug builds only (UMM_DEBUG)\n");
	skip();
#endif
}

static UMM_NO_ANALYSIS void take_in_order(void)
{
	struct lock locks[RANK_LEAF + 1];

	for (int rank = RANK_GLOBAL; rank <= RANK_LEAF; rank++) {
		lock_init(&locks[rank], (enum lock_rank)rank);
		lock_take(&locks[rank]);
	}
	/* Dropping may come in any order. */
	for (int rank = RANK_GLOBAL; rank <= RANK_LEAF; rank++) {
		lock_drop(&locks[rank]);
		lock_fini(&locks[rank]);
	}
}

static UMM_NO_ANALYSIS void take_upwards(void)
{
	struct lock block, region;

	lock_init(&block, RANK_BLOCK);
	lock_init(&region, RANK_REGION);
	lock_take(&block);
	lock_take(&region);
}

static UMM_NO_ANALYSIS void take_two_of_a_rank(void)
{
	struct lock a, b;

	lock_init(&a, RANK_BLOCK);
	lock_init(&b, RANK_BLOCK);
	lock_take(&a);
	lock_take(&b);
}

static void take_shared_upwards(void)
{
	struct rwlock gate, fork_lock;

	rwlock_init(&gate, RANK_GATE);
	rwlock_init(&fork_lock, RANK_FORK);
	rwlock_take_shared(&gate);
	rwlock_take_shared(&fork_lock);
}

static void take_shared_twice(void)
{
	struct rwlock gate;

	rwlock_init(&gate, RANK_GATE);
	rwlock_take_shared(&gate);
	rwlock_take_shared(&gate);
}

static UMM_NO_ANALYSIS void drop_what_is_not_held(void)
{
	struct lock lock;

	lock_init(&lock, RANK_CTX);
	lock_drop(&lock);
}

static UMM_NO_ANALYSIS void wait_while_holding_deeper(void)
{
	struct lock outer, inner;
	pthread_cond_t cond;

	lock_init(&outer, RANK_CTX);
	lock_init(&inner, RANK_LEAF);
	lock_cond_init(&cond);
	lock_take(&outer);
	lock_take(&inner);
	lock_wait_until(&outer, &cond, now_ns());
}

static UMM_NO_ANALYSIS void forget_then_take_again(void)
{
	struct lock lock;

	lock_init(&lock, RANK_BLOCK);
	lock_take(&lock);
	if (lock_none_held())
		abort();
	lock_forget_held();
	if (!lock_none_held())
		abort();
	lock_init(&lock, RANK_BLOCK);
	lock_take(&lock);
	lock_drop(&lock);
}

static void order_of_ranks_is_accepted(void **state)
{
	(void)state;
	assert_int_equal(child_signal(take_in_order), 0);
	take_in_order();
	assert_true(lock_none_held());
}

static void wrong_order_is_stopped(void **state)
{
	(void)state;
	require_debug_build();
	assert_int_equal(child_signal(take_upwards), SIGABRT);
	assert_int_equal(child_signal(take_shared_upwards), SIGABRT);
}

static void two_of_one_rank_are_stopped(void **state)
{
	(void)state;
	require_debug_build();
	assert_int_equal(child_signal(take_two_of_a_rank), SIGABRT);
	assert_int_equal(child_signal(take_shared_twice), SIGABRT);
}

static void dropping_what_is_not_held_is_stopped(void **state)
{
	(void)state;
	require_debug_build();
	assert_int_equal(child_signal(drop_what_is_not_held), SIGABRT);
}

static void waiting_while_holding_a_deeper_lock_is_stopped(void **state)
{
	(void)state;
	require_debug_build();
	assert_int_equal(child_signal(wait_while_holding_deeper), SIGABRT);
}

static void child_forgets_what_its_parent_held(void **state)
{
	(void)state;
	require_debug_build();
	assert_int_equal(child_signal(forget_then_take_again), 0);
}

static void *add_locked(void *arg)
{
	struct shared *shared = arg;

	for (unsigned i = 0; i < NR_ROUNDS; i++) {
		lock_take(&shared->lock);
		shared->count++;
		lock_drop(&shared->lock);
	}
	return NULL;
}

static void *add_exclusive(void *arg)
{
	struct shared *shared = arg;

	for (unsigned i = 0; i < NR_ROUNDS; i++) {
		rwlock_take(&shared->rwlock);
		shared->count++;
		shared->turn++;
		rwlock_drop(&shared->rwlock);
		rwlock_take_shared(&shared->rwlock);
		if (shared->count != shared->turn)
			abort();
		rwlock_drop_shared(&shared->rwlock);
	}
	return NULL;
}

static void shared_init(struct shared *shared)
{
	lock_init(&shared->lock, RANK_LEAF);
	rwlock_init(&shared->rwlock, RANK_GATE);
	lock_cond_init(&shared->cond);
	shared->count = 0;
	shared->turn = 0;
}

static void shared_fini(struct shared *shared)
{
	pthread_cond_destroy(&shared->cond);
	rwlock_fini(&shared->rwlock);
	lock_fini(&shared->lock);
}

static unsigned count_with(void *(*fn)(void *))
{
	pthread_t threads[NR_THREADS];
	struct shared shared;

	shared_init(&shared);
	for (size_t i = 0; i < NR_THREADS; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, fn, &shared), 0);
	for (size_t i = 0; i < NR_THREADS; i++)
		assert_int_equal(pthread_join(threads[i], NULL), 0);
	shared_fini(&shared);
	return shared.count;
}

static void lock_excludes(void **state)
{
	(void)state;
	assert_int_equal(count_with(add_locked), NR_THREADS * NR_ROUNDS);
}

static void rwlock_excludes_writers_and_readers(void **state)
{
	(void)state;
	assert_int_equal(count_with(add_exclusive), NR_THREADS * NR_ROUNDS);
}

static void *take_shared_once(void *arg)
{
	struct shared *shared = arg;

	rwlock_take_shared(&shared->rwlock);
	rwlock_drop_shared(&shared->rwlock);
	return NULL;
}

static void readers_share(void **state)
{
	struct shared shared;
	pthread_t thread;

	(void)state;
	shared_init(&shared);
	rwlock_take_shared(&shared.rwlock);
	assert_int_equal(pthread_create(&thread, NULL, take_shared_once, &shared), 0);
	assert_int_equal(pthread_join(thread, NULL), 0);
	rwlock_drop_shared(&shared.rwlock);
	shared_fini(&shared);
}

/* Answer every turn of the main thread with the next one. */
static void *answer_turns(void *arg)
{
	struct shared *shared = arg;

	for (unsigned i = 0; i < 100; i++) {
		lock_take(&shared->lock);
		while (shared->turn != 2 * i + 1)
			lock_wait(&shared->lock, &shared->cond);
		shared->turn++;
		pthread_cond_broadcast(&shared->cond);
		lock_drop(&shared->lock);
	}
	return NULL;
}

static void waiters_wake(void **state)
{
	struct shared shared;
	pthread_t thread;
	int ret = 0;

	(void)state;
	shared_init(&shared);
	assert_int_equal(pthread_create(&thread, NULL, answer_turns, &shared), 0);
	for (unsigned i = 0; i < 100; i++) {
		lock_take(&shared.lock);
		shared.turn++;
		pthread_cond_broadcast(&shared.cond);
		while (shared.turn != 2 * i + 2 && !ret)
			ret = lock_wait_until(&shared.lock, &shared.cond,
					      now_ns() + 60u * 1000000000u);
		lock_drop(&shared.lock);
		assert_int_equal(ret, 0);
	}
	assert_int_equal(pthread_join(thread, NULL), 0);
	shared_fini(&shared);
}

static void deadline_passes(void **state)
{
	uint64_t deadline = now_ns() + 2000000;
	struct shared shared;
	int ret;

	(void)state;
	shared_init(&shared);
	lock_take(&shared.lock);
	do {
		ret = lock_wait_until(&shared.lock, &shared.cond, deadline);
	} while (!ret); /* a spurious wake-up */
	assert_int_equal(ret, -ETIME);
	assert_true(now_ns() >= deadline);
	assert_int_equal(lock_wait_until(&shared.lock, &shared.cond, 0), -ETIME);
	lock_drop(&shared.lock);
	shared_fini(&shared);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(order_of_ranks_is_accepted),
		cmocka_unit_test(wrong_order_is_stopped),
		cmocka_unit_test(two_of_one_rank_are_stopped),
		cmocka_unit_test(dropping_what_is_not_held_is_stopped),
		cmocka_unit_test(waiting_while_holding_a_deeper_lock_is_stopped),
		cmocka_unit_test(child_forgets_what_its_parent_held),
		cmocka_unit_test(lock_excludes),
		cmocka_unit_test(rwlock_excludes_writers_and_readers),
		cmocka_unit_test(readers_share),
		cmocka_unit_test(waiters_wake),
		cmocka_unit_test(deadline_passes),
	};

	return cmocka_run_group_tests_name("lock", tests, NULL, NULL);
}
