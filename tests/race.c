/* SPDX-License-Identifier: MIT */
/* See race.h. What runs in threads of its own asserts nothing: it leaves ret and wrong. */
#include "race.h"

#include <errno.h>
#include <sys/mman.h>

void act_migrate(void *arg)
{
	struct act *a = arg;

	a->ret = migrate(a->env, a->ref, a->p, a->npages, 0);
}

void act_duplicate(void *arg)
{
	struct act *a = arg;

	a->ret = migrate(a->env, a->ref, a->p, a->npages, UMM_MIGRATE_DUPLICATE);
}

void act_exclusive(void *arg)
{
	struct act *a = arg;

	a->ret = ref_make_exclusive(a->ref, (uintptr_t)a->p, a->npages);
}

void act_drop(void *arg)
{
	struct act *a = arg;

	a->ret = madvise(a->p, a->npages * PAGE, MADV_DONTNEED);
}

void act_unmap(void *arg)
{
	struct act *a = arg;
	void *map = mmap(a->p, a->npages * PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED,
			 -1, 0);

	a->ret = map == a->p ? 0 : -errno;
}

void act_free(void *arg)
{
	struct act *a = arg;

	a->ret = umm_free(a->env->ctx, a->p);
}

void act_read(void *arg)
{
	struct act *a = arg;

	for (size_t i = 0; i < a->npages; i++)
		a->wrong |= !filled_at(a->p, i, 1);
}

void act_write(void *arg)
{
	struct act *a = arg;

	fill(a->p, a->npages, 2);
}

void act_destroy(void *arg)
{
	struct act *a = arg;

	umm_device_destroy(a->ref->dev);
}

static void child_reads_and_writes(void *arg)
{
	struct act *a = arg;

	act_read(a);
	child_check(!a->wrong);
	act_write(a);
	for (size_t i = 0; i < a->npages; i++)
		child_check(filled_at(a->p, i, 2));
}

void act_fork(void *arg)
{
	struct act *a = arg;

	a->wrong |= !in_child(child_reads_and_writes, a);
}

void race_start(struct race *r, enum hook_point point, void (*fn)(void *), struct act mover)
{
	*r = (struct race){ .ref = mover.ref, .p = mover.p, .mover = mover };
	hook_arm(point, r->p, mover.npages);
	actor_start(&r->mover_actor, fn, &r->mover);
	assert_true(hook_stopped());
}

void race_begin(struct env *env, struct race *r, bool home, enum hook_point point)
{
	struct ref_device *ref = env_device(env, 64);
	struct act mover = { .env = env, .ref = home ? NULL : ref, .npages = RACE_PAGES };

	mover.p = env_attach(env, RACE_PAGES * PAGE);
	fill(mover.p, RACE_PAGES, 1);
	if (home)
		to_device(env, ref, mover.p, RACE_PAGES, RACE_PAGES);
	race_start(r, point, act_migrate, mover);
	r->ref = ref;
}

void race_other(struct env *env, struct race *r, void (*fn)(void *), size_t first, size_t npages)
{
	r->other = (struct act){
		.env = env, .ref = r->ref, .p = r->p + first * PAGE, .npages = npages
	};
	r->other_runs = true;
	actor_start(&r->other_actor, fn, &r->other);
}

void race_other_join(struct race *r)
{
	actor_join(&r->other_actor);
	r->other_runs = false;
}

void race_go(struct race *r, enum hook_point point)
{
	hook_go(point);
	actor_join(&r->mover_actor);
	if (r->other_runs)
		race_other_join(r);
}

void race_end(struct race *r, enum hook_point point)
{
	race_go(r, point);
	assert_true(r->mover.ret >= 0);
}
