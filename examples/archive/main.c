/* SPDX-License-Identifier: MIT */
/*
 * A job on a Debian archive's packages, four times: with all of its memory near, all of it far, in
 * turn on all nodes, and with libumm, which keeps near what the job walks through and has the
 * texts far away. What each costs, and why: how much near memory it takes, and how many of the
 * job's accesses go to other nodes.
 *
 *	cc *.c $(pkg-config --cflags --libs umm) -lumm_numa -lnuma -o archive-tiers
 */
#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>

#include "tiers.h"

static const char usage[] =
	"Usage: archive-tiers [--quick] [--copies N] [FILE]\n"
	"\n"
	"Follows the dependencies of every package in FILE (in the form of /var/lib/dpkg/status;\n"
	"default: what 'apt-cache dumpavail' prints) through memory that is placed in four ways.\n"
	"\n"
	"  --copies N   how many copies of the archive there are in memory (default: 4)\n"
	"  --quick      a small run, as a test: one copy of /var/lib/dpkg/status, one round; ends\n"
	"               with 77 where there is no such file, no memory node or no userfaultfd\n"
	"\n"
	"Exit status: 0 all four found the same, 1 not so, 2 wrong usage.\n";

/* What a thread next to the near memory is to do. */
struct task {
	struct tiers *tiers;
	struct place *place;
	uint32_t *touches;
	int ret;
};

double tiers_now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (double)ts.tv_sec + (double)ts.tv_nsec * 1e-9;
}

static void fill_task(void *arg, unsigned thread)
{
	struct task *task = arg;

	(void)thread;
	task->ret = place_prefer_near(&task->tiers->nodes);
	if (!task->ret)
		job_fill(&task->place->data, &task->tiers->archive);
}

static void run_task(void *arg, unsigned thread)
{
	struct task *task = arg;
	struct place *place = task->place;
	struct rusage before, after;
	double begin;

	(void)thread;
	getrusage(RUSAGE_THREAD, &before);
	begin = tiers_now();
	task->ret = job_run(&place->data, task->touches, &place->result);
	begin = tiers_now() - begin;
	getrusage(RUSAGE_THREAD, &after);
	if (task->touches)
		return;
	if (!place->seconds || begin < place->seconds)
		place->seconds = begin;
	place->faults += after.ru_minflt - before.ru_minflt;
}

static int run_near(struct tiers *tiers, void (*fn)(void *, unsigned), struct task *task)
{
	int ret = umm_numa_run(tiers->near, fn, task, 1, NULL);

	return ret ? ret : task->ret;
}

static int place_make(struct tiers *tiers, enum place_kind kind)
{
	struct place *place = &tiers->place[kind];
	struct task task = { .tiers = tiers, .place = place };
	struct job_data *data = &place->data;
	long moved;
	int ret;

	job_layout(data, &tiers->archive, tiers->options.copies);
	ret = place_map(kind, &tiers->nodes, tiers->ctx, data->hot_len + data->cold_len,
			&data->base);
	if (!ret)
		ret = run_near(tiers, fill_task, &task);
	if (ret || kind != PLACE_UMM)
		return ret;
	/* This is all that libumm asks of the program. */
	moved = umm_migrate_to_device(tiers->ctx, umm_numa_devmem(tiers->far),
				      data->base + data->hot_len, data->cold_len);
	if (moved < 0)
		return (int)moved;
	if ((size_t)moved < data->cold_len / UMM_PAGE_SIZE)
		printf("%ld of %zu cold pages went to node %d: it has no room for more.\n\n", moved,
		       data->cold_len / UMM_PAGE_SIZE, place_far(&tiers->nodes));
	return 0;
}

/* Whose pages the job's accesses went to. Which pages those are does not depend on the place. */
static int place_look(struct tiers *tiers, struct place *place)
{
	size_t npages = (place->data.hot_len + place->data.cold_len) / UMM_PAGE_SIZE;
	uint64_t all = 0, other = 0;
	int *node = malloc(npages * sizeof(*node)), ret;

	if (!node)
		return -ENOMEM;
	ret = place_query(place->data.base, npages, node);
	for (size_t i = 0; i < npages && !ret; i++) {
		bool near = node[i] == place_near(&tiers->nodes);

		place->near_pages += near;
		place->other_pages += node[i] >= 0 && !near;
		all += tiers->touches[i];
		other += near ? 0 : tiers->touches[i];
	}
	place->other_pct = all ? 100.0 * (double)other / (double)all : 0;
	free(node);
	return ret;
}

/* The places in turn, round by round, so that what drifts drifts for all. */
static int measure(struct tiers *tiers)
{
	struct place *first = &tiers->place[PLACE_NEAR];
	size_t npages = (first->data.hot_len + first->data.cold_len) / UMM_PAGE_SIZE;
	struct task task = { .tiers = tiers, .place = first };
	int ret;

	tiers->touches = task.touches = calloc(npages, sizeof(*tiers->touches));
	if (!task.touches)
		return -ENOMEM;
	ret = run_near(tiers, run_task, &task);
	task.touches = NULL;
	for (unsigned round = 0; round < tiers->options.rounds; round++)
		for (unsigned kind = 0; kind < NPLACES && !ret; kind++) {
			task.place = &tiers->place[kind];
			ret = run_near(tiers, run_task, &task);
		}
	for (unsigned kind = 0; kind < NPLACES && !ret; kind++)
		ret = place_look(tiers, &tiers->place[kind]);
	return ret;
}

/* Whether all of them found the same, and no access to the far part was a fault of libumm's. */
static bool is_right(const struct tiers *tiers)
{
	const struct job_result *first = &tiers->place[PLACE_NEAR].result;
	struct umm_stats stats = { .size = sizeof(stats) };
	bool right = true;

	for (unsigned kind = 0; kind < NPLACES; kind++) {
		const struct job_result *result = &tiers->place[kind].result;

		right &= result->visited == first->visited && result->kib == first->kib &&
			 !strcmp(result->title, first->title);
	}
	return right && !umm_ctx_stats(tiers->ctx, &stats) &&
	       !stats.counter[UMM_COUNT_FAULT_DEVICE];
}

static int tiers_open(struct tiers *tiers)
{
	struct umm_numa_options near = { .size = sizeof(near), .bytes = UMM_BLOCK_SIZE };
	struct umm_numa_options far = near;
	struct job_data data;
	int ret = place_nodes_get(&tiers->nodes);

	if (!ret)
		ret = umm_ctx_create(NULL, &tiers->ctx);
	if (ret)
		return ret;
	job_layout(&data, &tiers->archive, tiers->options.copies);
	near.node = place_near(&tiers->nodes);
	far.node = place_far(&tiers->nodes);
	far.bytes = data.cold_len;
	ret = umm_numa_create(tiers->ctx, &near, &tiers->near);
	if (!ret)
		ret = umm_numa_create(tiers->ctx, &far, &tiers->far);
	for (unsigned kind = 0; kind < NPLACES && !ret; kind++)
		ret = place_make(tiers, kind);
	return ret;
}

static void tiers_close(struct tiers *tiers)
{
	for (unsigned kind = 0; kind < NPLACES; kind++) {
		const struct job_data *data = &tiers->place[kind].data;

		if (data->base)
			place_unmap(kind, tiers->ctx, data->base, data->hot_len + data->cold_len);
	}
	umm_ctx_put(tiers->ctx);
	archive_free(&tiers->archive);
	free(tiers->touches);
}

static int parse(int argc, char **argv, struct options *options)
{
	static const struct option names[] = { { "copies", required_argument, NULL, 'c' },
					       { "quick", no_argument, NULL, 'q' },
					       { "help", no_argument, NULL, 'h' },
					       { 0 } };
	char *end = "";
	int c;

	*options = (struct options){ .copies = 4, .rounds = 5 };
	while ((c = getopt_long(argc, argv, "", names, NULL)) != -1) {
		if (c == 'c')
			options->copies = (unsigned)strtoul(optarg, &end, 10);
		else if (c == 'q')
			*options = (struct options){ .quick = true, .copies = 1, .rounds = 1 };
		if (c == 'h' || c == '?' || *end || !options->copies || options->copies > 1024) {
			fputs(usage, c == 'h' ? stdout : stderr);
			return c == 'h' ? 0 : -EINVAL;
		}
	}
	options->file = optind < argc  ? argv[optind] :
			options->quick ? "/var/lib/dpkg/status" :
					 NULL;
	return 1;
}

int main(int argc, char **argv)
{
	static struct tiers tiers;
	int ret = parse(argc, argv, &tiers.options);

	if (ret <= 0)
		return ret ? 2 : 0;
	ret = archive_load(&tiers.archive, tiers.options.file);
	if (ret)
		return tiers.options.quick ? 77 : 1;
	ret = tiers_open(&tiers);
	if (!ret)
		ret = measure(&tiers);
	if (!ret)
		ret = report(&tiers);
	if (ret)
		fprintf(stderr, "archive-tiers: %s\n", umm_strerror(ret));
	else if (!is_right(&tiers))
		fprintf(stderr, "archive-tiers: the placements do not agree\n");
	if (!ret && !is_right(&tiers))
		ret = 1;
	tiers_close(&tiers);
	if (ret && tiers.options.quick && (ret == -EPERM || ret == -EOPNOTSUPP || ret == -ENODEV))
		return 77;
	return ret ? 1 : 0;
}
