/* SPDX-License-Identifier: MIT */
/*
 * Readers for the small text files of /proc and /sys.
 *
 * Every reader opens, reads and closes; nothing is kept. No state, no locks.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "system.h"

int system_read(const char *path, char *text, size_t text_len)
{
	ssize_t got;
	int fd;

	text[0] = '\0';
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	got = read(fd, text, text_len - 1);
	if (got < 0) {
		int ret = -errno;

		text[0] = '\0';
		close(fd);
		return ret;
	}
	close(fd);
	text[got] = '\0';
	text[strcspn(text, "\n")] = '\0';
	return 0;
}

bool system_read_number(const char *path, uint64_t *number)
{
	char text[SYSTEM_VALUE];

	return !system_read(path, text, sizeof(text)) && sscanf(text, "%" SCNu64, number) == 1;
}

int system_read_choice(const char *path, char *text, size_t text_len)
{
	char line[SYSTEM_VALUE];
	char *open_bracket, *close_bracket;
	int ret;

	text[0] = '\0';
	ret = system_read(path, line, sizeof(line));
	if (ret)
		return ret;
	open_bracket = strchr(line, '[');
	close_bracket = strchr(line, ']');
	if (!open_bracket || !close_bracket || close_bracket < open_bracket)
		return -EINVAL;
	*close_bracket = '\0';
	snprintf(text, text_len, "%s", open_bracket + 1);
	return 0;
}

bool system_read_field(const char *path, const char *key, uint64_t *bytes)
{
	FILE *file = fopen(path, "re");
	char line[SYSTEM_VALUE];
	bool found = false;
	uint64_t kib;

	if (!file)
		return false;
	while (!found && fgets(line, sizeof(line), file)) {
		/* Node files say "Node 0 MemTotal: 17 kB". */
		const char *at = strstr(line, key);

		if (!at || (at != line && at[-1] != ' ') || at[strlen(key)] != ':')
			continue;
		found = sscanf(at + strlen(key) + 1, "%" SCNu64, &kib) == 1;
	}
	fclose(file);
	if (found)
		*bytes = kib * 1024;
	return found;
}

bool system_memory(struct system_memory *memory)
{
	static const char path[] = "/proc/meminfo";

	return system_read_field(path, "MemTotal", &memory->total_bytes) &&
	       system_read_field(path, "MemAvailable", &memory->available_bytes) &&
	       system_read_field(path, "SwapTotal", &memory->swap_total_bytes) &&
	       system_read_field(path, "SwapFree", &memory->swap_free_bytes);
}

unsigned system_cpus(void)
{
	cpu_set_t set;
	long online;

	if (!sched_getaffinity(0, sizeof(set), &set))
		return (unsigned)CPU_COUNT(&set);
	/* More CPUs than the set holds. */
	online = sysconf(_SC_NPROCESSORS_ONLN);
	return online > 0 ? (unsigned)online : 1;
}
