/* SPDX-License-Identifier: MIT */
/*
 * When the last reference to a userfaultfd goes, the kernel takes the memory that it guards for
 * ordinary memory: what is on devices reads as zero. The program may close a number by ways that
 * nobody can stand in (a system call instruction of its own, io_uring). So a thread that has a
 * table of descriptors for itself keeps these files, and no others, open until the process ends:
 * a touch then waits, until the engine finds out and ends the program.
 *
 * No locks: what is to be kept is written before the thread starts.
 */
#include "keeper.h"

#include <limits.h>
#include <pthread.h>
#include <sched.h>
#include <stdlib.h>
#include <unistd.h>

#include "raw.h"

enum { KEPT = 16 };

static unsigned kept[KEPT], nkept; /* in ascending order */

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
	for (;;)
		pause();
}

void keeper_start(const int *fds, unsigned nfds)
{
	pthread_t thread;

	nkept = nfds < KEPT ? nfds : KEPT;
	for (unsigned i = 0; i < nkept; i++)
		kept[i] = (unsigned)fds[i];
	qsort(kept, nkept, sizeof(kept[0]), compare);
	if (nkept && !pthread_create(&thread, NULL, keeper_main, NULL))
		pthread_detach(thread);
}
