/* SPDX-License-Identifier: MIT */
/*
 * umm_locate(): what umm_query() says, and the memory node of each page, how much of its
 * surroundings lies in one frame with it, whether it is the only copy, and why it last moved.
 *
 * The node is the kernel's answer: move_pages(2) without a list of nodes only asks. While
 * automatic balancing watches a page the kernel may deny that it is there; a page that is mapped
 * by our books is asked for once more then, after a touch has shown it again.
 *
 * Locks: the block's, for what the books say; none while the kernel is asked.
 */
#include <errno.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include "ctx.h"
#include "devmem.h"
#include "pagemap.h"
#include "pin.h"
#include "util.h"

static bool is_mapped(enum umm_page_state state)
{
	return state == UMM_PAGE_SYSTEM || state == UMM_PAGE_COHERENT ||
	       state == UMM_PAGE_DUPLICATED;
}

/* Is this the only copy? */
static bool is_dirty(enum umm_page_state state)
{
	return state == UMM_PAGE_SYSTEM || state == UMM_PAGE_COHERENT || state == UMM_PAGE_DEVICE ||
	       state == UMM_PAGE_EXCLUSIVE;
}

/* What the books of one block say; out[] has umm_query()'s answers already. */
static void locate_known(struct umm_ctx *ctx, uintptr_t start, size_t npages,
			 struct umm_page_place *out)
{
	struct block *block = block_find(ctx, start);

	for (size_t i = 0; block && i < npages; i++) {
		unsigned at = page_index(start) + (unsigned)i;
		struct resident *resident = resident_of(block, at);

		if (out[i].state == UMM_PAGE_EMPTY || out[i].state == UMM_PAGE_UNMANAGED)
			continue;
		out[i].cause = (block->history[at] & ~(HISTORY_HELD | HISTORY_REFUSED)) - 1;
		if (block->history[at] & HISTORY_HELD || page_pinned(block, at))
			out[i].flags |= UMM_PLACE_HELD;
		if (resident && resident->npages == UMM_BLOCK_PAGES && !resident->frames &&
		    resident->base % UMM_BLOCK_PAGES == 0)
			out[i].order = UMM_BLOCK_SHIFT - UMM_PAGE_SHIFT;
	}
	if (block)
		lock_drop(&block->lock);
}

/* Which nodes these pages are on, at most a block of them; a negative number where none. */
static int ask_nodes(uintptr_t start, size_t npages, int *nodes)
{
	void *pages[UMM_BLOCK_PAGES];

	for (size_t i = 0; i < npages; i++)
		pages[i] = (void *)(start + (i << UMM_PAGE_SHIFT));
	return (int)syscall(SYS_move_pages, 0, npages, pages, NULL, nodes, 0);
}

/* Read a byte in a way that does not raise a signal where the page has gone. */
static void touch(uintptr_t addr)
{
	char byte;
	struct iovec local = { &byte, 1 }, remote = { (void *)addr, 1 };

	(void)!process_vm_readv(getpid(), &local, 1, &remote, 1, 0);
}

static void locate_nodes(uintptr_t start, size_t npages, struct umm_page_place *out)
{
	int nodes[UMM_BLOCK_PAGES];

	if (ask_nodes(start, npages, nodes))
		return;
	for (size_t i = 0; i < npages; i++) {
		uintptr_t addr = start + (i << UMM_PAGE_SHIFT);

		if (!is_mapped(out[i].state))
			continue;
		if (nodes[i] == -ENOENT) {
			touch(addr);
			if (ask_nodes(addr, 1, &nodes[i]))
				continue;
		}
		if (nodes[i] >= 0)
			out[i].node = nodes[i];
	}
}

static int locate_block(struct umm_ctx *ctx, uintptr_t start, size_t npages,
			struct umm_page_place *out)
{
	struct umm_page_info info[UMM_BLOCK_PAGES];
	int ret = umm_query(ctx, start, npages, info);

	if (ret)
		return ret;
	for (size_t i = 0; i < npages; i++)
		out[i] = (struct umm_page_place){
			.mem = info[i].mem,
			.frame = info[i].frame,
			.state = info[i].state,
			.node = -1,
			.cause = -1,
			.flags = is_dirty(info[i].state) ? UMM_PLACE_DIRTY : 0,
		};
	locate_known(ctx, start, npages, out);
	locate_nodes(start, npages, out);
	return 0;
}

int umm_locate(struct umm_ctx *ctx, uintptr_t start, size_t npages, struct umm_page_place *out)
{
	size_t n;
	int ret;

	if (!ctx_valid(ctx) || !out || !npages || !is_aligned(start, UMM_PAGE_SIZE) ||
	    npages > (UINTPTR_MAX - start) >> UMM_PAGE_SHIFT)
		return -EINVAL;
	/* A touch may wait for what the callback announces. */
	if (notifier_in_callback())
		return -EDEADLK;
	for (; npages; npages -= n) {
		n = min(npages, (size_t)UMM_BLOCK_PAGES - page_index(start));
		ret = locate_block(ctx, start, n, out);
		if (ret)
			return ret;
		start += n << UMM_PAGE_SHIFT;
		out += n;
	}
	return 0;
}

static void sum_up(struct umm_range_place *sum, const struct umm_page_place *place)
{
	sum->npages++;
	sum->state[place->state]++;
	sum->huge += place->order > 0;
	sum->dirty += (place->flags & UMM_PLACE_DIRTY) != 0;
	sum->held += (place->flags & UMM_PLACE_HELD) != 0;
	if (place->cause >= 0)
		sum->cause[place->cause]++;
	if (place->node >= 0 && place->node < UMM_PLACE_NODES)
		sum->node[place->node]++;
}

/* The end of what begins at start and of which there are no books. */
static uintptr_t unknown_end(struct umm_ctx *ctx, uintptr_t start, uintptr_t end)
{
	struct umm_span piece;
	struct block *block;

	if (region_next(ctx, start, end, &piece))
		end = piece.start;
	block = start < end ? block_next(ctx, start, end) : NULL;
	if (block) {
		end = max(start, block->va);
		lock_drop(&block->lock);
	}
	return end;
}

/* Are these pages of one block managed, but nothing has ever been there? */
static bool is_untouched(struct umm_ctx *ctx, uintptr_t start, size_t npages)
{
	struct block *block = block_find(ctx, start);
	size_t len = npages << UMM_PAGE_SHIFT;
	uint64_t populated[BITMAP_WORDS];
	struct umm_span piece;

	if (block) {
		lock_drop(&block->lock);
		return false;
	}
	if (!region_next(ctx, start, start + len, &piece) || piece.len < len ||
	    pagemap_populated(start, npages, ctx->features & UMM_KERNEL_PAGEMAP_SCAN, populated))
		return false;
	return bit_next(populated, 0) >= npages;
}

static void sum_up_alike(struct umm_range_place *sum, enum umm_page_state state, size_t npages)
{
	sum->npages += npages;
	sum->state[state] += npages;
}

/* Pages of one block, managed or not. */
static int sum_up_block(struct umm_ctx *ctx, uintptr_t start, size_t npages,
			struct umm_range_place *sum)
{
	struct umm_page_place place[UMM_BLOCK_PAGES];
	int ret;

	if (is_untouched(ctx, start, npages)) {
		sum_up_alike(sum, UMM_PAGE_EMPTY, npages);
		return 0;
	}
	ret = umm_locate(ctx, start, npages, place);
	for (size_t i = 0; !ret && i < npages; i++)
		sum_up(sum, &place[i]);
	return ret;
}

/* Pages from *start on: all that nobody manages, or those of one block. */
static int sum_up_part(struct umm_ctx *ctx, uintptr_t *start, uintptr_t end,
		       struct umm_range_place *sum)
{
	uintptr_t at = *start;

	*start = unknown_end(ctx, at, end);
	if (*start > at) {
		sum_up_alike(sum, UMM_PAGE_UNMANAGED, (*start - at) >> UMM_PAGE_SHIFT);
		return 0;
	}
	*start = min(end, align_down(at, UMM_BLOCK_SIZE) + UMM_BLOCK_SIZE);
	return sum_up_block(ctx, at, (*start - at) >> UMM_PAGE_SHIFT, sum);
}

int umm_locate_range(struct umm_ctx *ctx, uintptr_t start, size_t len, struct umm_range_place *out)
{
	struct umm_range_place sum = { .size = sizeof(sum) };
	int ret = struct_check(out, sizeof(sum));
	uintptr_t end = start + len;

	if (!ret && (!ctx_valid(ctx) || !len || !is_aligned(start | len, UMM_PAGE_SIZE) ||
		     len > UINTPTR_MAX - start))
		ret = -EINVAL;
	/* A touch may wait for what the callback announces. */
	if (!ret && notifier_in_callback())
		ret = -EDEADLK;
	if (!ret)
		ctx_pass_gate(ctx);
	while (!ret && start < end)
		ret = sum_up_part(ctx, &start, end, &sum);
	return ret ? ret : struct_out(out, &sum, sizeof(sum));
}
