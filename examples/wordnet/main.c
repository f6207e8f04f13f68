/* SPDX-License-Identifier: MIT */
/*
 * wordnet-paths - one linked structure, shared by the CPU and an OpenCL device
 *
 *	./dev run
 *
 * builds WordNet, a database of English, as C structs with C pointers in memory of umm_alloc(),
 * and asks an OpenCL device for paths through it. The device has room for a quarter of the
 * structure; pages come when its kernel follows a pointer to them and go home when others are
 * needed or the CPU touches them. Between the launches the CPU adds and removes links, with
 * plain stores. Then the same again, with room for everything and all of it copied first.
 *
 * Where to read on: graph.h has the structs, paths.cl the kernel, job.c the rounds.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "job.h"
#include "options.h"
#include "report.h"

#define EXIT_SKIPPED 77 /* what CTest and automake take for "skipped" */

static int open_context(struct umm_ctx **ctx)
{
	struct umm_probe_info info = { .size = sizeof(info) };
	int ret = umm_ctx_create(NULL, ctx);

	if (!ret)
		return 0;
	fprintf(stderr, "wordnet-paths: managed memory: %s\n", umm_strerror(ret));
	if (umm_probe(&info) == 0 && info.advice[0])
		fprintf(stderr, "%s\n", info.advice);
	return ret;
}

static uint64_t device_bytes(const struct options *options, const struct wordnet *w)
{
	double bytes = options->limit_fraction > 0 ?
			       options->limit_fraction * (double)wordnet_bytes(w) :
			       (double)options->limit_bytes;

	if (bytes < UMM_PAGE_SIZE)
		return UMM_PAGE_SIZE;
	return (uint64_t)bytes & ~(uint64_t)(UMM_PAGE_SIZE - 1);
}

static struct picture *open_picture(const struct job *job, uint64_t bytes, const char *path)
{
	struct picture *picture = picture_create(job->ctx, bytes, path);
	const struct pool *pool = job->w->pool;
	int i, ret;

	if (!picture)
		return NULL;
	ret = picture_area(picture, "questions", job->queries,
			   job->nrounds * job->nqueries * sizeof(struct query));
	for (i = 0; i < NPOOLS && !ret; i++)
		ret = picture_area(picture, pool[i].name, pool[i].base, pool[i].used_bytes);
	if (!ret)
		return picture;
	picture_destroy(picture);
	return NULL;
}

static int close_picture(struct picture *picture, const struct job *job, uint64_t bytes)
{
	char subtitle[400];

	snprintf(subtitle, sizeof(subtitle), "%s, with room for %.1f MiB of %.1f MiB",
		 job->choice.name, (double)bytes / (1 << 20),
		 (double)wordnet_bytes(job->w) / (1 << 20));
	return picture_write(picture, "Where WordNet lived while CPU and device took turns",
			     subtitle);
}

/* The run that this is all about, with its picture. */
static int run_paged(const struct options *options, struct job *job, struct tally *tally)
{
	uint64_t bytes = device_bytes(options, job->w);
	struct picture *picture = NULL;
	int ret;

	report_structure(job, bytes);
	if (options->picture) {
		picture = open_picture(job, bytes, options->picture);
		if (!picture)
			return -EIO;
	}
	ret = job_run(job, bytes, JOB_PROGRESS, picture, tally);
	if (!ret && picture)
		ret = close_picture(picture, job, bytes);
	picture_destroy(picture);
	return ret;
}

static bool all_right(const struct tally *tally)
{
	return !tally->wrong && !tally->damaged && !tally->uncounted;
}

/* For contrast: room for everything, and everything moved there before each round. */
static int run_copied(struct job *job, struct tally *tally)
{
	printf("\nThe same again, with everything copied to the device before each round ...\n");
	fflush(stdout);
	return job_run(job, job_bytes(job) + UMM_BLOCK_SIZE, JOB_COPY_FIRST, NULL, tally);
}

static int run(const struct options *options, struct job *job)
{
	struct tally paged, copied;
	int ret, ret_copied;

	ret = run_paged(options, job, &paged);
	if (ret)
		return ret;
	report_pairs(job);
	ret_copied = run_copied(job, &copied);
	report_tallies(&paged, ret_copied ? NULL : &copied);
	if (options->picture)
		printf("\nThe picture of what lived where: %s\n", options->picture);
	if (!all_right(&paged) || (!ret_copied && !all_right(&copied))) {
		printf("\nNOT all answers, or numbers, are right.\n");
		return -EIO;
	}
	printf("\nAll answers are right: plain CPU code, following the same pointers, found the "
	       "same.\n");
	return ret_copied;
}

static int prepare(const struct options *options, struct umm_ctx **ctx, struct wordnet *w,
		   struct job *job)
{
	struct device_choice choice;
	int ret;

	ret = device_choose(options->device, &choice);
	if (ret)
		return ret;
	ret = open_context(ctx);
	if (ret)
		return ret;
	ret = wordnet_load(w, *ctx, options->data);
	if (ret)
		return ret;
	ret = job_init(job, *ctx, w, options->rounds, options->queries);
	job->choice = choice;
	return ret;
}

/* As a test, what is not there is no failure. */
static bool is_absence(int err)
{
	return err == -ENOENT || err == -ENODEV || err == -EPERM || err == -EOPNOTSUPP;
}

int main(int argc, char **argv)
{
	struct umm_ctx *ctx = NULL;
	struct wordnet w = { 0 };
	struct job job = { 0 };
	struct options options;
	int ret, status;

	if (options_parse(&options, argc, argv, &status))
		return status;
	ret = prepare(&options, &ctx, &w, &job);
	if (!ret)
		status = run(&options, &job) ? EXIT_FAILURE : EXIT_SUCCESS;
	else
		status = options.quick && is_absence(ret) ? EXIT_SKIPPED : EXIT_FAILURE;
	if (status == EXIT_SKIPPED)
		fprintf(stderr, "wordnet-paths: skipped, for the reason above\n");
	job_fini(&job);
	wordnet_free(&w);
	umm_ctx_put(ctx);
	return status;
}
