/* SPDX-License-Identifier: MIT */
/* The memory nodes of this machine. */
#ifndef NUMA_H
#define NUMA_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { NUMA_NODES = 64 };

struct numa_node {
	unsigned id;
	bool memory_only; /* no CPU is next to it: CXL, HBM, persistent memory */
	uint64_t total_bytes;
	uint64_t free_bytes;
	char cpus[128]; /* "0-3,8"; empty for a memory-only node */
	unsigned ndistances;
	unsigned distances[NUMA_NODES]; /* to the online nodes in ascending order; 10 is local */

	/* As a device of libumm; by numa_judge(). */
	bool judged;	    /* the backend knows the node */
	int usable;	    /* 0 or a negative errno */
	unsigned rank;	    /* 0: the fastest */
	uint64_t bandwidth; /* MB/s, reading, by HMAT; 0: not told */
	uint64_t latency;   /* ns, likewise */
	char near[256];	    /* CPUs that work for it */
	char reason[256];   /* "" or why not, and what to do */
};

/*
 * Read the online nodes below root, which is /sys/devices/system/node outside of
 * tests. Returns their number, at most NUMA_NODES, or -errno: -ENOENT where the kernel was built
 * without NUMA or /sys is hidden.
 */
int numa_read(const char *root, struct numa_node nodes[NUMA_NODES]);

/* Ask the NUMA backend about them. advice: "" or one sentence: what is missing, how to get it. */
void numa_judge(struct numa_node *nodes, int nnodes, char *advice, size_t advice_len);

#endif
