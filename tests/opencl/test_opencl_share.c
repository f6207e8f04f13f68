/* SPDX-License-Identifier: MIT */
/*
 * One request by two threads, on a device that needs no OpenCL: its copies are made here, and say
 * which thread asked for them.
 */
#include "rig.h"

#include <pthread.h>
#include <sched.h>
#include <unistd.h>

#include "share.h"

#define BLOCKS ((size_t)4)
#define FRAMES (BLOCKS * UMM_BLOCK_PAGES)

/* The device: memory that the core does not reach by itself. */
struct copies {
	pthread_mutex_t lock; /* Protects: what follows; inside: nothing */
	pthread_cond_t changed;
	pthread_t threads[2];
	unsigned nthreads; /* that copied */
	unsigned wanted;   /* copies wait until so many have come */
	int fails;	   /* with this error */
	size_t npages;
	char *frames;
};

static struct copies copies = {
	.lock = PTHREAD_MUTEX_INITIALIZER,
	.changed = PTHREAD_COND_INITIALIZER,
};

static void count_thread_locked(void)
{
	for (unsigned i = 0; i < copies.nthreads; i++)
		if (pthread_equal(copies.threads[i], pthread_self()))
			return;
	assert_true(copies.nthreads < 2);
	copies.threads[copies.nthreads++] = pthread_self();
	pthread_cond_broadcast(&copies.changed);
}

static int copy(void *priv, const struct umm_copy *list, unsigned n, struct umm_fence *done)
{
	(void)priv;
	pthread_mutex_lock(&copies.lock);
	count_thread_locked();
	while (copies.nthreads < copies.wanted)
		pthread_cond_wait(&copies.changed, &copies.lock);
	for (unsigned i = 0; i < n; i++)
		copies.npages += list[i].npages;
	pthread_mutex_unlock(&copies.lock);
	for (unsigned i = 0; i < n; i++) {
		char *frame = copies.frames + list[i].frame * PAGE;

		if (list[i].dir == UMM_COPY_FROM_DEVICE)
			memcpy(list[i].host, frame, list[i].npages * PAGE);
		else if (list[i].host)
			memcpy(frame, list[i].host, list[i].npages * PAGE);
		else
			memset(frame, 0, list[i].npages * PAGE);
	}
	umm_fence_signal(done, copies.fails, 0);
	return 0;
}

static const struct umm_device_ops ops = {
	.size = sizeof(struct umm_device_ops),
	.api = UMM_DEVICE_API,
	.name = "copies",
	.copy = copy,
};

/* As much of a device of the backend's as sharing takes; reachable: so is its memory. */
static void open_device(struct rig *rig, struct umm_opencl *ocl, bool reachable)
{
	struct umm_devmem_options memory = { .size = sizeof(memory), .nframes = FRAMES };

	rig_alloc(rig, PAGE); /* the context */
	*ocl = (struct umm_opencl){ .ctx = rig->ctx, .owner = getpid() };
	ocl->pools.npools = 1;
	copies.frames = calloc(FRAMES, PAGE);
	assert_non_null(copies.frames);
	ocl->pools.host[0] = reachable ? copies.frames : NULL;
	assert_int_equal(umm_device_create(rig->ctx, &ops, NULL, 0, &ocl->dev), 0);
	assert_int_equal(umm_devmem_add(ocl->dev, &memory, &ocl->mem), 0);
	assert_int_equal(share_create(ocl), 0);
	copies.nthreads = copies.wanted = 0;
	copies.npages = 0;
	copies.fails = 0;
}

static void close_device(struct umm_opencl *ocl)
{
	share_destroy(ocl);
	umm_device_destroy(ocl->dev);
	free(copies.frames);
}

static struct umm_migrate_request request_of(struct umm_opencl *ocl, const struct umm_span *spans,
					     size_t nspans)
{
	return (struct umm_migrate_request){
		.size = sizeof(struct umm_migrate_request),
		.flags = UMM_MIGRATE_DUPLICATE,
		.spans = spans,
		.nspans = nspans,
		.dst = ocl->mem,
		.cause = UMM_CAUSE_DEVICE_FAULT,
	};
}

static long bring(struct umm_opencl *ocl, const struct umm_span *spans, size_t nspans)
{
	struct umm_migrate_request request = request_of(ocl, spans, nspans);

	share_begin(ocl, &request);
	return share_finish(ocl);
}

/* So many pages that begin in the middle of a block. */
static uint32_t *numbered(struct rig *rig, size_t npages)
{
	char *memory = rig_alloc(rig, (npages + UMM_BLOCK_PAGES) * PAGE);
	uintptr_t middle = ((uintptr_t)memory | (BLOCK - 1)) + 1 - BLOCK / 2;
	uint32_t *words = (uint32_t *)(middle < (uintptr_t)memory ? middle + BLOCK : middle);

	for (size_t i = 0; i < npages * PAGE / 4; i++)
		words[i] = (uint32_t)i;
	return words;
}

static void one_span_is_brought_by_two_threads(void **state)
{
	struct rig *rig = *state;
	struct umm_opencl ocl;
	struct umm_span span;
	uint32_t *words;

	open_device(rig, &ocl, true);
	words = numbered(rig, FRAMES);
	span = (struct umm_span){ (uintptr_t)words, FRAMES * PAGE };
	copies.wanted = 2;
	assert_int_equal(bring(&ocl, &span, 1), FRAMES);
	assert_int_equal(copies.nthreads, 2);
	assert_int_equal(copies.npages, FRAMES);
	assert_int_equal(rig_pages_in(rig, words, FRAMES * PAGE, UMM_PAGE_DUPLICATED), FRAMES);
	/* And again, from where it began; nothing is missing. */
	copies.wanted = 0;
	assert_int_equal(bring(&ocl, &span, 1), 0);
	assert_int_equal(copies.npages, FRAMES);
	close_device(&ocl);
	assert_int_equal(rig_sum(words, 4), 6);
}

static void scattered_pages_come_once_each(void **state)
{
	struct rig *rig = *state;
	struct umm_span spans[FRAMES / 3];
	struct umm_opencl ocl;
	size_t n = 0;
	char *p;

	open_device(rig, &ocl, true);
	p = (char *)numbered(rig, FRAMES);
	/* Now and then one that lies in two blocks. */
	for (size_t i = 0; i + 3 <= FRAMES; i += 3)
		spans[n++] = (struct umm_span){ (uintptr_t)p + i * PAGE, 2 * PAGE };
	copies.wanted = 2;
	assert_int_equal(bring(&ocl, spans, n), 2 * n);
	assert_int_equal(copies.npages, 2 * n);
	for (size_t i = 0; i < n; i++) {
		char *at = p + 3 * i * PAGE;

		assert_int_equal(rig_pages_in(rig, at, 2 * PAGE, UMM_PAGE_DUPLICATED), 2);
		assert_int_equal(rig_pages_in(rig, at + 2 * PAGE, PAGE, UMM_PAGE_SYSTEM), 1);
	}
	close_device(&ocl);
}

static void several_requests_are_one_sum(void **state)
{
	struct rig *rig = *state;
	struct umm_migrate_request copied, moved;
	struct umm_span spans[2];
	struct umm_opencl ocl;
	uint32_t *words;

	open_device(rig, &ocl, true);
	words = numbered(rig, FRAMES);
	spans[0] = (struct umm_span){ (uintptr_t)words, FRAMES / 2 * PAGE };
	spans[1] = (struct umm_span){ spans[0].start + spans[0].len, FRAMES / 2 * PAGE };
	moved = request_of(&ocl, &spans[0], 1);
	moved.flags = 0;
	copied = request_of(&ocl, &spans[1], 1);
	share_begin(&ocl, &moved);
	share_begin(&ocl, &copied);
	assert_int_equal(share_finish(&ocl), FRAMES);
	assert_int_equal(rig_pages_in(rig, words, FRAMES / 2 * PAGE, UMM_PAGE_DEVICE), FRAMES / 2);
	assert_int_equal(rig_pages_in(rig, (char *)words + FRAMES / 2 * PAGE, FRAMES / 2 * PAGE,
				      UMM_PAGE_DUPLICATED),
			 FRAMES / 2);
	close_device(&ocl);
}

static bool has_two_cpus(void)
{
	cpu_set_t cpus;

	assert_int_equal(sched_getaffinity(0, sizeof(cpus), &cpus), 0);
	return CPU_COUNT(&cpus) > 1;
}

/* There commands take the time, and those of one request go on at once anyway; or gathering. */
static void memory_that_the_host_does_not_reach_is_shared_where_pages_are_scattered(void **state)
{
	struct rig *rig = *state;
	struct umm_span spans[FRAMES / 3];
	struct umm_opencl ocl;
	struct umm_span span;
	size_t n = 0;

	open_device(rig, &ocl, false);
	span = (struct umm_span){ (uintptr_t)numbered(rig, FRAMES), FRAMES * PAGE };
	assert_false(share_pays(&ocl, &span, 1));
	for (size_t i = 0; i + 3 <= FRAMES; i += 3)
		spans[n++] = (struct umm_span){ span.start + i * PAGE, 2 * PAGE };
	assert_int_equal(share_pays(&ocl, spans, n), has_two_cpus());
	copies.wanted = 2;
	assert_int_equal(bring(&ocl, spans, n), 2 * n);
	assert_int_equal(copies.npages, 2 * n);
	close_device(&ocl);
}

static void few_pages_are_not_shared(void **state)
{
	struct rig *rig = *state;
	struct umm_opencl ocl;
	struct umm_span span;

	open_device(rig, &ocl, true);
	span = (struct umm_span){ (uintptr_t)numbered(rig, FRAMES), FRAMES * PAGE };
	assert_int_equal(share_pays(&ocl, &span, 1), has_two_cpus());
	span.len = 8 * PAGE;
	assert_false(share_pays(&ocl, &span, 1));
	close_device(&ocl);
}

static void pages_that_refuse_are_no_error(void **state)
{
	struct rig *rig = *state;
	struct umm_opencl ocl;
	struct umm_span spans[2];
	char *none = malloc(PAGE), *p;

	assert_non_null(none);
	open_device(rig, &ocl, true);
	spans[0] = (struct umm_span){ (uintptr_t)none & ~(uintptr_t)(PAGE - 1), PAGE };
	assert_int_equal(bring(&ocl, spans, 1), 0);
	p = (char *)numbered(rig, FRAMES + UMM_BLOCK_PAGES);
	spans[0] = (struct umm_span){ (uintptr_t)p, (FRAMES + UMM_BLOCK_PAGES) * PAGE };
	/* There is no room for all. */
	assert_in_range(bring(&ocl, spans, 1), 1, FRAMES + UMM_BLOCK_PAGES);
	close_device(&ocl);
	free(none);
}

static void an_error_of_the_device_is_told_where_nothing_moved(void **state)
{
	struct rig *rig = *state;
	struct umm_opencl ocl;
	struct umm_span span;

	open_device(rig, &ocl, true);
	copies.fails = -EINVAL;
	span = (struct umm_span){ (uintptr_t)numbered(rig, FRAMES), FRAMES * PAGE };
	assert_int_equal(bring(&ocl, &span, 1), -EINVAL);
	assert_int_equal(rig_pages_in(rig, (char *)span.start, span.len, UMM_PAGE_SYSTEM), FRAMES);
	/* That was this time. */
	copies.fails = 0;
	assert_int_equal(bring(&ocl, &span, 1), FRAMES);
	close_device(&ocl);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		rig_test(one_span_is_brought_by_two_threads),
		rig_test(scattered_pages_come_once_each),
		rig_test(several_requests_are_one_sum),
		rig_test(memory_that_the_host_does_not_reach_is_shared_where_pages_are_scattered),
		rig_test(few_pages_are_not_shared),
		rig_test(pages_that_refuse_are_no_error),
		rig_test(an_error_of_the_device_is_told_where_nothing_moved),
	};

	return rig_main("opencl-share", tests, argc, argv);
}
