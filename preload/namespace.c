/* SPDX-License-Identifier: MIT */
/*
 * unshare() and setns(), for the whole program, also by way of syscall.c: into a user namespace,
 * and by setns() into some others, only a process of one thread may go, and the engine and libumm
 * have some. So where they are all that is in the way everything comes home first, they end, and it
 * is tried again. Who has threads of his own, or a device's library has, is refused as ever.
 *
 * A child of vfork() shares the parent's memory, but has a thread only. No locks, no state.
 */
#include "namespace.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "engine.h"
#include "raw.h"
#include "shim.h"

enum { LOOK_US = 500, LOOKS = 20000 };

struct threads {
	unsigned all, ours;
};

/* By their names, which the program's have not. */
static bool is_ours(int tasks, const char *number)
{
	char path[32], name[16] = "";
	int fd;

	snprintf(path, sizeof(path), "%.10s/comm", number);
	fd = openat(tasks, path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return false;
	if (read(fd, name, sizeof(name) - 1) < 0)
		*name = '\0';
	raw_close(fd);
	return !strncmp(name, "umm-", 4);
}

static struct threads threads_now(void)
{
	DIR *dir = opendir("/proc/self/task");
	struct threads now = { 0 };
	struct dirent *entry;

	while (dir && (entry = readdir(dir))) {
		if (*entry->d_name == '.')
			continue;
		now.all++;
		now.ours += is_ours(dirfd(dir), entry->d_name);
	}
	if (dir)
		closedir(dir);
	return now;
}

/* After a call that failed: true if it is worth another try. */
static bool alone(int ret)
{
	struct threads now;

	if (!ret || errno != EINVAL || !shim_is_armed() || thread_mode == THREAD_INTERNAL)
		return false;
	now = threads_now();
	if (now.ours && now.all == now.ours + 1) {
		engine_rest("the program enters a namespace for processes of one thread");
		/* Whoever joined them may be told before the kernel has done with them. */
		for (unsigned i = 0; i < LOOKS && threads_now().ours; i++)
			usleep(LOOK_US);
		return true;
	}
	errno = EINVAL;
	return false;
}

int namespace_leave(int flags)
{
	int ret = (int)raw_syscall(SYS_unshare, flags, 0, 0, 0, 0, 0);

	if (flags & CLONE_NEWUSER && alone(ret))
		ret = (int)raw_syscall(SYS_unshare, flags, 0, 0, 0, 0, 0);
	return ret;
}

int namespace_enter(int fd, int types)
{
	int ret = (int)raw_syscall(SYS_setns, fd, types, 0, 0, 0, 0);

	if (alone(ret))
		ret = (int)raw_syscall(SYS_setns, fd, types, 0, 0, 0, 0);
	return ret;
}

PRELOAD_API int unshare(int flags)
{
	return namespace_leave(flags);
}

PRELOAD_API int setns(int fd, int types)
{
	return namespace_enter(fd, types);
}
