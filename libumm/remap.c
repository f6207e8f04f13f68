/* SPDX-License-Identifier: MIT */
/*
 * mremap(). What the books know of a page goes to its new address at once: state, frame, and for
 * a page in flight its piece, which from then on looks for it there. The old address is free for
 * whatever comes next; with MREMAP_DONTUNMAP the old mapping stays, as memory that is not managed.
 *
 *	page was	is at its new address
 *	DEVICE		DEVICE, HELD: a mirror may still write to its frame by the old address
 *	COHERENT	COHERENT, HELD
 *	EXCLUSIVE	EXCLUSIVE, HELD
 *	DUPLICATED	SYSTEM; the copies end
 *	MIGRATING	MIGRATING, of the same piece
 *	else		what it was
 *
 * Locks: the gate, exclusive; then regions.lock, or one block's after the other.
 */
#include "remap.h"

#include "ctx.h"
#include "device.h"
#include "event.h"
#include "log.h"
#include "maps.h"
#include "piece.h"
#include "uffd.h"
#include "util.h"

/* A page on its way from one address to another. */
struct lifted {
	uint16_t word;
	struct frame frame; /* that holds it */
};

/* Longer than any thread takes from letting go of its mappings to sending its message. */
#define DEPARTURE_NS UINT64_C(1000000000)
/* How long the second message of a move is waited for, where there may be none. */
#define ECHO_NS UINT64_C(10000000)

/* So many at a time. */
#define LIFT_PAGES 64

/* A mapping that moves. */
struct move {
	struct umm_ctx *ctx;
	struct change *change;
	struct lifted pages[LIFT_PAGES];
};

static uintptr_t new_address(const struct move *move, uintptr_t addr)
{
	return move->change->to + (addr - move->change->start);
}

/* Its home, or the frame that it comes from, moves with it. */
static void lift_frame(struct move *move, struct block *block, unsigned i, struct frame *frame)
{
	struct resident *resident =
		frame->mem ? resident_find(block, frame->mem) : resident_of(block, i);

	*frame = (struct frame){ resident->mem, resident_frame(resident, i) };
	devmem_hold(resident->mem);
	resident_clear(move->ctx, block, resident, i);
}

/* Take page i off its block. True: it leaves copies behind. */
static bool lift_page(struct move *move, struct block *block, unsigned i, struct lifted *page)
{
	bool copies = false;

	*page = (struct lifted){ .word = block->page[i] };
	switch (page_state(block, i)) {
	case PG_DEVICE:
	case PG_COHERENT:
	case PG_EXCLUSIVE:
		page->word = (uint16_t)page_state(block, i) | PG_HELD;
		lift_frame(move, block, i, &page->frame);
		break;
	case PG_DUPLICATED:
		page->word = PG_SYSTEM;
		copies = true;
		break;
	case PG_MIGRATING:
		/* What is read in place moves with the mapping. */
		page->word &= (uint16_t)~PG_COLLECT;
		piece_redirect(move->ctx, page_addr(block, i),
			       new_address(move, page_addr(block, i)), &page->frame);
		if (page->frame.mem)
			lift_frame(move, block, i, &page->frame);
		copies = resident_of(block, i);
		break;
	case PG_POISONED:
		page->word = PG_POISONED;
		break;
	default:
		break;
	}
	page_set(block, i, PG_UNMANAGED);
	return copies;
}

/* Pages from addr on, at most to end. How many. */
static unsigned lift_pages(struct move *move, struct block *block, uintptr_t addr, uintptr_t end)
{
	uint64_t copies[BITMAP_WORDS] = { 0 };
	unsigned first = page_index(addr), n;

	for (n = 0;
	     n < LIFT_PAGES && first + n < UMM_BLOCK_PAGES && page_addr(block, first + n) < end;
	     n++)
		if (lift_page(move, block, first + n, &move->pages[n]))
			bit_set(copies, first + n);
	change_loosen(move->ctx, move->change, block, copies);
	return n;
}

/* There is no memory to note where the page is. */
static void lose_page(struct move *move, uintptr_t to, const struct lifted *page)
{
	struct frame source;

	log_error("no memory to follow the page at %#lx, which moved: it is lost",
		  (unsigned long)to);
	if ((page->word & PG_STATE_MASK) == PG_MIGRATING)
		piece_redirect(move->ctx, to, 0, &source);
	else if (page->frame.mem)
		atomic_fetch_sub(&page->frame.mem->pages, 1);
}

static void set_page(struct move *move, struct block *block, unsigned i, const struct lifted *page)
{
	page_set(block, i, page->word & PG_STATE_MASK);
	block->page[i] = page->word & (uint16_t)~PG_HELD;
	if (page->word & PG_HELD)
		change_hold(move->change, block, i);
	if (page->word & PG_DROPPING)
		block->dropped_ns = now_ns();
	if (!page->frame.mem ||
	    !resident_set(move->ctx, block, page->frame.mem, i, page->frame.number))
		return;
	lose_page(move, page_addr(block, i), page);
	page_set(block, i, PG_POISONED);
}

static void land_page(struct move *move, uintptr_t to, const struct lifted *page)
{
	struct block *block;
	int ret;

	if ((page->word & PG_STATE_MASK) == PG_UNMANAGED)
		return;
	block = block_get(move->ctx, to, &ret);
	if (block) {
		set_page(move, block, page_index(to), page);
		block_put(move->ctx, block);
	} else {
		lose_page(move, to, page);
	}
	if (page->frame.mem)
		devmem_unuse(page->frame.mem);
}

/* Pages of the block from addr on, at most to end. Returns how far it went. */
static uintptr_t move_pages(struct move *move, struct block *block, uintptr_t addr, uintptr_t end)
{
	unsigned n = lift_pages(move, block, addr, end);
	uintptr_t va = block->va;
	bool wake = block->waiters;

	/* Who waits here looks again. */
	block->waiters = false;
	block_put(move->ctx, block);
	if (wake)
		ctx_wake_block(move->ctx, va);
	for (unsigned i = 0; i < n; i++)
		land_page(move, new_address(move, addr + ((uintptr_t)i << UMM_PAGE_SHIFT)),
			  &move->pages[i]);
	return addr + ((uintptr_t)n << UMM_PAGE_SHIFT);
}

static bool is_mapped(struct umm_ctx *ctx, uintptr_t start, uintptr_t end)
{
	struct maps_vma vma;

	return !maps_find(start, ctx->features & UMM_KERNEL_PROCMAP_QUERY, &vma) && vma.start < end;
}

/* The one that is expected of this range; NULL: none. */
static struct echo *echo_find(struct echoes *echoes, const struct uffd_msg_info *info)
{
	for (struct echo *echo = echoes->list; echo < &echoes->list[NR_ECHOES]; echo++)
		if (echo->start == info->addr && echo->end == info->end)
			return echo;
	return NULL;
}

bool remap_is_echo(struct umm_ctx *ctx, const struct uffd_msg_info *info)
{
	struct echo *echo = echo_find(&ctx->echoes, info);

	if (!echo)
		return false;
	echo->end = 0;
	return now_ns() < echo->until_ns;
}

/*
 * A second message will say that the old address was unmapped: unless it was not, which
 * (MREMAP_DONTUNMAP) is known when no message is on its way any more.
 */
static void echo_expect(struct umm_ctx *ctx, const struct uffd_msg_info *info)
{
	struct echo *echo = echo_find(&ctx->echoes, info);
	uint64_t deadline = now_ns() + ECHO_NS;

	if (!echo)
		echo = &ctx->echoes.list[ctx->echoes.next++ % NR_ECHOES];
	*echo = (struct echo){ .start = info->addr, .end = info->end };
	echo->until_ns = now_ns() + DEPARTURE_NS;
	if (!is_mapped(ctx, info->addr, info->end))
		return;
	while (echo->end && uffd_is_changing(ctx->uffd) && now_ns() < deadline)
		event_read_ahead(ctx);
	echo->end = 0;
}

/* Are there pages that the kernel tells of when they go? */
static bool any_registered(struct umm_ctx *ctx, uintptr_t start, uintptr_t end)
{
	struct block *block;
	unsigned first, last;
	uintptr_t at = start;
	bool any = false;

	while (at < end && !any && (block = block_next(ctx, at, end))) {
		at = block->va + UMM_BLOCK_SIZE;
		if (block_clip(block, start, end, &first, &last))
			for (unsigned i = first; i < last; i++)
				any |= page_state(block, i) != PG_UNMANAGED &&
				       page_state(block, i) != PG_NATIVE &&
				       page_state(block, i) != PG_MIRRORED;
		lock_drop(&block->lock);
	}
	return any;
}

/*
 * Where a mapping moved to there is no other one any more; but the message of the one that was
 * there, which another thread moved away or unmapped, may be behind this one: each thread sends its
 * message when it has let go of its mappings already.
 */
static void await_departure(struct umm_ctx *ctx, uintptr_t start, uintptr_t end)
{
	uint64_t deadline = now_ns() + DEPARTURE_NS;

	while (any_registered(ctx, start, end) && now_ns() < deadline)
		event_read_ahead(ctx);
}

void remap_apply(struct umm_ctx *ctx, const struct uffd_msg_info *info)
{
	size_t len = info->end - info->addr;
	struct change what = {
		.start = info->addr,
		.end = info->end,
		.to = info->to,
		.unmap = true,
	};
	struct move move = { .ctx = ctx };
	uintptr_t at = info->addr;
	struct umm_span used;
	struct block *block;

	await_departure(ctx, info->to, info->to + len);
	if (region_next(ctx, info->to, info->to + len, &used))
		event_clear(ctx, info->to, info->to + len, true);
	region_move(ctx, info->addr, info->to, len);
	move.change = change_begin(ctx, &what);
	while (at < info->end && (block = block_next(ctx, at, info->end)))
		at = move_pages(&move, block, max(at, block->va), info->end);
	change_announce(ctx, move.change);
	echo_expect(ctx, info);
}
