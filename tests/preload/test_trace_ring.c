/* SPDX-License-Identifier: MIT */
/* The ring of events: nothing is lost uncounted, and a reader that writes nonsense stops nobody. */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "trace_ring.h"

enum { WRITERS = 4, EACH = 40000 };

static struct trace_ring ring;
static _Atomic unsigned running;

static int start(void **state)
{
	(void)state;
	memset(&ring, 0, sizeof(ring));
	return 0;
}

static void put(uint32_t kind, uint64_t number)
{
	struct trace_event event = {
		.kind = kind, .start_ns = number, .addr = ~number, .npages = 2
	};

	trace_ring_put(&ring, &event);
}

static void comes_out_in_order(void **state)
{
	struct trace_event event;

	(void)state;
	assert_false(trace_ring_take(&ring, &event));
	for (uint64_t i = 0; i < 3 * TRACE_SLOTS; i++) {
		put(TRACE_FAULT, i);
		if (i % 2)
			continue;
		assert_true(trace_ring_take(&ring, &event));
		assert_int_equal(event.start_ns, i / 2);
	}
}

static void what_finds_it_full_is_counted(void **state)
{
	struct trace_event event;
	uint64_t taken;

	(void)state;
	for (uint64_t i = 0; i < TRACE_SLOTS + 100; i++)
		put(TRACE_EVICT, i);
	put(TRACE_FORK, 0);
	put(TRACE_NR_KINDS, 0); /* none such: not even counted */
	assert_int_equal(ring.seen[TRACE_EVICT], TRACE_SLOTS + 100);
	assert_int_equal(ring.pages[TRACE_EVICT], 2 * (TRACE_SLOTS + 100));
	assert_int_equal(ring.dropped[TRACE_EVICT], 100);
	assert_int_equal(ring.dropped[TRACE_FORK], 1);
	for (taken = 0; trace_ring_take(&ring, &event); taken++)
		assert_int_equal(event.start_ns, taken);
	assert_int_equal(taken, TRACE_SLOTS);
	put(TRACE_EVICT, 7);
	assert_true(trace_ring_take(&ring, &event));
	assert_int_equal(event.start_ns, 7);
}

static void *write_many(void *kind)
{
	for (uint64_t i = 0; i < EACH; i++)
		put((uint32_t)(uintptr_t)kind, i);
	atomic_fetch_sub(&running, 1);
	return NULL;
}

/* Every event is taken, whole and in the order of its writer, or counted as dropped. */
static void many_writers_and_a_reader(void **state)
{
	uint64_t taken[WRITERS] = { 0 }, next[WRITERS] = { 0 };
	pthread_t thread[WRITERS];
	struct trace_event event;
	bool more = true;

	(void)state;
	running = WRITERS;
	for (uintptr_t i = 0; i < WRITERS; i++)
		assert_int_equal(pthread_create(&thread[i], NULL, write_many, (void *)i), 0);
	while (more) {
		more = running;
		while (trace_ring_take(&ring, &event)) {
			assert_in_range(event.kind, 0, WRITERS - 1);
			assert_true(event.start_ns >= next[event.kind]);
			assert_true(event.addr == ~event.start_ns);
			next[event.kind] = event.start_ns + 1;
			taken[event.kind]++;
		}
	}
	for (unsigned i = 0; i < WRITERS; i++) {
		pthread_join(thread[i], NULL);
		assert_int_equal(ring.seen[i], EACH);
		assert_int_equal(taken[i] + ring.dropped[i], EACH);
	}
}

static void nonsense_of_the_reader_stops_nobody(void **state)
{
	(void)state;
	for (unsigned i = 0; i < TRACE_SLOTS; i++)
		ring.slot[i].turn = UINT64_MAX - i;
	ring.tail = UINT64_MAX;
	for (uint64_t i = 0; i < 100; i++)
		put(TRACE_GRANT, i);
	assert_int_equal(ring.dropped[TRACE_GRANT], 100);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(comes_out_in_order, start),
		cmocka_unit_test_setup(what_finds_it_full_is_counted, start),
		cmocka_unit_test_setup(many_writers_and_a_reader, start),
		cmocka_unit_test_setup(nonsense_of_the_reader_stops_nobody, start),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
