/* SPDX-License-Identifier: MIT */
/*
 * Looks at the home of every page again and again, and draws what it saw as SVG: addresses from
 * top to bottom, time from left to right, the colour says how many pages of a strip of memory
 * were on the device, and whether the CPU had them, too. A second panel shows how full the device
 * was.
 *
 * A look is the state from the one before it until its own time. Strips of a look have a shade:
 * HOME (no page is on the device), one of LEVELS of the colour of the side that has most of those
 * that are (the last level: all of the strip), or BLANK where no page was ever touched. Equal
 * shades next to each other in time become one rectangle.
 */
#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "picture.h"

#define AREAS_MAX 8

#define LEVELS 8

/* The first shade of each colour. */
enum {
	HOME,
	BOTH,
	ALONE = BOTH + LEVELS,
	BLANK = ALONE + LEVELS,
};

/* The layout, in pixels. */
#define WIDTH	     1120
#define MAP_LEFT     170
#define MAP_RIGHT    1090
#define MAP_TOP	     146
#define STRIP_HEIGHT 2
#define MAP_STRIPS   240 /* about so many in all */
#define AREA_STRIPS  6	 /* no area has fewer */
#define AREA_GAP     7
#define AREA_TALL    40 /* there is room for its address */
#define FILL_GAP     44
#define LEVEL_WIDTH  9
#define LEGEND_STEP  185
#define FILL_HEIGHT  90

struct area {
	const char *name;
	uintptr_t start;
	size_t npages;
	unsigned nstrips;
};

/* Pages that the device has: duplicates, which the CPU may read as well, and others. */
struct pages {
	size_t both, alone;
};

struct look {
	double seconds;
	enum picture_what what;
	struct pages pages;
	unsigned char *shade; /* of every strip of every area */
};

struct picture {
	struct umm_ctx *ctx;
	FILE *svg;
	size_t capacity_pages; /* of the device */
	struct area area[AREAS_MAX];
	unsigned nareas;
	unsigned nstrips;
	struct look *looks;
	size_t nlooks;
};

/* ---- looking ---- */

struct picture *picture_create(struct umm_ctx *ctx, uint64_t device_bytes, const char *path)
{
	struct picture *picture = calloc(1, sizeof(*picture));

	if (!picture)
		return NULL;
	picture->svg = fopen(path, "w");
	if (!picture->svg) {
		fprintf(stderr, "wordnet-paths: the picture %s: %s. Give another --picture FILE.\n",
			path, strerror(errno));
		free(picture);
		return NULL;
	}
	picture->ctx = ctx;
	picture->capacity_pages = (size_t)(device_bytes / UMM_PAGE_SIZE);
	return picture;
}

void picture_destroy(struct picture *picture)
{
	if (!picture)
		return;
	while (picture->nlooks)
		free(picture->looks[--picture->nlooks].shade);
	free(picture->looks);
	if (picture->svg)
		fclose(picture->svg);
	free(picture);
}

int picture_area(struct picture *picture, const char *name, const void *base, size_t bytes)
{
	if (picture->nareas == AREAS_MAX || picture->nlooks)
		return -ENOMEM;
	picture->area[picture->nareas++] =
		(struct area){ .name = name,
			       .start = (uintptr_t)base,
			       .npages = (bytes + UMM_PAGE_SIZE - 1) / UMM_PAGE_SIZE };
	return 0;
}

static int by_address(const void *a, const void *b)
{
	const struct area *left = a, *right = b;

	return (left->start > right->start) - (left->start < right->start);
}

/* Share the height of the map among the areas, in the order of their addresses. */
static void lay_out(struct picture *picture)
{
	struct area *area, *end = picture->area + picture->nareas;
	size_t npages = 0;

	qsort(picture->area, picture->nareas, sizeof(*area), by_address);
	for (area = picture->area; area < end; area++)
		npages += area->npages;
	for (area = picture->area; area < end; area++) {
		area->nstrips = (unsigned)(area->npages * MAP_STRIPS / npages);
		if (area->nstrips < AREA_STRIPS)
			area->nstrips = AREA_STRIPS;
		picture->nstrips += area->nstrips;
	}
}

static unsigned char shade_of(const struct umm_page_info *page, size_t npages, struct pages *sum)
{
	struct pages here = { 0 };
	size_t i, touched = 0, level;

	for (i = 0; i < npages; i++) {
		touched += page[i].state != UMM_PAGE_EMPTY;
		here.both += page[i].state == UMM_PAGE_DUPLICATED;
		here.alone += page[i].state == UMM_PAGE_DEVICE;
	}
	sum->both += here.both;
	sum->alone += here.alone;
	if (!touched)
		return BLANK;
	/* Whatever there is must be seen, so round up. */
	level = ((here.both + here.alone) * LEVELS + touched - 1) / touched;
	if (!level)
		return HOME;
	return (unsigned char)((here.alone > here.both ? ALONE : BOTH) + level - 1);
}

static int look_at(struct picture *picture, const struct area *area, struct look *look,
		   unsigned char *shade)
{
	struct umm_page_info *pages = calloc(area->npages, sizeof(*pages));
	struct pages counted;
	size_t first, end;
	unsigned i;
	int ret;

	if (!pages)
		return -ENOMEM;
	ret = umm_query(picture->ctx, area->start, area->npages, pages);
	for (i = 0; i < area->nstrips && !ret; i++) {
		first = i * area->npages / area->nstrips;
		end = (i + 1) * area->npages / area->nstrips;
		counted = (struct pages){ 0 };
		/* Where there are fewer pages than strips, a page shows in several. */
		shade[i] = shade_of(pages + first, end > first ? end - first : 1,
				    end > first ? &look->pages : &counted);
	}
	free(pages);
	return ret;
}

int picture_look(struct picture *picture, double seconds, enum picture_what what)
{
	struct look *looks, *look;
	unsigned char *shade;
	unsigned i;
	int ret = 0;

	if (!picture->nlooks)
		lay_out(picture);
	looks = reallocarray(picture->looks, picture->nlooks + 1, sizeof(*looks));
	if (!looks)
		return -ENOMEM;
	picture->looks = looks;
	look = &looks[picture->nlooks];
	*look = (struct look){ .seconds = seconds, .what = what };
	look->shade = shade = malloc(picture->nstrips);
	if (!shade)
		return -ENOMEM;
	picture->nlooks++;
	for (i = 0; i < picture->nareas && !ret; i++) {
		ret = look_at(picture, &picture->area[i], look, shade);
		shade += picture->area[i].nstrips;
	}
	return ret;
}

/* ---- drawing ---- */

static double end_of_time(const struct picture *picture)
{
	double seconds = picture->looks[picture->nlooks - 1].seconds;

	return seconds > 0 ? seconds : 1;
}

static double x_of(const struct picture *picture, double seconds)
{
	return MAP_LEFT + (MAP_RIGHT - MAP_LEFT) * seconds / end_of_time(picture);
}

static unsigned map_bottom(const struct picture *picture)
{
	return MAP_TOP + picture->nstrips * STRIP_HEIGHT + (picture->nareas - 1) * AREA_GAP;
}

/* From the grey of system memory to the orange of the device's, or to the green of both. */
static void draw_colour(FILE *svg, unsigned shade)
{
	static const int home[3] = { 0xd3, 0xdc, 0xe6 };
	static const int full[2][3] = { { 0x0b, 0x7d, 0x5c }, { 0xe0, 0x4e, 0x0b } };
	const int *to = full[shade >= ALONE];
	int i, level = shade == HOME ? 0 : (int)(shade - (shade < ALONE ? BOTH : ALONE)) + 1;
	/* In per cent; even one page on the device must be told from none. */
	int percent = level ? 25 + 75 * level / LEVELS : 0;

	fputc('#', svg);
	for (i = 0; i < 3; i++)
		fprintf(svg, "%02x", (unsigned)(home[i] + percent * (to[i] - home[i]) / 100));
}

static const char *class_of(unsigned shade)
{
	return shade == BLANK ? "blank" : shade >= ALONE ? "alone" : "both";
}

static void draw_escaped(FILE *svg, const char *text)
{
	for (; *text; text++) {
		if (*text == '<')
			fputs("&lt;", svg);
		else if (*text == '&')
			fputs("&amp;", svg);
		else
			fputc(*text, svg);
	}
}

/* All rectangles of one shade in one strip. */
static void draw_strip(FILE *svg, const struct picture *picture, unsigned strip, unsigned y,
		       unsigned shade)
{
	size_t i = 1, first;
	double left, right;

	while (i < picture->nlooks) {
		if (picture->looks[i].shade[strip] != shade) {
			i++;
			continue;
		}
		for (first = i; i < picture->nlooks && picture->looks[i].shade[strip] == shade; i++)
			;
		left = x_of(picture, picture->looks[first - 1].seconds);
		right = x_of(picture, picture->looks[i - 1].seconds);
		fprintf(svg, "M%.1f %uh%.1fv%dh%.1fz", left, y, right - left, STRIP_HEIGHT,
			left - right);
	}
}

static void draw_map(FILE *svg, const struct picture *picture)
{
	unsigned shade, strip, y, i, j;

	for (shade = BOTH; shade <= BLANK; shade++) {
		fprintf(svg, "<path class=\"%s\" shape-rendering=\"crispEdges\" fill=\"",
			class_of(shade));
		if (shade == BLANK)
			fputs("#ffffff", svg);
		else
			draw_colour(svg, shade);
		fputs("\" d=\"", svg);
		strip = 0;
		y = MAP_TOP;
		for (i = 0; i < picture->nareas; i++, y += AREA_GAP)
			for (j = 0; j < picture->area[i].nstrips; j++, y += STRIP_HEIGHT)
				draw_strip(svg, picture, strip++, y, shade);
		fputs("\"/>\n", svg);
	}
}

/* Name and size of each area, and its background: system memory. */
static void draw_areas(FILE *svg, const struct picture *picture)
{
	const struct area *area;
	unsigned y = MAP_TOP, height, middle;

	for (area = picture->area; area < picture->area + picture->nareas; area++) {
		height = area->nstrips * STRIP_HEIGHT;
		middle = y + height / 2;
		fprintf(svg, "<rect x=\"%d\" y=\"%u\" width=\"%d\" height=\"%u\" fill=\"", MAP_LEFT,
			y, MAP_RIGHT - MAP_LEFT, height);
		draw_colour(svg, HOME);
		fprintf(svg,
			"\"/>\n<text x=\"%d\" y=\"%u\" text-anchor=\"end\">"
			"<tspan font-weight=\"bold\">%s</tspan> %.1f MiB</text>\n",
			MAP_LEFT - 14, middle + 5, area->name,
			(double)area->npages * UMM_PAGE_SIZE / (1 << 20));
		if (height >= AREA_TALL)
			fprintf(svg,
				"<text x=\"%d\" y=\"%u\" text-anchor=\"end\" font-size=\"10\" "
				"fill=\"#667\">from %#lx</text>\n",
				MAP_LEFT - 14, middle + 20, (unsigned long)area->start);
		fprintf(svg, "<path stroke=\"#888\" fill=\"none\" d=\"M%d %uh-4v%uh4\"/>\n",
			MAP_LEFT - 4, y, height);
		y += height + AREA_GAP;
	}
	fprintf(svg,
		"<text transform=\"translate(22 %u) rotate(-90)\" text-anchor=\"middle\">"
		"addresses, from low to high ↓</text>\n",
		(MAP_TOP + map_bottom(picture)) / 2);
}

static bool ever_seen(const struct picture *picture, unsigned first, unsigned nstrips)
{
	size_t i;
	unsigned j;

	for (i = 0; i < picture->nlooks; i++)
		for (j = first; j < first + nstrips; j++)
			if (picture->looks[i].shade[j] != HOME &&
			    picture->looks[i].shade[j] != BLANK)
				return true;
	return false;
}

/* By the counters of its allocation: pages come and go between looks. */
static bool ever_asked_for(const struct picture *picture, const struct area *area)
{
	struct umm_stats stats = { .size = sizeof(stats) };
	uint64_t n;
	unsigned cause;

	if (umm_alloc_stats(picture->ctx, (const void *)area->start, &stats))
		return true;
	n = stats.counter[UMM_COUNT_DUPLICATED];
	for (cause = 0; cause < UMM_NR_CAUSES; cause++)
		n += stats.counter[UMM_COUNT_TO_DEVICE + cause];
	return n;
}

/* Say so where the device never asked for anything of an area, or had it too shortly. */
static void draw_remarks(FILE *svg, const struct picture *picture)
{
	const struct area *area;
	unsigned y = MAP_TOP, strip = 0;

	for (area = picture->area; area < picture->area + picture->nareas; area++) {
		if (!ever_seen(picture, strip, area->nstrips))
			fprintf(svg,
				"<text x=\"%d\" y=\"%u\" text-anchor=\"middle\" fill=\"#556\" "
				"stroke=\"#d3dce6\" stroke-width=\"8\" paint-order=\"stroke\">"
				"%s</text>\n",
				(MAP_LEFT + MAP_RIGHT) / 2,
				y + area->nstrips * STRIP_HEIGHT / 2 + 5,
				ever_asked_for(picture, area) ?
					"the device was here, but never when this was drawn" :
					"the device never followed a pointer to here");
		strip += area->nstrips;
		y += area->nstrips * STRIP_HEIGHT + AREA_GAP;
	}
}

/* A mark above the map, and a line through it, wherever the CPU changed something. */
static void draw_edits(FILE *svg, const struct picture *picture)
{
	size_t i;
	double x;

	for (i = 1; i < picture->nlooks; i++) {
		if (picture->looks[i].what != PICTURE_EDIT)
			continue;
		x = x_of(picture, picture->looks[i].seconds);
		fprintf(svg, "<path fill=\"#1c4e80\" d=\"M%.1f %dl-5 -9h10z\"/>\n", x, MAP_TOP - 2);
		fprintf(svg, "<path stroke=\"#1c4e80\" stroke-width=\"0.8\" d=\"M%.1f %dV%u\"/>\n",
			x, MAP_TOP, map_bottom(picture));
	}
}

/* A round number of seconds that makes at most a dozen ticks. */
static double tick_step(double seconds)
{
	double step = 1e-6;

	while (step * 12 < seconds) {
		if (step * 24 >= seconds)
			return 2 * step;
		if (step * 60 >= seconds)
			return 5 * step;
		step *= 10;
	}
	return step;
}

static void draw_time(FILE *svg, const struct picture *picture, unsigned y)
{
	double end = end_of_time(picture), step = tick_step(end), seconds;
	int i;

	for (i = 0; (seconds = i * step) <= end * 1.0001; i++)
		fprintf(svg,
			"<path stroke=\"#888\" d=\"M%.1f %uv5\"/>"
			"<text x=\"%.1f\" y=\"%u\" text-anchor=\"middle\">%g</text>\n",
			x_of(picture, seconds), y, x_of(picture, seconds), y + 20, seconds);
	fprintf(svg, "<text x=\"%d\" y=\"%u\" text-anchor=\"middle\">time in seconds →</text>\n",
		(MAP_LEFT + MAP_RIGHT) / 2, y + 40);
}

/* One curve of the second panel: the pages on both sides, with or without the others. */
static void draw_curve(FILE *svg, const struct picture *picture, unsigned bottom, bool others)
{
	double per_page = (FILL_HEIGHT - 12.0) / (double)picture->capacity_pages, y;
	const struct look *look;

	fprintf(svg, "<path fill=\"%s\" d=\"M%d %u", others ? "#f0a070" : "#6db39f", MAP_LEFT,
		bottom);
	for (look = picture->looks + 1; look < picture->looks + picture->nlooks; look++) {
		y = bottom -
		    per_page * (double)(look->pages.both + (others ? look->pages.alone : 0));
		fprintf(svg, "L%.1f %.1fL%.1f %.1f", x_of(picture, look[-1].seconds), y,
			x_of(picture, look->seconds), y);
	}
	fprintf(svg, "L%d %uz\"/>\n", MAP_RIGHT, bottom);
}

/* How many pages the device had, and how many it can have. */
static void draw_fill(FILE *svg, const struct picture *picture, unsigned top)
{
	unsigned bottom = top + FILL_HEIGHT;

	fprintf(svg, "<rect x=\"%d\" y=\"%u\" width=\"%d\" height=\"%d\" fill=\"#f4f6f8\"/>\n",
		MAP_LEFT, top, MAP_RIGHT - MAP_LEFT, FILL_HEIGHT);
	draw_curve(svg, picture, bottom, true);
	draw_curve(svg, picture, bottom, false);
	fprintf(svg,
		"<path stroke=\"#222\" stroke-dasharray=\"6 4\" d=\"M%d %uH%d\"/>\n"
		"<text x=\"%d\" y=\"%u\" text-anchor=\"end\">full: %.1f MiB</text>\n"
		"<text x=\"%d\" y=\"%u\" text-anchor=\"end\">"
		"<tspan font-weight=\"bold\">on the device</tspan></text>\n"
		"<text x=\"%d\" y=\"%u\" text-anchor=\"end\">empty</text>\n",
		MAP_LEFT, top + 12, MAP_RIGHT, MAP_LEFT - 14, top + 17,
		(double)picture->capacity_pages * UMM_PAGE_SIZE / (1 << 20), MAP_LEFT - 14,
		top + FILL_HEIGHT / 2 + 10, MAP_LEFT - 14, bottom);
}

/* All levels of one colour, and what they stand for. Returns where the next may begin. */
static unsigned draw_levels(FILE *svg, unsigned x, unsigned first, const char *meaning)
{
	unsigned shade;

	for (shade = first; shade < first + LEVELS; shade++, x += LEVEL_WIDTH) {
		fprintf(svg, "<rect x=\"%u\" y=\"94\" width=\"%d\" height=\"16\" fill=\"", x,
			LEVEL_WIDTH);
		draw_colour(svg, shade);
		fputs("\"/>\n", svg);
	}
	fprintf(svg, "<text x=\"%u\" y=\"107\">%s</text>\n", x + 8, meaning);
	return x + LEGEND_STEP;
}

static void draw_legend(FILE *svg, const char *title, const char *subtitle)
{
	unsigned x = MAP_LEFT;

	fprintf(svg, "<text x=\"%d\" y=\"34\" font-size=\"20\" font-weight=\"bold\">", MAP_LEFT);
	draw_escaped(svg, title);
	fprintf(svg, "</text>\n<text x=\"%d\" y=\"57\">", MAP_LEFT);
	draw_escaped(svg, subtitle);
	fprintf(svg,
		"</text>\n<text x=\"%d\" y=\"76\">Each row is a strip of memory; its colour says "
		"where it was at that moment. The paler, the fewer of its pages.</text>\n"
		"<rect x=\"%u\" y=\"94\" width=\"26\" height=\"16\" fill=\"",
		MAP_LEFT, x);
	draw_colour(svg, HOME);
	fprintf(svg, "\"/>\n<text x=\"%u\" y=\"107\">at home, with the CPU</text>\n", x + 34);
	x = draw_levels(svg, x + LEGEND_STEP + 14, BOTH, "on both sides, to read");
	x = draw_levels(svg, x, ALONE, "on the device alone") + 10;
	fprintf(svg,
		"<path fill=\"#1c4e80\" d=\"M%u 107l-5 -9h10z\"/>\n"
		"<text x=\"%u\" y=\"107\">the CPU changes links</text>\n",
		x, x + 12);
}

int picture_write(struct picture *picture, const char *title, const char *subtitle)
{
	FILE *svg = picture->svg;
	unsigned fill_top, bottom;
	int ret;

	if (picture->nlooks < 2)
		return -EINVAL;
	fill_top = map_bottom(picture) + FILL_GAP;
	bottom = fill_top + FILL_HEIGHT;
	fprintf(svg,
		"<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 %d %u\" width=\"%d\" "
		"height=\"%u\" font-family=\"DejaVu Sans, Verdana, Arial, sans-serif\" "
		"font-size=\"13\" fill=\"#222\">\n"
		"<rect width=\"100%%\" height=\"100%%\" fill=\"#ffffff\"/>\n",
		WIDTH, bottom + 56, WIDTH, bottom + 56);
	draw_legend(svg, title, subtitle);
	draw_areas(svg, picture);
	draw_map(svg, picture);
	draw_edits(svg, picture);
	draw_remarks(svg, picture);
	draw_fill(svg, picture, fill_top);
	draw_time(svg, picture, bottom);
	fputs("</svg>\n", svg);
	ret = ferror(svg) ? -EIO : 0;
	if (fclose(svg) != 0)
		ret = -errno;
	picture->svg = NULL;
	if (ret)
		fprintf(stderr, "wordnet-paths: writing the picture: %s\n", strerror(-ret));
	return ret;
}
