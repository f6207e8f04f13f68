/* SPDX-License-Identifier: MIT */
/* umm_numa_list(): what there is, for programs and for "umm info". No state, no locks. */
#include <errno.h>
#include <stdlib.h>

#include "nodes.h"
#include "umm_numa.h"

static int tell(const struct nodes *nodes, unsigned i,
		int (*fn)(void *priv, const struct umm_numa_info *info), void *priv)
{
	const struct node *node = &nodes->node[i];
	char cpus[NODE_CPUS];
	struct umm_numa_info info = {
		.size = sizeof(info),
		.total_bytes = node->total_bytes,
		.free_bytes = node->free_bytes,
		.read_bandwidth = node->read_bandwidth,
		.write_bandwidth = node->write_bandwidth,
		.read_latency = node->read_latency,
		.write_latency = node->write_latency,
		.node = node->number,
		.rank = i,
		.ncpus = node->ncpus,
		.distance = node->distance,
		.usable = node->usable,
		.cpus = cpus,
		.reason = node->reason,
	};

	cpus_text(&node->near, cpus, sizeof(cpus));
	return fn(priv, &info);
}

int umm_numa_list(int (*fn)(void *priv, const struct umm_numa_info *info), void *priv)
{
	const struct library *library;
	struct nodes *nodes;
	int ret = 0, told = 0;

	if (!fn)
		return -EINVAL;
	library = library_get(UMM_NUMA_NEAR, &ret);
	nodes = library ? nodes_get(library, &ret) : NULL;
	if (!nodes)
		return ret;
	for (unsigned i = 0; i < nodes->count && !ret; i++, told++)
		ret = tell(nodes, i, fn, priv);
	free(nodes);
	return ret ? ret : told;
}
