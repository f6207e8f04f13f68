/* SPDX-License-Identifier: MIT */
/*
 * Residents: which frames of a memory hold which pages of a block. As a rule a block goes out as
 * one piece to frames that follow each other, of which the first says all. Else the frames of a few
 * pages are listed in order of those pages, and those of more have a word for each page of the
 * block, so that none is looked for.
 *
 * Invariants: a resident that is in a block has pages; it is in its memory's order then.
 * Locks: that of the block, the caller's; mem->lock for the order of eviction.
 */
#include "block.h"

#include <errno.h>
#include <string.h>

#include "ctx.h"
#include "device.h"
#include "log.h"
#include "uffd.h"
#include "util.h"

struct resident *resident_find(struct block *block, const struct umm_devmem *mem)
{
	struct resident *resident = block->residents;

	while (resident && resident->mem != mem)
		resident = resident->next;
	return resident;
}

struct resident *resident_of(struct block *block, unsigned i)
{
	struct resident *resident = block->residents;

	while (resident && !bit_test(resident->bitmap, i))
		resident = resident->next;
	return resident;
}

/* Where in its table the frame of page i is, or is to be put. */
static unsigned frame_slot(const struct resident *resident, unsigned i)
{
	return resident->few ? bits_below(resident->bitmap, i) : i;
}

uint32_t resident_frame(const struct resident *resident, unsigned i)
{
	return resident->frames ? resident->frames[frame_slot(resident, i)] : resident->base + i;
}

/* Page i comes: there is room for it. */
static void frame_put(struct resident *resident, unsigned i, uint32_t frame)
{
	unsigned slot = frame_slot(resident, i);

	if (resident->few)
		memmove(&resident->frames[slot + 1], &resident->frames[slot],
			(resident->npages - slot) * sizeof(frame));
	if (resident->frames)
		resident->frames[slot] = frame;
	bit_set(resident->bitmap, i);
}

/* Page i goes. */
static void frame_remove(struct resident *resident, unsigned i)
{
	unsigned slot = frame_slot(resident, i);

	if (resident->few)
		memmove(&resident->frames[slot], &resident->frames[slot + 1],
			(resident->npages - slot - 1) * sizeof(*resident->frames));
	bit_clear(resident->bitmap, i);
}

static struct resident *resident_make(struct umm_ctx *ctx, struct block *block,
				      struct umm_devmem *mem)
{
	struct resident *resident = pool_alloc(&ctx->blocks.resident_pool);

	if (!resident)
		return NULL;
	*resident = (struct resident){
		.next = block->residents,
		.mem = mem,
		.ctx = ctx,
		.va = block->va,
	};
	block->residents = resident;
	devmem_order_insert(mem, resident);
	return resident;
}

static uint32_t *frames_alloc(struct umm_ctx *ctx, bool few)
{
	return pool_alloc(few ? &ctx->blocks.few_pool : &ctx->blocks.frames_pool);
}

static void frames_free(struct umm_ctx *ctx, uint32_t *frames, bool few)
{
	pool_free(few ? &ctx->blocks.few_pool : &ctx->blocks.frames_pool, frames);
}

/* Its frames stop being consecutive, or few: they move to a table that has room for one more. */
static int resident_explode(struct umm_ctx *ctx, struct resident *resident)
{
	bool few = resident->npages < FEW_FRAMES;
	uint32_t *frames = frames_alloc(ctx, few);
	unsigned n = 0;

	if (!frames)
		return -ENOMEM;
	for (unsigned i = bit_next(resident->bitmap, 0); i < UMM_BLOCK_PAGES;
	     i = bit_next(resident->bitmap, i + 1))
		frames[few ? n++ : i] = resident_frame(resident, i);
	frames_free(ctx, resident->frames, resident->few);
	resident->frames = frames;
	resident->few = few;
	return 0;
}

/* May this frame be page i's as its table is? */
static bool resident_has_room(const struct resident *resident, unsigned i, uint32_t frame)
{
	if (!resident->frames)
		return resident->base + i == frame;
	return !resident->few || resident->npages < FEW_FRAMES;
}

/* Out of its block and its memory's order of use. */
static void resident_unlink(struct block *block, struct resident *resident)
{
	struct resident **link = &block->residents;

	while (*link != resident)
		link = &(*link)->next;
	*link = resident->next;
	devmem_order_remove(resident->mem, resident);
}

static void resident_free(struct umm_ctx *ctx, struct resident *resident)
{
	frames_free(ctx, resident->frames, resident->few);
	pool_free(&ctx->blocks.resident_pool, resident);
}

static void resident_drop(struct umm_ctx *ctx, struct block *block, struct resident *resident)
{
	resident_unlink(block, resident);
	resident_free(ctx, resident);
}

/* Its memory's order may look at any time. */
static void resident_count(struct resident *resident, uint16_t npages)
{
	resident->npages = npages;
	atomic_store_explicit(&resident->order.npages, npages, memory_order_relaxed);
}

int resident_set(struct umm_ctx *ctx, struct block *block, struct umm_devmem *mem, unsigned i,
		 uint32_t frame)
{
	struct resident *resident = resident_find(block, mem);

	if (!resident) {
		resident = resident_make(ctx, block, mem);
		if (!resident)
			return -ENOMEM;
	}
	if (resident->npages == 0 && !resident->frames)
		resident->base = frame - i;
	if (!resident_has_room(resident, i, frame) && resident_explode(ctx, resident)) {
		if (resident->npages == 0)
			resident_drop(ctx, block, resident);
		return -ENOMEM;
	}
	UMM_ASSERT(!bit_test(resident->bitmap, i));
	frame_put(resident, i, frame);
	resident_count(resident, resident->npages + 1);
	return 0;
}

void resident_clear(struct umm_ctx *ctx, struct block *block, struct resident *resident, unsigned i)
{
	frame_remove(resident, i);
	resident_count(resident, resident->npages - 1);
	if (resident->npages == 0)
		resident_drop(ctx, block, resident);
}

bool resident_set_run(struct umm_ctx *ctx, struct block *block, struct umm_devmem *mem,
		      unsigned first, unsigned last, uint32_t frame)
{
	struct resident *resident = resident_find(block, mem);

	if (resident && (resident->frames || resident->base + first != frame))
		return false;
	if (!resident) {
		resident = resident_make(ctx, block, mem);
		if (!resident)
			return false;
		resident->base = frame - first;
	}
	bits_set(resident->bitmap, first, last);
	resident_count(resident, (uint16_t)(resident->npages + last - first));
	return true;
}

bool resident_clear_run(struct umm_ctx *ctx, struct block *block, struct resident *resident,
			unsigned first, unsigned last)
{
	if (resident->frames)
		return false;
	bits_clear(resident->bitmap, first, last);
	resident_count(resident, (uint16_t)(resident->npages - (last - first)));
	if (resident->npages == 0)
		resident_drop(ctx, block, resident);
	return true;
}

/* A resident for some of the pages of another one, in no block; NULL: no memory. */
static struct resident *resident_split(struct umm_ctx *ctx, const struct resident *resident)
{
	struct resident *part = pool_alloc(&ctx->blocks.resident_pool);

	if (!part)
		return NULL;
	*part = (struct resident){
		.mem = resident->mem,
		.ctx = resident->ctx,
		.va = resident->va,
		.base = resident->base,
		.few = resident->few,
	};
	if (!resident->frames)
		return part;
	part->frames = frames_alloc(ctx, part->few);
	if (!part->frames) {
		pool_free(&ctx->blocks.resident_pool, part);
		return NULL;
	}
	return part;
}

/* These pages, which are some or all of a resident's, stop being there; part has them now. */
static void resident_move(struct umm_ctx *ctx, struct block *block, struct resident *resident,
			  const uint64_t *pages, struct resident *part)
{
	for (unsigned i = bit_next(pages, 0); i < UMM_BLOCK_PAGES; i = bit_next(pages, i + 1)) {
		if (part) {
			frame_put(part, i, resident_frame(resident, i));
			part->npages++;
		}
		resident_clear(ctx, block, resident, i);
	}
}

static void resident_detach(struct umm_ctx *ctx, struct block *block, struct resident *resident,
			    const uint64_t *pages, struct resident **list)
{
	struct umm_devmem *mem = resident->mem;
	struct resident *part = NULL;

	devmem_hold(mem);
	if (list && bit_count(pages) == resident->npages) {
		part = resident;
		resident_unlink(block, resident);
	} else {
		devmem_trace_pages(mem, RECORD_GONE, block->va, pages);
		part = list ? resident_split(ctx, resident) : NULL;
		resident_move(ctx, block, resident, pages, part);
	}
	if (part) {
		/* They count as free: who needs frames waits for them. */
		atomic_fetch_add(&mem->returning, part->npages);
		part->next = *list;
		*list = part;
		return;
	}
	log_error("no memory to give back %u frames of %s", bit_count(pages), mem->dev->ops.name);
	devmem_unuse(mem);
}

void residents_detach(struct umm_ctx *ctx, struct block *block, const uint64_t *pages,
		      struct resident **list)
{
	struct resident *resident, *next;
	uint64_t mine[BITMAP_WORDS];

	for (resident = block->residents; resident; resident = next) {
		next = resident->next;
		for (unsigned w = 0; w < BITMAP_WORDS; w++)
			mine[w] = resident->bitmap[w] & pages[w];
		if (bit_any(mine))
			resident_detach(ctx, block, resident, mine, list);
	}
}

/* The page of a COHERENT frame may have gone with the program's mapping: its place needs one. */
static void place_refill(struct umm_ctx *ctx, const struct umm_devmem *mem, uint32_t frame)
{
	if (mem->type == UMM_DEVMEM_COHERENT && ctx->features & UMM_KERNEL_MOVE)
		uffd_zeropage(ctx->staging.uffd, devmem_host(mem, frame), UMM_PAGE_SIZE, false,
			      NULL);
}

bool resident_release(struct umm_ctx *ctx, struct resident *resident, const uint64_t *pages)
{
	struct umm_devmem *mem = resident->mem;
	uint32_t frames[UMM_BLOCK_PAGES];
	unsigned n = 0;
	bool all;

	for (unsigned i = bit_next(pages, 0); i < UMM_BLOCK_PAGES; i = bit_next(pages, i + 1)) {
		frames[n] = resident_frame(resident, i);
		place_refill(ctx, mem, frames[n++]);
	}
	all = n == resident->npages;
	for (unsigned i = bit_next(pages, 0); i < UMM_BLOCK_PAGES && !all;
	     i = bit_next(pages, i + 1)) {
		frame_remove(resident, i);
		resident->npages--;
	}
	if (all)
		resident_free(ctx, resident);
	devmem_give_list(mem, n, frames);
	atomic_fetch_sub(&mem->returning, n);
	if (all)
		devmem_unuse(mem);
	return all;
}

void residents_release(struct umm_ctx *ctx, struct resident *list)
{
	struct resident *next;

	for (; list; list = next) {
		next = list->next;
		resident_release(ctx, list, list->bitmap);
	}
}
