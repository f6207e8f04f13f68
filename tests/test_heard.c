/* SPDX-License-Identifier: MIT */
/*
 * What is heard of changes that move nothing, and of which addresses: contents that are removed
 * from under a shared mapping, write permission of pages that become duplicates, a change of
 * protection that an interposer announces, soft-dirty bits, the end of the context.
 *
 * Each is heard by a notifier of the whole address space, and counted by the reference device.
 */
#include "harness.h"

#include <errno.h>
#include <fcntl.h>
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

/* ---- soft-dirty bits ---------------------------------------------------------------- */

/* Has the page been stored to since the bits were cleared? */
static bool is_soft_dirty(const void *addr)
{
	off_t at = (off_t)((uintptr_t)addr / PAGE * sizeof(uint64_t));
	int fd = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
	uint64_t word = 0;

	assert_true(fd >= 0);
	assert_int_equal(pread(fd, &word, sizeof(word), at), sizeof(word));
	close(fd);
	return word >> 55 & 1;
}

static void clear_soft_dirty(struct env *e, char *addr, size_t len)
{
	struct umm_notifier_range range = {
		.start = (uintptr_t)addr,
		.end = (uintptr_t)addr + len,
		.event = UMM_EVENT_SOFT_DIRTY,
		.blockable = true,
	};
	struct umm_invalidation *invalidation;
	int fd = open("/proc/self/clear_refs", O_WRONLY | O_CLOEXEC);

	assert_true(fd >= 0);
	assert_int_equal(umm_invalidate_range_start(e->ctx, &range, &invalidation), 0);
	(void)!write(fd, "4", 1); /* EINVAL from kernels without such bits */
	umm_invalidate_range_end(e->ctx, invalidation);
	close(fd);
}

/* What a device was told before would let it store behind the kernel's back. */
static void a_device_that_stores_after_the_bits_were_cleared_sets_them(struct env *e)
{
	struct ref_device *ref = env_device(e, 64);
	char *p = env_alloc_small(e, LEN);
	struct heard heard;
	bool kept;

	ref_policy_set(ref, REF_IN_PLACE);
	fill(p, PAGES, 1);
	kept = is_soft_dirty(p);
	device_fill(ref, p, PAGES, 2);
	heard_start(e, &heard, UMM_EVENT_SOFT_DIRTY);
	clear_soft_dirty(e, p, LEN);
	assert_heard(&heard, p, PAGES);
	assert_int_equal(ref_counts(ref).events[UMM_EVENT_SOFT_DIRTY], 1);
	for (size_t i = 0; i < PAGES; i++) {
		assert_int_equal(ref_entry(ref, (uintptr_t)p + i * PAGE), 0);
		assert_false(is_soft_dirty(p + i * PAGE));
	}
	device_fill(ref, p, PAGES / 2, 3);
	for (size_t i = 0; i < PAGES; i++)
		assert_int_equal(is_soft_dirty(p + i * PAGE), kept && i < PAGES / 2);
	assert_filled(p, PAGES / 2, 3);
	assert_filled_part(p, PAGES / 2, PAGES / 2, 2);
}

/* ---- the end ------------------------------------------------------------------------ */

struct last {
	unsigned calls, releases;
	bool after; /* something came after it */
	struct umm_notifier *notifier;
	int removed;
};

static int last_note(void *priv, const struct umm_notifier_range *range)
{
	struct last *last = priv;

	last->after |= last->releases > 0;
	last->calls++;
	if (range->event != UMM_EVENT_RELEASE)
		return 0;
	last->releases++;
	assert_true(range->blockable && range->start == 0 && range->end == UINTPTR_MAX);
	last->removed = umm_notifier_remove(last->notifier);
	return 0;
}

static void closing_the_context_releases_notifiers(struct env *e)
{
	struct umm_notifier_ops ops = { .size = sizeof(ops), .invalidate = last_note };
	struct ref_device *ref = env_device(e, 64);
	char *p = env_alloc_small(e, LEN);
	struct umm_span span = { .start = (uintptr_t)p, .len = LEN };
	struct last kept = { 0 }, removed = { 0 };

	fill(p, PAGES, 1);
	assert_int_equal(umm_notifier_insert(e->ctx, &span, &ops, &kept, &kept.notifier), 0);
	assert_int_equal(umm_notifier_insert(e->ctx, &span, &ops, &removed, &removed.notifier), 0);
	to_device(e, ref, p, PAGES, PAGES);
	assert_int_equal(umm_notifier_remove(removed.notifier), 0);
	removed.calls = 0;
	env_close(e);
	assert_int_equal(kept.releases, 1);
	assert_true(kept.calls > 2); /* it heard of the migration, and of the end of the memory */
	assert_false(kept.after);
	assert_int_equal(kept.removed, -EDEADLK);
	assert_int_equal(umm_notifier_remove(kept.notifier), -EINVAL);
	assert_int_equal(removed.calls, 0);
	assert_int_equal(ref_counts(ref).events[UMM_EVENT_RELEASE], 0);
	assert_int_equal(ref_counts(ref).releases, 1);
}

static void a_release_is_nobody_s_to_announce(struct env *e)
{
	struct umm_notifier_range range = {
		.start = PAGE, .end = 2 * PAGE, .event = UMM_EVENT_RELEASE, .blockable = true
	};
	struct umm_invalidation *invalidation = NULL;

	assert_int_equal(umm_invalidate_range_start(e->ctx, &range, &invalidation), -EINVAL);
	assert_null(invalidation);
}

static const struct test_case cases[] = {
	TEST(ALL, removed_contents_of_a_file_are_cleared_everywhere),
	TEST(ALL, contents_removed_before_a_device_comes_are_zero_for_it),
	TEST(ALL, pages_that_become_duplicates_change_their_protection),
	TEST(ALL, an_announced_protection_reaches_mirrors_with_its_range),
	TEST(ALL, a_device_that_stores_after_the_bits_were_cleared_sets_them),
	TEST(ALL, closing_the_context_releases_notifiers),
	TEST(ONCE, a_release_is_nobody_s_to_announce),
};

int main(int argc, char **argv)
{
	return harness_main("test_heard", cases, sizeof(cases) / sizeof(cases[0]), argc, argv);
}
