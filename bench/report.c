/* SPDX-License-Identifier: MIT */
/*
 * The report. A row has the spread of all figures that were measured in the pairs that
 * count; the ratio is the median of the pairs' ratios, with the middle half of them in
 * brackets. "p99" is the figure that 99 of 100 runs (or faults) do not fall short of, whether
 * more or less is better.
 */
#include "report.h"

#include <errno.h>
#include <string.h>

#include "umm.h"

#define NAME_WIDTH 20
#define SIDE_WIDTH 26

void report_machine(const struct bench_env *env, FILE *out)
{
	const struct machine *m = env->machine;

	fprintf(out, "umm-bench with libumm %s\n", umm_version());
	fprintf(out, "%s, %u CPU%s, %lu MiB (%lu available), Linux %s\n", m->cpu, m->ncpus,
		m->ncpus == 1 ? "" : "s", m->memory_mib, m->available_mib, m->kernel);
	fprintf(out, "transparent huge pages: %s; defrag: %s; fault servers %s\n\n", m->thp,
		m->thp_defrag,
		m->may_raise_priority ? "may run at nice -20" :
					"run at normal priority (raising it is refused)");
	fflush(out);
}

void report_head(FILE *out)
{
	fprintf(out, "%-*s %-*s %5s %9s %9s %9s %9s  %-19s %-7s %s\n", NAME_WIDTH, "case",
		SIDE_WIDTH, "side", "unit", "median", "min", "max", "p99", "ratio (middle half)",
		"goal", "verdict");
	fflush(out);
}

static const char *goal_text(const struct bench_case *bcase, char *buf, size_t room)
{
	bool most = bcase->kind == BENCH_COST || bcase->kind == BENCH_LIMIT;

	buf[0] = '\0';
	if (bcase->goal > 0)
		snprintf(buf, room, "%s %.4g", most ? "<=" : ">=", bcase->goal);
	return buf;
}

/* Four digits, whatever the size. */
static void print_value(FILE *out, double value)
{
	int digits = value >= 1000 ? 0 : value >= 100 ? 1 : value >= 10 ? 2 : 3;

	fprintf(out, " %9.*f", digits, value);
}

static double worst_99(const struct bench_case *bcase, struct series *s)
{
	return series_quantile(s, bcase->kind == BENCH_SPEED ? 0.01 : 0.99);
}

static void print_side(FILE *out, const struct bench_case *bcase, const char *name,
		       const char *side, struct series *s)
{
	fprintf(out, "%-*s %-*.*s %5s", NAME_WIDTH, name, SIDE_WIDTH, SIDE_WIDTH, side,
		bcase->unit);
	print_value(out, series_quantile(s, 0.5));
	print_value(out, series_quantile(s, 0));
	print_value(out, series_quantile(s, 1));
	print_value(out, worst_99(bcase, s));
}

void report_row(struct bench_result *result, FILE *out)
{
	const struct bench_case *bcase = result->bcase;
	char ratio[64] = "", goal[32];

	if (result->outcome != BENCH_DONE) {
		fprintf(out, "%-*s %s: %s\n", NAME_WIDTH, bcase->name,
			result->outcome == BENCH_SKIPPED ? "skipped" : "FAILED", result->note);
		fflush(out);
		return;
	}
	if (bcase->kind != BENCH_LIMIT)
		snprintf(ratio, sizeof(ratio), "%.3g (%.3g-%.3g)",
			 series_quantile(&result->ratio, 0.5),
			 series_quantile(&result->ratio, 0.25),
			 series_quantile(&result->ratio, 0.75));
	print_side(out, bcase, bcase->name, "libumm", &result->ours);
	fprintf(out, "  %-19s %-7s %s\n", ratio, goal_text(bcase, goal, sizeof(goal)),
		bench_verdict(result));
	if (result->theirs.count)
		print_side(out, bcase, "", bcase->against, &result->theirs);
	else
		fprintf(out, "%*s", NAME_WIDTH + SIDE_WIDTH + 47, "");
	fprintf(out, "  %u of %u counted%s%s%s\n", result->nused, result->npairs,
		result->noisy ? ", DISTURBED" : "", result->note[0] ? "; " : "", result->note);
	fflush(out);
}

void report_legend(const struct bench_env *env, FILE *out)
{
	fprintf(out,
		"\nRatios are taken pair by pair, libumm and its competitor in turn. "
		"Pairs in which "
		"others used\nmore than %u %% of a CPU do not count, unless too few are left: "
		"such a row is marked DISTURBED.\n",
		env->foreign_pct);
}

/* ---- JSON ------------------------------------------------------------------------- */

static void json_string(FILE *out, const char *text)
{
	fputc('"', out);
	for (; *text; text++) {
		unsigned char c = (unsigned char)*text;

		if (c == '"' || c == '\\')
			fprintf(out, "\\%c", c);
		else if (c < 0x20)
			fprintf(out, "\\u%04x", c);
		else
			fputc(c, out);
	}
	fputc('"', out);
}

static void json_field(FILE *out, const char *name, const char *text)
{
	fprintf(out, "\"%s\": ", name);
	json_string(out, text);
}

static void json_machine(const struct bench_env *env, FILE *out)
{
	const struct machine *m = env->machine;

	fputs("  \"machine\": {", out);
	json_field(out, "cpu", m->cpu);
	fprintf(out, ", \"cpus\": %u, \"memory_mib\": %lu, ", m->ncpus, m->memory_mib);
	json_field(out, "kernel", m->kernel);
	fputs(", ", out);
	json_field(out, "thp", m->thp);
	fputs(", ", out);
	json_field(out, "thp_defrag", m->thp_defrag);
	fprintf(out, ", \"may_raise_priority\": %s},\n", m->may_raise_priority ? "true" : "false");
	fprintf(out,
		"  \"options\": {\"quick\": %s, \"bulk_bytes\": %zu, \"fault_pages\": %zu, "
		"\"touch_bytes\": %zu, \"foreign_percent\": %u},\n",
		env->quick ? "true" : "false", env->bulk_bytes, env->fault_pages, env->touch_bytes,
		env->foreign_pct);
}

static void json_series(FILE *out, const char *name, struct series *s, const char *text)
{
	fprintf(out, ",\n     \"%s\": {", name);
	if (text) {
		json_field(out, "name", text);
		fputs(", ", out);
	}
	fprintf(out,
		"\"count\": %zu, \"min\": %.6g, \"p1\": %.6g, \"p25\": %.6g, \"median\": %.6g, "
		"\"p75\": %.6g, \"p99\": %.6g, \"p999\": %.6g, \"max\": %.6g}",
		s->count, series_quantile(s, 0), series_quantile(s, 0.01), series_quantile(s, 0.25),
		series_quantile(s, 0.5), series_quantile(s, 0.75), series_quantile(s, 0.99),
		series_quantile(s, 0.999), series_quantile(s, 1));
}

static void json_pairs(FILE *out, struct bench_result *result)
{
	unsigned i;

	fputs(",\n     \"pairs\": [", out);
	for (i = 0; i < result->npairs; i++) {
		struct bench_pair *pair = &result->pairs[i];

		fprintf(out, "%s\n      {\"libumm\": %.6g, ", i ? "," : "",
			series_quantile(&pair->ours, 0.5));
		if (pair->theirs.count)
			fprintf(out, "\"competitor\": %.6g, ", series_quantile(&pair->theirs, 0.5));
		fprintf(out, "\"ratio\": %.6g, \"foreign_percent\": %.3g, \"counted\": %s}",
			pair->ratio, pair->foreign_pct, pair->used ? "true" : "false");
	}
	fputs("]", out);
}

static void json_case(FILE *out, struct bench_result *result)
{
	static const char *const kind[] = { "cost", "speed", "speedup", "limit" };
	static const char *const outcome[] = { "done", "skipped", "failed" };
	const struct bench_case *bcase = result->bcase;

	fputs("    {", out);
	json_field(out, "name", bcase->name);
	fputs(", ", out);
	json_field(out, "summary", bcase->summary);
	fputs(",\n     ", out);
	json_field(out, "unit", bcase->unit);
	fputs(", ", out);
	json_field(out, "kind", kind[bcase->kind]);
	fputs(", ", out);
	json_field(out, "outcome", outcome[result->outcome]);
	fputs(", ", out);
	json_field(out, "note", result->note);
	if (bcase->goal > 0)
		fprintf(out, ", \"goal\": %.6g, \"verdict\": \"%s\"", bcase->goal,
			bench_verdict(result));
	if (result->outcome == BENCH_DONE) {
		fprintf(out, ", \"disturbed\": %s", result->noisy ? "true" : "false");
		json_series(out, "libumm", &result->ours, NULL);
		if (result->theirs.count)
			json_series(out, "competitor", &result->theirs, bcase->against);
		json_series(out, "ratio", &result->ratio, NULL);
		json_pairs(out, result);
	}
	fputs("}", out);
}

int report_json(const struct bench_env *env, struct bench_result *results, size_t nresults,
		FILE *out)
{
	size_t i;

	fputs("{\n  ", out);
	json_field(out, "libumm", umm_version());
	fputs(",\n", out);
	json_machine(env, out);
	fputs("  \"cases\": [\n", out);
	for (i = 0; i < nresults; i++) {
		json_case(out, &results[i]);
		fputs(i + 1 < nresults ? ",\n" : "\n", out);
	}
	fputs("  ]\n}\n", out);
	return fflush(out) || ferror(out) ? -EIO : 0;
}
