/* SPDX-License-Identifier: MIT */
/*
 * Who writes may be killed: by SIGPIPE where the last reader of a pipe is gone, by SIGXFSZ where
 * a file has come to its limit (ulimit -f); be stopped by SIGTTOU; or wait for a reader for good.
 * These signals are blocked meanwhile, and one that comes of it is taken. The descriptor stays as
 * it is: O_NONBLOCK would be its other owners', too. Between the look and the write another may
 * take the room: then it is waited for.
 *
 * No locks, no state.
 */
#include "careful.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <time.h>
#include <unistd.h>

static bool has_room(int fd)
{
	struct pollfd look = { .fd = fd, .events = POLLOUT };

	return poll(&look, 1, 0) == 1 && look.revents & POLLOUT && !(look.revents & POLLERR);
}

/* What was not blocked before cannot have been pending. */
static bool is_pending(int signal, const sigset_t *blocked)
{
	sigset_t pending;

	return sigismember(blocked, signal) && !sigpending(&pending) &&
	       sigismember(&pending, signal);
}

static void take(int signal)
{
	const struct timespec at_once = { 0 };
	sigset_t one;

	sigemptyset(&one);
	sigaddset(&one, signal);
	sigtimedwait(&one, NULL, &at_once);
}

void careful_write(int fd, const char *text, size_t len)
{
	int saved = errno, cancel, raised = 0;
	bool broken, long_file;
	sigset_t ours, old;

	sigemptyset(&ours);
	sigaddset(&ours, SIGPIPE);
	sigaddset(&ours, SIGXFSZ);
	sigaddset(&ours, SIGTTOU);
	pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &cancel);
	pthread_sigmask(SIG_BLOCK, &ours, &old);
	broken = is_pending(SIGPIPE, &old);
	long_file = is_pending(SIGXFSZ, &old);
	if (has_room(fd) && write(fd, text, len) < 0)
		raised = errno;
	if (raised == EPIPE && !broken)
		take(SIGPIPE);
	if (raised == EFBIG && !long_file)
		take(SIGXFSZ);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	pthread_setcancelstate(cancel, NULL);
	errno = saved;
}
