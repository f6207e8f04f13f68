/* SPDX-License-Identifier: MIT */
/*
 * What an application sees: the shared library and umm.h, nothing else. Every public
 * function is there, and its plainest use works.
 */
#include "api_world.h"

#include <dlfcn.h>
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

/* ---- there -------------------------------------------------------------------------- */

#define FUNCTION(name)                      \
	{                                   \
#name, (void (*)(void))name \
	}

static const struct {
	const char *name;
	void (*address)(void);
} functions[] = {
#include "api_functions.h" /* what libumm.map exports */
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

/* What follows the structure is not looked at, nor need it be there. */
static void sizes_of_no_structure_are_refused(void **state)
{
	struct umm_probe_info info = { .size = SIZE_MAX };

	(void)state;
	assert_int_equal(umm_probe(&info), -E2BIG);
	info.size = UMM_PAGE_SIZE + 1;
	assert_int_equal(umm_probe(&info), -E2BIG);
	info.size = 1;
	assert_int_equal(umm_probe(&info), -EINVAL);
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
	umm_log(UMM_LOG_DEFAULT, "of no level");
	umm_log(UMM_LOG_NONE, "nor this");
	umm_log((enum umm_log_level)(UMM_LOG_DEFAULT - 1), "nor this");
	assert_int_equal(line.n, 2);
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
	assert_int_equal(api_frames[info.frame][0], 5);
	assert_int_equal(umm_migrate_to_system(w->ctx, w->p, UMM_PAGE_SIZE), 1);
	assert_int_equal(umm_bring_home(w->ctx), 1);
	assert_data(w);
}

static void device_says_what_it_is(void **state)
{
	struct world *w = *state;
	struct umm_device *dev;
	int word;

	api_destroyed = 0;
	assert_int_equal(umm_device_create(w->ctx, &api_device_ops, &word, 0, &dev), 0);
	assert_ptr_equal(umm_device_priv(dev), &word);
	assert_string_equal(umm_device_name(dev), "array");
	umm_device_destroy(dev);
	assert_int_equal(api_destroyed, 1);
}

static void memory_of_a_device_hands_out_frames(void **state)
{
	struct world *w = *state;
	uint32_t frame[2];
	int word;

	assert_ptr_equal(umm_devmem_device(w->mem), w->dev);
	umm_devmem_priv_set(w->mem, &word);
	assert_ptr_equal(umm_devmem_priv(w->mem), &word);
	assert_int_equal(umm_devmem_nframes(w->mem), API_FRAMES);
	assert_int_equal(umm_devmem_alloc(w->mem, 2, frame), 0);
	assert_int_equal(umm_devmem_nfree(w->mem), API_FRAMES - 2);
	umm_devmem_free(w->mem, 2, frame);
	assert_int_equal(umm_migrate_to_device(w->ctx, w->mem, w->p, 8 * UMM_PAGE_SIZE), 8);
	umm_devmem_touch(w->mem, (uintptr_t)w->p, UMM_PAGE_SIZE);
	assert_int_equal(umm_devmem_evict(w->mem, API_FRAMES), 0);
	assert_int_equal(umm_devmem_nfree(w->mem), API_FRAMES);
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

	api_released = 0;
	api_invalidated = 0;
	assert_int_equal(umm_mirror_register(w->dev, &api_mirror_ops, NULL, &mirror), 0);
	assert_int_equal(umm_notifier_insert(w->ctx, &span, &api_notifier_ops, NULL, &notifier), 0);
	all = umm_notifier_read_begin(umm_mirror_notifier(mirror));
	seq = umm_notifier_read_begin(notifier);
	assert_false(umm_notifier_read_retry(notifier, seq));
	assert_int_equal(umm_migrate_to_device(w->ctx, w->mem, w->p, 1), 1);
	assert_true(umm_notifier_read_retry(notifier, seq));
	assert_true(umm_notifier_read_retry(umm_mirror_notifier(mirror), all));
	assert_true(api_invalidated >= 2);
	assert_int_equal(umm_notifier_remove(notifier), 0);
	assert_int_equal(umm_mirror_unregister(mirror), 0);
	assert_int_equal(api_released, 1);
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

	assert_int_equal(umm_mirror_register(w->dev, &api_mirror_ops, NULL, &mirror), 0);
	assert_int_equal(umm_migrate_to_device(w->ctx, w->mem, w->p, 1), 1);
	range.notifier = umm_mirror_notifier(mirror);
	range.seq = umm_notifier_read_begin(range.notifier);
	assert_int_equal(umm_range_snapshot(&range), 2);
	assert_true(entry[0] & UMM_ENTRY_DEVICE);
	assert_int_equal(api_frames[UMM_ENTRY_FRAME(entry[0])][0], 1);
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
	memcpy(api_frames[frame], (void *)(uintptr_t)(src[0] & ~(uint64_t)(UMM_PAGE_SIZE - 1)),
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
	memcpy(umm_migrate_host(&m, 0), api_frames[src[0] >> UMM_PAGE_SHIFT], UMM_PAGE_SIZE);
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

int main(void)
{
	const struct CMUnitTest plain[] = {
		cmocka_unit_test(every_function_is_exported),
		cmocka_unit_test(nothing_else_is_exported),
		cmocka_unit_test(version_is_that_of_the_header),
		cmocka_unit_test(every_error_has_a_meaning),
		cmocka_unit_test(probe_says_what_is_there),
		cmocka_unit_test(sizes_of_no_structure_are_refused),
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
