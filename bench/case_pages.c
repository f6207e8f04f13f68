/* SPDX-License-Identifier: MIT */
/*
 * Much memory, 4 KiB at a time: every other page of small ones goes to the reference device and
 * back, against memcpy() of the same bytes page by page, and against a bare program that takes
 * pages from the CPU in the same way, which is all that the kernel leaves to be had; and a CPU
 * walks memory that lives on the device from its first page to its last, a load from each, against
 * memcpy() of as much.
 *
 * The device copies inline, one thread, like memcpy().
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "bench.h"
#include "floor.h"
#include "ours.h"
#include "touches.h"

enum pages_variant {
	PAGES_OUT,
	PAGES_BACK,
	PAGES_WALK,
	PAGES_BARE = 4, /* or'ed in */
};

struct pages_state {
	struct bench_env *env;
	int variant;
	struct umm_ctx *ctx;
	struct ref_device *device;
	struct touches touches; /* the pages that move */
	struct umm_span *spans;
	size_t nspans;
	char *memory;
	struct floor_copy *floor;
	struct floor_move *bare;
};

static size_t pages_bytes(const struct pages_state *s)
{
	return s->touches.npages * UMM_PAGE_SIZE;
}

static int pages_memory(struct pages_state *s)
{
	bool walk = s->variant == PAGES_WALK;
	void *memory;
	int ret = umm_alloc(s->ctx, s->touches.npages * s->touches.stride,
			    walk ? 0 : UMM_ALLOC_SMALL_PAGES, &memory);

	if (ret)
		return bench_note(s->env, ret, "umm_alloc: %s", umm_strerror(ret));
	s->memory = memory;
	if (!walk) /* what stays at home is there, too */
		memset(s->memory, 1, s->touches.npages * s->touches.stride);
	touches_stamp(&s->touches, s->memory);
	s->nspans = walk ? 1 : s->touches.npages;
	s->spans = calloc(s->nspans, sizeof(*s->spans));
	if (!s->spans)
		return -ENOMEM;
	for (size_t i = 0; i < s->nspans; i++)
		s->spans[i] = (struct umm_span){ (uintptr_t)s->memory + i * s->touches.stride,
						 pages_bytes(s) / s->nspans };
	return 0;
}

static int pages_setup(struct bench_env *env, const struct bench_case *bcase, void **state)
{
	struct pages_state *s = calloc(1, sizeof(*s));
	bool walk = bcase->variant == PAGES_WALK, bare = bcase->variant & PAGES_BARE;
	size_t len = walk ? env->bulk_bytes : env->bulk_bytes / 16;
	int ret;

	*state = s;
	if (!s)
		return -ENOMEM;
	s->env = env;
	s->variant = bcase->variant & ~PAGES_BARE;
	s->touches.npages = len / UMM_PAGE_SIZE;
	s->touches.stride = walk ? UMM_PAGE_SIZE : 2 * UMM_PAGE_SIZE;
	ret = ours_warm_bulk(env, len);
	if (!ret && bare && floor_move_open(len, &s->bare))
		ret = bench_note(env, BENCH_SKIP, "this kernel has no UFFDIO_MOVE (6.8)");
	if (!ret && !bare &&
	    (walk ? floor_copy_open(len, &s->floor) : floor_copy_open_scattered(len, &s->floor)))
		ret = bench_note(env, -ENOMEM, "buffers for memcpy");
	if (!ret)
		ret = ours_ctx(env, &s->ctx);
	if (!ret)
		ret = ours_device(env, s->ctx, len, true, &s->device);
	return ret ? ret : pages_memory(s);
}

static long pages_move(struct pages_state *s, struct umm_devmem *dst)
{
	struct umm_migrate_request request = {
		.size = sizeof(request), .spans = s->spans, .nspans = s->nspans, .dst = dst
	};

	return umm_migrate_spans(s->ctx, &request, NULL);
}

/* Every page in order; how many were wrong. */
static size_t pages_walk(const struct pages_state *s)
{
	size_t end = s->touches.npages * s->touches.stride, at, wrong = 0;

	for (at = 0; at < end; at += s->touches.stride)
		wrong += *(const volatile size_t *)(s->memory + at) != at;
	return wrong;
}

static int pages_ours(void *state, struct series *out)
{
	struct pages_state *s = state;
	long npages = (long)s->touches.npages, moved, came = npages;
	uint64_t begin, gone, back;
	size_t wrong = 0;

	begin = machine_now();
	moved = pages_move(s, s->device->mem);
	gone = machine_now();
	if (s->variant == PAGES_WALK)
		wrong = pages_walk(s);
	else
		came = pages_move(s, NULL);
	back = machine_now();
	if (moved != npages || came != npages)
		return bench_note(s->env, -EIO, "of %ld pages %ld went out and %ld came back",
				  npages, moved, came);
	wrong += pages_walk(s);
	if (wrong)
		return bench_note(s->env, -EIO, "%zu pages came back with wrong data", wrong);
	series_push(out, ours_gib_per_s(pages_bytes(s),
					s->variant == PAGES_OUT ? gone - begin : back - gone));
	return 0;
}

static int theirs_once(struct pages_state *s)
{
	if (s->bare)
		return floor_move_run(s->bare);
	floor_copy_run(s->floor);
	return 0;
}

static int pages_theirs(void *state, struct series *out)
{
	struct pages_state *s = state;
	uint64_t begin, between, end;
	int ret;

	begin = machine_now();
	ret = theirs_once(s);
	between = machine_now();
	ret = ret ?: theirs_once(s);
	end = machine_now();
	if (ret)
		return bench_note(s->env, ret, "UFFDIO_MOVE");
	series_push(out, ours_gib_per_s(pages_bytes(s),
					s->variant == PAGES_OUT ? between - begin : end - between));
	return 0;
}

static void pages_teardown(void *state)
{
	struct pages_state *s = state;

	if (!s)
		return;
	floor_copy_close(s->floor);
	floor_move_close(s->bare);
	ref_destroy(s->device);
	umm_ctx_put(s->ctx);
	free(s->spans);
	free(s);
}

#define PAGES_CASE(case_name, text, whom, target, count, which)                              \
	{                                                                                    \
		.name = (case_name), .summary = (text), .against = (whom), .unit = "GiB/s",  \
		.kind = BENCH_SPEED, .goal = (target), .pairs = (count), .variant = (which), \
		.setup = pages_setup, .ours = pages_ours, .theirs = pages_theirs,            \
		.teardown = pages_teardown,                                                  \
	}

const struct bench_case case_pages[] = {
	PAGES_CASE("bulk/scattered-out", "every other page of small ones to the reference device",
		   "memcpy page by page", 0.5, 10, PAGES_OUT),
	PAGES_CASE("bulk/scattered-back", "the same pages brought home", "memcpy page by page", 0.5,
		   10, PAGES_BACK),
	PAGES_CASE("bulk/scattered-out-bare",
		   "every other page of small ones to the reference device",
		   "bare moves and memcpy", 0, 10, PAGES_OUT | PAGES_BARE),
	PAGES_CASE("bulk/scattered-back-bare", "the same pages brought home",
		   "bare moves and memcpy", 0, 10, PAGES_BACK | PAGES_BARE),
	PAGES_CASE("walk/sequential", "a CPU reads one word a page of memory on the device",
		   "memcpy of as much", 0.8, 3, PAGES_WALK),
	{ 0 },
};
