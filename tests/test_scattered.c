/* SPDX-License-Identifier: MIT */
/*
 * Every other page of a block on its way: each moves by itself, several in one go. What the program
 * does between two of them is forced at the hook point there.
 */
#include "race.h"

#include "ctx.h"
#include "event.h"
#include "uffd.h"

#include <errno.h>
#include <sched.h>
#include <sys/mman.h>

#ifndef MREMAP_DONTUNMAP
#define MREMAP_DONTUNMAP 4
#endif

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
static void between(struct env *e, struct act mover, struct deed *c, void (*fn)(void *), void *arg)
{
	struct race r;

	race_start(&r, HOOK_TAKEN, act_scattered, mover);
	actor_start(&c->actor, fn, arg);
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
	between(e, mover, &c, fn, &c);
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

/* ---- what is taken while mappings change -------------------------------------------- */

/* A deed of several calls: the books hear of one only when the next has begun, or all are over. */
struct deeds {
	struct deed deed;
	struct env *env;
	void (*fn)(struct deeds *d);
	char *away;
	atomic_bool over;
};

static void act_deeds(void *arg)
{
	struct deeds *d = arg;

	d->fn(d);
	atomic_store(&d->over, true);
}

static void await_next_call(void *priv, enum hook_point point, uintptr_t addr)
{
	struct deeds *d = priv;

	(void)point;
	(void)addr;
	while (!atomic_load(&d->over) && !event_is_changing(d->env->ctx))
		sched_yield();
}

static void move_page(struct deeds *d, char *from, char *to, int flags)
{
	d->deed.ret |= mremap(from, PAGE, PAGE, MREMAP_MAYMOVE | MREMAP_FIXED | flags, to) != to;
}

/* Pages leave while all this is done. */
static void beside_deeds(struct env *e, char *p, struct ref_device *ref, struct deeds *d)
{
	struct act mover = { .env = e, .ref = ref, .p = p, .npages = RACE_PAGES };

	d->env = e;
	d->away = env_map(e, PAGE);
	hook_set(HOOK_EVENT, await_next_call, d);
	between(e, mover, &d->deed, act_deeds, d);
	hook_set(HOOK_EVENT, NULL, NULL);
}

static void arrive_and_move_on(struct deeds *d)
{
	move_page(d, d->deed.from, d->deed.to, 0);
	move_page(d, d->deed.to, d->away, MREMAP_DONTUNMAP);
}

/* Another page, with seed 2, arrives where CHANGED is being taken, and this is done with it. */
static struct deeds arriving(struct env *e, void (*fn)(struct deeds *d))
{
	struct ref_device *ref = env_device(e, FRAMES);
	char *p = scattered(e, ref, false), *next = env_attach(e, PAGE);
	struct deeds d = { .deed = { .from = next, .to = p + CHANGED * PAGE }, .fn = fn };

	fill(next, 1, 2);
	assert_int_equal(ref_map(ref, (uintptr_t)next, PAGE, true), 0);
	beside_deeds(e, p, ref, &d);
	env_forget(e, next, PAGE);
	assert_filled_part(p, 0, CHANGED, 1);
	assert_filled_part(p, CHANGED + 1, RACE_PAGES - CHANGED - 1, 1);
	return d;
}

static void page_that_arrives_where_one_is_taken_and_moves_on_keeps_its_contents(struct env *e)
{
	struct deeds d = arriving(e, arrive_and_move_on);

	assert_filled(d.away, 1, 2);
	assert_zero(d.deed.to, 1);
}

static void arrive_and_be_dropped(struct deeds *d)
{
	move_page(d, d->deed.from, d->deed.to, 0);
	d->deed.ret |= madvise(d->deed.to, PAGE, MADV_DONTNEED);
}

static void page_that_arrives_where_one_is_taken_and_is_dropped_is_empty(struct env *e)
{
	struct deeds d = arriving(e, arrive_and_be_dropped);

	assert_zero(d.deed.to, 1);
}

static void go_and_come_back_and_be_dropped(struct deeds *d)
{
	move_page(d, d->deed.to, d->away, MREMAP_DONTUNMAP);
	move_page(d, d->away, d->deed.to, 0);
	d->deed.ret |= madvise(d->deed.to, PAGE, MADV_DONTNEED);
}

/* The first page, which is taken already. */
static void page_that_is_taken_comes_back_and_is_dropped_is_empty(struct env *e)
{
	struct ref_device *ref = env_device(e, FRAMES);
	char *p = scattered(e, ref, false);
	struct deeds d = { .deed = { .to = p }, .fn = go_and_come_back_and_be_dropped };

	beside_deeds(e, p, ref, &d);
	env_forget(e, d.away, PAGE);
	assert_zero(p, 1);
	assert_filled_part(p, 1, RACE_PAGES - 1, 1);
}

static void arrive(struct deeds *d)
{
	move_page(d, d->deed.from, d->deed.to, 0);
}

/* What MREMAP_DONTUNMAP leaves is not managed, but is filled as if it were. */
static void page_that_is_not_managed_and_arrives_where_one_is_taken_stays(struct env *e)
{
	struct ref_device *ref = env_device(e, FRAMES);
	char *p = scattered(e, ref, false), *next = env_attach(e, PAGE), *gone = env_map(e, PAGE);
	struct deeds d = { .deed = { .from = next, .to = p + CHANGED * PAGE }, .fn = arrive };

	assert_int_equal(ref_map(ref, (uintptr_t)next, PAGE, true), 0);
	assert_ptr_equal(mremap(next, PAGE, PAGE, MREMAP_MAYMOVE | MREMAP_FIXED | MREMAP_DONTUNMAP,
				gone),
			 gone);
	fill(next, 1, 2);
	beside_deeds(e, p, ref, &d);
	env_forget(e, next, PAGE);
	assert_filled(d.deed.to, 1, 2);
	assert_filled_part(p, 0, CHANGED, 1);
	assert_filled_part(p, CHANGED + 1, RACE_PAGES - CHANGED - 1, 1);
}

/* No device has used it: the library hears by another descriptor that it moves. */
static void hinted_page_that_arrives_where_one_is_taken_stays(struct env *e)
{
	struct ref_device *ref = env_device(e, FRAMES);
	char *p = scattered(e, ref, false), *next = env_attach(e, PAGE);
	struct deeds d = { .deed = { .from = next, .to = p + CHANGED * PAGE }, .fn = arrive };
	struct umm_span span = { (uintptr_t)next, PAGE };
	struct umm_advice advice = { .size = sizeof(advice),
				     .spans = &span,
				     .nspans = 1,
				     .hint = UMM_HINT_LATENCY_CRITICAL };

	fill(next, 1, 2);
	assert_int_equal(umm_advise(e->ctx, &advice), 0);
	beside_deeds(e, p, ref, &d);
	env_forget(e, next, PAGE);
	assert_filled(d.deed.to, 1, 2);
	assert_filled_part(p, 0, CHANGED, 1);
	assert_filled_part(p, CHANGED + 1, RACE_PAGES - CHANGED - 1, 1);
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
	TEST(ALL, page_that_arrives_where_one_is_taken_and_moves_on_keeps_its_contents),
	TEST(ALL, page_that_arrives_where_one_is_taken_and_is_dropped_is_empty),
	TEST(ALL, page_that_is_taken_comes_back_and_is_dropped_is_empty),
	TEST(ALL, page_that_is_not_managed_and_arrives_where_one_is_taken_stays),
	TEST(ALL, hinted_page_that_arrives_where_one_is_taken_stays),
	TEST(ALL, scattered_pages_of_several_mappings_move),
};

int main(int argc, char **argv)
{
	hook_init();
	return harness_main("test_scattered", cases, sizeof(cases) / sizeof(cases[0]), argc, argv);
}
