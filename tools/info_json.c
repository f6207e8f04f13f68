/* SPDX-License-Identifier: MIT */
/*
 * "umm info --json": one object whose keys never change their meaning; new ones may
 * come. What is unknown is null, sizes are bytes, errors are names such as "EPERM".
 *
 * Every builder returns a new reference, or NULL when memory is out; json_pack()
 * passes a NULL on, so that one check at the end is enough. No locks.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include <jansson.h>

#include "info.h"

/* Vendors' names are not always UTF-8, and json_string() refuses what is not. */
static json_t *string_json(const char *text)
{
	json_t *string = json_string(text);
	char ascii[1024];
	size_t len;

	if (string)
		return string;
	len = strnlen(text, sizeof(ascii) - 1);
	for (size_t i = 0; i < len; i++)
		ascii[i] = (text[i] & 0x80) ? '?' : text[i];
	ascii[len] = '\0';
	return json_string(ascii);
}

static json_t *number_json(bool known, uint64_t number)
{
	return known ? json_integer((json_int_t)number) : json_null();
}

/* 0 becomes null. */
static json_t *error_json(int error)
{
	const char *name = error ? strerrorname_np(error < 0 ? -error : error) : NULL;

	if (!error)
		return json_null();
	return name ? json_string(name) : json_sprintf("%d", error);
}

static json_t *uffd_json(const struct info *info)
{
	static const char *const names[] = {
		[UMM_UFFD_NONE] = "none",
		[UMM_UFFD_USER_MODE_ONLY] = "user-mode-only",
		[UMM_UFFD_SYSCALL] = "syscall",
		[UMM_UFFD_DEVICE] = "device",
	};
	const struct umm_probe_info *probe = &info->probe;

	return json_pack("{s:s, s:o, s:b, s:b, s:o, s:s}", "access", names[probe->uffd_access],
			 "error", error_json(probe->uffd_error), "device_exists",
			 (int)info->has_device, "device_permitted", (int)info->may_open_device,
			 "unprivileged_userfaultfd",
			 number_json(info->has_unprivileged, info->unprivileged), "advice",
			 probe->advice);
}

static json_t *feature_json(const struct info *info, const struct info_feature *feature)
{
	static const char *const states[] = {
		[INFO_RUNG_BEST] = "best",
		[INFO_RUNG_FALLBACK] = "fallback",
		[INFO_RUNG_MISSING] = "missing",
		[INFO_RUNG_UNKNOWN] = "unknown",
	};
	enum info_rung rung = info_rung(info, feature);
	const char *used = rung == INFO_RUNG_BEST     ? feature->best :
			   rung == INFO_RUNG_FALLBACK ? feature->fallback :
							NULL;
	bool is_short = rung == INFO_RUNG_FALLBACK || rung == INFO_RUNG_MISSING;
	char remedy[128], since[16];

	snprintf(since, sizeof(since), "%u.%u", feature->major, feature->minor);
	return json_pack("{s:s, s:b, s:s?, s:s?, s:s?, s:s?}", "state", states[rung], "required",
			 feature->fallback == NULL, "since", feature->major ? since : NULL, "rung",
			 used, "fallback", feature->fallback, "better",
			 is_short ? info_remedy(info, feature, remedy, sizeof(remedy)) : NULL);
}

static json_t *features_json(const struct info *info)
{
	json_t *object = json_object();

	for (size_t i = 0; i < info_nfeatures; i++)
		if (json_object_set_new(object, info_features[i].key,
					feature_json(info, &info_features[i])))
			goto err_object;
	return object;

err_object:
	json_decref(object);
	return NULL;
}

static json_t *memory_json(const struct info *info)
{
	const struct system_memory *memory = &info->memory;
	bool known = info->has_memory;

	return json_pack("{s:o, s:o, s:o, s:o, s:o, s:o, s:o}", "total_bytes",
			 number_json(known, memory->total_bytes), "available_bytes",
			 number_json(known, memory->available_bytes), "swap_total_bytes",
			 number_json(known, memory->swap_total_bytes), "swap_free_bytes",
			 number_json(known, memory->swap_free_bytes), "page_bytes",
			 number_json(true, umm_page_size()), "max_map_count",
			 number_json(info->has_max_map_count, info->max_map_count),
			 "overcommit_memory", number_json(info->has_overcommit, info->overcommit));
}

static json_t *huge_pages_json(const struct info *info)
{
	if (!info->thp_enabled[0])
		return json_null();
	return json_pack("{s:s, s:s, s:o}", "enabled", info->thp_enabled, "defrag",
			 info->thp_defrag, "huge_page_bytes",
			 number_json(info->thp_bytes != 0, info->thp_bytes));
}

/* What the backend can do with the node; null where it was not asked. */
static json_t *node_device_json(const struct numa_node *node)
{
	if (!node->judged)
		return json_null();
	return json_pack("{s:b, s:i, s:o, s:o, s:s, s:s}", "usable", (int)!node->usable, "rank",
			 (int)node->rank, "read_bandwidth_mb_s",
			 number_json(node->bandwidth, node->bandwidth), "read_latency_ns",
			 number_json(node->latency, node->latency), "cpus", node->near, "reason",
			 node->reason);
}

static json_t *node_json(const struct numa_node *node)
{
	json_t *distances = json_array();

	for (unsigned i = 0; i < node->ndistances; i++)
		if (json_array_append_new(distances, json_integer(node->distances[i])))
			goto err_distances;
	return json_pack("{s:i, s:o, s:o, s:s, s:b, s:o, s:o}", "node", (int)node->id,
			 "total_bytes", number_json(true, node->total_bytes), "free_bytes",
			 number_json(true, node->free_bytes), "cpus", node->cpus, "memory_only",
			 (int)node->memory_only, "distances", distances, "device",
			 node_device_json(node));

err_distances:
	json_decref(distances);
	return NULL;
}

static json_t *nodes_json(const struct info *info)
{
	json_t *array;

	if (info->nnodes < 0)
		return json_null();
	array = json_array();
	for (int i = 0; i < info->nnodes; i++)
		if (json_array_append_new(array, node_json(&info->nodes[i])))
			goto err_array;
	return array;

err_array:
	json_decref(array);
	return NULL;
}

static json_t *capabilities_json(uint32_t capabilities)
{
	json_t *object = json_object();

	for (unsigned i = 0; i < OPENCL_NR_CAPABILITIES; i++)
		if (json_object_set_new(object, opencl_capabilities[i].key,
					json_boolean(capabilities & 1u << i)))
			goto err_object;
	return object;

err_object:
	json_decref(object);
	return NULL;
}

static json_t *device_json(const struct opencl_item *item)
{
	json_t *device =
		json_pack("{s:o, s:o, s:s, s:o, s:b, s:o, s:o}", "name",
			  string_json(item->device_name), "version",
			  string_json(item->device_version), "type", item->type, "capabilities",
			  capabilities_json(item->capabilities), "usable", item->usable == 0,
			  "error", error_json(item->usable), "reason", string_json(item->reason));
	json_t *sizes = json_pack("{s:o, s:o, s:o, s:o}", "global_bytes",
				  number_json(true, item->global_bytes), "max_alloc_bytes",
				  number_json(true, item->max_alloc_bytes), "max_device_bytes",
				  number_json(true, item->max_device_bytes), "default_device_bytes",
				  number_json(true, item->default_device_bytes));
	int failed = json_object_update(device, sizes);

	json_decref(sizes);
	if (!failed)
		return device;
	json_decref(device);
	return NULL;
}

/* Items of one platform follow each other; *at ends behind them. */
static json_t *platform_json(const struct opencl_report *report, size_t *at)
{
	const struct opencl_item *first = &report->items[*at];
	json_t *devices = json_array();

	for (; *at < report->nitems; ++*at) {
		const struct opencl_item *item = &report->items[*at];

		if (strcmp(item->platform_name, first->platform_name) != 0)
			break;
		if (item->device_name[0] && json_array_append_new(devices, device_json(item)))
			goto err_devices;
	}
	return json_pack("{s:o, s:o, s:o}", "name", string_json(first->platform_name), "version",
			 string_json(first->platform_version), "devices", devices);

err_devices:
	json_decref(devices);
	return NULL;
}

static json_t *opencl_json(const struct info *info)
{
	json_t *platforms = json_array();
	size_t at = 0;

	while (at < info->opencl.nitems)
		if (json_array_append_new(platforms, platform_json(&info->opencl, &at)))
			goto err_platforms;
	return json_pack("{s:b, s:o, s:o}", "backend", (int)info->opencl.has_backend, "advice",
			 string_json(info->opencl.advice), "platforms", platforms);

err_platforms:
	json_decref(platforms);
	return NULL;
}

int info_print_json(const struct info *info)
{
	json_t *root =
		json_pack("{s:i, s:s, s:{s:s, s:s}, s:o, s:o, s:{s:i, s:b}, s:o, s:o, s:o, s:o}",
			  "format", 1, "version", umm_version(), "kernel", "release",
			  info->probe.kernel_release, "machine", info->machine, "userfaultfd",
			  uffd_json(info), "features", features_json(info), "fault_servers",
			  "threads", (int)info->fault_servers, "high_priority",
			  (int)info->probe.may_raise_priority, "memory", memory_json(info),
			  "transparent_huge_pages", huge_pages_json(info), "numa", nodes_json(info),
			  "opencl", opencl_json(info));

	if (!root)
		return -ENOMEM;
	json_dumpf(root, stdout, JSON_INDENT(2) | JSON_PRESERVE_ORDER);
	putchar('\n');
	json_decref(root);
	return 0;
}
