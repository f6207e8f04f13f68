/* SPDX-License-Identifier: MIT */
/*
 * Launches that are handed over: their events, their place in queues of both kinds, what
 * becomes of them when something fails or the device goes away.
 *
 * Where a test has to see that something has not happened yet, a user event, the gate, holds it up.
 * PoCL's basic device does a launch before umm_opencl_launch() returns, and never comes back
 * from completing a user event that a command waits for: there the gate stands open.
 */
#include "rig.h"

#include <pthread.h>

#define NPAGES 40
#define WORDS  (PAGE / 4)
#define NWORDS (NPAGES * WORDS)

static void assert_pending(cl_event event)
{
	if (!rig_is_at_once())
		assert_true(rig_state_of(event) > CL_COMPLETE);
}

/* The device with a queue of these properties; skips where it has none such. */
static void open_with_queue(struct rig *rig, cl_command_queue_properties properties)
{
	struct umm_opencl_options options = { .size = sizeof(options) };
	cl_context context;
	cl_device_id device;
	cl_int err;

	rig_open(rig, 4 * MIB, NULL);
	device = umm_opencl_cl_device(rig->ocl);
	context = clCreateContext(NULL, 1, &device, NULL, NULL, &err);
	assert_int_equal(err, CL_SUCCESS);
	options.queue = clCreateCommandQueue(context, device, properties, &err);
	clReleaseContext(context);
	if (err != CL_SUCCESS)
		rig_skip("%s has no such queue", rig_device_name());
	rig_close(rig);
	rig_open(rig, 4 * MIB, &options);
	clReleaseCommandQueue(options.queue);
	rig_build(rig);
}

/* A kernel that maps words of its own in place. */
static cl_kernel map_numbered(struct rig *rig)
{
	uint32_t *words = rig_numbered(rig, NPAGES);

	return rig_map(rig, words, words);
}

static int try_hand_over(struct rig *rig, cl_kernel kernel, size_t n, cl_event wait,
			 struct umm_opencl_result *result, cl_event *event)
{
	struct umm_opencl_work work = {
		.size = sizeof(work),
		.flags = rig->flags,
		.kernel = kernel,
		.dims = 1,
		.global = &n,
		.nwait = wait ? 1 : 0,
		.wait = wait ? &wait : NULL,
		.event = event,
	};

	return umm_opencl_launch(rig->ocl, &work, result);
}

static cl_event hand_over(struct rig *rig, cl_kernel kernel, size_t n, cl_event wait,
			  struct umm_opencl_result *result)
{
	cl_event event = NULL;

	if (result)
		*result = (struct umm_opencl_result){ .size = sizeof(*result), .status = 1 };
	assert_int_equal(try_hand_over(rig, kernel, n, wait, result, &event), 0);
	assert_non_null(event);
	return event;
}

/* Wait for the event, and let it go. */
static void finish(cl_event event)
{
	assert_int_equal(clWaitForEvents(1, &event), CL_SUCCESS);
	assert_int_equal(rig_state_of(event), CL_COMPLETE);
	clReleaseEvent(event);
}

static void the_event_completes_after_the_last_round_and_no_earlier(void **state)
{
	struct rig *rig = *state;
	struct umm_opencl_result result;
	cl_event gate, event;
	uint32_t *words;

	rig->flags = UMM_OPENCL_REPLAY;
	rig_open(rig, 4 * MIB, NULL);
	rig_build(rig);
	words = rig_numbered(rig, NPAGES);
	gate = rig_gate_new(rig);
	event = hand_over(rig, rig_map(rig, words, words), NWORDS, gate, &result);
	assert_pending(event);
	if (!rig_is_at_once()) {
		assert_int_equal(words[NWORDS - 1], NWORDS - 1);
		assert_int_equal(result.status, 1);
	}
	rig_gate_open(gate);
	finish(event);
	/* A page for the load and the same for the store: at least so many rounds and faults. */
	assert_int_equal(result.status, 0);
	assert_int_equal(result.items, NWORDS);
	assert_true(result.rounds >= 3);
	assert_true(result.faults >= NPAGES);
	assert_true(result.pages_migrated >= NPAGES);
	assert_false(result.fault_valid);
	for (size_t i = 0; i < NWORDS; i++)
		assert_int_equal(words[i], 3 * i + 1);
	clReleaseEvent(gate);
}

/* Buffers of the caller beside managed memory. */
struct beside {
	cl_mem from;
	cl_mem to;
	uint32_t ones[NWORDS];
	uint32_t got[NWORDS];
};

static struct beside *beside_new(struct rig *rig, cl_kernel kernel, uint32_t *words)
{
	struct beside *b = calloc(1, sizeof(*b));
	cl_context context = umm_opencl_cl_context(rig->ocl);

	assert_non_null(b);
	b->from = clCreateBuffer(context, CL_MEM_READ_WRITE, sizeof(b->ones), NULL, NULL);
	b->to = clCreateBuffer(context, CL_MEM_READ_WRITE, sizeof(b->got), NULL, NULL);
	assert_true(b->from && b->to);
	for (size_t i = 0; i < NWORDS; i++)
		b->ones[i] = 1;
	rig_ulong(kernel, 0, (uintptr_t)words);
	rig_ulong(kernel, 1, (uintptr_t)words);
	clSetKernelArg(kernel, UMM_OPENCL_ARGS + 2, sizeof(cl_mem), &b->from);
	clSetKernelArg(kernel, UMM_OPENCL_ARGS + 3, sizeof(cl_mem), &b->to);
	return b;
}

static void beside_free(struct beside *b)
{
	clReleaseMemObject(b->from);
	clReleaseMemObject(b->to);
	free(b);
}

static void commands_around_a_launch_keep_the_order_of_the_queue(void **state)
{
	struct rig *rig = *state;
	cl_command_queue queue;
	cl_event gate, event, read;
	struct beside *b;
	cl_kernel kernel;

	open_with_queue(rig, 0);
	queue = umm_opencl_cl_queue(rig->ocl);
	kernel = rig_kernel(rig, "beside");
	b = beside_new(rig, kernel, rig_numbered(rig, NPAGES));
	gate = rig_gate_new(rig);
	/* No event is handed on but the gate: the order is the queue's. */
	assert_int_equal(clEnqueueWriteBuffer(queue, b->from, CL_FALSE, 0, sizeof(b->ones), b->ones,
					      1, &gate, NULL),
			 CL_SUCCESS);
	event = hand_over(rig, kernel, NWORDS, NULL, NULL);
	assert_int_equal(clEnqueueReadBuffer(queue, b->to, CL_FALSE, 0, sizeof(b->got), b->got, 0,
					     NULL, &read),
			 CL_SUCCESS);
	clFlush(queue);
	assert_pending(event);
	assert_pending(read);
	rig_gate_open(gate);
	finish(read);
	assert_int_equal(rig_state_of(event), CL_COMPLETE);
	for (size_t i = 0; i < NWORDS; i++)
		assert_int_equal(b->got[i], 3 * i + 1);
	clReleaseEvent(event);
	clReleaseEvent(gate);
	beside_free(b);
}

static void launches_of_one_queue_follow_each_other(void **state)
{
	struct rig *rig = *state;
	struct umm_opencl_result result;
	cl_event events[3];
	cl_kernel kernel;
	uint32_t *words;

	rig_open(rig, 4 * MIB, NULL);
	rig_build(rig);
	words = rig_numbered(rig, NPAGES);
	kernel = rig_map(rig, words, words);
	for (int i = 0; i < 3; i++)
		events[i] = hand_over(rig, kernel, NWORDS, NULL, NULL);
	/* One that is waited for comes last as well. */
	assert_int_equal(rig_try(rig, kernel, NWORDS, &result), 0);
	for (int i = 0; i < 3; i++) {
		assert_int_equal(rig_state_of(events[i]), CL_COMPLETE);
		clReleaseEvent(events[i]);
	}
	for (size_t i = 0; i < NWORDS; i++)
		assert_int_equal(words[i], (uint32_t)(81 * i + 40));
}

static void out_of_order_a_launch_that_waits_holds_up_no_other(void **state)
{
	struct rig *rig = *state;
	cl_event gate, held, free_to_go;
	uint32_t *first, *second;

	if (rig_is_at_once())
		rig_skip("basic does launches before umm_opencl_launch() returns");
	open_with_queue(rig, CL_QUEUE_OUT_OF_ORDER_EXEC_MODE_ENABLE);
	first = rig_numbered(rig, NPAGES);
	second = rig_numbered(rig, NPAGES);
	gate = rig_gate_new(rig);
	held = hand_over(rig, rig_map(rig, first, first), NWORDS, gate, NULL);
	free_to_go = hand_over(rig, rig_map(rig, second, second), NWORDS, NULL, NULL);
	finish(free_to_go);
	assert_pending(held);
	for (size_t i = 0; i < NWORDS; i++)
		assert_int_equal(second[i], 3 * i + 1);
	assert_int_equal(first[1], 1);
	rig_gate_open(gate);
	/* clFinish() knows of launches in such a queue too. */
	assert_int_equal(clFinish(umm_opencl_cl_queue(rig->ocl)), CL_SUCCESS);
	assert_int_equal(rig_state_of(held), CL_COMPLETE);
	for (size_t i = 0; i < NWORDS; i++)
		assert_int_equal(first[i], 3 * i + 1);
	clReleaseEvent(held);
	clReleaseEvent(gate);
}

static void arguments_and_sizes_are_those_of_the_call(void **state)
{
	struct rig *rig = *state;
	size_t offset = 2, n = 4, local = 2;
	struct umm_opencl_work work = { .size = sizeof(work), .dims = 1 };
	uint32_t *words;
	cl_event gate, event;

	rig_open(rig, 4 * MIB, NULL);
	rig_build(rig);
	words = rig_numbered(rig, NPAGES);
	gate = rig_gate_new(rig);
	work.kernel = rig_kernel(rig, "store");
	work.offset = &offset;
	work.global = &n;
	work.local = &local;
	work.nwait = 1;
	work.wait = &gate;
	work.event = &event;
	rig_ulong(work.kernel, 0, (uintptr_t)words);
	rig_ulong(work.kernel, 1, 4);
	rig_uint(work.kernel, 2, 9);
	assert_int_equal(umm_opencl_launch(rig->ocl, &work, NULL), 0);
	rig_uint(work.kernel, 2, 7);
	offset = n = local = 1;
	rig_close_kernels(rig);
	rig_gate_open(gate);
	finish(event);
	for (uint32_t i = 0; i < 10; i++)
		assert_int_equal(words[i], i >= 2 && i < 6 ? 9 : i);
	clReleaseEvent(gate);
}

static void a_failed_launch_fails_its_event_and_nothing_else(void **state)
{
	struct rig *rig = *state;
	uint32_t plain = 5, got = 0;
	struct umm_opencl_result result;
	cl_command_queue queue;
	cl_kernel kernel;
	cl_event event;
	cl_mem mem;

	open_with_queue(rig, 0);
	queue = umm_opencl_cl_queue(rig->ocl);
	mem = clCreateBuffer(umm_opencl_cl_context(rig->ocl), 0, sizeof(plain), NULL, NULL);
	kernel = rig_kernel(rig, "load");
	rig_ulong(kernel, 0, (uintptr_t)&plain & ~UINT64_C(3));
	rig_ulong(kernel, 1, 0);
	event = hand_over(rig, kernel, 1, NULL, &result);
	assert_int_equal(clWaitForEvents(1, &event), CL_EXEC_STATUS_ERROR_FOR_EVENTS_IN_WAIT_LIST);
	assert_int_equal(rig_state_of(event), CL_OUT_OF_RESOURCES);
	assert_int_equal(result.status, -EFAULT);
	assert_true(result.fault_valid);
	assert_int_equal(result.fault_addr, (uintptr_t)&plain & ~UINT64_C(3));
	clReleaseEvent(event);
	/* The queue goes on, with commands and with launches. */
	assert_int_equal(clEnqueueWriteBuffer(queue, mem, CL_FALSE, 0, sizeof(plain), &plain, 0,
					      NULL, NULL),
			 CL_SUCCESS);
	assert_int_equal(clEnqueueReadBuffer(queue, mem, CL_TRUE, 0, sizeof(got), &got, 0, NULL,
					     NULL),
			 CL_SUCCESS);
	assert_int_equal(got, 5);
	rig_ulong(kernel, 0, (uintptr_t)rig_numbered(rig, NPAGES));
	finish(hand_over(rig, kernel, 1, NULL, &result));
	assert_int_equal(result.status, 0);
	clReleaseMemObject(mem);
}

static void a_launch_whose_event_failed_does_not_run(void **state)
{
	struct rig *rig = *state;
	struct umm_opencl_result result;
	cl_event event, failed;
	uint32_t *words;
	cl_int err;

	rig_open(rig, 4 * MIB, NULL);
	rig_build(rig);
	words = rig_numbered(rig, NPAGES);
	failed = clCreateUserEvent(umm_opencl_cl_context(rig->ocl), &err);
	assert_int_equal(err, CL_SUCCESS);
	clSetUserEventStatus(failed, -1);
	event = hand_over(rig, rig_map(rig, words, words), NWORDS, failed, &result);
	assert_int_equal(clWaitForEvents(1, &event), CL_EXEC_STATUS_ERROR_FOR_EVENTS_IN_WAIT_LIST);
	assert_int_equal(result.status, -EIO);
	assert_int_equal(result.rounds, 0);
	for (size_t i = 0; i < NWORDS; i++)
		assert_int_equal(words[i], i);
	clReleaseEvent(event);
	clReleaseEvent(failed);
}

static void what_is_no_event_is_refused_before_anything_is_handed_over(void **state)
{
	struct rig *rig = *state;
	cl_kernel kernel;
	struct umm_span span;
	size_t n = NWORDS;
	cl_event event = NULL;
	int64_t pages = 7;

	rig_open(rig, 4 * MIB, NULL);
	rig_build(rig);
	kernel = map_numbered(rig);
	span = (struct umm_span){ .start = (uintptr_t)rig_alloc(rig, PAGE), .len = PAGE };
	cl_event wait[] = { rig_gate_new(rig), NULL };
	struct umm_opencl_work work = { .size = sizeof(work),
					.kernel = kernel,
					.dims = 1,
					.global = &n,
					.nwait = 2,
					.wait = wait,
					.event = &event };
	struct umm_opencl_prefetch what = { .size = sizeof(what),
					    .spans = &span,
					    .nspans = 1,
					    .access = UMM_OPENCL_READ,
					    .nwait = 2,
					    .wait = wait,
					    .event = &event,
					    .moved = &pages };

	assert_int_equal(umm_opencl_launch(rig->ocl, &work, NULL), -EINVAL);
	assert_true(rig_logged("CL_INVALID_EVENT"));
	assert_int_equal(umm_opencl_prefetch(rig->ocl, &what), -EINVAL);
	assert_null(event);
	assert_int_equal(pages, 7);
	assert_int_equal(rig_device_pages(rig), 0);
	rig_gate_open(wait[0]);
	work.nwait = 1;
	assert_int_equal(umm_opencl_launch(rig->ocl, &work, NULL), 0);
	assert_int_equal(clWaitForEvents(1, &event), CL_SUCCESS);
	clReleaseEvent(event);
	clReleaseEvent(wait[0]);
}

static void a_profiled_queue_gives_the_time_on_the_device(void **state)
{
	struct rig *rig = *state;
	struct umm_opencl_result result;
	cl_kernel kernel;

	open_with_queue(rig, CL_QUEUE_PROFILING_ENABLE);
	kernel = map_numbered(rig);
	for (int later = 0; later < 2; later++) {
		if (later)
			finish(hand_over(rig, kernel, NWORDS, NULL, &result));
		else
			result = rig_launch(rig, kernel, NWORDS);
		assert_true(result.device_start && result.device_end >= result.device_start);
		if (result.device_start && result.device_end < 16)
			rig_skip("%s answers small numbers for times", rig_device_name());
		assert_true(result.device_ns > 0);
		/* Rounds with faults to serve in between: less than from the first to the last. */
		assert_true(result.device_ns <= result.device_end - result.device_start);
		assert_true(result.device_ns <= result.total_ns);
	}
	rig_close(rig);
	rig_open(rig, 4 * MIB, NULL);
	rig_build(rig);
	result = rig_launch(rig, map_numbered(rig), NWORDS);
	assert_int_equal(result.device_ns, 0);
	assert_int_equal(result.device_start, 0);
}

/* What takes the device away meanwhile. */
struct ending {
	struct rig *rig;
	struct umm_opencl *ocl;
	bool with_context;
};

static void *end_device(void *priv)
{
	struct ending *ending = priv;

	if (ending->with_context)
		umm_ctx_put(ending->rig->ctx);
	else
		umm_opencl_destroy(ending->ocl);
	return NULL;
}

#define HELD 16

/* Launches behind a gate end when the device does, though the gate is shut. */
static void take_away_while_launches_are_pending(struct rig *rig, bool with_context)
{
	struct ending ending = { .rig = rig, .with_context = with_context };
	struct umm_opencl_result results[HELD];
	cl_event events[HELD], gate;
	pthread_t thread;
	cl_kernel kernel;

	rig_open(rig, 4 * MIB, NULL);
	rig_build(rig);
	kernel = map_numbered(rig);
	gate = rig_gate_new(rig);
	ending.ocl = rig->ocl;
	for (size_t i = 0; i < HELD; i++) {
		events[i] = hand_over(rig, kernel, NWORDS, gate, &results[i]);
		assert_int_equal(results[i].status, 1);
	}
	assert_int_equal(pthread_create(&thread, NULL, end_device, &ending), 0);
	pthread_join(thread, NULL);
	rig->ocl = NULL;
	if (with_context)
		rig->ctx = NULL;
	for (size_t i = 0; i < HELD; i++) {
		assert_int_equal(results[i].status, -ENODEV);
		assert_int_equal(results[i].rounds, 0);
		assert_int_equal(rig_state_of(events[i]), CL_DEVICE_NOT_AVAILABLE);
		clReleaseEvent(events[i]);
	}
	rig_gate_open(gate);
	clReleaseEvent(gate);
}

static void launches_that_are_pending_end_with_their_device(void **state)
{
	if (rig_is_at_once())
		rig_skip("basic does launches before umm_opencl_launch() returns");
	take_away_while_launches_are_pending(*state, false);
}

static void launches_that_are_pending_end_with_their_context(void **state)
{
	if (rig_is_at_once())
		rig_skip("basic does launches before umm_opencl_launch() returns");
	take_away_while_launches_are_pending(*state, true);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		rig_test(the_event_completes_after_the_last_round_and_no_earlier),
		rig_test(commands_around_a_launch_keep_the_order_of_the_queue),
		rig_test(launches_of_one_queue_follow_each_other),
		rig_test(out_of_order_a_launch_that_waits_holds_up_no_other),
		rig_test(arguments_and_sizes_are_those_of_the_call),
		rig_test(a_failed_launch_fails_its_event_and_nothing_else),
		rig_test(a_launch_whose_event_failed_does_not_run),
		rig_test(what_is_no_event_is_refused_before_anything_is_handed_over),
		rig_test(a_profiled_queue_gives_the_time_on_the_device),
		rig_test(launches_that_are_pending_end_with_their_device),
		rig_test(launches_that_are_pending_end_with_their_context),
	};

	return rig_main("opencl-queue", tests, argc, argv);
}
