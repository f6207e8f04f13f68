/* SPDX-License-Identifier: MIT */
/* Finding and loading the objects of umm_tier.h. Used by the shim and by "umm run". */
#ifndef TIER_H
#define TIER_H

#include "settings.h"
#include "umm_tier.h"

/* The directory of the object that has this address in it. False: it is not known. */
bool tier_directory(const void *inside, char *dir, size_t dir_len);

/*
 * The operations of @device's kind, from UMM_TIER_PATH or @dir/umm; the object stays loaded. NULL:
 * @reason says in one line why not.
 */
const struct umm_tier_ops *tier_load(const struct settings_device *device, const char *dir,
				     struct umm_tier_reason *reason);

#endif
