/* SPDX-License-Identifier: MIT */
/* Text for people on a terminal of 80 columns: headings, and labels with wrapped values. */
#ifndef TEXT_H
#define TEXT_H

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

enum {
	TEXT_COLUMNS = 80,
	TEXT_LABEL = 24, /* where values start, unless the label is longer */
	TEXT_SIZE = 12,	 /* enough for text_size() */
};

/* A line of its own, after an empty one. */
void text_heading(FILE *out, const char *heading);

/*
 * "  label               value", the value wrapped at spaces and indented below
 * itself. An empty label continues the item above. Values longer than 1023 bytes are cut.
 */
void text_item(FILE *out, const char *label, const char *format, ...)
	__attribute__((format(printf, 3, 4)));

/* "3.9 GiB", "512 KiB", "17 B" */
void text_size(uint64_t bytes, char text[TEXT_SIZE]);

#endif
