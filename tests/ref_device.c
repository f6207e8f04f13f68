/* SPDX-License-Identifier: MIT */
/*
 * The reference device.
 *
 * Device memory is an anonymous mapping, used as frames: a PRIVATE memory keeps it to
 * itself, a COHERENT one lends it to the core as its base. The copy op does its memcpy()
 * before it returns (inline) or queues it for one worker thread (ref_queue.h). The page
 * table is in ref_table.h.
 *
 * A device access looks the page up and touches it with the table's lock held. That is
 * what makes an invalidation wait until "the device has stopped using" a translation.
 * Pages mapped in place, and coherent ones, are reached at their CPU address (exclusive ones
 * at their own) by process_vm_readv() and its sister: where the program unmapped the page a
 * moment ago, they answer EFAULT instead of raising a signal, and the access becomes a device
 * fault. Where the kernel may not fault pages in, they answer EFAULT too, and options.touch
 * does it.
 *
 * Invariants: a valid entry is only used under the table's lock; the table is only
 * programmed under it, after umm_notifier_read_retry() said no; invalidation clears under it.
 *
 * Locks: use (outermost, shared: device accesses; exclusive: quiesce), table (innermost;
 * held over device accesses and over clearing), watch (the number of events heard), and
 * the queue's own. The copy op of an inline device and everything that it counts take
 * none.
 */
#include "ref_device.h"
#include "ref_config.h"
#include "ref_copy.h"
#include "ref_memory.h"
#include "ref_queue.h"
#include "ref_table.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#define SCRIBBLE 0xdb

struct ref_private {
	struct ref_options options;
	_Atomic int policy;
	struct memory *memories; /* grows only; changes while nothing of the device is used */

	struct ref_counts counts; /* atomics, by count_add() and count_of() */
	_Atomic(struct config *) config;
	_Atomic unsigned refuse; /* invalidations to answer with -EAGAIN */
	_Atomic int callbacks;	 /* mirror callbacks that run now */

	pthread_rwlock_t use_lock; /* shared by who uses the umm objects, against quiesce */
	_Atomic bool quiesced;

	pthread_mutex_t table_lock; /* Protects: root and everything below it */
	struct table *root;

	pthread_mutex_t watch_lock; /* orders counts.events against watch_cond */
	pthread_cond_t watch_cond;

	struct queue queue;   /* not of an inline device */
	struct ref_real real; /* the backend below, if there is one */
};

static ref_backend *backend;

void ref_backend_use(ref_backend *make)
{
	backend = make;
}

bool ref_backend_used(void)
{
	return backend;
}

static uint64_t count_add(uint64_t *counter, uint64_t n)
{
	return __atomic_fetch_add(counter, n, __ATOMIC_SEQ_CST);
}

static uint64_t count_of(const uint64_t *counter)
{
	return __atomic_load_n(counter, __ATOMIC_SEQ_CST);
}

static void violation(struct ref_private *p, const char *what)
{
	count_add(&p->counts.violations, 1);
	fprintf(stderr, "reference device: the core broke its contract: %s\n", what);
}

/* ---- copies ----------------------------------------------------------------------- */

static bool copy_is_sane(struct ref_private *p, const struct umm_copy *copy)
{
	const struct memory *memory = umm_devmem_priv(copy->mem);

	if (copy->npages == 0 || copy->npages > memory->options.nframes ||
	    copy->frame > memory->options.nframes - copy->npages) {
		violation(p, "a copy of frames that the memory does not have");
		return false;
	}
	if ((uintptr_t)copy->host % UMM_PAGE_SIZE ||
	    (!copy->host && copy->dir == UMM_COPY_FROM_DEVICE)) {
		violation(p, "a copy with a bad host address");
		return false;
	}
	return true;
}

static void copy_one(const struct umm_copy *copy)
{
	char *frame = memory_frame(umm_devmem_priv(copy->mem), copy->frame);
	size_t len = (size_t)copy->npages * UMM_PAGE_SIZE;

	if (copy->dir == UMM_COPY_FROM_DEVICE)
		copy_pages(copy->host, frame, len);
	else if (copy->host)
		copy_pages(frame, copy->host, len);
	else
		memset(frame, 0, len);
}

/* The backend's memory is the backend's to copy. */
static bool is_real(const struct umm_devmem *mem, const struct ref_private *p)
{
	return p->real.mem && p->real.mem == mem;
}

static void count_copy(struct ref_private *p, const struct umm_copy *copy)
{
	if (copy->dir == UMM_COPY_FROM_DEVICE)
		count_add(&p->counts.pages_out, copy->npages);
	else
		count_add(copy->host ? &p->counts.pages_in : &p->counts.pages_cleared,
			  copy->npages);
	if (copy->host)
		count_add(&p->counts.copies, 1);
}

/* What a failing device leaves at the destination: anything but the data. */
static void copy_garbage(struct ref_private *p, const struct umm_copy *copies, unsigned ncopies)
{
	unsigned i;

	for (i = 0; i < ncopies; i++)
		if (copies[i].dir == UMM_COPY_FROM_DEVICE && copy_is_sane(p, &copies[i]))
			memset(copies[i].host, SCRIBBLE, (size_t)copies[i].npages * UMM_PAGE_SIZE);
}

/* Copy, and signal `done` when that is complete. */
static void copy_run(struct ref_private *p, const struct umm_copy *copies, unsigned ncopies,
		     int error, struct umm_fence *done)
{
	unsigned i;

	if (error)
		copy_garbage(p, copies, ncopies);
	for (i = 0; i < ncopies && !error; i++)
		if (copy_is_sane(p, &copies[i]))
			count_copy(p, &copies[i]);
	if (!error && is_real(copies[0].mem, p)) {
		error = p->real.ops.copy(p->real.priv, copies, ncopies, done);
		if (error)
			umm_fence_signal(done, error, 0);
		return;
	}
	for (i = 0; i < ncopies && !error; i++)
		if (copy_is_sane(p, &copies[i]))
			copy_one(&copies[i]);
	umm_fence_signal(done, error, 0);
}

/* The worker's gates are around it, so it waits for a backend that has threads of its own. */
static void job_run(void *priv, struct job *job)
{
	struct umm_fence *end;
	int ret = umm_fence_create(&end);

	if (!ret) {
		copy_run(priv, job->copies, job->ncopies, job->error, end);
		ret = umm_fence_wait(end, -1);
		umm_fence_put(end);
	}
	job->error = ret;
}

static int ref_op_copy(void *priv, const struct umm_copy *copies, unsigned ncopies,
		       struct umm_fence *done)
{
	struct ref_private *p = priv;
	struct config *config = atomic_load(&p->config);
	int error = config_failure(config, copies, ncopies);

	count_add(&p->counts.calls, 1);
	if (count_of(&p->counts.destroys))
		violation(p, "copy after destroy");
	if (ncopies == 0)
		violation(p, "a copy call without copies");
	if (error)
		count_add(&p->counts.failures, 1);
	if (error && config->failure.refuse)
		return error;
	if (!p->options.inline_copy)
		return queue_push(&p->queue, copies, ncopies, done, error);
	copy_run(p, copies, ncopies, error, done);
	return 0;
}

static void ref_op_page_free(void *priv, struct umm_devmem *mem, uint32_t frame, uint32_t nframes)
{
	struct ref_private *p = priv;
	const struct memory *memory = umm_devmem_priv(mem);
	uint32_t all = memory->options.nframes;

	if (count_of(&p->counts.destroys))
		violation(p, "page_free after destroy");
	if (nframes == 0 || nframes > all || frame > all - nframes) {
		violation(p, "page_free of frames that the memory does not have");
		return;
	}
	count_add(&p->counts.pages_freed, nframes);
	/* Whoever still reads the frame shall notice. A coherent base is the core's to touch. */
	if (!p->options.keep_freed && memory->options.type == UMM_DEVMEM_PRIVATE)
		memset(memory_frame(memory, frame), SCRIBBLE, (size_t)nframes * UMM_PAGE_SIZE);
	if (is_real(mem, p) && p->real.ops.page_free)
		p->real.ops.page_free(p->real.priv, mem, frame, nframes);
}

/* Device accesses end, and later ones are refused: the umm objects are about to go. */
static void ref_op_quiesce(void *priv)
{
	struct ref_private *p = priv;

	if (atomic_exchange(&p->quiesced, true))
		violation(p, "quiesced twice");
	pthread_rwlock_wrlock(&p->use_lock);
	pthread_rwlock_unlock(&p->use_lock);
	if (p->real.ops.quiesce)
		p->real.ops.quiesce(p->real.priv);
}

static void ref_op_destroy(void *priv)
{
	struct ref_private *p = priv;

	if (count_add(&p->counts.destroys, 1))
		violation(p, "destroyed twice");
	if (!atomic_load(&p->quiesced))
		violation(p, "destroy without quiesce");
	if (count_of(&p->counts.releases) != 1)
		violation(p, "destroy does not come after one release");
	if (p->real.ops.destroy)
		p->real.ops.destroy(p->real.priv);
}

static int ref_op_populate(void *priv, struct umm_devmem *mem, uint32_t frame, uint32_t nframes)
{
	struct ref_private *p = priv;

	if (is_real(mem, p))
		return p->real.ops.populate(p->real.priv, mem, frame, nframes);
	return memory_populate(umm_devmem_priv(mem), frame, nframes);
}

static void ref_op_place(void *priv, struct umm_devmem *mem, bool begin)
{
	struct ref_private *p = priv;

	if (is_real(mem, p))
		p->real.ops.place(p->real.priv, mem, begin);
}

static void ref_op_memory_failure(void *priv, struct umm_devmem *mem, uint32_t frame)
{
	struct ref_private *p = priv;

	if (frame >= umm_devmem_nframes(mem))
		violation(p, "memory_failure of a frame that the memory does not have");
	count_add(&p->counts.frames_failed, 1);
}

static const struct umm_device_ops ref_ops = {
	.size = sizeof(struct umm_device_ops),
	.api = UMM_DEVICE_API,
	.name = "reference",
	.copy = ref_op_copy,
	.page_free = ref_op_page_free,
	.quiesce = ref_op_quiesce,
	.destroy = ref_op_destroy,
	.memory_failure = ref_op_memory_failure,
};

/* ---- mirror ----------------------------------------------------------------------- */

static bool invalidate_refused(struct ref_private *p)
{
	unsigned n = atomic_load(&p->refuse);

	while (n)
		if (atomic_compare_exchange_weak(&p->refuse, &n, n - 1))
			return true;
	return false;
}

static void event_heard(struct ref_private *p, enum umm_event event)
{
	count_add(&p->counts.invalidations, 1);
	if ((unsigned)event > UMM_EVENT_EXCLUSIVE) {
		violation(p, "an unknown event");
		return;
	}
	pthread_mutex_lock(&p->watch_lock);
	count_add(&p->counts.events[event], 1);
	pthread_cond_broadcast(&p->watch_cond);
	pthread_mutex_unlock(&p->watch_lock);
}

static int invalidate_clear(struct ref_private *p, const struct umm_notifier_range *range)
{
	if (!range->blockable) {
		count_add(&p->counts.unblockable, 1);
		if (invalidate_refused(p) || pthread_mutex_trylock(&p->table_lock)) {
			count_add(&p->counts.refused, 1);
			return -EAGAIN;
		}
	} else {
		pthread_mutex_lock(&p->table_lock);
	}
	table_clear(p->root, TOP_LEVEL, 0, range->start, range->end);
	pthread_mutex_unlock(&p->table_lock);
	return 0;
}

static int ref_mirror_invalidate(void *priv, const struct umm_notifier_range *range)
{
	struct ref_private *p = priv;
	struct config *config = atomic_load(&p->config);
	int ret;

	atomic_fetch_add(&p->callbacks, 1);
	if (count_of(&p->counts.releases))
		violation(p, "invalidate after release");
	if (range->start >= range->end || range->start % UMM_PAGE_SIZE ||
	    (range->end % UMM_PAGE_SIZE && range->end != UINTPTR_MAX))
		violation(p, "an invalidation of a bad range");
	if (config->watch_fn)
		config->watch_fn(config->watch_priv, range);
	ret = invalidate_clear(p, range);
	if (ret == 0)
		event_heard(p, range->event);
	atomic_fetch_sub(&p->callbacks, 1);
	return ret;
}

static void ref_mirror_release(void *priv)
{
	struct ref_private *p = priv;

	if (atomic_load(&p->callbacks))
		violation(p, "release beside a running invalidate");
	if (count_add(&p->counts.releases, 1))
		violation(p, "released twice");
	pthread_mutex_lock(&p->table_lock);
	table_free(p->root, TOP_LEVEL);
	p->root = NULL;
	pthread_mutex_unlock(&p->table_lock);
}

static const struct umm_mirror_ops ref_mirror_ops = {
	.size = sizeof(struct umm_mirror_ops),
	.invalidate = ref_mirror_invalidate,
	.release = ref_mirror_release,
};

/* ---- device faults and accesses --------------------------------------------------- */

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

	pthread_mutex_lock(&p->table_lock);
	if (umm_notifier_read_retry(range->notifier, range->seq)) {
		pthread_mutex_unlock(&p->table_lock);
		return -EBUSY;
	}
	for (i = 0; i < npages && ret == 0; i++) {
		slot = table_slot(&p->root, range->start + i * UMM_PAGE_SIZE, true);
		if (slot)
			*slot = range->entries[i];
		else
			ret = -ENOMEM;
	}
	pthread_mutex_unlock(&p->table_lock);
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

/* Bring the page, and its neighbours if so configured, into device memory. */
static int fault_migrate(struct ref_device *ref, uintptr_t addr)
{
	struct ref_private *p = ref->priv;
	size_t window = (size_t)(p->options.fault_pages ? p->options.fault_pages : 1);
	struct umm_span span = { .len = window * UMM_PAGE_SIZE };
	struct umm_migrate_request req = {
		.size = sizeof(req),
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
		ret = fault_migrate(ref, addr);
		if (ret)
			return ret;
	}
	return map_range(ref, addr, 1, write);
}

void *ref_frame(struct ref_device *ref, uint32_t frame)
{
	return memory_frame(umm_devmem_priv(ref->mem), frame);
}

/* Where the CPU has what an entry says that is not a private frame. */
static uintptr_t entry_host(uint64_t entry, uintptr_t addr)
{
	return entry & UMM_ENTRY_COHERENT ? addr : UMM_ENTRY_ADDR(entry) + addr % UMM_PAGE_SIZE;
}

/* Touch memory at a CPU address. -EFAULT: nothing is there. */
static int touch_in_place(uintptr_t addr, void *buf, size_t len, bool write)
{
	struct iovec local = { .iov_base = buf, .iov_len = len };
	struct iovec remote = { .iov_base = (char *)addr, .iov_len = len };
	ssize_t n;

	if (write)
		n = process_vm_writev(getpid(), &local, 1, &remote, 1, 0);
	else
		n = process_vm_readv(getpid(), &local, 1, &remote, 1, 0);
	return n == (ssize_t)len ? 0 : -EFAULT;
}

/*
 * Access what lies inside one page. 0; -EAGAIN the table has no fitting entry; -EFAULT it had one,
 * of a page in place that is not there.
 */
static int access_locked(struct ref_device *ref, uintptr_t addr, void *buf, size_t len, bool write)
{
	uint64_t *slot = table_slot(&ref->priv->root, addr, false);
	char *frame;

	if (!slot || !(*slot & UMM_ENTRY_VALID) || (write && !(*slot & UMM_ENTRY_WRITE)))
		return -EAGAIN;
	if (!(*slot & UMM_ENTRY_DEVICE)) {
		if (touch_in_place(entry_host(*slot, addr), buf, len, write) == 0)
			return 0;
		*slot = 0;
		return -EFAULT;
	}
	frame = ref_frame(ref, UMM_ENTRY_FRAME(*slot));
	if (write)
		memcpy(frame + addr % UMM_PAGE_SIZE, buf, len);
	else
		memcpy(buf, frame + addr % UMM_PAGE_SIZE, len);
	return 0;
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
		pthread_mutex_lock(&p->table_lock);
		ret = access_locked(ref, addr, buf, part, write);
		pthread_mutex_unlock(&p->table_lock);
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
	uint64_t *slot, entry;

	pthread_mutex_lock(&p->table_lock);
	slot = table_slot(&p->root, addr, false);
	entry = slot ? *slot : 0;
	pthread_mutex_unlock(&p->table_lock);
	return entry;
}

/* Enter pages that are ours exclusively; leave the others. */
static int exclusive_enter(struct ref_device *ref, uintptr_t addr, size_t npages,
			   const uint64_t *entries, uint64_t seq)
{
	struct ref_private *p = ref->priv;
	int ret = 0;

	pthread_mutex_lock(&p->table_lock);
	if (umm_notifier_read_retry(umm_mirror_notifier(ref->mirror), seq))
		ret = -EBUSY;
	for (size_t i = 0; i < npages && ret == 0; i++) {
		uint64_t *slot = table_slot(&p->root, addr + i * UMM_PAGE_SIZE, true);

		if (slot)
			*slot = entries[i];
		else
			ret = -ENOMEM;
	}
	pthread_mutex_unlock(&p->table_lock);
	return ret;
}

static long make_exclusive(struct ref_device *ref, uintptr_t addr, size_t npages)
{
	uint64_t *entries = calloc(npages, sizeof(*entries)), seq;
	long n, ret;

	if (!entries)
		return -ENOMEM;
	do {
		seq = umm_notifier_read_begin(umm_mirror_notifier(ref->mirror));
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
	uintptr_t page = addr & ~(UMM_PAGE_SIZE - 1);
	uint64_t *slot, *word;
	int ret = -EAGAIN;

	pthread_mutex_lock(&ref->priv->table_lock);
	slot = table_slot(&ref->priv->root, addr, false);
	if (slot && *slot & UMM_ENTRY_WRITE && !(*slot & (UMM_ENTRY_DEVICE | UMM_ENTRY_COHERENT)) &&
	    UMM_ENTRY_ADDR(*slot) != page) {
		word = (uint64_t *)entry_host(*slot, addr);
		*old = *word;
		/* Two steps on purpose: nobody else may be there in between. */
		*(volatile uint64_t *)word = *old + n;
		ret = 0;
	}
	pthread_mutex_unlock(&ref->priv->table_lock);
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

/* ---- gates, failures, counts ------------------------------------------------------ */

void ref_gate_close(struct ref_device *ref, enum ref_gate gate)
{
	gate_set(&ref->priv->queue, gate, true);
}

void ref_gate_open(struct ref_device *ref, enum ref_gate gate)
{
	gate_set(&ref->priv->queue, gate, false);
}

bool ref_gate_wait(struct ref_device *ref, enum ref_gate gate, unsigned timeout_ms)
{
	return gate_wait(&ref->priv->queue, gate, timeout_ms);
}

int ref_fail(struct ref_device *ref, const struct ref_failure *failure)
{
	static const struct ref_failure none;
	struct config *config = config_copy(atomic_load(&ref->priv->config));

	if (!config)
		return -ENOMEM;
	config->failure = failure ? *failure : none;
	config->failures_left = config->failure.times;
	atomic_store(&ref->priv->config, config);
	return 0;
}

void ref_refuse_invalidations(struct ref_device *ref, unsigned n)
{
	atomic_store(&ref->priv->refuse, n);
}

int ref_watch(struct ref_device *ref,
	      void (*fn)(void *priv, const struct umm_notifier_range *range), void *priv)
{
	struct config *config = config_copy(atomic_load(&ref->priv->config));

	if (!config)
		return -ENOMEM;
	config->watch_fn = fn;
	config->watch_priv = priv;
	atomic_store(&ref->priv->config, config);
	return 0;
}

bool ref_wait_event(struct ref_device *ref, enum umm_event event, uint64_t n, unsigned timeout_ms)
{
	struct ref_private *p = ref->priv;
	struct timespec until;
	bool heard;
	int ret = 0;

	deadline_in(&until, timeout_ms);
	pthread_mutex_lock(&p->watch_lock);
	while (count_of(&p->counts.events[event]) < n && ret == 0)
		ret = pthread_cond_timedwait(&p->watch_cond, &p->watch_lock, &until);
	heard = count_of(&p->counts.events[event]) >= n;
	pthread_mutex_unlock(&p->watch_lock);
	return heard;
}

struct ref_counts ref_counts(struct ref_device *ref)
{
	const uint64_t *from = (const uint64_t *)&ref->priv->counts;
	struct ref_counts out;
	size_t i;

	for (i = 0; i < sizeof(out) / sizeof(*from); i++)
		((uint64_t *)&out)[i] = count_of(&from[i]);
	return out;
}

/* ---- life ------------------------------------------------------------------------- */

int ref_memory_add(struct ref_device *ref, enum umm_devmem_type type, uint32_t nframes,
		   struct umm_devmem **out)
{
	struct memory *memory = calloc(1, sizeof(*memory));
	int ret;

	if (!memory)
		return -ENOMEM;
	memory->options.size = sizeof(memory->options);
	memory->options.type = type;
	memory->options.nframes = nframes;
	ret = memory_map(memory);
	if (ret)
		goto err_free;
	ret = umm_devmem_add(ref->dev, &memory->options, out);
	if (ret)
		goto err_unmap;
	umm_devmem_priv_set(*out, memory);
	memory->next = ref->priv->memories;
	ref->priv->memories = memory;
	return 0;

err_unmap:
	memory_unmap(memory);
err_free:
	free(memory);
	return ret;
}

static void private_free(struct ref_private *p)
{
	struct memory *memory;
	struct config *config;

	while ((config = atomic_load(&p->config))) {
		atomic_store(&p->config, config->older);
		free(config);
	}
	while ((memory = p->memories)) {
		p->memories = memory->next;
		memory_unmap(memory);
		free(memory);
	}
	table_free(p->root, TOP_LEVEL);
	pthread_rwlock_destroy(&p->use_lock);
	pthread_mutex_destroy(&p->table_lock);
	pthread_mutex_destroy(&p->watch_lock);
	pthread_cond_destroy(&p->watch_cond);
	free(p);
}

static struct ref_private *private_create(const struct ref_options *options)
{
	struct ref_private *p = calloc(1, sizeof(*p));

	if (!p)
		return NULL;
	p->options = *options;
	p->policy = (int)options->policy;
	p->config = config_copy(NULL);
	if (!p->config) {
		free(p);
		return NULL;
	}
	pthread_rwlock_init(&p->use_lock, NULL);
	pthread_mutex_init(&p->table_lock, NULL);
	pthread_mutex_init(&p->watch_lock, NULL);
	cond_init(&p->watch_cond);
	return p;
}

/* In the place of a backend's umm_device_create(): its operations come after ours. */
static int real_join(void *priv, const struct umm_device_ops *ops, void *real_priv,
		     struct umm_device **dev)
{
	struct ref_device *ref = priv;
	struct ref_private *p = ref->priv;
	struct umm_device_ops mine = ref_ops;

	p->real.ops = *ops;
	p->real.priv = real_priv;
	mine.populate = ops->populate ? ref_op_populate : NULL;
	mine.place = ops->place ? ref_op_place : NULL;
	return umm_device_create(ref->ctx, &mine, p,
				 p->options.inline_copy ? UMM_DEVICE_INLINE_COPY : 0, dev);
}

/* A device with one memory, both a backend's. */
static int real_create(struct ref_device *ref)
{
	struct ref_private *p = ref->priv;
	struct memory *memory = calloc(1, sizeof(*memory));
	int ret = -ENOMEM;

	if (memory)
		ret = backend(ref, &p->options, real_join, &p->real);
	if (ret) {
		free(memory);
		return ret;
	}
	ref->mem = p->real.mem;
	ref->dev = umm_devmem_device(ref->mem);
	memory->options.type = p->options.type;
	memory->options.nframes = p->options.nframes;
	memory->frames = p->real.frames;
	umm_devmem_priv_set(ref->mem, memory);
	memory->next = p->memories;
	p->memories = memory;
	return 0;
}

static int own_create(struct ref_device *ref)
{
	struct ref_private *p = ref->priv;
	int ret;

	ret = umm_device_create(ref->ctx, &ref_ops, p,
				p->options.inline_copy ? UMM_DEVICE_INLINE_COPY : 0, &ref->dev);
	if (ret)
		return ret;
	ret = ref_memory_add(ref, p->options.type, p->options.nframes, &ref->mem);
	if (ret)
		umm_device_destroy(ref->dev);
	return ret;
}

/* Create the umm objects; on failure nothing of them is left. */
static int objects_create(struct ref_device *ref)
{
	struct ref_private *p = ref->priv;
	int ret;

	ret = backend ? real_create(ref) : own_create(ref);
	if (ret)
		return ret;
	ret = umm_mirror_register(ref->dev, &ref_mirror_ops, p, &ref->mirror);
	if (ret)
		umm_device_destroy(ref->dev);
	return ret;
}

int ref_create(struct umm_ctx *ctx, const struct ref_options *options, struct ref_device **out)
{
	struct ref_device *ref = calloc(1, sizeof(*ref));
	int ret = -ENOMEM;

	if (!ref)
		return -ENOMEM;
	ref->ctx = ctx;
	ref->priv = private_create(options);
	if (!ref->priv)
		goto err_free;
	if (!options->inline_copy) {
		ret = queue_start(&ref->priv->queue, job_run, ref->priv);
		if (ret)
			goto err_private;
	}
	ret = objects_create(ref);
	if (ret)
		goto err_queue;
	*out = ref;
	return 0;

err_queue:
	if (!options->inline_copy)
		queue_stop(&ref->priv->queue);
err_private:
	private_free(ref->priv);
err_free:
	free(ref);
	return ret;
}

bool ref_destroy(struct ref_device *ref)
{
	bool good;

	if (!ref)
		return true;
	if (!count_of(&ref->priv->counts.destroys))
		umm_device_destroy(ref->dev);
	if (!count_of(&ref->priv->counts.destroys))
		violation(ref->priv, "the device is gone without a call of destroy");
	good = count_of(&ref->priv->counts.violations) == 0;
	if (!ref->priv->options.inline_copy)
		queue_stop(&ref->priv->queue);
	private_free(ref->priv);
	free(ref);
	return good;
}
