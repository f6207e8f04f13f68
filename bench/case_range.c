/* SPDX-License-Identifier: MIT */
/*
 * What drivers ask most: a range of resident memory for a device's page table, against reading
 * the kernel's page map for as many pages; and how long a change takes to announce when ten
 * thousand interval notifiers are registered of which one is concerned, against one in all.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "bench.h"
#include "ours.h"

#define NOTIFIERS     10000
#define INVALIDATIONS 2000 /* of a run */

enum range_variant {
	RANGE_FAULT,
	RANGE_SNAPSHOT,
	RANGE_NOTIFIERS,
	RANGE_HUGE = 4, /* or'ed in */
};

/* A context with memory that was on a device and is home again. */
struct side {
	struct umm_ctx *ctx;
	struct ref_device *device;
	char *memory;
	uint64_t heard;
};

struct range_state {
	struct bench_env *env;
	int variant;
	bool huge;
	size_t len;
	struct side many, one;
	struct umm_notifier *notifier;
	uint64_t *entries;
	int pagemap;
};

static int hear(void *priv, const struct umm_notifier_range *range)
{
	(void)range;
	++*(uint64_t *)priv;
	return 0;
}

/* Page by page, from the first page of memory on; what they hear is counted together. */
static int watch(struct range_state *s, struct side *side, size_t nnotifiers, size_t len)
{
	static const struct umm_notifier_ops ops = { .size = sizeof(ops), .invalidate = hear };

	for (size_t i = 0; i < nnotifiers; i++) {
		struct umm_span span = { (uintptr_t)side->memory + i * UMM_PAGE_SIZE, len };
		int ret = umm_notifier_insert(side->ctx, &span, &ops, &side->heard, &s->notifier);

		if (ret)
			return bench_note(s->env, ret, "umm_notifier_insert: %s",
					  umm_strerror(ret));
	}
	return 0;
}

static int side_memory(struct range_state *s, struct side *side)
{
	void *memory;
	int ret;

	if (s->huge)
		return ours_memory(s->env, side->ctx, s->len, &side->memory);
	ret = umm_alloc(side->ctx, s->len, UMM_ALLOC_SMALL_PAGES, &memory);
	if (ret)
		return bench_note(s->env, ret, "umm_alloc: %s", umm_strerror(ret));
	side->memory = memory;
	memset(memory, 1, s->len);
	return 0;
}

static int side_open(struct range_state *s, struct side *side)
{
	long npages = (long)(s->len / UMM_PAGE_SIZE);
	int ret = ours_ctx(s->env, &side->ctx);

	if (!ret)
		ret = ours_device(s->env, side->ctx, s->len, true, &side->device);
	if (!ret)
		ret = side_memory(s, side);
	if (ret)
		return ret;
	if (umm_migrate_to_device(side->ctx, side->device->mem, side->memory, s->len) != npages ||
	    umm_migrate_to_system(side->ctx, side->memory, s->len) != npages)
		return bench_note(s->env, -EIO, "memory did not go to the device and back");
	return 0;
}

static int range_setup(struct bench_env *env, const struct bench_case *bcase, void **state)
{
	struct range_state *s = calloc(1, sizeof(*s));
	int ret;

	*state = s;
	if (!s)
		return -ENOMEM;
	s->env = env;
	s->variant = bcase->variant & ~RANGE_HUGE;
	s->huge = bcase->variant & RANGE_HUGE;
	s->len = env->touch_bytes;
	s->entries = calloc(s->len / UMM_PAGE_SIZE, sizeof(*s->entries));
	s->pagemap = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
	if (!s->entries)
		return -ENOMEM;
	if (s->pagemap < 0)
		return bench_note(env, BENCH_SKIP, "/proc/self/pagemap may not be read");
	ret = side_open(s, &s->many);
	if (ret)
		return ret;
	if (s->variant != RANGE_NOTIFIERS)
		return watch(s, &s->many, 1, s->len);
	ret = watch(s, &s->many, env->quick ? NOTIFIERS / 10 : NOTIFIERS, UMM_PAGE_SIZE);
	if (!ret)
		ret = side_open(s, &s->one);
	return ret ? ret : watch(s, &s->one, 1, UMM_PAGE_SIZE);
}

static int range_ours(void *state, struct series *out)
{
	struct range_state *s = state;
	struct umm_range range = {
		.size = sizeof(range),
		.notifier = s->notifier,
		.start = (uintptr_t)s->many.memory,
		.end = (uintptr_t)s->many.memory + s->len,
		.entries = s->entries,
		.default_flags = UMM_ENTRY_REQ_FAULT | UMM_ENTRY_REQ_WRITE,
		.owner = s->many.device->dev,
	};
	uint64_t begin = machine_now();
	long valid;

	range.seq = umm_notifier_read_begin(s->notifier);
	valid = s->variant == RANGE_FAULT ? umm_range_fault(&range, 1000) :
					    umm_range_snapshot(&range);
	series_push(out, (double)(machine_now() - begin) / 1000);
	if (valid != (long)(s->len / UMM_PAGE_SIZE))
		return bench_note(s->env, -EIO, "%ld entries of %zu are valid", valid,
				  s->len / UMM_PAGE_SIZE);
	return 0;
}

static int range_theirs(void *state, struct series *out)
{
	struct range_state *s = state;
	size_t bytes = s->len / UMM_PAGE_SIZE * sizeof(*s->entries);
	off_t at = (off_t)((uintptr_t)s->many.memory / UMM_PAGE_SIZE * sizeof(*s->entries));
	uint64_t begin = machine_now();
	ssize_t got = pread(s->pagemap, s->entries, bytes, at);

	series_push(out, (double)(machine_now() - begin) / 1000);
	return got == (ssize_t)bytes ? 0 : bench_note(s->env, -EIO, "reading the page map");
}

/* A page is announced to change, again and again. */
static int announce(struct range_state *s, struct side *side, struct series *out)
{
	size_t page = s->env->quick ? NOTIFIERS / 20 : NOTIFIERS / 2;
	uintptr_t start = (uintptr_t)side->memory + (side == &s->many ? page : 0) * UMM_PAGE_SIZE;
	struct umm_notifier_range range = { .start = start,
					    .end = start + UMM_PAGE_SIZE,
					    .event = UMM_EVENT_PROTECTION_VMA,
					    .blockable = true };
	uint64_t heard = side->heard, begin = machine_now();
	struct umm_invalidation *invalidation;

	for (unsigned i = 0; i < INVALIDATIONS; i++) {
		int ret = umm_invalidate_range_start(side->ctx, &range, &invalidation);

		if (ret)
			return bench_note(s->env, ret, "umm_invalidate_range_start");
		umm_invalidate_range_end(side->ctx, invalidation);
	}
	series_push(out, (double)(machine_now() - begin) / 1000 / INVALIDATIONS);
	if (side->heard - heard != INVALIDATIONS)
		return bench_note(s->env, -EIO, "of %d changes %llu were heard", INVALIDATIONS,
				  (unsigned long long)(side->heard - heard));
	return 0;
}

static int announce_ours(void *state, struct series *out)
{
	struct range_state *s = state;

	return announce(s, &s->many, out);
}

static int announce_theirs(void *state, struct series *out)
{
	struct range_state *s = state;

	return announce(s, &s->one, out);
}

static void side_close(struct side *side)
{
	ref_destroy(side->device);
	umm_ctx_put(side->ctx);
}

static void range_teardown(void *state)
{
	struct range_state *s = state;

	if (!s)
		return;
	side_close(&s->many);
	side_close(&s->one);
	if (s->pagemap > 0)
		close(s->pagemap);
	free(s->entries);
	free(s);
}

#define RANGE_CASE(case_name, text, which)                                                        \
	{                                                                                         \
		.name = (case_name), .summary = (text), .against = "read of /proc/self/pagemap",  \
		.unit = "us", .kind = BENCH_SPEEDUP, .goal = 10, .pairs = 30, .variant = (which), \
		.setup = range_setup, .ours = range_ours, .theirs = range_theirs,                 \
		.teardown = range_teardown,                                                       \
	}

const struct bench_case case_range[] = {
	RANGE_CASE("range/fault", "umm_range_fault of resident small pages (ratio: times faster)",
		   RANGE_FAULT),
	RANGE_CASE("range/snapshot", "umm_range_snapshot of them", RANGE_SNAPSHOT),
	RANGE_CASE("range/fault-huge", "umm_range_fault of huge pages", RANGE_FAULT | RANGE_HUGE),
	RANGE_CASE("range/snapshot-huge", "umm_range_snapshot of them",
		   RANGE_SNAPSHOT | RANGE_HUGE),
	{
		.name = "notifier/10000",
		.summary = "a change announced, 10000 interval notifiers, one of them concerned",
		.against = "one notifier in all",
		.unit = "us",
		.kind = BENCH_COST,
		.goal = 2,
		.pairs = 30,
		.variant = RANGE_NOTIFIERS,
		.setup = range_setup,
		.ours = announce_ours,
		.theirs = announce_theirs,
		.teardown = range_teardown,
	},
	{ 0 },
};
