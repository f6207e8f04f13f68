/* SPDX-License-Identifier: MIT */
/*
 * The lock of a driver whose callbacks take it. A signal's handler may touch managed memory, and
 * that may wait for a callback: so signals wait while a thread has the lock. In a callback
 * they do already, and it takes the mutex alone.
 */
#ifndef QUIET_LOCK_H
#define QUIET_LOCK_H

#include <pthread.h>
#include <signal.h>

struct quiet_lock {
	pthread_mutex_t mutex;
	sigset_t before; /* of who has it */
};

static inline void quiet_lock(struct quiet_lock *lock)
{
	sigset_t all, before;

	sigfillset(&all);
	/* What a thread itself raises by a touch is served at once, or ends it. */
	sigdelset(&all, SIGBUS);
	sigdelset(&all, SIGSEGV);
	pthread_sigmask(SIG_BLOCK, &all, &before);
	pthread_mutex_lock(&lock->mutex);
	lock->before = before;
}

static inline void quiet_unlock(struct quiet_lock *lock)
{
	sigset_t before = lock->before;

	pthread_mutex_unlock(&lock->mutex);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
}

#endif
