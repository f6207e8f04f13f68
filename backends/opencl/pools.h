/* SPDX-License-Identifier: MIT */
/* Device memory: up to four buffers, cut into frames of one page. */
#ifndef OPENCL_POOLS_H
#define OPENCL_POOLS_H

#include "platform.h"
#include "table.h"

struct pools {
	cl_context context; /* of what follows, borrowed */
	cl_mem mem[PLATFORM_MAX_POOLS];
	void *host[PLATFORM_MAX_POOLS]; /* the same memory, where the host may use it at any time */
	bool may_map;			/* or else can have it mapped (mapping.h), */
	void *mapped[PLATFORM_MAX_POOLS]; /* where it is then */
	unsigned npools;
	uint32_t pool_frames; /* in every pool but the last, which may have fewer */
	uint32_t nframes;
};

/*
 * bytes in all and pool_bytes for each at most; 0: the defaults. 0; -EINVAL more than
 * the device or four pools can hold; -ENOMEM. Reported.
 */
int pools_create(struct pools *pools, cl_context context, cl_device_id device, uint64_t bytes,
		 uint64_t pool_bytes);
/* One buffer of so many pages, no larger than the device has them. 0; -ENOMEM. Reported. */
int pools_create_one(struct pools *pools, cl_context context, cl_device_id device, uint32_t npages);
void pools_destroy(struct pools *pools);

/* Ask for memory in huge pages, which spares kernels most TLB misses. Only a hint. */
void pools_want_huge(void *host, size_t len);

static inline unsigned pools_index(const struct pools *pools, uint32_t frame)
{
	return frame / pools->pool_frames;
}

static inline size_t pools_offset(const struct pools *pools, uint32_t frame)
{
	return (size_t)(frame % pools->pool_frames) << UMM_PAGE_SHIFT;
}

/* Where a frame is, of pools that are at `bases`; NULL: its pool is nowhere. */
static inline void *pools_at(const struct pools *pools, void *const *bases, uint32_t frame)
{
	char *base = bases[pools_index(pools, frame)];

	return base ? base + pools_offset(pools, frame) : NULL;
}

/* Where the host finds a frame at any time; NULL: only commands reach it, or a mapping. */
static inline void *pools_host(const struct pools *pools, uint32_t frame)
{
	return pools_at(pools, pools->host, frame);
}

/* The page table's way to name a frame; without TABLE_VALID. */
static inline uint32_t pools_entry(const struct pools *pools, uint32_t frame)
{
	return pools_index(pools, frame) << TABLE_POOL_SHIFT | frame % pools->pool_frames
								       << TABLE_FRAME_SHIFT;
}

#endif
