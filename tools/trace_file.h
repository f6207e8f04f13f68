/* SPDX-License-Identifier: MIT */
/* The file of a trace: JSON that Perfetto and Chrome's viewer read, whole after every flush. */
#ifndef TRACE_FILE_H
#define TRACE_FILE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/types.h>

#include "trace_ring.h"

enum { TRACE_TIDS = 256 };

/* By enum trace_kind. */
struct trace_totals {
	uint64_t seen[TRACE_NR_KINDS], pages[TRACE_NR_KINDS], dropped[TRACE_NR_KINDS];
};

/* An event in the text: where it ends. */
struct trace_mark {
	size_t end;
	uint32_t kind;
};

struct trace_file {
	int fd;
	pid_t pid;
	uint64_t size_max, end; /* bytes; the last record, which is rewritten, begins at end */
	char *text;		/* what is not written yet */
	size_t len, capacity;
	struct trace_mark *mark; /* of the text */
	size_t nmarks, marks_capacity;
	/* Events: in the file, or in text; that found no room. */
	uint64_t written[TRACE_NR_KINDS], unwritten[TRACE_NR_KINDS];
	int32_t tid[TRACE_TIDS]; /* that have their names */
	unsigned ntids;
};

/*
 * Make the file, of no more than @size_max bytes; @file->pid is for the caller to fill in. 0 or a
 * negative errno, -ESPIPE for one that cannot be written in place; the file is then as it was, or
 * not there.
 */
int trace_file_open(struct trace_file *file, const char *path, uint64_t size_max);

/* For the next flush. One for which there is no room counts in unwritten. */
void trace_file_event(struct trace_file *file, const struct trace_event *event);
void trace_file_memory(struct trace_file *file, uint64_t time_ns, uint64_t host, uint64_t devices);

/*
 * 0, or a negative errno: the file has those events that found room, and gets no more; what came
 * since counts in unwritten.
 */
int trace_file_flush(struct trace_file *file, const struct trace_totals *totals);

/* 0, or a negative errno: its file system tells only now that not all that was written is kept. */
int trace_file_close(struct trace_file *file);

#endif
