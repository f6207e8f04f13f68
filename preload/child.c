/* SPDX-License-Identifier: MIT */
/*
 * clone() and _Fork(), for the whole program, and by way of syscall.c fork(2), clone(2) and
 * clone3(2): a process that is made so has the parent's memory, but nobody ran the handlers that
 * bring it home for fork(), and where it was on devices the child would find zeroes. They cannot be
 * run for it: the child may begin elsewhere, on a stack of its own. So everything comes home first,
 * and the engine ends, as before a filter of system calls; one that is stuck makes the call fail.
 *
 * What shares the parent's memory (CLONE_VM, vfork()) is as a thread is. While there is no engine
 * nothing is on devices. No locks.
 */
#include "child.h"

#include <dlfcn.h>
#include <errno.h>
#include <linux/sched.h>
#include <sched.h>
#include <stdarg.h>
#include <stdint.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

#include "engine.h"
#include "raw.h"
#include "state.h"

typedef int clone_fn(int (*fn)(void *), void *stack, int flags, void *arg, pid_t *parent_tid,
		     void *tls, pid_t *child_tid);
typedef pid_t fork_fn(void);

/* The C library's; found beforehand, for handlers of signals look nothing up. */
static clone_fn *next_clone;
static fork_fn *next_fork;

void child_start(void)
{
	*(void **)&next_clone = dlsym(RTLD_NEXT, "clone");
	*(void **)&next_fork = dlsym(RTLD_NEXT, "_Fork");
}

static int expect(uint64_t flags)
{
	enum state now = state_now();

	if (flags & CLONE_VM || thread_mode == THREAD_INTERNAL || !shim_is_armed() ||
	    now == STATE_IDLE || now == STATE_OFF)
		return 0;
	return engine_rest("a process is made past fork()") ? 0 : EAGAIN;
}

/* What the kernel refuses for its address is the kernel's to refuse: as a thread. */
static uint64_t flags_of(long address)
{
	uint64_t flags = CLONE_VM;
	struct iovec to = { &flags, sizeof(flags) }, from = { (void *)address, sizeof(flags) };
	int saved = errno;

	if (raw_syscall(SYS_process_vm_readv, getpid(), (long)&to, 1, (long)&from, 1, 0) < 0)
		flags = CLONE_VM;
	errno = saved;
	return flags;
}

int child_expect_syscall(long number, long first, long second)
{
	switch (number) {
	case SYS_clone:
		return expect((uint64_t)first);
	case SYS_clone3:
		return expect(second >= CLONE_ARGS_SIZE_VER0 ? flags_of(first) : CLONE_VM);
	default:
		return expect(0);
	}
}

PRELOAD_API int clone(int (*fn)(void *), void *stack, int flags, void *arg, ...)
{
	pid_t *parent_tid, *child_tid;
	va_list args;
	void *tls;
	int error = expect((uint64_t)flags);

	va_start(args, arg);
	parent_tid = va_arg(args, pid_t *);
	tls = va_arg(args, void *);
	child_tid = va_arg(args, pid_t *);
	va_end(args);
	if (!next_clone)
		child_start();
	if (error || !next_clone) {
		errno = error ? error : ENOSYS;
		return -1;
	}
	return next_clone(fn, stack, flags, arg, parent_tid, tls, child_tid);
}

PRELOAD_API pid_t _Fork(void)
{
	int error = expect(0);

	if (!next_fork)
		child_start();
	if (error || !next_fork) {
		errno = error ? error : ENOSYS;
		return -1;
	}
	return next_fork();
}
