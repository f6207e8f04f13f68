/* SPDX-License-Identifier: MIT */
/*
 * A mirror: the device's page table over the address space of the process, how it is
 * filled, how the device reads and writes through it, and how the core takes entries out
 * again.
 *
 * The table is only programmed with the one lock held, and mirror_invalidate() takes it. So
 * an answer of the core that umm_notifier_read_retry() accepts under the lock cannot go
 * stale before the lock is dropped.
 *
 * Entries are the core's own (UMM_ENTRY_*). Three kinds of page differ in how the device
 * gets at them:
 *	DEVICE		a frame of its private memory: by the device's own address;
 *	exclusive	where the core has put the page meanwhile;
 *	all others	in place: where the CPU sees them, coherent memory included.
 * The first two are the device's while the table says so. They are used with the lock held:
 * when an invalidation returns the device has stopped using what it was told to forget.
 *
 * What is in place may go, or become exclusive, at any moment, and touching it may wait for
 * the core, which may wait for an invalidation, which waits for the lock. So the lock is not
 * held meanwhile, and needs not be: the device goes by the CPU's page table then, as the
 * program itself does, and that is right at every moment.
 */
#include "mirror.h"

#include <errno.h>
#include <string.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#include "pages.h"

#define TIMEOUT_MS 1000

static const struct ref_table_heap table_heap = { .alloc = pages_alloc, .free = pages_free };

/* ---- invalidation ----------------------------------------------------------------- */

/*
 * Everything is forgotten, also what migrates to this very device: the pages are mapped in
 * place until then, and it must not be looking for them there while they are on their way.
 */
static int mirror_invalidate(void *priv, const struct umm_notifier_range *range)
{
	struct mirror *mirror = priv;

	if (range->blockable)
		pthread_mutex_lock(&mirror->lock.mutex);
	else if (pthread_mutex_trylock(&mirror->lock.mutex))
		return -EAGAIN;
	ref_table_clear(&mirror->table, range->start, range->end);
	pthread_mutex_unlock(&mirror->lock.mutex);
	return 0;
}

static void mirror_release(void *priv)
{
	struct mirror *mirror = priv;

	pthread_mutex_lock(&mirror->lock.mutex);
	ref_table_empty(&mirror->table);
	pthread_mutex_unlock(&mirror->lock.mutex);
}

static const struct umm_mirror_ops mirror_ops = {
	.size = sizeof(struct umm_mirror_ops),
	.invalidate = mirror_invalidate,
	.release = mirror_release,
};

int mirror_open(struct device *device, struct mirror **out)
{
	struct mirror *mirror = pages_alloc(sizeof(*mirror));
	int ret;

	if (!mirror)
		return -ENOMEM;
	mirror->device = device;
	mirror->table.heap = &table_heap;
	pthread_mutex_init(&mirror->lock.mutex, NULL);
	ret = umm_mirror_register(device->dev, &mirror_ops, mirror, &mirror->mirror);
	if (ret) {
		pages_free(mirror, sizeof(*mirror));
		return ret;
	}
	mirror->notifier = umm_mirror_notifier(mirror->mirror);
	*out = mirror;
	return 0;
}

void mirror_close(struct mirror *mirror)
{
	umm_mirror_unregister(mirror->mirror);
	pthread_mutex_destroy(&mirror->lock.mutex);
	pages_free(mirror, sizeof(*mirror));
}

void mirror_settle(struct mirror *mirror)
{
	umm_notifier_read_begin(mirror->notifier);
}

/* ---- the read side ---------------------------------------------------------------- */

uintptr_t batch_end(uintptr_t start, uintptr_t end)
{
	uintptr_t next = (start & ~(UMM_BLOCK_SIZE - 1)) + UMM_BLOCK_SIZE;

	return next < end ? next : end;
}

static uint64_t now_ms(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000 + (uint64_t)ts.tv_nsec / 1000000;
}

/* What the core says about the batch; it may be stale by now. 0 or a negative errno. */
static int batch_ask(struct mirror *mirror, struct batch *batch)
{
	struct umm_range *range = &batch->range;
	long ret;

	range->seq = umm_notifier_read_begin(range->notifier);
	if (range->default_flags) {
		ret = umm_range_fault(range, TIMEOUT_MS);
		return ret < 0 ? (int)ret : 0;
	}
	ret = umm_range_snapshot(range);
	if (ret < 0)
		return (int)ret;
	return umm_query(mirror->device->ctx, range->start, batch_npages(range->start, range->end),
			 batch->pages);
}

/*
 * The loop that every driver has: ask, take the lock that invalidations take, and if one came
 * in between, start over. On 0 the lock is held.
 */
static int batch_ask_and_lock(struct mirror *mirror, struct batch *batch)
{
	uint64_t deadline = now_ms() + TIMEOUT_MS;
	int ret;

	batch->range.size = sizeof(batch->range);
	batch->range.entries = batch->entries;
	batch->range.owner = mirror->device->dev;
	do {
		ret = batch_ask(mirror, batch);
		if (ret == -EBUSY)
			continue;
		if (ret)
			return ret;
		quiet_lock(&mirror->lock);
		if (!umm_notifier_read_retry(batch->range.notifier, batch->range.seq))
			return 0;
		quiet_unlock(&mirror->lock);
	} while (now_ms() < deadline);
	return -EBUSY;
}

int mirror_look_and_lock(struct mirror *mirror, struct batch *batch)
{
	batch->range.default_flags = 0;
	return batch_ask_and_lock(mirror, batch);
}

bool mirror_is_own(const struct mirror *mirror, const struct batch *batch, size_t i)
{
	if (!(batch->entries[i] & (UMM_ENTRY_DEVICE | UMM_ENTRY_COHERENT)))
		return false;
	return umm_devmem_device(batch->pages[i].mem) == mirror->device->dev;
}

/* ---- filling the table ------------------------------------------------------------ */

static int program_locked(struct mirror *mirror, const struct batch *batch, size_t i)
{
	uintptr_t addr = batch->range.start + (i << UMM_PAGE_SHIFT);
	uint64_t *slot = ref_table_slot(&mirror->table, addr, true);

	if (!slot)
		return -ENOMEM;
	*slot = batch->entries[i];
	return 0;
}

int mirror_fault(struct mirror *mirror, uintptr_t start, uintptr_t end, bool write)
{
	struct batch batch = { .range.notifier = mirror->notifier };
	int ret = 0;

	batch.range.default_flags = UMM_ENTRY_REQ_FAULT | (write ? UMM_ENTRY_REQ_WRITE : 0);
	for (uintptr_t at = start; at < end && !ret; at = batch.range.end) {
		batch.range.start = at;
		batch.range.end = batch_end(at, end);
		ret = batch_ask_and_lock(mirror, &batch);
		if (ret)
			return ret;
		for (size_t i = 0; i < batch_npages(at, batch.range.end) && !ret; i++)
			ret = program_locked(mirror, &batch, i);
		quiet_unlock(&mirror->lock);
	}
	return ret;
}

int mirror_map_own(struct mirror *mirror, uintptr_t start, uintptr_t end)
{
	struct batch batch = { .range.notifier = mirror->notifier };
	int ret = 0;

	for (uintptr_t at = start; at < end && !ret; at = batch.range.end) {
		batch.range.start = at;
		batch.range.end = batch_end(at, end);
		ret = mirror_look_and_lock(mirror, &batch);
		if (ret)
			return ret;
		for (size_t i = 0; i < batch_npages(at, batch.range.end) && !ret; i++)
			if (mirror_is_own(mirror, &batch, i))
				ret = program_locked(mirror, &batch, i);
		quiet_unlock(&mirror->lock);
	}
	return ret;
}

/* ---- exclusive access ------------------------------------------------------------- */

/* Does the entry of the page at addr say that it is the device's alone? It is not at addr then. */
static bool is_exclusive(uint64_t entry, uintptr_t addr)
{
	return entry & UMM_ENTRY_VALID && !(entry & (UMM_ENTRY_DEVICE | UMM_ENTRY_COHERENT)) &&
	       UMM_ENTRY_ADDR(entry) != addr;
}

/* The device's own address of a page; NULL: it is used in place. */
static void *page_locked(struct mirror *mirror, uintptr_t addr, uint64_t entry)
{
	if (entry & UMM_ENTRY_DEVICE)
		return device_frame(mirror->device->mem, UMM_ENTRY_FRAME(entry));
	return is_exclusive(entry, addr) ? (void *)UMM_ENTRY_ADDR(entry) : NULL;
}

/*
 * Forget where pages of start .. end are used in place. That the device has a page to itself
 * only the core says.
 */
static void forget_in_place(struct mirror *mirror, uintptr_t start, uintptr_t end)
{
	uint64_t *slot;

	quiet_lock(&mirror->lock);
	for (uintptr_t at = start; at < end; at += UMM_PAGE_SIZE) {
		slot = ref_table_slot(&mirror->table, at, false);
		if (slot && !page_locked(mirror, at, *slot))
			*slot = 0;
	}
	quiet_unlock(&mirror->lock);
}

/*
 * All of a batch or nothing, as the kernel's driver does it. The core does not tell a device
 * what that device takes itself. So it forgets by itself where the pages were: what uses them
 * meanwhile in place would take them back.
 */
static int exclusive_batch(struct mirror *mirror, struct batch *batch)
{
	struct umm_range *range = &batch->range;
	size_t npages = batch_npages(range->start, range->end);
	uint64_t deadline = now_ms() + TIMEOUT_MS;
	int err = 0;
	long ret;

	do {
		range->seq = umm_notifier_read_begin(range->notifier);
		forget_in_place(mirror, range->start, range->end);
		ret = umm_make_exclusive(mirror->device->dev, range->start, range->end,
					 batch->entries);
		if (ret < 0)
			return (int)ret;
		if ((size_t)ret < npages)
			return -EBUSY;
		quiet_lock(&mirror->lock);
		if (!umm_notifier_read_retry(range->notifier, range->seq))
			break;
		quiet_unlock(&mirror->lock);
		if (now_ms() >= deadline)
			return -EBUSY;
	} while (true);
	for (size_t i = 0; i < npages && !err; i++)
		err = program_locked(mirror, batch, i);
	quiet_unlock(&mirror->lock);
	return err;
}

int mirror_make_exclusive(struct mirror *mirror, uintptr_t start, uintptr_t end)
{
	struct batch batch = { .range.notifier = mirror->notifier };
	int ret = 0;

	for (uintptr_t at = start; at < end && !ret; at = batch.range.end) {
		batch.range.start = at;
		batch.range.end = batch_end(at, end);
		ret = exclusive_batch(mirror, &batch);
	}
	return ret;
}

bool mirror_has_exclusive(struct mirror *mirror, uintptr_t start, uintptr_t end)
{
	bool found = false;

	quiet_lock(&mirror->lock);
	for (uintptr_t at = start; at < end && !found; at += UMM_PAGE_SIZE)
		found = is_exclusive(ref_table_entry(&mirror->table, at), at);
	quiet_unlock(&mirror->lock);
	return found;
}

/* ---- the device at work ----------------------------------------------------------- */

/*
 * As a load or store of the program: the page is the local side of the call, which goes by
 * the CPU's page table. The other side is looked up first and used then, when the page
 * may be elsewhere already. EFAULT, instead of a signal, where nothing is there.
 */
static bool copy_in_place(uintptr_t addr, char *buf, bool write)
{
	struct iovec page = { .iov_base = (void *)addr, .iov_len = UMM_PAGE_SIZE };
	struct iovec own = { .iov_base = buf, .iov_len = UMM_PAGE_SIZE };
	ssize_t n;

	if (write)
		n = process_vm_readv(getpid(), &page, 1, &own, 1, 0);
	else
		n = process_vm_writev(getpid(), &page, 1, &own, 1, 0);
	return n == (ssize_t)UMM_PAGE_SIZE;
}

/* Copy one page by its entry. False: the device has to fault first. */
static bool copy_page(struct mirror *mirror, uintptr_t addr, char *buf, bool write)
{
	uint64_t entry;
	void *page;

	quiet_lock(&mirror->lock);
	entry = ref_table_entry(&mirror->table, addr);
	if (!(entry & (write ? UMM_ENTRY_WRITE : UMM_ENTRY_VALID))) {
		quiet_unlock(&mirror->lock);
		return false;
	}
	page = page_locked(mirror, addr, entry);
	if (page)
		memcpy(write ? page : buf, write ? buf : page, UMM_PAGE_SIZE);
	quiet_unlock(&mirror->lock);
	if (page || copy_in_place(addr, buf, write))
		return true;
	forget_in_place(mirror, addr, addr + UMM_PAGE_SIZE);
	return false;
}

static size_t mirror_copy(struct mirror *mirror, uintptr_t addr, char *buf, size_t npages,
			  bool write)
{
	size_t done = 0;

	while (done < npages && copy_page(mirror, addr + (done << UMM_PAGE_SHIFT),
					  buf + (done << UMM_PAGE_SHIFT), write))
		done++;
	return done;
}

size_t mirror_read(struct mirror *mirror, uintptr_t addr, char *buf, size_t npages)
{
	return mirror_copy(mirror, addr, buf, npages, false);
}

size_t mirror_write(struct mirror *mirror, uintptr_t addr, char *buf, size_t npages)
{
	return mirror_copy(mirror, addr, buf, npages, true);
}
