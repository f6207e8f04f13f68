/* SPDX-License-Identifier: MIT */
/* Launches that the caller does not wait for. */
#ifndef OPENCL_LATER_H
#define OPENCL_LATER_H

#include "umm_opencl.h"

/* Launch work, which is sound, and let *work->event complete when it is done. */
int later_launch(struct umm_opencl *ocl, const struct umm_opencl_work *work,
		 struct umm_opencl_result *result);

#endif
