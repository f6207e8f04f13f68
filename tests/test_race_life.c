/* SPDX-License-Identifier: MIT */
/*
 * The ends of things while pages are in flight: memory is freed or detached, a device goes, the
 * process forks, a signal handler runs in the middle, a context is put. Orders are forced at
 * hook points. No sleeps.
 */
#include "hinted.h"
#include "race.h"

#include <string.h>
#include <sys/mman.h>

#ifndef MREMAP_DONTUNMAP
#define MREMAP_DONTUNMAP 4
#endif

#define ROUNDS	    200
#define BLOCK_PAGES UMM_BLOCK_PAGES

/* ---- attached while what was there goes ---------------------------------------------- */

/* One thread is about to attach memory that another one unmaps or moves, whose event is applied. */
static struct {
	struct stop attaching, clearing;
} apart;

static void stop_at(void *priv, enum hook_point point, uintptr_t addr)
{
	(void)point;
	(void)addr;
	stop_here(priv);
}

static void act_attach(void *arg)
{
	struct act *act = arg;

	act->ret = umm_attach(act->env->ctx, act->p, act->npages * PAGE);
}

/* Something else is at p afterwards. */
static void map_over(struct env *e, char *p)
{
	(void)e;
	assert_ptr_equal(mmap(p, PAGE, PROT_READ | PROT_WRITE,
			      MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0),
			 p);
}

static void move_from(struct env *e, char *p)
{
	int flags = MREMAP_MAYMOVE | MREMAP_FIXED | MREMAP_DONTUNMAP;
	char *q = env_map(e, PAGE);

	assert_ptr_equal(mremap(p, PAGE, PAGE, flags, q), q);
}

static void attach_during(struct env *e, void (*leave)(struct env *e, char *p))
{
	struct ref_device *ref = env_device(e, RACE_PAGES);
	char *p = env_attach(e, RACE_PAGES * PAGE);
	struct act act = { .env = e, .p = p, .npages = 1 };
	struct actor actor;

	fill(p, RACE_PAGES, 1);
	to_device(e, ref, p, RACE_PAGES, RACE_PAGES);
	stop_init(&apart.attaching);
	stop_init(&apart.clearing);
	hook_set(HOOK_ATTACHING, stop_at, &apart.attaching);
	hook_set(HOOK_CLEARING, stop_at, &apart.clearing);
	actor_start(&actor, act_attach, &act);
	assert_true(stop_arrived(&apart.attaching));
	leave(e, p);
	assert_true(stop_arrived(&apart.clearing));
	stop_go(&apart.attaching);
	actor_join(&actor);
	stop_go(&apart.clearing);
	assert_int_equal(act.ret, 0);
	assert_state(e, p, 1, UMM_PAGE_EMPTY);
	page_fill(p, 0, 1);
	to_device(e, ref, p, 1, 1);
	assert_device_sees(ref, p, RACE_PAGES, 1);
	assert_filled(p, RACE_PAGES, 1);
	assert_int_equal(umm_detach(e->ctx, p), 0);
}

static void attached_while_what_was_there_is_unmapped(struct env *e)
{
	attach_during(e, map_over);
}

static void attached_while_what_was_there_moves_away(struct env *e)
{
	attach_during(e, move_from);
}

static void act_detach(void *arg)
{
	struct act *act = arg;

	act->ret = umm_detach(act->env->ctx, act->p);
}

static void attached_while_it_is_detached(struct env *e)
{
	struct ref_device *ref = env_device(e, RACE_PAGES);
	char *p = env_map(e, RACE_PAGES * PAGE);
	struct act act = { .env = e, .p = p, .npages = 1 };
	struct actor actor;

	assert_int_equal(umm_attach(e->ctx, p, PAGE), 0);
	assert_int_equal(umm_attach(e->ctx, p + PAGE, (RACE_PAGES - 1) * PAGE), 0);
	fill(p, RACE_PAGES, 1);
	to_device(e, ref, p, RACE_PAGES, RACE_PAGES);
	hook_arm(HOOK_DETACHING, p, 1);
	actor_start(&actor, act_detach, &act);
	assert_true(hook_stopped());
	assert_int_equal(umm_attach(e->ctx, p, PAGE), 0);
	hook_go(HOOK_DETACHING);
	actor_join(&actor);
	assert_int_equal(act.ret, 0);
	assert_state(e, p, 1, UMM_PAGE_SYSTEM);
	to_device(e, ref, p, 1, 1);
	assert_state(e, p, RACE_PAGES, env_home(e));
	assert_device_sees(ref, p, RACE_PAGES, 1);
	assert_filled(p, RACE_PAGES, 1);
	assert_int_equal(umm_detach(e->ctx, p), 0);
}

/* A detach, stopped while mirrors are told that nothing is managed any more. */
static void detach_begins(struct act *act, struct actor *actor)
{
	hook_arm(HOOK_DETACHING, act->p, act->npages);
	actor_start(actor, act_detach, act);
	assert_true(hook_stopped());
	hook_go_to(HOOK_DETACHING, HOOK_INVALIDATE);
	assert_true(hook_stopped());
}

/* The first pages are detached and attached again, the others stay, and their block with them. */
static void attach_while_told(struct env *e, size_t nstay)
{
	struct ref_device *ref = env_device(e, 2 * RACE_PAGES);
	char *p = env_map(e, 2 * RACE_PAGES * PAGE), *rest = p + RACE_PAGES * PAGE;
	struct act act = { .env = e, .p = p, .npages = RACE_PAGES };
	struct actor actor;

	assert_int_equal(umm_attach(e->ctx, p, RACE_PAGES * PAGE), 0);
	if (nstay)
		assert_int_equal(umm_attach(e->ctx, rest, nstay * PAGE), 0);
	fill(p, RACE_PAGES + nstay, 1);
	to_device(e, ref, p, RACE_PAGES + nstay, (long)(RACE_PAGES + nstay));
	detach_begins(&act, &actor);
	assert_int_equal(umm_attach(e->ctx, p, RACE_PAGES * PAGE), 0);
	to_device(e, ref, p, RACE_PAGES, RACE_PAGES);
	hook_go(HOOK_INVALIDATE);
	actor_join(&actor);
	assert_int_equal(act.ret, 0);
	assert_state(e, p, RACE_PAGES + nstay, env_home(e));
	assert_device_sees(ref, p, RACE_PAGES + nstay, 1);
	assert_filled(p, RACE_PAGES + nstay, 1);
	assert_int_equal(umm_detach(e->ctx, p), 0);
	assert_filled(p, RACE_PAGES, 1);
}

static void attached_while_its_detach_is_told_keeps_its_pages(struct env *e)
{
	attach_while_told(e, 0);
}

static void attached_beside_others_while_its_detach_is_told_keeps_its_pages(struct env *e)
{
	attach_while_told(e, RACE_PAGES);
}

/* Memory that no device uses: only its hint has the kernel tell of its end. */
static void hinted_while_its_detach_is_told_loses_its_hint_with_its_mapping(struct env *e)
{
	struct ref_device *ref = env_device(e, RACE_PAGES);
	char *p = env_attach(e, RACE_PAGES * PAGE);
	struct act act = { .env = e, .p = p, .npages = RACE_PAGES };
	struct actor actor;

	detach_begins(&act, &actor);
	assert_int_equal(umm_attach(e->ctx, p, RACE_PAGES * PAGE), 0);
	ADVISE(e, p, RACE_PAGES, .hint = UMM_HINT_PREFERRED, .mem = ref->mem);
	hook_go(HOOK_INVALIDATE);
	actor_join(&actor);
	assert_int_equal(query(e, p, RACE_PAGES).hints, 1 << UMM_HINT_PREFERRED);
	assert_ptr_equal(mmap(p, RACE_PAGES * PAGE, PROT_READ | PROT_WRITE,
			      MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0),
			 p);
	wait_until(!query(e, p, RACE_PAGES).hints);
	assert_state(e, p, RACE_PAGES, UMM_PAGE_UNMANAGED);
}

/* What another thread has attached, and sent away, before the detach ends is not brought home. */
static void attached_and_migrated_while_it_is_detached_stays(struct env *e)
{
	struct ref_device *ref = env_device(e, RACE_PAGES);
	char *p = env_attach(e, RACE_PAGES * PAGE);
	struct act act = { .env = e, .p = p, .npages = RACE_PAGES };
	struct actor actor;

	fill(p, RACE_PAGES, 1);
	to_device(e, ref, p, RACE_PAGES, RACE_PAGES);
	hook_arm(HOOK_DETACHING, p, RACE_PAGES);
	actor_start(&actor, act_detach, &act);
	assert_true(hook_stopped());
	assert_int_equal(umm_attach(e->ctx, p, RACE_PAGES / 2 * PAGE), 0);
	to_device(e, ref, p, RACE_PAGES / 2, RACE_PAGES / 2);
	hook_go(HOOK_DETACHING);
	actor_join(&actor);
	assert_int_equal(act.ret, 0);
	assert_state(e, p, RACE_PAGES / 2, env_home(e));
	assert_state(e, p + RACE_PAGES / 2 * PAGE, RACE_PAGES / 2, UMM_PAGE_UNMANAGED);
	assert_device_sees(ref, p, RACE_PAGES / 2, 1);
	assert_filled(p, RACE_PAGES, 1);
	assert_int_equal(umm_detach(e->ctx, p), 0);
	assert_free_frames(ref, RACE_PAGES);
}

static struct {
	struct env *env;
	struct actor *mover;
	char *p;
	struct umm_pin *pin;
	int ret;
} pinner;

/* All are away again, so the detach begins anew; the first page is no longer its affair. */
static void pin_beside(void *priv, enum hook_point point, uintptr_t addr)
{
	(void)priv;
	(void)addr;
	hook_set(point, NULL, NULL);
	hook_go(HOOK_CHOSEN);
	actor_join(pinner.mover);
	pinner.ret = umm_attach(pinner.env->ctx, pinner.p, PAGE);
	if (!pinner.ret)
		pinner.ret = umm_pin(pinner.env->ctx, (uintptr_t)pinner.p, 1, UMM_PIN_LONGTERM,
				     &pinner.pin);
}

static void pin_of_what_was_attached_while_it_is_detached_counts(struct env *e)
{
	struct ref_device *ref = env_device(e, 64);
	char *p = env_attach(e, RACE_PAGES * PAGE);
	struct act mover = { .env = e, .ref = ref, .p = p, .npages = RACE_PAGES };
	struct actor actor;

	fill(p, RACE_PAGES, 1);
	/* Its block is made before it leaves the regions. */
	to_device(e, ref, p, RACE_PAGES, RACE_PAGES);
	to_system(e, p, RACE_PAGES, RACE_PAGES);
	hook_arm(HOOK_CHOSEN, p, RACE_PAGES);
	actor_start(&actor, act_migrate, &mover);
	assert_true(hook_stopped());
	hook_set(HOOK_CHOSEN, NULL, NULL);
	pinner.env = e;
	pinner.mover = &actor;
	pinner.p = p;
	hook_set(HOOK_DETACHING, pin_beside, NULL);
	assert_int_equal(umm_detach(e->ctx, p), 0);
	assert_int_equal(mover.ret, RACE_PAGES);
	assert_int_equal(pinner.ret, 0);
	assert_state(e, p, 1, UMM_PAGE_SYSTEM);
	assert_state(e, p + PAGE, RACE_PAGES - 1, UMM_PAGE_UNMANAGED);
	to_device(e, ref, p, 1, 0);
	umm_unpin(pinner.pin);
	to_device(e, ref, p, 1, 1);
	assert_device_sees(ref, p, 1, 1);
	assert_filled(p, RACE_PAGES, 1);
	assert_int_equal(umm_detach(e->ctx, p), 0);
}

/* ---- freed, destroyed, forked while pages move -------------------------------------- */

static void free_during(struct env *e, bool home, enum hook_point point)
{
	struct ref_device *ref = env_device(e, 64);
	char *p = env_alloc_small(e, RACE_PAGES * PAGE);
	struct act mover = { .env = e, .ref = home ? NULL : ref, .p = p, .npages = RACE_PAGES };
	struct race r;

	fill(p, RACE_PAGES, 1);
	if (home)
		to_device(e, ref, p, RACE_PAGES, RACE_PAGES);
	race_start(&r, point, act_migrate, mover);
	race_other(e, &r, act_free, 0, RACE_PAGES);
	assert_true(actor_blocks(&r.other_actor));
	race_go(&r, point);
	assert_int_equal(r.other.ret, 0);
	assert_free_frames(ref, 64);
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
	race_other(e, &r, act_destroy, 0, RACE_PAGES);
	assert_true(actor_blocks(&r.other_actor));
	race_go(&r, point);
	assert_int_equal(ref_counts(r.ref).destroys, 1);
	assert_filled(r.p, RACE_PAGES, 1);
	assert_state(e, r.p, RACE_PAGES, UMM_PAGE_SYSTEM);
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
	race_other(e, &r, act_fork, 0, RACE_PAGES);
	assert_true(actor_blocks(&r.other_actor));
	race_end(&r, point);
	assert_false(r.other.wrong);
	assert_filled(r.p, RACE_PAGES, 1);
	to_device(e, r.ref, r.p, RACE_PAGES,
		  (long)(RACE_PAGES - count_state(e, r.p, RACE_PAGES, env_home(e))));
	assert_filled(r.p, RACE_PAGES, 1);
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
	char *p = env_attach(e, RACE_PAGES * PAGE);
	struct act mover = { .env = e, .ref = ref, .p = p, .npages = RACE_PAGES };
	struct actor actor;

	fill(p, RACE_PAGES, 1);
	to_device(e, ref, p, RACE_PAGES, RACE_PAGES);
	assert_filled(p, RACE_PAGES, 1);
	to_system(e, p, RACE_PAGES, (long)count_state(e, p, RACE_PAGES, env_home(e)));
	hook_arm(HOOK_CHOSEN, p, RACE_PAGES);
	actor_start(&actor, act_migrate, &mover);
	assert_true(hook_stopped());
	hook_set(HOOK_CHOSEN, NULL, NULL);
	hook_set(HOOK_DETACHING, detach_beside, &actor);
	assert_int_equal(umm_detach(e->ctx, p), 0);
	assert_int_equal(mover.ret, RACE_PAGES);
	assert_filled(p, RACE_PAGES, 1);
	assert_free_frames(ref, 64);
	assert_state(e, p, RACE_PAGES, UMM_PAGE_UNMANAGED);
}

struct rest {
	struct env *env;
	char *p;
};

/* The program goes on when its event is read, which may be before the books are changed. */
static void unmap_the_rest(void *priv, enum hook_point point, uintptr_t addr)
{
	struct umm_stats stats = { .size = sizeof(stats) };
	uint64_t until = harness_now_ms() + PATIENCE_MS;
	struct rest *rest = priv;

	(void)addr;
	hook_set(point, NULL, NULL);
	munmap(rest->p, RACE_PAGES * PAGE);
	while (!umm_ctx_stats(rest->env->ctx, &stats) && stats.managed_bytes &&
	       harness_now_ms() < until)
		harness_yield();
}

/* Of two pieces the second one is unmapped while the first is detached: nothing is left to do. */
static void rest_that_is_unmapped_during_a_detach_ends_it(struct env *e)
{
	struct ref_device *ref = env_device(e, 64);
	char *p = env_attach(e, 3 * RACE_PAGES * PAGE);
	struct rest rest = { e, p + 2 * RACE_PAGES * PAGE };

	fill(p, 3 * RACE_PAGES, 1);
	to_device(e, ref, p, RACE_PAGES, RACE_PAGES);
	assert_int_equal(munmap(p + RACE_PAGES * PAGE, RACE_PAGES * PAGE), 0);
	wait_until(count_state(e, p, 3 * RACE_PAGES, UMM_PAGE_UNMANAGED) == RACE_PAGES);
	hook_set(HOOK_DETACHING, unmap_the_rest, &rest);
	assert_int_equal(umm_detach(e->ctx, p), 0);
	assert_filled(p, RACE_PAGES, 1);
	assert_free_frames(ref, 64);
	assert_int_equal(count_state(e, p, 3 * RACE_PAGES, UMM_PAGE_UNMANAGED), 3 * RACE_PAGES);
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
	char *p = env_alloc_small(e, RACE_PAGES * PAGE);
	struct act forker = { .env = e, .ref = ref, .p = p, .npages = RACE_PAGES };
	struct act mover = forker;
	struct actor fork_actor, move_actor;

	fill(p, RACE_PAGES, 1);
	to_device(e, ref, p, RACE_PAGES, RACE_PAGES);
	hook_arm(HOOK_FORK_PREPARED, NULL, SIZE_MAX / PAGE);
	actor_start(&fork_actor, act_fork, &forker);
	assert_true(hook_stopped());
	actor_start(&move_actor, act_migrate, &mover);
	assert_true(actor_blocks(&move_actor));
	hook_go(HOOK_FORK_PREPARED);
	actor_join(&fork_actor);
	actor_join(&move_actor);
	assert_false(forker.wrong);
	assert_int_equal(mover.ret, RACE_PAGES);
	assert_filled(p, RACE_PAGES, 1);
}

static void act_home(void *arg)
{
	struct act *a = arg;

	a->ret = umm_migrate_to_system(a->env->ctx, a->p, a->npages * PAGE);
}

/*
 * What moved out while the fork brought pages home may still be there where the child has it, too:
 * it must not begin to go home when nobody looks any more.
 */
static void migration_home_waits_for_a_prepared_fork(struct env *e)
{
	struct ref_device *ref = env_device(e, 64);
	char *p = env_alloc_small(e, RACE_PAGES * PAGE);
	struct act forker = { .env = e, .ref = ref, .p = p, .npages = RACE_PAGES };
	struct act out = forker, home = forker;
	struct actor fork_actor, out_actor, home_actor;

	fill(p, RACE_PAGES, 1);
	hook_arm(HOOK_FORK_HOME, NULL, SIZE_MAX / PAGE);
	actor_start(&fork_actor, act_fork, &forker);
	assert_true(hook_stopped());
	/* It waits for a moment, and overtakes the fork. */
	actor_start(&out_actor, act_migrate, &out);
	actor_join(&out_actor);
	assert_int_equal(out.ret, RACE_PAGES);
	hook_go_to(HOOK_FORK_HOME, HOOK_FORK_PREPARED);
	assert_true(hook_stopped());
	if (e->variant.type == UMM_DEVMEM_COHERENT)
		assert_state(e, p, RACE_PAGES, env_home(e));
	actor_start(&home_actor, act_home, &home);
	assert_true(actor_blocks(&home_actor));
	hook_go(HOOK_FORK_PREPARED);
	actor_join(&fork_actor);
	actor_join(&home_actor);
	assert_false(forker.wrong);
	assert_int_equal(home.ret, e->variant.type == UMM_DEVMEM_COHERENT ? RACE_PAGES : 0);
	assert_filled(p, RACE_PAGES, 1);
}

/* Who stores may have a lock that other handlers of the fork wait for. */
static void store_to_a_duplicated_page_waits_for_no_fork(struct env *e)
{
	struct ref_device *ref = env_device(e, 64);
	char *p = env_alloc_small(e, RACE_PAGES * PAGE);
	struct act forker = { .env = e, .ref = ref, .p = p, .npages = RACE_PAGES };
	struct act copier = forker, writer = forker;
	struct actor fork_actor, copy_actor, write_actor;

	fill(p, RACE_PAGES, 1);
	hook_arm(HOOK_FORK_HOME, NULL, SIZE_MAX / PAGE);
	actor_start(&fork_actor, act_fork, &forker);
	assert_true(hook_stopped());
	actor_start(&copy_actor, act_duplicate, &copier);
	actor_join(&copy_actor);
	assert_int_equal(copier.ret, RACE_PAGES);
	hook_go_to(HOOK_FORK_HOME, HOOK_FORK_PREPARED);
	assert_true(hook_stopped());
	assert_state(e, p, RACE_PAGES, UMM_PAGE_DUPLICATED);
	actor_start(&write_actor, act_write, &writer);
	wait_until(write_actor.done);
	hook_go(HOOK_FORK_PREPARED);
	actor_join(&write_actor);
	actor_join(&fork_actor);
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
	char *p = env_alloc_small(e, RACE_PAGES * PAGE);

	fill(p, RACE_PAGES, 1);
	if (home)
		to_device(e, ref, p, RACE_PAGES, RACE_PAGES);
	handle_with(p, RACE_PAGES);
	hook_set(point, raise_here, NULL);
	/* What the handler's own faults brought home first is not counted. */
	assert_in_range(migrate(e, home ? NULL : ref, p, RACE_PAGES, 0), home ? 0 : RACE_PAGES,
			RACE_PAGES);
	hook_set(point, NULL, NULL);
	wait_until(atomic_load(&handler.runs) > 0);
	assert_false(atomic_load(&handler.wrong));
	assert_filled(p, RACE_PAGES, 1);
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
	char *p = env_alloc_small(e, RACE_PAGES * PAGE);
	struct act act = { .env = e, .ref = ref, .p = p, .npages = RACE_PAGES };
	struct actor actor;

	fill(p, RACE_PAGES, 1);
	handle_with(p, 0);
	ref_gate_close(ref, REF_GATE_COPY);
	actor_start(&actor, act_migrate, &act);
	assert_true(ref_gate_wait(ref, REF_GATE_COPY, PATIENCE_MS));
	assert_int_equal(pthread_kill(actor.thread, SIGUSR1), 0);
	wait_until(atomic_load(&handler.runs) == 1);
	ref_gate_open(ref, REF_GATE_COPY);
	actor_join(&actor);
	assert_int_equal(act.ret, RACE_PAGES);
	assert_filled(p, RACE_PAGES, 1);
}

struct device_user {
	struct actor actor;
	struct ref_device *ref;
	char *p;
	atomic_bool stop;
	bool wrong;
};

static void use_device(void *arg)
{
	struct device_user *u = arg;
	char byte, first = *u->p;

	while (!atomic_load(&u->stop))
		u->wrong |= ref_read(u->ref, (uintptr_t)u->p, &byte, 1) || byte != first;
}

/* The driver's lock, which its callback takes, may not be had by whom a signal interrupts. */
static void handler_touches_what_a_device_is_about_to_use(struct env *e)
{
	struct ref_device *ref = env_device(e, 64);
	struct device_user user = { .ref = ref, .p = env_alloc_small(e, RACE_PAGES * PAGE) };

	fill(user.p, RACE_PAGES, 1);
	handle_with(user.p, RACE_PAGES);
	actor_start(&user.actor, use_device, &user);
	for (unsigned round = 0; round < ROUNDS; round++) {
		migrate(e, ref, user.p, RACE_PAGES, 0);
		assert_int_equal(pthread_kill(user.actor.thread, SIGUSR1), 0);
	}
	atomic_store(&user.stop, true);
	actor_join(&user.actor);
	assert_false(user.wrong);
	assert_false(atomic_load(&handler.wrong));
	assert_in_range(atomic_load(&handler.runs), 1, ROUNDS);
	assert_filled(user.p, RACE_PAGES, 1);
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
	char *p = env_alloc_small(e, RACE_PAGES * PAGE);
	struct act mover = { .env = e, .p = p, .npages = RACE_PAGES }, other = mover;
	struct actor mover_actor, other_actor;
	struct ref_device *ref;

	e->variant.inline_copy = false;
	ref = env_device(e, 64);
	mover.ref = ref;
	fill(p, RACE_PAGES, 1);
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
	TEST(KERNEL, attached_while_what_was_there_is_unmapped),
	TEST(KERNEL, attached_while_what_was_there_moves_away),
	TEST(ALL, attached_while_it_is_detached),
	TEST(ALL, attached_while_its_detach_is_told_keeps_its_pages),
	TEST(ALL, attached_beside_others_while_its_detach_is_told_keeps_its_pages),
	TEST(ALL, hinted_while_its_detach_is_told_loses_its_hint_with_its_mapping),
	TEST(ALL, attached_and_migrated_while_it_is_detached_stays),
	TEST(ALL, pin_of_what_was_attached_while_it_is_detached_counts),
	TEST(ASYNC_PRIVATE, context_goes_while_a_device_returns_from_its_signal),
	TEST(ALL, free_waits_for_a_collected_migration),
	TEST(ALL, free_waits_for_a_copied_migration),
	TEST(ALL, free_waits_for_a_migration_home),
	TEST(ALL, destroy_waits_for_a_migration_to_the_device),
	TEST(ALL, destroy_waits_for_a_migration_home),
	TEST(ALL, migration_in_the_middle_of_a_detach_loses_nothing),
	TEST(ALL, rest_that_is_unmapped_during_a_detach_ends_it),
	TEST(ALL, fork_waits_for_a_migration_to_the_device),
	TEST(ALL, fork_during_a_migration_home),
	TEST(ALL, migration_waits_for_a_prepared_fork),
	TEST(ALL, migration_home_waits_for_a_prepared_fork),
	TEST(PRIVATE, store_to_a_duplicated_page_waits_for_no_fork),
	TEST(ALL, handler_touches_what_its_thread_collects),
	TEST(ALL, handler_touches_what_its_thread_invalidates),
	TEST(ALL, handler_touches_what_its_thread_commits),
	TEST(ALL, handler_touches_what_its_thread_brings_home),
	TEST(ASYNC, handler_runs_while_its_thread_waits_for_a_device),
	TEST(ALL, handler_touches_what_a_device_is_about_to_use),
	TEST(ONCE, waits_for_a_device_that_never_signals_are_told),
};

int main(int argc, char **argv)
{
	hook_init();
	return harness_main("test_race_life", cases, sizeof(cases) / sizeof(cases[0]), argc, argv);
}
