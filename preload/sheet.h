/* SPDX-License-Identifier: MIT */
/*
 * One look at where the managed memory is, as the umm command asks for it: rows of address space,
 * in the order of addresses, and who allocated what. The command counts wanted up; the engine
 * fills the sheet in its next round, then sets done to the same number. In between
 * the sheet is the engine's, otherwise the command's.
 */
#ifndef SHEET_H
#define SHEET_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

enum {
	SHEET_ROWS = 8192,
	SHEET_SITES = 4096,
};

struct sheet_row {
	uint64_t start, len;	     /* bytes */
	uint32_t host, device, lost; /* pages; what is left was never touched */
	uint32_t touched; /* pages that were touched on a device since the last sheet, as far as
			   * that was seen */
};

/* An allocation, the newest last; one that covers an older one replaces it. */
struct sheet_site {
	uint64_t start, len, caller;
};

struct sheet {
	_Atomic uint32_t wanted, done;
	uint32_t nrows, nsites;
	bool is_cut;	  /* there was more than there are rows for */
	uint64_t time_ns; /* CLOCK_MONOTONIC */
	struct sheet_row row[SHEET_ROWS];
	struct sheet_site site[SHEET_SITES];
};

#endif
