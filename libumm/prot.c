/* SPDX-License-Identifier: MIT */
/*
 * The kernel does not tell of mprotect(), so it is asked: whenever a device looks or faults, takes
 * a page exclusively or has it migrated. Each block knows which pages it has given out readable and
 * writable entries of. Where the mapping allows less by now, mirrors are told to forget them.
 *
 *	look			mirror
 *	prot_compare()
 *	prot_found(): snapshots	are stale
 *	unlock
 *	prot_tell():		PROTECTION_VMA
 *				asks again, and gets what the kernel allows
 *
 * Invariant: an entry that allows more than what is in `readable` and `writable` of its block was
 * given out before mirrors were told last.
 * Locks: the block's for its bitmaps; none where mirrors are told.
 */
#include "prot.h"

#include <errno.h>
#include <string.h>

#include "ctx.h"
#include "signals.h"
#include "util.h"

bool prot_find_other(struct prot *prot, uintptr_t addr)
{
	struct maps_vma *vma = &prot->vma;
	int ret;

	if (addr - prot->gap.start < prot->gap.len) {
		*vma = (struct maps_vma){ 0 };
		prot->error = 0;
		return false;
	}
	ret = maps_find(addr, prot->ctx->features & UMM_KERNEL_PROCMAP_QUERY, vma);
	prot->error = ret == -ENOENT ? 0 : ret;
	if (!ret && vma->start <= addr)
		return true;
	if (!ret || ret == -ENOENT)
		prot->gap = (struct umm_span){ addr, (ret ? UINTPTR_MAX : vma->start) - addr };
	*vma = (struct maps_vma){ 0 };
	return false;
}

unsigned prot_huge_order(struct prot *prot)
{
	if (!prot->vma.order)
		prot->vma.order = (uint8_t)maps_huge_order(&prot->vma);
	return prot->vma.order;
}

void prot_compare(struct prot *prot, struct block *block, unsigned i)
{
	bool gone = bit_test(block->readable, i) && !prot->vma.read;

	if (gone || (bit_test(block->writable, i) && !(prot->vma.read && prot->vma.write)))
		bit_set(prot->narrowed, i);
	if (!prot->vma.read)
		bit_clear(block->readable, i);
	if (!prot->vma.read || !prot->vma.write)
		bit_clear(block->writable, i);
}

void prot_found(struct prot *prot, struct block *block)
{
	unsigned first = bit_next(prot->narrowed, 0), last = first;

	if (first == UMM_BLOCK_PAGES)
		return;
	for (unsigned i = first; i < UMM_BLOCK_PAGES; i = bit_next(prot->narrowed, i + 1))
		last = i;
	prot->active = notifier_begin(prot->ctx, page_addr(block, first),
				      page_addr(block, last) + UMM_PAGE_SIZE);
}

void prot_tell(struct prot *prot, uintptr_t va)
{
	notifier_tell_pages(prot->ctx, align_down(va, UMM_BLOCK_SIZE), prot->narrowed,
			    UMM_EVENT_PROTECTION_VMA);
	notifier_end(prot->ctx, prot->active);
	prot->active = NULL;
	memset(prot->narrowed, 0, sizeof(prot->narrowed));
}

void prot_refresh(struct umm_ctx *ctx, uintptr_t start, uintptr_t end)
{
	struct prot prot = { .ctx = ctx };
	unsigned first, last;
	struct block *block;
	uintptr_t at = start, va;

	if (!atomic_load(&ctx->notifiers.count))
		return;
	while (at < end && (block = block_next(ctx, at, end))) {
		va = block->va;
		at = va + UMM_BLOCK_SIZE;
		if (!block_clip(block, start, end, &first, &last))
			first = last = 0;
		for (unsigned i = first; i < last; i++)
			if (bit_test(block->readable, i)) {
				prot_find(&prot, page_addr(block, i));
				prot_compare(&prot, block, i);
			}
		prot_found(&prot, block);
		lock_drop(&block->lock);
		prot_tell(&prot, va);
	}
}

void prot_forget(struct umm_ctx *ctx, uintptr_t start, uintptr_t end)
{
	unsigned first, last;
	struct block *block;
	uintptr_t at = start;

	while (at < end && (block = block_next(ctx, at, end))) {
		at = block->va + UMM_BLOCK_SIZE;
		if (!block_clip(block, start, end, &first, &last))
			first = last = 0;
		for (unsigned i = first; i < last; i++) {
			bit_clear(block->readable, i);
			bit_clear(block->writable, i);
		}
		lock_drop(&block->lock);
	}
}

int umm_notifier_refresh(struct umm_notifier *notifier)
{
	if (!notifier_valid(notifier))
		return -EINVAL;
	if (ctx_is_forked(notifier->ctx))
		return -ENODEV;
	if (notifier_in_callback())
		return -EDEADLK;
	signals_hold();
	prot_refresh(notifier->ctx, notifier->node.start, min(notifier->node.end, ADDRESS_END));
	signals_let();
	return 0;
}
