/* SPDX-License-Identifier: MIT */
/*
 * A kind of memory that the shim can put pages in, as a loadable object: tier-KIND.so in the
 * directory umm/ beside the shim, or in one of those that UMM_TIER_PATH names, exports one
 * structure umm_tier_ops. "umm run --device KIND:NAME=BYTES" calls check, the program's shim open.
 *
 * Everything runs on a thread of the shim, and so do threads that are started here: what they
 * allocate is never managed.
 */
#ifndef UMM_TIER_H
#define UMM_TIER_H

#include <stddef.h>
#include <stdint.h>

#include <umm.h>

#define UMM_TIER_API 1

enum {
	UMM_TIER_FORKS = 1 << 0,      /* may be opened in a forked child whose parent opened it */
	UMM_TIER_LONG_CHECK = 1 << 1, /* to check takes long: once a day has to do */
};

/* Where to write one line, without a newline, that says why not. */
struct umm_tier_reason {
	char *text;
	size_t len;
};

struct umm_tier_ops {
	size_t size;  /* sizeof(struct umm_tier_ops) */
	uint32_t api; /* UMM_TIER_API */
	uint32_t flags;

	/*
	 * Could @name be opened? 0 or a negative errno and a reason. Opens nothing. With 0, too, a
	 * reason says why it makes little sense.
	 */
	int (*check)(const char *name, uint64_t bytes, struct umm_tier_reason *reason);

	/*
	 * Add the device to @ctx and give one PRIVATE memory of it; @bytes 0: as large as is
	 * sensible. It goes when the context does. 0 or a negative errno and a reason.
	 */
	int (*open)(struct umm_ctx *ctx, const char *name, uint64_t bytes, struct umm_devmem **out,
		    struct umm_tier_reason *reason);
};

UMM_API extern const struct umm_tier_ops umm_tier_ops;

#endif
