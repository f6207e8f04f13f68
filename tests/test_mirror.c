/* SPDX-License-Identifier: MIT */
/*
 * Mirrors and notifiers: who hears of what, when, in which order, and how they stop
 * listening; and the read side, whose answers grow stale.
 */
#include "harness.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "hook.h"

/* What a notifier or mirror heard. */
#define HEARD_MOST 64

struct heard {
	pthread_mutex_t lock;
	atomic_uint n; /* grows last: what came before may be read then */
	struct umm_notifier_range range[HEARD_MOST];
	/* For invalidations that look around or stop. */
	char *addr;
	struct ref_device *ref;
	unsigned mapped;   /* callbacks that found addr mapped by the CPU */
	uint64_t calls;	   /* of the copy op before the first callback */
	struct stop *stop; /* stop in the first callback */
	int (*act)(struct heard *heard);
	int acted; /* what it returned */
	struct umm_notifier *notifier;
	struct umm_mirror *mirror;
	struct umm_fence *fence;
};

static void heard_note(struct heard *heard, const struct umm_notifier_range *range)
{
	struct stop *stop;

	pthread_mutex_lock(&heard->lock);
	if (heard->n == 0 && heard->ref)
		heard->calls = ref_counts(heard->ref).calls;
	if (heard->n < HEARD_MOST)
		heard->range[heard->n] = *range;
	if (heard->addr)
		heard->mapped += cpu_maps(heard->addr);
	heard->n++;
	stop = heard->stop;
	heard->stop = NULL;
	pthread_mutex_unlock(&heard->lock);
	if (stop)
		stop_here(stop);
	if (heard->act)
		heard->acted = heard->act(heard);
}

static void heard_watch(void *priv, const struct umm_notifier_range *range)
{
	heard_note(priv, range);
}

static int heard_invalidate(void *priv, const struct umm_notifier_range *range)
{
	heard_note(priv, range);
	return 0;
}

static const struct umm_notifier_ops heard_ops = {
	.size = sizeof(struct umm_notifier_ops),
	.invalidate = heard_invalidate,
};

static void heard_init(struct heard *heard)
{
	memset(heard, 0, sizeof(*heard));
	pthread_mutex_init(&heard->lock, NULL);
}

static struct umm_notifier *insert(struct env *e, const void *addr, size_t npages,
				   struct heard *heard)
{
	struct umm_span span = { .start = (uintptr_t)addr, .len = npages * PAGE };
	struct umm_notifier *notifier;

	assert_int_equal(umm_notifier_insert(e->ctx, &span, &heard_ops, heard, &notifier), 0);
	return notifier;
}

static void remove_notifier(struct umm_notifier *notifier)
{
	assert_int_equal(umm_notifier_remove(notifier), 0);
}

/* ---- who hears of what -------------------------------------------------------------- */

/* Pages of one block move together; who watches those in between hears nothing. */
static void only_pages_that_were_asked_for_are_announced(struct env *e)
{
	struct ref_device *ref = env_device(e, 64);
	char *p = env_alloc_small(e, 64 * PAGE);
	struct umm_span spans[] = { { (uintptr_t)p + 3 * PAGE, PAGE },
				    { (uintptr_t)p + 10 * PAGE, 2 * PAGE },
				    { (uintptr_t)p + 40 * PAGE, PAGE } };
	struct umm_migrate_request req = {
		.size = sizeof(req), .spans = spans, .nspans = 3, .dst = ref->mem
	};
	struct umm_notifier *notifiers[2];
	struct heard asked, between;

	heard_init(&asked);
	heard_init(&between);
	fill(p, 64, 1);
	notifiers[0] = insert(e, p + 10 * PAGE, 2, &asked);
	notifiers[1] = insert(e, p + 12 * PAGE, 28, &between);
	assert_int_equal(umm_migrate_spans(e->ctx, &req, NULL), 4);
	assert_int_equal(asked.n, 1);
	assert_int_equal(asked.range[0].start, spans[1].start);
	assert_int_equal(asked.range[0].end, spans[1].start + 2 * PAGE);
	assert_int_equal(between.n, 0);
	remove_notifier(notifiers[0]);
	remove_notifier(notifiers[1]);
	assert_filled(p, 64, 1);
}

static void migration_is_announced_before_it_happens(struct env *e)
{
	struct ref_device *ref = env_device(e, 64);
	char *p = env_alloc_small(e, 8 * PAGE);
	struct heard heard;
	bool private = e->variant.type == UMM_DEVMEM_PRIVATE;

	heard_init(&heard);
	heard.addr = p + 3 * PAGE;
	heard.ref = ref;
	fill(p, 8, 1);
	ref_watch(ref, heard_watch, &heard);
	to_device(e, ref, p, 8, 8);
	assert_true(heard.n >= 1);
	assert_int_equal(heard.calls, 0);
	assert_int_equal(heard.mapped, heard.n);
	ref_watch(ref, NULL, NULL);

	heard_init(&heard);
	heard.addr = p + 3 * PAGE;
	heard.ref = ref;
	ref_watch(ref, heard_watch, &heard);
	to_system(e, p, 8, 8);
	assert_true(heard.n >= 1);
	assert_int_equal(heard.calls, 1);
	assert_int_equal(heard.mapped, private ? 0 : heard.n);
	ref_watch(ref, NULL, NULL);
}

static void announcement_says_what_where_and_who(struct env *e)
{
	struct ref_device *a = env_device(e, 64), *b = env_device(e, 64);
	char *p = env_alloc_small(e, 16 * PAGE);
	struct heard heard;
	unsigned i;

	heard_init(&heard);
	fill(p, 16, 1);
	ref_watch(b, heard_watch, &heard);
	to_device(e, a, p + 2 * PAGE, 8, 8);
	assert_true(heard.n >= 1);
	for (i = 0; i < heard.n; i++) {
		assert_int_equal(heard.range[i].event, UMM_EVENT_MIGRATE);
		assert_ptr_equal(heard.range[i].owner, a->dev);
		assert_true(heard.range[i].start >= (uintptr_t)p);
		assert_true(heard.range[i].end <= (uintptr_t)p + 16 * PAGE);
	}
	ref_watch(b, NULL, NULL);
	assert_true(ref_counts(a).events[UMM_EVENT_MIGRATE] >= 1);

	/* On the way home nobody may take it for a migration to the device. */
	heard_init(&heard);
	ref_watch(a, heard_watch, &heard);
	to_system(e, p + 2 * PAGE, 8, 8);
	assert_true(heard.n >= 1);
	for (i = 0; i < heard.n; i++)
		assert_null(heard.range[i].owner);
	ref_watch(a, NULL, NULL);
}

static void cpu_fault_is_announced_for_its_page(struct env *e)
{
	struct ref_device *ref = env_device(e, 64);
	char *p = env_alloc_small(e, 16 * PAGE);
	struct umm_notifier *on, *off;
	struct heard heard_on, heard_off;
	unsigned i;

	heard_init(&heard_on);
	heard_init(&heard_off);
	fill(p, 16, 1);
	to_device(e, ref, p, 16, 16);
	on = insert(e, p + 5 * PAGE, 1, &heard_on);
	off = insert(e, p + 6 * PAGE, 10, &heard_off);
	assert_true(filled_at(p, 5, 1));
	assert_true(heard_on.n >= 1);
	assert_int_equal(heard_off.n, 0);
	for (i = 0; i < heard_on.n; i++) {
		assert_int_equal(heard_on.range[i].event, UMM_EVENT_MIGRATE);
		assert_int_equal(heard_on.range[i].start, (uintptr_t)p + 5 * PAGE);
		assert_int_equal(heard_on.range[i].end, (uintptr_t)p + 6 * PAGE);
	}
	remove_notifier(on);
	remove_notifier(off);
}

static void notifiers_elsewhere_are_not_called(struct env *e)
{
	struct ref_device *ref = env_device(e, 64);
	char *p = env_alloc_small(e, 16 * PAGE);
	struct heard heard[6];
	struct umm_notifier *n[6];
	unsigned i;

	for (i = 0; i < 6; i++)
		heard_init(&heard[i]);
	fill(p, 16, 1);
	n[0] = insert(e, p, 4, &heard[0]);	      /* ends where it starts */
	n[1] = insert(e, p + 8 * PAGE, 2, &heard[1]); /* starts where it ends */
	n[2] = insert(e, p + 3 * PAGE, 2, &heard[2]); /* overlaps its start */
	n[3] = insert(e, p + 7 * PAGE, 9, &heard[3]); /* its end */
	n[4] = insert(e, p + 5 * PAGE, 1, &heard[4]); /* inside */
	n[5] = insert(e, p, 16, &heard[5]);	      /* around */
	to_device(e, ref, p + 4 * PAGE, 4, 4);
	to_system(e, p + 4 * PAGE, 4, 4);
	for (i = 0; i < 6; i++) {
		if (i < 2)
			assert_int_equal(heard[i].n, 0);
		else
			assert_true(heard[i].n >= 2);
		remove_notifier(n[i]);
	}
	to_device(e, ref, p, 16, 16);
	assert_int_equal(heard[0].n, 0);
}

static void crowd_of_notifiers_hears_what_it_should(struct env *e)
{
	enum { N = 200, PAGES = 64 };
	struct ref_device *ref = env_device(e, PAGES);
	char *p = env_alloc_small(e, PAGES * PAGE);
	struct heard *heard = calloc(N, sizeof(*heard));
	struct umm_notifier *notifier[N];
	unsigned first[N], len[N], i, page, seed = 1;

	fill(p, PAGES, 1);
	for (i = 0; i < N; i++) {
		heard_init(&heard[i]);
		seed = seed * 1103515245 + 12345;
		first[i] = seed / 65536 % PAGES;
		len[i] = 1 + seed / 7 % (PAGES - first[i]);
		notifier[i] = insert(e, p + first[i] * PAGE, len[i], &heard[i]);
	}
	for (page = 0; page < PAGES; page += 7) {
		to_device(e, ref, p + page * PAGE, 1, 1);
		for (i = 0; i < N; i++) {
			bool inside = page >= first[i] && page < first[i] + len[i];

			assert_int_equal(heard[i].n > 0, inside);
			heard[i].n = 0;
		}
	}
	for (i = 0; i < N; i++)
		remove_notifier(notifier[i]);
	free(heard);
}

static void notifier_over_memory_that_is_managed_later(struct env *e)
{
	struct ref_device *ref = env_device(e, 64);
	char *p = env_map(e, 8 * PAGE);
	struct umm_notifier *notifier;
	struct heard heard;

	heard_init(&heard);
	notifier = insert(e, p, 8, &heard);
	assert_int_equal(umm_attach(e->ctx, p, 8 * PAGE), 0);
	fill(p, 8, 1);
	to_device(e, ref, p, 8, 8);
	assert_true(heard.n >= 1);
	remove_notifier(notifier);
}

static void misaligned_notifier_grows_to_whole_pages(struct env *e)
{
	struct ref_device *ref = env_device(e, 64);
	char *p = env_alloc_small(e, 8 * PAGE);
	struct umm_span span = { .start = (uintptr_t)p + 2 * PAGE + 100, .len = 10 };
	struct umm_notifier *notifier;
	struct heard heard;

	heard_init(&heard);
	fill(p, 8, 1);
	assert_int_equal(umm_notifier_insert(e->ctx, &span, &heard_ops, &heard, &notifier), 0);
	to_device(e, ref, p, 2, 2);
	to_device(e, ref, p + 3 * PAGE, 5, 5);
	assert_int_equal(heard.n, 0);
	to_device(e, ref, p + 2 * PAGE, 1, 1);
	assert_true(heard.n >= 1);
	remove_notifier(notifier);
}

static void device_that_writes_in_place_hears_of_a_duplication(struct env *e)
{
	struct ref_device *a = env_device(e, 64), *b = env_device(e, 64);
	char *p = env_alloc_small(e, 8 * PAGE);
	uint64_t faults;

	ref_policy_set(a, REF_IN_PLACE);
	ref_policy_set(b, REF_IN_PLACE);
	fill(p, 8, 0);
	device_fill(b, p, 8, 1);
	faults = ref_counts(b).write_faults;
	assert_int_equal(migrate(e, a, p, 8, UMM_MIGRATE_DUPLICATE), 8);
	assert_device_sees(a, p, 8, 1);
	assert_false(ref_entry(b, (uintptr_t)p) & UMM_ENTRY_WRITE);
	device_fill(b, p, 8, 2);
	assert_int_equal(ref_counts(b).write_faults, faults + 8);
	assert_device_sees(a, p, 8, 2);
	assert_filled(p, 8, 2);
}

static int signal_a_fence(struct heard *heard)
{
	umm_fence_signal(heard->fence, 0, 4711);
	return 0;
}

static void callback_may_signal_a_fence(struct env *e)
{
	struct ref_device *ref = env_device(e, 64);
	char *p = env_alloc_small(e, 8 * PAGE);
	struct umm_notifier *notifier;
	struct heard heard;

	heard_init(&heard);
	assert_int_equal(umm_fence_create(&heard.fence), 0);
	heard.act = signal_a_fence;
	fill(p, 8, 1);
	notifier = insert(e, p, 8, &heard);
	to_device(e, ref, p, 8, 8);
	assert_int_equal(umm_fence_wait(heard.fence, 0), 0);
	assert_int_equal(umm_fence_value(heard.fence), 4711);
	umm_fence_put(heard.fence);
	remove_notifier(notifier);
}

/* ---- before the change -------------------------------------------------------------- */

struct mover {
	struct env *env;
	struct ref_device *ref; /* NULL: home */
	char *p;
	size_t npages;
	long ret;
};

static void mover_run(void *arg)
{
	struct mover *m = arg;

	m->ret = migrate(m->env, m->ref, m->p, m->npages, 0);
}

static void cpu_goes_on_until_the_last_callback_returns(struct env *e)
{
	struct ref_device *ref = env_device(e, 64);
	char *p = env_alloc_small(e, 8 * PAGE);
	struct mover m = { .env = e, .ref = ref, .p = p, .npages = 8 };
	struct umm_notifier *notifier;
	struct heard heard;
	struct actor actor;
	struct stop stop;

	heard_init(&heard);
	stop_init(&stop);
	heard.stop = &stop;
	fill(p, 8, 1);
	notifier = insert(e, p, 8, &heard);
	actor_start(&actor, mover_run, &m);
	assert_true(stop_arrived(&stop));
	assert_filled(p, 8, 1);
	fill(p, 8, 2);
	assert_int_equal(ref_counts(ref).calls, 0);
	stop_go(&stop);
	actor_join(&actor);
	assert_int_equal(m.ret, 8);
	assert_device_sees(ref, p, 8, 2);
	assert_filled(p, 8, 2);
	remove_notifier(notifier);
}

/* ---- ends --------------------------------------------------------------------------- */

static void release_is_the_last_call(struct env *e)
{
	struct ref_device *ref = env_device(e, 64);
	char *p = env_alloc_small(e, 8 * PAGE);
	uint64_t before;

	fill(p, 8, 1);
	to_device(e, ref, p, 8, 8);
	assert_int_equal(ref_counts(ref).releases, 0);
	assert_int_equal(umm_mirror_unregister(ref->mirror), 0);
	assert_int_equal(ref_counts(ref).releases, 1);
	before = ref_counts(ref).invalidations;
	to_system(e, p, 8, 8);
	to_device(e, ref, p, 8, 8);
	assert_filled(p, 8, 1);
	assert_int_equal(ref_counts(ref).invalidations, before);
	assert_int_equal(ref_counts(ref).releases, 1);
}

static void closing_the_context_releases_mirrors(struct env *e)
{
	struct ref_device *ref = env_device(e, 64);
	char *p = env_alloc_small(e, 8 * PAGE);

	fill(p, 8, 1);
	to_device(e, ref, p, 8, 8);
	assert_device_sees(ref, p, 8, 1);
	env_close(e);
	assert_int_equal(ref_counts(ref).releases, 1);
	assert_int_equal(ref_counts(ref).destroys, 1);
}

static int unregister_own_mirror(struct heard *heard)
{
	return umm_mirror_unregister(heard->mirror);
}

static void unregister_from_its_own_callback_is_edeadlk(struct env *e)
{
	struct ref_device *ref = env_device(e, 64);
	char *p = env_alloc_small(e, 8 * PAGE);
	struct heard heard;

	heard_init(&heard);
	heard.act = unregister_own_mirror;
	heard.mirror = ref->mirror;
	fill(p, 8, 1);
	ref_watch(ref, heard_watch, &heard);
	to_device(e, ref, p, 8, 8);
	assert_int_equal(heard.acted, -EDEADLK);
	assert_int_equal(ref_counts(ref).releases, 0);
	ref_watch(ref, NULL, NULL);
	to_system(e, p, 8, 8);
	assert_filled(p, 8, 1);
}

static int remove_own_notifier(struct heard *heard)
{
	return umm_notifier_remove(heard->notifier);
}

static void remove_from_its_own_callback_is_edeadlk(struct env *e)
{
	struct ref_device *ref = env_device(e, 64);
	char *p = env_alloc_small(e, 8 * PAGE);
	struct heard heard;
	unsigned n;

	heard_init(&heard);
	heard.act = remove_own_notifier;
	fill(p, 8, 1);
	heard.notifier = insert(e, p, 8, &heard);
	to_device(e, ref, p, 8, 8);
	assert_int_equal(heard.acted, -EDEADLK);
	heard.act = NULL;
	n = heard.n;
	to_system(e, p, 8, 8);
	assert_true(heard.n > n);
	remove_notifier(heard.notifier);
}

struct remover {
	struct umm_notifier *notifier;
	struct umm_mirror *mirror;
	int ret;
};

static void remover_run(void *arg)
{
	struct remover *r = arg;

	r->ret = r->mirror ? umm_mirror_unregister(r->mirror) : umm_notifier_remove(r->notifier);
}

static void remove_waits_for_a_running_callback(struct env *e)
{
	struct ref_device *ref = env_device(e, 64);
	char *p = env_alloc_small(e, 8 * PAGE);
	struct mover m = { .env = e, .ref = ref, .p = p, .npages = 8 };
	struct actor mover, remover;
	struct remover r = { .ret = 1 };
	struct heard heard;
	struct stop stop;

	heard_init(&heard);
	stop_init(&stop);
	heard.stop = &stop;
	fill(p, 8, 1);
	r.notifier = insert(e, p, 8, &heard);
	actor_start(&mover, mover_run, &m);
	assert_true(stop_arrived(&stop));
	actor_start(&remover, remover_run, &r);
	assert_true(actor_blocks(&remover));
	stop_go(&stop);
	actor_join(&remover);
	assert_int_equal(r.ret, 0);
	actor_join(&mover);
	assert_int_equal(m.ret, 8);
}

static void unregister_waits_for_a_running_callback(struct env *e)
{
	struct ref_device *ref = env_device(e, 64);
	char *p = env_alloc_small(e, 8 * PAGE);
	struct mover m = { .env = e, .ref = ref, .p = p, .npages = 8 };
	struct remover r = { .mirror = ref->mirror, .ret = 1 };
	struct actor mover, remover;
	struct heard heard;
	struct stop stop;

	heard_init(&heard);
	stop_init(&stop);
	heard.stop = &stop;
	fill(p, 8, 1);
	ref_watch(ref, heard_watch, &heard);
	actor_start(&mover, mover_run, &m);
	assert_true(stop_arrived(&stop));
	actor_start(&remover, remover_run, &r);
	assert_true(actor_blocks(&remover));
	assert_int_equal(ref_counts(ref).releases, 0);
	stop_go(&stop);
	actor_join(&remover);
	assert_int_equal(r.ret, 0);
	assert_int_equal(ref_counts(ref).releases, 1);
	actor_join(&mover);
	assert_int_equal(m.ret, 8);
	assert_filled(p, 8, 1);
}

/* ---- callbacks that would sleep ----------------------------------------------------- */

static void refused_invalidation_is_repeated_where_it_may_sleep(struct env *e)
{
	struct ref_device *ref = env_device(e, 64);
	char *p = env_alloc_small(e, 16 * PAGE);
	struct ref_counts counts;
	uint64_t before;

	fill(p, 16, 1);
	to_device(e, ref, p, 16, 16);
	assert_device_sees(ref, p, 16, 1);
	before = ref_counts(ref).unblockable;
	ref_refuse_invalidations(ref, UINT32_MAX);
	env_mark(e);
	assert_filled(p, 16, 1);
	counts = ref_counts(ref);
	assert_int_equal(counts.refused, counts.unblockable - before);
	if (e->variant.inline_copy && e->variant.type == UMM_DEVMEM_PRIVATE) {
		/* Served by the fault server itself, which must not sleep. */
		assert_true(counts.refused >= 16);
		/* In the thread a wait may end early: it asks again. */
		if (!e->variant.ctx_flags)
			assert_int_equal(counts.refused, 16);
		wait_until(env_delta(e, UMM_COUNT_DEFERRED) >= 16);
	}
	assert_int_equal(madvise(p, 8 * PAGE, MADV_DONTNEED), 0);
	assert_zero(p, 8);
	wait_until(ref_counts(ref).events[UMM_EVENT_CLEAR]);
	assert_int_equal(ref_counts(ref).refused, counts.refused + 1);
	wait_until(ref_entry(ref, (uintptr_t)p) == 0);
	ref_refuse_invalidations(ref, 0);
	assert_filled_part(p, 8, 8, 1);
}

/* ---- the read side ------------------------------------------------------------------ */

static void answers_grow_stale_where_something_changed(struct env *e)
{
	struct ref_device *ref = env_device(e, 64);
	char *p = env_alloc_small(e, 16 * PAGE);
	struct umm_notifier *here, *elsewhere;
	struct heard heard;
	uint64_t seq, other;

	heard_init(&heard);
	fill(p, 16, 1);
	here = insert(e, p, 4, &heard);
	elsewhere = insert(e, p + 8 * PAGE, 4, &heard);
	seq = umm_notifier_read_begin(here);
	other = umm_notifier_read_begin(elsewhere);
	assert_false(umm_notifier_read_retry(here, seq));
	to_device(e, ref, p, 1, 1);
	assert_true(umm_notifier_read_retry(here, seq));
	assert_true(umm_notifier_read_retry(here, seq));
	assert_false(umm_notifier_read_retry(elsewhere, other));
	seq = umm_notifier_read_begin(here);
	assert_false(umm_notifier_read_retry(here, seq));
	assert_int_equal(*p, *p);
	if (e->variant.type == UMM_DEVMEM_PRIVATE)
		assert_true(umm_notifier_read_retry(here, seq));
	else
		assert_false(umm_notifier_read_retry(here, seq));
	assert_false(umm_notifier_read_retry(elsewhere, other));
	remove_notifier(here);
	remove_notifier(elsewhere);
}

static struct stop hook_stop;
static atomic_int hook_budget;

static void hook_stops_once(void *priv, enum hook_point point, uintptr_t addr)
{
	(void)priv;
	(void)point;
	(void)addr;
	if (atomic_fetch_sub(&hook_budget, 1) == 1)
		stop_here(&hook_stop);
}

static void hook_cleanup(void)
{
	hook_set(HOOK_INVALIDATE, NULL, NULL);
	stop_go(&hook_stop);
}

struct reader {
	struct umm_notifier *notifier;
	uint64_t seq;
	bool stale;
};

static void reader_begins(void *arg)
{
	struct reader *r = arg;

	r->seq = umm_notifier_read_begin(r->notifier);
	r->stale = umm_notifier_read_retry(r->notifier, r->seq);
}

/* Snapshot first, then an invalidation starts: stale although no callback ran yet. */
static void snapshot_before_an_invalidation_is_stale_at_its_start(struct env *e)
{
	struct ref_device *ref = env_device(e, 64);
	char *p = env_alloc_small(e, 8 * PAGE);
	struct mover m = { .env = e, .ref = ref, .p = p, .npages = 8 };
	struct umm_notifier *notifier = umm_mirror_notifier(ref->mirror);
	struct actor actor;
	uint64_t seq, heard;

	fill(p, 8, 1);
	stop_init(&hook_stop);
	atomic_store(&hook_budget, 1);
	heard = ref_counts(ref).invalidations;
	seq = umm_notifier_read_begin(notifier);
	hook_set(HOOK_INVALIDATE, hook_stops_once, NULL);
	actor_start(&actor, mover_run, &m);
	assert_true(stop_arrived(&hook_stop));
	assert_int_equal(ref_counts(ref).invalidations, heard);
	assert_true(umm_notifier_read_retry(notifier, seq));
	stop_go(&hook_stop);
	actor_join(&actor);
	hook_set(HOOK_INVALIDATE, NULL, NULL);
	assert_int_equal(m.ret, 8);
	assert_true(umm_notifier_read_retry(notifier, seq));
	seq = umm_notifier_read_begin(notifier);
	assert_false(umm_notifier_read_retry(notifier, seq));
}

/* Invalidation first: the snapshot waits until it is over, and is then good. */
static void snapshot_during_an_invalidation_waits_for_its_end(struct env *e)
{
	struct ref_device *ref = env_device(e, 64);
	char *p = env_alloc_small(e, 8 * PAGE);
	struct mover m = { .env = e, .ref = ref, .p = p, .npages = 8 };
	struct reader r = { .notifier = umm_mirror_notifier(ref->mirror), .stale = true };
	struct actor mover, reader;

	fill(p, 8, 1);
	stop_init(&hook_stop);
	atomic_store(&hook_budget, 1);
	hook_set(HOOK_INVALIDATE, hook_stops_once, NULL);
	actor_start(&mover, mover_run, &m);
	assert_true(stop_arrived(&hook_stop));
	actor_start(&reader, reader_begins, &r);
	assert_true(actor_blocks(&reader));
	stop_go(&hook_stop);
	actor_join(&reader);
	actor_join(&mover);
	hook_set(HOOK_INVALIDATE, NULL, NULL);
	assert_int_equal(m.ret, 8);
	assert_device_sees(ref, p, 8, 1);
}

static void register_and_insert_refuse_bad_arguments(struct env *e)
{
	struct {
		struct umm_notifier_ops ops;
		uint64_t newer;
	} big = { .ops = heard_ops, .newer = 1 };
	struct umm_notifier_ops ops = heard_ops;
	struct umm_mirror_ops mirror_ops = { .size = sizeof(mirror_ops),
					     .invalidate = heard_invalidate };
	struct umm_span span = { .start = PAGE, .len = PAGE };
	struct ref_device *ref = env_device(e, 64);
	struct umm_notifier *notifier = NULL;
	struct umm_mirror *mirror = NULL;

	big.ops.size = sizeof(big);
	assert_int_equal(umm_notifier_insert(e->ctx, &span, &big.ops, NULL, &notifier), -E2BIG);
	assert_int_equal(umm_notifier_insert(e->ctx, &span, NULL, NULL, &notifier), -EINVAL);
	assert_int_equal(umm_notifier_insert(e->ctx, NULL, &ops, NULL, &notifier), -EINVAL);
	span.len = 0;
	assert_int_equal(umm_notifier_insert(e->ctx, &span, &ops, NULL, &notifier), -EINVAL);
	span.len = SIZE_MAX;
	assert_int_equal(umm_notifier_insert(e->ctx, &span, &ops, NULL, &notifier), -EINVAL);
	span.len = PAGE;
	ops.invalidate = NULL;
	assert_int_equal(umm_notifier_insert(e->ctx, &span, &ops, NULL, &notifier), -EINVAL);
	ops.size = 0;
	assert_int_equal(umm_notifier_insert(e->ctx, &span, &ops, NULL, &notifier), -EINVAL);
	assert_int_equal(umm_mirror_register(ref->dev, NULL, NULL, &mirror), -EINVAL);
	assert_int_equal(umm_mirror_register(ref->dev, &mirror_ops, NULL, &mirror), -EINVAL);
	assert_null(notifier);
	assert_null(mirror);
}

static void a_change_that_has_returned_is_never_missed(struct env *e)
{
	struct ref_device *ref = env_device(e, 64);
	struct umm_notifier *notifier = umm_mirror_notifier(ref->mirror);
	char *p = env_alloc_small(e, PAGE), byte;
	uint64_t seq;

	for (unsigned round = 0; round < 200; round++) {
		*p = 1;
		assert_int_equal(ref_read(ref, (uintptr_t)p, &byte, 1), 0);
		seq = umm_notifier_read_begin(notifier);
		assert_int_equal(madvise(p, PAGE, MADV_DONTNEED), 0);
		assert_true(umm_notifier_read_retry(notifier, seq));
	}
}

static const struct test_case cases[] = {
	TEST(KERNEL, a_change_that_has_returned_is_never_missed),
	TEST(ALL, migration_is_announced_before_it_happens),
	TEST(ALL, only_pages_that_were_asked_for_are_announced),
	TEST(ALL, announcement_says_what_where_and_who),
	TEST(PRIVATE, cpu_fault_is_announced_for_its_page),
	TEST(ALL, notifiers_elsewhere_are_not_called),
	TEST(ALL, crowd_of_notifiers_hears_what_it_should),
	TEST(ONCE, notifier_over_memory_that_is_managed_later),
	TEST(ONCE, misaligned_notifier_grows_to_whole_pages),
	TEST(ALL, device_that_writes_in_place_hears_of_a_duplication),
	TEST(ALL, callback_may_signal_a_fence),
	TEST(ALL, cpu_goes_on_until_the_last_callback_returns),
	TEST(ALL, release_is_the_last_call),
	TEST(ALL, closing_the_context_releases_mirrors),
	TEST(ALL, unregister_from_its_own_callback_is_edeadlk),
	TEST(ALL, remove_from_its_own_callback_is_edeadlk),
	TEST(ALL, remove_waits_for_a_running_callback),
	TEST(ALL, unregister_waits_for_a_running_callback),
	TEST(ALL, refused_invalidation_is_repeated_where_it_may_sleep),
	TEST(ALL, answers_grow_stale_where_something_changed),
	TEST(ALL, snapshot_before_an_invalidation_is_stale_at_its_start),
	TEST(ALL, snapshot_during_an_invalidation_waits_for_its_end),
	TEST(ONCE, register_and_insert_refuse_bad_arguments),
};

int main(int argc, char **argv)
{
	stop_init(&hook_stop);
	harness_cleanup(hook_cleanup);
	return harness_main("test_mirror", cases, sizeof(cases) / sizeof(cases[0]), argc, argv);
}
