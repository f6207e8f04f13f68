/* SPDX-License-Identifier: MIT */
/* Moving cold pages to devices and wanted ones home. The engine's thread only. */
#ifndef DEMOTE_H
#define DEMOTE_H

#include <stdint.h>

#include <umm.h>

#include "policy.h"

/*
 * Put pages on devices, coldest first, until the bound of residency.h is down to @target, or down
 * to @enough and a touch is urgent. 0; or, where that cannot be: -ENOSPC the devices are full,
 * -ENODEV all are broken, -EBUSY what is left may not go: it is pinned, or hot.
 */
int demote_until(struct umm_ctx *ctx, uint64_t target, uint64_t enough);

/*
 * Begin to put up to @npages away, of those that are coldest and as devices have room for, while
 * something else is done, which puts nothing away; and wait for that.
 */
void demote_begin(struct umm_ctx *ctx, uint64_t npages);
void demote_end(struct umm_ctx *ctx);

/* What of the block at @base can be managed becomes libumm's. Its addresses are held (space.h). */
void demote_attach(struct umm_ctx *ctx, uintptr_t base);
/* Have pages of it been taken? Then it is managed. How many that were native have left. */
uint64_t demote_settle(struct umm_ctx *ctx, uintptr_t base);

/* Bring those of the pages home that are on devices. */
void promote_pages(struct umm_ctx *ctx, const struct policy_fetch *fetch);

#endif
