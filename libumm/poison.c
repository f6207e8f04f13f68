/* SPDX-License-Identifier: MIT */
/*
 * Poisoning pages. With UFFDIO_POISON the kernel keeps a marker in the page table. Without
 * it an empty file is mapped over the page: every touch is beyond its end, which is
 * a SIGBUS for loads and stores and EFAULT for system calls, by the kernel itself.
 *
 * Locks: none held. The mapping raises an event, so it is not made on a fault server.
 */
#include "poison.h"

#include <errno.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "ctx.h"
#include "event.h"
#include "log.h"
#include "uffd.h"

static void poison_by_mapping(struct umm_ctx *ctx, uintptr_t addr)
{
	int fd = memfd_create("umm-poison", MFD_CLOEXEC);
	struct expect expect = { .start = addr, .end = addr + UMM_PAGE_SIZE };
	long map = -1;

	if (fd >= 0) {
		event_expect(ctx, &expect);
		/* Not mmap(): ThreadSanitizer takes that for a store by this thread. */
		map = syscall(SYS_mmap, addr, UMM_PAGE_SIZE, PROT_READ | PROT_WRITE,
			      MAP_SHARED | MAP_FIXED, fd, 0);
		event_expect_end(ctx, &expect);
		close(fd);
	}
	if (map == -1)
		log_error("cannot poison the page at %#lx", (unsigned long)addr);
}

bool poison_page(struct umm_ctx *ctx, uintptr_t addr, bool may_sleep)
{
	if (ctx->features & UMM_KERNEL_POISON) {
		while (uffd_poison(ctx->uffd, addr, UMM_PAGE_SIZE) == -EAGAIN)
			event_pump(ctx);
		return true;
	}
	if (may_sleep)
		poison_by_mapping(ctx, addr);
	return may_sleep;
}
