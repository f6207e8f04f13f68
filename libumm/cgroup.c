/* SPDX-License-Identifier: MIT */
/*
 * The memory limit of the process's control group and of those above it, in the unified hierarchy
 * or, where the memory controller has one of its own, in that. Groups whose files are not there
 * have no limit, or are outside of this container. No state, no locks.
 */
#include "cgroup.h"

#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define TEXT_BYTES  4096
#define GROUP_BYTES 512

static bool file_read(const char *path, char *text, size_t text_len)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t len;

	if (fd < 0)
		return false;
	len = read(fd, text, text_len - 1);
	close(fd);
	text[len > 0 ? len : 0] = '\0';
	return len > 0;
}

/* The rest of the line of /proc/self/cgroup that begins, or goes on, so. */
static bool group_find(const char *text, const char *line, char *group)
{
	const char *at = strstr(text, line);

	if (!at)
		return false;
	at += strlen(line);
	snprintf(group, GROUP_BYTES, "%.*s", (int)strcspn(at, "\n"), at);
	return true;
}

static uint64_t group_limit(const char *root, const char *group, const char *file)
{
	char path[GROUP_BYTES + 64], text[32];

	snprintf(path, sizeof(path), "%s%s/%s", root, group, file);
	if (!file_read(path, text, sizeof(text)) || text[0] < '0' || text[0] > '9')
		return UINT64_MAX;
	return strtoull(text, NULL, 10);
}

uint64_t cgroup_memory_limit(void)
{
	const char *root = "/sys/fs/cgroup/memory", *file = "memory.limit_in_bytes";
	char text[TEXT_BYTES], group[GROUP_BYTES];
	uint64_t least = UINT64_MAX, limit;
	char *end;

	if (!file_read("/proc/self/cgroup", text, sizeof(text)))
		return UINT64_MAX;
	if (!group_find(text, ":memory:", group)) {
		root = "/sys/fs/cgroup";
		file = "memory.max";
		if (!group_find(text, "0::", group))
			return UINT64_MAX;
	}
	do {
		limit = group_limit(root, strcmp(group, "/") != 0 ? group : "", file);
		least = limit < least ? limit : least;
		end = strrchr(group, '/');
		if (end)
			*end = '\0';
	} while (end);
	return least;
}
