/* SPDX-License-Identifier: MIT */
/*
 * Where messages go. Descriptor 2 is the program's: it may close it, and what it opens then gets
 * that number, be it a file of data or a connection. So a line is written only while the number
 * stands for what it stood for when the program was started; else it is left out. A copy
 * of the descriptor would not do: whoever reads a pipe waits until nobody has it open any more.
 *
 * Between the look and the write another thread may exchange the file: then one line goes astray.
 * Nor does the program wait for a line, or end by it (careful.c).
 *
 * No locks: what is remembered is written before the program's first instruction.
 */
#include "say.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <umm.h>

#include "careful.h"
#include "shim.h"
#include "text.h"

static SHIM_TLS char *kept; /* NULL: nothing is to be kept */

static struct {
	bool is_open;
	dev_t dev;
	ino_t ino;
} standard_error;

void say_start(void)
{
	struct stat st;

	if (fstat(STDERR_FILENO, &st))
		return;
	standard_error.is_open = true;
	standard_error.dev = st.st_dev;
	standard_error.ino = st.st_ino;
}

static bool is_what_it_was(void)
{
	int saved = errno;
	struct stat st;
	bool may = standard_error.is_open && !fstat(STDERR_FILENO, &st) &&
		   st.st_dev == standard_error.dev && st.st_ino == standard_error.ino;

	errno = saved;
	return may;
}

void say_text(const char *text, size_t len)
{
	if (is_what_it_was())
		careful_write(STDERR_FILENO, text, len);
}

/* For a whole line, of which the first @len bytes are there. */
static void line_write(char line[SAY_LINE], size_t len)
{
	len = len < SAY_LINE - 1 ? len : SAY_LINE - 1;
	text_clean(line);
	line[len] = '\n';
	say_text(line, len + 1);
}

void say_line(const char *prefix, const char *format, va_list args)
{
	char line[SAY_LINE];
	size_t len = (size_t)snprintf(line, sizeof(line), "%s", prefix);
	int more = vsnprintf(line + len, sizeof(line) - len, format, args);

	if (more >= 0)
		line_write(line, len + (size_t)more);
}

static void log_line(void *priv, enum umm_log_level level, const char *text)
{
	static const char *const names[] = { "", "error", "warning", "info", "debug" };
	static const char because[] = "; the program is not dumpable, as those that change users";
	const char *advice = strstr(text, "; create the first context before setresuid()");
	char line[SAY_LINE];
	int len;

	(void)priv;
	if (kept && level == UMM_LOG_ERROR) {
		snprintf(kept, SAY_LINE, "%s", text);
		return;
	}
	/* What a program could do that knows of libumm is nothing for whoever runs it. */
	len = snprintf(line, sizeof(line), "libumm: %s: %.*s%s", names[level],
		       advice ? (int)(advice - text) : (int)strlen(text), text,
		       advice ? because : "");
	line_write(line, (size_t)len);
}

void say_log(void)
{
	umm_log_set(log_line, NULL, UMM_LOG_DEFAULT);
}

void say_log_keep(char line[SAY_LINE])
{
	if (line)
		*line = '\0';
	kept = line;
}
