/* SPDX-License-Identifier: MIT */
/*
 * umm run: starts a program under the malloc shim.
 *
 * A setting comes from an option, or else from its environment variable, or else from the
 * configuration file, all by the shim's own table (settings.h), and goes to the program as an
 * environment variable. Devices are looked for before the program starts, so that a typing error
 * is told at once. Then this process becomes the program; only where a summary is asked for it
 * stays, passes signals on, and ends as the program did (child.c). Where libumm cannot work the
 * program is run without the shim, after one line that says why.
 *
 * One thread.
 */
#include <errno.h>
#include <getopt.h>
#include <limits.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <umm.h>

#include "careful.h"
#include "channel.h"
#include "checked.h"
#include "child.h"
#include "program.h"
#include "sandbox.h"
#include "tier.h"
#include "tight.h"
#include "tool.h"

enum {
	KEYS_MAX = 16,
	EXIT_CANNOT_RUN = 126,
	EXIT_NOT_FOUND = 127,
	OPTION_CONFIG = KEYS_MAX,
	OPTION_HELP,
};

static char shim_path[PATH_MAX], shim_dir[PATH_MAX];

static void help_print(void)
{
	const struct settings_key *key;
	size_t nkeys;

	printf("usage: umm run [OPTION...] [--] PROGRAM [ARGUMENT...]\n"
	       "\n"
	       "Runs a program with no more than so much of its memory in host frames; the rest\n"
	       "is on devices, and comes back when it is touched. The program is not changed.\n"
	       "\n");
	key = settings_keys(&nkeys);
	for (size_t i = 0; i < nkeys; i++) {
		char option[64];

		snprintf(option, sizeof(option), "--%s%s%s", key[i].name,
			 key[i].argument ? " " : "", key[i].argument ? key[i].argument : "");
		printf("  %s\n        %s\n", option, key[i].help);
	}
	printf("  --config FILE\n"
	       "        settings, one a line: \"host-limit = 8G\"\n"
	       "  -h, --help\n"
	       "        print this text\n"
	       "\n"
	       "UMM_HOST_LIMIT and so on in the environment mean the same; options count more,\n"
	       "the file (umm/run.conf in $XDG_CONFIG_HOME, or in ~/.config) less. umm-run(1)\n"
	       "has more.\n");
}

/* The program runs all the same, whoever reads this or does not. */
static void __attribute__((format(printf, 2, 3)))
warn(const struct settings *settings, const char *format, ...)
{
	char line[PATH_MAX + 2 * SETTINGS_ERROR_LEN] = "umm run: ";
	size_t len = strlen(line);
	va_list args;
	int more;

	if (settings->quiet)
		return;
	va_start(args, format);
	more = vsnprintf(line + len, sizeof(line) - len, format, args);
	va_end(args);
	if (more > 0)
		careful_write(STDERR_FILENO, line, strlen(line));
}

static int complain(const char *what)
{
	fprintf(stderr, "umm run: %s; \"umm run --help\" lists the options\n", what);
	return TOOL_USAGE;
}

/* ---- where settings come from --------------------------------------------------------- */

/*
 * Keep it for the program: more than the file, less than what is there when @over is false. What
 * is wrong with it is in @error.
 */
static bool setting_keep(const char *key, const char *value, bool over,
			 char error[SETTINGS_ERROR_LEN])
{
	struct settings scratch;
	char variable[64];

	settings_default(&scratch);
	if (settings_set(&scratch, key, value, error))
		return false;
	settings_variable(key, variable, sizeof(variable));
	if (setenv(variable, value, over)) {
		snprintf(error, SETTINGS_ERROR_LEN, "%s", strerror(errno));
		return false;
	}
	return true;
}

static char *trim(char *text)
{
	char *end;

	text += strspn(text, " \t\r\n");
	for (end = text + strlen(text); end > text && strchr(" \t\r\n", end[-1]); end--)
		;
	*end = '\0';
	return text;
}

static int config_line(const char *path, unsigned number, char *line, bool whole)
{
	char error[SETTINGS_ERROR_LEN] = "not of the form \"host-limit = 8G\"";
	char where[PATH_MAX + 16 + SETTINGS_ERROR_LEN];
	char *key, *value;

	line[strcspn(line, "#\n")] = '\0';
	key = trim(line);
	if (!*key && whole)
		return TOOL_OK;
	value = strchr(key, '=');
	if (!whole) {
		snprintf(error, sizeof(error), "the line is too long");
	} else if (value) {
		*value++ = '\0';
		key = trim(key);
		value = trim(value);
		if (setting_keep(key, value, false, error))
			return TOOL_OK;
	}
	snprintf(where, sizeof(where), "%s:%u: %s", path, number, error);
	return complain(where);
}

/* One that nobody named need not be there. */
static int config_read(const char *named)
{
	const char *base = tool_directory("XDG_CONFIG_HOME"), *home = tool_directory("HOME");
	char path[PATH_MAX], line[1024];
	int ret = TOOL_OK;
	FILE *file;

	if (!named && !base && !home)
		return TOOL_OK;
	if (named)
		snprintf(path, sizeof(path), "%s", named);
	else
		snprintf(path, sizeof(path), "%s%s/umm/run.conf", base ? base : home,
			 base ? "" : "/.config");
	file = fopen(path, "re");
	if (!file && !named)
		return TOOL_OK;
	if (!file) {
		fprintf(stderr, "umm run: %s: %s\n", path, strerror(errno));
		return TOOL_FAILED;
	}
	for (unsigned n = 1; ret == TOOL_OK && fgets(line, sizeof(line), file); n++)
		ret = config_line(path, n, line, strchr(line, '\n') || feof(file));
	if (ret == TOOL_OK && ferror(file)) {
		fprintf(stderr, "umm run: %s: %s\n", path, strerror(errno));
		ret = TOOL_FAILED;
	}
	fclose(file);
	return ret;
}

/* Options of one name, given several times, are one value with commas. */
static int option_take(const char *values[KEYS_MAX], int key, const char *value)
{
	static char lists[KEYS_MAX][2048];
	char *list = lists[key];
	size_t len = strlen(list);

	if (len + strlen(value) + 2 > sizeof(lists[key]))
		return complain("an option is too long");
	if (strcmp(settings_keys(&(size_t){ 0 })[key].name, "device") != 0)
		len = 0;
	snprintf(list + len, sizeof(lists[key]) - len, "%s%s", len ? "," : "", value);
	values[key] = list;
	return TOOL_OK;
}

static int options_parse(int argc, char **argv, const char *values[KEYS_MAX], const char **config)
{
	struct option options[KEYS_MAX + 3] = { 0 };
	const struct settings_key *keys;
	size_t nkeys;
	int option, ret;

	keys = settings_keys(&nkeys);
	for (size_t i = 0; i < nkeys; i++)
		options[i] = (struct option){ keys[i].name,
					      keys[i].argument ? required_argument : no_argument,
					      NULL, (int)i };
	options[nkeys] = (struct option){ "config", required_argument, NULL, OPTION_CONFIG };
	options[nkeys + 1] = (struct option){ "help", no_argument, NULL, OPTION_HELP };
	opterr = 0;
	while ((option = getopt_long(argc, argv, "+:h", options, NULL)) != -1) {
		if (option == OPTION_HELP || option == 'h') {
			help_print();
			exit(tool_finish_output("run"));
		}
		if (option == ':')
			return tool_value_error("run", argv[optind - 1], "a value");
		if (option == '?')
			return tool_usage_error("run", argv[optind - 1]);
		if (option == OPTION_CONFIG) {
			*config = optarg;
			continue;
		}
		ret = option_take(values, option, optarg ? optarg : "yes");
		if (ret)
			return ret;
	}
	return optind < argc ? TOOL_OK : complain("there is no program to run");
}

static int settings_gather(int argc, char **argv, struct settings *settings)
{
	const char *values[KEYS_MAX] = { NULL }, *config = NULL;
	char error[SETTINGS_ERROR_LEN];
	size_t nkeys;
	int ret = options_parse(argc, argv, values, &config);

	settings_keys(&nkeys);
	for (size_t i = 0; i < nkeys && !ret; i++)
		if (values[i] &&
		    !setting_keep(settings_keys(&nkeys)[i].name, values[i], true, error))
			ret = complain(error);
	if (!ret)
		ret = config_read(config);
	if (ret)
		return ret;
	settings_default(settings);
	return settings_from_environment(settings, error) ? complain(error) : TOOL_OK;
}

/* ---- what it takes -------------------------------------------------------------------- */

/* Beside libumm where both are installed; below it where they were built. */
static bool shim_find(void)
{
	static const char *const places[] = { "", "/preload" };
	char dir[PATH_MAX - 64];

	if (!tier_directory((const void *)umm_version, dir, sizeof(dir)))
		return false;
	for (unsigned i = 0; i < 2; i++) {
		snprintf(shim_dir, sizeof(shim_dir), "%s%s", dir, places[i]);
		snprintf(shim_path, sizeof(shim_path), "%s%s/libumm_preload.so", dir, places[i]);
		if (!access(shim_path, R_OK))
			return true;
	}
	return false;
}

static int devices_check(const struct settings *settings)
{
	for (unsigned i = 0; i < settings->ndevices; i++) {
		const struct settings_device *device = &settings->devices[i];
		char text[SETTINGS_ERROR_LEN] = "";
		struct umm_tier_reason reason = { text, sizeof(text) };
		const struct umm_tier_ops *ops;
		char name[SETTINGS_NAME_LEN + 40], whole[SETTINGS_NAME_LEN + 64];

		snprintf(name, sizeof(name), "%s%s%s", device->scheme, device->name[0] ? ":" : "",
			 device->name);
		snprintf(whole, sizeof(whole), "%s=%llu", name, (unsigned long long)device->len);
		if (checked_lately(whole))
			continue;
		ops = tier_load(device, shim_dir, &reason);
		if (!ops || ops->check(device->name, device->len, &reason)) {
			fprintf(stderr, "umm run: device %s: %s\n", name, text);
			return TOOL_USAGE;
		}
		if (text[0])
			warn(settings, "device %s: %s\n", name, text);
		if (ops->flags & UMM_TIER_LONG_CHECK)
			checked_note(whole);
	}
	return TOOL_OK;
}

/* libumm makes the file once the program's memory comes near the limit: too late for an error. */
static int record_check(void)
{
	const char *path = getenv("UMM_TRACE"), *name;
	char dir[PATH_MAX];
	int error = 0;
	struct stat st;

	if (!path || !*path || strstr(path, "%p"))
		return TOOL_OK;
	name = strrchr(path, '/');
	snprintf(dir, sizeof(dir), "%.*s", name ? (int)(name - path) + 1 : 1, name ? path : ".");
	if (!lstat(path, &st) && !S_ISREG(st.st_mode))
		error = EEXIST;
	else if (access(dir, W_OK | X_OK))
		error = errno;
	if (!error)
		return TOOL_OK;
	fprintf(stderr, "umm run: trace: %s: %s\n", path, strerror(error));
	return TOOL_FAILED;
}

/* NULL, or why the program has to run without. */
static const char *obstacle(const struct settings *settings, const char *program,
			    struct umm_probe_info *info)
{
	static char text[PATH_MAX + SETTINGS_ERROR_LEN];
	const char *why;

	info->size = sizeof(*info);
	if (!settings->ndevices)
		return "no device is given (--device)";
	if (!settings->host_limit)
		return "no limit is given (--host-limit)";
	if (umm_probe(info) || info->uffd_access == UMM_UFFD_NONE ||
	    info->uffd_access == UMM_UFFD_USER_MODE_ONLY)
		return info->advice;
	if (!tight_is_enough(settings, text))
		return text;
	why = program_obstacle(program);
	if (!why)
		return NULL;
	snprintf(text, sizeof(text), "%s is %s", program, why);
	return text;
}

static int preload_set(void)
{
	const char *others = getenv("LD_PRELOAD");
	char list[2 * PATH_MAX];

	snprintf(list, sizeof(list), "%s%s%s", shim_path, others && *others ? ":" : "",
		 others ? others : "");
	return setenv("LD_PRELOAD", list, true);
}

/* ---- running it ----------------------------------------------------------------------- */

static int become(char **argv)
{
	execvp(argv[0], argv);
	fprintf(stderr, "umm run: %s: %s\n", argv[0], strerror(errno));
	return errno == ENOENT ? EXIT_NOT_FOUND : EXIT_CANNOT_RUN;
}

static void summary_print(pid_t pid)
{
	char error[SETTINGS_ERROR_LEN];
	struct channel *channel = channel_open(pid, error);
	char text[CHANNEL_TEXT];
	size_t len;

	if (channel) {
		len = channel_describe(channel, text);
		fwrite(text, 1, len, stderr);
	} else {
		fprintf(stderr, "umm run: there is no summary: managed memory stayed under its "
				"limit, or the program ran without any, or it could keep nothing "
				"in " CHANNEL_DIR "\n");
	}
}

struct start {
	char **argv;
	_Atomic bool *failed; /* there was no program to become; shared with who waits */
};

static int become_for_child(void *arg)
{
	const struct start *start = arg;
	int ret = become(start->argv);

	if (start->failed != MAP_FAILED)
		*start->failed = true;
	return ret;
}

static int run_and_wait(char **argv)
{
	struct start start = { argv, mmap(NULL, sizeof(*start.failed), PROT_READ | PROT_WRITE,
					  MAP_SHARED | MAP_ANONYMOUS, -1, 0) };
	char pid_text[16];
	siginfo_t info;
	int status;
	pid_t pid;

	snprintf(pid_text, sizeof(pid_text), "%d", (int)getpid());
	setenv("UMM_RUN_PID", pid_text, true);
	unsetenv("UMM_SUMMARY");
	pid = child_start(become_for_child, &start);
	if (pid < 0) {
		fprintf(stderr, "umm run: no process: %s\n", strerror(errno));
		return TOOL_FAILED;
	}
	/* It is the program's end that is told, be the summary written or not. */
	signal(SIGPIPE, SIG_IGN);
	signal(SIGXFSZ, SIG_IGN);
	/* While it is not reaped its number is its own, and so is what it left. */
	while (waitid(P_PID, (id_t)pid, &info, WEXITED | WNOWAIT) && errno == EINTR)
		;
	if (start.failed == MAP_FAILED || !*start.failed)
		summary_print(pid);
	channel_remove(pid);
	while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
		;
	return child_end_as(status);
}

/* Everything up to the program, which begins at argv[optind]. TOOL_OK: it can be run. */
static int run_prepare(int argc, char **argv, struct settings *settings)
{
	struct umm_probe_info info = { 0 };
	const char *why;
	int ret = settings_gather(argc, argv, settings);

	if (ret)
		return ret;
	if (!shim_find()) {
		fprintf(stderr,
			"umm run: libumm_preload.so is not beside libumm: it was built without "
			"jemalloc, or not installed\n");
		return TOOL_FAILED;
	}
	ret = devices_check(settings);
	if (!ret)
		ret = record_check();
	if (ret)
		return ret;
	why = obstacle(settings, argv[optind], &info);
	if (why) {
		warn(settings, "running without managed memory: %s\n", why);
		settings->summary = false;
		return TOOL_OK;
	}
	if (!preload_set() && !sandbox_note())
		return TOOL_OK;
	fprintf(stderr, "umm run: %s\n", strerror(errno));
	return TOOL_FAILED;
}

int run_main(int argc, char **argv)
{
	struct settings settings;
	int ret = run_prepare(argc, argv, &settings);

	if (ret)
		return ret;
	return settings.summary ? run_and_wait(argv + optind) : become(argv + optind);
}

int run_become(int argc, char **argv)
{
	struct settings settings;
	int ret = run_prepare(argc, argv, &settings);

	return ret ? ret : become(argv + optind);
}
