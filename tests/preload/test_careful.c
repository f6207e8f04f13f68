/* SPDX-License-Identifier: MIT */
/* careful_write(): what it writes to neither ends this process nor holds it up. */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "careful.h"

static const char line[] = "a line\n";

static void say(int fd)
{
	errno = E2BIG;
	careful_write(fd, line, sizeof(line) - 1);
	assert_int_equal(errno, E2BIG);
}

static bool is_blocked(int signal)
{
	sigset_t now;

	pthread_sigmask(SIG_SETMASK, NULL, &now);
	return sigismember(&now, signal);
}

static bool is_pending(int signal)
{
	sigset_t pending;

	sigpending(&pending);
	return sigismember(&pending, signal);
}

static void what_fits_is_written_in_one_piece(void **state)
{
	char text[64];
	int end[2];

	(void)state;
	assert_int_equal(pipe(end), 0);
	say(end[1]);
	assert_int_equal(read(end[0], text, sizeof(text)), sizeof(line) - 1);
	assert_memory_equal(text, line, sizeof(line) - 1);
	close(end[0]);
	close(end[1]);
}

static void a_pipe_without_readers_ends_nobody(void **state)
{
	int end[2];

	(void)state;
	assert_int_equal(pipe(end), 0);
	close(end[0]);
	say(end[1]);
	assert_false(is_blocked(SIGPIPE));
	close(end[1]);
}

static void a_full_pipe_is_not_waited_for(void **state)
{
	static char block[4096];
	int end[2], filled = 0, there = 0;

	(void)state;
	assert_int_equal(pipe(end), 0);
	fcntl(end[1], F_SETFL, O_NONBLOCK);
	while (write(end[1], block, sizeof(block)) > 0)
		filled++;
	fcntl(end[1], F_SETFL, 0);
	say(end[1]);
	assert_int_equal(fcntl(end[1], F_GETFL) & O_NONBLOCK, 0);
	close(end[1]);
	while (read(end[0], block, sizeof(block)) == sizeof(block))
		there++;
	assert_int_equal(there, filled);
	close(end[0]);
}

/* With @blocked by whoever calls, a signal that is pending before stays so, and no other is. */
static void file_at_its_limit(bool blocked, bool pending)
{
	struct rlimit old, none = { 0 };
	FILE *file = tmpfile();
	struct stat st;
	sigset_t one;
	int taken;

	assert_non_null(file);
	sigemptyset(&one);
	sigaddset(&one, SIGXFSZ);
	if (blocked)
		pthread_sigmask(SIG_BLOCK, &one, NULL);
	if (pending)
		raise(SIGXFSZ);
	getrlimit(RLIMIT_FSIZE, &old);
	none.rlim_max = old.rlim_max;
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &none), 0);
	say(fileno(file));
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &old), 0);
	assert_int_equal(is_pending(SIGXFSZ), pending);
	assert_int_equal(is_blocked(SIGXFSZ), blocked);
	if (pending)
		assert_int_equal(sigwait(&one, &taken), 0);
	pthread_sigmask(SIG_UNBLOCK, &one, NULL);
	assert_int_equal(fstat(fileno(file), &st), 0);
	assert_int_equal(st.st_size, 0);
	fclose(file);
}

static void a_file_at_its_limit_ends_nobody(void **state)
{
	(void)state;
	file_at_its_limit(false, false);
}

static void signals_of_others_stay_pending(void **state)
{
	(void)state;
	file_at_its_limit(true, false);
	file_at_its_limit(true, true);
}

static void what_is_closed_is_left_alone(void **state)
{
	int end[2];

	(void)state;
	assert_int_equal(pipe(end), 0);
	close(end[0]);
	close(end[1]);
	say(end[1]);
	say(-1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_fits_is_written_in_one_piece),
		cmocka_unit_test(a_pipe_without_readers_ends_nobody),
		cmocka_unit_test(a_full_pipe_is_not_waited_for),
		cmocka_unit_test(a_file_at_its_limit_ends_nobody),
		cmocka_unit_test(signals_of_others_stay_pending),
		cmocka_unit_test(what_is_closed_is_left_alone),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
