/* SPDX-License-Identifier: MIT */
/*
 * Exchanging a mapping of the program's for an anonymous one of ours. mremap() does it in one
 * step, and the new mapping is registered before: so nobody sees a moment without a mapping, or
 * with one that nobody guards.
 *
 * Locks: none held; the kernel waits until somebody has read that mappings changed.
 */
#include "exchange.h"

#include <errno.h>
#include <sys/mman.h>

#include "ctx.h"
#include "event.h"
#include "mlocked.h"
#include "uffd.h"

uintptr_t exchange_make(struct umm_ctx *ctx, size_t len, int prot)
{
	void *map = mlocked_reserve(len);

	if (!map)
		return 0;
	/* Registered before it is accessible: after mlockall() the kernel fills what it can. */
	if (!uffd_register(ctx->uffd, (uintptr_t)map, len) && !mprotect(map, len, prot))
		return (uintptr_t)map;
	arena_unmap(map, len);
	return 0;
}

void exchange_drop(struct umm_ctx *ctx, uintptr_t map, size_t len)
{
	uffd_unregister(ctx->uffd, map, len);
	arena_unmap((void *)map, len);
}

/* Three messages, all ours, tell of it. */
int exchange_put(struct umm_ctx *ctx, uintptr_t map, uintptr_t start, size_t len)
{
	struct expect moved = { .start = map, .end = map + len, .to = start };
	struct expect replaced = { .start = start, .end = start + len };
	struct expect emptied = { .start = map, .end = map + len };
	void *got;

	event_expect(ctx, &moved);
	event_expect(ctx, &replaced);
	event_expect(ctx, &emptied);
	got = mremap((void *)map, len, len, MREMAP_MAYMOVE | MREMAP_FIXED, (void *)start);
	event_expect_end(ctx, &emptied, got != MAP_FAILED);
	event_expect_end(ctx, &replaced, got != MAP_FAILED);
	event_expect_end(ctx, &moved, got != MAP_FAILED);
	return got == MAP_FAILED ? -errno : 0;
}
