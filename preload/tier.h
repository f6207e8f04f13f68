/* SPDX-License-Identifier: MIT */
/* Finding and loading the objects of umm_tier.h. Used by the shim and by "umm run". */
#ifndef TIER_H
#define TIER_H

#include "settings.h"
#include "umm_tier.h"

/*
 * The operations of @device's kind; the object stays loaded. @beside: an address in the object
 * whose directory has the directory umm/. NULL: @reason says in one line why not.
 */
const struct umm_tier_ops *tier_load(const struct settings_device *device, const void *beside,
				     struct umm_tier_reason *reason);

#endif
