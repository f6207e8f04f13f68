/* SPDX-License-Identifier: MIT */
/*
 * Work-items that wait. Where host and kernel see each other's stores (fine-grained buffers with
 * atomics) a work-item that misses a page need not fault: it reports the page as ever, and waits
 * until the entry is there. A thread reads the reports while the kernel runs, brings
 * the pages, and puts their entries into the device's copy of the page table.
 *
 *	work-item				attendant
 *
 *	reports the page			sees the report
 *	reads the entry until there is one	migrates the page
 *	.					entry := valid (release)
 *	goes on with its access
 *
 * Only what was not there comes: entries of a running kernel neither change nor go, for who runs
 * may have them in registers. So nothing is evicted for it, a page that is there to be read does
 * not become writable, and nothing in the table moves. Where it would take that, and where a page
 * does not come, a change of pages waits for the kernel (mirror.c), or the device goes away,
 * waiting is stopped: a word that every work-item looks at becomes 0, those that wait fault, and
 * all goes on as if none had waited. What came stays.
 *
 * A work-item that sees nothing come for long stops waiting by itself, for all. So a
 * kernel ends whatever holds up the attendant: locks of the OpenCL implementation, a page that is
 * held elsewhere, or no CPU to run on.
 *
 * While a kernel waits the host copies pages itself (transfer.c): a command would have to wait for
 * the kernel, or for the threads that it spins in.
 *
 * A work-item that waits holds a processor, and only as many as run at once report pages together,
 * whereas one round collects those of all. So work-items wait where few are left, and are
 * run again where they are many. Few wait where that takes no longer for a page than running
 * them again took. Which one is faster depends on the kernel, and on a CPU device on whether the
 * attendant has a CPU to itself. So both are measured, for each order of magnitude of work-items:
 * waiting stops after some pages to try the other way once, and where it turns out to be slower.
 * What was slower is tried again after a while.
 *
 * Locks: attendant.lock; umm_opencl.update for the word and the table. The service is the
 * attendant's from attend_begin() to attend_end(), on behalf of the thread that holds
 * umm_opencl.launch.
 */
#include "attend.h"

#include <errno.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <time.h>
#include <unistd.h>

#include "report.h"
#include "service.h"

#define POLLS	       (UINT32_C(1) << 28) /* of a work-item without progress: most of a second */
#define ITEMS_PER_UNIT 8		   /* that may wait rather than being run again */
#define SIZES	       16		   /* orders of magnitude of work-items, by 2 */
#define TRIAL	       32		   /* pages before the other way is tried */
#define FEW	       8		   /* pages before costs are compared */
#define FORGET	       16 /* a share of a cost that puts off waiting, with each launch */
#define SPINS	       64 /* looks at the reports before the first nap */
#define NAP_NS	       5000
#define NAP_MOST_NS    1000000
#define NAP_SHARE      8 /* of the time in which nothing was reported */

/* Nanoseconds for a page; 0: not known. */
struct cost {
	uint64_t wait;
	uint64_t replay;
};

struct attendant {
	struct umm_opencl *ocl;
	struct cost cost[SIZES]; /* of umm_opencl.launch, or the attendant on its behalf */
	struct cost *compare;	 /* in the round that is attended; NULL: it does not matter */
	uint64_t since;		 /* its first report */
	struct fault *faults;	 /* of a batch, as many as there can be */
	struct fault *left;	 /* what was looked at, and did not come */
	uint32_t nleft;
	uint32_t taken; /* reports looked at */
	struct round_outcome came;

	/* Protected by umm_opencl.update. */
	bool attending; /* a round runs whose work-items may wait */
	bool stopped;	/* or might until somebody had it stopped */

	pthread_mutex_t lock; /* Protects: what follows. Inside: nothing */
	pthread_cond_t changed;
	pthread_t thread;
	bool started;
	bool busy; /* a round is attended, or its last pages are under way */
	bool quit;
	atomic_bool over; /* the kernel is */
};

static uint64_t now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

/* A word of the control buffer, which the kernel may be using. */
static _Atomic uint32_t *control(struct umm_opencl *ocl, unsigned word)
{
	return (_Atomic uint32_t *)ocl->control.host + word;
}

void attend_decide(struct umm_opencl *ocl)
{
	const char *wanted = getenv("UMM_OPENCL_WAIT");
	struct platform_limits limits;

	platform_limits(ocl->device, &limits);
	ocl->can_wait = limits.atomics;
	ocl->most_items = ITEMS_PER_UNIT * limits.units;
	if (!wanted || !*wanted || !strcmp(wanted, "auto"))
		return;
	if (!strcmp(wanted, "never"))
		ocl->can_wait = false;
	else if (!strcmp(wanted, "always"))
		ocl->most_items = UINT32_MAX;
	else
		report(UMM_LOG_WARNING,
		       "UMM_OPENCL_WAIT=%s says nothing: it is auto; known are auto, always and "
		       "never",
		       wanted);
}

int attend_create(struct umm_opencl *ocl)
{
	struct attendant *attendant;

	if (!ocl->control.host)
		return 0;
	attendant = calloc(1, sizeof(*attendant));
	if (!attendant)
		return -ENOMEM;
	attendant->ocl = ocl;
	attendant->faults = calloc(ocl->fault_entries, sizeof(*attendant->faults));
	attendant->left = calloc(ocl->fault_entries, sizeof(*attendant->left));
	pthread_mutex_init(&attendant->lock, NULL);
	pthread_cond_init(&attendant->changed, NULL);
	ocl->attendant = attendant;
	return attendant->faults && attendant->left ? 0 : -ENOMEM;
}

static void quit(struct attendant *attendant)
{
	if (!attendant->started)
		return;
	pthread_mutex_lock(&attendant->lock);
	attendant->quit = true;
	pthread_cond_broadcast(&attendant->changed);
	pthread_mutex_unlock(&attendant->lock);
	pthread_join(attendant->thread, NULL);
}

void attend_destroy(struct umm_opencl *ocl)
{
	struct attendant *attendant = ocl->attendant;

	if (!attendant)
		return;
	/* In a forked child there is no thread, and its locks may be held. */
	if (ocl->owner == getpid()) {
		quit(attendant);
		pthread_cond_destroy(&attendant->changed);
		pthread_mutex_destroy(&attendant->lock);
	}
	free(attendant->faults);
	free(attendant->left);
	free(attendant);
	ocl->attendant = NULL;
}

void attend_stop_locked(struct umm_opencl *ocl)
{
	if (!ocl->attendant || !ocl->attendant->attending)
		return;
	ocl->attendant->stopped = true;
	atomic_store(control(ocl, CONTROL_WAIT), 0);
}

static void stop(struct umm_opencl *ocl)
{
	pthread_mutex_lock(&ocl->update);
	attend_stop_locked(ocl);
	pthread_mutex_unlock(&ocl->update);
}

bool attend_may_set_locked(struct umm_opencl *ocl, uintptr_t addr)
{
	size_t nleaves = ocl->leaves.len / TABLE_LEAF_BYTES;

	if (!ocl->attendant || !ocl->attendant->attending)
		return false;
	if (nleaves > ocl->nused)
		nleaves = ocl->nused;
	return !table_get(&ocl->table, addr) &&
	       table_has_room(&ocl->table, addr, (uint32_t)nleaves);
}

void attend_publish_locked(struct umm_opencl *ocl, uintptr_t addr)
{
	struct table_place place = table_place(&ocl->table, addr);
	_Atomic uint32_t *entries = ocl->leaves.host;
	_Atomic uint64_t *slots = ocl->directory.host;
	uint64_t slot;

	_Static_assert(sizeof(slot) == sizeof(struct table_slot), "stored at once");
	atomic_store_explicit(&entries[place.entry], ocl->table.leaves[place.entry],
			      memory_order_release);
	memcpy(&slot, &ocl->table.directory[place.slot], sizeof(slot));
	atomic_store_explicit(&slots[place.slot], slot, memory_order_release);
}

static struct cost *cost_of(struct attendant *attendant, uint32_t nitems)
{
	unsigned size = nitems ? 31 - (unsigned)__builtin_clz(nitems) : 0;

	return &attendant->cost[size < SIZES ? size : SIZES - 1];
}

static void learn(uint64_t *cost, uint64_t ns, uint64_t npages)
{
	uint64_t now = ns / npages + 1;

	*cost = *cost ? (3 * *cost + now) / 4 : now;
}

bool attend_pays(struct umm_opencl *ocl, uint32_t nitems)
{
	struct cost *cost = cost_of(ocl->attendant, nitems);

	if (ocl->most_items == UINT32_MAX)
		return true;
	if (nitems > ocl->most_items)
		return false;
	if (!cost->wait)
		return true;
	return cost->wait <= cost->replay;
}

void attend_forget(struct umm_opencl *ocl)
{
	struct cost *cost = ocl->attendant ? ocl->attendant->cost : NULL;

	for (unsigned i = 0; cost && i < SIZES; i++)
		if (cost[i].wait > cost[i].replay)
			cost[i].wait -= cost[i].wait / FORGET;
}

void attend_learn_replay(struct umm_opencl *ocl, uint32_t nitems, uint64_t ns, uint64_t npages)
{
	if (ocl->attendant && npages)
		learn(&cost_of(ocl->attendant, nitems)->replay, ns, npages);
}

/* Does waiting take too long, or has the other way never been tried? */
static bool is_dear(const struct attendant *attendant)
{
	uint64_t n = attendant->came.nwaited;

	if (!attendant->compare || n < FEW)
		return false;
	if (!attendant->compare->replay)
		return n >= TRIAL;
	return (now_ns() - attendant->since) / n > 2 * attendant->compare->replay;
}

/* Reports since the last look, up to the first that is not complete. */
static uint32_t take_reports(struct attendant *attendant)
{
	struct umm_opencl *ocl = attendant->ocl;
	uint32_t end = atomic_load_explicit(control(ocl, CONTROL_FAULTS), memory_order_acquire);
	uint32_t n = 0, flags;
	_Atomic uint32_t *log = control(ocl, CONTROL_LOG);

	if (end > ocl->fault_entries)
		end = ocl->fault_entries;
	for (; attendant->taken < end; attendant->taken++, n++) {
		flags = atomic_load_explicit(&log[FAULT_WORDS * attendant->taken + 2],
					     memory_order_acquire);
		if (!(flags & FAULT_READY))
			break;
		memcpy(&attendant->faults[n],
		       (char *)ocl->control.host +
			       (CONTROL_LOG + FAULT_WORDS * (size_t)attendant->taken) *
				       sizeof(uint32_t),
		       sizeof(*attendant->faults));
	}
	return n;
}

static void serve(struct attendant *attendant, uint32_t count)
{
	struct umm_opencl *ocl = attendant->ocl;
	uint64_t start = now_ns();
	struct service_outcome outcome;
	uint32_t nleft;
	int ret;

	if (!attendant->since)
		attendant->since = start;
	atomic_fetch_add(control(ocl, CONTROL_BEAT), 1);
	ret = service_attend(ocl, attendant->faults, &count, &nleft, &outcome);
	attendant->came.nwaited += outcome.nserved;
	if (ret || nleft || is_dear(attendant))
		stop(ocl);
	memcpy(attendant->left + attendant->nleft, attendant->faults, count * sizeof(struct fault));
	attendant->nleft += count;
	attendant->came.nmigrated += outcome.nmigrated;
	attendant->came.nreadahead += outcome.nreadahead;
	attendant->came.service_ns += now_ns() - start;
	if (ret && !attendant->came.err)
		attendant->came.err = ret;
	atomic_fetch_add(control(ocl, CONTROL_BEAT), 1);
}

/* Short at first; then a share of the time that has passed, so that it costs next to nothing. */
static void nap(uint32_t looks, uint64_t since)
{
	uint64_t ns = (now_ns() - since) / NAP_SHARE;
	struct timespec time = { 0 };

	if (looks < SPINS)
		return;
	if (ns < NAP_NS)
		ns = NAP_NS;
	time.tv_nsec = (long)(ns < NAP_MOST_NS ? ns : NAP_MOST_NS);
	nanosleep(&time, NULL);
}

static void attend(struct attendant *attendant)
{
	uint64_t since = now_ns();
	uint32_t count, looks = 0;

	while (!atomic_load(&attendant->over)) {
		count = take_reports(attendant);
		if (!count) {
			nap(looks++, since);
			continue;
		}
		serve(attendant, count);
		since = now_ns();
		looks = 0;
	}
}

static void *attendant_main(void *priv)
{
	struct attendant *attendant = priv;

	prctl(PR_SET_TIMERSLACK, 1, 0, 0, 0); /* naps are short */
	pthread_mutex_lock(&attendant->lock);
	for (;;) {
		while (!attendant->busy && !attendant->quit)
			pthread_cond_wait(&attendant->changed, &attendant->lock);
		if (attendant->quit)
			break;
		pthread_mutex_unlock(&attendant->lock);
		attend(attendant);
		pthread_mutex_lock(&attendant->lock);
		attendant->busy = false;
		pthread_cond_broadcast(&attendant->changed);
	}
	pthread_mutex_unlock(&attendant->lock);
	return NULL;
}

/* With signals blocked: a handler that touches a page of the device would wait for this thread. */
static bool start(struct attendant *attendant)
{
	sigset_t all, before;
	int err;

	if (attendant->started)
		return true;
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	err = pthread_create(&attendant->thread, NULL, attendant_main, attendant);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	if (err)
		report(UMM_LOG_WARNING,
		       "no thread could be started that serves kernels while they run: %s",
		       umm_strerror(-err));
	attendant->started = !err;
	return attendant->started;
}

void attend_begin(struct umm_opencl *ocl, uint32_t nitems)
{
	struct attendant *attendant = ocl->attendant;

	if (!ocl->leaves.host || !ocl->directory.host || !start(attendant))
		return;
	attendant->nleft = attendant->taken = 0;
	attendant->since = 0;
	attendant->compare = NULL;
	if (nitems && ocl->most_items < UINT32_MAX)
		attendant->compare = cost_of(attendant, nitems);
	memset(&attendant->came, 0, sizeof(attendant->came));
	atomic_store(&ocl->transfer.busy, true);
	atomic_store(control(ocl, CONTROL_WAIT), POLLS);
	pthread_mutex_lock(&ocl->update);
	attendant->attending = true;
	attendant->stopped = false;
	/* Somebody waits for the end of this round already, or the device is to go. */
	if (ocl->invalidators || ocl->gone)
		attend_stop_locked(ocl);
	pthread_mutex_unlock(&ocl->update);
	pthread_mutex_lock(&attendant->lock);
	atomic_store(&attendant->over, false);
	attendant->busy = true;
	pthread_cond_broadcast(&attendant->changed);
	pthread_mutex_unlock(&attendant->lock);
}

/* Faults of the round: those that were looked at and are left come before those that were not. */
static void sum_up(struct attendant *attendant, struct round_outcome *outcome)
{
	uint32_t taken = attendant->taken < outcome->nfaults ? attendant->taken : outcome->nfaults;
	uint32_t nleft = attendant->nleft < taken ? attendant->nleft : taken;

	outcome->faults += taken - nleft;
	outcome->nfaults -= taken - nleft;
	memcpy(outcome->faults, attendant->left, nleft * sizeof(struct fault));
	outcome->nwaited = attendant->came.nwaited;
	outcome->nmigrated = attendant->came.nmigrated;
	outcome->nreadahead = attendant->came.nreadahead;
	outcome->service_ns = attendant->came.service_ns;
	outcome->err = attendant->came.err;
	if (attendant->compare && outcome->nwaited >= FEW)
		learn(&attendant->compare->wait, now_ns() - attendant->since, outcome->nwaited);
}

void attend_end(struct umm_opencl *ocl, struct round_outcome *outcome)
{
	struct attendant *attendant = ocl->attendant;

	if (!attendant || !attendant->attending)
		return;
	atomic_store(&attendant->over, true);
	pthread_mutex_lock(&attendant->lock);
	while (attendant->busy)
		pthread_cond_wait(&attendant->changed, &attendant->lock);
	pthread_mutex_unlock(&attendant->lock);
	atomic_store(&ocl->transfer.busy, false);
	pthread_mutex_lock(&ocl->update);
	outcome->gave_up = !attendant->stopped && !atomic_load(control(ocl, CONTROL_WAIT)) &&
			   atomic_load(control(ocl, CONTROL_FAULTS)) <= ocl->fault_entries;
	atomic_store(control(ocl, CONTROL_WAIT), 0);
	attendant->attending = false;
	pthread_mutex_unlock(&ocl->update);
	sum_up(attendant, outcome);
}
