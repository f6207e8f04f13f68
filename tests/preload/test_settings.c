/* SPDX-License-Identifier: MIT */
/* What a setting may say, and what is said of nonsense. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "settings.h"

static struct settings settings;
static char error[SETTINGS_ERROR_LEN];

static int start(void **state)
{
	(void)state;
	settings_default(&settings);
	error[0] = '\0';
	return 0;
}

static void sizes(void **state)
{
	static const struct {
		const char *text;
		uint64_t bytes;
	} good[] = {
		{ "0", 0 },	    { "4096", 4096 },
		{ "1K", 1024 },	    { "1KiB", 1024 },
		{ "2mb", 2 << 20 }, { "1.5G", UINT64_C(3) << 29 },
		{ "0.5k", 512 },    { "8T", UINT64_C(8) << 40 },
		{ "7B", 7 },
	};
	static const char *const bad[] = { "",	       "-1",  "G",   "1X",   "1.G",
					   "1.5",      "1 G", "1GG", "0x10", "99999999999999999999",
					   "99999999T" };
	uint64_t bytes;

	(void)state;
	for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
		assert_int_equal(settings_bytes(good[i].text, &bytes), 0);
		assert_true(bytes == good[i].bytes);
	}
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		if (settings_bytes(bad[i], &bytes) != -EINVAL)
			fail_msg("\"%s\" was taken for a size", bad[i]);
}

static void devices_keep_their_order(void **state)
{
	(void)state;
	assert_int_equal(settings_set(&settings, "device", "numa:1=2G,opencl:a:b", error), 0);
	assert_int_equal(settings_set(&settings, "device", "ref", error), 0);
	assert_int_equal(settings.ndevices, 3);
	assert_string_equal(settings.devices[0].scheme, "numa");
	assert_string_equal(settings.devices[0].name, "1");
	assert_true(settings.devices[0].len == UINT64_C(2) << 30);
	assert_string_equal(settings.devices[1].name, "a:b");
	assert_true(settings.devices[1].len == 0);
	assert_string_equal(settings.devices[2].scheme, "ref");
	assert_string_equal(settings.devices[2].name, "");
}

static void nonsense_is_named(void **state)
{
	static const char *const bad[][2] = {
		{ "device", "" },
		{ "device", "../x" },
		{ "device", "numa:1=" },
		{ "device", "numa:1=0" },
		{ "device", "a,,b" },
		{ "host-limit", "1M" },
		{ "host-limit", "much" },
		{ "quiet", "maybe" },
		{ "malloc-threshold", "1K" },
		{ "cpu-budget", "0" },
		{ "cpu-budget", "101" },
		{ "cpu-budget", "2%" },
		{ "mmap-threshold", "-5" },
		{ "placement", "nearest" },
		{ "evict-order", "oldest" },
		{ "readahead", "all" },
		{ "thrash", "no" },
		{ "sampling", "always" },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		error[0] = '\0';
		assert_int_equal(settings_set(&settings, bad[i][0], bad[i][1], error), -EINVAL);
		assert_non_null(strstr(error, bad[i][0]));
		assert_null(strchr(error, '\n'));
	}
	assert_int_equal(settings_set(&settings, "hostlimit", "1G", error), -ENOENT);
	settings_default(&settings);
	for (unsigned i = 0; i < SETTINGS_DEVICES; i++) {
		char name[16];

		snprintf(name, sizeof(name), "ref:%u", i);
		assert_int_equal(settings_set(&settings, "device", name, error), 0);
	}
	assert_int_equal(settings_set(&settings, "device", "ref:more", error), -EINVAL);
	assert_string_equal(error, "device: at most 8 devices");
}

static void a_device_is_given_once(void **state)
{
	(void)state;
	assert_int_equal(settings_set(&settings, "device", "numa:0,numa:0", error), -EINVAL);
	assert_string_equal(error, "device: \"numa:0\" is given twice");
	settings_default(&settings);
	assert_int_equal(settings_set(&settings, "device", "ref:a=16M", error), 0);
	assert_int_equal(settings_set(&settings, "device", "ref:b,ref:a=1G", error), -EINVAL);
	assert_string_equal(error, "device: \"ref:a=1G\" is given twice");
}

static void what_is_quoted_stays_in_its_line(void **state)
{
	(void)state;
	assert_int_equal(settings_set(&settings, "device", "ref:a\nb", error), -EINVAL);
	assert_null(strpbrk(error, "\n\r\033"));
	assert_int_equal(settings_set(&settings, "host-limit", "1\n2\r\033[2J", error), -EINVAL);
	assert_null(strpbrk(error, "\n\r\033"));
	assert_int_equal(settings_set(&settings, "a\nb", "1", error), -ENOENT);
	assert_null(strpbrk(error, "\n\r\033"));
}

static void policies_have_names(void **state)
{
	(void)state;
	assert_ptr_equal(settings.placement, &place_first);
	assert_int_equal(settings_set(&settings, "placement", "interleave", error), 0);
	assert_ptr_equal(settings.placement, &place_interleave);
	assert_ptr_equal(settings.sampling, &sample_refault);
	assert_int_equal(settings_set(&settings, "sampling", "second", error), 0);
	assert_ptr_equal(settings.sampling, &sample_second);
	assert_int_equal(settings_set(&settings, "evict-order", "lirs", error), 0);
	assert_int_equal(settings_set(&settings, "readahead", "off", error), 0);
	assert_int_equal(settings_set(&settings, "thrash", "throttle", error), 0);
	assert_int_equal(settings_set(&settings, "hints", "read-mostly", error), 0);
	assert_int_equal(settings_set(&settings, "trace", "/tmp/x", error), 0);
}

static void the_environment_says_the_same(void **state)
{
	char variable[64];

	(void)state;
	settings_variable("host-limit", variable, sizeof(variable));
	assert_string_equal(variable, "UMM_HOST_LIMIT");
	setenv("UMM_HOST_LIMIT", "64M", 1);
	setenv("UMM_DEVICE", "numa:0,ref", 1);
	setenv("UMM_QUIET", "yes", 1);
	setenv("UMM_MMAP_THRESHOLD", "none", 1);
	setenv("UMM_MALLOC_THRESHOLD", "", 1); /* as if it were not there */
	assert_int_equal(settings_from_environment(&settings, error), 0);
	assert_true(settings.host_limit == 64 << 20 && settings.ndevices == 2 && settings.quiet);
	assert_true(settings.mmap_threshold == UINT64_MAX &&
		    settings.malloc_threshold == 128 << 10);
	setenv("UMM_CPU_BUDGET", "x", 1);
	settings_default(&settings);
	assert_int_equal(settings_from_environment(&settings, error), -EINVAL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(sizes, start),
		cmocka_unit_test_setup(devices_keep_their_order, start),
		cmocka_unit_test_setup(nonsense_is_named, start),
		cmocka_unit_test_setup(a_device_is_given_once, start),
		cmocka_unit_test_setup(what_is_quoted_stays_in_its_line, start),
		cmocka_unit_test_setup(policies_have_names, start),
		cmocka_unit_test_setup(the_environment_says_the_same, start),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
