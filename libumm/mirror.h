/* SPDX-License-Identifier: MIT */
/* Mirrors: a notifier over the whole address space, with a last call. */
#ifndef MIRROR_H
#define MIRROR_H

#include "notifier.h"

struct umm_mirror {
	struct umm_notifier notifier;
	struct umm_device *dev;
	struct umm_mirror_ops ops;
	void *priv;
	struct umm_mirror *next; /* of the device; under ctx->lock */
};

#endif
