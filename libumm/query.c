/* SPDX-License-Identifier: MIT */
/*
 * umm_query(): where pages are, block by block; the kernel tells of what no device ever saw, and of
 * system pages that the program has told it to drop.
 */
#include <errno.h>
#include <string.h>

#include "ctx.h"
#include "devmem.h"
#include "pagemap.h"
#include "util.h"

static void query_known(struct block *block, unsigned i, struct umm_page_info *out)
{
	static const enum umm_page_state states[] = {
		[PG_UNMANAGED] = UMM_PAGE_UNMANAGED,   [PG_NATIVE] = UMM_PAGE_EMPTY,
		[PG_EMPTY] = UMM_PAGE_EMPTY,	       [PG_SYSTEM] = UMM_PAGE_SYSTEM,
		[PG_DEVICE] = UMM_PAGE_DEVICE,	       [PG_COHERENT] = UMM_PAGE_COHERENT,
		[PG_DUPLICATED] = UMM_PAGE_DUPLICATED, [PG_MIGRATING] = UMM_PAGE_MIGRATING,
		[PG_POISONED] = UMM_PAGE_POISONED,     [PG_MIRRORED] = UMM_PAGE_MIRRORED,
		[PG_EXCLUSIVE] = UMM_PAGE_EXCLUSIVE,
	};
	enum page_state state = page_state(block, i);
	struct resident *resident;

	*out = (struct umm_page_info){ .state = states[state] };
	if (state != PG_DEVICE && state != PG_COHERENT && state != PG_DUPLICATED)
		return;
	resident = resident_of(block, i);
	out->mem = resident->mem;
	out->frame = state == PG_DUPLICATED ? 0 : resident_frame(resident, i);
}

/* Is it the kernel's to say whether anything is there? */
static bool kernel_knows(const struct block *block, unsigned i)
{
	return page_state(block, i) == PG_NATIVE ||
	       (page_state(block, i) == PG_SYSTEM && block->page[i] & PG_DROPPING);
}

/* Pages that the kernel alone knows: not in a block, or NATIVE or just being dropped there. */
static int query_kernel(struct umm_ctx *ctx, uintptr_t start, size_t npages,
			struct umm_page_info *out)
{
	uintptr_t end = start + (npages << UMM_PAGE_SHIFT), addr = start;
	uint64_t populated[BITMAP_WORDS];
	struct umm_span piece = { .start = start };
	int ret;

	ret = pagemap_populated(start, npages, ctx->features & UMM_KERNEL_PAGEMAP_SCAN, populated);
	if (ret)
		return ret;
	for (size_t i = 0; i < npages; i++, addr += UMM_PAGE_SIZE) {
		/* The region that this page is in, or else the next. */
		if (addr >= piece.start + piece.len && !region_next(ctx, addr, end, &piece))
			piece = (struct umm_span){ end, UMM_PAGE_SIZE };
		out[i] = (struct umm_page_info){ .state = UMM_PAGE_UNMANAGED };
		if (addr >= piece.start)
			out[i].state =
				bit_test(populated, (unsigned)i) ? UMM_PAGE_SYSTEM : UMM_PAGE_EMPTY;
	}
	return 0;
}

static int query_block(struct umm_ctx *ctx, uintptr_t start, size_t npages,
		       struct umm_page_info *out)
{
	struct block *block = block_find(ctx, start);
	uint64_t asked[BITMAP_WORDS] = { 0 };
	unsigned first, last;
	int ret;

	if (!block)
		return query_kernel(ctx, start, npages, out);
	for (unsigned i = 0; i < npages; i++) {
		if (kernel_knows(block, page_index(start) + i))
			bit_set(asked, i);
		query_known(block, page_index(start) + i, &out[i]);
	}
	lock_drop(&block->lock);
	for_each_run(asked, first, last)
	{
		ret = query_kernel(ctx, start + ((uintptr_t)first << UMM_PAGE_SHIFT), last - first,
				   &out[first]);
		if (ret)
			return ret;
	}
	return 0;
}

int umm_query(struct umm_ctx *ctx, uintptr_t start, size_t npages, struct umm_page_info *out)
{
	size_t n;
	int ret;

	if (!ctx_valid(ctx) || !out || !npages || !is_aligned(start, UMM_PAGE_SIZE) ||
	    npages > (UINTPTR_MAX - start) >> UMM_PAGE_SHIFT)
		return -EINVAL;
	ctx_pass_gate(ctx);
	for (; npages; npages -= n) {
		n = min(npages, (size_t)UMM_BLOCK_PAGES - page_index(start));
		ret = query_block(ctx, start, n, out);
		if (ret)
			return ret;
		start += n << UMM_PAGE_SHIFT;
		out += n;
	}
	return 0;
}
