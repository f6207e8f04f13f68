/* SPDX-License-Identifier: MIT */
/*
 * Paging by hand, the least that UFFDIO_MOVE needs for one fault: wake-up, read, memcpy,
 * ioctl, wake-up. Or write-protection by hand: the same without a memcpy.
 *
 * Pages that lie apart are copied into new ones instead: UFFDIO_COPY from a staging page. That
 * is how libumm serves a page that comes alone, so it shows the kernel's part of such a fault.
 *
 * What makes it fast: the server blocks in read() (a poll before it would be one call
 * more), staging pages exist beforehand and are used in order, nothing is locked
 * or looked up, both ranges are small pages whose page tables stay, and the fault's
 * address alone says which device page to copy. Moving the pages back between runs is one
 * ioctl that nobody times.
 *
 * Invariant: page i is either in memory (touched), or the device has it alone, and, where pages
 * are moved, its frame is one of staging's that were not used yet. The device has a copy of every
 * page for ever.
 *
 * A server that cannot resolve a fault would leave the faulting thread asleep, so it
 * falls back to UFFDIO_COPY and notes the error for floor_uffd_reset().
 */
#include "floor.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "../libumm/uapi.h"
#include "machine.h"

#define PAGE ((size_t)4096)

struct floor_uffd {
	struct floor_uffd_options options;
	int uffd;
	size_t stride; /* of the pages in memory */
	size_t len;    /* of memory */
	char *memory;
	char *staging;
	char *device;
	pthread_t server;
	bool serving;
	/* Written by the server before it resolves a fault, read when all are resolved. */
	_Atomic size_t used;
	_Atomic int error;
};

static int move(struct floor_uffd *f, char *dst, char *src, size_t len)
{
	struct uffdio_move arg;
	size_t done = 0;

	while (done < len) {
		arg = (struct uffdio_move){ .dst = (uintptr_t)dst + done,
					    .src = (uintptr_t)src + done,
					    .len = len - done };
		if (ioctl(f->uffd, UFFDIO_MOVE, &arg) == 0)
			return 0;
		if (errno != EAGAIN)
			return -errno;
		if (arg.move > 0)
			done += (size_t)arg.move;
	}
	return 0;
}

static int copy(struct floor_uffd *f, uintptr_t dst, const char *src)
{
	struct uffdio_copy arg = { .dst = dst, .src = (uintptr_t)src, .len = PAGE };

	return ioctl(f->uffd, UFFDIO_COPY, &arg) ? -errno : 0;
}

static int protect(struct floor_uffd *f, uintptr_t start, size_t len, uint64_t mode)
{
	struct uffdio_writeprotect arg = { .range = { start, len }, .mode = mode };

	return ioctl(f->uffd, UFFDIO_WRITEPROTECT, &arg) ? -errno : 0;
}

/* Nothing else can be done for the thread that waits: it stays, and so does the bench. */
static void unprotect(struct floor_uffd *f, uintptr_t addr)
{
	int ret = protect(f, addr & ~(PAGE - 1), PAGE, 0);

	if (ret)
		f->error = ret;
	f->used++;
}

static void resolve(struct floor_uffd *f, uintptr_t addr)
{
	uintptr_t page = addr & ~(PAGE - 1);
	char *frame = f->device + (page - (uintptr_t)f->memory) / f->stride * PAGE;
	size_t stage = f->used++;
	int ret = -ENOSPC;

	if (f->options.apart) {
		memcpy(f->staging, frame, PAGE);
		ret = copy(f, page, f->staging);
	} else if (stage < f->options.npages) {
		memcpy(f->staging + stage * PAGE, frame, PAGE);
		ret = move(f, (char *)page, f->staging + stage * PAGE, PAGE);
	}
	if (ret == 0)
		return;
	f->error = ret;
	copy(f, page, frame);
}

static void *serve(void *arg)
{
	struct floor_uffd *f = arg;
	struct uffd_msg msg;
	cpu_set_t set;

	if (f->options.cpu >= 0) {
		CPU_ZERO(&set);
		CPU_SET(f->options.cpu, &set);
		sched_setaffinity(0, sizeof(set), &set);
	}
	if (f->options.raise)
		setpriority(PRIO_PROCESS, (id_t)syscall(SYS_gettid), -20);
	for (;;) {
		if (read(f->uffd, &msg, sizeof(msg)) != sizeof(msg))
			continue;
		if (msg.event != UFFD_EVENT_PAGEFAULT)
			continue;
		if (msg.arg.pagefault.flags & UFFD_PAGEFAULT_FLAG_WP)
			unprotect(f, (uintptr_t)msg.arg.pagefault.address);
		else
			resolve(f, (uintptr_t)msg.arg.pagefault.address);
	}
	return NULL;
}

/* Whose faults SIGBUS means, and what it meant before. */
static struct floor_uffd *in_thread;
static struct sigaction before;

static void handle(int number, siginfo_t *info, void *context)
{
	(void)number;
	(void)context;
	resolve(in_thread, (uintptr_t)info->si_addr);
}

static int start_handler(struct floor_uffd *f)
{
	struct sigaction action = { .sa_sigaction = handle, .sa_flags = SA_SIGINFO };

	in_thread = f;
	f->serving = sigaction(SIGBUS, &action, &before) == 0;
	return f->serving ? 0 : -errno;
}

int floor_uffd_descriptor(uint64_t features)
{
	struct uffdio_api api = { .api = UFFD_API, .features = features };
	int dev = open("/dev/userfaultfd", O_RDWR | O_CLOEXEC);
	int fd = -1;

	if (dev >= 0) {
		fd = ioctl(dev, USERFAULTFD_IOC_NEW, O_CLOEXEC);
		close(dev);
	}
	if (fd < 0)
		fd = (int)syscall(SYS_userfaultfd, O_CLOEXEC);
	if (fd < 0)
		fd = (int)syscall(SYS_userfaultfd, O_CLOEXEC | UFFD_USER_MODE_ONLY);
	if (fd < 0)
		return -errno;
	if (ioctl(fd, UFFDIO_API, &api)) {
		close(fd);
		return -EOPNOTSUPP;
	}
	return fd;
}

static int register_range(struct floor_uffd *f, char *start, size_t len)
{
	struct uffdio_register arg = { .range = { (uintptr_t)start, len },
				       .mode = f->options.protect ? UFFDIO_REGISTER_MODE_WP :
								    UFFDIO_REGISTER_MODE_MISSING };

	return ioctl(f->uffd, UFFDIO_REGISTER, &arg) ? -errno : 0;
}

static int build(struct floor_uffd *f)
{
	size_t frames = f->options.npages * PAGE, i, at;
	int ret;

	/* Touched once, so that the page tables are there for good. */
	f->memory = machine_map(f->len, MADV_NOHUGEPAGE, !f->options.apart);
	f->staging = machine_map(frames, MADV_NOHUGEPAGE, f->options.apart);
	f->device = machine_map(frames, MADV_HUGEPAGE, true);
	if (!f->memory || !f->staging || !f->device)
		return -ENOMEM;
	for (i = 0; i < f->options.npages; i++) {
		at = i * f->stride;
		memcpy(f->memory + at, &at, sizeof(at));
		memcpy(f->device + i * PAGE, &at, sizeof(at));
	}
	f->uffd = floor_uffd_descriptor((f->options.protect ? UFFD_FEATURE_PAGEFAULT_FLAG_WP :
					 f->options.apart   ? 0 :
							      UFFD_FEATURE_MOVE) |
					(f->options.in_thread ? UFFD_FEATURE_SIGBUS : 0));
	if (f->uffd < 0)
		return f->uffd;
	ret = register_range(f, f->memory, f->len);
	return ret ? ret : register_range(f, f->staging, frames);
}

static int start_server(struct floor_uffd *f)
{
	int ret;

	if (f->options.in_thread)
		return start_handler(f);
	ret = -pthread_create(&f->server, NULL, serve, f);
	f->serving = ret == 0;
	return ret;
}

void floor_uffd_stop(struct floor_uffd *f)
{
	if (!f->serving)
		return;
	f->serving = false;
	if (f->options.in_thread) {
		sigaction(SIGBUS, &before, NULL);
		return;
	}
	pthread_cancel(f->server); /* it sits in read() */
	pthread_join(f->server, NULL);
}

int floor_uffd_open(const struct floor_uffd_options *options, struct floor_uffd **out)
{
	struct floor_uffd *f = calloc(1, sizeof(*f));
	int ret;

	if (!f)
		return -ENOMEM;
	f->uffd = -1;
	f->options = *options;
	f->stride = options->apart ?: PAGE;
	f->len = options->npages * f->stride;
	f->used = options->npages;
	ret = build(f);
	if (ret) {
		floor_uffd_close(f);
		return ret;
	}
	*out = f;
	return 0;
}

/* All at once are moved, but not dropped: the kernel would give page tables back, too. */
static int take_away(struct floor_uffd *f)
{
	if (!f->options.apart)
		return move(f, f->staging, f->memory, f->len);
	for (size_t i = 0; i < f->options.npages; i++)
		if (madvise(f->memory + i * f->stride, PAGE, MADV_DONTNEED))
			return -errno;
	return 0;
}

/* A new server each time, else the scheduler's last choice of a CPU decides the next run. */
int floor_uffd_reset(struct floor_uffd *f)
{
	int ret;

	floor_uffd_stop(f);
	if (f->error)
		return f->error;
	if (f->used != f->options.npages)
		return -EINVAL;
	f->used = 0;
	if (f->options.protect)
		ret = protect(f, (uintptr_t)f->memory, f->len, UFFDIO_WRITEPROTECT_MODE_WP);
	else
		ret = take_away(f);
	return ret ? ret : start_server(f);
}

char *floor_uffd_memory(const struct floor_uffd *f)
{
	return f->memory;
}

void floor_uffd_close(struct floor_uffd *f)
{
	if (!f)
		return;
	floor_uffd_stop(f);
	if (f->uffd >= 0)
		close(f->uffd);
	machine_unmap(f->memory, f->len);
	machine_unmap(f->staging, f->options.npages * PAGE);
	machine_unmap(f->device, f->options.npages * PAGE);
	free(f);
}
