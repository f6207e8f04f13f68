/* SPDX-License-Identifier: MIT */
/* What the simulator predicts is what the library does, on the reference device. */
#include "harness.h"
#include "sim.h"

#define BLOCKS 12
#define ROOM   6
#define USES   120

/* Misses of the first uses of a trace, on the device. */
static struct sim_result run(struct env *e, const struct trace *trace, enum umm_evict_order order)
{
	struct umm_devmem_policy policy = { .size = sizeof(policy), .order = order };
	struct ref_device *ref = env_device(e, ROOM * UMM_BLOCK_PAGES);
	char *p = env_alloc(e, trace->nblocks * BLOCK), *at;
	struct sim_result result = { .uses = trace->n };

	assert_int_equal(umm_devmem_policy_set(ref->mem, &policy), 0);
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
	assert_filled(p, trace->nblocks * UMM_BLOCK_PAGES, 1);
	env_device_gone(e, ref);
	assert_int_equal(umm_free(e->ctx, p), 0);
	return result;
}

static void predict(struct env *e, const char *pattern)
{
	static const struct {
		enum umm_evict_order order;
		const struct order_ops *ops;
	} all[] = {
		{ UMM_EVICT_LRU, &order_lru },		 { UMM_EVICT_CLOCK, &order_clock },
		{ UMM_EVICT_S3FIFO, &order_s3fifo },	 { UMM_EVICT_LIRS, &order_lirs },
		{ UMM_EVICT_ADAPTIVE, &order_adaptive },
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

static const struct test_case cases[] = {
	TEST(ONCE, zipf_misses_as_predicted),
	TEST(ONCE, loop_misses_as_predicted),
	TEST(ONCE, scan_misses_as_predicted),
};

int main(int argc, char **argv)
{
	return harness_main("sim", cases, sizeof(cases) / sizeof(cases[0]), argc, argv);
}
