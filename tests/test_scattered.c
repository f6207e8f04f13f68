/* SPDX-License-Identifier: MIT */
/*
 * Every other page of a block on its way: each moves by itself, several in one go. What the program
 * does between two of them is forced at the hook point there.
 */
#include "race.h"

#include "ctx.h"
#include "uffd.h"

#include <errno.h>
#include <sched.h>
#include <sys/mman.h>

#define SCATTERED 8 /* pages 0, 2, 4 ... of RACE_PAGES */
#define FRAMES	  64
#define CHANGED	  4 /* the page that something happens to */

/* Pages with the fill of seed 1, every other of which is to go to the device, or home. */
static char *scattered(struct env *e, struct ref_device *ref, bool home)
{
	char *p = env_attach(e, RACE_PAGES * PAGE);

	if (!(e->ctx->features & UMM_KERNEL_MOVE))
		env_skip("without UFFDIO_MOVE pages go with their mapping");
	fill(p, RACE_PAGES, 1);
	if (home)
		to_device(e, ref, p, RACE_PAGES, RACE_PAGES);
	return p;
}

static void act_scattered(void *arg)
{
	struct act *a = arg;
	struct umm_span spans[SCATTERED];
	struct umm_migrate_request request = { .size = sizeof(request),
					       .spans = spans,
					       .nspans = SCATTERED,
					       .dst = a->ref ? a->ref->mem : NULL };

	for (size_t i = 0; i < SCATTERED; i++)
		spans[i] = (struct umm_span){ (uintptr_t)a->p + 2 * i * PAGE, PAGE };
	a->ret = umm_migrate_spans(a->env->ctx, &request, NULL);
}

struct deed {
	struct actor actor;
	char *from, *to;
	long ret;
};

static void act_move_onto(void *arg)
{
	struct deed *c = arg;

	c->ret = mremap(c->from, PAGE, PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, c->to) != c->to;
}

static void act_replace(void *arg)
{
	struct deed *c = arg;

	c->ret = mmap(c->to, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED,
		      -1, 0) != c->to;
}

static void act_drop_one(void *arg)
{
	struct deed *c = arg;

	c->ret = madvise(c->to, PAGE, MADV_DONTNEED);
}

/* The first page is taken; then another thread does this, and the kernel has begun to tell. */
static void between(struct env *e, struct act mover, struct deed *c, void (*fn)(void *))
{
	struct race r;

	race_start(&r, HOOK_TAKEN, act_scattered, mover);
	actor_start(&c->actor, fn, c);
	while (!uffd_is_changing(e->ctx->uffd))
		sched_yield();
	race_go(&r, HOOK_TAKEN);
	actor_join(&c->actor);
	assert_int_equal(c->ret, 0);
	assert_int_equal(r.mover.ret, SCATTERED - 1);
}

/*
 * All but page CHANGED have moved, with what they held; there is what the program has put there,
 * which a device sees, too.
 */
static void changed(struct env *e, bool home, void (*fn)(void *), unsigned seed)
{
	struct ref_device *ref = env_device(e, FRAMES);
	char *p = scattered(e, ref, home), *next = env_attach(e, PAGE);
	struct act mover = { .env = e, .ref = home ? NULL : ref, .p = p, .npages = RACE_PAGES };
	struct deed c = { .from = next, .to = p + CHANGED * PAGE };

	fill(next, 1, seed);
	assert_int_equal(ref_map(ref, (uintptr_t)next, PAGE, true), 0);
	between(e, mover, &c, fn);
	assert_free_frames(ref, home ? FRAMES - RACE_PAGES + SCATTERED : FRAMES - SCATTERED + 1);
	if (fn == act_move_onto) {
		env_forget(e, next, PAGE);
		assert_filled(c.to, 1, seed);
		assert_device_sees(ref, c.to, 1, seed);
	} else {
		assert_zero(c.to, 1);
	}
	assert_filled_part(p, 0, CHANGED, 1);
	assert_filled_part(p, CHANGED + 1, RACE_PAGES - CHANGED - 1, 1);
	assert_device_sees(ref, p, CHANGED, 1);
}

static void page_that_arrives_where_the_next_is_to_leave_stays(struct env *e)
{
	changed(e, false, act_move_onto, 2);
}

static void page_that_arrives_where_the_next_is_to_come_home_stays(struct env *e)
{
	changed(e, true, act_move_onto, 2);
}

static void page_replaced_before_its_turn_to_leave_is_gone(struct env *e)
{
	changed(e, false, act_replace, 2);
}

static void page_replaced_before_its_turn_to_come_home_is_gone(struct env *e)
{
	changed(e, true, act_replace, 2);
}

static void page_dropped_before_its_turn_to_leave_is_empty(struct env *e)
{
	changed(e, false, act_drop_one, 2);
}

static void page_dropped_before_its_turn_to_come_home_is_empty(struct env *e)
{
	changed(e, true, act_drop_one, 2);
}

/* Every other page of three mappings, the second of which refuses moves, goes and comes home. */
static void scattered_pages_of_several_mappings_move(struct env *e)
{
	struct ref_device *ref = env_device(e, FRAMES);
	char *p = env_attach(e, RACE_PAGES * PAGE);
	struct act act = { .env = e, .ref = ref, .p = p };

	fill(p, RACE_PAGES, 1);
	assert_int_equal(mprotect(p + 5 * PAGE, 4 * PAGE, PROT_READ), 0);
	act_scattered(&act);
	assert_int_equal(act.ret, SCATTERED);
	for (size_t i = 0; i < RACE_PAGES; i += 2)
		assert_state(e, p + i * PAGE, 1, env_home(e));
	act.ref = NULL;
	act_scattered(&act);
	assert_int_equal(act.ret, SCATTERED);
	assert_state(e, p, RACE_PAGES, UMM_PAGE_SYSTEM);
	assert_free_frames(ref, FRAMES);
	assert_filled(p, RACE_PAGES, 1);
}

static const struct test_case cases[] = {
	TEST(ALL, page_that_arrives_where_the_next_is_to_leave_stays),
	TEST(COHERENT, page_that_arrives_where_the_next_is_to_come_home_stays),
	TEST(ALL, page_replaced_before_its_turn_to_leave_is_gone),
	TEST(COHERENT, page_replaced_before_its_turn_to_come_home_is_gone),
	TEST(ALL, page_dropped_before_its_turn_to_leave_is_empty),
	TEST(COHERENT, page_dropped_before_its_turn_to_come_home_is_empty),
	TEST(ALL, scattered_pages_of_several_mappings_move),
};

int main(int argc, char **argv)
{
	hook_init();
	return harness_main("test_scattered", cases, sizeof(cases) / sizeof(cases[0]), argc, argv);
}
