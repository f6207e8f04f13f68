/* SPDX-License-Identifier: MIT */
/*
 * prctl(), for the whole program, and seccomp(2) by way of syscall.c: a program that filters its
 * system calls allows what it uses itself, and knows nothing of what managed memory takes. So
 * before there is a filter everything comes home and the shim goes to rest: what it then does for
 * a malloc() or a mapping is what an allocator does.
 *
 * A child of vfork() shares the parent's memory, and filters what comes after it. No locks.
 */
#include "filter.h"

#include <linux/seccomp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "engine.h"
#include "raw.h"
#include "shim.h"

static pid_t process; /* that these pages belong to, be it forked or not */

void filter_start(void)
{
	process = getpid();
}

/* Without arguments it only asks whether there are filters. */
static bool is_a_filter(unsigned op, const void *args)
{
	return op == SECCOMP_SET_MODE_STRICT || (op == SECCOMP_SET_MODE_FILTER && args);
}

void filter_expect(unsigned op, const void *args)
{
	if (is_a_filter(op, args) && shim_is_armed() && thread_mode != THREAD_INTERNAL &&
	    process == getpid())
		engine_rest();
}

void filter_expect_prctl(int option, unsigned long mode, const void *args)
{
	if (option == PR_SET_SECCOMP)
		filter_expect(mode == SECCOMP_MODE_STRICT ? SECCOMP_SET_MODE_STRICT :
							    SECCOMP_SET_MODE_FILTER,
			      args);
}

PRELOAD_API int prctl(int option, ...)
{
	unsigned long arg[4];
	va_list args;

	va_start(args, option);
	for (unsigned i = 0; i < 4; i++)
		arg[i] = va_arg(args, unsigned long);
	va_end(args);
	filter_expect_prctl(option, arg[0], (const void *)arg[1]);
	return (int)raw_syscall(SYS_prctl, option, (long)arg[0], (long)arg[1], (long)arg[2],
				(long)arg[3], 0);
}
