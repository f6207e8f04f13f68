/* SPDX-License-Identifier: MIT */
/*
 * Thrashing in the library: pages that a CPU and a device, or two devices, touch by turns. What
 * moves is counted. Lapses are an hour, so that everything is close together however slow the
 * machine is; waits are as short as can be where only their number matters.
 */
#include "harness.h"
#include "hooked.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "hook.h"

#define HOUR_NS	    UINT64_C(3600000000000)
#define OTHER_PAGES ((size_t)64)

/* The environment of the test, with another context. */
static void with_options(struct env *e, struct umm_ctx_options options)
{
	if (!options.readahead)
		options.readahead = UMM_READAHEAD_OFF;
	env_reopen(e, options);
}

/* Pinned as soon as somebody has lost it closely twice, after it was found to thrash. */
static void with_pin(struct env *e, enum umm_thrash thrash)
{
	with_options(e, (struct umm_ctx_options){ .thrash = thrash,
						  .thrash_waits = 1,
						  .thrash_lapse_ns = HOUR_NS,
						  .thrash_wait_ns = UINT64_C(50000000),
						  .thrash_pin_ns = HOUR_NS });
}

/* Waits are over before they begin. */
static void with_no_waits(struct env *e, enum umm_thrash thrash)
{
	with_options(e, (struct umm_ctx_options){ .thrash = thrash,
						  .thrash_lapse_ns = HOUR_NS,
						  .thrash_wait_ns = 1,
						  .thrash_pin_ns = HOUR_NS });
}

/* The device stores a number in every page of p, the CPU finds it there. */
static void exchange(struct ref_device *ref, char *p, size_t npages, unsigned char n)
{
	for (size_t i = 0; i < npages; i++)
		assert_int_equal(ref_write(ref, (uintptr_t)p + i * PAGE, &n, 1), 0);
	for (size_t i = 0; i < npages; i++) {
		assert_int_equal(p[i * PAGE], n);
		p[i * PAGE] = 0;
	}
}

static uint64_t out(struct env *e)
{
	return env_delta(e, UMM_COUNT_TO_DEVICE + UMM_CAUSE_DEVICE_FAULT);
}

/* Exchange until they share it. */
static void until_pinned(struct env *e, struct ref_device *ref, char *p, size_t npages)
{
	for (unsigned n = 0; env_delta(e, UMM_COUNT_THRASH_STAYS) < npages; n++) {
		if (n == 1000)
			fail_msg("it is not pinned");
		exchange(ref, p, npages, (unsigned char)(n % 100 + 1));
	}
}

static void without_it_every_turn_moves(struct env *e)
{
	struct ref_device *ref = env_device(e, 8);
	char *p = env_alloc_small(e, PAGE);

	fill(p, 1, 1);
	env_mark(e);
	for (unsigned n = 1; n <= 100; n++)
		exchange(ref, p, 1, (unsigned char)n);
	assert_int_equal(out(e), 100);
	assert_delta(e, UMM_COUNT_FAULT_DEVICE, 100);
	assert_delta(e, UMM_COUNT_THRASH_STAYS, 0);
	assert_delta(e, UMM_COUNT_THRASH_WAITS, 0);
}

/* Once it is pinned, a thousand turns move nothing, and nobody faults. */
static void ping_pong_ends(struct env *e)
{
	struct ref_device *ref;
	char *p;

	with_pin(e, UMM_THRASH_PIN);
	ref = env_device(e, 8);
	p = env_alloc_small(e, 4 * PAGE);
	fill(p, 4, 1);
	env_mark(e);
	until_pinned(e, ref, p, 4);
	assert_state(e, p, 4, UMM_PAGE_SYSTEM);
	env_mark(e);
	for (unsigned n = 0; n < 1000; n++)
		exchange(ref, p, 4, (unsigned char)(n % 100 + 1));
	assert_int_equal(out(e), 0);
	assert_delta(e, UMM_COUNT_FAULT_DEVICE, 0);
	assert_delta(e, UMM_COUNT_THRASH_WAITS, 0);
}

/* What is pinned is pinned for faults only. */
static void what_is_pinned_still_goes_on_request(struct env *e)
{
	struct ref_device *ref;
	char *p;

	with_pin(e, UMM_THRASH_PIN);
	ref = env_device(e, 8);
	p = env_alloc_small(e, PAGE);
	fill(p, 1, 1);
	env_mark(e);
	until_pinned(e, ref, p, 1);
	to_device(e, ref, p, 1, 1);
	to_system(e, p, 1, 1);
}

/* The device gets a page that thrashes no sooner than the CPU has had it for a while. */
static void whoever_took_it_keeps_it_for_a_while(struct env *e)
{
	const uint64_t wait_ms = 20;
	struct umm_ctx_options options = { .thrash = UMM_THRASH_THROTTLE,
					   .thrash_lapse_ns = HOUR_NS,
					   .thrash_wait_ns = wait_ms * 1000000,
					   .thrash_pin_ns = HOUR_NS };
	struct ref_device *ref;
	unsigned char byte = 1;
	uint64_t began;
	char *p;

	with_options(e, options);
	ref = env_device_with(e, (struct ref_options){ .nframes = 8, .apart = true });
	p = env_alloc_small(e, PAGE);
	fill(p, 1, 1);
	env_mark(e);
	exchange(ref, p, 1, 1);
	exchange(ref, p, 1, 2);
	assert_int_equal(ref_write(ref, (uintptr_t)p, &byte, 1), 0);
	for (unsigned n = 0; n < 12; n++) {
		began = harness_now_ms();
		p[0] = 0;
		assert_int_equal(ref_write(ref, (uintptr_t)p, &byte, 1), 0);
		assert_true(harness_now_ms() - began + 1 >= wait_ms);
	}
	/* More than ten waits, and nothing is pinned: it cannot be shared. */
	assert_int_equal(out(e), 15);
	assert_delta(e, UMM_COUNT_THRASH_STAYS, 0);
}

static struct {
	struct env *env;
	char *p;
	size_t away; /* pages on the device when it waited */
	unsigned times;
} seen;

static void look(void *priv, enum hook_point point, uintptr_t addr)
{
	(void)priv;
	(void)point;
	(void)addr;
	seen.away = count_state(seen.env, seen.p, 16, env_home(seen.env));
	seen.times++;
}

static void no_more_looks(void)
{
	hook_set(HOOK_THROTTLED, NULL, NULL);
}

/* Of a fault for sixteen pages, one thrashes: the others are there before the wait begins. */
static void others_of_the_request_do_not_wait(struct env *e)
{
	struct umm_ctx_options options = { .thrash = UMM_THRASH_THROTTLE,
					   .thrash_lapse_ns = HOUR_NS,
					   .thrash_wait_ns = UINT64_C(100000000),
					   .thrash_pin_ns = HOUR_NS };
	struct ref_device *ref;
	unsigned char byte = 1;
	char *p;

	with_options(e, options);
	ref = env_device_with(
		e, (struct ref_options){ .nframes = 32, .apart = true, .fault_pages = 16 });
	p = env_alloc_small(e, 32 * PAGE);
	p += -(uintptr_t)p % (16 * PAGE);
	fill(p, 16, 1);
	seen.env = e;
	seen.p = p;
	seen.times = 0;
	hook_set(HOOK_THROTTLED, look, NULL);
	while (!seen.times) {
		to_system(e, p + PAGE, 15, (long)count_state(e, p + PAGE, 15, env_home(e)));
		p[0] = 0;
		assert_int_equal(ref_write(ref, (uintptr_t)p, &byte, 1), 0);
	}
	assert_int_equal(seen.away, 15);
	assert_state(e, p, 16, env_home(e));
}

struct other {
	struct ref_device *ref;
	char *p;
	unsigned char n;
	size_t right; /* pages that were seen as they should be */
};

static void *other_main(void *arg)
{
	struct other *other = arg;

	for (size_t i = 0; i < OTHER_PAGES; i++)
		if (ref_write(other->ref, (uintptr_t)other->p + i * PAGE, &other->n, 1))
			return NULL;
	for (size_t i = 0; i < OTHER_PAGES; i++)
		other->right += other->p[i * PAGE] == other->n;
	return NULL;
}

/* Whoever waits has only begun to. */
static void let_another_go_on(void *priv, enum hook_point point, uintptr_t addr)
{
	struct other *other = priv;
	pthread_t thread;

	(void)point;
	(void)addr;
	seen.times++;
	other->n++;
	if (!pthread_create(&thread, NULL, other_main, other))
		pthread_join(thread, NULL);
}

/* Another range goes to the device and back while a fault waits: all of it, and never waits. */
static void another_range_goes_on_while_one_waits(struct env *e)
{
	struct umm_ctx_options options = { .thrash = UMM_THRASH_PIN,
					   .thrash_lapse_ns = HOUR_NS,
					   .thrash_wait_ns = UINT64_C(100000000),
					   .thrash_pin_ns = HOUR_NS };
	struct other other = { 0 };
	char *p;

	with_options(e, options);
	other.ref = env_device(e, 8 + OTHER_PAGES);
	p = env_alloc_small(e, PAGE);
	other.p = env_alloc_small(e, OTHER_PAGES * PAGE);
	fill(p, 1, 1);
	fill(other.p, OTHER_PAGES, 0);
	seen.times = 0;
	hook_set(HOOK_THROTTLED, let_another_go_on, &other);
	env_mark(e);
	while (!seen.times)
		exchange(other.ref, p, 1, 1);
	no_more_looks();
	assert_int_equal(seen.times, 1);
	assert_int_equal(other.right, OTHER_PAGES);
	assert_delta(e, UMM_COUNT_THRASH_WAITS, 1);
	assert_delta(e, UMM_COUNT_THRASH_STAYS, 0);
}

struct cancelled {
	struct ref_device *ref;
	char *p;
	int ret;
	bool done;
};

static void cancel_this_thread(void *priv, enum hook_point point, uintptr_t addr)
{
	(void)priv;
	(void)addr;
	hook_set(point, NULL, NULL);
	seen.times++;
	pthread_cancel(pthread_self());
}

static void *thrash_until_cancelled(void *arg)
{
	struct cancelled *c = arg;
	unsigned char byte = 1;

	while (!seen.times && !c->ret) {
		c->p[0] = 0;
		c->ret = ref_write(c->ref, (uintptr_t)c->p, &byte, 1);
	}
	c->done = true;
	pthread_testcancel();
	return NULL;
}

/* Else the memory that the request uses could not be removed any more. */
static void a_request_that_waits_is_not_cancelled(struct env *e)
{
	struct umm_ctx_options options = { .thrash = UMM_THRASH_THROTTLE,
					   .thrash_lapse_ns = HOUR_NS,
					   .thrash_wait_ns = UINT64_C(10000000),
					   .thrash_pin_ns = HOUR_NS };
	struct cancelled c = { 0 };
	pthread_t thread;
	void *ret;

	if (ref_backend_used())
		env_skip("the calls of OpenCL platforms that the test makes may be cancelled");
	with_options(e, options);
	c.ref = env_device_with(e, (struct ref_options){ .nframes = 32, .apart = true });
	c.p = env_alloc_small(e, PAGE);
	fill(c.p, 1, 1);
	seen.times = 0;
	hook_set(HOOK_THROTTLED, cancel_this_thread, NULL);
	assert_int_equal(pthread_create(&thread, NULL, thrash_until_cancelled, &c), 0);
	assert_int_equal(pthread_join(thread, &ret), 0);
	assert_true(c.done);
	assert_int_equal(c.ret, 0);
	assert_true(ret == PTHREAD_CANCELED);
}

static void hint(struct env *e, char *p, struct umm_advice advice)
{
	struct umm_span span = { (uintptr_t)p, PAGE };

	advice.size = sizeof(advice);
	advice.spans = &span;
	advice.nspans = 1;
	assert_int_equal(umm_advise(e->ctx, &advice), 0);
}

/* A range is damped as its hint says, whatever the context does. */
static void a_range_chooses(struct env *e)
{
	struct ref_device *ref;
	char *p;

	with_pin(e, UMM_THRASH_OFF);
	ref = env_device(e, 8);
	p = env_alloc_small(e, 2 * PAGE);
	fill(p, 2, 1);
	hint(e, p, (struct umm_advice){ .hint = UMM_HINT_THRASH, .thrash = UMM_THRASH_PIN });
	env_mark(e);
	until_pinned(e, ref, p, 1);
	env_mark(e);
	for (unsigned n = 1; n <= 20; n++)
		exchange(ref, p, 2, (unsigned char)n);
	assert_int_equal(out(e), 20);
	assert_state(e, p, 1, UMM_PAGE_SYSTEM);
}

/* Where the hint has ended it is the context that says. */
static void a_range_that_chooses_no_longer_is_as_its_context(struct env *e)
{
	struct ref_device *ref;
	char *p;

	with_pin(e, UMM_THRASH_OFF);
	ref = env_device(e, 8);
	p = env_alloc_small(e, PAGE);
	fill(p, 1, 1);
	hint(e, p, (struct umm_advice){ .hint = UMM_HINT_THRASH, .thrash = UMM_THRASH_PIN });
	hint(e, p, (struct umm_advice){ .hint = UMM_HINT_THRASH, .flags = UMM_ADVICE_UNSET });
	env_mark(e);
	for (unsigned n = 1; n <= 100; n++)
		exchange(ref, p, 1, (unsigned char)n);
	assert_int_equal(out(e), 100);
	assert_delta(e, UMM_COUNT_THRASH_STAYS, 0);
}

/* Nothing that is hinted so is made to wait; it is pinned all the same. */
static void what_is_latency_critical_does_not_wait(struct env *e)
{
	struct ref_device *ref;
	char *p;

	with_pin(e, UMM_THRASH_PIN);
	ref = env_device(e, 8);
	p = env_alloc_small(e, PAGE);
	fill(p, 1, 1);
	hint(e, p, (struct umm_advice){ .hint = UMM_HINT_LATENCY_CRITICAL });
	env_mark(e);
	until_pinned(e, ref, p, 1);
	assert_delta(e, UMM_COUNT_THRASH_WAITS, 0);
}

/* Nor is a request with a fence: others wait for the thread that runs it. */
static void requests_with_a_fence_do_not_wait(struct env *e)
{
	struct umm_ctx_options options = { .thrash = UMM_THRASH_THROTTLE,
					   .thrash_lapse_ns = HOUR_NS,
					   .thrash_wait_ns = UMM_THRASH_WAIT_MOST_NS,
					   .thrash_pin_ns = HOUR_NS };
	struct ref_device *ref;
	struct umm_fence *fence;
	struct umm_span span = { .len = PAGE };
	struct umm_migrate_request req = {
		.size = sizeof(req), .spans = &span, .nspans = 1, .cause = UMM_CAUSE_DEVICE_FAULT
	};
	char *p;

	with_options(e, options);
	ref = env_device_with(e, (struct ref_options){ .nframes = 8, .apart = true });
	p = env_alloc_small(e, PAGE);
	span.start = (uintptr_t)p;
	req.dst = ref->mem;
	env_mark(e);
	for (unsigned n = 0; n < 20; n++) {
		p[0] = (char)n;
		assert_int_equal(umm_migrate_spans(e->ctx, &req, &fence), 0);
		assert_int_equal(umm_fence_wait(fence, -1), 0);
		assert_int_equal(umm_fence_value(fence), 1);
		umm_fence_put(fence);
	}
	assert_delta(e, UMM_COUNT_THRASH_WAITS, 0);
	assert_int_equal(p[0], 19);
}

/* With a device that cannot use it in place, only THROTTLE does anything. */
static void what_cannot_be_pinned_is_left_alone(struct env *e)
{
	struct ref_device *ref;
	char *p;

	with_pin(e, UMM_THRASH_PIN);
	ref = env_device_with(e, (struct ref_options){ .nframes = 8, .apart = true });
	p = env_alloc_small(e, PAGE);
	fill(p, 1, 1);
	env_mark(e);
	for (unsigned n = 1; n <= 50; n++)
		exchange(ref, p, 1, (unsigned char)n);
	assert_int_equal(out(e), 50);
	assert_delta(e, UMM_COUNT_THRASH_WAITS, 0);
}

/* Coherent pages that two devices take from each other stay where one of them has them. */
static void devices_share_what_they_can_reach(struct env *e)
{
	struct ref_device *a, *b;
	unsigned char byte = 1;
	char *p;

	with_pin(e, UMM_THRASH_PIN);
	a = env_device(e, 8);
	b = env_device(e, 8);
	p = env_alloc_small(e, PAGE);
	fill(p, 1, 1);
	env_mark(e);
	for (unsigned n = 0; !env_delta(e, UMM_COUNT_THRASH_STAYS); n++) {
		assert_true(n < 1000);
		assert_int_equal(ref_write(a, (uintptr_t)p, &byte, 1), 0);
		assert_int_equal(ref_write(b, (uintptr_t)p, &byte, 1), 0);
	}
	env_mark(e);
	for (unsigned n = 0; n < 100; n++) {
		assert_int_equal(ref_write(a, (uintptr_t)p, &byte, 1), 0);
		assert_int_equal(ref_write(b, (uintptr_t)p, &byte, 1), 0);
	}
	assert_int_equal(out(e), 0);
	assert_state(e, p, 1, UMM_PAGE_COHERENT);
}

/* A page that thrashes comes home without its neighbours. */
static void no_neighbours_come_along(struct env *e)
{
	struct ref_device *ref;
	unsigned char byte = 1;
	size_t home;
	char *p;

	with_options(e, (struct umm_ctx_options){ .readahead = UMM_READAHEAD_DENSITY,
						  .readahead_percent = 6, /* one of sixteen */
						  .thrash = UMM_THRASH_THROTTLE,
						  .thrash_lapse_ns = HOUR_NS,
						  .thrash_wait_ns = 1,
						  .thrash_pin_ns = HOUR_NS });
	ref = env_device(e, 32);
	p = env_alloc_small(e, 32 * PAGE);
	p += -(uintptr_t)p % (16 * PAGE);
	fill(p, 16, 1);
	for (size_t n = 0; n < 6; n++) {
		assert_int_equal(ref_write(ref, (uintptr_t)p, &byte, 1), 0);
		to_device(e, ref, p + PAGE, 15,
			  (long)count_state(e, p + PAGE, 15, UMM_PAGE_SYSTEM));
		assert_int_equal(p[0], byte);
		/* Who faulted goes on before all of the piece is seen to be home. */
		if (n < 2)
			wait_until(count_state(e, p, 16, UMM_PAGE_SYSTEM) == 16);
		home = count_state(e, p, 16, UMM_PAGE_SYSTEM);
	}
	assert_int_equal(home, 1);
}

/* Data that goes to a device once and comes back is never looked at. */
static void streams_are_not_thrashing(struct env *e)
{
	struct ref_device *ref;
	char *p;

	with_no_waits(e, UMM_THRASH_THROTTLE);
	ref = env_device(e, 64);
	p = env_alloc_small(e, 64 * PAGE);
	env_mark(e);
	for (unsigned n = 1; n <= 20; n++) {
		fill(p, 64, n);
		to_device(e, ref, p, 64, 64);
		assert_filled(p, 64, n);
	}
	assert_delta(e, UMM_COUNT_THRASH_WAITS, 0);
	assert_delta(e, UMM_COUNT_THRASH_STAYS, 0);
}

static int create(struct umm_ctx_options options, struct umm_ctx **ctx)
{
	options.size = sizeof(options);
	return umm_ctx_create(&options, ctx);
}

static void options_that_make_no_sense_are_refused(struct env *e)
{
	struct umm_ctx *ctx;

	(void)e;
	assert_int_equal(create((struct umm_ctx_options){ .thrash = UMM_THRASH_THROTTLE + 1 },
				&ctx),
			 -EINVAL);
	assert_int_equal(create((struct umm_ctx_options){ .thrash_waits = 256 }, &ctx), -EINVAL);
	assert_int_equal(
		create((struct umm_ctx_options){ .thrash_wait_ns = UMM_THRASH_WAIT_MOST_NS + 1 },
		       &ctx),
		-EINVAL);
}

static void hints_that_make_no_sense_are_refused(struct env *e)
{
	char *p = env_alloc_small(e, 2 * PAGE);
	struct umm_span span = { (uintptr_t)p, PAGE };
	struct umm_advice advice = {
		.size = sizeof(advice), .spans = &span, .nspans = 1, .hint = UMM_HINT_THRASH
	};
	struct umm_span_info info = { .size = sizeof(info) };

	assert_int_equal(umm_advise(e->ctx, &advice), -EINVAL);
	advice.thrash = UMM_THRASH_THROTTLE + 1;
	assert_int_equal(umm_advise(e->ctx, &advice), -EINVAL);
	advice.thrash = UMM_THRASH_OFF;
	advice.flags = UMM_ADVICE_UNSET;
	assert_int_equal(umm_advise(e->ctx, &advice), -EINVAL);
	advice.flags = 0;
	advice.hint = UMM_HINT_READ_MOSTLY;
	assert_int_equal(umm_advise(e->ctx, &advice), -EINVAL);
	advice.hint = UMM_HINT_THRASH;
	assert_int_equal(umm_advise(e->ctx, &advice), 0);
	assert_int_equal(umm_query_spans(e->ctx, &span, 1, &info), 0);
	assert_int_equal(info.hints, 1 << UMM_HINT_THRASH);
	assert_int_equal(info.thrash, UMM_THRASH_OFF);
	span.len = 2 * PAGE;
	assert_int_equal(umm_query_spans(e->ctx, &span, 1, &info), 0);
	assert_int_equal(info.mixed, 1 << UMM_HINT_THRASH);
	advice.flags = UMM_ADVICE_UNSET;
	advice.thrash = UMM_THRASH_DEFAULT;
	assert_int_equal(umm_advise(e->ctx, &advice), 0);
	assert_int_equal(umm_query_spans(e->ctx, &span, 1, &info), 0);
	assert_int_equal(info.hints | info.mixed, 0);
}

static unsigned nsaid;

static void said(void *priv, enum umm_log_level level, const char *line)
{
	(void)priv;
	(void)level;
	nsaid += strstr(line, "UMM_THRASH=nonsense") != NULL;
}

/* Is a shared page pinned some day, in a context that the environment chooses for? */
static bool is_damped(struct env *e, const char *policy)
{
	struct ref_device *ref;
	bool pinned;
	char *p;

	if (policy)
		setenv("UMM_THRASH", policy, 1);
	with_pin(e, UMM_THRASH_DEFAULT);
	unsetenv("UMM_THRASH");
	ref = env_device(e, 8);
	p = env_alloc_small(e, PAGE);
	fill(p, 1, 1);
	env_mark(e);
	for (unsigned n = 0; n < 20; n++)
		exchange(ref, p, 1, 1);
	pinned = env_delta(e, UMM_COUNT_THRASH_STAYS);
	env_device_gone(e, ref);
	return pinned;
}

static void the_environment_chooses(struct env *e)
{
	assert_true(is_damped(e, NULL));
	assert_true(is_damped(e, "throttle"));
	assert_false(is_damped(e, "off"));
	umm_log_set(said, NULL, UMM_LOG_WARNING);
	assert_true(is_damped(e, "nonsense"));
	umm_log_set(NULL, NULL, UMM_LOG_WARNING);
	assert_int_equal(nsaid, 1);
}

static const struct test_case cases[] = {
	TEST(PRIVATE, without_it_every_turn_moves),
	TEST(PRIVATE, ping_pong_ends),
	TEST(PRIVATE, what_is_pinned_still_goes_on_request),
	TEST(PRIVATE, whoever_took_it_keeps_it_for_a_while),
	TEST(PRIVATE, others_of_the_request_do_not_wait),
	TEST(PRIVATE, another_range_goes_on_while_one_waits),
	TEST(PRIVATE, a_request_that_waits_is_not_cancelled),
	TEST(PRIVATE, a_range_chooses),
	TEST(PRIVATE, a_range_that_chooses_no_longer_is_as_its_context),
	TEST(PRIVATE, what_is_latency_critical_does_not_wait),
	TEST(PRIVATE, requests_with_a_fence_do_not_wait),
	TEST(PRIVATE, what_cannot_be_pinned_is_left_alone),
	TEST(COHERENT, devices_share_what_they_can_reach),
	TEST(PRIVATE, no_neighbours_come_along),
	TEST(PRIVATE, streams_are_not_thrashing),
	TEST(ONCE, options_that_make_no_sense_are_refused),
	TEST(ONCE, hints_that_make_no_sense_are_refused),
	TEST(ONCE, the_environment_chooses),
};

int main(int argc, char **argv)
{
	harness_cleanup(no_more_looks);
	return harness_main("test_damp", cases, sizeof(cases) / sizeof(cases[0]), argc, argv);
}
