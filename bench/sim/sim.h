/* SPDX-License-Identifier: MIT */
/* The simulator: traces, the memories that they are replayed against, and what comes of it. */
#ifndef SIM_H
#define SIM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "policy/policy.h"

/* Blocks in the order of their use. A use that follows one of the same block is left out. */
struct trace {
	uint32_t *block; /* numbers from 0 */
	size_t n, room;
	uint32_t nblocks; /* one more than the highest */
	char name[32];
};

/* 0 or -ENOMEM. */
int trace_add(struct trace *trace, uint32_t block);
void trace_fini(struct trace *trace);

/*
 * Traces in files: see trace.c. 0 or -errno; what is wrong with a file, -EINVAL, is said in `why`,
 * of `len` bytes.
 */
int trace_write(const struct trace *trace, FILE *file);
int trace_read(struct trace *trace, FILE *file, char *why, size_t len);

/* The classic patterns, the same at every call; scaled to so many blocks in all. */
#define NR_PATTERNS 7
extern const char *const pattern_names[NR_PATTERNS];
/* room: blocks that fit; a loop and a hot set are made to measure. 0; -ENOMEM, -ENOENT */
int pattern_make(const char *name, uint32_t nblocks, uint32_t room, struct trace *out);

/* A device that we need not own. */
struct sim_device {
	const char *name;
	const char *what;
	double fault_us; /* until the first byte of a block that was missed comes */
	double gib_s;	 /* each way */
};

#define NR_DEVICES 4
extern const struct sim_device sim_devices[NR_DEVICES];

struct sim_result {
	uint64_t uses, misses, evictions;
};

double sim_stall_s(const struct sim_result *result, const struct sim_device *device);

/* Replay a trace in a memory of so many blocks. 0 or -ENOMEM. */
int sim_replay(const struct trace *trace, const struct order_ops *ops, uint32_t room,
	       struct sim_result *out);
/* The least misses that any order could have: evict what is used again last (Belady). */
int sim_optimum(const struct trace *trace, uint32_t room, struct sim_result *out);

/* Misses by share of memory, a line for each order; y[order][share], the optimum last. */
#define NR_SHARES 3
extern const unsigned sim_shares[NR_SHARES]; /* percent */
struct sim_figures {
	struct sim_result result[NR_PATTERNS][NR_SHARES][NR_ORDERS + 1];
};
int sim_figures(struct sim_figures *out);
/* The geometric mean over all patterns and shares of misses over the optimum's. */
double sim_mean(const struct sim_figures *figures, unsigned order);
/* The worst misses over those of another order. */
double sim_worst(const struct sim_figures *figures, unsigned order, const struct order_ops *ops);
void svg_write(const struct sim_figures *figures, FILE *file);

#endif
