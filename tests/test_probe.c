/* SPDX-License-Identifier: MIT */
/*
 * What umm_probe() and uffd_open() say where things are as they should be, and, in
 * children that give up privileges, descriptors or system calls, where they are not.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/utsname.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "maps.h"
#include "pagemap.h"
#include "probe.h"
#include "uffd.h"
#include "util.h"

#define NOBODY 65534

/* The exit status of a child that cannot set its scene. */
#define CHILD_SKIP 77

static int in_child(int (*fn)(void))
{
	int status;
	pid_t pid = fork();

	assert_true(pid >= 0);
	if (!pid)
		_exit(fn());
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFEXITED(status));
	return WEXITSTATUS(status);
}

static void check_in_child(int (*fn)(void), const char *skip_because)
{
	int status = in_child(fn);

	if (status == CHILD_SKIP) {
		print_message("skipped: %s\n", skip_because);
		skip();
	}
	assert_int_equal(status, 0);
}

static void probe_agrees_with_its_parts(void **state)
{
	struct umm_probe_info info = { .size = sizeof(info) };
	enum umm_uffd_access access = UMM_UFFD_NONE;
	uint64_t features = 0;
	struct utsname names;
	int uffd;

	(void)state;
	assert_int_equal(umm_probe(&info), 0);
	uffd = uffd_open(UFFD_OPEN_EVENTS, &features, &access);
	assert_int_equal(info.uffd_error, min(uffd, 0));
	assert_int_equal(info.uffd_access, access);
	assert_int_equal(info.kernel_features & features, features);
	assert_int_equal(!(info.kernel_features & UMM_KERNEL_PROCMAP_QUERY), !maps_has_query());
	assert_int_equal(!(info.kernel_features & UMM_KERNEL_PAGEMAP_SCAN), !pagemap_has_scan());
	assert_int_equal(uname(&names), 0);
	assert_memory_equal(info.kernel_release, names.release, strlen(info.kernel_release));
	assert_int_equal(info.size, sizeof(info));
	if (uffd >= 0)
		close(uffd);
}

static void probe_leaves_priority_alone(void **state)
{
	struct umm_probe_info info = { .size = sizeof(info) };
	int before = getpriority(PRIO_PROCESS, 0);

	(void)state;
	assert_int_equal(umm_probe(&info), 0);
	assert_int_equal(getpriority(PRIO_PROCESS, 0), before);
}

static void probe_keeps_no_descriptor_of_userfaultfd(void **state)
{
	struct umm_probe_info info = { .size = sizeof(info) };
	int before, after;

	(void)state;
	/* The first call may open what is kept of /proc. */
	assert_int_equal(umm_probe(&info), 0);
	before = dup(0);
	close(before);
	assert_int_equal(umm_probe(&info), 0);
	after = dup(0);
	close(after);
	assert_int_equal(before, after);
}

static void probe_heeds_sizes(void **state)
{
	struct {
		struct umm_probe_info info;
		char newer[16];
	} big;
	struct umm_probe_info info;

	(void)state;
	assert_int_equal(umm_probe(NULL), -EINVAL);
	memset(&info, 0, sizeof(info));
	assert_int_equal(umm_probe(&info), -EINVAL);

	/* An older caller: what he does not know stays as it was. */
	memset(&info, 0x55, sizeof(info));
	info.size = offsetof(struct umm_probe_info, uffd_access);
	assert_int_equal(umm_probe(&info), 0);
	assert_int_equal(info.size, offsetof(struct umm_probe_info, uffd_access));
	assert_int_equal(info.flags, 0);
	assert_int_equal(info.uffd_access, 0x55555555);

	/* A newer one: welcome as long as he asks for nothing that we lack. */
	memset(&big, 0, sizeof(big));
	big.info.size = sizeof(big);
	assert_int_equal(umm_probe(&big.info), 0);
	assert_int_not_equal(big.info.kernel_release[0], '\0');
	memset(&big, 0, sizeof(big));
	big.info.size = sizeof(big);
	big.newer[15] = 1;
	assert_int_equal(umm_probe(&big.info), -E2BIG);
	assert_int_equal(big.info.kernel_release[0], '\0');
}

/* ------------------------------------------------------------------------
 * Trouble
 */

static bool become_nobody(void)
{
	/* Or nobody could not open this process's own files under /proc. */
	return !setgid(NOBODY) && !setuid(NOBODY) && !prctl(PR_SET_DUMPABLE, 1, 0, 0, 0);
}

static bool unprivileged_may(void)
{
	char value = '0';
	int fd = open("/proc/sys/vm/unprivileged_userfaultfd", O_RDONLY | O_CLOEXEC);

	if (fd < 0)
		return true; /* before 5.2 everybody might */
	if (read(fd, &value, 1) != 1)
		value = '0';
	close(fd);
	return value != '0';
}

static int nobody_gets_user_mode(void)
{
	struct umm_probe_info info = { .size = sizeof(info) };

	if (unprivileged_may() || !become_nobody() || !access("/dev/userfaultfd", R_OK | W_OK))
		return CHILD_SKIP;
	if (umm_probe(&info) || info.uffd_error)
		return 1;
	if (info.uffd_access != UMM_UFFD_USER_MODE_ONLY)
		return 2;
	if (info.kernel_features & UMM_KERNEL_SYSCALL_FAULTS)
		return 3;
	if (!strstr(info.advice, "EFAULT") || !strstr(info.advice, "vm.unprivileged_userfaultfd=1"))
		return 4;
	return 0;
}

/* Let the system call userfaultfd fail with err from now on; the device goes by permission. */
static bool forbid_userfaultfd(int err)
{
	struct sock_filter code[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_userfaultfd, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | (unsigned)err),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct sock_fprog program = { .len = ARRAY_SIZE(code), .filter = code };

	return become_nobody() && access("/dev/userfaultfd", R_OK | W_OK) &&
	       !prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) &&
	       !prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program);
}

static int check_forbidden(int err, int expected)
{
	struct umm_probe_info info = { .size = sizeof(info) };
	enum umm_uffd_access access = UMM_UFFD_DEVICE;
	uint64_t features = 0;

	if (!forbid_userfaultfd(err))
		return CHILD_SKIP;
	if (uffd_open(UFFD_OPEN_EVENTS, &features, &access) != expected)
		return 1;
	if (umm_probe(&info) || info.uffd_error != expected || info.uffd_access != UMM_UFFD_NONE)
		return 2;
	if (info.kernel_features & (UMM_KERNEL_MOVE | UMM_KERNEL_UFFD_WP | UMM_KERNEL_UFFD_EVENTS))
		return 3;
	return strstr(info.advice, "seccomp") ? 0 : 4;
}

static int forbidden_by_eperm(void)
{
	return check_forbidden(EPERM, -EPERM);
}

static int forbidden_by_enosys(void)
{
	return check_forbidden(ENOSYS, -EOPNOTSUPP);
}

static int no_descriptors_left(void)
{
	struct umm_probe_info info = { .size = sizeof(info) };
	enum umm_uffd_access access;
	struct rlimit none = { 0, 0 };
	uint64_t features;

	if (setrlimit(RLIMIT_NOFILE, &none))
		return CHILD_SKIP;
	if (uffd_open(UFFD_OPEN_EVENTS, &features, &access) != -ENOMEM)
		return 1;
	if (umm_probe(&info) || info.uffd_error != -ENOMEM)
		return 2;
	return strstr(info.advice, "ulimit -n") ? 0 : 3;
}

static int low_nice_limit(void)
{
	struct umm_probe_info info = { .size = sizeof(info) };
	struct rlimit low = { 0, 0 };
	int before = getpriority(PRIO_PROCESS, 0);

	if (!become_nobody() || setrlimit(RLIMIT_NICE, &low))
		return CHILD_SKIP;
	if (umm_probe(&info) || info.may_raise_priority)
		return 1;
	return getpriority(PRIO_PROCESS, 0) == before ? 0 : 2;
}

static int high_nice_limit(void)
{
	struct umm_probe_info info = { .size = sizeof(info) };
	struct rlimit high = { 40, 40 };
	int before = getpriority(PRIO_PROCESS, 0);

	if (setrlimit(RLIMIT_NICE, &high) || !become_nobody())
		return CHILD_SKIP;
	if (umm_probe(&info) || !info.may_raise_priority)
		return 1;
	return getpriority(PRIO_PROCESS, 0) == before ? 0 : 2;
}

static int hidden_pagemap(void)
{
	struct umm_probe_info info = { .size = sizeof(info) };

	if (!become_nobody() || prctl(PR_SET_DUMPABLE, 0, 0, 0, 0))
		return CHILD_SKIP;
	if (umm_probe(&info) || info.kernel_features & UMM_KERNEL_PAGEMAP_SCAN)
		return 1;
	info.uffd_access = UMM_UFFD_SYSCALL;
	info.kernel_features = ~(uint64_t)UMM_KERNEL_PAGEMAP_SCAN;
	info.may_raise_priority = true;
	probe_advise(&info);
	return strstr(info.advice, "PR_SET_DUMPABLE") ? 0 : 2;
}

static void unprivileged_process_is_told_about_the_sysctl(void **state)
{
	(void)state;
	check_in_child(nobody_gets_user_mode,
		       "needs root, vm.unprivileged_userfaultfd=0 and a private device");
}

static void refused_system_call_is_eperm(void **state)
{
	(void)state;
	check_in_child(forbidden_by_eperm, "needs root and seccomp");
}

static void missing_system_call_is_eopnotsupp(void **state)
{
	(void)state;
	check_in_child(forbidden_by_enosys, "needs root and seccomp");
}

static void no_descriptor_left_is_enomem(void **state)
{
	(void)state;
	check_in_child(no_descriptors_left, "cannot lower RLIMIT_NOFILE");
}

static void process_that_may_not_read_its_pagemap_is_told_why(void **state)
{
	(void)state;
	check_in_child(hidden_pagemap, "needs root to become somebody else");
}

static void low_nice_limit_means_no_priority(void **state)
{
	(void)state;
	check_in_child(low_nice_limit, "needs root to become somebody else");
}

static void high_nice_limit_means_priority(void **state)
{
	(void)state;
	check_in_child(high_nice_limit, "needs CAP_SYS_RESOURCE to raise the nice limit");
}

static void advice_is_one_line_that_fits(void **state)
{
	static const int errors[] = { 0, -EPERM, -EOPNOTSUPP, -ENOMEM };
	struct umm_probe_info info = { .size = sizeof(info) };

	(void)state;
	for (int access = UMM_UFFD_NONE; access <= UMM_UFFD_DEVICE; access++) {
		for (size_t i = 0; i < ARRAY_SIZE(errors); i++) {
			info.uffd_access = (enum umm_uffd_access)access;
			info.uffd_error = errors[i];
			info.kernel_features = 0;
			probe_advise(&info);
			/* Room to spare shows that nothing was cut off. */
			assert_in_range(strlen(info.advice), 20, sizeof(info.advice) - 2);
			assert_int_equal(info.advice[strlen(info.advice) - 1], '.');
			assert_null(strchr(info.advice, '\n'));
		}
	}
	info.uffd_access = UMM_UFFD_SYSCALL;
	info.kernel_features = ~(uint64_t)0;
	info.may_raise_priority = false;
	probe_advise(&info);
	assert_non_null(strstr(info.advice, "RLIMIT_NICE"));
	info.may_raise_priority = true;
	info.kernel_features = ~(uint64_t)UMM_KERNEL_POISON;
	probe_advise(&info);
	assert_non_null(strstr(info.advice, "Linux 6.11"));
	info.kernel_features = ~(uint64_t)0;
	probe_advise(&info);
	assert_string_equal(info.advice, "");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(probe_agrees_with_its_parts),
		cmocka_unit_test(probe_leaves_priority_alone),
		cmocka_unit_test(probe_keeps_no_descriptor_of_userfaultfd),
		cmocka_unit_test(probe_heeds_sizes),
		cmocka_unit_test(unprivileged_process_is_told_about_the_sysctl),
		cmocka_unit_test(refused_system_call_is_eperm),
		cmocka_unit_test(missing_system_call_is_eopnotsupp),
		cmocka_unit_test(no_descriptor_left_is_enomem),
		cmocka_unit_test(process_that_may_not_read_its_pagemap_is_told_why),
		cmocka_unit_test(low_nice_limit_means_no_priority),
		cmocka_unit_test(high_nice_limit_means_priority),
		cmocka_unit_test(advice_is_one_line_that_fits),
	};

	return cmocka_run_group_tests_name("probe", tests, NULL, NULL);
}
