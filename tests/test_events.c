/* SPDX-License-Identifier: MIT */
/*
 * What programs do to their address space behind the library's back: munmap, madvise,
 * mremap, mprotect, mapping over it, while pages live on devices.
 *
 * An event reaches the library through a thread of its own, so what follows from it
 * (frames freed, mirrors told) is waited for; what the CPU reads is right at once.
 */
#include "harness.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>

#define BLOCK_PAGES UMM_BLOCK_PAGES

#ifndef MREMAP_DONTUNMAP
#define MREMAP_DONTUNMAP 4
#endif

/* ---- munmap ------------------------------------------------------------------------- */

/* Whoever gets the addresses of an allocation's first part is not in its way, nor it in theirs. */
static void unmapped_first_part_makes_room_for_others(struct env *e)
{
	struct ref_device *ref = env_device(e, 64);
	char *p = env_alloc(e, 32 * PAGE);

	fill(p, 32, 1);
	to_device(e, ref, p, 32, 32);
	/* Unmapped and mapped anew at once, lest somebody else gets the addresses. */
	assert_ptr_equal(mmap(p, 16 * PAGE, PROT_READ | PROT_WRITE,
			      MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0),
			 p);
	assert_int_equal(umm_attach(e->ctx, p, 16 * PAGE), 0);
	fill(p, 16, 2);
	to_device(e, ref, p, 16, 16);
	assert_filled(p, 16, 2);
	assert_int_equal(umm_detach(e->ctx, p), 0);
	/* What is left answers to where it begins. */
	assert_int_equal(umm_free(e->ctx, p), -EFAULT);
	env_forget(e, p, 32 * PAGE);
	assert_filled_part(p, 16, 16, 1);
	assert_int_equal(umm_free(e->ctx, p + 16 * PAGE), 0);
	assert_free_frames(ref, 64);
	munmap(p, 16 * PAGE);
}

static void munmap_of_half_frees_its_frames_and_keeps_the_rest(struct env *e)
{
	static const size_t offsets[] = { 0, BLOCK_PAGES / 4, BLOCK_PAGES / 2 };
	const size_t half = BLOCK_PAGES / 2;
	struct ref_device *ref = env_device(e, BLOCK_PAGES);
	char byte;
	size_t i;

	for (i = 0; i < 3; i++) {
		char *p = env_attach(e, BLOCK), *gone = p + offsets[i] * PAGE;
		uint64_t heard = ref_counts(ref).events[UMM_EVENT_UNMAP];

		fill(p, BLOCK_PAGES, 1);
		to_device(e, ref, p, BLOCK_PAGES, BLOCK_PAGES);
		assert_device_sees(ref, p, BLOCK_PAGES, 1);
		env_unmap(e, gone, half * PAGE);
		assert_true(ref_wait_event(ref, UMM_EVENT_UNMAP, heard + 1, PATIENCE_MS));
		assert_free_frames(ref, half);
		assert_state(e, gone, half, UMM_PAGE_UNMANAGED);
		assert_int_equal(ref_entry(ref, (uintptr_t)gone), 0);
		assert_int_equal(ref_read(ref, (uintptr_t)gone, &byte, 1), -EFAULT);
		assert_filled_part(p, 0, offsets[i], 1);
		assert_filled_part(p, offsets[i] + half, BLOCK_PAGES - half - offsets[i], 1);
		/* Not the hole: anybody may have mapped something there. */
		if (offsets[i])
			env_unmap(e, p, offsets[i] * PAGE);
		if (gone + half * PAGE < p + BLOCK)
			env_unmap(e, gone + half * PAGE, (half - offsets[i]) * PAGE);
		assert_free_frames(ref, BLOCK_PAGES);
	}
}

static void munmap_of_allocated_memory_is_followed(struct env *e)
{
	struct ref_device *ref = env_device(e, 64);
	struct umm_stats stats = { .size = sizeof(stats) };
	char *p = env_alloc(e, 32 * PAGE);

	fill(p, 32, 1);
	to_device(e, ref, p, 32, 32);
	assert_int_equal(munmap(p + 16 * PAGE, 16 * PAGE), 0);
	assert_free_frames(ref, 48);
	assert_int_equal(umm_ctx_stats(e->ctx, &stats), 0);
	assert_int_equal(stats.managed_bytes, 16 * PAGE);
	assert_filled(p, 16, 1);
	assert_int_equal(umm_free(e->ctx, p), 0);
	assert_int_equal(touch_read(p), SIGSEGV);
}

static void address_is_attached_again_at_once(struct env *e)
{
	struct ref_device *ref = env_device(e, 64);
	char *p = env_attach(e, 16 * PAGE);
	unsigned i;

	for (i = 0; i < 50; i++) {
		fill(p, 16, i);
		to_device(e, ref, p, 16, 16);
		assert_ptr_equal(mmap(p, 16 * PAGE, PROT_READ | PROT_WRITE,
				      MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0),
				 p);
		assert_int_equal(umm_attach(e->ctx, p, 16 * PAGE), 0);
		assert_zero(p, 16);
	}
	assert_free_frames(ref, 64);
}

static void detached_before_any_device_used_it_is_attached_again(struct env *e)
{
	struct ref_device *ref = env_device(e, 64);
	char *p = env_attach(e, 16 * PAGE);

	fill(p, 16, 1);
	assert_int_equal(umm_detach(e->ctx, p), 0);
	assert_ptr_equal(mmap(p, 16 * PAGE, PROT_READ | PROT_WRITE,
			      MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0),
			 p);
	assert_int_equal(umm_attach(e->ctx, p, 16 * PAGE), 0);
	fill(p, 16, 2);
	to_device(e, ref, p, 16, 16);
	assert_filled(p, 16, 2);
}

/*
 * Of memory that no device has used the kernel does not tell when it goes, nor what comes there. A
 * device may use its neighbours in between: what comes is managed all the same.
 */
static void memory_that_went_unseen_is_managed_once_mapped_again(struct env *e)
{
	struct ref_device *ref = env_device(e, 64);
	char *p = env_attach(e, 16 * PAGE), *q = env_map(e, PAGE), byte;

	assert_int_equal(munmap(p + 4 * PAGE, PAGE), 0);
	assert_ptr_equal(mremap(p + 6 * PAGE, PAGE, PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, q), q);
	fill(p, 4, 1);
	to_device(e, ref, p, 4, 4);
	for (size_t i = 4; i < 8; i += 2) {
		assert_int_equal(ref_read(ref, (uintptr_t)p + i * PAGE, &byte, 1), -EFAULT);
		assert_ptr_equal(mmap(p + i * PAGE, PAGE, PROT_READ | PROT_WRITE,
				      MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0),
				 p + i * PAGE);
		assert_state(e, p + i * PAGE, 1, UMM_PAGE_EMPTY);
	}
	for (size_t i = 4; i < 16; i++)
		page_fill(p + i * PAGE, i, 1);
	assert_state(e, p + 4 * PAGE, 12, UMM_PAGE_SYSTEM);
	assert_int_equal(umm_attach(e->ctx, p + 4 * PAGE, PAGE), -EEXIST);
	to_device(e, ref, p + 4 * PAGE, 12, 12);
	assert_device_sees(ref, p, 16, 1);
	assert_filled(p, 16, 1);
	assert_int_equal(umm_detach(e->ctx, p), 0);
	assert_int_equal(umm_attach(e->ctx, p + 4 * PAGE, PAGE), 0);
}

/* ---- madvise ------------------------------------------------------------------------ */

static void dontneed_of_device_pages_reads_zero_and_frees_frames(struct env *e)
{
	struct ref_device *ref = env_device(e, BLOCK_PAGES);
	char *p = env_alloc(e, BLOCK);
	uint64_t heard;

	fill(p, BLOCK_PAGES, 1);
	to_device(e, ref, p, BLOCK_PAGES, BLOCK_PAGES);
	assert_device_sees(ref, p, BLOCK_PAGES, 1);
	heard = ref_counts(ref).events[UMM_EVENT_CLEAR];
	assert_int_equal(madvise(p + 100 * PAGE, 200 * PAGE, MADV_DONTNEED), 0);
	assert_zero(p + 150 * PAGE, 50);
	assert_true(ref_wait_event(ref, UMM_EVENT_CLEAR, heard + 1, PATIENCE_MS));
	wait_until(umm_devmem_nfree(ref->mem) >= 200);
	assert_zero(p + 100 * PAGE, 200);
	assert_device_sees_zero(ref, p + 100 * PAGE, 200);
	assert_filled_part(p, 0, 100, 1);
	assert_filled_part(p, 300, BLOCK_PAGES - 300, 1);
}

static void dontneed_over_mixed_homes_reads_zero(struct env *e)
{
	struct ref_device *ref = env_device(e, 64);
	char *p = env_attach(e, 32 * PAGE);

	fill(p, 24, 1);
	to_device(e, ref, p + 4 * PAGE, 8, 8);
	assert_int_equal(migrate(e, ref, p + 16 * PAGE, 4, UMM_MIGRATE_DUPLICATE), 4);
	assert_int_equal(madvise(p, 32 * PAGE, MADV_DONTNEED), 0);
	assert_zero(p, 32);
	assert_free_frames(ref, 64);
	fill(p, 32, 2);
	to_device(e, ref, p, 32, 32);
	assert_device_sees(ref, p, 32, 2);
	assert_filled(p, 32, 2);
}

static void dontneed_again_and_again(struct env *e)
{
	struct ref_device *ref = env_device(e, 64);
	char *p = env_alloc_small(e, 16 * PAGE);
	unsigned i;

	for (i = 0; i < 30; i++) {
		fill(p, 16, i);
		to_device(e, ref, p, 16, (long)(16 - count_state(e, p, 16, env_home(e))));
		assert_int_equal(madvise(p, 16 * PAGE, MADV_DONTNEED), 0);
		if (i % 2)
			assert_zero(p, 16);
		else
			assert_device_sees_zero(ref, p, 16);
	}
}

static void free_advice_drops_contents_or_keeps_them(struct env *e)
{
	struct ref_device *ref = env_device(e, 64);
	char *p = env_alloc_small(e, 16 * PAGE);
	size_t i;

	fill(p, 16, 1);
	to_device(e, ref, p, 8, 8);
	assert_int_equal(madvise(p, 16 * PAGE, MADV_FREE), 0);
	for (i = 0; i < 16; i++)
		assert_true(page_zero(p + i * PAGE) || filled_at(p, i, 1));
	/* A store after the advice counts. */
	fill(p, 16, 2);
	assert_true(migrate(e, ref, p, 16, 0) >= 0);
	assert_filled(p, 16, 2);
}

static void collapse_then_migrate(struct env *e)
{
	struct ref_device *ref = env_device(e, BLOCK_PAGES);
	char *p = env_alloc_small(e, BLOCK);

	fill(p, BLOCK_PAGES, 1);
	to_device(e, ref, p, BLOCK_PAGES, BLOCK_PAGES);
	assert_filled(p, BLOCK_PAGES, 1);
	/* Whether the kernel does it is its own affair. */
	madvise(p, BLOCK, MADV_HUGEPAGE);
	madvise(p, BLOCK, 25 /* MADV_COLLAPSE, 6.1 */);
	assert_filled(p, BLOCK_PAGES, 1);
	assert_int_equal(migrate(e, ref, p, BLOCK_PAGES, 0),
			 e->variant.type == UMM_DEVMEM_PRIVATE ? BLOCK_PAGES : 0);
	assert_filled(p, BLOCK_PAGES, 1);
}

/* ---- mremap ------------------------------------------------------------------------- */

/* Move npages pages at offset from of one mapping to offset to of another one. */
static void remap_case(struct env *e, struct ref_device *ref, size_t from, size_t to, size_t npages,
		       int flags)
{
	char *p = env_attach(e, 2 * BLOCK), *q = env_map(e, 2 * BLOCK);
	char *src = p + from * PAGE, *dst = q + to * PAGE;
	size_t on_device = npages / 2;

	fill(src, npages, 1);
	/* To the kernel, blocks that a device has used are mappings of their own: use all. */
	to_device(e, ref, src, npages, (long)npages);
	to_system(e, src + on_device * PAGE, npages - on_device, (long)(npages - on_device));
	assert_device_sees(ref, src, on_device, 1);
	assert_ptr_equal(mremap(src, npages * PAGE, npages * PAGE,
				MREMAP_MAYMOVE | MREMAP_FIXED | flags, dst),
			 dst);
	assert_filled(dst, npages, 1);
	wait_until(count_state(e, dst, npages, UMM_PAGE_UNMANAGED) == 0);
	if (flags & MREMAP_DONTUNMAP)
		assert_zero(src, npages);
	else
		env_forget(e, src, npages * PAGE);
	fill(dst, npages, 2);
	assert_true(migrate(e, ref, dst, npages, 0) >= 0);
	assert_device_sees(ref, dst, npages, 2);
	assert_filled(dst, npages, 2);
	/* Of what no device has used munmap() alone would not tell. */
	assert_int_equal(umm_detach(e->ctx, p), 0);
	env_unmap(e, q, 2 * BLOCK);
	env_unmap(e, p, 2 * BLOCK);
	assert_free_frames(ref, 2 * BLOCK_PAGES);
}

static void moved_mapping_keeps_its_device_pages(struct env *e)
{
	struct ref_device *ref = env_device(e, 2 * BLOCK_PAGES);

	ref_policy_set(ref, REF_IN_PLACE);
	remap_case(e, ref, 0, 0, BLOCK_PAGES, 0);
	remap_case(e, ref, BLOCK_PAGES, 0, BLOCK_PAGES, 0);
}

static void moved_mapping_keeps_its_device_pages_at_odd_offsets(struct env *e)
{
	struct ref_device *ref = env_device(e, 2 * BLOCK_PAGES);

	ref_policy_set(ref, REF_IN_PLACE);
	remap_case(e, ref, 3, 500, 40, 0);
	remap_case(e, ref, 500, 3, 40, 0);
	remap_case(e, ref, 100, 301, 600, 0);
}

static void move_over_the_border_of_a_used_block_changes_nothing(struct env *e)
{
	struct ref_device *ref = env_device(e, 64);
	char *p = env_attach(e, 2 * BLOCK), *q = env_map(e, BLOCK), *src = p + BLOCK - 20 * PAGE;

	fill(src, 40, 1);
	to_device(e, ref, src, 10, 10);
	errno = 0;
	assert_ptr_equal(mremap(src, 40 * PAGE, 40 * PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, q),
			 MAP_FAILED);
	assert_int_equal(errno, EFAULT);
	/* The kernel has made room at the target before it refused. */
	env_forget(e, q, 40 * PAGE);
	assert_state(e, src, 10, env_home(e));
	assert_device_sees(ref, src, 10, 1);
	assert_filled(src, 40, 1);
	fill(src, 40, 2);
	to_device(e, ref, src, 40, (long)(40 - count_state(e, src, 40, env_home(e))));
	assert_filled(src, 40, 2);
}

static void moved_mapping_that_stays_mapped_reads_zero_behind(struct env *e)
{
	struct ref_device *ref = env_device(e, 2 * BLOCK_PAGES);

	ref_policy_set(ref, REF_IN_PLACE);
	remap_case(e, ref, 0, 0, BLOCK_PAGES, MREMAP_DONTUNMAP);
	remap_case(e, ref, 7, 130, 33, MREMAP_DONTUNMAP);
}

static void data_on_the_device_moves_with_its_mapping(struct env *e)
{
	struct ref_device *ref = env_device(e, 64);
	char *p = env_attach(e, 32 * PAGE), *q = env_map(e, 64 * PAGE);

	fill(p, 32, 1);
	to_device(e, ref, p, 32, 32);
	assert_ptr_equal(mremap(p, 32 * PAGE, 32 * PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, q + PAGE),
			 q + PAGE);
	env_forget(e, p, 32 * PAGE);
	assert_device_sees(ref, q + PAGE, 32, 1);
	assert_state(e, q + PAGE, 32, env_home(e));
	assert_int_equal(ref_counts(ref).pages_out, 0);
	assert_filled(q + PAGE, 32, 1);
}

static void growing_in_place_keeps_device_pages(struct env *e)
{
	struct ref_device *ref = env_device(e, 64);
	char *p = env_map(e, 64 * PAGE), *grown;

	env_unmap(e, p + 16 * PAGE, 48 * PAGE);
	assert_int_equal(umm_attach(e->ctx, p, 16 * PAGE), 0);
	fill(p, 16, 1);
	to_device(e, ref, p, 16, 16);
	grown = mremap(p, 16 * PAGE, 24 * PAGE, 0);
	if (grown == MAP_FAILED)
		env_skip("the kernel did not grow the mapping: %s", strerror(errno));
	assert_filled(p, 16, 1);
	fill(p + 16 * PAGE, 8, 2);
	assert_filled(p + 16 * PAGE, 8, 2);
	assert_filled(p, 16, 1);
	assert_ptr_equal(mremap(p, 24 * PAGE, 8 * PAGE, 0), p);
	env_forget(e, p + 8 * PAGE, 8 * PAGE);
	assert_filled(p, 8, 1);
}

/* ---- mprotect ----------------------------------------------------------------------- */

static void read_only_memory_migrates_both_ways(struct env *e)
{
	struct ref_device *ref = env_device(e, BLOCK_PAGES);
	char *p = env_alloc(e, BLOCK);

	fill(p, BLOCK_PAGES, 1);
	assert_int_equal(mprotect(p, BLOCK, PROT_READ), 0);
	to_device(e, ref, p, BLOCK_PAGES, BLOCK_PAGES);
	assert_filled_part(p, 0, 100, 1);
	assert_int_equal(touch_write(p), SIGSEGV);
	assert_int_equal(touch_write(p + 200 * PAGE), SIGSEGV);
	assert_true(umm_migrate_to_system(e->ctx, p, BLOCK) >= 0);
	assert_filled(p, BLOCK_PAGES, 1);
	assert_int_equal(mprotect(p, BLOCK, PROT_READ | PROT_WRITE), 0);
	fill(p, BLOCK_PAGES, 2);
	to_device(e, ref, p, BLOCK_PAGES, BLOCK_PAGES);
	assert_filled(p, BLOCK_PAGES, 2);
}

static void memory_made_read_only_on_the_device_comes_home(struct env *e)
{
	struct ref_device *ref = env_device(e, BLOCK_PAGES);
	char *p = env_alloc(e, BLOCK);

	fill(p, BLOCK_PAGES, 1);
	to_device(e, ref, p, BLOCK_PAGES, BLOCK_PAGES);
	assert_int_equal(mprotect(p, BLOCK, PROT_READ), 0);
	assert_filled_part(p, 0, 10, 1);
	assert_int_equal(touch_write(p), SIGSEGV);
	to_system(e, p, BLOCK_PAGES,
		  e->variant.type == UMM_DEVMEM_PRIVATE ? BLOCK_PAGES - 10 : BLOCK_PAGES);
	assert_filled(p, BLOCK_PAGES, 1);
	assert_int_equal(touch_write(p + 11 * PAGE), SIGSEGV);
	assert_int_equal(mprotect(p, BLOCK, PROT_READ | PROT_WRITE), 0);
	fill(p, BLOCK_PAGES, 2);
	assert_filled(p, BLOCK_PAGES, 2);
}

static void memory_without_access_keeps_its_data(struct env *e)
{
	struct ref_device *ref = env_device(e, 64);
	char *p = env_alloc_small(e, 16 * PAGE);
	char byte;

	fill(p, 16, 1);
	to_device(e, ref, p, 8, 8);
	assert_int_equal(mprotect(p, 16 * PAGE, PROT_NONE), 0);
	assert_int_equal(touch_read(p), SIGSEGV);
	assert_int_equal(ref_read(ref, (uintptr_t)p + 10 * PAGE, &byte, 1), -EFAULT);
	assert_true(umm_bring_home(e->ctx) >= 0);
	assert_int_equal(mprotect(p, 16 * PAGE, PROT_READ | PROT_WRITE), 0);
	assert_filled(p, 16, 1);
}

static void read_only_pages_amid_writable_ones(struct env *e)
{
	struct ref_device *ref = env_device(e, 64);
	char *p = env_alloc_small(e, 24 * PAGE);
	size_t i;

	fill(p, 24, 1);
	for (i = 0; i < 24; i += 3)
		assert_int_equal(mprotect(p + i * PAGE, PAGE, PROT_READ), 0);
	to_device(e, ref, p, 24, 24);
	assert_device_sees(ref, p, 24, 1);
	assert_filled(p, 24, 1);
	for (i = 0; i < 24; i++)
		assert_int_equal(touch_write(p + i * PAGE), i % 3 ? 0 : SIGSEGV);
}

/* ---- mapping over it ---------------------------------------------------------------- */

static void mapping_over_managed_memory_wins(struct env *e)
{
	struct ref_device *ref = env_device(e, 64);
	char *p = env_attach(e, 32 * PAGE);

	fill(p, 32, 1);
	to_device(e, ref, p, 32, 32);
	assert_ptr_equal(mmap(p + 8 * PAGE, 16 * PAGE, PROT_READ | PROT_WRITE,
			      MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0),
			 p + 8 * PAGE);
	assert_zero(p + 8 * PAGE, 16);
	fill(p + 8 * PAGE, 16, 2);
	wait_until(umm_devmem_nfree(ref->mem) >= 48);
	assert_state(e, p + 8 * PAGE, 16, UMM_PAGE_UNMANAGED);
	assert_filled(p + 8 * PAGE, 16, 2);
	assert_int_equal(migrate(e, ref, p + 8 * PAGE, 16, 0), -EFAULT);
	assert_filled_part(p, 0, 8, 1);
	assert_filled_part(p, 24, 8, 1);
	assert_int_equal(umm_detach(e->ctx, p), 0);
	assert_filled(p + 8 * PAGE, 16, 2);
}

static void freeing_spares_what_was_mapped_over_it(struct env *e)
{
	struct ref_device *ref = env_device(e, 64);
	char *p = env_alloc_small(e, 24 * PAGE);

	fill(p, 24, 1);
	to_device(e, ref, p, 24, 24);
	assert_ptr_equal(mmap(p + 8 * PAGE, 8 * PAGE, PROT_READ | PROT_WRITE,
			      MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0),
			 p + 8 * PAGE);
	fill(p + 8 * PAGE, 8, 2);
	wait_until(count_state(e, p + 8 * PAGE, 8, UMM_PAGE_UNMANAGED) == 8);
	assert_int_equal(umm_free(e->ctx, p), 0);
	assert_filled(p + 8 * PAGE, 8, 2);
	/* Somebody else may have been given the address meanwhile. */
	assert_true(touch_read(p) == SIGSEGV || !filled_at(p, 0, 1));
	assert_true(touch_read(p + 16 * PAGE) == SIGSEGV || !filled_at(p, 16, 1));
	assert_int_equal(munmap(p + 8 * PAGE, 8 * PAGE), 0);
}

static void lost_pages_can_be_unmapped_and_dropped(struct env *e)
{
	struct ref_device *ref = env_device(e, 64);
	char *p = env_attach(e, 16 * PAGE);

	fill(p, 16, 1);
	to_device(e, ref, p, 16, 16);
	ref_fail(ref, &(struct ref_failure){ .error = -EIO, .from_device = true });
	assert_int_equal(umm_bring_home(e->ctx), -EIO);
	ref_fail(ref, NULL);
	assert_int_equal(touch_read(p), SIGBUS);
	assert_ptr_equal(mmap(p + 8 * PAGE, 8 * PAGE, PROT_READ | PROT_WRITE,
			      MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0),
			 p + 8 * PAGE);
	assert_zero(p + 8 * PAGE, 8);
	fill(p + 8 * PAGE, 8, 2);
	assert_filled(p + 8 * PAGE, 8, 2);
	assert_int_equal(touch_read(p + 7 * PAGE), SIGBUS);
}

static const struct test_case cases[] = {
	TEST(ALL, unmapped_first_part_makes_room_for_others),
	TEST(ALL, munmap_of_half_frees_its_frames_and_keeps_the_rest),
	TEST(ALL, munmap_of_allocated_memory_is_followed),
	TEST(ALL, address_is_attached_again_at_once),
	TEST(KERNEL, detached_before_any_device_used_it_is_attached_again),
	TEST(ALL, memory_that_went_unseen_is_managed_once_mapped_again),
	TEST(ALL, dontneed_of_device_pages_reads_zero_and_frees_frames),
	TEST(ALL, dontneed_over_mixed_homes_reads_zero),
	TEST(ALL, dontneed_again_and_again),
	TEST(ALL, free_advice_drops_contents_or_keeps_them),
	TEST(ALL, collapse_then_migrate),
	TEST(ALL, moved_mapping_keeps_its_device_pages),
	TEST(ALL, moved_mapping_keeps_its_device_pages_at_odd_offsets),
	TEST(ALL, move_over_the_border_of_a_used_block_changes_nothing),
	TEST(ALL, moved_mapping_that_stays_mapped_reads_zero_behind),
	TEST(ALL, data_on_the_device_moves_with_its_mapping),
	TEST(ALL, growing_in_place_keeps_device_pages),
	TEST(ALL, read_only_memory_migrates_both_ways),
	TEST(ALL, memory_made_read_only_on_the_device_comes_home),
	TEST(ALL, memory_without_access_keeps_its_data),
	TEST(ALL, read_only_pages_amid_writable_ones),
	TEST(ALL, mapping_over_managed_memory_wins),
	TEST(ALL, freeing_spares_what_was_mapped_over_it),
	TEST(ALL, lost_pages_can_be_unmapped_and_dropped),
};

int main(int argc, char **argv)
{
	return harness_main("test_events", cases, sizeof(cases) / sizeof(cases[0]), argc, argv);
}
