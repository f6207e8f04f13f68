/* SPDX-License-Identifier: MIT */
/*
 * The kernel's calls past the shim's own definitions of them: for what the shim does
 * on its own account. They answer as the C library's do, errno included.
 */
#ifndef RAW_H
#define RAW_H

#include <stddef.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <unistd.h>

static inline void *raw_mmap(void *addr, size_t len, int prot, int flags, int fd, off_t offset)
{
	return (void *)syscall(SYS_mmap, addr, len, prot, flags, fd, offset);
}

static inline int raw_close(int fd)
{
	return (int)syscall(SYS_close, fd);
}

static inline int raw_munmap(void *addr, size_t len)
{
	return (int)syscall(SYS_munmap, addr, len);
}

static inline void *raw_mremap(void *addr, size_t old_len, size_t len, int flags, void *to)
{
	return (void *)syscall(SYS_mremap, addr, old_len, len, flags, to);
}

static inline int raw_madvise(void *addr, size_t len, int advice)
{
	return (int)syscall(SYS_madvise, addr, len, advice);
}

static inline int raw_mprotect(void *addr, size_t len, int prot)
{
	return (int)syscall(SYS_mprotect, addr, len, prot);
}

static inline int raw_mlock2(const void *addr, size_t len, unsigned flags)
{
	return (int)syscall(SYS_mlock2, addr, len, flags);
}

static inline int raw_munlock(const void *addr, size_t len)
{
	return (int)syscall(SYS_munlock, addr, len);
}

static inline int raw_mlockall(int flags)
{
	return (int)syscall(SYS_mlockall, flags);
}

static inline int raw_munlockall(void)
{
	return (int)syscall(SYS_munlockall);
}

#endif
