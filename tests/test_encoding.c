/* SPDX-License-Identifier: MIT */
/*
 * Ranges whose entries are the driver's own, and arrays of entries that are on the device
 * themselves.
 */
#include "harness.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>

/* Of a device whose entries are numbers from bit 8 up, with what it cares for below. */
static const struct umm_range_encoding encoding = {
	.flags = { [UMM_ENCODING_VALID] = 0x80,
		   [UMM_ENCODING_WRITE] = 0x01,
		   [UMM_ENCODING_DEVICE] = 0x10,
		   [UMM_ENCODING_COHERENT] = 0x20 },
	.values = { [UMM_ENCODING_NONE] = 0x40, [UMM_ENCODING_ERROR] = 0x4e },
	.pfn_shift = 8,
};

static void entries_may_be_the_driver_s_own(struct env *e)
{
	struct ref_device *ref = env_device(e, 64);
	bool private = e->variant.type == UMM_DEVMEM_PRIVATE;
	char *p = env_alloc_small(e, 4 * PAGE);
	uint64_t entry[4] = { 0 };
	struct umm_page_info info;
	struct umm_range range = { .size = sizeof(range),
				   .notifier = umm_mirror_notifier(ref->mirror),
				   .start = (uintptr_t)p,
				   .end = (uintptr_t)p + 4 * PAGE,
				   .entries = entry,
				   .owner = ref->dev,
				   .encoding = &encoding };

	fill(p, 2, 1);
	to_device(e, ref, p, 1, 1);
	assert_int_equal(umm_query(e->ctx, (uintptr_t)p, 1, &info), 0);
	assert_int_equal(mprotect(p + 3 * PAGE, PAGE, PROT_NONE), 0);
	range.seq = umm_notifier_read_begin(range.notifier);
	assert_int_equal(umm_range_snapshot(&range), 2);
	assert_int_equal(entry[0],
			 (uint64_t)info.frame << 8 | 0x80 | 0x01 | (private ? 0x10 : 0x20));
	assert_int_equal(entry[1], (uintptr_t)(p + PAGE) / PAGE << 8 | 0x80 | 0x01);
	assert_int_equal(entry[2], 0x40);
	assert_int_equal(entry[3], 0x4e);
	/* Requests are in it, too: page 2 is asked for, read-only pages cannot be written. */
	range.flags_mask = 0x81;
	memset(entry, 0, sizeof(entry));
	entry[2] = 0x80;
	range.seq = umm_notifier_read_begin(range.notifier);
	assert_int_equal(umm_range_fault(&range, 1000), 3);
	assert_int_equal(entry[2], (uintptr_t)(p + 2 * PAGE) / PAGE << 8 | 0x80 | 0x01);
	assert_int_equal(mprotect(p + 2 * PAGE, PAGE, PROT_READ), 0);
	memset(entry, 0, sizeof(entry));
	entry[2] = 0x01;
	assert_int_equal(umm_range_fault(&range, 1000), -EPERM);
	assert_int_equal(mprotect(p + 2 * PAGE, 2 * PAGE, PROT_READ | PROT_WRITE), 0);
}

/* Blocks that are alike throughout are answered at once, in the driver's words, too. */
static void whole_blocks_are_in_the_drivers_words(struct env *e)
{
	enum { NPAGES = 2 * UMM_BLOCK_PAGES };
	struct ref_device *ref = env_device(e, 64);
	char *p = env_alloc_small(e, 2 * BLOCK);
	static uint64_t entry[NPAGES];
	struct umm_range range = { .size = sizeof(range),
				   .notifier = umm_mirror_notifier(ref->mirror),
				   .start = (uintptr_t)p,
				   .end = (uintptr_t)p + 2 * BLOCK,
				   .entries = entry,
				   .encoding = &encoding };

	fill(p, NPAGES, 1);
	for (unsigned round = 0; round < 2; round++) {
		memset(entry, 0xff, sizeof(entry));
		range.seq = umm_notifier_read_begin(range.notifier);
		assert_int_equal(umm_range_snapshot(&range), NPAGES);
		for (size_t i = 0; i < NPAGES; i++)
			assert_int_equal(entry[i],
					 (uintptr_t)(p + i * PAGE) / PAGE << 8 | 0x80 | 0x01);
	}
}

static void encodings_that_make_no_sense_are_refused(struct env *e)
{
	struct ref_device *ref = env_device(e, 64);
	char *p = env_alloc_small(e, PAGE);
	struct umm_range_encoding bad = encoding;
	uint64_t entry = 0;
	struct umm_range range = { .size = sizeof(range),
				   .notifier = umm_mirror_notifier(ref->mirror),
				   .start = (uintptr_t)p,
				   .end = (uintptr_t)p + PAGE,
				   .entries = &entry,
				   .encoding = &bad };

	bad.pfn_shift = 64;
	assert_int_equal(umm_range_snapshot(&range), -EINVAL);
	bad.pfn_shift = 8;
	bad.flags[UMM_ENCODING_VALID] = 0;
	assert_int_equal(umm_range_snapshot(&range), -EINVAL);
	bad.flags[UMM_ENCODING_VALID] = 1;
	bad.reserved = 1;
	assert_int_equal(umm_range_fault(&range, 0), -EINVAL);
}

/* As drivers do. Where entries come home, so that they can be written, that is a change, too. */
static long until_valid(struct umm_range *range, bool fault)
{
	long ret;
	unsigned rounds = 0;

	do {
		assert_true(rounds++ < 3);
		range->seq = umm_notifier_read_begin(range->notifier);
		ret = fault ? umm_range_fault(range, 1000) : umm_range_snapshot(range);
	} while (ret == -EBUSY);
	return ret;
}

/* What the driver reads and writes by the call may itself be on its device. */
static void entries_and_requests_may_be_on_the_device(struct env *e)
{
	struct ref_device *ref = env_device(e, 64);
	char *p = env_alloc_small(e, 4 * PAGE);
	uint64_t *entries = (uint64_t *)env_alloc_small(e, 2 * PAGE);
	struct umm_range range = {
		.size = sizeof(range),
		.notifier = umm_mirror_notifier(ref->mirror),
		.start = (uintptr_t)p,
		.end = (uintptr_t)p + 4 * PAGE,
		.entries = entries,
		.flags_mask = UMM_ENTRY_REQ_FAULT,
	};

	fill(p, 2, 1);
	memset(entries, 0, PAGE);
	entries[3] = UMM_ENTRY_REQ_FAULT;
	to_device(e, ref, entries, 1, 1);
	assert_int_equal(until_valid(&range, true), 3);
	assert_int_equal(entries[2], 0);
	assert_true(entries[3] & UMM_ENTRY_VALID);
	assert_true(migrate(e, ref, entries, 1, 0) >= 0);
	assert_int_equal(until_valid(&range, false), 3);
	assert_true(entries[0] & entries[1] & entries[3] & UMM_ENTRY_VALID);
	/* The range may contain its own entries. */
	range.start = (uintptr_t)entries;
	range.end = range.start + 2 * PAGE;
	range.flags_mask = 0;
	assert_true(migrate(e, ref, entries, 1, 0) >= 0);
	assert_int_equal(until_valid(&range, false), 1);
	assert_true(entries[0] & UMM_ENTRY_VALID);
	assert_filled(p, 2, 1);
}

static void frame_numbers_may_be_on_the_device(struct env *e)
{
	struct ref_device *ref = env_device(e, 1024);
	uint32_t *frames = (uint32_t *)env_alloc_small(e, PAGE);

	memset(frames, 0, PAGE);
	to_device(e, ref, frames, 1, 1);
	assert_int_equal(umm_devmem_alloc(ref->mem, 300, frames), 0);
	assert_true(migrate(e, ref, frames, 1, 0) >= 0);
	umm_devmem_free(ref->mem, 300, frames);
	to_system(e, frames, 1, (long)count_state(e, frames, 1, env_home(e)));
	assert_free_frames(ref, 1024);
}

static const struct test_case cases[] = {
	TEST(ALL, entries_and_requests_may_be_on_the_device),
	TEST(ALL, frame_numbers_may_be_on_the_device),
	TEST(ALL, entries_may_be_the_driver_s_own),
	TEST(ONCE, whole_blocks_are_in_the_drivers_words),
	TEST(ONCE, encodings_that_make_no_sense_are_refused),
};

int main(int argc, char **argv)
{
	return harness_main("test_encoding", cases, sizeof(cases) / sizeof(cases[0]), argc, argv);
}
