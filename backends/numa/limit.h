/* SPDX-License-Identifier: MIT */
/* How much memory the process's control groups still let it have. */
#ifndef NUMA_LIMIT_H
#define NUMA_LIMIT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define LIMIT_FILE 512

/*
 * Bytes that the process may still take before a limit of its memory cgroup, or of one above it,
 * makes the kernel kill something; UINT64_MAX where nothing limits it. Where it is at least
 * `enough` it may be told too low. `file` gets the name of the limit's file. Opens a few files,
 * allocates nothing.
 */
uint64_t limit_headroom(uint64_t enough, char file[LIMIT_FILE]);

/*
 * May len bytes be taken, so that afterwards `leave` can be? True: the caller takes them, and calls
 * limit_taken() when they are. False: `file` names the limit. What other threads of the process are
 * about to take counts, too.
 */
bool limit_ask(uint64_t len, uint64_t leave, char file[LIMIT_FILE]);
void limit_taken(uint64_t len);

/*
 * Is there so much room that nobody need ask before `room` more bytes are taken? A look at the
 * files is good for as long as taking what lies between takes.
 */
bool limit_is_far(uint64_t room);

/* Bytes that pools have, of all devices of the process. */
uint64_t limit_pools(void);
void limit_pools_add(int64_t len);

/* The process has pools: a forked child has none of them. */
void limit_start(void);

#endif
