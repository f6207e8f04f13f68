/* SPDX-License-Identifier: MIT */
/*
 * The umm command: finds the verb and hands it the rest of the command line.
 *
 * Verbs are rows of the table below; nothing else here knows what they do. One
 * thread, no state beyond the table, no locks.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <umm.h>

#include "tool.h"

static const struct tool_verb verbs[] = {
	{ "info", "what libumm can use on this machine, and what is missing", info_main },
	{ "run", "run a program with part of its memory on devices", run_main },
	{ "top", "watch programs that run so", top_main },
	{ "set", "change their limits and policies", set_main },
	{ "map", "draw where their memory is", map_main },
	{ "trace", "record what happens to it", trace_main },
};

#define NR_VERBS (sizeof(verbs) / sizeof(verbs[0]))

static const struct tool_verb *verb_find(const char *name)
{
	for (size_t i = 0; i < NR_VERBS; i++)
		if (!strcmp(verbs[i].name, name))
			return &verbs[i];
	return NULL;
}

/* Whether one letter added, dropped, replaced or swapped with its neighbour makes a into b. */
static bool is_one_slip(const char *a, const char *b)
{
	size_t len_a, len_b;

	while (*a && *a == *b) {
		a++;
		b++;
	}
	len_a = strlen(a);
	len_b = strlen(b);
	if (len_a == len_b + 1)
		return !strcmp(a + 1, b);
	if (len_b == len_a + 1)
		return !strcmp(a, b + 1);
	if (len_a != len_b || !len_a)
		return false;
	if (!strcmp(a + 1, b + 1))
		return true;
	return len_a > 1 && a[0] == b[1] && a[1] == b[0] && !strcmp(a + 2, b + 2);
}

static const struct tool_verb *verb_guess(const char *name)
{
	for (size_t i = 0; i < NR_VERBS; i++)
		if (is_one_slip(name, verbs[i].name))
			return &verbs[i];
	return NULL;
}

static int verb_unknown(const char *name)
{
	const struct tool_verb *guess = verb_guess(name);

	fprintf(stderr, "umm: there is no command \"%s\"; ", name);
	if (guess)
		fprintf(stderr, "did you mean \"umm %s\"? ", guess->name);
	fprintf(stderr, "\"umm --help\" lists the commands\n");
	return TOOL_USAGE;
}

int tool_usage_error(const char *verb, const char *argument)
{
	fprintf(stderr, "umm %s: unknown argument \"%s\"; \"umm %s --help\" says what it takes\n",
		verb, argument, verb);
	return TOOL_USAGE;
}

int tool_value_error(const char *verb, const char *option, const char *wanted)
{
	fprintf(stderr, "umm %s: %s takes %s; \"umm %s --help\" has more\n", verb, option, wanted,
		verb);
	return TOOL_USAGE;
}

int tool_finish_output(const char *verb)
{
	int write_error = fflush(stdout) ? errno : 0;

	if (!write_error && !ferror(stdout))
		return TOOL_OK;
	fprintf(stderr, "umm %s: writing to standard output failed: %s; the output is incomplete\n",
		verb, write_error ? strerror(write_error) : "an earlier write did");
	return TOOL_FAILED;
}

static void help_print(FILE *out)
{
	fprintf(out, "usage: umm COMMAND [OPTION...]\n"
		     "       umm --help | --version\n"
		     "\n"
		     "Tools around libumm: one pointer for the CPU and for devices.\n"
		     "\n"
		     "Commands:\n");
	for (size_t i = 0; i < NR_VERBS; i++)
		fprintf(out, "  %-8s %s\n", verbs[i].name, verbs[i].summary);
	fprintf(out, "\n"
		     "\"umm COMMAND --help\" explains one of them; so does umm-COMMAND(1).\n");
}

/* umm help, umm help VERB */
static int help_main(const char *name)
{
	const struct tool_verb *verb;
	char option[] = "--help";
	char *argv[] = { NULL, option, NULL };

	if (!name) {
		help_print(stdout);
		return tool_finish_output("help");
	}
	verb = verb_find(name);
	if (!verb)
		return verb_unknown(name);
	argv[0] = (char *)verb->name;
	return verb->run(2, argv);
}

/*
 * A standard descriptor that is closed would become the next file that is opened. What is in its
 * place fails as it does; a program that is run does not inherit it.
 */
static void standard_reserve(void)
{
	for (int fd = 0; fd <= STDERR_FILENO; fd++)
		if (fcntl(fd, F_GETFD) < 0)
			open("/dev/null", (fd ? O_RDONLY : O_WRONLY) | O_CLOEXEC);
}

int main(int argc, char **argv)
{
	const struct tool_verb *verb;

	standard_reserve();
	if (argc < 2) {
		help_print(stderr);
		return TOOL_USAGE;
	}
	if (!strcmp(argv[1], "--help") || !strcmp(argv[1], "-h"))
		return help_main(NULL);
	if (!strcmp(argv[1], "help"))
		return help_main(argv[2]);
	if (!strcmp(argv[1], "--version")) {
		printf("umm %s\n", umm_version());
		return tool_finish_output("--version");
	}
	verb = verb_find(argv[1]);
	return verb ? verb->run(argc - 1, argv + 1) : verb_unknown(argv[1]);
}
