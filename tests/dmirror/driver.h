/* SPDX-License-Identifier: MIT */
#ifndef DMIRROR_DRIVER_H
#define DMIRROR_DRIVER_H

#include <stdint.h>

struct mirror;
struct umm_ctx;

/* The ioctls of /dev/hmm_dmirror* and of gup_test: 0 or a negative errno. */
int driver_ioctl(struct mirror *mirror, uint32_t request, void *arg);
int driver_gup_ioctl(struct umm_ctx *ctx, uint32_t request, void *arg);

#endif
