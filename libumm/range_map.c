/* SPDX-License-Identifier: MIT */
/*
 * Ranges for devices that need more than a CPU address: each page of a range is made reachable by
 * the driver (pinned for its bus, registered with it, or staged in a buffer), and undone
 * as a whole if any page fails or the range changes meanwhile.
 *
 * Invariant: when umm_range_map() fails, every map that succeeded was followed by its unmap.
 * Locks: none.
 */
#include <errno.h>
#include <string.h>

#include "arena.h"
#include "log.h"
#include "notifier.h"
#include "range.h"
#include "util.h"

struct mapping {
	struct umm_range range;
	const struct umm_range_map_ops *ops;
	void *priv;
	uint64_t *daddrs;
	size_t npages;
	uint64_t *requests; /* a copy of entries[] where these say what is wanted; else NULL */
};

static void unmap_pages(const struct mapping *m, size_t npages, bool dirty)
{
	const struct umm_range *range = &m->range;

	for (size_t i = 0; i < npages; i++) {
		if (!(range->entries[i] & UMM_ENTRY_VALID))
			continue;
		m->ops->unmap(m->priv, range->start + (i << UMM_PAGE_SHIFT), m->daddrs[i],
			      dirty && range->entries[i] & UMM_ENTRY_WRITE);
		m->daddrs[i] = 0;
	}
}

/* How many, or -errno: then none is mapped. */
static long map_pages(const struct mapping *m)
{
	const struct umm_range *range = &m->range;
	long n = 0;
	int ret;

	for (size_t i = 0; i < m->npages; i++) {
		m->daddrs[i] = 0;
		if (!(range->entries[i] & UMM_ENTRY_VALID))
			continue;
		ret = m->ops->map(m->priv, range->start + (i << UMM_PAGE_SHIFT), range->entries[i],
				  &m->daddrs[i]);
		ret = log_bad_answer("map", ret);
		if (ret) {
			unmap_pages(m, i, false);
			return ret;
		}
		n++;
	}
	return n;
}

/* One attempt; -EBUSY: the range changed meanwhile. */
static long map_once(struct mapping *m, uint64_t deadline)
{
	uint64_t now = now_ns();
	long ret;

	if (m->requests)
		memcpy(m->range.entries, m->requests, m->npages * sizeof(*m->requests));
	m->range.seq = umm_notifier_read_begin(m->range.notifier);
	ret = umm_range_fault(&m->range,
			      now < deadline ? (unsigned)((deadline - now) / 1000000) : 0);
	if (ret >= 0)
		ret = map_pages(m);
	if (ret < 0 || !umm_notifier_read_retry(m->range.notifier, m->range.seq))
		return ret;
	unmap_pages(m, m->npages, false);
	return -EBUSY;
}

static int ops_check(const struct umm_range_map_ops *ops, struct umm_range_map_ops *mine)
{
	int ret = struct_in(mine, sizeof(*mine), ops);

	return ret ? ret : mine->map && mine->unmap ? 0 : -EINVAL;
}

static int mapping_init(struct mapping *m, const struct umm_range *range, uint64_t *daddrs)
{
	int ret = struct_in(&m->range, sizeof(m->range), range);

	if (ret)
		return ret;
	if (!daddrs || m->range.encoding)
		return -EINVAL;
	ret = range_bounds_check(&m->range);
	if (ret)
		return ret;
	m->range.size = sizeof(m->range);
	m->daddrs = daddrs;
	m->npages = (m->range.end - m->range.start) >> UMM_PAGE_SHIFT;
	return 0;
}

static int requests_keep(struct mapping *m)
{
	if (!m->range.flags_mask)
		return 0;
	m->requests = arena_map(m->npages * sizeof(*m->requests));
	if (!m->requests)
		return -ENOMEM;
	memcpy(m->requests, m->range.entries, m->npages * sizeof(*m->requests));
	return 0;
}

long umm_range_map(struct umm_range *range, const struct umm_range_map_ops *ops, void *priv,
		   uint64_t *daddrs, unsigned timeout_ms)
{
	uint64_t deadline = now_ns() + timeout_ms * UINT64_C(1000000);
	struct umm_range_map_ops mine;
	struct mapping m = { .ops = &mine, .priv = priv };
	long ret = ops_check(ops, &mine);

	if (!ret)
		ret = mapping_init(&m, range, daddrs);
	if (!ret)
		ret = requests_keep(&m);
	if (ret)
		return ret;
	do
		ret = map_once(&m, deadline);
	while (ret == -EBUSY && now_ns() < deadline);
	if (m.requests)
		arena_unmap(m.requests, m.npages * sizeof(*m.requests));
	if (ret >= 0)
		range->seq = m.range.seq;
	return ret;
}

int umm_range_unmap(struct umm_range *range, const struct umm_range_map_ops *ops, void *priv,
		    uint64_t *daddrs, uint64_t flags)
{
	struct umm_range_map_ops mine;
	struct mapping m = { .ops = &mine, .priv = priv };
	int ret = ops_check(ops, &mine);

	if (!ret && flags & ~(uint64_t)UMM_RANGE_UNMAP_DIRTY)
		ret = -EINVAL;
	if (!ret)
		ret = mapping_init(&m, range, daddrs);
	if (!ret)
		unmap_pages(&m, m.npages, flags & UMM_RANGE_UNMAP_DIRTY);
	return ret;
}
