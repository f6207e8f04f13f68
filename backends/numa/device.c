/* SPDX-License-Identifier: MIT */
/*
 * A memory node as a device: an operations table, a pool of frames (frames.c) and copy
 * threads (copy.c). Everything else is the core's: a COHERENT memory's frames are moved into
 * the program's mappings and back, a PRIVATE one's stay in the pool and their data is copied.
 *
 * The device has no page table, hence no mirror: its "kernels" are threads of the
 * process (team.c), which the kernel's own page table serves.
 *
 * Invariants: while numa->dev is live, so are pool and copier. After fork() the child touches
 * neither: its pool is not mapped.
 * Locks: numa->lock for teams.
 */
#include "device.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "size.h"

#define COPY_THREADS_DEFAULT 4
#define OFFLINE_TRIES	     100

static int numa_copy(void *priv, const struct umm_copy *copies, unsigned ncopies,
		     struct umm_fence *done)
{
	struct umm_numa *numa = priv;
	int ret = 0;

	if (copies[0].dir == UMM_COPY_TO_DEVICE)
		ret = atomic_load(&numa->frames.offline) ?
			      -ENODEV :
			      frames_settle(&numa->frames, copies[0].frame, copies[0].npages);
	else if (copies[0].flags & UMM_COPY_MAY_STAY)
		ret = frames_home(&numa->frames, copies, ncopies);
	if (ret)
		return ret;
	copier_copy(&numa->copier, copies, ncopies, done);
	return 0;
}

/* Frames of a PRIVATE memory never leave the pool, and on one node nobody can move them. */
static void numa_page_free(void *priv, struct umm_devmem *mem, uint32_t frame, uint32_t nframes)
{
	struct umm_numa *numa = priv;

	(void)mem;
	if (!frames_alone(&numa->frames))
		copier_check(&numa->copier, frame, nframes);
}

static void numa_destroy(void *priv)
{
	struct umm_numa *numa = priv;

	copier_stop(&numa->copier);
	frames_fini(&numa->frames);
	pthread_cond_destroy(&numa->ended);
	pthread_mutex_destroy(&numa->lock);
	free(numa);
}

static void numa_quiesce(void *priv)
{
	struct umm_numa *numa = priv;

	pthread_mutex_lock(&numa->lock);
	numa->gone = true;
	while (numa->running)
		pthread_cond_wait(&numa->ended, &numa->lock);
	pthread_mutex_unlock(&numa->lock);
}

static int numa_populate(void *priv, struct umm_devmem *mem, uint32_t frame, uint32_t nframes)
{
	struct umm_numa *numa = priv;

	(void)mem;
	return frames_populate(&numa->frames, frame, nframes);
}

static void numa_unpopulate(void *priv, struct umm_devmem *mem, uint32_t frame, uint32_t nframes)
{
	struct umm_numa *numa = priv;

	(void)mem;
	frames_unpopulate(&numa->frames, frame, nframes);
}

static void numa_place(void *priv, struct umm_devmem *mem, bool begin)
{
	struct umm_numa *numa = priv;

	(void)mem;
	if (begin)
		frames_place_begin(&numa->frames);
	else
		frames_place_end(&numa->frames);
}

static const struct umm_device_ops numa_ops = {
	.size = sizeof(struct umm_device_ops),
	.api = UMM_DEVICE_API,
	.name = "numa",
	.copy = numa_copy,
	.page_free = numa_page_free,
	.destroy = numa_destroy,
	.quiesce = numa_quiesce,
	.populate = numa_populate,
	.place = numa_place,
	.unpopulate = numa_unpopulate,
};

static unsigned copy_threads(const struct umm_numa_options *options, const struct node *node)
{
	unsigned ncpus = cpus_count(&node->near);

	if (options->copy_threads)
		return options->copy_threads < COPY_THREADS_MAX ? options->copy_threads :
								  COPY_THREADS_MAX;
	if (!ncpus)
		return 1;
	return ncpus < COPY_THREADS_DEFAULT ? ncpus : COPY_THREADS_DEFAULT;
}

/* Pool and threads, without the umm objects. NULL: *ret. */
static struct umm_numa *numa_open(const struct umm_numa_options *options, const struct node *node,
				  const struct library *library, int *ret)
{
	struct umm_numa *numa = calloc(1, sizeof(*numa));
	uint32_t nframes;

	*ret = -ENOMEM;
	if (!numa)
		return NULL;
	numa->library = library;
	numa->node = node->number;
	numa->owner = getpid();
	numa->near = node->near;
	*ret = frames_wanted(options->bytes, node, &nframes);
	if (!*ret)
		*ret = frames_init(&numa->frames, library, node->number, nframes);
	if (*ret)
		goto err_free;
	*ret = copier_start(&numa->copier, &numa->frames, &numa->near, copy_threads(options, node));
	if (*ret)
		goto err_pool;
	pthread_mutex_init(&numa->lock, NULL);
	pthread_cond_init(&numa->ended, NULL);
	return numa;

err_pool:
	frames_fini(&numa->frames);
err_free:
	free(numa);
	return NULL;
}

/* The umm objects. From here on the device owns numa, also where this fails. */
static int numa_join(struct umm_numa *numa, struct umm_ctx *ctx, bool private)
{
	struct umm_devmem_options memory = {
		.size = sizeof(memory),
		.type = private ? UMM_DEVMEM_PRIVATE : UMM_DEVMEM_COHERENT,
		.nframes = numa->frames.nframes,
		.base = private ? NULL : numa->frames.base,
	};
	int ret;

	numa->ctx = ctx;
	ret = umm_device_create(ctx, &numa_ops, numa, UMM_DEVICE_INLINE_COPY | UMM_DEVICE_IN_PLACE,
				&numa->dev);
	if (ret) {
		numa_destroy(numa);
		return ret;
	}
	ret = umm_devmem_add(numa->dev, &memory, &numa->mem);
	if (ret)
		umm_device_destroy(numa->dev);
	return ret;
}

int umm_numa_create(struct umm_ctx *ctx, const struct umm_numa_options *options,
		    struct umm_numa **out)
{
	struct umm_numa_options mine = { .node = UMM_NUMA_FAR };
	const struct library *library;
	const struct node *node;
	struct umm_numa *numa = NULL;
	struct nodes *nodes;
	int ret = 0;

	if (!ctx || !out)
		return -EINVAL;
	if (options)
		ret = size_in(&mine, sizeof(mine), options);
	if (!ret && mine.flags & ~(uint64_t)UMM_NUMA_PRIVATE)
		ret = -EINVAL;
	if (!ret && umm_in_callback())
		ret = -EDEADLK;
	if (ret)
		return ret;
	library = library_get(mine.node, &ret);
	nodes = library ? nodes_get(library, &ret) : NULL;
	if (!nodes)
		return ret;
	node = nodes_find(nodes, mine.node);
	ret = -ENODEV;
	if (node)
		numa = numa_open(&mine, node, library, &ret);
	free(nodes);
	if (!numa)
		return ret;
	ret = numa_join(numa, ctx, mine.flags & UMM_NUMA_PRIVATE);
	if (!ret)
		*out = numa;
	return ret;
}

void umm_numa_destroy(struct umm_numa *numa)
{
	if (numa)
		umm_device_destroy(numa->dev);
}

struct umm_device *umm_numa_device(struct umm_numa *numa)
{
	return numa ? numa->dev : NULL;
}

struct umm_devmem *umm_numa_devmem(struct umm_numa *numa)
{
	return numa ? numa->mem : NULL;
}

int umm_numa_node(struct umm_numa *numa)
{
	return numa ? numa->node : -EINVAL;
}

static void say_what_is_left(struct umm_numa *numa)
{
	struct umm_stats stats = { .size = sizeof(stats) };
	unsigned long long pages = 0, mib = atomic_load(&numa->frames.held) >> 8;

	if (!umm_device_stats(numa->dev, &stats))
		pages = stats.device_pages;
	if (pages)
		umm_log(UMM_LOG_ERROR,
			"node %d: %llu pages did not come home: they are pinned or locked by "
			"others (direct I/O, RDMA, mlock), or there is no memory at home. The pool "
			"keeps %llu MiB of the node for them. Try again later",
			numa->node, pages, mib);
	else
		umm_log(UMM_LOG_ERROR,
			"node %d: the pool keeps %llu MiB of it: frames that failed, that "
			"umm_devmem_alloc() gave to the program, or that are on their way. Free "
			"them, and try again",
			numa->node, mib);
}

int umm_numa_offline(struct umm_numa *numa)
{
	if (!numa)
		return -EINVAL;
	if (numa->owner != getpid())
		return -ENODEV;
	if (umm_in_callback())
		return -EDEADLK;
	atomic_store(&numa->frames.offline, true);
	/* What was on its way there arrives first. */
	for (unsigned i = 0; i < OFFLINE_TRIES; i++) {
		umm_devmem_evict(numa->mem, umm_devmem_nframes(numa->mem));
		umm_devmem_trim(numa->mem);
		if (!atomic_load(&numa->frames.held))
			return 0;
		nanosleep(&(struct timespec){ .tv_nsec = 1000000 }, NULL);
	}
	say_what_is_left(numa);
	return -EBUSY;
}

int umm_numa_online(struct umm_numa *numa)
{
	struct nodes *nodes;
	int ret;

	if (!numa)
		return -EINVAL;
	if (numa->owner != getpid())
		return -ENODEV;
	if (umm_in_callback())
		return -EDEADLK;
	nodes = nodes_get(numa->library, &ret);
	if (!nodes)
		return ret;
	ret = nodes_find(nodes, numa->node) ? 0 : -ENODEV;
	free(nodes);
	if (ret)
		return ret;
	atomic_store(&numa->frames.offline, false);
	return 0;
}

int umm_numa_counts(struct umm_numa *numa, struct umm_numa_counts *out)
{
	struct umm_numa_counts counts = { 0 };
	int ret = numa ? size_check(out, sizeof(counts)) : -EINVAL;

	if (ret)
		return ret;
	counts.copies_inline = atomic_load(&numa->copier.inlined);
	counts.copies_threaded = atomic_load(&numa->copier.threaded);
	counts.bytes_streamed = atomic_load(&numa->copier.streamed);
	counts.frames_taken = atomic_load(&numa->frames.taken);
	counts.frames_refused = atomic_load(&numa->frames.refused);
	counts.frames_checked = atomic_load(&numa->frames.checked);
	counts.frames_strayed = atomic_load(&numa->frames.strayed);
	counts.frames_returned = atomic_load(&numa->frames.returned);
	counts.teams = atomic_load(&numa->teams);
	size_out(out, &counts, sizeof(counts));
	return 0;
}
