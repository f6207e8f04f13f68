/* SPDX-License-Identifier: MIT */
/*
 * Poisoning pages. With UFFDIO_POISON the kernel keeps a marker in the page table. Without
 * it an empty file is mapped over the page: every touch is beyond its end, which is
 * a SIGBUS for loads and stores and EFAULT for system calls, by the kernel itself.
 *
 * Repairing a page is writing it anew, as a whole: UFFDIO_COPY replaces the marker. The empty file
 * is exchanged for an anonymous mapping, while the page is MIGRATING: whoever touches it waits.
 *
 * Locks: none held. The mapping raises an event, so it is not made on a fault server. Repairs lock
 * the gate and the block while they look at the page and write it.
 */
#include "poison.h"

#include <errno.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "ctx.h"
#include "event.h"
#include "exchange.h"
#include "log.h"
#include "signals.h"
#include "uffd.h"
#include "util.h"

/* Map an empty file over start .. start + len. 0 or -errno. */
static int map_empty_file(uintptr_t start, size_t len)
{
	int fd = memfd_create("umm-poison", MFD_CLOEXEC), ret;
	long map;

	if (fd < 0)
		return -errno;
	/* Not mmap(): ThreadSanitizer takes that for a store by this thread. */
	map = syscall(SYS_mmap, start, len, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, fd, 0);
	ret = map == -1 ? -errno : 0;
	close(fd);
	return ret;
}

static void poison_by_mapping(struct umm_ctx *ctx, uintptr_t addr)
{
	struct expect expect = { .start = addr, .end = addr + UMM_PAGE_SIZE };
	int ret;

	event_expect(ctx, &expect);
	ret = map_empty_file(addr, UMM_PAGE_SIZE);
	event_expect_end(ctx, &expect);
	if (ret)
		log_error("cannot poison the page at %#lx", (unsigned long)addr);
}

void poison_inherited(uintptr_t start, size_t len)
{
	if (map_empty_file(start, len))
		mprotect((void *)start, len, PROT_NONE);
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

static bool is_poisoned(const struct block *block, unsigned i)
{
	return page_state(block, i) == PG_POISONED && !(block->page[i] & PG_REPAIRING);
}

/* Write a page that has a marker. 1: done; 0: it was not poisoned; or -errno. */
static int replace_marker(struct umm_ctx *ctx, uintptr_t addr, const void *data)
{
	unsigned i = page_index(addr);
	struct block *block;
	int ret = 0;

	rwlock_take_shared(&ctx->gate);
	block = block_find(ctx, addr);
	if (block && is_poisoned(block, i)) {
		ret = uffd_copy(ctx->uffd, addr, data, UMM_PAGE_SIZE, true, NULL);
		if (!ret) {
			page_set(block, i, PG_SYSTEM);
			ret = 1;
		}
	}
	if (block)
		lock_drop(&block->lock);
	rwlock_drop_shared(&ctx->gate);
	return ret;
}

/* This thread repairs the page from here on, if it is poisoned. */
static bool repair_begin(struct umm_ctx *ctx, uintptr_t addr)
{
	struct block *block = block_find(ctx, addr);
	bool mine = block && is_poisoned(block, page_index(addr));

	if (mine)
		block->page[page_index(addr)] |= PG_REPAIRING;
	if (block)
		lock_drop(&block->lock);
	return mine;
}

/* It is there, or as poisoned as before; or the program has unmapped it meanwhile. */
static void repair_end(struct umm_ctx *ctx, uintptr_t addr, bool repaired)
{
	struct block *block = block_find(ctx, addr);
	unsigned i = page_index(addr);

	if (!block)
		return;
	if (page_state(block, i) == PG_POISONED && block->page[i] & PG_REPAIRING)
		page_set(block, i, repaired ? PG_SYSTEM : PG_POISONED);
	lock_drop(&block->lock);
}

/* Write a page over which an empty file is mapped. As above. */
static int replace_file(struct umm_ctx *ctx, uintptr_t addr, const void *data)
{
	uintptr_t map;
	int ret;

	if (!repair_begin(ctx, addr))
		return 0;
	map = exchange_make(ctx, UMM_PAGE_SIZE);
	ret = map ? uffd_copy(ctx->uffd, map, data, UMM_PAGE_SIZE, false, NULL) : -ENOMEM;
	if (!ret)
		ret = exchange_put(ctx, map, addr, UMM_PAGE_SIZE);
	if (ret && map)
		exchange_drop(ctx, map, UMM_PAGE_SIZE);
	repair_end(ctx, addr, !ret);
	return ret ? ret : 1;
}

static int repair(struct umm_ctx *ctx, uintptr_t addr, const void *data)
{
	char page[UMM_PAGE_SIZE] = { 0 };
	int ret;

	/* Before anything is locked: reading it may be a fault. */
	if (data)
		memcpy(page, data, sizeof(page));
	signals_hold();
	if (ctx->features & UMM_KERNEL_POISON)
		while ((ret = replace_marker(ctx, addr, page)) == -EAGAIN)
			event_pump(ctx);
	else
		while ((ret = replace_file(ctx, addr, page)) == -EAGAIN)
			event_pump(ctx);
	signals_let();
	return ret;
}

long umm_clear_poison(struct umm_ctx *ctx, uintptr_t start, size_t npages, const void *data)
{
	size_t most = ADDRESS_END >> UMM_PAGE_SHIFT;
	const char *from = data;
	long n = 0;
	int ret = 0;

	if (!ctx_valid(ctx) || !npages || !is_aligned(start, UMM_PAGE_SIZE) || npages > most ||
	    start >> UMM_PAGE_SHIFT > most - npages)
		return -EINVAL;
	if (ctx_is_forked(ctx))
		return -ENODEV;
	for (size_t k = 0; k < npages && ret >= 0; k++) {
		ret = repair(ctx, start + (k << UMM_PAGE_SHIFT),
			     from ? from + (k << UMM_PAGE_SHIFT) : NULL);
		n += ret == 1;
	}
	return ret < 0 ? ret : n;
}
