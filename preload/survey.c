/* SPDX-License-Identifier: MIT */
/*
 * Where every part of the managed memory is, for "umm map".
 *
 * A row is a piece of address space of one length, 2 MiB or the power of two from which on
 * all rows fit the sheet; a range of the books begins a row of its own. Pages of native memory
 * are looked up by mincore(2), those of libumm's by umm_query(). What the program unmaps meanwhile
 * counts as nothing.
 *
 * Static buffers: the engine's thread is the only caller, and nothing here may call malloc.
 */
#include "survey.h"

#include <sys/mman.h>
#include <time.h>

#include "policy.h"
#include "residency.h"
#include "sites.h"
#include "space.h"

#define PAGE  ((uintptr_t)4096)
#define BLOCK ((uintptr_t)2 << 20)

static uint64_t now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

/* start..end, within a block, is libumm's. */
static void count_managed(struct umm_ctx *ctx, struct sheet_row *row, uintptr_t start,
			  uintptr_t end)
{
	static struct umm_page_info info[POLICY_PAGES];
	size_t npages = (end - start) / PAGE;

	if (umm_query(ctx, start, npages, info))
		return;
	for (size_t i = 0; i < npages; i++) {
		row->host += info[i].state == UMM_PAGE_SYSTEM ||
			     info[i].state == UMM_PAGE_DUPLICATED ||
			     info[i].state == UMM_PAGE_EXCLUSIVE;
		row->device +=
			info[i].state == UMM_PAGE_DEVICE || info[i].state == UMM_PAGE_MIGRATING;
		row->lost += info[i].state == UMM_PAGE_POISONED;
	}
}

/* A part of a range that is within a block. */
static void count_part(struct umm_ctx *ctx, struct sheet_row *row, const struct space_range *part)
{
	if (part->kind == SPACE_MANAGED)
		count_managed(ctx, row, part->start, part->end);
	else if (part->kind != SPACE_WITHHELD)
		row->host += residency_part(part->start, part->end);
}

/* The row that this part belongs to, which may be the last one. NULL: there is no room. */
static struct sheet_row *row_of(struct sheet *sheet, const struct space_range *part,
				uintptr_t row_len)
{
	struct sheet_row *last = sheet->nrows ? &sheet->row[sheet->nrows - 1] : NULL;

	if (last && last->start + last->len == part->start && part->start % row_len)
		return last;
	if (sheet->nrows == SHEET_ROWS) {
		sheet->is_cut = true;
		return NULL;
	}
	sheet->row[sheet->nrows] = (struct sheet_row){ .start = part->start };
	return &sheet->row[sheet->nrows++];
}

static void survey(struct umm_ctx *ctx, struct sheet *sheet)
{
	uintptr_t row_len = BLOCK;
	struct space_range part;

	while (space_bytes(SPACE_COUNTED) / row_len > SHEET_ROWS / 2)
		row_len *= 2;
	for (uintptr_t at = 0; space_next(at, SPACE_COUNTED, &part); at = part.end) {
		uintptr_t end = (part.start & ~(BLOCK - 1)) + BLOCK;
		struct sheet_row *row;

		part.end = part.end < end ? part.end : end;
		row = row_of(sheet, &part, row_len);
		if (!row)
			return;
		row->len = part.end - row->start;
		count_part(ctx, row, &part);
		/* At the end of a block, for parts of it have them in common. */
		if (part.end == end)
			row->touched += policy_touches_take(part.start & ~(BLOCK - 1));
	}
}

void survey_answer(struct umm_ctx *ctx, struct sheet *sheet)
{
	uint32_t wanted = atomic_load(&sheet->wanted);

	if (wanted == atomic_load(&sheet->done))
		return;
	sheet->nrows = 0;
	sheet->is_cut = false;
	sheet->time_ns = now_ns();
	survey(ctx, sheet);
	sheet->nsites = sites_copy(sheet->site);
	atomic_store(&sheet->done, wanted); /* pairs with the load of who waits for it */
}
