/* SPDX-License-Identifier: MIT */
/*
 * What becomes of a fault, which a server has read (server.c), a worker was handed, or a thread
 * has in its own signal handler.
 *
 * Servers call no device that might sleep or take a lock of the program's (malloc's, over a
 * fork): only devices created with UMM_DEVICE_INLINE_COPY; the rest, and callbacks that
 * would have to sleep, go to the workers.
 *
 * Invariant: every fault that was read ends in an installed page, a poisoned one, a
 * wake-up, or as a waiter of a piece or change that wakes it at its end.
 * Locks: gate shared, then the block's.
 */
#include "fault.h"

#include <errno.h>

#include "admit.h"
#include "damp.h"
#include "event.h"
#include "heed.h"
#include "hook.h"
#include "log.h"
#include "piece.h"
#include "poison.h"
#include "readahead.h"
#include "signals.h"
#include "tracefile.h"
#include "uffd.h"
#include "util.h"

static const char zero_page[UMM_PAGE_SIZE] __attribute__((aligned(4096)));

static void count(struct umm_ctx *ctx, struct umm_device *dev, const struct uffd_msg_info *info,
		  unsigned counter)
{
	ctx_count(ctx, dev, info->addr, counter, 1);
}

static void wake(struct umm_ctx *ctx, const struct uffd_msg_info *info)
{
	if (!ctx->in_thread)
		uffd_wake(ctx->uffd, info->addr, UMM_PAGE_SIZE);
}

/* A zeroed page. Writes get a page of their own at once, reads the kernel's zero page. */
static int fill(struct umm_ctx *ctx, const struct uffd_msg_info *info)
{
	if (info->write)
		return uffd_copy(ctx->uffd, info->addr, zero_page, UMM_PAGE_SIZE, true, NULL);
	return uffd_zeropage(ctx->uffd, info->addr, UMM_PAGE_SIZE, true, NULL);
}

enum serve {
	SERVE_DONE,
	SERVE_WAKE,    /* resolved by somebody else: just wake it */
	SERVE_FOREIGN, /* likewise; or there was nothing to resolve */
	SERVE_LATER,   /* its block's waiters are woken when the page may be used */
	SERVE_AGAIN,   /* an event has to be read first */
	SERVE_ASK,     /* a page comes to the host: ask whether it may (admit.h) */
	SERVE_HOME,    /* it has become a page to bring home */
	SERVE_POISON,  /* end in SIGBUS */
};

/* What becomes of a fault. */
enum fault_end {
	FAULT_OVER,    /* resolved, or it comes again if it still has reason to */
	FAULT_FOREIGN, /* likewise, but nothing here explains it */
	FAULT_WAITS,   /* its block's waiters are woken, or it is a worker's already */
	FAULT_SLEEPS,  /* it has to be served where one may sleep */
	FAULT_REFUSED, /* the host has no room: it is asked for again, and then served */
};

static bool is_guarded(const struct block *block, unsigned i)
{
	return page_state(block, i) == PG_SYSTEM && block->page[i] & PG_GUARDED;
}

/* A protection that outlived its reason, or was never the page's: its neighbours' ends with it. */
static enum serve serve_guarded(struct umm_ctx *ctx, struct block *block,
				const struct uffd_msg_info *info)
{
	unsigned i = page_index(info->addr), first = i, end = i + 1;
	int ret;

	while (block && first && is_guarded(block, first - 1))
		first--;
	while (block && end < UMM_BLOCK_PAGES && is_guarded(block, end))
		end++;
	ret = uffd_writeprotect(ctx->uffd, info->addr - (uintptr_t)(i - first) * UMM_PAGE_SIZE,
				(size_t)(end - first) * UMM_PAGE_SIZE, false, true);
	/* Pages of a mapping that has gone, perhaps: not those of this one. */
	if (ret == -ENOENT && end - first > 1) {
		first = i;
		end = i + 1;
		ret = uffd_writeprotect(ctx->uffd, info->addr, UMM_PAGE_SIZE, false, true);
	}
	for (; block && !ret && first < end; first++)
		block->page[first] &= (uint16_t)~PG_GUARDED;
	return ret == -EAGAIN ? SERVE_AGAIN : ret ? SERVE_FOREIGN : SERVE_DONE;
}

/* What the fault is counted as goes to *counter: counting takes a lock of a lower rank. */
static enum serve serve_fill(struct umm_ctx *ctx, struct block *block,
			     const struct uffd_msg_info *info, unsigned *counter)
{
	unsigned i = page_index(info->addr);
	int ret;

	if (info->wp)
		return serve_guarded(ctx, block, info);
	ret = fill(ctx, info);
	if (ret == -EAGAIN)
		return SERVE_AGAIN;
	/* Also of a page that was about to be dropped: it was. */
	if (block && !ret && (page_state(block, i) == PG_EMPTY || block->page[i] & PG_DROPPING))
		page_set(block, i, PG_SYSTEM);
	*counter = ret ? UMM_COUNT_FAULT_SPURIOUS : UMM_COUNT_FAULT_EMPTY;
	if (ret)
		return ret == -EEXIST ? SERVE_WAKE : SERVE_FOREIGN;
	return SERVE_DONE;
}

/* It will be woken when the page may be used. */
static enum serve serve_later(struct block *block, const struct uffd_msg_info *info,
			      unsigned *counter)
{
	block->waiters = true;
	if (!info->again)
		*counter = UMM_COUNT_FAULT_WAIT;
	return SERVE_LATER;
}

/* The page is on its way. */
static enum serve serve_migrating(struct umm_ctx *ctx, struct block *block,
				  const struct uffd_msg_info *info, unsigned *counter)
{
	unsigned i = page_index(info->addr);
	int ret;

	if (!(block->page[i] & PG_COLLECT) || info->wp)
		return serve_later(block, info, counter);
	ret = fill(ctx, info);
	if (ret == -EAGAIN)
		return SERVE_AGAIN;
	if (ret)
		return SERVE_WAKE;
	block->page[i] |= PG_REFILLED;
	block->page[i] &= (uint16_t)~PG_DISCARD;
	return SERVE_DONE;
}

static bool must_ask(const struct umm_ctx *ctx, const struct uffd_msg_info *info)
{
	return ctx->admit.fn && !info->wp && !info->admitted;
}

static enum serve serve_empty(struct umm_ctx *ctx, struct block *block,
			      const struct uffd_msg_info *info, unsigned *counter)
{
	return must_ask(ctx, info) ? SERVE_ASK : serve_fill(ctx, block, info, counter);
}

/* As serve_empty(), of a page that the books do not know: in the thread it may be anybody's. */
static enum serve serve_unknown(struct umm_ctx *ctx, const struct uffd_msg_info *info,
				unsigned *counter)
{
	int ret = 0;

	if (ctx->in_thread)
		ret = uffd_owns(ctx->uffd, info->addr, ctx->features & UMM_KERNEL_MOVE);
	if (ret)
		return ret == -EAGAIN ? SERVE_AGAIN : SERVE_FOREIGN;
	return serve_empty(ctx, NULL, info, counter);
}

/* Is the page to be brought home, and nothing keeps it? It may still have to be asked for. */
static bool comes_home(const struct block *block, const struct uffd_msg_info *info)
{
	unsigned i = page_index(info->addr);

	switch (page_state(block, i)) {
	case PG_DEVICE:
	case PG_EXCLUSIVE:
		return !(block->page[i] & PG_HELD);
	case PG_DUPLICATED:
		return info->wp;
	default:
		return false;
	}
}

static enum serve serve_locked(struct umm_ctx *ctx, struct block *block,
			       const struct uffd_msg_info *info, unsigned *counter)
{
	unsigned i = page_index(info->addr);

	if (!block)
		return serve_unknown(ctx, info, counter);
	if (comes_home(block, info))
		return SERVE_HOME;
	switch (page_state(block, i)) {
	case PG_MIGRATING:
		return serve_migrating(ctx, block, info, counter);
	case PG_DEVICE:
	case PG_EXCLUSIVE:
		return serve_later(block, info, counter);
	case PG_EMPTY:
		return block->page[i] & PG_HELD ? serve_later(block, info, counter) :
						  serve_empty(ctx, block, info, counter);
	case PG_DUPLICATED:
		return serve_empty(ctx, block, info, counter);
	case PG_POISONED:
		return SERVE_POISON;
	case PG_UNMANAGED:
	case PG_MIRRORED:
		return serve_unknown(ctx, info, counter);
	default: /* perhaps it was dropped, and that is not over */
		return serve_empty(ctx, block, info, counter);
	}
}

static enum fault_end serve_poison(struct umm_ctx *ctx, const struct uffd_msg_info *info,
				   bool blockable)
{
	/* In the thread this is the SIGBUS that it is to end in: it needs no mapping for that. */
	if (ctx->in_thread && !(ctx->features & UMM_KERNEL_POISON))
		return FAULT_FOREIGN;
	if (!poison_page(ctx, info->addr, blockable))
		return FAULT_SLEEPS;
	wake(ctx, info);
	return ctx->in_thread ? FAULT_FOREIGN : FAULT_OVER;
}

/* Where a page is that a CPU misses. */
struct home {
	struct umm_device *dev; /* NULL: no device has it */
	const struct umm_devmem *mem;
	bool comes;   /* it is to be brought home, and nothing keeps it, */
	bool asks;    /* but for the question whether it may */
	bool inlined; /* servers may call every device concerned */
	uint8_t history;
};

static struct home home_of(struct umm_ctx *ctx, const struct uffd_msg_info *info)
{
	struct block *block = block_find(ctx, info->addr);
	struct home home = { .inlined = true };
	uintptr_t addr = info->addr;

	if (!block)
		return home;
	home.comes = comes_home(block, info);
	home.asks = page_state(block, page_index(addr)) == PG_DEVICE && must_ask(ctx, info);
	home.history = block->history[page_index(addr)];
	for (struct resident *resident = block->residents; resident; resident = resident->next) {
		if (!bit_test(resident->bitmap, page_index(addr)))
			continue;
		home.mem = resident->mem;
		home.dev = resident->mem->dev;
		/* An exclusive page is not copied. */
		home.inlined &= home.dev->inline_copy || resident->mem->places;
	}
	lock_drop(&block->lock);
	return home;
}

/*
 * A worker is to bring this page home. True once; whoever faults on the page until then
 * waits for that (and is counted so), instead of making the worker do it again later.
 */
static bool defer_once(struct umm_ctx *ctx, const struct uffd_msg_info *info)
{
	struct block *block = block_find(ctx, info->addr);
	unsigned i = page_index(info->addr);
	bool first = true;

	if (!block)
		return true;
	if (page_state(block, i) == PG_DEVICE) {
		first = !(block->page[i] & PG_DEFERRED);
		block->page[i] |= PG_DEFERRED;
		block->waiters |= !first || ctx->in_thread;
	}
	lock_drop(&block->lock);
	if (!first && !info->again)
		count(ctx, NULL, info, UMM_COUNT_FAULT_WAIT);
	return first;
}

/* There is no memory to serve it: it comes again in a moment. */
static void starve(struct umm_ctx *ctx, const struct uffd_msg_info *info)
{
	ctx_starve(ctx, info->addr);
	wake(ctx, info);
}

/* The worker begins: from here on a fault is deferred again, or finds the page MIGRATING. */
static void defer_end(struct umm_ctx *ctx, uintptr_t addr)
{
	struct block *block = block_find(ctx, addr);

	if (!block)
		return;
	block->page[page_index(addr)] &= (uint16_t)~PG_DEFERRED;
	lock_drop(&block->lock);
}

/*
 * Collect the page that was missed, and those that come with it: these are left out where a
 * callback would have to sleep. Where it would for the missed page, that waits by itself, where one
 * may, for who touches the others may be who the callback waits for; they are tried again then, in
 * a second piece behind the first.
 */
static struct piece *collect_home(struct umm_ctx *ctx, struct piece_want *want, uint64_t *pages,
				  unsigned missed, int *ret)
{
	uint64_t with[BITMAP_WORDS] = { 0 };
	struct piece_found found;
	struct piece *piece;

	want->pages = pages;
	want->no_wait = bit_count(pages) > 1;
	while (!(piece = piece_collect(ctx, want, &found, ret)) && bit_any(found.refused)) {
		if (!bit_test(found.refused, missed)) {
			for (unsigned w = 0; w < BITMAP_WORDS; w++)
				pages[w] &= ~found.refused[w];
			continue;
		}
		if (!want->blockable)
			return NULL;
		memcpy(with, pages, sizeof(with));
		bit_clear(with, missed);
		memset(pages, 0, sizeof(with));
		bit_set(pages, missed);
		want->no_wait = false;
	}
	if (piece && bit_any(with)) {
		want->pages = with;
		want->no_wait = true;
		piece->next = piece_collect(ctx, want, &found, &(int){ 0 });
	}
	return piece;
}

/*
 * Bring a page home, and what comes with it of the memory that has it. A fault that lost a race is
 * woken.
 */
static enum fault_end serve_home(struct umm_ctx *ctx, struct uffd_msg_info *info,
				 const struct home *home, bool blockable)
{
	uint64_t page[BITMAP_WORDS] = { 0 };
	struct piece_want want = {
		.va = info->addr & ~BLOCK_MASK,
		.select = UMM_MIGRATE_SELECT_PRIVATE | UMM_MIGRATE_SELECT_COHERENT,
		.cause = UMM_CAUSE_CPU_FAULT,
		.blockable = blockable,
	};
	struct ahead_pages after = { 0 };
	bool inlined = home->inlined;
	struct hint_cursor cursor;
	struct piece *piece, *next;
	int ret;

	/* A piece has one source: another memory's pages might leave no room for the missed one. */
	want.src = home->mem;
	bit_set(page, page_index(info->addr));
	/* A unit may be more than a server asks a device for. */
	if (hints_any(&ctx->hints) && !info->wp && heed_fault(ctx, &want, page, &cursor))
		inlined = false;
	if (!inlined && !blockable)
		return defer_once(ctx, info) ? FAULT_SLEEPS : FAULT_WAITS;
	if (!info->wp && damp_cpu(ctx, info->addr, home->dev, home->history))
		readahead_miss(ctx, info, page, &after);
	/* Nor is what is more than a fault waits for in any case. */
	info->whole = bit_count(page) > AHEAD_WITH + 1;
	if (info->whole && !blockable) {
		readahead_queue(ctx, info->addr, &after);
		return defer_once(ctx, info) ? FAULT_SLEEPS : FAULT_WAITS;
	}
	hook_run(HOOK_CHOSEN, info->addr);
	piece = collect_home(ctx, &want, page, page_index(info->addr), &ret);
	if (!piece) {
		readahead_queue(ctx, info->addr, &after);
		if (ret == -EAGAIN && !blockable)
			return defer_once(ctx, info) ? FAULT_SLEEPS : FAULT_WAITS;
		if (ret == -ENOMEM)
			starve(ctx, info);
		else
			wake(ctx, info);
		return FAULT_OVER;
	}
	/*
	 * It may have left, and only what comes with it be there still. What was collected was on
	 * want.src, or has a copy there: that memory, and so its device, stays until the commit.
	 */
	if (bit_test(piece->all, page_index(info->addr))) {
		count(ctx, home->dev, info,
		      info->wp ? UMM_COUNT_FAULT_WRITE : UMM_COUNT_FAULT_DEVICE);
		tracefile_event(RECORD_MISS, info->thread, info->addr);
	} else {
		wake(ctx, info);
	}
	for (; piece; piece = next) {
		next = piece->next;
		piece_unmap(piece);
		piece_copy(piece);
	}
	readahead_queue(ctx, info->addr, &after);
	return FAULT_OVER;
}

static enum serve serve_once(struct umm_ctx *ctx, const struct uffd_msg_info *info)
{
	unsigned counter = UMM_NR_COUNTERS;
	struct block *block;
	enum serve serve;

	rwlock_take_shared(&ctx->gate);
	block = block_find(ctx, info->addr);
	serve = serve_locked(ctx, block, info, &counter);
	if (block)
		lock_drop(&block->lock);
	rwlock_drop_shared(&ctx->gate);
	if (counter < UMM_NR_COUNTERS)
		count(ctx, NULL, info, counter);
	return serve;
}

/* It is not admitted now. */
static enum fault_end refuse(struct umm_ctx *ctx, const struct uffd_msg_info *info, bool blockable)
{
	if (!blockable)
		return defer_once(ctx, info) ? FAULT_REFUSED : FAULT_WAITS;
	/* Workers do not wait for room: it comes again. */
	wake(ctx, info);
	return FAULT_OVER;
}

/* @info remembers that the page was admitted, and whether its block comes whole. */
static enum fault_end fault_serve(struct umm_ctx *ctx, struct uffd_msg_info *info, bool blockable)
{
	struct home home;

	for (;;) {
		/* Most faults need no more than this look: what was read before it is applied. */
		ctx_pass_gate(ctx);
		home = home_of(ctx, info);
		if (home.comes && home.asks) {
			info->admitted = admit_page(ctx, info->addr);
			if (!info->admitted)
				return refuse(ctx, info, blockable);
		}
		if (home.comes)
			return serve_home(ctx, info, &home, blockable);
		switch (serve_once(ctx, info)) {
		case SERVE_AGAIN:
			stats_add(&ctx->stats, UMM_COUNT_RETRIES, 1);
			event_pump(ctx);
			continue;
		case SERVE_WAKE:
			wake(ctx, info);
			return FAULT_OVER;
		case SERVE_FOREIGN:
			wake(ctx, info);
			return FAULT_FOREIGN;
		case SERVE_LATER:
			if (!info->again && !info->wp)
				readahead_wait(ctx, info);
			return FAULT_WAITS;
		case SERVE_ASK:
			info->admitted = admit_page(ctx, info->addr);
			if (!info->admitted)
				return refuse(ctx, info, blockable);
			continue;
		case SERVE_HOME:
			continue;
		case SERVE_POISON:
			return serve_poison(ctx, info, blockable);
		case SERVE_DONE:
			return FAULT_OVER;
		}
	}
}

/*
 * A store to a duplicated page, in the thread: it comes again as long as it has to, so the page may
 * be long done, and by now somebody else's.
 */
static bool is_stale(struct umm_ctx *ctx, const struct uffd_msg_info *info)
{
	struct block *block;
	bool stale;

	if (!ctx->in_thread || !info->wp)
		return false;
	block = block_find(ctx, info->addr);
	stale = !block || page_state(block, page_index(info->addr)) != PG_DUPLICATED;
	if (block)
		lock_drop(&block->lock);
	return stale;
}

static void fault_work(struct umm_ctx *ctx, const struct work *work)
{
	struct uffd_msg_info info = {
		.kind = UFFD_FAULT,
		.addr = work->addr,
		.write = work->write,
		.wp = work->wp,
		.again = work->again,
		.admitted = work->admitted,
		.whole = work->whole,
		.thread = work->thread,
	};
	uint64_t began = now_ns();

	defer_end(ctx, info.addr);
	if (!is_stale(ctx, &info))
		fault_serve(ctx, &info, true);
	/* Who handed it over may sleep, though nothing was migrated. */
	if (ctx->in_thread)
		ctx_settled(ctx);
	stats_add(&ctx->stats, UMM_COUNT_FAULT_NS, now_ns() - began);
}

static void fault_refused_work(struct umm_ctx *ctx, const struct work *work)
{
	struct work admitted = *work;

	admit_wait(ctx, work->addr);
	admitted.admitted = true;
	fault_work(ctx, &admitted);
}

/* Somebody else goes on with it, where its end says so. */
static void fault_defer(struct umm_ctx *ctx, const struct uffd_msg_info *info, enum fault_end end)
{
	bool refused = end == FAULT_REFUSED;
	struct work work = {
		.fn = refused ? fault_refused_work : fault_work,
		.addr = info->addr,
		.write = info->write,
		.wp = info->wp,
		.again = info->again,
		.admitted = info->admitted,
		.whole = info->whole,
		.thread = info->thread,
	};

	if (!refused && end != FAULT_SLEEPS)
		return;
	stats_add(&ctx->stats, UMM_COUNT_DEFERRED, 1);
	if (workers_queue(refused ? &ctx->admit.waiting : &ctx->workers, &work)) {
		defer_end(ctx, info->addr);
		starve(ctx, info);
	}
}

void fault_take(struct umm_ctx *ctx, const struct uffd_msg_info *what)
{
	struct uffd_msg_info info = *what;

	fault_defer(ctx, &info, fault_serve(ctx, &info, false));
}

/* So long at most a thread sleeps in the handler: its other signals are held until it returns. */
#define HANDLER_NS UINT64_C(50000000)

/* What this thread has slept for in the handler; it is not counted again. 0: nothing. */
static _Thread_local uintptr_t slept_for;

static void sleep_here(struct umm_ctx *ctx, uintptr_t addr, uint32_t seen)
{
	slept_for = addr;
	/* Held twice: no other handler runs meanwhile, it might never return to this one. */
	signals_hold();
	ctx_settle_wait(ctx, seen, now_ns() + HANDLER_NS);
	signals_let();
}

bool fault_serve_here(struct umm_ctx *ctx, const struct uffd_msg_info *what)
{
	struct uffd_msg_info info = *what;
	uint32_t seen = ctx_settle_count(ctx);
	uint64_t began = now_ns();
	enum fault_end end;

	/* Any number that tells threads apart. */
	info.thread = (uint32_t)((uintptr_t)&slept_for / sizeof(slept_for));
	info.again = slept_for == info.addr;
	slept_for = 0;
	hook_run(HOOK_FAULT_READ, info.addr);
	end = fault_serve(ctx, &info, false);
	if (end == FAULT_SLEEPS || end == FAULT_REFUSED) {
		/* What was tried until here, and undone, is no news. */
		seen = ctx_settle_count(ctx);
		fault_defer(ctx, &info, end);
	}
	if (end == FAULT_SLEEPS || end == FAULT_REFUSED || end == FAULT_WAITS)
		sleep_here(ctx, info.addr, seen);
	stats_add(&ctx->stats, UMM_COUNT_FAULT_NS, now_ns() - began);
	return end != FAULT_FOREIGN;
}
