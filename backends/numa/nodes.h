/* SPDX-License-Identifier: MIT */
/* The memory nodes of the machine: what they can do, and whether this process may use them. */
#ifndef NUMA_NODES_H
#define NUMA_NODES_H

#include <stdbool.h>
#include <stdint.h>

#include "cpus.h"
#include "library.h"

#define NODES_MAX   256
#define NODES_ROOT  "/sys/devices/system/node"
#define NODE_REASON 256
#define NODE_CPUS   8192

struct node {
	int number;
	uint64_t total_bytes, free_bytes;
	uint64_t read_bandwidth, write_bandwidth; /* MB/s by HMAT, as told; 0: not told */
	uint32_t read_latency, write_latency;	  /* ns */
	uint32_t distance;			  /* from the nearest of this process's CPUs */
	uint32_t initiator_distance;		  /* from the CPUs that HMAT's figures are for */
	uint32_t ncpus;				  /* its own */
	struct cpus cpus;			  /* its own, */
	struct cpus near;			  /* and those that work for it */
	int usable;				  /* 0 or -ENODEV */
	char reason[NODE_REASON];
};

struct nodes {
	unsigned count;
	struct node node[NODES_MAX]; /* the fastest first */
};

/*
 * Read all of them below root (NODES_ROOT outside of tests) and rank them for a process
 * that may run on cpus; on all of them, where none are given. 0, -ENODEV or -ENOMEM.
 */
int nodes_read(const struct library *library, const char *root, const struct cpus *cpus,
	       struct nodes *out);

/* The same for this process, allocated: the caller frees it. NULL: *ret says why. */
struct nodes *nodes_get(const struct library *library, int *ret);

/* The one that `which` names: a number, or enum umm_numa_choice. NULL: none, said in the log. */
const struct node *nodes_find(const struct nodes *nodes, int which);

/* The CPUs that work for a node as things are now; as they were where the kernel does not say. */
void nodes_near(const struct library *library, int number, struct cpus *near);

/*
 * Its memory now (0: it is not there), and what of it is free. Opens one file, allocates nothing.
 * 0, or -errno of that.
 */
int node_memory(int number, uint64_t *total, uint64_t *unused);

#endif
