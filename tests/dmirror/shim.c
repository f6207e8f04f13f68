/* SPDX-License-Identifier: MIT */
/*
 * In front of the C library: the system calls of a program that concern the devices.
 *
 * open(), ioctl(), mmap() and close() of a device are answered here. munmap(), mprotect(),
 * mremap(), madvise() and a mmap() that replaces something are announced to the core before
 * the kernel does them, as the kernel's notifiers would be called; so what a device was
 * told is never older than the last of these calls that has returned.
 *
 * Calls that libumm and this library make themselves are none of the program's, and pass.
 */
#include <errno.h>
#include <fcntl.h>
#include <link.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "process.h"
#include "umm.h"

#ifndef MADV_DONTNEED_LOCKED
#define MADV_DONTNEED_LOCKED 24
#endif
#ifndef MADV_COLLAPSE
#define MADV_COLLAPSE 25
#endif

#define EXPORT __attribute__((visibility("default")))

/* ---- who calls -------------------------------------------------------------------- */

/* Where libumm and this library lie. Empty until they are found: then no device is open either. */
static struct code {
	uintptr_t inside, start, end;
} own[2];

static int code_find(struct dl_phdr_info *info, size_t size, void *priv)
{
	struct code *code = priv;
	uintptr_t start = UINTPTR_MAX, end = 0, at;

	(void)size;
	for (unsigned i = 0; i < info->dlpi_phnum; i++) {
		if (info->dlpi_phdr[i].p_type != PT_LOAD)
			continue;
		at = info->dlpi_addr + info->dlpi_phdr[i].p_vaddr;
		start = at < start ? at : start;
		at += info->dlpi_phdr[i].p_memsz;
		end = at > end ? at : end;
	}
	if (code->inside < start || code->inside >= end)
		return 0;
	code->start = start;
	code->end = end;
	return 1;
}

__attribute__((constructor)) static void find_own_code(void)
{
	own[0].inside = (uintptr_t)umm_version();
	own[1].inside = (uintptr_t)own;
	for (unsigned i = 0; i < 2; i++)
		dl_iterate_phdr(code_find, &own[i]);
}

static bool is_own(const void *caller)
{
	uintptr_t at = (uintptr_t)caller;

	return (at >= own[0].start && at < own[0].end) || (at >= own[1].start && at < own[1].end);
}

#define CALLED_BY_PROGRAM() (!is_own(__builtin_return_address(0)))

static long result(long ret)
{
	if (ret >= 0)
		return ret;
	errno = (int)-ret;
	return -1;
}

/* ---- announcements ---------------------------------------------------------------- */

struct announcement {
	struct umm_ctx *ctx;
	struct umm_invalidation *invalidation;
};

/*
 * A change of what addr .. addr + len means is about to happen. False: no memory for that,
 * errno is set. Where there is nothing to announce, or it makes no sense, the kernel shall
 * say so.
 */
static bool announce(struct announcement *a, const void *addr, size_t len, enum umm_event event)
{
	uintptr_t start = (uintptr_t)addr & ~(UMM_PAGE_SIZE - 1);
	uintptr_t end = ((uintptr_t)addr + len + UMM_PAGE_SIZE - 1) & ~(UMM_PAGE_SIZE - 1);
	struct umm_notifier_range range = {
		.start = start,
		.end = end,
		.event = event,
		.blockable = true,
	};

	a->invalidation = NULL;
	a->ctx = process_ctx();
	if (!a->ctx || end <= start)
		return true;
	if (umm_invalidate_range_start(a->ctx, &range, &a->invalidation) != -ENOMEM)
		return true;
	errno = ENOMEM;
	return false;
}

/* It has happened, or failed: errno says how. */
static void announced(struct announcement *a)
{
	int error = errno;

	if (a->invalidation)
		umm_invalidate_range_end(a->ctx, a->invalidation);
	errno = error;
}

/* ---- descriptors ------------------------------------------------------------------ */

static bool has_mode(int flags)
{
	return flags & O_CREAT || (flags & O_TMPFILE) == O_TMPFILE;
}

EXPORT int openat(int dir, const char *path, int flags, ...)
{
	mode_t mode = 0;
	va_list args;

	va_start(args, flags);
	if (has_mode(flags))
		mode = va_arg(args, mode_t);
	va_end(args);
	if (CALLED_BY_PROGRAM() && process_has(path))
		return (int)result(process_open(path, flags));
	return (int)syscall(SYS_openat, dir, path, flags, mode);
}

EXPORT int open(const char *path, int flags, ...)
{
	mode_t mode = 0;
	va_list args;

	va_start(args, flags);
	if (has_mode(flags))
		mode = va_arg(args, mode_t);
	va_end(args);
	if (CALLED_BY_PROGRAM() && process_has(path))
		return (int)result(process_open(path, flags));
	return (int)syscall(SYS_openat, AT_FDCWD, path, flags, mode);
}

EXPORT int openat64(int dir, const char *path, int flags, ...) __attribute__((alias("openat")));
EXPORT int open64(const char *path, int flags, ...) __attribute__((alias("open")));

EXPORT int close(int fd)
{
	if (CALLED_BY_PROGRAM())
		process_close(fd);
	return (int)syscall(SYS_close, fd);
}

EXPORT int ioctl(int fd, unsigned long request, ...)
{
	struct file *file = NULL;
	va_list args;
	void *arg;
	long ret;

	va_start(args, request);
	arg = va_arg(args, void *);
	va_end(args);
	if (CALLED_BY_PROGRAM())
		file = process_file_get(fd);
	if (!file)
		return (int)syscall(SYS_ioctl, fd, request, arg);
	ret = process_ioctl(file, (uint32_t)request, arg);
	process_file_put(file);
	return (int)result(ret);
}

/* ---- memory ----------------------------------------------------------------------- */

static void *map(void *addr, size_t len, int prot, int flags, int fd, off_t offset)
{
	return (void *)syscall(SYS_mmap, addr, len, prot, flags, fd, offset);
}

/* Zeroed pages of a mapping's own, all there from the start, read-only until they are written. */
static void *map_device(void *addr, size_t len, int prot, int flags)
{
	int fd = memfd_create("hmm_dmirror_pages", MFD_CLOEXEC), error;
	void *mapped = MAP_FAILED;

	if (fd < 0)
		return MAP_FAILED;
	if (ftruncate(fd, (off_t)len) == 0)
		mapped = map(addr, len, prot, flags, fd, 0);
	if (mapped != MAP_FAILED)
		madvise(mapped, len, MADV_POPULATE_READ);
	error = errno;
	close(fd);
	errno = error;
	return mapped;
}

EXPORT void *mmap(void *addr, size_t len, int prot, int flags, int fd, off_t offset)
{
	bool replaces = flags & MAP_FIXED && !(flags & MAP_FIXED_NOREPLACE);
	struct announcement a = { 0 };
	struct file *file;
	void *ret;

	if (!CALLED_BY_PROGRAM() || !process_ctx())
		return map(addr, len, prot, flags, fd, offset);
	if (replaces && !announce(&a, addr, len, UMM_EVENT_UNMAP))
		return MAP_FAILED;
	file = flags & MAP_ANONYMOUS ? NULL : process_file_get(fd);
	if (file) {
		ret = map_device(addr, len, prot, flags);
		process_file_put(file);
	} else {
		ret = map(addr, len, prot, flags, fd, offset);
	}
	announced(&a);
	return ret;
}

EXPORT void *mmap64(void *addr, size_t len, int prot, int flags, int fd, off64_t offset)
	__attribute__((alias("mmap")));

EXPORT int munmap(void *addr, size_t len)
{
	struct announcement a = { 0 };
	int ret;

	if (CALLED_BY_PROGRAM() && !announce(&a, addr, len, UMM_EVENT_UNMAP))
		return -1;
	ret = (int)syscall(SYS_munmap, addr, len);
	announced(&a);
	return ret;
}

EXPORT int mprotect(void *addr, size_t len, int prot)
{
	struct announcement a = { 0 };
	int ret;

	if (CALLED_BY_PROGRAM() && !announce(&a, addr, len, UMM_EVENT_PROTECTION_VMA))
		return -1;
	ret = (int)syscall(SYS_mprotect, addr, len, prot);
	announced(&a);
	return ret;
}

/* What devices have used in part is several mappings. */
static void *move(void *addr, size_t len, size_t new_len, int flags, void *to)
{
	int ret = umm_mremap(addr, len, new_len, flags, &to);

	return result(ret) ? MAP_FAILED : to;
}

EXPORT void *mremap(void *addr, size_t len, size_t new_len, int flags, ...)
{
	struct announcement from = { 0 }, to = { 0 };
	void *where = NULL, *ret = MAP_FAILED;
	bool own_call = !CALLED_BY_PROGRAM();
	va_list args;

	va_start(args, flags);
	if (flags & (MREMAP_FIXED | MREMAP_DONTUNMAP))
		where = va_arg(args, void *);
	va_end(args);
	if (!own_call && !announce(&from, addr, len, UMM_EVENT_UNMAP))
		return MAP_FAILED;
	if (own_call)
		ret = (void *)syscall(SYS_mremap, addr, len, new_len, flags, where);
	else if (!(flags & MREMAP_FIXED) || announce(&to, where, new_len, UMM_EVENT_UNMAP))
		ret = move(addr, len, new_len, flags, where);
	announced(&to);
	announced(&from);
	return ret;
}

static bool drops_pages(int advice)
{
	return advice == MADV_DONTNEED || advice == MADV_DONTNEED_LOCKED || advice == MADV_FREE ||
	       advice == MADV_REMOVE || advice == MADV_COLLAPSE;
}

EXPORT int madvise(void *addr, size_t len, int advice)
{
	struct announcement a = { 0 };
	int ret;

	if (CALLED_BY_PROGRAM() && drops_pages(advice) && !announce(&a, addr, len, UMM_EVENT_CLEAR))
		return -1;
	ret = (int)syscall(SYS_madvise, addr, len, advice);
	announced(&a);
	return ret;
}
