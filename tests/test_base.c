/* SPDX-License-Identifier: MIT */
/* Arithmetic, the size rule of structures, messages of errors, and the log. */
#include <errno.h>
#include <limits.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <fcntl.h>
#include <unistd.h>

#include <cmocka.h>

#include "lock.h"
#include "log.h"
#include "umm.h"
#include "util.h"

struct ours {
	size_t size;
	uint64_t flags;
	uint64_t value;
};

/* ------------------------------------------------------------------------
 * Arithmetic and structures
 */

static void alignment_rounds_the_right_way(void **state)
{
	(void)state;
	assert_int_equal(align_up(0, 4096), 0);
	assert_int_equal(align_up(1, 4096), 4096);
	assert_int_equal(align_up(4096, 4096), 4096);
	assert_int_equal(align_up(UINTPTR_MAX, 4096), 0);
	assert_int_equal(align_down(4095, 4096), 0);
	assert_int_equal(align_down(UINTPTR_MAX, 4096), UINTPTR_MAX - 4095);
	assert_true(is_aligned(8192, 4096));
	assert_false(is_aligned(8193, 4096));
	assert_int_equal(min(3, 4), 3);
	assert_int_equal(max(-3, 4), 4);
}

static void clock_never_goes_back(void **state)
{
	uint64_t before = now_ns();

	(void)state;
	for (int i = 0; i < 1000; i++) {
		uint64_t now = now_ns();

		assert_true(now >= before);
		before = now;
	}
}

static void structure_without_size_is_einval(void **state)
{
	struct ours theirs = { .size = 0 }, mine = { .value = 9 };

	(void)state;
	assert_int_equal(struct_in(&mine, sizeof(mine), NULL), -EINVAL);
	assert_int_equal(struct_out(NULL, &mine, sizeof(mine)), -EINVAL);
	for (theirs.size = 0; theirs.size < sizeof(size_t); theirs.size++) {
		assert_int_equal(struct_in(&mine, sizeof(mine), &theirs), -EINVAL);
		assert_int_equal(struct_out(&theirs, &mine, sizeof(mine)), -EINVAL);
	}
	assert_int_equal(mine.value, 9);
}

static void shorter_structure_reads_zero_at_its_end(void **state)
{
	struct ours theirs = { .flags = 7, .value = 8 }, mine = { .value = 9 };

	(void)state;
	theirs.size = offsetof(struct ours, value);
	assert_int_equal(struct_in(&mine, sizeof(mine), &theirs), 0);
	assert_int_equal(mine.size, sizeof(mine));
	assert_int_equal(mine.flags, 7);
	assert_int_equal(mine.value, 0);
	/* A size in the middle of a member takes the bytes that are there. */
	theirs.size = offsetof(struct ours, value) + 1;
	assert_int_equal(struct_in(&mine, sizeof(mine), &theirs), 0);
	assert_int_equal(mine.value, 8);
}

static void longer_structure_is_e2big_if_it_says_more(void **state)
{
	struct {
		struct ours ours;
		unsigned char newer[7];
	} theirs = { .ours = { .flags = 1, .value = 2 } };
	struct ours mine = { .value = 9 };

	(void)state;
	theirs.ours.size = offsetof(__typeof__(theirs), newer) + 7;
	assert_int_equal(struct_in(&mine, sizeof(mine), &theirs), 0);
	assert_int_equal(mine.value, 2);
	for (size_t i = 0; i < ARRAY_SIZE(theirs.newer); i++) {
		theirs.newer[i] = 1;
		mine.value = 9;
		assert_int_equal(struct_in(&mine, sizeof(mine), &theirs), -E2BIG);
		assert_int_equal(struct_out(&theirs, &mine, sizeof(mine)), -E2BIG);
		assert_int_equal(mine.value, 9);
		assert_int_equal(theirs.ours.value, 2);
		theirs.newer[i] = 0;
	}
}

static void filled_structure_keeps_its_size(void **state)
{
	struct ours theirs = { .value = 5 },
		    mine = { .size = sizeof(mine), .flags = 3, .value = 4 };

	(void)state;
	theirs.size = offsetof(struct ours, value);
	assert_int_equal(struct_out(&theirs, &mine, sizeof(mine)), 0);
	assert_int_equal(theirs.size, offsetof(struct ours, value));
	assert_int_equal(theirs.flags, 3);
	assert_int_equal(theirs.value, 5);
	theirs.size = sizeof(theirs);
	assert_int_equal(struct_out(&theirs, &mine, sizeof(mine)), 0);
	assert_int_equal(theirs.value, 4);
}

/* ------------------------------------------------------------------------
 * Errors
 */

static void every_error_has_a_text_of_its_own(void **state)
{
	static const int errors[] = { 0,      EINVAL, EFAULT,  EEXIST, ENOENT, EBUSY,
				      EAGAIN, ETIME,  EPERM,   ENOMEM, ENOSPC, EOPNOTSUPP,
				      ENODEV, EIO,    EDEADLK, E2BIG };

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(errors); i++) {
		const char *text = umm_strerror(-errors[i]);

		assert_ptr_equal(text, umm_strerror(errors[i]));
		assert_null(strchr(text, '\n'));
		assert_string_not_equal(text, "unknown error");
		for (size_t j = 0; j < i; j++)
			assert_string_not_equal(text, umm_strerror(errors[j]));
	}
}

/* One text for all who return it: it claims nothing that is true for some of them only. */
static void errors_of_several_meanings_say_what_all_have_in_common(void **state)
{
	(void)state;
	assert_string_equal(umm_strerror(-EPERM), "permission denied");
	assert_non_null(strstr(umm_strerror(-ENODEV), "none found"));
}

static void foreign_errors_have_some_text(void **state)
{
	(void)state;
	assert_non_null(strstr(umm_strerror(-ECONNRESET), "reset"));
	assert_string_equal(umm_strerror(123456), "unknown error");
	assert_string_equal(umm_strerror(INT_MIN), "unknown error");
	assert_string_equal(umm_strerror(INT_MAX), "unknown error");
}

static void version_is_that_of_the_header(void **state)
{
	char version[32];

	(void)state;
	snprintf(version, sizeof(version), "%d.%d.%d", UMM_VERSION_MAJOR, UMM_VERSION_MINOR,
		 UMM_VERSION_PATCH);
	assert_string_equal(umm_version(), version);
	assert_int_equal(umm_page_size(), 4096);
}

/* ------------------------------------------------------------------------
 * Log
 */

struct seen {
	unsigned count;
	enum umm_log_level level;
	char line[1024];
};

static void remember(void *priv, enum umm_log_level level, const char *line)
{
	struct seen *seen = priv;

	seen->count++;
	seen->level = level;
	snprintf(seen->line, sizeof(seen->line), "%s", line);
	errno = EDOM;
}

static int restore_log(void **state)
{
	(void)state;
	umm_log_set(NULL, NULL, UMM_LOG_WARNING);
	return 0;
}

static void lines_go_where_they_are_sent(void **state)
{
	struct seen seen = { 0 };

	(void)state;
	umm_log_set(remember, &seen, UMM_LOG_INFO);
	errno = EXDEV;
	log_info("%s %d", "answer", 42);
	assert_int_equal(errno, EXDEV);
	assert_int_equal(seen.count, 1);
	assert_int_equal(seen.level, UMM_LOG_INFO);
	assert_string_equal(seen.line, "answer 42");
	log_debug("too much");
	assert_int_equal(seen.count, 1);
	umm_log_set(remember, &seen, UMM_LOG_NONE);
	log_error("not even this");
	assert_int_equal(seen.count, 1);
	assert_true(lock_none_held());
}

static void default_level_is_what_the_environment_says(void **state)
{
	struct seen seen = { 0 };

	(void)state;
	assert_int_equal(setenv("UMM_LOG", "error", 1), 0);
	umm_log_set(remember, &seen, UMM_LOG_DEFAULT);
	log_warning("too much");
	assert_int_equal(seen.count, 0);
	log_error("enough");
	assert_int_equal(seen.count, 1);
	assert_int_equal(unsetenv("UMM_LOG"), 0);
	umm_log_set(remember, &seen, UMM_LOG_DEFAULT);
	log_warning("enough");
	assert_int_equal(seen.count, 2);
	log_info("too much");
	assert_int_equal(seen.count, 2);
}

static void lines_are_one_line_whatever_they_quote(void **state)
{
	struct seen seen = { 0 };

	(void)state;
	umm_log_set(remember, &seen, UMM_LOG_WARNING);
	log_warning("'%s' is no name", "\na\r\tb\033[31m\177 M\303\274ller");
	assert_string_equal(seen.line, "'?a??b?[31m? M\303\274ller' is no name");
}

static void long_lines_are_cut(void **state)
{
	struct seen seen = { 0 };
	char text[2000];

	(void)state;
	memset(text, 'x', sizeof(text) - 1);
	text[sizeof(text) - 1] = '\0';
	umm_log_set(remember, &seen, UMM_LOG_ERROR);
	log_error("%s", text);
	assert_int_equal(strlen(seen.line), 511);
}

static void floods_are_dammed(void **state)
{
	struct seen seen = { 0 };

	(void)state;
	umm_log_set(remember, &seen, UMM_LOG_ERROR);
	for (int i = 0; i < 1000; i++)
		log_error("page %d is lost", i);
	assert_in_range(seen.count, 20, 100); /* 20 a second */
	log_error("something else");
	assert_string_equal(seen.line, "something else");
	for (int i = 0; i < 20; i++)
		log_error("and again %d", i);
	assert_string_equal(seen.line, "and again 19 (more of these are left out for a second)");
}

struct counting {
	atomic_uint running;
	atomic_uint count;
};

static void count_line(void *priv, enum umm_log_level level, const char *line)
{
	struct counting *counting = priv;

	(void)level;
	(void)line;
	atomic_fetch_add(&counting->running, 1);
	atomic_fetch_add(&counting->count, 1);
	atomic_fetch_sub(&counting->running, 1);
}

static void *log_until_told(void *arg)
{
	atomic_bool *stop = arg;

	/* In turns: of one kind only so many get through. */
	while (!atomic_load(stop)) {
		log_error("line");
		log_error("another line");
	}
	return NULL;
}

static void replaced_function_is_not_running_any_more(void **state)
{
	struct counting old, new;
	atomic_bool stop = false;
	pthread_t thread;
	unsigned count;

	(void)state;
	atomic_init(&old.running, 0);
	atomic_init(&old.count, 0);
	atomic_init(&new.running, 0);
	atomic_init(&new.count, 0);
	umm_log_set(count_line, &new, UMM_LOG_ERROR);
	assert_int_equal(pthread_create(&thread, NULL, log_until_told, &stop), 0);
	for (int i = 0; i < 200; i++) {
		umm_log_set(count_line, &old, UMM_LOG_ERROR);
		count = atomic_load(&new.count);
		umm_log_set(count_line, &new, UMM_LOG_ERROR);
		assert_int_equal(atomic_load(&old.running), 0);
		assert_true(count <= atomic_load(&new.count));
		count = atomic_load(&old.count);
		/* Lines go on arriving, none of them at the old place. */
		for (unsigned seen = atomic_load(&new.count); atomic_load(&new.count) == seen;)
			sched_yield();
		assert_int_equal(atomic_load(&old.count), count);
	}
	atomic_store(&stop, true);
	assert_int_equal(pthread_join(thread, NULL), 0);
}

/*
 * What a process that knows only its environment prints: run this program again,
 * with UMM_LOG set to value, and collect its stderr.
 */
static void stderr_with_env(const char *value, char *text, size_t room)
{
	size_t len = 0;
	ssize_t got;
	int fds[2], status;
	pid_t pid;

	assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
	pid = fork();
	assert_true(pid >= 0);
	if (!pid) {
		dup2(fds[1], STDERR_FILENO);
		if (value)
			setenv("UMM_LOG", value, 1);
		else
			unsetenv("UMM_LOG");
		execl("/proc/self/exe", "test_base", "log", (char *)NULL);
		_exit(127);
	}
	close(fds[1]);
	while ((got = read(fds[0], text + len, room - 1 - len)) > 0)
		len += (size_t)got;
	text[len] = '\0';
	close(fds[0]);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
}

static int log_every_level(void)
{
	log_error("e");
	log_warning("w");
	log_info("i");
	log_debug("d");
	return 0;
}

static void environment_chooses_the_level(void **state)
{
	static const struct {
		const char *value;
		const char *text;
	} cases[] = {
		{ NULL, "libumm: error: e\nlibumm: warning: w\n" },
		{ "", "libumm: error: e\nlibumm: warning: w\n" },
		{ "none", "" },
		{ "error", "libumm: error: e\n" },
		{ "info", "libumm: error: e\nlibumm: warning: w\nlibumm: info: i\n" },
		{ "debug", "libumm: error: e\nlibumm: warning: w\nlibumm: info: i\n"
			   "libumm: debug: d\n" },
		{ "loud", "libumm: warning: UMM_LOG=loud is not a level: use none, error, "
			  "warning, info or debug\nlibumm: error: e\nlibumm: warning: w\n" },
	};
	char text[1024];

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		stderr_with_env(cases[i].value, text, sizeof(text));
		assert_string_equal(text, cases[i].text);
	}
}

static void stop_here(void *priv, enum umm_log_level level, const char *line)
{
	pthread_barrier_t *barriers = priv;

	(void)level;
	(void)line;
	pthread_barrier_wait(&barriers[0]);
	pthread_barrier_wait(&barriers[1]);
}

static void *log_one(void *arg)
{
	(void)arg;
	log_error("line");
	return NULL;
}

static void child_can_log_though_a_thread_was_at_it(void **state)
{
	struct seen seen = { 0 };
	pthread_barrier_t barriers[2];
	pthread_t thread;
	int status;
	pid_t pid;

	(void)state;
	pthread_barrier_init(&barriers[0], NULL, 2);
	pthread_barrier_init(&barriers[1], NULL, 2);
	umm_log_set(stop_here, barriers, UMM_LOG_ERROR);
	assert_int_equal(pthread_create(&thread, NULL, log_one, NULL), 0);
	pthread_barrier_wait(&barriers[0]);
	pid = fork();
	assert_true(pid >= 0);
	if (!pid) {
		log_after_fork();
		umm_log_set(remember, &seen, UMM_LOG_ERROR);
		log_error("child");
		_exit(seen.count != 1);
	}
	pthread_barrier_wait(&barriers[1]);
	assert_int_equal(pthread_join(thread, NULL), 0);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
	umm_log_set(NULL, NULL, UMM_LOG_WARNING);
	pthread_barrier_destroy(&barriers[0]);
	pthread_barrier_destroy(&barriers[1]);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(alignment_rounds_the_right_way),
		cmocka_unit_test(clock_never_goes_back),
		cmocka_unit_test(structure_without_size_is_einval),
		cmocka_unit_test(shorter_structure_reads_zero_at_its_end),
		cmocka_unit_test(longer_structure_is_e2big_if_it_says_more),
		cmocka_unit_test(filled_structure_keeps_its_size),
		cmocka_unit_test(every_error_has_a_text_of_its_own),
		cmocka_unit_test(errors_of_several_meanings_say_what_all_have_in_common),
		cmocka_unit_test(foreign_errors_have_some_text),
		cmocka_unit_test(version_is_that_of_the_header),
		cmocka_unit_test_teardown(lines_go_where_they_are_sent, restore_log),
		cmocka_unit_test_teardown(default_level_is_what_the_environment_says, restore_log),
		cmocka_unit_test_teardown(lines_are_one_line_whatever_they_quote, restore_log),
		cmocka_unit_test_teardown(long_lines_are_cut, restore_log),
		cmocka_unit_test_teardown(floods_are_dammed, restore_log),
		cmocka_unit_test_teardown(replaced_function_is_not_running_any_more, restore_log),
		cmocka_unit_test(environment_chooses_the_level),
		cmocka_unit_test_teardown(child_can_log_though_a_thread_was_at_it, restore_log),
	};

	if (argc > 1 && !strcmp(argv[1], "log"))
		return log_every_level();
	return cmocka_run_group_tests_name("base", tests, NULL, NULL);
}
