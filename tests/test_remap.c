/* SPDX-License-Identifier: MIT */
/*
 * mremap() beside everything else: pages in flight, pages of which mirrors have not been told yet,
 * and addresses that get a second life before the first one is cleaned up. Orders are forced
 * at hook points; a random walk with a model does the rest. UMM_STRESS_SEED gives it another way.
 */
#include "harness.h"
#include "ctx.h"
#include "hooked.h"
#include "uffd.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#ifndef MREMAP_DONTUNMAP
#define MREMAP_DONTUNMAP 4
#endif

#define PAGES 16

/* A migration that a second thread makes. */
struct act {
	struct env *env;
	struct ref_device *ref; /* NULL: home */
	char *p;
	size_t npages;
	uint64_t flags;
	long ret;
};

static void act_migrate(void *arg)
{
	struct act *a = arg;

	a->ret = migrate(a->env, a->ref, a->p, a->npages, a->flags);
}

/* How many pages of a fill with 1 are as they should be. */
static void act_read(void *arg)
{
	struct act *a = arg;

	for (size_t i = 0; i < a->npages; i++)
		a->ret += filled_at(a->p, i, 1);
}

/* PAGES pages with a fill, and a migration of them that stops at a point. */
struct race {
	struct ref_device *ref;
	char *p;
	struct act mover;
	struct actor mover_actor;
};

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

static void race_end(struct race *r, enum hook_point point)
{
	hook_go(point);
	actor_join(&r->mover_actor);
	assert_true(r->mover.ret >= 0);
}

/* mremap() onto an address of the test's; the old one is no mapping any more. */
static void move_onto(struct env *e, char *from, char *to, size_t npages)
{
	assert_ptr_equal(
		mremap(from, npages * PAGE, npages * PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, to), to);
	env_forget(e, from, npages * PAGE);
}

static void remap_during(struct env *e, bool home, enum hook_point point)
{
	char *q = env_map(e, 2 * PAGES * PAGE);
	struct race r;

	race_begin(e, &r, home, point);
	assert_ptr_equal(mremap(r.p, PAGES * PAGE, PAGES * PAGE, MREMAP_MAYMOVE | MREMAP_FIXED,
				q + 3 * PAGE),
			 q + 3 * PAGE);
	env_forget(e, r.p, PAGES * PAGE);
	race_end(&r, point);
	assert_filled(q + 3 * PAGE, PAGES, 1);
	fill(q + 3 * PAGE, PAGES, 2);
	assert_device_sees(r.ref, q + 3 * PAGE, PAGES, 2);
	assert_filled(q + 3 * PAGE, PAGES, 2);
}

static void remapped_while_collected_for_the_device(struct env *e)
{
	remap_during(e, false, HOOK_COLLECTED);
}

static void remapped_while_copied_to_the_device(struct env *e)
{
	remap_during(e, false, HOOK_COPIED);
}

static void remapped_while_copied_home(struct env *e)
{
	remap_during(e, true, HOOK_COPIED);
}

/* MREMAP_DONTUNMAP: the pages go, the old mapping stays behind, empty, and is the program's. */
static void remap_away_during(struct env *e, bool home, enum hook_point point)
{
	char *q = env_map(e, PAGES * PAGE);
	struct race r;

	race_begin(e, &r, home, point);
	assert_ptr_equal(mremap(r.p, PAGES * PAGE, PAGES * PAGE,
				MREMAP_MAYMOVE | MREMAP_FIXED | MREMAP_DONTUNMAP, q),
			 q);
	assert_zero(r.p, PAGES);
	fill(r.p, PAGES, 3);
	race_end(&r, point);
	assert_filled(q, PAGES, 1);
	assert_device_sees(r.ref, q, PAGES, 1);
	assert_filled(r.p, PAGES, 3);
}

static void remapped_away_while_copied_to_the_device(struct env *e)
{
	remap_away_during(e, false, HOOK_COPIED);
}

static void remapped_away_while_copied_home(struct env *e)
{
	remap_away_during(e, true, HOOK_COPIED);
}

/* Neither the device nor the old address can have the pages: they go where the mapping went. */
static void remapped_twice_before_the_device_refuses_the_pages(struct env *e)
{
	char *q = env_map(e, PAGES * PAGE), *s = env_map(e, PAGES * PAGE);
	struct ref_device *ref = env_device(e, 64);
	char *p = env_attach(e, PAGES * PAGE);
	struct act mover = { .env = e, .ref = ref, .p = p, .npages = PAGES };
	struct actor actor;
	size_t len = PAGES * PAGE;

	fill(p, PAGES, 1);
	ref_fail(ref, &(struct ref_failure){ .error = -EIO, .to_device = true });
	hook_arm(HOOK_COPIED, p, PAGES);
	actor_start(&actor, act_migrate, &mover);
	assert_true(hook_stopped());
	assert_ptr_equal(mremap(p, len, len, MREMAP_MAYMOVE | MREMAP_FIXED, q), q);
	assert_ptr_equal(mremap(q, len, len, MREMAP_MAYMOVE | MREMAP_FIXED, s), s);
	env_forget(e, p, len);
	env_forget(e, q, len);
	hook_go(HOOK_COPIED);
	actor_join(&actor);
	assert_true(mover.ret < 0);
	assert_filled(s, PAGES, 1);
	assert_free_frames(ref, 64);
}

/* The frames of pages that were moved away and dropped can be used again: all of them. */
static void dropped_at_the_new_address_before_the_frames_are_carried(struct env *e)
{
	struct ref_device *ref = env_device(e, PAGES);
	char *p = env_attach(e, PAGES * PAGE), *q = env_map(e, PAGES * PAGE);
	char *other = env_alloc_small(e, PAGES * PAGE);

	fill(p, PAGES, 1);
	fill(other, PAGES, 2);
	to_device(e, ref, p, PAGES, PAGES);
	hook_arm(HOOK_WORK, p, PAGES);
	assert_ptr_equal(mremap(p, PAGES * PAGE, PAGES * PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, q),
			 q);
	env_forget(e, p, PAGES * PAGE);
	assert_true(hook_stopped());
	assert_int_equal(madvise(q, PAGES * PAGE, MADV_DONTNEED), 0);
	hook_go(HOOK_WORK);
	assert_zero(q, PAGES);
	assert_free_frames(ref, PAGES);
	to_device(e, ref, other, PAGES, PAGES);
	assert_device_sees(ref, other, PAGES, 2);
	assert_filled(other, PAGES, 2);
}

/* ---- addresses with a second life --------------------------------------------------- */

/* Memory that no device has used the kernel tells nothing of. */
static void known_to_device(struct ref_device *ref, const char *p)
{
	assert_int_equal(ref_map(ref, (uintptr_t)p, PAGES * PAGE, true), 0);
}

/* What was in flight at q goes on to where its mapping went, whatever came to q since. */
static void second_life_during(struct env *e, bool home, enum hook_point point)
{
	char *next = env_attach(e, PAGES * PAGE), *s = env_map(e, 2 * PAGES * PAGE) + 3 * PAGE;
	struct race r;

	race_begin(e, &r, home, point);
	fill(next, PAGES, 2);
	known_to_device(r.ref, next);
	move_onto(e, r.p, s, PAGES);
	move_onto(e, next, r.p, PAGES);
	assert_filled(r.p, PAGES, 2);
	race_end(&r, point);
	assert_filled(r.p, PAGES, 2);
	assert_filled(s, PAGES, 1);
	assert_device_sees(r.ref, r.p, PAGES, 2);
	assert_device_sees(r.ref, s, PAGES, 1);
	env_unmap(e, s, PAGES * PAGE);
	assert_int_equal(munmap(r.p, PAGES * PAGE), 0);
	assert_free_frames(r.ref, 64);
}

static void address_gets_other_pages_while_its_own_are_collected(struct env *e)
{
	second_life_during(e, false, HOOK_COLLECTED);
}

static void address_gets_other_pages_while_its_own_are_copied(struct env *e)
{
	second_life_during(e, false, HOOK_COPIED);
}

static void address_gets_other_pages_while_its_own_come_home(struct env *e)
{
	second_life_during(e, true, HOOK_COPIED);
}

/* Pages unmapped in flight, and others moved to their address: both are what they should be. */
static void unmapped_and_moved_onto_during(struct env *e, bool home)
{
	char *next = env_attach(e, PAGES * PAGE);
	struct race r;

	race_begin(e, &r, home, HOOK_COPIED);
	fill(next, PAGES, 2);
	known_to_device(r.ref, next);
	assert_int_equal(munmap(r.p, PAGES * PAGE), 0);
	move_onto(e, next, r.p, PAGES);
	race_end(&r, HOOK_COPIED);
	assert_filled(r.p, PAGES, 2);
	assert_free_frames(r.ref, 64);
	assert_device_sees(r.ref, r.p, PAGES, 2);
}

static void unmapped_and_moved_onto_while_copied_to_the_device(struct env *e)
{
	unmapped_and_moved_onto_during(e, false);
}

static void unmapped_and_moved_onto_while_copied_home(struct env *e)
{
	unmapped_and_moved_onto_during(e, true);
}

/* Device pages go on and on before any mirror has heard of the first move. */
static void moved_again_and_again_before_mirrors_are_told(struct env *e)
{
	struct ref_device *ref = env_device(e, 3 * PAGES);
	char *a = env_attach(e, PAGES * PAGE), *b = env_attach(e, PAGES * PAGE);
	char *c = env_attach(e, PAGES * PAGE), *s = env_map(e, 2 * PAGES * PAGE) + 5 * PAGE;

	fill(a, PAGES, 1);
	fill(b, PAGES, 2);
	fill(c, PAGES, 3);
	to_device(e, ref, a, PAGES, PAGES);
	to_device(e, ref, b, PAGES, PAGES);
	to_device(e, ref, c, PAGES, PAGES);
	hook_arm(HOOK_WORK, a, PAGES);
	move_onto(e, a, s, PAGES);
	assert_true(hook_stopped());
	/* Each to the address that the one before has just left; the last onto the first. */
	move_onto(e, b, a, PAGES);
	move_onto(e, c, b, PAGES);
	assert_int_equal(munmap(s, PAGES * PAGE), 0);
	move_onto(e, a, s, PAGES);
	/* The first one's frames may still be written to: nobody gets them before it is known. */
	assert_int_equal(umm_devmem_nfree(ref->mem), 0);
	hook_go(HOOK_WORK);
	assert_free_frames(ref, PAGES);
	assert_filled(s, PAGES, 2);
	assert_filled(b, PAGES, 3);
	assert_device_sees(ref, s, PAGES, 2);
	assert_device_sees(ref, b, PAGES, 3);
}

/* A touch of a page that has moved waits until no mirror translates its old address any more. */
static void touch_at_the_new_address_waits_until_mirrors_are_told(struct env *e)
{
	struct ref_device *ref = env_device(e, PAGES);
	char *p = env_attach(e, PAGES * PAGE), *q = env_map(e, PAGES * PAGE);
	struct act reader = { .p = q, .npages = PAGES };
	struct actor actor;

	fill(p, PAGES, 1);
	to_device(e, ref, p, PAGES, PAGES);
	hook_arm(HOOK_WORK, p, PAGES);
	move_onto(e, p, q, PAGES);
	assert_true(hook_stopped());
	env_mark(e);
	actor_start(&actor, act_read, &reader);
	assert_true(actor_blocks(&actor));
	assert_int_equal(env_delta_causes(e, UMM_COUNT_TO_SYSTEM), 0);
	hook_go(HOOK_WORK);
	actor_join(&actor);
	assert_int_equal(reader.ret, PAGES);
	assert_delta(e, UMM_COUNT_FAULT_WAIT, 1);
	assert_delta(e, UMM_COUNT_FAULT_DEVICE, PAGES);
}

/* Should a message ever be missed, the pages go, but nobody waits for them. */
static void mapping_that_went_away_unseen_keeps_no_frames(struct env *e)
{
	struct ref_device *ref = env_device(e, PAGES);
	char *p = env_attach(e, PAGES * PAGE);

	fill(p, PAGES, 1);
	to_device(e, ref, p, PAGES, PAGES);
	assert_int_equal(uffd_unregister(e->ctx->uffd, (uintptr_t)p, PAGES * PAGE), 0);
	env_unmap(e, p, PAGES * PAGE);
	assert_state(e, p, PAGES, env_home(e));
	assert_true(umm_devmem_evict(ref->mem, PAGES) == 0);
	assert_free_frames(ref, PAGES);
}

/* ---- the core itself touches memory that goes and comes back ---------------------------- */

/*
 * Pages leave their address, come back and are dropped, while a migration is about to touch what
 * is mapped there: it must not wait for what only its own end could bring.
 */
static void there_and_back(char *p, char *q, size_t npages)
{
	int flags = MREMAP_MAYMOVE | MREMAP_FIXED | MREMAP_DONTUNMAP;

	assert_ptr_equal(mremap(p, npages * PAGE, npages * PAGE, flags, q), q);
	assert_ptr_equal(mremap(q, npages * PAGE, npages * PAGE, flags, p), p);
	assert_int_equal(madvise(p, npages * PAGE, MADV_DONTNEED), 0);
}

static void back_and_dropped_before_it_is_read(struct env *e)
{
	struct ref_device *ref = env_device(e, PAGES);
	char *p = env_attach(e, PAGES * PAGE), *q = env_map(e, PAGES * PAGE);
	struct act copier = { e, ref, p, PAGES, UMM_MIGRATE_DUPLICATE, 0 };
	struct actor actor;

	fill(p, PAGES, 1);
	hook_arm(HOOK_COLLECTED, p, PAGES);
	actor_start(&actor, act_migrate, &copier);
	assert_true(hook_stopped());
	there_and_back(p + 4 * PAGE, q, 2);
	hook_go(HOOK_COLLECTED);
	actor_join(&actor);
	assert_int_equal(copier.ret, PAGES - 2);
	assert_filled(p, 4, 1);
	assert_zero(p + 4 * PAGE, 2);
	assert_filled_part(p, 6, PAGES - 6, 1);
}

struct shift {
	char *from, *to;
};

static void act_shift(void *arg)
{
	struct shift *shift = arg;

	mremap(shift->from, PAGES * PAGE, PAGES * PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, shift->to);
}

static void child_waits(void *arg)
{
	char byte;

	child_check(read(*(int *)arg, &byte, 1) == 1);
}

/* What a child shares is made the parent's own, in place, before it can be moved. */
static void back_and_dropped_before_it_is_unshared(struct env *e)
{
	struct ref_device *ref = env_device(e, PAGES);
	char *p = env_attach(e, PAGES * PAGE), *q = env_map(e, PAGES * PAGE);
	struct act mover = { e, ref, p, PAGES, 0, 0 };
	struct actor actor;
	int pair[2], pid;

	/* A device has used it: what is dropped is told. */
	to_device(e, ref, p, PAGES, PAGES);
	fill(p, PAGES, 1);
	assert_int_equal(pipe(pair), 0);
	pid = child_fork(child_waits, &pair[0]);
	hook_arm(HOOK_COLLECTED, p, PAGES);
	actor_start(&actor, act_migrate, &mover);
	assert_true(hook_stopped());
	there_and_back(p + 4 * PAGE, q, 2);
	hook_go(HOOK_COLLECTED);
	actor_join(&actor);
	assert_true(mover.ret >= 0);
	assert_int_equal(write(pair[1], "x", 1), 1);
	assert_true(child_wait(pid));
	close(pair[0]);
	close(pair[1]);
	assert_filled(p, 4, 1);
	assert_zero(p + 4 * PAGE, 2);
	assert_filled_part(p, 6, PAGES - 6, 1);
}

struct forker {
	struct act look; /* what the child is to find filled with 1 */
	bool ok;
};

static void child_looks(void *arg)
{
	act_read(arg);
	child_check(((struct act *)arg)->ret == PAGES);
}

static void act_fork(void *arg)
{
	struct forker *forker = arg;

	forker->ok = in_child(child_looks, &forker->look);
}

/* fork() brings pages home from the lowest address up; what moves down meanwhile counts, too. */
static void page_that_moves_behind_a_fork_is_the_childs(struct env *e)
{
	struct ref_device *ref = env_device(e, 2 * PAGES);
	char *map = env_map(e, 4 * BLOCK);
	char *to = (char *)(((uintptr_t)map + BLOCK - 1) & ~(uintptr_t)(BLOCK - 1));
	char *low = to + BLOCK, *high = low + BLOCK;
	struct forker forker = { .look = { .p = to, .npages = PAGES } };
	struct actor actor;

	assert_int_equal(umm_attach(e->ctx, low, PAGES * PAGE), 0);
	assert_int_equal(umm_attach(e->ctx, high, PAGES * PAGE), 0);
	fill(low, PAGES, 2);
	fill(high, PAGES, 1);
	to_device(e, ref, low, PAGES, PAGES);
	to_device(e, ref, high, PAGES, PAGES);
	hook_arm(HOOK_COLLECTED, low, PAGES);
	actor_start(&actor, act_fork, &forker);
	assert_true(hook_stopped());
	move_onto(e, high, to, PAGES);
	hook_go(HOOK_COLLECTED);
	actor_join(&actor);
	assert_true(forker.ok);
	assert_filled(to, PAGES, 1);
	assert_filled(low, PAGES, 2);
}

/* Not yet looked at, and gone: that nothing is there does not mean that it was never touched. */
static void remapped_while_it_is_registered(struct env *e)
{
	struct ref_device *ref = env_device(e, PAGES);
	char *p = env_attach(e, PAGES * PAGE), *q = env_map(e, PAGES * PAGE);
	struct act mover = { e, ref, p, PAGES, 0, 0 };
	struct shift shift = { p, q };
	struct actor moving, shifting;

	fill(p, PAGES, 1);
	hook_arm(HOOK_REGISTERED, p, PAGES);
	actor_start(&moving, act_migrate, &mover);
	assert_true(hook_stopped());
	actor_start(&shifting, act_shift, &shift);
	/* It has moved, and waits for somebody to read of it. */
	assert_true(actor_blocks(&shifting));
	hook_go(HOOK_REGISTERED);
	actor_join(&shifting);
	actor_join(&moving);
	env_forget(e, p, PAGES * PAGE);
	assert_filled(q, PAGES, 1);
	assert_device_sees(ref, q, PAGES, 1);
	assert_filled(q, PAGES, 1);
}

/* ---- threads that move mappings at the same instant ----------------------------------- */

#define GROWERS 3
#define ROUNDS	400

struct grower {
	struct actor actor;
	struct env *env;
	struct ref_device *ref;
	char *p;
	unsigned number;
	const char *wrong;
};

/* The kernel gives each the addresses that the others have just left, again and again. */
static void grow_and_shrink(void *arg)
{
	struct grower *g = arg;
	char *p, *guard;
	long ret;

	for (unsigned round = 1; round <= ROUNDS && !g->wrong; round++) {
		unsigned seed = g->number * ROUNDS + round;

		fill(g->p, PAGES, seed);
		ret = migrate(g->env, g->ref, g->p, PAGES, 0);
		if (ret < 0)
			g->wrong = umm_strerror((int)ret);
		/* No room behind it, so it moves; mostly, since the others move as well. */
		guard = mmap(g->p + PAGES * PAGE, PAGE, PROT_NONE,
			     MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
		p = mremap(g->p, PAGES * PAGE, 2 * PAGES * PAGE, MREMAP_MAYMOVE);
		if (guard != MAP_FAILED)
			munmap(guard, PAGE);
		if (p == MAP_FAILED) {
			g->wrong = "mremap";
			return;
		}
		g->p = p;
		for (size_t i = 0; i < PAGES; i++)
			if (!filled_at(g->p, i, seed))
				g->wrong = "contents";
		if (mremap(g->p, 2 * PAGES * PAGE, PAGES * PAGE, 0) != g->p)
			g->wrong = "shrinking";
	}
}

static void mappings_that_take_each_others_addresses_keep_their_contents(struct env *e)
{
	struct grower growers[GROWERS] = { 0 };
	struct ref_device *ref = env_device(e, GROWERS * PAGES);

	if (HARNESS_TSAN)
		env_skip("ThreadSanitizer does not know that mremap() hands addresses over");
	for (unsigned k = 0; k < GROWERS; k++) {
		struct grower *g = &growers[k];

		*g = (struct grower){ .env = e, .ref = ref, .number = k };
		g->p = mmap(NULL, PAGES * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS,
			    -1, 0);
		assert_ptr_not_equal(g->p, MAP_FAILED);
		assert_int_equal(umm_attach(e->ctx, g->p, PAGES * PAGE), 0);
		to_device(e, ref, g->p, PAGES, PAGES);
	}
	for (unsigned k = 0; k < GROWERS; k++)
		actor_start(&growers[k].actor, grow_and_shrink, &growers[k]);
	for (unsigned k = 0; k < GROWERS; k++)
		actor_join(&growers[k].actor);
	for (unsigned k = 0; k < GROWERS; k++) {
		if (growers[k].wrong)
			fail_msg("thread %u: %s", k, growers[k].wrong);
		munmap(growers[k].p, PAGES * PAGE);
	}
	assert_free_frames(ref, GROWERS * PAGES);
}

/* ---- a random walk ------------------------------------------------------------------- */

#define PLACES	    10
#define PLACE_PAGES 24
#define STEPS	    4000
#define FORKS	    8 /* about */

struct place {
	bool mapped[PLACE_PAGES];
	unsigned seed[PLACE_PAGES]; /* 0: reads zero */
	unsigned of[PLACE_PAGES];   /* the page of its fill */
};

struct walk {
	struct env *env;
	struct ref_device *ref;
	char *arena;
	struct place places[PLACES];
	uint64_t random;
	unsigned seed;
	unsigned wrong; /* pages that were not what they should be; told once all have stopped */
	atomic_bool stop;
};

static unsigned draw(uint64_t *random, unsigned below)
{
	*random = *random * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
	return (unsigned)(*random >> 33) % below;
}

/* Not aligned to blocks: a place lies across the border of two. */
static char *place_addr(const struct walk *w, unsigned place)
{
	return w->arena + (size_t)place * (BLOCK + 7 * PAGE) + (BLOCK - 10 * PAGE);
}

static void walk_fill(struct walk *w, unsigned place, unsigned i)
{
	struct place *at = &w->places[place];

	at->seed[i] = ++w->seed;
	at->of[i] = i;
	page_fill(place_addr(w, place) + i * PAGE, i, at->seed[i]);
}

/* A test that failed at once would leave the mover behind. */
#define walk_wrong(w, ...)                        \
	do {                                      \
		if (!(w)->wrong++)                \
			print_error(__VA_ARGS__); \
	} while (0)

static void walk_check(struct walk *w, unsigned place, unsigned i)
{
	const struct place *at = &w->places[place];
	const void *page = place_addr(w, place) + i * PAGE;

	if (!at->mapped[i])
		return;
	if (at->seed[i] ? page_filled(page, at->of[i], at->seed[i]) : page_zero(page))
		return;
	walk_wrong(w, "place %u page %u: not fill %u of page %u\n", place, i, at->seed[i],
		   at->of[i]);
}

/* The whole place anew: mapped, attached, known to the device. */
static void walk_renew(struct walk *w, unsigned place)
{
	char *p = place_addr(w, place);
	long ret;

	if (mmap(p, PLACE_PAGES * PAGE, PROT_READ | PROT_WRITE,
		 MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) != p)
		walk_wrong(w, "mmap: %s\n", strerror(errno));
	ret = umm_attach(w->env->ctx, p, PLACE_PAGES * PAGE);
	if (ret)
		walk_wrong(w, "place %u is not attached: %s\n", place, umm_strerror((int)ret));
	ret = umm_migrate_to_device(w->env->ctx, w->ref->mem, p, PLACE_PAGES * PAGE);
	if (ret < 0 && ret != -ENOSPC)
		walk_wrong(w, "place %u: %s\n", place, umm_strerror((int)ret));
	for (unsigned i = 0; i < PLACE_PAGES; i++) {
		w->places[place].mapped[i] = true;
		w->places[place].seed[i] = 0;
		if (draw(&w->random, 2))
			walk_fill(w, place, i);
	}
}

/* In place of munmap(): nobody else, like the library, shall get the address meanwhile. */
static void walk_unmap(struct walk *w, unsigned place, unsigned first, unsigned npages)
{
	if (mmap(place_addr(w, place) + first * PAGE, npages * PAGE, PROT_NONE,
		 MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1, 0) == MAP_FAILED)
		walk_wrong(w, "unmapping: %s\n", strerror(errno));
	memset(&w->places[place].mapped[first], 0, npages * sizeof(bool));
}

static void walk_drop(struct walk *w, unsigned place, unsigned first, unsigned npages)
{
	if (madvise(place_addr(w, place) + first * PAGE, npages * PAGE, MADV_DONTNEED))
		walk_wrong(w, "madvise: %s\n", strerror(errno));
	memset(&w->places[place].seed[first], 0, npages * sizeof(unsigned));
}

static void walk_move(struct walk *w, unsigned place, unsigned to, bool leave)
{
	unsigned first = draw(&w->random, PLACE_PAGES), npages = 0;
	unsigned most = 1 + draw(&w->random, PLACE_PAGES - first);
	struct place *a = &w->places[place], *b = &w->places[to];
	int flags = MREMAP_MAYMOVE | MREMAP_FIXED | (leave ? MREMAP_DONTUNMAP : 0);

	while (npages < most && a->mapped[first + npages])
		npages++;
	if (!npages)
		return;
	if (mremap(place_addr(w, place) + first * PAGE, npages * PAGE, npages * PAGE, flags,
		   place_addr(w, to) + first * PAGE) == MAP_FAILED) {
		/* Several mappings: some of them may have moved before it failed. */
		walk_unmap(w, place, first, npages);
		walk_unmap(w, to, first, npages);
		return;
	}
	for (unsigned i = first; i < first + npages; i++) {
		b->mapped[i] = true;
		b->seed[i] = a->seed[i];
		b->of[i] = a->of[i];
		a->seed[i] = 0;
	}
	if (!leave)
		walk_unmap(w, place, first, npages);
}

static void walk_touch(struct walk *w, unsigned place)
{
	for (unsigned i = draw(&w->random, PLACE_PAGES); i < PLACE_PAGES;
	     i += 1 + draw(&w->random, 6)) {
		walk_check(w, place, i);
		if (w->places[place].mapped[i] && draw(&w->random, 2))
			walk_fill(w, place, i);
	}
}

static void walk_migrate(struct walk *w, uint64_t *random)
{
	char *p = place_addr(w, draw(random, PLACES));
	unsigned first = draw(random, PLACE_PAGES);
	unsigned npages = 1 + draw(random, PLACE_PAGES - first);

	struct ref_device *ref = draw(random, 3) ? w->ref : NULL;

	/* What is not managed, or does not fit, is passed over. */
	migrate(w->env, ref, p + first * PAGE, npages,
		ref && draw(random, 4) == 0 ? UMM_MIGRATE_DUPLICATE : 0);
}

static void walk_mover(void *arg)
{
	struct walk *w = arg;
	uint64_t random = 2;

	while (!atomic_load(&w->stop))
		walk_migrate(w, &random);
}

/* Page by page away, leaving the mapping, and back: several mappings come back as one. */
static void walk_there_and_back(struct walk *w, unsigned place, unsigned first, unsigned npages)
{
	int flags = MREMAP_MAYMOVE | MREMAP_FIXED | MREMAP_DONTUNMAP;
	char *p = place_addr(w, place);
	char *q = mmap(NULL, npages * PAGE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	for (unsigned i = 0; i < npages; i++)
		if (w->places[place].mapped[first + i] &&
		    mremap(p + (first + i) * PAGE, PAGE, PAGE, flags, q + i * PAGE) == MAP_FAILED)
			walk_wrong(w, "mremap away: %s\n", strerror(errno));
	for (unsigned i = 0; i < npages; i++)
		if (w->places[place].mapped[first + i] &&
		    mremap(q + i * PAGE, PAGE, PAGE, flags, p + (first + i) * PAGE) == MAP_FAILED)
			walk_wrong(w, "mremap back: %s\n", strerror(errno));
	munmap(q, npages * PAGE);
}

static void child_walks(void *arg)
{
	struct walk *w = arg;

	for (unsigned place = 0; place < PLACES; place++)
		for (unsigned i = 0; i < PLACE_PAGES; i++)
			walk_check(w, place, i);
	child_check(!w->wrong);
}

static void walk_fork(struct walk *w)
{
	if (!in_child(child_walks, w))
		walk_wrong(w, "a child saw other contents\n");
}

static void walk_step(struct walk *w)
{
	unsigned place = draw(&w->random, PLACES), other = draw(&w->random, PLACES);
	unsigned first = draw(&w->random, PLACE_PAGES);
	unsigned npages = 1 + draw(&w->random, PLACE_PAGES - first);

	if (draw(&w->random, STEPS / FORKS) == 0)
		walk_fork(w);
	switch (draw(&w->random, 11)) {
	case 0:
		walk_renew(w, place);
		break;
	case 1:
		walk_unmap(w, place, first, npages);
		break;
	case 2:
		walk_drop(w, place, first, npages);
		break;
	case 3:
	case 4:
	case 5:
		if (place != other)
			walk_move(w, place, other, draw(&w->random, 4) == 0);
		break;
	case 6:
		walk_migrate(w, &w->random);
		break;
	case 7:
		walk_there_and_back(w, place, first, npages < 6 ? npages : 6);
		break;
	default:
		walk_touch(w, place);
		break;
	}
}

static void random_moves_lose_nothing(struct env *e)
{
	struct walk *w = calloc(1, sizeof(*w));
	/* Without UFFDIO_MOVE, addresses that change hands during a migration are the program's. */
	bool beside = e->ctx->features & UMM_KERNEL_MOVE;
	struct actor mover;

	assert_non_null(w);
	w->env = e;
	w->ref = env_device(e, PLACES * PLACE_PAGES / 2);
	w->arena = env_map(e, (PLACES + 1) * (BLOCK + 7 * PAGE));
	w->random = getenv("UMM_STRESS_SEED") ? strtoull(getenv("UMM_STRESS_SEED"), NULL, 0) : 1;
	for (unsigned place = 0; place < PLACES; place++)
		walk_renew(w, place);
	if (beside)
		actor_start(&mover, walk_mover, w);
	for (unsigned step = 0; step < STEPS && !w->wrong; step++)
		walk_step(w);
	atomic_store(&w->stop, true);
	if (beside)
		actor_join(&mover);
	for (unsigned place = 0; place < PLACES; place++)
		for (unsigned i = 0; i < PLACE_PAGES; i++)
			walk_check(w, place, i);
	for (unsigned place = 0; place < PLACES; place++)
		walk_unmap(w, place, 0, PLACE_PAGES);
	assert_int_equal(w->wrong, 0);
	assert_free_frames(w->ref, PLACES * PLACE_PAGES / 2);
	free(w);
}

static const struct test_case cases[] = {
	TEST(ALL, remapped_while_collected_for_the_device),
	TEST(ALL, remapped_while_copied_to_the_device),
	TEST(ALL, remapped_while_copied_home),
	TEST(ALL, remapped_away_while_copied_to_the_device),
	TEST(ALL, remapped_away_while_copied_home),
	TEST(ALL, remapped_twice_before_the_device_refuses_the_pages),
	TEST(ALL, dropped_at_the_new_address_before_the_frames_are_carried),
	TEST(ALL, address_gets_other_pages_while_its_own_are_collected),
	TEST(ALL, address_gets_other_pages_while_its_own_are_copied),
	TEST(ALL, address_gets_other_pages_while_its_own_come_home),
	TEST(ALL, unmapped_and_moved_onto_while_copied_to_the_device),
	TEST(ALL, unmapped_and_moved_onto_while_copied_home),
	TEST(PRIVATE, moved_again_and_again_before_mirrors_are_told),
	TEST(PRIVATE, touch_at_the_new_address_waits_until_mirrors_are_told),
	TEST(ALL, mapping_that_went_away_unseen_keeps_no_frames),
	TEST(ALL, remapped_while_it_is_registered),
	TEST(ALL, back_and_dropped_before_it_is_read),
	TEST(ALL, back_and_dropped_before_it_is_unshared),
	TEST(PRIVATE, page_that_moves_behind_a_fork_is_the_childs),
	TEST(ALL, mappings_that_take_each_others_addresses_keep_their_contents),
	TEST(ALL, random_moves_lose_nothing),
};

int main(int argc, char **argv)
{
	hook_init();
	return harness_main("test_remap", cases, sizeof(cases) / sizeof(cases[0]), argc, argv);
}
