/* SPDX-License-Identifier: MIT */
/*
 * Whether there is an engine. The program waits until there is, or it fills memory meanwhile
 * without anybody to make room. But it may be the program that the engine waits for, with the
 * dynamic loader's lock: so it waits for a time only, and the engine that comes too late asks
 * before it begins whether it still may.
 *
 * Locks: lock, over whatever @create and @begin take; not with one held that malloc() takes.
 */
#include "state.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/types.h>
#include <time.h>
#include <unistd.h>

enum { START_PATIENCE_S = 1, OPEN_PATIENCE_S = 10, REST_PATIENCE_S = 10 };

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER; /* Protects: changes of state */
static pthread_cond_t changed = PTHREAD_COND_INITIALIZER;
static struct timespec patience_end; /* nobody waits for the next state longer */
static _Atomic int state = STATE_IDLE;
static pid_t starter; /* written before state is not IDLE any more */

enum state state_now(void)
{
	return (enum state)atomic_load(&state);
}

bool state_is_on_its_way(void)
{
	enum state now = state_now();

	/* In the child of a fork() meanwhile nobody is. */
	return (now == STATE_STARTING || now == STATE_OPENING) && starter == getpid();
}

static struct timespec in_seconds(time_t seconds)
{
	struct timespec then;

	clock_gettime(CLOCK_MONOTONIC, &then);
	then.tv_sec += seconds;
	return then;
}

static void set_locked(enum state to, time_t patience_s)
{
	patience_end = in_seconds(patience_s);
	atomic_store(&state, to);
	pthread_cond_broadcast(&changed);
}

static void wait_locked(void)
{
	int ret = 0;

	while (state_is_on_its_way() && !ret) {
		struct timespec until = patience_end;

		ret = pthread_cond_clockwait(&changed, &lock, CLOCK_MONOTONIC, &until);
		if (ret && until.tv_sec != patience_end.tv_sec)
			ret = 0; /* it was given more */
	}
}

void state_start(bool (*create)(void))
{
	int saved = errno;

	pthread_mutex_lock(&lock);
	if (state_now() == STATE_IDLE) {
		starter = getpid();
		set_locked(STATE_STARTING, START_PATIENCE_S);
		if (!create())
			set_locked(STATE_OFF, 0);
	}
	wait_locked();
	pthread_mutex_unlock(&lock);
	errno = saved;
}

bool state_open(void)
{
	bool may;

	pthread_mutex_lock(&lock);
	may = state_now() == STATE_STARTING;
	if (may)
		set_locked(STATE_OPENING, OPEN_PATIENCE_S);
	pthread_mutex_unlock(&lock);
	return may;
}

bool state_run(void (*begin)(void))
{
	bool may;

	pthread_mutex_lock(&lock);
	may = state_now() == STATE_OPENING;
	if (may) {
		begin();
		set_locked(STATE_RUNNING, 0);
	}
	pthread_mutex_unlock(&lock);
	return may;
}

void state_fail(void)
{
	pthread_mutex_lock(&lock);
	set_locked(STATE_OFF, 0);
	pthread_mutex_unlock(&lock);
}

bool state_rest(void)
{
	bool runs;

	pthread_mutex_lock(&lock);
	wait_locked();
	while (state_now() == STATE_RESTING)
		pthread_cond_wait(&changed, &lock);
	runs = state_now() == STATE_RUNNING;
	set_locked(runs ? STATE_RESTING : STATE_OFF, 0);
	pthread_mutex_unlock(&lock);
	return runs;
}

void state_rested(bool is_over)
{
	pthread_mutex_lock(&lock);
	set_locked(is_over ? STATE_OFF : STATE_RUNNING, 0);
	pthread_mutex_unlock(&lock);
}

enum state state_wait_for_rest(void)
{
	struct timespec until = in_seconds(REST_PATIENCE_S);
	int ret = 0;

	pthread_mutex_lock(&lock);
	while (state_now() == STATE_RESTING && !ret)
		ret = pthread_cond_clockwait(&changed, &lock, CLOCK_MONOTONIC, &until);
	pthread_mutex_unlock(&lock);
	return state_now();
}

void state_fork_child(void)
{
	pthread_mutex_init(&lock, NULL);
	pthread_cond_init(&changed, NULL);
}

void state_anew(void)
{
	enum state now = state_now();
	bool ran = now == STATE_RUNNING || now == STATE_RESTING;

	atomic_store(&state, ran ? STATE_IDLE : STATE_OFF);
}
