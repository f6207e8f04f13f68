/* SPDX-License-Identifier: MIT */
/*
 * Pages for a window: those that it lacks come into its buffer, until all are seen there at once.
 * Locks: windows.residency, the caller's; libumm is called with it alone.
 */
#include <errno.h>
#include <inttypes.h>
#include <string.h>
#include <time.h>

#include "platform.h"
#include "report.h"
#include "window.h"

#define PATIENCE_NS  UINT64_C(2000000000) /* with pages that do not come */
#define NAP_NS	     100000
#define EXAMINE_FROM 3 /* tries before asking why */

/* What becomes of pages that are lacking. */
enum way {
	WAY_DUPLICATE,
	WAY_HOME_FIRST, /* then they can be duplicated that only a device has */
	WAY_MOVE,	/* then they can go home that are of a private mapping of a file */
	NR_WAYS,
};

static uint64_t now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

static long migrate(struct umm_opencl_window *window, const struct umm_span *span,
		    struct umm_devmem *dst, bool duplicate)
{
	struct umm_migrate_request request = {
		.size = sizeof(request),
		.flags = duplicate ? UMM_MIGRATE_DUPLICATE : 0,
		.spans = span,
		.nspans = 1,
		.dst = dst,
		.cause = UMM_CAUSE_DEVICE_FAULT,
	};
	long moved = umm_migrate_spans(window->ocl->ctx, &request, NULL);

	return moved == -EFAULT || moved == -ENOSPC || moved == -ENOENT ? 0 : moved;
}

/* Take pages to dst, but not those of which several have copies: 0 or an error. */
static int migrate_sole(struct umm_opencl_window *window, const struct umm_span *span,
			struct umm_devmem *dst)
{
	struct umm_page_info pages[UMM_BLOCK_PAGES];
	struct umm_span run = { .start = span->start };
	size_t npages;
	long moved = 0;

	for (uintptr_t at = span->start; at < span->start + span->len;
	     at += npages * UMM_PAGE_SIZE) {
		npages = (span->start + span->len - at) >> UMM_PAGE_SHIFT;
		npages = npages < UMM_BLOCK_PAGES ? npages : UMM_BLOCK_PAGES;
		moved = umm_query(window->ocl->ctx, at, npages, pages);
		for (size_t i = 0, end; i < npages && moved >= 0; i = end + 1) {
			for (end = i; end < npages && pages[end].state != UMM_PAGE_DUPLICATED;
			     end++)
				;
			run.start = at + i * UMM_PAGE_SIZE;
			run.len = (end - i) * UMM_PAGE_SIZE;
			moved = run.len ? migrate(window, &run, dst, false) : 0;
		}
		if (moved < 0)
			return (int)moved;
	}
	return 0;
}

/*
 * Pages that are lacking: 0 or an error. A page has one frame here: for writing its copy has to
 * go before it can come.
 */
static long bring(struct umm_opencl_window *window, const struct umm_span *span, unsigned access,
		  enum way way)
{
	bool write = access & UMM_OPENCL_WRITE;
	long moved = 0;

	if (write)
		moved = migrate(window, span, NULL, false);
	else if (way != WAY_DUPLICATE)
		moved = migrate_sole(window, span, way == WAY_MOVE ? window->mem : NULL);
	if (moved < 0 || (!write && way == WAY_MOVE))
		return moved;
	return migrate(window, span, window->mem, !write);
}

static bool is_usable(uint64_t entry, unsigned access)
{
	return entry & UMM_ENTRY_VALID && entry & UMM_ENTRY_DEVICE &&
	       entry & (access & UMM_OPENCL_WRITE ? UMM_ENTRY_WRITE : UMM_ENTRY_DUPLICATE);
}

/* The first run of pages from *at on that are not usable; false: none. -EAGAIN it changed. */
static int find_missing(struct umm_opencl_window *window, unsigned access, uint64_t seq,
			struct umm_span *missing)
{
	uint64_t entries[UMM_BLOCK_PAGES];
	struct umm_range range = {
		.size = sizeof(range),
		.notifier = window->notifier,
		.seq = seq,
		.entries = entries,
		.owner = window->ocl->dev,
		.mem = window->mem,
	};
	uintptr_t at = missing->start + missing->len;
	size_t i = 0;

	missing->len = 0;
	for (range.start = at; range.start < window->end; range.start = range.end) {
		range.end = range.start + UMM_BLOCK_SIZE < window->end ?
				    range.start + UMM_BLOCK_SIZE :
				    window->end;
		memset(entries, 0, sizeof(entries));
		if (umm_range_snapshot(&range) < 0)
			return -EAGAIN;
		for (i = 0; i < (range.end - range.start) >> UMM_PAGE_SHIFT; i++) {
			if (!is_usable(entries[i], access)) {
				if (!missing->len)
					missing->start = range.start + (i << UMM_PAGE_SHIFT);
				missing->len += UMM_PAGE_SIZE;
			} else if (missing->len) {
				return 0;
			}
		}
	}
	return 0;
}

static int report_lacking(uintptr_t page, int err)
{
	report(UMM_LOG_ERROR, "a window has no page at 0x%" PRIxPTR ": %s", page,
	       umm_strerror(err));
	return err;
}

/* Why pages were lost on their way: -EFAULT if another device was lost with them, else -EIO. */
static int why_lost(struct umm_opencl_window *window, const struct umm_span *span)
{
	struct umm_page_info info = { .state = UMM_PAGE_UNMANAGED };

	for (size_t at = 0; at < span->len; at += UMM_PAGE_SIZE) {
		umm_query(window->ocl->ctx, span->start + at, 1, &info);
		if (info.state == UMM_PAGE_POISONED)
			return report_lacking(span->start + at, -EFAULT);
	}
	return -EIO;
}

/* Bring what is not usable, run by run. 0 or an error; *lacking is where the first was, or 0. */
static int bring_missing(struct umm_opencl_window *window, unsigned access, enum way way,
			 uintptr_t *lacking)
{
	struct umm_span missing = { .start = window->start };
	long moved;

	*lacking = 0;
	for (;;) {
		if (find_missing(window, access, umm_notifier_read_begin(window->notifier),
				 &missing))
			return -EAGAIN;
		if (!missing.len)
			return 0;
		if (!*lacking)
			*lacking = missing.start;
		moved = bring(window, &missing, access, way);
		if (moved < 0)
			return moved == -EIO ? why_lost(window, &missing) : (int)moved;
	}
}

/* One try. 0: held; -EAGAIN: not yet; or another error. */
static int try_fill(struct umm_opencl_window *window, unsigned access, enum way way,
		    uintptr_t *lacking)
{
	struct umm_span missing = { .start = window->start };
	int ret = bring_missing(window, access, way, lacking);
	uint64_t seq;

	if (ret)
		return ret;
	seq = umm_notifier_read_begin(window->notifier);
	if (find_missing(window, access, seq, &missing) || missing.len)
		return -EAGAIN;
	return window_hold_seen(window, access, seq) ? 0 : -EAGAIN;
}

int window_fill(struct umm_opencl_window *window, unsigned access)
{
	struct timespec nap = { .tv_nsec = NAP_NS };
	uint64_t since = now_ns();
	uintptr_t lacking;
	int ret;

	for (int try = 0;; try++) {
		ret = try_fill(window, access, (enum way)(try % NR_WAYS), &lacking);
		if (ret != -EAGAIN)
			return ret;
		if (lacking && try >= EXAMINE_FROM) {
			ret = mirror_probe(window->ocl, lacking, access & UMM_OPENCL_WRITE);
			if (ret)
				return report_lacking(lacking, ret);
		}
		if (now_ns() - since > PATIENCE_NS)
			return -EBUSY;
		if (try)
			nanosleep(&nap, NULL);
	}
}
