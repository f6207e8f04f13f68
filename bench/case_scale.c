/* SPDX-License-Identifier: MIT */
/*
 * Much address space of which little is used: 100 000 ranges, 1 TiB reserved, 64 GiB of which one
 * page in each block is touched. A fault there against one in a range of 1 GiB, where as many
 * pages are spread evenly; the same of a bare program, since pages that lie far apart make the
 * kernel's faults longer, too; and the books for it, in percent of what is allowed: 0.2 % of the
 * memory that was touched, and 4 KiB for each block of 2 MiB in which a page was.
 *
 * The ranges are attached piece by piece and lie side by side, so that they are no mappings of
 * their own: the kernel allows 65530 of those.
 */
#include <errno.h>
#include <stdlib.h>
#include <sys/mman.h>

#include "bench.h"
#include "floor.h"
#include "ours.h"
#include "touches.h"

#define GIB	    ((size_t)1 << 30)
#define RANGES	    100000
#define RANGE_BYTES (4 * UMM_PAGE_SIZE)

enum scale_variant {
	SCALE_RANGES,
	SCALE_RESERVED,
	SCALE_SPARSE,
	SCALE_BOOKS = 4, /* or'ed in */
	SCALE_BARE = 8,	 /* likewise: a bare program in both */
};

/* A context, or a bare program, with memory of which some pages are used. */
struct side {
	struct floor_uffd *bare;
	struct umm_ctx *ctx;
	struct ref_device *device;
	struct touches touches;
	struct umm_span *spans; /* the pages, one by one */
	char *memory;
	size_t nranges, len; /* attached; len 0: of umm_alloc() */
	uint64_t books;	     /* before there was memory */
};

struct scale_state {
	struct bench_env *env;
	struct side ours, theirs;
};

static int side_books(struct bench_env *env, struct side *side, uint64_t *bytes)
{
	struct umm_stats stats = { .size = sizeof(stats) };
	int ret = umm_ctx_stats(side->ctx, &stats);

	*bytes = stats.bookkeeping_bytes;
	return ret ? bench_note(env, ret, "umm_ctx_stats") : 0;
}

static int side_attach(struct bench_env *env, struct side *side)
{
	side->len = side->nranges * RANGE_BYTES;
	side->memory = machine_map(side->len, MADV_NOHUGEPAGE, false);
	if (!side->memory)
		return bench_note(env, -ENOMEM, "memory for the ranges");
	for (size_t i = 0; i < side->nranges; i++) {
		int ret = umm_attach(side->ctx, side->memory + i * RANGE_BYTES, RANGE_BYTES);

		if (ret)
			return bench_note(env, ret, "umm_attach of range %zu: %s", i,
					  umm_strerror(ret));
	}
	return 0;
}

static int side_touches(struct bench_env *env, struct side *side, size_t len, size_t npages)
{
	side->touches = (struct touches){ .npages = npages,
					  .stride = len / npages & ~(UMM_PAGE_SIZE - 1),
					  .cpu = machine_first_cpu(env->machine) };
	return touches_init(&side->touches);
}

/* Its server copies each page into a new one, as libumm's does with a page that comes alone. */
static int side_open_bare(struct bench_env *env, struct side *side, size_t len, size_t npages)
{
	struct floor_uffd_options options = { .npages = npages };
	int ret = side_touches(env, side, len, npages);

	if (ret)
		return ret;
	options.apart = side->touches.stride;
	options.cpu = side->touches.cpu;
	ret = floor_uffd_open(&options, &side->bare);
	if (ret == -EOPNOTSUPP || ret == -EPERM)
		return bench_note(env, BENCH_SKIP, "the bare program may not use userfaultfd here");
	return ret ? bench_note(env, ret, "the bare userfaultfd program") : 0;
}

/* len: what to allocate; 0: ranges are attached. */
static int side_open_ours(struct bench_env *env, struct side *side, size_t len, size_t npages)
{
	void *memory;
	int ret = ours_ctx(env, &side->ctx);

	if (!ret)
		ret = ours_device(env, side->ctx, npages * UMM_PAGE_SIZE, true, &side->device);
	if (!ret)
		ret = side_books(env, side, &side->books);
	if (ret)
		return ret;
	if (len) {
		ret = umm_alloc(side->ctx, len, UMM_ALLOC_SMALL_PAGES, &memory);
		if (ret)
			return bench_note(env, ret, "umm_alloc: %s", umm_strerror(ret));
		side->memory = memory;
	} else {
		ret = side_attach(env, side);
		len = side->len;
	}
	side->spans = calloc(npages, sizeof(*side->spans));
	if (!ret)
		ret = side_touches(env, side, len, npages);
	if (ret || !side->spans)
		return ret ? ret : -ENOMEM;
	touches_stamp(&side->touches, side->memory);
	for (size_t i = 0; i < npages; i++)
		side->spans[i] =
			(struct umm_span){ (uintptr_t)side->memory + i * side->touches.stride,
					   UMM_PAGE_SIZE };
	return 0;
}

static int scale_setup(struct bench_env *env, const struct bench_case *bcase, void **state)
{
	struct scale_state *s = calloc(1, sizeof(*s));
	size_t npages = env->fault_pages, len = 0;
	int ret;

	*state = s;
	if (!s)
		return -ENOMEM;
	s->env = env;
	switch (bcase->variant & ~(SCALE_BOOKS | SCALE_BARE)) {
	case SCALE_RANGES:
		s->ours.nranges = env->quick ? RANGES / 50 : RANGES;
		break;
	case SCALE_RESERVED:
		len = 1024 * GIB;
		break;
	default:
		len = (env->quick ? 1 : 64) * GIB;
		npages = len / UMM_BLOCK_SIZE;
	}
	machine_warm(8 * npages * UMM_PAGE_SIZE, MADV_NOHUGEPAGE);
	if (bcase->variant & SCALE_BARE) {
		len = len ?: s->ours.nranges * RANGE_BYTES;
		ret = side_open_bare(env, &s->ours, len, npages);
		return ret ? ret : side_open_bare(env, &s->theirs, GIB, npages);
	}
	ret = side_open_ours(env, &s->ours, len, npages);
	if (!ret && !(bcase->variant & SCALE_BOOKS))
		ret = side_open_ours(env, &s->theirs, GIB, npages);
	return ret;
}

static long side_move(struct side *side, struct umm_devmem *dst)
{
	struct umm_migrate_request request = { .size = sizeof(request),
					       .spans = side->spans,
					       .nspans = side->touches.npages,
					       .dst = dst };

	return umm_migrate_spans(side->ctx, &request, NULL);
}

static int side_out(struct bench_env *env, struct side *side)
{
	long moved = side_move(side, side->device->mem);

	if (moved == (long)side->touches.npages)
		return 0;
	return bench_note(env, moved < 0 ? (int)moved : -EIO, "%ld of %zu pages went out", moved,
			  side->touches.npages);
}

static int side_run_bare(struct bench_env *env, struct side *side, struct series *out)
{
	int ret = floor_uffd_reset(side->bare);

	if (ret)
		return bench_note(env, ret, "the bare userfaultfd program");
	ret = touches_run(env, &side->touches, floor_uffd_memory(side->bare), out);
	floor_uffd_stop(side->bare);
	return ret;
}

static int side_run(struct bench_env *env, struct side *side, struct series *out)
{
	int ret;

	if (side->bare)
		return side_run_bare(env, side, out);
	ret = side_out(env, side);

	return ret ? ret : touches_run(env, &side->touches, side->memory, out);
}

static int scale_ours(void *state, struct series *out)
{
	struct scale_state *s = state;

	return side_run(s->env, &s->ours, out);
}

static int scale_theirs(void *state, struct series *out)
{
	struct scale_state *s = state;

	return side_run(s->env, &s->theirs, out);
}

static int scale_books(void *state, struct series *out)
{
	struct scale_state *s = state;
	struct side *side = &s->ours;
	size_t npages = side->touches.npages, nblocks = npages;
	uint64_t books = 0;
	int ret = side_out(s->env, side);

	if (side->touches.stride < UMM_BLOCK_SIZE)
		nblocks = (npages * side->touches.stride + UMM_BLOCK_SIZE - 1) / UMM_BLOCK_SIZE;
	if (!ret)
		ret = side_books(s->env, side, &books);
	if (ret)
		return ret;
	books = books > side->books ? books - side->books : 0;
	series_push(out,
		    100 * (double)books /
			    (0.002 * (double)(npages * UMM_PAGE_SIZE) + 4096.0 * (double)nblocks));
	bench_note(s->env, 0, "%.2f MiB of books for %zu pages in %zu blocks",
		   (double)books / (double)BENCH_MIB, npages, nblocks);
	return side_move(side, NULL) == (long)npages ? 0 : bench_note(s->env, -EIO, "coming home");
}

static void side_close(struct side *side)
{
	floor_uffd_close(side->bare);
	ref_destroy(side->device);
	umm_ctx_put(side->ctx);
	if (side->len)
		machine_unmap(side->memory, side->len);
	touches_fini(&side->touches);
	free(side->spans);
}

static void scale_teardown(void *state)
{
	struct scale_state *s = state;

	if (!s)
		return;
	side_close(&s->ours);
	side_close(&s->theirs);
	free(s);
}

#define SCALE_CASE(case_name, text, which)                                                     \
	{                                                                                      \
		.name = (case_name), .summary = (text), .against = "one range of 1 GiB",       \
		.unit = "us", .kind = BENCH_COST, .goal = 1.1, .pairs = 5, .variant = (which), \
		.setup = scale_setup, .ours = scale_ours, .theirs = scale_theirs,              \
		.teardown = scale_teardown,                                                    \
	}

#define BARE_CASE(case_name, which)                                                        \
	{                                                                                  \
		.name = (case_name), .summary = "the same of a bare program, UFFDIO_COPY", \
		.against = "bare, in 1 GiB", .unit = "us", .kind = BENCH_COST, .pairs = 5, \
		.variant = (which) | SCALE_BARE, .setup = scale_setup, .ours = scale_ours, \
		.theirs = scale_theirs, .teardown = scale_teardown,                        \
	}

#define BOOKS_CASE(case_name, which)                                                         \
	{                                                                                    \
		.name = (case_name), .summary = "its books, in percent of what is allowed",  \
		.unit = "%", .kind = BENCH_LIMIT, .goal = 100, .pairs = 3,                   \
		.variant = (which) | SCALE_BOOKS, .setup = scale_setup, .ours = scale_books, \
		.teardown = scale_teardown,                                                  \
	}

const struct bench_case case_scale[] = {
	SCALE_CASE("scale/ranges", "CPU read fault in one of 100000 ranges", SCALE_RANGES),
	BARE_CASE("scale/ranges-bare", SCALE_RANGES),
	BOOKS_CASE("scale/ranges-books", SCALE_RANGES),
	SCALE_CASE("scale/1tib", "in 1 TiB that is reserved", SCALE_RESERVED),
	BARE_CASE("scale/1tib-bare", SCALE_RESERVED),
	BOOKS_CASE("scale/1tib-books", SCALE_RESERVED),
	SCALE_CASE("scale/sparse", "in 64 GiB, one page in each block used", SCALE_SPARSE),
	BARE_CASE("scale/sparse-bare", SCALE_SPARSE),
	BOOKS_CASE("scale/sparse-books", SCALE_SPARSE),
	{ 0 },
};
