/* SPDX-License-Identifier: MIT */
/*
 * The kernel's HMM test driver and its gup_test as programs see them: ioctl numbers,
 * structures and answers. Declared anew, not copied: what counts is that they mean the
 * same.
 */
#ifndef DMIRROR_ABI_H
#define DMIRROR_ABI_H

#include <stdint.h>
#include <sys/ioctl.h>

#define DMIRROR_UNITS 4 /* /dev/hmm_dmirror0 .. 3: two private devices, two coherent ones */

struct dmirror_cmd {
	uint64_t addr;	 /* what the device is to work on */
	uint64_t ptr;	 /* where the program has, or wants, the data */
	uint64_t npages; /* how many pages of it */
	uint64_t cpages; /* out: pages done */
	uint64_t faults; /* out: device faults on the way */
};

enum dmirror_request {
	DMIRROR_READ = _IOWR('H', 0, struct dmirror_cmd),
	DMIRROR_WRITE = _IOWR('H', 1, struct dmirror_cmd),
	DMIRROR_MIGRATE_TO_DEV = _IOWR('H', 2, struct dmirror_cmd),
	DMIRROR_MIGRATE_TO_SYS = _IOWR('H', 3, struct dmirror_cmd),
	DMIRROR_SNAPSHOT = _IOWR('H', 4, struct dmirror_cmd),
	DMIRROR_EXCLUSIVE = _IOWR('H', 5, struct dmirror_cmd),
	DMIRROR_CHECK_EXCLUSIVE = _IOWR('H', 6, struct dmirror_cmd),
	DMIRROR_RELEASE = _IOWR('H', 7, struct dmirror_cmd),
};

/* What a snapshot says of a page, a byte each: where it is, or-ed with how it is mapped. */
enum dmirror_prot {
	PROT_NOTHING = 0x00, /* not populated, or on another private device */
	PROT_READABLE = 0x01,
	PROT_WRITABLE = 0x02,
	PROT_HUGE_2M = 0x04,
	PROT_HUGE_1G = 0x08, /* of hugetlb only */
	PROT_ZERO_PAGE = 0x10,
	PROT_PRIVATE_LOCAL = 0x20, /* in the memory of the device that was asked */
	PROT_PRIVATE_REMOTE = 0x30,
	PROT_COHERENT_LOCAL = 0x40,
	PROT_COHERENT_REMOTE = 0x50,
	PROT_BAD = 0xff, /* a hole, no access, or poisoned */
};

struct gup_cmd {
	uint64_t get_usec; /* out: how long it took, */
	uint64_t put_usec; /* and to let go again */
	uint64_t addr;
	uint64_t size; /* bytes */
	uint32_t pages_per_call;
	uint32_t gup_flags;
	uint32_t test_flags;
	uint32_t which_pages[8];
};

enum gup_request {
	GUP_FAST = _IOWR('g', 1, struct gup_cmd),
	PIN_FAST = _IOWR('g', 2, struct gup_cmd),
	PIN_LONGTERM = _IOWR('g', 3, struct gup_cmd),
	GUP_BASIC = _IOWR('g', 4, struct gup_cmd),
	PIN_BASIC = _IOWR('g', 5, struct gup_cmd),
};

/* Of gup_flags. */
enum gup_flag {
	GUP_WRITE = 0x1,
	GUP_LONGTERM = 0x10000,
};

#endif
