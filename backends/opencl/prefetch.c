/* SPDX-License-Identifier: MIT */
/*
 * Two guesses at what will be missed next; both never fetch more than what was used, and
 * at most umm_opencl.readahead pages at once.
 *
 * Sequence: a span that goes on where pages of this device end is taken for a sequential reader;
 * as many pages as were there before it are fetched after it, up to the next that is there.
 *
 * Density: the pages of a block are the leaves of a binary tree. Around each page that was
 * missed, the largest subtree of which more than half is on the device, or about to come, is
 * filled up. That finds out about data which is used densely but in no order.
 *
 * Locks: umm_opencl.update, to look at the table.
 */
#include <string.h>

#include "prefetch.h"

#define ADDRESS_END (UINT64_C(1) << TABLE_ADDRESS_BITS)
#define BLOCK_MASK  (UMM_BLOCK_SIZE - 1)

#define SPANS_AT_ONCE 64 /* looked at while others wait for the table */

/* What is planned. */
struct plan {
	struct umm_span *spans;
	size_t n;
	size_t most;
};

/* Pages of one block. */
struct pages {
	uint64_t bits[UMM_BLOCK_PAGES / 64];
};

static void set_page(struct pages *pages, uint32_t i)
{
	pages->bits[i / 64] |= UINT64_C(1) << i % 64;
}

static bool has_page(const struct pages *pages, uint32_t i)
{
	return pages->bits[i / 64] >> i % 64 & 1;
}

static uint32_t page_of(uintptr_t addr)
{
	return (uint32_t)((addr & BLOCK_MASK) >> UMM_PAGE_SHIFT);
}

static void plan_add(struct plan *plan, uintptr_t start, size_t len)
{
	if (plan->n < plan->most)
		plan->spans[plan->n++] = (struct umm_span){ .start = start, .len = len };
}

/* Pages in the table that end where the span begins, up to most. */
static uint32_t pages_before_locked(struct umm_opencl *ocl, const struct umm_span *span,
				    uint32_t most)
{
	uint32_t n = 0;

	while (n < most && span->start > (n + 1) * UMM_PAGE_SIZE &&
	       table_get(&ocl->table, span->start - (n + 1) * UMM_PAGE_SIZE))
		n++;
	return n;
}

/* Where pages that the device does not have end, between start and end. */
static uintptr_t missing_until_locked(struct umm_opencl *ocl, uintptr_t start, uintptr_t end)
{
	uintptr_t at = start;

	while (at < end && !table_get(&ocl->table, at))
		at += UMM_PAGE_SIZE;
	return at;
}

/* Behind a span; `until` is where the next one begins. */
static void plan_behind_locked(struct umm_opencl *ocl, const struct umm_span *span, uintptr_t until,
			       struct plan *plan)
{
	uint32_t before = pages_before_locked(ocl, span, ocl->readahead);
	uintptr_t start = span->start + span->len, end = start + before * UMM_PAGE_SIZE;

	if (end > until)
		end = until;
	if (end > ADDRESS_END)
		return;
	end = missing_until_locked(ocl, start, end);
	if (end > start)
		plan_add(plan, start, end - start);
}

static void plan_sequence(struct umm_opencl *ocl, const struct umm_span *spans, size_t nspans,
			  struct plan *plan)
{
	size_t end;

	for (size_t i = 0; i < nspans; i = end) {
		end = nspans - i < SPANS_AT_ONCE ? nspans : i + SPANS_AT_ONCE;
		pthread_mutex_lock(&ocl->update);
		for (size_t k = i; k < end; k++)
			plan_behind_locked(ocl, &spans[k],
					   k + 1 < nspans ? spans[k + 1].start : UINTPTR_MAX, plan);
		pthread_mutex_unlock(&ocl->update);
	}
}

/* How many of size pages from first on; size is a power of two and divides first. */
static uint32_t count_pages(const struct pages *pages, uint32_t first, uint32_t size)
{
	uint32_t count = 0;

	if (size < 64)
		return (uint32_t)__builtin_popcountll(pages->bits[first / 64] >> first % 64 &
						      ((UINT64_C(1) << size) - 1));
	for (uint32_t w = first / 64; w < (first + size) / 64; w++)
		count += (uint32_t)__builtin_popcountll(pages->bits[w]);
	return count;
}

/* Fill up the largest dense subtree around page i, of most pages at most. Where it ends. */
static uint32_t fill_subtree(const struct pages *there, struct pages *wanted, uint32_t i,
			     uint32_t most)
{
	uint32_t best = 1, end;

	for (uint32_t size = 2; size <= most && size <= UMM_BLOCK_PAGES; size *= 2)
		if (2 * count_pages(there, i & ~(size - 1), size) > size)
			best = size;
	end = (i & ~(best - 1)) + best;
	for (uint32_t k = end - best; k < end; k++)
		if (!has_page(there, k))
			set_page(wanted, k);
	return end;
}

static void add_runs(const struct pages *wanted, uintptr_t block, struct plan *plan)
{
	uint32_t end;

	for (uint32_t i = 0; i < UMM_BLOCK_PAGES; i = end + 1) {
		for (end = i; end < UMM_BLOCK_PAGES && has_page(wanted, end); end++)
			;
		if (end > i)
			plan_add(plan, block + ((uintptr_t)i << UMM_PAGE_SHIFT),
				 (size_t)(end - i) << UMM_PAGE_SHIFT);
	}
}

/* The part of a span in a block, as pages first .. last. */
static bool part_of(const struct umm_span *span, uintptr_t block, uint32_t *first, uint32_t *last)
{
	uintptr_t start = span->start > block ? span->start : block;
	uintptr_t end = span->start + span->len;

	if (end > block + UMM_BLOCK_SIZE)
		end = block + UMM_BLOCK_SIZE;
	if (start >= end)
		return false;
	*first = page_of(start);
	*last = page_of(end - 1);
	return true;
}

/* Spans of one block; what the table has of it, and what comes. */
static void plan_block(struct umm_opencl *ocl, uintptr_t block, const struct umm_span *spans,
		       size_t nspans, struct plan *plan)
{
	struct pages there = { 0 }, wanted = { 0 };
	uint32_t first, last;

	pthread_mutex_lock(&ocl->update);
	table_pages(&ocl->table, block, there.bits);
	pthread_mutex_unlock(&ocl->update);
	for (size_t s = 0; s < nspans; s++)
		if (part_of(&spans[s], block, &first, &last))
			while (first <= last)
				set_page(&there, first++);
	for (size_t s = 0; s < nspans; s++)
		if (part_of(&spans[s], block, &first, &last))
			while (first <= last)
				first = fill_subtree(&there, &wanted, first, ocl->readahead);
	add_runs(&wanted, block, plan);
}

static void plan_density(struct umm_opencl *ocl, const struct umm_span *spans, size_t nspans,
			 struct plan *plan)
{
	uintptr_t block, done = 0;
	size_t end;

	for (size_t i = 0; i < nspans; i++)
		for (block = spans[i].start & ~BLOCK_MASK; block < spans[i].start + spans[i].len;
		     block += UMM_BLOCK_SIZE) {
			if (block < done)
				continue;
			done = block + UMM_BLOCK_SIZE;
			for (end = i; end < nspans && spans[end].start < done; end++)
				;
			plan_block(ocl, block, spans + i, end - i, plan);
		}
}

size_t prefetch_plan(struct umm_opencl *ocl, const struct umm_span *spans, size_t nspans,
		     struct umm_span *ahead, size_t most)
{
	struct plan plan = { .spans = ahead, .most = most };

	if (ocl->readahead) {
		plan_sequence(ocl, spans, nspans, &plan);
		plan_density(ocl, spans, nspans, &plan);
	}
	return plan.n;
}
