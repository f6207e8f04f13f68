/* SPDX-License-Identifier: MIT */
/*
 * Hints for programs that nobody changes: what UMM_HINTS lists counts for all memory of a context
 * where the program has said nothing of the same kind, not even that there is none. Words, parted
 * by commas: read-mostly, no-migrate, latency-critical, prefer-system, granularity=ORDER,
 * readahead=POLICY, thrash=POLICY.
 *
 * Locks: none; a context reads it when it is created, and never again.
 */
#include <stdlib.h>
#include <string.h>

#include "hint.h"
#include "log.h"
#include "util.h"

#define WORD_MOST 32

static const struct {
	const char *word;
	enum umm_hint hint;
} flags[] = {
	{ "read-mostly", UMM_HINT_READ_MOSTLY },
	{ "no-migrate", UMM_HINT_NO_MIGRATE },
	{ "latency-critical", UMM_HINT_LATENCY_CRITICAL },
	{ "prefer-system", UMM_HINT_PREFERRED },
};

static const char *const readaheads[] = {
	[UMM_READAHEAD_OFF] = "off",
	[UMM_READAHEAD_DENSITY] = "density",
	[UMM_READAHEAD_STREAM] = "stream",
};

static const char *const thrashes[] = {
	[UMM_THRASH_OFF] = "off",
	[UMM_THRASH_PIN] = "pin",
	[UMM_THRASH_THROTTLE] = "throttle",
};

static bool set_order(struct hint_attrs *attrs, const char *text)
{
	if (text[0] < '0' || text[0] > '0' + ORDER_MOST || text[1])
		return false;
	attrs->order = (uint8_t)(text[0] - '0');
	if (attrs->order)
		attrs->set |= 1 << UMM_HINT_GRANULARITY;
	else
		attrs->set &= ~(UINT32_C(1) << UMM_HINT_GRANULARITY);
	return true;
}

static bool set_readahead(struct hint_attrs *attrs, const char *text)
{
	for (unsigned i = UMM_READAHEAD_OFF; i < ARRAY_SIZE(readaheads); i++) {
		if (strcmp(text, readaheads[i]) != 0)
			continue;
		attrs->readahead = (uint8_t)i;
		attrs->set |= 1 << UMM_HINT_READAHEAD;
		return true;
	}
	return false;
}

static bool set_thrash(struct hint_attrs *attrs, const char *text)
{
	for (unsigned i = UMM_THRASH_OFF; i < ARRAY_SIZE(thrashes); i++) {
		if (strcmp(text, thrashes[i]) != 0)
			continue;
		attrs->thrash = (uint8_t)i;
		attrs->set |= 1 << UMM_HINT_THRASH;
		return true;
	}
	return false;
}

static bool set_word(struct hint_attrs *attrs, const char *word)
{
	static const char granularity[] = "granularity=", readahead[] = "readahead=",
			  thrash[] = "thrash=";

	for (size_t i = 0; i < ARRAY_SIZE(flags); i++) {
		if (strcmp(word, flags[i].word) != 0)
			continue;
		attrs->set |= UINT32_C(1) << flags[i].hint;
		return true;
	}
	if (!strncmp(word, granularity, sizeof(granularity) - 1))
		return set_order(attrs, word + sizeof(granularity) - 1);
	if (!strncmp(word, readahead, sizeof(readahead) - 1))
		return set_readahead(attrs, word + sizeof(readahead) - 1);
	if (!strncmp(word, thrash, sizeof(thrash) - 1))
		return set_thrash(attrs, word + sizeof(thrash) - 1);
	return false;
}

void hints_from_environment(struct hints *hints)
{
	const char *at = getenv("UMM_HINTS");
	char word[WORD_MOST];
	size_t len;

	for (; at && *at; at += len + (at[len] == ',')) {
		len = strcspn(at, ",");
		if (!len)
			continue;
		snprintf(word, sizeof(word), "%.*s", (int)min(len, sizeof(word)), at);
		if (len >= sizeof(word) || !set_word(&hints->usual, word))
			log_warning("UMM_HINTS: '%s' is no hint and does nothing; known are "
				    "read-mostly, no-migrate, latency-critical, prefer-system, "
				    "granularity=0 to 9, readahead=off, density or stream, "
				    "thrash=off, pin or throttle",
				    word);
	}
}
