/* SPDX-License-Identifier: MIT */
/*
 * Device and CPU take turns on one structure: the device answers a round of questions, the CPU
 * changes links, and so on. Nobody moves anything by hand, unless JOB_COPY_FIRST asks for the
 * contrast.
 *
 * The answers are checked afterwards, on the very same structure and going backwards: the last
 * round's first, then the last changes are undone, then the round before, down to the structure
 * as it was built. That keeps the check out of the measurement, and an edit that was lost on
 * the way cannot hide: it could not be undone.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "cpu.h"
#include "job.h"
#include "questions.h"

#define WRONG_SHOWN 5

static double now(void)
{
	struct timespec time;

	clock_gettime(CLOCK_MONOTONIC, &time);
	return (double)time.tv_sec + (double)time.tv_nsec / 1e9;
}

int job_init(struct job *job, struct umm_ctx *ctx, struct wordnet *w, unsigned nrounds,
	     size_t nqueries)
{
	size_t bytes = nrounds * nqueries * sizeof(struct query);
	void *memory;
	unsigned round;
	int ret;

	*job = (struct job){ .ctx = ctx, .w = w, .nrounds = nrounds, .nqueries = nqueries };
	job->marks = calloc(nrounds, sizeof(*job->marks));
	ret = job->marks ? umm_alloc(ctx, bytes, 0, &memory) : -ENOMEM;
	if (ret) {
		fprintf(stderr, "wordnet-paths: %zu bytes for the questions: %s\n", bytes,
			umm_strerror(ret));
		return ret;
	}
	job->queries = memory;
	for (round = 0; round < nrounds && !ret; round++)
		ret = questions_fill(w, round, job->queries + round * nqueries, nqueries);
	return ret;
}

void job_fini(struct job *job)
{
	if (job->queries)
		umm_free(job->ctx, job->queries);
	free(job->marks);
	journal_free(&job->journal);
	*job = (struct job){ 0 };
}

static size_t queries_bytes(const struct job *job)
{
	return job->nrounds * job->nqueries * sizeof(struct query);
}

uint64_t job_bytes(const struct job *job)
{
	return wordnet_bytes(job->w) +
	       ((queries_bytes(job) + UMM_PAGE_SIZE - 1) & ~(UMM_PAGE_SIZE - 1));
}

size_t job_named(const struct job *job)
{
	return n_named_pairs < job->nqueries / 2 ? n_named_pairs : job->nqueries / 2;
}

/* ---- the rounds ---- */

/* What most programs do today: everything goes over before the kernel starts. */
static int copy_everything(struct job *job, struct device *device)
{
	struct umm_span spans[NPOOLS + 1];
	struct umm_migrate_request req = { .size = sizeof(req),
					   .spans = spans,
					   .nspans = NPOOLS + 1,
					   .dst = umm_opencl_devmem(device->ocl),
					   .cause = UMM_CAUSE_EXPLICIT };
	long ret;
	int i;

	for (i = 0; i < NPOOLS; i++)
		spans[i] = (struct umm_span){ .start = (uintptr_t)job->w->pool[i].base,
					      .len = job->w->pool[i].used_bytes };
	spans[NPOOLS] =
		(struct umm_span){ .start = (uintptr_t)job->queries, .len = queries_bytes(job) };
	ret = umm_migrate_spans(job->ctx, &req, NULL);
	if (ret >= 0)
		return 0;
	fprintf(stderr, "wordnet-paths: moving everything to the device: %s\n",
		umm_strerror((int)ret));
	return (int)ret;
}

/* Time stands still while the picture is taken. */
static int look(struct picture *picture, const struct tally *tally, enum picture_what what)
{
	int ret = picture ? picture_look(picture, tally->seconds, what) : 0;

	if (ret)
		fprintf(stderr, "wordnet-paths: looking where pages are: %s\n", umm_strerror(ret));
	return ret;
}

static int answer_round(struct job *job, struct device *device, struct query *queries,
			struct picture *picture, struct tally *tally)
{
	size_t done, n;
	double start;
	int ret;

	for (done = 0; done < job->nqueries; done += n) {
		n = job->nqueries - done < BATCH ? job->nqueries - done : BATCH;
		start = now();
		ret = device_answer(device, job->w, queries + done, n);
		tally->seconds += now() - start;
		if (!ret)
			ret = look(picture, tally, PICTURE_LAUNCH);
		if (ret)
			return ret;
		tally->answers += n;
	}
	return 0;
}

/* The CPU joins one of the named pairs, separates the one before, and changes much else. */
static int change(struct job *job, unsigned round, struct picture *picture, struct tally *tally)
{
	const struct query *named = job->queries;
	size_t n = job_named(job) ? job_named(job) : 1;
	double start = now();
	int ret;

	ret = edit_round(job->w, &job->journal, round, &named[2 * (round % n)],
			 round ? &named[2 * ((round - 1) % n)] : NULL);
	tally->seconds += now() - start;
	if (ret < 0) {
		fprintf(stderr, "wordnet-paths: changing links: %s\n", umm_strerror(ret));
		return ret;
	}
	tally->edits += (uint64_t)ret;
	return look(picture, tally, PICTURE_EDIT);
}

static void count(struct job *job, const struct device *device, const struct umm_stats *before,
		  struct tally *tally)
{
	struct umm_stats after = { .size = sizeof(after) };

	umm_ctx_stats(job->ctx, &after);
#define SINCE(which) (after.counter[which] - before->counter[which])
	tally->cpu_faults = SINCE(UMM_COUNT_FAULT_DEVICE);
	tally->bytes_in = SINCE(UMM_COUNT_BYTES_TO_DEVICE);
	tally->bytes_copied = SINCE(UMM_COUNT_DUPLICATED) * UMM_PAGE_SIZE;
	tally->bytes_out = SINCE(UMM_COUNT_BYTES_FROM_DEVICE);
	tally->evictions = SINCE(UMM_COUNT_EVICTIONS);
#undef SINCE
	tally->kernel_rounds = device->nrounds;
	tally->device_faults = device->nfaults;
}

static void progress(const struct job *job, unsigned round, const struct tally *before,
		     const struct tally *tally)
{
	printf("  round %u of %u: %zu answers in %.2f s; %.1f MiB to the device, %.1f MiB home, "
	       "%llu evictions\n",
	       round + 1, job->nrounds, job->nqueries, tally->seconds - before->seconds,
	       (double)(tally->bytes_in - before->bytes_in) / (1 << 20),
	       (double)(tally->bytes_out - before->bytes_out) / (1 << 20),
	       (unsigned long long)(tally->evictions - before->evictions));
	fflush(stdout);
}

/*
 * In the first round the CPU touches nothing, and pages leave the device only to make room: what
 * was copied there and has not moved there since must have fitted, or there were evictions.
 */
static bool uncounted(const struct job *job, const struct umm_stats *before,
		      const struct tally *tally)
{
	struct umm_stats after = { .size = sizeof(after) };
	uint64_t copied, moved = 0;
	unsigned cause;

	umm_ctx_stats(job->ctx, &after);
	copied = after.counter[UMM_COUNT_DUPLICATED] - before->counter[UMM_COUNT_DUPLICATED];
	for (cause = 0; cause < UMM_NR_CAUSES; cause++)
		moved += after.counter[UMM_COUNT_TO_DEVICE + cause] -
			 before->counter[UMM_COUNT_TO_DEVICE + cause];
	if (after.counter[UMM_COUNT_EVICTIONS] > before->counter[UMM_COUNT_EVICTIONS] ||
	    copied <= moved + tally->device_bytes / UMM_PAGE_SIZE)
		return false;
	fprintf(stderr,
		"wordnet-paths: %llu pages were copied into room for %llu, but none was evicted\n",
		(unsigned long long)copied,
		(unsigned long long)(tally->device_bytes / UMM_PAGE_SIZE));
	return true;
}

static int all_rounds(struct job *job, struct device *device, unsigned flags,
		      struct picture *picture, struct tally *tally)
{
	struct umm_stats stats = { .size = sizeof(stats) };
	struct tally before;
	unsigned round;
	double start;
	int ret;

	umm_ctx_stats(job->ctx, &stats);
	ret = look(picture, tally, PICTURE_START);
	for (round = 0; round < job->nrounds && !ret; round++) {
		before = *tally;
		job->marks[round] = job->journal.nedits;
		if (flags & JOB_COPY_FIRST) {
			start = now();
			ret = copy_everything(job, device);
			tally->seconds += now() - start;
		}
		if (!ret)
			ret = answer_round(job, device, job->queries + round * job->nqueries,
					   picture, tally);
		if (!ret && !round)
			tally->uncounted = uncounted(job, &stats, tally);
		if (!ret && round + 1 < job->nrounds)
			ret = change(job, round, picture, tally);
		count(job, device, &stats, tally);
		if (!ret && (flags & JOB_PROGRESS))
			progress(job, round, &before, tally);
	}
	return ret;
}

/* ---- the check ---- */

/* A wrong answer may point anywhere. */
static const char *name_of(const struct wordnet *w, const struct synset *synset)
{
	if (!synset)
		return "";
	return synset_index(w, synset) < w->nsynsets && synset->senses ? synset_name(synset) :
									 "not a synset";
}

static void show_wrong(const struct wordnet *w, const struct query *given,
		       const struct query *right)
{
	fprintf(stderr,
		"wordnet-paths: wrong answer for the %s of '%s' and '%s': %d %s, not %d %s\n",
		given->kind == QUERY_DISTANCE ? "distance" : "hypernym", given->a->text,
		given->b->text, given->steps, name_of(w, given->meet), right->steps,
		name_of(w, right->meet));
}

static void check_round(struct job *job, struct cpu *cpu, unsigned round, struct tally *tally)
{
	const struct query *query = job->queries + round * job->nqueries;
	struct query right;
	size_t i;

	for (i = 0; i < job->nqueries; i++, query++) {
		right = *query;
		cpu_answer(cpu, &right);
		if (right.steps == query->steps && right.meet == query->meet)
			continue;
		if (tally->wrong++ < WRONG_SHOWN)
			show_wrong(job->w, query, &right);
	}
}

static int check(struct job *job, uint64_t checksum, struct tally *tally)
{
	struct cpu *cpu = cpu_create(job->w);
	unsigned round;
	int ret = cpu ? 0 : -ENOMEM;

	for (round = job->nrounds; round-- && !ret;) {
		ret = edit_undo(job->w, &job->journal, job->marks[round]);
		if (!ret)
			check_round(job, cpu, round, tally);
	}
	cpu_destroy(cpu);
	tally->damaged = ret == -ENOENT || (!ret && wordnet_checksum(job->w) != checksum);
	if (tally->damaged)
		fprintf(stderr, "wordnet-paths: the structure is damaged: links got lost\n");
	else if (ret)
		fprintf(stderr, "wordnet-paths: checking: %s\n", umm_strerror(ret));
	return tally->damaged ? 0 : ret;
}

static void forget_answers(struct job *job)
{
	size_t i;

	for (i = 0; i < job->nrounds * job->nqueries; i++) {
		job->queries[i].steps = QUERY_UNANSWERED;
		job->queries[i].meet = NULL;
	}
}

int job_run(struct job *job, uint64_t device_bytes, unsigned flags, struct picture *picture,
	    struct tally *tally)
{
	uint64_t checksum = wordnet_checksum(job->w);
	struct device device;
	int ret;

	*tally = (struct tally){ .device_bytes = device_bytes };
	forget_answers(job);
	ret = device_open(&device, &job->choice, job->ctx, device_bytes);
	if (ret)
		return ret;
	ret = all_rounds(job, &device, flags, picture, tally);
	if (!ret)
		ret = check(job, checksum, tally);
	device_close(&device);
	return ret;
}
