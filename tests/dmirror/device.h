/* SPDX-License-Identifier: MIT */
#ifndef DMIRROR_DEVICE_H
#define DMIRROR_DEVICE_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "umm.h"

#define DEVICE_FRAMES 65536u /* 256 MiB, as much as the kernel's driver has at a time */

/* One unit, shared by all who have it open. */
struct device {
	struct umm_ctx *ctx;
	struct umm_device *dev;
	enum umm_devmem_type type;

	/*
	 * Protects: mem; inside: nothing. Held over migrations to the memory, and its removal: so
	 * mirror.lock is taken inside.
	 */
	pthread_mutex_t lock;
	struct umm_devmem *mem; /* stays while a table has entries of it. NULL: none (yet) */
};

/* 0 or a negative errno. */
int device_create(struct umm_ctx *ctx, enum umm_devmem_type type, struct device **out);
void device_destroy(struct device *device);

/* Have device memory, called with the lock held: 0 or a negative errno. */
int device_memory_locked(struct device *device);

/* Take the device's memory away; its pages go home. */
void device_memory_release(struct device *device);

/* Where the device itself sees a frame. */
void *device_frame(struct umm_devmem *mem, uint32_t frame);

#endif
