/* SPDX-License-Identifier: MIT */
/* Frames of a memory node: address space bound to it, populated piece by piece. */
#ifndef NUMA_FRAMES_H
#define NUMA_FRAMES_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "library.h"
#include "umm.h"

struct frames {
	const struct library *library;
	struct bitmask *mask; /* the node alone */
	int node;
	bool alone; /* it is the only one with memory: nothing can be elsewhere */
	char *base; /* of frame 0, 2 MiB aligned */
	void *mapped;
	size_t mapped_len;
	uint32_t nframes;
	pthread_mutex_t returning; /* Protects: strays on their way back; inside: nothing */
	_Atomic bool offline;	   /* no memory is to be taken from the node */
	_Atomic int told;	   /* the reason of which the log spoke last: enum refusal */
	_Atomic uint64_t leave;	   /* bytes that may be taken before the cgroup is asked again */
	_Atomic uint64_t taken, refused, checked, strayed, returned; /* frames */
};

/* Address space for nframes frames of the node. 0 or -errno. */
int frames_init(struct frames *frames, const struct library *library, int node, bool alone,
		uint32_t nframes);
void frames_fini(struct frames *frames);

/*
 * Make frames real, on the node: 0; -ENOSPC it has no memory for them (some other node had:
 * that was given back), or this process may not have it; or -ENOMEM. No two calls for the same
 * frames at once.
 */
int frames_populate(struct frames *frames, uint32_t frame, uint32_t nframes);

/*
 * Frames are about to be lent: where somebody has moved the first of them while it lay in the
 * pool, move all that are elsewhere back. 0; -ENOSPC the node does not take them.
 */
int frames_settle(struct frames *frames, uint32_t frame, uint32_t nframes);

/* Look whether frames that came back are on the node still, and move those that are not. */
void frames_check(struct frames *frames, uint32_t frame, uint32_t nframes);

/* Move frames that nobody uses to a node; how many are there then. */
uint32_t frames_move(struct frames *frames, uint32_t n, const uint32_t *list, int node);

/* Pages that the kernel makes for this thread are to be the node's; and as before again. */
void frames_place_begin(const struct frames *frames);
void frames_place_end(const struct frames *frames);

static inline char *frames_at(const struct frames *frames, uint32_t frame)
{
	return frames->base + ((size_t)frame << UMM_PAGE_SHIFT);
}

#endif
