/* SPDX-License-Identifier: MIT */
/*
 * Signals, held while a thread of the program is inside the library. Its handler may touch
 * managed memory: if the page were on its way because of what the interrupted thread is
 * doing, or had to be served by a thread that waits for a lock of the interrupted one, nobody
 * would ever go on. Every lock holds signals (lock.c); whoever has pages in flight
 * between two locks holds them too.
 *
 * Signals that a thread causes itself (SIGSEGV, SIGBUS ...) stay deliverable.
 *
 * Cancellation is held with them: no call ends its thread, which would leave behind what is
 * locked or in flight.
 */
#ifndef SIGNALS_H
#define SIGNALS_H

#include <pthread.h>
#include <signal.h>

/* Hold, and let go. They nest; only the outermost costs a system call each. */
void signals_hold(void);
void signals_let(void);

/*
 * Around a wait for others, as long as that may last, in which this thread has no pages that
 * only it can let go: Ctrl-C works. Nothing happens where signals are held more than once, so
 * holding them twice rules it out.
 */
void signals_pause(void);
void signals_resume(void);

/* The signals that are held: for the mask of a handler. */
void signals_fill(sigset_t *held);

/*
 * In a handler that was entered with these signals held already: the same without system calls.
 * mask: what the interrupted thread had.
 */
void signals_enter_handler(const sigset_t *mask);
void signals_leave_handler(void);

/*
 * Cancellation alone, around system calls that would be cancellation points, where no signal is
 * held. Costs no system call.
 */
static inline int cancel_hold(void)
{
	int before;

	pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &before);
	return before;
}

static inline void cancel_let(int before)
{
	pthread_setcancelstate(before, NULL);
}

/* In a forked child, whose thread was inside when it forked: let go of everything. */
void signals_after_fork(void);

#endif
