/* SPDX-License-Identifier: MIT */
/* Is the device still there? */
#ifndef OPENCL_LOSS_H
#define OPENCL_LOSS_H

#include <stdatomic.h>
#include <stdbool.h>

#include "umm_opencl.h"

struct loss {
	cl_command_queue queue; /* borrowed */
	cl_mem mem;		/* a word to read */
	atomic_bool lost;	/* once true it stays so */
};

/* 0 or an error, reported. */
int loss_init(struct loss *loss, cl_context context, cl_command_queue queue);
void loss_fini(struct loss *loss);

static inline bool loss_is_known(struct loss *loss)
{
	return atomic_load_explicit(&loss->lost, memory_order_relaxed);
}

/*
 * To be called when something has failed: asks the device for an answer, and says in the log where
 * there is none. From then on loss_is_known().
 */
bool loss_ask(struct loss *loss);

#endif
