/* SPDX-License-Identifier: MIT */
/*
 * umm trace: what happens to the memory of a program under the shim, as a file for Perfetto.
 *
 * The program's shim puts events into a ring in the shared memory (trace_ring.h) as long as this
 * command renews its wish; this command takes them out every few milliseconds and writes them
 * (trace_file.c). A program that is started here finds the wish in its environment, so that nothing
 * of it is missed.
 *
 * One thread; a signal handler that sets a flag, or those of child.c. A limit on the size of files
 * is met like a full disk, by what write() says; a program that is started has that limit's signal
 * as this command was given it.
 */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "answer.h"
#include "channel.h"
#include "child.h"
#include "target.h"
#include "tool.h"
#include "trace_file.h"

enum {
	POLL_MS = 5,
	FLUSH_EVERY = 20, /* polls */
	LEASE_S = 10,
	SIZE_MIN = 64 << 10,
};

#define SIZE_DEFAULT (UINT64_C(64) << 20)

struct options {
	const char *path;
	uint64_t size;
	double seconds; /* 0: until it ends */
	pid_t pid;	/* 0: start argv */
	int argc;
	char **argv;
};

struct session {
	const struct options *options;
	pid_t pid;
	int pidfd;
	struct channel *channel; /* NULL: it is not there yet, */
	bool has_no_room;	 /* or cannot be used */
	struct trace_file file;
	uint64_t before_seen[TRACE_NR_KINDS], before_pages[TRACE_NR_KINDS],
		before_dropped[TRACE_NR_KINDS];
	int error; /* the first: of writing, or there is no answer */
};

static volatile sig_atomic_t interrupted;
static struct sigaction too_large_before;

static void help_print(void)
{
	printf("usage: umm trace [OPTION...] PID\n"
	       "       umm trace [OPTION...] [OPTION OF umm run...] -- PROGRAM [ARGUMENT...]\n"
	       "\n"
	       "Records what happens to the memory of a program under \"umm run\", one that runs\n"
	       "or one that it starts so: faults, pages that leave and come home and why,\n"
	       "mappings that change. ui.perfetto.dev and chrome://tracing show it.\n"
	       "\n"
	       "  -o, --output FILE    where to; umm.trace.json\n"
	       "  -b, --size BYTES     of the file, at most; 64M. What is more is only counted\n"
	       "  -s, --seconds N      how long; until the program ends, or an interrupt\n"
	       "  -h, --help           print this text\n");
}

static int complain(const char *what, const char *why)
{
	fprintf(stderr, "umm trace: %s: %s\n", what, why);
	return TOOL_FAILED;
}

static void interrupt(int signal)
{
	(void)signal;
	interrupted = 1;
}

static uint64_t now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

/* ---- from the ring to the file -------------------------------------------------------- */

static void totals_get(const struct session *session, bool is_last, struct trace_totals *out)
{
	const struct trace_ring *ring = &session->channel->trace;

	for (unsigned i = 0; i < TRACE_NR_KINDS; i++) {
		out->seen[i] = ring->seen[i] - session->before_seen[i];
		out->pages[i] = ring->pages[i] - session->before_pages[i];
		out->dropped[i] = ring->dropped[i] - session->before_dropped[i];
		/* One that was being put in when the program was killed never arrives. */
		if (is_last)
			out->dropped[i] = out->seen[i] - session->file.written[i] -
					  session->file.unwritten[i];
	}
}

static void flush_now(struct session *session, bool is_last)
{
	const struct channel *channel = session->channel;
	struct trace_totals totals = { 0 };
	uint64_t devices = 0;
	int ret;

	if (channel) {
		for (uint32_t i = 0; i < channel->ntiers && i < SETTINGS_DEVICES; i++)
			devices += channel->tier[i].used;
		trace_file_memory(&session->file, now_ns(), channel->count[CHANNEL_HOST], devices);
		totals_get(session, is_last, &totals);
	}
	ret = trace_file_flush(&session->file, &totals);
	if (!ret || session->error)
		return;
	session->error = ret;
	fprintf(stderr,
		"umm trace: writing %s: %s; what was written before is whole, what follows is only "
		"counted\n",
		session->options->path, strerror(-ret));
}

static void take_all(struct session *session)
{
	struct trace_event event;

	if (!session->channel)
		return;
	for (unsigned n = 0; n < TRACE_SLOTS && trace_ring_take(&session->channel->trace, &event);
	     n++)
		trace_file_event(&session->file, &event);
}

/* More events are wanted. */
static void lease(struct session *session)
{
	if (session->channel)
		atomic_store(&session->channel->trace.until_ns,
			     now_ns() + UINT64_C(1000000000) * LEASE_S);
}

/* ---- whose ring ----------------------------------------------------------------------- */

/* Become the one reader. False: somebody else is, and lives. */
static bool reader_become(struct trace_ring *ring)
{
	int32_t before = atomic_load(&ring->reader);

	if (before && before != getpid() && (!kill(before, 0) || errno == EPERM))
		return false;
	return atomic_compare_exchange_strong(&ring->reader, &before, (int32_t)getpid());
}

/* What others left in the ring is not ours. */
static void start_anew(struct session *session)
{
	struct trace_ring *ring = &session->channel->trace;
	struct trace_event event;

	for (unsigned n = 0; n < 2 * TRACE_SLOTS && trace_ring_take(ring, &event); n++)
		;
	for (unsigned i = 0; i < TRACE_NR_KINDS; i++) {
		session->before_seen[i] = ring->seen[i];
		session->before_pages[i] = ring->pages[i];
		session->before_dropped[i] = ring->dropped[i];
	}
}

static int attach(struct session *session)
{
	struct trace_ring *ring;
	char error[SETTINGS_ERROR_LEN];

	session->channel = channel_open_running(session->pid, error);
	if (!session->channel) {
		fprintf(stderr, "umm trace: %s\n", error);
		return TOOL_FAILED;
	}
	ring = &session->channel->trace;
	if (channel_reserve(session->channel, ring, sizeof(*ring)))
		return complain("/dev/shm", "there is no room for events; it is full");
	if (!reader_become(ring))
		return complain(session->channel->program, "it is being traced already");
	start_anew(session);
	return TOOL_OK;
}

/* The program that was started here has a ring once its memory comes near the limit. */
static void attach_when_there(struct session *session)
{
	char error[SETTINGS_ERROR_LEN];
	struct channel *channel;

	if (session->channel || session->has_no_room)
		return;
	channel = channel_open(session->pid, error);
	if (!channel)
		return;
	if (channel_reserve(channel, &channel->trace, sizeof(channel->trace))) {
		complain("/dev/shm", "there is no room for events; it is full");
		session->has_no_room = true;
		return;
	}
	session->channel = channel;
	reader_become(&channel->trace);
}

/* ---- while it runs -------------------------------------------------------------------- */

/* One that runs already: false if it is given up, for its engine does not go on. */
static bool is_heard(struct session *session, struct answer *answer, uint64_t *rounds)
{
	if (*rounds && session->channel->count[CHANNEL_ROUNDS] == *rounds) {
		if (answer_may_come(answer))
			return true;
		session->error = -ETIMEDOUT;
		return false;
	}
	*rounds = 0;
	return true;
}

static void record(struct session *session)
{
	struct answer answer = answer_expect("trace", session->pid);
	uint64_t end = session->options->seconds > 0 ?
			       now_ns() + (uint64_t)(session->options->seconds * 1e9) :
			       UINT64_MAX;
	uint64_t rounds = session->channel ? session->channel->count[CHANNEL_ROUNDS] : 0;
	bool is_started = !session->options->pid;

	for (unsigned n = 1;
	     !interrupted && now_ns() < end && target_lives(session->pidfd, POLL_MS); n++) {
		if (is_started)
			attach_when_there(session);
		lease(session);
		take_all(session);
		if (n % FLUSH_EVERY == 0)
			flush_now(session, false);
		if (!is_started && !is_heard(session, &answer, &rounds))
			break;
	}
	if (is_started)
		attach_when_there(session);
	if (session->channel)
		atomic_store(&session->channel->trace.until_ns, 0);
	take_all(session);
	if (session->channel)
		atomic_store(&session->channel->trace.reader, 0);
}

/* One line: how much there is, and whether it is all. */
static void report(const struct session *session)
{
	uint64_t written = 0, dropped = 0;
	struct trace_totals totals = { 0 };

	if (session->has_no_room || session->error == -ETIMEDOUT)
		return;
	if (!session->channel) {
		complain(session->options->path,
			 "no events: the program's memory never came near its limit, or it ran "
			 "without managed memory, or could keep nothing in " CHANNEL_DIR);
		return;
	}
	totals_get(session, true, &totals);
	for (unsigned i = 0; i < TRACE_NR_KINDS; i++) {
		written += session->file.written[i];
		dropped += totals.dropped[i] + session->file.unwritten[i];
	}
	fprintf(stderr, "umm trace: %s: %llu events, %llu dropped\n", session->options->path,
		(unsigned long long)written, (unsigned long long)dropped);
}

static int file_open(struct session *session)
{
	const struct options *options = session->options;
	int ret = trace_file_open(&session->file, options->path, options->size);

	if (ret == -ESPIPE)
		return complain(options->path,
				"it is a pipe or a terminal, and a trace is written in place");
	return ret ? complain(options->path, strerror(-ret)) : TOOL_OK;
}

static int file_close(struct session *session, int ret)
{
	int error = trace_file_close(&session->file);

	if (!error || session->error)
		return ret;
	fprintf(stderr, "umm trace: closing %s: %s; what was written may not be whole\n",
		session->options->path, strerror(-error));
	return TOOL_FAILED;
}

static int record_all(struct session *session)
{
	session->file.pid = session->pid;
	record(session);
	flush_now(session, true);
	report(session);
	return session->error || session->has_no_room ? TOOL_FAILED : TOOL_OK;
}

static int trace_running(const struct options *options)
{
	struct session session = { .options = options, .pid = options->pid };
	struct sigaction action = { .sa_handler = interrupt };
	int ret = attach(&session);

	if (ret)
		return ret;
	session.pidfd = target_watch(options->pid);
	if (session.pidfd < 0)
		return complain("no descriptor", strerror(errno));
	sigaction(SIGINT, &action, NULL);
	sigaction(SIGTERM, &action, NULL);
	ret = file_open(&session);
	if (ret) {
		atomic_store(&session.channel->trace.reader, 0);
		return ret;
	}
	return file_close(&session, record_all(&session));
}

static int run_traced(void *arg)
{
	const struct options *options = arg;
	char pid[16];

	snprintf(pid, sizeof(pid), "%d", (int)getppid());
	setenv("UMM_RUN_PID", pid, true);
	snprintf(pid, sizeof(pid), "%d", (int)getpid());
	setenv("UMM_TRACE_PID", pid, true);
	sigaction(SIGXFSZ, &too_large_before, NULL);
	channel_remove(getpid());
	return run_become(options->argc, options->argv);
}

static int trace_started(struct options *options)
{
	struct session session = { .options = options };
	int status, ret = file_open(&session);

	if (ret)
		return ret;
	session.pid = child_start(run_traced, options);
	if (session.pid < 0) {
		trace_file_close(&session.file);
		return complain("no process", strerror(errno));
	}
	session.pidfd = target_watch(session.pid);
	/* The program has begun: whatever fails here, it is waited for. */
	ret = session.pidfd < 0 ? complain("no descriptor", strerror(errno)) : record_all(&session);
	ret = file_close(&session, ret);
	channel_remove(session.pid);
	while (waitpid(session.pid, &status, 0) < 0 && errno == EINTR)
		;
	status = child_end_as(status);
	return status ? status : ret;
}

/* ---- what was asked ------------------------------------------------------------------- */

static bool seconds_parse(const char *text, double *out)
{
	char *end;

	*out = strtod(text, &end);
	return end != text && !*end && *out > 0 && *out <= 86400;
}

/* The option at *i, one of ours, which has a value behind it. */
static int option_take(struct options *out, int argc, char **argv, int *i)
{
	const char *name = argv[*i], *value = *i + 1 < argc ? argv[*i + 1] : NULL;

	++*i;
	if (!strcmp(name, "-o") || !strcmp(name, "--output")) {
		out->path = value;
		return value ? TOOL_OK : tool_value_error("trace", name, "the name of a file");
	}
	if (!strcmp(name, "-s") || !strcmp(name, "--seconds")) {
		if (value && seconds_parse(value, &out->seconds))
			return TOOL_OK;
		return tool_value_error("trace", name, "seconds, up to 86400");
	}
	if (value && !settings_bytes(value, &out->size) && out->size >= SIZE_MIN)
		return TOOL_OK;
	return tool_value_error("trace", name, "a size, such as 64M, from 64K on");
}

static bool is_ours(const char *name)
{
	static const char *const names[] = { "-o", "--output", "-b", "--size", "-s", "--seconds" };

	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		if (!strcmp(name, names[i]))
			return true;
	return false;
}

/* What is not ours, up to the end, is for umm run; without a program it is a process number. */
static int options_parse(int argc, char **argv, struct options *out)
{
	bool has_program = false;
	pid_t pid;

	for (int i = 1; i < argc && !has_program; i++)
		has_program = !strcmp(argv[i], "--");
	out->argv = calloc((size_t)argc + 1, sizeof(*out->argv));
	if (!out->argv)
		return complain("no memory", strerror(ENOMEM));
	out->argv[out->argc++] = argv[0];
	for (int i = 1; i < argc; i++) {
		if (!strcmp(argv[i], "--")) {
			for (; i < argc; i++)
				out->argv[out->argc++] = argv[i];
		} else if (is_ours(argv[i])) {
			int ret = option_take(out, argc, argv, &i);

			if (ret)
				return ret;
		} else {
			out->argv[out->argc++] = argv[i];
		}
	}
	if (has_program && strcmp(out->argv[out->argc - 1], "--") != 0)
		return TOOL_OK;
	if (out->argc != 2 || has_program) {
		fprintf(stderr, "umm trace: it takes one process number, or \"-- PROGRAM\"; "
				"\"umm trace --help\" says what else\n");
		return TOOL_USAGE;
	}
	pid = target_number(out->argv[1]);
	if (!pid)
		return tool_usage_error("trace", out->argv[1]);
	out->pid = target_pid(pid);
	return TOOL_OK;
}

int trace_main(int argc, char **argv)
{
	struct options options = { .path = "umm.trace.json", .size = SIZE_DEFAULT };
	struct sigaction ignore = { .sa_handler = SIG_IGN };
	int ret;

	if (argc == 2 && (!strcmp(argv[1], "--help") || !strcmp(argv[1], "-h"))) {
		help_print();
		return tool_finish_output("trace");
	}
	ret = options_parse(argc, argv, &options);
	sigaction(SIGXFSZ, &ignore, &too_large_before);
	if (!ret)
		ret = options.pid ? trace_running(&options) : trace_started(&options);
	free(options.argv);
	return ret;
}
