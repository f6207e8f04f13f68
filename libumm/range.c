/* SPDX-License-Identifier: MIT */
/*
 * Ranges: what a device may put into its page table. A snapshot reads page
 * states; a fault first makes the pages what was asked for, then does the same.
 *
 * Either makes the device take part: blocks are registered, so that every later
 * change is announced. Write permission is the mapping's, asked of the kernel.
 *
 * Locks: the block's while its entries are read; none while pages are made resident.
 */
#include <errno.h>
#include <string.h>
#include <sys/mman.h>

#include "range.h"

#include "batch.h"
#include "device.h"
#include "pagemap.h"
#include "plain.h"
#include "prot.h"
#include "signals.h"
#include "uapi.h"
#include "uffd.h"
#include "event.h"
#include "util.h"

#define REQ_BITS      (UMM_ENTRY_REQ_FAULT | UMM_ENTRY_REQ_WRITE)
#define SIGNALS_BYTES (64 * UMM_BLOCK_SIZE) /* signals go through so often */

/* What the page map says of a part of a block, asked when it is needed first. */
struct look {
	uintptr_t start;
	size_t npages;
	bool known;
	struct pagemap_pages pages;
};

static int look_find(struct look *look, const struct umm_ctx *ctx)
{
	int ret = 0;

	if (!look->known)
		ret = pagemap_look(look->start, look->npages,
				   ctx->features & UMM_KERNEL_PAGEMAP_SCAN, &look->pages);
	look->known = !ret;
	return ret;
}

static bool frame_is_ours(const struct umm_range *range, const struct resident *resident)
{
	return range->owner && resident->mem->dev == range->owner &&
	       (!range->mem || resident->mem == range->mem);
}

static uint64_t frame_entry(const struct resident *resident, unsigned i, uint64_t flags)
{
	uint64_t order = 0;

	/* Frames of the whole block in one aligned piece. */
	if (resident->npages == UMM_BLOCK_PAGES && !resident->frames &&
	    resident->base % UMM_BLOCK_PAGES == 0)
		order = UMM_BLOCK_SHIFT - UMM_PAGE_SHIFT;
	return UMM_ENTRY_VALID | flags | order << 6 |
	       (uint64_t)resident_frame(resident, i) << UMM_PAGE_SHIFT;
}

/* The copy of a duplicated page that the range's owner has; NULL: none. */
static struct resident *own_copy(const struct umm_range *range, struct block *block, unsigned i)
{
	struct resident *resident;

	for (resident = block->residents; resident; resident = resident->next)
		if (bit_test(resident->bitmap, i) && frame_is_ours(range, resident))
			return resident;
	return NULL;
}

/* Has the range's owner page i exclusively? */
static bool exclusive_is_ours(const struct umm_range *range, struct block *block, unsigned i)
{
	return range->owner && resident_of(block, i)->mem->dev == range->owner;
}

static uint64_t exclusive_entry(const struct umm_range *range, struct block *block, unsigned i,
				uint64_t write)
{
	struct resident *resident = resident_of(block, i);

	if (!exclusive_is_ours(range, block, i))
		return 0;
	return UMM_ENTRY_VALID | write | devmem_host(resident->mem, resident_frame(resident, i));
}

/* What a system page's mapping says and, as far as it was looked at, what the page map does. */
static uint64_t system_entry(struct prot *prot, const struct look *look, uintptr_t addr)
{
	unsigned k = (unsigned)((addr - look->start) >> UMM_PAGE_SHIFT);
	bool writable = prot->vma.write;
	uint64_t entry = UMM_ENTRY_VALID | addr;

	if (!look->known)
		return entry | (writable ? UMM_ENTRY_WRITE : 0);
	if (!bit_test(look->pages.present, k))
		return 0;
	if (bit_test(look->pages.zero, k))
		return entry | UMM_ENTRY_ZERO;
	if (prot->vma.huge)
		entry |= (uint64_t)prot_huge_order(prot) << 6;
	else if (bit_test(look->pages.huge, k))
		entry |= (uint64_t)(UMM_BLOCK_SHIFT - UMM_PAGE_SHIFT) << 6;
	/* A private mapping of a file: the first write makes a page of its own. */
	if (bit_test(look->pages.file, k) && !prot->vma.shared)
		writable &= prot->vma.huge;
	return entry | (writable ? UMM_ENTRY_WRITE : 0);
}

static uint64_t entry_of(const struct umm_range *range, struct block *block, unsigned i,
			 struct prot *prot, const struct look *look)
{
	uint64_t write = prot->vma.write ? UMM_ENTRY_WRITE : 0, guarded = 0;
	struct resident *resident;

	if (block->page[i] & PG_HELD)
		return 0;
	switch (page_state(block, i)) {
	case PG_SYSTEM:
	case PG_MIRRORED:
		if (block->page[i] & PG_GUARDED)
			guarded = UMM_ENTRY_WRITE;
		return system_entry(prot, look, page_addr(block, i)) & ~guarded;
	case PG_DEVICE:
		resident = resident_of(block, i);
		if (!frame_is_ours(range, resident))
			return 0;
		return frame_entry(resident, i, UMM_ENTRY_DEVICE | write);
	case PG_COHERENT:
		return frame_entry(resident_of(block, i), i, UMM_ENTRY_COHERENT | write);
	case PG_DUPLICATED:
		resident = own_copy(range, block, i);
		if (resident)
			return frame_entry(resident, i, UMM_ENTRY_DEVICE | UMM_ENTRY_DUPLICATE);
		return UMM_ENTRY_VALID | page_addr(block, i);
	case PG_POISONED:
		return UMM_ENTRY_ERROR;
	case PG_EXCLUSIVE:
		return exclusive_entry(range, block, i, write);
	default:
		return 0;
	}
}

/* Does the page map have a say in this page's entry? */
static bool wants_look(const struct umm_range *range, const struct block *block, unsigned i)
{
	return page_state(block, i) == PG_MIRRORED ||
	       (page_state(block, i) == PG_SYSTEM && range->flags & UMM_RANGE_PAGEMAP);
}

/* Entries of a part of one mapping, prot->vma, and of one block, which is locked. */
static long snapshot_mapping(struct umm_range *range, struct block *block, struct look *look,
			     struct prot *prot, const struct umm_span *span, uint64_t *entry)
{
	unsigned first = page_index(span->start);
	unsigned last = first + (unsigned)(span->len >> UMM_PAGE_SHIFT);
	/* It allows whatever entries do. */
	bool wide = prot->vma.read && prot->vma.write;
	unsigned plain;
	long valid = 0;
	int ret;

	for (unsigned i = first; i < last; i++, entry++) {
		plain = wide ? plain_pages(range, block, i, last) : 0;
		plain_fill(entry, page_addr(block, i), plain);
		plain_give(block, i, plain);
		i += plain;
		entry += plain;
		valid += plain;
		if (i == last)
			break;
		if (!wide)
			prot_compare(prot, block, i);
		if (!prot->vma.read) {
			*entry = UMM_ENTRY_ERROR;
			continue;
		}
		ret = wants_look(range, block, i) ? look_find(look, prot->ctx) : 0;
		if (ret)
			return ret;
		*entry = entry_of(range, block, i, prot, look);
		prot_give(block, i, *entry);
		valid += *entry & UMM_ENTRY_VALID;
	}
	return valid;
}

/* Entries of a part of a block, which is locked. Returns how many are valid, or -errno. */
static long snapshot_locked(struct umm_range *range, struct block *block, struct look *look,
			    struct prot *prot, uint64_t *entry)
{
	uintptr_t end = look->start + (look->npages << UMM_PAGE_SHIFT);
	struct umm_span span = { .start = look->start };
	long valid = 0, n;

	for (; span.start < end; span.start += span.len) {
		span.len = UMM_PAGE_SIZE; /* where nothing is mapped: vma is empty */
		if (prot_find(prot, span.start))
			span.len = min(prot->vma.end, end) - span.start;
		if (prot->error)
			return prot->error;
		if (prot->vma.special)
			return -EINVAL;
		n = snapshot_mapping(range, block, look, prot, &span, entry);
		if (n < 0)
			return n;
		valid += n;
		entry += span.len >> UMM_PAGE_SHIFT;
	}
	return valid;
}

/* Pages of no block: nobody manages them, so there is nothing to report but errors. */
static int snapshot_unmanaged(uintptr_t start, uintptr_t end, struct prot *prot, uint64_t *entry)
{
	for (uintptr_t at = start; at < end; at += UMM_PAGE_SIZE, entry++) {
		*entry = prot_find(prot, at) && prot->vma.read ? 0 : UMM_ENTRY_ERROR;
		if (prot->error)
			return prot->error;
		if (prot->vma.special)
			return -EINVAL;
	}
	return 0;
}

/* Entries of the part of the range inside one block. Returns how many are valid. */
static long snapshot_block(struct umm_range *range, uintptr_t start, uintptr_t end,
			   struct prot *prot, uint64_t *entry)
{
	struct umm_ctx *ctx = prot->ctx;
	struct look look = { .start = start, .npages = (end - start) >> UMM_PAGE_SHIFT };
	struct block *block;
	long valid = 0;
	int ret;

	rwlock_take_shared(&ctx->gate);
	block = block_get(ctx, start, &ret);
	if (block) {
		ret = block_register(ctx, block);
		valid = ret ? ret : snapshot_locked(range, block, &look, prot, entry);
		prot_found(prot, block);
		block_put(ctx, block);
	} else if (ret == -EFAULT) {
		valid = snapshot_unmanaged(start, end, prot, entry);
	} else {
		valid = ret;
	}
	rwlock_drop_shared(&ctx->gate);
	prot_tell(prot, start);
	return valid;
}

/* One answer in the driver's own words. */
static uint64_t encode(const struct umm_range_encoding *encoding, uint64_t entry)
{
	static const uint64_t bits[UMM_NR_ENCODING_FLAGS] = {
		[UMM_ENCODING_VALID] = UMM_ENTRY_VALID,
		[UMM_ENCODING_WRITE] = UMM_ENTRY_WRITE,
		[UMM_ENCODING_DEVICE] = UMM_ENTRY_DEVICE,
		[UMM_ENCODING_COHERENT] = UMM_ENTRY_COHERENT,
		[UMM_ENCODING_DUPLICATE] = UMM_ENTRY_DUPLICATE,
		[UMM_ENCODING_ZERO] = UMM_ENTRY_ZERO,
	};
	uint64_t encoded;

	if (entry & UMM_ENTRY_ERROR)
		return encoding->values[UMM_ENCODING_ERROR];
	if (!(entry & UMM_ENTRY_VALID))
		return encoding->values[UMM_ENCODING_NONE];
	encoded = (UMM_ENTRY_ADDR(entry) >> UMM_PAGE_SHIFT) << encoding->pfn_shift;
	for (unsigned k = 0; k < UMM_NR_ENCODING_FLAGS; k++)
		if (entry & bits[k])
			encoded |= encoding->flags[k];
	return encoded;
}

static uint64_t *entries_at(const struct umm_range *range, uintptr_t addr)
{
	return &range->entries[(addr - range->start) >> UMM_PAGE_SHIFT];
}

/* Nothing is locked: the caller's array may be managed memory, and writing it a fault. */
static void entries_out(const struct umm_range *range, uintptr_t start, uintptr_t end,
			const uint64_t *entry)
{
	uint64_t *out = entries_at(range, start);
	size_t npages = (end - start) >> UMM_PAGE_SHIFT;

	if (!range->encoding) {
		memcpy(out, entry, npages * sizeof(*out));
		return;
	}
	for (size_t i = 0; i < npages; i++)
		out[i] = encode(range->encoding, entry[i]);
}

/* What a request asks for, in the core's words. */
static uint64_t decode_request(const struct umm_range_encoding *encoding, uint64_t request)
{
	uint64_t asked = 0;

	if (!encoding)
		return request & REQ_BITS;
	if (request & encoding->flags[UMM_ENCODING_VALID])
		asked |= UMM_ENTRY_REQ_FAULT;
	if (request & encoding->flags[UMM_ENCODING_WRITE])
		asked |= UMM_ENTRY_REQ_WRITE;
	return asked;
}

/*
 * Every lock holds signals; held over many blocks they cost no system calls for each. Before the
 * block that begins at `at`: those that came go through, once in a while.
 */
static void let_signals_in(const struct umm_range *range, uintptr_t at)
{
	if (at == range->start || !is_aligned(at, SIGNALS_BYTES))
		return;
	signals_let();
	signals_hold();
}

/* The end of its part of the block that addr is in. */
static uintptr_t part_end(const struct umm_range *range, uintptr_t addr)
{
	return min(align_down(addr, UMM_BLOCK_SIZE) + UMM_BLOCK_SIZE, range->end);
}

static void plain_out(const struct umm_range *range, uintptr_t at, uintptr_t end)
{
	uint64_t entry[UMM_BLOCK_PAGES];
	uintptr_t next;

	if (!range->encoding) {
		plain_fill(entries_at(range, at), at, (end - at) >> UMM_PAGE_SHIFT);
		return;
	}
	for (; at < end; at = next) {
		next = min(part_end(range, at), end);
		plain_fill(entry, at, (next - at) >> UMM_PAGE_SHIFT);
		entries_out(range, at, next, entry);
	}
}

/*
 * Entries from `at` on, as long as all that is in a block is plain. Returns the end of those. They
 * are written once the last of many blocks was looked at: to lock one would be to wait until what
 * was just written has arrived in the cache.
 */
static uintptr_t snapshot_plain(const struct umm_range *range, struct prot *prot, uintptr_t at)
{
	uintptr_t stop, end;

	for (;; at = end) {
		let_signals_in(range, at);
		stop = min(align_down(at, SIGNALS_BYTES) + SIGNALS_BYTES, range->end);
		end = plain_end(range, prot, at, stop);
		plain_out(range, at, end);
		if (end < stop || end == range->end)
			return end;
	}
}

static long snapshot_blocks(struct umm_range *range, struct umm_ctx *ctx, uintptr_t from)
{
	struct prot prot = { .ctx = ctx };
	uint64_t entry[UMM_BLOCK_PAGES];
	uintptr_t at = from, next;
	long valid = 0, n;

	for (;; at = next) {
		next = snapshot_plain(range, &prot, at);
		valid += (long)((next - at) >> UMM_PAGE_SHIFT);
		at = next;
		if (at == range->end)
			break;
		next = part_end(range, at);
		n = snapshot_block(range, at, next, &prot, entry);
		if (n < 0)
			return n;
		entries_out(range, at, next, entry);
		valid += n;
	}
	return valid;
}

/*
 * The entries from `from` on; those before are there. Signals are held. Returns how many of all
 * are valid.
 */
static long snapshot(struct umm_range *range, struct umm_ctx *ctx, uintptr_t from)
{
	long valid = snapshot_blocks(range, ctx, from);

	if (valid >= 0)
		valid += (long)((from - range->start) >> UMM_PAGE_SHIFT);
	if (valid >= 0 && umm_notifier_read_retry(range->notifier, range->seq))
		return -EBUSY;
	return valid;
}

int range_bounds_check(const struct umm_range *range)
{
	const struct itree_node *node;

	if (!notifier_valid(range->notifier) || !range->entries || range->start >= range->end ||
	    !is_aligned(range->start, UMM_PAGE_SIZE) || !is_aligned(range->end, UMM_PAGE_SIZE))
		return -EINVAL;
	node = &range->notifier->node;
	if (range->start < node->start || range->end > node->end || range->end > ADDRESS_END)
		return -EINVAL;
	return 0;
}

static int range_check(struct umm_range *range, struct umm_range *mine)
{
	int ret;

	ret = struct_in(mine, sizeof(*mine), range);
	if (ret)
		return ret;
	ret = range_bounds_check(mine);
	if (ret || mine->flags & ~(uint64_t)UMM_RANGE_PAGEMAP)
		return -EINVAL;
	if (mine->owner && (!device_valid(mine->owner) || mine->owner->ctx != mine->notifier->ctx))
		return -EINVAL;
	if (mine->encoding && (!mine->encoding->flags[UMM_ENCODING_VALID] ||
			       mine->encoding->pfn_shift >= 64 || mine->encoding->reserved))
		return -EINVAL;
	if (mine->mem && (!devmem_valid(mine->mem) || mine->mem->ctx != mine->notifier->ctx))
		return -EINVAL;
	if (ctx_is_forked(mine->notifier->ctx))
		return -ENODEV;
	if (notifier_in_callback())
		return -EDEADLK;
	return ctx_attach_asked(mine->notifier->ctx, mine->start, mine->end);
}

long umm_range_snapshot(struct umm_range *range)
{
	struct umm_range mine;
	long ret = range_check(range, &mine);

	if (ret)
		return ret;
	signals_hold();
	ctx_pass_gate(mine.notifier->ctx);
	ret = snapshot(&mine, mine.notifier->ctx, mine.start);
	signals_let();
	return ret;
}

enum need {
	NEED_NOTHING,
	NEED_FILL,  /* zeroed pages */
	NEED_HOME,  /* to bring a page home, or to end a duplication */
	NEED_WAIT,  /* somebody else to finish */
	NEED_TOUCH, /* the kernel to fault them in */
};

/* Pages that the kernel is to fault in. */
struct touch {
	uintptr_t start, end;
	bool write;
};

/* The part of a range inside one block, on its way to be resident. */
struct part {
	const struct umm_range *range;
	struct prot prot;
	uintptr_t start, end, at; /* at: the first page that may still lack something */
	struct touch touch;
	/* Of the page at start, and so on; or, where entries are no requests, of all of them. */
	uint64_t request[UMM_BLOCK_PAGES];
};

/* What page i lacks for the request; or -errno. */
static int need_of(const struct umm_range *range, struct block *block, unsigned i, bool write)
{
	if (block->page[i] & PG_HELD)
		return NEED_WAIT;
	switch (page_state(block, i)) {
	case PG_MIRRORED:
		return NEED_TOUCH;
	case PG_SYSTEM:
		/* It may be the zero page, which is not writable. */
		return write && range->flags & UMM_RANGE_PAGEMAP ? NEED_TOUCH : NEED_NOTHING;
	case PG_COHERENT:
		return NEED_NOTHING;
	case PG_EMPTY:
		return NEED_FILL;
	case PG_DEVICE:
		return frame_is_ours(range, resident_of(block, i)) ? NEED_NOTHING : NEED_HOME;
	case PG_EXCLUSIVE:
		return exclusive_is_ours(range, block, i) ? NEED_NOTHING : NEED_HOME;
	case PG_DUPLICATED:
		return write ? NEED_HOME : NEED_NOTHING;
	case PG_MIGRATING:
		return NEED_WAIT;
	default:
		return -EFAULT;
	}
}

static int prot_check(struct prot *prot, uintptr_t addr, uint64_t request)
{
	if (!prot_find(prot, addr) && prot->error)
		return prot->error;
	if (!prot->vma.read)
		return -EFAULT;
	return request & UMM_ENTRY_REQ_WRITE && !prot->vma.write ? -EPERM : 0;
}

/* One page under the block's lock: fills it, or says what has to be done without the lock. */
static int fault_locked(const struct part *part, struct block *block, uint64_t request)
{
	struct umm_ctx *ctx = part->prot.ctx;
	unsigned i = page_index(part->at);
	int need, ret;

	/* What the program has dropped is not there, whatever the books say still. */
	if (block->page[i] & PG_DROPPING)
		page_drop_is_over(ctx, block, i);
	if (block->page[i] & PG_GUARDED && request & UMM_ENTRY_REQ_WRITE) {
		ret = uffd_writeprotect(ctx->uffd, part->at, UMM_PAGE_SIZE, false, true);
		if (ret)
			return ret == -ENOENT ? -EFAULT : ret;
		block->page[i] &= (uint16_t)~PG_GUARDED;
	}
	need = need_of(part->range, block, i, request & UMM_ENTRY_REQ_WRITE);
	if (need != NEED_FILL)
		return need;
	ret = uffd_zeropage(ctx->uffd, part->at, UMM_PAGE_SIZE, true, NULL);
	if (ret && ret != -EEXIST)
		return ret;
	page_set(block, i, PG_SYSTEM);
	return NEED_NOTHING;
}

static uint64_t request_of(const struct umm_range *range, uintptr_t addr)
{
	uint64_t request = range->default_flags;

	if (range->flags_mask)
		request |=
			range->entries[(addr - range->start) >> UMM_PAGE_SHIFT] & range->flags_mask;
	return decode_request(range->encoding, request);
}

/* Before anything is locked: the caller's array may be managed memory. False: nothing is asked. */
static bool requests_in(struct part *part)
{
	uint64_t any = 0, request;

	for (uintptr_t at = part->start; at < part->end; at += UMM_PAGE_SIZE) {
		request = request_of(part->range, at);
		part->request[(at - part->start) >> UMM_PAGE_SHIFT] = request;
		any |= request;
		if (!part->range->flags_mask)
			break;
	}
	return any;
}

static uint64_t request_at(const struct part *part, uintptr_t at)
{
	if (!part->range->flags_mask)
		return part->request[0];
	return part->request[(at - part->start) >> UMM_PAGE_SHIFT];
}

/* Pages from part->at on that lack nothing, as can be seen at once. */
static size_t plain_bytes(struct part *part, const struct block *block)
{
	unsigned first = page_index(part->at);
	size_t len;

	if (part->range->flags_mask || prot_check(&part->prot, part->at, part->request[0]))
		return 0;
	len = min(part->end, part->prot.vma.end) - part->at;
	return (size_t)plain_pages(part->range, block, first,
				   first + (unsigned)(len >> UMM_PAGE_SHIFT))
	       << UMM_PAGE_SHIFT;
}

/* Page addr is to be touched, too: true unless it does not belong to what is collected. */
static bool touch_add(struct touch *touch, uintptr_t addr, bool write)
{
	if (touch->start && (touch->end != addr || touch->write != write))
		return false;
	if (!touch->start)
		*touch = (struct touch){ .start = addr, .write = write };
	touch->end = addr + UMM_PAGE_SIZE;
	return true;
}

/*
 * Returns 0, -errno, or what is needed: NEED_HOME or NEED_WAIT for the page at part->at,
 * NEED_TOUCH for what is in part->touch, which lies before it.
 */
static int fault_locked_pages(struct part *part, struct block *block)
{
	uint64_t request;
	int ret = 0;

	for (; part->at < part->end; part->at += UMM_PAGE_SIZE) {
		part->at += plain_bytes(part, block);
		if (part->at == part->end)
			break;
		request = request_at(part, part->at);
		if (!request)
			continue;
		ret = prot_check(&part->prot, part->at, request);
		if (!ret)
			ret = fault_locked(part, block, request);
		if (ret == NEED_TOUCH &&
		    touch_add(&part->touch, part->at, request & UMM_ENTRY_REQ_WRITE))
			ret = 0;
		if (ret)
			break;
	}
	return part->touch.start ? NEED_TOUCH : ret;
}

static int fault_block(struct part *part)
{
	struct umm_ctx *ctx = part->prot.ctx;
	struct block *block;
	int ret;

	part->touch = (struct touch){ 0 };
	rwlock_take_shared(&ctx->gate);
	block = block_get(ctx, part->at, &ret);
	if (block) {
		ret = block_register(ctx, block);
		if (!ret)
			ret = fault_locked_pages(part, block);
		block_put(ctx, block);
	}
	rwlock_drop_shared(&ctx->gate);
	return ret;
}

/* The kernel's own pages: as if the CPU touched them. */
static int fault_touch(const struct touch *touch)
{
	int advice = touch->write ? MADV_POPULATE_WRITE : MADV_POPULATE_READ;

	while (madvise((void *)touch->start, touch->end - touch->start, advice)) {
		if (errno == EINVAL) /* what its name did not tell: VM_IO, VM_PFNMAP */
			return -EINVAL;
		if (errno != EAGAIN && errno != EINTR)
			return -EFAULT;
	}
	return 0;
}

static int bring_home(struct umm_ctx *ctx, uintptr_t addr)
{
	struct umm_span span = { .start = addr, .len = UMM_PAGE_SIZE };
	struct batch_want want = { .cause = UMM_CAUSE_DEVICE_FAULT };
	long ret = batch_move(ctx, &span, 1, &want);

	return ret == -EIO ? -EFAULT : ret < 0 ? (int)ret : 0;
}

/* Do what the part needs, or wait until somebody has done it. 0: look again; or -errno. */
static int part_satisfy(struct part *part, int need, uint32_t seen, uint64_t deadline)
{
	struct umm_ctx *ctx = part->prot.ctx;
	int ret = need;

	/* Nobody manages it. */
	if (need == -EFAULT && prot_find(&part->prot, part->at) && part->prot.vma.special)
		return -EINVAL;
	if (need == NEED_TOUCH)
		ret = fault_touch(&part->touch);
	else if (need == NEED_HOME)
		ret = bring_home(ctx, part->at);
	else if (need == -EAGAIN)
		event_pump(ctx);
	else if (need == NEED_WAIT && now_ns() < deadline)
		ctx_settle_wait(ctx, seen, deadline);
	else if (need == NEED_WAIT)
		return -EBUSY;
	if (ret < 0 && ret != -EAGAIN)
		return ret;
	/* Meanwhile the program may have called mprotect(). */
	part->prot = (struct prot){ .ctx = ctx };
	return 0;
}

/* Make it resident, waiting for others until the deadline. Signals are held, once. */
static int fault_part(struct part *part, uint64_t deadline)
{
	uint32_t seen;
	int need, ret = 0;

	if (!requests_in(part))
		return 0;
	while (part->at < part->end && !ret) {
		seen = ctx_settle_count(part->prot.ctx);
		need = fault_block(part);
		if (!need)
			break;
		signals_let();
		ret = part_satisfy(part, need, seen, deadline);
		signals_hold();
	}
	return ret;
}

int umm_range_wait_until_valid(struct umm_range *range, unsigned timeout_ms)
{
	struct umm_range mine;
	int ret = struct_in(&mine, sizeof(mine), range);

	if (ret)
		return ret;
	if (!notifier_valid(mine.notifier))
		return -EINVAL;
	if (notifier_in_callback())
		return -EDEADLK;
	return notifier_wait_quiet(mine.notifier, now_ns() + timeout_ms * UINT64_C(1000000));
}

/* Signals are held, once. */
static int fault_parts(const struct umm_range *range, struct umm_ctx *ctx, uintptr_t from,
		       uint64_t deadline)
{
	struct part part = { .range = range, .prot = { .ctx = ctx }, .end = from };
	int ret = 0;

	while (part.end < range->end && !ret) {
		let_signals_in(range, part.end);
		part.start = part.at = part.end;
		part.end = part_end(range, part.start);
		ret = fault_part(&part, deadline);
	}
	/* Else the snapshot tells of what is allowed no more. */
	if (ret == -EPERM || ret == -EFAULT)
		prot_refresh(ctx, range->start, range->end);
	return ret;
}

int range_populate(struct umm_ctx *ctx, const struct umm_span *span, bool write, uint64_t deadline)
{
	struct umm_range range = {
		.start = span->start,
		.end = span->start + span->len,
		.default_flags = UMM_ENTRY_REQ_FAULT | (write ? UMM_ENTRY_REQ_WRITE : 0),
	};
	int ret;

	signals_hold();
	ret = fault_parts(&range, ctx, range.start, deadline);
	signals_let();
	return ret;
}

/*
 * Plain pages are what any request for all pages asks for: what a range begins with of them gets
 * its entries at once. Signals are held, once.
 */
static long fault(struct umm_range *range, struct umm_ctx *ctx, unsigned timeout_ms)
{
	struct prot prot = { .ctx = ctx };
	uintptr_t rest = range->start;
	int ret = 0;

	if (!range->flags_mask)
		rest = snapshot_plain(range, &prot, rest);
	if (rest < range->end)
		ret = fault_parts(range, ctx, rest, now_ns() + timeout_ms * UINT64_C(1000000));
	return ret ? ret : snapshot(range, ctx, rest);
}

long umm_range_fault(struct umm_range *range, unsigned timeout_ms)
{
	struct umm_range mine;
	long ret = range_check(range, &mine);

	if (ret)
		return ret;
	signals_hold();
	ctx_pass_gate(mine.notifier->ctx);
	ret = fault(&mine, mine.notifier->ctx, timeout_ms);
	signals_let();
	return ret;
}
