/* SPDX-License-Identifier: MIT */
/*
 * Text for people: wraps values at spaces so that nothing is wider than a terminal.
 *
 * Columns are counted in characters of UTF-8, not bytes: device names come from vendors.
 * A single word that is wider than the room left is printed whole: cutting a
 * path or an option would make it useless. No state, no locks.
 */
#include <stdarg.h>
#include <string.h>

#include "text.h"

/* Columns that len bytes of UTF-8 take, as far as every character is one wide. */
static size_t text_width(const char *text, size_t len)
{
	size_t width = 0;

	for (size_t i = 0; i < len; i++)
		width += ((unsigned char)text[i] & 0xc0) != 0x80;
	return width;
}

void text_heading(FILE *out, const char *heading)
{
	fprintf(out, "\n%s\n", heading);
}

/* Print value at indent, where its further lines start too. */
static void text_wrap(FILE *out, const char *value, size_t indent)
{
	size_t column = indent;
	size_t gap = 0; /* spaces in front of the word */

	while (*value) {
		size_t len = strcspn(value, " ");
		size_t width = text_width(value, len);

		if (gap && column + gap + width > TEXT_COLUMNS) {
			fprintf(out, "\n%*s", (int)indent, "");
			column = indent;
			gap = 0;
		}
		fprintf(out, "%*s%.*s", (int)gap, "", (int)len, value);
		column += gap + width;
		value += len;
		gap = strspn(value, " ");
		value += gap;
	}
	fputc('\n', out);
}

void text_item(FILE *out, const char *label, const char *format, ...)
{
	char value[1024];
	size_t column = 2 + text_width(label, strlen(label));
	size_t indent = column + 1 > TEXT_LABEL ? column + 1 : TEXT_LABEL;
	va_list args;

	va_start(args, format);
	vsnprintf(value, sizeof(value), format, args);
	va_end(args);
	fprintf(out, "  %s%*s", label, (int)(indent - column), "");
	text_wrap(out, value, indent);
}

void text_size(uint64_t bytes, char text[TEXT_SIZE])
{
	static const char *const units[] = { "B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB" };
	double amount = (double)bytes;
	size_t unit = 0;

	while (amount >= 1023.5 && unit < sizeof(units) / sizeof(units[0]) - 1) {
		amount /= 1024;
		unit++;
	}
	snprintf(text, TEXT_SIZE, amount < 9.95 && unit ? "%.1f %s" : "%.0f %s", amount,
		 units[unit]);
}
