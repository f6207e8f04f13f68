/* SPDX-License-Identifier: MIT */
/*
 * Compiles programs with the prelude, which CMake turns into the bytes of prelude[].
 * A #line before the program's own source keeps the compiler's line numbers right.
 * UMM_POOLS tells the prelude how many pools there are, umm_begin() refuses a program
 * built for fewer; UMM_WAITS, whether kernels may wait for the host. No state, no locks.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "device.h"
#include "live.h"
#include "report.h"

#define OPTION_BYTES 64

static const char prelude[] = {
#include "umm_device.cl.inc"
	'\0'
};

const char *umm_opencl_prelude(void)
{
	return prelude;
}

static int create(struct umm_opencl *ocl, const char *source, cl_program *out)
{
	const char *parts[] = { prelude, "\n#line 1\n", source };
	cl_int err;

	*out = clCreateProgramWithSource(ocl->context, 3, parts, NULL, &err);
	return report_cl(err, "clCreateProgramWithSource()");
}

static int build(struct umm_opencl *ocl, cl_program program, const char *options)
{
	size_t len = (options ? strlen(options) : 0) + OPTION_BYTES;
	char *all = malloc(len);
	cl_int err;

	if (!all)
		return -ENOMEM;
	snprintf(all, len, "-DUMM_POOLS=%u -DUMM_WAITS=%d %s", ocl->pools.npools, ocl->can_wait,
		 options ? options : "");
	err = clBuildProgram(program, 1, &ocl->device, all, NULL, NULL);
	free(all);
	if (err == CL_SUCCESS)
		return 0;
	report(UMM_LOG_ERROR, "clBuildProgram() failed: %s (%d)", report_cl_name(err), err);
	return report_cl_errno(err);
}

int umm_opencl_build(struct umm_opencl *ocl, const char *source, const char *options,
		     cl_program *out, char **log)
{
	cl_program program;
	char *text;
	int ret;

	if (!live_is(LIVE_DEVICE, ocl) || !source || !out)
		return -EINVAL;
	if (ocl->owner != getpid())
		return -ENODEV;
	ret = create(ocl, source, &program);
	if (ret)
		return ret;
	ret = build(ocl, program, options);
	if (ret && ret != -EINVAL)
		goto err_release;
	text = report_build_log(program, ocl->device);
	if (ret && text)
		report_lines(text);
	if (log)
		*log = text;
	else
		free(text);
	if (ret)
		goto err_release;
	*out = program;
	return 0;

err_release:
	clReleaseProgram(program);
	return ret;
}
