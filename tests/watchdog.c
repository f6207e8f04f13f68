/* SPDX-License-Identifier: MIT */
/*
 * The watchdog of the tests. When a test is not done in time it prints what every thread
 * waits for in the kernel and where it is in the program, and exits with status 1.
 *
 * Stacks come from gdb where there is one: it shows threads that block signals, too.
 * Otherwise every thread is asked by SIGUSR2 to print its own.
 *
 * Lock: watchdog.lock protects the fields beside it.
 */
#include "watchdog.h"

#include <dirent.h>
#include <errno.h>
#include <execinfo.h>
#include <fcntl.h>
#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <spawn.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define DEFAULT_SECONDS 180 /* a sanitizer on a busy machine takes one */

static struct {
	pthread_mutex_t lock;
	pthread_cond_t cond;
	const char *test; /* NULL: none runs */
	struct timespec deadline;
} watchdog = { .lock = PTHREAD_MUTEX_INITIALIZER };

static sem_t printed;

static void file_print(int tid, const char *name)
{
	char path[64], text[2048];
	ssize_t n;
	int fd;

	snprintf(path, sizeof(path), "/proc/self/task/%d/%s", tid, name);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return;
	n = read(fd, text, sizeof(text));
	close(fd);
	if (n > 0)
		fprintf(stderr, "  %s: %.*s%s", name, (int)n, text,
			text[n - 1] == '\n' ? "" : "\n");
}

static void stack_print(int number)
{
	void *frames[64];
	int n = backtrace(frames, 64);

	(void)number;
	backtrace_symbols_fd(frames, n, STDERR_FILENO);
	sem_post(&printed);
}

/* Call fn for every other thread. */
static void for_each_thread(void (*fn)(int tid))
{
	DIR *dir = opendir("/proc/self/task");
	struct dirent *entry;
	long tid;

	while (dir && (entry = readdir(dir))) {
		tid = strtol(entry->d_name, NULL, 10);
		if (tid > 0 && tid != syscall(SYS_gettid))
			fn((int)tid);
	}
	if (dir)
		closedir(dir);
}

static void thread_print_kernel(int tid)
{
	fprintf(stderr, "thread %d\n", tid);
	file_print(tid, "comm");
	file_print(tid, "wchan");
	file_print(tid, "stack");
}

static void thread_print_stack(int tid)
{
	struct timespec until;

	fprintf(stderr, "thread %d\n", tid);
	clock_gettime(CLOCK_REALTIME, &until);
	until.tv_sec += 2;
	syscall(SYS_tgkill, getpid(), tid, SIGUSR2);
	if (sem_timedwait(&printed, &until))
		fprintf(stderr, "  blocks signals\n");
}

/*
 * A thread that waits inside the kernel for a page cannot be stopped, and gdb waits for it
 * for ever; when it is killed, we go on.
 */
static bool gdb_print(void)
{
	char pid[16];
	char *argv[] = { "timeout",
			 "-s",
			 "KILL",
			 "20",
			 "gdb",
			 "-nx",
			 "-batch",
			 "-p",
			 pid,
			 "-ex",
			 "thread apply all backtrace",
			 NULL };
	posix_spawn_file_actions_t actions;
	pid_t child;
	int status;

	snprintf(pid, sizeof(pid), "%d", (int)getpid());
	prctl(PR_SET_PTRACER, PR_SET_PTRACER_ANY, 0, 0, 0);
	posix_spawn_file_actions_init(&actions);
	posix_spawn_file_actions_adddup2(&actions, STDERR_FILENO, STDOUT_FILENO);
	status = posix_spawnp(&child, "timeout", &actions, NULL, argv, environ);
	posix_spawn_file_actions_destroy(&actions);
	return status == 0 && waitpid(child, &status, 0) == child && WIFEXITED(status) &&
	       WEXITSTATUS(status) == 0;
}

static void hung(const char *test)
{
	struct sigaction action = { .sa_handler = stack_print };

	/* Should even the printing hang. */
	signal(SIGALRM, SIG_DFL);
	alarm(60);
	fprintf(stderr, "HUNG: %s is not done in time; where everybody is:\n", test);
	for_each_thread(thread_print_kernel);
	if (!gdb_print()) {
		sem_init(&printed, 0, 0);
		sigaction(SIGUSR2, &action, NULL);
		for_each_thread(thread_print_stack);
	}
	_exit(1);
}

static bool passed(const struct timespec *deadline)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec > deadline->tv_sec ||
	       (now.tv_sec == deadline->tv_sec && now.tv_nsec >= deadline->tv_nsec);
}

static void *watchdog_main(void *arg)
{
	pthread_mutex_lock(&watchdog.lock);
	for (;;) {
		if (!watchdog.test)
			pthread_cond_wait(&watchdog.cond, &watchdog.lock);
		else if (passed(&watchdog.deadline))
			hung(watchdog.test);
		else
			pthread_cond_timedwait(&watchdog.cond, &watchdog.lock, &watchdog.deadline);
	}
	return arg;
}

int watchdog_start(void)
{
	pthread_condattr_t attr;
	pthread_t thread;
	int ret;

	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(&watchdog.cond, &attr);
	pthread_condattr_destroy(&attr);
	ret = pthread_create(&thread, NULL, watchdog_main, NULL);
	if (ret == 0)
		pthread_detach(thread);
	return -ret;
}

void watchdog_arm(const char *test)
{
	const char *text = getenv("UMM_TEST_TIMEOUT");
	long seconds = text ? strtol(text, NULL, 10) : 0;

	pthread_mutex_lock(&watchdog.lock);
	watchdog.test = test;
	clock_gettime(CLOCK_MONOTONIC, &watchdog.deadline);
	watchdog.deadline.tv_sec += seconds > 0 ? seconds : DEFAULT_SECONDS;
	pthread_cond_broadcast(&watchdog.cond);
	pthread_mutex_unlock(&watchdog.lock);
}

void watchdog_disarm(void)
{
	pthread_mutex_lock(&watchdog.lock);
	watchdog.test = NULL;
	pthread_mutex_unlock(&watchdog.lock);
}

void watchdog_extend(unsigned seconds)
{
	pthread_mutex_lock(&watchdog.lock);
	watchdog.deadline.tv_sec += seconds;
	pthread_mutex_unlock(&watchdog.lock);
}
