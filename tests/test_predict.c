/* SPDX-License-Identifier: MIT */
/*
 * What umm-sim says of a program is what the library did for it: programs whose device uses single
 * pages are recorded, replayed in the memory that they had and in others, and compared with the
 * library's own counters.
 */
#include "harness.h"
#include "hooked.h"

#include <stdio.h>
#include <unistd.h>

#include "sim.h"

#define BLOCKS 8
#define PAGES  4096 /* of them */
#define STRIDE 37
#define PART   8
#define ROW    24 /* pages of a row of the stencil */
#define SHARES 3

static const unsigned shares[SHARES] = { 25, 50, 75 };

struct program {
	struct env *e;
	struct ref_device *ref;
	char *p;
	uint64_t faults, cpu_faults;
	uint64_t seed;
};

static uint32_t below(struct program *program, uint32_t n)
{
	program->seed = program->seed * UINT64_C(6364136223846793005) + 1;
	return (uint32_t)((program->seed >> 33) % n);
}

/* Blocks of which anything is missing. */
static unsigned blocks_missing(struct program *program, uint32_t first, uint32_t n)
{
	uint32_t end = first + n, last;
	unsigned blocks = 0;

	for (; first < end; first = last) {
		last = (first / UMM_BLOCK_PAGES + 1) * UMM_BLOCK_PAGES;
		last = last < end ? last : end;
		blocks += count_state(program->e, program->p + first * PAGE, last - first,
				      env_home(program->e)) < last - first;
	}
	return blocks;
}

/* The device uses these pages, and misses some of them. */
static void device_uses(struct program *program, uint32_t first, uint32_t n)
{
	char *at = program->p + first * PAGE;
	unsigned blocks = blocks_missing(program, first, n);

	if (blocks)
		assert_true(migrate(program->e, program->ref, at, n, 0) > 0);
	program->faults += blocks;
	umm_devmem_touch(program->ref->mem, (uintptr_t)at, n * PAGE);
}

static void cpu_uses(struct program *program, uint32_t page)
{
	char *at = program->p + page * PAGE;

	program->cpu_faults += state_of(program->e, at) == env_home(program->e);
	assert_true(page_filled(at, page, 1));
}

/* Twice over all of it, a few pages at a time. */
static void sequential(struct program *program)
{
	for (unsigned round = 0; round < 2; round++)
		for (uint32_t i = 0; i < PAGES; i += 16)
			device_uses(program, i, 16);
}

/* Every so many pages; then those beside them. A CPU looks at some in between. */
static void strided(struct program *program)
{
	for (uint32_t first = 0; first < STRIDE; first += PART)
		for (uint32_t i = first; i + PART <= PAGES; i += STRIDE) {
			device_uses(program, i, PART);
			if (i % 16 == 0)
				cpu_uses(program, i);
		}
}

static void scattered(struct program *program)
{
	for (unsigned i = 0; i < 1000; i++)
		device_uses(program, below(program, PAGES / PART) * PART, PART);
}

/* Of blocks, the first much more often than the last. A CPU looks at what was used just now. */
static void zipf(struct program *program)
{
	for (unsigned i = 0; i < 1500; i++) {
		uint32_t block = below(program, 1 + below(program, BLOCKS));
		uint32_t page =
			block * UMM_BLOCK_PAGES + below(program, UMM_BLOCK_PAGES / PART) * PART;

		device_uses(program, page, PART);
		if (i % 16 == 0)
			cpu_uses(program, page);
	}
}

/* From one half into the other and back: three rows are read, one is written. */
static void stencil(struct program *program)
{
	const uint32_t rows = PAGES / 2 / ROW;

	for (unsigned sweep = 0; sweep < 4; sweep++) {
		uint32_t from = sweep % 2 * (PAGES / 2), to = PAGES / 2 - from;

		for (uint32_t row = 1; row + 1 < rows; row++) {
			device_uses(program, from + (row - 1) * ROW, 3 * ROW);
			device_uses(program, to + row * ROW, ROW);
		}
		cpu_uses(program, to + rows / 2 * ROW);
	}
}

static void readahead_off(struct program *program)
{
	struct umm_span span = { (uintptr_t)program->p, PAGES * PAGE };
	struct umm_advice advice = { .size = sizeof(advice),
				     .spans = &span,
				     .nspans = 1,
				     .hint = UMM_HINT_READAHEAD,
				     .readahead = UMM_READAHEAD_OFF };

	assert_int_equal(umm_advise(program->e->ctx, &advice), 0);
}

static void recorded(struct trace *trace, const char *path)
{
	FILE *file = fopen(path, "re");
	char why[128] = "";

	assert_non_null(file);
	if (record_read(trace, file, why, sizeof(why)))
		fail_msg("%s", why);
	fclose(file);
	unlink(path);
}

/* What the library did, by its counters. */
static struct sim_result run(struct env *e, void (*play)(struct program *), struct ref_device *ref,
			     enum umm_evict_order order, struct trace *trace)
{
	struct umm_devmem_policy policy = { .size = sizeof(policy), .order = order };
	struct program program = { .e = e, .ref = ref, .seed = 88172645463325252 };
	struct sim_result result = { 0 };
	char path[64];

	snprintf(path, sizeof(path), "/tmp/umm-predict-test.%d", (int)getpid());
	program.p = env_alloc_small(e, PAGES * PAGE);
	readahead_off(&program);
	assert_int_equal(umm_devmem_policy_set(ref->mem, &policy), 0);
	fill(program.p, PAGES, 1);
	env_mark(e);
	assert_int_equal(umm_trace(path, 0), 0);
	play(&program);
	assert_int_equal(umm_trace(NULL, 0), 0);
	result.faults = program.faults;
	result.cpu_faults = program.cpu_faults;
	result.evictions = env_delta(e, UMM_COUNT_EVICTIONS);
	result.bytes_in = env_delta_causes(e, UMM_COUNT_TO_DEVICE) * PAGE;
	recorded(trace, path);
	assert_filled(program.p, PAGES, 1);
	assert_int_equal(umm_free(e->ctx, program.p), 0);
	return result;
}

static void check_near(const char *what, unsigned from, unsigned share, uint64_t got,
		       uint64_t wanted)
{
	if (got * 100 < wanted * 95 || got * 100 > wanted * 105)
		fail_msg("%s at %u %% by a recording at %u %%: %llu is more than 5 %% off %llu",
			 what, share, from, (unsigned long long)got, (unsigned long long)wanted);
}

/* A recording at one share says what happens at each. */
static void check_program(struct env *e, void (*play)(struct program *),
			  struct ref_device *const *ref, enum umm_evict_order order,
			  const char *name)
{
	struct sim_result seen[SHARES], said;
	struct trace trace[SHARES];

	for (unsigned s = 0; s < SHARES; s++) {
		seen[s] = run(e, play, ref[s], order, &trace[s]);
		assert_int_equal(trace[s].lost, 0);
		assert_int_equal(trace[s].seen.faults, seen[s].faults);
		assert_int_equal(trace[s].seen.cpu_faults, seen[s].cpu_faults);
		assert_int_equal(trace[s].seen.bytes_in, seen[s].bytes_in);
		assert_true(seen[s].evictions > 0);
	}
	for (unsigned i = 0; i < SHARES * SHARES; i++) {
		unsigned from = i / SHARES, s = i % SHARES;

		assert_int_equal(sim_replay(&trace[from], order_by_name(name),
					    PAGES * shares[s] / 100, &said),
				 0);
		check_near("faults", shares[from], shares[s], said.faults, seen[s].faults);
		/* What was not on the device no CPU has missed. */
		if (from >= s)
			check_near("faults of a CPU", shares[from], shares[s], said.cpu_faults,
				   seen[s].cpu_faults);
		if (from == s)
			check_near("evictions", shares[from], shares[s], said.evictions,
				   seen[s].evictions);
		check_near("bytes", shares[from], shares[s], said.bytes_in, seen[s].bytes_in);
	}
	for (unsigned s = 0; s < SHARES; s++)
		trace_fini(&trace[s]);
}

/* The orders that a program chooses by number. */
static const struct {
	enum umm_evict_order order;
	const char *name;
} all[] = {
	{ UMM_EVICT_ADAPTIVE, "adaptive" }, { UMM_EVICT_LRU, "lru" },
	{ UMM_EVICT_CLOCK, "clock" },	    { UMM_EVICT_S3FIFO, "s3fifo" },
	{ UMM_EVICT_LIRS, "lirs" },	    { UMM_EVICT_LRFU, "lrfu" },
};

static void check_orders(struct env *e, void (*play)(struct program *), size_t norders)
{
	struct ref_device *ref[SHARES];

	for (unsigned s = 0; s < SHARES; s++)
		ref[s] = env_device(e, PAGES * shares[s] / 100);
	for (size_t o = 0; o < norders; o++)
		check_program(e, play, ref, all[o].order, all[o].name);
}

static void a_walk_is_predicted(struct env *e)
{
	check_orders(e, sequential, 2);
}

static void strides_are_predicted(struct env *e)
{
	check_orders(e, strided, 2);
}

static void random_uses_are_predicted(struct env *e)
{
	check_orders(e, scattered, 2);
}

static void zipfian_uses_are_predicted(struct env *e)
{
	check_orders(e, zipf, sizeof(all) / sizeof(all[0]));
}

static void a_stencil_is_predicted(struct env *e)
{
	check_orders(e, stencil, 2);
}

/* The device reads them. */
static void device_reads(struct env *e, struct ref_device *ref, char *at, unsigned n)
{
	assert_int_equal(migrate(e, ref, at, n, UMM_MIGRATE_DUPLICATE), n);
	umm_devmem_touch(ref->mem, (uintptr_t)at, n * PAGE);
}

/* Pages of p that the device has copies of move there, for two requests at the same time. */
static void move_what_was_copied(struct env *e, struct ref_device *ref, char *p)
{
	struct umm_fence *first, *second;

	ref_gate_close(ref, REF_GATE_COPY);
	first = migrate_start(e, ref, p, 60);
	assert_true(ref_gate_wait(ref, REF_GATE_COPY, PATIENCE_MS));
	second = migrate_start(e, ref, p + 60 * PAGE, 30);
	ref_gate_open(ref, REF_GATE_COPY);
	assert_int_equal(umm_fence_wait(first, PATIENCE_MS), 0);
	assert_int_equal(umm_fence_wait(second, PATIENCE_MS), 0);
	umm_fence_put(first);
	umm_fence_put(second);
}

/* Until they have moved, pages and their copies need frames: another block's copies go. */
static void what_moves_beside_its_copies_is_predicted(struct env *e)
{
	struct umm_devmem_policy policy = { .size = sizeof(policy), .order = UMM_EVICT_LRU };
	struct ref_device *ref = env_device(e, 600);
	char *p = env_alloc_small(e, 2 * BLOCK), *q = p + BLOCK, path[64];
	struct sim_result said;
	struct trace trace;

	snprintf(path, sizeof(path), "/tmp/umm-predict-test.%d", (int)getpid());
	assert_int_equal(umm_devmem_policy_set(ref->mem, &policy), 0);
	fill(p, 2 * UMM_BLOCK_PAGES, 1);
	env_mark(e);
	assert_int_equal(umm_trace(path, 0), 0);
	device_reads(e, ref, p, 300);
	move_what_was_copied(e, ref, p);
	umm_devmem_touch(ref->mem, (uintptr_t)p, 300 * PAGE);
	device_reads(e, ref, q, 200);
	umm_devmem_touch(ref->mem, (uintptr_t)p, 300 * PAGE);
	to_device(e, ref, p + 100 * PAGE, 150, 150);
	umm_devmem_touch(ref->mem, (uintptr_t)p, 300 * PAGE);
	device_reads(e, ref, q, 200);
	assert_int_equal(umm_trace(NULL, 0), 0);
	recorded(&trace, path);
	assert_delta(e, UMM_COUNT_EVICTIONS, 1);
	assert_int_equal(trace.seen.evictions, 1);
	assert_int_equal(trace.seen.faults, 6);
	assert_int_equal(trace.seen.bytes_in, 940 * PAGE);
	assert_int_equal(sim_replay(&trace, &order_lru, 600, &said), 0);
	assert_int_equal(said.faults, 6);
	assert_int_equal(said.misses, 3);
	assert_int_equal(said.evictions, 1);
	assert_int_equal(said.bytes_in, 940 * PAGE);
	trace_fini(&trace);
	assert_filled(p, 2 * UMM_BLOCK_PAGES, 1);
	assert_int_equal(umm_free(e->ctx, p), 0);
}

static const struct test_case cases[] = {
	TEST(ONCE, a_walk_is_predicted),
	TEST(ONCE, strides_are_predicted),
	TEST(ONCE, random_uses_are_predicted),
	TEST(ONCE, zipfian_uses_are_predicted),
	TEST(ONCE, a_stencil_is_predicted),
	TEST(ASYNC_PRIVATE, what_moves_beside_its_copies_is_predicted),
};

int main(int argc, char **argv)
{
	return harness_main("predict", cases, sizeof(cases) / sizeof(cases[0]), argc, argv);
}
