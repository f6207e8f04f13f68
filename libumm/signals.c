/* SPDX-License-Identifier: MIT */
/*
 * Invariant: depth counts the holds of this thread. While it is not zero and not paused,
 * all signals but those that a thread causes itself are blocked, and `before` has the mask
 * that the program had. While depth is not zero the thread cannot be cancelled; `cancel` has
 * what the program had set.
 * Locks: none; everything is the thread's own.
 */
#include "signals.h"

#include "util.h"

/* initial-exec: the other models may call malloc on a thread's first access. */
static _Thread_local unsigned depth __attribute__((tls_model("initial-exec")));
static _Thread_local sigset_t before __attribute__((tls_model("initial-exec")));
static _Thread_local int cancel __attribute__((tls_model("initial-exec")));

void signals_fill(sigset_t *held)
{
	static const int own[] = { SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGTRAP, SIGABRT, SIGSYS };

	sigfillset(held);
	for (size_t i = 0; i < ARRAY_SIZE(own); i++)
		sigdelset(held, own[i]);
}

static void block(sigset_t *old)
{
	sigset_t held;

	signals_fill(&held);
	pthread_sigmask(SIG_BLOCK, &held, old);
}

void signals_hold(void)
{
	if (depth++ == 0) {
		cancel = cancel_hold();
		block(&before);
	}
}

void signals_let(void)
{
	UMM_ASSERT(depth);
	if (--depth == 0) {
		/* First: a handler that runs when signals are let go may hold again. */
		cancel_let(cancel);
		pthread_sigmask(SIG_SETMASK, &before, NULL);
	}
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

void signals_enter_handler(const sigset_t *mask)
{
	if (depth++ == 0) {
		cancel = cancel_hold();
		before = *mask;
	}
}

void signals_leave_handler(void)
{
	if (--depth == 0)
		cancel_let(cancel);
}

void signals_after_fork(void)
{
	if (depth) {
		cancel_let(cancel);
		pthread_sigmask(SIG_SETMASK, &before, NULL);
	}
	depth = 0;
}
