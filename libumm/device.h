/* SPDX-License-Identifier: MIT */
/* Devices: operations and what belongs to them. */
#ifndef DEVICE_H
#define DEVICE_H

#include "devmem.h"
#include "handle.h"
#include "stats.h"

struct umm_device {
	struct handle handle;
	struct umm_ctx *ctx;
	struct umm_device_ops ops;
	void *priv;
	bool inline_copy;
	bool in_place;
	struct stats stats;

	/* Under ctx->lock. */
	struct umm_device *next;
	struct umm_devmem *mems;
	struct umm_devmem *places; /* one of them; NULL: none yet */
	struct umm_mirror *mirrors;
};

/* As handle_is(). */
static inline bool device_valid(const struct umm_device *dev)
{
	return handle_is(dev, HANDLE_DEVICE);
}

uint64_t device_pages(struct umm_device *dev);
uint64_t device_pages_of_ctx(struct umm_ctx *ctx);
size_t devices_bytes(struct umm_ctx *ctx);
/* Does any of start .. end belong to the pool of a COHERENT memory of the context? */
bool devices_have_pool(struct umm_ctx *ctx, uintptr_t start, uintptr_t end);
/* Other threads of the parent may have held the locks of memories. */
void device_fork_child(struct umm_ctx *ctx);

#endif
