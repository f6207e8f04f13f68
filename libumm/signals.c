/* SPDX-License-Identifier: MIT */
/*
 * Invariant: depth counts the holds of this thread. While it is not zero and not paused,
 * all signals but those that a thread causes itself are blocked, and `before` has the mask
 * that the program had.
 * Locks: none; everything is the thread's own.
 */
#include "signals.h"

#include <pthread.h>
#include <signal.h>

#include "util.h"

/* initial-exec: the other models may call malloc on a thread's first access. */
static _Thread_local unsigned depth __attribute__((tls_model("initial-exec")));
static _Thread_local sigset_t before __attribute__((tls_model("initial-exec")));

static void block(sigset_t *old)
{
	static const int own[] = { SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGTRAP, SIGABRT, SIGSYS };
	sigset_t held;

	sigfillset(&held);
	for (size_t i = 0; i < ARRAY_SIZE(own); i++)
		sigdelset(&held, own[i]);
	pthread_sigmask(SIG_BLOCK, &held, old);
}

void signals_hold(void)
{
	if (depth++ == 0)
		block(&before);
}

void signals_let(void)
{
	UMM_ASSERT(depth);
	if (--depth == 0)
		pthread_sigmask(SIG_SETMASK, &before, NULL);
}

void signals_pause(void)
{
	if (depth == 1)
		pthread_sigmask(SIG_SETMASK, &before, NULL);
}

void signals_resume(void)
{
	if (depth == 1)
		block(NULL);
}

void signals_after_fork(void)
{
	if (depth)
		pthread_sigmask(SIG_SETMASK, &before, NULL);
	depth = 0;
}
