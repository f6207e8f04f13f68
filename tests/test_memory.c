/* SPDX-License-Identifier: MIT */
/*
 * Any memory of the process: files, shared memory, huge pages of hugetlb are mirrored where
 * they are; contexts of the whole process need no umm_attach(); what the kernel does not
 * announce, an interposer does.
 */
#include "harness.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/if_packet.h>
#include <linux/mman.h>
#include <linux/perf_event.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "ctx.h"

#define PAGES 16
#define LEN   (PAGES * PAGE)

/* ---- kinds of memory that do not migrate -------------------------------------------- */

enum kind {
	KIND_SHARED_ANON,
	KIND_SHARED_FILE,
	KIND_PRIVATE_FILE,
	KIND_TMPFS,
	KIND_HUGETLB,
	NR_KINDS,
};

struct kept {
	enum kind kind;
	char *p;
	size_t len;
	int fd; /* -1: none */
};

static int file_open(enum kind kind)
{
	int fd = kind == KIND_TMPFS ? memfd_create("umm-test", MFD_CLOEXEC) :
				      open("/tmp", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);

	if (fd >= 0 && ftruncate(fd, (off_t)LEN)) {
		close(fd);
		fd = -1;
	}
	return fd;
}

/* False: this machine has none. */
static bool kept_make(struct kept *k, enum kind kind)
{
	bool file = kind == KIND_SHARED_FILE || kind == KIND_PRIVATE_FILE || kind == KIND_TMPFS;
	int flags = kind == KIND_PRIVATE_FILE || kind == KIND_HUGETLB ? MAP_PRIVATE : MAP_SHARED;

	*k = (struct kept){ .kind = kind, .len = kind == KIND_HUGETLB ? BLOCK : LEN, .fd = -1 };
	if (file) {
		k->fd = file_open(kind);
		if (k->fd < 0)
			return false;
	} else {
		flags |= MAP_ANONYMOUS | (kind == KIND_HUGETLB ? MAP_HUGETLB : 0);
	}
	k->p = mmap(NULL, k->len, PROT_READ | PROT_WRITE, flags, k->fd, 0);
	if (k->p == MAP_FAILED && k->fd >= 0)
		close(k->fd);
	return k->p != MAP_FAILED;
}

static void kept_end(struct kept *k)
{
	munmap(k->p, k->len);
	if (k->fd >= 0)
		close(k->fd);
}

/* Once for each kind. */
static void for_each_kind(struct env *e, void (*fn)(struct env *e, struct kept *k))
{
	struct kept k;

	for (int kind = 0; kind < NR_KINDS; kind++) {
		if (!kept_make(&k, (enum kind)kind)) {
			printf("without kind %d: %s\n", kind, strerror(errno));
			continue;
		}
		assert_int_equal(umm_attach(e->ctx, k.p, k.len), 0);
		fn(e, &k);
		kept_end(&k);
	}
}

static void shares_with_the_device(struct env *e, struct kept *k)
{
	struct ref_device *ref = env_device(e, 64);

	fill(k->p, PAGES, 1);
	assert_device_sees(ref, k->p, PAGES, 1);
	device_fill(ref, k->p, PAGES, 2);
	assert_filled(k->p, PAGES, 2);
	fill(k->p, PAGES, 3);
	assert_device_sees(ref, k->p, PAGES, 3);
	if (k->kind != KIND_PRIVATE_FILE) /* written pages of which are the program's */
		assert_state(e, k->p, PAGES, UMM_PAGE_MIRRORED);
	env_device_gone(e, ref);
	assert_int_equal(umm_detach(e->ctx, k->p), 0);
	assert_filled(k->p, PAGES, 3);
}

static void any_memory_is_shared_with_the_device(struct env *e)
{
	for_each_kind(e, shares_with_the_device);
}

static void stays(struct env *e, struct kept *k)
{
	struct ref_device *ref = env_device(e, 64);

	/* Of a private file what was written migrates: test_private_files.c */
	if (k->kind != KIND_PRIVATE_FILE)
		fill(k->p, PAGES, 1);
	assert_int_equal(migrate(e, ref, k->p, PAGES, 0), 0);
	assert_int_equal(migrate(e, ref, k->p, PAGES, UMM_MIGRATE_DUPLICATE), 0);
	assert_int_equal(umm_migrate_to_system(e->ctx, k->p, LEN), 0);
	assert_free_frames(ref, 64);
	if (k->kind != KIND_PRIVATE_FILE)
		assert_filled(k->p, PAGES, 1);
	env_device_gone(e, ref);
	assert_int_equal(umm_detach(e->ctx, k->p), 0);
}

static void files_and_shared_memory_do_not_migrate(struct env *e)
{
	for_each_kind(e, stays);
}

static void device_writes_reach_the_file(struct env *e)
{
	struct ref_device *ref = env_device(e, 64);
	char page[PAGE];
	struct kept k;

	if (!kept_make(&k, KIND_SHARED_FILE))
		env_skip("no file in /tmp: %s", strerror(errno));
	assert_int_equal(umm_attach(e->ctx, k.p, k.len), 0);
	device_fill(ref, k.p, PAGES, 4);
	for (size_t i = 0; i < PAGES; i++) {
		assert_int_equal(pread(k.fd, page, PAGE, (off_t)(i * PAGE)), PAGE);
		assert_true(page_filled(page, i, 4));
	}
	assert_int_equal(umm_detach(e->ctx, k.p), 0);
	kept_end(&k);
}

/* By the kernel where it can watch files, else by whoever interposes munmap(). */
static void unmap_announced(struct env *e, char *p, size_t len)
{
	struct umm_notifier_range range = {
		.start = (uintptr_t)p,
		.end = (uintptr_t)p + len,
		.event = UMM_EVENT_UNMAP,
		.blockable = true,
	};
	struct umm_invalidation *invalidation = NULL;
	bool watched = e->ctx->features & UMM_KERNEL_PAGEMAP_SCAN;

	if (!watched)
		assert_int_equal(umm_invalidate_range_start(e->ctx, &range, &invalidation), 0);
	assert_int_equal(munmap(p, len), 0);
	umm_invalidate_range_end(e->ctx, invalidation);
}

static void is_followed(struct env *e, struct kept *k)
{
	struct ref_device *ref = env_device(e, 64);
	size_t half = k->len / 2;
	char byte;

	fill(k->p, PAGES, 1);
	assert_device_sees(ref, k->p, PAGES, 1);
	assert_true(ref_entry(ref, (uintptr_t)k->p) & UMM_ENTRY_VALID);
	if (k->kind == KIND_HUGETLB)
		half = k->len;
	unmap_announced(e, k->p + k->len - half, half);
	assert_int_equal(ref_read(ref, (uintptr_t)k->p + k->len - PAGE, &byte, 1), -EFAULT);
	assert_int_equal(ref_entry(ref, (uintptr_t)k->p + k->len - PAGE), 0);
	if (half < k->len)
		assert_device_sees(ref, k->p, PAGES / 2, 1);
	assert_state(e, k->p + k->len - PAGE, 1, UMM_PAGE_UNMANAGED);
	env_device_gone(e, ref);
	umm_detach(e->ctx, k->p);
}

static void unmapping_any_memory_is_followed(struct env *e)
{
	struct umm_probe_info info = { .size = sizeof(info) };

	assert_int_equal(umm_probe(&info), 0);
	if (!(info.kernel_features & UMM_KERNEL_PAGEMAP_SCAN))
		env_skip("this kernel cannot watch files (6.7)");
	for_each_kind(e, is_followed);
}

/* Where a mapping of that name is; NULL: there is none. */
static char *special_mapping(const char *name)
{
	unsigned long start = 0, end;
	char line[256];
	FILE *maps = fopen("/proc/self/maps", "r");

	assert_non_null(maps);
	while (!start && fgets(line, sizeof(line), maps))
		if (strstr(line, name))
			assert_int_equal(sscanf(line, "%lx-%lx", &start, &end), 2);
	fclose(maps);
	return (char *)start;
}

static void assert_does_not_migrate(struct env *e, struct ref_device *ref, const char *p)
{
	uint64_t src, dst, entry;
	struct umm_migrate migrate = {
		.size = sizeof(migrate),
		.ctx = e->ctx,
		.start = (uintptr_t)p,
		.end = (uintptr_t)p + PAGE,
		.flags = UMM_MIGRATE_SELECT_SYSTEM,
		.src = &src,
		.dst = &dst,
		.dst_mem = ref->mem,
	};

	assert_int_equal(umm_migrate_setup(&migrate), -EINVAL);
	assert_int_equal(umm_migrate_to_device(e->ctx, ref->mem, (void *)(uintptr_t)p, PAGE),
			 -EINVAL);
	assert_int_equal(umm_migrate_to_system(e->ctx, (void *)(uintptr_t)p, PAGE), -EINVAL);
	assert_int_equal(umm_make_exclusive(ref->dev, (uintptr_t)p, (uintptr_t)p + PAGE, &entry),
			 -EINVAL);
}

/* Neither attached, nor looked at, faulted, pinned or migrated by a device. */
static void assert_refused(struct env *e, struct ref_device *ref, const char *p)
{
	struct umm_range range = {
		.size = sizeof(range),
		.notifier = umm_mirror_notifier(ref->mirror),
		.start = (uintptr_t)p,
		.end = (uintptr_t)p + PAGE,
		.default_flags = UMM_ENTRY_REQ_FAULT,
	};
	uint64_t entry;
	struct umm_pin *pin;

	assert_int_equal(umm_attach(e->ctx, (void *)(uintptr_t)p, PAGE), -EINVAL);
	range.entries = &entry;
	range.seq = umm_notifier_read_begin(range.notifier);
	assert_int_equal(umm_range_fault(&range, 0), -EINVAL);
	assert_int_equal(umm_range_snapshot(&range), -EINVAL);
	/* As a part of more it is refused, too. */
	range.start -= PAGE;
	range.entries = (uint64_t[]){ 0, 0 };
	assert_int_equal(umm_range_snapshot(&range), -EINVAL);
	assert_int_equal(umm_pin(e->ctx, (uintptr_t)p, 1, 0, &pin), -EINVAL);
	assert_does_not_migrate(e, ref, p);
}

static void special_mappings_are_refused(struct env *e)
{
	static const char *const names[] = { "[vdso]", "[vvar]" };
	struct ref_device *ref = env_device(e, 8);
	unsigned found = 0;

	for (unsigned i = 0; i < 2; i++) {
		const char *p = special_mapping(names[i]);

		if (p)
			assert_refused(e, ref, p);
		found += p != NULL;
	}
	if (!found)
		env_skip("this process has neither [vdso] nor [vvar]");
}

/* Packets that the kernel writes where a socket's owner has mapped them. */
static void socket_buffers_are_refused(struct env *e)
{
	struct tpacket_req ring = {
		.tp_block_size = PAGE, .tp_block_nr = 1, .tp_frame_size = PAGE, .tp_frame_nr = 1
	};
	struct ref_device *ref = env_device(e, 8);
	int fd = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, 0);
	char *p;

	if (fd < 0)
		env_skip("no packet socket: %s", strerror(errno));
	assert_int_equal(setsockopt(fd, SOL_PACKET, PACKET_RX_RING, &ring, sizeof(ring)), 0);
	p = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	assert_ptr_not_equal(p, MAP_FAILED);
	assert_refused(e, ref, p);
	munmap(p, PAGE);
	close(fd);
}

/* What lies behind a hole says nothing of it, whoever asks. */
static void hole_below_a_special_mapping_is_a_hole(struct env *e)
{
	struct tpacket_req ring = {
		.tp_block_size = PAGE, .tp_block_nr = 1, .tp_frame_size = PAGE, .tp_frame_nr = 1
	};
	struct ref_device *ref = env_device(e, 8);
	int fd = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, 0);
	char *p = env_map(e, 2 * PAGE);
	uint64_t entry;
	struct umm_range range = {
		.size = sizeof(range),
		.notifier = umm_mirror_notifier(ref->mirror),
		.start = (uintptr_t)p,
		.end = (uintptr_t)p + PAGE,
		.entries = &entry,
		.default_flags = UMM_ENTRY_REQ_FAULT,
	};
	struct umm_pin *pin;

	if (fd < 0)
		env_skip("no packet socket: %s", strerror(errno));
	assert_int_equal(setsockopt(fd, SOL_PACKET, PACKET_RX_RING, &ring, sizeof(ring)), 0);
	assert_ptr_equal(mmap(p + PAGE, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, fd,
			      0),
			 p + PAGE);
	env_unmap(e, p, PAGE);
	range.seq = umm_notifier_read_begin(range.notifier);
	assert_int_equal(umm_range_snapshot(&range), 0);
	assert_int_equal(entry, UMM_ENTRY_ERROR);
	assert_int_equal(umm_range_fault(&range, 0), -EFAULT);
	assert_int_equal(umm_attach(e->ctx, p, PAGE), -EFAULT);
	assert_int_equal(umm_pin(e->ctx, (uintptr_t)p, 1, 0, &pin), -EFAULT);
	assert_int_equal(umm_migrate_to_device(e->ctx, ref->mem, p, PAGE), -EFAULT);
	assert_int_equal(umm_make_exclusive(ref->dev, (uintptr_t)p, (uintptr_t)p + PAGE, &entry),
			 -EFAULT);
	close(fd);
}

static void device_memory_is_refused(struct env *e)
{
	struct perf_event_attr attr = {
		.type = PERF_TYPE_SOFTWARE,
		.size = sizeof(attr),
		.config = PERF_COUNT_SW_DUMMY,
		.exclude_kernel = 1,
		.exclude_hv = 1,
	};
	struct ref_device *ref = env_device(e, 8);
	int fd = (int)syscall(SYS_perf_event_open, &attr, 0, -1, -1, PERF_FLAG_FD_CLOEXEC);
	char *p;

	if (fd < 0)
		env_skip("no perf event: %s", strerror(errno));
	/* A ring buffer that the kernel writes to. */
	p = mmap(NULL, 2 * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	assert_ptr_not_equal(p, MAP_FAILED);
	assert_refused(e, ref, p);
	munmap(p, 2 * PAGE);
	close(fd);
}

/* ---- contexts of the whole process -------------------------------------------------- */

/* The test's context, replaced by one of the whole process. */
static struct ref_device *whole_process(struct env *e, struct umm_ctx **ctx)
{
	struct umm_ctx_options options = { .size = sizeof(options),
					   .flags = UMM_CTX_WHOLE_PROCESS | e->variant.ctx_flags,
					   .kernel_features_off = e->variant.features_off };
	struct ref_options device = { .nframes = 64,
				      .type = e->variant.type,
				      .inline_copy = e->variant.inline_copy };
	struct ref_device *ref;

	if (!variant_has_syscalls(&e->variant))
		device.touch = touch_read;
	assert_int_equal(umm_ctx_create(&options, ctx), 0);
	assert_int_equal(ref_create(*ctx, &device, &ref), 0);
	return ref;
}

static void whole_process_end(struct umm_ctx *ctx, struct ref_device *ref)
{
	umm_ctx_put(ctx);
	assert_true(ref_destroy(ref));
}

static void heap_and_stack_need_no_attach(struct env *e)
{
	char stack[4 * PAGE], *heap = malloc(LEN), *page;
	struct umm_ctx *ctx;
	struct ref_device *ref = whole_process(e, &ctx);

	page = (char *)(((uintptr_t)stack + PAGE - 1) & ~(PAGE - 1));
	page_fill(page, 0, 1);
	assert_device_sees(ref, page, 1, 1);
	device_fill(ref, page, 1, 2);
	assert_true(page_filled(page, 0, 2));
	page = (char *)(((uintptr_t)heap + PAGE - 1) & ~(PAGE - 1));
	fill(page, PAGES - 1, 3);
	assert_int_equal(umm_migrate_to_device(ctx, ref->mem, page, LEN - PAGE), PAGES - 1);
	assert_filled(page, PAGES - 1, 3);
	whole_process_end(ctx, ref);
	assert_filled(page, PAGES - 1, 3);
	free(heap);
}

static void memory_mapped_again_is_managed_again(struct env *e)
{
	char *p = env_map(e, LEN);
	struct umm_ctx *ctx;
	struct ref_device *ref = whole_process(e, &ctx);

	for (unsigned round = 0; round < 3; round++) {
		fill(p, PAGES, round);
		assert_int_equal(umm_migrate_to_device(ctx, ref->mem, p, LEN), PAGES);
		assert_device_sees(ref, p, PAGES, round);
		assert_ptr_equal(mmap(p, LEN, PROT_READ | PROT_WRITE,
				      MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0),
				 p);
		assert_zero(p, PAGES);
	}
	whole_process_end(ctx, ref);
}

static void holes_stay_errors(struct env *e)
{
	char *p = env_map(e, LEN), byte;
	struct umm_ctx *ctx;
	struct ref_device *ref = whole_process(e, &ctx);

	env_unmap(e, p + 2 * PAGE, PAGE);
	fill(p, 2, 1);
	assert_int_equal(ref_read(ref, (uintptr_t)p + 2 * PAGE, &byte, 1), -EFAULT);
	assert_device_sees(ref, p, 2, 1);
	whole_process_end(ctx, ref);
}

static void what_another_context_manages_is_left_to_it(struct env *e)
{
	char *p = env_alloc(e, LEN), byte;
	struct umm_ctx *ctx;
	struct ref_device *ref = whole_process(e, &ctx);

	fill(p, PAGES, 1);
	assert_int_equal(umm_migrate_to_device(ctx, ref->mem, p, LEN), -EFAULT);
	assert_int_equal(ref_read(ref, (uintptr_t)p, &byte, 1), -EFAULT);
	whole_process_end(ctx, ref);
	assert_filled(p, PAGES, 1);
}

/* ---- what the page map says --------------------------------------------------------- */

static long look(struct ref_device *ref, const void *addr, size_t npages, uint64_t *entries)
{
	struct umm_range range = { .size = sizeof(range),
				   .flags = UMM_RANGE_PAGEMAP,
				   .start = (uintptr_t)addr,
				   .end = (uintptr_t)addr + npages * PAGE,
				   .entries = entries,
				   .owner = ref->dev,
				   .notifier = umm_mirror_notifier(ref->mirror) };

	range.seq = umm_notifier_read_begin(range.notifier);
	return umm_range_snapshot(&range);
}

#define BITS(entry) \
	((entry) & (UMM_ENTRY_VALID | UMM_ENTRY_WRITE | UMM_ENTRY_ZERO | UMM_ENTRY_ERROR))

static void page_map_tells_zero_page_from_others(struct env *e)
{
	struct ref_device *ref = env_device(e, 64);
	char *p = env_alloc_small(e, 4 * PAGE);
	uint64_t entry[4];

	assert_zero(p + PAGE, 1);
	page_fill(p + 2 * PAGE, 2, 1);
	assert_int_equal(mprotect(p + 3 * PAGE, PAGE, PROT_NONE), 0);
	assert_int_equal(look(ref, p, 4, entry), 2);
	assert_int_equal(BITS(entry[0]), 0);
	if (e->ctx->features & UMM_KERNEL_PAGEMAP_SCAN || geteuid() == 0)
		assert_int_equal(BITS(entry[1]),
				 UMM_ENTRY_VALID | (kernel_has_zero_page() ? UMM_ENTRY_ZERO :
									     UMM_ENTRY_WRITE));
	assert_int_equal(BITS(entry[2]), UMM_ENTRY_VALID | UMM_ENTRY_WRITE);
	assert_int_equal(BITS(entry[3]), UMM_ENTRY_ERROR);
	p[PAGE] = 1;
	assert_int_equal(look(ref, p, 4, entry), 2);
	assert_int_equal(BITS(entry[1]), UMM_ENTRY_VALID | UMM_ENTRY_WRITE);
}

static void private_file_is_writable_once_written(struct env *e)
{
	struct ref_device *ref = env_device(e, 64);
	uint64_t entry[2];
	struct kept k;

	if (!kept_make(&k, KIND_PRIVATE_FILE))
		env_skip("no file in /tmp: %s", strerror(errno));
	assert_int_equal(umm_attach(e->ctx, k.p, k.len), 0);
	assert_int_equal(look(ref, k.p, 2, entry), 0);
	(void)touch_read(k.p);
	k.p[PAGE] = 1;
	assert_int_equal(look(ref, k.p, 2, entry), 2);
	assert_int_equal(BITS(entry[0]), UMM_ENTRY_VALID);
	assert_int_equal(BITS(entry[1]), UMM_ENTRY_VALID | UMM_ENTRY_WRITE);
	assert_int_equal(umm_detach(e->ctx, k.p), 0);
	kept_end(&k);
}

/* ---- huge pages --------------------------------------------------------------------- */

#define GIGABYTE     ((size_t)1 << 30)
#define GIGABYTES_NR "/sys/kernel/mm/hugepages/hugepages-1048576kB/nr_hugepages"

/* Have so many huge pages of 1 GiB, where that may be said; how many there were. */
static int reserve_gigabytes(int n)
{
	int had = 0;
	FILE *file = fopen(GIGABYTES_NR, "r+");

	if (!file)
		return 0;
	if (fscanf(file, "%d", &had) == 1) {
		rewind(file);
		fprintf(file, "%d", n);
	}
	fclose(file);
	return had;
}

static void gigabyte_pages_report_their_order(struct env *e)
{
	int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_HUGETLB | MAP_HUGE_1GB;
	struct ref_device *ref = env_device(e, 8);
	uint64_t entry[2];
	int had = reserve_gigabytes(1);
	char *p = mmap(NULL, GIGABYTE, PROT_READ | PROT_WRITE, flags, -1, 0);

	if (p == MAP_FAILED) {
		reserve_gigabytes(had);
		env_skip("no huge page of 1 GiB is to be had");
	}
	p[0] = 1;
	assert_int_equal(umm_attach(e->ctx, p, GIGABYTE), 0);
	for (size_t at = 0; at < GIGABYTE; at += GIGABYTE / 2) {
		assert_int_equal(look(ref, p + at, 2, entry), 2);
		assert_int_equal(UMM_ENTRY_ORDER(entry[0]), 18);
		assert_int_equal(UMM_ENTRY_ORDER(entry[1]), 18);
		assert_int_equal(BITS(entry[0]), UMM_ENTRY_VALID | UMM_ENTRY_WRITE);
	}
	assert_int_equal(umm_detach(e->ctx, p), 0);
	munmap(p, GIGABYTE);
	reserve_gigabytes(had);
}

/* ---- announced changes -------------------------------------------------------------- */

struct reader {
	struct umm_notifier *notifier;
	uint64_t seq;
};

static void read_begin(void *arg)
{
	struct reader *r = arg;

	r->seq = umm_notifier_read_begin(r->notifier);
}

static void announced_change_holds_readers_until_it_has_happened(struct env *e)
{
	struct ref_device *ref = env_device(e, 64);
	char *p = env_alloc_small(e, LEN);
	struct umm_notifier_range range = { .start = (uintptr_t)p,
					    .end = (uintptr_t)p + LEN,
					    .event = UMM_EVENT_PROTECTION_VMA,
					    .blockable = true };
	struct umm_range whole = { .size = sizeof(whole) };
	struct umm_invalidation *invalidation;
	struct reader reader = { .notifier = umm_mirror_notifier(ref->mirror) };
	struct actor actor;
	char byte = 1;

	fill(p, PAGES, 1);
	assert_device_sees(ref, p, PAGES, 1);
	whole.notifier = reader.notifier;
	assert_int_equal(umm_range_wait_until_valid(&whole, 0), 0);
	assert_int_equal(umm_invalidate_range_start(e->ctx, &range, &invalidation), 0);
	assert_int_equal(ref_entry(ref, (uintptr_t)p), 0);
	assert_int_equal(umm_range_wait_until_valid(&whole, 1), -ETIME);
	actor_start(&actor, read_begin, &reader);
	assert_true(actor_blocks(&actor));
	assert_int_equal(mprotect(p, LEN, PROT_READ), 0);
	umm_invalidate_range_end(e->ctx, invalidation);
	actor_join(&actor);
	assert_false(umm_notifier_read_retry(reader.notifier, reader.seq));
	assert_int_equal(umm_range_wait_until_valid(&whole, 0), 0);
	assert_int_equal(ref_write(ref, (uintptr_t)p, &byte, 1), -EPERM);
	assert_device_sees(ref, p, PAGES, 1);
	assert_int_equal(mprotect(p, LEN, PROT_READ | PROT_WRITE), 0);
}

static void nonsense_is_not_announced(struct env *e)
{
	struct umm_notifier_range range = { .start = PAGE, .end = 2 * PAGE, .blockable = true };
	struct umm_range whole = { .size = sizeof(whole) };
	struct umm_invalidation *invalidation;

	assert_int_equal(umm_invalidate_range_start(e->ctx, NULL, &invalidation), -EINVAL);
	assert_int_equal(umm_invalidate_range_start(e->ctx, &range, NULL), -EINVAL);
	range.blockable = false;
	assert_int_equal(umm_invalidate_range_start(e->ctx, &range, &invalidation), -EINVAL);
	range.blockable = true;
	range.end = 2 * PAGE - 1;
	assert_int_equal(umm_invalidate_range_start(e->ctx, &range, &invalidation), -EINVAL);
	range.end = 2 * PAGE;
	range.start = PAGE - 1;
	assert_int_equal(umm_invalidate_range_start(e->ctx, &range, &invalidation), -EINVAL);
	range.start = range.end = PAGE;
	assert_int_equal(umm_invalidate_range_start(e->ctx, &range, &invalidation), -EINVAL);
	umm_invalidate_range_end(e->ctx, NULL);
	assert_int_equal(umm_range_wait_until_valid(&whole, 0), -EINVAL);
	assert_int_equal(umm_range_wait_until_valid(NULL, 0), -EINVAL);
}

/* A thread whose stack is managed memory. */
struct runner {
	struct env *env;
	struct ref_device *ref;
	char *stack;
	long moved, spans_moved;
	int setup, exclusive, evicted;
	bool wrong;
};

#define STACK_LEN ((size_t)1 << 20)

static void *stack_runner(void *arg)
{
	struct runner *r = arg;
	char local[2 * PAGE];
	struct umm_span spans[2] = { { (uintptr_t)r->stack, STACK_LEN / 2 },
				     { (uintptr_t)r->stack + STACK_LEN / 2, STACK_LEN / 2 } };
	struct umm_migrate_request req = {
		.size = sizeof(req), .spans = spans, .nspans = 2, .dst = r->ref->mem
	};
	uint64_t mpfn[2], entry;
	struct umm_migrate m = {
		.size = sizeof(m),
		.flags = UMM_MIGRATE_SELECT_SYSTEM,
		.ctx = r->env->ctx,
		.start = (uintptr_t)local & ~(PAGE - 1),
		.end = ((uintptr_t)local & ~(PAGE - 1)) + PAGE,
		.dst_mem = r->ref->mem,
		.src = &mpfn[0],
		.dst = &mpfn[1],
	};

	memset(local, 7, sizeof(local));
	r->moved = umm_migrate_to_device(r->env->ctx, r->ref->mem, r->stack, STACK_LEN);
	for (size_t i = 0; i < sizeof(local); i++)
		r->wrong |= local[i] != 7;
	r->spans_moved = umm_migrate_spans(r->env->ctx, &req, NULL);
	for (size_t i = 0; i < sizeof(local); i++)
		r->wrong |= local[i] != 7;
	r->setup = umm_migrate_setup(&m);
	r->exclusive = (int)umm_make_exclusive(r->ref->dev, m.start, m.end, &entry);
	r->wrong |= umm_bring_home(r->env->ctx) < 0;
	return NULL;
}

static void run_on_stack(struct runner *r, void *(*fn)(void *))
{
	pthread_attr_t attr;
	pthread_t thread;

	if (!variant_has_syscalls(&r->env->variant))
		env_skip("the kernel itself writes to a thread's stack (rseq)");
	pthread_attr_init(&attr);
	assert_int_equal(pthread_attr_setstack(&attr, r->stack, STACK_LEN), 0);
	assert_int_equal(pthread_create(&thread, &attr, fn, r), 0);
	pthread_join(thread, NULL);
	pthread_attr_destroy(&attr);
}

static void *stack_destroyer(void *arg)
{
	struct runner *r = arg;
	char local[2 * PAGE];

	memset(local, 7, sizeof(local));
	r->moved = umm_migrate_to_device(r->env->ctx, r->ref->mem, r->stack, STACK_LEN);
	umm_device_destroy(r->ref->dev);
	for (size_t i = 0; i < sizeof(local); i++)
		r->wrong |= local[i] != 7;
	return NULL;
}

static void *stack_evictor(void *arg)
{
	struct runner *r = arg;
	char local[2 * PAGE];

	memset(local, 7, sizeof(local));
	r->moved = umm_migrate_to_device(r->env->ctx, r->ref->mem, r->stack, STACK_LEN);
	r->evicted = umm_devmem_evict(r->ref->mem, 1024);
	for (size_t i = 0; i < sizeof(local); i++)
		r->wrong |= local[i] != 7;
	return NULL;
}

static void thread_does_not_evict_the_stack_that_it_runs_on(struct env *e)
{
	struct ref_device *ref = env_device(e, 1024);
	struct runner r = { .env = e, .ref = ref, .stack = env_attach(e, STACK_LEN) };
	char *p = env_alloc(e, BLOCK);

	fill(p, 64, 1);
	to_device(e, ref, p, 64, 64);
	run_on_stack(&r, stack_evictor);
	assert_true(r.moved > 0);
	assert_int_equal(r.evicted, -ENOSPC);
	assert_false(r.wrong);
	assert_int_equal(count_state(e, p, 64, UMM_PAGE_COHERENT), 0);
	assert_filled(p, 64, 1);
}

static void thread_destroys_the_device_that_its_stack_is_on(struct env *e)
{
	struct ref_device *ref = env_device(e, 1024);
	struct runner r = { .env = e, .ref = ref, .stack = env_attach(e, STACK_LEN) };

	run_on_stack(&r, stack_destroyer);
	assert_true(r.moved > 0);
	assert_false(r.wrong);
	assert_int_equal(count_state(e, r.stack, STACK_LEN / PAGE, UMM_PAGE_COHERENT), 0);
}

static void thread_migrates_the_stack_that_it_runs_on(struct env *e)
{
	struct ref_device *ref = env_device(e, 1024);
	struct runner r = { .env = e, .ref = ref, .stack = env_attach(e, STACK_LEN) };

	run_on_stack(&r, stack_runner);
	assert_true(r.moved > 0);
	assert_true(r.spans_moved >= 0);
	assert_false(r.wrong);
	/* What cannot be done for a thread by itself. */
	assert_int_equal(r.setup, -EDEADLK);
	assert_int_equal(r.exclusive, -EDEADLK);
}

static const struct test_case cases[] = {
	TEST(SYSCALLS, thread_migrates_the_stack_that_it_runs_on),
	TEST(COHERENT, thread_destroys_the_device_that_its_stack_is_on),
	TEST(COHERENT, thread_does_not_evict_the_stack_that_it_runs_on),
	TEST(ALL, any_memory_is_shared_with_the_device),
	TEST(ALL, files_and_shared_memory_do_not_migrate),
	TEST(KERNEL, device_writes_reach_the_file),
	TEST(ALL, unmapping_any_memory_is_followed),
	TEST(KERNEL, special_mappings_are_refused),
	TEST(KERNEL, hole_below_a_special_mapping_is_a_hole),
	TEST(KERNEL, socket_buffers_are_refused),
	TEST(KERNEL, gigabyte_pages_report_their_order),
	TEST(KERNEL, device_memory_is_refused),
	TEST(ALL, heap_and_stack_need_no_attach),
	TEST(ALL, memory_mapped_again_is_managed_again),
	TEST(KERNEL, holes_stay_errors),
	TEST(KERNEL, what_another_context_manages_is_left_to_it),
	TEST(KERNEL, page_map_tells_zero_page_from_others),
	TEST(KERNEL, private_file_is_writable_once_written),
	TEST(ALL, announced_change_holds_readers_until_it_has_happened),
	TEST(ONCE, nonsense_is_not_announced),
};

int main(int argc, char **argv)
{
	return harness_main("test_memory", cases, sizeof(cases) / sizeof(cases[0]), argc, argv);
}
