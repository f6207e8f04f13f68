/* SPDX-License-Identifier: MIT */
/*
 * Room in the host, and the books of native memory that it counts by, with no program and no engine
 * around them: threads that bring pages, and one that counts as the engine does.
 */
#include <dirent.h>
#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "room.h"
#include "shim.h"
#include "space.h"
#include "touches.h"

enum { PAGE = 4096, LIMIT = 1000, THREADS = 4, PAGES = 20000 };

static atomic_uint calls; /* of the engine */

void touches_call(void)
{
	atomic_fetch_add(&calls, 1);
}

static atomic_uint lines; /* that were said */

void shim_say(const char *format, ...)
{
	(void)format;
	atomic_fetch_add(&lines, 1);
}

/* Somebody sets the clock, forward, whenever it is looked at. */
int clock_gettime(clockid_t clock, struct timespec *time)
{
	static _Atomic time_t ahead;
	int ret = (int)syscall(SYS_clock_gettime, clock, time);

	if (clock == CLOCK_REALTIME)
		time->tv_sec += atomic_fetch_add(&ahead, 3600) + 3600;
	return ret;
}

static int setup(void **state)
{
	(void)state;
	room_reset();
	space_clear();
	room_limit(LIMIT, LIMIT / 2);
	atomic_store(&calls, 0);
	atomic_store(&lines, 0);
	return 0;
}

static void native(uintptr_t page, size_t npages)
{
	struct space_change change;

	space_change_begin(&change, page * PAGE, npages * PAGE);
	assert_int_equal(space_add_locked(page * PAGE, npages * PAGE, SPACE_NATIVE), 0);
	space_change_end(&change);
}

static unsigned admitted(unsigned wanted)
{
	unsigned n = 0;

	while (n < wanted && !room_admit(NULL, 0, false))
		n++;
	return n;
}

static void no_more_come_than_there_is_room_for(void **state)
{
	(void)state;
	room_counted(LIMIT - 10, room_taken());
	assert_int_equal(admitted(100), 10);
	assert_int_equal(room_admit(NULL, 0, false), -EAGAIN);
	assert_int_equal(atomic_load(&calls), 2);
}

/* The engine was held up after its look at the counters: what came meanwhile counts. */
static void what_comes_while_the_engine_counts_is_not_forgotten(void **state)
{
	uint64_t taken = room_taken();

	(void)state;
	room_counted(LIMIT - 10, taken);
	assert_int_equal(admitted(7), 7);
	room_counted(LIMIT - 10, taken);
	assert_int_equal(admitted(100), 3);
}

static void native_memory_takes_room_at_once(void **state)
{
	(void)state;
	room_counted(0, room_taken());
	native(512, LIMIT - 5);
	assert_int_equal(admitted(100), 5);
	room_take(3);
	room_counted(3, room_taken());
	assert_int_equal(admitted(100), 2);
}

/* Half of the limit is for mappings that nobody is asked for, and faults count there, too. */
static void memory_is_to_be_had_unasked_while_there_is_plenty(void **state)
{
	(void)state;
	room_counted(100, room_taken());
	assert_true(room_unasked((size_t)400 * PAGE));
	assert_false(room_unasked((size_t)401 * PAGE));
	assert_int_equal(admitted(50), 50);
	assert_false(room_unasked((size_t)351 * PAGE));
	room_more(50);
	assert_true(room_unasked((size_t)300 * PAGE));
	assert_false(room_unasked((size_t)301 * PAGE));
}

static void who_need_not_wait_any_more_does_not(void **state)
{
	(void)state;
	room_counted(LIMIT, room_taken());
	assert_int_equal(admitted(1), 0);
	room_give_up(true);
	assert_int_equal(admitted(100), 100);
	room_give_up(false);
	assert_int_equal(admitted(1), 0);
}

/*
 * Nobody counts: it takes its time, whatever the clock says, and then the page comes all the same,
 * and counts.
 */
static void patience_ends(void **state)
{
	(void)state;
	room_counted(LIMIT, room_taken());
	assert_int_equal(room_admit(NULL, 0, true), 0);
	assert_int_equal(room_taken(), 1);
	assert_int_equal(room_late(), 1);
	assert_int_equal(atomic_load(&lines), 0);
}

/* Who holds the engine may have to wait for those whose faults would wait for it. */
static void while_the_engine_is_held_nobody_waits(void **state)
{
	(void)state;
	room_counted(LIMIT, room_taken());
	assert_int_equal(room_admit(NULL, 0, false), -EAGAIN);
	room_hold(true);
	assert_int_equal(admitted(100), 100);
	room_hold(false);
	assert_int_equal(room_admit(NULL, 0, false), -EAGAIN);
	assert_int_equal(room_late(), 0);
}

struct sleeper {
	pthread_t thread;
	_Atomic pid_t tid;
};

static void *sleep_for_room(void *arg)
{
	struct sleeper *sleeper = arg;

	atomic_store(&sleeper->tid, gettid());
	assert_int_equal(room_admit(NULL, 0, true), 0);
	return NULL;
}

static bool sleeps(pid_t tid)
{
	char path[64], line[512] = "", *end;
	FILE *file;

	snprintf(path, sizeof(path), "/proc/self/task/%d/stat", tid);
	file = fopen(path, "re");
	if (!file)
		return false;
	end = fgets(line, sizeof(line), file) ? strrchr(line, ')') : NULL;
	fclose(file);
	return end && end[2] == 'S';
}

static double now(void)
{
	struct timespec time;

	clock_gettime(CLOCK_MONOTONIC, &time);
	return (double)time.tv_sec + (double)time.tv_nsec / 1e9;
}

/* It sleeps until its patience ends, unless somebody wakes it. How long that took, all in all. */
static double slept_until(void (*end)(bool yes))
{
	struct sleeper sleeper = { .tid = 0 };
	double begin = now();

	room_counted(LIMIT, room_taken());
	atomic_store(&calls, 0);
	assert_int_equal(pthread_create(&sleeper.thread, NULL, sleep_for_room, &sleeper), 0);
	/* The engine is called before the wait, and nothing else is waited for. */
	while (!atomic_load(&calls) || !sleeps(atomic_load(&sleeper.tid)))
		usleep(100);
	end(true);
	pthread_join(sleeper.thread, NULL);
	end(false);
	return now() - begin;
}

/* Other threads may have the CPUs for as long as patience lasts, but not each time. */
static void wakes(void (*end)(bool yes))
{
	unsigned tries = 0;

	while (slept_until(end) > 0.9)
		assert_true(++tries < 30);
}

static void who_sleeps_is_woken_when_the_engine_is_held_or_gives_up(void **state)
{
	(void)state;
	wakes(room_hold);
	wakes(room_give_up);
}

enum { CROWD = 100, EACH = 11 };

static atomic_bool crowd_goes;

static void *stand_around(void *arg)
{
	while (!atomic_load(&crowd_goes))
		usleep(10000);
	return arg;
}

static void *all_come_late(void *arg)
{
	for (unsigned i = 0; i < 2 * CROWD * EACH; i++)
		assert_int_equal(room_admit(NULL, 0, true), 0);
	return arg;
}

static void crowd_comes(pthread_t crowd[CROWD])
{
	atomic_store(&crowd_goes, false);
	for (unsigned i = 0; i < CROWD; i++)
		assert_int_equal(pthread_create(&crowd[i], NULL, stand_around, NULL), 0);
}

static void crowd_leaves(pthread_t crowd[CROWD])
{
	atomic_store(&crowd_goes, true);
	for (unsigned i = 0; i < CROWD; i++)
		pthread_join(crowd[i], NULL);
}

/* Of the process, a sanitizer's included. */
static unsigned threads_now(void)
{
	DIR *tasks = opendir("/proc/self/task");
	unsigned n = 0;

	assert_non_null(tasks);
	for (struct dirent *task; (task = readdir(tasks));)
		n += task->d_name[0] != '.';
	closedir(tasks);
	return n;
}

/* The engine waits for one of many threads, which wait in turn: it gets more than a few pages. */
static void late_pages_are_enough_for_each_of_many_threads(void **state)
{
	pthread_t crowd[CROWD], thread;

	(void)state;
	room_counted(LIMIT, room_taken());
	crowd_comes(crowd);
	assert_int_equal(pthread_create(&thread, NULL, all_come_late, NULL), 0);
	while (room_late() < CROWD * EACH && !atomic_load(&lines))
		usleep(1000);
	assert_int_equal(atomic_load(&lines), 0);
	/* More are late by now than may be of those who stay. */
	crowd_leaves(crowd);
	while (!atomic_load(&lines))
		usleep(1000);
	assert_in_range(room_late(), CROWD * EACH, (CROWD + 4) * ROOM_LATE_EACH);
	room_give_up(true);
	pthread_join(thread, NULL);
	assert_int_equal(room_taken(), 2 * CROWD * EACH);
	assert_int_equal(atomic_load(&lines), 1);
}

static void *come_late(void *arg)
{
	for (unsigned i = 0; i < 3 * ROOM_LATE_MOST; i++)
		assert_int_equal(room_admit(NULL, 0, true), 0);
	return arg;
}

/*
 * An engine that never counts again must not let the program exceed its limit without end. That is
 * told once, until it has counted. New threads have pages of their own, whoever waits by then.
 */
static void who_never_counts_is_waited_for_in_the_end(void **state)
{
	pthread_t crowd[CROWD], thread;
	uint64_t most;

	(void)state;
	room_counted(LIMIT, room_taken());
	assert_int_equal(pthread_create(&thread, NULL, come_late, NULL), 0);
	while (!atomic_load(&lines))
		usleep(1000);
	assert_int_equal(room_late(), ROOM_LATE_MOST);
	crowd_comes(crowd);
	most = (uint64_t)threads_now() * ROOM_LATE_EACH;
	while (room_late() < most)
		usleep(1000);
	/* Longer than the first of them waited. */
	usleep(2500000);
	assert_int_equal(room_late(), most);
	assert_int_equal(room_taken(), most);
	assert_int_equal(atomic_load(&lines), 1);
	crowd_leaves(crowd);
	room_counted(LIMIT, room_taken());
	while (atomic_load(&lines) < 2)
		usleep(1000);
	most = room_late();
	room_give_up(true);
	pthread_join(thread, NULL);
	assert_int_equal(room_taken(), 3 * ROOM_LATE_MOST);
	assert_int_equal(room_late(), most);
	assert_int_equal(atomic_load(&lines), 2);
}

static void *wait_for_room(void *arg)
{
	assert_int_equal(room_admit(NULL, 0, true), 0);
	return arg;
}

/* Count for so long that there is no room. False: this thread was held up, and nobody counted. */
static bool count(double seconds)
{
	double begin = now(), last = begin, at;

	while ((at = now()) - begin < seconds) {
		if (at - last > 0.5)
			return false;
		last = at;
		room_counted(LIMIT, room_taken());
		usleep(1000);
	}
	return true;
}

static void who_counts_is_waited_for(void **state)
{
	uint64_t taken = 0;
	pthread_t thread;
	bool on_time;

	(void)state;
	do {
		room_counted(LIMIT, room_taken());
		assert_int_equal(pthread_create(&thread, NULL, wait_for_room, NULL), 0);
		on_time = count(2.5);
		taken = room_taken();
		room_counted(LIMIT - 1, taken);
		pthread_join(thread, NULL);
		if (on_time)
			assert_int_equal(taken, 0);
		setup(NULL);
	} while (!on_time);
}

/* Pages in the host: what threads brought, less what the engine has taken away. */
static atomic_long here, most;
static atomic_uint running;

static void *bring(void *arg)
{
	for (unsigned i = 0; i < PAGES; i++) {
		long now;

		if (room_admit(NULL, 0, false))
			room_admit(NULL, 0, true);
		now = atomic_fetch_add(&here, 1) + 1;
		for (long seen = atomic_load(&most); now > seen;)
			if (atomic_compare_exchange_weak(&most, &seen, now))
				break;
	}
	atomic_fetch_sub(&running, 1);
	return arg;
}

static void threads_that_outrun_the_engine_wait_for_it(void **state)
{
	pthread_t threads[THREADS];

	(void)state;
	room_counted(0, room_taken());
	atomic_store(&running, THREADS);
	for (unsigned i = 0; i < THREADS; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, bring, NULL), 0);
	while (atomic_load(&running)) {
		uint64_t taken = room_taken();
		long there = atomic_load(&here);
		long leave = there > LIMIT / 2 ? there / 4 : 0;

		atomic_fetch_sub(&here, leave);
		room_counted((uint64_t)(there - leave), taken);
	}
	for (unsigned i = 0; i < THREADS; i++)
		pthread_join(threads[i], NULL);
	assert_int_equal(room_taken(), THREADS * PAGES);
	/*
	 * Those that were let in, and had not come yet when it counted; and, where this thread gets
	 * no CPU for seconds, those whose patience has ended.
	 */
	assert_true((uint64_t)atomic_load(&most) <= LIMIT + THREADS + room_late());
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(no_more_come_than_there_is_room_for, setup),
		cmocka_unit_test_setup(what_comes_while_the_engine_counts_is_not_forgotten, setup),
		cmocka_unit_test_setup(native_memory_takes_room_at_once, setup),
		cmocka_unit_test_setup(memory_is_to_be_had_unasked_while_there_is_plenty, setup),
		cmocka_unit_test_setup(who_need_not_wait_any_more_does_not, setup),
		cmocka_unit_test_setup(patience_ends, setup),
		cmocka_unit_test_setup(while_the_engine_is_held_nobody_waits, setup),
		cmocka_unit_test_setup(who_sleeps_is_woken_when_the_engine_is_held_or_gives_up,
				       setup),
		cmocka_unit_test_setup(late_pages_are_enough_for_each_of_many_threads, setup),
		cmocka_unit_test_setup(who_never_counts_is_waited_for_in_the_end, setup),
		cmocka_unit_test_setup(who_counts_is_waited_for, setup),
		cmocka_unit_test_setup(threads_that_outrun_the_engine_wait_for_it, setup),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
