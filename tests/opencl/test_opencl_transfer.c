/* SPDX-License-Identifier: MIT */
/*
 * The copy op by itself, without a context: data through several pools, more commands
 * than the ring holds, and several threads that hand over batches at once.
 */
#include "rig.h"

#include <pthread.h>

#include "pools.h"
#include "transfer.h"

#define NFRAMES 6000 /* in four pools */
#define NCOPIES 5000 /* more events than the ring has room for */

struct bed {
	cl_context context;
	struct pools pools;
	struct transfer transfer;
	uint32_t *host; /* NFRAMES pages */
	uint32_t *back;
};

static int bed_setup(void **state)
{
	struct bed *bed = calloc(1, sizeof(*bed));

	assert_non_null(bed);
	bed->host = aligned_alloc(PAGE, NFRAMES * PAGE);
	bed->back = aligned_alloc(PAGE, NFRAMES * PAGE);
	assert_true(bed->host && bed->back);
	for (size_t i = 0; i < NFRAMES * PAGE / 4; i++)
		bed->host[i] = (uint32_t)i * 2654435761u;
	memset(bed->back, 0, NFRAMES * PAGE);
	*state = bed;
	return 0;
}

static int bed_teardown(void **state)
{
	struct bed *bed = *state;

	if (bed->context) {
		transfer_fini(&bed->transfer);
		pools_destroy(&bed->pools);
		clReleaseContext(bed->context);
	}
	free(bed->host);
	free(bed->back);
	free(bed);
	return 0;
}

static void bed_open(struct bed *bed)
{
	struct umm_opencl_options options = { .device_name = rig_device_name() };
	cl_device_id device;
	cl_int err;

	if (!options.device_name)
		rig_skip("%s", umm_opencl_advice());
	if (platform_choose(&options, &device))
		rig_skip("there is no OpenCL device '%s'", rig_device_name());
	bed->context = clCreateContext(NULL, 1, &device, NULL, NULL, &err);
	assert_int_equal(err, CL_SUCCESS);
	assert_int_equal(
		pools_create(&bed->pools, bed->context, device, NFRAMES * PAGE, 1600 * PAGE), 0);
	assert_int_equal(bed->pools.npools, 4);
	assert_int_equal(transfer_init(&bed->transfer, bed->context, device), 0);
}

static int run(struct bed *bed, const struct umm_copy *copies, unsigned ncopies)
{
	struct umm_fence *fence;
	int ret;

	if (umm_fence_create(&fence))
		return -ENOMEM;
	ret = transfer_start(&bed->transfer, &bed->pools, copies, ncopies, fence);
	if (!ret)
		ret = umm_fence_wait(fence, 60000);
	umm_fence_put(fence);
	return ret;
}

/* Page i of host memory lies in frame_of(i): neighbours are apart. */
static uint32_t frame_of(uint32_t i)
{
	return i * 7 % NFRAMES;
}

static struct umm_copy *scattered(uint32_t *host, enum umm_copy_dir dir, uint32_t first, uint32_t n)
{
	struct umm_copy *copies = calloc(n, sizeof(*copies));

	assert_non_null(copies);
	for (uint32_t i = 0; i < n; i++)
		copies[i] = (struct umm_copy){
			.dir = dir,
			.npages = 1,
			.frame = frame_of(first + i),
			.host = host + (first + i) * (PAGE / 4),
		};
	return copies;
}

static void one_large_copy_is_cut_at_the_pools(void **state)
{
	struct bed *bed = *state;
	struct umm_copy copy = { .dir = UMM_COPY_TO_DEVICE, .npages = NFRAMES };

	bed_open(bed);
	copy.host = bed->host;
	assert_int_equal(run(bed, &copy, 1), 0);
	copy.dir = UMM_COPY_FROM_DEVICE;
	copy.host = bed->back;
	assert_int_equal(run(bed, &copy, 1), 0);
	assert_memory_equal(bed->back, bed->host, NFRAMES * PAGE);
	/* Clear across the first border, and only that. */
	copy = (struct umm_copy){ .dir = UMM_COPY_TO_DEVICE, .npages = 200, .frame = 1500 };
	assert_int_equal(run(bed, &copy, 1), 0);
	copy = (struct umm_copy){ .dir = UMM_COPY_FROM_DEVICE, .npages = NFRAMES };
	copy.host = bed->back;
	assert_int_equal(run(bed, &copy, 1), 0);
	memset(bed->host + 1500 * (PAGE / 4), 0, 200 * PAGE);
	assert_memory_equal(bed->back, bed->host, NFRAMES * PAGE);
}

static void more_copies_than_the_ring_holds_complete(void **state)
{
	struct bed *bed = *state;
	struct umm_copy *copies;

	bed_open(bed);
	copies = scattered(bed->host, UMM_COPY_TO_DEVICE, 0, NCOPIES);
	assert_int_equal(run(bed, copies, NCOPIES), 0);
	free(copies);
	copies = scattered(bed->back, UMM_COPY_FROM_DEVICE, 0, NCOPIES);
	assert_int_equal(run(bed, copies, NCOPIES), 0);
	free(copies);
	assert_memory_equal(bed->back, bed->host, NCOPIES * PAGE);
}

/* Few pages at a time, which may go another way than many: the same memory all the same. */
static void few_pages_and_many_go_to_the_same_place(void **state)
{
	struct bed *bed = *state;
	struct umm_copy all = { .dir = UMM_COPY_TO_DEVICE, .npages = NFRAMES };

	bed_open(bed);
	all.host = bed->back; /* zero */
	assert_int_equal(run(bed, &all, 1), 0);
	for (uint32_t i = 0; i < NFRAMES; i += 7) {
		struct umm_copy few = { .dir = UMM_COPY_TO_DEVICE, .npages = 7, .frame = i };

		few.npages = NFRAMES - i < 7 ? NFRAMES - i : 7;
		few.host = bed->host + i * (PAGE / 4);
		assert_int_equal(run(bed, &few, 1), 0);
	}
	all.dir = UMM_COPY_FROM_DEVICE;
	assert_int_equal(run(bed, &all, 1), 0);
	assert_memory_equal(bed->back, bed->host, NFRAMES * PAGE);
	/* And back, with one that clears: across the border of two pools. */
	for (uint32_t i = 1597; i < 1604; i++) {
		struct umm_copy one = { .dir = UMM_COPY_FROM_DEVICE, .npages = 1, .frame = i };

		one.host = bed->back;
		assert_int_equal(run(bed, &one, 1), 0);
		assert_memory_equal(bed->back, bed->host + i * (PAGE / 4), PAGE);
	}
	all = (struct umm_copy){ .dir = UMM_COPY_TO_DEVICE, .npages = 7, .frame = 1597 };
	assert_int_equal(run(bed, &all, 1), 0);
	all = (struct umm_copy){ .dir = UMM_COPY_FROM_DEVICE, .npages = NFRAMES };
	all.host = bed->back;
	assert_int_equal(run(bed, &all, 1), 0);
	memset(bed->host + 1597 * (PAGE / 4), 0, 7 * PAGE);
	assert_memory_equal(bed->back, bed->host, NFRAMES * PAGE);
}

#define NTHREADS 4
#define SHARE	 (NFRAMES / NTHREADS)

struct mover {
	struct bed *bed;
	struct umm_copy *out, *in;
	int ret;
};

/* Batches of 100 commands, many under way at a time. */
static int start_all(struct bed *bed, const struct umm_copy *copies)
{
	struct umm_fence *fences[SHARE / 100];
	int ret = 0, status;

	for (unsigned i = 0; i < SHARE / 100; i++) {
		status = umm_fence_create(&fences[i]);
		if (status)
			return status;
		status = transfer_start(&bed->transfer, &bed->pools, copies + (size_t)i * 100, 100,
					fences[i]);
		ret = ret ? ret : status;
	}
	for (unsigned i = 0; i < SHARE / 100; i++) {
		status = umm_fence_wait(fences[i], 60000);
		ret = ret ? ret : status;
		umm_fence_put(fences[i]);
	}
	return ret;
}

static void *move(void *priv)
{
	struct mover *mover = priv;

	for (int turn = 0; turn < 5 && !mover->ret; turn++) {
		mover->ret = start_all(mover->bed, mover->out);
		if (!mover->ret)
			mover->ret = start_all(mover->bed, mover->in);
	}
	return NULL;
}

static void batches_of_several_threads_do_not_mix(void **state)
{
	struct bed *bed = *state;
	struct mover movers[NTHREADS] = { 0 };
	pthread_t threads[NTHREADS];

	bed_open(bed);
	for (uint32_t i = 0; i < NTHREADS; i++) {
		movers[i].bed = bed;
		movers[i].out = scattered(bed->host, UMM_COPY_TO_DEVICE, i * SHARE, SHARE);
		movers[i].in = scattered(bed->back, UMM_COPY_FROM_DEVICE, i * SHARE, SHARE);
		assert_int_equal(pthread_create(&threads[i], NULL, move, &movers[i]), 0);
	}
	for (uint32_t i = 0; i < NTHREADS; i++) {
		pthread_join(threads[i], NULL);
		assert_int_equal(movers[i].ret, 0);
		free(movers[i].out);
		free(movers[i].in);
	}
	assert_memory_equal(bed->back, bed->host, NFRAMES * PAGE);
}

#define bed_test(fn) cmocka_unit_test_setup_teardown(fn, bed_setup, bed_teardown)

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		bed_test(one_large_copy_is_cut_at_the_pools),
		bed_test(more_copies_than_the_ring_holds_complete),
		bed_test(few_pages_and_many_go_to_the_same_place),
		bed_test(batches_of_several_threads_do_not_mix),
	};

	return rig_main("opencl transfer", tests, argc, argv);
}
