/* SPDX-License-Identifier: MIT */
/*
 * Windows: kernels that know nothing of libumm work on managed memory as one buffer; what
 * moves, who waits for whom, and what happens when device memory is short.
 */
#include "rig.h"

#include <pthread.h>
#include <stdatomic.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define NPAGES (UMM_BLOCK_PAGES + 70)
#define WORDS  (NPAGES * PAGE / 4)
#define RW     (UMM_OPENCL_READ | UMM_OPENCL_WRITE)

static uint32_t word(size_t i)
{
	return (uint32_t)i * 2654435761u + 7;
}

static uint32_t *filled(struct rig *rig, size_t npages)
{
	uint32_t *words = rig_alloc(rig, npages * PAGE);

	for (size_t i = 0; i < npages * PAGE / 4; i++)
		words[i] = word(i);
	return words;
}

static uint32_t *open_with(struct rig *rig, size_t npages, uint64_t window_bytes)
{
	struct umm_opencl_options options = { .size = sizeof(options),
					      .window_bytes = window_bytes };

	rig_open(rig, MIB, &options);
	rig_build(rig);
	return filled(rig, npages);
}

static struct umm_opencl_window *window(struct rig *rig, void *addr, size_t len, uint64_t flags)
{
	struct umm_opencl_window *out = NULL;

	assert_int_equal(umm_opencl_window_create(rig->ocl, addr, len, flags, &out), 0);
	assert_non_null(out);
	return out;
}

static cl_mem acquire(struct umm_opencl_window *w, unsigned access)
{
	cl_mem mem = NULL;

	assert_int_equal(umm_opencl_window_acquire(w, access, &mem), 0);
	assert_non_null(mem);
	return mem;
}

static void release(struct umm_opencl_window *w, cl_event event)
{
	assert_int_equal(umm_opencl_window_release(w, event ? 1 : 0, event ? &event : NULL), 0);
	if (event)
		clReleaseEvent(event);
}

static cl_event enqueue(struct rig *rig, cl_kernel kernel, size_t items)
{
	cl_command_queue queue = umm_opencl_cl_queue(rig->ocl);
	cl_event event;

	assert_int_equal(clEnqueueNDRangeKernel(queue, kernel, 1, NULL, &items, NULL, 0, NULL,
						&event),
			 CL_SUCCESS);
	clFlush(queue);
	return event;
}

/* plain_map over the whole window: acquired, run, released. */
static void map_all(struct rig *rig, struct umm_opencl_window *w, size_t nwords)
{
	cl_kernel kernel = rig_kernel(rig, "plain_map");
	cl_mem mem = acquire(w, RW);

	assert_int_equal(clSetKernelArg(kernel, 0, sizeof(mem), &mem), CL_SUCCESS);
	release(w, enqueue(rig, kernel, nwords));
}

static void assert_mapped(const uint32_t *words, size_t first, size_t n, unsigned times)
{
	for (size_t i = first; i < first + n; i++) {
		uint32_t want = word(i);

		for (unsigned t = 0; t < times; t++)
			want = 3 * want + 1;
		assert_int_equal(words[i], want);
	}
}

static uint64_t moved(struct rig *rig)
{
	return rig_count(rig, UMM_COUNT_TO_DEVICE + UMM_CAUSE_DEVICE_FAULT);
}

static void an_unchanged_kernel_works_on_managed_memory(void **state)
{
	struct rig *rig = *state;
	uint32_t *words = open_with(rig, NPAGES, 0);
	struct umm_opencl_window *w = window(rig, words, NPAGES * PAGE, 0);

	map_all(rig, w, WORDS);
	assert_int_equal(rig_pages_in(rig, words, NPAGES * PAGE, UMM_PAGE_DEVICE), NPAGES);
	assert_mapped(words, 0, WORDS, 1);
	umm_opencl_window_destroy(w);
	assert_mapped(words, 0, WORDS, 1);
}

static void acquired_again_it_moves_only_what_the_cpu_touched(void **state)
{
	struct rig *rig = *state;
	uint32_t *words = open_with(rig, NPAGES, 0);
	struct umm_opencl_window *w = window(rig, words, NPAGES * PAGE, 0);
	uint64_t calls;

	map_all(rig, w, WORDS);
	assert_int_equal(moved(rig), NPAGES);
	calls = rig_count(rig, UMM_COUNT_COPIES);
	map_all(rig, w, WORDS);
	assert_int_equal(moved(rig), NPAGES);
	assert_int_equal(rig_count(rig, UMM_COUNT_COPIES), calls);
	words[3 * PAGE / 4] = 1000;
	words[(NPAGES - 1) * PAGE / 4] = 2000;
	map_all(rig, w, WORDS);
	assert_int_equal(moved(rig), NPAGES + 2);
	assert_int_equal(words[3 * PAGE / 4], 3001);
	assert_int_equal(words[(NPAGES - 1) * PAGE / 4], 6001);
	assert_mapped(words, 0, 3 * PAGE / 4, 3);
}

static void a_part_of_odd_length_is_a_window_and_the_rest_stays(void **state)
{
	struct rig *rig = *state;
	uint32_t *words = open_with(rig, NPAGES, 0);
	size_t first = 5 * PAGE / 4, n = 3 * PAGE / 4 + 11;
	struct umm_opencl_window *w = window(rig, words + first, 4 * n, 0);

	map_all(rig, w, n);
	assert_int_equal(moved(rig), 4);
	assert_mapped(words, 0, first, 0);
	assert_mapped(words, first, n, 1);
	assert_mapped(words, first + n, WORDS - first - n, 0);
}

static void memory_held_for_reading_is_read_by_the_cpu_and_not_copied_back(void **state)
{
	struct rig *rig = *state;
	uint32_t *words = open_with(rig, NPAGES, 0), *out;
	struct umm_opencl_window *w = window(rig, words, NPAGES * PAGE, 0), *result;
	cl_kernel kernel = rig_kernel(rig, "plain_sum");
	uint32_t n = PAGE / 4;
	cl_mem in, sums;

	out = rig_alloc(rig, PAGE);
	result = window(rig, out, PAGE, 0);
	in = acquire(w, UMM_OPENCL_READ);
	sums = acquire(result, UMM_OPENCL_WRITE);
	assert_int_equal(rig_pages_in(rig, words, NPAGES * PAGE, UMM_PAGE_DUPLICATED), NPAGES);
	assert_mapped(words, 0, WORDS, 0); /* while it is held */
	clSetKernelArg(kernel, 0, sizeof(in), &in);
	clSetKernelArg(kernel, 1, sizeof(n), &n);
	clSetKernelArg(kernel, 2, sizeof(sums), &sums);
	release(result, enqueue(rig, kernel, NPAGES));
	release(w, NULL);
	for (size_t i = 0; i < NPAGES; i++)
		assert_int_equal(out[i], (uint32_t)rig_sum(words + i * n, n));
	assert_int_equal(rig_count(rig, UMM_COUNT_BYTES_FROM_DEVICE), PAGE);
	/* A write ends the duplication of that page alone, and is seen the next time. */
	words[0]++;
	assert_int_equal(rig_pages_in(rig, words, NPAGES * PAGE, UMM_PAGE_DUPLICATED), NPAGES - 1);
	in = acquire(w, UMM_OPENCL_READ);
	sums = acquire(result, UMM_OPENCL_WRITE);
	release(result, enqueue(rig, kernel, NPAGES));
	release(w, NULL);
	assert_int_equal(out[0], (uint32_t)rig_sum(words, n));
}

static void untouched_memory_is_zero_in_a_window(void **state)
{
	struct rig *rig = *state;
	uint32_t *words;
	struct umm_opencl_window *w;
	uint64_t calls;

	open_with(rig, 1, 0);
	words = rig_alloc(rig, NPAGES * PAGE);
	w = window(rig, words, NPAGES * PAGE, 0);
	acquire(w, UMM_OPENCL_READ);
	release(w, NULL);
	calls = rig_count(rig, UMM_COUNT_COPIES);
	map_all(rig, w, WORDS);
	assert_true(rig_count(rig, UMM_COUNT_COPIES) - calls < 20); /* in one go, not by page */
	for (size_t i = 0; i < WORDS; i++)
		assert_int_equal(words[i], 1);
}

static void kernels_with_and_without_the_prelude_share_pages(void **state)
{
	struct rig *rig = *state;
	uint32_t *words = open_with(rig, NPAGES, 0);
	struct umm_opencl_window *w = window(rig, words, 200 * PAGE, 0);
	cl_kernel kernel = rig_kernel(rig, "map");
	uint32_t *out = rig_alloc(rig, 200 * PAGE);

	rig_ulong(kernel, 0, (uintptr_t)words);
	rig_ulong(kernel, 1, (uintptr_t)out);
	map_all(rig, w, 200 * PAGE / 4);
	rig_launch(rig, kernel, 200 * PAGE / 4);
	map_all(rig, w, 200 * PAGE / 4);
	assert_mapped(words, 0, 200 * PAGE / 4, 2);
	for (size_t i = 0; i < 200 * PAGE / 4; i++)
		assert_int_equal(out[i], 9 * word(i) + 4);
}

struct toucher {
	_Atomic int tid; /* 0: not running yet */
	_Atomic bool done;
	volatile uint32_t *at;
	uint32_t seen;
};

static void *touch(void *priv)
{
	struct toucher *toucher = priv;

	toucher->tid = (int)syscall(SYS_gettid);
	toucher->seen = *toucher->at;
	toucher->done = true;
	return NULL;
}

/* Until it waits for its page, or shows that it does not. */
static void start_touching(struct toucher *toucher, pthread_t *thread)
{
	assert_int_equal(pthread_create(thread, NULL, touch, toucher), 0);
	rig_eventually(toucher->done || (toucher->tid && rig_sleeps(toucher->tid)));
	assert_false(toucher->done);
}

static void a_cpu_that_touches_a_held_window_waits_and_sees_what_was_written(void **state)
{
	struct rig *rig = *state;
	uint32_t *words = open_with(rig, NPAGES, 0);
	struct umm_opencl_window *w = window(rig, words, NPAGES * PAGE, 0);
	struct toucher toucher = { .at = words + 77 };
	cl_kernel kernel = rig_kernel(rig, "plain_map");
	cl_mem mem = acquire(w, RW);
	pthread_t thread;

	start_touching(&toucher, &thread);
	clSetKernelArg(kernel, 0, sizeof(mem), &mem);
	release(w, enqueue(rig, kernel, WORDS));
	pthread_join(thread, NULL);
	assert_int_equal(toucher.seen, 3 * word(77) + 1);
}

static void a_cpu_waits_for_the_events_of_the_release(void **state)
{
	struct rig *rig = *state;
	uint32_t *words = open_with(rig, NPAGES, 0);
	struct umm_opencl_window *w = window(rig, words, NPAGES * PAGE, 0);
	struct toucher toucher = { .at = words + 77 };
	cl_int err;
	cl_event event = clCreateUserEvent(umm_opencl_cl_context(rig->ocl), &err);
	pthread_t thread;

	assert_int_equal(err, CL_SUCCESS);
	acquire(w, RW);
	assert_int_equal(umm_opencl_window_release(w, 1, &event), 0);
	start_touching(&toucher, &thread);
	clSetUserEventStatus(event, CL_COMPLETE);
	pthread_join(thread, NULL);
	clReleaseEvent(event);
	assert_int_equal(toucher.seen, word(77));
}

static cl_event user_event(struct rig *rig)
{
	cl_int err;
	cl_event event = clCreateUserEvent(umm_opencl_cl_context(rig->ocl), &err);

	assert_int_equal(err, CL_SUCCESS);
	return event;
}

static void events_of_several_contexts_are_all_waited_for(void **state)
{
	struct rig *rig = *state;
	uint32_t *words = open_with(rig, NPAGES, 0);
	struct umm_opencl_window *w = window(rig, words, NPAGES * PAGE, 0);
	struct toucher toucher = { .at = words + 77 };
	cl_device_id device = umm_opencl_cl_device(rig->ocl);
	cl_int err;
	cl_context other = clCreateContext(NULL, 1, &device, NULL, NULL, &err);
	cl_event events[] = { NULL, user_event(rig), NULL };
	pthread_t thread;

	assert_int_equal(err, CL_SUCCESS);
	for (size_t i = 0; i < 3; i += 2) {
		events[i] = clCreateUserEvent(other, &err);
		assert_int_equal(err, CL_SUCCESS);
		clSetUserEventStatus(events[i], CL_COMPLETE);
	}
	acquire(w, RW);
	assert_int_equal(umm_opencl_window_release(w, 3, events), 0);
	start_touching(&toucher, &thread);
	clSetUserEventStatus(events[1], CL_COMPLETE);
	pthread_join(thread, NULL);
	assert_int_equal(toucher.seen, word(77));
	for (size_t i = 0; i < 3; i++)
		clReleaseEvent(events[i]);
	clReleaseContext(other);
}

static cl_uint references(cl_event event)
{
	cl_uint count = 0;

	assert_int_equal(clGetEventInfo(event, CL_EVENT_REFERENCE_COUNT, sizeof(count), &count,
					NULL),
			 CL_SUCCESS);
	return count;
}

static void what_is_no_event_is_refused_and_the_window_still_held(void **state)
{
	struct rig *rig = *state;
	struct umm_opencl_window *w = window(rig, open_with(rig, 4, 0), 4 * PAGE, 0);
	cl_event events[] = { user_event(rig), NULL };
	cl_uint before = references(events[0]);
	uint64_t bits;

	acquire(w, RW);
	assert_int_equal(umm_opencl_window_release(w, 2, events), -EINVAL);
	assert_true(rig_logged("CL_INVALID_EVENT"));
	assert_int_equal(references(events[0]), before);
	assert_int_equal(umm_opencl_window_dirty(w, &bits), -EBUSY);
	release(w, NULL);
	assert_int_equal(umm_opencl_window_dirty(w, &bits), 0);
	clSetUserEventStatus(events[0], CL_COMPLETE);
	clReleaseEvent(events[0]);
}

static void *close_device(void *rig)
{
	rig_close(rig);
	return NULL;
}

static void a_device_waits_for_its_windows_and_says_what_to_do(void **state)
{
	struct rig *rig = *state;
	uint32_t *words = open_with(rig, 4, 0);
	struct umm_opencl_window *w = window(rig, words, 4 * PAGE, 0);
	pthread_t thread;
	bool said = false;

	map_all(rig, w, 4 * PAGE / 4);
	acquire(w, RW);
	assert_int_equal(pthread_create(&thread, NULL, close_device, rig), 0);
	rig_eventually(said || (said = rig_logged("call umm_opencl_window_release() before")));
	assert_non_null(rig->ocl);
	release(w, NULL);
	pthread_join(thread, NULL);
	assert_null(rig->ocl);
	assert_mapped(words, 0, 4 * PAGE / 4, 1);
}

static void held_twice_it_is_released_twice(void **state)
{
	struct rig *rig = *state;
	uint32_t *words = open_with(rig, 4, 0);
	struct umm_opencl_window *w = window(rig, words, 4 * PAGE, 0);
	struct toucher toucher = { .at = words };
	pthread_t thread;
	cl_mem mem;

	mem = acquire(w, RW);
	assert_ptr_equal(acquire(w, UMM_OPENCL_READ), mem);
	release(w, NULL);
	start_touching(&toucher, &thread);
	release(w, NULL);
	pthread_join(thread, NULL);
	assert_int_equal(umm_opencl_window_release(w, 0, NULL), -EINVAL);
	acquire(w, UMM_OPENCL_READ);
	assert_int_equal(umm_opencl_window_acquire(w, RW, &mem), -EBUSY);
	release(w, NULL);
	acquire(w, RW);
	release(w, NULL);
}

static void windows_take_turns_where_memory_is_short(void **state)
{
	struct rig *rig = *state;
	size_t len = 100 * PAGE, nwords = len / 4;
	uint32_t *words = open_with(rig, 500, 2 * len);
	struct umm_opencl_window *w[5];

	for (size_t i = 0; i < 5; i++)
		w[i] = window(rig, words + i * nwords, len, 0);
	for (size_t turn = 0; turn < 3; turn++)
		for (size_t i = 0; i < 5; i++) {
			map_all(rig, w[i], nwords);
			assert_true(rig_device_pages(rig) <= 200);
			rig_close_kernels(rig);
		}
	assert_int_equal(rig_pages_in(rig, words + 3 * nwords, 2 * len, UMM_PAGE_DEVICE), 200);
	assert_int_equal(rig_pages_in(rig, words, 3 * len, UMM_PAGE_SYSTEM), 300);
	assert_int_equal(moved(rig), 15 * 100);
	assert_mapped(words, 0, 5 * nwords, 3);
}

static void windows_that_are_held_keep_their_memory(void **state)
{
	struct rig *rig = *state;
	uint32_t *words = open_with(rig, 30, 20 * PAGE);
	struct umm_opencl_window *a = window(rig, words, 10 * PAGE, 0);
	struct umm_opencl_window *b = window(rig, words + 10 * PAGE / 4, 10 * PAGE, 0);
	struct umm_opencl_window *c = window(rig, words + 20 * PAGE / 4, 10 * PAGE, 0);
	cl_mem mem = NULL;

	acquire(a, RW);
	acquire(b, RW);
	assert_int_equal(umm_opencl_window_acquire(c, RW, &mem), -ENOSPC);
	assert_true(rig_logged("of window_bytes (81920) windows that are held keep 81920"));
	assert_null(mem);
	release(a, NULL);
	acquire(c, RW);
	assert_int_equal(rig_pages_in(rig, words, 10 * PAGE, UMM_PAGE_SYSTEM), 10);
	assert_int_equal(rig_pages_in(rig, words + 10 * PAGE / 4, 20 * PAGE, UMM_PAGE_DEVICE), 20);
	release(b, NULL);
	release(c, NULL);
}

static void a_window_that_cannot_have_room_takes_none_from_others(void **state)
{
	struct rig *rig = *state;
	uint32_t *words = open_with(rig, 30, 20 * PAGE);
	struct umm_opencl_window *held = window(rig, words, 10 * PAGE, 0);
	struct umm_opencl_window *idle = window(rig, words + 10 * PAGE / 4, 5 * PAGE, 0);
	struct umm_opencl_window *large = window(rig, words + 15 * PAGE / 4, 11 * PAGE, 0);
	uint64_t bits;
	cl_mem mem;

	acquire(held, RW);
	acquire(idle, RW);
	release(idle, NULL);
	assert_int_equal(umm_opencl_window_acquire(large, RW, &mem), -ENOSPC);
	assert_int_equal(rig_pages_in(rig, words + 10 * PAGE / 4, 5 * PAGE, UMM_PAGE_DEVICE), 5);
	assert_int_equal(umm_opencl_window_dirty(idle, &bits), 0);
	release(held, NULL);
	acquire(large, RW);
	release(large, NULL);
}

static void a_window_larger_than_the_largest_buffer_is_refused(void **state)
{
	struct rig *rig = *state;
	uint32_t *words = open_with(rig, 20, UINT64_MAX);
	struct umm_opencl_window *w = window(rig, words, 8 * PAGE, 0), *other = NULL;
	cl_device_id device = umm_opencl_cl_device(rig->ocl);
	cl_ulong largest = 0;
	uint64_t bits;

	assert_int_equal(clGetDeviceInfo(device, CL_DEVICE_MAX_MEM_ALLOC_SIZE, sizeof(largest),
					 &largest, NULL),
			 CL_SUCCESS);
	acquire(w, RW);
	release(w, NULL);
	assert_int_equal(umm_opencl_window_create(rig->ocl, words + 8 * PAGE / 4,
						  (largest & ~(PAGE - 1)) + PAGE, 0, &other),
			 -ENOSPC);
	assert_null(other);
	assert_true(rig_logged("the device's largest buffer"));
	assert_int_equal(umm_opencl_window_dirty(w, &bits), 0);
}

static void dirty_pages_are_those_that_changed(void **state)
{
	struct rig *rig = *state;
	uint32_t *words = open_with(rig, NPAGES, 0);
	struct umm_opencl_window *w = window(rig, words, NPAGES * PAGE, UMM_OPENCL_WINDOW_TRACK);
	cl_kernel kernel = rig_kernel(rig, "plain_mark");
	uint64_t bits[(NPAGES + 63) / 64];
	uint32_t step = 7, value = 1;
	cl_mem mem = acquire(w, RW);

	clSetKernelArg(kernel, 0, sizeof(mem), &mem);
	clSetKernelArg(kernel, 1, sizeof(step), &step);
	clSetKernelArg(kernel, 2, sizeof(value), &value);
	assert_int_equal(umm_opencl_window_dirty(w, bits), -EBUSY);
	release(w, enqueue(rig, kernel, NPAGES / step));
	assert_int_equal(umm_opencl_window_dirty(w, bits), 0);
	for (size_t i = 0; i < 64 * sizeof(bits) / 8; i++)
		assert_int_equal(bits[i / 64] >> i % 64 & 1, i % 7 == 0 && i / 7 < NPAGES / step);
	/* The same again changes nothing. */
	acquire(w, RW);
	release(w, enqueue(rig, kernel, NPAGES / step));
	assert_int_equal(umm_opencl_window_dirty(w, bits), 0);
	for (size_t i = 0; i < sizeof(bits) / 8; i++)
		assert_int_equal(bits[i], 0);
	assert_int_equal(words[7 * PAGE / 4 + 5], 1);
	assert_int_equal(umm_opencl_window_dirty(w, bits), -ENOENT);
}

static void untracked_pages_are_dirty_where_they_may_have_been_written(void **state)
{
	struct rig *rig = *state;
	uint32_t *words = open_with(rig, 70, 0);
	struct umm_opencl_window *w = window(rig, words, 70 * PAGE, 0);
	uint64_t bits[2];

	assert_int_equal(umm_opencl_window_dirty(w, bits), -ENOENT);
	acquire(w, UMM_OPENCL_READ);
	release(w, NULL);
	assert_int_equal(umm_opencl_window_dirty(w, bits), 0);
	assert_true(!bits[0] && !bits[1]);
	acquire(w, RW);
	release(w, NULL);
	assert_int_equal(umm_opencl_window_dirty(w, bits), 0);
	assert_true(bits[0] == UINT64_MAX && bits[1] == 0x3f);
}

static void what_was_only_read_is_not_dirty_without_its_buffer_either(void **state)
{
	struct rig *rig = *state;
	uint32_t *words = open_with(rig, 20, 10 * PAGE);
	struct umm_opencl_window *w = window(rig, words, 10 * PAGE, 0), *next;
	uint64_t bits[1] = { 1 };

	next = window(rig, words + 10 * PAGE / 4, 10 * PAGE, 0);
	acquire(w, UMM_OPENCL_READ);
	release(w, NULL);
	acquire(next, RW);
	release(next, NULL);
	assert_int_equal(umm_opencl_window_dirty(w, bits), 0);
	assert_int_equal(bits[0], 0);
	acquire(w, RW);
	release(w, NULL);
	assert_int_equal(umm_opencl_window_dirty(next, bits), -ENOENT);
}

static void what_cannot_be_a_window_is_refused(void **state)
{
	struct rig *rig = *state;
	uint32_t *words = open_with(rig, 20, 16 * PAGE);
	struct umm_opencl_window *w = window(rig, words, 8 * PAGE, 0), *other = NULL;
	cl_mem mem;

	assert_int_equal(umm_opencl_window_create(rig->ocl, words + 1, PAGE, 0, &other), -EINVAL);
	assert_int_equal(umm_opencl_window_create(rig->ocl, words, 0, 0, &other), -EINVAL);
	assert_int_equal(umm_opencl_window_create(rig->ocl, NULL, PAGE, 0, &other), -EINVAL);
	assert_int_equal(umm_opencl_window_create(rig->ocl, words, PAGE, 2, &other), -EINVAL);
	assert_int_equal(umm_opencl_window_create(rig->ocl, words, SIZE_MAX - PAGE, 0, &other),
			 -EINVAL);
	assert_int_equal(umm_opencl_window_create(rig->ocl, words + 7 * PAGE / 4, PAGE, 0, &other),
			 -EEXIST);
	assert_int_equal(umm_opencl_window_create(rig->ocl, words + 8 * PAGE / 4, 17 * PAGE, 0,
						  &other),
			 -ENOSPC);
	assert_int_equal(umm_opencl_window_create(rig->ocl, words + 8 * PAGE / 4, 9 * PAGE,
						  UMM_OPENCL_WINDOW_TRACK, &other),
			 -ENOSPC);
	assert_null(other);
	assert_int_equal(umm_opencl_window_acquire(w, 0, &mem), -EINVAL);
	assert_int_equal(umm_opencl_window_acquire(w, 4, &mem), -EINVAL);
	assert_int_equal(umm_opencl_window_acquire(w, RW, NULL), -EINVAL);
	assert_int_equal(umm_opencl_window_release(w, 0, NULL), -EINVAL);
	umm_opencl_window_destroy(NULL);
}

static void assert_not_a_window(void *w)
{
	uint64_t bits;
	cl_mem mem;

	assert_int_equal(umm_opencl_window_acquire(w, RW, &mem), -EINVAL);
	assert_int_equal(umm_opencl_window_release(w, 0, NULL), -EINVAL);
	assert_int_equal(umm_opencl_window_dirty(w, &bits), -EINVAL);
	umm_opencl_window_destroy(w);
}

static void windows_that_are_gone_are_refused(void **state)
{
	struct rig *rig = *state;
	uint32_t *words = open_with(rig, 20, 16 * PAGE);
	struct umm_opencl_window *w = window(rig, words, 8 * PAGE, 0), *later, *live;
	void *const others[] = { rig->ocl, words };

	live = window(rig, words + 8 * PAGE / 4, PAGE, 0);
	umm_opencl_window_destroy(w);
	assert_not_a_window(w);
	for (size_t i = 0; i < sizeof(others) / sizeof(others[0]); i++)
		assert_not_a_window(others[i]);
	/* Nothing new appears at its place for a while. */
	for (int i = 0; i < 8; i++) {
		later = window(rig, words, 8 * PAGE, 0);
		assert_not_a_window(w);
		umm_opencl_window_destroy(later);
	}
	rig_close(rig);
	assert_not_a_window(live);
}

static void read_only_memory_is_a_window_for_reading_alone(void **state)
{
	struct rig *rig = *state;
	uint32_t *words = open_with(rig, 20, 0);
	struct umm_opencl_window *w = window(rig, words, 20 * PAGE, 0);
	cl_mem mem;

	assert_int_equal(mprotect(words + 9 * PAGE / 4, PAGE, PROT_READ), 0);
	acquire(w, UMM_OPENCL_READ);
	release(w, NULL);
	assert_int_equal(umm_opencl_window_acquire(w, RW, &mem), -EPERM);
	assert_int_equal(mprotect(words + 9 * PAGE / 4, PAGE, PROT_READ | PROT_WRITE), 0);
	map_all(rig, w, 20 * PAGE / 4);
	/* All pages are there still. */
	assert_int_equal(mprotect(words + 9 * PAGE / 4, PAGE, PROT_READ), 0);
	assert_int_equal(umm_opencl_window_acquire(w, RW, &mem), -EPERM);
	assert_int_equal(umm_opencl_window_acquire(w, RW, &mem), -EPERM);
	assert_int_equal(mprotect(words + 9 * PAGE / 4, PAGE, PROT_NONE), 0);
	assert_int_equal(umm_opencl_window_acquire(w, UMM_OPENCL_READ, &mem), -EFAULT);
	assert_int_equal(mprotect(words + 9 * PAGE / 4, PAGE, PROT_READ | PROT_WRITE), 0);
	assert_mapped(words, 0, 20 * PAGE / 4, 1);
}

static void memory_that_is_gone_is_efault_and_dropped_memory_zero(void **state)
{
	struct rig *rig = *state;
	char *addr =
		mmap(NULL, 20 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	uint32_t *words = (uint32_t *)(void *)addr;
	struct umm_opencl_window *w;
	cl_mem mem;

	open_with(rig, 1, 0);
	assert_int_equal(umm_attach(rig->ctx, addr, 20 * PAGE), 0);
	memset(addr, 1, 20 * PAGE);
	w = window(rig, addr, 20 * PAGE, 0);
	acquire(w, RW);
	release(w, NULL);
	assert_int_equal(madvise(addr + 3 * PAGE, PAGE, MADV_DONTNEED), 0);
	map_all(rig, w, 20 * PAGE / 4);
	assert_int_equal(words[3 * PAGE / 4], 1);
	assert_int_equal(words[4 * PAGE / 4], 3 * 0x01010101 + 1);
	assert_int_equal(munmap(addr + 10 * PAGE, PAGE), 0);
	assert_int_equal(umm_opencl_window_acquire(w, RW, &mem), -EFAULT);
	assert_int_equal(words[5 * PAGE / 4], 3 * 0x01010101 + 1);
	umm_opencl_window_destroy(w);
	umm_detach(rig->ctx, addr);
	/* Somebody else may have mapped memory into the hole. */
	munmap(addr, 10 * PAGE);
	munmap(addr + 11 * PAGE, 9 * PAGE);
}

static void pages_of_another_device_come_to_the_window(void **state)
{
	struct rig *rig = *state;
	uint32_t *words = open_with(rig, 100, 0);
	struct umm_opencl_options options = { .size = sizeof(options),
					      .device_name = rig_device_name(),
					      .device_bytes = MIB };
	struct umm_opencl_window *w = window(rig, words, 100 * PAGE, 0);
	struct umm_opencl *other;

	assert_int_equal(umm_opencl_create(rig->ctx, &options, &other), 0);
	assert_int_equal(
		umm_migrate_to_device(rig->ctx, umm_opencl_devmem(other), words, 60 * PAGE), 60);
	acquire(w, UMM_OPENCL_READ);
	assert_int_equal(rig_pages_in(rig, words, 100 * PAGE, UMM_PAGE_DUPLICATED), 100);
	release(w, NULL);
	map_all(rig, w, 100 * PAGE / 4);
	umm_opencl_destroy(other);
	assert_mapped(words, 0, 100 * PAGE / 4, 1);
}

static void the_data_survives_the_device_and_the_context_its_windows(void **state)
{
	struct rig *rig = *state;
	uint32_t *words = open_with(rig, NPAGES, 0);
	struct umm_opencl_window *w = window(rig, words, NPAGES * PAGE, UMM_OPENCL_WINDOW_TRACK);

	map_all(rig, w, WORDS);
	rig_close(rig);
	assert_mapped(words, 0, WORDS, 1);
	rig_open(rig, MIB, NULL);
	w = window(rig, words, PAGE, 0);
	acquire(w, RW);
	release(w, NULL);
	assert_mapped(words, 0, WORDS, 1);
}

static void a_forked_child_has_what_was_in_the_window(void **state)
{
	struct rig *rig = *state;
	uint32_t *words = open_with(rig, NPAGES, 0);
	struct umm_opencl_window *w = window(rig, words, NPAGES * PAGE, 0);
	cl_mem mem;
	pid_t child;
	int status;

	map_all(rig, w, WORDS);
	child = fork();
	if (!child) {
		bool good = words[5] == 3 * word(5) + 1 &&
			    umm_opencl_window_acquire(w, RW, &mem) == -ENODEV;

		words[5] = 0;
		_exit(good ? 0 : 1);
	}
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_true(WIFEXITED(status) && !WEXITSTATUS(status));
	map_all(rig, w, WORDS);
	assert_mapped(words, 0, WORDS, 2);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		rig_test(an_unchanged_kernel_works_on_managed_memory),
		rig_test(acquired_again_it_moves_only_what_the_cpu_touched),
		rig_test(a_part_of_odd_length_is_a_window_and_the_rest_stays),
		rig_test(memory_held_for_reading_is_read_by_the_cpu_and_not_copied_back),
		rig_test(untouched_memory_is_zero_in_a_window),
		rig_test(kernels_with_and_without_the_prelude_share_pages),
		rig_test(a_cpu_that_touches_a_held_window_waits_and_sees_what_was_written),
		rig_test(a_cpu_waits_for_the_events_of_the_release),
		rig_test(events_of_several_contexts_are_all_waited_for),
		rig_test(what_is_no_event_is_refused_and_the_window_still_held),
		rig_test(a_device_waits_for_its_windows_and_says_what_to_do),
		rig_test(held_twice_it_is_released_twice),
		rig_test(windows_take_turns_where_memory_is_short),
		rig_test(windows_that_are_held_keep_their_memory),
		rig_test(a_window_that_cannot_have_room_takes_none_from_others),
		rig_test(a_window_larger_than_the_largest_buffer_is_refused),
		rig_test(dirty_pages_are_those_that_changed),
		rig_test(untracked_pages_are_dirty_where_they_may_have_been_written),
		rig_test(what_was_only_read_is_not_dirty_without_its_buffer_either),
		rig_test(what_cannot_be_a_window_is_refused),
		rig_test(windows_that_are_gone_are_refused),
		rig_test(read_only_memory_is_a_window_for_reading_alone),
		rig_test(memory_that_is_gone_is_efault_and_dropped_memory_zero),
		rig_test(pages_of_another_device_come_to_the_window),
		rig_test(the_data_survives_the_device_and_the_context_its_windows),
		rig_test(a_forked_child_has_what_was_in_the_window),
	};

	return rig_main("opencl window", tests, argc, argv);
}
