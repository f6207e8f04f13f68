/* SPDX-License-Identifier: MIT */
/*
 * mmap() and its sisters, mlock() and its, on behalf of whoever has the code at @caller: for
 * syscall.c. They end in the kernel, never in a function that others may have put before ours.
 */
#ifndef MAPPING_H
#define MAPPING_H

#include <stddef.h>
#include <sys/types.h>

struct mapping_wish {
	void *addr;
	size_t len;
	int prot, flags, fd;
	off_t offset;
};

struct mapping_move {
	void *addr;
	size_t old_len, len;
	int flags;
	void *to;
};

void *mapping_map(const struct mapping_wish *wish, const void *caller);
int mapping_unmap(void *addr, size_t len, const void *caller);
void *mapping_remap(const struct mapping_move *move, const void *caller);
int mapping_advise(void *addr, size_t len, int advice, const void *caller);
int mapping_protect(void *addr, size_t len, int prot, const void *caller);

int lock_range(const void *addr, size_t len, unsigned flags, const void *caller);
int lock_range_end(const void *addr, size_t len, const void *caller);
int lock_all(int flags, const void *caller);
int lock_all_end(const void *caller);

#endif
