/* SPDX-License-Identifier: MIT */
/*
 * fork(). Before it happens every private device page and every exclusive one comes home, and
 * no migration to a device may start from there on; so the child gets ordinary memory with the
 * parent's data, shared copy-on-write by the kernel, and needs neither the parent's devices nor its
 * fault servers. Registrations are not inherited (the userfaultfd asks for no
 * fork events, which would need CAP_SYS_PTRACE, and a parent that lives as long as
 * its child).
 *
 * posix_spawn(), vfork() and system() share the address space until they exec:
 * the C library runs no fork handlers for them, and nothing is needed.
 *
 * A page that could not be brought home (its device is broken), or that was lost before, must
 * not read as zeroes in the child: it is poisoned there, too, for as long as the child has it.
 *
 * From prepare to parent/child other handlers and the C library take locks (malloc's, allocators',
 * the program's), whose holders may be at a page fault or in munmap() on managed memory, or may
 * allocate some. So nothing is held meanwhile that a fault server, an event reader or an
 * allocation needs: they go on, and the child may be born in the middle of what they do. It mends
 * its books (region_fork_child() and the like).
 *
 * To come home pages may wait for callbacks, and these for the program, which may need a migration
 * to a device before it lets go. So while fork() brings pages home, such migrations are put off,
 * but not for ever (ctx_move_out_begin()). Only when it need not wait any more nothing begins at
 * all, in either direction; then a look shows whether really everything is home, or it starts over.
 *
 * Locks: from prepare to parent/child this thread holds the list of contexts, which only making
 * and closing one needs. All regions.locks, past the rank check (in list order; nobody else ever
 * holds two), while pages are looked for.
 */
#include "fork.h"

#include <errno.h>
#include <pthread.h>
#include <unistd.h>

#include "batch.h"
#include "device.h"
#include "handle.h"
#include "hint.h"
#include "hook.h"
#include "log.h"
#include "notifier.h"
#include "piece.h"
#include "poison.h"
#include "prefetch.h"
#include "sigbus.h"
#include "signals.h"
#include "tracefile.h"
#include "util.h"

/* So many times pages that were moved meanwhile are looked for. */
#define HOME_TRIES 16

/*
 * So long a migration to a device is put off at first; then for twice as long each time, or as it
 * took.
 */
#define PUT_OFF_NS UINT64_C(10000000)

static void set_forking(struct umm_ctx *ctx, enum forking forking, uint64_t patience_ns)
{
	lock_take(&ctx->fork_lock);
	ctx->forking = forking;
	ctx->fork_patience_ns = patience_ns;
	lock_drop(&ctx->fork_lock);
	ctx_settled(ctx);
}

static void wait_until_still(struct umm_ctx *ctx)
{
	struct patience patience = { 0 };
	unsigned moving_out;
	uint32_t seen;

	for (;;) {
		seen = ctx_settle_count(ctx);
		lock_take(&ctx->fork_lock);
		moving_out = ctx->moving_out;
		lock_drop(&ctx->fork_lock);
		if (!moving_out)
			return;
		ctx_still_waiting(&patience, piece_any_in_flight(ctx));
		ctx_settle_wait(ctx, seen, now_ns() + FORK_NS);
	}
}

static void come_home(struct umm_ctx *ctx)
{
	struct umm_span all = { .start = 0, .len = (uintptr_t)1 << 47 };
	struct batch_want want = { .cause = UMM_CAUSE_FORK, .may_stay = true };

	/* First what there is memory for, which is reclaimed meanwhile; then what is left. */
	batch_move(ctx, &all, 1, &want);
	want.may_stay = false;
	if (device_pages_of_ctx(ctx))
		batch_move(ctx, &all, 1, &want);
}

/* May the page be where only we find it? Nothing moves out, so a MIGRATING one is coming home. */
static bool is_away(const struct block *block, unsigned i)
{
	enum page_state state = page_state(block, i);

	return state == PG_DEVICE || state == PG_EXCLUSIVE || state == PG_MIGRATING;
}

static bool any_away(struct umm_ctx *ctx)
{
	struct block *block;
	uintptr_t at = 0;
	bool any = false;

	while (!any && (block = block_next(ctx, at, ADDRESS_END))) {
		for (unsigned i = 0; i < UMM_BLOCK_PAGES && !any; i++)
			any = is_away(block, i);
		at = block->va + UMM_BLOCK_SIZE;
		lock_drop(&block->lock);
	}
	return any;
}

/* What mremap() moves while we go through the addresses would go past us: so nothing is moved. */
static bool any_not_home(void)
{
	struct umm_ctx *found;

	for (struct umm_ctx *ctx = ctx_list_first(); ctx; ctx = ctx->next)
		pthread_mutex_lock(&ctx->regions.lock.mutex);
	found = ctx_list_first();
	while (found && (ctx_is_forked(found) || !any_away(found)))
		found = found->next;
	for (struct umm_ctx *ctx = ctx_list_first(); ctx; ctx = ctx->next)
		pthread_mutex_unlock(&ctx->regions.lock.mutex);
	return found;
}

/* Who collects pages to bring them home does not sleep. */
static void wait_until_collected(struct umm_ctx *ctx)
{
	unsigned collecting;
	uint32_t seen;

	for (;;) {
		seen = ctx_settle_count(ctx);
		lock_take(&ctx->fork_lock);
		collecting = ctx->collecting_home;
		lock_drop(&ctx->fork_lock);
		if (!collecting)
			return;
		ctx_settle_wait(ctx, seen, now_ns() + FORK_NS);
	}
}

/* Nothing moves out any more, nor begins to go home. False: something moves out just now. */
static bool stop_moving_out(struct umm_ctx *ctx)
{
	bool still;

	lock_take(&ctx->fork_lock);
	still = !ctx->moving_out;
	if (still)
		ctx->forking = FORK_MADE;
	lock_drop(&ctx->fork_lock);
	if (still)
		wait_until_collected(ctx);
	return still;
}

static bool stop_all_moving_out(void)
{
	struct umm_ctx *ctx = ctx_list_first();

	while (ctx && (ctx_is_forked(ctx) || stop_moving_out(ctx)))
		ctx = ctx->next;
	return !ctx;
}

/* How many migrations to devices have begun since this was asked last. */
static unsigned take_overtakers(struct umm_ctx *ctx)
{
	unsigned n;

	lock_take(&ctx->fork_lock);
	n = ctx->overtakers;
	ctx->overtakers = 0;
	lock_drop(&ctx->fork_lock);
	return n;
}

/* All pages come home, for which it may wait. How many migrations to devices began meanwhile. */
static unsigned all_come_home(uint64_t patience_ns)
{
	unsigned overtakers = 0;

	for (struct umm_ctx *ctx = ctx_list_first(); ctx; ctx = ctx->next)
		if (!ctx_is_forked(ctx))
			set_forking(ctx, FORK_WAITS, patience_ns);
	for (struct umm_ctx *ctx = ctx_list_first(); ctx; ctx = ctx->next) {
		if (ctx_is_forked(ctx))
			continue;
		wait_until_still(ctx);
		come_home(ctx);
	}
	for (struct umm_ctx *ctx = ctx_list_first(); ctx; ctx = ctx->next)
		if (!ctx_is_forked(ctx))
			overtakers += take_overtakers(ctx);
	return overtakers;
}

/* Everything is at home, and stays there. */
static void be_at_home(void)
{
	uint64_t patience_ns = PUT_OFF_NS, began_ns;
	bool moves = true, away = true;
	unsigned overtakers;

	for (unsigned tries = 0; away && tries < HOME_TRIES;) {
		began_ns = now_ns();
		overtakers = all_come_home(patience_ns);
		hook_run(HOOK_FORK_HOME, 0);
		/* What callbacks wait for may take as long again. */
		patience_ns = 2 * max(patience_ns, now_ns() - began_ns);
		moves = !stop_all_moving_out();
		away = moves || any_not_home();
		tries += !moves && !overtakers;
	}
	if (away)
		log_error("some pages did not come home: a forked child cannot use them");
}

/* This thread is in fork(). */
static _Thread_local __attribute__((tls_model("initial-exec"))) bool here;

bool fork_is_here(void)
{
	return here;
}

static void prepare(void)
{
	here = true;
	/* Besides the lock: no handler runs until fork() is over, it might fork too. */
	signals_hold();
	ctx_list_lock();
	/* What a callback is called for would never end. */
	if (notifier_in_callback()) {
		for (struct umm_ctx *ctx = ctx_list_first(); ctx; ctx = ctx->next)
			if (!ctx_is_forked(ctx))
				set_forking(ctx, FORK_MADE, 0);
		log_error("fork() from a callback: what is on devices is lost to the child");
	} else {
		be_at_home();
		hook_run(HOOK_FORK_PREPARED, 0);
	}
	hook_run(HOOK_FORK_BEGINS, 0);
}

static void parent(void)
{
	here = false;
	for (struct umm_ctx *ctx = ctx_list_first(); ctx; ctx = ctx->next) {
		if (!ctx_is_forked(ctx))
			set_forking(ctx, FORK_NONE, 0);
	}
	ctx_list_unlock();
	signals_let();
}

/* A block, whose lock others may have held; and its pages that are lost, or that a device kept. */
static void inherit_block(struct block *block)
{
	uint64_t lost[BITMAP_WORDS] = { 0 };
	unsigned first, last;

	lock_init(&block->lock, RANK_BLOCK);
	for (unsigned i = 0; i < UMM_BLOCK_PAGES; i++)
		if (is_away(block, i) || page_state(block, i) == PG_POISONED)
			bit_set(lost, i);
	for_each_run(lost, first, last)
		poison_inherited(page_addr(block, first), (size_t)(last - first) << UMM_PAGE_SHIFT);
}

static void inherit_blocks(struct umm_ctx *ctx)
{
	pool_fork_child(&ctx->blocks.leaf_pool);
	pool_fork_child(&ctx->blocks.pool);
	pool_fork_child(&ctx->blocks.resident_pool);
	pool_fork_child(&ctx->blocks.frames_pool);
	pool_fork_child(&ctx->blocks.few_pool);
	pool_fork_child(&ctx->blocks.pins_pool);
	for (size_t d = 0; d < DIR_SLOTS; d++) {
		struct block_leaf *leaf = atomic_load(&ctx->blocks.dir[d]);

		for (size_t s = 0; leaf && s < DIR_SLOTS; s++) {
			struct block *block = atomic_load(&leaf->block[s]);

			if (block)
				inherit_block(block);
		}
	}
}

static void child(void)
{
	struct umm_ctx *ctx;

	here = false;
	lock_forget_held();
	signals_after_fork();
	log_after_fork();
	handle_fork_child();
	ctx_list_reset();
	sigbus_after_fork();
	tracefile_fork_child();
	prefetch_fork_child();
	for (ctx = ctx_list_first(); ctx; ctx = ctx->next) {
		region_fork_child(ctx);
		device_fork_child(ctx);
		lock_fork_child(&ctx->mark_lock);
		hints_fork_child(&ctx->hints);
		/* Inherited from our parent, not from its parent: seal and close once. */
		if (ctx->uffd < 0)
			continue;
		inherit_blocks(ctx);
		close(ctx->uffd);
		ctx->uffd = -1;
		if (ctx->watch >= 0)
			close(ctx->watch);
		if (ctx->mark >= 0)
			close(ctx->mark);
		if (ctx->staging.uffd >= 0)
			close(ctx->staging.uffd);
	}
}

static pthread_once_t once = PTHREAD_ONCE_INIT;
static int installed;

static void install_once(void)
{
	installed = pthread_atfork(prepare, parent, child);
}

int fork_handlers_install(void)
{
	pthread_once(&once, install_once);
	return installed ? -ENOMEM : 0;
}
