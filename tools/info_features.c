/* SPDX-License-Identifier: MIT */
/*
 * The kernel features that libumm uses, what it does with and without each, and
 * what would help where one is missing. Constant tables; no state, no locks.
 */
#include <stdio.h>

#include "info.h"

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
