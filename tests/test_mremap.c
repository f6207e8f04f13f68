/* SPDX-License-Identifier: MIT */
/*
 * umm_mremap(): moving and resizing memory of which devices have used a part, so that it is several
 * mappings to the kernel. Every page's data and home is looked at afterwards.
 */
#include "harness.h"
#include "hooked.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#ifndef MREMAP_DONTUNMAP
#define MREMAP_DONTUNMAP 4
#endif
#ifndef SYS_mseal
#define SYS_mseal 462
#endif

#define BLOCK_PAGES UMM_BLOCK_PAGES
#define FIXED	    (MREMAP_MAYMOVE | MREMAP_FIXED)

/* Pages of the first block that are used, and of all: the second and third no device uses. */
#define USED  16
#define PAGES (3 * BLOCK_PAGES)

/* Three blocks: some pages of the first are on the device, the last one was never touched. */
static char *used_in_part(struct env *e, struct ref_device *ref)
{
	char *p = env_attach(e, 3 * BLOCK);

	fill(p, 2 * BLOCK_PAGES, 1);
	to_device(e, ref, p, USED, USED);
	return p;
}

/* It is at q, all of it: on the device what was there; managed, and free to migrate, the rest. */
static void assert_moved(struct env *e, struct ref_device *ref, char *q)
{
	assert_state(e, q, USED, env_home(e));
	assert_int_equal(ref_counts(ref).pages_out, 0);
	assert_filled(q, 2 * BLOCK_PAGES, 1);
	assert_zero(q + 2 * BLOCK, BLOCK_PAGES);
	assert_int_equal(count_state(e, q, PAGES, UMM_PAGE_UNMANAGED), 0);
	fill(q, PAGES, 2);
	assert_true(migrate(e, ref, q, PAGES, 0) >= BLOCK_PAGES);
	assert_state(e, q, PAGES, env_home(e));
	assert_device_sees(ref, q, PAGES, 2);
	assert_filled(q, PAGES, 2);
}

static void memory_used_in_part_moves_whole(struct env *e)
{
	struct ref_device *ref = env_device(e, PAGES);
	char *p = used_in_part(e, ref), *q = env_map(e, 3 * BLOCK);
	void *to = q;

	assert_int_equal(umm_mremap(p, 3 * BLOCK, 3 * BLOCK, FIXED, &to), 0);
	assert_ptr_equal(to, q);
	env_forget(e, p, 3 * BLOCK);
	assert_moved(e, ref, q);
	assert_state(e, p, PAGES, UMM_PAGE_UNMANAGED);
	/* The attachment has moved along. */
	assert_int_equal(umm_detach(e->ctx, q), 0);
	assert_filled(q, PAGES, 2);
	assert_free_frames(ref, PAGES);
}

static void memory_that_stays_mapped_reads_zero_behind(struct env *e)
{
	struct ref_device *ref = env_device(e, PAGES);
	char *p = used_in_part(e, ref), *q = env_map(e, 3 * BLOCK);
	void *to = q;

	assert_int_equal(umm_mremap(p, 3 * BLOCK, 3 * BLOCK, FIXED | MREMAP_DONTUNMAP, &to), 0);
	assert_moved(e, ref, q);
	assert_zero(p, PAGES);
	/* Without an address of the caller's, too. */
	assert_int_equal(
		umm_mremap(q, 3 * BLOCK, 3 * BLOCK, MREMAP_MAYMOVE | MREMAP_DONTUNMAP, &to), 0);
	assert_filled(to, PAGES, 2);
	assert_zero(q, PAGES);
	munmap(to, 3 * BLOCK);
	assert_free_frames(ref, PAGES);
}

/* What grows is several mappings, and so is what it becomes: the last of them grows. */
static void memory_used_in_part_grows(struct env *e)
{
	struct ref_device *ref = env_device(e, PAGES);
	char *p = used_in_part(e, ref);
	void *to = NULL;

	env_unmap(e, p + 2 * BLOCK, BLOCK);
	assert_int_equal(umm_mremap(p, 2 * BLOCK, 2 * BLOCK + PAGE, 0, &to), 0);
	assert_ptr_equal(to, p);
	assert_zero(p + 2 * BLOCK, 1);
	/* Something is in the way. */
	assert_int_equal(umm_mremap(p, BLOCK, 2 * BLOCK, 0, &to), -ENOMEM);
	assert_int_equal(umm_mremap(p, BLOCK, 3 * BLOCK, MREMAP_MAYMOVE, &to), 0);
	assert_ptr_not_equal(to, p);
	env_forget(e, p, BLOCK);
	assert_filled_part(p, BLOCK_PAGES, BLOCK_PAGES, 1);
	assert_state(e, to, USED, env_home(e));
	assert_filled(to, BLOCK_PAGES, 1);
	assert_zero((char *)to + BLOCK, 2 * BLOCK_PAGES);
	fill(to, PAGES, 3);
	assert_filled(to, PAGES, 3);
	munmap(p + 2 * BLOCK, PAGE);
	munmap(to, 3 * BLOCK);
	assert_free_frames(ref, PAGES);
}

static void memory_that_shrinks_loses_its_end(struct env *e)
{
	struct ref_device *ref = env_device(e, PAGES);
	char *p = used_in_part(e, ref), *q = env_map(e, 3 * BLOCK);
	void *to = q;

	assert_int_equal(umm_mremap(p, 3 * BLOCK, BLOCK, FIXED, &to), 0);
	env_forget(e, p, 3 * BLOCK);
	assert_int_equal(touch_read(p + BLOCK), SIGSEGV);
	assert_state(e, q, USED, env_home(e));
	assert_filled(q, BLOCK_PAGES, 1);
	/* What was at the target is gone only where something came. */
	assert_zero(q + BLOCK, 2 * BLOCK_PAGES);
	assert_int_equal(umm_mremap(q, BLOCK, USED / 2 * PAGE, 0, &to), 0);
	assert_ptr_equal(to, q);
	env_forget(e, q + USED / 2 * PAGE, BLOCK - USED / 2 * PAGE);
	assert_filled(q, USED / 2, 1);
	assert_int_equal(touch_read(q + USED / 2 * PAGE), SIGSEGV);
	assert_int_equal(ref_counts(ref).pages_in, USED);
}

/* ---- contexts of the whole process: each page that a device asked for is a mapping ------ */

struct whole {
	struct umm_ctx *ctx;
	struct ref_device *ref;
	char *p, *q;
};

static void whole_make(struct env *e, struct whole *w, size_t len)
{
	struct umm_ctx_options options = { .size = sizeof(options),
					   .flags = UMM_CTX_WHOLE_PROCESS | e->variant.ctx_flags,
					   .kernel_features_off = e->variant.features_off };
	struct ref_options ref = { .type = e->variant.type,
				   .nframes = 64,
				   .inline_copy = e->variant.inline_copy };

	if (!variant_has_syscalls(&e->variant))
		ref.touch = touch_read;
	w->p = env_map(e, len);
	w->q = env_map(e, len);
	assert_int_equal(umm_ctx_create(&options, &w->ctx), 0);
	assert_int_equal(ref_create(w->ctx, &ref, &w->ref), 0);
}

static void whole_end(struct whole *w)
{
	umm_ctx_put(w->ctx);
	assert_true(ref_destroy(w->ref));
}

static void device_reads(struct whole *w, const void *addr, size_t i, unsigned seed)
{
	char page[PAGE];

	assert_int_equal(ref_read(w->ref, (uintptr_t)addr, page, PAGE), 0);
	assert_true(page_filled(page, i, seed));
}

static void mapping_read_in_part_moves_again_and_again(struct env *e)
{
	struct whole w;
	void *to;

	whole_make(e, &w, BLOCK);
	for (unsigned round = 0; round < 6; round++) {
		char *from = round % 2 ? w.q : w.p;

		fill(from, BLOCK_PAGES, round);
		for (size_t i = 3; i < BLOCK_PAGES; i += 100)
			device_reads(&w, from + i * PAGE, i, round);
		to = round % 2 ? w.p : w.q;
		assert_int_equal(umm_mremap(from, BLOCK, BLOCK, FIXED, &to), 0);
		assert_filled(to, BLOCK_PAGES, round);
		device_reads(&w, (char *)to + 3 * PAGE, 3, round);
	}
	env_forget(e, w.q, BLOCK);
	whole_end(&w);
}

/* An anonymous mapping, one of a file, and a shared one, in a row: each moves as what it is. */
static void mappings_of_several_kinds_move_together(struct env *e)
{
	const int prot = PROT_READ | PROT_WRITE;
	struct whole w;
	int fd = memfd_create("kinds", MFD_CLOEXEC);
	void *to;

	assert_true(fd >= 0);
	assert_int_equal(ftruncate(fd, 4 * PAGE), 0);
	whole_make(e, &w, 16 * PAGE);
	mmap(w.p + 4 * PAGE, 4 * PAGE, prot, MAP_PRIVATE | MAP_FIXED, fd, 0);
	mmap(w.p + 8 * PAGE, 4 * PAGE, prot, MAP_SHARED | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
	fill(w.p, 16, 1);
	for (size_t i = 1; i < 16; i += 3)
		device_reads(&w, w.p + i * PAGE, i, 1);
	assert_int_equal(umm_migrate_to_device(w.ctx, w.ref->mem, w.p + 2 * PAGE, PAGE), 1);
	to = w.q;
	assert_int_equal(umm_mremap(w.p, 16 * PAGE, 16 * PAGE, FIXED, &to), 0);
	env_forget(e, w.p, 16 * PAGE);
	for (size_t i = 1; i < 16; i += 3)
		device_reads(&w, w.q + i * PAGE, i, 1);
	assert_filled(w.q, 16, 1);
	close(fd);
	whole_end(&w);
}

/* ---- a device that begins to use a part while it moves ------------------------------- */

struct mover {
	struct actor actor;
	struct whole w;
	int flags;
	int ret;
};

static void move_it(void *arg)
{
	struct mover *m = arg;
	void *to = m->w.q;

	m->ret = umm_mremap(m->w.p, 16 * PAGE, 16 * PAGE, FIXED | m->flags, &to);
}

/* It was one mapping when it was looked at, and is three when it moves. */
static void move_while_device_begins(struct env *e, int flags)
{
	struct mover m = { .flags = flags };

	hook_init();
	whole_make(e, &m.w, 16 * PAGE);
	fill(m.w.p, 16, 1);
	hook_arm(HOOK_REMAPPING, m.w.p, 16);
	actor_start(&m.actor, move_it, &m);
	assert_true(hook_stopped());
	device_reads(&m.w, m.w.p + 8 * PAGE, 8, 1);
	hook_go(HOOK_REMAPPING);
	actor_join(&m.actor);
	assert_int_equal(m.ret, 0);
	assert_filled(m.w.q, 16, 1);
	device_reads(&m.w, m.w.q + 8 * PAGE, 8, 1);
	device_reads(&m.w, m.w.q, 0, 1);
	if (flags)
		assert_zero(m.w.p, 16);
	else
		env_forget(e, m.w.p, 16 * PAGE);
	whole_end(&m.w);
}

static void a_device_may_begin_while_it_moves(struct env *e)
{
	move_while_device_begins(e, 0);
}

static void a_device_may_begin_while_it_moves_and_stays(struct env *e)
{
	move_while_device_begins(e, MREMAP_DONTUNMAP);
}

/* ---- what goes wrong ------------------------------------------------------------------ */

static void what_fails_midway_moves_back(struct env *e)
{
	struct ref_device *ref = env_device(e, PAGES);
	char *p = used_in_part(e, ref), *q = env_map(e, 3 * BLOCK);
	void *to = q;

	if (syscall(SYS_mseal, p + 2 * BLOCK, BLOCK, 0))
		env_skip("no mapping can be sealed here: %s", strerror(errno));
	assert_int_equal(umm_mremap(p, 3 * BLOCK, 3 * BLOCK, FIXED, &to), -EPERM);
	assert_ptr_equal(to, q);
	env_forget(e, q, 3 * BLOCK);
	assert_int_equal(touch_read(q), SIGSEGV);
	assert_state(e, p, USED, env_home(e));
	assert_int_equal(ref_counts(ref).pages_out, 0);
	assert_filled(p, 2 * BLOCK_PAGES, 1);
	fill(p, PAGES, 2);
	to_device(e, ref, p, USED, USED);
	assert_filled(p, PAGES, 2);
	/* What is sealed stays to the end of the process. */
	assert_int_equal(umm_detach(e->ctx, p), 0);
	env_forget(e, p, 3 * BLOCK);
}

static void nonsense_and_holes_are_refused(struct env *e)
{
	struct ref_device *ref = env_device(e, PAGES);
	char *p = used_in_part(e, ref), *q = env_map(e, 3 * BLOCK);
	const size_t len = 3 * BLOCK;
	void *to = q, *odd = q + 1, *over = p + BLOCK, *none = NULL;

	assert_int_equal(umm_mremap(p, len, len, FIXED, NULL), -EINVAL);
	assert_int_equal(umm_mremap(NULL, len, len, FIXED, &to), -EINVAL);
	assert_int_equal(umm_mremap(p + 1, len, len, FIXED, &to), -EINVAL);
	assert_int_equal(umm_mremap(p, 0, len, FIXED, &to), -EINVAL);
	assert_int_equal(umm_mremap(p, len, 0, FIXED, &to), -EINVAL);
	assert_int_equal(umm_mremap(p, SIZE_MAX, len, FIXED, &to), -EINVAL);
	assert_int_equal(umm_mremap(p, len, SIZE_MAX, FIXED, &to), -EINVAL);
	assert_int_equal(umm_mremap(p, len, len, 64, &to), -EINVAL);
	assert_int_equal(umm_mremap(p, len, len, MREMAP_FIXED, &to), -EINVAL);
	assert_int_equal(umm_mremap(p, len, BLOCK, FIXED | MREMAP_DONTUNMAP, &to), -EINVAL);
	assert_int_equal(umm_mremap(p, len, len, FIXED, &odd), -EINVAL);
	assert_int_equal(umm_mremap(p, len, len, FIXED, &over), -EINVAL);
	assert_int_equal(umm_mremap(p, len, len, FIXED, &none), -EINVAL);
	env_unmap(e, p + len - PAGE, PAGE);
	assert_int_equal(umm_mremap(p, len, len, FIXED, &to), -EFAULT);
	assert_int_equal(umm_mremap(p, len, 2 * len, MREMAP_MAYMOVE, &to), -EFAULT);
	assert_ptr_equal(to, q);
	assert_state(e, p, USED, env_home(e));
	assert_filled(p, 2 * BLOCK_PAGES, 1);
}

static struct {
	char *p;
	int ret;
} inside;

static void move_inside(void *priv, const struct umm_notifier_range *range)
{
	void *to = NULL;

	(void)priv;
	(void)range;
	inside.ret = umm_mremap(inside.p, PAGE, 2 * PAGE, MREMAP_MAYMOVE, &to);
}

static void callbacks_must_not_move_memory(struct env *e)
{
	struct ref_device *ref = env_device(e, PAGES);

	inside.p = used_in_part(e, ref);
	assert_int_equal(ref_watch(ref, move_inside, NULL), 0);
	to_system(e, inside.p, USED, USED);
	assert_int_equal(inside.ret, -EDEADLK);
	assert_int_equal(ref_watch(ref, NULL, NULL), 0);
}

/* What is hinted of some pages at addr; all of the others are without. */
static void assert_hinted(struct env *e, char *addr, size_t first, size_t npages)
{
	struct umm_span spans[3] = {
		{ (uintptr_t)addr, first * PAGE },
		{ (uintptr_t)addr + first * PAGE, npages * PAGE },
		{ (uintptr_t)addr + (first + npages) * PAGE, (PAGES - first - npages) * PAGE },
	};
	struct umm_span_info info[3] = { { .size = sizeof(*info) } };

	assert_int_equal(umm_query_spans(e->ctx, spans, 3, info), 0);
	assert_int_equal(info[0].hints | info[0].mixed, 0);
	assert_int_equal(info[1].hints, 1 << UMM_HINT_NO_MIGRATE);
	assert_int_equal(info[2].hints | info[2].mixed, 0);
}

static void assert_unhinted(struct env *e, const char *addr)
{
	struct umm_span span = { (uintptr_t)addr, PAGES * PAGE };
	struct umm_span_info info = { .size = sizeof(info) };

	assert_int_equal(umm_query_spans(e->ctx, &span, 1, &info), 0);
	assert_int_equal(info.hints | info.mixed, 0);
}

/* Three blocks that no device has used; some pages in their midst are hinted. */
static char *hinted_in_part(struct env *e)
{
	char *p = env_attach(e, 3 * BLOCK);
	struct umm_span span = { (uintptr_t)p + BLOCK, USED * PAGE };
	struct umm_advice advice = {
		.size = sizeof(advice), .spans = &span, .nspans = 1, .hint = UMM_HINT_NO_MIGRATE
	};

	fill(p, PAGES, 1);
	assert_int_equal(umm_advise(e->ctx, &advice), 0);
	assert_hinted(e, p, BLOCK_PAGES, USED);
	return p;
}

/* A hint makes mappings of its own, too, which mremap() does not move together. */
static void memory_hinted_in_part_moves_whole(struct env *e)
{
	char *p = hinted_in_part(e), *q = env_map(e, 3 * BLOCK);
	void *to = q;

	assert_ptr_equal(mremap(p, 3 * BLOCK, 3 * BLOCK + PAGE, MREMAP_MAYMOVE), MAP_FAILED);
	assert_int_equal(errno, EFAULT);
	assert_filled(p, PAGES, 1);
	assert_int_equal(umm_mremap(p, 3 * BLOCK, 3 * BLOCK, FIXED, &to), 0);
	assert_ptr_equal(to, q);
	env_forget(e, p, 3 * BLOCK);
	assert_filled(q, PAGES, 1);
	assert_hinted(e, q, BLOCK_PAGES, USED);
	assert_unhinted(e, p);
}

/* What is left behind is not managed, and begins without hints when it is again. */
static void memory_hinted_in_part_that_stays_mapped_leaves_no_hint_behind(struct env *e)
{
	char *p = hinted_in_part(e), *q = env_map(e, 3 * BLOCK);
	void *to = q;

	assert_int_equal(umm_mremap(p, 3 * BLOCK, 3 * BLOCK, FIXED | MREMAP_DONTUNMAP, &to), 0);
	assert_filled(q, PAGES, 1);
	assert_hinted(e, q, BLOCK_PAGES, USED);
	assert_zero(p, PAGES);
	assert_unhinted(e, p);
	assert_int_equal(umm_detach(e->ctx, q), 0);
	assert_int_equal(umm_attach(e->ctx, p, 3 * BLOCK), 0);
	assert_unhinted(e, p);
}

static const struct test_case cases[] = {
	TEST(ALL, memory_used_in_part_moves_whole),
	TEST(ALL, memory_that_stays_mapped_reads_zero_behind),
	TEST(ALL, memory_used_in_part_grows),
	TEST(ALL, memory_that_shrinks_loses_its_end),
	TEST(ALL, mapping_read_in_part_moves_again_and_again),
	TEST(ALL, mappings_of_several_kinds_move_together),
	TEST(ALL, a_device_may_begin_while_it_moves),
	TEST(ALL, a_device_may_begin_while_it_moves_and_stays),
	TEST(KERNEL, memory_hinted_in_part_moves_whole),
	TEST(KERNEL, memory_hinted_in_part_that_stays_mapped_leaves_no_hint_behind),
	TEST(KERNEL, what_fails_midway_moves_back),
	TEST(KERNEL, nonsense_and_holes_are_refused),
	TEST(ONCE, callbacks_must_not_move_memory),
};

int main(int argc, char **argv)
{
	return harness_main("mremap", cases, sizeof(cases) / sizeof(*cases), argc, argv);
}
