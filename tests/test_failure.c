/* SPDX-License-Identifier: MIT */
/*
 * Frames that are gone for good: what was in them is poisoned and nothing else, they
 * never come back, and writing a page anew repairs it. And the opposite, frames that are
 * emptied while they are fine.
 */
#include "race.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>

#include "ctx.h"
#include "hook.h"

#define PAGES  16
#define FRAMES 64

static uint32_t frame_of(struct env *e, const void *addr)
{
	struct umm_page_info info;

	assert_int_equal(umm_query(e->ctx, (uintptr_t)addr, 1, &info), 0);
	assert_non_null(info.mem);
	return info.frame;
}

/* Sixteen pages on the device. */
static char *device_pages(struct env *e, struct ref_device *ref)
{
	char *p = env_alloc_small(e, PAGES * PAGE);

	fill(p, PAGES, 1);
	to_device(e, ref, p, PAGES, PAGES);
	return p;
}

static void page_of_a_failed_frame_is_sigbus_and_its_neighbours_are_fine(struct env *e)
{
	struct ref_device *ref = env_device(e, FRAMES);
	char *p = device_pages(e, ref), byte;

	env_mark(e);
	assert_int_equal(umm_memory_failure(ref->mem, frame_of(e, p + 3 * PAGE), 1), 1);
	assert_state(e, p + 3 * PAGE, 1, UMM_PAGE_POISONED);
	assert_delta(e, UMM_COUNT_POISONED, 1);
	assert_int_equal(touch_read(p + 3 * PAGE), SIGBUS);
	assert_int_equal(touch_write(p + 3 * PAGE + 100), SIGBUS);
	assert_int_equal(ref_read(ref, (uintptr_t)p + 3 * PAGE, &byte, 1), -EFAULT);
	for (size_t i = 0; i < PAGES; i++)
		assert_true(i == 3 || filled_at(p, i, 1));
	assert_int_equal(ref_counts(ref).frames_failed, 1);
}

static void failed_frames_never_come_back(struct env *e)
{
	struct ref_device *ref = env_device(e, FRAMES);
	char *p = device_pages(e, ref), *q = env_alloc_small(e, FRAMES * PAGE);

	assert_int_equal(umm_memory_failure(ref->mem, frame_of(e, p), 1), 1);
	to_system(e, p, PAGES, PAGES - 1);
	assert_free_frames(ref, FRAMES - 1);
	fill(q, FRAMES, 2);
	assert_int_equal(migrate(e, ref, q, FRAMES, UMM_MIGRATE_NO_EVICT), FRAMES - 1);
	assert_filled(q, FRAMES, 2);
	to_system(e, q, FRAMES, e->variant.type == UMM_DEVMEM_PRIVATE ? 0 : FRAMES - 1);
	assert_free_frames(ref, FRAMES - 1);
	assert_int_equal(umm_free(e->ctx, p), 0);
	assert_free_frames(ref, FRAMES - 1);
}

static void free_and_driver_s_frames_fail_too(struct env *e)
{
	struct ref_device *ref = env_device(e, FRAMES);
	uint32_t frames[2];

	assert_int_equal(umm_devmem_alloc(ref->mem, 2, frames), 0);
	assert_int_equal(umm_memory_failure(ref->mem, frames[0], 1), 0);
	assert_free_frames(ref, FRAMES - 2);
	umm_devmem_free(ref->mem, 2, frames);
	assert_free_frames(ref, FRAMES - 1);
	assert_int_equal(umm_memory_failure(ref->mem, frames[1], 1), 0);
	assert_free_frames(ref, FRAMES - 2);
	assert_int_equal(umm_memory_failure(ref->mem, 0, FRAMES), 0);
	assert_free_frames(ref, 0);
	assert_int_equal(umm_devmem_alloc(ref->mem, 1, frames), -ENOSPC);
}

static void the_owner_is_told_once(struct env *e)
{
	struct ref_device *ref = env_device(e, FRAMES);
	char *p = device_pages(e, ref);
	uint32_t frame = frame_of(e, p);

	assert_int_equal(umm_memory_failure(ref->mem, frame, 1), 1);
	assert_int_equal(umm_memory_failure(ref->mem, frame, 1), 0);
	assert_int_equal(ref_counts(ref).frames_failed, 1);
	assert_int_equal(ref_counts(ref).events[UMM_EVENT_CLEAR], 1);
}

static void a_duplicate_s_copy_ends_and_the_page_stays(struct env *e)
{
	struct ref_device *ref = env_device(e, FRAMES);
	char *p = env_alloc_small(e, PAGES * PAGE);

	fill(p, PAGES, 1);
	assert_int_equal(migrate(e, ref, p, PAGES, UMM_MIGRATE_DUPLICATE), PAGES);
	assert_int_equal(umm_memory_failure(ref->mem, frame_of(e, p), 1), 0);
	assert_state(e, p, 1, UMM_PAGE_SYSTEM);
	assert_state(e, p + PAGE, PAGES - 1, UMM_PAGE_DUPLICATED);
	assert_filled(p, PAGES, 1);
	assert_free_frames(ref, FRAMES - PAGES);
}

static void a_pin_does_not_hold_a_failed_frame(struct env *e)
{
	struct ref_device *ref = env_device(e, FRAMES);
	char *p = device_pages(e, ref);
	struct umm_pin *pin;

	assert_int_equal(umm_pin(e->ctx, (uintptr_t)p, 1, 0, &pin), 0);
	assert_state(e, p, 1, UMM_PAGE_COHERENT);
	assert_int_equal(umm_memory_failure(ref->mem, frame_of(e, p), 1), 1);
	assert_int_equal(touch_read(p), SIGBUS);
	umm_unpin(pin);
}

/* ---- repair ------------------------------------------------------------------------- */

static void a_page_that_is_written_anew_is_repaired(struct env *e)
{
	struct ref_device *ref = env_device(e, FRAMES);
	char *p = device_pages(e, ref), page[2 * PAGE];

	page_fill(page, 3, 7);
	page_fill(page + PAGE, 4, 7);
	assert_int_equal(umm_memory_failure(ref->mem, frame_of(e, p + 3 * PAGE), 1), 1);
	assert_int_equal(touch_read(p + 3 * PAGE), SIGBUS);
	/* Page 4 is not poisoned, and stays. */
	assert_int_equal(umm_clear_poison(e->ctx, (uintptr_t)p + 3 * PAGE, 2, page), 1);
	assert_state(e, p + 3 * PAGE, 1, UMM_PAGE_SYSTEM);
	for (size_t i = 0; i < PAGES; i++)
		assert_true(filled_at(p, i, i == 3 ? 7 : 1));
	to_device(e, ref, p + 3 * PAGE, 1, 1);
	assert_true(filled_at(p, 3, 7));
	assert_int_equal(touch_write(p + 3 * PAGE), 0);
}

static void count_look(void *priv, enum hook_point point, uintptr_t addr)
{
	(void)point;
	(void)addr;
	++*(size_t *)priv;
}

/* 64 GiB of which two blocks exist: one page in each is poisoned. */
static void repairing_looks_only_where_pages_can_be_poisoned(struct env *e)
{
	const size_t len = (size_t)64 << 30;
	struct ref_device *ref = env_device(e, FRAMES);
	char *p = env_alloc_small(e, len), *far = p + len - BLOCK;
	size_t nlooks = 0;

	page_fill(p + 5 * PAGE, 5, 1);
	page_fill(far + 511 * PAGE, 511, 1);
	to_device(e, ref, p + 5 * PAGE, 1, 1);
	to_device(e, ref, far + 511 * PAGE, 1, 1);
	assert_int_equal(umm_memory_failure(ref->mem, frame_of(e, p + 5 * PAGE), 1), 1);
	assert_int_equal(umm_memory_failure(ref->mem, frame_of(e, far + 511 * PAGE), 1), 1);

	hook_set(HOOK_REPAIRING, count_look, &nlooks);
	assert_int_equal(umm_clear_poison(e->ctx, (uintptr_t)p + BLOCK, len / PAGE - 1024, NULL),
			 0);
	assert_int_equal(nlooks, 0);
	assert_int_equal(umm_clear_poison(e->ctx, (uintptr_t)p, len / PAGE, NULL), 2);
	hook_set(HOOK_REPAIRING, NULL, NULL);
	assert_int_equal(nlooks, 2 * UMM_BLOCK_PAGES);
	assert_zero(p + 5 * PAGE, 1);
	assert_zero(far + 511 * PAGE, 1);
}

static void repaired_pages_read_zero_by_default(struct env *e)
{
	struct ref_device *ref = env_device(e, FRAMES);
	char *p = device_pages(e, ref);

	for (size_t i = 0; i < PAGES; i++)
		assert_int_equal(umm_memory_failure(ref->mem, frame_of(e, p + i * PAGE), 1), 1);
	assert_int_equal(umm_clear_poison(e->ctx, (uintptr_t)p, PAGES, NULL), PAGES);
	assert_zero(p, PAGES);
	assert_device_sees_zero(ref, p, PAGES);
	assert_int_equal(umm_clear_poison(e->ctx, (uintptr_t)p, PAGES, NULL), 0);
	fill(p, PAGES, 2);
	assert_filled(p, PAGES, 2);
	assert_int_equal(umm_free(e->ctx, p), 0);
}

/* A frame of one page fails. */
static void lose(struct env *e, struct ref_device *ref, char *addr)
{
	assert_int_equal(umm_memory_failure(ref->mem, frame_of(e, addr), 1), 1);
	assert_int_equal(touch_read(addr), SIGBUS);
}

struct hurried_repair {
	struct env *env;
	const char *page;
	long repaired;
};

static void repair_now(void *priv, enum hook_point point, uintptr_t addr)
{
	struct hurried_repair *repair = priv;

	hook_set(point, NULL, NULL);
	repair->repaired = umm_clear_poison(repair->env->ctx, addr, 1, repair->page);
}

/* The page is repaired after it was found to be poisoned, before its touch becomes an error. */
static void a_repair_is_not_undone_by_poison_that_comes_late(struct env *e)
{
	struct ref_device *ref = env_device(e, FRAMES);
	char *p = device_pages(e, ref), page[PAGE];
	struct hurried_repair repair = { e, page, 0 };

	if (e->ctx->features & UMM_KERNEL_POISON)
		env_skip("a file is mapped over a page only where the kernel has no UFFDIO_POISON");
	page_fill(page, 3, 7);
	hook_set(HOOK_POISONING, repair_now, &repair);
	assert_int_equal(umm_memory_failure(ref->mem, frame_of(e, p + 3 * PAGE), 1), 1);
	assert_int_equal(touch_read(p + 3 * PAGE), 0);
	assert_int_equal(repair.repaired, 1);
	assert_true(filled_at(p, 3, 7));
	assert_state(e, p + 3 * PAGE, 1, UMM_PAGE_SYSTEM);
	to_device(e, ref, p + 3 * PAGE, 1, 1);
	assert_true(filled_at(p, 3, 7));
}

static void a_repaired_page_is_as_protected_as_before(struct env *e)
{
	struct ref_device *ref = env_device(e, FRAMES);
	char *p = device_pages(e, ref), page[PAGE];

	page_fill(page, 0, 7);
	assert_int_equal(mprotect(p, PAGE, PROT_READ), 0);
	for (size_t i = 0; i < 4; i++)
		lose(e, ref, p + i * PAGE);
	assert_int_equal(mprotect(p + PAGE, PAGE, PROT_READ), 0);
	assert_int_equal(mprotect(p + 2 * PAGE, PAGE, PROT_NONE), 0);
	for (size_t i = 0; i < 4; i++)
		assert_int_equal(umm_clear_poison(e->ctx, (uintptr_t)p + i * PAGE, 1, page), 1);
	for (size_t i = 0; i < 2; i++) {
		assert_int_equal(touch_write(p + i * PAGE), SIGSEGV);
		assert_true(page_filled(p + i * PAGE, 0, 7));
	}
	assert_int_equal(touch_read(p + 2 * PAGE), SIGSEGV);
	assert_int_equal(mprotect(p, 3 * PAGE, PROT_READ | PROT_WRITE), 0);
	for (size_t i = 0; i < 4; i++) {
		assert_true(page_filled(p + i * PAGE, 0, 7));
		assert_int_equal(touch_write(p + i * PAGE), 0);
	}
	assert_true(filled_at(p, 4, 1));
}

/* ---- what the program does to a poisoned page --------------------------------------- */

static void dropping_a_page_ends_its_poison(struct env *e)
{
	struct ref_device *ref = env_device(e, FRAMES);
	char *p = device_pages(e, ref);

	for (size_t i = 2; i < 6; i++)
		lose(e, ref, p + i * PAGE);
	assert_int_equal(madvise(p + 3 * PAGE, 2 * PAGE, MADV_DONTNEED), 0);
	/* Where the poison is a mapping, that goes a moment later. */
	if (e->ctx->features & UMM_KERNEL_POISON)
		assert_zero(p + 3 * PAGE, 2);
	wait_until(!touch_read(p + 3 * PAGE) && !touch_read(p + 4 * PAGE));
	wait_until(count_state(e, p + 3 * PAGE, 2, UMM_PAGE_POISONED) == 0);
	assert_zero(p + 3 * PAGE, 2);
	to_device(e, ref, p + 3 * PAGE, 2, 2);
	assert_device_sees_zero(ref, p + 3 * PAGE, 2);
	fill(p + 3 * PAGE, 2, 5);
	assert_filled(p + 3 * PAGE, 2, 5);
	assert_int_equal(touch_read(p + 2 * PAGE), SIGBUS);
	assert_int_equal(touch_read(p + 5 * PAGE), SIGBUS);
}

static void unmapping_a_page_ends_its_poison(struct env *e)
{
	struct ref_device *ref = env_device(e, FRAMES);
	char *p = env_attach(e, PAGES * PAGE);

	fill(p, PAGES, 1);
	to_device(e, ref, p, PAGES, PAGES);
	lose(e, ref, p + 3 * PAGE);
	assert_ptr_equal(mmap(p + 3 * PAGE, PAGE, PROT_READ | PROT_WRITE,
			      MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0),
			 p + 3 * PAGE);
	wait_until(state_of(e, p + 3 * PAGE) == UMM_PAGE_UNMANAGED);
	fill(p + 3 * PAGE, 1, 8);
	/* That is not ours to repair. */
	assert_int_equal(umm_clear_poison(e->ctx, (uintptr_t)p + 3 * PAGE, 1, NULL), 0);
	assert_filled(p + 3 * PAGE, 1, 8);
	assert_true(filled_at(p, 2, 1));
	assert_true(filled_at(p, 4, 1));
}

static void a_page_that_moves_stays_poisoned(struct env *e)
{
	struct ref_device *ref = env_device(e, FRAMES);
	char *p = env_attach(e, PAGES * PAGE), *to = env_map(e, PAGE);

	fill(p, PAGES, 1);
	to_device(e, ref, p, PAGES, PAGES);
	lose(e, ref, p + 3 * PAGE);
	assert_ptr_equal(mremap(p + 3 * PAGE, PAGE, PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, to), to);
	env_forget(e, p + 3 * PAGE, PAGE);
	wait_until(state_of(e, to) == UMM_PAGE_POISONED);
	assert_int_equal(state_of(e, p + 3 * PAGE), UMM_PAGE_UNMANAGED);
	assert_int_equal(touch_read(to), SIGBUS);
	assert_int_equal(umm_clear_poison(e->ctx, (uintptr_t)to, 1, NULL), 1);
	assert_zero(to, 1);
	to_device(e, ref, to, 1, 1);
	assert_zero(to, 1);
}

/* ---- in flight ---------------------------------------------------------------------- */

static void frames_that_fail_while_pages_arrive_get_none(struct env *e)
{
	struct ref_device *ref = env_device(e, FRAMES);
	char *p = env_alloc_small(e, PAGES * PAGE);
	struct umm_fence *fence;

	fill(p, PAGES, 1);
	ref_gate_close(ref, REF_GATE_COPY);
	fence = migrate_start(e, ref, p, PAGES);
	assert_true(ref_gate_wait(ref, REF_GATE_COPY, PATIENCE_MS));
	assert_int_equal(umm_memory_failure(ref->mem, 0, FRAMES), 0);
	ref_gate_open(ref, REF_GATE_COPY);
	assert_int_equal(umm_fence_wait(fence, PATIENCE_MS), 0);
	umm_fence_put(fence);
	if (e->variant.type == UMM_DEVMEM_PRIVATE)
		assert_state(e, p, PAGES, UMM_PAGE_SYSTEM);
	assert_filled(p, PAGES, 1);
	assert_free_frames(ref, 0);
}

static void read_it(void *arg)
{
	(void)*(volatile char *)arg;
}

struct failing {
	struct ref_device *ref;
	uint32_t frame;
	long ret;
};

static void fail_it(void *arg)
{
	struct failing *f = arg;

	f->ret = umm_memory_failure(f->ref->mem, f->frame, 1);
}

static void a_page_that_is_on_its_way_home_gets_there(struct env *e)
{
	struct ref_device *ref = env_device(e, FRAMES);
	char *p = device_pages(e, ref);
	struct failing failing = { .ref = ref, .frame = frame_of(e, p) };
	struct actor reader, failer;

	ref_gate_close(ref, REF_GATE_SIGNAL);
	actor_start(&reader, read_it, p);
	assert_true(ref_gate_wait(ref, REF_GATE_SIGNAL, PATIENCE_MS));
	actor_start(&failer, fail_it, &failing);
	assert_true(actor_blocks(&failer));
	ref_gate_open(ref, REF_GATE_SIGNAL);
	actor_join(&reader);
	actor_join(&failer);
	assert_int_equal(failing.ret, 0);
	assert_filled(p, PAGES, 1);
	assert_free_frames(ref, FRAMES - 1);
}

/* ---- emptying frames ---------------------------------------------------------------- */

static void pages_in_a_range_of_frames_come_home(struct env *e)
{
	struct ref_device *ref = env_device(e, FRAMES);
	char *p = device_pages(e, ref), *q = env_alloc_small(e, PAGES * PAGE);
	size_t home = 0;

	fill(q, PAGES, 2);
	to_device(e, ref, q, PAGES, PAGES);
	for (size_t i = 0; i < PAGES; i++)
		home += (frame_of(e, p + i * PAGE) < 20) + (frame_of(e, q + i * PAGE) < 20);
	assert_int_equal(home, 20);
	assert_int_equal(umm_migrate_device_range(ref->mem, 0, 20), 20);
	assert_free_frames(ref, FRAMES - 2 * PAGES + 20);
	assert_int_equal(count_state(e, p, PAGES, UMM_PAGE_SYSTEM) +
				 count_state(e, q, PAGES, UMM_PAGE_SYSTEM),
			 20);
	assert_int_equal(umm_migrate_device_range(ref->mem, 0, 20), 0);
	assert_int_equal(umm_migrate_device_range(ref->mem, 0, FRAMES), 2 * PAGES - 20);
	assert_free_frames(ref, FRAMES);
	assert_filled(p, PAGES, 1);
	assert_filled(q, PAGES, 2);
}

static void frames_of_lost_pages_are_eio(struct env *e)
{
	struct ref_device *ref = env_device(e, FRAMES);
	char *p = device_pages(e, ref);
	struct ref_failure failure = {
		.error = -EIO, .from_device = true, .frame = frame_of(e, p + 2 * PAGE), .nframes = 1
	};

	assert_int_equal(ref_fail(ref, &failure), 0);
	assert_int_equal(umm_migrate_device_range(ref->mem, 0, FRAMES), -EIO);
	assert_state(e, p + 2 * PAGE, 1, UMM_PAGE_POISONED);
	assert_int_equal(count_state(e, p, PAGES, UMM_PAGE_SYSTEM), PAGES - 1);
	assert_free_frames(ref, FRAMES);
}

static void bad_frames_and_ranges_are_refused(struct env *e)
{
	struct ref_device *ref = env_device(e, FRAMES);
	char *p = env_alloc_small(e, PAGE);

	assert_int_equal(umm_memory_failure(NULL, 0, 1), -EINVAL);
	assert_int_equal(umm_memory_failure(ref->mem, 0, 0), -EINVAL);
	assert_int_equal(umm_memory_failure(ref->mem, FRAMES, 1), -EINVAL);
	assert_int_equal(umm_memory_failure(ref->mem, 1, FRAMES), -EINVAL);
	assert_int_equal(umm_memory_failure(ref->mem, 1, UINT32_MAX), -EINVAL);
	assert_int_equal(umm_migrate_device_range(NULL, 0, 1), -EINVAL);
	assert_int_equal(umm_migrate_device_range(ref->mem, 1, FRAMES), -EINVAL);
	assert_int_equal(umm_clear_poison(NULL, (uintptr_t)p, 1, NULL), -EINVAL);
	assert_int_equal(umm_clear_poison(e->ctx, (uintptr_t)p + 1, 1, NULL), -EINVAL);
	assert_int_equal(umm_clear_poison(e->ctx, (uintptr_t)p, 0, NULL), -EINVAL);
	assert_int_equal(umm_clear_poison(e->ctx, (uintptr_t)p, SIZE_MAX, NULL), -EINVAL);
	assert_int_equal(umm_clear_poison(e->ctx, (uintptr_t)p, 1, NULL), 0);
}

static void copies_that_lack_host_memory_are_asked_for_again(struct env *e)
{
	struct ref_device *ref = env_device(e, FRAMES);
	char *p = device_pages(e, ref);

	env_mark(e);
	ref_fail(ref, &(struct ref_failure){
			      .error = -ENOMEM, .from_device = true, .refuse = true, .times = 3 });
	assert_filled(p, PAGES, 1);
	assert_int_equal(ref_counts(ref).failures, 3);
	assert_delta(e, UMM_COUNT_POISONED, 0);
	assert_delta(e, UMM_COUNT_BYTES_FROM_DEVICE, PAGES * PAGE);
	/* A request says so, and leaves them where they are. */
	to_device(e, ref, p, PAGES, (long)(PAGES - count_state(e, p, PAGES, env_home(e))));
	ref_fail(ref,
		 &(struct ref_failure){ .error = -ENOMEM, .from_device = true, .refuse = true });
	assert_int_equal(umm_migrate_to_system(e->ctx, p, PAGES * PAGE), -ENOMEM);
	assert_state(e, p, PAGES, env_home(e));
	ref_fail(ref, NULL);
	to_system(e, p, PAGES, PAGES);
	assert_filled(p, PAGES, 1);
}

/* ---- who is told ------------------------------------------------------------------------ */

static struct {
	struct umm_devmem *mem;
	atomic_uint calls;
	atomic_size_t nlost;
	int error;
} told;

static void tell(void *priv, struct umm_devmem *mem, int error, size_t nlost)
{
	(void)priv;
	told.mem = mem;
	told.error = error;
	atomic_fetch_add(&told.nlost, nlost);
	atomic_fetch_add(&told.calls, 1);
}

/* Sixteen pages on a device that gives none back, in a context that tells. */
static char *pages_to_lose(struct env *e, int error, struct ref_device **ref)
{
	struct ref_failure failure = { .error = error, .from_device = true };
	char *p;

	atomic_store(&told.calls, 0);
	atomic_store(&told.nlost, 0);
	env_reopen(e, (struct umm_ctx_options){ .failed = tell });
	*ref = env_device(e, FRAMES);
	p = device_pages(e, *ref);
	assert_int_equal(ref_fail(*ref, &failure), 0);
	env_mark(e);
	return p;
}

static void lost_pages_are_told_with_what_the_device_said(struct env *e)
{
	struct ref_device *ref;
	char *p = pages_to_lose(e, -ENODEV, &ref);

	assert_int_equal(migrate(e, NULL, p, PAGES, 0), -EIO);
	assert_int_equal(told.calls, 1);
	assert_ptr_equal(told.mem, ref->mem);
	assert_int_equal(told.error, -ENODEV);
	assert_int_equal(told.nlost, PAGES);
	assert_delta(e, UMM_COUNT_POISONED, PAGES);
	assert_state(e, p, PAGES, UMM_PAGE_POISONED);
	assert_int_equal(touch_read(p), SIGBUS);
}

/* What the program drops or unmaps while it comes home is nobody's loss. */
static void pages_that_go_in_flight_are_not_told_as_lost(struct env *e)
{
	struct ref_device *ref;
	char *p = pages_to_lose(e, -EIO, &ref);
	struct act mover = { .env = e, .p = p, .npages = PAGES };
	struct race r;

	race_start(&r, HOOK_COPIED, act_migrate, mover);
	race_other(e, &r, act_drop, 0, 3);
	race_other_join(&r);
	race_other(e, &r, act_unmap, 3, 2);
	race_other_join(&r);
	race_go(&r, HOOK_COPIED);
	assert_int_equal(r.mover.ret, -EIO);
	assert_int_equal(told.calls, 1);
	assert_int_equal(told.error, -EIO);
	assert_int_equal(told.nlost, PAGES - 5);
	assert_delta(e, UMM_COUNT_POISONED, PAGES - 5);
	assert_state(e, p, 3, UMM_PAGE_EMPTY);
	assert_state(e, p + 3 * PAGE, 2, UMM_PAGE_UNMANAGED);
	assert_state(e, p + 5 * PAGE, PAGES - 5, UMM_PAGE_POISONED);
}

static void loss_of_what_nobody_has_any_more_is_not_told(struct env *e)
{
	struct ref_device *ref;
	char *p = pages_to_lose(e, -EIO, &ref);
	struct act mover = { .env = e, .p = p, .npages = PAGES };
	struct race r;

	race_start(&r, HOOK_COPIED, act_migrate, mover);
	race_other(e, &r, act_drop, 0, PAGES);
	race_other_join(&r);
	race_go(&r, HOOK_COPIED);
	assert_int_equal(r.mover.ret, 0);
	assert_int_equal(told.calls, 0);
	assert_delta(e, UMM_COUNT_POISONED, 0);
	assert_state(e, p, PAGES, UMM_PAGE_EMPTY);
}

static const struct test_case cases[] = {
	TEST(PRIVATE, copies_that_lack_host_memory_are_asked_for_again),
	TEST(ALL, page_of_a_failed_frame_is_sigbus_and_its_neighbours_are_fine),
	TEST(ALL, failed_frames_never_come_back),
	TEST(ALL, free_and_driver_s_frames_fail_too),
	TEST(ALL, the_owner_is_told_once),
	TEST(ALL, a_duplicate_s_copy_ends_and_the_page_stays),
	TEST(COHERENT, a_pin_does_not_hold_a_failed_frame),
	TEST(ALL, a_page_that_is_written_anew_is_repaired),
	TEST(KERNEL, repairing_looks_only_where_pages_can_be_poisoned),
	TEST(ALL, repaired_pages_read_zero_by_default),
	TEST(ALL, a_repair_is_not_undone_by_poison_that_comes_late),
	TEST(ALL, a_repaired_page_is_as_protected_as_before),
	TEST(ALL, dropping_a_page_ends_its_poison),
	TEST(ALL, unmapping_a_page_ends_its_poison),
	TEST(ALL, a_page_that_moves_stays_poisoned),
	TEST(ASYNC, frames_that_fail_while_pages_arrive_get_none),
	TEST(ASYNC_PRIVATE, a_page_that_is_on_its_way_home_gets_there),
	TEST(ALL, pages_in_a_range_of_frames_come_home),
	TEST(ALL, frames_of_lost_pages_are_eio),
	TEST(ONCE, bad_frames_and_ranges_are_refused),
	TEST(PRIVATE, lost_pages_are_told_with_what_the_device_said),
	TEST(PRIVATE, pages_that_go_in_flight_are_not_told_as_lost),
	TEST(PRIVATE, loss_of_what_nobody_has_any_more_is_not_told),
};

int main(int argc, char **argv)
{
	hook_init();
	return harness_main("test_failure", cases, sizeof(cases) / sizeof(cases[0]), argc, argv);
}
