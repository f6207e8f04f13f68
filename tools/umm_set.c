/* SPDX-License-Identifier: MIT */
/*
 * umm set: changes limits and policies of a program that runs under the shim. The values are
 * checked by the shim's own table and written into the shared memory; the program's engine looks
 * there every round. Of the round that is under way it may have looked before: the next one has
 * surely taken them.
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

enum change { LIMIT, BUDGET, PLACEMENT, SAMPLING, NR_CHANGES };

static const char *const changes[NR_CHANGES] = {
	[LIMIT] = "host-limit",
	[BUDGET] = "cpu-budget",
	[PLACEMENT] = "placement",
	[SAMPLING] = "sampling",
};

static void help_print(void)
{
	printf("usage: umm set PID KEY=VALUE...\n"
	       "\n"
	       "Changes limits and policies of a program that runs under \"umm run\":\n"
	       "\n"
	       "  host-limit=BYTES     managed memory in host frames, at most\n"
	       "  cpu-budget=PERCENT   of one CPU, for finding cold memory\n"
	       "  placement=NAME       of devices: \"first\", \"roomiest\" or \"interleave\"\n"
	       "  sampling=NAME        which pages prove to be hot: by \"refault\", \"probe\",\n"
	       "                       \"second\" chance, or \"off\"\n");
}

enum { POLL_MS = 5 };

static int complain(const char *what)
{
	fprintf(stderr, "umm set: %s; \"umm set --help\" says what it takes\n", what);
	return TOOL_USAGE;
}

/* Into @settings; which of them it was goes to @wanted. */
static int value_parse(char *argument, struct settings *settings, bool wanted[NR_CHANGES])
{
	char *value = strchr(argument, '='), error[SETTINGS_ERROR_LEN];
	unsigned change = 0;

	if (!value)
		return complain("a change has the form KEY=VALUE");
	*value++ = '\0';
	while (change < NR_CHANGES && strcmp(argument, changes[change]) != 0)
		change++;
	if (change == NR_CHANGES)
		return complain("only host-limit, cpu-budget, placement and sampling change while "
				"a program runs");
	if (settings_set(settings, argument, value, error))
		return complain(error);
	if (change == LIMIT && !settings->host_limit)
		return complain("host-limit: a size; without a limit there is nothing to keep to");
	wanted[change] = true;
	return TOOL_OK;
}

static void changes_write(struct channel *channel, const struct settings *settings,
			  const bool wanted[NR_CHANGES])
{
	if (wanted[LIMIT])
		channel->host_limit = settings->host_limit / 4096 * 4096;
	if (wanted[BUDGET])
		channel->cpu_budget = settings->cpu_budget;
	if (wanted[PLACEMENT])
		channel->placement = place_number(settings->placement);
	if (wanted[SAMPLING])
		channel->sampling = sample_number(settings->sampling);
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
	bool wanted[NR_CHANGES] = { false };
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
	changes_write(channel, &settings, wanted);
	return taken_wait(channel);
}
