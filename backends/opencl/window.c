/* SPDX-License-Identifier: MIT */
/*
 * A window: its pages in one buffer, for as long as somebody holds it. Acquiring it is the
 * protocol of umm.h with the window in the place of a page table: migrate, read_begin,
 * snapshot, lock, read_retry; and the interval notifier keeps invalidations waiting:
 *
 *	thread that uses the window		thread that touches a page of it
 *
 *	acquire: pages come, held = 1
 *	enqueue kernels				invalidate(): held: wait
 *	release with their events: held = 0	.
 *	(goes on)				wait for the events
 *						(the core takes the page home)
 *	acquire: the page comes again
 *
 * As long as nothing was invalidated since, pages are known to be there and acquiring copies
 * nothing. For reading pages are duplicated, so that the CPU and other devices keep them; those
 * that only a device has, be it this one, go home first. What was never anybody's but a file's is
 * moved before that. So a holder that reads has nobody wait who reads, itself included; and it is
 * never joined by one that writes.
 *
 * Commands that use the buffer may be behind launches that were handed over, in the same queue.
 * If such a launch were to bring a page that the window has, it would wait for these commands, and
 * they for it. So launches handed over before are done before the window is acquired.
 *
 * Locks: windows.residency for the length of an acquire, which moves pages; window.lock for
 * who holds it. The callback takes window.lock alone, and waits only for releases and events.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "live.h"
#include "pending.h"
#include "platform.h"
#include "report.h"
#include "window.h"

#define ACCESS_ALL (UMM_OPENCL_READ | UMM_OPENCL_WRITE)

#define WHY_HELD                                                                                \
	"its window is held; call umm_opencl_window_release() before the thread that holds it " \
	"touches it, acquires it for another device, or destroys it, its device or the context"
#define WHY_EVENTS                                                                                 \
	"what its window was released with is not complete; does that wait for a launch that was " \
	"handed over while the window was held?"
#define WHY_LAUNCHES                                                                              \
	"its window is acquired after launches and prefetches handed over before, which are not " \
	"done; do they wait for an event that the thread completes later, or for a window that "  \
	"it holds?"

static void wait_for(cl_event event)
{
	/* One by one: several would have to be of one context, and one that is bad end the wait. */
	cl_int err = clWaitForEvents(1, &event);

	if (err != CL_SUCCESS)
		report(UMM_LOG_ERROR, "clWaitForEvents() of a window failed: %s (%d)",
		       report_cl_name(err), err);
	clReleaseEvent(event);
}

/*
 * Its events are done. It is not locked while they are waited for: who may not sleep is told so
 * meanwhile, and whoever else comes waits for those that are being waited for, too.
 */
static void drain_locked(struct umm_opencl_window *window)
{
	cl_event *events = window->events;
	cl_uint nevents = window->nevents;

	while (!nevents && window->draining)
		pthread_cond_wait(&window->changed, &window->lock);
	if (!nevents)
		return;
	window->events = NULL;
	window->nevents = 0;
	window->draining++;
	pthread_mutex_unlock(&window->lock);
	while (nevents)
		wait_for(events[--nevents]);
	free(events);
	pthread_mutex_lock(&window->lock);
	window->draining--;
	pthread_cond_broadcast(&window->changed);
}

static bool has_events_locked(const struct umm_opencl_window *window)
{
	return window->nevents || window->draining;
}

static void wait_drained_locked(struct umm_opencl_window *window)
{
	struct watcher *watcher = &window->ocl->windows->watcher;
	struct watch watch;

	if (!has_events_locked(window))
		return;
	watch_begin(watcher, &watch, window->start, WHY_EVENTS);
	while (has_events_locked(window))
		drain_locked(window);
	watch_end(watcher, &watch);
}

void window_drain(struct umm_opencl_window *window)
{
	pthread_mutex_lock(&window->lock);
	wait_drained_locked(window);
	pthread_mutex_unlock(&window->lock);
}

/* Nobody holds it and its events are done. */
static void wait_released_locked(struct umm_opencl_window *window, uintptr_t addr)
{
	struct watcher *watcher = &window->ocl->windows->watcher;
	struct watch watch;

	do {
		if (window->held) {
			watch_begin(watcher, &watch, addr, WHY_HELD);
			while (window->held)
				pthread_cond_wait(&window->changed, &window->lock);
			watch_end(watcher, &watch);
		}
		wait_drained_locked(window);
	} while (window->held);
}

/* Where permissions change nothing moves: a device that only loads goes on with what it has. */
static bool concerns_locked(const struct umm_opencl_window *window, enum umm_event event)
{
	return window->uses & UMM_OPENCL_WRITE ||
	       (event != UMM_EVENT_PROTECTION_PAGE && event != UMM_EVENT_PROTECTION_VMA);
}

static int window_invalidate(void *priv, const struct umm_notifier_range *range)
{
	struct umm_opencl_window *window = priv;
	int ret = 0;

	pthread_mutex_lock(&window->lock);
	if (concerns_locked(window, range->event)) {
		if (!range->blockable && (window->held || has_events_locked(window)))
			ret = -EAGAIN;
		else
			wait_released_locked(window, range->start > window->start ? range->start :
										    window->start);
	}
	pthread_mutex_unlock(&window->lock);
	return ret;
}

static const struct umm_notifier_ops window_ops = {
	.size = sizeof(struct umm_notifier_ops),
	.invalidate = window_invalidate,
};

int windows_create(struct umm_opencl *ocl, uint64_t bytes)
{
	struct platform_limits limits;

	ocl->windows = calloc(1, sizeof(*ocl->windows));
	if (!ocl->windows)
		return -ENOMEM;
	platform_limits(ocl->device, &limits);
	ocl->windows->bytes = bytes ? bytes : limits.global_bytes / 4;
	pthread_mutex_init(&ocl->windows->residency, NULL);
	watcher_init(&ocl->windows->watcher);
	return 0;
}

void windows_quiesce(struct umm_opencl *ocl)
{
	for (struct umm_opencl_window *w = ocl->windows->first; w; w = w->next) {
		pthread_mutex_lock(&w->lock);
		wait_released_locked(w, w->start);
		pthread_mutex_unlock(&w->lock);
		umm_notifier_remove(w->notifier);
	}
}

static void window_free(struct umm_opencl_window *window)
{
	pthread_cond_destroy(&window->changed);
	pthread_mutex_destroy(&window->lock);
	free(window->events);
	live_end(LIVE_WINDOW, window);
}

void windows_destroy(struct umm_opencl *ocl)
{
	struct umm_opencl_window *window;

	if (!ocl->windows)
		return;
	while ((window = ocl->windows->first)) {
		ocl->windows->first = window->next;
		window_release_buffers(window);
		window_free(window);
	}
	if (ocl->windows->compare)
		clReleaseKernel(ocl->windows->compare);
	if (ocl->windows->program)
		clReleaseProgram(ocl->windows->program);
	watcher_fini(&ocl->windows->watcher);
	pthread_mutex_destroy(&ocl->windows->residency);
	free(ocl->windows);
	ocl->windows = NULL;
}

void windows_forget(struct umm_opencl *ocl)
{
	struct umm_opencl_window *window;

	while (ocl->windows && (window = ocl->windows->first)) {
		ocl->windows->first = window->next;
		free(window->events);
		live_end(LIVE_WINDOW, window);
	}
	free(ocl->windows);
}

static struct umm_opencl_window *window_new(struct umm_opencl *ocl, uintptr_t start, size_t len)
{
	struct umm_opencl_window *window = calloc(1, sizeof(*window));

	if (!window || live_add(LIVE_WINDOW, window)) {
		free(window);
		return NULL;
	}
	window->ocl = ocl;
	window->start = start;
	window->npages = (uint32_t)((len + UMM_PAGE_SIZE - 1) >> UMM_PAGE_SHIFT);
	window->end = start + ((uintptr_t)window->npages << UMM_PAGE_SHIFT);
	pthread_mutex_init(&window->lock, NULL);
	pthread_cond_init(&window->changed, NULL);
	return window;
}

static bool overlaps(const struct windows *windows, const struct umm_opencl_window *window)
{
	for (const struct umm_opencl_window *w = windows->first; w; w = w->next)
		if (window->start < w->end && w->start < window->end)
			return true;
	return false;
}

/* Could it ever have device memory? */
static int check_size(const struct umm_opencl_window *window, uint64_t len)
{
	struct umm_opencl *ocl = window->ocl;
	struct platform_limits limits;

	platform_limits(ocl->device, &limits);
	if (len <= limits.max_alloc_bytes && len << window->track <= ocl->windows->bytes)
		return 0;
	report(UMM_LOG_ERROR,
	       "a window of %" PRIu64 " bytes%s is larger than window_bytes (%" PRIu64 ") or the "
	       "device's largest buffer (%" PRIu64 ")",
	       len, window->track ? ", twice to track it," : "", ocl->windows->bytes,
	       limits.max_alloc_bytes);
	return -ENOSPC;
}

/* Into the list, and to where it hears of changes. */
static int window_insert_locked(struct umm_opencl_window *window)
{
	struct windows *windows = window->ocl->windows;
	struct umm_span span = { .start = window->start, .len = window->end - window->start };
	int ret;

	if (overlaps(windows, window))
		return -EEXIST;
	ret = check_size(window, span.len);
	if (ret)
		return ret;
	ret = umm_notifier_insert(window->ocl->ctx, &span, &window_ops, window, &window->notifier);
	if (ret)
		return ret;
	window->next = windows->first;
	windows->first = window;
	return 0;
}

static int check_range(uintptr_t start, size_t len, uint64_t flags)
{
	if (!start || !len || start & (UMM_PAGE_SIZE - 1) ||
	    flags & ~(uint64_t)UMM_OPENCL_WINDOW_TRACK)
		return -EINVAL;
	return len > UINT64_C(1) << TABLE_ADDRESS_BITS ||
			       start + len > UINT64_C(1) << TABLE_ADDRESS_BITS ||
			       len >> UMM_PAGE_SHIFT >= UINT32_MAX ?
		       -EINVAL :
		       0;
}

int umm_opencl_window_create(struct umm_opencl *ocl, void *addr, size_t len, uint64_t flags,
			     struct umm_opencl_window **out)
{
	struct umm_opencl_window *window;
	struct umm_ctx *ctx;
	int ret;

	if (!live_is(LIVE_DEVICE, ocl) || !out || check_range((uintptr_t)addr, len, flags))
		return -EINVAL;
	ret = device_enter(ocl, &ctx);
	if (ret)
		return ret;
	window = window_new(ocl, (uintptr_t)addr, len);
	if (!window) {
		device_leave(ocl, ctx);
		return -ENOMEM;
	}
	window->track = flags & UMM_OPENCL_WINDOW_TRACK;
	watcher_start(&ocl->windows->watcher);
	pthread_mutex_lock(&ocl->windows->residency);
	ret = window_insert_locked(window);
	pthread_mutex_unlock(&ocl->windows->residency);
	device_leave(ocl, ctx);
	if (ret)
		window_free(window);
	else
		*out = window;
	return ret;
}

static void unlink_locked(struct umm_opencl_window *window)
{
	struct umm_opencl_window **link = &window->ocl->windows->first;

	while (*link != window)
		link = &(*link)->next;
	*link = window->next;
}

void umm_opencl_window_destroy(struct umm_opencl_window *window)
{
	struct umm_opencl *ocl;
	struct umm_ctx *ctx;
	int ret;

	if (!live_is(LIVE_WINDOW, window))
		return;
	ocl = window->ocl;
	ret = device_enter(ocl, &ctx);
	if (ret == -EDEADLK)
		report(UMM_LOG_ERROR, "umm_opencl_window_destroy() from a callback, which it would "
				      "wait for: nothing is done");
	if (ret)
		return;
	pthread_mutex_lock(&window->lock);
	wait_released_locked(window, window->start);
	pthread_mutex_unlock(&window->lock);
	pthread_mutex_lock(&ocl->windows->residency);
	window_unback(window);
	unlink_locked(window);
	pthread_mutex_unlock(&ocl->windows->residency);
	umm_notifier_remove(window->notifier);
	window_free(window);
	device_leave(ocl, ctx);
}

/* What pages allow that are there for this: a writer's are nobody else's, a reader's are copies. */
static unsigned resident_for(unsigned access)
{
	return access & UMM_OPENCL_WRITE ? ACCESS_ALL : access;
}

/*
 * Are all pages still there, as found out earlier? A reader joins a writer, but does not begin
 * with pages that others would have to wait for.
 */
static bool is_valid_locked(const struct umm_opencl_window *window, unsigned access)
{
	if (!window->mem)
		return false;
	if (window->held)
		return (window->resident & access) == access;
	return window->resident == resident_for(access) &&
	       !umm_notifier_read_retry(window->notifier, window->seq);
}

static bool hold_if_valid(struct umm_opencl_window *window, unsigned access)
{
	bool valid;

	pthread_mutex_lock(&window->lock);
	valid = is_valid_locked(window, access);
	if (valid) {
		if (!window->held && !has_events_locked(window))
			window->uses = 0;
		window->uses |= access;
		window->access = window->held ? window->access | access : access;
		window->remembered &= window->held > 0;
		window->held++;
	}
	pthread_mutex_unlock(&window->lock);
	return valid;
}

bool window_hold_seen(struct umm_opencl_window *window, unsigned access, uint64_t seq)
{
	pthread_mutex_lock(&window->lock);
	window->seq = seq;
	window->resident = resident_for(access);
	pthread_mutex_unlock(&window->lock);
	return hold_if_valid(window, access);
}

/* Its pages as they are before anything writes to them. */
static int remember_first(struct umm_opencl_window *window, unsigned access)
{
	int ret;

	if (!window->track || !(access & UMM_OPENCL_WRITE) || window->remembered)
		return 0;
	window_drain(window);
	ret = window_remember(window);
	window->remembered = !ret;
	if (ret)
		umm_opencl_window_release(window, 0, NULL);
	return ret;
}

static bool is_held(struct umm_opencl_window *window)
{
	bool held;

	pthread_mutex_lock(&window->lock);
	held = window->held;
	pthread_mutex_unlock(&window->lock);
	return held;
}

static int acquire_locked(struct umm_opencl_window *window, unsigned access)
{
	struct windows *windows = window->ocl->windows;
	int ret = 0;

	unlink_locked(window);
	window->next = windows->first;
	windows->first = window;
	/*
	 * What the program unmapped, dropped or forbade before this call has been announced after
	 * it. Not where it is held: then who announces may wait for this thread's release.
	 */
	if (!is_held(window)) {
		umm_notifier_refresh(window->notifier);
		umm_notifier_read_begin(window->notifier);
	}
	if (!hold_if_valid(window, access)) {
		/* Whoever holds it for less would be waited for, and may be this thread. */
		ret = is_held(window) ? -EBUSY : window_back(window);
		if (!ret)
			ret = window_fill(window, access);
	}
	return ret ? ret : remember_first(window, access);
}

/* They may take pages of it, while what it is acquired for waits for them. */
static void wait_handed_over(struct umm_opencl_window *window)
{
	struct watcher *watcher = &window->ocl->windows->watcher;
	struct watch watch;
	struct pending *pending[] = { window->ocl->pending, window->ocl->prefetches };

	for (size_t i = 0; i < sizeof(pending) / sizeof(pending[0]); i++) {
		if (pending_is_idle(pending[i]))
			continue;
		watch_begin(watcher, &watch, window->start, WHY_LAUNCHES);
		pending_wait(pending[i]);
		watch_end(watcher, &watch);
	}
}

int umm_opencl_window_acquire(struct umm_opencl_window *window, unsigned access, cl_mem *out)
{
	struct umm_ctx *ctx;
	struct loss *loss;
	int ret;

	if (!live_is(LIVE_WINDOW, window) || !out || !access || access & ~(unsigned)ACCESS_ALL)
		return -EINVAL;
	ret = device_enter(window->ocl, &ctx);
	if (ret)
		return ret;
	loss = &window->ocl->transfer.loss;
	if (!loss_is_known(loss))
		wait_handed_over(window);
	pthread_mutex_lock(&window->ocl->windows->residency);
	/* If the device goes, nobody waits for a holder that has only just come. */
	ret = loss_is_known(loss) || device_is_going(window->ocl) ? -ENODEV :
								    acquire_locked(window, access);
	if (ret && loss_is_known(loss))
		ret = -ENODEV;
	if (!ret)
		*out = window->pools.mem[0];
	pthread_mutex_unlock(&window->ocl->windows->residency);
	device_leave(window->ocl, ctx);
	return ret;
}

/* Those that are done already need not be kept. */
static void forget_done_locked(struct umm_opencl_window *window)
{
	cl_uint kept = 0;
	cl_int state;

	for (cl_uint i = 0; i < window->nevents; i++) {
		state = CL_QUEUED;
		clGetEventInfo(window->events[i], CL_EVENT_COMMAND_EXECUTION_STATUS, sizeof(state),
			       &state, NULL);
		/* Or it has failed. */
		if (state <= CL_COMPLETE)
			clReleaseEvent(window->events[i]);
		else
			window->events[kept++] = window->events[i];
	}
	window->nevents = kept;
}

static int add_events_locked(struct umm_opencl_window *window, cl_uint nevents,
			     const cl_event *events)
{
	cl_event *grown;
	cl_uint before;
	int ret = 0;

	forget_done_locked(window);
	before = window->nevents;
	if (!nevents)
		return 0;
	grown = realloc(window->events, (window->nevents + nevents) * sizeof(cl_event));
	if (!grown)
		return -ENOMEM;
	window->events = grown;
	for (cl_uint i = 0; i < nevents && !ret; i++) {
		ret = report_cl_given(clRetainEvent(events[i]), "clRetainEvent() of a window");
		if (!ret)
			grown[window->nevents++] = events[i];
	}
	while (ret && window->nevents > before)
		clReleaseEvent(grown[--window->nevents]);
	return ret;
}

int umm_opencl_window_release(struct umm_opencl_window *window, cl_uint nevents,
			      const cl_event *events)
{
	int ret = -EINVAL;

	if (!live_is(LIVE_WINDOW, window) || (nevents && !events))
		return -EINVAL;
	pthread_mutex_lock(&window->lock);
	if (window->held)
		ret = add_events_locked(window, nevents, events);
	if (!ret && !--window->held)
		pthread_cond_broadcast(&window->changed);
	pthread_mutex_unlock(&window->lock);
	return ret;
}

/* Does the buffer have what was written, and, to track it, the shadow what was there before? */
static bool has_written_locked(const struct umm_opencl_window *window)
{
	return window->mem && (window->remembered || !window->track) &&
	       !umm_notifier_read_retry(window->notifier, window->seq);
}

/* Can it be said what was written until it was released? */
static int check_released(struct umm_opencl_window *window, unsigned *access)
{
	int ret = 0;

	pthread_mutex_lock(&window->lock);
	*access = window->access;
	if (window->held)
		ret = -EBUSY;
	else if (!window->access ||
		 (window->access & UMM_OPENCL_WRITE && !has_written_locked(window)))
		ret = -ENOENT;
	else
		wait_drained_locked(window);
	pthread_mutex_unlock(&window->lock);
	return ret;
}

static int dirty_locked(struct umm_opencl_window *window, uint64_t *bits)
{
	size_t len = window_words(window) * sizeof(*bits);
	unsigned access;
	int ret = check_released(window, &access);

	if (ret)
		return ret;
	if (access & UMM_OPENCL_WRITE && window->track)
		return window_compare(window, bits);
	memset(bits, 0, len);
	for (uint32_t i = 0; access & UMM_OPENCL_WRITE && i < window->npages; i++)
		bits[i / 64] |= UINT64_C(1) << i % 64;
	return 0;
}

int umm_opencl_window_dirty(struct umm_opencl_window *window, uint64_t *bits)
{
	struct umm_ctx *ctx;
	int ret;

	if (!live_is(LIVE_WINDOW, window) || !bits)
		return -EINVAL;
	ret = device_enter(window->ocl, &ctx);
	if (ret)
		return ret;
	pthread_mutex_lock(&window->ocl->windows->residency);
	ret = dirty_locked(window, bits);
	pthread_mutex_unlock(&window->ocl->windows->residency);
	device_leave(window->ocl, ctx);
	return ret;
}
