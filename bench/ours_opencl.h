/* SPDX-License-Identifier: MIT */
/* An OpenCL device of a context, as the cases share it. */
#ifndef OURS_OPENCL_H
#define OURS_OPENCL_H

#include "bench.h"
#include "umm_opencl.h"

/*
 * The device that --device names; its name is the row's note. Skips where there is none, and says
 * which there are.
 */
int ours_opencl(struct bench_env *env, struct umm_ctx *ctx, struct umm_opencl_options *options,
		struct umm_opencl **out);

#endif
