/* SPDX-License-Identifier: MIT */
/* A machine without any OpenCL platform: OCL_ICD_VENDORS names an empty directory. */
#include "rig.h"

static int never(void *priv, const struct umm_opencl_info *info)
{
	(void)info;
	*(bool *)priv = true;
	return 0;
}

static void no_platform_is_enodev_and_says_what_to_install(void **state)
{
	struct umm_opencl *ocl = NULL;
	struct rig *rig = *state;
	bool called = false;
	int ret;

	assert_int_equal(umm_opencl_list(never, &called), -ENODEV);
	assert_false(called);
	assert_non_null(strstr(umm_opencl_advice(), "apt-get install pocl-opencl-icd"));
	ret = umm_ctx_create(NULL, &rig->ctx);
	if (ret == -EPERM || ret == -EOPNOTSUPP)
		rig_skip("no userfaultfd: %s", umm_strerror(ret));
	assert_int_equal(ret, 0);
	rig_logged("");
	assert_int_equal(umm_opencl_create(rig->ctx, NULL, &ocl), -ENODEV);
	assert_null(ocl);
	assert_true(rig_logged("apt-get install pocl-opencl-icd"));
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		rig_test(no_platform_is_enodev_and_says_what_to_install),
	};

	return rig_main("opencl none", tests, argc, argv);
}
