/* SPDX-License-Identifier: MIT */
/*
 * When the last reference to a userfaultfd goes, the kernel takes the memory that it guards for
 * ordinary memory: what is on devices reads as zero. The program may close a number by ways that
 * nobody can stand in (a system call instruction of its own, io_uring). So a thread that has a
 * table of descriptors for itself keeps these files, and no others, open until the process ends:
 * a touch then waits, until the engine finds out and ends the program.
 *
 * What is to be kept is written before the thread starts. lock: a leaf, but in a forked child,
 * which has no keeper, and starts its own with both made anew.
 */
#include "keeper.h"

#include <limits.h>
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

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER; /* Protects: is_over */
static pthread_cond_t over = PTHREAD_COND_INITIALIZER;
static bool is_over;

static int compare(const void *a, const void *b)
{
	unsigned first = *(const unsigned *)a, second = *(const unsigned *)b;

	return first < second ? -1 : first > second;
}

static void *keeper_main(void *arg)
{
	unsigned from = 0;

	pthread_setname_np(pthread_self(), "umm-keeper");
	/* Where that is refused it would close the program's. */
	if (unshare(CLONE_FILES))
		return arg;
	for (unsigned i = 0; i < nkept; i++) {
		if (kept[i] > from)
			raw_close_range(from, kept[i] - 1, 0);
		from = kept[i] + 1;
	}
	raw_close_range(from, UINT_MAX, 0);
	pthread_mutex_lock(&lock);
	while (!is_over)
		pthread_cond_wait(&over, &lock);
	pthread_mutex_unlock(&lock);
	return arg;
}

void keeper_start(const int *fds, unsigned nfds)
{
	pthread_mutex_init(&lock, NULL);
	pthread_cond_init(&over, NULL);
	nkept = nfds < KEPT ? nfds : KEPT;
	for (unsigned i = 0; i < nkept; i++)
		kept[i] = (unsigned)fds[i];
	qsort(kept, nkept, sizeof(kept[0]), compare);
	is_there = nkept && !pthread_create(&keeper, NULL, keeper_main, NULL);
}

void keeper_end(void)
{
	if (!is_there)
		return;
	pthread_mutex_lock(&lock);
	is_over = true;
	pthread_cond_signal(&over);
	pthread_mutex_unlock(&lock);
	pthread_join(keeper, NULL);
	is_there = false;
}
