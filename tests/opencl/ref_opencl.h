/* SPDX-License-Identifier: MIT */
/* An OpenCL device's memory below the reference device. */
#ifndef REF_OPENCL_H
#define REF_OPENCL_H

/*
 * Let devices stand on the OpenCL backend where the environment says UMM_TEST_BACKEND=opencl, on
 * the device that UMM_TEST_OPENCL names. False: it says something else.
 */
_Bool ref_opencl_use(void);
/* There is no such device. */
_Bool ref_opencl_missing(void);

#endif
