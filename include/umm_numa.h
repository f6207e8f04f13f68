/* SPDX-License-Identifier: MIT */
/*
 * libumm_numa - memory nodes as devices of libumm
 *
 * A memory node, with CPUs beside it or without (CXL memory, high-bandwidth memory,
 * a far socket), holds pages of a context. By default the memory is COHERENT: pages
 * are *moved* to frames of the node and back, and a CPU that touches one finds it there,
 * without a fault. On request it is PRIVATE: a tier behind faults, from which a touch
 * brings pages home.
 *
 *	struct umm_numa_options options = { .size = sizeof(options), .node = 2 };
 *
 *	umm_numa_create(ctx, &options, &numa);
 *	umm_migrate_to_device(ctx, umm_numa_devmem(numa), cold, cold_len);
 *
 * The device's "kernels" are teams of threads next to the node: umm_numa_run().
 *
 * Nodes are told apart by what they can do, not by their number: see umm_numa_list().
 * What the process may not use, by its cpuset or by numactl(8), is respected.
 * libnuma is loaded when it is first needed; where it is missing, functions say so.
 *
 * Errors are those of umm.h. Functions that must not be called from a callback, an invalidate
 * callback of umm.h's, answer -EDEADLK there; umm_numa_destroy() says so in the log.
 */
#ifndef UMM_NUMA_H
#define UMM_NUMA_H

#include "umm.h"

#ifdef __cplusplus
extern "C" {
#endif

struct umm_numa; /* a memory node that takes part in a context */

/* ------------------------------------------------------------------------
 * 1. What there is
 */

/**
 * One memory node. Figures are as seen from the CPUs that this process may use: those that it was
 * started on (taskset, numactl) and the caller's, as far as they are in its cpuset now.
 */
struct umm_numa_info {
	size_t size;
	uint64_t flags; /* 0 */
	uint64_t total_bytes;
	uint64_t free_bytes;
	uint64_t read_bandwidth;  /* MB/s by the firmware's HMAT; 0: not told */
	uint64_t write_bandwidth; /* likewise */
	uint32_t read_latency;	  /* ns, likewise */
	uint32_t write_latency;	  /* likewise */
	int32_t node;		  /* its number */
	uint32_t rank;		  /* 0: the fastest. Nodes without memory come last */
	uint32_t ncpus;		  /* CPUs of the node; 0: memory only */
	uint32_t distance;	  /* of the kernel: 10 is local */
	int32_t usable;		  /* 0, or the error that umm_numa_create() would give */
	uint32_t reserved;	  /* 0 */
	const char *cpus;	  /* those that teams and copies run on: "0-3,8" */
	const char *reason;	  /* "" or one sentence: why not, and what to do */
};

/**
 * umm_numa_list() - tell of every memory node, the fastest first
 * @fn:   called once for each; a value other than 0 stops
 * @priv: handed to @fn
 *
 * Nodes are ranked by bandwidth, then latency, of the firmware's HMAT, made worse in
 * proportion to the distance from this process's CPUs; where some node has no such
 * figures, by distance alone.
 *
 * Ownership: the structure and its strings are gone when @fn returns.
 * Context:   any thread; may sleep; reads /sys.
 * Return:    the number of nodes told of; what @fn returned where that was not 0;
 *            -ENODEV the kernel tells of no nodes; -EOPNOTSUPP there is no libnuma (the
 *            log says how to get it); -EINVAL; -ENOMEM.
 * Since:     0.1
 */
UMM_API int umm_numa_list(int (*fn)(void *priv, const struct umm_numa_info *info), void *priv);

/* ------------------------------------------------------------------------
 * 2. Devices
 */

/** Instead of a number of a node. */
enum umm_numa_choice {
	UMM_NUMA_NEAR = -1, /* the fastest that may be used */
	UMM_NUMA_FAR = -2,  /* the slowest that may be used: where cold data goes */
};

/** Flags of struct umm_numa_options. */
enum umm_numa_flag {
	UMM_NUMA_PRIVATE = 1 << 0, /* a tier behind faults; else COHERENT */
};

/** Options of umm_numa_create(). */
struct umm_numa_options {
	size_t size;
	uint64_t flags;	       /* enum umm_numa_flag */
	uint64_t bytes;	       /* memory for pages, rounded up to 2 MiB; 0: half of what is free */
	int32_t node;	       /* number, or enum umm_numa_choice */
	uint32_t copy_threads; /* 0: as many as the node has CPUs for, at most 4 */
};

/**
 * umm_numa_create() - make a memory node a device of @ctx
 * @ctx:     the context
 * @options: or NULL: UMM_NUMA_FAR and the defaults
 * @out:     the device
 *
 * Reserves addresses only: frames are taken from the node 2 MiB at a time when pages
 * come to it, in huge pages where the kernel has them, and count as the process's memory. Where
 * the node has no more, or a memory cgroup no room for more, pages that do not fit stay where they
 * are, or others are evicted, as in any full memory. Frames are never another node's. Where the
 * kernel has no UFFDIO_MOVE (before 6.8), the program's pages are not the frames: the kernel makes
 * them, on the node if it can, and on another where the node has filled up or the program has bound
 * its memory elsewhere; umm_locate() says where they are.
 *
 * Ownership: the caller calls umm_numa_destroy(); closing the context does so otherwise.
 * Context:   any thread, not from a callback; may sleep.
 * Return:    0; -EINVAL; -E2BIG; -ENODEV no such node, it has no memory, or this process
 *            may not use it (the log says which, and what to do), or in a forked
 *            child; -ENOSPC @options ask for more than the node has, or for 16 TiB; -EOPNOTSUPP
 *            no libnuma;
 *            -ENOMEM; -EAGAIN no thread could be started; -EDEADLK.
 * Since:     0.1
 */
UMM_API int umm_numa_create(struct umm_ctx *ctx, const struct umm_numa_options *options,
			    struct umm_numa **out);

/**
 * umm_numa_destroy() - take the device away; its pages come home
 * @numa: or NULL
 *
 * Waits for teams that run.
 *
 * Ownership: @numa, its umm_device and its memory are gone.
 * Context:   any thread but a team's, not from a callback; may sleep.
 * Return:    nothing.
 * Since:     0.1
 */
UMM_API void umm_numa_destroy(struct umm_numa *numa);

/**
 * umm_numa_device(), umm_numa_devmem(), umm_numa_node() - what others take; the number
 * @numa: the device
 *
 * Ownership: borrowed; valid while @numa is.
 * Context:   any thread.
 * Return:    as the names say.
 * Since:     0.1
 */
UMM_API struct umm_device *umm_numa_device(struct umm_numa *numa);
UMM_API struct umm_devmem *umm_numa_devmem(struct umm_numa *numa);
UMM_API int umm_numa_node(struct umm_numa *numa);

/* ------------------------------------------------------------------------
 * 3. Kernels
 */

/**
 * umm_numa_run() - run a function in a team of threads next to the node
 * @numa:     the device
 * @fn:       called once in each thread, with its number, from 0
 * @arg:      handed to @fn
 * @nthreads: 0: one for each CPU next to the node
 * @fence:    where to put a fence to wait for; NULL waits here
 *
 * The threads may use the CPUs of the node that this process may; those nearest to it
 * where it has none. When the cpuset has changed so that none of these is left, they are looked for
 * again. They are ordinary threads: pages of a PRIVATE memory come home when they touch them.
 * One that ends in @fn, by pthread_exit() or because it is cancelled, is done: the fence does not
 * tell it from one that returned.
 *
 * Ownership: @arg is @fn's until the end. The caller drops *fence.
 * Context:   any thread, not from a callback; may sleep. @fn may call libumm, and
 *            must not call umm_numa_destroy() of its device.
 * Return:    0; -EINVAL; -ENODEV the device is being destroyed, or in a forked
 *            child; -ENOMEM; -EAGAIN a thread could not be started (the log says why): @fn was not
 *            called; -EDEADLK.
 * Since:     0.1
 */
UMM_API int umm_numa_run(struct umm_numa *numa, void (*fn)(void *arg, unsigned thread), void *arg,
			 unsigned nthreads, struct umm_fence **fence);

/* ------------------------------------------------------------------------
 * 4. Nodes that go away, and others' hands on the frames
 */

/**
 * umm_numa_offline() - leave the node, so that its memory can be removed
 * @numa: the device
 *
 * Every page comes home, the pool gives its memory back to the kernel, and no page goes to the
 * device until umm_numa_online(): requests answer -ENODEV. Home is wherever the kernel puts
 * ordinary memory; of a process that is bound to the node that is the node still, which the
 * kernel itself can move.
 *
 * Ownership: none.
 * Context:   any thread, not from a callback; may sleep. Several threads may call it at once.
 * Return:    0: the pool has none of the node's memory; -EBUSY pages are pinned by others,
 *            a memory cgroup leaves no room for them at home, or frames are the program's
 *            (umm_devmem_alloc()): the log says how much is left and why, all of it stays usable,
 *            and nothing more goes to the device until umm_numa_online(); -EINVAL; -ENODEV in a
 *            forked child; -EDEADLK.
 * Since:     0.1
 */
UMM_API int umm_numa_offline(struct umm_numa *numa);

/**
 * umm_numa_online() - use the node again
 * @numa: the device
 *
 * Ownership: none.
 * Context:   any thread, not from a callback; may sleep.
 * Return:    0; -ENODEV it has no memory, or this process may not use it, or in a
 *            forked child; -EINVAL; -ENOMEM; -EDEADLK.
 * Since:     0.1
 */
UMM_API int umm_numa_online(struct umm_numa *numa);

/** What a device counted. */
struct umm_numa_counts {
	size_t size;
	uint64_t flags;		  /* 0 */
	uint64_t copies_inline;	  /* calls served by the thread that asked, */
	uint64_t copies_threaded; /* and by copy threads */
	uint64_t bytes_streamed;  /* copied past the caches */
	uint64_t frames_taken;	  /* frames that the node gave, also if they went back since */
	uint64_t frames_refused;  /* and did not: it is full, or may not be used */
	uint64_t frames_checked;  /* frames that came back, and were looked at */
	uint64_t frames_strayed;  /* found on another node, then or before use: moved by others, */
	uint64_t frames_returned; /* and moved back */
	uint64_t teams;		  /* umm_numa_run() */
};

/**
 * umm_numa_counts() - read the counters
 * @numa: the device
 * @out:  the caller sets size
 *
 * Ownership: none.
 * Context:   any thread; counters that belong together may be read a moment apart.
 * Return:    0; -EINVAL; -E2BIG.
 * Since:     0.1
 */
UMM_API int umm_numa_counts(struct umm_numa *numa, struct umm_numa_counts *out);

#ifdef __cplusplus
}
#endif
#endif /* UMM_NUMA_H */
