/* SPDX-License-Identifier: MIT */
/*
 * Which pages of this process are populated.
 *
 * Upper rung: the PAGEMAP_SCAN ioctl, which lists runs of populated pages and so costs
 * little where a huge page or nothing is. Lower rung: /proc/self/pagemap, a word a
 * page. On both, whatever occupies the page table without being present counts as
 * swapped out: swap entries, but also the markers of poisoned and guarded pages.
 *
 * The file belongs to root in a process that is not dumpable, for instance after setresuid(). What
 * was opened before is kept and goes on working. Where it cannot be opened, every page counts as
 * populated: whoever moves one that is not finds out, and takes it for zeroes. (mincore() is no
 * rung: to it, a page that is swapped out is not there.)
 *
 * Locks: none. Memory: the stack only, at most 4 KiB of it.
 */
#include "pagemap.h"

#include <errno.h>
#include <stdatomic.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "procfd.h"
#include "signals.h"
#include "uapi.h"
#include "umm.h"
#include "util.h"

#define PAGEMAP_PATH	"/proc/self/pagemap"
#define PAGEMAP_PRESENT ((uint64_t)1 << 63)
#define PAGEMAP_SWAPPED ((uint64_t)1 << 62)
#define PAGEMAP_FILE	((uint64_t)1 << 61)
#define PAGEMAP_FRAME	(((uint64_t)1 << 55) - 1)
#define PAGEMAP_MAX	512
/* As many runs as one call returns; more of them take more calls. */
#define SCAN_REGIONS 64

static procfd_cache cached_fd;

static void bitmap_set(uint64_t *bitmap, size_t first, size_t end)
{
	for (size_t i = first; i < end; i++)
		bitmap[i / 64] |= (uint64_t)1 << i % 64;
}

static void bitmap_clear(uint64_t *bitmap, size_t npages)
{
	memset(bitmap, 0, (npages + 63) / 64 * sizeof(*bitmap));
}

static int scan_some(int fd, struct pm_scan_arg *arg, struct page_region *regions)
{
	int ret;

	arg->vec = (uintptr_t)regions;
	arg->vec_len = SCAN_REGIONS;
	do {
		ret = ioctl(fd, PAGEMAP_SCAN, arg);
	} while (ret < 0 && errno == EINTR);
	if (ret < 0)
		return errno == ENOTTY ? -EOPNOTSUPP : -errno;
	return ret;
}

typedef void (*region_fn)(void *priv, size_t first, size_t end, uint64_t categories);

/* Call fn for every run of pages that has any of the categories. */
static int scan(int fd, struct pm_scan_arg *arg, region_fn fn, void *priv)
{
	struct page_region regions[SCAN_REGIONS];
	uintptr_t start = (uintptr_t)arg->start;

	do {
		int n = scan_some(fd, arg, regions);

		if (n < 0)
			return n;
		for (int i = 0; i < n; i++)
			fn(priv, (regions[i].start - start) / UMM_PAGE_SIZE,
			   (regions[i].end - start) / UMM_PAGE_SIZE, regions[i].categories);
		if (arg->walk_end <= arg->start)
			return -EIO;
		arg->start = arg->walk_end;
	} while (arg->start < arg->end);
	return 0;
}

static void region_populated(void *priv, size_t first, size_t end, uint64_t categories)
{
	(void)categories;
	bitmap_set(priv, first, end);
}

static int populated_scan(int fd, uintptr_t start, size_t npages, uint64_t *bitmap)
{
	struct pm_scan_arg arg = {
		.size = sizeof(arg),
		.start = start,
		.end = start + npages * UMM_PAGE_SIZE,
		.category_anyof_mask = PAGE_IS_PRESENT | PAGE_IS_SWAPPED,
		.return_mask = PAGE_IS_PRESENT | PAGE_IS_SWAPPED,
	};

	bitmap_clear(bitmap, npages);
	return scan(fd, &arg, region_populated, bitmap);
}

static void region_looked_at(void *priv, size_t first, size_t end, uint64_t categories)
{
	struct pagemap_pages *pages = priv;

	bitmap_set(pages->present, first, end);
	if (categories & PAGE_IS_PFNZERO)
		bitmap_set(pages->zero, first, end);
	if (categories & PAGE_IS_FILE)
		bitmap_set(pages->file, first, end);
	if (categories & PAGE_IS_HUGE)
		bitmap_set(pages->huge, first, end);
}

static int look_scan(int fd, uintptr_t start, size_t npages, struct pagemap_pages *pages)
{
	struct pm_scan_arg arg = {
		.size = sizeof(arg),
		.start = start,
		.end = start + npages * UMM_PAGE_SIZE,
		.category_mask = PAGE_IS_PRESENT,
		.return_mask = PAGE_IS_PRESENT | PAGE_IS_PFNZERO | PAGE_IS_FILE | PAGE_IS_HUGE,
	};

	memset(pages, 0, sizeof(*pages));
	return scan(fd, &arg, region_looked_at, pages);
}

/* The words of npages pages; how many there are, or -errno. */
static ssize_t read_words(int fd, uintptr_t start, size_t npages, uint64_t *words)
{
	size_t have = 0;

	while (have < npages) {
		off_t offset = (off_t)((start / UMM_PAGE_SIZE + have) * sizeof(words[0]));
		int cancel = cancel_hold();
		ssize_t got = pread(fd, words + have, (npages - have) * sizeof(words[0]), offset);

		cancel_let(cancel);
		if (got < 0 && errno == EINTR)
			continue;
		if (got < 0)
			return -errno;
		/* Nothing lies beyond the end of the address space. */
		if (!got)
			break;
		have += (size_t)got / sizeof(words[0]);
	}
	return (ssize_t)have;
}

static int populated_file(int fd, uintptr_t start, size_t npages, uint64_t *bitmap)
{
	uint64_t words[PAGEMAP_MAX];
	ssize_t have = read_words(fd, start, npages, words);

	if (have < 0)
		return (int)have;
	bitmap_clear(bitmap, npages);
	for (size_t i = 0; i < (size_t)have; i++)
		if (words[i] & (PAGEMAP_PRESENT | PAGEMAP_SWAPPED))
			bitmap_set(bitmap, i, i + 1);
	return 0;
}

/* The frame number of the zero page, 0 if the kernel does not tell: read where it surely is. */
static uint64_t zero_frame(int fd)
{
	static _Atomic uint64_t known;
	uint64_t word = 0;
	volatile char *page;

	if (atomic_load(&known))
		return atomic_load(&known);
	page = mmap(NULL, UMM_PAGE_SIZE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (page == MAP_FAILED)
		return 0;
	(void)*page;
	if (read_words(fd, (uintptr_t)page, 1, &word) == 1)
		atomic_store(&known, word & PAGEMAP_FRAME);
	munmap((void *)page, UMM_PAGE_SIZE);
	return atomic_load(&known);
}

static int look_file(int fd, uintptr_t start, size_t npages, struct pagemap_pages *pages)
{
	uint64_t words[PAGEMAP_MAX], zero = zero_frame(fd);
	ssize_t have = read_words(fd, start, npages, words);

	if (have < 0)
		return (int)have;
	memset(pages, 0, sizeof(*pages));
	for (size_t i = 0; i < (size_t)have; i++) {
		if (!(words[i] & PAGEMAP_PRESENT))
			continue;
		bitmap_set(pages->present, i, i + 1);
		if (words[i] & PAGEMAP_FILE)
			bitmap_set(pages->file, i, i + 1);
		if (zero && (words[i] & PAGEMAP_FRAME) == zero)
			bitmap_set(pages->zero, i, i + 1);
	}
	return 0;
}

int pagemap_look(uintptr_t start, size_t npages, bool allow_scan, struct pagemap_pages *pages)
{
	int fd, ret = -EOPNOTSUPP;

	if (!npages || npages > PAGEMAP_MAX || !is_aligned(start, UMM_PAGE_SIZE))
		return -EINVAL;
	fd = procfd_get(&cached_fd, PAGEMAP_PATH);
	if (fd < 0)
		return fd;
	if (allow_scan)
		ret = look_scan(fd, start, npages, pages);
	return ret == -EOPNOTSUPP ? look_file(fd, start, npages, pages) : ret;
}

int pagemap_populated(uintptr_t start, size_t npages, bool allow_scan, uint64_t *bitmap)
{
	int fd, ret = -EOPNOTSUPP;

	if (!npages || npages > PAGEMAP_MAX || !is_aligned(start, UMM_PAGE_SIZE))
		return -EINVAL;
	fd = procfd_get(&cached_fd, PAGEMAP_PATH);
	if (fd < 0) {
		bitmap_clear(bitmap, npages);
		bitmap_set(bitmap, 0, npages);
		return 0;
	}
	if (allow_scan)
		ret = populated_scan(fd, start, npages, bitmap);
	return ret == -EOPNOTSUPP ? populated_file(fd, start, npages, bitmap) : ret;
}

size_t pagemap_moved(uintptr_t dst, uintptr_t src, size_t npages, bool allow_scan)
{
	uint64_t here[PAGEMAP_MAX / 64], there[PAGEMAP_MAX / 64];
	size_t n = 0;

	if (pagemap_populated(dst, npages, allow_scan, here) ||
	    pagemap_populated(src, npages, allow_scan, there))
		return 0;
	while (n < npages && here[n / 64] >> n % 64 & 1 && !(there[n / 64] >> n % 64 & 1))
		n++;
	return n;
}

int pagemap_open(void)
{
	int fd = procfd_get(&cached_fd, PAGEMAP_PATH);

	return min(fd, 0);
}

bool pagemap_has_scan(void)
{
	uint64_t bitmap;
	int fd = procfd_get(&cached_fd, PAGEMAP_PATH);
	uintptr_t page = align_down((uintptr_t)&bitmap, UMM_PAGE_SIZE);

	return fd >= 0 && !populated_scan(fd, page, 1, &bitmap);
}
