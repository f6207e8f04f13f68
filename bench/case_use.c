/* SPDX-License-Identifier: MIT */
/*
 * Use of managed memory that no device ever wanted, against the same use of plain memory: the
 * STREAM triad over three arrays in huge pages, and read() of a file in the page cache into
 * small pages. The memory is new in each run, and touched before the time counts. As in
 * case_touch.c a context and a device exist, and what is asked for is less than the spread of runs.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "bench.h"
#include "ours.h"

#define READ_BYTES BENCH_MIB /* by each read() */

enum use_variant {
	USE_TRIAD,
	USE_READ,
};

struct use_state {
	struct bench_env *env;
	int variant;
	size_t len; /* whole blocks */
	int fd;	    /* a file that long */
	struct umm_ctx *ctx;
	struct ref_device *device;
};

static int file_make(struct use_state *s, int *fd)
{
	char page[UMM_PAGE_SIZE];

	*fd = memfd_create("umm-bench", MFD_CLOEXEC);
	if (*fd < 0)
		return bench_note(s->env, -errno, "memfd_create");
	memset(page, 1, sizeof(page));
	for (size_t at = 0; at < s->len; at += sizeof(page))
		if (write(*fd, page, sizeof(page)) != (ssize_t)sizeof(page))
			return bench_note(s->env, -ENOSPC, "writing %zu bytes", s->len);
	return 0;
}

static int use_setup(struct bench_env *env, const struct bench_case *bcase, void **state)
{
	struct use_state *s = calloc(1, sizeof(*s));
	int ret;

	*state = s;
	if (!s)
		return -ENOMEM;
	s->env = env;
	s->variant = bcase->variant;
	s->len = 3 * (env->touch_bytes / 2);
	s->fd = -1;
	ret = file_make(s, &s->fd);
	if (ret)
		return ret;
	machine_warm(4 * s->len, s->variant == USE_TRIAD ? MADV_HUGEPAGE : MADV_NOHUGEPAGE);
	ret = ours_ctx(env, &s->ctx);
	return ret ? ret : ours_device(env, s->ctx, UMM_BLOCK_SIZE, true, &s->device);
}

static void triad(const struct use_state *s, char *memory)
{
	size_t n = s->len / 3 / sizeof(double);
	double *restrict a = (double *)memory;
	const double *restrict b = a + n, *restrict c = b + n;

	for (size_t i = 0; i < n; i++)
		a[i] = b[i] + 3 * c[i];
}

static int read_all(const struct use_state *s, char *memory)
{
	for (size_t at = 0; at < s->len; at += READ_BYTES) {
		size_t n = s->len - at < READ_BYTES ? s->len - at : READ_BYTES;

		if (pread(s->fd, memory + at, n, (off_t)at) != (ssize_t)n)
			return bench_note(s->env, -EIO, "read of a memfd");
	}
	return 0;
}

static int use(struct use_state *s, char *memory, struct series *out)
{
	uint64_t begin;
	int ret = 0;

	memset(memory, 0, s->len);
	begin = machine_now();
	if (s->variant == USE_TRIAD)
		triad(s, memory);
	else
		ret = read_all(s, memory);
	series_push(out, (double)(machine_now() - begin) / 1e6);
	if (!ret && memory[s->len / 3 - 1] != (s->variant == USE_READ))
		ret = bench_note(s->env, -EIO, "wrong data");
	return ret;
}

static int use_ours(void *state, struct series *out)
{
	struct use_state *s = state;
	void *memory;
	int ret, err;

	ret = umm_alloc(s->ctx, s->len, s->variant == USE_READ ? UMM_ALLOC_SMALL_PAGES : 0,
			&memory);
	if (ret)
		return bench_note(s->env, ret, "umm_alloc: %s", umm_strerror(ret));
	ret = use(s, memory, out);
	err = umm_free(s->ctx, memory);
	return ret ? ret : err;
}

static int use_theirs(void *state, struct series *out)
{
	struct use_state *s = state;
	char *memory = machine_map(s->len, s->variant == USE_READ ? MADV_NOHUGEPAGE : MADV_HUGEPAGE,
				   false);
	int ret;

	if (!memory)
		return bench_note(s->env, -ENOMEM, "mmap");
	ret = use(s, memory, out);
	machine_unmap(memory, s->len);
	return ret;
}

static void use_teardown(void *state)
{
	struct use_state *s = state;

	if (!s)
		return;
	ref_destroy(s->device);
	umm_ctx_put(s->ctx);
	if (s->fd >= 0)
		close(s->fd);
	free(s);
}

#define USE_CASE(case_name, text, which)                                                 \
	{                                                                                \
		.name = (case_name), .summary = (text), .against = "mmap", .unit = "ms", \
		.kind = BENCH_COST, .goal = 1.02, .pairs = 40, .variant = (which),       \
		.setup = use_setup, .ours = use_ours, .theirs = use_theirs,              \
		.teardown = use_teardown,                                                \
	}

const struct bench_case case_use[] = {
	USE_CASE("use/triad", "STREAM triad in memory that no device wants", USE_TRIAD),
	USE_CASE("use/read", "read() from the page cache into such memory", USE_READ),
	{ 0 },
};
