/* SPDX-License-Identifier: MIT */
/*
 * Locks and their order: the one page on locking.
 *
 * A thread takes locks only downwards in the list below, and never two of one
 * rank. Debug builds (UMM_DEBUG) check both at every acquisition. Nobody holds a lock of
 * this list while doing something that can raise a userfaultfd fault or event
 * (touch, munmap, mremap or madvise managed memory; fork): the fault servers may
 * need that lock to let the holder go on. No op or callback of a device runs
 * under any of them.
 *
 * rank        protects                              held by             may block
 * GLOBAL      the list of contexts                  create, fork        no
 * ATTACH      which context manages what, compared  attach, create      no
 *             before more is managed; the list, too
 * FORK        migrations in flight, fork pending    every migration     no
 * CTX         device, memory and mirror lists       API threads         no
 * GATE        reading the userfaultfd (exclusive)   servers, whoever    userfaultfd
 *             against installing pages (shared)     installs            ioctls
 * REGION      the region tree, and what is in no    API, event readers  userfaultfd
 *             region any more, until it is not                          ioctls
 *             registered
 * BLOCK       page states of one 2 MiB block,       everybody           userfaultfd
 *             its registration                                          ioctls
 * MARK        the end of marks, against blocks      API threads, who-   userfaultfd
 *             that are registered meanwhile         ever registers      ioctls
 * HINT        the map of hints                      everybody           no
 * NOTIFIER    notifier tree, sequences              everybody           no
 * DEVMEM      frames, order of eviction of a memory everybody           no
 * STAGING     recycled host frames, how far their   everybody           mprotect of
 *             windows are open                                          our own, once
 * WORK        the workers' queue; what thrashes     everybody           no
 * LEAF        fences, log, arena                    everybody           no
 */
#ifndef LOCK_H
#define LOCK_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

enum lock_rank {
	RANK_GLOBAL = 1,
	RANK_ATTACH,
	RANK_FORK,
	RANK_CTX,
	RANK_GATE,
	RANK_REGION,
	RANK_BLOCK,
	RANK_MARK,
	RANK_HINT,
	RANK_NOTIFIER,
	RANK_DEVMEM,
	RANK_STAGING,
	RANK_WORK,
	RANK_LEAF,
};

#if defined(__clang__)
#define UMM_CAPABILITY(x) __attribute__((capability(x)))
#define UMM_REQUIRES(x)	  __attribute__((requires_capability(x)))
#define UMM_ACQUIRES(x)	  __attribute__((acquire_capability(x)))
#define UMM_RELEASES(x)	  __attribute__((release_capability(x)))
#define UMM_NO_ANALYSIS	  __attribute__((no_thread_safety_analysis))
#else
#define UMM_CAPABILITY(x)
#define UMM_REQUIRES(x)
#define UMM_ACQUIRES(x)
#define UMM_RELEASES(x)
#define UMM_NO_ANALYSIS
#endif

struct UMM_CAPABILITY("mutex") lock {
	pthread_mutex_t mutex;
	enum lock_rank rank;
};

/* A lock that many may hold shared; writers are preferred. */
struct UMM_CAPABILITY("mutex") rwlock {
	pthread_rwlock_t rwlock;
	enum lock_rank rank;
	atomic_bool taken; /* not shared */
};

void lock_init(struct lock *lock, enum lock_rank rank);
void lock_fini(struct lock *lock);
void lock_take(struct lock *lock) UMM_ACQUIRES(lock);
void lock_drop(struct lock *lock) UMM_RELEASES(lock);

/* Condition variables on a struct lock; deadlines are CLOCK_MONOTONIC. */
void lock_cond_init(pthread_cond_t *cond);
void lock_wait(struct lock *lock, pthread_cond_t *cond) UMM_REQUIRES(lock);
/* As lock_wait(), until now_ns() reaches deadline_ns: 0 woken (perhaps spuriously), or -ETIME. */
int lock_wait_until(struct lock *lock, pthread_cond_t *cond, uint64_t deadline_ns)
	UMM_REQUIRES(lock);

void rwlock_init(struct rwlock *lock, enum lock_rank rank);
void rwlock_fini(struct rwlock *lock);
void rwlock_take_shared(struct rwlock *lock) UMM_NO_ANALYSIS;
void rwlock_drop_shared(struct rwlock *lock) UMM_NO_ANALYSIS;
void rwlock_take(struct rwlock *lock) UMM_ACQUIRES(lock);
void rwlock_drop(struct rwlock *lock) UMM_RELEASES(lock);
/*
 * Has somebody got it, not shared? Who caused what he does there, as a thread goes on whose
 * message is read, sees it; and where nobody has, what was done there is seen, too.
 */
bool rwlock_is_taken(const struct rwlock *lock);

/* True when this thread holds no lock of the list; debug builds only tell the truth. */
bool lock_none_held(void);

/*
 * In a forked child, make this thread's held set empty: locks that the parent
 * held over the fork are initialised again, not dropped.
 */
void lock_forget_held(void);
/*
 * In a forked child: the lock is free. True: another thread of the parent held it, so what it
 * protects may be in the middle of a change that nobody will end.
 */
bool lock_fork_child(struct lock *lock);

#endif
