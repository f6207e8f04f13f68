/* SPDX-License-Identifier: MIT */
/*
 * What drivers answer: migration with the driver's part as callbacks, and callbacks that return
 * nonsense. Whatever they do, the address space stays whole, and callers get an error number.
 */
#include "harness.h"

#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#define PAGES 16

/* ---- migration with callbacks ------------------------------------------------------- */

struct driver {
	struct ref_device *ref;
	unsigned copied, finalized; /* calls */
	int answer;		    /* of alloc_and_copy, after it has done its work */
	size_t leave;		    /* this many pages get no frame */
	unsigned long moved;	    /* as finalize_and_map found it */
	uint64_t src[PAGES];
	uint64_t dst[PAGES];
	uint32_t frames[PAGES];
};

static int alloc_and_copy(void *priv, struct umm_migrate *migrate)
{
	struct driver *d = priv;

	d->copied++;
	if (umm_devmem_alloc(d->ref->mem, PAGES, d->frames))
		return -ENOSPC;
	for (size_t i = d->leave; i < PAGES; i++) {
		if (!(migrate->src[i] & UMM_MPFN_MIGRATE))
			continue;
		ref_frame_write(d->ref, d->frames[i],
				(void *)(uintptr_t)(migrate->src[i] & ~(uint64_t)(PAGE - 1)));
		migrate->dst[i] =
			UMM_MPFN_VALID | UMM_MPFN_DEVICE | (uint64_t)d->frames[i] << UMM_PAGE_SHIFT;
	}
	return d->answer;
}

static void finalize_and_map(void *priv, struct umm_migrate *migrate)
{
	struct driver *d = priv;

	d->finalized++;
	for (size_t i = 0; i < PAGES; i++) {
		if (migrate->src[i] & UMM_MPFN_MIGRATE)
			d->moved++;
		else if (d->copied)
			umm_devmem_free(d->ref->mem, 1, &d->frames[i]);
	}
}

static void child_reads(void *arg)
{
	for (size_t i = 0; i < PAGES; i++)
		child_check(filled_at(arg, i, 1));
}

static const struct umm_migrate_ops ops = {
	.size = sizeof(struct umm_migrate_ops),
	.alloc_and_copy = alloc_and_copy,
	.finalize_and_map = finalize_and_map,
};

static struct umm_migrate migration(struct env *e, struct driver *d, char *p)
{
	return (struct umm_migrate){
		.size = sizeof(struct umm_migrate),
		.flags = UMM_MIGRATE_SELECT_SYSTEM,
		.ctx = e->ctx,
		.start = (uintptr_t)p,
		.end = (uintptr_t)p + PAGES * PAGE,
		.dst_mem = d->ref->mem,
		.src = d->src,
		.dst = d->dst,
	};
}

static char *pages(struct env *e)
{
	char *p = env_alloc_small(e, PAGES * PAGE);

	fill(p, PAGES, 1);
	return p;
}

static void one_call_moves_pages_with_the_driver_s_copies(struct env *e)
{
	struct driver d = { .ref = env_device(e, 64), .leave = 3 };
	char *p = pages(e);
	struct umm_migrate migrate = migration(e, &d, p);

	assert_int_equal(umm_migrate_vma(&migrate, &ops, &d), PAGES - 3);
	assert_int_equal(d.copied, 1);
	assert_int_equal(d.finalized, 1);
	assert_int_equal(d.moved, PAGES - 3);
	assert_int_equal(ref_counts(d.ref).calls, 0);
	assert_free_frames(d.ref, 64 - (PAGES - 3));
	assert_state(e, p, 3, UMM_PAGE_SYSTEM);
	assert_state(e, p + 3 * PAGE, PAGES - 3, env_home(e));
	assert_device_sees(d.ref, p, PAGES, 1);
	assert_filled(p, PAGES, 1);
}

static void an_error_of_the_driver_s_leaves_all_pages(struct env *e)
{
	struct driver d = { .ref = env_device(e, 64), .answer = -EIO };
	char *p = pages(e);
	struct umm_migrate migrate = migration(e, &d, p);

	assert_int_equal(umm_migrate_vma(&migrate, &ops, &d), -EIO);
	assert_int_equal(d.finalized, 1);
	assert_int_equal(d.moved, 0);
	assert_free_frames(d.ref, 64);
	assert_state(e, p, PAGES, UMM_PAGE_SYSTEM);
	assert_filled(p, PAGES, 1);
}

static void an_answer_that_is_no_error_number_is_einval(struct env *e)
{
	struct driver d = { .ref = env_device(e, 64), .answer = 5 };
	char *p = pages(e);
	struct umm_migrate migrate = migration(e, &d, p);

	assert_int_equal(umm_migrate_vma(&migrate, &ops, &d), -EINVAL);
	assert_int_equal(d.moved, 0);
	assert_free_frames(d.ref, 64);
	assert_filled(p, PAGES, 1);
}

/* Callbacks that go on with the migration by themselves. */
static int finalizes_and_fails(void *priv, struct umm_migrate *migrate)
{
	alloc_and_copy(priv, migrate);
	umm_migrate_pages(migrate);
	umm_migrate_finalize(migrate);
	return -EIO;
}

static void finalizes_again(void *priv, struct umm_migrate *migrate)
{
	finalize_and_map(priv, migrate);
	umm_migrate_pages(migrate);
	umm_migrate_finalize(migrate);
}

static void callbacks_neither_commit_nor_finalize(struct env *e)
{
	struct umm_migrate_ops bad = {
		.size = sizeof(bad),
		.alloc_and_copy = finalizes_and_fails,
		.finalize_and_map = finalizes_again,
	};
	struct driver d = { .ref = env_device(e, 64) };
	char *p = pages(e);
	struct umm_migrate migrate = migration(e, &d, p);

	umm_log_set(NULL, NULL, UMM_LOG_NONE);
	assert_int_equal(umm_migrate_vma(&migrate, &bad, &d), -EIO);
	umm_log_set(NULL, NULL, UMM_LOG_WARNING);
	assert_null(migrate.core);
	assert_int_equal(migrate.cpages, 0);
	assert_int_equal(d.moved, 0);
	assert_free_frames(d.ref, 64);
	assert_state(e, p, PAGES, UMM_PAGE_SYSTEM);
	bad.alloc_and_copy = alloc_and_copy;
	migrate = migration(e, &d, p);
	umm_log_set(NULL, NULL, UMM_LOG_NONE);
	assert_int_equal(umm_migrate_vma(&migrate, &bad, &d), PAGES);
	umm_log_set(NULL, NULL, UMM_LOG_WARNING);
	assert_int_equal(d.moved, PAGES);
	assert_filled(p, PAGES, 1);
}

static void an_answer_beyond_all_error_numbers_is_einval(struct env *e)
{
	struct driver d = { .ref = env_device(e, 64), .answer = INT_MIN };
	char *p = pages(e);
	struct umm_migrate migrate = migration(e, &d, p);

	assert_int_equal(umm_migrate_vma(&migrate, &ops, &d), -EINVAL);
	assert_free_frames(d.ref, 64);
	assert_filled(p, PAGES, 1);
}

/* Nothing of this is the driver's to change. */
static int alloc_and_spoil(void *priv, struct umm_migrate *migrate)
{
	int ret = alloc_and_copy(priv, migrate);

	migrate->dst_mem = NULL;
	migrate->npages = (unsigned long)1 << 40;
	migrate->start += PAGE;
	migrate->src = migrate->dst = NULL;
	migrate->core = NULL;
	return ret;
}

static void what_a_driver_writes_into_its_request_changes_nothing(struct env *e)
{
	static const struct umm_migrate_ops spoil = {
		.size = sizeof(spoil),
		.alloc_and_copy = alloc_and_spoil,
	};
	struct driver d = { .ref = env_device(e, 64) };
	char *p = pages(e);
	struct umm_migrate migrate = migration(e, &d, p);

	assert_int_equal(umm_migrate_vma(&migrate, &spoil, &d), PAGES);
	assert_state(e, p, PAGES, env_home(e));
	assert_free_frames(d.ref, 64 - PAGES);
	assert_device_sees(d.ref, p, PAGES, 1);
	assert_true(in_child(child_reads, p));
	d.answer = -EIO;
	migrate = migration(e, &d, pages(e));
	assert_int_equal(umm_migrate_vma(&migrate, &spoil, &d), -EIO);
	assert_filled(p, PAGES, 1);
}

static void a_setup_that_fails_calls_nobody(struct env *e)
{
	struct driver d = { .ref = env_device(e, 64) };
	char *p = pages(e);
	struct umm_migrate migrate = migration(e, &d, p);
	struct umm_migrate_ops bad = ops;

	to_device(e, d.ref, p, PAGES, PAGES);
	assert_int_equal(umm_migrate_vma(&migrate, &ops, &d), -ENOENT);
	assert_int_equal(umm_migrate_vma(&migrate, NULL, &d), -EINVAL);
	bad.alloc_and_copy = NULL;
	assert_int_equal(umm_migrate_vma(&migrate, &bad, &d), -EINVAL);
	migrate.end = migrate.start;
	assert_int_equal(umm_migrate_vma(&migrate, &ops, &d), -EINVAL);
	assert_int_equal(d.copied + d.finalized, 0);
}

/* ---- nonsense ----------------------------------------------------------------------- */

/* A device that answers its copies in some wrong way. */
struct liar {
	struct umm_device *dev;
	struct umm_devmem *mem;
	char *frames;
	int signals, returns; /* what it says */
	unsigned times;	      /* it signals so often */
	_Atomic unsigned calls;
};

static int liar_copy(void *priv, const struct umm_copy *copies, unsigned ncopies,
		     struct umm_fence *done)
{
	struct liar *liar = priv;

	liar->calls++;
	for (unsigned i = 0; i < ncopies; i++) {
		char *frame = liar->frames + copies[i].frame * PAGE;
		size_t len = copies[i].npages * PAGE;

		if (copies[i].dir == UMM_COPY_FROM_DEVICE)
			memcpy(copies[i].host, frame, len);
		else if (copies[i].host)
			memcpy(frame, copies[i].host, len);
	}
	for (unsigned n = 0; n < liar->times; n++)
		umm_fence_signal(done, n ? -EIO : liar->signals, 0);
	return liar->returns;
}

static void liar_begin(struct env *e, struct liar *liar)
{
	struct umm_device_ops device = {
		.size = sizeof(device),
		.api = UMM_DEVICE_API,
		.name = "liar",
		.copy = liar_copy,
	};
	struct umm_devmem_options memory = { .size = sizeof(memory), .nframes = 64 };

	liar->frames = calloc(64, PAGE);
	assert_non_null(liar->frames);
	assert_int_equal(umm_device_create(e->ctx, &device, liar, 0, &liar->dev), 0);
	assert_int_equal(umm_devmem_add(liar->dev, &memory, &liar->mem), 0);
}

static void liar_end(struct liar *liar)
{
	umm_device_destroy(liar->dev);
	free(liar->frames);
}

/* To the device, with this answer: what the caller hears; nothing is lost. */
static void assert_refused(struct env *e, struct liar liar, long expected)
{
	char *p = pages(e);

	liar_begin(e, &liar);
	assert_int_equal(umm_migrate_to_device(e->ctx, liar.mem, p, PAGES * PAGE), expected);
	assert_int_equal(liar.calls, 1);
	assert_state(e, p, PAGES, UMM_PAGE_SYSTEM);
	assert_filled(p, PAGES, 1);
	liar_end(&liar);
}

static void copies_that_end_with_no_error_number_are_einval(struct env *e)
{
	assert_refused(e, (struct liar){ .signals = 7, .times = 1 }, -EINVAL);
	assert_refused(e, (struct liar){ .returns = 7 }, -EINVAL);
	assert_refused(e, (struct liar){ .returns = -EBUSY }, -EBUSY);
}

static void the_first_of_several_signals_counts(struct env *e)
{
	struct liar liar = { .times = 3 };
	char *p = pages(e);

	liar_begin(e, &liar);
	assert_int_equal(umm_migrate_to_device(e->ctx, liar.mem, p, PAGES * PAGE), PAGES);
	/* Signalled, and then refused: it was done. */
	liar.returns = -EIO;
	assert_int_equal(umm_migrate_to_system(e->ctx, p, PAGES * PAGE), PAGES);
	assert_filled(p, PAGES, 1);
	liar_end(&liar);
}

static int answers_nonsense(void *priv, const struct umm_notifier_range *range)
{
	unsigned *calls = priv;

	(*calls)++;
	return *calls % 2 && !range->blockable ? 42 : -EAGAIN;
}

static void notifiers_that_refuse_where_they_may_block_are_not_heard(struct env *e)
{
	struct umm_notifier_ops watch = { .size = sizeof(watch), .invalidate = answers_nonsense };
	struct ref_device *ref = env_device(e, 64);
	struct umm_notifier *notifier;
	char *p = pages(e);
	struct umm_span span = { (uintptr_t)p, PAGES * PAGE };
	unsigned calls = 0;

	assert_int_equal(umm_notifier_insert(e->ctx, &span, &watch, &calls, &notifier), 0);
	to_device(e, ref, p, PAGES, PAGES);
	to_system(e, p, PAGES, PAGES);
	/* The second call was refused, and the third may not be. */
	assert_int_equal(calls, 3);
	assert_filled(p, PAGES, 1);
	assert_int_equal(umm_notifier_remove(notifier), 0);
}

/* ---- calls from callbacks ------------------------------------------------------------ */

/* What a callback calls that it would have to wait for. */
struct caller {
	struct env *env;
	struct ref_device *ref;
	struct umm_notifier *mine, *other, *third;
	char *p, *q;
	struct umm_fence *fence;
	struct umm_invalidation *announced; /* by the test, of memory that is not watched */
	struct umm_migrate *set_up;	    /* by the test */
	unsigned calls, wrong;
	unsigned heard; /* calls of third */
	uint64_t src[1], dst[1], entries[1], addrs[1];
};

static void expect_deadlk(struct caller *c, long ret)
{
	if (ret != -EDEADLK)
		c->wrong++;
}

static int hears_nothing(void *priv, const struct umm_notifier_range *range)
{
	(void)priv;
	(void)range;
	return 0;
}

static void is_released(void *priv)
{
	(void)priv;
}

static int is_mapped(void *priv, uintptr_t addr, uint64_t entry, uint64_t *out)
{
	(void)priv;
	(void)addr;
	(void)entry;
	*out = 0;
	return 0;
}

static void is_unmapped(void *priv, uintptr_t addr, uint64_t mapped, bool dirty)
{
	(void)priv;
	(void)addr;
	(void)mapped;
	(void)dirty;
}

static void call_what_asks(struct caller *c, uintptr_t at)
{
	struct umm_range_map_ops map_ops = { .size = sizeof(map_ops),
					     .map = is_mapped,
					     .unmap = is_unmapped };
	struct umm_range asked = { .size = sizeof(asked),
				   .notifier = c->mine,
				   .start = at,
				   .end = at + PAGE,
				   .entries = c->entries };
	struct umm_range_place sum = { .size = sizeof(sum) };
	struct umm_page_place place;

	expect_deadlk(c, umm_range_snapshot(&asked));
	expect_deadlk(c, umm_range_fault(&asked, 0));
	expect_deadlk(c, umm_range_map(&asked, &map_ops, NULL, c->addrs, 0));
	expect_deadlk(c, umm_range_wait_until_valid(&asked, 0));
	expect_deadlk(c, umm_locate(c->env->ctx, at, 1, &place));
	expect_deadlk(c, umm_locate_range(c->env->ctx, at, PAGE, &sum));
	expect_deadlk(c, umm_fence_wait(c->fence, 0));
	expect_deadlk(c, umm_fence_wait(c->fence, -1));
	expect_deadlk(c, umm_trace("/nowhere/trace", 1));
	expect_deadlk(c, umm_trace(NULL, 0));
}

static void call_what_moves(struct caller *c, uintptr_t at)
{
	struct umm_ctx *ctx = c->env->ctx;
	struct umm_span span = { at, PAGE };
	struct umm_migrate migrate = { .size = sizeof(migrate),
				       .flags = UMM_MIGRATE_SELECT_SYSTEM,
				       .ctx = ctx,
				       .start = at,
				       .end = at + PAGE,
				       .dst_mem = c->ref->mem,
				       .src = c->src,
				       .dst = c->dst };
	struct umm_migrate_request request = {
		.size = sizeof(request), .spans = &span, .nspans = 1, .dst = c->ref->mem
	};
	struct umm_prefetch prefetch = {
		.size = sizeof(prefetch), .spans = &span, .nspans = 1, .dst = c->ref->mem
	};
	struct umm_pin *pin;

	expect_deadlk(c, umm_migrate_to_system(ctx, c->p, PAGE));
	expect_deadlk(c, umm_migrate_to_device(ctx, c->ref->mem, c->p, PAGE));
	expect_deadlk(c, umm_migrate_spans(ctx, &request, NULL));
	expect_deadlk(c, umm_migrate_device_range(c->ref->mem, 0, 1));
	expect_deadlk(c, umm_migrate_setup(&migrate));
	expect_deadlk(c, umm_migrate_vma(&migrate, &ops, NULL));
	expect_deadlk(c, umm_prefetch(ctx, &prefetch, NULL));
	expect_deadlk(c, umm_discard(ctx, &span, 1));
	expect_deadlk(c, umm_bring_home(ctx));
	expect_deadlk(c, umm_devmem_evict(c->ref->mem, 1));
	expect_deadlk(c, umm_memory_failure(c->ref->mem, 0, 1));
	expect_deadlk(c, umm_clear_poison(ctx, at, 1, NULL));
	expect_deadlk(c, umm_pin(ctx, at, 1, 0, &pin));
	expect_deadlk(c, umm_make_exclusive(c->ref->dev, at, at + PAGE, c->entries));
}

static void call_what_begins_and_ends(struct caller *c, uintptr_t at)
{
	struct umm_ctx *ctx = c->env->ctx;
	struct umm_notifier_range change = { .start = at, .end = at + PAGE, .blockable = true };
	struct umm_mirror_ops mirror_ops = {
		.size = sizeof(mirror_ops),
		.invalidate = hears_nothing,
		.release = is_released,
	};
	struct umm_span span = { at, PAGE };
	struct umm_advice advice = {
		.size = sizeof(advice), .spans = &span, .nspans = 1, .hint = UMM_HINT_NO_MIGRATE
	};
	struct umm_invalidation *invalidation;
	struct umm_mirror *mirror;
	void *to;

	expect_deadlk(c, umm_free(ctx, c->p));
	expect_deadlk(c, umm_detach(ctx, c->q));
	expect_deadlk(c, umm_mremap(c->p, PAGE, 2 * PAGE, MREMAP_MAYMOVE, &to));
	expect_deadlk(c, umm_advise(ctx, &advice));
	expect_deadlk(c, umm_invalidate_range_start(ctx, &change, &invalidation));
	expect_deadlk(c, umm_mirror_register(c->ref->dev, &mirror_ops, NULL, &mirror));
	expect_deadlk(c, umm_mirror_unregister(c->ref->mirror));
	expect_deadlk(c, umm_notifier_remove(c->mine));
	expect_deadlk(c, umm_notifier_remove(c->other));
	/* These return nothing, and do nothing. */
	umm_devmem_remove(c->ref->mem);
	umm_device_destroy(c->ref->dev);
	umm_ctx_put(ctx);
	c->wrong += umm_devmem_device(c->ref->mem) != c->ref->dev;
}

static int call_everything(void *priv, const struct umm_notifier_range *range)
{
	struct caller *c = priv;

	(void)range;
	if (c->calls++)
		return 0;
	c->wrong += !umm_in_callback();
	call_what_asks(c, (uintptr_t)c->p);
	call_what_moves(c, (uintptr_t)c->p);
	call_what_begins_and_ends(c, (uintptr_t)c->p);
	return 0;
}

/* Two notifiers, of p and q; then p goes to the device, which calls the callback. */
static void caller_run(struct caller *c,
		       int (*invalidate)(void *priv, const struct umm_notifier_range *range))
{
	struct umm_notifier_ops call_ops = { .size = sizeof(call_ops), .invalidate = invalidate };
	struct env *e = c->env;
	struct umm_span span;

	c->p = pages(e);
	c->q = env_attach(e, PAGE);
	span = (struct umm_span){ (uintptr_t)c->p, PAGES * PAGE };
	assert_int_equal(umm_notifier_insert(e->ctx, &span, &call_ops, c, &c->mine), 0);
	span = (struct umm_span){ (uintptr_t)c->q, PAGE };
	assert_int_equal(umm_notifier_insert(e->ctx, &span, &call_ops, c, &c->other), 0);
	umm_log_set(NULL, NULL, UMM_LOG_NONE);
	to_device(e, c->ref, c->p, PAGES, PAGES);
	umm_log_set(NULL, NULL, UMM_LOG_WARNING);
	assert_true(c->calls >= 1);
	assert_int_equal(c->wrong, 0);
	assert_device_sees(c->ref, c->p, PAGES, 1);
	assert_filled(c->p, PAGES, 1);
}

static void calls_from_a_callback_are_refused_not_waited_for(struct env *e)
{
	struct caller c = { .env = e, .ref = env_device(e, 64) };

	assert_int_equal(umm_fence_create(&c.fence), 0);
	assert_false(umm_in_callback());
	caller_run(&c, call_everything);
	assert_false(umm_in_callback());
	assert_int_equal(umm_fence_poll(c.fence), -EAGAIN);
	umm_fence_put(c.fence);
	assert_int_equal(umm_notifier_remove(c.mine), 0);
	assert_int_equal(umm_notifier_remove(c.other), 0);
}

/* The second half of a migration, a look at pages, the end of a change, another notifier. */
static int call_what_does_not_wait(void *priv, const struct umm_notifier_range *range)
{
	struct umm_notifier_ops count_ops = { .size = sizeof(count_ops),
					      .invalidate = answers_nonsense };
	struct caller *c = priv;
	struct umm_span span = { (uintptr_t)c->p, PAGES * PAGE };
	struct umm_span_info info = { .size = sizeof(info) };
	struct umm_ctx *ctx = c->env->ctx;

	if (c->calls++)
		return 0;
	c->wrong += range->event != UMM_EVENT_MIGRATE;
	c->wrong += umm_query_spans(ctx, &span, 1, &info) || info.npages != PAGES;
	c->wrong += info.state[UMM_PAGE_MIGRATING] != PAGES;
	umm_migrate_pages(c->set_up);
	c->wrong += c->set_up->cpages != PAGES;
	umm_migrate_finalize(c->set_up);
	c->wrong += c->set_up->core != NULL;
	umm_invalidate_range_end(ctx, c->announced);
	c->wrong += umm_notifier_insert(ctx, &span, &count_ops, &c->heard, &c->third) != 0;
	/* Who is being told does not wait for that. Who is new finds pages on their way. */
	c->wrong += !umm_notifier_read_retry(c->mine, umm_notifier_read_begin(c->mine));
	c->wrong += umm_notifier_read_retry(c->third, umm_notifier_read_begin(c->third));
	return 0;
}

static void calls_that_wait_for_nothing_work_from_a_callback(struct env *e)
{
	struct umm_notifier_range change = { .event = UMM_EVENT_CLEAR, .blockable = true };
	struct caller c = { .env = e, .ref = env_device(e, 64) };
	struct driver d = { .ref = c.ref };
	struct umm_notifier *watch;
	struct umm_span span;
	char *p = pages(e), *q = pages(e);
	struct umm_migrate migrate = migration(e, &d, p);
	unsigned heard;
	uint64_t seq;

	span = (struct umm_span){ (uintptr_t)q, PAGES * PAGE };
	assert_int_equal(umm_notifier_insert(e->ctx, &span,
					     &(struct umm_notifier_ops){
						     .size = sizeof(struct umm_notifier_ops),
						     .invalidate = hears_nothing },
					     NULL, &watch),
			 0);
	change.start = (uintptr_t)q;
	change.end = change.start + PAGE;
	assert_int_equal(umm_invalidate_range_start(e->ctx, &change, &c.announced), 0);
	assert_int_equal(umm_migrate_setup(&migrate), 0);
	assert_int_equal(alloc_and_copy(&d, &migrate), 0);
	c.set_up = &migrate;
	caller_run(&c, call_what_does_not_wait);
	assert_state(e, p, PAGES, env_home(e));
	assert_device_sees(c.ref, p, PAGES, 1);
	assert_filled(p, PAGES, 1);
	/* The end was the end: nothing is waited for here. */
	seq = umm_notifier_read_begin(watch);
	assert_false(umm_notifier_read_retry(watch, seq));
	/* Another notifier hears of what comes after it. */
	seq = umm_notifier_read_begin(c.third);
	assert_false(umm_notifier_read_retry(c.third, seq));
	heard = c.heard;
	change.start = (uintptr_t)c.p;
	change.end = change.start + PAGE;
	assert_int_equal(umm_invalidate_range_start(e->ctx, &change, &c.announced), 0);
	umm_invalidate_range_end(e->ctx, c.announced);
	assert_int_equal(c.heard, heard + 1);
	assert_true(umm_notifier_read_retry(c.third, seq));
	assert_int_equal(umm_notifier_remove(c.third), 0);
	assert_int_equal(umm_notifier_remove(c.mine), 0);
	assert_int_equal(umm_notifier_remove(c.other), 0);
	assert_int_equal(umm_notifier_remove(watch), 0);
}

/* ---- signals ------------------------------------------------------------------------- */

static atomic_uint nhandled;

static void count_signal(int number)
{
	(void)number;
	atomic_fetch_add(&nhandled, 1);
}

struct raiser {
	pthread_t thread;
	unsigned calls;
	bool early; /* a handler ran inside of the callback */
};

/* A handler that ran here might touch a page that cannot come home before the callback returns. */
static void raise_in_callback(void *priv, const struct umm_notifier_range *range)
{
	struct raiser *r = priv;

	(void)range;
	if (!pthread_equal(pthread_self(), r->thread))
		return;
	r->calls++;
	pthread_kill(r->thread, SIGUSR1);
	r->early |= atomic_load(&nhandled) != 0;
}

static void assert_raised_late(struct raiser *r)
{
	assert_true(r->calls);
	assert_false(r->early);
	assert_true(atomic_load(&nhandled));
	atomic_store(&nhandled, 0);
	r->calls = 0;
}

static void handlers_run_after_callbacks(struct env *e)
{
	struct sigaction before, action = { .sa_handler = count_signal };
	struct umm_notifier_range range = { .event = UMM_EVENT_PROTECTION_VMA, .blockable = true };
	struct ref_device *ref = env_device(e, 64);
	char *p = env_alloc_small(e, 8 * PAGE), *q = env_attach(e, 8 * PAGE);
	struct raiser r = { .thread = pthread_self() };
	struct umm_invalidation *invalidation;

	ref_policy_set(ref, REF_IN_PLACE);
	assert_int_equal(sigaction(SIGUSR1, &action, &before), 0);
	fill(p, 8, 1);
	fill(q, 8, 1);
	assert_device_sees(ref, p, 8, 1);
	assert_device_sees(ref, q, 8, 1);
	assert_int_equal(ref_watch(ref, raise_in_callback, &r), 0);
	assert_int_equal(mprotect(q, PAGE, PROT_NONE), 0);
	assert_int_equal(ref_map(ref, (uintptr_t)q, PAGE, false), -EFAULT);
	assert_raised_late(&r);
	assert_int_equal(mprotect(q, PAGE, PROT_READ | PROT_WRITE), 0);
	range.start = (uintptr_t)q;
	range.end = range.start + PAGE;
	assert_int_equal(umm_invalidate_range_start(e->ctx, &range, &invalidation), 0);
	umm_invalidate_range_end(e->ctx, invalidation);
	assert_raised_late(&r);
	assert_int_equal(umm_detach(e->ctx, q), 0);
	assert_raised_late(&r);
	assert_int_equal(umm_free(e->ctx, p), 0);
	assert_raised_late(&r);
	assert_int_equal(ref_watch(ref, NULL, NULL), 0);
	assert_int_equal(sigaction(SIGUSR1, &before, NULL), 0);
}

static const struct test_case cases[] = {
	TEST(ALL, calls_from_a_callback_are_refused_not_waited_for),
	TEST(ALL, calls_that_wait_for_nothing_work_from_a_callback),
	TEST(ALL, one_call_moves_pages_with_the_driver_s_copies),
	TEST(ALL, an_error_of_the_driver_s_leaves_all_pages),
	TEST(ONCE, an_answer_that_is_no_error_number_is_einval),
	TEST(ONCE, an_answer_beyond_all_error_numbers_is_einval),
	TEST(ALL, callbacks_neither_commit_nor_finalize),
	TEST(ONCE, what_a_driver_writes_into_its_request_changes_nothing),
	TEST(ONCE, a_setup_that_fails_calls_nobody),
	TEST(KERNEL, copies_that_end_with_no_error_number_are_einval),
	TEST(KERNEL, the_first_of_several_signals_counts),
	TEST(KERNEL, notifiers_that_refuse_where_they_may_block_are_not_heard),
	TEST(KERNEL, handlers_run_after_callbacks),
};

int main(int argc, char **argv)
{
	return harness_main("test_callbacks", cases, sizeof(cases) / sizeof(cases[0]), argc, argv);
}
