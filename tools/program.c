/* SPDX-License-Identifier: MIT */
/*
 * Preloading is the dynamic loader's work: a statically linked program has none, and in one that
 * runs with more rights than its user has the loader does not heed LD_PRELOAD. Either
 * would run as if there were no limit, without a word. The file is looked up as execvp(3) does; a
 * script is its interpreter's affair.
 *
 * No state, no locks.
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
#include <unistd.h>

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

const char *program_obstacle(const char *name)
{
	const char *why = NULL;
	char path[PATH_MAX];
	struct stat st;
	int fd;

	if (!find(path, name))
		return NULL;
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return NULL;
	if (!fstat(fd, &st) && S_ISREG(st.st_mode)) {
		if ((st.st_mode & S_ISUID && st.st_uid != getuid()) ||
		    (st.st_mode & S_ISGID && st.st_gid != getgid()))
			why = "set-user-ID or set-group-ID, and so not to be interfered with";
		else if (is_static(fd))
			why = "statically linked, so nothing can be put in front of its malloc()";
	}
	close(fd);
	return why;
}
