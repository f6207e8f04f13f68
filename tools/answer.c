/* SPDX-License-Identifier: MIT */
/*
 * What a verb wants to hear from a program's engine. One that is stopped, by a shell or a debugger,
 * does not answer; nor does one that waits for a device.
 *
 * No state, no locks.
 */
#include "answer.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

#define SECOND_NS UINT64_C(1000000000)

/* The engine may be busy, and the machine with it. */
enum { PATIENCE_S = 10 };

static uint64_t now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * SECOND_NS + (uint64_t)now.tv_nsec;
}

/* By a signal, or by who traces it. */
static bool is_stopped(pid_t pid)
{
	char path[64], line[128], state = '\0';
	FILE *file;

	snprintf(path, sizeof(path), "/proc/%d/status", (int)pid);
	file = fopen(path, "re");
	while (file && !state && fgets(line, sizeof(line), file))
		sscanf(line, "State: %c", &state);
	if (file)
		fclose(file);
	return state == 'T' || state == 't';
}

struct answer answer_expect(const char *verb, pid_t pid)
{
	return (struct answer){ .verb = verb, .pid = pid, .since_ns = now_ns() };
}

bool answer_may_come(struct answer *answer)
{
	uint64_t waited_ns = now_ns() - answer->since_ns;

	if (waited_ns > SECOND_NS && !answer->is_told) {
		fprintf(stderr, "umm %s: waiting for process %d, which %s\n", answer->verb,
			(int)answer->pid,
			is_stopped(answer->pid) ? "is stopped" : "does not answer");
		answer->is_told = true;
	}
	if (waited_ns <= PATIENCE_S * SECOND_NS)
		return true;
	fprintf(stderr, "umm %s: process %d %s\n", answer->verb, (int)answer->pid,
		is_stopped(answer->pid) ?
			"is stopped: it answers only when it goes on (kill -CONT)" :
			"has not answered for ten seconds");
	return false;
}
