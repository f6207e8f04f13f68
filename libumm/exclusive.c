/* SPDX-License-Identifier: MIT */
/*
 * Exclusive access: pages that one device alone uses for a while, at an address of its own.
 *
 * Each device that asks for it gets a memory of the core's (devmem_places()) whose frames are
 * *places*: a window of host addresses, registered for moving. A page becomes exclusive as
 * a piece whose destination is a place: the page is moved there from the CPU's mapping as it is, so
 * nothing is copied, and the device is told the address. It is a piece, too, that brings the
 * page back: of a CPU touch, a migration, a request of somebody else, fork(), or the end of the
 * device. So eviction, address-space events and what goes wrong are those of device pages:
 *
 *	COHERENT	frame at its place while it is free;    in the mapping while a page
 *	EXCLUSIVE	place empty while it is free;           page in it, mapping empty
 *
 * Only system pages become exclusive: whatever is elsewhere comes home first, from another device
 * that has it exclusively, too. So each EXCLUSIVE event has one owner, and says that its
 * access begins (to the others) or ends (to everybody).
 *
 * Hints count for nothing. Those that keep a page let the device use it in place: there it could do
 * no atomics. And a unit that comes whole would take pages from everybody that nobody asked for.
 *
 * Invariants: a page of state EXCLUSIVE is in one resident, of a memory of places. A place
 * that is not a page's, nor a piece's, is empty.
 * Locks: the block's while entries are listed.
 */
#include <errno.h>
#include <string.h>

#include "batch.h"
#include "maps.h"
#include "prot.h"
#include "util.h"

static int request_check(struct umm_device *dev, uintptr_t start, uintptr_t end,
			 const uint64_t *entries)
{
	if (!device_valid(dev) || !entries || start >= end || end > (uintptr_t)1 << 47 ||
	    !is_aligned(start | end, UMM_PAGE_SIZE))
		return -EINVAL;
	if (own_stack_in(start, end) || notifier_in_callback())
		return -EDEADLK;
	return ctx_is_forked(dev->ctx) ? -ENODEV : 0;
}

/* Is all of it private anonymous memory that may be written? 0; -EFAULT; -EPERM. */
static int check_writable(struct umm_ctx *ctx, uintptr_t start, uintptr_t end)
{
	struct maps_vma vma;
	int ret;

	for (uintptr_t at = start; at < end; at = vma.end) {
		ret = maps_find(at, ctx->features & UMM_KERNEL_PROCMAP_QUERY, &vma);
		if (ret && ret != -ENOENT)
			return ret;
		if (!ret && vma.start <= at && vma.special)
			return -EINVAL;
		if (ret || vma.start > at || !vma.anon || vma.shared || !vma.read)
			return -EFAULT;
		if (!vma.write)
			return -EPERM;
	}
	return 0;
}

static bool never_exclusive(enum page_state state)
{
	return state == PG_UNMANAGED || state == PG_POISONED || state == PG_MIRRORED;
}

/* What the device has now of one block's part. How many pages, or -EFAULT. */
static long list_block(struct umm_devmem *places, uintptr_t start, uintptr_t end, uint64_t *entry)
{
	struct block *block = block_find(places->ctx, start);
	struct resident *resident;
	long n = 0;

	if (!block)
		return -EFAULT;
	resident = resident_find(block, places);
	for (uintptr_t at = start; at < end && n >= 0; at += UMM_PAGE_SIZE, entry++) {
		*entry = 0;
		unsigned i = page_index(at);

		if (never_exclusive(page_state(block, i))) {
			n = -EFAULT;
		} else if (page_state(block, i) == PG_EXCLUSIVE && resident &&
			   bit_test(resident->bitmap, i) && !(block->page[i] & PG_HELD)) {
			*entry = UMM_ENTRY_VALID | UMM_ENTRY_WRITE |
				 devmem_host(places, resident_frame(resident, i));
			n++;
		}
	}
	lock_drop(&block->lock);
	return n;
}

static long list_entries(struct umm_devmem *places, uintptr_t start, uintptr_t end,
			 uint64_t *entries)
{
	uint64_t entry[UMM_BLOCK_PAGES];
	uintptr_t next;
	long got = 0, n;

	for (uintptr_t at = start; at < end; at = next) {
		next = min(align_down(at, UMM_BLOCK_SIZE) + UMM_BLOCK_SIZE, end);
		n = list_block(places, at, next, entry);
		if (n < 0)
			return n;
		/* Nothing is locked: the caller's array may be managed memory. */
		memcpy(&entries[(at - start) >> UMM_PAGE_SHIFT], entry,
		       ((next - at) >> UMM_PAGE_SHIFT) * sizeof(*entry));
		got += n;
	}
	return got;
}

/* What is not there yet comes home, and goes to its place. 0 or -errno. */
static int take_pages(struct umm_devmem *places, uintptr_t start, uintptr_t end)
{
	struct umm_span span = { .start = start, .len = end - start };
	struct batch_want home = {
		.leave = places,
		.cause = UMM_CAUSE_DEVICE_FAULT,
		.heedless = true,
	};
	struct batch_want take = {
		.dst = places,
		.cause = UMM_CAUSE_DEVICE_FAULT,
		.heedless = true,
		.clock = devmem_clock(places),
	};
	long ret;

	/* Of lost pages the list will tell. */
	ret = batch_move(places->ctx, &span, 1, &home);
	if (ret < 0 && ret != -EIO)
		return (int)ret;
	ret = batch_move(places->ctx, &span, 1, &take);
	return ret < 0 && ret != -ENOSPC ? (int)ret : 0;
}

/* How many pages the device has in the end, or -errno. */
static long take_and_list(struct umm_devmem *places, uintptr_t start, uintptr_t end,
			  uint64_t *entries)
{
	struct umm_span span = { .start = start, .len = end - start };
	long ret = take_pages(places, start, end);

	if (ret)
		return ret;
	/* A discard that looked at pages before they were taken may still drop them. */
	region_await(places->ctx, &span);
	return list_entries(places, start, end, entries);
}

long umm_make_exclusive(struct umm_device *dev, uintptr_t start, uintptr_t end, uint64_t *entries)
{
	struct umm_devmem *places;
	long ret;

	ret = request_check(dev, start, end, entries);
	if (ret)
		return ret;
	ctx_pass_gate(dev->ctx);
	ret = ctx_attach_asked(dev->ctx, start, end);
	prot_refresh(dev->ctx, start, end);
	if (!ret)
		ret = check_writable(dev->ctx, start, end);
	if (!ret)
		ret = devmem_places(dev, &places);
	if (!ret)
		ret = devmem_use(places);
	if (ret)
		return ret;
	ret = take_and_list(places, start, end, entries);
	devmem_unuse(places);
	return ret;
}
