/* SPDX-License-Identifier: MIT */
/*
 * What the NUMA tests share: contexts, devices on the node under test, the library's log,
 * where the kernel says that pages are. One node is enough for most; those that need more are
 * skipped where there are fewer, and run in the guest of tests/guest/.
 */
#ifndef NUMA_RIG_H
#define NUMA_RIG_H

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include "umm_numa.h"

#define PAGE	    UMM_PAGE_SIZE
#define BLOCK	    UMM_BLOCK_SIZE
#define PATIENCE_MS 20000

/* Sanitizers have memory of their own, which counts for limits; and their mlock() does nothing. */
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define RIG_SANITIZED 1
#elif defined(__has_feature)
#define RIG_SANITIZED (__has_feature(address_sanitizer) || __has_feature(thread_sanitizer))
#else
#define RIG_SANITIZED 0
#endif

/* Nodes with memory that this process may use, the fastest first. */
struct rig_nodes {
	unsigned count;
	struct umm_numa_info info[64];
};

struct rig {
	struct umm_ctx *ctx;
	struct umm_numa *numa;
	struct rig_nodes nodes;
};

/* cmocka's: a context, and a COHERENT or PRIVATE device with 16 MiB on the farthest node. */
int rig_setup(void **state);
int rig_setup_private(void **state);
int rig_teardown(void **state);

#define RIG_TEST(fn)	     cmocka_unit_test_setup_teardown(fn, rig_setup, rig_teardown)
#define RIG_TEST_PRIVATE(fn) cmocka_unit_test_setup_teardown(fn, rig_setup_private, rig_teardown)

#define rig_skip(...)                \
	do {                         \
		printf("SKIP ");     \
		printf(__VA_ARGS__); \
		printf("\n");        \
		fflush(stdout);      \
		skip();              \
	} while (0)

struct rig_nodes rig_nodes(void);
/* End the test unless there are so many nodes. */
void rig_need_nodes(const struct rig *rig, unsigned count);

/* The log since rig_log_clear(). */
void rig_log_clear(void);
void assert_logged(const char *text);
void assert_not_logged(const char *text);

struct umm_numa_counts rig_counts(struct umm_numa *numa);
uint64_t rig_counter(struct rig *rig, unsigned counter);
uint64_t rig_cpu_faults(struct rig *rig); /* of every kind that libumm counts */

/* The node of a page by move_pages(2), touched first if need be; -errno. */
int node_of(void *page);
void assert_on_node(void *addr, size_t npages, int node);

void fill(void *addr, size_t npages, unsigned seed);
void assert_filled(const void *addr, size_t npages, unsigned seed);
bool page_is_filled(const void *page, size_t i, unsigned seed);

#define wait_until(condition)                                                           \
	do {                                                                            \
		unsigned waited_ = 0;                                                   \
		while (!(condition) && waited_++ < PATIENCE_MS)                         \
			rig_sleep_ms();                                                 \
		if (!(condition))                                                       \
			fail_msg("after %d ms still not: %s", PATIENCE_MS, #condition); \
	} while (0)
void rig_sleep_ms(void);

#endif
