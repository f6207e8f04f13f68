/* SPDX-License-Identifier: MIT */
/*
 * Contexts and memory: life of a context, allocation, attaching, every argument that
 * must be refused, and threads that are cancelled.
 */
#include "harness.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

static bool is_mapped(void *addr)
{
	unsigned char vec;

	return mincore(addr, PAGE, &vec) == 0;
}

/* ---- contexts ----------------------------------------------------------------------- */

static void context_lives_until_the_last_put(struct env *e)
{
	char *p = env_alloc(e, PAGE);

	assert_ptr_equal(umm_ctx_get(e->ctx), e->ctx);
	fill(p, 1, 1);
	umm_ctx_put(e->ctx);
	assert_state(e, p, 1, UMM_PAGE_SYSTEM);
	assert_filled(p, 1, 1);
	env_close(e);
	assert_false(is_mapped(p));
}

static void put_of_null_does_nothing(struct env *e)
{
	(void)e;
	umm_ctx_put(NULL);
	umm_device_destroy(NULL);
	umm_devmem_remove(NULL);
	umm_fence_put(NULL);
	assert_int_equal(umm_mirror_unregister(NULL), 0);
	assert_int_equal(umm_notifier_remove(NULL), 0);
}

static void contexts_do_not_know_each_other(struct env *e)
{
	struct ref_options options = { .nframes = 64, .inline_copy = true };
	struct ref_device *mine = env_device(e, 64), *theirs;
	char *p = env_alloc(e, 8 * PAGE);
	uint64_t entries[8];
	struct umm_range range = { .size = sizeof(range), .entries = entries };
	struct umm_ctx *other;
	void *q;

	assert_int_equal(umm_ctx_create(NULL, &other), 0);
	assert_int_equal(umm_alloc(other, 8 * PAGE, 0, &q), 0);
	assert_int_equal(ref_create(other, &options, &theirs), 0);
	fill(p, 8, 1);
	fill(q, 8, 2);

	assert_state(e, q, 8, UMM_PAGE_UNMANAGED);
	assert_int_equal(umm_free(e->ctx, q), -EFAULT);
	assert_int_equal(umm_free(other, p), -EFAULT);
	assert_int_equal(umm_migrate_to_device(e->ctx, mine->mem, q, 8 * PAGE), -EFAULT);
	assert_int_equal(umm_migrate_to_device(e->ctx, theirs->mem, p, 8 * PAGE), -EINVAL);

	range.notifier = umm_mirror_notifier(mine->mirror);
	range.seq = umm_notifier_read_begin(range.notifier);
	range.start = (uintptr_t)p;
	range.end = range.start + 8 * PAGE;
	range.owner = theirs->dev;
	assert_int_equal(umm_range_snapshot(&range), -EINVAL);
	assert_int_equal(umm_range_fault(&range, 0), -EINVAL);
	range.owner = mine->dev;
	range.mem = theirs->mem;
	assert_int_equal(umm_range_snapshot(&range), -EINVAL);

	to_device(e, mine, p, 8, 8);
	assert_int_equal(umm_migrate_to_device(other, theirs->mem, q, 8 * PAGE), 8);
	assert_filled(q, 8, 2);
	assert_filled(p, 8, 1);
	assert_true(ref_destroy(theirs));
	umm_ctx_put(other);
	assert_filled(p, 8, 1);
}

static void contexts_come_and_go_in_many_threads_worker(void *arg)
{
	atomic_uint *good = arg;
	struct ref_options options = { .nframes = 16 };
	struct ref_device *ref;
	struct umm_ctx *ctx;
	void *p;
	int i;

	for (i = 0; i < 10; i++) {
		if (umm_ctx_create(NULL, &ctx))
			return;
		if (umm_alloc(ctx, 4 * PAGE, 0, &p) || ref_create(ctx, &options, &ref))
			return;
		page_fill(p, 0, (unsigned)i);
		if (umm_migrate_to_device(ctx, ref->mem, p, 4 * PAGE) != 4)
			return;
		if (!page_filled(p, 0, (unsigned)i))
			return;
		umm_ctx_put(ctx);
		if (!ref_destroy(ref))
			return;
	}
	atomic_fetch_add(good, 1);
}

static void contexts_come_and_go_in_many_threads(struct env *e)
{
	struct actor actors[4];
	atomic_uint good = 0;
	unsigned i;

	(void)e;
	for (i = 0; i < 4; i++)
		actor_start(&actors[i], contexts_come_and_go_in_many_threads_worker, &good);
	for (i = 0; i < 4; i++)
		actor_join(&actors[i]);
	assert_int_equal(good, 4);
}

static void create_refuses_bad_options(struct env *e)
{
	struct {
		struct umm_ctx_options options;
		uint64_t newer;
	} big = { .options.size = sizeof(big) };
	struct umm_ctx_options options = { .size = 0 };
	struct umm_ctx *ctx = NULL;

	(void)e;
	assert_int_equal(umm_ctx_create(NULL, NULL), -EINVAL);
	assert_int_equal(umm_ctx_create(&options, &ctx), -EINVAL);
	options.size = sizeof(options);
	options.flags = UMM_CTX_FAULTS_IN_THREAD << 1;
	assert_int_equal(umm_ctx_create(&options, &ctx), -EINVAL);
	options.flags = 0;
	options.reserved = 1;
	assert_int_equal(umm_ctx_create(&options, &ctx), -EINVAL);
	options.reserved = 0;
	options.kernel_features_off = UINT64_C(1) << 40;
	assert_int_equal(umm_ctx_create(&options, &ctx), -EINVAL);
	big.newer = 1;
	assert_int_equal(umm_ctx_create(&big.options, &ctx), -E2BIG);
	assert_null(ctx);
}

static void create_takes_older_and_newer_options(struct env *e)
{
	struct {
		struct umm_ctx_options options;
		uint64_t newer;
	} big = { .options.size = sizeof(big) };
	struct umm_ctx_options small = { .size = offsetof(struct umm_ctx_options, fault_servers) };
	struct umm_ctx *ctx;

	(void)e;
	assert_int_equal(umm_ctx_create(&big.options, &ctx), 0);
	umm_ctx_put(ctx);
	/* What lies behind the end of the caller's structure is not read. */
	small.fault_servers = UINT32_MAX;
	small.reserved = 1;
	assert_int_equal(umm_ctx_create(&small, &ctx), 0);
	umm_ctx_put(ctx);
}

static void create_without_what_it_needs_is_eopnotsupp(struct env *e)
{
	struct umm_ctx_options options = { .size = sizeof(options),
					   .kernel_features_off = UMM_KERNEL_UFFD_WP };
	struct umm_ctx *ctx;

	(void)e;
	assert_int_equal(umm_ctx_create(&options, &ctx), -EOPNOTSUPP);
}

static void any_number_of_fault_servers_works(struct env *e)
{
	static const unsigned numbers[] = { 1, 3, 8, 1000 };
	struct umm_ctx_options options = { .size = sizeof(options) };
	struct ref_options device = { .nframes = 16, .inline_copy = true };
	struct ref_device *ref;
	struct umm_ctx *ctx;
	void *p;
	size_t i;

	(void)e;
	for (i = 0; i < sizeof(numbers) / sizeof(numbers[0]); i++) {
		options.fault_servers = numbers[i];
		assert_int_equal(umm_ctx_create(&options, &ctx), 0);
		assert_int_equal(umm_alloc(ctx, PAGE, 0, &p), 0);
		assert_int_equal(ref_create(ctx, &device, &ref), 0);
		fill(p, 1, 3);
		assert_int_equal(umm_migrate_to_device(ctx, ref->mem, p, PAGE), 1);
		assert_filled(p, 1, 3);
		umm_ctx_put(ctx);
		assert_true(ref_destroy(ref));
	}
}

/* ---- allocation --------------------------------------------------------------------- */

static void alloc_refuses_bad_arguments(struct env *e)
{
	void *p = &p;

	assert_int_equal(umm_alloc(e->ctx, 0, 0, &p), -EINVAL);
	assert_int_equal(umm_alloc(e->ctx, SIZE_MAX, 0, &p), -EINVAL);
	assert_int_equal(umm_alloc(e->ctx, SIZE_MAX - PAGE + 2, 0, &p), -EINVAL);
	assert_int_equal(umm_alloc(e->ctx, PAGE, UINT64_C(1) << 30, &p), -EINVAL);
	assert_int_equal(umm_alloc(e->ctx, ((size_t)1 << 47) - PAGE, 0, &p), -ENOMEM);
	assert_ptr_equal(p, &p);
}

static void alloc_rounds_up_and_aligns(struct env *e)
{
	static const size_t lens[] = { 1, PAGE - 1, PAGE, PAGE + 1, BLOCK - 1, BLOCK, 5 * BLOCK };
	struct umm_stats stats = { .size = sizeof(stats) };
	size_t i, sum = 0, len;
	char *p;

	for (i = 0; i < sizeof(lens) / sizeof(lens[0]); i++) {
		p = env_alloc(e, lens[i]);
		assert_int_equal((uintptr_t)p % (lens[i] >= BLOCK ? BLOCK : PAGE), 0);
		len = (lens[i] + PAGE - 1) / PAGE * PAGE;
		assert_int_equal(count_state(e, p, len / PAGE, UMM_PAGE_UNMANAGED), 0);
		p[len - 1] = 1;
		sum += len;
	}
	assert_int_equal(umm_ctx_stats(e->ctx, &stats), 0);
	assert_int_equal(stats.managed_bytes, sum);
}

static void alloc_reads_zero(struct env *e)
{
	char *p = env_alloc(e, BLOCK);

	assert_state(e, p, BLOCK / PAGE, UMM_PAGE_EMPTY);
	assert_zero(p, BLOCK / PAGE);
}

static void reserving_1_tib_is_cheap(struct env *e)
{
	/* The shadow of ThreadSanitizer leaves no room for more. */
	const size_t len = (size_t)1 << (HARNESS_TSAN ? 37 : 40);
	struct ref_device *ref = env_device(e, 64);
	struct umm_stats before = { .size = sizeof(before) }, after = { .size = sizeof(after) };
	char *p;

	assert_int_equal(umm_ctx_stats(e->ctx, &before), 0);
	p = env_alloc(e, len);
	assert_int_equal(umm_ctx_stats(e->ctx, &after), 0);
	assert_true(after.bookkeeping_bytes - before.bookkeeping_bytes < 1 << 20);
	p[0] = 1;
	p[len / 2] = 2;
	p[len - 1] = 3;
	to_device(e, ref, p + len - PAGE, 1, 1);
	assert_int_equal(p[len - 1], 3);
	assert_int_equal(p[len / 2], 2);
	assert_int_equal(umm_free(e->ctx, p), 0);
	assert_int_equal(umm_ctx_stats(e->ctx, &after), 0);
	assert_int_equal(after.managed_bytes, before.managed_bytes);
}

/* Of many that lie side by side, few of which see a device. */
static void small_range_takes_little_of_the_books(struct env *e)
{
	enum { NRANGES = 4096, LARGE = 4 };
	const size_t len = (size_t)NRANGES * LARGE * PAGE;
	struct umm_stats before = { .size = sizeof(before) }, after = { .size = sizeof(after) };
	char *p = env_map(e, len);

	assert_int_equal(umm_ctx_stats(e->ctx, &before), 0);
	for (size_t i = 0; i < NRANGES; i++)
		assert_int_equal(umm_attach(e->ctx, p + i * LARGE * PAGE, LARGE * PAGE), 0);
	assert_int_equal(umm_ctx_stats(e->ctx, &after), 0);
	assert_int_equal(after.managed_bytes - before.managed_bytes, len);
	assert_in_range(after.bookkeeping_bytes - before.bookkeeping_bytes, 1, 2 * NRANGES);
	for (size_t i = 0; i < NRANGES; i++)
		assert_int_equal(umm_detach(e->ctx, p + i * LARGE * PAGE), 0);
	assert_int_equal(umm_ctx_stats(e->ctx, &after), 0);
	assert_int_equal(after.managed_bytes, before.managed_bytes);
}

static void small_pages_populate_one_by_one(struct env *e)
{
	char *p = env_alloc_small(e, BLOCK);

	p[PAGE] = 1;
	assert_state(e, p + PAGE, 1, UMM_PAGE_SYSTEM);
	assert_state(e, p, 1, UMM_PAGE_EMPTY);
	assert_state(e, p + 2 * PAGE, BLOCK / PAGE - 2, UMM_PAGE_EMPTY);
}

static void allocations_leave_nothing_behind(struct env *e)
{
	struct ref_device *ref = env_device(e, 1024);
	struct umm_stats before = { .size = sizeof(before) }, after = { .size = sizeof(after) };
	size_t npages, round;
	char *p[16];

	assert_int_equal(umm_ctx_stats(e->ctx, &before), 0);
	for (round = 0; round < 400; round++) {
		npages = 1 + round % 33;
		if (round >= 16)
			assert_int_equal(umm_free(e->ctx, p[round % 16]), 0);
		p[round % 16] = env_alloc(e, npages * PAGE);
		assert_zero(p[round % 16], npages);
		fill(p[round % 16], npages, 1);
		to_device(e, ref, p[round % 16], npages / 2 + 1, (long)(npages / 2 + 1));
	}
	for (round = 0; round < 16; round++)
		assert_int_equal(umm_free(e->ctx, p[round]), 0);
	assert_int_equal(umm_ctx_stats(e->ctx, &after), 0);
	assert_int_equal(after.managed_bytes, before.managed_bytes);
	assert_int_equal(after.device_pages, 0);
	assert_free_frames(ref, 1024);
}

static void free_refuses_what_it_did_not_allocate(struct env *e)
{
	char *p = env_alloc(e, 4 * PAGE), *attached = env_attach(e, 4 * PAGE);
	void *heap = malloc(100);

	assert_int_equal(umm_free(e->ctx, NULL), 0);
	assert_int_equal(umm_free(e->ctx, heap), -EFAULT);
	assert_int_equal(umm_free(e->ctx, &p), -EFAULT);
	assert_int_equal(umm_free(e->ctx, p + 1), -EFAULT);
	assert_int_equal(umm_free(e->ctx, p + PAGE), -EFAULT);
	assert_int_equal(umm_free(e->ctx, attached), -EFAULT);
	fill(p, 4, 1);
	assert_int_equal(umm_free(e->ctx, p), 0);
	assert_int_equal(umm_free(e->ctx, p), -EFAULT);
	assert_false(is_mapped(p));
	free(heap);
}

static void free_gives_the_frames_back_and_tells_mirrors(struct env *e)
{
	struct ref_device *ref = env_device(e, 64);
	char *p = env_alloc(e, 32 * PAGE);

	fill(p, 32, 1);
	to_device(e, ref, p, 32, 32);
	assert_device_sees(ref, p, 32, 1);
	assert_free_frames(ref, 32);
	assert_int_equal(umm_free(e->ctx, p), 0);
	assert_free_frames(ref, 64);
	assert_int_equal(ref_counts(ref).pages_freed, 32);
	assert_true(ref_counts(ref).events[UMM_EVENT_UNMAP] > 0);
	assert_int_equal(ref_entry(ref, (uintptr_t)p), 0);
	assert_int_equal(ref_counts(ref).pages_out, 0);
	assert_state(e, p, 32, UMM_PAGE_UNMANAGED);
}

/* ---- attaching ---------------------------------------------------------------------- */

static void attach_keeps_contents_and_migrates(struct env *e)
{
	struct ref_device *ref = env_device(e, 512);
	char *p = env_map(e, 100 * PAGE);

	fill(p, 90, 1);
	assert_int_equal(umm_attach(e->ctx, p, 100 * PAGE), 0);
	assert_filled(p, 90, 1);
	assert_state(e, p, 90, UMM_PAGE_SYSTEM);
	assert_state(e, p + 90 * PAGE, 10, UMM_PAGE_EMPTY);
	to_device(e, ref, p, 100, 100);
	assert_device_sees(ref, p, 90, 1);
	assert_filled(p, 90, 1);
	assert_zero(p + 90 * PAGE, 10);
}

static void attach_refuses_bad_arguments(struct env *e)
{
	char *p = env_map(e, 4 * PAGE);

	assert_int_equal(umm_attach(e->ctx, p, 0), -EINVAL);
	assert_int_equal(umm_attach(e->ctx, p, PAGE + 1), -EINVAL);
	assert_int_equal(umm_attach(e->ctx, p + 1, PAGE), -EINVAL);
	assert_int_equal(umm_attach(e->ctx, p, SIZE_MAX - PAGE + 1), -EINVAL);
	assert_int_equal(umm_attach(e->ctx, p, 0 - (uintptr_t)p), -EINVAL);
	assert_state(e, p, 4, UMM_PAGE_UNMANAGED);
}

static void attach_of_a_hole_is_efault(struct env *e)
{
	char *p = env_map(e, 4 * PAGE);

	env_unmap(e, p + 2 * PAGE, PAGE);
	assert_int_equal(umm_attach(e->ctx, p, 4 * PAGE), -EFAULT);
	assert_int_equal(umm_attach(e->ctx, p + 2 * PAGE, PAGE), -EFAULT);
	assert_int_equal(umm_attach(e->ctx, p + 2 * PAGE, 2 * PAGE), -EFAULT);
	assert_state(e, p, 4, UMM_PAGE_UNMANAGED);
	assert_int_equal(umm_attach(e->ctx, p, 2 * PAGE), 0);
	assert_int_equal(umm_attach(e->ctx, p + 3 * PAGE, PAGE), 0);
}

static void attach_over_managed_memory_is_eexist(struct env *e)
{
	char *p = env_map(e, 8 * PAGE), *q = env_alloc(e, 2 * PAGE);

	assert_int_equal(umm_attach(e->ctx, p + 2 * PAGE, 2 * PAGE), 0);
	assert_int_equal(umm_attach(e->ctx, p + 2 * PAGE, 2 * PAGE), -EEXIST);
	assert_int_equal(umm_attach(e->ctx, p, 3 * PAGE), -EEXIST);
	assert_int_equal(umm_attach(e->ctx, p + 3 * PAGE, 3 * PAGE), -EEXIST);
	assert_int_equal(umm_attach(e->ctx, p, 8 * PAGE), -EEXIST);
	assert_int_equal(umm_attach(e->ctx, q, PAGE), -EEXIST);
	assert_int_equal(umm_attach(e->ctx, p, 2 * PAGE), 0);
	assert_int_equal(umm_attach(e->ctx, p + 4 * PAGE, 4 * PAGE), 0);
}

static void attach_of_what_another_context_manages_is_eexist(struct env *e)
{
	char *p = env_attach(e, 8 * PAGE), *q = env_alloc(e, PAGE);
	struct umm_ctx *other;

	assert_int_equal(umm_ctx_create(NULL, &other), 0);
	assert_int_equal(umm_attach(other, p, PAGE), -EEXIST);
	assert_int_equal(umm_attach(other, p + 4 * PAGE, 4 * PAGE), -EEXIST);
	assert_int_equal(umm_attach(other, q, PAGE), -EEXIST);
	assert_int_equal(umm_detach(e->ctx, p), 0);
	assert_int_equal(umm_attach(other, p, 8 * PAGE), 0);
	assert_int_equal(umm_attach(e->ctx, p, PAGE), -EEXIST);
	umm_ctx_put(other);
	assert_int_equal(umm_attach(e->ctx, p, 8 * PAGE), 0);
}

static void attach_spans_mappings_of_several_kinds(struct env *e)
{
	struct ref_device *ref = env_device(e, 64);
	char *p = env_map(e, 9 * PAGE);

	fill(p, 9, 1);
	assert_int_equal(mprotect(p + 3 * PAGE, 3 * PAGE, PROT_READ), 0);
	assert_int_equal(umm_attach(e->ctx, p, 9 * PAGE), 0);
	assert_true(umm_migrate_to_device(e->ctx, ref->mem, p, 9 * PAGE) >= 6);
	assert_filled(p, 9, 1);
	assert_int_equal(touch_write(p + 4 * PAGE), SIGSEGV);
	assert_int_equal(touch_write(p + 6 * PAGE), 0);
	assert_filled(p, 9, 1);
}

static void detach_brings_home_and_forgets(struct env *e)
{
	struct ref_device *ref = env_device(e, 64);
	char *p = env_attach(e, 16 * PAGE), *q = env_alloc(e, PAGE);

	fill(p, 16, 1);
	to_device(e, ref, p, 8, 8);
	assert_int_equal(umm_detach(e->ctx, p + PAGE), -EFAULT);
	assert_int_equal(umm_detach(e->ctx, q), -EFAULT);
	assert_int_equal(umm_detach(e->ctx, NULL), -EFAULT);
	assert_int_equal(umm_detach(e->ctx, p), 0);
	assert_int_equal(umm_detach(e->ctx, p), -EFAULT);
	assert_state(e, p, 16, UMM_PAGE_UNMANAGED);
	assert_free_frames(ref, 64);
	assert_filled(p, 16, 1);
	fill(p, 16, 2);
	assert_int_equal(umm_attach(e->ctx, p, 16 * PAGE), 0);
	to_device(e, ref, p, 16, 16);
	assert_filled(p, 16, 2);
}

static void put_gives_attached_memory_back_with_its_contents(struct env *e)
{
	struct ref_device *ref = env_device(e, 64);
	char *p = env_attach(e, 16 * PAGE);

	fill(p, 16, 1);
	to_device(e, ref, p + 4 * PAGE, 8, 8);
	env_close(e);
	assert_filled(p, 16, 1);
	fill(p, 16, 2);
	assert_int_equal(mprotect(p, PAGE, PROT_READ), 0);
	assert_int_equal(madvise(p + PAGE, PAGE, MADV_DONTNEED), 0);
	assert_zero(p + PAGE, 1);
}

/* ---- looking ------------------------------------------------------------------------ */

static void query_tells_managed_from_unmanaged(struct env *e)
{
	char *p = env_map(e, 8 * PAGE);
	struct umm_page_info info[8];

	fill(p, 8, 1);
	assert_int_equal(umm_attach(e->ctx, p + 2 * PAGE, 4 * PAGE), 0);
	assert_int_equal(umm_query(e->ctx, (uintptr_t)p, 8, info), 0);
	assert_int_equal(info[1].state, UMM_PAGE_UNMANAGED);
	assert_int_equal(info[2].state, UMM_PAGE_SYSTEM);
	assert_int_equal(info[5].state, UMM_PAGE_SYSTEM);
	assert_int_equal(info[6].state, UMM_PAGE_UNMANAGED);
	assert_null(info[2].mem);
	assert_int_equal(info[2].frame, 0);
}

static void query_refuses_bad_arguments(struct env *e)
{
	struct umm_page_info info;
	char *p = env_alloc(e, PAGE);

	assert_int_equal(umm_query(e->ctx, (uintptr_t)p + 1, 1, &info), -EINVAL);
	assert_int_equal(umm_query(e->ctx, (uintptr_t)p, 0, &info), -EINVAL);
	assert_int_equal(umm_query(e->ctx, (uintptr_t)p, SIZE_MAX / PAGE + 1, &info), -EINVAL);
	assert_int_equal(umm_query(e->ctx, UINTPTR_MAX - PAGE + 1, 2, &info), -EINVAL);
}

static void probe_refuses_bad_sizes(struct env *e)
{
	struct {
		struct umm_probe_info info;
		uint64_t newer;
	} big = { .info.size = sizeof(big) };
	struct umm_probe_info info = { .size = 0 };

	(void)e;
	assert_int_equal(umm_probe(NULL), -EINVAL);
	assert_int_equal(umm_probe(&info), -EINVAL);
	big.newer = 1;
	assert_int_equal(umm_probe(&big.info), -E2BIG);
	big.newer = 0;
	assert_int_equal(umm_probe(&big.info), 0);
	assert_true(big.info.uffd_access != UMM_UFFD_NONE);
	assert_true(big.info.kernel_features & UMM_KERNEL_UFFD_WP);
	assert_string_not_equal(big.info.kernel_release, "");
}

static void stats_count_for_context_device_and_allocation(struct env *e)
{
	struct umm_stats ctx = { .size = sizeof(ctx) }, dev = { .size = sizeof(dev) };
	struct umm_stats one = { .size = sizeof(one) }, two = { .size = sizeof(two) };
	struct ref_device *ref = env_device(e, 64);
	char *p = env_alloc(e, 8 * PAGE), *q = env_alloc(e, 8 * PAGE);

	fill(p, 8, 1);
	fill(q, 8, 2);
	to_device(e, ref, p, 6, 6);
	to_device(e, ref, q, 3, 3);
	to_system(e, p, 2, 2);
	assert_int_equal(umm_ctx_stats(e->ctx, &ctx), 0);
	assert_int_equal(umm_device_stats(ref->dev, &dev), 0);
	assert_int_equal(umm_alloc_stats(e->ctx, p + 5 * PAGE + 7, &one), 0);
	assert_int_equal(umm_alloc_stats(e->ctx, q, &two), 0);
	assert_int_equal(ctx.counter[UMM_COUNT_TO_DEVICE + UMM_CAUSE_EXPLICIT], 9);
	assert_int_equal(dev.counter[UMM_COUNT_TO_DEVICE + UMM_CAUSE_EXPLICIT], 9);
	assert_int_equal(one.counter[UMM_COUNT_TO_DEVICE + UMM_CAUSE_EXPLICIT], 6);
	assert_int_equal(two.counter[UMM_COUNT_TO_DEVICE + UMM_CAUSE_EXPLICIT], 3);
	assert_int_equal(ctx.counter[UMM_COUNT_TO_SYSTEM + UMM_CAUSE_EXPLICIT], 2);
	assert_int_equal(dev.counter[UMM_COUNT_TO_SYSTEM + UMM_CAUSE_EXPLICIT], 2);
	assert_int_equal(one.counter[UMM_COUNT_TO_SYSTEM + UMM_CAUSE_EXPLICIT], 2);
	assert_int_equal(two.counter[UMM_COUNT_TO_SYSTEM + UMM_CAUSE_EXPLICIT], 0);
	assert_int_equal(ctx.device_pages, 7);
	assert_int_equal(dev.device_pages, 7);
	assert_int_equal(one.device_pages, 4);
	assert_int_equal(two.device_pages, 3);
	assert_int_equal(one.managed_bytes, 8 * PAGE);
	assert_int_equal(ctx.managed_bytes, 16 * PAGE);
}

static void stats_refuse_bad_arguments(struct env *e)
{
	struct {
		struct umm_stats stats;
		uint64_t newer;
	} big = { .stats.size = sizeof(big), .newer = 1 };
	struct umm_stats stats = { .size = 0 };
	char *p = env_map(e, PAGE);

	assert_int_equal(umm_ctx_stats(e->ctx, NULL), -EINVAL);
	assert_int_equal(umm_ctx_stats(e->ctx, &stats), -EINVAL);
	assert_int_equal(umm_ctx_stats(e->ctx, &big.stats), -E2BIG);
	stats.size = sizeof(stats);
	assert_int_equal(umm_alloc_stats(e->ctx, p, &stats), -EFAULT);
	assert_int_equal(umm_alloc_stats(e->ctx, NULL, &stats), -EFAULT);
}

static void every_counter_has_a_name_of_its_own(struct env *e)
{
	unsigned i, j;

	(void)e;
	for (i = 0; i < UMM_NR_COUNTERS; i++) {
		assert_non_null(umm_counter_name(i));
		for (j = 0; j < i; j++)
			assert_string_not_equal(umm_counter_name(i), umm_counter_name(j));
	}
	assert_null(umm_counter_name(UMM_NR_COUNTERS));
	assert_null(umm_counter_name(UINT32_MAX));
	assert_string_equal(umm_counter_name(UMM_COUNT_FAULT_EMPTY), "fault_empty");
	assert_string_equal(umm_counter_name(UMM_COUNT_TO_DEVICE), "to_device_explicit");
}

static void printed_stats_leave_zeroes_out(struct env *e)
{
	struct umm_stats stats = { .size = sizeof(stats) };
	char *text = NULL;
	size_t len;
	FILE *stream = open_memstream(&text, &len);

	(void)e;
	stats.counter[UMM_COUNT_FAULT_WRITE] = 4711;
	umm_stats_print(&stats, stream);
	fclose(stream);
	assert_non_null(strstr(text, "fault_write"));
	assert_non_null(strstr(text, "4711"));
	assert_null(strstr(text, "fault_wait"));
	free(text);
}

/* ---- cancellation ------------------------------------------------------------------- */

struct cancelled {
	struct env *env; /* its context is this thread's own */
	struct ref_device *ref;
	char *p;
	int failed; /* the first step that did not do what it should */
	bool done;
};

static bool opens(struct cancelled *c)
{
	const struct variant *v = &c->env->variant;
	struct umm_ctx_options options = { .size = sizeof(options),
					   .flags = v->ctx_flags,
					   .kernel_features_off = v->features_off };
	struct ref_options device = { .nframes = 64, .inline_copy = true, .policy = REF_IN_PLACE };
	void *p = NULL;

	if (umm_ctx_create(&options, &c->env->ctx) || ref_create(c->env->ctx, &device, &c->ref) ||
	    umm_alloc(c->env->ctx, 16 * PAGE, UMM_ALLOC_SMALL_PAGES, &p))
		return false;
	c->p = p;
	return true;
}

static bool moves(struct cancelled *c)
{
	char page[PAGE];

	fill(c->p, 16, 1);
	if (migrate(c->env, c->ref, c->p, 16, 0) != 16 || !filled_at(c->p, 3, 1) ||
	    ref_read(c->ref, (uintptr_t)c->p, page, PAGE) || !page_filled(page, 0, 1))
		return false;
	return !madvise(c->p, PAGE, MADV_DONTNEED) && page_zero(c->p) &&
	       ref_make_exclusive(c->ref, (uintptr_t)c->p, 16) == 16 && filled_at(c->p, 3, 1);
}

/* A signal rings, and the last put closes. */
static bool fences(struct cancelled *c)
{
	struct umm_fence *fence;
	int fd;

	(void)c;
	if (umm_fence_create(&fence))
		return false;
	fd = umm_fence_eventfd(fence);
	umm_fence_signal(fence, 0, 0);
	umm_fence_put(fence);
	return fd >= 0;
}

static bool closes(struct cancelled *c)
{
	struct umm_probe_info info = { .size = sizeof(info) };

	if (umm_free(c->env->ctx, c->p) || umm_probe(&info))
		return false;
	umm_ctx_put(c->env->ctx);
	return true;
}

static void *run_cancelled(void *arg)
{
	/* Not on the stack, of which AddressSanitizer does not hear that it is left. */
	static bool (*const steps[])(struct cancelled *) = { opens, moves, fences, closes };
	struct cancelled *c = arg;

	pthread_cancel(pthread_self());
	for (c->failed = 0; c->failed < 4 && steps[c->failed](c); c->failed++)
		;
	c->done = true;
	pthread_testcancel();
	return NULL;
}

static void no_call_is_a_cancellation_point(struct env *e)
{
	struct env own = *e;
	struct cancelled c = { .env = &own };
	pthread_t thread;
	void *ret;

	if (ref_backend_used())
		env_skip("the calls of OpenCL platforms that the test makes may be cancelled");
	assert_int_equal(pthread_create(&thread, NULL, run_cancelled, &c), 0);
	assert_int_equal(pthread_join(thread, &ret), 0);
	assert_true(c.done);
	assert_int_equal(c.failed, 4);
	assert_true(ret == PTHREAD_CANCELED);
	assert_true(ref_destroy(c.ref));
}

static const struct test_case cases[] = {
	TEST(KERNEL, context_lives_until_the_last_put),
	TEST(ONCE, put_of_null_does_nothing),
	TEST(ALL, contexts_do_not_know_each_other),
	TEST(KERNEL, contexts_come_and_go_in_many_threads),
	TEST(ONCE, create_refuses_bad_options),
	TEST(ONCE, create_takes_older_and_newer_options),
	TEST(ONCE, create_without_what_it_needs_is_eopnotsupp),
	TEST(ONCE, any_number_of_fault_servers_works),
	TEST(ONCE, alloc_refuses_bad_arguments),
	TEST(ONCE, alloc_rounds_up_and_aligns),
	TEST(KERNEL, alloc_reads_zero),
	TEST(KERNEL, reserving_1_tib_is_cheap),
	TEST(KERNEL, small_pages_populate_one_by_one),
	TEST(ALL, allocations_leave_nothing_behind),
	TEST(ONCE, free_refuses_what_it_did_not_allocate),
	TEST(ALL, free_gives_the_frames_back_and_tells_mirrors),
	TEST(ALL, attach_keeps_contents_and_migrates),
	TEST(ONCE, attach_refuses_bad_arguments),
	TEST(KERNEL, attach_of_a_hole_is_efault),
	TEST(ONCE, attach_over_managed_memory_is_eexist),
	TEST(ONCE, attach_of_what_another_context_manages_is_eexist),
	TEST(ALL, attach_spans_mappings_of_several_kinds),
	TEST(ALL, detach_brings_home_and_forgets),
	TEST(ALL, put_gives_attached_memory_back_with_its_contents),
	TEST(KERNEL, query_tells_managed_from_unmanaged),
	TEST(ONCE, query_refuses_bad_arguments),
	TEST(ONCE, small_range_takes_little_of_the_books),
	TEST(ONCE, probe_refuses_bad_sizes),
	TEST(ALL, stats_count_for_context_device_and_allocation),
	TEST(ONCE, stats_refuse_bad_arguments),
	TEST(ONCE, every_counter_has_a_name_of_its_own),
	TEST(ONCE, printed_stats_leave_zeroes_out),
	TEST(KERNEL, no_call_is_a_cancellation_point),
};

int main(int argc, char **argv)
{
	return harness_main("test_ctx", cases, sizeof(cases) / sizeof(cases[0]), argc, argv);
}
