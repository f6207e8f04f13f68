/* SPDX-License-Identifier: MIT */
/*
 * Devices of two OpenCL implementations in one context: they share no OpenCL context, no queue and
 * no memory, so that pages go from one to the other by way of the host, and each has a mirror of
 * its own to keep right.
 */
#include "rig.h"

#include <pthread.h>
#include <stdatomic.h>

#define WORDS  (PAGE / 4)
#define NPAGES ((size_t)40)
#define TURNS  8

/* The device that the tests are about, and one of another platform. */
struct pair {
	struct rig *rig[2];
	struct rig other;
};

struct search {
	cl_platform_id except;
	cl_device_id found;
};

static int find_other(void *priv, const struct umm_opencl_info *info)
{
	struct search *search = priv;

	if (!info->device || info->usable || info->platform == search->except)
		return 0;
	search->found = info->device;
	return 1;
}

static void pair_open(struct pair *pair, void **state, size_t device_bytes)
{
	/* Nothing but what is asked for. */
	struct umm_opencl_options options = { .size = sizeof(options), .readahead = 1 };
	struct search search = { 0 };

	memset(pair, 0, sizeof(*pair));
	pair->rig[0] = *state;
	pair->rig[1] = &pair->other;
	rig_open(pair->rig[0], device_bytes, &options);
	clGetDeviceInfo(umm_opencl_cl_device(pair->rig[0]->ocl), CL_DEVICE_PLATFORM,
			sizeof(cl_platform_id), &search.except, NULL);
	umm_opencl_list(find_other, &search);
	if (!search.found)
		rig_skip("%s is of the only platform that has a device", rig_device_name());
	options.device = search.found;
	pair->other.ctx = pair->rig[0]->ctx;
	rig_open(&pair->other, device_bytes, &options);
	rig_build(pair->rig[0]);
	rig_build(&pair->other);
}

static void pair_close(struct pair *pair)
{
	rig_close(&pair->other);
}

/* A load of each page. */
static struct umm_opencl_result read_pages(struct rig *rig, cl_kernel kernel, const uint32_t *words,
					   size_t npages)
{
	rig_ulong(kernel, 0, (uintptr_t)words);
	rig_ulong(kernel, 1, PAGE);
	return rig_launch(rig, kernel, npages);
}

/* Pages that this device has for itself. */
static size_t pages_of(struct rig *rig, const uint32_t *words, size_t npages)
{
	struct umm_page_info info;
	size_t n = 0;

	for (size_t i = 0; i < npages; i++) {
		assert_int_equal(umm_query(rig->ctx, (uintptr_t)(words + i * WORDS), 1, &info), 0);
		n += info.state == UMM_PAGE_DEVICE && info.mem == umm_opencl_devmem(rig->ocl);
	}
	return n;
}

static uint32_t mapped(uint32_t value, int times)
{
	while (times--)
		value = 3 * value + 1;
	return value;
}

static void what_one_changes_the_other_changes_further(void **state)
{
	struct umm_opencl_result result;
	cl_kernel kernels[2];
	struct pair pair;
	uint32_t *words;

	pair_open(&pair, state, 4 * MIB);
	words = rig_numbered(pair.rig[0], NPAGES);
	for (int i = 0; i < 2; i++)
		kernels[i] = rig_map(pair.rig[i], words, words);
	for (int turn = 0; turn < TURNS; turn++) {
		result = rig_launch(pair.rig[turn % 2], kernels[turn % 2], NPAGES * WORDS);
		assert_true(result.faults >= NPAGES);
		assert_int_equal(pages_of(pair.rig[turn % 2], words, NPAGES), NPAGES);
		/* Again by the same: nothing has to come. */
		result = rig_launch(pair.rig[turn % 2], kernels[turn % 2], NPAGES * WORDS);
		assert_int_equal(result.rounds, 1);
	}
	for (uint32_t i = 0; i < NPAGES * WORDS; i++)
		assert_int_equal(words[i], mapped(i, 2 * TURNS));
	pair_close(&pair);
}

static void both_and_the_cpu_read_the_same_pages_until_one_writes(void **state)
{
	uint32_t *words, *out;
	cl_kernel load[2], map[2];
	struct pair pair;

	pair_open(&pair, state, 4 * MIB);
	words = rig_numbered(pair.rig[0], NPAGES);
	out = rig_numbered(pair.rig[0], NPAGES);
	for (int i = 0; i < 2; i++) {
		load[i] = rig_kernel(pair.rig[i], "load");
		map[i] = rig_map(pair.rig[i], words, out);
		assert_int_equal(read_pages(pair.rig[i], load[i], words, NPAGES).pages_migrated,
				 NPAGES);
	}
	assert_int_equal(rig_pages_in(pair.rig[0], words, NPAGES * PAGE, UMM_PAGE_DUPLICATED),
			 NPAGES);
	/* The first looks once more at what the second copied, and has it. */
	for (int i = 0; i < 2; i++)
		assert_int_equal(read_pages(pair.rig[i], load[i], words, NPAGES).pages_migrated, 0);
	for (int i = 0; i < 2; i++)
		assert_int_equal(read_pages(pair.rig[i], load[i], words, NPAGES).faults, 0);
	/* The CPU writes two pages: both mirrors forget those, and no others. */
	words[3] = 1000;
	words[7 * WORDS + 1] = 2000;
	for (int i = 0; i < 2; i++)
		assert_int_equal(read_pages(pair.rig[i], load[i], words, NPAGES).pages_migrated, 2);
	for (int i = 0; i < 2; i++) {
		rig_launch(pair.rig[i], map[i], NPAGES * WORDS);
		assert_int_equal(pages_of(pair.rig[i], out, NPAGES), NPAGES);
		/* The first turn of each writes what it read, not what the other had. */
		assert_int_equal(out[3], 3001);
		assert_int_equal(out[7 * WORDS + 1], 6001);
		assert_int_equal(out[NPAGES * WORDS - 1], mapped(NPAGES * WORDS - 1, 1));
		words[3] = 1000;
	}
	pair_close(&pair);
}

static void with_a_quarter_of_the_memory_each_they_take_turns(void **state)
{
	size_t npages = 4 * NPAGES;
	cl_kernel kernels[2];
	struct pair pair;
	uint32_t *words;

	pair_open(&pair, state, NPAGES * PAGE);
	words = rig_numbered(pair.rig[0], npages);
	for (int i = 0; i < 2; i++)
		kernels[i] = rig_map(pair.rig[i], words, words);
	for (int turn = 0; turn < 4; turn++)
		rig_launch(pair.rig[turn % 2], kernels[turn % 2], npages * WORDS);
	assert_true(rig_count(pair.rig[0], UMM_COUNT_EVICTIONS) > 0);
	assert_true(rig_count(pair.rig[1], UMM_COUNT_EVICTIONS) > 0);
	for (uint32_t i = 0; i < npages * WORDS; i++)
		assert_int_equal(words[i], mapped(i, 4));
	pair_close(&pair);
}

/* Half of each page is one device's; both run at once, and so does the CPU, on the last word. */
struct half {
	struct rig *rig;
	cl_kernel kernel;
	atomic_int failed;
};

static void *half_main(void *priv)
{
	struct half *half = priv;
	struct umm_opencl_result result;

	for (int turn = 0; turn < TURNS; turn++)
		if (rig_try(half->rig, half->kernel, WORDS / 2 - 1, &result))
			atomic_store(&half->failed, 1);
	return NULL;
}

static void both_at_once_and_the_cpu_share_a_page(void **state)
{
	struct half halves[2] = { 0 };
	pthread_t threads[2];
	struct pair pair;
	volatile uint32_t *last;
	uint32_t *words;

	pair_open(&pair, state, 4 * MIB);
	words = rig_numbered(pair.rig[0], 1);
	last = &words[WORDS - 1];
	*last = 0;
	for (int i = 0; i < 2; i++) {
		halves[i].rig = pair.rig[i];
		halves[i].kernel = rig_map(pair.rig[i], words + (size_t)i * WORDS / 2,
					   words + (size_t)i * WORDS / 2);
		assert_int_equal(pthread_create(&threads[i], NULL, half_main, &halves[i]), 0);
	}
	for (int i = 0; i < 100; i++)
		++*last;
	for (int i = 0; i < 2; i++) {
		pthread_join(threads[i], NULL);
		assert_int_equal(atomic_load(&halves[i].failed), 0);
	}
	assert_int_equal(*last, 100);
	for (uint32_t i = 0; i < WORDS - 1; i++)
		if (i % (WORDS / 2) != WORDS / 2 - 1)
			assert_int_equal(words[i], mapped(i, TURNS));
	assert_int_equal(words[WORDS / 2 - 1], WORDS / 2 - 1);
	pair_close(&pair);
}

static void a_window_of_one_has_what_the_other_wrote(void **state)
{
	struct umm_opencl_window *window;
	cl_kernel map, plain;
	struct pair pair;
	size_t items = NPAGES * WORDS;
	uint32_t *words;
	cl_event event;
	cl_mem mem;

	pair_open(&pair, state, 4 * MIB);
	words = rig_numbered(pair.rig[0], NPAGES);
	map = rig_map(pair.rig[0], words, words);
	plain = rig_kernel(&pair.other, "plain_map");
	assert_int_equal(umm_opencl_window_create(pair.other.ocl, words, NPAGES * PAGE, 0, &window),
			 0);
	for (int turn = 0; turn < 2; turn++) {
		rig_launch(pair.rig[0], map, items);
		assert_int_equal(
			umm_opencl_window_acquire(window, UMM_OPENCL_READ | UMM_OPENCL_WRITE, &mem),
			0);
		assert_int_equal(clSetKernelArg(plain, 0, sizeof(mem), &mem), CL_SUCCESS);
		assert_int_equal(clEnqueueNDRangeKernel(umm_opencl_cl_queue(pair.other.ocl), plain,
							1, NULL, &items, NULL, 0, NULL, &event),
				 CL_SUCCESS);
		assert_int_equal(umm_opencl_window_release(window, 1, &event), 0);
		clReleaseEvent(event);
	}
	for (uint32_t i = 0; i < items; i++)
		assert_int_equal(words[i], mapped(i, 4));
	umm_opencl_window_destroy(window);
	pair_close(&pair);
}

static void when_one_goes_the_other_and_the_data_stay(void **state)
{
	cl_kernel kernels[2];
	struct pair pair;
	uint32_t *words;

	pair_open(&pair, state, 4 * MIB);
	words = rig_numbered(pair.rig[0], NPAGES);
	for (int i = 0; i < 2; i++)
		kernels[i] = rig_map(pair.rig[i], words, words);
	rig_launch(pair.rig[0], kernels[0], NPAGES * WORDS);
	rig_launch(&pair.other, kernels[1], NPAGES * WORDS / 2);
	pair_close(&pair);
	assert_int_equal(pages_of(pair.rig[0], words, NPAGES), NPAGES / 2);
	rig_launch(pair.rig[0], kernels[0], NPAGES * WORDS);
	for (uint32_t i = 0; i < NPAGES * WORDS; i++)
		assert_int_equal(words[i], mapped(i, i < NPAGES * WORDS / 2 ? 3 : 2));
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		rig_test(what_one_changes_the_other_changes_further),
		rig_test(both_and_the_cpu_read_the_same_pages_until_one_writes),
		rig_test(with_a_quarter_of_the_memory_each_they_take_turns),
		rig_test(both_at_once_and_the_cpu_share_a_page),
		rig_test(a_window_of_one_has_what_the_other_wrote),
		rig_test(when_one_goes_the_other_and_the_data_stay),
	};

	return rig_main("opencl-platforms", tests, argc, argv);
}
