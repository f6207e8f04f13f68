/* SPDX-License-Identifier: MIT */
/*
 * The kernel's calls past the shim's own definitions of them: for what the shim does
 * on its own account. They answer as the C library's do, errno included.
 */
#ifndef RAW_H
#define RAW_H

#include <errno.h>
#include <stddef.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <unistd.h>

#if defined(__x86_64__)
static inline long raw_syscall(long number, long a, long b, long c, long d, long e, long f)
{
	register long fourth __asm__("r10") = d;
	register long fifth __asm__("r8") = e;
	register long sixth __asm__("r9") = f;
	long ret;

	__asm__ volatile("syscall"
			 : "=a"(ret)
			 : "a"(number), "D"(a), "S"(b), "d"(c), "r"(fourth), "r"(fifth), "r"(sixth)
			 : "rcx", "r11", "memory");
	if (ret >= 0 || ret < -4095)
		return ret;
	errno = (int)-ret;
	return -1;
}
#else
/* There, the shim does not define it. */
#define raw_syscall syscall
#endif

static inline void *raw_mmap(void *addr, size_t len, int prot, int flags, int fd, off_t offset)
{
	return (void *)raw_syscall(SYS_mmap, (long)addr, (long)len, prot, flags, fd, offset);
}

static inline int raw_close(int fd)
{
	return (int)raw_syscall(SYS_close, fd, 0, 0, 0, 0, 0);
}

static inline int raw_close_range(unsigned first, unsigned last, int flags)
{
	return (int)raw_syscall(SYS_close_range, first, last, flags, 0, 0, 0);
}

static inline int raw_dup3(int from, int to, int flags)
{
	return (int)raw_syscall(SYS_dup3, from, to, flags, 0, 0, 0);
}

static inline int raw_munmap(void *addr, size_t len)
{
	return (int)raw_syscall(SYS_munmap, (long)addr, (long)len, 0, 0, 0, 0);
}

static inline void *raw_mremap(void *addr, size_t old_len, size_t len, int flags, void *to)
{
	return (void *)raw_syscall(SYS_mremap, (long)addr, (long)old_len, (long)len, flags,
				   (long)to, 0);
}

static inline int raw_madvise(void *addr, size_t len, int advice)
{
	return (int)raw_syscall(SYS_madvise, (long)addr, (long)len, advice, 0, 0, 0);
}

static inline int raw_mprotect(void *addr, size_t len, int prot)
{
	return (int)raw_syscall(SYS_mprotect, (long)addr, (long)len, prot, 0, 0, 0);
}

static inline int raw_mlock2(const void *addr, size_t len, unsigned flags)
{
	return (int)raw_syscall(SYS_mlock2, (long)addr, (long)len, flags, 0, 0, 0);
}

static inline int raw_munlock(const void *addr, size_t len)
{
	return (int)raw_syscall(SYS_munlock, (long)addr, (long)len, 0, 0, 0, 0);
}

static inline int raw_mlockall(int flags)
{
	return (int)raw_syscall(SYS_mlockall, flags, 0, 0, 0, 0, 0);
}

static inline int raw_munlockall(void)
{
	return (int)raw_syscall(SYS_munlockall, 0, 0, 0, 0, 0, 0);
}

#endif
