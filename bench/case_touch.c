/* SPDX-License-Identifier: MIT */
/*
 * First touch of managed memory that no device ever wanted, against the same of plain
 * memory: a write to every 4 KiB page. A context and a device exist, and never meet the
 * memory. Allocating and freeing are not timed. What is asked for is a difference below two
 * in a hundred, far less than the spread of single runs, hence the many short pairs.
 */
#include <errno.h>
#include <stdlib.h>
#include <sys/mman.h>

#include "bench.h"
#include "ours.h"

enum touch_variant {
	TOUCH_SMALL,
	TOUCH_HUGE,
};

struct touch_state {
	struct bench_env *env;
	bool huge;
	size_t len;
	struct umm_ctx *ctx;
	struct ref_device *device;
};

static int touch_advice(const struct touch_state *s)
{
	return s->huge ? MADV_HUGEPAGE : MADV_NOHUGEPAGE;
}

static int touch_setup(struct bench_env *env, const struct bench_case *bcase, void **state)
{
	struct touch_state *s = calloc(1, sizeof(*s));
	int ret;

	*state = s;
	if (!s)
		return -ENOMEM;
	s->env = env;
	s->huge = bcase->variant == TOUCH_HUGE;
	s->len = env->touch_bytes;
	machine_warm(8 * s->len, touch_advice(s));
	ret = ours_ctx(env, &s->ctx);
	if (ret)
		return ret;
	return ours_device(env, s->ctx, UMM_BLOCK_SIZE, true, &s->device);
}

static void touch_all(const struct touch_state *s, char *memory, struct series *out)
{
	uint64_t begin = machine_now();
	size_t i;

	for (i = 0; i < s->len; i += UMM_PAGE_SIZE)
		((volatile char *)memory)[i] = 1;
	series_push(out, (double)(machine_now() - begin) / 1e6);
}

static int touch_ours(void *state, struct series *out)
{
	struct touch_state *s = state;
	void *memory;
	int ret;

	ret = umm_alloc(s->ctx, s->len, s->huge ? 0 : UMM_ALLOC_SMALL_PAGES, &memory);
	if (ret)
		return bench_note(s->env, ret, "umm_alloc");
	touch_all(s, memory, out);
	ret = umm_free(s->ctx, memory);
	return ret ? bench_note(s->env, ret, "umm_free") : 0;
}

static int touch_theirs(void *state, struct series *out)
{
	struct touch_state *s = state;
	char *memory = machine_map(s->len, touch_advice(s), false);

	if (!memory)
		return bench_note(s->env, -ENOMEM, "mmap");
	touch_all(s, memory, out);
	machine_unmap(memory, s->len);
	return 0;
}

static void touch_teardown(void *state)
{
	struct touch_state *s = state;

	if (!s)
		return;
	ref_destroy(s->device);
	umm_ctx_put(s->ctx);
	free(s);
}

const struct bench_case case_touch[] = {
	{
		.name = "touch/4k",
		.summary = "first touch of memory that no device wants, small pages",
		.against = "mmap, MADV_NOHUGEPAGE",
		.unit = "ms",
		.kind = BENCH_COST,
		.goal = 1.02,
		.pairs = 100,
		.variant = TOUCH_SMALL,
		.setup = touch_setup,
		.ours = touch_ours,
		.theirs = touch_theirs,
		.teardown = touch_teardown,
	},
	{
		.name = "touch/huge",
		.summary = "the same, huge pages",
		.against = "mmap, MADV_HUGEPAGE",
		.unit = "ms",
		.kind = BENCH_COST,
		.goal = 1.02,
		.pairs = 100,
		.variant = TOUCH_HUGE,
		.setup = touch_setup,
		.ours = touch_ours,
		.theirs = touch_theirs,
		.teardown = touch_teardown,
	},
	{ 0 },
};
