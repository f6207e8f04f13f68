/* SPDX-License-Identifier: MIT */
/*
 * Preloading is the dynamic loader's work: a statically linked program has none, and in one that
 * runs with more rights than its user has the loader does not heed LD_PRELOAD. Either
 * would run as if there were no limit, without a word. The file is looked up as execvp(3) does; of
 * a script it is the interpreter that runs.
 *
 * No locks; no state but the text of an answer.
 */
#include "program.h"

#include <elf.h>
#include <fcntl.h>
#include <limits.h>
#include <link.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

/* So many scripts the kernel follows that are interpreters of scripts. */
enum { SCRIPTS_MAX = 5 };

static bool find(char path[PATH_MAX], const char *name)
{
	const char *dirs = getenv("PATH");

	if (strchr(name, '/')) {
		snprintf(path, PATH_MAX, "%s", name);
		return true;
	}
	for (size_t len; dirs && *dirs; dirs += len + (dirs[len] == ':')) {
		len = strcspn(dirs, ":");
		snprintf(path, PATH_MAX, "%.*s/%s", (int)len, len ? dirs : ".", name);
		if (!access(path, X_OK))
			return true;
	}
	return false;
}

/* Of what has no interpreter: a program, and not the dynamic loader itself. */
static bool is_position_independent_program(int fd, const ElfW(Phdr) * dynamic)
{
	ElfW(Dyn) entry;

	for (size_t at = 0; at < dynamic->p_filesz; at += sizeof(entry)) {
		if (pread(fd, &entry, sizeof(entry), (off_t)(dynamic->p_offset + at)) !=
		    sizeof(entry))
			return false;
		if (entry.d_tag == DT_FLAGS_1)
			return entry.d_un.d_val & DF_1_PIE;
	}
	return false;
}

/* A program of this machine's kind without an interpreter. */
static bool is_static(int fd)
{
	ElfW(Ehdr) header;
	ElfW(Phdr) segment, dynamic = { 0 };

	if (pread(fd, &header, sizeof(header), 0) != sizeof(header) ||
	    memcmp(header.e_ident, ELFMAG, SELFMAG) != 0 ||
	    header.e_ident[EI_CLASS] != (sizeof(void *) == 8 ? ELFCLASS64 : ELFCLASS32))
		return false;
	for (unsigned i = 0; i < header.e_phnum; i++) {
		off_t at = (off_t)(header.e_phoff + i * sizeof(segment));

		if (pread(fd, &segment, sizeof(segment), at) != sizeof(segment))
			return false;
		if (segment.p_type == PT_INTERP)
			return false;
		if (segment.p_type == PT_DYNAMIC)
			dynamic = segment;
	}
	return header.e_type == ET_EXEC || is_position_independent_program(fd, &dynamic);
}

/* Capabilities of its own; root has them all. */
static bool has_capabilities(int fd)
{
	return geteuid() && fgetxattr(fd, "security.capability", NULL, 0) > 0;
}

static const char *why_not(int fd)
{
	struct stat st;

	if (fstat(fd, &st) || !S_ISREG(st.st_mode))
		return NULL;
	if ((st.st_mode & S_ISUID && st.st_uid != getuid()) ||
	    (st.st_mode & S_ISGID && st.st_gid != getgid()))
		return "set-user-ID or set-group-ID, and so not to be interfered with";
	if (has_capabilities(fd))
		return "a file with capabilities, and so not to be interfered with";
	if (is_static(fd))
		return "statically linked, so nothing can be put in front of its malloc()";
	return NULL;
}

/* The interpreter of a script goes to @path. False: it is none. */
static bool interpreter(int fd, char path[PATH_MAX])
{
	char line[PATH_MAX + 1];
	ssize_t len = pread(fd, line, sizeof(line) - 1, 0);
	const char *name;

	if (len < 2 || line[0] != '#' || line[1] != '!')
		return false;
	line[len] = '\0';
	line[strcspn(line, "\n")] = '\0';
	name = line + 2 + strspn(line + 2, " \t");
	snprintf(path, PATH_MAX, "%.*s", (int)strcspn(name, " \t"), name);
	return *path;
}

const char *program_obstacle(const char *name)
{
	static char text[PATH_MAX + 128];
	const char *why = NULL;
	char path[PATH_MAX];
	bool is_script = false;
	int fd;

	if (!find(path, name))
		return NULL;
	for (unsigned level = 0; level < SCRIPTS_MAX; level++) {
		bool more;

		fd = open(path, O_RDONLY | O_CLOEXEC);
		if (fd < 0)
			return NULL;
		more = interpreter(fd, path);
		if (!more)
			why = why_not(fd);
		close(fd);
		if (!more)
			break;
		is_script = true;
	}
	if (!why || !is_script)
		return why;
	snprintf(text, sizeof(text), "a script for %s, which is %s", path, why);
	return text;
}
