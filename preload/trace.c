/* SPDX-License-Identifier: MIT */
/*
 * Events for "umm trace". Runs on fault servers, too: nothing here allocates, waits, or touches
 * managed memory. A reader asks by storing a time in the ring and moving it on while it
 * lives; so one that was killed costs nothing for long.
 *
 * No locks; where events go is set by the engine's thread.
 */
#include "trace.h"

#include <stddef.h>
#include <stdatomic.h>
#include <time.h>
#include <unistd.h>

#include "shim.h"

static struct trace_ring *_Atomic target;

static uint64_t now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

static bool is_wanted(void)
{
	struct trace_ring *ring = atomic_load_explicit(&target, memory_order_acquire);

	return ring && atomic_load_explicit(&ring->until_ns, memory_order_relaxed);
}

void trace_to(struct trace_ring *ring)
{
	atomic_store(&target, ring);
}

void trace_expire(void)
{
	struct trace_ring *ring = atomic_load(&target);
	uint64_t until = ring ? atomic_load(&ring->until_ns) : 0;

	if (until && until < now_ns())
		atomic_compare_exchange_strong(&ring->until_ns, &until, 0);
}

uint64_t trace_begin(void)
{
	return is_wanted() ? now_ns() : 0;
}

void trace_put(struct trace_event event)
{
	static SHIM_TLS int32_t tid;
	struct trace_ring *ring = atomic_load_explicit(&target, memory_order_acquire);

	if (!is_wanted())
		return;
	if (!tid)
		tid = gettid();
	event.tid = tid;
	if (event.start_ns)
		event.duration_ns = now_ns() - event.start_ns;
	else
		event.start_ns = now_ns();
	trace_ring_put(ring, &event);
}
