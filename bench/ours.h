/* SPDX-License-Identifier: MIT */
/*
 * libumm's side, as the cases share it. Functions return 0, BENCH_SKIP or a negative
 * errno, and have explained themselves in env->note when it is not 0.
 */
#ifndef OURS_H
#define OURS_H

#include "bench.h"
#include "ref_device.h"
#include "umm.h"

/* A context with the defaults; skips where the process may not use userfaultfd. */
int ours_ctx(struct bench_env *env, struct umm_ctx **out);
int ours_ctx_with(struct bench_env *env, const struct umm_ctx_options *options,
		  struct umm_ctx **out);

/* A reference device with so many bytes of private memory. */
int ours_device(struct bench_env *env, struct umm_ctx *ctx, size_t len, bool inline_copy,
		struct ref_device **out);

/* Memory of umm_alloc() in which the first word of every page says its offset. */
int ours_memory(struct bench_env *env, struct umm_ctx *ctx, size_t len, char **out);

/* One span, to a device and home again; pushes GiB/s of one direction and checks the data. */
struct ours_trip {
	struct umm_ctx *ctx;
	struct umm_devmem *mem;
	char *memory;
	size_t len;
	bool back; /* time the way home */
};
int ours_trip(struct bench_env *env, const struct ours_trip *trip, struct series *out);

/* Enough memory to move len bytes about, on either side? Warms it if so. */
int ours_warm_bulk(struct bench_env *env, size_t len);

double ours_gib_per_s(size_t len, uint64_t ns);

#endif
