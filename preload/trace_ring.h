/* SPDX-License-Identifier: MIT */
/*
 * Events on their way from a program under the shim to "umm trace": a ring in the shared memory
 * that any thread of the program may put into, and one reader takes from. What finds it full
 * is dropped, and counted as everything is: the counts lose nothing.
 */
#ifndef TRACE_RING_H
#define TRACE_RING_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

enum { TRACE_SLOTS = 1 << 16 };

enum trace_kind {
	TRACE_FAULT,	    /* the program touched a page on a device: it comes home */
	TRACE_EVICT,	    /* cold pages went to devices */
	TRACE_BRING_ALONG,  /* pages came home with one that was touched */
	TRACE_FORK,	    /* pages came home for fork() */
	TRACE_GRANT,	    /* new memory was handed out to who waited for it */
	TRACE_INVALIDATION, /* a mapping changed */
	TRACE_NR_KINDS,
};

struct trace_event {
	uint64_t start_ns, duration_ns; /* CLOCK_MONOTONIC */
	uint64_t addr, len;		/* bytes; of several pieces, from the first to the last */
	uint32_t npages;		/* that moved, or are concerned */
	int32_t tid;			/* the thread that did it: for faults, who served them */
	uint32_t kind;			/* enum trace_kind */
	uint32_t detail;		/* enum umm_event of an invalidation; else 0 */
};

struct trace_slot {
	_Atomic uint64_t turn; /* 2n: free for the n-th time; 2n + 1: taken so */
	struct trace_event event;
};

struct trace_ring {
	_Atomic uint64_t until_ns; /* events are put in until then; 0: none are */
	_Atomic int32_t reader;	   /* its process; 0: nobody */
	_Atomic uint64_t head, tail;
	/* By enum trace_kind: all, all their pages, and those events that were dropped. */
	_Atomic uint64_t seen[TRACE_NR_KINDS], pages[TRACE_NR_KINDS], dropped[TRACE_NR_KINDS];
	struct trace_slot slot[TRACE_SLOTS];
};

/* Any thread, any lock held; never waits. */
void trace_ring_put(struct trace_ring *ring, const struct trace_event *event);

/* The one reader. False: there is nothing. */
bool trace_ring_take(struct trace_ring *ring, struct trace_event *out);

#endif
