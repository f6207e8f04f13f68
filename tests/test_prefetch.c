/* SPDX-License-Identifier: MIT */
/* Prefetch and discard: in order, as far as it fits, and without a copy where none is needed. */
#include "harness.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

static long prefetch(struct env *e, void *addr, size_t npages, struct umm_prefetch req,
		     struct umm_fence **fence)
{
	struct umm_span span = { (uintptr_t)addr, npages * PAGE };

	req.size = sizeof(req);
	req.spans = &span;
	req.nspans = 1;
	return umm_prefetch(e->ctx, &req, fence);
}

#define PREFETCH(e, addr, npages, ...) \
	prefetch(e, addr, npages, (struct umm_prefetch){ __VA_ARGS__ }, NULL)

static long discard(struct env *e, void *addr, size_t npages)
{
	struct umm_span span = { (uintptr_t)addr, npages * PAGE };

	return umm_discard(e->ctx, &span, 1);
}

static struct umm_span_info query(struct env *e, const void *addr, size_t npages)
{
	struct umm_span span = { (uintptr_t)addr, npages * PAGE };
	struct umm_span_info info = { .size = sizeof(info) };

	assert_int_equal(umm_query_spans(e->ctx, &span, 1, &info), 0);
	return info;
}

static void prefetch_brings_pages_and_back(struct env *e)
{
	struct ref_device *ref = env_device(e, 64);
	char *p = env_alloc_small(e, 16 * PAGE);

	fill(p, 16, 1);
	to_device(e, ref, p, 4, 4);
	/* Those that are there count, too. */
	assert_int_equal(PREFETCH(e, p, 16, .dst = ref->mem), 16);
	assert_state(e, p, 16, env_home(e));
	assert_int_equal(query(e, p, 16).prefetched, 1);
	assert_ptr_equal(query(e, p, 16).target, ref->mem);
	assert_int_equal(PREFETCH(e, p, 8, .dst = NULL), 8);
	assert_state(e, p, 8, UMM_PAGE_SYSTEM);
	assert_state(e, p + 8 * PAGE, 8, env_home(e));
	assert_null(query(e, p, 8).target);
	assert_int_equal(query(e, p, 8).prefetched, 1);
	assert_int_equal(query(e, p, 16).prefetched, 0);
	assert_int_equal(query(e, p, 16).counter[UMM_COUNT_TO_DEVICE + UMM_CAUSE_EXPLICIT], 16);
	assert_filled(p, 16, 1);
}

static void prefetch_waits_for_its_fence(struct env *e)
{
	struct ref_device *ref = env_device(e, 64);
	char *p = env_alloc_small(e, 8 * PAGE), *q = env_alloc_small(e, 8 * PAGE);
	struct umm_fence *after, *first, *second, *third;

	fill(p, 8, 1);
	fill(q, 8, 2);
	assert_int_equal(umm_fence_create(&after), 0);
	assert_int_equal(prefetch(e, p, 8, (struct umm_prefetch){ .dst = ref->mem, .after = after },
				  &first),
			 0);
	assert_int_equal(prefetch(e, q, 4, (struct umm_prefetch){ .dst = ref->mem, .after = after },
				  &second),
			 0);
	assert_int_equal(prefetch(e, q + 4 * PAGE, 4,
				  (struct umm_prefetch){ .dst = ref->mem, .after = second },
				  &third),
			 0);
	/* Others do not wait for it meanwhile. */
	assert_int_equal(PREFETCH(e, q, 1, .dst = ref->mem), 1);
	assert_int_equal(umm_fence_poll(first), -EAGAIN);
	assert_state(e, p, 8, UMM_PAGE_SYSTEM);
	umm_fence_signal(after, 0, 0);
	assert_int_equal(umm_fence_wait(third, PATIENCE_MS), 0);
	assert_int_equal(umm_fence_poll(second), 0);
	assert_int_equal(umm_fence_wait(first, PATIENCE_MS), 0);
	assert_int_equal(umm_fence_value(first), 8);
	assert_state(e, p, 8, env_home(e));
	assert_state(e, q, 8, env_home(e));
	/* One that is signalled already is no reason to wait. */
	assert_int_equal(PREFETCH(e, p, 8, .after = after), 8);
	assert_filled(p, 8, 1);
	assert_filled(q, 8, 2);
	umm_fence_put(after);
	umm_fence_put(first);
	umm_fence_put(second);
	umm_fence_put(third);
}

static void failed_fence_ends_a_prefetch(struct env *e)
{
	struct ref_device *ref = env_device(e, 64);
	char *p = env_alloc_small(e, 8 * PAGE);
	struct umm_fence *after, *done;

	fill(p, 8, 1);
	assert_int_equal(umm_fence_create(&after), 0);
	assert_int_equal(prefetch(e, p, 8,
				  (struct umm_prefetch){ .dst = ref->mem,
							 .after = after,
							 .flags = UMM_PREFETCH_DISCARD },
				  &done),
			 0);
	umm_fence_signal(after, -EIO, 0);
	assert_int_equal(umm_fence_wait(done, PATIENCE_MS), -EIO);
	assert_filled(p, 8, 1);
	umm_fence_put(after);
	umm_fence_put(done);
}

static void waiting_prefetches_end_with_the_memory(struct env *e)
{
	struct ref_device *ref = env_device(e, 64);
	char *p = env_alloc_small(e, 8 * PAGE);
	struct umm_fence *after, *done, *home;

	fill(p, 8, 1);
	assert_int_equal(umm_fence_create(&after), 0);
	assert_int_equal(prefetch(e, p, 8, (struct umm_prefetch){ .dst = ref->mem, .after = after },
				  &done),
			 0);
	assert_int_equal(prefetch(e, p, 8, (struct umm_prefetch){ .after = after }, &home), 0);
	env_device_gone(e, ref);
	assert_int_equal(umm_fence_wait(done, PATIENCE_MS), -ENODEV);
	assert_int_equal(umm_fence_poll(home), -EAGAIN);
	assert_int_equal(query(e, p, 8).prefetched, 1);
	env_close(e);
	assert_int_equal(umm_fence_wait(home, PATIENCE_MS), -ENODEV);
	umm_fence_signal(after, 0, 0);
	umm_fence_put(after);
	umm_fence_put(done);
	umm_fence_put(home);
}

static void child_puts_the_context(void *arg)
{
	umm_ctx_put(arg);
}

static void forked_child_ends_no_prefetch_of_its_parent(struct env *e)
{
	struct ref_device *ref = env_device(e, 64);
	char *p = env_alloc_small(e, 8 * PAGE);
	struct pollfd ready = { .events = POLLIN };
	struct umm_fence *after, *done;

	fill(p, 8, 1);
	assert_int_equal(umm_fence_create(&after), 0);
	assert_int_equal(prefetch(e, p, 8, (struct umm_prefetch){ .dst = ref->mem, .after = after },
				  &done),
			 0);
	/* Which the child shares. */
	ready.fd = umm_fence_eventfd(done);
	assert_true(ready.fd >= 0);
	assert_true(in_child(child_puts_the_context, e->ctx));
	assert_int_equal(poll(&ready, 1, 0), 0);
	umm_fence_signal(after, 0, 0);
	assert_int_equal(umm_fence_wait(done, PATIENCE_MS), 0);
	assert_int_equal(umm_fence_value(done), 8);
	close(ready.fd);
	assert_filled(p, 8, 1);
	umm_fence_put(after);
	umm_fence_put(done);
}

static void prefetch_beyond_the_device_says_how_much(struct env *e)
{
	struct ref_device *ref = env_device(e, 16);
	char *p = env_alloc_small(e, 48 * PAGE);

	fill(p, 48, 1);
	assert_int_equal(PREFETCH(e, p, 48, .dst = ref->mem), 16);
	assert_int_equal(count_state(e, p, 48, env_home(e)), 16);
	/* It makes room for itself, unless it must not. */
	assert_int_equal(PREFETCH(e, p + 40 * PAGE, 8, .dst = ref->mem,
				  .flags = UMM_PREFETCH_NO_EVICT),
			 -ENOSPC);
	/* Where something fits without that, as much comes. */
	to_system(e, p, 5, 5);
	assert_int_equal(
		PREFETCH(e, p + 40 * PAGE, 8, .dst = ref->mem, .flags = UMM_PREFETCH_NO_EVICT), 5);
	assert_filled(p, 48, 1);
}

static void prefetch_leaves_what_hints_keep(struct env *e)
{
	struct ref_device *ref = env_device(e, 64);
	char *p = env_alloc_small(e, 8 * PAGE);
	struct umm_span span = { (uintptr_t)p, 2 * PAGE };
	struct umm_advice advice = {
		.size = sizeof(advice), .spans = &span, .nspans = 1, .hint = UMM_HINT_NO_MIGRATE
	};

	fill(p, 8, 1);
	assert_int_equal(umm_advise(e->ctx, &advice), 0);
	span.start += 2 * PAGE;
	advice.hint = UMM_HINT_LATENCY_CRITICAL;
	assert_int_equal(umm_advise(e->ctx, &advice), 0);
	assert_int_equal(PREFETCH(e, p, 8, .dst = ref->mem), 4);
	assert_state(e, p, 4, UMM_PAGE_SYSTEM);
}

static void discarded_pages_are_not_copied_back(struct env *e)
{
	struct ref_device *ref = env_device(e, 64);
	char *p = env_alloc_small(e, 16 * PAGE);

	fill(p, 16, 1);
	to_device(e, ref, p, 8, 8);
	device_fill(ref, p, 8, 2);
	env_mark(e);
	assert_int_equal(discard(e, p + 2 * PAGE, 10), 10);
	assert_zero(p + 2 * PAGE, 10);
	assert_device_sees_zero(ref, p + 2 * PAGE, 10);
	assert_delta(e, UMM_COUNT_BYTES_IN + UMM_CAUSE_CPU_FAULT, 0);
	assert_filled(p, 2, 2);
	assert_filled_part(p, 12, 4, 1);
	/* Parts of pages are needed: only what lies between them goes. */
	fill(p, 4, 3);
	assert_int_equal(umm_discard(e->ctx,
				     &(struct umm_span){ (uintptr_t)p + 100, 3 * PAGE - 100 }, 1),
			 2);
	assert_filled(p, 1, 3);
	assert_zero(p + PAGE, 2);
	assert_filled_part(p, 3, 1, 3);
}

/* Wherever they were: at home with or without a device's knowledge, copied, or on a device. */
static void discarded_pages_are_empty(struct env *e)
{
	struct ref_device *ref = env_device(e, 64);
	char *p = env_alloc_small(e, 16 * PAGE), *untouched = env_alloc_small(e, 4 * PAGE);

	fill(untouched, 4, 1);
	assert_int_equal(discard(e, untouched, 4), 4);
	assert_state(e, untouched, 4, UMM_PAGE_EMPTY);
	fill(p, 16, 1);
	to_device(e, ref, p, 12, 12);
	to_system(e, p, 8, 8);
	assert_int_equal(migrate(e, ref, p + 4 * PAGE, 4, UMM_MIGRATE_DUPLICATE), 4);
	assert_int_equal(discard(e, p, 16), 16);
	assert_state(e, p, 16, UMM_PAGE_EMPTY);
	fill(p + 2 * PAGE, 12, 2);
	assert_state(e, p, 2, UMM_PAGE_EMPTY);
	assert_state(e, p + 2 * PAGE, 12, UMM_PAGE_SYSTEM);
	assert_state(e, p + 14 * PAGE, 2, UMM_PAGE_EMPTY);
	/* Nothing is copied, since nothing is there. */
	env_mark(e);
	to_device(e, ref, p, 2, 2);
	assert_delta(e, UMM_COUNT_BYTES_OUT + UMM_CAUSE_EXPLICIT, 0);
	assert_filled(p + 2 * PAGE, 12, 2);
}

static void discard_frees_frames_of_copies(struct env *e)
{
	struct ref_device *ref = env_device(e, 64);
	char *p = env_alloc_small(e, 8 * PAGE);

	fill(p, 8, 1);
	assert_int_equal(migrate(e, ref, p, 8, UMM_MIGRATE_DUPLICATE), 8);
	assert_int_equal(discard(e, p, 8), 8);
	assert_free_frames(ref, 64);
	assert_device_sees_zero(ref, p, 8);
	assert_zero(p, 8);
}

static void pinned_pages_are_not_discarded(struct env *e)
{
	char *p = env_alloc_small(e, 8 * PAGE);
	struct umm_pin *pin;

	fill(p, 8, 1);
	assert_int_equal(umm_pin(e->ctx, (uintptr_t)p, 2, 0, &pin), 0);
	env_mark(e);
	assert_int_equal(discard(e, p, 8), 6);
	assert_delta(e, UMM_COUNT_BUSY, 2);
	assert_filled(p, 2, 1);
	assert_zero(p + 2 * PAGE, 6);
	umm_unpin(pin);
	assert_int_equal(discard(e, p, 8), 8);
	assert_zero(p, 8);
}

/* Also where no device has used the memory yet. */
static void pages_of_files_and_shared_ones_are_not_discarded(struct env *e)
{
	static const int kinds[] = { MAP_PRIVATE, MAP_SHARED };
	int fd = memfd_create("discard", 0);
	char *p;

	assert_true(fd >= 0);
	assert_int_equal(ftruncate(fd, 8 * PAGE), 0);
	for (int k = 0; k < 2; k++) {
		p = mmap(NULL, 8 * PAGE, PROT_READ | PROT_WRITE, kinds[k], fd, 0);
		assert_ptr_not_equal(p, MAP_FAILED);
		assert_int_equal(umm_attach(e->ctx, p, 8 * PAGE), 0);
		fill(p, 8, 1);
		env_mark(e);
		assert_int_equal(discard(e, p, 8), 0);
		assert_delta(e, UMM_COUNT_BUSY, 8);
		assert_filled(p, 8, 1);
		assert_int_equal(umm_detach(e->ctx, p), 0);
		munmap(p, 8 * PAGE);
	}
	close(fd);
}

static void exclusive_pages_are_not_discarded(struct env *e)
{
	struct ref_device *ref = env_device(e, 64);
	char *p = env_alloc_small(e, 8 * PAGE);

	fill(p, 8, 1);
	assert_int_equal(ref_make_exclusive(ref, (uintptr_t)p + 4 * PAGE, 2), 2);
	env_mark(e);
	assert_int_equal(discard(e, p, 8), 6);
	assert_delta(e, UMM_COUNT_BUSY, 2);
	assert_state(e, p + 4 * PAGE, 2, UMM_PAGE_EXCLUSIVE);
	assert_filled_part(p, 4, 2, 1);
	assert_zero(p, 4);
	assert_zero(p + 6 * PAGE, 2);
}

static void what_this_thread_runs_on_is_not_discarded(struct env *e)
{
	char here = 1;
	/* With the page below: what is called may be there. */
	struct umm_span span = { ((uintptr_t)&here & ~(PAGE - 1)) - PAGE, 2 * PAGE };
	struct umm_prefetch req = {
		.size = sizeof(req), .flags = UMM_PREFETCH_DISCARD, .spans = &span, .nspans = 1
	};

	assert_int_equal(umm_prefetch(e->ctx, &req, NULL), -EDEADLK);
	assert_int_equal(umm_discard(e->ctx, &span, 1), -EDEADLK);
	assert_int_equal(here, 1);
}

/* A thread whose stack the library manages. */
struct on_stack {
	struct env *env;
	char *stack;
	size_t npages;
	long top, callers, prefetched, unused;
};

/* Some pages deeper than who called it; what it discards is up to here. */
__attribute__((noinline)) static void discard_callers(struct on_stack *on, uintptr_t frame)
{
	volatile char deep[6 * PAGE];
	uintptr_t from = ((uintptr_t)&deep[5 * PAGE] & ~(PAGE - 1)) + PAGE;

	deep[0] = 1;
	on->callers = discard(on->env, (void *)from, (frame - from) / PAGE);
	on->top = discard(on->env, on->stack + (on->npages - 1) * PAGE, 1);
	on->prefetched = prefetch(on->env, on->stack + (on->npages - 1) * PAGE, 1,
				  (struct umm_prefetch){ .flags = UMM_PREFETCH_DISCARD }, NULL);
	/* What is far below it is as any other memory. */
	on->unused = discard(on->env, on->stack, 4);
	deep[1] = deep[0];
}

static void *run_on_stack(void *arg)
{
	volatile char frames[12 * PAGE];

	frames[0] = 1;
	discard_callers(arg, (uintptr_t)frames + sizeof(frames));
	frames[1] = frames[0];
	return NULL;
}

static void what_a_thread_has_on_its_stack_is_not_discarded(struct env *e)
{
	struct on_stack on = { .env = e, .npages = BLOCK / PAGE };
	pthread_attr_t attr;
	pthread_t thread;

	on.stack = env_alloc_small(e, on.npages * PAGE);
	assert_int_equal(pthread_attr_init(&attr), 0);
	assert_int_equal(pthread_attr_setstack(&attr, on.stack, on.npages * PAGE), 0);
	assert_int_equal(pthread_create(&thread, &attr, run_on_stack, &on), 0);
	assert_int_equal(pthread_join(thread, NULL), 0);
	pthread_attr_destroy(&attr);
	assert_int_equal(on.callers, -EDEADLK);
	assert_int_equal(on.top, -EDEADLK);
	assert_int_equal(on.prefetched, -EDEADLK);
	assert_int_equal(on.unused, 4);
}

static void pages_of_overlapping_spans_count_once(struct env *e)
{
	struct ref_device *ref = env_device(e, 64);
	char *p = env_alloc_small(e, 16 * PAGE);
	struct umm_span spans[] = { { (uintptr_t)p + 12 * PAGE, 4 * PAGE },
				    { (uintptr_t)p, 8 * PAGE },
				    { (uintptr_t)p + 4 * PAGE, 6 * PAGE },
				    { (uintptr_t)p + 100, 200 },
				    { (uintptr_t)p + 12 * PAGE, PAGE } };
	struct umm_prefetch req = {
		.size = sizeof(req), .spans = spans, .nspans = 5, .dst = ref->mem
	};

	fill(p, 16, 1);
	assert_int_equal(umm_prefetch(e->ctx, &req, NULL), 14);
	assert_int_equal(count_state(e, p, 16, env_home(e)), 14);
	assert_int_equal(umm_discard(e->ctx, spans, 5), 14);
	assert_zero(p, 10);
	assert_filled_part(p, 10, 2, 1);
	assert_zero(p + 12 * PAGE, 4);
	req.flags = UMM_PREFETCH_DISCARD;
	assert_int_equal(umm_prefetch(e->ctx, &req, NULL), 14);
	/* Parts of pages that meet are no whole page. */
	fill(p, 16, 1);
	spans[0] = (struct umm_span){ (uintptr_t)p, 100 };
	spans[1] = (struct umm_span){ (uintptr_t)p + 100, 2 * PAGE - 100 };
	assert_int_equal(umm_discard(e->ctx, spans, 2), 1);
	assert_filled(p, 1, 1);
	assert_zero(p + PAGE, 1);
}

static void discard_and_prefetch_copies_nothing(struct env *e)
{
	struct ref_device *ref = env_device(e, 64);
	char *p = env_alloc_small(e, 16 * PAGE);

	fill(p, 16, 1);
	to_device(e, ref, p, 4, 4);
	env_mark(e);
	assert_int_equal(PREFETCH(e, p, 16, .dst = ref->mem, .flags = UMM_PREFETCH_DISCARD), 16);
	assert_state(e, p, 16, env_home(e));
	assert_delta(e, UMM_COUNT_BYTES_TO_DEVICE, 0);
	assert_delta(e, UMM_COUNT_BYTES_FROM_DEVICE, 0);
	assert_device_sees_zero(ref, p, 16);
	assert_zero(p, 16);
}

static void lists_of_spans_are_one_request(struct env *e)
{
	struct ref_device *ref = env_device(e, 64);
	char *p = env_alloc_small(e, 16 * PAGE);
	struct umm_span spans[] = { { (uintptr_t)p, 4 * PAGE },
				    { (uintptr_t)p + 8 * PAGE, 2 * PAGE } };
	struct umm_prefetch req = {
		.size = sizeof(req), .spans = spans, .nspans = 2, .dst = ref->mem
	};

	fill(p, 16, 1);
	assert_int_equal(umm_prefetch(e->ctx, &req, NULL), 6);
	assert_int_equal(count_state(e, p, 16, env_home(e)), 6);
	assert_int_equal(umm_discard(e->ctx, spans, 2), 6);
	assert_zero(p, 4);
	assert_filled_part(p, 4, 4, 1);
	req.flags = UMM_PREFETCH_DISCARD;
	assert_int_equal(umm_prefetch(e->ctx, &req, NULL), 6);
	assert_filled_part(p, 10, 6, 1);
}

static void bad_requests_are_refused(struct env *e)
{
	struct ref_device *ref = env_device(e, 16);
	char *p = env_alloc_small(e, 8 * PAGE), *plain = env_map(e, 4 * PAGE);

	fill(plain, 4, 1);
	assert_int_equal(PREFETCH(e, plain, 4, .dst = ref->mem), -EFAULT);
	assert_int_equal(discard(e, plain, 4), -EFAULT);
	assert_filled(plain, 4, 1);
	assert_int_equal(PREFETCH(e, p, 0, .dst = ref->mem), -EINVAL);
	assert_int_equal(PREFETCH(e, p, 1, .dst = ref->mem, .flags = 1 << 9), -EINVAL);
	assert_int_equal(discard(e, p, 0), -EINVAL);
	assert_int_equal(umm_discard(e->ctx, NULL, 1), -EINVAL);
	assert_int_equal(umm_free(e->ctx, p), 0);
	assert_int_equal(discard(e, p, 8), -EFAULT);
}

static struct {
	char line[512];
	unsigned n;
} heard;

static void hear(void *priv, enum umm_log_level level, const char *line)
{
	(void)priv;
	if (level == UMM_LOG_WARNING && strstr(line, " is refused: ")) {
		snprintf(heard.line, sizeof(heard.line), "%s", line);
		heard.n++;
	}
}

/* One line, that has all of it. */
static void assert_told(const char *function, const char *start, size_t npages)
{
	char where[64];

	snprintf(where, sizeof(where), "%#lx .. %#lx", (unsigned long)start,
		 (unsigned long)start + npages * PAGE);
	assert_int_equal(heard.n, 1);
	assert_non_null(strstr(heard.line, function));
	assert_non_null(strstr(heard.line, where));
	assert_non_null(strstr(heard.line, "umm_attach()"));
	heard.n = 0;
}

static void refusals_say_what_and_where_and_what_to_do(struct env *e)
{
	char *p = env_map(e, 8 * PAGE);
	struct umm_span span = { (uintptr_t)p + 4 * PAGE, 4 * PAGE };
	struct umm_span both = { (uintptr_t)p, 8 * PAGE };
	struct umm_prefetch req = { .size = sizeof(req), .spans = &span, .nspans = 1 };
	struct umm_advice advice = {
		.size = sizeof(advice), .spans = &both, .nspans = 1, .hint = UMM_HINT_NO_MIGRATE
	};

	heard.n = 0;
	assert_int_equal(umm_attach(e->ctx, p, 4 * PAGE), 0);
	umm_log_set(hear, NULL, UMM_LOG_WARNING);
	assert_int_equal(umm_advise(e->ctx, &advice), -EFAULT);
	assert_told("umm_advise()", p + 4 * PAGE, 4);
	assert_int_equal(umm_prefetch(e->ctx, &req, NULL), -EFAULT);
	assert_told("umm_prefetch()", p + 4 * PAGE, 4);
	assert_int_equal(umm_discard(e->ctx, &span, 1), -EFAULT);
	assert_told("umm_discard()", p + 4 * PAGE, 4);
	umm_log_set(NULL, NULL, UMM_LOG_WARNING);
}

static const struct test_case cases[] = {
	TEST(ALL, prefetch_brings_pages_and_back),
	TEST(ALL, prefetch_waits_for_its_fence),
	TEST(ONCE, refusals_say_what_and_where_and_what_to_do),
	TEST(ONCE, failed_fence_ends_a_prefetch),
	TEST(ALL, waiting_prefetches_end_with_the_memory),
	TEST(ALL, forked_child_ends_no_prefetch_of_its_parent),
	TEST(ALL, prefetch_beyond_the_device_says_how_much),
	TEST(ALL, prefetch_leaves_what_hints_keep),
	TEST(ALL, discarded_pages_are_not_copied_back),
	TEST(ALL, discarded_pages_are_empty),
	TEST(ALL, discard_frees_frames_of_copies),
	TEST(ALL, pinned_pages_are_not_discarded),
	TEST(KERNEL, pages_of_files_and_shared_ones_are_not_discarded),
	TEST(ALL, exclusive_pages_are_not_discarded),
	TEST(ONCE, what_this_thread_runs_on_is_not_discarded),
	TEST(ONCE, what_a_thread_has_on_its_stack_is_not_discarded),
	TEST(ALL, pages_of_overlapping_spans_count_once),
	TEST(ALL, discard_and_prefetch_copies_nothing),
	TEST(ALL, lists_of_spans_are_one_request),
	TEST(ONCE, bad_requests_are_refused),
};

int main(int argc, char **argv)
{
	return harness_main("prefetch", cases, sizeof(cases) / sizeof(cases[0]), argc, argv);
}
