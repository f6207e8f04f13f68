/* SPDX-License-Identifier: MIT */
/*
 * A launch is a loop of rounds: run the kernel, serve the pages that it missed, run
 * again the work-items that missed them, until none does.
 *
 * Every round brings the pages that are missed first, so that a work-item gets
 * further with each, as long as the pages it has used stay. When the work-items need
 * more together than the device holds, they may take each other's pages for ever.
 * Evidence of that is that as many pages had to go for others as make up half the device
 * without a single work-item having finished; then only a *window* of the work-items
 * goes on, a quarter of them, and the others wait. Windows grow again with success.
 *
 * Whatever the order of eviction is, it may take from a work-item the page that it needs next. So
 * a window that was made smaller *holds*: memory is emptied once, and then only what the window
 * misses comes, into what is free. Where memory fills up without a work-item having finished,
 * the window is still too large. In the end one work-item has all of the device for itself, and
 * misses each page once: it gathers as many as there are, in as many rounds at most.
 *
 * The next launch of the same kernel begins with windows of the size that windows ended up with,
 * and keeps to it until one of them misses nothing.
 *
 * Where the pages that a round misses are more than it brings, the window ends with the last
 * work-item that gets some, and what the others missed is brought before they run. A window that
 * misses nothing is followed by one twice as large.
 *
 * Where a launch begins with so many missing pages that copying takes long, windows may be made
 * on purpose (steps.h): of the work-items with an eighth of the pages, or of the memory. While one
 * window runs, a thread of the core's brings the pages of the next, for which room was made before.
 *
 * A window of one work-item is told apart by what it misses. One that needs too much at
 * once starts over each time and misses what it missed before: it cannot get to
 * anything new. One that keeps how far it got misses at new addresses. So new
 * addresses count as progress there. Without any it gets fewer pages at a time, those
 * that it missed first, so that what it asked for ahead of its need does not take the place
 * of what it needs. With one page at a time, after as many evictions as the device has
 * pages twice over (more than it takes to get rid of everything that others left behind)
 * and several times the addresses known, that work-item cannot be run: -ENOSPC.
 *
 * Only pages brought into full memory count: those that a CPU takes back are no evidence.
 *
 * Locks: umm_opencl.launch, held throughout.
 */
#include <errno.h>
#include <inttypes.h>
#include <string.h>
#include <time.h>

#include "attend.h"
#include "launch.h"
#include "later.h"
#include "live.h"
#include "mapping.h"
#include "report.h"
#include "service.h"
#include "size.h"
#include "steps.h"
#include "visited.h"

#define IDLE_NS	     UINT64_C(2000000000) /* give up when nothing came for so long */
#define IDLE_STEP_NS 10000
#define IDLE_MAX_NS  1000000
#define THOROUGH     3 /* rounds without any page before asking why */
#define SPARE_PAGES  512
#define SAME_AGAIN   4 /* tours of the addresses known */
#define ASK_ANYWAY   64
#define DONE	     1	  /* no error, but the end */
#define SUCCESSES    8	  /* windows before trying sizes that failed */
#define FREE_SHARE   8	  /* of the device's memory is free where work-items wait for pages */
#define STEPS	     8	  /* of what is missed at first, or of the memory */
#define LEAST_STEP   1024 /* pages: copies that take longer than it costs to run a round */
#define ITEM_PAGES   2	  /* missed by each work-item: then one that is passed over costs little */
#define FLAGS_ALL    (UMM_OPENCL_WAIT | UMM_OPENCL_REPLAY)

struct launch {
	struct umm_opencl *ocl;
	const struct umm_opencl_work *work;
	struct umm_opencl_result *result;
	struct round_args args;
	uint32_t nitems;

	uint32_t waiting;	/* unfinished work-items of the window */
	uint32_t stalled;	/* rounds since one finished */
	uint64_t displaced;	/* pages brought where memory was full: others had to go */
	uint64_t evicted;	/* so many when one finished last */
	uint32_t ceiling;	/* windows of this size stalled; 0: none did */
	uint32_t successes;	/* windows done since */
	bool recalled;		/* the ceiling is that of an earlier launch */
	uint32_t fit;		/* so many work-items did not stall; 0: none ever did */
	uint32_t batch;		/* pages that a round brings at most */
	uint64_t may_step;	/* since then: it could go in steps; 0: not so */
	bool stepped;		/* and did, */
	uint32_t npages;	/* with so many missing */
	uint32_t step;		/* so many, while what follows comes as they run; 0: no steps */
	bool missed;		/* the window has missed pages */
	bool holding;		/* memory was emptied for this window, and fills up, */
	bool advanced;		/* and it has got further since, */
	uint64_t held;		/* with so many pages */
	struct visited visited; /* addresses that a window of one work-item missed */
	bool replays;		/* nobody waits for pages any more */
	uint32_t idle;		/* rounds since any page came */
	uint64_t idle_since;
};

static uint64_t now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

static int count_items(const struct umm_opencl_work *work, uint32_t *nitems)
{
	uint64_t count = 1;

	for (cl_uint i = 0; i < work->dims; i++) {
		if (!work->global[i] || work->global[i] > UINT32_MAX)
			return -EINVAL;
		count *= work->global[i];
		if (count > UINT32_MAX)
			return -EINVAL;
	}
	*nitems = (uint32_t)count;
	return 0;
}

static int check_work(const struct umm_opencl_work *work)
{
	cl_uint nargs = 0;
	int ret;

	if (work->flags & ~(uint64_t)FLAGS_ALL || work->flags == FLAGS_ALL || !work->kernel ||
	    !work->global || work->dims < 1 || work->dims > 3 || (work->nwait && !work->wait))
		return -EINVAL;
	ret = report_cl_given(clGetKernelInfo(work->kernel, CL_KERNEL_NUM_ARGS, sizeof(nargs),
					      &nargs, NULL),
			      "clGetKernelInfo() of the kernel given");
	if (ret)
		return ret;
	if (nargs < UMM_OPENCL_ARGS) {
		report(UMM_LOG_ERROR,
		       "the kernel has %u arguments: it does not begin with "
		       "UMM_KERNEL_ARGS",
		       nargs);
		return -EINVAL;
	}
	return 0;
}

static int wait_events(const struct umm_opencl_work *work)
{
	if (!work->nwait)
		return 0;
	return report_cl_given(clWaitForEvents(work->nwait, work->wait),
			       "clWaitForEvents() of a launch");
}

/*
 * For what is in the program's queue, operations that were handed over included. A marker,
 * because clFinish() of rusticl does not wait for what was flushed before.
 */
static int wait_queue(struct umm_opencl *ocl)
{
	cl_event event;
	cl_int err = clEnqueueMarkerWithWaitList(ocl->queue, 0, NULL, &event);

	int ret = report_cl(err, "clEnqueueMarkerWithWaitList() before a launch");

	if (!ret) {
		ret = report_cl(clWaitForEvents(1, &event), "clWaitForEvents() before a launch");
		clReleaseEvent(event);
	}
	return ret && loss_ask(&ocl->transfer.loss) ? -ENODEV : ret;
}

/*
 * The right to run rounds. What a foreign queue or the caller's events hold up must not count
 * as a round; and where rounds are not in the program's queue, what is there comes first. That
 * may be operations which need the same right.
 */
static int launch_lock(struct umm_opencl *ocl)
{
	int ret = ocl->foreign_queue ? wait_queue(ocl) : 0;

	pthread_mutex_lock(&ocl->launch);
	if (ret || ocl->foreign_queue || ocl->rounds == ocl->queue)
		return ret;
	pthread_mutex_unlock(&ocl->launch);
	ret = wait_queue(ocl);
	pthread_mutex_lock(&ocl->launch);
	return ret;
}

static bool is_single(const struct launch *l)
{
	return l->args.hi - l->args.lo == 1;
}

/* Of the pages that a round misses: the rest of the memory is for what those lead to. */
static uint32_t most_pages(const struct launch *l)
{
	return (l->ocl->pools.nframes + 1) / 2;
}

static void window_start(struct launch *l, uint32_t lo, uint32_t size)
{
	l->args.lo = lo;
	l->args.hi = size < l->nitems - lo ? lo + size : l->nitems;
	l->waiting = UINT32_MAX;
	l->stalled = 0;
	l->evicted = l->displaced;
	l->batch = most_pages(l);
	l->missed = false;
	l->holding = false;
	visited_clear(&l->visited);
}

/* This window is done. false: and so is the launch. */
static bool window_next(struct launch *l)
{
	uint32_t size = l->args.hi - l->args.lo;

	if (l->args.hi == l->nitems)
		return false;
	/* All of it was there: memory may be enough now. */
	if (l->recalled && !l->missed) {
		l->ceiling = l->fit = 0;
		l->recalled = false;
	}
	if (!l->recalled && ++l->successes >= SUCCESSES) {
		l->successes = 0;
		l->ceiling = l->ceiling < UINT32_MAX / 2 ? 2 * l->ceiling : UINT32_MAX;
	}
	if (size < l->ceiling / 2 || (!l->ceiling && !l->missed && size < l->nitems))
		size *= 2;
	window_start(l, l->args.hi, size);
	return true;
}

static void describe(struct launch *l, const struct fault *fault, int err)
{
	const char *what = fault->flags & FAULT_WRITE ? "stored to" : "loaded from";
	const char *why = umm_strerror(err);

	l->result->fault_addr = fault->addr;
	l->result->fault_item = fault->item;
	l->result->fault_write = fault->flags & FAULT_WRITE;
	l->result->fault_valid = true;
	if (err == -EINVAL)
		why = "the address is not a multiple of the type's size";
	else if (err == -EPERM)
		why = "the memory is read-only";
	report(UMM_LOG_ERROR, "work-item %" PRIu32 " %s 0x%" PRIx64 ": %s", fault->item, what,
	       fault->addr, why);
}

/* From here on the window has all of the memory, and keeps what it gets. */
static void hold(struct launch *l)
{
	service_drop_rest(l->ocl);
	umm_devmem_evict(l->ocl->mem, l->ocl->pools.nframes);
	l->step = 0;
	l->holding = true;
	l->advanced = false;
	l->held = 0;
}

/* The work-items keep taking each other's pages, or one its own: run fewer, or bring fewer. */
static int shrink(struct launch *l, const struct round_outcome *round)
{
	uint32_t size = l->args.hi - l->args.lo;

	if (!is_single(l)) {
		l->ceiling = size;
		l->recalled = false;
		l->fit = size / 2;
		l->successes = 0;
		window_start(l, l->args.lo, size / 4 ? size / 4 : 1);
		hold(l);
		return 0;
	}
	if (l->batch > 1) {
		l->batch /= 2;
		l->stalled = 0;
		l->evicted = l->displaced;
		hold(l);
		return 0;
	}
	report(UMM_LOG_ERROR,
	       "work-item %" PRIu32 " needs more pages at once than the device's %" PRIu32,
	       l->args.lo, l->ocl->pools.nframes);
	if (round->nfaults)
		describe(l, round->faults, -ENOSPC);
	return -ENOSPC;
}

/* Did a single work-item miss anything that it had not missed before? */
static bool is_further(struct launch *l, const struct round_outcome *round)
{
	bool further = false;

	for (uint32_t i = 0; is_single(l) && i < round->nfaults; i++)
		further |= visited_add(&l->visited, round->faults[i].addr);
	return further;
}

/* So many evictions without progress are too many. */
static uint64_t most_evictions(const struct launch *l)
{
	uint64_t nframes = l->ocl->pools.nframes;

	if (!is_single(l) || l->batch > 1)
		return nframes / 2;
	return 2 * nframes + SPARE_PAGES + SAME_AGAIN * (uint64_t)l->visited.count;
}

/* Is the window getting anywhere? To be asked after each round that left faults. */
static int judge(struct launch *l, const struct round_outcome *round, bool further,
		 const struct service_outcome *service)
{
	if (further || round->nitems < l->waiting) {
		if (service->full || l->stalled)
			l->evicted = l->displaced;
		if (2 * l->batch <= most_pages(l))
			l->batch *= 2;
		l->waiting = round->nitems;
		l->stalled = 0;
		l->advanced = true;
		return 0;
	}
	if (l->holding)
		return 0;
	/* Evictions are the evidence; ask after them where there were some, and now and then. */
	if (++l->stalled < 2 || (!service->full && l->stalled % ASK_ANYWAY))
		return 0;
	if (l->displaced - l->evicted <= most_evictions(l))
		return 0;
	return shrink(l, round);
}

/* Nothing came this time: others hold the pages or the memory. Wait, but not for ever. */
static int idle(struct launch *l, const struct round_outcome *round)
{
	uint64_t ns = (uint64_t)IDLE_STEP_NS << (l->idle < 16 ? l->idle : 16);
	struct timespec nap = { .tv_nsec = (long)(ns < IDLE_MAX_NS ? ns : IDLE_MAX_NS) };
	int err;

	if (!l->idle++)
		l->idle_since = now_ns();
	if (now_ns() - l->idle_since < IDLE_NS) {
		nanosleep(&nap, NULL);
		return 0;
	}
	err = umm_devmem_nfree(l->ocl->mem) ? -EBUSY : -ENOSPC;
	if (round->nfaults)
		describe(l, round->faults, err);
	return err;
}

/* All of the memory is full of what this window has missed. */
static int held_all(struct launch *l, const struct round_outcome *round)
{
	if (l->advanced) {
		l->holding = false;
		return 0;
	}
	if (is_single(l) && l->batch == 1 && l->displaced - l->evicted <= most_evictions(l)) {
		hold(l);
		return 0;
	}
	return shrink(l, round);
}

/* Free memory is for all that is missed; of what others are in for that, half. */
static uint32_t pages_to_bring(const struct launch *l)
{
	uint32_t nfree = umm_devmem_nfree(l->ocl->mem);

	if (l->step)
		return l->step;
	return l->batch == most_pages(l) && nfree > l->batch ? nfree : l->batch;
}

/* Those behind the last work-item that got pages wait for the next window. */
static void slice(struct launch *l, const struct service_outcome *service)
{
	uint32_t hi = service->last_item + 1;

	l->missed |= service->npages > 0;
	if (!service->cut || hi <= l->args.lo || hi >= l->args.hi)
		return;
	l->args.hi = hi;
	l->waiting = UINT32_MAX;
}

static void count_pages(struct launch *l, const struct service_outcome *service, uint64_t start)
{
	l->result->pages_migrated += service->nmigrated;
	l->result->pages_readahead += service->nreadahead;
	l->result->service_ns += now_ns() - start;
}

/* The next window begins: with what its work-items have missed already. */
static int serve_rest(struct launch *l)
{
	uint64_t start = now_ns();
	const struct service_want want = { .most = pages_to_bring(l), .step = l->step };
	struct service_outcome outcome;
	int ret = service_rest(l->ocl, &want, &outcome);

	count_pages(l, &outcome, start);
	if (outcome.full)
		l->displaced += outcome.nmigrated;
	if (outcome.npages && !outcome.cut)
		l->args.hi = l->nitems;
	slice(l, &outcome);
	return ret;
}

/*
 * Many pages are missed at first, by work-items that each have much to do: part of them come, and
 * the next part while the work-items run whose pages are there.
 */
static void start_steps(struct launch *l, const struct round_outcome *round)
{
	uint32_t nframes = l->ocl->pools.nframes;
	uint32_t most = (round->nfaults < nframes ? round->nfaults : nframes) / STEPS;

	if (l->result->rounds > 1 || most < LEAST_STEP || l->nitems > round->nfaults / ITEM_PAGES)
		return;
	l->may_step = now_ns();
	l->npages = round->nfaults;
	/* Pages may be reported twice. */
	l->stepped = steps_pay(l->ocl, l->work, l->nitems, round->nfaults / 8 * 7 > nframes);
	if (l->stepped)
		l->step = most;
}

/*
 * Steps are for work-items that miss next to nothing besides what they missed at first. Of others,
 * all that is left comes, and all go on together: each step of theirs would take several rounds.
 */
static int stop_steps(struct launch *l, const struct round_outcome *round)
{
	if (round->nfaults <= l->step / STEPS)
		return 0;
	l->step = 0;
	l->waiting = UINT32_MAX;
	return serve_rest(l);
}

static int serve(struct launch *l, const struct round_outcome *round)
{
	uint64_t start = now_ns();
	const struct service_want want = { .most = pages_to_bring(l),
					   .thorough = l->idle >= THOROUGH,
					   .hold = l->holding,
					   .step = l->step };
	struct service_outcome outcome;
	bool further = is_further(l, round); /* serving reorders the faults */
	int ret;

	ret = service_run(l->ocl, round, &want, &outcome);
	l->result->faults += outcome.npages;
	count_pages(l, &outcome, start);
	l->held += outcome.nmigrated;
	if (outcome.full || l->holding)
		l->displaced += outcome.nmigrated;
	if (ret) {
		if (outcome.blame_valid)
			describe(l, &outcome.blame, ret);
		return ret;
	}
	if (l->holding && l->held && outcome.full && !outcome.nserved && !outcome.nmigrated)
		return held_all(l, round);
	if (!outcome.nserved && !outcome.nmigrated && round->nfaults)
		return idle(l, round);
	l->idle = 0;
	slice(l, &outcome);
	return judge(l, round, further, &outcome);
}

static void add_times(struct umm_opencl_result *result, const struct round_outcome *round)
{
	result->kernel_ns += round->kernel_ns;
	result->device_ns += round->device_end - round->device_start;
	result->device_end = round->device_end;
	if (!result->device_start)
		result->device_start = round->device_start;
}

/* Work-items that have something to do, as far as is known. */
static uint32_t items_left(const struct launch *l)
{
	return l->waiting == UINT32_MAX ? l->args.hi - l->args.lo : l->waiting;
}

/* May those that miss a page in this round wait for it? As round_run() has it. */
static uint32_t may_wait(const struct launch *l)
{
	if (l->replays || l->holding || l->idle || l->stalled ||
	    umm_devmem_nfree(l->ocl->mem) < l->ocl->pools.nframes / FREE_SHARE)
		return 0;
	if (l->work->flags & UMM_OPENCL_WAIT)
		return ROUND_WAIT;
	return attend_pays(l->ocl, items_left(l)) ? items_left(l) : 0;
}

/* What came while the kernel ran. 0 or an error. */
static int add_waited(struct launch *l, const struct round_outcome *round)
{
	l->result->faults += round->nwaited;
	l->result->faults_waited += round->nwaited;
	l->result->pages_migrated += round->nmigrated;
	l->result->pages_readahead += round->nreadahead;
	l->result->service_ns += round->service_ns;
	l->missed |= round->nwaited > 0;
	l->replays |= round->gave_up;
	return round->err;
}

/* A round, and what comes for the next step meanwhile. */
static int run_round(struct launch *l, uint32_t wait, struct round_outcome *round)
{
	uint64_t start = now_ns();
	int ret;

	mapping_end(l->ocl);
	if (l->step && !wait)
		service_ahead_begin(l->ocl, l->step);
	l->result->service_ns += now_ns() - start;
	ret = round_run(l->ocl, l->work, &l->args, wait, round);
	start = now_ns();
	l->result->pages_migrated += service_ahead_end(l->ocl);
	l->result->service_ns += now_ns() - start;
	return ret ? ret : add_waited(l, round);
}

/* What running work-items again costs: the first round has the compiling of some, and all items. */
static void learn(struct launch *l, const struct round_outcome *round, uint64_t service_ns,
		  uint64_t npages)
{
	if (l->result->rounds > 1 && !round->nwaited)
		attend_learn_replay(l->ocl, items_left(l), round->kernel_ns + service_ns, npages);
}

static int launch_rounds(struct launch *l)
{
	struct round_outcome round;
	uint64_t npages, ns;
	uint32_t wait;
	int ret;

	for (;;) {
		wait = may_wait(l);
		ret = run_round(l, wait, &round);
		if (ret)
			return ret;
		l->result->rounds++;
		add_times(l->result, &round);
		l->result->items_replayed += round.nitems;
		service_touch(l->ocl);
		if (!round.nitems) {
			ret = window_next(l) ? serve_rest(l) : DONE;
			if (ret)
				return ret == DONE ? 0 : ret;
			continue;
		}
		npages = l->result->faults;
		ns = l->result->service_ns;
		ret = l->step ? stop_steps(l, &round) : 0;
		if (!ret && !wait)
			start_steps(l, &round);
		if (!ret)
			ret = serve(l, &round);
		if (ret)
			return ret;
		learn(l, &round, l->result->service_ns - ns, l->result->faults - npages);
	}
}

/* All work-items at once, or as many as memory was enough for when this kernel ran last. */
static void first_window(struct launch *l)
{
	uint32_t fit = steps_fit(l->ocl, l->work, l->nitems);

	l->recalled = fit > 0;
	l->fit = fit;
	l->ceiling = fit < UINT32_MAX / 2 ? 2 * fit : UINT32_MAX;
	window_start(l, 0, fit ? fit : l->nitems);
}

static int run_locked(struct umm_opencl *ocl, const struct umm_opencl_work *work,
		      struct umm_opencl_result *result)
{
	struct launch l = { .ocl = ocl,
			    .work = work,
			    .result = result,
			    .replays = !ocl->attendant || work->flags & UMM_OPENCL_REPLAY };
	int ret;

	ret = count_items(work, &l.nitems);
	if (!ret)
		ret = round_prepare(ocl, l.nitems);
	if (ret)
		return ret;
	result->items = l.nitems;
	/* What the program unmapped or dropped before this call has been announced after it. */
	umm_notifier_read_begin(umm_mirror_notifier(ocl->mirror));
	service_drop_rest(ocl);
	attend_forget(ocl);
	first_window(&l);
	ret = launch_rounds(&l);
	mapping_end(ocl);
	if (!ret)
		steps_learn_fit(ocl, work, l.nitems, l.fit);
	if (!ret && l.may_step)
		steps_learn(ocl, work, l.nitems, l.stepped, (now_ns() - l.may_step) / l.npages);
	visited_clear(&l.visited);
	return ret && loss_is_known(&ocl->transfer.loss) ? -ENODEV : ret;
}

int launch_run(struct umm_opencl *ocl, const struct umm_opencl_work *work,
	       struct umm_opencl_result *result)
{
	uint64_t start = now_ns();
	int ret;

	pthread_mutex_lock(&ocl->launch);
	ret = run_locked(ocl, work, result);
	pthread_mutex_unlock(&ocl->launch);
	result->total_ns = now_ns() - start;
	return ret;
}

/* The caller waits: what is in the queue comes first. */
static int launch_now(struct umm_opencl *ocl, const struct umm_opencl_work *work,
		      struct umm_opencl_result *result)
{
	uint64_t start = now_ns();
	int ret = wait_events(work);

	if (ret)
		return ret;
	ret = launch_lock(ocl);
	if (!ret)
		ret = run_locked(ocl, work, result);
	pthread_mutex_unlock(&ocl->launch);
	result->total_ns = now_ns() - start;
	return ret;
}

static int answer(struct umm_opencl_result *result, struct umm_opencl_result *ours, int ret)
{
	ours->status = ret;
	if (result)
		size_out(result, ours, sizeof(*ours));
	return ret;
}

static int launch_entered(struct umm_opencl *ocl, const struct umm_opencl_work *work,
			  struct umm_opencl_result *result)
{
	struct umm_opencl_result ours = { 0 };
	uint32_t nitems;
	int ret;

	ret = loss_is_known(&ocl->transfer.loss) ? -ENODEV : check_work(work);
	if (!ret)
		ret = count_items(work, &nitems);
	if (!ret && work->event) {
		ret = later_launch(ocl, work, result);
		return ret ? answer(result, &ours, ret) : 0;
	}
	if (!ret)
		ret = launch_now(ocl, work, &ours);
	return answer(result, &ours, ret);
}

int umm_opencl_launch(struct umm_opencl *ocl, const struct umm_opencl_work *work,
		      struct umm_opencl_result *result)
{
	struct umm_opencl_work request;
	struct umm_ctx *ctx;
	int ret;

	if (!live_is(LIVE_DEVICE, ocl))
		return -EINVAL;
	ret = size_in(&request, sizeof(request), work);
	if (!ret && result)
		ret = size_check(result, sizeof(*result));
	if (ret)
		return ret;
	ret = device_enter(ocl, &ctx);
	if (ret)
		return answer(result, &(struct umm_opencl_result){ 0 }, ret);
	ret = launch_entered(ocl, &request, result);
	device_leave(ocl, ctx);
	return ret;
}
