/* SPDX-License-Identifier: MIT */
/*
 * umm map: a picture of where a program's managed memory lives, address by time.
 *
 * Asks the program's engine for one sheet after the other (sheet.h) through the shared
 * memory, keeps what they say, and has map_svg.c draw it when the time is up, the program
 * ends, or the user interrupts. Code addresses of allocation sites become names of objects, as
 * /proc/PID/maps has them, while the program is still there.
 *
 * One thread; a signal handler that sets a flag. A limit on the size of files is met like a full
 * disk, by what write() says.
 */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "answer.h"
#include "channel.h"
#include "map_svg.h"
#include "target.h"
#include "tool.h"

enum {
	COLUMNS = 120,
	INTERVAL_MIN_MS = 100,
	POLL_MS = 5,
};

struct options {
	const char *path;
	double seconds;
	pid_t pid;
};

/* Where the picture goes. What the file held before stays until there is one. */
struct output {
	FILE *file;
	const char *path; /* NULL: standard output */
	bool is_ours;	  /* nothing is in the file but what is of no use without the rest */
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

/* False: there is no answer, and why was said unless the program has ended. */
static bool sheet_get(struct channel *channel, int pidfd)
{
	struct answer answer = answer_expect("map", channel->head.pid);
	struct sheet *sheet = &channel->sheet;
	uint32_t number = atomic_load(&sheet->done) + 1;

	atomic_store(&sheet->wanted, number);
	while (atomic_load(&sheet->done) != number)
		if (interrupted || !target_lives(pidfd, POLL_MS) || !answer_may_come(&answer))
			return atomic_load(&sheet->done) == number;
	return true;
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
		if (at + interval_ms / 1000.0 <= seconds && !target_lives(pidfd, interval_ms))
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
static int give_up(struct output *out, const char *why)
{
	char *path = out->path && out->is_ours ? realpath(out->path, NULL) : NULL;
	struct stat st;

	if (out->path && out->file)
		fclose(out->file);
	if (path && !lstat(path, &st) && S_ISREG(st.st_mode))
		unlink(path);
	free(path);
	return why ? complain(why) : TOOL_FAILED;
}

/* False: errno. */
static bool output_empty(struct output *out)
{
	struct stat st;

	if (!out->path || fstat(fileno(out->file), &st) || !S_ISREG(st.st_mode))
		return true;
	out->is_ours = true;
	return !ftruncate(fileno(out->file), 0);
}

static int draw(const struct map *map, struct output *out)
{
	char text[SETTINGS_ERROR_LEN];
	int error = 0;

	if (!output_empty(out) || !map_draw(map, out->file) || fflush(out->file))
		error = errno ? errno : EIO;
	if (out->path && fclose(out->file) && !error)
		error = errno;
	out->file = NULL;
	if (!error)
		return TOOL_OK;
	snprintf(text, sizeof(text), "writing %.180s: %s; there is no picture",
		 out->path ? out->path : "standard output", strerror(error));
	return give_up(out, text);
}

/* NULL: it was said already. */
static const char *why_unseen(int pidfd)
{
	if (interrupted)
		return "interrupted before the program could be looked at";
	return target_lives(pidfd, 0) ? NULL : "the program ended before it could be looked at";
}

static int map_program(struct channel *channel, int pidfd, double seconds, struct output *out)
{
	struct map map = { .pid = channel->head.pid };
	int ret;

	if (!watch(channel, &map, pidfd, seconds))
		ret = give_up(out,
			      "no memory for what was seen; look for a shorter time (--seconds)");
	else if (!map.nlooks)
		ret = give_up(out, why_unseen(pidfd));
	else
		ret = draw(&map, out);
	map_free(&map);
	return ret;
}

/* Of a pipe without a reader it says what it waits for. Negative: errno. */
static int path_open(const char *path)
{
	int flags = O_WRONLY | O_CREAT | O_CLOEXEC;
	int fd = open(path, flags | O_NONBLOCK, 0666);

	if (fd >= 0 && fcntl(fd, F_SETFL, 0)) {
		close(fd);
		return -1;
	}
	if (fd >= 0 || errno != ENXIO)
		return fd;
	fprintf(stderr, "umm map: %s: nobody reads it; waiting for somebody who does\n", path);
	return open(path, flags, 0666);
}

/* False: the picture cannot be written there, which need not wait until there is one. */
static bool output_open(const char *path, struct output *out)
{
	int fd;

	*out = (struct output){ .path = path, .is_ours = path && access(path, F_OK) };
	if (path) {
		fd = path_open(path);
		out->file = fd < 0 ? NULL : fdopen(fd, "w");
	} else if ((fcntl(STDOUT_FILENO, F_GETFL) & O_ACCMODE) == O_RDONLY) {
		errno = EBADF;
	} else {
		out->file = stdout;
	}
	if (!out->file)
		fprintf(stderr, "umm map: writing %s: %s; there is no picture\n",
			path ? path : "standard output", strerror(errno));
	return out->file;
}

static int map_run(const struct options *options)
{
	struct sigaction action = { .sa_handler = interrupt };
	char error[SETTINGS_ERROR_LEN];
	struct channel *channel = channel_open_running(options->pid, error);
	int pidfd, ret = TOOL_FAILED;
	struct output out;

	if (!channel)
		return complain(error);
	pidfd = target_watch(options->pid);
	if (pidfd < 0)
		return complain(strerror(errno));
	sigaction(SIGINT, &action, NULL);
	sigaction(SIGTERM, &action, NULL);
	signal(SIGXFSZ, SIG_IGN);
	if (channel_reserve(channel, &channel->sheet, sizeof(channel->sheet)))
		ret = complain("/dev/shm is full: there is no room for what the program tells");
	else if (output_open(options->path, &out))
		ret = map_program(channel, pidfd, options->seconds, &out);
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
