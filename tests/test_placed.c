/* SPDX-License-Identifier: MIT */
/*
 * PLACED memories: every frame is for one page. The device is the smallest there can be: its
 * memory is an array of the test's, so that what lies in which frame is seen directly.
 */
#include "harness.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#define NPAGES	(2 * UMM_BLOCK_PAGES + 100)
#define FIRST	7 /* the memory is for the pages from here */
#define NFRAMES (NPAGES - 2 * FIRST)

struct bed {
	struct umm_device *dev;
	struct umm_devmem *mem;
	char *frames;	    /* NFRAMES pages */
	char *pages;	    /* NPAGES pages, managed */
	atomic_uint ncalls; /* of copy, that are over */
};

static int copy_pages(void *priv, const struct umm_copy *copies, unsigned ncopies,
		      struct umm_fence *done)
{
	struct bed *bed = priv;

	copies_make(bed->frames, copies, ncopies);
	atomic_fetch_add(&bed->ncalls, 1);
	umm_fence_signal(done, 0, 0);
	return 0;
}

static const struct umm_device_ops bed_ops = {
	.size = sizeof(struct umm_device_ops),
	.api = UMM_DEVICE_API,
	.name = "placed",
	.copy = copy_pages,
};

static void bed_open_with(struct env *e, struct bed *bed, const struct umm_device_ops *ops)
{
	struct umm_devmem_options options = { .size = sizeof(options),
					      .flags = UMM_DEVMEM_PLACED,
					      .nframes = NFRAMES };

	atomic_init(&bed->ncalls, 0);
	bed->frames = env_map(e, (NFRAMES * PAGE + BLOCK - 1) & ~(BLOCK - 1));
	bed->pages = env_attach(e, 3 * BLOCK);
	options.start = (uintptr_t)bed->pages + FIRST * PAGE;
	fill(bed->pages, NPAGES, 1);
	assert_int_equal(umm_device_create(e->ctx, ops, bed, UMM_DEVICE_INLINE_COPY, &bed->dev), 0);
	assert_int_equal(umm_devmem_add(bed->dev, &options, &bed->mem), 0);
}

static void bed_open(struct env *e, struct bed *bed)
{
	bed_open_with(e, bed, &bed_ops);
}

static long move_out(struct env *e, struct bed *bed, size_t first, size_t npages, uint64_t flags)
{
	struct umm_span span = { .start = (uintptr_t)bed->pages + first * PAGE,
				 .len = npages * PAGE };
	struct umm_migrate_request req = {
		.size = sizeof(req), .flags = flags, .spans = &span, .nspans = 1, .dst = bed->mem
	};

	return umm_migrate_spans(e->ctx, &req, NULL);
}

/* Pages first .. first + npages are in their frames, as they were filled. */
static void assert_placed(struct env *e, struct bed *bed, size_t first, size_t npages)
{
	struct umm_page_info info;

	for (size_t i = first; i < first + npages; i++) {
		assert_int_equal(umm_query(e->ctx, (uintptr_t)bed->pages + i * PAGE, 1, &info), 0);
		assert_int_equal(info.state, UMM_PAGE_DEVICE);
		assert_ptr_equal(info.mem, bed->mem);
		assert_int_equal(info.frame, i - FIRST);
		assert_true(page_filled(bed->frames + (i - FIRST) * PAGE, i, 1));
	}
}

static void every_page_goes_to_its_own_frame_in_any_order(struct env *e)
{
	struct bed bed;

	bed_open(e, &bed);
	assert_int_equal(move_out(e, &bed, 300, 3, 0), 3);
	assert_placed(e, &bed, 300, 3);
	assert_int_equal(move_out(e, &bed, FIRST, 1, 0), 1);
	assert_int_equal(move_out(e, &bed, 0, NPAGES, 0), NFRAMES - 4);
	assert_placed(e, &bed, FIRST, NFRAMES);
	assert_int_equal(umm_devmem_nfree(bed.mem), 0);
	assert_state(e, bed.pages, FIRST, UMM_PAGE_SYSTEM);
	umm_device_destroy(bed.dev);
	assert_filled(bed.pages, NPAGES, 1);
}

static void a_page_that_went_home_comes_back_to_its_frame(struct env *e)
{
	struct bed bed;

	bed_open(e, &bed);
	assert_int_equal(move_out(e, &bed, FIRST, NFRAMES, 0), NFRAMES);
	for (size_t i = FIRST; i < FIRST + NFRAMES; i += 50)
		assert_int_equal(touch_write(bed.pages + i * PAGE), 0);
	fill(bed.pages + 600 * PAGE, 1, 5);
	/* All faults are over; ThreadSanitizer knows when it sees the count. */
	assert_true(atomic_load(&bed.ncalls) > NFRAMES / 50);
	memset(bed.frames, 0, NFRAMES * PAGE);
	assert_true(move_out(e, &bed, 600, 1, 0) == 1);
	assert_true(page_filled(bed.frames + (600 - FIRST) * PAGE, 0, 5));
	to_system(e, bed.pages, 1, 0);
	umm_device_destroy(bed.dev);
}

static void pages_that_have_no_frame_there_stay(struct env *e)
{
	struct bed bed;

	bed_open(e, &bed);
	assert_int_equal(move_out(e, &bed, 0, FIRST, 0), 0);
	assert_int_equal(move_out(e, &bed, NPAGES - FIRST, FIRST, 0), 0);
	assert_state(e, bed.pages, FIRST, UMM_PAGE_SYSTEM);
	assert_int_equal(umm_devmem_nfree(bed.mem), NFRAMES);
	umm_device_destroy(bed.dev);
}

static void copies_of_duplicated_pages_are_placed_too(struct env *e)
{
	struct bed bed;

	bed_open(e, &bed);
	assert_int_equal(move_out(e, &bed, 0, NPAGES, UMM_MIGRATE_DUPLICATE), NFRAMES);
	assert_state(e, bed.pages + FIRST * PAGE, NFRAMES, UMM_PAGE_DUPLICATED);
	for (size_t i = FIRST; i < FIRST + NFRAMES; i++)
		assert_true(page_filled(bed.frames + (i - FIRST) * PAGE, i, 1));
	assert_int_equal(touch_write(bed.pages + 400 * PAGE), 0);
	wait_until(umm_devmem_nfree(bed.mem) == 1);
	page_fill(bed.pages + 400 * PAGE, 400, 1);
	assert_int_equal(move_out(e, &bed, 400, 1, 0), 1);
	assert_placed(e, &bed, 400, 1);
	umm_device_destroy(bed.dev);
	assert_filled(bed.pages, NPAGES, 1);
}

static void emptying_a_memory_leaves_copies_in_others_alone(struct env *e)
{
	struct ref_device *ref = env_device(e, 16);
	struct bed bed;

	bed_open(e, &bed);
	assert_int_equal(move_out(e, &bed, 100, 5, UMM_MIGRATE_DUPLICATE), 5);
	assert_int_equal(migrate(e, ref, bed.pages + 110 * PAGE, 5, UMM_MIGRATE_DUPLICATE), 5);
	assert_int_equal(umm_devmem_evict(ref->mem, 16), 0);
	assert_state(e, bed.pages + 100 * PAGE, 5, UMM_PAGE_DUPLICATED);
	assert_state(e, bed.pages + 110 * PAGE, 5, UMM_PAGE_SYSTEM);
	assert_int_equal(umm_devmem_nfree(bed.mem), NFRAMES - 5);
	umm_device_destroy(bed.dev);
	assert_filled(bed.pages, NPAGES, 1);
}

/* The page at its new address has the frame: nothing else can go there, and nobody waits for it. */
static void a_page_that_was_moved_away_keeps_the_frame(struct env *e)
{
	char *elsewhere = env_map(e, BLOCK);
	struct bed bed;
	char *page;

	bed_open(e, &bed);
	page = bed.pages + 50 * PAGE;
	assert_int_equal(move_out(e, &bed, 50, 1, 0), 1);
	assert_ptr_equal(mremap(page, PAGE, PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, elsewhere),
			 elsewhere);
	assert_ptr_equal(mmap(page, PAGE, PROT_READ | PROT_WRITE,
			      MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0),
			 page);
	assert_true(move_out(e, &bed, 50, 1, 0) <= 0);
	assert_true(page_filled(elsewhere, 50, 1));
	umm_device_destroy(bed.dev);
	assert_true(page_filled(elsewhere, 50, 1));
}

/* Which frames have memory: populate refuses the others. */
static struct {
	uint32_t limit;
	uint32_t first[4], nframes[4]; /* what was asked for, */
	unsigned ncalls;	       /* so often */
} sparse;

static int sparse_populate(void *priv, struct umm_devmem *mem, uint32_t frame, uint32_t nframes)
{
	(void)priv;
	(void)mem;
	assert_true(sparse.ncalls < 4);
	sparse.first[sparse.ncalls] = frame;
	sparse.nframes[sparse.ncalls++] = nframes;
	return frame + nframes <= sparse.limit ? 0 : -ENOSPC;
}

static void assert_populated(unsigned call, uint32_t first, uint32_t nframes)
{
	assert_true(sparse.ncalls > call);
	assert_int_equal(sparse.first[call], first);
	assert_int_equal(sparse.nframes[call], nframes);
}

/* Frame 512 is for page 519, which lies in the second block. */
static void frames_are_populated_before_their_first_use(struct env *e)
{
	struct umm_device_ops ops = bed_ops;
	struct bed bed;

	ops.populate = sparse_populate;
	memset(&sparse, 0, sizeof(sparse));
	sparse.limit = 512;
	bed_open_with(e, &bed, &ops);
	assert_int_equal(sparse.ncalls, 0);
	/* Nobody has a frame there. */
	assert_int_equal(move_out(e, &bed, 0, FIRST, 0), 0);
	assert_int_equal(sparse.ncalls, 0);
	assert_int_equal(move_out(e, &bed, 510, 9, 0), 9);
	assert_int_equal(sparse.ncalls, 1);
	assert_populated(0, 0, 512);
	/* What has no memory stays, and is asked for again. */
	assert_int_equal(move_out(e, &bed, 519, 1, 0), -ENOSPC);
	assert_int_equal(sparse.ncalls, 2);
	assert_populated(1, 512, 512);
	assert_int_equal(move_out(e, &bed, 515, 8, 0), -ENOSPC);
	assert_int_equal(sparse.ncalls, 3);
	assert_placed(e, &bed, 510, 9);
	assert_state(e, bed.pages + 519 * PAGE, 10, UMM_PAGE_SYSTEM);
	sparse.limit = NFRAMES;
	assert_int_equal(move_out(e, &bed, 510, 20, 0), 11);
	assert_int_equal(sparse.ncalls, 4);
	assert_placed(e, &bed, 510, 20);
	umm_device_destroy(bed.dev);
	assert_filled(bed.pages, NPAGES, 1);
}

static void options_of_placed_memory_are_checked(struct env *e)
{
	struct umm_devmem_options options = { .size = sizeof(options),
					      .flags = UMM_DEVMEM_PLACED,
					      .nframes = 16 };
	struct umm_devmem *mem = NULL;
	struct umm_device *dev;
	uint32_t frame;

	assert_int_equal(umm_device_create(e->ctx, &bed_ops, NULL, 0, &dev), 0);
	assert_int_equal(umm_devmem_add(dev, &options, &mem), -EINVAL);
	options.start = PAGE + 1;
	assert_int_equal(umm_devmem_add(dev, &options, &mem), -EINVAL);
	options.start = ((uintptr_t)1 << 47) - PAGE;
	assert_int_equal(umm_devmem_add(dev, &options, &mem), -EINVAL);
	options.start = PAGE;
	options.type = UMM_DEVMEM_COHERENT;
	assert_int_equal(umm_devmem_add(dev, &options, &mem), -EINVAL);
	options.type = UMM_DEVMEM_PRIVATE;
	options.flags = 0;
	assert_int_equal(umm_devmem_add(dev, &options, &mem), -EINVAL);
	options.flags = 2;
	assert_int_equal(umm_devmem_add(dev, &options, &mem), -EINVAL);
	assert_null(mem);
	options.flags = UMM_DEVMEM_PLACED;
	assert_int_equal(umm_devmem_add(dev, &options, &mem), 0);
	assert_int_equal(umm_devmem_alloc(mem, 1, &frame), -EINVAL);
	umm_device_destroy(dev);
}

int main(int argc, char **argv)
{
	const struct test_case cases[] = {
		TEST(KERNEL, every_page_goes_to_its_own_frame_in_any_order),
		TEST(KERNEL, a_page_that_went_home_comes_back_to_its_frame),
		TEST(ONCE, pages_that_have_no_frame_there_stay),
		TEST(KERNEL, copies_of_duplicated_pages_are_placed_too),
		TEST(KERNEL, emptying_a_memory_leaves_copies_in_others_alone),
		TEST(ONCE, a_page_that_was_moved_away_keeps_the_frame),
		TEST(ONCE, frames_are_populated_before_their_first_use),
		TEST(ONCE, options_of_placed_memory_are_checked),
	};

	return harness_main("placed", cases, sizeof(cases) / sizeof(cases[0]), argc, argv);
}
