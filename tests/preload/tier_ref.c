/* SPDX-License-Identifier: MIT */
/*
 * The reference device as a kind of memory for the shim: ref[:OPTION...]=BYTES. Options, separated
 * by '+': "worker" copies on a thread of its own, "dies" fails every copy home from the 100th
 * on, "refuses" cannot be opened, "slow" takes its time to open.
 */
#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "ref_device.h"
#include "umm_tier.h"

enum { DEFAULT_FRAMES = 65536, COPIES_BEFORE_DEATH = 100, SLOW_SECONDS = 2 };

static struct ref_device *device;

static int check(const char *name, uint64_t bytes, struct umm_tier_reason *reason)
{
	(void)bytes;
	if (!strstr(name, "refuses"))
		return 0;
	snprintf(reason->text, reason->len, "it was told to refuse");
	return -ENODEV;
}

static void die(void *priv, const struct umm_notifier_range *range)
{
	static unsigned heard;
	struct ref_failure failure = { .error = -EIO, .from_device = true };

	(void)priv;
	if (range->event == UMM_EVENT_MIGRATE && !range->owner &&
	    __atomic_add_fetch(&heard, 1, __ATOMIC_RELAXED) == COPIES_BEFORE_DEATH)
		ref_fail(device, &failure);
}

static int open(struct umm_ctx *ctx, const char *name, uint64_t bytes, struct umm_devmem **out,
		struct umm_tier_reason *reason)
{
	struct ref_options options = {
		.type = UMM_DEVMEM_PRIVATE,
		.nframes = bytes ? (uint32_t)(bytes / UMM_PAGE_SIZE) : DEFAULT_FRAMES,
		.inline_copy = !strstr(name, "worker"),
		.keep_freed = true,
	};
	int ret = check(name, bytes, reason);

	if (strstr(name, "slow"))
		sleep(SLOW_SECONDS);
	if (!ret)
		ret = ref_create(ctx, &options, &device);
	if (ret)
		return ret;
	if (strstr(name, "dies"))
		ref_watch(device, die, NULL);
	*out = device->mem;
	return 0;
}

const struct umm_tier_ops umm_tier_ops = {
	.size = sizeof(umm_tier_ops),
	.api = UMM_TIER_API,
	.flags = UMM_TIER_FORKS,
	.check = check,
	.open = open,
};
