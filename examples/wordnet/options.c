/* SPDX-License-Identifier: MIT */
/* The command line. */
#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "options.h"

static const char usage[] =
	"Usage: wordnet-paths [OPTION...]\n"
	"\n"
	"Builds the WordNet database as a linked structure in managed memory, answers questions\n"
	"about paths through it on an OpenCL device that follows the CPU's own pointers, changes\n"
	"the structure on the CPU in between, and checks every answer with plain CPU code.\n"
	"\n"
	"  --data DIR        the database (default: /usr/share/wordnet)\n"
	"  --device NAME     part of the name of an OpenCL device or platform, for example\n"
	"                    'basic', 'pthread', 'llvmpipe' (default: the first that will do)\n"
	"  --limit SIZE      device memory for pages: 25%, 1/4, 0.25 (of the structure) or 8M,\n"
	"                    8192K (bytes; K, M and G are powers of 1024) (default: 25%)\n"
	"  --queries N       questions in each round (default: 512)\n"
	"  --rounds N        how often the device answers and the CPU changes (default: 8)\n"
	"  --picture FILE    where to draw what lived where, as SVG; none: do not draw\n"
	"                    (default: wordnet-paths.svg)\n"
	"  --quick           a small run, as a test: 3 rounds of 64 questions, no picture; exits\n"
	"                    with status 77 where the database or a device is missing\n"
	"  --help            this\n"
	"\n"
	"Exit status: 0 all answers are right, 1 not so, 2 wrong usage.\n";

static int complain(const char *option, const char *value, const char *wanted)
{
	fprintf(stderr, "wordnet-paths: --%s %s: %s. See wordnet-paths --help.\n", option, value,
		wanted);
	return -EINVAL;
}

static int parse_count(const char *option, const char *value, unsigned long max, unsigned long *out)
{
	char *end;

	errno = 0;
	*out = strtoul(value, &end, 10);
	if (errno || end == value || *end || *value == '-' || *out == 0 || *out > max) {
		fprintf(stderr, "wordnet-paths: --%s %s: not a number from 1 to %lu\n", option,
			value, max);
		return -EINVAL;
	}
	return 0;
}

/* The factor that a suffix stands for; 0: unknown. */
static double unit(const char *suffix)
{
	static const struct {
		const char *suffix;
		double factor;
	} units[] = {
		{ "", 1 },	    { "K", 1024 },    { "KiB", 1024 },	  { "M", 1 << 20 },
		{ "MiB", 1 << 20 }, { "G", 1 << 30 }, { "GiB", 1 << 30 },
	};
	size_t i;

	for (i = 0; i < sizeof(units) / sizeof(units[0]); i++)
		if (!strcasecmp(suffix, units[i].suffix))
			return units[i].factor;
	return 0;
}

static int parse_limit(struct options *options, const char *value)
{
	static const char wanted[] = "not a size like 8M, 25%, 1/4 or 0.25";
	char *end, *end2;
	double number = strtod(value, &end), divisor;

	options->limit_bytes = 0;
	options->limit_fraction = 0;
	if (end == value || !(number > 0) || number > 1e15)
		return complain("limit", value, wanted);
	if (!strcmp(end, "%")) {
		options->limit_fraction = number / 100;
	} else if (*end == '/') {
		divisor = strtod(end + 1, &end2);
		if (end2 == end + 1 || *end2 || !(divisor > 0))
			return complain("limit", value, wanted);
		options->limit_fraction = number / divisor;
	} else if (!*end && number <= 1) {
		options->limit_fraction = number;
	} else {
		options->limit_bytes = (uint64_t)(number * unit(end));
		return options->limit_bytes ? 0 : complain("limit", value, wanted);
	}
	return options->limit_fraction > 0 && options->limit_fraction < 1e6 ?
		       0 :
		       complain("limit", value, wanted);
}

static int parse_one(struct options *options, int option, const char *value)
{
	unsigned long count = 0;
	int ret = 0;

	switch (option) {
	case 'd':
		options->data = value;
		break;
	case 'n':
		options->device = value;
		break;
	case 'l':
		ret = parse_limit(options, value);
		break;
	case 'q':
		ret = parse_count("queries", value, 1000000, &count);
		options->queries = count;
		break;
	case 'r':
		ret = parse_count("rounds", value, 1000, &count);
		options->rounds = (unsigned)count;
		break;
	case 'p':
		options->picture = strcmp(value, "none") != 0 ? value : NULL;
		break;
	case 'k':
		options->quick = true;
		options->queries = 64;
		options->rounds = 3;
		options->picture = NULL;
		break;
	default:
		fprintf(stderr, "See wordnet-paths --help.\n");
		ret = -EINVAL;
	}
	return ret;
}

int options_parse(struct options *options, int argc, char **argv, int *status)
{
	static const struct option known[] = {
		{ "data", required_argument, NULL, 'd' },
		{ "device", required_argument, NULL, 'n' },
		{ "limit", required_argument, NULL, 'l' },
		{ "queries", required_argument, NULL, 'q' },
		{ "rounds", required_argument, NULL, 'r' },
		{ "picture", required_argument, NULL, 'p' },
		{ "quick", no_argument, NULL, 'k' },
		{ "help", no_argument, NULL, 'h' },
		{ NULL, 0, NULL, 0 },
	};
	int option;

	*options = (struct options){ .data = "/usr/share/wordnet",
				     .picture = "wordnet-paths.svg",
				     .limit_fraction = 0.25,
				     .queries = 512,
				     .rounds = 8 };
	while ((option = getopt_long(argc, argv, "", known, NULL)) != -1) {
		if (option == 'h') {
			fputs(usage, stdout);
			*status = 0;
			return 1;
		}
		*status = 2;
		if (parse_one(options, option, optarg) != 0)
			return 1;
	}
	if (optind < argc) {
		fprintf(stderr, "wordnet-paths: '%s' is not an option. See wordnet-paths --help.\n",
			argv[optind]);
		*status = 2;
		return 1;
	}
	return 0;
}
