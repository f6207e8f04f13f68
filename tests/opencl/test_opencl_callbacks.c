/* SPDX-License-Identifier: MIT */
/*
 * Calls from an invalidate callback: what would wait for pages, or for callbacks, would wait for
 * its own thread there, and is refused.
 */
#include "rig.h"

#define RW (UMM_OPENCL_READ | UMM_OPENCL_WRITE)

struct caller {
	struct rig *rig;
	cl_kernel kernel;
	char *memory; /* a page for each use */
	struct umm_opencl_window *window, *held;
	unsigned calls, wrong;
};

static void expect_deadlk(struct caller *c, int ret)
{
	if (ret != -EDEADLK)
		c->wrong++;
}

static void call_launches(struct caller *c)
{
	const size_t one = 1;
	struct umm_span span = { (uintptr_t)c->memory, PAGE };
	struct umm_opencl_result result = { .size = sizeof(result) };
	struct umm_opencl_work work = {
		.size = sizeof(work), .kernel = c->kernel, .dims = 1, .global = &one
	};
	struct umm_opencl_prefetch what = {
		.size = sizeof(what), .spans = &span, .nspans = 1, .access = UMM_OPENCL_READ
	};
	cl_event event = NULL;

	expect_deadlk(c, umm_opencl_launch(c->rig->ocl, &work, &result));
	expect_deadlk(c, result.status);
	expect_deadlk(c, umm_opencl_prefetch(c->rig->ocl, &what));
	work.event = what.event = &event;
	expect_deadlk(c, umm_opencl_launch(c->rig->ocl, &work, NULL));
	expect_deadlk(c, umm_opencl_prefetch(c->rig->ocl, &what));
	c->wrong += event != NULL;
}

static void call_windows(struct caller *c)
{
	struct umm_opencl_window *window = NULL;
	uint64_t bits[1];
	cl_mem mem;

	expect_deadlk(c, umm_opencl_window_create(c->rig->ocl, c->memory, PAGE, 0, &window));
	expect_deadlk(c, umm_opencl_window_acquire(c->window, RW, &mem));
	expect_deadlk(c, umm_opencl_window_dirty(c->window, bits));
	c->wrong += window != NULL;
	/* These return nothing, and do nothing but say so. */
	rig_logged("");
	umm_opencl_window_destroy(c->window);
	c->wrong += !rig_logged("umm_opencl_window_destroy() from a callback");
	umm_opencl_destroy(c->rig->ocl);
	c->wrong += !rig_logged("from a callback") || !umm_opencl_device(c->rig->ocl);
	/* Waits for nothing. */
	c->wrong += umm_opencl_window_release(c->held, 0, NULL) != 0;
}

static int call_everything(void *priv, const struct umm_notifier_range *range)
{
	struct umm_opencl_options options = { .size = sizeof(options),
					      .device_name = rig_device_name(),
					      .device_bytes = MIB };
	struct caller *c = priv;
	struct umm_opencl *ocl = NULL;

	(void)range;
	if (c->calls++)
		return 0;
	c->wrong += !umm_in_callback();
	expect_deadlk(c, umm_opencl_create(c->rig->ctx, &options, &ocl));
	c->wrong += ocl != NULL;
	call_launches(c);
	call_windows(c);
	return 0;
}

/* A change of a page that nobody but this test's notifier cares about. */
static void announce(struct caller *c)
{
	struct umm_notifier_ops ops = { .size = sizeof(ops), .invalidate = call_everything };
	struct umm_span span = { (uintptr_t)c->memory + PAGE, PAGE };
	struct umm_notifier_range change = { .start = span.start,
					     .end = span.start + PAGE,
					     .event = UMM_EVENT_CLEAR,
					     .blockable = true };
	struct umm_invalidation *invalidation;
	struct umm_notifier *notifier;

	assert_int_equal(umm_notifier_insert(c->rig->ctx, &span, &ops, c, &notifier), 0);
	assert_int_equal(umm_invalidate_range_start(c->rig->ctx, &change, &invalidation), 0);
	umm_invalidate_range_end(c->rig->ctx, invalidation);
	assert_int_equal(umm_notifier_remove(notifier), 0);
}

static void calls_from_a_callback_are_refused_not_waited_for(void **state)
{
	struct caller c = { .rig = *state };
	uint64_t bits[1];
	cl_mem mem;

	rig_open(c.rig, MIB, NULL);
	rig_build(c.rig);
	c.memory = rig_alloc(c.rig, 4 * PAGE);
	c.kernel = rig_kernel(c.rig, "store");
	rig_ulong(c.kernel, 0, (uintptr_t)c.memory);
	rig_ulong(c.kernel, 1, PAGE);
	rig_uint(c.kernel, 2, 7);
	assert_int_equal(
		umm_opencl_window_create(c.rig->ocl, c.memory + 2 * PAGE, PAGE, 0, &c.window), 0);
	assert_int_equal(
		umm_opencl_window_create(c.rig->ocl, c.memory + 3 * PAGE, PAGE, 0, &c.held), 0);
	assert_int_equal(umm_opencl_window_acquire(c.held, RW, &mem), 0);
	announce(&c);
	assert_int_equal(c.calls, 1);
	assert_int_equal(c.wrong, 0);
	assert_false(umm_in_callback());
	/* Nothing of it was done, and all of it works now. */
	assert_int_equal(umm_opencl_window_release(c.held, 0, NULL), -EINVAL);
	assert_int_equal(umm_opencl_window_dirty(c.held, bits), 0);
	assert_int_equal(umm_opencl_window_acquire(c.window, RW, &mem), 0);
	assert_int_equal(umm_opencl_window_release(c.window, 0, NULL), 0);
	rig_launch(c.rig, c.kernel, 1);
	assert_int_equal(*(uint32_t *)c.memory, 7);
	umm_opencl_window_destroy(c.window);
	umm_opencl_window_destroy(c.held);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		rig_test(calls_from_a_callback_are_refused_not_waited_for),
	};

	return rig_main("opencl-callbacks", tests, argc, argv);
}
