/* SPDX-License-Identifier: MIT */
/*
 * umm-sim: replays a trace, or a pattern, through libumm's own orders of eviction, in a memory that
 * need not exist, beside Belady's optimum; and shows what its policies of prefetch and of thrashing
 * do.
 *
 * Exit status: 0; 1 a file cannot be read or written, or is no trace, or a replay is too far off
 * what was recorded; 2 the command line makes no sense.
 */
#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <limits.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "policy/record.h"
#include "sim.h"

#define MEAN_GOAL  1.25
#define WORST_GOAL 1.05
#define OFF_GOAL   5 /* percent */

#define BLOCKS 256 /* of a pattern */

static const char usage_head[] =
	"usage: umm-sim [OPTION]... FILE|PATTERN\n"
	"       umm-sim [-s FILE] figures [FILE]...\n"
	"       umm-sim [-s FILE] ahead\n"
	"       umm-sim ahead FILE\n"
	"       umm-sim [-o NAME] predict FILE...\n"
	"       umm-sim [-d NAME] [-s FILE] thrash\n"
	"Replay uses of 2 MiB blocks through libumm's orders of eviction.\n"
	"FILE is a trace, umm-sim's own or what a program under UMM_TRACE=FILE recorded;\n"
	"figures: every pattern, and traces, in memories of 25, 50 and 75 %;\n"
	"predict: what the library did in each recorded FILE, and a replay: status 1 if faults\n"
	"or bytes are more than 5 % off;\n"
	"ahead: what policies of prefetch remove of faults, or of what a CPU missed in FILE;\n"
	"thrash: a second in which a CPU and a device touch the same pages.\n"
	"\n";

static const char usage_options[] =
	"\n"
	"Of one trace or pattern:\n"
	"  -m, --memory BLOCKS   the memory has room for so many; else half of what is used,\n"
	"                        or as many as were recorded\n"
	"  -b, --blocks BLOCKS   the pattern uses so many (256); not of a trace. Without it, loop\n"
	"                        is a tenth larger than the memory\n"
	"  -o, --order NAME      only this order; predict: the one that was recorded (adaptive)\n"
	"  -d, --device NAME     stall times of that one; thrash, too\n"
	"  -w, --write FILE      write the trace there, to be replayed later\n"
	"Of figures, thrash, and ahead without a file:\n"
	"  -s, --svg FILE        draw them\n"
	"Of all:\n"
	"  -h, --help            this text\n"
	"What an option is not of is refused.\n"
	"\n"
	"Examples:\n"
	"  umm-sim --svg policy.svg figures\n"
	"  umm-sim --memory 524288 --device cxl loop\n";

static void print_name(unsigned i, const char *name)
{
	printf("%s%s", i ? ", " : "", name);
}

static void print_usage(void)
{
	fputs(usage_head, stdout);
	fputs("Patterns: ", stdout);
	for (unsigned i = 0; i < NR_PATTERNS; i++)
		print_name(i, pattern_names[i]);
	fputs("\nOrders: ", stdout);
	for (unsigned i = 0; i < NR_ORDERS; i++)
		print_name(i, orders[i]->name);
	fputs("\nDevices: ", stdout);
	for (unsigned i = 0; i < NR_DEVICES; i++)
		print_name(i, sim_devices[i].name);
	fputs("\n", stdout);
	fputs(usage_options, stdout);
}

static const struct option options[] = {
	{ "memory", required_argument, NULL, 'm' }, { "blocks", required_argument, NULL, 'b' },
	{ "order", required_argument, NULL, 'o' },  { "device", required_argument, NULL, 'd' },
	{ "write", required_argument, NULL, 'w' },  { "svg", required_argument, NULL, 's' },
	{ "help", no_argument, NULL, 'h' },	    { 0 },
};

#define NR_OPTIONS (sizeof(options) / sizeof(options[0]) - 1)

struct arguments {
	uint32_t memory, blocks; /* 0: not given */
	const struct order_ops *order;
	const struct sim_device *device;
	const char *write, *svg;
	char given[NR_OPTIONS + 1]; /* their letters, each once */
	bool help;
};

static int usage_error(const char *what, const char *value)
{
	fprintf(stderr, "umm-sim: %s '%s'; see umm-sim --help\n", what, value);
	return -EINVAL;
}

static int parse_blocks(const char *text, uint32_t *out)
{
	unsigned long number;
	char *end;

	errno = 0;
	number = strtoul(text, &end, 10);
	if (errno || end == text || *end || text[0] == '-' || !number || number > 1u << 26)
		return usage_error("not a number of blocks from 1 to 67108864:", text);
	*out = (uint32_t)number;
	return 0;
}

static int parse_device(const char *name, const struct sim_device **out)
{
	for (unsigned i = 0; i < NR_DEVICES; i++)
		if (!strcmp(sim_devices[i].name, name)) {
			*out = &sim_devices[i];
			return 0;
		}
	return usage_error("no such device:", name);
}

static bool is_pattern(const char *name)
{
	for (unsigned i = 0; i < NR_PATTERNS; i++)
		if (!strcmp(pattern_names[i], name))
			return true;
	return false;
}

static int parse_option(struct arguments *args, int option)
{
	switch (option) {
	case 'm':
		return parse_blocks(optarg, &args->memory);
	case 'b':
		return parse_blocks(optarg, &args->blocks);
	case 'o':
		args->order = order_by_name(optarg);
		return args->order ? 0 : usage_error("no such order:", optarg);
	case 'd':
		return parse_device(optarg, &args->device);
	case 'w':
		args->write = optarg;
		return 0;
	case 's':
		args->svg = optarg;
		return 0;
	case 'h':
		args->help = true;
		return 0;
	default:
		fputs("see umm-sim --help\n", stderr);
		return -EINVAL;
	}
}

/* The letters of the options that it heeds. */
static const char *heeded(const char *name, bool files)
{
	if (!strcmp(name, "figures"))
		return "s";
	if (!strcmp(name, "ahead"))
		return files ? "" : "s";
	if (!strcmp(name, "predict"))
		return "o";
	if (!strcmp(name, "thrash"))
		return "ds";
	return is_pattern(name) ? "mbodw" : "modw";
}

/* What would not be heeded is refused. */
static int check_use(const struct arguments *args, const char *name, bool files)
{
	const char *ignored = args->given + strspn(args->given, heeded(name, files));
	char what[64];

	if (!*ignored)
		return 0;
	for (unsigned i = 0; i < NR_OPTIONS; i++)
		if (options[i].val == *ignored)
			snprintf(what, sizeof(what), "--%s does nothing with%s", options[i].name,
				 !strcmp(name, "ahead") && files ? " a file and" : "");
	return usage_error(what, name);
}

static const char what_is_wanted[] =
	"one trace, pattern, 'figures', 'ahead', 'thrash' or 'predict' with files is wanted, not";

/* Files that may come after what is to be done. */
static int files_most(const char *name)
{
	if (!strcmp(name, "figures") || !strcmp(name, "predict"))
		return INT_MAX;
	return !strcmp(name, "ahead");
}

static int parse(int argc, char **argv, struct arguments *args)
{
	int option, files, most, ret = 0;

	while (!ret && (option = getopt_long(argc, argv, "m:b:o:d:w:s:h", options, NULL)) != -1) {
		ret = parse_option(args, option);
		if (!ret && !strchr(args->given, option))
			args->given[strlen(args->given)] = (char)option;
	}
	if (ret || args->help)
		return ret;
	if (optind == argc)
		return usage_error(what_is_wanted, "");
	files = argc - optind - 1;
	most = files_most(argv[optind]);
	if (files > most)
		return usage_error(what_is_wanted, argv[optind + 1 + most]);
	if (!files && !strcmp(argv[optind], "predict"))
		return usage_error("files are wanted with", argv[optind]);
	return check_use(args, argv[optind], files);
}

/* What cannot be read twice, a pipe, is copied. NULL: no. */
static FILE *seekable(FILE *file)
{
	char bytes[4096];
	FILE *copy;
	size_t n;

	if (!fseek(file, 0, SEEK_SET))
		return file;
	copy = tmpfile();
	while (copy && (n = fread(bytes, 1, sizeof(bytes), file)) > 0)
		fwrite(bytes, 1, n, copy);
	if (copy && (ferror(file) || fflush(copy) || ferror(copy))) {
		fclose(copy);
		copy = NULL;
	}
	fclose(file);
	if (copy)
		rewind(copy);
	return copy;
}

static FILE *open_file(const char *path, const char *mode)
{
	FILE *file = fopen(path, mode);

	if (!file)
		fprintf(stderr, "umm-sim: cannot open %s: %s\n", path, strerror(errno));
	return file;
}

static int close_written(FILE *file, const char *path)
{
	bool failed = ferror(file);

	if (!fclose(file) && !failed)
		return 0;
	fprintf(stderr, "umm-sim: writing %s failed\n", path);
	return -EIO;
}

static int no_memory(void)
{
	fputs("umm-sim: there is not enough memory\n", stderr);
	return -ENOMEM;
}

/* What the library recorded, or text. */
static int any_read(struct trace *out, FILE *file, char *why, size_t len)
{
	char magic[sizeof(RECORD_MAGIC)];
	bool recorded = fread(magic, sizeof(magic), 1, file) == 1 &&
			!memcmp(magic, RECORD_MAGIC, sizeof(magic));

	rewind(file);
	return recorded ? record_read(out, file, why, len) : trace_read(out, file, why, len);
}

/* Names come from files: a terminal gets nothing that it might obey. */
static void name_mend(char *name)
{
	for (; *name; name++)
		if (*name < ' ' || *name > '~')
			*name = '?';
}

static int file_read(const char *path, struct trace *out)
{
	const char *name = strrchr(path, '/');
	char why[128];
	FILE *file;
	int ret;

	file = open_file(path, "re");
	if (!file)
		return -EIO;
	file = seekable(file);
	if (!file) {
		fprintf(stderr, "umm-sim: cannot copy %s: %s\n", path, strerror(errno));
		return -EIO;
	}
	ret = any_read(out, file, why, sizeof(why));
	fclose(file);
	if (ret == -EINVAL)
		fprintf(stderr, "umm-sim: %s: %s\n", path, why);
	if (ret)
		return ret == -ENOMEM ? no_memory() : ret;
	if (out->step)
		snprintf(out->name, sizeof(out->name), "%s", name ? name + 1 : path);
	name_mend(out->name);
	if (out->lost)
		fprintf(stderr,
			"umm-sim: %s: %" PRIu64 " events found no room in it: what comes last is "
			"missing\n",
			path, out->lost);
	return 0;
}

/* The trace that a word names: a pattern's, else a file's. A pattern settles the memory, too. */
static int trace_named(struct arguments *args, const char *name, struct trace *out)
{
	uint32_t blocks = args->blocks ? args->blocks : BLOCKS, measure;

	if (!is_pattern(name))
		return file_read(name, out);
	if (!args->memory)
		args->memory = (blocks + 1) / 2;
	measure = args->blocks && !strcmp(name, "loop") ? 0 : args->memory;
	return pattern_make(name, blocks, measure, out) ? no_memory() : 0;
}

static double percent(uint64_t part, uint64_t whole)
{
	return whole ? 100 * (double)part / (double)whole : 0;
}

static double ratio(const struct sim_result *result, const struct sim_result *best)
{
	return best->misses ? (double)result->misses / (double)best->misses : 1;
}

static void print_result(const char *name, const struct sim_result *result,
			 const struct sim_result *best, const struct sim_device *device)
{
	printf("%-10s %10" PRIu64 " %10" PRIu64 " %10.1f %9.2f %7.2f%% %9.3f\n", name,
	       result->misses, result->faults, (double)result->bytes_in / (1 << 20),
	       sim_stall_s(result, device), percent(result->hits, result->uses),
	       ratio(result, best));
}

/* Misses that no order can do without in this trace: which faults and bytes is not known. */
static void print_bound(const struct sim_result *best)
{
	printf("%-10s %10" PRIu64 " %10s %10s %9s %8s %9.3f\n", "bound", best->misses, "-", "-",
	       "-", "-", 1.0);
}

/* In what the memory of a trace is measured in. */
static uint64_t room_of(const struct arguments *args, const struct trace *trace)
{
	if (!trace->step)
		return args->memory ? args->memory : (trace->nblocks + 1) / 2;
	return args->memory ? (uint64_t)args->memory * 512 : trace->frames;
}

/* What comes into the memory is what can be compared: of what leaves, copies are dropped. */
static void print_seen(const struct trace *trace)
{
	printf("recorded: %" PRIu64 " misses, %" PRIu64 " faults, %" PRIu64
	       " evictions, %.1f MiB came; a CPU missed %" PRIu64 " pages\n",
	       trace->seen.misses, trace->seen.faults, trace->seen.evictions,
	       (double)trace->seen.bytes_in / (1 << 20), trace->cpu_misses);
}

/* What misses are given in multiples of, and its name. */
static int measure(const struct trace *trace, uint64_t room, struct sim_result *out,
		   const char **name)
{
	*name = trace->blocks ? "x recorded" : trace->step ? "x bound" : "x optimum";
	*out = trace->seen;
	return trace->blocks ? 0 : sim_optimum(trace, room, out);
}

static int replay(const struct arguments *args, const struct trace *trace)
{
	uint64_t room = room_of(args, trace);
	struct sim_result best, result;
	const char *multiples;
	int ret = measure(trace, room, &best, &multiples);

	if (ret)
		return no_memory();
	printf("%s: %" PRIu64 " uses of %u blocks, a memory of %" PRIu64 "%s; %s\n", trace->name,
	       best.uses, trace->nblocks, room, trace->step ? " pages" : "", args->device->what);
	if (trace->step)
		print_seen(trace);
	printf("%-10s %10s %10s %10s %9s %8s %9s\n", "order", "misses", "faults", "MiB came",
	       "stall s", "hits", multiples);
	for (unsigned o = 0; o < NR_ORDERS && !ret; o++) {
		if (args->order && args->order != orders[o])
			continue;
		ret = sim_replay(trace, orders[o], room, &result);
		if (!ret)
			print_result(orders[o]->name, &result, &best, args->device);
	}
	if (trace->blocks)
		puts("Its device tells of whole blocks: what it would use and miss in another "
		     "memory, or through another order, is not known.");
	else if (trace->step)
		print_bound(&best);
	else
		print_result("optimum", &best, &best, args->device);
	return ret ? no_memory() : 0;
}

static int one_trace(struct arguments *args, const char *name)
{
	struct trace trace;
	FILE *file;
	int ret = trace_named(args, name, &trace);

	if (ret)
		return ret;
	if (args->write && trace.step) {
		fprintf(stderr, "umm-sim: %s is a file that the library recorded: copy it\n", name);
		trace_fini(&trace);
		return -EINVAL;
	}
	ret = replay(args, &trace);
	if (!ret && args->write) {
		file = open_file(args->write, "we");
		ret = file ? trace_write(&trace, file) : -EIO;
		if (file && close_written(file, args->write))
			ret = -EIO;
	}
	trace_fini(&trace);
	return ret;
}

static void print_row(const struct sim_figures *figures, unsigned p, unsigned s)
{
	const struct sim_result *result = figures->result[p][s];

	printf("%-10s %5u%% %8" PRIu64 " %8" PRIu64 "%c", figures->name[p], sim_shares[s],
	       figures->room[p][s], result[NR_ORDERS].misses, figures->bounded[p] ? '*' : ' ');
	for (unsigned o = 0; o < NR_ORDERS; o++)
		printf(" %9.3f", (double)result[o].misses / (double)result[NR_ORDERS].misses);
	puts("");
}

/* A recording of a memory whose device does not say what it uses is one of what CPUs missed. */
static int turn_to_misses(struct trace *trace)
{
	struct trace misses;

	if (!trace->step || !trace->cpu_misses || record_device_tells(trace))
		return 0;
	if (record_misses(trace, &misses))
		return no_memory();
	trace_fini(trace);
	*trace = misses;
	return 0;
}

static int add_file(struct sim_figures *figures, const char *path)
{
	struct trace trace;
	int ret = file_read(path, &trace);

	if (ret)
		return ret;
	ret = turn_to_misses(&trace);
	if (ret) {
		trace_fini(&trace);
		return ret;
	}
	ret = sim_figures_add(figures, &trace);
	trace_fini(&trace);
	if (ret == -E2BIG)
		fprintf(stderr, "umm-sim: %s: %u patterns and files at most\n", path, SIM_ROWS);
	if (ret == -ERANGE)
		fprintf(stderr,
			"umm-sim: %s: too small to compare: a quarter of it holds nothing\n", path);
	if (ret == -EOPNOTSUPP)
		fprintf(stderr,
			"umm-sim: %s: its device tells of whole blocks, which says nothing of "
			"other memories and orders: record it there, and see 'predict'\n",
			path);
	if (ret == -ENODATA)
		fprintf(stderr,
			"umm-sim: %s: nothing in it misses, so there is nothing to "
			"compare: begin to record before pages go to the device\n",
			path);
	return ret == -ENOMEM ? no_memory() : ret;
}

/* Of the default, the first one; and of how much. */
static void print_verdict(const struct sim_figures *figures)
{
	double mean = sim_mean(figures, 0);
	bool met = mean <= MEAN_GOAL && sim_worst(figures, 0, &order_lru) <= WORST_GOAL;
	unsigned traces = 0;

	for (unsigned p = NR_PATTERNS; p < figures->nrows; p++)
		traces += !figures->bounded[p];
	printf("the default is %s: goals %.2f in the mean and %.2f times lru's at worst, over %u "
	       "patterns and %u traces: %s\n",
	       orders[0]->name, MEAN_GOAL, WORST_GOAL, NR_PATTERNS, traces, met ? "met" : "missed");
}

static int all_figures(const struct arguments *args, char **paths)
{
	static struct sim_figures figures;
	FILE *file;

	if (sim_figures(&figures))
		return no_memory();
	for (; *paths; paths++)
		if (add_file(&figures, *paths))
			return -EIO;
	puts("Misses in multiples of the optimum's (*: of a bound, room in pages, not in the "
	     "mean):");
	printf("%-10s %6s %8s %9s", "pattern", "memory", "room", "optimum");
	for (unsigned o = 0; o < NR_ORDERS; o++)
		printf(" %9s", orders[o]->name);
	puts("");
	for (unsigned p = 0; p < figures.nrows; p++)
		for (unsigned s = 0; s < NR_SHARES; s++)
			print_row(&figures, p, s);
	for (unsigned o = 0; o < NR_ORDERS; o++)
		printf("%-10s geometric mean %.3f; at worst %.3f times lru's misses\n",
		       orders[o]->name, sim_mean(&figures, o), sim_worst(&figures, o, &order_lru));
	print_verdict(&figures);
	if (!args->svg)
		return 0;
	file = open_file(args->svg, "we");
	if (!file)
		return -EIO;
	svg_write(&figures, file);
	return close_written(file, args->svg);
}

static void print_coverage(const char *policy, const char *name, const struct sim_coverage *least,
			   const struct sim_coverage *most)
{
	printf("%-8s %-10s %8" PRIu64 " %7.1f to %7.1f %% %7.1f to %7.1f %%\n", policy, name,
	       least->touched, 100 - percent(least->faults, least->touched),
	       100 - percent(most->faults, most->touched), percent(least->wasted, least->touched),
	       percent(most->wasted, most->touched));
}

static void print_coverage_head(void)
{
	printf("%-8s %-10s %8s %20s %20s\n", "policy", "pattern", "pages", "faults removed",
	       "came for nothing");
}

static int draw(const struct arguments *args, const struct chart *chart)
{
	FILE *file;

	if (!args->svg)
		return 0;
	file = open_file(args->svg, "we");
	if (!file)
		return -EIO;
	chart_write(chart, file);
	return close_written(file, args->svg);
}

/* What prefetch removes: at least (nothing comes but with a fault), and at most. */
static int all_coverage(const struct arguments *args)
{
	struct chart chart = { .title = "Faults removed where nothing comes but with one, percent",
			       .ngroups = NR_WALKS,
			       .nseries = NR_AHEAD,
			       .most = 100 };
	struct sim_coverage least, most;

	print_coverage_head();
	for (unsigned a = 0; a < NR_AHEAD; a++)
		for (unsigned w = 0; w < NR_WALKS; w++) {
			if (sim_coverage(ahead_policies[a], w, false, &least) ||
			    sim_coverage(ahead_policies[a], w, true, &most))
				return no_memory();
			print_coverage(ahead_policies[a]->name, walk_names[w], &least, &most);
			chart.series[a] = ahead_policies[a]->name;
			snprintf(chart.group[w], sizeof(chart.group[w]), "%s", walk_names[w]);
			chart.value[w][a] = 100 - percent(least.faults, least.touched);
		}
	return draw(args, &chart);
}

static int file_coverage(const char *path)
{
	struct sim_coverage least, most;
	struct trace trace;
	int ret = file_read(path, &trace);

	if (ret)
		return ret;
	if (!trace.cpu_misses) {
		fprintf(stderr, "umm-sim: %s: no CPU missed a page in it\n", path);
		trace_fini(&trace);
		return -EINVAL;
	}
	print_coverage_head();
	for (unsigned a = 0; a < NR_AHEAD && !ret; a++) {
		ret = sim_coverage_of(ahead_policies[a], &trace, false, &least);
		if (!ret)
			ret = sim_coverage_of(ahead_policies[a], &trace, true, &most);
		if (!ret)
			print_coverage(ahead_policies[a]->name, trace.name, &least, &most);
	}
	trace_fini(&trace);
	return ret ? no_memory() : 0;
}

/* How far the larger is beyond what is taken for right. */
static double off(uint64_t said, uint64_t seen)
{
	return percent(said > seen ? said - seen : seen - said, seen);
}

/* A recording in the memory that it was made in. */
static int predict_one(const struct order_ops *order, const char *path, bool *near)
{
	struct sim_result said;
	struct trace trace;
	double worst;
	int ret = file_read(path, &trace);

	if (ret)
		return ret;
	if (!trace.step) {
		fprintf(stderr, "umm-sim: %s: the library did not record it\n", path);
		trace_fini(&trace);
		return -EINVAL;
	}
	ret = sim_replay(&trace, order, trace.frames, &said);
	worst = fmax(off(said.faults, trace.seen.faults), off(said.bytes_in, trace.seen.bytes_in));
	*near &= worst <= OFF_GOAL && !trace.lost;
	if (!ret)
		printf("%-14s %9u %8" PRIu64 " %8" PRIu64 " %9.1f %8" PRIu64 " %8" PRIu64
		       " %9.1f %6.1f %%\n",
		       trace.name, trace.frames, trace.seen.misses, trace.seen.faults,
		       (double)trace.seen.bytes_in / (1 << 20), said.misses, said.faults,
		       (double)said.bytes_in / (1 << 20), worst);
	trace_fini(&trace);
	return ret ? no_memory() : 0;
}

static int all_predictions(const struct arguments *args, char **paths)
{
	const struct order_ops *order = args->order ? args->order : orders[0];
	bool near = true;
	int ret;

	printf("What the library did, and what a replay through %s comes to:\n"
	       "%-14s %9s %8s %8s %9s %8s %8s %9s %8s\n",
	       order->name, "trace", "pages fit", "misses", "faults", "MiB came", "misses",
	       "faults", "MiB came", "off");
	for (; *paths; paths++) {
		ret = predict_one(order, *paths, &near);
		if (ret)
			return ret;
	}
	printf("faults and bytes: the goal of %d %% is %s\n", OFF_GOAL, near ? "met" : "missed");
	return near ? 0 : -ERANGE;
}

static int print_pingpong(const struct sim_shared *shared, struct chart *chart)
{
	struct sim_pingpong off, result;
	unsigned g = chart->ngroups++;
	double gain;

	snprintf(chart->group[g], sizeof(chart->group[g]), "%u %s", shared->npages,
		 shared->in_place ? "in place" : "moved");
	for (unsigned t = 0; t < NR_THRASH; t++) {
		if (sim_pingpong(&thrash_off, shared, &off) ||
		    sim_pingpong(thrash_policies[t], shared, &result))
			return no_memory();
		gain = (double)(result.cpu + result.device) / (double)(off.cpu + off.device);
		chart->value[g][t] = gain;
		chart->series[t] = thrash_policies[t]->name;
		printf("%5u %-9s %-9s %10.1f %10.1f %8.2f %9.1f%% %8" PRIu64 "\n", shared->npages,
		       shared->in_place ? "yes" : "no", thrash_policies[t]->name,
		       (double)result.cpu / 1e3, (double)result.device / 1e3, gain,
		       percent(result.stream, off.stream), result.waits);
	}
	return 0;
}

static int all_pingpong(const struct arguments *args)
{
	struct chart chart = { .title = "Accesses of a CPU and a device to the same pages, in "
					"multiples of those without damping",
			       .nseries = NR_THRASH,
			       .decades = 3 };
	struct sim_shared shared = { .device = args->device };
	int ret = 0;

	printf("Thousands of accesses in a second; %s\n"
	       "%5s %-9s %-9s %10s %10s %8s %10s %8s\n",
	       args->device->what, "pages", "in place", "policy", "CPU", "device", "x off",
	       "others", "waits");
	for (unsigned in_place = 0; in_place < 2; in_place++)
		for (unsigned npages = 1; npages <= SIM_SHARED && !ret; npages *= 4) {
			shared.in_place = in_place;
			shared.npages = npages;
			ret = print_pingpong(&shared, &chart);
		}
	return ret ? ret : draw(args, &chart);
}

int main(int argc, char **argv)
{
	struct arguments args = { .device = &sim_devices[0] };
	int ret;

	if (parse(argc, argv, &args))
		return 2;
	if (args.help) {
		print_usage();
		return close_written(stdout, "the output") ? 1 : 0;
	}
	if (!strcmp(argv[optind], "figures"))
		ret = all_figures(&args, argv + optind + 1);
	else if (!strcmp(argv[optind], "ahead"))
		ret = argv[optind + 1] ? file_coverage(argv[optind + 1]) : all_coverage(&args);
	else if (!strcmp(argv[optind], "thrash"))
		ret = all_pingpong(&args);
	else if (!strcmp(argv[optind], "predict"))
		ret = all_predictions(&args, argv + optind + 1);
	else
		ret = one_trace(&args, argv[optind]);
	if (close_written(stdout, "the output"))
		ret = -EIO;
	return ret ? 1 : 0;
}
