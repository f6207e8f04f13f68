/* SPDX-License-Identifier: MIT */
/* Memory placed by a policy of the kernel, or by libumm, and where it lies. */
#ifndef PLACE_H
#define PLACE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "umm_numa.h"

enum place_kind {
	PLACE_NEAR,	  /* as under numactl --preferred=NEAR */
	PLACE_FAR,	  /* as under numactl --preferred=FAR */
	PLACE_INTERLEAVE, /* as under numactl --interleave=all */
	PLACE_UMM,	  /* libumm: near, until its cold part is sent away */
	NPLACES,
};

#define PLACE_NODES 64

/** The nodes that this process may use, the fastest first. */
struct place_nodes {
	unsigned count;
	int number[PLACE_NODES];
};

static inline int place_near(const struct place_nodes *nodes)
{
	return nodes->number[0];
}

static inline int place_far(const struct place_nodes *nodes)
{
	return nodes->number[nodes->count - 1];
}

/** place_nodes_get() - which there are. Return: 0 or a negative errno, said by the library */
int place_nodes_get(struct place_nodes *nodes);

/** place_prefer_near() - this thread's new pages are near, where their memory has no policy */
int place_prefer_near(const struct place_nodes *nodes);

/** place_map() - zeroed memory, aligned to 2 MiB. Return: 0 or a negative errno */
int place_map(enum place_kind kind, const struct place_nodes *nodes, struct umm_ctx *ctx,
	      size_t len, char **out);

/** place_unmap() - that of @kind may be used no more */
void place_unmap(enum place_kind kind, struct umm_ctx *ctx, char *addr, size_t len);

/** place_query() - the node of each page, as the kernel says; negative: no page */
int place_query(const char *addr, size_t npages, int *node);

#endif
