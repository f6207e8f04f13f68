/* SPDX-License-Identifier: MIT */
/*
 * The map of hints: nodes of an interval tree, split where a range begins or ends inside of one,
 * merged again where neighbours say the same. Who reads it in passing has a cursor, which
 * remembers the stretch of addresses that it found last, gaps included.
 *
 * Invariants: nodes of one map do not overlap; a node has, or refuses, at least one attribute; a
 * memory or device that a node names is live.
 * Locks: hints->lock, of a rank below regions and blocks: the map follows what is unmapped and
 * moved, and is read while a block's pages are looked at. Nothing is called under it.
 */
#include "hint.h"

#include <errno.h>
#include <sched.h>
#include <string.h>

#include "device.h"
#include "region.h"
#include "util.h"

struct hint_node {
	struct itree_node node;
	struct hint_attrs attrs;
};

void hints_init(struct hints *hints)
{
	lock_init(&hints->lock, RANK_HINT);
	pool_init(&hints->pool, sizeof(struct hint_node), NULL);
}

void hints_fini(struct hints *hints)
{
	pool_fini(&hints->pool);
	lock_fini(&hints->lock);
}

static struct hint_node *node_of(struct itree_node *node)
{
	return node ? container_of(node, struct hint_node, node) : NULL;
}

static struct hint_node *node_first(const struct hint_map *map, uintptr_t start, uintptr_t end)
{
	return node_of(itree_first(&map->tree, start, end));
}

static void node_place(struct hint_map *map, struct hint_node *node, uintptr_t start, uintptr_t end)
{
	node->node.start = start;
	node->node.end = end;
	itree_insert(&map->tree, &node->node);
}

static void node_drop(struct hints *hints, struct hint_map *map, struct hint_node *node)
{
	itree_remove(&map->tree, &node->node);
	atomic_fetch_sub(&map->nnodes, 1);
	pool_free(&hints->pool, node);
}

static int node_add(struct hints *hints, struct hint_map *map, const struct umm_span *span,
		    const struct hint_attrs *attrs)
{
	struct hint_node *node = pool_alloc(&hints->pool);

	if (!node)
		return -ENOMEM;
	node->attrs = *attrs;
	node_place(map, node, span->start, span->start + span->len);
	atomic_fetch_add(&map->nnodes, 1);
	return 0;
}

/* No node goes over this address any more. */
static int split_at(struct hints *hints, struct hint_map *map, uintptr_t addr)
{
	struct hint_node *node = node_first(map, addr, addr + 1);
	struct umm_span upper;
	int ret;

	if (!node || node->node.start == addr)
		return 0;
	upper = (struct umm_span){ addr, node->node.end - addr };
	ret = node_add(hints, map, &upper, &node->attrs);
	if (ret)
		return ret;
	itree_remove(&map->tree, &node->node);
	node_place(map, node, node->node.start, addr);
	return 0;
}

static bool attrs_same(const struct hint_attrs *a, const struct hint_attrs *b)
{
	return a->set == b->set && a->refused == b->refused && a->order == b->order &&
	       a->readahead == b->readahead && a->thrash == b->thrash && a->devices == b->devices &&
	       a->mem == b->mem;
}

/* Neighbours at this address that say the same become one. */
static void merge_at(struct hints *hints, struct hint_map *map, uintptr_t addr)
{
	struct hint_node *low = addr ? node_first(map, addr - 1, addr) : NULL;
	struct hint_node *high = node_first(map, addr, addr + 1);
	uintptr_t start, end;

	if (!low || !high || low == high || !attrs_same(&low->attrs, &high->attrs))
		return;
	start = low->node.start;
	end = high->node.end;
	node_drop(hints, map, high);
	itree_remove(&map->tree, &low->node);
	node_place(map, low, start, end);
}

static bool says_nothing(const struct hint_attrs *attrs)
{
	return !attrs->set && !attrs->refused;
}

/* Where a hint with an argument comes or goes, so does what it says. */
static void attrs_change(struct hint_attrs *attrs, const struct hint_change *change)
{
	const struct hint_attrs *set = &change->set, *unset = &change->unset;

	attrs->devices = (attrs->devices & ~unset->devices) | set->devices;
	attrs->set &= ~unset->set;
	attrs->set |= set->set;
	attrs->refused &= (uint8_t) ~(set->set | unset->set);
	attrs->refused |= set->refused;
	if ((set->set | unset->set) & 1 << UMM_HINT_PREFERRED)
		attrs->mem = set->mem;
	if ((set->set | unset->set) & 1 << UMM_HINT_GRANULARITY)
		attrs->order = set->order;
	if ((set->set | unset->set) & 1 << UMM_HINT_READAHEAD)
		attrs->readahead = set->readahead;
	if ((set->set | unset->set) & 1 << UMM_HINT_THRASH)
		attrs->thrash = set->thrash;
	if (!attrs->devices)
		attrs->set &= ~(uint32_t)(1 << UMM_HINT_ACCESSED_BY);
}

/* Did they keep pages from devices that these may not? */
static bool attrs_kept_more(const struct hint_attrs *before, const struct hint_attrs *now)
{
	uint32_t gone = before->set & ~now->set;

	return gone & (1 << UMM_HINT_NO_MIGRATE | 1 << UMM_HINT_PREFERRED) ||
	       before->devices & ~now->devices ||
	       (hint_has(before, UMM_HINT_PREFERRED) && before->mem != now->mem);
}

/* Spans that follow each other are one; what there is no room for belongs to the last. */
static void ended_add(struct hint_change *change, uintptr_t start, uintptr_t end)
{
	struct umm_span *last = &change->ended[max(change->nended, 1u) - 1];

	if (change->nended && (change->nended == HINT_ENDED || last->start + last->len == start)) {
		last->len = end - last->start;
		return;
	}
	change->ended[change->nended++] = (struct umm_span){ start, end - start };
}

/* What nothing was said about is as usual; but of where prefetches went nothing is. */
static void add_usual(const struct hints *hints, const struct hint_map *map,
		      struct hint_attrs *attrs)
{
	const struct hint_attrs *usual = &hints->usual;
	uint32_t fresh = usual->set & ~(attrs->set | attrs->refused);

	if (map != &hints->advice)
		return;
	attrs->set |= fresh;
	if (fresh & 1 << UMM_HINT_GRANULARITY)
		attrs->order = usual->order;
	if (fresh & 1 << UMM_HINT_READAHEAD)
		attrs->readahead = usual->readahead;
	if (fresh & 1 << UMM_HINT_THRASH)
		attrs->thrash = usual->thrash;
}

/* Addresses of which other things are said now. */
static void note_ended(const struct hints *hints, const struct hint_map *map,
		       struct hint_change *change, const struct umm_span *span,
		       struct hint_attrs before, struct hint_attrs now)
{
	add_usual(hints, map, &before);
	add_usual(hints, map, &now);
	if (attrs_kept_more(&before, &now))
		ended_add(change, span->start, span->start + span->len);
}

static void node_change(const struct hints *hints, const struct hint_map *map,
			struct hint_node *node, struct hint_change *change)
{
	struct umm_span span = { node->node.start, node->node.end - node->node.start };
	const struct hint_attrs before = node->attrs;

	attrs_change(&node->attrs, change);
	note_ended(hints, map, change, &span, before, node->attrs);
}

static void bare_add(struct hint_change *change, uintptr_t start, uintptr_t end)
{
	if (!change->bare_end)
		change->bare_start = start;
	change->bare_end = end;
}

static int apply_locked(struct hints *hints, struct hint_map *map, const struct umm_span *span,
			struct hint_change *change)
{
	uintptr_t end = span->start + span->len, next;
	struct hint_attrs none = { 0 }, fresh = none;
	struct hint_node *node;
	struct umm_span gap;
	int ret = split_at(hints, map, span->start);

	if (!ret)
		ret = split_at(hints, map, end);
	attrs_change(&fresh, change);
	for (uintptr_t at = span->start; at < end && !ret; at = next) {
		node = node_first(map, at, end);
		gap = (struct umm_span){ at, (node ? node->node.start : end) - at };
		next = node ? node->node.end : end;
		if (node)
			node_change(hints, map, node, change);
		if (node && says_nothing(&node->attrs)) {
			bare_add(change, node->node.start, node->node.end);
			node_drop(hints, map, node);
		}
		if (gap.len && !says_nothing(&fresh))
			ret = node_add(hints, map, &gap, &fresh);
		if (gap.len && !ret)
			note_ended(hints, map, change, &gap, none, fresh);
		merge_at(hints, map, at);
		merge_at(hints, map, gap.start + gap.len);
	}
	merge_at(hints, map, end);
	return ret;
}

static int device_find(const struct hints *hints, const struct umm_device *dev)
{
	for (int n = 0; n < HINT_DEVICES; n++)
		if (hints->devices[n].dev == dev)
			return n;
	return -ENOENT;
}

/* The number of a device, a new one if it has none. */
static int device_number(struct hints *hints, struct umm_device *dev)
{
	int n = device_find(hints, dev);

	for (int k = 0; k < HINT_DEVICES && n < 0; k++)
		if (!hints->devices[k].dev && !hints->devices[k].calls)
			n = k;
	if (n < 0)
		return -ENOSPC;
	hints->devices[n].dev = dev;
	return n;
}

/*
 * What goes away closes its handle, and then has its name taken from the map:
 *
 *	hint_apply()			umm_devmem_remove(), umm_device_destroy()
 *	lock; open: named; unlock
 *					handle_close()
 *					hints_forget_mem(), _device(): lock; unnamed; unlock
 *	lock; closed: -ENODEV
 */
static int resolve_names(struct hints *hints, struct hint_change *change)
{
	int n = change->go ? device_find(hints, change->go) : -ENOENT;

	if (change->go)
		change->unset.devices = n < 0 ? 0 : UINT64_C(1) << n;
	if (change->set.mem && !handle_is_open(change->set.mem, HANDLE_DEVMEM))
		return -ENODEV;
	if (!change->come)
		return 0;
	if (!handle_is_open(change->come, HANDLE_DEVICE))
		return -ENODEV;
	n = device_number(hints, change->come);
	if (n < 0)
		return n;
	change->set.devices = UINT64_C(1) << n;
	return 0;
}

int hint_apply(struct hints *hints, struct hint_map *map, const struct umm_span *span,
	       struct hint_change *change)
{
	int ret;

	lock_take(&hints->lock);
	ret = resolve_names(hints, change);
	if (!ret)
		ret = apply_locked(hints, map, span, change);
	lock_drop(&hints->lock);
	return ret;
}

/* A split that finds no memory gives up the upper part, too: better no hint than a stale one. */
static void forget_locked(struct hints *hints, struct hint_map *map, uintptr_t start, uintptr_t end)
{
	struct hint_node *node;

	split_at(hints, map, start);
	split_at(hints, map, end);
	while ((node = node_first(map, start, end)))
		node_drop(hints, map, node);
}

static bool nothing_known(const struct hints *hints)
{
	return !atomic_load(&hints->advice.nnodes) && !atomic_load(&hints->targets.nnodes);
}

void hints_forget(struct hints *hints, uintptr_t start, uintptr_t end)
{
	if (nothing_known(hints))
		return;
	lock_take(&hints->lock);
	forget_locked(hints, &hints->advice, start, end);
	forget_locked(hints, &hints->targets, start, end);
	lock_drop(&hints->lock);
}

static void move_locked(struct hints *hints, struct hint_map *map, const struct umm_span *from,
			uintptr_t to)
{
	uintptr_t end = from->start + from->len, start;
	struct hint_node *node;

	forget_locked(hints, map, to, to + from->len);
	split_at(hints, map, from->start);
	split_at(hints, map, end);
	while ((node = node_first(map, from->start, end))) {
		start = max(node->node.start, from->start) - from->start + to;
		itree_remove(&map->tree, &node->node);
		node_place(map, node, start,
			   min(node->node.end, end) - max(node->node.start, from->start) + start);
	}
	merge_at(hints, map, to);
	merge_at(hints, map, to + from->len);
}

bool hints_within(struct hints *hints, uintptr_t start, uintptr_t end)
{
	bool any;

	lock_take(&hints->lock);
	any = node_first(&hints->advice, start, end) || node_first(&hints->targets, start, end);
	lock_drop(&hints->lock);
	return any;
}

void hints_move(struct hints *hints, uintptr_t from, uintptr_t to, size_t len)
{
	struct umm_span span = { from, len };

	if (nothing_known(hints))
		return;
	lock_take(&hints->lock);
	move_locked(hints, &hints->advice, &span, to);
	move_locked(hints, &hints->targets, &span, to);
	lock_drop(&hints->lock);
}

/* Whatever names the memory, or these devices, does so no longer. */
static void forget_names(struct hints *hints, struct hint_map *map, const struct umm_devmem *mem,
			 uint64_t devices)
{
	struct hint_change change = { .unset = { .devices = devices } };
	struct itree_node *at = itree_first(&map->tree, 0, ADDRESS_END), *next;
	struct hint_node *node;

	for (; at; at = next) {
		next = itree_next(at, 0, ADDRESS_END);
		node = node_of(at);
		change.unset.set = mem && node->attrs.mem == mem ? 1 << UMM_HINT_PREFERRED : 0;
		attrs_change(&node->attrs, &change);
		if (says_nothing(&node->attrs))
			node_drop(hints, map, node);
		else
			merge_at(hints, map, node->node.start);
	}
}

void hints_forget_mem(struct hints *hints, const struct umm_devmem *mem)
{
	lock_take(&hints->lock);
	forget_names(hints, &hints->advice, mem, 0);
	forget_names(hints, &hints->targets, mem, 0);
	lock_drop(&hints->lock);
}

void hints_forget_device(struct hints *hints, const struct umm_device *dev)
{
	int n;

	lock_take(&hints->lock);
	n = device_find(hints, dev);
	if (n >= 0) {
		forget_names(hints, &hints->advice, NULL, UINT64_C(1) << n);
		hints->devices[n].dev = NULL;
	}
	while (n >= 0 && hints->devices[n].calls) {
		lock_drop(&hints->lock);
		sched_yield();
		lock_take(&hints->lock);
	}
	lock_drop(&hints->lock);
}

void hints_fork_child(struct hints *hints)
{
	pool_fork_child(&hints->pool);
	if (lock_fork_child(&hints->lock)) {
		/* They are about devices, which a child has none of. */
		hints->advice = (struct hint_map){ 0 };
		hints->targets = (struct hint_map){ 0 };
	}
	for (int n = 0; n < HINT_DEVICES; n++)
		hints->devices[n].calls = 0;
}

int hint_device_number(struct hints *hints, const struct umm_device *dev)
{
	int n;

	lock_take(&hints->lock);
	n = device_find(hints, dev);
	lock_drop(&hints->lock);
	return n;
}

struct umm_device *hint_device_begin(struct hints *hints, unsigned number)
{
	struct umm_device *dev;

	lock_take(&hints->lock);
	dev = hints->devices[number].dev;
	hints->devices[number].calls += dev != NULL;
	lock_drop(&hints->lock);
	return dev;
}

void hint_device_end(struct hints *hints, unsigned number)
{
	lock_take(&hints->lock);
	hints->devices[number].calls--;
	lock_drop(&hints->lock);
}

const struct hint_attrs *hint_at(struct hint_cursor *cursor, uintptr_t addr)
{
	struct hint_node *node;

	if (addr >= cursor->start && addr < cursor->end)
		return &cursor->attrs;
	lock_take(&cursor->hints->lock);
	node = node_first(cursor->map, addr, ADDRESS_END);
	if (node && node->node.start <= addr) {
		cursor->attrs = node->attrs;
		cursor->end = node->node.end;
	} else {
		cursor->attrs = (struct hint_attrs){ 0 };
		cursor->end = node ? node->node.start : ADDRESS_END;
	}
	cursor->start = addr;
	lock_drop(&cursor->hints->lock);
	add_usual(cursor->hints, cursor->map, &cursor->attrs);
	return &cursor->attrs;
}
