/* SPDX-License-Identifier: MIT */
/*
 * OpenCL devices as memory for the shim: opencl[:NAME], NAME being part of the name of the
 * device or of its platform, in any case. No state, no locks.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include <umm_opencl.h>

#include "umm_tier.h"

struct wanted {
	const char *name;
	cl_device_id device; /* NULL: not found yet */
	uint64_t max_bytes;
	char reason[256];
};

static int consider(void *priv, const struct umm_opencl_info *info)
{
	struct wanted *wanted = priv;

	if (!info->device)
		return 0;
	if (!strcasestr(info->device_name, wanted->name) &&
	    !strcasestr(info->platform_name, wanted->name))
		return 0;
	if (info->usable) {
		snprintf(wanted->reason, sizeof(wanted->reason), "%s: %.150s", info->device_name,
			 info->reason);
		return 0;
	}
	wanted->device = info->device;
	wanted->max_bytes = info->max_device_bytes;
	return 1;
}

static int find(struct wanted *wanted, struct umm_tier_reason *reason)
{
	int ret = umm_opencl_list(consider, wanted);

	if (wanted->device)
		return 0;
	if (ret == -ENODEV)
		snprintf(reason->text, reason->len, "%s", umm_opencl_advice());
	else if (wanted->reason[0])
		snprintf(reason->text, reason->len, "%s", wanted->reason);
	else
		snprintf(reason->text, reason->len, "no OpenCL device has \"%s\" in its name",
			 wanted->name);
	return -ENODEV;
}

static int check(const char *name, uint64_t bytes, struct umm_tier_reason *reason)
{
	struct wanted wanted = { .name = name };
	int ret = find(&wanted, reason);

	if (ret || bytes <= wanted.max_bytes)
		return ret;
	snprintf(reason->text, reason->len, "%llu MiB are more than its %llu MiB",
		 (unsigned long long)(bytes >> 20), (unsigned long long)(wanted.max_bytes >> 20));
	return -EINVAL;
}

static int open(struct umm_ctx *ctx, const char *name, uint64_t bytes, struct umm_devmem **out,
		struct umm_tier_reason *reason)
{
	struct umm_opencl_options options = { .size = sizeof(options), .device_bytes = bytes };
	struct wanted wanted = { .name = name };
	struct umm_opencl *ocl;
	int ret = find(&wanted, reason);

	if (ret)
		return ret;
	options.device = wanted.device;
	ret = umm_opencl_create(ctx, &options, &ocl);
	if (ret)
		snprintf(reason->text, reason->len, "%s", umm_strerror(ret));
	else
		*out = umm_opencl_devmem(ocl);
	return ret;
}

const struct umm_tier_ops umm_tier_ops = {
	.size = sizeof(umm_tier_ops),
	.api = UMM_TIER_API,
	.flags = UMM_TIER_LONG_CHECK,
	.check = check,
	.open = open,
};
