/* SPDX-License-Identifier: MIT */
/*
 * Fences: polling, waiting with and without a deadline, descriptors, errors, values.
 */
#include "harness.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

static struct umm_fence *fence_new(void)
{
	struct umm_fence *fence;

	assert_int_equal(umm_fence_create(&fence), 0);
	return fence;
}

static bool readable(int fd)
{
	struct pollfd ready = { .fd = fd, .events = POLLIN };

	return poll(&ready, 1, 0) == 1 && ready.revents == POLLIN;
}

static void fence_is_pending_until_signalled(struct env *e)
{
	struct umm_fence *fence = fence_new();

	(void)e;
	assert_int_equal(umm_fence_poll(fence), -EAGAIN);
	assert_int_equal(umm_fence_value(fence), 0);
	umm_fence_signal(fence, 0, 17);
	assert_int_equal(umm_fence_poll(fence), 0);
	assert_int_equal(umm_fence_wait(fence, 0), 0);
	assert_int_equal(umm_fence_wait(fence, -1), 0);
	assert_int_equal(umm_fence_value(fence), 17);
	umm_fence_put(fence);
}

static void error_travels_with_the_signal(struct env *e)
{
	struct umm_fence *fence = fence_new();

	(void)e;
	umm_fence_signal(fence, -EIO, 3);
	assert_int_equal(umm_fence_poll(fence), -EIO);
	assert_int_equal(umm_fence_wait(fence, 0), -EIO);
	assert_int_equal(umm_fence_wait(fence, -1), -EIO);
	assert_int_equal(umm_fence_value(fence), 3);
	umm_fence_put(fence);
}

static void second_signal_is_ignored(struct env *e)
{
	struct umm_fence *fence = fence_new();

	(void)e;
	umm_fence_signal(fence, 0, 1);
	umm_fence_signal(fence, -EIO, 2);
	assert_int_equal(umm_fence_poll(fence), 0);
	assert_int_equal(umm_fence_value(fence), 1);
	umm_fence_put(fence);
}

static void wait_ends_at_its_deadline(struct env *e)
{
	struct umm_fence *fence = fence_new();
	uint64_t start = harness_now_ms();

	(void)e;
	assert_int_equal(umm_fence_wait(fence, 0), -ETIME);
	assert_int_equal(umm_fence_wait(fence, 50), -ETIME);
	/* A millisecond may be lost in rounding on each side. */
	assert_true(harness_now_ms() - start >= 49);
	umm_fence_signal(fence, 0, 0);
	assert_int_equal(umm_fence_wait(fence, 50), 0);
	umm_fence_put(fence);
}

struct waiter {
	struct actor actor;
	struct umm_fence *fence;
	int timeout_ms;
	int ret;
	long value;
};

static void waiter_run(void *arg)
{
	struct waiter *w = arg;

	w->ret = umm_fence_wait(w->fence, w->timeout_ms);
	w->value = umm_fence_value(w->fence);
}

static void signal_wakes_every_waiter(struct env *e)
{
	struct umm_fence *fence = fence_new();
	struct waiter waiters[6];
	int i;

	(void)e;
	for (i = 0; i < 6; i++) {
		waiters[i] =
			(struct waiter){ .fence = fence, .timeout_ms = i % 2 ? -1 : PATIENCE_MS };
		actor_start(&waiters[i].actor, waiter_run, &waiters[i]);
	}
	for (i = 0; i < 6; i++)
		assert_true(actor_blocks(&waiters[i].actor));
	umm_fence_signal(fence, -ENODEV, 99);
	for (i = 0; i < 6; i++) {
		actor_join(&waiters[i].actor);
		assert_int_equal(waiters[i].ret, -ENODEV);
		assert_int_equal(waiters[i].value, 99);
	}
	umm_fence_put(fence);
}

static void descriptor_is_readable_once_done(struct env *e)
{
	struct umm_fence *fence = fence_new();
	int early = umm_fence_eventfd(fence), second = umm_fence_eventfd(fence), late;

	(void)e;
	assert_true(early >= 0);
	assert_true(second >= 0);
	assert_false(readable(early));
	assert_false(readable(second));
	umm_fence_signal(fence, -EIO, 0);
	assert_true(readable(early));
	assert_true(readable(second));
	late = umm_fence_eventfd(fence);
	assert_true(late >= 0);
	assert_true(readable(late));
	umm_fence_put(fence);
	assert_true(readable(late));
	close(early);
	close(second);
	close(late);
}

static void descriptor_closed_early_does_no_harm(struct env *e)
{
	struct umm_fence *fence = fence_new();
	int fd = umm_fence_eventfd(fence), pair[2];

	(void)e;
	assert_true(fd >= 0);
	assert_int_equal(pipe(pair), 0);
	/* Somebody else gets the number: nothing may be written there. */
	assert_int_equal(dup2(pair[1], fd), fd);
	umm_fence_signal(fence, 0, 0);
	assert_false(readable(pair[0]));
	close(pair[0]);
	close(pair[1]);
	close(fd);
	umm_fence_put(fence);
}

static void no_descriptor_left_is_enomem(struct env *e)
{
	struct umm_fence *fence = fence_new();
	struct rlimit before, none;
	int fd;

	(void)e;
	assert_int_equal(getrlimit(RLIMIT_NOFILE, &before), 0);
	none = before;
	none.rlim_cur = 0;
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &none), 0);
	fd = umm_fence_eventfd(fence);
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &before), 0);
	assert_int_equal(fd, -ENOMEM);
	umm_fence_signal(fence, 0, 0);
	umm_fence_put(fence);
}

static void reference_keeps_a_fence(struct env *e)
{
	struct umm_fence *fence = fence_new();

	(void)e;
	assert_ptr_equal(umm_fence_get(fence), fence);
	umm_fence_put(fence);
	assert_int_equal(umm_fence_poll(fence), -EAGAIN);
	umm_fence_signal(fence, 0, 5);
	assert_int_equal(umm_fence_value(fence), 5);
	umm_fence_put(fence);
	umm_fence_put(NULL);
}

static void fences_are_recycled_clean(struct env *e)
{
	struct umm_fence *fences[64];
	unsigned round, i;

	(void)e;
	for (round = 0; round < 20; round++) {
		for (i = 0; i < 64; i++) {
			fences[i] = fence_new();
			assert_int_equal(umm_fence_poll(fences[i]), -EAGAIN);
			assert_int_equal(umm_fence_value(fences[i]), 0);
			if (i % 2)
				umm_fence_signal(fences[i], -(int)i, (long)i);
		}
		for (i = 0; i < 64; i++)
			umm_fence_put(fences[i]);
	}
}

/* Signal and put from one thread while another waits and puts, many times. */
static void signaller_run(void *arg)
{
	struct waiter *w = arg;

	umm_fence_signal(w->fence, 0, 7);
	umm_fence_put(w->fence);
}

static void signaller_and_waiter_may_both_put(struct env *e)
{
	struct waiter w = { .ret = 0 };
	unsigned i;

	(void)e;
	for (i = 0; i < 200; i++) {
		w.fence = fence_new();
		umm_fence_get(w.fence);
		actor_start(&w.actor, signaller_run, &w);
		assert_int_equal(umm_fence_wait(w.fence, -1), 0);
		assert_int_equal(umm_fence_value(w.fence), 7);
		umm_fence_put(w.fence);
		actor_join(&w.actor);
	}
}

static const struct test_case cases[] = {
	TEST(ONCE, fence_is_pending_until_signalled),
	TEST(ONCE, error_travels_with_the_signal),
	TEST(ONCE, second_signal_is_ignored),
	TEST(ONCE, wait_ends_at_its_deadline),
	TEST(ONCE, signal_wakes_every_waiter),
	TEST(ONCE, descriptor_is_readable_once_done),
	TEST(ONCE, descriptor_closed_early_does_no_harm),
	TEST(ONCE, no_descriptor_left_is_enomem),
	TEST(ONCE, reference_keeps_a_fence),
	TEST(ONCE, fences_are_recycled_clean),
	TEST(ONCE, signaller_and_waiter_may_both_put),
};

int main(int argc, char **argv)
{
	return harness_main("test_fence", cases, sizeof(cases) / sizeof(cases[0]), argc, argv);
}
