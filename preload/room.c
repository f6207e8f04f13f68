/* SPDX-License-Identifier: MIT */
/*
 * Room in the host, for pages that the program touches on devices and for empty ones of libumm's.
 *
 * The engine says how many pages of libumm's are there each time that it has counted, and how many
 * had been let in by then; whoever serves a fault lets one more in. Native memory counts by the
 * books of space.h, at once. Where there is no room the fault waits (umm_ctx_options.admit), and
 * the engine is woken. So fault servers cannot outrun it, however little of the CPUs it gets.
 *
 * Pages that were let in and have not come yet when the engine counts are not in its count: one
 * for each fault server. An engine that counts either makes room or gives up. One that does not
 * is stuck, and what it waits for might be the very thread whose fault waits, for a lock of the
 * shim's with its stack in managed memory: so where it has not counted for PATIENCE_MS a page is
 * let in all the same, and more after it until it counts again. Those who wait get one in turn, and
 * so each thread several, however many there are: who holds that lock has had what it needs by
 * then. If it is stuck still, a device never ends what it was told to
 * do: faults wait for it from there on, and one line says so. While it is held (room_hold())
 * nobody waits.
 *
 * Locks: lock, innermost.
 */
#include "room.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/stat.h>
#include <time.h>

#include "shim.h"
#include "space.h"
#include "touches.h"

#define PAGE 4096u

enum {
	PATIENCE_MS = 1000, /* for the first page that comes late, */
	LATE_MS = 5,	    /* and for each of the others */
};

static _Atomic int64_t limit = INT64_MAX / 2, limit_unasked; /* pages */
static _Atomic int64_t base; /* pages of libumm's that are there, less those that were let in */
static _Atomic uint64_t taken;
static _Atomic uint64_t counted; /* so often */
static _Atomic bool given_up, held;
static _Atomic uint64_t late, late_all; /* let in without room: since the last count, and ever */
static _Atomic bool said;		/* that no more of them come, since the last count */

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER; /* Protects: that who waits is woken */
static pthread_cond_t more = PTHREAD_COND_INITIALIZER;
static _Atomic unsigned waiting;

void room_limit(uint64_t most, uint64_t most_unasked)
{
	atomic_store(&limit, (int64_t)most);
	atomic_store(&limit_unasked, (int64_t)most_unasked);
}

uint64_t room_taken(void)
{
	return atomic_load(&taken);
}

/* In the host, in pages, at most. */
static int64_t there(uint64_t now)
{
	return (int64_t)(space_bytes(1 << SPACE_NATIVE | 1 << SPACE_PINNED) / PAGE) +
	       atomic_load(&base) + (int64_t)now;
}

static bool take(void)
{
	uint64_t now = atomic_load(&taken);

	while (there(now) < atomic_load(&limit) || atomic_load(&given_up) || atomic_load(&held))
		if (atomic_compare_exchange_weak(&taken, &now, now + 1))
			return true;
	return false;
}

static void wake(void)
{
	if (!atomic_load(&waiting))
		return;
	pthread_mutex_lock(&lock);
	pthread_cond_broadcast(&more);
	pthread_mutex_unlock(&lock);
}

void room_counted(uint64_t managed, uint64_t then)
{
	atomic_store(&base, (int64_t)(managed - then));
	atomic_fetch_add(&counted, 1);
	atomic_store(&late, 0);
	atomic_store(&said, false);
	wake();
}

void room_more(uint64_t npages)
{
	atomic_fetch_add(&base, (int64_t)npages);
}

void room_take(uint64_t npages)
{
	atomic_fetch_add(&taken, npages);
}

void room_give_up(bool yes)
{
	atomic_store(&given_up, yes);
	if (yes)
		wake();
}

bool room_is_given_up(void)
{
	return atomic_load(&given_up);
}

void room_hold(bool yes)
{
	atomic_store(&held, yes);
	if (yes)
		wake();
}

uint64_t room_late(void)
{
	return atomic_load(&late_all);
}

/* How many may come late before somebody counts: by the threads that the process has now. */
static uint64_t late_most(void)
{
	struct stat tasks; /* with links from itself and from its parent */
	uint64_t for_all = stat("/proc/self/task", &tasks) ? 0 : tasks.st_nlink - 2;

	for_all *= ROOM_LATE_EACH;
	return for_all > ROOM_LATE_MOST ? for_all : ROOM_LATE_MOST;
}

/* Until there is room, for some time at most. With the lock. */
static bool wait_once(void)
{
	uint64_t pages = atomic_load(&late);
	long ms = pages && pages < late_most() ? LATE_MS : PATIENCE_MS;
	struct timespec until;
	int ret = 0;
	bool got;

	clock_gettime(CLOCK_MONOTONIC, &until);
	until.tv_nsec += ms % 1000 * 1000000;
	until.tv_sec += ms / 1000 + until.tv_nsec / 1000000000;
	until.tv_nsec %= 1000000000;
	while (!(got = take()) && !ret)
		ret = pthread_cond_clockwait(&more, &lock, CLOCK_MONOTONIC, &until);
	return got;
}

/* Once, until somebody counts. With the lock, but for the time that it takes. */
static void say_stuck(void)
{
	if (atomic_exchange(&said, true))
		return;
	pthread_mutex_unlock(&lock);
	shim_say("what moves pages to devices is stuck: whoever needs room waits");
	pthread_mutex_lock(&lock);
}

/* False: there is none, nobody counts, and it is one of those that may come late. */
static bool wait_for_room(void)
{
	uint64_t before;
	bool got, may_be_late = false;

	pthread_mutex_lock(&lock);
	atomic_fetch_add(&waiting, 1);
	do {
		before = atomic_load(&counted);
		got = wait_once();
		if (got || atomic_load(&counted) != before)
			continue;
		may_be_late = atomic_load(&late) < late_most();
		if (!may_be_late)
			say_stuck();
	} while (!got && !may_be_late);
	atomic_fetch_sub(&waiting, 1);
	if (!got) {
		atomic_fetch_add(&late_all, 1);
		atomic_fetch_add(&late, 1);
	}
	pthread_mutex_unlock(&lock);
	return got;
}

int room_admit(void *priv, uintptr_t addr, bool may_sleep)
{
	(void)priv;
	(void)addr;
	if (take())
		return 0;
	touches_call();
	if (!may_sleep)
		return -EAGAIN;
	if (!wait_for_room())
		room_take(1);
	return 0;
}

bool room_unasked(uint64_t len)
{
	return there(room_taken()) + (int64_t)(len / PAGE) <= atomic_load(&limit_unasked);
}

void room_reset(void)
{
	pthread_mutex_init(&lock, NULL);
	pthread_cond_init(&more, NULL);
	atomic_store(&waiting, 0);
	atomic_store(&limit, INT64_MAX / 2);
	atomic_store(&limit_unasked, 0);
	atomic_store(&base, 0);
	atomic_store(&taken, 0);
	atomic_store(&given_up, false);
	atomic_store(&held, false);
	atomic_store(&late, 0);
	atomic_store(&late_all, 0);
	atomic_store(&said, false);
}
