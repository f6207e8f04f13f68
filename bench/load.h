/* SPDX-License-Identifier: MIT */
/* Running the program of shim_load.c, or any other, in various company. */
#ifndef LOAD_H
#define LOAD_H

#include <stdbool.h>
#include <stddef.h>

#include "bench.h"

struct load {
	const char *program;  /* found by PATH; NULL: that of shim_load.c */
	const char *argv[5];  /* of the program, behind its name; ends with NULL */
	const char *dir;      /* where it runs; NULL: here */
	const char *preload;  /* a library; NULL: none */
	const char *device;   /* for the shim: a device of this name, or NULL */
	size_t limit_mib;     /* with a device: the host limit */
	const char *sampling; /* with a device: what the shim goes by; NULL: its default */
	bool leaves;	      /* with a device: an error if nothing left the host */
	const char *cgroup;   /* directory of a memory cgroup to run in; NULL: none */
};

struct load_result {
	double figure;	 /* what shim_load.c prints; of another program the time from outside, ms */
	double most_kib; /* of host memory; of another program, its children's most included */
	double probes_ms; /* CPU time that the shim's probes took */
};

/* 0 or an error for env->note. */
int load_run(struct bench_env *env, const struct load *load, struct load_result *out);

/*
 * Make a memory cgroup that holds @mib and may swap without end. BENCH_SKIP where that cannot be:
 * env->note says why.
 */
int load_cgroup_make(struct bench_env *env, size_t mib, char *path, size_t path_len);
void load_cgroup_remove(const char *path);

#endif
