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
	if (!numa->frames.alone)
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
};

/* How many frames the caller gets: 0 or -errno, said in the log. */
static int frames_wanted(const struct umm_numa_options *options, const struct node *node,
			 uint32_t *nframes)
{
	uint64_t bytes = options->bytes ? options->bytes : node->free_bytes / 2;

	bytes = (bytes + UMM_BLOCK_SIZE - 1) & ~(uint64_t)(UMM_BLOCK_SIZE - 1);
	if (!bytes)
		bytes = UMM_BLOCK_SIZE;
	if (bytes > node->total_bytes || bytes < options->bytes) {
		umm_log(UMM_LOG_ERROR,
			"a pool of %llu MiB was asked for, and node %d has %llu MiB in all: ask "
			"for less, or for 0 to get half of what is free",
			(unsigned long long)options->bytes >> 20, node->number,
			(unsigned long long)node->total_bytes >> 20);
		return -ENOSPC;
	}
	*nframes = (uint32_t)(bytes >> UMM_PAGE_SHIFT);
	return 0;
}

static bool is_alone(const struct nodes *nodes)
{
	unsigned with_memory = 0;

	for (unsigned i = 0; i < nodes->count; i++)
		with_memory += nodes->node[i].total_bytes > 0;
	return with_memory < 2;
}

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
static struct umm_numa *numa_open(const struct umm_numa_options *options, const struct nodes *nodes,
				  const struct node *node, const struct library *library, int *ret)
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
	*ret = frames_wanted(options, node, &nframes);
	if (!*ret)
		*ret = frames_init(&numa->frames, library, node->number, is_alone(nodes), nframes);
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
		numa = numa_open(&mine, nodes, node, library, &ret);
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

/*
 * Take what frames are free, move them to a node, and make them free again. Frames that pages have,
 * or are on their way to or from, are not among them. Returns how many of those are left, or
 * -ENOMEM. (To drop them instead would leave empty places, which only the core may fill.)
 */
static long move_free(struct umm_numa *numa, int node)
{
	static const uint32_t steps[] = { UMM_BLOCK_PAGES, 32, 1 };
	uint32_t *list = malloc(numa->frames.nframes * sizeof(*list));
	uint64_t made;
	uint32_t n = 0;

	if (!list)
		return -ENOMEM;
	for (unsigned i = 0; i < sizeof(steps) / sizeof(steps[0]); i++)
		while (n + steps[i] <= numa->frames.nframes &&
		       !umm_devmem_alloc(numa->mem, steps[i], list + n))
			n += steps[i];
	/* Afterwards: others that had begun to make frames may only now be done. */
	made = atomic_load(&numa->frames.taken);
	if (node >= 0)
		frames_move(&numa->frames, n, list, node);
	umm_devmem_free(numa->mem, n, list);
	free(list);
	return (long)made - (long)n;
}

/* The nearest node but this one; -1: there is none. */
static int other_node(struct umm_numa *numa, int *ret)
{
	struct nodes *nodes = nodes_get(numa->library, ret);
	int node = -1;

	for (unsigned i = nodes ? nodes->count : 0; i-- > 0;)
		if (!nodes->node[i].usable && nodes->node[i].number != numa->node)
			node = nodes->node[i].number;
	free(nodes);
	return node;
}

int umm_numa_offline(struct umm_numa *numa)
{
	long left = 0;
	int ret, other;

	if (!numa)
		return -EINVAL;
	if (numa->owner != getpid())
		return -ENODEV;
	if (umm_in_callback())
		return -EDEADLK;
	other = other_node(numa, &ret);
	if (ret)
		return ret;
	atomic_store(&numa->frames.offline, true);
	/* What was on its way there arrives first. */
	for (unsigned i = 0; i < OFFLINE_TRIES; i++) {
		umm_devmem_evict(numa->mem, umm_devmem_nframes(numa->mem));
		left = move_free(numa, other);
		if (left <= 0)
			return (int)left;
		nanosleep(&(struct timespec){ .tv_nsec = 1000000 }, NULL);
	}
	umm_log(UMM_LOG_ERROR,
		"node %d: %ld pages did not come home: they are pinned or locked by others (direct "
		"I/O, RDMA, mlock), or there is no memory at home. Try again later",
		numa->node, left);
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
	move_free(numa, numa->frames.alone ? -1 : numa->node);
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
