/* SPDX-License-Identifier: MIT */
/*
 * libnuma is loaded at run time, so that a program which could use a memory node
 * starts on machines without it, and is told what to install when it asks for one.
 *
 * It is loaded once and never unloaded. No locks: pthread_once().
 */
#include "library.h"

#include <dlfcn.h>
#include <errno.h>
#include <pthread.h>
#include <stddef.h>

#include "umm.h"

#ifndef NUMA_SONAME
#define NUMA_SONAME "libnuma.so.1"
#endif

static struct library library;
static pthread_once_t once = PTHREAD_ONCE_INIT;
static int error;

static const struct {
	const char *name;
	size_t offset;
} symbols[] = {
	{ "numa_available", offsetof(struct library, available) },
	{ "numa_get_mems_allowed", offsetof(struct library, mems_allowed) },
	{ "numa_allocate_nodemask", offsetof(struct library, nodemask) },
	{ "numa_bitmask_setbit", offsetof(struct library, set_bit) },
	{ "numa_bitmask_isbitset", offsetof(struct library, test_bit) },
	{ "numa_bitmask_free", offsetof(struct library, free_mask) },
	{ "mbind", offsetof(struct library, mbind) },
	{ "get_mempolicy", offsetof(struct library, get_mempolicy) },
	{ "set_mempolicy", offsetof(struct library, set_mempolicy) },
	{ "move_pages", offsetof(struct library, move_pages) },
};

const char *library_advice(void)
{
	return "libnuma is missing: " NUMA_SONAME " could not be loaded "
	       "(Debian: apt-get install libnuma1; or raise 'ulimit -d', '-v' and '-n')";
}

static void load(void)
{
	void *handle = dlopen(NUMA_SONAME, RTLD_NOW | RTLD_LOCAL);

	for (size_t i = 0; handle && i < sizeof(symbols) / sizeof(symbols[0]); i++) {
		void *symbol = dlsym(handle, symbols[i].name);

		*(void **)((char *)&library + symbols[i].offset) = symbol;
		if (!symbol)
			handle = NULL;
	}
	if (!handle)
		error = -EOPNOTSUPP;
	else if (library.available() < 0)
		error = -ENODEV;
}

const struct library *library_get(int node, int *ret)
{
	const char *advice = "this kernel tells of no memory nodes, or a sandbox forbids to ask: "
			     "get_mempolicy(2) must be allowed";

	pthread_once(&once, load);
	*ret = error;
	if (!error)
		return &library;
	if (error == -EOPNOTSUPP)
		advice = library_advice();
	if (node >= 0)
		umm_log(UMM_LOG_ERROR, "node %d cannot be used: %s", node, advice);
	else
		umm_log(UMM_LOG_ERROR, "%s", advice);
	return NULL;
}
