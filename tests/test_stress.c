/* SPDX-License-Identifier: MIT */
/*
 * Everything at once: threads read and write memory from the CPU and from two devices,
 * migrate it to and fro, drop it, free and allocate it, move its mappings, and fork;
 * device memory is smaller than what they use. Every page holds a pattern that says whose
 * it is and how often it was written, and every access checks it.
 *
 * UMM_STRESS_SECONDS says for how long in all (10); UMM_STRESS_SEED repeats a run's choices,
 * as far as threads can be repeated.
 *
 * A slot is one allocation. Its lock orders accesses to its contents: shared to read,
 * exclusive to change. Migrations take no lock at all: they must change nothing. Forks hold
 * all locks shared, so that the child knows what to find.
 */
#include "harness.h"
#include "watchdog.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#define SLOTS	   24
#define MOST_PAGES 96
#define BIG_PAGES  (UMM_BLOCK_PAGES + 40)
#define MOVERS	   2
#define USERS	   4
#define STAMPS	   (1u << 20)
#define ZERO	   0 /* the stamp of a page that reads zero */

struct slot {
	pthread_rwlock_t lock;
	char *p;
	size_t npages;
	bool attached;
	uint32_t stamp[BIG_PAGES];
	const char *by[BIG_PAGES]; /* who set the stamp */
};

struct world {
	struct env *env;
	struct ref_device *devices[2];
	struct slot slots[SLOTS];
	/* Where a slot is, for the movers, who take no lock. */
	_Atomic(char *) where[SLOTS];
	_Atomic size_t extent[SLOTS];

	atomic_bool stop;
	atomic_bool wrong;
	atomic_ulong checks, moves, drops, swaps, forks;
};

struct worker {
	struct actor actor;
	struct world *w;
	uint64_t random;
};

static uint32_t rnd(struct worker *k, uint32_t below)
{
	k->random ^= k->random << 13;
	k->random ^= k->random >> 7;
	k->random ^= k->random << 17;
	return (uint32_t)(k->random >> 20) % below;
}

static unsigned long seconds_wanted(void)
{
	const char *text = getenv("UMM_STRESS_SECONDS");
	unsigned long seconds = text ? strtoul(text, NULL, 10) : 10;

	return seconds ? seconds : 1;
}

static uint64_t seed_wanted(void)
{
	const char *text = getenv("UMM_STRESS_SEED");

	return text ? strtoull(text, NULL, 10) : harness_now_ms() * 2654435761u % 1000000;
}

static bool broken(struct world *w, const char *who, int error)
{
	if (!atomic_exchange(&w->wrong, true))
		fprintf(stderr, "%s: %s\n", who, umm_strerror(error));
	atomic_store(&w->stop, true);
	return false;
}

static bool page_is(const void *page, size_t i, uint32_t stamp)
{
	return stamp == ZERO ? page_zero(page) : page_filled(page, i, stamp);
}

/* A page is not what it should be: say what it is. The slot is locked. */
static void wrong_page(struct world *w, const char *who, size_t s, size_t i, const void *page)
{
	const struct slot *slot = &w->slots[s];
	uint32_t stamp = 1;

	if (atomic_exchange(&w->wrong, true))
		return;
	atomic_store(&w->stop, true);
	while (stamp <= STAMPS && !page_filled(page, i, stamp))
		stamp++;
	fprintf(stderr, "%s: slot %zu (%zu pages at %p, %s) page %zu: stamp %u by %s is wanted, ",
		who, s, slot->npages, (void *)slot->p, slot->attached ? "attached" : "allocated", i,
		slot->stamp[i], slot->by[i]);
	if (page_zero(page))
		fprintf(stderr, "zeroes are there\n");
	else if (stamp <= STAMPS)
		fprintf(stderr, "stamp %u is there\n", stamp);
	else
		fprintf(stderr, "no stamp is there but %#llx\n", *(const unsigned long long *)page);
}

/* ---- contents: CPU and devices ------------------------------------------------------ */

static const char *const names[] = { "device 0", "device 1", "the CPU" };

/* who: a device's number, or 2 for the CPU. */
static void check_page_by(struct worker *k, size_t s, size_t i, unsigned who)
{
	struct slot *slot = &k->w->slots[s];
	uint64_t page[PAGE / sizeof(uint64_t)];
	int ret;

	atomic_fetch_add(&k->w->checks, 1);
	if (who == 2) {
		if (!page_is(slot->p + i * PAGE, i, slot->stamp[i]))
			wrong_page(k->w, names[who], s, i, slot->p + i * PAGE);
		return;
	}
	ret = ref_read(k->w->devices[who], (uintptr_t)slot->p + i * PAGE, page, PAGE);
	if (ret)
		broken(k->w, names[who], ret);
	else if (!page_is(page, i, slot->stamp[i]))
		wrong_page(k->w, names[who], s, i, page);
}

static void write_page(struct worker *k, size_t s, size_t i)
{
	struct slot *slot = &k->w->slots[s];
	uint64_t page[PAGE / sizeof(uint64_t)];
	unsigned who = rnd(k, 3);
	int ret;

	slot->by[i] = names[who];
	slot->stamp[i] = 1 + rnd(k, STAMPS);
	if (who == 2) {
		page_fill(slot->p + i * PAGE, i, slot->stamp[i]);
		return;
	}
	page_fill(page, i, slot->stamp[i]);
	ret = ref_write(k->w->devices[who], (uintptr_t)slot->p + i * PAGE, page, PAGE);
	if (ret)
		broken(k->w, names[who], ret);
}

static void use_slot(struct worker *k)
{
	size_t s = rnd(k, SLOTS), n = 1 + rnd(k, 16);
	struct slot *slot = &k->w->slots[s];
	bool write = rnd(k, 3) == 0;

	if (write)
		pthread_rwlock_wrlock(&slot->lock);
	else
		pthread_rwlock_rdlock(&slot->lock);
	while (n-- && slot->p && !atomic_load(&k->w->wrong)) {
		size_t i = rnd(k, (uint32_t)slot->npages);

		check_page_by(k, s, i, rnd(k, 3));
		if (write)
			write_page(k, s, i);
	}
	pthread_rwlock_unlock(&slot->lock);
}

/* ---- places ------------------------------------------------------------------------- */

static void move_slot(struct worker *k)
{
	size_t s = rnd(k, SLOTS), npages = atomic_load(&k->w->extent[s]);
	char *p = atomic_load(&k->w->where[s]);
	struct ref_device *ref = rnd(k, 3) ? k->w->devices[rnd(k, 2)] : NULL;
	uint64_t flags = ref && rnd(k, 4) == 0 ? UMM_MIGRATE_DUPLICATE : 0;
	size_t first, n;
	long ret;

	if (!p || !npages)
		return;
	first = rnd(k, (uint32_t)npages);
	n = 1 + rnd(k, (uint32_t)(npages - first));
	ret = migrate(k->w->env, ref, p + first * PAGE, n, flags);
	/* It may have been freed or replaced meanwhile, or not fit. */
	if (ret < 0 && ret != -EFAULT && ret != -ENOSPC)
		broken(k->w, "a migration", (int)ret);
	atomic_fetch_add(&k->w->moves, 1);
}

static void drop_pages(struct worker *k)
{
	size_t s = rnd(k, SLOTS), first, n, i;
	struct slot *slot = &k->w->slots[s];

	pthread_rwlock_wrlock(&slot->lock);
	if (slot->p) {
		first = rnd(k, (uint32_t)slot->npages);
		n = 1 + rnd(k, (uint32_t)(slot->npages - first));
		if (madvise(slot->p + first * PAGE, n * PAGE, MADV_DONTNEED))
			broken(k->w, "madvise", errno);
		for (i = first; i < first + n; i++) {
			slot->stamp[i] = ZERO;
			slot->by[i] = "madvise";
		}
		atomic_fetch_add(&k->w->drops, 1);
	}
	pthread_rwlock_unlock(&slot->lock);
}

static void slot_publish(struct world *w, size_t s)
{
	struct slot *slot = &w->slots[s];

	/* Never a length that is not of that place, whichever is seen first. */
	atomic_store(&w->extent[s], 0);
	atomic_store(&w->where[s], slot->p);
	atomic_store(&w->extent[s], slot->p ? slot->npages : 0);
}

static bool slot_make(struct worker *k, size_t s)
{
	struct slot *slot = &k->w->slots[s];
	struct umm_ctx *ctx = k->w->env->ctx;
	void *p = NULL;
	size_t i;
	int ret;

	slot->npages = s < 2 ? BIG_PAGES : 1 + rnd(k, MOST_PAGES);
	slot->attached = s % 2;
	for (i = 0; i < slot->npages; i++) {
		slot->stamp[i] = ZERO;
		slot->by[i] = slot->attached ? "mmap" : "umm_alloc";
	}
	if (slot->attached) {
		p = mmap(NULL, slot->npages * PAGE, PROT_READ | PROT_WRITE,
			 MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		ret = p == MAP_FAILED ? -ENOMEM : umm_attach(ctx, p, slot->npages * PAGE);
	} else {
		ret = umm_alloc(ctx, slot->npages * PAGE, 0, &p);
	}
	slot->p = ret ? NULL : p;
	slot_publish(k->w, s);
	return ret ? broken(k->w, "making a slot", ret) : true;
}

static void slot_end(struct worker *k, size_t s)
{
	struct slot *slot = &k->w->slots[s];
	char *p = slot->p;
	int ret;

	if (!p)
		return;
	slot->p = NULL;
	slot_publish(k->w, s);
	if (slot->attached) {
		ret = umm_detach(k->w->env->ctx, p);
		munmap(p, slot->npages * PAGE);
	} else {
		ret = umm_free(k->w->env->ctx, p);
	}
	if (ret)
		broken(k->w, "ending a slot", ret);
}

/* Free it and allocate another one, or unmap the end of it, once a device has used it. */
static void swap_slot(struct worker *k)
{
	size_t s = rnd(k, SLOTS), left, i;
	struct slot *slot = &k->w->slots[s];

	pthread_rwlock_wrlock(&slot->lock);
	if (slot->attached && slot->npages > 8 && rnd(k, 2)) {
		left = slot->npages / 2;
		atomic_store(&k->w->extent[s], left);
		for (i = left; i < slot->npages; i++)
			check_page_by(k, s, i, 0);
		munmap(slot->p + left * PAGE, (slot->npages - left) * PAGE);
		slot->npages = left;
	} else {
		slot_end(k, s);
		slot_make(k, s);
	}
	atomic_fetch_add(&k->w->swaps, 1);
	pthread_rwlock_unlock(&slot->lock);
}

/* ---- forks -------------------------------------------------------------------------- */

static void child_checks(void *arg)
{
	struct world *w = arg;
	size_t s, i;

	for (s = 0; s < SLOTS; s++) {
		struct slot *slot = &w->slots[s];

		for (i = 0; slot->p && i < slot->npages; i++)
			if (!page_is(slot->p + i * PAGE, i, slot->stamp[i]))
				wrong_page(w, "a child", s, i, slot->p + i * PAGE);
		if (slot->p)
			page_fill(slot->p, 0, 12345);
	}
	child_check(!atomic_load(&w->wrong));
	if (w->slots[0].p)
		child_check(umm_free(w->env->ctx, w->slots[0].p) == 0);
}

static void fork_once(struct worker *k)
{
	size_t s;
	int pid;

	for (s = 0; s < SLOTS; s++)
		pthread_rwlock_rdlock(&k->w->slots[s].lock);
	pid = child_fork(child_checks, k->w);
	for (s = 0; s < SLOTS; s++)
		pthread_rwlock_unlock(&k->w->slots[s].lock);
	if (!child_wait(pid))
		broken(k->w, "a child", EIO);
	atomic_fetch_add(&k->w->forks, 1);
}

/* ---- the threads -------------------------------------------------------------------- */

static void user_run(void *arg)
{
	struct worker *k = arg;

	while (!atomic_load(&k->w->stop))
		use_slot(k);
}

static void mover_run(void *arg)
{
	struct worker *k = arg;

	while (!atomic_load(&k->w->stop))
		move_slot(k);
}

static void wrecker_run(void *arg)
{
	struct worker *k = arg;

	while (!atomic_load(&k->w->stop)) {
		use_slot(k);
		drop_pages(k);
		if (rnd(k, 4) == 0)
			swap_slot(k);
	}
}

static void forker_run(void *arg)
{
	struct worker *k = arg;
	unsigned i;

	while (!atomic_load(&k->w->stop)) {
		fork_once(k);
		for (i = 0; i < 50; i++)
			use_slot(k);
	}
}

static void progress(const struct world *w, const char *kernel, unsigned long now, unsigned long of)
{
	printf("stress %s: %lu of %lu s, %lu checks, %lu migrations, %lu drops, %lu swaps, "
	       "%lu forks\n",
	       kernel, now, of, w->checks, w->moves, w->drops, w->swaps, w->forks);
}

static struct ref_device *device(struct env *e, enum umm_devmem_type type, bool inline_copy,
				 uint32_t nframes)
{
	struct variant before = e->variant;
	struct ref_device *ref;

	e->variant.type = type;
	e->variant.inline_copy = inline_copy;
	ref = env_device(e, nframes);
	e->variant = before;
	return ref;
}

static void everything_at_once(struct env *e)
{
	static const char *const kernels[] = { "all", "no-move", "no-poison", "no-scan",
					       "in-thread" };
	static void (*const runs[])(void *) = { wrecker_run, forker_run };
	unsigned long seconds = (seconds_wanted() + 3) / 4, now;
	struct world *w = calloc(1, sizeof(*w));
	struct worker workers[USERS + MOVERS + 2];
	const unsigned nworkers = USERS + MOVERS + 2;
	uint64_t seed = seed_wanted(), start;
	const char *kernel = kernels[e->variant.features_off == UMM_KERNEL_MOVE	  ? 1 :
				     e->variant.features_off == UMM_KERNEL_POISON ? 2 :
				     e->variant.features_off			  ? 3 :
				     e->variant.ctx_flags			  ? 4 :
										    0];
	unsigned i;
	size_t s;

	assert_non_null(w);
	watchdog_extend((unsigned)seconds);
	printf("stress %s: UMM_STRESS_SEED=%llu\n", kernel, (unsigned long long)seed);
	w->env = e;
	w->devices[0] = device(e, UMM_DEVMEM_PRIVATE, false, 700);
	w->devices[1] = device(e, UMM_DEVMEM_COHERENT, true, 600);
	for (i = 0; i < nworkers; i++)
		workers[i] =
			(struct worker){ .w = w,
					 .random = (seed + i + 1) * UINT64_C(0x9e3779b97f4a7c15) };
	for (s = 0; s < SLOTS; s++) {
		pthread_rwlock_init(&w->slots[s].lock, NULL);
		assert_true(slot_make(&workers[0], s));
	}
	for (i = 0; i < nworkers; i++)
		actor_start(&workers[i].actor,
			    i < USERS	       ? user_run :
			    i < USERS + MOVERS ? mover_run :
						 runs[i - USERS - MOVERS],
			    &workers[i]);
	start = harness_now_ms();
	for (now = 1; now <= seconds && !atomic_load(&w->stop); now++) {
		while (harness_now_ms() < start + now * 1000 && !atomic_load(&w->stop))
			harness_yield();
		progress(w, kernel, now, seconds);
	}
	atomic_store(&w->stop, true);
	for (i = 0; i < nworkers; i++)
		actor_join(&workers[i].actor);
	for (s = 0; s < SLOTS; s++)
		for (i = 0; i < w->slots[s].npages && !w->wrong; i++)
			check_page_by(&workers[0], s, i, 2);
	assert_false(w->wrong);
	for (s = 0; s < SLOTS; s++)
		slot_end(&workers[0], s);
	assert_false(w->wrong);
	assert_free_frames(w->devices[0], 700);
	assert_free_frames(w->devices[1], 600);
	free(w);
}

static const struct test_case cases[] = {
	TEST(KERNEL, everything_at_once),
};

int main(int argc, char **argv)
{
	return harness_main("test_stress", cases, sizeof(cases) / sizeof(cases[0]), argc, argv);
}
