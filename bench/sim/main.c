/* SPDX-License-Identifier: MIT */
/*
 * umm-sim: replays a trace, or a pattern, through libumm's own orders of eviction, in a memory that
 * need not exist, beside Belady's optimum.
 *
 * Exit status: 0; 1 a file cannot be read or written, or is no trace; 2 the command line makes
 * no sense.
 */
#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "sim.h"

static const char usage_text[] =
	"usage: umm-sim [OPTION]... figures\n"
	"       umm-sim [OPTION]... FILE|PATTERN\n"
	"Replay uses of 2 MiB blocks through libumm's orders of eviction.\n"
	"PATTERN is sequential, strided, random, zipf, loop, scan or phase; FILE a trace;\n"
	"figures: every pattern in memories of 25, 50 and 75 %.\n"
	"\n"
	"  -m, --memory BLOCKS   the memory has room for so many (half of what is used)\n"
	"  -b, --blocks BLOCKS   a pattern uses so many (256)\n"
	"  -o, --order NAME      only this order: adaptive, lru, clock, s3fifo or lirs\n"
	"  -d, --device NAME     stall times of pcie4, pcie5, cxl or remote (pcie4)\n"
	"  -w, --write FILE      write the trace there, to be replayed later\n"
	"  -s, --svg FILE        draw the figures\n"
	"  -h, --help            this text\n"
	"\n"
	"Examples:\n"
	"  umm-sim --svg policy.svg figures\n"
	"  umm-sim --memory 500000 --blocks 600000 --device cxl loop\n";

struct arguments {
	uint32_t memory, blocks;
	const struct order_ops *order;
	const struct sim_device *device;
	const char *write, *svg;
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

static int parse(int argc, char **argv, struct arguments *args)
{
	static const struct option options[] = {
		{ "memory", required_argument, NULL, 'm' },
		{ "blocks", required_argument, NULL, 'b' },
		{ "order", required_argument, NULL, 'o' },
		{ "device", required_argument, NULL, 'd' },
		{ "write", required_argument, NULL, 'w' },
		{ "svg", required_argument, NULL, 's' },
		{ "help", no_argument, NULL, 'h' },
		{ 0 },
	};
	int option, ret = 0;

	while (!ret && (option = getopt_long(argc, argv, "m:b:o:d:w:s:h", options, NULL)) != -1)
		ret = parse_option(args, option);
	if (!ret && !args->help && optind + 1 != argc)
		return usage_error("one trace, pattern or 'figures' is wanted, not",
				   optind < argc ? argv[optind + 1] : "");
	return ret;
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

/* The trace that a word names: a pattern's, else a file's. */
static int trace_named(const struct arguments *args, const char *name, struct trace *out)
{
	uint32_t room = args->memory ? args->memory : (args->blocks + 1) / 2;
	int ret = pattern_make(name, args->blocks, room, out);
	char why[128];
	FILE *file;

	if (ret == -ENOMEM)
		return no_memory();
	if (!ret)
		return 0;
	file = open_file(name, "re");
	if (!file)
		return -EIO;
	ret = trace_read(out, file, why, sizeof(why));
	fclose(file);
	if (ret == -EINVAL)
		fprintf(stderr, "umm-sim: %s: %s\n", name, why);
	return ret == -ENOMEM ? no_memory() : ret;
}

static void print_result(const char *name, const struct sim_result *result,
			 const struct sim_result *best, const struct sim_device *device)
{
	printf("%-10s %10" PRIu64 " %10.1f %9.2f %7.2f%% %9.3f\n", name, result->misses,
	       (double)(result->misses + result->evictions) / 512, sim_stall_s(result, device),
	       100 * (1 - (double)result->misses / (double)result->uses),
	       (double)result->misses / (double)best->misses);
}

static int replay(const struct arguments *args, const struct trace *trace)
{
	uint32_t room = args->memory ? args->memory : (trace->nblocks + 1) / 2;
	struct sim_result best, result;
	int ret = sim_optimum(trace, room, &best);

	if (ret)
		return no_memory();
	printf("%s: %zu uses of %u blocks, a memory of %u; %s\n", trace->name, trace->n,
	       trace->nblocks, room, args->device->what);
	printf("%-10s %10s %10s %9s %8s %9s\n", "order", "misses", "GiB moved", "stall s", "hits",
	       "x optimum");
	for (unsigned o = 0; o < NR_ORDERS && !ret; o++) {
		if (args->order && args->order != orders[o])
			continue;
		ret = sim_replay(trace, orders[o], room, &result);
		if (!ret)
			print_result(orders[o]->name, &result, &best, args->device);
	}
	print_result("optimum", &best, &best, args->device);
	return ret ? no_memory() : 0;
}

static int one_trace(const struct arguments *args, const char *name)
{
	struct trace trace;
	FILE *file;
	int ret = trace_named(args, name, &trace);

	if (ret)
		return ret;
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

	printf("%-10s %5u%% %9" PRIu64, pattern_names[p], sim_shares[s], result[NR_ORDERS].misses);
	for (unsigned o = 0; o < NR_ORDERS; o++)
		printf(" %9.3f", (double)result[o].misses / (double)result[NR_ORDERS].misses);
	puts("");
}

static int all_figures(const struct arguments *args)
{
	static struct sim_figures figures;
	FILE *file;

	if (sim_figures(&figures))
		return no_memory();
	printf("Misses in multiples of the optimum's:\n%-10s %6s %9s", "pattern", "memory",
	       "optimum");
	for (unsigned o = 0; o < NR_ORDERS; o++)
		printf(" %9s", orders[o]->name);
	puts("");
	for (unsigned p = 0; p < NR_PATTERNS; p++)
		for (unsigned s = 0; s < NR_SHARES; s++)
			print_row(&figures, p, s);
	for (unsigned o = 0; o < NR_ORDERS; o++)
		printf("%-10s geometric mean %.3f; at worst %.3f times lru's misses\n",
		       orders[o]->name, sim_mean(&figures, o), sim_worst(&figures, o, &order_lru));
	if (!args->svg)
		return 0;
	file = open_file(args->svg, "we");
	if (!file)
		return -EIO;
	svg_write(&figures, file);
	return close_written(file, args->svg);
}

int main(int argc, char **argv)
{
	struct arguments args = { .blocks = 256, .device = &sim_devices[0] };
	int ret;

	if (parse(argc, argv, &args))
		return 2;
	if (args.help) {
		fputs(usage_text, stdout);
		return 0;
	}
	if (!strcmp(argv[optind], "figures"))
		ret = all_figures(&args);
	else
		ret = one_trace(&args, argv[optind]);
	return ret ? 1 : 0;
}
