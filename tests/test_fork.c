/* SPDX-License-Identifier: MIT */
/*
 * fork and its relatives: the child has ordinary memory with the parent's data, on both
 * sides of the fork it is a snapshot, and devices stay with the parent.
 */
#include "harness.h"

#include <errno.h>
#include <fcntl.h>
#include <spawn.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#define BLOCK_PAGES UMM_BLOCK_PAGES

/* What a child is to find and do. */
struct scene {
	struct env *env;
	struct ref_device *ref;
	char *p;
	size_t npages;
	unsigned seed;
};

static bool all_filled(const char *p, size_t npages, unsigned seed)
{
	size_t i;

	for (i = 0; i < npages; i++)
		if (!filled_at(p, i, seed))
			return false;
	return true;
}

static void child_sees(void *arg)
{
	struct scene *s = arg;

	child_check(all_filled(s->p, s->npages, s->seed));
}

static void child_overwrites(void *arg)
{
	struct scene *s = arg;

	child_check(all_filled(s->p, s->npages, s->seed));
	fill(s->p, s->npages, s->seed + 1);
	child_check(all_filled(s->p, s->npages, s->seed + 1));
}

/* ---- a snapshot --------------------------------------------------------------------- */

static void child_sees_the_parents_data_of_device_pages(struct env *e)
{
	struct ref_device *ref = env_device(e, 2 * BLOCK_PAGES);
	char *p = env_alloc(e, BLOCK + 20 * PAGE);
	struct scene s = { e, ref, p, BLOCK_PAGES + 20, 1 };

	fill(p, s.npages, 1);
	to_device(e, ref, p + 5 * PAGE, BLOCK_PAGES, BLOCK_PAGES);
	env_mark(e);
	assert_true(in_child(child_sees, &s));
	/* Coherent pages may stay: the child can have ordinary copies of them. */
	if (e->variant.type == UMM_DEVMEM_PRIVATE) {
		assert_delta(e, UMM_COUNT_TO_SYSTEM + UMM_CAUSE_FORK, BLOCK_PAGES);
		assert_free_frames(ref, 2 * BLOCK_PAGES);
	}
	assert_filled(p, s.npages, 1);
}

static void child_sees_what_the_device_wrote(struct env *e)
{
	struct ref_device *ref = env_device(e, 64);
	char *p = env_alloc(e, 16 * PAGE);
	struct scene s = { e, ref, p, 16, 7 };

	device_fill(ref, p, 16, 7);
	assert_true(in_child(child_sees, &s));
	assert_filled(p, 16, 7);
}

static void childs_writes_do_not_reach_the_parent(struct env *e)
{
	struct ref_device *ref = env_device(e, 2 * BLOCK_PAGES);
	char *p = env_alloc(e, BLOCK);
	struct scene s = { e, ref, p, BLOCK_PAGES, 1 };

	fill(p, BLOCK_PAGES, 1);
	to_device(e, ref, p, BLOCK_PAGES / 2, BLOCK_PAGES / 2);
	assert_true(in_child(child_overwrites, &s));
	assert_filled(p, BLOCK_PAGES, 1);
	assert_device_sees(ref, p, BLOCK_PAGES, 1);
}

static void parents_writes_do_not_reach_the_child(struct env *e)
{
	struct ref_device *ref = env_device(e, 64);
	char *p = env_alloc(e, 16 * PAGE), byte = 0;
	struct scene s = { e, ref, p, 16, 1 };
	int pair[2], pid;

	assert_int_equal(pipe(pair), 0);
	fill(p, 16, 1);
	to_device(e, ref, p, 16, 16);
	pid = fork();
	assert_true(pid >= 0);
	if (pid == 0) { /* looks only after the parent has written */
		alarm(120);
		close(pair[1]);
		child_check(read(pair[0], &byte, 1) == 1);
		child_sees(&s);
		_exit(0);
	}
	fill(p, 16, 2);
	to_device(e, ref, p, 16, 16);
	device_fill(ref, p, 8, 3);
	assert_int_equal(write(pair[1], "x", 1), 1);
	assert_true(child_wait(pid));
	close(pair[0]);
	close(pair[1]);
	assert_filled(p, 8, 3);
	assert_filled_part(p, 8, 8, 2);
}

static void duplicates_and_attached_memory_fork_too(struct env *e)
{
	struct ref_device *ref = env_device(e, 64);
	char *p = env_attach(e, 24 * PAGE);
	struct scene s = { e, ref, p, 24, 1 };

	fill(p, 24, 1);
	to_device(e, ref, p, 8, 8);
	assert_int_equal(migrate(e, ref, p + 8 * PAGE, 8, UMM_MIGRATE_DUPLICATE), 8);
	assert_true(in_child(child_overwrites, &s));
	assert_filled(p, 24, 1);
	assert_device_sees(ref, p, 24, 1);
	fill(p, 24, 2);
	assert_device_sees(ref, p, 24, 2);
}

static void pages_migrate_again_after_a_fork(struct env *e)
{
	struct ref_device *ref = env_device(e, 2 * BLOCK_PAGES);
	char *p = env_alloc(e, BLOCK);
	struct scene s = { e, ref, p, BLOCK_PAGES, 0 };
	struct umm_span span = { (uintptr_t)p, BLOCK };
	/* or a prefetch that is late brings home what has just been migrated */
	struct umm_advice advice = { .size = sizeof(advice),
				     .spans = &span,
				     .nspans = 1,
				     .hint = UMM_HINT_READAHEAD,
				     .readahead = UMM_READAHEAD_OFF };
	unsigned i;

	assert_int_equal(umm_advise(e->ctx, &advice), 0);
	for (i = 0; i < 4; i++) {
		fill(p, BLOCK_PAGES, i);
		assert_true(migrate(e, ref, p, BLOCK_PAGES, 0) >= 0);
		assert_state(e, p, BLOCK_PAGES, env_home(e));
		s.seed = i;
		assert_true(in_child(child_sees, &s));
		to_device(e, ref, p, BLOCK_PAGES,
			  (long)(BLOCK_PAGES - count_state(e, p, BLOCK_PAGES, env_home(e))));
		assert_state(e, p, BLOCK_PAGES, env_home(e));
		assert_device_sees(ref, p, BLOCK_PAGES, i);
		assert_filled(p, BLOCK_PAGES, i);
	}
}

static void child_waits(void *arg)
{
	char byte;

	child_check(read(*(int *)arg, &byte, 1) == 0);
}

/* Pages that a living child shares can neither be moved away from it nor change for it. */
static void pages_migrate_while_the_child_lives(struct env *e)
{
	struct ref_device *ref = env_device(e, 2 * BLOCK_PAGES);
	char *p = env_alloc(e, BLOCK);
	int pair[2], pid;

	fill(p, BLOCK_PAGES, 1);
	to_device(e, ref, p, 100, 100);
	assert_int_equal(pipe2(pair, O_CLOEXEC), 0);
	pid = fork();
	assert_true(pid >= 0);
	if (pid == 0) {
		alarm(120);
		close(pair[1]);
		child_waits(&pair[0]);
		child_check(all_filled(p, BLOCK_PAGES, 1));
		_exit(0);
	}
	to_device(e, ref, p, BLOCK_PAGES, BLOCK_PAGES);
	device_fill(ref, p, BLOCK_PAGES, 2);
	assert_filled(p, BLOCK_PAGES, 2);
	close(pair[1]);
	assert_true(child_wait(pid));
	close(pair[0]);
}

static void untouched_memory_stays_untouched(struct env *e)
{
	struct ref_device *ref = env_device(e, 64);
	char *p = env_alloc_small(e, BLOCK);
	struct scene s = { e, ref, p, 4, 1 };

	fill(p, 4, 1);
	to_device(e, ref, p, 4, 4);
	assert_true(in_child(child_sees, &s));
	assert_state(e, p + 4 * PAGE, BLOCK_PAGES - 4, UMM_PAGE_EMPTY);
	assert_zero(p + 4 * PAGE, 4);
}

/* ---- what a child may do ------------------------------------------------------------ */

static void child_frees_and_allocates(void *arg)
{
	struct scene *s = arg;
	void *q;

	child_check(umm_free(s->env->ctx, s->p + PAGE) == -EFAULT);
	child_check(umm_alloc(s->env->ctx, 8 * PAGE, 0, &q) == 0);
	fill(q, 8, 5);
	child_check(all_filled(q, 8, 5));
	child_check(all_filled(s->p, s->npages, s->seed));
	child_check(umm_free(s->env->ctx, s->p) == 0);
	child_check(umm_free(s->env->ctx, s->p) == -EFAULT);
	child_check(umm_free(s->env->ctx, q) == 0);
	child_check(umm_alloc(s->env->ctx, BLOCK, 0, &q) == 0);
	fill(q, 8, 6);
	child_check(all_filled(q, 8, 6));
}

static void child_frees_and_allocates_without_harm(struct env *e)
{
	struct ref_device *ref = env_device(e, 64);
	char *p = env_alloc(e, 16 * PAGE);
	struct scene s = { e, ref, p, 16, 1 };

	fill(p, 16, 1);
	to_device(e, ref, p, 16, 16);
	assert_true(in_child(child_frees_and_allocates, &s));
	assert_filled(p, 16, 1);
	assert_int_equal(umm_free(e->ctx, p), 0);
}

static void child_drops_the_context(void *arg)
{
	struct scene *s = arg;

	umm_ctx_put(s->env->ctx);
}

static void child_puts_the_context_without_harm(struct env *e)
{
	struct ref_device *ref = env_device(e, 64);
	char *p = env_alloc(e, 16 * PAGE), *q = env_attach(e, 8 * PAGE);
	struct scene s = { e, ref, p, 16, 1 };

	fill(p, 16, 1);
	fill(q, 8, 2);
	to_device(e, ref, p, 16, 16);
	to_device(e, ref, q, 8, 8);
	assert_true(in_child(child_drops_the_context, &s));
	to_device(e, ref, p, 16, 16);
	to_device(e, ref, q, 8, 8);
	assert_filled(p, 16, 1);
	assert_filled(q, 8, 2);
}

static void child_exits(void *arg)
{
	(void)arg;
	exit(0);
}

static void child_exits_without_harm(struct env *e)
{
	struct ref_device *ref = env_device(e, 64);
	char *p = env_alloc(e, 16 * PAGE);

	fill(p, 16, 1);
	to_device(e, ref, p, 16, 16);
	assert_true(in_child(child_exits, NULL));
	to_device(e, ref, p, 16, 16);
	assert_filled(p, 16, 1);
}

static int quiet_invalidate(void *priv, const struct umm_notifier_range *range)
{
	(void)priv;
	(void)range;
	return 0;
}

static void quiet_release(void *priv)
{
	(void)priv;
}

static const struct umm_mirror_ops quiet_ops = {
	.size = sizeof(struct umm_mirror_ops),
	.invalidate = quiet_invalidate,
	.release = quiet_release,
};

static void child_asks_for_devices(void *arg)
{
	struct umm_devmem_options memory = { .size = sizeof(memory), .nframes = 8 };
	struct ref_options options = { .nframes = 8, .inline_copy = true };
	struct scene *s = arg;
	struct umm_devmem *mem;
	struct umm_mirror *mirror;
	struct ref_device *ref;
	uint32_t frame;

	child_check(ref_create(s->env->ctx, &options, &ref) == -ENODEV);
	child_check(umm_devmem_add(s->ref->dev, &memory, &mem) == -ENODEV);
	child_check(umm_mirror_register(s->ref->dev, &quiet_ops, NULL, &mirror) == -ENODEV);
	child_check(umm_devmem_alloc(s->ref->mem, 1, &frame) == -ENODEV);
	child_check(umm_migrate_to_device(s->env->ctx, s->ref->mem, s->p, PAGE) == -ENODEV);
	child_check(all_filled(s->p, s->npages, s->seed));
}

static void devices_stay_with_the_parent(struct env *e)
{
	struct ref_device *ref = env_device(e, 64);
	char *p = env_alloc(e, 16 * PAGE);
	struct scene s = { e, ref, p, 16, 1 };

	if (HARNESS_TSAN && ref_backend_used())
		env_skip("ThreadSanitizer does not follow threads that a forked child starts");
	fill(p, 16, 1);
	to_device(e, ref, p, 16, 16);
	assert_true(in_child(child_asks_for_devices, &s));
	to_device(e, ref, p, 16, 16);
	assert_filled(p, 16, 1);
}

struct listeners {
	struct env *env;
	struct umm_mirror *mirror;
	struct umm_notifier *removed, *left;
	bool released;
};

static void note_release(void *priv)
{
	*(bool *)priv = true;
}

static void child_drops_its_listeners(void *arg)
{
	struct umm_notifier_ops ops = { .size = sizeof(ops), .invalidate = quiet_invalidate };
	struct umm_span span = { PAGE, PAGE };
	struct listeners *l = arg;
	struct umm_notifier *notifier;

	child_check(umm_notifier_insert(l->env->ctx, &span, &ops, NULL, &notifier) == -ENODEV);
	child_check(umm_notifier_remove(l->removed) == 0);
	child_check(umm_notifier_remove(l->removed) == -EINVAL);
	child_check(umm_mirror_unregister(l->mirror) == 0);
	child_check(umm_mirror_unregister(l->mirror) == -EINVAL);
	child_check(!l->released);
	umm_ctx_put(l->env->ctx);
	umm_ctx_put(l->env->ctx);
	child_check(umm_notifier_remove(l->left) == -EINVAL);
	child_check(umm_bring_home(l->env->ctx) == -EINVAL);
}

static void child_drops_what_listens_without_a_call(struct env *e)
{
	struct umm_notifier_ops ops = { .size = sizeof(ops), .invalidate = quiet_invalidate };
	struct umm_mirror_ops mirror_ops = quiet_ops;
	struct ref_device *ref = env_device(e, 64);
	struct umm_span span = { PAGE, PAGE };
	struct listeners l = { .env = e };

	mirror_ops.release = note_release;
	assert_int_equal(umm_mirror_register(ref->dev, &mirror_ops, &l.released, &l.mirror), 0);
	assert_int_equal(umm_notifier_insert(e->ctx, &span, &ops, NULL, &l.removed), 0);
	assert_int_equal(umm_notifier_insert(e->ctx, &span, &ops, NULL, &l.left), 0);
	assert_true(in_child(child_drops_its_listeners, &l));
	assert_int_equal(umm_notifier_remove(l.removed), 0);
	assert_int_equal(umm_mirror_unregister(l.mirror), 0);
	assert_true(l.released);
}

static void child_makes_its_own_context(void *arg)
{
	struct scene *s = arg;
	struct umm_ctx_options ctx_options = {
		.size = sizeof(ctx_options),
		.flags = s->env->variant.ctx_flags,
		.kernel_features_off = s->env->variant.features_off,
	};
	struct ref_options options = { .nframes = 64,
				       .type = s->env->variant.type,
				       .inline_copy = s->env->variant.inline_copy };
	struct ref_device *ref;
	struct umm_ctx *ctx;
	void *q;
	size_t i;

	child_check(umm_ctx_create(&ctx_options, &ctx) == 0);
	child_check(ref_create(ctx, &options, &ref) == 0);
	child_check(umm_alloc(ctx, 16 * PAGE, 0, &q) == 0);
	fill(q, 16, 9);
	child_check(umm_migrate_to_device(ctx, ref->mem, q, 16 * PAGE) == 16);
	child_check(all_filled(q, 16, 9));
	/* And the memory it inherited, which is ordinary memory now. */
	child_check(umm_attach(ctx, s->p, s->npages * PAGE) == 0);
	child_check(umm_migrate_to_device(ctx, ref->mem, s->p, s->npages * PAGE) ==
		    (long)s->npages);
	for (i = 0; i < s->npages; i++)
		child_check(filled_at(s->p, i, s->seed));
	umm_ctx_put(ctx);
	child_check(ref_destroy(ref));
	child_check(all_filled(s->p, s->npages, s->seed));
}

static void child_has_a_context_and_a_device_of_its_own(struct env *e)
{
	struct ref_device *ref = env_device(e, 64);
	char *p = env_alloc(e, 16 * PAGE);
	struct scene s = { e, ref, p, 16, 1 };
	const char *backend = getenv("UMM_TEST_BACKEND");

	if (HARNESS_TSAN)
		env_skip("ThreadSanitizer cannot start threads in a child of threads");
	if (backend && strcmp(backend, "opencl") == 0)
		env_skip("OpenCL does not survive fork()");
	fill(p, 16, 1);
	to_device(e, ref, p, 16, 16);
	assert_true(in_child(child_makes_its_own_context, &s));
	to_device(e, ref, p, 16, 16);
	assert_filled(p, 16, 1);
}

static void child_forks(void *arg)
{
	struct scene *s = arg;
	bool good;

	child_check(all_filled(s->p, s->npages, s->seed));
	good = in_child(child_overwrites, arg);
	child_check(good);
	child_check(all_filled(s->p, s->npages, s->seed));
}

static void grandchildren_see_the_data_too(struct env *e)
{
	struct ref_device *ref = env_device(e, 64);
	char *p = env_alloc(e, 16 * PAGE);
	struct scene s = { e, ref, p, 16, 1 };

	fill(p, 16, 1);
	to_device(e, ref, p, 16, 16);
	assert_true(in_child(child_forks, &s));
	assert_filled(p, 16, 1);
}

/* ---- relatives ---------------------------------------------------------------------- */

static void child_execs(void *arg)
{
	(void)arg;
	execl("/bin/true", "true", (char *)NULL);
	child_check(!"exec failed");
}

static void fork_and_exec_works(struct env *e)
{
	struct ref_device *ref = env_device(e, 64);
	char *p = env_alloc(e, 16 * PAGE);

	fill(p, 16, 1);
	to_device(e, ref, p, 16, 16);
	assert_true(in_child(child_execs, NULL));
	assert_filled(p, 16, 1);
	to_device(e, ref, p, 16, 16);
	assert_filled(p, 16, 1);
}

static void vfork_leaves_device_pages_alone(struct env *e)
{
	struct ref_device *ref = env_device(e, 64);
	char *p = env_alloc(e, 16 * PAGE);
	pid_t pid;

	if (HARNESS_TSAN)
		env_skip("ThreadSanitizer makes a fork of every vfork");
	fill(p, 16, 1);
	to_device(e, ref, p, 16, 16);
	pid = vfork();
	if (pid == 0) {
		execl("/bin/true", "true", (char *)NULL);
		_exit(1);
	}
	assert_true(child_wait(pid));
	assert_state(e, p, 16, env_home(e));
	assert_filled(p, 16, 1);
}

static void posix_spawn_leaves_device_pages_alone(struct env *e)
{
	char name[] = "true", *argv[] = { name, NULL };
	struct ref_device *ref = env_device(e, 64);
	char *p = env_alloc(e, 16 * PAGE);
	pid_t pid;

	fill(p, 16, 1);
	to_device(e, ref, p, 16, 16);
	assert_int_equal(posix_spawn(&pid, "/bin/true", NULL, NULL, argv, environ), 0);
	assert_true(child_wait(pid));
	assert_state(e, p, 16, env_home(e));
	assert_filled(p, 16, 1);
}

/* ---- while others are at it --------------------------------------------------------- */

#define BUSY_THREADS 3
#define BUSY_PAGES   64

struct busy {
	struct actor actor;
	struct env *env;
	struct ref_device *ref;
	char *p;
	atomic_bool *stop;
	unsigned rounds;
	long error; /* of a migration */
	bool wrong; /* what is in a page */
};

/* Migrate to and fro, and check by touching. */
static void busy_run(void *arg)
{
	struct busy *b = arg;
	long ret;
	size_t i;

	while (!atomic_load(b->stop)) {
		ret = migrate(b->env, b->ref, b->p, BUSY_PAGES, 0);
		if (ret < 0)
			b->error = ret;
		for (i = 0; i < BUSY_PAGES; i += 2)
			b->wrong |= !filled_at(b->p, i, 3);
		ret = umm_migrate_to_system(b->env->ctx, b->p, BUSY_PAGES * PAGE);
		if (ret < 0)
			b->error = ret;
		b->rounds++;
	}
}

static void forks_while_others_migrate_and_fault(struct env *e)
{
	/* Room for all, and for what a fork still brings home. */
	struct ref_device *ref = env_device(e, 2 * (BUSY_THREADS + 1) * BUSY_PAGES);
	char *p = env_alloc(e, (BUSY_THREADS + 1) * BUSY_PAGES * PAGE);
	struct busy busy[BUSY_THREADS];
	atomic_bool stop = false;
	struct scene s = { e, ref, p, BUSY_PAGES, 3 };
	unsigned i, nright = 0;

	for (i = 0; i <= BUSY_THREADS; i++)
		fill(p + (size_t)i * BUSY_PAGES * PAGE, BUSY_PAGES, 3);
	to_device(e, ref, p + BUSY_THREADS * BUSY_PAGES * PAGE, BUSY_PAGES, BUSY_PAGES);
	for (i = 0; i < BUSY_THREADS; i++) {
		busy[i] = (struct busy){
			.env = e, .ref = ref, .stop = &stop, .p = p + (size_t)i * BUSY_PAGES * PAGE
		};
		actor_start(&busy[i].actor, busy_run, &busy[i]);
	}
	for (i = 0; i < 12; i++) {
		/* One of the busy threads' pages, then quiet ones. */
		s.p = p + (size_t)(i % (BUSY_THREADS + 1)) * BUSY_PAGES * PAGE;
		nright += in_child(i % 2 ? child_sees : child_overwrites, &s);
	}
	atomic_store(&stop, true);
	for (i = 0; i < BUSY_THREADS; i++)
		actor_join(&busy[i].actor);
	assert_int_equal(nright, 12);
	for (i = 0; i < BUSY_THREADS; i++) {
		assert_int_equal(busy[i].error, 0);
		assert_false(busy[i].wrong);
	}
	for (i = 0; i <= BUSY_THREADS; i++)
		assert_filled(p + (size_t)i * BUSY_PAGES * PAGE, BUSY_PAGES, 3);
}

/* Ask for pages to come home ahead of need, which looks up the hint of each. */
static void ahead_run(void *arg)
{
	struct busy *b = arg;
	struct umm_span span = { (uintptr_t)b->p, BLOCK };
	struct umm_migrate_request req = {
		.size = sizeof(req),
		.flags = UMM_MIGRATE_AHEAD,
		.spans = &span,
		.nspans = 1,
	};

	while (!atomic_load(b->stop)) {
		b->wrong |= umm_migrate_spans(b->env->ctx, &req, NULL) < 0;
		b->rounds++;
	}
}

static void child_does_nothing(void *arg)
{
	(void)arg;
}

/* What looks up hints has a block locked, and a fork looks into all blocks. */
static void forks_while_hints_are_looked_up(struct env *e)
{
	struct ref_device *ref = env_device(e, UMM_BLOCK_PAGES);
	struct busy busy = { .env = e, .ref = ref, .p = env_attach(e, BLOCK) };
	struct umm_span spans[UMM_BLOCK_PAGES / 2];
	struct umm_advice advice = {
		.size = sizeof(advice),
		.spans = spans,
		.nspans = UMM_BLOCK_PAGES / 2,
		.hint = UMM_HINT_LATENCY_CRITICAL,
	};
	unsigned forks = HARNESS_ASAN ? 10 : 200; /* each waits for the busy thread, in vain */
	atomic_bool stop = false;

	for (size_t i = 0; i < UMM_BLOCK_PAGES / 2; i++)
		spans[i] = (struct umm_span){ (uintptr_t)busy.p + 2 * i * PAGE, PAGE };
	fill(busy.p, UMM_BLOCK_PAGES, 3);
	to_device(e, ref, busy.p, UMM_BLOCK_PAGES, UMM_BLOCK_PAGES);
	assert_int_equal(umm_advise(e->ctx, &advice), 0);
	busy.stop = &stop;
	actor_start(&busy.actor, ahead_run, &busy);
	for (unsigned i = 0; i < forks; i++)
		assert_true(in_child(child_does_nothing, NULL));
	atomic_store(&stop, true);
	actor_join(&busy.actor);
	assert_false(busy.wrong);
	assert_true(busy.rounds);
	assert_filled(busy.p, UMM_BLOCK_PAGES, 3);
}

static void forker(void *arg)
{
	struct scene *s = arg;
	unsigned i;

	for (i = 0; i < 5; i++)
		if (!in_child(child_overwrites, s))
			s->seed = 999;
}

static void many_threads_fork_at_once(struct env *e)
{
	struct ref_device *ref = env_device(e, 64);
	char *p = env_alloc(e, 16 * PAGE);
	struct scene s[4];
	struct actor actors[4];
	unsigned i;

	fill(p, 16, 1);
	to_device(e, ref, p, 16, 16);
	for (i = 0; i < 4; i++) {
		s[i] = (struct scene){ e, ref, p, 16, 1 };
		actor_start(&actors[i], forker, &s[i]);
	}
	for (i = 0; i < 4; i++)
		actor_join(&actors[i]);
	for (i = 0; i < 4; i++)
		assert_int_equal(s[i].seed, 1);
	assert_filled(p, 16, 1);
}

static void child_touches_a_lost_page(void *arg)
{
	struct scene *s = arg;
	char *lost = s->p + 9 * PAGE;

	child_check(all_filled(s->p, s->npages, s->seed));
	child_check(touch_read(lost) == SIGBUS);
	child_check(touch_write(lost) == SIGBUS);
	child_check(umm_clear_poison(s->env->ctx, (uintptr_t)lost, 1, NULL) == -ENODEV);
	/* It may map something of its own there. */
	child_check(mmap(lost, PAGE, PROT_READ | PROT_WRITE,
			 MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) == lost);
	child_check(touch_write(lost) == 0);
	child_check(touch_read(s->p + 10 * PAGE) == SIGBUS);
}

/* Of a device that gives nothing back: pages are lost on the way to the child. */
static void fork_with_a_lost_page(struct env *e)
{
	struct ref_device *ref = env_device(e, 64);
	char *p = env_alloc_small(e, 16 * PAGE);
	struct scene s = { e, ref, p, 8, 1 };

	fill(p, 16, 1);
	to_device(e, ref, p + 8 * PAGE, 8, 8);
	ref_fail(ref, &(struct ref_failure){ .error = -EIO, .from_device = true });
	assert_true(in_child(child_touches_a_lost_page, &s));
	ref_fail(ref, NULL);
	assert_int_equal(touch_read(p + 9 * PAGE), SIGBUS);
	assert_filled(p, 8, 1);
}

/* Two frames fail; later there is a fork. */
static void a_child_gets_no_page_that_was_lost_before(struct env *e)
{
	struct ref_device *ref = env_device(e, 64);
	char *p = env_alloc_small(e, 16 * PAGE);
	struct scene s = { e, ref, p, 9, 1 };
	struct umm_page_info info[2];

	fill(p, 16, 1);
	to_device(e, ref, p, 16, 16);
	assert_int_equal(umm_query(e->ctx, (uintptr_t)p + 9 * PAGE, 2, info), 0);
	for (unsigned k = 0; k < 2; k++)
		assert_int_equal(umm_memory_failure(ref->mem, info[k].frame, 1), 1);
	assert_true(in_child(child_touches_a_lost_page, &s));
	assert_int_equal(touch_read(p + 9 * PAGE), SIGBUS);
	assert_int_equal(umm_clear_poison(e->ctx, (uintptr_t)p + 9 * PAGE, 2, NULL), 2);
	assert_zero(p + 9 * PAGE, 2);
	assert_filled(p, 9, 1);
	assert_filled_part(p, 11, 5, 1);
}

static const struct test_case cases[] = {
	TEST(ALL, child_sees_the_parents_data_of_device_pages),
	TEST(ALL, child_sees_what_the_device_wrote),
	TEST(ALL, childs_writes_do_not_reach_the_parent),
	TEST(ALL, parents_writes_do_not_reach_the_child),
	TEST(ALL, duplicates_and_attached_memory_fork_too),
	TEST(ALL, pages_migrate_again_after_a_fork),
	TEST(ALL, pages_migrate_while_the_child_lives),
	TEST(KERNEL, untouched_memory_stays_untouched),
	TEST(ALL, child_frees_and_allocates_without_harm),
	TEST(ALL, child_puts_the_context_without_harm),
	TEST(ALL, child_exits_without_harm),
	TEST(ALL, devices_stay_with_the_parent),
	TEST(ONCE, child_drops_what_listens_without_a_call),
	TEST(ALL, child_has_a_context_and_a_device_of_its_own),
	TEST(ALL, grandchildren_see_the_data_too),
	TEST(ALL, fork_and_exec_works),
	TEST(ALL, vfork_leaves_device_pages_alone),
	TEST(ALL, posix_spawn_leaves_device_pages_alone),
	TEST(ALL, forks_while_others_migrate_and_fault),
	TEST(ONCE, forks_while_hints_are_looked_up),
	TEST(ALL, many_threads_fork_at_once),
	TEST(ALL, fork_with_a_lost_page),
	TEST(ALL, a_child_gets_no_page_that_was_lost_before),
};

int main(int argc, char **argv)
{
	return harness_main("test_fork", cases, sizeof(cases) / sizeof(cases[0]), argc, argv);
}
