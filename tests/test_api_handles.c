/* SPDX-License-Identifier: MIT */
/*
 * Handles that are bad: NULL, of another kind, of what is gone. Every public function that takes
 * one refuses it, and what it would have worked on is as before.
 */
#include "api_world.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

static const char *const functions[] = {
#define FUNCTION(name) #name
#include "api_functions.h" /* what libumm.map exports */
};

enum kind { CTX, DEVICE, DEVMEM, MIRROR, NOTIFIER, FENCE, PIN, INVALIDATION, KINDS };

/* One object of each kind. */
struct objects {
	void *of[KINDS];
};

static const struct umm_span anywhere = { UMM_PAGE_SIZE, UMM_PAGE_SIZE };
static const struct umm_notifier_range a_change = { .start = UMM_PAGE_SIZE,
						    .end = 2 * UMM_PAGE_SIZE,
						    .event = UMM_EVENT_CLEAR,
						    .blockable = true };

static struct objects objects_create(void)
{
	struct umm_notifier *notifier;
	struct umm_mirror *mirror;
	struct umm_devmem *mem;
	struct umm_device *dev;
	struct umm_fence *fence;
	struct umm_invalidation *invalidation;
	struct umm_pin *pin;
	struct umm_ctx *ctx;
	void *p;

	assert_int_equal(umm_ctx_create(NULL, &ctx), 0);
	assert_int_equal(
		umm_device_create(ctx, &api_device_ops, NULL, UMM_DEVICE_INLINE_COPY, &dev), 0);
	assert_int_equal(umm_devmem_add(dev, &api_memory, &mem), 0);
	assert_int_equal(umm_mirror_register(dev, &api_mirror_ops, NULL, &mirror), 0);
	assert_int_equal(umm_notifier_insert(ctx, &anywhere, &api_notifier_ops, NULL, &notifier),
			 0);
	assert_int_equal(umm_fence_create(&fence), 0);
	assert_int_equal(umm_alloc(ctx, UMM_PAGE_SIZE, 0, &p), 0);
	assert_int_equal(umm_pin(ctx, (uintptr_t)p, 1, UMM_PIN_WRITE, &pin), 0);
	assert_int_equal(umm_invalidate_range_start(ctx, &a_change, &invalidation), 0);
	return (struct objects){ { ctx, dev, mem, mirror, notifier, fence, pin, invalidation } };
}

/* Each by its own function. */
static void objects_destroy(const struct objects *o)
{
	umm_invalidate_range_end(o->of[CTX], o->of[INVALIDATION]);
	umm_unpin(o->of[PIN]);
	umm_fence_put(o->of[FENCE]);
	assert_int_equal(umm_notifier_remove(o->of[NOTIFIER]), 0);
	assert_int_equal(umm_mirror_unregister(o->of[MIRROR]), 0);
	umm_devmem_remove(o->of[DEVMEM]);
	umm_device_destroy(o->of[DEVICE]);
	umm_ctx_put(o->of[CTX]);
}

/*
 * Calls with a handle h that may be bad. Whatever else they need is in order, so that nothing
 * but h can be the reason for what they return (0 where they return nothing).
 */
static uint64_t items[2];
static uint32_t frame_zero;
static struct umm_page_info page;
static struct umm_page_place place;
static struct umm_range_place range_place = { .size = sizeof(range_place) };
static struct umm_stats stats = { .size = sizeof(stats) };
static union {
	void *alloc;
	struct umm_device *dev;
	struct umm_devmem *mem;
	struct umm_mirror *mirror;
	struct umm_notifier *notifier;
	struct umm_invalidation *invalidation;
	struct umm_pin *pin;
} out;

static int never_copied(void *priv, struct umm_migrate *migrate)
{
	(void)priv;
	(void)migrate;
	fail_msg("a migration with a bad handle was set up");
	return 0;
}

static const struct umm_migrate_ops migrate_ops = {
	.size = sizeof(migrate_ops),
	.alloc_and_copy = never_copied,
};

static int never_mapped(void *priv, uintptr_t addr, uint64_t entry, uint64_t *daddr)
{
	(void)priv;
	(void)addr;
	(void)entry;
	*daddr = 0;
	fail_msg("a range with a bad handle was mapped");
	return 0;
}

static void never_unmapped(void *priv, uintptr_t addr, uint64_t daddr, bool dirty)
{
	(void)priv;
	(void)addr;
	(void)daddr;
	(void)dirty;
	fail_msg("a range with a bad handle was unmapped");
}

static const struct umm_range_map_ops map_ops = {
	.size = sizeof(map_ops),
	.map = never_mapped,
	.unmap = never_unmapped,
};
static uint64_t daddr;
static struct umm_span_info span_info = { .size = sizeof(span_info) };

static struct umm_migrate a_migrate(struct world *w)
{
	return (struct umm_migrate){ .size = sizeof(struct umm_migrate),
				     .flags = UMM_MIGRATE_SELECT_SYSTEM,
				     .ctx = w->ctx,
				     .start = (uintptr_t)w->p,
				     .end = (uintptr_t)w->p + UMM_PAGE_SIZE,
				     .dst_mem = w->mem,
				     .owner = w->dev,
				     .src = &items[0],
				     .dst = &items[1] };
}

static struct umm_advice a_advice(struct world *w)
{
	static struct umm_span span;

	span = (struct umm_span){ (uintptr_t)w->p, UMM_PAGE_SIZE };
	return (struct umm_advice){ .size = sizeof(struct umm_advice),
				    .spans = &span,
				    .nspans = 1,
				    .hint = UMM_HINT_PREFERRED };
}

static struct umm_prefetch a_prefetch(struct world *w)
{
	static struct umm_span span;

	span = (struct umm_span){ (uintptr_t)w->p, UMM_PAGE_SIZE };
	return (struct umm_prefetch){ .size = sizeof(struct umm_prefetch),
				      .spans = &span,
				      .nspans = 1 };
}

static struct umm_range a_range(struct world *w)
{
	return (struct umm_range){ .size = sizeof(struct umm_range),
				   .notifier = umm_mirror_notifier(w->mirror),
				   .start = (uintptr_t)w->p,
				   .end = (uintptr_t)w->p + UMM_PAGE_SIZE,
				   .entries = items,
				   .owner = w->dev,
				   .mem = w->mem };
}

#define CALL(name, ...)                                   \
	static long call_##name(struct world *w, void *h) \
	{                                                 \
		(void)w;                                  \
		return (long)(__VA_ARGS__);               \
	}
#define CALL_STRUCT(name, structure, member, ...)              \
	static long call_##name(struct world *w, void *h)      \
	{                                                      \
		struct umm_##structure arg = a_##structure(w); \
                                                               \
		arg.member = h;                                \
		return (long)(__VA_ARGS__);                    \
	}

static const struct umm_devmem_policy api_evict = { .size = sizeof(api_evict) };
static uintptr_t recorded;
static struct umm_devmem_policy out_evict = { .size = sizeof(out_evict) };

CALL(ctx_get, umm_ctx_get(h))
CALL(ctx_put, (umm_ctx_put(h), 0))
CALL(alloc, umm_alloc(h, UMM_PAGE_SIZE, 0, &out.alloc))
CALL(free, umm_free(h, w->p))
CALL(attach, umm_attach(h, w->plain, UMM_PAGE_SIZE))
CALL(detach, umm_detach(h, w->p))
CALL(query, umm_query(h, (uintptr_t)w->p, 1, &page))
CALL(query_spans, umm_query_spans(h, &anywhere, 1, &span_info))
CALL(advise,
     umm_advise(h, &(struct umm_advice){
			   .size = sizeof(struct umm_advice), .spans = &anywhere, .nspans = 1 }))
CALL_STRUCT(advise_mem, advice, mem, umm_advise(w->ctx, &arg))
static long call_advise_dev(struct world *w, void *h)
{
	struct umm_advice arg = a_advice(w);

	arg.hint = UMM_HINT_ACCESSED_BY;
	arg.dev = h;
	return umm_advise(w->ctx, &arg);
}
CALL(discard, umm_discard(h, &anywhere, 1))
CALL(prefetch, umm_prefetch(h, &(struct umm_prefetch){ .size = sizeof(struct umm_prefetch) }, NULL))
CALL_STRUCT(prefetch_mem, prefetch, dst, umm_prefetch(w->ctx, &arg, NULL))
CALL_STRUCT(prefetch_after, prefetch, after, umm_prefetch(w->ctx, &arg, NULL))
CALL(locate, umm_locate(h, (uintptr_t)w->p, 1, &place))
CALL(locate_range, umm_locate_range(h, (uintptr_t)w->p, UMM_PAGE_SIZE, &range_place))
CALL(to_device, umm_migrate_to_device(h, w->mem, w->p, 1))
CALL(to_device_mem, umm_migrate_to_device(w->ctx, h, w->p, 1))
CALL(to_system, umm_migrate_to_system(h, w->p, 1))
CALL(bring_home, umm_bring_home(h))
CALL(clear_poison, umm_clear_poison(h, (uintptr_t)w->p, 1, NULL))
CALL(pin, umm_pin(h, (uintptr_t)w->p, 1, 0, &out.pin))
CALL(unpin, (umm_unpin(h), 0))
CALL(invalidate_start, umm_invalidate_range_start(h, &a_change, &out.invalidation))
CALL(invalidate_end, (umm_invalidate_range_end(w->ctx, h), 0))
CALL(make_exclusive, umm_make_exclusive(h, (uintptr_t)w->p, (uintptr_t)w->p + UMM_PAGE_SIZE, items))
CALL(memory_failure, umm_memory_failure(h, 0, 1))
CALL(device_range, umm_migrate_device_range(h, 0, 1))
CALL(device_create, umm_device_create(h, &api_device_ops, NULL, 0, &out.dev))
CALL(notifier_insert, umm_notifier_insert(h, &anywhere, &api_notifier_ops, NULL, &out.notifier))
CALL(ctx_stats, umm_ctx_stats(h, &stats))
CALL(ctx_trim, umm_ctx_trim(h, SIZE_MAX))
CALL(alloc_stats, umm_alloc_stats(h, w->p, &stats))
CALL(device_destroy, (umm_device_destroy(h), 0))
CALL(device_priv, umm_device_priv(h))
CALL(device_name, umm_device_name(h))
CALL(device_stats, umm_device_stats(h, &stats))
CALL(devmem_add, umm_devmem_add(h, &api_memory, &out.mem))
CALL(mirror_register, umm_mirror_register(h, &api_mirror_ops, NULL, &out.mirror))
CALL(devmem_remove, (umm_devmem_remove(h), 0))
CALL(devmem_device, umm_devmem_device(h))
CALL(devmem_priv_set, (umm_devmem_priv_set(h, &items), 0))
CALL(devmem_priv, umm_devmem_priv(h))
CALL(devmem_nframes, umm_devmem_nframes(h))
CALL(devmem_nfree, umm_devmem_nfree(h))
CALL(devmem_alloc, umm_devmem_alloc(h, 1, &frame_zero))
CALL(devmem_free, (umm_devmem_free(h, 1, &frame_zero), 0))
CALL(devmem_evict, umm_devmem_evict(h, 1))
CALL(devmem_trim, umm_devmem_trim(h))
CALL(devmem_touch, (umm_devmem_touch(h, (uintptr_t)w->p, 1), 0))
CALL(devmem_policy_set, umm_devmem_policy_set(h, &api_evict))
CALL(devmem_policy, umm_devmem_policy(h, &out_evict))
CALL(devmem_record, umm_devmem_record(h, 1))
CALL(devmem_recorded, umm_devmem_recorded(h, &recorded, 1))
CALL(mirror_unregister, umm_mirror_unregister(h))
CALL(mirror_notifier, umm_mirror_notifier(h))
CALL(notifier_remove, umm_notifier_remove(h))
CALL(read_begin, umm_notifier_read_begin(h))
CALL(read_retry, umm_notifier_read_retry(h, 0))
CALL(refresh, umm_notifier_refresh(h))
CALL(fence_get, umm_fence_get(h))
CALL(fence_put, (umm_fence_put(h), 0))
CALL(fence_signal, (umm_fence_signal(h, 0, 0), 0))
CALL(fence_poll, umm_fence_poll(h))
CALL(fence_wait, umm_fence_wait(h, 0))
CALL(fence_value, umm_fence_value(h))
CALL(fence_eventfd, umm_fence_eventfd(h))
CALL_STRUCT(setup, migrate, ctx, umm_migrate_setup(&arg))
CALL_STRUCT(setup_mem, migrate, dst_mem, umm_migrate_setup(&arg))
CALL_STRUCT(setup_owner, migrate, owner, umm_migrate_setup(&arg))
CALL_STRUCT(vma, migrate, ctx, umm_migrate_vma(&arg, &migrate_ops, NULL))
CALL_STRUCT(vma_mem, migrate, dst_mem, umm_migrate_vma(&arg, &migrate_ops, NULL))
CALL_STRUCT(vma_owner, migrate, owner, umm_migrate_vma(&arg, &migrate_ops, NULL))
CALL_STRUCT(wait_until_valid, range, notifier, umm_range_wait_until_valid(&arg, 0))
CALL_STRUCT(map, range, notifier, umm_range_map(&arg, &map_ops, NULL, &daddr, 0))
CALL_STRUCT(map_owner, range, owner, umm_range_map(&arg, &map_ops, NULL, &daddr, 0))
CALL_STRUCT(map_mem, range, mem, umm_range_map(&arg, &map_ops, NULL, &daddr, 0))
CALL_STRUCT(unmap, range, notifier, umm_range_unmap(&arg, &map_ops, NULL, &daddr, 0))
CALL_STRUCT(snapshot, range, notifier, umm_range_snapshot(&arg))
CALL_STRUCT(snapshot_owner, range, owner, umm_range_snapshot(&arg))
CALL_STRUCT(snapshot_mem, range, mem, umm_range_snapshot(&arg))
CALL_STRUCT(fault, range, notifier, umm_range_fault(&arg, 0))
CALL_STRUCT(fault_owner, range, owner, umm_range_fault(&arg, 0))
CALL_STRUCT(fault_mem, range, mem, umm_range_fault(&arg, 0))

static long spans(struct umm_ctx *ctx, struct umm_devmem *dst, struct world *w,
		  struct umm_fence **fence)
{
	struct umm_span span = { (uintptr_t)w->p, UMM_PAGE_SIZE };
	struct umm_migrate_request req = {
		.size = sizeof(req), .spans = &span, .nspans = 1, .dst = dst
	};

	return umm_migrate_spans(ctx, &req, fence);
}

CALL(spans, spans(h, w->mem, w, NULL))
CALL(spans_mem, spans(w->ctx, h, w, NULL))

/* What NULL does: as any other bad handle, nothing (0), or it stands for something. */
enum null { NULL_IS_BAD, NULL_IS_0, NULL_IS_FINE };

#define USE(function, call, kind, result, null)            \
	{                                                  \
#function, call_##call, kind, result, null \
	}

static const struct {
	const char *function;
	long (*call)(struct world *w, void *h);
	enum kind kind;
	long result; /* with a bad handle */
	enum null null;
} uses[] = {
	USE(umm_ctx_get, ctx_get, CTX, 0, NULL_IS_BAD),
	USE(umm_ctx_put, ctx_put, CTX, 0, NULL_IS_BAD),
	USE(umm_alloc, alloc, CTX, -EINVAL, NULL_IS_BAD),
	USE(umm_free, free, CTX, -EINVAL, NULL_IS_BAD),
	USE(umm_attach, attach, CTX, -EINVAL, NULL_IS_BAD),
	USE(umm_detach, detach, CTX, -EINVAL, NULL_IS_BAD),
	USE(umm_query, query, CTX, -EINVAL, NULL_IS_BAD),
	USE(umm_query_spans, query_spans, CTX, -EINVAL, NULL_IS_BAD),
	USE(umm_discard, discard, CTX, -EINVAL, NULL_IS_BAD),
	USE(umm_prefetch, prefetch, CTX, -EINVAL, NULL_IS_BAD),
	USE(umm_prefetch, prefetch_mem, DEVMEM, -EINVAL, NULL_IS_FINE),
	USE(umm_prefetch, prefetch_after, FENCE, -EINVAL, NULL_IS_FINE),
	USE(umm_advise, advise, CTX, -EINVAL, NULL_IS_BAD),
	USE(umm_advise, advise_mem, DEVMEM, -EINVAL, NULL_IS_FINE),
	USE(umm_advise, advise_dev, DEVICE, -EINVAL, NULL_IS_BAD),
	USE(umm_locate, locate, CTX, -EINVAL, NULL_IS_BAD),
	USE(umm_locate_range, locate_range, CTX, -EINVAL, NULL_IS_BAD),
	USE(umm_migrate_spans, spans, CTX, -EINVAL, NULL_IS_BAD),
	USE(umm_migrate_spans, spans_mem, DEVMEM, -EINVAL, NULL_IS_FINE),
	USE(umm_migrate_to_device, to_device, CTX, -EINVAL, NULL_IS_BAD),
	USE(umm_migrate_to_device, to_device_mem, DEVMEM, -EINVAL, NULL_IS_BAD),
	USE(umm_migrate_to_system, to_system, CTX, -EINVAL, NULL_IS_BAD),
	USE(umm_bring_home, bring_home, CTX, -EINVAL, NULL_IS_BAD),
	USE(umm_clear_poison, clear_poison, CTX, -EINVAL, NULL_IS_BAD),
	USE(umm_pin, pin, CTX, -EINVAL, NULL_IS_BAD),
	USE(umm_unpin, unpin, PIN, 0, NULL_IS_BAD),
	USE(umm_invalidate_range_start, invalidate_start, CTX, -EINVAL, NULL_IS_BAD),
	USE(umm_invalidate_range_end, invalidate_end, INVALIDATION, 0, NULL_IS_BAD),
	USE(umm_make_exclusive, make_exclusive, DEVICE, -EINVAL, NULL_IS_BAD),
	USE(umm_memory_failure, memory_failure, DEVMEM, -EINVAL, NULL_IS_BAD),
	USE(umm_migrate_device_range, device_range, DEVMEM, -EINVAL, NULL_IS_BAD),
	USE(umm_migrate_vma, vma, CTX, -EINVAL, NULL_IS_BAD),
	USE(umm_migrate_vma, vma_mem, DEVMEM, -EINVAL, NULL_IS_FINE),
	USE(umm_migrate_vma, vma_owner, DEVICE, -EINVAL, NULL_IS_FINE),
	USE(umm_range_wait_until_valid, wait_until_valid, NOTIFIER, -EINVAL, NULL_IS_BAD),
	USE(umm_range_map, map, NOTIFIER, -EINVAL, NULL_IS_BAD),
	USE(umm_range_map, map_owner, DEVICE, -EINVAL, NULL_IS_FINE),
	USE(umm_range_map, map_mem, DEVMEM, -EINVAL, NULL_IS_FINE),
	USE(umm_range_unmap, unmap, NOTIFIER, -EINVAL, NULL_IS_BAD),
	USE(umm_device_create, device_create, CTX, -EINVAL, NULL_IS_BAD),
	USE(umm_notifier_insert, notifier_insert, CTX, -EINVAL, NULL_IS_BAD),
	USE(umm_ctx_stats, ctx_stats, CTX, -EINVAL, NULL_IS_BAD),
	USE(umm_ctx_trim, ctx_trim, CTX, -EINVAL, NULL_IS_BAD),
	USE(umm_alloc_stats, alloc_stats, CTX, -EINVAL, NULL_IS_BAD),
	USE(umm_device_destroy, device_destroy, DEVICE, 0, NULL_IS_BAD),
	USE(umm_device_priv, device_priv, DEVICE, 0, NULL_IS_BAD),
	USE(umm_device_name, device_name, DEVICE, 0, NULL_IS_BAD),
	USE(umm_device_stats, device_stats, DEVICE, -EINVAL, NULL_IS_BAD),
	USE(umm_devmem_add, devmem_add, DEVICE, -EINVAL, NULL_IS_BAD),
	USE(umm_mirror_register, mirror_register, DEVICE, -EINVAL, NULL_IS_BAD),
	USE(umm_devmem_remove, devmem_remove, DEVMEM, 0, NULL_IS_BAD),
	USE(umm_devmem_device, devmem_device, DEVMEM, 0, NULL_IS_BAD),
	USE(umm_devmem_priv_set, devmem_priv_set, DEVMEM, 0, NULL_IS_BAD),
	USE(umm_devmem_priv, devmem_priv, DEVMEM, 0, NULL_IS_BAD),
	USE(umm_devmem_nframes, devmem_nframes, DEVMEM, 0, NULL_IS_BAD),
	USE(umm_devmem_nfree, devmem_nfree, DEVMEM, 0, NULL_IS_BAD),
	USE(umm_devmem_alloc, devmem_alloc, DEVMEM, -EINVAL, NULL_IS_BAD),
	USE(umm_devmem_free, devmem_free, DEVMEM, 0, NULL_IS_BAD),
	USE(umm_devmem_evict, devmem_evict, DEVMEM, -EINVAL, NULL_IS_BAD),
	USE(umm_devmem_trim, devmem_trim, DEVMEM, -EINVAL, NULL_IS_BAD),
	USE(umm_devmem_touch, devmem_touch, DEVMEM, 0, NULL_IS_BAD),
	USE(umm_devmem_policy_set, devmem_policy_set, DEVMEM, -EINVAL, NULL_IS_BAD),
	USE(umm_devmem_policy, devmem_policy, DEVMEM, -EINVAL, NULL_IS_BAD),
	USE(umm_devmem_record, devmem_record, DEVMEM, -EINVAL, NULL_IS_BAD),
	USE(umm_devmem_recorded, devmem_recorded, DEVMEM, 0, NULL_IS_BAD),
	USE(umm_mirror_unregister, mirror_unregister, MIRROR, -EINVAL, NULL_IS_0),
	USE(umm_mirror_notifier, mirror_notifier, MIRROR, 0, NULL_IS_BAD),
	USE(umm_notifier_remove, notifier_remove, NOTIFIER, -EINVAL, NULL_IS_0),
	USE(umm_notifier_read_begin, read_begin, NOTIFIER, 0, NULL_IS_BAD),
	USE(umm_notifier_read_retry, read_retry, NOTIFIER, true, NULL_IS_BAD),
	USE(umm_notifier_refresh, refresh, NOTIFIER, -EINVAL, NULL_IS_BAD),
	USE(umm_range_snapshot, snapshot, NOTIFIER, -EINVAL, NULL_IS_BAD),
	USE(umm_range_snapshot, snapshot_owner, DEVICE, -EINVAL, NULL_IS_FINE),
	USE(umm_range_snapshot, snapshot_mem, DEVMEM, -EINVAL, NULL_IS_FINE),
	USE(umm_range_fault, fault, NOTIFIER, -EINVAL, NULL_IS_BAD),
	USE(umm_range_fault, fault_owner, DEVICE, -EINVAL, NULL_IS_FINE),
	USE(umm_range_fault, fault_mem, DEVMEM, -EINVAL, NULL_IS_FINE),
	USE(umm_migrate_setup, setup, CTX, -EINVAL, NULL_IS_BAD),
	USE(umm_migrate_setup, setup_mem, DEVMEM, -EINVAL, NULL_IS_FINE),
	USE(umm_migrate_setup, setup_owner, DEVICE, -EINVAL, NULL_IS_FINE),
	USE(umm_fence_get, fence_get, FENCE, 0, NULL_IS_BAD),
	USE(umm_fence_put, fence_put, FENCE, 0, NULL_IS_BAD),
	USE(umm_fence_signal, fence_signal, FENCE, 0, NULL_IS_BAD),
	USE(umm_fence_poll, fence_poll, FENCE, -EINVAL, NULL_IS_BAD),
	USE(umm_fence_wait, fence_wait, FENCE, -EINVAL, NULL_IS_BAD),
	USE(umm_fence_value, fence_value, FENCE, 0, NULL_IS_BAD),
	USE(umm_fence_eventfd, fence_eventfd, FENCE, -EINVAL, NULL_IS_BAD),
};

#define NUSES (sizeof(uses) / sizeof(uses[0]))

static void assert_refused(struct world *w, size_t use, void *h, const char *what)
{
	long result = h || uses[use].null == NULL_IS_BAD ? uses[use].result : 0;
	long got = uses[use].call(w, h);

	if (got != result)
		fail_msg("%s (use %zu) with %s: %ld, not %ld", uses[use].function, use, what, got,
			 result);
}

/* The steps of a migration take no handle but what umm_migrate_setup() put there. */
static void every_function_with_a_handle_is_in_the_table(void **state)
{
	static const char *const others[] = {
		"umm_counter_name",  "umm_ctx_create",	    "umm_fence_create",
		"umm_handle_sigbus", "umm_in_callback",	    "umm_log",
		"umm_log_set",	     "umm_migrate_host",    "umm_migrate_finalize",
		"umm_migrate_pages", "umm_migrate_src_mem", "umm_mremap",
		"umm_page_size",     "umm_probe",	    "umm_stats_print",
		"umm_strerror",	     "umm_trace",	    "umm_version",
	};
	const char *name;
	bool found;

	(void)state;
	for (size_t i = 0; i < sizeof(functions) / sizeof(functions[0]); i++) {
		name = functions[i];
		found = false;
		for (size_t k = 0; k < NUSES && !found; k++)
			found = !strcmp(uses[k].function, name);
		for (size_t k = 0; k < sizeof(others) / sizeof(others[0]) && !found; k++)
			found = !strcmp(others[k], name);
		if (!found)
			fail_msg("%s", name);
	}
}

static void handles_of_another_kind_are_refused(void **state)
{
	struct world *w = *state;
	struct objects live = objects_create();

	world_extend(w);
	for (size_t use = 0; use < NUSES; use++) {
		for (unsigned kind = 0; kind < KINDS; kind++)
			if (kind != uses[use].kind)
				assert_refused(w, use, live.of[kind], "another kind");
		if (uses[use].null != NULL_IS_FINE)
			assert_refused(w, use, NULL, "NULL");
	}
	assert_data(w);
	/* They are as live as before. */
	objects_destroy(&live);
	munmap(w->plain, UMM_PAGE_SIZE);
}

static void dead_handles_are_refused(struct world *w, const struct objects *dead, const char *what)
{
	for (size_t use = 0; use < NUSES; use++)
		assert_refused(w, use, dead->of[uses[use].kind], what);
}

static void handles_of_what_is_gone_are_refused(void **state)
{
	struct world *w = *state;
	struct objects one = objects_create(), closed = objects_create(), later;
	struct umm_notifier *backing = umm_mirror_notifier(one.of[MIRROR]);

	world_extend(w);
	objects_destroy(&one);
	dead_handles_are_refused(w, &one, "its own end");
	assert_int_equal(umm_notifier_read_begin(backing), 0);
	assert_true(umm_notifier_read_retry(backing, 0));

	/* Closing a context ends all that hangs off it. */
	umm_ctx_put(closed.of[CTX]);
	umm_fence_put(closed.of[FENCE]);
	dead_handles_are_refused(w, &closed, "its context's end");

	/* Nothing new appears at its place for a while. */
	for (int i = 0; i < 8; i++) {
		later = objects_create();
		dead_handles_are_refused(w, &one, "others after it");
		dead_handles_are_refused(w, &closed, "others after it");
		objects_destroy(&later);
	}
	assert_data(w);
	munmap(w->plain, UMM_PAGE_SIZE);
}

/* A device that uses its handles in its last callbacks, and destroys them once more there. */
static struct {
	struct objects o;
	unsigned releases, destroys;
} last;

static void last_release(void *priv)
{
	(void)priv;
	last.releases++;
	assert_int_equal(umm_mirror_unregister(last.o.of[MIRROR]), -EINVAL);
	assert_string_equal(umm_device_name(last.o.of[DEVICE]), "array");
	assert_ptr_equal(umm_ctx_get(last.o.of[CTX]), last.o.of[CTX]);
	umm_ctx_put(last.o.of[CTX]);
}

static void last_destroy(void *priv)
{
	(void)priv;
	last.destroys++;
	assert_string_equal(umm_device_name(last.o.of[DEVICE]), "array");
	umm_device_destroy(last.o.of[DEVICE]);
	umm_ctx_put(last.o.of[CTX]);
}

static void handles_are_good_until_the_last_callback(void **state)
{
	struct umm_mirror_ops my_mirror_ops = api_mirror_ops;
	struct umm_device_ops my_ops = api_device_ops;
	struct umm_mirror *mirror;
	struct umm_device *dev;
	struct umm_ctx *ctx;

	(void)state;
	memset(&last, 0, sizeof(last));
	my_mirror_ops.release = last_release;
	my_ops.destroy = last_destroy;
	assert_int_equal(umm_ctx_create(NULL, &ctx), 0);
	assert_int_equal(umm_device_create(ctx, &my_ops, NULL, 0, &dev), 0);
	assert_int_equal(umm_mirror_register(dev, &my_mirror_ops, NULL, &mirror), 0);
	last.o = (struct objects){ { [CTX] = ctx, [DEVICE] = dev, [MIRROR] = mirror } };
	umm_ctx_put(ctx);
	assert_int_equal(last.releases, 1);
	assert_int_equal(last.destroys, 1);
}

static void notifier_of_a_mirror_is_not_removed(void **state)
{
	struct world *w = *state;
	struct umm_notifier *notifier;

	world_extend(w);
	notifier = umm_mirror_notifier(w->mirror);
	assert_int_equal(umm_notifier_remove(notifier), -EINVAL);
	assert_false(umm_notifier_read_retry(notifier, umm_notifier_read_begin(notifier)));
	munmap(w->plain, UMM_PAGE_SIZE);
}

int main(void)
{
	const struct CMUnitTest plain[] = {
		cmocka_unit_test(every_function_with_a_handle_is_in_the_table),
	};
	const struct CMUnitTest worldly[] = {
		WITH_WORLD(handles_of_another_kind_are_refused),
		WITH_WORLD(handles_of_what_is_gone_are_refused),
		WITH_WORLD(handles_are_good_until_the_last_callback),
		WITH_WORLD(notifier_of_a_mirror_is_not_removed),
	};
	struct umm_probe_info info = { .size = sizeof(info) };
	int failed;

	/* No watchdog thread here: the default action of SIGALRM ends what hangs. */
	alarm(100);
	failed = cmocka_run_group_tests_name("test_api_handles", plain, NULL, NULL);
	if (umm_probe(&info) == 0 && info.uffd_access == UMM_UFFD_NONE) {
		printf("SKIP userfaultfd is refused: %s\n", info.advice);
		return failed ? failed : EXIT_SKIPPED;
	}
	return failed + cmocka_run_group_tests_name("test_api_handles", worldly, NULL, NULL);
}
