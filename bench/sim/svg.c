/* SPDX-License-Identifier: MIT */
/*
 * The figures as a picture: for each pattern and share of memory a group of bars, one for each
 * order, as high as its misses over the optimum's, or the bound's. The line at 1 is that.
 */
#include "sim.h"

#define BAR    7
#define GROUP  (BAR * (NR_ORDERS + 1))
#define PANEL  (NR_SHARES * GROUP + 24)
#define LEFT   40
#define TOP    40
#define HIGH   200
#define FACTOR 4.0 /* the highest that is drawn */

/* Told apart however many there are. */
static void colour(unsigned order, FILE *file)
{
	static const char *const colours[] = { "#0b6e4f", "#c1440e", "#e0a458",
					       "#4c78a8", "#8e6bb0", "#7f8c3a" };
	const unsigned n = sizeof(colours) / sizeof(colours[0]);

	if (order < n)
		fputs(colours[order], file);
	else
		fprintf(file, "hsl(%u, 60%%, %u%%)", (order - n) * 137 % 360, 35 + order % 3 * 15);
}

void svg_text(const char *text, FILE *file)
{
	for (; *text; text++)
		switch (*text) {
		case '&':
			fputs("&amp;", file);
			break;
		case '<':
			fputs("&lt;", file);
			break;
		case '>':
			fputs("&gt;", file);
			break;
		default:
			fputc(*text >= ' ' && *text <= '~' ? *text : '?', file);
		}
}

static double height(double factor)
{
	return HIGH * (factor > FACTOR ? FACTOR : factor) / FACTOR;
}

static void bars(const struct sim_result *result, double x, FILE *file)
{
	double factor, high;

	for (unsigned o = 0; o < NR_ORDERS; o++) {
		factor = (double)result[o].misses / (double)result[NR_ORDERS].misses;
		high = height(factor);
		fprintf(file, "<rect x=\"%.0f\" y=\"%.1f\" width=\"%d\" height=\"%.1f\" fill=\"",
			x + o * BAR, TOP + HIGH - high, BAR - 1, high);
		colour(o, file);
		fprintf(file, "\"><title>%s: %.2f</title></rect>\n", orders[o]->name, factor);
	}
}

static void panel(const struct sim_figures *figures, unsigned p, FILE *file)
{
	double x = LEFT + p * PANEL;

	for (unsigned s = 0; s < NR_SHARES; s++) {
		bars(figures->result[p][s], x + s * GROUP, file);
		fprintf(file, "<text x=\"%.0f\" y=\"%d\">%u%%</text>\n", x + s * GROUP + 8,
			TOP + HIGH + 14, sim_shares[s]);
	}
	fprintf(file, "<text x=\"%.0f\" y=\"%d\" font-weight=\"bold\">", x, TOP + HIGH + 30);
	svg_text(figures->name[p], file);
	fputs("</text>\n", file);
}

void svg_write(const struct sim_figures *figures, FILE *file)
{
	int width = LEFT + (int)figures->nrows * PANEL;

	fprintf(file,
		"<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"%d\" height=\"%d\" "
		"font-family=\"sans-serif\" font-size=\"11\">\n"
		"<rect width=\"100%%\" height=\"100%%\" fill=\"white\"/>\n",
		width, TOP + HIGH + 40);
	fprintf(file,
		"<text x=\"%d\" y=\"14\">Misses, in multiples of the optimum's, by pattern and "
		"share of memory (bars end at %.0f)</text>\n",
		LEFT, FACTOR);
	for (unsigned o = 0; o < NR_ORDERS; o++) {
		fprintf(file, "<rect x=\"%u\" y=\"20\" width=\"10\" height=\"10\" fill=\"",
			LEFT + o * 90);
		colour(o, file);
		fprintf(file, "\"/><text x=\"%u\" y=\"29\">%s</text>\n", LEFT + 14 + o * 90,
			orders[o]->name);
	}
	for (unsigned p = 0; p < figures->nrows; p++)
		panel(figures, p, file);
	for (unsigned factor = 1; factor <= (unsigned)FACTOR; factor++)
		fprintf(file,
			"<line x1=\"%d\" x2=\"%d\" y1=\"%.1f\" y2=\"%.1f\" stroke=\"%s\"/>"
			"<text x=\"20\" y=\"%.1f\">%u</text>\n",
			LEFT - 6, width, TOP + HIGH - height(factor), TOP + HIGH - height(factor),
			factor == 1 ? "black" : "#ccc", TOP + HIGH - height(factor) + 4, factor);
	fputs("</svg>\n", file);
}
