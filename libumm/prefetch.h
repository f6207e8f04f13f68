/* SPDX-License-Identifier: MIT */
/* Prefetches that wait for a fence, and how they end without it. */
#ifndef PREFETCH_H
#define PREFETCH_H

#include "ctx.h"

/* Those of a context that wait, or only those to one memory of it, end with -ENODEV. */
void prefetch_cancel(struct umm_ctx *ctx, const struct umm_devmem *mem);

/* In a forked child: a thread of the parent may have had the list's lock. */
void prefetch_fork_child(void);

#endif
