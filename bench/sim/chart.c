/* SPDX-License-Identifier: MIT */
/* Bars in groups, as a picture: linear, or each line ten times the one below. */
#include <math.h>

#include "sim.h"

#define BAR  10
#define LEFT 48
#define TOP  44
#define HIGH 180

static const char *const colours[CHART_SERIES] = { "#bbb", "#e0a458", "#0b6e4f" };

static double height(const struct chart *chart, double value)
{
	double part = chart->decades ? log10(fmax(value, 1)) / chart->decades : value / chart->most;

	return HIGH * fmin(fmax(part, 0), 1);
}

static void group(const struct chart *chart, unsigned g, double width, FILE *file)
{
	double x = LEFT + g * width, high;

	for (unsigned s = 0; s < chart->nseries; s++) {
		high = height(chart, chart->value[g][s]);
		fprintf(file,
			"<rect x=\"%.0f\" y=\"%.1f\" width=\"%d\" height=\"%.1f\" fill=\"%s\">"
			"<title>%s: %.1f</title></rect>\n",
			x + s * BAR, TOP + HIGH - high, BAR - 1, high, colours[s], chart->series[s],
			chart->value[g][s]);
	}
	fprintf(file, "<text x=\"%.0f\" y=\"%d\">%s</text>\n", x, TOP + HIGH + 16, chart->group[g]);
}

static void lines(const struct chart *chart, int width, FILE *file)
{
	unsigned n = chart->decades ? chart->decades : 4;

	for (unsigned i = 0; i <= n; i++) {
		double value = chart->decades ? pow(10, i) : chart->most * i / n;
		double y = TOP + HIGH - height(chart, value);

		fprintf(file,
			"<line x1=\"%d\" x2=\"%d\" y1=\"%.1f\" y2=\"%.1f\" stroke=\"#ccc\"/>"
			"<text x=\"8\" y=\"%.1f\">%.0f</text>\n",
			LEFT - 6, width, y, y, y + 4, value);
	}
}

void chart_write(const struct chart *chart, FILE *file)
{
	double each = fmax(chart->nseries * BAR + 16, 84);
	int width = LEFT + (int)(chart->ngroups * each);

	fprintf(file,
		"<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"%d\" height=\"%d\" "
		"font-family=\"sans-serif\" font-size=\"11\">\n"
		"<rect width=\"100%%\" height=\"100%%\" fill=\"white\"/>\n"
		"<text x=\"%d\" y=\"14\">%s</text>\n",
		width, TOP + HIGH + 26, LEFT, chart->title);
	for (unsigned s = 0; s < chart->nseries; s++)
		fprintf(file,
			"<rect x=\"%u\" y=\"20\" width=\"10\" height=\"10\" fill=\"%s\"/>"
			"<text x=\"%u\" y=\"29\">%s</text>\n",
			LEFT + s * 90, colours[s], LEFT + 14 + s * 90, chart->series[s]);
	lines(chart, width, file);
	for (unsigned g = 0; g < chart->ngroups; g++)
		group(chart, g, each, file);
	fputs("</svg>\n", file);
}
