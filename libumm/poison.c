/* SPDX-License-Identifier: MIT */
/*
 * Poisoning pages. With UFFDIO_POISON the kernel keeps a marker in the page table. Without
 * it an empty file is mapped over the page: every touch is beyond its end, which is
 * a SIGBUS for loads and stores and EFAULT for system calls, by the kernel itself. That mapping has
 * the protection of the one before it, and is registered: so the kernel tells when it is
 * unmapped, moved or dropped.
 *
 * Repairing a page is writing it anew, as a whole: UFFDIO_COPY replaces the marker. The empty file
 * is exchanged for an anonymous mapping; until then a touch is still a SIGBUS.
 *
 * Dropping a page takes the marker away, but no mapping. A worker exchanges it: soon after
 * madvise() has returned, since whoever called it goes on when its message is read. Until then
 * the page is POISONED and DISCARD.
 *
 * Locks: none held. The mapping raises events, so it is not made on a fault server. Repairs lock
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
#include "hook.h"
#include "log.h"
#include "maps.h"
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
	map = syscall(SYS_mmap, start, len, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, fd, 0L);
	ret = map == -1 ? -errno : 0;
	close(fd);
	return ret;
}

/* The protection of what is mapped there; -1: nothing is. */
static int protection_at(const struct umm_ctx *ctx, uintptr_t addr)
{
	struct maps_vma vma;

	if (maps_find(addr, ctx->features & UMM_KERNEL_PROCMAP_QUERY, &vma) || vma.start > addr)
		return -1;
	return (vma.read ? PROT_READ : 0) | (vma.write ? PROT_WRITE : 0) |
	       (vma.exec ? PROT_EXEC : 0);
}

/* Memory beyond the end of a file, somewhere, that the kernel tells of. 0: cannot be had. */
static uintptr_t make_beyond_end(const struct umm_ctx *ctx, int prot)
{
	int fd = memfd_create("umm-poison", MFD_CLOEXEC);
	void *map = MAP_FAILED;

	if (fd >= 0) {
		map = mmap(NULL, UMM_PAGE_SIZE, prot, MAP_SHARED, fd, 0);
		close(fd);
	}
	if (map == MAP_FAILED)
		return 0;
	/* Who cannot be told of it has to leave it there. */
	uffd_register_missing(ctx->uffd, (uintptr_t)map, UMM_PAGE_SIZE);
	return (uintptr_t)map;
}

static bool is_poisoned(const struct block *block, unsigned i)
{
	return page_state(block, i) == PG_POISONED && !(block->page[i] & PG_REPAIRING);
}

/*
 * This thread alone exchanges what is mapped over the page, from here on: 1. 0: it is not poisoned,
 * with this flag. -EAGAIN: another thread is at it.
 */
static int mapping_claim(struct umm_ctx *ctx, uintptr_t addr, unsigned flag)
{
	struct block *block = block_find(ctx, addr);
	unsigned i = page_index(addr);
	int ret = 0;

	if (!block)
		return 0;
	if (page_state(block, i) == PG_POISONED && (block->page[i] & flag) == flag) {
		ret = is_poisoned(block, i) ? 1 : -EAGAIN;
		block->page[i] |= PG_REPAIRING;
	}
	lock_drop(&block->lock);
	return ret;
}

/* It is there, or as poisoned as before; or the program has unmapped it meanwhile. */
static void mapping_let(struct umm_ctx *ctx, uintptr_t addr, bool repaired)
{
	struct block *block = block_find(ctx, addr);
	unsigned i = page_index(addr);

	if (!block)
		return;
	if (page_state(block, i) == PG_POISONED && block->page[i] & PG_REPAIRING) {
		block->page[i] &= (uint16_t)~PG_REPAIRING;
		if (repaired)
			page_set(block, i, PG_SYSTEM);
	}
	lock_drop(&block->lock);
}

/* The fault that asked for it may be older than a repair: that is not undone. */
static void poison_by_mapping(struct umm_ctx *ctx, uintptr_t addr)
{
	int prot = protection_at(ctx, addr), ret;
	uintptr_t map;

	hook_run(HOOK_POISONING, addr);
	/* It is gone, and so is what it held; or is repaired, or another thread poisons it. */
	if (prot < 0 || mapping_claim(ctx, addr, 0) != 1)
		return;
	map = make_beyond_end(ctx, prot);
	ret = map ? exchange_put(ctx, map, addr, UMM_PAGE_SIZE) : -ENOMEM;
	if (ret && map)
		exchange_drop(ctx, map, UMM_PAGE_SIZE);
	if (ret)
		log_error("cannot poison the page at %#lx", (unsigned long)addr);
	mapping_let(ctx, addr, false);
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

/* Exchange the empty file for a page with this data, as protected as the file is now. */
static int exchange_file(struct umm_ctx *ctx, uintptr_t addr, const void *data)
{
	int prot = protection_at(ctx, addr), ret;
	uintptr_t map;

	if (prot < 0)
		return -ENOENT;
	map = exchange_make(ctx, UMM_PAGE_SIZE, prot);
	if (!map)
		return -ENOMEM;
	ret = uffd_copy(ctx->uffd, map, data, UMM_PAGE_SIZE, false, NULL);
	if (!ret)
		ret = exchange_put(ctx, map, addr, UMM_PAGE_SIZE);
	if (ret)
		exchange_drop(ctx, map, UMM_PAGE_SIZE);
	return ret;
}

/* Write a page over which an empty file is mapped. As replace_marker(). */
static int replace_file(struct umm_ctx *ctx, uintptr_t addr, const void *data, unsigned flag)
{
	int ret = mapping_claim(ctx, addr, flag);

	if (ret != 1)
		return ret;
	ret = exchange_file(ctx, addr, data);
	mapping_let(ctx, addr, !ret);
	/* The program has just unmapped it. */
	if (ret == -ENOENT)
		return 0;
	return ret ? ret : 1;
}

/* Pages that the program has dropped. */
static void dropped_work(struct umm_ctx *ctx, const struct work *work)
{
	static const char zeroes[UMM_PAGE_SIZE];
	int ret;

	for (uintptr_t addr = work->addr; addr < work->end; addr += UMM_PAGE_SIZE) {
		while ((ret = replace_file(ctx, addr, zeroes, PG_DISCARD)) == -EAGAIN)
			event_pump(ctx);
		if (ret < 0)
			log_error("the page at %#lx was dropped, and stays poisoned: %s",
				  (unsigned long)addr, umm_strerror(ret));
	}
}

void poison_drop(struct umm_ctx *ctx, struct block *block, unsigned first, unsigned last)
{
	struct work work = {
		.fn = dropped_work,
		.addr = page_addr(block, first),
		.end = page_addr(block, last),
	};
	bool any = false;

	if (ctx->features & UMM_KERNEL_POISON)
		return;
	for (unsigned i = first; i < last; i++) {
		if (page_state(block, i) != PG_POISONED)
			continue;
		block->page[i] |= PG_DISCARD;
		any = true;
	}
	if (any && workers_queue(&ctx->workers, &work))
		log_error("no memory to end the poison of dropped pages at %#lx",
			  (unsigned long)work.addr);
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
		while ((ret = replace_file(ctx, addr, page, 0)) == -EAGAIN)
			event_pump(ctx);
	signals_let();
	return ret;
}

/* The first address from `at` on in a block that exists, or end: elsewhere nothing is poisoned. */
static uintptr_t next_known(struct umm_ctx *ctx, uintptr_t at, uintptr_t end)
{
	struct block *block = block_next(ctx, at, end);

	if (!block)
		return end;
	at = max(at, block->va);
	lock_drop(&block->lock);
	return at;
}

long umm_clear_poison(struct umm_ctx *ctx, uintptr_t start, size_t npages, const void *data)
{
	size_t most = ADDRESS_END >> UMM_PAGE_SHIFT;
	const char *from = data;
	uintptr_t at, end;
	long n = 0;
	int ret = 0;

	if (!ctx_valid(ctx) || !npages || !is_aligned(start, UMM_PAGE_SIZE) || npages > most ||
	    start >> UMM_PAGE_SHIFT > most - npages)
		return -EINVAL;
	if (ctx_is_forked(ctx))
		return -ENODEV;
	if (notifier_in_callback())
		return -EDEADLK;
	end = start + (npages << UMM_PAGE_SHIFT);
	for (at = next_known(ctx, start, end); at < end && ret >= 0; at += UMM_PAGE_SIZE) {
		if (is_aligned(at, UMM_BLOCK_SIZE))
			at = next_known(ctx, at, end);
		if (at == end)
			break;
		hook_run(HOOK_REPAIRING, at);
		ret = repair(ctx, at, from ? from + (at - start) : NULL);
		n += ret == 1;
	}
	return ret < 0 ? ret : n;
}
