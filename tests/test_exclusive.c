/* SPDX-License-Identifier: MIT */
/*
 * Exclusive access: a page leaves the CPU for a place of one device and comes back, whoever
 * asks for it and whatever the program does to it.
 */
#include "exclusive_pages.h"

#include "ctx.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include <linux/io_uring.h>

#include "hook.h"

#define BLOCK_PAGES UMM_BLOCK_PAGES
#define PAGES	    16

static char *page_of(char *p, size_t i)
{
	return p + i * PAGE;
}

static uint64_t heard(struct ref_device *ref)
{
	return ref_counts(ref).events[UMM_EVENT_EXCLUSIVE];
}

/* ---- there and back ----------------------------------------------------------------- */

static void exclusive_page_comes_home_when_it_is_read(struct env *e)
{
	struct ref_device *ref = env_device(e, 64);
	char *p = exclusive_pages(e, ref, PAGES);

	assert_int_equal(heard(ref), 0);
	env_mark(e);
	assert_true(filled_at(p, 3, 1));
	assert_int_equal(state_of(e, page_of(p, 3)), UMM_PAGE_SYSTEM);
	assert_null(place_of(ref, page_of(p, 3)));
	assert_int_equal(heard(ref), 1);
	assert_delta(e, UMM_COUNT_FAULT_DEVICE, 1);
	assert_exclusive(e, ref, p, 3);
	assert_exclusive(e, ref, page_of(p, 4), PAGES - 4);
	assert_filled(p, PAGES, 1);
	assert_int_equal(heard(ref), PAGES);
}

static void exclusive_page_comes_home_when_it_is_written(struct env *e)
{
	struct ref_device *ref = env_device(e, 64);
	char *p = exclusive_pages(e, ref, PAGES);

	assert_int_equal(touch_write(page_of(p, 5)), 0);
	assert_int_equal(state_of(e, page_of(p, 5)), UMM_PAGE_SYSTEM);
	assert_null(place_of(ref, page_of(p, 5)));
	fill(p, PAGES, 2);
	assert_filled(p, PAGES, 2);
}

static void device_uses_the_place(struct env *e)
{
	struct ref_device *ref = env_device(e, 64);
	char *p = exclusive_pages(e, ref, PAGES);
	uint64_t word, old;

	for (size_t i = 0; i < PAGES; i++)
		assert_true(page_filled(place_of(ref, page_of(p, i)), i, 1));
	ref_policy_set(ref, REF_IN_PLACE);
	assert_device_sees(ref, p, PAGES, 1);
	device_fill(ref, p, PAGES, 2);
	memcpy(&word, place_of(ref, p), sizeof(word));
	assert_int_equal(ref_atomic_add(ref, (uintptr_t)p, 5, &old), 0);
	assert_int_equal(old, word);
	assert_exclusive(e, ref, p, PAGES);
	memcpy(&old, p, sizeof(old));
	assert_int_equal(old, word + 5);
	assert_filled_part(p, 1, PAGES - 1, 2);
}

/* Nobody copies where the kernel can move: no copy of the device's, no staging page. */
static void exclusive_page_is_moved_not_copied(struct env *e)
{
	struct ref_device *ref = env_device(e, 64);
	struct umm_stats stats = { .size = sizeof(stats) };
	char *p;

	env_mark(e);
	p = exclusive_pages(e, ref, PAGES);
	assert_int_equal(umm_ctx_stats(e->ctx, &stats), 0);
	assert_int_equal(stats.device_pages, 0);
	assert_filled(p, PAGES, 1);
	assert_int_equal(ref_counts(ref).calls, 0);
	assert_int_equal(env_delta_causes(e, UMM_COUNT_TO_DEVICE), 0);
	assert_int_equal(env_delta_causes(e, UMM_COUNT_TO_SYSTEM), 0);
	if (!(e->ctx->features & UMM_KERNEL_MOVE))
		return;
	assert_int_equal(env_delta(e, UMM_COUNT_FRAMES_FRESH), 0);
	assert_int_equal(env_delta(e, UMM_COUNT_FRAMES_RECYCLED), 0);
}

static void pages_of_several_mappings_are_moved_too(struct env *e)
{
	struct ref_device *ref = env_device(e, 64);
	char *p = env_attach(e, PAGES * PAGE);

	fill(p, PAGES, 1);
	assert_int_equal(madvise(page_of(p, 5), 4 * PAGE, MADV_DONTDUMP), 0);
	env_mark(e);
	assert_int_equal(ref_make_exclusive(ref, (uintptr_t)p, PAGES), PAGES);
	assert_exclusive(e, ref, p, PAGES);
	if (e->ctx->features & UMM_KERNEL_MOVE)
		assert_int_equal(env_delta(e, UMM_COUNT_FRAMES_FRESH), 0);
	to_system(e, p, PAGES, PAGES);
	assert_filled(p, PAGES, 1);
}

static void untouched_pages_are_zero_at_their_places(struct env *e)
{
	struct ref_device *ref = env_device(e, 64);
	char *p = env_alloc_small(e, PAGES * PAGE);
	uint64_t old;

	assert_int_equal(ref_make_exclusive(ref, (uintptr_t)p, PAGES), PAGES);
	assert_exclusive(e, ref, p, PAGES);
	for (size_t i = 0; i < PAGES; i++)
		assert_true(page_zero(place_of(ref, page_of(p, i))));
	assert_int_equal(ref_atomic_add(ref, (uintptr_t)page_of(p, 7), 3, &old), 0);
	assert_int_equal(*(uint64_t *)(void *)page_of(p, 7), 3);
	*(uint64_t *)(void *)page_of(p, 7) = 0;
	assert_zero(p, PAGES);
}

static void huge_page_becomes_exclusive_as_a_whole(struct env *e)
{
	struct ref_device *ref = env_device(e, 64);
	char *p = env_alloc(e, 2 * BLOCK);

	for (unsigned turn = 1; turn < 4; turn++) {
		fill(p, 2 * BLOCK_PAGES, turn);
		assert_int_equal(ref_make_exclusive(ref, (uintptr_t)p, 2 * BLOCK_PAGES),
				 2 * BLOCK_PAGES);
		assert_exclusive(e, ref, p, 2 * BLOCK_PAGES);
		to_system(e, p, 2 * BLOCK_PAGES, 2 * BLOCK_PAGES);
		assert_filled(p, 2 * BLOCK_PAGES, turn);
	}
}

/* Taken again and again: places are given back empty. */
static void places_are_used_again(struct env *e)
{
	struct ref_device *ref = env_device(e, 64);
	char *p = env_attach(e, PAGES * PAGE);

	for (unsigned turn = 0; turn < 50; turn++) {
		size_t first = turn % 7, n = PAGES - first - turn % 5;

		fill(p, PAGES, turn);
		assert_int_equal(ref_make_exclusive(ref, (uintptr_t)page_of(p, first), n), n);
		if (turn & 1)
			assert_int_equal(madvise(p, PAGES * PAGE, MADV_DONTNEED), 0);
		for (size_t i = 0; i < PAGES; i++)
			assert_true(turn & 1 ? page_zero(page_of(p, i)) : filled_at(p, i, turn));
	}
}

/* 1 GiB of places, and one block more. */
static void oldest_come_home_when_places_run_out(struct env *e)
{
	struct ref_device *ref = env_device(e, 64);
	const size_t blocks = 512;
	char *p = env_alloc_small(e, (blocks + 1) * BLOCK), *last = p + blocks * BLOCK;
	size_t i;

	fill(p, 4, 1);
	for (i = 0; i < blocks; i++)
		assert_int_equal(ref_make_exclusive(ref, (uintptr_t)p + i * BLOCK, BLOCK_PAGES),
				 BLOCK_PAGES);
	assert_int_equal(count_state(e, p, blocks * BLOCK_PAGES, UMM_PAGE_EXCLUSIVE),
			 blocks * BLOCK_PAGES);
	assert_int_equal(ref_make_exclusive(ref, (uintptr_t)last, BLOCK_PAGES), BLOCK_PAGES);
	assert_exclusive(e, ref, last, BLOCK_PAGES);
	assert_int_equal(count_state(e, p, BLOCK_PAGES, UMM_PAGE_EXCLUSIVE), 0);
	assert_null(place_of(ref, p));
	assert_filled(p, 4, 1);
	assert_int_equal(count_state(e, p + BLOCK, BLOCK_PAGES, UMM_PAGE_EXCLUSIVE), BLOCK_PAGES);
}

static void place_that_was_touched_after_the_end_is_emptied(struct env *e)
{
	struct ref_device *ref = env_device(e, 64);
	char *p = exclusive_pages(e, ref, 1);
	char *place = place_of(ref, p);
	uint64_t entry;

	to_system(e, p, 1, 1);
	*(volatile char *)place = 1; /* by a device that did not stop */
	fill(p, 1, 2);
	assert_int_equal(umm_make_exclusive(ref->dev, (uintptr_t)p, (uintptr_t)p + PAGE, &entry),
			 1);
	assert_true(page_filled((void *)UMM_ENTRY_ADDR(entry), 0, 2));
	assert_filled(p, 1, 2);
}

/* Asked for again, it is not announced again: the other pages settle. */
static void page_that_is_not_to_be_had_does_not_keep_the_others_stale(struct env *e)
{
	struct ref_device *ref = env_device(e, 64);
	struct umm_notifier *notifier = umm_mirror_notifier(ref->mirror);
	struct io_uring_params params = { 0 };
	char *p = env_attach(e, 4 * PAGE);
	struct iovec buffer = { page_of(p, 1), PAGE };
	uint64_t entry[4], seq;
	unsigned rounds = 0;
	long got;
	int ring;

	if (!(e->ctx->features & UMM_KERNEL_MOVE))
		env_skip("only UFFDIO_MOVE tells that a page is pinned");
	fill(p, 4, 1);
	ring = (int)syscall(SYS_io_uring_setup, 1, &params);
	if (ring < 0 || syscall(SYS_io_uring_register, ring, IORING_REGISTER_BUFFERS, &buffer, 1))
		env_skip("io_uring cannot pin a page here: %s", strerror(errno));
	do {
		assert_true(rounds++ < 20);
		seq = umm_notifier_read_begin(notifier);
		got = umm_make_exclusive(ref->dev, (uintptr_t)p, (uintptr_t)p + 4 * PAGE, entry);
	} while (umm_notifier_read_retry(notifier, seq));
	assert_int_equal(got, 3);
	assert_int_equal(entry[1], 0);
	close(ring);
	/* The ring goes away in its own time. */
	wait_until(umm_make_exclusive(ref->dev, (uintptr_t)p, (uintptr_t)p + 4 * PAGE, entry) == 4);
	assert_filled(p, 4, 1);
}

static void what_is_exclusive_already_stays(struct env *e)
{
	struct ref_device *ref = env_device(e, 64);
	char *p = exclusive_pages(e, ref, PAGES);
	char *place = place_of(ref, page_of(p, 2));

	assert_true(filled_at(p, 9, 1));
	assert_int_equal(ref_make_exclusive(ref, (uintptr_t)p, PAGES), PAGES);
	assert_exclusive(e, ref, p, PAGES);
	assert_ptr_equal(place_of(ref, page_of(p, 2)), place);
	assert_int_equal(heard(ref), 1);
	assert_filled(p, PAGES, 1);
}

static void refused_invalidation_ends_the_access_on_a_worker(struct env *e)
{
	struct ref_device *ref = env_device(e, 64);
	char *p = exclusive_pages(e, ref, PAGES);

	env_mark(e);
	ref_refuse_invalidations(ref, 1);
	assert_true(filled_at(p, 3, 1));
	assert_delta(e, UMM_COUNT_DEFERRED, 1);
	assert_int_equal(ref_counts(ref).refused, 1);
	assert_int_equal(heard(ref), 1);
	assert_int_equal(state_of(e, page_of(p, 3)), UMM_PAGE_SYSTEM);
}

/* ---- others ------------------------------------------------------------------------- */

static struct {
	struct umm_device *owner;
	atomic_int calls, wrong;
} watch;

static void watch_owner(void *priv, const struct umm_notifier_range *range)
{
	(void)priv;
	if (range->event != UMM_EVENT_EXCLUSIVE)
		return;
	atomic_fetch_add(&watch.calls, 1);
	atomic_fetch_add(&watch.wrong, range->owner != watch.owner);
}

static void others_hear_that_access_begins_and_all_that_it_ends(struct env *e)
{
	struct ref_device *a = env_device(e, 64), *b = env_device(e, 64);
	char *p = env_attach(e, PAGES * PAGE);

	fill(p, PAGES, 1);
	assert_int_equal(ref_map(b, (uintptr_t)p, PAGES * PAGE, true), 0);
	assert_true(ref_entry(b, (uintptr_t)p) & UMM_ENTRY_VALID);
	watch.owner = a->dev;
	atomic_store(&watch.calls, 0);
	atomic_store(&watch.wrong, 0);
	assert_int_equal(ref_watch(a, watch_owner, NULL), 0);
	assert_int_equal(ref_watch(b, watch_owner, NULL), 0);
	assert_int_equal(ref_make_exclusive(a, (uintptr_t)p, PAGES), PAGES);
	assert_int_equal(heard(a), 0);
	assert_int_equal(heard(b), 1);
	assert_int_equal(ref_entry(b, (uintptr_t)p), 0);
	to_system(e, p, PAGES, PAGES);
	assert_int_equal(heard(a), 1);
	assert_int_equal(heard(b), 2);
	assert_int_equal(atomic_load(&watch.calls), 3);
	assert_int_equal(atomic_load(&watch.wrong), 0);
}

static long snapshot(struct ref_device *ref, struct umm_device *owner, char *p, uint64_t *entry)
{
	struct umm_range range = {
		.size = sizeof(range),
		.notifier = umm_mirror_notifier(ref->mirror),
		.start = (uintptr_t)p,
		.end = (uintptr_t)p + PAGE,
		.entries = entry,
		.owner = owner,
		.mem = owner ? ref->mem : NULL,
	};

	range.seq = umm_notifier_read_begin(range.notifier);
	return umm_range_snapshot(&range);
}

static void snapshots_tell_the_owner_alone(struct env *e)
{
	struct ref_device *a = env_device(e, 64), *b = env_device(e, 64);
	char *p = exclusive_pages(e, a, 1);
	uint64_t entry, writable = ref_entry(a, (uintptr_t)p);

	assert_int_equal(snapshot(b, b->dev, p, &entry), 0);
	assert_int_equal(entry, 0);
	assert_int_equal(snapshot(b, NULL, p, &entry), 0);
	assert_int_equal(entry, 0);
	assert_int_equal(snapshot(a, a->dev, p, &entry), 1);
	assert_int_equal(entry, writable);
	/* The first look after it finds out, and tells the device. */
	assert_int_equal(mprotect(p, PAGE, PROT_READ), 0);
	assert_int_equal(snapshot(a, a->dev, p, &entry), -EBUSY);
	assert_int_equal(ref_entry(a, (uintptr_t)p), 0);
	assert_int_equal(snapshot(a, a->dev, p, &entry), 1);
	assert_int_equal(entry, writable & ~UMM_ENTRY_WRITE);
	assert_state(e, p, 1, UMM_PAGE_EXCLUSIVE);
	assert_filled(p, 1, 1);
}

static void range_fault_of_another_device_ends_the_access(struct env *e)
{
	struct ref_device *a = env_device(e, 64), *b = env_device(e, 64);
	char *p = exclusive_pages(e, a, PAGES);

	ref_policy_set(a, REF_IN_PLACE);
	assert_int_equal(ref_map(a, (uintptr_t)p, PAGES * PAGE, true), 0);
	assert_exclusive(e, a, p, PAGES);
	assert_int_equal(ref_map(b, (uintptr_t)p, 4 * PAGE, false), 0);
	assert_state(e, p, 4, UMM_PAGE_SYSTEM);
	assert_exclusive(e, a, page_of(p, 4), PAGES - 4);
	assert_null(place_of(a, p));
	assert_filled(p, PAGES, 1);
}

static void two_devices_take_it_in_turn(struct env *e)
{
	struct ref_device *a = env_device(e, 64), *b = env_device(e, 64);
	char *p = exclusive_pages(e, a, PAGES);

	assert_int_equal(ref_make_exclusive(b, (uintptr_t)p, PAGES), PAGES);
	assert_exclusive(e, b, p, PAGES);
	assert_null(place_of(a, p));
	assert_int_equal(heard(a), 2); /* the end of its own, the beginning of the other's */
	assert_true(page_filled(place_of(b, page_of(p, 4)), 4, 1));
	assert_filled(p, PAGES, 1);
}

struct adder {
	struct ref_device *ref; /* NULL: the CPU */
	char *p;
	unsigned times;
	bool wrong;
};

static void act_add(void *arg)
{
	struct adder *a = arg;
	uint64_t old;
	int ret;

	for (unsigned i = 0; i < a->times;) {
		uintptr_t word = (uintptr_t)a->p + (i % 3) * PAGE;

		if (!a->ref) {
			__atomic_fetch_add((uint64_t *)word, 1, __ATOMIC_SEQ_CST);
			i++;
			continue;
		}
		ret = ref_atomic_add(a->ref, word, 1, &old);
		a->wrong |= ret && ret != -EBUSY;
		i += !ret || a->wrong;
	}
}

/* Sums come out right: each has the page to itself while it adds. */
static void devices_and_cpu_count_together(struct env *e)
{
	struct ref_device *a = env_device(e, 64), *b = env_device(e, 64);
	char *p = env_attach(e, 3 * PAGE);
	struct adder adders[3] = { { a, p, 600, false },
				   { b, p, 600, false },
				   { NULL, p, 600, false } };
	struct actor actors[3];

	for (int i = 0; i < 3; i++)
		actor_start(&actors[i], act_add, &adders[i]);
	for (int i = 0; i < 3; i++) {
		actor_join(&actors[i]);
		assert_false(adders[i].wrong);
	}
	for (int i = 0; i < 3; i++)
		assert_int_equal(*(uint64_t *)(void *)page_of(p, (size_t)i), 600);
}

/* ---- migration ---------------------------------------------------------------------- */

static void exclusive_pages_migrate_to_a_device(struct env *e)
{
	struct ref_device *a = env_device(e, 64), *b = env_device(e, 64);
	char *p = exclusive_pages(e, a, PAGES);

	to_device(e, a, p, 8, 8);
	to_device(e, b, page_of(p, 8), 8, 8);
	assert_state(e, p, PAGES, env_home(e));
	assert_int_equal(heard(a), 2);
	assert_null(place_of(a, page_of(p, 9)));
	assert_device_sees(a, p, 8, 1);
	assert_filled(p, PAGES, 1);
}

static void pages_of_devices_come_home_before_they_are_exclusive(struct env *e)
{
	struct ref_device *a = env_device(e, 64), *b = env_device(e, 64);
	char *p = env_attach(e, PAGES * PAGE);

	fill(p, PAGES, 1);
	to_device(e, a, p, 4, 4);
	to_device(e, b, page_of(p, 4), 4, 4);
	assert_int_equal(migrate(e, b, page_of(p, 8), 4, UMM_MIGRATE_DUPLICATE), 4);
	assert_int_equal(ref_make_exclusive(a, (uintptr_t)p, PAGES), PAGES);
	assert_exclusive(e, a, p, PAGES);
	assert_free_frames(a, 64);
	assert_free_frames(b, 64);
	assert_filled(p, PAGES, 1);
}

static void failed_migration_leaves_the_page_where_it_was(struct env *e)
{
	struct ref_device *a = env_device(e, 64), *b = env_device(e, 64);
	char *p = exclusive_pages(e, a, PAGES);

	ref_fail(b, &(struct ref_failure){ .error = -EIO, .to_device = true });
	assert_true(migrate(e, b, p, PAGES, 0) < 0);
	assert_state(e, p, PAGES, UMM_PAGE_EXCLUSIVE);
	assert_null(place_of(a, p));
	assert_filled(p, PAGES, 1);
}

static void exclusive_pages_are_sources_for_drivers(struct env *e)
{
	struct ref_device *a = env_device(e, 64), *b = env_device(e, 64);
	char *p = exclusive_pages(e, a, 2);
	uint64_t src[2], dst[2] = { 0 };
	struct umm_migrate m = {
		.size = sizeof(m),
		.flags = UMM_MIGRATE_SELECT_SYSTEM,
		.ctx = e->ctx,
		.start = (uintptr_t)p,
		.end = (uintptr_t)p + 2 * PAGE,
		.dst_mem = b->mem,
		.src = src,
		.dst = dst,
	};
	uint32_t frame;

	assert_int_equal(umm_migrate_setup(&m), 0);
	assert_int_equal(m.cpages, 2);
	assert_false(src[0] & UMM_MPFN_DEVICE);
	assert_true(page_filled((void *)UMM_ENTRY_ADDR(src[1]), 1, 1));
	assert_int_equal(umm_devmem_alloc(b->mem, 1, &frame), 0);
	ref_frame_write(b, frame, (void *)UMM_ENTRY_ADDR(src[0]));
	dst[0] = UMM_MPFN_VALID | UMM_MPFN_DEVICE | (uint64_t)frame << UMM_PAGE_SHIFT;
	umm_migrate_pages(&m);
	umm_migrate_finalize(&m);
	assert_int_equal(m.cpages, 1);
	assert_int_equal(state_of(e, p), env_home(e));
	assert_int_equal(state_of(e, page_of(p, 1)), UMM_PAGE_EXCLUSIVE);
	assert_filled(p, 2, 1);
}

/* ---- where are they? ----------------------------------------------------------------- */

static void assert_counted(struct env *e, const char *p, enum umm_page_state state, size_t dirty)
{
	struct umm_range_place sum = { .size = sizeof(sum) };
	struct umm_span span = { (uintptr_t)p, PAGES * PAGE };
	struct umm_span_info info = { .size = sizeof(info) };

	assert_state(e, p, PAGES, state);
	assert_int_equal(umm_locate_range(e->ctx, (uintptr_t)p, PAGES * PAGE, &sum), 0);
	assert_int_equal(umm_query_spans(e->ctx, &span, 1, &info), 0);
	assert_int_equal(sum.npages, PAGES);
	for (unsigned s = 0; s < UMM_NR_PAGE_STATES; s++) {
		assert_int_equal(sum.state[s], s == (unsigned)state ? PAGES : 0);
		assert_int_equal(info.state[s], sum.state[s]);
	}
	assert_int_equal(sum.huge, 0);
	assert_int_equal(sum.dirty, dirty);
	assert_int_equal(sum.held, 0);
}

/* Some terabytes of addresses in which there are 64 GiB of memory, hardly any of it touched. */
static void pages_are_counted_among_vast_memory_that_nobody_uses(struct env *e)
{
	const uintptr_t low = UMM_BLOCK_SIZE;
	struct umm_range_place sum = { .size = sizeof(sum) };
	size_t len = (size_t)64 << 30, span;
	struct ref_device *ref = env_device(e, PAGES);
	void *memory;
	char *p;

	assert_int_equal(umm_alloc(e->ctx, len, UMM_ALLOC_SMALL_PAGES, &memory), 0);
	p = memory;
	fill(p + len - PAGE, 1, 1);
	fill(p + len / 2 - PAGES * PAGE, 2 * PAGES, 2);
	to_device(e, ref, p + len / 2, PAGES, PAGES);
	span = (uintptr_t)p + len - low;
	assert_int_equal(umm_locate_range(e->ctx, low, span, &sum), 0);
	assert_int_equal(sum.npages, span / PAGE);
	assert_int_equal(sum.state[env_home(e)], PAGES);
	assert_int_equal(sum.state[UMM_PAGE_SYSTEM], 1 + PAGES);
	assert_int_equal(sum.state[UMM_PAGE_EMPTY], len / PAGE - 1 - 2 * PAGES);
	assert_int_equal(sum.state[UMM_PAGE_UNMANAGED], (span - len) / PAGE);
	assert_int_equal(sum.cause[UMM_CAUSE_EXPLICIT], PAGES);
	assert_int_equal(umm_free(e->ctx, p), 0);
}

static void mirrored_and_exclusive_pages_are_counted_as_such(struct env *e)
{
	struct ref_device *ref = env_device(e, 64);
	char *p = exclusive_pages(e, ref, PAGES), *shared = env_map(e, PAGES * PAGE);

	assert_counted(e, p, UMM_PAGE_EXCLUSIVE, PAGES);
	assert_ptr_equal(mmap(shared, PAGES * PAGE, PROT_READ | PROT_WRITE,
			      MAP_SHARED | MAP_ANONYMOUS | MAP_FIXED, -1, 0),
			 shared);
	fill(shared, PAGES, 2);
	assert_int_equal(umm_attach(e->ctx, shared, PAGES * PAGE), 0);
	assert_device_sees(ref, shared, PAGES, 2);
	assert_counted(e, shared, UMM_PAGE_MIRRORED, 0);
	assert_filled(p, PAGES, 1);
	assert_counted(e, p, UMM_PAGE_SYSTEM, PAGES);
}

/* ---- what the program does to it ---------------------------------------------------- */

static void munmap_of_exclusive_pages_gives_the_places_back(struct env *e)
{
	struct ref_device *ref = env_device(e, 64);
	char *p = exclusive_pages(e, ref, PAGES);

	env_unmap(e, page_of(p, 4), 8 * PAGE);
	assert_true(ref_wait_event(ref, UMM_EVENT_UNMAP, 1, PATIENCE_MS));
	wait_until(count_state(e, page_of(p, 4), 8, UMM_PAGE_UNMANAGED) == 8);
	assert_null(place_of(ref, page_of(p, 4)));
	assert_exclusive(e, ref, p, 4);
	assert_filled_part(p, 0, 4, 1);
	assert_filled_part(p, 12, 4, 1);
}

static void dropped_exclusive_pages_read_zero(struct env *e)
{
	struct ref_device *ref = env_device(e, 64);
	char *p = exclusive_pages(e, ref, PAGES);

	assert_int_equal(madvise(page_of(p, 4), 8 * PAGE, MADV_DONTNEED), 0);
	assert_zero(page_of(p, 4), 8);
	assert_null(place_of(ref, page_of(p, 4)));
	assert_filled_part(p, 0, 4, 1);
	assert_filled_part(p, 12, 4, 1);
}

static void exclusive_pages_follow_their_mapping(struct env *e)
{
	struct ref_device *ref = env_device(e, 64);
	char *q = env_map(e, 2 * PAGES * PAGE) + 3 * PAGE;
	char *p = exclusive_pages(e, ref, PAGES);
	uint64_t old;

	assert_ptr_equal(mremap(p, PAGES * PAGE, PAGES * PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, q),
			 q);
	env_forget(e, p, PAGES * PAGE);
	assert_filled(q, 8, 1);
	wait_until(count_state(e, page_of(q, 8), 8, UMM_PAGE_EXCLUSIVE) == 8);
	assert_int_equal(ref_entry(ref, (uintptr_t)page_of(p, 9)), 0);
	assert_int_equal(ref_atomic_add(ref, (uintptr_t)page_of(q, 9), 0, &old), 0);
	assert_filled(q, PAGES, 1);
}

static void freed_and_detached_pages_give_their_places_back(struct env *e)
{
	struct ref_device *ref = env_device(e, 64);
	char *p = env_alloc(e, PAGES * PAGE), *q = exclusive_pages(e, ref, PAGES);
	uint64_t unmaps = ref_counts(ref).events[UMM_EVENT_UNMAP];

	fill(p, PAGES, 1);
	assert_int_equal(ref_make_exclusive(ref, (uintptr_t)p, PAGES), PAGES);
	assert_int_equal(umm_free(e->ctx, p), 0);
	assert_int_equal(ref_counts(ref).events[UMM_EVENT_UNMAP], unmaps + 1);
	assert_int_equal(umm_detach(e->ctx, q), 0);
	assert_true(heard(ref) >= 1);
	assert_null(place_of(ref, q));
	assert_filled(q, PAGES, 1);
}

static void device_that_goes_gives_exclusive_pages_back(struct env *e)
{
	struct ref_device *ref = env_device(e, 64);
	char *p = exclusive_pages(e, ref, PAGES);

	env_device_gone(e, ref);
	assert_state(e, p, PAGES, UMM_PAGE_SYSTEM);
	assert_filled(p, PAGES, 1);
}

static void read_only_exclusive_page_comes_home(struct env *e)
{
	struct ref_device *ref = env_device(e, 64);
	char *p = exclusive_pages(e, ref, 2);

	assert_int_equal(mprotect(p, 2 * PAGE, PROT_READ), 0);
	assert_filled(p, 2, 1);
	assert_int_equal(ref_make_exclusive(ref, (uintptr_t)p, 2), -EPERM);
	assert_int_equal(touch_write(p), SIGSEGV);
}

struct scene {
	char *p;
	unsigned seed;
};

static void child_counts_on(void *arg)
{
	struct scene *s = arg;

	for (size_t i = 0; i < PAGES; i++)
		child_check(filled_at(s->p, i, s->seed));
	fill(s->p, PAGES, s->seed + 1);
	for (size_t i = 0; i < PAGES; i++)
		child_check(filled_at(s->p, i, s->seed + 1));
}

static void fork_brings_exclusive_pages_home(struct env *e)
{
	struct ref_device *ref = env_device(e, 64);
	char *p = exclusive_pages(e, ref, PAGES);
	struct scene s = { p, 1 };
	uint64_t old;

	assert_true(in_child(child_counts_on, &s));
	assert_null(place_of(ref, p));
	assert_int_equal(ref_atomic_add(ref, (uintptr_t)p, 0, &old), 0);
	assert_int_equal(ref_make_exclusive(ref, (uintptr_t)p, PAGES), PAGES);
	assert_true(in_child(child_counts_on, &s));
	assert_filled(p, PAGES, 1);
}

/* ---- refused ------------------------------------------------------------------------ */

/* A driver that follows the protocol asks again as long as something was announced. */
static void pages_that_cannot_be_taken_let_the_driver_go_on(struct env *e)
{
	struct ref_device *ref = env_device(e, 64);
	char *p = env_alloc_small(e, 32 * PAGE);
	struct rlimit before, none;
	long n;

	fill(p, 32, 1);
	assert_int_equal(ref_make_exclusive(ref, (uintptr_t)p, 1), 1);
	assert_int_equal(getrlimit(RLIMIT_AS, &before), 0);
	none = before;
	none.rlim_cur = PAGE;
	assert_int_equal(setrlimit(RLIMIT_AS, &none), 0);
	n = ref_make_exclusive(ref, (uintptr_t)p + 16 * PAGE, 16);
	assert_int_equal(setrlimit(RLIMIT_AS, &before), 0);
	assert_in_range(n, 0, 16);
	assert_filled(p, 32, 1);
	wait_until(ref_make_exclusive(ref, (uintptr_t)p + 16 * PAGE, 16) == 16);
	assert_filled(p, 32, 1);
}

static void bad_requests_are_refused(struct env *e)
{
	struct ref_device *ref = env_device(e, 64);
	char *p = env_attach(e, PAGES * PAGE), *q = env_map(e, PAGES * PAGE);
	uintptr_t start = (uintptr_t)p, end = start + PAGES * PAGE;
	uint64_t entries[PAGES];

	assert_int_equal(umm_make_exclusive(NULL, start, end, entries), -EINVAL);
	assert_int_equal(umm_make_exclusive(ref->dev, start, end, NULL), -EINVAL);
	assert_int_equal(umm_make_exclusive(ref->dev, start, start, entries), -EINVAL);
	assert_int_equal(umm_make_exclusive(ref->dev, start + 1, end, entries), -EINVAL);
	assert_int_equal(umm_make_exclusive(ref->dev, start, end + 1, entries), -EINVAL);
	assert_int_equal(umm_make_exclusive(ref->dev, start, (uintptr_t)1 << 48, entries), -EINVAL);
	assert_int_equal(umm_make_exclusive(ref->dev, (uintptr_t)q, (uintptr_t)q + PAGE, entries),
			 -EFAULT);
	assert_int_equal(mprotect(p, PAGE, PROT_NONE), 0);
	assert_int_equal(umm_make_exclusive(ref->dev, start, end, entries), -EFAULT);
	assert_int_equal(mprotect(p, PAGE, PROT_READ), 0);
	assert_int_equal(umm_make_exclusive(ref->dev, start, end, entries), -EPERM);
	env_unmap(e, p, PAGE);
	assert_int_equal(umm_make_exclusive(ref->dev, start, end, entries), -EFAULT);
	assert_int_equal(umm_make_exclusive(ref->dev, start + PAGE, end, entries), PAGES - 1);
}

/* Where it is plain and writable, by its old entry, is nowhere any more. */
static void snapshots_of_the_owner_grow_stale(struct env *e)
{
	struct ref_device *ref = env_device(e, 64);
	struct umm_notifier *notifier = umm_mirror_notifier(ref->mirror);
	char *p = env_attach(e, 4 * PAGE);
	uint64_t entries[4], seq;

	fill(p, 4, 1);
	seq = umm_notifier_read_begin(notifier);
	assert_false(umm_notifier_read_retry(notifier, seq));
	assert_int_equal(
		umm_make_exclusive(ref->dev, (uintptr_t)p, (uintptr_t)p + 4 * PAGE, entries), 4);
	assert_true(umm_notifier_read_retry(notifier, seq));
}

static const struct test_case cases[] = {
	TEST(ALL, exclusive_page_comes_home_when_it_is_read),
	TEST(ALL, exclusive_page_comes_home_when_it_is_written),
	TEST(ALL, device_uses_the_place),
	TEST(ALL, exclusive_page_is_moved_not_copied),
	TEST(ALL, pages_of_several_mappings_are_moved_too),
	TEST(ALL, untouched_pages_are_zero_at_their_places),
	TEST(ALL, huge_page_becomes_exclusive_as_a_whole),
	TEST(ALL, places_are_used_again),
	TEST(ONCE, oldest_come_home_when_places_run_out),
	TEST(ALL, place_that_was_touched_after_the_end_is_emptied),
	TEST(ALL, what_is_exclusive_already_stays),
	TEST(ALL, page_that_is_not_to_be_had_does_not_keep_the_others_stale),
	TEST(ALL, refused_invalidation_ends_the_access_on_a_worker),
	TEST(ALL, others_hear_that_access_begins_and_all_that_it_ends),
	TEST(ALL, snapshots_tell_the_owner_alone),
	TEST(KERNEL, snapshots_of_the_owner_grow_stale),
	TEST(ALL, range_fault_of_another_device_ends_the_access),
	TEST(ALL, two_devices_take_it_in_turn),
	TEST(ALL, devices_and_cpu_count_together),
	TEST(ALL, exclusive_pages_migrate_to_a_device),
	TEST(ALL, pages_of_devices_come_home_before_they_are_exclusive),
	TEST(ALL, failed_migration_leaves_the_page_where_it_was),
	TEST(ALL, exclusive_pages_are_sources_for_drivers),
	TEST(ALL, mirrored_and_exclusive_pages_are_counted_as_such),
	TEST(ALL, pages_are_counted_among_vast_memory_that_nobody_uses),
	TEST(ALL, munmap_of_exclusive_pages_gives_the_places_back),
	TEST(ALL, dropped_exclusive_pages_read_zero),
	TEST(ALL, exclusive_pages_follow_their_mapping),
	TEST(ALL, freed_and_detached_pages_give_their_places_back),
	TEST(ALL, device_that_goes_gives_exclusive_pages_back),
	TEST(ALL, read_only_exclusive_page_comes_home),
	TEST(ALL, fork_brings_exclusive_pages_home),
	TEST(KERNEL, pages_that_cannot_be_taken_let_the_driver_go_on),
	TEST(KERNEL, bad_requests_are_refused),
};

int main(int argc, char **argv)
{
	return harness_main("exclusive", cases, sizeof(cases) / sizeof(cases[0]), argc, argv);
}
