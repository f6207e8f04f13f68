/* SPDX-License-Identifier: MIT */
/* Opening the OpenCL device that rows are measured on, or saying why there is none. */
#include "ours_opencl.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#define MIB (UINT64_C(1) << 20)

struct names {
	char list[128];
};

static int add_name(void *priv, const struct umm_opencl_info *info)
{
	struct names *names = priv;
	size_t len = strlen(names->list);

	if (info->device)
		snprintf(names->list + len, sizeof(names->list) - len, "%s%s", len ? ", " : "",
			 info->device_name);
	return 0;
}

/* No platform, or none of its devices has that name. */
static int skip(struct bench_env *env)
{
	struct names names = { "" };

	if (umm_opencl_list(add_name, &names) < 0)
		return bench_note(env, BENCH_SKIP, "%.190s", umm_opencl_advice());
	if (!*names.list)
		return bench_note(env, BENCH_SKIP,
				  "no OpenCL platform has a device (rusticl: set "
				  "RUSTICL_ENABLE=llvmpipe)");
	return bench_note(env, BENCH_SKIP, "no OpenCL device is named '%.40s'; there are: %s",
			  env->device ? env->device : "", names.list);
}

int ours_opencl(struct bench_env *env, struct umm_ctx *ctx, struct umm_opencl_options *options,
		struct umm_opencl **out)
{
	char name[128] = "";
	int ret;

	options->size = sizeof(*options);
	options->device_name = env->device;
	ret = umm_opencl_create(ctx, options, out);
	if (ret == -ENODEV)
		return skip(env);
	if (ret)
		return bench_note(env, ret, "umm_opencl_create with %llu MiB",
				  (unsigned long long)(options->device_bytes / MIB));
	clGetDeviceInfo(umm_opencl_cl_device(*out), CL_DEVICE_NAME, sizeof(name) - 1, name, NULL);
	return bench_note(env, 0, "on %.100s", name);
}
