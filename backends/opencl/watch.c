/* SPDX-License-Identifier: MIT */
/*
 * Some waits end only if the program does something: releases a window, completes an event.
 * clWaitForEvents() has no limit of time, and asking for the state of an event again and again does
 * not replace it (rusticl). So a thread watches those who wait, and says for each that takes
 * WARN_S what it waits for.
 *
 * Invariant: watches are in the order of their beginning, that is of their times.
 *
 * Locks: watcher.lock, inside all others of the backend; not held while something is written.
 */
#include "watch.h"

#include <inttypes.h>
#include <signal.h>
#include <time.h>

#include "report.h"

#define WARN_S	 5
#define NS_PER_S UINT64_C(1000000000)

static uint64_t now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * NS_PER_S + (uint64_t)now.tv_nsec;
}

void watcher_init(struct watcher *watcher)
{
	pthread_condattr_t attr;

	pthread_mutex_init(&watcher->lock, NULL);
	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(&watcher->changed, &attr);
	pthread_condattr_destroy(&attr);
}

void watcher_fini(struct watcher *watcher)
{
	pthread_mutex_lock(&watcher->lock);
	watcher->stop = true;
	pthread_cond_signal(&watcher->changed);
	pthread_mutex_unlock(&watcher->lock);
	if (watcher->started)
		pthread_join(watcher->thread, NULL);
	pthread_cond_destroy(&watcher->changed);
	pthread_mutex_destroy(&watcher->lock);
}

/* The first of which nothing was said; NULL: none. */
static struct watch *find_unsaid_locked(struct watcher *watcher)
{
	struct watch *watch = watcher->first;

	while (watch && watch->said)
		watch = watch->next;
	return watch;
}

static void sleep_locked(struct watcher *watcher, const struct watch *watch)
{
	struct timespec until;

	if (watch) {
		until.tv_sec = (time_t)(watch->until_ns / NS_PER_S);
		until.tv_nsec = (long)(watch->until_ns % NS_PER_S);
		pthread_cond_timedwait(&watcher->changed, &watcher->lock, &until);
		return;
	}
	watcher->idle = true;
	pthread_cond_wait(&watcher->changed, &watcher->lock);
	watcher->idle = false;
}

static void say_locked(struct watcher *watcher, struct watch *watch)
{
	const char *why = watch->why;
	uintptr_t addr = watch->addr;

	watch->said = true;
	pthread_mutex_unlock(&watcher->lock);
	report(UMM_LOG_WARNING, "0x%" PRIxPTR " is waited for since %d seconds: %s", addr, WARN_S,
	       why);
	pthread_mutex_lock(&watcher->lock);
}

static void *watcher_main(void *priv)
{
	struct watcher *watcher = priv;
	struct watch *watch;

	pthread_mutex_lock(&watcher->lock);
	while (!watcher->stop) {
		watch = find_unsaid_locked(watcher);
		if (watch && watch->until_ns <= now_ns())
			say_locked(watcher, watch);
		else
			sleep_locked(watcher, watch);
	}
	pthread_mutex_unlock(&watcher->lock);
	return NULL;
}

/* With signals blocked: a handler may touch what is waited for. */
int watcher_start(struct watcher *watcher)
{
	sigset_t all, before;
	int ret = 0;

	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	pthread_mutex_lock(&watcher->lock);
	if (!watcher->started) {
		ret = -pthread_create(&watcher->thread, NULL, watcher_main, watcher);
		watcher->started = !ret;
	}
	pthread_mutex_unlock(&watcher->lock);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	if (ret)
		report(UMM_LOG_ERROR, "no thread to watch who waits could be started: %s",
		       umm_strerror(ret));
	return ret;
}

void watch_begin(struct watcher *watcher, struct watch *watch, uintptr_t addr, const char *why)
{
	struct watch **link = &watcher->first;

	*watch = (struct watch){ .addr = addr, .why = why };
	pthread_mutex_lock(&watcher->lock);
	watch->until_ns = now_ns() + WARN_S * NS_PER_S;
	while (*link)
		link = &(*link)->next;
	*link = watch;
	if (watcher->idle)
		pthread_cond_signal(&watcher->changed);
	pthread_mutex_unlock(&watcher->lock);
}

void watch_end(struct watcher *watcher, struct watch *watch)
{
	struct watch **link = &watcher->first;

	pthread_mutex_lock(&watcher->lock);
	while (*link != watch)
		link = &(*link)->next;
	*link = watch->next;
	pthread_mutex_unlock(&watcher->lock);
}
