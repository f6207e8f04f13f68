/* SPDX-License-Identifier: MIT */
/*
 * mremap() beside everything else: pages in flight, pages of which mirrors have not been told yet,
 * and addresses that get a second life before the first one is cleaned up. Orders are forced
 * at hook points; test_remap_walk.c does the rest.
 */
#include "race.h"

#include "ctx.h"
#include "event.h"
#include "piece.h"
#include "uffd.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#ifndef MREMAP_DONTUNMAP
#define MREMAP_DONTUNMAP 4
#endif

/* mremap() onto an address of the test's; the old one is no mapping any more. */
static void move_onto(struct env *e, char *from, char *to, size_t npages)
{
	assert_ptr_equal(
		mremap(from, npages * PAGE, npages * PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, to), to);
	env_forget(e, from, npages * PAGE);
}

static void remap_during(struct env *e, bool home, enum hook_point point)
{
	char *q = env_map(e, 2 * RACE_PAGES * PAGE);
	struct race r;

	race_begin(e, &r, home, point);
	assert_ptr_equal(mremap(r.p, RACE_PAGES * PAGE, RACE_PAGES * PAGE,
				MREMAP_MAYMOVE | MREMAP_FIXED, q + 3 * PAGE),
			 q + 3 * PAGE);
	env_forget(e, r.p, RACE_PAGES * PAGE);
	race_end(&r, point);
	assert_filled(q + 3 * PAGE, RACE_PAGES, 1);
	fill(q + 3 * PAGE, RACE_PAGES, 2);
	assert_device_sees(r.ref, q + 3 * PAGE, RACE_PAGES, 2);
	assert_filled(q + 3 * PAGE, RACE_PAGES, 2);
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
	char *q = env_map(e, RACE_PAGES * PAGE);
	struct race r;

	race_begin(e, &r, home, point);
	assert_ptr_equal(mremap(r.p, RACE_PAGES * PAGE, RACE_PAGES * PAGE,
				MREMAP_MAYMOVE | MREMAP_FIXED | MREMAP_DONTUNMAP, q),
			 q);
	assert_zero(r.p, RACE_PAGES);
	fill(r.p, RACE_PAGES, 3);
	race_end(&r, point);
	assert_filled(q, RACE_PAGES, 1);
	assert_device_sees(r.ref, q, RACE_PAGES, 1);
	assert_filled(r.p, RACE_PAGES, 3);
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
	char *q = env_map(e, RACE_PAGES * PAGE), *s = env_map(e, RACE_PAGES * PAGE);
	struct ref_device *ref = env_device(e, 64);
	char *p = env_attach(e, RACE_PAGES * PAGE);
	struct act mover = { .env = e, .ref = ref, .p = p, .npages = RACE_PAGES };
	struct actor actor;
	size_t len = RACE_PAGES * PAGE;

	fill(p, RACE_PAGES, 1);
	ref_fail(ref, &(struct ref_failure){ .error = -EIO, .to_device = true });
	hook_arm(HOOK_COPIED, p, RACE_PAGES);
	actor_start(&actor, act_migrate, &mover);
	assert_true(hook_stopped());
	assert_ptr_equal(mremap(p, len, len, MREMAP_MAYMOVE | MREMAP_FIXED, q), q);
	assert_ptr_equal(mremap(q, len, len, MREMAP_MAYMOVE | MREMAP_FIXED, s), s);
	env_forget(e, p, len);
	env_forget(e, q, len);
	hook_go(HOOK_COPIED);
	actor_join(&actor);
	assert_true(mover.ret < 0);
	assert_filled(s, RACE_PAGES, 1);
	assert_free_frames(ref, 64);
}

/* The frames of pages that were moved away and dropped can be used again: all of them. */
static void dropped_at_the_new_address_before_the_frames_are_carried(struct env *e)
{
	struct ref_device *ref = env_device(e, RACE_PAGES);
	char *p = env_attach(e, RACE_PAGES * PAGE), *q = env_map(e, RACE_PAGES * PAGE);
	char *other = env_alloc_small(e, RACE_PAGES * PAGE);

	fill(p, RACE_PAGES, 1);
	fill(other, RACE_PAGES, 2);
	to_device(e, ref, p, RACE_PAGES, RACE_PAGES);
	hook_arm(HOOK_WORK, p, RACE_PAGES);
	assert_ptr_equal(mremap(p, RACE_PAGES * PAGE, RACE_PAGES * PAGE,
				MREMAP_MAYMOVE | MREMAP_FIXED, q),
			 q);
	env_forget(e, p, RACE_PAGES * PAGE);
	assert_true(hook_stopped());
	assert_int_equal(madvise(q, RACE_PAGES * PAGE, MADV_DONTNEED), 0);
	hook_go(HOOK_WORK);
	assert_zero(q, RACE_PAGES);
	assert_free_frames(ref, RACE_PAGES);
	to_device(e, ref, other, RACE_PAGES, RACE_PAGES);
	assert_device_sees(ref, other, RACE_PAGES, 2);
	assert_filled(other, RACE_PAGES, 2);
}

/* ---- addresses with a second life --------------------------------------------------- */

/* Memory that no device has used the kernel tells nothing of. */
static void known_to_device(struct ref_device *ref, const char *p)
{
	assert_int_equal(ref_map(ref, (uintptr_t)p, RACE_PAGES * PAGE, true), 0);
}

/* What was in flight at q goes on to where its mapping went, whatever came to q since. */
static void second_life_during(struct env *e, bool home, enum hook_point point)
{
	char *next = env_attach(e, RACE_PAGES * PAGE),
	     *s = env_map(e, 2 * RACE_PAGES * PAGE) + 3 * PAGE;
	struct race r;

	race_begin(e, &r, home, point);
	fill(next, RACE_PAGES, 2);
	known_to_device(r.ref, next);
	move_onto(e, r.p, s, RACE_PAGES);
	move_onto(e, next, r.p, RACE_PAGES);
	assert_filled(r.p, RACE_PAGES, 2);
	race_end(&r, point);
	assert_filled(r.p, RACE_PAGES, 2);
	assert_filled(s, RACE_PAGES, 1);
	assert_device_sees(r.ref, r.p, RACE_PAGES, 2);
	assert_device_sees(r.ref, s, RACE_PAGES, 1);
	env_unmap(e, s, RACE_PAGES * PAGE);
	assert_int_equal(munmap(r.p, RACE_PAGES * PAGE), 0);
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
	char *next = env_attach(e, RACE_PAGES * PAGE);
	struct race r;

	race_begin(e, &r, home, HOOK_COPIED);
	fill(next, RACE_PAGES, 2);
	known_to_device(r.ref, next);
	assert_int_equal(munmap(r.p, RACE_PAGES * PAGE), 0);
	move_onto(e, next, r.p, RACE_PAGES);
	race_end(&r, HOOK_COPIED);
	assert_filled(r.p, RACE_PAGES, 2);
	assert_free_frames(r.ref, 64);
	assert_device_sees(r.ref, r.p, RACE_PAGES, 2);
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
	struct ref_device *ref = env_device(e, 3 * RACE_PAGES);
	char *a = env_attach(e, RACE_PAGES * PAGE), *b = env_attach(e, RACE_PAGES * PAGE);
	char *c = env_attach(e, RACE_PAGES * PAGE),
	     *s = env_map(e, 2 * RACE_PAGES * PAGE) + 5 * PAGE;

	fill(a, RACE_PAGES, 1);
	fill(b, RACE_PAGES, 2);
	fill(c, RACE_PAGES, 3);
	to_device(e, ref, a, RACE_PAGES, RACE_PAGES);
	to_device(e, ref, b, RACE_PAGES, RACE_PAGES);
	to_device(e, ref, c, RACE_PAGES, RACE_PAGES);
	hook_arm(HOOK_WORK, a, RACE_PAGES);
	move_onto(e, a, s, RACE_PAGES);
	assert_true(hook_stopped());
	/* Each to the address that the one before has just left; the last onto the first. */
	move_onto(e, b, a, RACE_PAGES);
	move_onto(e, c, b, RACE_PAGES);
	assert_int_equal(munmap(s, RACE_PAGES * PAGE), 0);
	move_onto(e, a, s, RACE_PAGES);
	/* The first one's frames may still be written to: nobody gets them before it is known. */
	assert_int_equal(umm_devmem_nfree(ref->mem), 0);
	hook_go(HOOK_WORK);
	assert_free_frames(ref, RACE_PAGES);
	assert_filled(s, RACE_PAGES, 2);
	assert_filled(b, RACE_PAGES, 3);
	assert_device_sees(ref, s, RACE_PAGES, 2);
	assert_device_sees(ref, b, RACE_PAGES, 3);
}

/* A touch of a page that has moved waits until no mirror translates its old address any more. */
static void touch_at_the_new_address_waits_until_mirrors_are_told(struct env *e)
{
	struct ref_device *ref = env_device(e, RACE_PAGES);
	char *p = env_attach(e, RACE_PAGES * PAGE), *q = env_map(e, RACE_PAGES * PAGE);
	struct act reader = { .p = q, .npages = RACE_PAGES };
	struct actor actor;

	fill(p, RACE_PAGES, 1);
	to_device(e, ref, p, RACE_PAGES, RACE_PAGES);
	hook_arm(HOOK_WORK, p, RACE_PAGES);
	move_onto(e, p, q, RACE_PAGES);
	assert_true(hook_stopped());
	env_mark(e);
	actor_start(&actor, act_read, &reader);
	assert_true(actor_blocks(&actor));
	assert_int_equal(env_delta_causes(e, UMM_COUNT_TO_SYSTEM), 0);
	hook_go(HOOK_WORK);
	actor_join(&actor);
	assert_false(reader.wrong);
	assert_delta(e, UMM_COUNT_FAULT_WAIT, 1);
	assert_delta(e, UMM_COUNT_FAULT_DEVICE, RACE_PAGES);
}

/*
 * Pages of one mapping that moves: the first is held until mirrors are told, the others are in
 * flight. That these arrive at the new address must not be taken for what the first one waits for.
 */
static void held_page_is_woken_though_its_neighbours_arrived_before(struct env *e)
{
	struct ref_device *ref = env_device(e, RACE_PAGES);
	char *p = env_attach(e, RACE_PAGES * PAGE), *q = env_map(e, RACE_PAGES * PAGE);
	struct act mover = { .env = e, .ref = ref, .p = p + PAGE, .npages = RACE_PAGES - 1 };
	struct act reader = { .p = q, .npages = 1 };
	struct actor moving, reading;

	fill(p, RACE_PAGES, 1);
	to_device(e, ref, p, 1, 1);
	ref_gate_close(ref, REF_GATE_COPY);
	actor_start(&moving, act_migrate, &mover);
	assert_true(ref_gate_wait(ref, REF_GATE_COPY, PATIENCE_MS));
	hook_arm(HOOK_WORK, p, RACE_PAGES);
	move_onto(e, p, q, RACE_PAGES);
	assert_true(hook_stopped());
	env_mark(e);
	actor_start(&reading, act_read, &reader);
	assert_delta(e, UMM_COUNT_FAULT_WAIT, 1);
	ref_gate_open(ref, REF_GATE_COPY);
	actor_join(&moving);
	assert_int_equal(mover.ret, RACE_PAGES - 1);
	assert_state(e, q + PAGE, RACE_PAGES - 1, UMM_PAGE_DEVICE);
	assert_int_equal(env_delta(e, UMM_COUNT_FAULT_DEVICE), 0);
	hook_go(HOOK_WORK);
	actor_join(&reading);
	assert_false(reader.wrong);
	assert_delta(e, UMM_COUNT_FAULT_DEVICE, 1);
	assert_filled(q, RACE_PAGES, 1);
}

/* Should a message ever be missed, the pages go, but nobody waits for them. */
static void mapping_that_went_away_unseen_keeps_no_frames(struct env *e)
{
	struct ref_device *ref = env_device(e, RACE_PAGES);
	char *p = env_attach(e, RACE_PAGES * PAGE);

	fill(p, RACE_PAGES, 1);
	to_device(e, ref, p, RACE_PAGES, RACE_PAGES);
	assert_int_equal(uffd_unregister(e->ctx->uffd, (uintptr_t)p, RACE_PAGES * PAGE), 0);
	env_unmap(e, p, RACE_PAGES * PAGE);
	assert_state(e, p, RACE_PAGES, env_home(e));
	assert_true(umm_devmem_evict(ref->mem, RACE_PAGES) == 0);
	assert_free_frames(ref, RACE_PAGES);
}

/* What is there instead is managed, whatever else is in its block. */
static void mapping_that_went_away_unseen_makes_room_for_another(struct env *e)
{
	struct ref_device *ref = env_device(e, RACE_PAGES + 1);
	char *p = env_attach(e, (RACE_PAGES + 1) * PAGE);
	struct umm_page_place place;

	fill(p, RACE_PAGES + 1, 1);
	to_device(e, ref, p, RACE_PAGES + 1, RACE_PAGES + 1);
	assert_int_equal(uffd_unregister(e->ctx->uffd, (uintptr_t)p, RACE_PAGES * PAGE), 0);
	assert_ptr_equal(mmap(p, RACE_PAGES * PAGE, PROT_READ | PROT_WRITE,
			      MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0),
			 p);
	assert_true(umm_devmem_evict(ref->mem, RACE_PAGES + 1) >= 0);
	assert_free_frames(ref, RACE_PAGES + 1);
	assert_state(e, p, RACE_PAGES, UMM_PAGE_EMPTY);
	assert_zero(p, RACE_PAGES);
	fill(p, RACE_PAGES, 2);
	/* Where the page of before was is not told of this one. */
	assert_int_equal(umm_locate(e->ctx, (uintptr_t)p, 1, &place), 0);
	assert_int_equal(place.cause, -1);
	to_device(e, ref, p, RACE_PAGES, RACE_PAGES);
	assert_filled(p, RACE_PAGES, 2);
	assert_filled_part(p, RACE_PAGES, 1, 1);
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
	struct ref_device *ref = env_device(e, RACE_PAGES);
	char *p = env_attach(e, RACE_PAGES * PAGE), *q = env_map(e, RACE_PAGES * PAGE);
	struct act copier = { .env = e, .ref = ref, .p = p, .npages = RACE_PAGES };
	struct race r;

	fill(p, RACE_PAGES, 1);
	race_start(&r, HOOK_COLLECTED, act_duplicate, copier);
	there_and_back(p + 4 * PAGE, q, 2);
	race_end(&r, HOOK_COLLECTED);
	assert_int_equal(r.mover.ret, RACE_PAGES - 2);
	assert_filled(p, 4, 1);
	assert_zero(p + 4 * PAGE, 2);
	assert_filled_part(p, 6, RACE_PAGES - 6, 1);
}

struct shift {
	char *from, *to;
};

static void act_shift(void *arg)
{
	struct shift *shift = arg;

	mremap(shift->from, RACE_PAGES * PAGE, RACE_PAGES * PAGE, MREMAP_MAYMOVE | MREMAP_FIXED,
	       shift->to);
}

static void child_waits(void *arg)
{
	char byte;

	child_check(read(*(int *)arg, &byte, 1) == 1);
}

/* What a child shares is made the parent's own, in place, before it can be moved. */
static void back_and_dropped_before_it_is_unshared(struct env *e)
{
	struct ref_device *ref = env_device(e, RACE_PAGES);
	char *p = env_attach(e, RACE_PAGES * PAGE), *q = env_map(e, RACE_PAGES * PAGE);
	struct act mover = { .env = e, .ref = ref, .p = p, .npages = RACE_PAGES };
	struct race r;
	int pair[2], pid;

	/* A device has used it: what is dropped is told. */
	to_device(e, ref, p, RACE_PAGES, RACE_PAGES);
	fill(p, RACE_PAGES, 1);
	assert_int_equal(pipe(pair), 0);
	pid = child_fork(child_waits, &pair[0]);
	race_start(&r, HOOK_COLLECTED, act_migrate, mover);
	there_and_back(p + 4 * PAGE, q, 2);
	race_end(&r, HOOK_COLLECTED);
	assert_int_equal(write(pair[1], "x", 1), 1);
	assert_true(child_wait(pid));
	close(pair[0]);
	close(pair[1]);
	assert_filled(p, 4, 1);
	assert_zero(p + 4 * PAGE, 2);
	assert_filled_part(p, 6, RACE_PAGES - 6, 1);
}

/* fork() brings pages home from the lowest address up; what moves down meanwhile counts, too. */
static void page_that_moves_behind_a_fork_is_the_childs(struct env *e)
{
	struct ref_device *ref = env_device(e, 2 * RACE_PAGES);
	char *map = env_map(e, 4 * BLOCK);
	char *to = (char *)(((uintptr_t)map + BLOCK - 1) & ~(uintptr_t)(BLOCK - 1));
	char *low = to + BLOCK, *high = low + BLOCK;
	struct act forker = { .env = e, .p = to, .npages = RACE_PAGES };
	struct actor actor;

	assert_int_equal(umm_attach(e->ctx, low, RACE_PAGES * PAGE), 0);
	assert_int_equal(umm_attach(e->ctx, high, RACE_PAGES * PAGE), 0);
	fill(low, RACE_PAGES, 2);
	fill(high, RACE_PAGES, 1);
	to_device(e, ref, low, RACE_PAGES, RACE_PAGES);
	to_device(e, ref, high, RACE_PAGES, RACE_PAGES);
	hook_arm(HOOK_COLLECTED, low, RACE_PAGES);
	actor_start(&actor, act_fork, &forker);
	assert_true(hook_stopped());
	move_onto(e, high, to, RACE_PAGES);
	hook_go(HOOK_COLLECTED);
	actor_join(&actor);
	assert_false(forker.wrong);
	assert_filled(to, RACE_PAGES, 1);
	assert_filled(low, RACE_PAGES, 2);
}

/* Not yet looked at, and gone: that nothing is there does not mean that it was never touched. */
static void remapped_while_it_is_registered(struct env *e)
{
	struct ref_device *ref = env_device(e, RACE_PAGES);
	char *p = env_attach(e, RACE_PAGES * PAGE), *q = env_map(e, RACE_PAGES * PAGE);
	struct act mover = { .env = e, .ref = ref, .p = p, .npages = RACE_PAGES };
	struct shift shift = { p, q };
	struct actor moving, shifting;

	fill(p, RACE_PAGES, 1);
	hook_arm(HOOK_REGISTERED, p, RACE_PAGES);
	actor_start(&moving, act_migrate, &mover);
	assert_true(hook_stopped());
	actor_start(&shifting, act_shift, &shift);
	/* It has moved, and waits for somebody to read of it. */
	assert_true(actor_blocks(&shifting));
	hook_go(HOOK_REGISTERED);
	actor_join(&shifting);
	actor_join(&moving);
	env_forget(e, p, RACE_PAGES * PAGE);
	assert_filled(q, RACE_PAGES, 1);
	assert_device_sees(ref, q, RACE_PAGES, 1);
	assert_filled(q, RACE_PAGES, 1);
}

/*
 * Dropped, written again, and moved while its message is unread: that nothing is at the old address
 * does not mean that the drop came to its end. A block's other pages are looked at for the first
 * time: that is where the mover stops.
 */
static void remapped_while_a_drop_may_be_under_way(struct env *e)
{
	struct ref_device *ref = env_device(e, 2 * RACE_PAGES);
	char *p = env_map(e, 2 * RACE_PAGES * PAGE), *q = env_map(e, RACE_PAGES * PAGE);
	struct act mover = { .env = e, .ref = ref, .p = p, .npages = 2 * RACE_PAGES };
	struct shift shift = { p, q };
	struct actor moving, shifting;

	assert_int_equal(umm_attach(e->ctx, p, RACE_PAGES * PAGE), 0);
	fill(p, 2 * RACE_PAGES, 1);
	to_device(e, ref, p, RACE_PAGES, RACE_PAGES);
	to_system(e, p, RACE_PAGES, RACE_PAGES);
	assert_int_equal(madvise(p, RACE_PAGES * PAGE, MADV_FREE), 0);
	fill(p, RACE_PAGES, 2);
	assert_int_equal(umm_attach(e->ctx, p + RACE_PAGES * PAGE, RACE_PAGES * PAGE), 0);
	hook_arm(HOOK_REGISTERED, p + RACE_PAGES * PAGE, RACE_PAGES);
	actor_start(&moving, act_migrate, &mover);
	assert_true(hook_stopped());
	actor_start(&shifting, act_shift, &shift);
	assert_true(actor_blocks(&shifting));
	hook_go(HOOK_REGISTERED);
	actor_join(&shifting);
	actor_join(&moving);
	env_forget(e, p, RACE_PAGES * PAGE);
	assert_filled(q, RACE_PAGES, 2);
	umm_migrate_to_device(e->ctx, ref->mem, q, RACE_PAGES * PAGE);
	assert_device_sees(ref, q, RACE_PAGES, 2);
	assert_filled(q, RACE_PAGES, 2);
	assert_filled_part(p, RACE_PAGES, RACE_PAGES, 1);
}

/* What the kernel would say of the core's own exchange of a mapping. */
static void hear_unmapped(struct env *e, const char *p, size_t npages)
{
	struct uffd_msg_info info = {
		.kind = UFFD_UNMAP,
		.addr = (uintptr_t)p,
		.end = (uintptr_t)p + npages * PAGE,
	};

	rwlock_take(&e->ctx->gate);
	event_dispatch(e->ctx, &info);
	rwlock_drop(&e->ctx->gate);
}

/* Two threads of the core exchange the same mapping (both poison it): each has its own message. */
static void two_that_expect_the_same_message_get_one_each(struct env *e)
{
	char *p = env_attach(e, RACE_PAGES * PAGE);
	struct expect a = { .start = (uintptr_t)p, .end = (uintptr_t)p + RACE_PAGES * PAGE };
	struct expect b = a, failed = a;

	event_expect(e->ctx, &a);
	event_expect(e->ctx, &b);
	hear_unmapped(e, p, RACE_PAGES);
	event_expect_end(e->ctx, &a, true);
	hear_unmapped(e, p, RACE_PAGES);
	event_expect_end(e->ctx, &b, true);
	assert_state(e, p, RACE_PAGES, UMM_PAGE_EMPTY);

	event_expect(e->ctx, &a);
	event_expect(e->ctx, &failed);
	hear_unmapped(e, p, RACE_PAGES);
	event_expect_end(e->ctx, &failed, false);
	assert_state(e, p, RACE_PAGES, UMM_PAGE_EMPTY);
	/* This one is the program's. */
	hear_unmapped(e, p, RACE_PAGES);
	event_expect_end(e->ctx, &a, true);
	assert_state(e, p, RACE_PAGES, UMM_PAGE_UNMANAGED);
}

/*
 * A child that bypasses the C library's fork shares the frames that are about to be moved to where
 * the CPU finds them; this process has the first to itself again. The kernel moves that one, and
 * refuses the next.
 */
static void frames_that_a_child_shares_are_installed(struct env *e)
{
	struct piece *piece;
	volatile char *host;
	struct race r;
	long child;

	race_begin(e, &r, false, HOOK_COPIED);
	piece = e->ctx->pieces;
	host = (volatile char *)devmem_host(piece->dst, piece->frames[page_index((uintptr_t)r.p)]);
	assert_non_null(host);
	child = syscall(SYS_fork);
	if (!child)
		for (;;)
			pause();
	assert_true(child > 0);
	*host = *host;
	race_end(&r, HOOK_COPIED);
	kill((pid_t)child, SIGKILL);
	assert_int_equal(waitpid((pid_t)child, NULL, 0), child);
	assert_filled(r.p, RACE_PAGES, 1);
}

struct unmapping {
	struct actor actor;
	char *p;
	size_t len;
};

static void act_munmap(void *arg)
{
	struct unmapping *unmapping = arg;

	munmap(unmapping->p, unmapping->len);
}

struct moving {
	struct actor actor;
	char *from, *to;
};

static void act_move(void *arg)
{
	struct moving *moving = arg;

	mremap(moving->from, BLOCK, BLOCK, MREMAP_MAYMOVE | MREMAP_FIXED, moving->to);
}

/* A block of a shared file, which devices use where it is, and one of memory that migrates. */
static char *two_kinds(struct env *e, struct umm_ctx *ctx, struct ref_device *ref)
{
	int fd = memfd_create("test", MFD_CLOEXEC);
	char *p = env_map(e, 2 * BLOCK), byte;

	assert_true(fd >= 0);
	assert_int_equal(ftruncate(fd, BLOCK), 0);
	assert_ptr_equal(mmap(p, BLOCK, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, fd, 0), p);
	close(fd);
	assert_int_equal(umm_attach(ctx, p, 2 * BLOCK), 0);
	assert_int_equal(ref_read(ref, (uintptr_t)p, &byte, 1), 0);
	fill(p + BLOCK, 1, 1);
	assert_int_equal(umm_migrate_to_device(ctx, ref->mem, p + BLOCK, PAGE), 1);
	return p;
}

/* A context whose one server reads whatever is read. */
static struct ref_device *one_server(struct env *e, struct umm_ctx **ctx, char **p)
{
	struct umm_ctx_options options = { .size = sizeof(options), .fault_servers = 1 };
	struct ref_options device = { .nframes = 64, .inline_copy = true };
	struct umm_probe_info info = { .size = sizeof(info) };
	struct ref_device *ref;

	assert_int_equal(umm_probe(&info), 0);
	if (!(info.kernel_features & UMM_KERNEL_PAGEMAP_SCAN))
		env_skip("this kernel cannot watch files (6.7)");
	assert_int_equal(umm_ctx_create(&options, ctx), 0);
	assert_int_equal(ref_create(*ctx, &device, &ref), 0);
	*p = env_map(e, BLOCK);
	assert_int_equal(umm_attach(*ctx, *p, BLOCK), 0);
	fill(*p, 1, 1);
	assert_int_equal(umm_migrate_to_device(*ctx, ref->mem, *p, PAGE), 1);
	return ref;
}

/*
 * Where a mapping has arrived, and is unmapped, the messages of others are waited for. The next one
 * of a thread that unmaps memory of two kinds comes only when its first has been read.
 */
static void messages_about_two_kinds_of_memory_are_read_in_any_order(struct env *e)
{
	struct moving moving = { .to = env_map(e, BLOCK) };
	struct unmapping both = { .len = 2 * BLOCK }, arrived = { .p = moving.to, .len = BLOCK };
	struct umm_ctx *ctx;
	struct ref_device *ref = one_server(e, &ctx, &moving.from);
	uint64_t began;

	both.p = two_kinds(e, ctx, ref);
	hook_arm(HOOK_EVENT, moving.from, 1);
	actor_start(&moving.actor, act_move, &moving);
	assert_true(hook_stopped());
	actor_start(&both.actor, act_munmap, &both);
	actor_start(&arrived.actor, act_munmap, &arrived);
	assert_true(actor_blocks(&both.actor));
	assert_true(actor_blocks(&arrived.actor));
	began = harness_now_ms();
	hook_go(HOOK_EVENT);
	actor_join(&moving.actor);
	actor_join(&both.actor);
	actor_join(&arrived.actor);
	/* Else it is ten seconds. */
	assert_true(harness_now_ms() - began < 8000);
	assert_free_frames(ref, 64);
	assert_true(ref_destroy(ref));
	umm_ctx_put(ctx);
	env_forget(e, moving.from, BLOCK);
	env_forget(e, moving.to, BLOCK);
	env_forget(e, both.p, 2 * BLOCK);
}

static void act_read_page(void *arg)
{
	struct act *act = arg;

	act->wrong = !filled_at(act->p, 0, 1);
}

/* Nor does a server wait that is to bring a page home, and may not before both have been read. */
static void fault_beside_an_unmapping_of_two_kinds_of_memory_is_served(struct env *e)
{
	struct unmapping both = { .len = 2 * BLOCK };
	struct act reader = { .env = e };
	struct umm_ctx *ctx;
	struct ref_device *ref = one_server(e, &ctx, &reader.p);
	struct actor actor;

	both.p = two_kinds(e, ctx, ref);
	hook_arm(HOOK_FAULT_READ, reader.p, 1);
	actor_start(&actor, act_read_page, &reader);
	assert_true(hook_stopped());
	actor_start(&both.actor, act_munmap, &both);
	assert_true(actor_blocks(&both.actor));
	hook_go(HOOK_FAULT_READ);
	actor_join(&actor);
	actor_join(&both.actor);
	assert_false(reader.wrong);
	assert_free_frames(ref, 64);
	assert_true(ref_destroy(ref));
	umm_ctx_put(ctx);
	env_forget(e, both.p, 2 * BLOCK);
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
	TEST(ASYNC_PRIVATE, held_page_is_woken_though_its_neighbours_arrived_before),
	TEST(ALL, mapping_that_went_away_unseen_keeps_no_frames),
	TEST(PRIVATE, mapping_that_went_away_unseen_makes_room_for_another),
	TEST(ALL, remapped_while_it_is_registered),
	TEST(COHERENT, frames_that_a_child_shares_are_installed),
	TEST(ONCE, two_that_expect_the_same_message_get_one_each),
	TEST(ALL, remapped_while_a_drop_may_be_under_way),
	TEST(ALL, back_and_dropped_before_it_is_read),
	TEST(ALL, back_and_dropped_before_it_is_unshared),
	TEST(PRIVATE, page_that_moves_behind_a_fork_is_the_childs),
	TEST(ONCE, messages_about_two_kinds_of_memory_are_read_in_any_order),
	TEST(ONCE, fault_beside_an_unmapping_of_two_kinds_of_memory_is_served),
};

int main(int argc, char **argv)
{
	hook_init();
	return harness_main("test_remap", cases, sizeof(cases) / sizeof(cases[0]), argc, argv);
}
