/* SPDX-License-Identifier: MIT */
/*
 * While fork() is being made, other handlers and the C library wait for locks whose holders may
 * need the library: it holds nothing of theirs back. So a child may be born while another thread
 * changes the books, and has whole ones all the same.
 */
#include "harness.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "hook.h"

#define NPAGES	16
#define NALLOCS 12

/* A fork that is stopped where others' handlers follow, and another thread at another point. */
static struct stop fork_stop, other_stop;

static void stop_fork(void *priv, enum hook_point point, uintptr_t addr)
{
	(void)priv;
	(void)point;
	(void)addr;
	stop_here(&fork_stop);
}

static void stop_other(void *priv, enum hook_point point, uintptr_t addr)
{
	(void)priv;
	(void)point;
	(void)addr;
	stop_here(&other_stop);
}

static void hooks_off(void)
{
	hook_set(HOOK_FORK_BEGINS, NULL, NULL);
	hook_set(HOOK_REGION_OUT, NULL, NULL);
	hook_set(HOOK_LISTED, NULL, NULL);
}

static void let_go(void)
{
	hooks_off();
	stop_go(&fork_stop);
	stop_go(&other_stop);
}

struct forker {
	struct actor actor;
	void (*child)(void *arg);
	void *arg;
	bool right;
};

static void forker_run(void *arg)
{
	struct forker *f = arg;

	f->right = in_child(f->child, f->arg);
}

/* Returns when the fork is about to happen. */
static void fork_begins(struct forker *f)
{
	stop_init(&fork_stop);
	stop_init(&other_stop);
	hook_set(HOOK_FORK_BEGINS, stop_fork, NULL);
	actor_start(&f->actor, forker_run, f);
	assert_true(stop_arrived(&fork_stop));
}

/* It happens, while the other thread, if one is stopped, stays where it is. */
static void fork_happens(struct forker *f)
{
	stop_go(&fork_stop);
	actor_join(&f->actor);
	let_go();
}

struct scene {
	struct env *env;
	char *p;
};

static bool scene_filled(const struct scene *s)
{
	for (size_t i = 0; i < NPAGES; i++)
		if (!filled_at(s->p, i, 1))
			return false;
	return true;
}

static void child_sees(void *arg)
{
	hooks_off();
	child_check(scene_filled(arg));
}

/* ---- what others may do meanwhile ---------------------------------------------------- */

static void faults_and_allocations_go_on_while_a_fork_is_being_made(struct env *e)
{
	struct ref_device *ref = env_device(e, 64);
	char *p = env_alloc_small(e, BLOCK), *q = env_alloc_small(e, BLOCK);
	struct scene s = { e, p };
	struct forker f = { .child = child_sees, .arg = &s };
	void *fresh, *mapped;

	fill(p, NPAGES, 1);
	fill(q, NPAGES, 1);
	to_device(e, ref, p, NPAGES, NPAGES);
	to_device(e, ref, q, NPAGES, NPAGES);
	assert_int_equal(umm_migrate_to_system(e->ctx, q, BLOCK), NPAGES);
	env_mark(e);
	fork_begins(&f);
	/* A fault, and two kinds of events. */
	page_fill(p + 20 * PAGE, 20, 1);
	assert_int_equal(madvise(q + PAGE, PAGE, MADV_DONTNEED), 0);
	assert_int_equal(munmap(q + 8 * PAGE, 2 * PAGE), 0);
	mapped = mmap(NULL, 4 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	assert_ptr_not_equal(mapped, MAP_FAILED);
	assert_int_equal(umm_attach(e->ctx, mapped, 4 * PAGE), 0);
	assert_int_equal(umm_alloc(e->ctx, BLOCK, 0, &fresh), 0);
	assert_int_equal(umm_free(e->ctx, fresh), 0);
	assert_delta(e, UMM_COUNT_FAULT_EMPTY, 1);
	fork_happens(&f);
	assert_true(f.right);
	assert_filled(p, NPAGES, 1);
	assert_true(page_filled(p + 20 * PAGE, 20, 1));
	assert_int_equal(umm_detach(e->ctx, mapped), 0);
	assert_int_equal(munmap(mapped, 4 * PAGE), 0);
}

/* ---- a child that is born meanwhile -------------------------------------------------- */

/* Allocations of which somebody changes the one in the middle. */
struct books {
	struct env *env;
	char *p[NALLOCS];
	enum { FREED, CUT, MOVED, NR_CHANGES } change;
	char *to;
};

static char *books_victim(const struct books *b)
{
	return b->p[NALLOCS / 2];
}

static void change_run(void *arg)
{
	struct books *b = arg;

	if (b->change == FREED)
		umm_free(b->env->ctx, books_victim(b));
	else if (b->change == CUT)
		munmap(books_victim(b) + PAGE, PAGE);
	else
		mremap(books_victim(b), 4 * PAGE, 4 * PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, b->to);
}

static void child_uses_the_books(void *arg)
{
	struct books *b = arg;
	struct umm_ctx *ctx = b->env->ctx;
	void *fresh[NALLOCS];

	hooks_off();
	/* What was being changed is there or not, and harms nobody. */
	umm_free(ctx, books_victim(b));
	for (size_t i = 0; i < NALLOCS; i++) {
		child_check(umm_alloc(ctx, 2 * PAGE, 0, &fresh[i]) == 0);
		fill(fresh[i], 2, 5);
	}
	for (size_t i = 0; i < NALLOCS; i++) {
		if (i == NALLOCS / 2)
			continue;
		for (size_t k = 0; k < 4; k++)
			child_check(filled_at(b->p[i], k, (unsigned)i));
		child_check(umm_free(ctx, b->p[i]) == 0);
		child_check(umm_free(ctx, b->p[i]) == -EFAULT);
	}
	for (size_t i = 0; i < NALLOCS; i++) {
		child_check(filled_at(fresh[i], 1, 5));
		child_check(umm_free(ctx, fresh[i]) == 0);
	}
	umm_ctx_put(ctx);
}

static void child_born_amid_a_change_of_the_books_has_whole_ones(struct env *e)
{
	struct ref_device *ref = env_device(e, 64);
	struct books b = { .env = e, .to = env_alloc_small(e, 4 * PAGE) };
	struct forker f = { .child = child_uses_the_books, .arg = &b };
	struct actor changer;

	for (b.change = FREED; b.change < NR_CHANGES; b.change++) {
		for (size_t i = 0; i < NALLOCS; i++) {
			b.p[i] = env_alloc_small(e, 4 * PAGE);
			fill(b.p[i], 4, (unsigned)i);
			/* So that its events are heard of. */
			to_device(e, ref, b.p[i], 1, 1);
		}
		fork_begins(&f);
		hook_set(HOOK_REGION_OUT, stop_other, NULL);
		actor_start(&changer, change_run, &b);
		assert_true(stop_arrived(&other_stop));
		fork_happens(&f);
		actor_join(&changer);
		assert_true(f.right);
		for (size_t i = 0; i < NALLOCS; i++)
			if (b.p[i] != books_victim(&b))
				assert_filled(b.p[i], 4, (unsigned)i);
	}
}

/* Small ranges of one block, of which nothing is counted; the one in the middle changes. */
static char *books_attach(struct books *b)
{
	struct env *e = b->env;
	char *p = env_map(e, BLOCK);

	for (size_t i = 0; i < NALLOCS; i++) {
		b->p[i] = p + i * 4 * PAGE;
		assert_int_equal(umm_attach(e->ctx, b->p[i], 4 * PAGE), 0);
		fill(b->p[i], 4, (unsigned)i);
	}
	return p;
}

static void child_detaches(void *arg)
{
	struct books *b = arg;
	struct umm_ctx *ctx = b->env->ctx;
	struct umm_stats stats = { .size = sizeof(stats) };

	hooks_off();
	umm_detach(ctx, books_victim(b));
	for (size_t i = 0; i < NALLOCS; i++) {
		if (i == NALLOCS / 2)
			continue;
		for (size_t k = 0; k < 4; k++)
			child_check(filled_at(b->p[i], k, (unsigned)i));
		child_check(umm_detach(ctx, b->p[i]) == 0);
		child_check(umm_detach(ctx, b->p[i]) == -EFAULT);
	}
	child_check(umm_ctx_stats(ctx, &stats) == 0);
	child_check(stats.managed_bytes == 0);
	child_check(umm_attach(ctx, b->p[0], 4 * PAGE) == 0);
	child_check(umm_attach(ctx, b->p[0], 4 * PAGE) == -EEXIST);
	umm_ctx_put(ctx);
}

static void change_small(void *arg)
{
	struct books *b = arg;

	if (b->change == FREED)
		umm_detach(b->env->ctx, books_victim(b));
	else
		change_run(b);
}

static void child_born_amid_a_change_of_small_ranges_has_whole_books(struct env *e)
{
	struct ref_device *ref = env_device(e, 64);
	struct books b = { .env = e };
	struct forker f = { .child = child_detaches, .arg = &b };
	struct actor changer;

	for (b.change = FREED; b.change < NR_CHANGES; b.change++) {
		char *p = books_attach(&b);

		b.to = env_map(e, BLOCK);
		/* So that the events of all of them are heard of. */
		to_device(e, ref, p, 1, 1);
		fork_begins(&f);
		hook_set(HOOK_REGION_OUT, stop_other, NULL);
		actor_start(&changer, change_small, &b);
		assert_true(stop_arrived(&other_stop));
		fork_happens(&f);
		actor_join(&changer);
		assert_true(f.right);
		for (size_t i = 0; i < NALLOCS; i++)
			if (b.p[i] != books_victim(&b))
				assert_filled(b.p[i], 4, (unsigned)i);
		for (size_t i = 0; i < NALLOCS; i++)
			umm_detach(e->ctx, b.p[i]);
		umm_detach(e->ctx, b.to);
	}
}

struct prefetcher {
	struct scene scene;
	struct umm_prefetch want;
	struct umm_span span;
	long moved;
};

static void prefetch_run(void *arg)
{
	struct prefetcher *pre = arg;

	pre->moved = umm_prefetch(pre->scene.env->ctx, &pre->want, NULL);
}

/* What was on its way is the parent's; where it was to go is gone. */
static void child_prefetches(void *arg)
{
	struct prefetcher *pre = arg;
	struct umm_ctx *mine;

	hooks_off();
	/* ThreadSanitizer cannot start threads in a child of threads. */
	if (!HARNESS_TSAN) {
		child_check(umm_ctx_create(NULL, &mine) == 0);
		umm_ctx_put(mine);
	}
	child_check(umm_prefetch(pre->scene.env->ctx, &pre->want, NULL) < 0);
	child_sees(&pre->scene);
	umm_ctx_put(pre->scene.env->ctx);
}

static void child_born_amid_a_prefetch_makes_and_closes_contexts(struct env *e)
{
	struct ref_device *ref = env_device(e, 64);
	char *p = env_alloc_small(e, NPAGES * PAGE);
	struct prefetcher pre = {
		.scene = { e, p },
		.span = { (uintptr_t)p, NPAGES * PAGE },
	};
	struct forker f = { .child = child_prefetches, .arg = &pre };
	struct actor prefetcher;

	pre.want = (struct umm_prefetch){
		.size = sizeof(pre.want),
		.spans = &pre.span,
		.nspans = 1,
		.dst = ref->mem,
	};
	fill(p, NPAGES, 1);
	fork_begins(&f);
	hook_set(HOOK_LISTED, stop_other, NULL);
	actor_start(&prefetcher, prefetch_run, &pre);
	assert_true(stop_arrived(&other_stop));
	fork_happens(&f);
	actor_join(&prefetcher);
	assert_true(f.right);
	/* Pages that the child shares may stay. */
	assert_true(pre.moved >= 0);
	assert_filled(p, NPAGES, 1);
}

/* ---- callbacks ---------------------------------------------------------------------- */

static int fork_here(void *priv, const struct umm_notifier_range *range)
{
	int *status = priv, pid = fork();

	(void)range;
	if (!pid)
		_exit(7);
	waitpid(pid, status, 0);
	return 0;
}

static void fork_from_a_callback_does_not_wait_for_what_it_is_called_for(struct env *e)
{
	static const struct umm_notifier_ops ops = { .size = sizeof(ops), .invalidate = fork_here };
	struct ref_device *ref = env_device(e, 64);
	char *p = env_alloc_small(e, NPAGES * PAGE);
	struct umm_span span = { (uintptr_t)p, NPAGES * PAGE };
	struct umm_notifier *notifier;
	int status = 0;

	fill(p, NPAGES, 1);
	assert_int_equal(umm_notifier_insert(e->ctx, &span, &ops, &status, &notifier), 0);
	/* Pages that are shared with a child by now may stay. */
	assert_true(migrate(e, ref, p, NPAGES, 0) >= 0);
	assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 7);
	assert_int_equal(umm_notifier_remove(notifier), 0);
	assert_filled(p, NPAGES, 1);
	/* And later ones bring home what there is. */
	assert_true(umm_migrate_to_system(e->ctx, p, NPAGES * PAGE) >= 0);
	to_device(e, ref, p, NPAGES, NPAGES);
	assert_true(in_child(child_sees, &(struct scene){ e, p }));
}

static const struct test_case cases[] = {
	TEST(ALL, faults_and_allocations_go_on_while_a_fork_is_being_made),
	TEST(ONCE, child_born_amid_a_change_of_the_books_has_whole_ones),
	TEST(ONCE, child_born_amid_a_change_of_small_ranges_has_whole_books),
	TEST(ONCE, child_born_amid_a_prefetch_makes_and_closes_contexts),
	TEST(ALL, fork_from_a_callback_does_not_wait_for_what_it_is_called_for),
};

int main(int argc, char **argv)
{
	harness_cleanup(let_go);
	return harness_main("test_fork_locks", cases, sizeof(cases) / sizeof(cases[0]), argc, argv);
}
