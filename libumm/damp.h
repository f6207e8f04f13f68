/* SPDX-License-Identifier: MIT */
/* Damping: pages that a CPU and a device, or two devices, take from each other again and again. */
#ifndef DAMP_H
#define DAMP_H

#include "lock.h"
#include "policy/thrash.h"
#include "umm.h"

struct piece_want;

struct damp {
	const struct thrash_ops *ops; /* where no hint says otherwise */
	struct thrash *thrash;	      /* mapped; a page of it is there once it was used */

	struct lock lock; /* RANK_WORK. Protects: *thrash. Policies run under it */
};

int damp_check(const struct umm_ctx_options *options);
int damp_init(struct umm_ctx *ctx, const struct umm_ctx_options *options); /* 0 or -ENOMEM */
void damp_fini(struct umm_ctx *ctx);

/*
 * A CPU missed a page that a device has, and gets it: `history` is what its block says of it.
 * False: it thrashes, and nothing need come along. Nothing locked.
 */
bool damp_cpu(struct umm_ctx *ctx, uintptr_t addr, const struct umm_device *dev, uint8_t history);

/* A request of a device for what it has missed: its pages are gone through once or twice. */
struct damp_request {
	bool may_sleep;
	bool again;	   /* it has slept, and goes through them once more */
	uint64_t until_ns; /* some pages are to be had then; 0: none */
};
/* These are some of its pages, of one block: what is better left where it is, is taken out. */
void damp_device(struct umm_ctx *ctx, const struct piece_want *want, uint64_t *pages,
		 struct damp_request *request);
/* Sleep until it may go through them again; false: it need not. Nothing locked. */
bool damp_sleep(struct damp_request *request);

#endif
