/* SPDX-License-Identifier: MIT */
/* Rounds of the engine: who holds its round_lock calls these, or they are for anybody. */
#ifndef ROUND_H
#define ROUND_H

#include <stddef.h>
#include <stdint.h>

#include <umm.h>

#include "channel.h"

/* Devices are open, and @channel says the limit: rounds can begin. Neither is owned. */
void round_open(struct umm_ctx *ctx, struct channel *channel);
/* Neither is there any more; or not in this forked child. */
void round_forget(void);

/* Bring what follows touches, grant blocks, make room. For how long nothing is due, in ns. */
uint64_t round_run(void);
/* What there is to see goes into the channel. */
void round_publish(void);

/* Of a limit of so much, in bytes: what lies between a watermark and the next. Anybody. */
uint64_t round_margin(uint64_t bytes);
/* Frames that stay for pages that come. Anybody. */
size_t round_frames_kept(uint64_t limit_bytes);
/* From now on none do. Also before rounds can begin, and in a child. */
void round_recycle_nothing(void);

#endif
