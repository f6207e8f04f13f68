/* SPDX-License-Identifier: MIT */
/*
 * Races, forced: a thread of the library is stopped at a hook point while the program
 * does what must not go wrong there; then it goes on. No sleeps.
 */
#include "harness.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "hooked.h"

#define BLOCK_PAGES UMM_BLOCK_PAGES

/* What a second thread does. */
struct act {
	struct env *env;
	struct ref_device *ref; /* NULL: home */
	char *p;
	size_t npages;
	long ret;
	bool wrong;
};

static void act_migrate(void *arg)
{
	struct act *a = arg;

	a->ret = migrate(a->env, a->ref, a->p, a->npages, 0);
}

static void act_duplicate(void *arg)
{
	struct act *a = arg;

	a->ret = migrate(a->env, a->ref, a->p, a->npages, UMM_MIGRATE_DUPLICATE);
}

static void act_drop(void *arg)
{
	struct act *a = arg;

	a->ret = madvise(a->p, a->npages * PAGE, MADV_DONTNEED);
}

static void act_unmap(void *arg)
{
	struct act *a = arg;

	/* In place of munmap(): nobody else shall get the address meanwhile. */
	a->ret = mmap(a->p, a->npages * PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED,
		      -1, 0) == a->p ?
			 0 :
			 -errno;
}

static void act_free(void *arg)
{
	struct act *a = arg;

	a->ret = umm_free(a->env->ctx, a->p);
}

static void act_read(void *arg)
{
	struct act *a = arg;
	size_t i;

	for (i = 0; i < a->npages; i++)
		a->wrong |= !filled_at(a->p, i, 1);
}

static void act_write(void *arg)
{
	struct act *a = arg;

	fill(a->p, a->npages, 2);
}

static void act_destroy(void *arg)
{
	struct act *a = arg;

	umm_device_destroy(a->ref->dev);
}

static void child_reads(void *arg)
{
	struct act *a = arg;

	act_read(a);
	child_check(!a->wrong);
}

static void act_fork(void *arg)
{
	struct act *a = arg;

	a->wrong |= !in_child(child_reads, a);
}

/*
 * Pages 0 .. 16 with a fill, on the device or at home. The migration the other way stops at
 * the point; `meanwhile` runs on the pages it is given, and then everybody goes on.
 */
struct race {
	struct ref_device *ref;
	char *p;
	struct act mover, other;
	struct actor mover_actor, other_actor;
};

#define PAGES 16

static void race_begin(struct env *e, struct race *r, bool home, enum hook_point point)
{
	memset(r, 0, sizeof(*r));
	r->ref = env_device(e, 64);
	r->p = env_attach(e, PAGES * PAGE);
	fill(r->p, PAGES, 1);
	if (home)
		to_device(e, r->ref, r->p, PAGES, PAGES);
	r->mover =
		(struct act){ .env = e, .ref = home ? NULL : r->ref, .p = r->p, .npages = PAGES };
	hook_arm(point, r->p, PAGES);
	actor_start(&r->mover_actor, act_migrate, &r->mover);
	assert_true(hook_stopped());
}

static void race_other(struct env *e, struct race *r, void (*fn)(void *), size_t first,
		       size_t npages)
{
	r->other =
		(struct act){ .env = e, .ref = r->ref, .p = r->p + first * PAGE, .npages = npages };
	actor_start(&r->other_actor, fn, &r->other);
}

static void race_end(struct race *r, enum hook_point point, bool other)
{
	hook_go(point);
	actor_join(&r->mover_actor);
	if (other)
		actor_join(&r->other_actor);
	assert_true(r->mover.ret >= 0);
}

/* ---- contents dropped while pages move ---------------------------------------------- */

static void drop_during(struct env *e, bool home, enum hook_point point)
{
	struct race r;

	race_begin(e, &r, home, point);
	race_other(e, &r, act_drop, 4, 8);
	/* Its message is read by the servers: it need not wait for the migration. */
	actor_join(&r.other_actor);
	assert_int_equal(r.other.ret, 0);
	race_end(&r, point, false);
	assert_zero(r.p + 4 * PAGE, 8);
	assert_filled_part(r.p, 0, 4, 1);
	assert_filled_part(r.p, 12, 4, 1);
	assert_free_frames(r.ref, 64 - (uint32_t)count_state(e, r.p, PAGES, env_home(e)));
	fill(r.p, PAGES, 2);
	assert_device_sees(r.ref, r.p, PAGES, 2);
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
	assert_int_equal(madvise(r.p, PAGES * PAGE, MADV_DONTNEED), 0);
	race_other(e, &r, act_write, 0, PAGES);
	/* It may wait for the migration, or not. */
	actor_blocks(&r.other_actor);
	race_end(&r, point, true);
	assert_filled(r.p, PAGES, 2);
	assert_device_sees(r.ref, r.p, PAGES, 2);
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
	race_other(e, &r, act_unmap, PAGES / 2, PAGES / 2);
	actor_join(&r.other_actor);
	assert_int_equal(r.other.ret, 0);
	race_end(&r, point, false);
	wait_until(count_state(e, r.p + PAGES / 2 * PAGE, PAGES / 2, UMM_PAGE_UNMANAGED) ==
		   PAGES / 2);
	assert_int_equal(touch_read(r.p + PAGES / 2 * PAGE), SIGSEGV);
	assert_filled(r.p, PAGES / 2, 1);
	assert_free_frames(r.ref, 64 - (uint32_t)count_state(e, r.p, PAGES / 2, env_home(e)));
	assert_device_sees(r.ref, r.p, PAGES / 2, 1);
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
	race_other(e, &r, write ? act_write : act_read, 0, PAGES);
	if (point == HOOK_COPIED)
		assert_true(actor_blocks(&r.other_actor));
	else
		actor_blocks(&r.other_actor);
	race_end(&r, point, true);
	assert_false(r.other.wrong);
	assert_filled(r.p, PAGES, write ? 2 : 1);
	assert_device_sees(r.ref, r.p, PAGES, write ? 2 : 1);
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
	race_end(&r, HOOK_COPIED, true);
	assert_false(r.other.wrong);
}

/* A fault was read, then the page came home by another way before it was served. */
static void fault_that_is_overtaken_is_served_all_the_same(struct env *e)
{
	struct ref_device *ref = env_device(e, 64);
	char *p = env_alloc_small(e, PAGES * PAGE);
	struct act a = { .env = e, .p = p, .npages = 1 };
	struct actor actor;

	fill(p, PAGES, 1);
	to_device(e, ref, p, PAGES, PAGES);
	hook_arm(HOOK_FAULT_READ, p, 1);
	actor_start(&actor, act_read, &a);
	assert_true(hook_stopped());
	to_system(e, p, PAGES, PAGES);
	to_device(e, ref, p + PAGE, PAGES - 1, PAGES - 1);
	hook_go(HOOK_FAULT_READ);
	actor_join(&actor);
	assert_false(a.wrong);
	assert_filled(p, PAGES, 1);
}

/* ---- freed, destroyed, forked while pages move -------------------------------------- */

static void free_during(struct env *e, bool home, enum hook_point point)
{
	struct race r;
	char *p;

	memset(&r, 0, sizeof(r));
	r.ref = env_device(e, 64);
	p = r.p = env_alloc_small(e, PAGES * PAGE);
	fill(p, PAGES, 1);
	if (home)
		to_device(e, r.ref, p, PAGES, PAGES);
	r.mover = (struct act){ .env = e, .ref = home ? NULL : r.ref, .p = p, .npages = PAGES };
	hook_arm(point, p, PAGES);
	actor_start(&r.mover_actor, act_migrate, &r.mover);
	assert_true(hook_stopped());
	race_other(e, &r, act_free, 0, PAGES);
	assert_true(actor_blocks(&r.other_actor));
	hook_go(point);
	actor_join(&r.mover_actor);
	actor_join(&r.other_actor);
	assert_int_equal(r.other.ret, 0);
	assert_free_frames(r.ref, 64);
}

static void free_waits_for_a_collected_migration(struct env *e)
{
	free_during(e, false, HOOK_COLLECTED);
}

static void free_waits_for_a_copied_migration(struct env *e)
{
	free_during(e, false, HOOK_COPIED);
}

static void free_waits_for_a_migration_home(struct env *e)
{
	free_during(e, true, HOOK_COPIED);
}

static void device_destroyed_during(struct env *e, bool home, enum hook_point point)
{
	struct race r;

	race_begin(e, &r, home, point);
	race_other(e, &r, act_destroy, 0, PAGES);
	assert_true(actor_blocks(&r.other_actor));
	hook_go(point);
	actor_join(&r.mover_actor);
	actor_join(&r.other_actor);
	assert_int_equal(ref_counts(r.ref).destroys, 1);
	assert_filled(r.p, PAGES, 1);
	assert_state(e, r.p, PAGES, UMM_PAGE_SYSTEM);
}

static void destroy_waits_for_a_migration_to_the_device(struct env *e)
{
	device_destroyed_during(e, false, HOOK_COPIED);
}

static void destroy_waits_for_a_migration_home(struct env *e)
{
	device_destroyed_during(e, true, HOOK_COPIED);
}

static void fork_during(struct env *e, bool home, enum hook_point point)
{
	struct race r;

	race_begin(e, &r, home, point);
	race_other(e, &r, act_fork, 0, PAGES);
	assert_true(actor_blocks(&r.other_actor));
	race_end(&r, point, true);
	assert_false(r.other.wrong);
	assert_filled(r.p, PAGES, 1);
	to_device(e, r.ref, r.p, PAGES, (long)(PAGES - count_state(e, r.p, PAGES, env_home(e))));
	assert_filled(r.p, PAGES, 1);
}

static void detach_beside(void *priv, enum hook_point point, uintptr_t addr)
{
	struct actor *mover = priv;

	(void)addr;
	hook_set(point, NULL, NULL);
	hook_go(HOOK_CHOSEN);
	actor_join(mover);
}

/* A migration that has chosen the memory gets it, between coming home and the end of the detach. */
static void migration_in_the_middle_of_a_detach_loses_nothing(struct env *e)
{
	struct ref_device *ref = env_device(e, 64);
	char *p = env_attach(e, PAGES * PAGE);
	struct act mover = { .env = e, .ref = ref, .p = p, .npages = PAGES };
	struct actor actor;

	fill(p, PAGES, 1);
	to_device(e, ref, p, PAGES, PAGES);
	assert_filled(p, PAGES, 1);
	to_system(e, p, PAGES, (long)count_state(e, p, PAGES, env_home(e)));
	hook_arm(HOOK_CHOSEN, p, PAGES);
	actor_start(&actor, act_migrate, &mover);
	assert_true(hook_stopped());
	hook_set(HOOK_CHOSEN, NULL, NULL);
	hook_set(HOOK_DETACHING, detach_beside, &actor);
	assert_int_equal(umm_detach(e->ctx, p), 0);
	assert_int_equal(mover.ret, PAGES);
	assert_filled(p, PAGES, 1);
	assert_free_frames(ref, 64);
	assert_state(e, p, PAGES, UMM_PAGE_UNMANAGED);
}

static void fork_waits_for_a_migration_to_the_device(struct env *e)
{
	fork_during(e, false, HOOK_COPIED);
}

static void fork_during_a_migration_home(struct env *e)
{
	fork_during(e, true, HOOK_COPIED);
}

/* Everything is home for a fork, and it stays there until the fork happened. */
static void migration_waits_for_a_prepared_fork(struct env *e)
{
	struct ref_device *ref = env_device(e, 64);
	char *p = env_alloc_small(e, PAGES * PAGE);
	struct act forker = { .env = e, .ref = ref, .p = p, .npages = PAGES };
	struct act mover = forker;
	struct actor fork_actor, move_actor;

	fill(p, PAGES, 1);
	to_device(e, ref, p, PAGES, PAGES);
	hook_arm(HOOK_FORK_PREPARED, NULL, SIZE_MAX / PAGE);
	actor_start(&fork_actor, act_fork, &forker);
	assert_true(hook_stopped());
	actor_start(&move_actor, act_migrate, &mover);
	assert_true(actor_blocks(&move_actor));
	hook_go(HOOK_FORK_PREPARED);
	actor_join(&fork_actor);
	actor_join(&move_actor);
	assert_false(forker.wrong);
	assert_int_equal(mover.ret, PAGES);
	assert_filled(p, PAGES, 1);
}

/* ---- migrations against each other -------------------------------------------------- */

static void opposite_during(struct env *e, bool home, enum hook_point point)
{
	struct race r;

	race_begin(e, &r, home, point);
	r.other = (struct act){ .env = e, .ref = home ? r.ref : NULL, .p = r.p, .npages = PAGES };
	actor_start(&r.other_actor, act_migrate, &r.other);
	assert_true(actor_blocks(&r.other_actor));
	race_end(&r, point, true);
	/* The second one came last. */
	assert_int_equal(r.mover.ret, PAGES);
	assert_int_equal(r.other.ret, PAGES);
	assert_state(e, r.p, PAGES, home ? env_home(e) : UMM_PAGE_SYSTEM);
	assert_filled(r.p, PAGES, 1);
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
	char *p = env_alloc_small(e, PAGES * PAGE);
	struct act dup = { .env = e, .ref = ref, .p = p, .npages = PAGES };
	struct act write = dup;
	struct actor dup_actor, write_actor;

	fill(p, PAGES, 1);
	hook_arm(HOOK_COPIED, p, PAGES);
	actor_start(&dup_actor, act_duplicate, &dup);
	assert_true(hook_stopped());
	assert_filled(p, PAGES, 1); /* reading goes on */
	actor_start(&write_actor, act_write, &write);
	actor_blocks(&write_actor);
	hook_go(HOOK_COPIED);
	actor_join(&dup_actor);
	actor_join(&write_actor);
	assert_true(dup.ret >= 0);
	assert_filled(p, PAGES, 2);
	assert_device_sees(ref, p, PAGES, 2);
	assert_filled(p, PAGES, 2);
}

static void dropped_while_duplicated(struct env *e)
{
	struct ref_device *ref = env_device(e, 64);
	char *p = env_alloc_small(e, PAGES * PAGE);
	struct act dup = { .env = e, .ref = ref, .p = p, .npages = PAGES };
	struct actor dup_actor;

	fill(p, PAGES, 1);
	hook_arm(HOOK_COPIED, p, PAGES);
	actor_start(&dup_actor, act_duplicate, &dup);
	assert_true(hook_stopped());
	assert_int_equal(madvise(p, PAGES / 2 * PAGE, MADV_DONTNEED), 0);
	hook_go(HOOK_COPIED);
	actor_join(&dup_actor);
	assert_zero(p, PAGES / 2);
	assert_filled_part(p, PAGES / 2, PAGES / 2, 1);
	assert_device_sees_zero(ref, p, PAGES / 2);
	assert_zero(p, PAGES / 2);
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
	race_other(e, &r, act_device_read, 0, PAGES);
	actor_blocks(&r.other_actor);
	race_end(&r, HOOK_COPIED, true);
	assert_false(r.other.wrong);
	assert_filled(r.p, PAGES, 1);
}

static void device_reads_while_an_invalidation_is_announced(struct env *e)
{
	struct race r;

	race_begin(e, &r, false, HOOK_INVALIDATE);
	race_other(e, &r, act_device_read, 0, PAGES);
	actor_blocks(&r.other_actor);
	race_end(&r, HOOK_INVALIDATE, true);
	assert_false(r.other.wrong);
	assert_device_sees(r.ref, r.p, PAGES, 1);
	assert_filled(r.p, PAGES, 1);
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

/* ---- signals ------------------------------------------------------------------------- */

static struct {
	char *p;
	size_t npages;
	pthread_t thread; /* the one to interrupt */
	atomic_int runs;
	atomic_bool wrong;
} handler;

static void handle(int sig)
{
	(void)sig;
	for (size_t i = 0; i < handler.npages; i++)
		if (!filled_at(handler.p, i, 1))
			atomic_store(&handler.wrong, true);
	atomic_fetch_add(&handler.runs, 1);
}

static void handle_with(char *p, size_t npages)
{
	struct sigaction action = { .sa_handler = handle };

	handler.p = p;
	handler.npages = npages;
	handler.thread = pthread_self();
	atomic_store(&handler.runs, 0);
	atomic_store(&handler.wrong, false);
	assert_int_equal(sigaction(SIGUSR1, &action, NULL), 0);
}

static void raise_here(void *priv, enum hook_point point, uintptr_t addr)
{
	(void)priv;
	(void)point;
	(void)addr;
	pthread_kill(handler.thread, SIGUSR1);
}

/* A signal comes while its thread moves pages, and its handler touches just these pages. */
static void handler_during(struct env *e, bool home, enum hook_point point)
{
	struct ref_device *ref = env_device(e, 64);
	char *p = env_alloc_small(e, PAGES * PAGE);

	fill(p, PAGES, 1);
	if (home)
		to_device(e, ref, p, PAGES, PAGES);
	handle_with(p, PAGES);
	hook_set(point, raise_here, NULL);
	/* What the handler's own faults brought home first is not counted. */
	assert_in_range(migrate(e, home ? NULL : ref, p, PAGES, 0), home ? 0 : PAGES, PAGES);
	hook_set(point, NULL, NULL);
	wait_until(atomic_load(&handler.runs) > 0);
	assert_false(atomic_load(&handler.wrong));
	assert_filled(p, PAGES, 1);
}

static void handler_touches_what_its_thread_collects(struct env *e)
{
	handler_during(e, false, HOOK_COLLECTED);
}

static void handler_touches_what_its_thread_invalidates(struct env *e)
{
	handler_during(e, true, HOOK_INVALIDATE);
}

static void handler_touches_what_its_thread_commits(struct env *e)
{
	handler_during(e, false, HOOK_COPIED);
}

static void handler_touches_what_its_thread_brings_home(struct env *e)
{
	handler_during(e, true, HOOK_COPIED);
}

/* A device that takes its time does not make the program deaf. */
static void handler_runs_while_its_thread_waits_for_a_device(struct env *e)
{
	struct ref_device *ref = env_device(e, 64);
	char *p = env_alloc_small(e, PAGES * PAGE);
	struct act act = { .env = e, .ref = ref, .p = p, .npages = PAGES };
	struct actor actor;

	fill(p, PAGES, 1);
	handle_with(p, 0);
	ref_gate_close(ref, REF_GATE_COPY);
	actor_start(&actor, act_migrate, &act);
	assert_true(ref_gate_wait(ref, REF_GATE_COPY, PATIENCE_MS));
	assert_int_equal(pthread_kill(actor.thread, SIGUSR1), 0);
	wait_until(atomic_load(&handler.runs) == 1);
	ref_gate_open(ref, REF_GATE_COPY);
	actor_join(&actor);
	assert_int_equal(act.ret, PAGES);
	assert_filled(p, PAGES, 1);
}

/* ---- patience ------------------------------------------------------------------------ */

static atomic_uint long_waits;

static void count_long_waits(void *priv, enum umm_log_level level, const char *line)
{
	(void)priv;
	(void)level;
	if (!strncmp(line, "waiting for pages at", 20))
		atomic_fetch_add(&long_waits, 1);
}

/* It is not an error, but whoever looks for the reason has to find it. */
static void waits_for_a_device_that_never_signals_are_told(struct env *e)
{
	char *p = env_alloc_small(e, PAGES * PAGE);
	struct act mover = { .env = e, .p = p, .npages = PAGES }, other = mover;
	struct actor mover_actor, other_actor;
	struct ref_device *ref;

	e->variant.inline_copy = false;
	ref = env_device(e, 64);
	mover.ref = ref;
	fill(p, PAGES, 1);
	atomic_store(&long_waits, 0);
	umm_log_set(count_long_waits, NULL, UMM_LOG_WARNING);
	ref_gate_close(ref, REF_GATE_COPY);
	actor_start(&mover_actor, act_migrate, &mover);
	assert_true(ref_gate_wait(ref, REF_GATE_COPY, PATIENCE_MS));
	actor_start(&other_actor, act_free, &other);
	wait_until(atomic_load(&long_waits) == 2);
	umm_log_set(NULL, NULL, UMM_LOG_WARNING);
	ref_gate_open(ref, REF_GATE_COPY);
	actor_join(&mover_actor);
	actor_join(&other_actor);
	assert_int_equal(other.ret, 0);
}

/* A page is home and its thread goes on: that must not keep the context, nor need it. */
static void context_goes_while_a_device_returns_from_its_signal(struct env *e)
{
	struct ref_device *ref = env_device(e, 64);
	char *p = env_alloc_small(e, PAGE);
	struct act reader = { .env = e, .p = p, .npages = 1 };
	struct actor actor;

	fill(p, 1, 1);
	to_device(e, ref, p, 1, 1);
	ref_gate_close(ref, REF_GATE_COPY);
	actor_start(&actor, act_read, &reader);
	assert_true(ref_gate_wait(ref, REF_GATE_COPY, PATIENCE_MS));
	/* The worker that asked for the copy is back at its queue: the device's thread commits. */
	assert_true(actor_blocks(&actor));
	hook_arm(HOOK_FINISHED, p, 1);
	ref_gate_open(ref, REF_GATE_COPY);
	assert_true(hook_stopped());
	actor_join(&actor);
	assert_false(reader.wrong);
	env_close(e);
	hook_go(HOOK_FINISHED);
}

static const struct test_case cases[] = {
	TEST(ASYNC_PRIVATE, context_goes_while_a_device_returns_from_its_signal),
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
	TEST(ALL, free_waits_for_a_collected_migration),
	TEST(ALL, free_waits_for_a_copied_migration),
	TEST(ALL, free_waits_for_a_migration_home),
	TEST(ALL, destroy_waits_for_a_migration_to_the_device),
	TEST(ALL, destroy_waits_for_a_migration_home),
	TEST(ALL, migration_in_the_middle_of_a_detach_loses_nothing),
	TEST(ALL, fork_waits_for_a_migration_to_the_device),
	TEST(ALL, fork_during_a_migration_home),
	TEST(ALL, migration_waits_for_a_prepared_fork),
	TEST(ALL, migration_home_waits_for_one_to_the_device),
	TEST(ALL, migration_to_the_device_waits_for_one_home),
	TEST(ALL, opposite_migrations_of_one_block_again_and_again),
	TEST(ALL, two_devices_fight_for_one_block),
	TEST(ALL, write_while_duplicated),
	TEST(ALL, dropped_while_duplicated),
	TEST(ALL, device_reads_while_pages_go_home),
	TEST(ALL, device_reads_while_an_invalidation_is_announced),
	TEST(ALL, device_reads_race_munmap_of_half),
	TEST(ALL, handler_touches_what_its_thread_collects),
	TEST(ALL, handler_touches_what_its_thread_invalidates),
	TEST(ALL, handler_touches_what_its_thread_commits),
	TEST(ALL, handler_touches_what_its_thread_brings_home),
	TEST(ASYNC, handler_runs_while_its_thread_waits_for_a_device),
	TEST(ONCE, waits_for_a_device_that_never_signals_are_told),
};

int main(int argc, char **argv)
{
	hook_init();
	return harness_main("test_race", cases, sizeof(cases) / sizeof(cases[0]), argc, argv);
}
