/* SPDX-License-Identifier: MIT */
/*
 * umm info: what libumm can use on this machine, and what is missing.
 *
 * Everything is read once into a struct info; info_text.c and info_json.c print it.
 * Nothing is changed on the machine, and nothing here fails because something is
 * absent: absence is the answer. One thread, no locks.
 */
#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "info.h"
#include "tool.h"

/* The core starts one fault server per CPU, and no more than this. */
enum { FAULT_SERVERS_MAX = 8 };

const struct info_feature info_features[] = {
	{
		.bit = UMM_KERNEL_UFFD_WP,
		.key = "write_protect",
		.label = "write-protect faults",
		.major = 5,
		.minor = 7,
		.needs_uffd = true,
		.best = "stores wait while a page is copied",
	},
	{
		.bit = UMM_KERNEL_UFFD_EVENTS,
		.key = "events",
		.label = "address-space events",
		.major = 4,
		.minor = 11,
		.needs_uffd = true,
		.best = "munmap, mremap and madvise are followed",
	},
	{
		.bit = UMM_KERNEL_SYSCALL_FAULTS,
		.key = "syscall_faults",
		.label = "system-call faults",
		.needs_uffd = true,
		.best = "system calls may touch pages that live on a device",
		.fallback = "system calls that touch a page on a device fail with EFAULT",
	},
	{
		.bit = UMM_KERNEL_MOVE,
		.key = "move",
		.label = "UFFDIO_MOVE",
		.major = 6,
		.minor = 8,
		.needs_uffd = true,
		.best = "host frames are moved, not copied",
		.fallback = "pages are write-protected, copied and dropped",
	},
	{
		.bit = UMM_KERNEL_POISON,
		.key = "poison",
		.label = "UFFDIO_POISON",
		.major = 6,
		.minor = 6,
		.needs_uffd = true,
		.best = "a page lost with its device is poisoned in place",
		.fallback = "a page lost with its device becomes a mapping that raises SIGBUS",
	},
	{
		.bit = UMM_KERNEL_PAGEMAP_SCAN,
		.key = "pagemap_scan",
		.label = "PAGEMAP_SCAN",
		.major = 6,
		.minor = 7,
		.best = "one ioctl finds the pages that are in use",
		.fallback = "/proc/self/pagemap is read to find the pages in use",
	},
	{
		.bit = UMM_KERNEL_PROCMAP_QUERY,
		.key = "procmap_query",
		.label = "PROCMAP_QUERY",
		.major = 6,
		.minor = 11,
		.best = "one ioctl finds a mapping",
		.fallback = "/proc/self/maps is parsed to find a mapping",
	},
};

const size_t info_nfeatures = sizeof(info_features) / sizeof(info_features[0]);

enum info_rung info_rung(const struct info *info, const struct info_feature *feature)
{
	if (feature->needs_uffd && info->probe.uffd_access == UMM_UFFD_NONE)
		return INFO_RUNG_UNKNOWN;
	if (info->probe.kernel_features & feature->bit)
		return INFO_RUNG_BEST;
	return feature->fallback ? INFO_RUNG_FALLBACK : INFO_RUNG_MISSING;
}

const char *info_remedy(const struct info *info, const struct info_feature *feature, char *text,
			size_t text_len)
{
	if (feature->bit == UMM_KERNEL_SYSCALL_FAULTS)
		return "access to /dev/userfaultfd, or vm.unprivileged_userfaultfd=1";
	if (info->kernel_major > feature->major ||
	    (info->kernel_major == feature->major && info->kernel_minor >= feature->minor))
		snprintf(
			text, text_len,
			"Linux %u.%u has it; this kernel's configuration or a sandbox withholds it",
			feature->major, feature->minor);
	else
		snprintf(text, text_len, "Linux %u.%u or later", feature->major, feature->minor);
	return text;
}

static void kernel_gather(struct info *info)
{
	static const char device[] = "/dev/userfaultfd";
	struct utsname name;

	if (!uname(&name))
		snprintf(info->machine, sizeof(info->machine), "%s", name.machine);
	if (sscanf(info->probe.kernel_release, "%u.%u", &info->kernel_major, &info->kernel_minor) !=
	    2)
		info->kernel_major = info->kernel_minor = 0;
	info->has_device = !access(device, F_OK);
	info->may_open_device = !access(device, R_OK | W_OK);
	info->has_unprivileged =
		system_read_number("/proc/sys/vm/unprivileged_userfaultfd", &info->unprivileged);
	info->has_max_map_count =
		system_read_number("/proc/sys/vm/max_map_count", &info->max_map_count);
	info->has_overcommit =
		system_read_number("/proc/sys/vm/overcommit_memory", &info->overcommit);
}

static void machine_gather(struct info *info)
{
	unsigned cpus = system_cpus();

	info->fault_servers = cpus < FAULT_SERVERS_MAX ? cpus : FAULT_SERVERS_MAX;
	system_read_choice("/sys/kernel/mm/transparent_hugepage/enabled", info->thp_enabled,
			   sizeof(info->thp_enabled));
	system_read_choice("/sys/kernel/mm/transparent_hugepage/defrag", info->thp_defrag,
			   sizeof(info->thp_defrag));
	system_read_number("/sys/kernel/mm/transparent_hugepage/hpage_pmd_size", &info->thp_bytes);
	info->has_memory = system_memory(&info->memory);
	info->nnodes = numa_read("/sys/devices/system/node", info->nodes);
}

static int info_gather(struct info *info)
{
	int ret;

	info->probe.size = sizeof(info->probe);
	ret = umm_probe(&info->probe);
	if (ret) {
		fprintf(stderr,
			"umm info: umm_probe: %s; do the command and libumm %s belong "
			"together?\n",
			umm_strerror(ret), umm_version());
		return ret;
	}
	kernel_gather(info);
	machine_gather(info);
	return opencl_read(&info->opencl);
}

static void help_print(void)
{
	printf("usage: umm info [--json]\n"
	       "\n"
	       "Says what libumm can use on this machine: how userfaultfd can be opened, which\n"
	       "kernel features are in use and what stands in for those that are missing, huge\n"
	       "pages and limits, memory nodes, and OpenCL devices with what the backend can do\n"
	       "on each. What is missing is named together with the way to get it.\n"
	       "\n"
	       "  -j, --json   print one JSON object instead of text\n"
	       "  -h, --help   print this text\n"
	       "\n"
	       "The exit status is 0 also where libumm cannot work; --json has the details for\n"
	       "scripts. umm-info(1) explains every line.\n");
}

static int info_run(bool as_json)
{
	struct info *info = calloc(1, sizeof(*info));
	int ret = info ? info_gather(info) : -ENOMEM;

	if (!ret && as_json)
		ret = info_print_json(info);
	else if (!ret)
		info_print_text(info);
	if (ret == -ENOMEM)
		fprintf(stderr, "umm info: out of memory\n");
	if (info)
		opencl_free(&info->opencl);
	free(info);
	return ret ? TOOL_FAILED : tool_finish_output("info");
}

int info_main(int argc, char **argv)
{
	static const struct option options[] = {
		{ "json", no_argument, NULL, 'j' },
		{ "help", no_argument, NULL, 'h' },
		{ NULL, 0, NULL, 0 },
	};
	bool as_json = false;
	int option;

	opterr = 0; /* it would call the command "info" */
	while ((option = getopt_long(argc, argv, "jh", options, NULL)) != -1) {
		switch (option) {
		case 'j':
			as_json = true;
			break;
		case 'h':
			help_print();
			return tool_finish_output("info");
		default:
			return tool_usage_error("info", argv[optind - 1]);
		}
	}
	if (optind < argc)
		return tool_usage_error("info", argv[optind]);
	return info_run(as_json);
}
