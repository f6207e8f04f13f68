/* SPDX-License-Identifier: MIT */
/*
 * Runs a command that the kernel refuses a userfaultfd, whoever runs it: a seccomp
 * filter answers EPERM to the system call and to the ioctl of /dev/userfaultfd.
 *
 * usage: refuse_uffd all COMMAND...	  as a container's seccomp profile does
 *        refuse_uffd kernel COMMAND...	  as vm.unprivileged_userfaultfd=0 does: one
 *					  for faults in user mode can be had
 * No state, no locks.
 */
#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

/* Newer than the headers of some distributions. */
#define IOC_NEW	       0xaa00u /* USERFAULTFD_IOC_NEW */
#define USER_MODE_ONLY 1u      /* UFFD_USER_MODE_ONLY */

#define LOAD(field) BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, field))
#define ALLOW	    BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW)
#define REFUSE	    BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM)

static int filter(bool allow_user_mode)
{
	struct sock_filter program[] = {
		LOAD(nr),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_userfaultfd, 4, 0),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_ioctl, 0, 2),
		LOAD(args[1]),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, IOC_NEW, 4, 0),
		ALLOW,
		LOAD(args[0]),
		BPF_JUMP(BPF_JMP | BPF_JSET | BPF_K, allow_user_mode ? USER_MODE_ONLY : 0, 0, 1),
		ALLOW,
		REFUSE,
	};
	struct sock_fprog fprog = {
		.len = sizeof(program) / sizeof(program[0]),
		.filter = program,
	};

	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
		return -errno;
	return prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &fprog) ? -errno : 0;
}

int main(int argc, char **argv)
{
	bool allow_user_mode = argc > 1 && !strcmp(argv[1], "kernel");
	int ret;

	if (argc < 3 || (!allow_user_mode && strcmp(argv[1], "all") != 0)) {
		fprintf(stderr, "usage: refuse_uffd all|kernel COMMAND...\n");
		return 2;
	}
	ret = filter(allow_user_mode);
	if (ret) {
		fprintf(stderr, "refuse_uffd: cannot install a seccomp filter: %s\n",
			strerror(-ret));
		return 77;
	}
	execvp(argv[2], argv + 2);
	fprintf(stderr, "refuse_uffd: %s: %s\n", argv[2], strerror(errno));
	return 127;
}
