/* SPDX-License-Identifier: MIT */
/*
 * Find out what kernel and permissions offer, by trying: a feature counts when it
 * works here, whatever the kernel's version says. Nothing that is opened stays open
 * but the cached /proc descriptors, and the caller's priority ends as it began.
 *
 * Locks: none.
 */
#include "probe.h"

#include <errno.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "maps.h"
#include "pagemap.h"
#include "signals.h"
#include "uffd.h"
#include "util.h"

/* May this thread, and so one that it starts, run at nice -20? */
static bool may_raise_priority(void)
{
	int before;

	/*
	 * Capabilities alone do not tell (they may be those of a user namespace), so
	 * try. On Linux this is the calling thread only; back up is always allowed.
	 */
	errno = 0;
	before = getpriority(PRIO_PROCESS, 0);
	if (before == -1 && errno)
		return false;
	if (before == -20)
		return true;
	if (setpriority(PRIO_PROCESS, 0, -20))
		return false;
	return !setpriority(PRIO_PROCESS, 0, before);
}

static bool is_filtered(void)
{
	return prctl(PR_GET_SECCOMP, 0, 0, 0, 0) > 0;
}

static const char *advice_for_none(int error)
{
	if (error == -ENOMEM)
		return "Opening a userfaultfd failed for lack of descriptors or memory: "
		       "raise 'ulimit -n' or close files.";
	if (is_filtered())
		return "userfaultfd is refused and this process is under a seccomp filter: allow "
		       "the system calls 'userfaultfd' and 'ioctl' in the container's seccomp "
		       "profile, or pass /dev/userfaultfd into the container.";
	if (error == -EOPNOTSUPP)
		return "This kernel lacks userfaultfd with write protection and events: run Linux "
		       "5.7 or newer on x86-64, built with CONFIG_USERFAULTFD=y.";
	return "userfaultfd is refused: get read and write permission on /dev/userfaultfd, or set "
	       "'sysctl vm.unprivileged_userfaultfd=1', or grant CAP_SYS_PTRACE.";
}

static const char *advice_for_slower(uint64_t lacks)
{
	if (lacks & UMM_KERNEL_PAGEMAP_SCAN && pagemap_open() == -EACCES)
		return "Memory that was never touched counts as touched, because this process may "
		       "not read its own /proc/self/pagemap: create the first context before "
		       "setresuid(), or call prctl(PR_SET_DUMPABLE, 1) after it.";
	return "Some slower fallbacks are in use: run Linux 6.11 or newer, with /proc mounted.";
}

void probe_advise(struct umm_probe_info *info)
{
	uint64_t lacks = ~info->kernel_features;
	const char *advice = "";

	if (info->uffd_access == UMM_UFFD_NONE)
		advice = advice_for_none(info->uffd_error);
	else if (info->uffd_access == UMM_UFFD_USER_MODE_ONLY)
		advice = "System calls that touch device pages will fail with EFAULT: get read and "
			 "write permission on /dev/userfaultfd, or set "
			 "'sysctl vm.unprivileged_userfaultfd=1', or grant CAP_SYS_PTRACE.";
	else if (lacks & UMM_KERNEL_MOVE)
		advice = "Pages are copied where they could be moved: run Linux 6.8 or newer.";
	else if (!info->may_raise_priority)
		advice = "Fault servers will wait for the CPU when it is busy: grant CAP_SYS_NICE "
			 "or raise the nice limit ('ulimit -e 40', RLIMIT_NICE).";
	else if (lacks & (UMM_KERNEL_POISON | UMM_KERNEL_PAGEMAP_SCAN | UMM_KERNEL_PROCMAP_QUERY))
		advice = advice_for_slower(lacks);
	snprintf(info->advice, sizeof(info->advice), "%s", advice);
}

static void probe_uffd(struct umm_probe_info *info)
{
	int cancel = cancel_hold(), uffd;

	info->uffd_access = UMM_UFFD_NONE;
	uffd = uffd_open(UFFD_OPEN_EVENTS, &info->kernel_features, &info->uffd_access);
	if (uffd < 0)
		info->uffd_error = uffd;
	else
		close(uffd);
	cancel_let(cancel);
}

static void probe_release(struct umm_probe_info *info)
{
	struct utsname names;

	if (!uname(&names))
		snprintf(info->kernel_release, sizeof(info->kernel_release), "%.*s",
			 (int)sizeof(info->kernel_release) - 1, names.release);
}

int umm_probe(struct umm_probe_info *info)
{
	struct umm_probe_info found = { .size = sizeof(found) };
	int ret;

	ret = struct_check(info, sizeof(found));
	if (ret)
		return ret;
	probe_uffd(&found);
	if (pagemap_has_scan())
		found.kernel_features |= UMM_KERNEL_PAGEMAP_SCAN;
	if (maps_has_query())
		found.kernel_features |= UMM_KERNEL_PROCMAP_QUERY;
	found.may_raise_priority = may_raise_priority();
	probe_release(&found);
	probe_advise(&found);
	return struct_out(info, &found, sizeof(found));
}
