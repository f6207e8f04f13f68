/* SPDX-License-Identifier: MIT */
/*
 * Waiting, in a context, for what others do: until a migration has ended, until a device or a
 * driver has done its part, until there is memory again.
 *
 * Invariant: nothing is locked here.
 */
#include <time.h>

#include "ctx.h"
#include "futex.h"
#include "log.h"
#include "signals.h"
#include "util.h"

/* A wait that is longer is worth a line in the log. */
#define PATIENCE_NS UINT64_C(5000000000)
/* How often to say that memory is short. */
#define STARVED_SAY_NS UINT64_C(1000000000)

void ctx_settled(struct umm_ctx *ctx)
{
	atomic_fetch_add(&ctx->settled, 1);
	/* Pairs with the increment in ctx_settle_wait(), which comes before its last look. */
	if (atomic_load(&ctx->settle_waiters))
		futex_wake_all(&ctx->settled);
}

uint32_t ctx_settle_count(struct umm_ctx *ctx)
{
	return atomic_load(&ctx->settled);
}

void ctx_settle_wait(struct umm_ctx *ctx, uint32_t seen, uint64_t deadline_ns)
{
	atomic_fetch_add(&ctx->settle_waiters, 1);
	signals_pause();
	if (atomic_load(&ctx->settled) == seen)
		futex_wait_until(&ctx->settled, seen, deadline_ns);
	signals_resume();
	atomic_fetch_sub(&ctx->settle_waiters, 1);
}

void ctx_still_waiting(struct patience *patience, uintptr_t addr)
{
	uint64_t now = now_ns();

	if (!patience->began_ns)
		patience->began_ns = now;
	if (patience->said || now - patience->began_ns < PATIENCE_NS)
		return;
	patience->said = true;
	log_warning("waiting for pages at %#lx: a device has not completed a copy, a driver not "
		    "finalized a migration, or they are pinned",
		    (unsigned long)addr);
}

void ctx_starve(struct umm_ctx *ctx, uintptr_t addr)
{
	static const struct timespec moment = { .tv_nsec = 1000000 };
	uint64_t now = now_ns(), said = atomic_load(&ctx->starved_ns);
	int cancel;

	if (now - said >= STARVED_SAY_NS &&
	    atomic_compare_exchange_strong(&ctx->starved_ns, &said, now))
		log_error("no host memory for what the page at %#lx needs: it is tried again and "
			  "again",
			  (unsigned long)addr);
	cancel = cancel_hold();
	nanosleep(&moment, NULL);
	cancel_let(cancel);
}

bool ctx_waited_enough(const struct umm_ctx *ctx, const struct patience *patience)
{
	return now_ns() - patience->began_ns >= ctx->watchdog.limit_ns;
}
