/* SPDX-License-Identifier: MIT */
/*
 * Stands for opencl.c where libumm is built without the OpenCL backend, whose
 * header needs those of OpenCL. No state, no locks.
 */
#include <stdio.h>

#include "opencl.h"

const struct opencl_capability opencl_capabilities[OPENCL_NR_CAPABILITIES];

int opencl_read(struct opencl_report *report)
{
	snprintf(report->advice, sizeof(report->advice),
		 "libumm was built without OpenCL: build it with -DUMM_OPENCL=ON, on Debian "
		 "after 'apt-get install opencl-headers ocl-icd-opencl-dev'.");
	return 0;
}

void opencl_free(struct opencl_report *report)
{
	(void)report;
}
