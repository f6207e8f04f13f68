/* SPDX-License-Identifier: MIT */
/*
 * Drawing what "umm map" saw: time from left to right, addresses from top to bottom.
 *
 * Address space that was never managed takes no room: what was managed at any time is a list of
 * segments, one below the other, and cut into lines of equal length. Where a line is at one time is
 * a class of nine shades, from all in the host to all on devices; what was touched on
 * devices meanwhile is a dot over it. Neighbours of a line that look alike are one rectangle, so
 * the picture is small. Its colours are a style sheet, its numbers a description: programs can
 * read it, too.
 *
 * One picture at a time; no locks.
 */
#include "map_svg.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

enum {
	LEFT = 130,
	TOP = 60,
	RIGHT = 330,
	BOTTOM = 60,
	WIDTH = 720, /* of what is between them */
	LINES_MAX = 240,
	LINE_HEIGHT = 3,
	SHADES = 8, /* d0 is all in the host, d8 all on devices */
	LABEL_HEIGHT = 12,
};

struct segment {
	uint64_t start, end;
	uint64_t before; /* bytes of the segments in front of it */
};

/* Pages of one line at one time. */
struct cell {
	double host, device, lost, empty, touched;
};

struct drawing {
	const struct map *map;
	FILE *out;
	struct segment *segment;
	size_t nsegments;
	uint64_t bytes;
	unsigned nlines;
	struct cell *cell; /* [line * nlooks + look] */
};

/* ---- where addresses are -------------------------------------------------------------- */

static int by_start(const void *a, const void *b)
{
	const struct segment *left = a, *right = b;

	return left->start < right->start ? -1 : left->start > right->start;
}

/* All rows of all looks, sorted, and put together where they touch. */
static bool segments_make(struct drawing *drawing)
{
	const struct map *map = drawing->map;
	struct segment *segment;
	size_t n = 0, kept = 0;

	for (size_t i = 0; i < map->nlooks; i++)
		n += map->look[i].nrows;
	segment = calloc(n ? n : 1, sizeof(*segment));
	if (!segment)
		return false;
	n = 0;
	for (size_t i = 0; i < map->nlooks; i++)
		for (uint32_t j = 0; j < map->look[i].nrows; j++) {
			const struct sheet_row *row = &map->look[i].row[j];

			segment[n++] = (struct segment){ row->start, row->start + row->len, 0 };
		}
	qsort(segment, n, sizeof(*segment), by_start);
	for (size_t i = 0; i < n; i++) {
		if (kept && segment[i].start <= segment[kept - 1].end) {
			if (segment[i].end > segment[kept - 1].end)
				segment[kept - 1].end = segment[i].end;
			continue;
		}
		segment[kept++] = segment[i];
	}
	for (size_t i = 0; i < kept; i++) {
		segment[i].before = drawing->bytes;
		drawing->bytes += segment[i].end - segment[i].start;
	}
	drawing->segment = segment;
	drawing->nsegments = kept;
	return true;
}

/* Where an address is among the bytes of all segments. False: in none. */
static bool place_of(const struct drawing *drawing, uint64_t addr, uint64_t *out)
{
	size_t low = 0, high = drawing->nsegments;

	while (low < high) {
		size_t middle = low + (high - low) / 2;

		if (drawing->segment[middle].end <= addr)
			low = middle + 1;
		else
			high = middle;
	}
	if (low == drawing->nsegments || drawing->segment[low].start > addr)
		return false;
	*out = drawing->segment[low].before + addr - drawing->segment[low].start;
	return true;
}

static double y_of(const struct drawing *drawing, uint64_t place)
{
	return TOP + (double)place * drawing->nlines * LINE_HEIGHT / (double)drawing->bytes;
}

/* ---- cells ---------------------------------------------------------------------------- */

static void cell_add(struct cell *cell, const struct sheet_row *row, double share)
{
	double all = (double)row->len / 4096;

	cell->host += share * row->host;
	cell->device += share * row->device;
	cell->lost += share * row->lost;
	cell->empty += share * (all - row->host - row->device - row->lost);
	cell->touched += share * row->touched;
}

/* A row is spread over the lines that it covers. */
static void row_add(struct drawing *drawing, size_t look, const struct sheet_row *row)
{
	double line_len = (double)drawing->bytes / drawing->nlines, from, to;
	uint64_t place;

	if (!row->len || !place_of(drawing, row->start, &place))
		return;
	from = (double)place / line_len;
	to = ((double)place + (double)row->len) / line_len;
	for (unsigned line = (unsigned)from; line < drawing->nlines && line < to; line++) {
		double first = line > from ? line : from, last = line + 1 < to ? line + 1 : to;

		if (last > first)
			cell_add(&drawing->cell[line * drawing->map->nlooks + look], row,
				 (last - first) / (to - from));
	}
}

static bool cells_make(struct drawing *drawing)
{
	const struct map *map = drawing->map;
	uint64_t blocks = drawing->bytes >> 21;

	drawing->nlines = blocks < 1 ? 1 : blocks > LINES_MAX ? LINES_MAX : (unsigned)blocks;
	drawing->cell = calloc(drawing->nlines * map->nlooks, sizeof(*drawing->cell));
	if (!drawing->cell)
		return false;
	for (size_t i = 0; i < map->nlooks; i++)
		for (uint32_t j = 0; j < map->look[i].nrows; j++)
			row_add(drawing, i, &map->look[i].row[j]);
	return true;
}

/* The class of a cell: d0 to d8, "lost", "empty"; NULL: nothing was there. */
static const char *class_of(const struct cell *cell)
{
	static const char *const shades[SHADES + 1] = { "d0", "d1", "d2", "d3", "d4",
							"d5", "d6", "d7", "d8" };
	double used = cell->host + cell->device;

	if (cell->lost >= 1)
		return "lost";
	if (used < 0.5)
		return cell->empty < 0.5 ? NULL : "empty";
	return shades[(int)(cell->device / used * SHADES + 0.5)];
}

/* ---- drawing -------------------------------------------------------------------------- */

static double x_of(const struct drawing *drawing, size_t look)
{
	return LEFT + (double)look * WIDTH / (double)drawing->map->nlooks;
}

static void text_print(FILE *out, const char *text)
{
	for (; *text; text++) {
		if (strchr("<>&\"", *text))
			fprintf(out, "&#%d;", *text);
		else
			fputc((unsigned char)*text < 0x20 || (unsigned char)*text > 0x7e ? '?' :
											   *text,
			      out);
	}
}

static void style_print(FILE *out)
{
	static const char *const colours[SHADES + 1] = { "#d7301f", "#e4603f", "#f08c66",
							 "#f8bd9d", "#e8d9d5", "#b9d3e6",
							 "#7fb4d6", "#4490c2", "#1764a4" };

	fprintf(out, "<style>\ntext { font: 11px sans-serif; }\n.title { font-size: 15px; }\n"
		     ".empty { fill: #eeeeee; }\n.lost { fill: #000000; }\n"
		     ".touched { fill: #ffd92f; stroke: #806000; stroke-width: 0.3; }\n"
		     ".border { stroke: #606060; stroke-width: 0.5; }\n");
	for (unsigned i = 0; i <= SHADES; i++)
		fprintf(out, ".d%u { fill: %s; }\n", i, colours[i]);
	fprintf(out, "</style>\n");
}

static void line_draw(const struct drawing *drawing, unsigned line)
{
	size_t nlooks = drawing->map->nlooks, next;
	const struct cell *cell = &drawing->cell[line * nlooks];

	for (size_t i = 0; i < nlooks; i = next) {
		const char *class = class_of(&cell[i]);

		for (next = i + 1; next < nlooks && class_of(&cell[next]) == class; next++)
			;
		if (class)
			fprintf(drawing->out,
				"<rect class=\"%s\" x=\"%.1f\" y=\"%u\" width=\"%.1f\" "
				"height=\"%d\"/>\n",
				class, x_of(drawing, i), TOP + line * LINE_HEIGHT,
				x_of(drawing, next) - x_of(drawing, i), LINE_HEIGHT);
	}
}

static void touches_draw(const struct drawing *drawing, unsigned line)
{
	size_t nlooks = drawing->map->nlooks;

	/* What the first look tells was touched before. */
	for (size_t i = 1; i < nlooks; i++) {
		double touched = drawing->cell[line * nlooks + i].touched;

		if (touched >= 0.5)
			fprintf(drawing->out,
				"<circle class=\"touched\" cx=\"%.1f\" cy=\"%.1f\" r=\"%s\"/>\n",
				(x_of(drawing, i) + x_of(drawing, i + 1)) / 2,
				TOP + (line + 0.5) * LINE_HEIGHT,
				touched < 16  ? "0.7" :
				touched < 128 ? "1.1" :
						"1.5");
	}
}

static void segments_draw(const struct drawing *drawing)
{
	double free_y = 0;

	for (size_t i = 0; i < drawing->nsegments; i++) {
		const struct segment *segment = &drawing->segment[i];
		double y = y_of(drawing, segment->before);

		fprintf(drawing->out,
			"<line class=\"border\" x1=\"%d\" y1=\"%.1f\" x2=\"%d\" y2=\"%.1f\"/>\n",
			LEFT - 6, y, LEFT + WIDTH, y);
		if (y < free_y)
			continue;
		fprintf(drawing->out,
			"<text text-anchor=\"end\" x=\"%d\" y=\"%.1f\">%" PRIx64 "<title>%" PRIx64
			" to %" PRIx64 "</title></text>\n",
			LEFT - 10, y + 8, segment->start, segment->start, segment->end);
		free_y = y + LABEL_HEIGHT;
	}
}

/* The newest allocation that has this address; NULL: none is known. */
static const struct map_site *site_of(const struct map *map, uint64_t addr)
{
	for (size_t i = map->nsites; i; i--) {
		const struct map_site *site = &map->site[i - 1];

		if (addr - site->start < site->len)
			return site;
	}
	return NULL;
}

static uint64_t line_addr(const struct drawing *drawing, unsigned line)
{
	uint64_t place = (uint64_t)((line + 0.5) * (double)drawing->bytes / drawing->nlines);
	size_t i;

	for (i = drawing->nsegments - 1; i && drawing->segment[i].before > place; i--)
		;
	return drawing->segment[i].start + place - drawing->segment[i].before;
}

/* Beside the first line of what one site allocated. */
static void sites_draw(const struct drawing *drawing)
{
	const struct map_site *last = NULL;
	unsigned free_line = 0;

	for (unsigned line = 0; line < drawing->nlines; line++) {
		const struct map_site *site = site_of(drawing->map, line_addr(drawing, line));
		bool is_new = site && (!last || strcmp(last->name, site->name) != 0);

		if (is_new && line < free_line)
			continue;
		last = site;
		if (!is_new)
			continue;
		fprintf(drawing->out, "<text class=\"site\" x=\"%d\" y=\"%u\">", LEFT + WIDTH + 8,
			TOP + line * LINE_HEIGHT + 9);
		text_print(drawing->out, site->name);
		fprintf(drawing->out, " (%.1f MiB)</text>\n", (double)site->len / (1 << 20));
		free_line = line + LABEL_HEIGHT / LINE_HEIGHT;
	}
}

static void times_draw(const struct drawing *drawing)
{
	const struct map *map = drawing->map;
	int y = TOP + (int)drawing->nlines * LINE_HEIGHT + 16;
	size_t step = map->nlooks > 8 ? map->nlooks / 8 : 1;

	for (size_t i = 0; i < map->nlooks; i += step)
		fprintf(drawing->out, "<text x=\"%.1f\" y=\"%d\">%.1f s</text>\n", x_of(drawing, i),
			y, (double)(map->look[i].time_ns - map->look[0].time_ns) / 1e9);
}

static void legend_draw(const struct drawing *drawing)
{
	static const struct {
		const char *class, *text;
	} entries[] = { { "d0", "in the host" },	  { "d4", "half and half" },
			{ "d8", "on devices" },		  { "empty", "never touched" },
			{ "lost", "lost with a device" }, { "touched", "touched on a device" } };
	int y = TOP + (int)drawing->nlines * LINE_HEIGHT + 30;

	fprintf(drawing->out, "<g id=\"legend\">\n");
	for (size_t i = 0; i < sizeof(entries) / sizeof(entries[0]); i++) {
		int x = LEFT + 130 * (int)i;

		fprintf(drawing->out,
			"<rect class=\"%s\" x=\"%d\" y=\"%d\" width=\"10\" height=\"10\"/>"
			"<text x=\"%d\" y=\"%d\">%s</text>\n",
			entries[i].class, x, y, x + 14, y + 9, entries[i].text);
	}
	fprintf(drawing->out, "</g>\n");
}

/* For readers that do not look: what was where in the first look, and in the last one. */
static void description_print(const struct drawing *drawing)
{
	const struct map *map = drawing->map;

	fprintf(drawing->out, "<desc>");
	for (unsigned last = 0; last < 2; last++) {
		const struct map_look *look = &map->look[last ? map->nlooks - 1 : 0];
		uint64_t host = 0, device = 0, lost = 0;

		for (uint32_t i = 0; i < look->nrows; i++) {
			host += look->row[i].host;
			device += look->row[i].device;
			lost += look->row[i].lost;
		}
		fprintf(drawing->out, "%s: host %.1f MiB, devices %.1f MiB, lost %.1f MiB\n",
			last ? "last" : "first", (double)host / 256, (double)device / 256,
			(double)lost / 256);
	}
	fprintf(drawing->out, "%s</desc>\n", map->is_cut ? "cut: not all of it is shown\n" : "");
}

static void head_draw(const struct drawing *drawing)
{
	const struct map *map = drawing->map;
	int height = TOP + (int)drawing->nlines * LINE_HEIGHT + BOTTOM;

	fprintf(drawing->out,
		"<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n"
		"<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"%d\" height=\"%d\" "
		"viewBox=\"0 0 %d %d\">\n<title>memory of ",
		LEFT + WIDTH + RIGHT, height, LEFT + WIDTH + RIGHT, height);
	text_print(drawing->out, map->program);
	fprintf(drawing->out, " (%d)</title>\n", (int)map->pid);
	description_print(drawing);
	style_print(drawing->out);
	fprintf(drawing->out,
		"<rect width=\"100%%\" height=\"100%%\" fill=\"white\"/>\n"
		"<text class=\"title\" x=\"%d\" y=\"24\">",
		LEFT);
	text_print(drawing->out, map->program);
	fprintf(drawing->out,
		" (%d): %.1f MiB of address space, host limit %.1f MiB%s</text>\n"
		"<text x=\"%d\" y=\"44\">addresses from top to bottom, time from left to "
		"right</text>\n",
		(int)map->pid, (double)drawing->bytes / (1 << 20),
		(double)map->host_limit / (1 << 20), map->is_cut ? ", not all of it shown" : "",
		LEFT);
}

bool map_draw(const struct map *map, FILE *out)
{
	struct drawing drawing = { .map = map, .out = out };
	bool drawn = segments_make(&drawing) && cells_make(&drawing);

	if (drawn) {
		head_draw(&drawing);
		fprintf(out, "<g id=\"cells\">\n");
		for (unsigned line = 0; line < drawing.nlines; line++)
			line_draw(&drawing, line);
		fprintf(out, "</g>\n<g id=\"touches\">\n");
		for (unsigned line = 0; line < drawing.nlines; line++)
			touches_draw(&drawing, line);
		fprintf(out, "</g>\n");
		if (drawing.nsegments) {
			segments_draw(&drawing);
			sites_draw(&drawing);
		}
		times_draw(&drawing);
		legend_draw(&drawing);
		fprintf(out, "</svg>\n");
	} else {
		errno = ENOMEM;
	}
	free(drawing.segment);
	free(drawing.cell);
	return drawn && !ferror(out);
}
