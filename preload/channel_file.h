/* SPDX-License-Identifier: MIT */
/*
 * The names of the files behind channels, /dev/shm/umm-UID-PID, and what becomes of them when
 * a program ends without taking its own away.
 */
#ifndef CHANNEL_FILE_H
#define CHANNEL_FILE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#define CHANNEL_DIR "/dev/shm"

enum { CHANNEL_PATH_LEN = 64 };

/* How each file begins. */
struct channel_head {
	uint64_t magic; /* changes with the layout; stored last */
	uint64_t start; /* of the process, as the kernel tells it: ticks since it started itself */
	int32_t pid, runner; /* the "umm run" or "umm trace" that will read it in the end, or 0 */
};

/* What the kernel tells of a process. */
struct channel_process {
	uint64_t start;
	pid_t parent;
	bool has_ended; /* or is about to, and was not waited for yet */
};

void channel_file_path(char path[CHANNEL_PATH_LEN], uid_t uid, pid_t pid);
/* Of a name in CHANNEL_DIR: whose it is. 0: it is none of this user's. */
pid_t channel_file_pid(const char *name);

/*
 * Make this process's, of so many bytes, and lock it for as long as the process lives and runs this
 * program. The descriptor, which stays open and is not the caller's to close; -1: it cannot be.
 */
int channel_file_make(size_t len);
/* What channel_file_make() returned in this process; -1: nothing. */
int channel_file_own(void);
/* This process becomes another user's, and so does its file. Nothing where there is none. */
void channel_file_give(uid_t from, uid_t to);

/* The program of process @pid's file runs, or has just ended and was not waited for yet. */
bool channel_file_lives(int fd, pid_t pid, uint64_t magic);
/* Take away what programs of this user have left. */
void channel_files_clean(uint64_t magic);

/* False: there is none of this number. */
bool channel_process(pid_t pid, struct channel_process *out);

#endif
