/* SPDX-License-Identifier: MIT */
/*
 * What the OpenCL tests share: a context with one device, kernels, launches, data.
 *
 * Every program runs once for each implementation; UMM_TEST_OPENCL names the device by
 * a part of its name. Without it the first that will do is taken. Where there is none, or no
 * userfaultfd, tests are skipped and say why.
 */
#ifndef RIG_H
#define RIG_H

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#include "umm_opencl.h"

#define PAGE  UMM_PAGE_SIZE
#define BLOCK UMM_BLOCK_SIZE
#define MIB   ((size_t)1 << 20)

struct rig {
	struct umm_ctx *ctx;
	struct umm_opencl *ocl;
	cl_program program;
	cl_kernel kernels[16];
	unsigned nkernels;
	uint64_t flags; /* of launches */
};

/* For cmocka's setup and teardown: *state is a struct rig with a context, without a device. */
int rig_setup(void **state);
int rig_teardown(void **state);

#define rig_test(fn) cmocka_unit_test_setup_teardown(fn, rig_setup, rig_teardown)

#define rig_skip(...)                \
	do {                         \
		printf("SKIP ");     \
		printf(__VA_ARGS__); \
		printf("\n");        \
		fflush(stdout);      \
		skip();              \
	} while (0)

/* For main(): run the tests; with an argument, those whose names match that pattern. */
#define rig_main(group, tests, argc, argv) \
	rig_run(group, tests, sizeof(tests) / sizeof((tests)[0]), argc > 1 ? argv[1] : NULL)
int rig_run(const char *group, const struct CMUnitTest *tests, size_t ntests, const char *pattern);

/* The part of a name that UMM_TEST_OPENCL asks for, or that of the first that will do. */
const char *rig_device_name(void);

/* Open the device: device_bytes and what else is set in options, which may be NULL. */
void rig_open(struct rig *rig, size_t device_bytes, const struct umm_opencl_options *options);

/* For tests that count pages: nothing is read ahead. */
extern const struct umm_opencl_options rig_exact;

/* For those that count rounds too: with rig_exact and kernels.cl, and work-items are replayed. */
void rig_open_counting(struct rig *rig, size_t device_bytes);

/* Close the device and what was built for it. */
void rig_close(struct rig *rig);

/* Compile kernels.cl for the rig's device. */
void rig_build(struct rig *rig);

/* Or another file. */
void rig_build_file(struct rig *rig, const char *path);

/* A kernel of the program; released with the rig. */
cl_kernel rig_kernel(struct rig *rig, const char *name);

/* Release the kernels, but not their program. */
void rig_close_kernels(struct rig *rig);

/* Set argument i of the kernel's own. */
void rig_ulong(cl_kernel kernel, cl_uint i, uint64_t value);
void rig_uint(cl_kernel kernel, cl_uint i, uint32_t value);

/* Launch so many work-items in one dimension. */
int rig_try(struct rig *rig, cl_kernel kernel, size_t items, struct umm_opencl_result *result);

/* The same; it must succeed. */
struct umm_opencl_result rig_launch(struct rig *rig, cl_kernel kernel, size_t items);

/* umm_alloc(), in small pages, so that nothing is there before it is touched. */
void *rig_alloc(struct rig *rig, size_t len);

/* So many pages of it, in which word i is i. */
uint32_t *rig_numbered(struct rig *rig, size_t npages);

/* The kernel that has out[i] = 3 * in[i] + 1, with these. */
cl_kernel rig_map(struct rig *rig, const uint32_t *in, const uint32_t *out);

/* A counter of the rig's device, now. */
uint64_t rig_count(struct rig *rig, unsigned counter);
uint64_t rig_device_pages(struct rig *rig);

/* Pages of start .. start + len in this state. */
size_t rig_pages_in(struct rig *rig, const void *start, size_t len, enum umm_page_state state);

/*
 * For what is true in the end: counters are read a moment apart, and frames are given
 * back after the fault that freed them was answered.
 */
#define rig_eventually(condition)                                                  \
	do {                                                                       \
		for (int tries = 0; !(condition) && tries < 20000; tries++)        \
			nanosleep(&(struct timespec){ .tv_nsec = 1000000 }, NULL); \
		assert_true(condition);                                            \
	} while (0)

/* Can work-items of the device wait for pages, and may they? */
bool rig_can_wait(void);

/* Everything is done in the calling thread: PoCL's basic device. */
bool rig_is_at_once(void);
/* A user event that holds things up; where all is done at once it stands open. */
cl_event rig_gate_new(struct rig *rig);
void rig_gate_open(cl_event gate);
cl_int rig_state_of(cl_event event);

/* Does the thread sleep in the kernel? */
bool rig_sleeps(int tid);

/* Log lines since the last call that contain text; the log is kept from stderr. */
bool rig_logged(const char *text);

/* The sum of n words. */
uint64_t rig_sum(const uint32_t *words, size_t n);

#endif
