/* SPDX-License-Identifier: MIT */
/* Whether the host has room for a page that a CPU touched: asked of who opened the context. */
#ifndef ADMIT_H
#define ADMIT_H

#include <stdbool.h>
#include <stdint.h>

#include "work.h"

struct umm_ctx;
struct umm_ctx_options;

struct admit {
	int (*fn)(void *priv, uintptr_t addr, bool may_sleep); /* NULL: nobody is asked */
	void *priv;
	struct workers waiting; /* faults that were refused */
};

/* 0 or -errno. */
int admit_start(struct umm_ctx *ctx, const struct umm_ctx_options *options);
void admit_stop(struct umm_ctx *ctx);

/* From a fault server. False: not now, ask where one may sleep. */
bool admit_page(struct umm_ctx *ctx, uintptr_t addr);
/* From the thread of the refused ones. */
void admit_wait(struct umm_ctx *ctx, uintptr_t addr);

#endif
