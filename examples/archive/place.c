/* SPDX-License-Identifier: MIT */
/* Memory with a policy: what numactl(8) does for a program, for one piece of memory. */
#include "place.h"

#include <errno.h>
#include <numaif.h>
#include <string.h>
#include <sys/mman.h>

#define QUERY_PAGES 512
#define MASK_WORDS  (1024 / (8 * sizeof(unsigned long)))

static int note_node(void *priv, const struct umm_numa_info *info)
{
	struct place_nodes *nodes = priv;

	if (!info->usable && nodes->count < PLACE_NODES)
		nodes->number[nodes->count++] = info->node;
	return 0;
}

int place_nodes_get(struct place_nodes *nodes)
{
	int ret;

	memset(nodes, 0, sizeof(*nodes));
	ret = umm_numa_list(note_node, nodes);
	if (ret < 0)
		return ret;
	return nodes->count ? 0 : -ENODEV;
}

static void mask_set(unsigned long *mask, int node)
{
	mask[(size_t)node / (8 * sizeof(*mask))] |= 1ul << (size_t)node % (8 * sizeof(*mask));
}

static int bind_to(enum place_kind kind, const struct place_nodes *nodes, char *addr, size_t len)
{
	int mode = kind == PLACE_INTERLEAVE ? MPOL_INTERLEAVE : MPOL_PREFERRED;
	unsigned long mask[MASK_WORDS] = { 0 };

	if (kind == PLACE_UMM)
		return 0; /* libumm and its device say where pages go */
	if (kind == PLACE_NEAR)
		mask_set(mask, place_near(nodes));
	else if (kind == PLACE_FAR)
		mask_set(mask, place_far(nodes));
	else
		for (unsigned i = 0; i < nodes->count; i++)
			mask_set(mask, nodes->number[i]);
	return mbind(addr, len, mode, mask, 8 * sizeof(mask), 0) ? -errno : 0;
}

int place_prefer_near(const struct place_nodes *nodes)
{
	unsigned long mask[MASK_WORDS] = { 0 };

	mask_set(mask, place_near(nodes));
	return set_mempolicy(MPOL_PREFERRED, mask, 8 * sizeof(mask)) ? -errno : 0;
}

int place_map(enum place_kind kind, const struct place_nodes *nodes, struct umm_ctx *ctx,
	      size_t len, char **out)
{
	void *addr = NULL;
	int ret;

	if (kind == PLACE_UMM) {
		ret = umm_alloc(ctx, len, 0, &addr);
	} else {
		addr = mmap(NULL, len + UMM_BLOCK_SIZE, PROT_READ | PROT_WRITE,
			    MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		ret = addr == MAP_FAILED ? -errno : 0;
	}
	if (ret)
		return ret;
	*out = addr;
	*out += -(uintptr_t)addr & (UMM_BLOCK_SIZE - 1);
	if (kind != PLACE_UMM) {
		/* Only the aligned part is kept. */
		if (*out > (char *)addr)
			munmap(addr, (size_t)(*out - (char *)addr));
		munmap(*out + len, UMM_BLOCK_SIZE - (size_t)(*out - (char *)addr));
		madvise(*out, len, MADV_HUGEPAGE);
	}
	ret = bind_to(kind, nodes, *out, len);
	if (ret)
		place_unmap(kind, ctx, *out, len);
	return ret;
}

void place_unmap(enum place_kind kind, struct umm_ctx *ctx, char *addr, size_t len)
{
	if (kind == PLACE_UMM)
		umm_free(ctx, addr);
	else
		munmap(addr, len);
}

int place_query(const char *addr, size_t npages, int *node)
{
	void *pages[QUERY_PAGES];
	size_t n;

	for (; npages; npages -= n, addr += n * UMM_PAGE_SIZE, node += n) {
		n = npages < QUERY_PAGES ? npages : QUERY_PAGES;
		for (size_t i = 0; i < n; i++)
			pages[i] = (char *)(uintptr_t)addr + i * UMM_PAGE_SIZE;
		if (move_pages(0, n, pages, NULL, node, 0))
			return -errno;
	}
	return 0;
}
