/* SPDX-License-Identifier: MIT */
/*
 * The frame of umm-bench. A case measures libumm and, in the same process, its
 * competitor; the frame runs the two in turn, pair by pair, and works on the ratios
 * of the pairs: what drifts (clock speed, neighbours, memory) drifts for both.
 *
 * Errors are negative errno values, as in libumm. Nothing here asserts a goal: a row
 * says "reached" or "missed" and the program's exit status does not depend on it.
 */
#ifndef BENCH_H
#define BENCH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "machine.h"
#include "series.h"

#define BENCH_MIB  ((size_t)1 << 20)
#define BENCH_SKIP 1 /* returned by a setup that cannot run here; env->note says why */

/* What a case's figures mean, and what its ratio is. */
enum bench_kind {
	BENCH_COST,    /* less is better; libumm / competitor, at most goal */
	BENCH_SPEED,   /* more is better; libumm / competitor, at least goal */
	BENCH_SPEEDUP, /* less is better; competitor / libumm, at least goal */
	BENCH_LIMIT,   /* less is better; libumm's own figure, at most goal; no ratio */
};

/* What the user asked for, and where a case explains itself. */
struct bench_env {
	struct machine *machine;
	bool quick;
	unsigned pairs;	      /* 0: what the case says */
	unsigned patience_ms; /* left to wait for others to finish, in all */
	unsigned foreign_pct; /* of one CPU, used by others: more than this disturbs a pair */
	size_t bulk_bytes;    /* moved at once by the bulk cases; whole blocks of 2 MiB */
	size_t fault_pages;   /* faults of one run; whole blocks */
	size_t touch_bytes;   /* touched by one run */
	const char *device;   /* part of an OpenCL device's name, or NULL */
	char note[200];	      /* a case's remark for its row: why it was skipped, or failed */
};

/*
 * One case. ours() and theirs() are one run each: they push one figure or many (a
 * latency distribution); a run counts by its median. setup() stores its state even
 * when it fails: teardown() is called in any case and accepts NULL.
 */
struct bench_case {
	const char *name;    /* "group/what", for selection */
	const char *summary; /* one line */
	const char *against; /* the competitor, short; NULL where there is none: BENCH_LIMIT only */
	const char *unit;
	enum bench_kind kind;
	double goal;	/* 0: none */
	unsigned pairs; /* unless the user says */
	int variant;	/* the case's own */
	int (*setup)(struct bench_env *env, const struct bench_case *bcase, void **state);
	int (*ours)(void *state, struct series *out);
	int (*theirs)(void *state, struct series *out);
	void (*teardown)(void *state);
};

/* The cases, by file; each list ends with a case that has no name. */
extern const struct bench_case case_fault[];
extern const struct bench_case case_ahead[];
extern const struct bench_case case_busy[];
extern const struct bench_case case_pingpong[];
extern const struct bench_case case_hints[];
extern const struct bench_case case_threads[];
extern const struct bench_case case_bulk[];
extern const struct bench_case case_pages[];
extern const struct bench_case case_size[];
extern const struct bench_case case_ladder[];
extern const struct bench_case case_umap[];   /* skipped where UMap was not found */
extern const struct bench_case case_numa[];   /* empty where the NUMA backend was not built */
extern const struct bench_case case_opencl[]; /* empty where OpenCL was not built */
extern const struct bench_case case_kernel[]; /* likewise */
extern const struct bench_case case_wait[];   /* likewise */
extern const struct bench_case case_touch[];
extern const struct bench_case case_range[];
extern const struct bench_case case_books[];
extern const struct bench_case case_scale[];
extern const struct bench_case case_use[];
extern const struct bench_case case_shim[]; /* empty where the shim was not built */
extern const struct bench_case case_apps[]; /* likewise */

/* One pair of runs. */
struct bench_pair {
	struct series ours;
	struct series theirs; /* empty without a competitor */
	double ratio;	      /* or libumm's own figure for BENCH_LIMIT */
	double foreign_pct;   /* the busier run's */
	bool disturbed;
	bool used; /* counted in the result */
};

enum bench_outcome {
	BENCH_DONE,
	BENCH_SKIPPED,
	BENCH_FAILED,
};

/* A case's results. */
struct bench_result {
	const struct bench_case *bcase;
	enum bench_outcome outcome;
	char note[200];
	struct bench_pair *pairs;
	unsigned npairs;
	unsigned nused;
	bool noisy;	      /* too few pairs were undisturbed: all of them were used */
	struct series ours;   /* of the pairs that were used */
	struct series theirs; /* likewise */
	struct series ratio;  /* one value a pair */
};

void bench_run_case(struct bench_env *env, const struct bench_case *bcase,
		    struct bench_result *result);
void bench_result_fini(struct bench_result *result);

/* "reached", "missed", or "" where there is no goal or no result. */
const char *bench_verdict(const struct bench_result *result);

/* env->note = the sentence, for the row. Returns err: a setup can say `return bench_note(...)`. */
int bench_note(struct bench_env *env, int err, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));

#endif
