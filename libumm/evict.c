/* SPDX-License-Identifier: MIT */
/*
 * Eviction: bring blocks of a device memory home, in the memory's order (devmem_policy.c), as many
 * at a time as what is needed takes; or ahead of need, on a mover, while few frames are free.
 *
 * A migration evicts only blocks that were last used before it began (by the
 * memory's clock), so that a large request, or the faults of one device launch,
 * never evict what they have just brought; and never the block it is filling. Nor does evicting
 * ahead, which goes by the clock of the request that took the frames.
 *
 * Blocks that somebody's callback would have to wait for are passed over, as long as others do
 * instead; for a request ahead they stay.
 *
 * Duplicated pages are at home already: their copies end, and nothing moves. A block counts as
 * evicted where either freed frames.
 *
 * Requests that take frames meanwhile leave their clock, by which another item goes on: the first
 * may not touch what was used since its own.
 *
 * Invariant: while mem->ahead, one item for it is queued or running, and holds the memory.
 * Locks: none held while pages move.
 */
#include <errno.h>

#include "batch.h"
#include "heed.h"
#include "hook.h"
#include "log.h"
#include "reclaim.h"
#include "tracefile.h"
#include "util.h"

/* Blocks that go at a time. */
#define VICTIMS 8

struct victims {
	unsigned n;
	struct umm_span spans[VICTIMS];
	unsigned npages[VICTIMS]; /* that the memory had of it */
};

/* Pages of the block at va that are in mem. */
static unsigned pages_in(struct umm_devmem *mem, uintptr_t va)
{
	struct block *block = block_find(mem->ctx, va);
	struct resident *resident;
	unsigned npages;

	if (!block)
		return 0;
	resident = resident_find(block, mem);
	npages = resident ? resident->npages : 0;
	lock_drop(&block->lock);
	return npages;
}

/* The next in line, until they have npages; not the stack that this thread runs on. */
static void choose(struct umm_devmem *mem, const struct order_want *want, uint32_t npages,
		   struct victims *victims)
{
	uint32_t got = 0;
	uintptr_t va;

	victims->n = 0;
	while (victims->n < VICTIMS && got < npages && devmem_victim(mem, want, &va)) {
		if (own_stack_in(va, va + UMM_BLOCK_SIZE))
			continue;
		victims->spans[victims->n] =
			(struct umm_span){ .start = va, .len = UMM_BLOCK_SIZE };
		victims->npages[victims->n] = pages_in(mem, va);
		got += victims->npages[victims->n++];
	}
}

/* Bring what `mem` has of these blocks home; or leave what callbacks would have to wait for. */
static void evict_blocks(struct umm_devmem *mem, const struct victims *victims,
			 enum umm_cause cause, bool waits, bool last_try)
{
	struct batch_want want = {
		.src = mem,
		.cause = cause,
		.unasked = !waits,
		.last_try = last_try,
		.may_stay = cause == UMM_CAUSE_EVICT,
		.clock = UINT64_MAX,
	};

	batch_move(mem->ctx, victims->spans, victims->n, &want);
	for (unsigned i = 0; i < victims->n; i++)
		if (pages_in(mem, victims->spans[i].start) < victims->npages[i]) {
			ctx_count(mem->ctx, mem->dev, victims->spans[i].start, UMM_COUNT_EVICTIONS,
				  1);
			tracefile_event(RECORD_EVICT, record_who(0, mem->number),
					victims->spans[i].start);
		}
}

/* All that may go, once, until nfree frames are free. */
static int evict_in_order(struct umm_devmem *mem, uint32_t nfree, uint64_t clock, uintptr_t va,
			  bool waits)
{
	struct order_want want = devmem_evict_want(mem, clock, va);
	/* Others that evict meanwhile may have it ask for a block again: not for ever. */
	uint64_t left = 2 * (uint64_t)mem->nframes + VICTIMS;
	struct victims victims;
	uint32_t have;

	while (have = umm_devmem_nfree(mem), have < nfree) {
		choose(mem, &want, nfree - have, &victims);
		if (!victims.n || left < victims.n)
			return -ENOSPC;
		left -= victims.n;
		evict_blocks(mem, &victims, UMM_CAUSE_EVICT, waits, false);
	}
	return 0;
}

int evict(struct umm_devmem *mem, uint32_t nfree, uint64_t clock, uintptr_t va, bool waits)
{
	int ret = evict_in_order(mem, nfree, clock, va, false);

	return ret && waits ? evict_in_order(mem, nfree, clock, va, true) : ret;
}

static void ahead_run(struct umm_ctx *ctx, const struct work *work)
{
	struct umm_devmem *mem = work->priv;
	uint64_t latest;
	uint32_t nfree;
	bool enough;

	(void)ctx;
	lock_take(&mem->lock);
	nfree = mem->high_free;
	lock_drop(&mem->lock);
	/* It waits, too: nobody may take frames for a while, and have it try again. */
	enough = !evict(mem, nfree, work->clock, 0, true);
	hook_run(HOOK_EVICTED, 0);
	lock_take(&mem->lock);
	mem->ahead = false;
	latest = mem->ahead_clock;
	lock_drop(&mem->lock);
	/* The same request may have taken more since: it saw that an item was running. */
	if (enough || latest > work->clock)
		evict_ahead(mem, latest);
	devmem_unuse(mem);
}

void evict_ahead(struct umm_devmem *mem, uint64_t clock)
{
	struct work work = { .fn = ahead_run, .priv = mem, .clock = clock };
	bool begin;

	lock_take(&mem->lock);
	if (mem->ahead_clock < clock)
		mem->ahead_clock = clock;
	begin = mem->nfree < mem->low_free && !mem->ahead && !mem->removing;
	mem->ahead |= begin;
	mem->users += begin;
	lock_drop(&mem->lock);
	if (!begin || !workers_queue(&mem->ctx->movers, &work))
		return;
	lock_take(&mem->lock);
	mem->ahead = false;
	lock_drop(&mem->lock);
	devmem_unuse(mem);
}

int devmem_ask(struct umm_devmem *mem)
{
	if (!devmem_valid(mem))
		return -EINVAL;
	if (ctx_is_forked(mem->ctx))
		return -ENODEV;
	return notifier_in_callback() ? -EDEADLK : devmem_use(mem);
}

int umm_devmem_evict(struct umm_devmem *mem, uint32_t nframes)
{
	int ret;

	if (!devmem_valid(mem) || nframes > mem->nframes)
		return -EINVAL;
	ret = devmem_ask(mem);
	if (ret)
		return ret;
	devmem_trace_empty(mem, nframes);
	ret = heed_evict(mem, nframes, UINT64_MAX, 0, true);
	devmem_unuse(mem);
	return ret;
}

static bool idle(struct umm_devmem *mem)
{
	bool is_idle;

	lock_take(&mem->lock);
	is_idle = !mem->users && !mem->order->nentries;
	lock_drop(&mem->lock);
	return is_idle;
}

static void evict_every_page(struct umm_devmem *mem)
{
	struct order_want want = devmem_evict_want(mem, UINT64_MAX, 0);
	struct patience patience = { 0 };
	struct victims victims = { 0 };
	uint32_t seen;

	while (seen = ctx_settle_count(mem->ctx), !idle(mem)) {
		ctx_still_waiting(&patience, victims.spans[0].start);
		choose(mem, &want, UINT32_MAX, &victims);
		if (victims.n) {
			evict_blocks(mem, &victims, UMM_CAUSE_REMOVE, true,
				     ctx_waited_enough(mem->ctx, &patience));
			/* Nobody will use them again, and what is to come needs memory at home. */
			devmem_trim(mem);
			continue;
		}
		/* What is left is pinned or in flight. */
		want = devmem_evict_want(mem, UINT64_MAX, 0);
		ctx_settle_wait(mem->ctx, seen, now_ns() + UINT64_C(10000000));
	}
}

/* What a mover is to empty, and who waits for that. */
struct emptying {
	struct umm_devmem *mem;
	struct umm_fence *done;
};

static void emptying_run(struct umm_ctx *ctx, const struct work *work)
{
	struct emptying *emptying = work->priv;
	bool sleeps = worker_sleeps(now_ns());

	(void)ctx;
	evict_every_page(emptying->mem);
	if (sleeps)
		worker_wakes();
	umm_fence_signal(emptying->done, 0, 0);
}

/* By another thread: one whose stack is on its way would wait for itself. 0 or -ENOMEM. */
static int evict_all_elsewhere(struct umm_devmem *mem)
{
	struct emptying *emptying = arena_map(sizeof(*emptying));
	struct work work = { .fn = emptying_run, .priv = emptying };
	int ret;

	if (!emptying)
		return -ENOMEM;
	emptying->mem = mem;
	ret = umm_fence_create(&emptying->done);
	if (!ret)
		ret = workers_queue(&mem->ctx->movers, &work);
	if (!ret)
		umm_fence_wait(emptying->done, -1);
	umm_fence_put(emptying->done);
	arena_unmap(emptying, sizeof(*emptying));
	return ret;
}

static bool has_own_stack(struct umm_devmem *mem)
{
	uintptr_t here = (uintptr_t)__builtin_frame_address(0);

	return pages_in(mem, align_down(here - STACK_NEED, UMM_BLOCK_SIZE)) ||
	       pages_in(mem, align_down(here, UMM_BLOCK_SIZE));
}

void evict_all(struct umm_devmem *mem)
{
	bool done = false;

	while (!done && has_own_stack(mem)) {
		done = !evict_all_elsewhere(mem);
		if (!done)
			ctx_starve(mem->ctx, (uintptr_t)__builtin_frame_address(0));
	}
	if (!done)
		evict_every_page(mem);
}
