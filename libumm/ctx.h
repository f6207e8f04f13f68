/* SPDX-License-Identifier: MIT */
/* The context: one managed address space and everything that serves it. */
#ifndef CTX_H
#define CTX_H

#include <stdatomic.h>
#include <sys/types.h>

#include "admit.h"
#include "block.h"
#include "change.h"
#include "damp.h"
#include "fault.h"
#include "handle.h"
#include "hint.h"
#include "notifier.h"
#include "readahead.h"
#include "region.h"
#include "remap.h"
#include "staging.h"
#include "stats.h"
#include "watchdog.h"
#include "work.h"

/* What becomes of migrations to devices. */
enum forking {
	FORK_NONE,
	FORK_WAITS, /* fork() wants to begin, and may wait for others */
	FORK_MADE,  /* it waits for nobody any more: nothing moves out, nor begins to go home */
};

struct umm_ctx {
	struct handle handle;
	_Atomic unsigned refs;
	pid_t owner; /* another process means: forked */
	int uffd;
	int watch; /* a userfaultfd for events of mirrored memory only; -1: there is none */
	int mark;  /* and one for those of hinted memory that no device uses; likewise */
	struct lock mark_lock; /* RANK_MARK. Protects: nothing; inside: marks end (mark.c) */
	bool whole_process;    /* UMM_CTX_WHOLE_PROCESS */
	bool in_thread;	       /* UMM_CTX_FAULTS_IN_THREAD */
	uint64_t features;     /* enum umm_kernel_feature in use */
	struct stats stats;

	struct lock lock; /* RANK_CTX. Protects: devices, the lists that hang off them, pins */
	struct umm_device *devices;
	struct umm_pin *pins;

	struct rwlock gate; /* RANK_GATE; see lock.h and docs/design.md */
	struct regions regions;
	struct hints hints;
	struct blocks blocks;
	struct notifiers notifiers;
	struct staging staging;
	struct changes changes;
	/* Under the gate, held exclusively. */
	struct arrivals arrivals;
	struct departure *departures;
	struct doubt *doubts;
	struct taken *taken; /* pages being sorted out; NULL: none */
	struct uffd_msg_info postponed[NR_POSTPONED];
	unsigned npostponed;
	struct lock pieces_lock; /* RANK_LEAF. Protects: the list of pieces */
	struct piece *pieces;	 /* in flight */
	struct pool piece_pool;
	struct workers workers; /* deferred faults and address-space events */
	struct workers movers;	/* asynchronous migrations */
	struct admit admit;
	struct keeper keeper; /* of these three's threads */
	void (*failed)(void *priv, struct umm_devmem *mem, int error, size_t nlost);
	void *failed_priv;
	enum umm_evict_order evict_order; /* of memories that do not say */
	struct readahead readahead;
	struct damp damp;
	struct servers servers;
	struct watchdog watchdog; /* of migrations in steps */

	struct lock fork_lock;	  /* RANK_FORK. Protects: the next five */
	unsigned moving_out;	  /* migrations to devices in flight */
	unsigned collecting_home; /* pieces that go home, of which pages become MIGRATING */
	enum forking forking;
	unsigned overtakers;	   /* migrations that began all the same, since it wants to begin */
	uint64_t fork_patience_ns; /* so long one waits before that */

	/* Counts migrations that ended: who waits for a MIGRATING page sleeps on it. */
	_Atomic uint32_t settled;
	_Atomic uint32_t settle_waiters;
	_Atomic unsigned detaching;  /* calls of umm_detach() */
	_Atomic uint64_t starved_ns; /* when it was last said that faults lack memory */

	struct lock expect_lock; /* RANK_LEAF. Protects: events that the core itself causes */
	struct expect *expected;

	struct umm_ctx *next; /* of all contexts; see ctx_list.c */
};

/* As handle_is(). */
static inline bool ctx_valid(const struct umm_ctx *ctx)
{
	return handle_is(ctx, HANDLE_CTX);
}

bool ctx_is_forked(const struct umm_ctx *ctx);
/* Tell who opened it that a device failed. False: that is for the log. */
bool ctx_tell_failed(struct umm_ctx *ctx, struct umm_devmem *mem, int error, size_t nlost);

/* Has the program closed its descriptors? Then nothing can be brought home: the log says so. */
bool ctx_is_lost(struct umm_ctx *ctx, const char *call);
size_t ctx_bookkeeping_bytes(struct umm_ctx *ctx);

/*
 * A migration to a device begins and ends. While a fork is made it waits. While a fork waits
 * itself, it does so for a moment only: a callback may wait for somebody who needs this migration.
 */
#define FORK_NS UINT64_C(1000000000) /* how often those look up who wait for a fork, or in one */
void ctx_move_out_begin(struct umm_ctx *ctx);
void ctx_move_out_end(struct umm_ctx *ctx);
/*
 * Around what makes pages MIGRATING, to go home: not while a fork is made, which has looked for
 * such pages. COHERENT ones, which the child has as well, are still there to be moved then.
 * Handlers of the thread that forks may, before they return.
 */
void ctx_collect_home_begin(struct umm_ctx *ctx);
void ctx_collect_home_end(struct umm_ctx *ctx);

/*
 * Something that somebody may wait for has changed. To wait: read the count while the
 * block is locked, unlock, sleep until it differs.
 */
void ctx_settled(struct umm_ctx *ctx);
uint32_t ctx_settle_count(struct umm_ctx *ctx);
void ctx_settle_wait(struct umm_ctx *ctx, uint32_t seen, uint64_t deadline_ns);

/*
 * Whoever waits for pages in flight calls it again and again: after some seconds it says so in
 * the log, once. A device that never signals, or a driver that never finalizes, is then found.
 */
struct patience {
	uint64_t began_ns; /* 0: not yet */
	bool said;
};
void ctx_still_waiting(struct patience *patience, uintptr_t addr);
/* It has waited for as long as a driver has to finalize. */
bool ctx_waited_enough(const struct umm_ctx *ctx, const struct patience *patience);
/* There is no host memory for what has to be done with this page: say so, and wait a moment. */
void ctx_starve(struct umm_ctx *ctx, uintptr_t addr);

/*
 * Let events that the program has caused be applied: its call returns as soon as
 * the message is read. Every request begins with this.
 */
void ctx_pass_gate(struct umm_ctx *ctx);

/* Wake the CPU threads that wait for pages of the block at va. No block is locked. */
void ctx_wake_block(struct umm_ctx *ctx, uintptr_t va);

/* Count for the context, the device (if any) and the allocation that holds addr. */
void ctx_count(struct umm_ctx *ctx, struct umm_device *dev, uintptr_t addr, unsigned counter,
	       uint64_t n);

/*
 * The list of all contexts: under its lock, outermost, which fork() holds; or under the one of
 * attaching, which it does not, so that nobody who allocates waits for a fork.
 */
void ctx_list_lock(void);
void ctx_list_unlock(void);
void ctx_attach_lock(void);
void ctx_attach_unlock(void);
void ctx_list_reset(void); /* both, in the child */
struct umm_ctx *ctx_list_first(void);
void ctx_list_add(struct umm_ctx *ctx);
void ctx_list_remove(struct umm_ctx *ctx);

/*
 * What else of this process is at start .. end: memory that a context other than this one (or
 * NULL) manages; the pool of a COHERENT memory. A forked process's inherited contexts do not
 * count: what was theirs is plain memory. With the lock of attaching.
 */
bool ctx_others_manage(const struct umm_ctx *ctx, uintptr_t start, uintptr_t end);
bool ctx_any_pool(uintptr_t start, uintptr_t end);

/*
 * A request is about start .. end: in a context of the whole process, memory of it that nobody
 * manages is managed from here on. 0 or -errno. No lock held.
 */
int ctx_attach_asked(struct umm_ctx *ctx, uintptr_t start, uintptr_t end);

/*
 * Is all of start .. end private anonymous memory, and (writable) may it be read and written?
 * 0; -EFAULT a hole; -EINVAL no, or no user addresses.
 */
int ctx_check_mappings(struct umm_ctx *ctx, uintptr_t start, uintptr_t end, bool writable);

/* Migrations, evict.c: bring every page of a memory home, whatever it takes. */
void evict_all(struct umm_devmem *mem);
/*
 * Make nfree frames free by evicting blocks last used before `clock`, but va; `waits`: if need be,
 * those whose callbacks wait. 0 or -ENOSPC.
 */
int evict(struct umm_devmem *mem, uint32_t nfree, uint64_t clock, uintptr_t va, bool waits);
/* Frames were taken: below the low mark, a mover evicts such blocks until the high mark. */
void evict_ahead(struct umm_devmem *mem, uint64_t clock);

#endif
