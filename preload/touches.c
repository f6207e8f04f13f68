/* SPDX-License-Identifier: MIT */
/*
 * Which pages came home because the program touched them.
 *
 * A notifier over the whole address space hears of every page that goes home, on the fault
 * server that serves it. It writes the address into a ring and returns; where the ring is full,
 * the address is dropped, for only guesses depend on it. The engine looks at the ring every
 * millisecond while there is something going on, and is woken at once by touches next to each
 * other, and by those of pages that it expects: then it may bring what follows before the program
 * gets there.
 *
 * Lock-free: writers take a slot by adding to head, and publish it by storing the address, which
 * is never 0; the one reader takes a published address and stores 0. Nothing here may allocate
 * or touch managed memory.
 */
#include "touches.h"

#include <errno.h>
#include <poll.h>
#include <stdatomic.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#include "raw.h"
#include "shim.h"
#include "trace.h"

#define PAGE ((uintptr_t)4096)

enum {
	SLOTS = 1 << 14,
	NEAR_PAGES = 4,
	EXPECTED = 64, /* pages whose touch wakes the engine */
};

static _Atomic uintptr_t ring[SLOTS];
static _Atomic unsigned head;
static unsigned tail; /* the reader's */
static _Atomic uintptr_t last;
static _Atomic bool sleeping;
static _Atomic bool called;
static _Atomic uintptr_t expected[EXPECTED]; /* by page number */
static _Atomic bool urgent;
static SHIM_TLS bool own;
static _Atomic uint64_t probes; /* that were touched, while they were aside */
static int event = -1;		/* readable when there is reason to look */

static void wake(void)
{
	uint64_t one = 1;

	if (atomic_exchange(&sleeping, false) && write(event, &one, sizeof(one)) < 0)
		return; /* full: it is readable */
}

void touches_call(void)
{
	atomic_store(&called, true);
	wake();
}

void touches_wait(uint64_t timeout_ns, int also_fd)
{
	struct timespec timeout = {
		.tv_sec = (time_t)(timeout_ns / 1000000000),
		.tv_nsec = (long)(timeout_ns % 1000000000),
	};
	struct pollfd fds[] = { { .fd = event, .events = POLLIN },
				{ .fd = also_fd, .events = POLLIN } };
	uint64_t n;

	atomic_store(&sleeping, true);
	if (atomic_load(&head) == tail && !atomic_exchange(&called, false))
		ppoll(fds, 2, &timeout, NULL);
	atomic_store(&sleeping, false);
	if (fds[0].revents && read(event, &n, sizeof(n)) < 0)
		return; /* somebody else's reason is gone: look all the same */
}

static _Atomic uintptr_t *expected_at(uintptr_t addr)
{
	return &expected[addr / PAGE % EXPECTED];
}

void touches_expect(uintptr_t addr)
{
	atomic_store(expected_at(addr), addr);
}

static void push(uintptr_t addr)
{
	unsigned at = atomic_fetch_add(&head, 1) % SLOTS;
	uintptr_t empty = 0;
	uintptr_t before = atomic_exchange(&last, addr);

	atomic_compare_exchange_strong(&ring[at], &empty, addr);
	if (atomic_load(expected_at(addr)) == addr)
		atomic_store(&urgent, true);
	else if (addr - before > NEAR_PAGES * PAGE)
		return;
	wake();
}

/* A change of a mapping, or pages that go home for a reason that is not known here. */
static void changed(const struct umm_notifier_range *range)
{
	trace_put((struct trace_event){
		.kind = TRACE_INVALIDATION,
		.detail = range->event,
		.addr = range->start,
		.len = range->end - range->start,
		.npages = (uint32_t)((range->end - range->start) / PAGE),
	});
}

static int invalidate(void *priv, const struct umm_notifier_range *range)
{
	bool migrates = range->event == UMM_EVENT_MIGRATE;
	bool is_probe = range->event == UMM_EVENT_EXCLUSIVE;

	(void)priv;
	if ((migrates && (range->owner || own)) || (is_probe && own))
		return 0;
	if (is_probe)
		atomic_fetch_add(&probes, 1);
	if (!migrates || range->end - range->start != PAGE) {
		changed(range);
		return 0;
	}
	push(range->start);
	trace_put((struct trace_event){
		.kind = TRACE_FAULT, .addr = range->start, .len = PAGE, .npages = 1 });
	return 0;
}

int touches_watch(struct umm_ctx *ctx)
{
	static const struct umm_notifier_ops ops = { .size = sizeof(ops),
						     .invalidate = invalidate };
	struct umm_span everything = { .start = 0, .len = (size_t)1 << 47 };
	struct umm_notifier *notifier;

	event = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (event < 0)
		return -errno;
	return umm_notifier_insert(ctx, &everything, &ops, NULL, &notifier);
}

bool touches_are_urgent(void)
{
	return atomic_load(&urgent);
}

bool touches_next(uintptr_t *addr)
{
	unsigned end;

	atomic_store(&urgent, false);
	end = atomic_load(&head);

	if (end - tail > SLOTS)
		tail = end - SLOTS;
	for (; tail != end; tail++) {
		*addr = atomic_exchange(&ring[tail % SLOTS], 0);
		if (*addr) {
			tail++;
			return true;
		}
	}
	return false;
}

uint64_t touches_of_probes(void)
{
	return atomic_load(&probes);
}

void touches_own(bool mine)
{
	own = mine;
}

void touches_reset(void)
{
	for (unsigned i = 0; i < SLOTS; i++)
		atomic_store(&ring[i], 0);
	for (unsigned i = 0; i < EXPECTED; i++)
		atomic_store(&expected[i], 0);
	tail = atomic_load(&head);
	atomic_store(&urgent, false);
	atomic_store(&probes, 0);
	if (event >= 0)
		raw_close(event);
	event = -1;
}
