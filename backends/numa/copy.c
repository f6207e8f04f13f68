/* SPDX-License-Identifier: MIT */
/*
 * The copy engine. A call with few pages, or scattered ones, copies them where it is made: that is
 * a page fault, or a change of threads would cost more than the copy. Others become a job, of which
 * threads next to the node take slices until nothing is left; the one that ends the last slice
 * signals the fence, and so commits the pages. Copies of many pages are stored past the
 * caches, where they would only push out what the program uses.
 *
 * Jobs are made beforehand: who asks for a copy may hold malloc's locks. Where none is
 * left, the caller copies by itself.
 *
 * Invariants: a job is unused, queued (something of it is not begun), or only
 * held by the threads that have slices of it. Its last slice to end frees it, once.
 * Locks: copier->lock, never held while copying or signalling.
 */
#include "copy.h"

#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#ifdef __SSE2__
#include <emmintrin.h>
#endif

#define INLINE_PAGES 16
#define SHORT_RUN    4 /* pages: shorter ones, on average, are scattered */
#define SLICE_PAGES  128
#define STREAM_BYTES ((size_t)64 << 10)
#define NJOBS	     32

/* A list of copies on its way; or frames to check, as one copy without a fence. */
struct copy_job {
	struct copy_job *next;
	struct umm_fence *done;
	unsigned ncopies;
	unsigned at;	/* first copy that is not begun entirely, */
	uint32_t begun; /* and pages of it that are */
	unsigned held;	/* slices that are being copied */
	struct umm_copy copies[UMM_BLOCK_PAGES];
};

struct slice {
	struct copy_job *job;
	unsigned first, last; /* copies */
	uint32_t skip;	      /* pages of the first that others have */
	uint32_t npages;      /* in all */
};

#ifdef __x86_64__
/* A few whole pages, as the kernel copies one: fast on every CPU, and on emulated ones. */
static void copy_pages(void *dst, const void *src, size_t len)
{
	size_t nwords = len / sizeof(uint64_t);

	__asm__ volatile("rep movsq" : "+D"(dst), "+S"(src), "+c"(nwords) : : "memory");
}
#else
static void copy_pages(void *dst, const void *src, size_t len)
{
	memcpy(dst, src, len);
}
#endif

#ifdef __SSE2__
/* Whole pages, past the caches. */
static void stream(void *dst, const void *src, size_t len)
{
	const __m128i *from = src;
	__m128i *to = dst, *end = to + len / sizeof(*to);

	for (; to < end; to += 4, from += 4) {
		__m128i a = _mm_load_si128(from), b = _mm_load_si128(from + 1);
		__m128i c = _mm_load_si128(from + 2), d = _mm_load_si128(from + 3);

		_mm_stream_si128(to, a);
		_mm_stream_si128(to + 1, b);
		_mm_stream_si128(to + 2, c);
		_mm_stream_si128(to + 3, d);
	}
	_mm_sfence();
}

static void stream_zero(void *dst, size_t len)
{
	__m128i *to = dst, *end = to + len / sizeof(*to), zero = _mm_setzero_si128();

	for (; to < end; to++)
		_mm_stream_si128(to, zero);
	_mm_sfence();
}
#else
static void stream(void *dst, const void *src, size_t len)
{
	memcpy(dst, src, len);
}

static void stream_zero(void *dst, size_t len)
{
	memset(dst, 0, len);
}
#endif

static void copy_bytes(struct copier *copier, void *dst, const void *src, size_t len)
{
	if (len < STREAM_BYTES) {
		copy_pages(dst, src, len);
		return;
	}
	stream(dst, src, len);
	atomic_fetch_add(&copier->streamed, len);
}

static void clear_bytes(struct copier *copier, void *dst, size_t len)
{
	if (len < STREAM_BYTES) {
		memset(dst, 0, len);
		return;
	}
	stream_zero(dst, len);
	atomic_fetch_add(&copier->streamed, len);
}

/* Pages skip .. skip + npages of a copy. */
static void copy_part(struct copier *copier, const struct umm_copy *copy, uint32_t skip,
		      uint32_t npages)
{
	char *frame = frames_at(copier->frames, copy->frame + skip);
	char *host = copy->host ? (char *)copy->host + ((size_t)skip << UMM_PAGE_SHIFT) : NULL;
	size_t len = (size_t)npages << UMM_PAGE_SHIFT;

	if (copy->dir == UMM_COPY_FROM_DEVICE)
		copy_bytes(copier, host, frame, len);
	else if (host)
		copy_bytes(copier, frame, host, len);
	else
		clear_bytes(copier, frame, len);
}

static void copy_here(struct copier *copier, const struct umm_copy *copies, unsigned ncopies,
		      struct umm_fence *done)
{
	for (unsigned i = 0; i < ncopies; i++)
		copy_part(copier, &copies[i], 0, copies[i].npages);
	atomic_fetch_add(&copier->inlined, 1);
	umm_fence_signal(done, 0, 0);
}

static uint32_t pages_of(const struct umm_copy *copies, unsigned ncopies)
{
	uint32_t npages = 0;

	for (unsigned i = 0; i < ncopies; i++)
		npages += copies[i].npages;
	return npages;
}

/* Queue a job with a copy of the list. False: there is none to be had. */
static bool job_queue(struct copier *copier, const struct umm_copy *copies, unsigned ncopies,
		      struct umm_fence *done)
{
	struct copy_job *job;

	pthread_mutex_lock(&copier->lock);
	job = copier->unused;
	if (job) {
		copier->unused = job->next;
		memcpy(job->copies, copies, ncopies * sizeof(*copies));
		job->ncopies = ncopies;
		job->done = done;
		job->at = 0;
		job->begun = 0;
		job->held = 0;
		job->next = NULL;
		*copier->tail = job;
		copier->tail = &job->next;
		pthread_cond_broadcast(&copier->more);
	}
	pthread_mutex_unlock(&copier->lock);
	return job;
}

/*
 * Few pages are copied at once. So are scattered ones: it takes longer to move them into and out of
 * mappings than to copy them, and each of these moves would wait for the other CPU's TLB flush if a
 * thread of ours, which commits what it has copied, ran beside whoever goes on with the next.
 */
static bool is_callers(const struct umm_copy *copies, unsigned ncopies)
{
	uint32_t npages = pages_of(copies, ncopies);

	return npages <= INLINE_PAGES || npages < SHORT_RUN * ncopies || ncopies > UMM_BLOCK_PAGES;
}

void copier_copy(struct copier *copier, const struct umm_copy *copies, unsigned ncopies,
		 struct umm_fence *done)
{
	if (is_callers(copies, ncopies) || !job_queue(copier, copies, ncopies, done))
		copy_here(copier, copies, ncopies, done);
	else
		atomic_fetch_add(&copier->threaded, 1);
}

void copier_check(struct copier *copier, uint32_t frame, uint32_t nframes)
{
	struct umm_copy check = { .frame = frame, .npages = nframes };

	job_queue(copier, &check, 1, NULL);
}

/* Take the next slice of the first job, which leaves the queue when nothing of it is left. */
static void slice_take_locked(struct copier *copier, struct slice *slice)
{
	struct copy_job *job = copier->head;

	slice->job = job;
	slice->first = job->at;
	slice->skip = job->begun;
	slice->npages = 0;
	while (job->at < job->ncopies && slice->npages < SLICE_PAGES) {
		uint32_t left = job->copies[job->at].npages - job->begun;

		if (job->done && left > SLICE_PAGES - slice->npages) {
			job->begun += SLICE_PAGES - slice->npages;
			slice->npages = SLICE_PAGES;
			break;
		}
		slice->npages += left;
		job->begun = 0;
		job->at++;
	}
	slice->last = job->at < job->ncopies && job->begun ? job->at + 1 : job->at;
	job->held++;
	if (job->at == job->ncopies) {
		copier->head = job->next;
		if (!copier->head)
			copier->tail = &copier->head;
	}
}

static void slice_copy(struct copier *copier, const struct slice *slice)
{
	const struct umm_copy *copies = slice->job->copies;
	uint32_t skip = slice->skip, left = slice->npages, n;

	if (!slice->job->done) {
		frames_check(copier->frames, copies[0].frame, copies[0].npages);
		return;
	}
	for (unsigned i = slice->first; i < slice->last; i++) {
		n = copies[i].npages - skip;
		if (n > left)
			n = left;
		copy_part(copier, &copies[i], skip, n);
		left -= n;
		skip = 0;
	}
}

/* The slice is done; if its job is, say so. */
static void slice_end_locked(struct copier *copier, struct copy_job *job)
{
	struct umm_fence *done = job->done;

	if (--job->held || job->at < job->ncopies)
		return;
	job->next = copier->unused;
	copier->unused = job;
	if (!done)
		return;
	pthread_mutex_unlock(&copier->lock);
	umm_fence_signal(done, 0, 0);
	pthread_mutex_lock(&copier->lock);
}

static void *copier_main(void *arg)
{
	struct copier *copier = arg;
	struct slice slice;

	pthread_mutex_lock(&copier->lock);
	for (;;) {
		while (!copier->head && !copier->stop)
			pthread_cond_wait(&copier->more, &copier->lock);
		if (!copier->head)
			break;
		slice_take_locked(copier, &slice);
		pthread_mutex_unlock(&copier->lock);
		slice_copy(copier, &slice);
		pthread_mutex_lock(&copier->lock);
		slice_end_locked(copier, slice.job);
	}
	pthread_mutex_unlock(&copier->lock);
	return NULL;
}

static int threads_start(struct copier *copier, const struct cpus *cpus, unsigned nthreads)
{
	pthread_attr_t attr;
	sigset_t all, old;
	int ret = 0;

	sigfillset(&all);
	pthread_attr_init(&attr);
	cpus_bind(&attr, cpus);
	/* They take no signals: a handler might touch a page that waits for its own thread. */
	pthread_sigmask(SIG_SETMASK, &all, &old);
	while (copier->nthreads < nthreads && !ret) {
		ret = pthread_create(&copier->threads[copier->nthreads], &attr, copier_main,
				     copier);
		if (!ret)
			pthread_setname_np(copier->threads[copier->nthreads++], "umm-numa-copy");
	}
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	pthread_attr_destroy(&attr);
	if (ret)
		umm_log(UMM_LOG_ERROR,
			"node %d: copy thread %u of %u could not be started: %s. Raise 'ulimit -u' "
			"or pids.max of the control group, or ask for fewer",
			copier->frames->node, copier->nthreads + 1, nthreads, strerror(ret));
	return ret ? -EAGAIN : 0;
}

int copier_start(struct copier *copier, struct frames *frames, const struct cpus *cpus,
		 unsigned nthreads)
{
	memset(copier, 0, sizeof(*copier));
	copier->frames = frames;
	copier->tail = &copier->head;
	copier->jobs = mmap(NULL, NJOBS * sizeof(*copier->jobs), PROT_READ | PROT_WRITE,
			    MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (copier->jobs == MAP_FAILED)
		return -ENOMEM;
	for (unsigned i = 0; i < NJOBS; i++) {
		copier->jobs[i].next = copier->unused;
		copier->unused = &copier->jobs[i];
	}
	pthread_mutex_init(&copier->lock, NULL);
	pthread_cond_init(&copier->more, NULL);
	if (!threads_start(copier, cpus, nthreads))
		return 0;
	copier_stop(copier);
	return -EAGAIN;
}

void copier_stop(struct copier *copier)
{
	pthread_mutex_lock(&copier->lock);
	copier->stop = true;
	pthread_cond_broadcast(&copier->more);
	pthread_mutex_unlock(&copier->lock);
	for (unsigned i = 0; i < copier->nthreads; i++)
		pthread_join(copier->threads[i], NULL);
	pthread_cond_destroy(&copier->more);
	pthread_mutex_destroy(&copier->lock);
	munmap(copier->jobs, NJOBS * sizeof(*copier->jobs));
}
