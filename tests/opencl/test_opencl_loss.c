/* SPDX-License-Identifier: MIT */
/*
 * Devices that are lost: what they alone had ends in SIGBUS, everything else stays.
 *
 * This program stands between the library and OpenCL: it has functions of the same names, which
 * are found first, and which answer with an error from the moment on that a test names. One thing
 * more: devices share no memory with the host, unless a test wants that, for then their pages would
 * outlive them.
 */
#define CL_TARGET_OPENCL_VERSION 200 /* what is asked for shared memory */

#include "rig.h"

#include <dlfcn.h>
#include <signal.h>
#include <stdatomic.h>

#define WORDS (PAGE / 4)
#define FEW   24

/* What the layer answers; a new rig starts with a sound device. */
static struct {
	atomic_int error;     /* of all commands, or of the one kernel */
	atomic_int kernels;   /* so many launches are good before that one, */
	atomic_bool begun;    /* which it began with */
	atomic_bool one_only; /* and ended with */
	atomic_bool shared;   /* the host may use the device's buffers */
	atomic_int write;     /* of the next write alone */
	atomic_int ended;     /* what the next command ended with of which that is asked: */
	atomic_bool for_good; /* and all that come after it are refused */
	atomic_uint refused;
	_Atomic cl_context spared; /* all commands of this one are good */
} layer;

#define REAL(name)                                                        \
	static atomic_uintptr_t found;                                    \
	__typeof__(&(name)) real;                                         \
                                                                          \
	if (!atomic_load(&found))                                         \
		atomic_store(&found, (uintptr_t)dlsym(RTLD_NEXT, #name)); \
	real = (__typeof__(&(name)))atomic_load(&found)

static bool is_spared(cl_command_queue queue)
{
	cl_context context = NULL, spared = atomic_load(&layer.spared);

	if (spared)
		clGetCommandQueueInfo(queue, CL_QUEUE_CONTEXT, sizeof(context), &context, NULL);
	return spared && context == spared;
}

static cl_int refusal(cl_command_queue queue)
{
	cl_int err = atomic_load(&layer.error);

	if (!err || !atomic_load(&layer.begun) || is_spared(queue))
		return CL_SUCCESS;
	atomic_fetch_add(&layer.refused, 1);
	return err;
}

static cl_int kernel_refusal(cl_command_queue queue)
{
	cl_int err = atomic_load(&layer.error);

	if (!err || is_spared(queue) || atomic_fetch_sub(&layer.kernels, 1) > 0)
		return CL_SUCCESS;
	atomic_store(&layer.kernels, 0);
	if (atomic_exchange(&layer.one_only, false))
		atomic_store(&layer.error, CL_SUCCESS);
	else
		atomic_store(&layer.begun, true);
	atomic_fetch_add(&layer.refused, 1);
	return err;
}

/* A command that was accepted, and has failed. */
static cl_int bad_end(void)
{
	cl_int err = atomic_exchange(&layer.ended, CL_SUCCESS);

	if (err && atomic_load(&layer.for_good)) {
		atomic_store(&layer.error, err);
		atomic_store(&layer.begun, true);
	}
	return err;
}

static bool is_kernel(cl_event event)
{
	cl_command_type type = 0;

	clGetEventInfo(event, CL_EVENT_COMMAND_TYPE, sizeof(type), &type, NULL);
	return type == CL_COMMAND_NDRANGE_KERNEL;
}

/* The library is to find these. */
#pragma GCC visibility push(default)

cl_int clGetDeviceInfo(cl_device_id device, cl_device_info name, size_t len, void *value,
		       size_t *needed)
{
	REAL(clGetDeviceInfo);

	if (name == CL_DEVICE_SVM_CAPABILITIES && !atomic_load(&layer.shared))
		return CL_INVALID_VALUE;
	return real(device, name, len, value, needed);
}

cl_int clEnqueueReadBuffer(cl_command_queue queue, cl_mem mem, cl_bool blocking, size_t offset,
			   size_t len, void *to, cl_uint nwait, const cl_event *wait,
			   cl_event *event)
{
	cl_int err = refusal(queue);
	REAL(clEnqueueReadBuffer);

	return err ? err : real(queue, mem, blocking, offset, len, to, nwait, wait, event);
}

cl_int clEnqueueWriteBuffer(cl_command_queue queue, cl_mem mem, cl_bool blocking, size_t offset,
			    size_t len, const void *from, cl_uint nwait, const cl_event *wait,
			    cl_event *event)
{
	cl_int once = atomic_exchange(&layer.write, CL_SUCCESS), err = once ? once : refusal(queue);
	REAL(clEnqueueWriteBuffer);

	return err ? err : real(queue, mem, blocking, offset, len, from, nwait, wait, event);
}

cl_int clEnqueueFillBuffer(cl_command_queue queue, cl_mem mem, const void *pattern, size_t size,
			   size_t offset, size_t len, cl_uint nwait, const cl_event *wait,
			   cl_event *event)
{
	cl_int err = refusal(queue);
	REAL(clEnqueueFillBuffer);

	return err ? err : real(queue, mem, pattern, size, offset, len, nwait, wait, event);
}

cl_int clEnqueueNDRangeKernel(cl_command_queue queue, cl_kernel kernel, cl_uint dims,
			      const size_t *offset, const size_t *global, const size_t *local,
			      cl_uint nwait, const cl_event *wait, cl_event *event)
{
	cl_int err = kernel_refusal(queue);
	REAL(clEnqueueNDRangeKernel);

	return err ? err : real(queue, kernel, dims, offset, global, local, nwait, wait, event);
}

cl_int clGetEventInfo(cl_event event, cl_event_info name, size_t len, void *value, size_t *needed)
{
	cl_int err, ended = CL_SUCCESS;
	REAL(clGetEventInfo);

	err = real(event, name, len, value, needed);
	if (err == CL_SUCCESS && name == CL_EVENT_COMMAND_EXECUTION_STATUS && is_kernel(event))
		ended = bad_end();
	if (ended)
		memcpy(value, &ended, sizeof(ended));
	return err;
}

cl_int clWaitForEvents(cl_uint nevents, const cl_event *events)
{
	cl_int err;
	REAL(clWaitForEvents);

	err = real(nevents, events);
	if (err == CL_SUCCESS && !is_kernel(events[0]) && bad_end())
		err = CL_EXEC_STATUS_ERROR_FOR_EVENTS_IN_WAIT_LIST;
	return err;
}

#pragma GCC visibility pop

/* Now, or with the launch after so many. */
static void lose_device(cl_int error, int kernels)
{
	atomic_store(&layer.refused, 0);
	atomic_store(&layer.begun, error && !kernels && !atomic_load(&layer.one_only));
	atomic_store(&layer.kernels, kernels);
	atomic_store(&layer.error, error);
}

/* With the end of the next command: that one alone, or all from then on. */
static void fail_at_end(cl_int error, bool for_good)
{
	atomic_store(&layer.for_good, for_good);
	atomic_store(&layer.ended, error);
}

static int loss_setup(void **state)
{
	fail_at_end(CL_SUCCESS, false);
	atomic_store(&layer.shared, false);
	atomic_store(&layer.one_only, false);
	atomic_store(&layer.spared, NULL);
	atomic_store(&layer.write, CL_SUCCESS);
	lose_device(CL_SUCCESS, 0);
	return rig_setup(state);
}

#define loss_test(fn) cmocka_unit_test_setup_teardown(fn, loss_setup, rig_teardown)

static sigjmp_buf escape;

static void on_bus(int number)
{
	siglongjmp(escape, number);
}

/* Pages of which a load raises SIGBUS. */
static size_t count_dead(const uint32_t *words, size_t npages)
{
	struct sigaction action = { .sa_handler = on_bus }, before;
	volatile size_t ndead = 0;

	sigaction(SIGBUS, &action, &before);
	for (volatile size_t i = 0; i < npages; i++) {
		if (sigsetjmp(escape, 1))
			ndead++;
		else
			(void)*(const volatile uint32_t *)&words[i * WORDS];
	}
	sigaction(SIGBUS, &before, NULL);
	return ndead;
}

static void assert_numbered(const uint32_t *words, size_t npages)
{
	for (size_t i = 0; i < npages * WORDS; i++)
		assert_int_equal(words[i], i);
}

/* Nothing is read ahead: what comes along with other pages is lost with them. */
static void open_sound(struct rig *rig)
{
	struct umm_opencl_options options = { .size = sizeof(options), .readahead = 1 };

	rig_open(rig, 4 * MIB, &options);
	rig_build(rig);
}

/* Memory in each of the three places: in is read by the device, out written, home neither. */
struct places {
	uint32_t *in;
	uint32_t *out;
	uint32_t *home;
	cl_kernel kernel;
};

static struct places places_open(struct rig *rig)
{
	struct places p;

	open_sound(rig);
	p.in = rig_numbered(rig, FEW);
	p.out = rig_numbered(rig, FEW);
	p.home = rig_numbered(rig, FEW);
	p.kernel = rig_map(rig, p.in, p.out);
	rig_launch(rig, p.kernel, FEW * WORDS);
	assert_int_equal(rig_pages_in(rig, p.in, FEW * PAGE, UMM_PAGE_DUPLICATED), FEW);
	assert_int_equal(rig_pages_in(rig, p.out, FEW * PAGE, UMM_PAGE_DEVICE), FEW);
	return p;
}

static uint64_t count_poisoned(struct rig *rig)
{
	struct umm_stats stats = { .size = sizeof(stats) };

	assert_int_equal(umm_ctx_stats(rig->ctx, &stats), 0);
	return stats.counter[UMM_COUNT_POISONED];
}

/* Another one takes its place, in the same context. */
static void assert_replaceable(struct rig *rig, struct places *p)
{
	rig_close(rig);
	lose_device(CL_SUCCESS, 0);
	open_sound(rig);
	p->kernel = rig_map(rig, p->in, p->home);
	rig_launch(rig, p->kernel, FEW * WORDS);
	for (size_t i = 0; i < FEW * WORDS; i++)
		assert_int_equal(p->home[i], 3 * i + 1);
}

static void lose_and_look(struct rig *rig, cl_int error)
{
	struct places p = places_open(rig);
	struct umm_opencl_result result;
	unsigned refused;

	lose_device(error, 0);
	assert_int_equal(rig_try(rig, p.kernel, FEW * WORDS, &result), -ENODEV);
	assert_int_equal(result.status, -ENODEV);
	assert_true(rig_logged("the device is lost"));
	/* It is known now: nobody asks the device again. */
	refused = atomic_load(&layer.refused);
	assert_int_equal(rig_try(rig, p.kernel, FEW * WORDS, &result), -ENODEV);
	assert_numbered(p.in, FEW);
	assert_numbered(p.home, FEW);
	p.in[5] = 5;
	assert_int_equal(count_dead(p.out, FEW), FEW);
	assert_int_equal(rig_pages_in(rig, p.out, FEW * PAGE, UMM_PAGE_POISONED), FEW);
	rig_eventually(count_poisoned(rig) == FEW);
	assert_int_equal(atomic_load(&layer.refused), refused);
	assert_false(rig_logged("the device is lost"));
	assert_replaceable(rig, &p);
}

static void a_device_that_is_not_available_loses_only_what_it_alone_had(void **state)
{
	lose_and_look(*state, CL_DEVICE_NOT_AVAILABLE);
}

static void a_device_out_of_resources_for_good_is_lost_too(void **state)
{
	lose_and_look(*state, CL_OUT_OF_RESOURCES);
}

static void a_device_whose_queue_is_invalid_is_lost_too(void **state)
{
	lose_and_look(*state, CL_INVALID_COMMAND_QUEUE);
}

static void a_command_that_fails_once_loses_nothing(void **state)
{
	static const struct {
		cl_int err;
		int ret;
		const char *line;
	} cases[] = {
		{ CL_OUT_OF_RESOURCES, -ENOMEM, "CL_OUT_OF_RESOURCES (-5)" },
		{ CL_OUT_OF_HOST_MEMORY, -ENOMEM, "CL_OUT_OF_HOST_MEMORY (-6)" },
		{ CL_MEM_OBJECT_ALLOCATION_FAILURE, -ENOMEM,
		  "CL_MEM_OBJECT_ALLOCATION_FAILURE (-4)" },
		{ CL_DEVICE_NOT_AVAILABLE, -EIO, "CL_DEVICE_NOT_AVAILABLE (-2)" },
		{ CL_INVALID_WORK_GROUP_SIZE, -EINVAL, "CL_INVALID_WORK_GROUP_SIZE (-54)" },
		{ -9999, -EIO, "an OpenCL error (-9999)" },
	};
	struct rig *rig = *state;
	struct places p = places_open(rig);
	struct umm_opencl_result result;
	char line[128];

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		atomic_store(&layer.one_only, true);
		lose_device(cases[i].err, 0);
		assert_int_equal(rig_try(rig, p.kernel, FEW * WORDS, &result), cases[i].ret);
		assert_int_equal(result.status, cases[i].ret);
		assert_int_equal(atomic_load(&layer.refused), 1);
		snprintf(line, sizeof(line), "clEnqueueNDRangeKernel() failed: %s", cases[i].line);
		assert_true(rig_logged(line));
		rig_launch(rig, p.kernel, FEW * WORDS);
	}
	assert_numbered(p.in, FEW);
	for (size_t i = 0; i < FEW * WORDS; i++)
		assert_int_equal(p.out[i], 3 * i + 1);
	assert_int_equal(count_poisoned(rig), 0);
}

static void a_kernel_that_fails_after_it_was_accepted_ends_the_launch(void **state)
{
	struct rig *rig = *state;
	struct places p = places_open(rig);
	struct umm_opencl_result result;

	fail_at_end(CL_OUT_OF_RESOURCES, false);
	assert_int_equal(rig_try(rig, p.kernel, FEW * WORDS, &result), -ENOMEM);
	assert_true(rig_logged("the kernel failed: CL_OUT_OF_RESOURCES (-5)"));
	assert_false(rig_logged("the device is lost"));
	rig_launch(rig, p.kernel, FEW * WORDS);
	fail_at_end(CL_OUT_OF_RESOURCES, true);
	assert_int_equal(rig_try(rig, p.kernel, FEW * WORDS, &result), -ENODEV);
	assert_int_equal(result.status, -ENODEV);
	assert_true(rig_logged("the device is lost"));
	assert_int_equal(count_dead(p.out, FEW), FEW);
	assert_numbered(p.in, FEW);
	assert_numbered(p.home, FEW);
	assert_replaceable(rig, &p);
}

static void a_copy_home_that_fails_after_it_was_accepted_loses_the_device(void **state)
{
	struct rig *rig = *state;
	struct places p = places_open(rig);
	struct umm_opencl_result result;

	fail_at_end(CL_DEVICE_NOT_AVAILABLE, true);
	assert_int_equal(count_dead(p.out, FEW), FEW);
	assert_true(rig_logged("the device is lost"));
	assert_int_equal(rig_try(rig, p.kernel, FEW * WORDS, &result), -ENODEV);
	assert_numbered(p.in, FEW);
	assert_numbered(p.home, FEW);
	rig_eventually(count_poisoned(rig) == FEW);
	assert_replaceable(rig, &p);
}

static void a_copy_out_that_fails_after_it_was_accepted_leaves_the_pages_at_home(void **state)
{
	struct rig *rig = *state;
	struct umm_devmem *mem;
	uint32_t *home;

	places_open(rig);
	mem = umm_opencl_devmem(rig->ocl);
	/* In one block, and so one copy. */
	home = rig_alloc(rig, 2 * BLOCK);
	home += -(uintptr_t)home % BLOCK / sizeof(*home);
	for (size_t i = 0; i < FEW * WORDS; i++)
		home[i] = (uint32_t)i;
	fail_at_end(CL_OUT_OF_RESOURCES, false);
	assert_true(umm_migrate_to_device(rig->ctx, mem, home, FEW * PAGE) <= 0);
	assert_false(rig_logged("the device is lost"));
	assert_int_equal(rig_pages_in(rig, home, FEW * PAGE, UMM_PAGE_DEVICE), 0);
	assert_numbered(home, FEW);
	assert_int_equal(umm_migrate_to_device(rig->ctx, mem, home, FEW * PAGE), FEW);
	assert_numbered(home, FEW);
	assert_int_equal(count_poisoned(rig), 0);
}

static void what_is_invalid_without_the_program_is_eio(void **state)
{
	struct rig *rig = *state;
	uint32_t *words = rig_numbered(rig, FEW);
	struct umm_opencl_result result;
	cl_kernel kernel;

	open_sound(rig);
	kernel = rig_map(rig, words, words);
	atomic_store(&layer.write, CL_INVALID_VALUE);
	assert_int_equal(rig_try(rig, kernel, FEW * WORDS, &result), -EIO);
	assert_true(rig_logged(
		"clEnqueueWriteBuffer() of the page table failed: CL_INVALID_VALUE (-30)"));
	rig_launch(rig, kernel, FEW * WORDS);
	for (size_t i = 0; i < FEW * WORDS; i++)
		assert_int_equal(words[i], 3 * i + 1);
}

static void a_device_lost_between_two_rounds_ends_the_launch(void **state)
{
	struct rig *rig = *state;
	struct umm_opencl_result result = { .size = sizeof(result) };
	size_t n = FEW * WORDS;
	struct umm_opencl_work work = { .size = sizeof(work), .dims = 1, .global = &n };
	cl_event event;
	cl_int state_now = 0;
	uint32_t *in, *out;

	open_sound(rig);
	in = rig_numbered(rig, FEW);
	out = rig_numbered(rig, FEW);
	work.kernel = rig_map(rig, in, out);
	work.event = &event;
	/* The first misses what is read, the second what is written, the third does it. */
	lose_device(CL_DEVICE_NOT_AVAILABLE, 2);
	assert_int_equal(umm_opencl_launch(rig->ocl, &work, &result), 0);
	assert_int_not_equal(clWaitForEvents(1, &event), CL_SUCCESS);
	clGetEventInfo(event, CL_EVENT_COMMAND_EXECUTION_STATUS, sizeof(state_now), &state_now,
		       NULL);
	assert_int_equal(state_now, CL_DEVICE_NOT_AVAILABLE);
	clReleaseEvent(event);
	assert_int_equal(result.status, -ENODEV);
	assert_int_equal(result.rounds, 2);
	assert_int_equal(result.pages_migrated, 2 * FEW);
	assert_numbered(in, FEW);
	assert_int_equal(count_dead(out, FEW), FEW);
}

static void what_the_host_shares_with_a_lost_device_stays(void **state)
{
	struct rig *rig = *state;
	cl_device_svm_capabilities svm = 0;
	struct umm_opencl_result result;
	struct places p;

	atomic_store(&layer.shared, true);
	p = places_open(rig);
	clGetDeviceInfo(umm_opencl_cl_device(rig->ocl), CL_DEVICE_SVM_CAPABILITIES, sizeof(svm),
			&svm, NULL);
	if (!(svm & CL_DEVICE_SVM_FINE_GRAIN_BUFFER))
		rig_skip("%s shares no memory with the host", rig_device_name());
	lose_device(CL_DEVICE_NOT_AVAILABLE, 0);
	assert_int_equal(rig_try(rig, p.kernel, FEW * WORDS, &result), -ENODEV);
	assert_int_equal(count_dead(p.out, FEW), 0);
	for (size_t i = 0; i < FEW * WORDS; i++)
		assert_int_equal(p.out[i], 3 * i + 1);
	assert_int_equal(count_poisoned(rig), 0);
}

static void pages_do_not_go_to_a_lost_device(void **state)
{
	struct rig *rig = *state;
	struct places p = places_open(rig);

	lose_device(CL_DEVICE_NOT_AVAILABLE, 0);
	assert_true(umm_migrate_to_device(rig->ctx, umm_opencl_devmem(rig->ocl), p.home,
					  FEW * PAGE) <= 0);
	assert_true(rig_logged("the device is lost"));
	assert_int_equal(rig_pages_in(rig, p.home, FEW * PAGE, UMM_PAGE_DEVICE), 0);
	assert_numbered(p.home, FEW);
	assert_int_equal(count_poisoned(rig), 0);
}

/* A kernel from in to out is told that a page of lost's is poisoned. */
static void assert_lost_to(struct rig *rig, const uint32_t *in, const uint32_t *out,
			   const uint32_t *lost, bool write)
{
	struct umm_opencl_result result;

	assert_int_equal(rig_try(rig, rig_map(rig, in, out), FEW * WORDS, &result), -EFAULT);
	assert_true(result.fault_valid);
	assert_in_range(result.fault_addr, (uintptr_t)lost, (uintptr_t)(lost + FEW * WORDS) - 1);
	assert_int_equal(result.fault_write, write);
}

/* And of what the second has, a window goes on. */
static void a_window_on_pages_lost_with_another_device_is_efault(void **state)
{
	struct rig *rig = *state, other = { 0 };
	struct places p = places_open(rig);
	struct umm_opencl_window *lost, *kept;
	cl_mem mem;

	other.ctx = rig->ctx;
	open_sound(&other);
	assert_int_equal(umm_opencl_window_create(other.ocl, p.out, FEW * PAGE, 0, &lost), 0);
	assert_int_equal(umm_opencl_window_create(other.ocl, p.home, FEW * PAGE, 0, &kept), 0);
	assert_int_equal(umm_opencl_window_acquire(kept, UMM_OPENCL_WRITE, &mem), 0);
	assert_int_equal(umm_opencl_window_release(kept, 0, NULL), 0);
	atomic_store(&layer.spared, umm_opencl_cl_context(other.ocl));
	lose_device(CL_DEVICE_NOT_AVAILABLE, 0);
	assert_int_equal(umm_opencl_window_acquire(lost, UMM_OPENCL_READ, &mem), -EFAULT);
	assert_true(rig_logged("a window has no page at"));
	assert_int_equal(umm_opencl_window_acquire(lost, UMM_OPENCL_WRITE, &mem), -EFAULT);
	assert_int_equal(umm_opencl_window_acquire(kept, UMM_OPENCL_READ, &mem), 0);
	assert_int_equal(umm_opencl_window_release(kept, 0, NULL), 0);
	assert_numbered(p.home, FEW);
	assert_int_equal(count_dead(p.out, FEW), FEW);
	umm_opencl_window_destroy(lost);
	umm_opencl_window_destroy(kept);
	rig_close(&other);
}

static void what_another_device_has_survives(void **state)
{
	struct rig *rig = *state, other = { 0 };
	struct places p = places_open(rig);
	struct umm_opencl_result result;
	uint32_t *theirs = rig_numbered(rig, FEW), *more = rig_numbered(rig, FEW);
	cl_kernel kernel;

	rig_launch(rig, rig_map(rig, p.in, more), FEW * WORDS);
	other.ctx = rig->ctx;
	open_sound(&other);
	kernel = rig_map(&other, p.in, theirs);
	rig_launch(&other, kernel, FEW * WORDS);
	assert_int_equal(rig_pages_in(rig, theirs, FEW * PAGE, UMM_PAGE_DEVICE), FEW);
	atomic_store(&layer.spared, umm_opencl_cl_context(other.ocl));
	lose_device(CL_DEVICE_NOT_AVAILABLE, 0);
	assert_int_equal(rig_try(rig, p.kernel, FEW * WORDS, &result), -ENODEV);
	/* The copies that both had, its own pages, and new ones. */
	assert_int_equal(rig_launch(&other, kernel, FEW * WORDS).faults, 0);
	rig_launch(&other, rig_map(&other, p.in, p.home), FEW * WORDS);
	for (size_t i = 0; i < FEW * WORDS; i++) {
		assert_int_equal(theirs[i], 3 * i + 1);
		assert_int_equal(p.home[i], 3 * i + 1);
	}
	assert_numbered(p.in, FEW);
	/* What the first had alone is as lost to the second. */
	assert_lost_to(&other, p.out, p.home, p.out, false);
	assert_lost_to(&other, p.in, more, more, true);
	assert_int_equal(count_dead(p.out, FEW) + count_dead(more, FEW), 2 * FEW);
	rig_eventually(count_poisoned(rig) == 2 * FEW);
	rig_close(&other);
}

static void windows_of_a_lost_device_say_so(void **state)
{
	struct rig *rig = *state;
	struct places p = places_open(rig);
	struct umm_opencl_window *written, *read;
	cl_mem mem;

	assert_int_equal(umm_opencl_window_create(rig->ocl, p.home, FEW * PAGE, 0, &written), 0);
	assert_int_equal(umm_opencl_window_create(rig->ocl, p.in, FEW * PAGE, 0, &read), 0);
	assert_int_equal(umm_opencl_window_acquire(written, UMM_OPENCL_WRITE, &mem), 0);
	assert_int_equal(umm_opencl_window_release(written, 0, NULL), 0);
	assert_int_equal(umm_opencl_window_acquire(read, UMM_OPENCL_READ, &mem), 0);
	assert_int_equal(umm_opencl_window_release(read, 0, NULL), 0);
	lose_device(CL_DEVICE_NOT_AVAILABLE, 0);
	assert_int_equal(count_dead(p.home, FEW), FEW);
	assert_int_equal(umm_opencl_window_acquire(read, UMM_OPENCL_READ, &mem), -ENODEV);
	assert_int_equal(umm_opencl_window_acquire(written, UMM_OPENCL_WRITE, &mem), -ENODEV);
	assert_numbered(p.in, FEW);
	umm_opencl_window_destroy(read);
	umm_opencl_window_destroy(written);
}

static void destroying_a_lost_device_brings_home_what_can_come(void **state)
{
	struct rig *rig = *state;
	struct places p = places_open(rig);

	lose_device(CL_DEVICE_NOT_AVAILABLE, 0);
	rig_close(rig);
	assert_int_equal(rig_pages_in(rig, p.out, FEW * PAGE, UMM_PAGE_POISONED), FEW);
	assert_int_equal(count_dead(p.out, FEW), FEW);
	assert_numbered(p.in, FEW);
	assert_numbered(p.home, FEW);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		loss_test(a_device_that_is_not_available_loses_only_what_it_alone_had),
		loss_test(a_device_out_of_resources_for_good_is_lost_too),
		loss_test(a_device_whose_queue_is_invalid_is_lost_too),
		loss_test(a_command_that_fails_once_loses_nothing),
		loss_test(a_kernel_that_fails_after_it_was_accepted_ends_the_launch),
		loss_test(a_copy_home_that_fails_after_it_was_accepted_loses_the_device),
		loss_test(a_copy_out_that_fails_after_it_was_accepted_leaves_the_pages_at_home),
		loss_test(what_is_invalid_without_the_program_is_eio),
		loss_test(a_device_lost_between_two_rounds_ends_the_launch),
		loss_test(what_the_host_shares_with_a_lost_device_stays),
		loss_test(pages_do_not_go_to_a_lost_device),
		loss_test(what_another_device_has_survives),
		loss_test(a_window_on_pages_lost_with_another_device_is_efault),
		loss_test(windows_of_a_lost_device_say_so),
		loss_test(destroying_a_lost_device_brings_home_what_can_come),
	};

	return rig_main("opencl-loss", tests, argc, argv);
}
