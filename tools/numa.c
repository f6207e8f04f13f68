/* SPDX-License-Identifier: MIT */
/*
 * Reads the memory nodes from sysfs: size, free memory, CPUs and distances.
 *
 * libnuma would say the same, but not where it is absent; the files are the kernel's
 * stable interface. A node whose files vanish while we read (hot unplug) is
 * reported with what was readable. No state, no locks.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "numa.h"
#include "system.h"

enum { NUMA_PATH = 512, NUMA_LINE = 1024 };

/* Numbers of a list like "0-2,5" go to ids; returns how many, at most NUMA_NODES. */
static unsigned list_parse(const char *list, unsigned ids[NUMA_NODES])
{
	unsigned nids = 0;

	while (*list) {
		char *end;
		unsigned long first = strtoul(list, &end, 10);
		unsigned long last = first;

		if (end == list)
			break;
		if (*end == '-') {
			list = end + 1;
			last = strtoul(list, &end, 10);
		}
		for (unsigned long id = first; id <= last && nids < NUMA_NODES; id++)
			ids[nids++] = (unsigned)id;
		list = *end == ',' ? end + 1 : end;
	}
	return nids;
}

static void distances_read(const char *path, struct numa_node *node)
{
	char line[NUMA_LINE];
	char *at = line, *end;

	if (system_read(path, line, sizeof(line)))
		return;
	while (node->ndistances < NUMA_NODES) {
		unsigned long distance = strtoul(at, &end, 10);

		if (end == at)
			break;
		node->distances[node->ndistances++] = (unsigned)distance;
		at = end;
	}
}

static void node_read(const char *root, unsigned id, struct numa_node *node)
{
	char path[NUMA_PATH];

	memset(node, 0, sizeof(*node));
	node->id = id;
	snprintf(path, sizeof(path), "%s/node%u/meminfo", root, id);
	system_read_field(path, "MemTotal", &node->total_bytes);
	system_read_field(path, "MemFree", &node->free_bytes);
	snprintf(path, sizeof(path), "%s/node%u/cpulist", root, id);
	node->memory_only = !system_read(path, node->cpus, sizeof(node->cpus)) && !node->cpus[0] &&
			    node->total_bytes;
	snprintf(path, sizeof(path), "%s/node%u/distance", root, id);
	distances_read(path, node);
}

int numa_read(const char *root, struct numa_node nodes[NUMA_NODES])
{
	unsigned ids[NUMA_NODES], nids;
	char path[NUMA_PATH], line[NUMA_LINE];
	int ret;

	snprintf(path, sizeof(path), "%s/online", root);
	ret = system_read(path, line, sizeof(line));
	if (ret)
		return ret;
	nids = list_parse(line, ids);
	for (unsigned i = 0; i < nids; i++)
		node_read(root, ids[i], &nodes[i]);
	return (int)nids;
}
