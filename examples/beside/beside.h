/* SPDX-License-Identifier: MIT */
/*
 * What these examples share: each does its work twice, on managed memory whose pages come
 * on demand, and in buffers that everything is copied to first.
 * Whatever fails ends the program and says why; without a device or userfaultfd it exits with 77.
 */
#ifndef BESIDE_H
#define BESIDE_H

#include <stdint.h>
#include <umm_opencl.h>

struct beside {
	struct umm_ctx *ctx;
	struct umm_opencl *ocl;
	cl_program program;
	cl_context context;
	cl_command_queue queue; /* for the buffers */
	size_t device_bytes;
};

/* A context; then memory in it, as often as needed; then a device with so much of its own. */
void beside_start(struct beside *b);
void *beside_alloc(struct beside *b, size_t bytes);
void beside_open(struct beside *b, const char *source, size_t device_bytes);
void beside_close(struct beside *b);

/* Run a kernel that takes addresses and numbers. */
struct umm_opencl_result beside_launch(struct beside *b, const char *kernel, size_t items,
				       unsigned nargs, const cl_ulong *args);

/* A buffer, filled from bytes at from where that is not NULL. */
cl_mem beside_buffer(struct beside *b, size_t bytes, const void *from);

/* Run a kernel that takes buffers, and a number last. */
void beside_run(struct beside *b, const char *kernel, size_t items, unsigned nbuffers,
		const cl_mem *buffers, cl_uint last);

void beside_read(struct beside *b, cl_mem buffer, size_t bytes, void *to);

double beside_seconds(void);

/* Two columns; on_demand is the device's, from counters. */
void beside_report(struct beside *b, double on_demand_s, double copied_s, size_t copied_bytes);

/* End here unless it is true. */
void beside_need(int what, const char *why);

#endif
