/* SPDX-License-Identifier: MIT */
/* Memory that is kept only to be faster, and is given back where it is short. */
#ifndef RECLAIM_H
#define RECLAIM_H

#include <stdbool.h>
#include <stdint.h>

struct umm_ctx;
struct umm_devmem;

/* Chunks of a memory that nobody uses a frame of; the caller uses it. How many frames it was. */
uint32_t devmem_trim(struct umm_devmem *mem);

/* That of all memories of the context, and its recycled host frames. True: there was something. */
bool ctx_reclaim(struct umm_ctx *ctx);

#endif
