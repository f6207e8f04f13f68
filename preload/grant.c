/* SPDX-License-Identifier: MIT */
/*
 * Withholding memory, with a userfaultfd of the shim's own.
 *
 * Withheld memory is registered for missing faults; a block is granted by unregistering it,
 * which wakes whoever waits there, and from then on it faults natively, with huge pages and all:
 * one message for 2 MiB. This userfaultfd asks for no events, so unmapping withheld memory waits
 * for nobody; memory that moves or that a child inherits is simply not withheld any more. It
 * never meets libumm's: pages that libumm manages were granted before.
 *
 * A thread that waits for a grant may hold any lock of the program's, malloc's included. The
 * engine, who grants, takes none of them.
 *
 * Locks: registering and the entry in the books are one change of space.h.
 */
#include "grant.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <stdatomic.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "raw.h"
#include "room.h"

/* 6.1 */
#ifndef USERFAULTFD_IOC_NEW
#define USERFAULTFD_IOC_NEW _IO(0xAA, 0x00)
#endif

#define PAGE  ((uintptr_t)4096)
#define BLOCK ((uintptr_t)2 << 20)

static _Atomic int uffd = -1;

static int uffd_open(void)
{
	struct uffdio_api api = { .api = UFFD_API };
	int device = open("/dev/userfaultfd", O_RDWR | O_CLOEXEC), fd;

	if (device >= 0) {
		fd = ioctl(device, USERFAULTFD_IOC_NEW, O_CLOEXEC | O_NONBLOCK);
		raw_close(device);
	} else {
		fd = (int)syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK);
	}
	if (fd < 0)
		return -errno;
	if (ioctl(fd, UFFDIO_API, &api)) {
		raw_close(fd);
		return -EOPNOTSUPP;
	}
	return fd;
}

int grant_open(void)
{
	int fd = uffd_open();

	if (fd < 0)
		return fd;
	atomic_store(&uffd, fd);
	return 0;
}

int grant_fd(void)
{
	return atomic_load(&uffd);
}

static bool withhold(uintptr_t start, size_t len)
{
	struct uffdio_register reg = {
		.range = { .start = start, .len = len },
		.mode = UFFDIO_REGISTER_MODE_MISSING,
	};

	return !ioctl(atomic_load(&uffd), UFFDIO_REGISTER, &reg);
}

static void let_go(uintptr_t start, size_t len)
{
	struct uffdio_range range = { .start = start, .len = len };

	ioctl(atomic_load(&uffd), UFFDIO_UNREGISTER, &range);
}

enum space_kind grant_new_locked(uintptr_t start, size_t len)
{
	if (atomic_load(&uffd) < 0 || space_new_kind() == SPACE_PINNED)
		return space_new_kind();
	return !room_unasked(len) && withhold(start, len) ? SPACE_WITHHELD : SPACE_NATIVE;
}

bool grant_reserved_locked(uintptr_t start, size_t len)
{
	struct space_range part;
	bool any = false;

	for (uintptr_t at = start;
	     space_next_locked(at, 1 << SPACE_RESERVED, &part) && part.start < start + len;
	     at = part.end) {
		part.end = part.end < start + len ? part.end : start + len;
		any |= space_turn_locked(part.start, part.end - part.start, SPACE_RESERVED,
					 grant_new_locked(part.start, part.end - part.start));
	}
	return any;
}

void grant_lift_locked(uintptr_t start, size_t len)
{
	struct space_range part;

	for (uintptr_t at = start;
	     space_next_locked(at, 1 << SPACE_WITHHELD, &part) && part.start < start + len;
	     at = part.end) {
		part.end = part.end < start + len ? part.end : start + len;
		space_turn_locked(part.start, part.end - part.start, SPACE_WITHHELD, SPACE_NATIVE);
		let_go(part.start, part.end - part.start);
	}
}

static bool is_untouched(uintptr_t start, size_t len)
{
	static unsigned char present[BLOCK / PAGE];

	if (mincore((void *)start, len, present))
		return false;
	for (size_t i = 0; i < len / PAGE; i++)
		if (present[i] & 1)
			return false;
	return true;
}

/* The part of a native range that is in one block. Where the next part begins. */
static uintptr_t part_withhold_locked(uintptr_t start, uintptr_t range_end)
{
	uintptr_t end = (start & ~(BLOCK - 1)) + BLOCK;
	struct space_range now;

	end = end < range_end ? end : range_end;
	if (!space_find_locked(start, &now) || now.kind != SPACE_NATIVE || now.end < end ||
	    !is_untouched(start, end - start) || !withhold(start, end - start))
		return end;
	/* It may have been touched meanwhile; from here on it cannot be. */
	if (is_untouched(start, end - start))
		space_turn_locked(start, end - start, SPACE_NATIVE, SPACE_WITHHELD);
	else
		let_go(start, end - start);
	return end;
}

void grant_withhold_untouched(uintptr_t start, uintptr_t end)
{
	struct space_change change;
	struct space_range range;

	if (atomic_load(&uffd) < 0)
		return;
	while (start < end && space_next(start, 1 << SPACE_NATIVE, &range) && range.start < end) {
		space_enter(&change);
		start = part_withhold_locked(range.start, range.end);
		space_leave(&change);
	}
}

void grant_moved_locked(uintptr_t start, size_t len)
{
	struct space_range range;
	uintptr_t end = start + len;

	if (atomic_load(&uffd) < 0 || room_unasked(0))
		return;
	while (start < end && space_next_locked(start, 1 << SPACE_NATIVE, &range) &&
	       range.start < end)
		start = part_withhold_locked(range.start, range.end < end ? range.end : end);
}

void grant_end(void)
{
	int fd = atomic_exchange(&uffd, -1);

	if (fd >= 0)
		raw_close(fd);
}

bool grant_wanted(uintptr_t *addr)
{
	struct uffd_msg msg;

	while (read(atomic_load(&uffd), &msg, sizeof(msg)) == sizeof(msg))
		if (msg.event == UFFD_EVENT_PAGEFAULT) {
			*addr = (uintptr_t)msg.arg.pagefault.address;
			return true;
		}
	return false;
}

uint64_t grant_block(uintptr_t addr)
{
	uintptr_t base = addr & ~(BLOCK - 1), at = base;
	struct space_change change;
	struct space_range part;
	uint64_t granted = 0;

	space_enter(&change);
	for (; at < base + BLOCK; at = part.end) {
		if (!space_find_locked(at, &part)) {
			at += PAGE;
			part.end = at;
			continue;
		}
		part.start = at;
		part.end = part.end < base + BLOCK ? part.end : base + BLOCK;
		if (part.kind != SPACE_WITHHELD)
			continue;
		space_turn_locked(part.start, part.end - part.start, SPACE_WITHHELD, SPACE_NATIVE);
		let_go(part.start, part.end - part.start);
		granted += (part.end - part.start) / PAGE;
	}
	space_leave(&change);
	if (!granted) {
		struct uffdio_range range = { .start = base, .len = BLOCK };

		ioctl(atomic_load(&uffd), UFFDIO_WAKE, &range); /* granted or gone meanwhile */
	}
	return granted;
}
