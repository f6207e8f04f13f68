/* SPDX-License-Identifier: MIT */
/* Frames of a memory node: address space bound to it, populated piece by piece. */
#ifndef NUMA_FRAMES_H
#define NUMA_FRAMES_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "library.h"
#include "nodes.h"
#include "umm.h"

struct frames {
	const struct library *library;
	struct bitmask *mask; /* the node alone */
	int node;
	pid_t owner; /* a forked child has no pool */
	char *base;  /* of frame 0, 2 MiB aligned */
	void *mapped;
	size_t mapped_len;
	uint32_t nframes;
	pthread_mutex_t returning;     /* Protects: strays on their way back; inside: nothing */
	_Atomic bool offline;	       /* no memory is to be taken from the node */
	_Atomic int told;	       /* the reason of which the log spoke last: enum refusal */
	_Atomic bool alone;	       /* the node is the only one with memory, as of */
	_Atomic uint64_t alone_ns;     /* then */
	_Atomic uint64_t home_told_ns; /* when the log spoke last of a limit on what comes home */
	_Atomic uint64_t held;	       /* frames that have their memory */
	_Atomic uint64_t taken, refused, checked, strayed, returned; /* frames */
};

/*
 * How many frames a pool of so many bytes has on a node, or one of half of what is free there where
 * bytes is 0. 0; or -ENOSPC, said in the log.
 */
int frames_wanted(uint64_t bytes, const struct node *node, uint32_t *nframes);

/* Address space for nframes frames of the node. 0 or -errno, said in the log. */
int frames_init(struct frames *frames, const struct library *library, int node, uint32_t nframes);
void frames_fini(struct frames *frames);

/*
 * Make frames real, on the node: 0; -ENOSPC it has no memory for them (some other node had:
 * that was given back), or this process may not have it; -ENODEV offline; or -ENOMEM. No two calls
 * for the same frames at once.
 */
int frames_populate(struct frames *frames, uint32_t frame, uint32_t nframes);
/* Frames that nobody has give their memory back. */
void frames_unpopulate(struct frames *frames, uint32_t frame, uint32_t nframes);

/* Is the node the only one with memory, so that nothing can be elsewhere? Good for a moment. */
bool frames_alone(struct frames *frames);

/*
 * Pages are to come home to these places, if a memory cgroup has room for them. Where its limit is
 * near they get their memory here. 0 or -ENOMEM.
 */
int frames_home(struct frames *frames, const struct umm_copy *copies, unsigned ncopies);

/*
 * Frames are about to be lent: where somebody has moved the first of them while it lay in the
 * pool, move all that are elsewhere back. 0; -ENOSPC the node does not take them.
 */
int frames_settle(struct frames *frames, uint32_t frame, uint32_t nframes);

/* Look whether frames that came back are on the node still, and move those that are not. */
void frames_check(struct frames *frames, uint32_t frame, uint32_t nframes);

/* Pages that the kernel makes for this thread are to be the node's; and as before again. */
void frames_place_begin(struct frames *frames);
void frames_place_end(const struct frames *frames);

static inline char *frames_at(const struct frames *frames, uint32_t frame)
{
	return frames->base + ((size_t)frame << UMM_PAGE_SHIFT);
}

#endif
