/* SPDX-License-Identifier: MIT */
/*
 * "umm info" for people: what works in one place, and beside what does not the
 * way to get it. Nothing is wider than 80 columns but single words of vendors.
 * No state, no locks.
 */
#include <string.h>

#include "info.h"
#include "text.h"

static const char *access_text(enum umm_uffd_access access)
{
	switch (access) {
	case UMM_UFFD_DEVICE:
		return "through /dev/userfaultfd";
	case UMM_UFFD_SYSCALL:
		return "by the system call";
	case UMM_UFFD_USER_MODE_ONLY:
		return "for faults in user mode only";
	case UMM_UFFD_NONE:
		break;
	}
	return "cannot be opened";
}

static void uffd_print(FILE *out, const struct info *info)
{
	const struct umm_probe_info *probe = &info->probe;

	text_heading(out, "Userfaultfd");
	text_item(out, "opened", "%s%s%s", access_text(probe->uffd_access),
		  probe->uffd_error ? ": " : "",
		  probe->uffd_error ? strerror(-probe->uffd_error) : "");
	text_item(out, "/dev/userfaultfd", "%s",
		  info->may_open_device ? "readable and writable" :
		  info->has_device	? "no permission" :
					  "absent");
	if (info->has_unprivileged)
		text_item(out, "sysctl", "vm.unprivileged_userfaultfd = %u",
			  (unsigned)info->unprivileged);
	if (probe->advice[0])
		text_item(out, "to do", "%s", probe->advice);
}

/* One line, with the state in a column of its own. */
static void feature_item(FILE *out, const char *name, const char *state, const char *text)
{
	char label[64];

	snprintf(label, sizeof(label), "%-*s %-3s", TEXT_LABEL - 3, name, state);
	text_item(out, label, "%s", text);
}

static void feature_print(FILE *out, const struct info *info, const struct info_feature *feature)
{
	char remedy[128], better[160];

	switch (info_rung(info, feature)) {
	case INFO_RUNG_BEST:
		feature_item(out, feature->label, "yes", feature->best);
		return;
	case INFO_RUNG_UNKNOWN:
		feature_item(out, feature->label, "?", "unknown until userfaultfd can be opened");
		return;
	case INFO_RUNG_FALLBACK:
		feature_item(out, feature->label, "no", feature->fallback);
		break;
	case INFO_RUNG_MISSING:
		feature_item(out, feature->label, "NO", "required: libumm does not work without");
		break;
	}
	snprintf(better, sizeof(better), "better: %s",
		 info_remedy(info, feature, remedy, sizeof(remedy)));
	feature_item(out, "", "", better);
}

static void features_print(FILE *out, const struct info *info)
{
	text_heading(out, "Kernel features, and what libumm does with or without them");
	for (size_t i = 0; i < info_nfeatures; i++)
		feature_print(out, info, &info_features[i]);
}

static void servers_print(FILE *out, const struct info *info)
{
	text_heading(out, "Fault servers");
	text_item(out, "threads", "%u: one for each CPU that this process may use, at most 8",
		  info->fault_servers);
	if (info->probe.may_raise_priority)
		text_item(out, "priority", "nice -20: faults are served at once on busy CPUs too");
	else
		text_item(out, "priority",
			  "normal: faults wait on busy CPUs. Grant CAP_SYS_NICE, or allow nice -20 "
			  "('ulimit -e 40', LimitNICE=-20)");
}

static void huge_pages_print(FILE *out, const struct info *info)
{
	char size[TEXT_SIZE];

	if (!info->thp_enabled[0]) {
		text_item(out, "huge pages", "none: this kernel has no transparent huge pages");
		return;
	}
	text_size(info->thp_bytes, size);
	if (!strcmp(info->thp_enabled, "never"))
		text_item(
			out, "huge pages",
			"never: memory moves in small pages, slower. "
			"'echo madvise > /sys/kernel/mm/transparent_hugepage/enabled' allows them");
	else
		text_item(out, "huge pages", "%s, of %s (defrag: %s)", info->thp_enabled, size,
			  info->thp_defrag);
}

static void limits_print(FILE *out, const struct info *info)
{
	char size[TEXT_SIZE];

	if (info->has_max_map_count) {
		text_size(info->max_map_count * UMM_BLOCK_SIZE, size);
		text_item(out, "vm.max_map_count",
			  "%llu: enough for %s even where every other "
			  "block lives on a device",
			  (unsigned long long)info->max_map_count, size);
	}
	if (info->has_overcommit && info->overcommit == 2)
		text_item(
			out, "vm.overcommit_memory",
			"2: large reservations fail; 'sysctl vm.overcommit_memory=0' allows them");
}

static void memory_print(FILE *out, const struct info *info)
{
	char total[TEXT_SIZE], available[TEXT_SIZE];

	text_heading(out, "Memory");
	if (info->has_memory) {
		text_size(info->memory.total_bytes, total);
		text_size(info->memory.available_bytes, available);
		text_item(out, "host", "%s, %s available", total, available);
		text_size(info->memory.swap_total_bytes, total);
		text_size(info->memory.swap_free_bytes, available);
		if (info->memory.swap_total_bytes)
			text_item(out, "swap", "%s, %s free", total, available);
		else
			text_item(out, "swap", "none");
	} else {
		text_item(out, "host", "unknown: /proc/meminfo cannot be read");
	}
	huge_pages_print(out, info);
	limits_print(out, info);
}

static void node_print(FILE *out, const struct numa_node *node)
{
	char label[32], total[TEXT_SIZE], unused[TEXT_SIZE], distances[5 * NUMA_NODES + 1] = "";
	size_t len = 0;

	for (unsigned i = 0; i < node->ndistances && len + 5 < sizeof(distances); i++)
		len += (size_t)snprintf(distances + len, sizeof(distances) - len, " %u",
					node->distances[i]);
	snprintf(label, sizeof(label), "node %u", node->id);
	text_size(node->total_bytes, total);
	text_size(node->free_bytes, unused);
	text_item(out, label, "%s, %s free; %s%s; distances%s", total, unused,
		  node->memory_only ? "memory only, no CPUs" :
		  node->cpus[0]	    ? "CPUs " :
				      "no CPUs",
		  node->cpus, distances);
}

/* What the backend can do with it. */
static void node_device_print(FILE *out, const struct numa_node *node)
{
	char figures[80] = "";

	if (!node->judged)
		return;
	if (node->usable) {
		text_item(out, "  as a device", "no: %s", node->reason);
		return;
	}
	if (node->bandwidth)
		snprintf(figures, sizeof(figures), "; reads %llu MB/s in %llu ns",
			 (unsigned long long)node->bandwidth, (unsigned long long)node->latency);
	text_item(out, "  as a device",
		  "yes, coherent or private; rank %u%s; teams and copies on "
		  "CPUs %s",
		  node->rank, figures, node->near);
}

static void nodes_print(FILE *out, const struct info *info)
{
	text_heading(out, "NUMA nodes");
	if (info->nnodes < 0)
		text_item(out, "none", "the kernel has no NUMA support, or /sys is hidden");
	for (int i = 0; i < info->nnodes; i++) {
		node_print(out, &info->nodes[i]);
		node_device_print(out, &info->nodes[i]);
	}
	if (info->numa_advice[0])
		text_item(out, "to do", "%s", info->numa_advice);
}

/* The capabilities that are SVM, or that are not, as one list. */
static void capabilities_text(const struct opencl_item *item, bool svm, char *text, size_t text_len)
{
	size_t len = 0;

	text[0] = '\0';
	for (unsigned i = 0; i < OPENCL_NR_CAPABILITIES; i++) {
		if (!(item->capabilities & 1u << i) || opencl_capabilities[i].is_svm != svm)
			continue;
		len += (size_t)snprintf(text + len, text_len - len, "%s%s", len ? ", " : "",
					opencl_capabilities[i].label);
	}
	if (!len)
		snprintf(text, text_len, svm ? "none, and none is needed" : "none");
}

static void device_print(FILE *out, const struct opencl_item *item)
{
	char list[256], total[TEXT_SIZE], most[TEXT_SIZE];

	text_item(out, "device", "%s (%s, %s)", item->device_name, item->type,
		  item->device_version);
	if (item->usable) {
		text_item(out, "  usable", "no: %s",
			  item->reason[0] ? item->reason : umm_strerror(item->usable));
	} else {
		capabilities_text(item, false, list, sizeof(list));
		text_item(out, "  usable", "yes: %s", list);
		text_size(item->default_device_bytes, total);
		text_size(item->max_device_bytes, most);
		text_item(out, "  for pages", "%s by default, at most %s", total, most);
	}
	capabilities_text(item, true, list, sizeof(list));
	text_item(out, "  SVM", "%s", list);
	text_size(item->global_bytes, total);
	text_size(item->max_alloc_bytes, most);
	text_item(out, "  memory", "%s, largest buffer %s", total, most);
}

static void opencl_print(FILE *out, const struct info *info)
{
	const struct opencl_report *report = &info->opencl;

	text_heading(out, "OpenCL");
	text_item(out, "backend", "%s", report->has_backend ? "found" : "absent");
	if (report->advice[0])
		text_item(out, "to do", "%s", report->advice);
	for (size_t i = 0; i < report->nitems; i++) {
		const struct opencl_item *item = &report->items[i];

		if (!i || strcmp(item->platform_name, item[-1].platform_name) != 0)
			/* What follows a comma is how it was built. */
			text_item(out, "platform", "%s (%.*s)", item->platform_name,
				  (int)strcspn(item->platform_version, ","),
				  item->platform_version);
		if (item->device_name[0])
			device_print(out, item);
		else
			text_item(out, "  device", "none");
	}
}

void info_print_text(const struct info *info)
{
	FILE *out = stdout;

	fprintf(out, "libumm %s on Linux %s, %s\n", umm_version(), info->probe.kernel_release,
		info->machine);
	uffd_print(out, info);
	features_print(out, info);
	servers_print(out, info);
	memory_print(out, info);
	nodes_print(out, info);
	opencl_print(out, info);
}
