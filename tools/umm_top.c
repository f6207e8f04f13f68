/* SPDX-License-Identifier: MIT */
/*
 * umm top: what programs under the shim do, as it happens. Reads the shared memory of one
 * program, or of all of this user's, and shows numbers and their rates since the last look.
 *
 * One thread. A program that ends leaves the screen.
 */
#include <dirent.h>
#include <errno.h>
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "channel.h"
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

static void rates_print(const uint64_t delta[CHANNEL_NR_COUNTS], double seconds)
{
	double touched = (double)delta[CHANNEL_TOUCHED],
	       along = (double)delta[CHANNEL_BROUGHT_ALONG];

	printf("%8stouches %9.0f/s, brought along %3.0f %%, out %7.1f MiB/s, home %7.1f MiB/s", "",
	       touched / seconds, along > 0 ? 100 * along / (touched + along) : 0.0,
	       mib(delta[CHANNEL_TO_DEVICE]) / seconds, mib(delta[CHANNEL_FROM_DEVICE]) / seconds);
}

static void sums_print(const uint64_t now[CHANNEL_NR_COUNTS])
{
	printf("%8stouches %llu, brought along %llu, out %.1f MiB, home %.1f MiB", "",
	       (unsigned long long)now[CHANNEL_TOUCHED],
	       (unsigned long long)now[CHANNEL_BROUGHT_ALONG], mib(now[CHANNEL_TO_DEVICE]),
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
	struct seen *last = seen_of(channel->pid);
	uint64_t now[CHANNEL_NR_COUNTS] = { 0 }, delta[CHANNEL_NR_COUNTS] = { 0 };

	for (unsigned i = 0; i < CHANNEL_NR_COUNTS; i++) {
		now[i] = channel->count[i];
		delta[i] = now[i] - last->count[i];
		last->count[i] = now[i];
	}
	printf("%7d %-16.16s host %9.1f of %9.1f MiB, managed %9.1f MiB%s\n", (int)channel->pid,
	       channel->program, mib(now[CHANNEL_HOST]), mib(channel->host_limit),
	       mib(now[CHANNEL_MANAGED]), channel->is_thrashing ? "  THRASHING" : "");
	tiers_print(channel);
	if (seconds > 0)
		rates_print(delta, seconds);
	else
		sums_print(now);
	printf(", lost %llu\n", (unsigned long long)now[CHANNEL_LOST]);
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

/* Those of this user that are alive. What a program left that was killed is taken away. */
static unsigned all_show(double seconds)
{
	char error[SETTINGS_ERROR_LEN], prefix[32];
	DIR *dir = opendir("/dev/shm");
	struct dirent *entry;
	unsigned n = 0;
	size_t len;

	len = (size_t)snprintf(prefix, sizeof(prefix), "umm-%u-", (unsigned)geteuid());
	while (dir && (entry = readdir(dir))) {
		pid_t pid;

		if (strncmp(entry->d_name, prefix, len) != 0)
			continue;
		pid = (pid_t)strtol(entry->d_name + len, NULL, 10);
		if (kill(pid, 0) && errno == ESRCH)
			channel_remove(pid);
		else
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
	long pid = 0;
	int option;

	opterr = 0;
	while ((option = getopt_long(argc, argv, "1i:h", options, NULL)) != -1) {
		if (option == 'h') {
			help_print();
			return tool_finish_output("top");
		}
		if (option == 'i')
			interval = strtod(optarg, &end);
		if (option == '?' ||
		    (option == 'i' && (*end || !(interval >= 0.01 && interval < 1e6))))
			return tool_usage_error("top", argv[optind - 1]);
		once |= option == '1';
	}
	if (optind < argc) {
		pid = strtol(argv[optind], &end, 10);
		if (*end || pid <= 0 || pid > INT32_MAX || optind + 1 < argc)
			return tool_usage_error("top", argv[argc - 1]);
	}
	return top_run((pid_t)pid, once, interval);
}
