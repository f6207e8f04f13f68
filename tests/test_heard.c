/* SPDX-License-Identifier: MIT */
/*
 * What is heard of changes that move nothing, and of which addresses: contents that are removed
 * from under a shared mapping, write permission of pages that become duplicates, a change of
 * protection that an interposer announces.
 *
 * Each is heard by a notifier of the whole address space, and counted by the reference device.
 */
#include "harness.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define PAGES 16
#define LEN   (PAGES * PAGE)

/* The addresses of the events of one kind that were heard, all together. */
struct heard {
	enum umm_event event;
	struct umm_notifier *notifier;
	atomic_uint n;
	atomic_uintptr_t start, end;
};

static int heard_note(void *priv, const struct umm_notifier_range *range)
{
	struct heard *heard = priv;

	if (range->event != heard->event)
		return 0;
	if (!atomic_load(&heard->n) || range->start < atomic_load(&heard->start))
		atomic_store(&heard->start, range->start);
	if (range->end > atomic_load(&heard->end))
		atomic_store(&heard->end, range->end);
	atomic_fetch_add(&heard->n, 1);
	return 0;
}

static void heard_start(struct env *e, struct heard *heard, enum umm_event event)
{
	struct umm_notifier_ops ops = { .size = sizeof(ops), .invalidate = heard_note };
	struct umm_span all = { .start = PAGE, .len = ((size_t)1 << 47) - 2 * PAGE };

	*heard = (struct heard){ .event = event };
	assert_int_equal(umm_notifier_insert(e->ctx, &all, &ops, heard, &heard->notifier), 0);
}

/* It was heard of exactly these pages. */
static void assert_heard(struct heard *heard, const char *start, size_t npages)
{
	assert_int_equal(umm_notifier_remove(heard->notifier), 0);
	assert_true(atomic_load(&heard->n) > 0);
	assert_int_equal(atomic_load(&heard->start), (uintptr_t)start);
	assert_int_equal(atomic_load(&heard->end), (uintptr_t)start + npages * PAGE);
}

/* ---- contents that are removed ------------------------------------------------------ */

/* Does the kernel tell of what is removed from files? */
static bool is_watched(const struct env *e)
{
	struct umm_probe_info info = { .size = sizeof(info) };

	assert_int_equal(umm_probe(&info), 0);
	return info.kernel_features & ~e->variant.features_off & UMM_KERNEL_PAGEMAP_SCAN;
}

/* Whoever interposes madvise() announces it where the kernel does not tell. */
static void remove_contents(struct env *e, char *addr, size_t len)
{
	struct umm_notifier_range range = {
		.start = (uintptr_t)addr,
		.end = (uintptr_t)addr + len,
		.event = UMM_EVENT_CLEAR,
		.blockable = true,
	};
	struct umm_invalidation *invalidation = NULL;

	if (!is_watched(e))
		assert_int_equal(umm_invalidate_range_start(e->ctx, &range, &invalidation), 0);
	assert_int_equal(madvise(addr, len, MADV_REMOVE), 0);
	umm_invalidate_range_end(e->ctx, invalidation);
}

static char *file_map(struct env *e, int *fd)
{
	char *p;

	*fd = memfd_create("umm-test", MFD_CLOEXEC);
	assert_true(*fd >= 0);
	assert_int_equal(ftruncate(*fd, (off_t)LEN), 0);
	p = mmap(NULL, LEN, PROT_READ | PROT_WRITE, MAP_SHARED, *fd, 0);
	assert_ptr_not_equal(p, MAP_FAILED);
	assert_int_equal(umm_attach(e->ctx, p, LEN), 0);
	return p;
}

static void file_unmap(struct env *e, char *p, int fd)
{
	assert_int_equal(umm_detach(e->ctx, p), 0);
	munmap(p, LEN);
	close(fd);
}

static void removed_contents_of_a_file_are_cleared_everywhere(struct env *e)
{
	struct ref_device *ref = env_device(e, 64);
	char *p, page[PAGE];
	struct heard heard;
	int fd;

	p = file_map(e, &fd);
	fill(p, PAGES, 1);
	assert_device_sees(ref, p, PAGES, 1);
	heard_start(e, &heard, UMM_EVENT_CLEAR);
	remove_contents(e, p + 4 * PAGE, 8 * PAGE);
	assert_true(ref_wait_event(ref, UMM_EVENT_CLEAR, 1, PATIENCE_MS));
	wait_until(atomic_load(&heard.n) > 0);
	assert_heard(&heard, p + 4 * PAGE, 8);
	for (size_t i = 0; i < PAGES; i++)
		assert_int_equal(!ref_entry(ref, (uintptr_t)p + i * PAGE), i >= 4 && i < 12);
	assert_device_sees_zero(ref, p + 4 * PAGE, 8);
	assert_zero(p + 4 * PAGE, 8);
	for (size_t i = 4; i < 12; i++) {
		assert_int_equal(pread(fd, page, PAGE, (off_t)(i * PAGE)), PAGE);
		assert_true(page_zero(page));
	}
	assert_filled_part(p, 0, 4, 1);
	assert_filled_part(p, 12, 4, 1);
	device_fill(ref, p, PAGES, 2);
	assert_filled(p, PAGES, 2);
	env_device_gone(e, ref);
	file_unmap(e, p, fd);
}

/* Nobody has it mapped but the CPU: nothing is to be told. */
static void contents_removed_before_a_device_comes_are_zero_for_it(struct env *e)
{
	struct ref_device *ref = env_device(e, 64);
	struct heard heard;
	char *p;
	int fd;

	p = file_map(e, &fd);
	fill(p, PAGES, 1);
	heard_start(e, &heard, UMM_EVENT_CLEAR);
	assert_int_equal(madvise(p, 8 * PAGE, MADV_REMOVE), 0);
	assert_device_sees_zero(ref, p, 8);
	assert_zero(p, 8);
	assert_filled_part(p, 8, 8, 1);
	assert_int_equal(umm_notifier_remove(heard.notifier), 0);
	assert_int_equal(atomic_load(&heard.n), 0);
	env_device_gone(e, ref);
	file_unmap(e, p, fd);
}

/* ---- protection --------------------------------------------------------------------- */

static void pages_that_become_duplicates_change_their_protection(struct env *e)
{
	struct ref_device *ref = env_device(e, 64);
	char *p = env_alloc_small(e, LEN);
	struct heard heard, moves;

	fill(p, PAGES, 1);
	heard_start(e, &heard, UMM_EVENT_PROTECTION_PAGE);
	heard_start(e, &moves, UMM_EVENT_MIGRATE);
	assert_int_equal(migrate(e, ref, p + 4 * PAGE, 8, UMM_MIGRATE_DUPLICATE), 8);
	assert_heard(&heard, p + 4 * PAGE, 8);
	assert_int_equal(umm_notifier_remove(moves.notifier), 0);
	assert_int_equal(atomic_load(&moves.n), 0);
	assert_true(ref_counts(ref).events[UMM_EVENT_PROTECTION_PAGE] > 0);
	assert_filled(p, PAGES, 1);
}

static void an_announced_protection_reaches_mirrors_with_its_range(struct env *e)
{
	struct ref_device *ref = env_device(e, 64);
	char *p = env_alloc_small(e, LEN), byte = 1;
	struct umm_notifier_range range = {
		.start = (uintptr_t)p + 2 * PAGE,
		.end = (uintptr_t)p + 5 * PAGE,
		.event = UMM_EVENT_PROTECTION_VMA,
		.blockable = true,
	};
	struct umm_invalidation *invalidation;
	struct heard heard;

	fill(p, PAGES, 1);
	assert_device_sees(ref, p, PAGES, 1);
	heard_start(e, &heard, UMM_EVENT_PROTECTION_VMA);
	assert_int_equal(umm_invalidate_range_start(e->ctx, &range, &invalidation), 0);
	assert_int_equal(mprotect(p + 2 * PAGE, 3 * PAGE, PROT_READ), 0);
	umm_invalidate_range_end(e->ctx, invalidation);
	assert_heard(&heard, p + 2 * PAGE, 3);
	assert_int_equal(ref_counts(ref).events[UMM_EVENT_PROTECTION_VMA], 1);
	for (size_t i = 0; i < PAGES; i++)
		assert_int_equal(!ref_entry(ref, (uintptr_t)p + i * PAGE), i >= 2 && i < 5);
	assert_int_equal(ref_write(ref, (uintptr_t)p + 2 * PAGE, &byte, 1), -EPERM);
	assert_device_sees(ref, p, PAGES, 1);
	assert_int_equal(mprotect(p, LEN, PROT_READ | PROT_WRITE), 0);
}

static const struct test_case cases[] = {
	TEST(ALL, removed_contents_of_a_file_are_cleared_everywhere),
	TEST(ALL, contents_removed_before_a_device_comes_are_zero_for_it),
	TEST(ALL, pages_that_become_duplicates_change_their_protection),
	TEST(ALL, an_announced_protection_reaches_mirrors_with_its_range),
};

int main(int argc, char **argv)
{
	return harness_main("test_heard", cases, sizeof(cases) / sizeof(cases[0]), argc, argv);
}
