/* SPDX-License-Identifier: MIT */
/*
 * jemalloc as it is linked into the shim: its public functions have the prefix umm_je_, so that
 * malloc() itself is the shim's, and its memory calls go past the shim's (jemalloc.syms).
 */
#ifndef JEMALLOC_RENAMED_H
#define JEMALLOC_RENAMED_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#include <jemalloc/jemalloc.h>

void *umm_je_malloc(size_t len);
void *umm_je_calloc(size_t n, size_t len);
void *umm_je_realloc(void *ptr, size_t len);
void umm_je_free(void *ptr);
int umm_je_posix_memalign(void **out, size_t alignment, size_t len);
size_t umm_je_malloc_usable_size(void *ptr);
void umm_je_dallocx(void *ptr, int flags);
void *umm_je_mallocx(size_t len, int flags);
void *umm_je_rallocx(void *ptr, size_t len, int flags);
int umm_je_mallctl(const char *name, void *old, size_t *old_len, void *value, size_t value_len);

/* Argument of "experimental.arenas_create_ext", 5.3; its header does not have it. */
struct jemalloc_arena_config {
	extent_hooks_t *extent_hooks;
	bool metadata_use_hooks;
};

/* What jemalloc calls instead of the C library's. */
void *umm_raw_mmap(void *addr, size_t len, int prot, int flags, int fd, off_t offset);
int umm_raw_munmap(void *addr, size_t len);
int umm_raw_madvise(void *addr, size_t len, int advice);
int umm_raw_mprotect(void *addr, size_t len, int prot);

#endif
