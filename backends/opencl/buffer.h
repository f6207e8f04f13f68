/* SPDX-License-Identifier: MIT */
/* The buffers of a round: they grow, and the host may reach them. */
#ifndef OPENCL_BUFFER_H
#define OPENCL_BUFFER_H

#include "device.h"

/*
 * At least len bytes, all zero if it is new; what was in it is gone then. 1: it is new; 0: it was
 * large enough; or an error, reported.
 */
int buffer_grow(struct umm_opencl *ocl, struct buffer *buffer, size_t len);

/* The same, of memory that the host may use while a kernel does, where ocl->can_wait. */
int buffer_grow_shared(struct umm_opencl *ocl, struct buffer *buffer, size_t len);

/* 0 or an error, reported. */
int buffer_zero(struct umm_opencl *ocl, struct buffer *buffer);

void buffer_release(struct umm_opencl *ocl, struct buffer *buffer);

#endif
