/* SPDX-License-Identifier: MIT */
/* Devices that were found: where that is remembered, and where nothing is. */
#include <dirent.h>
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "checked.h"

enum { NOBODY = 65534 };

static char scratch[64];

static int directory_make(void **state)
{
	(void)state;
	snprintf(scratch, sizeof(scratch), "/tmp/test_tool_checked.XXXXXX");
	return !mkdtemp(scratch) || chdir(scratch);
}

static int directory_remove(void **state)
{
	char command[128];

	(void)state;
	snprintf(command, sizeof(command), "rm -rf '%s'", scratch);
	return chdir("/") || system(command);
}

static bool is_empty(const char *path)
{
	DIR *dir = opendir(path);
	unsigned n = 0;

	assert_non_null(dir);
	while (readdir(dir))
		n++;
	closedir(dir);
	return n == 2;
}

/* NULL: not set. */
static void surroundings(const char *cache, const char *home)
{
	unsetenv("XDG_CACHE_HOME");
	unsetenv("HOME");
	assert_int_equal(cache ? setenv("XDG_CACHE_HOME", cache, true) : 0, 0);
	assert_int_equal(home ? setenv("HOME", home, true) : 0, 0);
}

static bool is_remembered(void)
{
	assert_false(checked_lately("opencl:x=1"));
	checked_note("opencl:x=1");
	return checked_lately("opencl:x=1");
}

static void home_has_it_below_its_cache(void **state)
{
	struct stat st;

	(void)state;
	surroundings(NULL, scratch);
	assert_true(is_remembered());
	assert_false(checked_lately("opencl:x=2"));
	assert_int_equal(stat(".cache/umm/opencl%3ax=1", &st), 0);
	assert_int_equal(stat(".cache", &st), 0);
	assert_int_equal(st.st_mode & 0777, 0700);
}

static void cache_of_a_name_counts_more(void **state)
{
	char path[80];

	(void)state;
	snprintf(path, sizeof(path), "%s/mine", scratch);
	surroundings(path, "/nonexistent");
	assert_true(is_remembered());
	assert_int_equal(access("mine/umm/opencl%3ax=1", F_OK), 0);
}

static void paths_that_are_not_absolute_are_not_heeded(void **state)
{
	static const char *const paths[] = { "", "x", ".", "..", NULL };

	(void)state;
	for (unsigned i = 0; i < sizeof(paths) / sizeof(paths[0]); i++) {
		surroundings(paths[i], paths[i]);
		assert_false(is_remembered());
	}
	assert_true(is_empty("."));
	surroundings("", scratch);
	assert_true(is_remembered());
	assert_int_equal(access(".cache/umm/opencl%3ax=1", F_OK), 0);
}

static void home_that_is_missing_is_not_made(void **state)
{
	char path[80];

	(void)state;
	snprintf(path, sizeof(path), "%s/of/me", scratch);
	surroundings(NULL, path);
	assert_false(is_remembered());
	surroundings(path, NULL);
	assert_false(is_remembered());
	assert_true(is_empty("."));
}

static void home_of_another_is_left_alone(void **state)
{
	(void)state;
	if (geteuid())
		skip();
	assert_int_equal(chown(".", NOBODY, NOBODY), 0);
	surroundings(NULL, scratch);
	assert_false(is_remembered());
	assert_true(is_empty("."));
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(home_has_it_below_its_cache, directory_make,
						directory_remove),
		cmocka_unit_test_setup_teardown(cache_of_a_name_counts_more, directory_make,
						directory_remove),
		cmocka_unit_test_setup_teardown(paths_that_are_not_absolute_are_not_heeded,
						directory_make, directory_remove),
		cmocka_unit_test_setup_teardown(home_that_is_missing_is_not_made, directory_make,
						directory_remove),
		cmocka_unit_test_setup_teardown(home_of_another_is_left_alone, directory_make,
						directory_remove),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
