/* SPDX-License-Identifier: MIT */
/*
 * umm-bench: measures libumm against the best that can be done without it.
 *
 * This file reads the command line, chooses the cases and prints what they give. Exit
 * status: 0 every chosen case ran or was skipped, whatever its verdict; 1 a case failed; 2 the
 * command line makes no sense.
 */
#include <errno.h>
#include <fnmatch.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bench.h"
#include "pictures.h"
#include "report.h"
#include "umm.h"

#define MAX_CASES   128
#define PATIENCE_MS 120000

static const struct bench_case *const groups[] = {
	case_fault, case_pingpong, case_busy,	case_threads, case_bulk,   case_pages,
	case_ahead, case_hints,	   case_size,	case_numa,    case_opencl, case_kernel,
	case_wait,  case_touch,	   case_use,	case_range,   case_books,  case_scale,
	case_shim,  case_apps,	   case_ladder, case_umap,
};

static const char usage_text[] =
	"usage: umm-bench [OPTION]... [CASE]...\n"
	"Measure libumm against bare competitors, side by side, and print ratios.\n"
	"CASE is a name, a group (fault) or a pattern ('bulk/*-out'); none: all of them.\n"
	"\n"
	"  -l, --list            the cases, one a line\n"
	"  -n, --pairs N         so many undisturbed pairs of runs for each case\n"
	"  -s, --size MIB        memory that the bulk cases move (1024)\n"
	"  -f, --foreign PCT     CPU use by others, in percent of one CPU, that disturbs a\n"
	"                        pair (10)\n"
	"  -d, --device NAME     the OpenCL device whose name contains NAME\n"
	"  -j, --json FILE       write JSON too; '-': to standard output, and the table to\n"
	"                        standard error\n"
	"  -o, --out DIR         write there, as tables, what pictures show; ./dev bench draws\n"
	"                        them\n"
	"  -q, --quick           small and short, to see that everything runs: the figures\n"
	"                        mean little\n"
	"  -h, --help            this text\n"
	"\n"
	"Examples:\n"
	"  umm-bench fault\n"
	"  umm-bench -n 50 --json touch.json touch/4k\n";

struct arguments {
	bool list;
	bool help;
	const char *json;
	const char *out;
	struct bench_env *env;
};

static int usage_error(const char *what, const char *value)
{
	fprintf(stderr, "umm-bench: %s '%s'; see umm-bench --help\n", what, value);
	return -EINVAL;
}

static int parse_number(const char *text, unsigned long low, unsigned long high, unsigned long *out)
{
	char *end;

	errno = 0;
	*out = strtoul(text, &end, 10);
	if (errno || end == text || *end || *out < low || *out > high) {
		fprintf(stderr, "umm-bench: '%s' is not a number from %lu to %lu\n", text, low,
			high);
		return -EINVAL;
	}
	return 0;
}

static int parse_option(int option, struct arguments *args)
{
	struct bench_env *env = args->env;
	unsigned long number = 0;
	int ret = 0;

	switch (option) {
	case 'l':
		args->list = true;
		break;
	case 'n':
		ret = parse_number(optarg, 1, 100000, &number);
		env->pairs = (unsigned)number;
		break;
	case 's':
		ret = parse_number(optarg, 2, 1024 * 1024, &number);
		env->bulk_bytes = (number & ~1UL) * BENCH_MIB;
		break;
	case 'f':
		ret = parse_number(optarg, 0, 1000000, &number);
		env->foreign_pct = (unsigned)number;
		break;
	case 'd':
		env->device = optarg;
		break;
	case 'j':
		args->json = optarg;
		break;
	case 'o':
		args->out = optarg;
		break;
	case 'q':
		env->quick = true;
		break;
	case 'h':
		args->help = true;
		break;
	default: /* getopt_long() has said what is wrong */
		ret = -EINVAL;
	}
	return ret;
}

static int parse(int argc, char **argv, struct arguments *args)
{
	static const struct option options[] = {
		{ "list", no_argument, NULL, 'l' },
		{ "pairs", required_argument, NULL, 'n' },
		{ "size", required_argument, NULL, 's' },
		{ "foreign", required_argument, NULL, 'f' },
		{ "device", required_argument, NULL, 'd' },
		{ "json", required_argument, NULL, 'j' },
		{ "out", required_argument, NULL, 'o' },
		{ "quick", no_argument, NULL, 'q' },
		{ "help", no_argument, NULL, 'h' },
		{ 0 },
	};
	struct bench_env *env = args->env;
	int option, ret;

	while ((option = getopt_long(argc, argv, "ln:s:f:d:j:o:qh", options, NULL)) != -1) {
		ret = parse_option(option, args);
		if (ret)
			return ret;
	}
	if (!env->bulk_bytes)
		env->bulk_bytes = (env->quick ? 64 : 1024) * BENCH_MIB;
	env->patience_ms = env->quick ? 0 : PATIENCE_MS;
	env->fault_pages = env->quick ? UMM_BLOCK_PAGES : 8 * UMM_BLOCK_PAGES;
	env->touch_bytes = (env->quick ? 16 : 64) * BENCH_MIB;
	return 0;
}

/* A pattern chooses a case by its name, or by the group before the slash. */
static bool matches(const struct bench_case *bcase, const char *pattern)
{
	size_t len = strcspn(bcase->name, "/");

	return fnmatch(pattern, bcase->name, 0) == 0 ||
	       (strlen(pattern) == len && strncmp(pattern, bcase->name, len) == 0);
}

static int choose(char **patterns, int npatterns, const struct bench_case **chosen)
{
	bool hit[MAX_CASES] = { false };
	const struct bench_case *bcase;
	int count = 0, i;
	size_t g;

	for (g = 0; g < sizeof(groups) / sizeof(*groups); g++) {
		for (bcase = groups[g]; bcase->name && count < MAX_CASES; bcase++) {
			bool take = npatterns == 0;

			for (i = 0; i < npatterns && i < MAX_CASES; i++) {
				if (!matches(bcase, patterns[i]))
					continue;
				take = true;
				hit[i] = true;
			}
			if (take)
				chosen[count++] = bcase;
		}
	}
	for (i = 0; i < npatterns && i < MAX_CASES; i++)
		if (!hit[i])
			return usage_error("no case matches", patterns[i]);
	return count;
}

static void list(const struct bench_case *const *chosen, int count)
{
	static const char *const relation[] = { "<=", ">=", ">=", "<=" };
	char goal[48];
	int i;

	for (i = 0; i < count; i++) {
		goal[0] = '\0';
		if (chosen[i]->goal > 0)
			snprintf(goal, sizeof(goal), " [%s %s %.4g]",
				 chosen[i]->kind == BENCH_LIMIT ? chosen[i]->unit : "ratio",
				 relation[chosen[i]->kind], chosen[i]->goal);
		printf("%-20s %s%s%s%s\n", chosen[i]->name, chosen[i]->summary,
		       chosen[i]->against ? "; against " : "",
		       chosen[i]->against ? chosen[i]->against : "", goal);
	}
}

static FILE *open_json(const char *path)
{
	FILE *file;

	if (strcmp(path, "-") == 0)
		return stdout;
	file = fopen(path, "we");
	if (!file)
		fprintf(stderr, "umm-bench: cannot write %s: %s\n", path, strerror(errno));
	return file;
}

static int measure(const struct arguments *args, const struct bench_case *const *chosen, int count)
{
	static struct bench_result results[MAX_CASES];
	FILE *json = NULL;
	FILE *table = stdout;
	int i, status = 0;

	if (args->json) {
		json = open_json(args->json);
		if (!json)
			return 1;
		table = json == stdout ? stderr : stdout;
	}
	report_machine(args->env, table);
	report_head(table);
	for (i = 0; i < count; i++) {
		bench_run_case(args->env, chosen[i], &results[i]);
		report_row(&results[i], table);
		status |= results[i].outcome == BENCH_FAILED;
	}
	report_legend(args->env, table);
	if (json && report_json(args->env, results, (size_t)count, json)) {
		fprintf(stderr, "umm-bench: writing %s failed\n", args->json);
		status = 1;
	}
	if (json && json != stdout)
		fclose(json);
	if (args->out && pictures_write(results, (size_t)count, args->out)) {
		fprintf(stderr, "umm-bench: cannot write to %s\n", args->out);
		status = 1;
	}
	for (i = 0; i < count; i++)
		bench_result_fini(&results[i]);
	return status;
}

int main(int argc, char **argv)
{
	static struct machine machine;
	struct bench_env env = { .machine = &machine, .foreign_pct = 10 };
	struct arguments args = { .env = &env };
	const struct bench_case *chosen[MAX_CASES];
	int count;

	if (parse(argc, argv, &args))
		return 2;
	if (args.help) {
		fputs(usage_text, stdout);
		return 0;
	}
	count = choose(argv + optind, argc - optind, chosen);
	if (count < 0)
		return 2;
	if (args.list) {
		list(chosen, count);
		return 0;
	}
	machine_init(&machine);
	return measure(&args, chosen, count);
}
