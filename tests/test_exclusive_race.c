/* SPDX-License-Identifier: MIT */
/*
 * Exclusive access beside everything else: while pages become exclusive, or come home, the
 * program does something to them. Orders are forced at hook points.
 */
#include "race.h"

#include <sys/mman.h>

#include "ctx.h"
#include "exclusive_pages.h"
#include "uffd.h"

struct race_order {
	bool home;
	enum hook_point point;
};

static const struct race_order races[] = {
	{ false, HOOK_COLLECTED }, { false, HOOK_COPIED }, { false, HOOK_COMMITTED },
	{ true, HOOK_COLLECTED },  { true, HOOK_COPIED },  { true, HOOK_COMMITTED },
};

#define for_each_race(k) for (size_t k = 0; k < sizeof(races) / sizeof(races[0]); k++)

/* The pages become exclusive, or come home; that stops at the point. */
static void exclusive_race(struct env *e, struct race *r, struct ref_device *ref,
			   const struct race_order *order)
{
	struct act mover = { .env = e, .npages = RACE_PAGES };

	if (order->home) {
		mover.p = exclusive_pages(e, ref, RACE_PAGES);
		race_start(r, order->point, act_migrate, mover);
	} else {
		mover.ref = ref;
		mover.p = env_attach(e, RACE_PAGES * PAGE);
		fill(mover.p, RACE_PAGES, 1);
		race_start(r, order->point, act_exclusive, mover);
	}
	r->ref = ref;
}

static void touched_meanwhile(struct env *e)
{
	struct ref_device *ref = env_device(e, 64);

	for_each_race(k)
	{
		struct race r;
		struct act reader;
		struct actor actor;

		exclusive_race(e, &r, ref, &races[k]);
		reader = (struct act){ .p = r.p, .npages = RACE_PAGES };
		actor_start(&actor, act_read, &reader);
		if (races[k].point == HOOK_COPIED)
			assert_true(actor_blocks(&actor));
		race_go(&r, races[k].point);
		actor_join(&actor);
		assert_false(reader.wrong);
		assert_filled(r.p, RACE_PAGES, 1);
		assert_int_equal(ref_make_exclusive(r.ref, (uintptr_t)r.p, RACE_PAGES), RACE_PAGES);
		assert_filled(r.p, RACE_PAGES, 1);
	}
	env_device_gone(e, ref);
}

static void dropped_meanwhile(struct env *e)
{
	struct ref_device *ref = env_device(e, 64);

	for_each_race(k)
	{
		struct race r;

		exclusive_race(e, &r, ref, &races[k]);
		assert_int_equal(madvise(r.p + 4 * PAGE, 8 * PAGE, MADV_DONTNEED), 0);
		race_go(&r, races[k].point);
		assert_zero(r.p + 4 * PAGE, 8);
		assert_filled_part(r.p, 0, 4, 1);
		assert_filled_part(r.p, 12, 4, 1);
		fill(r.p, RACE_PAGES, 2);
		assert_int_equal(ref_make_exclusive(r.ref, (uintptr_t)r.p, RACE_PAGES), RACE_PAGES);
		assert_filled(r.p, RACE_PAGES, 2);
	}
	env_device_gone(e, ref);
}

static void unmapped_meanwhile(struct env *e)
{
	struct ref_device *ref = env_device(e, 64);

	for_each_race(k)
	{
		struct race r;

		exclusive_race(e, &r, ref, &races[k]);
		assert_ptr_equal(mmap(r.p + 8 * PAGE, 8 * PAGE, PROT_NONE,
				      MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0),
				 r.p + 8 * PAGE);
		race_go(&r, races[k].point);
		wait_until(count_state(e, r.p + 8 * PAGE, 8, UMM_PAGE_UNMANAGED) == 8);
		assert_filled(r.p, 8, 1);
		assert_int_equal(ref_make_exclusive(r.ref, (uintptr_t)r.p, 8), 8);
		assert_filled(r.p, 8, 1);
	}
}

static void remapped_meanwhile(struct env *e)
{
	struct ref_device *ref = env_device(e, 64);

	for_each_race(k)
	{
		char *q = env_map(e, 2 * RACE_PAGES * PAGE) + 3 * PAGE;
		struct race r;

		exclusive_race(e, &r, ref, &races[k]);
		assert_ptr_equal(mremap(r.p, RACE_PAGES * PAGE, RACE_PAGES * PAGE,
					MREMAP_MAYMOVE | MREMAP_FIXED, q),
				 q);
		env_forget(e, r.p, RACE_PAGES * PAGE);
		race_go(&r, races[k].point);
		assert_filled(q, RACE_PAGES, 1);
		assert_int_equal(ref_make_exclusive(r.ref, (uintptr_t)q, RACE_PAGES), RACE_PAGES);
		assert_filled(q, RACE_PAGES, 1);
	}
}

static void forked_meanwhile(struct env *e)
{
	struct ref_device *ref = env_device(e, 64);

	for_each_race(k)
	{
		struct race r;
		struct act forker;
		struct actor actor;

		if (races[k].point == HOOK_COMMITTED)
			continue;
		exclusive_race(e, &r, ref, &races[k]);
		forker = (struct act){ .env = e, .p = r.p, .npages = RACE_PAGES };
		actor_start(&actor, act_fork, &forker);
		assert_true(actor_blocks(&actor));
		race_go(&r, races[k].point);
		actor_join(&actor);
		assert_false(forker.wrong);
		assert_filled(r.p, RACE_PAGES, 1);
	}
	env_device_gone(e, ref);
}

static void taken_by_another_device_meanwhile(struct env *e)
{
	struct ref_device *ref = env_device(e, 64), *b = env_device(e, 64);

	for_each_race(k)
	{
		struct race r;
		struct act taker;
		struct actor actor;

		exclusive_race(e, &r, ref, &races[k]);
		taker = (struct act){ .ref = b, .p = r.p, .npages = RACE_PAGES };
		actor_start(&actor, act_exclusive, &taker);
		if (races[k].point != HOOK_COMMITTED)
			assert_true(actor_blocks(&actor));
		race_go(&r, races[k].point);
		actor_join(&actor);
		assert_true(r.mover.ret >= 0 && taker.ret >= 0);
		assert_int_equal(ref_make_exclusive(b, (uintptr_t)r.p, RACE_PAGES), RACE_PAGES);
		assert_exclusive(e, b, r.p, RACE_PAGES);
		assert_null(place_of(r.ref, r.p));
		assert_filled(r.p, RACE_PAGES, 1);
	}
	env_device_gone(e, ref);
}

/* The old address stays mapped and is dropped before the places are carried over. */
static void old_address_is_dropped_before_pages_follow(struct env *e)
{
	struct ref_device *ref = env_device(e, 64);
	char *q = env_map(e, RACE_PAGES * PAGE), *p = exclusive_pages(e, ref, RACE_PAGES);

	hook_arm(HOOK_WORK, p, RACE_PAGES);
	assert_ptr_equal(mremap(p, RACE_PAGES * PAGE, RACE_PAGES * PAGE,
				MREMAP_MAYMOVE | MREMAP_FIXED | MREMAP_DONTUNMAP, q),
			 q);
	assert_true(hook_stopped());
	assert_int_equal(madvise(p, RACE_PAGES * PAGE, MADV_DONTNEED), 0);
	hook_go(HOOK_WORK);
	assert_filled(q, RACE_PAGES, 1);
	assert_zero(p, RACE_PAGES);
}

static void device_destroyed_meanwhile(struct env *e)
{
	struct ref_device *ref = env_device(e, 64);
	struct race r;

	exclusive_race(e, &r, ref, &(struct race_order){ true, HOOK_COPIED });
	hook_go(HOOK_COPIED);
	env_device_gone(e, r.ref);
	actor_join(&r.mover_actor);
	assert_state(e, r.p, RACE_PAGES, UMM_PAGE_SYSTEM);
	assert_filled(r.p, RACE_PAGES, 1);
}

/* ---- the device itself -------------------------------------------------------------- */

static void device_forgets_what_it_takes(struct env *e)
{
	struct ref_device *ref = env_device(e, 64);
	struct act mover = { .ref = ref, .npages = RACE_PAGES };
	struct race r;

	mover.p = env_attach(e, RACE_PAGES * PAGE);
	fill(mover.p, RACE_PAGES, 1);
	assert_int_equal(ref_map(ref, (uintptr_t)mover.p, RACE_PAGES * PAGE, true), 0);
	assert_int_equal(UMM_ENTRY_ADDR(ref_entry(ref, (uintptr_t)mover.p)), mover.p);
	race_start(&r, HOOK_COLLECTED, act_exclusive, mover);
	for (size_t i = 0; i < RACE_PAGES; i++)
		assert_int_equal(ref_entry(ref, (uintptr_t)r.p + i * PAGE), 0);
	race_go(&r, HOOK_COLLECTED);
	assert_int_equal(r.mover.ret, RACE_PAGES);
	assert_exclusive(e, ref, r.p, RACE_PAGES);
}

/*
 * It looks up where the pages are after it has forgotten that and before it has them, and uses
 * that after it has got them: a touch by the CPU, which takes them back.
 */
static void device_uses_in_place_what_it_takes(struct env *e)
{
	struct ref_device *ref = env_device(e, 64);
	struct act mover = { .ref = ref, .npages = RACE_PAGES };
	struct race r;

	ref_policy_set(ref, REF_IN_PLACE);
	mover.p = env_attach(e, RACE_PAGES * PAGE);
	fill(mover.p, RACE_PAGES, 1);
	race_start(&r, HOOK_CHOSEN, act_exclusive, mover);
	assert_int_equal(ref_map(ref, (uintptr_t)r.p, RACE_PAGES * PAGE, true), 0);
	hook_go_to(HOOK_CHOSEN, HOOK_COMMITTED);
	assert_true(hook_stopped());
	assert_state(e, r.p, RACE_PAGES, UMM_PAGE_EXCLUSIVE);
	assert_int_equal(UMM_ENTRY_ADDR(ref_entry(ref, (uintptr_t)r.p)), r.p);
	assert_device_sees(ref, r.p, RACE_PAGES, 1);
	assert_state(e, r.p, 1, UMM_PAGE_SYSTEM);
	assert_true(ref_counts(ref).events[UMM_EVENT_EXCLUSIVE] >= 1);
	race_go(&r, HOOK_COMMITTED);
	assert_int_equal(r.mover.ret, RACE_PAGES);
	assert_exclusive(e, ref, r.p, RACE_PAGES);
	assert_filled(r.p, RACE_PAGES, 1);
}

/* A place, which is filled between a touch and the server's answer to it. */
static struct filled {
	struct umm_ctx *ctx;
	const char *place;
} filled;

static void fill_place(void *priv, enum hook_point point, uintptr_t addr)
{
	(void)priv;
	(void)point;
	if (addr == (uintptr_t)filled.place)
		uffd_zeropage(filled.ctx->staging.uffd, addr, PAGE, false, NULL);
}

/* By whatever else puts a page there: the thread that touched it goes on. */
static void place_that_is_filled_while_it_is_touched(struct env *e)
{
	struct ref_device *ref = env_device(e, 64);
	char *p = exclusive_pages(e, ref, 1);

	filled = (struct filled){ e->ctx, place_of(ref, p) };
	if (!(e->ctx->features & UMM_KERNEL_MOVE))
		env_skip("without UFFDIO_MOVE places are plain memory");
	to_system(e, p, 1, 1);
	hook_set(HOOK_FAULT_READ, fill_place, NULL);
	assert_int_equal(*(volatile const char *)filled.place, 0);
	hook_set(HOOK_FAULT_READ, NULL, NULL);
	assert_filled(p, 1, 1);
}

static const struct test_case cases[] = {
	TEST(ALL, touched_meanwhile),
	TEST(ALL, dropped_meanwhile),
	TEST(ALL, unmapped_meanwhile),
	TEST(ALL, remapped_meanwhile),
	TEST(ALL, forked_meanwhile),
	TEST(ALL, taken_by_another_device_meanwhile),
	TEST(ALL, old_address_is_dropped_before_pages_follow),
	TEST(ALL, device_destroyed_meanwhile),
	TEST(ALL, place_that_is_filled_while_it_is_touched),
	TEST(ALL, device_forgets_what_it_takes),
	TEST(ALL, device_uses_in_place_what_it_takes),
};

int main(int argc, char **argv)
{
	hook_init();
	return harness_main("exclusive_race", cases, sizeof(cases) / sizeof(cases[0]), argc, argv);
}
