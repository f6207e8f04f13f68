/* SPDX-License-Identifier: MIT */
/*
 * Pages in flight: the program drops, unmaps or touches them, another migration wants them,
 * their device asks for them. Orders are forced at hook points. No sleeps.
 */
#include "race.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/mman.h>

#define BLOCK_PAGES UMM_BLOCK_PAGES

/* ---- contents dropped while pages move ---------------------------------------------- */

static void drop_during(struct env *e, bool home, enum hook_point point)
{
	struct race r;

	race_begin(e, &r, home, point);
	race_other(e, &r, act_drop, 4, 8);
	/* Its message is read by the servers: it need not wait for the migration. */
	race_other_join(&r);
	assert_int_equal(r.other.ret, 0);
	race_end(&r, point);
	assert_zero(r.p + 4 * PAGE, 8);
	assert_filled_part(r.p, 0, 4, 1);
	assert_filled_part(r.p, 12, 4, 1);
	assert_free_frames(r.ref, 64 - (uint32_t)count_state(e, r.p, RACE_PAGES, env_home(e)));
	fill(r.p, RACE_PAGES, 2);
	assert_device_sees(r.ref, r.p, RACE_PAGES, 2);
}

static void dropped_while_collected_for_the_device(struct env *e)
{
	drop_during(e, false, HOOK_COLLECTED);
}

static void dropped_while_copied_to_the_device(struct env *e)
{
	drop_during(e, false, HOOK_COPIED);
}

static void dropped_after_the_commit_to_the_device(struct env *e)
{
	drop_during(e, false, HOOK_COMMITTED);
}

static void dropped_while_collected_for_home(struct env *e)
{
	drop_during(e, true, HOOK_COLLECTED);
}

static void dropped_while_copied_home(struct env *e)
{
	drop_during(e, true, HOOK_COPIED);
}

static void dropped_after_the_commit_home(struct env *e)
{
	drop_during(e, true, HOOK_COMMITTED);
}

/* Dropped and filled again before the migration goes on: the new data wins. */
static void refill_during(struct env *e, bool home, enum hook_point point)
{
	struct race r;

	race_begin(e, &r, home, point);
	assert_int_equal(madvise(r.p, RACE_PAGES * PAGE, MADV_DONTNEED), 0);
	race_other(e, &r, act_write, 0, RACE_PAGES);
	/* It may wait for the migration, or not. */
	actor_blocks(&r.other_actor);
	race_end(&r, point);
	assert_filled(r.p, RACE_PAGES, 2);
	assert_device_sees(r.ref, r.p, RACE_PAGES, 2);
}

static void dropped_and_filled_while_collected_for_the_device(struct env *e)
{
	refill_during(e, false, HOOK_COLLECTED);
}

static void dropped_and_filled_while_copied_to_the_device(struct env *e)
{
	refill_during(e, false, HOOK_COPIED);
}

static void dropped_and_filled_while_copied_home(struct env *e)
{
	refill_during(e, true, HOOK_COPIED);
}

/* ---- unmapped while pages move ------------------------------------------------------ */

static void unmap_during(struct env *e, bool home, enum hook_point point)
{
	struct race r;

	race_begin(e, &r, home, point);
	race_other(e, &r, act_unmap, RACE_PAGES / 2, RACE_PAGES / 2);
	race_other_join(&r);
	assert_int_equal(r.other.ret, 0);
	race_end(&r, point);
	wait_until(count_state(e, r.p + RACE_PAGES / 2 * PAGE, RACE_PAGES / 2,
			       UMM_PAGE_UNMANAGED) == RACE_PAGES / 2);
	assert_int_equal(touch_read(r.p + RACE_PAGES / 2 * PAGE), SIGSEGV);
	assert_filled(r.p, RACE_PAGES / 2, 1);
	assert_free_frames(r.ref, 64 - (uint32_t)count_state(e, r.p, RACE_PAGES / 2, env_home(e)));
	assert_device_sees(r.ref, r.p, RACE_PAGES / 2, 1);
}

static void unmapped_while_collected_for_the_device(struct env *e)
{
	unmap_during(e, false, HOOK_COLLECTED);
}

static void unmapped_while_copied_to_the_device(struct env *e)
{
	unmap_during(e, false, HOOK_COPIED);
}

static void unmapped_while_collected_for_home(struct env *e)
{
	unmap_during(e, true, HOOK_COLLECTED);
}

static void unmapped_while_copied_home(struct env *e)
{
	unmap_during(e, true, HOOK_COPIED);
}

/* ---- touched while pages move ------------------------------------------------------- */

static void touch_during(struct env *e, bool home, enum hook_point point, bool write)
{
	struct race r;

	race_begin(e, &r, home, point);
	env_mark(e);
	race_other(e, &r, write ? act_write : act_read, 0, RACE_PAGES);
	if (point == HOOK_COPIED)
		assert_true(actor_blocks(&r.other_actor));
	else
		actor_blocks(&r.other_actor);
	race_end(&r, point);
	assert_false(r.other.wrong);
	assert_filled(r.p, RACE_PAGES, write ? 2 : 1);
	assert_device_sees(r.ref, r.p, RACE_PAGES, write ? 2 : 1);
}

static void read_waits_for_a_migration_to_the_device(struct env *e)
{
	touch_during(e, false, HOOK_COPIED, false);
}

static void write_waits_for_a_migration_to_the_device(struct env *e)
{
	touch_during(e, false, HOOK_COPIED, true);
}

static void write_while_collected_for_the_device_is_not_lost(struct env *e)
{
	touch_during(e, false, HOOK_COLLECTED, true);
}

static void read_waits_for_a_migration_home(struct env *e)
{
	touch_during(e, true, HOOK_COPIED, false);
}

static void write_waits_for_a_migration_home(struct env *e)
{
	touch_during(e, true, HOOK_COPIED, true);
}

static void write_while_collected_for_home_is_not_lost(struct env *e)
{
	touch_during(e, true, HOOK_COLLECTED, true);
}

static void touch_after_the_commit_finds_the_page(struct env *e)
{
	touch_during(e, true, HOOK_COMMITTED, true);
}

static void waiting_faults_are_counted(struct env *e)
{
	struct race r;

	race_begin(e, &r, false, HOOK_COPIED);
	env_mark(e);
	race_other(e, &r, act_read, 0, 1);
	assert_true(actor_blocks(&r.other_actor));
	wait_until(env_delta(e, UMM_COUNT_FAULT_WAIT) == 1);
	race_end(&r, HOOK_COPIED);
	assert_false(r.other.wrong);
}

/* A fault was read, then the page came home by another way before it was served. */
static void fault_that_is_overtaken_is_served_all_the_same(struct env *e)
{
	struct ref_device *ref = env_device(e, 64);
	char *p = env_alloc_small(e, RACE_PAGES * PAGE);
	struct act a = { .env = e, .p = p, .npages = 1 };
	struct actor actor;

	fill(p, RACE_PAGES, 1);
	to_device(e, ref, p, RACE_PAGES, RACE_PAGES);
	hook_arm(HOOK_FAULT_READ, p, 1);
	actor_start(&actor, act_read, &a);
	assert_true(hook_stopped());
	to_system(e, p, RACE_PAGES, RACE_PAGES);
	to_device(e, ref, p + PAGE, RACE_PAGES - 1, RACE_PAGES - 1);
	hook_go(HOOK_FAULT_READ);
	actor_join(&actor);
	assert_false(a.wrong);
	assert_filled(p, RACE_PAGES, 1);
}

/* ---- migrations against each other -------------------------------------------------- */

static void opposite_during(struct env *e, bool home, enum hook_point point)
{
	struct race r;
	struct act back;
	struct actor actor;

	race_begin(e, &r, home, point);
	back = (struct act){ .env = e, .ref = home ? r.ref : NULL, .p = r.p, .npages = RACE_PAGES };
	actor_start(&actor, act_migrate, &back);
	assert_true(actor_blocks(&actor));
	race_end(&r, point);
	actor_join(&actor);
	/* The second one came last. */
	assert_int_equal(r.mover.ret, RACE_PAGES);
	assert_int_equal(back.ret, RACE_PAGES);
	assert_state(e, r.p, RACE_PAGES, home ? env_home(e) : UMM_PAGE_SYSTEM);
	assert_filled(r.p, RACE_PAGES, 1);
}

static void migration_home_waits_for_one_to_the_device(struct env *e)
{
	opposite_during(e, false, HOOK_COPIED);
}

static void migration_to_the_device_waits_for_one_home(struct env *e)
{
	opposite_during(e, true, HOOK_COPIED);
}

#define ROUNDS (HARNESS_TSAN ? 40 : 150)

static void act_many(void *arg)
{
	struct act *a = arg;
	unsigned i;

	for (i = 0; i < ROUNDS; i++)
		a->wrong |= migrate(a->env, a->ref, a->p, a->npages, 0) < 0;
}

static void opposite_migrations_of_one_block_again_and_again(struct env *e)
{
	/* Frames of one direction are free only when the other one is through with them. */
	struct ref_device *ref = env_device(e, 2 * BLOCK_PAGES);
	char *p = env_alloc(e, BLOCK);
	struct act out = { .env = e, .ref = ref, .p = p, .npages = BLOCK_PAGES };
	struct act in = { .env = e, .p = p, .npages = BLOCK_PAGES };
	struct actor out_actor, in_actor;

	fill(p, BLOCK_PAGES, 1);
	actor_start(&out_actor, act_many, &out);
	actor_start(&in_actor, act_many, &in);
	actor_join(&out_actor);
	actor_join(&in_actor);
	assert_false(out.wrong);
	assert_false(in.wrong);
	assert_int_equal(count_state(e, p, BLOCK_PAGES, env_home(e)) +
				 count_state(e, p, BLOCK_PAGES, UMM_PAGE_SYSTEM),
			 BLOCK_PAGES);
	assert_free_frames(ref,
			   2 * BLOCK_PAGES - (uint32_t)count_state(e, p, BLOCK_PAGES, env_home(e)));
	assert_filled(p, BLOCK_PAGES, 1);
}

static void two_devices_fight_for_one_block(struct env *e)
{
	struct ref_device *a = env_device(e, 2 * BLOCK_PAGES), *b = env_device(e, 2 * BLOCK_PAGES);
	char *p = env_alloc(e, BLOCK);
	struct act to_a = { .env = e, .ref = a, .p = p, .npages = BLOCK_PAGES };
	struct act to_b = { .env = e, .ref = b, .p = p, .npages = BLOCK_PAGES };
	struct actor actor_a, actor_b;

	fill(p, BLOCK_PAGES, 1);
	actor_start(&actor_a, act_many, &to_a);
	actor_start(&actor_b, act_many, &to_b);
	actor_join(&actor_a);
	actor_join(&actor_b);
	assert_false(to_a.wrong);
	assert_false(to_b.wrong);
	assert_state(e, p, BLOCK_PAGES, env_home(e));
	assert_int_equal(umm_devmem_nfree(a->mem) + umm_devmem_nfree(b->mem), 3 * BLOCK_PAGES);
	assert_filled(p, BLOCK_PAGES, 1);
}

/* A store while a page is being duplicated ends in one truth for both sides. */
static void write_while_duplicated(struct env *e)
{
	struct ref_device *ref = env_device(e, 64);
	char *p = env_alloc_small(e, RACE_PAGES * PAGE);
	struct act dup = { .env = e, .ref = ref, .p = p, .npages = RACE_PAGES };
	struct act write = dup;
	struct actor dup_actor, write_actor;

	fill(p, RACE_PAGES, 1);
	hook_arm(HOOK_COPIED, p, RACE_PAGES);
	actor_start(&dup_actor, act_duplicate, &dup);
	assert_true(hook_stopped());
	assert_filled(p, RACE_PAGES, 1); /* reading goes on */
	actor_start(&write_actor, act_write, &write);
	actor_blocks(&write_actor);
	hook_go(HOOK_COPIED);
	actor_join(&dup_actor);
	actor_join(&write_actor);
	assert_true(dup.ret >= 0);
	assert_filled(p, RACE_PAGES, 2);
	assert_device_sees(ref, p, RACE_PAGES, 2);
	assert_filled(p, RACE_PAGES, 2);
}

static void dropped_while_duplicated(struct env *e)
{
	struct ref_device *ref = env_device(e, 64);
	char *p = env_alloc_small(e, RACE_PAGES * PAGE);
	struct act dup = { .env = e, .ref = ref, .p = p, .npages = RACE_PAGES };
	struct actor dup_actor;

	fill(p, RACE_PAGES, 1);
	hook_arm(HOOK_COPIED, p, RACE_PAGES);
	actor_start(&dup_actor, act_duplicate, &dup);
	assert_true(hook_stopped());
	assert_int_equal(madvise(p, RACE_PAGES / 2 * PAGE, MADV_DONTNEED), 0);
	hook_go(HOOK_COPIED);
	actor_join(&dup_actor);
	assert_zero(p, RACE_PAGES / 2);
	assert_filled_part(p, RACE_PAGES / 2, RACE_PAGES / 2, 1);
	assert_device_sees_zero(ref, p, RACE_PAGES / 2);
	assert_zero(p, RACE_PAGES / 2);
}

/* ---- the device's table against changes --------------------------------------------- */

static void act_device_read(void *arg)
{
	struct act *a = arg;
	uint64_t page[PAGE / sizeof(uint64_t)];
	size_t i;

	for (i = 0; i < a->npages; i++) {
		a->wrong |= ref_read(a->ref, (uintptr_t)a->p + i * PAGE, page, PAGE) != 0;
		a->wrong |= !page_filled(page, i, 1);
	}
}

/* The device asks while the page leaves it: it reads right, from wherever the page went. */
static void device_reads_while_pages_go_home(struct env *e)
{
	struct race r;

	race_begin(e, &r, true, HOOK_COPIED);
	race_other(e, &r, act_device_read, 0, RACE_PAGES);
	actor_blocks(&r.other_actor);
	race_end(&r, HOOK_COPIED);
	assert_false(r.other.wrong);
	assert_filled(r.p, RACE_PAGES, 1);
}

static void device_reads_while_an_invalidation_is_announced(struct env *e)
{
	struct race r;

	race_begin(e, &r, false, HOOK_INVALIDATE);
	race_other(e, &r, act_device_read, 0, RACE_PAGES);
	actor_blocks(&r.other_actor);
	race_end(&r, HOOK_INVALIDATE);
	assert_false(r.other.wrong);
	assert_device_sees(r.ref, r.p, RACE_PAGES, 1);
	assert_filled(r.p, RACE_PAGES, 1);
}

static void act_device_read_any(void *arg)
{
	struct act *a = arg;
	uint64_t page[PAGE / sizeof(uint64_t)];
	unsigned round;
	size_t i;
	int ret;

	for (round = 0; round < 20; round++) {
		for (i = 0; i < a->npages; i++) {
			ret = ref_read(a->ref, (uintptr_t)a->p + i * PAGE, page, PAGE);
			a->wrong |= ret != 0 && ret != -EFAULT;
			a->wrong |= ret == 0 && !page_filled(page, i, 1) && !page_zero(page);
			/* Only the first half may go away. */
			a->wrong |= i >= a->npages / 2 && (ret || !page_filled(page, i, 1));
		}
	}
}

/* Whatever succeeds is right. */
static void device_reads_race_munmap_of_half(struct env *e)
{
	struct ref_device *ref = env_device(e, 2 * BLOCK_PAGES);
	unsigned round;

	ref_policy_set(ref, REF_IN_PLACE);
	for (round = 0; round < 4; round++) {
		char *p = env_attach(e, 64 * PAGE);
		struct act reader = { .env = e, .ref = ref, .p = p, .npages = 64 };
		struct actor actor;

		fill(p, 64, 1);
		to_device(e, ref, p + 16 * PAGE, 32, 32);
		actor_start(&actor, act_device_read_any, &reader);
		if (round % 2)
			assert_int_equal(madvise(p, 32 * PAGE, MADV_DONTNEED), 0);
		else
			env_unmap(e, p, 32 * PAGE);
		actor_join(&actor);
		assert_false(reader.wrong);
		assert_filled_part(p, 32, 32, 1);
	}
}

/* A thread that serves its own fault hands it over again when it has waited for long. */
static void store_that_is_handed_over_twice_takes_the_page_once(struct env *e)
{
	struct ref_device *ref = env_device(e, 64);
	char *p = env_alloc_small(e, PAGE);
	struct act writer = { .env = e, .p = p, .npages = 1 };
	struct actor actor;

	if (!(e->variant.ctx_flags & UMM_CTX_FAULTS_IN_THREAD))
		env_skip("a thread that servers wake does not come again");
	fill(p, 1, 1);
	assert_int_equal(migrate(e, ref, p, 1, UMM_MIGRATE_DUPLICATE), 1);
	hook_arm(HOOK_WORK, p, 1);
	actor_start(&actor, act_write, &writer);
	assert_true(hook_stopped());
	actor_join(&actor);
	device_fill(ref, p, 1, 3);
	assert_state(e, p, 1, env_home(e));
	env_mark(e);
	hook_go(HOOK_WORK);
	wait_until(env_delta(e, UMM_COUNT_FAULT_NS) > 0);
	assert_state(e, p, 1, env_home(e));
	assert_delta(e, UMM_COUNT_FAULT_WRITE, 0);
	assert_filled(p, 1, 3);
}

static const struct test_case cases[] = {
	TEST(ALL, dropped_while_collected_for_the_device),
	TEST(ALL, dropped_while_copied_to_the_device),
	TEST(ALL, dropped_after_the_commit_to_the_device),
	TEST(ALL, dropped_while_collected_for_home),
	TEST(ALL, dropped_while_copied_home),
	TEST(ALL, dropped_after_the_commit_home),
	TEST(ALL, dropped_and_filled_while_collected_for_the_device),
	TEST(ALL, dropped_and_filled_while_copied_to_the_device),
	TEST(ALL, dropped_and_filled_while_copied_home),
	TEST(ALL, unmapped_while_collected_for_the_device),
	TEST(ALL, unmapped_while_copied_to_the_device),
	TEST(ALL, unmapped_while_collected_for_home),
	TEST(ALL, unmapped_while_copied_home),
	TEST(ALL, read_waits_for_a_migration_to_the_device),
	TEST(ALL, write_waits_for_a_migration_to_the_device),
	TEST(ALL, write_while_collected_for_the_device_is_not_lost),
	TEST(ALL, read_waits_for_a_migration_home),
	TEST(ALL, write_waits_for_a_migration_home),
	TEST(ALL, write_while_collected_for_home_is_not_lost),
	TEST(ALL, touch_after_the_commit_finds_the_page),
	TEST(ALL, waiting_faults_are_counted),
	TEST(PRIVATE, fault_that_is_overtaken_is_served_all_the_same),
	TEST(ALL, migration_home_waits_for_one_to_the_device),
	TEST(ALL, migration_to_the_device_waits_for_one_home),
	TEST(ALL, opposite_migrations_of_one_block_again_and_again),
	TEST(ALL, two_devices_fight_for_one_block),
	TEST(ALL, write_while_duplicated),
	TEST(ALL, dropped_while_duplicated),
	TEST(ALL, device_reads_while_pages_go_home),
	TEST(ALL, device_reads_while_an_invalidation_is_announced),
	TEST(ALL, device_reads_race_munmap_of_half),
	TEST(ASYNC_PRIVATE, store_that_is_handed_over_twice_takes_the_page_once),
};

int main(int argc, char **argv)
{
	hook_init();
	return harness_main("test_race", cases, sizeof(cases) / sizeof(cases[0]), argc, argv);
}
