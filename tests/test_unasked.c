/* SPDX-License-Identifier: MIT */
/*
 * Pages beside others in whose notifier's callback one would have to sleep. What nobody has asked
 * for leaves those out: what is prefetched on faults, what comes with a fault, requests with
 * UMM_MIGRATE_AHEAD. What was asked for is waited for, and holds nothing else in flight meanwhile:
 * the thread that the callback waits for may use all but the pages which that is about.
 */
#include "harness.h"
#include "hinted.h"
#include "hooked.h"

#include <errno.h>
#include <string.h>
#include <time.h>

#define NPAGES 300
#define FIRST  100 /* pages of the guard */
#define HELD   100
#define UNIT   64

/* So long a callback sleeps where nobody lets it go, which is a failure. */
#define SLEEP_S 8

/* Who has pages, and announcements of them wait, like the holder of a window. */
struct guard {
	pthread_mutex_t lock;
	pthread_cond_t let;
	bool held;
	atomic_uint refused; /* calls that would have had to sleep, */
	atomic_uint waited;  /* and that did; */
	atomic_bool late;    /* one of them too long */
	struct umm_notifier *notifier;
};

static struct guard guards[2] = {
	{ .lock = PTHREAD_MUTEX_INITIALIZER, .let = PTHREAD_COND_INITIALIZER },
	{ .lock = PTHREAD_MUTEX_INITIALIZER, .let = PTHREAD_COND_INITIALIZER },
};

static void sleep_locked(struct guard *guard)
{
	struct timespec until;

	clock_gettime(CLOCK_REALTIME, &until);
	until.tv_sec += SLEEP_S;
	while (guard->held && !guard->late)
		if (pthread_cond_timedwait(&guard->let, &guard->lock, &until))
			guard->late = guard->held;
}

static int guard_hears(void *priv, const struct umm_notifier_range *range)
{
	struct guard *guard = priv;
	int ret = 0;

	pthread_mutex_lock(&guard->lock);
	if (guard->held && !range->blockable) {
		guard->refused++;
		ret = -EAGAIN;
	} else if (guard->held) {
		guard->waited++;
		sleep_locked(guard);
	}
	pthread_mutex_unlock(&guard->lock);
	return ret;
}

static struct guard *hold_pages(struct env *e, unsigned which, char *addr, size_t npages)
{
	static const struct umm_notifier_ops ops = { .size = sizeof(ops),
						     .invalidate = guard_hears };
	struct umm_span span = { (uintptr_t)addr, npages * PAGE };
	struct guard *guard = &guards[which];

	guard->refused = guard->waited = 0;
	guard->late = false;
	guard->held = true;
	assert_int_equal(umm_notifier_insert(e->ctx, &span, &ops, guard, &guard->notifier), 0);
	return guard;
}

static void let_go(struct guard *guard)
{
	pthread_mutex_lock(&guard->lock);
	guard->held = false;
	pthread_cond_broadcast(&guard->let);
	pthread_mutex_unlock(&guard->lock);
}

static void let_all_go(void)
{
	let_go(&guards[0]);
	let_go(&guards[1]);
	hook_go(HOOK_READAHEAD);
}

/* Pages on a device, whose neighbours come home as this says when a CPU misses them. */
static char *pages_away(struct env *e, size_t npages, enum umm_readahead readahead)
{
	struct ref_device *ref = env_device(e, (uint32_t)npages);
	char *p = env_alloc_small(e, npages * PAGE);

	fill(p, npages, 1);
	to_device(e, ref, p, npages, (long)npages);
	ADVISE(e, p, npages, .hint = UMM_HINT_READAHEAD, .readahead = readahead);
	env_mark(e);
	return p;
}

static void touch_pages(const char *p, size_t first, size_t last)
{
	for (size_t i = first; i < last; i++)
		assert_int_equal(touch_read(p + i * PAGE), 0);
}

static void assert_nobody_waited(const struct guard *guard)
{
	assert_int_equal(guard->waited, 0);
	assert_true(guard->refused > 0);
}

/* A thread that prefetches gets to the guard before the walk does. */
static void a_walk_goes_on_beside_held_pages(struct env *e)
{
	char *p = pages_away(e, NPAGES, UMM_READAHEAD_STREAM);
	struct guard *guard = hold_pages(e, 0, p + FIRST * PAGE, HELD);

	touch_pages(p, 0, FIRST - 5);
	wait_until(guard->refused + guard->waited > 0);
	touch_pages(p, FIRST - 5, FIRST);
	for (size_t i = NPAGES; i-- > FIRST + HELD;)
		touch_pages(p, i, i + 1);
	assert_nobody_waited(guard);
	assert_state(e, p + FIRST * PAGE, HELD, UMM_PAGE_DEVICE);
	let_go(guard);
	assert_filled(p, NPAGES, 1);
}

/* The first of these pages from which on n may be a unit, or a subtree. */
static size_t aligned_page(const char *p, size_t n)
{
	return (n - (uintptr_t)p / PAGE % n) % n;
}

static void dense_faults_go_on_beside_held_pages(struct env *e)
{
	char *p = pages_away(e, 256, UMM_READAHEAD_DENSITY);
	size_t i = aligned_page(p, 128);
	struct guard *guard = hold_pages(e, 0, p + (i + 96) * PAGE, 32);

	touch_pages(p, i, i + 80);
	wait_until(guard->refused + guard->waited > 0);
	touch_pages(p, i + 80, i + 96);
	assert_nobody_waited(guard);
	assert_state(e, p + (i + 96) * PAGE, 32, UMM_PAGE_DEVICE);
	let_go(guard);
	assert_filled(p, 256, 1);
}

/* The threads that prefetch are held: what faults bring along does as well, but for held pages. */
static void what_comes_with_a_fault_leaves_held_pages_out(struct env *e)
{
	char *p = pages_away(e, NPAGES, UMM_READAHEAD_STREAM);
	struct guard *guard = hold_pages(e, 0, p + FIRST * PAGE, HELD);

	hook_arm_all(HOOK_READAHEAD, p, NPAGES);
	touch_pages(p, 0, FIRST);
	assert_nobody_waited(guard);
	assert_delta(e, UMM_COUNT_TO_SYSTEM + UMM_CAUSE_CPU_FAULT, FIRST);
	assert_in_range(env_delta(e, UMM_COUNT_FAULT_DEVICE), 1, FIRST / 6);
	assert_delta(e, UMM_COUNT_FAULT_WAIT, 0);
	assert_state(e, p + FIRST * PAGE, HELD, UMM_PAGE_DEVICE);
	hook_go(HOOK_READAHEAD);
	let_go(guard);
	assert_filled(p, NPAGES, 1);
}

/* They are held, so the last block is to come whole, with the first page that is missed of it. */
static void a_whole_block_comes_but_for_held_pages(struct env *e)
{
	size_t known = 4 * UMM_BLOCK_PAGES;
	char *p = pages_away(e, known + UMM_BLOCK_PAGES, UMM_READAHEAD_STREAM);
	struct guard *guard = hold_pages(e, 0, p + (known + 500) * PAGE, 12);

	hook_arm_all(HOOK_READAHEAD, p, known + UMM_BLOCK_PAGES);
	touch_pages(p, 0, known + 1);
	wait_until(count_state(e, p + known * PAGE, 500, UMM_PAGE_SYSTEM) == 500);
	assert_state(e, p + (known + 500) * PAGE, 12, UMM_PAGE_DEVICE);
	touch_pages(p, known + 1, known + 500);
	assert_delta(e, UMM_COUNT_TO_SYSTEM + UMM_CAUSE_CPU_FAULT, known + 500);
	assert_nobody_waited(guard);
	hook_go(HOOK_READAHEAD);
	let_go(guard);
	assert_filled(p, known + UMM_BLOCK_PAGES, 1);
}

static void read_byte(void *arg)
{
	touch_read(arg);
}

/* It is one of a unit, whose other pages neither wait with it nor stay behind in the end. */
static void a_missed_page_waits_alone(struct env *e)
{
	char *p = pages_away(e, NPAGES, UMM_READAHEAD_OFF);
	size_t unit = aligned_page(p, UNIT), first = unit + 36;
	struct guard *guard = hold_pages(e, 0, p + first * PAGE, HELD);
	struct actor reader;

	ADVISE(e, p + unit * PAGE, UNIT, .hint = UMM_HINT_GRANULARITY, .order = 6);
	actor_start(&reader, read_byte, p + (first + 10) * PAGE);
	wait_until(guard->waited == 1);
	touch_pages(p, unit, first);
	assert_state(e, p + unit * PAGE, first - unit, UMM_PAGE_SYSTEM);
	assert_state(e, p + first * PAGE, 10, UMM_PAGE_DEVICE);
	assert_false(reader.done);
	assert_false(guard->late);
	let_go(guard);
	actor_join(&reader);
	wait_until(count_state(e, p + unit * PAGE, UNIT, UMM_PAGE_SYSTEM) == UNIT);
	assert_int_equal(guard->waited, 1);
	assert_filled(p, NPAGES, 1);
}

/* A device misses a page of a unit: it comes, and what is held of the unit stays. */
static void a_device_does_not_wait_for_the_rest_of_a_unit(struct env *e)
{
	struct ref_device *ref = env_device(e, NPAGES);
	char *p = env_alloc_small(e, NPAGES * PAGE);
	size_t unit = aligned_page(p, UNIT), first = unit + 36;
	struct guard *guard = hold_pages(e, 0, p + first * PAGE, HELD);

	fill(p, NPAGES, 1);
	ADVISE(e, p + unit * PAGE, UNIT, .hint = UMM_HINT_GRANULARITY, .order = 6);
	assert_int_equal(ref_read(ref, (uintptr_t)p + unit * PAGE, &(char){ 0 }, 1), 0);
	assert_nobody_waited(guard);
	assert_state(e, p + unit * PAGE, first - unit, UMM_PAGE_DEVICE);
	assert_state(e, p + first * PAGE, HELD, UMM_PAGE_SYSTEM);
	let_go(guard);
	assert_filled(p, NPAGES, 1);
}

struct request {
	struct env *env;
	char *p;
	size_t npages;
	long ret;
};

static void bring_home(void *arg)
{
	struct request *r = arg;

	r->ret = umm_migrate_to_system(r->env->ctx, r->p, r->npages * PAGE);
}

static void a_request_waits_with_held_pages_alone(struct env *e)
{
	char *p = pages_away(e, NPAGES, UMM_READAHEAD_OFF);
	struct guard *guard = hold_pages(e, 0, p + FIRST * PAGE, HELD);
	struct request r = { .env = e, .p = p, .npages = NPAGES };
	struct actor mover;

	actor_start(&mover, bring_home, &r);
	wait_until(guard->waited == 1);
	touch_pages(p, 0, FIRST);
	touch_pages(p, FIRST + HELD, NPAGES);
	assert_false(mover.done);
	assert_false(guard->late);
	let_go(guard);
	actor_join(&mover);
	assert_int_equal(r.ret, NPAGES);
	assert_int_equal(guard->waited, 1);
	assert_filled(p, NPAGES, 1);
}

/* And for one holder at a time: the other one lets go, and its pages are to be had. */
static void a_request_waits_for_one_holder_at_a_time(struct env *e)
{
	char *p = pages_away(e, NPAGES, UMM_READAHEAD_OFF);
	struct guard *a = hold_pages(e, 0, p + FIRST * PAGE, HELD / 2);
	struct guard *b = hold_pages(e, 1, p + (FIRST + HELD / 2) * PAGE, HELD / 2);
	struct request r = { .env = e, .p = p, .npages = NPAGES };
	struct actor mover;
	bool first;

	actor_start(&mover, bring_home, &r);
	wait_until(a->waited + b->waited == 1);
	first = a->waited;
	let_go(first ? b : a);
	touch_pages(p, first ? FIRST + HELD / 2 : FIRST, first ? FIRST + HELD : FIRST + HELD / 2);
	assert_false(mover.done);
	let_go(first ? a : b);
	actor_join(&mover);
	assert_int_equal(r.ret, NPAGES - HELD / 2);
	assert_false(a->late || b->late);
	assert_int_equal(a->waited + b->waited, 1);
	assert_filled(p, NPAGES, 1);
}

static void a_request_made_ahead_leaves_held_pages(struct env *e)
{
	struct ref_device *ref = env_device(e, NPAGES);
	char *p = env_alloc_small(e, NPAGES * PAGE);
	struct guard *guard = hold_pages(e, 0, p + FIRST * PAGE, HELD);

	fill(p, NPAGES, 1);
	env_mark(e);
	assert_int_equal(migrate(e, ref, p, NPAGES, UMM_MIGRATE_AHEAD), NPAGES - HELD);
	assert_int_equal(migrate(e, ref, p + FIRST * PAGE, HELD, UMM_MIGRATE_AHEAD), 0);
	assert_nobody_waited(guard);
	assert_delta(e, UMM_COUNT_BUSY, 0);
	assert_state(e, p + FIRST * PAGE, HELD, UMM_PAGE_SYSTEM);
	assert_free_frames(ref, HELD);
	let_go(guard);
	assert_int_equal(migrate(e, ref, p, NPAGES, UMM_MIGRATE_AHEAD), HELD);
	assert_filled(p, NPAGES, 1);
}

/* Nor does it wait for a page that somebody has in flight who waits for the holder. */
static void a_request_made_ahead_leaves_pages_in_flight(struct env *e)
{
	char *p = pages_away(e, NPAGES, UMM_READAHEAD_OFF);
	struct ref_device *other = env_device(e, NPAGES);
	struct guard *guard = hold_pages(e, 0, p + FIRST * PAGE, HELD);
	struct actor reader;

	actor_start(&reader, read_byte, p + 150 * PAGE);
	wait_until(guard->waited == 1);
	assert_int_equal(migrate(e, other, p, NPAGES, UMM_MIGRATE_AHEAD), NPAGES - HELD);
	assert_false(reader.done);
	assert_false(guard->late);
	let_go(guard);
	actor_join(&reader);
	assert_int_equal(guard->waited, 1);
	assert_filled(p, NPAGES, 1);
}

/* Two blocks of `npages` on a device that has no room for more; the older one is held. */
static struct guard *full_and_held(struct env *e, struct ref_device *ref, size_t npages,
				   char **older, char **newer)
{
	struct guard *guard;

	*older = env_alloc(e, BLOCK);
	*newer = env_alloc(e, BLOCK);
	fill(*older, npages, 1);
	fill(*newer, npages, 2);
	to_device(e, ref, *older, npages, (long)npages);
	guard = hold_pages(e, 0, *older, npages);
	to_device(e, ref, *newer, npages, (long)npages);
	assert_free_frames(ref, 0);
	return guard;
}

static void what_is_held_is_not_evicted_while_anything_else_is_there(struct env *e)
{
	struct ref_device *ref = env_device(e, 16);
	char *older, *newer, *p = env_alloc(e, BLOCK);
	struct guard *guard = full_and_held(e, ref, 8, &older, &newer);

	fill(p, 8, 3);
	assert_int_equal(migrate(e, ref, p, 8, 0), 8);
	assert_nobody_waited(guard);
	assert_state(e, older, 8, env_home(e));
	assert_state(e, newer, 8, UMM_PAGE_SYSTEM);
	let_go(guard);
	assert_filled(older, 8, 1);
	assert_filled(newer, 8, 2);
	assert_filled(p, 8, 3);
}

static void a_request_made_ahead_evicts_nothing_that_is_held(struct env *e)
{
	struct ref_device *ref = env_device(e, 16);
	char *older, *newer, *p = env_alloc(e, BLOCK);
	struct guard *guard = full_and_held(e, ref, 8, &older, &newer);

	fill(p, 16, 3);
	assert_int_equal(migrate(e, ref, p, 16, UMM_MIGRATE_AHEAD), 8);
	assert_nobody_waited(guard);
	assert_state(e, older, 8, env_home(e));
	let_go(guard);
	assert_int_equal(migrate(e, ref, p, 16, UMM_MIGRATE_AHEAD), 8);
	assert_state(e, older, 8, UMM_PAGE_SYSTEM);
	assert_filled(p, 16, 3);
}

static const struct test_case cases[] = {
	TEST(PRIVATE, a_walk_goes_on_beside_held_pages),
	TEST(PRIVATE, dense_faults_go_on_beside_held_pages),
	TEST(PRIVATE, what_comes_with_a_fault_leaves_held_pages_out),
	TEST(PRIVATE, a_whole_block_comes_but_for_held_pages),
	TEST(PRIVATE, a_missed_page_waits_alone),
	TEST(PRIVATE, a_device_does_not_wait_for_the_rest_of_a_unit),
	TEST(PRIVATE, a_request_waits_with_held_pages_alone),
	TEST(PRIVATE, a_request_waits_for_one_holder_at_a_time),
	TEST(PRIVATE, a_request_made_ahead_leaves_held_pages),
	TEST(PRIVATE, a_request_made_ahead_leaves_pages_in_flight),
	TEST(ALL, what_is_held_is_not_evicted_while_anything_else_is_there),
	TEST(ALL, a_request_made_ahead_evicts_nothing_that_is_held),
};

int main(int argc, char **argv)
{
	hook_init();
	harness_cleanup(let_all_go);
	return harness_main("test_unasked", cases, sizeof(cases) / sizeof(cases[0]), argc, argv);
}
