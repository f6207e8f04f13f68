/* SPDX-License-Identifier: MIT */
/*
 * The frames of a memory node are one reservation of address space whose policy prefers
 * the node. A COHERENT memory lends them to the core, which moves them into the program's
 * mappings and back.
 *
 * The policy prefers and does not bind, because a process that touches bound memory of a
 * full node is killed. So frames are populated explicitly, and looked at: what the kernel had to
 * take from elsewhere is given back, and the node counts as full.
 *
 * Others may move a frame: automatic NUMA balancing, migratepages(8), a cpuset that changes, the
 * kernel when it removes memory, or fork(), after which the side that writes first gets a copy. So
 * frames that come back are looked at, and strays moved back; and of frames that are lent, the
 * first of each call, for what moves idle frames moves all of them.
 *
 * Who populates memory beyond the limit of a memory cgroup is killed too. So each time frames are
 * populated as much must be left there as brings every page of all pools home again while they keep
 * their frames, and once more as much: for what is on its way, and for kernels without
 * UFFDIO_MOVE, which have each page twice. The program may grow afterwards: so what comes home
 * and may stay as well asks once more.
 *
 * Invariants: a place whose frame is lent stays empty: nothing here touches places, it only asks
 * the kernel about them.
 * Locks: frames->returning, held while the kernel moves strays back.
 */
#include "frames.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "clock.h"
#include "limit.h"
#include "sysfs.h"

#define BATCH	       UMM_BLOCK_PAGES
#define POLICY_NODES   1024
#define POLICY_WORDS   (POLICY_NODES / (8 * sizeof(unsigned long)))
#define POLICY_UNTAKEN (-1)
#ifndef MPOL_F_STATIC_NODES
#define MPOL_F_STATIC_NODES (1 << 15) /* of the kernel's; libnuma's header does not have it */
#endif
#define ALONE_NS    UINT64_C(100000000)
#define HOME_SAY_NS UINT64_C(1000000000)
/* Further from a limit than all that copy threads have on their way. */
#define HOME_ROOM ((uint64_t)256 << 20)
/* Kernels without UFFDIO_MOVE have a block twice for a moment, once for each copy thread. */
#define HOME_SPARE (4 * UMM_BLOCK_SIZE)
/* The core counts in 32 bits, and rounds up to blocks. */
#define NFRAMES_MAX (UINT32_MAX - UMM_BLOCK_PAGES + 1)

/* Why frames are not to be had. */
enum refusal {
	REFUSED_NOT,
	REFUSED_GONE,
	REFUSED_UNKNOWN,
	REFUSED_FULL,
	REFUSED_CLOSED,
	REFUSED_CPUSET,
	REFUSED_LIMIT,
};

/*
 * mlockall() locks and fills what there is: the pool is not accessible, which nothing fills, until
 * frames of it are populated, and is not locked when it is made.
 */
static int frames_open(void *at, size_t len)
{
	syscall(SYS_munlock, at, len);
	return mprotect(at, len, PROT_READ | PROT_WRITE);
}

/* Gives them back, locked or not; and what mlockall() fills from now on is not the pool's. */
static void frames_close(void *at, size_t len)
{
	syscall(SYS_munlock, at, len);
	madvise(at, len, MADV_DONTNEED);
	mprotect(at, len, PROT_NONE);
}

/* What the thread's policy was. Not to be allocated when first used: that may be on a fault. */
static _Thread_local struct {
	int mode;
	unsigned long mask[POLICY_WORDS];
} before __attribute__((tls_model("initial-exec")));

int frames_wanted(uint64_t bytes, const struct node *node, uint32_t *nframes)
{
	static const uint64_t most = (uint64_t)NFRAMES_MAX << UMM_PAGE_SHIFT;
	uint64_t len = bytes ? bytes : node->free_bytes / 2;

	if (!bytes && len > most)
		len = most;
	len = (len + UMM_BLOCK_SIZE - 1) & ~(uint64_t)(UMM_BLOCK_SIZE - 1);
	if (!len)
		len = UMM_BLOCK_SIZE;
	if (len > node->total_bytes || len < bytes || len > most) {
		umm_log(UMM_LOG_ERROR,
			"a pool of %llu MiB was asked for, and node %d has %llu MiB in all, of "
			"which a pool has %llu at most: ask for less, or for 0 to get half of "
			"what is free",
			(unsigned long long)bytes >> 20, node->number,
			(unsigned long long)node->total_bytes >> 20,
			(unsigned long long)most >> 20);
		return -ENOSPC;
	}
	*nframes = (uint32_t)(len >> UMM_PAGE_SHIFT);
	return 0;
}

static int frames_map(struct frames *frames, size_t len)
{
	uintptr_t base;

	frames->mapped_len = len + UMM_BLOCK_SIZE;
	frames->mapped = mmap(NULL, frames->mapped_len, PROT_NONE,
			      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (frames->mapped == MAP_FAILED) {
		umm_log(UMM_LOG_ERROR,
			"node %d: there are no addresses for a pool of %llu MiB: raise 'ulimit "
			"-v', or ask for a smaller pool",
			frames->node, (unsigned long long)len >> 20);
		return -ENOMEM;
	}
	syscall(SYS_munlock, frames->mapped, frames->mapped_len);
	base = ((uintptr_t)frames->mapped + UMM_BLOCK_SIZE - 1) & ~(UMM_BLOCK_SIZE - 1);
	frames->base = (char *)frames->mapped + (base - (uintptr_t)frames->mapped);
	madvise(frames->base, len, MADV_HUGEPAGE);
	/* A forked process has no business with it, and would make the frames shared. */
	madvise(frames->mapped, frames->mapped_len, MADV_DONTFORK);
	return 0;
}

int frames_init(struct frames *frames, const struct library *library, int node, uint32_t nframes)
{
	size_t len = (size_t)nframes << UMM_PAGE_SHIFT;
	int ret;

	memset(frames, 0, sizeof(*frames));
	frames->library = library;
	frames->node = node;
	frames->owner = getpid();
	frames->nframes = nframes;
	frames->mask = library->nodemask();
	if (!frames->mask)
		return -ENOMEM;
	library->set_bit(frames->mask, (unsigned)node);
	ret = frames_map(frames, len);
	if (ret)
		goto err_mask;
	if (library->mbind(frames->base, len, MPOL_PREFERRED | MPOL_F_STATIC_NODES,
			   frames->mask->maskp, frames->mask->size + 1, 0)) {
		ret = -errno;
		umm_log(UMM_LOG_ERROR, "node %d: mbind: %s", node, strerror(-ret));
		ret = ret == -EINVAL || ret == -EPERM ? -ENODEV : ret;
		goto err_map;
	}
	pthread_mutex_init(&frames->returning, NULL);
	limit_start();
	return 0;

err_map:
	munmap(frames->mapped, frames->mapped_len);
err_mask:
	library->free_mask(frames->mask);
	return ret;
}

void frames_fini(struct frames *frames)
{
	pthread_mutex_destroy(&frames->returning);
	if (frames->owner == getpid()) {
		munmap(frames->mapped, frames->mapped_len);
		limit_pools_add(-(int64_t)(atomic_load(&frames->held) << UMM_PAGE_SHIFT));
	}
	frames->library->free_mask(frames->mask);
}

/* The pages of a run; at most BATCH. */
static void run_pages(const struct frames *frames, uint32_t frame, uint32_t n, void **pages)
{
	for (uint32_t i = 0; i < n; i++)
		pages[i] = frames_at(frames, frame + i);
}

/* How many of them are on other nodes: those pages come first in pages[]. */
static uint32_t strays(const struct frames *frames, uint32_t n, void **pages)
{
	int status[BATCH];
	uint32_t nstrays = 0;

	if (frames->library->move_pages(0, n, pages, NULL, status, 0))
		return 0;
	for (uint32_t i = 0; i < n; i++)
		if (status[i] >= 0 && status[i] != frames->node)
			pages[nstrays++] = pages[i];
	return nstrays;
}

static void tell(const struct frames *frames, enum refusal why, const char *limit)
{
	unsigned long long mib = atomic_load(&frames->held) >> 8;

	if (why == REFUSED_GONE)
		umm_log(UMM_LOG_WARNING,
			"node %d has no memory any more, %llu MiB of it were in use: pages stay "
			"where they are. Bring its memory online again ('chmem -e')",
			frames->node, mib);
	else if (why == REFUSED_UNKNOWN)
		umm_log(UMM_LOG_WARNING,
			"node %d cannot be asked for its memory, of which %llu MiB are in use: "
			"pages stay where they are. Close files, or raise 'ulimit -n'",
			frames->node, mib);
	else if (why == REFUSED_CLOSED)
		umm_log(UMM_LOG_WARNING,
			"node %d: after %llu MiB no more of the pool can be mapped: pages stay "
			"where they are. Raise 'ulimit -d', or the sysctl vm.max_map_count",
			frames->node, mib);
	else if (why == REFUSED_FULL)
		umm_log(UMM_LOG_WARNING,
			"node %d is full after %llu MiB: pages stay where they are, or others are "
			"evicted. Free memory there ('numactl -H'), or ask for a smaller pool",
			frames->node, mib);
	else if (why == REFUSED_CPUSET)
		umm_log(UMM_LOG_WARNING,
			"node %d has left this process's cpuset after %llu MiB: pages stay where "
			"they are. Add it to cpuset.mems of its control group (/proc/self/cgroup)",
			frames->node, mib);
	else
		umm_log(UMM_LOG_WARNING,
			"node %d: after %llu MiB a memory cgroup leaves no room for more, if all "
			"of them are to come home again: pages stay where they are. Raise %s, or "
			"ask for a smaller pool",
			frames->node, mib, limit);
}

static bool cpuset_allows(const struct frames *frames)
{
	unsigned long mask[POLICY_WORDS] = { 0 };
	size_t bits = 8 * sizeof(mask[0]), node = (size_t)frames->node;

	return frames->library->get_mempolicy(NULL, mask, POLICY_NODES + 1, NULL,
					      MPOL_F_MEMS_ALLOWED) ||
	       mask[node / bits] >> node % bits & 1;
}

/* Can the node give them? Asked first, for the kernel takes from elsewhere. */
static enum refusal node_gives(const struct frames *frames, uint64_t len)
{
	uint64_t total, unused;

	if (sysfs_is_short(node_memory(frames->node, &total, &unused)))
		return REFUSED_UNKNOWN;
	if (!total)
		return REFUSED_GONE;
	if (!cpuset_allows(frames))
		return REFUSED_CPUSET;
	return unused < len ? REFUSED_FULL : REFUSED_NOT;
}

bool frames_alone(struct frames *frames)
{
	uint64_t now = clock_ns();
	char text[64];

	if (now - atomic_load(&frames->alone_ns) >= ALONE_NS) {
		/* A list of one. */
		atomic_store(&frames->alone,
			     !sysfs_read(NODES_ROOT "/has_memory", text, sizeof(text)) && text[0] &&
				     !strpbrk(text, ",-"));
		atomic_store(&frames->alone_ns, now);
	}
	return atomic_load(&frames->alone);
}

static enum refusal may_take(struct frames *frames, uint64_t len, char file[LIMIT_FILE])
{
	enum refusal why = frames_alone(frames) ? REFUSED_NOT : node_gives(frames, len);

	/* Room for all pools with these frames, twice. */
	if (why == REFUSED_NOT && !limit_ask(len, 2 * limit_pools() + len, file))
		why = REFUSED_LIMIT;
	return why;
}

static int refuse(struct frames *frames, uint32_t nframes, enum refusal why, const char *limit)
{
	atomic_fetch_add(&frames->refused, nframes);
	if (atomic_exchange(&frames->told, why) != (int)why)
		tell(frames, why, limit);
	return -ENOSPC;
}

/* The frames' memory, if the node has it. */
static int populate(struct frames *frames, uint32_t frame, uint32_t nframes)
{
	size_t len = (size_t)nframes << UMM_PAGE_SHIFT;
	void *at = frames_at(frames, frame), *pages[BATCH];

	if (frames_open(at, len))
		return refuse(frames, nframes, REFUSED_CLOSED, NULL);
	if (madvise(at, len, MADV_POPULATE_WRITE))
		return errno == ENOMEM || errno == EFAULT ?
			       refuse(frames, nframes, REFUSED_FULL, NULL) :
			       -ENOMEM;
	run_pages(frames, frame, nframes, pages);
	if (strays(frames, nframes, pages)) {
		frames_close(at, len);
		return refuse(frames, nframes, REFUSED_FULL, NULL);
	}
	atomic_fetch_add(&frames->taken, nframes);
	atomic_fetch_add(&frames->held, nframes);
	limit_pools_add((int64_t)len);
	return 0;
}

int frames_populate(struct frames *frames, uint32_t frame, uint32_t nframes)
{
	size_t len = (size_t)nframes << UMM_PAGE_SHIFT;
	char limit[LIMIT_FILE];
	enum refusal why;
	int ret;

	if (atomic_load(&frames->offline)) {
		atomic_fetch_add(&frames->refused, nframes);
		return -ENODEV;
	}
	why = may_take(frames, len, limit);
	if (why != REFUSED_NOT)
		return refuse(frames, nframes, why, limit);
	ret = populate(frames, frame, nframes);
	limit_taken(len);
	if (!ret)
		atomic_store(&frames->told, REFUSED_NOT);
	return ret;
}

void frames_unpopulate(struct frames *frames, uint32_t frame, uint32_t nframes)
{
	size_t len = (size_t)nframes << UMM_PAGE_SHIFT;

	frames_close(frames_at(frames, frame), len);
	atomic_fetch_sub(&frames->held, nframes);
	limit_pools_add(-(int64_t)len);
}

static void home_refused(struct frames *frames, const char *limit)
{
	uint64_t now = clock_ns(), told = atomic_load(&frames->home_told_ns);

	if ((told && now - told < HOME_SAY_NS) ||
	    !atomic_compare_exchange_strong(&frames->home_told_ns, &told, now))
		return;
	umm_log(UMM_LOG_WARNING,
		"node %d: a memory cgroup leaves no room for pages that are to come home: libumm "
		"gives back what it keeps, and pages for which that is not enough stay. Raise %s",
		frames->node, limit);
}

int frames_home(struct frames *frames, const struct umm_copy *copies, unsigned ncopies)
{
	char limit[LIMIT_FILE];
	uint64_t len = 0;
	int ret = 0;

	if (limit_is_far(HOME_ROOM))
		return 0;
	for (unsigned i = 0; i < ncopies; i++)
		len += (uint64_t)copies[i].npages << UMM_PAGE_SHIFT;
	if (!limit_ask(len, HOME_SPARE, limit)) {
		home_refused(frames, limit);
		return -ENOMEM;
	}
	for (unsigned i = 0; i < ncopies && !ret; i++)
		if (madvise(copies[i].host, (size_t)copies[i].npages << UMM_PAGE_SHIFT,
			    MADV_POPULATE_WRITE))
			ret = -ENOMEM;
	limit_taken(len);
	return ret;
}

/* Move those of at most BATCH frames that are elsewhere back. False: not all of them. */
static bool strays_return_locked(struct frames *frames, uint32_t frame, uint32_t n)
{
	int nodes[BATCH], status[BATCH];
	void *pages[BATCH];
	uint32_t nstrays, left;

	run_pages(frames, frame, n, pages);
	nstrays = strays(frames, n, pages);
	if (!nstrays)
		return true;
	atomic_fetch_add(&frames->strayed, nstrays);
	for (uint32_t i = 0; i < nstrays; i++)
		nodes[i] = frames->node;
	frames->library->move_pages(0, nstrays, pages, nodes, status, MPOL_MF_MOVE);
	/* Of a huge page that was moved it says so only once: look. */
	left = strays(frames, nstrays, pages);
	atomic_fetch_add(&frames->returned, nstrays - left);
	return !left;
}

/* One at a time: a frame that another thread is moving back does not move for this one. */
static bool strays_return(struct frames *frames, uint32_t frame, uint32_t n)
{
	bool all;

	pthread_mutex_lock(&frames->returning);
	all = strays_return_locked(frames, frame, n);
	pthread_mutex_unlock(&frames->returning);
	return all;
}

int frames_settle(struct frames *frames, uint32_t frame, uint32_t nframes)
{
	void *first = frames_at(frames, frame);
	enum refusal why;

	if (frames_alone(frames) || !strays(frames, 1, &first))
		return 0;
	if (nframes > BATCH)
		nframes = BATCH;
	if (strays_return(frames, frame, nframes))
		return 0;
	why = node_gives(frames, 0);
	return refuse(frames, nframes, why != REFUSED_NOT ? why : REFUSED_FULL, NULL);
}

void frames_check(struct frames *frames, uint32_t frame, uint32_t nframes)
{
	uint32_t n;

	for (; nframes; nframes -= n, frame += n) {
		n = nframes < BATCH ? nframes : BATCH;
		if (!atomic_load(&frames->offline))
			strays_return(frames, frame, n);
		atomic_fetch_add(&frames->checked, n);
	}
}

void frames_place_begin(struct frames *frames)
{
	before.mode = POLICY_UNTAKEN;
	if (frames_alone(frames) ||
	    frames->library->get_mempolicy(&before.mode, before.mask, POLICY_NODES + 1, NULL, 0)) {
		before.mode = POLICY_UNTAKEN;
		return;
	}
	if (frames->library->set_mempolicy(MPOL_PREFERRED, frames->mask->maskp,
					   frames->mask->size + 1))
		before.mode = POLICY_UNTAKEN;
}

void frames_place_end(const struct frames *frames)
{
	if (before.mode != POLICY_UNTAKEN)
		frames->library->set_mempolicy(before.mode, before.mask, POLICY_NODES + 1);
}
