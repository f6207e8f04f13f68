/* SPDX-License-Identifier: MIT */
/*
 * A process that populates memory beyond the limit of its memory cgroup is killed: the kernel has
 * no error for it. So who is about to take much memory asks here first. The process's group and
 * all above it count, in the unified hierarchy or, where the memory controller has one of its own,
 * in that. Page cache is no obstacle, for the kernel drops it before it kills.
 *
 * Groups whose files are not there have no limit, or are outside of this container.
 *
 * What a thread was allowed to take counts as taken from before it looks until it has it: two that
 * ask at once may both be refused, and never both be allowed what there is once. No locks.
 */
#include "limit.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "clock.h"
#include "sysfs.h"

#define GROUPS_BYTES 4096
/* Nobody takes memory faster, in bytes a nanosecond; and limits may be set at any time. */
#define TAKEN_PER_NS 64
#define FAR_MAX_NS   UINT64_C(100000000)

static struct {
	_Atomic uint64_t asked; /* allowed, and perhaps not taken yet */
	_Atomic uint64_t pools;
	_Atomic uint64_t far_ns; /* until then the limit is known to be far */
} state;

/* The files of one version of control groups. */
struct hierarchy {
	const char *root;
	const char *limit, *usage;
	const char *inactive, *active; /* lines of memory.stat: page cache */
};

static const struct hierarchy unified = {
	"/sys/fs/cgroup", "memory.max", "memory.current", "\ninactive_file ", "\nactive_file ",
};

static const struct hierarchy own = {
	"/sys/fs/cgroup/memory",  "memory.limit_in_bytes", "memory.usage_in_bytes",
	"\ntotal_inactive_file ", "\ntotal_active_file ",
};

static uint64_t number_after(const char *text, const char *name)
{
	const char *at = strstr(text, name);

	return at ? strtoull(at + strlen(name), NULL, 10) : 0;
}

/* Nobody can say what is left: nothing, then. */
static uint64_t unknown(char file[LIMIT_FILE])
{
	snprintf(file, LIMIT_FILE, "'ulimit -n', as no descriptor is left to ask for the limit");
	return 0;
}

/* What one group leaves; UINT64_MAX: any amount. The page cache is asked for where that matters. */
static uint64_t group_headroom(const struct hierarchy *files, const char *group, uint64_t enough,
			       char file[LIMIT_FILE])
{
	char text[GROUPS_BYTES], path[LIMIT_FILE];
	uint64_t limit, usage, cache;
	int ret;

	snprintf(file, LIMIT_FILE, "%s%s/%s", files->root, group, files->limit);
	ret = sysfs_read(file, text, sizeof(text));
	if (sysfs_is_short(ret))
		return unknown(file);
	if (ret || text[0] < '0' || text[0] > '9')
		return UINT64_MAX;
	limit = strtoull(text, NULL, 10);
	snprintf(path, sizeof(path), "%s%s/%s", files->root, group, files->usage);
	ret = sysfs_read(path, text, sizeof(text));
	if (sysfs_is_short(ret))
		return unknown(file);
	usage = strtoull(text, NULL, 10);
	if (usage < limit && limit - usage >= enough)
		return limit - usage;
	snprintf(path, sizeof(path), "%s%s/memory.stat", files->root, group);
	sysfs_read(path, text, sizeof(text));
	cache = number_after(text, files->inactive) + number_after(text, files->active);
	usage -= cache < usage ? cache : usage;
	return usage < limit ? limit - usage : 0;
}

/* Is it one of a list like "cpuset,memory" of this length? */
static bool list_has(const char *list, size_t len, const char *name)
{
	size_t n;

	for (const char *at = list; at < list + len; at += n + 1) {
		n = strcspn(at, ",:");
		if (n == strlen(name) && !strncmp(at, name, n))
			return true;
	}
	return !len && !*name;
}

/* The process's group in the hierarchy of this controller: "number:controllers:group". */
static bool group_find(const char *text, const char *controller, char *group, size_t group_len)
{
	const char *list, *end;

	for (const char *line = text; *line; line += strcspn(line, "\n"), line += *line != '\0') {
		list = line + strcspn(line, ":\n");
		if (*list++ != ':')
			continue;
		end = list + strcspn(list, ":\n");
		if (*end != ':' || !list_has(list, (size_t)(end - list), controller))
			continue;
		snprintf(group, group_len, "%.*s", (int)strcspn(end + 1, "\n"), end + 1);
		return true;
	}
	return false;
}

uint64_t limit_headroom(uint64_t enough, char file[LIMIT_FILE])
{
	const struct hierarchy *files = &own;
	char text[GROUPS_BYTES], group[LIMIT_FILE / 2], at[LIMIT_FILE];
	uint64_t least = UINT64_MAX, headroom;
	char *end;
	int ret;

	file[0] = '\0';
	ret = sysfs_read("/proc/self/cgroup", text, sizeof(text));
	if (ret)
		return sysfs_is_short(ret) ? unknown(file) : UINT64_MAX;
	if (!group_find(text, "memory", group, sizeof(group))) {
		files = &unified;
		if (!group_find(text, "", group, sizeof(group)))
			return UINT64_MAX;
	}
	for (;;) {
		if (!strcmp(group, "/"))
			group[0] = '\0';
		headroom = group_headroom(files, group, enough, at);
		if (headroom < least) {
			least = headroom;
			memcpy(file, at, LIMIT_FILE);
		}
		end = strrchr(group, '/');
		if (!end)
			return least;
		*end = '\0';
	}
}

bool limit_ask(uint64_t len, uint64_t leave, char file[LIMIT_FILE])
{
	/* Before the look: who is allowed meanwhile sees it. */
	uint64_t needed = atomic_fetch_add(&state.asked, len) + len + leave;

	if (limit_headroom(needed, file) >= needed)
		return true;
	limit_taken(len);
	return false;
}

void limit_taken(uint64_t len)
{
	atomic_fetch_sub(&state.asked, len);
}

bool limit_is_far(uint64_t room)
{
	uint64_t now = clock_ns(), headroom, good_ns;
	char file[LIMIT_FILE];

	if (now < atomic_load(&state.far_ns))
		return true;
	room += atomic_load(&state.asked);
	headroom = limit_headroom(room + FAR_MAX_NS * TAKEN_PER_NS, file);
	if (headroom < room)
		return false;
	good_ns = (headroom - room) / TAKEN_PER_NS;
	atomic_store(&state.far_ns, now + (good_ns < FAR_MAX_NS ? good_ns : FAR_MAX_NS));
	return true;
}

uint64_t limit_pools(void)
{
	return atomic_load(&state.pools);
}

void limit_pools_add(int64_t len)
{
	atomic_fetch_add(&state.pools, (uint64_t)len);
}

static void fork_child(void)
{
	atomic_store(&state.asked, 0);
	atomic_store(&state.pools, 0);
}

static void start(void)
{
	pthread_atfork(NULL, NULL, fork_child);
}

void limit_start(void)
{
	static pthread_once_t once = PTHREAD_ONCE_INIT;

	pthread_once(&once, start);
}
