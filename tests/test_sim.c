/* SPDX-License-Identifier: MIT */
/* What the simulator predicts is what the library does, on the reference device. */
#include "harness.h"
#include "hooked.h"

#include <errno.h>
#include <string.h>

#include "hook.h"
#include "sim.h"

#define BLOCKS 12
#define ROOM   6
#define USES   120

/* What the library recorded is what was used. */
static void check_record(struct ref_device *ref, const struct trace *trace, uintptr_t base)
{
	static uintptr_t block[USES + 1];

	assert_int_equal(umm_devmem_recorded(ref->mem, block, USES + 1), trace->n);
	for (size_t i = 0; i < trace->n; i++)
		assert_int_equal(block[i], base + trace->block[i] * BLOCK);
	assert_int_equal(umm_devmem_recorded(ref->mem, block, 3), 3);
	assert_int_equal(umm_devmem_record(ref->mem, 0), 0);
	assert_int_equal(umm_devmem_recorded(ref->mem, block, 3), 0);
}

/* Misses of the first uses of a trace, on the device. */
static struct sim_result run(struct env *e, const struct trace *trace, enum umm_evict_order order)
{
	struct umm_devmem_policy policy = { .size = sizeof(policy), .order = order };
	struct ref_device *ref = env_device(e, ROOM * UMM_BLOCK_PAGES);
	char *p = env_alloc(e, trace->nblocks * BLOCK), *at;
	struct sim_result result = { .uses = trace->n };

	assert_int_equal(umm_devmem_policy_set(ref->mem, &policy), 0);
	assert_int_equal(umm_devmem_record(ref->mem, trace->n), 0);
	fill(p, trace->nblocks * UMM_BLOCK_PAGES, 1);
	env_mark(e);
	for (size_t i = 0; i < trace->n; i++) {
		at = p + trace->block[i] * BLOCK;
		if (state_of(e, at) == env_home(e)) {
			umm_devmem_touch(ref->mem, (uintptr_t)at, 1);
			continue;
		}
		to_device(e, ref, at, UMM_BLOCK_PAGES, UMM_BLOCK_PAGES);
		result.misses++;
	}
	result.evictions = env_delta(e, UMM_COUNT_EVICTIONS);
	check_record(ref, trace, (uintptr_t)p);
	assert_filled(p, trace->nblocks * UMM_BLOCK_PAGES, 1);
	env_device_gone(e, ref);
	assert_int_equal(umm_free(e->ctx, p), 0);
	return result;
}

static void recording_ends_where_room_does(struct env *e)
{
	struct ref_device *ref = env_device(e, 64);
	char *p = env_alloc(e, 4 * BLOCK);
	uintptr_t block[4] = { 0 };

	assert_int_equal(umm_devmem_record(ref->mem, ((size_t)1 << 30) + 1), -EINVAL);
	assert_int_equal(umm_devmem_record(ref->mem, 2), 0);
	fill(p, 4 * UMM_BLOCK_PAGES, 1);
	for (unsigned i = 0; i < 4; i++)
		to_device(e, ref, p + i * BLOCK, 1, 1);
	assert_int_equal(umm_devmem_recorded(ref->mem, block, 4), 2);
	assert_int_equal(block[0], (uintptr_t)p);
	assert_int_equal(block[1], (uintptr_t)p + BLOCK);
	assert_int_equal(block[2], 0);
	assert_int_equal(umm_devmem_recorded(ref->mem, NULL, 4), 0);
}

static void predict(struct env *e, const char *pattern)
{
	static const struct {
		enum umm_evict_order order;
		const struct order_ops *ops;
	} all[] = {
		{ UMM_EVICT_LRU, &order_lru },		 { UMM_EVICT_CLOCK, &order_clock },
		{ UMM_EVICT_S3FIFO, &order_s3fifo },	 { UMM_EVICT_LIRS, &order_lirs },
		{ UMM_EVICT_ADAPTIVE, &order_adaptive }, { UMM_EVICT_LRFU, &order_lrfu },
	};
	struct sim_result wanted, got;
	struct trace trace;

	assert_int_equal(pattern_make(pattern, BLOCKS, ROOM, &trace), 0);
	trace.n = trace.n > USES ? USES : trace.n;
	for (size_t o = 0; o < sizeof(all) / sizeof(all[0]); o++) {
		assert_int_equal(sim_replay(&trace, all[o].ops, ROOM, &wanted), 0);
		got = run(e, &trace, all[o].order);
		assert_int_equal(got.misses, wanted.misses);
		assert_int_equal(got.evictions, wanted.evictions);
	}
	trace_fini(&trace);
}

static void zipf_misses_as_predicted(struct env *e)
{
	predict(e, "zipf");
}

static void loop_misses_as_predicted(struct env *e)
{
	predict(e, "loop");
}

static void scan_misses_as_predicted(struct env *e)
{
	predict(e, "scan");
}

/* Faults of a walk in the library, whose threads that prefetch are held. */
static uint64_t walk_faults(struct env *e, const char *p, size_t first, ptrdiff_t stride)
{
	volatile const char *page;
	uint64_t faults;

	env_mark(e);
	hook_arm_all(HOOK_READAHEAD, p, WALK_PAGES);
	for (size_t i = first; i < WALK_PAGES; i += (size_t)stride) {
		page = p + i * PAGE;
		(void)*page;
	}
	faults = env_delta(e, UMM_COUNT_FAULT_DEVICE);
	assert_true(hook_stopped());
	hook_go(HOOK_READAHEAD);
	return faults;
}

static uint64_t predicted(const char *walk)
{
	struct sim_coverage out;
	unsigned w = 0;

	while (strcmp(walk_names[w], walk) != 0)
		w++;
	assert_int_equal(sim_coverage(&ahead_stream, w, false, &out), 0);
	return out.faults;
}

/* Faults are, to the last one, as many as the simulator says. */
static void check_walk(struct env *e, const char *walk, size_t first, ptrdiff_t stride)
{
	struct ref_device *ref = env_device(e, WALK_PAGES);
	char *p = env_alloc_small(e, WALK_PAGES * PAGE);
	struct umm_span span = { (uintptr_t)p, WALK_PAGES * PAGE };
	struct umm_advice advice = { .size = sizeof(advice),
				     .spans = &span,
				     .nspans = 1,
				     .hint = UMM_HINT_READAHEAD,
				     .readahead = UMM_READAHEAD_STREAM };

	fill(p, WALK_PAGES, 1);
	to_device(e, ref, p, WALK_PAGES, WALK_PAGES);
	assert_int_equal(umm_advise(e->ctx, &advice), 0);
	assert_int_equal(walk_faults(e, p, first, stride), predicted(walk));
	assert_filled(p, WALK_PAGES, 1);
}

static void walk_faults_as_predicted(struct env *e)
{
	check_walk(e, "forwards", 0, 1);
}

static void walk_backwards_faults_as_predicted(struct env *e)
{
	check_walk(e, "backwards", WALK_PAGES - 1, -1);
}

static void strided_walk_faults_as_predicted(struct env *e)
{
	check_walk(e, "strided", 0, WALK_STRIDE);
}

static const struct test_case cases[] = {
	TEST(ONCE, zipf_misses_as_predicted),
	TEST(ONCE, loop_misses_as_predicted),
	TEST(ONCE, scan_misses_as_predicted),
	TEST(ONCE, recording_ends_where_room_does),
	TEST(ONCE, walk_faults_as_predicted),
	TEST(ONCE, walk_backwards_faults_as_predicted),
	TEST(ONCE, strided_walk_faults_as_predicted),
};

int main(int argc, char **argv)
{
	hook_init();
	return harness_main("sim", cases, sizeof(cases) / sizeof(cases[0]), argc, argv);
}
