/* SPDX-License-Identifier: MIT */
/*
 * Admission of pages to the host. Who opened the context may want a say in when pages come that a
 * CPU touches, as the kernel charges them to a memory cgroup. Fault servers ask without waiting. A
 * fault that is refused is put aside, and a thread of its own asks for one after the other where
 * the answer may take its time: neither servers nor workers wait, so that whoever makes room can
 * migrate, and the program can unmap.
 *
 * No locks: fn and priv are written before there are servers.
 */
#include "admit.h"

#include <errno.h>
#include "umm.h"

#include "ctx.h"

int admit_start(struct umm_ctx *ctx, const struct umm_ctx_options *options)
{
	struct admit *admit = &ctx->admit;
	int ret;

	if (!options->admit)
		return 0;
	ret = workers_start(&admit->waiting, ctx, 1, "umm-admit");
	if (ret)
		return ret;
	admit->priv = options->admit_priv;
	admit->fn = options->admit;
	return 0;
}

void admit_stop(struct umm_ctx *ctx)
{
	if (ctx->admit.fn)
		workers_stop(&ctx->admit.waiting);
}

bool admit_page(struct umm_ctx *ctx, uintptr_t addr)
{
	return ctx->admit.fn(ctx->admit.priv, addr, false) != -EAGAIN;
}

void admit_wait(struct umm_ctx *ctx, uintptr_t addr)
{
	ctx->admit.fn(ctx->admit.priv, addr, true);
}
