/* SPDX-License-Identifier: MIT */
/* Hints, and prefetches, at the ends of what they name and of the memory that has them. */
#include "hinted.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <pthread.h>
#include <semaphore.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "hooked.h"

/* ---- what they name goes away meanwhile --------------------------------------------- */

/* A call of another thread's, about 8 pages. */
struct asking {
	struct env *env;
	char *p;
	struct umm_advice advice;
	struct umm_prefetch req;
	long ret;
};

static void act_advise(void *arg)
{
	struct asking *asking = arg;
	struct umm_span span = { (uintptr_t)asking->p, 8 * PAGE };

	asking->advice.size = sizeof(asking->advice);
	asking->advice.spans = &span;
	asking->advice.nspans = 1;
	asking->ret = umm_advise(asking->env->ctx, &asking->advice);
}

static void act_prefetch(void *arg)
{
	struct asking *asking = arg;
	struct umm_span span = { (uintptr_t)asking->p, 8 * PAGE };

	asking->req.size = sizeof(asking->req);
	asking->req.spans = &span;
	asking->req.nspans = 1;
	asking->ret = umm_prefetch(asking->env->ctx, &asking->req, NULL);
}

/* It is stopped at the point while the device goes, and then another one comes. */
static struct ref_device *device_goes_during(struct env *e, struct ref_device *ref,
					     enum hook_point point, void (*fn)(void *),
					     struct asking *asking)
{
	struct ref_device *next;
	struct actor actor;

	hook_arm(point, asking->p, 8);
	actor_start(&actor, fn, asking);
	assert_true(hook_stopped());
	env_device_gone(e, ref);
	next = env_device(e, 16);
	hook_go(point);
	actor_join(&actor);
	return next;
}

static void preference_for_a_memory_that_is_being_removed_is_none(struct env *e)
{
	struct ref_device *ref = env_device(e, 16);
	struct asking asking = { .env = e,
				 .p = env_alloc_small(e, 8 * PAGE),
				 .advice = { .hint = UMM_HINT_PREFERRED, .mem = ref->mem } };

	device_goes_during(e, ref, HOOK_HINTING, act_advise, &asking);
	assert_int_equal(asking.ret, -ENODEV);
	assert_int_equal(query(e, asking.p, 8).hints, 0);
	assert_int_equal(query(e, asking.p, 8).mixed, 0);
}

/* The next device, which takes its number, has nothing to do with it. */
static void access_of_a_device_that_is_being_destroyed_is_nobodys(struct env *e)
{
	struct ref_device *ref = env_device(e, 16), *next;
	struct asking asking = { .env = e,
				 .p = env_alloc_small(e, 8 * PAGE),
				 .advice = { .hint = UMM_HINT_ACCESSED_BY, .dev = ref->dev } };
	struct asking other = asking;

	/* It has a number already, from other memory. */
	other.p = env_alloc_small(e, 8 * PAGE);
	act_advise(&other);
	assert_int_equal(other.ret, 0);
	next = device_goes_during(e, ref, HOOK_HINTING, act_advise, &asking);
	assert_int_equal(asking.ret, -ENODEV);
	assert_int_equal(query(e, asking.p, 8).hints, 0);
	other.advice.dev = next->dev;
	act_advise(&other);
	assert_int_equal(other.ret, 0);
	assert_ptr_equal(query(e, other.p, 8).devices[0], next->dev);
	assert_int_equal(query(e, asking.p, 8).mixed, 0);
}

static void prefetch_to_a_removed_memory_does(struct env *e, enum hook_point point)
{
	struct ref_device *ref = env_device(e, 16), *next;
	struct asking asking = { .env = e,
				 .p = env_alloc_small(e, 8 * PAGE),
				 .req = { .dst = ref->mem } };

	fill(asking.p, 8, 1);
	next = device_goes_during(e, ref, point, act_prefetch, &asking);
	assert_int_equal(asking.ret, -ENODEV);
	assert_int_equal(query(e, asking.p, 8).prefetched, 0);
	assert_state(e, asking.p, 8, UMM_PAGE_SYSTEM);
	assert_free_frames(next, 16);
	assert_filled(asking.p, 8, 1);
}

static void target_that_is_being_removed_is_not_kept(struct env *e)
{
	prefetch_to_a_removed_memory_does(e, HOOK_HINTING);
}

static void prefetch_to_a_memory_that_is_being_removed_ends(struct env *e)
{
	prefetch_to_a_removed_memory_does(e, HOOK_PREFETCHING);
}

/* ---- memory goes, and other memory comes in its place -------------------------------- */

enum use {
	UNTOUCHED,
	TOUCHED,
	ON_DEVICE,
	BEEN_ON_DEVICE,
	NR_USES,
};

/* What of it a device has used, the rest of the library's books have, too. */
static void use(struct env *e, struct ref_device *ref, char *p, size_t npages, enum use use)
{
	if (use >= TOUCHED)
		fill(p, npages, 1);
	if (use >= ON_DEVICE)
		to_device(e, ref, p, npages, (long)npages);
	if (use == BEEN_ON_DEVICE)
		to_system(e, p, npages, (long)npages);
}

static void hint(struct env *e, char *p, size_t npages)
{
	struct umm_span span = { (uintptr_t)p, npages * PAGE };
	struct umm_advice advice = {
		.size = sizeof(advice), .spans = &span, .nspans = 1, .hint = UMM_HINT_NO_MIGRATE
	};

	assert_int_equal(umm_advise(e->ctx, &advice), 0);
	assert_int_equal(query(e, p, npages).hints, 1 << UMM_HINT_NO_MIGRATE);
}

static void assert_unhinted(struct env *e, const char *p, size_t npages)
{
	struct umm_span_info info = query(e, p, npages);

	assert_int_equal(info.hints, 0);
	assert_int_equal(info.mixed, 0);
	assert_int_equal(info.prefetched, 0);
}

static bool map_at(char *p, size_t npages, int flags)
{
	return mmap(p, npages * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | flags,
		    -1, 0) == p;
}

/* Another mapping is here now: it begins without, and may be given to the library. */
static void assert_new_owner(struct env *e, char *p, size_t npages)
{
	assert_unhinted(e, p, npages);
	assert_state(e, p, npages, UMM_PAGE_UNMANAGED);
	assert_int_equal(umm_attach(e->ctx, p, npages * PAGE), 0);
	assert_unhinted(e, p, npages);
	hint(e, p, npages);
	assert_int_equal(umm_detach(e->ctx, p), 0);
	assert_unhinted(e, p, npages);
}

/* Nothing is mapped here any more; a thread of the library may have mapped something by now. */
static void assert_free_for_new_owner(struct env *e, char *p, size_t npages)
{
	assert_unhinted(e, p, npages);
	assert_state(e, p, npages, UMM_PAGE_UNMANAGED);
	if (!map_at(p, npages, MAP_FIXED_NOREPLACE))
		return;
	assert_new_owner(e, p, npages);
	assert_int_equal(munmap(p, npages * PAGE), 0);
}

static void mapping_over_hinted_memory_begins_without(struct env *e)
{
	struct ref_device *ref = env_device(e, 64);
	char *p;

	for (enum use how = UNTOUCHED; how < NR_USES; how++) {
		p = env_attach(e, 32 * PAGE);
		use(e, ref, p, 32, how);
		hint(e, p, 32);
		assert_true(map_at(p + 8 * PAGE, 8, MAP_FIXED));
		assert_new_owner(e, p + 8 * PAGE, 8);
		assert_int_equal(query(e, p, 8).hints, 1 << UMM_HINT_NO_MIGRATE);
		assert_int_equal(query(e, p + 16 * PAGE, 16).hints, 1 << UMM_HINT_NO_MIGRATE);
		assert_int_equal(umm_detach(e->ctx, p), 0);
	}
}

static void mapping_where_hinted_memory_was_begins_without(struct env *e)
{
	struct ref_device *ref = env_device(e, 64);
	char *p;

	for (enum use how = UNTOUCHED; how < NR_USES; how++) {
		p = env_alloc_small(e, 32 * PAGE);
		use(e, ref, p, 32, how);
		hint(e, p, 32);
		assert_int_equal(munmap(p, 32 * PAGE), 0);
		/* It is no allocation any more. */
		assert_int_equal(umm_free(e->ctx, p), -EFAULT);
		assert_free_for_new_owner(e, p, 32);
	}
}

static void hints_go_where_memory_goes(struct env *e)
{
	struct ref_device *ref = env_device(e, 64);
	char *p, *to;

	for (enum use how = UNTOUCHED; how < NR_USES; how++) {
		p = env_alloc_small(e, 32 * PAGE);
		to = mmap(NULL, 32 * PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		assert_ptr_not_equal(to, MAP_FAILED);
		use(e, ref, p, 32, how);
		hint(e, p, 32);
		assert_ptr_equal(mremap(p, 32 * PAGE, 32 * PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, to),
				 to);
		assert_int_equal(query(e, to, 32).hints, 1 << UMM_HINT_NO_MIGRATE);
		assert_free_for_new_owner(e, p, 32);
		assert_int_equal(umm_free(e->ctx, to), 0);
		assert_unhinted(e, to, 32);
	}
}

struct asked {
	struct env *env;
	char *p;
	struct umm_span_info info;
	int ret;
};

static void act_query(void *arg)
{
	struct asked *asked = arg;
	struct umm_span span = { (uintptr_t)asked->p, 8 * PAGE };

	asked->info.size = sizeof(asked->info);
	asked->ret = umm_query_spans(asked->env->ctx, &span, 1, &asked->info);
}

/* Who has unmapped memory may ask at once: the message has been read by then, and no more. */
static void query_sees_what_the_program_has_just_unmapped(struct env *e)
{
	struct ref_device *ref = env_device(e, 64);
	struct asked asked = { .env = e, .p = env_attach(e, 8 * PAGE) };
	struct actor actor;

	use(e, ref, asked.p, 8, BEEN_ON_DEVICE);
	hint(e, asked.p, 8);
	hook_arm(HOOK_EVENT_READ, asked.p, 8);
	assert_true(map_at(asked.p, 8, MAP_FIXED));
	actor_start(&actor, act_query, &asked);
	assert_true(actor_blocks(&actor));
	hook_go(HOOK_EVENT_READ);
	actor_join(&actor);
	assert_int_equal(asked.ret, 0);
	assert_int_equal(asked.info.hints, 0);
	assert_int_equal(asked.info.state[UMM_PAGE_UNMANAGED], 8);
}

static void targets_of_prefetches_end_with_the_memory(struct env *e)
{
	char *p = env_attach(e, 16 * PAGE);
	struct asking asking = { .env = e, .p = p };

	act_prefetch(&asking);
	assert_int_equal(asking.ret, 8);
	assert_int_equal(query(e, p, 8).prefetched, 1);
	assert_true(map_at(p, 8, MAP_FIXED));
	assert_new_owner(e, p, 8);
}

/* The rest is kept, so that a later end of it is heard of. */
static void target_is_kept_of_what_is_not_unmapped_meanwhile(struct env *e)
{
	char *p = env_attach(e, 16 * PAGE);
	struct asking asking = { .env = e, .p = p };
	struct actor actor;

	hook_arm(HOOK_HINTING, p, 8);
	actor_start(&actor, act_prefetch, &asking);
	assert_true(hook_stopped());
	assert_int_equal(munmap(p + 4 * PAGE, PAGE), 0);
	hook_go(HOOK_HINTING);
	actor_join(&actor);
	assert_int_equal(query(e, p, 4).prefetched, 1);
	assert_int_equal(query(e, p + 4 * PAGE, 1).prefetched, 0);
	assert_int_equal(query(e, p + 5 * PAGE, 3).prefetched, 1);
	assert_int_equal(query(e, p + 8 * PAGE, 1).prefetched, 0);
}

/* Who hints before the first touch, as most do, waits for nobody because of that. */
static void hinted_memory_costs_no_fault_until_a_device_uses_it(struct env *e)
{
	struct ref_device *ref = env_device(e, 64);
	char *p = env_alloc_small(e, 32 * PAGE);

	hint(e, p, 32);
	env_mark(e);
	fill(p, 32, 1);
	assert_int_equal(madvise(p, 16 * PAGE, MADV_DONTNEED), 0);
	assert_zero(p, 16);
	fill(p, 16, 1);
	assert_int_equal(mprotect(p, 8 * PAGE, PROT_READ), 0);
	assert_int_equal(mprotect(p, 8 * PAGE, PROT_READ | PROT_WRITE), 0);
	assert_filled(p, 32, 1);
	to_device(e, ref, p, 32, 32);
	assert_filled(p, 32, 1);
	to_system(e, p, 32, (long)count_state(e, p, 32, env_home(e)));
	assert_int_equal(env_delta(e, UMM_COUNT_FAULT_EMPTY), 0);
	env_mark(e);
	assert_int_equal(umm_free(e->ctx, p), 0);
	assert_int_equal(env_delta(e, UMM_COUNT_EVENTS), 0);
}

/* A userfaultfd of the program's own. */
static int own_uffd(void)
{
	struct uffdio_api api = { .api = UFFD_API };
	int uffd = (int)syscall(SYS_userfaultfd, O_CLOEXEC | UFFD_USER_MODE_ONLY);

	assert_true(uffd >= 0);
	assert_int_equal(ioctl(uffd, UFFDIO_API, &api), 0);
	return uffd;
}

static int uffd_registers(int uffd, char *p, size_t npages)
{
	struct uffdio_register arg = { .range = { (uintptr_t)p, npages * PAGE },
				       .mode = UFFDIO_REGISTER_MODE_MISSING };

	return ioctl(uffd, UFFDIO_REGISTER, &arg) ? -errno : 0;
}

static void hints_leave_memory_to_the_programs_own_userfaultfd(struct env *e)
{
	struct ref_device *ref = env_device(e, 64);
	char *p = env_attach(e, 32 * PAGE);
	int mine = own_uffd(), other = own_uffd();

	fill(p, 32, 1);
	assert_int_equal(uffd_registers(mine, p + 8 * PAGE, 8), 0);
	hint(e, p, 32);
	assert_int_equal(migrate(e, ref, p, 32, 0), 24);
	assert_state(e, p + 8 * PAGE, 8, UMM_PAGE_MIRRORED);
	/* It has it still. */
	assert_int_equal(uffd_registers(other, p + 8 * PAGE, 8), -EBUSY);
	assert_int_equal(uffd_registers(mine, p + 8 * PAGE, 8), 0);
	assert_filled(p, 32, 1);
	close(other);
	close(mine);
}

/* ---- a discard that runs when the memory that it named is gone ------------------------ */

/* It waits for a fence; done is its own. */
static struct umm_fence *discard_after(struct env *e, struct umm_devmem *dst, char *p,
				       struct umm_fence *after)
{
	struct umm_span span = { (uintptr_t)p, 16 * PAGE };
	struct umm_prefetch req = { .size = sizeof(req),
				    .flags = UMM_PREFETCH_DISCARD,
				    .spans = &span,
				    .nspans = 1,
				    .dst = dst,
				    .after = after };
	struct umm_fence *done;

	assert_int_equal(umm_prefetch(e->ctx, &req, &done), 0);
	return done;
}

enum end {
	DETACHED,
	MAPPED_OVER,
	MOVED_ONTO,
	NR_ENDS,
};

/* Eight of sixteen pages get another life, and another's data. */
static void replace(struct env *e, struct ref_device *ref, char *p, enum end how)
{
	char *other;

	switch (how) {
	case DETACHED:
		assert_int_equal(umm_detach(e->ctx, p), 0);
		fill(p, 8, 2);
		assert_int_equal(umm_attach(e->ctx, p, 16 * PAGE), 0);
		fill(p + 8 * PAGE, 8, 2);
		break;
	case MAPPED_OVER:
		assert_true(map_at(p, 8, MAP_FIXED));
		assert_int_equal(umm_attach(e->ctx, p, 8 * PAGE), 0);
		fill(p, 8, 2);
		break;
	default:
		/* It is older than the request, but was not there. */
		other = env_attach(e, 8 * PAGE);
		use(e, ref, other, 8, BEEN_ON_DEVICE);
		assert_ptr_equal(
			mremap(other, 8 * PAGE, 8 * PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, p), p);
		env_forget(e, other, 8 * PAGE);
		fill(p, 8, 2);
		break;
	}
}

static void discard_spares_who_has_the_addresses_next(struct env *e)
{
	struct ref_device *ref = env_device(e, 64);
	struct umm_fence *after, *done;
	char *p;

	for (enum end how = DETACHED; how < NR_ENDS; how++) {
		p = env_attach(e, 16 * PAGE);
		fill(p, 16, 1);
		assert_int_equal(umm_fence_create(&after), 0);
		done = discard_after(e, how == DETACHED ? NULL : ref->mem, p, after);
		replace(e, ref, p, how);
		umm_fence_signal(after, 0, 0);
		assert_int_equal(umm_fence_wait(done, PATIENCE_MS), 0);
		/* What is there is moved nevertheless. */
		assert_int_equal(umm_fence_value(done), 16);
		assert_filled(p, 8, 2);
		if (how == DETACHED)
			assert_filled(p + 8 * PAGE, 8, 2);
		else
			assert_zero(p + 8 * PAGE, 8);
		umm_fence_put(done);
		umm_fence_put(after);
		to_system(e, p, 16, (long)count_state(e, p, 16, env_home(e)));
	}
}

/* Of a context of the whole process, where neighbours become managed when a device asks. */
static void discard_is_heeded_though_neighbours_become_managed(struct env *e)
{
	struct umm_ctx_options options = { .size = sizeof(options),
					   .flags = UMM_CTX_WHOLE_PROCESS | e->variant.ctx_flags,
					   .kernel_features_off = e->variant.features_off };
	struct env whole = { .variant = e->variant };
	struct umm_fence *after, *done;
	struct ref_device *ref;
	char *p = mmap(NULL, 32 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	assert_ptr_not_equal(p, MAP_FAILED);
	assert_int_equal(umm_ctx_create(&options, &whole.ctx), 0);
	ref = env_device(&whole, 64);
	fill(p, 16, 1);
	fill(p + 16 * PAGE, 16, 2);
	to_device(&whole, ref, p, 16, 16);
	assert_int_equal(umm_fence_create(&after), 0);
	done = discard_after(&whole, NULL, p, after);
	to_device(&whole, ref, p + 16 * PAGE, 16, 16);
	umm_fence_signal(after, 0, 0);
	assert_int_equal(umm_fence_wait(done, PATIENCE_MS), 0);
	assert_int_equal(umm_fence_value(done), 16);
	assert_zero(p, 16);
	assert_filled(p + 16 * PAGE, 16, 2);
	umm_fence_put(done);
	umm_fence_put(after);
	umm_ctx_put(whole.ctx);
	assert_true(ref_destroy(ref));
	munmap(p, 32 * PAGE);
}

struct freeing {
	struct env *env;
	char *p;
	bool attached;
	int ret;
};

static void act_free_it(void *arg)
{
	struct freeing *freeing = arg;

	freeing->ret = freeing->attached ? umm_detach(freeing->env->ctx, freeing->p) :
					   umm_free(freeing->env->ctx, freeing->p);
}

/* It has looked, and is about to drop what is there. */
static void end_of_memory_waits_for_a_discard_in_the_middle(struct env *e)
{
	struct freeing freeing = { .env = e };
	struct umm_fence *done;
	struct actor actor;

	for (int k = 0; k < 2; k++) {
		freeing.attached = k;
		freeing.p = k ? env_attach(e, 16 * PAGE) : env_alloc_small(e, 16 * PAGE);
		fill(freeing.p, 16, 1);
		hook_arm(HOOK_DISCARDING, freeing.p, 16);
		done = discard_after(e, NULL, freeing.p, NULL);
		assert_true(hook_stopped());
		actor_start(&actor, act_free_it, &freeing);
		assert_true(actor_blocks(&actor));
		hook_go(HOOK_DISCARDING);
		actor_join(&actor);
		assert_int_equal(freeing.ret, 0);
		umm_fence_wait(done, PATIENCE_MS);
		umm_fence_put(done);
		if (k)
			assert_zero(freeing.p, 16);
	}
}

/* A thread on a stack that the library manages discards 16 pages. */
struct holder {
	struct env *env;
	char *p;
	long discarded;
};

static sem_t holding, go_on;

static void sleep_here(void *priv, enum hook_point point, uintptr_t addr)
{
	(void)priv;
	(void)point;
	(void)addr;
	sem_post(&holding);
	sem_wait(&go_on);
}

static void *hold_it(void *arg)
{
	struct holder *holder = arg;
	struct umm_span span = { (uintptr_t)holder->p, 16 * PAGE };

	holder->discarded = umm_discard(holder->env->ctx, &span, 1);
	return NULL;
}

static void end_of_memory_needs_nothing_of_a_stack_that_is_on_a_device(struct env *e)
{
	struct ref_device *ref = env_device(e, UMM_BLOCK_PAGES);
	struct holder holder = { .env = e, .p = env_attach(e, 16 * PAGE) };
	char *stack = env_attach(e, BLOCK), *other = env_attach(e, 16 * PAGE);
	pthread_attr_t attr;
	pthread_t thread;

	fill(holder.p, 16, 1);
	sem_init(&holding, 0, 0);
	sem_init(&go_on, 0, 0);
	hook_set(HOOK_DISCARDING, sleep_here, NULL);
	pthread_attr_init(&attr);
	assert_int_equal(pthread_attr_setstack(&attr, stack, BLOCK), 0);
	assert_int_equal(pthread_create(&thread, &attr, hold_it, &holder), 0);
	sem_wait(&holding);
	hook_set(HOOK_DISCARDING, NULL, NULL);
	assert_true(umm_migrate_to_device(e->ctx, ref->mem, stack, BLOCK) > 0);
	assert_int_equal(umm_detach(e->ctx, other), 0);
	sem_post(&go_on);
	pthread_join(thread, NULL);
	pthread_attr_destroy(&attr);
	assert_int_equal(holder.discarded, 16);
	assert_zero(holder.p, 16);
}

/* Of hints and prefetches of memory that is detached, or of a memory that is removed, meanwhile. */
static void what_is_detached_beside_a_hint_is_registered_no_longer(struct env *e)
{
	static void (*const fns[2])(void *) = { act_advise, act_prefetch };
	struct asking asking = { .env = e, .p = env_attach(e, 16 * PAGE) };
	struct freeing freeing = { .env = e, .p = asking.p, .attached = true };
	struct actor asker, detacher;
	int mine;

	asking.advice.hint = UMM_HINT_NO_MIGRATE;
	for (unsigned k = 0; k < 2; k++) {
		hook_arm(HOOK_MARKING, asking.p, 8);
		actor_start(&asker, fns[k], &asking);
		assert_true(hook_stopped());
		actor_start(&detacher, act_free_it, &freeing);
		assert_true(actor_blocks(&detacher));
		hook_go(HOOK_MARKING);
		actor_join(&asker);
		actor_join(&detacher);
		assert_int_equal(freeing.ret, 0);
		if (fns[k] == act_advise)
			assert_int_equal(asking.ret, -EFAULT);
		mine = own_uffd();
		assert_int_equal(uffd_registers(mine, asking.p, 16), 0);
		close(mine);
		assert_int_equal(umm_attach(e->ctx, asking.p, 16 * PAGE), 0);
	}
	asking.advice = (struct umm_advice){ .hint = UMM_HINT_PREFERRED };
	asking.advice.mem = env_device(e, 16)->mem;
	device_goes_during(e, e->devices[0], HOOK_HINTING, act_advise, &asking);
	assert_int_equal(asking.ret, -ENODEV);
	assert_int_equal(umm_detach(e->ctx, asking.p), 0);
	mine = own_uffd();
	assert_int_equal(uffd_registers(mine, asking.p, 16), 0);
	close(mine);
	assert_int_equal(umm_attach(e->ctx, asking.p, 16 * PAGE), 0);
}

struct pinning {
	struct env *env;
	char *p;
	struct umm_pin *pin;
	int ret;
};

static void act_pin(void *arg)
{
	struct pinning *pinning = arg;

	pinning->ret =
		umm_pin(pinning->env->ctx, (uintptr_t)pinning->p, 16, UMM_PIN_WRITE, &pinning->pin);
}

/* It has looked, and drops the pages: what is pinned then is there, empty, and stays. */
static void pin_waits_for_a_discard_in_the_middle(struct env *e)
{
	struct ref_device *ref = env_device(e, 16);
	struct pinning pinning = { .env = e };
	struct umm_span span = { .len = 16 * PAGE };
	struct umm_fence *done;
	struct actor actor;

	for (int k = 0; k < 2; k++) {
		pinning.p = env_alloc_small(e, 16 * PAGE);
		fill(pinning.p, 16, 1);
		if (k)
			to_device(e, ref, pinning.p, 16, 16);
		hook_arm(HOOK_DISCARDING, pinning.p, 16);
		done = discard_after(e, NULL, pinning.p, NULL);
		assert_true(hook_stopped());
		actor_start(&actor, act_pin, &pinning);
		assert_true(actor_blocks(&actor));
		hook_go(HOOK_DISCARDING);
		actor_join(&actor);
		assert_int_equal(pinning.ret, 0);
		assert_int_equal(umm_fence_wait(done, PATIENCE_MS), 0);
		umm_fence_put(done);
		assert_state(e, pinning.p, 16, UMM_PAGE_SYSTEM);
		assert_zero(pinning.p, 16);
		fill(pinning.p, 16, 2);
		span.start = (uintptr_t)pinning.p;
		assert_int_equal(umm_discard(e->ctx, &span, 1), 0);
		assert_filled(pinning.p, 16, 2);
		umm_unpin(pinning.pin);
	}
}

/* Somebody else's, in the same block, or later than the pin. */
static void pin_waits_for_no_other_discard(struct env *e)
{
	struct pinning pinning = { .env = e, .p = env_alloc_small(e, 32 * PAGE) };
	struct umm_fence *done;

	fill(pinning.p, 32, 1);
	hook_arm(HOOK_DISCARDING, pinning.p + 16 * PAGE, 16);
	done = discard_after(e, NULL, pinning.p + 16 * PAGE, NULL);
	assert_true(hook_stopped());
	act_pin(&pinning);
	hook_go(HOOK_DISCARDING);
	assert_int_equal(pinning.ret, 0);
	assert_int_equal(umm_fence_wait(done, PATIENCE_MS), 0);
	umm_fence_put(done);
	assert_filled(pinning.p, 16, 1);
	assert_zero(pinning.p + 16 * PAGE, 16);
	umm_unpin(pinning.pin);
}

struct dropping {
	struct env *env;
	char *p;
	long ret;
};

static void act_discard(void *arg)
{
	struct dropping *dropping = arg;
	struct umm_span span = { (uintptr_t)dropping->p, 16 * PAGE };

	dropping->ret = umm_discard(dropping->env->ctx, &span, 1);
}

struct taking {
	struct ref_device *ref;
	char *p;
	long ret;
};

static void act_make_exclusive(void *arg)
{
	struct taking *taking = arg;

	taking->ret = ref_make_exclusive(taking->ref, (uintptr_t)taking->p, 16);
}

/* No page is said to be the device's that is dropped afterwards. */
static void exclusive_access_waits_for_a_discard_in_the_middle(struct env *e)
{
	struct dropping dropping = { .env = e, .p = env_alloc_small(e, 16 * PAGE) };
	struct taking taking = { .ref = env_device(e, 16), .p = dropping.p };
	struct actor discarder, taker;

	fill(taking.p, 16, 1);
	hook_arm(HOOK_DISCARDING, taking.p, 16);
	actor_start(&discarder, act_discard, &dropping);
	assert_true(hook_stopped());
	actor_start(&taker, act_make_exclusive, &taking);
	assert_true(actor_blocks(&taker));
	hook_go(HOOK_DISCARDING);
	actor_join(&taker);
	actor_join(&discarder);
	assert_int_equal(dropping.ret, 16);
	/* It asks again if it has heard of the drop. */
	assert_true(taking.ret == 0 || taking.ret == 16);
	assert_int_equal(ref_make_exclusive(taking.ref, (uintptr_t)taking.p, 16), 16);
	act_discard(&dropping);
	assert_int_equal(dropping.ret, 0);
	assert_state(e, taking.p, 16, UMM_PAGE_EXCLUSIVE);
	assert_zero(taking.p, 16);
}

static const struct test_case cases[] = {
	TEST(ALL, preference_for_a_memory_that_is_being_removed_is_none),
	TEST(ONCE, access_of_a_device_that_is_being_destroyed_is_nobodys),
	TEST(ALL, target_that_is_being_removed_is_not_kept),
	TEST(ALL, prefetch_to_a_memory_that_is_being_removed_ends),
	TEST(KERNEL, mapping_over_hinted_memory_begins_without),
	TEST(KERNEL, mapping_where_hinted_memory_was_begins_without),
	TEST(KERNEL, hints_go_where_memory_goes),
	TEST(KERNEL, query_sees_what_the_program_has_just_unmapped),
	TEST(KERNEL, targets_of_prefetches_end_with_the_memory),
	TEST(ONCE, target_is_kept_of_what_is_not_unmapped_meanwhile),
	TEST(ALL, discard_spares_who_has_the_addresses_next),
	TEST(KERNEL, discard_is_heeded_though_neighbours_become_managed),
	TEST(SYSCALLS, end_of_memory_needs_nothing_of_a_stack_that_is_on_a_device),
	TEST(KERNEL, what_is_detached_beside_a_hint_is_registered_no_longer),
	TEST(ONCE, end_of_memory_waits_for_a_discard_in_the_middle),
	TEST(ALL, pin_waits_for_a_discard_in_the_middle),
	TEST(ONCE, pin_waits_for_no_other_discard),
	TEST(KERNEL, exclusive_access_waits_for_a_discard_in_the_middle),
	TEST(KERNEL, hinted_memory_costs_no_fault_until_a_device_uses_it),
	TEST(KERNEL, hints_leave_memory_to_the_programs_own_userfaultfd),
};

int main(int argc, char **argv)
{
	hook_init();
	return harness_main("hints_end", cases, sizeof(cases) / sizeof(cases[0]), argc, argv);
}
