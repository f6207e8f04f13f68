/* SPDX-License-Identifier: MIT */
/*
 * Migration in three steps: the test is the driver, allocates frames and copies.
 */
#include "harness.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>

#define MOST 64

/* A migration of at most MOST pages, with the arrays it needs. */
struct steps {
	struct umm_migrate migrate;
	uint64_t src[MOST];
	uint64_t dst[MOST];
	uint32_t frames[MOST];
};

static void steps_init(struct env *e, struct steps *s, void *addr, size_t npages,
		       struct ref_device *to)
{
	memset(s, 0, sizeof(*s));
	s->migrate.size = sizeof(s->migrate);
	s->migrate.ctx = e->ctx;
	s->migrate.start = (uintptr_t)addr;
	s->migrate.end = (uintptr_t)addr + npages * PAGE;
	s->migrate.src = s->src;
	s->migrate.dst = s->dst;
	s->migrate.dst_mem = to ? to->mem : NULL;
	s->migrate.flags = to ? UMM_MIGRATE_SELECT_SYSTEM :
				UMM_MIGRATE_SELECT_PRIVATE | UMM_MIGRATE_SELECT_COHERENT;
}

static void *mpfn_addr(uint64_t mpfn)
{
	return (void *)(uintptr_t)(mpfn & ~(uint64_t)(PAGE - 1));
}

/* Copy page i to a frame of the device, like a driver's own copy engine. */
static void copy_in(struct steps *s, struct ref_device *ref, size_t i)
{
	static const char zero[PAGE];

	if (!(s->src[i] & UMM_MPFN_MIGRATE))
		return;
	ref_frame_write(ref, s->frames[i],
			s->src[i] & UMM_MPFN_EMPTY ? zero : mpfn_addr(s->src[i]));
	s->dst[i] = UMM_MPFN_VALID | UMM_MPFN_DEVICE | (uint64_t)s->frames[i] << UMM_PAGE_SHIFT;
}

/* Copy page i home. */
static void copy_out(struct steps *s, struct ref_device *ref, size_t i)
{
	void *host;

	if (!(s->src[i] & UMM_MPFN_MIGRATE))
		return;
	assert_true(s->src[i] & UMM_MPFN_DEVICE);
	assert_ptr_equal(umm_migrate_src_mem(&s->migrate, i), ref->mem);
	host = umm_migrate_host(&s->migrate, i);
	assert_non_null(host);
	ref_frame_read(ref, (uint32_t)(s->src[i] >> UMM_PAGE_SHIFT), host);
	s->dst[i] = UMM_MPFN_VALID;
}

static void steps_move_pages_with_the_drivers_copies(struct env *e)
{
	struct ref_device *ref = env_device(e, 128);
	char *p = env_alloc_small(e, MOST * PAGE);
	struct steps s;
	size_t i;

	fill(p, 40, 1);
	env_mark(e);
	steps_init(e, &s, p, MOST, ref);
	assert_int_equal(umm_migrate_setup(&s.migrate), 0);
	assert_int_equal(s.migrate.npages, MOST);
	assert_int_equal(s.migrate.cpages, MOST);
	assert_state(e, p, MOST, UMM_PAGE_MIGRATING);
	assert_int_equal(umm_devmem_alloc(ref->mem, MOST, s.frames), 0);
	for (i = 0; i < MOST; i++) {
		assert_true(s.src[i] & UMM_MPFN_MIGRATE);
		assert_int_equal(!!(s.src[i] & UMM_MPFN_EMPTY), i >= 40);
		assert_false(s.src[i] & UMM_MPFN_DEVICE);
		copy_in(&s, ref, i);
	}
	umm_migrate_pages(&s.migrate);
	assert_int_equal(s.migrate.cpages, MOST);
	umm_migrate_finalize(&s.migrate);
	assert_state(e, p, MOST, env_home(e));
	assert_free_frames(ref, 64);
	assert_delta(e, UMM_COUNT_TO_DEVICE + UMM_CAUSE_EXPLICIT, MOST);
	assert_int_equal(ref_counts(ref).calls, 0);
	assert_device_sees(ref, p, 40, 1);
	assert_device_sees_zero(ref, p + 40 * PAGE, MOST - 40);
	assert_filled(p, 40, 1);
	assert_zero(p + 40 * PAGE, MOST - 40);
}

static void steps_bring_pages_home(struct env *e)
{
	struct ref_device *ref = env_device(e, 128);
	char *p = env_alloc_small(e, MOST * PAGE);
	struct steps s;
	size_t i;

	fill(p, MOST, 1);
	to_device(e, ref, p + 8 * PAGE, 48, 48);
	env_mark(e);
	steps_init(e, &s, p, MOST, NULL);
	s.migrate.cause = UMM_CAUSE_EVICT;
	assert_int_equal(umm_migrate_setup(&s.migrate), 0);
	assert_int_equal(s.migrate.cpages, 48);
	for (i = 0; i < MOST; i++) {
		assert_int_equal(!!(s.src[i] & UMM_MPFN_MIGRATE), i >= 8 && i < 56);
		copy_out(&s, ref, i);
	}
	umm_migrate_pages(&s.migrate);
	assert_int_equal(s.migrate.cpages, 48);
	umm_migrate_finalize(&s.migrate);
	assert_state(e, p, MOST, UMM_PAGE_SYSTEM);
	assert_free_frames(ref, 128);
	assert_delta(e, UMM_COUNT_TO_SYSTEM + UMM_CAUSE_EVICT, 48);
	assert_filled(p, MOST, 1);
}

static void destination_zero_leaves_the_page(struct env *e)
{
	struct ref_device *ref = env_device(e, 128);
	char *p = env_alloc_small(e, 16 * PAGE);
	struct steps s;
	size_t i;

	fill(p, 16, 1);
	steps_init(e, &s, p, 16, ref);
	assert_int_equal(umm_migrate_setup(&s.migrate), 0);
	assert_int_equal(umm_devmem_alloc(ref->mem, 16, s.frames), 0);
	for (i = 0; i < 16; i += 2)
		copy_in(&s, ref, i);
	umm_migrate_pages(&s.migrate);
	assert_int_equal(s.migrate.cpages, 8);
	for (i = 0; i < 16; i++) {
		assert_int_equal(!!(s.src[i] & UMM_MPFN_MIGRATE), i % 2 == 0);
		if (i % 2)
			umm_devmem_free(ref->mem, 1, &s.frames[i]);
	}
	umm_migrate_finalize(&s.migrate);
	for (i = 0; i < 16; i++)
		assert_int_equal(state_of(e, p + i * PAGE), i % 2 ? UMM_PAGE_SYSTEM : env_home(e));
	assert_free_frames(ref, 120);
	assert_device_sees(ref, p, 16, 1);
	assert_filled(p, 16, 1);
}

static void destination_zero_leaves_the_page_on_the_device(struct env *e)
{
	struct ref_device *ref = env_device(e, 128);
	char *p = env_alloc_small(e, 16 * PAGE);
	struct steps s;
	size_t i;

	fill(p, 16, 1);
	to_device(e, ref, p, 16, 16);
	steps_init(e, &s, p, 16, NULL);
	assert_int_equal(umm_migrate_setup(&s.migrate), 0);
	for (i = 0; i < 16; i += 2)
		copy_out(&s, ref, i);
	umm_migrate_pages(&s.migrate);
	assert_int_equal(s.migrate.cpages, 8);
	umm_migrate_finalize(&s.migrate);
	for (i = 0; i < 16; i++)
		assert_int_equal(state_of(e, p + i * PAGE), i % 2 ? env_home(e) : UMM_PAGE_SYSTEM);
	assert_free_frames(ref, 120);
	assert_filled(p, 16, 1);
}

static void finalize_without_pages_undoes_the_setup(struct env *e)
{
	struct ref_device *ref = env_device(e, 128);
	char *p = env_alloc_small(e, 20 * PAGE);
	struct steps s;

	fill(p, 16, 1);
	steps_init(e, &s, p, 20, ref);
	assert_int_equal(umm_migrate_setup(&s.migrate), 0);
	umm_migrate_finalize(&s.migrate);
	assert_state(e, p, 16, UMM_PAGE_SYSTEM);
	assert_filled(p, 16, 1);
	assert_zero(p + 16 * PAGE, 4);

	to_device(e, ref, p, 16, 16);
	steps_init(e, &s, p, 20, NULL);
	assert_int_equal(umm_migrate_setup(&s.migrate), 0);
	umm_migrate_finalize(&s.migrate);
	assert_state(e, p, 16, env_home(e));
	assert_filled(p, 16, 1);
}

static void setup_collects_what_was_selected(struct env *e)
{
	struct ref_device *a = env_device(e, 64), *b = env_device(e, 64);
	char *p = env_alloc_small(e, 12 * PAGE);
	struct steps s;
	size_t i;

	fill(p, 12, 1);
	to_device(e, a, p, 4, 4);
	to_device(e, b, p + 4 * PAGE, 4, 4);

	steps_init(e, &s, p, 12, NULL);
	s.migrate.owner = b->dev;
	assert_int_equal(umm_migrate_setup(&s.migrate), 0);
	assert_int_equal(s.migrate.cpages, 4);
	for (i = 0; i < 12; i++)
		assert_int_equal(!!(s.src[i] & UMM_MPFN_MIGRATE), i >= 4 && i < 8);
	umm_migrate_finalize(&s.migrate);

	/* The other kind of device memory: there is none. */
	steps_init(e, &s, p, 12, NULL);
	s.migrate.flags = e->variant.type == UMM_DEVMEM_PRIVATE ? UMM_MIGRATE_SELECT_COHERENT :
								  UMM_MIGRATE_SELECT_PRIVATE;
	assert_int_equal(umm_migrate_setup(&s.migrate), -ENOENT);

	steps_init(e, &s, p, 12, a);
	assert_int_equal(umm_migrate_setup(&s.migrate), 0);
	assert_int_equal(s.migrate.cpages, 4);
	for (i = 0; i < 12; i++)
		assert_int_equal(!!(s.src[i] & UMM_MPFN_MIGRATE), i >= 8);
	umm_migrate_finalize(&s.migrate);
	assert_filled(p, 12, 1);
}

static void steps_move_from_device_to_device(struct env *e)
{
	struct ref_device *a = env_device(e, 64), *b = env_device(e, 64);
	char *p = env_alloc_small(e, 8 * PAGE);
	char page[PAGE];
	struct steps s;
	size_t i;

	fill(p, 8, 1);
	to_device(e, a, p, 8, 8);
	steps_init(e, &s, p, 8, b);
	s.migrate.flags = UMM_MIGRATE_SELECT_PRIVATE | UMM_MIGRATE_SELECT_COHERENT;
	assert_int_equal(umm_migrate_setup(&s.migrate), 0);
	assert_int_equal(umm_devmem_alloc(b->mem, 8, s.frames), 0);
	for (i = 0; i < 8; i++) {
		assert_true(s.src[i] & UMM_MPFN_DEVICE);
		ref_frame_read(a, (uint32_t)(s.src[i] >> UMM_PAGE_SHIFT), page);
		ref_frame_write(b, s.frames[i], page);
		s.dst[i] =
			UMM_MPFN_VALID | UMM_MPFN_DEVICE | (uint64_t)s.frames[i] << UMM_PAGE_SHIFT;
	}
	umm_migrate_pages(&s.migrate);
	umm_migrate_finalize(&s.migrate);
	assert_int_equal(s.migrate.cpages, 8);
	assert_free_frames(a, 64);
	assert_free_frames(b, 56);
	assert_device_sees(b, p, 8, 1);
	assert_filled(p, 8, 1);
}

struct toucher {
	char *addr;
	int got;
	atomic_bool committing;
	bool early; /* the touch came through before that */
};

static void toucher_run(void *arg)
{
	struct toucher *t = arg;

	t->got = *(volatile char *)t->addr;
	t->early = !atomic_load(&t->committing);
}

static void cpu_touch_waits_from_setup_to_commit(struct env *e)
{
	struct ref_device *ref = env_device(e, 64);
	char *p = env_alloc_small(e, 4 * PAGE);
	struct toucher t = { .addr = p + PAGE };
	struct actor actor;
	struct steps s;
	size_t i;

	fill(p, 4, 1);
	p[PAGE] = 42;
	env_mark(e);
	steps_init(e, &s, p, 4, ref);
	assert_int_equal(umm_migrate_setup(&s.migrate), 0);
	actor_start(&actor, toucher_run, &t);
	assert_true(actor_blocks(&actor));
	/* It sleeps in the kernel; a server has yet to read of it. */
	wait_until(env_delta(e, UMM_COUNT_FAULT_WAIT) >= 1);
	assert_int_equal(umm_devmem_alloc(ref->mem, 4, s.frames), 0);
	for (i = 0; i < 4; i++)
		copy_in(&s, ref, i);
	atomic_store(&t.committing, true);
	umm_migrate_pages(&s.migrate);
	umm_migrate_finalize(&s.migrate);
	actor_join(&actor);
	assert_int_equal(t.got, 42);
	assert_false(t.early);
	assert_delta(e, UMM_COUNT_FAULT_WAIT, 1);
}

static void setup_refuses_bad_arguments(struct env *e)
{
	struct {
		struct umm_migrate migrate;
		uint64_t newer;
	} big = { .newer = 1 };
	struct ref_device *ref = env_device(e, 64);
	char *p = env_alloc_small(e, 8 * PAGE), *q = env_map(e, 4 * PAGE);
	struct steps s;

	fill(p, 8, 1);
	assert_int_equal(umm_migrate_setup(NULL), -EINVAL);
	steps_init(e, &s, p, 8, ref);
	s.migrate.size = 0;
	assert_int_equal(umm_migrate_setup(&s.migrate), -EINVAL);
	steps_init(e, &s, p, 8, ref);
	s.migrate.start++;
	assert_int_equal(umm_migrate_setup(&s.migrate), -EINVAL);
	steps_init(e, &s, p, 8, ref);
	s.migrate.end = s.migrate.start;
	assert_int_equal(umm_migrate_setup(&s.migrate), -EINVAL);
	steps_init(e, &s, p, 8, ref);
	s.migrate.flags |= UINT64_C(1) << 40;
	assert_int_equal(umm_migrate_setup(&s.migrate), -EINVAL);
	steps_init(e, &s, p, 8, ref);
	s.migrate.cause = UMM_NR_CAUSES;
	assert_int_equal(umm_migrate_setup(&s.migrate), -EINVAL);
	steps_init(e, &s, q, 4, ref);
	assert_int_equal(umm_migrate_setup(&s.migrate), -EFAULT);
	steps_init(e, &s, p, 8, NULL);
	assert_int_equal(umm_migrate_setup(&s.migrate), -ENOENT);
	steps_init(e, &s, p, 8, ref);
	big.migrate = s.migrate;
	big.migrate.size = sizeof(big);
	assert_int_equal(umm_migrate_setup(&big.migrate), -E2BIG);
	assert_state(e, p, 8, UMM_PAGE_SYSTEM);
	assert_filled(p, 8, 1);
}

static void shared_memory_qualifies_for_nothing(struct env *e)
{
	struct ref_device *ref = env_device(e, 64);
	char *p = mmap(NULL, 8 * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	struct steps s;

	assert_ptr_not_equal(p, MAP_FAILED);
	assert_int_equal(umm_attach(e->ctx, p, 8 * PAGE), 0);
	fill(p, 8, 1);
	steps_init(e, &s, p, 8, ref);
	assert_int_equal(umm_migrate_setup(&s.migrate), -ENOENT);
	assert_state(e, p, 8, UMM_PAGE_MIRRORED);
	assert_filled(p, 8, 1);
	assert_int_equal(umm_detach(e->ctx, p), 0);
	munmap(p, 8 * PAGE);
}

/* One page of eight is not to be had: nothing is collected. */
static void holes_and_memory_without_access_are_einval(struct env *e)
{
	struct ref_device *ref = env_device(e, 64);
	char *p = env_attach(e, 8 * PAGE);
	struct steps s;

	fill(p, 8, 1);
	assert_int_equal(mprotect(p + 3 * PAGE, PAGE, PROT_NONE), 0);
	steps_init(e, &s, p, 8, ref);
	assert_int_equal(umm_migrate_setup(&s.migrate), -EINVAL);
	assert_int_equal(mprotect(p + 3 * PAGE, PAGE, PROT_READ | PROT_WRITE), 0);
	assert_filled(p, 8, 1);
	assert_int_equal(count_state(e, p, 8, UMM_PAGE_MIGRATING), 0);
	env_unmap(e, p + 5 * PAGE, PAGE);
	steps_init(e, &s, p, 8, ref);
	assert_int_equal(umm_migrate_setup(&s.migrate), -EINVAL);
	assert_filled(p, 5, 1);
	assert_filled_part(p, 6, 2, 1);
	assert_int_equal(count_state(e, p, 8, UMM_PAGE_MIGRATING), 0);
}

static void steps_in_the_wrong_order_do_nothing(struct env *e)
{
	struct ref_device *ref = env_device(e, 64);
	char *p = env_alloc_small(e, 8 * PAGE);
	struct steps s;

	fill(p, 8, 1);
	steps_init(e, &s, p, 8, ref);
	umm_migrate_pages(&s.migrate);
	umm_migrate_finalize(&s.migrate);
	assert_null(umm_migrate_host(&s.migrate, 0));
	assert_null(umm_migrate_src_mem(&s.migrate, 0));
	assert_state(e, p, 8, UMM_PAGE_SYSTEM);

	assert_int_equal(umm_migrate_setup(&s.migrate), 0);
	assert_null(umm_migrate_src_mem(&s.migrate, 8));
	assert_null(umm_migrate_host(&s.migrate, 8));
	umm_migrate_finalize(&s.migrate);
	umm_migrate_finalize(&s.migrate);
	umm_migrate_pages(&s.migrate);
	assert_state(e, p, 8, UMM_PAGE_SYSTEM);
	assert_filled(p, 8, 1);
}

static void frames_that_the_driver_does_not_have_are_not_taken(struct env *e)
{
	struct ref_device *ref = env_device(e, 64);
	char *p = env_alloc_small(e, 4 * PAGE);
	struct steps s;

	fill(p, 4, 1);
	steps_init(e, &s, p, 4, ref);
	assert_int_equal(umm_migrate_setup(&s.migrate), 0);
	assert_int_equal(umm_devmem_alloc(ref->mem, 1, s.frames), 0);
	copy_in(&s, ref, 0);
	s.dst[1] = UMM_MPFN_VALID | UMM_MPFN_DEVICE | (uint64_t)64 << UMM_PAGE_SHIFT;
	umm_migrate_pages(&s.migrate);
	assert_false(s.src[1] & UMM_MPFN_MIGRATE);
	assert_int_equal(s.migrate.cpages, 1);
	umm_migrate_finalize(&s.migrate);
	assert_state(e, p, 1, env_home(e));
	assert_state(e, p + PAGE, 3, UMM_PAGE_SYSTEM);
	assert_filled(p, 4, 1);
}

static uint64_t dst_of(uint32_t frame)
{
	return UMM_MPFN_VALID | UMM_MPFN_DEVICE | (uint64_t)frame << UMM_PAGE_SHIFT;
}

static uint32_t frame_of(struct env *e, void *page)
{
	struct umm_page_info info;

	assert_int_equal(umm_query(e->ctx, (uintptr_t)page, 1, &info), 0);
	assert_int_equal(info.state, env_home(e));
	return info.frame;
}

/* A frame is one page's: named twice, in use or never allocated, it leaves the page at home. */
static void frames_that_are_another_pages_are_not_taken(struct env *e)
{
	struct ref_device *ref = env_device(e, 64);
	char *p = env_alloc_small(e, 8 * PAGE);
	struct steps s;
	uint32_t used;

	fill(p, 8, 1);
	to_device(e, ref, p, 1, 1);
	used = frame_of(e, p);
	steps_init(e, &s, p + PAGE, 6, ref);
	assert_int_equal(umm_migrate_setup(&s.migrate), 0);
	assert_int_equal(umm_devmem_alloc(ref->mem, 3, s.frames), 0);
	copy_in(&s, ref, 0);
	s.dst[1] = s.dst[0];
	s.dst[2] = dst_of(used);
	umm_devmem_free(ref->mem, 1, &s.frames[2]);
	s.dst[3] = dst_of(s.frames[2]);
	umm_migrate_pages(&s.migrate);
	assert_int_equal(s.migrate.cpages, 1);
	assert_true(s.src[0] & UMM_MPFN_MIGRATE);
	for (size_t i = 1; i < 6; i++)
		assert_false(s.src[i] & UMM_MPFN_MIGRATE);
	umm_migrate_finalize(&s.migrate);
	assert_state(e, p, 2, env_home(e));
	assert_state(e, p + 2 * PAGE, 6, UMM_PAGE_SYSTEM);
	/* What was not used is still the driver's, what was used is not. */
	umm_devmem_free(ref->mem, 2, s.frames);
	assert_free_frames(ref, 62);
	assert_device_sees(ref, p, 8, 1);
	assert_filled(p, 8, 1);
}

static void frame_named_twice_in_two_blocks_is_taken_once(struct env *e)
{
	struct ref_device *ref = env_device(e, 64);
	char *p = env_alloc_small(e, 2 * BLOCK), *q = p + BLOCK - PAGE;
	struct steps s;

	fill(q, 2, 1);
	steps_init(e, &s, q, 2, ref);
	assert_int_equal(umm_migrate_setup(&s.migrate), 0);
	assert_int_equal(umm_devmem_alloc(ref->mem, 1, s.frames), 0);
	s.frames[1] = s.frames[0];
	s.dst[0] = s.dst[1] = dst_of(s.frames[0]);
	umm_migrate_pages(&s.migrate);
	assert_int_equal(s.migrate.cpages, 1);
	assert_int_equal(!!(s.src[0] & UMM_MPFN_MIGRATE) + !!(s.src[1] & UMM_MPFN_MIGRATE), 1);
	umm_migrate_finalize(&s.migrate);
	assert_int_equal(count_state(e, q, 2, env_home(e)), 1);
	assert_free_frames(ref, 63);
}

static void count_warning(void *priv, enum umm_log_level level, const char *line)
{
	(void)line;
	*(unsigned *)priv += level == UMM_LOG_WARNING;
}

static void freeing_what_is_not_the_drivers_is_logged(struct env *e)
{
	struct ref_device *ref = env_device(e, 64);
	uint32_t frames[2];
	unsigned warnings = 0;

	assert_int_equal(umm_devmem_alloc(ref->mem, 2, frames), 0);
	umm_log_set(count_warning, &warnings, UMM_LOG_WARNING);
	umm_devmem_free(ref->mem, 2, frames);
	assert_int_equal(warnings, 0);
	umm_devmem_free(ref->mem, 2, frames);
	umm_log_set(NULL, NULL, UMM_LOG_WARNING);
	assert_int_equal(warnings, 1);
}

static void only_the_drivers_frames_are_freed(struct env *e)
{
	struct ref_device *ref = env_device(e, 64);
	char *p = env_alloc_small(e, 4 * PAGE), *q = env_alloc_small(e, 60 * PAGE);
	uint32_t frames[5];

	fill(p, 4, 1);
	fill(q, 60, 2);
	to_device(e, ref, p, 4, 4);
	for (size_t i = 0; i < 4; i++)
		frames[i] = frame_of(e, p + i * PAGE);
	frames[4] = UINT32_MAX;
	umm_devmem_free(ref->mem, 5, frames);
	assert_int_equal(umm_devmem_nfree(ref->mem), 60);
	assert_int_equal(umm_devmem_alloc(ref->mem, 1, frames), 0);
	frames[1] = frames[0];
	umm_devmem_free(ref->mem, 2, frames);
	assert_int_equal(umm_devmem_nfree(ref->mem), 60);
	/* Nobody else gets the frames of pages. */
	to_device(e, ref, q, 60, 60);
	assert_device_sees(ref, p, 4, 1);
	assert_filled(p, 4, 1);
	assert_filled(q, 60, 2);
}

static void steps_over_several_blocks(struct env *e)
{
	struct ref_device *ref = env_device(e, 64);
	char *p = env_alloc_small(e, 2 * BLOCK), *q = p + BLOCK - 16 * PAGE;
	struct steps s;
	size_t i;

	fill(q, 32, 1);
	steps_init(e, &s, q, 32, ref);
	assert_int_equal(umm_migrate_setup(&s.migrate), 0);
	assert_int_equal(umm_devmem_alloc(ref->mem, 32, s.frames), 0);
	for (i = 0; i < 32; i++)
		copy_in(&s, ref, i);
	umm_migrate_pages(&s.migrate);
	umm_migrate_finalize(&s.migrate);
	assert_int_equal(s.migrate.cpages, 32);
	assert_state(e, q, 32, env_home(e));
	assert_state(e, q - PAGE, 1, UMM_PAGE_EMPTY);
	assert_device_sees(ref, q, 32, 1);
	assert_filled(q, 32, 1);
}

static void setups_that_would_wait_for_themselves_are_refused(struct env *e)
{
	struct ref_device *ref = env_device(e, 64);
	char *p = env_alloc_small(e, 8 * PAGE);
	struct steps s, again;

	fill(p, 8, 1);
	/* Its own arrays among the pages that would move. */
	steps_init(e, &s, p, 8, ref);
	s.migrate.src = (uint64_t *)(p + 7 * PAGE);
	assert_int_equal(umm_migrate_setup(&s.migrate), -EDEADLK);
	s.migrate.src = s.src;
	s.migrate.dst = (uint64_t *)(p - 2 * sizeof(uint64_t));
	assert_int_equal(umm_migrate_setup(&s.migrate), -EDEADLK);
	/* One that is under way. */
	s.migrate.dst = s.dst;
	assert_int_equal(umm_migrate_setup(&s.migrate), 0);
	again = s;
	assert_int_equal(umm_migrate_setup(&again.migrate), -EINVAL);
	umm_migrate_finalize(&s.migrate);
	assert_filled(p, 8, 1);
}

static void pages_that_may_not_be_written_are_described_so(struct env *e)
{
	struct ref_device *ref = env_device(e, 64);
	char *p = env_alloc_small(e, 4 * PAGE);
	struct steps s;

	fill(p, 4, 1);
	assert_int_equal(mprotect(p + PAGE, 2 * PAGE, PROT_READ), 0);
	steps_init(e, &s, p, 4, ref);
	assert_int_equal(umm_migrate_setup(&s.migrate), 0);
	assert_true(s.src[0] & UMM_MPFN_WRITE);
	assert_false(s.src[1] & UMM_MPFN_WRITE);
	assert_false(s.src[2] & UMM_MPFN_WRITE);
	assert_true(s.src[3] & UMM_MPFN_WRITE);
	umm_migrate_finalize(&s.migrate);
	assert_filled(p, 4, 1);
}

static const struct test_case cases[] = {
	TEST(ALL, setups_that_would_wait_for_themselves_are_refused),
	TEST(ALL, pages_that_may_not_be_written_are_described_so),
	/* First: the same line too often is not logged. */
	TEST(ONCE, freeing_what_is_not_the_drivers_is_logged),
	TEST(ALL, steps_move_pages_with_the_drivers_copies),
	TEST(ALL, steps_bring_pages_home),
	TEST(ALL, destination_zero_leaves_the_page),
	TEST(ALL, destination_zero_leaves_the_page_on_the_device),
	TEST(ALL, finalize_without_pages_undoes_the_setup),
	TEST(ALL, setup_collects_what_was_selected),
	TEST(ALL, steps_move_from_device_to_device),
	TEST(ALL, cpu_touch_waits_from_setup_to_commit),
	TEST(ONCE, setup_refuses_bad_arguments),
	TEST(ALL, shared_memory_qualifies_for_nothing),
	TEST(ALL, holes_and_memory_without_access_are_einval),
	TEST(ALL, steps_in_the_wrong_order_do_nothing),
	TEST(ALL, frames_that_the_driver_does_not_have_are_not_taken),
	TEST(ALL, frames_that_are_another_pages_are_not_taken),
	TEST(ALL, frame_named_twice_in_two_blocks_is_taken_once),
	TEST(ALL, only_the_drivers_frames_are_freed),
	TEST(ALL, steps_over_several_blocks),
};

int main(int argc, char **argv)
{
	return harness_main("test_steps", cases, sizeof(cases) / sizeof(cases[0]), argc, argv);
}
