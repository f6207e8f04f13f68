/* SPDX-License-Identifier: MIT */
/* Stands for numa_backend.c where libumm is built without the NUMA backend. No state, no locks. */
#include <stdio.h>

#include "numa.h"

void numa_judge(struct numa_node *nodes, int nnodes, char *advice, size_t advice_len)
{
	(void)nodes;
	(void)nnodes;
	snprintf(advice, advice_len,
		 "libumm was built without NUMA: build it with -DUMM_NUMA=ON, on Debian after "
		 "'apt-get install libnuma-dev'.");
}
