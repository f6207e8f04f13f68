/* SPDX-License-Identifier: MIT */
/*
 * Memory that is kept only to be faster, and is given back: frames that nobody uses of a memory
 * whose device populates it, and recycled host frames. The device keeps a ledger of what its
 * pool has and of what came home, and lets no more come home than its budget says where the pages
 * may stay.
 */
#include <errno.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "harness.h"

#define NBLOCKS 4
#define NPAGES	(NBLOCKS * UMM_BLOCK_PAGES)
#define BLOCK	UMM_BLOCK_SIZE

static struct {
	char *frames;
	atomic_uint budget;	/* pages that pool and home may have together */
	atomic_uint held, home; /* pages that they have */
	atomic_uint populated, refused, forced;
} ledger;

static bool is_too_much(const struct umm_copy *copies, unsigned npages)
{
	if (!(copies[0].flags & UMM_COPY_MAY_STAY)) {
		atomic_fetch_add(&ledger.forced, 1);
		return false;
	}
	return atomic_load(&ledger.held) + atomic_load(&ledger.home) + npages >
	       atomic_load(&ledger.budget);
}

static int ledger_copy(void *priv, const struct umm_copy *copies, unsigned ncopies,
		       struct umm_fence *done)
{
	unsigned npages = 0;

	(void)priv;
	for (unsigned i = 0; i < ncopies; i++)
		npages += copies[i].npages;
	if (copies[0].dir == UMM_COPY_FROM_DEVICE) {
		if (is_too_much(copies, npages)) {
			atomic_fetch_add(&ledger.refused, 1);
			return -ENOMEM;
		}
		atomic_fetch_add(&ledger.home, npages);
	}
	copies_make(ledger.frames, copies, ncopies);
	umm_fence_signal(done, 0, 0);
	return 0;
}

static int ledger_populate(void *priv, struct umm_devmem *mem, uint32_t frame, uint32_t nframes)
{
	(void)priv;
	(void)mem;
	atomic_fetch_add(&ledger.populated, 1);
	atomic_fetch_add(&ledger.held, nframes);
	return madvise(ledger.frames + (size_t)frame * PAGE, nframes * PAGE, MADV_POPULATE_WRITE) ?
		       -ENOMEM :
		       0;
}

static void ledger_unpopulate(void *priv, struct umm_devmem *mem, uint32_t frame, uint32_t nframes)
{
	(void)priv;
	(void)mem;
	atomic_fetch_sub(&ledger.held, nframes);
	madvise(ledger.frames + (size_t)frame * PAGE, nframes * PAGE, MADV_DONTNEED);
}

static const struct umm_device_ops ledger_ops = {
	.size = sizeof(ledger_ops),
	.api = UMM_DEVICE_API,
	.name = "ledger",
	.copy = ledger_copy,
	.populate = ledger_populate,
	.unpopulate = ledger_unpopulate,
};

struct rig {
	struct umm_device *dev;
	struct umm_devmem *mem;
	char *p; /* NPAGES, filled */
};

static struct rig rig_open(struct env *e, unsigned budget)
{
	struct umm_devmem_options options = {
		.size = sizeof(options),
		.type = UMM_DEVMEM_COHERENT,
		.nframes = NPAGES,
	};
	uintptr_t raw = (uintptr_t)env_map(e, (NBLOCKS + 1) * BLOCK);
	struct rig rig;

	memset(&ledger, 0, sizeof(ledger));
	atomic_store(&ledger.budget, budget);
	options.base = ledger.frames = (char *)((raw + BLOCK - 1) & ~(uintptr_t)(BLOCK - 1));
	assert_int_equal(
		umm_device_create(e->ctx, &ledger_ops, NULL, UMM_DEVICE_INLINE_COPY, &rig.dev), 0);
	assert_int_equal(umm_devmem_add(rig.dev, &options, &rig.mem), 0);
	rig.p = env_alloc(e, NBLOCKS * BLOCK);
	fill(rig.p, NPAGES, 1);
	return rig;
}

static struct rig rig_open_lent(struct env *e, unsigned budget)
{
	struct rig rig = rig_open(e, budget);

	assert_int_equal(umm_migrate_to_device(e->ctx, rig.mem, rig.p, NBLOCKS * BLOCK), NPAGES);
	assert_int_equal(ledger.held, NPAGES);
	return rig;
}

static void rig_close(struct env *e, const struct rig *rig)
{
	assert_filled(rig->p, NPAGES, 1);
	umm_device_destroy(rig->dev);
	assert_state(e, rig->p, NPAGES, UMM_PAGE_SYSTEM);
	assert_filled(rig->p, NPAGES, 1);
}

static void free_frames_are_given_back_and_populated_again(struct env *e)
{
	struct rig rig = rig_open_lent(e, UINT32_MAX);

	assert_int_equal(umm_devmem_trim(rig.mem), 0);
	assert_int_equal(umm_migrate_to_system(e->ctx, rig.p, 2 * BLOCK), 2 * UMM_BLOCK_PAGES);
	assert_int_equal(umm_migrate_to_system(e->ctx, rig.p + 2 * BLOCK, PAGE), 1);
	/* Whole blocks of frames; what a page is in stays. */
	assert_int_equal(umm_devmem_trim(rig.mem), 2 * UMM_BLOCK_PAGES);
	assert_int_equal(ledger.held, 2 * UMM_BLOCK_PAGES);
	assert_int_equal(umm_devmem_trim(rig.mem), 0);
	assert_int_equal(umm_devmem_nfree(rig.mem), 2 * UMM_BLOCK_PAGES + 1);
	assert_filled(rig.p, NPAGES, 1);
	assert_int_equal(umm_migrate_to_device(e->ctx, rig.mem, rig.p, NBLOCKS * BLOCK),
			 2 * UMM_BLOCK_PAGES + 1);
	assert_int_equal(ledger.held, NPAGES);
	assert_int_equal(ledger.populated, NBLOCKS + 2);
	assert_state(e, rig.p, NPAGES, UMM_PAGE_COHERENT);
	rig_close(e, &rig);
}

static void driver_s_frames_are_not_given_back(struct env *e)
{
	struct rig rig = rig_open(e, UINT32_MAX);
	uint32_t frame;

	assert_int_equal(umm_devmem_alloc(rig.mem, 1, &frame), 0);
	assert_int_equal(umm_devmem_trim(rig.mem), 0);
	assert_int_equal(ledger.held, UMM_BLOCK_PAGES);
	umm_devmem_free(rig.mem, 1, &frame);
	assert_int_equal(umm_devmem_trim(rig.mem), UMM_BLOCK_PAGES);
	assert_int_equal(ledger.held, 0);
	rig_close(e, &rig);
}

static void memory_whose_device_does_not_ask_for_it_is_not_trimmed(struct env *e)
{
	struct ref_device *ref = env_device(e, NPAGES);

	assert_int_equal(umm_devmem_trim(ref->mem), 0);
	assert_int_equal(umm_devmem_trim(NULL), -EINVAL);
}

/* There is room for a block; as many frames as came home are given back for the next. */
static void request_for_home_makes_room_of_what_is_kept(struct env *e)
{
	struct rig rig = rig_open_lent(e, NPAGES + UMM_BLOCK_PAGES);

	assert_int_equal(umm_migrate_to_system(e->ctx, rig.p, NBLOCKS * BLOCK), NPAGES);
	assert_state(e, rig.p, NPAGES, UMM_PAGE_SYSTEM);
	assert_true(ledger.refused >= 1);
	assert_true(ledger.held <= UMM_BLOCK_PAGES);
	assert_int_equal(ledger.forced, 0);
	rig_close(e, &rig);
}

static void request_for_home_without_room_is_enomem_and_pages_stay(struct env *e)
{
	struct rig rig = rig_open_lent(e, 0);
	struct umm_stats stats = { .size = sizeof(stats) };

	assert_int_equal(umm_migrate_to_system(e->ctx, rig.p, NBLOCKS * BLOCK), -ENOMEM);
	assert_state(e, rig.p, NPAGES, UMM_PAGE_COHERENT);
	assert_int_equal(ledger.home, 0);
	assert_int_equal(umm_ctx_stats(e->ctx, &stats), 0);
	assert_int_equal(stats.cached_bytes, 0);
	/* An eviction is a request, too. */
	assert_int_equal(umm_devmem_evict(rig.mem, 1), -ENOSPC);
	assert_int_equal(ledger.home, 0);
	assert_state(e, rig.p, NPAGES, UMM_PAGE_COHERENT);
	rig_close(e, &rig);
}

static void fork_takes_no_more_than_there_is_while_that_will_do(struct env *e)
{
	struct rig rig = rig_open_lent(e, NPAGES + UMM_BLOCK_PAGES);
	int status = -1;
	pid_t pid = fork();

	if (!pid)
		_exit(0);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
	assert_int_equal(ledger.forced, 0);
	assert_int_equal(ledger.home, NPAGES);
	rig_close(e, &rig);
}

/* A process must be able to fork: what the budget does not allow comes home all the same. */
static void fork_brings_home_what_there_is_no_room_for(struct env *e)
{
	struct rig rig = rig_open_lent(e, 0);
	int status = -1;
	pid_t pid = fork();

	if (!pid)
		_exit(0);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
	assert_true(ledger.forced >= 1);
	assert_int_equal(ledger.home, NPAGES);
	rig_close(e, &rig);
}

static void removed_memory_has_given_its_frames_back(struct env *e)
{
	struct rig rig = rig_open_lent(e, 0);

	umm_devmem_remove(rig.mem);
	assert_int_equal(ledger.held, 0);
	assert_int_equal(ledger.home, NPAGES);
	rig_close(e, &rig);
}

static size_t kept(struct umm_ctx *ctx)
{
	struct umm_stats stats = { .size = sizeof(stats) };

	assert_int_equal(umm_ctx_stats(ctx, &stats), 0);
	return stats.cached_bytes;
}

static void send_away(struct umm_ctx *ctx, struct ref_device *ref, char *p)
{
	assert_int_equal(umm_migrate_to_system(ctx, p, NBLOCKS * BLOCK), NPAGES);
	assert_int_equal(umm_migrate_to_device(ctx, ref->mem, p, NBLOCKS * BLOCK), NPAGES);
}

static void recycled_frames_are_given_back_and_fewer_kept_from_then_on(struct env *e)
{
	struct umm_ctx_options options = { .size = sizeof(options), .frame_cache = 3 * BLOCK };
	struct ref_options device = { .nframes = NPAGES, .inline_copy = true };
	struct umm_probe_info info = { .size = sizeof(info) };
	struct ref_device *ref;
	struct umm_ctx *ctx;
	void *p;

	(void)e;
	if (umm_probe(&info) || !(info.kernel_features & UMM_KERNEL_MOVE))
		env_skip("without UFFDIO_MOVE no frames are kept");
	assert_int_equal(umm_ctx_create(&options, &ctx), 0);
	assert_int_equal(ref_create(ctx, &device, &ref), 0);
	assert_int_equal(umm_alloc(ctx, NBLOCKS * BLOCK, UMM_ALLOC_SMALL_PAGES, &p), 0);
	for (size_t i = 0; i < NPAGES; i++)
		page_fill((char *)p + i * PAGE, i, 1);
	assert_int_equal(umm_migrate_to_device(ctx, ref->mem, p, NBLOCKS * BLOCK), NPAGES);
	assert_int_equal(kept(ctx), 3 * BLOCK);
	assert_int_equal(umm_ctx_trim(ctx, BLOCK), 2 * UMM_BLOCK_PAGES);
	assert_int_equal(kept(ctx), BLOCK);
	assert_int_equal(umm_ctx_trim(ctx, BLOCK), 0);
	send_away(ctx, ref, p);
	assert_int_equal(kept(ctx), BLOCK);
	assert_int_equal(umm_ctx_trim(ctx, 0), UMM_BLOCK_PAGES);
	send_away(ctx, ref, p);
	assert_int_equal(kept(ctx), 0);
	/* No more than there is room for. */
	assert_int_equal(umm_ctx_trim(ctx, SIZE_MAX), 0);
	send_away(ctx, ref, p);
	assert_int_equal(kept(ctx), 3 * BLOCK);
	assert_filled(p, NPAGES, 1);
	assert_true(ref_destroy(ref));
	umm_ctx_put(ctx);
	assert_int_equal(umm_ctx_trim(NULL, 0), -EINVAL);
}

static const struct test_case cases[] = {
	TEST(ONCE, recycled_frames_are_given_back_and_fewer_kept_from_then_on),
	TEST(KERNEL, free_frames_are_given_back_and_populated_again),
	TEST(KERNEL, driver_s_frames_are_not_given_back),
	TEST(ONCE, memory_whose_device_does_not_ask_for_it_is_not_trimmed),
	TEST(KERNEL, request_for_home_makes_room_of_what_is_kept),
	TEST(KERNEL, request_for_home_without_room_is_enomem_and_pages_stay),
	TEST(KERNEL, fork_takes_no_more_than_there_is_while_that_will_do),
	TEST(KERNEL, fork_brings_home_what_there_is_no_room_for),
	TEST(KERNEL, removed_memory_has_given_its_frames_back),
};

int main(int argc, char **argv)
{
	return harness_main("test_reclaim", cases, sizeof(cases) / sizeof(cases[0]), argc, argv);
}
