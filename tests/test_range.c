/* SPDX-License-Identifier: MIT */
/*
 * Ranges: the exact codes of a snapshot, what a fault makes resident and what it refuses.
 */
#include "harness.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>

#define BLOCK_PAGES UMM_BLOCK_PAGES
#define FLAGS	    (PAGE - 1)
#define REQUESTS    (UMM_ENTRY_REQ_FAULT | UMM_ENTRY_REQ_WRITE)

/* A range over npages pages as the device sees it; the sequence is fresh. */
static struct umm_range range_of(struct ref_device *ref, const void *addr, size_t npages,
				 uint64_t *entries)
{
	struct umm_range range = {
		.size = sizeof(range),
		.notifier = umm_mirror_notifier(ref->mirror),
		.start = (uintptr_t)addr,
		.end = (uintptr_t)addr + npages * PAGE,
		.entries = entries,
		.owner = ref->dev,
	};

	range.seq = umm_notifier_read_begin(range.notifier);
	return range;
}

/* Like the loop of umm.h: bringing pages home makes the sequence stale. */
static long fault_range(struct umm_range *range)
{
	long ret;

	do {
		range->seq = umm_notifier_read_begin(range->notifier);
		ret = umm_range_fault(range, 1000);
	} while (ret == -EBUSY);
	return ret;
}

static long fault_all(struct ref_device *ref, const void *addr, size_t npages, uint64_t *entries,
		      bool write)
{
	struct umm_range range = range_of(ref, addr, npages, entries);

	range.default_flags = UMM_ENTRY_REQ_FAULT | (write ? UMM_ENTRY_REQ_WRITE : 0);
	return fault_range(&range);
}

static long snapshot(struct ref_device *ref, const void *addr, size_t npages, uint64_t *entries)
{
	struct umm_range range = range_of(ref, addr, npages, entries);

	return umm_range_snapshot(&range);
}

/* The flags of a page of device memory of the variant's kind. */
static uint64_t device_flags(struct env *e)
{
	return UMM_ENTRY_VALID | UMM_ENTRY_WRITE |
	       (e->variant.type == UMM_DEVMEM_PRIVATE ? UMM_ENTRY_DEVICE : UMM_ENTRY_COHERENT);
}

static void assert_entry(struct env *e, const void *addr, uint64_t entry, uint64_t flags)
{
	struct umm_page_info info;

	assert_int_equal(umm_query(e->ctx, (uintptr_t)addr, 1, &info), 0);
	assert_int_equal(entry & FLAGS, flags);
	if (flags & UMM_ENTRY_DUPLICATE)
		return;
	if (flags & (UMM_ENTRY_DEVICE | UMM_ENTRY_COHERENT))
		assert_int_equal(UMM_ENTRY_FRAME(entry), info.frame);
	else if (flags & UMM_ENTRY_VALID)
		assert_int_equal(UMM_ENTRY_ADDR(entry), (uintptr_t)addr);
}

/* ---- snapshots ---------------------------------------------------------------------- */

enum { PAGE_EMPTY, PAGE_SYSTEM, PAGE_OWN, PAGE_OTHER, PAGE_COPY, PAGE_OTHERS_COPY, NR_HOMES };

/* One page of every kind; a is the device that will ask. */
static char *homes(struct env *e, struct ref_device *a, struct ref_device *b)
{
	char *p = env_alloc_small(e, NR_HOMES * PAGE);

	fill(p + PAGE, NR_HOMES - 1, 1);
	to_device(e, a, p + PAGE_OWN * PAGE, 1, 1);
	to_device(e, b, p + PAGE_OTHER * PAGE, 1, 1);
	assert_int_equal(migrate(e, a, p + PAGE_COPY * PAGE, 1, UMM_MIGRATE_DUPLICATE), 1);
	assert_int_equal(migrate(e, b, p + PAGE_OTHERS_COPY * PAGE, 1, UMM_MIGRATE_DUPLICATE), 1);
	return p;
}

static void snapshot_reports_every_home(struct env *e)
{
	struct ref_device *a = env_device(e, 64), *b = env_device(e, 64);
	bool private = e->variant.type == UMM_DEVMEM_PRIVATE;
	char *p = homes(e, a, b);
	char frame[PAGE];
	uint64_t entry[NR_HOMES];

	env_mark(e);
	assert_int_equal(snapshot(a, p, NR_HOMES, entry), private ? 4 : 5);
	assert_int_equal(entry[PAGE_EMPTY], 0);
	assert_entry(e, p + PAGE_SYSTEM * PAGE, entry[PAGE_SYSTEM],
		     UMM_ENTRY_VALID | UMM_ENTRY_WRITE);
	assert_entry(e, p + PAGE_OWN * PAGE, entry[PAGE_OWN], device_flags(e));
	if (private)
		assert_int_equal(entry[PAGE_OTHER], 0);
	else
		assert_entry(e, p + PAGE_OTHER * PAGE, entry[PAGE_OTHER], device_flags(e));
	assert_entry(e, p + PAGE_COPY * PAGE, entry[PAGE_COPY],
		     UMM_ENTRY_VALID | UMM_ENTRY_DEVICE | UMM_ENTRY_DUPLICATE);
	ref_frame_read(a, UMM_ENTRY_FRAME(entry[PAGE_COPY]), frame);
	assert_memory_equal(frame, p + PAGE_COPY * PAGE, PAGE);
	assert_entry(e, p + PAGE_OTHERS_COPY * PAGE, entry[PAGE_OTHERS_COPY], UMM_ENTRY_VALID);
	/* Nothing was faulted in. */
	assert_state(e, p, 1, UMM_PAGE_EMPTY);
	assert_state(e, p + PAGE_OTHER * PAGE, 1, env_home(e));
	assert_delta(e, UMM_COUNT_COPIES, 0);
}

static void snapshot_without_owner_reports_no_private_pages(struct env *e)
{
	struct ref_device *a = env_device(e, 64), *b = env_device(e, 64);
	bool private = e->variant.type == UMM_DEVMEM_PRIVATE;
	char *p = homes(e, a, b);
	uint64_t entry[NR_HOMES];
	struct umm_range range = range_of(a, p, NR_HOMES, entry);

	range.owner = NULL;
	assert_int_equal(umm_range_snapshot(&range), private ? 3 : 5);
	if (private) {
		assert_int_equal(entry[PAGE_OWN], 0);
		assert_int_equal(entry[PAGE_OTHER], 0);
	}
	assert_entry(e, p + PAGE_COPY * PAGE, entry[PAGE_COPY], UMM_ENTRY_VALID);
}

static void snapshot_is_limited_to_one_memory(struct env *e)
{
	struct ref_device *ref = env_device(e, 64);
	char *p = env_alloc_small(e, 2 * PAGE);
	struct umm_devmem *second;
	uint64_t entry[2];
	struct umm_range range;

	assert_int_equal(ref_memory_add(ref, UMM_DEVMEM_PRIVATE, 64, &second), 0);
	fill(p, 2, 1);
	to_device(e, ref, p, 1, 1);
	assert_int_equal(umm_migrate_to_device(e->ctx, second, p + PAGE, PAGE), 1);
	range = range_of(ref, p, 2, entry);
	assert_int_equal(umm_range_snapshot(&range), 2);
	range = range_of(ref, p, 2, entry);
	range.mem = ref->mem;
	assert_int_equal(umm_range_snapshot(&range), 1);
	assert_int_equal(entry[1], 0);
	assert_true(entry[0] & UMM_ENTRY_DEVICE);
	/* A fault brings home what the range cannot name. */
	range = range_of(ref, p, 2, entry);
	range.mem = ref->mem;
	range.default_flags = UMM_ENTRY_REQ_FAULT;
	assert_int_equal(fault_range(&range), 2);
	assert_entry(e, p + PAGE, entry[1], UMM_ENTRY_VALID | UMM_ENTRY_WRITE);
	assert_state(e, p, 1, UMM_PAGE_DEVICE);
}

static void snapshot_follows_protection(struct env *e)
{
	struct ref_device *ref = env_device(e, 64);
	char *p = env_alloc_small(e, 6 * PAGE);
	uint64_t entry[6];

	fill(p, 6, 1);
	to_device(e, ref, p + PAGE, 1, 1);
	to_device(e, ref, p + 3 * PAGE, 1, 1);
	assert_int_equal(mprotect(p, 2 * PAGE, PROT_READ), 0);
	assert_int_equal(mprotect(p + 4 * PAGE, PAGE, PROT_NONE), 0);
	assert_int_equal(snapshot(ref, p, 6, entry), 5);
	assert_entry(e, p, entry[0], UMM_ENTRY_VALID);
	assert_entry(e, p + PAGE, entry[1], device_flags(e) & ~UMM_ENTRY_WRITE);
	assert_entry(e, p + 2 * PAGE, entry[2], UMM_ENTRY_VALID | UMM_ENTRY_WRITE);
	assert_entry(e, p + 3 * PAGE, entry[3], device_flags(e));
	assert_int_equal(entry[4], UMM_ENTRY_ERROR);
	assert_int_equal(mprotect(p, 5 * PAGE, PROT_READ | PROT_WRITE), 0);
	assert_int_equal(snapshot(ref, p, 6, entry), 6);
	assert_entry(e, p, entry[0], UMM_ENTRY_VALID | UMM_ENTRY_WRITE);
	assert_entry(e, p + PAGE, entry[1], device_flags(e));
}

static void snapshot_of_holes_and_foreign_memory_is_none(struct env *e)
{
	struct ref_device *ref = env_device(e, 64);
	char *p = env_map(e, 8 * PAGE);
	uint64_t entry[8];

	fill(p, 8, 1);
	assert_int_equal(umm_attach(e->ctx, p + 2 * PAGE, 4 * PAGE), 0);
	env_unmap(e, p + 4 * PAGE, PAGE);
	assert_int_equal(snapshot(ref, p, 8, entry), 3);
	assert_int_equal(entry[1], 0);
	assert_int_equal(entry[4], UMM_ENTRY_ERROR);
	assert_int_equal(entry[6], 0);
	assert_entry(e, p + 2 * PAGE, entry[2], UMM_ENTRY_VALID | UMM_ENTRY_WRITE);
}

static void snapshot_of_a_lost_page_is_an_error(struct env *e)
{
	struct ref_device *ref = env_device(e, 64);
	char *p = env_alloc_small(e, 3 * PAGE);
	uint64_t entry[3];

	fill(p, 3, 1);
	to_device(e, ref, p + PAGE, 1, 1);
	ref_fail(ref, &(struct ref_failure){ .error = -EIO, .from_device = true });
	umm_migrate_to_system(e->ctx, p + PAGE, PAGE);
	assert_state(e, p + PAGE, 1, UMM_PAGE_POISONED);
	assert_int_equal(snapshot(ref, p, 3, entry), 2);
	assert_int_equal(entry[1] & FLAGS, UMM_ENTRY_ERROR);
	assert_int_equal(fault_all(ref, p, 3, entry, false), -EFAULT);
	assert_int_equal(fault_all(ref, p, 1, entry, true), 1);
}

static void snapshot_of_a_migrating_page_is_none(struct env *e)
{
	struct ref_device *ref = env_device(e, 64);
	char *p = env_alloc_small(e, 3 * PAGE);
	struct umm_fence *fence;
	struct umm_range range;
	uint64_t entry[3];

	fill(p, 3, 1);
	ref_gate_close(ref, REF_GATE_COPY);
	fence = migrate_start(e, ref, p + PAGE, 1);
	assert_true(ref_gate_wait(ref, REF_GATE_COPY, PATIENCE_MS));
	assert_int_equal(snapshot(ref, p, 3, entry), 2);
	assert_int_equal(entry[1], 0);
	range = range_of(ref, p, 3, entry);
	range.default_flags = UMM_ENTRY_REQ_FAULT;
	assert_int_equal(umm_range_fault(&range, 0), -EBUSY);
	range = range_of(ref, p, 3, entry);
	assert_int_equal(umm_range_fault(&range, 10), 2); /* not asked for: not waited for */
	ref_gate_open(ref, REF_GATE_COPY);
	assert_int_equal(umm_fence_wait(fence, PATIENCE_MS), 0);
	umm_fence_put(fence);
	assert_int_equal(fault_all(ref, p, 3, entry, false), 3);
	assert_entry(e, p + PAGE, entry[1], device_flags(e));
}

struct faulter {
	struct ref_device *ref;
	char *p;
	uint64_t entry;
	long ret;
};

static void faulter_run(void *arg)
{
	struct faulter *f = arg;
	struct umm_range range;

	do {
		range = range_of(f->ref, f->p, 1, &f->entry);
		range.default_flags = UMM_ENTRY_REQ_FAULT;
		f->ret = umm_range_fault(&range, PATIENCE_MS);
	} while (f->ret == -EBUSY);
}

static void fault_waits_for_a_migration(struct env *e)
{
	struct ref_device *ref = env_device(e, 64);
	char *p = env_alloc_small(e, PAGE);
	struct faulter f = { .ref = ref, .p = p };
	struct umm_fence *fence;
	struct actor actor;

	fill(p, 1, 1);
	ref_gate_close(ref, REF_GATE_COPY);
	fence = migrate_start(e, ref, p, 1);
	assert_true(ref_gate_wait(ref, REF_GATE_COPY, PATIENCE_MS));
	actor_start(&actor, faulter_run, &f);
	assert_true(actor_blocks(&actor));
	ref_gate_open(ref, REF_GATE_COPY);
	actor_join(&actor);
	assert_int_equal(f.ret, 1);
	assert_entry(e, p, f.entry, device_flags(e));
	umm_fence_put(fence);
}

/* ---- faults ------------------------------------------------------------------------- */

static void fault_makes_every_page_resident(struct env *e)
{
	struct ref_device *a = env_device(e, 64), *b = env_device(e, 64);
	bool private = e->variant.type == UMM_DEVMEM_PRIVATE;
	char *p = homes(e, a, b);
	uint64_t entry[NR_HOMES];

	assert_int_equal(fault_all(a, p, NR_HOMES, entry, false), NR_HOMES);
	assert_entry(e, p, entry[PAGE_EMPTY], UMM_ENTRY_VALID | UMM_ENTRY_WRITE);
	assert_state(e, p, 1, UMM_PAGE_SYSTEM);
	assert_entry(e, p + PAGE_OWN * PAGE, entry[PAGE_OWN], device_flags(e));
	assert_entry(e, p + PAGE_OTHER * PAGE, entry[PAGE_OTHER],
		     private ? UMM_ENTRY_VALID | UMM_ENTRY_WRITE : device_flags(e));
	assert_free_frames(b, private ? 63 : 62);
	assert_entry(e, p + PAGE_COPY * PAGE, entry[PAGE_COPY],
		     UMM_ENTRY_VALID | UMM_ENTRY_DEVICE | UMM_ENTRY_DUPLICATE);
	assert_entry(e, p + PAGE_OTHERS_COPY * PAGE, entry[PAGE_OTHERS_COPY], UMM_ENTRY_VALID);
	assert_zero(p, 1);
	for (size_t i = 1; i < NR_HOMES; i++)
		assert_true(page_filled(p + i * PAGE, i - 1, 1));
}

/* The books cannot know when the kernel has dropped a page; what is asked for is there. */
static void fault_makes_dropped_pages_resident(struct env *e)
{
	struct ref_device *ref = env_device(e, 64);
	char *p = env_alloc_small(e, 4 * PAGE);
	uint64_t entry[4];
	struct umm_range range;

	fill(p, 4, 1);
	to_device(e, ref, p, 1, 1);
	assert_int_equal(madvise(p + PAGE, 3 * PAGE, MADV_DONTNEED), 0);
	assert_false(cpu_maps(p + PAGE));
	range = range_of(ref, p, 4, entry);
	range.default_flags = UMM_ENTRY_REQ_FAULT;
	assert_int_equal(umm_range_fault(&range, 1000), 4);
	for (size_t i = 1; i < 4; i++) {
		assert_true(cpu_maps(p + i * PAGE));
		assert_entry(e, p + i * PAGE, entry[i], UMM_ENTRY_VALID | UMM_ENTRY_WRITE);
	}
	env_mark(e);
	assert_zero(p + PAGE, 3);
	assert_delta(e, UMM_COUNT_FAULT_EMPTY, 0);
	assert_filled(p, 1, 1);
}

static void fault_for_writing_ends_duplications(struct env *e)
{
	struct ref_device *a = env_device(e, 64), *b = env_device(e, 64);
	char *p = homes(e, a, b);
	uint64_t entry[NR_HOMES];
	size_t i;

	assert_int_equal(fault_all(a, p, NR_HOMES, entry, true), NR_HOMES);
	for (i = 0; i < NR_HOMES; i++)
		assert_true(entry[i] & UMM_ENTRY_WRITE);
	assert_int_equal(count_state(e, p, NR_HOMES, UMM_PAGE_DUPLICATED), 0);
	for (i = 1; i < NR_HOMES; i++)
		assert_true(page_filled(p + i * PAGE, i - 1, 1));
}

static void fault_without_owner_brings_private_pages_home(struct env *e)
{
	struct ref_device *ref = env_device(e, 64);
	char *p = env_alloc_small(e, 4 * PAGE);
	uint64_t entry[4];
	struct umm_range range;

	fill(p, 4, 1);
	to_device(e, ref, p, 4, 4);
	range = range_of(ref, p, 4, entry);
	range.owner = NULL;
	range.default_flags = UMM_ENTRY_REQ_FAULT;
	assert_int_equal(fault_range(&range), 4);
	if (e->variant.type == UMM_DEVMEM_PRIVATE) {
		assert_state(e, p, 4, UMM_PAGE_SYSTEM);
		assert_entry(e, p, entry[0], UMM_ENTRY_VALID | UMM_ENTRY_WRITE);
	} else {
		assert_state(e, p, 4, UMM_PAGE_COHERENT);
		assert_entry(e, p, entry[0], device_flags(e));
	}
	assert_filled(p, 4, 1);
}

static void write_to_read_only_memory_is_eperm(struct env *e)
{
	struct ref_device *ref = env_device(e, 64);
	char *p = env_alloc_small(e, 4 * PAGE), byte = 'x';
	uint64_t entry[4];

	ref_policy_set(ref, REF_IN_PLACE);
	fill(p, 4, 1);
	to_device(e, ref, p, 1, 1);
	assert_int_equal(mprotect(p, 4 * PAGE, PROT_READ), 0);
	assert_int_equal(fault_all(ref, p, 4, entry, true), -EPERM);
	assert_int_equal(ref_write(ref, (uintptr_t)p, &byte, 1), -EPERM);
	assert_int_equal(ref_write(ref, (uintptr_t)p + PAGE, &byte, 1), -EPERM);
	assert_int_equal(fault_all(ref, p, 4, entry, false), 4);
	assert_device_sees(ref, p, 4, 1);
	assert_int_equal(mprotect(p, 4 * PAGE, PROT_READ | PROT_WRITE), 0);
	assert_int_equal(fault_all(ref, p, 4, entry, true), 4);
	device_fill(ref, p, 4, 2);
	assert_filled(p, 4, 2);
}

static void fault_where_nothing_can_be_is_efault(struct env *e)
{
	struct ref_device *ref = env_device(e, 64);
	char *p = env_map(e, 8 * PAGE), *q;
	uint64_t entry[8], before;

	fill(p, 8, 1);
	assert_int_equal(umm_attach(e->ctx, p, 6 * PAGE), 0);
	env_unmap(e, p + PAGE, PAGE);
	q = env_alloc_small(e, 2 * PAGE);
	fill(q, 2, 1);
	assert_int_equal(mprotect(q, PAGE, PROT_NONE), 0);
	before = ref_counts(ref).invalidations;
	assert_int_equal(fault_all(ref, p, 2, entry, false), -EFAULT);
	assert_int_equal(fault_all(ref, p + 4 * PAGE, 4, entry, false), -EFAULT);
	assert_int_equal(fault_all(ref, p + 6 * PAGE, 1, entry, true), -EFAULT);
	assert_int_equal(fault_all(ref, q, 1, entry, false), -EFAULT);
	assert_int_equal(fault_all(ref, q, 2, entry, true), -EFAULT);
	assert_int_equal(ref_counts(ref).invalidations, before);
	assert_int_equal(fault_all(ref, p + 2 * PAGE, 4, entry, false), 4);
	assert_int_equal(fault_all(ref, q + PAGE, 1, entry, true), 1);
}

static void requests_are_per_entry_or_for_all(struct env *e)
{
	struct ref_device *ref = env_device(e, 64);
	char *p = env_alloc_small(e, 6 * PAGE);
	uint64_t entry[6] = { 0, UMM_ENTRY_REQ_FAULT,
			      0, UMM_ENTRY_REQ_FAULT | UMM_ENTRY_REQ_WRITE,
			      0, 0 };
	struct umm_range range;

	/* By entry: only what asks for it is faulted in. */
	range = range_of(ref, p, 6, entry);
	range.flags_mask = REQUESTS;
	assert_int_equal(umm_range_fault(&range, 1000), 2);
	assert_int_equal(entry[0], 0);
	assert_true(entry[1] & UMM_ENTRY_VALID);
	assert_int_equal(entry[2], 0);
	assert_true(entry[3] & UMM_ENTRY_WRITE);
	assert_state(e, p, 1, UMM_PAGE_EMPTY);
	assert_state(e, p + PAGE, 1, UMM_PAGE_SYSTEM);

	/* With a mask of 0 entries are no requests, whatever they hold. */
	memset(entry, 0xff, sizeof(entry));
	range = range_of(ref, p, 6, entry);
	assert_int_equal(umm_range_fault(&range, 1000), 2);
	assert_state(e, p, 1, UMM_PAGE_EMPTY);

	/* The mask says which of their bits count. */
	memset(entry, 0, sizeof(entry));
	assert_int_equal(mprotect(p, PAGE, PROT_READ), 0);
	entry[0] = UMM_ENTRY_REQ_FAULT | UMM_ENTRY_REQ_WRITE;
	range = range_of(ref, p, 6, entry);
	range.flags_mask = UMM_ENTRY_REQ_FAULT;
	assert_int_equal(umm_range_fault(&range, 1000), 3);
	assert_int_equal(entry[0] & FLAGS, UMM_ENTRY_VALID);

	/* Defaults and entries add up. */
	memset(entry, 0, sizeof(entry));
	entry[4] = UMM_ENTRY_REQ_WRITE;
	range = range_of(ref, p, 6, entry);
	range.default_flags = UMM_ENTRY_REQ_FAULT;
	range.flags_mask = REQUESTS;
	assert_int_equal(umm_range_fault(&range, 1000), 6);
	assert_true(entry[4] & UMM_ENTRY_WRITE);
}

static void order_tells_of_blocks_that_are_mapped_alike(struct env *e)
{
	struct ref_device *ref = env_device(e, BLOCK_PAGES);
	char *p = env_alloc(e, BLOCK);
	static uint64_t entry[BLOCK_PAGES];
	size_t i;

	fill(p, BLOCK_PAGES, 1);
	to_device(e, ref, p, BLOCK_PAGES, BLOCK_PAGES);
	assert_int_equal(snapshot(ref, p, BLOCK_PAGES, entry), BLOCK_PAGES);
	for (i = 0; i < BLOCK_PAGES; i++) {
		assert_int_equal(UMM_ENTRY_ORDER(entry[i]), 9);
		assert_int_equal(UMM_ENTRY_FRAME(entry[i]), UMM_ENTRY_FRAME(entry[0]) + i);
	}
	to_system(e, p + 5 * PAGE, 1, 1);
	assert_int_equal(snapshot(ref, p, BLOCK_PAGES, entry), BLOCK_PAGES);
	for (i = 0; i < BLOCK_PAGES; i++)
		assert_int_equal(UMM_ENTRY_ORDER(entry[i]), 0);
	assert_int_equal(entry[5] & (UMM_ENTRY_DEVICE | UMM_ENTRY_COHERENT), 0);
}

/* ---- stale and bad requests --------------------------------------------------------- */

enum { MIX_PAGES = 3 * BLOCK_PAGES - 4, MIX_READ_ONLY = 700, MIX_NR_READ_ONLY = 10 };

static bool mix_is_read_only(size_t i)
{
	return i >= MIX_READ_ONLY && i < MIX_READ_ONLY + MIX_NR_READ_ONLY;
}

static bool mix_is_empty(size_t i)
{
	return i % 64 == 61 || i % BLOCK_PAGES == BLOCK_PAGES - 2;
}

static bool mix_is_away(size_t i)
{
	return i % 100 == 7 && !mix_is_read_only(i);
}

/* Entries say of every page what it is, though most of their neighbours are alike. */
static void runs_of_plain_pages_end_where_another_page_begins(struct env *e)
{
	struct ref_device *ref = env_device(e, 64);
	char *p = (char *)env_alloc_small(e, 3 * BLOCK) + 2 * PAGE;
	static uint64_t entry[MIX_PAGES];
	long valid = 0;
	size_t i;

	for (i = 0; i < MIX_PAGES; i++) {
		if (!mix_is_empty(i))
			page_fill(p + i * PAGE, i, 1);
		valid += !mix_is_empty(i);
		if (mix_is_away(i))
			to_device(e, ref, p + i * PAGE, 1, 1);
	}
	assert_int_equal(mprotect(p + MIX_READ_ONLY * PAGE, MIX_NR_READ_ONLY * PAGE, PROT_READ), 0);
	/* So that all of it is known. */
	fault_all(ref, p, 1, entry, false);
	assert_int_equal(snapshot(ref, p, MIX_PAGES, entry), valid);
	for (i = 0; i < MIX_PAGES; i++) {
		uint64_t flags = mix_is_empty(i)     ? 0 :
				 mix_is_away(i)	     ? device_flags(e) :
				 mix_is_read_only(i) ? UMM_ENTRY_VALID :
						       UMM_ENTRY_VALID | UMM_ENTRY_WRITE;

		assert_entry(e, p + i * PAGE, entry[i], flags);
	}
	assert_int_equal(fault_all(ref, p, MIX_PAGES, entry, true), -EPERM);
	assert_int_equal(fault_all(ref, p, MIX_READ_ONLY, entry, true), MIX_READ_ONLY);
	for (i = 0; i < MIX_READ_ONLY; i++)
		assert_entry(e, p + i * PAGE, entry[i],
			     mix_is_away(i) ? device_flags(e) : UMM_ENTRY_VALID | UMM_ENTRY_WRITE);
	assert_int_equal(fault_all(ref, p, MIX_PAGES, entry, false), MIX_PAGES);
}

/* Blocks of which all is there get their entries first; what is missing behind them still comes. */
static void fault_goes_on_behind_blocks_that_are_plain(struct env *e)
{
	enum { BLOCKS = 4, NPAGES = BLOCKS * BLOCK_PAGES - 5, MISSING = 3 * BLOCK_PAGES - 7 };
	struct ref_device *ref = env_device(e, 64);
	char *p = (char *)env_alloc_small(e, BLOCKS * BLOCK) + 3 * PAGE;
	static uint64_t entry[NPAGES];
	struct umm_range range;

	fill(p, MISSING, 1);
	fill(p + (MISSING + 2) * PAGE, NPAGES - MISSING - 2, 1);
	/* All of it is known, and two pages are not there. */
	assert_int_equal(snapshot(ref, p, NPAGES, entry), NPAGES - 2);
	memset(entry, 0xff, sizeof(entry));
	range = range_of(ref, p, NPAGES, entry);
	range.default_flags = REQUESTS;
	assert_int_equal(umm_range_fault(&range, 1000), NPAGES);
	for (size_t i = 0; i < NPAGES; i++)
		assert_entry(e, p + i * PAGE, entry[i], UMM_ENTRY_VALID | UMM_ENTRY_WRITE);
	assert_true(cpu_maps(p + MISSING * PAGE) && cpu_maps(p + (MISSING + 1) * PAGE));
	/* What was given out is known to be: less is allowed now, and the sequence is stale. */
	range.seq = umm_notifier_read_begin(range.notifier);
	assert_int_equal(mprotect(p, PAGE, PROT_READ), 0);
	assert_int_equal(umm_range_snapshot(&range), -EBUSY);
	assert_int_equal(snapshot(ref, p, NPAGES, entry), NPAGES);
	assert_entry(e, p, entry[0], UMM_ENTRY_VALID);
	assert_entry(e, p + PAGE, entry[1], UMM_ENTRY_VALID | UMM_ENTRY_WRITE);
}

/* However the caller's array lies; also where signals are let through between two blocks. */
static void entries_of_many_plain_blocks_fill_their_array_exactly(struct env *e)
{
	enum { BLOCKS = 130, NPAGES = BLOCKS * BLOCK_PAGES - 7, WORDS = 8 };
	struct ref_device *ref = env_device(e, 64);
	char *p = (char *)env_alloc(e, BLOCKS * BLOCK) + 3 * PAGE;
	static uint64_t place[WORDS + NPAGES + WORDS];
	size_t away = 128 * BLOCK_PAGES + 9;

	assert_int_equal(madvise(p, NPAGES * PAGE, MADV_POPULATE_READ), 0);
	for (size_t before = 1; before <= WORDS; before++) {
		uint64_t *entry = place + before;
		size_t wrong = 0;

		memset(place, 0xff, sizeof(place));
		if (before % 2)
			assert_int_equal(snapshot(ref, p, NPAGES, entry), NPAGES);
		else
			assert_int_equal(fault_all(ref, p, NPAGES, entry, true), NPAGES);
		for (size_t i = 0; i < NPAGES; i++)
			wrong += entry[i] !=
				 ((uintptr_t)p + i * PAGE) + UMM_ENTRY_VALID + UMM_ENTRY_WRITE;
		for (size_t i = 0; i < before; i++)
			wrong += place[i] != UINT64_MAX;
		for (size_t i = before + NPAGES; i < WORDS + NPAGES + WORDS; i++)
			wrong += place[i] != UINT64_MAX;
		assert_int_equal(wrong, 0);
	}
	to_device(e, ref, p + away * PAGE, 1, 1);
	assert_int_equal(snapshot(ref, p, NPAGES, place), NPAGES);
	for (size_t i = away - 2; i < away + 3; i++)
		assert_entry(e, p + i * PAGE, place[i],
			     i == away ? device_flags(e) : UMM_ENTRY_VALID | UMM_ENTRY_WRITE);
}

static void stale_sequence_is_ebusy(struct env *e)
{
	struct ref_device *ref = env_device(e, 64);
	char *p = env_alloc_small(e, 4 * PAGE);
	struct umm_range range;
	uint64_t entry[4];

	fill(p, 4, 1);
	range = range_of(ref, p, 4, entry);
	to_device(e, ref, p, 4, 4);
	assert_int_equal(umm_range_snapshot(&range), -EBUSY);
	range.default_flags = UMM_ENTRY_REQ_FAULT;
	assert_int_equal(umm_range_fault(&range, 1000), -EBUSY);
	assert_true(umm_notifier_read_retry(range.notifier, range.seq));
	range.seq = umm_notifier_read_begin(range.notifier);
	assert_int_equal(umm_range_fault(&range, 1000), 4);
	assert_false(umm_notifier_read_retry(range.notifier, range.seq));
}

static int quiet(void *priv, const struct umm_notifier_range *range)
{
	(void)priv;
	(void)range;
	return 0;
}

static void bad_ranges_are_einval(struct env *e)
{
	struct {
		struct umm_range range;
		uint64_t newer;
	} big = { .newer = 1 };
	struct umm_notifier_ops ops = { .size = sizeof(ops), .invalidate = quiet };
	struct ref_device *ref = env_device(e, 64);
	char *p = env_alloc_small(e, 8 * PAGE);
	struct umm_span span = { .start = (uintptr_t)p + 2 * PAGE, .len = 4 * PAGE };
	struct umm_notifier *notifier;
	uint64_t entry[8];
	struct umm_range range;

	fill(p, 8, 1);
	assert_int_equal(umm_range_snapshot(NULL), -EINVAL);
	range = range_of(ref, p, 1, entry);
	range.start++;
	assert_int_equal(umm_range_snapshot(&range), -EINVAL);
	assert_int_equal(umm_range_fault(&range, 0), -EINVAL);
	range = range_of(ref, p, 1, entry);
	range.end--;
	assert_int_equal(umm_range_snapshot(&range), -EINVAL);
	range = range_of(ref, p, 0, entry);
	assert_int_equal(umm_range_snapshot(&range), -EINVAL);
	assert_int_equal(umm_range_fault(&range, 0), -EINVAL);
	range = range_of(ref, p + PAGE, 1, entry);
	range.end = (uintptr_t)p;
	assert_int_equal(umm_range_snapshot(&range), -EINVAL);
	range = range_of(ref, p, 1, NULL);
	assert_int_equal(umm_range_snapshot(&range), -EINVAL);
	range = range_of(ref, p, 1, entry);
	range.flags = UMM_RANGE_PAGEMAP << 1;
	assert_int_equal(umm_range_snapshot(&range), -EINVAL);
	range.flags = 0;
	range.size = 0;
	assert_int_equal(umm_range_snapshot(&range), -EINVAL);
	big.range = range_of(ref, p, 1, entry);
	big.range.size = sizeof(big);
	assert_int_equal(umm_range_snapshot(&big.range), -E2BIG);

	assert_int_equal(umm_notifier_insert(e->ctx, &span, &ops, NULL, &notifier), 0);
	range = range_of(ref, p + 2 * PAGE, 4, entry);
	range.notifier = notifier;
	range.seq = umm_notifier_read_begin(notifier);
	assert_int_equal(umm_range_snapshot(&range), 4);
	range.end += PAGE;
	assert_int_equal(umm_range_snapshot(&range), -EINVAL);
	range.end -= PAGE;
	range.start -= PAGE;
	assert_int_equal(umm_range_fault(&range, 0), -EINVAL);
	range.start += PAGE;
	range.notifier = NULL;
	assert_int_equal(umm_range_snapshot(&range), -EINVAL);
	assert_int_equal(umm_notifier_remove(notifier), 0);
}

static void device_reads_an_untouched_page_with_one_fault(struct env *e)
{
	struct ref_device *ref = env_device(e, 64);
	char *p = env_alloc_small(e, 4 * PAGE);

	assert_device_sees_zero(ref, p, 1);
	assert_int_equal(ref_counts(ref).faults, 1);
	assert_device_sees_zero(ref, p, 1);
	assert_int_equal(ref_counts(ref).faults, 1);
	assert_state(e, p, 1, env_home(e));
	ref_policy_set(ref, REF_IN_PLACE);
	assert_device_sees_zero(ref, p + PAGE, 1);
	assert_state(e, p + PAGE, 1, UMM_PAGE_SYSTEM);
	assert_int_equal(ref_counts(ref).faults, 2);
}

static void device_fault_brings_the_neighbours_it_asks_for(struct env *e)
{
	struct ref_device *ref =
		env_device_with(e, (struct ref_options){ .nframes = 256, .fault_pages = 16 });
	char *p = env_alloc(e, BLOCK) + 64 * PAGE;

	fill(p, 128, 1);
	env_mark(e);
	assert_device_sees(ref, p, 1, 1);
	assert_state(e, p, 16, env_home(e));
	assert_state(e, p + 16 * PAGE, 112, UMM_PAGE_SYSTEM);
	assert_device_sees(ref, p, 128, 1);
	assert_delta(e, UMM_COUNT_TO_DEVICE + UMM_CAUSE_DEVICE_FAULT, 128);
	assert_state(e, p, 128, env_home(e));
	assert_filled(p, 128, 1);
}

static const struct test_case cases[] = {
	TEST(ALL, snapshot_reports_every_home),
	TEST(ALL, snapshot_without_owner_reports_no_private_pages),
	TEST(PRIVATE, snapshot_is_limited_to_one_memory),
	TEST(ALL, snapshot_follows_protection),
	TEST(ALL, snapshot_of_holes_and_foreign_memory_is_none),
	TEST(ALL, snapshot_of_a_lost_page_is_an_error),
	TEST(ASYNC, snapshot_of_a_migrating_page_is_none),
	TEST(ASYNC, fault_waits_for_a_migration),
	TEST(ALL, fault_makes_every_page_resident),
	TEST(ALL, fault_makes_dropped_pages_resident),
	TEST(ALL, fault_for_writing_ends_duplications),
	TEST(ALL, fault_without_owner_brings_private_pages_home),
	TEST(ALL, write_to_read_only_memory_is_eperm),
	TEST(ALL, fault_where_nothing_can_be_is_efault),
	TEST(ALL, requests_are_per_entry_or_for_all),
	TEST(ALL, order_tells_of_blocks_that_are_mapped_alike),
	TEST(ALL, runs_of_plain_pages_end_where_another_page_begins),
	TEST(ALL, fault_goes_on_behind_blocks_that_are_plain),
	TEST(ALL, entries_of_many_plain_blocks_fill_their_array_exactly),
	TEST(ALL, stale_sequence_is_ebusy),
	TEST(ONCE, bad_ranges_are_einval),
	TEST(ALL, device_reads_an_untouched_page_with_one_fault),
	TEST(ALL, device_fault_brings_the_neighbours_it_asks_for),
};

int main(int argc, char **argv)
{
	return harness_main("test_range", cases, sizeof(cases) / sizeof(cases[0]), argc, argv);
}
