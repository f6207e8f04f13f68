/* SPDX-License-Identifier: MIT */
/* PoCL where it cannot keep compiled kernels: POCL_CACHE_DIR lies below a file. */
#include "rig.h"

struct seen {
	unsigned ndevices;
	bool pocl;
	bool advised;
};

static int look(void *priv, const struct umm_opencl_info *info)
{
	struct seen *seen = priv;

	seen->ndevices += info->device != NULL;
	if (!strstr(info->platform_name, "Portable Computing Language"))
		return 0;
	seen->pocl = true;
	seen->advised |= info->reason && strstr(info->reason, "set POCL_CACHE_DIR");
	return 0;
}

static void no_place_for_compiled_kernels_is_enodev_and_says_what_to_set(void **state)
{
	struct umm_opencl *ocl = NULL;
	struct rig *rig = *state;
	struct seen seen = { 0 };
	int ret;

	ret = umm_opencl_list(look, &seen);
	if (ret == -ENODEV || !seen.pocl)
		rig_skip("%s", umm_opencl_advice());
	if (seen.ndevices)
		rig_skip("an OpenCL device needs no place for compiled kernels");
	assert_int_equal(ret, 0);
	assert_true(seen.advised);
	ret = umm_ctx_create(NULL, &rig->ctx);
	if (ret == -EPERM || ret == -EOPNOTSUPP)
		rig_skip("no userfaultfd: %s", umm_strerror(ret));
	assert_int_equal(ret, 0);
	rig_logged("");
	assert_int_equal(umm_opencl_create(rig->ctx, NULL, &ocl), -ENODEV);
	assert_null(ocl);
	assert_true(rig_logged("type: any); there are: none (PoCL may not write"));
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		rig_test(no_place_for_compiled_kernels_is_enodev_and_says_what_to_set),
	};

	return rig_main("opencl no cache", tests, argc, argv);
}
