/* SPDX-License-Identifier: MIT */
/*
 * Nodes are read from /sys each time somebody asks: they come and go, and what libnuma
 * remembers of its start would be wrong.
 *
 * Ranking. The firmware's HMAT tells bandwidth and latency between a node and the CPUs
 * nearest to it (its initiators). For CPUs that are further away both get worse in
 * proportion to the kernel's distances. Where some node has memory and no such figures,
 * distances alone count. So a high-bandwidth node comes before ordinary memory, that before
 * the other socket's, and CXL memory comes last, whatever their numbers are.
 *
 * A node may be used if it has memory, is in the process's cpuset, and in its policy where
 * numactl(8) or set_mempolicy(2) bound it to some nodes. No state, no locks.
 */
#include "nodes.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "sysfs.h"
#include "umm_numa.h"

/* A list of all CPUs or nodes there can be, none beside another: "0,2,4". */
#define LIST_BYTES	 NODE_CPUS
#define DISTANCE_LOCAL	 10
#define DISTANCE_UNKNOWN 255

/* A line of meminfo, in bytes; 0 where there is none. */
static uint64_t meminfo_bytes(const char *text, const char *name)
{
	const char *at = strstr(text, name);

	return at ? strtoull(at + strlen(name), NULL, 10) << 10 : 0;
}

static int meminfo_read(const char *root, int number, uint64_t *total, uint64_t *unused)
{
	char path[256], text[1024];
	int ret;

	snprintf(path, sizeof(path), "%s/node%d/meminfo", root, number);
	ret = sysfs_read(path, text, sizeof(text));
	*total = meminfo_bytes(text, "MemTotal:");
	*unused = meminfo_bytes(text, "MemFree:");
	return ret;
}

int node_memory(int number, uint64_t *total, uint64_t *unused)
{
	return meminfo_read(NODES_ROOT, number, total, unused);
}

/* Call fn for every number of a list like "0-3,8". libnuma parses those of this machine only. */
static void list_parse(const char *list, void (*fn)(void *priv, unsigned number), void *priv)
{
	unsigned long first, last;
	char *end;

	for (; *list; list = *end == ',' ? end + 1 : end) {
		first = last = strtoul(list, &end, 10);
		if (end == list)
			return;
		if (*end == '-')
			last = strtoul(end + 1, &end, 10);
		for (; first <= last && first < CPUS_MAX; first++)
			fn(priv, (unsigned)first);
	}
}

static void cpu_add(void *priv, unsigned number)
{
	cpus_add(priv, number);
}

static void node_add(void *priv, unsigned number)
{
	struct nodes *nodes = priv;

	if (nodes->count < NODES_MAX)
		nodes->node[nodes->count++].number = (int)number;
}

static void cpus_read(const char *root, struct node *node)
{
	char path[256], text[LIST_BYTES];

	node->cpus = (struct cpus){ 0 };
	snprintf(path, sizeof(path), "%s/node%d/cpulist", root, node->number);
	if (!sysfs_read(path, text, sizeof(text)))
		list_parse(text, cpu_add, &node->cpus);
	node->ncpus = cpus_count(&node->cpus);
}

/* HMAT's figures. The kernel gives those of the best initiators there are. */
static void performance_read(const char *root, struct node *node)
{
	char path[256];
	size_t len;

	len = (size_t)snprintf(path, sizeof(path), "%s/node%d/access0/initiators/", root,
			       node->number);
	snprintf(path + len, sizeof(path) - len, "read_bandwidth");
	node->read_bandwidth = sysfs_number(path);
	snprintf(path + len, sizeof(path) - len, "write_bandwidth");
	node->write_bandwidth = sysfs_number(path);
	snprintf(path + len, sizeof(path) - len, "read_latency");
	node->read_latency = (uint32_t)sysfs_number(path);
	snprintf(path + len, sizeof(path) - len, "write_latency");
	node->write_latency = (uint32_t)sysfs_number(path);
}

/* Row of the distance file: to the online nodes in ascending order. */
static unsigned distances_read(const char *root, int number, uint32_t *to, unsigned n)
{
	char path[256], text[1024 + 4 * NODES_MAX], *at = text, *end;
	unsigned i;

	snprintf(path, sizeof(path), "%s/node%d/distance", root, number);
	sysfs_read(path, text, sizeof(text));
	for (i = 0; i < n; i++, at = end) {
		to[i] = (uint32_t)strtoul(at, &end, 10);
		if (end == at)
			break;
	}
	return i;
}

static bool is_initiator(const char *root, int number, int of)
{
	char path[256];

	snprintf(path, sizeof(path), "%s/node%d/access0/initiators/node%d", root, of, number);
	return !access(path, F_OK);
}

/*
 * What the CPUs of node `from` are to node `to`: how far this process's CPUs and the
 * initiators are, and which CPUs work for it. Nodes are in ascending order still.
 */
static void relate(struct nodes *nodes, const char *root, unsigned from, const uint32_t *distances,
		   const struct cpus *allowed)
{
	const struct node *cpu_node = &nodes->node[from];
	struct cpus ours = cpu_node->cpus;

	cpus_meet(&ours, allowed);

	for (unsigned i = 0; cpu_node->ncpus && i < nodes->count; i++) {
		struct node *node = &nodes->node[i];

		if (is_initiator(root, cpu_node->number, node->number) &&
		    distances[i] < node->initiator_distance)
			node->initiator_distance = distances[i];
		if (!cpus_count(&ours) || distances[i] > node->distance)
			continue;
		if (distances[i] < node->distance)
			node->near = (struct cpus){ 0 };
		node->distance = distances[i];
		cpus_join(&node->near, &ours);
	}
}

static void relations_read(struct nodes *nodes, const char *root, const struct cpus *allowed)
{
	uint32_t distances[NODES_MAX];

	for (unsigned i = 0; i < nodes->count; i++) {
		nodes->node[i].distance = DISTANCE_UNKNOWN;
		nodes->node[i].initiator_distance = DISTANCE_UNKNOWN;
	}
	for (unsigned i = 0; i < nodes->count; i++) {
		unsigned n = distances_read(root, nodes->node[i].number, distances, nodes->count);

		for (; n < nodes->count; n++)
			distances[n] = n == i ? DISTANCE_LOCAL : DISTANCE_UNKNOWN;
		relate(nodes, root, i, distances, allowed);
	}
	for (unsigned i = 0; i < nodes->count; i++)
		if (!cpus_count(&nodes->node[i].near))
			nodes->node[i].near = *allowed;
}

/* How many times further away this process's CPUs are than those that HMAT tells of. */
static double stretch(const struct node *node)
{
	if (node->initiator_distance == DISTANCE_UNKNOWN || !node->initiator_distance)
		return 1.0;
	return (double)node->distance / (double)node->initiator_distance;
}

static int compare(double a, double b)
{
	return (a > b) - (a < b);
}

static int by_distance(const void *first, const void *second)
{
	const struct node *a = first, *b = second;

	if (!a->total_bytes != !b->total_bytes)
		return !a->total_bytes - !b->total_bytes;
	if (a->distance != b->distance)
		return a->distance < b->distance ? -1 : 1;
	return a->number - b->number;
}

static int by_performance(const void *first, const void *second)
{
	const struct node *a = first, *b = second;
	int order;

	if (!a->total_bytes || !b->total_bytes)
		return by_distance(first, second);
	order = compare((double)b->read_bandwidth / stretch(b),
			(double)a->read_bandwidth / stretch(a));
	if (!order)
		order = compare(a->read_latency * stretch(a), b->read_latency * stretch(b));
	return order ? order : by_distance(first, second);
}

static void rank(struct nodes *nodes)
{
	bool told = true;

	for (unsigned i = 0; i < nodes->count; i++)
		told &= !nodes->node[i].total_bytes ||
			(nodes->node[i].read_bandwidth && nodes->node[i].read_latency);
	qsort(nodes->node, nodes->count, sizeof(nodes->node[0]),
	      told ? by_performance : by_distance);
}

/* Nodes that the process's policy binds it to; NULL: any. */
static struct bitmask *bound_to(const struct library *library)
{
	struct bitmask *mask = library->nodemask();
	int mode;

	if (!mask)
		return NULL;
	if (!library->get_mempolicy(&mode, mask->maskp, mask->size + 1, NULL, 0) &&
	    mode == MPOL_BIND)
		return mask;
	library->free_mask(mask);
	return NULL;
}

static void judge(const struct library *library, struct node *node, const struct bitmask *allowed,
		  const struct bitmask *bound)
{
	unsigned number = (unsigned)node->number;

	if (!node->total_bytes)
		snprintf(node->reason, sizeof(node->reason),
			 "node %u has no memory: choose one that has ('numactl -H'), or bring its "
			 "memory online ('chmem -e', 'daxctl reconfigure-device -m system-ram')",
			 number);
	else if (allowed && !library->test_bit(allowed, number))
		snprintf(node->reason, sizeof(node->reason),
			 "node %u is outside of this process's cpuset: add it to cpuset.mems of "
			 "its control group (/proc/self/cgroup)",
			 number);
	else if (bound && !library->test_bit(bound, number))
		snprintf(node->reason, sizeof(node->reason),
			 "node %u is not among those that this process is bound to: start it with "
			 "'numactl --membind' that includes the node, or without",
			 number);
	node->usable = node->reason[0] ? -ENODEV : 0;
}

static void judge_all(const struct library *library, struct nodes *nodes)
{
	struct bitmask *allowed = library->mems_allowed(), *bound = bound_to(library);

	for (unsigned i = 0; i < nodes->count; i++)
		judge(library, &nodes->node[i], allowed, bound);
	if (allowed)
		library->free_mask(allowed);
	if (bound)
		library->free_mask(bound);
}

static int online_read(const char *root, struct nodes *nodes)
{
	char path[256], text[LIST_BYTES];

	snprintf(path, sizeof(path), "%s/online", root);
	if (sysfs_read(path, text, sizeof(text)))
		return -ENODEV;
	list_parse(text, node_add, nodes);
	return nodes->count ? 0 : -ENODEV;
}

int nodes_read(const struct library *library, const char *root, const struct cpus *cpus,
	       struct nodes *out)
{
	struct cpus allowed = *cpus;
	int ret;

	memset(out, 0, sizeof(*out));
	ret = online_read(root, out);
	if (ret)
		return ret;
	for (unsigned i = 0; i < out->count; i++) {
		meminfo_read(root, out->node[i].number, &out->node[i].total_bytes,
			     &out->node[i].free_bytes);
		cpus_read(root, &out->node[i]);
		performance_read(root, &out->node[i]);
	}
	for (unsigned i = 0; i < out->count && !cpus_count(cpus); i++)
		cpus_join(&allowed, &out->node[i].cpus);
	relations_read(out, root, &allowed);
	judge_all(library, out);
	rank(out);
	return 0;
}

struct nodes *nodes_get(const struct library *library, int *ret)
{
	struct nodes *nodes = malloc(sizeof(*nodes));
	struct cpus cpus;

	*ret = -ENOMEM;
	if (!nodes)
		return NULL;
	cpus_allowed(&cpus);
	*ret = nodes_read(library, NODES_ROOT, &cpus, nodes);
	if (!*ret)
		return nodes;
	free(nodes);
	return NULL;
}

void nodes_near(const struct library *library, int number, struct cpus *near)
{
	int ret;
	struct nodes *nodes = nodes_get(library, &ret);

	for (unsigned i = 0; nodes && i < nodes->count; i++)
		if (nodes->node[i].number == number)
			*near = nodes->node[i].near;
	free(nodes);
}

/* "0, 1 and so on": the numbers of those that may be used. */
static void usable_text(const struct nodes *nodes, char *text, size_t text_len)
{
	size_t len = 0;

	snprintf(text, text_len, "none");
	for (unsigned i = 0; i < nodes->count && len + 16 < text_len; i++)
		if (!nodes->node[i].usable)
			len += (size_t)snprintf(text + len, text_len - len, "%s%d", len ? ", " : "",
						nodes->node[i].number);
}

static const struct node *choose(const struct nodes *nodes, bool fastest)
{
	const struct node *found = NULL;

	for (unsigned i = 0; i < nodes->count; i++)
		if (!nodes->node[i].usable && (!found || !fastest))
			found = &nodes->node[i];
	return found;
}

const struct node *nodes_find(const struct nodes *nodes, int which)
{
	const struct node *found = NULL;
	char text[128];

	if (which == UMM_NUMA_NEAR || which == UMM_NUMA_FAR)
		found = choose(nodes, which == UMM_NUMA_NEAR);
	for (unsigned i = 0; i < nodes->count && !found; i++)
		if (nodes->node[i].number == which)
			found = &nodes->node[i];
	if (found && !found->usable)
		return found;
	usable_text(nodes, text, sizeof(text));
	if (found)
		umm_log(UMM_LOG_ERROR, "%s; nodes that may be used: %s", found->reason, text);
	else
		umm_log(UMM_LOG_ERROR, "there is no memory node %d; nodes that may be used: %s",
			which, text);
	return NULL;
}
