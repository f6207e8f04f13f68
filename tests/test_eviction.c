/* SPDX-License-Identifier: MIT */
/* Device memory that is full: what fits, who has to go, and that nothing is lost. */
#include "harness.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "hook.h"

#define BLOCK_PAGES UMM_BLOCK_PAGES

static void without_eviction_what_fits_moves(struct env *e)
{
	struct ref_device *ref = env_device(e, 100);
	char *p = env_alloc_small(e, 260 * PAGE);

	fill(p, 260, 1);
	assert_int_equal(migrate(e, ref, p, 60, UMM_MIGRATE_NO_EVICT), 60);
	assert_int_equal(migrate(e, ref, p + 60 * PAGE, 200, UMM_MIGRATE_NO_EVICT), 40);
	assert_state(e, p, 60, env_home(e));
	assert_int_equal(count_state(e, p + 60 * PAGE, 200, env_home(e)), 40);
	assert_int_equal(count_state(e, p + 60 * PAGE, 200, UMM_PAGE_SYSTEM), 160);
	assert_free_frames(ref, 0);
	to_system(e, p, 260, 100);
	assert_filled(p, 260, 1);
}

static void without_eviction_full_memory_is_enospc(struct env *e)
{
	struct ref_device *ref = env_device(e, 32);
	char *p = env_alloc_small(e, 64 * PAGE);

	fill(p, 64, 1);
	to_device(e, ref, p, 32, 32);
	assert_int_equal(migrate(e, ref, p + 32 * PAGE, 32, UMM_MIGRATE_NO_EVICT), -ENOSPC);
	assert_state(e, p, 32, env_home(e));
	assert_state(e, p + 32 * PAGE, 32, UMM_PAGE_SYSTEM);
	assert_filled(p, 64, 1);
}

static void eviction_takes_the_least_recently_used_block(struct env *e)
{
	struct ref_device *ref = env_device(e, 2 * BLOCK_PAGES);
	char *p = env_alloc(e, 4 * BLOCK);
	char *a = p, *b = p + BLOCK, *c = p + 2 * BLOCK, *d = p + 3 * BLOCK;

	fill(p, 4 * BLOCK_PAGES, 1);
	to_device(e, ref, a, BLOCK_PAGES, BLOCK_PAGES);
	to_device(e, ref, b, BLOCK_PAGES, BLOCK_PAGES);
	env_mark(e);
	to_device(e, ref, c, BLOCK_PAGES, BLOCK_PAGES);
	assert_state(e, a, BLOCK_PAGES, UMM_PAGE_SYSTEM);
	assert_state(e, b, BLOCK_PAGES, env_home(e));
	assert_state(e, c, BLOCK_PAGES, env_home(e));
	assert_delta(e, UMM_COUNT_EVICTIONS, 1);
	assert_delta(e, UMM_COUNT_TO_SYSTEM + UMM_CAUSE_EVICT, BLOCK_PAGES);

	/* b is older than c, but was used since. */
	umm_devmem_touch(ref->mem, (uintptr_t)b + 5 * PAGE, 1);
	to_device(e, ref, d, BLOCK_PAGES, BLOCK_PAGES);
	assert_state(e, b, BLOCK_PAGES, env_home(e));
	assert_state(e, c, BLOCK_PAGES, UMM_PAGE_SYSTEM);
	assert_state(e, d, BLOCK_PAGES, env_home(e));
	assert_filled(p, 4 * BLOCK_PAGES, 1);
}

/* Copies end without a move: the block was evicted all the same. */
static void evicted_duplicates_count(struct env *e)
{
	struct ref_device *ref = env_device(e, BLOCK_PAGES + 8);
	char *p = env_alloc(e, 4 * BLOCK);
	size_t b;

	fill(p, 4 * BLOCK_PAGES, 1);
	env_mark(e);
	for (b = 0; b < 4; b++)
		assert_int_equal(migrate(e, ref, p + b * BLOCK, BLOCK_PAGES, UMM_MIGRATE_DUPLICATE),
				 BLOCK_PAGES);
	assert_delta(e, UMM_COUNT_EVICTIONS, 3);
	assert_delta(e, UMM_COUNT_DUPLICATED, 4 * BLOCK_PAGES);
	assert_int_equal(env_delta_causes(e, UMM_COUNT_TO_SYSTEM), 0);
	assert_state(e, p, 3 * BLOCK_PAGES, UMM_PAGE_SYSTEM);
	assert_state(e, p + 3 * BLOCK, BLOCK_PAGES, UMM_PAGE_DUPLICATED);

	/* A block of both kinds is one. */
	device_fill(ref, p + 3 * BLOCK, 7, 2);
	assert_int_equal(count_state(e, p + 3 * BLOCK, BLOCK_PAGES, UMM_PAGE_DUPLICATED),
			 BLOCK_PAGES - 7);
	assert_int_equal(umm_devmem_evict(ref->mem, BLOCK_PAGES), 0);
	assert_delta(e, UMM_COUNT_EVICTIONS, 4);
	assert_delta(e, UMM_COUNT_TO_SYSTEM + UMM_CAUSE_EVICT, 7);
	/* Nothing is left to go. */
	assert_int_equal(umm_devmem_evict(ref->mem, BLOCK_PAGES), 0);
	assert_delta(e, UMM_COUNT_EVICTIONS, 4);
	assert_filled(p + 3 * BLOCK, 7, 2);
}

static void evict_on_request_frees_frames(struct env *e)
{
	struct ref_device *ref = env_device(e, 2 * BLOCK_PAGES);
	char *p = env_alloc(e, 2 * BLOCK);

	fill(p, 2 * BLOCK_PAGES, 1);
	to_device(e, ref, p, 2 * BLOCK_PAGES, 2 * BLOCK_PAGES);
	assert_int_equal(umm_devmem_evict(ref->mem, 100), 0);
	assert_true(umm_devmem_nfree(ref->mem) >= 100);
	/* Both arrived by one request, in any order. */
	assert_int_equal(count_state(e, p, 2 * BLOCK_PAGES, env_home(e)), BLOCK_PAGES);
	assert_int_equal(umm_devmem_evict(ref->mem, 2 * BLOCK_PAGES), 0);
	assert_free_frames(ref, 2 * BLOCK_PAGES);
	assert_int_equal(umm_devmem_evict(ref->mem, 2 * BLOCK_PAGES + 1), -EINVAL);
	assert_filled(p, 2 * BLOCK_PAGES, 1);
}

static void evicting_more_than_pages_hold_is_enospc(struct env *e)
{
	struct ref_device *ref = env_device(e, 64);
	uint32_t frames[10];

	assert_int_equal(umm_devmem_alloc(ref->mem, 10, frames), 0);
	assert_int_equal(umm_devmem_evict(ref->mem, 60), -ENOSPC);
	umm_devmem_free(ref->mem, 10, frames);
	assert_int_equal(umm_devmem_evict(ref->mem, 64), 0);
}

static void working_set_of_four_times_the_memory_streams_through(struct env *e)
{
	struct ref_device *ref = env_device(e, 2 * BLOCK_PAGES);
	const size_t npages = 8 * BLOCK_PAGES;
	char *p = env_alloc(e, npages * PAGE);
	unsigned round;
	size_t b;

	fill(p, npages, 0);
	for (round = 0; round < 2; round++)
		for (b = 0; b < 8; b++)
			to_device(e, ref, p + b * BLOCK, BLOCK_PAGES, BLOCK_PAGES);
	assert_int_equal(count_state(e, p, npages, env_home(e)), 2 * BLOCK_PAGES);
	assert_filled(p, npages, 0);
}

static void device_with_less_memory_than_one_block_works(struct env *e)
{
	struct ref_device *ref = env_device(e, 3);
	char *p = env_alloc(e, 40 * PAGE);

	fill(p, 40, 1);
	assert_device_sees(ref, p, 40, 1);
	device_fill(ref, p, 40, 2);
	assert_device_sees(ref, p, 40, 2);
	assert_filled(p, 40, 2);
}

static void one_request_larger_than_the_memory_loses_nothing(struct env *e)
{
	struct ref_device *ref = env_device(e, BLOCK_PAGES + 100);
	const size_t npages = 4 * BLOCK_PAGES;
	char *p = env_alloc(e, npages * PAGE);
	long moved;

	fill(p, npages, 1);
	moved = migrate(e, ref, p, npages, 0);
	assert_true(moved > 0);
	assert_true(count_state(e, p, npages, env_home(e)) <= BLOCK_PAGES + 100);
	assert_int_equal(count_state(e, p, npages, env_home(e)) +
				 count_state(e, p, npages, UMM_PAGE_SYSTEM),
			 npages);
	assert_filled(p, npages, 1);
}

static void policy_set(struct ref_device *ref, enum umm_evict_order order, uint32_t low,
		       uint32_t high)
{
	struct umm_devmem_policy policy = {
		.size = sizeof(policy), .order = order, .low_free = low, .high_free = high
	};

	assert_int_equal(umm_devmem_policy_set(ref->mem, &policy), 0);
}

/* Of two that were both used, second chance takes the first that came; last use, the other. */
static void orders_differ_in_who_goes(struct env *e)
{
	struct ref_device *ref = env_device(e, 2 * BLOCK_PAGES);
	char *p = env_alloc(e, 3 * BLOCK);

	policy_set(ref, UMM_EVICT_CLOCK, 0, 0);
	fill(p, 3 * BLOCK_PAGES, 1);
	to_device(e, ref, p, BLOCK_PAGES, BLOCK_PAGES);
	to_device(e, ref, p + BLOCK, BLOCK_PAGES, BLOCK_PAGES);
	umm_devmem_touch(ref->mem, (uintptr_t)p + BLOCK, 1);
	umm_devmem_touch(ref->mem, (uintptr_t)p, 1);
	to_device(e, ref, p + 2 * BLOCK, BLOCK_PAGES, BLOCK_PAGES);
	assert_state(e, p, BLOCK_PAGES, UMM_PAGE_SYSTEM);
	assert_state(e, p + BLOCK, BLOCK_PAGES, env_home(e));
	assert_filled(p, 3 * BLOCK_PAGES, 1);
}

/* Evictions of four rounds of a loop over nine blocks, where eight fit. */
static uint64_t loop_evictions(struct env *e, enum umm_evict_order order)
{
	struct ref_device *ref = env_device(e, 8 * BLOCK_PAGES);
	char *p = env_alloc(e, 9 * BLOCK), *at;
	uint64_t evictions;

	policy_set(ref, order, 0, 0);
	fill(p, 9 * BLOCK_PAGES, 1);
	env_mark(e);
	for (unsigned i = 0; i < 36; i++) {
		at = p + i % 9 * BLOCK;
		if (state_of(e, at) == env_home(e))
			umm_devmem_touch(ref->mem, (uintptr_t)at, 1);
		else
			to_device(e, ref, at, BLOCK_PAGES, BLOCK_PAGES);
	}
	evictions = env_delta(e, UMM_COUNT_EVICTIONS);
	assert_filled(p, 9 * BLOCK_PAGES, 1);
	env_device_gone(e, ref);
	return evictions;
}

/* Two blocks of the loop take turns in the one place that is not for what comes back sooner. */
static void loop_larger_than_memory_keeps_most_of_it_in_lirs(struct env *e)
{
	assert_int_equal(loop_evictions(e, UMM_EVICT_LRU), 28);
	assert_int_equal(loop_evictions(e, UMM_EVICT_LIRS), 7);
}

/* By last use: b, c, a. */
static void changing_the_order_keeps_turns(struct env *e)
{
	struct ref_device *ref = env_device(e, 3 * BLOCK_PAGES);
	char *p = env_alloc(e, 3 * BLOCK);

	policy_set(ref, UMM_EVICT_LRU, 0, 0);
	fill(p, 3 * BLOCK_PAGES, 1);
	for (unsigned i = 0; i < 3; i++)
		to_device(e, ref, p + i * BLOCK, BLOCK_PAGES, BLOCK_PAGES);
	umm_devmem_touch(ref->mem, (uintptr_t)p, 1);
	policy_set(ref, UMM_EVICT_CLOCK, 0, 0);
	policy_set(ref, UMM_EVICT_S3FIFO, 0, 0);
	policy_set(ref, UMM_EVICT_LRU, 0, 0);
	assert_int_equal(umm_devmem_evict(ref->mem, BLOCK_PAGES), 0);
	assert_state(e, p + BLOCK, BLOCK_PAGES, UMM_PAGE_SYSTEM);
	assert_int_equal(umm_devmem_evict(ref->mem, 2 * BLOCK_PAGES), 0);
	assert_state(e, p, BLOCK_PAGES, env_home(e));
	policy_set(ref, UMM_EVICT_LIRS, 0, 0);
	assert_int_equal(umm_devmem_evict(ref->mem, 3 * BLOCK_PAGES), 0);
	assert_filled(p, 3 * BLOCK_PAGES, 1);
}

static void water_marks_free_frames_ahead_of_need(struct env *e)
{
	struct ref_device *ref = env_device(e, 4 * BLOCK_PAGES);
	char *p = env_alloc(e, 4 * BLOCK);

	policy_set(ref, UMM_EVICT_LRU, BLOCK_PAGES, 2 * BLOCK_PAGES);
	fill(p, 4 * BLOCK_PAGES, 1);
	env_mark(e);
	for (unsigned i = 0; i < 3; i++)
		to_device(e, ref, p + i * BLOCK, BLOCK_PAGES, BLOCK_PAGES);
	assert_delta(e, UMM_COUNT_EVICTIONS, 0);
	to_device(e, ref, p + 3 * BLOCK, BLOCK_PAGES, BLOCK_PAGES);
	assert_delta(e, UMM_COUNT_EVICTIONS, 2);
	assert_free_frames(ref, 2 * BLOCK_PAGES);
	assert_state(e, p, 2 * BLOCK_PAGES, UMM_PAGE_SYSTEM);
	assert_state(e, p + 2 * BLOCK, 2 * BLOCK_PAGES, env_home(e));
	assert_filled(p, 4 * BLOCK_PAGES, 1);
}

/* The mover does one thing after the other: what it does next ends after evicting ahead has. */
static void evicting_ahead_spares_what_the_request_brought(struct env *e)
{
	struct ref_device *ref = env_device(e, 2 * BLOCK_PAGES);
	char *p = env_alloc(e, 2 * BLOCK);
	struct umm_fence *fence;

	policy_set(ref, UMM_EVICT_LRU, BLOCK_PAGES, BLOCK_PAGES);
	fill(p, 2 * BLOCK_PAGES, 1);
	env_mark(e);
	to_device(e, ref, p, 2 * BLOCK_PAGES, 2 * BLOCK_PAGES);
	fence = migrate_start(e, ref, p, 1);
	assert_int_equal(umm_fence_wait(fence, PATIENCE_MS), 0);
	umm_fence_put(fence);
	assert_delta(e, UMM_COUNT_EVICTIONS, 0);
	assert_state(e, p, 2 * BLOCK_PAGES, env_home(e));
	assert_filled(p, 2 * BLOCK_PAGES, 1);
}

struct to_device {
	struct env *e;
	struct ref_device *ref;
	char *start;
};

static void to_device_run(void *arg)
{
	struct to_device *t = arg;

	to_device(t->e, t->ref, t->start, BLOCK_PAGES, BLOCK_PAGES);
}

/*
 * The third block leaves one free, too few, but evicting ahead waits behind it. What was used
 * since is not for its turn, so that it ends with the first block; the fourth, meanwhile, takes
 * what is free.
 */
static void frames_taken_while_evicting_ahead_are_made_up_for(struct env *e)
{
	struct ref_device *ref = env_device(e, 4 * BLOCK_PAGES);
	char *p = env_alloc(e, 4 * BLOCK);
	struct to_device last = { .e = e, .ref = ref, .start = p + 3 * BLOCK };
	struct umm_fence *fence;
	struct actor actor;

	policy_set(ref, UMM_EVICT_LRU, 2 * BLOCK_PAGES, 2 * BLOCK_PAGES);
	fill(p, 4 * BLOCK_PAGES, 1);
	to_device(e, ref, p, 2 * BLOCK_PAGES, 2 * BLOCK_PAGES);
	ref_gate_close(ref, REF_GATE_COPY);
	fence = migrate_start(e, ref, p + 2 * BLOCK, BLOCK_PAGES);
	assert_true(ref_gate_wait(ref, REF_GATE_COPY, PATIENCE_MS));
	umm_devmem_touch(ref->mem, (uintptr_t)p + BLOCK, 1);
	actor_start(&actor, to_device_run, &last);
	wait_until(umm_devmem_nfree(ref->mem) == 0);
	ref_gate_open(ref, REF_GATE_COPY);
	actor_join(&actor);
	assert_int_equal(umm_fence_wait(fence, PATIENCE_MS), 0);
	umm_fence_put(fence);
	assert_free_frames(ref, 2 * BLOCK_PAGES);
	assert_state(e, p, BLOCK_PAGES, UMM_PAGE_SYSTEM);
	assert_state(e, p + 3 * BLOCK, BLOCK_PAGES, env_home(e));
	assert_filled(p, 4 * BLOCK_PAGES, 1);
}

struct turns {
	uintptr_t second;
	struct stop evicted;
	bool forced;
};

/* The second block's frames are taken when evicting ahead has freed enough, and not yet ended. */
static void take_turns(void *priv, enum hook_point point, uintptr_t addr)
{
	struct turns *turns = priv;

	if (point == HOOK_EVICTED)
		stop_here(&turns->evicted);
	else if (addr == turns->second && point == HOOK_CHOSEN)
		turns->forced = stop_arrived(&turns->evicted);
	else if (addr == turns->second)
		stop_go(&turns->evicted);
}

static void frames_that_one_request_takes_while_evicting_ahead_are_made_up_for(struct env *e)
{
	static struct turns turns;
	struct ref_device *ref = env_device(e, 4 * BLOCK_PAGES);
	char *p = env_alloc(e, 4 * BLOCK);

	policy_set(ref, UMM_EVICT_LRU, 2 * BLOCK_PAGES, 2 * BLOCK_PAGES);
	fill(p, 4 * BLOCK_PAGES, 1);
	for (unsigned i = 0; i < 2; i++)
		to_device(e, ref, p + i * BLOCK, BLOCK_PAGES, BLOCK_PAGES);
	turns = (struct turns){ .second = (uintptr_t)p + 3 * BLOCK };
	stop_init(&turns.evicted);
	hook_set(HOOK_CHOSEN, take_turns, &turns);
	hook_set(HOOK_COLLECTED, take_turns, &turns);
	hook_set(HOOK_EVICTED, take_turns, &turns);
	env_mark(e);
	to_device(e, ref, p + 2 * BLOCK, 2 * BLOCK_PAGES, 2 * BLOCK_PAGES);
	wait_until(umm_devmem_nfree(ref->mem) == 2 * BLOCK_PAGES);
	hook_set(HOOK_CHOSEN, NULL, NULL);
	hook_set(HOOK_COLLECTED, NULL, NULL);
	hook_set(HOOK_EVICTED, NULL, NULL);
	assert_true(turns.forced);
	assert_delta(e, UMM_COUNT_EVICTIONS, 2);
	assert_state(e, p, 2 * BLOCK_PAGES, UMM_PAGE_SYSTEM);
	assert_state(e, p + 2 * BLOCK, 2 * BLOCK_PAGES, env_home(e));
	assert_filled(p, 4 * BLOCK_PAGES, 1);
}

static void several_small_blocks_go_for_one_large(struct env *e)
{
	struct ref_device *ref = env_device(e, BLOCK_PAGES);
	char *p = env_alloc(e, 5 * BLOCK);

	fill(p, 5 * BLOCK_PAGES, 1);
	for (unsigned i = 0; i < 4; i++)
		to_device(e, ref, p + i * BLOCK, BLOCK_PAGES / 4, BLOCK_PAGES / 4);
	env_mark(e);
	to_device(e, ref, p + 4 * BLOCK, BLOCK_PAGES / 2, BLOCK_PAGES / 2);
	assert_delta(e, UMM_COUNT_EVICTIONS, 2);
	assert_delta(e, UMM_COUNT_TO_SYSTEM + UMM_CAUSE_EVICT, BLOCK_PAGES / 2);
	assert_state(e, p + 2 * BLOCK, BLOCK_PAGES / 4, env_home(e));
	assert_filled(p, 5 * BLOCK_PAGES, 1);
}

/* Sixteen pages came first, then two whole blocks: is the first of these evicted for a page? */
static bool large_one_goes(struct env *e, enum umm_evict_order order)
{
	struct ref_device *ref = env_device(e, 2 * BLOCK_PAGES + 16);
	char *p = env_alloc(e, 4 * BLOCK), *large = p + BLOCK;
	bool small_stays;

	policy_set(ref, order, 0, 0);
	fill(p, 4 * BLOCK_PAGES, 1);
	to_device(e, ref, p, 16, 16);
	to_device(e, ref, large, BLOCK_PAGES, BLOCK_PAGES);
	to_device(e, ref, large + BLOCK, BLOCK_PAGES, BLOCK_PAGES);
	env_mark(e);
	to_device(e, ref, large + 2 * BLOCK, 1, 1);
	assert_delta(e, UMM_COUNT_EVICTIONS, 1);
	assert_state(e, large + BLOCK, BLOCK_PAGES, env_home(e));
	small_stays = state_of(e, p) == env_home(e);
	assert_state(e, small_stays ? large : p, small_stays ? BLOCK_PAGES : 16, UMM_PAGE_SYSTEM);
	assert_delta(e, UMM_COUNT_TO_SYSTEM + UMM_CAUSE_EVICT, small_stays ? BLOCK_PAGES : 16);
	assert_filled(p, 4 * BLOCK_PAGES, 1);
	env_device_gone(e, ref);
	return small_stays;
}

static void adaptive_prefers_a_large_block_to_a_little_older_small_one(struct env *e)
{
	assert_false(large_one_goes(e, UMM_EVICT_LRU));
	assert_true(large_one_goes(e, UMM_EVICT_ADAPTIVE));
}

static struct umm_devmem_policy policy_of(struct umm_devmem *mem)
{
	struct umm_devmem_policy out = { .size = sizeof(out) };

	assert_int_equal(umm_devmem_policy(mem, &out), 0);
	return out;
}

static void bad_policies_are_einval(struct env *e)
{
	struct ref_device *ref = env_device(e, 64);
	struct umm_devmem_policy policy = { .size = sizeof(policy) }, out;

	policy.order = (enum umm_evict_order)(UMM_EVICT_LRFU + 1);
	assert_int_equal(umm_devmem_policy_set(ref->mem, &policy), -EINVAL);
	policy.order = UMM_EVICT_S3FIFO;
	policy.high_free = 65;
	assert_int_equal(umm_devmem_policy_set(ref->mem, &policy), -EINVAL);
	policy.high_free = 8;
	policy.low_free = 9;
	assert_int_equal(umm_devmem_policy_set(ref->mem, &policy), -EINVAL);
	policy.low_free = 8;
	policy.flags = 1;
	assert_int_equal(umm_devmem_policy_set(ref->mem, &policy), -EINVAL);
	policy.flags = 0;
	assert_int_equal(umm_devmem_policy_set(ref->mem, &policy), 0);
	out = policy_of(ref->mem);
	assert_int_equal(out.order, UMM_EVICT_S3FIFO);
	assert_int_equal(out.low_free, 8);
	assert_int_equal(out.high_free, 8);
}

/* Evictions of four rounds of a loop over nine blocks, by a context that wants so. */
static uint64_t loop_evictions_of(struct env *e, enum umm_evict_order order)
{
	env_reopen(e, (struct umm_ctx_options){ .evict_order = order,
						.readahead = UMM_READAHEAD_OFF,
						.thrash = UMM_THRASH_OFF });
	return loop_evictions(e, UMM_EVICT_DEFAULT);
}

static void context_chooses_the_order_of_its_memories(struct env *e)
{
	assert_int_equal(loop_evictions_of(e, UMM_EVICT_LRU), 28);
	assert_int_equal(loop_evictions_of(e, UMM_EVICT_LIRS), 7);
}

/* Its own word, its context's, the environment's: who says nothing has what the next one says. */
static void memory_counts_more_than_context_and_that_more_than_the_environment(struct env *e)
{
	struct ref_device *ref, *other;

	setenv("UMM_EVICT_ORDER", "clock", 1);
	env_reopen(e, (struct umm_ctx_options){ .evict_order = UMM_EVICT_S3FIFO });
	ref = env_device(e, 64);
	other = env_device(e, 64);
	assert_int_equal(policy_of(ref->mem).order, UMM_EVICT_S3FIFO);
	policy_set(ref, UMM_EVICT_LRU, 4, 8);
	assert_int_equal(policy_of(ref->mem).order, UMM_EVICT_LRU);
	assert_int_equal(policy_of(other->mem).order, UMM_EVICT_S3FIFO);
	policy_set(ref, UMM_EVICT_DEFAULT, 0, 0);
	assert_int_equal(policy_of(ref->mem).order, UMM_EVICT_S3FIFO);
	env_device_gone(e, ref);
	env_device_gone(e, other);
	env_reopen(e, (struct umm_ctx_options){ .evict_order = UMM_EVICT_DEFAULT });
	ref = env_device(e, 64);
	assert_int_equal(policy_of(ref->mem).order, UMM_EVICT_CLOCK);
	policy_set(ref, UMM_EVICT_LRFU, 0, 0);
	unsetenv("UMM_EVICT_ORDER");
	policy_set(ref, UMM_EVICT_DEFAULT, 0, 0);
	assert_int_equal(policy_of(ref->mem).order, UMM_EVICT_ADAPTIVE);
}

/* Two contexts at once: neither hears of the other's. */
static void contexts_of_one_process_have_orders_of_their_own(struct env *e)
{
	struct umm_ctx_options options = { .size = sizeof(options), .evict_order = UMM_EVICT_LIRS };
	struct ref_options device = { .nframes = 64 };
	struct ref_device *theirs;
	struct umm_ctx *ctx;

	env_reopen(e, (struct umm_ctx_options){ .evict_order = UMM_EVICT_CLOCK });
	assert_int_equal(umm_ctx_create(&options, &ctx), 0);
	assert_int_equal(ref_create(ctx, &device, &theirs), 0);
	assert_int_equal(policy_of(theirs->mem).order, UMM_EVICT_LIRS);
	assert_int_equal(policy_of(env_device(e, 64)->mem).order, UMM_EVICT_CLOCK);
	ref_destroy(theirs);
	umm_ctx_put(ctx);
}

static void context_with_an_unknown_order_is_einval(struct env *e)
{
	struct umm_ctx_options options = { .size = sizeof(options),
					   .evict_order =
						   (enum umm_evict_order)(UMM_EVICT_LRFU + 1) };
	struct umm_ctx *ctx = NULL;

	(void)e;
	assert_int_equal(umm_ctx_create(&options, &ctx), -EINVAL);
	assert_null(ctx);
}

static unsigned nnamed;

static void said(void *priv, enum umm_log_level level, const char *line)
{
	(void)priv;
	(void)level;
	nnamed += strstr(line, "UMM_EVICT_ORDER=oldest") && strstr(line, "lrfu") &&
		  strstr(line, "adaptive");
}

static void environment_names_the_order(struct env *e)
{
	struct ref_device *ref;

	setenv("UMM_EVICT_ORDER", "s3fifo", 1);
	ref = env_device(e, 64);
	assert_int_equal(policy_of(ref->mem).order, UMM_EVICT_S3FIFO);
	setenv("UMM_EVICT_ORDER", "oldest", 1);
	umm_log_set(said, NULL, UMM_LOG_WARNING);
	ref = env_device(e, 64);
	umm_log_set(NULL, NULL, UMM_LOG_WARNING);
	assert_int_equal(nnamed, 1);
	unsetenv("UMM_EVICT_ORDER");
	assert_int_equal(policy_of(ref->mem).order, UMM_EVICT_ADAPTIVE);
}

static const struct test_case cases[] = {
	TEST(ALL, without_eviction_what_fits_moves),
	TEST(ALL, without_eviction_full_memory_is_enospc),
	TEST(ALL, eviction_takes_the_least_recently_used_block),
	TEST(ALL, evicted_duplicates_count),
	TEST(ALL, evict_on_request_frees_frames),
	TEST(ALL, evicting_more_than_pages_hold_is_enospc),
	TEST(ALL, working_set_of_four_times_the_memory_streams_through),
	TEST(ALL, device_with_less_memory_than_one_block_works),
	TEST(ALL, one_request_larger_than_the_memory_loses_nothing),
	TEST(ALL, orders_differ_in_who_goes),
	TEST(ALL, loop_larger_than_memory_keeps_most_of_it_in_lirs),
	TEST(ALL, changing_the_order_keeps_turns),
	TEST(ALL, water_marks_free_frames_ahead_of_need),
	TEST(ALL, evicting_ahead_spares_what_the_request_brought),
	TEST(ASYNC, frames_taken_while_evicting_ahead_are_made_up_for),
	TEST(ASYNC, frames_that_one_request_takes_while_evicting_ahead_are_made_up_for),
	TEST(ALL, several_small_blocks_go_for_one_large),
	TEST(ALL, adaptive_prefers_a_large_block_to_a_little_older_small_one),
	TEST(ALL, context_chooses_the_order_of_its_memories),
	TEST(ONCE, memory_counts_more_than_context_and_that_more_than_the_environment),
	TEST(ONCE, contexts_of_one_process_have_orders_of_their_own),
	TEST(ONCE, context_with_an_unknown_order_is_einval),
	TEST(ONCE, bad_policies_are_einval),
	TEST(ONCE, environment_names_the_order),
};

int main(int argc, char **argv)
{
	return harness_main("eviction", cases, sizeof(cases) / sizeof(cases[0]), argc, argv);
}
