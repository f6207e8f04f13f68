/* SPDX-License-Identifier: MIT */
/*
 * Paging in a program that was written for it: memory behind a userfaultfd, a buffer of so many
 * pages of 4 KiB, first in, first out, over a store that is memory, too.
 *
 * What makes it fast: one server that blocks in read(), on any CPU; a fault is one UFFDIO_COPY from
 * the store and one MADV_DONTNEED of what leaves; a page that was only read is not copied back.
 * What it has not is what a library needs that does not know its program: prefetch, heat, other
 * threads that unmap, fork().
 *
 * Invariant: a page is in the ring of the buffer, or the store has its data. A page that nobody
 * wrote to since it came is write-protected; the first write makes it dirty.
 *
 * One server thread owns everything but the memory itself. No locks.
 */
#include "shim_paging.h"

#include <fcntl.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "../libumm/uapi.h"

#define PAGE ((size_t)4096)

static int uffd;
static char *memory, *store;
static bool *dirty;    /* by page */
static size_t *buffer; /* a ring of pages, the oldest at next once it is full */
static size_t capacity, used, next;

static void *map(size_t len)
{
	void *start = mmap(NULL, len, PROT_READ | PROT_WRITE,
			   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	if (start == MAP_FAILED)
		exit(1);
	return start;
}

static void protect(size_t page, bool on)
{
	struct uffdio_writeprotect arg = {
		.range = { (uintptr_t)memory + page * PAGE, PAGE },
		.mode = on ? UFFDIO_WRITEPROTECT_MODE_WP : 0,
	};

	if (ioctl(uffd, UFFDIO_WRITEPROTECT, &arg))
		exit(1);
}

static void evict(size_t page)
{
	if (dirty[page]) {
		protect(page, true);
		memcpy(store + page * PAGE, memory + page * PAGE, PAGE);
		dirty[page] = false;
	}
	if (madvise(memory + page * PAGE, PAGE, MADV_DONTNEED))
		exit(1);
}

static void fill(size_t page, bool is_write)
{
	struct uffdio_copy arg = {
		.dst = (uintptr_t)memory + page * PAGE,
		.src = (uintptr_t)store + page * PAGE,
		.len = PAGE,
		.mode = is_write ? 0 : UFFDIO_COPY_MODE_WP,
	};

	if (used == capacity)
		evict(buffer[next]);
	else
		used++;
	if (ioctl(uffd, UFFDIO_COPY, &arg))
		exit(1);
	dirty[page] = is_write;
	buffer[next] = page;
	next = (next + 1) % capacity;
}

static void *serve(void *arg)
{
	struct uffd_msg msg;

	while (read(uffd, &msg, sizeof(msg)) == sizeof(msg)) {
		uint64_t flags = msg.arg.pagefault.flags;
		size_t page = (size_t)(msg.arg.pagefault.address - (uintptr_t)memory) / PAGE;

		if (flags & UFFD_PAGEFAULT_FLAG_WP) {
			dirty[page] = true;
			protect(page, false);
		} else {
			fill(page, flags & UFFD_PAGEFAULT_FLAG_WRITE);
		}
	}
	exit(1);
	return arg;
}

void *paging_alloc(size_t len, size_t buffer_len)
{
	struct uffdio_api api = { .api = UFFD_API, .features = UFFD_FEATURE_PAGEFAULT_FLAG_WP };
	struct uffdio_register reg = {
		.mode = UFFDIO_REGISTER_MODE_MISSING | UFFDIO_REGISTER_MODE_WP,
	};
	pthread_t server;

	uffd = (int)syscall(SYS_userfaultfd, O_CLOEXEC);
	if (uffd < 0 || ioctl(uffd, UFFDIO_API, &api))
		exit(1);
	memory = map(len);
	store = map(len);
	dirty = map(len / PAGE * sizeof(*dirty));
	capacity = buffer_len / PAGE;
	buffer = map(capacity * sizeof(*buffer));
	/* A page that was given up is to be missed alone. */
	madvise(memory, len, MADV_NOHUGEPAGE);
	memset(store, 0, len);
	reg.range = (struct uffdio_range){ (uintptr_t)memory, len };
	if (ioctl(uffd, UFFDIO_REGISTER, &reg) || pthread_create(&server, NULL, serve, NULL))
		exit(1);
	return memory;
}
