/* SPDX-License-Identifier: MIT */
/*
 * Windows beside others that use the same memory: launches and prefetches that were handed over,
 * windows of another device, a program that takes away permissions. Who comes first, who waits,
 * and what the log says where that takes long. What never ends is ended by an alarm.
 */
#include "rig.h"

#include <dlfcn.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#define NPAGES	 40
#define NWORDS	 (NPAGES * PAGE / 4)
#define RW	 (UMM_OPENCL_READ | UMM_OPENCL_WRITE)
#define PATIENCE 300 /* seconds */
#define ROUNDS	 10

static atomic_bool copies_fail;

/* In the place of OpenCL's. */
#pragma GCC visibility push(default)
cl_int clEnqueueCopyBuffer(cl_command_queue queue, cl_mem from, cl_mem to, size_t start, size_t at,
			   size_t len, cl_uint nwait, const cl_event *wait, cl_event *event)
{
	__typeof__(&clEnqueueCopyBuffer) real = (__typeof__(&clEnqueueCopyBuffer))(uintptr_t)dlsym(
		RTLD_NEXT, "clEnqueueCopyBuffer");

	if (copies_fail)
		return CL_OUT_OF_RESOURCES;
	return real(queue, from, to, start, at, len, nwait, wait, event);
}
#pragma GCC visibility pop

static uint32_t *open_numbered(struct rig *rig)
{
	alarm(PATIENCE);
	rig_open(rig, MIB, NULL);
	rig_build(rig);
	return rig_numbered(rig, NPAGES);
}

static struct umm_opencl *open_other(struct rig *rig)
{
	struct umm_opencl_options options = { .size = sizeof(options),
					      .device_name = rig_device_name(),
					      .device_bytes = MIB };
	struct umm_opencl *other = NULL;

	assert_int_equal(umm_opencl_create(rig->ctx, &options, &other), 0);
	return other;
}

static struct umm_opencl_window *window(struct umm_opencl *ocl, void *addr, uint64_t flags)
{
	struct umm_opencl_window *out = NULL;

	assert_int_equal(umm_opencl_window_create(ocl, addr, NPAGES * PAGE, flags, &out), 0);
	return out;
}

static cl_mem acquire(struct umm_opencl_window *w, unsigned access)
{
	cl_mem mem = NULL;

	assert_int_equal(umm_opencl_window_acquire(w, access, &mem), 0);
	return mem;
}

static void release(struct umm_opencl_window *w)
{
	assert_int_equal(umm_opencl_window_release(w, 0, NULL), 0);
}

/* plain_map in the queue, after wait, which may be NULL. */
static cl_event enqueue_map(struct rig *rig, cl_kernel kernel, cl_mem mem, cl_event wait)
{
	cl_command_queue queue = umm_opencl_cl_queue(rig->ocl);
	size_t items = NWORDS;
	cl_event event = NULL;

	assert_int_equal(clSetKernelArg(kernel, 0, sizeof(mem), &mem), CL_SUCCESS);
	assert_int_equal(clEnqueueNDRangeKernel(queue, kernel, 1, NULL, &items, NULL, wait ? 1 : 0,
						wait ? &wait : NULL, &event),
			 CL_SUCCESS);
	clFlush(queue);
	return event;
}

static void finish(cl_event event)
{
	assert_int_equal(clWaitForEvents(1, &event), CL_SUCCESS);
	clReleaseEvent(event);
}

/* A launch of map in place, after wait, which may be NULL. */
static cl_event hand_over(struct rig *rig, cl_kernel kernel, cl_event wait)
{
	size_t items = NWORDS;
	cl_event event = NULL;
	struct umm_opencl_work work = {
		.size = sizeof(work),
		.kernel = kernel,
		.dims = 1,
		.global = &items,
		.nwait = wait ? 1 : 0,
		.wait = wait ? &wait : NULL,
		.event = &event,
	};

	assert_int_equal(umm_opencl_launch(rig->ocl, &work, NULL), 0);
	return event;
}

static cl_event prefetch(struct rig *rig, void *addr, cl_event wait)
{
	struct umm_span span = { .start = (uintptr_t)addr, .len = NPAGES * PAGE };
	cl_event event = NULL;
	struct umm_opencl_prefetch what = {
		.size = sizeof(what),
		.spans = &span,
		.nspans = 1,
		.access = RW,
		.nwait = 1,
		.wait = &wait,
		.event = &event,
	};

	assert_int_equal(umm_opencl_prefetch(rig->ocl, &what), 0);
	return event;
}

static uint32_t mapped(uint32_t value, unsigned times)
{
	while (times--)
		value = 3 * value + 1;
	return value;
}

static void assert_mapped(const uint32_t *words, unsigned times)
{
	for (size_t i = 0; i < NWORDS; i++)
		assert_int_equal(words[i], mapped((uint32_t)i, times));
}

static void commands_behind_a_launch_have_what_it_stored_to_their_window(void **state)
{
	struct rig *rig = *state;
	uint32_t *words = open_numbered(rig);
	struct umm_opencl_window *w = window(rig->ocl, words, 0);
	cl_kernel map = rig_map(rig, words, words), plain = rig_kernel(rig, "plain_map");
	cl_event launch, command;

	for (int i = 0; i < ROUNDS; i++) {
		launch = hand_over(rig, map, NULL);
		command = enqueue_map(rig, plain, acquire(w, RW), NULL);
		assert_int_equal(umm_opencl_window_release(w, 1, &command), 0);
		finish(launch);
		finish(command);
	}
	assert_mapped(words, 2 * ROUNDS);
}

/* Acquiring a window, in a thread of its own. */
struct acquirer {
	_Atomic int tid; /* 0: not running yet */
	_Atomic bool done;
	struct umm_opencl_window *window;
	unsigned access;
	cl_mem mem;
	int ret;
	pthread_t thread;
};

static void *acquirer_main(void *priv)
{
	struct acquirer *acquirer = priv;

	acquirer->tid = (int)syscall(SYS_gettid);
	acquirer->ret =
		umm_opencl_window_acquire(acquirer->window, acquirer->access, &acquirer->mem);
	acquirer->done = true;
	return NULL;
}

/* Until it waits, or shows that it does not. */
static void start_acquiring(struct acquirer *acquirer)
{
	assert_int_equal(pthread_create(&acquirer->thread, NULL, acquirer_main, acquirer), 0);
	rig_eventually(acquirer->done || (acquirer->tid && rig_sleeps(acquirer->tid)));
	assert_false(acquirer->done);
}

static void end_acquiring(struct acquirer *acquirer)
{
	pthread_join(acquirer->thread, NULL);
	assert_int_equal(acquirer->ret, 0);
}

static void eventually_logged(const char *text)
{
	bool seen = false;

	rig_eventually(seen |= rig_logged(text));
}

static void a_window_is_acquired_after_launches_that_wait_and_the_log_says_so(void **state)
{
	struct rig *rig = *state;
	uint32_t *words = open_numbered(rig);
	struct acquirer acquirer = { .window = window(rig->ocl, words, 0), .access = RW };
	cl_event gate, launch, command;

	if (rig_is_at_once())
		rig_skip("launches are done before they are handed over");
	gate = rig_gate_new(rig);
	launch = hand_over(rig, rig_map(rig, words, words), gate);
	start_acquiring(&acquirer);
	eventually_logged("is acquired after launches and prefetches");
	assert_false(acquirer.done);
	rig_gate_open(gate);
	end_acquiring(&acquirer);
	command = enqueue_map(rig, rig_kernel(rig, "plain_map"), acquirer.mem, NULL);
	assert_int_equal(umm_opencl_window_release(acquirer.window, 1, &command), 0);
	finish(launch);
	finish(command);
	assert_mapped(words, 2);
	clReleaseEvent(gate);
}

static void commands_may_wait_for_a_prefetch_of_pages_of_their_window(void **state)
{
	struct rig *rig = *state;
	uint32_t *words = open_numbered(rig);
	struct acquirer acquirer = { .window = window(rig->ocl, words, 0), .access = RW };
	cl_event gate, there, command;

	if (rig_is_at_once())
		rig_skip("prefetches are done before they are handed over");
	gate = rig_gate_new(rig);
	there = prefetch(rig, words, gate);
	start_acquiring(&acquirer);
	eventually_logged("is acquired after launches and prefetches");
	assert_false(acquirer.done);
	rig_gate_open(gate);
	end_acquiring(&acquirer);
	command = enqueue_map(rig, rig_kernel(rig, "plain_map"), acquirer.mem, there);
	assert_int_equal(umm_opencl_window_release(acquirer.window, 1, &command), 0);
	finish(there);
	finish(command);
	assert_mapped(words, 1);
	clReleaseEvent(gate);
}

static void destroying_the_device_ends_what_an_acquire_waits_for(void **state)
{
	struct rig *rig = *state;
	uint32_t *words = open_numbered(rig);
	struct acquirer acquirer = { .window = window(rig->ocl, words, 0), .access = RW };
	cl_event gate, launch;

	if (rig_is_at_once())
		rig_skip("launches are done before they are handed over");
	gate = rig_gate_new(rig);
	launch = hand_over(rig, rig_map(rig, words, words), gate);
	start_acquiring(&acquirer);
	rig_close(rig);
	pthread_join(acquirer.thread, NULL);
	assert_int_equal(acquirer.ret, -ENODEV);
	assert_true(rig_state_of(launch) < 0);
	assert_mapped(words, 0);
	clReleaseEvent(launch);
	clReleaseEvent(gate);
}

static void *touch(void *priv)
{
	return (void *)(uintptr_t) * (volatile uint32_t *)priv;
}

static void events_that_do_not_complete_are_written_to_the_log(void **state)
{
	struct rig *rig = *state;
	uint32_t *words = open_numbered(rig);
	struct umm_opencl_window *w = window(rig->ocl, words, 0);
	cl_event event = clCreateUserEvent(umm_opencl_cl_context(rig->ocl), NULL);
	pthread_t thread;
	void *seen;

	acquire(w, RW);
	assert_int_equal(umm_opencl_window_release(w, 1, &event), 0);
	assert_int_equal(pthread_create(&thread, NULL, touch, words + 7), 0);
	eventually_logged("is not complete");
	clSetUserEventStatus(event, CL_COMPLETE);
	pthread_join(thread, &seen);
	assert_int_equal((uintptr_t)seen, 7);
	clReleaseEvent(event);
}

static void a_window_that_is_held_long_is_written_to_the_log(void **state)
{
	struct rig *rig = *state;
	uint32_t *words = open_numbered(rig);
	struct umm_opencl_window *w = window(rig->ocl, words, 0);
	pthread_t thread;
	void *seen;

	acquire(w, RW);
	assert_int_equal(pthread_create(&thread, NULL, touch, words + 7), 0);
	eventually_logged("its window is held");
	release(w);
	pthread_join(thread, &seen);
	assert_int_equal((uintptr_t)seen, 7);
}

struct announcer {
	struct rig *rig;
	uint32_t *words;
	pthread_t thread;
	int ret;
};

/* As who is about to cut off the pages before the window and those of it. */
static void *announce(void *priv)
{
	struct announcer *a = priv;
	struct umm_notifier_range range = { .start = (uintptr_t)a->words,
					    .end = (uintptr_t)(a->words + 2 * NWORDS),
					    .event = UMM_EVENT_CLEAR,
					    .blockable = true };
	struct umm_invalidation *invalidation;

	a->ret = umm_invalidate_range_start(a->rig->ctx, &range, &invalidation);
	if (!a->ret)
		umm_invalidate_range_end(a->rig->ctx, invalidation);
	return NULL;
}

/* While a touch is being announced, which waits for the release. */
static void a_window_that_somebody_waits_for_is_acquired_again(void **state)
{
	struct rig *rig = *state;
	uint32_t *words = open_numbered(rig), *more = rig_numbered(rig, NPAGES);
	struct umm_opencl_window *w = window(rig->ocl, words, 0), *v = window(rig->ocl, more, 0);
	struct acquirer acquirer = { .window = w, .access = RW };
	pthread_t thread;
	void *seen;

	acquire(w, RW);
	assert_int_equal(pthread_create(&thread, NULL, touch, words + 7), 0);
	eventually_logged("its window is held");
	acquire(w, RW);
	release(w);
	assert_int_equal(pthread_create(&acquirer.thread, NULL, acquirer_main, &acquirer), 0);
	end_acquiring(&acquirer);
	acquire(v, RW);
	release(v);
	release(w);
	release(w);
	pthread_join(thread, &seen);
	assert_int_equal((uintptr_t)seen, 7);
}

/* What is announced begins before it. */
static void what_the_log_names_is_in_the_window(void **state)
{
	struct rig *rig = *state;
	struct announcer announcer = { .rig = rig };
	struct umm_opencl_window *w;
	uint32_t *words;
	char text[64];

	open_numbered(rig);
	announcer.words = words = rig_numbered(rig, 2 * NPAGES);
	w = window(rig->ocl, words + NWORDS, 0);
	snprintf(text, sizeof(text), "0x%" PRIxPTR " is waited for", (uintptr_t)(words + NWORDS));
	acquire(w, RW);
	assert_int_equal(pthread_create(&announcer.thread, NULL, announce, &announcer), 0);
	eventually_logged(text);
	release(w);
	pthread_join(announcer.thread, NULL);
	assert_int_equal(announcer.ret, 0);
}

/* What a thread does beside a window that another one holds. */
struct neighbour {
	struct rig *rig;
	uint32_t *words;
	cl_kernel kernel;
	pthread_t thread;
	atomic_bool done;
	long ret;
};

static void *launch_beside(void *priv)
{
	struct neighbour *n = priv;
	size_t items = NWORDS;
	struct umm_opencl_work work = {
		.size = sizeof(work), .kernel = n->kernel, .dims = 1, .global = &items
	};

	n->ret = umm_opencl_launch(n->rig->ocl, &work, NULL);
	n->done = true;
	return NULL;
}

/* Upwards to the window, and downwards. */
static void *walk_beside(void *priv)
{
	struct neighbour *n = priv;

	for (uint32_t i = 0; i < NWORDS; i += PAGE / 4)
		n->ret += n->words[i] != i;
	for (uint32_t i = 3 * NWORDS - 1; i > 2 * NWORDS; i -= PAGE / 4)
		n->ret += n->words[i] != i;
	n->done = true;
	return NULL;
}

/* Is it done before the window, of the pages in the middle, is let go? */
static void done_beside_a_window(struct rig *rig, struct neighbour *n, void *(*fn)(void *))
{
	struct umm_opencl_window *w = window(rig->ocl, n->words + NWORDS, 0);
	bool in_time;

	acquire(w, RW);
	assert_int_equal(pthread_create(&n->thread, NULL, fn, n), 0);
	for (int i = 0; i < 10000 && !n->done; i++)
		nanosleep(&(struct timespec){ .tv_nsec = 1000000 }, NULL);
	in_time = n->done;
	release(w);
	pthread_join(n->thread, NULL);
	assert_true(in_time);
	assert_int_equal(n->ret, 0);
}

static void a_launch_does_not_read_ahead_into_a_window_that_is_held(void **state)
{
	struct rig *rig = *state;
	struct neighbour n = { .rig = rig };

	open_numbered(rig);
	n.words = rig_numbered(rig, 3 * NPAGES);
	n.kernel = rig_map(rig, n.words, n.words);
	done_beside_a_window(rig, &n, launch_beside);
	assert_mapped(n.words, 1);
	assert_int_equal(n.words[NWORDS], NWORDS);
}

static void nor_does_a_cpu_that_walks_up_to_it(void **state)
{
	struct rig *rig = *state;
	struct neighbour n = { .rig = rig };
	struct umm_span span = { .len = 3 * NPAGES * PAGE };
	struct umm_advice advice = { .size = sizeof(advice),
				     .spans = &span,
				     .nspans = 1,
				     .hint = UMM_HINT_READAHEAD,
				     .readahead = UMM_READAHEAD_STREAM };

	open_numbered(rig);
	n.words = rig_numbered(rig, 3 * NPAGES);
	span.start = (uintptr_t)n.words;
	assert_int_equal(umm_advise(rig->ctx, &advice), 0);
	assert_int_equal(umm_migrate_to_device(rig->ctx, umm_opencl_devmem(rig->ocl), n.words,
					       3 * NPAGES * PAGE),
			 3 * NPAGES);
	done_beside_a_window(rig, &n, walk_beside);
	assert_mapped(n.words, 0);
}

static size_t duplicated(struct rig *rig, const uint32_t *words)
{
	return rig_pages_in(rig, words, NPAGES * PAGE, UMM_PAGE_DUPLICATED);
}

static void devices_and_kernels_read_what_a_window_holds_for_reading(void **state)
{
	struct rig *rig = *state;
	uint32_t *words = open_numbered(rig), *out = rig_alloc(rig, NPAGES * PAGE);
	struct umm_opencl *other = open_other(rig);
	struct umm_opencl_window *a = window(rig->ocl, words, 0), *b = window(other, words, 0);
	uint64_t bits[1];

	acquire(a, UMM_OPENCL_READ);
	acquire(b, UMM_OPENCL_READ);
	rig_launch(rig, rig_map(rig, words, out), NWORDS);
	assert_int_equal(duplicated(rig, words), NPAGES);
	assert_mapped(words, 0);
	assert_mapped(out, 1);
	release(a);
	release(b);
	/* Others had copies made meanwhile: what was in the buffer still is. */
	assert_int_equal(umm_opencl_window_dirty(a, bits), 0);
	assert_int_equal(bits[0], 0);
	umm_opencl_destroy(other);
}

static void pages_that_another_device_has_alone_are_duplicated_for_both(void **state)
{
	struct rig *rig = *state;
	uint32_t *words = open_numbered(rig);
	struct umm_opencl *other = open_other(rig);
	struct umm_opencl_window *a = window(rig->ocl, words, 0), *b = window(other, words, 0);

	acquire(b, RW);
	release(b);
	assert_int_equal(rig_pages_in(rig, words, NPAGES * PAGE, UMM_PAGE_DEVICE), NPAGES);
	acquire(a, UMM_OPENCL_READ);
	acquire(b, UMM_OPENCL_READ);
	assert_int_equal(duplicated(rig, words), NPAGES);
	assert_mapped(words, 0);
	release(a);
	release(b);
	umm_opencl_destroy(other);
}

static void a_reader_waits_for_a_window_held_for_writing(void **state)
{
	struct rig *rig = *state;
	uint32_t *words = open_numbered(rig);
	struct umm_opencl *other = open_other(rig);
	struct umm_opencl_window *w = window(rig->ocl, words, 0);
	struct acquirer acquirer = { .window = window(other, words, 0), .access = UMM_OPENCL_READ };
	cl_mem mem = acquire(w, RW);
	cl_event command;

	start_acquiring(&acquirer);
	command = enqueue_map(rig, rig_kernel(rig, "plain_map"), mem, NULL);
	assert_int_equal(umm_opencl_window_release(w, 1, &command), 0);
	end_acquiring(&acquirer);
	assert_mapped(words, 1);
	assert_int_equal(duplicated(rig, words), NPAGES);
	release(acquirer.window);
	finish(command);
	umm_opencl_destroy(other);
}

/* Commands of an earlier release may still write, whatever it was held for last. */
static void permissions_change_after_commands_that_write(void **state)
{
	struct rig *rig = *state;
	uint32_t *words = open_numbered(rig);
	struct umm_opencl *other = open_other(rig);
	struct umm_opencl_window *w = window(rig->ocl, words, 0);
	struct acquirer acquirer = { .window = window(other, words, 0), .access = UMM_OPENCL_READ };
	cl_event event = clCreateUserEvent(umm_opencl_cl_context(rig->ocl), NULL);

	acquire(w, RW);
	acquire(w, UMM_OPENCL_READ);
	assert_int_equal(umm_opencl_window_release(w, 1, &event), 0);
	release(w);
	assert_int_equal(mprotect(words, NPAGES * PAGE, PROT_READ), 0);
	start_acquiring(&acquirer);
	clSetUserEventStatus(event, CL_COMPLETE);
	end_acquiring(&acquirer);
	release(acquirer.window);
	assert_mapped(words, 0);
	clReleaseEvent(event);
	umm_opencl_destroy(other);
}

static void memory_held_for_reading_may_become_read_only(void **state)
{
	struct rig *rig = *state;
	uint32_t *words = open_numbered(rig);
	struct umm_opencl *other = open_other(rig);
	struct umm_opencl_window *a = window(rig->ocl, words, 0), *b = window(other, words, 0);
	cl_mem mem;

	acquire(a, UMM_OPENCL_READ);
	assert_int_equal(mprotect(words, NPAGES * PAGE, PROT_READ), 0);
	acquire(b, UMM_OPENCL_READ); /* finds that out, and tells the first */
	assert_int_equal(duplicated(rig, words), NPAGES);
	release(a);
	release(b);
	assert_int_equal(umm_opencl_window_acquire(a, RW, &mem), -EPERM);
	assert_int_equal(mprotect(words, NPAGES * PAGE, PROT_READ | PROT_WRITE), 0);
	acquire(a, RW);
	release(a);
	assert_mapped(words, 0);
	umm_opencl_destroy(other);
}

static void mark(struct rig *rig, cl_mem mem, size_t page, struct umm_opencl_window *w)
{
	cl_kernel kernel = rig_kernel(rig, "plain_mark");
	uint32_t step = (uint32_t)page, value = 12345;
	size_t first = 1, items = 1;
	cl_event event;

	clSetKernelArg(kernel, 0, sizeof(mem), &mem);
	clSetKernelArg(kernel, 1, sizeof(step), &step);
	clSetKernelArg(kernel, 2, sizeof(value), &value);
	assert_int_equal(clEnqueueNDRangeKernel(umm_opencl_cl_queue(rig->ocl), kernel, 1, &first,
						&items, NULL, 0, NULL, &event),
			 CL_SUCCESS);
	assert_int_equal(umm_opencl_window_release(w, 1, &event), 0);
	clReleaseEvent(event);
}

static void writers_that_follow_writers_have_their_own_pages_dirty(void **state)
{
	struct rig *rig = *state;
	uint32_t *words = open_numbered(rig);
	struct umm_opencl_window *w = window(rig->ocl, words, UMM_OPENCL_WINDOW_TRACK);
	uint64_t bits[1];

	mark(rig, acquire(w, RW), 3, w);
	assert_int_equal(umm_opencl_window_dirty(w, bits), 0);
	assert_int_equal(bits[0], 1u << 3);
	mark(rig, acquire(w, RW), 4, w);
	acquire(w, UMM_OPENCL_WRITE);
	acquire(w, UMM_OPENCL_READ);
	mark(rig, acquire(w, UMM_OPENCL_WRITE), 5, w);
	/* Nobody has let go of it since: what both write is found in the end. */
	mark(rig, acquire(w, UMM_OPENCL_WRITE), 9, w);
	release(w);
	release(w);
	assert_int_equal(umm_opencl_window_dirty(w, bits), 0);
	assert_int_equal(bits[0], 1u << 5 | 1u << 9);
	acquire(w, UMM_OPENCL_READ);
	release(w);
	assert_int_equal(umm_opencl_window_dirty(w, bits), 0);
	assert_int_equal(bits[0], 0);
	assert_int_equal(words[9 * PAGE / 4 + 5], 12345);
}

static void a_writer_that_could_not_be_tracked_has_no_dirty_pages(void **state)
{
	struct rig *rig = *state;
	uint32_t *words = open_numbered(rig);
	struct umm_opencl_window *w = window(rig->ocl, words, UMM_OPENCL_WINDOW_TRACK);
	uint64_t bits[1];
	cl_mem mem;

	copies_fail = true;
	assert_true(umm_opencl_window_acquire(w, RW, &mem) < 0);
	copies_fail = false;
	assert_int_equal(umm_opencl_window_dirty(w, bits), -ENOENT);
	mark(rig, acquire(w, RW), 3, w);
	assert_int_equal(umm_opencl_window_dirty(w, bits), 0);
	assert_int_equal(bits[0], 1u << 3);
}

static void what_a_device_wrote_is_read_by_all_while_it_is_held_for_reading(void **state)
{
	struct rig *rig = *state;
	uint32_t *words = open_numbered(rig), *out = rig_alloc(rig, NPAGES * PAGE);
	struct umm_opencl *other = open_other(rig);
	struct umm_opencl_window *a = window(rig->ocl, words, 0), *b = window(other, words, 0);
	cl_event command = enqueue_map(rig, rig_kernel(rig, "plain_map"), acquire(a, RW), NULL);

	assert_int_equal(umm_opencl_window_release(a, 1, &command), 0);
	acquire(a, UMM_OPENCL_READ);
	assert_int_equal(duplicated(rig, words), NPAGES);
	assert_mapped(words, 1);
	acquire(b, UMM_OPENCL_READ);
	rig_launch(rig, rig_map(rig, words, out), NWORDS);
	assert_mapped(out, 2);
	release(b);
	release(a);
	finish(command);
	umm_opencl_destroy(other);
}

static void written_pages_of_a_private_mapping_are_duplicated_too(void **state)
{
	struct rig *rig = *state;
	struct umm_opencl_window *w;
	FILE *file = tmpfile();
	uint32_t *words;

	open_numbered(rig);
	assert_non_null(file);
	assert_int_equal(ftruncate(fileno(file), NPAGES * PAGE), 0);
	words = mmap(NULL, NPAGES * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE, fileno(file), 0);
	assert_ptr_not_equal(words, MAP_FAILED);
	assert_int_equal(umm_attach(rig->ctx, words, NPAGES * PAGE), 0);
	for (uint32_t i = 0; i < NWORDS; i++)
		words[i] = i;
	w = window(rig->ocl, words, 0);
	acquire(w, UMM_OPENCL_READ);
	assert_int_equal(duplicated(rig, words), NPAGES);
	assert_mapped(words, 0);
	release(w);
	umm_opencl_window_destroy(w);
	umm_detach(rig->ctx, words);
	munmap(words, NPAGES * PAGE);
	fclose(file);
}

/* With tracking a writer waits for commands that were there before: those of readers, too. */
static void a_writer_does_not_join_readers_nor_wait_for_their_commands(void **state)
{
	struct rig *rig = *state;
	uint32_t *words = open_numbered(rig);
	struct umm_opencl_window *w = window(rig->ocl, words, UMM_OPENCL_WINDOW_TRACK);
	cl_event event = clCreateUserEvent(umm_opencl_cl_context(rig->ocl), NULL);
	cl_mem mem;

	acquire(w, RW);
	release(w);
	acquire(w, UMM_OPENCL_READ);
	assert_int_equal(umm_opencl_window_release(w, 1, &event), 0);
	acquire(w, UMM_OPENCL_READ);
	assert_int_equal(umm_opencl_window_acquire(w, UMM_OPENCL_WRITE, &mem), -EBUSY);
	release(w);
	clSetUserEventStatus(event, CL_COMPLETE);
	acquire(w, UMM_OPENCL_WRITE);
	release(w);
	clReleaseEvent(event);
}

static void nobody_writes_to_memory_that_became_read_only_while_it_was_held(void **state)
{
	struct rig *rig = *state;
	uint32_t *words = open_numbered(rig);
	struct umm_opencl *other = open_other(rig);
	struct umm_opencl_window *a = window(rig->ocl, words, 0), *b = window(other, words, 0);
	cl_mem mem;

	acquire(a, RW);
	release(a);
	acquire(a, UMM_OPENCL_READ);
	assert_int_equal(mprotect(words, NPAGES * PAGE, PROT_READ), 0);
	acquire(b, UMM_OPENCL_READ); /* finds that out */
	assert_int_equal(umm_opencl_window_acquire(a, RW, &mem), -EBUSY);
	release(a);
	release(b);
	assert_int_equal(umm_opencl_window_acquire(a, RW, &mem), -EPERM);
	assert_mapped(words, 0);
	umm_opencl_destroy(other);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		rig_test(commands_behind_a_launch_have_what_it_stored_to_their_window),
		rig_test(a_window_is_acquired_after_launches_that_wait_and_the_log_says_so),
		rig_test(commands_may_wait_for_a_prefetch_of_pages_of_their_window),
		rig_test(destroying_the_device_ends_what_an_acquire_waits_for),
		rig_test(events_that_do_not_complete_are_written_to_the_log),
		rig_test(a_window_that_is_held_long_is_written_to_the_log),
		rig_test(a_window_that_somebody_waits_for_is_acquired_again),
		rig_test(what_the_log_names_is_in_the_window),
		rig_test(a_launch_does_not_read_ahead_into_a_window_that_is_held),
		rig_test(nor_does_a_cpu_that_walks_up_to_it),
		rig_test(devices_and_kernels_read_what_a_window_holds_for_reading),
		rig_test(pages_that_another_device_has_alone_are_duplicated_for_both),
		rig_test(a_reader_waits_for_a_window_held_for_writing),
		rig_test(permissions_change_after_commands_that_write),
		rig_test(memory_held_for_reading_may_become_read_only),
		rig_test(writers_that_follow_writers_have_their_own_pages_dirty),
		rig_test(a_writer_that_could_not_be_tracked_has_no_dirty_pages),
		rig_test(what_a_device_wrote_is_read_by_all_while_it_is_held_for_reading),
		rig_test(written_pages_of_a_private_mapping_are_duplicated_too),
		rig_test(a_writer_does_not_join_readers_nor_wait_for_their_commands),
		rig_test(nobody_writes_to_memory_that_became_read_only_while_it_was_held),
	};

	return rig_main("opencl window order", tests, argc, argv);
}
