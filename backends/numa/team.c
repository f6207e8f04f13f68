/* SPDX-License-Identifier: MIT */
/*
 * Teams: the "kernels" of a memory node are functions run by several threads next to
 * it. Threads are made for each team: what they do there is long, and a program may run any
 * number of teams at once. Team members wait at a gate until all of them exist, so that a
 * function is called in all threads or in none.
 *
 * A thread that the function ends (pthread_exit()), or somebody else (pthread_cancel()), leaves its
 * team as one that returns. Outside of the function it cannot be cancelled.
 *
 * Locks: team->lock for the gate and the count; numa->lock for the count of teams.
 */
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "device.h"

enum gate { GATE_SHUT, GATE_GO, GATE_GIVE_UP };

struct team {
	struct umm_numa *numa;
	void (*fn)(void *arg, unsigned thread);
	void *arg;
	struct umm_fence *fence;

	pthread_mutex_t lock; /* Protects: what follows; inside: nothing */
	pthread_cond_t change;
	enum gate gate;
	unsigned started; /* threads that have their number */
	unsigned left;	  /* threads, and whoever starts them, that use it */
};

static int team_begin(struct umm_numa *numa)
{
	int ret = -ENODEV;

	if (numa->owner != getpid())
		return ret;
	pthread_mutex_lock(&numa->lock);
	if (!numa->gone) {
		numa->running++;
		ret = 0;
	}
	pthread_mutex_unlock(&numa->lock);
	return ret;
}

static void team_end(struct umm_numa *numa)
{
	pthread_mutex_lock(&numa->lock);
	numa->running--;
	pthread_cond_broadcast(&numa->ended);
	pthread_mutex_unlock(&numa->lock);
}

/* One user less; the last one says that the team is done. */
static void team_leave(struct team *team)
{
	struct umm_numa *numa = team->numa;
	struct umm_fence *fence = team->fence;
	unsigned left;

	pthread_mutex_lock(&team->lock);
	left = --team->left;
	pthread_mutex_unlock(&team->lock);
	if (left)
		return;
	pthread_cond_destroy(&team->change);
	pthread_mutex_destroy(&team->lock);
	free(team);
	team_end(numa);
	umm_fence_signal(fence, 0, 0);
	umm_fence_put(fence);
}

static void team_quit(void *arg)
{
	team_leave(arg);
}

/* The function in this thread, however it ends. */
static void team_call(struct team *team, unsigned thread)
{
	int old;

	pthread_cleanup_push(team_quit, team);
	pthread_setcancelstate(PTHREAD_CANCEL_ENABLE, &old);
	team->fn(team->arg, thread);
	pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &old);
	pthread_cleanup_pop(1);
}

static void *team_main(void *arg)
{
	struct team *team = arg;
	unsigned thread;
	enum gate gate;
	int old;

	pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &old);
	pthread_mutex_lock(&team->lock);
	thread = team->started++;
	while (team->gate == GATE_SHUT)
		pthread_cond_wait(&team->change, &team->lock);
	gate = team->gate;
	pthread_mutex_unlock(&team->lock);
	if (gate == GATE_GO)
		team_call(team, thread);
	else
		team_leave(team);
	return NULL;
}

/* Make those that are missing; they wait at the gate. 0, or what pthread_create() said. */
static int threads_make(struct team *team, const struct cpus *near, unsigned nthreads,
			unsigned *made)
{
	pthread_attr_t attr;
	pthread_t thread;
	int ret = 0;

	pthread_attr_init(&attr);
	pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
	cpus_bind(&attr, near);
	while (*made < nthreads && !ret) {
		pthread_mutex_lock(&team->lock);
		team->left++;
		pthread_mutex_unlock(&team->lock);
		ret = pthread_create(&thread, &attr, team_main, team);
		if (ret)
			team_leave(team);
		else
			(*made)++;
	}
	pthread_attr_destroy(&attr);
	return ret;
}

static void near_get(struct umm_numa *numa, struct cpus *near)
{
	pthread_mutex_lock(&numa->lock);
	*near = numa->near;
	pthread_mutex_unlock(&numa->lock);
}

/* The process's cpuset is another one now. */
static void near_renew(struct umm_numa *numa, struct cpus *near)
{
	nodes_near(numa->library, numa->node, near);
	pthread_mutex_lock(&numa->lock);
	numa->near = *near;
	pthread_mutex_unlock(&numa->lock);
}

static unsigned team_size(const struct cpus *near, unsigned nthreads)
{
	unsigned ncpus = cpus_count(near);

	if (nthreads)
		return nthreads;
	return ncpus ? ncpus : 1;
}

/*
 * Start them all, then let them go; or let none. The kernel refuses one (EINVAL) where none of its
 * CPUs is left in the cpuset.
 */
static int team_start(struct team *team, unsigned nthreads)
{
	struct umm_numa *numa = team->numa;
	char text[NODE_CPUS];
	unsigned made = 0;
	struct cpus near;
	int ret;

	near_get(numa, &near);
	ret = threads_make(team, &near, team_size(&near, nthreads), &made);
	if (ret == EINVAL) {
		near_renew(numa, &near);
		ret = threads_make(team, &near, team_size(&near, nthreads), &made);
	}
	pthread_mutex_lock(&team->lock);
	team->gate = ret ? GATE_GIVE_UP : GATE_GO;
	pthread_cond_broadcast(&team->change);
	pthread_mutex_unlock(&team->lock);
	if (!ret)
		return 0;
	cpus_text(&near, text, sizeof(text));
	umm_log(UMM_LOG_ERROR,
		"node %d: a team of %u threads on CPUs %s could not be started: %s. Raise "
		"'ulimit -u' or pids.max of the control group, or ask for fewer threads",
		numa->node, team_size(&near, nthreads), text, strerror(ret));
	return -EAGAIN;
}

static struct team *team_create(struct umm_numa *numa, void (*fn)(void *arg, unsigned thread),
				void *arg)
{
	struct team *team = calloc(1, sizeof(*team));

	if (!team)
		return NULL;
	if (umm_fence_create(&team->fence)) {
		free(team);
		return NULL;
	}
	team->numa = numa;
	team->fn = fn;
	team->arg = arg;
	team->left = 1;
	pthread_mutex_init(&team->lock, NULL);
	pthread_cond_init(&team->change, NULL);
	return team;
}

int umm_numa_run(struct umm_numa *numa, void (*fn)(void *arg, unsigned thread), void *arg,
		 unsigned nthreads, struct umm_fence **fence)
{
	struct umm_fence *end;
	struct team *team;
	int ret;

	if (!numa || !fn)
		return -EINVAL;
	if (umm_in_callback())
		return -EDEADLK;
	ret = team_begin(numa);
	if (ret)
		return ret;
	team = team_create(numa, fn, arg);
	if (!team) {
		team_end(numa);
		return -ENOMEM;
	}
	end = umm_fence_get(team->fence);
	atomic_fetch_add(&numa->teams, 1);
	ret = team_start(team, nthreads);
	team_leave(team);
	if (!ret && fence) {
		*fence = end;
		return 0;
	}
	umm_fence_wait(end, -1);
	umm_fence_put(end);
	return ret;
}
