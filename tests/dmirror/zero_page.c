/* SPDX-License-Identifier: MIT */
/*
 * Is memory that was only read the kernel's one page of zeroes? Some kernels give a page of its own
 * at once, as /proc/self/pagemap then says. Exit status: 0 yes; 1 no.
 */
#include <fcntl.h>
#include <stdint.h>
#include <sys/mman.h>
#include <unistd.h>

#define IS_ITS_OWN (UINT64_C(1) << 56)

int main(void)
{
	long page = sysconf(_SC_PAGESIZE);
	volatile char *p = mmap(NULL, (size_t)page, PROT_READ | PROT_WRITE,
				MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	int fd = open("/proc/self/pagemap", O_RDONLY);
	uint64_t entry = 0;

	if (p == MAP_FAILED || *p)
		return 0;
	if (pread(fd, &entry, sizeof(entry), (off_t)((uintptr_t)p / (uintptr_t)page * 8)) < 0)
		return 0;
	return entry & IS_ITS_OWN ? 1 : 0;
}
