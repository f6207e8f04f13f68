/* SPDX-License-Identifier: MIT */
/*
 * umm_prefetch() and umm_discard(). A prefetch is a request that runs on the mover, once the fence
 * that it comes after is signalled: until then it is in a list, from which the end of its context
 * or of its memory takes it. Discarding is what madvise(MADV_DONTNEED) does, whose event drops
 * frames of devices without a copy; pages that others hold, or have exclusively, are left out.
 *
 * Invariant: a waiting prefetch is freed by the signal of its fence and by nothing else; what ends
 * it before that takes it from the list, and `ctx` from it.
 * Locks: waiting_lock, of the rank of hints: a memory and the mover's queue are taken under it.
 */
#include "prefetch.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "batch.h"
#include "device.h"
#include "fence.h"
#include "hook.h"
#include "log.h"
#include "maps.h"
#include "mark.h"
#include "pin.h"
#include "signals.h"
#include "spans.h"
#include "stack.h"
#include "util.h"

struct prefetch {
	struct fence_after after;
	size_t bytes;
	pid_t owner;
	struct umm_fence *waits_for; /* NULL: nothing */
	struct umm_fence *done;
	uint64_t flags;
	uint64_t born;	       /* regions there had been when it was made */
	struct umm_ctx *ctx;   /* NULL: it ended while it waited */
	struct prefetch *next; /* of those that wait */
	struct batch_want want;
	size_t nspans;
	struct umm_span spans[];
};

static struct lock waiting_lock = { PTHREAD_MUTEX_INITIALIZER, RANK_HINT };
static struct prefetch *waiting;

static void prefetch_drop(struct prefetch *prefetch)
{
	umm_fence_put(prefetch->done);
	umm_fence_put(prefetch->waits_for);
	arena_unmap(prefetch, prefetch->bytes);
}

/* Give it back, its fence signalled. */
static void prefetch_end(struct prefetch *prefetch, int status, long value)
{
	umm_fence_signal(prefetch->done, status, value);
	prefetch_drop(prefetch);
}

/*
 * Is it a file's, or shared? No device has used the page: its mapping has not been looked at.
 * *vma is the one that was asked about last.
 */
static bool is_of_file(const struct umm_ctx *ctx, uintptr_t addr, struct maps_vma *vma)
{
	if ((addr < vma->start || addr >= vma->end) &&
	    maps_find(addr, ctx->features & UMM_KERNEL_PROCMAP_QUERY, vma))
		*vma = (struct maps_vma){ 0 };
	return !vma->anon || vma->shared;
}

/*
 * Pages that are to be dropped: what is neither held by others nor the kernel's. The part is held
 * (hold.c), for nothing is locked while they are:
 *
 *	discard				umm_pin(), umm_make_exclusive()
 *	region_hold()
 *	look
 *					pinned, or exclusive
 *					region_await(): sleeps
 *	madvise()
 *	region_let()
 *					the page is there once more, empty
 *
 * Whoever is held only after the look of the right side finds the page as that has left it.
 */
static unsigned droppable(struct umm_ctx *ctx, uintptr_t start, unsigned npages, uint64_t *drop)
{
	struct block *block = block_find(ctx, start);
	unsigned first = page_index(start), held = 0;
	struct maps_vma vma = { 0 };

	for (unsigned i = first; i < first + npages; i++) {
		enum page_state state = block ? page_state(block, i) : PG_NATIVE;
		uintptr_t addr = start + ((uintptr_t)(i - first) << UMM_PAGE_SHIFT);

		if (state == PG_EXCLUSIVE || state == PG_MIRRORED || state == PG_POISONED ||
		    (block && page_pinned(block, i)) ||
		    (state == PG_NATIVE && is_of_file(ctx, addr, &vma)))
			held++;
		else if (state != PG_UNMANAGED)
			bit_set(drop, i);
	}
	if (block)
		lock_drop(&block->lock);
	return held;
}

/* A managed part of one block: pages dropped. */
static long discard_part(struct umm_ctx *ctx, uintptr_t start, uintptr_t end)
{
	uintptr_t va = align_down(start, UMM_BLOCK_SIZE);
	uint64_t drop[BITMAP_WORDS] = { 0 };
	unsigned first, last, n, held;
	long dropped = 0;

	held = droppable(ctx, start, (unsigned)((end - start) >> UMM_PAGE_SHIFT), drop);
	hook_run(HOOK_DISCARDING, start);
	for_each_run(drop, first, last)
	{
		n = last - first;
		if (madvise((void *)(va + ((uintptr_t)first << UMM_PAGE_SHIFT)),
			    (size_t)n << UMM_PAGE_SHIFT, MADV_DONTNEED))
			held += n;
		else
			dropped += n;
	}
	if (held)
		ctx_count(ctx, NULL, start, UMM_COUNT_BUSY, held);
	return dropped;
}

/* Only whole pages: a page that the span has a part of has contents that are needed. */
static struct umm_span span_whole_pages(const struct umm_span *span)
{
	uintptr_t start = align_up(span->start, UMM_PAGE_SIZE);
	uintptr_t end = align_down(span->start + span->len, UMM_PAGE_SIZE);

	return (struct umm_span){ start, end > start ? end - start : 0 };
}

/*
 * Of one whole-page span, what was managed when there had been so many births. 0, or -ENOMEM: the
 * rest keeps its contents.
 */
static int discard_span(struct umm_ctx *ctx, struct umm_span span, uint64_t born, bool *managed,
			long *dropped)
{
	uintptr_t end = span.start + span.len;
	struct region_hold *hold;
	int ret = 0;

	while (span.start < end && !(ret = region_hold(ctx, &span, born, &hold))) {
		*managed = true;
		*dropped += discard_part(ctx, hold->start, hold->end);
		span = (struct umm_span){ hold->end, end - hold->end };
		region_let(ctx, hold);
	}
	return ret == -ENOENT ? 0 : ret;
}

/* -EFAULT: nothing of it is managed. */
static long discard_spans(struct umm_ctx *ctx, const struct umm_span *spans, size_t nspans,
			  uint64_t born)
{
	struct umm_span whole;
	bool managed = false;
	long dropped = 0;
	int ret = 0;

	for (size_t i = 0; i < nspans && !ret; i++) {
		whole = span_whole_pages(&spans[i]);
		ret = discard_span(ctx, whole, born, &managed, &dropped);
		managed |= !whole.len;
	}
	if (ret)
		return ret;
	return managed ? dropped : -EFAULT;
}

static int spans_check(struct umm_ctx *ctx, const struct umm_span *spans, size_t nspans)
{
	if (!spans || !nspans)
		return -EINVAL;
	for (size_t i = 0; i < nspans; i++)
		if (!span_is_good(&spans[i]))
			return -EINVAL;
	if (ctx_is_forked(ctx))
		return -ENODEV;
	return notifier_in_callback() ? -EDEADLK : 0;
}

/* Each page once. */
static long discard_list(struct umm_ctx *ctx, const struct umm_span *spans, size_t nspans)
{
	size_t bytes = nspans * sizeof(*spans);
	struct umm_span *mine = arena_map(bytes);
	long ret;

	if (!mine)
		return -ENOMEM;
	for (size_t i = 0; i < nspans; i++)
		mine[i] = span_whole_pages(&spans[i]);
	ret = discard_spans(ctx, mine, spans_join(mine, nspans), REGION_ANY_AGE);
	arena_unmap(mine, bytes);
	return ret;
}

long umm_discard(struct umm_ctx *ctx, const struct umm_span *spans, size_t nspans)
{
	long ret;

	if (!ctx_valid(ctx))
		return -EINVAL;
	ret = spans_check(ctx, spans, nspans);
	for (size_t i = 0; i < nspans && !ret; i++)
		if (stack_in_use(spans[i].start, spans[i].start + spans[i].len))
			ret = -EDEADLK;
	if (ret)
		return ret;
	ctx_pass_gate(ctx);
	if (nspans > 1)
		ret = discard_list(ctx, spans, nspans);
	else
		ret = discard_spans(ctx, spans, 1, REGION_ANY_AGE);
	if (ret == -EFAULT)
		log_unmanaged("umm_discard", spans[0].start, spans[0].start + spans[0].len);
	return ret;
}

/* Pages of a block that are at dst (NULL: at home, or nowhere yet). The block is locked. */
static long count_block(struct block *block, const struct umm_devmem *dst, unsigned first,
			unsigned last)
{
	const struct resident *resident = dst ? resident_find(block, dst) : NULL;
	enum page_state state;
	long n = 0;

	for (unsigned i = first; i < last; i++) {
		state = page_state(block, i);
		if (dst)
			n += resident && bit_test(resident->bitmap, i);
		else
			n += state != PG_UNMANAGED && state != PG_DEVICE && state != PG_COHERENT &&
			     state != PG_EXCLUSIVE && state != PG_POISONED;
	}
	return n;
}

static long count_there(struct umm_ctx *ctx, const struct umm_devmem *dst,
			const struct umm_span *span)
{
	uintptr_t at = span->start, end = span->start + span->len, next;
	struct umm_span piece;
	struct block *block;
	unsigned first;
	long n = 0;

	for (; at < end && region_next(ctx, at, end, &piece); at = next) {
		next = min(align_down(piece.start, UMM_BLOCK_SIZE) + UMM_BLOCK_SIZE,
			   piece.start + piece.len);
		first = page_index(piece.start);
		block = block_find(ctx, piece.start);
		if (block)
			n += count_block(block, dst, first,
					 first + (unsigned)((next - piece.start) >>
							    UMM_PAGE_SHIFT));
		else if (!dst)
			n += (long)((next - piece.start) >> UMM_PAGE_SHIFT);
		if (block)
			lock_drop(&block->lock);
	}
	return n;
}

/* Of a list that is not needed any more: each page once. */
static long count_spans(struct umm_ctx *ctx, const struct umm_devmem *dst, struct umm_span *spans,
			size_t nspans)
{
	long n = 0;

	for (size_t i = 0; i < nspans; i++)
		spans[i] = span_pages(&spans[i]);
	nspans = spans_join(spans, nspans);
	for (size_t i = 0; i < nspans; i++)
		n += count_there(ctx, dst, &spans[i]);
	return n;
}

/* On the mover. */
static void prefetch_run(struct umm_ctx *ctx, const struct work *work)
{
	struct prefetch *prefetch = work->priv;
	struct umm_devmem *dst = prefetch->want.dst;
	long ret, there;

	/* Where nothing is left of what it named, what is there now keeps its contents. */
	if (prefetch->flags & UMM_PREFETCH_DISCARD)
		discard_spans(ctx, prefetch->spans, prefetch->nspans, prefetch->born);
	prefetch->want.clock = dst ? devmem_clock(dst) : UINT64_MAX;
	ret = batch_move(ctx, prefetch->spans, prefetch->nspans, &prefetch->want);
	there = count_spans(ctx, dst, prefetch->spans, prefetch->nspans);
	if (dst)
		devmem_unuse(dst);
	if (ret >= 0 || (there && ret != -EIO))
		ret = 0;
	prefetch_end(prefetch, (int)ret, ret ? 0 : there);
}

/* Its turn has come: hand it to the mover. 0 or -errno. Under waiting_lock. */
static int prefetch_queue(struct prefetch *prefetch)
{
	struct work work = { .fn = prefetch_run, .priv = prefetch };
	struct umm_devmem *dst = prefetch->want.dst;
	int ret = dst ? devmem_use(dst) : 0;

	if (ret)
		return ret;
	ret = workers_queue(&prefetch->ctx->movers, &work);
	if (ret && dst)
		devmem_unuse(dst);
	return ret;
}

static void waiting_remove(struct prefetch *prefetch)
{
	struct prefetch **link;

	for (link = &waiting; *link != prefetch; link = &(*link)->next)
		;
	*link = prefetch->next;
}

/* On the thread that signals what it comes after. */
static void prefetch_go_on(struct fence_after *after, int status)
{
	struct prefetch *prefetch = container_of(after, struct prefetch, after);
	int ret = status;

	/* In a forked child it is the parent's. */
	if (prefetch->owner != getpid())
		return;
	signals_hold();
	lock_take(&waiting_lock);
	if (prefetch->ctx)
		waiting_remove(prefetch);
	if (!prefetch->ctx)
		ret = -ENODEV;
	else if (!ret)
		ret = prefetch_queue(prefetch);
	lock_drop(&waiting_lock);
	if (ret)
		prefetch_end(prefetch, ret, 0);
	signals_let();
}

/* Each change of the list is one store: whatever was being done to it, it is whole. */
void prefetch_fork_child(void)
{
	lock_fork_child(&waiting_lock);
}

void prefetch_cancel(struct umm_ctx *ctx, const struct umm_devmem *mem)
{
	struct umm_fence *done;
	struct prefetch *at;

	do {
		done = NULL;
		lock_take(&waiting_lock);
		for (at = waiting; at; at = at->next)
			if (at->ctx == ctx && (!mem || at->want.dst == mem))
				break;
		if (at) {
			waiting_remove(at);
			at->ctx = NULL;
			done = umm_fence_get(at->done);
		}
		lock_drop(&waiting_lock);
		if (done)
			umm_fence_signal(done, -ENODEV, 0);
		umm_fence_put(done);
	} while (at);
}

static int request_check(struct umm_ctx *ctx, const struct umm_prefetch *req)
{
	int ret;

	if (req->flags & ~(uint64_t)(UMM_PREFETCH_DISCARD | UMM_PREFETCH_NO_EVICT))
		return -EINVAL;
	if (req->dst && (!devmem_valid(req->dst) || req->dst->ctx != ctx))
		return -EINVAL;
	if (req->after && umm_fence_poll(req->after) == -EINVAL)
		return -EINVAL;
	ret = spans_check(ctx, req->spans, req->nspans);
	for (size_t i = 0; i < req->nspans && !ret; i++) {
		struct umm_span pages = span_pages(&req->spans[i]), piece;

		if (req->flags & UMM_PREFETCH_DISCARD &&
		    stack_in_use(pages.start, pages.start + pages.len))
			return -EDEADLK;
		ret = ctx_attach_asked(ctx, pages.start, pages.start + pages.len);
		if (!ret && !region_next(ctx, pages.start, pages.start + pages.len, &piece))
			ret = log_unmanaged("umm_prefetch", pages.start, pages.start + pages.len);
	}
	return ret;
}

/* For umm_query_spans(): where it was last to go. */
static int note_target(struct umm_ctx *ctx, const struct umm_prefetch *req)
{
	struct hint_change change = { .set = { .set = 1, .mem = req->dst } };
	struct umm_span pages, run;
	int ret = 0;

	for (size_t i = 0; i < req->nspans; i++) {
		pages = span_pages(&req->spans[i]);
		for (uintptr_t at = pages.start, end = at + pages.len;
		     !ret && region_next_run(ctx, at, end, &run);) {
			ret = mark_hint(ctx, &ctx->hints.targets, &run, &change);
			/* Of what is unmapped just now the next look finds what is left. */
			if (ret == -EFAULT)
				ret = 0;
			else
				at = run.start + run.len;
		}
	}
	return ret;
}

static struct prefetch *prefetch_new(struct umm_ctx *ctx, const struct umm_prefetch *req)
{
	size_t bytes = sizeof(struct prefetch) + req->nspans * sizeof(struct umm_span);
	struct prefetch *prefetch = arena_map(bytes);

	if (!prefetch)
		return NULL;
	prefetch->bytes = bytes;
	prefetch->owner = getpid();
	prefetch->ctx = ctx;
	prefetch->flags = req->flags;
	prefetch->nspans = req->nspans;
	memcpy(prefetch->spans, req->spans, req->nspans * sizeof(struct umm_span));
	if (req->flags & UMM_PREFETCH_DISCARD)
		prefetch->born = region_births(ctx, prefetch->spans, prefetch->nspans);
	prefetch->want = (struct batch_want){
		.dst = req->dst,
		.cause = UMM_CAUSE_EXPLICIT,
		.no_evict = req->flags & UMM_PREFETCH_NO_EVICT,
		.reads = true,
		.ahead = true,
	};
	if (umm_fence_create(&prefetch->done)) {
		arena_unmap(prefetch, bytes);
		return NULL;
	}
	return prefetch;
}

/* Into the list, in which the end of its memory finds it; or it has ended: -ENODEV. */
static int prefetch_list(struct prefetch *prefetch)
{
	const struct umm_devmem *dst = prefetch->want.dst;
	int ret = 0;

	hook_run(HOOK_PREFETCHING, prefetch->spans[0].start);
	lock_take(&waiting_lock);
	if (dst && !handle_is_open(dst, HANDLE_DEVMEM)) {
		ret = -ENODEV;
	} else {
		prefetch->next = waiting;
		waiting = prefetch;
	}
	hook_run(HOOK_LISTED, prefetch->spans[0].start);
	lock_drop(&waiting_lock);
	return ret;
}

static int prefetch_start(struct umm_ctx *ctx, const struct umm_prefetch *req,
			  struct umm_fence **done)
{
	struct prefetch *prefetch;
	int ret = note_target(ctx, req);

	if (ret)
		return ret;
	prefetch = prefetch_new(ctx, req);
	if (!prefetch)
		return -ENOMEM;
	ret = prefetch_list(prefetch);
	if (ret) {
		prefetch_drop(prefetch);
		return ret;
	}
	*done = umm_fence_get(prefetch->done);
	prefetch->after.fn = prefetch_go_on;
	if (!req->after) {
		prefetch_go_on(&prefetch->after, 0);
		return 0;
	}
	prefetch->waits_for = umm_fence_get(req->after);
	fence_after(req->after, &prefetch->after);
	return 0;
}

long umm_prefetch(struct umm_ctx *ctx, const struct umm_prefetch *req, struct umm_fence **fence)
{
	struct umm_prefetch mine;
	struct umm_fence *done = NULL;
	long ret;

	if (!ctx_valid(ctx))
		return -EINVAL;
	ret = struct_in(&mine, sizeof(mine), req);
	if (!ret)
		ret = request_check(ctx, &mine);
	if (!ret)
		ret = prefetch_start(ctx, &mine, &done);
	if (ret)
		return ret;
	if (fence) {
		*fence = done;
		return 0;
	}
	ret = umm_fence_wait(done, -1);
	if (!ret)
		ret = umm_fence_value(done);
	umm_fence_put(done);
	return ret;
}
