/* SPDX-License-Identifier: MIT */
/*
 * What libumm keeps for itself: bookkeeping of memory that is on a device, as a share of
 * it, and what reserving 1 TiB takes. The goals are figures, not ratios; the time to reserve
 * is shown beside that of a bare mmap().
 *
 * The memory that reserving takes is the sum of two views: the process's (resident pages
 * and page tables) and the library's own (bookkeeping_bytes). Books that are resident count
 * twice, books that the library claims but has not touched count too.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "bench.h"
#include "ours.h"

#define TIB ((size_t)1 << 40)

enum books_variant {
	BOOKS_SHARE,
	BOOKS_RESERVE_TIME,
	BOOKS_RESERVE_MEMORY,
};

struct books_state {
	struct bench_env *env;
	size_t len;
	struct umm_ctx *ctx;
	struct ref_device *device;
};

static int books_setup(struct bench_env *env, const struct bench_case *bcase, void **state)
{
	struct books_state *s = calloc(1, sizeof(*s));
	int ret;

	*state = s;
	if (!s)
		return -ENOMEM;
	s->env = env;
	s->len = bcase->variant == BOOKS_SHARE ? env->bulk_bytes : TIB;
	ret = ours_ctx(env, &s->ctx);
	if (ret)
		return ret;
	return ours_device(env, s->ctx, env->bulk_bytes, true, &s->device);
}

static int books_bytes(struct books_state *s, uint64_t *bytes)
{
	struct umm_stats stats = { .size = sizeof(stats) };
	int ret = umm_ctx_stats(s->ctx, &stats);

	if (ret)
		return bench_note(s->env, ret, "umm_ctx_stats");
	*bytes = stats.bookkeeping_bytes;
	return 0;
}

static int share_ours(void *state, struct series *out)
{
	struct books_state *s = state;
	uint64_t bytes = 0;
	void *memory;
	long moved;
	int ret;

	ret = umm_alloc(s->ctx, s->len, 0, &memory);
	if (ret)
		return bench_note(s->env, ret, "umm_alloc");
	memset(memory, 1, s->len);
	moved = umm_migrate_to_device(s->ctx, s->device->mem, memory, s->len);
	if (moved != (long)(s->len / UMM_PAGE_SIZE))
		ret = bench_note(s->env, moved < 0 ? (int)moved : -EIO, "migration");
	if (ret == 0)
		ret = books_bytes(s, &bytes);
	if (ret == 0)
		series_push(out, 100.0 * (double)bytes / (double)s->len);
	umm_free(s->ctx, memory);
	return ret;
}

/* Resident pages and page tables of the process, in bytes. */
static int footprint(struct books_state *s, uint64_t *bytes)
{
	unsigned long kib, rss = 0, tables = 0;
	char line[128];
	FILE *file = fopen("/proc/self/smaps_rollup", "re");

	while (file && fgets(line, sizeof(line), file))
		if (sscanf(line, "Rss: %lu", &kib) == 1)
			rss = kib;
	if (file)
		fclose(file);
	file = fopen("/proc/self/status", "re");
	while (file && fgets(line, sizeof(line), file))
		if (sscanf(line, "VmPTE: %lu", &kib) == 1)
			tables = kib;
	if (file)
		fclose(file);
	if (!rss || !tables)
		return bench_note(s->env, -EIO, "reading /proc/self/smaps_rollup");
	*bytes = (rss + tables) * 1024;
	return 0;
}

static int time_ours(void *state, struct series *out)
{
	struct books_state *s = state;
	uint64_t begin = machine_now();
	uint64_t end;
	void *memory;
	int ret;

	ret = umm_alloc(s->ctx, s->len, 0, &memory);
	end = machine_now();
	if (ret)
		return bench_note(s->env, ret, "umm_alloc of 1 TiB");
	series_push(out, (double)(end - begin) / 1e6);
	return umm_free(s->ctx, memory);
}

static int time_theirs(void *state, struct series *out)
{
	struct books_state *s = state;
	uint64_t begin = machine_now();
	void *memory = machine_map(s->len, MADV_HUGEPAGE, false);

	series_push(out, (double)(machine_now() - begin) / 1e6);
	machine_unmap(memory, s->len);
	return memory ? 0 : bench_note(s->env, -ENOMEM, "mmap of 1 TiB");
}

static int memory_ours(void *state, struct series *out)
{
	struct books_state *s = state;
	uint64_t before = 0, after = 0, books_before = 0, books_after = 0, grown = 0;
	void *memory;
	int ret;

	ret = footprint(s, &before) ?: books_bytes(s, &books_before);
	if (ret)
		return ret;
	ret = umm_alloc(s->ctx, s->len, 0, &memory);
	if (ret)
		return bench_note(s->env, ret, "umm_alloc of 1 TiB");
	ret = footprint(s, &after) ?: books_bytes(s, &books_after);
	umm_free(s->ctx, memory);
	if (ret)
		return ret;
	if (after > before)
		grown += after - before;
	if (books_after > books_before)
		grown += books_after - books_before;
	series_push(out, (double)grown / (double)BENCH_MIB);
	return 0;
}

static void books_teardown(void *state)
{
	struct books_state *s = state;

	if (!s)
		return;
	ref_destroy(s->device);
	umm_ctx_put(s->ctx);
	free(s);
}

const struct bench_case case_books[] = {
	{
		.name = "books",
		.summary = "bookkeeping of memory that is on a device, in percent of it",
		.unit = "%",
		.kind = BENCH_LIMIT,
		.goal = 0.3,
		.pairs = 3,
		.variant = BOOKS_SHARE,
		.setup = books_setup,
		.ours = share_ours,
		.teardown = books_teardown,
	},
	{
		.name = "reserve/1tib-time",
		.summary = "umm_alloc of 1 TiB",
		.against = "mmap, MADV_HUGEPAGE",
		.unit = "ms",
		.kind = BENCH_LIMIT,
		.goal = 1,
		.pairs = 100,
		.variant = BOOKS_RESERVE_TIME,
		.setup = books_setup,
		.ours = time_ours,
		.theirs = time_theirs,
		.teardown = books_teardown,
	},
	{
		.name = "reserve/1tib-memory",
		.summary = "memory that this takes: resident, page tables, and bookkeeping",
		.unit = "MiB",
		.kind = BENCH_LIMIT,
		.goal = 1,
		.pairs = 10,
		.variant = BOOKS_RESERVE_MEMORY,
		.setup = books_setup,
		.ours = memory_ours,
		.teardown = books_teardown,
	},
	{ 0 },
};
