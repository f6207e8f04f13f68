/* SPDX-License-Identifier: MIT */
/*
 * Plain pages. Most pages of most ranges are the system's, and what is to be said of one can be
 * said of all its neighbours: so they cost one look at their states, all at once, and the
 * writing of the answer.
 *
 * A part of which all is plain is answered without the gate. Whoever asks passed it before he asked
 * (range_check()), so he sees what his own munmap() did; and what others change while he looks
 * makes his sequence stale, as it does a moment later.
 *
 * Locks: the block's, for its states and bitmaps.
 */
#include "plain.h"

#include "block.h"

unsigned plain_pages(const struct umm_range *range, const struct block *block, unsigned first,
		     unsigned last)
{
	if (first == last || block->page[first] != PG_SYSTEM || range->flags & UMM_RANGE_PAGEMAP)
		return 0;
	return pages_alike(block, first, last) - first;
}

void plain_give(struct block *block, unsigned first, unsigned n)
{
	bits_set(block->readable, first, first + n);
	bits_set(block->writable, first, first + n);
}

static inline void fill(uint64_t *entry, uint64_t plain, size_t n)
{
	for (size_t k = 0; k < n; k++, plain += UMM_PAGE_SIZE)
		entry[k] = plain;
}

#ifdef __x86_64__
__attribute__((target("avx2"))) static void fill_wide(uint64_t *entry, uint64_t plain, size_t n)
{
	fill(entry, plain, n);
}
#endif

void plain_fill(uint64_t *entry, uintptr_t addr, size_t n)
{
	uint64_t plain = UMM_ENTRY_VALID | UMM_ENTRY_WRITE | addr;

#ifdef __x86_64__
	if (__builtin_cpu_supports("avx2"))
		return fill_wide(entry, plain, n);
#endif
	fill(entry, plain, n);
}

static bool mapping_is_wide(struct prot *prot, uintptr_t start, uintptr_t end)
{
	return prot_find(prot, start) && prot->vma.read && prot->vma.write && end <= prot->vma.end;
}

bool plain_part(const struct umm_range *range, struct prot *prot, uintptr_t start, uintptr_t end)
{
	unsigned n = (unsigned)((end - start) >> UMM_PAGE_SHIFT), first = page_index(start);
	struct block *block = block_find(prot->ctx, start);
	bool plain;

	if (!block)
		return false;
	plain = plain_pages(range, block, first, first + n) == n &&
		mapping_is_wide(prot, start, end);
	if (plain)
		plain_give(block, first, n);
	block_put(prot->ctx, block);
	return plain;
}
