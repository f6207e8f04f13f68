/* SPDX-License-Identifier: MIT */
/*
 * Points at which a test may stop the library to force an order of events. Built
 * only into the test library (UMM_HOOKS); elsewhere they vanish.
 */
#ifndef HOOK_H
#define HOOK_H

#include <stdint.h>

enum hook_point {
	HOOK_FAULT_READ, /* a server has read a fault; nothing is locked yet */
	HOOK_CHOSEN,	 /* a migration is about to collect pages of a block */
	HOOK_CLAIMING,	 /* pages of a private file mapping are about to be exchanged (claim.c) */
	HOOK_TAKEN,	 /* some pages were moved from the CPU, others follow; gate still closed */
	HOOK_COLLECTED,	 /* a migration has taken its pages from the CPU; copies not started */
	HOOK_COPIED,	 /* its copies are complete; not committed */
	HOOK_COMMITTED,	 /* committed; waiters not woken */
	HOOK_FINISHED,	 /* nobody waits for the piece of a fault: the context may go */
	HOOK_INVALIDATE, /* before a notifier's callback */
	HOOK_EVENT_READ, /* an event was read, and is about to be applied; gate closed */
	HOOK_CLEARING,	 /* what it ends has left the regions, its pages not their blocks */
	HOOK_EVENT,	 /* an address-space event was read and applied; gate still closed */
	HOOK_WORK,	 /* a worker is about to start an item */
	HOOK_ATTACHING,	 /* memory is about to be managed; nothing is locked */
	HOOK_DETACHING,	 /* memory that is being detached is home, still managed */
	HOOK_FORK_HOME,	 /* all has come home for a fork, which waits no longer; not looked at */
	HOOK_FORK_PREPARED, /* everything is home, fork has not happened */
	HOOK_FORK_BEGINS,   /* of all contexts; other handlers follow, and the C library's */
	HOOK_REGION_OUT,    /* a region was taken out of the tree, or what is small leaves its lot;
			     * under regions.lock */
	HOOK_REMAPPING,	    /* a mapping is about to move, for umm_mremap() */
	HOOK_REGISTERED,    /* pages are registered, not looked at; gate shared, block locked */
	HOOK_EVICTED,	    /* evicting ahead has freed enough; has not said that it ends */
	HOOK_READAHEAD,	    /* pages that nobody has missed yet are about to come home */
	HOOK_THROTTLED,	    /* a device's request waits for pages that thrash; the rest is done */
	HOOK_MARKING,	    /* memory that gets a hint is about to be registered for that */
	HOOK_UNMARKING,	    /* nothing is said of blocks any more: their marks are about to end */
	HOOK_HINTING,	    /* a hint, or where a prefetch goes, is about to be kept */
	HOOK_PREFETCHING,   /* a prefetch was checked, and is about to wait, or to begin */
	HOOK_LISTED,	    /* a prefetch waits, or is about to begin; the list is locked */
	HOOK_DISCARDING,    /* pages of a block were looked at, and are about to be dropped */
	HOOK_REPAIRING,	    /* a page that may be poisoned is about to be looked at */
	HOOK_POISONING,	    /* a file is about to be mapped over a poisoned page */
	HOOK_NR,
};

/* fn runs on whatever thread gets there, on several at once; addr is the page or 0. */
typedef void (*hook_fn)(void *priv, enum hook_point point, uintptr_t addr);

#ifdef UMM_HOOKS
void hook_set(enum hook_point point, hook_fn fn, void *priv);
void hook_run(enum hook_point point, uintptr_t addr);
#else
static inline void hook_run(enum hook_point point, uintptr_t addr)
{
	(void)point;
	(void)addr;
}
#endif

#endif
