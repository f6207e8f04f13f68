/* SPDX-License-Identifier: MIT */
/*
 * A program's own mprotect(), of which the kernel tells nobody: whatever a device asks for next,
 * whichever device, the answer is what the mapping allows now, and who has been told otherwise
 * hears of it.
 */
#include "harness.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>

#define PAGES 8

/* Whoever looks, at pages that another device has in its table. */
struct look {
	struct env *env;
	struct ref_device *other;
	char *addr;
	size_t npages;
};

static struct umm_range range_of(const struct look *look, uint64_t *entries)
{
	struct umm_range range = {
		.size = sizeof(range),
		.notifier = umm_mirror_notifier(look->other->mirror),
		.start = (uintptr_t)look->addr,
		.end = (uintptr_t)look->addr + look->npages * PAGE,
		.entries = entries,
		.owner = look->other->dev,
	};

	range.seq = umm_notifier_read_begin(range.notifier);
	return range;
}

static void look_snapshot(const struct look *look)
{
	uint64_t entries[PAGES] = { 0 };
	struct umm_range range = range_of(look, entries);

	assert_int_equal(umm_range_snapshot(&range), -EBUSY);
}

static void look_fault(const struct look *look)
{
	uint64_t entries[PAGES] = { 0 };
	struct umm_range range = range_of(look, entries);

	range.default_flags = UMM_ENTRY_REQ_FAULT | UMM_ENTRY_REQ_WRITE;
	assert_int_equal(umm_range_fault(&range, PATIENCE_MS), -EPERM);
}

static void look_pin(const struct look *look)
{
	struct umm_pin *pin;

	assert_int_equal(umm_pin(look->env->ctx, (uintptr_t)look->addr, look->npages, UMM_PIN_WRITE,
				 &pin),
			 -EPERM);
}

static void look_exclusive(const struct look *look)
{
	uint64_t entries[PAGES];

	assert_int_equal(umm_make_exclusive(look->other->dev, (uintptr_t)look->addr,
					    (uintptr_t)look->addr + look->npages * PAGE, entries),
			 -EPERM);
}

static void look_by_refresh(const struct look *look)
{
	struct umm_notifier *notifier = umm_mirror_notifier(look->other->mirror);

	assert_int_equal(umm_notifier_refresh(notifier), 0);
	/* It has been told, and is not again. */
	assert_int_equal(umm_notifier_refresh(notifier), 0);
}

static void look_migrate(const struct look *look)
{
	assert_true(umm_migrate_to_device(look->env->ctx, look->other->mem, look->addr,
					  look->npages * PAGE) >= 0);
}

static void look_setup(const struct look *look)
{
	uint64_t src[PAGES], dst[PAGES];
	struct umm_migrate migrate = {
		.size = sizeof(migrate),
		.ctx = look->env->ctx,
		.start = (uintptr_t)look->addr,
		.end = (uintptr_t)look->addr + look->npages * PAGE,
		.flags = UMM_MIGRATE_SELECT_PRIVATE | UMM_MIGRATE_SELECT_COHERENT,
		.src = src,
		.dst = dst,
	};

	assert_int_equal(umm_migrate_setup(&migrate), 0);
	for (size_t i = 0; i < look->npages; i++)
		assert_int_equal(src[i] & UMM_MPFN_WRITE, 0);
	umm_migrate_finalize(&migrate);
}

static uint64_t heard(struct ref_device *ref)
{
	return ref_counts(ref).events[UMM_EVENT_PROTECTION_VMA];
}

/* Pages that a device has in its table, writable, and has written to. */
static char *written_by(struct env *e, struct ref_device *ref, bool migrated)
{
	char *p = env_alloc_small(e, PAGES * PAGE);

	fill(p, PAGES, 1);
	if (migrated)
		to_device(e, ref, p, PAGES, PAGES);
	device_fill(ref, p, PAGES, 2);
	assert_true(ref_entry(ref, (uintptr_t)p) & UMM_ENTRY_WRITE);
	return p;
}

static void look_after_mprotect(struct env *e, void (*look)(const struct look *))
{
	struct ref_device *ref = env_device(e, 64), *other = env_device(e, 64);
	struct look at = { .env = e, .other = other, .npages = PAGES };
	uint64_t before;
	char byte = 1;

	for (unsigned migrated = 0; migrated < 2; migrated++) {
		/* Of system pages the setup selects none. */
		if (!migrated && look == look_setup)
			continue;
		at.addr = written_by(e, ref, migrated);
		before = heard(ref);
		assert_int_equal(mprotect(at.addr, PAGES * PAGE, PROT_READ), 0);
		look(&at);
		assert_int_equal(heard(ref) - before, 1);
		for (size_t i = 0; i < PAGES; i++)
			assert_int_equal(
				ref_entry(ref, (uintptr_t)at.addr + i * PAGE) & UMM_ENTRY_WRITE, 0);
		assert_int_equal(ref_write(ref, (uintptr_t)at.addr, &byte, 1), -EPERM);
		assert_device_sees(ref, at.addr, PAGES, 2);
		assert_filled(at.addr, PAGES, 2);
		assert_int_equal(mprotect(at.addr, PAGES * PAGE, PROT_READ | PROT_WRITE), 0);
		device_fill(ref, at.addr, PAGES, 3);
		assert_filled(at.addr, PAGES, 3);
	}
}

static void snapshot_notices_mprotect(struct env *e)
{
	look_after_mprotect(e, look_snapshot);
}

static void fault_notices_mprotect(struct env *e)
{
	look_after_mprotect(e, look_fault);
}

static void pin_notices_mprotect(struct env *e)
{
	look_after_mprotect(e, look_pin);
}

static void exclusive_access_notices_mprotect(struct env *e)
{
	look_after_mprotect(e, look_exclusive);
}

static void refresh_notices_mprotect(struct env *e)
{
	look_after_mprotect(e, look_by_refresh);
}

static void migration_notices_mprotect(struct env *e)
{
	look_after_mprotect(e, look_migrate);
}

static void migration_in_steps_notices_mprotect(struct env *e)
{
	look_after_mprotect(e, look_setup);
}

static void memory_without_access_is_noticed(struct env *e)
{
	struct ref_device *ref = env_device(e, 64), *other = env_device(e, 64);
	char *p = written_by(e, ref, true);
	struct look look = { .env = e, .other = other, .addr = p, .npages = PAGES };
	char byte;

	assert_int_equal(mprotect(p, PAGES * PAGE, PROT_NONE), 0);
	look_snapshot(&look);
	assert_int_equal(heard(ref), 1);
	assert_int_equal(ref_read(ref, (uintptr_t)p, &byte, 1), -EFAULT);
	assert_int_equal(ref_write(ref, (uintptr_t)p, &byte, 1), -EFAULT);
	assert_int_equal(mprotect(p, PAGES * PAGE, PROT_READ), 0);
	assert_device_sees(ref, p, PAGES, 2);
	assert_int_equal(ref_write(ref, (uintptr_t)p, &byte, 1), -EPERM);
	assert_int_equal(heard(ref), 1);
}

struct told {
	unsigned n;
	struct umm_notifier_range range[4];
};

static void note(void *priv, const struct umm_notifier_range *range)
{
	struct told *told = priv;

	if (told->n < 4)
		told->range[told->n] = *range;
	told->n++;
}

static void only_the_pages_concerned_are_announced_and_once(struct env *e)
{
	struct ref_device *ref = env_device(e, 64), *other = env_device(e, 64);
	char *p = written_by(e, ref, true);
	struct look look = { .env = e, .other = other, .addr = p, .npages = PAGES };
	struct told told = { 0 };

	assert_int_equal(mprotect(p + PAGE, 2 * PAGE, PROT_READ), 0);
	assert_int_equal(mprotect(p + 5 * PAGE, PAGE, PROT_READ), 0);
	assert_int_equal(ref_watch(ref, note, &told), 0);
	look_snapshot(&look);
	assert_int_equal(told.n, 2);
	for (unsigned k = 0; k < 2; k++) {
		assert_int_equal(told.range[k].event, UMM_EVENT_PROTECTION_VMA);
		assert_false(told.range[k].blockable);
		assert_null(told.range[k].owner);
	}
	assert_int_equal(told.range[0].start, (uintptr_t)p + PAGE);
	assert_int_equal(told.range[0].end, (uintptr_t)p + 3 * PAGE);
	assert_int_equal(told.range[1].start, (uintptr_t)p + 5 * PAGE);
	assert_int_equal(told.range[1].end, (uintptr_t)p + 6 * PAGE);
	/* The rest is still the device's to write. */
	assert_true(ref_entry(ref, (uintptr_t)p) & UMM_ENTRY_WRITE);
	assert_true(ref_entry(ref, (uintptr_t)p + 4 * PAGE) & UMM_ENTRY_WRITE);
	assert_device_sees(ref, p, PAGES, 2);
	assert_device_sees(other, p, PAGES, 2);
	assert_int_equal(heard(ref), 2);
	assert_int_equal(ref_watch(ref, NULL, NULL), 0);
}

static void more_access_is_not_announced(struct env *e)
{
	struct ref_device *ref = env_device(e, 64);
	char *p = env_alloc_small(e, PAGES * PAGE);

	fill(p, PAGES, 1);
	to_device(e, ref, p, PAGES, PAGES);
	assert_int_equal(mprotect(p, PAGES * PAGE, PROT_READ), 0);
	assert_device_sees(ref, p, PAGES, 1);
	assert_int_equal(mprotect(p, PAGES * PAGE, PROT_READ | PROT_WRITE), 0);
	device_fill(ref, p, PAGES, 2);
	assert_int_equal(heard(ref), 0);
	assert_filled(p, PAGES, 2);
}

/* An interposer's announcement is prompt; then there is nothing left to notice. */
static void what_was_announced_is_not_announced_again(struct env *e)
{
	struct ref_device *ref = env_device(e, 64), *other = env_device(e, 64);
	char *p = written_by(e, ref, true);
	struct look look = { .env = e, .other = other, .addr = p, .npages = PAGES };
	struct umm_notifier_range range = {
		.start = (uintptr_t)p,
		.end = (uintptr_t)p + PAGES * PAGE,
		.event = UMM_EVENT_PROTECTION_VMA,
		.blockable = true,
	};
	struct umm_invalidation *invalidation;
	uint64_t entries[PAGES];
	struct umm_range snapshot;

	assert_int_equal(umm_invalidate_range_start(e->ctx, &range, &invalidation), 0);
	assert_int_equal(mprotect(p, PAGES * PAGE, PROT_READ), 0);
	umm_invalidate_range_end(e->ctx, invalidation);
	assert_int_equal(heard(ref), 1);
	snapshot = range_of(&look, entries);
	assert_true(umm_range_snapshot(&snapshot) >= 0);
	assert_int_equal(heard(ref), 1);
}

/* A mapping that is new at an address has nothing to do with the one before. */
static void a_new_mapping_is_not_compared_with_the_old_one(struct env *e)
{
	struct ref_device *ref = env_device(e, 64);
	char *p = env_attach(e, PAGES * PAGE);
	void *map;

	fill(p, PAGES, 1);
	to_device(e, ref, p, PAGES, PAGES);
	device_fill(ref, p, PAGES, 2);
	map = mmap(p, PAGES * PAGE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
	assert_ptr_equal(map, p);
	assert_int_equal(umm_attach(e->ctx, p, PAGES * PAGE), 0);
	assert_device_sees_zero(ref, p, PAGES);
	assert_int_equal(heard(ref), 0);
}

int main(int argc, char **argv)
{
	static const struct test_case cases[] = {
		TEST(ALL, snapshot_notices_mprotect),
		TEST(ALL, fault_notices_mprotect),
		TEST(ALL, pin_notices_mprotect),
		TEST(ALL, exclusive_access_notices_mprotect),
		TEST(ALL, refresh_notices_mprotect),
		TEST(ALL, migration_notices_mprotect),
		TEST(ALL, migration_in_steps_notices_mprotect),
		TEST(ALL, memory_without_access_is_noticed),
		TEST(ALL, only_the_pages_concerned_are_announced_and_once),
		TEST(ALL, more_access_is_not_announced),
		TEST(ALL, what_was_announced_is_not_announced_again),
		TEST(ALL, a_new_mapping_is_not_compared_with_the_old_one),
	};

	return harness_main("protection", cases, sizeof(cases) / sizeof(*cases), argc, argv);
}
