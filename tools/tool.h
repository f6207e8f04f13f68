/* SPDX-License-Identifier: MIT */
/*
 * What every verb of the umm command shares: a verb is one function in one file,
 * named in the table of umm.c. It parses its own options, prints to standard output,
 * complains on standard error as "umm VERB: what, where, what to do", and returns
 * one of the exit statuses below.
 */
#ifndef TOOL_H
#define TOOL_H

#include <stddef.h>
#include <stdlib.h>

enum tool_exit {
	TOOL_OK = 0,
	TOOL_FAILED = 1, /* it was asked for properly and could not be done */
	TOOL_USAGE = 2,	 /* it was not asked for properly */
};

struct tool_verb {
	const char *name;
	const char *summary; /* one line for umm --help */
	/* argv[0] is the verb's own name: getopt_long() works on it as it is. */
	int (*run)(int argc, char **argv);
};

int info_main(int argc, char **argv);
int map_main(int argc, char **argv);
int run_main(int argc, char **argv);
int set_main(int argc, char **argv);
int top_main(int argc, char **argv);
int trace_main(int argc, char **argv);

/* umm run, but this process becomes the program in every case; returns only where it cannot. */
int run_become(int argc, char **argv);

/* Say that a verb does not know the argument, and where to look. */
int tool_usage_error(const char *verb, const char *argument);

/* Say that an option's value is missing, or is not what it takes ("a number of seconds"). */
int tool_value_error(const char *verb, const char *option, const char *wanted);

/* What a variable such as HOME says, unless it is no absolute path: then NULL, as if not set. */
static inline const char *tool_directory(const char *variable)
{
	const char *path = getenv(variable);

	return path && *path == '/' ? path : NULL;
}

/* Make sure that all of standard output has been written; says so where it was not. */
int tool_finish_output(const char *verb);

#endif
