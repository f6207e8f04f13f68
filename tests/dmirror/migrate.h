/* SPDX-License-Identifier: MIT */
#ifndef DMIRROR_MIGRATE_H
#define DMIRROR_MIGRATE_H

#include <stdint.h>

#include "device.h"

/*
 * Move system pages of start .. end to the device. Pages that cannot go there, or are on
 * another device, stay: it is no error if all of them do. 0 or a negative errno.
 */
int migrate_to_device(struct device *device, uintptr_t start, uintptr_t end);

/* Move the device's pages of start .. end home: how many it were, or a negative errno. */
long migrate_to_system(struct device *device, uintptr_t start, uintptr_t end);

#endif
