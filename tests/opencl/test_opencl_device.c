/* SPDX-License-Identifier: MIT */
/*
 * Opening OpenCL devices in every way that there is, several of them, and taking
 * them away: idle, in the middle of a launch, with the context.
 */
#include "rig.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <sys/resource.h>

#define WORDS (PAGE / 4)

static cl_context other_context(struct rig *rig)
{
	cl_device_id device = umm_opencl_cl_device(rig->ocl);
	cl_int err;
	cl_context context = clCreateContext(NULL, 1, &device, NULL, NULL, &err);

	assert_int_equal(err, CL_SUCCESS);
	return context;
}

/* in -> out on the rig's device, checked. */
static void work_once(struct rig *rig)
{
	size_t npages = 20;
	uint32_t *in = rig_numbered(rig, npages), *out = rig_alloc(rig, npages * PAGE);
	cl_kernel kernel;

	if (!rig->program)
		rig_build(rig);
	kernel = rig_kernel(rig, "map");
	rig_ulong(kernel, 0, (uintptr_t)in);
	rig_ulong(kernel, 1, (uintptr_t)out);
	rig_launch(rig, kernel, npages * WORDS);
	for (size_t i = 0; i < npages * WORDS; i++)
		assert_int_equal(out[i], 3 * i + 1);
}

static void the_callers_device_context_or_queue_is_used(void **state)
{
	struct rig *rig = *state;
	struct umm_opencl_options options = { .size = sizeof(options) };
	cl_device_id device;
	cl_context context;
	cl_int err;

	rig_open(rig, 4 * MIB, NULL);
	device = umm_opencl_cl_device(rig->ocl);
	context = other_context(rig);
	rig_close(rig);

	options.device = device;
	rig_open(rig, 4 * MIB, &options);
	assert_ptr_equal(umm_opencl_cl_device(rig->ocl), device);
	work_once(rig);
	rig_close(rig);

	options.context = context;
	rig_open(rig, 4 * MIB, &options);
	assert_ptr_equal(umm_opencl_cl_context(rig->ocl), context);
	work_once(rig);
	rig_close(rig);

	options = (struct umm_opencl_options){ .size = sizeof(options) };
	options.queue = clCreateCommandQueue(context, device, 0, &err);
	assert_int_equal(err, CL_SUCCESS);
	rig_open(rig, 4 * MIB, &options);
	assert_ptr_equal(umm_opencl_cl_queue(rig->ocl), options.queue);
	/* They stay when the caller lets go of them. */
	clReleaseCommandQueue(options.queue);
	clReleaseContext(context);
	work_once(rig);
}

static void an_out_of_order_queue_works(void **state)
{
	struct rig *rig = *state;
	struct umm_opencl_options options = { .size = sizeof(options) };
	cl_context context;
	cl_int err;

	rig_open(rig, 4 * MIB, NULL);
	context = other_context(rig);
	options.queue = clCreateCommandQueue(context, umm_opencl_cl_device(rig->ocl),
					     CL_QUEUE_OUT_OF_ORDER_EXEC_MODE_ENABLE, &err);
	clReleaseContext(context);
	if (err != CL_SUCCESS)
		rig_skip("%s has no out-of-order queues", rig_device_name());
	rig_close(rig);
	rig_open(rig, 4 * MIB, &options);
	clReleaseCommandQueue(options.queue);
	for (int turn = 0; turn < 5; turn++)
		work_once(rig);
}

static int find_type(void *priv, const struct umm_opencl_info *info)
{
	cl_device_type *type = priv;

	if (!info->device || !strstr(info->device_name, rig_device_name()))
		return 0;
	*type = info->type;
	return 1;
}

static void a_device_is_found_by_names_in_any_case_and_by_type(void **state)
{
	struct rig *rig = *state;
	struct umm_opencl_options options = { .size = sizeof(options) };
	cl_device_type type = 0;
	struct umm_opencl *ocl = NULL;
	char upper[64] = "";

	rig_open(rig, 4 * MIB, NULL);
	for (size_t i = 0; rig_device_name()[i] && i < sizeof(upper) - 1; i++)
		upper[i] = (char)(rig_device_name()[i] & ~32);
	options.device_bytes = MIB;
	options.device_name = upper;
	assert_int_equal(umm_opencl_create(rig->ctx, &options, &ocl), 0);
	umm_opencl_destroy(ocl);
	assert_int_equal(umm_opencl_list(find_type, &type), 1);
	options.type = type;
	assert_int_equal(umm_opencl_create(rig->ctx, &options, &ocl), 0);
	umm_opencl_destroy(ocl);

	ocl = NULL;
	rig_logged("");
	options.type = CL_DEVICE_TYPE_CUSTOM;
	assert_int_equal(umm_opencl_create(rig->ctx, &options, &ocl), -ENODEV);
	options.type = 0;
	options.device_name = "no such device";
	assert_int_equal(umm_opencl_create(rig->ctx, &options, &ocl), -ENODEV);
	/* It says which there are. */
	assert_true(rig_logged(rig_device_name()));
	options.device_name = NULL;
	options.platform_name = "no such platform";
	assert_int_equal(umm_opencl_create(rig->ctx, &options, &ocl), -ENODEV);
	assert_null(ocl);
}

struct listing {
	unsigned ndevices;
	unsigned nmatching;
	bool sane;
};

static int list_visit(void *priv, const struct umm_opencl_info *info)
{
	struct listing *listing = priv;

	listing->sane &= info->size == sizeof(*info) && info->platform && info->platform_name[0];
	if (!info->device) {
		listing->sane &= info->usable == -ENODEV && info->reason[0];
		return 0;
	}
	listing->ndevices++;
	if (!strstr(info->device_name, rig_device_name()))
		return 0;
	listing->nmatching++;
	listing->sane &= info->usable == 0 && !info->reason[0] &&
			 info->capabilities & UMM_OPENCL_PAGING &&
			 info->default_device_bytes >= MIB &&
			 info->max_device_bytes >= info->default_device_bytes &&
			 info->default_device_bytes <= info->max_alloc_bytes &&
			 info->max_device_bytes <= info->global_bytes;
	return 0;
}

static int stop_at_once(void *priv, const struct umm_opencl_info *info)
{
	(void)info;
	++*(int *)priv;
	return -42;
}

static void the_list_has_the_device_and_says_what_it_can_do(void **state)
{
	struct rig *rig = *state;
	struct listing listing = { .sane = true };
	int calls = 0, count;

	rig_open(rig, MIB, NULL);
	count = umm_opencl_list(list_visit, &listing);
	assert_int_equal(count, listing.ndevices);
	assert_int_equal(listing.nmatching, 1);
	assert_true(listing.sane);
	assert_int_equal(umm_opencl_list(stop_at_once, &calls), -42);
	assert_int_equal(calls, 1);
	assert_int_equal(umm_opencl_list(NULL, NULL), -EINVAL);
}

static void options_that_make_no_sense_are_refused(void **state)
{
	struct rig *rig = *state;
	struct umm_opencl_options good = { .size = sizeof(good), .device_bytes = MIB };
	struct umm_opencl_options bad;
	struct umm_opencl *ocl = NULL;
	cl_context context;

	rig_open(rig, MIB, NULL);
	context = umm_opencl_cl_context(rig->ocl);
	good.device_name = rig_device_name();
	assert_int_equal(umm_opencl_create(NULL, &good, &ocl), -EINVAL);
	assert_int_equal(umm_opencl_create(rig->ctx, &good, NULL), -EINVAL);
#define REFUSED(field, value) \
	bad = good;           \
	bad.field = (value);  \
	assert_int_equal(umm_opencl_create(rig->ctx, &bad, &ocl), -EINVAL)
	REFUSED(size, 0);
	REFUSED(flags, 1);
	REFUSED(reserved, 1);
	REFUSED(readahead, UINT64_MAX);
	REFUSED(fault_entries, UINT32_MAX);
	REFUSED(context, context); /* and a name */
	REFUSED(device_bytes, UINT64_C(1) << 50);
	REFUSED(pool_bytes, PAGE); /* more than four pools */
	good.device_name = NULL;
	good.queue = umm_opencl_cl_queue(rig->ocl);
	REFUSED(context, context); /* and a queue */
	assert_null(ocl);
}

static void several_pools_hold_the_pages_like_one(void **state)
{
	struct rig *rig = *state;
	struct umm_opencl_options options = { .size = sizeof(options), .pool_bytes = 48 * PAGE };
	size_t npages = 180;
	uint32_t *words;
	cl_kernel kernel;

	/* 48 + 48 + 48 + 40 frames. */
	rig_open(rig, 184 * PAGE, &options);
	words = rig_numbered(rig, npages);
	rig_build(rig);
	assert_int_equal(umm_migrate_to_device(rig->ctx, umm_opencl_devmem(rig->ocl), words,
					       npages * PAGE),
			 npages);
	kernel = rig_kernel(rig, "map");
	rig_ulong(kernel, 0, (uintptr_t)words);
	rig_ulong(kernel, 1, (uintptr_t)words);
	assert_int_equal(rig_launch(rig, kernel, npages * WORDS).pages_migrated, 0);
	for (size_t i = 0; i < npages * WORDS; i++)
		assert_int_equal(words[i], 3 * i + 1);
	work_once(rig);
}

static void a_program_built_for_fewer_pools_is_refused(void **state)
{
	struct rig *rig = *state;
	struct umm_opencl_options options = { .size = sizeof(options), .pool_bytes = 32 * PAGE };
	struct umm_opencl_result result = { .size = sizeof(result) };
	struct umm_opencl *one;
	uint32_t *words;
	cl_kernel kernel;
	size_t n = 4;
	struct umm_opencl_work work = { .size = sizeof(work), .dims = 1, .global = &n };

	rig_open(rig, 64 * PAGE, NULL);
	one = rig->ocl;
	rig_build(rig);
	kernel = rig_kernel(rig, "store");
	words = rig_numbered(rig, 1);
	rig_ulong(kernel, 0, (uintptr_t)words);
	rig_ulong(kernel, 1, 4);
	rig_uint(kernel, 2, 7);
	options.context = umm_opencl_cl_context(one);
	rig->ocl = NULL;
	rig_open(rig, 64 * PAGE, &options);
	work.kernel = kernel;
	rig_logged("");
	assert_int_equal(umm_opencl_launch(rig->ocl, &work, &result), -EINVAL);
	assert_true(rig_logged("umm_opencl_build()"));
	assert_int_equal(umm_opencl_launch(one, &work, &result), 0);
	assert_int_equal(words[0], 7);
	umm_opencl_destroy(one);
}

static void the_callers_events_are_waited_for(void **state)
{
	struct rig *rig = *state;
	struct umm_opencl_work work = { .size = sizeof(work), .dims = 1 };
	uint32_t *words;
	size_t n = 4;
	cl_event event;
	cl_int err;

	rig_open(rig, MIB, NULL);
	rig_build(rig);
	words = rig_numbered(rig, 1);
	work.kernel = rig_kernel(rig, "store");
	rig_ulong(work.kernel, 0, (uintptr_t)words);
	rig_ulong(work.kernel, 1, 4);
	rig_uint(work.kernel, 2, 9);
	work.global = &n;
	event = clCreateUserEvent(umm_opencl_cl_context(rig->ocl), &err);
	assert_int_equal(err, CL_SUCCESS);
	clSetUserEventStatus(event, CL_COMPLETE);
	work.nwait = 1;
	work.wait = &event;
	assert_int_equal(umm_opencl_launch(rig->ocl, &work, NULL), 0);
	assert_int_equal(words[3], 9);
	clReleaseEvent(event);
}

static void pages_go_from_device_to_device_of_one_context(void **state)
{
	struct rig *rig = *state;
	struct umm_opencl *first;
	cl_program program;
	uint32_t *words;
	size_t n = 30 * WORDS;
	cl_kernel kernels[2];
	struct umm_opencl *devices[2];

	rig_open(rig, 4 * MIB, NULL);
	rig_build(rig);
	first = rig->ocl;
	program = rig->program;
	kernels[0] = rig_kernel(rig, "map");
	rig->ocl = NULL;
	rig_open(rig, 4 * MIB, NULL);
	rig_build(rig);
	kernels[1] = rig_kernel(rig, "map");
	devices[0] = first;
	devices[1] = rig->ocl;
	words = rig_numbered(rig, 30);
	for (int i = 0; i < 2; i++) {
		rig_ulong(kernels[i], 0, (uintptr_t)words);
		rig_ulong(kernels[i], 1, (uintptr_t)words);
	}
	for (uint32_t turn = 0; turn < 6; turn++) {
		struct umm_opencl_work work = { .size = sizeof(work), .dims = 1, .global = &n };

		work.kernel = kernels[turn % 2];
		assert_int_equal(umm_opencl_launch(devices[turn % 2], &work, NULL), 0);
	}
	/* x -> 3x + 1, six times */
	for (uint32_t i = 0; i < n; i++)
		assert_int_equal(words[i], 729 * i + 364);
	clReleaseKernel(kernels[0]);
	rig->kernels[0] = rig->kernels[--rig->nkernels];
	clReleaseProgram(program);
	umm_opencl_destroy(first);
}

static void two_contexts_do_not_see_each_other(void **state)
{
	struct rig *rig = *state;
	struct rig other = { 0 };
	struct umm_opencl_result result;
	uint32_t *words;
	cl_kernel kernel;

	rig_open(rig, 4 * MIB, NULL);
	rig_open(&other, 4 * MIB, NULL);
	work_once(rig);
	work_once(&other);
	words = rig_numbered(rig, 2);
	kernel = rig_kernel(&other, "load");
	rig_ulong(kernel, 0, (uintptr_t)words);
	rig_ulong(kernel, 1, 0);
	assert_int_equal(rig_try(&other, kernel, 1, &result), -EFAULT);
	work_once(rig);
	rig_close(&other);
	umm_ctx_put(other.ctx);
	work_once(rig);
}

static void data_survives_the_device(void **state)
{
	struct rig *rig = *state;
	uint32_t *words;
	size_t npages = 600;
	cl_kernel kernel;

	rig_open(rig, 4 * MIB, NULL);
	rig_build(rig);
	words = rig_numbered(rig, npages);
	kernel = rig_kernel(rig, "map");
	rig_ulong(kernel, 0, (uintptr_t)words);
	rig_ulong(kernel, 1, (uintptr_t)words);
	rig_launch(rig, kernel, npages * WORDS);
	assert_int_equal(rig_device_pages(rig), npages);
	/* By the core's own function: the backend hears of it. */
	umm_device_destroy(umm_opencl_device(rig->ocl));
	rig->ocl = NULL;
	assert_int_equal(rig_pages_in(rig, words, npages * PAGE, UMM_PAGE_SYSTEM), npages);
	for (size_t i = 0; i < npages * WORDS; i++)
		assert_int_equal(words[i], 3 * i + 1);
}

/* What is no live device: every function says so, whatever is behind the pointer. */
static void assert_no_device(struct umm_opencl *ocl, const struct umm_opencl_work *work)
{
	cl_program program = NULL;

	assert_null(umm_opencl_device(ocl));
	assert_null(umm_opencl_devmem(ocl));
	assert_null(umm_opencl_cl_context(ocl));
	assert_null(umm_opencl_cl_device(ocl));
	assert_null(umm_opencl_cl_queue(ocl));
	assert_int_equal(umm_opencl_build(ocl, "", NULL, &program, NULL), -EINVAL);
	assert_null(program);
	assert_int_equal(umm_opencl_launch(ocl, work, NULL), -EINVAL);
	umm_opencl_destroy(ocl);
}

static void a_handle_that_is_not_a_live_device_is_einval(void **state)
{
	struct rig *rig = *state, other = { .ctx = NULL };
	const size_t items = 1;
	struct umm_opencl_work work = { .size = sizeof(work), .dims = 1, .global = &items };
	struct umm_opencl *gone[3];
	char garbage[512] = "this is no device";
	cl_kernel kernel;

	rig_open(&other, 4 * MIB, NULL);
	gone[0] = other.ocl;
	umm_ctx_put(other.ctx);
	rig_open(rig, 4 * MIB, NULL);
	gone[1] = rig->ocl;
	umm_opencl_destroy(rig->ocl);
	rig_open(rig, 4 * MIB, NULL);
	gone[2] = rig->ocl;
	umm_device_destroy(umm_opencl_device(rig->ocl));
	/* It must not become good again by having the address of one of those. */
	rig_open(rig, 4 * MIB, NULL);
	rig_build(rig);
	kernel = rig_kernel(rig, "map");
	work.kernel = kernel;
	for (unsigned i = 0; i < 3; i++) {
		assert_ptr_not_equal(rig->ocl, gone[i]);
		assert_no_device(gone[i], &work);
	}
	assert_no_device(NULL, &work);
	assert_no_device((struct umm_opencl *)(void *)garbage, &work);
	assert_no_device((struct umm_opencl *)(void *)rig->ctx, &work);
	assert_no_device((struct umm_opencl *)(void *)umm_opencl_device(rig->ocl), &work);
	work_once(rig);
}

struct node {
	struct node *next;
	uint64_t value;
};

/* A list with a node in each page, in no order: a launch that follows it takes many rounds. */
static struct node *scattered_list(struct rig *rig, size_t nnodes, uint64_t *sum)
{
	char *memory = rig_alloc(rig, nnodes * PAGE);
	struct node *head = NULL, *node;

	*sum = 0;
	for (size_t i = 0; i < nnodes; i++) {
		node = (struct node *)(void *)(memory + i * 1009 % nnodes * PAGE);
		node->next = head;
		node->value = i;
		*sum += i * (nnodes - i);
		head = node;
	}
	return head;
}

static uint64_t sum_on_cpu(const struct node *node)
{
	uint64_t sum = 0;

	for (uint64_t n = 1; node; node = node->next, n++)
		sum += node->value * n;
	return sum;
}

struct launching {
	struct rig *rig;
	cl_kernel kernel;
	int ret;
};

static void *launch_once(void *priv)
{
	struct launching *launching = priv;
	struct umm_opencl_result result;

	launching->ret = rig_try(launching->rig, launching->kernel, 1, &result);
	return NULL;
}

/* Take the device away in the middle of a launch that has thousands of rounds to go. */
static void destroy_while_launching(struct rig *rig, void (*destroy)(struct umm_opencl *ocl))
{
	struct launching launching = { .rig = rig };
	struct node *head;
	pthread_t thread;
	uint64_t *out, sum;

	rig_open(rig, 32 * MIB, NULL);
	rig_build(rig);
	head = scattered_list(rig, 6000, &sum);
	out = rig_alloc(rig, PAGE);
	launching.kernel = rig_kernel(rig, "sum_list");
	rig_ulong(launching.kernel, 0, (uintptr_t)head);
	rig_ulong(launching.kernel, 1, (uintptr_t)out);
	assert_int_equal(pthread_create(&thread, NULL, launch_once, &launching), 0);
	while (rig_count(rig, UMM_COUNT_DUPLICATED) < 20)
		sched_yield();
	destroy(rig->ocl);
	rig->ocl = NULL;
	pthread_join(thread, NULL);
	assert_int_equal(launching.ret, -ENODEV);
	assert_int_equal(*out, 0);
	assert_int_equal(sum_on_cpu(head), sum);
}

static void a_launch_ends_with_enodev_when_its_device_is_destroyed(void **state)
{
	destroy_while_launching(*state, umm_opencl_destroy);
}

static void destroy_by_core(struct umm_opencl *ocl)
{
	umm_device_destroy(umm_opencl_device(ocl));
}

static void the_same_when_the_core_destroys_it(void **state)
{
	destroy_while_launching(*state, destroy_by_core);
}

static void a_context_that_is_dropped_meanwhile_lives_until_the_launch_ends(void **state)
{
	struct rig *rig = *state;
	struct launching launching = { .rig = rig };
	uint64_t *out, sum;
	struct node *head;
	pthread_t thread;

	rig_open(rig, 4 * MIB, NULL);
	rig_build(rig);
	head = scattered_list(rig, 500, &sum);
	out = rig_alloc(rig, PAGE);
	launching.kernel = rig_kernel(rig, "sum_list");
	rig_ulong(launching.kernel, 0, (uintptr_t)head);
	rig_ulong(launching.kernel, 1, (uintptr_t)out);
	assert_int_equal(pthread_create(&thread, NULL, launch_once, &launching), 0);
	while (rig_count(rig, UMM_COUNT_DUPLICATED) < 5)
		sched_yield();
	umm_ctx_put(rig->ctx);
	rig->ctx = NULL;
	rig->ocl = NULL;
	pthread_join(thread, NULL);
	assert_int_equal(launching.ret, 0);
}

/* The memory of the device fits in, and half of the table of its pages, which is half as large. */
static void a_device_for_which_there_is_no_address_space_says_so(void **state)
{
	struct rig *rig = *state;
	struct umm_opencl_options options = { .size = sizeof(options), .device_bytes = 512 * MIB };
	struct rlimit before, limit;
	unsigned long pages = 0;
	FILE *statm;
	int ret;

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
	rig_skip("sanitizers need all of the address space");
#endif
	rig_open(rig, 4 * MIB, NULL);
	options.device = umm_opencl_cl_device(rig->ocl);
	rig_close(rig);
	statm = fopen("/proc/self/statm", "r");
	assert_true(statm && fscanf(statm, "%lu", &pages) == 1);
	fclose(statm);
	assert_int_equal(getrlimit(RLIMIT_AS, &before), 0);
	limit = before;
	limit.rlim_cur = pages * PAGE + 640 * MIB;
	rig_logged("");
	assert_int_equal(setrlimit(RLIMIT_AS, &limit), 0);
	ret = umm_opencl_create(rig->ctx, &options, &rig->ocl);
	assert_int_equal(setrlimit(RLIMIT_AS, &before), 0);
	assert_int_equal(ret, -ENOMEM);
	assert_true(rig_logged("ulimit -v"));
	rig_open(rig, 4 * MIB, NULL);
	work_once(rig);
}

static void on_sigbus(int signo)
{
	(void)signo;
}

static bool handles_sigbus(void)
{
	struct sigaction now;

	assert_int_equal(sigaction(SIGBUS, NULL, &now), 0);
	return now.sa_handler == on_sigbus;
}

/* A compiler's own would remove its files when a page is missed, in the middle of a build. */
static void compilers_put_no_handler_over_that_of_sigbus(void **state)
{
	const struct sigaction ours = { .sa_handler = on_sigbus };
	struct rig *rig = *state;
	struct sigaction before;

	assert_int_equal(sigaction(SIGBUS, &ours, &before), 0);
	rig_open(rig, MIB, NULL);
	assert_true(handles_sigbus());
	rig_build(rig);
	work_once(rig);
	assert_true(handles_sigbus());
	assert_int_equal(sigaction(SIGBUS, &before, NULL), 0);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		/* First: compilers do it once in a process. */
		rig_test(compilers_put_no_handler_over_that_of_sigbus),
		rig_test(the_callers_device_context_or_queue_is_used),
		rig_test(an_out_of_order_queue_works),
		rig_test(a_device_is_found_by_names_in_any_case_and_by_type),
		rig_test(the_list_has_the_device_and_says_what_it_can_do),
		rig_test(options_that_make_no_sense_are_refused),
		rig_test(several_pools_hold_the_pages_like_one),
		rig_test(a_program_built_for_fewer_pools_is_refused),
		rig_test(the_callers_events_are_waited_for),
		rig_test(pages_go_from_device_to_device_of_one_context),
		rig_test(two_contexts_do_not_see_each_other),
		rig_test(a_device_for_which_there_is_no_address_space_says_so),
		rig_test(data_survives_the_device),
		rig_test(a_handle_that_is_not_a_live_device_is_einval),
		rig_test(a_launch_ends_with_enodev_when_its_device_is_destroyed),
		rig_test(the_same_when_the_core_destroys_it),
		rig_test(a_context_that_is_dropped_meanwhile_lives_until_the_launch_ends),
	};

	return rig_main("opencl device", tests, argc, argv);
}
