/* SPDX-License-Identifier: MIT */
/* What "umm map" saw, and drawing it. */
#ifndef MAP_SVG_H
#define MAP_SVG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/types.h>

#include "channel.h"

/* One sheet. */
struct map_look {
	uint64_t time_ns;
	uint32_t nrows;
	struct sheet_row *row;
};

/* A site with its name: "program+0x12ab". */
struct map_site {
	uint64_t start, len;
	char name[64];
};

struct map {
	pid_t pid;
	char program[60];
	uint64_t host_limit;
	bool is_cut; /* some look had more rows than fit */
	struct map_look *look;
	size_t nlooks;
	struct map_site *site; /* of the last look */
	size_t nsites;
};

/* Keep what the sheet says now. False: no memory. */
bool map_add(struct map *map, const struct channel *channel);

/* False: the stream failed, or there is no memory; errno. */
bool map_draw(const struct map *map, FILE *out);

void map_free(struct map *map);

#endif
