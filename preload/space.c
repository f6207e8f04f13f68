/* SPDX-License-Identifier: MIT */
/*
 * Books of the address space that may be managed.
 *
 * Ranges are kept sorted in one array that lies in a mapping of its own: malloc is what calls
 * here. Looking is a binary search; adding and removing move the tail of the array, which is
 * cheap next to the system call that they go with. Neighbours of one kind are one range.
 *
 * The engine works without the lock, for it copies memory; it *holds* the range that it works
 * on, and whoever wants to change that part of the address space waits. The engine never holds a
 * range while it waits for a fork() (engine.c), so fork() may wait for these waiters.
 *
 * Invariants: ranges do not overlap and are sorted; bytes_of is the sum of each kind;
 * bounds cover all of them (they only grow).
 *
 * Locks: books_lock, innermost of the shim, and taken inside of jemalloc's: fork()'s handlers take
 * it last. Signals are blocked while it is held.
 */
#include "space.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "raw.h"

static pthread_mutex_t books_lock = PTHREAD_MUTEX_INITIALIZER;
/* Protects, by books_lock: everything down to held. */
static struct space_range *ranges;
static size_t nranges, capacity;
static bool is_held;
static uintptr_t held_start, held_end;
static pthread_cond_t held_changed = PTHREAD_COND_INITIALIZER;

static _Atomic uint64_t managed_ever; /* bytes that became SPACE_MANAGED */
static _Atomic bool pins_new;
static _Atomic uint64_t bytes_of[SPACE_NR_KINDS];
static _Atomic uintptr_t bound_start = UINTPTR_MAX, bound_end;

static uint64_t signals_block(void)
{
	uint64_t all = ~UINT64_C(0), old = 0;

	syscall(SYS_rt_sigprocmask, SIG_BLOCK, &all, &old, sizeof(all));
	return old;
}

static void signals_restore(uint64_t mask)
{
	syscall(SYS_rt_sigprocmask, SIG_SETMASK, &mask, NULL, sizeof(mask));
}

bool space_is_foreign(uintptr_t start, size_t len)
{
	return start + len <= atomic_load_explicit(&bound_start, memory_order_relaxed) ||
	       start >= atomic_load_explicit(&bound_end, memory_order_relaxed);
}

/* The first range that ends after addr. */
static size_t find(uintptr_t addr)
{
	size_t low = 0, high = nranges;

	while (low < high) {
		size_t middle = low + (high - low) / 2;

		if (ranges[middle].end <= addr)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

/* Room for two more: what an insertion into the middle of a range needs. */
static int reserve(void)
{
	size_t wanted = capacity ? 2 * capacity : 4096 / sizeof(*ranges);
	void *larger;

	if (nranges + 2 <= capacity)
		return 0;
	if (capacity)
		larger = raw_mremap(ranges, capacity * sizeof(*ranges), wanted * sizeof(*ranges),
				    MREMAP_MAYMOVE, NULL);
	else
		larger = raw_mmap(NULL, wanted * sizeof(*ranges), PROT_READ | PROT_WRITE,
				  MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (larger == MAP_FAILED)
		return -ENOMEM;
	ranges = larger;
	capacity = wanted;
	return 0;
}

static void count(const struct space_range *range, int sign)
{
	atomic_fetch_add(&bytes_of[range->kind],
			 (uint64_t)((intptr_t)(range->end - range->start) * sign));
}

static void insert_at(size_t i, struct space_range range)
{
	memmove(ranges + i + 1, ranges + i, (nranges - i) * sizeof(*ranges));
	ranges[i] = range;
	nranges++;
}

/* Cut start..end out. Where there is no memory to split a range, its tail is forgotten. */
static void cut(uintptr_t start, uintptr_t end)
{
	size_t i = find(start), gone;

	if (!nranges)
		return;
	if (i < nranges && ranges[i].start < start) {
		struct space_range tail = ranges[i];

		count(&ranges[i], -1);
		ranges[i].end = start;
		count(&ranges[i], 1);
		i++;
		if (tail.end > end) {
			tail.start = end;
			if (!reserve()) {
				insert_at(i, tail);
				count(&tail, 1);
			}
			return;
		}
	}
	for (gone = i; gone < nranges && ranges[gone].end <= end; gone++)
		count(&ranges[gone], -1);
	memmove(ranges + i, ranges + gone, (nranges - gone) * sizeof(*ranges));
	nranges -= gone - i;
	if (i < nranges && ranges[i].start < end) {
		count(&ranges[i], -1);
		ranges[i].start = end;
		count(&ranges[i], 1);
	}
}

static void bounds_grow(uintptr_t start, uintptr_t end)
{
	if (start < atomic_load(&bound_start))
		atomic_store(&bound_start, start);
	if (end > atomic_load(&bound_end))
		atomic_store(&bound_end, end);
}

static bool joins(const struct space_range *left, const struct space_range *right)
{
	return left->end == right->start && left->kind == right->kind;
}

int space_add_locked(uintptr_t start, size_t len, enum space_kind kind)
{
	struct space_range range = { .start = start, .end = start + len, .kind = kind };
	size_t i;

	cut(range.start, range.end);
	if (reserve())
		return -ENOMEM;
	bounds_grow(range.start, range.end);
	count(&range, 1);
	i = find(start);
	if (i && joins(&ranges[i - 1], &range)) {
		ranges[i - 1].end = range.end;
		i--;
	} else {
		insert_at(i, range);
	}
	if (i + 1 < nranges && joins(&ranges[i], &ranges[i + 1])) {
		ranges[i].end = ranges[i + 1].end;
		memmove(ranges + i + 1, ranges + i + 2, (nranges - i - 2) * sizeof(*ranges));
		nranges--;
	}
	return 0;
}

void space_remove_locked(uintptr_t start, size_t len)
{
	cut(start, start + len);
}

bool space_turn_locked(uintptr_t start, size_t len, enum space_kind from, enum space_kind to)
{
	uintptr_t end = start + len;
	bool any = false;

	for (size_t i = find(start); start < end && i < nranges && ranges[i].start < end;
	     i = find(start)) {
		uintptr_t first = ranges[i].start > start ? ranges[i].start : start;
		uintptr_t last = ranges[i].end < end ? ranges[i].end : end;

		if (ranges[i].kind == from && !space_add_locked(first, last - first, to)) {
			any = true;
			if (to == SPACE_MANAGED)
				atomic_fetch_add(&managed_ever, last - first);
		}
		start = last;
	}
	return any;
}

bool space_find_locked(uintptr_t addr, struct space_range *out)
{
	size_t i = find(addr);

	if (i == nranges || ranges[i].start > addr)
		return false;
	*out = ranges[i];
	return true;
}

uint64_t space_gone(void)
{
	return atomic_load(&managed_ever) - space_bytes(1 << SPACE_MANAGED);
}

void space_pin_new(bool pin)
{
	atomic_store(&pins_new, pin);
}

enum space_kind space_new_kind(void)
{
	return atomic_load(&pins_new) ? SPACE_PINNED : SPACE_NATIVE;
}

uint64_t space_bytes(unsigned kinds)
{
	uint64_t bytes = 0;

	for (unsigned i = 0; i < SPACE_NR_KINDS; i++)
		if (kinds & 1 << i)
			bytes += atomic_load_explicit(&bytes_of[i], memory_order_relaxed);
	return bytes;
}

static void wait_for_holder(uintptr_t start, uintptr_t end)
{
	while (is_held && held_start < end && start < held_end)
		pthread_cond_wait(&held_changed, &books_lock);
}

void space_change_begin(struct space_change *change, uintptr_t start, size_t len)
{
	change->sigmask = signals_block();
	pthread_mutex_lock(&books_lock);
	wait_for_holder(start, start + len);
}

void space_change_end(struct space_change *change)
{
	pthread_mutex_unlock(&books_lock);
	signals_restore(change->sigmask);
}

void space_enter(struct space_change *change)
{
	change->sigmask = signals_block();
	pthread_mutex_lock(&books_lock);
}

void space_leave(struct space_change *change)
{
	space_change_end(change);
}

bool space_next_locked(uintptr_t from, unsigned kinds, struct space_range *out)
{
	for (size_t i = find(from); i < nranges; i++) {
		if (!(kinds & 1 << ranges[i].kind))
			continue;
		*out = ranges[i];
		if (out->start < from)
			out->start = from;
		return true;
	}
	return false;
}

bool space_next(uintptr_t from, unsigned kinds, struct space_range *out)
{
	bool found;

	pthread_mutex_lock(&books_lock);
	found = space_next_locked(from, kinds, out);
	pthread_mutex_unlock(&books_lock);
	return found;
}

void space_hold(uintptr_t start, uintptr_t end)
{
	pthread_mutex_lock(&books_lock);
	is_held = true;
	held_start = start;
	held_end = end;
	pthread_cond_broadcast(&held_changed);
	pthread_mutex_unlock(&books_lock);
}

void space_release(void)
{
	pthread_mutex_lock(&books_lock);
	is_held = false;
	pthread_cond_broadcast(&held_changed);
	pthread_mutex_unlock(&books_lock);
}

void space_fork_prepare(void)
{
	pthread_mutex_lock(&books_lock);
}

void space_fork_parent(void)
{
	pthread_mutex_unlock(&books_lock);
}

void space_fork_child(void)
{
	pthread_mutex_init(&books_lock, NULL);
	pthread_cond_init(&held_changed, NULL);
	is_held = false;
}

void space_clear(void)
{
	nranges = 0;
	atomic_store(&managed_ever, 0);
	for (unsigned i = 0; i < SPACE_NR_KINDS; i++)
		atomic_store(&bytes_of[i], 0);
}
