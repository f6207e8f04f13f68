/* SPDX-License-Identifier: MIT */
/*
 * To look for an OpenCL device takes several times as long as all else that "umm run" does, for
 * what drivers there are has to be loaded; the program itself needs none of them until it
 * comes near its limit. So a device that was found is remembered for a day: by an empty file of its
 * name below the user's cache. What was not found is looked for each time. Where a device that
 * was found is gone when the program needs it, the shim says so. Nothing is remembered in a
 * directory of another user, as where sudo(8) leaves HOME what it was.
 *
 * No locks: a file is there or is not.
 */
#include "checked.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "tool.h"

enum { LATELY_S = 24 * 60 * 60 };

/* False: there is no cache, or the name is too long for a file. */
static bool path_of(char path[PATH_MAX], const char *device)
{
	const char *base = tool_directory("XDG_CACHE_HOME"), *home = tool_directory("HOME");
	char name[NAME_MAX + 1];
	size_t len = 0;
	int n;

	for (; *device; device++) {
		bool plain = isalnum((unsigned char)*device) || strchr("-_=", *device);

		if (len + 4 > sizeof(name))
			return false;
		len += (size_t)sprintf(name + len, plain ? "%c" : "%%%02x", (unsigned char)*device);
	}
	name[len] = '\0';
	if (!len || !(base || home))
		return false;
	n = snprintf(path, PATH_MAX, "%s%s/umm/%s", base ? base : home, base ? "" : "/.cache",
		     name);
	return n > 0 && n < PATH_MAX;
}

bool checked_lately(const char *device)
{
	struct timespec now;
	char path[PATH_MAX];
	struct stat st;

	/* Not time(), which may lag behind what futimens() has just written. */
	clock_gettime(CLOCK_REALTIME, &now);
	return path_of(path, device) && !lstat(path, &st) && S_ISREG(st.st_mode) &&
	       st.st_uid == geteuid() && st.st_mtime <= now.tv_sec &&
	       now.tv_sec - st.st_mtime < LATELY_S;
}

/* It is this user's, or is made in one that is: @more of those above it may be missing, too. */
static bool directory_have(char *path, unsigned more)
{
	char *slash = strrchr(path, '/');
	struct stat st;
	bool is_there;

	if (!stat(path, &st))
		return S_ISDIR(st.st_mode) && st.st_uid == geteuid();
	if (errno != ENOENT || !more || slash == path)
		return false;
	*slash = '\0';
	is_there = directory_have(path, more - 1);
	*slash = '/';
	return is_there && !mkdir(path, 0700);
}

void checked_note(const char *device)
{
	char path[PATH_MAX], *slash;
	int fd;

	if (!path_of(path, device))
		return;
	slash = strrchr(path, '/');
	*slash = '\0';
	if (!directory_have(path, 2))
		return;
	*slash = '/';
	fd = open(path, O_WRONLY | O_CREAT | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC, 0600);
	if (fd < 0)
		return; /* it takes longer the next time, too */
	futimens(fd, NULL);
	close(fd);
}
