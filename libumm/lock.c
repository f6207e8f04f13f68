/* SPDX-License-Identifier: MIT */
/*
 * Locks with a rank: thin shells around pthread's, see lock.h for the order.
 *
 * Debug builds (UMM_DEBUG) keep, per thread, one bit for each rank held. Taking a
 * lock asserts that no bit of its own rank or a deeper one is set, so that any
 * thread that strays from the order is stopped the first time it does, whether or
 * not another thread was there to deadlock with. Shared holders count like others.
 *
 * Whoever has a lock holds signals, see signals.h.
 *
 * Invariant: bit r of held is set exactly while this thread holds a lock of rank r.
 */
#include "lock.h"

#include <errno.h>

#include "signals.h"
#include "util.h"

#ifdef UMM_DEBUG
/* initial-exec: the other models may call malloc on a thread's first access. */
static _Thread_local unsigned held __attribute__((tls_model("initial-exec")));

static void held_check(enum lock_rank rank)
{
	bool in_order_of_lock_h = !(held >> rank);

	UMM_ASSERT(rank >= RANK_GLOBAL && rank <= RANK_LEAF);
	UMM_ASSERT(in_order_of_lock_h);
}

static void held_set(enum lock_rank rank)
{
	held |= 1u << rank;
}

static void held_clear(enum lock_rank rank)
{
	bool held_by_this_thread = held >> rank & 1;

	UMM_ASSERT(held_by_this_thread);
	held &= ~(1u << rank);
}

bool lock_none_held(void)
{
	return !held;
}

void lock_forget_held(void)
{
	held = 0;
}
#else
static void held_check(enum lock_rank rank)
{
	(void)rank;
}

static void held_set(enum lock_rank rank)
{
	(void)rank;
}

static void held_clear(enum lock_rank rank)
{
	(void)rank;
}

bool lock_none_held(void)
{
	return true;
}

void lock_forget_held(void)
{
}
#endif

/* None of these calls can fail as they are used here; a debug build makes sure. */
static void must(int err)
{
	UMM_ASSERT(!err);
	(void)err;
}

void lock_init(struct lock *lock, enum lock_rank rank)
{
	lock->rank = rank;
	must(pthread_mutex_init(&lock->mutex, NULL));
}

void lock_fini(struct lock *lock)
{
	must(pthread_mutex_destroy(&lock->mutex));
}

UMM_NO_ANALYSIS void lock_take(struct lock *lock)
{
	held_check(lock->rank);
	signals_hold();
	must(pthread_mutex_lock(&lock->mutex));
	held_set(lock->rank);
}

UMM_NO_ANALYSIS void lock_drop(struct lock *lock)
{
	held_clear(lock->rank);
	must(pthread_mutex_unlock(&lock->mutex));
	signals_let();
}

UMM_NO_ANALYSIS bool lock_fork_child(struct lock *lock)
{
	bool taken = pthread_mutex_trylock(&lock->mutex);

	if (!taken)
		must(pthread_mutex_unlock(&lock->mutex));
	lock_init(lock, lock->rank);
	return taken;
}

void lock_cond_init(pthread_cond_t *cond)
{
	pthread_condattr_t attr;

	must(pthread_condattr_init(&attr));
	must(pthread_condattr_setclock(&attr, CLOCK_MONOTONIC));
	must(pthread_cond_init(cond, &attr));
	must(pthread_condattr_destroy(&attr));
}

/* The waiter wakes up holding the lock: it must not hold anything deeper meanwhile. */
void lock_wait(struct lock *lock, pthread_cond_t *cond)
{
	held_clear(lock->rank);
	held_check(lock->rank);
	must(pthread_cond_wait(cond, &lock->mutex));
	held_set(lock->rank);
}

int lock_wait_until(struct lock *lock, pthread_cond_t *cond, uint64_t deadline_ns)
{
	struct timespec deadline = {
		.tv_sec = (time_t)(deadline_ns / 1000000000u),
		.tv_nsec = (long)(deadline_ns % 1000000000u),
	};
	int err;

	held_clear(lock->rank);
	held_check(lock->rank);
	err = pthread_cond_timedwait(cond, &lock->mutex, &deadline);
	held_set(lock->rank);
	if (err == ETIMEDOUT)
		return -ETIME;
	must(err);
	return 0;
}

void rwlock_init(struct rwlock *lock, enum lock_rank rank)
{
	pthread_rwlockattr_t attr;

	lock->rank = rank;
	atomic_init(&lock->taken, false);
	must(pthread_rwlockattr_init(&attr));
	must(pthread_rwlockattr_setkind_np(&attr, PTHREAD_RWLOCK_PREFER_WRITER_NONRECURSIVE_NP));
	must(pthread_rwlock_init(&lock->rwlock, &attr));
	must(pthread_rwlockattr_destroy(&attr));
}

void rwlock_fini(struct rwlock *lock)
{
	must(pthread_rwlock_destroy(&lock->rwlock));
}

UMM_NO_ANALYSIS void rwlock_take_shared(struct rwlock *lock)
{
	held_check(lock->rank);
	signals_hold();
	must(pthread_rwlock_rdlock(&lock->rwlock));
	held_set(lock->rank);
}

UMM_NO_ANALYSIS void rwlock_drop_shared(struct rwlock *lock)
{
	held_clear(lock->rank);
	must(pthread_rwlock_unlock(&lock->rwlock));
	signals_let();
}

UMM_NO_ANALYSIS void rwlock_take(struct rwlock *lock)
{
	held_check(lock->rank);
	signals_hold();
	must(pthread_rwlock_wrlock(&lock->rwlock));
	held_set(lock->rank);
	/* pairs with the load in rwlock_is_taken(), by way of what the holder causes */
	atomic_store(&lock->taken, true);
}

UMM_NO_ANALYSIS void rwlock_drop(struct rwlock *lock)
{
	/* pairs with the load in rwlock_is_taken(): what was done meanwhile is seen */
	atomic_store_explicit(&lock->taken, false, memory_order_release);
	held_clear(lock->rank);
	must(pthread_rwlock_unlock(&lock->rwlock));
	signals_let();
}

bool rwlock_is_taken(const struct rwlock *lock)
{
	return atomic_load(&lock->taken);
}
