/* SPDX-License-Identifier: MIT */
/*
 * Counters as people and programs read them. Counting itself is inline in stats.h:
 * relaxed atomic additions, no lock; a reader may see related counters a
 * moment apart.
 */
#include "stats.h"

#include <errno.h>
#include <inttypes.h>

#include "ctx.h"
#include "device.h"
#include "region.h"
#include "util.h"

#define CAUSES(prefix, base)                                                 \
	[(base) + UMM_CAUSE_EXPLICIT] = prefix "explicit",                   \
		  [(base) + UMM_CAUSE_CPU_FAULT] = prefix "cpu_fault",       \
		  [(base) + UMM_CAUSE_DEVICE_FAULT] = prefix "device_fault", \
		  [(base) + UMM_CAUSE_EVICT] = prefix "evict",               \
		  [(base) + UMM_CAUSE_FORK] = prefix "fork",                 \
		  [(base) + UMM_CAUSE_REMOVE] = prefix "remove",             \
		  [(base) + UMM_CAUSE_READAHEAD] = prefix "readahead"

static const char *const counter_names[UMM_NR_COUNTERS] = {
	[UMM_COUNT_FAULT_EMPTY] = "fault_empty",
	[UMM_COUNT_FAULT_DEVICE] = "fault_device",
	[UMM_COUNT_FAULT_WRITE] = "fault_write",
	[UMM_COUNT_FAULT_WAIT] = "fault_wait",
	[UMM_COUNT_FAULT_SPURIOUS] = "fault_spurious",
	[UMM_COUNT_FAULT_ERROR] = "fault_error",
	[UMM_COUNT_FAULT_NS] = "fault_ns",
	CAUSES("to_device_", UMM_COUNT_TO_DEVICE),
	CAUSES("to_system_", UMM_COUNT_TO_SYSTEM),
	[UMM_COUNT_DUPLICATED] = "duplicated",
	[UMM_COUNT_BYTES_TO_DEVICE] = "bytes_to_device",
	[UMM_COUNT_BYTES_FROM_DEVICE] = "bytes_from_device",
	[UMM_COUNT_COPIES] = "copies",
	[UMM_COUNT_CLEARED] = "cleared",
	[UMM_COUNT_COPY_NS] = "copy_ns",
	[UMM_COUNT_EVICTIONS] = "evictions",
	[UMM_COUNT_BUSY] = "busy",
	[UMM_COUNT_RETRIES] = "retries",
	[UMM_COUNT_POISONED] = "poisoned",
	[UMM_COUNT_INVALIDATIONS] = "invalidations",
	[UMM_COUNT_DEFERRED] = "deferred",
	[UMM_COUNT_EVENTS] = "events",
	[UMM_COUNT_FRAMES_RECYCLED] = "frames_recycled",
	[UMM_COUNT_FRAMES_FRESH] = "frames_fresh",
	CAUSES("bytes_out_", UMM_COUNT_BYTES_OUT),
	CAUSES("bytes_in_", UMM_COUNT_BYTES_IN),
	[UMM_COUNT_THRASH_WAITS] = "thrash_waits",
	[UMM_COUNT_THRASH_STAYS] = "thrash_stays",
	[UMM_COUNT_UNHINTED] = "unhinted",
};

void stats_read(const struct stats *stats, struct umm_stats *out)
{
	for (unsigned i = 0; i < UMM_NR_COUNTERS; i++)
		out->counter[i] = atomic_load_explicit(&stats->counter[i], memory_order_relaxed);
	/* Only counted by cause. */
	for (unsigned cause = 0; cause < UMM_NR_CAUSES; cause++) {
		out->counter[UMM_COUNT_BYTES_TO_DEVICE] +=
			out->counter[UMM_COUNT_BYTES_OUT + cause];
		out->counter[UMM_COUNT_BYTES_FROM_DEVICE] +=
			out->counter[UMM_COUNT_BYTES_IN + cause];
	}
}

const char *umm_counter_name(unsigned counter)
{
	return counter < UMM_NR_COUNTERS ? counter_names[counter] : NULL;
}

int umm_ctx_stats(struct umm_ctx *ctx, struct umm_stats *out)
{
	struct umm_stats stats = { .size = sizeof(stats) };

	if (!ctx_valid(ctx) || !out)
		return -EINVAL;
	stats_read(&ctx->stats, &stats);
	stats.managed_bytes = region_managed_bytes(ctx);
	stats.device_pages = device_pages_of_ctx(ctx);
	stats.bookkeeping_bytes = ctx_bookkeeping_bytes(ctx);
	stats.cached_bytes = staging_cached_bytes(&ctx->staging);
	return struct_out(out, &stats, sizeof(stats));
}

int umm_device_stats(struct umm_device *dev, struct umm_stats *out)
{
	struct umm_stats stats = { .size = sizeof(stats) };

	if (!device_valid(dev) || !out)
		return -EINVAL;
	stats_read(&dev->stats, &stats);
	stats.device_pages = device_pages(dev);
	return struct_out(out, &stats, sizeof(stats));
}

int umm_alloc_stats(struct umm_ctx *ctx, const void *addr, struct umm_stats *out)
{
	struct umm_stats stats = { .size = sizeof(stats) };
	int ret;

	if (!ctx_valid(ctx) || !out)
		return -EINVAL;
	ret = region_stats(ctx, (uintptr_t)addr, &stats);
	if (ret)
		return ret;
	return struct_out(out, &stats, sizeof(stats));
}

static void print_ns(FILE *stream, const char *name, uint64_t ns)
{
	fprintf(stream, "%-24s %12.3f ms\n", name, (double)ns / 1e6);
}

void umm_stats_print(const struct umm_stats *stats, FILE *stream)
{
	if (!stats || !stream)
		return;
	if (stats->managed_bytes)
		fprintf(stream, "%-24s %12" PRIu64 " bytes\n", "managed", stats->managed_bytes);
	fprintf(stream, "%-24s %12" PRIu64 " pages\n", "on devices now", stats->device_pages);
	for (unsigned i = 0; i < UMM_NR_COUNTERS; i++) {
		if (!stats->counter[i])
			continue;
		if (i == UMM_COUNT_FAULT_NS || i == UMM_COUNT_COPY_NS)
			print_ns(stream, counter_names[i], stats->counter[i]);
		else
			fprintf(stream, "%-24s %12" PRIu64 "\n", counter_names[i],
				stats->counter[i]);
	}
}
