/* SPDX-License-Identifier: MIT */
/*
 * Ranges: what a device may put into its page table. A snapshot reads page
 * states; a fault first makes the pages what was asked for, then does the same.
 *
 * Either makes the device take part: blocks are registered, so that every later
 * change is announced. Write permission is the mapping's, asked of the kernel.
 *
 * Locks: the block's while its entries are read; none while pages are made resident.
 */
#include <errno.h>
#include <string.h>

#include "batch.h"
#include "device.h"
#include "maps.h"
#include "uffd.h"
#include "event.h"
#include "util.h"

#define REQ_BITS (UMM_ENTRY_REQ_FAULT | UMM_ENTRY_REQ_WRITE)

/* The mapping that covers the address looked at last. */
struct prot {
	struct umm_ctx *ctx;
	struct maps_vma vma;
};

static bool prot_find(struct prot *prot, uintptr_t addr)
{
	if (addr >= prot->vma.start && addr < prot->vma.end)
		return true;
	if (maps_find(addr, prot->ctx->features & UMM_KERNEL_PROCMAP_QUERY, &prot->vma)) {
		prot->vma = (struct maps_vma){ 0 };
		return false;
	}
	return addr >= prot->vma.start;
}

static bool frame_is_ours(const struct umm_range *range, const struct resident *resident)
{
	return range->owner && resident->mem->dev == range->owner &&
	       (!range->mem || resident->mem == range->mem);
}

static uint64_t frame_entry(const struct resident *resident, unsigned i, uint64_t flags)
{
	uint64_t order = 0;

	/* Frames of the whole block in one aligned piece. */
	if (resident->npages == UMM_BLOCK_PAGES && !resident->frames &&
	    resident->base % UMM_BLOCK_PAGES == 0)
		order = UMM_BLOCK_SHIFT - UMM_PAGE_SHIFT;
	return UMM_ENTRY_VALID | flags | order << 6 |
	       (uint64_t)resident_frame(resident, i) << UMM_PAGE_SHIFT;
}

/* The copy of a duplicated page that the range's owner has; NULL: none. */
static struct resident *own_copy(const struct umm_range *range, struct block *block, unsigned i)
{
	struct resident *resident;

	for (resident = block->residents; resident; resident = resident->next)
		if (bit_test(resident->bitmap, i) && frame_is_ours(range, resident))
			return resident;
	return NULL;
}

static uint64_t entry_of(const struct umm_range *range, struct block *block, unsigned i,
			 bool writable)
{
	uint64_t write = writable ? UMM_ENTRY_WRITE : 0;
	struct resident *resident;

	if (page_is_away(block, i))
		return 0;
	switch (page_state(block, i)) {
	case PG_SYSTEM:
		return UMM_ENTRY_VALID | write | page_addr(block, i);
	case PG_DEVICE:
		resident = resident_of(block, i);
		if (!frame_is_ours(range, resident))
			return 0;
		return frame_entry(resident, i, UMM_ENTRY_DEVICE | write);
	case PG_COHERENT:
		return frame_entry(resident_of(block, i), i, UMM_ENTRY_COHERENT | write);
	case PG_DUPLICATED:
		resident = own_copy(range, block, i);
		if (resident)
			return frame_entry(resident, i, UMM_ENTRY_DEVICE | UMM_ENTRY_DUPLICATE);
		return UMM_ENTRY_VALID | page_addr(block, i);
	case PG_POISONED:
		return UMM_ENTRY_ERROR;
	default:
		return 0;
	}
}

/* Entries of the part of the range inside one block. Returns how many are valid. */
static long snapshot_block(struct umm_range *range, struct umm_ctx *ctx, uintptr_t start,
			   uintptr_t end, struct prot *prot)
{
	uint64_t *entry = &range->entries[(start - range->start) >> UMM_PAGE_SHIFT];
	struct block *block;
	long valid = 0;
	int ret;

	memset(entry, 0, ((end - start) >> UMM_PAGE_SHIFT) * sizeof(*entry));
	block = block_get(ctx, start, &ret);
	if (!block)
		return ret == -EFAULT ? 0 : ret;
	ret = block_register(ctx, block);
	for (uintptr_t at = start; at < end && !ret; at += UMM_PAGE_SIZE, entry++) {
		if (!prot_find(prot, at) || !prot->vma.read)
			continue;
		*entry = entry_of(range, block, page_index(at), prot->vma.write);
		valid += *entry & UMM_ENTRY_VALID;
	}
	block_put(ctx, block);
	return ret ? ret : valid;
}

static long snapshot(struct umm_range *range, struct umm_ctx *ctx)
{
	struct prot prot = { .ctx = ctx };
	uintptr_t next;
	long valid = 0, n;

	for (uintptr_t at = range->start; at < range->end; at = next) {
		next = min(align_down(at, UMM_BLOCK_SIZE) + UMM_BLOCK_SIZE, range->end);
		n = snapshot_block(range, ctx, at, next, &prot);
		if (n < 0)
			return n;
		valid += n;
	}
	return umm_notifier_read_retry(range->notifier, range->seq) ? -EBUSY : valid;
}

static int range_check(struct umm_range *range, struct umm_range *mine)
{
	struct itree_node *node;
	int ret;

	ret = struct_in(mine, sizeof(*mine), range);
	if (ret)
		return ret;
	if (mine->flags || !notifier_valid(mine->notifier) || !mine->entries ||
	    mine->start >= mine->end || !is_aligned(mine->start, UMM_PAGE_SIZE) ||
	    !is_aligned(mine->end, UMM_PAGE_SIZE))
		return -EINVAL;
	if (mine->end > (uintptr_t)1 << 47)
		return -EINVAL;
	if (mine->owner && !device_valid(mine->owner))
		return -EINVAL;
	if (mine->mem && !devmem_valid(mine->mem))
		return -EINVAL;
	node = &mine->notifier->node;
	if (mine->start < node->start || mine->end > node->end)
		return -EINVAL;
	if (ctx_is_forked(mine->notifier->ctx))
		return -ENODEV;
	ctx_pass_gate(mine->notifier->ctx);
	return 0;
}

long umm_range_snapshot(struct umm_range *range)
{
	struct umm_range mine;
	int ret = range_check(range, &mine);

	return ret ? ret : snapshot(&mine, mine.notifier->ctx);
}

enum need {
	NEED_NOTHING,
	NEED_FILL, /* zeroed pages */
	NEED_HOME, /* to bring a page home, or to end a duplication */
	NEED_WAIT, /* somebody else to finish */
};

/* What page i lacks for the request; or -errno. */
static int need_of(const struct umm_range *range, struct block *block, unsigned i, bool write)
{
	if (page_is_away(block, i))
		return NEED_WAIT;
	switch (page_state(block, i)) {
	case PG_SYSTEM:
	case PG_COHERENT:
		return NEED_NOTHING;
	case PG_EMPTY:
		return NEED_FILL;
	case PG_DEVICE:
		return frame_is_ours(range, resident_of(block, i)) ? NEED_NOTHING : NEED_HOME;
	case PG_DUPLICATED:
		return write ? NEED_HOME : NEED_NOTHING;
	case PG_MIGRATING:
	case PG_REAPING:
	case PG_ARRIVING:
		return NEED_WAIT;
	default:
		return -EFAULT;
	}
}

static int prot_check(struct prot *prot, uintptr_t addr, uint64_t request)
{
	if (!prot_find(prot, addr) || !prot->vma.read)
		return -EFAULT;
	return request & UMM_ENTRY_REQ_WRITE && !prot->vma.write ? -EPERM : 0;
}

/* One page under the block's lock: fills it, or says what has to be done without the lock. */
static int fault_locked(struct umm_range *range, struct umm_ctx *ctx, struct block *block,
			uintptr_t addr, uint64_t request)
{
	unsigned i = page_index(addr);
	int need, ret;

	/* What the program has dropped is not there, whatever the books say still. */
	if (block->page[i] & PG_DROPPING)
		page_drop_is_over(ctx, block, i);
	need = need_of(range, block, i, request & UMM_ENTRY_REQ_WRITE);
	if (need != NEED_FILL)
		return need;
	ret = uffd_zeropage(ctx->uffd, addr, UMM_PAGE_SIZE, true, NULL);
	if (ret && ret != -EEXIST)
		return ret;
	page_set(block, i, PG_SYSTEM);
	return NEED_NOTHING;
}

/* Returns 0, -errno, or NEED_HOME/NEED_WAIT with the page it is about in *at. */
static int fault_block(struct umm_range *range, struct umm_ctx *ctx, uintptr_t *at, uintptr_t end,
		       struct prot *prot)
{
	struct block *block;
	uint64_t request;
	int ret;

	rwlock_take_shared(&ctx->gate);
	block = block_get(ctx, *at, &ret);
	if (block)
		ret = block_register(ctx, block);
	for (; block && !ret && *at < end; *at += UMM_PAGE_SIZE) {
		request = range->entries[(*at - range->start) >> UMM_PAGE_SHIFT];
		request = ((request & range->flags_mask) | range->default_flags) & REQ_BITS;
		if (!request)
			continue;
		ret = prot_check(prot, *at, request);
		if (!ret)
			ret = fault_locked(range, ctx, block, *at, request);
		if (ret)
			break;
	}
	if (block)
		block_put(ctx, block);
	rwlock_drop_shared(&ctx->gate);
	return ret;
}

static bool any_request(const struct umm_range *range, uintptr_t start, uintptr_t end)
{
	if (range->default_flags & REQ_BITS)
		return true;
	for (uintptr_t at = start; at < end; at += UMM_PAGE_SIZE)
		if (range->entries[(at - range->start) >> UMM_PAGE_SHIFT] & range->flags_mask &
		    REQ_BITS)
			return true;
	return false;
}

static int bring_home(struct umm_ctx *ctx, uintptr_t addr)
{
	struct umm_span span = { .start = addr, .len = UMM_PAGE_SIZE };
	struct batch_want want = { .cause = UMM_CAUSE_DEVICE_FAULT };
	long ret = batch_move(ctx, &span, 1, &want);

	return ret == -EIO ? -EFAULT : ret < 0 ? (int)ret : 0;
}

/* Make one block's part resident, waiting for others until the deadline. */
static int fault_part(struct umm_range *range, struct umm_ctx *ctx, uintptr_t start, uintptr_t end,
		      uint64_t deadline)
{
	struct prot prot = { .ctx = ctx };
	uintptr_t at = start;
	uint32_t seen;
	int ret;

	if (!any_request(range, start, end))
		return 0;
	for (;;) {
		seen = ctx_settle_count(ctx);
		ret = fault_block(range, ctx, &at, end, &prot);
		if (ret == NEED_HOME)
			ret = bring_home(ctx, at);
		else if (ret == -EAGAIN)
			event_pump(ctx);
		else if (ret == NEED_WAIT && now_ns() < deadline)
			ctx_settle_wait(ctx, seen, deadline);
		else if (ret == NEED_WAIT)
			return -EBUSY;
		else
			return ret;
		if (ret < 0 && ret != -EAGAIN)
			return ret;
	}
}

long umm_range_fault(struct umm_range *range, unsigned timeout_ms)
{
	uint64_t deadline = now_ns() + timeout_ms * UINT64_C(1000000);
	struct umm_range mine;
	struct umm_ctx *ctx;
	uintptr_t next;
	int ret = range_check(range, &mine);

	if (ret)
		return ret;
	ctx = mine.notifier->ctx;
	for (uintptr_t at = mine.start; at < mine.end; at = next) {
		next = min(align_down(at, UMM_BLOCK_SIZE) + UMM_BLOCK_SIZE, mine.end);
		ret = fault_part(&mine, ctx, at, next, deadline);
		if (ret)
			return ret;
	}
	return snapshot(&mine, ctx);
}
