/* SPDX-License-Identifier: MIT */
/*
 * Fences. A fence is signalled at most once; whoever waits sleeps on its state
 * word (a futex), a completion runs on the signalling thread, eventfds become
 * readable. Fences are handles, which come from no malloc: the fault path makes one per
 * migration.
 *
 * Invariants: status and value are written before state becomes SIGNALLED and never
 * change after. A completion runs exactly once, whether it is set before or after
 * the signal: both sides swap their part into `state`, the second one runs it.
 */
#include "fence.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "futex.h"
#include "log.h"
#include "notifier.h"
#include "signals.h"
#include "util.h"

#define STATE_SIGNALLED	 1u
#define STATE_COMPLETION 2u /* fn and priv are set */
#define STATE_WAITERS	 4u
#define STATE_CLAIMED	 8u /* somebody is writing status and value */

static bool fence_valid(const struct umm_fence *fence)
{
	return handle_is(fence, HANDLE_FENCE);
}

int umm_fence_create(struct umm_fence **out)
{
	struct umm_fence *fence;

	if (!out)
		return -EINVAL;
	fence = handle_new(HANDLE_FENCE);
	if (!fence)
		return -ENOMEM;
	atomic_store(&fence->refs, 1);
	atomic_store(&fence->eventfd, -1);
	handle_publish(fence, HANDLE_FENCE);
	*out = fence;
	return 0;
}

struct umm_fence *umm_fence_get(struct umm_fence *fence)
{
	if (!fence_valid(fence))
		return NULL;
	atomic_fetch_add(&fence->refs, 1);
	return fence;
}

static void fence_ring(int fd)
{
	uint64_t one = 1;
	ssize_t written;
	int cancel;

	if (fd < 0)
		return;
	cancel = cancel_hold();
	written = write(fd, &one, sizeof(one));
	cancel_let(cancel);
	/* Where the counter is full it is readable already. */
	(void)written;
}

static void fence_close(int fd)
{
	int cancel = cancel_hold();

	close(fd);
	cancel_let(cancel);
}

void umm_fence_put(struct umm_fence *fence)
{
	int fd;

	if (!fence_valid(fence) || atomic_fetch_sub(&fence->refs, 1) != 1)
		return;
	fd = atomic_load(&fence->eventfd);
	if (fd >= 0)
		fence_close(fd);
	handle_free(fence, HANDLE_FENCE);
}

/* In the place of the list, once what came after the fence has been run. */
static struct fence_after afters_ran;

static void afters_run(struct umm_fence *fence)
{
	struct fence_after *next, *after = atomic_exchange(&fence->afters, &afters_ran);

	for (; after; after = next) {
		next = after->next;
		after->fn(after, fence->status);
	}
}

void fence_after(struct umm_fence *fence, struct fence_after *after)
{
	struct fence_after *head = atomic_load(&fence->afters);

	do {
		if (head == &afters_ran) {
			after->fn(after, fence->status);
			return;
		}
		after->next = head;
	} while (!atomic_compare_exchange_weak(&fence->afters, &head, after));
}

void umm_fence_signal(struct umm_fence *fence, int status, long value)
{
	uint32_t old;

	if (!fence_valid(fence) || atomic_fetch_or(&fence->state, STATE_CLAIMED) & STATE_CLAIMED)
		return;
	/* A waiter may drop the last other reference as soon as it sees the signal. */
	umm_fence_get(fence);
	if (status > 0) {
		log_error("a fence was signalled with %d, which is no error number", status);
		status = -EINVAL;
	}
	fence->status = status;
	fence->value = value;
	/* Pairs with the loads in umm_fence_poll() and fence_on_signal(). */
	old = atomic_fetch_or(&fence->state, STATE_SIGNALLED);
	fence_ring(atomic_load(&fence->eventfd));
	if (old & STATE_WAITERS)
		futex_wake_all(&fence->state);
	if (old & STATE_COMPLETION)
		fence->fn(fence->priv, status);
	afters_run(fence);
	umm_fence_put(fence);
}

void fence_on_signal(struct umm_fence *fence, void (*fn)(void *priv, int status), void *priv)
{
	fence->fn = fn;
	fence->priv = priv;
	if (atomic_fetch_or(&fence->state, STATE_COMPLETION) & STATE_SIGNALLED)
		fn(priv, fence->status);
}

int umm_fence_poll(struct umm_fence *fence)
{
	if (!fence_valid(fence))
		return -EINVAL;
	return atomic_load(&fence->state) & STATE_SIGNALLED ? fence->status : -EAGAIN;
}

int umm_fence_wait(struct umm_fence *fence, int timeout_ms)
{
	uint64_t deadline = timeout_ms < 0 ? UINT64_MAX : now_ns() + timeout_ms * UINT64_C(1000000);
	uint32_t state;

	if (!fence_valid(fence))
		return -EINVAL;
	if (notifier_in_callback())
		return -EDEADLK;
	for (;;) {
		state = atomic_load(&fence->state);
		if (state & STATE_SIGNALLED)
			return fence->status;
		if (now_ns() >= deadline)
			return -ETIME;
		if (!(state & STATE_WAITERS)) {
			atomic_compare_exchange_strong(&fence->state, &state,
						       state | STATE_WAITERS);
			continue;
		}
		futex_wait_until(&fence->state, state, deadline);
	}
}

long umm_fence_value(struct umm_fence *fence)
{
	return fence_valid(fence) && (atomic_load(&fence->state) & STATE_SIGNALLED) ? fence->value :
										      0;
}

int umm_fence_eventfd(struct umm_fence *fence)
{
	int mine, none = -1, fd;

	if (!fence_valid(fence))
		return -EINVAL;
	fd = atomic_load(&fence->eventfd);
	if (fd < 0) {
		mine = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
		if (mine < 0)
			return -ENOMEM;
		if (atomic_compare_exchange_strong(&fence->eventfd, &none, mine)) {
			fd = mine;
		} else {
			fence_close(mine);
			fd = none;
		}
	}
	/* Signalled before it could see the descriptor: ring here (twice does no harm). */
	if (atomic_load(&fence->state) & STATE_SIGNALLED)
		fence_ring(fd);
	fd = fcntl(fd, F_DUPFD_CLOEXEC, 0);
	return fd < 0 ? -ENOMEM : fd;
}
