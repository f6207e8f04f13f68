/* SPDX-License-Identifier: MIT */
/*
 * Contexts: opening and closing a managed address space, its allocations, and
 * the few things that all files share.
 *
 * Invariants: the context of a process works only in that process; in a forked
 * child (`owner` says so) it is a set of books over plain memory: allocations can be
 * made and freed, everything about devices is -ENODEV.
 * Locks: fork_lock and ctx->lock; that of attaching, while more memory becomes managed.
 */
#include "ctx.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/sysinfo.h>
#include <unistd.h>

#include "batch.h"
#include "cgroup.h"
#include "device.h"
#include "event.h"
#include "fork.h"
#include "hook.h"
#include "log.h"
#include "maps.h"
#include "mark.h"
#include "pagemap.h"
#include "pin.h"
#include "piece.h"
#include "prefetch.h"
#include "probe.h"
#include "sigbus.h"
#include "signals.h"
#include "tracefile.h"
#include "uffd.h"
#include "util.h"

/* What a driver has to finalize a migration. */
#define FINALIZE_NS UINT64_C(60000000000)

bool ctx_is_forked(const struct umm_ctx *ctx)
{
	return ctx->owner != getpid();
}

void ctx_pass_gate(struct umm_ctx *ctx)
{
	/* The child of a fork may have been born while somebody had it. */
	if (!rwlock_is_taken(&ctx->gate) || ctx_is_forked(ctx))
		return;
	rwlock_take_shared(&ctx->gate);
	rwlock_drop_shared(&ctx->gate);
}

void ctx_wake_block(struct umm_ctx *ctx, uintptr_t va)
{
	UMM_ASSERT(!(va & BLOCK_MASK));
	if (ctx->in_thread)
		ctx_settled(ctx);
	else
		uffd_wake(ctx->uffd, va, UMM_BLOCK_SIZE);
}

/* May one begin that has waited since began_ns, or not at all yet (0)? */
static bool move_out_may_begin(struct umm_ctx *ctx, uint64_t began_ns) UMM_REQUIRES(&ctx->fork_lock)
{
	if (ctx->forking != FORK_WAITS)
		return ctx->forking == FORK_NONE;
	if (!began_ns || now_ns() - began_ns < ctx->fork_patience_ns)
		return false;
	ctx->overtakers++;
	return true;
}

void ctx_move_out_begin(struct umm_ctx *ctx)
{
	uint64_t began_ns = 0, patience_ns;
	bool may, sleeps;
	uint32_t seen;

	for (;;) {
		seen = ctx_settle_count(ctx);
		lock_take(&ctx->fork_lock);
		may = move_out_may_begin(ctx, began_ns);
		ctx->moving_out += may;
		patience_ns = ctx->forking == FORK_WAITS ? ctx->fork_patience_ns : FORK_NS;
		lock_drop(&ctx->fork_lock);
		if (may)
			return;
		if (!began_ns)
			began_ns = now_ns();
		sleeps = worker_sleeps(began_ns);
		ctx_settle_wait(ctx, seen, now_ns() + patience_ns);
		if (sleeps)
			worker_wakes();
	}
}

void ctx_move_out_end(struct umm_ctx *ctx)
{
	bool last;

	lock_take(&ctx->fork_lock);
	last = --ctx->moving_out == 0 && ctx->forking;
	lock_drop(&ctx->fork_lock);
	if (last)
		ctx_settled(ctx);
}

void ctx_collect_home_begin(struct umm_ctx *ctx)
{
	uint32_t seen;
	bool may;

	for (;;) {
		seen = ctx_settle_count(ctx);
		lock_take(&ctx->fork_lock);
		may = ctx->forking != FORK_MADE || fork_is_here();
		ctx->collecting_home += may;
		lock_drop(&ctx->fork_lock);
		if (may)
			return;
		ctx_settle_wait(ctx, seen, now_ns() + FORK_NS);
	}
}

void ctx_collect_home_end(struct umm_ctx *ctx)
{
	bool last;

	lock_take(&ctx->fork_lock);
	last = --ctx->collecting_home == 0 && ctx->forking == FORK_MADE;
	lock_drop(&ctx->fork_lock);
	if (last)
		ctx_settled(ctx);
}

void ctx_count(struct umm_ctx *ctx, struct umm_device *dev, uintptr_t addr, unsigned counter,
	       uint64_t n)
{
	stats_add(&ctx->stats, counter, n);
	if (dev)
		stats_add(&dev->stats, counter, n);
	region_count(ctx, addr, counter, n);
}

size_t ctx_bookkeeping_bytes(struct umm_ctx *ctx)
{
	return handle_bytes() + blocks_bytes(&ctx->blocks) + regions_bytes(&ctx->regions) +
	       atomic_load(&ctx->hints.pool.mapped) +
	       atomic_load(&ctx->notifiers.active_pool.mapped) +
	       atomic_load(&ctx->notifiers.late_pool.mapped) +
	       atomic_load(&ctx->changes.pool.mapped) + atomic_load(&ctx->piece_pool.mapped) +
	       atomic_load(&ctx->workers.pool.mapped) + atomic_load(&ctx->movers.pool.mapped) +
	       atomic_load(&ctx->admit.waiting.pool.mapped) + staging_bookkeeping(&ctx->staging) +
	       devices_bytes(ctx) + sizeof(*ctx->damp.thrash);
}

static size_t default_frame_cache(void)
{
	struct sysinfo info;
	uint64_t ram;

	if (sysinfo(&info))
		return UMM_BLOCK_SIZE * 32;
	/* A container's share of a machine may be small. */
	ram = min((uint64_t)info.totalram * info.mem_unit, cgroup_memory_limit());
	return align_down((size_t)(ram / 16), UMM_BLOCK_SIZE);
}

/* Everything that needs no kernel object. -ENOMEM: nothing was done. */
static int ctx_init(struct umm_ctx *ctx)
{
	int ret = blocks_init(&ctx->blocks);

	if (ret)
		return ret;
	atomic_store(&ctx->refs, 1);
	ctx->owner = getpid();
	ctx->uffd = -1;
	ctx->watch = -1;
	ctx->mark = -1;
	lock_init(&ctx->lock, RANK_CTX);
	rwlock_init(&ctx->gate, RANK_GATE);
	lock_init(&ctx->fork_lock, RANK_FORK);
	lock_init(&ctx->expect_lock, RANK_LEAF);
	lock_init(&ctx->mark_lock, RANK_MARK);
	regions_init(&ctx->regions);
	hints_init(&ctx->hints);
	hints_from_environment(&ctx->hints);
	notifiers_init(&ctx->notifiers);
	pool_init(&ctx->piece_pool, sizeof(struct piece), NULL);
	lock_init(&ctx->pieces_lock, RANK_LEAF);
	changes_init(&ctx->changes);
	return 0;
}

static void ctx_fini(struct umm_ctx *ctx)
{
	blocks_fini(&ctx->blocks);
	changes_fini(&ctx->changes);
	lock_fini(&ctx->pieces_lock);
	pool_fini(&ctx->piece_pool);
	notifiers_fini(&ctx->notifiers);
	hints_fini(&ctx->hints);
	regions_fini(&ctx->regions);
	lock_fini(&ctx->mark_lock);
	lock_fini(&ctx->expect_lock);
	lock_fini(&ctx->fork_lock);
	rwlock_fini(&ctx->gate);
	lock_fini(&ctx->lock);
}

/* Pass an error on, and say what failed. */
static int failed(int ret, const char *what)
{
	if (ret)
		log_error("no context: %s: %s; raise 'ulimit -n' (files), 'ulimit -v' (address "
			  "space), 'ulimit -u' (threads) or the sysctl vm.max_map_count (mappings)",
			  what, ret == -EAGAIN ? "no thread can be started" : umm_strerror(ret));
	return ret;
}

static void say_why_refused(int err)
{
	struct umm_probe_info info = { .size = sizeof(info) };

	if (umm_probe(&info) || !info.advice[0])
		log_error("userfaultfd is not available: %s", umm_strerror(err));
	else
		log_error("%s", info.advice);
}

/* Open what the process may perhaps not open later, and say what it may not open now. */
static void open_proc(void)
{
	int ret = maps_open();

	if (ret)
		log_warning("/proc/self/maps cannot be opened: devices can use no memory; %s",
			    ret == -EACCES ? "create the first context before setresuid(), or call "
					     "prctl(PR_SET_DUMPABLE, 1) after it" :
			    ret == -ENOMEM ? "raise 'ulimit -n' or close files" :
					     "mount /proc");
	if (pagemap_open() == -EACCES)
		log_warning("this process may not read its own /proc/self/pagemap: memory that "
			    "was never touched counts as touched; create the first context before "
			    "setresuid(), or call prctl(PR_SET_DUMPABLE, 1) after it");
}

static int ctx_open_kernel(struct umm_ctx *ctx, const struct umm_ctx_options *options)
{
	bool user_mode = options->kernel_features_off & UMM_KERNEL_SYSCALL_FAULTS;
	enum umm_uffd_access access;

	ctx->uffd = uffd_open(UFFD_OPEN_EVENTS | (user_mode ? UFFD_OPEN_USER_MODE : 0) |
				      (ctx->in_thread ? UFFD_OPEN_SIGBUS : 0),
			      &ctx->features, &access);
	if (ctx->uffd < 0) {
		say_why_refused(ctx->uffd);
		return ctx->uffd;
	}
	if (access == UMM_UFFD_USER_MODE_ONLY && !user_mode)
		log_warning("userfaultfd in user mode only: system calls on memory that is on a "
			    "device fail with EFAULT; see 'umm info'");
	open_proc();
	if (maps_has_query())
		ctx->features |= UMM_KERNEL_PROCMAP_QUERY;
	if (pagemap_has_scan())
		ctx->features |= UMM_KERNEL_PAGEMAP_SCAN;
	ctx->features &= ~options->kernel_features_off;
	/* Without it nobody tells when files are unmapped, but an interposer. */
	ctx->watch = ctx->features & UMM_KERNEL_PAGEMAP_SCAN ? uffd_open_watch() : -EOPNOTSUPP;
	if (ctx->watch == -ENOMEM)
		return failed(-ENOMEM, "a userfaultfd for files");
	ctx->mark = uffd_open_mark();
	return ctx->mark == -ENOMEM ? failed(-ENOMEM, "a userfaultfd for hinted memory") : 0;
}

static void ctx_close_kernel(struct umm_ctx *ctx)
{
	if (ctx->watch >= 0)
		close(ctx->watch);
	if (ctx->mark >= 0)
		close(ctx->mark);
	if (ctx->uffd >= 0)
		close(ctx->uffd);
}

#define FEATURES_REQUIRED (UMM_KERNEL_UFFD_WP | UMM_KERNEL_UFFD_EVENTS)
#define FEATURES_OPTIONAL                                                \
	(UMM_KERNEL_MOVE | UMM_KERNEL_POISON | UMM_KERNEL_PAGEMAP_SCAN | \
	 UMM_KERNEL_PROCMAP_QUERY | UMM_KERNEL_SYSCALL_FAULTS)

static int options_check(const struct umm_ctx_options *options)
{
	uint64_t off = options->kernel_features_off;

	if (options->flags & ~(uint64_t)(UMM_CTX_WHOLE_PROCESS | UMM_CTX_FAULTS_IN_THREAD) ||
	    options->reserved || options->fault_servers > 1024)
		return -EINVAL;
	if (off & ~(uint64_t)(FEATURES_REQUIRED | FEATURES_OPTIONAL) || readahead_check(options) ||
	    damp_check(options) || !devmem_order_is_known(options->evict_order))
		return -EINVAL;
	return off & FEATURES_REQUIRED ? -EOPNOTSUPP : 0;
}

static int ctx_open(struct umm_ctx *ctx, const struct umm_ctx_options *options)
{
	size_t cache = options->frame_cache ? options->frame_cache : default_frame_cache();
	int ret;

	if (!pool_reserve(&ctx->piece_pool) || !handle_reserve(HANDLE_FENCE))
		return failed(-ENOMEM, "memory to serve faults");
	ret = ctx_open_kernel(ctx, options);
	if (ret)
		goto err_kernel;
	ret = failed(damp_init(ctx, options), "memory for pages that thrash");
	if (ret)
		goto err_kernel;
	ret = failed(staging_init(&ctx->staging, ctx->features, cache), "memory for copies");
	if (ret)
		goto err_staging;
	ret = failed(workers_start(&ctx->workers, ctx, WORK_THREADS, "umm-worker"),
		     "threads for migrations");
	if (ret)
		goto err_staging;
	ret = failed(workers_start(&ctx->movers, ctx, 1, "umm-mover"),
		     "a thread for requests with a fence");
	if (ret)
		goto err_workers;
	ret = failed(readahead_start(ctx, options), "a thread for what is prefetched");
	if (ret)
		goto err_movers;
	ctx->failed = options->failed;
	ctx->failed_priv = options->failed_priv;
	ctx->evict_order = options->evict_order;
	ret = failed(admit_start(ctx, options), "a thread for faults that wait for room");
	if (ret)
		goto err_readahead;
	ret = failed(keeper_start(ctx), "a thread that starts threads");
	if (ret)
		goto err_admit;
	ret = failed(servers_start(ctx, options->fault_servers), "fault servers");
	if (ret)
		goto err_keeper;
	ret = ctx->in_thread ? sigbus_open(ctx) : 0;
	if (ret)
		goto err_servers;
	watchdog_init(&ctx->watchdog, options->finalize_ns ? options->finalize_ns : FINALIZE_NS);
	return 0;

err_servers:
	servers_stop(ctx);
err_keeper:
	keeper_stop(ctx);
err_admit:
	admit_stop(ctx);
err_readahead:
	readahead_stop(ctx);
	readahead_fini(ctx);
err_movers:
	workers_stop(&ctx->movers);
err_workers:
	workers_stop(&ctx->workers);
err_staging:
	staging_fini(&ctx->staging);
	damp_fini(ctx);
err_kernel:
	ctx_close_kernel(ctx);
	return ret;
}

static int ctx_create(const struct umm_ctx_options *options, struct umm_ctx **out)
{
	struct umm_ctx_options mine = { .size = sizeof(mine) };
	struct umm_ctx *ctx;
	int ret = 0;

	if (options)
		ret = struct_in(&mine, sizeof(mine), options);
	if (!ret)
		ret = options_check(&mine);
	if (!ret)
		ret = failed(fork_handlers_install(), "memory for the handlers of fork()");
	if (ret)
		return ret;
	tracefile_from_environment();
	ctx = handle_new(HANDLE_CTX);
	if (!ctx)
		return failed(-ENOMEM, "memory for its books");
	ret = failed(ctx_init(ctx), "memory for its books");
	if (ret)
		goto err_free;
	ctx->whole_process = mine.flags & UMM_CTX_WHOLE_PROCESS;
	ctx->in_thread = mine.flags & UMM_CTX_FAULTS_IN_THREAD;
	ret = ctx_open(ctx, &mine);
	if (ret)
		goto err_fini;
	handle_publish(ctx, HANDLE_CTX);
	ctx_list_add(ctx);
	*out = ctx;
	return 0;

err_fini:
	ctx_fini(ctx);
err_free:
	handle_free(ctx, HANDLE_CTX);
	return ret;
}

int umm_ctx_create(const struct umm_ctx_options *options, struct umm_ctx **out)
{
	int cancel, ret;

	if (!out)
		return -EINVAL;
	cancel = cancel_hold();
	ret = ctx_create(options, out);
	cancel_let(cancel);
	return ret;
}

struct umm_ctx *umm_ctx_get(struct umm_ctx *ctx)
{
	if (!ctx_valid(ctx))
		return NULL;
	atomic_fetch_add(&ctx->refs, 1);
	return ctx;
}

bool ctx_tell_failed(struct umm_ctx *ctx, struct umm_devmem *mem, int error, size_t nlost)
{
	if (ctx->failed)
		ctx->failed(ctx->failed_priv, mem, error, nlost);
	return ctx->failed;
}

bool ctx_is_lost(struct umm_ctx *ctx, const char *call)
{
	if (ctx_is_forked(ctx) || !servers_lost(ctx))
		return false;
	log_error("%s: the program has closed descriptors that it did not open; what is left "
		  "stays as it is, and pages that were on devices are lost",
		  call);
	return true;
}

static void release_all(struct umm_ctx *ctx)
{
	uintptr_t base;
	bool attached;

	while (region_first_alloc(ctx, &base, &attached)) {
		if (attached)
			umm_detach(ctx, (void *)base);
		else
			umm_free(ctx, (void *)base);
	}
}

/* A forked child: the parent's threads and descriptors are not ours, locks may be theirs. */
static void ctx_close_forked(struct umm_ctx *ctx)
{
	while (ctx->devices)
		umm_device_destroy(ctx->devices);
	release_all(ctx);
	ctx_list_remove(ctx);
	handle_abandon(ctx);
}

/* Nobody has it any more. */
static void ctx_close(struct umm_ctx *ctx)
{
	if (ctx_is_forked(ctx)) {
		ctx_close_forked(ctx);
		return;
	}
	if (ctx_is_lost(ctx, "umm_ctx_put")) {
		ctx_list_remove(ctx);
		handle_abandon(ctx);
		return;
	}
	prefetch_cancel(ctx, NULL);
	pins_close(ctx);
	notifiers_close(ctx);
	while (ctx->devices)
		umm_device_destroy(ctx->devices);
	release_all(ctx);
	watchdog_fini(&ctx->watchdog);
	readahead_stop(ctx);
	keeper_stop(ctx);
	admit_stop(ctx);
	workers_stop(&ctx->movers);
	workers_stop(&ctx->workers);
	notifiers_release(ctx);
	ctx_list_remove(ctx);
	if (ctx->in_thread)
		sigbus_close(ctx);
	servers_stop(ctx);
	readahead_fini(ctx);
	damp_fini(ctx);
	staging_fini(&ctx->staging);
	ctx_close_kernel(ctx);
	ctx_fini(ctx);
	handle_free(ctx, HANDLE_CTX);
}

void umm_ctx_put(struct umm_ctx *ctx)
{
	int cancel;

	if (!ctx_valid(ctx) || atomic_fetch_sub(&ctx->refs, 1) != 1)
		return;
	if (notifier_refuses("the last umm_ctx_put")) {
		atomic_fetch_add(&ctx->refs, 1);
		return;
	}
	/* Callbacks that run while it closes may take references, and drop them. */
	if (!handle_close(ctx, HANDLE_CTX))
		return;
	cancel = cancel_hold();
	ctx_close(ctx);
	cancel_let(cancel);
}

/* Reserve address space, aligned to a block where the length makes that useful. */
static uintptr_t reserve(size_t len)
{
	size_t slack = len >= UMM_BLOCK_SIZE ? UMM_BLOCK_SIZE : 0;
	uintptr_t raw, base;
	void *map = mmap(NULL, len + slack, PROT_READ | PROT_WRITE,
			 MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	if (map == MAP_FAILED)
		return 0;
	raw = (uintptr_t)map;
	base = slack ? align_up(raw, UMM_BLOCK_SIZE) : raw;
	if (base > raw)
		arena_unmap(map, base - raw);
	if (slack > base - raw)
		arena_unmap((void *)(base + len), slack - (base - raw));
	return base;
}

int umm_alloc(struct umm_ctx *ctx, size_t len, uint64_t flags, void **out)
{
	uintptr_t base;
	int ret;

	if (!ctx_valid(ctx) || !len || !out || flags & ~(uint64_t)UMM_ALLOC_SMALL_PAGES)
		return -EINVAL;
	if (len > ADDRESS_END)
		return -EINVAL;
	len = align_up(len, UMM_PAGE_SIZE);
	base = reserve(len);
	if (!base)
		return -ENOMEM;
	if (len >= UMM_BLOCK_SIZE)
		madvise((void *)base, len,
			flags & UMM_ALLOC_SMALL_PAGES ? MADV_NOHUGEPAGE : MADV_HUGEPAGE);
	/* The kernel hands addresses out again before we have cleaned up after their last use. */
	if (!ctx_is_forked(ctx))
		change_wait(ctx, base, base + len);
	ret = region_add(ctx, base, base + len, false, true);
	if (ret) {
		arena_unmap((void *)base, len);
		return ret;
	}
	*out = (void *)base;
	return 0;
}

/* Pages of one piece stop being managed, and their contents go. */
static void free_piece(struct umm_ctx *ctx, const struct umm_span *piece)
{
	if (!ctx_is_forked(ctx)) {
		event_free(ctx, piece);
		mark_unregister(ctx, piece);
	}
	arena_unmap((void *)piece->start, piece->len);
}

/*
 * Pages of one piece come home, pinned or not, and stop being managed: plain memory afterwards. A
 * migration that has chosen them before may take them away again in between: so until none is left.
 * 0 or -EIO.
 */
static int detach_piece(struct umm_ctx *ctx, const struct umm_span *piece,
			struct patience *patience)
{
	int ret = 0;

	if (ctx_is_forked(ctx))
		return 0;
	do {
		ctx_still_waiting(patience, piece->start);
		event_unpin(ctx, piece->start, piece->start + piece->len);
		if (migrate_home(ctx, piece, ctx_waited_enough(ctx, patience)) == -EIO)
			ret = -EIO;
		hook_run(HOOK_DETACHING, piece->start);
	} while (!event_unmanage(ctx, piece->start, piece->start + piece->len));
	return ret;
}

int umm_free(struct umm_ctx *ctx, void *addr)
{
	struct umm_span piece;
	struct alloc *rest;

	if (!ctx_valid(ctx))
		return -EINVAL;
	if (!addr)
		return 0;
	if (notifier_in_callback())
		return -EDEADLK;
	ctx_pass_gate(ctx);
	if (!region_release(ctx, (uintptr_t)addr, false, &piece, &rest))
		return -EFAULT;
	do {
		region_await(ctx, &piece);
		free_piece(ctx, &piece);
	} while (region_pop(ctx, &piece, &rest));
	return 0;
}

/* Memory of the usual kinds without a hole? 0; -EFAULT a hole; -EINVAL no. */
static int attach_check(struct umm_ctx *ctx, uintptr_t start, uintptr_t end)
{
	struct maps_vma vma;
	int ret;

	if (start >= end || end > ADDRESS_END)
		return -EINVAL;
	for (uintptr_t at = start; at < end; at = vma.end) {
		ret = maps_find(at, ctx->features & UMM_KERNEL_PROCMAP_QUERY, &vma);
		if (ret && ret != -ENOENT)
			return ret;
		if (ret || vma.start > at)
			return -EFAULT;
		if (vma.special)
			return -EINVAL;
	}
	return 0;
}

int ctx_check_mappings(struct umm_ctx *ctx, uintptr_t start, uintptr_t end, bool writable)
{
	struct maps_vma vma;
	int ret;

	if (start >= end || end > ADDRESS_END)
		return -EINVAL;
	for (uintptr_t at = start; at < end; at = vma.end) {
		ret = maps_find(at, ctx->features & UMM_KERNEL_PROCMAP_QUERY, &vma);
		if (ret && ret != -ENOENT)
			return ret;
		if (ret || vma.start > at)
			return -EFAULT;
		if (!vma.anon || vma.shared || (writable && !(vma.read && vma.write)))
			return -EINVAL;
	}
	return 0;
}

static int attach_locked(struct umm_ctx *ctx, uintptr_t start, uintptr_t end)
{
	if (ctx_any_pool(start, end))
		return -EINVAL;
	if (ctx_others_manage(ctx, start, end))
		return -EEXIST;
	return region_add(ctx, start, end, true, false);
}

int umm_attach(struct umm_ctx *ctx, void *addr, size_t len)
{
	uintptr_t start = (uintptr_t)addr;
	int ret;

	if (!ctx_valid(ctx) || !addr || !len || !is_aligned(start | len, UMM_PAGE_SIZE))
		return -EINVAL;
	ret = attach_check(ctx, start, start + len);
	if (ret)
		return ret;
	if (!ctx_is_forked(ctx))
		change_wait(ctx, start, start + len);
	hook_run(HOOK_ATTACHING, start);
	ctx_attach_lock();
	ret = attach_locked(ctx, start, start + len);
	ctx_attach_unlock();
	return ret;
}

/* Manage what lies in start .. end of one mapping; what is not ours to manage is left alone. */
static int attach_mapping(struct umm_ctx *ctx, uintptr_t start, uintptr_t end)
{
	int ret = 0;

	if (region_refresh(ctx, start, end))
		return 0;
	change_wait(ctx, start, end);
	ctx_attach_lock();
	if (!ctx_any_pool(start, end) && !ctx_others_manage(ctx, start, end))
		ret = region_fill(ctx, start, end);
	ctx_attach_unlock();
	return ret;
}

int ctx_attach_asked(struct umm_ctx *ctx, uintptr_t start, uintptr_t end)
{
	struct maps_vma vma;
	int ret = 0;

	if (!ctx->whole_process || ctx_is_forked(ctx))
		return 0;
	ctx_pass_gate(ctx);
	for (uintptr_t at = start; at < end && !ret; at = vma.end) {
		ret = maps_find(at, ctx->features & UMM_KERNEL_PROCMAP_QUERY, &vma);
		if (ret || vma.start >= end)
			return ret == -ENOENT ? 0 : ret;
		if (!vma.special)
			ret = attach_mapping(ctx, max(vma.start, at), min(vma.end, end));
	}
	return ret;
}

int umm_detach(struct umm_ctx *ctx, void *addr)
{
	struct patience patience = { 0 };
	struct umm_span piece;
	struct alloc *rest;
	int ret = 0;

	if (!ctx_valid(ctx))
		return -EINVAL;
	if (notifier_in_callback())
		return -EDEADLK;
	ctx_pass_gate(ctx);
	if (!region_release(ctx, (uintptr_t)addr, true, &piece, &rest))
		return -EFAULT;
	do {
		region_await(ctx, &piece);
		if (detach_piece(ctx, &piece, &patience))
			ret = -EIO;
	} while (region_pop(ctx, &piece, &rest));
	return ret;
}
