/* SPDX-License-Identifier: MIT */
/*
 * Pages brought on request, waited for or handed over: kernels find them, and do not fault.
 * As in test_opencl_queue.c a user event, the gate, holds things up, and stands open on PoCL's
 * basic device, where everything is done in the calling thread.
 */
#include "rig.h"

#define WORDS (PAGE / 4)
#define FEW   30

static struct umm_span span_of(const void *start, size_t len)
{
	return (struct umm_span){ .start = (uintptr_t)start, .len = len };
}

static struct umm_opencl_prefetch request(const struct umm_span *spans, size_t nspans,
					  unsigned access, int64_t *moved)
{
	*moved = INT64_MAX;
	return (struct umm_opencl_prefetch){
		.size = sizeof(struct umm_opencl_prefetch),
		.spans = spans,
		.nspans = nspans,
		.access = access,
		.moved = moved,
	};
}

static void assert_mapped(const uint32_t *out)
{
	for (size_t i = 0; i < FEW * WORDS; i++)
		assert_int_equal(out[i], 3 * i + 1);
}

static void a_kernel_does_not_fault_on_what_was_prefetched(void **state)
{
	struct rig *rig = *state;
	uint32_t *in, *out;
	struct umm_opencl_result result;
	struct umm_opencl_prefetch what;
	struct umm_span spans[2];
	cl_kernel kernel;
	int64_t moved;

	rig_open(rig, 4 * MIB, &rig_exact);
	rig_build(rig);
	in = rig_numbered(rig, FEW);
	out = rig_alloc(rig, FEW * PAGE);
	kernel = rig_map(rig, in, out);
	/* Two spans that meet, neither at the end of a page: whole pages come. */
	spans[0] = span_of(in + 5, 10 * PAGE);
	spans[1] = span_of(in + 5 + 11 * WORDS, 18 * PAGE + 100);
	what = request(spans, 2, UMM_OPENCL_READ, &moved);
	assert_int_equal(umm_opencl_prefetch(rig->ocl, &what), 0);
	assert_int_equal(moved, FEW);
	assert_int_equal(rig_pages_in(rig, in, FEW * PAGE, UMM_PAGE_DUPLICATED), FEW);
	spans[0] = span_of(out, FEW * PAGE);
	what = request(spans, 1, UMM_OPENCL_READ | UMM_OPENCL_WRITE, &moved);
	assert_int_equal(umm_opencl_prefetch(rig->ocl, &what), 0);
	assert_int_equal(moved, FEW);
	assert_int_equal(rig_pages_in(rig, out, FEW * PAGE, UMM_PAGE_DEVICE), FEW);

	result = rig_launch(rig, kernel, FEW * WORDS);
	assert_int_equal(result.rounds, 1);
	assert_int_equal(result.faults, 0);
	assert_int_equal(result.pages_migrated, 0);
	/* What is there is not brought again. */
	assert_int_equal(umm_opencl_prefetch(rig->ocl, &what), 0);
	assert_int_equal(moved, 0);
	assert_mapped(out);
}

static void a_prefetch_begins_after_its_events_and_completes_its_own(void **state)
{
	struct rig *rig = *state;
	struct umm_opencl_prefetch what;
	struct umm_opencl_result result = { .size = sizeof(result) };
	size_t n = FEW * WORDS;
	struct umm_opencl_work work = { .size = sizeof(work), .dims = 1, .global = &n };
	cl_event gate, event, done;
	struct umm_span span;
	uint32_t *words;
	int64_t moved;

	rig_open(rig, 4 * MIB, &rig_exact);
	rig_build(rig);
	words = rig_numbered(rig, FEW);
	span = span_of(words, FEW * PAGE);
	gate = rig_gate_new(rig);
	what = request(&span, 1, UMM_OPENCL_WRITE, &moved);
	what.nwait = 1;
	what.wait = &gate;
	what.event = &event;
	assert_int_equal(umm_opencl_prefetch(rig->ocl, &what), 0);
	/* Spans are those of the call. */
	span = span_of(NULL, 1);
	work.kernel = rig_map(rig, words, words);
	work.nwait = 1;
	work.wait = &event;
	work.event = &done;
	assert_int_equal(umm_opencl_launch(rig->ocl, &work, &result), 0);
	if (!rig_is_at_once()) {
		assert_true(rig_state_of(event) > CL_COMPLETE);
		assert_int_equal(rig_device_pages(rig), 0);
		assert_true(moved == INT64_MAX);
	}
	rig_gate_open(gate);
	assert_int_equal(clWaitForEvents(1, &done), CL_SUCCESS);
	assert_int_equal(rig_state_of(event), CL_COMPLETE);
	assert_int_equal(moved, FEW);
	assert_int_equal(result.rounds, 1);
	assert_int_equal(result.faults, 0);
	assert_mapped(words);
	clReleaseEvent(event);
	clReleaseEvent(done);
	clReleaseEvent(gate);
}

static void pages_come_while_the_queue_is_held_up(void **state)
{
	struct rig *rig = *state;
	struct umm_opencl_prefetch what;
	size_t n = FEW * WORDS;
	struct umm_opencl_work work = { .size = sizeof(work), .dims = 1, .global = &n };
	uint32_t *busy, *next;
	cl_event gate, held, event;
	struct umm_span span;
	int64_t moved;

	rig_open(rig, 4 * MIB, &rig_exact);
	rig_build(rig);
	busy = rig_numbered(rig, FEW);
	next = rig_numbered(rig, FEW);
	gate = rig_gate_new(rig);
	work.kernel = rig_map(rig, busy, busy);
	work.nwait = 1;
	work.wait = &gate;
	work.event = &held;
	assert_int_equal(umm_opencl_launch(rig->ocl, &work, NULL), 0);
	span = span_of(next, FEW * PAGE);
	what = request(&span, 1, UMM_OPENCL_READ, &moved);
	what.event = &event;
	assert_int_equal(umm_opencl_prefetch(rig->ocl, &what), 0);
	assert_int_equal(clWaitForEvents(1, &event), CL_SUCCESS);
	assert_int_equal(moved, FEW);
	assert_int_equal(rig_pages_in(rig, next, FEW * PAGE, UMM_PAGE_DUPLICATED), FEW);
	if (!rig_is_at_once())
		assert_true(rig_state_of(held) > CL_COMPLETE);
	rig_gate_open(gate);
	assert_int_equal(clWaitForEvents(1, &held), CL_SUCCESS);
	assert_mapped(busy);
	clReleaseEvent(event);
	clReleaseEvent(held);
	clReleaseEvent(gate);
}

static void only_as_much_comes_as_fits(void **state)
{
	struct rig *rig = *state;
	struct umm_opencl_prefetch what;
	struct umm_span span;
	uint32_t *first, *second;
	int64_t moved;

	/* Blocks of their own: eviction is by block. */
	rig_open(rig, 8 * PAGE, &rig_exact);
	first = rig_numbered(rig, BLOCK / PAGE);
	second = rig_numbered(rig, BLOCK / PAGE);
	span = span_of(first, 20 * PAGE);
	what = request(&span, 1, UMM_OPENCL_WRITE, &moved);
	what.flags = UMM_MIGRATE_NO_EVICT;
	assert_int_equal(umm_opencl_prefetch(rig->ocl, &what), 0);
	assert_int_equal(moved, 8);
	span = span_of(second, 5 * PAGE);
	what.moved = NULL;
	assert_int_equal(umm_opencl_prefetch(rig->ocl, &what), -ENOSPC);
	assert_int_equal(rig_count(rig, UMM_COUNT_EVICTIONS), 0);
	what = request(&span, 1, UMM_OPENCL_WRITE, &moved);
	assert_int_equal(umm_opencl_prefetch(rig->ocl, &what), 0);
	assert_int_equal(moved, 5);
	assert_true(rig_count(rig, UMM_COUNT_EVICTIONS) >= 1);
	assert_int_equal(rig_pages_in(rig, second, 5 * PAGE, UMM_PAGE_DEVICE), 5);
	for (size_t i = 0; i < 20 * WORDS; i++)
		assert_int_equal(first[i], i);
}

static void what_cannot_come_is_said_by_the_return_the_event_and_the_count(void **state)
{
	struct rig *rig = *state;
	struct umm_opencl_prefetch what, bad;
	struct umm_span span;
	uint32_t *words;
	int64_t moved;
	cl_event event;
	int local = 0;

	rig_open(rig, MIB, &rig_exact);
	words = rig_numbered(rig, 1);
	span = span_of(&local, sizeof(local));
	what = request(&span, 1, UMM_OPENCL_READ, &moved);
	assert_int_equal(umm_opencl_prefetch(rig->ocl, &what), -EFAULT);
	assert_int_equal(moved, -EFAULT);
	moved = 0;
	what.event = &event;
	assert_int_equal(umm_opencl_prefetch(rig->ocl, &what), 0);
	assert_int_not_equal(clWaitForEvents(1, &event), CL_SUCCESS);
	assert_int_equal(rig_state_of(event), CL_OUT_OF_RESOURCES);
	assert_int_equal(moved, -EFAULT);
	clReleaseEvent(event);

	span = span_of(words, PAGE);
#define REFUSED(field, value) \
	bad = what;           \
	bad.field = (value);  \
	assert_int_equal(umm_opencl_prefetch(rig->ocl, &bad), -EINVAL)
	REFUSED(size, 0);
	REFUSED(flags, UMM_MIGRATE_DUPLICATE);
	REFUSED(spans, NULL);
	REFUSED(nspans, 0);
	REFUSED(access, 0);
	REFUSED(access, 4);
	REFUSED(nwait, 1);
	assert_int_equal(umm_opencl_prefetch(NULL, &what), -EINVAL);
	assert_int_equal(umm_opencl_prefetch(rig->ocl, NULL), -EINVAL);
	span.len = 0;
	assert_int_equal(umm_opencl_prefetch(rig->ocl, &what), -EINVAL);
	span = span_of(words, SIZE_MAX);
	assert_int_equal(umm_opencl_prefetch(rig->ocl, &what), -EINVAL);
	assert_int_equal(rig_device_pages(rig), 0);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		rig_test(a_kernel_does_not_fault_on_what_was_prefetched),
		rig_test(a_prefetch_begins_after_its_events_and_completes_its_own),
		rig_test(pages_come_while_the_queue_is_held_up),
		rig_test(only_as_much_comes_as_fits),
		rig_test(what_cannot_come_is_said_by_the_return_the_event_and_the_count),
	};

	return rig_main("opencl-prefetch", tests, argc, argv);
}
