/* SPDX-License-Identifier: MIT */
/*
 * Control groups of both versions, one controller at a time: in the unified hierarchy, or in the
 * controller's own where it has one.
 */
#include "cgroup.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define ROOT "/sys/fs/cgroup"

static bool put(const char *dir, const char *file, const char *text)
{
	char path[256];
	bool done;
	int fd;

	snprintf(path, sizeof(path), "%s/%s", dir, file);
	fd = open(path, O_WRONLY | O_CLOEXEC);
	if (fd < 0)
		return false;
	done = write(fd, text, strlen(text)) == (ssize_t)strlen(text);
	close(fd);
	return done;
}

/* The group that the process is in, where this container can see it; else the root. */
static void home_find(struct cgroup *group, const char *root, const char *line_start)
{
	char line[512], *at;
	FILE *file = fopen("/proc/self/cgroup", "r");

	snprintf(group->home, sizeof(group->home), "%s", root);
	while (file && fgets(line, sizeof(line), file)) {
		at = strstr(line, line_start);
		if (!at)
			continue;
		at[strcspn(at, "\n")] = '\0';
		snprintf(group->home, sizeof(group->home), "%s%.128s", root,
			 at + strlen(line_start));
	}
	if (file)
		fclose(file);
	if (access(group->home, F_OK))
		snprintf(group->home, sizeof(group->home), "%s", root);
}

bool cgroup_create(struct cgroup *group, const char *controller)
{
	char root[64], text[64];

	snprintf(root, sizeof(root), ROOT "/%s", controller);
	group->unified = access(root, F_OK) != 0;
	if (group->unified)
		snprintf(root, sizeof(root), ROOT);
	snprintf(text, sizeof(text), group->unified ? "0::" : ":%s:", controller);
	home_find(group, root, text);
	snprintf(text, sizeof(text), "+%s", controller);
	if (group->unified && !put(root, "cgroup.subtree_control", text))
		return false;
	snprintf(group->dir, sizeof(group->dir), "%s/umm-test-%d", root, (int)getpid());
	return !mkdir(group->dir, 0755);
}

bool cgroup_create_inside(const struct cgroup *outer, const char *controller, struct cgroup *group)
{
	char text[64];

	snprintf(text, sizeof(text), "+%s", controller);
	*group = *outer;
	snprintf(group->dir, sizeof(group->dir), "%.160s/inside", outer->dir);
	if (outer->unified && !put(outer->dir, "cgroup.subtree_control", text))
		return false;
	return !mkdir(group->dir, 0755);
}

bool cgroup_write(const struct cgroup *group, const char *file, const char *text)
{
	return put(group->dir, file, text);
}

static bool enter(const char *dir)
{
	char pid[16];

	snprintf(pid, sizeof(pid), "%d", (int)getpid());
	return put(dir, "cgroup.procs", pid);
}

bool cgroup_enter(const struct cgroup *group)
{
	return enter(group->dir);
}

void cgroup_leave(const struct cgroup *group)
{
	enter(group->home);
	/* What it was charged goes away with its memory, and may hold the group for a moment. */
	for (unsigned i = 0; rmdir(group->dir) && i < 1000; i++)
		usleep(1000);
}
