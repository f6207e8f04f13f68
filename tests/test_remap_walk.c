/* SPDX-License-Identifier: MIT */
/*
 * mremap() by many threads, and a random walk of everything that a program can do to its mappings,
 * beside migrations and forks, with a model of what each page holds. UMM_STRESS_SEED gives the
 * walk another way.
 */
#include "harness.h"
#include "ctx.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#ifndef MREMAP_DONTUNMAP
#define MREMAP_DONTUNMAP 4
#endif

#define PAGES 16

/* ---- threads that move mappings at the same instant ----------------------------------- */

#define GROWERS 3
#define ROUNDS	100

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
#define STEPS	    2000
#define FORKS	    8 /* about */

struct place {
	bool mapped[PLACE_PAGES];
	unsigned seed[PLACE_PAGES]; /* 0: reads zero */
	unsigned of[PLACE_PAGES];   /* the page of its fill */
	bool left[PLACE_PAGES];	    /* by MREMAP_DONTUNMAP: it is not managed */
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
		w->places[place].left[i] = false;
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
	/* Where nothing is in memory that is not managed, a page that is just taken may arrive. */
	for (unsigned i = first; i < first + npages; i++)
		if (a->left[i] && !a->seed[i])
			walk_fill(w, place, i);
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
		b->left[i] = a->left[i];
		a->seed[i] = 0;
		a->left[i] = true;
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
	TEST(ALL, mappings_that_take_each_others_addresses_keep_their_contents),
	TEST(ALL, random_moves_lose_nothing),
};

int main(int argc, char **argv)
{
	return harness_main("test_remap_walk", cases, sizeof(cases) / sizeof(cases[0]), argc, argv);
}
