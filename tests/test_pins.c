/* SPDX-License-Identifier: MIT */
/*
 * Pins: pages that stay where they are while somebody holds them, and go again afterwards.
 */
#include "harness.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>

#include "hook.h"

#define BLOCK_PAGES UMM_BLOCK_PAGES
#define PAGES	    16

static char *page_of(char *p, size_t i)
{
	return p + i * PAGE;
}

static struct umm_pin *pin(struct env *e, char *p, size_t npages, uint64_t flags)
{
	struct umm_pin *pin = NULL;

	assert_int_equal(umm_pin(e->ctx, (uintptr_t)p, npages, flags, &pin), 0);
	assert_non_null(pin);
	return pin;
}

static void pinned_pages_do_not_migrate(struct env *e)
{
	struct ref_device *ref = env_device(e, 64);
	char *p = env_attach(e, PAGES * PAGE);
	struct umm_pin *held;

	fill(p, PAGES, 1);
	held = pin(e, page_of(p, 4), 8, 0);
	env_mark(e);
	to_device(e, ref, p, PAGES, PAGES - 8);
	assert_delta(e, UMM_COUNT_BUSY, 8);
	assert_state(e, page_of(p, 4), 8, UMM_PAGE_SYSTEM);
	assert_int_equal(migrate(e, ref, page_of(p, 4), 8, UMM_MIGRATE_DUPLICATE), 0);
	assert_state(e, page_of(p, 4), 8, UMM_PAGE_SYSTEM);
	umm_unpin(held);
	to_device(e, ref, p, PAGES, 8);
	assert_filled(p, PAGES, 1);
}

static void pinned_pages_do_not_become_exclusive(struct env *e)
{
	struct ref_device *ref = env_device(e, 64);
	char *p = env_attach(e, PAGES * PAGE);
	struct umm_pin *held;
	uint64_t old;

	fill(p, PAGES, 1);
	held = pin(e, page_of(p, 4), 8, UMM_PIN_WRITE);
	env_mark(e);
	assert_int_equal(ref_make_exclusive(ref, (uintptr_t)p, PAGES), PAGES - 8);
	assert_state(e, p, 4, UMM_PAGE_EXCLUSIVE);
	assert_state(e, page_of(p, 4), 8, UMM_PAGE_SYSTEM);
	assert_int_equal(ref_entry(ref, (uintptr_t)page_of(p, 4)), 0);
	assert_int_equal(ref_atomic_add(ref, (uintptr_t)page_of(p, 4), 1, &old), -EBUSY);
	umm_unpin(held);
	assert_int_equal(ref_make_exclusive(ref, (uintptr_t)p, PAGES), PAGES);
	assert_filled(p, PAGES, 1);
}

static void driver_collects_no_pinned_page(struct env *e)
{
	struct ref_device *ref = env_device(e, 64);
	char *p = env_attach(e, 2 * PAGE);
	uint64_t src[2], dst[2];
	struct umm_migrate m = {
		.size = sizeof(m),
		.flags = UMM_MIGRATE_SELECT_SYSTEM,
		.ctx = e->ctx,
		.start = (uintptr_t)p,
		.end = (uintptr_t)p + 2 * PAGE,
		.dst_mem = ref->mem,
		.src = src,
		.dst = dst,
	};
	struct umm_pin *held;

	fill(p, 2, 1);
	held = pin(e, p, 1, 0);
	assert_int_equal(umm_migrate_setup(&m), 0);
	assert_int_equal(m.cpages, 1);
	assert_int_equal(src[0], 0);
	umm_migrate_finalize(&m);
	m.end = m.start + PAGE;
	assert_int_equal(umm_migrate_setup(&m), -ENOENT);
	umm_unpin(held);
	assert_int_equal(umm_migrate_setup(&m), 0);
	umm_migrate_finalize(&m);
	assert_filled(p, 2, 1);
}

static void pin_brings_pages_home(struct env *e)
{
	struct ref_device *ref = env_device(e, 64);
	bool private = e->variant.type == UMM_DEVMEM_PRIVATE;
	char *p = env_attach(e, PAGES * PAGE);
	struct umm_pin *held;

	fill(p, 12, 1);
	to_device(e, ref, p, 4, 4);
	assert_int_equal(ref_make_exclusive(ref, (uintptr_t)page_of(p, 4), 4), 4);
	assert_int_equal(migrate(e, ref, page_of(p, 8), 4, UMM_MIGRATE_DUPLICATE), 4);
	held = pin(e, p, PAGES, UMM_PIN_WRITE);
	assert_state(e, p, 4, private ? UMM_PAGE_SYSTEM : UMM_PAGE_COHERENT);
	assert_state(e, page_of(p, 4), 12, UMM_PAGE_SYSTEM);
	assert_filled(p, 12, 1);
	assert_zero(page_of(p, 12), 4);
	umm_unpin(held);
}

static void reader_pins_duplicated_pages_as_they_are(struct env *e)
{
	struct ref_device *ref = env_device(e, 64);
	char *p = env_attach(e, 4 * PAGE);
	struct umm_pin *held;

	fill(p, 4, 1);
	assert_int_equal(migrate(e, ref, p, 4, UMM_MIGRATE_DUPLICATE), 4);
	held = pin(e, p, 4, 0);
	assert_state(e, p, 4, UMM_PAGE_DUPLICATED);
	to_device(e, ref, p, 4, 0);
	/* A store ends the duplication: the host page stays where it is. */
	fill(p, 4, 2);
	assert_state(e, p, 4, UMM_PAGE_SYSTEM);
	to_device(e, ref, p, 4, 0);
	umm_unpin(held);
	to_device(e, ref, p, 4, 4);
	assert_filled(p, 4, 2);
}

static void short_pin_holds_coherent_pages_in_place(struct env *e)
{
	struct ref_device *ref = env_device(e, 64);
	char *p = env_attach(e, PAGES * PAGE);
	struct umm_pin *held;

	fill(p, PAGES, 1);
	to_device(e, ref, p, PAGES, PAGES);
	held = pin(e, page_of(p, 4), 4, 0);
	env_mark(e);
	to_system(e, p, PAGES, PAGES - 4);
	assert_delta(e, UMM_COUNT_BUSY, 4);
	assert_state(e, page_of(p, 4), 4, UMM_PAGE_COHERENT);
	assert_int_equal(umm_devmem_evict(ref->mem, 64), -ENOSPC);
	assert_free_frames(ref, 60);
	assert_device_sees(ref, page_of(p, 5), 0, 1);
	umm_unpin(held);
	assert_int_equal(umm_devmem_evict(ref->mem, 64), 0);
	assert_filled(p, PAGES, 1);
}

static void longterm_pin_brings_coherent_pages_home(struct env *e)
{
	struct ref_device *ref = env_device(e, 64);
	char *p = env_attach(e, PAGES * PAGE);
	struct umm_pin *held, *second = NULL;

	fill(p, PAGES, 1);
	to_device(e, ref, p, PAGES, PAGES);
	held = pin(e, p, 4, 0);
	assert_int_equal(umm_pin(e->ctx, (uintptr_t)p, PAGES, UMM_PIN_LONGTERM, &second),
			 e->variant.type == UMM_DEVMEM_COHERENT ? -EBUSY : 0);
	umm_unpin(held);
	umm_unpin(second);
	held = pin(e, p, PAGES, UMM_PIN_LONGTERM);
	assert_state(e, p, PAGES, UMM_PAGE_SYSTEM);
	assert_free_frames(ref, 64);
	to_device(e, ref, p, PAGES, 0);
	umm_unpin(held);
	to_device(e, ref, p, PAGES, PAGES);
	assert_filled(p, PAGES, 1);
}

static void act_destroy(void *arg)
{
	struct ref_device *ref = arg;

	umm_device_destroy(ref->dev);
}

static void device_waits_for_pinned_coherent_pages(struct env *e)
{
	struct ref_device *ref = env_device(e, 64);
	char *p = env_attach(e, 2 * BLOCK);
	struct umm_pin *held;
	struct actor actor;

	fill(p, 2 * BLOCK_PAGES, 1);
	to_device(e, ref, p, 8, 8);
	to_device(e, ref, p + BLOCK, 8, 8);
	held = pin(e, page_of(p, 4), 1, 0);
	actor_start(&actor, act_destroy, ref);
	/* All but this one come home. */
	wait_until(count_state(e, p, 2 * BLOCK_PAGES, UMM_PAGE_SYSTEM) == 2 * BLOCK_PAGES - 1);
	assert_int_equal(state_of(e, page_of(p, 4)), UMM_PAGE_COHERENT);
	assert_false(atomic_load(&actor.done));
	umm_unpin(held);
	actor_join(&actor);
	assert_state(e, p, 2 * BLOCK_PAGES, UMM_PAGE_SYSTEM);
	assert_filled(p, 2 * BLOCK_PAGES, 1);
}

static void pins_nest(struct env *e)
{
	struct ref_device *ref = env_device(e, 64);
	char *p = env_attach(e, PAGES * PAGE);
	struct umm_pin *a, *b, *c;

	fill(p, PAGES, 1);
	a = pin(e, p, 8, 0);
	b = pin(e, page_of(p, 4), 8, UMM_PIN_WRITE);
	c = pin(e, p, PAGES, UMM_PIN_LONGTERM);
	to_device(e, ref, p, PAGES, 0);
	umm_unpin(b);
	umm_unpin(c);
	to_device(e, ref, p, PAGES, 8);
	assert_state(e, p, 8, UMM_PAGE_SYSTEM);
	umm_unpin(a);
	to_device(e, ref, p, PAGES, 8);
	assert_filled(p, PAGES, 1);
}

static void pin_spans_blocks(struct env *e)
{
	struct ref_device *ref = env_device(e, 4 * BLOCK_PAGES);
	char *p = env_alloc(e, 4 * BLOCK);
	struct umm_pin *held = pin(e, page_of(p, 100), 3 * BLOCK_PAGES, 0);

	to_device(e, ref, p, 4 * BLOCK_PAGES, BLOCK_PAGES);
	assert_state(e, page_of(p, 100), 3 * BLOCK_PAGES, UMM_PAGE_SYSTEM);
	umm_unpin(held);
	to_device(e, ref, p, 4 * BLOCK_PAGES, 3 * BLOCK_PAGES);
}

/* ---- what the program does ----------------------------------------------------------- */

static void unmapping_forgets_the_pin(struct env *e)
{
	struct ref_device *ref = env_device(e, 64);
	char *p = env_attach(e, PAGES * PAGE), *q = page_of(p, 8);
	struct umm_pin *old, *held;

	fill(p, PAGES, 1);
	old = pin(e, p, PAGES, 0);
	assert_ptr_equal(mmap(q, 8 * PAGE, PROT_READ | PROT_WRITE,
			      MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0),
			 q);
	assert_int_equal(umm_attach(e->ctx, q, 8 * PAGE), 0);
	fill(p, PAGES, 1);
	to_device(e, ref, p, PAGES, 8);
	held = pin(e, q, 8, UMM_PIN_LONGTERM);
	/* It holds what it held; others' pins of what came later are none of its business. */
	to_device(e, ref, p, PAGES, 0);
	umm_unpin(old);
	to_device(e, ref, p, PAGES, 8);
	assert_state(e, q, 8, UMM_PAGE_SYSTEM);
	umm_unpin(held);
	to_device(e, ref, p, PAGES, 8);
	assert_filled(p, PAGES, 1);
}

/* Neither the mapping at its new address is pinned, nor what is mapped at the old one later. */
static void moving_forgets_the_pin(struct env *e)
{
	struct ref_device *ref = env_device(e, 64);
	char *p = env_attach(e, PAGES * PAGE), *q = env_map(e, 8 * PAGE), *old = page_of(p, 8);
	struct umm_pin *held;

	fill(p, PAGES, 1);
	held = pin(e, p, PAGES, 0);
	assert_ptr_equal(mremap(old, 8 * PAGE, 8 * PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, q), q);
	/* Nobody is to lose what he was given there meanwhile: the library's books, for one. */
	if (mmap(old, 8 * PAGE, PROT_READ | PROT_WRITE,
		 MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0) != old) {
		env_forget(e, old, 8 * PAGE);
		env_skip("somebody else has mapped the addresses that the pages left");
	}
	to_device(e, ref, q, 8, 8);
	assert_int_equal(umm_attach(e->ctx, old, 8 * PAGE), 0);
	fill(old, 8, 2);
	to_device(e, ref, p, PAGES, 8);
	assert_state(e, p, 8, UMM_PAGE_SYSTEM);
	umm_unpin(held);
	to_device(e, ref, p, 8, 8);
	assert_filled_part(p, 0, 8, 1);
	assert_filled(old, 8, 2);
}

/* Where the work after an event stops. */
static struct {
	struct stop stop;
	uintptr_t low, high;
} hook;

static void hook_here(void *priv, enum hook_point point, uintptr_t addr)
{
	(void)priv;
	(void)point;
	if (addr >= hook.low && addr < hook.high)
		stop_here(&hook.stop);
}

static void hook_go(void)
{
	hook_set(HOOK_WORK, NULL, NULL);
	stop_go(&hook.stop);
}

/* A mapping moves to where pinned memory was, before that memory's frames are given back. */
static void page_that_moves_over_a_pinned_one_is_not_pinned(struct env *e)
{
	struct ref_device *ref = env_device(e, 64);
	char *p = env_attach(e, PAGES * PAGE), *q = env_attach(e, PAGES * PAGE);
	bool private = e->variant.type == UMM_DEVMEM_PRIVATE;
	struct umm_pin *held;

	fill(q, PAGES, 1);
	to_device(e, ref, p, PAGES, PAGES);
	to_device(e, ref, q, PAGES, PAGES);
	held = pin(e, p, PAGES, 0);
	stop_init(&hook.stop);
	hook.low = (uintptr_t)p;
	hook.high = (uintptr_t)p + PAGES * PAGE;
	harness_cleanup(hook_go);
	hook_set(HOOK_WORK, hook_here, NULL);
	assert_ptr_equal(mremap(q, PAGES * PAGE, PAGES * PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, p),
			 p);
	env_forget(e, q, PAGES * PAGE);
	hook_go();
	assert_filled(p, PAGES, 1);
	wait_until(count_state(e, p, PAGES, UMM_PAGE_MIGRATING) == 0);
	to_system(e, p, PAGES, private ? 0 : PAGES);
	to_device(e, ref, p, PAGES, PAGES);
	umm_unpin(held);
	assert_filled(p, PAGES, 1);
}

static void dropped_contents_leave_the_pin(struct env *e)
{
	struct ref_device *ref = env_device(e, 64);
	char *p = env_attach(e, PAGES * PAGE);
	struct umm_pin *held;

	fill(p, PAGES, 1);
	to_device(e, ref, p, PAGES, PAGES);
	held = pin(e, p, PAGES, 0);
	assert_int_equal(madvise(p, PAGES * PAGE, MADV_DONTNEED), 0);
	assert_zero(p, PAGES);
	to_device(e, ref, p, PAGES, 0);
	umm_unpin(held);
	to_device(e, ref, p, PAGES, PAGES);
	assert_zero(p, PAGES);
}

static void detach_and_free_do_not_mind(struct env *e)
{
	struct ref_device *ref = env_device(e, 64);
	char *p = env_attach(e, PAGES * PAGE), *q = env_alloc(e, PAGES * PAGE);
	struct umm_pin *a, *b;

	fill(p, PAGES, 1);
	fill(q, PAGES, 2);
	to_device(e, ref, p, PAGES, PAGES);
	to_device(e, ref, q, PAGES, PAGES);
	a = pin(e, p, PAGES, 0);
	b = pin(e, q, PAGES, 0);
	assert_int_equal(umm_detach(e->ctx, p), 0);
	assert_int_equal(umm_free(e->ctx, q), 0);
	assert_filled(p, PAGES, 1);
	assert_free_frames(ref, 64);
	umm_unpin(a);
	umm_unpin(b);
}

static void context_closes_with_pins(struct env *e)
{
	struct ref_device *ref = env_device(e, 64);
	char *p = env_attach(e, PAGES * PAGE);
	struct umm_pin *held;

	fill(p, PAGES, 1);
	to_device(e, ref, p, PAGES, PAGES);
	held = pin(e, p, PAGES, 0);
	env_close(e);
	assert_filled(p, PAGES, 1);
	umm_unpin(held);
	umm_unpin(held);
}

struct scene {
	char *p;
	struct umm_pin *pin;
};

static void child_has_pages_and_unpins(void *arg)
{
	struct scene *s = arg;

	for (size_t i = 0; i < PAGES; i++)
		child_check(filled_at(s->p, i, 1));
	fill(s->p, PAGES, 2);
	umm_unpin(s->pin);
	for (size_t i = 0; i < PAGES; i++)
		child_check(filled_at(s->p, i, 2));
}

static void child_has_ordinary_pages(struct env *e)
{
	struct ref_device *ref = env_device(e, 64);
	char *p = env_attach(e, PAGES * PAGE);
	struct scene s = { .p = p };

	fill(p, PAGES, 1);
	to_device(e, ref, p, PAGES, PAGES);
	s.pin = pin(e, p, PAGES, UMM_PIN_WRITE);
	assert_true(in_child(child_has_pages_and_unpins, &s));
	assert_filled(p, PAGES, 1);
	assert_state(e, p, PAGES,
		     e->variant.type == UMM_DEVMEM_PRIVATE ? UMM_PAGE_SYSTEM : UMM_PAGE_COHERENT);
	umm_unpin(s.pin);
	to_system(e, p, PAGES, e->variant.type == UMM_DEVMEM_PRIVATE ? 0 : PAGES);
	assert_filled(p, PAGES, 1);
}

/* ---- together, and refused ----------------------------------------------------------- */

struct worker {
	struct env *e;
	struct ref_device *ref;
	char *p;
	unsigned wrong;
};

static void act_pin(void *arg)
{
	struct worker *w = arg;
	struct umm_page_info info[PAGES], after[PAGES];
	struct umm_pin *held;

	for (unsigned turn = 0; turn < 100; turn++) {
		int ret = umm_pin(w->e->ctx, (uintptr_t)w->p, PAGES, turn & UMM_PIN_WRITE, &held);

		if (ret) {
			w->wrong += ret != -EBUSY;
			continue;
		}
		umm_query(w->e->ctx, (uintptr_t)w->p, PAGES, info);
		harness_yield();
		umm_query(w->e->ctx, (uintptr_t)w->p, PAGES, after);
		for (size_t i = 0; i < PAGES; i++) {
			w->wrong += info[i].state == UMM_PAGE_MIGRATING;
			w->wrong +=
				info[i].state != after[i].state || info[i].frame != after[i].frame;
		}
		umm_unpin(held);
	}
}

static void act_migrate(void *arg)
{
	struct worker *w = arg;
	uint64_t old;

	for (unsigned turn = 0; turn < 100; turn++) {
		migrate(w->e, w->ref, w->p, PAGES, 0);
		migrate(w->e, NULL, w->p, PAGES, 0);
		ref_atomic_add(w->ref, (uintptr_t)page_of(w->p, turn % PAGES), 0, &old);
	}
}

static void pinned_pages_stay_whatever_others_do(struct env *e)
{
	struct ref_device *ref = env_device(e, 64);
	char *p = env_attach(e, PAGES * PAGE);
	struct worker w = { e, ref, p, 0 }, x = w;
	struct actor pinner, mover;

	fill(p, PAGES, 1);
	actor_start(&pinner, act_pin, &w);
	actor_start(&mover, act_migrate, &x);
	actor_join(&pinner);
	actor_join(&mover);
	assert_int_equal(w.wrong, 0);
	assert_filled(p, PAGES, 1);
}

static void bad_pins_are_refused(struct env *e)
{
	struct ref_device *ref = env_device(e, 64);
	char *p = env_attach(e, PAGES * PAGE), *q = env_map(e, PAGES * PAGE);
	uintptr_t at = (uintptr_t)p;
	struct umm_pin *out = NULL;

	assert_int_equal(umm_pin(NULL, at, 1, 0, &out), -EINVAL);
	assert_int_equal(umm_pin(e->ctx, at + 1, 1, 0, &out), -EINVAL);
	assert_int_equal(umm_pin(e->ctx, at, 0, 0, &out), -EINVAL);
	assert_int_equal(umm_pin(e->ctx, at, 1, 4, &out), -EINVAL);
	assert_int_equal(umm_pin(e->ctx, at, 1, 0, NULL), -EINVAL);
	assert_int_equal(umm_pin(e->ctx, at, (size_t)1 << 47, 0, &out), -EINVAL);
	assert_int_equal(umm_pin(e->ctx, (uintptr_t)q, 1, 0, &out), -EFAULT);
	assert_int_equal(mprotect(page_of(p, 8), PAGE, PROT_READ), 0);
	assert_int_equal(umm_pin(e->ctx, at, PAGES, UMM_PIN_WRITE, &out), -EPERM);
	assert_int_equal(mprotect(page_of(p, 8), PAGE, PROT_NONE), 0);
	assert_int_equal(umm_pin(e->ctx, at, PAGES, 0, &out), -EFAULT);
	assert_int_equal(mprotect(page_of(p, 8), PAGE, PROT_READ | PROT_WRITE), 0);
	assert_null(out);
	umm_unpin(NULL);
	/* Nothing of the refused ones is left. */
	to_device(e, ref, p, PAGES, PAGES);
}

static const struct test_case cases[] = {
	TEST(ALL, pinned_pages_do_not_migrate),
	TEST(ALL, pinned_pages_do_not_become_exclusive),
	TEST(ALL, driver_collects_no_pinned_page),
	TEST(ALL, pin_brings_pages_home),
	TEST(PRIVATE, reader_pins_duplicated_pages_as_they_are),
	TEST(COHERENT, short_pin_holds_coherent_pages_in_place),
	TEST(ALL, longterm_pin_brings_coherent_pages_home),
	TEST(COHERENT, device_waits_for_pinned_coherent_pages),
	TEST(ALL, pins_nest),
	TEST(ALL, pin_spans_blocks),
	TEST(ALL, unmapping_forgets_the_pin),
	TEST(ALL, moving_forgets_the_pin),
	TEST(ALL, page_that_moves_over_a_pinned_one_is_not_pinned),
	TEST(ALL, dropped_contents_leave_the_pin),
	TEST(ALL, detach_and_free_do_not_mind),
	TEST(ALL, context_closes_with_pins),
	TEST(ALL, child_has_ordinary_pages),
	TEST(ALL, pinned_pages_stay_whatever_others_do),
	TEST(KERNEL, bad_pins_are_refused),
};

int main(int argc, char **argv)
{
	return harness_main("pins", cases, sizeof(cases) / sizeof(cases[0]), argc, argv);
}
