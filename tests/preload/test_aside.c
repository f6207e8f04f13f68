/* SPDX-License-Identifier: MIT */
/*
 * Pages that are moved aside to see whether their block is in use, by libumm as it is, with every
 * set of kernel features. The shim around it is this file's: a mapping, and clocks that
 * stand still: a look takes LOOK_NS of a CPU.
 */
#include "harness.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>

#include "aside.h"
#include "budget.h"
#include "clock.h"
#include "demote.h"
#include "residency.h"
#include "space.h"
#include "touches.h"

#define BLOCKS	8
#define PAGES	UMM_BLOCK_PAGES
#define LOOK_NS UINT64_C(1000000)
#define FIRST	4 /* blocks that are looked at ahead of their turn, of so few */

static char *memory;
static uint64_t now_ns, cpu_ns;

/* ---- the shim -------------------------------------------------------------------------- */

uint64_t clock_now_ns(void)
{
	return now_ns;
}

uint64_t clock_cpu_ns(void)
{
	return cpu_ns += LOOK_NS;
}

void demote_attach(struct umm_ctx *ctx, uintptr_t base)
{
	int ret = umm_attach(ctx, (void *)base, BLOCK);

	assert_true(!ret || ret == -EEXIST);
}

uint64_t demote_settle(struct umm_ctx *ctx, uintptr_t base)
{
	(void)ctx;
	(void)base;
	return 0;
}

unsigned residency_block(uintptr_t base, unsigned char *present)
{
	unsigned n = 0;

	if (mincore((void *)base, BLOCK, present))
		return 0;
	for (unsigned i = 0; i < PAGES; i++)
		n += present[i] &= 1;
	return n;
}

void space_hold(uintptr_t start, uintptr_t end)
{
	(void)start;
	(void)end;
}

void space_release(void)
{
}

void touches_own(bool own)
{
	(void)own;
}

static void forget_all(void)
{
	policy_reset();
	aside_reset();
	policy_sampling(&sample_refault);
}

/* ---- tests ----------------------------------------------------------------------------- */

static char *block_at(unsigned i)
{
	return memory + i * BLOCK;
}

static void begin(struct env *e, const struct sample_ops *ops)
{
	forget_all();
	policy_sampling(ops);
	policy_resize((uint64_t)BLOCKS * PAGES);
	memory = env_map(e, BLOCKS * BLOCK);
	fill(memory, BLOCKS * PAGES, 1);
	for (unsigned i = 0; i < BLOCKS; i++)
		assert_int_equal(policy_see((uintptr_t)block_at(i)), 0);
	assert_int_equal(aside_open(e->ctx), 0);
	now_ns = 1000 * BUDGET_SAVED_NS;
}

/* Without a limit to CPU time. */
static void look(struct env *e)
{
	aside_look(e->ctx, 1000000);
}

/* The page of the block that is aside; NULL: none. */
static char *probe_of(struct env *e, unsigned i)
{
	struct umm_page_info info[PAGES];

	if (umm_query(e->ctx, (uintptr_t)block_at(i), PAGES, info))
		return NULL;
	for (unsigned page = 0; page < PAGES; page++)
		if (info[page].state == UMM_PAGE_EXCLUSIVE)
			return block_at(i) + page * PAGE;
	return NULL;
}

/* The next turn, which is block @i's. True: it passes. */
static bool turn_passes(struct env *e, unsigned i, unsigned there)
{
	unsigned char present[PAGES];
	unsigned n = 0;
	uintptr_t base;
	bool passes;

	assert_true(policy_turn(&base) && base == (uintptr_t)block_at(i));
	residency_block(base, present);
	passes = aside_end(e->ctx, base, present);
	for (unsigned page = 0; page < PAGES; page++)
		n += present[page];
	assert_int_equal(n, there);
	return passes;
}

static void one_page_is_looked_at_of_each_block_in_front(struct env *e)
{
	begin(e, &sample_probe);
	look(e);
	for (unsigned i = 0; i < BLOCKS; i++)
		assert_int_equal(probe_of(e, i) != NULL, i < FIRST);
	/* Once before each turn. */
	look(e);
	assert_int_equal(aside_counts().probes, FIRST);
	assert_int_equal(policy_probes(), FIRST);
	assert_filled(memory, BLOCKS * PAGES, 1);
}

static void a_block_that_was_touched_passes_once(struct env *e)
{
	char *probe[FIRST];

	begin(e, &sample_probe);
	look(e);
	for (unsigned i = 0; i < FIRST; i++)
		assert_non_null(probe[i] = probe_of(e, i));
	assert_int_equal(touch_read(probe[0]), 0);
	assert_int_equal(touch_write(probe[1]), 0);
	assert_true(turn_passes(e, 0, PAGES));
	assert_true(turn_passes(e, 1, PAGES));
	/* What was not touched is among what may go. */
	assert_false(turn_passes(e, 2, PAGES));
	assert_false(turn_passes(e, 3, PAGES));
	for (unsigned i = FIRST; i < BLOCKS; i++)
		assert_false(turn_passes(e, i, PAGES));
	assert_false(turn_passes(e, 0, PAGES));
	assert_int_equal(aside_counts().back, 2);
	assert_int_equal(policy_probes(), 2);
	assert_ptr_equal(probe_of(e, 2), probe[2]);
}

static void what_is_aside_leaves_with_its_block(struct env *e)
{
	struct ref_device *ref = env_device(e, PAGES);

	begin(e, &sample_probe);
	look(e);
	assert_non_null(probe_of(e, 0));
	to_device(e, ref, block_at(0), PAGES, PAGES);
	policy_demoted((uintptr_t)block_at(0), PAGES);
	assert_int_equal(policy_probes(), FIRST - 1);
	assert_false(turn_passes(e, 0, 0));
	assert_int_equal(aside_counts().back, 0);
	assert_filled(memory, BLOCKS * PAGES, 1);
}

static void what_is_dropped_was_not_touched(struct env *e)
{
	begin(e, &sample_probe);
	look(e);
	assert_int_equal(madvise(block_at(0), BLOCK, MADV_DONTNEED), 0);
	wait_until(!probe_of(e, 0));
	assert_false(turn_passes(e, 0, 0));
	assert_int_equal(aside_counts().back, 0);
	assert_int_equal(policy_probes(), FIRST - 1);
	policy_forget((uintptr_t)block_at(1));
	assert_int_equal(policy_probes(), FIRST - 2);
}

static void other_policies_move_nothing_aside(struct env *e)
{
	for (unsigned i = 0; i < NR_SAMPLE; i++) {
		if (sample_policies[i]->passes)
			continue;
		begin(e, sample_policies[i]);
		look(e);
		assert_int_equal(aside_counts().probes, 0);
	}
}

/* What is aside when another policy takes over is looked at when it is its block's turn. */
static void what_is_aside_outlasts_its_policy(struct env *e)
{
	char *probe;

	begin(e, &sample_probe);
	look(e);
	policy_sampling(&sample_refault);
	assert_int_equal(policy_probes(), FIRST);
	assert_int_equal(aside_open(e->ctx), 0);
	assert_non_null(probe = probe_of(e, 0));
	assert_int_equal(touch_read(probe), 0);
	for (unsigned i = 0; i < BLOCKS; i++)
		assert_false(turn_passes(e, i, PAGES));
	assert_int_equal(aside_counts().back, 1);
	look(e);
	assert_int_equal(aside_counts().probes, FIRST);
	policy_sampling(&sample_probe);
	look(e);
	assert_true(aside_counts().probes > FIRST);
	assert_filled(memory, BLOCKS * PAGES, 1);
}

/*
 * For ten seconds there is a block to look at every 5 ms: its probe was touched, or it left.
 * The looks that one percent of a CPU allows.
 */
static uint64_t looks_in_ten_seconds(struct env *e, bool touched)
{
	uint64_t end;

	begin(e, &sample_probe);
	end = now_ns + 10000 * LOOK_NS;
	for (unsigned i = 0; now_ns < end; now_ns += 5 * LOOK_NS, i = (i + 1) % BLOCKS) {
		char *probe = probe_of(e, i);

		if (probe && touched)
			assert_int_equal(touch_read(probe), 0);
		turn_passes(e, i, PAGES);
		if (probe && !touched) {
			policy_demoted((uintptr_t)probe, 1);
			to_system(e, probe, 1, 1);
		}
		aside_look(e->ctx, 10);
	}
	return aside_counts().probes;
}

/* 1 ms in 100, and what may be saved is one more; a touch costs as much as the look. */
static void cpu_time_stays_within_its_share(struct env *e)
{
	assert_in_range(looks_in_ten_seconds(e, false), 98, 102);
	assert_in_range(aside_counts().cpu_ns, 98 * LOOK_NS, 102 * LOOK_NS);
	assert_in_range(looks_in_ten_seconds(e, true), 49, 52);
	assert_in_range(aside_counts().cpu_ns, 98 * LOOK_NS, 103 * LOOK_NS);
}

static void a_budget_saves_for_a_tenth_of_a_second(struct env *e)
{
	uint64_t start = 1000 * BUDGET_SAVED_NS, used = 0;
	struct budget budget = { 0 };

	(void)e;
	assert_true(budget_is_left(&budget, 0));
	while (budget_is_left(&budget, start)) {
		budget_use(&budget, start, LOOK_NS, 20);
		used += LOOK_NS;
	}
	/* 2 % of the saved time, and the one that went over it. */
	assert_int_equal(used, BUDGET_SAVED_NS / 50 + LOOK_NS);
	assert_false(budget_is_left(&budget, start + 50 * LOOK_NS - 1));
	assert_true(budget_is_left(&budget, start + 50 * LOOK_NS));
}

static const struct test_case cases[] = {
	TEST(KERNEL, one_page_is_looked_at_of_each_block_in_front),
	TEST(KERNEL, a_block_that_was_touched_passes_once),
	TEST(KERNEL, what_is_aside_leaves_with_its_block),
	TEST(KERNEL, what_is_dropped_was_not_touched),
	TEST(ONCE, other_policies_move_nothing_aside),
	TEST(KERNEL, what_is_aside_outlasts_its_policy),
	TEST(ONCE, cpu_time_stays_within_its_share),
	TEST(ONCE, a_budget_saves_for_a_tenth_of_a_second),
};

int main(int argc, char **argv)
{
	harness_cleanup(forget_all);
	return harness_main("test_aside", cases, sizeof(cases) / sizeof(cases[0]), argc, argv);
}
