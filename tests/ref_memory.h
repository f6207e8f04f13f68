/* SPDX-License-Identifier: MIT */
/* Memories of the reference device: anonymous mappings used as frames. */
#ifndef REF_MEMORY_H
#define REF_MEMORY_H

#include <errno.h>
#include <sys/mman.h>

#include "ref_device.h"

/* One memory of the device; the driver's word of its umm_devmem. */
struct memory {
	struct memory *next;
	struct umm_devmem_options options;
	char *frames; /* 2 MiB aligned */
	void *mapped; /* the mapping that frames was cut from; NULL: a backend's */
	size_t mapped_len;
};

static inline char *memory_frame(const struct memory *memory, uint32_t frame)
{
	return memory->frames + (size_t)frame * UMM_PAGE_SIZE;
}

static inline int memory_map(struct memory *memory)
{
	size_t len = (size_t)memory->options.nframes * UMM_PAGE_SIZE;
	uintptr_t base;

	memory->mapped_len = len + UMM_BLOCK_SIZE;
	memory->mapped = mmap(NULL, memory->mapped_len, PROT_READ | PROT_WRITE,
			      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (memory->mapped == MAP_FAILED)
		return -ENOMEM;
	base = ((uintptr_t)memory->mapped + UMM_BLOCK_SIZE - 1) & ~(UMM_BLOCK_SIZE - 1);
	memory->frames = (char *)memory->mapped + (base - (uintptr_t)memory->mapped);
	madvise(memory->frames, len, MADV_HUGEPAGE);
	/* A forked process has no business with the memory of a device. */
	if (memory->options.type == UMM_DEVMEM_PRIVATE)
		madvise(memory->mapped, memory->mapped_len, MADV_DONTFORK);
	else
		memory->options.base = memory->frames;
	return 0;
}

static inline void memory_unmap(struct memory *memory)
{
	if (memory->mapped)
		munmap(memory->mapped, memory->mapped_len);
}

static inline int memory_populate(const struct memory *memory, uint32_t frame, uint32_t nframes)
{
	return madvise(memory_frame(memory, frame), (size_t)nframes * UMM_PAGE_SIZE,
		       MADV_POPULATE_WRITE) ?
		       -ENOMEM :
		       0;
}

#endif
