/* SPDX-License-Identifier: MIT */
/* Lines on the standard error that the program was started with. */
#ifndef SAY_H
#define SAY_H

#include <stdarg.h>
#include <stddef.h>

enum { SAY_LINE = 600 };

/* Remember what it is. Until then, and where it was closed, nothing is said. */
void say_start(void);

/* In one write, unless descriptor 2 is not that any more, or has no room, or nobody reads it. */
void say_text(const char *text, size_t len);

/*
 * One line that begins with @prefix, in one write, whatever there is in what it quotes. No malloc,
 * no stdio; errno survives.
 */
void say_line(const char *prefix, const char *format, va_list args)
	__attribute__((format(printf, 2, 0)));

/* What libumm logs goes there, too. */
void say_log(void);

/*
 * But errors that this thread finds out about: the last one is in @line, so that whoever calls
 * libumm says it, with what follows from it. NULL: as before.
 */
void say_log_keep(char line[SAY_LINE]);

#endif
