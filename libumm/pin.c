/* SPDX-License-Identifier: MIT */
/*
 * Pinning: make pages resident, and have migrations, eviction and exclusive access leave them
 * where they are. What holds a page is its count in the block, which collecting looks at
 * under the block's lock; so a page that is pinned is not in flight, and does not take off.
 *
 * A pin is about the mapping as it was. When the program unmaps or moves it the block forgets, and
 * the pin holds nothing there; a later mapping at the address is not pinned by it.
 * Contents that are dropped (madvise()) do not change the mapping. umm_discard() leaves what is
 * pinned; one that has looked before it was is waited for (hold.c).
 *
 * Invariants: count[i] is the number of parts in the list that have bit i. Pages that are pinned
 * are SYSTEM, EMPTY (dropped since), MIRRORED, COHERENT or DUPLICATED.
 * Locks: the block's for its parts; ctx->lock for the list of pins.
 */
#include "pin.h"

#include <errno.h>

#include "batch.h"
#include "range.h"
#include "util.h"

/* How long pages are waited for that others have. */
#define PIN_NS UINT64_C(1000000000)

static void part_unlink(struct pin_part *part)
{
	*part->link = part->next;
	if (part->next)
		part->next->link = part->link;
	part->link = NULL;
}

static void part_link(struct block_pins *pins, struct pin_part *part)
{
	part->next = pins->parts;
	part->link = &pins->parts;
	if (part->next)
		part->next->link = &part->next;
	pins->parts = part;
}

void page_forget_pins(struct block *block, unsigned i)
{
	if (!page_pinned(block, i))
		return;
	block->pins->count[i] = 0;
	for (struct pin_part *part = block->pins->parts; part; part = part->next)
		bit_clear(part->pages, i);
}

void block_forget_pins(struct umm_ctx *ctx, struct block *block)
{
	if (!block->pins)
		return;
	while (block->pins->parts)
		part_unlink(block->pins->parts);
	pool_free(&ctx->blocks.pins_pool, block->pins);
	block->pins = NULL;
}

void pins_forget(struct umm_ctx *ctx, uintptr_t start, uintptr_t end)
{
	struct block *block;
	unsigned first, last;
	uintptr_t at = start;

	while (at < end && (block = block_next(ctx, at, end))) {
		at = block->va + UMM_BLOCK_SIZE;
		if (block_clip(block, start, end, &first, &last))
			for (unsigned i = first; i < last; i++)
				page_forget_pins(block, i);
		lock_drop(&block->lock);
	}
}

/* Take a part out of its block. */
static void part_drop(struct umm_ctx *ctx, struct pin_part *part)
{
	struct block *block = block_find(ctx, part->va);

	if (!block)
		return;
	if (part->link) {
		for (unsigned i = bit_next(part->pages, 0); i < UMM_BLOCK_PAGES;
		     i = bit_next(part->pages, i + 1))
			block->pins->count[i]--;
		part_unlink(part);
		if (!block->pins->parts)
			block_forget_pins(ctx, block);
	}
	lock_drop(&block->lock);
}

static void pin_drop(struct umm_pin *pin)
{
	for (size_t k = 0; k < pin->nparts; k++)
		part_drop(pin->ctx, &pin->parts[k]);
	/* A memory that is removed may have waited for it. */
	ctx_settled(pin->ctx);
}

static void pin_free(struct umm_pin *pin)
{
	if (pin->parts != pin->own)
		arena_unmap(pin->parts, pin->nparts * sizeof(*pin->parts));
	handle_free(pin, HANDLE_PIN);
}

void pins_close(struct umm_ctx *ctx)
{
	struct umm_pin *pin;

	lock_take(&ctx->lock);
	while ((pin = ctx->pins)) {
		ctx->pins = pin->next;
		pin_drop(pin);
		pin->ctx = NULL;
	}
	lock_drop(&ctx->lock);
}

/* May the page be pinned as it is? */
static bool may_pin(const struct block *block, unsigned i, uint64_t flags)
{
	if (block->page[i] & PG_HELD)
		return false;
	switch (page_state(block, i)) {
	case PG_SYSTEM:
	case PG_MIRRORED:
		return true;
	case PG_COHERENT:
		return !(flags & UMM_PIN_LONGTERM);
	case PG_DUPLICATED:
		return !(flags & UMM_PIN_WRITE);
	default:
		return false;
	}
}

/* 0; -EAGAIN some page is not as it has to be (any more); -EBUSY it will not be; -ENOMEM. */
static int pin_locked(struct umm_ctx *ctx, struct block *block, struct pin_part *part,
		      uint64_t flags)
{
	unsigned i;

	for (i = bit_next(part->pages, 0); i < UMM_BLOCK_PAGES; i = bit_next(part->pages, i + 1))
		/* Others hold it in device memory, where it may not stay for long. */
		if (!may_pin(block, i, flags))
			return page_pinned(block, i) && page_state(block, i) == PG_COHERENT ?
				       -EBUSY :
				       -EAGAIN;
	if (!block->pins) {
		block->pins = pool_alloc(&ctx->blocks.pins_pool);
		if (!block->pins)
			return -ENOMEM;
		*block->pins = (struct block_pins){ 0 };
	}
	part_link(block->pins, part);
	for (i = bit_next(part->pages, 0); i < UMM_BLOCK_PAGES; i = bit_next(part->pages, i + 1))
		block->pins->count[i]++;
	return 0;
}

/* Bring the pages where they may be pinned, as far as it goes. 0 or -errno. */
static int prepare(struct umm_ctx *ctx, const struct umm_span *span, uint64_t flags,
		   uint64_t deadline)
{
	struct batch_want home = { .cause = UMM_CAUSE_EXPLICIT };
	long ret = 0;

	if (flags & UMM_PIN_LONGTERM)
		ret = batch_move(ctx, span, 1, &home);
	if (ret < 0)
		return ret == -EIO ? -EFAULT : (int)ret;
	return range_populate(ctx, span, flags & UMM_PIN_WRITE, deadline);
}

/* Pin the pages of the span, which are those of one block's part. */
static int pin_part(struct umm_ctx *ctx, struct pin_part *part, const struct umm_span *span,
		    uint64_t flags)
{
	uint64_t deadline = now_ns() + PIN_NS;
	struct block *block;
	uint32_t seen;
	int ret;

	for (;;) {
		seen = ctx_settle_count(ctx);
		ret = prepare(ctx, span, flags, deadline);
		if (ret)
			return ret;
		block = block_find(ctx, part->va);
		ret = block ? pin_locked(ctx, block, part, flags) : -EFAULT;
		if (block)
			lock_drop(&block->lock);
		/* Where a discard was in the middle they are pinned, but empty. */
		if (!ret && region_await(ctx, span))
			return range_populate(ctx, span, flags & UMM_PIN_WRITE, deadline);
		if (ret != -EAGAIN)
			return ret;
		if (now_ns() >= deadline)
			return -EBUSY;
		/* Somebody was faster. */
		ctx_settle_wait(ctx, seen, min(deadline, now_ns() + UINT64_C(10000000)));
	}
}

static int pin_all(struct umm_pin *pin, uintptr_t start, uintptr_t end, uint64_t flags)
{
	struct umm_span span = { .start = start };
	struct pin_part *part = pin->parts;
	int ret = 0;

	for (; span.start < end && !ret; span.start += span.len, part++) {
		part->va = align_down(span.start, UMM_BLOCK_SIZE);
		span.len = min(part->va + UMM_BLOCK_SIZE, end) - span.start;
		for (uintptr_t at = span.start; at < span.start + span.len; at += UMM_PAGE_SIZE)
			bit_set(part->pages, page_index(at));
		ret = pin_part(pin->ctx, part, &span, flags);
	}
	return ret;
}

static struct umm_pin *pin_new(struct umm_ctx *ctx, uintptr_t start, uintptr_t end)
{
	struct umm_pin *pin = handle_new(HANDLE_PIN);

	if (!pin)
		return NULL;
	pin->ctx = ctx;
	pin->nparts = (align_up(end, UMM_BLOCK_SIZE) - align_down(start, UMM_BLOCK_SIZE)) >>
		      UMM_BLOCK_SHIFT;
	pin->parts = pin->own;
	if (pin->nparts > ARRAY_SIZE(pin->own))
		pin->parts = arena_map(pin->nparts * sizeof(*pin->parts));
	if (pin->parts)
		return pin;
	handle_free(pin, HANDLE_PIN);
	return NULL;
}

static void pin_publish(struct umm_pin *pin)
{
	handle_publish(pin, HANDLE_PIN);
	lock_take(&pin->ctx->lock);
	pin->next = pin->ctx->pins;
	pin->link = &pin->ctx->pins;
	if (pin->next)
		pin->next->link = &pin->next;
	pin->ctx->pins = pin;
	lock_drop(&pin->ctx->lock);
}

static void pin_unlist(struct umm_pin *pin)
{
	lock_take(&pin->ctx->lock);
	*pin->link = pin->next;
	if (pin->next)
		pin->next->link = pin->link;
	lock_drop(&pin->ctx->lock);
}

int umm_pin(struct umm_ctx *ctx, uintptr_t start, size_t npages, uint64_t flags,
	    struct umm_pin **out)
{
	size_t most = ((uintptr_t)1 << 47) >> UMM_PAGE_SHIFT;
	struct umm_pin *pin;
	uintptr_t end;
	int ret;

	if (!ctx_valid(ctx) || !npages || !out || !is_aligned(start, UMM_PAGE_SIZE) ||
	    npages > most || start >> UMM_PAGE_SHIFT > most - npages)
		return -EINVAL;
	if (flags & ~(uint64_t)(UMM_PIN_WRITE | UMM_PIN_LONGTERM))
		return -EINVAL;
	if (ctx_is_forked(ctx))
		return -ENODEV;
	if (notifier_in_callback())
		return -EDEADLK;
	end = start + (npages << UMM_PAGE_SHIFT);
	pin = pin_new(ctx, start, end);
	if (!pin)
		return -ENOMEM;
	ctx_pass_gate(ctx);
	ret = ctx_attach_asked(ctx, start, end);
	if (!ret)
		ret = pin_all(pin, start, end, flags);
	if (ret) {
		pin_drop(pin);
		pin_free(pin);
		return ret;
	}
	pin_publish(pin);
	*out = pin;
	return 0;
}

void umm_unpin(struct umm_pin *pin)
{
	if (!handle_close(pin, HANDLE_PIN))
		return;
	/* A forked child has the handle, and its parent the pages. */
	if (pin->ctx && !ctx_is_forked(pin->ctx)) {
		pin_unlist(pin);
		pin_drop(pin);
	}
	pin_free(pin);
}
