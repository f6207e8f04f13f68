/* SPDX-License-Identifier: MIT */
/*
 * Checks a JSON document on standard input, for tests written in shell.
 *
 * usage: json_check CHECK...
 *	path		it is there, whatever it is
 *	path=value	it is this string, number, true, false or null
 *	path~text	it is a string that contains text
 *	path#count	it is an array or object with so many members
 * A path is keys and array indices with dots between. Exits 1 and says which check
 * failed and what was there instead. No state, no locks.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <jansson.h>

static const json_t *find(const json_t *value, char *path)
{
	char *rest = path, *key;

	while (value && (key = strsep(&rest, ".")))
		value = json_is_array(value) ? json_array_get(value, strtoul(key, NULL, 10)) :
					       json_object_get(value, key);
	return value;
}

/* As text: strings without quotes. The caller frees it. */
static char *show(const json_t *value)
{
	return json_is_string(value) ? strdup(json_string_value(value)) :
				       json_dumps(value, JSON_ENCODE_ANY);
}

static size_t members(const json_t *value)
{
	return json_is_array(value) ? json_array_size(value) : json_object_size(value);
}

static int check(const json_t *root, const char *argument)
{
	size_t len = strcspn(argument, "=~#");
	char *path = strndup(argument, len);
	const json_t *value = find(root, path);
	const char *wanted = argument + len;
	char *found = value ? show(value) : NULL;
	int ok = found != NULL;

	if (ok && *wanted == '=')
		ok = !strcmp(found, wanted + 1);
	else if (ok && *wanted == '~')
		ok = json_is_string(value) && strstr(found, wanted + 1);
	else if (ok && *wanted == '#')
		ok = members(value) == strtoul(wanted + 1, NULL, 10);
	if (!ok)
		fprintf(stderr, "json_check: wanted %s, found %s\n", argument,
			found ? found : "nothing");
	free(found);
	free(path);
	return ok;
}

int main(int argc, char **argv)
{
	json_error_t error;
	json_t *root = json_loadf(stdin, JSON_REJECT_DUPLICATES, &error);
	int bad = 0;

	if (!root) {
		fprintf(stderr, "json_check: line %d: %s\n", error.line, error.text);
		return 1;
	}
	for (int i = 1; i < argc; i++)
		bad |= !check(root, argv[i]);
	json_decref(root);
	return bad;
}
