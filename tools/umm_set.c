/* SPDX-License-Identifier: MIT */
/*
 * umm set: changes limits of a program that runs under the shim. The values are checked by the
 * shim's own table and written into the shared memory; the program's engine looks there every
 * round. Of the round that is under way it may have looked before: the next one has surely taken
 * them.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "answer.h"
#include "channel.h"
#include "target.h"
#include "tool.h"

static void help_print(void)
{
	printf("usage: umm set PID KEY=VALUE...\n"
	       "\n"
	       "Changes limits of a program that runs under \"umm run\":\n"
	       "\n"
	       "  host-limit=BYTES     managed memory in host frames, at most\n"
	       "  cpu-budget=PERCENT   of one CPU, for finding cold memory\n");
}

enum { POLL_MS = 5 };

static int complain(const char *what)
{
	fprintf(stderr, "umm set: %s; \"umm set --help\" says what it takes\n", what);
	return TOOL_USAGE;
}

/* Into @settings; which of the two it was goes to @wanted. */
static int value_parse(char *argument, struct settings *settings, bool wanted[2])
{
	char *value = strchr(argument, '='), error[SETTINGS_ERROR_LEN];
	bool is_limit, is_budget;

	if (!value)
		return complain("a change has the form KEY=VALUE");
	*value++ = '\0';
	is_limit = strcmp(argument, "host-limit") == 0;
	is_budget = strcmp(argument, "cpu-budget") == 0;
	if (!is_limit && !is_budget)
		return complain("only host-limit and cpu-budget change while a program runs");
	if (settings_set(settings, argument, value, error))
		return complain(error);
	if (is_limit && !settings->host_limit)
		return complain("host-limit: a size; without a limit there is nothing to keep to");
	wanted[0] |= is_limit;
	wanted[1] |= is_budget;
	return TOOL_OK;
}

static int taken_wait(const struct channel *channel)
{
	struct answer answer = answer_expect("set", channel->head.pid);
	uint64_t rounds = channel->count[CHANNEL_ROUNDS] + 2;
	int pidfd = target_watch(channel->head.pid), ret = TOOL_OK;

	if (pidfd < 0) {
		fprintf(stderr, "umm set: %s\n", strerror(errno));
		return TOOL_FAILED;
	}
	while (!ret && channel->count[CHANNEL_ROUNDS] < rounds) {
		if (!target_lives(pidfd, POLL_MS)) {
			fprintf(stderr, "umm set: the program has ended\n");
			ret = TOOL_FAILED;
		} else if (!answer_may_come(&answer)) {
			ret = TOOL_FAILED;
		}
	}
	close(pidfd);
	return ret;
}

int set_main(int argc, char **argv)
{
	char error[SETTINGS_ERROR_LEN];
	struct settings settings;
	struct channel *channel;
	bool wanted[2] = { false, false };
	pid_t pid;

	if (argc == 2 && (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0)) {
		help_print();
		return tool_finish_output("set");
	}
	if (argc < 3)
		return complain("it takes a process number and a change");
	pid = target_number(argv[1]);
	if (!pid)
		return tool_usage_error("set", argv[1]);
	settings_default(&settings);
	for (int i = 2; i < argc; i++) {
		int ret = value_parse(argv[i], &settings, wanted);

		if (ret)
			return ret;
	}
	channel = channel_open_running(target_pid(pid), error);
	if (!channel) {
		fprintf(stderr, "umm set: %s\n", error);
		return TOOL_FAILED;
	}
	if (wanted[0])
		channel->host_limit = settings.host_limit / 4096 * 4096;
	if (wanted[1])
		channel->cpu_budget = settings.cpu_budget;
	return taken_wait(channel);
}
