/* SPDX-License-Identifier: MIT */
/*
 * Limits on address space (ulimit -v) and on private memory (ulimit -d) are on what the shim takes,
 * too: stacks of threads, windows that pages move through, memory of devices that is mapped,
 * and what an allocator keeps. Where that could be what the program is then short of, it
 * runs without. No locks, no state.
 */
#include "tight.h"

#include <stdint.h>
#include <stdio.h>
#include <sys/resource.h>

/* Threads, windows, and a program that is not small. */
#define LEAST (UINT64_C(2) << 30)

bool tight_is_enough(const struct settings *settings, char why[SETTINGS_ERROR_LEN])
{
	static const struct {
		int resource;
		const char *option;
	} limits[] = { { RLIMIT_AS, "-v" }, { RLIMIT_DATA, "-d" } };
	uint64_t least = LEAST;

	for (unsigned i = 0; i < settings->ndevices; i++)
		least += settings->devices[i].len;
	for (unsigned i = 0; i < sizeof(limits) / sizeof(limits[0]); i++) {
		struct rlimit limit;

		if (getrlimit(limits[i].resource, &limit) || limit.rlim_cur >= least)
			continue;
		snprintf(why, SETTINGS_ERROR_LEN,
			 "'ulimit %s' is %llu MiB, and with these devices it takes %llu MiB",
			 limits[i].option, (unsigned long long)(limit.rlim_cur >> 20),
			 (unsigned long long)(least >> 20));
		return false;
	}
	return true;
}
