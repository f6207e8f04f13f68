/* SPDX-License-Identifier: MIT */
/*
 * A program with functions of its own for what the shim stands in for, as allocators and libraries
 * for communication have them: each ends in syscall().
 */
#include <fcntl.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "victim.h"

static atomic_uint ncalls; /* libumm calls them, too */

#define WRAPPED __attribute__((visibility("default")))

WRAPPED int close(int fd)
{
	ncalls++;
	return (int)syscall(SYS_close, fd);
}

WRAPPED int dup3(int from, int to, int flags)
{
	ncalls++;
	return (int)syscall(SYS_dup3, from, to, flags);
}

WRAPPED int close_range(unsigned first, unsigned last, int flags)
{
	ncalls++;
	return (int)syscall(SYS_close_range, first, last, flags);
}

WRAPPED void *mmap(void *addr, size_t len, int prot, int flags, int fd, off_t offset)
{
	ncalls++;
	return (void *)syscall(SYS_mmap, addr, len, prot, flags, fd, offset);
}

WRAPPED int munmap(void *addr, size_t len)
{
	ncalls++;
	return (int)syscall(SYS_munmap, addr, len);
}

WRAPPED int madvise(void *addr, size_t len, int advice)
{
	ncalls++;
	return (int)syscall(SYS_madvise, addr, len, advice);
}

WRAPPED int mprotect(void *addr, size_t len, int prot)
{
	ncalls++;
	return (int)syscall(SYS_mprotect, addr, len, prot);
}

WRAPPED int mlock(const void *addr, size_t len)
{
	ncalls++;
	return (int)syscall(SYS_mlock, addr, len);
}

WRAPPED int munlock(const void *addr, size_t len)
{
	ncalls++;
	return (int)syscall(SYS_munlock, addr, len);
}

WRAPPED int prctl(int option, ...)
{
	ncalls++;
	return (int)syscall(SYS_prctl, option, 0L, 0L, 0L, 0L);
}

int main(void)
{
	size_t len = 96 * MIB;
	unsigned before;
	char *ptr;
	int fd;

	ptr = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	check(ptr != MAP_FAILED);
	fill(ptr, len, 41);
	before = ncalls;
	fd = open("/dev/null", O_RDONLY);
	check(fd >= 0 && dup3(STDOUT_FILENO, fd, O_CLOEXEC) == fd && !close(fd));
	check(!close_range(3, 4095, 0));
	check(!mprotect(ptr, len, PROT_READ) && is_filled(ptr, len, 41));
	check(!mprotect(ptr, len, PROT_READ | PROT_WRITE));
	check(!mlock(ptr, 4096) && !munlock(ptr, 4096));
	check(!madvise(ptr, 4096, MADV_DONTNEED) && !ptr[0]);
	check(prctl(PR_GET_SECCOMP) == 0);
	check(ncalls >= before + 9);
	check(!munmap(ptr, len) && ncalls >= before + 10);
	puts("victim: all as it should be");
	return 0;
}
