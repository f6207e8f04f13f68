/* SPDX-License-Identifier: MIT */
/*
 * umm top: what programs under the shim do, as it happens. Reads the shared memory of one
 * program, or of all of this user's, and shows numbers and their rates since the last look.
 *
 * One thread. A program that ends leaves the screen.
 */
#include <dirent.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
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
static void ratios_print(const uint64_t count[CHANNEL_NR_COUNTS])
{
	double touched = (double)count[CHANNEL_TOUCHED],
	       along = (double)count[CHANNEL_BROUGHT_ALONG];

	printf(", hit ratio %3.0f %%, thrash %3.0f %%", percent(along, touched + along),
	       percent((double)count[CHANNEL_RETURNED], touched));
}

static void rates_print(const uint64_t delta[CHANNEL_NR_COUNTS], double seconds)
{
	printf("%8stouches %9.0f/s", "", (double)delta[CHANNEL_TOUCHED] / seconds);
	ratios_print(delta);
	printf(", pressure %3.0f %%\n", percent((double)delta[CHANNEL_FAULT_NS] / 1e9, seconds));
	printf("%8sout %9.1f MiB/s, home %9.1f MiB/s", "", mib(delta[CHANNEL_TO_DEVICE]) / seconds,
	       mib(delta[CHANNEL_FROM_DEVICE]) / seconds);
}

static void sums_print(const uint64_t now[CHANNEL_NR_COUNTS])
{
	printf("%8stouches %llu", "", (unsigned long long)now[CHANNEL_TOUCHED]);
	ratios_print(now);
	printf("\n%8sout %.1f MiB, home %.1f MiB", "", mib(now[CHANNEL_TO_DEVICE]),
	       mib(now[CHANNEL_FROM_DEVICE]));
}

static void tiers_print(const struct channel *channel)
{
	for (uint32_t i = 0; i < channel->ntiers && i < SETTINGS_DEVICES; i++)
		printf("%8s%-20.20s %9.1f of %9.1f MiB%s\n", "", channel->tier[i].name,
		       mib(channel->tier[i].used), mib(channel->tier[i].bytes),
		       channel->tier[i].is_broken ? "  BROKEN" : "");
}

static void program_print(const struct channel *channel, double seconds)
{
	struct seen *last = seen_of(channel->head.pid);
	uint64_t now[CHANNEL_NR_COUNTS] = { 0 }, delta[CHANNEL_NR_COUNTS] = { 0 };

	for (unsigned i = 0; i < CHANNEL_NR_COUNTS; i++) {
		now[i] = channel->count[i];
		delta[i] = now[i] - last->count[i];
		last->count[i] = now[i];
	}
	printf("%7d %-16.16s host %9.1f of %9.1f MiB, managed %9.1f MiB%s\n",
	       (int)channel->head.pid, channel->program, mib(now[CHANNEL_HOST]),
	       mib(channel->host_limit), mib(now[CHANNEL_MANAGED]),
	       channel->is_thrashing ? "  THRASHING" : "");
	tiers_print(channel);
	if (seconds > 0)
		rates_print(delta, seconds);
	else
		sums_print(now);
	printf(", lost %llu, late %llu\n", (unsigned long long)now[CHANNEL_LOST],
	       (unsigned long long)now[CHANNEL_LATE]);
}

/* False: it cannot be looked at; @error says why. */
static bool program_show(pid_t pid, double seconds, char error[SETTINGS_ERROR_LEN])
{
	struct channel *channel = channel_open(pid, error);

	if (!channel)
		return false;
	program_print(channel, seconds);
	munmap(channel, sizeof(*channel));
	return true;
}

/* Those of this user. */
static unsigned all_show(double seconds)
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
			n += program_show(pid, seconds, error);
	}
	if (dir)
		closedir(dir);
	return n;
}

static int look(pid_t pid, double seconds)
{
	char error[SETTINGS_ERROR_LEN];

	if (pid && !program_show(pid, seconds, error)) {
		fprintf(stderr, "umm top: %s\n", error);
		return TOOL_FAILED;
	}
	if (!pid && !all_show(seconds))
		printf("No program of this user has had to leave the host.\n");
	return tool_finish_output("top");
}

static int top_run(pid_t pid, bool once, double interval)
{
	struct timespec pause = {
		.tv_sec = (time_t)interval,
		.tv_nsec = (long)((interval - (double)(time_t)interval) * 1e9),
	};
	bool is_terminal = isatty(STDOUT_FILENO);
	int ret = look(pid, 0);

	while (!ret && !once) {
		nanosleep(&pause, NULL);
		printf("%s", is_terminal ? "\033[H\033[2J" : "\n");
		ret = look(pid, interval);
	}
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
