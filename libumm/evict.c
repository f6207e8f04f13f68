/* SPDX-License-Identifier: MIT */
/*
 * Eviction: bring the least recently used blocks of a device memory home.
 *
 * A migration evicts only blocks that were last used before it began (by the
 * memory's clock), so that a large request, or the faults of one device launch,
 * never evict what they have just brought; and never the block it is filling.
 *
 * Duplicated pages are at home already: their copies end, and nothing moves. A block counts as
 * evicted where either freed frames.
 *
 * Locks: none held while pages move.
 */
#include <errno.h>

#include "batch.h"
#include "heed.h"
#include "log.h"
#include "util.h"

/* Bring what `mem` has of one block home. True when that freed something. */
static bool evict_block(struct umm_devmem *mem, uintptr_t va, enum umm_cause cause)
{
	struct umm_span span = { .start = va, .len = UMM_BLOCK_SIZE };
	unsigned long ended = 0;
	struct batch_want want = {
		.src = mem,
		.cause = cause,
		.clock = UINT64_MAX,
		.ended = &ended,
	};
	uint32_t before = umm_devmem_nfree(mem);
	long ret;

	ret = batch_move(mem->ctx, &span, 1, &want);
	if (ret > 0 || ended)
		ctx_count(mem->ctx, mem->dev, va, UMM_COUNT_EVICTIONS, 1);
	return umm_devmem_nfree(mem) > before;
}

int evict(struct umm_devmem *mem, uint32_t nfree, uint64_t clock, uintptr_t va)
{
	uint32_t skip = 0;
	uintptr_t victim;

	while (umm_devmem_nfree(mem) < nfree) {
		if (!devmem_victim(mem, skip, clock, &victim))
			return -ENOSPC;
		if (victim == va || !evict_block(mem, victim, UMM_CAUSE_EVICT))
			skip++;
	}
	return 0;
}

int umm_devmem_evict(struct umm_devmem *mem, uint32_t nframes)
{
	int ret;

	if (!devmem_valid(mem) || nframes > mem->nframes)
		return -EINVAL;
	if (ctx_is_forked(mem->ctx))
		return -ENODEV;
	if (notifier_in_callback())
		return -EDEADLK;
	ret = devmem_use(mem);
	if (ret)
		return ret;
	ret = heed_evict(mem, nframes, UINT64_MAX, 0);
	devmem_unuse(mem);
	return ret;
}

static bool idle(struct umm_devmem *mem)
{
	bool is_idle;

	lock_take(&mem->lock);
	is_idle = !mem->users && !mem->lru_head;
	lock_drop(&mem->lock);
	return is_idle;
}

void evict_all(struct umm_devmem *mem)
{
	struct patience patience = { 0 };
	uintptr_t victim = 0;
	uint32_t seen, skip = 0;

	while (seen = ctx_settle_count(mem->ctx), !idle(mem)) {
		ctx_still_waiting(&patience, victim);
		if (devmem_victim(mem, skip, UINT64_MAX, &victim)) {
			skip += !evict_block(mem, victim, UMM_CAUSE_REMOVE);
			continue;
		}
		/* What is left is pinned or in flight. */
		skip = 0;
		ctx_settle_wait(mem->ctx, seen, now_ns() + UINT64_C(10000000));
	}
}
