/* SPDX-License-Identifier: MIT */
/*
 * Memory of the driver, in whole pages and zeroed. As a kernel's it is apart from the
 * program's: not of its heap, past the ends of which a program may write (the kernel's
 * tests do), and far from where the kernel maps what a program asks for, so that a hole
 * which the program makes stays one.
 */
#ifndef DMIRROR_PAGES_H
#define DMIRROR_PAGES_H

#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/mman.h>

#include "umm.h"

/* The next hint. The space is as good as endless: addresses are used once. */
extern _Atomic uintptr_t pages_next;

static inline void *pages_alloc(size_t len)
{
	size_t whole = (len + UMM_PAGE_SIZE - 1) & ~(UMM_PAGE_SIZE - 1);
	void *hint = (void *)atomic_fetch_add(&pages_next, whole);
	void *p = mmap(hint, whole, PROT_READ | PROT_WRITE,
		       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	return p == MAP_FAILED ? NULL : p;
}

static inline void pages_free(void *p, size_t len)
{
	munmap(p, len);
}

#endif
