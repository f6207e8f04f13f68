/* SPDX-License-Identifier: MIT */
/*
 * A context that is asked before pages come to the host: a fault that is refused waits, nobody else
 * does.
 */
#include "harness.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>

#define BLOCK_PAGES UMM_BLOCK_PAGES

/* Who is asked: refuses what lies in here, until a test lets it go on. */
static struct door {
	_Atomic(char *) start;
	_Atomic size_t len;
	atomic_uint asked, refused, waited;
	struct stop stop;
} door;

static int admit(void *priv, uintptr_t addr, bool may_sleep)
{
	struct door *d = priv;

	atomic_fetch_add(&d->asked, 1);
	if (addr - (uintptr_t)atomic_load(&d->start) >= atomic_load(&d->len))
		return 0;
	if (!may_sleep) {
		atomic_fetch_add(&d->refused, 1);
		return -EAGAIN;
	}
	atomic_fetch_add(&d->waited, 1);
	stop_here(&d->stop);
	return 0;
}

/* A context as the variant's, that asks. */
static void open_with_door(struct env *e)
{
	struct umm_ctx_options options = {
		.size = sizeof(options),
		.flags = e->variant.ctx_flags,
		.kernel_features_off = e->variant.features_off,
		.readahead = UMM_READAHEAD_OFF,
		.fault_servers = 2,
		.admit = admit,
		.admit_priv = &door,
	};

	env_close(e);
	memset(&door, 0, sizeof(door));
	stop_init(&door.stop);
	assert_int_equal(umm_ctx_create(&options, &e->ctx), 0);
}

static void door_close(char *start, size_t npages)
{
	atomic_store(&door.start, start);
	atomic_store(&door.len, npages * PAGE);
}

static void door_open(void)
{
	atomic_store(&door.len, 0);
	stop_go(&door.stop);
}

static void read_it(void *page)
{
	touch_read(page);
}

static void write_it(void *page)
{
	touch_write(page);
}

/* Waits with the page where it was; comes once it is let. */
static void waits_for_the_door(struct env *e, char *page, void (*touch)(void *), unsigned counter)
{
	enum umm_page_state before = state_of(e, page);
	struct actor actor;

	env_mark(e);
	actor_start(&actor, touch, page);
	assert_true(stop_arrived(&door.stop));
	assert_true(actor_blocks(&actor));
	assert_int_equal(state_of(e, page), before);
	assert_int_equal(env_delta(e, counter), 0);
	door_open();
	actor_join(&actor);
	assert_delta(e, counter, 1);
	assert_int_equal(state_of(e, page), UMM_PAGE_SYSTEM);
	assert_int_equal(atomic_load(&door.waited), 1);
}

static void a_page_on_a_device_waits_until_it_is_admitted(struct env *e)
{
	struct ref_device *ref;
	char *p;

	open_with_door(e);
	ref = env_device(e, BLOCK_PAGES);
	p = env_alloc_small(e, BLOCK);
	fill(p, BLOCK_PAGES, 1);
	to_device(e, ref, p, BLOCK_PAGES, BLOCK_PAGES);
	door_close(p + 7 * PAGE, 1);
	waits_for_the_door(e, p + 7 * PAGE, read_it, UMM_COUNT_FAULT_DEVICE);
	assert_filled(p, BLOCK_PAGES, 1);
}

static void an_empty_page_waits_until_it_is_admitted(struct env *e)
{
	struct ref_device *ref;
	char *p;

	open_with_door(e);
	ref = env_device(e, BLOCK_PAGES);
	p = env_attach(e, BLOCK);
	fill(p, BLOCK_PAGES, 1);
	to_device(e, ref, p, BLOCK_PAGES, BLOCK_PAGES);
	assert_int_equal(madvise(p + 7 * PAGE, PAGE, MADV_DONTNEED), 0);
	door_close(p + 7 * PAGE, 1);
	waits_for_the_door(e, p + 7 * PAGE, write_it, UMM_COUNT_FAULT_EMPTY);
	assert_filled_part(p, 0, 7, 1);
	assert_filled_part(p, 8, BLOCK_PAGES - 8, 1);
}

/* A fault waits for room, while memory is moved, faulted on, unmapped and forked. */
static void nobody_else_waits_for_a_fault_that_was_refused(struct env *e)
{
	struct ref_device *ref;
	struct actor actor;
	char *p, *other;

	open_with_door(e);
	ref = env_device(e, 4 * BLOCK_PAGES);
	p = env_attach(e, BLOCK);
	other = env_attach(e, 2 * BLOCK);
	fill(p, BLOCK_PAGES, 1);
	fill(other, 2 * BLOCK_PAGES, 2);
	to_device(e, ref, p, BLOCK_PAGES, BLOCK_PAGES);
	door_close(p, 1);
	actor_start(&actor, read_it, p);
	assert_true(stop_arrived(&door.stop));
	for (unsigned i = 0; i < 3; i++) {
		to_device(e, ref, other, 2 * BLOCK_PAGES, 2 * BLOCK_PAGES);
		assert_filled(other, 2 * BLOCK_PAGES, 2);
	}
	env_unmap(e, other + BLOCK, BLOCK);
	to_device(e, ref, other, BLOCK_PAGES, BLOCK_PAGES);
	assert_filled_part(p, 1, BLOCK_PAGES - 1, 1);
	assert_true(actor_blocks(&actor));
	door_open();
	actor_join(&actor);
	assert_filled(p, BLOCK_PAGES, 1);
	assert_filled(other, BLOCK_PAGES, 2);
}

#define NR_READERS 6

/* Whoever misses the same page waits with the first, and one of them is asked for. */
static void many_who_miss_one_page_are_admitted_once(struct env *e)
{
	struct actor readers[NR_READERS];
	struct ref_device *ref;
	char *p;

	open_with_door(e);
	ref = env_device(e, BLOCK_PAGES);
	p = env_alloc_small(e, BLOCK);
	fill(p, BLOCK_PAGES, 1);
	to_device(e, ref, p, BLOCK_PAGES, BLOCK_PAGES);
	door_close(p, 1);
	env_mark(e);
	for (unsigned i = 0; i < NR_READERS; i++)
		actor_start(&readers[i], read_it, p);
	assert_true(stop_arrived(&door.stop));
	for (unsigned i = 0; i < NR_READERS; i++)
		assert_true(actor_blocks(&readers[i]));
	door_open();
	for (unsigned i = 0; i < NR_READERS; i++)
		actor_join(&readers[i]);
	assert_delta(e, UMM_COUNT_FAULT_DEVICE, 1);
	assert_int_equal(atomic_load(&door.waited), 1);
	assert_filled(p, BLOCK_PAGES, 1);
}

/* The page goes home for another reason: who waits for it need not be admitted any more. */
static void a_page_that_is_brought_home_ends_the_wait(struct env *e)
{
	struct ref_device *ref;
	struct actor actor;
	char *p;

	open_with_door(e);
	ref = env_device(e, BLOCK_PAGES);
	p = env_alloc_small(e, BLOCK);
	fill(p, BLOCK_PAGES, 1);
	to_device(e, ref, p, BLOCK_PAGES, BLOCK_PAGES);
	door_close(p, 1);
	env_mark(e);
	actor_start(&actor, read_it, p);
	assert_true(stop_arrived(&door.stop));
	to_system(e, p, BLOCK_PAGES, BLOCK_PAGES);
	door_open();
	actor_join(&actor);
	assert_delta(e, UMM_COUNT_FAULT_DEVICE, 0);
	assert_filled(p, BLOCK_PAGES, 1);
}

/* Pages that are there, or are only moved aside, need no room. */
static void what_brings_no_page_is_not_asked_for(struct env *e)
{
	struct ref_device *ref;
	uint64_t entry;
	char *p;

	open_with_door(e);
	ref = env_device(e, BLOCK_PAGES);
	p = env_attach(e, BLOCK);
	fill(p, BLOCK_PAGES, 1);
	assert_int_equal(umm_make_exclusive(ref->dev, (uintptr_t)p, (uintptr_t)p + PAGE, &entry),
			 1);
	env_mark(e);
	assert_true(filled_at(p, 0, 1));
	assert_delta(e, UMM_COUNT_FAULT_DEVICE, 1);
	assert_int_equal(atomic_load(&door.asked), 0);
	assert_filled(p, BLOCK_PAGES, 1);
}

static const struct test_case cases[] = {
	TEST(PRIVATE, a_page_on_a_device_waits_until_it_is_admitted),
	TEST(PRIVATE, an_empty_page_waits_until_it_is_admitted),
	TEST(PRIVATE, nobody_else_waits_for_a_fault_that_was_refused),
	TEST(PRIVATE, many_who_miss_one_page_are_admitted_once),
	TEST(PRIVATE, a_page_that_is_brought_home_ends_the_wait),
	TEST(ONCE, what_brings_no_page_is_not_asked_for),
};

int main(int argc, char **argv)
{
	return harness_main("test_admit", cases, sizeof(cases) / sizeof(cases[0]), argc, argv);
}
