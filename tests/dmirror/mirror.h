/* SPDX-License-Identifier: MIT */
#ifndef DMIRROR_MIRROR_H
#define DMIRROR_MIRROR_H

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "device.h"
#include "quiet_lock.h"
#include "ref_table.h"
#include "umm.h"

/*
 * Long ranges are worked on in batches that end with a block. The buffers of one batch fit
 * on the stack.
 */
#define BATCH_PAGES UMM_BLOCK_PAGES

/* The device's view of the address space, one per open file. */
struct mirror {
	struct device *device;
	struct umm_mirror *mirror;
	struct umm_notifier *notifier;

	/* Protects: table; inside: device.lock. Held over uses of what is not in place. */
	struct quiet_lock lock;
	struct ref_table table;
};

/* What is asked about one batch; the answer is in entries[] and pages[]. */
struct batch {
	struct umm_range range;
	uint64_t entries[BATCH_PAGES];
	struct umm_page_info pages[BATCH_PAGES]; /* of a look: whose memory it is in */
};

/* 0 or a negative errno. */
int mirror_open(struct device *device, struct mirror **out);
void mirror_close(struct mirror *mirror);

/* Wait until the table is free of everything that the program has changed before. */
void mirror_settle(struct mirror *mirror);

/* Copy pages through the table, until one is missing or may not be written: how many it were. */
size_t mirror_read(struct mirror *mirror, uintptr_t addr, char *buf, size_t npages);
size_t mirror_write(struct mirror *mirror, uintptr_t addr, char *buf, size_t npages);

/* A device fault: have all of start .. end in the table. 0 or a negative errno. */
int mirror_fault(struct mirror *mirror, uintptr_t start, uintptr_t end, bool write);

/* Enter those pages of start .. end that are in the device's own memory. 0 or a negative errno. */
int mirror_map_own(struct mirror *mirror, uintptr_t start, uintptr_t end);

/* Take all of start .. end for the device alone: 0, -EBUSY or another negative errno. */
int mirror_make_exclusive(struct mirror *mirror, uintptr_t start, uintptr_t end);

/* Is a page of start .. end the device's alone? */
bool mirror_has_exclusive(struct mirror *mirror, uintptr_t start, uintptr_t end);

/*
 * See what is in batch->range, without faulting anything in. On 0 the mirror's lock is
 * held, and the answer true until it is dropped; else a negative errno.
 */
int mirror_look_and_lock(struct mirror *mirror, struct batch *batch);

/* Is page i of a batch that was looked at in memory of this device? */
bool mirror_is_own(const struct mirror *mirror, const struct batch *batch, size_t i);

/* Where the batch ends that begins at start. */
uintptr_t batch_end(uintptr_t start, uintptr_t end);

static inline size_t batch_npages(uintptr_t start, uintptr_t end)
{
	return (end - start) >> UMM_PAGE_SHIFT;
}

#endif
