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
#include <sys/ioctl.h>
#include <unistd.h>

#include "procfd.h"
#include "uapi.h"
#include "umm.h"
#include "util.h"

#define PAGEMAP_PATH	"/proc/self/pagemap"
#define PAGEMAP_PRESENT ((uint64_t)1 << 63)
#define PAGEMAP_SWAPPED ((uint64_t)1 << 62)
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

static int populated_scan(int fd, uintptr_t start, size_t npages, uint64_t *bitmap)
{
	struct page_region regions[SCAN_REGIONS];
	struct pm_scan_arg arg = {
		.size = sizeof(arg),
		.start = start,
		.end = start + npages * UMM_PAGE_SIZE,
		.category_anyof_mask = PAGE_IS_PRESENT | PAGE_IS_SWAPPED,
		.return_mask = PAGE_IS_PRESENT | PAGE_IS_SWAPPED,
	};

	bitmap_clear(bitmap, npages);
	do {
		int n = scan_some(fd, &arg, regions);

		if (n < 0)
			return n;
		for (int i = 0; i < n; i++)
			bitmap_set(bitmap, (regions[i].start - start) / UMM_PAGE_SIZE,
				   (regions[i].end - start) / UMM_PAGE_SIZE);
		if (arg.walk_end <= arg.start)
			return -EIO;
		arg.start = arg.walk_end;
	} while (arg.start < arg.end);
	return 0;
}

static int populated_file(int fd, uintptr_t start, size_t npages, uint64_t *bitmap)
{
	uint64_t words[PAGEMAP_MAX];
	size_t have = 0;

	bitmap_clear(bitmap, npages);
	while (have < npages) {
		off_t offset = (off_t)((start / UMM_PAGE_SIZE + have) * sizeof(words[0]));
		ssize_t got = pread(fd, words + have, (npages - have) * sizeof(words[0]), offset);

		if (got < 0 && errno == EINTR)
			continue;
		if (got < 0)
			return -errno;
		/* Nothing lies beyond the end of the address space. */
		if (!got)
			break;
		have += (size_t)got / sizeof(words[0]);
	}
	for (size_t i = 0; i < have; i++)
		if (words[i] & (PAGEMAP_PRESENT | PAGEMAP_SWAPPED))
			bitmap_set(bitmap, i, i + 1);
	return 0;
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
