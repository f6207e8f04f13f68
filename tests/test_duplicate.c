/* SPDX-License-Identifier: MIT */
/* Duplicates: a page that both sides may read, until one of them writes. */
#include "harness.h"
#include "hooked.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

static void duplicates_serve_both_sides_without_faults(struct env *e)
{
	struct ref_device *ref = env_device(e, 64);
	char *p = env_alloc_small(e, 16 * PAGE);

	ref_policy_set(ref, REF_IN_PLACE);
	fill(p, 16, 1);
	env_mark(e);
	assert_int_equal(migrate(e, ref, p, 16, UMM_MIGRATE_DUPLICATE), 16);
	assert_state(e, p, 16, UMM_PAGE_DUPLICATED);
	assert_delta(e, UMM_COUNT_DUPLICATED, 16);
	assert_int_equal(env_delta_causes(e, UMM_COUNT_TO_DEVICE), 0);
	assert_free_frames(ref, 48);
	assert_filled(p, 16, 1);
	assert_device_sees(ref, p, 16, 1);
	assert_filled(p, 16, 1);
	assert_state(e, p, 16, UMM_PAGE_DUPLICATED);
	assert_delta(e, UMM_COUNT_FAULT_DEVICE, 0);
	assert_delta(e, UMM_COUNT_FAULT_WRITE, 0);
	assert_delta(e, UMM_COUNT_BYTES_FROM_DEVICE, 0);
	assert_true(ref_entry(ref, (uintptr_t)p) & UMM_ENTRY_DUPLICATE);
	assert_false(ref_entry(ref, (uintptr_t)p) & UMM_ENTRY_WRITE);
}

static void store_ends_a_duplication_with_one_write_fault(struct env *e)
{
	struct ref_device *ref = env_device(e, 64);
	char *p = env_alloc_small(e, 16 * PAGE);

	ref_policy_set(ref, REF_IN_PLACE);
	fill(p, 16, 1);
	assert_int_equal(migrate(e, ref, p, 16, UMM_MIGRATE_DUPLICATE), 16);
	assert_device_sees(ref, p, 16, 1);
	env_mark(e);
	page_fill(p + 5 * PAGE, 5, 2);
	assert_delta(e, UMM_COUNT_FAULT_WRITE, 1);
	assert_delta(e, UMM_COUNT_FAULT_DEVICE, 0);
	assert_delta(e, UMM_COUNT_COPIES, 0);
	assert_state(e, p + 5 * PAGE, 1, UMM_PAGE_SYSTEM);
	assert_state(e, p, 5, UMM_PAGE_DUPLICATED);
	assert_state(e, p + 6 * PAGE, 10, UMM_PAGE_DUPLICATED);
	assert_free_frames(ref, 49);
	assert_int_equal(ref_entry(ref, (uintptr_t)p + 5 * PAGE), 0);
	page_fill(p + 5 * PAGE, 5, 3);
	assert_delta(e, UMM_COUNT_FAULT_WRITE, 1);
	assert_true(filled_at(p, 5, 3));
	/* The device has no stale copy. */
	page_fill(p + 5 * PAGE, 5, 1);
	assert_device_sees(ref, p, 16, 1);
}

static void device_store_ends_a_duplication(struct env *e)
{
	struct ref_device *ref = env_device(e, 64);
	char *p = env_alloc_small(e, 8 * PAGE);

	fill(p, 8, 1);
	ref_policy_set(ref, REF_IN_PLACE);
	assert_int_equal(migrate(e, ref, p, 8, UMM_MIGRATE_DUPLICATE), 8);
	assert_device_sees(ref, p, 8, 1);
	ref_policy_set(ref, REF_MIGRATE);
	device_fill(ref, p, 4, 2);
	assert_int_equal(count_state(e, p, 4, UMM_PAGE_DUPLICATED), 0);
	assert_state(e, p + 4 * PAGE, 4, UMM_PAGE_DUPLICATED);
	assert_filled(p, 4, 2);
	assert_filled_part(p, 4, 4, 1);
	ref_policy_set(ref, REF_IN_PLACE);
	assert_int_equal(ref_write(ref, (uintptr_t)p + 6 * PAGE, "x", 1), 0);
	assert_int_equal(p[6 * PAGE], 'x');
	assert_int_not_equal(state_of(e, p + 6 * PAGE), UMM_PAGE_DUPLICATED);
}

static void two_devices_hold_copies_of_the_same_pages(struct env *e)
{
	struct ref_device *a = env_device(e, 64), *b = env_device(e, 64);
	char *p = env_alloc_small(e, 8 * PAGE);

	ref_policy_set(a, REF_IN_PLACE);
	ref_policy_set(b, REF_IN_PLACE);
	fill(p, 8, 1);
	assert_int_equal(migrate(e, a, p, 8, UMM_MIGRATE_DUPLICATE), 8);
	assert_int_equal(migrate(e, b, p, 8, UMM_MIGRATE_DUPLICATE), 8);
	assert_state(e, p, 8, UMM_PAGE_DUPLICATED);
	assert_device_sees(a, p, 8, 1);
	assert_device_sees(b, p, 8, 1);
	env_mark(e);
	fill(p, 4, 2);
	assert_delta(e, UMM_COUNT_FAULT_WRITE, 4);
	assert_free_frames(a, 60);
	assert_free_frames(b, 60);
	assert_device_sees(a, p, 4, 2);
	assert_device_sees(b, p, 4, 2);
	/* One of them gets the rest for itself; the other still reads right. */
	to_device(e, a, p + 4 * PAGE, 4, 4);
	assert_state(e, p + 4 * PAGE, 4, env_home(e));
	assert_free_frames(b, 64);
	fill(p, 8, 3);
	assert_device_sees(b, p, 8, 3);
	assert_device_sees(a, p, 8, 3);
}

static void duplicates_of_untouched_pages_read_zero(struct env *e)
{
	struct ref_device *ref = env_device(e, 64);
	char *p = env_alloc_small(e, 8 * PAGE);

	assert_true(migrate(e, ref, p, 8, UMM_MIGRATE_DUPLICATE) >= 0);
	assert_device_sees_zero(ref, p, 8);
	assert_zero(p, 8);
	fill(p, 8, 1);
	assert_device_sees(ref, p, 8, 1);
}

static void duplicates_are_evicted_and_freed(struct env *e)
{
	struct ref_device *ref = env_device(e, 16);
	char *p = env_alloc_small(e, 48 * PAGE);

	fill(p, 48, 1);
	assert_int_equal(migrate(e, ref, p, 16, UMM_MIGRATE_DUPLICATE), 16);
	assert_int_equal(umm_devmem_evict(ref->mem, 16), 0);
	assert_state(e, p, 16, UMM_PAGE_SYSTEM);
	assert_int_equal(migrate(e, ref, p, 16, UMM_MIGRATE_DUPLICATE), 16);
	assert_int_equal(umm_free(e->ctx, p), 0);
	assert_free_frames(ref, 16);
}

/* Many stretches of one block, and one page among them that nobody may read. */
static void scattered_pages_are_duplicated_together(struct env *e)
{
	enum { N = 170, CLOSED = 100 };
	struct ref_device *ref = env_device(e, 256);
	char *p = env_alloc_small(e, 3 * N * PAGE);
	struct umm_span spans[N];
	struct umm_migrate_request req = { .size = sizeof(req),
					   .flags = UMM_MIGRATE_DUPLICATE,
					   .spans = spans,
					   .nspans = N,
					   .dst = ref->mem };

	for (unsigned i = 0; i < N; i++) {
		spans[i] = (struct umm_span){ (uintptr_t)p + 3 * i * PAGE, PAGE };
		fill((void *)spans[i].start, 1, i);
	}
	assert_int_equal(mprotect((void *)spans[CLOSED].start, PAGE, PROT_NONE), 0);
	env_mark(e);
	assert_int_equal(umm_migrate_spans(e->ctx, &req, NULL), N - 1);
	assert_delta(e, UMM_COUNT_DUPLICATED, N - 1);
	assert_int_equal(mprotect((void *)spans[CLOSED].start, PAGE, PROT_READ | PROT_WRITE), 0);
	assert_free_frames(ref, 256 - (N - 1));
	ref_policy_set(ref, REF_IN_PLACE);
	for (unsigned i = 0; i < N; i++) {
		assert_filled((void *)spans[i].start, 1, i);
		assert_device_sees(ref, (void *)spans[i].start, 1, i);
		assert_int_equal(state_of(e, (void *)spans[i].start),
				 i == CLOSED ? UMM_PAGE_SYSTEM : UMM_PAGE_DUPLICATED);
	}
	for (unsigned i = 0; i < N; i++)
		page_fill((void *)spans[i].start, 0, i + 1);
	for (unsigned i = 0; i < N; i++)
		assert_device_sees(ref, (void *)spans[i].start, 1, i + 1);
}

/* What a device does to a page that it uses in place, in a context of whatever kind. */
static void assert_writable_in_place(struct ref_device *ref, char *page, unsigned seed)
{
	char data[PAGE];
	struct iovec own = { .iov_base = data, .iov_len = PAGE };
	struct iovec local = { .iov_base = page, .iov_len = PAGE };

	page_fill(data, 0, seed);
	ref_policy_set(ref, REF_IN_PLACE);
	assert_int_equal(ref_map(ref, (uintptr_t)page, PAGE, true), 0);
	assert_true(ref_entry(ref, (uintptr_t)page) & UMM_ENTRY_WRITE);
	assert_int_equal(syscall(SYS_process_vm_readv, getpid(), &local, 1UL, &own, 1UL, 0UL),
			 PAGE);
	assert_true(page_filled(page, 0, seed));
}

/* One page in three of a range; all of it is filled with seed. */
static void duplicate_thirds(struct env *e, struct ref_device *ref, char *p, unsigned n,
			     unsigned seed)
{
	struct umm_span spans[UMM_BLOCK_PAGES];
	struct umm_migrate_request req = { .size = sizeof(req),
					   .flags = UMM_MIGRATE_DUPLICATE,
					   .spans = spans,
					   .nspans = n,
					   .dst = ref->mem };

	fill(p, 3 * n, seed);
	for (unsigned i = 0; i < n; i++)
		spans[i] = (struct umm_span){ (uintptr_t)p + 3 * i * PAGE, PAGE };
	assert_int_equal(umm_migrate_spans(e->ctx, &req, NULL), n);
}

/* Whatever was protected along with the duplicates; also where system calls must not fault. */
static void pages_between_duplicates_are_the_program_s_to_write(struct env *e)
{
	enum { N = 40 };
	struct ref_device *ref = env_device(e, 64);
	char *p = env_alloc_small(e, 3 * N * PAGE);
	int zero = open("/dev/zero", O_RDONLY);

	assert_true(zero >= 0);
	ref_policy_set(ref, REF_IN_PLACE);
	duplicate_thirds(e, ref, p, N, 1);
	env_mark(e);
	for (unsigned i = 0; i < 3 * N; i += 3) {
		page_fill(p + (i + 1) * PAGE, i + 1, 2);
		assert_int_equal(read(zero, p + (i + 2) * PAGE, PAGE), PAGE);
	}
	close(zero);
	assert_delta(e, UMM_COUNT_FAULT_WRITE, 0);
	for (unsigned i = 0; i < 3 * N; i += 3) {
		assert_state(e, p + i * PAGE, 1, UMM_PAGE_DUPLICATED);
		assert_state(e, p + (i + 1) * PAGE, 2, UMM_PAGE_SYSTEM);
		assert_true(filled_at(p, i, 1));
		assert_true(filled_at(p, i + 1, 2));
		assert_zero(p + (i + 2) * PAGE, 1);
	}
	/* And nothing of the duplicates' protection went with theirs. */
	fill(p, 3 * N, 3);
	assert_delta(e, UMM_COUNT_FAULT_WRITE, N);
	assert_device_sees(ref, p, 3 * N, 3);
}

/* A device that asks for pages between duplicates may write them in place. */
static void page_between_duplicates_is_writable_in_place(struct env *e)
{
	struct ref_device *ref = env_device(e, 64);
	char *p = env_alloc_small(e, 12 * PAGE);

	duplicate_thirds(e, ref, p, 4, 1);
	assert_writable_in_place(ref, p + 4 * PAGE, 2);
	assert_state(e, p + 3 * PAGE, 1, UMM_PAGE_DUPLICATED);
}

/* What lies between them moves as ever, to a device, with its mapping, and home. */
static void pages_between_duplicates_migrate(struct env *e)
{
	struct ref_device *ref = env_device(e, 64);
	char *p = env_alloc_small(e, 12 * PAGE);

	duplicate_thirds(e, ref, p, 4, 1);
	to_device(e, ref, p + PAGE, 2, 2);
	assert_state(e, p, 1, UMM_PAGE_DUPLICATED);
	assert_device_sees(ref, p, 12, 1);
	to_system(e, p, 12, 12);
	fill(p, 12, 2);
	assert_device_sees(ref, p, 12, 2);
}

static bool is_protected(const char *page)
{
	int fd = open("/proc/self/pagemap", O_RDONLY);
	uint64_t word = 0;

	assert_true(fd >= 0);
	assert_int_equal(pread(fd, &word, sizeof(word),
			       (off_t)((uintptr_t)page / PAGE * sizeof(word))),
			 sizeof(word));
	close(fd);
	return word >> 57 & 1;
}

static void pinned_page_between_duplicates_is_not_protected(struct env *e)
{
	struct ref_device *ref = env_device(e, 64);
	char *p = env_alloc_small(e, 12 * PAGE);
	struct umm_pin *pin;

	fill(p, 12, 1);
	assert_int_equal(umm_pin(e->ctx, (uintptr_t)p + 4 * PAGE, 1, UMM_PIN_WRITE, &pin), 0);
	duplicate_thirds(e, ref, p, 4, 1);
	assert_true(is_protected(p + 3 * PAGE));
	assert_false(is_protected(p + 4 * PAGE));
	assert_int_equal(is_protected(p + 7 * PAGE), variant_has_syscalls(&e->variant));
	umm_unpin(pin);
}

/* A page that the program stores to once a migration has chosen what to take first. */
static struct {
	char *page;
	bool done;
	bool was_protected; /* by then */
} early;

static void store_early(void *priv, enum hook_point point, uintptr_t addr)
{
	(void)priv;
	(void)point;
	(void)addr;
	if (early.done)
		return;
	early.done = true;
	early.was_protected = is_protected(early.page);
	page_fill(early.page, 0, 2);
}

/* Every third page of so many blocks that have been on the device, and a store to `page` early. */
static void duplicate_blocks(struct env *e, struct ref_device *ref, char *p, size_t nblocks,
			     char *page)
{
	size_t npages = nblocks * UMM_BLOCK_PAGES, n = npages / 3;
	struct umm_span *spans = calloc(n, sizeof(*spans));
	struct umm_migrate_request req = { .size = sizeof(req),
					   .flags = UMM_MIGRATE_DUPLICATE,
					   .spans = spans,
					   .nspans = n,
					   .dst = ref->mem };

	assert_non_null(spans);
	for (size_t i = 0; i < n; i++)
		spans[i] = (struct umm_span){ (uintptr_t)p + 3 * i * PAGE, PAGE };
	early.page = page;
	early.done = false;
	hook_set(HOOK_CHOSEN, store_early, NULL);
	assert_int_equal(umm_migrate_spans(e->ctx, &req, NULL), n);
	hook_set(HOOK_CHOSEN, NULL, NULL);
	assert_true(early.done);
	free(spans);
}

static char *blocks_known(struct env *e, struct ref_device *ref, size_t nblocks)
{
	char *p = env_alloc(e, (nblocks + 1) * BLOCK);
	size_t npages = nblocks * UMM_BLOCK_PAGES;

	p += -(uintptr_t)p % BLOCK;
	fill(p, npages, 1);
	to_device(e, ref, p, npages, (long)npages);
	to_system(e, p, npages, (long)npages);
	return p;
}

/* Blocks are protected together; but what is stored before their pages are read is what is read. */
static void store_to_a_block_protected_ahead_arrives(struct env *e)
{
	enum { BLOCKS = 3 };
	struct ref_device *ref = env_device(e, BLOCKS * UMM_BLOCK_PAGES);
	char *p = blocks_known(e, ref, BLOCKS), *page = p + 3 * 300 * PAGE;

	ref_policy_set(ref, REF_IN_PLACE);
	duplicate_blocks(e, ref, p, BLOCKS, page);
	assert_int_equal(early.was_protected, variant_has_syscalls(&e->variant));
	assert_state(e, page, 1, UMM_PAGE_DUPLICATED);
	assert_device_sees(ref, page, 1, 2);
	assert_device_sees(ref, p, 6, 1);
	assert_true(is_protected(page));
	/* And a store ends it, as ever. */
	env_mark(e);
	page_fill(page, 0, 3);
	assert_delta(e, UMM_COUNT_FAULT_WRITE, 1);
	assert_state(e, page, 1, UMM_PAGE_SYSTEM);
	assert_device_sees(ref, page, 1, 3);
	assert_filled(p, 900, 1);
}

/* What a piece would leave alone is left alone. */
static void block_with_a_pinned_page_is_not_protected_ahead(struct env *e)
{
	enum { BLOCKS = 4 };
	struct ref_device *ref = env_device(e, BLOCKS * UMM_BLOCK_PAGES);
	char *p = blocks_known(e, ref, BLOCKS), *pinned = p + 2 * BLOCK + 100 * PAGE;
	struct umm_pin *pin;

	assert_int_equal(umm_pin(e->ctx, (uintptr_t)pinned, 1, UMM_PIN_WRITE, &pin), 0);
	duplicate_blocks(e, ref, p, BLOCKS, pinned);
	assert_false(early.was_protected);
	assert_false(is_protected(pinned));
	assert_state(e, pinned + PAGE, 1, UMM_PAGE_DUPLICATED);
	umm_unpin(pin);
}

static void copies_outlive_another_device_s_failure(struct env *e)
{
	const struct ref_failure broken = { .error = -EIO, .to_device = true };
	struct ref_device *a = env_device(e, 64), *b = env_device(e, 64);
	char *p = env_alloc_small(e, 8 * PAGE);

	ref_policy_set(a, REF_IN_PLACE);
	fill(p, 8, 1);
	assert_int_equal(migrate(e, a, p, 8, UMM_MIGRATE_DUPLICATE), 8);
	assert_int_equal(ref_fail(b, &broken), 0);
	assert_true(migrate(e, b, p, 8, UMM_MIGRATE_DUPLICATE) <= 0);
	assert_state(e, p, 8, UMM_PAGE_DUPLICATED);
	assert_free_frames(a, 56);
	assert_free_frames(b, 64);
	env_mark(e);
	assert_device_sees(a, p, 8, 1);
	fill(p, 4, 2);
	assert_delta(e, UMM_COUNT_FAULT_WRITE, 4);
	assert_device_sees(a, p, 4, 2);
	assert_int_equal(migrate(e, a, p, 8, UMM_MIGRATE_DUPLICATE), 4);
	assert_filled(p, 4, 2);
	assert_device_sees(a, p, 4, 2);
	assert_int_equal(umm_free(e->ctx, p), 0);
	assert_free_frames(a, 64);
}

/* ---- dropped, while copies come and go ---------------------------------------------- */

/* A device that has the program drop a page in the middle of its operations. */
struct dropper {
	struct umm_device *dev;
	struct umm_devmem *mem;
	char *frames;
	char *_Atomic in_copy, *_Atomic in_free; /* the page to drop; NULL: none */
	int ret;
};

static void drop_once(struct dropper *d, char *_Atomic *page)
{
	char *p = atomic_exchange(page, NULL);

	if (p && madvise(p, PAGE, MADV_DONTNEED))
		d->ret = errno;
}

static int dropper_copy(void *priv, const struct umm_copy *copies, unsigned ncopies,
			struct umm_fence *done)
{
	struct dropper *d = priv;

	for (unsigned i = 0; i < ncopies; i++)
		if (copies[i].dir == UMM_COPY_TO_DEVICE && copies[i].host)
			memcpy(d->frames + (size_t)copies[i].frame * PAGE, copies[i].host,
			       (size_t)copies[i].npages * PAGE);
	drop_once(d, &d->in_copy);
	umm_fence_signal(done, 0, 0);
	return 0;
}

static void dropper_page_free(void *priv, struct umm_devmem *mem, uint32_t frame, uint32_t nframes)
{
	struct dropper *d = priv;

	(void)mem;
	(void)frame;
	(void)nframes;
	drop_once(d, &d->in_free);
}

static const struct umm_device_ops dropper_ops = {
	.size = sizeof(struct umm_device_ops),
	.api = UMM_DEVICE_API,
	.name = "dropper",
	.copy = dropper_copy,
	.page_free = dropper_page_free,
};

static void dropper_open(struct env *e, struct dropper *d)
{
	struct umm_devmem_options options = { .size = sizeof(options), .nframes = 64 };

	d->frames = env_map(e, 64 * PAGE);
	assert_int_equal(umm_device_create(e->ctx, &dropper_ops, d, 0, &d->dev), 0);
	assert_int_equal(umm_devmem_add(d->dev, &options, &d->mem), 0);
}

static long duplicate_to(struct env *e, struct dropper *d, char *p, size_t npages)
{
	struct umm_span span = { .start = (uintptr_t)p, .len = npages * PAGE };
	struct umm_migrate_request req = { .size = sizeof(req),
					   .flags = UMM_MIGRATE_DUPLICATE,
					   .spans = &span,
					   .nspans = 1,
					   .dst = d->mem };

	return umm_migrate_spans(e->ctx, &req, NULL);
}

/* The second page is dropped while the copy that was made of the first is given back. */
static void no_copy_outlives_its_page(struct env *e)
{
	struct dropper a = { 0 }, b = { 0 };
	char *p = env_alloc_small(e, 8 * PAGE);

	dropper_open(e, &a);
	dropper_open(e, &b);
	fill(p, 8, 1);
	assert_int_equal(duplicate_to(e, &a, p, 8), 8);
	b.in_copy = p;
	a.in_free = p + PAGE;
	assert_true(duplicate_to(e, &b, p, 8) >= 0);
	wait_until(umm_devmem_nfree(a.mem) == 58);
	wait_until(umm_devmem_nfree(b.mem) == 58);
	assert_int_equal(a.ret | b.ret, 0);
	assert_zero(p, 2);
	assert_state(e, p, 2, UMM_PAGE_SYSTEM);
	assert_state(e, p + 2 * PAGE, 6, UMM_PAGE_DUPLICATED);
	fill(p, 2, 1);
	assert_int_equal(duplicate_to(e, &a, p, 8), 2);
	assert_filled(p, 8, 1);
	assert_int_equal(umm_free(e->ctx, p), 0);
	wait_until(umm_devmem_nfree(a.mem) == 64);
	wait_until(umm_devmem_nfree(b.mem) == 64);
}

struct refusal {
	struct ref_device *ref;
	char *p;
	atomic_bool done;
	atomic_int ret;
};

/* A server asks; the program drops the page, and another server reads of it. */
static void drop_and_refuse(void *priv, const struct umm_notifier_range *range)
{
	struct refusal *r = priv;

	if (range->blockable || atomic_exchange(&r->done, true))
		return;
	ref_refuse_invalidations(r->ref, 1);
	atomic_store(&r->ret, madvise(r->p, PAGE, MADV_DONTNEED) ? errno : 0);
}

/* A store is to end a duplication; before mirrors would hear of it, the page is dropped. */
static void no_copy_outlives_a_page_whose_store_was_refused(struct env *e)
{
	struct umm_ctx_options options = { .size = sizeof(options), .fault_servers = 2 };
	struct ref_options device = { .nframes = 64, .inline_copy = true, .policy = REF_IN_PLACE };
	struct umm_ctx *first = e->ctx;
	struct refusal r = { .ret = -1 };
	void *p;

	assert_int_equal(umm_ctx_create(&options, &e->ctx), 0);
	assert_int_equal(ref_create(e->ctx, &device, &r.ref), 0);
	assert_int_equal(umm_alloc(e->ctx, 8 * PAGE, UMM_ALLOC_SMALL_PAGES, &p), 0);
	r.p = p;
	fill(p, 8, 1);
	assert_int_equal(migrate(e, r.ref, p, 8, UMM_MIGRATE_DUPLICATE), 8);
	assert_device_sees(r.ref, p, 8, 1);
	assert_int_equal(ref_watch(r.ref, drop_and_refuse, &r), 0);
	page_fill(p, 0, 2);
	assert_true(atomic_load(&r.done));
	assert_int_equal(atomic_load(&r.ret), 0);
	assert_free_frames(r.ref, 57);
	assert_device_sees(r.ref, p, 1, 2);
	assert_filled_part(p, 1, 7, 1);
	assert_true(migrate(e, r.ref, p, 8, UMM_MIGRATE_DUPLICATE) >= 0);
	assert_device_sees(r.ref, p, 1, 2);
	assert_int_equal(umm_free(e->ctx, p), 0);
	assert_free_frames(r.ref, 64);
	assert_true(ref_destroy(r.ref));
	umm_ctx_put(e->ctx);
	e->ctx = first;
}

/* ---- write-protection that outlives its duplication ---------------------------------- */

static void duplication_that_failed_leaves_a_writable_page(struct env *e)
{
	struct ref_device *ref = env_device(e, 64);
	char *p = env_alloc_small(e, 8 * PAGE);

	fill(p, 8, 1);
	assert_int_equal(ref_fail(ref, &(struct ref_failure){ .error = -EIO, .to_device = true }),
			 0);
	assert_int_equal(migrate(e, ref, p, 8, UMM_MIGRATE_DUPLICATE), -EIO);
	assert_state(e, p, 8, UMM_PAGE_SYSTEM);
	assert_int_equal(ref_fail(ref, NULL), 0);
	assert_writable_in_place(ref, p + 3 * PAGE, 2);
	/* A CPU has never minded, and afterwards a device does not, either. */
	page_fill(p + 4 * PAGE, 4, 2);
	assert_writable_in_place(ref, p + 4 * PAGE, 3);
	assert_filled(p, 3, 1);
	assert_filled_part(p, 5, 3, 1);
}

static void duplicate_that_moved_is_a_writable_page(struct env *e)
{
	struct ref_device *ref = env_device(e, 64);
	char *p = env_attach(e, 8 * PAGE), *q = env_map(e, BLOCK);

	fill(p, 8, 1);
	assert_int_equal(migrate(e, ref, p, 8, UMM_MIGRATE_DUPLICATE), 8);
	assert_ptr_equal(mremap(p, 8 * PAGE, 8 * PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, q), q);
	env_forget(e, p, 8 * PAGE);
	assert_writable_in_place(ref, q + 3 * PAGE, 2);
	assert_filled(q, 3, 1);
	assert_filled_part(q, 4, 4, 1);
}

static void duplicate_that_is_free_to_go_is_a_writable_page(struct env *e)
{
	struct ref_device *ref = env_device(e, 64);
	char *p = env_attach(e, 8 * PAGE);

	fill(p, 8, 1);
	assert_int_equal(migrate(e, ref, p, 8, UMM_MIGRATE_DUPLICATE), 8);
	assert_int_equal(madvise(p, 8 * PAGE, MADV_FREE), 0);
	assert_writable_in_place(ref, p + 3 * PAGE, 2);
}

static const struct test_case cases[] = {
	TEST(ALL, duplicates_serve_both_sides_without_faults),
	TEST(ALL, store_ends_a_duplication_with_one_write_fault),
	TEST(ALL, device_store_ends_a_duplication),
	TEST(ALL, two_devices_hold_copies_of_the_same_pages),
	TEST(ALL, duplicates_of_untouched_pages_read_zero),
	TEST(ALL, duplicates_are_evicted_and_freed),
	TEST(ALL, scattered_pages_are_duplicated_together),
	TEST(ALL, pages_between_duplicates_are_the_program_s_to_write),
	TEST(KERNEL, page_between_duplicates_is_writable_in_place),
	TEST(ALL, pages_between_duplicates_migrate),
	TEST(KERNEL, pinned_page_between_duplicates_is_not_protected),
	TEST(KERNEL, store_to_a_block_protected_ahead_arrives),
	TEST(ONCE, block_with_a_pinned_page_is_not_protected_ahead),
	TEST(ALL, copies_outlive_another_device_s_failure),
	TEST(KERNEL, no_copy_outlives_its_page),
	TEST(ONCE, no_copy_outlives_a_page_whose_store_was_refused),
	TEST(ALL, duplication_that_failed_leaves_a_writable_page),
	TEST(ALL, duplicate_that_moved_is_a_writable_page),
	TEST(ALL, duplicate_that_is_free_to_go_is_a_writable_page),
};

int main(int argc, char **argv)
{
	return harness_main("duplicate", cases, sizeof(cases) / sizeof(cases[0]), argc, argv);
}
