/* SPDX-License-Identifier: MIT */
/*
 * The device: its memory, and the copy engine by which the core empties that.
 *
 * Device memory is one anonymous mapping that serves as frames. Of a PRIVATE device only
 * this file knows it; that of a COHERENT one is lent to the core as its base. Memory is
 * added when something first migrates there, and can be taken away while it is in use.
 *
 * The core copies by device_copy() only: when a CPU touches a page, when memory is removed,
 * when the process forks. Migrations that the driver itself starts it copies itself, see
 * migrate.c.
 */
#include "device.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>

#include "pages.h"

/* The driver's word of a umm_devmem. */
struct memory {
	char *frames; /* aligned to a block */
	void *mapped; /* what frames was cut from */
	size_t len;
};

void *device_frame(struct umm_devmem *mem, uint32_t frame)
{
	const struct memory *memory = umm_devmem_priv(mem);

	return memory->frames + ((size_t)frame << UMM_PAGE_SHIFT);
}

/* ---- operations ------------------------------------------------------------------- */

/* On fault servers, too: it takes no lock and touches nothing that could fault. */
static int device_copy(void *priv, const struct umm_copy *copies, unsigned ncopies,
		       struct umm_fence *done)
{
	(void)priv;
	for (unsigned i = 0; i < ncopies; i++) {
		const struct umm_copy *copy = &copies[i];
		size_t len = (size_t)copy->npages << UMM_PAGE_SHIFT;
		void *frame = device_frame(copy->mem, copy->frame);

		if (copy->dir == UMM_COPY_FROM_DEVICE)
			memcpy(copy->host, frame, len);
		else if (copy->host)
			memcpy(frame, copy->host, len);
		else
			memset(frame, 0, len);
	}
	umm_fence_signal(done, 0, 0);
	return 0;
}

static const struct umm_device_ops device_ops = {
	.size = sizeof(struct umm_device_ops),
	.api = UMM_DEVICE_API,
	.name = "dmirror",
	.copy = device_copy,
};

/* ---- memory ----------------------------------------------------------------------- */

static struct memory *memory_create(void)
{
	struct memory *memory = pages_alloc(sizeof(*memory));
	uintptr_t start;

	if (!memory)
		return NULL;
	memory->len = ((size_t)DEVICE_FRAMES << UMM_PAGE_SHIFT) + UMM_BLOCK_SIZE;
	memory->mapped = pages_alloc(memory->len);
	if (!memory->mapped) {
		pages_free(memory, sizeof(*memory));
		return NULL;
	}
	start = ((uintptr_t)memory->mapped + UMM_BLOCK_SIZE - 1) & ~(UMM_BLOCK_SIZE - 1);
	memory->frames = (char *)memory->mapped + (start - (uintptr_t)memory->mapped);
	return memory;
}

static void memory_destroy(struct memory *memory)
{
	pages_free(memory->mapped, memory->len);
	pages_free(memory, sizeof(*memory));
}

int device_memory_locked(struct device *device)
{
	struct umm_devmem_options options = {
		.size = sizeof(options),
		.type = device->type,
		.nframes = DEVICE_FRAMES,
	};
	struct memory *memory;
	int ret;

	if (device->mem)
		return 0;
	memory = memory_create();
	if (!memory)
		return -ENOMEM;
	if (device->type == UMM_DEVMEM_COHERENT)
		options.base = memory->frames;
	else /* a child has no business with the frames of its parent's device */
		madvise(memory->mapped, memory->len, MADV_DONTFORK);
	ret = umm_devmem_add(device->dev, &options, &device->mem);
	if (ret) {
		memory_destroy(memory);
		return ret;
	}
	umm_devmem_priv_set(device->mem, memory);
	return 0;
}

void device_memory_release(struct device *device)
{
	struct memory *memory;

	pthread_mutex_lock(&device->lock);
	if (device->mem) {
		memory = umm_devmem_priv(device->mem);
		umm_devmem_remove(device->mem);
		memory_destroy(memory);
		device->mem = NULL;
	}
	pthread_mutex_unlock(&device->lock);
}

/* ---- life ------------------------------------------------------------------------- */

int device_create(struct umm_ctx *ctx, enum umm_devmem_type type, struct device **out)
{
	struct device *device = pages_alloc(sizeof(*device));
	int ret;

	if (!device)
		return -ENOMEM;
	device->ctx = ctx;
	device->type = type;
	pthread_mutex_init(&device->lock, NULL);
	ret = umm_device_create(ctx, &device_ops, device, UMM_DEVICE_INLINE_COPY, &device->dev);
	if (ret) {
		pages_free(device, sizeof(*device));
		return ret;
	}
	*out = device;
	return 0;
}

void device_destroy(struct device *device)
{
	device_memory_release(device);
	umm_device_destroy(device->dev);
	pthread_mutex_destroy(&device->lock);
	pages_free(device, sizeof(*device));
}
