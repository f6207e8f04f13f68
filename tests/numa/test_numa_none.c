/* SPDX-License-Identifier: MIT */
/* A machine without libnuma: whoever asks is told what to install, and nothing else happens. */
#include "rig.h"

#include <errno.h>

static int count_node(void *priv, const struct umm_numa_info *info)
{
	(void)info;
	++*(unsigned *)priv;
	return 0;
}

static void missing_libnuma_is_named(void **state)
{
	struct umm_numa_options options = { .size = sizeof(options), .node = 0 };
	struct umm_numa *numa = NULL;
	struct umm_ctx *ctx;
	unsigned n = 0;

	(void)state;
	assert_int_equal(umm_ctx_create(NULL, &ctx), 0);
	rig_log_clear();
	assert_int_equal(umm_numa_list(count_node, &n), -EOPNOTSUPP);
	assert_int_equal(n, 0);
	assert_logged("apt-get install libnuma1");
	rig_log_clear();
	assert_int_equal(umm_numa_create(ctx, &options, &numa), -EOPNOTSUPP);
	assert_null(numa);
	assert_logged("node 0 cannot be used: libnuma is missing");
	assert_logged("libnuma-absent.so.1 could not be loaded");
	umm_ctx_put(ctx);
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(missing_libnuma_is_named) };

	return cmocka_run_group_tests_name("numa_none", tests, NULL, NULL);
}
