/* SPDX-License-Identifier: MIT */
/*
 * Running one case: set it up, warm it up, then pairs of runs until enough of them
 * were undisturbed, at most three times as many as asked for.
 *
 * The order within a pair alternates, so that neither side always runs on what the other
 * left in caches and free lists. A pair counts when others used little CPU during both
 * of its runs; the rest is kept, shown and not counted. Where fewer than three
 * pairs (or a third of them) were quiet all are counted, and the row says so.
 */
#include "bench.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define WAIT_QUIET_MS 15000 /* for others to finish, for one case */

int bench_note(struct bench_env *env, int err, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(env->note, sizeof(env->note), fmt, ap);
	va_end(ap);
	return err;
}

static int run_side(struct bench_env *env, int (*side)(void *, struct series *), void *state,
		    struct series *out, double *foreign_pct)
{
	uint64_t begin;
	double pct;
	int ret;

	machine_look(env->machine);
	begin = machine_now();
	ret = side(state, out);
	if (ret == 0)
		ret = out->error;
	if (ret)
		return ret;
	pct = machine_foreign(env->machine, begin);
	if (pct > *foreign_pct)
		*foreign_pct = pct;
	return 0;
}

static double pair_ratio(const struct bench_case *bcase, struct bench_pair *pair)
{
	double ours = series_quantile(&pair->ours, 0.5);
	double theirs = series_quantile(&pair->theirs, 0.5);

	switch (bcase->kind) {
	case BENCH_COST:
	case BENCH_SPEED:
		return theirs > 0 ? ours / theirs : 0;
	case BENCH_SPEEDUP:
		return ours > 0 ? theirs / ours : 0;
	case BENCH_LIMIT:
		break;
	}
	return ours;
}

static int run_pair(struct bench_env *env, const struct bench_case *bcase, void *state,
		    bool theirs_first, struct bench_pair *pair)
{
	int ret = 0;

	memset(pair, 0, sizeof(*pair));
	if (bcase->theirs && theirs_first)
		ret = run_side(env, bcase->theirs, state, &pair->theirs, &pair->foreign_pct);
	if (ret == 0)
		ret = run_side(env, bcase->ours, state, &pair->ours, &pair->foreign_pct);
	if (ret == 0 && bcase->theirs && !theirs_first)
		ret = run_side(env, bcase->theirs, state, &pair->theirs, &pair->foreign_pct);
	if (ret)
		return ret;
	pair->ratio = pair_ratio(bcase, pair);
	pair->disturbed = pair->foreign_pct > env->foreign_pct;
	return 0;
}

static void pair_fini(struct bench_pair *pair)
{
	series_fini(&pair->ours);
	series_fini(&pair->theirs);
}

/* Two pairs that nobody counts: buffers, pools and page tables become what they stay. */
static int warm_up(struct bench_env *env, const struct bench_case *bcase, void *state)
{
	struct bench_pair pair;
	int i, ret = 0;

	for (i = 0; i < 2 && ret == 0 && !env->quick; i++) {
		ret = run_pair(env, bcase, state, i & 1, &pair);
		pair_fini(&pair);
	}
	return ret;
}

static int run_pairs(struct bench_env *env, const struct bench_case *bcase, void *state,
		     unsigned wanted, struct bench_result *result)
{
	unsigned limit = wanted * (env->quick ? 1 : 3);
	unsigned patience_ms = env->patience_ms < WAIT_QUIET_MS ? env->patience_ms : WAIT_QUIET_MS;
	unsigned waited_ms;
	unsigned quiet = 0;
	int ret;

	result->pairs = calloc(limit, sizeof(*result->pairs));
	if (!result->pairs)
		return -ENOMEM;
	while (result->npairs < limit && quiet < wanted) {
		struct bench_pair *pair = &result->pairs[result->npairs];

		waited_ms = machine_wait_quiet(env->machine, env->foreign_pct, patience_ms);
		patience_ms -= waited_ms;
		env->patience_ms -= waited_ms;
		ret = run_pair(env, bcase, state, result->npairs & 1, pair);
		if (ret) {
			pair_fini(pair);
			return ret;
		}
		result->npairs++;
		quiet += !pair->disturbed;
	}
	result->noisy = quiet < wanted && (quiet < 3 || quiet < wanted / 3);
	return 0;
}

static int gather(struct bench_result *result)
{
	unsigned i;

	for (i = 0; i < result->npairs; i++) {
		struct bench_pair *pair = &result->pairs[i];

		if (pair->disturbed && !result->noisy)
			continue;
		pair->used = true;
		result->nused++;
		series_append(&result->ours, &pair->ours);
		series_append(&result->theirs, &pair->theirs);
		series_push(&result->ratio, pair->ratio);
	}
	return result->ours.error ?: result->theirs.error ?: result->ratio.error;
}

static void name_failure(struct bench_env *env, struct bench_result *result, int ret)
{
	result->outcome = ret == BENCH_SKIP ? BENCH_SKIPPED : BENCH_FAILED;
	if (ret == BENCH_SKIP)
		snprintf(result->note, sizeof(result->note), "%s", env->note);
	else
		snprintf(result->note, sizeof(result->note), "%.150s%s%.40s", env->note,
			 env->note[0] ? ": " : "", strerror(-ret));
}

void bench_run_case(struct bench_env *env, const struct bench_case *bcase,
		    struct bench_result *result)
{
	unsigned wanted = env->pairs ? env->pairs : env->quick ? 1 : bcase->pairs;
	void *state = NULL;
	int ret;

	memset(result, 0, sizeof(*result));
	result->bcase = bcase;
	env->note[0] = '\0';
	ret = bcase->setup(env, bcase, &state);
	if (ret == 0)
		ret = warm_up(env, bcase, state);
	if (ret == 0)
		ret = run_pairs(env, bcase, state, wanted, result);
	if (ret == 0)
		ret = gather(result);
	bcase->teardown(state);
	if (ret)
		name_failure(env, result, ret);
	else
		snprintf(result->note, sizeof(result->note), "%s", env->note);
}

void bench_result_fini(struct bench_result *result)
{
	unsigned i;

	for (i = 0; i < result->npairs; i++)
		pair_fini(&result->pairs[i]);
	free(result->pairs);
	series_fini(&result->ours);
	series_fini(&result->theirs);
	series_fini(&result->ratio);
}

const char *bench_verdict(const struct bench_result *result)
{
	const struct bench_case *bcase = result->bcase;
	struct series ratio = result->ratio;
	double value;
	bool reached;

	if (result->outcome != BENCH_DONE || bcase->goal <= 0)
		return "";
	value = series_quantile(&ratio, 0.5);
	if (bcase->kind == BENCH_COST || bcase->kind == BENCH_LIMIT)
		reached = value <= bcase->goal;
	else
		reached = value >= bcase->goal;
	return reached ? "reached" : "missed";
}
