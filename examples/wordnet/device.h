/* SPDX-License-Identifier: MIT */
/* The OpenCL device that answers. */
#ifndef WORDNET_DEVICE_H
#define WORDNET_DEVICE_H

#include "umm_opencl.h"
#include "wordnet.h"

/** So many queries are in flight in one launch. */
#define BATCH 32

struct device {
	struct umm_opencl *ocl;
	cl_program program;
	cl_kernel kernel;
	cl_mem searches;  /* struct search for each of a batch */
	uint64_t nrounds; /* so far: times that the kernel ran, */
	uint64_t nfaults; /* and pages that it missed */
};

/** A device that one may use, with its name for people. */
struct device_choice {
	cl_device_id id;
	char name[256];
};

/**
 * device_choose() - find an OpenCL device
 * @name:   part of the name of a device or platform, in any case; or NULL
 * @choice: filled in
 *
 * Return: 0; -ENODEV there is none. It said what there is, and what to do.
 */
int device_choose(const char *name, struct device_choice *choice);

/**
 * device_open() - make an OpenCL device take part in a context, and compile the kernel
 * @d:      filled in
 * @choice: which
 * @ctx:    the context
 * @bytes:  its memory for pages
 *
 * Return: 0, or a negative errno. It said why.
 */
int device_open(struct device *d, const struct device_choice *choice, struct umm_ctx *ctx,
		uint64_t bytes);

/** device_close() - take the device away; what it has comes home */
void device_close(struct device *d);

/**
 * device_answer() - answer up to BATCH queries
 *
 * Return: 0, or a negative errno. It said why.
 */
int device_answer(struct device *d, const struct wordnet *w, struct query *queries, size_t n);

#endif /* WORDNET_DEVICE_H */
