/* SPDX-License-Identifier: MIT */
/*
 * What an application sees: the shared library and umm.h, nothing else. Every public
 * function is there, and its plainest use works.
 */
#include <dlfcn.h>
#include <errno.h>
#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmocka.h>

#include "umm.h"

#define FRAMES	     64
#define EXIT_SKIPPED 77

/* A device as small as it can be: frames in an array, copies at once. */
static char frames[FRAMES][UMM_PAGE_SIZE];
static unsigned destroyed, released, invalidated;

static int copy(void *priv, const struct umm_copy *copies, unsigned ncopies, struct umm_fence *done)
{
	(void)priv;
	for (unsigned i = 0; i < ncopies; i++) {
		const struct umm_copy *c = &copies[i];
		size_t len = (size_t)c->npages * UMM_PAGE_SIZE;

		if (c->dir == UMM_COPY_FROM_DEVICE)
			memcpy(c->host, frames[c->frame], len);
		else if (c->host)
			memcpy(frames[c->frame], c->host, len);
		else
			memset(frames[c->frame], 0, len);
	}
	umm_fence_signal(done, 0, 0);
	return 0;
}

static void destroy(void *priv)
{
	(void)priv;
	destroyed++;
}

static const struct umm_device_ops ops = {
	.size = sizeof(struct umm_device_ops),
	.api = UMM_DEVICE_API,
	.name = "array",
	.copy = copy,
	.destroy = destroy,
};

static int invalidate(void *priv, const struct umm_notifier_range *range)
{
	(void)priv;
	(void)range;
	__atomic_fetch_add(&invalidated, 1, __ATOMIC_SEQ_CST);
	return 0;
}

static void release(void *priv)
{
	(void)priv;
	released++;
}

static const struct umm_mirror_ops mirror_ops = {
	.size = sizeof(struct umm_mirror_ops),
	.invalidate = invalidate,
	.release = release,
};

static const struct umm_devmem_options memory = {
	.size = sizeof(memory),
	.type = UMM_DEVMEM_PRIVATE,
	.nframes = FRAMES,
};

static const struct umm_notifier_ops notifier_ops = {
	.size = sizeof(struct umm_notifier_ops),
	.invalidate = invalidate,
};

/* A context with one device and one allocation, for one test. */
struct world {
	struct umm_ctx *ctx;
	struct umm_device *dev;
	struct umm_devmem *mem;
	char *p; /* 8 pages, each filled with its number */
	/* Of some tests. */
	struct umm_mirror *mirror;
	void *plain; /* a page that is not managed */
};

static int setup(void **state)
{
	static struct world w;
	void *p;

	*state = &w;
	if (umm_ctx_create(NULL, &w.ctx) ||
	    umm_device_create(w.ctx, &ops, NULL, UMM_DEVICE_INLINE_COPY, &w.dev) ||
	    umm_devmem_add(w.dev, &memory, &w.mem) || umm_alloc(w.ctx, 8 * UMM_PAGE_SIZE, 0, &p))
		return -1;
	w.p = p;
	for (int i = 0; i < 8; i++)
		memset(w.p + i * UMM_PAGE_SIZE, i + 1, UMM_PAGE_SIZE);
	return 0;
}

static int teardown(void **state)
{
	struct world *w = *state;

	umm_ctx_put(w->ctx);
	return 0;
}

static void assert_data(const struct world *w)
{
	for (int i = 0; i < 8; i++) {
		assert_int_equal(w->p[i * UMM_PAGE_SIZE], i + 1);
		assert_int_equal(w->p[(i + 1) * UMM_PAGE_SIZE - 1], i + 1);
	}
}

/* ---- there -------------------------------------------------------------------------- */

#define FUNCTION(name)                      \
	{                                   \
#name, (void (*)(void))name \
	}

static const struct {
	const char *name;
	void (*address)(void);
} functions[] = {
	FUNCTION(umm_alloc),
	FUNCTION(umm_alloc_stats),
	FUNCTION(umm_attach),
	FUNCTION(umm_bring_home),
	FUNCTION(umm_counter_name),
	FUNCTION(umm_ctx_create),
	FUNCTION(umm_ctx_get),
	FUNCTION(umm_ctx_put),
	FUNCTION(umm_ctx_stats),
	FUNCTION(umm_detach),
	FUNCTION(umm_device_create),
	FUNCTION(umm_device_destroy),
	FUNCTION(umm_device_name),
	FUNCTION(umm_device_priv),
	FUNCTION(umm_device_stats),
	FUNCTION(umm_devmem_add),
	FUNCTION(umm_devmem_alloc),
	FUNCTION(umm_devmem_device),
	FUNCTION(umm_devmem_evict),
	FUNCTION(umm_devmem_free),
	FUNCTION(umm_devmem_nframes),
	FUNCTION(umm_devmem_nfree),
	FUNCTION(umm_devmem_priv),
	FUNCTION(umm_devmem_priv_set),
	FUNCTION(umm_devmem_remove),
	FUNCTION(umm_devmem_touch),
	FUNCTION(umm_fence_create),
	FUNCTION(umm_fence_eventfd),
	FUNCTION(umm_fence_get),
	FUNCTION(umm_fence_poll),
	FUNCTION(umm_fence_put),
	FUNCTION(umm_fence_signal),
	FUNCTION(umm_fence_value),
	FUNCTION(umm_fence_wait),
	FUNCTION(umm_free),
	FUNCTION(umm_locate),
	FUNCTION(umm_locate_range),
	FUNCTION(umm_log),
	FUNCTION(umm_log_set),
	FUNCTION(umm_migrate_finalize),
	FUNCTION(umm_migrate_host),
	FUNCTION(umm_migrate_pages),
	FUNCTION(umm_migrate_setup),
	FUNCTION(umm_migrate_spans),
	FUNCTION(umm_migrate_src_mem),
	FUNCTION(umm_migrate_to_device),
	FUNCTION(umm_migrate_to_system),
	FUNCTION(umm_mirror_notifier),
	FUNCTION(umm_mirror_register),
	FUNCTION(umm_mirror_unregister),
	FUNCTION(umm_notifier_insert),
	FUNCTION(umm_notifier_read_begin),
	FUNCTION(umm_notifier_read_retry),
	FUNCTION(umm_notifier_remove),
	FUNCTION(umm_page_size),
	FUNCTION(umm_probe),
	FUNCTION(umm_query),
	FUNCTION(umm_range_fault),
	FUNCTION(umm_range_snapshot),
	FUNCTION(umm_stats_print),
	FUNCTION(umm_strerror),
	FUNCTION(umm_version),
};

static void every_function_is_exported(void **state)
{
	void *symbol;
	Dl_info info;
	size_t i;

	(void)state;
	for (i = 0; i < sizeof(functions) / sizeof(functions[0]); i++) {
		assert_true(functions[i].address);
		symbol = dlsym(RTLD_DEFAULT, functions[i].name);
		assert_non_null(symbol);
		assert_true(dladdr(symbol, &info));
		assert_non_null(strstr(info.dli_fname, "libumm.so"));
	}
}

static void nothing_else_is_exported(void **state)
{
	static const char *const inside[] = { "ctx_list_lock", "uffd_open",	"itree_insert",
					      "pool_alloc",    "log_printf",	"hook_run",
					      "lock_take",     "piece_collect", "fault_defer" };
	size_t i;

	(void)state;
	for (i = 0; i < sizeof(inside) / sizeof(inside[0]); i++)
		assert_null(dlsym(RTLD_DEFAULT, inside[i]));
}

/* ---- without a context -------------------------------------------------------------- */

static void version_is_that_of_the_header(void **state)
{
	char text[32];

	(void)state;
	snprintf(text, sizeof(text), "%d.%d.%d", UMM_VERSION_MAJOR, UMM_VERSION_MINOR,
		 UMM_VERSION_PATCH);
	assert_string_equal(umm_version(), text);
	assert_int_equal(umm_page_size(), UMM_PAGE_SIZE);
}

static void every_error_has_a_meaning(void **state)
{
	static const int errors[] = { EINVAL, EFAULT, EEXIST, ENOENT,  EBUSY,
				      EAGAIN, ETIME,  EPERM,  ENOMEM,  ENOSPC,
				      ENODEV, EIO,    E2BIG,  EDEADLK, EOPNOTSUPP };
	size_t i;

	(void)state;
	for (i = 0; i < sizeof(errors) / sizeof(errors[0]); i++) {
		assert_string_not_equal(umm_strerror(-errors[i]), "");
		assert_string_equal(umm_strerror(-errors[i]), umm_strerror(errors[i]));
		assert_null(strchr(umm_strerror(errors[i]), '\n'));
		assert_string_not_equal(umm_strerror(errors[i]), umm_strerror(0));
	}
	assert_non_null(umm_strerror(-99999));
}

static void probe_says_what_is_there(void **state)
{
	struct umm_probe_info info = { .size = sizeof(info) };

	(void)state;
	assert_int_equal(umm_probe(&info), 0);
	assert_true(info.uffd_access == UMM_UFFD_NONE || info.uffd_error == 0);
	assert_true(info.uffd_access != UMM_UFFD_NONE || info.advice[0]);
}

struct line {
	unsigned n;
	enum umm_log_level level;
	char text[512];
};

static void line_keep(void *priv, enum umm_log_level level, const char *text)
{
	struct line *line = priv;

	line->n++;
	line->level = level;
	snprintf(line->text, sizeof(line->text), "%s", text);
}

static void log_goes_where_it_is_sent(void **state)
{
	char longer[2000];
	struct line line = { 0 };

	(void)state;
	umm_log_set(line_keep, &line, UMM_LOG_WARNING);
	umm_log(UMM_LOG_WARNING, "%d %s", 42, "answers");
	assert_int_equal(line.n, 1);
	assert_int_equal(line.level, UMM_LOG_WARNING);
	assert_string_equal(line.text, "42 answers");
	umm_log(UMM_LOG_INFO, "not wanted");
	assert_int_equal(line.n, 1);
	memset(longer, 'x', sizeof(longer) - 1);
	longer[sizeof(longer) - 1] = '\0';
	umm_log(UMM_LOG_ERROR, "%s", longer);
	assert_int_equal(line.n, 2);
	assert_in_range(strlen(line.text), 100, 511);
	umm_log_set(NULL, NULL, UMM_LOG_NONE);
	umm_log(UMM_LOG_ERROR, "not even this");
	assert_int_equal(line.n, 2);
	umm_log_set(NULL, NULL, UMM_LOG_WARNING);
}

static void fences_are_signalled_and_waited_for(void **state)
{
	struct umm_fence *fence;
	struct pollfd ready = { .events = POLLIN };

	(void)state;
	assert_int_equal(umm_fence_create(&fence), 0);
	assert_ptr_equal(umm_fence_get(fence), fence);
	umm_fence_put(fence);
	ready.fd = umm_fence_eventfd(fence);
	assert_true(ready.fd >= 0);
	assert_int_equal(umm_fence_poll(fence), -EAGAIN);
	assert_int_equal(umm_fence_wait(fence, 1), -ETIME);
	umm_fence_signal(fence, 0, 12);
	assert_int_equal(umm_fence_wait(fence, -1), 0);
	assert_int_equal(umm_fence_value(fence), 12);
	assert_int_equal(poll(&ready, 1, 0), 1);
	close(ready.fd);
	umm_fence_put(fence);
}

/* ---- with a context ----------------------------------------------------------------- */

static void memory_is_allocated_queried_and_freed(void **state)
{
	struct world *w = *state;
	struct umm_page_info info[2];
	void *p;

	assert_ptr_equal(umm_ctx_get(w->ctx), w->ctx);
	assert_int_equal(umm_alloc(w->ctx, 2 * UMM_PAGE_SIZE, UMM_ALLOC_SMALL_PAGES, &p), 0);
	*(char *)p = 1;
	assert_int_equal(umm_query(w->ctx, (uintptr_t)p, 2, info), 0);
	assert_int_equal(info[0].state, UMM_PAGE_SYSTEM);
	assert_int_equal(info[1].state, UMM_PAGE_EMPTY);
	assert_int_equal(umm_free(w->ctx, p), 0);
	umm_ctx_put(w->ctx);
	assert_data(w);
}

static void memory_is_attached_and_detached(void **state)
{
	struct world *w = *state;
	char *p = mmap(NULL, UMM_PAGE_SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1,
		       0);

	assert_ptr_not_equal(p, MAP_FAILED);
	*p = 7;
	assert_int_equal(umm_attach(w->ctx, p, UMM_PAGE_SIZE), 0);
	assert_int_equal(umm_migrate_to_device(w->ctx, w->mem, p, 1), 1);
	assert_int_equal(umm_detach(w->ctx, p), 0);
	assert_int_equal(*p, 7);
	munmap(p, UMM_PAGE_SIZE);
}

static void pages_migrate_there_and_back(void **state)
{
	struct world *w = *state;
	struct umm_span spans[2] = { { (uintptr_t)w->p, UMM_PAGE_SIZE },
				     { (uintptr_t)w->p + 4 * UMM_PAGE_SIZE, UMM_PAGE_SIZE } };
	struct umm_migrate_request req = {
		.size = sizeof(req), .spans = spans, .nspans = 2, .dst = w->mem
	};
	struct umm_page_info info;
	struct umm_fence *fence;

	assert_int_equal(umm_migrate_spans(w->ctx, &req, &fence), 0);
	assert_int_equal(umm_fence_wait(fence, -1), 0);
	assert_int_equal(umm_fence_value(fence), 2);
	umm_fence_put(fence);
	assert_int_equal(umm_query(w->ctx, spans[1].start, 1, &info), 0);
	assert_int_equal(info.state, UMM_PAGE_DEVICE);
	assert_ptr_equal(info.mem, w->mem);
	assert_int_equal(frames[info.frame][0], 5);
	assert_int_equal(umm_migrate_to_system(w->ctx, w->p, UMM_PAGE_SIZE), 1);
	assert_int_equal(umm_bring_home(w->ctx), 1);
	assert_data(w);
}

static void device_says_what_it_is(void **state)
{
	struct world *w = *state;
	struct umm_device *dev;
	int word;

	destroyed = 0;
	assert_int_equal(umm_device_create(w->ctx, &ops, &word, 0, &dev), 0);
	assert_ptr_equal(umm_device_priv(dev), &word);
	assert_string_equal(umm_device_name(dev), "array");
	umm_device_destroy(dev);
	assert_int_equal(destroyed, 1);
}

static void memory_of_a_device_hands_out_frames(void **state)
{
	struct world *w = *state;
	uint32_t frame[2];
	int word;

	assert_ptr_equal(umm_devmem_device(w->mem), w->dev);
	umm_devmem_priv_set(w->mem, &word);
	assert_ptr_equal(umm_devmem_priv(w->mem), &word);
	assert_int_equal(umm_devmem_nframes(w->mem), FRAMES);
	assert_int_equal(umm_devmem_alloc(w->mem, 2, frame), 0);
	assert_int_equal(umm_devmem_nfree(w->mem), FRAMES - 2);
	umm_devmem_free(w->mem, 2, frame);
	assert_int_equal(umm_migrate_to_device(w->ctx, w->mem, w->p, 8 * UMM_PAGE_SIZE), 8);
	umm_devmem_touch(w->mem, (uintptr_t)w->p, UMM_PAGE_SIZE);
	assert_int_equal(umm_devmem_evict(w->mem, FRAMES), 0);
	assert_int_equal(umm_devmem_nfree(w->mem), FRAMES);
	assert_data(w);
	umm_devmem_remove(w->mem);
	assert_data(w);
}

static void mirrors_and_notifiers_hear_of_changes(void **state)
{
	struct world *w = *state;
	struct umm_span span = { (uintptr_t)w->p, UMM_PAGE_SIZE };
	struct umm_notifier *notifier;
	struct umm_mirror *mirror;
	uint64_t seq, all;

	released = 0;
	invalidated = 0;
	assert_int_equal(umm_mirror_register(w->dev, &mirror_ops, NULL, &mirror), 0);
	assert_int_equal(umm_notifier_insert(w->ctx, &span, &notifier_ops, NULL, &notifier), 0);
	all = umm_notifier_read_begin(umm_mirror_notifier(mirror));
	seq = umm_notifier_read_begin(notifier);
	assert_false(umm_notifier_read_retry(notifier, seq));
	assert_int_equal(umm_migrate_to_device(w->ctx, w->mem, w->p, 1), 1);
	assert_true(umm_notifier_read_retry(notifier, seq));
	assert_true(umm_notifier_read_retry(umm_mirror_notifier(mirror), all));
	assert_true(invalidated >= 2);
	assert_int_equal(umm_notifier_remove(notifier), 0);
	assert_int_equal(umm_mirror_unregister(mirror), 0);
	assert_int_equal(released, 1);
}

static void ranges_say_where_pages_are(void **state)
{
	struct world *w = *state;
	struct umm_mirror *mirror;
	uint64_t entry[2];
	struct umm_range range = { .size = sizeof(range),
				   .start = (uintptr_t)w->p,
				   .end = (uintptr_t)w->p + 2 * UMM_PAGE_SIZE,
				   .entries = entry,
				   .owner = w->dev };

	assert_int_equal(umm_mirror_register(w->dev, &mirror_ops, NULL, &mirror), 0);
	assert_int_equal(umm_migrate_to_device(w->ctx, w->mem, w->p, 1), 1);
	range.notifier = umm_mirror_notifier(mirror);
	range.seq = umm_notifier_read_begin(range.notifier);
	assert_int_equal(umm_range_snapshot(&range), 2);
	assert_true(entry[0] & UMM_ENTRY_DEVICE);
	assert_int_equal(frames[UMM_ENTRY_FRAME(entry[0])][0], 1);
	assert_int_equal(UMM_ENTRY_ADDR(entry[1]), range.start + UMM_PAGE_SIZE);
	range.default_flags = UMM_ENTRY_REQ_FAULT | UMM_ENTRY_REQ_WRITE;
	assert_int_equal(umm_range_fault(&range, 100), 2);
	assert_int_equal(UMM_ENTRY_ORDER(entry[0]), 0);
}

static void migration_in_three_steps(void **state)
{
	struct world *w = *state;
	uint64_t src[2], dst[2] = { 0 };
	struct umm_migrate m = { .size = sizeof(m),
				 .flags = UMM_MIGRATE_SELECT_SYSTEM,
				 .ctx = w->ctx,
				 .start = (uintptr_t)w->p,
				 .end = (uintptr_t)w->p + 2 * UMM_PAGE_SIZE,
				 .dst_mem = w->mem,
				 .src = src,
				 .dst = dst };
	uint32_t frame;

	assert_int_equal(umm_devmem_alloc(w->mem, 1, &frame), 0);
	assert_int_equal(umm_migrate_setup(&m), 0);
	assert_int_equal(m.cpages, 2);
	memcpy(frames[frame], (void *)(uintptr_t)(src[0] & ~(uint64_t)(UMM_PAGE_SIZE - 1)),
	       UMM_PAGE_SIZE);
	dst[0] = UMM_MPFN_VALID | UMM_MPFN_DEVICE | (uint64_t)frame << UMM_PAGE_SHIFT;
	umm_migrate_pages(&m);
	assert_int_equal(m.cpages, 1);
	umm_migrate_finalize(&m);

	m.flags = UMM_MIGRATE_SELECT_PRIVATE;
	m.dst_mem = NULL;
	dst[0] = dst[1] = 0;
	assert_int_equal(umm_migrate_setup(&m), 0);
	assert_ptr_equal(umm_migrate_src_mem(&m, 0), w->mem);
	assert_non_null(umm_migrate_host(&m, 0));
	memcpy(umm_migrate_host(&m, 0), frames[src[0] >> UMM_PAGE_SHIFT], UMM_PAGE_SIZE);
	dst[0] = UMM_MPFN_VALID;
	umm_migrate_pages(&m);
	umm_migrate_finalize(&m);
	assert_int_equal(m.cpages, 1);
	assert_data(w);
}

static void counters_are_read_and_printed(void **state)
{
	struct world *w = *state;
	struct umm_stats ctx = { .size = sizeof(ctx) }, dev = { .size = sizeof(dev) };
	struct umm_stats alloc = { .size = sizeof(alloc) };
	char *text = NULL;
	size_t len;
	FILE *stream = open_memstream(&text, &len);

	assert_int_equal(umm_migrate_to_device(w->ctx, w->mem, w->p, 1), 1);
	assert_int_equal(umm_ctx_stats(w->ctx, &ctx), 0);
	assert_int_equal(umm_device_stats(w->dev, &dev), 0);
	assert_int_equal(umm_alloc_stats(w->ctx, w->p, &alloc), 0);
	assert_int_equal(ctx.counter[UMM_COUNT_TO_DEVICE], 1);
	assert_int_equal(dev.counter[UMM_COUNT_TO_DEVICE], 1);
	assert_int_equal(alloc.counter[UMM_COUNT_TO_DEVICE], 1);
	umm_stats_print(&ctx, stream);
	fclose(stream);
	assert_non_null(strstr(text, umm_counter_name(UMM_COUNT_TO_DEVICE)));
	free(text);
}

/* ---- misuse ------------------------------------------------------------------------- */

enum kind { CTX, DEVICE, DEVMEM, MIRROR, NOTIFIER, FENCE, KINDS };

/* One object of each kind. */
struct objects {
	void *of[KINDS];
};

static const struct umm_span anywhere = { UMM_PAGE_SIZE, UMM_PAGE_SIZE };

static struct objects objects_create(void)
{
	struct umm_notifier *notifier;
	struct umm_mirror *mirror;
	struct umm_devmem *mem;
	struct umm_device *dev;
	struct umm_fence *fence;
	struct umm_ctx *ctx;

	assert_int_equal(umm_ctx_create(NULL, &ctx), 0);
	assert_int_equal(umm_device_create(ctx, &ops, NULL, UMM_DEVICE_INLINE_COPY, &dev), 0);
	assert_int_equal(umm_devmem_add(dev, &memory, &mem), 0);
	assert_int_equal(umm_mirror_register(dev, &mirror_ops, NULL, &mirror), 0);
	assert_int_equal(umm_notifier_insert(ctx, &anywhere, &notifier_ops, NULL, &notifier), 0);
	assert_int_equal(umm_fence_create(&fence), 0);
	return (struct objects){ { ctx, dev, mem, mirror, notifier, fence } };
}

/* Each by its own function. */
static void objects_destroy(const struct objects *o)
{
	umm_fence_put(o->of[FENCE]);
	assert_int_equal(umm_notifier_remove(o->of[NOTIFIER]), 0);
	assert_int_equal(umm_mirror_unregister(o->of[MIRROR]), 0);
	umm_devmem_remove(o->of[DEVMEM]);
	umm_device_destroy(o->of[DEVICE]);
	umm_ctx_put(o->of[CTX]);
}

/*
 * Calls with a handle h that may be bad. Whatever else they need is in order, so that nothing
 * but h can be the reason for what they return (0 where they return nothing).
 */
static uint64_t items[2];
static uint32_t frame_zero;
static struct umm_page_info page;
static struct umm_page_place place;
static struct umm_range_place range_place = { .size = sizeof(range_place) };
static struct umm_stats stats = { .size = sizeof(stats) };
static union {
	void *alloc;
	struct umm_device *dev;
	struct umm_devmem *mem;
	struct umm_mirror *mirror;
	struct umm_notifier *notifier;
} out;

static struct umm_migrate a_migrate(struct world *w)
{
	return (struct umm_migrate){ .size = sizeof(struct umm_migrate),
				     .flags = UMM_MIGRATE_SELECT_SYSTEM,
				     .ctx = w->ctx,
				     .start = (uintptr_t)w->p,
				     .end = (uintptr_t)w->p + UMM_PAGE_SIZE,
				     .dst_mem = w->mem,
				     .owner = w->dev,
				     .src = &items[0],
				     .dst = &items[1] };
}

static struct umm_range a_range(struct world *w)
{
	return (struct umm_range){ .size = sizeof(struct umm_range),
				   .notifier = umm_mirror_notifier(w->mirror),
				   .start = (uintptr_t)w->p,
				   .end = (uintptr_t)w->p + UMM_PAGE_SIZE,
				   .entries = items,
				   .owner = w->dev,
				   .mem = w->mem };
}

#define CALL(name, ...)                                   \
	static long call_##name(struct world *w, void *h) \
	{                                                 \
		(void)w;                                  \
		return (long)(__VA_ARGS__);               \
	}
#define CALL_STRUCT(name, structure, member, ...)              \
	static long call_##name(struct world *w, void *h)      \
	{                                                      \
		struct umm_##structure arg = a_##structure(w); \
                                                               \
		arg.member = h;                                \
		return (long)(__VA_ARGS__);                    \
	}

CALL(ctx_get, umm_ctx_get(h))
CALL(ctx_put, (umm_ctx_put(h), 0))
CALL(alloc, umm_alloc(h, UMM_PAGE_SIZE, 0, &out.alloc))
CALL(free, umm_free(h, w->p))
CALL(attach, umm_attach(h, w->plain, UMM_PAGE_SIZE))
CALL(detach, umm_detach(h, w->p))
CALL(query, umm_query(h, (uintptr_t)w->p, 1, &page))
CALL(locate, umm_locate(h, (uintptr_t)w->p, 1, &place))
CALL(locate_range, umm_locate_range(h, (uintptr_t)w->p, UMM_PAGE_SIZE, &range_place))
CALL(to_device, umm_migrate_to_device(h, w->mem, w->p, 1))
CALL(to_device_mem, umm_migrate_to_device(w->ctx, h, w->p, 1))
CALL(to_system, umm_migrate_to_system(h, w->p, 1))
CALL(bring_home, umm_bring_home(h))
CALL(device_create, umm_device_create(h, &ops, NULL, 0, &out.dev))
CALL(notifier_insert, umm_notifier_insert(h, &anywhere, &notifier_ops, NULL, &out.notifier))
CALL(ctx_stats, umm_ctx_stats(h, &stats))
CALL(alloc_stats, umm_alloc_stats(h, w->p, &stats))
CALL(device_destroy, (umm_device_destroy(h), 0))
CALL(device_priv, umm_device_priv(h))
CALL(device_name, umm_device_name(h))
CALL(device_stats, umm_device_stats(h, &stats))
CALL(devmem_add, umm_devmem_add(h, &memory, &out.mem))
CALL(mirror_register, umm_mirror_register(h, &mirror_ops, NULL, &out.mirror))
CALL(devmem_remove, (umm_devmem_remove(h), 0))
CALL(devmem_device, umm_devmem_device(h))
CALL(devmem_priv_set, (umm_devmem_priv_set(h, &items), 0))
CALL(devmem_priv, umm_devmem_priv(h))
CALL(devmem_nframes, umm_devmem_nframes(h))
CALL(devmem_nfree, umm_devmem_nfree(h))
CALL(devmem_alloc, umm_devmem_alloc(h, 1, &frame_zero))
CALL(devmem_free, (umm_devmem_free(h, 1, &frame_zero), 0))
CALL(devmem_evict, umm_devmem_evict(h, 1))
CALL(devmem_touch, (umm_devmem_touch(h, (uintptr_t)w->p, 1), 0))
CALL(mirror_unregister, umm_mirror_unregister(h))
CALL(mirror_notifier, umm_mirror_notifier(h))
CALL(notifier_remove, umm_notifier_remove(h))
CALL(read_begin, umm_notifier_read_begin(h))
CALL(read_retry, umm_notifier_read_retry(h, 0))
CALL(fence_get, umm_fence_get(h))
CALL(fence_put, (umm_fence_put(h), 0))
CALL(fence_signal, (umm_fence_signal(h, 0, 0), 0))
CALL(fence_poll, umm_fence_poll(h))
CALL(fence_wait, umm_fence_wait(h, 0))
CALL(fence_value, umm_fence_value(h))
CALL(fence_eventfd, umm_fence_eventfd(h))
CALL_STRUCT(setup, migrate, ctx, umm_migrate_setup(&arg))
CALL_STRUCT(setup_mem, migrate, dst_mem, umm_migrate_setup(&arg))
CALL_STRUCT(setup_owner, migrate, owner, umm_migrate_setup(&arg))
CALL_STRUCT(snapshot, range, notifier, umm_range_snapshot(&arg))
CALL_STRUCT(snapshot_owner, range, owner, umm_range_snapshot(&arg))
CALL_STRUCT(snapshot_mem, range, mem, umm_range_snapshot(&arg))
CALL_STRUCT(fault, range, notifier, umm_range_fault(&arg, 0))
CALL_STRUCT(fault_owner, range, owner, umm_range_fault(&arg, 0))
CALL_STRUCT(fault_mem, range, mem, umm_range_fault(&arg, 0))

static long spans(struct umm_ctx *ctx, struct umm_devmem *dst, struct world *w,
		  struct umm_fence **fence)
{
	struct umm_span span = { (uintptr_t)w->p, UMM_PAGE_SIZE };
	struct umm_migrate_request req = {
		.size = sizeof(req), .spans = &span, .nspans = 1, .dst = dst
	};

	return umm_migrate_spans(ctx, &req, fence);
}

CALL(spans, spans(h, w->mem, w, NULL))
CALL(spans_mem, spans(w->ctx, h, w, NULL))

/* What NULL does: as any other bad handle, nothing (0), or it stands for something. */
enum null { NULL_IS_BAD, NULL_IS_0, NULL_IS_FINE };

#define USE(function, call, kind, result, null)            \
	{                                                  \
#function, call_##call, kind, result, null \
	}

static const struct {
	const char *function;
	long (*call)(struct world *w, void *h);
	enum kind kind;
	long result; /* with a bad handle */
	enum null null;
} uses[] = {
	USE(umm_ctx_get, ctx_get, CTX, 0, NULL_IS_BAD),
	USE(umm_ctx_put, ctx_put, CTX, 0, NULL_IS_BAD),
	USE(umm_alloc, alloc, CTX, -EINVAL, NULL_IS_BAD),
	USE(umm_free, free, CTX, -EINVAL, NULL_IS_BAD),
	USE(umm_attach, attach, CTX, -EINVAL, NULL_IS_BAD),
	USE(umm_detach, detach, CTX, -EINVAL, NULL_IS_BAD),
	USE(umm_query, query, CTX, -EINVAL, NULL_IS_BAD),
	USE(umm_locate, locate, CTX, -EINVAL, NULL_IS_BAD),
	USE(umm_locate_range, locate_range, CTX, -EINVAL, NULL_IS_BAD),
	USE(umm_migrate_spans, spans, CTX, -EINVAL, NULL_IS_BAD),
	USE(umm_migrate_spans, spans_mem, DEVMEM, -EINVAL, NULL_IS_FINE),
	USE(umm_migrate_to_device, to_device, CTX, -EINVAL, NULL_IS_BAD),
	USE(umm_migrate_to_device, to_device_mem, DEVMEM, -EINVAL, NULL_IS_BAD),
	USE(umm_migrate_to_system, to_system, CTX, -EINVAL, NULL_IS_BAD),
	USE(umm_bring_home, bring_home, CTX, -EINVAL, NULL_IS_BAD),
	USE(umm_device_create, device_create, CTX, -EINVAL, NULL_IS_BAD),
	USE(umm_notifier_insert, notifier_insert, CTX, -EINVAL, NULL_IS_BAD),
	USE(umm_ctx_stats, ctx_stats, CTX, -EINVAL, NULL_IS_BAD),
	USE(umm_alloc_stats, alloc_stats, CTX, -EINVAL, NULL_IS_BAD),
	USE(umm_device_destroy, device_destroy, DEVICE, 0, NULL_IS_BAD),
	USE(umm_device_priv, device_priv, DEVICE, 0, NULL_IS_BAD),
	USE(umm_device_name, device_name, DEVICE, 0, NULL_IS_BAD),
	USE(umm_device_stats, device_stats, DEVICE, -EINVAL, NULL_IS_BAD),
	USE(umm_devmem_add, devmem_add, DEVICE, -EINVAL, NULL_IS_BAD),
	USE(umm_mirror_register, mirror_register, DEVICE, -EINVAL, NULL_IS_BAD),
	USE(umm_devmem_remove, devmem_remove, DEVMEM, 0, NULL_IS_BAD),
	USE(umm_devmem_device, devmem_device, DEVMEM, 0, NULL_IS_BAD),
	USE(umm_devmem_priv_set, devmem_priv_set, DEVMEM, 0, NULL_IS_BAD),
	USE(umm_devmem_priv, devmem_priv, DEVMEM, 0, NULL_IS_BAD),
	USE(umm_devmem_nframes, devmem_nframes, DEVMEM, 0, NULL_IS_BAD),
	USE(umm_devmem_nfree, devmem_nfree, DEVMEM, 0, NULL_IS_BAD),
	USE(umm_devmem_alloc, devmem_alloc, DEVMEM, -EINVAL, NULL_IS_BAD),
	USE(umm_devmem_free, devmem_free, DEVMEM, 0, NULL_IS_BAD),
	USE(umm_devmem_evict, devmem_evict, DEVMEM, -EINVAL, NULL_IS_BAD),
	USE(umm_devmem_touch, devmem_touch, DEVMEM, 0, NULL_IS_BAD),
	USE(umm_mirror_unregister, mirror_unregister, MIRROR, -EINVAL, NULL_IS_0),
	USE(umm_mirror_notifier, mirror_notifier, MIRROR, 0, NULL_IS_BAD),
	USE(umm_notifier_remove, notifier_remove, NOTIFIER, -EINVAL, NULL_IS_0),
	USE(umm_notifier_read_begin, read_begin, NOTIFIER, 0, NULL_IS_BAD),
	USE(umm_notifier_read_retry, read_retry, NOTIFIER, true, NULL_IS_BAD),
	USE(umm_range_snapshot, snapshot, NOTIFIER, -EINVAL, NULL_IS_BAD),
	USE(umm_range_snapshot, snapshot_owner, DEVICE, -EINVAL, NULL_IS_FINE),
	USE(umm_range_snapshot, snapshot_mem, DEVMEM, -EINVAL, NULL_IS_FINE),
	USE(umm_range_fault, fault, NOTIFIER, -EINVAL, NULL_IS_BAD),
	USE(umm_range_fault, fault_owner, DEVICE, -EINVAL, NULL_IS_FINE),
	USE(umm_range_fault, fault_mem, DEVMEM, -EINVAL, NULL_IS_FINE),
	USE(umm_migrate_setup, setup, CTX, -EINVAL, NULL_IS_BAD),
	USE(umm_migrate_setup, setup_mem, DEVMEM, -EINVAL, NULL_IS_FINE),
	USE(umm_migrate_setup, setup_owner, DEVICE, -EINVAL, NULL_IS_FINE),
	USE(umm_fence_get, fence_get, FENCE, 0, NULL_IS_BAD),
	USE(umm_fence_put, fence_put, FENCE, 0, NULL_IS_BAD),
	USE(umm_fence_signal, fence_signal, FENCE, 0, NULL_IS_BAD),
	USE(umm_fence_poll, fence_poll, FENCE, -EINVAL, NULL_IS_BAD),
	USE(umm_fence_wait, fence_wait, FENCE, -EINVAL, NULL_IS_BAD),
	USE(umm_fence_value, fence_value, FENCE, 0, NULL_IS_BAD),
	USE(umm_fence_eventfd, fence_eventfd, FENCE, -EINVAL, NULL_IS_BAD),
};

#define NUSES (sizeof(uses) / sizeof(uses[0]))

static void assert_refused(struct world *w, size_t use, void *h, const char *what)
{
	long result = h || uses[use].null == NULL_IS_BAD ? uses[use].result : 0;
	long got = uses[use].call(w, h);

	if (got != result)
		fail_msg("%s (use %zu) with %s: %ld, not %ld", uses[use].function, use, what, got,
			 result);
}

/* The steps of a migration take no handle but what umm_migrate_setup() put there. */
static void every_function_with_a_handle_is_in_the_table(void **state)
{
	static const char *const others[] = {
		"umm_counter_name",
		"umm_ctx_create",
		"umm_fence_create",
		"umm_log",
		"umm_log_set",
		"umm_migrate_host",
		"umm_migrate_finalize",
		"umm_migrate_pages",
		"umm_migrate_src_mem",
		"umm_page_size",
		"umm_probe",
		"umm_stats_print",
		"umm_strerror",
		"umm_version",
	};
	const char *name;
	bool found;

	(void)state;
	for (size_t i = 0; i < sizeof(functions) / sizeof(functions[0]); i++) {
		name = functions[i].name;
		found = false;
		for (size_t k = 0; k < NUSES && !found; k++)
			found = !strcmp(uses[k].function, name);
		for (size_t k = 0; k < sizeof(others) / sizeof(others[0]) && !found; k++)
			found = !strcmp(others[k], name);
		if (!found)
			fail_msg("%s", name);
	}
}

static void world_extend(struct world *w)
{
	w->plain = mmap(NULL, UMM_PAGE_SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS,
			-1, 0);
	assert_ptr_not_equal(w->plain, MAP_FAILED);
	assert_int_equal(umm_mirror_register(w->dev, &mirror_ops, NULL, &w->mirror), 0);
}

static void handles_of_another_kind_are_refused(void **state)
{
	struct world *w = *state;
	struct objects live = objects_create();

	world_extend(w);
	for (size_t use = 0; use < NUSES; use++) {
		for (unsigned kind = 0; kind < KINDS; kind++)
			if (kind != uses[use].kind)
				assert_refused(w, use, live.of[kind], "another kind");
		if (uses[use].null != NULL_IS_FINE)
			assert_refused(w, use, NULL, "NULL");
	}
	assert_data(w);
	/* They are as live as before. */
	objects_destroy(&live);
	munmap(w->plain, UMM_PAGE_SIZE);
}

static void dead_handles_are_refused(struct world *w, const struct objects *dead, const char *what)
{
	for (size_t use = 0; use < NUSES; use++)
		assert_refused(w, use, dead->of[uses[use].kind], what);
}

static void handles_of_what_is_gone_are_refused(void **state)
{
	struct world *w = *state;
	struct objects one = objects_create(), closed = objects_create(), later;
	struct umm_notifier *backing = umm_mirror_notifier(one.of[MIRROR]);

	world_extend(w);
	objects_destroy(&one);
	dead_handles_are_refused(w, &one, "its own end");
	assert_int_equal(umm_notifier_read_begin(backing), 0);
	assert_true(umm_notifier_read_retry(backing, 0));

	/* Closing a context ends all that hangs off it. */
	umm_ctx_put(closed.of[CTX]);
	umm_fence_put(closed.of[FENCE]);
	dead_handles_are_refused(w, &closed, "its context's end");

	/* Nothing new appears at its place for a while. */
	for (int i = 0; i < 8; i++) {
		later = objects_create();
		dead_handles_are_refused(w, &one, "others after it");
		dead_handles_are_refused(w, &closed, "others after it");
		objects_destroy(&later);
	}
	assert_data(w);
	munmap(w->plain, UMM_PAGE_SIZE);
}

/* A device that uses its handles in its last callbacks, and destroys them once more there. */
static struct {
	struct objects o;
	unsigned releases, destroys;
} last;

static void last_release(void *priv)
{
	(void)priv;
	last.releases++;
	assert_int_equal(umm_mirror_unregister(last.o.of[MIRROR]), -EINVAL);
	assert_string_equal(umm_device_name(last.o.of[DEVICE]), "array");
	assert_ptr_equal(umm_ctx_get(last.o.of[CTX]), last.o.of[CTX]);
	umm_ctx_put(last.o.of[CTX]);
}

static void last_destroy(void *priv)
{
	(void)priv;
	last.destroys++;
	assert_string_equal(umm_device_name(last.o.of[DEVICE]), "array");
	umm_device_destroy(last.o.of[DEVICE]);
	umm_ctx_put(last.o.of[CTX]);
}

static void handles_are_good_until_the_last_callback(void **state)
{
	struct umm_mirror_ops my_mirror_ops = mirror_ops;
	struct umm_device_ops my_ops = ops;
	struct umm_mirror *mirror;
	struct umm_device *dev;
	struct umm_ctx *ctx;

	(void)state;
	memset(&last, 0, sizeof(last));
	my_mirror_ops.release = last_release;
	my_ops.destroy = last_destroy;
	assert_int_equal(umm_ctx_create(NULL, &ctx), 0);
	assert_int_equal(umm_device_create(ctx, &my_ops, NULL, 0, &dev), 0);
	assert_int_equal(umm_mirror_register(dev, &my_mirror_ops, NULL, &mirror), 0);
	last.o = (struct objects){ { ctx, dev, NULL, mirror, NULL, NULL } };
	umm_ctx_put(ctx);
	assert_int_equal(last.releases, 1);
	assert_int_equal(last.destroys, 1);
}

static void notifier_of_a_mirror_is_not_removed(void **state)
{
	struct world *w = *state;
	struct umm_notifier *notifier;

	world_extend(w);
	notifier = umm_mirror_notifier(w->mirror);
	assert_int_equal(umm_notifier_remove(notifier), -EINVAL);
	assert_false(umm_notifier_read_retry(notifier, umm_notifier_read_begin(notifier)));
	munmap(w->plain, UMM_PAGE_SIZE);
}

#define WITH_WORLD(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
	const struct CMUnitTest plain[] = {
		cmocka_unit_test(every_function_is_exported),
		cmocka_unit_test(nothing_else_is_exported),
		cmocka_unit_test(every_function_with_a_handle_is_in_the_table),
		cmocka_unit_test(version_is_that_of_the_header),
		cmocka_unit_test(every_error_has_a_meaning),
		cmocka_unit_test(probe_says_what_is_there),
		cmocka_unit_test(log_goes_where_it_is_sent),
		cmocka_unit_test(fences_are_signalled_and_waited_for),
	};
	const struct CMUnitTest worldly[] = {
		WITH_WORLD(memory_is_allocated_queried_and_freed),
		WITH_WORLD(memory_is_attached_and_detached),
		WITH_WORLD(pages_migrate_there_and_back),
		WITH_WORLD(device_says_what_it_is),
		WITH_WORLD(memory_of_a_device_hands_out_frames),
		WITH_WORLD(mirrors_and_notifiers_hear_of_changes),
		WITH_WORLD(ranges_say_where_pages_are),
		WITH_WORLD(migration_in_three_steps),
		WITH_WORLD(counters_are_read_and_printed),
		WITH_WORLD(handles_of_another_kind_are_refused),
		WITH_WORLD(handles_of_what_is_gone_are_refused),
		WITH_WORLD(handles_are_good_until_the_last_callback),
		WITH_WORLD(notifier_of_a_mirror_is_not_removed),
	};
	struct umm_probe_info info = { .size = sizeof(info) };
	int failed;

	/* No watchdog thread here: the default action of SIGALRM ends what hangs. */
	alarm(100);
	failed = cmocka_run_group_tests_name("test_api", plain, NULL, NULL);
	if (umm_probe(&info) == 0 && info.uffd_access == UMM_UFFD_NONE) {
		printf("SKIP userfaultfd is refused: %s\n", info.advice);
		return failed ? failed : EXIT_SKIPPED;
	}
	return failed + cmocka_run_group_tests_name("test_api", worldly, NULL, NULL);
}
