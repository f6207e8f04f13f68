/* SPDX-License-Identifier: MIT */
/* Which process a number on the command line means. */
#ifndef TARGET_H
#define TARGET_H

#include <stdbool.h>
#include <sys/types.h>

/* A process number in decimal digits; 0: it is none. */
pid_t target_number(const char *text);

/* The program that "umm run" waits for, where @pid is that; else @pid. */
pid_t target_pid(pid_t pid);

/* A descriptor of the process, for target_lives(); negative: errno says why not. */
int target_watch(pid_t pid);

/* Wait so long, or until the process ends: false. */
bool target_lives(int pidfd, int ms);

#endif
