/* SPDX-License-Identifier: MIT */
/*
 * What "umm map" keeps of each sheet: its rows, and of the newest one the allocation sites, with
 * their code addresses turned into names of objects and offsets as addr2line(1) takes them.
 *
 * No state, no locks.
 */
#include <stdlib.h>
#include <string.h>

#include "map_svg.h"

/* "program+0x12ab" for a code address; "0x..." where no file is mapped there. */
static void site_name(FILE *maps, uint64_t caller, char *out, size_t out_len)
{
	char line[4096 + 128], *path;
	unsigned long start, end, offset;

	snprintf(out, out_len, "0x%llx", (unsigned long long)caller);
	if (!maps)
		return;
	rewind(maps);
	while (fgets(line, sizeof(line), maps)) {
		if (sscanf(line, "%lx-%lx %*s %lx", &start, &end, &offset) != 3 || caller < start ||
		    caller >= end)
			continue;
		path = strrchr(line, '/');
		if (!path)
			return;
		path[strcspn(path, "\n")] = '\0';
		snprintf(out, out_len, "%.40s+0x%llx", path + 1,
			 (unsigned long long)caller - start + offset);
		return;
	}
}

/* Each site once for each caller in a row: names are looked up in /proc. */
static bool sites_keep(struct map *map, const struct sheet *sheet)
{
	uint32_t n = sheet->nsites < SHEET_SITES ? sheet->nsites : SHEET_SITES;
	uint64_t last_caller = 0;
	char path[64];
	FILE *maps;

	free(map->site);
	map->nsites = 0;
	map->site = calloc(n ? n : 1, sizeof(*map->site));
	if (!map->site)
		return false;
	snprintf(path, sizeof(path), "/proc/%d/maps", (int)map->pid);
	maps = fopen(path, "re");
	for (uint32_t i = 0; i < n; i++) {
		const struct sheet_site *from = &sheet->site[i];
		struct map_site *site = &map->site[map->nsites];

		site->start = from->start;
		site->len = from->len;
		if (from->caller == last_caller)
			memcpy(site->name, site[-1].name, sizeof(site->name));
		else
			site_name(maps, from->caller, site->name, sizeof(site->name));
		last_caller = from->caller;
		map->nsites++;
	}
	if (maps)
		fclose(maps);
	return true;
}

bool map_add(struct map *map, const struct channel *channel)
{
	const struct sheet *sheet = &channel->sheet;
	uint32_t n = sheet->nrows < SHEET_ROWS ? sheet->nrows : SHEET_ROWS;
	struct map_look *looks, *look;

	looks = realloc(map->look, (map->nlooks + 1) * sizeof(*looks));
	if (!looks)
		return false;
	map->look = looks;
	look = &looks[map->nlooks];
	look->row = calloc(n ? n : 1, sizeof(*look->row));
	if (!look->row)
		return false;
	memcpy(look->row, sheet->row, n * sizeof(*look->row));
	look->nrows = n;
	look->time_ns = sheet->time_ns;
	map->nlooks++;
	map->is_cut |= sheet->is_cut;
	map->host_limit = channel->host_limit;
	snprintf(map->program, sizeof(map->program), "%.59s", channel->program);
	return sites_keep(map, sheet);
}

void map_free(struct map *map)
{
	for (size_t i = 0; i < map->nlooks; i++)
		free(map->look[i].row);
	free(map->look);
	free(map->site);
	memset(map, 0, sizeof(*map));
}
