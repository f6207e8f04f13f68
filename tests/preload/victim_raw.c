/* SPDX-License-Identifier: MIT */
/*
 * A program that deals with the kernel in ways of its own, while more of its memory is on devices
 * than in the host. usage: victim_raw CASE [FILE]
 */
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "victim.h"

/* Descriptor 2 becomes a file of data, before there is reason for a message. */
static void data_at_2(const char *file)
{
	static const char begin[] = "begin\n", end[] = "end\n";
	char *ptr;

	check(!close(STDERR_FILENO));
	check(open(file, O_CREAT | O_TRUNC | O_WRONLY, 0600) == STDERR_FILENO);
	check(write(STDERR_FILENO, begin, strlen(begin)) == (ssize_t)strlen(begin));
	ptr = malloc(96 * MIB);
	fill(ptr, 96 * MIB, 31);
	check(is_filled(ptr, 96 * MIB, 31));
	check(write(STDERR_FILENO, end, strlen(end)) == (ssize_t)strlen(end));
	free(ptr);
}

static const struct {
	const char *name;
	void (*run)(const char *file);
} programs[] = {
	{ "data_at_2", data_at_2 },
};

int main(int argc, char **argv)
{
	for (size_t i = 0; argc > 1 && i < sizeof(programs) / sizeof(programs[0]); i++)
		if (!strcmp(programs[i].name, argv[1])) {
			programs[i].run(argv[2]);
			puts("victim: all as it should be");
			return 0;
		}
	return 2;
}
