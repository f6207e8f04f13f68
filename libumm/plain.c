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

#include <string.h>

#include "block.h"
#include "util.h"

#define LINE 64

static inline bool are_system(const uint16_t *page, unsigned n)
{
	uint16_t other = 0;

	for (unsigned k = 0; k < n; k++)
		other |= page[k] ^ PG_SYSTEM;
	return !other;
}

static inline void fill(uint64_t *entry, uint64_t plain, size_t n)
{
	uint64_t *line;

	/* A wide store that two lines of the cache share costs as much as two. */
	for (; n && (uintptr_t)entry % LINE; n--, plain += UMM_PAGE_SIZE)
		*entry++ = plain;
	if (!n)
		return;
	line = __builtin_assume_aligned(entry, LINE);
	for (size_t k = 0; k < n; k++, plain += UMM_PAGE_SIZE)
		line[k] = plain;
}

#ifdef __x86_64__
__attribute__((target("avx2"))) static bool are_system_wide(const uint16_t *page, unsigned n)
{
	return are_system(page, n);
}

__attribute__((target("avx2"))) static void fill_wide(uint64_t *entry, uint64_t plain, size_t n)
{
	fill(entry, plain, n);
}
#endif

static bool all_system(const struct block *block, unsigned first, unsigned last)
{
#ifdef __x86_64__
	if (__builtin_cpu_supports("avx2"))
		return are_system_wide(&block->page[first], last - first);
#endif
	return are_system(&block->page[first], last - first);
}

unsigned plain_pages(const struct umm_range *range, const struct block *block, unsigned first,
		     unsigned last)
{
	if (first == last || block->page[first] != PG_SYSTEM || range->flags & UMM_RANGE_PAGEMAP)
		return 0;
	if (all_system(block, first, last))
		return last - first;
	return pages_alike(block, first, last) - first;
}

void plain_give(struct block *block, unsigned first, unsigned n)
{
	bits_set(block->readable, first, first + n);
	bits_set(block->writable, first, first + n);
}

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

/*
 * Is all of start .. end, which is in one block, plain? Then its entries may be given out; else
 * nothing was noted.
 */
static bool part_is_plain(const struct umm_range *range, struct prot *prot, uintptr_t start,
			  uintptr_t end)
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

uintptr_t plain_end(const struct umm_range *range, struct prot *prot, uintptr_t at, uintptr_t stop)
{
	uintptr_t next;

	for (; at < stop; at = next) {
		next = min(align_down(at, UMM_BLOCK_SIZE) + UMM_BLOCK_SIZE, stop);
		if (!part_is_plain(range, prot, at, next))
			break;
	}
	return at;
}
