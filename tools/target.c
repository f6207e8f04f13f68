/* SPDX-License-Identifier: MIT */
/*
 * Which process a number on the command line means. A shell knows the number of the "umm run" that
 * it started; where that waits for its program, to print a summary or to record a trace, the
 * program is its only child, and is what is meant.
 *
 * No state, no locks.
 */
#include "target.h"

#include <limits.h>
#include <poll.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

pid_t target_number(const char *text)
{
	/* Longer ones are too large. */
	long number = strspn(text, "0123456789") == strlen(text) && strlen(text) <= 10 ?
			      strtol(text, NULL, 10) :
			      0;

	return number <= INT_MAX ? (pid_t)number : 0;
}

/* It runs the command that this process runs. */
static bool is_umm(pid_t pid)
{
	struct stat theirs, ours;
	char path[64];

	snprintf(path, sizeof(path), "/proc/%d/exe", (int)pid);
	return !stat(path, &theirs) && !stat("/proc/self/exe", &ours) &&
	       theirs.st_dev == ours.st_dev && theirs.st_ino == ours.st_ino;
}

/* The first child; 0: there is none, or a kernel that does not list them. */
static pid_t child_of(pid_t pid)
{
	char path[64];
	int child = 0;
	FILE *file;

	snprintf(path, sizeof(path), "/proc/%d/task/%d/children", (int)pid, (int)pid);
	file = fopen(path, "re");
	if (!file)
		return 0;
	if (fscanf(file, "%d", &child) != 1)
		child = 0;
	fclose(file);
	return child;
}

pid_t target_pid(pid_t pid)
{
	pid_t child;

	while (is_umm(pid) && (child = child_of(pid)))
		pid = child;
	return pid;
}

int target_watch(pid_t pid)
{
	return (int)syscall(SYS_pidfd_open, pid, 0);
}

bool target_lives(int pidfd, int ms)
{
	struct pollfd fd = { .fd = pidfd, .events = POLLIN };

	return poll(&fd, 1, ms) <= 0;
}
