/* SPDX-License-Identifier: MIT */
/*
 * Device memory that is mapped while many pages come. What the backend's files do is tested on
 * every device, as if the host reached its memory in no other way.
 */
#include "rig.h"

#include <pthread.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "device.h"
#include "mapping.h"

#define NFRAMES ((uint32_t)4096) /* in four pools */
#define TURNS	50

struct bed {
	struct umm_opencl ocl;
	void *host[PLATFORM_MAX_POOLS]; /* how else the memory is reached */
	char *words, *back;		/* NFRAMES pages */
};

static int bed_setup(void **state)
{
	struct bed *bed = calloc(1, sizeof(*bed));

	assert_non_null(bed);
	bed->words = aligned_alloc(PAGE, NFRAMES * PAGE);
	bed->back = aligned_alloc(PAGE, NFRAMES * PAGE);
	assert_true(bed->words && bed->back);
	for (size_t i = 0; i < NFRAMES * PAGE / 4; i++)
		((uint32_t *)bed->words)[i] = (uint32_t)i * 2654435761u;
	memset(bed->back, 0, NFRAMES * PAGE);
	*state = bed;
	return 0;
}

static int bed_teardown(void **state)
{
	struct bed *bed = *state;

	if (bed->ocl.context) {
		transfer_fini(&bed->ocl.transfer);
		memcpy(bed->ocl.pools.host, bed->host, sizeof(bed->host));
		pools_destroy(&bed->ocl.pools);
		clReleaseContext(bed->ocl.context);
	}
	free(bed->words);
	free(bed->back);
	free(bed);
	return 0;
}

static struct umm_opencl *bed_open(struct bed *bed)
{
	struct umm_opencl_options options = { .device_name = rig_device_name() };
	struct umm_opencl *ocl = &bed->ocl;
	cl_int err;

	if (!options.device_name)
		rig_skip("%s", umm_opencl_advice());
	if (platform_choose(&options, &ocl->device))
		rig_skip("there is no OpenCL device '%s'", rig_device_name());
	ocl->context = clCreateContext(NULL, 1, &ocl->device, NULL, NULL, &err);
	assert_int_equal(err, CL_SUCCESS);
	assert_int_equal(pools_create(&ocl->pools, ocl->context, ocl->device, NFRAMES * PAGE,
				      NFRAMES / 4 * PAGE),
			 0);
	assert_int_equal(transfer_init(&ocl->transfer, ocl->context, ocl->device), 0);
	memcpy(bed->host, ocl->pools.host, sizeof(bed->host));
	memset(ocl->pools.host, 0, sizeof(bed->host));
	ocl->pools.may_map = true;
	mapping_open(ocl);
	assert_true(ocl->pools.may_map);
	assert_false(mapping_is(ocl));
	return ocl;
}

/* `npages` from frame `first` on, to or from the same page of `host`. */
static int copy(struct bed *bed, enum umm_copy_dir dir, char *host, uint32_t first, uint32_t npages)
{
	struct umm_copy copies = {
		.dir = dir, .npages = npages, .frame = first, .host = host + (size_t)first * PAGE
	};
	struct umm_fence *fence;
	int ret = umm_fence_create(&fence);

	if (ret)
		return ret;
	ret = transfer_start(&bed->ocl.transfer, &bed->ocl.pools, &copies, 1, fence);
	if (!ret)
		ret = umm_fence_wait(fence, 60000);
	umm_fence_put(fence);
	return ret;
}

static void commands_and_mappings_reach_the_same_frames(void **state)
{
	struct bed *bed = *state;
	struct umm_opencl *ocl = bed_open(bed);

	assert_int_equal(ocl->pools.npools, 4);
	assert_int_equal(copy(bed, UMM_COPY_TO_DEVICE, bed->words, 0, NFRAMES / 2 + 3), 0);
	mapping_begin(ocl);
	assert_true(mapping_is(ocl));
	for (uint32_t i = 0; i < NFRAMES / 2 + 3; i++)
		assert_memory_equal(mapping_host(&ocl->pools, i), bed->words + i * PAGE, PAGE);
	/* What has its place in the memory already, and what is copied. */
	for (uint32_t i = NFRAMES / 2 + 3; i < NFRAMES - 100; i++)
		memcpy(mapping_host(&ocl->pools, i), bed->words + i * PAGE, PAGE);
	assert_int_equal(copy(bed, UMM_COPY_TO_DEVICE, bed->words, NFRAMES - 100, 100), 0);
	assert_int_equal(copy(bed, UMM_COPY_FROM_DEVICE, bed->back, 0, NFRAMES), 0);
	assert_memory_equal(bed->back, bed->words, NFRAMES * PAGE);
	mapping_end(ocl);
	assert_false(mapping_is(ocl));
	memset(bed->back, 0, NFRAMES * PAGE);
	assert_int_equal(copy(bed, UMM_COPY_FROM_DEVICE, bed->back, 0, NFRAMES), 0);
	assert_memory_equal(bed->back, bed->words, NFRAMES * PAGE);
}

struct other {
	struct bed *bed;
	void *before, *joined, *after;
};

static void *look(void *priv)
{
	struct other *other = priv;
	struct umm_opencl *ocl = &other->bed->ocl;

	other->before = mapping_host(&ocl->pools, 1);
	mapping_join(ocl);
	other->joined = mapping_host(&ocl->pools, 1);
	mapping_leave();
	other->after = mapping_host(&ocl->pools, 1);
	return NULL;
}

static struct other ask_another(struct bed *bed)
{
	struct other other = { .bed = bed };
	pthread_t thread;

	assert_int_equal(pthread_create(&thread, NULL, look, &other), 0);
	pthread_join(thread, NULL);
	return other;
}

/* Nobody knows when others have done with a frame. */
static void frames_are_for_those_alone_whom_the_mapping_waits_for(void **state)
{
	struct bed *bed = *state;
	struct umm_opencl *ocl = bed_open(bed);
	struct pools stranger = { .npools = 1, .pool_frames = 2 };
	struct other other;

	assert_null(mapping_host(&ocl->pools, 1));
	mapping_begin(ocl);
	assert_non_null(mapping_host(&ocl->pools, 1));
	assert_null(mapping_host(&stranger, 1));
	other = ask_another(bed);
	assert_null(other.before);
	assert_ptr_equal(other.joined, mapping_host(&ocl->pools, 1));
	assert_null(other.after);
	mapping_end(ocl);
	assert_null(mapping_host(&ocl->pools, 1));
	assert_null(ask_another(bed).joined);
}

struct finisher {
	struct umm_opencl *ocl;
	int tid; /* of who ends the mapping */
};

static void *finish_copy(void *priv)
{
	struct finisher *finisher = priv;
	struct umm_opencl *ocl = finisher->ocl;
	struct transfer *transfer = &ocl->transfer;

	rig_eventually(rig_sleeps(finisher->tid));
	pthread_mutex_lock(&transfer->lock);
	assert_int_equal(transfer->nmapped, 1);
	/* As the copy sees it, until it has ended. */
	assert_true(mapping_is(ocl));
	transfer->nmapped = 0;
	pthread_cond_signal(&transfer->copied);
	pthread_mutex_unlock(&transfer->lock);
	return NULL;
}

static void a_mapping_lasts_until_the_copies_that_use_it_have_ended(void **state)
{
	struct bed *bed = *state;
	struct umm_opencl *ocl = bed_open(bed);
	struct finisher finisher = { ocl, (int)syscall(SYS_gettid) };
	pthread_t thread;

	mapping_begin(ocl);
	ocl->transfer.nmapped = 1;
	assert_int_equal(pthread_create(&thread, NULL, finish_copy, &finisher), 0);
	mapping_end(ocl);
	assert_int_equal(ocl->transfer.nmapped, 0);
	assert_false(mapping_is(ocl));
	pthread_join(thread, NULL);
}

struct copier {
	struct bed *bed;
	_Atomic bool stop;
	uint32_t first;
	_Atomic unsigned ncopies;
	int ret;
};

static void *copy_on_and_on(void *priv)
{
	struct copier *copier = priv;
	uint32_t npages = 1;

	while (!copier->ret && !copier->stop) {
		npages = npages % 200 + 1;
		copier->ret = copy(copier->bed, UMM_COPY_TO_DEVICE, copier->bed->words,
				   copier->first, npages);
		if (!copier->ret)
			copier->ret = copy(copier->bed, UMM_COPY_FROM_DEVICE, copier->bed->back,
					   copier->first, npages);
		copier->ncopies++;
	}
	return NULL;
}

/* As faults of CPUs, and evictions, copy at any time. */
static void copies_go_on_while_memory_is_mapped_and_unmapped(void **state)
{
	struct bed *bed = *state;
	struct umm_opencl *ocl = bed_open(bed);
	struct copier copiers[2];
	pthread_t threads[2];

	for (unsigned i = 0; i < 2; i++) {
		copiers[i] = (struct copier){ .bed = bed, .first = i * NFRAMES / 2 - i * 100 };
		assert_int_equal(pthread_create(&threads[i], NULL, copy_on_and_on, &copiers[i]), 0);
	}
	for (unsigned turn = 0; turn < TURNS || !copiers[0].ncopies || !copiers[1].ncopies;
	     turn++) {
		uint32_t frame = 1000 + turn % TURNS;

		mapping_begin(ocl);
		assert_true(mapping_is(ocl));
		memcpy(mapping_host(&ocl->pools, frame), bed->words + frame * PAGE, PAGE);
		mapping_end(ocl);
		assert_int_equal(copy(bed, UMM_COPY_FROM_DEVICE, bed->back, frame, 1), 0);
		assert_memory_equal(bed->back + frame * PAGE, bed->words + frame * PAGE, PAGE);
	}
	for (unsigned i = 0; i < 2; i++) {
		copiers[i].stop = true;
		pthread_join(threads[i], NULL);
		assert_int_equal(copiers[i].ret, 0);
		assert_memory_equal(bed->back + copiers[i].first * PAGE,
				    bed->words + copiers[i].first * PAGE, PAGE);
	}
}

/* Does the host reach the rig's device memory, at any time or mapped? */
static bool is_reachable(struct rig *rig)
{
	struct platform_limits limits;

	platform_limits(umm_opencl_cl_device(rig->ocl), &limits);
	return limits.unified || limits.fine_grain;
}

static void pages_that_are_read_go_straight_into_their_frames(void **state)
{
	struct rig *rig = *state;
	size_t npages = 2048;
	struct umm_opencl_result result;
	uint64_t copies;
	cl_kernel kernel;
	uint32_t *in;

	rig_open_counting(rig, 32 * MIB);
	if (!is_reachable(rig))
		rig_skip("its memory is not the host's");
	in = rig_numbered(rig, npages);
	copies = rig_count(rig, UMM_COUNT_COPIES);
	kernel = rig_kernel(rig, "load");
	rig_ulong(kernel, 0, (uintptr_t)in);
	/* In one piece, and scattered. */
	for (size_t step = 1; step <= 2; step++) {
		rig_ulong(kernel, 1, step * PAGE);
		result = rig_launch(rig, kernel, npages / 2);
		assert_int_equal(result.pages_migrated, npages / 2 / step);
	}
	assert_int_equal(rig_count(rig, UMM_COUNT_COPIES), copies);
	assert_int_equal(rig_pages_in(rig, in, npages * PAGE, UMM_PAGE_DUPLICATED),
			 npages / 2 + npages / 4);
}

static void what_came_by_a_mapping_is_computed_with_and_comes_home(void **state)
{
	struct rig *rig = *state;
	size_t npages = 1024;
	uint32_t *in, *out;
	cl_kernel kernel;

	rig_open_counting(rig, 32 * MIB);
	in = rig_numbered(rig, npages);
	out = rig_alloc(rig, npages * PAGE);
	kernel = rig_map(rig, in, out);
	for (uint32_t turn = 0; turn < 3; turn++) {
		rig_launch(rig, kernel, npages * PAGE / 4);
		for (size_t i = 0; i < npages * PAGE / 4; i++) {
			assert_int_equal(out[i], 3 * in[i] + 1);
			in[i] += turn;
		}
	}
}

#define bed_test(fn) cmocka_unit_test_setup_teardown(fn, bed_setup, bed_teardown)

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		bed_test(commands_and_mappings_reach_the_same_frames),
		bed_test(frames_are_for_those_alone_whom_the_mapping_waits_for),
		bed_test(a_mapping_lasts_until_the_copies_that_use_it_have_ended),
		bed_test(copies_go_on_while_memory_is_mapped_and_unmapped),
		rig_test(pages_that_are_read_go_straight_into_their_frames),
		rig_test(what_came_by_a_mapping_is_computed_with_and_comes_home),
	};

	return rig_main("opencl-mapping", tests, argc, argv);
}
