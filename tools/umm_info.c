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
	numa_judge(info->nodes, info->nnodes, info->numa_advice, sizeof(info->numa_advice));
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
	       "pages and limits, memory nodes and OpenCL devices with what the backends can do\n"
	       "with each. What is missing is named together with the way to get it.\n"
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
