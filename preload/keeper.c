/* SPDX-License-Identifier: MIT */
/*
 * When the last reference to a userfaultfd goes, the kernel takes the memory that it guards for
 * ordinary memory: what is on devices reads as zero. The program may close a number by ways that
 * nobody can stand in (a system call instruction of its own, io_uring). So a thread that has a
 * table of descriptors for itself keeps these files, and no others, open until the process ends:
 * a touch then waits, until the engine finds out and ends the program.
 *
 * Kernels before 5.9 have no close_range(2), and profiles of containers refuse it, or unshare(2).
 * Where neither makes a table there is no keeper.
 *
 * What is to be kept is written before the thread starts. lock: a leaf, but in a forked child,
 * which has no keeper, and starts its own with all made anew.
 */
#include "keeper.h"

#include <dirent.h>
#include <limits.h>
#include <linux/close_range.h>
#include <pthread.h>
#include <sched.h>
#include <stdbool.h>
#include <stdlib.h>
#include <unistd.h>

#include "raw.h"

enum { KEPT = 16 };

static unsigned kept[KEPT], nkept; /* in ascending order */
static pthread_t keeper;
static bool is_there;

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER; /* Protects: is_settled, is_over */
static pthread_cond_t changed = PTHREAD_COND_INITIALIZER;
static bool is_settled; /* it has its table, or none */
static bool is_over;

static int compare(const void *a, const void *b)
{
	unsigned first = *(const unsigned *)a, second = *(const unsigned *)b;

	return first < second ? -1 : first > second;
}

static bool close_between(void)
{
	unsigned from = 0;

	for (unsigned i = 0; i < nkept; i++) {
		if (kept[i] > from && raw_close_range(from, kept[i] - 1, 0))
			return false;
		from = kept[i] + 1;
	}
	return true;
}

static bool is_kept(unsigned fd)
{
	return bsearch(&fd, kept, nkept, sizeof(kept[0]), compare);
}

/* This thread's table is its own. */
static bool close_one_by_one(void)
{
	DIR *dir = opendir("/proc/thread-self/fd");
	struct dirent *entry;

	if (!dir)
		return false;
	while ((entry = readdir(dir))) {
		unsigned fd = (unsigned)strtoul(entry->d_name, NULL, 10);

		if (entry->d_name[0] != '.' && fd != (unsigned)dirfd(dir) && !is_kept(fd))
			raw_close((int)fd);
	}
	closedir(dir);
	return true;
}

/* False: either it is the program's still, or what the program closes would stay open in it. */
static bool have_own_table(void)
{
	if (!raw_close_range(kept[nkept - 1] + 1, UINT_MAX, CLOSE_RANGE_UNSHARE))
		return close_between();
	return !unshare(CLONE_FILES) && close_one_by_one();
}

static void *keeper_main(void *arg)
{
	bool keeps;

	pthread_setname_np(pthread_self(), "umm-keeper");
	keeps = have_own_table();
	pthread_mutex_lock(&lock);
	is_settled = true;
	pthread_cond_broadcast(&changed);
	while (keeps && !is_over)
		pthread_cond_wait(&changed, &lock);
	pthread_mutex_unlock(&lock);
	return arg;
}

void keeper_start(const int *fds, unsigned nfds)
{
	pthread_mutex_init(&lock, NULL);
	pthread_cond_init(&changed, NULL);
	is_settled = is_over = false;
	nkept = nfds < KEPT ? nfds : KEPT;
	for (unsigned i = 0; i < nkept; i++)
		kept[i] = (unsigned)fds[i];
	qsort(kept, nkept, sizeof(kept[0]), compare);
	is_there = nkept && !pthread_create(&keeper, NULL, keeper_main, NULL);
	if (!is_there)
		return;
	pthread_mutex_lock(&lock);
	while (!is_settled)
		pthread_cond_wait(&changed, &lock);
	pthread_mutex_unlock(&lock);
}

void keeper_end(void)
{
	if (!is_there)
		return;
	pthread_mutex_lock(&lock);
	is_over = true;
	pthread_cond_broadcast(&changed);
	pthread_mutex_unlock(&lock);
	pthread_join(keeper, NULL);
	is_there = false;
}
