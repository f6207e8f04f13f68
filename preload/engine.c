/* SPDX-License-Identifier: MIT */
/*
 * Keeps the program's managed memory within its limit: the thread of the rounds (round.c).
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
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#include <umm.h>

#include "aside.h"
#include "channel.h"
#include "clock.h"
#include "descriptors.h"
#include "grant.h"
#include "heap.h"
#include "policy.h"
#include "residency.h"
#include "room.h"
#include "round.h"
#include "say.h"
#include "shim.h"
#include "space.h"
#include "state.h"
#include "survey.h"
#include "tiers.h"
#include "touches.h"
#include "trace.h"

#define MS UINT64_C(1000000)

enum {
	END_PATIENCE_MS = 10000,
	END_LOOK_US = 500,
	TRACE_PATIENCE_MS = 60000,
};

static _Atomic bool is_gone; /* the engine's thread, after a time of running */

/* ASKED: no further round is to begin; TAKEN: none does, the engine ends. */
enum { GO, ASKED, TAKEN };

static pthread_mutex_t round_lock = PTHREAD_MUTEX_INITIALIZER;
/* Protects, by round_lock: everything down to channel. */
static struct umm_ctx *ctx;
static _Atomic int stopping; /* GO: rounds go on */
static struct channel *channel;

static enum thread_mode mode_before_fork;
static struct trace_event fork_event;

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
	round_forget();
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
	options.frame_cache = round_frames_kept(settings->host_limit);
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
	channel = channel_create(&ret);
	if (ret)
		shim_say(CHANNEL_DIR ": %s: \"umm top\" and the like do not see this program, and "
				     "there is no summary",
			 strerrordesc_np(ret));
	trace_start();
	channel->cpu_budget = settings->cpu_budget;
	channel->host_limit = settings->host_limit;
	channel->placement = place_number(settings->placement);
	channel->sampling = sample_number(settings->sampling);
	pthread_mutex_lock(&round_lock);
	round_open(ctx, channel);
	pthread_mutex_unlock(&round_lock);
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
	round_forget();
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
			round_publish();
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

	return space_bytes(SPACE_COUNTED) + len > bytes - round_margin(bytes);
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

void engine_recycle_nothing(void)
{
	static _Atomic bool is_done; /* in children, too */
	sigset_t all, old;

	if (is_done)
		return;
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	engine_hold();
	round_recycle_nothing();
	engine_release();
	is_done = true;
	pthread_sigmask(SIG_SETMASK, &old, NULL);
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
	round_publish();
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

bool engine_rest(const char *why)
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
	return is_over;
}

void engine_exit(void)
{
	enum state now = state_now();

	if (now == STATE_RUNNING || now == STATE_RESTING)
		channel_close(channel);
}
