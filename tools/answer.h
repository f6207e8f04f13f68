/* SPDX-License-Identifier: MIT */
/* What a verb wants to hear from a program's engine: for how long, and what the user is told. */
#ifndef ANSWER_H
#define ANSWER_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

struct answer {
	const char *verb;
	pid_t pid;
	uint64_t since_ns;
	bool is_told; /* what is waited for */
};

/* From now on one is expected. */
struct answer answer_expect(const char *verb, pid_t pid);

/*
 * It has not come yet. After a moment a line says what is waited for. False: after ten seconds it
 * is not waited for any more, and another line says so.
 */
bool answer_may_come(struct answer *answer);

#endif
