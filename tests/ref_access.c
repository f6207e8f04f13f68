/* SPDX-License-Identifier: MIT */
/*
 * The reference device's own accesses: its faults, and loads, stores and atomics by its page
 * table.
 *
 * Frames, and pages that the device has exclusively, it looks up and touches with the table's
 * lock held. That is what makes an invalidation wait until "the device has stopped using" a
 * translation.
 *
 * Pages mapped in place, and coherent ones, are reached at their CPU address, as the program
 * reaches them: by the CPU's page table, which is right at every moment. The table's lock is
 * not held meanwhile, for such a touch may wait for the core, and that for an invalidation.
 * It is by system calls: where the program unmapped the page a moment ago, they answer EFAULT
 * instead of raising a signal, and the access becomes a device fault. Where the kernel may not
 * fault pages in, they answer EFAULT too, and options.touch does it.
 *
 * Invariants: a valid entry that is not of a page in place is only used under the table's
 * lock; the table is only programmed under it, after umm_notifier_read_retry() said no.
 */
#include "ref_private.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

/* Every use of the umm objects by the device's own threads is between these two. */
static bool use_begin(struct ref_private *p)
{
	if (atomic_load(&p->quiesced))
		return false;
	pthread_rwlock_rdlock(&p->use_lock);
	if (!atomic_load(&p->quiesced))
		return true;
	pthread_rwlock_unlock(&p->use_lock);
	return false;
}

static void use_end(struct ref_private *p)
{
	pthread_rwlock_unlock(&p->use_lock);
}

static int map_entries(struct ref_device *ref, struct umm_range *range)
{
	struct ref_private *p = ref->priv;
	size_t i, npages = (range->end - range->start) / UMM_PAGE_SIZE;
	uint64_t *slot;
	int ret = 0;

	quiet_lock(&p->table_lock);
	if (umm_notifier_read_retry(range->notifier, range->seq)) {
		quiet_unlock(&p->table_lock);
		return -EBUSY;
	}
	for (i = 0; i < npages && ret == 0; i++) {
		slot = ref_table_slot(&p->table, range->start + i * UMM_PAGE_SIZE, true);
		if (slot)
			*slot = range->entries[i];
		else
			ret = -ENOMEM;
	}
	quiet_unlock(&p->table_lock);
	return ret;
}

static int map_range(struct ref_device *ref, uintptr_t addr, size_t len, bool write)
{
	uintptr_t start = addr & ~(UMM_PAGE_SIZE - 1);
	struct umm_range range = {
		.size = sizeof(range),
		.notifier = umm_mirror_notifier(ref->mirror),
		.start = start,
		.end = (addr + len + UMM_PAGE_SIZE - 1) & ~(UMM_PAGE_SIZE - 1),
		.default_flags = UMM_ENTRY_REQ_FAULT | (write ? UMM_ENTRY_REQ_WRITE : 0),
		.owner = ref->dev,
		.mem = ref->mem,
	};
	long ret;

	range.entries = calloc((range.end - range.start) / UMM_PAGE_SIZE, sizeof(uint64_t));
	if (!range.entries)
		return -ENOMEM;
	do {
		range.seq = umm_notifier_read_begin(range.notifier);
		ret = umm_range_fault(&range, 100);
		if (ret >= 0)
			ret = map_entries(ref, &range);
	} while (ret == -EBUSY);
	free(range.entries);
	return (int)ret;
}

int ref_map(struct ref_device *ref, uintptr_t addr, size_t len, bool write)
{
	int ret;

	if (!use_begin(ref->priv))
		return -ENODEV;
	ret = map_range(ref, addr, len, write);
	use_end(ref->priv);
	return ret;
}

/* Enter what is there, and fault nothing in. */
static void map_present(struct ref_device *ref, uintptr_t start, uintptr_t end)
{
	struct umm_range range = {
		.size = sizeof(range),
		.notifier = umm_mirror_notifier(ref->mirror),
		.start = start,
		.end = end,
		.owner = ref->dev,
		.mem = ref->mem,
	};
	long ret;

	range.entries = calloc((end - start) / UMM_PAGE_SIZE, sizeof(uint64_t));
	do {
		range.seq = umm_notifier_read_begin(range.notifier);
		ret = range.entries ? umm_range_snapshot(&range) : -ENOMEM;
		if (ret >= 0)
			ret = map_entries(ref, &range);
	} while (ret == -EBUSY);
	free(range.entries);
}

void ref_op_accessed(void *priv, uintptr_t start, uintptr_t end)
{
	struct ref_private *p = priv;

	if (!use_begin(p))
		return;
	map_present(p->ref, start, end);
	use_end(p);
	count_add(&p->counts.accessed, 1);
}

/* Bring the page, and its neighbours if so configured, into device memory. */
static int fault_migrate(struct ref_device *ref, uintptr_t addr, bool write)
{
	struct ref_private *p = ref->priv;
	size_t window = (size_t)(p->options.fault_pages ? p->options.fault_pages : 1);
	struct umm_span span = { .len = window * UMM_PAGE_SIZE };
	struct umm_migrate_request req = {
		.size = sizeof(req),
		.flags = write ? 0 : UMM_MIGRATE_READ,
		.spans = &span,
		.nspans = 1,
		.dst = ref->mem,
		.cause = UMM_CAUSE_DEVICE_FAULT,
	};
	long ret;

	span.start = addr - addr % span.len;
	ret = umm_migrate_spans(ref->ctx, &req, NULL);
	/* Full, or not to be moved: then it is used where it is. */
	return ret < 0 && ret != -ENOSPC && ret != -EIO ? (int)ret : 0;
}

static int device_fault(struct ref_device *ref, uintptr_t addr, bool write)
{
	struct ref_private *p = ref->priv;
	int ret;

	count_add(&p->counts.faults, 1);
	if (write)
		count_add(&p->counts.write_faults, 1);
	if (atomic_load(&p->policy) == REF_MIGRATE) {
		ret = fault_migrate(ref, addr, write);
		if (ret)
			return ret;
	}
	return map_range(ref, addr, 1, write);
}

void *ref_frame(struct ref_device *ref, uint32_t frame)
{
	return memory_frame(umm_devmem_priv(ref->mem), frame);
}

static void frame_access(struct ref_device *ref, uint32_t frame, size_t offset, void *buf,
			 size_t len, bool write)
{
	const struct memory *memory = umm_devmem_priv(ref->mem);
	const struct ref_real *real = &ref->priv->real;

	if (!memory->frames)
		real->access(real->priv, frame, offset, buf, len, write);
	else if (write)
		memcpy(memory_frame(memory, frame) + offset, buf, len);
	else
		memcpy(buf, memory_frame(memory, frame) + offset, len);
}

void ref_frame_read(struct ref_device *ref, uint32_t frame, void *page)
{
	frame_access(ref, frame, 0, page, UMM_PAGE_SIZE, false);
}

void ref_frame_write(struct ref_device *ref, uint32_t frame, const void *page)
{
	frame_access(ref, frame, 0, (void *)(uintptr_t)page, UMM_PAGE_SIZE, true);
}

/* Does the entry say that the device has the page of addr exclusively? It is elsewhere then. */
static bool is_exclusive(uint64_t entry, uintptr_t addr)
{
	return entry & UMM_ENTRY_VALID && !(entry & (UMM_ENTRY_DEVICE | UMM_ENTRY_COHERENT)) &&
	       UMM_ENTRY_ADDR(entry) != (addr & ~(UMM_PAGE_SIZE - 1));
}

static bool is_in_place(uint64_t entry, uintptr_t addr)
{
	return !(entry & UMM_ENTRY_DEVICE) && !is_exclusive(entry, addr);
}

/* Where an exclusive page has the byte of addr. */
static void *exclusive_host(uint64_t entry, uintptr_t addr)
{
	return (void *)(UMM_ENTRY_ADDR(entry) + addr % UMM_PAGE_SIZE);
}

/*
 * Touch the program's memory as a load or store of its own does: it is the local side of the
 * call, which goes by the CPU's page table. The other side is looked up first and used
 * then, when the page may be elsewhere already. -EFAULT: nothing is there.
 *
 * By syscall(): the C library's functions are known to sanitizers, which would take the
 * device for a thread of the program.
 */
static int touch_in_place(uintptr_t addr, void *buf, size_t len, bool write)
{
	struct iovec page = { .iov_base = (char *)addr, .iov_len = len };
	struct iovec own = { .iov_base = buf, .iov_len = len };
	long n;

	n = syscall(write ? SYS_process_vm_readv : SYS_process_vm_writev, getpid(), &page, 1UL,
		    &own, 1UL, 0UL);
	return n == (long)len ? 0 : -EFAULT;
}

/* Forget where pages are used in place. */
static void forget_in_place(struct ref_device *ref, uintptr_t addr, size_t npages)
{
	struct ref_private *p = ref->priv;
	uint64_t *slot;

	quiet_lock(&p->table_lock);
	for (size_t i = 0; i < npages; i++, addr += UMM_PAGE_SIZE) {
		slot = ref_table_slot(&p->table, addr, false);
		if (slot && is_in_place(*slot, addr))
			*slot = 0;
	}
	quiet_unlock(&p->table_lock);
}

/*
 * Access what lies inside one page. 0; -EAGAIN the table has no fitting entry; -EFAULT it had one,
 * of a page in place that is not there.
 */
static int page_access(struct ref_device *ref, uintptr_t addr, void *buf, size_t len, bool write)
{
	struct ref_private *p = ref->priv;
	uint64_t entry;
	int ret = 0;

	quiet_lock(&p->table_lock);
	entry = ref_table_entry(&p->table, addr);
	if (!(entry & UMM_ENTRY_VALID) || (write && !(entry & UMM_ENTRY_WRITE)))
		ret = -EAGAIN;
	else if (entry & UMM_ENTRY_DEVICE)
		frame_access(ref, UMM_ENTRY_FRAME(entry), addr % UMM_PAGE_SIZE, buf, len, write);
	else if (is_exclusive(entry, addr))
		memcpy(write ? exclusive_host(entry, addr) : buf,
		       write ? buf : exclusive_host(entry, addr), len);
	quiet_unlock(&p->table_lock);
	if (ret || !is_in_place(entry, addr))
		return ret;
	ret = touch_in_place(addr, buf, len, write);
	if (ret)
		forget_in_place(ref, addr & ~(UMM_PAGE_SIZE - 1), 1);
	return ret;
}

static int device_access(struct ref_device *ref, uintptr_t addr, void *buf, size_t len, bool write)
{
	struct ref_private *p = ref->priv;
	size_t part;
	int ret;

	while (len) {
		part = UMM_PAGE_SIZE - addr % UMM_PAGE_SIZE;
		if (part > len)
			part = len;
		ret = page_access(ref, addr, buf, part, write);
		if (ret == -EFAULT && p->options.touch)
			p->options.touch((const void *)addr);
		if (ret) {
			ret = device_fault(ref, addr & ~(UMM_PAGE_SIZE - 1), write);
			if (ret)
				return ret;
			continue;
		}
		addr += part;
		buf = (char *)buf + part;
		len -= part;
	}
	return 0;
}

static int access_once(struct ref_device *ref, uintptr_t addr, void *buf, size_t len, bool write)
{
	int ret;

	if (!use_begin(ref->priv))
		return -ENODEV;
	/* A "kernel" starts: what the program has changed before this must have been heard of. */
	umm_notifier_read_begin(umm_mirror_notifier(ref->mirror));
	ret = device_access(ref, addr, buf, len, write);
	use_end(ref->priv);
	return ret;
}

int ref_read(struct ref_device *ref, uintptr_t addr, void *buf, size_t len)
{
	return access_once(ref, addr, buf, len, false);
}

int ref_write(struct ref_device *ref, uintptr_t addr, const void *buf, size_t len)
{
	return access_once(ref, addr, (void *)(uintptr_t)buf, len, true);
}

uint64_t ref_entry(struct ref_device *ref, uintptr_t addr)
{
	struct ref_private *p = ref->priv;
	uint64_t entry;

	quiet_lock(&p->table_lock);
	entry = ref_table_entry(&p->table, addr);
	quiet_unlock(&p->table_lock);
	return entry;
}

/* Enter pages that are ours exclusively; leave the others. */
static int exclusive_enter(struct ref_device *ref, uintptr_t addr, size_t npages,
			   const uint64_t *entries, uint64_t seq)
{
	struct ref_private *p = ref->priv;
	int ret = 0;

	quiet_lock(&p->table_lock);
	if (umm_notifier_read_retry(umm_mirror_notifier(ref->mirror), seq))
		ret = -EBUSY;
	for (size_t i = 0; i < npages && ret == 0; i++) {
		uint64_t *slot = ref_table_slot(&p->table, addr + i * UMM_PAGE_SIZE, true);

		if (slot)
			*slot = entries[i];
		else
			ret = -ENOMEM;
	}
	quiet_unlock(&p->table_lock);
	return ret;
}

/*
 * The core does not tell a device what that device takes itself. So it forgets by itself where
 * the pages were: what uses them meanwhile in place would take them back.
 */
static long make_exclusive(struct ref_device *ref, uintptr_t addr, size_t npages)
{
	uint64_t *entries = calloc(npages, sizeof(*entries)), seq;
	long n, ret;

	if (!entries)
		return -ENOMEM;
	do {
		seq = umm_notifier_read_begin(umm_mirror_notifier(ref->mirror));
		forget_in_place(ref, addr, npages);
		ret = n =
			umm_make_exclusive(ref->dev, addr, addr + npages * UMM_PAGE_SIZE, entries);
		if (n >= 0)
			ret = exclusive_enter(ref, addr, npages, entries, seq);
	} while (ret == -EBUSY);
	free(entries);
	return ret < 0 ? ret : n;
}

long ref_make_exclusive(struct ref_device *ref, uintptr_t addr, size_t npages)
{
	long ret;

	if (!use_begin(ref->priv))
		return -ENODEV;
	ret = make_exclusive(ref, addr, npages);
	use_end(ref->priv);
	return ret;
}

/* -EAGAIN: the page is not ours exclusively. */
static int atomic_add_once(struct ref_device *ref, uintptr_t addr, uint64_t n, uint64_t *old)
{
	uint64_t entry, *word;
	int ret = -EAGAIN;

	quiet_lock(&ref->priv->table_lock);
	entry = ref_table_entry(&ref->priv->table, addr);
	if (entry & UMM_ENTRY_WRITE && is_exclusive(entry, addr)) {
		word = exclusive_host(entry, addr);
		*old = *word;
		/* Two steps on purpose: nobody else may be there in between. */
		*(volatile uint64_t *)word = *old + n;
		ret = 0;
	}
	quiet_unlock(&ref->priv->table_lock);
	return ret;
}

int ref_atomic_add(struct ref_device *ref, uintptr_t addr, uint64_t n, uint64_t *old)
{
	int ret;
	long got;

	if (!use_begin(ref->priv))
		return -ENODEV;
	while ((ret = atomic_add_once(ref, addr, n, old)) == -EAGAIN) {
		got = make_exclusive(ref, addr & ~(UMM_PAGE_SIZE - 1), 1);
		if (got < 0)
			ret = (int)got;
		if (got == 0)
			ret = -EBUSY;
		if (got <= 0)
			break;
	}
	use_end(ref->priv);
	return ret;
}

void ref_policy_set(struct ref_device *ref, enum ref_policy policy)
{
	atomic_store(&ref->priv->policy, (int)policy);
}
