/* SPDX-License-Identifier: MIT */
/*
 * libumm's side, as a program would use it that knows the public header only. Every figure
 * is worth nothing if the data is wrong, so whatever moves is stamped and checked.
 */
#include "ours.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>

int ours_ctx(struct bench_env *env, struct umm_ctx **out)
{
	return ours_ctx_with(env, NULL, out);
}

int ours_ctx_with(struct bench_env *env, const struct umm_ctx_options *options,
		  struct umm_ctx **out)
{
	struct umm_probe_info info = { .size = sizeof(info) };
	int ret = umm_ctx_create(options, out);

	if (ret != -EPERM && ret != -EOPNOTSUPP)
		return ret ? bench_note(env, ret, "umm_ctx_create") : 0;
	umm_probe(&info);
	return bench_note(env, BENCH_SKIP, "no userfaultfd here: %.150s", info.advice);
}

int ours_device(struct bench_env *env, struct umm_ctx *ctx, size_t len, bool inline_copy,
		struct ref_device **out)
{
	struct ref_options options = { .type = UMM_DEVMEM_PRIVATE,
				       .nframes = (uint32_t)(len / UMM_PAGE_SIZE),
				       .inline_copy = inline_copy,
				       .keep_freed = true };
	int ret = ref_create(ctx, &options, out);

	return ret ? bench_note(env, ret, "the reference device") : 0;
}

int ours_memory(struct bench_env *env, struct umm_ctx *ctx, size_t len, char **out)
{
	void *memory;
	size_t at;
	int ret = umm_alloc(ctx, len, 0, &memory);

	if (ret)
		return bench_note(env, ret, "umm_alloc of %zu bytes", len);
	*out = memory;
	for (at = 0; at < len; at += UMM_PAGE_SIZE)
		memcpy(*out + at, &at, sizeof(at));
	return 0;
}

static int check(struct bench_env *env, const char *memory, size_t len)
{
	size_t at, word, wrong = 0;

	for (at = 0; at < len; at += UMM_PAGE_SIZE) {
		memcpy(&word, memory + at, sizeof(word));
		wrong += word != at;
	}
	return wrong ? bench_note(env, -EIO, "%zu pages came back with wrong data", wrong) : 0;
}

int ours_trip(struct bench_env *env, const struct ours_trip *trip, struct series *out)
{
	long npages = (long)(trip->len / UMM_PAGE_SIZE);
	uint64_t begin, between, end;
	long moved, came;

	begin = machine_now();
	moved = umm_migrate_to_device(trip->ctx, trip->mem, trip->memory, trip->len);
	between = machine_now();
	came = umm_migrate_to_system(trip->ctx, trip->memory, trip->len);
	end = machine_now();
	if (moved != npages || came != npages)
		return bench_note(env,
				  moved < 0 ? (int)moved :
				  came < 0  ? (int)came :
					      -EIO,
				  "of %ld pages %ld went out and %ld came back", npages, moved,
				  came);
	series_push(out, ours_gib_per_s(trip->len, trip->back ? end - between : between - begin));
	return check(env, trip->memory, trip->len);
}

int ours_warm_bulk(struct bench_env *env, size_t len)
{
	/* The program's memory, the device's, the frames between them; the competitor's two. */
	size_t needed = 6 * len;

	if (needed / BENCH_MIB > env->machine->available_mib)
		return bench_note(env, BENCH_SKIP,
				  "needs %zu MiB of memory, %lu are available: try --size",
				  needed / BENCH_MIB, env->machine->available_mib);
	machine_warm(needed, MADV_HUGEPAGE);
	return 0;
}

double ours_gib_per_s(size_t len, uint64_t ns)
{
	return (double)len / (1024.0 * 1024 * 1024) / ((double)ns / 1e9);
}
