/* SPDX-License-Identifier: MIT */
/*
 * umm map: a picture of where a program's managed memory lives, address by time.
 *
 * Asks the program's engine for one sheet after the other (sheet.h) through the shared
 * memory, keeps what they say, and has map_svg.c draw it when the time is up, the program
 * ends, or the user interrupts. Code addresses of allocation sites become names of objects, as
 * /proc/PID/maps has them, while the program is still there.
 *
 * One thread; a signal handler that sets a flag.
 */
#include <errno.h>
#include <getopt.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "channel.h"
#include "map_svg.h"
#include "target.h"
#include "tool.h"

enum {
	COLUMNS = 120,
	INTERVAL_MIN_MS = 100,
	ANSWER_MS = 10000, /* the engine may be busy, and the machine with it */
};

struct options {
	const char *path;
	double seconds;
	pid_t pid;
};

static volatile sig_atomic_t interrupted;

static void help_print(void)
{
	printf("usage: umm map [-o FILE] [--seconds N] PID\n"
	       "\n"
	       "Draws where the memory of a program under \"umm run\" is, address by time, until\n"
	       "the time is up, the program ends, or it is interrupted.\n"
	       "\n"
	       "  -o, --output FILE    the picture, in SVG; standard output otherwise\n"
	       "  -s, --seconds N      how long to look; 10, and 0 for one look\n"
	       "  -h, --help           print this text\n");
}

static void interrupt(int signal)
{
	(void)signal;
	interrupted = 1;
}

/* Wait so long, or until the program ends: false. */
static bool program_lives(int pidfd, int ms)
{
	struct pollfd fd = { .fd = pidfd, .events = POLLIN };

	return poll(&fd, 1, ms) <= 0;
}

/* False: there is no answer, because the program has ended or does not run. */
static bool sheet_get(struct channel *channel, int pidfd)
{
	struct sheet *sheet = &channel->sheet;
	uint32_t number = atomic_load(&sheet->done) + 1;

	atomic_store(&sheet->wanted, number);
	for (int ms = 0; ms < ANSWER_MS && !interrupted; ms += 5) {
		if (atomic_load(&sheet->done) == number)
			return true;
		if (!program_lives(pidfd, 5))
			return false;
	}
	return atomic_load(&sheet->done) == number;
}

/* Look until there is nothing more to see. False: no memory. */
static bool watch(struct channel *channel, struct map *map, int pidfd, double seconds)
{
	int interval_ms = (int)(seconds * 1000 / COLUMNS);

	if (interval_ms < INTERVAL_MIN_MS)
		interval_ms = INTERVAL_MIN_MS;
	for (double at = 0; at <= seconds && !interrupted; at += interval_ms / 1000.0) {
		if (!sheet_get(channel, pidfd))
			break;
		if (!map_add(map, channel))
			return false;
		if (at + interval_ms / 1000.0 <= seconds && !program_lives(pidfd, interval_ms))
			break;
	}
	return true;
}

static int complain(const char *what)
{
	fprintf(stderr, "umm map: %s\n", what);
	return TOOL_FAILED;
}

/* A picture that could not be written is of no use: what there is of it is taken away. */
static int draw(const struct map *map, const char *path)
{
	FILE *out = path ? fopen(path, "we") : stdout;
	char text[SETTINGS_ERROR_LEN];
	int error = 0;
	struct stat st;

	if (!out || !map_draw(map, out) || fflush(out))
		error = errno ? errno : EIO;
	if (out && path && fclose(out) && !error)
		error = errno;
	if (!error)
		return TOOL_OK;
	if (out && path && !lstat(path, &st) && S_ISREG(st.st_mode))
		unlink(path);
	snprintf(text, sizeof(text), "writing %.180s: %s; there is no picture",
		 path ? path : "standard output", strerror(error));
	return complain(text);
}

static int map_program(struct channel *channel, int pidfd, const struct options *options)
{
	struct map map = { .pid = channel->head.pid };
	int ret;

	if (channel_reserve(channel, &channel->sheet, sizeof(channel->sheet)))
		return complain("/dev/shm is full: there is no room for what the program tells");
	if (!watch(channel, &map, pidfd, options->seconds))
		ret = complain("no memory for what was seen; look for a shorter time (--seconds)");
	else if (!map.nlooks)
		ret = complain(
			"the program ended, or did not answer, before it could be looked at");
	else
		ret = draw(&map, options->path);
	map_free(&map);
	return ret;
}

static int map_run(const struct options *options)
{
	struct sigaction action = { .sa_handler = interrupt };
	char error[SETTINGS_ERROR_LEN];
	struct channel *channel = channel_open(options->pid, error);
	int pidfd, ret;

	if (!channel)
		return complain(error);
	pidfd = (int)syscall(SYS_pidfd_open, options->pid, 0);
	if (pidfd < 0)
		return complain(strerror(errno));
	sigaction(SIGINT, &action, NULL);
	sigaction(SIGTERM, &action, NULL);
	ret = map_program(channel, pidfd, options);
	close(pidfd);
	return ret;
}

/* TOOL_OK: go on. */
static int options_parse(int argc, char **argv, struct options *out)
{
	static const struct option options[] = {
		{ "output", required_argument, NULL, 'o' },
		{ "seconds", required_argument, NULL, 's' },
		{ NULL, 0, NULL, 0 },
	};
	char *end = NULL;
	pid_t pid;
	int option;

	opterr = 0;
	while ((option = getopt_long(argc, argv, ":o:s:", options, NULL)) != -1) {
		if (option == 'o')
			out->path = optarg;
		if (option == 's')
			out->seconds = strtod(optarg, &end);
		if (option == ':' && optopt == 'o')
			return tool_value_error("map", "--output", "the name of a file");
		if (option == ':' ||
		    (option == 's' &&
		     (end == optarg || *end || !(out->seconds >= 0 && out->seconds <= 86400))))
			return tool_value_error("map", "--seconds", "seconds, from 0 to 86400");
		if (option == '?')
			return tool_usage_error("map", argv[optind - 1]);
	}
	if (optind + 1 != argc) {
		fprintf(stderr, "umm map: it takes one process number; \"umm map --help\" says "
				"what else\n");
		return TOOL_USAGE;
	}
	pid = target_number(argv[optind]);
	if (!pid)
		return tool_usage_error("map", argv[optind]);
	out->pid = target_pid(pid);
	return TOOL_OK;
}

int map_main(int argc, char **argv)
{
	struct options options = { .seconds = 10 };
	int ret;

	if (argc == 2 && (!strcmp(argv[1], "--help") || !strcmp(argv[1], "-h"))) {
		help_print();
		return tool_finish_output("map");
	}
	ret = options_parse(argc, argv, &options);
	return ret ? ret : map_run(&options);
}
