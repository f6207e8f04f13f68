/* SPDX-License-Identifier: MIT */
/*
 * Threads that can be seen to block, places where they stop, and forked children. They report
 * by return values, because an assertion would jump out of another thread's test.
 */
#include "harness.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define CHILD_SECONDS	120
#define SLEEPING_CHECKS 30
#define SETTLED_CHECKS	5
#define SETTLE_MS	1000

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
