/* SPDX-License-Identifier: MIT */
/*
 * Huge pages on devices: moved whole where they can be, in small pages where no huge frame is to be
 * had, taken apart by what the program does to a part of them. And a device that reads what
 * another userfaultfd of the process fills.
 */
#include "harness.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "uffd.h"

#define PAGES ((size_t)UMM_BLOCK_PAGES)
#define HALF  (PAGES / 2)

/* Halves of a huge page are taken away from here. */
static const size_t offsets[] = { 0, PAGES / 4, HALF };

/* 2 MiB of which the kernel may make a huge page. The mapping is the test's own. */
static char *huge_map(struct env *e)
{
	char *p = env_map(e, BLOCK);

	assert_int_equal(madvise(p, BLOCK, MADV_HUGEPAGE), 0);
	assert_int_equal(umm_attach(e->ctx, p, BLOCK), 0);
	return p;
}

/* On the device, filled. */
static char *huge_on_device(struct env *e, struct ref_device *ref)
{
	char *p = huge_map(e);

	fill(p, PAGES, 1);
	to_device(e, ref, p, PAGES, (long)PAGES);
	assert_state(e, p, PAGES, env_home(e));
	return p;
}

/* All but half of it from `first` on. */
static void assert_rest_filled(const char *p, size_t first)
{
	assert_filled_part(p, 0, first, 1);
	assert_filled_part(p, first + HALF, PAGES - first - HALF, 1);
}

/* ---- nothing there yet -------------------------------------------------------------- */

static void untouched_memory_goes_to_the_device_without_a_system_page(struct env *e)
{
	struct ref_device *ref = env_device(e, PAGES);
	char *p = huge_map(e);

	env_mark(e);
	to_device(e, ref, p, PAGES, (long)PAGES);
	assert_delta(e, UMM_COUNT_CLEARED, PAGES);
	assert_delta(e, UMM_COUNT_FRAMES_FRESH, 0);
	assert_delta(e, UMM_COUNT_BYTES_TO_DEVICE, 0);
	assert_device_sees_zero(ref, p, PAGES);
	assert_zero(p, PAGES);
}

static void a_device_fault_on_untouched_memory_allocates_on_the_device(struct env *e)
{
	struct ref_device *ref =
		env_device_with(e, (struct ref_options){ .nframes = PAGES, .policy = REF_MIGRATE });
	char *p = huge_map(e), byte = 7;

	env_mark(e);
	assert_int_equal(ref_write(ref, (uintptr_t)p + 3 * PAGE, &byte, 1), 0);
	assert_state(e, p + 3 * PAGE, 1, env_home(e));
	assert_delta(e, UMM_COUNT_CLEARED, 1);
	assert_delta(e, UMM_COUNT_FRAMES_FRESH, 0);
	assert_int_equal(p[3 * PAGE], 7);
	assert_int_equal(p[3 * PAGE + 1], 0);
}

static void the_zero_page_migrates_as_zeroes(struct env *e)
{
	struct ref_device *ref = env_device(e, PAGES);
	char *p = huge_map(e);

	/* One load maps the huge zero page, or a small one. */
	assert_int_equal(touch_read(p), 0);
	to_device(e, ref, p, PAGES, (long)PAGES);
	assert_device_sees_zero(ref, p, PAGES);
	assert_zero(p, PAGES);
	fill(p, PAGES, 2);
	assert_filled(p, PAGES, 2);
	/* Every page by its own load. */
	assert_int_equal(madvise(p, BLOCK, MADV_DONTNEED), 0);
	assert_zero(p, PAGES);
	to_device(e, ref, p, PAGES, (long)PAGES);
	assert_device_sees_zero(ref, p, PAGES);
}

/* ---- in part ------------------------------------------------------------------------ */

static void half_back_and_the_mix_again(struct env *e)
{
	struct ref_device *ref = env_device(e, PAGES);
	char *p = huge_on_device(e, ref);
	long moved = e->variant.type == UMM_DEVMEM_PRIVATE ? (long)HALF : 0;

	assert_filled(p, HALF, 1);
	to_device(e, ref, p, PAGES, moved);
	assert_state(e, p, PAGES, env_home(e));
	assert_free_frames(ref, 0);
	assert_filled(p, PAGES, 1);
}

static void freed_pages_give_their_frames_back(struct env *e)
{
	struct ref_device *ref = env_device(e, PAGES);
	char *p = huge_on_device(e, ref);

	assert_int_equal(madvise(p, BLOCK, MADV_FREE), 0);
	assert_free_frames(ref, PAGES);
	fill(p, PAGES, 3);
	assert_filled(p, PAGES, 3);
	assert_device_sees(ref, p, PAGES, 3);
}

static void unmapping_half_leaves_the_rest(struct env *e)
{
	struct ref_device *ref = env_device(e, PAGES);

	for (size_t k = 0; k < 3; k++) {
		char *p = huge_on_device(e, ref);

		env_unmap(e, p + offsets[k] * PAGE, HALF * PAGE);
		assert_free_frames(ref, HALF);
		assert_rest_filled(p, offsets[k]);
		umm_detach(e->ctx, p);
		assert_free_frames(ref, PAGES);
	}
}

/* ---- mremap ------------------------------------------------------------------------- */

/* Where half of a block can go. */
static char *room(struct env *e)
{
	return env_map(e, HALF * PAGE);
}

static void move_half(struct env *e, char *p, size_t first, char *to, int flags)
{
	assert_ptr_equal(mremap(p + first * PAGE, HALF * PAGE, HALF * PAGE,
				MREMAP_MAYMOVE | MREMAP_FIXED | flags, to),
			 to);
	if (!(flags & MREMAP_DONTUNMAP))
		env_forget(e, p + first * PAGE, HALF * PAGE);
}

/* Half of a page that was filled went to `to`. */
static void assert_half_moved(char *p, size_t first, const char *to, int flags)
{
	for (size_t i = 0; i < HALF; i++)
		assert_true(page_filled(to + i * PAGE, first + i, 1));
	assert_rest_filled(p, first);
	if (flags & MREMAP_DONTUNMAP)
		assert_zero(p + first * PAGE, HALF);
}

static const int moves[] = { 0, MREMAP_DONTUNMAP };

static void half_that_moves_takes_its_frames_along(struct env *e)
{
	struct ref_device *ref = env_device(e, PAGES);

	for (size_t k = 0; k < 6; k++) {
		char *p = huge_on_device(e, ref), *to = room(e);
		size_t first = offsets[k % 3];

		move_half(e, p, first, to, moves[k / 3]);
		assert_half_moved(p, first, to, moves[k / 3]);
		umm_detach(e->ctx, p);
		umm_detach(e->ctx, to);
		assert_free_frames(ref, PAGES);
	}
}

static void half_that_has_moved_migrates_from_there(struct env *e)
{
	struct ref_device *ref = env_device(e, 2 * PAGES);

	for (size_t k = 0; k < 6; k++) {
		char *p = huge_map(e), *to = room(e);
		size_t first = offsets[k % 3];

		fill(p, PAGES, 1);
		/* Watched from here on. */
		to_device(e, ref, p, PAGES, (long)PAGES);
		to_system(e, p, PAGES, (long)PAGES);
		move_half(e, p, first, to, moves[k / 3]);
		to_device(e, ref, to, HALF, (long)HALF);
		assert_half_moved(p, first, to, moves[k / 3]);
		umm_detach(e->ctx, p);
		umm_detach(e->ctx, to);
		assert_free_frames(ref, 2 * PAGES);
	}
}

/* ---- no huge frame ------------------------------------------------------------------ */

static void without_a_huge_frame_small_ones_do(struct env *e)
{
	struct ref_device *ref = env_device(e, 3 * PAGES);
	char *p = huge_map(e);
	uint32_t all[3 * UMM_BLOCK_PAGES];
	uint64_t entry;

	fill(p, PAGES, 1);
	/* The driver keeps every second frame. */
	assert_int_equal(umm_devmem_alloc(ref->mem, 3 * PAGES, all), 0);
	for (size_t i = 0; i < 3 * PAGES; i++)
		if (all[i] % 2)
			umm_devmem_free(ref->mem, 1, &all[i]);
	assert_free_frames(ref, 3 * PAGES / 2);
	to_device(e, ref, p, PAGES, (long)PAGES);
	assert_state(e, p, PAGES, env_home(e));
	assert_device_sees(ref, p, PAGES, 1);
	entry = ref_entry(ref, (uintptr_t)p);
	assert_int_equal(UMM_ENTRY_ORDER(entry), 0);
	assert_true(UMM_ENTRY_FRAME(entry) % 2);
	to_system(e, p, PAGES, (long)PAGES);
	assert_filled(p, PAGES, 1);
}

static void a_block_that_does_not_fit_goes_in_part(struct env *e)
{
	struct ref_device *ref = env_device(e, PAGES / 4);
	char *p = huge_map(e);

	fill(p, PAGES, 1);
	assert_int_equal(migrate(e, ref, p, PAGES, UMM_MIGRATE_NO_EVICT), PAGES / 4);
	assert_int_equal(count_state(e, p, PAGES, env_home(e)), PAGES / 4);
	assert_filled(p, PAGES, 1);
	/* Of untouched memory, too. */
	assert_int_equal(madvise(p, BLOCK, MADV_DONTNEED), 0);
	assert_free_frames(ref, PAGES / 4);
	assert_int_equal(migrate(e, ref, p, PAGES, UMM_MIGRATE_NO_EVICT), PAGES / 4);
	assert_zero(p, PAGES);
}

/* ---- fork --------------------------------------------------------------------------- */

static void child_has_its_own(void *arg)
{
	char *p = arg;

	for (size_t i = 0; i < PAGES; i++)
		child_check(filled_at(p, i, 1));
	fill(p, PAGES, 2);
	for (size_t i = 0; i < PAGES; i++)
		child_check(filled_at(p, i, 2));
}

static void a_child_s_stores_do_not_reach_its_parent(struct env *e)
{
	struct ref_device *ref = env_device(e, PAGES);
	char *p = huge_on_device(e, ref);

	assert_true(in_child(child_has_its_own, p));
	assert_filled(p, PAGES, 1);
	assert_device_sees(ref, p, PAGES, 1);
}

/* ---- somebody else's userfaultfd ---------------------------------------------------- */

/* Fills its memory page by page, as it is touched. */
struct filler {
	int uffd;
	char *base;
	atomic_uint faults;
	atomic_bool stop;
};

static void filler_run(void *arg)
{
	struct filler *f = arg;
	struct uffd_msg_info info;
	char page[PAGE];

	while (!atomic_load(&f->stop)) {
		if (uffd_read(f->uffd, &info) != 1) {
			harness_yield();
			continue;
		}
		page_fill(page, (info.addr - (uintptr_t)f->base) / PAGE, 4);
		atomic_fetch_add(&f->faults, 1);
		uffd_copy(f->uffd, info.addr, page, PAGE, true, NULL);
	}
}

static void a_device_reads_what_another_userfaultfd_fills(struct env *e)
{
	struct ref_device *ref = env_device(e, PAGES);
	char *p = env_map(e, 16 * PAGE), page[PAGE];
	enum umm_uffd_access access;
	struct filler f = { .base = p };
	struct actor actor;
	uint64_t features;

	f.uffd = uffd_open(false, &features, &access);
	assert_true(f.uffd >= 0);
	assert_int_equal(uffd_register_missing(f.uffd, (uintptr_t)p, 16 * PAGE), 0);
	assert_int_equal(umm_attach(e->ctx, p, 16 * PAGE), 0);
	actor_start(&actor, filler_run, &f);
	for (size_t i = 0; i < 16; i++) {
		assert_int_equal(ref_read(ref, (uintptr_t)p + i * PAGE, page, PAGE), 0);
		assert_true(page_filled(page, i, 4));
	}
	assert_int_equal(atomic_load(&f.faults), 16);
	assert_state(e, p, 16, UMM_PAGE_MIRRORED);
	to_device(e, ref, p, 16, 0);
	atomic_store(&f.stop, true);
	actor_join(&actor);
	assert_int_equal(umm_detach(e->ctx, p), 0);
	close(f.uffd);
}

static const struct test_case cases[] = {
	TEST(ALL, untouched_memory_goes_to_the_device_without_a_system_page),
	TEST(ALL, a_device_fault_on_untouched_memory_allocates_on_the_device),
	TEST(ALL, the_zero_page_migrates_as_zeroes),
	TEST(ASYNC, half_back_and_the_mix_again),
	TEST(ASYNC, freed_pages_give_their_frames_back),
	TEST(ASYNC, unmapping_half_leaves_the_rest),
	TEST(ASYNC, half_that_moves_takes_its_frames_along),
	TEST(ALL, half_that_has_moved_migrates_from_there),
	TEST(ALL, without_a_huge_frame_small_ones_do),
	TEST(ALL, a_block_that_does_not_fit_goes_in_part),
	TEST(ALL, a_child_s_stores_do_not_reach_its_parent),
	TEST(ALL, a_device_reads_what_another_userfaultfd_fills),
};

int main(int argc, char **argv)
{
	return harness_main("test_huge", cases, sizeof(cases) / sizeof(cases[0]), argc, argv);
}
