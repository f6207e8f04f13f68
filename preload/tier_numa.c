/* SPDX-License-Identifier: MIT */
/*
 * Memory nodes as memory for the shim: numa:NODE, "far" for the slowest one, which is also what no
 * name means. The pool is PRIVATE: only a page that faults when it is touched tells that it is
 * wanted. No state, no locks.
 */
#include <ctype.h>
#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <umm_numa.h>

#include "umm_tier.h"

static int node_parse(const char *name, int32_t *node, struct umm_tier_reason *reason)
{
	unsigned long number;
	char *end;

	*node = UMM_NUMA_FAR;
	if (!*name || strcmp(name, "far") == 0)
		return 0;
	number = strtoul(name, &end, 10);
	if (!isdigit((unsigned char)*name) || *end || number > INT32_MAX) {
		snprintf(reason->text, reason->len,
			 "\"%s\" is not the number of a node, or \"far\"", name);
		return -EINVAL;
	}
	*node = (int32_t)number;
	return 0;
}

struct wanted {
	int32_t node;
	bool is_there;
	unsigned nodes; /* that may be used */
	uint64_t bytes; /* the slowest that may be used comes last */
};

static int consider(void *priv, const struct umm_numa_info *info)
{
	struct wanted *wanted = priv;

	wanted->nodes += !info->usable;
	if (info->usable || (wanted->node != UMM_NUMA_FAR && info->node != wanted->node))
		return 0;
	wanted->is_there = true;
	wanted->bytes = info->total_bytes;
	return 0;
}

static int check(const char *name, uint64_t bytes, struct umm_tier_reason *reason)
{
	struct wanted wanted = { .bytes = 0 };
	int ret = node_parse(name, &wanted.node, reason);

	if (ret)
		return ret;
	umm_numa_list(consider, &wanted);
	if (!wanted.is_there && wanted.node != UMM_NUMA_FAR) {
		snprintf(reason->text, reason->len,
			 "there is no such node, or this process may not use its memory (\"umm "
			 "info\" lists nodes)");
		return -ENODEV;
	}
	if (!wanted.is_there || bytes <= wanted.bytes) {
		if (wanted.nodes == 1)
			snprintf(reason->text, reason->len,
				 "it is the only node that this process may use: what goes there "
				 "takes the same memory as what stays");
		return 0;
	}
	snprintf(reason->text, reason->len, "%llu MiB are more than its %llu MiB",
		 (unsigned long long)(bytes >> 20), (unsigned long long)(wanted.bytes >> 20));
	return -EINVAL;
}

static int open(struct umm_ctx *ctx, const char *name, uint64_t bytes, struct umm_devmem **out,
		struct umm_tier_reason *reason)
{
	struct umm_numa_options options = {
		.size = sizeof(options),
		.flags = UMM_NUMA_PRIVATE,
		.bytes = bytes,
	};
	struct umm_numa *numa;
	int ret = node_parse(name, &options.node, reason);

	if (ret)
		return ret;
	ret = umm_numa_create(ctx, &options, &numa);
	if (ret)
		snprintf(reason->text, reason->len, "%s", umm_strerror(ret));
	else
		*out = umm_numa_devmem(numa);
	return ret;
}

const struct umm_tier_ops umm_tier_ops = {
	.size = sizeof(umm_tier_ops),
	.api = UMM_TIER_API,
	.flags = UMM_TIER_FORKS,
	.check = check,
	.open = open,
};
