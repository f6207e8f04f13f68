/* SPDX-License-Identifier: MIT */
/* Small files that the kernel writes: /sys, /proc, control groups. Nothing here allocates. */
#ifndef NUMA_SYSFS_H
#define NUMA_SYSFS_H

#include <errno.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* The file as far as it fits, without the last newline; "" where there is none. 0 or -errno. */
int sysfs_read(const char *path, char *text, size_t text_len);
/* Did that fail for want of a descriptor or memory, and so says nothing of the file? */
static inline bool sysfs_is_short(int ret)
{
	return ret == -EMFILE || ret == -ENFILE || ret == -ENOMEM;
}

/* The number that the file begins with; 0 where there is none. */
uint64_t sysfs_number(const char *path);

#endif
