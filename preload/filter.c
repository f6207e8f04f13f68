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

#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
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

static bool concerns_us(void)
{
	return shim_is_armed() && thread_mode != THREAD_INTERNAL && process == getpid();
}

/*
 * Would the kernel take a filter? Programs ask what it knows by calls that must fail. One that is
 * out of reach is refused last: what may be wrong with the call itself comes before.
 */
static bool is_taken(long number, long first, long second)
{
	struct sock_fprog out_of_reach = { 1, (struct sock_filter *)UINTPTR_MAX };
	int saved = errno;
	bool is_last =
		raw_syscall(number, first, second, (long)&out_of_reach, 0, 0, 0) && errno == EFAULT;

	errno = saved;
	return is_last;
}

void filter_expect(unsigned op, unsigned flags, const void *args)
{
	bool is_strict = op == SECCOMP_SET_MODE_STRICT && !flags && !args;
	bool is_filter = op == SECCOMP_SET_MODE_FILTER && args;

	if ((is_strict || is_filter) && concerns_us() &&
	    (is_strict || is_taken(SYS_seccomp, op, (long)flags)))
		engine_rest("a filter of system calls is set");
}

void filter_expect_prctl(int option, unsigned long mode, const void *args)
{
	bool is_strict = mode == SECCOMP_MODE_STRICT,
	     is_filter = mode == SECCOMP_MODE_FILTER && args;

	if (option == PR_SET_SECCOMP && (is_strict || is_filter) && concerns_us() &&
	    (is_strict || is_taken(SYS_prctl, option, (long)mode)))
		engine_rest("a filter of system calls is set");
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
