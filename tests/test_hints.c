/* SPDX-License-Identifier: MIT */
/* Hints: what each keeps where, its end, and what goes with the memory that has it. */
#include "hinted.h"

#include <errno.h>
#include <signal.h>
#include <sys/mman.h>

#include "hooked.h"

#define KIB64 16 /* pages */

#define ADVISE_LIST(e, list, n, ...)                                                         \
	assert_int_equal(umm_advise((e)->ctx,                                                \
				    &(struct umm_advice){ .size = sizeof(struct umm_advice), \
							  .spans = (list),                   \
							  .nspans = (n),                     \
							  __VA_ARGS__ }),                    \
			 0)

static bool has(struct env *e, const void *addr, size_t npages, enum umm_hint hint)
{
	return query(e, addr, npages).hints >> hint & 1;
}

static bool some(struct env *e, const void *addr, size_t npages, enum umm_hint hint)
{
	return query(e, addr, npages).mixed >> hint & 1;
}

/* A program with pages at home, and a device that wants every page it touches. */
static char *filled(struct env *e, size_t npages)
{
	char *p = env_alloc_small(e, npages * PAGE);

	fill(p, npages, 1);
	return p;
}

/* Pages that begin with a unit, however large. */
static char *filled_units(struct env *e, size_t npages)
{
	char *p = env_alloc_small(e, BLOCK);

	fill(p, npages, 1);
	return p;
}

static void preferred_host_pages_are_used_in_place(struct env *e)
{
	struct ref_device *ref = env_device(e, 64);
	char *p = filled(e, 16);

	ADVISE(e, p, 8, .hint = UMM_HINT_PREFERRED);
	assert_device_sees(ref, p, 16, 1);
	assert_state(e, p, 8, UMM_PAGE_SYSTEM);
	assert_state(e, p + 8 * PAGE, 8, env_home(e));
	device_fill(ref, p, 16, 2);
	assert_state(e, p, 8, UMM_PAGE_SYSTEM);
	assert_filled(p, 16, 2);
	/* Once it is unset they come as others do. */
	ADVISE(e, p, 8, .hint = UMM_HINT_PREFERRED, .flags = UMM_ADVICE_UNSET);
	assert_device_sees(ref, p, 8, 2);
	assert_state(e, p, 8, env_home(e));
}

static void untouched_pages_are_made_where_they_are_preferred(struct env *e)
{
	struct ref_device *ref = env_device(e, 64);
	char *p = env_alloc_small(e, 8 * PAGE);

	ADVISE(e, p, 4, .hint = UMM_HINT_PREFERRED);
	assert_device_sees_zero(ref, p, 8);
	assert_state(e, p, 4, UMM_PAGE_SYSTEM);
	assert_state(e, p + 4 * PAGE, 4, env_home(e));
}

static void preferred_device_keeps_what_another_can_reach(struct env *e)
{
	struct ref_device *a = env_device(e, 64), *b = env_device(e, 64);
	bool reached = e->variant.type == UMM_DEVMEM_COHERENT;
	char *p = filled(e, 8);

	ADVISE(e, p, 4, .hint = UMM_HINT_PREFERRED, .mem = a->mem);
	to_device(e, a, p, 8, 8);
	assert_device_sees(b, p, 8, 1);
	assert_free_frames(a, reached ? 60 : 64);
	assert_free_frames(b, reached ? 60 : 56);
	assert_filled(p, 8, 1);
	/* Elsewhere the preference keeps nothing. */
	to_system(e, p, 8, reached ? 8 : 0);
	assert_device_sees(b, p, 8, 1);
	assert_state(e, p, 8, env_home(e));
	assert_free_frames(a, 64);
}

static void device_that_accesses_leaves_pages_in_place(struct env *e)
{
	struct ref_device *a = env_device(e, 64), *b = env_device(e, 64);
	char *p = filled(e, 8);

	ADVISE(e, p, 8, .hint = UMM_HINT_ACCESSED_BY, .dev = a->dev);
	/* What it maps later would be there already at the end. */
	wait_until(ref_counts(a).accessed >= 1);
	assert_device_sees(a, p, 8, 1);
	assert_state(e, p, 8, UMM_PAGE_SYSTEM);
	assert_device_sees(b, p, 4, 1);
	assert_state(e, p, 4, env_home(e));
	assert_state(e, p + 4 * PAGE, 4, UMM_PAGE_SYSTEM);
	ADVISE(e, p, 8, .hint = UMM_HINT_ACCESSED_BY, .dev = a->dev, .flags = UMM_ADVICE_UNSET);
	assert_device_sees(a, p, 8, 1);
	assert_state(e, p, 8, env_home(e));
}

/* It is told when the hint is new, and when pages have moved. */
static void device_that_accesses_need_not_fault(struct env *e)
{
	struct ref_device *ref = env_device(e, 64), *other = env_device(e, 64);
	struct ref_counts before;
	char *p = filled(e, 8);

	assert_int_equal(ref_map(ref, (uintptr_t)p, PAGE, false), 0);
	before = ref_counts(ref);
	ADVISE(e, p, 8, .hint = UMM_HINT_ACCESSED_BY, .dev = ref->dev);
	wait_until(ref_entry(ref, (uintptr_t)p + 7 * PAGE));
	assert_device_sees(ref, p, 8, 1);
	to_device(e, other, p, 8, 8);
	to_system(e, p, 8, 8);
	wait_until(ref_entry(ref, (uintptr_t)p) && ref_entry(ref, (uintptr_t)p + 7 * PAGE));
	assert_device_sees(ref, p, 8, 1);
	assert_int_equal(ref_counts(ref).faults, before.faults);
	wait_until(ref_counts(ref).accessed >= 3);
}

/* The op is on a thread that a forked child has not: the child does not wait for it. */
static struct stop mapping;

static void stops_to_map(void *priv, uintptr_t start, uintptr_t end)
{
	(void)priv;
	(void)start;
	(void)end;
	stop_here(&mapping);
}

static int copies_nothing(void *priv, const struct umm_copy *copies, unsigned ncopies,
			  struct umm_fence *done)
{
	(void)priv;
	(void)copies;
	(void)ncopies;
	(void)done;
	return -EIO;
}

static void child_closes(void *arg)
{
	umm_ctx_put(arg);
}

static void forked_child_closes_while_a_device_is_told(struct env *e)
{
	static const struct umm_device_ops ops = {
		.size = sizeof(ops),
		.api = UMM_DEVICE_API,
		.name = "slow",
		.copy = copies_nothing,
		.accessed = stops_to_map,
	};
	char *p = filled(e, 8);
	struct umm_device *dev;
	bool closed;

	stop_init(&mapping);
	assert_int_equal(umm_device_create(e->ctx, &ops, NULL, UMM_DEVICE_IN_PLACE, &dev), 0);
	ADVISE(e, p, 8, .hint = UMM_HINT_ACCESSED_BY, .dev = dev);
	assert_true(stop_arrived(&mapping));
	closed = in_child(child_closes, e->ctx);
	stop_go(&mapping);
	assert_true(closed);
	umm_device_destroy(dev);
}

static void unmovable_pages_stay_but_for_who_insists(struct env *e)
{
	struct ref_device *ref = env_device(e, 64);
	char *p = filled(e, 8);

	ADVISE(e, p, 4, .hint = UMM_HINT_NO_MIGRATE);
	assert_device_sees(ref, p, 8, 1);
	assert_state(e, p, 4, UMM_PAGE_SYSTEM);
	assert_state(e, p + 4 * PAGE, 4, env_home(e));
	assert_int_equal(migrate(e, ref, p, 4, UMM_MIGRATE_AHEAD), 0);
	assert_state(e, p, 4, UMM_PAGE_SYSTEM);
	to_device(e, ref, p, 4, 4);
	assert_filled(p, 8, 1);
	to_device(e, ref, p, 4, e->variant.type == UMM_DEVMEM_COHERENT ? 0 : 4);
	ADVISE(e, p, 4, .hint = UMM_HINT_NO_MIGRATE, .flags = UMM_ADVICE_UNSET);
	to_system(e, p, 4, 4);
	assert_int_equal(migrate(e, ref, p, 4, UMM_MIGRATE_AHEAD), 4);
}

static void marked_blocks_are_evicted_last(struct env *e, enum umm_hint hint)
{
	struct ref_device *ref = env_device(e, 16);
	char *p = env_alloc_small(e, 4 * BLOCK);

	for (unsigned i = 0; i < 4; i++)
		fill(p + i * BLOCK, 8, i);
	/* The oldest is marked: the younger one goes in its place. */
	ADVISE(e, p, BLOCK / PAGE, .hint = hint);
	to_device(e, ref, p, 8, 8);
	to_device(e, ref, p + BLOCK, 8, 8);
	to_device(e, ref, p + 2 * BLOCK, 8, 8);
	assert_state(e, p, 8, env_home(e));
	assert_state(e, p + BLOCK, 8, UMM_PAGE_SYSTEM);
	/* With nothing else left, it goes. */
	assert_int_equal(umm_devmem_evict(ref->mem, 8), 0);
	assert_state(e, p, 8, env_home(e));
	assert_int_equal(umm_devmem_evict(ref->mem, 16), 0);
	assert_state(e, p, 8, UMM_PAGE_SYSTEM);
	/* Unmarked, it goes first. */
	ADVISE(e, p, BLOCK / PAGE, .hint = hint, .flags = UMM_ADVICE_UNSET);
	to_device(e, ref, p, 8, 8);
	to_device(e, ref, p + BLOCK, 8, 8);
	to_device(e, ref, p + 2 * BLOCK, 8, 8);
	assert_state(e, p, 8, UMM_PAGE_SYSTEM);
	for (unsigned i = 0; i < 4; i++)
		assert_filled(p + i * BLOCK, 8, i);
}

static void critical_blocks_are_evicted_last(struct env *e)
{
	marked_blocks_are_evicted_last(e, UMM_HINT_LATENCY_CRITICAL);
}

static void unmovable_blocks_are_evicted_last(struct env *e)
{
	marked_blocks_are_evicted_last(e, UMM_HINT_NO_MIGRATE);
}

static void critical_pages_are_not_pulled_ahead(struct env *e)
{
	struct ref_device *ref = env_device(e, 64);
	char *p = filled(e, 8);

	ADVISE(e, p, 4, .hint = UMM_HINT_LATENCY_CRITICAL);
	assert_int_equal(migrate(e, ref, p, 8, UMM_MIGRATE_AHEAD), 4);
	assert_state(e, p, 4, UMM_PAGE_SYSTEM);
	/* A fault is no guess. */
	assert_device_sees(ref, p, 4, 1);
	assert_state(e, p, 4, env_home(e));
	to_system(e, p, 8, 8);
	ADVISE(e, p, 4, .hint = UMM_HINT_LATENCY_CRITICAL, .flags = UMM_ADVICE_UNSET);
	assert_int_equal(migrate(e, ref, p, 8, UMM_MIGRATE_AHEAD), 8);
}

static void faults_move_whole_units(struct env *e)
{
	struct ref_device *ref = env_device(e, 256);
	char *p = filled_units(e, 64);
	bool coherent = e->variant.type == UMM_DEVMEM_COHERENT;

	ADVISE(e, p, 40, .hint = UMM_HINT_GRANULARITY, .order = 4);
	assert_int_equal(ref_read(ref, (uintptr_t)p + 20 * PAGE, &(char){ 0 }, 1), 0);
	assert_state(e, p + KIB64 * PAGE, KIB64, env_home(e));
	assert_state(e, p, KIB64, UMM_PAGE_SYSTEM);
	/* The last unit has the hint in half of it. */
	assert_int_equal(ref_read(ref, (uintptr_t)p + 39 * PAGE, &(char){ 0 }, 1), 0);
	assert_state(e, p + 32 * PAGE, 8, env_home(e));
	assert_state(e, p + 40 * PAGE, 24, UMM_PAGE_SYSTEM);
	/* So does a fault of the CPU, where there is one. */
	env_mark(e);
	assert_filled_part(p, 16, 16, 1);
	assert_delta(e, UMM_COUNT_FAULT_DEVICE, coherent ? 0 : 1);
	assert_state(e, p + KIB64 * PAGE, KIB64, coherent ? UMM_PAGE_COHERENT : UMM_PAGE_SYSTEM);
	ADVISE(e, p, 40, .hint = UMM_HINT_GRANULARITY, .flags = UMM_ADVICE_UNSET);
	assert_int_equal(ref_read(ref, (uintptr_t)p, &(char){ 0 }, 1), 0);
	assert_state(e, p, 1, env_home(e));
	assert_state(e, p + PAGE, 15, UMM_PAGE_SYSTEM);
	assert_filled(p, 64, 1);
}

static void page_without_the_hint_stays_out_of_its_unit(struct env *e)
{
	struct ref_device *ref = env_device(e, 64);
	char *p = filled_units(e, 64);

	ADVISE(e, p, 64, .hint = UMM_HINT_GRANULARITY, .order = 6);
	ADVISE(e, p + 36 * PAGE, 1, .hint = UMM_HINT_GRANULARITY, .flags = UMM_ADVICE_UNSET);
	/* Nor does one with a smaller unit of its own come; one with a larger unit does. */
	ADVISE(e, p + 40 * PAGE, 1, .hint = UMM_HINT_GRANULARITY, .order = 5);
	ADVISE(e, p + 44 * PAGE, 1, .hint = UMM_HINT_GRANULARITY, .order = 7);
	assert_int_equal(ref_read(ref, (uintptr_t)p + 6 * PAGE, &(char){ 0 }, 1), 0);
	assert_int_equal(count_state(e, p, 64, env_home(e)), 62);
	assert_state(e, p + 36 * PAGE, 1, UMM_PAGE_SYSTEM);
	assert_state(e, p + 40 * PAGE, 1, UMM_PAGE_SYSTEM);
	assert_filled(p, 64, 1);
}

/* Eight pages that are a unit, on one device or by turns on two. */
static char *unit_on(struct env *e, struct ref_device *even, struct ref_device *odd)
{
	char *p = filled_units(e, 8);

	ADVISE(e, p, 8, .hint = UMM_HINT_GRANULARITY, .order = 3);
	for (unsigned i = 0; i < 8; i++)
		to_device(e, i % 2 ? odd : even, p + i * PAGE, 1, 1);
	env_mark(e);
	return p;
}

/* Whichever page of it is missed comes, with what lies where it did. */
static void unit_on_two_memories_comes_home_by_memory(struct env *e)
{
	struct ref_device *a = env_device(e, 64), *b = env_device(e, 64);
	char *p = unit_on(e, a, b);

	assert_true(filled_at(p, 5, 1));
	assert_delta(e, UMM_COUNT_TO_SYSTEM + UMM_CAUSE_CPU_FAULT, 4);
	for (unsigned i = 0; i < 8; i++)
		assert_state(e, p + i * PAGE, 1, i % 2 ? UMM_PAGE_SYSTEM : UMM_PAGE_DEVICE);
	assert_free_frames(a, 60);
	assert_free_frames(b, 64);
	assert_filled(p, 8, 1);
	assert_delta(e, UMM_COUNT_FAULT_DEVICE, 2);
	assert_delta(e, UMM_COUNT_TO_SYSTEM + UMM_CAUSE_CPU_FAULT, 8);
}

static void lost_page_of_a_unit_is_sigbus_and_the_others_come_home(struct env *e)
{
	struct ref_device *ref = env_device(e, 64);
	struct ref_failure failure = { .error = -EIO, .from_device = true, .nframes = 1 };
	char *p = unit_on(e, ref, ref);
	struct umm_page_info info;

	assert_int_equal(umm_query(e->ctx, (uintptr_t)p + 5 * PAGE, 1, &info), 0);
	failure.frame = info.frame;
	assert_int_equal(ref_fail(ref, &failure), 0);
	assert_int_equal(touch_read(p + 5 * PAGE), SIGBUS);
	assert_int_equal(count_state(e, p, 8, UMM_PAGE_SYSTEM), 7);
	assert_filled(p, 5, 1);
	assert_filled_part(p, 6, 2, 1);
	assert_delta(e, UMM_COUNT_FAULT_DEVICE, 1);
	assert_delta(e, UMM_COUNT_POISONED, 1);
}

struct reading {
	char *p;
	bool right;
};

static void act_read(void *arg)
{
	struct reading *reading = arg;

	reading->right = filled_at(reading->p, 5, 1);
}

/* When its piece is collected it is on another device. */
static void missed_page_that_has_left_its_unit_comes_home(struct env *e)
{
	struct ref_device *a = env_device(e, 64), *b = env_device(e, 64);
	struct reading reading = { .p = unit_on(e, a, a) };
	struct actor actor;

	hook_arm(HOOK_CHOSEN, reading.p, 8);
	actor_start(&actor, act_read, &reading);
	assert_true(hook_stopped());
	hook_set(HOOK_CHOSEN, NULL, NULL);
	to_device(e, b, reading.p + 5 * PAGE, 1, 1);
	hook_go(HOOK_CHOSEN);
	actor_join(&actor);
	assert_true(reading.right);
	assert_filled(reading.p, 8, 1);
	assert_free_frames(b, 64);
}

static void read_mostly_pages_are_copied_to_readers(struct env *e)
{
	struct ref_device *a = env_device(e, 64), *b = env_device(e, 64);
	char *p = filled(e, 8);

	ADVISE(e, p, 8, .hint = UMM_HINT_READ_MOSTLY);
	env_mark(e);
	assert_device_sees(a, p, 8, 1);
	assert_device_sees(b, p, 8, 1);
	assert_state(e, p, 8, UMM_PAGE_DUPLICATED);
	assert_delta(e, UMM_COUNT_DUPLICATED, 16);
	assert_filled(p, 8, 1);
	assert_delta(e, UMM_COUNT_FAULT_DEVICE, 0);
	assert_int_equal(env_delta_causes(e, UMM_COUNT_TO_DEVICE), 0);
	/* A store of the CPU's ends it, and the next reads make copies again. */
	fill(p, 2, 2);
	assert_delta(e, UMM_COUNT_FAULT_WRITE, 2);
	assert_device_sees(a, p, 2, 2);
	assert_state(e, p, 8, UMM_PAGE_DUPLICATED);
	/* A store of a device's takes the page; another reader gets it copied nevertheless. */
	device_fill(a, p, 4, 3);
	assert_state(e, p, 4, env_home(e));
	assert_device_sees(b, p, 4, 3);
	assert_state(e, p, 4, UMM_PAGE_DUPLICATED);
	assert_filled(p, 4, 3);
	ADVISE(e, p, 8, .hint = UMM_HINT_READ_MOSTLY, .flags = UMM_ADVICE_UNSET);
	to_system(e, p, 8, 0);
	assert_device_sees(a, p, 4, 3);
	assert_state(e, p, 4, env_home(e));
}

static void hints_read_back_as_they_were_set(struct env *e)
{
	struct ref_device *a = env_device(e, 16), *b = env_device(e, 16);
	char *p = env_alloc_small(e, 16 * PAGE);
	struct umm_span_info info;

	ADVISE(e, p, 16, .hint = UMM_HINT_PREFERRED, .mem = a->mem);
	ADVISE(e, p + 4 * PAGE, 4, .hint = UMM_HINT_PREFERRED);
	ADVISE(e, p + 8 * PAGE, 8, .hint = UMM_HINT_ACCESSED_BY, .dev = a->dev);
	ADVISE(e, p + 12 * PAGE, 4, .hint = UMM_HINT_ACCESSED_BY, .dev = b->dev);
	ADVISE(e, p + 12 * PAGE, 4, .hint = UMM_HINT_GRANULARITY, .order = 2);
	info = query(e, p, 4);
	assert_ptr_equal(info.preferred, a->mem);
	assert_int_equal(info.hints, 1 << UMM_HINT_PREFERRED);
	assert_int_equal(info.mixed, 0);
	assert_int_equal(info.state[UMM_PAGE_EMPTY], 4);
	info = query(e, p + 4 * PAGE, 4);
	assert_int_equal(info.hints, 1 << UMM_HINT_PREFERRED);
	assert_null(info.preferred);
	info = query(e, p, 16);
	assert_int_equal(info.hints, 0);
	assert_int_equal(info.mixed, 1 << UMM_HINT_PREFERRED | 1 << UMM_HINT_ACCESSED_BY |
					     1 << UMM_HINT_GRANULARITY);
	info = query(e, p + 12 * PAGE, 4);
	assert_int_equal(info.ndevices, 2);
	assert_true(info.devices[0] == a->dev || info.devices[1] == a->dev);
	assert_true(info.devices[0] == b->dev || info.devices[1] == b->dev);
	assert_int_equal(info.order, 2);
	info = query(e, p + 8 * PAGE, 8);
	assert_int_equal(info.ndevices, 1);
	assert_ptr_equal(info.devices[0], a->dev);
	ADVISE(e, p, 16, .hint = UMM_HINT_ACCESSED_BY, .flags = UMM_ADVICE_UNSET);
	assert_int_equal(query(e, p + 12 * PAGE, 4).ndevices, 0);
	assert_false(some(e, p, 16, UMM_HINT_ACCESSED_BY));
}

static void list_is_read_back_at_once(struct env *e)
{
	struct ref_device *ref = env_device(e, 64);
	char *p = filled(e, 8);
	struct umm_span spans[2] = { { (uintptr_t)p, 2 * PAGE },
				     { (uintptr_t)p + 4 * PAGE, 3 * PAGE } };
	struct umm_span_info infos[2] = { { .size = sizeof(infos[0]) } };
	struct umm_prefetch req = {
		.size = sizeof(req), .spans = spans, .nspans = 2, .dst = ref->mem
	};

	ADVISE(e, p + 4 * PAGE, 4, .hint = UMM_HINT_LATENCY_CRITICAL);
	assert_int_equal(umm_query_spans(e->ctx, spans, 2, infos), 0);
	assert_int_equal(infos[0].npages, 2);
	assert_int_equal(infos[0].hints, 0);
	assert_int_equal(infos[1].npages, 3);
	assert_int_equal(infos[1].hints, 1 << UMM_HINT_LATENCY_CRITICAL);
	assert_int_equal(infos[1].state[UMM_PAGE_SYSTEM], 3);
	/* Likewise what is set, moved, and counted. */
	ADVISE_LIST(e, spans, 2, .hint = UMM_HINT_NO_MIGRATE);
	assert_true(has(e, p, 2, UMM_HINT_NO_MIGRATE));
	assert_true(has(e, p + 4 * PAGE, 3, UMM_HINT_NO_MIGRATE));
	assert_false(some(e, p + 2 * PAGE, 2, UMM_HINT_NO_MIGRATE));
	ADVISE_LIST(e, spans, 2, .hint = UMM_HINT_NO_MIGRATE, .flags = UMM_ADVICE_UNSET);
	ADVISE_LIST(e, spans, 2, .hint = UMM_HINT_LATENCY_CRITICAL, .flags = UMM_ADVICE_UNSET);
	assert_int_equal(umm_prefetch(e->ctx, &req, NULL), 5);
	assert_int_equal(umm_query_spans(e->ctx, spans, 2, infos), 0);
	for (unsigned i = 0; i < 2; i++) {
		assert_int_equal(infos[i].hints | infos[i].mixed, 0);
		assert_int_equal(infos[i].prefetched, 1);
		assert_ptr_equal(infos[i].target, ref->mem);
		assert_int_equal(infos[i].state[env_home(e)], infos[i].npages);
		assert_int_equal(infos[i].counter[UMM_COUNT_TO_DEVICE + UMM_CAUSE_EXPLICIT], 5);
	}
	assert_true(has(e, p + 7 * PAGE, 1, UMM_HINT_LATENCY_CRITICAL));
	assert_int_equal(query(e, p + 2 * PAGE, 2).prefetched, 0);
}

static void answers_are_given_for_good_lists_only(struct env *e)
{
	char *p = filled(e, 2);
	struct umm_span spans[2] = { { (uintptr_t)p, 2 * PAGE }, { (uintptr_t)p, 0 } };
	struct umm_span_info infos[2] = { { .size = sizeof(infos[0]), .order = 7 },
					  { .order = 7 } };

	assert_int_equal(umm_query_spans(e->ctx, spans, 2, infos), -EINVAL);
	assert_int_equal(infos[0].npages, 0);
	assert_int_equal(infos[0].order, 7);
	assert_int_equal(infos[1].order, 7);
	/* The size of the first counts for all, whatever the others have for one. */
	spans[1].len = PAGE;
	infos[1].size = 1;
	assert_int_equal(umm_query_spans(e->ctx, spans, 2, infos), 0);
	assert_int_equal(infos[0].npages, 2);
	assert_int_equal(infos[1].npages, 1);
	assert_int_equal(infos[1].size, sizeof(infos[1]));
}

/* A terabyte of which eight pages are managed: page by page it would take minutes. */
static void query_passes_what_is_not_managed_at_once(struct env *e)
{
	char *p = filled(e, 8);
	size_t terabyte = (size_t)1 << 40;
	struct umm_span span = { (uintptr_t)p + 4 * PAGE - terabyte, terabyte };
	struct umm_span_info info = { .size = sizeof(info) };

	assert_int_equal(umm_query_spans(e->ctx, &span, 1, &info), 0);
	assert_int_equal(info.npages, terabyte / PAGE);
	assert_int_equal(info.state[UMM_PAGE_SYSTEM], 4);
	assert_int_equal(info.state[UMM_PAGE_UNMANAGED], terabyte / PAGE - 4);
	span.start = (uintptr_t)p + 6 * PAGE;
	span.len = 4 * PAGE;
	assert_int_equal(umm_query_spans(e->ctx, &span, 1, &info), 0);
	assert_int_equal(info.state[UMM_PAGE_SYSTEM], 2);
	assert_int_equal(info.state[UMM_PAGE_UNMANAGED], 2);
}

static void hints_outlive_migrations_and_drops(struct env *e)
{
	struct ref_device *ref = env_device(e, 64);
	char *p = filled(e, 8);

	ADVISE(e, p, 8, .hint = UMM_HINT_LATENCY_CRITICAL);
	to_device(e, ref, p, 8, 8);
	to_system(e, p, 8, 8);
	assert_int_equal(madvise(p, 8 * PAGE, MADV_DONTNEED), 0);
	assert_true(has(e, p, 8, UMM_HINT_LATENCY_CRITICAL));
}

static void hints_end_where_memory_does(struct env *e)
{
	struct ref_device *ref = env_device(e, 64);
	char *p = env_attach(e, 16 * PAGE), *q = env_alloc_small(e, 8 * PAGE);

	fill(p, 16, 1);
	to_device(e, ref, p, 16, 16);
	ADVISE(e, p, 16, .hint = UMM_HINT_NO_MIGRATE);
	ADVISE(e, q, 8, .hint = UMM_HINT_NO_MIGRATE);
	env_unmap(e, p + 4 * PAGE, 4 * PAGE);
	assert_true(has(e, p, 4, UMM_HINT_NO_MIGRATE));
	assert_false(some(e, p + 4 * PAGE, 4, UMM_HINT_NO_MIGRATE));
	assert_true(has(e, p + 8 * PAGE, 8, UMM_HINT_NO_MIGRATE));
	assert_int_equal(umm_free(e->ctx, q), 0);
	assert_false(some(e, q, 8, UMM_HINT_NO_MIGRATE));
	assert_int_equal(umm_detach(e->ctx, p), 0);
	assert_int_equal(query(e, p, 16).mixed, 0);
}

static void hints_move_with_their_mapping(struct env *e)
{
	struct ref_device *ref = env_device(e, 64);
	char *p = env_attach(e, 16 * PAGE), *to = env_map(e, 8 * PAGE);

	fill(p, 16, 1);
	to_device(e, ref, p, 16, 16);
	ADVISE(e, p + 2 * PAGE, 4, .hint = UMM_HINT_GRANULARITY, .order = 1);
	assert_ptr_equal(mremap(p, 8 * PAGE, 8 * PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, to), to);
	env_forget(e, p, 8 * PAGE);
	assert_int_equal(query(e, p, 16).mixed, 0);
	assert_int_equal(query(e, to, 2).mixed, 0);
	assert_int_equal(query(e, to + 2 * PAGE, 4).order, 1);
	assert_int_equal(query(e, to + 6 * PAGE, 2).hints, 0);
	assert_filled(to, 8, 1);
}

static void hints_end_with_what_they_name(struct env *e)
{
	struct ref_device *a = env_device(e, 64), *b = env_device(e, 64);
	struct umm_span_info info;
	char *p = filled(e, 8);

	ADVISE(e, p, 8, .hint = UMM_HINT_PREFERRED, .mem = a->mem);
	ADVISE(e, p, 8, .hint = UMM_HINT_ACCESSED_BY, .dev = a->dev);
	ADVISE(e, p, 8, .hint = UMM_HINT_ACCESSED_BY, .dev = b->dev);
	to_device(e, a, p, 8, 8);
	env_device_gone(e, a);
	info = query(e, p, 8);
	assert_int_equal(info.hints, 1 << UMM_HINT_ACCESSED_BY);
	assert_int_equal(info.ndevices, 1);
	assert_ptr_equal(info.devices[0], b->dev);
	assert_filled(p, 8, 1);
}

static void bad_hints_are_refused(struct env *e)
{
	struct ref_device *ref = env_device(e, 16);
	char *p = env_alloc_small(e, 8 * PAGE), *plain = env_map(e, 4 * PAGE);

	assert_int_equal(advise(e, plain, 1, (struct umm_advice){ 0 }), -EFAULT);
	/* Half of it is managed: nothing is set. */
	assert_int_equal(advise(e, p, 4096,
				(struct umm_advice){ .hint = UMM_HINT_LATENCY_CRITICAL }),
			 -EFAULT);
	assert_int_equal(query(e, p, 8).mixed, 0);
	assert_int_equal(advise(e, p, 0, (struct umm_advice){ 0 }), -EINVAL);
	assert_int_equal(advise(e, p, 1, (struct umm_advice){ .hint = UMM_NR_HINTS }), -EINVAL);
	assert_int_equal(advise(e, p, 1, (struct umm_advice){ .flags = 1 << 7 }), -EINVAL);
	assert_int_equal(
		advise(e, p, 1,
		       (struct umm_advice){ .hint = UMM_HINT_NO_MIGRATE, .mem = ref->mem }),
		-EINVAL);
	assert_int_equal(advise(e, p, 1,
				(struct umm_advice){ .hint = UMM_HINT_PREFERRED,
						     .flags = UMM_ADVICE_UNSET,
						     .mem = ref->mem }),
			 -EINVAL);
	assert_int_equal(advise(e, p, 1, (struct umm_advice){ .hint = UMM_HINT_ACCESSED_BY }),
			 -EINVAL);
	assert_int_equal(advise(e, p, 1,
				(struct umm_advice){ .hint = UMM_HINT_GRANULARITY, .order = 10 }),
			 -EINVAL);
	assert_int_equal(umm_free(e->ctx, p), 0);
	assert_int_equal(advise(e, p, 1, (struct umm_advice){ .hint = UMM_HINT_NO_MIGRATE }),
			 -EFAULT);
}

static void last_word_of_contradictions_counts(struct env *e)
{
	struct ref_device *ref = env_device(e, 64);
	char *p = filled(e, 8), *q = filled(e, 8);

	ADVISE(e, p, 8, .hint = UMM_HINT_PREFERRED);
	ADVISE(e, p, 8, .hint = UMM_HINT_PREFERRED, .mem = ref->mem);
	assert_ptr_equal(query(e, p, 8).preferred, ref->mem);
	/* NO_MIGRATE counts more: it is not where it is preferred, and stays. */
	ADVISE(e, p, 8, .hint = UMM_HINT_NO_MIGRATE);
	assert_device_sees(ref, p, 8, 1);
	assert_state(e, p, 8, UMM_PAGE_SYSTEM);
	ADVISE(e, p, 8, .hint = UMM_HINT_NO_MIGRATE, .flags = UMM_ADVICE_UNSET);
	assert_device_sees(ref, p, 8, 1);
	assert_state(e, p, 8, env_home(e));
	/* So does ACCESSED_BY. */
	ADVISE(e, q, 8, .hint = UMM_HINT_PREFERRED, .mem = ref->mem);
	ADVISE(e, q, 8, .hint = UMM_HINT_ACCESSED_BY, .dev = ref->dev);
	assert_device_sees(ref, q, 8, 1);
	assert_state(e, q, 8, UMM_PAGE_SYSTEM);
}

static void read_mostly_counts_more_than_what_keeps_pages(struct env *e)
{
	struct ref_device *ref = env_device(e, 64);
	char *p = filled(e, 12);

	ADVISE(e, p, 4, .hint = UMM_HINT_PREFERRED);
	ADVISE(e, p + 4 * PAGE, 4, .hint = UMM_HINT_NO_MIGRATE);
	ADVISE(e, p + 8 * PAGE, 4, .hint = UMM_HINT_LATENCY_CRITICAL);
	ADVISE(e, p, 12, .hint = UMM_HINT_READ_MOSTLY);
	assert_device_sees(ref, p, 12, 1);
	assert_state(e, p, 12, UMM_PAGE_DUPLICATED);
	assert_filled(p, 12, 1);
}

/* A unit comes home with the page that was missed, whatever keeps its pages from coming ahead. */
static void unit_comes_home_with_what_hints_keep_from_coming_ahead(struct env *e)
{
	struct ref_device *ref = env_device(e, 64);
	char *p = filled_units(e, 64);

	ADVISE(e, p, 64, .hint = UMM_HINT_GRANULARITY, .order = 5);
	ADVISE(e, p, 64, .hint = UMM_HINT_READAHEAD, .readahead = UMM_READAHEAD_OFF);
	ADVISE(e, p + 4 * PAGE, 4, .hint = UMM_HINT_NO_MIGRATE);
	ADVISE(e, p + 10 * PAGE, 4, .hint = UMM_HINT_LATENCY_CRITICAL);
	to_device(e, ref, p, 64, 64);
	env_mark(e);
	assert_true(filled_at(p, 20, 1));
	assert_state(e, p, 32, UMM_PAGE_SYSTEM);
	assert_state(e, p + 32 * PAGE, 32, UMM_PAGE_DEVICE);
	assert_delta(e, UMM_COUNT_TO_SYSTEM + UMM_CAUSE_CPU_FAULT, 32);
	assert_filled(p, 64, 1);
}

static void device_leaves_of_a_unit_what_hints_keep(struct env *e)
{
	struct ref_device *ref = env_device(e, 64);
	char *p = filled_units(e, 16);

	ADVISE(e, p, 16, .hint = UMM_HINT_GRANULARITY, .order = 4);
	ADVISE(e, p + 4 * PAGE, 2, .hint = UMM_HINT_NO_MIGRATE);
	ADVISE(e, p + 6 * PAGE, 2, .hint = UMM_HINT_ACCESSED_BY, .dev = ref->dev);
	ADVISE(e, p + 8 * PAGE, 2, .hint = UMM_HINT_PREFERRED);
	assert_int_equal(ref_read(ref, (uintptr_t)p, &(char){ 0 }, 1), 0);
	assert_state(e, p, 4, env_home(e));
	assert_state(e, p + 4 * PAGE, 6, UMM_PAGE_SYSTEM);
	assert_state(e, p + 10 * PAGE, 6, env_home(e));
	assert_filled(p, 16, 1);
}

static void child_check_hints(void *arg)
{
	struct env *e = arg;
	char *p;

	child_check(umm_alloc(e->ctx, 8 * PAGE, 0, (void **)&p) == 0);
	child_check(advise(e, p, 1, (struct umm_advice){ .hint = UMM_HINT_NO_MIGRATE }) == -ENODEV);
	child_check(umm_free(e->ctx, p) == 0);
}

static void forked_child_may_not_hint(struct env *e)
{
	char *p = filled(e, 8);

	ADVISE(e, p, 8, .hint = UMM_HINT_NO_MIGRATE);
	assert_true(in_child(child_check_hints, e));
	assert_true(has(e, p, 8, UMM_HINT_NO_MIGRATE));
}

static const struct test_case cases[] = {
	TEST(ALL, preferred_host_pages_are_used_in_place),
	TEST(ALL, untouched_pages_are_made_where_they_are_preferred),
	TEST(ALL, preferred_device_keeps_what_another_can_reach),
	TEST(ALL, device_that_accesses_leaves_pages_in_place),
	TEST(ALL, device_that_accesses_need_not_fault),
	TEST(ONCE, forked_child_closes_while_a_device_is_told),
	TEST(ALL, unmovable_pages_stay_but_for_who_insists),
	TEST(ALL, critical_blocks_are_evicted_last),
	TEST(ALL, unmovable_blocks_are_evicted_last),
	TEST(ALL, critical_pages_are_not_pulled_ahead),
	TEST(ALL, faults_move_whole_units),
	TEST(ALL, page_without_the_hint_stays_out_of_its_unit),
	TEST(PRIVATE, unit_on_two_memories_comes_home_by_memory),
	TEST(PRIVATE, lost_page_of_a_unit_is_sigbus_and_the_others_come_home),
	TEST(PRIVATE, missed_page_that_has_left_its_unit_comes_home),
	TEST(ALL, read_mostly_pages_are_copied_to_readers),
	TEST(ONCE, hints_read_back_as_they_were_set),
	TEST(ONCE, list_is_read_back_at_once),
	TEST(ONCE, answers_are_given_for_good_lists_only),
	TEST(ONCE, query_passes_what_is_not_managed_at_once),
	TEST(ALL, hints_outlive_migrations_and_drops),
	TEST(ALL, hints_end_where_memory_does),
	TEST(ALL, hints_move_with_their_mapping),
	TEST(ALL, hints_end_with_what_they_name),
	TEST(ONCE, bad_hints_are_refused),
	TEST(ALL, last_word_of_contradictions_counts),
	TEST(ALL, read_mostly_counts_more_than_what_keeps_pages),
	TEST(PRIVATE, unit_comes_home_with_what_hints_keep_from_coming_ahead),
	TEST(ALL, device_leaves_of_a_unit_what_hints_keep),
	TEST(ONCE, forked_child_may_not_hint),
};

int main(int argc, char **argv)
{
	hook_init();
	return harness_main("hints", cases, sizeof(cases) / sizeof(cases[0]), argc, argv);
}
