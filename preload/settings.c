/* SPDX-License-Identifier: MIT */
/*
 * The table of settings: what each is called, how its value is read, where it is kept.
 *
 * Several devices are one setting with commas, or the same setting several times; the order is
 * that of preference. No allocation, no locks, no state but the table.
 */
#include "settings.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "policy/ahead.h"
#include "policy/policy.h"
#include "policy/thrash.h"
#include "text.h"

#define NO_LIMIT UINT64_MAX

/* Whatever was quoted: one line. */
static void error_tidy(char error[SETTINGS_ERROR_LEN])
{
	for (; *error; error++)
		if (iscntrl((unsigned char)*error))
			*error = '?';
}

static int error_say(char error[SETTINGS_ERROR_LEN], const char *key, const char *value,
		     const char *want)
{
	snprintf(error, SETTINGS_ERROR_LEN, "%s: \"%.100s\" is not %s", key, value, want);
	error_tidy(error);
	return -EINVAL;
}

/* The unit after a number, as a shift; -1: none such. */
static int unit_shift(const char *unit)
{
	static const char units[] = "KMGT";
	const char *found;

	if (!*unit || strcasecmp(unit, "b") == 0)
		return 0;
	found = strchr(units, toupper((unsigned char)*unit));
	if (!found)
		return -1;
	if (unit[1] && strcasecmp(unit + 1, "b") != 0 && strcasecmp(unit + 1, "ib") != 0)
		return -1;
	return 10 * (int)(found - units + 1);
}

/* Digits after the point count in units of the last one: 1.5G is 3 << 29. */
static bool fraction_add(const char *digits, int shift, uint64_t *bytes)
{
	uint64_t value = 0, scale = 1;

	for (; isdigit((unsigned char)*digits) && scale < 1000000; digits++) {
		value = 10 * value + (uint64_t)(*digits - '0');
		scale *= 10;
	}
	if (scale > 1 && !shift)
		return false;
	*bytes += (value << shift) / scale;
	return true;
}

int settings_bytes(const char *text, uint64_t *out)
{
	const char *unit, *fraction = "";
	uint64_t value;
	char *end;
	int shift;

	if (!isdigit((unsigned char)*text))
		return -EINVAL;
	errno = 0;
	value = strtoull(text, &end, 10);
	if (errno)
		return -EINVAL;
	unit = end;
	if (*end == '.') {
		fraction = end + 1;
		unit = fraction + strspn(fraction, "0123456789");
		if (unit == fraction)
			return -EINVAL;
	}
	shift = unit_shift(unit);
	if (shift < 0 || value > (UINT64_MAX >> 1) >> shift)
		return -EINVAL;
	value <<= shift;
	if (!fraction_add(fraction, shift, &value))
		return -EINVAL;
	*out = value;
	return 0;
}

static int set_bytes(uint64_t *where, const char *key, const char *value, char *error)
{
	if (!settings_bytes(value, where))
		return 0;
	return error_say(error, key, value,
			 "a size: a number, with K, M, G or T behind it (1M, 1MB and 1MiB are "
			 "1048576 bytes)");
}

static int set_host_limit(struct settings *settings, const char *key, const char *value,
			  char *error)
{
	uint64_t limit;
	int ret;

	if (!strcmp(value, "none")) {
		settings->host_limit = 0;
		return 0;
	}
	ret = set_bytes(&limit, key, value, error);
	if (ret)
		return ret;
	if (limit < SETTINGS_LIMIT_MIN)
		return error_say(error, key, value, "at least 16M, or \"none\"");
	settings->host_limit = limit;
	return 0;
}

static int set_malloc_threshold(struct settings *settings, const char *key, const char *value,
				char *error)
{
	uint64_t threshold;
	int ret = set_bytes(&threshold, key, value, error);

	if (ret)
		return ret;
	if (threshold && threshold < SETTINGS_MALLOC_MIN)
		return error_say(error, key, value, "0 (everything) or at least 64K");
	settings->malloc_threshold = threshold;
	return 0;
}

static int set_mmap_threshold(struct settings *settings, const char *key, const char *value,
			      char *error)
{
	if (!strcmp(value, "none")) {
		settings->mmap_threshold = NO_LIMIT;
		return 0;
	}
	return set_bytes(&settings->mmap_threshold, key, value, error);
}

static int set_cpu_budget(struct settings *settings, const char *key, const char *value,
			  char *error)
{
	char *end;
	unsigned long percent = strtoul(value, &end, 10);

	if (!isdigit((unsigned char)*value) || *end || percent < 1 || percent > 100)
		return error_say(error, key, value, "a percentage from 1 to 100");
	settings->cpu_budget = (unsigned)percent;
	return 0;
}

static int set_switch(bool *where, const char *key, const char *value, char *error)
{
	if (!strcmp(value, "yes") || !strcmp(value, "1"))
		*where = true;
	else if (!strcmp(value, "no") || !strcmp(value, "0"))
		*where = false;
	else
		return error_say(error, key, value, "\"yes\" or \"no\"");
	return 0;
}

static int set_quiet(struct settings *settings, const char *key, const char *value, char *error)
{
	return set_switch(&settings->quiet, key, value, error);
}

static int set_summary(struct settings *settings, const char *key, const char *value, char *error)
{
	return set_switch(&settings->summary, key, value, error);
}

static int set_placement(struct settings *settings, const char *key, const char *value, char *error)
{
	const struct place_ops *ops = place_by_name(value);

	if (!ops)
		return error_say(error, key, value, "\"first\", \"roomiest\" or \"interleave\"");
	settings->placement = ops;
	return 0;
}

static int set_sampling(struct settings *settings, const char *key, const char *value, char *error)
{
	const struct sample_ops *ops = sample_by_name(value);

	if (!ops)
		return error_say(error, key, value,
				 "\"refault\", \"probe\", \"second\" or \"off\"");
	settings->sampling = ops;
	return 0;
}

/* What follows is libumm's own affair, which reads the variable: here it is only checked. */
static int check_evict_order(struct settings *settings, const char *key, const char *value,
			     char *error)
{
	(void)settings;
	if (order_by_name(value))
		return 0;
	return error_say(error, key, value,
			 "\"adaptive\", \"lru\", \"clock\", \"s3fifo\", \"lirs\" or \"lrfu\"");
}

static int check_readahead(struct settings *settings, const char *key, const char *value,
			   char *error)
{
	(void)settings;
	if (ahead_by_name(value))
		return 0;
	return error_say(error, key, value, "\"off\", \"density\" or \"stream\"");
}

static int check_thrash(struct settings *settings, const char *key, const char *value, char *error)
{
	(void)settings;
	if (thrash_by_name(value))
		return 0;
	return error_say(error, key, value, "\"off\", \"pin\" or \"throttle\"");
}

static int check_nothing(struct settings *settings, const char *key, const char *value, char *error)
{
	(void)settings;
	(void)key;
	(void)value;
	(void)error;
	return 0;
}

/* One "SCHEME[:NAME][=BYTES]" that ends at @end. */
static bool device_parse(struct settings_device *device, const char *text, const char *end)
{
	const char *colon = memchr(text, ':', (size_t)(end - text));
	const char *equals = end;
	char len[32];
	size_t n;

	memset(device, 0, sizeof(*device));
	for (const char *p = text; p < end; p++) {
		if (*p == '=')
			equals = p;
		if (iscntrl((unsigned char)*p))
			return false;
	}
	if (colon && colon > equals)
		colon = NULL;
	n = (size_t)((colon ? colon : equals) - text);
	if (!n || n >= sizeof(device->scheme))
		return false;
	memcpy(device->scheme, text, n);
	for (size_t i = 0; i < n; i++)
		if (!islower((unsigned char)text[i]) && !isdigit((unsigned char)text[i]))
			return false;
	if (colon) {
		n = (size_t)(equals - colon - 1);
		if (n >= sizeof(device->name))
			return false;
		memcpy(device->name, colon + 1, n);
	}
	if (equals == end)
		return true;
	n = (size_t)(end - equals - 1);
	if (n >= sizeof(len))
		return false;
	memcpy(len, equals + 1, n);
	len[n] = '\0';
	return !settings_bytes(len, &device->len) && device->len >= SETTINGS_DEVICE_MIN;
}

/* That one which has just been added is there already. */
static bool is_given_twice(const struct settings *settings)
{
	const struct settings_device *last = &settings->devices[settings->ndevices];

	for (unsigned i = 0; i < settings->ndevices; i++)
		if (!strcmp(settings->devices[i].scheme, last->scheme) &&
		    !strcmp(settings->devices[i].name, last->name))
			return true;
	return false;
}

static int set_device(struct settings *settings, const char *key, const char *value, char *error)
{
	const char *end;

	for (const char *text = value;; text = end + 1) {
		end = strchrnul(text, ',');
		if (settings->ndevices == SETTINGS_DEVICES) {
			snprintf(error, SETTINGS_ERROR_LEN, "%s: at most %d devices", key,
				 SETTINGS_DEVICES);
			return -EINVAL;
		}
		if (!device_parse(&settings->devices[settings->ndevices], text, end))
			return error_say(error, key, value,
					 "of the form KIND[:NAME][=BYTES], as numa:1 or "
					 "opencl:pocl=2G, with 2M at least");
		if (is_given_twice(settings)) {
			snprintf(error, SETTINGS_ERROR_LEN, "%s: \"%.*s\" is given twice", key,
				 end - text < 100 ? (int)(end - text) : 100, text);
			return -EINVAL;
		}
		settings->ndevices++;
		if (!*end)
			return 0;
	}
}

static const struct settings_key keys[] = {
	{ "device", "KIND:NAME[=BYTES]",
	  "memory that takes what the host may not keep; "
	  "several: the first is filled first" },
	{ "host-limit", "BYTES", "managed memory in host frames, at most; \"none\"" },
	{ "malloc-threshold", "BYTES", "malloc() from so many bytes on is managed; 0: all of it" },
	{ "mmap-threshold", "BYTES", "likewise anonymous mappings; \"none\": no mapping is" },
	{ "cpu-budget", "PERCENT", "of one CPU, for finding cold memory" },
	{ "placement", "NAME",
	  "of devices: fill the \"first\" first, the \"roomiest\", or "
	  "\"interleave\"" },
	{ "sampling", "NAME",
	  "which pages prove to be hot: by \"refault\", \"probe\", \"second\" "
	  "chance, or \"off\"" },
	{ "evict-order", "NAME", "who leaves a full device of a program that uses libumm" },
	{ "readahead", "NAME", "what comes beside a page that its CPU misses" },
	{ "thrash", "NAME", "what becomes of pages that thrash" },
	{ "hints", "LIST", "that count for its memory" },
	{ "trace", "FILE", "record what happens to pages and blocks, for umm-sim" },
	{ "quiet", NULL, "say nothing where libumm cannot work" },
	{ "summary", NULL, "print what was where, and what moved, at exit" },
};

enum { NR_KEYS = sizeof(keys) / sizeof(keys[0]) };

/* In the order of keys[]. */
static int (*const setters[NR_KEYS])(struct settings *settings, const char *key, const char *value,
				     char *error) = {
	set_device,	 set_host_limit, set_malloc_threshold, set_mmap_threshold,
	set_cpu_budget,	 set_placement,	 set_sampling,	       check_evict_order,
	check_readahead, check_thrash,	 check_nothing,	       check_nothing,
	set_quiet,	 set_summary,
};

const struct settings_key *settings_keys(size_t *nkeys)
{
	*nkeys = NR_KEYS;
	return keys;
}

void settings_default(struct settings *settings)
{
	memset(settings, 0, sizeof(*settings));
	settings->malloc_threshold = 128 << 10;
	settings->mmap_threshold = 1 << 20;
	settings->cpu_budget = 2;
	settings->placement = place_policies[0];
	settings->sampling = sample_policies[0];
}

static int set(struct settings *settings, const char *key, const char *value,
	       char error[SETTINGS_ERROR_LEN])
{
	for (size_t i = 0; i < NR_KEYS; i++)
		if (!strcmp(keys[i].name, key))
			return setters[i](settings, key, value, error);
	snprintf(error, SETTINGS_ERROR_LEN, "there is no setting \"%.100s\"", key);
	error_tidy(error);
	return -ENOENT;
}

int settings_set(struct settings *settings, const char *key, const char *value,
		 char error[SETTINGS_ERROR_LEN])
{
	int ret = set(settings, key, value, error);

	if (ret)
		text_clean(error);
	return ret;
}

void settings_variable(const char *key, char *out, size_t out_len)
{
	snprintf(out, out_len, "UMM_%s", key);
	for (; *out; out++)
		*out = *out == '-' ? '_' : (char)toupper((unsigned char)*out);
}

int settings_from_environment(struct settings *settings, char error[SETTINGS_ERROR_LEN])
{
	char variable[64];
	const char *value;
	int ret;

	for (size_t i = 0; i < NR_KEYS; i++) {
		settings_variable(keys[i].name, variable, sizeof(variable));
		value = getenv(variable);
		if (!value || !*value)
			continue;
		ret = settings_set(settings, keys[i].name, value, error);
		if (ret)
			return ret;
	}
	return 0;
}
