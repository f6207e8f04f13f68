/* SPDX-License-Identifier: MIT */
/* What control groups say of the process's memory. */
#ifndef CGROUP_H
#define CGROUP_H

#include <stdint.h>

/* Bytes that the process's memory cgroup, and each above it, may have; UINT64_MAX: no limit. */
uint64_t cgroup_memory_limit(void);

#endif
