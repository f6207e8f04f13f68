/* SPDX-License-Identifier: MIT */
/*
 * Which frame holds which page of a block, however pages come and go: one by one, at random, with a
 * fixed seed, so that frames follow each other, or are few, or many; and what that takes.
 */
#include "harness.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "hooked.h"

#define NPAGES	     128
#define NR_STEPS     1200
#define NR_STRETCHES 120
#define SEED	     0x756d6d31u
/* More than are few on a device, then nearly none, and again. */
#define MOST  48
#define LEAST 3

struct walk {
	struct env *env;
	struct ref_device *ref;
	char *p;
	bool away[NPAGES];
	size_t naway;
	uint32_t seed;
};

static uint32_t random_next(struct walk *w)
{
	w->seed ^= w->seed << 13;
	w->seed ^= w->seed >> 17;
	w->seed ^= w->seed << 5;
	return w->seed;
}

static void set_away(struct walk *w, size_t i, bool away)
{
	w->naway += (size_t)away - (size_t)w->away[i];
	w->away[i] = away;
}

static void send(struct walk *w, size_t i)
{
	to_device(w->env, w->ref, w->p + i * PAGE, 1, 1);
	set_away(w, i, true);
}

static void fetch(struct walk *w, size_t i)
{
	to_system(w->env, w->p + i * PAGE, 1, 1);
	assert_true(filled_at(w->p, i, 1));
	set_away(w, i, false);
}

/* Some of what is away, and some of what is not, loses its contents, and gets them again. */
static void drop(struct walk *w, size_t i)
{
	size_t end = i + 4 < NPAGES ? i + 4 : NPAGES;

	assert_int_equal(madvise(w->p + i * PAGE, (end - i) * PAGE, MADV_DONTNEED), 0);
	for (; i < end; i++) {
		assert_true(page_zero(w->p + i * PAGE));
		page_fill(w->p + i * PAGE, i, 1);
		set_away(w, i, false);
	}
}

static void check(struct walk *w)
{
	assert_free_frames(w->ref, NPAGES - (uint32_t)w->naway);
	for (size_t i = 0; i < NPAGES; i++)
		assert_int_equal(state_of(w->env, w->p + i * PAGE) == env_home(w->env), w->away[i]);
}

static void each_page_has_its_frame_whatever_comes_and_goes(struct env *e)
{
	struct walk w = { .env = e, .ref = env_device(e, NPAGES), .seed = SEED };
	bool fills = true;

	w.p = env_alloc_small(e, NPAGES * PAGE);
	fill(w.p, NPAGES, 1);
	for (unsigned step = 0; step < NR_STEPS; step++) {
		size_t i = random_next(&w) % NPAGES;

		if (w.naway >= MOST)
			fills = false;
		else if (w.naway <= LEAST)
			fills = true;
		if (step % 37 == 0)
			drop(&w, i);
		else if (w.away[i] && (!fills || step % 5 == 0))
			fetch(&w, i);
		else if (!w.away[i] && (fills || step % 5 == 0))
			send(&w, i);
		if (step % 100 == 0)
			check(&w);
	}
	check(&w);
	assert_device_sees(w.ref, w.p, NPAGES, 1);
	assert_filled(w.p, NPAGES, 1);
}

/* Of one that has many frames in no order some pages go at once, and the others stay. */
static void part_of_many_scattered_pages_is_dropped(struct env *e)
{
	struct walk w = { .env = e, .ref = env_device(e, NPAGES) };

	w.p = env_alloc_small(e, NPAGES * PAGE);
	fill(w.p, NPAGES, 1);
	for (size_t i = 0; i < NPAGES; i++)
		send(&w, i * 37 % NPAGES);
	for (size_t i = 0; i < NPAGES; i += 8)
		drop(&w, i);
	check(&w);
	for (size_t i = 0; i < NPAGES; i++)
		if (w.away[i])
			fetch(&w, i);
	check(&w);
	assert_filled(w.p, NPAGES, 1);
}

static long count_away(const struct walk *w, size_t i, size_t end, bool away)
{
	long n = 0;

	for (; i < end; i++)
		n += w->away[i] == away;
	return n;
}

/* Many at once, of which some are there already, or have come alone, in other frames. */
static void stretches_come_and_go_at_once(struct env *e)
{
	struct walk w = { .env = e, .ref = env_device(e, NPAGES), .seed = SEED };

	w.p = env_alloc_small(e, NPAGES * PAGE);
	fill(w.p, NPAGES, 1);
	for (unsigned step = 0; step < NR_STRETCHES; step++) {
		size_t i = random_next(&w) % NPAGES, end = i + 1 + random_next(&w) % (NPAGES - i);
		bool out = random_next(&w) % 2;

		if (step % 8 == 0)
			drop(&w, i);
		if (out)
			to_device(e, w.ref, w.p + i * PAGE, end - i, count_away(&w, i, end, false));
		else
			to_system(e, w.p + i * PAGE, end - i, count_away(&w, i, end, true));
		for (size_t k = i; k < end; k++) {
			set_away(&w, k, out);
			assert_true(out || filled_at(w.p, k, 1));
		}
		check(&w);
	}
	assert_device_sees(w.ref, w.p, NPAGES, 1);
	assert_filled(w.p, NPAGES, 1);
}

/* A few of each block, as far from each other as may be. */
static void few_scattered_pages_take_little_of_the_books(struct env *e)
{
	enum { NBLOCKS = 64, FEW = 5, NSPANS = NBLOCKS * FEW };
	struct ref_device *ref = env_device(e, NSPANS);
	struct umm_stats before = { .size = sizeof(before) }, after = { .size = sizeof(after) };
	char *p = env_alloc_small(e, NBLOCKS * BLOCK);
	struct umm_span spans[NSPANS];
	struct umm_migrate_request request = {
		.size = sizeof(request), .spans = spans, .nspans = NSPANS, .dst = ref->mem
	};

	for (size_t i = 0; i < NSPANS; i++) {
		char *page = p + i / FEW * BLOCK + i % FEW * (BLOCK / 8);

		page_fill(page, i, 1);
		spans[i] = (struct umm_span){ (uintptr_t)page, PAGE };
	}
	assert_int_equal(umm_ctx_stats(e->ctx, &before), 0);
	assert_int_equal(umm_migrate_spans(e->ctx, &request, NULL), NSPANS);
	assert_int_equal(umm_ctx_stats(e->ctx, &after), 0);
	/* Less than a block takes that has a word for each of its pages. */
	assert_in_range(after.bookkeeping_bytes - before.bookkeeping_bytes, 1, NBLOCKS * 3500);
	for (size_t i = 0; i < NSPANS; i++)
		assert_true(page_filled((void *)spans[i].start, i, 1));
}

static const struct test_case cases[] = {
	TEST(ALL, each_page_has_its_frame_whatever_comes_and_goes),
	TEST(ALL, part_of_many_scattered_pages_is_dropped),
	TEST(ALL, stretches_come_and_go_at_once),
	TEST(ONCE, few_scattered_pages_take_little_of_the_books),
};

int main(int argc, char **argv)
{
	hook_init();
	return harness_main("residents", cases, sizeof(cases) / sizeof(cases[0]), argc, argv);
}
