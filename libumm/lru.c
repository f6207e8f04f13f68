/* SPDX-License-Identifier: MIT */
/*
 * Which block of a device memory goes when it is full: the least recently used. A block's
 * resident is in its memory's list while it has frames there; devices say what they use by
 * umm_devmem_touch(). The clock counts uses, so that an eviction takes nothing that came after it
 * began.
 *
 * Locks: mem->lock protects the list and the clock; nothing is called under it.
 */
#include "ctx.h"
#include "devmem.h"

void devmem_lru_add(struct umm_devmem *mem, struct resident *resident)
{
	lock_take(&mem->lock);
	resident->lru_prev = NULL;
	resident->lru_next = mem->lru_head;
	if (mem->lru_head)
		mem->lru_head->lru_prev = resident;
	else
		mem->lru_tail = resident;
	mem->lru_head = resident;
	resident->stamp = mem->clock++;
	lock_drop(&mem->lock);
}

static void lru_unlink(struct umm_devmem *mem, struct resident *resident)
{
	if (resident->lru_prev)
		resident->lru_prev->lru_next = resident->lru_next;
	else
		mem->lru_head = resident->lru_next;
	if (resident->lru_next)
		resident->lru_next->lru_prev = resident->lru_prev;
	else
		mem->lru_tail = resident->lru_prev;
}

void devmem_lru_del(struct umm_devmem *mem, struct resident *resident)
{
	lock_take(&mem->lock);
	lru_unlink(mem, resident);
	lock_drop(&mem->lock);
}

bool devmem_victim(struct umm_devmem *mem, uint32_t skip, uint64_t clock, uintptr_t *va)
{
	struct resident *resident;

	lock_take(&mem->lock);
	for (resident = mem->lru_tail; resident && skip; skip--)
		resident = resident->lru_prev;
	if (resident && resident->stamp >= clock)
		resident = NULL;
	if (resident)
		*va = resident->va;
	lock_drop(&mem->lock);
	return resident;
}

uint64_t devmem_clock(struct umm_devmem *mem)
{
	uint64_t clock;

	lock_take(&mem->lock);
	clock = mem->clock;
	lock_drop(&mem->lock);
	return clock;
}

void umm_devmem_touch(struct umm_devmem *mem, uintptr_t start, size_t len)
{
	struct resident *resident;
	struct block *block;
	uintptr_t at = start;

	if (!devmem_valid(mem))
		return;
	while (at < start + len && (block = block_next(mem->ctx, at, start + len))) {
		at = block->va + UMM_BLOCK_SIZE;
		resident = resident_find(block, mem);
		if (resident) {
			devmem_lru_del(mem, resident);
			devmem_lru_add(mem, resident);
		}
		lock_drop(&block->lock);
	}
}
