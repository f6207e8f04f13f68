/* SPDX-License-Identifier: MIT */
/*
 * The reference device.
 *
 * Device memory is an anonymous mapping, used as frames: a PRIVATE memory keeps it to
 * itself, a COHERENT one lends it to the core as its base. The copy op does its memcpy()
 * before it returns (inline) or queues it for one worker thread (ref_queue.h). The page
 * table is in ref_table.c, and what uses it in ref_access.c.
 *
 * Invariants: a valid entry is only used under the table's lock; the table is only
 * programmed under it, after umm_notifier_read_retry() said no; invalidation clears under it.
 *
 * Locks: use (outermost, shared: device accesses; exclusive: quiesce), table (innermost;
 * held over device accesses and over clearing), watch (the number of events heard), and
 * the queue's own. The copy op of an inline device and everything that it counts take
 * none.
 */
#include "ref_private.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "ref_copy.h"

#define SCRIBBLE 0xdb

static ref_backend *backend;

void ref_backend_use(ref_backend *make)
{
	backend = make;
}

bool ref_backend_used(void)
{
	return backend;
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

/* By the backend; an inline device is done when this returns, whatever the backend does. */
static void real_copy(struct ref_private *p, const struct umm_copy *copies, unsigned ncopies,
		      struct umm_fence *done)
{
	struct umm_fence *end = done;
	int error = 0;

	if (p->options.inline_copy)
		error = umm_fence_create(&end);
	if (!error)
		error = p->real.ops.copy(p->real.priv, copies, ncopies, end);
	if (!error && end != done)
		error = umm_fence_wait(end, -1);
	else if (!error)
		return;
	umm_fence_signal(done, error, 0);
	if (end != done)
		umm_fence_put(end);
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
		real_copy(p, copies, ncopies, done);
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
	if (!p->options.keep_freed && memory->frames && memory->options.type == UMM_DEVMEM_PRIVATE)
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
	/* One that fails before it is complete has no mirror yet. */
	if (count_of(&p->counts.releases) != (p->ref->mirror ? 1 : 0))
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
	.accessed = ref_op_accessed,
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
	if ((unsigned)event >= UMM_EVENT_RELEASE) {
		violation(p, "an unknown event");
		return;
	}
	count_add(&p->counts.events[event], 1);
	/* Who waits says so before a last look at the count. */
	if (!atomic_load(&p->watchers))
		return;
	pthread_mutex_lock(&p->watch_lock);
	pthread_cond_broadcast(&p->watch_cond);
	pthread_mutex_unlock(&p->watch_lock);
}

static int invalidate_clear(struct ref_private *p, const struct umm_notifier_range *range)
{
	if (!range->blockable) {
		count_add(&p->counts.unblockable, 1);
		if (invalidate_refused(p) || pthread_mutex_trylock(&p->table_lock.mutex)) {
			count_add(&p->counts.refused, 1);
			return -EAGAIN;
		}
	} else {
		pthread_mutex_lock(&p->table_lock.mutex);
	}
	ref_table_clear(&p->table, range->start, range->end);
	pthread_mutex_unlock(&p->table_lock.mutex);
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
	pthread_mutex_lock(&p->table_lock.mutex);
	ref_table_empty(&p->table);
	pthread_mutex_unlock(&p->table_lock.mutex);
}

static const struct umm_mirror_ops ref_mirror_ops = {
	.size = sizeof(struct umm_mirror_ops),
	.invalidate = ref_mirror_invalidate,
	.release = ref_mirror_release,
};

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

	ref_deadline(&until, timeout_ms);
	pthread_mutex_lock(&p->watch_lock);
	atomic_fetch_add(&p->watchers, 1);
	while (count_of(&p->counts.events[event]) < n && ret == 0)
		ret = pthread_cond_timedwait(&p->watch_cond, &p->watch_lock, &until);
	heard = count_of(&p->counts.events[event]) >= n;
	atomic_fetch_sub(&p->watchers, 1);
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
	ref_table_empty(&p->table);
	pthread_rwlock_destroy(&p->use_lock);
	pthread_mutex_destroy(&p->table_lock.mutex);
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
	pthread_mutex_init(&p->table_lock.mutex, NULL);
	pthread_mutex_init(&p->watch_lock, NULL);
	ref_cond_init(&p->watch_cond);
	return p;
}

static uint64_t device_flags(const struct ref_private *p)
{
	return (p->options.apart ? 0 : UMM_DEVICE_IN_PLACE) |
	       (p->options.inline_copy ? UMM_DEVICE_INLINE_COPY : 0);
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
	return umm_device_create(ref->ctx, &mine, p, device_flags(p), dev);
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

	ret = umm_device_create(ref->ctx, &ref_ops, p, device_flags(p), &ref->dev);
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

	ret = backend ? real_create(ref) : -EOPNOTSUPP;
	if (ret == -EOPNOTSUPP)
		ret = own_create(ref);
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
	ref->priv->ref = ref;
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
