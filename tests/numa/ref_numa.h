/* SPDX-License-Identifier: MIT */
/* A memory node below the reference device. */
#ifndef REF_NUMA_H
#define REF_NUMA_H

/*
 * Let devices stand on the NUMA backend where the environment says UMM_TEST_BACKEND=numa, on
 * the node of UMM_TEST_NODE, or on the farthest. False: it says something else.
 */
_Bool ref_numa_use(void);

#endif
