/* SPDX-License-Identifier: MIT */
/*
 * Fault servers. One thread per CPU (bounded) polls the userfaultfd; being pinned
 * there, the one next to the faulting thread usually wins, and the page is
 * brought home without a wake-up across CPUs. Servers ask for nice -20: a server that waits
 * for its CPU is what makes slow faults.
 *
 * A server must always come back to reading, since the program may be stopped in
 * munmap() until somebody reads. So it never calls a device that might sleep or take
 * a lock of the program's (malloc's, over a fork): only devices created with
 * UMM_DEVICE_INLINE_COPY are called here; the rest, and callbacks that
 * would have to sleep, go to the workers.
 *
 * Invariant: every fault that was read ends in an installed page, a poisoned one, a
 * wake-up, or as a waiter of a piece or reaper that wakes it at its end.
 * Locks: gate shared, then the block's.
 */
#include "fault.h"

#include <errno.h>
#include <poll.h>
#include <sched.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "event.h"
#include "hook.h"
#include "log.h"
#include "piece.h"
#include "uapi.h"
#include "uffd.h"
#include "util.h"

static const char zero_page[UMM_PAGE_SIZE] __attribute__((aligned(4096)));

static void count(struct umm_ctx *ctx, struct umm_device *dev, const struct uffd_msg_info *info,
		  unsigned counter)
{
	ctx_count(ctx, dev, info->addr, counter, 1);
}

static void wake(struct umm_ctx *ctx, const struct uffd_msg_info *info)
{
	uffd_wake(ctx->uffd, info->addr, UMM_PAGE_SIZE);
}

/* A zeroed page. Writes get a page of their own at once, reads the kernel's zero page. */
static int fill(struct umm_ctx *ctx, const struct uffd_msg_info *info)
{
	if (info->write)
		return uffd_copy(ctx->uffd, info->addr, zero_page, UMM_PAGE_SIZE, true, NULL);
	return uffd_zeropage(ctx->uffd, info->addr, UMM_PAGE_SIZE, true, NULL);
}

enum serve {
	SERVE_DONE,
	SERVE_WAKE,   /* resolved by somebody else: just wake it */
	SERVE_AGAIN,  /* an event has to be read first */
	SERVE_HOME,   /* bring the page home */
	SERVE_POISON, /* end in SIGBUS */
};

/* What the fault is counted as goes to *counter: counting takes a lock of a lower rank. */
static enum serve serve_fill(struct umm_ctx *ctx, struct block *block,
			     const struct uffd_msg_info *info, unsigned *counter)
{
	unsigned i = page_index(info->addr);
	int ret;

	if (info->wp) {
		/* A protection that outlived its reason. */
		ret = uffd_writeprotect(ctx->uffd, info->addr, UMM_PAGE_SIZE, false, true);
		return ret == -EAGAIN ? SERVE_AGAIN : ret ? SERVE_WAKE : SERVE_DONE;
	}
	ret = fill(ctx, info);
	if (ret == -EAGAIN)
		return SERVE_AGAIN;
	if (block && !ret && page_state(block, i) == PG_EMPTY)
		page_set(block, i, PG_SYSTEM);
	*counter = ret ? UMM_COUNT_FAULT_SPURIOUS : UMM_COUNT_FAULT_EMPTY;
	return ret ? SERVE_WAKE : SERVE_DONE;
}

/* The page is on its way, or its frames are being given back. */
static enum serve serve_moving(struct umm_ctx *ctx, struct block *block,
			       const struct uffd_msg_info *info, unsigned *counter)
{
	unsigned i = page_index(info->addr);
	int ret;

	if (page_state(block, i) == PG_MIGRATING && block->page[i] & PG_COLLECT && !info->wp) {
		ret = fill(ctx, info);
		if (ret == -EAGAIN)
			return SERVE_AGAIN;
		if (ret)
			return SERVE_WAKE;
		block->page[i] |= PG_REFILLED;
		block->page[i] &= (uint8_t)~PG_DISCARD;
		return SERVE_DONE;
	}
	block->waiters = true;
	*counter = UMM_COUNT_FAULT_WAIT;
	return SERVE_DONE;
}

static enum serve serve_locked(struct umm_ctx *ctx, struct block *block,
			       const struct uffd_msg_info *info, unsigned *counter)
{
	unsigned i = page_index(info->addr);

	if (!block)
		return serve_fill(ctx, NULL, info, counter);
	switch (page_state(block, i)) {
	case PG_MIGRATING:
	case PG_REAPING:
		return serve_moving(ctx, block, info, counter);
	case PG_DEVICE:
		if (block->page[i] & PG_GONE)
			return serve_moving(ctx, block, info, counter);
		return SERVE_HOME;
	case PG_DUPLICATED:
		return info->wp ? SERVE_HOME : serve_fill(ctx, block, info, counter);
	case PG_POISONED:
		return SERVE_POISON;
	default:
		return serve_fill(ctx, block, info, counter);
	}
}

/* Without UFFDIO_POISON: a mapping whose every touch is a SIGBUS. May sleep; no lock held. */
static void poison_by_mapping(struct umm_ctx *ctx, uintptr_t addr)
{
	struct expect expect;
	int fd = (int)syscall(SYS_memfd_create, "umm-poison", 1u /* MFD_CLOEXEC */);

	event_expect(ctx, &expect, addr, addr + UMM_PAGE_SIZE);
	if (fd < 0 || mmap((void *)addr, UMM_PAGE_SIZE, PROT_READ | PROT_WRITE,
			   MAP_SHARED | MAP_FIXED, fd, 0) == MAP_FAILED)
		log_error("cannot poison the page at %#lx", (unsigned long)addr);
	event_expect_end(ctx, &expect);
	if (fd >= 0)
		close(fd);
}

/* Returns false when it has to be done where one may sleep. */
static bool serve_poison(struct umm_ctx *ctx, const struct uffd_msg_info *info, bool blockable)
{
	int ret = 0;

	if (ctx->features & UMM_KERNEL_POISON) {
		while ((ret = uffd_poison(ctx->uffd, info->addr, UMM_PAGE_SIZE)) == -EAGAIN)
			event_pump(ctx);
	} else if (blockable) {
		poison_by_mapping(ctx, info->addr);
	} else {
		return false;
	}
	count(ctx, NULL, info, UMM_COUNT_FAULT_ERROR);
	wake(ctx, info);
	return true;
}

/*
 * The device that has the page; *inlined: servers may call every device concerned.
 */
static struct umm_device *home_device(struct umm_ctx *ctx, uintptr_t addr, bool *inlined)
{
	struct block *block = block_find(ctx, addr);
	struct umm_device *dev = NULL;

	*inlined = true;
	if (!block)
		return NULL;
	for (struct resident *resident = block->residents; resident; resident = resident->next) {
		if (!bit_test(resident->bitmap, page_index(addr)))
			continue;
		dev = resident->mem->dev;
		*inlined &= dev->inline_copy;
	}
	lock_drop(&block->lock);
	return dev;
}

/*
 * Bring one page home. Returns false when it has to be done where one may sleep. A fault
 * that lost a race is woken, and comes again if it still has reason to.
 */
static bool serve_home(struct umm_ctx *ctx, const struct uffd_msg_info *info, bool blockable)
{
	bool inlined;
	struct umm_device *dev = home_device(ctx, info->addr, &inlined);
	uint64_t page[BITMAP_WORDS] = { 0 };
	struct piece_want want = {
		.va = info->addr & ~BLOCK_MASK,
		.pages = page,
		.select = UMM_MIGRATE_SELECT_PRIVATE | UMM_MIGRATE_SELECT_COHERENT,
		.cause = UMM_CAUSE_CPU_FAULT,
		.blockable = blockable,
	};
	struct piece_found found;
	struct piece *piece;
	int ret;

	if (!inlined && !blockable)
		return false;
	bit_set(page, page_index(info->addr));
	piece = piece_collect(ctx, &want, &found, &ret);
	if (!piece) {
		if (ret == -EAGAIN && !blockable)
			return false;
		wake(ctx, info);
		return true;
	}
	count(ctx, dev, info, info->wp ? UMM_COUNT_FAULT_WRITE : UMM_COUNT_FAULT_DEVICE);
	piece_unmap(piece);
	piece_copy(piece);
	return true;
}

static enum serve serve_once(struct umm_ctx *ctx, const struct uffd_msg_info *info)
{
	unsigned counter = UMM_NR_COUNTERS;
	struct block *block;
	enum serve serve;

	rwlock_take_shared(&ctx->gate);
	block = block_find(ctx, info->addr);
	serve = serve_locked(ctx, block, info, &counter);
	if (block)
		lock_drop(&block->lock);
	rwlock_drop_shared(&ctx->gate);
	if (counter < UMM_NR_COUNTERS)
		count(ctx, NULL, info, counter);
	return serve;
}

/* Resolve one fault; false: has to be done where one may sleep. */
static bool fault_serve(struct umm_ctx *ctx, const struct uffd_msg_info *info, bool blockable)
{
	for (;;) {
		switch (serve_once(ctx, info)) {
		case SERVE_AGAIN:
			stats_add(&ctx->stats, UMM_COUNT_RETRIES, 1);
			event_pump(ctx);
			continue;
		case SERVE_WAKE:
			wake(ctx, info);
			return true;
		case SERVE_HOME:
			return serve_home(ctx, info, blockable);
		case SERVE_POISON:
			return serve_poison(ctx, info, blockable);
		case SERVE_DONE:
			return true;
		}
	}
}

static void fault_work(struct umm_ctx *ctx, const struct work *work)
{
	struct uffd_msg_info info = {
		.kind = UFFD_FAULT, .addr = work->addr, .write = work->write, .wp = work->wp,
	};
	uint64_t began = now_ns();

	fault_serve(ctx, &info, true);
	stats_add(&ctx->stats, UMM_COUNT_FAULT_NS, now_ns() - began);
}

void fault_defer(struct umm_ctx *ctx, const struct uffd_msg_info *info)
{
	struct work work = {
		.fn = fault_work, .addr = info->addr, .write = info->write, .wp = info->wp,
	};

	stats_add(&ctx->stats, UMM_COUNT_DEFERRED, 1);
	/* Without memory to queue it: let it fault again, later. */
	if (workers_queue(&ctx->workers, &work)) {
		sched_yield();
		wake(ctx, info);
	}
}

/* Read until there is nothing more. */
static void serve_all(struct umm_ctx *ctx)
{
	struct uffd_msg_info info;
	uint64_t began;
	bool again;
	int ret;

	for (;;) {
		began = now_ns();
		ret = event_read(ctx, &info, &again);
		if (again)
			continue;
		if (ret <= 0)
			return;
		hook_run(HOOK_FAULT_READ, info.addr);
		if (!fault_serve(ctx, &info, false))
			fault_defer(ctx, &info);
		stats_add(&ctx->stats, UMM_COUNT_FAULT_NS, now_ns() - began);
	}
}

/* This server's share of the CPUs that the process may use: neighbours, by number. */
static void server_pin(const struct servers *servers, unsigned number)
{
	cpu_set_t allowed, mine;
	unsigned n, k = 0;

	if (sched_getaffinity(0, sizeof(allowed), &allowed))
		return;
	n = (unsigned)CPU_COUNT(&allowed);
	CPU_ZERO(&mine);
	for (unsigned cpu = 0; cpu < CPU_SETSIZE; cpu++) {
		if (!CPU_ISSET(cpu, &allowed))
			continue;
		if (k * servers->wanted / n == number % servers->wanted)
			CPU_SET(cpu, &mine);
		k++;
	}
	if (CPU_COUNT(&mine))
		sched_setaffinity(0, sizeof(mine), &mine);
}

static void server_prioritise(unsigned number)
{
	if (setpriority(PRIO_PROCESS, (id_t)gettid(), -20) && number == 0)
		log_info("fault servers run at normal priority: faults are slow while all CPUs "
			 "are busy; allow it with CAP_SYS_NICE or 'ulimit -e 40'");
}

static void *server_main(void *arg)
{
	struct umm_ctx *ctx = arg;
	struct pollfd fds[2] = {
		{ .fd = ctx->uffd, .events = POLLIN },
		{ .fd = ctx->servers.stop_fd, .events = POLLIN },
	};
	unsigned number = atomic_fetch_add(&ctx->servers.started, 1);

	server_pin(&ctx->servers, number);
	server_prioritise(number);
	while (!fds[1].revents) {
		if (poll(fds, 2, -1) < 0)
			continue;
		serve_all(ctx);
	}
	return NULL;
}

static unsigned servers_default(void)
{
	cpu_set_t allowed;

	if (sched_getaffinity(0, sizeof(allowed), &allowed))
		return 2;
	return min((unsigned)CPU_COUNT(&allowed), (unsigned)MAX_SERVERS);
}

int servers_start(struct umm_ctx *ctx, unsigned wanted)
{
	struct servers *servers = &ctx->servers;
	int ret;

	servers->wanted = wanted ? min(wanted, (unsigned)MAX_SERVERS) : servers_default();
	servers->stop_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (servers->stop_fd < 0)
		return -ENOMEM;
	while (servers->nthreads < servers->wanted) {
		ret = thread_start(&servers->threads[servers->nthreads], server_main, ctx,
				   "umm-fault");
		if (ret) {
			servers_stop(ctx);
			return ret;
		}
		servers->nthreads++;
	}
	return 0;
}

void servers_stop(struct umm_ctx *ctx)
{
	uint64_t one = 1;

	if (write(ctx->servers.stop_fd, &one, sizeof(one)) < 0)
		log_error("cannot stop the fault servers");
	for (unsigned i = 0; i < ctx->servers.nthreads; i++)
		pthread_join(ctx->servers.threads[i], NULL);
	ctx->servers.nthreads = 0;
	close(ctx->servers.stop_fd);
}
