/* SPDX-License-Identifier: MIT */
/* What "umm info" knows, gathered once and then printed for people or for programs. */
#ifndef INFO_H
#define INFO_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <umm.h>

#include "numa.h"
#include "opencl.h"
#include "system.h"

/* How libumm does one thing on this kernel. */
enum info_rung {
	INFO_RUNG_BEST,	    /* the kernel feature is there and used */
	INFO_RUNG_FALLBACK, /* it is not; something slower does the same */
	INFO_RUNG_MISSING,  /* it is not, and libumm cannot do without */
	INFO_RUNG_UNKNOWN,  /* the kernel says so only to those who may open a userfaultfd */
};

/* One kernel feature: a constant row. */
struct info_feature {
	enum umm_kernel_feature bit;
	const char *key;       /* in JSON: never changes once released */
	const char *label;     /* for people */
	unsigned major, minor; /* first kernel that has it; 0.0: a matter of permission */
	bool needs_uffd;       /* found out by opening a userfaultfd */
	const char *best;      /* what libumm does with it */
	const char *fallback;  /* what it does without; NULL: it cannot do without */
};

extern const struct info_feature info_features[];
extern const size_t info_nfeatures;

struct info {
	struct umm_probe_info probe;
	char machine[65];
	unsigned kernel_major, kernel_minor;
	bool has_device; /* /dev/userfaultfd is there */
	bool may_open_device;
	bool has_unprivileged; /* vm.unprivileged_userfaultfd exists */
	uint64_t unprivileged;
	unsigned fault_servers;
	char thp_enabled[32]; /* "" where the kernel has no huge pages */
	char thp_defrag[32];
	uint64_t thp_bytes;
	bool has_max_map_count;
	uint64_t max_map_count;
	bool has_overcommit;
	uint64_t overcommit;
	bool has_memory;
	struct system_memory memory;
	int nnodes; /* or a negative errno */
	struct numa_node nodes[NUMA_NODES];
	char numa_advice[256]; /* "" or what the NUMA backend lacks */
	struct opencl_report opencl;
};

enum info_rung info_rung(const struct info *info, const struct info_feature *feature);

/* What the feature would take where it is not in use: static text, or made in text. */
const char *info_remedy(const struct info *info, const struct info_feature *feature, char *text,
			size_t text_len);

/* 0, or -ENOMEM with nothing printed. */
int info_print_json(const struct info *info);
void info_print_text(const struct info *info);

#endif
