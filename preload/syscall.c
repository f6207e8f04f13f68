/* SPDX-License-Identifier: MIT */
/*
 * syscall(), by which programs call the kernel past the C library's functions: what other parts of
 * the shim stand in for goes to them. Everything else goes to the kernel as the C library would
 * have it: without a frame on the stack, so that clone(2) and the like return where they
 * should. On other processors than x86-64 nothing is seen of it.
 *
 * Nothing here goes by way of close(), mmap() and the like: the program, or who else is preloaded,
 * may have functions of these names that end in syscall().
 *
 * No locks, no state.
 */
#if defined(__x86_64__)

#include <errno.h>
#include <stdint.h>
#include <unistd.h>

#include "child.h"
#include "descriptors.h"
#include "filter.h"
#include "lent.h"
#include "mapping.h"
#include "namespace.h"
#include "raw.h"
#include "shim.h"

enum { NUMBERS = 512 };

/* Which are looked at: by number, in order of words, for the lines below. */
__attribute__((used)) SHIM_HIDDEN const uint64_t syscall_bits[NUMBERS / 64] = {
	[0] = UINT64_C(1) << SYS_close | UINT64_C(1) << SYS_mmap | UINT64_C(1) << SYS_mprotect |
	      UINT64_C(1) << SYS_munmap | UINT64_C(1) << SYS_mremap | UINT64_C(1) << SYS_madvise |
	      UINT64_C(1) << SYS_dup2 | UINT64_C(1) << SYS_setsockopt | UINT64_C(1) << SYS_clone |
	      UINT64_C(1) << SYS_fork | UINT64_C(1) << SYS_sendto | UINT64_C(1) << SYS_sendmsg,
	[2] = UINT64_C(1) << (SYS_mlock - 128) | UINT64_C(1) << (SYS_munlock - 128) |
	      UINT64_C(1) << (SYS_mlockall - 128) | UINT64_C(1) << (SYS_munlockall - 128) |
	      UINT64_C(1) << (SYS_prctl - 128),
	[4] = UINT64_C(1) << (SYS_dup3 - 256) | UINT64_C(1) << (SYS_seccomp - 256) |
	      UINT64_C(1) << (SYS_vmsplice - 256) | UINT64_C(1) << (SYS_unshare - 256) |
	      UINT64_C(1) << (SYS_setns - 256) | UINT64_C(1) << (SYS_sendmmsg - 256),
	[5] = UINT64_C(1) << (SYS_mlock2 - 320),
	[6] = UINT64_C(1) << (SYS_close_range - 384) | UINT64_C(1) << (SYS_clone3 - 384),
};

_Static_assert(SYS_clone == 56 && SYS_fork == 57 && SYS_clone3 == 435, "as they are below");

/*
 * As the C library's, but for the look at the number; syscall_seen() has the same arguments. What
 * makes a process is called from here all the same, for that may return on another stack. What is
 * used here alone the compiler does not know of.
 */
__asm__(".text\n"
	".globl syscall\n"
	".type syscall, @function\n"
	".p2align 4\n"
	"syscall:\n"
	"	.cfi_startproc\n"
	"	endbr64\n"
	"	cmpq	$512, %rdi\n"
	"	jae	1f\n"
	"	btq	%rdi, syscall_bits(%rip)\n"
	"	jc	3f\n"
	"1:	movq	%rdi, %rax\n"
	"	movq	%rsi, %rdi\n"
	"	movq	%rdx, %rsi\n"
	"	movq	%rcx, %rdx\n"
	"	movq	%r8, %r10\n"
	"	movq	%r9, %r8\n"
	"	movq	8(%rsp), %r9\n"
	"	syscall\n"
	"	cmpq	$-4095, %rax\n"
	"	jae	2f\n"
	"	ret\n"
	"2:	negl	%eax\n"
	"	movl	%eax, %edi\n"
	"	jmp	syscall_failed\n"
	"3:	cmpq	$56, %rdi\n"
	"	je	4f\n"
	"	cmpq	$57, %rdi\n"
	"	je	4f\n"
	"	cmpq	$435, %rdi\n"
	"	jne	syscall_seen\n"
	"4:	subq	$56, %rsp\n"
	"	.cfi_adjust_cfa_offset 56\n"
	"	movq	%rdi, (%rsp)\n"
	"	movq	%rsi, 8(%rsp)\n"
	"	movq	%rdx, 16(%rsp)\n"
	"	movq	%rcx, 24(%rsp)\n"
	"	movq	%r8, 32(%rsp)\n"
	"	movq	%r9, 40(%rsp)\n"
	"	call	child_expect_syscall\n"
	"	movq	(%rsp), %rdi\n"
	"	movq	8(%rsp), %rsi\n"
	"	movq	16(%rsp), %rdx\n"
	"	movq	24(%rsp), %rcx\n"
	"	movq	32(%rsp), %r8\n"
	"	movq	40(%rsp), %r9\n"
	"	addq	$56, %rsp\n"
	"	.cfi_adjust_cfa_offset -56\n"
	"	testl	%eax, %eax\n"
	"	jz	1b\n"
	"	movl	%eax, %edi\n"
	"	jmp	syscall_failed\n"
	"	.cfi_endproc\n"
	".size syscall, . - syscall\n");

__attribute__((used)) SHIM_HIDDEN long syscall_failed(int error);
__attribute__((used)) SHIM_HIDDEN long syscall_seen(long number, long a, long b, long c, long d,
						    long e, long f);

long syscall_failed(int error)
{
	errno = error;
	return -1;
}

static long of_memory(long number, const long arg[6], const void *caller)
{
	void *addr = (void *)arg[0];
	size_t len = (size_t)arg[1];
	struct mapping_wish wish = { addr, len, (int)arg[2], (int)arg[3], (int)arg[4], arg[5] };
	struct mapping_move move = { addr, len, (size_t)arg[2], (int)arg[3], (void *)arg[4] };

	switch (number) {
	case SYS_mmap:
		return (long)mapping_map(&wish, caller);
	case SYS_munmap:
		return mapping_unmap(addr, len, caller);
	case SYS_mremap:
		return (long)mapping_remap(&move, caller);
	case SYS_madvise:
		return mapping_advise(addr, len, (int)arg[2], caller);
	case SYS_mprotect:
		return mapping_protect(addr, len, (int)arg[2], caller);
	case SYS_mlock:
		return lock_range(addr, len, 0, caller);
	case SYS_mlock2:
		return lock_range(addr, len, (unsigned)arg[2], caller);
	case SYS_munlock:
		return lock_range_end(addr, len, caller);
	case SYS_mlockall:
		return lock_all((int)arg[0], caller);
	default:
		return lock_all_end(caller);
	}
}

/* The one that called is whoever called syscall(). */
long syscall_seen(long number, long a, long b, long c, long d, long e, long f)
{
	const void *caller = __builtin_return_address(0);

	if (thread_mode == THREAD_INTERNAL || shim_is_internal_code(caller))
		return raw_syscall(number, a, b, c, d, e, f);
	switch (number) {
	case SYS_close:
		if (descriptors_refuse((int)a, EBADF, caller))
			return -1;
		break;
	case SYS_close_range:
		return descriptors_close_range((unsigned)a, (unsigned)b, (int)c, caller);
	case SYS_dup2:
	case SYS_dup3:
		if (a != b && descriptors_refuse((int)b, EBUSY, caller))
			return -1;
		break;
	case SYS_vmsplice:
		return lent_vmsplice((long[]){ a, b, c, d }, caller);
	case SYS_sendto:
	case SYS_sendmmsg:
		lent_send((int)d, caller);
		break;
	case SYS_sendmsg:
		lent_send((int)c, caller);
		break;
	case SYS_setsockopt:
		return lent_setsockopt((long[]){ a, b, c, d, e }, caller);
	case SYS_unshare:
		return namespace_leave((int)a);
	case SYS_setns:
		return namespace_enter((int)a, (int)b);
	case SYS_prctl:
		filter_expect_prctl((int)a, (unsigned long)b, (const void *)c);
		break;
	case SYS_seccomp:
		filter_expect((unsigned)a, (unsigned)b, (const void *)c);
		break;
	default:
		return of_memory(number, (long[]){ a, b, c, d, e, f }, caller);
	}
	return raw_syscall(number, a, b, c, d, e, f);
}

#endif
