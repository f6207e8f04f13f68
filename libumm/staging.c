/* SPDX-License-Identifier: MIT */
/*
 * Host frames in transit and kept for reuse.
 *
 * Moving a page needs a destination registered with a userfaultfd, and nothing
 * else costs so little. So RECYCLED is one window registered with a userfaultfd of
 * its own: it delivers no events, hence dropping its pages never waits for anybody. Nor
 * should it ever deliver a fault, since nobody touches a page that is not there.
 *
 * Invariants: avail bits of RECYCLED are pages present; of HUGE and SMALL also pages
 * that the kernel will back on the first write. avail and taken pages are disjoint.
 * cached is the number of avail bits in RECYCLED, at most `limit` but for a moment.
 * Slots behind the first nopen are not accessible, so that mlockall() does not fill them.
 * Locks: staging.lock; madvise() runs without it, opening slots (once each) does not.
 */
#include "staging.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

#include "log.h"
#include "mlocked.h"
#include "uffd.h"
#include "util.h"

#define SLOT_NIL      UINT32_MAX
#define TRANSIT_BYTES ((size_t)512 << 20) /* room for what is on its way */
#define FRESH_SLOTS   128
#define MIN_SLOTS     16
#define OPEN_SLOTS    4 /* at once */

static void list_remove(struct staging *staging, enum staging_kind kind, struct slot *slot)
{
	if (slot->list == SLOT_NONE)
		return;
	if (slot->prev != SLOT_NIL)
		staging->slots[kind][slot->prev].next = slot->next;
	else
		staging->head[kind][slot->list] = slot->next;
	if (slot->next != SLOT_NIL)
		staging->slots[kind][slot->next].prev = slot->prev;
	slot->list = SLOT_NONE;
}

static void list_insert(struct staging *staging, enum staging_kind kind, struct slot *slot,
			enum slot_list list)
{
	uint32_t me = (uint32_t)(slot - staging->slots[kind]);
	uint32_t *head = &staging->head[kind][list];

	slot->list = (uint8_t)list;
	slot->prev = SLOT_NIL;
	slot->next = *head;
	if (*head != SLOT_NIL)
		staging->slots[kind][*head].prev = me;
	*head = me;
}

/* Put a slot on the list that its pages say. */
static void slot_file(struct staging *staging, enum staging_kind kind, struct slot *slot)
{
	list_remove(staging, kind, slot);
	if (!slot->navail && !slot->nbusy && kind != STAGING_RECYCLED) {
		/* Consumed to the last page: the kernel will back it afresh. */
		memset(slot->avail, 0xff, sizeof(slot->avail));
		slot->navail = UMM_BLOCK_PAGES;
		slot->table = false;
	}
	if (slot->navail == UMM_BLOCK_PAGES)
		list_insert(staging, kind, slot, SLOT_FULL);
	else if (slot->navail)
		list_insert(staging, kind, slot, SLOT_PARTIAL);
	else if (!slot->nbusy)
		list_insert(staging, kind, slot, SLOT_EMPTY);
}

static uintptr_t slot_base(const struct staging *staging, enum staging_kind kind,
			   const struct slot *slot)
{
	return staging->base[kind] + (size_t)(slot - staging->slots[kind]) * UMM_BLOCK_SIZE;
}

static struct slot *slot_of(struct staging *staging, uintptr_t addr, enum staging_kind *kind)
{
	for (int k = 0; k < STAGING_KINDS; k++) {
		if (addr - staging->base[k] < staging->nslots[k] * UMM_BLOCK_SIZE) {
			*kind = (enum staging_kind)k;
			return &staging->slots[k][(addr - staging->base[k]) >> UMM_BLOCK_SHIFT];
		}
	}
	UMM_ASSERT(!"an address of a staging window");
	*kind = STAGING_RECYCLED;
	return NULL;
}

/* Reserve a 2 MiB aligned window, to be opened, that neither forks nor core dumps see. */
static uintptr_t window_map(size_t len)
{
	uintptr_t raw, base;
	void *map = mlocked_reserve(len + UMM_BLOCK_SIZE);

	if (!map)
		return 0;
	raw = (uintptr_t)map;
	base = align_up(raw, UMM_BLOCK_SIZE);
	if (base > raw)
		arena_unmap(map, base - raw);
	if (base - raw < UMM_BLOCK_SIZE)
		arena_unmap((void *)(base + len), UMM_BLOCK_SIZE - (base - raw));
	madvise((void *)base, len, MADV_DONTFORK);
	madvise((void *)base, len, MADV_DONTDUMP);
	return base;
}

/* Leave most of a limited address space to the program, and to our threads' stacks. */
static uint32_t slots_allowed(uint32_t nslots)
{
	struct rlimit limit;

	if (getrlimit(RLIMIT_AS, &limit) || limit.rlim_cur == RLIM_INFINITY)
		return nslots;
	return (uint32_t)max(min((rlim_t)nslots, limit.rlim_cur / 16 / UMM_BLOCK_SIZE),
			     (rlim_t)MIN_SLOTS);
}

/* A window of *nslots; of fewer where that is too much. */
static int window_reserve(uint32_t *nslots, uintptr_t *base)
{
	*nslots = slots_allowed(*nslots);
	while (!(*base = window_map(*nslots * UMM_BLOCK_SIZE))) {
		*nslots /= 2;
		if (*nslots < MIN_SLOTS)
			return -ENOMEM;
	}
	return 0;
}

/* Can slot i be used? Windows are opened from the front, as slots are taken. */
static bool slot_open(struct staging *staging, enum staging_kind kind, uint32_t i)
{
	uint32_t first = staging->nopen[kind], end;

	if (i < first)
		return true;
	end = min(align_up(i + 1, OPEN_SLOTS), staging->nslots[kind]);
	if (mlocked_open(staging->base[kind] + first * UMM_BLOCK_SIZE,
			 (end - first) * UMM_BLOCK_SIZE))
		return false;
	staging->nopen[kind] = end;
	return true;
}

static int window_init(struct staging *staging, enum staging_kind kind, uint32_t nslots)
{
	int ret = window_reserve(&nslots, &staging->base[kind]);

	if (ret)
		return ret;
	staging->nslots[kind] = nslots;
	staging->slots[kind] = arena_map(nslots * sizeof(struct slot));
	if (!staging->slots[kind])
		return -ENOMEM;
	madvise((void *)staging->base[kind], nslots * UMM_BLOCK_SIZE,
		kind == STAGING_SMALL ? MADV_NOHUGEPAGE : MADV_HUGEPAGE);
	for (int list = 0; list < SLOT_LISTS; list++)
		staging->head[kind][list] = SLOT_NIL;
	for (uint32_t i = nslots; i-- > 0;) {
		staging->slots[kind][i].list = SLOT_NONE;
		slot_file(staging, kind, &staging->slots[kind][i]);
	}
	/* The mapping is two from here on, and will not be more: to open slots moves the border. */
	return slot_open(staging, kind, 0) ? 0 : -ENOMEM;
}

int staging_init(struct staging *staging, uint64_t features, size_t cache_bytes)
{
	bool user_mode = !(features & UMM_KERNEL_SYSCALL_FAULTS);
	enum umm_uffd_access access;
	uint64_t mine;
	uint32_t recycled;
	int ret;

	lock_init(&staging->lock, RANK_STAGING);
	staging->uffd = -1;
	staging->most = staging->limit = cache_bytes >> UMM_PAGE_SHIFT;
	recycled = (uint32_t)((cache_bytes + TRANSIT_BYTES) >> UMM_BLOCK_SHIFT);
	ret = window_init(staging, STAGING_HUGE, FRESH_SLOTS);
	if (!ret)
		ret = window_init(staging, STAGING_SMALL, FRESH_SLOTS);
	if (ret || !(features & UMM_KERNEL_MOVE))
		return ret;
	ret = window_init(staging, STAGING_RECYCLED, recycled);
	if (ret)
		return ret;
	staging->uffd = uffd_open(user_mode ? UFFD_OPEN_USER_MODE : 0, &mine, &access);
	if (staging->uffd < 0)
		return staging->uffd;
	return uffd_register_missing(staging->uffd, staging->base[STAGING_RECYCLED],
				     staging->nslots[STAGING_RECYCLED] * UMM_BLOCK_SIZE);
}

int staging_window_open(struct staging *staging, uint32_t *nslots, uintptr_t *base)
{
	int ret = window_reserve(nslots, base);

	if (ret)
		return ret;
	ret = mlocked_open(*base, *nslots * UMM_BLOCK_SIZE);
	if (!ret && staging->uffd >= 0)
		ret = uffd_register_missing(staging->uffd, *base, *nslots * UMM_BLOCK_SIZE);
	else if (!ret)
		madvise((void *)*base, *nslots * UMM_BLOCK_SIZE, MADV_NOHUGEPAGE);
	if (ret)
		staging_window_close(*base, *nslots * UMM_BLOCK_SIZE);
	return ret;
}

void staging_window_close(uintptr_t base, size_t len)
{
	arena_unmap((void *)base, len);
}

void staging_fini(struct staging *staging)
{
	for (int kind = 0; kind < STAGING_KINDS; kind++) {
		size_t n = staging->nslots[kind];

		if (staging->base[kind])
			arena_unmap((void *)staging->base[kind], n * UMM_BLOCK_SIZE);
		arena_unmap(staging->slots[kind], n * sizeof(struct slot));
	}
	if (staging->uffd >= 0)
		close(staging->uffd);
	lock_fini(&staging->lock);
}

size_t staging_cached_bytes(struct staging *staging)
{
	size_t cached;

	lock_take(&staging->lock);
	cached = staging->cached;
	lock_drop(&staging->lock);
	return cached << UMM_PAGE_SHIFT;
}

size_t staging_bookkeeping(struct staging *staging)
{
	size_t n = 0;

	for (int kind = 0; kind < STAGING_KINDS; kind++)
		n += staging->nslots[kind] * sizeof(struct slot);
	return n;
}

static void avail_changed(struct staging *staging, enum staging_kind kind, long delta)
{
	if (kind == STAGING_RECYCLED)
		staging->cached += (size_t)delta;
}

/* Take everything a slot has and may have. */
static void slot_take_all(struct staging *staging, enum staging_kind kind, struct slot *slot)
{
	list_remove(staging, kind, slot);
	avail_changed(staging, kind, -(long)slot->navail);
	memset(slot->avail, 0, sizeof(slot->avail));
	slot->navail = 0;
	slot->nbusy = UMM_BLOCK_PAGES;
}

static struct slot *slot_first(struct staging *staging, enum staging_kind kind, enum slot_list list)
{
	uint32_t i;

	if (!staging->nslots[kind])
		return NULL;
	i = staging->head[kind][list];
	return i == SLOT_NIL || !slot_open(staging, kind, i) ? NULL : &staging->slots[kind][i];
}

/* Scattered pages may have left something in every slot: what is in one is given up for room. */
#define PARTIAL_TRIES 64

static struct slot *first_idle_partial(struct staging *staging)
{
	struct slot *slot = slot_first(staging, STAGING_RECYCLED, SLOT_PARTIAL);

	for (unsigned i = 0; slot && slot->nbusy; i++)
		slot = i < PARTIAL_TRIES && slot->next != SLOT_NIL ?
			       &staging->slots[STAGING_RECYCLED][slot->next] :
			       NULL;
	return slot;
}

uintptr_t staging_take_slot(struct staging *staging)
{
	struct slot *slot;
	bool clean;

	lock_take(&staging->lock);
	slot = slot_first(staging, STAGING_RECYCLED, SLOT_EMPTY);
	clean = slot && !slot->table;
	if (!slot)
		slot = slot_first(staging, STAGING_RECYCLED, SLOT_FULL);
	if (!slot)
		slot = first_idle_partial(staging);
	if (slot) {
		slot_take_all(staging, STAGING_RECYCLED, slot);
		slot->table = true;
	}
	lock_drop(&staging->lock);
	if (!slot)
		return 0;
	/* Drops pages, and the page table that would keep a huge page from moving in whole. */
	if (!clean)
		mlocked_drop(slot_base(staging, STAGING_RECYCLED, slot), UMM_BLOCK_SIZE);
	return slot_base(staging, STAGING_RECYCLED, slot);
}

void staging_give_slot(struct staging *staging, uintptr_t base, const uint64_t *present)
{
	enum staging_kind kind;
	struct slot *slot = slot_of(staging, base, &kind);
	unsigned n = bit_count(present);

	lock_take(&staging->lock);
	if (n && staging->cached + n > staging->limit) {
		lock_drop(&staging->lock);
		mlocked_drop(base, UMM_BLOCK_SIZE);
		lock_take(&staging->lock);
		n = 0;
	}
	slot->nbusy = 0;
	if (n) {
		memcpy(slot->avail, present, sizeof(slot->avail));
		slot->navail = (uint16_t)n;
		avail_changed(staging, kind, (long)n);
	}
	slot_file(staging, kind, slot);
	lock_drop(&staging->lock);
}

/* One piece of 512 pages; recycled if there is one. */
static bool take_whole(struct staging *staging, uintptr_t *pages, unsigned *recycled)
{
	enum staging_kind kind = STAGING_RECYCLED;
	struct slot *slot = slot_first(staging, kind, SLOT_FULL);

	if (!slot) {
		kind = STAGING_HUGE;
		slot = slot_first(staging, kind, SLOT_FULL);
	}
	if (!slot)
		return false;
	slot_take_all(staging, kind, slot);
	slot->table |= kind != STAGING_RECYCLED;
	for (unsigned i = 0; i < UMM_BLOCK_PAGES; i++)
		pages[i] = slot_base(staging, kind, slot) + ((uintptr_t)i << UMM_PAGE_SHIFT);
	if (kind == STAGING_RECYCLED)
		*recycled += UMM_BLOCK_PAGES;
	return true;
}

static unsigned take_from(struct staging *staging, enum staging_kind kind, struct slot *slot,
			  unsigned n, uintptr_t *pages)
{
	unsigned taken = 0, i = bit_next(slot->avail, 0);

	list_remove(staging, kind, slot);
	for (; i < UMM_BLOCK_PAGES && taken < n; i = bit_next(slot->avail, i + 1)) {
		bit_clear(slot->avail, i);
		pages[taken++] = slot_base(staging, kind, slot) + ((uintptr_t)i << UMM_PAGE_SHIFT);
	}
	slot->navail -= taken;
	slot->nbusy += taken;
	slot->table = true;
	avail_changed(staging, kind, -(long)taken);
	slot_file(staging, kind, slot);
	return taken;
}

/* Where single pages come from, in this order. */
static struct slot *next_source(struct staging *staging, enum staging_kind *kind)
{
	static const struct {
		enum staging_kind kind;
		enum slot_list list;
	} order[] = {
		{ STAGING_RECYCLED, SLOT_PARTIAL }, { STAGING_RECYCLED, SLOT_FULL },
		{ STAGING_SMALL, SLOT_PARTIAL },    { STAGING_SMALL, SLOT_FULL },
		{ STAGING_HUGE, SLOT_PARTIAL },	    { STAGING_HUGE, SLOT_FULL },
	};

	for (size_t i = 0; i < ARRAY_SIZE(order); i++) {
		struct slot *slot = slot_first(staging, order[i].kind, order[i].list);

		if (slot) {
			*kind = order[i].kind;
			return slot;
		}
	}
	return NULL;
}

int staging_take_pages(struct staging *staging, unsigned n, uintptr_t *pages, unsigned *recycled)
{
	enum staging_kind kind;
	struct slot *slot;
	unsigned taken = 0, got;

	*recycled = 0;
	lock_take(&staging->lock);
	if (n == UMM_BLOCK_PAGES && take_whole(staging, pages, recycled))
		taken = n;
	while (taken < n && (slot = next_source(staging, &kind))) {
		got = take_from(staging, kind, slot, n - taken, pages + taken);
		taken += got;
		if (kind == STAGING_RECYCLED)
			*recycled += got;
	}
	lock_drop(&staging->lock);
	if (taken == n)
		return 0;
	for (unsigned i = 0; i < taken; i++)
		staging_returned(staging, pages[i], 1);
	return -ENOMEM;
}

static void pages_done(struct staging *staging, uintptr_t page, unsigned n, bool consumed)
{
	enum staging_kind kind;
	struct slot *slot = slot_of(staging, page, &kind);
	unsigned first = page_index(page - staging->base[kind]);

	lock_take(&staging->lock);
	list_remove(staging, kind, slot);
	for (unsigned i = first; i < first + n && !consumed; i++)
		bit_set(slot->avail, i);
	slot->nbusy -= n;
	if (!consumed) {
		slot->navail += n;
		avail_changed(staging, kind, n);
	}
	slot_file(staging, kind, slot);
	lock_drop(&staging->lock);
}

void staging_consumed(struct staging *staging, uintptr_t page, unsigned n)
{
	pages_done(staging, page, n, true);
}

void staging_returned(struct staging *staging, uintptr_t page, unsigned n)
{
	pages_done(staging, page, n, false);
}

bool staging_copied(struct staging *staging, uintptr_t page)
{
	enum staging_kind kind;

	slot_of(staging, page, &kind);
	return kind == STAGING_RECYCLED &&
	       (atomic_fetch_add(&staging->copied, 1) + 1) % UMM_BLOCK_PAGES == 0;
}

static struct slot *first_idle(struct staging *staging)
{
	struct slot *slot = slot_first(staging, STAGING_RECYCLED, SLOT_FULL);

	return slot ? slot : first_idle_partial(staging);
}

/* The kernel gets the pages of a slot that was taken. */
static void slot_drop(struct staging *staging, const struct slot *slot)
{
	static const uint64_t none[BITMAP_WORDS];
	uintptr_t base = slot_base(staging, STAGING_RECYCLED, slot);

	mlocked_drop(base, UMM_BLOCK_SIZE);
	staging_give_slot(staging, base, none);
}

/* Take a slot whose pages the kernel may have; NULL: none has as few as were copied. */
static struct slot *take_to_drop(struct staging *staging)
{
	struct slot *slot;

	lock_take(&staging->lock);
	slot = first_idle(staging);
	/* Somebody had use for them. */
	if (!slot)
		atomic_store(&staging->copied, 0);
	else if (slot->navail > atomic_load(&staging->copied))
		slot = NULL;
	if (slot) {
		atomic_fetch_sub(&staging->copied, slot->navail);
		slot_take_all(staging, STAGING_RECYCLED, slot);
	}
	lock_drop(&staging->lock);
	return slot;
}

void staging_trim(struct staging *staging)
{
	struct slot *slot;

	while ((slot = take_to_drop(staging)))
		slot_drop(staging, slot);
}

/* Until no more than @most pages are kept. */
static size_t drop_recycled(struct staging *staging, size_t most)
{
	size_t npages = 0;
	struct slot *slot;

	for (;;) {
		lock_take(&staging->lock);
		slot = staging->cached > most ? first_idle(staging) : NULL;
		if (slot) {
			npages += slot->navail;
			slot_take_all(staging, STAGING_RECYCLED, slot);
		}
		lock_drop(&staging->lock);
		if (!slot)
			return npages;
		slot_drop(staging, slot);
	}
}

size_t staging_limit(struct staging *staging, size_t cache_bytes)
{
	size_t npages = min(cache_bytes >> UMM_PAGE_SHIFT, staging->most);

	lock_take(&staging->lock);
	staging->limit = npages;
	lock_drop(&staging->lock);
	return drop_recycled(staging, npages);
}

/* Nobody has a page of it, and some may be present. */
static unsigned take_used(struct staging *staging, enum staging_kind kind, struct slot *slot)
{
	unsigned n = 0;

	lock_take(&staging->lock);
	if (slot->table && !slot->nbusy && slot->navail) {
		n = slot->navail;
		slot_take_all(staging, kind, slot);
	}
	lock_drop(&staging->lock);
	return n;
}

/* What was copied from there, not moved, is present still. */
static size_t drop_used(struct staging *staging, enum staging_kind kind)
{
	size_t npages = 0;
	unsigned n;

	for (uint32_t i = 0; i < staging->nslots[kind]; i++) {
		struct slot *slot = &staging->slots[kind][i];

		n = take_used(staging, kind, slot);
		if (!n)
			continue;
		npages += n;
		mlocked_drop(slot_base(staging, kind, slot), UMM_BLOCK_SIZE);
		lock_take(&staging->lock);
		slot->nbusy = 0;
		slot_file(staging, kind, slot);
		lock_drop(&staging->lock);
	}
	return npages;
}

size_t staging_drop(struct staging *staging)
{
	return drop_recycled(staging, 0) + drop_used(staging, STAGING_HUGE) +
	       drop_used(staging, STAGING_SMALL);
}
