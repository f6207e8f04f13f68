/* SPDX-License-Identifier: MIT */
/*
 * A descriptor of a file under /proc/self, opened once and kept. Such a file speaks
 * of the address space it was opened in, so a forked child opens its own; the one it
 * inherited stays open until exec, because the child may long have closed that
 * number and used it for something else.
 */
#ifndef PROCFD_H
#define PROCFD_H

#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdint.h>
#include <unistd.h>

#include "signals.h"

/* Process id in the upper half, descriptor + 1 in the lower; 0: nothing open. */
typedef _Atomic uint64_t procfd_cache;

/* What errno says of such a file, in the library's terms. */
static inline int procfd_error(void)
{
	if (errno == EMFILE || errno == ENFILE)
		return -ENOMEM;
	return errno == ENOENT ? -EOPNOTSUPP : -errno;
}

static inline int procfd_open(procfd_cache *cache, const char *path, uint64_t pid, uint64_t seen)
{
	int fd;

	while (seen >> 32 != pid) {
		fd = open(path, O_RDONLY | O_CLOEXEC);
		if (fd < 0)
			return procfd_error();
		/* A descriptor carries no data of ours that would need publishing. */
		if (atomic_compare_exchange_strong_explicit(
			    cache, &seen, pid << 32 | ((uint64_t)fd + 1), memory_order_relaxed,
			    memory_order_relaxed))
			return fd;
		close(fd);
	}
	return (int)(uint32_t)seen - 1;
}

/* The descriptor for this process, or a negative error. */
static inline int procfd_get(procfd_cache *cache, const char *path)
{
	uint64_t pid = (uint64_t)getpid();
	uint64_t seen = atomic_load_explicit(cache, memory_order_relaxed);
	int cancel, fd;

	if (seen >> 32 == pid)
		return (int)(uint32_t)seen - 1;
	cancel = cancel_hold();
	fd = procfd_open(cache, path, pid, seen);
	cancel_let(cancel);
	return fd;
}

#endif
