/* SPDX-License-Identifier: MIT */
/*
 * Messages for people. A line is formatted into a buffer on the stack and given to
 * the program's function, or to stderr with a single write(2): no malloc, no FILE,
 * so the fault path may log. errno survives. Whatever it quotes, a line is one line.
 *
 * The threshold is read without the lock: it only decides whether a line is wanted
 * at all. $UMM_LOG is looked at once, when the first line comes along.
 *
 * Invariant: after umm_log_set() has returned, nobody runs the previous function.
 *
 * Locks: burst.lock for a moment; then sink.lock, shared while a line is handed over,
 * exclusive while the sink is exchanged. Both LEAF: nobody may log while holding such a lock.
 */
#include "log.h"

#include <errno.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "lock.h"
#include "text.h"
#include "util.h"

#define MAX_ERRNO 4095

#define LOG_LINE  512
#define LOG_UNSET ((int)UMM_LOG_DEFAULT)

/* So many lines of one format in so much time; a broken device has one for each page. */
#define BURST_LINES 20
#define BURST_NS    UINT64_C(1000000000)

static const char *const level_names[] = {
	[UMM_LOG_NONE] = "none", [UMM_LOG_ERROR] = "error", [UMM_LOG_WARNING] = "warning",
	[UMM_LOG_INFO] = "info", [UMM_LOG_DEBUG] = "debug",
};

static struct {
	struct rwlock lock; /* Protects: fn, priv; inside: nothing */
	void (*fn)(void *priv, enum umm_log_level level, const char *line);
	void *priv;

	_Atomic int threshold; /* enum umm_log_level, or LOG_UNSET */
} sink = {
	.lock = { .rwlock = PTHREAD_RWLOCK_WRITER_NONRECURSIVE_INITIALIZER_NP, .rank = RANK_LEAF },
	.threshold = LOG_UNSET,
};

static struct {
	struct lock lock; /* RANK_LEAF. Protects: everything below */
	const char *format;
	uint64_t began_ns;
	unsigned lines;
} burst = { .lock = { PTHREAD_MUTEX_INITIALIZER, RANK_LEAF } };

/* How many lines of this format there were lately, this one included. */
static unsigned burst_count(const char *format)
{
	uint64_t now = now_ns();
	unsigned lines;

	lock_take(&burst.lock);
	if (format != burst.format || now - burst.began_ns > BURST_NS) {
		burst.format = format;
		burst.began_ns = now;
		burst.lines = 0;
	}
	lines = ++burst.lines;
	lock_drop(&burst.lock);
	return lines;
}

static void stderr_line(enum umm_log_level level, const char *line)
{
	char text[LOG_LINE + 32];
	ssize_t written;
	int len;

	len = snprintf(text, sizeof(text), "libumm: %s: %s\n", level_names[level], line);
	/* Nothing sensible can be done where stderr is closed or full. */
	written = write(STDERR_FILENO, text, (size_t)len);
	(void)written;
}

/* The threshold that the environment asks for; *bad is its value if that is no level. */
static int threshold_from_env(const char **bad)
{
	const char *wanted = getenv("UMM_LOG");

	*bad = NULL;
	if (!wanted || !*wanted)
		return UMM_LOG_WARNING;
	for (size_t i = 0; i < ARRAY_SIZE(level_names); i++)
		if (!strcmp(wanted, level_names[i]))
			return (int)i;
	*bad = wanted;
	return UMM_LOG_WARNING;
}

static int threshold_get(void)
{
	int level = atomic_load_explicit(&sink.threshold, memory_order_relaxed);
	int unset = LOG_UNSET;
	const char *bad;

	if (level != LOG_UNSET)
		return level;
	level = threshold_from_env(&bad);
	if (!atomic_compare_exchange_strong(&sink.threshold, &unset, level))
		return unset;
	if (bad)
		log_warning("UMM_LOG=%.32s is not a level: use none, error, warning, info or debug",
			    bad);
	return level;
}

void umm_log_set(void (*fn)(void *priv, enum umm_log_level level, const char *line), void *priv,
		 enum umm_log_level level)
{
	int threshold = (int)level;

	if (level != UMM_LOG_DEFAULT)
		threshold = max(threshold, (int)UMM_LOG_NONE);
	threshold = min(threshold, (int)UMM_LOG_DEBUG);
	rwlock_take(&sink.lock);
	sink.fn = fn;
	sink.priv = priv;
	atomic_store_explicit(&sink.threshold, threshold, memory_order_relaxed);
	rwlock_drop(&sink.lock);
}

static void log_append(char *line, const char *more)
{
	size_t len = strlen(line), room = LOG_LINE - 1 - strlen(more);

	strcpy(line + min(len, room), more);
}

void umm_log(enum umm_log_level level, const char *format, ...)
{
	int saved_errno = errno;
	char line[LOG_LINE];
	unsigned lines;
	va_list args;

	if (level < UMM_LOG_ERROR || (int)level > threshold_get())
		return;
	lines = burst_count(format);
	if (lines > BURST_LINES)
		return;
	va_start(args, format);
	vsnprintf(line, sizeof(line), format, args);
	va_end(args);
	text_clean(line);
	if (lines == BURST_LINES)
		log_append(line, " (more of these are left out for a second)");

	rwlock_take_shared(&sink.lock);
	if (sink.fn)
		sink.fn(sink.priv, level, line);
	else
		stderr_line(level, line);
	rwlock_drop_shared(&sink.lock);
	errno = saved_errno;
}

void log_after_fork(void)
{
	rwlock_init(&sink.lock, RANK_LEAF);
	lock_init(&burst.lock, RANK_LEAF);
}

int log_bad_answer(const char *op, int ret)
{
	if (ret <= 0 && ret >= -MAX_ERRNO)
		return ret;
	log_error("a driver's %s returned %d, which is no error number", op, ret);
	return -EINVAL;
}

int log_unmanaged(const char *function, uintptr_t start, uintptr_t end)
{
	log_warning("%s() is refused: nothing manages %#lx .. %#lx; get it from umm_alloc(), or "
		    "umm_attach() it first",
		    function, (unsigned long)start, (unsigned long)end);
	return -EFAULT;
}
