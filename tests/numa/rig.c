/* SPDX-License-Identifier: MIT */
/*
 * The NUMA tests' common ground. The library's log is kept, so that tests can ask what
 * was said; the lock is there because library threads write to it.
 */
#include "rig.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define LOG_BYTES 16384

static struct {
	pthread_mutex_t lock; /* Protects: what follows; inside: nothing */
	char text[LOG_BYTES];
	size_t len;
} logged = { .lock = PTHREAD_MUTEX_INITIALIZER };

static void log_line(void *priv, enum umm_log_level level, const char *line)
{
	(void)priv;
	(void)level;
	pthread_mutex_lock(&logged.lock);
	if (logged.len + strlen(line) + 2 < LOG_BYTES)
		logged.len += (size_t)snprintf(logged.text + logged.len, LOG_BYTES - logged.len,
					       "%s\n", line);
	pthread_mutex_unlock(&logged.lock);
}

void rig_log_clear(void)
{
	umm_log_set(log_line, NULL, UMM_LOG_INFO);
	pthread_mutex_lock(&logged.lock);
	logged.len = 0;
	logged.text[0] = '\0';
	pthread_mutex_unlock(&logged.lock);
}

static void assert_in_log(const char *text, bool wanted)
{
	bool found;

	pthread_mutex_lock(&logged.lock);
	found = strstr(logged.text, text);
	if (found != wanted)
		print_error("logged was:\n%s", logged.text);
	pthread_mutex_unlock(&logged.lock);
	if (found != wanted)
		fail_msg("%s in the log: %s", wanted ? "not" : "is", text);
}

void assert_logged(const char *text)
{
	assert_in_log(text, true);
}

void assert_not_logged(const char *text)
{
	assert_in_log(text, false);
}

static int note_node(void *priv, const struct umm_numa_info *info)
{
	struct rig_nodes *nodes = priv;

	if (!info->usable && nodes->count < 64) {
		nodes->info[nodes->count] = *info;
		nodes->info[nodes->count].cpus = nodes->info[nodes->count].reason = NULL;
		nodes->count++;
	}
	return 0;
}

struct rig_nodes rig_nodes(void)
{
	struct rig_nodes nodes = { 0 };

	assert_true(umm_numa_list(note_node, &nodes) > 0);
	return nodes;
}

void rig_need_nodes(const struct rig *rig, unsigned count)
{
	if (rig->nodes.count < count)
		rig_skip("it takes %u memory nodes, and there %s %u", count,
			 rig->nodes.count == 1 ? "is" : "are", rig->nodes.count);
}

static int setup(void **state, uint64_t flags)
{
	struct umm_numa_options options = {
		.size = sizeof(options),
		.flags = flags,
		.node = UMM_NUMA_FAR,
		.bytes = 8 * BLOCK,
	};
	/* Tests count the pages that come home: nothing comes that was not touched. */
	struct umm_ctx_options ctx_options = { .size = sizeof(ctx_options),
					       .readahead = UMM_READAHEAD_OFF };
	struct rig *rig = calloc(1, sizeof(*rig));
	int ret;

	rig_log_clear();
	if (!rig)
		return -1;
	*state = rig;
	ret = umm_ctx_create(&ctx_options, &rig->ctx);
	if (!ret)
		ret = umm_numa_create(rig->ctx, &options, &rig->numa);
	if (ret) {
		print_error("setup: %s\n%s", umm_strerror(ret), logged.text);
		return -1;
	}
	rig->nodes = rig_nodes();
	return 0;
}

int rig_setup(void **state)
{
	return setup(state, 0);
}

int rig_setup_private(void **state)
{
	return setup(state, UMM_NUMA_PRIVATE);
}

int rig_teardown(void **state)
{
	struct rig *rig = *state;

	umm_numa_destroy(rig->numa);
	umm_ctx_put(rig->ctx);
	free(rig);
	return 0;
}

struct umm_numa_counts rig_counts(struct umm_numa *numa)
{
	struct umm_numa_counts counts = { .size = sizeof(counts) };

	assert_int_equal(umm_numa_counts(numa, &counts), 0);
	return counts;
}

uint64_t rig_counter(struct rig *rig, unsigned counter)
{
	struct umm_stats stats = { .size = sizeof(stats) };

	assert_int_equal(umm_ctx_stats(rig->ctx, &stats), 0);
	return stats.counter[counter];
}

uint64_t rig_cpu_faults(struct rig *rig)
{
	uint64_t n = 0;

	for (unsigned c = UMM_COUNT_FAULT_EMPTY; c <= UMM_COUNT_FAULT_ERROR; c++)
		n += rig_counter(rig, c);
	return n;
}

int node_of(void *page)
{
	int status = -ENOENT;

	/* Automatic balancing hides pages for a moment: a touch shows them again. */
	for (unsigned i = 0; i < 100 && status == -ENOENT; i++) {
		(void)*(volatile char *)page;
		if (syscall(SYS_move_pages, 0, 1UL, &page, NULL, &status, 0))
			return -errno;
	}
	return status;
}

void assert_on_node(void *addr, size_t npages, int node)
{
	for (size_t i = 0; i < npages; i++) {
		int is = node_of((char *)addr + i * PAGE);

		if (is != node)
			fail_msg("page %zu is on node %d, not on %d", i, is, node);
	}
}

void fill(void *addr, size_t npages, unsigned seed)
{
	uint64_t *word = addr;

	for (size_t i = 0; i < npages * PAGE / sizeof(*word); i++)
		word[i] = (uint64_t)seed << 48 ^ i * UINT64_C(0x9e3779b97f4a7c15);
}

bool page_is_filled(const void *page, size_t i, unsigned seed)
{
	const uint64_t *word = page;
	size_t first = i * PAGE / sizeof(*word);

	for (size_t k = 0; k < PAGE / sizeof(*word); k++)
		if (word[k] != ((uint64_t)seed << 48 ^ (first + k) * UINT64_C(0x9e3779b97f4a7c15)))
			return false;
	return true;
}

void assert_filled(const void *addr, size_t npages, unsigned seed)
{
	for (size_t i = 0; i < npages; i++)
		if (!page_is_filled((const char *)addr + i * PAGE, i, seed))
			fail_msg("page %zu has not the data of %u", i, seed);
}

void rig_sleep_ms(void)
{
	nanosleep(&(struct timespec){ .tv_nsec = 1000000 }, NULL);
}
