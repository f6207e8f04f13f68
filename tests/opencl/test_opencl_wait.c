/* SPDX-License-Identifier: MIT */
/*
 * Work-items that wait for their pages: when they do, that they are not run again then, and how
 * waiting ends where it would last for ever.
 *
 * This program stands between the backend and the core: its umm_migrate_spans() is found first, so
 * that a test can do something while a kernel waits for pages, or have that call fail.
 */
#include "rig.h"

#include <dlfcn.h>
#include <pthread.h>
#include <stdatomic.h>

#define WORDS (PAGE / 4)

/* What happens in a call that brings pages for a fault. */
static struct {
	_Atomic(void (*)(void *)) fn; /* once: the call takes it away */
	void *priv;
	atomic_int error; /* of the next call */
	pthread_t caller; /* of the test: its own calls pass */
} layer;

#pragma GCC visibility push(default)

long umm_migrate_spans(struct umm_ctx *ctx, const struct umm_migrate_request *request,
		       struct umm_fence **fence)
{
	static atomic_uintptr_t found;
	bool ours = request->dst && !pthread_equal(pthread_self(), layer.caller);
	void (*fn)(void *) = ours ? atomic_exchange(&layer.fn, NULL) : NULL;
	int err = ours ? atomic_exchange(&layer.error, 0) : 0;

	if (!atomic_load(&found))
		atomic_store(&found, (uintptr_t)dlsym(RTLD_NEXT, "umm_migrate_spans"));
	if (fn)
		fn(layer.priv);
	if (err)
		return err;
	return ((__typeof__(&umm_migrate_spans))atomic_load(&found))(ctx, request, fence);
}

#pragma GCC visibility pop

static void while_it_waits(void (*fn)(void *), void *priv)
{
	layer.caller = pthread_self();
	layer.priv = priv;
	atomic_store(&layer.fn, fn);
}

static void fail_once(int err)
{
	layer.caller = pthread_self();
	atomic_store(&layer.error, err);
}

static int wait_setup(void **state)
{
	atomic_store(&layer.fn, NULL);
	atomic_store(&layer.error, 0);
	return rig_setup(state);
}

#define wait_test(fn) cmocka_unit_test_setup_teardown(fn, wait_setup, rig_teardown)

/* A device of so many pages, whose work-items can wait, and the kernels. */
static void open_waiting(struct rig *rig, size_t npages, const struct umm_opencl_options *options)
{
	rig_open(rig, npages * PAGE, options);
	if (!rig_can_wait())
		rig_skip("'%s' shares no memory with atomics, or UMM_OPENCL_WAIT forbids it",
			 rig_device_name());
	rig_build_file(rig, RIG_WAIT);
	rig->flags = UMM_OPENCL_WAIT;
}

/* A buffer that the host may look at while a kernel runs, on devices that can wait; all zero. */
static uint32_t *shared_words(struct rig *rig, size_t n, cl_mem *mem)
{
	uint32_t *words = aligned_alloc(PAGE, (n * 4 + PAGE - 1) / PAGE * PAGE);
	cl_int err;

	assert_non_null(words);
	memset(words, 0, n * 4);
	*mem = clCreateBuffer(umm_opencl_cl_context(rig->ocl),
			      CL_MEM_READ_WRITE | CL_MEM_USE_HOST_PTR, n * 4, words, &err);
	assert_int_equal(err, CL_SUCCESS);
	return words;
}

/* What is in it now; the buffer ends. */
static uint32_t read_and_end(struct rig *rig, cl_mem mem, uint32_t *words)
{
	uint32_t value;

	assert_int_equal(clEnqueueReadBuffer(umm_opencl_cl_queue(rig->ocl), mem, CL_TRUE, 0, 4,
					     &value, 0, NULL, NULL),
			 CL_SUCCESS);
	clReleaseMemObject(mem);
	free(words);
	return value;
}

static void set_buffer(cl_kernel kernel, cl_uint i, cl_mem mem)
{
	assert_int_equal(clSetKernelArg(kernel, UMM_OPENCL_ARGS + i, sizeof(cl_mem), &mem),
			 CL_SUCCESS);
}

struct once {
	uint32_t *in, *out;
	uint32_t count; /* times that a work-item began */
};

/* Work-items with two pages each. */
static struct umm_opencl_result run_once(struct rig *rig, size_t items, struct once *once)
{
	cl_kernel kernel = rig_kernel(rig, "once");
	struct umm_opencl_result result;
	uint32_t *words;
	cl_mem mem;

	once->in = rig_numbered(rig, 2 * items);
	once->out = once->in + items * WORDS;
	words = shared_words(rig, 1, &mem);
	rig_ulong(kernel, 0, (uintptr_t)once->in);
	rig_ulong(kernel, 1, (uintptr_t)once->out);
	set_buffer(kernel, 2, mem);
	result = rig_launch(rig, kernel, items);
	once->count = read_and_end(rig, mem, words);
	for (size_t i = 0; i < items; i++)
		assert_int_equal(once->out[i * WORDS], 3 * i * WORDS + 1);
	return result;
}

static void few_work_items_wait_and_run_once(void **state)
{
	struct rig *rig = *state;
	struct umm_opencl_result result;
	struct once once;

	open_waiting(rig, 1024, &rig_exact);
	rig->flags = 0;
	result = run_once(rig, 4, &once);
	assert_int_equal(result.rounds, 1);
	assert_int_equal(result.items_replayed, 0);
	assert_int_equal(result.faults, 8);
	assert_int_equal(result.faults_waited, 8);
	assert_int_equal(result.pages_migrated, 8);
	assert_int_equal(once.count, 4);
	/* What was only read the CPU has as well. */
	assert_int_equal(rig_pages_in(rig, once.in, 4 * PAGE, UMM_PAGE_DUPLICATED), 4);
}

static void many_are_replayed_unless_they_are_told_to_wait(void **state)
{
	struct rig *rig = *state;
	struct umm_opencl_result result;
	const char *wanted = getenv("UMM_OPENCL_WAIT");
	struct once once;

	open_waiting(rig, 4096, &rig_exact);
	result = run_once(rig, 1000, &once);
	assert_int_equal(result.rounds, 1);
	assert_int_equal(result.faults, 2000);
	assert_int_equal(result.faults_waited, 2000);
	assert_int_equal(once.count, 1000);
	rig->flags = 0;
	result = run_once(rig, 1000, &once);
	if (!wanted || strcmp(wanted, "always") != 0) {
		assert_int_equal(result.rounds, 3);
		assert_int_equal(result.faults_waited, 0);
		assert_int_equal(once.count, 3000);
	}
}

static void who_is_told_to_replay_does(void **state)
{
	struct rig *rig = *state;
	struct umm_opencl_result result;
	struct once once;

	open_waiting(rig, 1024, &rig_exact);
	rig->flags = UMM_OPENCL_REPLAY;
	result = run_once(rig, 4, &once);
	assert_int_equal(result.rounds, 3);
	assert_int_equal(result.items_replayed, 8);
	assert_int_equal(result.faults, 8);
	assert_int_equal(result.faults_waited, 0);
	assert_int_equal(once.count, 12);
}

struct walk {
	uint32_t *pages; /* the first word of each is added up */
	cl_kernel kernel;
	cl_mem out, stopped;
	uint32_t *out_words, *stopped_words;
	uint32_t npages;
};

static void walk_begin(struct rig *rig, struct walk *walk, uint32_t npages)
{
	walk->npages = npages;
	walk->pages = rig_numbered(rig, npages);
	walk->kernel = rig_kernel(rig, "walk");
	walk->out_words = shared_words(rig, 1, &walk->out);
	walk->stopped_words = shared_words(rig, 1, &walk->stopped);
	rig_ulong(walk->kernel, 0, (uintptr_t)walk->pages);
	rig_uint(walk->kernel, 1, npages);
	set_buffer(walk->kernel, 2, walk->out);
	set_buffer(walk->kernel, 3, walk->stopped);
}

/* How often the kernel had to stop; the sum is checked. */
static uint32_t walk_end(struct rig *rig, struct walk *walk)
{
	uint32_t sum = 0;

	for (uint32_t i = 0; i < walk->npages; i++)
		sum += walk->pages[i * WORDS];
	assert_int_equal(read_and_end(rig, walk->out, walk->out_words), sum);
	return read_and_end(rig, walk->stopped, walk->stopped_words);
}

static void what_lies_behind_is_read_ahead_for_who_waits(void **state)
{
	struct rig *rig = *state;
	struct umm_opencl_result result;
	struct walk walk;

	open_waiting(rig, 2048, NULL);
	walk_begin(rig, &walk, 512);
	result = rig_launch(rig, walk.kernel, 1);
	assert_int_equal(result.rounds, 1);
	assert_int_equal(result.pages_migrated, 512);
	assert_in_range(result.pages_readahead, 400, 511);
	/* Some are missed while they are on their way, ahead of need: how many, is a race. */
	assert_int_equal(result.faults, result.faults_waited);
	assert_in_range(result.faults_waited, 512 - result.pages_readahead, 512);
	/* All of it is in the table afterwards. */
	result = rig_launch(rig, walk.kernel, 1);
	assert_int_equal(result.faults, 0);
	assert_int_equal(walk_end(rig, &walk), 0);
}

static void spans_wait(void **state)
{
	struct rig *rig = *state;
	struct umm_opencl_result result;
	uint32_t *pages, *words;
	cl_kernel kernel;
	cl_mem out;

	open_waiting(rig, 1024, &rig_exact);
	pages = rig_numbered(rig, 300);
	kernel = rig_kernel(rig, "spans");
	words = shared_words(rig, 1, &out);
	rig_ulong(kernel, 0, (uintptr_t)pages + 8);
	rig_ulong(kernel, 1, 300 * PAGE - 16);
	set_buffer(kernel, 2, out);
	result = rig_launch(rig, kernel, 1);
	assert_int_equal(result.rounds, 1);
	assert_int_equal(result.faults_waited, 300);
	assert_int_equal(read_and_end(rig, out, words),
			 (uint32_t)rig_sum(pages + 2, 300 * WORDS - 4));
}

/* Pages far from each other, so that the table outgrows what it began with. */
static void pages_everywhere_come_while_a_kernel_runs(void **state)
{
	struct rig *rig = *state;
	struct umm_opencl_result result;
	cl_kernel kernel;
	uint32_t *memory;
	size_t n = 40;

	open_waiting(rig, 256, &rig_exact);
	kernel = rig_kernel(rig, "store");
	memory = rig_alloc(rig, n * 16 * BLOCK);
	rig_ulong(kernel, 0, (uintptr_t)memory);
	rig_ulong(kernel, 1, 16 * BLOCK);
	rig_uint(kernel, 2, 77);
	result = rig_launch(rig, kernel, n);
	assert_int_equal(result.faults, n);
	assert_in_range(result.faults_waited, 1, n);
	assert_in_range(result.rounds, 1, 8);
	for (size_t i = 0; i < n; i++)
		assert_int_equal(memory[i * 4 * BLOCK], 77);
}

static void a_full_device_replays(void **state)
{
	struct rig *rig = *state;
	struct umm_opencl_result result;
	struct walk first, second;

	open_waiting(rig, 64, &rig_exact);
	walk_begin(rig, &first, 24);
	assert_int_equal(rig_launch(rig, first.kernel, 1).faults_waited, 24);
	walk_begin(rig, &second, 60);
	result = rig_launch(rig, second.kernel, 1);
	assert_true(result.faults_waited >= 39); /* all that is free */
	assert_true(result.rounds > 1);
	assert_true(rig_count(rig, UMM_COUNT_EVICTIONS) > 0);
	assert_true(walk_end(rig, &second) > 0);
	assert_int_equal(walk_end(rig, &first), 0);
}

static void a_copy_that_is_written_is_replayed(void **state)
{
	struct rig *rig = *state;
	struct umm_opencl_result result;
	uint32_t n = 12, *pages;
	cl_kernel kernel;

	open_waiting(rig, 256, &rig_exact);
	pages = rig_alloc(rig, n * PAGE);
	for (uint32_t i = 0; i < n; i++)
		pages[i * WORDS] = i;
	kernel = rig_kernel(rig, "bump");
	rig_ulong(kernel, 0, (uintptr_t)pages);
	rig_uint(kernel, 1, n);
	result = rig_launch(rig, kernel, 1);
	/* The first page was copied to be read; then it is seen that the block is written. */
	assert_int_equal(result.rounds, 2);
	assert_int_equal(result.items_replayed, 1);
	assert_int_equal(result.faults_waited, n);
	for (uint32_t i = 0; i < n; i++)
		assert_int_equal(pages[i * WORDS], i + 1000);
}

static void who_waits_for_what_is_no_memory_is_told(void **state)
{
	struct rig *rig = *state;
	struct umm_opencl_result result;
	struct walk walk;

	open_waiting(rig, 256, &rig_exact);
	walk_begin(rig, &walk, 8);
	rig_uint(walk.kernel, 1, 9);
	assert_int_equal(umm_free(rig->ctx, walk.pages + 0), 0);
	assert_int_equal(rig_try(rig, walk.kernel, 1, &result), -EFAULT);
	assert_true(result.fault_valid);
	assert_int_equal(result.fault_addr, (uintptr_t)walk.pages);
	assert_int_equal(result.fault_item, 0);
	assert_true(read_and_end(rig, walk.stopped, walk.stopped_words) > 0);
	read_and_end(rig, walk.out, walk.out_words);
}

static void an_error_while_a_kernel_waits_ends_the_launch(void **state)
{
	struct rig *rig = *state;
	struct umm_opencl_result result;
	struct walk walk;

	open_waiting(rig, 256, &rig_exact);
	walk_begin(rig, &walk, 8);
	fail_once(-ENOMEM);
	assert_int_equal(rig_try(rig, walk.kernel, 1, &result), -ENOMEM);
	assert_int_equal(result.faults_waited, 0);
	/* The next one is as if nothing had been. */
	assert_int_equal(rig_launch(rig, walk.kernel, 1).faults_waited, 8);
	assert_int_equal(walk_end(rig, &walk), 1);
}

struct toucher {
	uint32_t *word;
	atomic_bool done;
	pthread_t thread;
};

static void *touch(void *priv)
{
	struct toucher *toucher = priv;

	*toucher->word = 5;
	atomic_store(&toucher->done, true);
	return NULL;
}

/* A page that the kernel has is touched, and that is over before anything comes for the kernel. */
static void touch_and_wait(void *priv)
{
	struct toucher *toucher = priv;

	pthread_create(&toucher->thread, NULL, touch, toucher);
	for (int i = 0; i < 60000 && !atomic_load(&toucher->done); i++)
		nanosleep(&(struct timespec){ .tv_nsec = 1000000 }, NULL);
}

static void a_cpu_does_not_wait_for_a_kernel_that_waits(void **state)
{
	struct rig *rig = *state;
	struct umm_opencl_result result;
	struct toucher toucher = { 0 };
	struct walk walk;

	open_waiting(rig, 256, &rig_exact);
	walk_begin(rig, &walk, 40);
	toucher.word = walk.pages;
	assert_int_equal(
		umm_migrate_to_device(rig->ctx, umm_opencl_devmem(rig->ocl), walk.pages, PAGE), 1);
	rig_uint(walk.kernel, 1, 1);
	rig_launch(rig, walk.kernel, 1);
	rig_uint(walk.kernel, 1, 40);
	while_it_waits(touch_and_wait, &toucher);
	result = rig_launch(rig, walk.kernel, 1);
	assert_true(atomic_load(&toucher.done));
	pthread_join(toucher.thread, NULL);
	/* One round ends for the CPU, the next ones go on waiting. */
	assert_in_range(result.rounds, 2, 3);
	assert_in_range(result.faults_waited, 37, 40);
	assert_int_equal(walk.pages[0], 5);
	assert_in_range(walk_end(rig, &walk), 1, 2);
}

/* Until the kernel has stopped by itself. */
static void hold_up(void *priv)
{
	_Atomic uint32_t *stopped = priv;

	for (int i = 0; i < 60000 && !atomic_load(stopped); i++)
		nanosleep(&(struct timespec){ .tv_nsec = 1000000 }, NULL);
}

static void a_kernel_for_which_nothing_comes_stops_waiting(void **state)
{
	struct rig *rig = *state;
	struct umm_opencl_result result;
	struct walk walk;

	open_waiting(rig, 256, &rig_exact);
	walk_begin(rig, &walk, 12);
	while_it_waits(hold_up, walk.stopped_words);
	result = rig_launch(rig, walk.kernel, 1);
	/* And does not try it again in this launch; in the next it does. */
	assert_int_equal(result.faults_waited, 1);
	assert_int_equal(result.rounds, 13);
	assert_int_equal(walk_end(rig, &walk), 12);
	walk_begin(rig, &walk, 12);
	/* The table is rearranged once, perhaps, for memory below. */
	assert_in_range(rig_launch(rig, walk.kernel, 1).faults_waited, 11, 12);
	assert_in_range(walk_end(rig, &walk), 0, 1);
}

/* As if there were no CPU for it. */
static void dawdle(void *priv)
{
	uint64_t ns = *(uint64_t *)priv;

	nanosleep(&(struct timespec){ .tv_sec = (time_t)(ns / 1000000000),
				      .tv_nsec = (long)(ns % 1000000000) },
		  NULL);
	atomic_store(&layer.fn, dawdle);
}

/* The most that a round has taken here, of many that bring one page; on a device of its own. */
static uint64_t longest_round_ns(struct rig *rig)
{
	struct umm_opencl_result result;
	uint64_t longest = 0;
	struct walk walk;

	open_waiting(rig, 1024, &rig_exact);
	rig->flags = UMM_OPENCL_REPLAY;
	walk_begin(rig, &walk, 1);
	for (unsigned i = 0; i < 60; i++) {
		walk.pages[0] = 0; /* comes home */
		result = rig_launch(rig, walk.kernel, 1);
		assert_int_equal(result.rounds, 2);
		longest = result.total_ns > longest ? result.total_ns : longest;
	}
	walk_end(rig, &walk);
	rig_close(rig);
	return longest;
}

static void waiting_that_is_slower_is_given_up(void **state)
{
	struct rig *rig = *state;
	struct umm_opencl_result result;
	struct walk walk;
	uint64_t ns;

	if (getenv("UMM_OPENCL_WAIT"))
		rig_skip("UMM_OPENCL_WAIT is set: nothing is compared");
	/* Whatever else the machine does meanwhile, and though one round decides. */
	ns = 3 * longest_round_ns(rig);
	ns = ns > 50000000 ? ns : 50000000;
	open_waiting(rig, 1024, &rig_exact);
	rig->flags = 0;
	walk_begin(rig, &walk, 300);
	while_it_waits(dawdle, &ns);
	result = rig_launch(rig, walk.kernel, 1);
	/* So many pages to see what it costs, and one round to see what the other way costs. */
	assert_in_range(result.faults_waited, 32, 40);
	assert_in_range(result.rounds, 301 - result.faults_waited, 302 - result.faults_waited);
	walk_end(rig, &walk);
	walk_begin(rig, &walk, 300);
	result = rig_launch(rig, walk.kernel, 1);
	assert_in_range(result.faults_waited, 0, 40);
	walk_end(rig, &walk);
}

static void *destroy(void *priv)
{
	struct rig *rig = priv;

	umm_opencl_destroy(rig->ocl);
	return NULL;
}

static pthread_t destroyer;

static void destroy_meanwhile(void *priv)
{
	pthread_create(&destroyer, NULL, destroy, priv);
}

static void a_device_goes_while_its_kernel_waits(void **state)
{
	struct rig *rig = *state;
	struct umm_opencl_result result;
	cl_context context;
	struct walk walk;

	open_waiting(rig, 4096, &rig_exact);
	context = umm_opencl_cl_context(rig->ocl);
	clRetainContext(context);
	walk_begin(rig, &walk, 3000);
	while_it_waits(destroy_meanwhile, rig);
	assert_int_equal(rig_try(rig, walk.kernel, 1, &result), -ENODEV);
	pthread_join(destroyer, NULL);
	rig->ocl = NULL;
	assert_int_equal(walk.pages[2999 * WORDS], 2999 * WORDS);
	assert_int_equal(rig_pages_in(rig, walk.pages, 3000 * PAGE, UMM_PAGE_POISONED), 0);
	clReleaseMemObject(walk.out);
	clReleaseMemObject(walk.stopped);
	free(walk.out_words);
	free(walk.stopped_words);
	clReleaseContext(context);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		wait_test(few_work_items_wait_and_run_once),
		wait_test(many_are_replayed_unless_they_are_told_to_wait),
		wait_test(who_is_told_to_replay_does),
		wait_test(what_lies_behind_is_read_ahead_for_who_waits),
		wait_test(spans_wait),
		wait_test(pages_everywhere_come_while_a_kernel_runs),
		wait_test(a_full_device_replays),
		wait_test(a_copy_that_is_written_is_replayed),
		wait_test(who_waits_for_what_is_no_memory_is_told),
		wait_test(an_error_while_a_kernel_waits_ends_the_launch),
		wait_test(a_cpu_does_not_wait_for_a_kernel_that_waits),
		wait_test(a_kernel_for_which_nothing_comes_stops_waiting),
		wait_test(waiting_that_is_slower_is_given_up),
		wait_test(a_device_goes_while_its_kernel_waits),
	};

	return rig_main("opencl wait", tests, argc, argv);
}
