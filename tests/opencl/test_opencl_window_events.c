/* SPDX-License-Identifier: MIT */
/* What windows make of events that failed, and of a queue that other threads flush. */
#include <dlfcn.h>
#include <stdatomic.h>

#include "rig.h"

#define NPAGES 4096 /* so much that a copy of them takes a while */
#define NWORDS ((size_t)NPAGES * PAGE / 4)
#define RW     (UMM_OPENCL_READ | UMM_OPENCL_WRITE)

static atomic_uint copies; /* from buffer to buffer, each flushed at once */

#pragma GCC visibility push(default)

/* As if another thread flushed the queue at the worst moment. */
cl_int clEnqueueCopyBuffer(cl_command_queue queue, cl_mem from, cl_mem to, size_t from_offset,
			   size_t to_offset, size_t len, cl_uint nwait, const cl_event *wait,
			   cl_event *event)
{
	static atomic_uintptr_t found;
	__typeof__(&clEnqueueCopyBuffer) real;
	cl_int err;

	if (!atomic_load(&found))
		atomic_store(&found, (uintptr_t)dlsym(RTLD_NEXT, "clEnqueueCopyBuffer"));
	real = (__typeof__(real))atomic_load(&found);
	err = real(queue, from, to, from_offset, to_offset, len, nwait, wait, event);
	clFlush(queue);
	atomic_fetch_add(&copies, 1);
	return err;
}

#pragma GCC visibility pop

static struct umm_opencl_window *open_window(struct rig *rig, uint32_t **words, uint64_t flags)
{
	struct umm_opencl_options options = { .size = sizeof(options),
					      .device_bytes = MIB,
					      .window_bytes = 2 * NPAGES * PAGE };
	struct umm_opencl_window *window = NULL;

	rig_open(rig, MIB, &options);
	rig_build(rig);
	*words = rig_numbered(rig, NPAGES);
	assert_int_equal(umm_opencl_window_create(rig->ocl, *words, NPAGES * PAGE, flags, &window),
			 0);
	return window;
}

static void every_page_that_changed_is_dirty_though_others_flush_the_queue(void **state)
{
	static uint64_t bits[NPAGES / 64];
	struct rig *rig = *state;
	uint32_t *words;
	struct umm_opencl_window *window = open_window(rig, &words, UMM_OPENCL_WINDOW_TRACK);
	cl_kernel kernel = rig_kernel(rig, "plain_map");
	size_t nwords = NWORDS;
	cl_event mapped;
	cl_mem mem;

	for (unsigned round = 0; round < 8; round++) {
		atomic_store(&copies, 0);
		assert_int_equal(umm_opencl_window_acquire(window, RW, &mem), 0);
		assert_true(atomic_load(&copies) > 0);
		assert_int_equal(clSetKernelArg(kernel, 0, sizeof(mem), &mem), CL_SUCCESS);
		assert_int_equal(clEnqueueNDRangeKernel(umm_opencl_cl_queue(rig->ocl), kernel, 1,
							NULL, &nwords, NULL, 0, NULL, &mapped),
				 CL_SUCCESS);
		assert_int_equal(clWaitForEvents(1, &mapped), CL_SUCCESS);
		assert_int_equal(umm_opencl_window_release(window, 1, &mapped), 0);
		clReleaseEvent(mapped);
		assert_int_equal(umm_opencl_window_dirty(window, bits), 0);
		for (size_t i = 0; i < NPAGES / 64; i++)
			assert_int_equal(bits[i], UINT64_MAX);
	}
}

static cl_uint references(cl_event event)
{
	cl_uint n = 0;

	assert_int_equal(clGetEventInfo(event, CL_EVENT_REFERENCE_COUNT, sizeof(n), &n, NULL),
			 CL_SUCCESS);
	return n;
}

/* It is as final as one that is complete. */
static void an_event_that_failed_is_not_kept(void **state)
{
	struct rig *rig = *state;
	uint32_t *words;
	struct umm_opencl_window *window = open_window(rig, &words, 0);
	cl_event failed = clCreateUserEvent(umm_opencl_cl_context(rig->ocl), NULL);
	cl_uint before = references(failed);
	cl_mem mem;

	assert_int_equal(clSetUserEventStatus(failed, -1), CL_SUCCESS);
	for (unsigned i = 0; i < 3; i++) {
		assert_int_equal(umm_opencl_window_acquire(window, RW, &mem), 0);
		assert_int_equal(umm_opencl_window_release(window, 1, &failed), 0);
		assert_int_equal(references(failed), before + 1);
	}
	for (size_t i = 0; i < NWORDS; i += PAGE / 4)
		assert_int_equal(words[i], i);
	assert_int_equal(references(failed), before);
	clReleaseEvent(failed);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		rig_test(every_page_that_changed_is_dirty_though_others_flush_the_queue),
		rig_test(an_event_that_failed_is_not_kept),
	};

	return rig_main("opencl window events", tests, argc, argv);
}
