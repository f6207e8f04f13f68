/* SPDX-License-Identifier: MIT */
/*
 * umm_advise() and umm_query_spans(): hints as the program sees them. The map itself is hint.c's,
 * what it means for pages heed.c's.
 *
 * Locks: none of its own.
 */
#include <errno.h>
#include <string.h>

#include "device.h"
#include "heed.h"
#include "log.h"
#include "mark.h"
#include "util.h"

static uint32_t hint_bit(enum umm_hint hint)
{
	return UINT32_C(1) << hint;
}

/* A hint takes its own argument only, and none where it ends; ACCESSED_BY may name its device. */
static int arguments_check(struct umm_ctx *ctx, const struct umm_advice *advice)
{
	bool unset = advice->flags & UMM_ADVICE_UNSET;

	if (advice->order && (unset || advice->hint != UMM_HINT_GRANULARITY))
		return -EINVAL;
	if (advice->mem && (unset || advice->hint != UMM_HINT_PREFERRED))
		return -EINVAL;
	if (advice->dev && advice->hint != UMM_HINT_ACCESSED_BY)
		return -EINVAL;
	if (advice->order > ORDER_MOST || (unsigned)advice->readahead > UMM_READAHEAD_STREAM)
		return -EINVAL;
	if (!advice->readahead != (unset || advice->hint != UMM_HINT_READAHEAD))
		return -EINVAL;
	if ((unsigned)advice->thrash > UMM_THRASH_THROTTLE ||
	    !advice->thrash != (unset || advice->hint != UMM_HINT_THRASH))
		return -EINVAL;
	if (advice->mem && (!devmem_valid(advice->mem) || advice->mem->ctx != ctx))
		return -EINVAL;
	if (advice->dev && (!device_valid(advice->dev) || advice->dev->ctx != ctx))
		return -EINVAL;
	if (advice->hint != UMM_HINT_ACCESSED_BY || unset)
		return 0;
	if (!advice->dev)
		return -EINVAL;
	return advice->dev->in_place ? 0 : -EOPNOTSUPP;
}

static int advice_check(struct umm_ctx *ctx, const struct umm_advice *advice)
{
	if (advice->flags & ~(uint64_t)UMM_ADVICE_UNSET || !advice->spans || !advice->nspans ||
	    (unsigned)advice->hint >= UMM_NR_HINTS)
		return -EINVAL;
	for (size_t i = 0; i < advice->nspans; i++)
		if (!span_is_good(&advice->spans[i]))
			return -EINVAL;
	if (ctx_is_forked(ctx))
		return -ENODEV;
	if (notifier_in_callback())
		return -EDEADLK;
	return arguments_check(ctx, advice);
}

static int spans_check(struct umm_ctx *ctx, const struct umm_advice *advice)
{
	struct umm_span pages, run, next;
	uintptr_t at, end;
	int ret;

	for (size_t i = 0; i < advice->nspans; i++) {
		pages = span_pages(&advice->spans[i]);
		at = pages.start;
		end = at + pages.len;
		ret = ctx_attach_asked(ctx, at, end);
		if (ret)
			return ret;
		if (region_next_run(ctx, at, end, &run) && run.start == at)
			at += run.len;
		if (at < end)
			return log_unmanaged("umm_advise", at,
					     region_next(ctx, at, end, &next) ? next.start : end);
	}
	return 0;
}

/* What it comes to in the map. That a hint ends is kept where it would be as usual otherwise. */
static struct hint_change change_of(const struct umm_advice *advice, const struct hint_attrs *usual)
{
	bool unset = advice->flags & UMM_ADVICE_UNSET;
	struct hint_attrs attrs = { .order = (uint8_t)advice->order,
				    .readahead = (uint8_t)advice->readahead,
				    .thrash = (uint8_t)advice->thrash,
				    .mem = advice->mem };
	struct hint_change change = { 0 };

	*(unset ? &change.go : &change.come) = advice->dev;
	if (advice->hint == UMM_HINT_ACCESSED_BY && !advice->dev)
		attrs.devices = UINT64_MAX;
	/* ACCESSED_BY ends with the last device. An order of 0 is what there is without a hint. */
	if (!unset || advice->hint != UMM_HINT_ACCESSED_BY)
		attrs.set = hint_bit(advice->hint);
	if (advice->hint == UMM_HINT_GRANULARITY && !advice->order)
		unset = true;
	*(unset ? &change.unset : &change.set) = attrs;
	change.set.refused = (uint8_t)(change.unset.set & usual->set);
	return change;
}

int umm_advise(struct umm_ctx *ctx, const struct umm_advice *advice)
{
	struct hint_change change;
	struct umm_advice mine;
	struct umm_span pages;
	int ret;

	if (!ctx_valid(ctx))
		return -EINVAL;
	ret = struct_in(&mine, sizeof(mine), advice);
	if (!ret)
		ret = advice_check(ctx, &mine);
	if (ret)
		return ret;
	ctx_pass_gate(ctx);
	ret = spans_check(ctx, &mine);
	change = change_of(&mine, &ctx->hints.usual);
	for (size_t i = 0; i < mine.nspans && !ret; i++) {
		pages = span_pages(&mine.spans[i]);
		change.nended = 0;
		change.bare_end = 0;
		ret = mark_hint(ctx, &ctx->hints.advice, &pages, &change);
		for (unsigned k = 0; k < change.nended; k++)
			heed_ended(ctx, &change.ended[k]);
		if (!ret && change.set.devices)
			heed_accessed(ctx, pages.start, pages.start + pages.len,
				      change.set.devices);
	}
	return ret;
}

/* What all pages so far have, and what some have. */
struct summary {
	struct hint_attrs all;
	uint32_t some; /* bits: 1 << enum umm_hint */
	uint32_t differ;
	bool begun;
};

static void summary_add(struct summary *summary, const struct hint_attrs *attrs)
{
	struct hint_attrs *all = &summary->all;

	if (!summary->begun)
		*all = *attrs;
	summary->begun = true;
	summary->some |= attrs->set;
	if (attrs->mem != all->mem)
		summary->differ |= hint_bit(UMM_HINT_PREFERRED);
	if (attrs->order != all->order)
		summary->differ |= hint_bit(UMM_HINT_GRANULARITY);
	if (attrs->readahead != all->readahead)
		summary->differ |= hint_bit(UMM_HINT_READAHEAD);
	if (attrs->thrash != all->thrash)
		summary->differ |= hint_bit(UMM_HINT_THRASH);
	if (attrs->devices != all->devices)
		summary->differ |= hint_bit(UMM_HINT_ACCESSED_BY);
	all->devices &= attrs->devices;
	all->set &= attrs->set;
}

static void query_devices(struct umm_ctx *ctx, uint64_t devices, struct umm_span_info *out)
{
	struct umm_device *dev;

	for (; devices; devices &= devices - 1) {
		dev = hint_device_begin(&ctx->hints, (unsigned)__builtin_ctzll(devices));
		if (!dev)
			continue;
		if (out->ndevices < UMM_SPAN_DEVICES)
			out->devices[out->ndevices] = dev;
		out->ndevices++;
		hint_device_end(&ctx->hints, (unsigned)__builtin_ctzll(devices));
	}
}

/* What is not managed has none, whatever is usual. */
static struct summary summary_of(struct umm_ctx *ctx, const struct umm_span *pages)
{
	struct hint_cursor cursor = { .hints = &ctx->hints, .map = &ctx->hints.advice };
	static const struct hint_attrs none;
	uintptr_t at = pages->start, end = at + pages->len, managed;
	struct summary summary = { 0 };
	struct umm_span piece;

	while (at < end) {
		if (!region_next(ctx, at, end, &piece))
			piece = (struct umm_span){ .start = end };
		if (piece.start > at)
			summary_add(&summary, &none);
		managed = piece.start + piece.len;
		for (at = piece.start; at < managed; at = cursor.end)
			summary_add(&summary, hint_at(&cursor, at));
		at = managed;
	}
	return summary;
}

static void query_hints(struct umm_ctx *ctx, const struct umm_span *pages,
			struct umm_span_info *out)
{
	struct summary summary = summary_of(ctx, pages);

	out->hints = summary.all.set & ~summary.differ;
	out->mixed = summary.some & ~(uint32_t)out->hints;
	if (out->hints & hint_bit(UMM_HINT_PREFERRED))
		out->preferred = summary.all.mem;
	if (out->hints & hint_bit(UMM_HINT_GRANULARITY))
		out->order = summary.all.order;
	if (out->hints & hint_bit(UMM_HINT_READAHEAD))
		out->readahead = (enum umm_readahead)summary.all.readahead;
	if (out->hints & hint_bit(UMM_HINT_THRASH))
		out->thrash = (enum umm_thrash)summary.all.thrash;
	query_devices(ctx, summary.all.devices, out);
}

/* Where all of it was last to be prefetched. */
static void query_target(struct umm_ctx *ctx, const struct umm_span *pages,
			 struct umm_span_info *out)
{
	struct hint_cursor cursor = { .hints = &ctx->hints, .map = &ctx->hints.targets };
	uintptr_t at = pages->start, end = pages->start + pages->len;
	const struct umm_devmem *mem = hint_at(&cursor, at)->mem;

	out->prefetched = 1;
	for (; at < end; at = cursor.end)
		out->prefetched &= hint_at(&cursor, at)->set && cursor.attrs.mem == mem;
	if (out->prefetched)
		out->target = (struct umm_devmem *)mem;
}

static int query_piece(struct umm_ctx *ctx, const struct umm_span *piece, struct umm_span_info *out)
{
	struct umm_page_info info[64];
	uintptr_t at = piece->start, end = piece->start + piece->len;
	size_t n;
	int ret;

	for (; at < end; at += n << UMM_PAGE_SHIFT) {
		n = min((size_t)ARRAY_SIZE(info), (end - at) >> UMM_PAGE_SHIFT);
		ret = umm_query(ctx, at, n, info);
		if (ret)
			return ret;
		for (size_t i = 0; i < n; i++)
			out->state[info[i].state]++;
	}
	return 0;
}

/* What is not managed is passed in one step. */
static int query_residency(struct umm_ctx *ctx, const struct umm_span *pages,
			   struct umm_span_info *out)
{
	uintptr_t at = pages->start, end = pages->start + pages->len;
	struct umm_span piece;
	int ret = 0;

	for (; at < end && !ret; at = piece.start + piece.len) {
		if (!region_next(ctx, at, end, &piece))
			piece = (struct umm_span){ .start = end };
		out->state[UMM_PAGE_UNMANAGED] += (piece.start - at) >> UMM_PAGE_SHIFT;
		ret = query_piece(ctx, &piece, out);
	}
	return ret;
}

static int query_span(struct umm_ctx *ctx, const struct umm_span *span, struct umm_span_info *out)
{
	struct umm_span pages = span_pages(span);

	*out = (struct umm_span_info){ .npages = pages.len >> UMM_PAGE_SHIFT };
	query_hints(ctx, &pages, out);
	query_target(ctx, &pages, out);
	region_sum(ctx, pages.start, pages.start + pages.len, out->counter);
	return query_residency(ctx, &pages, out);
}

int umm_query_spans(struct umm_ctx *ctx, const struct umm_span *spans, size_t nspans,
		    struct umm_span_info *out)
{
	struct umm_span_info info;
	size_t stride;
	int ret;

	if (!ctx_valid(ctx) || !spans || !nspans || !out)
		return -EINVAL;
	ret = struct_check(out, sizeof(info));
	if (ret)
		return ret;
	for (size_t i = 0; i < nspans; i++)
		if (!span_is_good(&spans[i]))
			return -EINVAL;
	stride = out->size;
	ctx_pass_gate(ctx);
	for (size_t i = 0; i < nspans; i++, out = (void *)((char *)out + stride)) {
		ret = query_span(ctx, &spans[i], &info);
		if (ret)
			return ret;
		info.size = stride;
		memset(out, 0, stride);
		memcpy(out, &info, min(stride, sizeof(info)));
	}
	return 0;
}
