/* SPDX-License-Identifier: MIT */
/*
 * What the OpenCL backend can do on this machine. The backend is a library of its
 * own that may be absent; this is what "umm info" keeps of its answer.
 */
#ifndef OPENCL_H
#define OPENCL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* A device, or a platform without any: then device_name is empty. Zero-terminated copies. */
struct opencl_item {
	char platform_name[128];
	char platform_version[128];
	char device_name[128];
	char device_version[128];
	char type[16]; /* "cpu", "gpu", "accelerator", "custom", "other" */
	uint64_t global_bytes;
	uint64_t max_alloc_bytes;
	uint64_t max_device_bytes; /* most that may be given to pages */
	uint64_t default_device_bytes;
	uint32_t capabilities; /* bits of opencl_capabilities[] */
	int usable;	       /* 0 or a negative errno */
	char reason[256];
};

struct opencl_capability {
	const char *key;   /* in JSON: never changes once released */
	const char *label; /* for people */
	bool is_svm;
};

enum { OPENCL_NR_CAPABILITIES = 7 };

extern const struct opencl_capability opencl_capabilities[OPENCL_NR_CAPABILITIES];

struct opencl_report {
	bool has_backend;
	char advice[512]; /* "" or one sentence: what is missing, how to get it */
	struct opencl_item *items;
	size_t nitems;
};

/* Fill in a zeroed report. 0, also where there is no OpenCL at all, or -ENOMEM. */
int opencl_read(struct opencl_report *report);
void opencl_free(struct opencl_report *report);

#endif
