/* SPDX-License-Identifier: MIT */
/*
 * Mapping whole ranges for a device that stages pages in buffers of its own: all or nothing, and
 * what it wrote is put back.
 */
#include "harness.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>

#define PAGES 16

/* The device: a buffer for each page, whose index is its address, plus one. */
struct stager {
	char *base;
	char buffer[PAGES][PAGE];
	bool mapped[PAGES];
	unsigned maps, unmaps, dirty; /* calls; of the latter, those that were told so */
	int fail_at;		      /* this page cannot be mapped; -1: all can */
	int answer;		      /* what is said then */
	unsigned changes;	      /* so often the range changes while it is mapped */
};

static int stage(void *priv, uintptr_t addr, uint64_t entry, uint64_t *daddr)
{
	struct stager *s = priv;
	size_t i = (addr - (uintptr_t)s->base) / PAGE;

	s->maps++;
	if ((int)i == s->fail_at)
		return s->answer;
	assert_true(entry & UMM_ENTRY_VALID);
	assert_false(s->mapped[i]);
	memcpy(s->buffer[i], (void *)addr, PAGE);
	s->mapped[i] = true;
	*daddr = i + 1;
	if (s->changes && i == PAGES / 2) {
		s->changes--;
		assert_int_equal(madvise(s->base + (PAGES - 1) * PAGE, PAGE, MADV_DONTNEED), 0);
	}
	return 0;
}

static void unstage(void *priv, uintptr_t addr, uint64_t daddr, bool dirty)
{
	struct stager *s = priv;
	size_t i = (size_t)daddr - 1;

	s->unmaps++;
	s->dirty += dirty;
	assert_true(i < PAGES && s->mapped[i]);
	assert_ptr_equal((char *)addr, s->base + i * PAGE);
	s->mapped[i] = false;
	if (dirty)
		memcpy((void *)addr, s->buffer[i], PAGE);
}

static const struct umm_range_map_ops ops = {
	.size = sizeof(struct umm_range_map_ops),
	.map = stage,
	.unmap = unstage,
};

/* Small enough for a stack it is not. */
static struct stager stager;
static uint64_t entries[PAGES], daddrs[PAGES];

static struct umm_range range_of(struct ref_device *ref, char *p, uint64_t request)
{
	stager = (struct stager){ .base = p, .fail_at = -1 };
	return (struct umm_range){
		.size = sizeof(struct umm_range),
		.notifier = umm_mirror_notifier(ref->mirror),
		.start = (uintptr_t)p,
		.end = (uintptr_t)p + PAGES * PAGE,
		.entries = entries,
		.default_flags = request,
	};
}

static char *pages(struct env *e, size_t npages)
{
	char *p = env_alloc_small(e, PAGES * PAGE);

	fill(p, npages, 1);
	return p;
}

static void what_the_device_wrote_is_put_back(struct env *e)
{
	struct ref_device *ref = env_device(e, 64);
	char *p = pages(e, PAGES);
	struct umm_range range = range_of(ref, p, UMM_ENTRY_REQ_FAULT | UMM_ENTRY_REQ_WRITE);

	to_device(e, ref, p, 4, 4);
	assert_int_equal(umm_range_map(&range, &ops, &stager, daddrs, 1000), PAGES);
	assert_false(umm_notifier_read_retry(range.notifier, range.seq));
	for (size_t i = 0; i < PAGES; i++) {
		assert_int_equal(daddrs[i], i + 1);
		assert_true(page_filled(stager.buffer[i], i, 1));
		page_fill(stager.buffer[i], i, 2);
	}
	assert_int_equal(umm_range_unmap(&range, &ops, &stager, daddrs, UMM_RANGE_UNMAP_DIRTY), 0);
	assert_int_equal(stager.unmaps, PAGES);
	assert_int_equal(stager.dirty, PAGES);
	assert_int_equal(daddrs[0], 0);
	assert_filled(p, PAGES, 2);
}

static void what_was_only_read_is_not(struct env *e)
{
	struct ref_device *ref = env_device(e, 64);
	char *p = pages(e, PAGES);
	struct umm_range range = range_of(ref, p, UMM_ENTRY_REQ_FAULT);

	assert_int_equal(mprotect(p + 8 * PAGE, 8 * PAGE, PROT_READ), 0);
	assert_int_equal(umm_range_map(&range, &ops, &stager, daddrs, 1000), PAGES);
	/* Of pages that are read-only nobody can say that they are dirty. */
	assert_int_equal(umm_range_unmap(&range, &ops, &stager, daddrs, UMM_RANGE_UNMAP_DIRTY), 0);
	assert_int_equal(stager.dirty, 8);
	assert_int_equal(umm_range_map(&range, &ops, &stager, daddrs, 1000), PAGES);
	assert_int_equal(umm_range_unmap(&range, &ops, &stager, daddrs, 0), 0);
	assert_int_equal(stager.dirty, 8);
	assert_filled(p, PAGES, 1);
	assert_int_equal(mprotect(p + 8 * PAGE, 8 * PAGE, PROT_READ | PROT_WRITE), 0);
}

static void only_requested_pages_are_faulted_and_mapped(struct env *e)
{
	struct ref_device *ref = env_device(e, 64);
	char *p = pages(e, 4);
	struct umm_range range = range_of(ref, p, 0);

	range.flags_mask = UMM_ENTRY_REQ_FAULT;
	memset(entries, 0, sizeof(entries));
	entries[8] = UMM_ENTRY_REQ_FAULT;
	/* What is asked for survives starting over. */
	stager.changes = 1;
	assert_int_equal(umm_range_map(&range, &ops, &stager, daddrs, 10000), 5);
	assert_int_equal(stager.changes, 0);
	assert_int_equal(daddrs[8], 9);
	assert_int_equal(daddrs[9], 0);
	assert_int_equal(umm_range_unmap(&range, &ops, &stager, daddrs, 0), 0);
	assert_int_equal(stager.maps, stager.unmaps);
}

static void a_page_that_fails_undoes_the_others(struct env *e)
{
	struct ref_device *ref = env_device(e, 64);
	char *p = pages(e, PAGES);
	struct umm_range range = range_of(ref, p, UMM_ENTRY_REQ_FAULT | UMM_ENTRY_REQ_WRITE);

	stager.fail_at = 5;
	stager.answer = -ENOSPC;
	assert_int_equal(umm_range_map(&range, &ops, &stager, daddrs, 1000), -ENOSPC);
	assert_int_equal(stager.maps, 6);
	assert_int_equal(stager.unmaps, 5);
	stager.answer = 5;
	assert_int_equal(umm_range_map(&range, &ops, &stager, daddrs, 1000), -EINVAL);
	stager.answer = -5000;
	assert_int_equal(umm_range_map(&range, &ops, &stager, daddrs, 1000), -EINVAL);
	assert_int_equal(stager.unmaps, 15);
	assert_int_equal(stager.dirty, 0);
	assert_filled(p, PAGES, 1);
}

static void a_range_that_changes_meanwhile_is_mapped_anew(struct env *e)
{
	struct ref_device *ref = env_device(e, 64);
	char *p = pages(e, PAGES);
	struct umm_range range = range_of(ref, p, UMM_ENTRY_REQ_FAULT | UMM_ENTRY_REQ_WRITE);

	stager.changes = 2;
	assert_int_equal(umm_range_map(&range, &ops, &stager, daddrs, 10000), PAGES);
	assert_int_equal(stager.changes, 0);
	assert_int_equal(stager.maps, 3 * PAGES);
	assert_int_equal(stager.unmaps, 2 * PAGES);
	assert_true(page_zero(stager.buffer[PAGES - 1]));
	assert_int_equal(umm_range_unmap(&range, &ops, &stager, daddrs, 0), 0);
}

static void time_runs_out_while_it_keeps_changing(struct env *e)
{
	struct ref_device *ref = env_device(e, 64);
	char *p = pages(e, PAGES);
	struct umm_range range = range_of(ref, p, UMM_ENTRY_REQ_FAULT);

	stager.changes = 1000000;
	assert_int_equal(umm_range_map(&range, &ops, &stager, daddrs, 0), -EBUSY);
	assert_int_equal(stager.maps, PAGES);
	assert_int_equal(stager.unmaps, PAGES);
}

static void what_cannot_be_faulted_maps_nothing(struct env *e)
{
	struct ref_device *ref = env_device(e, 64);
	char *p = env_attach(e, PAGES * PAGE);
	struct umm_range range = range_of(ref, p, UMM_ENTRY_REQ_FAULT | UMM_ENTRY_REQ_WRITE);

	assert_int_equal(mprotect(p + 4 * PAGE, PAGE, PROT_READ), 0);
	assert_int_equal(umm_range_map(&range, &ops, &stager, daddrs, 100), -EPERM);
	assert_int_equal(mprotect(p + 4 * PAGE, PAGE, PROT_NONE), 0);
	assert_int_equal(umm_range_map(&range, &ops, &stager, daddrs, 100), -EFAULT);
	env_unmap(e, p + 4 * PAGE, PAGE);
	assert_int_equal(umm_range_map(&range, &ops, &stager, daddrs, 100), -EFAULT);
	assert_int_equal(stager.maps, 0);
}

static void bad_arguments_are_refused(struct env *e)
{
	struct ref_device *ref = env_device(e, 64);
	char *p = pages(e, PAGES);
	struct umm_range range = range_of(ref, p, UMM_ENTRY_REQ_FAULT);
	struct umm_range_map_ops half = { .size = sizeof(half), .map = stage };

	assert_int_equal(umm_range_map(NULL, &ops, &stager, daddrs, 0), -EINVAL);
	assert_int_equal(umm_range_map(&range, NULL, &stager, daddrs, 0), -EINVAL);
	assert_int_equal(umm_range_map(&range, &half, &stager, daddrs, 0), -EINVAL);
	assert_int_equal(umm_range_map(&range, &ops, &stager, NULL, 0), -EINVAL);
	assert_int_equal(umm_range_unmap(&range, &half, &stager, daddrs, 0), -EINVAL);
	assert_int_equal(umm_range_unmap(&range, &ops, &stager, daddrs, 2), -EINVAL);
	range.notifier = NULL;
	assert_int_equal(umm_range_map(&range, &ops, &stager, daddrs, 0), -EINVAL);
}

/* The arrays are for PAGES pages. */
static void ranges_out_of_bounds_are_refused(struct env *e)
{
	struct ref_device *ref = env_device(e, 64);
	char *p = pages(e, PAGES);
	struct umm_range range = range_of(ref, p, UMM_ENTRY_REQ_FAULT);
	uintptr_t ends[] = { range.end + 1, UINTPTR_MAX, UINTPTR_MAX - PAGE + 1, range.start };

	range.flags_mask = UMM_ENTRY_REQ_FAULT;
	for (size_t k = 0; k < sizeof(ends) / sizeof(ends[0]); k++) {
		range.end = ends[k];
		assert_int_equal(umm_range_map(&range, &ops, &stager, daddrs, 0), -EINVAL);
		assert_int_equal(umm_range_unmap(&range, &ops, &stager, daddrs, 0), -EINVAL);
	}
	assert_int_equal(stager.maps + stager.unmaps, 0);
}

static const struct test_case cases[] = {
	TEST(ALL, what_the_device_wrote_is_put_back),
	TEST(KERNEL, what_was_only_read_is_not),
	TEST(KERNEL, only_requested_pages_are_faulted_and_mapped),
	TEST(ONCE, a_page_that_fails_undoes_the_others),
	TEST(KERNEL, a_range_that_changes_meanwhile_is_mapped_anew),
	TEST(ONCE, time_runs_out_while_it_keeps_changing),
	TEST(KERNEL, what_cannot_be_faulted_maps_nothing),
	TEST(ONCE, bad_arguments_are_refused),
	TEST(ONCE, ranges_out_of_bounds_are_refused),
};

int main(int argc, char **argv)
{
	return harness_main("test_range_map", cases, sizeof(cases) / sizeof(cases[0]), argc, argv);
}
