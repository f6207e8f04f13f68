/* SPDX-License-Identifier: MIT */
/*
 * Prefetch on CPU faults: how many faults are left of a pattern of accesses, what comes that is
 * never used, and what stays. How far the threads that prefetch get is chance; what a fault
 * brings with it is not, and suffices for the figures: they hold however busy the machine is.
 */
#include "harness.h"
#include "hooked.h"

#include <errno.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "hook.h"

#define NPAGES 2048

static void prefer(struct env *e, void *addr, size_t npages, enum umm_readahead readahead)
{
	struct umm_span span = { (uintptr_t)addr, npages * PAGE };
	struct umm_advice advice = { .size = sizeof(advice),
				     .spans = &span,
				     .nspans = 1,
				     .hint = UMM_HINT_READAHEAD,
				     .readahead = readahead };

	assert_int_equal(umm_advise(e->ctx, &advice), 0);
}

/* Pages on a device, to be missed by a CPU under this policy. */
static char *pages_away(struct env *e, size_t npages, enum umm_readahead readahead)
{
	struct ref_device *ref = env_device(e, (uint32_t)npages);
	char *p = env_alloc_small(e, npages * PAGE);

	fill(p, npages, 1);
	to_device(e, ref, p, npages, (long)npages);
	prefer(e, p, npages, readahead);
	env_mark(e);
	return p;
}

static uint64_t faults(struct env *e)
{
	return env_delta(e, UMM_COUNT_FAULT_DEVICE) + env_delta(e, UMM_COUNT_FAULT_WAIT);
}

static void touch_page(const char *p, size_t i)
{
	assert_int_equal(touch_read(p + i * PAGE), 0);
}

static void assert_few_faults(struct env *e, size_t touched)
{
	if (faults(e) > touched / 10)
		fail_msg("%llu faults of %zu are left", (unsigned long long)faults(e), touched);
}

static void sequential_faults_go(struct env *e)
{
	char *p = pages_away(e, NPAGES, UMM_READAHEAD_STREAM);

	for (size_t i = 0; i < NPAGES; i++)
		touch_page(p, i);
	assert_few_faults(e, NPAGES);
	assert_filled(p, NPAGES, 1);
}

static void sequential_faults_go_backwards(struct env *e)
{
	char *p = pages_away(e, NPAGES, UMM_READAHEAD_STREAM);

	for (size_t i = NPAGES; i-- > 0;)
		touch_page(p, i);
	assert_few_faults(e, NPAGES);
	assert_filled(p, NPAGES, 1);
}

/* None that lies between the steps comes. */
static void strided_faults_go(struct env *e)
{
	char *p = pages_away(e, NPAGES, UMM_READAHEAD_STREAM);
	size_t i, stride = 5, touched = 0;

	for (i = 0; i < NPAGES; i += stride, touched++)
		touch_page(p, i);
	assert_few_faults(e, touched);
	for (i = 0; i < NPAGES; i++)
		if (i % stride)
			assert_int_equal(state_of(e, p + i * PAGE), UMM_PAGE_DEVICE);
	assert_filled(p, NPAGES, 1);
}

static void two_arrays_by_turns_are_followed(struct env *e)
{
	char *p = pages_away(e, NPAGES, UMM_READAHEAD_STREAM);

	for (size_t i = 0; i < NPAGES / 2; i++) {
		touch_page(p, i);
		touch_page(p, NPAGES - 1 - i);
	}
	assert_few_faults(e, NPAGES);
	assert_filled(p, NPAGES, 1);
}

/* A quarter of the pages, each once, in no order. */
static void random_accesses_waste_little(struct env *e, enum umm_readahead readahead)
{
	char *p = pages_away(e, NPAGES, readahead);
	bool touched[NPAGES] = { false };
	uint64_t x = 88172645463325252u;
	size_t n = 0, home, i;

	while (n < NPAGES / 4) {
		x ^= x << 13;
		x ^= x >> 7;
		x ^= x << 17;
		i = x % NPAGES;
		n += !touched[i];
		touched[i] = true;
		touch_page(p, i);
	}
	home = count_state(e, p, NPAGES, UMM_PAGE_SYSTEM);
	if (home - n > n / 20)
		fail_msg("%zu pages were touched, and %zu more came", n, home - n);
	assert_filled(p, NPAGES, 1);
}

static void random_accesses_waste_little_on_streams(struct env *e)
{
	random_accesses_waste_little(e, UMM_READAHEAD_STREAM);
}

static void random_accesses_waste_little_on_density(struct env *e)
{
	random_accesses_waste_little(e, UMM_READAHEAD_DENSITY);
}

/*
 * From the middle outwards. On either side nine of the first 16 pages are missed and one of any
 * other 16, at most; what the thread is just bringing is waited for.
 */
static void dense_faults_go(struct env *e)
{
	char *p = pages_away(e, UMM_BLOCK_PAGES, UMM_READAHEAD_DENSITY);

	for (size_t i = 0; i < UMM_BLOCK_PAGES / 2; i++) {
		touch_page(p, UMM_BLOCK_PAGES / 2 + i);
		touch_page(p, UMM_BLOCK_PAGES / 2 - 1 - i);
	}
	assert_in_range(faults(e), 10, UMM_BLOCK_PAGES / 8);
	assert_filled(p, UMM_BLOCK_PAGES, 1);
}

static void without_it_nothing_comes(struct env *e)
{
	char *p = pages_away(e, 64, UMM_READAHEAD_OFF);

	for (size_t i = 0; i < 32; i++)
		touch_page(p, i);
	assert_delta(e, UMM_COUNT_FAULT_DEVICE, 32);
	assert_state(e, p + 32 * PAGE, 32, UMM_PAGE_DEVICE);
	assert_delta(e, UMM_COUNT_TO_SYSTEM + UMM_CAUSE_READAHEAD, 0);
	assert_filled(p, 64, 1);
}

/* Where the hint has ended it is the context that says. */
static void what_is_hinted_no_longer_comes_as_its_context_says(struct env *e)
{
	struct umm_span span = { .len = NPAGES * PAGE };
	struct umm_advice advice = { .size = sizeof(advice),
				     .flags = UMM_ADVICE_UNSET,
				     .spans = &span,
				     .nspans = 1,
				     .hint = UMM_HINT_READAHEAD };
	char *p;

	env_reopen(e, (struct umm_ctx_options){ .readahead = UMM_READAHEAD_STREAM });
	p = pages_away(e, NPAGES, UMM_READAHEAD_OFF);
	span.start = (uintptr_t)p;
	assert_int_equal(umm_advise(e->ctx, &advice), 0);
	for (size_t i = 0; i < NPAGES; i++)
		touch_page(p, i);
	assert_few_faults(e, NPAGES);
	assert_filled(p, NPAGES, 1);
}

/* Nor does a stream run into what is marked, whoever began it. */
static void what_is_marked_stays(struct env *e)
{
	struct umm_advice advice = { .size = sizeof(advice),
				     .nspans = 1,
				     .hint = UMM_HINT_NO_MIGRATE };
	char *p = pages_away(e, 512, UMM_READAHEAD_STREAM);
	struct umm_span span = { (uintptr_t)p + 100 * PAGE, 20 * PAGE };

	prefer(e, p + 60 * PAGE, 20, UMM_READAHEAD_OFF);
	advice.spans = &span;
	assert_int_equal(umm_advise(e->ctx, &advice), 0);
	for (size_t i = 0; i < 512; i++)
		if ((i < 60 || i >= 80) && (i < 100 || i >= 120))
			touch_page(p, i);
	assert_state(e, p + 60 * PAGE, 20, UMM_PAGE_DEVICE);
	assert_state(e, p + 100 * PAGE, 20, UMM_PAGE_DEVICE);
	assert_few_faults(e, 470);
	assert_filled(p, 512, 1);
}

/* What a CPU can reach where it is stays there, though it lies on the way. */
static void what_a_cpu_can_reach_stays(struct env *e)
{
	struct ref_options options = { .nframes = 16 };
	struct ref_device *other, *ref;
	char *p = env_alloc_small(e, 256 * PAGE);

	fill(p, 256, 1);
	ref = env_device(e, 256);
	prefer(e, p, 256, UMM_READAHEAD_STREAM);
	assert_int_equal(migrate(e, ref, p + 32 * PAGE, 16, UMM_MIGRATE_DUPLICATE), 16);
	e->variant.type = UMM_DEVMEM_COHERENT;
	other = env_device_with(e, options);
	e->variant.type = UMM_DEVMEM_PRIVATE;
	to_device(e, other, p + 64 * PAGE, 16, 16);
	to_device(e, ref, p, 32, 32);
	to_device(e, ref, p + 128 * PAGE, 128, 128);
	for (size_t i = 0; i < 256; i++)
		touch_page(p, i);
	assert_state(e, p + 32 * PAGE, 16, UMM_PAGE_DUPLICATED);
	assert_state(e, p + 64 * PAGE, 16, UMM_PAGE_COHERENT);
	assert_filled(p, 256, 1);
}

static struct stop held;

static void hold(void *priv, enum hook_point point, uintptr_t addr)
{
	(void)priv;
	(void)point;
	(void)addr;
	stop_here(&held);
}

/* The threads that prefetch are held: whoever faults goes on, with what faults bring along. */
static void who_faults_does_not_wait(struct env *e)
{
	char *p = pages_away(e, NPAGES, UMM_READAHEAD_STREAM);

	stop_init(&held);
	hook_set(HOOK_READAHEAD, hold, NULL);
	for (size_t i = 0; i < NPAGES; i++)
		touch_page(p, i);
	assert_delta(e, UMM_COUNT_TO_SYSTEM + UMM_CAUSE_READAHEAD, 0);
	assert_delta(e, UMM_COUNT_TO_SYSTEM + UMM_CAUSE_CPU_FAULT, NPAGES);
	assert_delta(e, UMM_COUNT_FAULT_WAIT, 0);
	assert_few_faults(e, NPAGES);
	stop_go(&held);
	hook_set(HOOK_READAHEAD, NULL, NULL);
	assert_filled(p, NPAGES, 1);
}

/* They are held: each block that he then misses comes whole, in one piece. */
static void who_is_faster_gets_whole_blocks(struct env *e)
{
	size_t known = 4 * UMM_BLOCK_PAGES, i;
	char *p = pages_away(e, 2 * known, UMM_READAHEAD_STREAM);

	assert_int_equal((uintptr_t)p % BLOCK, 0);
	stop_init(&held);
	hook_set(HOOK_READAHEAD, hold, NULL);
	for (i = 0; i < known; i++)
		touch_page(p, i);
	/* Whoever waits for a page goes on before it is counted. */
	wait_until(env_delta(e, UMM_COUNT_TO_SYSTEM + UMM_CAUSE_CPU_FAULT) == known);
	env_mark(e);
	for (; i < 2 * known; i++)
		touch_page(p, i);
	wait_until(env_delta(e, UMM_COUNT_TO_SYSTEM + UMM_CAUSE_CPU_FAULT) == known);
	assert_delta(e, UMM_COUNT_FAULT_DEVICE, 4);
	/* A thread that serves its own faults may ask again before the worker has begun. */
	assert_in_range(env_delta(e, UMM_COUNT_DEFERRED), 4, 8);
	assert_delta(e, UMM_COUNT_COPIES, 4);
	assert_delta(e, UMM_COUNT_TO_SYSTEM + UMM_CAUSE_READAHEAD, 0);
	stop_go(&held);
	hook_set(HOOK_READAHEAD, NULL, NULL);
	assert_filled(p, 2 * known, 1);
}

static atomic_uint arrived;

static void hold_first(void *priv, enum hook_point point, uintptr_t addr)
{
	if (!atomic_fetch_add(&arrived, 1))
		hold(priv, point, addr);
}

/* One of them is held, with pages of one block: the other one brings those of the next. */
static void blocks_come_beside_each_other(struct env *e)
{
	char *p = pages_away(e, NPAGES, UMM_READAHEAD_STREAM);
	cpu_set_t allowed;

	assert_int_equal(sched_getaffinity(0, sizeof(allowed), &allowed), 0);
	if (CPU_COUNT(&allowed) < 2) {
		print_message("skipped: on one CPU one thread prefetches\n");
		skip();
	}
	stop_init(&held);
	atomic_store(&arrived, 0);
	hook_set(HOOK_READAHEAD, hold_first, NULL);
	for (size_t i = 0; i < UMM_BLOCK_PAGES; i++)
		touch_page(p, i);
	assert_true(stop_arrived(&held));
	wait_until(env_delta(e, UMM_COUNT_TO_SYSTEM + UMM_CAUSE_READAHEAD) > 0);
	hook_set(HOOK_READAHEAD, NULL, NULL);
	stop_go(&held);
	assert_filled(p, NPAGES, 1);
}

/* What is behind the next pages comes though nobody touches it. */
static void next_pages_come_by_themselves(struct env *e)
{
	char *p = pages_away(e, NPAGES, UMM_READAHEAD_STREAM);

	for (size_t i = 0; i < 100; i++)
		touch_page(p, i);
	wait_until(count_state(e, p, UMM_BLOCK_PAGES, UMM_PAGE_SYSTEM) >= 120);
	wait_until(env_delta(e, UMM_COUNT_TO_SYSTEM + UMM_CAUSE_READAHEAD) > 0);
	assert_filled(p, NPAGES, 1);
}

/* One page in each block: no piece has two of them, so all come behind. */
static void steps_over_blocks_are_followed(struct env *e)
{
	size_t stride = UMM_BLOCK_PAGES + 8, n = 40;
	struct ref_device *ref = env_device(e, (uint32_t)n);
	char *p = env_alloc_small(e, n * stride * PAGE);

	for (size_t i = 0; i < n; i++) {
		page_fill(p + i * stride * PAGE, i, 1);
		to_device(e, ref, p + i * stride * PAGE, 1, 1);
	}
	prefer(e, p, n * stride, UMM_READAHEAD_STREAM);
	env_mark(e);
	for (size_t i = 0; i < 4; i++)
		touch_page(p, i * stride);
	for (size_t i = 4; i < 8; i++)
		wait_until(state_of(e, p + i * stride * PAGE) == UMM_PAGE_SYSTEM);
	assert_delta(e, UMM_COUNT_FAULT_DEVICE, 4);
	for (size_t i = 0; i < n; i++)
		assert_true(page_filled(p + i * stride * PAGE, i, 1));
}

/* It ends where the allocation does: what follows it in the address space is another's. */
static void neighbours_of_the_allocation_stay(struct env *e)
{
	struct ref_device *ref = env_device(e, 512);
	char *p = env_map(e, 512 * PAGE);

	fill(p, 512, 1);
	assert_int_equal(umm_attach(e->ctx, p, 256 * PAGE), 0);
	assert_int_equal(umm_attach(e->ctx, p + 256 * PAGE, 256 * PAGE), 0);
	to_device(e, ref, p, 512, 512);
	prefer(e, p, 512, UMM_READAHEAD_STREAM);
	stop_init(&held);
	for (size_t i = 0; i < 200; i++)
		touch_page(p, i);
	wait_until(count_state(e, p, 256, UMM_PAGE_SYSTEM) >= 215);
	for (size_t i = 200; i < 256; i++)
		touch_page(p, i);
	/* Sixteen at most: the piece of the last fault is not cut at allocations. */
	assert_true(count_state(e, p + 256 * PAGE, 256, UMM_PAGE_SYSTEM) <= 16);
	assert_filled(p, 512, 1);
}

static int create(struct umm_ctx_options options, struct umm_ctx **ctx)
{
	options.size = sizeof(options);
	return umm_ctx_create(&options, ctx);
}

static void options_that_make_no_sense_are_refused(struct env *e)
{
	struct umm_ctx *ctx;

	(void)e;
	assert_int_equal(create((struct umm_ctx_options){ .readahead = 4 }, &ctx), -EINVAL);
	assert_int_equal(create((struct umm_ctx_options){ .readahead_percent = 101 }, &ctx),
			 -EINVAL);
	assert_int_equal(
		create((struct umm_ctx_options){ .readahead_most = UMM_READAHEAD_MOST + 1 }, &ctx),
		-EINVAL);
}

static void hints_that_make_no_sense_are_refused(struct env *e)
{
	char *p = env_alloc_small(e, 8 * PAGE);
	struct umm_span span = { (uintptr_t)p, 4 * PAGE };
	struct umm_advice advice = {
		.size = sizeof(advice), .spans = &span, .nspans = 1, .hint = UMM_HINT_READAHEAD
	};
	struct umm_span_info info = { .size = sizeof(info) };

	assert_int_equal(umm_advise(e->ctx, &advice), -EINVAL);
	advice.readahead = UMM_READAHEAD_STREAM + 1;
	assert_int_equal(umm_advise(e->ctx, &advice), -EINVAL);
	advice.readahead = UMM_READAHEAD_DENSITY;
	advice.flags = UMM_ADVICE_UNSET;
	assert_int_equal(umm_advise(e->ctx, &advice), -EINVAL);
	advice.flags = 0;
	advice.hint = UMM_HINT_NO_MIGRATE;
	assert_int_equal(umm_advise(e->ctx, &advice), -EINVAL);
	advice.hint = UMM_HINT_READAHEAD;
	assert_int_equal(umm_advise(e->ctx, &advice), 0);
	assert_int_equal(umm_query_spans(e->ctx, &span, 1, &info), 0);
	assert_int_equal(info.hints, 1 << UMM_HINT_READAHEAD);
	assert_int_equal(info.readahead, UMM_READAHEAD_DENSITY);
	span.len = 8 * PAGE;
	assert_int_equal(umm_query_spans(e->ctx, &span, 1, &info), 0);
	assert_int_equal(info.mixed, 1 << UMM_HINT_READAHEAD);
	advice.flags = UMM_ADVICE_UNSET;
	advice.readahead = UMM_READAHEAD_DEFAULT;
	assert_int_equal(umm_advise(e->ctx, &advice), 0);
	assert_int_equal(umm_query_spans(e->ctx, &span, 1, &info), 0);
	assert_int_equal(info.hints | info.mixed, 0);
}

/* Faults of a walk over a block by a context with these options. */
static uint64_t walk_faults(struct umm_ctx_options options)
{
	struct ref_options device = { .nframes = UMM_BLOCK_PAGES, .inline_copy = true };
	struct umm_stats stats = { .size = sizeof(stats) };
	struct ref_device *ref;
	struct umm_ctx *ctx;
	void *p;

	assert_int_equal(create(options, &ctx), 0);
	assert_int_equal(ref_create(ctx, &device, &ref), 0);
	assert_int_equal(umm_alloc(ctx, BLOCK, UMM_ALLOC_SMALL_PAGES, &p), 0);
	fill(p, UMM_BLOCK_PAGES, 1);
	assert_int_equal(umm_migrate_to_device(ctx, ref->mem, p, BLOCK), UMM_BLOCK_PAGES);
	assert_filled(p, UMM_BLOCK_PAGES, 1);
	assert_int_equal(umm_ctx_stats(ctx, &stats), 0);
	assert_true(ref_destroy(ref));
	umm_ctx_put(ctx);
	return stats.counter[UMM_COUNT_FAULT_DEVICE] + stats.counter[UMM_COUNT_FAULT_WAIT];
}

static void said(void *priv, enum umm_log_level level, const char *line)
{
	(void)level;
	if (strstr(line, "UMM_READAHEAD=nonsense"))
		++*(unsigned *)priv;
}

/* By option, by the environment where there is none, and by default. */
static void a_context_chooses(struct env *e)
{
	struct umm_ctx_options off = { .readahead = UMM_READAHEAD_OFF };
	struct umm_ctx_options density = { .readahead = UMM_READAHEAD_DENSITY };
	struct umm_ctx_options usual = { 0 };
	unsigned lines = 0;

	(void)e;
	unsetenv("UMM_READAHEAD");
	assert_int_equal(walk_faults(off), UMM_BLOCK_PAGES);
	assert_in_range(walk_faults(density), 1, UMM_BLOCK_PAGES / 10);
	assert_in_range(walk_faults(usual), 1, UMM_BLOCK_PAGES / 10);
	setenv("UMM_READAHEAD", "off", 1);
	assert_int_equal(walk_faults(usual), UMM_BLOCK_PAGES);
	assert_in_range(walk_faults(density), 1, UMM_BLOCK_PAGES / 10);
	setenv("UMM_READAHEAD", "nonsense", 1);
	umm_log_set(said, &lines, UMM_LOG_WARNING);
	assert_in_range(walk_faults(usual), 1, UMM_BLOCK_PAGES / 10);
	umm_log_set(NULL, NULL, UMM_LOG_WARNING);
	assert_int_equal(lines, 1);
	unsetenv("UMM_READAHEAD");
}

static void let_go(void)
{
	hook_set(HOOK_READAHEAD, NULL, NULL);
	stop_go(&held);
}

static const struct test_case cases[] = {
	TEST(PRIVATE, sequential_faults_go),
	TEST(PRIVATE, sequential_faults_go_backwards),
	TEST(PRIVATE, strided_faults_go),
	TEST(PRIVATE, two_arrays_by_turns_are_followed),
	TEST(PRIVATE, random_accesses_waste_little_on_streams),
	TEST(PRIVATE, random_accesses_waste_little_on_density),
	TEST(PRIVATE, dense_faults_go),
	TEST(PRIVATE, without_it_nothing_comes),
	TEST(PRIVATE, what_is_hinted_no_longer_comes_as_its_context_says),
	TEST(PRIVATE, what_is_marked_stays),
	TEST(PRIVATE, what_a_cpu_can_reach_stays),
	TEST(PRIVATE, who_faults_does_not_wait),
	TEST(PRIVATE, who_is_faster_gets_whole_blocks),
	TEST(PRIVATE, blocks_come_beside_each_other),
	TEST(PRIVATE, next_pages_come_by_themselves),
	TEST(PRIVATE, steps_over_blocks_are_followed),
	TEST(PRIVATE, neighbours_of_the_allocation_stay),
	TEST(ONCE, options_that_make_no_sense_are_refused),
	TEST(ONCE, hints_that_make_no_sense_are_refused),
	TEST(ONCE, a_context_chooses),
};

int main(int argc, char **argv)
{
	stop_init(&held);
	harness_cleanup(let_go);
	return harness_main("test_readahead", cases, sizeof(cases) / sizeof(cases[0]), argc, argv);
}
