/* SPDX-License-Identifier: MIT */
/*
 * umm top: what programs under the shim do, as it happens. Reads the shared memory of one
 * program, or of all of this user's, and shows numbers and their rates since the last look.
 *
 * On a terminal a look is no larger than that: what does not fit is left out. When its size
 * changes, what was seen last is shown anew. Names are the programs', and may be made to confuse
 * terminals: what is not plain text is shown as a question mark.
 *
 * One thread, and a signal handler that does nothing. A program that ends leaves the screen.
 */
#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <getopt.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "channel.h"
#include "target.h"
#include "tool.h"

enum { PROGRAMS_MAX = 64 };

struct seen {
	pid_t pid;
	uint64_t count[CHANNEL_NR_COUNTS];
};

static struct seen seen[PROGRAMS_MAX];

static void help_print(void)
{
	printf("usage: umm top [--once] [--interval SECONDS] [PID]\n"
	       "\n"
	       "Shows what programs under \"umm run\" keep in the host and on devices, and what\n"
	       "moves, until it is interrupted: all programs of this user, or one.\n"
	       "\n"
	       "  -1, --once               one look, without rates, and end\n"
	       "  -i, --interval SECONDS   between looks; 1\n"
	       "  -h, --help               print this text\n");
}

static double mib(uint64_t bytes)
{
	return (double)bytes / (1 << 20);
}

/* What was seen of it last; a place for it is found where it is new. */
static struct seen *seen_of(pid_t pid)
{
	struct seen *free_one = &seen[0];

	for (unsigned i = 0; i < PROGRAMS_MAX; i++) {
		if (seen[i].pid == pid)
			return &seen[i];
		if (!seen[i].pid)
			free_one = &seen[i];
	}
	*free_one = (struct seen){ .pid = pid };
	return free_one;
}

static double percent(double part, double whole)
{
	return whole > 0 ? 100 * part / whole : 0;
}

/* Of the pages that came home, those that nobody had to wait for; of the touches, the too soon. */
static void ratios_print(FILE *out, const uint64_t count[CHANNEL_NR_COUNTS])
{
	double touched = (double)count[CHANNEL_TOUCHED],
	       along = (double)count[CHANNEL_BROUGHT_ALONG];

	fprintf(out, ", hit ratio %3.0f %%, thrash %3.0f %%", percent(along, touched + along),
		percent((double)count[CHANNEL_RETURNED], touched));
}

static void rates_print(FILE *out, const uint64_t delta[CHANNEL_NR_COUNTS], double seconds)
{
	fprintf(out, "%8stouches %9.0f/s", "", (double)delta[CHANNEL_TOUCHED] / seconds);
	ratios_print(out, delta);
	fprintf(out, ", pressure %3.0f %%\n",
		percent((double)delta[CHANNEL_FAULT_NS] / 1e9, seconds));
	fprintf(out, "%8sout %9.1f MiB/s, home %9.1f MiB/s", "",
		mib(delta[CHANNEL_TO_DEVICE]) / seconds, mib(delta[CHANNEL_FROM_DEVICE]) / seconds);
}

static void sums_print(FILE *out, const uint64_t now[CHANNEL_NR_COUNTS])
{
	fprintf(out, "%8stouches %llu", "", (unsigned long long)now[CHANNEL_TOUCHED]);
	ratios_print(out, now);
	fprintf(out, "\n%8sout %.1f MiB, home %.1f MiB", "", mib(now[CHANNEL_TO_DEVICE]),
		mib(now[CHANNEL_FROM_DEVICE]));
}

static void tiers_print(FILE *out, const struct channel *channel)
{
	for (uint32_t i = 0; i < channel->ntiers && i < SETTINGS_DEVICES; i++)
		fprintf(out, "%8s%-20.20s %9.1f of %9.1f MiB%s\n", "", channel->tier[i].name,
			mib(channel->tier[i].used), mib(channel->tier[i].bytes),
			channel->tier[i].is_broken ? "  BROKEN" : "");
}

static void program_print(FILE *out, const struct channel *channel, double seconds)
{
	struct seen *last = seen_of(channel->head.pid);
	uint64_t now[CHANNEL_NR_COUNTS] = { 0 }, delta[CHANNEL_NR_COUNTS] = { 0 };

	for (unsigned i = 0; i < CHANNEL_NR_COUNTS; i++) {
		now[i] = channel->count[i];
		delta[i] = now[i] - last->count[i];
		last->count[i] = now[i];
	}
	fprintf(out, "%7d %-16.16s host %9.1f of %9.1f MiB, managed %9.1f MiB%s\n",
		(int)channel->head.pid, channel->program, mib(now[CHANNEL_HOST]),
		mib(channel->host_limit), mib(now[CHANNEL_MANAGED]),
		channel->is_thrashing ? "  THRASHING" : "");
	tiers_print(out, channel);
	if (seconds > 0)
		rates_print(out, delta, seconds);
	else
		sums_print(out, now);
	fprintf(out, ", lost %llu, late %llu\n", (unsigned long long)now[CHANNEL_LOST],
		(unsigned long long)now[CHANNEL_LATE]);
}

/* False: it cannot be looked at; @error says why. */
static bool program_show(FILE *out, pid_t pid, double seconds, char error[SETTINGS_ERROR_LEN])
{
	struct channel *channel = channel_open(pid, error);

	if (!channel)
		return false;
	program_print(out, channel, seconds);
	munmap(channel, sizeof(*channel));
	return true;
}

/* Those of this user. */
static unsigned all_show(FILE *out, double seconds)
{
	char error[SETTINGS_ERROR_LEN];
	struct dirent *entry;
	unsigned n = 0;
	DIR *dir;

	channel_files_clean(CHANNEL_MAGIC);
	dir = opendir(CHANNEL_DIR);
	while (dir && (entry = readdir(dir))) {
		pid_t pid = channel_file_pid(entry->d_name);

		if (pid)
			n += program_show(out, pid, seconds, error);
	}
	if (dir)
		closedir(dir);
	return n;
}

static int look(FILE *out, pid_t pid, double seconds)
{
	char error[SETTINGS_ERROR_LEN];

	if (pid && !program_show(out, pid, seconds, error)) {
		fprintf(stderr, "umm top: %s\n", error);
		return TOOL_FAILED;
	}
	if (!pid && !all_show(out, seconds))
		fprintf(out, "No program of this user has had to leave the host.\n");
	return TOOL_OK;
}

/* ---- the terminal --------------------------------------------------------------------- */

static void resized(int signal)
{
	(void)signal;
}

/* As much of the line as fits. */
static void line_show(const char *line, size_t len, size_t columns)
{
	for (size_t i = 0; i < len && i < columns; i++)
		putchar(isascii(line[i]) && isprint(line[i]) ? line[i] : '?');
}

/* Nothing of it makes the screen scroll: there is no line behind the last. */
static void screen_show(const char *text)
{
	size_t rows = SIZE_MAX, columns = SIZE_MAX;
	struct winsize size;

	if (!ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) && size.ws_row && size.ws_col) {
		rows = size.ws_row;
		columns = size.ws_col;
	}
	printf("\033[H\033[2J");
	for (size_t row = 0; row < rows && *text; row++) {
		size_t len = strcspn(text, "\n");

		if (row)
			printf("\n");
		line_show(text, len, columns);
		text += len + (text[len] == '\n');
	}
}

/* Until it is time for the next look. */
static void pause_on_screen(double interval, const char *text)
{
	struct timespec pause = {
		.tv_sec = (time_t)interval,
		.tv_nsec = (long)((interval - (double)(time_t)interval) * 1e9),
	};

	while (nanosleep(&pause, &pause) && errno == EINTR) {
		screen_show(text);
		fflush(stdout);
	}
}

/* One look, and @interval of rest behind it; 0: none. */
static int look_and_rest(pid_t pid, double seconds, double interval)
{
	bool is_screen = interval > 0 && isatty(STDOUT_FILENO);
	char *text = NULL;
	size_t len;
	FILE *out = open_memstream(&text, &len);
	int ret;

	if (!out) {
		fprintf(stderr, "umm top: %s\n", strerror(errno));
		return TOOL_FAILED;
	}
	ret = look(out, pid, seconds);
	if (fclose(out)) {
		fprintf(stderr, "umm top: %s\n", strerror(errno));
		ret = TOOL_FAILED;
	}
	if (!ret && is_screen)
		screen_show(text);
	else if (!ret)
		printf("%s%s", seconds > 0 ? "\n" : "", text);
	if (!ret)
		ret = tool_finish_output("top");
	if (!ret && interval > 0)
		pause_on_screen(interval, text);
	free(text);
	return ret;
}

static int top_run(pid_t pid, bool once, double interval)
{
	/* It ends a rest, but no write() that waits for the terminal. */
	struct sigaction action = { .sa_handler = resized, .sa_flags = SA_RESTART };
	int ret;

	if (once)
		return look_and_rest(pid, 0, 0);
	if (isatty(STDOUT_FILENO))
		sigaction(SIGWINCH, &action, NULL);
	ret = look_and_rest(pid, 0, interval);
	while (!ret)
		ret = look_and_rest(pid, interval, interval);
	return ret;
}

int top_main(int argc, char **argv)
{
	static const struct option options[] = {
		{ "once", no_argument, NULL, '1' },
		{ "interval", required_argument, NULL, 'i' },
		{ "help", no_argument, NULL, 'h' },
		{ NULL, 0, NULL, 0 },
	};
	double interval = 1;
	bool once = false;
	char *end = NULL;
	pid_t pid = 0;
	int option;

	opterr = 0;
	while ((option = getopt_long(argc, argv, ":1i:h", options, NULL)) != -1) {
		if (option == 'h') {
			help_print();
			return tool_finish_output("top");
		}
		if (option == 'i')
			interval = strtod(optarg, &end);
		if (option == ':' ||
		    (option == 'i' && (*end || !(interval >= 0.01 && interval < 1e6))))
			return tool_value_error("top", "--interval", "seconds, from 0.01 on");
		if (option == '?')
			return tool_usage_error("top", argv[optind - 1]);
		once |= option == '1';
	}
	if (optind < argc) {
		pid = target_number(argv[optind]);
		if (!pid || optind + 1 < argc)
			return tool_usage_error("top", argv[argc - 1]);
	}
	return top_run(pid ? target_pid(pid) : 0, once, interval);
}
