/* SPDX-License-Identifier: MIT */
/*
 * Every kind of memory that a process has, by everything that a program does to it: before a
 * device has seen it, while a migration is under way, and after that. A cell of this
 * table makes the memory, does the call, and says what each half of it holds then, at the old
 * address and the new. That is compared with what device and CPU see. In the end all is
 * written anew, and migrates where its kind does. (test_hostile.c compares such calls with what
 * they do to memory that nobody manages.)
 *
 * The context is one of the whole process: nothing is attached. Changes that the kernel does not
 * tell of are announced, as interposers do.
 */
#include "harness.h"
#include "hooked.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#ifndef MREMAP_DONTUNMAP
#define MREMAP_DONTUNMAP 4
#endif
#ifndef MADV_COLLAPSE
#define MADV_COLLAPSE 25
#endif

#define PAGES	   16
#define MOST_PAGES (2 * (size_t)UMM_BLOCK_PAGES)
#define RW	   (PROT_READ | PROT_WRITE)
#define ANON	   (MAP_PRIVATE | MAP_ANONYMOUS)

/* Seeds of what is in the memory, of what its file has, of what is written in the end. */
#define SEED	  1
#define SEED_FILE 2
#define SEED_FORK 3
#define SEED_LAST 4

enum content {
	DATA,
	ZERO,
	DATA_OR_ZERO,
	FILES,	       /* the file's, under a private mapping */
	FILES_OR_ZERO, /* it depends on whether the page had left the file */
	GONE,
};

enum phase { BEFORE, DURING, AFTER, NR_PHASES };

struct cell;

struct kind {
	const char *name;
	bool (*make)(struct cell *c); /* false: there is none here */
	size_t npages;
	bool migrates, shared, hugetlb, file;
};

struct call {
	const char *name;
	enum umm_event event;
	int (*run)(struct cell *c); /* 0 or -errno; on a thread of its own */
	/* What there is then, and whatever else is to be looked at. */
	void (*check)(struct cell *c);
};

struct cell {
	struct env *env;
	struct umm_ctx *ctx;
	struct ref_device *ref;
	const struct kind *kind;
	const struct call *call;
	enum phase phase;
	char *p, *q; /* the memory; where it may move to */
	char *stack; /* a frame's own */
	size_t npages;
	int fd, ret;
	enum content low, high, moved; /* the halves; at the new address */
};

/* ---- kinds ---------------------------------------------------------------------------- */

/*
 * Addresses, aligned to a block, that the kernel does not hand out by itself: nobody else gets
 * what is unmapped there. Each is used once.
 */
static char *room(size_t len)
{
	static uintptr_t next = HARNESS_TSAN ? (uintptr_t)1 << 38 : (uintptr_t)1 << 45;
	char *at = (char *)next;

	next += (len / BLOCK + 2) * BLOCK;
	return at;
}

static bool map(struct cell *c, int flags)
{
	c->p = mmap(room(c->npages * PAGE), c->npages * PAGE, RW, flags | MAP_FIXED_NOREPLACE,
		    c->fd, 0);
	return c->p != MAP_FAILED;
}

static bool make_anon(struct cell *c)
{
	return map(c, ANON);
}

static bool make_shared(struct cell *c)
{
	return map(c, MAP_SHARED | MAP_ANONYMOUS);
}

static bool make_hugetlb(struct cell *c)
{
	return map(c, ANON | MAP_HUGETLB);
}

static bool make_heap(struct cell *c)
{
	uintptr_t at = (uintptr_t)sbrk((intptr_t)((c->npages + 1) * PAGE));

	c->p = (char *)((at + PAGE - 1) & ~(PAGE - 1));
	return at != (uintptr_t)-1;
}

static bool make_stack(struct cell *c)
{
	c->p = (char *)(((uintptr_t)c->stack + PAGE - 1) & ~(PAGE - 1));
	return true;
}

static bool make_huge(struct cell *c)
{
	return map(c, ANON) && !madvise(c->p, BLOCK, MADV_HUGEPAGE);
}

static bool map_file(struct cell *c, int fd, int flags)
{
	char page[PAGE];

	c->fd = fd;
	if (fd < 0 || ftruncate(fd, (off_t)(c->npages * PAGE)))
		return false;
	for (size_t i = 0; i < c->npages && !c->kind->hugetlb; i++) {
		page_fill(page, i, SEED_FILE);
		if (pwrite(fd, page, PAGE, (off_t)(i * PAGE)) != PAGE)
			return false;
	}
	return map(c, flags);
}

static bool make_private_file(struct cell *c)
{
	return map_file(c, open("/tmp", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600), MAP_PRIVATE);
}

static bool make_shared_file(struct cell *c)
{
	return map_file(c, open("/tmp", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600), MAP_SHARED);
}

static bool make_tmpfs(struct cell *c)
{
	return map_file(c, memfd_create("umm-test", MFD_CLOEXEC), MAP_SHARED);
}

/* As of DAX: the file's pages are the memory, huge, and no page cache has another copy. */
static bool make_dax_like(struct cell *c)
{
	return map_file(c, memfd_create("umm-test", MFD_CLOEXEC | MFD_HUGETLB), MAP_SHARED);
}

static void unmake(struct cell *c)
{
	size_t len = c->npages * PAGE;

	munmap(c->q, len);
	munmap(c->p, len);
	if (c->stack)
		assert_ptr_equal(mmap(c->p, len, RW, ANON | MAP_FIXED, -1, 0), c->p);
	if (c->fd >= 0)
		close(c->fd);
}

/* ---- calls ---------------------------------------------------------------------------- */

static size_t cell_len(const struct cell *c)
{
	return c->npages * PAGE;
}

static int result(int ret)
{
	return ret ? -errno : 0;
}

static void expect(struct cell *c, enum content low, enum content high, enum content moved)
{
	c->low = low;
	c->high = high;
	c->moved = moved;
}

static int run_read_only(struct cell *c)
{
	return result(mprotect(c->p, cell_len(c), PROT_READ));
}

static void check_read_only(struct cell *c)
{
	char byte = 1;

	assert_int_equal(c->ret, 0);
	assert_int_equal(ref_write(c->ref, (uintptr_t)c->p, &byte, 1), -EPERM);
	assert_int_equal(touch_write(c->p), SIGSEGV);
	assert_int_equal(ref_read(c->ref, (uintptr_t)c->p, &byte, 1), 0);
	assert_int_equal(mprotect(c->p, cell_len(c), RW), 0);
	expect(c, DATA, DATA, GONE);
}

static int run_no_access(struct cell *c)
{
	return result(mprotect(c->p, cell_len(c), PROT_NONE));
}

static void check_no_access(struct cell *c)
{
	char byte;

	assert_int_equal(c->ret, 0);
	assert_int_equal(ref_read(c->ref, (uintptr_t)c->p, &byte, 1), -EFAULT);
	assert_int_equal(touch_read(c->p), SIGSEGV);
	assert_int_equal(mprotect(c->p, cell_len(c), RW), 0);
	expect(c, DATA, DATA, GONE);
}

static int run_unmap_half(struct cell *c)
{
	return result(munmap(c->p + cell_len(c) / 2, cell_len(c) / 2));
}

static void check_unmap_half(struct cell *c)
{
	assert_int_equal(c->ret, 0);
	expect(c, DATA, GONE, GONE);
}

static int run_move(struct cell *c)
{
	void *to = c->q;

	return umm_mremap(c->p, cell_len(c), cell_len(c), MREMAP_MAYMOVE | MREMAP_FIXED, &to);
}

static void check_move(struct cell *c)
{
	assert_int_equal(c->ret, 0);
	expect(c, GONE, GONE, DATA);
}

static int run_move_and_stay(struct cell *c)
{
	void *to = c->q;

	return umm_mremap(c->p, cell_len(c), cell_len(c),
			  MREMAP_MAYMOVE | MREMAP_FIXED | MREMAP_DONTUNMAP, &to);
}

/* Of a private mapping: what an address reads that has lost the program's page. */
static enum content behind(const struct cell *c)
{
	if (!c->kind->file)
		return ZERO;
	return c->phase == BEFORE ? FILES : c->phase == AFTER ? ZERO : FILES_OR_ZERO;
}

static void check_move_and_stay(struct cell *c)
{
	enum content left = c->kind->shared ? DATA : behind(c);

	if (c->kind->hugetlb) {
		assert_int_equal(c->ret, -EINVAL);
		expect(c, DATA, DATA, GONE);
		return;
	}
	assert_int_equal(c->ret, 0);
	expect(c, left, left, DATA);
}

static int run_dontneed(struct cell *c)
{
	return result(madvise(c->p, cell_len(c), MADV_DONTNEED));
}

static void check_dontneed(struct cell *c)
{
	enum content left = c->kind->shared ? DATA : behind(c);

	assert_int_equal(c->ret, 0);
	expect(c, left, left, GONE);
}

static int run_free(struct cell *c)
{
	return result(madvise(c->p, cell_len(c), MADV_FREE));
}

static void check_free(struct cell *c)
{
	/* What was of a file is anonymous once it has migrated. */
	if (!c->kind->migrates || (c->kind->file && c->phase == BEFORE))
		assert_int_equal(c->ret, -EINVAL);
	else if (!c->kind->file)
		assert_int_equal(c->ret, 0);
	expect(c, c->ret ? DATA : DATA_OR_ZERO, c->ret ? DATA : DATA_OR_ZERO, GONE);
}

static int run_remove(struct cell *c)
{
	return result(madvise(c->p, cell_len(c), MADV_REMOVE));
}

static void check_remove(struct cell *c)
{
	assert_int_equal(!c->ret, c->kind->shared);
	expect(c, c->ret ? DATA : ZERO, c->ret ? DATA : ZERO, GONE);
}

static int run_collapse(struct cell *c)
{
	return result(madvise(c->p, cell_len(c), MADV_COLLAPSE));
}

/* Whether it is possible is the kernel's affair. */
static void check_same(struct cell *c)
{
	expect(c, DATA, DATA, GONE);
}

static int run_lock(struct cell *c)
{
	return result(mlock(c->p, cell_len(c)));
}

static void check_lock(struct cell *c)
{
	if (variant_has_syscalls(&c->env->variant))
		assert_int_equal(c->ret, 0);
	assert_int_equal(munlock(c->p, cell_len(c)), 0);
	expect(c, DATA, DATA, GONE);
}

static void child(void *arg)
{
	struct cell *c = arg;

	for (size_t i = 0; i < c->npages; i++)
		child_check(filled_at(c->p, i, SEED));
	page_fill(c->p, 0, SEED_FORK);
}

static int run_fork(struct cell *c)
{
	return in_child(child, c) ? 0 : -ECHILD;
}

static void check_fork(struct cell *c)
{
	assert_int_equal(c->ret, 0);
	assert_true(filled_at(c->p, 0, c->kind->shared ? SEED_FORK : SEED));
	page_fill(c->p, 0, SEED);
	expect(c, DATA, DATA, GONE);
}

static const struct call calls[] = {
	{ "mprotect(PROT_READ)", UMM_EVENT_PROTECTION_VMA, run_read_only, check_read_only },
	{ "mprotect(PROT_NONE)", UMM_EVENT_PROTECTION_VMA, run_no_access, check_no_access },
	{ "munmap() of half", UMM_EVENT_UNMAP, run_unmap_half, check_unmap_half },
	{ "mremap()", UMM_EVENT_UNMAP, run_move, check_move },
	{ "mremap(DONTUNMAP)", UMM_EVENT_UNMAP, run_move_and_stay, check_move_and_stay },
	{ "madvise(DONTNEED)", UMM_EVENT_CLEAR, run_dontneed, check_dontneed },
	{ "madvise(FREE)", UMM_EVENT_CLEAR, run_free, check_free },
	{ "madvise(REMOVE)", UMM_EVENT_CLEAR, run_remove, check_remove },
	{ "madvise(COLLAPSE)", UMM_EVENT_CLEAR, run_collapse, check_same },
	{ "mlock()", UMM_NR_EVENTS, run_lock, check_lock },
	{ "fork()", UMM_NR_EVENTS, run_fork, check_fork },
};

/* As an interposer would. */
static void run_announced(void *arg)
{
	struct cell *c = arg;
	struct umm_notifier_range range = {
		.start = (uintptr_t)c->p,
		.end = (uintptr_t)c->p + cell_len(c),
		.event = c->call->event,
		.blockable = true,
	};
	struct umm_invalidation *invalidation = NULL;

	if (c->call->run == run_unmap_half)
		range.start += cell_len(c) / 2;
	if (range.event != UMM_NR_EVENTS)
		umm_invalidate_range_start(c->ctx, &range, &invalidation);
	c->ret = c->call->run(c);
	umm_invalidate_range_end(c->ctx, invalidation);
}

/* ---- what is there -------------------------------------------------------------------- */

static bool content_is(enum content want, const char *page, size_t i)
{
	switch (want) {
	case DATA:
		return page_filled(page, i, SEED);
	case ZERO:
		return page_zero(page);
	case DATA_OR_ZERO:
		return page_filled(page, i, SEED) || page_zero(page);
	case FILES:
		return page_filled(page, i, SEED_FILE);
	default:
		return page_filled(page, i, SEED_FILE) || page_zero(page);
	}
}

static void fail_cell(const struct cell *c, const char *who, size_t i)
{
	static const char *const phases[] = { "before", "during", "after" };

	fail_msg("%s, %s %s migration: page %zu is not what it should be for the %s", c->kind->name,
		 c->call->name, phases[c->phase], i, who);
}

/* Each page is a fault of its own to the device: of many it looks at some. */
static size_t step(const struct cell *c)
{
	return c->npages > PAGES ? 61 : 1;
}

static void device_check(struct cell *c, const char *base, size_t i, enum content want)
{
	char page[PAGE];
	int ret = ref_read(c->ref, (uintptr_t)base + i * PAGE, page, PAGE);

	if (want == GONE ? ret != -EFAULT : ret || !content_is(want, page, i))
		fail_cell(c, "device", i);
}

static void cpu_check(struct cell *c, const char *base, size_t i, enum content want)
{
	if (want == GONE ? touch_read(base + i * PAGE) != SIGSEGV :
			   !content_is(want, base + i * PAGE, i))
		fail_cell(c, "CPU", i);
}

static void check_pages(struct cell *c, const char *base, size_t first, size_t n, enum content want)
{
	for (size_t i = first; i < first + n; i += step(c))
		device_check(c, base, i, want);
	for (size_t i = first; i < first + n; i++)
		cpu_check(c, base, i, want);
}

/* The first page that is not where such memory is once it has been offered to the device, or n. */
static size_t first_astray(struct cell *c, char *base, size_t n)
{
	struct umm_page_info info[MOST_PAGES];
	enum umm_page_state home = c->kind->migrates ? env_home(c->env) : UMM_PAGE_MIRRORED;
	/* What is left of a huge page that a child has written to: docs/design.md, "known gaps". */
	bool parted = c->kind->npages == UMM_BLOCK_PAGES && c->call->run == run_fork;
	long ret = umm_migrate_to_device(c->ctx, c->ref->mem, base, n * PAGE);
	size_t i;

	assert_true(ret >= 0 && (c->kind->migrates || ret == 0));
	assert_int_equal(umm_query(c->ctx, (uintptr_t)base, n, info), 0);
	for (i = 0; i < n; i++)
		if (info[i].state != home && !(parted && info[i].state == UMM_PAGE_SYSTEM))
			break;
	return i;
}

static void check_home(struct cell *c, char *base, size_t n)
{
	uint64_t until = harness_now_ms() + PATIENCE_MS;
	size_t astray;

	/* What was freed, and may not be gone yet, stays where it is for a second. */
	do
		astray = first_astray(c, base, n);
	while (astray < n && c->call->run == run_free && harness_now_ms() < until);
	if (astray < n)
		fail_cell(c, "core", astray);
}

/* It is as good as new: what is written goes to the device and back. */
static void check_use(struct cell *c, char *base, size_t n)
{
	fill(base, n, SEED_LAST);
	check_home(c, base, n);
	for (size_t i = 0; i < n; i += step(c)) {
		char page[PAGE];

		assert_int_equal(ref_read(c->ref, (uintptr_t)base + i * PAGE, page, PAGE), 0);
		assert_true(page_filled(page, i, SEED_LAST));
	}
	assert_filled(base, n, SEED_LAST);
}

static void check_cell(struct cell *c)
{
	size_t half = c->npages / 2;

	c->call->check(c);
	/* The device may use an old entry until it has been told. */
	(void)umm_notifier_read_begin(umm_mirror_notifier(c->ref->mirror));
	check_pages(c, c->p, 0, half, c->low);
	check_pages(c, c->p, half, half, c->high);
	check_pages(c, c->q, 0, c->npages, c->moved);
	if (c->low != GONE)
		check_use(c, c->p, c->high == GONE ? half : c->npages);
	if (c->moved != GONE)
		check_use(c, c->q, c->npages);
}

/* ---- before, during, after ------------------------------------------------------------ */

static void offer(void *arg)
{
	struct cell *c = arg;

	umm_migrate_to_device(c->ctx, c->ref->mem, c->p, cell_len(c));
}

/* What does not migrate is only about to be looked at. */
static void run_during(struct cell *c)
{
	enum hook_point point = c->kind->migrates ? HOOK_COLLECTED : HOOK_CHOSEN;
	struct actor mover, caller;

	hook_arm(point, c->p, c->npages);
	actor_start(&mover, offer, c);
	assert_true(hook_stopped());
	actor_start(&caller, run_announced, c);
	actor_blocks(&caller);
	hook_go(point);
	actor_join(&caller);
	actor_join(&mover);
}

static void run_cell(struct cell *c)
{
	if (c->phase == AFTER) {
		check_pages(c, c->p, 0, c->npages, DATA);
		check_home(c, c->p, c->npages);
	}
	if (c->phase == DURING)
		run_during(c);
	else
		run_announced(c);
	check_cell(c);
}

static bool cell_begin(struct cell *c)
{
	c->fd = -1;
	c->npages = c->kind->npages;
	if (!c->kind->make(c)) {
		if (c->fd >= 0)
			close(c->fd);
		return false;
	}
	c->q = room(cell_len(c));
	fill(c->p, c->npages, SEED);
	return true;
}

static void run_call(struct cell *c)
{
	for (int phase = 0; phase < NR_PHASES; phase++) {
		c->phase = (enum phase)phase;
		if (!cell_begin(c)) {
			umm_ctx_put(c->ctx);
			ref_destroy(c->ref);
			env_skip("no %s here: %s", c->kind->name, strerror(errno));
		}
		run_cell(c);
		unmake(c);
	}
}

/* All cells of one kind. */
static void run_kind(struct env *e, const struct kind *kind)
{
	/* A prefetch that is late brings home what has just been migrated: none is. */
	struct umm_ctx_options options = { .size = sizeof(options),
					   .flags = UMM_CTX_WHOLE_PROCESS | e->variant.ctx_flags,
					   .kernel_features_off = e->variant.features_off,
					   .readahead = UMM_READAHEAD_OFF };
	struct ref_options device = { .nframes = 2 * MOST_PAGES,
				      .type = e->variant.type,
				      .policy = REF_IN_PLACE,
				      .inline_copy = e->variant.inline_copy };
	char stack[(PAGES + 1) * PAGE];
	struct cell c = { .env = e, .kind = kind };

	hook_init();
	if (!variant_has_syscalls(&e->variant))
		device.touch = touch_read;
	if (kind->make == make_stack)
		c.stack = stack;
	assert_int_equal(umm_ctx_create(&options, &c.ctx), 0);
	assert_int_equal(ref_create(c.ctx, &device, &c.ref), 0);
	for (size_t k = 0; k < sizeof(calls) / sizeof(calls[0]); k++) {
		c.call = &calls[k];
		/* A stack that is run on is not taken apart: the kernel grows it over holes. */
		if (c.stack && (c.call->run == run_unmap_half || c.call->run == run_move))
			continue;
		run_call(&c);
	}
	assert_free_frames(c.ref, device.nframes);
	umm_ctx_put(c.ctx);
	assert_true(ref_destroy(c.ref));
}

#define KIND(fn, ...)                                                 \
	static void fn(struct env *e)                                 \
	{                                                             \
		static const struct kind kind = { #fn, __VA_ARGS__ }; \
		run_kind(e, &kind);                                   \
	}

KIND(heap, make_heap, PAGES, .migrates = true)
KIND(stack, make_stack, PAGES, .migrates = true)
KIND(private_anonymous, make_anon, PAGES, .migrates = true)
KIND(transparent_huge_page, make_huge, UMM_BLOCK_PAGES, .migrates = true)
KIND(private_file, make_private_file, PAGES, .migrates = true, .file = true)
KIND(shared_anonymous, make_shared, PAGES, .shared = true)
KIND(shared_file, make_shared_file, PAGES, .shared = true)
KIND(tmpfs, make_tmpfs, PAGES, .shared = true)
KIND(hugetlb, make_hugetlb, MOST_PAGES, .hugetlb = true)
KIND(dax_like, make_dax_like, MOST_PAGES, .hugetlb = true, .shared = true)

static const struct test_case cases[] = {
	TEST(KERNEL, heap),
	TEST(COHERENT_ONCE, heap),
	TEST(KERNEL, stack),
	TEST(COHERENT_ONCE, stack),
	TEST(KERNEL, private_anonymous),
	TEST(COHERENT_ONCE, private_anonymous),
	TEST(KERNEL, transparent_huge_page),
	TEST(COHERENT_ONCE, transparent_huge_page),
	TEST(KERNEL, private_file),
	TEST(COHERENT_ONCE, private_file),
	TEST(KERNEL, shared_anonymous),
	TEST(COHERENT_ONCE, shared_anonymous),
	TEST(KERNEL, shared_file),
	TEST(COHERENT_ONCE, shared_file),
	TEST(KERNEL, tmpfs),
	TEST(COHERENT_ONCE, tmpfs),
	TEST(KERNEL, hugetlb),
	TEST(COHERENT_ONCE, hugetlb),
	TEST(KERNEL, dax_like),
	TEST(COHERENT_ONCE, dax_like),
};

/* How many huge pages may be had beyond those reserved, where that may be said; how many before. */
static long allow_huge_pages(long n)
{
	FILE *file = fopen("/proc/sys/vm/nr_overcommit_hugepages", "r+");
	long had = 0;

	if (!file)
		return 0;
	if (fscanf(file, "%ld", &had) == 1) {
		rewind(file);
		fprintf(file, "%ld", n);
	}
	fclose(file);
	return had;
}

int main(int argc, char **argv)
{
	long had = allow_huge_pages(16);
	int ret = harness_main("test_any_memory", cases, sizeof(cases) / sizeof(cases[0]), argc,
			       argv);

	allow_huge_pages(had);
	return ret;
}
