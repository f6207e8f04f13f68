/* SPDX-License-Identifier: MIT */
/* Mirrors: a notifier over the whole address space, with a last call. */
#ifndef MIRROR_H
#define MIRROR_H

#include "notifier.h"

struct umm_mirror {
	struct handle handle;
	struct umm_notifier notifier;
	struct umm_device *dev;
	struct umm_mirror_ops ops;
	void *priv;
	struct umm_mirror *next; /* of the device; under ctx->lock */
};

static inline bool mirror_valid(const struct umm_mirror *mirror)
{
	return handle_is(mirror, HANDLE_MIRROR);
}

#endif
