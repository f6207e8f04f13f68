/* SPDX-License-Identifier: MIT */
/*
 * Address-space events. The kernel tells of munmap, mremap and madvise on registered
 * memory, and holds the caller until the message is read; after that the
 * program goes on at once. So the states of pages change before the gate opens,
 * by the reader; what may take time (mirrors, frames) is left to the workers, with
 * the pages concerned in state REAPING until it is done: a CPU that touches one waits.
 *
 *	event	page was			page becomes	worker
 *	REMOVE	SYSTEM				SYSTEM		notify
 *		EMPTY, POISONED			EMPTY		notify
 *		MIGRATING			+ DISCARD	(its piece drops it)
 *		DEVICE, EXCLUSIVE		REAPING		notify, free frames, EMPTY
 *		COHERENT, DUPLICATED		REAPING		the same, SYSTEM
 *	UNMAP	the same, with GONE and UNMANAGED
 *	REMAP	EMPTY, SYSTEM			same, at the new address
 *		others				+ GONE; ARRIVING at the new address
 *								wait, carry frames over
 *
 * Invariants: the reader never waits for anything but the block locks, whose holders
 * do not wait for events. A REAPING page leaves that state by the worker that was queued for it.
 * Locks: gate, exclusive, around read and apply; then regions.lock or a block's.
 */
#include "event.h"

#include <errno.h>
#include <sched.h>
#include <string.h>
#include <sys/mman.h>

#include "ctx.h"
#include "device.h"
#include "hook.h"
#include "log.h"
#include "pin.h"
#include "signals.h"
#include "uapi.h"
#include "uffd.h"
#include "util.h"

/* How long a worker waits for a page in flight before it looks again. */
#define SETTLE_NS UINT64_C(100000000)

/* How long after a REMAP the UNMAP of its old range is looked for. */
#define REMAP_NS UINT64_C(1000000000)

/* Does the message lie in what is expected, and was nothing of it met before? Meets it. */
static bool expect_meet(struct expect *expect, const struct uffd_msg_info *info)
{
	unsigned first, last;

	if (info->addr < expect->start || info->end > expect->end)
		return false;
	first = (unsigned)((info->addr - expect->start) >> UMM_PAGE_SHIFT);
	last = (unsigned)((info->end - expect->start) >> UMM_PAGE_SHIFT);
	if (bit_next(expect->met, first) < last)
		return false;
	for (unsigned i = first; i < last; i++)
		bit_set(expect->met, i);
	return true;
}

/*
 * Is this the message of what the core itself is doing? The kernel sends one per mapping, and
 * the program may split and join mappings meanwhile: so pages are matched, each once.
 */
static bool expected(struct umm_ctx *ctx, const struct uffd_msg_info *info)
{
	struct expect *expect;

	lock_take(&ctx->expect_lock);
	for (expect = ctx->expected; expect; expect = expect->next)
		if (expect_meet(expect, info))
			break;
	lock_drop(&ctx->expect_lock);
	return expect;
}

void event_expect(struct umm_ctx *ctx, struct expect *expect, uintptr_t start, uintptr_t end)
{
	*expect = (struct expect){ .start = start, .end = end };
	lock_take(&ctx->expect_lock);
	expect->next = ctx->expected;
	ctx->expected = expect;
	lock_drop(&ctx->expect_lock);
}

void event_expect_end(struct umm_ctx *ctx, struct expect *expect)
{
	struct expect **link;

	/* The message has been read, but perhaps not looked at: its reader has the gate. */
	ctx_pass_gate(ctx);
	lock_take(&ctx->expect_lock);
	for (link = &ctx->expected; *link != expect; link = &(*link)->next)
		;
	*link = expect->next;
	lock_drop(&ctx->expect_lock);
}

int event_drop(struct umm_ctx *ctx, uintptr_t start, uintptr_t end)
{
	struct expect expect;
	int ret;

	event_expect(ctx, &expect, start, end);
	/* The one that also takes locked pages first: the other may do half, and say EINVAL. */
	ret = madvise((void *)start, end - start, MADV_DONTNEED_LOCKED);
	if (ret && errno == EINVAL)
		ret = madvise((void *)start, end - start, MADV_DONTNEED);
	ret = ret ? -errno : 0;
	event_expect_end(ctx, &expect);
	return ret;
}

/* mremap() took it away; a worker is about to carry it to its new address. */
static bool being_carried(const struct block *block, unsigned i)
{
	enum page_state state = page_state(block, i);

	return block->page[i] & PG_GONE && (state == PG_DEVICE || state == PG_COHERENT ||
					    state == PG_DUPLICATED || state == PG_EXCLUSIVE);
}

/* A page that was dropped before, and by now is something else: that is dropped. */
static void clear_next(uint16_t *page, bool unmap)
{
	bool next = *page & (PG_NEXT_ARRIVING | PG_NEXT_SYSTEM);

	*page &= (uint16_t) ~(PG_NEXT_ARRIVING | PG_NEXT_SYSTEM);
	if (unmap)
		*page |= PG_GONE;
	else if (next)
		*page |= PG_NEXT_SYSTEM;
}

/* Returns true when a worker has to follow. */
static bool clear_page(struct block *block, unsigned i, bool unmap)
{
	/* The kernel also tells that the old address of a moved range is unmapped. */
	if (being_carried(block, i))
		return false;
	if (unmap)
		page_forget_pins(block, i);
	switch (page_state(block, i)) {
	case PG_MIGRATING:
	case PG_ARRIVING:
		block->page[i] &= (uint16_t)~PG_REFILLED;
		block->page[i] |= unmap ? PG_GONE : PG_DISCARD;
		return false;
	case PG_DUPLICATED:
		page_set(block, i, PG_REAPING);
		block->page[i] |= PG_MAPPED | PG_COPIES | (unmap ? PG_GONE : 0);
		return true;
	case PG_COHERENT:
		page_set(block, i, PG_REAPING);
		block->page[i] |= PG_MAPPED | (unmap ? PG_GONE : 0);
		return true;
	case PG_DEVICE:
	case PG_EXCLUSIVE:
		page_set(block, i, PG_REAPING);
		block->page[i] |= unmap ? PG_GONE : 0;
		return true;
	case PG_REAPING:
		clear_next(&block->page[i], unmap);
		return true;
	case PG_UNMANAGED:
		return false;
	case PG_NATIVE:
	case PG_MIRRORED:
	case PG_SYSTEM:
		/* MADV_FREE drops nothing at once: only the kernel knows what is there. */
		if (unmap)
			page_set(block, i, PG_UNMANAGED);
		return false;
	default:
		page_set(block, i, unmap ? PG_UNMANAGED : PG_EMPTY);
		return false;
	}
}

static bool clear_blocks(struct umm_ctx *ctx, uintptr_t start, uintptr_t end, bool unmap)
{
	struct block *block;
	unsigned first, last;
	uintptr_t at = start, va;
	bool follow = false, wake;

	while (at < end && (block = block_next(ctx, at, end))) {
		va = block->va;
		at = va + UMM_BLOCK_SIZE;
		if (block_clip(block, start, end, &first, &last))
			for (unsigned i = first; i < last; i++)
				follow |= clear_page(block, i, unmap);
		/* The kernel does not wake who waits for a page that is unmapped. */
		wake = unmap && block->waiters;
		if (wake)
			block->waiters = false;
		block_put(ctx, block);
		if (wake)
			ctx_wake_block(ctx, va);
	}
	return follow;
}

/*
 * Coherent frames are pages of the program's mapping. Where that is still ours (mapped)
 * they are moved back to their place. After an event of the program's the
 * address may be somebody else's already: there the place gets a fresh page.
 */
static void recover_places(struct umm_ctx *ctx, struct block *block, const uint64_t *pages,
			   bool mapped)
{
	struct resident *resident;
	uintptr_t place;

	if (!(ctx->features & UMM_KERNEL_MOVE))
		return;
	for (unsigned i = bit_next(pages, 0); i < UMM_BLOCK_PAGES; i = bit_next(pages, i + 1)) {
		resident = resident_of(block, i);
		/* Of a duplicated page the copy is in its place. */
		if (!resident || resident->mem->type != UMM_DEVMEM_COHERENT ||
		    block->page[i] & PG_COPIES)
			continue;
		place = devmem_host(resident->mem, resident_frame(resident, i));
		if (!mapped || uffd_move(ctx->staging.uffd, place, page_addr(block, i),
					 UMM_PAGE_SIZE, false, NULL))
			uffd_zeropage(ctx->staging.uffd, place, UMM_PAGE_SIZE, false, NULL);
	}
}

static bool being_reaped(const struct block *block, unsigned i)
{
	return page_state(block, i) == PG_REAPING && block->page[i] & PG_CLAIMED;
}

/* Choose the pages that this reaper takes care of. */
static void reap_claim(struct block *block, unsigned first, unsigned last, uint64_t *pages)
{
	struct resident *resident;

	for (unsigned i = first; i < last; i++) {
		if (page_state(block, i) != PG_REAPING || being_reaped(block, i))
			continue;
		bit_set(pages, i);
		block->page[i] |= PG_CLAIMED;
		resident = resident_of(block, i);
		if (resident && !(block->page[i] & PG_COPIES))
			atomic_fetch_sub(&resident->mem->pages, 1);
	}
}

/* Give the frames of REAPING pages back and settle the pages. */
static void reap_block(struct umm_ctx *ctx, uintptr_t va, const struct umm_span *span, bool mapped)
{
	uint64_t pages[BITMAP_WORDS] = { 0 };
	struct block *block = block_find(ctx, va);
	unsigned first, last;
	bool wake;

	if (!block)
		return;
	if (!block_clip(block, span->start, span->start + span->len, &first, &last))
		first = last = 0;
	reap_claim(block, first, last, pages);
	recover_places(ctx, block, pages, mapped);
	lock_drop(&block->lock);

	blocks_drop_copies(ctx, va, pages);

	block = block_find(ctx, va);
	if (!block)
		return;
	for (unsigned i = first; i < last; i++)
		if (bit_test(pages, i) && being_reaped(block, i))
			page_set(block, i, page_settles(block, i));
	wake = block->waiters;
	block->waiters = false;
	block_put(ctx, block);
	ctx_settled(ctx);
	if (wake)
		ctx_wake_block(ctx, va);
}

static void notify_clear(struct umm_ctx *ctx, uintptr_t start, uintptr_t end, bool unmap)
{
	struct umm_notifier_range range = {
		.start = start,
		.end = end,
		.event = unmap ? UMM_EVENT_UNMAP : UMM_EVENT_CLEAR,
		.blockable = true,
	};

	notifier_invalidate(ctx, &range);
}

/*
 * The program goes on as soon as its event is read, the workers tell mirrors later. Until then
 * umm_notifier_read_begin() waits: so a device that begins after the call does not miss it.
 */
static void announce_later(struct umm_ctx *ctx, struct work *work)
{
	work->active = notifier_begin(ctx, work->addr, work->end);
	if (!workers_queue(&ctx->workers, work))
		return;
	log_error("no memory to release device pages at %#lx", (unsigned long)work->addr);
	notifier_end(ctx, work->active);
}

/* mapped: the program's mapping is still there, and will be until this returns. */
static void reap(struct umm_ctx *ctx, uintptr_t start, uintptr_t end, bool unmap, bool mapped)
{
	struct umm_span span = { .start = start, .len = end - start };
	struct block *block;
	uintptr_t at = start, va;

	notify_clear(ctx, start, end, unmap);
	while (at < end && (block = block_next(ctx, at, end))) {
		va = block->va;
		lock_drop(&block->lock);
		signals_hold();
		reap_block(ctx, va, &span, mapped);
		signals_let();
		at = va + UMM_BLOCK_SIZE;
	}
}

static void reap_work(struct umm_ctx *ctx, const struct work *work)
{
	reap(ctx, work->addr, work->end, work->unmap, false);
	notifier_end(ctx, work->active);
}

static void apply_clear(struct umm_ctx *ctx, const struct uffd_msg_info *info, bool unmap)
{
	struct work work = {
		.fn = reap_work,
		.addr = info->addr,
		.end = info->end,
		.unmap = unmap,
	};
	bool follow;

	if (unmap)
		region_del(ctx, info->addr, info->end);
	follow = clear_blocks(ctx, info->addr, info->end, unmap);
	if (!follow && !atomic_load(&ctx->notifiers.count))
		return;
	announce_later(ctx, &work);
}

/* The page's state at its new address, as far as it is known at once. */
static enum page_state remapped_state(enum page_state state)
{
	switch (state) {
	case PG_UNMANAGED:
	case PG_NATIVE:
	case PG_MIRRORED:
	case PG_EMPTY:
	case PG_SYSTEM:
	case PG_POISONED:
		return state;
	default:
		return PG_ARRIVING;
	}
}

/* Take the state from the old address. NATIVE where no block knows it. */
static enum page_state remap_from(struct umm_ctx *ctx, uintptr_t addr)
{
	struct block *block = block_find(ctx, addr);
	enum page_state state = PG_NATIVE;
	unsigned i = page_index(addr);

	if (!block)
		return state;
	state = page_state(block, i);
	if (remapped_state(state) == PG_ARRIVING)
		/* What is in flight to the old address arrives there first (carry_from()). */
		block->page[i] |= state == PG_MIGRATING || state == PG_ARRIVING ? 0 : PG_GONE;
	else
		page_set(block, i, PG_UNMANAGED);
	block_put(ctx, block);
	return state;
}

static void remap_to(struct umm_ctx *ctx, uintptr_t addr, enum page_state state)
{
	unsigned i = page_index(addr);
	struct block *block;
	int ret;

	block = block_get(ctx, addr, &ret);
	if (!block)
		return;
	if (page_state(block, i) != PG_REAPING)
		page_set(block, i, state);
	else if (state != PG_UNMANAGED)
		block->page[i] |= state == PG_ARRIVING ? PG_NEXT_ARRIVING : PG_NEXT_SYSTEM;
	block_put(ctx, block);
}

struct carried {
	enum page_state state;
	struct umm_devmem *mem;
	uint32_t frame;
};

/*
 * Wait until the page is settled at its old address, and take it from there. A page that
 * a piece has meanwhile put into the old mapping (MREMAP_DONTUNMAP) is SYSTEM.
 */
static void carry_from(struct umm_ctx *ctx, uintptr_t addr, struct carried *page)
{
	unsigned i = page_index(addr);
	struct resident *resident;
	struct block *block;
	uint32_t seen;

	while ((block = block_find(ctx, addr)) &&
	       (page_state(block, i) == PG_MIGRATING || page_state(block, i) == PG_ARRIVING)) {
		seen = ctx_settle_count(ctx);
		lock_drop(&block->lock);
		ctx_settle_wait(ctx, seen, now_ns() + SETTLE_NS);
	}
	*page = (struct carried){ .state = PG_EMPTY };
	if (!block)
		return;
	if (page_state(block, i) == PG_REAPING) {
		/* Dropped before it was moved: it ends UNMANAGED here and EMPTY there. */
		block->page[i] |= PG_GONE;
		lock_drop(&block->lock);
		return;
	}
	page->state = page_state(block, i);
	resident = resident_of(block, i);
	if (resident) {
		page->mem = resident->mem;
		page->frame = resident_frame(resident, i);
		devmem_hold(page->mem);
		resident_clear(ctx, block, resident, i);
	}
	page_set(block, i, PG_UNMANAGED);
	block_put(ctx, block);
}

/*
 * The host page of a page that did not move with its mapping: a piece put it into the old one
 * (MREMAP_DONTUNMAP), or could not install it there. Of others there is none, or it is
 * at the new address already: those moves fail, which does no harm. -EAGAIN: read events first.
 */
static int carry_host_page(struct umm_ctx *ctx, uintptr_t from, uintptr_t to,
			   const struct carried *page)
{
	uintptr_t source = from;

	if (page->state == PG_COHERENT)
		source = devmem_host(page->mem, page->frame);
	else if (page->state != PG_SYSTEM)
		return 0;
	return uffd_move(ctx->uffd, to, source, UMM_PAGE_SIZE, false, NULL);
}

enum arrival {
	ARRIVED,
	ARRIVED_TOO_LATE, /* it was dropped at the new address meanwhile */
	ARRIVES_AGAIN,	  /* an event has to be read first */
};

/* Settle an ARRIVING page. The gate is held: what happened to it is in its flags. */
static enum arrival arrive_locked(struct umm_ctx *ctx, struct block *block, uintptr_t from,
				  uintptr_t to, const struct carried *page)
{
	unsigned i = page_index(to);

	if (page_state(block, i) != PG_ARRIVING)
		return ARRIVED_TOO_LATE;
	if (block->page[i] & (PG_GONE | PG_DISCARD)) {
		page_set(block, i, block->page[i] & PG_GONE ? PG_UNMANAGED : PG_SYSTEM);
		return ARRIVED_TOO_LATE;
	}
	if (carry_host_page(ctx, from, to, page) == -EAGAIN)
		return ARRIVES_AGAIN;
	if (page->mem && resident_set(ctx, block, page->mem, i, page->frame)) {
		page_set(block, i, PG_POISONED);
		return ARRIVED_TOO_LATE;
	}
	page_set(block, i, page->state);
	return ARRIVED;
}

static enum arrival carry_to(struct umm_ctx *ctx, uintptr_t from, uintptr_t to,
			     const struct carried *page)
{
	enum arrival arrival = ARRIVED_TOO_LATE;
	struct block *block;

	rwlock_take_shared(&ctx->gate);
	block = block_find(ctx, to);
	if (block) {
		arrival = arrive_locked(ctx, block, from, to, page);
		block_put(ctx, block);
	}
	rwlock_drop_shared(&ctx->gate);
	return arrival;
}

/* Give back the frame of a page that arrived nowhere. */
static void drop_carried(struct umm_ctx *ctx, const struct carried *page)
{
	atomic_fetch_sub(&page->mem->pages, page->state != PG_DUPLICATED);
	/* Its page went with the mapping, and was dropped there: the frame needs one. */
	if (page->state == PG_COHERENT && ctx->features & UMM_KERNEL_MOVE)
		uffd_zeropage(ctx->staging.uffd, devmem_host(page->mem, page->frame), UMM_PAGE_SIZE,
			      false, NULL);
	devmem_give(page->mem, page->frame, 1);
}

/* Is the page expected at its new address? Waits for the end of what was there before. */
static bool is_arriving(struct umm_ctx *ctx, uintptr_t addr)
{
	unsigned i = page_index(addr);
	struct block *block;
	bool arriving;
	uint32_t seen;

	while ((block = block_find(ctx, addr)) && page_state(block, i) == PG_REAPING &&
	       block->page[i] & PG_NEXT_ARRIVING) {
		seen = ctx_settle_count(ctx);
		lock_drop(&block->lock);
		ctx_settle_wait(ctx, seen, now_ns() + SETTLE_NS);
	}
	arriving = block && page_state(block, i) == PG_ARRIVING;
	if (block)
		lock_drop(&block->lock);
	return arriving;
}

/* A page that mremap() took away is still at its old address, though nobody expects it. */
static bool source_waits(struct umm_ctx *ctx, uintptr_t addr)
{
	struct block *block = block_find(ctx, addr);
	bool waits = block && being_carried(block, page_index(addr));

	if (block)
		lock_drop(&block->lock);
	return waits;
}

static void carry(struct umm_ctx *ctx, uintptr_t from, uintptr_t to)
{
	bool arriving = is_arriving(ctx, to);
	enum arrival arrival;
	struct carried page;

	if (!arriving && !source_waits(ctx, from))
		return;
	carry_from(ctx, from, &page);
	if (page.state == PG_UNMANAGED)
		page.state = PG_EMPTY;
	while ((arrival = carry_to(ctx, from, to, &page)) == ARRIVES_AGAIN)
		event_pump(ctx);
	if (!page.mem)
		return;
	if (arrival == ARRIVED_TOO_LATE)
		drop_carried(ctx, &page);
	devmem_unuse(page.mem);
}

static void remap_work(struct umm_ctx *ctx, const struct work *work)
{
	size_t len = work->end - work->addr;

	notify_clear(ctx, work->addr, work->end, true);
	notifier_end(ctx, work->active);
	for (size_t at = 0; at < len; at += UMM_PAGE_SIZE)
		carry(ctx, work->addr + at, work->to + at);
	ctx_settled(ctx);
	for (uintptr_t va = align_down(work->addr, UMM_BLOCK_SIZE); va < work->end;
	     va += UMM_BLOCK_SIZE)
		ctx_wake_block(ctx, va);
	for (uintptr_t va = align_down(work->to, UMM_BLOCK_SIZE); va < work->to + len;
	     va += UMM_BLOCK_SIZE)
		ctx_wake_block(ctx, va);
}

/*
 * After a REMAP the kernel also tells that the old range is unmapped, unless it stayed
 * (MREMAP_DONTUNMAP). What is in flight there must not be taken for gone: remember the range.
 */
static void remap_remember(struct umm_ctx *ctx, const struct uffd_msg_info *info)
{
	struct remapped *slot = &ctx->remapped[ctx->nremapped++ % MAX_REMAPPED];

	*slot = (struct remapped){ info->addr, info->end, info->to, now_ns() + REMAP_NS };
}

static bool remap_unmapped(struct umm_ctx *ctx, const struct uffd_msg_info *info)
{
	for (unsigned i = 0; i < MAX_REMAPPED; i++) {
		struct remapped *slot = &ctx->remapped[i];

		if (slot->start == info->addr && slot->end == info->end &&
		    now_ns() < slot->until_ns) {
			slot->until_ns = 0;
			return true;
		}
	}
	return false;
}

uintptr_t event_moved_to(const struct umm_ctx *ctx, uintptr_t addr)
{
	unsigned newest = ctx->nremapped,
		 oldest = newest > MAX_REMAPPED ? newest - MAX_REMAPPED : 0;
	const struct remapped *move;
	unsigned n = newest;

	/* The last move from here, and then those that came after it. */
	while (n-- > oldest) {
		move = &ctx->remapped[n % MAX_REMAPPED];
		if (addr >= move->start && addr < move->end)
			break;
	}
	if (n + 1 == oldest)
		return 0;
	for (; n < newest; n++) {
		move = &ctx->remapped[n % MAX_REMAPPED];
		if (addr >= move->start && addr < move->end)
			addr = move->to + (addr - move->start);
	}
	return addr;
}

static void apply_remap(struct umm_ctx *ctx, const struct uffd_msg_info *info)
{
	struct work work = {
		.fn = remap_work,
		.addr = info->addr,
		.end = info->end,
		.to = info->to,
	};
	size_t len = info->end - info->addr;
	enum page_state state;
	bool follow = atomic_load(&ctx->notifiers.count);

	remap_remember(ctx, info);
	clear_blocks(ctx, info->to, info->to + len, true);
	region_move(ctx, info->addr, info->to, len, false);
	for (size_t at = 0; at < len; at += UMM_PAGE_SIZE) {
		state = remapped_state(remap_from(ctx, info->addr + at));
		follow |= state == PG_ARRIVING;
		remap_to(ctx, info->to + at, state);
	}
	if (follow)
		announce_later(ctx, &work);
}

static void event_apply(struct umm_ctx *ctx, const struct uffd_msg_info *info)
{
	stats_add(&ctx->stats, UMM_COUNT_EVENTS, 1);
	switch (info->kind) {
	case UFFD_UNMAP:
		if (!expected(ctx, info) && !remap_unmapped(ctx, info))
			apply_clear(ctx, info, true);
		break;
	case UFFD_REMOVE:
		if (!expected(ctx, info))
			apply_clear(ctx, info, false);
		break;
	case UFFD_REMAP:
		apply_remap(ctx, info);
		break;
	default:
		log_warning("unknown userfaultfd message");
		break;
	}
	hook_run(HOOK_EVENT, info->addr);
}

void event_read_watch(struct umm_ctx *ctx)
{
	struct uffd_msg_info info;
	bool again;

	do {
		rwlock_take(&ctx->gate);
		again = uffd_read(ctx->watch, &info) == 1;
		if (again)
			event_apply(ctx, &info);
		rwlock_drop(&ctx->gate);
	} while (again);
}

int event_read(struct umm_ctx *ctx, struct uffd_msg_info *info, bool *again)
{
	int ret;

	rwlock_take(&ctx->gate);
	ret = uffd_read(ctx->uffd, info);
	*again = ret > 0 && info->kind != UFFD_FAULT;
	if (*again)
		event_apply(ctx, info);
	rwlock_drop(&ctx->gate);
	return *again ? 0 : ret;
}

void event_pump(struct umm_ctx *ctx)
{
	struct uffd_msg_info info;
	bool again;

	if (event_read(ctx, &info, &again) == 1)
		fault_defer(ctx, &info);
	else if (!again)
		sched_yield();
}

static bool in_flight(const struct block *block, unsigned i)
{
	return page_state(block, i) == PG_MIGRATING || page_state(block, i) == PG_ARRIVING ||
	       being_reaped(block, i) || being_carried(block, i);
}

/*
 * Settle what can be settled at once. Returns true when something is in flight still;
 * *marked: some pages are left for reap().
 */
static bool clear_try(struct umm_ctx *ctx, uintptr_t start, uintptr_t end, bool unmap, bool *marked)
{
	struct block *block;
	unsigned first, last;
	uintptr_t at = start;
	bool busy = false;

	*marked = false;
	while (at < end && (block = block_next(ctx, at, end))) {
		at = block->va + UMM_BLOCK_SIZE;
		if (!block_clip(block, start, end, &first, &last))
			first = last = 0;
		for (unsigned i = first; i < last; i++) {
			if (in_flight(block, i))
				busy = true;
			else
				*marked |= clear_page(block, i, unmap);
		}
		block_put(ctx, block);
	}
	return busy;
}

void event_clear(struct umm_ctx *ctx, uintptr_t start, uintptr_t end, bool unmap)
{
	bool busy = true, marked, first = true;
	struct patience patience = { 0 };
	uint32_t seen;

	while (busy) {
		ctx_still_waiting(&patience, start);
		seen = ctx_settle_count(ctx);
		busy = clear_try(ctx, start, end, unmap, &marked);
		if (first || marked)
			reap(ctx, start, end, unmap, true);
		else if (busy)
			ctx_settle_wait(ctx, seen, now_ns() + SETTLE_NS);
		first = false;
	}
}

void event_forget(struct umm_ctx *ctx, uintptr_t start, uintptr_t end)
{
	uint64_t pages[BITMAP_WORDS];
	struct block *block;
	unsigned first, last;
	uintptr_t at = start, va;

	while (at < end && (block = block_next(ctx, at, end))) {
		memset(pages, 0, sizeof(pages));
		va = block->va;
		at = va + UMM_BLOCK_SIZE;
		if (!block_clip(block, start, end, &first, &last))
			first = last = 0;
		for (unsigned i = first; i < last; i++) {
			if (page_state(block, i) != PG_MIRRORED)
				continue;
			bit_set(pages, i);
			page_set(block, i, PG_UNMANAGED);
		}
		block_put(ctx, block);
		for_each_run(pages, first, last)
			region_del(ctx, va + ((uintptr_t)first << UMM_PAGE_SHIFT),
				   va + ((uintptr_t)last << UMM_PAGE_SHIFT));
	}
}

static bool any_in_flight(struct umm_ctx *ctx, uintptr_t start, uintptr_t end)
{
	struct block *block;
	unsigned first, last;
	uintptr_t at = start;
	bool busy = false;

	while (at < end && !busy && (block = block_next(ctx, at, end))) {
		at = block->va + UMM_BLOCK_SIZE;
		if (block_clip(block, start, end, &first, &last))
			for (unsigned i = first; i < last && !busy; i++)
				busy = in_flight(block, i) || page_state(block, i) == PG_REAPING;
		lock_drop(&block->lock);
	}
	return busy;
}

void event_wait(struct umm_ctx *ctx, uintptr_t start, uintptr_t end)
{
	struct patience patience = { 0 };
	uint32_t seen;

	ctx_pass_gate(ctx);
	while (seen = ctx_settle_count(ctx), any_in_flight(ctx, start, end)) {
		ctx_still_waiting(&patience, start);
		ctx_settle_wait(ctx, seen, now_ns() + SETTLE_NS);
	}
}
