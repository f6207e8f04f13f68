/* SPDX-License-Identifier: MIT */
/*
 * Keeps the program's managed memory within its limit.
 *
 * Nothing of it exists until the memory that the program got could exceed the limit. Then a thread
 * opens libumm and the devices, and from there on it looks, in rounds: at the touches that fault
 * servers reported (bring what follows), and at how much is in the host (put away what is
 * cold, between the watermarks). How long it sleeps follows from how near the limit is and how
 * fast a program can touch memory; counting pages may take the share of a CPU that was
 * allowed, and more only if the limit is in question.
 *
 * Where there is no userfaultfd, or only one that fails system calls, and where no device opens,
 * the program goes on without; one line says why.
 *
 * A forked child has what it inherits in ordinary memory: the kernel shares it with the parent,
 * where it counts. For what the child allocates it gets an engine of its own, as the parent did.
 *
 * Locks: round_lock, outermost, over a whole round; fork() takes it, so that no round, and nothing
 * that it holds, is under way while libumm brings pages home. Where a handler of a signal could
 * fork, or end the program, whoever else takes it blocks signals.
 */
#include "engine.h"

#include <dlfcn.h>
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#include <umm.h>

#include "aside.h"
#include "budget.h"
#include "channel.h"
#include "clock.h"
#include "demote.h"
#include "descriptors.h"
#include "grant.h"
#include "heap.h"
#include "policy.h"
#include "residency.h"
#include "room.h"
#include "say.h"
#include "shim.h"
#include "space.h"
#include "state.h"
#include "survey.h"
#include "tiers.h"
#include "touches.h"
#include "trace.h"

#define PAGE  4096u
#define BLOCK ((uintptr_t)2 << 20)
#define MS    UINT64_C(1000000)

enum {
	MARGIN_PART = 16, /* of the limit, between a watermark and the next */
	MARGIN_MIN = 4 << 20,
	MARGIN_MAX = 64 << 20,
	END_PATIENCE_MS = 10000,
	END_LOOK_US = 500,
	TOUCHES_A_ROUND = 4096,
	GRANT_AHEAD = 7, /* blocks */
	RETRY_MS = 20,
	TRACE_PATIENCE_MS = 60000,
};

static _Atomic bool is_gone; /* the engine's thread, after a time of running */

/* ASKED: no further round is to begin; TAKEN: none does, the engine ends. */
enum { GO, ASKED, TAKEN };

static pthread_mutex_t round_lock = PTHREAD_MUTEX_INITIALIZER;
/* Protects, by round_lock: everything down to channel. */
static struct umm_ctx *ctx;
static uint64_t limit, high, low; /* pages */
static _Atomic int stopping;	  /* GO: rounds go on */
static bool was_full, was_pinned;
static struct budget count_budget;
static struct channel *channel;

static enum thread_mode mode_before_fork;
static struct trace_event fork_event;

static uint64_t margin_bytes(uint64_t bytes)
{
	uint64_t margin = bytes / MARGIN_PART;

	return margin < MARGIN_MIN ? MARGIN_MIN : margin > MARGIN_MAX ? MARGIN_MAX : margin;
}

/*
 * What left down to the lower watermark leaves frames for what comes up to the limit; fresh ones
 * would have to be zeroed.
 */
static size_t frames_kept(uint64_t limit_bytes)
{
	return 2 * margin_bytes(limit_bytes);
}

static void limit_set(uint64_t bytes)
{
	uint64_t margin = margin_bytes(bytes) / PAGE;

	limit = bytes / PAGE;
	high = limit - margin;
	low = high - margin;
	policy_resize(high);
	room_limit(limit, low);
	umm_ctx_trim(ctx, frames_kept(bytes));
}

/* ---- a round -------------------------------------------------------------------------- */

/* What each of those who look for cold memory may take of a CPU. */
static unsigned share_permille(void)
{
	return channel->cpu_budget * 10 / (shim_settings()->sampling->passes ? 2 : 1);
}

/* The bound after counting. Takes a share of a CPU that is limited. */
static uint64_t count_now(void)
{
	uint64_t begin = clock_now_ns(), bound = residency_count(ctx), end = clock_now_ns();

	budget_use(&count_budget, end, end - begin, share_permille());
	return bound;
}

/* The most so far. The bound is not always near: nothing over the limit is noted uncounted. */
static uint64_t most_note(uint64_t bound)
{
	_Atomic uint64_t *most = &channel->count[CHANNEL_HOST_MOST];

	if (bound > limit && bound * PAGE > *most)
		bound = count_now();
	if (bound * PAGE > *most)
		*most = bound * PAGE;
	return bound;
}

/* With a look at page tables where it would be over @much. */
static uint64_t bound_now(uint64_t much)
{
	uint64_t bound = residency_bound(ctx);

	/* What was freed is counted still: better to count anew than to put away for nothing. */
	if (bound > much &&
	    (budget_is_left(&count_budget, clock_now_ns()) || residency_stale() >= limit - high))
		bound = count_now();
	return most_note(bound);
}

static void say_once(bool *said, const char *what)
{
	if (!*said)
		shim_say("%s; the host limit is exceeded", what);
	*said = true;
}

static void say_why_not(int ret)
{
	if (ret == -ENOSPC)
		say_once(&was_full, "all devices are full");
	else if (ret == -ENODEV)
		say_once(&was_full, "no device is left");
	else if (ret == -EBUSY)
		say_once(&was_pinned, "what is left in the host is pinned or in use by others");
	else
		say_once(&was_pinned, umm_strerror(ret));
}

/*
 * Get the bound down to @target, or to @enough if the program waits for other things. False: it is
 * as low as it gets; the next try is not at once.
 */
static bool make_room(uint64_t target, uint64_t enough)
{
	static uint64_t next_try_ns;
	int ret;

	/* Who waits for a block does so until it is there, or none can be. */
	if (clock_now_ns() < next_try_ns && (enough >= limit || room_is_given_up()))
		return false;
	ret = demote_until(ctx, target, enough);
	room_give_up(ret && residency_count(ctx) >= limit);
	if (!ret)
		return true;
	if (room_is_given_up())
		say_why_not(ret);
	next_try_ns = clock_now_ns() + RETRY_MS * MS;
	return false;
}

/*
 * What comes takes as long as what leaves for it: both at once. No more leaves than comes, for the
 * program is waiting for the next ones, unless the limit asks for it.
 */
static void bring(const struct policy_fetch *fetch)
{
	bool both = bound_now(high) + fetch->npages > high && !shim_settings()->sampling->passes;

	if (both)
		demote_begin(ctx, fetch->npages);
	promote_pages(ctx, fetch);
	if (both)
		demote_end(ctx);
	if (bound_now(high) > limit)
		make_room(limit - (limit - high) / 4, limit);
}

/* Bring what follows the pages that were touched. True: some were. */
static bool bring_along(void)
{
	struct policy_fetch fetch;
	uintptr_t addr;
	unsigned n;

	for (n = 0; n < TOUCHES_A_ROUND && touches_next(&addr); n++) {
		fetch = policy_touched(addr);
		if (!fetch.npages)
			continue;
		touches_expect(fetch.mark);
		bring(&fetch);
	}
	return n;
}

/*
 * Hand out the blocks that threads wait for, and a few behind each while there is plenty of room.
 * Where no room can be made they get them all the same: a program is late, but never stuck.
 */
static bool grant_all(void)
{
	uintptr_t addr;
	bool any = false;

	while (grant_wanted(&addr)) {
		struct trace_event event = { .kind = TRACE_GRANT, .start_ns = trace_begin() };
		uint64_t bound = bound_now(high), ahead;

		if (bound + POLICY_PAGES > limit) {
			make_room(high, limit - POLICY_PAGES);
			bound = bound_now(high);
		}
		ahead = bound < low ? (low - bound) / POLICY_PAGES / 8 : 0;
		ahead = ahead < GRANT_AHEAD ? ahead : GRANT_AHEAD;
		for (uint64_t i = 0; i <= ahead; i++)
			event.npages += (uint32_t)grant_block(addr + i * BLOCK);
		event.addr = addr & ~(BLOCK - 1);
		event.len = (ahead + 1) * BLOCK;
		trace_put(event);
		policy_see(addr & ~(BLOCK - 1));
		channel->count[CHANNEL_GRANTS]++;
		any = true;
	}
	return any;
}

/* How long until so much comes home by libumm's servers that room has to be made again. */
static uint64_t quiet_ns(uint64_t bound, uint64_t begin)
{
	uint64_t ns_a_page = 2000, ns = bound < begin ? (begin - bound) * ns_a_page : MS;

	return ns < MS ? MS : ns > 100 * MS ? 100 * MS : ns;
}

static void publish_tiers(void)
{
	struct tier_use use;
	uint32_t n;

	for (n = 0; tiers_use(n, &use); n++) {
		struct channel_tier *tier = &channel->tier[n];

		if (n >= channel->ntiers)
			snprintf(tier->name, sizeof(tier->name), "%.*s",
				 (int)sizeof(tier->name) - 1, use.name);
		tier->bytes = use.pages * PAGE;
		tier->used = use.used * PAGE;
		tier->is_broken = use.is_broken;
	}
	channel->ntiers = n;
}

static void publish(void)
{
	const struct policy_counts *seen = policy_counts();
	struct aside_counts aside = aside_counts();
	struct umm_stats stats = { .size = sizeof(stats) };
	_Atomic uint64_t *count = channel->count;
	uint64_t host = most_note(residency_bound(ctx)) * PAGE, touched;

	if (umm_ctx_stats(ctx, &stats))
		return;
	count[CHANNEL_MANAGED] = space_bytes(SPACE_COUNTED);
	count[CHANNEL_HOST] = host;
	count[CHANNEL_TO_DEVICE] = stats.counter[UMM_COUNT_BYTES_TO_DEVICE];
	count[CHANNEL_FROM_DEVICE] = stats.counter[UMM_COUNT_BYTES_FROM_DEVICE];
	count[CHANNEL_PROBES] = aside.probes;
	count[CHANNEL_PROBES_BACK] = aside.back;
	count[CHANNEL_PROBE_NS] = aside.cpu_ns;
	/* A server counts a probe's touch here before libumm counts its fault. */
	touched = stats.counter[UMM_COUNT_FAULT_DEVICE] - touches_of_probes();
	if ((int64_t)(touched - count[CHANNEL_TOUCHED]) > 0)
		count[CHANNEL_TOUCHED] = touched;
	count[CHANNEL_FAULT_NS] = stats.counter[UMM_COUNT_FAULT_NS];
	count[CHANNEL_LATE] = room_late();
	count[CHANNEL_RETURNED] = seen->returned;
	count[CHANNEL_THRASHED] = seen->thrashed;
	count[CHANNEL_BROUGHT_ALONG] = seen->readahead;
	count[CHANNEL_ROUNDS]++;
	channel->is_thrashing = policy_is_thrashing();
	publish_tiers();
}

/* Before anything leaves: which of those are in use that would be first? */
static void look_ahead(void)
{
	if (!shim_settings()->sampling->passes)
		return;
	if (!policy_blocks() && budget_is_left(&count_budget, clock_now_ns()))
		count_now();
	aside_look(ctx, share_permille());
}

/*
 * Where room begins to be made, and ends. Who thrashes needs all of the host: it is then not made
 * further ahead of need than it takes, and where pages come one by one, that is little.
 */
static void marks(uint64_t *begin, uint64_t *end)
{
	*begin = high;
	*end = low;
	if (!policy_is_thrashing())
		return;
	if (policy_is_scattered())
		*begin = limit - (limit - high) / 4;
	*end = *begin - (high - low) / 8;
}

static uint64_t round_run(void)
{
	bool busy = bring_along();
	uint64_t bound, begin, end;

	if (channel->host_limit != limit * PAGE && channel->host_limit >= SETTINGS_LIMIT_MIN)
		limit_set(channel->host_limit / PAGE * PAGE);
	busy |= grant_all();
	marks(&begin, &end);
	bound = bound_now(begin);
	if (bound > begin && !make_room(end, limit))
		return RETRY_MS * MS;
	bound = residency_bound(ctx);
	if (bound > low - (high - low))
		look_ahead();
	return busy ? MS : quiet_ns(bound, begin);
}

/* ---- start and end -------------------------------------------------------------------- */

static bool may_work(void)
{
	struct umm_probe_info info = { .size = sizeof(info) };

	if (!umm_probe(&info) && info.uffd_access != UMM_UFFD_NONE &&
	    info.uffd_access != UMM_UFFD_USER_MODE_ONLY)
		return true;
	shim_say("running without managed memory: %s", info.advice);
	return false;
}

/* Pages that came home for fork() so far. */
static uint64_t home_for_fork(void)
{
	struct umm_stats stats = { .size = sizeof(stats) };

	return umm_ctx_stats(ctx, &stats) ? 0 : stats.counter[UMM_COUNT_TO_SYSTEM + UMM_CAUSE_FORK];
}

static void fork_prepare(void)
{
	mode_before_fork = thread_mode;
	pthread_mutex_lock(&round_lock);
	room_hold(true);
	/* What devices allocate while their pages come home is theirs. */
	thread_mode = THREAD_INTERNAL;
	touches_own(true);
	fork_event = (struct trace_event){ .kind = TRACE_FORK, .start_ns = trace_begin() };
	if (fork_event.start_ns)
		fork_event.npages = (uint32_t)home_for_fork();
}

static void fork_parent(void)
{
	touches_own(false);
	if (fork_event.start_ns) {
		fork_event.npages = (uint32_t)home_for_fork() - fork_event.npages;
		trace_put(fork_event);
	}
	thread_mode = mode_before_fork;
	room_hold(false);
	pthread_mutex_unlock(&round_lock);
}

/* The parent's context, devices and shared memory are not the child's. */
static void fork_child(void)
{
	trace_to(NULL);
	touches_own(false);
	thread_mode = mode_before_fork;
	pthread_mutex_init(&round_lock, NULL);
	grant_end();
	touches_reset();
	policy_reset();
	aside_reset();
	residency_reset();
	room_reset();
	space_clear();
	ctx = NULL;
	channel = NULL;
	was_full = was_pinned = false;
	atomic_store(&is_gone, false);
	atomic_store(&stopping, GO);
	state_anew();
}

/* After libumm's handlers, and before there is anything that a child must not use. */
static void fork_watch(void)
{
	static bool watched; /* in a child, too */

	if (!watched)
		pthread_atfork(fork_prepare, fork_parent, fork_child);
	watched = true;
}

/* What "umm trace" starts is traced from here on; the trace is read once its reader is there. */
static void trace_start(void)
{
	const char *traced = getenv("UMM_TRACE_PID");
	struct trace_ring *ring = &channel->trace;

	if (traced && atoi(traced) == getpid() && !channel_reserve(channel, ring, sizeof(*ring)))
		atomic_store(&ring->until_ns, clock_now_ns() + TRACE_PATIENCE_MS * MS);
	trace_to(ring);
}

/*
 * On the thread that finds it out, before the program can: a touch may be its end, and what is in
 * the channel by then is what is known of it.
 */
static void device_failed(void *priv, struct umm_devmem *mem, int error, size_t nlost)
{
	int tier;

	(void)priv;
	channel->count[CHANNEL_LOST] += nlost;
	tier = tiers_failed(mem, error, nlost);
	if (tier >= 0)
		channel->tier[tier].is_broken = true;
}

static bool open_all(void)
{
	const struct settings *settings = shim_settings();
	/* What comes along with a page is the policy's affair, and has to fit the limit. */
	struct umm_ctx_options options = { .size = sizeof(options),
					   .readahead = UMM_READAHEAD_OFF,
					   .admit = room_admit,
					   .failed = device_failed };
	char why[SAY_LINE];
	int ret;

	if (!may_work())
		return false;
	options.frame_cache = frames_kept(settings->host_limit);
	say_log_keep(why);
	ret = umm_ctx_create(&options, &ctx);
	say_log_keep(NULL);
	if (ret) {
		shim_say("running without managed memory: %s", *why ? why : umm_strerror(ret));
		return false;
	}
	if (*why)
		shim_say("%s", why);
	fork_watch();
	if (!tiers_open(ctx, settings)) {
		umm_ctx_put(ctx);
		return false;
	}
	policy_sampling(settings->sampling);
	if (settings->sampling->passes && aside_open(ctx))
		shim_say("no memory for probes");
	channel = channel_create(&ret);
	if (ret)
		shim_say(CHANNEL_DIR ": %s: \"umm top\" and the like do not see this program, and "
				     "there is no summary",
			 strerrordesc_np(ret));
	trace_start();
	channel->cpu_budget = settings->cpu_budget;
	channel->host_limit = settings->host_limit;
	limit_set(settings->host_limit);
	publish_tiers();
	if (touches_watch(ctx))
		shim_say("no memory for readahead");
	if (grant_open())
		shim_say("no descriptor: the limit may be exceeded for a moment");
	return true;
}

/* What was opened is closed, and memory that is withheld or on devices is ordinary memory. */
static void close_all(void)
{
	struct space_change change;

	descriptors_let_go();
	space_enter(&change);
	grant_end();
	space_leave(&change);
	trace_to(NULL);
	umm_ctx_put(ctx);
	ctx = NULL;
	touches_reset();
}

static void begin(void)
{
	grant_withhold_untouched(0, UINTPTR_MAX);
	heap_free_at_once();
}

/* Only with the loader's lock does this come back: who waits for us does not hold it. */
static void loader_wait(void)
{
	void *program = dlopen(NULL, RTLD_LAZY);

	if (program)
		dlclose(program);
}

/* What is on devices will never come home: whoever touches it waits. The quiet are told, too. */
static void end_program(void)
{
	static const char why[] =
		"umm: the program has closed descriptors that it did not open, by system calls of "
		"its own: what it has on devices is out of reach, and it is ended\n";

	say_text(why, sizeof(why) - 1);
	signal(SIGABRT, SIG_DFL);
	abort();
}

/* True: everything is open, and memory is kept track of from here on. */
static bool open_and_begin(void)
{
	bool is_open;

	loader_wait();
	if (!state_open())
		return false;
	descriptors_open_begin();
	is_open = open_all();
	descriptors_open_end();
	if (!is_open) {
		state_fail();
		return false;
	}
	descriptors_keep();
	if (state_run(begin))
		return true;
	pthread_mutex_lock(&round_lock);
	close_all();
	channel_close(channel);
	pthread_mutex_unlock(&round_lock);
	return false;
}

/* Rounds go on, unless somebody asked for their end. */
static bool may_go_on(void)
{
	int asked = ASKED;

	return !atomic_compare_exchange_strong(&stopping, &asked, TAKEN);
}

static void *engine_main(void *arg)
{
	uint64_t sleep_ns = 0;
	bool more;

	(void)arg;
	pthread_setname_np(pthread_self(), "umm-engine");
	/* As libumm's fault servers: on a busy machine it would come too late. May be refused. */
	setpriority(PRIO_PROCESS, (id_t)gettid(), -20);
	more = open_and_begin();
	while (more) {
		if (sleep_ns)
			touches_wait(sleep_ns, grant_fd());
		pthread_mutex_lock(&round_lock);
		more = may_go_on();
		if (more && !descriptors_are_whole())
			end_program();
		if (more) {
			sleep_ns = round_run();
			publish();
			survey_answer(ctx, &channel->sheet);
			trace_expire();
		}
		pthread_mutex_unlock(&round_lock);
	}
	atomic_store(&is_gone, true);
	return NULL;
}

static bool thread_create(void)
{
	enum thread_mode mode = thread_mode;
	sigset_t all, old;
	pthread_t thread;
	int ret;

	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	thread_mode = THREAD_INTERNAL;
	ret = pthread_create(&thread, NULL, engine_main, NULL);
	thread_mode = mode;
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	if (!ret)
		pthread_detach(thread);
	else
		shim_say("no thread: %s; running without managed memory", strerror(ret));
	return !ret;
}

bool engine_is_near(size_t len)
{
	uint64_t bytes = shim_settings()->host_limit;

	return space_bytes(SPACE_COUNTED) + len > bytes - margin_bytes(bytes);
}

void engine_consider(void)
{
	if (thread_mode == THREAD_INTERNAL)
		return;
	if (state_now() != STATE_IDLE && !state_is_on_its_way())
		return;
	if (engine_is_near(0))
		state_start(thread_create);
}

void engine_start(void)
{
	state_start(thread_create);
}

void engine_hold(void)
{
	pthread_mutex_lock(&round_lock);
	room_hold(true);
}

void engine_release(void)
{
	room_hold(false);
	pthread_mutex_unlock(&round_lock);
}

/* ---- what others see ------------------------------------------------------------------ */

void engine_give(uid_t from, uid_t to)
{
	if (state_now() == STATE_RUNNING)
		channel_file_give(from, to);
}

/* False: it is in a round still, as where a device never ends what it was told to do. */
static bool stop(void)
{
	uint64_t until = clock_now_ns() + END_PATIENCE_MS * MS;

	room_give_up(true); /* what it waits for might be a thread that waits for room */
	atomic_store(&stopping, ASKED);
	/* ThreadSanitizer does not know of pthread_mutex_clocklock(). */
	while (pthread_mutex_trylock(&round_lock)) {
		if (clock_now_ns() > until)
			return false;
		usleep(END_LOOK_US);
	}
	room_give_up(true); /* destructors of others still run, and find nobody who makes any */
	residency_count(ctx);
	publish();
	pthread_mutex_unlock(&round_lock);
	return true;
}

static void summary_say(void)
{
	char text[CHANNEL_TEXT];

	if (shim_settings()->summary)
		say_text(text, channel_describe(channel, text));
}

void engine_end(void)
{
	if (state_now() == STATE_RESTING && state_wait_for_rest() != STATE_RUNNING) {
		channel_close(channel);
		return;
	}
	if (state_now() != STATE_RUNNING) {
		if (shim_settings()->summary)
			shim_say("nothing left the host: managed memory stayed under its limit");
		return;
	}
	if (stop()) {
		descriptors_keep_no_more();
		grant_end();
	} else {
		shim_say("what moves pages to devices is stuck: numbers are those before");
		channel->count[CHANNEL_LATE] = room_late();
	}
	summary_say();
	channel_close(channel);
}

/* False: they had to go on, for one does not end. */
static bool rounds_end(void)
{
	while (!stop()) {
		int asked = ASKED;

		if (!atomic_compare_exchange_strong(&stopping, &asked, GO))
			continue; /* it ended after all */
		room_give_up(false);
		return false;
	}
	while (!atomic_load(&is_gone)) {
		touches_call();
		usleep(END_LOOK_US);
	}
	return true;
}

static void rest(void)
{
	pthread_mutex_lock(&round_lock);
	close_all();
	for (uint32_t i = 0; i < channel->ntiers; i++)
		channel->tier[i].used = 0;
	channel->count[CHANNEL_HOST] = channel->count[CHANNEL_MANAGED];
	if (channel->count[CHANNEL_HOST] > channel->count[CHANNEL_HOST_MOST])
		channel->count[CHANNEL_HOST_MOST] = channel->count[CHANNEL_HOST];
	summary_say();
	channel->is_over = true;
	channel_close(channel);
	pthread_mutex_unlock(&round_lock);
}

void engine_rest(const char *why)
{
	enum thread_mode mode = thread_mode;
	bool runs, is_over;
	sigset_t all, old;

	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	thread_mode = THREAD_INTERNAL;
	runs = state_rest();
	is_over = !runs || rounds_end();
	if (runs && is_over)
		rest();
	if (!is_over)
		shim_say("%s while what moves pages to devices is stuck: memory stays managed",
			 why);
	else if (shim_disarm())
		shim_say("%s: all memory of the program is ordinary memory from here on, "
			 "whatever its limit",
			 why);
	if (runs)
		state_rested(is_over);
	thread_mode = mode;
	pthread_sigmask(SIG_SETMASK, &old, NULL);
}

void engine_exit(void)
{
	enum state now = state_now();

	if (now == STATE_RUNNING || now == STATE_RESTING)
		channel_close(channel);
}
