/* SPDX-License-Identifier: MIT */
/*
 * How much of the program's managed memory is in host frames.
 *
 * Native memory counts whole, and so does what the program locked. Of memory that libumm manages,
 * or that a mapping of its grew by, mincore(2) tells which pages are mapped, in about a
 * millisecond for each GiB; since pages come back to such memory by libumm's hand only, its
 * counters carry the count on until the next one. What the program frees meanwhile is counted
 * still. Both bound the truth from above.
 *
 * Static buffers: the engine's thread is the only caller, and nothing here may call malloc.
 */
#include "residency.h"

#include <string.h>
#include <sys/mman.h>

#include "policy.h"
#include "room.h"
#include "space.h"

#define PAGE  ((uintptr_t)4096)
#define BLOCK ((uintptr_t)2 << 20)

enum { CHUNK_PAGES = 32 * POLICY_PAGES, FEW_PAGES = 64 };

static unsigned char chunk[CHUNK_PAGES];
static uint64_t managed, came_then, gone_then;

/* Pages that came to the host in libumm's blocks so far. */
static uint64_t came(struct umm_ctx *ctx)
{
	struct umm_stats stats = { .size = sizeof(stats) };
	uint64_t all;

	if (umm_ctx_stats(ctx, &stats))
		return came_then;
	all = stats.counter[UMM_COUNT_FAULT_EMPTY];
	for (unsigned i = 0; i < UMM_NR_CAUSES; i++)
		all += stats.counter[UMM_COUNT_TO_SYSTEM + i];
	return all;
}

/* Count what was looked up for start..; tell of each block that has pages. */
static uint64_t chunk_count(uintptr_t start, size_t npages)
{
	uint64_t all = 0;
	size_t next;

	for (size_t i = 0; i < npages; i = next) {
		unsigned n = 0;

		next = i + (BLOCK - (start + i * PAGE) % BLOCK) / PAGE;
		next = next < npages ? next : npages;
		for (size_t j = i; j < next; j++)
			n += chunk[j] & 1;
		if (n)
			policy_see((start + i * PAGE) & ~(BLOCK - 1));
		all += n;
	}
	return all;
}

static uint64_t count_managed(void)
{
	struct space_range range;
	/* What was moved aside is not mapped, but in the host; what of it is back counts twice. */
	uint64_t all = policy_probes();

	for (uintptr_t at = 0; space_next(at, SPACE_FILLED, &range); at = range.end) {
		if (range.end - range.start > CHUNK_PAGES * PAGE)
			range.end = range.start + CHUNK_PAGES * PAGE;
		/* A failure means that it was unmapped meanwhile. */
		if (!mincore((void *)range.start, range.end - range.start, chunk))
			all += chunk_count(range.start, (range.end - range.start) / PAGE);
	}
	return all;
}

static void see_native(void)
{
	struct space_range range;

	for (uintptr_t at = 0; space_next(at, 1 << SPACE_NATIVE, &range); at = range.end)
		for (uintptr_t base = range.start & ~(BLOCK - 1); base < range.end; base += BLOCK)
			policy_see(base);
}

/* Whoever counts says what room there is. @taken: room_taken() before it began. */
static uint64_t bound(uint64_t taken)
{
	room_counted(managed, taken);
	return space_bytes(1 << SPACE_NATIVE | 1 << SPACE_PINNED) / PAGE + managed;
}

/* What came since is added. */
static void carry_on(struct umm_ctx *ctx)
{
	uint64_t now = came(ctx);

	managed += now - came_then;
	came_then = now;
}

/*
 * What comes while page tables are read may have been seen there or not. Added to what was seen it
 * may count twice. Where that matters what was there before, and came since, may be nearer.
 */
uint64_t residency_count(struct umm_ctx *ctx)
{
	uint64_t taken = room_taken(), seen, before;

	carry_on(ctx);
	before = came_then;
	gone_then = space_gone();
	seen = count_managed();
	see_native();
	carry_on(ctx);
	seen += came_then - before;
	if (came_then - before <= FEW_PAGES || seen < managed)
		managed = seen;
	return bound(taken);
}

uint64_t residency_bound(struct umm_ctx *ctx)
{
	uint64_t taken = room_taken();

	carry_on(ctx);
	return bound(taken);
}

uint64_t residency_stale(void)
{
	return (space_gone() - gone_then) / PAGE;
}

void residency_managed(uint64_t npages)
{
	managed += npages;
	room_more(npages);
}

void residency_left(uint64_t npages)
{
	managed -= npages < managed ? npages : managed;
}

unsigned residency_part(uintptr_t start, uintptr_t end)
{
	unsigned char present[POLICY_PAGES];
	unsigned n = 0;

	if (mincore((void *)start, end - start, present))
		return 0;
	for (size_t i = 0; i < (end - start) / PAGE; i++)
		n += present[i] & 1;
	return n;
}

unsigned residency_block(uintptr_t base, unsigned char *present)
{
	struct space_range range;
	unsigned n = 0;

	memset(present, 0, POLICY_PAGES);
	for (uintptr_t at = base; space_next(at, SPACE_USED, &range) && range.start < base + BLOCK;
	     at = range.end) {
		size_t first = (range.start - base) / PAGE;

		if (range.end > base + BLOCK)
			range.end = base + BLOCK;
		if (mincore((void *)range.start, range.end - range.start, present + first))
			memset(present + first, 0, (range.end - range.start) / PAGE);
	}
	for (unsigned i = 0; i < POLICY_PAGES; i++) {
		present[i] &= 1;
		n += present[i];
	}
	return n;
}

void residency_reset(void)
{
	managed = came_then = gone_then = 0;
}
