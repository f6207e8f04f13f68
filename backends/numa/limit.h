/* SPDX-License-Identifier: MIT */
/* How much memory the process's control groups still let it have. */
#ifndef NUMA_LIMIT_H
#define NUMA_LIMIT_H

#include <stddef.h>
#include <stdint.h>

#define LIMIT_FILE 512

/*
 * Bytes that the process may still take before a limit of its memory cgroup, or of one above it,
 * makes the kernel kill something; UINT64_MAX where nothing limits it. `file` gets the name of the
 * limit's file. Opens a few files, allocates nothing.
 */
uint64_t limit_headroom(char file[LIMIT_FILE]);

#endif
